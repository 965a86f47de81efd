// Columns of numbers that are no series: they say nothing that the rows' order or their dates do not say.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/data/calendar.h"

namespace samformer::model {

// Whether the values rise by the same amount from row to row, to 1 % of it; of at least eight.
bool rises_evenly(std::span<const double> values);

// What the column is, as in "column 'x' is the date's hour"; empty where it may be a series.
//   a counter: rises evenly, and is the file's first column or has a counter's or a time's name
//   a part of the date, or the date as a number: equal in every row
//   an id: has an id's name, and one value or another one in each row
// `dates` may be empty.
std::string what_no_series_is(std::string_view name, bool first, std::span<const double> values,
                              std::span<const Stamp> dates);

}  // namespace samformer::model
