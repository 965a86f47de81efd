// `samformer predict RUN`: the next steps after the end of a CSV, in original units, as CSV with dates.
#include <cmath>
#include <filesystem>

#include "tools/cli/command.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

struct Forecast {
  std::vector<std::string> dates;  // [H]
  std::vector<std::string> date_columns;
  std::vector<std::vector<std::string>> date_cells;  // [H][date_columns]
  std::vector<std::string> columns;                  // the targets
  std::vector<double> values;                        // [H][targets], original units
};

// Rows 0 .. origin of the series are known.
std::vector<double> forecast_values(const Checkpoint& run, const model::Series& series, std::int64_t origin,
                                    std::int64_t horizon, const ChosenDevice& device) {
  const std::int64_t L = run.settings.lookback, D = series.width();
  std::vector<float> window(static_cast<std::size_t>(D * L));
  for (std::int64_t d = 0; d < D; ++d) {
    const auto channel = series.channel(d);
    for (std::int64_t t = 0; t < L; ++t) {
      const double x = channel[static_cast<std::size_t>(origin + 1 - L + t)];
      if (!std::isfinite(x)) {
        const std::int64_t complete = model::last_complete_row(series, L);
        throw Error(Exit::data,
                    fmt::format("'{}' has a missing value at {}, inside the {} rows the forecast needs",
                                series.channels[static_cast<std::size_t>(d)], series.date(origin + 1 - L + t), L))
            .at(series.path)
            .hint(complete < 0 ? "fill the value in"
                               : fmt::format("fill the value in, or forecast from another row: --origin {}",
                                             model::origin_word(series, complete)));
      }
      const auto k = static_cast<std::size_t>(d);
      window[static_cast<std::size_t>(d * L + t)] = static_cast<float>((x - run.scaler.mean[k]) / run.scaler.std[k]);
    }
  }
  const std::int32_t start[] = {0};
  const optim::Problem problem{window, L, D, run.targets};
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

std::vector<std::string> forecast_dates(const Checkpoint& run, const Settings& settings, const model::Series& series,
                                        std::int64_t origin, std::int64_t horizon) {
  std::vector<std::string> dates;
  if (series.dates.empty()) {
    for (std::int64_t h = 1; h <= horizon; ++h) dates.push_back(std::to_string(origin + 1 + h));
    return dates;
  }
  // The file's own step; a file too short to show one continues at the step the model was trained on.
  model::Step step = series.step;
  if (series.rows < 2 && settings.freq.empty() && !run.step.empty()) step = model::parse_freq(run.step, series.dates);
  for (const model::Stamp& stamp :
       model::continue_dates(series.dates[static_cast<std::size_t>(origin)], step, horizon)) {
    dates.push_back(model::format_stamp(stamp, series.date_format));
  }
  return dates;
}

std::string csv(const Forecast& f) {
  std::string text;
  const auto add = [&](const std::vector<std::string>& cells) {
    for (const std::string& cell : cells) text += (&cell == cells.data() ? "" : ",") + csv_field(cell);
  };
  add(f.date_columns);
  for (const std::string& name : f.columns) text += "," + csv_field(name);
  text += '\n';
  for (std::size_t h = 0; h < f.dates.size(); ++h) {
    add(f.date_cells[h]);
    for (std::size_t t = 0; t < f.columns.size(); ++t) text += "," + shortest(f.values[h * f.columns.size() + t]);
    text += '\n';
  }
  return text;
}

std::string age(const Checkpoint& run, const model::Series& series, std::int64_t origin) {
  if (run.trained_until.empty()) return "trained on part of the rows; train with --refit to use them all";
  std::string text = fmt::format("trained on rows up to {}", run.trained_until);
  model::Stamp until;
  model::DateFormat format = series.date_format;
  if (!series.dates.empty() && series.step.known() && model::parse_stamp(run.trained_until, format, until)) {
    const auto steps = model::steps_between(until, series.dates[static_cast<std::size_t>(origin)], series.step);
    if (steps) text += fmt::format(", {} steps before this forecast", *steps);
  }
  return text;
}

}  // namespace

int predict(const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  const std::string& argument = invocation.arguments[0];
  const std::vector<Checkpoint> runs = read_run_to_keep(argument, asked.weights);
  const ChosenDevice device = select_device(asked);
  const Checkpoint& first = runs[0];
  const std::int64_t H = first.settings.horizon;
  const std::int64_t horizon = invocation.resolved.given("horizon") ? asked.horizon : H;
  if (horizon > H) {
    throw Error(Exit::usage, fmt::format("--horizon {}: the model forecasts {} steps", horizon, H))
        .hint(fmt::format("give at most {}, or train with a longer --horizon", H));
  }

  Settings settings = settings_on_run(first.settings, invocation.resolved);
  settings.data_sha256.clear();  // the file may have grown
  model::SeriesOptions options = series_options(first, settings);
  // The rows before another origin are looked at when it is known.
  options.missing_allowed_before_last = asked.origin.empty() ? first.settings.lookback : 0;
  const model::Series series = load_series(settings, options);
  model::require_clean(series);
  const std::int64_t origin = asked.origin.empty() ? series.rows - 1 : model::find_row(series, asked.origin);
  const std::int64_t L = first.settings.lookback;
  if (origin + 1 < L) {
    throw Error(Exit::data, fmt::format("{} rows up to the origin, at least {} (the look-back) needed", origin + 1, L))
        .at(series.path)
        .hint("give more history, or a later --origin");
  }

  Forecast forecast;
  for (const std::int32_t t : first.targets) forecast.columns.push_back(first.columns[static_cast<std::size_t>(t)]);
  forecast.dates = forecast_dates(first, settings, series, origin, horizon);
  for (const model::Series::DatePart& part : series.date_parts) forecast.date_columns.push_back(part.name);
  if (series.date_parts.empty()) forecast.date_columns = {"date"};
  for (const std::string& date : forecast.dates) {
    forecast.date_cells.push_back(series.date_parts.empty() ? std::vector{date} : series.date_cells(date));
  }
  for (const Checkpoint& run : runs) {
    if (run.columns != first.columns || run.targets != first.targets || run.settings.horizon != H) {
      throw Error(Exit::data, "the seeds of this run differ in columns, targets or horizon").at(run.path.string());
    }
    const std::vector<double> values = forecast_values(run, series, origin, horizon, device);
    if (forecast.values.empty()) forecast.values.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      forecast.values[i] += values[i] / static_cast<double>(runs.size());
    }
  }
  if (first.path.filename() != "final.safetensors") invocation.console.info(age(first, series, origin));

  const std::string text = csv(forecast);
  if (!asked.out.empty()) write_atomic(asked.out, text);
  if (asked.json) {
    Json rows = Json::array();
    for (std::size_t h = 0; h < forecast.dates.size(); ++h) {
      const auto begin = forecast.values.begin() + static_cast<std::ptrdiff_t>(h * forecast.columns.size());
      rows.push_back(
          {{"date", forecast.dates[h]},
           {"values", std::vector<double>(begin, begin + static_cast<std::ptrdiff_t>(forecast.columns.size()))}});
    }
    Json result = document("predict");
    result.update(Json{{"run_dir", argument},
                       {"weights", first.path.filename().string()},
                       {"models", runs.size()},
                       {"data_path", series.path},
                       {"data_sha256", series.sha256},
                       {"origin", series.date(origin)},
                       {"trained_until", first.trained_until.empty() ? Json(nullptr) : Json(first.trained_until)},
                       {"horizon", horizon},
                       {"device", device.name},
                       {"out", asked.out.empty() ? Json(nullptr) : Json(asked.out)},
                       {"columns", forecast.columns},
                       {"forecast", rows}});
    print(result, invocation.out);
  } else if (asked.out.empty()) {
    invocation.out << text;
  } else {
    invocation.console.info(fmt::format("{} steps, {} .. {}, written to {}", horizon, forecast.dates.front(),
                                        forecast.dates.back(), asked.out));
  }
  return 0;
}

Command predict_command() {
  return {.name = "predict",
          .handler = predict,
          .takes = {"data", "date-column", "date-format", "freq", "no-date", "delimiter", "decimal", "horizon",
                    "device", "threads", "weights", "origin", "out"},
          .arguments = {"RUN"},
          .summary = "forecasts the steps after the end of a CSV, in original units, with dates",
          .example = "samformer predict runs/etth1 --data latest.csv --out forecast.csv"};
}

}  // namespace samformer::tools
