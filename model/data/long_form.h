// A file in long form, a row a series and date, made a series: rows are grouped by id and sorted by date, wherever they
// stand in the file. Ids are ordered as numbers where all are whole ones, else by their bytes.
//
//   channels   all series have the same dates: a channel each, what the wide file of the same columns gives
//   global     one channel, the series one behind another (Series::panel), each with its own dates at one step
//
// Findings: a series that has a date twice and steps that differ (refuse); holes and rows off the step (warn).
// Errors: Exit::data, or Exit::usage where flags ask for it, for an id that is not there and for --panel channels of
// series whose dates differ.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/data/series.h"

namespace samformer::model {

struct LongRows {
  std::vector<std::string> ids;                 // distinct, as they come
  std::vector<std::int32_t> of_row;             // index of the row's
  std::int64_t id_column = 0, date_column = 0;  // from 1, for places
};

// Groups the rows of a series of one channel, sets Series::panel. `options.columns` are the ids to keep.
void group_by_id(Series& series, const LongRows& rows, const SeriesOptions& options);
// Sorts each group by date.
void sort_by_date(Series& series, const LongRows& rows);
// One of the two forms; of a global one also step, holes and what is wrong with them.
void settle_form(Series& series, const LongRows& rows, const SeriesOptions& options);

}  // namespace samformer::model
