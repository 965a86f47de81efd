// Reading a series from CSV text. Delimiter comma, semicolon or tab (found in the header), quoted fields, CRLF, UTF-8
// with or without BOM; names that are not UTF-8 are read as Windows-1252. The date column is `date`, else `ds,
// timestamp, datetime, time` (capitals ignored), else the first that parses. Missing: empty, NaN, NA, N/A, null.
// Values beyond 1e100 count as infinite. Places are lines and cells from 1.
// What is wrong with cells and dates becomes findings (missing values are NaN in Series::values), so that one reading
// serves `data check` (all of them) and `train` (require_clean). What leaves nothing to read throws Exit::data at once:
// no file, no rows, duplicate names, no date column; Exit::usage: --columns, --drop or --date-column not in the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/data/series.h"

namespace samformer::model {

struct CsvOptions {
  std::vector<std::string> columns = {};  // these channels in this order; empty: all in the file's order
  std::vector<std::string> drop = {};
  std::string date_column = {};  // empty: found
  std::string date_format = {};  // empty: found
  std::string freq = {};         // empty: inferred
  bool no_date = false;
  char delimiter = 0;  // 0: found
  // `predict`: `columns` are a trained model's, so an absent one is the file's fault (exit 3) and not the flags'.
  bool columns_of_model = false;
  // `predict`: missing values are accepted (and stay NaN) before the last so many rows; -1: accepted nowhere.
  std::int64_t missing_allowed_before_last = -1;
};

// The bytes of a file, or of stdin for "-". A missing file or a folder throws Exit::data, an unreadable one Exit::io.
std::string read_bytes(const std::string& path);
// `path` is for messages and Series::name.
Series parse_csv(std::string_view bytes, const std::string& path, const CsvOptions& options);
inline Series read_csv(const std::string& path, const CsvOptions& options) {
  return parse_csv(read_bytes(path), path, options);
}

}  // namespace samformer::model
