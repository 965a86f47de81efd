#include "optim/moments.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace samformer::optim {

namespace {

// What a map leaves of a target in the rows of a run: u = x - g, where g is its part in the series, and for each window
// the mean of g over the look-back, which is its part in the level.
struct Rest {
  std::vector<double> u, level;
};
Rest rest_of(const model::Problem& p, std::span<const float> map, std::int64_t d, model::Span run, std::int64_t L,
             std::int64_t N) {
  const std::int64_t F = p.known.features();
  std::vector<double> g(static_cast<std::size_t>(run.size()));
  for (std::int64_t f = 0; f < F; ++f) {
    const auto w = static_cast<double>(map[static_cast<std::size_t>(d * F + f)]);
    const float* b = p.values.data() + (p.known.first + p.known.row(d, f)) * p.rows + run.first;
    for (std::size_t t = 0; t < g.size(); ++t) g[t] += w * static_cast<double>(b[t]);
  }
  Rest rest;
  double sum = 0;
  for (std::int64_t t = 0; t < L; ++t) sum += g[static_cast<std::size_t>(t)];
  for (std::int64_t n = 0; n < N; ++n) {
    rest.level.push_back(sum / static_cast<double>(L));
    sum += g[static_cast<std::size_t>(n + L)] - g[static_cast<std::size_t>(n)];
  }
  const float* x = p.values.data() + d * p.rows + run.first;
  for (std::size_t t = 0; t < g.size(); ++t) rest.u.push_back(static_cast<double>(x[t]) - g[t]);
  return rest;
}

// Adds the sums of x_{n+i} y_{n+j} over N windows for the pairs from (i, j) on along the diagonal, while i < rows and
// j < columns.
template <class Y>
void add_diagonal(double* sums, std::int64_t length, const float* x, const Y* y, std::int64_t i, std::int64_t j,
                  std::int64_t rows, std::int64_t columns, std::int64_t N) {
  if (i >= rows || j >= columns) return;
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (std::int64_t n = 0; n < N; ++n) total += static_cast<double>(x[n + i]) * static_cast<double>(y[n + j]);
  for (;; ++i, ++j) {
    sums[i * length + j] += total;
    if (i + 1 == rows || j + 1 == columns) break;
    total += static_cast<double>(x[N + i]) * static_cast<double>(y[N + j]) -
             static_cast<double>(x[i]) * static_cast<double>(y[j]);
  }
}

}  // namespace

WindowMoments window_moments(const model::Problem& problem, std::span<const model::Span> runs, std::int64_t L,
                             std::int64_t H, bool pooled_only, std::span<const float> map) {
  const std::int64_t length = L + H;
  WindowMoments moments{length, 0, std::vector<double>(static_cast<std::size_t>(length * length))};
  double* sums = moments.sums.data();
  for (std::size_t t = 0; t < problem.targets.size(); ++t) {
    if (pooled_only && !problem.left_out.empty() && problem.left_out[t] != 0) continue;
    for (const model::Span run : runs) {
      const std::int64_t N = run.size() - length + 1;
      if (N <= 0) continue;
      moments.windows += N;
      const float* x = problem.values.data() + problem.targets[t] * problem.rows + run.first;
      if (map.empty()) {
        kernels::parallel_for<double>(
            length, [=](std::int64_t offset) { add_diagonal(sums, length, x, x, 0, offset, length, length, N); });
        continue;
      }
      const Rest rest = rest_of(problem, map, problem.targets[t], run, L, N);
      const double *const u = rest.u.data(), *const level = rest.level.data();
      kernels::parallel_for<double>(length, [=](std::int64_t offset) {
        add_diagonal(sums, length, x, x, 0, offset, L, L, N);
        add_diagonal(sums, length, x, u, std::max<std::int64_t>(0, L - offset), std::max(offset, L), L, length, N);
        double own = 0;
        if (offset < L) {
          for (std::int64_t n = 0; n < N; ++n) own += static_cast<double>(x[n + offset]) * level[n];
          for (std::int64_t j = L; j < length; ++j) sums[offset * length + j] += own;
        } else {
          for (std::int64_t n = 0; n < N; ++n) own += (u[n + offset] + level[n]) * (u[n + offset] + level[n]);
          sums[offset * length + offset] += own;
        }
      });
    }
  }
  return moments;
}

}  // namespace samformer::optim
