// Decompositions and means over the steps of tokens on the GPU; kernels/steps.h has the formulas. A thread has an
// element, neighbours the features of one step; for a mean a feature of a sample.
#include "kernels/cuda/blocks.h"
#include "kernels/steps.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Averages {
  std::int64_t size;
  int steps, d, count;
  int widths[most_averages], fronts[most_averages];
  In<float> scale, shift;

  SIMT_DEVICE float average(In<float> sample, int i, int t, int c) const {
    float total = 0;
    for (int j = 0; j < widths[i]; ++j) {
      const int at = t + j - fronts[i];
      total += sample[static_cast<std::int64_t>(at < 0 ? 0 : at < steps ? at : steps - 1) * d + c];
    }
    return total / static_cast<float>(widths[i]);
  }
  SIMT_DEVICE float logit(int i, float x) const {
    return scale ? (scale[i] * x + static_cast<float>(shift[i])) * 1.44269504f : 0.0f;
  }
};
Averages averages_of(const StepAverages<float>& a) {
  Averages all{a.size(), static_cast<int>(a.steps), static_cast<int>(a.d), a.count, {}, {}, a.scale, a.shift};
  for (int i = 0; i < a.count; ++i) {
    all.widths[i] = static_cast<int>(a.widths[i]);
    all.fronts[i] = static_cast<int>(average_front(a.widths[i]));
  }
  return all;
}

// An element's mixture: the largest logit, the softmax's sum, the trend.
struct Trend {
  float most, total, value;
};
SIMT_DEVICE Trend trend_at(In<float> sample, const Averages& a, int t, int c) {
  const float x = sample[static_cast<std::int64_t>(t) * a.d + c];
  Trend trend{a.logit(0, x), 0, 0};
  for (int i = 1; i < a.count; ++i) trend.most = fmaxf(trend.most, a.logit(i, x));
  for (int i = 0; i < a.count; ++i) {
    const float p = power_of_two(a.logit(i, x) - trend.most);
    trend.total += p;
    trend.value += p * a.average(sample, i, t, c);
  }
  trend.value /= trend.total;
  return trend;
}

__global__ void __launch_bounds__(256)
    decompose_steps_kernel(Out<float> y, In<float> x, const SIMT_PARAMETER Averages a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= a.size) return;
  const int c = static_cast<int>(e % a.d), t = static_cast<int>(e / a.d % a.steps);
  const float trend = trend_at(x + (e - static_cast<std::int64_t>(t) * a.d - c), a, t, c).value;
  y[e] = x[e] - trend;
  y[e + a.size] = trend;
}

// p_i h by width, behind them what x_t itself gets; and the block's parts of da and db.
__global__ void __launch_bounds__(256) mixture_backward_kernel(Out<float> weighted, Out<float> parts, In<float> dy,
                                                               In<float> x, const SIMT_PARAMETER Averages a) {
  SIMT_SHARED(float, scratch, 8);
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  const bool there = e < a.size;
  const int c = there ? static_cast<int>(e % a.d) : 0, t = there ? static_cast<int>(e / a.d % a.steps) : 0;
  const In<float> sample = x + (there ? e - static_cast<std::int64_t>(t) * a.d - c : 0);
  const Trend trend = there ? trend_at(sample, a, t, c) : Trend{0, 1, 0};
  const float own = there ? static_cast<float>(x[e]) : 0.0f;
  float direct = there ? static_cast<float>(dy[e]) : 0.0f;
  const float h = there ? static_cast<float>(dy[e + a.size]) - direct : 0.0f;
  for (int i = 0; i < a.count; ++i) {
    float dz = 0;
    if (there) {
      const float ph = power_of_two(a.logit(i, own) - trend.most) / trend.total * h;
      weighted[i * a.size + e] = ph;
      if (a.scale) {
        dz = ph * (a.average(sample, i, t, c) - trend.value);
        direct += a.scale[i] * dz;
      }
    }
    if (!a.scale) continue;
    const float scale = block_sum(dz * own, scratch), shift = block_sum(dz, scratch);
    if (threadIdx.x == 0) {
      parts[static_cast<std::int64_t>(blockIdx.x) * 2 * a.count + i] = scale;
      parts[static_cast<std::int64_t>(blockIdx.x) * 2 * a.count + a.count + i] = shift;
    }
  }
  if (there) weighted[a.count * a.size + e] = direct;
}

__global__ void __launch_bounds__(256)
    decompose_steps_backward_kernel(Out<float> dx, std::int64_t ld, bool adds, In<float> weighted,
                                    const SIMT_PARAMETER Averages a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= a.size) return;
  const int c = static_cast<int>(e % a.d), s = static_cast<int>(e / a.d % a.steps);
  float total = weighted[a.count * a.size + e];
  for (int i = 0; i < a.count; ++i) {
    const In<float> sample = weighted + (i * a.size + e - static_cast<std::int64_t>(s) * a.d);
    const int begin = s - (a.widths[i] - 1 - a.fronts[i]);
    float sum = 0;
    for (int t = begin < 0 ? 0 : begin; t <= s + a.fronts[i] && t < a.steps; ++t) {
      sum += static_cast<float>(average_terms(s, t, a.steps, a.widths[i], a.fronts[i])) *
             sample[static_cast<std::int64_t>(t) * a.d];
    }
    total += sum / static_cast<float>(a.widths[i]);
  }
  const Out<float> to = dx + (e / a.d * ld + c);
  *to = adds ? *to + total : total;
}

// One block: da and db [count] from the parts of `blocks` blocks.
__global__ void __launch_bounds__(256) mixture_totals_kernel(Out<float> da, bool da_adds, Out<float> db, bool db_adds,
                                                             In<float> parts, int blocks, int count) {
  SIMT_SHARED(float, scratch, 8);
  for (int i = 0; i < 2 * count; ++i) {
    float sum = 0;
    for (int b = static_cast<int>(threadIdx.x); b < blocks; b += 256) {
      sum += parts[static_cast<std::int64_t>(b) * 2 * count + i];
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x != 0) continue;
    if (i < count && da) da[i] = da_adds ? da[i] + sum : sum;
    if (i >= count && db) db[i - count] = db_adds ? db[i - count] + sum : sum;
  }
}

__global__ void __launch_bounds__(256)
    step_means_kernel(Out<float> y, std::int64_t ld, bool adds, In<float> x, std::int64_t columns, int steps, int d,
                      float own, float share) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= columns) return;
  const std::int64_t row = i / d * steps;
  const int c = static_cast<int>(i % d);
  float mean = 0;
  for (int t = 0; t < steps; ++t) mean += x[(row + t) * d + c];
  mean *= share / static_cast<float>(steps);
  for (int t = 0; t < steps; ++t) {
    const Out<float> to = y + ((row + t) * ld + c);
    const float value = own * x[(row + t) * d + c] + mean;
    *to = adds ? *to + value : value;
  }
}

}  // namespace

std::int64_t decompose_steps_scratch(const Cuda&, const StepAverages<float>& a) {
  return (a.count + 1) * a.size() + (a.size() + 255) / 256 * 2 * a.count;
}
void decompose_steps(const Cuda& on, float* y, const float* x, const StepAverages<float>& a) {
  launch(on, "decompose_steps", decompose_steps_kernel, grid_of(a.size(), 256), y, x, averages_of(a));
}
void decompose_steps_backward(const Cuda& on, Sink<float> dx, Sink<float> da, Sink<float> db, const float* dy,
                              const float* x, const StepAverages<float>& a, float* scratch) {
  const dim3 blocks = grid_of(a.size(), 256);
  const Averages all = averages_of(a);
  float* const parts = scratch + (a.count + 1) * a.size();
  launch(on, "mixture_backward", mixture_backward_kernel, blocks, scratch, parts, dy, x, all);
  if (dx) {
    launch(on, "decompose_steps_backward", decompose_steps_backward_kernel, blocks, dx.data, dx.ld, dx.add, scratch,
           all);
  }
  if (da || db) {
    launch(on, "mixture_totals", mixture_totals_kernel, dim3{1, 1, 1}, da.data, da.add, db.data, db.add, parts,
           static_cast<int>(blocks.x), a.count);
  }
}

void step_means(const Cuda& on, Sink<float> y, const float* x, std::int64_t N, std::int64_t steps, std::int64_t d,
                float own, float share) {
  launch(on, "step_means", step_means_kernel, grid_of(N * d, 256), y.data, y.ld, y.add, x, N * d,
         static_cast<int>(steps), static_cast<int>(d), own, share);
}

}  // namespace samformer::kernels
