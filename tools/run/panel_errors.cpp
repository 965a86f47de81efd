#include "tools/run/panel_errors.h"

#include <cmath>
#include <limits>

#include "tools/run/ensemble.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

double ratio(double a, double b) { return b > 0 ? a / b : std::numeric_limits<double>::quiet_NaN(); }

PanelErrors::Sums empty_sums(std::size_t series) {
  const std::vector<double> zeros(series);
  return {zeros, zeros, zeros};
}

void add(PanelErrors::Sums& sums, std::size_t k, double error) {
  sums.squared[k] += error * error;
  sums.absolute[k] += std::fabs(error);
  sums.difference[k] += error;
}

}  // namespace

PanelErrors::PanelErrors(const Experiment& e, std::span<const std::int32_t> starts, std::int64_t L, std::int64_t steps,
                         const Ensemble& models, std::span<const float> least_squares)
    : H(steps) {
  const Panel& panel = *e.panel;
  const std::size_t count = panel.file.panel.size();
  windows.resize(count);
  unit = panel.scaler.std;
  size.resize(count);
  model = naive = empty_sums(count);
  const std::int64_t season = has_season(e, L) ? e.season : 0, lag = std::max<std::int64_t>(1, e.season);
  if (season > 0) seasonal = empty_sums(count);
  if (!least_squares.empty()) oracle = empty_sums(count);
  for (std::size_t k = 0; k < count; ++k) {
    double absolute = 0, squared = 0, pairs = 0;
    for (const model::Span run : model::unbroken(panel.file, panel.trained[k])) {
      for (std::int64_t t = run.first + lag; t < run.last; ++t) {
        const double step =
            panel.file.values[static_cast<std::size_t>(t)] - panel.file.values[static_cast<std::size_t>(t - lag)];
        absolute += std::fabs(step), squared += step * step, ++pairs;
      }
    }
    absolute_season.push_back(ratio(absolute, pairs));
    squared_season.push_back(ratio(squared, pairs));
  }
  const optim::Problem problem = e.tested_problem();
  const model::Linear linear({1, L, H});
  optim::Evaluator fitted(linear, kernels::Center::mean);
  models.for_batches(starts, [&](const auto& batch, const std::vector<double>& forecasts) {
    std::vector<float> fit;
    if (oracle) fit = fitted.forecast(least_squares, problem, batch);
    for (std::size_t n = 0; n < batch.size(); ++n) {
      const std::int64_t first = batch[n] + L;
      const auto k = static_cast<std::size_t>(panel.piece_at(batch[n]).member);
      const float* const truth = e.values.values.data() + first;
      ++windows[k];
      for (std::int64_t h = 0; h < H; ++h) {
        const auto at = n * static_cast<std::size_t>(H) + static_cast<std::size_t>(h);
        const double known = static_cast<double>(truth[h]);
        size[k] += std::fabs(e.series.values[static_cast<std::size_t>(first + h)]);
        add(model, k, forecasts[at] - known);
        add(naive, k, static_cast<double>(truth[-1]) - known);
        if (seasonal) add(*seasonal, k, static_cast<double>(truth[h % season - season]) - known);
        if (oracle) add(*oracle, k, static_cast<double>(fit[at]) - known);
      }
    }
  });
  for (std::size_t k = 0; k < count; ++k) size[k] = mean(size, k);
}

double PanelErrors::mean(const std::vector<double>& sums, std::size_t k) const {
  return ratio(sums[k], static_cast<double>(windows[k] * H));
}

optim::OriginalErrors PanelErrors::series(const Sums& sums, std::size_t k) const {
  const double mae = mean(sums.absolute, k) * unit[k], mse = mean(sums.squared, k) * unit[k] * unit[k];
  return {ratio(mae, size[k]), ratio(mae, absolute_season[k]), std::sqrt(ratio(mse, squared_season[k])),
          mean(sums.difference, k) * unit[k]};
}

optim::OriginalErrors PanelErrors::all(const Sums& sums) const {
  double errors = 0, sizes = 0;
  struct Mean {
    double sum = 0, count = 0;
    void take(double value) {
      if (std::isnan(value)) return;
      sum += value, ++count;
    }
  } mase, rmsse, bias;
  for (std::size_t k = 0; k < windows.size(); ++k) {
    if (windows[k] == 0) continue;
    const optim::OriginalErrors of = series(sums, k);
    mase.take(of.mase), rmsse.take(of.rmsse), bias.take(of.bias);
    const auto weight = static_cast<double>(windows[k]);
    errors += weight * mean(sums.absolute, k) * unit[k];
    sizes += weight * size[k];
  }
  return {ratio(errors, sizes), ratio(mase.sum, mase.count), ratio(rmsse.sum, rmsse.count),
          ratio(bias.sum, bias.count)};
}

}  // namespace samformer::tools
