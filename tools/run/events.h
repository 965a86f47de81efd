// TensorBoard event files, scalars only: records of TFRecord (length, masked CRC-32C of it, data, masked CRC-32C of
// it), each an `Event` message in protobuf's wire format (tensorflow/core/util/event.proto, framework/summary.proto).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace samformer::tools {

// Castagnoli's CRC (polynomial 0x1EDC6F41, reflected).
std::uint32_t crc32c(std::string_view bytes);

struct Scalar {
  std::string tag;  // "loss/train"
  std::int64_t step;
  double wall_time;  // seconds since 1970
  float value;
};

// Replaces the file; `scalars` in the order they were measured.
void write_events(const std::filesystem::path& path, std::span<const Scalar> scalars);

}  // namespace samformer::tools
