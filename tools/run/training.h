// One training into a run's folder, with its test, its refit and its page; and the choice of --tune, made of several.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "tools/run/run_folder.h"

namespace samformer::tools {

// work(0) ... work(count - 1), each once; on the CPU as many at a time as threads, for a step of one model does not fill
// the cores (one after the other where a caller of the library follows them). Once one has failed no other begins;
// throws what the first of them has thrown. `alone`: nothing else runs meanwhile.
void side_by_side(std::size_t count, const ChosenDevice& device,
                  const std::function<void(std::size_t i, bool alone)>& work);

// folder/seed-N.
std::filesystem::path seed_folder(const std::filesystem::path& folder, std::uint64_t seed);
// Whether a stored result still stands: --resume with more --epochs or another --patience may train on.
bool finished(const std::filesystem::path& folder, const Settings& settings);
// Starts of the windows inside `rows` that cross no hole.
std::vector<std::int32_t> all_starts(const Experiment& experiment, model::Span rows, const Settings& settings);

// One run into `folder`, from the beginning or from its state; its result. `experiment` is the series of `settings`.
Json train_one(const std::filesystem::path& folder, const Settings& settings, const Experiment& experiment,
               const ChosenDevice& device, Console& console, bool resume, const Json& tuned = {});
// --tune: the candidates are trained without the test split, each once; the folder then becomes a copy of the best one
// (the state that its training ended with), which alone is tested.
Json tune(const std::filesystem::path& folder, const Settings& settings, const Experiment& experiment,
          const ChosenDevice& device, Console& console, bool resume);

}  // namespace samformer::tools
