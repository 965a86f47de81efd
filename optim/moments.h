// Second moments of all windows of a series, which least squares and ridge regression are solved from:
//
//   S[i][j] = sum over windows n and targets of x_{n+i} x_{n+j}        i, j < length
//
// Windows overlap, so that they follow from the first row of S, in double:
//
//   S[i+1][j+1] = S[i][j] - x_i x_j + x_{N+i} x_{N+j}
//
// N length D + length^2 D operations, not N length^2 D.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/data/problem.h"
#include "model/data/series.h"

namespace samformer::optim {

struct WindowMoments {
  std::int64_t length = 0;
  std::int64_t windows = 0;  // times targets
  std::vector<double> sums;  // [length][length], the upper triangle

  double operator()(std::int64_t i, std::int64_t j) const {
    return sums[static_cast<std::size_t>(i < j ? i * length + j : j * length + i)];
  }
};

// Of the windows inside each of `runs` (rows without a hole), L + H rows each. `pooled_only`: without targets that are
// left out of errors over all. `map` [D][F] of the problem's covariates (optim/covariate_fit.h): of x_{n+j}, j >= L, its
// part is taken away; two such steps have no moment then, only each its own.
WindowMoments window_moments(const model::Problem& problem, std::span<const model::Span> runs, std::int64_t L,
                             std::int64_t H, bool pooled_only, std::span<const float> map = {});

}  // namespace samformer::optim
