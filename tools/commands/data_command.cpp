// `samformer data check FILE` and `samformer data synth NAME`.
//
// data check reads a file as train would at the same flags and reports everything, refusals and warnings, where train
// stops at the first refusal. Its JSON: schema_version, version, command, file, sha256, rows, channels, targets, step,
// first_date, last_date, split (the rule), splits (as train has them), train_windows, val_windows, test_windows,
// lookback, horizon, findings [{severity, kind, file, line, column, count, message, hint}], holes [{from, to, rows,
// line}], missing [{column, from, to, cells, line}], repair (a command), accepted; where train would refuse also `error`,
// as every failure has. What could not be found out is null. Exit code 0 or 3.
#include <fmt/ostream.h>

#include <algorithm>
#include <span>
#include <sstream>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "core/text.h"
#include "model/data/readers.h"
#include "model/data/repair.h"
#include "model/data/synth.h"
#include "tools/cli/command.h"
#include "tools/cli/text_format.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {
namespace {

using model::Finding;
using model::Severity;

struct Report {
  Experiment experiment;  // without scaler and values; what is wrong with splits and length is among the findings
  std::vector<std::string> channels;  // of the file; none: it could not be read
  bool split = false;

  const model::Series& series() const { return experiment.series; }
  const Finding* refusal() const {
    const auto found =
        std::ranges::find_if(series().findings, [](const Finding& f) { return f.severity == Severity::refuse; });
    return found == series().findings.end() ? nullptr : &*found;
  }
};

Finding refusal_of(const Error& error, std::string kind) {
  return {Severity::refuse, std::move(kind), error.file, error.line, error.column, 1, error.what(), error.advice};
}

Report examine(Settings& settings) {
  Report report;
  model::Series& series = report.experiment.series;
  try {
    series = load_series(settings, series_options(settings));
  } catch (const Error& error) {
    if (error.code != Exit::data) throw;
    series.path = error.file.empty() ? settings.data : error.file;
    series.findings.push_back(refusal_of(error, "unreadable"));
    return report;
  }
  report.channels = series.channels;
  try {
    const std::vector<int> targets = select_targets(series, settings);
    report.experiment.targets.assign(targets.begin(), targets.end());
    report.experiment.splits = choose_shape(settings, series);
    report.split = true;
    model::check_length(series, report.experiment.splits, settings.lookback, settings.horizon);
    if (std::string lost = lost_windows_text(series, report.experiment.splits, settings); !lost.empty()) {
      series.findings.push_back({Severity::warn, "lost-windows", series.path, 0, 0, 1, std::move(lost),
                                 fmt::format("fill the holes in: {}; or take rows as evenly spaced: --holes close",
                                             model::repair_command(series.path, series_options(settings)))});
    }
  } catch (const Error& error) {
    // As in train, what is wrong with the file comes before what is wrong with the flags.
    if (error.code == Exit::data) {
      series.findings.push_back(refusal_of(error, "too-short"));
    } else if (!report.refusal()) {
      throw;
    }
  }
  // Where some rows' dates could not be read, none is shown.
  const bool unread =
      std::ranges::any_of(series.findings, [](const Finding& f) { return f.kind == "date" || f.kind == "ragged"; });
  if (unread) series.dates.clear();
  return report;
}

std::int64_t windows_of(const Report& report, const Settings& settings, model::Span part, bool train) {
  return model::window_count(report.series(), train ? part : model::with_lookback(part, settings.lookback),
                             settings.lookback, settings.horizon);
}

// Where rows or values are absent: what mends the file so that train accepts it. Empty where nothing does.
std::string repair_for(const Report& report, const Settings& settings) {
  const model::Series& series = report.series();
  const auto is_mended = [](const Finding& f) {
    return f.kind == "missing" || f.kind == "date-order" || f.kind == "repeated" || f.kind == "gap" ||
           f.kind == "sentinel";
  };
  if (settings.data == "-" || std::ranges::none_of(series.findings, is_mended)) return "";
  model::SeriesOptions options = series_options(settings);
  // A hole longer than the file is rather a date that is wrong.
  model::Repair rules{.repeats = model::Repeats::first, .longest = series.rows};
  for (const Finding& f : series.findings) {
    if (f.kind == "sentinel") rules.sentinels.push_back(f.found);
  }
  if (options.freq.empty() && !series.step.known()) options.freq = model::grid_of(series.dates).freq();
  const std::string bytes = model::inflate_bounded(model::read_bytes(series.path), series.path);
  const auto try_with = [&](const std::string& zone) {
    options.timezone = zone;
    try {
      const model::Repaired repaired = model::repair(bytes, series.path, options, rules);
      std::string command = model::repair_command(series.path, options);
      for (const std::string& code : rules.sentinels) command += fmt::format(" --sentinel {}", code);
      if (repaired.differing > 0) command += " --duplicates first";
      const std::int64_t season = std::max<std::int64_t>(series.step.season(), 1);
      if (repaired.longest > season) command += fmt::format(" --max-gap {}", repaired.longest);
      return repaired.changes.empty() ? "" : command;
    } catch (const Error& error) {
      if (error.code != Exit::data && error.code != Exit::usage) throw;
      return std::string();
    }
  };
  std::string zone = settings.timezone;
  for (std::size_t t = 1; zone.empty() && is_local(series.date_format) && t < series.dates.size(); ++t) {
    zone = model::zone_of_change(series.dates[t - 1], series.dates[t]);
  }
  const std::string command = try_with(zone);
  return command.empty() && zone != settings.timezone ? try_with(settings.timezone) : command;
}

// "2023-05-27 04:00:00 to 2023-05-28 09:00:00" of rows that are absent before `row`, or of rows from it on.
std::pair<std::string, std::string> ends_of(const model::Series& series, const model::Gap& gap) {
  if (gap.channel >= 0) return {series.date(gap.row), series.date(gap.row + gap.length - 1)};
  return model::ends_of_hole(series.dates[static_cast<std::size_t>(gap.row - 1)], series.step, gap.length, series);
}

template <class T>
Json known(const T& value, bool is_known) {
  return is_known ? Json(value) : Json();
}

Json to_json(const Report& report, const Settings& settings) {
  const model::Series& series = report.series();
  const model::Splits& splits = report.experiment.splits;
  const bool read = !report.channels.empty(), dated = !series.dates.empty();
  const std::vector<std::string> targets = report.experiment.target_names();
  Json findings = Json::array();
  for (const Finding& f : series.findings) {
    findings.push_back({{"severity", f.severity == Severity::refuse ? "refuse" : "warn"},
                        {"kind", f.kind},
                        {"file", f.file},
                        {"line", known(f.line, f.line > 0)},
                        {"column", known(f.column, f.column > 0)},
                        {"count", f.count},
                        {"message", f.message},
                        {"hint", known(f.hint, !f.hint.empty())}});
  }
  Json holes = Json::array(), missing = Json::array();
  for (const model::Gap& gap : model::gaps_of(series)) {
    const auto [from, to] = ends_of(series, gap);
    Json entry;
    if (gap.channel >= 0) entry["column"] = series.channels[static_cast<std::size_t>(gap.channel)];
    entry.update(Json{{"from", from}, {"to", to}, {gap.channel < 0 ? "rows" : "cells", gap.length}});
    entry["line"] = series.lines[static_cast<std::size_t>(gap.row)];
    (gap.channel < 0 ? holes : missing).push_back(std::move(entry));
  }
  const std::string repair = repair_for(report, settings);
  Json result = document("data check");
  result.update(Json{{"file", series.path},
                     {"sha256", known(series.sha256, read)},
                     {"rows", known(series.rows, read)},
                     {"channels", known(report.channels, read)},
                     {"targets", known(targets, !targets.empty())},
                     {"step", known(series.step.name(), series.step.known())},
                     {"first_date", dated ? Json(series.date(0)) : Json()},
                     {"last_date", dated ? Json(series.date(series.rows - 1)) : Json()},
                     {"split", known(splits.rule, report.split)},
                     {"splits", report.split ? splits_json(report.experiment) : Json()},
                     {"train_windows", known(windows_of(report, settings, splits.train, true), report.split)},
                     {"val_windows", known(windows_of(report, settings, splits.val, false), report.split)},
                     {"test_windows", known(windows_of(report, settings, splits.test, false), report.split)},
                     {"lookback", settings.lookback},
                     {"horizon", settings.horizon},
                     {"findings", findings},
                     {"holes", holes},
                     {"missing", missing},
                     {"repair", known(repair, !repair.empty())},
                     {"accepted", report.refusal() == nullptr}});
  if (const Finding* const refusal = report.refusal()) result["error"] = error_json(error_of(*refusal));
  return result;
}

// The training that was asked about, with the same flags.
std::string train_command(const Invocation& invocation, const std::string& file) {
  return fmt::format("samformer train --data {}{}", shell_quoted(file), given_flags(invocation.resolved));
}

void print_gaps(const model::Series& series, std::ostream& out) {
  constexpr std::size_t listed = 5;
  std::vector<model::Gap> gaps = model::gaps_of(series);
  std::ranges::stable_sort(gaps, std::greater(), &model::Gap::length);
  for (const bool rows : {true, false}) {
    Table table("llrl",
                {rows ? "absent from" : "missing from", "to", rows ? "rows" : "values", rows ? "line" : "column"});
    std::size_t count = 0;
    for (const model::Gap& gap : gaps) {
      if ((gap.channel < 0) != rows || ++count > listed) continue;
      const auto [from, to] = ends_of(series, gap);
      table.row({from, to, fmt::format("{}", gap.length),
                 rows ? fmt::format("{}", series.lines[static_cast<std::size_t>(gap.row)])
                      : series.channels[static_cast<std::size_t>(gap.channel)]});
    }
    if (count == 0) continue;
    fmt::print(out, "\n{}", table.str());
    if (count > listed) fmt::print(out, "and {} more: --json lists all\n", count - listed);
  }
}

void print_report(const Report& report, const Settings& settings, std::ostream& out) {
  const model::Series& series = report.series();
  for (const Finding& f : series.findings) {
    fmt::print(out, "{}: {}: {}\n", f.severity == Severity::refuse ? "refused" : "warning",
               shown(place_text(f.file, f.line, f.column)), shown(f.message));
    if (!f.hint.empty()) fmt::print(out, "  hint: {}\n", shown(f.hint));
  }
  if (report.channels.empty()) return;
  if (!series.findings.empty()) out << '\n';

  constexpr std::size_t listed = 12;
  const std::span names(report.channels.data(), std::min(listed, report.channels.size()));
  const std::vector<std::string> targets = report.experiment.target_names();
  const auto dates = [&](model::Span rows) {
    if (rows.size() <= 0) return std::string("no rows");
    return fmt::format("{} to {}", series.date(rows.first), series.date(rows.last - 1));
  };
  Table table("ll", {"file", series.path});
  table.row({"SHA-256", series.sha256});
  table.row({"rows", fmt::format("{}", series.rows)});
  table.row({"channels", fmt::format("{}: {}{}", report.channels.size(), join(names, ", "),
                                     report.channels.size() > listed ? ", ..." : "")});
  if (settings.features != "M") table.row({"targets", join(targets, ", ")});
  table.row({"step", series.step.name()});
  table.row({"dates", dates({0, series.rows})});
  if (report.split) {
    const model::Splits& splits = report.experiment.splits;
    const auto add = [&](const char* name, model::Span part, bool train) {
      table.row({name, fmt::format("{} rows, {} windows, {}", part.size(), windows_of(report, settings, part, train),
                                   dates(part))});
    };
    table.row({"split", splits.rule});
    add("  train", splits.train, true);
    add("  validation", splits.val, false);
    add("  test", splits.test, false);
  }
  out << table.str();
  print_gaps(series, out);
}

// data synth's own; 0: as the series has.
struct SynthSettings {
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  bool holes = false;
  bool bad_cells = false;
};

int data_check(const Invocation& invocation) {
  Settings settings = invocation.settings;
  settings.data = invocation.arguments.at(0);
  const Report report = examine(settings);
  std::ostream& out = invocation.out;
  const bool accepted = report.refusal() == nullptr;
  if (settings.json) {
    print(to_json(report, settings), out);
  } else {
    print_report(report, settings, out);
    const auto warnings = std::ranges::count(report.series().findings, Severity::warn, &Finding::severity);
    const auto refusals = static_cast<std::ptrdiff_t>(report.series().findings.size()) - warnings;
    fmt::print(out, "\ntrain would {} this file at look-back {} and horizon {}: {} reason{} to refuse, {} warning{}\n",
               accepted ? "accept" : "refuse", settings.lookback, settings.horizon, refusals, refusals == 1 ? "" : "s",
               warnings, warnings == 1 ? "" : "s");
    if (const std::string repair = repair_for(report, settings); !repair.empty()) fmt::print(out, "\n{}\n", repair);
    if (accepted) fmt::print(out, "\n{}\n", train_command(invocation, settings.data));
  }
  return accepted ? 0 : static_cast<int>(Exit::data);
}

int data_synth(const Invocation& invocation) {
  const Settings& settings = invocation.settings;
  const std::string& name = invocation.arguments.at(0);
  const std::span<const std::string_view> names = model::synthetic_names();
  if (std::ranges::find(names, name) == names.end()) {
    throw Error(Exit::usage, fmt::format("'{}' is no built-in series", name))
        .hint(fmt::format("one of {}", join(names, ", ")));
  }
  if (settings.json && settings.out.empty()) {
    throw Error(Exit::usage, "--json needs --out: standard output holds either the CSV or the document")
        .hint(fmt::format("samformer data synth {} --out {}.csv --json", name, name));
  }
  const auto asked = settings.of<SynthSettings>();
  const model::Synthetic made =
      model::make_synthetic(name, {asked.rows, asked.channels, static_cast<std::uint64_t>(settings.seed), asked.holes,
                                   asked.bad_cells, settings.timezone});
  const model::Series& series = made.series;
  double one_step = 0, mean = 0, forecast = 0;
  for (std::size_t c = 0; c < made.mean.size(); ++c) {
    if (std::isnan(made.mean[c])) continue;
    one_step += made.one_step[c], mean += made.mean[c], ++forecast;
  }
  invocation.console.info(fmt::format(
      "noise floor (mean squared error in original units, mean of {} channels): {:.4f} one step ahead, {:.4f} over "
      "{} steps; standardised {:.4f}",
      forecast, one_step / forecast, mean / forecast, made.horizon, made.standardised));
  if (settings.out.empty()) {
    model::write_csv(invocation.out, series);
    return 0;
  }
  std::ostringstream text;
  text.exceptions(std::ios::badbit);  // std::bad_alloc
  model::write_csv(text, series);
  write_atomic(settings.out, text.view());
  const std::string hash = sha256(bytes_of(text.view()));
  if (!settings.json) {
    fmt::print(invocation.out, "{}\n{} rows, {} channels, SHA-256 {}\n\nsamformer train --data {}\n", settings.out,
               series.rows, series.width(), hash,
               shell_quoted(settings.out.find('/') == std::string::npos ? "./" + settings.out : settings.out));
    return 0;
  }
  Json floors = Json::array();
  for (std::size_t c = 0; c < made.mean.size(); ++c) {
    if (std::isnan(made.mean[c])) continue;
    floors.push_back({{"name", series.channels[c]},
                      {"one_step", made.one_step[c]},
                      {fmt::format("steps_1_to_{}", made.horizon), made.mean[c]}});
  }
  Json result = document("data synth");
  result.update(Json{{"name", name},
                     {"file", settings.out},
                     {"sha256", hash},
                     {"rows", series.rows},
                     {"channels", series.channels},
                     {"step", series.step.name()},
                     {"seed", settings.seed},
                     {"noise_floor", floors},
                     {"noise_floor_standardised", number_or_null(made.standardised)}});
  print(result, invocation.out);
  return 0;
}

}  // namespace

Command data_check_command() {
  return {.name = "data check",
          .handler = data_check,
          .takes = {"features",     "target",  "past",      "future",      "future-for",  "calendar",
                    "future-basis", "columns", "drop",      "date-column", "date-format", "freq",
                    "timezone",     "no-date", "delimiter", "decimal",     "holes",       "split",
                    "lookback",     "horizon", "config",    "print-config"},
          .arguments = {"FILE"},
          .summary = "finds what train would refuse or warn of: gaps, missing values, dates out of order, ...",
          .example = "samformer data check sales.csv --horizon 30 --lookback 90"};
}

Command data_synth_command() {
  return {.name = "data synth",
          .handler = data_synth,
          .takes = {"seed", "timezone", "out"},
          .options = {{.name = "rows",
                       .member = at(&SynthSettings::rows),
                       .value_name = "N",
                       .default_text = "seasonal 6000, load 17544, sales 1096, promo 1461, monthly 180",
                       .range = from_one},
                      {.name = "channels",
                       .member = at(&SynthSettings::channels),
                       .value_name = "N",
                       .help = "seasonal; of load sites, of sales and promo items, of monthly regions",
                       .default_text = "7, 12, 40, 8",
                       .range = from_one},
                      {.name = "cut-holes",
                       .member = at(&SynthSettings::holes),
                       .help = "load: 37 of the training rows absent"},
                      {.name = "bad-cells",
                       .member = at(&SynthSettings::bad_cells),
                       .help = "load: 22 cells of the training rows empty, one -9999"}},
          .arguments = {"seasonal|load|sales|promo|monthly"},
          .summary = "writes a built-in series, whose noise floor is known",
          .example = "samformer data synth seasonal --rows 2000 --out seasonal.csv",
          .texts = {{"seed", "of the noise"},
                    {"timezone", "whose clocks the hours are of: Europe/Berlin"},
                    {"out", "the CSV file", "stdout"}}};
}

}  // namespace samformer::tools
