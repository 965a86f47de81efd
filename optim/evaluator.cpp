#include "optim/evaluator.h"

#include <algorithm>
#include <cstring>

#include "kernels/correlation.h"
#include "optim/device.h"

namespace samformer::optim {
namespace {

// Rows (windows times channels) evaluated at once: 4 MiB of normalised windows at L = 512 stay near the cores.
constexpr std::int64_t evaluation_rows = 2048;
// Consecutive windows are never normalised; the more of them, the better their transforms pay. Of z and y at most:
constexpr std::int64_t sliding_floats = std::int64_t{12} << 20;

}  // namespace

double ErrorSums::mean(const std::vector<double>& sums, std::int64_t t0, std::int64_t t1, std::int64_t h0,
                       std::int64_t h1) const {
  double total = 0;
  for (std::int64_t t = t0; t < t1; ++t) {
    for (std::int64_t h = h0; h < h1; ++h) total += sums[static_cast<std::size_t>(t * H + h)];
  }
  return total / static_cast<double>(windows * (t1 - t0) * (h1 - h0));
}

bool Evaluator::slides(std::int64_t together, std::span<const std::int32_t> starts) const {
  return model_.only_projects() && kernels::correlation_pays(together, model_.shape().L) &&
         std::adjacent_find(starts.begin(), starts.end(), [](auto a, auto b) { return b != a + 1; }) == starts.end();
}

Evaluator::Forward Evaluator::forward(std::span<const float> weights, const Problem& problem,
                                      std::span<const std::int32_t> starts) {
  arena_.rewind({});
  tape_.clear();
  const std::int64_t L = model_.shape().L;
  const kernels::Windows<float> windows = problem.windows(starts);
  const Normalised<float> input =
      slides(windows.N, starts) ? revin_sliding(tape_, windows, L, center_) : revin(tape_, windows, L, center_);
  // Outside training and without gradients the model only reads its weights.
  float* slab = const_cast<float*>(weights.data());
  return {model_.forward<float>(tape_, slab, nullptr, input, model::Pass{}), input};
}

template <class Body>
void Evaluator::for_batches(std::span<const float> weights, const Problem& problem,
                            std::span<const std::int32_t> starts, const Body& body) {
  const auto [D, L, H] = model_.shape();
  const std::int64_t together = std::min(kernels::correlation_windows(L), sliding_floats / (2 * D * H));
  const auto most =
      static_cast<std::size_t>(slides(together, starts) ? together : std::max<std::int64_t>(1, evaluation_rows / D));
  for (std::size_t first = 0; first < starts.size(); first += most) {
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    const Forward f = forward(weights, problem, batch);
    body(batch, revin_inverse(f.output.z, f.output.affine, f.input.level, f.input.sigma).value());
  }
}

ErrorSums Evaluator::errors(std::span<const float> weights, const Problem& problem,
                            std::span<const std::int32_t> starts) {
  if (device_) return device_->errors(weights, starts);
  ErrorSums sums(static_cast<std::int64_t>(problem.targets.size()), model_.shape().H);
  sums.windows = static_cast<std::int64_t>(starts.size());
  for_batches(weights, problem, starts, [&](std::span<const std::int32_t> batch, Tensor<float> y) {
    kernels::error_sums(sums.squared.data(), sums.absolute.data(), y.data, y.stride,
                        problem.windows(batch, model_.shape().L), sums.H, problem.targets.data(), sums.targets);
  });
  return sums;
}

double Evaluator::mixed_loss(std::span<const float> weights, const Problem& problem,
                             std::span<const std::int32_t> starts, kernels::StatsMix mix, std::int64_t batch) {
  if (device_) return device_->mixed_loss(weights, starts, mix, batch);
  double total = 0;
  for (std::size_t first = 0; first < starts.size(); first += static_cast<std::size_t>(batch)) {
    const auto part = starts.subspan(first, std::min(static_cast<std::size_t>(batch), starts.size() - first));
    const Forward f = forward(weights, problem, part);
    const Var<float> loss = forecast_loss(f.output.z, f.output.affine, f.input.level, f.input.sigma,
                                          problem.truth(part, model_.shape().L), mix);
    total += static_cast<double>(loss.value().data[0]) * static_cast<double>(part.size());
  }
  return total / static_cast<double>(starts.size());
}

std::vector<float> Evaluator::forecast(std::span<const float> weights, const Problem& problem,
                                       std::span<const std::int32_t> starts) {
  if (device_) return device_->forecast(weights, starts);
  const std::int64_t H = model_.shape().H;
  std::vector<float> all;
  all.reserve(starts.size() * problem.targets.size() * static_cast<std::size_t>(H));
  for_batches(weights, problem, starts, [&](std::span<const std::int32_t> batch, Tensor<float> y) {
    for (std::int64_t n = 0; n < static_cast<std::int64_t>(batch.size()); ++n) {
      for (const std::int32_t d : problem.targets) {
        const float* row = y.row(n * problem.D + d);
        all.insert(all.end(), row, row + H);
      }
    }
  });
  return all;
}

namespace {

// Errors of a forecast that repeats the look-back's last `period` values.
ErrorSums repeated_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                          std::int64_t H, std::int64_t period) {
  ErrorSums sums(static_cast<std::int64_t>(problem.targets.size()), H);
  sums.windows = static_cast<std::int64_t>(starts.size());
  kernels::parallel_for<float>(sums.targets, [&](std::int64_t t) {
    const float* channel = problem.values.data() + problem.targets[static_cast<std::size_t>(t)] * problem.rows;
    for (const std::int32_t start : starts) {
      const float* end = channel + start + lookback;
      for (std::int64_t h = 0; h < H; ++h) {
        const double e = static_cast<double>(end[h % period - period]) - static_cast<double>(end[h]);
        sums.squared[static_cast<std::size_t>(t * H + h)] += e * e;
        sums.absolute[static_cast<std::size_t>(t * H + h)] += e < 0 ? -e : e;
      }
    }
  });
  return sums;
}

}  // namespace

ErrorSums mean_forecast_errors(std::span<const Member> members, const Problem& problem,
                               std::span<const std::int32_t> starts, std::int64_t lookback, std::int64_t H) {
  ErrorSums sums(static_cast<std::int64_t>(problem.targets.size()), H);
  sums.windows = static_cast<std::int64_t>(starts.size());
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, sliding_floats / (2 * problem.D * H)));
  std::vector<double> mean;
  for (std::size_t first = 0; first < starts.size(); first += most) {
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    mean.assign(batch.size() * static_cast<std::size_t>(sums.targets * H), 0);
    for (const Member& member : members) {
      const std::vector<float> one = member.evaluator->forecast(member.weights, problem, batch);
      for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += one[i] / static_cast<double>(members.size());
    }
    kernels::parallel_for<float>(sums.targets, [&](std::int64_t t) {
      const float* channel = problem.values.data() + problem.targets[static_cast<std::size_t>(t)] * problem.rows;
      for (std::size_t n = 0; n < batch.size(); ++n) {
        const float* truth = channel + batch[n] + lookback;
        const double* forecast = mean.data() + (static_cast<std::int64_t>(n) * sums.targets + t) * H;
        for (std::int64_t h = 0; h < H; ++h) {
          const double e = forecast[h] - static_cast<double>(truth[h]);
          sums.squared[static_cast<std::size_t>(t * H + h)] += e * e;
          sums.absolute[static_cast<std::size_t>(t * H + h)] += e < 0 ? -e : e;
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

}  // namespace samformer::optim
