// `samformer train`: one model on one series, tested once; --seeds repeats it, --resume takes it up again.
// --tune trains FOLDER/tune-* first and goes on as the one with the lowest validation error.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <mutex>
#include <vector>

#include "tools/cli/command.h"
#include "tools/cli/signals.h"
#include "tools/report/page.h"
#include "tools/run/automatic.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"
#include "tools/run/training.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

std::string default_folder(const Settings& settings, const std::string& dataset) {
  const std::string base = fmt::format("runs/{}-{}-{}", utc_text("%Y%m%dT%H%M%SZ"), dataset, settings.horizon);
  std::string name = base;
  for (int i = 2; fs::exists(name); ++i) name = fmt::format("{}-{}", base, i);
  return name;
}

void check_tune(const Resolved& resolved) {
  for (const char* name : {"center", "stats-mix"}) {
    if (resolved.origin(name).layer == Layer::flag) {
      throw Error(Exit::usage, fmt::format("--tune chooses --{}: it cannot be given too", name))
          .hint("leave one of them out");
    }
  }
  if (const model::ModelRow& row = model::model_row(resolved.settings.model); row.fixes("center")) {
    throw Error(Exit::usage, fmt::format("--tune: {} has no RevIN, and nothing to choose", row.name))
        .hint("leave --tune out");
  }
}

void refuse_existing(const fs::path& folder, const Settings& settings) {
  if (settings.overwrite || !holds_run(folder)) return;
  throw Error(Exit::usage, fmt::format("'{}' already holds a run", folder.string()))
      .hint(fmt::format("continue it with --resume {}, or replace it with --overwrite", folder.string()));
}

}  // namespace

int train(const Invocation& invocation) {
  const CatchSignals catch_signals;
  Settings settings = invocation.settings;
  Console& console = invocation.console;
  const bool resume = !settings.resume.empty();
  const auto report = [&](const Json& document) {
    if (settings.json) {
      print(document, invocation.out);
    } else {
      print_result(invocation.out, document);
    }
    return 0;
  };
  levels_of(settings);  // throws before anything is trained
  if (settings.tune) check_tune(invocation.resolved);
  if (settings.automatic) check_automatic(settings);
  const ChosenDevice device = select_device(settings);
  const fs::path given = resume ? settings.resume : settings.out;
  if (!resume && !given.empty()) refuse_existing(given, settings);
  if (resume && finished(given, settings)) return report(read_result(given, !settings.seeds.empty()));
  if (resume && settings.split == "auto") {
    // `auto` goes by the file's name, and --data may name a copy.
    const std::string before = fs::path(read_run_settings(given).data).stem().string();
    if (before != fs::path(settings.data).stem()) settings.split = model::split_rule("auto", before);
  }

  const Experiment experiment = load_experiment(settings, console);
  settings.data_sha256 = experiment.series.sha256;
  if (settings.data != "seasonal") settings.data = fs::absolute(experiment.series.path).lexically_normal().string();
  require_utf8("--data", settings.data);
  if (settings.dry_run) {
    return report(describe("train", settings, experiment, make_model(settings, experiment), device));
  }
  const fs::path folder = given.empty() ? fs::path(default_folder(settings, experiment.series.name)) : given;
  make_folders(folder);
  const FolderLock lock = lock_folder(folder);
  if (!resume && settings.overwrite) remove_run(folder);
  if (!resume) refuse_existing(folder, settings);  // another process may have been faster

  const auto run = [&](const fs::path& part, const Settings& one, Console& says) {
    return one.automatic ? train_automatic(part, one, experiment, device, says, resume)
           : one.tune    ? tune(part, one, experiment, device, says, resume)
                         : train_one(part, one, experiment, device, says, resume);
  };
  if (settings.seeds.empty()) return report(run(folder, settings, console));

  fs::remove(folder / "result.json");
  write_config(folder, settings);
  AppendFile log(folder / "log.txt");
  console.replay([&](std::string_view text) { log_line(log, text); });  // what was said of the data
  std::mutex one_line;
  const auto write = [&](const std::string& line) {
    const std::lock_guard guard(one_line);
    log_line(log, line);
  };
  std::vector<Json> runs(settings.seeds.size());
  side_by_side(runs.size(), device, [&](std::size_t i, bool alone) {
    const std::uint64_t seed = settings.seeds[i];
    Settings one = settings;
    one.seed = static_cast<std::int64_t>(seed);
    one.seeds.clear();
    const fs::path part = make_folders(folder, seed_folder({}, seed));
    const std::string name = fmt::format("seed {}", seed);
    write(name);
    console.info(name);
    Console own = console.of_part(name);
    runs[i] = run(part, one, alone ? console : own);
    write(settings.no_test ? fmt::format("{}: validation mse {}", name, runs[i]["val_mse"].dump())
                           : fmt::format("{}: test mse {}, test mae {}", name, runs[i]["test_mse"].dump(),
                                         runs[i]["test_mae"].dump()));
  });
  Json document = summarise("train", folder.string(), std::move(runs));
  if (!settings.no_test) {
    const auto starts =
        all_starts(experiment, model::with_lookback(experiment.splits.test, settings.lookback), settings);
    document["ensemble"] = ensemble(read_run(folder.string(), "best"), experiment, starts, device);
  }
  write_seeds_report(folder, document);
  write_config(folder, settings);  // somebody may have removed it meanwhile
  write_json(folder / "result.json", document);
  return report(document);
}

Command train_command() {
  return {.name = "train",
          .handler = train,
          .takes = takes_of_training({"intervals", "calibration"}),
          .summary = "trains one model on one series and tests it once",
          .example = "samformer train --data ETTh1.csv --horizon 96 --seeds 1..3 --out runs/etth1"};
}

}  // namespace samformer::tools
