// `samformer forecast FILE`: what most people want of the program, in one command: the file is checked, `train --auto
// --refit` chooses and fits a model, `predict` writes FOLDER/forecast.csv, and FOLDER/report.html shows both.
#include <sstream>

#include "core/text.h"
#include "tools/commands/commands.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

constexpr std::size_t shown_rows = 5;

const Command& command_named(std::string_view name) {
  for (const Command& command : commands()) {
    if (command.name == name) return command;
  }
  throw Error(Exit::internal, fmt::format("no command {}", name));
}

// What another command gives as JSON when it is run with these settings.
Json run(std::string_view name, const Invocation& from, Resolved resolved, std::vector<std::string> arguments) {
  std::ostringstream out;
  resolved.settings.json = true;
  command_named(name).handler({resolved, resolved.settings, std::move(arguments), out, from.console, from.flags});
  return Json::parse(out.view());
}

int forecast(const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  const std::string& file = invocation.arguments[0];
  if (file == "-") {
    throw Error(Exit::usage, "forecast reads its file twice: standard input cannot be read again")
        .hint("save it to a file first");
  }
  Resolved train = invocation.resolved;
  train.settings.data = file;
  train.origins["data"] = {Layer::flag, "argument"};
  train.settings.automatic = train.settings.refit = true;
  {  // What would end the forecast is said before anything is trained.
    Settings settings = train.settings;
    Experiment e;
    const model::SeriesOptions options = series_options(settings);
    e.series = load_series(settings, options);
    model::require_clean(e.series);
    if (!e.series.dates.empty()) model::require_step(e.series, e.series.step);
    shape(e, settings);
    model::require_lookback(e.series, options, settings.lookback,
                            asked.origin.empty() ? e.series.rows - 1 : model::find_row(e.series, asked.origin));
    if (!asked.overwrite && holds_run(asked.out)) {
      throw Error(Exit::usage, fmt::format("'{}' already holds a run", asked.out))
          .hint("replace it with --overwrite, or give another --out");
    }
  }
  const Json trained = run("train", invocation, train, {});

  const std::string folder = trained["run_dir"], csv = folder + "/forecast.csv";
  Resolved predict = invocation.resolved;
  predict.settings.out = csv;
  // How the file is read is part of the run.
  std::erase_if(predict.origins, [](const auto& origin) { return find_option(origin.first)->stored; });
  const Json predicted = run("predict", invocation, predict, {folder});

  if (asked.json) {
    Json result = document("forecast");
    result.update(Json{{"run_dir", folder}, {"out", csv}, {"train", trained}, {"predict", predicted}});
    print(result, invocation.out);
    return 0;
  }
  print_result_table(invocation.out, trained);
  const std::string text = read_file(csv);
  std::size_t end = 0;
  for (std::size_t line = 0; line <= shown_rows && end != text.npos; ++line) end = text.find('\n', end + 1);
  invocation.out << '\n'
                 << shown_lines(text.substr(0, end)) << (end == text.npos || end + 1 >= text.size() ? "" : "\n...");
  invocation.out << fmt::format("\nforecast  {}\n", shown(csv));
  if (trained.contains("test_mse")) invocation.out << fmt::format("page      {}/report.html\n", shown(folder));
  return 0;
}

}  // namespace

Command forecast_command() {
  return {
      .name = "forecast",
      .handler = forecast,
      .takes = {"features",  "target",      "past",        "future",      "future-for", "calendar",  "future-basis",
                "columns",   "drop",        "date-column", "date-format", "freq",       "timezone",  "no-date",
                "delimiter", "decimal",     "holes",       "split",       "lookback",   "horizon",   "season",
                "late",      "Training",    "Machine",     "out",         "origin",     "overwrite", "config",
                "intervals", "calibration", "min",         "max",         "decimals",   "integers",  "print-config"},
      .arguments = {"FILE"},
      .summary = "forecasts a file's next steps: checks it, chooses among models and naive forecasts, refits",
      .example = "samformer forecast sales.csv --horizon 28 --out runs/sales"};
}

}  // namespace samformer::tools
