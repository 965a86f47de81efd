// What the commands that look at a trained RUN have in common: the run's series in its scale, the windows they measure,
// a folder for what they write (RUN/<command>, or --out), one document for each seed.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tools/cli/command.h"
#include "tools/report/page.h"
#include "tools/run/experiment.h"

namespace samformer::tools {

struct Analysed {
  const Checkpoint& run;
  const Experiment& experiment;
  const ChosenDevice& device;
  std::filesystem::path folder;  // exists
  Json document;                 // schema_version ... weights_sha256: what was looked at
};

// Calls `look` for each checkpoint of RUN (--weights best) and prints its document, or {runs: [...]} of several. The
// document is also written to <folder>/<command>.json. `text`: what stdout shows of a document without --json.
int analyse(const Invocation& invocation, const std::string& command, const std::function<void(Analysed&)>& look,
            const std::function<std::string(const Json&)>& text);
// The folder that a command's results on a checkpoint go to, made: RUN/<command>, or --out (of several seeds,
// --out/seed-N). Error(Exit::io) where it cannot be made.
std::filesystem::path output_folder(const Invocation& invocation, const Checkpoint& run, const std::string& command);
// One run of `analyse`, for --against.
Checkpoint single_checkpoint(const std::string& run);
// The series of a checkpoint: the run's own, or --data.
Experiment experiment_for(const Checkpoint& run, const Invocation& invocation);

// --windows of the training windows: a number (evenly spaced) or `all`; by default 2048, or all where there are fewer.
std::vector<std::int32_t> training_windows(const Experiment& experiment, const DataSettings& run,
                                           const std::string& asked);
// "2048 of 8033 training windows, evenly spaced"
std::string windows_text(std::size_t chosen, const Experiment& experiment, const DataSettings& run);

}  // namespace samformer::tools
