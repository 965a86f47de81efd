// Mends the text of a series: rows in the order of their dates, one row a time step, none absent, no cell without a
// value. What it does not change stays byte for byte: cells, blanks, quotes, line ends, comments, columns that are no
// channels.
//
//   order     rows are sorted by date, of equal dates the earlier line first
//   repeats   of rows with one date: `first`, `last` or the `mean` of what values they have; rows with the same values
//             are one in any case
//   sentinels cells that read like one of these, or have its number, have no value
//   insert    a row for every step that is absent (Series::holes), its date in the file's own notation
//   fill      linear    between the values around
//             seasonal  mean of the nearest values a whole number of seasons before and after; linear where none is
//             forward   the value before
//             at the ends of a channel the nearest value
//
// A new value has as many decimals as the channel's longest, so that counts stay whole numbers. In an inserted row a
// number of a column that is no channel is linear, a text both neighbours have is repeated, all else is empty.
// Repairing a repaired text changes nothing.
//
// Errors, Exit::data: what the reader refuses and no rule mends; repeated dates with different values without
// `repeats`; a run of absent rows or values longer than `longest`, which is named; a channel without any value;
// decimal commas in a text with commas between cells.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/data/series.h"

namespace samformer::model {

enum class Fill : std::uint8_t { linear, seasonal, forward };
enum class Repeats : std::uint8_t { refuse, first, last, mean };

struct Repair {
  bool insert = true;
  Fill fill = Fill::linear;
  Repeats repeats = Repeats::refuse;
  std::int64_t longest = 0;  // rows or cells; 0: a season, or 1 where the step has none
  std::vector<std::string> sentinels = {};
};

// `line` is the unrepaired text's, of an inserted row that of the row it stands before. Of a whole row `column` is empty.
struct Change {
  std::int64_t line = 0;
  std::string column, before, after;
  std::string rule;  // linear, seasonal, forward, nearest, mean, insert, repeat, order
};

struct Repaired {
  std::string text;
  std::vector<Change> changes;  // by line
  std::int64_t rows = 0;
  bool has_step = false;                                 // without one no row is absent
  std::int64_t inserted = 0, removed = 0, moved = 0;     // rows
  std::int64_t filled = 0, sentinels = 0, averaged = 0;  // cells, not those of inserted rows
  std::int64_t longest = 0;                              // run of a channel's rows and cells that was filled
  std::int64_t differing = 0;                            // removed rows that had other values than the one that stayed
  std::int64_t clock_changes = 0;                        // rows whose offset is another than that of the row before
};

// `path` is for messages.
Repaired repair(std::string_view bytes, const std::string& path, const SeriesOptions& options, const Repair& rules);

// Rows that are absent before `row` (`channel` < 0), or values that are missing from it on.
struct Gap {
  std::int64_t channel = -1;
  std::int64_t row = 0;
  std::int64_t length = 0;
};
// Holes first.
std::vector<Gap> gaps_of(const Series& series);

// The first and the last date of the `absent` rows after `before`, without making those between them.
std::pair<std::string, std::string> ends_of_hole(const Stamp& before, const Step& step, std::int64_t absent,
                                                 const Series& series);

// "samformer data repair sales.csv --decimal comma --out sales-repaired.csv": for a file that was read so.
std::string repair_command(const std::string& path, const SeriesOptions& options);

}  // namespace samformer::model
