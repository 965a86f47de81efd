// `samformer predict RUN`: the next steps after the end of a CSV, in original units, as CSV with dates.
#include "core/text.h"
#include "tools/cli/command.h"
#include "tools/run/automatic.h"
#include "tools/run/prediction.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

// The rows of --future-data; nothing without.
std::optional<model::Series> future_of(const Checkpoint& run, const Settings& settings, const std::string& path,
                                       Console& console) {
  if (path.empty()) return std::nullopt;
  Settings read = settings_of_future(settings);
  read.data = path;
  model::Series future = load_series(read, series_options(read));
  check_future(run, future, console);
  return future;
}

// {date, ...} of each step: of a panel's series its value, else the values of all columns.
Json steps_json(const Forecast& f, const Forecast::Part& part) {
  Json steps = Json::array();
  for (std::size_t h = 0; h < f.steps(); ++h) {
    const std::string* const row = part.texts.data() + h * f.width();
    // Of the columns, by the place of each.
    const auto numbers = [&](const auto& place) {
      Json all = Json::array();
      for (std::size_t t = 0; t < f.columns.size(); ++t) all.push_back(number_of(row[place(t)]));
      return f.long_form ? all[0] : all;
    };
    Json step = {{"date", f.dates[part.dates][h]},
                 {f.long_form ? "value" : "values", numbers([](std::size_t t) { return t; })}};
    for (std::size_t k = 0; k < f.levels.size(); ++k) {
      step["intervals"].push_back({{"level", number_of(f.levels[k])},
                                   {"low", numbers([&](std::size_t t) { return f.end_of(t, k); })},
                                   {"high", numbers([&](std::size_t t) { return f.end_of(t, k) + 1; })}});
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace

int predict(const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  const std::string& argument = invocation.arguments[0];
  std::vector<Checkpoint> runs = read_run_to_keep(argument, asked.weights);
  choose_member(runs, asked.member);
  const Checkpoint& first = runs[0];
  const Settings settings = settings_of_prediction(first, invocation.resolved);
  const ChosenDevice device = select_device(asked);
  const model::Series series =
      series_of(first, settings, options_of_prediction(first, settings, invocation.resolved), invocation.console);
  const std::optional<model::Series> future =
      future_of(first, settings, asked.of<PredictSettings>().future_data, invocation.console);
  const Forecast f = predict_after(runs, settings, invocation.resolved, series, future ? &*future : nullptr, device,
                                   invocation.console);

  const std::string text = csv(f, series);
  if (!asked.out.empty()) write_atomic(asked.out, text);
  if (asked.json) {
    Json result = document("predict");
    result.update(Json{{"run_dir", argument},
                       {"weights", first.path.filename().string()},
                       {"models", runs.size()},
                       {"data_path", series.path},
                       {"data_sha256", series.sha256}});
    if (!f.long_form) result["origin"] = f.parts[0].origin;
    result.update(Json{{"trained_until", first.trained_until.empty() ? Json(nullptr) : Json(first.trained_until)},
                       {"horizon", f.steps()},
                       {"device", device.name},
                       {"out", asked.out.empty() ? Json(nullptr) : Json(asked.out)}});
    if (f.long_form) {
      result.update(Json{{"padded", f.padded}, {"unseen", f.unseen}, {"series", Json::array()}});
      for (const Forecast::Part& part : f.parts) {
        result["series"].push_back({{"id", part.id}, {"origin", part.origin}, {"forecast", steps_json(f, part)}});
      }
    } else {
      result.update(Json{{"columns", f.columns}, {"forecast", steps_json(f, f.parts[0])}});
    }
    print(result, invocation.out);
  } else if (asked.out.empty()) {
    invocation.out << text;
  } else if (f.long_form) {
    invocation.console.info(
        fmt::format("{} series, {} steps each, written to {}", f.parts.size(), f.steps(), asked.out));
  } else {
    invocation.console.info(
        fmt::format("{} steps, {} .. {}, written to {}", f.steps(), f.dates[0].front(), f.dates[0].back(), asked.out));
  }
  return 0;
}

Command predict_command() {
  return {
      .name = "predict",
      .handler = predict,
      .takes = {"data",    "date-column", "date-format",  "freq",   "timezone",  "no-date",     "delimiter",
                "decimal", "id",          "value-column", "holes",  "calendar",  "horizon",     "device",
                "threads", "weights",     "member",       "origin", "intervals", "calibration", "out"},
      .options = {{.name = "min",
                   .member = at(&PredictSettings::min),
                   .value_name = "X",
                   .help = "no value below it",
                   .default_text = "none",
                   .range = finite},
                  {.name = "max",
                   .member = at(&PredictSettings::max),
                   .value_name = "X",
                   .help = "no value above it",
                   .default_text = "none",
                   .range = finite},
                  {.name = "decimals",
                   .member = at(&PredictSettings::decimals),
                   .value_name = "N",
                   .help = "digits behind the point",
                   .default_text = "as many as float32 has",
                   .range = {.low = 0, .high = 15}},
                  {.name = "future-data",
                   .member = at(&PredictSettings::future_data),
                   .value_name = "FILE",
                   .help = "what is known ahead of the steps, where the data does not go on with it"},
                  {.name = "integers", .member = at(&PredictSettings::integers), .help = "the same as --decimals 0"}},
      .arguments = {"RUN"},
      .summary = "forecasts the steps after the end of a CSV, in original units, with dates",
      .example = "samformer predict runs/etth1 --data latest.csv --out forecast.csv",
      .texts = {{"data", "CSV file or name of a series to forecast after; - is stdin"},
                {"horizon", "steps to forecast, up to the run's"},
                {"weights", "best: the tested ones; final: refitted on all rows", "final if there"},
                {"out", "the CSV file", "stdout"}}};
}

}  // namespace samformer::tools
