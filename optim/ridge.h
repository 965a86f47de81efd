// Ridge regression of a window's next steps on its rows, the weights of model/linear.h in closed form:
//
//   y_h = c + sum_i w_hi (x_i - c),   W = (G + a m I)^-1 C,   m = trace(G) / L
//
// c: the window's mean or its last value (kernels::Center); G and C: the moments of centred windows and targets over all
// training windows and channels (optim/moments.h). The strength a (1e-7, 1e-6, ..., 1) and c are those with the lowest
// mean squared error in four rolling folds: the last half of the rows in four blocks, each forecast by weights fitted to
// what lies before it. One eigendecomposition a fold and centre serves all strengths, and the error follows from the
// blocks' own moments: no forecast is made. With covariates their map is fitted first, to the same rows, and c is the
// mean. In double, the same bits on any number of threads.
#pragma once

#include <vector>

#include "optim/evaluator.h"
#include "optim/moments.h"

namespace samformer::optim {

struct Ridge {
  kernels::Center center = kernels::Center::last;
  double strength = 0.1;
};

// Of `series`, whose holes no window crosses, with rows 0 .. `rows` alone. What stands in Ridge where they are too few
// for a fold.
Ridge choose_ridge(const model::Linear& net, const Problem& problem, const model::Series& series, std::int64_t rows);
// A slab of `net` with the problem's covariates, fitted to all windows inside `runs`; empty where there is none.
std::vector<float> ridge_slab(const model::Linear& net, const Problem& problem, std::span<const model::Span> runs,
                              const Ridge& ridge);

}  // namespace samformer::optim
