// The safetensors format (huggingface/safetensors), what torch's load_file reads and save_file writes:
//
//   u64 little-endian n | n bytes JSON {"__metadata__": {key: text}, name: {dtype, shape, data_offsets: [b, e)}} | data
//
// Offsets count from the data's first byte and tile it without holes or overlaps. Shapes are row-major. The writer
// puts wide types first, then goes by name (every tensor is aligned), and pads the JSON with spaces to 8 bytes.
// The reader believes nothing: a file that breaks a rule is refused before its first tensor is handed out, with
// Error(Exit::data) naming file and tensor, whatever the bytes are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/io/file.h"

namespace samformer::model {

enum class Dtype { f64, i64, f32, i32, u8 };

template <typename T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, double>) return Dtype::f64;
  if constexpr (std::is_same_v<T, std::int64_t>) return Dtype::i64;
  if constexpr (std::is_same_v<T, float>) return Dtype::f32;
  if constexpr (std::is_same_v<T, std::int32_t>) return Dtype::i32;
  if constexpr (std::is_same_v<T, std::uint8_t>) return Dtype::u8;
}

using Metadata = std::map<std::string, std::string, std::less<>>;

// A tensor to write; `data` holds the product of `shape` values and is not copied.
struct TensorSource {
  std::string name;
  Dtype dtype;
  std::vector<std::int64_t> shape;
  const void* data;
};

template <typename T>
TensorSource tensor_source(std::string name, std::vector<std::int64_t> shape, const T* data) {
  return {std::move(name), dtype_of<T>(), std::move(shape), data};
}

// Atomic (core/io/file.h). Duplicate names are Error(Exit::internal).
void write_safetensors(const std::filesystem::path& path, std::span<const TensorSource> tensors,
                       const Metadata& metadata = {});

class Safetensors {
 public:
  struct Tensor {
    Dtype dtype;
    std::vector<std::int64_t> shape;
    Bytes bytes;  // of the mapped file; may be misaligned in files of others
  };

  static Safetensors open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  bool has(std::string_view name) const { return tensors_.contains(name); }
  // Throws where the tensor or the key is missing.
  const Tensor& tensor(std::string_view name) const;
  const Metadata& metadata() const { return metadata_; }
  const std::string& metadata(std::string_view key) const;

  // Copies the tensor out; throws unless its type is T and its shape the expected one.
  template <typename T>
  void read(std::string_view name, std::span<const std::int64_t> shape, std::span<T> out) const {
    copy(name, dtype_of<T>(), shape, std::as_writable_bytes(out));
  }
  template <typename T>
  std::vector<T> read(std::string_view name, std::span<const std::int64_t> shape) const {
    const Tensor& found = expect(name, dtype_of<T>(), shape);
    std::vector<T> values(found.bytes.size() / sizeof(T));
    read<T>(name, shape, values);
    return values;
  }
  template <typename T>
  std::vector<T> read(std::string_view name) const {
    return read<T>(name, tensor(name).shape);
  }

 private:
  explicit Safetensors(MappedFile file) : file_(std::move(file)) {}
  const Tensor& expect(std::string_view name, Dtype dtype, std::span<const std::int64_t> shape) const;
  void copy(std::string_view name, Dtype dtype, std::span<const std::int64_t> shape, std::span<std::byte> out) const;

  MappedFile file_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  Metadata metadata_;
};

}  // namespace samformer::model
