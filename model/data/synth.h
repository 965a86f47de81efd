// The built-in `seasonal` series: hourly rows from 2020-01-01 00:00:00, rounded to 4 decimals so that it is the same
// file everywhere.
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
#pragma once

#include <cstdint>
#include <iosfwd>
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

// Header `date,<channels>`, values as shortest round-trip decimals; quotes names that need it.
void write_csv(std::ostream& out, const Series& series);

}  // namespace samformer::model
