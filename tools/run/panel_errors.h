// Errors of a panel by its series: in the scale of each, and in the file's units by the formulas of
// optim/original_units.h, whose in-sample errors are those of each series' own training rows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "optim/original_units.h"
#include "tools/run/panel.h"

namespace samformer::tools {

class Ensemble;

struct PanelErrors {
  // Over the windows of each series and their steps, standardised.
  struct Sums {
    std::vector<double> squared, absolute, difference;
  };

  PanelErrors(const Experiment& experiment, std::span<const std::int32_t> starts, std::int64_t lookback, std::int64_t H,
              const Ensemble& models, std::span<const float> least_squares);

  std::int64_t H;
  std::vector<std::int64_t> windows;                                // [series]
  std::vector<double> unit, size, absolute_season, squared_season;  // as OriginalUnits has them of its channels
  Sums model, naive;
  std::optional<Sums> seasonal, oracle;

  double mean(const std::vector<double>& sums, std::size_t k) const;  // of a series
  optim::OriginalErrors series(const Sums& sums, std::size_t k) const;
  // WAPE of all, the others are means of the series'; what is not defined is left out of them.
  optim::OriginalErrors all(const Sums& sums) const;
};

}  // namespace samformer::tools
