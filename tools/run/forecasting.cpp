#include "tools/run/forecasting.h"

#include <algorithm>
#include <cmath>

#include "model/data/repair.h"

namespace samformer::tools {
namespace {

std::vector<double> forecast_values(const Checkpoint& run, const model::Series& series, std::int64_t origin,
                                    std::span<const model::Stamp> ahead, const model::Basis& basis,
                                    const model::Series* future, std::int64_t horizon, const ChosenDevice& device) {
  const std::int64_t L = run.settings.lookback, D = series.width();
  for (std::int64_t d = 0; d < D; ++d) {
    const auto window =
        series.channel(d).subspan(static_cast<std::size_t>(origin + 1 - L), static_cast<std::size_t>(L));
    const auto missing = std::ranges::find_if_not(window, [](double x) { return std::isfinite(x); });
    if (missing == window.end()) continue;
    const std::int64_t complete = model::last_complete_row(series, L, series.rows);
    throw Error(Exit::data, fmt::format("'{}' has a missing value at {}, inside the {} rows the forecast needs",
                                        series.channels[static_cast<std::size_t>(d)],
                                        series.date(origin + 1 - L + (missing - window.begin())), L))
        .at(series.path)
        .hint(complete < 0 ? "fill the value in: " + model::repair_command(series.path, series_options(run.settings))
                           : fmt::format("fill the value in, or forecast from another row: --origin {}",
                                         model::origin_word(series, complete)));
  }
  const model::MarkedValues read = values_ahead(series, run.scaler, basis, origin, L, ahead, future);
  const std::int32_t start[] = {0};
  const optim::Problem problem = read.problem(run.targets);
  const auto loaded = device.load(run.model, problem, center_of(run.settings));
  optim::Evaluator evaluator(run.model, center_of(run.settings), loaded.get());
  const std::vector<float> y = evaluator.forecast(run.slab, problem, start);
  const std::int64_t targets = static_cast<std::int64_t>(run.targets.size()), H = run.settings.horizon;
  std::vector<double> values(static_cast<std::size_t>(horizon * targets));
  for (std::int64_t h = 0; h < horizon; ++h) {
    for (std::int64_t t = 0; t < targets; ++t) {
      const auto d = static_cast<std::size_t>(run.targets[static_cast<std::size_t>(t)]);
      const double value = run.scaler.restore(static_cast<double>(y[static_cast<std::size_t>(t * H + h)]), d);
      if (!std::isfinite(value)) {
        throw Error(Exit::diverged,
                    fmt::format("the forecast overflows: '{}' is {} in step {}", run.columns[d], value, h + 1))
            .at(run.path.string())
            .hint(
                "look at the last rows with `samformer data check`; if they are right, train again with a smaller "
                "--lr or --rho");
      }
      values[static_cast<std::size_t>(h * targets + t)] = value;
    }
  }
  return values;
}

}  // namespace

std::vector<model::Stamp> dates_ahead(const Checkpoint& run, const Settings& settings, const model::Series& series,
                                      std::int64_t origin, std::int64_t steps) {
  if (series.dates.empty()) return std::vector<model::Stamp>(static_cast<std::size_t>(steps));
  // The file's own step; a file too short to show one continues at the step the model was trained on.
  model::Step step = series.step;
  if (series.rows < 2 && settings.freq.empty() && !run.step.empty()) step = model::parse_freq(run.step, series.dates);
  model::require_step(series, step);
  return model::continue_dates(series.dates[static_cast<std::size_t>(origin)], step, steps, series.zone.get());
}

std::vector<double> mean_forecast(std::span<const Checkpoint> runs, const Settings& settings,
                                  const model::Series& series, std::int64_t origin, std::span<const model::Stamp> ahead,
                                  const model::Series* future, std::int64_t horizon, const ChosenDevice& device) {
  const Checkpoint& first = runs[0];
  std::vector<double> mean;
  for (const Checkpoint& run : runs) {
    if (run.columns != first.columns || run.targets != first.targets ||
        run.settings.horizon != first.settings.horizon) {
      throw Error(Exit::data, "the seeds of this run differ in columns, targets or horizon").at(run.path.string());
    }
    const std::vector<double> values =
        forecast_values(run, series, origin, ahead, basis_for(run, settings, series), future, horizon, device);
    mean.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      mean[i] += values[i] / static_cast<double>(runs.size());
    }
  }
  return mean;
}

}  // namespace samformer::tools
