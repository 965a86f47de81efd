// The map of covariates (kernels/covariates.h) in closed form, for the baselines: for each target the weights with the
// least squared error of
//
//   x_{t+h} - level = sum_f w_f (b_f(t+h) - level_f)
//
// over training windows and steps; level: means of the look-back. At most 65536 pairs of a window and a step, evenly
// spread; a ridge of 1e-4 of the features' mean square keeps those that are alike apart. In double, the same bits on any
// number of threads.
#pragma once

#include <span>
#include <vector>

#include "model/data/problem.h"
#include "model/data/series.h"
#include "model/registry.h"

namespace samformer::optim {

// [D][F]; zeros for what is no target, and where no window is. Empty without covariates.
std::vector<float> fit_covariates(const model::Problem& problem, std::span<const model::Span> runs, std::int64_t L,
                                  std::int64_t H);

// A slab of `net` with the problem's covariates: its own, and the map's weights; empty: zeros.
std::vector<float> with_covariates(const model::Linear& net, std::span<const float> slab, const model::Problem& problem,
                                   std::span<const float> weights);

}  // namespace samformer::optim
