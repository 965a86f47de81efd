// Intervals: the rank of the quantile, the windows that had ended, cover on exchangeable data, scores by utilsforecast's
// formulas.
#include "optim/conformal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace samformer::optim {
namespace {

TEST(Conformal, FewestWindows) {
  EXPECT_EQ(windows_for(0.5), 1);
  EXPECT_EQ(windows_for(0.8), 4);
  EXPECT_EQ(windows_for(0.9), 9);
  EXPECT_EQ(windows_for(0.95), 19);
  EXPECT_EQ(windows_for(0.99), 99);
  EXPECT_EQ(windows_for(1e-12), 1);
}

TEST(Conformal, QuantileOfTheLastScores) {
  ConformalScores scores(2, 5);
  EXPECT_EQ(scores.quantile(0, 0.5), INFINITY);
  scores.add({0, 0});
  EXPECT_EQ(scores.quantile(0, 0.5), 0);
  EXPECT_EQ(scores.quantile(0, 0.51), INFINITY);
  EXPECT_EQ(scores.quantile(0, 1e-12), 0);  // the smallest there is
  for (const float s : {9.F, 3.F, 1.F, 4.F, 2.F}) scores.add({s, 10 * s});
  // Of 1 2 3 4 9: ranks ceil(6 p).
  EXPECT_EQ(scores.quantile(0, 0.5), 3);
  EXPECT_EQ(scores.quantile(0, 0.6), 4);
  EXPECT_EQ(scores.quantile(1, 0.8), 90);
  EXPECT_EQ(scores.quantile(0, 0.9), INFINITY);
  scores.add({2, 0});  // 9 leaves
  EXPECT_EQ(scores.quantile(0, 0.8), 4);
  EXPECT_EQ(scores.quantile(0, 0.5), 2);
  EXPECT_EQ(scores.count(), 5);
}

struct Case {
  std::vector<float> values;
  std::vector<std::int32_t> targets;
  Problem problem() const {
    return {values, static_cast<std::int64_t>(values.size() / targets.size()),
            static_cast<std::int64_t>(targets.size()), targets};
  }
};

TEST(Conformal, ScaleIsTheDeviationOfTheLookback) {
  const Case c{{1, 3, 1, 3, 5, 5, 5, 5}, {0, 1}};
  const std::int32_t starts[] = {0, 1};
  const std::vector<float> scales = window_scales(c.problem(), starts, 3);
  ASSERT_EQ(scales.size(), 4u);
  EXPECT_NEAR(scales[0], std::sqrt(8.0 / 9 + 1e-4), 1e-6);
  EXPECT_NEAR(scales[1], 0.01, 1e-7);
}

// A window counts for a forecast when its last step is known, and not a row earlier.
TEST(Conformal, OnlyWindowsThatHadEnded) {
  constexpr std::int64_t L = 2, H = 3;
  Case c{std::vector<float>(40), {0}};
  for (std::size_t t = 0; t < 40; ++t) c.values[t] = static_cast<float>(t * t % 11);
  const Problem problem = c.problem();
  const std::vector<double> levels = {0.5};
  const std::vector<float> one = {1};
  for (std::int32_t last = 5; last < 20; ++last) {
    RollingIntervals all(problem, L, H, levels, 100);
    for (std::int32_t s = 0; s < last; ++s) all.add(s, std::vector<double>(H, 5.0), one, false);
    all.add(last, std::vector<double>(H, 5.0), one, true);
    ConformalScores expected(H, 100);
    for (std::int32_t s = 0; s + L + H <= last + L; ++s) {
      std::vector<float> scores;
      for (int h = 0; h < H; ++h) scores.push_back(std::abs(c.values[static_cast<std::size_t>(s + L + h)] - 5));
      expected.add(scores);
    }
    ASSERT_EQ(all.sums().windows, 1);
    for (std::size_t h = 0; h < H; ++h) EXPECT_EQ(all.sums().levels[0].width[h], 2 * expected.quantile(h, 0.5)) << last;
  }
}

// Cover, width and Winkler score, and WIS as twice the mean pinball loss of its five quantiles.
TEST(Conformal, ScoresOfIntervals) {
  constexpr std::int64_t L = 1, H = 1;
  Case c{std::vector<float>(31), {0}};
  // Scores 1 .. 20 to begin with: half-width 11 of 21 ranks at 0.5 is 11, at 0.8 17.
  for (int t = 0; t < 20; ++t) c.values[static_cast<std::size_t>(1 + t)] = static_cast<float>(t + 1);
  for (int t = 0; t < 10; ++t) c.values[static_cast<std::size_t>(21 + t)] = static_cast<float>(4 * t);
  const Problem problem = c.problem();
  const std::vector<double> levels = {0.5, 0.8}, forecast = {0};
  const std::vector<float> one = {1};
  double covered = 0, width = 0, winkler = 0, pinball = 0;
  RollingIntervals rolling(problem, L, H, levels, 20);
  ConformalScores known(1, 20);
  for (std::int32_t s = 0; s < 30; ++s) {
    const bool scored = s >= 20;
    const double y = static_cast<double>(c.values[static_cast<std::size_t>(s + 1)]);
    if (scored) {
      const double half = known.quantile(0, 0.8), inner = known.quantile(0, 0.5);
      covered += y >= -half && y <= half ? 1 : 0;
      width += 2 * half;
      winkler += 2 * half + (y < -half ? (2 / 0.2) * (-half - y) : 0) + (y > half ? (2 / 0.2) * (y - half) : 0);
      for (const auto& [tau, q] : {std::pair(0.1, -half), {0.25, -inner}, {0.5, 0.0}, {0.75, inner}, {0.9, half}}) {
        pinball += std::max(tau * (y - q), (tau - 1) * (y - q));
      }
    }
    rolling.add(s, forecast, one, scored);
    known.add({static_cast<float>(std::abs(y))});
  }
  const IntervalSums& sums = rolling.sums();
  ASSERT_EQ(sums.windows, 10);
  EXPECT_EQ(sums.levels[1].covered[0], covered);
  EXPECT_GT(covered, 0);
  EXPECT_LT(covered, 10);
  EXPECT_NEAR(sums.levels[1].width[0], width, 1e-9);
  EXPECT_NEAR(sums.levels[1].winkler[0], winkler, 1e-9);
  EXPECT_NEAR(sums.wis[0], 2 * pinball / 5, 1e-9);
}

// Exchangeable scores: cover is p to sampling error; a scale that comes and goes does not change it.
TEST(Conformal, CoverOfNoise) {
  constexpr std::int64_t L = 24, H = 4, rows = 6000;
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  Case c{std::vector<float>(2 * rows), {0, 1}};
  for (std::size_t t = 0; t < rows; ++t) {
    c.values[t] = normal(random);
    c.values[rows + t] = normal(random) * (t / 1500 % 2 == 0 ? 1.F : 5.F);
  }
  const Problem problem = c.problem();
  const std::vector<double> levels = {0.8, 0.95};
  RollingIntervals rolling(problem, L, H, levels, 1440);
  const std::vector<double> forecast(2 * H);
  for (std::int32_t s = 0; s + L + H <= rows; ++s) {
    const std::int32_t start[] = {s};
    rolling.add(s, forecast, window_scales(problem, start, L), s > 1000);
  }
  const auto n = static_cast<double>(rolling.sums().windows);
  for (std::size_t k = 0; k < 2; ++k) {
    for (std::size_t i = 0; i < 2 * H; ++i) {
      EXPECT_NEAR(rolling.sums().levels[k].covered[i] / n, levels[k], i < H ? 0.015 : 0.03) << k << " " << i;
    }
  }
}

}  // namespace
}  // namespace samformer::optim
