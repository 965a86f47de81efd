#include "optim/original_units.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace samformer::optim {
namespace {

double ratio(double a, double b) { return b > 0 ? a / b : std::numeric_limits<double>::quiet_NaN(); }

// Of what is defined; NaN where nothing is.
class Mean {
 public:
  void take(double value) {
    if (std::isnan(value)) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return ratio(sum_, count_); }

 private:
  double sum_ = 0, count_ = 0;
};

}  // namespace

OriginalUnits::OriginalUnits(const model::Series& series, const model::Scaler& scaler,
                             std::span<const std::int32_t> targets, std::span<const std::int32_t> starts,
                             std::int64_t lookback, std::int64_t H, model::Span train, std::int64_t season) {
  std::vector<double> before(static_cast<std::size_t>(series.rows + 1));  // sums of |y| of the rows before
  for (const std::int32_t d : targets) {
    const auto y = series.channel(d);
    for (std::size_t t = 0; t < y.size(); ++t) before[t + 1] = before[t] + std::fabs(y[t]);
    Mean size, absolute, squared;
    for (const std::int32_t start : starts) {
      const auto first = static_cast<std::size_t>(start + lookback);
      size.take((before[first + static_cast<std::size_t>(H)] - before[first]) / static_cast<double>(H));
    }
    for (const model::Span run : model::unbroken(series, train)) {
      for (std::int64_t t = run.first + season; t < run.last; ++t) {
        const double e = y[static_cast<std::size_t>(t)] - y[static_cast<std::size_t>(t - season)];
        absolute.take(std::fabs(e));
        squared.take(e * e);
      }
    }
    channels_.push_back({scaler.std[static_cast<std::size_t>(d)], size.value(), absolute.value(), squared.value()});
  }
}

OriginalErrors OriginalUnits::channel(const ErrorSums& sums, std::int64_t t) const {
  const auto& [unit, size, absolute_season, squared_season] = channels_[static_cast<std::size_t>(t)];
  const double mae = sums.channel_mae(t) * unit, mse = sums.channel_mse(t) * unit * unit;
  return {ratio(mae, size), ratio(mae, absolute_season), std::sqrt(ratio(mse, squared_season)),
          sums.channel_bias(t) * unit};
}

OriginalErrors OriginalUnits::all(const ErrorSums& sums) const {
  Mean mase, rmsse, bias;
  double errors = 0, sizes = 0;
  for (std::int64_t t = 0; t < sums.targets; ++t) {
    if (!sums.left_out.empty() && sums.left_out[static_cast<std::size_t>(t)] != 0) continue;
    const OriginalErrors of = channel(sums, t);
    mase.take(of.mase);
    rmsse.take(of.rmsse);
    bias.take(of.bias);
    errors += sums.channel_mae(t) * channels_[static_cast<std::size_t>(t)].unit;
    sizes += channels_[static_cast<std::size_t>(t)].size;
  }
  return {ratio(errors, sizes), mase.value(), rmsse.value(), bias.value()};
}

std::int64_t OriginalUnits::scaled_channels() const {
  return std::ranges::count_if(channels_, [](const Channel& c) { return c.absolute_season > 0; });
}

}  // namespace samformer::optim
