// Time marks: what the dates say of each row, as the networks after Informer read it (its `timeF` encoding). Each mark
// runs from -0.5 to 0.5; which there are, goes by the step between rows:
//
//   second    second / 59, then those of minute        day, business day   weekday, day of month, day of year
//   minute    minute / 59, then those of hour          week                day of month, (ISO week - 1) / 52
//   hour      hour / 23, weekday / 6 (Monday 0),       month, quarter      (month - 1) / 11
//             (day of month - 1) / 30, (day of year - 1) / 365             year, unknown: none
//
// minus 0.5 each. Source: utils/timefeatures.py of thuml/Autoformer, after GluonTS.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/data/series.h"

namespace samformer::model {

std::int64_t mark_count(const Step& step);
// [marks][dates].
std::vector<double> time_marks(std::span<const Stamp> dates, const Step& step);

// A series as networks read it: the standardised channels, and behind them, as further rows, the marks of its dates.
struct MarkedValues {
  std::vector<float> values;  // [D + marks][rows]
  std::int64_t marks = 0;     // 0 where there are no dates
  std::int64_t rows = 0;
};
// `ahead`: so many rows more, of which the dates alone are known, for forecasts from the last row; channels are 0 there.
MarkedValues marked_values(const Series& series, const Scaler& scaler, std::int64_t ahead = 0);

}  // namespace samformer::model
