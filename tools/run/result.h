// The documents of `train` and `eval`: scores of a model beside the baselines, as JSON and as a table.
#pragma once

#include <optional>
#include <ostream>
#include <span>
#include <string>

#include "optim/original_units.h"
#include "tools/cli/text_format.h"
#include "tools/run/run_folder.h"
#include "tools/run/stored_json.h"

namespace samformer::tools {

struct Scores {
  optim::ErrorSums model, naive;
  std::optional<optim::ErrorSums> seasonal;  // nothing where the look-back is shorter than a season, or none is known
  std::optional<optim::ErrorSums> oracle;    // the linear least squares fit to the training rows of the same file
  double seconds;                            // of the model's one pass over the windows
  optim::OriginalUnits original;
  std::vector<float> least_squares;  // weights of the `linear` network of the oracle; empty without

  std::optional<optim::ErrorSums> ridge = {};  // train --auto: that of the same file

  double best_baseline_mse() const;
};
// Of one model, or of the mean forecast of several.
Scores score(std::span<const Checkpoint> models, const Experiment& experiment, std::span<const std::int32_t> starts,
             const Settings& settings, const ChosenDevice& device);

// schema_version to parameters and windows: what is known before the first step.
Json describe(const std::string& command, const Settings& settings, const Experiment& experiment,
              const model::Model& model, const ChosenDevice& device);
// The fit of Scores::oracle; empty where the training rows do not determine it.
std::vector<float> fit_least_squares(const Experiment& experiment, const Settings& settings);
// Whether the seasonal naive forecast can be made.
inline bool has_season(const Experiment& e, std::int64_t lookback) { return e.season > 0 && e.season <= lookback; }

// Adds test_mse ... skill. (`train` adds the course of the training, `eval` what the run's own result says of it.)
void add_scores(Json& document, const Scores& scores, const Experiment& experiment);

// {models, test_mse, test_mae} of the mean of the runs' forecasts, which is what `predict` gives for a folder of seeds.
// The runs have the experiment's columns and targets.
Json ensemble(std::span<const Checkpoint> runs, const Experiment& experiment, std::span<const std::int32_t> starts,
              const ChosenDevice& device);

// {command, runs, mean, std} of several documents: mean and standard deviation (n - 1) of every metric.
Json summarise(const std::string& command, const std::string& folder, std::vector<Json> runs);

// Throws Error(Exit::data) unless `needed` are there and all fields of a document that are read back are what `train`
// and `toy` write.
void check_fields(const StoredJson& document, std::span<const char* const> needed);
// folder/result.json, of one run or of several seeds: all that summarise() and print_result() use is there.
Json read_result(const std::filesystem::path& folder, bool several);

// The process's high-water mark.
std::int64_t peak_memory_bytes();

// The table that ends stdout, made from the document alone.
void print_result_table(std::ostream& out, const Json& document);
void print_intervals(std::ostream& out, const Json& document);  // nothing where it has none
// The same, and the next command to type.
void print_result(std::ostream& out, const Json& document);

}  // namespace samformer::tools
