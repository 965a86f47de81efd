// Compressed text: gzip (RFC 1952, several members one after the other) and Zstandard (RFC 8878, several frames),
// known by their first bytes.
//
// Errors: Exit::data for damaged and cut streams, and for text of more than `most` bytes, which is never held as a
// whole: a small file cannot take more memory than that.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace samformer::model {

bool is_compressed(std::string_view bytes);
// `path` is for messages.
std::string inflate(std::string_view bytes, const std::string& path, std::size_t most);

}  // namespace samformer::model
