// What a run's folder and a sweep's hold beside weights, through the commands and functions that read it. The input is
// the name of a file (result.json, metrics.jsonl, sweep.jsonl, config.toml) or of a key of a checkpoint's metadata
// (config, scaler, columns, targets, splits, step; counters and session of a state), a newline, and its content.
#include <sstream>

#include "tests/fuzz/fuzz.h"
#include "tools/commands/commands.h"
#include "tools/run/run_folder.h"
#include "tools/run/runner.h"
#include "tools/run/tracking.h"

namespace samformer::tools {
namespace {

// A run of one channel that has finished; its weights are zeros.
Settings settings_of_run() {
  Settings settings;
  settings.lookback = 4;
  settings.horizon = 2;
  settings.threads = 1;
  settings.device = "cpu";
  settings.tensorboard = true;
  return settings;
}

Experiment experiment_of_run() {
  Experiment e;
  e.series.channels = {"a"};
  e.series.rows = 20;
  e.targets = {0};
  e.splits = {"ratio", {0, 14}, {14, 16}, {16, 20}};
  e.scaler = {{0.5}, {2}};
  return e;
}

struct Run {
  std::filesystem::path folder = make_folders(fuzz::folder(), "run");
  Settings settings = settings_of_run();
  Experiment experiment = experiment_of_run();
  model::Model model = settings.make_model(experiment.D(), experiment.values.marks);

  Run() {
    const std::vector<float> slab(static_cast<std::size_t>(model.parameters().slab_size()));
    write_config(folder, settings);
    write_checkpoint(folder / "best.safetensors", settings, experiment, model, slab, 1, experiment.splits.train);
  }
};

Console console() {
  static std::FILE* const nowhere = std::fopen("/dev/null", "w");
  return Console(nowhere, false, true, false);
}

// A command line that is the same for every input.
struct Prepared {
  const Command& command;
  Flags flags;
  Resolved resolved = resolve(flags, {}, command.takes);

  Prepared(std::string_view name, Flags flags)
      : command(*std::ranges::find(commands(), name, &Command::name)), flags(std::move(flags)) {}
  void run() const {
    std::ostringstream out;
    Console silent = console();
    command.handler({resolved, resolved.settings, {}, out, silent, flags});
  }
};

void read_result(const Run& stored, std::string_view content) {
  static const Prepared text("train", {{"resume", stored.folder.string()}});
  static const Prepared json("train", {{"resume", stored.folder.string()}, {"json", "true"}});
  fuzz::put(stored.folder / "result.json", content);
  (content.size() % 2 == 0 ? text : json).run();
}

void read_epochs(const Run& stored, std::string_view content) {
  fuzz::put(stored.folder / "metrics.jsonl", content);
  write_tensorboard(stored.folder, stored.settings);
}

// The command only where the ledger leaves nothing to run: it would start processes.
void read_ledger(std::string_view content) {
  const std::filesystem::path& folder = fuzz::folder();
  static const Prepared sweep("sweep", {{"grid", "rho=0"}, {"out", folder.string()}});
  fuzz::put(folder / "sweep.jsonl", content);
  {
    const Ledger ledger(folder / "sweep.jsonl", {{"sweep", Json::array()}}, {"val_mse", "train_loss"});
    if (!ledger.trial("rho=0", 1) || ledger.tested("rho=0").is_null()) return;
  }
  sweep.run();
}

void read_metadata(const Run& stored, std::string_view key, std::string_view content) {
  static const auto whole = model::Safetensors::open(stored.folder / "best.safetensors");
  static const auto tensors = [] {
    std::vector<model::TensorSource> all;
    for (const auto& [name, t] : whole.tensors()) all.push_back({name, t.dtype, t.shape, t.bytes.data()});
    return all;
  }();
  model::Metadata metadata = whole.metadata();
  metadata.insert_or_assign(std::string(key), std::string(content));
  const std::filesystem::path& folder = fuzz::folder();
  model::write_safetensors(folder / "state.safetensors", tensors, metadata);
  if (key == "counters") {
    training_done(folder, stored.settings);
  } else if (key == "session") {
    Console silent = console();
    RunFolder(folder, stored.settings, stored.experiment, stored.model, silent, true);
  } else {
    read_checkpoint(folder / "state.safetensors");
  }
}

void read(std::string_view content) {
  static const Run stored;
  const std::string name = fuzz::take_line(content);
  if (name == "result.json") {
    read_result(stored, content);
  } else if (name == "metrics.jsonl") {
    read_epochs(stored, content);
  } else if (name == "sweep.jsonl") {
    read_ledger(content);
  } else if (name == "config.toml") {
    fuzz::put(fuzz::folder() / name, content);
    read_run_settings(fuzz::folder());
  } else {
    read_metadata(stored, name, content);
  }
}

}  // namespace
}  // namespace samformer::tools

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  samformer::fuzz::result_or_refusal([&] { samformer::tools::read(samformer::fuzz::text_of(data, size)); });
  return 0;
}
