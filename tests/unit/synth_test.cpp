#include "model/data/synth.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
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

double variance(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double v : values) sum += v, squares += v * v;
  const auto n = static_cast<double>(values.size());
  return squares / n - sum / n * sum / n;
}

// What is left of a channel where everything that repeats after `season` rows cancels: of AR(1) noise twice its variance.
double noise_variance(std::span<const double> values, std::size_t season) {
  std::vector<double> differences;
  for (std::size_t t = season; t < values.size(); ++t) differences.push_back(values[t] - values[t - season]);
  return variance(differences) / 2;
}

TEST(Synth, Jobs) {
  struct Expected {
    std::string_view name, first, last, step;
    std::int64_t rows, channels;
    double value, standardised;  // of the first channel's last row
  };
  for (const Expected& x :
       {Expected{"seasonal", "2020-01-01 00:00:00", "2020-09-06 23:00:00", "1 hour", 6000, 7, 14.6438, 0.0804},
        Expected{"load", "2023-01-01 00:00:00", "2024-12-31 23:00:00", "1 hour", 17544, 13, -2.41, 0.0294},
        Expected{"sales", "2022-01-01", "2024-12-31", "1 day", 1096, 81, 0, 0.6022},
        Expected{"monthly", "2010-01-01", "2024-12-01", "1 month (start)", 180, 8, 156.71, 0.0307}}) {
    SCOPED_TRACE(x.name);
    const Synthetic made = make_synthetic(x.name, {});
    const Series& series = made.series;
    EXPECT_EQ(series.date(0), x.first);
    EXPECT_EQ(series.date(series.rows - 1), x.last);
    EXPECT_EQ(series.step.name(), x.step);
    EXPECT_EQ(series.rows, x.rows);
    EXPECT_EQ(series.width(), x.channels);
    EXPECT_EQ(series.channel(0).back(), x.value);
    EXPECT_TRUE(std::abs(made.standardised - x.standardised) <= 1e-4) << made.standardised;
    EXPECT_EQ(made.mean.size(), series.channels.size());
    EXPECT_NE(make_synthetic(x.name, {.seed = 2}).series.values, series.values);
    std::ostringstream text;
    write_csv(text, series);
    const Series back = parse_csv(text.str(), "a.csv", {});
    EXPECT_EQ(back.values, series.values);
    EXPECT_EQ(back.dates, series.dates);
    EXPECT_EQ(back.step, series.step);
    const Series small = make_synthetic(x.name, {.rows = 30, .channels = 2}).series;
    EXPECT_EQ(small.rows, 30);
  }
  EXPECT_THROW(make_synthetic("weekly", {}), Error);
  EXPECT_THROW(make_synthetic("sales", {.holes = true}), Error);
  EXPECT_THROW(make_synthetic("load", {.rows = 999, .bad_cells = true}), Error);
  EXPECT_THROW(make_synthetic("load", {.rows = std::int64_t{1} << 40}), Error);
}

TEST(Synth, LoadIsTheDocumentedSumAndItsNoise) {
  const Synthetic made = make_synthetic("load", {.rows = 60000, .channels = 3});
  const auto temperature = made.series.channel(0);
  for (std::int64_t c = 0; c < 3; ++c) {
    const double size = 50 + 25 * static_cast<double>(c);
    std::vector<double> rest(made.series.channel(c + 1).begin(), made.series.channel(c + 1).end());
    for (std::size_t t = 0; t < rest.size(); ++t) {
      rest[t] -= size * (0.015 * std::max(0.0, 15 - temperature[t]) + 0.03 * std::max(0.0, temperature[t] - 22));
    }
    const double expected = made.one_step[static_cast<std::size_t>(c + 1)] / (1 - 0.7 * 0.7);
    EXPECT_TRUE(std::abs(noise_variance(rest, 168) / expected - 1) <= 0.03) << c;
    EXPECT_GT(made.mean[static_cast<std::size_t>(c + 1)], made.one_step[static_cast<std::size_t>(c + 1)]);
    EXPECT_LT(made.mean[static_cast<std::size_t>(c + 1)], expected);
  }
}

TEST(Synth, HolesAndBadCellsLeaveEverythingElse) {
  const Series whole = make_synthetic("load", {}).series;
  const Series holes = make_synthetic("load", {.holes = true}).series;
  const Series spoiled = make_synthetic("load", {.bad_cells = true}).series;
  const Series both = make_synthetic("load", {.holes = true, .bad_cells = true}).series;
  ASSERT_EQ(holes.rows, whole.rows - 37);
  std::vector<std::int64_t> lengths;
  std::int64_t row = 0, empty = 0, sentinels = 0;
  for (std::int64_t t = 0; t < holes.rows; ++t, ++row) {
    const std::int64_t before = row;
    while (whole.dates[static_cast<std::size_t>(row)] != holes.dates[static_cast<std::size_t>(t)]) ++row;
    if (row > before) lengths.push_back(row - before);
    for (std::int64_t c = 0; c < whole.width(); ++c) {
      const double value = whole.channel(c)[static_cast<std::size_t>(row)];
      ASSERT_EQ(holes.channel(c)[static_cast<std::size_t>(t)], value);
      const double cell = both.channel(c)[static_cast<std::size_t>(t)];
      empty += std::isnan(cell);
      sentinels += cell == -9999;
      const bool bad = std::isnan(cell) || cell == -9999;
      ASSERT_TRUE(bad || cell == value);
      ASSERT_TRUE(!bad || static_cast<double>(row) < 0.7 * static_cast<double>(whole.rows));
    }
  }
  EXPECT_EQ(lengths, (std::vector<std::int64_t>{30, 4, 3}));
  EXPECT_EQ(empty, 22);
  EXPECT_EQ(sentinels, 1);
  EXPECT_EQ(spoiled.rows, whole.rows);
  EXPECT_EQ(std::ranges::count_if(spoiled.values, [](double v) { return std::isnan(v); }), 22);
}

TEST(Synth, SalesAreCountsWithWhatIsKnownAhead) {
  const std::int64_t rows = 1096, test = rows - rows / 5;
  const Synthetic made = make_synthetic("sales", {});
  const Series& s = made.series;
  for (const double value : s.values) ASSERT_TRUE(value >= 0 && value == std::floor(value));
  EXPECT_EQ(s.channels[0], "item_1");
  EXPECT_EQ(s.channels[79], "promo_40");
  EXPECT_EQ(s.channels[80], "holiday");
  double holidays = 0;
  for (const double value : s.channel(80)) holidays += value;
  EXPECT_EQ(holidays, 27);
  const auto sum = [&](std::int64_t c, std::int64_t first, std::int64_t last) {
    double total = 0;
    for (std::int64_t t = first; t < last; ++t) total += s.channel(c)[static_cast<std::size_t>(t)];
    return total;
  };
  EXPECT_GT(std::ranges::count(s.channel(0), 0.0), rows / 2);
  for (std::int64_t c = 34; c < 40; ++c) EXPECT_EQ(sum(c, 0, rows), 0);
  EXPECT_EQ(sum(33, 0, test), 0);
  EXPECT_GT(sum(33, test, rows), 30 * static_cast<double>(rows - test));
  for (std::int64_t c = 0; c < 40; ++c) {
    // A count's variance is its rate.
    const double rate = made.one_step[static_cast<std::size_t>(c)], n = static_cast<double>(rows - test);
    EXPECT_TRUE(std::abs(sum(c, test, rows) / n - rate) <= 4 * std::sqrt(rate / n)) << c;
    EXPECT_TRUE(std::isnan(made.mean[static_cast<std::size_t>(40 + c)]));
  }
  // A promotion sells more.
  double with = 0, without = 0, days = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(rows); ++t) {
    const bool promotion = s.channel(40 + 32)[t] > 0;
    (promotion ? with : without) += s.channel(32)[t];
    days += promotion;
  }
  const double factor = with / days / (without / (static_cast<double>(rows) - days));
  EXPECT_TRUE(std::abs(factor - 1.8) <= 0.15) << factor;
}

TEST(Synth, MonthlyIsATrendASeasonAndNoise) {
  const Synthetic made = make_synthetic("monthly", {.rows = 20000});
  for (std::size_t c = 0; c < 8; ++c) {
    const auto x = made.series.channel(static_cast<std::int64_t>(c));
    const double expected = made.one_step[c] / (1 - 0.4 * 0.4);
    EXPECT_TRUE(std::abs(noise_variance(x, 12) / expected - 1) <= 0.05) << c;
    EXPECT_GT(x.back(), 5 * x.front());
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
