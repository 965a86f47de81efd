#include "optim/conformal.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace samformer::optim {
namespace {

// Rounded up, at least 1. 99 scores at level 0.95 need the 95th, although 100 * 0.95 is a little more than 95 in binary.
std::int64_t whole(double x) { return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(x - 1e-9))); }

// Of q among n scores, from 1 on.
std::int64_t rank(std::int64_t n, double level) { return whole(static_cast<double>(n + 1) * level); }

}  // namespace

std::int64_t windows_for(double level) {
  SAMFORMER_CHECK(level > 0 && level < 1, "level {}", level);
  return whole(level / (1 - level));
}

std::vector<float> window_scales(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback) {
  constexpr double least = 0.01;
  std::vector<float> scales;
  scales.reserve(starts.size() * problem.targets.size());
  for (const std::int32_t start : starts) {
    for (const std::int32_t d : problem.targets) {
      const float* const x = problem.values.data() + d * problem.rows + start;
      double sum = 0, squares = 0;
      for (std::int64_t t = 0; t < lookback; ++t) sum += static_cast<double>(x[t]);
      const double mean = sum / static_cast<double>(lookback);
      for (std::int64_t t = 0; t < lookback; ++t) {
        const double off = static_cast<double>(x[t]) - mean;
        squares += off * off;
      }
      scales.push_back(static_cast<float>(std::sqrt(squares / static_cast<double>(lookback) + least * least)));
    }
  }
  return scales;
}

std::vector<double> window_errors(const Problem& problem, std::int32_t start, std::int64_t lookback, std::int64_t H,
                                  std::span<const double> forecast) {
  std::vector<double> errors;
  errors.reserve(forecast.size());
  for (const std::int32_t d : problem.targets) {
    const float* const truth = problem.values.data() + d * problem.rows + start + lookback;
    for (std::int64_t h = 0; h < H; ++h) {
      errors.push_back(std::abs(static_cast<double>(truth[h]) - forecast[errors.size()]));
    }
  }
  return errors;
}

std::vector<float> scores_of(std::span<const double> errors, std::span<const float> scales) {
  const std::size_t H = errors.size() / scales.size();
  std::vector<float> scores;
  scores.reserve(errors.size());
  for (const double error : errors) {
    scores.push_back(static_cast<float>(error / static_cast<double>(scales[scores.size() / H])));
  }
  return scores;
}

void ConformalScores::add(std::vector<float> scores) {
  SAMFORMER_CHECK(scores.size() == outputs_, "{} scores, expected {}", scores.size(), outputs_);
  for (std::size_t i = 0; i < outputs_; ++i) {
    std::vector<float>& sorted = sorted_[i];
    if (windows_.size() == most_) sorted.erase(std::ranges::lower_bound(sorted, windows_.front()[i]));
    sorted.insert(std::ranges::upper_bound(sorted, scores[i]), scores[i]);
  }
  if (windows_.size() == most_) windows_.pop_front();
  windows_.push_back(std::move(scores));
}

double ConformalScores::quantile(std::size_t output, double level) const {
  const std::int64_t at = rank(count(), level);
  return at > count() ? std::numeric_limits<double>::infinity()
                      : static_cast<double>(sorted_[output][static_cast<std::size_t>(at - 1)]);
}

double score_quantile(std::span<float> scores, double level) {
  const std::int64_t at = rank(std::ssize(scores), level);
  if (at > std::ssize(scores)) return std::numeric_limits<double>::infinity();
  const auto here = scores.begin() + (at - 1);
  std::ranges::nth_element(scores, here);
  return static_cast<double>(*here);
}

IntervalSums IntervalSums::empty(const Problem& problem, std::int64_t H, std::span<const double> levels) {
  const std::vector<double> zeros(problem.targets.size() * static_cast<std::size_t>(H));
  IntervalSums sums;
  for (const double level : levels) sums.levels.push_back({level, zeros, zeros, zeros});
  sums.wis = zeros;
  sums.H = H;
  sums.left_out.assign(problem.left_out.begin(), problem.left_out.end());
  return sums;
}

void IntervalSums::add(std::span<const double> errors, std::span<const double> halves) {
  ++windows;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    double sum = errors[i] / 2;
    for (std::size_t k = 0; k < levels.size(); ++k) {
      Level& level = levels[k];
      const double half = halves[k * errors.size() + i], outside = std::max(errors[i] - half, 0.0);
      const double winkler = 2 * half + 2 / (1 - level.level) * outside;
      level.covered[i] += errors[i] <= half ? 1 : 0;
      level.width[i] += 2 * half;
      level.winkler[i] += winkler;
      sum += (1 - level.level) / 2 * winkler;
    }
    wis[i] += sum / (static_cast<double>(levels.size()) + 0.5);
  }
}

void IntervalSums::append(const IntervalSums& targets) {
  if (levels.empty()) {
    *this = targets;
    return;
  }
  SAMFORMER_CHECK(windows == targets.windows && H == targets.H && levels.size() == targets.levels.size(),
                  "sums of {} windows appended to those of {}", targets.windows, windows);
  const auto behind = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  behind(left_out, targets.left_out);
  behind(wis, targets.wis);
  for (std::size_t k = 0; k < levels.size(); ++k) {
    behind(levels[k].covered, targets.levels[k].covered);
    behind(levels[k].width, targets.levels[k].width);
    behind(levels[k].winkler, targets.levels[k].winkler);
  }
}

void IntervalSums::add(const IntervalSums& more, std::span<const double> units) {
  if (levels.empty()) {
    *this = more;
    windows = 0;
    for (Level& level : levels) level.covered.assign(wis.size(), 0), level.width = level.winkler = level.covered;
    wis.assign(wis.size(), 0);
  }
  windows += more.windows;
  for (std::size_t i = 0; i < wis.size(); ++i) {
    const double unit = units[i / static_cast<std::size_t>(H)];
    wis[i] += unit * more.wis[i];
    for (std::size_t k = 0; k < levels.size(); ++k) {
      levels[k].covered[i] += more.levels[k].covered[i];
      levels[k].width[i] += unit * more.levels[k].width[i];
      levels[k].winkler[i] += unit * more.levels[k].winkler[i];
    }
  }
}

RollingIntervals::RollingIntervals(const Problem& problem, std::int64_t lookback, std::int64_t H,
                                   std::span<const double> levels, std::int64_t most)
    : problem_(problem),
      lookback_(lookback),
      scores_(problem.targets.size() * static_cast<std::size_t>(H), static_cast<std::size_t>(most)),
      sums_(IntervalSums::empty(problem, H, levels)) {}

void RollingIntervals::add(std::int32_t start, std::span<const double> forecast, std::span<const float> scales,
                           bool scored) {
  // Ended: its last step is a row of this look-back.
  while (!pending_.empty() && pending_.front().start <= start - sums_.H) {
    scores_.add(std::move(pending_.front().scores));
    pending_.pop_front();
  }
  const std::vector<double> errors = window_errors(problem_, start, lookback_, sums_.H, forecast);
  if (scored) {
    halves_.clear();
    for (const IntervalSums::Level& level : sums_.levels) {
      for (std::size_t i = 0; i < errors.size(); ++i) {
        const auto scale = static_cast<double>(scales[i / static_cast<std::size_t>(sums_.H)]);
        halves_.push_back(scores_.quantile(i, level.level) * scale);
      }
    }
  }
  if (scored && scores_.count() >= windows_for(sums_.levels.back().level)) sums_.add(errors, halves_);
  pending_.push_back({start, scores_of(errors, scales)});
}

}  // namespace samformer::optim
