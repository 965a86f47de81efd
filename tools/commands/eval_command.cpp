// `samformer eval RUN`: the test protocol on a trained run, optionally on another file: the run's scaler, the run's
// split rule on that file. Windows that overlap the training span are counted and said.
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include "model/data/repair.h"
#include "tools/cli/command.h"
#include "tools/report/page.h"
#include "tools/run/automatic.h"
#include "tools/run/forecast_file.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"
#include "tools/run/stored_json.h"

namespace samformer::tools {
namespace fs = std::filesystem;

namespace {

struct EvalSettings {
  std::string part = "test";
  std::string forecasts;  // empty: not written
};

model::Span rows_of(const std::string& part, const Experiment& e, std::int64_t lookback) {
  if (part == "train") return e.splits.train;
  if (part == "all") return {0, e.series.rows};
  return model::with_lookback(part == "val" ? e.splits.val : e.splits.test, lookback);
}

// The same of a panel: a series that the run knows was trained on up to a date of its own.
std::int64_t overlapping_of_panel(std::span<const std::int32_t> starts, const Checkpoint& run, const Panel& panel) {
  std::map<std::string_view, std::optional<model::Stamp>> until;
  for (std::size_t i = 0; run.panel && i < run.panel->ids.size(); ++i) {
    until[run.panel->ids[i]] = model::read_date(panel.file, run.panel->until[i]);
  }
  std::int64_t count = 0;
  for (const std::int32_t start : starts) {
    const Panel::Piece& piece = panel.piece_at(start);
    const auto found = until.find(panel.file.panel[static_cast<std::size_t>(piece.member)].id);
    if (found == until.end() || !found->second) continue;
    const auto first = static_cast<std::size_t>(start - piece.rows.first + piece.source);
    count += model::compare(panel.file.dates[first], *found->second) <= 0;
  }
  return count;
}

// Windows (look-back or truth) that touch the span the weights were trained on: by date where both sides have dates,
// by row on the run's own file.
std::int64_t overlapping(std::span<const std::int32_t> starts, const Checkpoint& run, const Experiment& e,
                         std::int64_t length, bool final_weights) {
  const auto from = model::read_date(e.series, run.trained_from), until = model::read_date(e.series, run.trained_until);
  const bool dated = !e.series.dates.empty() && from && until;
  if (e.panel) return overlapping_of_panel(starts, run, *e.panel);
  const bool own = e.series.sha256 == run.data_sha256;
  if (!dated && !own) return 0;
  const model::Span trained = final_weights ? model::Span{0, e.series.rows} : run.splits.train;
  std::int64_t count = 0;
  for (const std::int32_t start : starts) {
    const std::int64_t first = start, last = start + length - 1;
    const bool touches = dated ? model::compare(e.series.dates[static_cast<std::size_t>(first)], *until) <= 0 &&
                                     model::compare(e.series.dates[static_cast<std::size_t>(last)], *from) >= 0
                               : first < trained.last && last >= trained.first;
    count += touches;
  }
  return count;
}

// What the run's own result says of its training; null where it has none.
void add_training(Json& document, const fs::path& checkpoint) {
  Json result = Json::object();
  if (const fs::path path = checkpoint.parent_path() / "result.json"; fs::exists(path)) {
    const StoredJson stored = read_json(path, "remove the file: `eval` needs the weights alone");
    check_fields(stored, {});
    result = stored.json();
  }
  for (const char* name :
       {"epochs_run", "best_epoch", "stopped_by", "train_loss", "val_mse", "seconds_training", "seconds_per_epoch"}) {
    document[name] = result.value(name, Json());
  }
}

// What a run is evaluated on.
struct Part {
  Settings settings;  // the run's, with what was asked for
  Experiment experiment;
  std::vector<std::int32_t> starts;
};

Part part_of(const Checkpoint& run, const Invocation& invocation) {
  const std::string part = invocation.settings.of<EvalSettings>().part;
  Settings settings = settings_on_run(run.settings, invocation.resolved);
  Experiment e = experiment_of(run, settings, invocation.console, part == "all");
  const model::Span rows = rows_of(part, e, settings.lookback);
  const std::int64_t all = rows.first < 0 ? 0 : model::window_count(rows, settings.lookback, settings.horizon);
  if (all == 0) {
    throw Error(Exit::data, fmt::format("no window of {} + {} steps for the {} part (split {}) of {} rows",
                                        settings.lookback, settings.horizon, part, e.splits.rule, e.series.rows))
        .at(e.series.path)
        .hint("choose another --part (all takes every row), or a longer file");
  }
  settings.data = e.series.path;
  auto starts = model::window_starts(e.series, rows, settings.lookback, settings.horizon);
  if (starts.empty()) {
    throw Error(Exit::data, fmt::format("every window of the {} part crosses absent rows", part))
        .at(e.series.path)
        .hint(fmt::format("fill the holes in: {}; or take rows as evenly spaced: --holes close",
                          model::repair_command(e.series.path, series_options(settings))));
  }
  if (const std::int64_t lost = all - std::ssize(starts); lost > 0 && !e.panel) {
    invocation.console.warning(fmt::format("windows across absent rows are left out: {} of {}", lost, all));
  }
  return {std::move(settings), std::move(e), std::move(starts)};
}

// `least_squares`: the fit's weights, for write_forecasts().
Json evaluate(std::span<const Checkpoint> models, const Part& part, const Invocation& invocation,
              const ChosenDevice& device, std::vector<float>& least_squares) {
  const auto& [settings, e, starts] = part;
  const Checkpoint& run = models[0];
  Json document = describe("eval", settings, e, run.model, device);
  document["run_dir"] = run.path.has_parent_path() ? run.path.parent_path().string() : ".";
  document["weights"] = run.path.filename().string();
  document["part"] = invocation.settings.of<EvalSettings>().part;
  document["windows"] = starts.size();
  add_training(document, run.path);
  Scores scores = score(models, e, starts, settings, device);
  if (!std::isfinite(scores.model.mse())) {
    throw Error(Exit::diverged, fmt::format("the forecasts overflow: their error is {}", scores.model.mse()))
        .at(run.path.string())
        .hint(
            "look at the rows with `samformer data check`; if they are right, train again with a smaller --lr or "
            "--rho");
  }
  add_scores(document, scores, e);
  least_squares = std::move(scores.least_squares);
  document["peak_memory_bytes"] = peak_memory_bytes();
  document["weights_sha256"] = run.sha256;
  if (!run.member.empty()) describe_members(document, models);
  const std::int64_t seen =
      overlapping(starts, run, e, settings.lookback + settings.horizon, run.path.filename() == "final.safetensors");
  document["windows_overlapping_training"] = seen;
  if (seen > 0) {
    invocation.console.warning(
        fmt::format("{} of {} windows overlap the rows that the model was trained on", seen, starts.size()));
  }
  write_eval_report(invocation, document, models, settings, e, starts);
  return document;
}

// Whether errors of the mean of two runs' forecasts mean something: the same forecast in the same units.
bool comparable(const Checkpoint& a, const Checkpoint& b) {
  return a.columns == b.columns && a.targets == b.targets && a.scaler.mean == b.scaler.mean &&
         a.scaler.std == b.scaler.std && a.settings.lookback == b.settings.lookback &&
         a.settings.horizon == b.settings.horizon;
}

}  // namespace

int eval(const Invocation& invocation) {
  const Settings& settings = invocation.settings;
  std::vector<Checkpoint> runs =
      read_run_to_keep(invocation.arguments[0], settings.weights.empty() ? "best" : settings.weights);
  choose_member(runs, settings.member);
  const bool members = !runs[0].member.empty();  // one forecast, their mean
  const ChosenDevice device = select_device(settings);
  const std::string forecasts = settings.of<EvalSettings>().forecasts;
  const std::vector<double> levels = levels_of(settings);
  const bool alike = std::ranges::all_of(runs, [&](const Checkpoint& run) { return comparable(run, runs.back()); });
  if (!(forecasts.empty() && levels.empty()) && !alike) {
    throw Error(Exit::usage,
                "--forecasts, --intervals: the seeds of this run differ in columns, scale, look-back or horizon")
        .hint(fmt::format("evaluate one of them: {}", runs.front().path.parent_path().string()));
  }
  std::vector<Json> documents;
  Json together, intervals;
  for (const Checkpoint& run : runs) {
    if (members && &run != &runs.back()) continue;
    const Part part = part_of(run, invocation);
    std::vector<float> least_squares;
    documents.push_back(evaluate(members ? std::span<const Checkpoint>(runs) : std::span(&run, 1), part, invocation,
                                 device, least_squares));
    if (&run != &runs.back()) continue;
    if (alike) together = ensemble(runs, part.experiment, part.starts, device);
    std::vector<float> halves;
    if (!levels.empty()) {
      const IntervalScores scores = score_intervals(runs, part.experiment, part.starts, levels, settings.calibration,
                                                    device, forecasts.empty() ? nullptr : &halves);
      intervals = interval_document(scores, part.experiment, part.settings.lookback, settings.calibration);
      if (intervals.is_null()) {
        invocation.console.warning(too_few_for_intervals(levels));
      }
    }
    if (!forecasts.empty()) {
      const std::int64_t rows =
          write_forecasts(forecasts, runs, part.experiment, part.starts, least_squares, levels, halves, device);
      invocation.console.info(fmt::format("{} forecasts written to {}", rows, forecasts));
    }
  }
  Json document = documents[0];
  if (documents.size() > 1) {
    document = summarise("eval", invocation.arguments[0], std::move(documents));
    document["ensemble"] = std::move(together);
  }
  if (!forecasts.empty()) document["forecasts"] = forecasts;
  if (!levels.empty()) document["intervals"] = std::move(intervals);
  if (settings.json) {
    print(document, invocation.out);
  } else {
    print_result(invocation.out, document);
  }
  return 0;
}

Command eval_command() {
  return {.name = "eval",
          .handler = eval,
          .takes = {"data", "date-column", "date-format", "freq", "timezone", "no-date", "delimiter", "decimal", "id",
                    "value-column", "holes", "calendar", "device", "threads", "weights", "member", "intervals",
                    "calibration", "out"},
          .options = {{.name = "part",
                       .member = at(&EvalSettings::part),
                       .help = "which rows of the file",
                       .choices = {"test", "val", "train", "all"}},
                      {.name = "forecasts",
                       .member = at(&EvalSettings::forecasts),
                       .value_name = "FILE",
                       .help = "every forecast beside truth and baselines, as CSV in the file's units",
                       .default_text = "none"}},
          .arguments = {"RUN"},
          .summary = "runs the test protocol on a trained run, or on other data with it",
          .example = "samformer eval runs/etth1 --data ETTh2.csv --part all",
          .texts = {{"weights", "best: the tested ones; final: refitted on all rows", "best"},
                    {"out", "folder of the results", "RUN/eval"}}};
}

}  // namespace samformer::tools
