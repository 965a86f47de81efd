// The forecasts of a part's windows as CSV, in the file's own units and dates:
//
//   origin,date,step,series,actual,forecast,naive[,seasonal_naive][,least_squares]
//
// by origin (the last row of a look-back), series and step (from 1); baselines as score() has them. Without dates both
// are row numbers from 1. Values are exact to 1e-7 of their channel's standard deviation, so that errors computed from
// the file are those of the result.
#pragma once

#include <filesystem>
#include <span>

#include "tools/run/run_folder.h"

namespace samformer::tools {

// Writes it piece by piece, whole or not at all, and returns how many rows there are. Several runs: their mean forecast,
// as ensemble(). `least_squares`: of Scores; may be empty. Throws Error(Exit::interrupted) after a signal.
std::int64_t write_forecasts(const std::filesystem::path& path, std::span<const Checkpoint> runs,
                             const Experiment& experiment, std::span<const std::int32_t> starts,
                             std::span<const float> least_squares, const ChosenDevice& device);

}  // namespace samformer::tools
