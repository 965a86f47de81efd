// The forecasts of a part's windows as CSV, in the file's own units and dates:
//
//   origin,date,step,series,actual,forecast,naive[,seasonal_naive][,least_squares][,lo_80,hi_80 ...]
//
// by origin (the last row of a look-back), series and step (from 1); baselines as score() has them. Without dates both
// are row numbers from 1. Values are exact to 1e-7 of their channel's standard deviation, so that errors computed from
// the file are those of the result. Ends of intervals are empty where too few windows had ended at the origin.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tools/run/run_folder.h"

namespace samformer::tools {

// Written piece by piece, whole or not at all.
class ForecastFile {
 public:
  // `least_squares`: whether there is such a column; `levels`: of the intervals. The experiment outlives it.
  ForecastFile(const std::filesystem::path& path, const Experiment& experiment, std::int64_t lookback,
               std::int64_t horizon, bool least_squares, std::span<const double> levels);

  // Standardised forecasts [windows][targets][H] in the scale of `scaler`; `fit` empty without that column; `halves`
  // [windows][levels][targets][H] of the intervals.
  void add(std::span<const std::int32_t> starts, const model::Scaler& scaler, std::span<const double> forecasts,
           std::span<const float> fit, std::span<const float> halves);
  void commit();
  std::int64_t rows() const { return rows_; }

 private:
  AtomicFile file_;
  const Experiment& e_;
  std::int64_t L_, H_, season_, rows_ = 0;
  std::size_t levels_;
  std::string text_;
  std::vector<std::string> dates_, names_;
};

// The forecasts of a part's windows; returns how many rows there are. Several runs: their mean forecast, as ensemble().
// `least_squares`: of Scores; may be empty. `halves`: of score_intervals(). Throws Error(Exit::interrupted) after a
// signal.
std::int64_t write_forecasts(const std::filesystem::path& path, std::span<const Checkpoint> runs,
                             const Experiment& experiment, std::span<const std::int32_t> starts,
                             std::span<const float> least_squares, std::span<const double> levels,
                             std::span<const float> halves, const ChosenDevice& device);

}  // namespace samformer::tools
