// Prediction intervals (optim/conformal.h) of a run: from the forecasts of rows after those it was trained on.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "optim/conformal.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {

// --intervals of a command, {"80", "95"}, as levels 0.8, 0.95, rising. Exit::usage for what is no percentage above 0 and
// below 100, what is there twice, and a --calibration that is too short for it.
std::vector<double> levels_of(const Settings& settings);
// "80" of 0.8, as columns are named.
std::string level_name(double level);

// The first row that the weights were not trained on: by date where both sides have dates, by row in the run's own file;
// 0 in another one without dates.
std::int64_t first_unseen_row(const Checkpoint& run, const model::Series& series);

// The weights of `runs` that did not see all rows: themselves, or best.safetensors beside final.safetensors. Exit::data
// where that is not there.
std::vector<Checkpoint> calibration_models(std::span<const Checkpoint> runs);

// The last windows, at most `most`, that end at row `origin` or earlier and whose targets `run` was not trained on.
std::vector<std::int32_t> calibration_windows(const Checkpoint& run, const model::Series& series, std::int64_t origin,
                                              std::int64_t most);
// Half-widths of the steps after row `origin` in original units, [levels][targets][H], from those windows' forecasts;
// the look-back before `origin` is taken in the scale of the models. Exit::data with the number where there are too few.
std::vector<double> calibrate(std::span<const Checkpoint> models, const model::Series& series, std::int64_t origin,
                              std::span<const double> levels, std::int64_t most, const ChosenDevice& device);

// The same for a panel, [levels][H], in sigmas of a window: of all its series' windows after their training rows up to
// the row of `until` together, the last `most` of each series.
std::vector<double> calibrate_panel(std::span<const Checkpoint> models, const model::Series& file,
                                    const model::Stamp* until, std::span<const double> levels, std::int64_t most,
                                    const ChosenDevice& device);

// How good the intervals of the forecasts from `starts` were, each from the windows of rows that the models were not
// trained on and that had ended before it; and of the same around the seasonal naive forecast, or the naive one without
// a season. Standardised as the experiment is, whose scaler must be the models'. `halves`: null, or their half-widths go
// there, [starts][levels][targets][H], infinite where there were too few windows; that takes the memory of all targets
// at a time. Those of a panel are calibrated as calibrate_panel() does, on the windows of all its series that had ended
// at the date of the forecast; forecasts of rows that the models were trained on are not scored.
struct IntervalScores {
  optim::IntervalSums model, naive;
  std::vector<optim::IntervalSums> series;  // of a panel: the model's, of each
};
IntervalScores score_intervals(std::span<const Checkpoint> runs, const Experiment& experiment,
                               std::span<const std::int32_t> starts, std::span<const double> levels, std::int64_t most,
                               const ChosenDevice& device, std::vector<float>* halves = nullptr);

// The scores as a command's document has them:
//
//   {calibration, windows, levels: [{level, cover, width, winkler}], wis, pinball, per_channel: [{name, levels, wis}],
//    per_step: [{step, levels, wis}], seasonal_naive or naive: {levels, wis, pinball}}
//
// standardised; of a panel per_series: [{id, windows, levels, wis}] instead of per_channel. Null where no window has
// enough before it.
Json interval_document(const IntervalScores& scores, const Experiment& experiment, std::int64_t lookback,
                       std::int64_t most);
std::string too_few_for_intervals(std::span<const double> levels);  // what a user is told of that

// Adds `intervals` to a command's document where --intervals asks for them.
void add_intervals(Json& document, std::span<const Checkpoint> runs, const Experiment& experiment,
                   std::span<const std::int32_t> starts, const Settings& settings, const ChosenDevice& device);

}  // namespace samformer::tools
