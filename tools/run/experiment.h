// From settings to what the engine works on: the series as training sees it, the trainer's settings, the device.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "model/data/covariates.h"
#include "model/data/marks.h"
#include "model/data/series.h"
#include "model/registry.h"
#include "optim/trainer.h"
#include "tools/cli/console.h"
#include "tools/cli/settings.h"

namespace samformer::tools {

struct Panel;  // tools/run/panel.h

// A standardised series with its splits. `problem()` views it.
struct Experiment {
  model::Series series;  // original units; S: cut down to its targets
  std::vector<std::int32_t> targets;
  model::Splits splits;
  model::Scaler scaler;
  model::Basis basis;          // of what is known ahead
  model::MarkedValues values;  // standardised
  std::int64_t season = 0;     // steps of the seasonal naive forecast; 0: none
  // [targets] of errors over all, because they hardly vary in the training rows; empty: none. What is chosen by
  // validation error must not see the test rows, which `left_out_of_test` goes by too.
  std::vector<std::uint8_t> left_out, left_out_of_test;

  // Of many series, which stand one behind another in one channel, each in a scale of its own: `scaler` is 0 and 1.
  std::shared_ptr<const Panel> panel;

  bool too_few = false;  // rows for a window in every part: nothing can be trained, or tested

  std::int64_t D() const { return series.width(); }
  optim::Problem problem() const { return values.problem(targets, left_out); }
  optim::Problem tested_problem() const { return values.problem(targets, left_out_of_test); }
  std::vector<std::string> target_names() const;
  // What a model's attention map of so many rows is between: the channels, behind them the dates' marks; or steps, "0"
  // the look-back's last, "-15..0" a token that stands for several.
  std::vector<std::string> token_names(const model::Model& model, std::int64_t count) const;
};

model::SeriesOptions series_options(const DataSettings& settings);
// What is known ahead. Exit::usage for a --future-basis that is none.
model::CovariateOptions covariate_options(const DataSettings& settings);
model::Features features_of(const DataSettings& settings);
// model::select_targets, or the channels that are not --past. Exit::usage for both, and for names that are none.
std::vector<int> select_targets(model::Series& series, const DataSettings& settings);
// The bytes of `settings.data` read as a series with its hash: the built-in `seasonal`, a path, a known name. A hash
// that differs from settings.data_sha256 (where given) throws Error(Exit::data).
model::Series load_series(const DataSettings& settings, const model::SeriesOptions& options);
// The whole way for training: refuses what `train` refuses (Exit::data), warns of the rest on the console. A look-back
// and a horizon of `auto` get their values.
// --auto takes a file without a window for every part too (Experiment::too_few).
Experiment load_experiment(Settings& settings, Console& console);
// Its part that goes by the series alone: splits, season, too_few; the look-back and the horizon. Of a panel nothing but
// these two and too_few.
void shape(Experiment& experiment, Settings& settings);
// Warns of all that the reader found.
void say_findings(const model::Series& series, Console& console);
// --holes close: no rows are taken to be absent. The borders between a panel's series stay.
void close_holes(model::Series& series);
// The splits, and in `settings` look-back and horizon where they are `auto`. Throws what split_rows() throws.
model::Splits choose_shape(DataSettings& settings, const model::Series& series);
// "windows across absent rows are left out: 12 of 80 for training, ..."; empty where none is. Throws Exit::data where
// a part has no other.
std::string lost_windows_text(const model::Series& series, const model::Splits& splits, const DataSettings& settings);
// kernels::prepare_products on another core, for the time that reading takes, or, where memory is limited, at get().
std::future<void> prepare_products();
// A series in the scale of a model: standardised, with the marks and the rows of the basis behind.
model::MarkedValues values_of(const model::Series& series, const model::Scaler& scaler, const model::Basis& basis);
// What a forecast after row `origin` of a series reads: `lookback` rows up to it and the steps `ahead`. Values known ahead
// are those of `future`, else of the series' own rows behind the origin. Exit::data names the first step or column that is
// missing.
model::MarkedValues values_ahead(const model::Series& series, const model::Scaler& scaler, const model::Basis& basis,
                                 std::int64_t origin, std::int64_t lookback, std::span<const model::Stamp> ahead,
                                 const model::Series* future = nullptr);
// values_of with the experiment's own.
void fill_values(Experiment& experiment);
// Fits the scaler on `rows` and standardises with it.
void scale(Experiment& experiment, model::Span rows);
// The same, and the basis: for a training on them.
void fit(Experiment& experiment, const DataSettings& settings, model::Span rows);
// The network of baselines, and that of the settings, for the experiment's channels and covariates.
model::Model linear_model(const Settings& settings, const Experiment& experiment);
model::Model make_model(const Settings& settings, const Experiment& experiment);
// All rows as training rows, and in their scale.
Experiment refitted(const Experiment& experiment);

optim::TrainerSettings trainer_settings(const Settings& settings);
kernels::Center center_of(const ModelSettings& settings);
// Initial weights into a training's slabs.
void initialise(optim::Training<float>& training, const model::Model& model, const Settings& settings);

// Where to compute: `gpu` null: on the CPU.
struct ChosenDevice {
  std::string name;
  std::unique_ptr<optim::Device> gpu;

  // The problem there, for an evaluator; null: on the CPU.
  std::unique_ptr<optim::DeviceModel> load(const model::Model& model, const optim::Problem& problem,
                                           kernels::Center center) const {
    return gpu ? gpu->load(model, problem, center) : nullptr;
  }
};
// `auto` takes the first GPU that can be used, else the CPU. Refuses devices and precisions that are not there
// (Exit::device), sets the number of threads.
ChosenDevice select_device(const MachineSettings& settings);
int thread_count(const MachineSettings& settings);

}  // namespace samformer::tools
