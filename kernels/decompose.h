// The decomposition of a series into its moving average and what is left (Autoformer, Wu et al. 2021; DLinear, Zeng et
// al. 2023), of rows [R][L]:
//
//   trend_t = 1/w sum_{j = 0..w-1} x_{clip(t + j - a)},   seasonal = x - trend,   a = w - 1 - floor((w - 1) / 2)
//   dx_s = dseasonal_s + sum_t c(s, t) / w (dtrend - dseasonal)_t
//
// clip: into 0 .. L-1, as if the first and the last value went on; c(s, t): how many of t's w terms are x_s. Nothing is
// saved. y and dy: [R][2 L], seasonal | trend, rows ld apart.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

constexpr std::int64_t average_front(std::int64_t width) { return width - 1 - (width - 1) / 2; }

// c(s, t): the number of j in 0 .. width-1 with clip(t + j - front) = s.
#ifdef __CUDACC__
__host__ __device__
#endif
    constexpr int
    average_terms(int s, int t, int L, int width, int front) {
  const int first = s == 0 ? 0 : s - t + front, last = s == L - 1 ? width - 1 : s - t + front;
  const int low = first < 0 ? 0 : first, high = last > width - 1 ? width - 1 : last;
  return high < low ? 0 : high - low + 1;
}

void decompose(const Cuda& on, float* y, const float* x, std::int64_t R, std::int64_t L, std::int64_t width);
void decompose_backward(const Cuda& on, Sink<float> dx, const float* dy, std::int64_t ld, std::int64_t R,
                        std::int64_t L, std::int64_t width);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace samformer::kernels {

template <class T>
void decompose(Cpu, T* y, const T* x, std::int64_t R, std::int64_t L, std::int64_t width) {
  const std::int64_t front = average_front(width);
  const T share = static_cast<T>(1 / static_cast<double>(width));
  parallel_for<T>(R, [=](std::int64_t r) {
    const T* from = x + r * L;
    T *const seasonal = y + 2 * r * L, *const trend = seasonal + L;
    std::fill_n(trend, L, T{});
    for (std::int64_t j = 0; j < width; ++j) {  // one term of every step: whole vectors
      const std::int64_t shift = j - front, begin = std::clamp<std::int64_t>(-shift, 0, L),
                         end = std::clamp<std::int64_t>(L - shift, begin, L);
      for (std::int64_t t = 0; t < begin; ++t) trend[t] += from[0];
#pragma omp simd
      for (std::int64_t t = begin; t < end; ++t) trend[t] += from[t + shift];
      for (std::int64_t t = end; t < L; ++t) trend[t] += from[L - 1];
    }
#pragma omp simd
    for (std::int64_t t = 0; t < L; ++t) {
      trend[t] *= share;
      seasonal[t] = from[t] - trend[t];
    }
  });
}

template <class T>
void decompose_backward(Cpu, Sink<T> dx, const T* dy, std::int64_t ld, std::int64_t R, std::int64_t L,
                        std::int64_t width) {
  const std::int64_t front = average_front(width), back = width - 1 - front;
  const T share = static_cast<T>(1 / static_cast<double>(width));
  parallel_for<T>(R, [=](std::int64_t r) {
    const T *seasonal = dy + r * ld, *trend = seasonal + L;
    T* to = dx.data + r * dx.ld;
    for (std::int64_t s = 0; s < L; ++s) {
      T total{};
      for (std::int64_t t = std::max<std::int64_t>(0, s - back); t < std::min(L, s + front + 1); ++t) {
        const int terms = average_terms(static_cast<int>(s), static_cast<int>(t), static_cast<int>(L),
                                        static_cast<int>(width), static_cast<int>(front));
        total += static_cast<T>(static_cast<double>(terms)) * (trend[t] - seasonal[t]);
      }
      const T own = seasonal[s] + share * total;
      to[s] = dx.add ? to[s] + own : own;
    }
  });
}

}  // namespace samformer::kernels
#endif
