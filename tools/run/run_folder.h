// A run's folder: what training leaves behind and what resume, eval and predict read.
//
//   config.toml         the settings, the data's absolute path and hash; written before the first step
//   metrics.jsonl       one object an epoch           log.txt   every message
//   best.safetensors    the tested weights under the official module's names; everything `predict` needs as metadata
//   final.safetensors   --refit: trained on all rows
//   state.safetensors   slabs and counters: what resume continues from
//   events.out.tfevents.samformer   --tensorboard
//   result.json         the finished run's document      report.html   the same as a page, with pictures
//
// Whole files are replaced atomically, `best` before `state`; the state records how long the appended files were.
// A checkpoint's metadata: config (TOML), scaler, covariates, columns, targets, left_out (of them), splits, step, epoch,
// trained_from, trained_until (JSON or text); of several models in one file also members.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "model/safetensors.h"
#include "optim/trainer.h"
#include "tools/cli/document.h"
#include "tools/run/experiment.h"

namespace samformer::tools {

// Whether the folder holds (part of) a run.
bool holds_run(const std::filesystem::path& folder);
// Removes a run's own files, those of its seeds included, and nothing else.
void remove_run(const std::filesystem::path& folder);

// {first_row, last_row, first_date, last_date} of each part; rows count from 1.
Json splits_json(const Experiment& experiment);

// The weights of a slab as a checkpoint; `trained_rows` are all rows after a refit, else the training split.
void write_checkpoint(const std::filesystem::path& path, const Settings& settings, const Experiment& experiment,
                      const model::Model& model, std::span<const float> slab, std::int64_t epoch,
                      model::Span trained_rows);

// One of several models whose mean forecast is the run's (train --auto).
struct ModelMember {
  std::string name;
  Settings settings;
  model::Model model;
  std::vector<float> slab;
};
// A checkpoint of them all: tensors NAME/TENSOR, metadata `members`, [{name, config}].
void write_members(const std::filesystem::path& path, const Settings& settings, const Experiment& experiment,
                   std::span<const ModelMember> members, model::Span trained_rows);

// A slab of the model's tensors in a safetensors file of float32 or float64, others are left alone. Exit::data where one
// is missing, has another shape or a number that is not finite.
std::vector<float> read_weights(const model::Model& model, const std::filesystem::path& path);

struct Checkpoint {
  std::string member;  // of several models in one file; empty: the only one
  std::filesystem::path path;
  Settings settings;
  model::Model model;
  std::vector<float> slab;
  model::Scaler scaler;
  model::Basis basis;
  std::vector<std::string> columns;
  std::vector<std::int32_t> targets;
  std::vector<std::uint8_t> left_out;  // Experiment::left_out_of_test
  std::string split_rule;
  model::Splits splits;
  std::string step;                         // as --freq reads it; empty: unknown
  std::string trained_from, trained_until;  // dates of the first and last training row; empty without dates
  std::string data_sha256;
  std::string sha256;  // of the weights
};
// Throws Error(Exit::data) for anything but a checkpoint of ours.
std::vector<Checkpoint> read_checkpoints(const std::filesystem::path& path);
// The same for a file of one model; Exit::usage for one of several, which names their folders.
Checkpoint read_checkpoint(const std::filesystem::path& path);
// RUN of eval and predict: a checkpoint file, a run's folder, or a folder of seeds, their checkpoints. `which`: best,
// final, or empty: final where it is there, else best. Throws Error(Exit::data) where there is none.
std::vector<Checkpoint> read_run(const std::string& run, const std::string& which);
// The same for a command that only reads it: no file of the run and not its data are ever replaced (never_replace()).
std::vector<Checkpoint> read_run_to_keep(const std::string& run, const std::string& which);

// How the file of `settings` is read for a checkpoint: its columns are the model's.
model::SeriesOptions series_options(const Checkpoint& run, const DataSettings& settings);
// The series of `settings` with a checkpoint's columns, at its step: that of the training, which few rows need not
// show. Exit::data for another step, unless --freq asks for it.
model::Series series_of(const Checkpoint& run, const DataSettings& settings, const model::SeriesOptions& options,
                        Console& console);
// A checkpoint's basis with the calendar as the settings have it: the list of holidays may have been moved, or grown.
// Exit::usage where it is not the model's.
model::Basis basis_for(const Checkpoint& run, const DataSettings& settings, const model::Series& series);
// The same with all that an evaluation needs, in the checkpoint's scale.
Experiment experiment_of(const Checkpoint& run, const DataSettings& settings, Console& console, bool all_rows = false);

// SHA-256 over the little-endian float32 bytes of the weights in name order.
std::string weights_sha256(const model::Model& model, std::span<const float> slab);

// Whether the folder's stored training has nothing left to do under these settings (more epochs, another patience).
bool training_done(const std::filesystem::path& folder, const Settings& settings);

// Settings as the run's config.toml has them, where that is not there, or --resume has changed one.
void write_config(const std::filesystem::path& folder, const Settings& settings);

// Appends a line with the time in front.
void log_line(AppendFile& log, std::string_view text);

// Writes a run while it trains, and takes it up again.
class RunFolder final : public optim::Observer {
 public:
  // Without `resume` the folder must be fresh. All arguments outlive this object; the console logs to log.txt
  // meanwhile.
  RunFolder(std::filesystem::path folder, const Settings& settings, const Experiment& experiment,
            const model::Model& model, Console& console, bool resume, Clock clock = monotonic_seconds);
  ~RunFolder() override;

  // Training proper: takes up the stored state if there is one, trains, leaves best.safetensors.
  void train(optim::Trainer& trainer);
  // The same on all rows (`trainer`'s and `experiment`'s); leaves final.safetensors.
  void refit(optim::Trainer& trainer, const Experiment& experiment);

  // Of the training proper: in seconds with validation, earlier sessions included; the median over epochs of the steps.
  double seconds_training() const { return seconds_; }
  double seconds_per_epoch() const;

  void epoch_begins(std::int64_t epoch, std::int64_t steps) override;
  optim::Action step_done(std::int64_t step) override;
  void steps_done() override;
  void epoch_ends(const optim::EpochReport& report) override;
  void save_state() override;

 private:
  enum class Phase { train, refit };
  static const char* name_of(Phase phase) { return phase == Phase::refit ? "refit" : "train"; }
  void open_logs(const Json& lengths);
  void restore_files();
  Json log_lengths() const { return {{"metrics_bytes", metrics_->size()}, {"log_bytes", log_->size()}}; }
  void run(optim::Trainer& trainer);
  std::filesystem::path folder_;
  const Settings& settings_;
  const Experiment* experiment_;
  const model::Model& model_;
  Console& console_;
  Clock clock_;
  Progress progress_;
  optim::Trainer* trainer_ = nullptr;   // of this phase
  optim::Trainer* training_ = nullptr;  // of the training proper: its state is kept through the refit
  Phase phase_ = Phase::train;
  Json train_end_;  // lengths of the appended files then
  std::optional<AppendFile> metrics_, log_;
  std::vector<double> epoch_seconds_;
  double seconds_ = 0;
  double partial_epoch_ = 0;  // seconds of the running epoch's steps in earlier sessions
  double resumed_ = 0, last_save_ = 0, epoch_started_ = 0;
};

}  // namespace samformer::tools
