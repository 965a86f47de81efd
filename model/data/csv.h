// Reading a series from CSV text: UTF-8 with or without BOM, quoted fields, lines that end in LF, CRLF or CR; names
// that are not UTF-8 are read as Windows-1252 and have at most 1024 bytes. Places are lines and cells from 1.
//
// The table: layout.h finds the delimiter and the header. A row that has a date is a time step. Skipped with a finding
// is what cannot be one: rows of empty cells, without dates only at the end; rows without a date and a number (units,
// notes, a header again, `#`), without dates only below the header and at the end; at the end rows with a word for a
// date (a total). Empty cells beyond the header's are ignored.
// The date column: `date`, else `ds, timestamp, datetime, datum, fecha, time` (capitals ignored), else the first that
// parses; with a time of day beside it, or an hour where rows share a date. Else year, month, and what there is of day,
// hour and minute, by their English, German, French and Spanish names. Else digits that rise by a step (date_format.h).
// Numbers: numbers.h. With --decimal comma in a comma-separated file each number may be two cells.
// Columns that are no series (columns.h) are left out with a finding where `columns` is empty.
// Long form (long_form.h), a row a series and date: the id is --id, else `unique_id, item_id, id, series` (capitals
// ignored) where its rows tell series apart: ids of text, or dates of which a quarter come again. The values are
// --value-column, else `y, value, target, sales, ...`, else the only column of numbers; other columns are not read.
//
// What is wrong with cells and dates becomes findings (missing values are NaN in Series::values), so that one reading
// serves `data check` (all of them) and `train` (require_clean). What leaves nothing to read throws Exit::data at once:
// no file, no rows, duplicate or longer names, no date column, a long form whose id has another name (several series
// below each other with the same dates) or whose values may be in several columns, a transposed table; Exit::usage:
// --columns, --drop, --date-column, --id or --value-column not in the file.
#pragma once

#include <string>
#include <string_view>

#include "model/data/series.h"

namespace samformer::model {

// `path` is for messages and Series::name.
Series parse_csv(std::string_view bytes, const std::string& path, const SeriesOptions& options);

}  // namespace samformer::model
