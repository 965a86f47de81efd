// Prediction intervals from past errors: split conformal prediction (Vovk, Gammerman, Shafer 2005) with locally weighted
// scores (Lei et al., JASA 2018, section 5.2).
//
//   score     s = |y - f| / sigma,   sigma = sqrt(var(look-back) + 0.01^2), of the window and channel, standardised
//   interval  f - q sigma .. f + q sigma,   q = the ceil((n + 1) p)-th smallest of n scores, for a level p below 1
//
// for each target and step alone, over windows that had ended when the forecast was made. Intervals of a higher level
// hold those of a lower one. Cover is at least p where the scores are exchangeable; time series only nearly are, which
// is why the scores are divided by sigma and only the last ones count.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "optim/evaluator.h"

namespace samformer::optim {

// The fewest scores that an interval of level p needs: 4 for 0.8, 19 for 0.95.
std::int64_t windows_for(double level);

// sigma of each window and target, [windows][targets].
std::vector<float> window_scales(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback);

// |y - f| of a window's forecast [targets][H], standardised, and its scores by the window's scales [targets].
std::vector<double> window_errors(const Problem& problem, std::int32_t start, std::int64_t lookback, std::int64_t H,
                                  std::span<const double> forecast);
std::vector<float> scores_of(std::span<const double> errors, std::span<const float> scales);

// The q of these scores, which it puts into another order; infinity where there are fewer than windows_for(level).
double score_quantile(std::span<float> scores, double level);

// The scores of the last `most` windows, of each output in order.
class ConformalScores {
 public:
  ConformalScores(std::size_t outputs, std::size_t most) : outputs_(outputs), most_(most), sorted_(outputs) {}

  // Of a window that has ended, [outputs]; the oldest one leaves where there are more than `most`.
  void add(std::vector<float> scores);
  std::int64_t count() const { return static_cast<std::int64_t>(windows_.size()); }
  // q; infinity where there are fewer than windows_for(level) scores.
  double quantile(std::size_t output, double level) const;

 private:
  std::size_t outputs_, most_;
  std::deque<std::vector<float>> windows_;
  std::vector<std::vector<float>> sorted_;
};

// How good intervals were: sums over windows for each target and step, [targets][H].
//
//   cover    share of y inside
//   width    upper minus lower end
//   Winkler  width + 2/(1-p) (distance of y outside)          (Gneiting & Raftery 2007, eq. 43)
//   WIS      (|y - f| / 2 + sum_p (1-p)/2 Winkler_p) / (K + 1/2), K levels: twice the mean pinball loss of the 2 K + 1
//            quantiles (Bracher et al. 2021)
struct IntervalSums {
  struct Level {
    double level = 0;
    std::vector<double> covered, width, winkler;
  };
  std::int64_t windows = 0, H = 0;
  std::vector<std::uint8_t> left_out;  // as ErrorSums
  std::vector<Level> levels;
  std::vector<double> wis;

  // Of no window yet; `levels` rise.
  static IntervalSums empty(const Problem& problem, std::int64_t H, std::span<const double> levels);

  // Of targets t0 to t1 and steps h0 to h1, as mean_of().
  double mean(const std::vector<double>& sums, std::int64_t t0, std::int64_t t1, std::int64_t h0,
              std::int64_t h1) const {
    return mean_of(sums, windows, H, left_out, t0, t1, h0, h1);
  }
  // A window with these |y - f| [targets][H] and half-widths [levels][targets][H].
  void add(std::span<const double> errors, std::span<const double> halves);
  // Those of further targets, of the same windows.
  void append(const IntervalSums& targets);
  // Those of further windows, whose unit is `units` [targets] of this one's.
  void add(const IntervalSums& windows, std::span<const double> units);
};

// Intervals of one forecast after the other, each from the windows that had ended before it.
class RollingIntervals {
 public:
  // `levels` rise.
  RollingIntervals(const Problem& problem, std::int64_t lookback, std::int64_t H, std::span<const double> levels,
                   std::int64_t most);
  // The forecast [targets][H], standardised, of the window at `start`, which rises from call to call; `scored`: it counts
  // in the sums, unless there are too few scores for the highest level yet.
  void add(std::int32_t start, std::span<const double> forecast, std::span<const float> scales, bool scored);
  // Half-widths of the last window that was to be scored, [levels][targets][H]; infinite where there were too few.
  std::span<const double> halves() const { return halves_; }
  const IntervalSums& sums() const { return sums_; }

 private:
  struct Pending {
    std::int32_t start;
    std::vector<float> scores;
  };
  const Problem& problem_;
  std::int64_t lookback_;
  ConformalScores scores_;
  std::deque<Pending> pending_;  // windows that had not ended
  std::vector<double> halves_;
  IntervalSums sums_;
};

}  // namespace samformer::optim
