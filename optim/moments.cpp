#include "optim/moments.h"

#include "kernels/cpu/parallel.h"

namespace samformer::optim {

WindowMoments window_moments(const model::Problem& problem, std::span<const model::Span> runs, std::int64_t length,
                             bool pooled_only) {
  WindowMoments moments{length, 0, std::vector<double>(static_cast<std::size_t>(length * length))};
  double* sums = moments.sums.data();
  for (std::size_t t = 0; t < problem.targets.size(); ++t) {
    if (pooled_only && !problem.left_out.empty() && problem.left_out[t] != 0) continue;
    for (const model::Span run : runs) {
      const std::int64_t N = run.size() - length + 1;
      if (N <= 0) continue;
      moments.windows += N;
      const float* x = problem.values.data() + problem.targets[t] * problem.rows + run.first;
      kernels::parallel_for<double>(length, [=](std::int64_t offset) {
        double total = 0;
#pragma omp simd reduction(+ : total)
        for (std::int64_t n = 0; n < N; ++n) total += static_cast<double>(x[n]) * static_cast<double>(x[n + offset]);
        // Along the diagonal j = i + offset.
        for (std::int64_t i = 0; i + offset < length; ++i) {
          sums[i * length + i + offset] += total;
          if (i + offset + 1 == length) break;
          total += static_cast<double>(x[N + i]) * static_cast<double>(x[N + i + offset]) -
                   static_cast<double>(x[i]) * static_cast<double>(x[i + offset]);
        }
      });
    }
  }
  return moments;
}

}  // namespace samformer::optim
