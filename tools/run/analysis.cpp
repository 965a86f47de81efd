#include "tools/run/analysis.h"

#include <array>
#include <charconv>

#include "tools/cli/signals.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t most_windows = 2048;

// An analysis is of one network.
void refuse_members(const std::vector<Checkpoint>& runs) {
  if (runs[0].member.empty()) return;
  throw Error(Exit::usage, fmt::format("the run is the mean of {} models, an analysis is of one", runs.size()))
      .at(runs[0].path.string())
      .hint(fmt::format("name a member's folder: {}/member-...", runs[0].path.parent_path().string()));
}

}  // namespace

Experiment experiment_for(const Checkpoint& run, const Invocation& invocation) {
  return experiment_of(run, settings_on_run(run.settings, invocation.resolved), invocation.console);
}

fs::path output_folder(const Invocation& invocation, const Checkpoint& run, const std::string& command) {
  const fs::path asked = invocation.settings.out, of_run = run.path.parent_path(), argument = invocation.arguments[0];
  const bool one = !fs::is_directory(argument) || fs::equivalent(argument, of_run);
  const fs::path root = asked.empty() ? (of_run.empty() ? "." : of_run) : asked;
  const fs::path below = asked.empty() ? fs::path(command) : one ? fs::path() : of_run.filename();
  const std::string document = command + ".json", table = command + ".csv";
  require_no_input(root / below, std::array{document.c_str(), table.c_str(), "report.html"});
  return make_folders(root, below);
}

Checkpoint single_checkpoint(const std::string& run) {
  std::vector<Checkpoint> all = read_run_to_keep(run, "best");
  refuse_members(all);
  if (all.size() != 1) {
    throw Error(Exit::usage, fmt::format("'{}' holds {} seeds, one run is needed", run, all.size()))
        .hint(fmt::format("name one of them: {}", all[0].path.parent_path().string()));
  }
  return std::move(all[0]);
}

int analyse(const Invocation& invocation, const std::string& command, const std::function<void(Analysed&)>& look,
            const std::function<std::string(const Json&)>& text) {
  const CatchSignals catch_signals;
  const Settings& asked = invocation.settings;
  const ChosenDevice device = select_device(asked);
  const std::vector<Checkpoint> runs = read_run_to_keep(invocation.arguments[0], "best");
  refuse_members(runs);
  std::vector<Json> documents;
  for (const Checkpoint& run : runs) {
    const Experiment experiment = experiment_for(run, invocation);
    const fs::path folder = output_folder(invocation, run, command);
    Analysed a{run, experiment, device, folder, document(command)};
    a.document.update({{"run_dir", run.path.parent_path().string()},
                       {"weights", run.path.filename().string()},
                       {"weights_sha256", run.sha256},
                       {"out", folder.string()},
                       {"dataset", experiment.series.name},
                       {"data_sha256", experiment.series.sha256},
                       {"model", run.settings.model},
                       {"horizon", run.settings.horizon},
                       {"run_seed", run.settings.seed},
                       {"device", device.name}});
    look(a);
    write_json(folder / (command + ".json"), a.document);
    if (!asked.json) {
      invocation.out << text(a.document)
                     << fmt::format("\nwritten to {}: report.html, {}.json\n", folder.string(), command);
    }
    documents.push_back(std::move(a.document));
  }
  if (asked.json) {
    Json all = document(command);
    all["run_dir"] = invocation.arguments[0];
    if (documents.size() > 1) all["runs"] = documents;
    print(documents.size() == 1 ? documents[0] : all, invocation.out);
  }
  return 0;
}

std::vector<std::int32_t> training_windows(const Experiment& experiment, const DataSettings& run,
                                           const std::string& asked) {
  const auto all = model::window_starts(experiment.series, experiment.splits.train, run.lookback, run.horizon);
  if (all.empty()) {
    throw Error(Exit::data, "the training part has no window").at(experiment.series.path);
  }
  std::size_t wanted = most_windows;
  if (asked == "all") {
    wanted = all.size();
  } else if (!asked.empty()) {
    const auto [end, error] = std::from_chars(asked.data(), asked.data() + asked.size(), wanted);
    if (error != std::errc() || end != asked.data() + asked.size() || wanted == 0) {
      throw Error(Exit::usage, fmt::format("--windows: expected a number of at least 1 or all, found '{}'", asked));
    }
  }
  const std::size_t count = std::min(wanted, all.size());
  std::vector<std::int32_t> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(all[i * all.size() / count]);
  return chosen;
}

std::string windows_text(std::size_t chosen, const Experiment& experiment, const DataSettings& run) {
  const auto all = static_cast<std::size_t>(
      model::window_count(experiment.series, experiment.splits.train, run.lookback, run.horizon));
  return chosen == all ? fmt::format("all {} training windows", all)
                       : fmt::format("{} of {} training windows, evenly spaced", chosen, all);
}

}  // namespace samformer::tools
