#include "optim/baselines.h"

#include <algorithm>

namespace samformer::optim {
namespace {

constexpr std::int64_t mean_forecast_floats = std::int64_t{12} << 20;  // of a batch's forecasts

// Errors of a forecast that repeats the look-back's last `period` values.
ErrorSums repeated_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                          std::int64_t H, std::int64_t period) {
  ErrorSums sums(static_cast<std::int64_t>(problem.targets.size()), H);
  sums.windows = static_cast<std::int64_t>(starts.size());
  sums.left_out.assign(problem.left_out.begin(), problem.left_out.end());
  kernels::parallel_for<float>(sums.targets, [&](std::int64_t t) {
    const float* channel = problem.values.data() + problem.targets[static_cast<std::size_t>(t)] * problem.rows;
    for (const std::int32_t start : starts) {
      const float* end = channel + start + lookback;
      for (std::int64_t h = 0; h < H; ++h) {
        sums.add(t, h, static_cast<double>(end[h % period - period]) - static_cast<double>(end[h]));
      }
    }
  });
  return sums;
}

}  // namespace

std::vector<double> mean_forecast(std::span<const Member> members, const Problem& problem,
                                  std::span<const std::int32_t> starts) {
  std::vector<double> mean;
  for (const Member& member : members) {
    const std::vector<float> one = member.evaluator->forecast(member.weights, problem, starts);
    mean.resize(one.size());
    for (std::size_t i = 0; i < one.size(); ++i) mean[i] += one[i] / static_cast<double>(members.size());
  }
  return mean;
}

ErrorSums mean_forecast_errors(std::span<const Member> members, const Problem& problem,
                               std::span<const std::int32_t> starts, std::int64_t lookback, std::int64_t H) {
  ErrorSums sums(static_cast<std::int64_t>(problem.targets.size()), H);
  sums.windows = static_cast<std::int64_t>(starts.size());
  sums.left_out.assign(problem.left_out.begin(), problem.left_out.end());
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, mean_forecast_floats / (2 * problem.D * H)));
  for (std::size_t first = 0; first < starts.size(); first += most) {
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    const std::vector<double> mean = mean_forecast(members, problem, batch);
    kernels::parallel_for<float>(sums.targets, [&](std::int64_t t) {
      const float* channel = problem.values.data() + problem.targets[static_cast<std::size_t>(t)] * problem.rows;
      for (std::size_t n = 0; n < batch.size(); ++n) {
        const float* truth = channel + batch[n] + lookback;
        const double* forecast = mean.data() + (static_cast<std::int64_t>(n) * sums.targets + t) * H;
        for (std::int64_t h = 0; h < H; ++h) {
          sums.add(t, h, forecast[h] - static_cast<double>(truth[h]));
        }
      }
    });
  }
  return sums;
}

ErrorSums naive_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                       std::int64_t H) {
  return repeated_errors(problem, starts, lookback, H, 1);
}

ErrorSums seasonal_naive_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                                std::int64_t H, std::int64_t season) {
  SAMFORMER_CHECK(season > 0 && season <= lookback, "seasonal naive: a season of 1..{} steps expected, found {}",
                  lookback, season);
  return repeated_errors(problem, starts, lookback, H, season);
}

std::vector<double> repeated_forecast(const Problem& problem, std::int32_t start, std::int64_t lookback, std::int64_t H,
                                      std::int64_t period) {
  std::vector<double> forecast;
  for (const std::int32_t d : problem.targets) {
    const float* const end = problem.values.data() + d * problem.rows + start + lookback;
    for (std::int64_t h = 0; h < H; ++h) forecast.push_back(static_cast<double>(end[h % period - period]));
  }
  return forecast;
}

std::vector<float> repeating_slab(const model::Linear& net, std::int64_t period) {
  const std::int64_t L = net.shape().L, H = net.shape().H;
  SAMFORMER_CHECK(period > 0 && period <= L, "a period of 1..{} steps expected, found {}", L, period);
  std::vector<float> slab(static_cast<std::size_t>(net.parameters().slab_size()));
  net.initialise(slab.data(), 0, model::Init::glorot, model::HeadInit::zero);
  // Weights that add up to 1 do not feel the centre.
  float* weight = slab.data() + net.parameters().find("linear_forecaster.weight").offset;
  for (std::int64_t h = 0; h < H && period > 1; ++h) weight[h * L + L - period + h % period] = 1;
  return slab;
}

}  // namespace samformer::optim
