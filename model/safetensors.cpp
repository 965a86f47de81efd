#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "core/text.h"

namespace samformer::model {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied to and from little-endian files");

struct DtypeInfo {
  std::string_view name;
  std::uint64_t size;
};
constexpr std::array<DtypeInfo, 5> dtypes{{{"F64", 8}, {"I64", 8}, {"F32", 4}, {"I32", 4}, {"U8", 1}}};
constexpr std::uint64_t max_header_bytes = 100'000'000;  // the limit of the official reader
constexpr std::size_t max_dimensions = 8;

const DtypeInfo& info(Dtype dtype) { return dtypes[static_cast<std::size_t>(dtype)]; }

std::string quoted_name(std::string_view name) { return fmt::format("'{}'", shown(name, 100)); }

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text;
  for (const std::int64_t size : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", size);
  return "[" + text + "]";
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& problem) {
  throw Error(Exit::data, problem)
      .at(path.string())
      .hint("the file is damaged or no safetensors file: copy it again, or restore it from a backup");
}

// Bytes of a tensor, or nothing where that number does not fit.
std::optional<std::uint64_t> bytes_of_shape(Dtype dtype, std::span<const std::int64_t> shape) {
  std::uint64_t bytes = info(dtype).size;
  for (const std::int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) return std::nullopt;
  return bytes;
}

// One entry of the header, before its offsets are checked against the file.
struct Entry {
  std::optional<Dtype> dtype;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::vector<std::int64_t>> offsets;
};

// Reads the header event by event. Only the expected structure gets past it: anything nested deeper, of another type or
// named twice stops the parse with `problem` set, so no input makes it recurse or build what is not needed.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::map<std::string, Entry, std::less<>> entries;
  Metadata metadata;
  std::string problem;

  bool key(std::string& text) override {
    if (level_ == 1) {
      name_ = text;
      in_metadata_ = text == "__metadata__";
      if (in_metadata_ ? std::exchange(saw_metadata_, true) : !entries.try_emplace(text).second)
        return stop(fmt::format("{} occurs twice in the header", quoted_name(text)));
    } else {
      key_ = text;
      if (in_metadata_) {
        if (!metadata.try_emplace(text).second) return stop(fmt::format("metadata {} occurs twice", quoted_name(text)));
      } else if (text != "dtype" && text != "shape" && text != "data_offsets") {
        return stop(fmt::format("tensor {} has the unknown key {}", quoted_name(name_), quoted_name(text)));
      }
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (level_ == 2 || list_) return unexpected("an object");
    ++level_;
    return true;
  }
  bool end_object() override {
    if (level_-- == 2 && !in_metadata_) {
      const Entry& entry = entries.find(name_)->second;
      if (!entry.dtype || !entry.shape || !entry.offsets)
        return stop(fmt::format("tensor {} lacks dtype, shape or data_offsets", quoted_name(name_)));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != 2 || in_metadata_ || list_ || key_ == "dtype") return unexpected("a list");
    Entry& entry = entries.find(name_)->second;
    std::optional<std::vector<std::int64_t>>& target = key_ == "shape" ? entry.shape : entry.offsets;
    if (target) return stop(fmt::format("tensor {}: {} occurs twice", quoted_name(name_), key_));
    list_ = &target.emplace();
    return true;
  }
  bool end_array() override {
    list_ = nullptr;
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (!list_) return unexpected("a number");
    const std::size_t limit = key_ == "shape" ? max_dimensions : 2;
    if (list_->size() == limit)
      return stop(fmt::format("tensor {}: {} has more than {} numbers", quoted_name(name_), key_, limit));
    if (value > static_cast<std::uint64_t>(INT64_MAX))
      return stop(fmt::format("tensor {}: {} holds {}, which is too large", quoted_name(name_), key_, value));
    list_->push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(std::string& text) override {
    if (level_ == 2 && in_metadata_) {
      metadata.find(key_)->second = std::move(text);
      return true;
    }
    if (level_ != 2 || list_ || key_ != "dtype") return unexpected("a text");
    Entry& entry = entries.find(name_)->second;
    if (entry.dtype) return stop(fmt::format("tensor {}: dtype occurs twice", quoted_name(name_)));
    const auto found = std::find_if(dtypes.begin(), dtypes.end(), [&](const DtypeInfo& d) { return d.name == text; });
    if (found == dtypes.end())
      return stop(fmt::format("tensor {} has the type {}; F64, I64, F32, I32 or U8 were expected", quoted_name(name_),
                              quoted_name(text)));
    entry.dtype = static_cast<Dtype>(found - dtypes.begin());
    return true;
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(std::int64_t value) override { return unexpected(fmt::format("the number {}", value)); }
  bool number_float(double, const std::string& text) override { return unexpected(fmt::format("the number {}", text)); }
  bool binary(nlohmann::json::binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    return stop(fmt::format("the header is not valid UTF-8 JSON (byte {} of it)", position));
  }

 private:
  bool stop(std::string text) {
    problem = std::move(text);
    return false;
  }
  bool unexpected(std::string_view what) {
    if (level_ == 0) return stop(fmt::format("the header is {}, an object was expected", what));
    return stop(fmt::format("{} {} holds {} where a tensor's description or a metadata text was expected",
                            in_metadata_ ? "metadata" : "tensor",
                            quoted_name(level_ == 1 || !in_metadata_ ? name_ : key_), quoted_name(what)));
  }

  int level_ = 0;  // objects that are open
  bool in_metadata_ = false, saw_metadata_ = false;
  std::string name_, key_;
  std::vector<std::int64_t>* list_ = nullptr;
};

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const TensorSource> tensors,
                       const Metadata& metadata) {
  std::vector<const TensorSource*> order;
  for (const TensorSource& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    const std::uint64_t size_a = info(a->dtype).size, size_b = info(b->dtype).size;
    return size_a != size_b ? size_a > size_b : a->name < b->name;
  });

  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<Bytes> parts(2);
  std::uint64_t begin = 0;
  for (const TensorSource* tensor : order) {
    const std::optional<std::uint64_t> bytes = bytes_of_shape(tensor->dtype, tensor->shape);
    SAMFORMER_CHECK(bytes && tensor->shape.size() <= max_dimensions, "safetensors: {} has the shape {}",
                    quoted_name(tensor->name), shape_text(tensor->shape));
    SAMFORMER_CHECK(tensor->name != "__metadata__" && !header.contains(tensor->name),
                    "safetensors: two tensors are named {}", quoted_name(tensor->name));
    header[tensor->name] = {
        {"dtype", info(tensor->dtype).name}, {"shape", tensor->shape}, {"data_offsets", {begin, begin + *bytes}}};
    begin += *bytes;
    parts.emplace_back(static_cast<const std::byte*>(tensor->data), static_cast<std::size_t>(*bytes));
  }
  // Metadata may hold a path that is no UTF-8: it must not cost a checkpoint.
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  SAMFORMER_CHECK(text.size() <= max_header_bytes, "safetensors: a header of {} bytes", text.size());
  const std::uint64_t length = text.size();
  parts[0] = std::as_bytes(std::span(&length, 1));
  parts[1] = bytes_of(text);
  write_atomic(path, parts);
}

Safetensors Safetensors::open(const std::filesystem::path& path) {
  Safetensors file{MappedFile(path)};
  const Bytes all = file.file_.bytes();
  std::uint64_t length = 0;
  if (all.size() < sizeof(length))
    refuse(path, fmt::format("the file has {} bytes, at least 8 were expected", all.size()));
  std::memcpy(&length, all.data(), sizeof(length));
  if (length > max_header_bytes)
    refuse(path, fmt::format("a header of {} bytes is announced, at most {} are allowed", length, max_header_bytes));
  if (length > all.size() - sizeof(length))
    refuse(path, fmt::format("the file ends inside its header: {} bytes of header are announced, {} are there", length,
                             all.size() - sizeof(length)));
  const std::string_view header = file.file_.text().substr(sizeof(length), length);
  const Bytes data = all.subspan(sizeof(length) + length);
  // The format wants this very byte; the JSON parser would accept white space or a byte-order mark before it.
  if (!header.starts_with('{')) refuse(path, "the header does not start with '{'");

  // It would also take a zero byte for the end, and not look at what follows.
  if (header.find('\0') != header.npos) refuse(path, "the header holds a zero byte");

  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header, &reader)) refuse(path, reader.problem);
  file.metadata_ = std::move(reader.metadata);

  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  std::vector<const std::string*> names;
  for (const auto& [name, entry] : reader.entries) {
    if (entry.offsets->size() != 2)
      refuse(path, fmt::format("tensor {}: data_offsets has {} numbers, 2 were expected", quoted_name(name),
                               entry.offsets->size()));
    const auto begin = static_cast<std::uint64_t>((*entry.offsets)[0]);
    const auto end = static_cast<std::uint64_t>((*entry.offsets)[1]);
    if (begin > end || end > data.size())
      refuse(path,
             fmt::format("tensor {}: its data are bytes {} to {} of {}", quoted_name(name), begin, end, data.size()));
    const std::optional<std::uint64_t> bytes = bytes_of_shape(*entry.dtype, *entry.shape);
    if (!bytes || *bytes != end - begin)
      refuse(path, fmt::format("tensor {}: {} of shape {} does not have {} bytes", quoted_name(name),
                               info(*entry.dtype).name, shape_text(*entry.shape), end - begin));
    ranges.emplace_back(begin, end);
    names.push_back(&name);
    file.tensors_.emplace(name, Tensor{*entry.dtype, *entry.shape, data.subspan(begin, end - begin)});
  }

  std::vector<std::size_t> order(ranges.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return ranges[a] < ranges[b]; });
  std::uint64_t covered = 0;
  for (const std::size_t i : order) {
    if (ranges[i].first != covered)
      refuse(path,
             fmt::format("tensor {} starts at byte {} of the data, {} was expected: tensors {}", quoted_name(*names[i]),
                         ranges[i].first, covered, ranges[i].first < covered ? "overlap" : "leave a hole"));
    covered = ranges[i].second;
  }
  if (covered != data.size()) refuse(path, fmt::format("{} bytes follow the last tensor", data.size() - covered));
  return file;
}

std::vector<std::string> Safetensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

const Safetensors::Tensor& Safetensors::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    throw Error(Exit::data,
                fmt::format("the tensor {} is missing ({} others are there)", quoted_name(name), tensors_.size()))
        .at(path().string())
        .hint("is this the weights file of another model?");
  return found->second;
}

const std::string& Safetensors::metadata(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end())
    throw Error(Exit::data, fmt::format("the metadata {} are missing", quoted_name(key)))
        .at(path().string())
        .hint("only files that samformer wrote have them");
  return found->second;
}

const Safetensors::Tensor& Safetensors::expect(std::string_view name, Dtype dtype,
                                               std::span<const std::int64_t> shape) const {
  const Tensor& found = tensor(name);
  if (found.dtype != dtype || !std::equal(shape.begin(), shape.end(), found.shape.begin(), found.shape.end()))
    throw Error(Exit::data,
                fmt::format("tensor {}: {} {} was expected, {} {} was found", quoted_name(name), info(dtype).name,
                            shape_text(shape), info(found.dtype).name, shape_text(found.shape)))
        .at(path().string())
        .hint("was the file written for another model, look-back, horizon or number of channels?");
  return found;
}

void Safetensors::copy(std::string_view name, Dtype dtype, std::span<const std::int64_t> shape,
                       std::span<std::byte> out) const {
  const Tensor& found = expect(name, dtype, shape);
  SAMFORMER_CHECK(out.size() == found.bytes.size(), "safetensors: {} has {} bytes, room for {}", quoted_name(name),
                  found.bytes.size(), out.size());
  // memcpy with a null pointer is undefined even for no bytes.
  if (!out.empty()) std::memcpy(out.data(), found.bytes.data(), out.size());
}

}  // namespace samformer::model
