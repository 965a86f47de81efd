// A standardised series as the engine reads it: values[d * rows + t], resident; the channels that are forecast. Behind
// the channels lie the marks of its dates (model/data/marks.h), if there are any, and what is known ahead.
#pragma once

#include <cstdint>
#include <span>

#include "core/ops/ops.h"

namespace samformer::model {

struct Problem {
  std::span<const float> values;  // [D + marks + known.rows(D)][rows]
  std::int64_t rows = 0;
  std::int64_t D = 0;
  std::span<const std::int32_t> targets;
  std::span<const std::uint8_t> left_out = {};  // [targets], 1: not in errors over all targets; empty: none is
  std::int64_t marks = 0;
  kernels::KnownRows known = {};  // behind the marks (model/data/covariates.h)

  // Windows of the look-back (or, `offset` = look-back, of the truth) that start at `starts`.
  kernels::Windows<float> windows(std::span<const std::int32_t> starts, std::int64_t offset = 0) const {
    const auto N = static_cast<std::int64_t>(starts.size());
    return {values.data() + offset, rows, starts.data(), N, D, nullptr, 0, marks, known};
  }
  Truth<float> truth(std::span<const std::int32_t> starts, std::int64_t lookback) const {
    return {windows(starts, lookback), targets.data(), static_cast<std::int64_t>(targets.size())};
  }
};

}  // namespace samformer::model
