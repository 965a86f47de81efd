// Errors in original units, against numbers that utilsforecast 0.2.17 computes of the same rows.
#include "optim/original_units.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace samformer::optim {
namespace {

constexpr std::int64_t R = 40, L = 4, H = 3, D = 3, train_rows = 24;

double truth(std::int64_t c, std::int64_t t) {
  const auto k = static_cast<double>((t * 37 + c * 11) % 29);
  return c == 0 ? k * 0.5 + 20 : c == 1 ? (k - 14) * 3.25 : t < 30 ? 7 : 7 + k * 0.125;
}
double error(std::int64_t c, std::int64_t start, std::int64_t h) {
  constexpr double size[] = {0.75, 2.5, 0.0625};
  return static_cast<double>((start * 13 + h * 7 + c * 5) % 11 - 4) * size[c];
}

// Three channels, the last of them constant in the training rows; windows that start in rows 20 to 33.
struct Example {
  model::Series series;
  model::Scaler scaler{{20, 1, 7}, {3.5, 27, 1}};
  std::vector<std::int32_t> targets{0, 1, 2}, starts = std::vector<std::int32_t>(14);
  ErrorSums sums{D, H};

  Example() {
    series.rows = R;
    series.channels = {"a", "b", "c"};
    std::iota(starts.begin(), starts.end(), 20);
    sums.windows = 14;
    for (std::int64_t c = 0; c < D; ++c) {
      for (std::int64_t t = 0; t < R; ++t) series.values.push_back(truth(c, t));
      for (const std::int32_t start : starts) {
        for (std::int64_t h = 0; h < H; ++h)
          sums.add(c, h, error(c, start, h) / scaler.std[static_cast<std::size_t>(c)]);
      }
    }
  }
  OriginalUnits units(std::int64_t season, std::int64_t rows = train_rows) const {
    return {series, scaler, targets, starts, L, H, {0, rows}, season};
  }
};

bool near(double a, double b) { return std::fabs(a - b) <= 1e-9 * std::fabs(b); }

TEST(OriginalUnits, AreThoseOfUtilsforecast) {
  const Example x;
  const OriginalUnits units = x.units(6);
  constexpr double wape[] = {0.0796812749003984, 0.29900332225913623, 0.021986075485525832};
  constexpr double mase[] = {0.31746031746031744, 0.16483516483516483},
                   season_1[] = {0.376226826608506, 0.18811341330425302};
  constexpr double rmsse[] = {0.35349072048898045, 0.1851470929940622};
  constexpr double bias[] = {0.75, 2.5595238095238093, 0.06547619047619048};
  for (int c = 0; c < D; ++c) {
    const OriginalErrors of = units.channel(x.sums, c);
    EXPECT_TRUE(near(of.wape, wape[c])) << of.wape;
    EXPECT_TRUE(near(of.bias, bias[c])) << of.bias;
    if (c == 2) continue;
    EXPECT_TRUE(near(of.mase, mase[c])) << of.mase;
    EXPECT_TRUE(near(of.rmsse, rmsse[c])) << of.rmsse;
    EXPECT_TRUE(near(x.units(1).channel(x.sums, c).mase, season_1[c]));
  }
  const OriginalErrors all = units.all(x.sums);
  EXPECT_TRUE(near(all.wape, 0.15925680159256803)) << all.wape;
  EXPECT_TRUE(near(all.mase, (mase[0] + mase[1]) / 2)) << all.mase;
  EXPECT_TRUE(near(all.rmsse, (rmsse[0] + rmsse[1]) / 2)) << all.rmsse;
  EXPECT_TRUE(near(all.bias, (bias[0] + bias[1] + bias[2]) / 3)) << all.bias;
}

TEST(OriginalUnits, WhatDividesByZeroIsLeftOut) {
  Example x;
  EXPECT_TRUE(std::isnan(x.units(6).channel(x.sums, 2).mase));
  EXPECT_TRUE(std::isnan(x.units(6).channel(x.sums, 2).rmsse));
  EXPECT_EQ(x.units(6).scaled_channels(), 2);
  // No two training rows a season apart.
  EXPECT_EQ(x.units(6, 6).scaled_channels(), 0);
  EXPECT_TRUE(std::isnan(x.units(6, 6).all(x.sums).mase));
  std::fill_n(x.series.values.begin(), R, 0.0);
  EXPECT_TRUE(std::isnan(x.units(6).channel(x.sums, 0).wape));
  EXPECT_TRUE(std::isfinite(x.units(6).all(x.sums).wape));
}

TEST(OriginalUnits, ChannelsThatAreLeftOutAndHoles) {
  Example x;
  const OriginalUnits units = x.units(6);
  x.sums.left_out = {0, 1, 0};
  EXPECT_EQ(units.all(x.sums).mase, units.channel(x.sums, 0).mase);
  EXPECT_TRUE(near(units.all(x.sums).bias, (units.channel(x.sums, 0).bias + units.channel(x.sums, 2).bias) / 2));
  // No difference is taken across a hole: rows 6 to 9 and 16 to 23 have one a season before.
  x.series.holes = {{.row = 10}};
  double absolute = 0;
  for (std::int64_t t = 6; t < 24; ++t) {
    if (t < 10 || t >= 16) absolute += std::fabs(truth(0, t) - truth(0, t - 6)) / 12;
  }
  EXPECT_TRUE(near(x.units(6).channel(x.sums, 0).mase, x.sums.channel_mae(0) * 3.5 / absolute));
}

}  // namespace
}  // namespace samformer::optim
