// The best linear forecaster of a training set, in closed form: the weights of model/linear.h (RevIN at its neutral
// values, no bias) with the least mean squared error over all training windows and target channels,
//
//   y_h = level + sum_i w_hi (x_i - level)
//
// with the window's mean as level: equivalently, any linear map whose weights sum to 1. Solved relative to the window's
// last value, where the normal equations have full rank, from the windows' moments (optim/moments.h), in double.
#pragma once

#include <vector>

#include "model/data/series.h"
#include "optim/evaluator.h"

namespace samformer::optim {

// With covariates their map is fitted first (optim/covariate_fit.h), and the weights to what it leaves of the targets.
//
// A slab of `net` with the problem's covariates, fitted to all windows inside each of `runs` (rows without a hole). Empty where the windows do not
// determine the weights.
std::vector<float> least_squares_slab(const model::Linear& net, const Problem& problem,
                                      std::span<const model::Span> runs);

}  // namespace samformer::optim
