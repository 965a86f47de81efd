// Reading a series from CSV text. Delimiter comma, semicolon or tab (found in the header), quoted fields, CRLF, UTF-8
// with or without BOM; names that are not UTF-8 are read as Windows-1252. The date column is `date`, else `ds,
// timestamp, datetime, time` (capitals ignored), else the first that parses, else digits that rise by a step. Missing: empty, NaN, NA, N/A, null.
// Values beyond 1e100 count as infinite. Names have at most 1024 bytes. Places are lines and cells from 1.
// What is wrong with cells and dates becomes findings (missing values are NaN in Series::values), so that one reading
// serves `data check` (all of them) and `train` (require_clean). What leaves nothing to read throws Exit::data at once:
// no file, no rows, duplicate or longer names, no date column; Exit::usage: --columns, --drop or --date-column
// not in the file.
#pragma once

#include <string>
#include <string_view>

#include "model/data/series.h"

namespace samformer::model {

// `path` is for messages and Series::name.
Series parse_csv(std::string_view bytes, const std::string& path, const SeriesOptions& options);

}  // namespace samformer::model
