// The best linear forecaster of a training set, in closed form: the weights of model/linear.h (RevIN at its neutral
// values, no bias) with the least mean squared error over all training windows and target channels,
//
//   y_h = level + sum_i w_hi (x_i - level)
//
// with the window's mean as level: equivalently, any linear map whose weights sum to 1. Solved relative to the window's
// last value, where the normal equations have full rank. Windows overlap, so that their moments
// S[i][j] = sum_n x_{n+i} x_{n+j} follow from the first row, in double:
//
//   S[i+1][j+1] = S[i][j] - x_i x_j + x_{N+i} x_{N+j}
//
// N (L + H) D + (L + H)^2 D operations, not N L^2 D.
#pragma once

#include <vector>

#include "model/data/series.h"
#include "optim/evaluator.h"

namespace samformer::optim {

// A slab of `net`, fitted to all windows inside `rows`. Empty where the windows do not determine the weights.
std::vector<float> least_squares_slab(const model::Linear& net, const Problem& problem, model::Span rows);

}  // namespace samformer::optim
