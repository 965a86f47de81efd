// Slices of the training loss around a solution w (Li et al. 2018, filter normalisation):
//
//   loss(w + a d1 + b d2),   each d a Gaussian direction whose output rows (filters) have the norm of w's own row;
//   zero for biases and RevIN's scale and shift
//
// The loss is the mean own-statistics error over the windows, in float with sums in double, as the test protocol has
// it. Directions: Philox stream 5, sub = which of the pair: the same seed gives the same Gaussians to every run.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "optim/evaluator.h"

namespace samformer::optim {

// A slab.
std::vector<float> filter_normalised_direction(const model::Model& model, std::span<const float> weights,
                                               std::uint64_t seed, std::uint32_t which);

struct LossSlices {
  std::vector<double> at;      // offsets of both slices, symmetric around an exact 0
  std::vector<double> line;    // [n]: along the first direction
  std::vector<double> square;  // [n2][n2]: row b (second direction), column a (first)
  std::vector<double> square_at;
};
// Offsets -reach .. reach, `points` and `side` of them (odd). `before_point` may throw (a signal).
// `device`: of Evaluator.
LossSlices loss_slices(
    const model::Model& model, kernels::Center center, std::span<const float> weights, const Problem& problem,
    std::span<const std::int32_t> starts, std::uint64_t seed, double reach, int points, int side,
    const std::function<void()>& before_point = [] {}, DeviceModel* device = nullptr);

}  // namespace samformer::optim
