// `samformer data repair FILE`: rows in order, one a time step, none absent, no cell without a value
// (model/data/repair.h). Its JSON: schema_version, version, command, file, out, sha256 (of out), rows, rows_inserted,
// rows_removed, rows_moved, cells_filled, sentinels, cells_averaged, clock_changes, changes (the file, or null). The
// file --changes has one line a change: line, column, old, new, rule.
#include <fmt/ostream.h>

#include <filesystem>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "core/text.h"
#include "model/data/readers.h"
#include "model/data/repair.h"
#include "tools/cli/command.h"
#include "tools/cli/text_format.h"
#include "tools/run/datasets.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {
namespace {

namespace fs = std::filesystem;

struct RepairSettings {
  std::string gaps = "insert";
  std::string missing = "linear";
  std::int64_t max_gap = 0;  // 0: a season
  std::vector<std::string> sentinel;
  std::string duplicates;  // empty: refused
  std::string changes;
};

model::Repair rules_of(const RepairSettings& s) {
  return {.insert = s.gaps == "insert",
          .fill = s.missing == "seasonal"  ? model::Fill::seasonal
                  : s.missing == "forward" ? model::Fill::forward
                                           : model::Fill::linear,
          .repeats = s.duplicates == "first"  ? model::Repeats::first
                     : s.duplicates == "last" ? model::Repeats::last
                     : s.duplicates == "mean" ? model::Repeats::mean
                                              : model::Repeats::refuse,
          .longest = s.max_gap,
          .sentinels = s.sentinel};
}

std::string csv_text(const std::vector<model::Change>& changes) {
  std::string text = "line,column,old,new,rule\n";
  for (const model::Change& c : changes) {
    text +=
        fmt::format("{},{},{},{},{}\n", c.line, csv_field(c.column), csv_field(c.before), csv_field(c.after), c.rule);
  }
  return text;
}

int data_repair(const Invocation& invocation) {
  const Settings& settings = invocation.settings;
  const auto& own = settings.of<RepairSettings>();
  const std::string& name = invocation.arguments.at(0);
  if (settings.json && settings.out.empty()) {
    throw Error(Exit::usage, "--json needs --out: standard output holds either the CSV or the document")
        .hint("name the repaired file: --out repaired.csv");
  }
  const auto place = [](const std::string& file) { return fs::weakly_canonical(fs::absolute(file)); };
  if (!own.changes.empty() && !settings.out.empty() && place(own.changes) == place(settings.out)) {
    throw Error(Exit::usage, "--changes and --out name the same file").hint("name two files");
  }
  const std::string path = name == "-" ? name : find_dataset(name).string();
  never_replace(path == "-" ? "/dev/stdin" : path);
  const std::string bytes = model::inflate_bounded(model::read_bytes(path), path);
  const model::Repaired repaired = model::repair(bytes, path, series_options(settings), rules_of(own));

  if (!repaired.has_step && own.gaps == "insert" && !settings.no_date) {
    invocation.console.warning("the rows have no regular step, so that none is absent: name it with --freq");
  }
  if (!own.changes.empty()) write_atomic(own.changes, csv_text(repaired.changes));
  const auto count = [](std::int64_t n, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", n, n == 1 ? one : many);
  };
  const std::string what = fmt::format("{} inserted, {} removed, {} moved; {} filled in, {} replaced, {} averaged",
                                       count(repaired.inserted, "row", "rows"), repaired.removed, repaired.moved,
                                       count(repaired.filled, "cell", "cells"),
                                       count(repaired.sentinels, "sentinel", "sentinels"), repaired.averaged);
  if (settings.out.empty()) {
    invocation.console.info(what);
    invocation.out << repaired.text;
    return 0;
  }
  write_atomic(settings.out, repaired.text);
  if (settings.json) {
    Json result = document("data repair");
    result.update(Json{{"file", path},
                       {"out", settings.out},
                       {"sha256", sha256(bytes_of(repaired.text))},
                       {"rows", repaired.rows},
                       {"rows_inserted", repaired.inserted},
                       {"rows_removed", repaired.removed},
                       {"rows_moved", repaired.moved},
                       {"cells_filled", repaired.filled},
                       {"sentinels", repaired.sentinels},
                       {"cells_averaged", repaired.averaged},
                       {"clock_changes", repaired.clock_changes},
                       {"changes", own.changes.empty() ? Json() : Json(own.changes)}});
    print(result, invocation.out);
    return 0;
  }
  Table table("ll", {"repaired", settings.out});
  table.row({"rows", fmt::format("{}: {} inserted, {} removed, {} moved", repaired.rows, repaired.inserted,
                                 repaired.removed, repaired.moved)});
  table.row({"cells", fmt::format("{} filled in, {} sentinel{} replaced, {} averaged", repaired.filled,
                                  repaired.sentinels, repaired.sentinels == 1 ? "" : "s", repaired.averaged)});
  if (!settings.timezone.empty()) {
    table.row({"clock", fmt::format("{} changes of {}, left as they are", repaired.clock_changes, settings.timezone)});
  }
  if (!own.changes.empty()) table.row({"changes", own.changes});
  const std::string& out = settings.out;
  fmt::print(invocation.out, "{}\nsamformer train --data {}{}\n", table.str(),
             shell_quoted(out.find('/') == out.npos ? "./" + out : out), given_flags(invocation.resolved));
  return 0;
}

}  // namespace

Command data_repair_command() {
  return {
      .name = "data repair",
      .handler = data_repair,
      .takes = {"columns", "drop", "date-column", "date-format", "freq", "timezone", "no-date", "delimiter", "decimal",
                "out", "config", "print-config"},
      .options = {{.name = "gaps",
                   .member = at(&RepairSettings::gaps),
                   .help = "rows that are absent are inserted, or stay absent",
                   .choices = {"insert", "keep"}},
                  {.name = "missing",
                   .member = at(&RepairSettings::missing),
                   .help = "how values are filled in: between those around, from the seasons around, the one before",
                   .choices = {"linear", "seasonal", "forward"}},
                  {.name = "max-gap",
                   .member = at(&RepairSettings::max_gap),
                   .value_name = "N",
                   .help = "most rows or values in one run",
                   .default_text = "a season",
                   .range = from_one},
                  {.name = "sentinel",
                   .member = at(&RepairSettings::sentinel),
                   .value_name = "V,..",
                   .help = "numbers or words that stand for a missing value: -9999"},
                  {.name = "duplicates",
                   .member = at(&RepairSettings::duplicates),
                   .help = "of rows with one date and different values",
                   .default_text = "refused",
                   .choices = {"first", "last", "mean"}},
                  {.name = "changes",
                   .member = at(&RepairSettings::changes),
                   .value_name = "FILE",
                   .help = "one line a change: line, column, old, new, rule"}},
      .arguments = {"FILE"},
      .summary = "sorts rows, inserts absent ones, fills missing values in; all else stays byte for byte",
      .example = "samformer data repair load.csv --max-gap 36 --sentinel -9999 --out load-repaired.csv",
      .texts = {{"out", "the CSV file", "stdout"}}};
}

}  // namespace samformer::tools
