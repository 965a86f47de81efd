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

#include "model/data/covariates.h"
#include "model/data/problem.h"
#include "model/data/series.h"

namespace samformer::model {

std::int64_t mark_count(const Step& step);
std::vector<std::string> mark_names(const Step& step);  // "hour", "weekday", ...
// [marks][dates].
std::vector<double> time_marks(std::span<const Stamp> dates, const Step& step);

// A series as networks read it: the standardised channels, and behind them, as further rows, the marks of its dates
// and the basis of what is known ahead.
struct MarkedValues {
  std::vector<float> values;  // [D + marks + known.rows(D)][rows]
  std::int64_t rows = 0, D = 0;
  std::int64_t marks = 0;  // 0 where there are no dates
  kernels::KnownRows known = {};

  // The rows of a basis: `of_columns` [basis.names()][rows], `dates` [rows], empty where the series has none.
  void add(const Basis& basis, std::span<const double> of_columns, std::span<const Stamp> dates, const Step& step);
  Problem problem(std::span<const std::int32_t> targets, std::span<const std::uint8_t> left_out = {}) const {
    return {values, rows, D, targets, left_out, marks, known};
  }
};
MarkedValues marked_values(const Series& series, const Scaler& scaler);
// What a forecast reads: the rows `known` alone and behind them those it forecasts, whose dates are `ahead` (any where
// the series has none). There the channels are NaN: nothing may read them.
MarkedValues marked_values(const Series& series, const Scaler& scaler, Span known, std::span<const Stamp> ahead);

}  // namespace samformer::model
