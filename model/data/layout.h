// Where the table is in a text: its delimiter, its header, and what stands above it. Judged by the first rows.
//
// Delimiter: the most frequent of comma, semicolon and tab in the first line, if the second line has as many cells;
// else the one that gives most lines the same number of cells. Excel's line `sep=;` says it. Header: the first line
// with as many cells as the rows have; lines above it (comments, titles) belong to no row. Of several such lines (a title, a
// line of units) the one that names a date column. Without such a line, the first one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/data/cells.h"
#include "model/data/series.h"

namespace samformer::model {

using Row = std::vector<std::string>;

struct Layout {
  char delimiter = ',';
  Cells::Mark header;
  std::size_t columns = 0;          // of the header, without unnamed ones at its end that hold nothing
  std::vector<std::int64_t> above;  // lines above the header that are not blank
  std::string first_above;
  std::vector<Row> rows;  // the first rows below the header that hold a date or a number
  // The text has a comma between cells and, as every row shows, in each number but for `single` cells at the start.
  bool decimal_commas = false;
  std::size_t single = 0;
};

// The text of a file without its byte order mark; lines that end in CR alone end in LF, in `mended`, which then holds the
// text of the same length. Errors: Exit::data for what is empty or not text in UTF-8.
std::string_view table_text(std::string_view bytes, const std::string& path, std::string& mended);

Layout find_layout(std::string_view text, const std::string& path, const SeriesOptions& options);

// As dates are written somewhere: two separators of one kind between three numbers, or what parse_stamp reads.
bool looks_like_date(std::string_view text);

}  // namespace samformer::model
