#include "tools/run/forecast_file.h"

#include "tools/cli/signals.h"
#include "tools/cli/text_format.h"
#include "tools/run/analysis.h"
#include "tools/run/ensemble.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

// The dates of rows as cells.
std::vector<std::string> date_cells(const model::Series& series) {
  std::vector<std::string> cells;
  for (std::int64_t t = 0; t < series.rows; ++t) {
    cells.push_back(series.dates.empty() ? std::to_string(t + 1) : csv_field(series.date(t)));
  }
  return cells;
}

}  // namespace

ForecastFile::ForecastFile(const std::filesystem::path& path, const Experiment& e, std::int64_t lookback,
                           std::int64_t horizon, bool least_squares, std::span<const double> levels)
    : file_(path),
      e_(e),
      L_(lookback),
      H_(horizon),
      season_(has_season(e, lookback) ? e.season : 0),
      levels_(levels.size()),
      text_("origin,date,step,series,actual,forecast,naive"),
      dates_(date_cells(e.series)) {
  if (season_ > 0) text_ += ",seasonal_naive";
  if (least_squares) text_ += ",least_squares";
  for (const double level : levels) text_ += fmt::format(",lo_{0},hi_{0}", level_name(level));
  text_ += '\n';
  for (const std::string& name : e.target_names()) names_.push_back(csv_field(name));
}

void ForecastFile::add(std::span<const std::int32_t> starts, const model::Scaler& scaler,
                       std::span<const double> forecasts, std::span<const float> fit, std::span<const float> halves) {
  const std::size_t outputs = names_.size() * static_cast<std::size_t>(H_);
  std::size_t at = 0;
  for (const std::int32_t start : starts) {
    const std::size_t window = at / outputs;
    const std::string& origin = dates_[static_cast<std::size_t>(start + L_ - 1)];
    for (std::size_t t = 0; t < names_.size(); ++t) {
      const auto d = static_cast<std::size_t>(e_.targets[t]);
      const double* const truth = e_.series.channel(static_cast<std::int64_t>(d)).data() + start + L_;
      const std::string naive = shortest(truth[-1]);
      const auto restored = [&](double value) { return shortest(scaler.restore(value, d), 1e-7 * scaler.std[d]); };
      for (std::int64_t h = 0; h < H_; ++h, ++at) {
        fmt::format_to(std::back_inserter(text_), "{},{},{},{},{},{},{}", origin,
                       dates_[static_cast<std::size_t>(start + L_ + h)], h + 1, names_[t], shortest(truth[h]),
                       restored(forecasts[at]), naive);
        if (season_ > 0) text_ += ',' + shortest(truth[h % season_ - season_]);
        if (!fit.empty()) text_ += ',' + restored(static_cast<double>(fit[at]));
        for (std::size_t k = 0; k < levels_; ++k) {
          const auto half = static_cast<double>(halves[(window * levels_ + k) * outputs + at % outputs]);
          if (!std::isfinite(half)) text_ += ",,";
          if (std::isfinite(half)) text_ += ',' + restored(forecasts[at] - half) + ',' + restored(forecasts[at] + half);
        }
        text_ += '\n';
        ++rows_;
      }
    }
    if (text_.size() > (1U << 20)) {
      file_.write(bytes_of(text_));
      text_.clear();
    }
  }
}

void ForecastFile::commit() {
  file_.write(bytes_of(text_));
  file_.commit();
}

std::int64_t write_forecasts(const std::filesystem::path& path, std::span<const Checkpoint> runs, const Experiment& e,
                             std::span<const std::int32_t> starts, std::span<const float> least_squares,
                             std::span<const double> levels, std::span<const float> halves,
                             const ChosenDevice& device) {
  const CatchSignals catch_signals;
  const Settings& settings = runs.front().settings;
  const std::int64_t L = settings.lookback, H = settings.horizon;
  const optim::Problem problem = e.problem();
  const Ensemble together(runs, problem, device);
  optim::Evaluator fitted(linear_model(settings, e), kernels::Center::mean);
  ForecastFile file(path, e, L, H, !least_squares.empty(), levels);
  std::size_t written = 0;
  together.for_batches(starts, [&](const auto& batch, const auto& forecasts) {
    std::vector<float> fit;
    if (!least_squares.empty()) fit = fitted.forecast(least_squares, problem, batch);
    const std::size_t size = levels.size() * forecasts.size();
    file.add(batch, e.scaler, forecasts, fit, halves.subspan(written, size));
    written += size;
  });
  file.commit();
  return file.rows();
}

}  // namespace samformer::tools
