// Auto-correlation on the GPU; kernels/delays.h has the formulas. The Gram matrices are one batched product; then a
// thread has a delay, an element of a roll, or a sample's weights, and a block a dot product of all steps.
#include "kernels/cuda/blocks.h"
#include "kernels/delays.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Delays {
  int samples, steps, keys, used, d, K;
  bool shared;
  SIMT_DEVICE In<std::int32_t> of(In<std::int32_t> delays, int n) const { return delays + (shared ? 0 : n * K); }
};
Delays delays_of(const DelayShape& a) {
  return {static_cast<int>(a.N),
          static_cast<int>(a.steps),
          static_cast<int>(a.keys),
          static_cast<int>(a.used()),
          static_cast<int>(a.d),
          static_cast<int>(a.K),
          a.shared};
}

// R [N][T] of the Gram matrices k q' [N][used][T].
__global__ void __launch_bounds__(256) correlation_kernel(Out<float> R, In<float> grams, Delays a) {
  const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (i >= a.samples * a.steps) return;
  const In<float> G = grams + static_cast<std::int64_t>(i / a.steps) * a.used * a.steps;
  int at = i % a.steps;
  float total = 0;
  for (int t = 0; t < a.used; ++t) {
    total += G[static_cast<std::int64_t>(t) * a.steps + at];
    if (++at == a.steps) at = 0;
  }
  R[i] = total / static_cast<float>(a.d);
}

__global__ void __launch_bounds__(256) sum_of_samples_kernel(Out<float> mean, In<float> R, Delays a) {
  const int tau = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (tau >= a.steps) return;
  float total = 0;
  for (int n = 0; n < a.samples; ++n) total += R[static_cast<std::int64_t>(n) * a.steps + tau];
  mean[tau] = total;
}

// A delay's rank among all; NaN, the last, so that every rank is somebody's.
__global__ void __launch_bounds__(256) pick_delays_kernel(Out<std::int32_t> delays, In<float> R, int rows, Delays a) {
  const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (i >= rows * a.steps) return;
  const int row = i / a.steps, tau = i % a.steps;
  const In<float> all = R + static_cast<std::int64_t>(row) * a.steps;
  const auto key = [&](int at) {
    const float v = all[at];
    return v == v ? v : -INFINITY;
  };
  const float own = key(tau);
  int rank = 0;
  for (int other = 0; other < a.steps; ++other) {
    const float v = key(other);
    rank += v > own || (v == own && other < tau);
  }
  if (rank < a.K) delays[row * a.K + rank] = tau;
}

__global__ void __launch_bounds__(256)
    delay_weights_kernel(Out<float> weight, In<std::int32_t> delays, In<float> R, Delays a) {
  const int n = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (n >= a.samples) return;
  const In<std::int32_t> tau = a.of(delays, n);
  const In<float> r = R + static_cast<std::int64_t>(n) * a.steps;
  const Out<float> w = weight + static_cast<std::int64_t>(n) * a.K;
  float most = r[tau[0]], total = 0;
  for (int i = 1; i < a.K; ++i) most = fmaxf(most, r[tau[i]]);
  for (int i = 0; i < a.K; ++i) {
    const float e = power_of_two((r[tau[i]] - most) * 1.44269504f);
    w[i] = e;
    total += e;
  }
  for (int i = 0; i < a.K; ++i) w[i] = w[i] / total;
}

// A roll of `given` rows of each sample to `rows` rows.
__global__ void __launch_bounds__(256)
    roll_steps_kernel(Out<float> to, std::int64_t ldt, bool adds, int rows, In<float> weight, In<std::int32_t> delays,
                      In<float> from, std::int64_t ld, std::int64_t stride, int given, bool forwards, Delays a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= static_cast<std::int64_t>(a.samples) * rows * a.d) return;
  const int c = static_cast<int>(e % a.d), t = static_cast<int>(e / a.d % rows), n = static_cast<int>(e / a.d / rows);
  const Out<float> y = to + (e / a.d * ldt + c);
  const In<std::int32_t> tau = a.of(delays, n);
  float total = adds ? static_cast<float>(*y) : 0.0f;
  for (int i = 0; i < a.K && t < a.steps; ++i) {
    const int at = (t + (forwards ? static_cast<int>(tau[i]) : a.steps - tau[i])) % a.steps;
    if (at < given) total += weight[n * a.K + i] * static_cast<float>(from[n * stride + at * ld + c]);
  }
  *y = total;
}

// A block: dw of a sample and a delay.
__global__ void __launch_bounds__(256)
    delay_dots_kernel(Out<float> dots, In<float> dy, In<float> v, std::int64_t ldv, In<std::int32_t> delays, Delays a) {
  SIMT_SHARED(float, scratch, 8);
  const int n = static_cast<int>(blockIdx.x) / a.K, tau = a.of(delays, n)[static_cast<int>(blockIdx.x) % a.K];
  float total = 0;
  for (int e = static_cast<int>(threadIdx.x); e < a.steps * a.d; e += 256) {
    const int t = e / a.d, c = e % a.d, at = (t + tau) % a.steps;
    if (at >= a.used) continue;
    total += dy[static_cast<std::int64_t>(n) * a.steps * a.d + e] *
             static_cast<float>(v[(static_cast<std::int64_t>(n) * a.keys + at) * ldv + c]);
  }
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) dots[blockIdx.x] = total;
}

__global__ void __launch_bounds__(256) delay_slopes_kernel(Out<float> slope, In<float> weight, Delays a) {
  const int n = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (n >= a.samples) return;
  const In<float> w = weight + static_cast<std::int64_t>(n) * a.K;
  const Out<float> r = slope + static_cast<std::int64_t>(n) * a.K;
  float along = 0;
  for (int i = 0; i < a.K; ++i) along += w[i] * static_cast<float>(r[i]);
  for (int i = 0; i < a.K; ++i) r[i] = w[i] * (r[i] - along) / static_cast<float>(a.d);
}

void roll(const Cuda& on, Sink<float> to, std::int64_t rows, const float* weight, const std::int32_t* delays,
          const float* from, std::int64_t ld, std::int64_t stride, std::int64_t given, bool forwards,
          const DelayShape& a) {
  launch(on, "roll_steps", roll_steps_kernel, grid_of(a.N * rows * a.d, 256), to.data, to.ld, to.add,
         static_cast<int>(rows), weight, delays, from, ld, stride, static_cast<int>(given), forwards, delays_of(a));
}

}  // namespace

std::int64_t auto_correlation_scratch(const Cuda&, const DelayShape& a) {
  return a.N * a.steps * (a.used() + 1) + a.steps;
}
std::int64_t auto_correlation_backward_scratch(const Cuda&, const DelayShape& a) { return a.N * a.K; }

void auto_correlation(const Cuda& on, float* y, float* weight, std::int32_t* delays, const DelayInput<float>& in,
                      const DelayShape& a, float* scratch) {
  float *const R = scratch, *const mean = R + a.N * a.steps, *const grams = mean + a.steps;
  const Delays all = delays_of(a);
  Product gram{false, true, a.used(), a.steps, a.d, in.k, in.ldk, in.q, in.ldq, grams, a.steps};
  gram.samples = a.N, gram.stride_a = a.keys * in.ldk, gram.stride_b = a.steps * in.ldq;
  gram.stride_c = a.used() * a.steps;
  product(on, gram);
  launch(on, "correlation", correlation_kernel, grid_of(a.N * a.steps, 256), R, grams, all);
  if (a.shared) launch(on, "sum_of_samples", sum_of_samples_kernel, grid_of(a.steps, 256), mean, R, all);
  const std::int64_t rows = a.shared ? 1 : a.N;
  launch(on, "pick_delays", pick_delays_kernel, grid_of(rows * a.steps, 256), delays, a.shared ? mean : R,
         static_cast<int>(rows), all);
  launch(on, "delay_weights", delay_weights_kernel, grid_of(a.N, 256), weight, delays, R, all);
  roll(on, {y, a.d, false}, a.steps, weight, delays, in.v, in.ldv, a.keys * in.ldv, a.used(), true, a);
}

void auto_correlation_backward(const Cuda& on, Sink<float> dq, Sink<float> dk, Sink<float> dv, const float* dy,
                               const float* weight, const std::int32_t* delays, const DelayInput<float>& in,
                               const DelayShape& a, float* slope) {
  const std::int64_t steps = a.steps;
  if (dv) roll(on, dv, a.keys, weight, delays, dy, a.d, steps * a.d, steps, false, a);
  if (!dq && !dk) return;
  launch(on, "delay_dots", delay_dots_kernel, dim3{static_cast<unsigned>(a.N * a.K), 1, 1}, slope, dy, in.v, in.ldv,
         delays, delays_of(a));
  launch(on, "delay_slopes", delay_slopes_kernel, grid_of(a.N, 256), slope, weight, delays_of(a));
  if (dq) roll(on, dq, steps, slope, delays, in.k, in.ldk, a.keys * in.ldk, a.used(), false, a);
  if (dk) roll(on, dk, a.keys, slope, delays, in.q, in.ldq, steps * in.ldq, steps, true, a);
}

}  // namespace samformer::kernels
