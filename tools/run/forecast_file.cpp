#include "tools/run/forecast_file.h"

#include "tools/cli/signals.h"
#include "tools/cli/text_format.h"
#include "tools/run/analysis.h"
#include "tools/run/ensemble.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

constexpr std::int64_t batch_floats = std::int64_t{1} << 22;  // of one forecast of a batch

// The dates of rows as cells.
std::vector<std::string> date_cells(const model::Series& series) {
  std::vector<std::string> cells;
  for (std::int64_t t = 0; t < series.rows; ++t) {
    cells.push_back(series.dates.empty() ? std::to_string(t + 1) : csv_field(series.date(t)));
  }
  return cells;
}

}  // namespace

std::int64_t write_forecasts(const std::filesystem::path& path, std::span<const Checkpoint> runs, const Experiment& e,
                             std::span<const std::int32_t> starts, std::span<const float> least_squares,
                             const ChosenDevice& device) {
  const CatchSignals catch_signals;
  const Settings& settings = runs.front().settings;
  const std::int64_t L = settings.lookback, H = settings.horizon, T = static_cast<std::int64_t>(e.targets.size());
  const std::int64_t season = has_season(e, L) ? e.season : 0;
  const optim::Problem problem = e.problem();
  const Ensemble together(runs, problem, device);
  const model::Linear linear({e.D(), L, H});
  optim::Evaluator fitted(linear, kernels::Center::mean);

  AtomicFile file(path);
  std::string text = "origin,date,step,series,actual,forecast,naive";
  if (season > 0) text += ",seasonal_naive";
  if (!least_squares.empty()) text += ",least_squares";
  text += '\n';
  const std::vector<std::string> dates = date_cells(e.series);
  std::vector<std::string> names;
  for (const std::string& name : e.target_names()) names.push_back(csv_field(name));

  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, batch_floats / (e.D() * H)));
  for (std::size_t first = 0; first < starts.size(); first += most) {
    stop_when_interrupted();
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    const std::vector<double> mean = together.forecast(batch);
    std::vector<float> fit;
    if (!least_squares.empty()) fit = fitted.forecast(least_squares, problem, batch);
    std::size_t at = 0;
    for (const std::int32_t start : batch) {
      const std::string& origin = dates[static_cast<std::size_t>(start + L - 1)];
      for (std::int64_t t = 0; t < T; ++t) {
        const auto d = static_cast<std::size_t>(e.targets[static_cast<std::size_t>(t)]);
        const double* const truth = e.series.channel(static_cast<std::int64_t>(d)).data() + start + L;
        const std::string naive = shortest(truth[-1]);
        const auto restored = [&](double value) {
          return shortest(e.scaler.restore(value, d), 1e-7 * e.scaler.std[d]);
        };
        for (std::int64_t h = 0; h < H; ++h, ++at) {
          fmt::format_to(std::back_inserter(text), "{},{},{},{},{},{},{}", origin,
                         dates[static_cast<std::size_t>(start + L + h)], h + 1, names[static_cast<std::size_t>(t)],
                         shortest(truth[h]), restored(mean[at]), naive);
          if (season > 0) text += ',' + shortest(truth[h % season - season]);
          if (!fit.empty()) text += ',' + restored(static_cast<double>(fit[at]));
          text += '\n';
        }
      }
      if (text.size() > (1U << 20)) {
        file.write(bytes_of(text));
        text.clear();
      }
    }
  }
  file.write(bytes_of(text));
  file.commit();
  return static_cast<std::int64_t>(starts.size()) * T * H;
}

}  // namespace samformer::tools
