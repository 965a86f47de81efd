#include "model/data/synth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/data/csv.h"

namespace samformer::model {
namespace {

TEST(Synth, IsTheDocumentedSeries) {
  const Series series = make_seasonal({});
  EXPECT_EQ(series.rows, 6000);
  EXPECT_EQ(series.width(), 7);
  EXPECT_EQ(series.values.size(), 42000U);
  EXPECT_EQ(series.date(0), "2020-01-01 00:00:00");
  EXPECT_EQ(series.date(5999), "2020-09-06 23:00:00");
  EXPECT_EQ(series.step.season(), 24);
  for (const double value : series.values) {
    ASSERT_TRUE(std::isfinite(value));
    ASSERT_EQ(value, std::round(value * 1e4) / 1e4);
  }
  // The same numbers on every platform: the first rows, to the last digit.
  EXPECT_EQ(series.values[0], 10.417);
  EXPECT_EQ(series.values[5999], 14.6438);
  EXPECT_EQ(series.values[6 * 6000], 12.5114);
}

TEST(Synth, SeedsRowsAndChannels) {
  const Series one = make_seasonal({.rows = 100, .channels = 7, .seed = 1});
  EXPECT_EQ(one.values, make_seasonal({.rows = 100, .channels = 7, .seed = 1}).values);
  EXPECT_NE(one.values, make_seasonal({.rows = 100, .channels = 7, .seed = 2}).values);
  // More rows or channels go on from the same numbers.
  const Series longer = make_seasonal({.rows = 200, .channels = 9, .seed = 1});
  for (std::size_t t = 0; t < 100; ++t) EXPECT_EQ(longer.values[t], one.values[t]);
  for (const std::int64_t channels : {1, 2, 3, 4}) {
    EXPECT_EQ(make_seasonal({.rows = 5, .channels = channels}).width(), channels);
  }
  EXPECT_THROW(make_seasonal({.rows = 0}), Error);
  EXPECT_THROW(make_seasonal({.rows = 10, .channels = 0}), Error);
  EXPECT_THROW(make_seasonal({.rows = std::int64_t{1} << 60}), Error);
  EXPECT_THROW(make_seasonal({.rows = 10, .channels = std::int64_t{1} << 40}), Error);
}

// A follower minus its leader is an AR(1) series: its innovations have the documented variance.
TEST(Synth, FollowersAndTheirNoiseFloor) {
  const std::int64_t rows = 60000;
  const Series series = make_seasonal({.rows = rows, .channels = 7, .seed = 3});
  const std::vector<double> variance = seasonal_innovation_variance(7);
  for (const auto& [follower, leader, lag] : {std::tuple{5, 0, 6}, std::tuple{6, 1, 24}}) {
    std::vector<double> error;
    for (std::int64_t t = lag; t < rows; ++t) {
      error.push_back(series.channel(follower)[static_cast<std::size_t>(t)] -
                      0.8 * series.channel(leader)[static_cast<std::size_t>(t - lag)]);
    }
    double lagged = 0, squares = 0;
    for (std::size_t t = 1; t < error.size(); ++t) {
      lagged += error[t] * error[t - 1];
      squares += error[t - 1] * error[t - 1];
    }
    const double phi = lagged / squares;
    double innovation = 0;
    for (std::size_t t = 1; t < error.size(); ++t) innovation += std::pow(error[t] - phi * error[t - 1], 2);
    innovation /= static_cast<double>(error.size() - 1);
    const double expected = variance[static_cast<std::size_t>(follower)];
    EXPECT_TRUE(std::abs(innovation / expected - 1) <= 0.03) << follower << " " << innovation << " " << expected;

    // The floor at H from the sum of squared impulse responses, here from the measured phi.
    const std::int64_t horizon = 48;
    double floor = 0;
    for (std::int64_t h = 1; h <= horizon; ++h) {
      for (std::int64_t k = 0; k < h; ++k) floor += expected * std::pow(phi, 2 * static_cast<double>(k));
      floor +=
          h > lag
              ? 0.64 *
                    (static_cast<double>(h - lag) * seasonal_noise_floor(7, h - lag)[static_cast<std::size_t>(leader)] -
                     static_cast<double>(h - lag - 1) *
                         (h - lag > 1 ? seasonal_noise_floor(7, h - lag - 1)[static_cast<std::size_t>(leader)] : 0))
              : 0;
    }
    floor /= static_cast<double>(horizon);
    EXPECT_TRUE(std::abs(seasonal_noise_floor(7, horizon)[static_cast<std::size_t>(follower)] / floor - 1) <= 0.03)
        << follower;
  }
}

TEST(Synth, HasDailyAndWeeklyCyclesAndShifts) {
  const Series series = make_seasonal({.rows = 20160, .channels = 7, .seed = 1});
  for (std::int64_t c = 0; c < 5; ++c) {
    const auto x = series.channel(c);
    // Amplitude of a period: projection on its sine and cosine over whole periods.
    const auto amplitude = [&](double period) {
      double s = 0, k = 0;
      for (std::size_t t = 0; t < x.size(); ++t) {
        const double angle = 2 * 3.14159265358979 * static_cast<double>(t) / period;
        s += x[t] * std::sin(angle);
        k += x[t] * std::cos(angle);
      }
      return 2 * std::sqrt(s * s + k * k) / static_cast<double>(x.size());
    };
    EXPECT_TRUE(std::abs(amplitude(24) - (2 + 0.5 * static_cast<double>(c % 4))) <= 0.15) << c;
    EXPECT_TRUE(std::abs(amplitude(168) - (0.8 + 0.2 * static_cast<double>(c % 3))) <= 0.35) << c;
    // Weekly means move with the shifts, more than the noise would move them.
    double least = 1e9, most = -1e9;
    for (std::size_t week = 0; week < x.size() / 168; ++week) {
      double mean = 0;
      for (std::size_t t = 0; t < 168; ++t) mean += x[week * 168 + t] / 168;
      least = std::min(least, mean);
      most = std::max(most, mean);
    }
    EXPECT_GT(most - least, 1.5) << c;
  }
}

TEST(Synth, CsvRoundTrip) {
  const Series series = make_seasonal({.rows = 3000, .channels = 5, .seed = 9});
  std::ostringstream out;
  write_csv(out, series);
  const Series back = parse_csv(out.str(), "seasonal.csv", {});
  EXPECT_EQ(back.values, series.values);
  EXPECT_EQ(back.dates, series.dates);
  EXPECT_EQ(back.channels, series.channels);
  EXPECT_EQ(back.step, series.step);
  EXPECT_TRUE(back.findings.empty());
}

TEST(Synth, CsvKeepsNamesDatesAndEveryDigit) {
  Series series;
  series.rows = 2;
  series.channels = {"a,b", "q\"x", "caf\xC3\xA9"};
  series.values = {0.1, 1e300, 5e-324, -0.0, 1234567.125, std::numeric_limits<double>::quiet_NaN()};
  series.dates = {{0}, {86400}};
  series.date_format.pattern = "%b %d, %Y";
  std::ostringstream out;
  write_csv(out, series);
  EXPECT_EQ(
      out.str(),
      "date,\"a,b\",\"q\"\"x\",caf\xC3\xA9\n\"Jan 01, 1970\",0.1,5e-324,1234567.125\n\"Jan 02, 1970\",1e+300,-0,\n");
  series.dates.clear();
  std::ostringstream plain;
  write_csv(plain, series);
  EXPECT_TRUE(plain.str().starts_with("\"a,b\",\"q\"\"x\""));
}

}  // namespace
}  // namespace samformer::model
