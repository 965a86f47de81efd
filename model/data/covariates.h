// What is known ahead of a forecast, as rows of a basis that a linear map reads (kernels/covariates.h): columns of the
// file whose values are known for the horizon too, and the calendar.
//
//   column      piecewise linear between nodes n_0 < ... < n_m, the training rows' least and largest value and `knots`
//               quantiles between them: hat functions 1 .. m, 1 at their node and 0 at the others, the outer ones going
//               on beyond the ends. They span what hinges max(0, x - n_i) span, and are less alike. A column of two
//               values is one feature. Without knots: (x - mean) / deviation, of the training rows
//   hour, dow, month   1 in the row's own hour of the day, weekday, month
//   doy         sine and cosine of one to four turns a year
//   holidays    1 on a holiday, on the day before one, on the day after one; in steps of weeks and more: in the step
//               that has one, the step before, the step after
//
// `--future-for 'item_*=promo_*'`: a column of its own for each channel that the left side matches.
//
// Errors: Exit::usage for names and terms that cannot be, Exit::data for the list of holidays, with its line.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/data/problem.h"
#include "model/data/series.h"

namespace samformer::model {

struct CovariateOptions {
  std::vector<std::string> future;      // columns for all channels
  std::vector<std::string> future_for;  // "item_*=promo_*"
  std::vector<std::string> calendar;    // hour, dow, month, doy, holidays:FILE
  std::int64_t knots = 4;               // 0: linear

  bool any() const { return !future.empty() || !future_for.empty() || !calendar.empty(); }
  // The columns that are known ahead, "promo_*" among them: SeriesOptions::known_ahead.
  std::vector<std::string> columns() const;
};

// Takes those columns out of the series' channels, into Series::known; the rows after the last one with a channel's
// value are known there alone.
void take_known(Series& series, const CovariateOptions& options);

// How the rows of a basis follow from values and dates.
struct Basis {
  struct Column {
    std::string name;
    std::vector<double> nodes;  // fewer than two: linear
    double mean = 0, deviation = 1;

    std::int64_t features() const { return nodes.size() < 2 ? 1 : static_cast<std::int64_t>(nodes.size()) - 1; }
    double feature(std::int64_t f, double x) const;
  };
  std::vector<Column> shared, own;     // of all channels; of each that has one
  std::vector<std::int64_t> own_of;    // [D], the place in `own`; -1: none. Empty where `own` is
  std::vector<std::string> calendar;   // without files
  std::vector<std::int64_t> holidays;  // days since 1970, rising
  std::int64_t own_features = 0;       // of a channel

  std::int64_t shared_features() const;
  std::int64_t features() const { return shared_features() + own_features; }
  std::vector<std::string> names() const;  // of the columns
  // Appends its rows [shared + own D][rows] to a problem's values. `values` [names][rows] of the columns.
  void append(std::vector<float>& to, std::span<const double> values, std::span<const Stamp> dates, std::int64_t rows,
              const Step& step) const;
};

// The nodes by the rows `train` alone.
Basis fit_basis(const CovariateOptions& options, const Series& series, Span train);
// Reads the calendar's terms into a basis: what they are, and the holidays.
void read_calendar(Basis& basis, const std::vector<std::string>& terms, const Series& series);

}  // namespace samformer::model
