// Auto-correlation in the place of attention (Autoformer, Wu et al. 2021) of queries q [N T][d] with keys and values
// k, v [N S][d], which count as if cut, or continued by zeros, to T steps:
//
//   R_n(tau) = 1/d sum_t q_{(t + tau) mod T} . k_t,   tau = 0 .. T-1           sums along wrapped diagonals of k q'
//   tau_1 .. tau_K: the delays of the K largest R_n, or of the K largest mean_n R_n for all samples;
//   w = softmax_i R_n(tau_i),   y_t = sum_i w_i v_{(t + tau_i) mod T}
//
//   dw_i = sum_t dy_t . v_{(t + tau_i) mod T},   r_i = w_i (dw_i - sum_j w_j dw_j) / d,
//   dv_s = sum_i w_i dy_{(s - tau_i) mod T},   dq_t = sum_i r_i k_{(t - tau_i) mod T},
//   dk_t = sum_i r_i q_{(t + tau_i) mod T}
//
// The picks carry no gradient, the values R(tau_i) do. Of equal R the smaller delay comes first; NaN come last. Saved:
// the delays [N or 1][K], w [N][K].
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

struct DelayShape {
  std::int64_t N, steps, keys, d, K;                                           // T, S
  bool shared;                                                                 // one set of delays for all samples
  constexpr std::int64_t used() const { return keys < steps ? keys : steps; }  // rows of k and v that count
};

template <class T>
struct DelayInput {
  const T *q, *k, *v;
  std::int64_t ldq, ldk, ldv;
};

// Scalars of workspace.
std::int64_t auto_correlation_scratch(const Cuda& on, const DelayShape& a);
std::int64_t auto_correlation_backward_scratch(const Cuda& on, const DelayShape& a);
void auto_correlation(const Cuda& on, float* y, float* weight, std::int32_t* delays, const DelayInput<float>& in,
                      const DelayShape& a, float* scratch);
void auto_correlation_backward(const Cuda& on, Sink<float> dq, Sink<float> dk, Sink<float> dv, const float* dy,
                               const float* weight, const std::int32_t* delays, const DelayInput<float>& in,
                               const DelayShape& a, float* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/gemm.h"

namespace samformer::kernels {

constexpr std::int64_t auto_correlation_scratch(Cpu, const DelayShape& a) {
  return a.N * a.steps * (a.used() + 1) + a.steps;
}
constexpr std::int64_t auto_correlation_backward_scratch(Cpu, const DelayShape& a) { return a.N * a.K; }

namespace detail {

inline const std::int32_t* delays_of(const std::int32_t* delays, const DelayShape& a, std::int64_t n) {
  return delays + (a.shared ? 0 : n * a.K);
}

// The K largest of R [T], largest first.
template <class T>
void pick_delays(std::int32_t* delays, const T* R, std::int64_t steps, std::int64_t K) {
  std::fill_n(delays, K, 0);
  for (std::int64_t tau = 0; tau < steps; ++tau) {
    std::int64_t rank = 0;
    for (std::int64_t other = 0; other < tau; ++other) rank += !(R[other] < R[tau]);
    for (std::int64_t other = tau + 1; other < steps; ++other) rank += R[tau] < R[other];
    if (rank < K) delays[rank] = static_cast<std::int32_t>(tau);
  }
}

// to_t (+)= sum_i w_i from_{(t +- tau_i) mod T} for `rows` rows of each sample, of which those behind T get nothing;
// from has `given` rows.
template <class T>
void roll_steps(Sink<T> to, std::int64_t rows, const T* weight, const std::int32_t* delays, const T* from,
                std::int64_t ld, std::int64_t stride, std::int64_t given, bool forwards, const DelayShape& a) {
  constexpr std::int64_t height = 8;
  const std::int64_t down = blocks_of(rows, height);
  parallel_for<T>(a.N * down, [=](std::int64_t block) {
    const std::int64_t n = block / down, begin = block % down * height;
    const std::int32_t* tau = delays_of(delays, a, n);
    for (std::int64_t t = begin; t < std::min(rows, begin + height); ++t) {
      T* y = to.data + (n * rows + t) * to.ld;
      if (!to.add) std::fill_n(y, a.d, T{});
      for (std::int64_t i = 0; i < a.K && t < a.steps; ++i) {
        const std::int64_t at = (t + (forwards ? tau[i] : a.steps - tau[i])) % a.steps;
        if (at >= given) continue;
        const T w = weight[n * a.K + i], *x = from + n * stride + at * ld;
#pragma omp simd
        for (std::int64_t c = 0; c < a.d; ++c) y[c] += w * x[c];
      }
    }
  });
}

}  // namespace detail

template <class T>
void auto_correlation(Cpu, T* y, T* weight, std::int32_t* delays, const DelayInput<T>& in, const DelayShape& a,
                      T* scratch) {
  const std::int64_t steps = a.steps, used = a.used();
  T *const R = scratch, *const mean = R + a.N * steps, *const grams = mean + steps;
  parallel_for<T>(a.N, [=](std::int64_t n, auto target) {
    T *const G = grams + n * used * steps, *const r = R + n * steps;  // G = k q'
    gemm_block(target, false, true, used, steps, a.d, in.k + n * a.keys * in.ldk, in.ldk, in.q + n * steps * in.ldq,
               in.ldq, G, steps, false);
    std::fill_n(r, steps, T{});
    for (std::int64_t t = 0; t < used; ++t) {
      const T* row = G + t * steps;
#pragma omp simd
      for (std::int64_t tau = 0; tau < steps - t; ++tau) r[tau] += row[t + tau];
#pragma omp simd
      for (std::int64_t tau = steps - t; tau < steps; ++tau) r[tau] += row[t + tau - steps];
    }
    const T share = static_cast<T>(1 / static_cast<double>(a.d));
    for (std::int64_t tau = 0; tau < steps; ++tau) r[tau] *= share;
    if (!a.shared) detail::pick_delays(delays + n * a.K, r, steps, a.K);
  });
  if (a.shared) {
    std::fill_n(mean, steps, T{});
    for (std::int64_t n = 0; n < a.N; ++n) {
      for (std::int64_t tau = 0; tau < steps; ++tau) mean[tau] += R[n * steps + tau];
    }
    detail::pick_delays(delays, mean, steps, a.K);
  }
  for (std::int64_t n = 0; n < a.N; ++n) {
    const std::int32_t* tau = detail::delays_of(delays, a, n);
    T *const w = weight + n * a.K, total{};
    T most = R[n * steps + tau[0]];
    for (std::int64_t i = 1; i < a.K; ++i) most = most < R[n * steps + tau[i]] ? R[n * steps + tau[i]] : most;
    for (std::int64_t i = 0; i < a.K; ++i) {
      w[i] = exponential(R[n * steps + tau[i]] - most);
      total += w[i];
    }
    for (std::int64_t i = 0; i < a.K; ++i) w[i] /= total;
  }
  detail::roll_steps(Sink<T>{y, a.d, false}, steps, static_cast<const T*>(weight), delays, in.v, in.ldv,
                     a.keys * in.ldv, used, true, a);
}

template <class T>
void auto_correlation_backward(Cpu, Sink<T> dq, Sink<T> dk, Sink<T> dv, const T* dy, const T* weight,
                               const std::int32_t* delays, const DelayInput<T>& in, const DelayShape& a, T* slope) {
  const std::int64_t steps = a.steps, used = a.used();
  parallel_for<T>(a.N * a.K, [=](std::int64_t block) {
    const std::int64_t n = block / a.K, tau = detail::delays_of(delays, a, n)[block % a.K];
    T total{};
    for (std::int64_t t = 0; t < steps; ++t) {
      const std::int64_t at = (t + tau) % steps;
      if (at < used) total += dot(dy + (n * steps + t) * a.d, in.v + (n * a.keys + at) * in.ldv, a.d);
    }
    slope[block] = total;
  });
  const T share = static_cast<T>(1 / static_cast<double>(a.d));
  for (std::int64_t n = 0; n < a.N; ++n) {
    const T* w = weight + n * a.K;
    T* r = slope + n * a.K;
    T along{};
    for (std::int64_t i = 0; i < a.K; ++i) along += w[i] * r[i];
    for (std::int64_t i = 0; i < a.K; ++i) r[i] = share * w[i] * (r[i] - along);
  }
  if (dv) detail::roll_steps(dv, a.keys, weight, delays, dy, a.d, steps * a.d, steps, false, a);
  const T* r = slope;
  if (dq) detail::roll_steps(dq, steps, r, delays, in.k, in.ldk, a.keys * in.ldk, used, false, a);
  if (dk) detail::roll_steps(dk, a.keys, r, delays, in.q, in.ldq, steps * in.ldq, steps, true, a);
}

}  // namespace samformer::kernels
#endif
