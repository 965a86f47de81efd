#include "tools/run/events.h"

#include <bit>
#include <cstring>

#include "core/io/file.h"

namespace samformer::tools {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
void raw(std::string& to, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  to.append(bytes, sizeof value);
}

void varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

// Wire types: 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes.
void key(std::string& to, unsigned field, unsigned wire_type) { varint(to, field << 3 | wire_type); }
void field(std::string& to, unsigned number, std::string_view bytes) {
  key(to, number, 2);
  varint(to, bytes.size());
  to += bytes;
}

std::uint32_t masked(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

void record(std::string& to, const std::string& event) {
  std::string length;
  raw(length, std::uint64_t{event.size()});
  to += length;
  raw(to, masked(length));
  to += event;
  raw(to, masked(event));
}

// Event: wall_time = 1, step = 2, file_version = 3, summary = 5.
std::string event_head(double wall_time, std::int64_t step) {
  std::string event;
  key(event, 1, 1);
  raw(event, wall_time);
  key(event, 2, 0);
  varint(event, static_cast<std::uint64_t>(step));
  return event;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

void write_events(const std::filesystem::path& path, std::span<const Scalar> scalars) {
  std::string file, first = event_head(scalars.empty() ? 0 : scalars[0].wall_time, 0);
  field(first, 3, "brain.Event:2");
  record(file, first);
  for (const Scalar& s : scalars) {
    std::string value, summary, event = event_head(s.wall_time, s.step);
    field(value, 1, s.tag);  // Summary.Value: tag = 1, simple_value = 2
    key(value, 2, 5);
    raw(value, s.value);
    field(summary, 1, value);  // Summary: value = 1
    field(event, 5, summary);
    record(file, event);
  }
  write_atomic(path, file);
}

}  // namespace samformer::tools
