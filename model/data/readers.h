// The formats that a series is read from: one row each, chosen by the file's extension. Compressed text is known by
// its first bytes, whatever the file is called. It may have 1 GiB, or 200 times the compressed bytes, at most 64 GiB.
//
// Errors: Exit::data for a missing file or a folder and for compressed data that is damaged, cut or larger; Exit::io
// for an unreadable file; and what the format's reader says.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/data/series.h"

namespace samformer::model {

struct Reader {
  std::string_view extension;  // ".csv", in lower case
  // `path` is for messages and Series::name.
  Series (*read)(std::string_view bytes, const std::string& path, const SeriesOptions& options);
};
// The first one also reads what has another extension or none, and stdin.
std::span<const Reader> readers();

// The bytes of a file, or of stdin for "-".
std::string read_bytes(const std::string& path);
// Bytes that are compressed as text; others as they are.
std::string inflate_bounded(std::string_view bytes, const std::string& path);
Series parse_series(std::string_view bytes, const std::string& path, const SeriesOptions& options);
inline Series read_series(const std::string& path, const SeriesOptions& options) {
  return parse_series(read_bytes(path), path, options);
}

}  // namespace samformer::model
