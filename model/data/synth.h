// The built-in series, the same file everywhere (values are rounded): `seasonal`, and three that look like common jobs.
//
// seasonal: hourly rows from 2020-01-01 00:00:00.
//
//   x_c(t) = level_c(t) + day_c(t) + week_c(t) + e_c(t)
//   e_c(t) = phi_c e_c(t - 1) + s_c n(t),   n standard normal
//
// level: steps at random hours, on average every 1000 h; day: two harmonics of 24 h; week: one of 168 h. With at least
// 4 channels the last two follow others, g = 0.8:
//
//   x_{D-2}(t) = g x_0(t - 6) + e_{D-2}(t)
//   x_{D-1}(t) = g x_1(t - 24) + e_{D-1}(t)
//
// Noise floor: the expected squared error of a forecaster that knows everything but n(t > now). At step h it is
//
//   s^2 (1 - phi^(2h)) / (1 - phi^2)
//
// plus g^2 times the leader's floor at step h - lag once h > lag.
//
// load: hourly rows of a temperature T (cycles of a year and a day, AR(1) noise) and of sites with size b
//
//   y(t) = b (1 + day(t) - 0.15 weekend(t) + 0.015 max(0, 15 - T(t)) + 0.03 max(0, T(t) - 22)) + e(t)
//
// sales: daily Poisson counts of items, and what is known ahead of them: a promotion column each, and the holidays
//
//   rate(t) = level week(t) year(t) 1.8^promotion(t) 0.3^holiday(t)
//
// 6 of 40 items are never sold; the one before them sells 40 a day from the test part's first row on, before it nothing.
//
// promo: daily values of items with size b, and what is known ahead, as of sales
//
//   y(t) = b (week(t) + 0.6 promotion(t) - 0.5 holiday(t)) + e(t)
//
// monthly: months of regions: a trend, a season of two harmonics, AR(1) noise.
//
// With a zone the hours are those of its clocks: one is absent in spring, one is there twice in autumn.
//
// Floors of these are for a forecaster who also knows the other columns ahead; AR(1) noise has the floor above (without
// leader), a count the variance of its distribution, the mean rate of the test part.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/data/series.h"

namespace samformer::model {

struct SeasonalOptions {
  std::int64_t rows = 6000;
  std::int64_t channels = 7;
  std::uint64_t seed = 1;
};

// Throws Exit::usage for fewer than 1 row or channel, or more than 2^28 values.
Series make_seasonal(const SeasonalOptions& options);
// s_c^2 of every channel: the floor of the one-step squared error, in original units.
std::vector<double> seasonal_innovation_variance(std::int64_t channels);
// Per channel, the floor of the mean squared error over steps 1..horizon, in original units.
std::vector<double> seasonal_noise_floor(std::int64_t channels, std::int64_t horizon);

struct SynthOptions {
  std::int64_t rows = 0, channels = 0;  // 0: as many as the series has; load: sites, sales: items
  std::uint64_t seed = 1;
  // Of load, all before its validation part; whatever is left has the same values as without.
  bool holes = false;         // 37 rows in three holes of 30, 4 and 3 are absent
  bool bad_cells = false;     // 22 cells are empty, one is -9999
  std::string timezone = {};  // empty: no clock is ever changed
};
struct Synthetic {
  Series series;
  std::int64_t horizon = 0;
  // Noise floor by channel in original units, one step ahead and as mean over the horizon; NaN: known ahead.
  std::vector<double> one_step, mean;
  // The mean over channels in the scale of the training part of `ratio`; channels that are constant there are left out.
  double standardised = 0;
};
std::span<const std::string_view> synthetic_names();
// Throws Exit::usage for a name that is none of these, rows or channels out of range and options that the series lacks.
Synthetic make_synthetic(std::string_view name, const SynthOptions& options);

// Header `date,<channels>`, values as shortest round-trip decimals; quotes names that need it.
void write_csv(std::ostream& out, const Series& series);

}  // namespace samformer::model
