// Rows of each of N samples side by side, what a convolution over steps multiplies with its weight [out, C, width]:
//
//   y[n][t][c width + j] = x[n][t stride + first + j][c],   t < rows, j < width; x outside of its T rows: 0, or circular
//   dx[n][s][c] = sum of dy[n][t][c width + j] over the pairs (t, j) that read row s, by rising j, then t
//
// A gather whose indices are a formula: no list of them is anywhere. Of width 1 it takes rows out, or appends zeros.
// x [N][T][C], y [N][rows][C width].
//
// max_pool: y[n][t][c] = max of x[n][2t - 1 .. 2t + 1][c] inside the T rows, t < floor((T - 1) / 2) + 1; its gradient
// goes to the largest, of equal ones to the first.
//
// sinusoids: P[t][2i] = sin(t w_i), P[t][2i + 1] = cos(t w_i), w_i = 10000^(-2i / d) (Vaswani et al. 2017), [T][d].
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

struct UnfoldShape {
  std::int64_t T, C, rows;
  std::int64_t width = 1, stride = 1, first = 0;
  bool circular = false;

  // The row that t reads at j; -1: none.
  constexpr std::int64_t source(std::int64_t t, std::int64_t j) const {
    const std::int64_t at = t * stride + first + j;
    if (circular) return (at % T + T) % T;
    return at >= 0 && at < T ? at : -1;
  }
  // Where row s lies before the rows of j, of what reads it: t stride = begin(s, j) + m T, for all m where circular.
  constexpr std::int64_t begin(std::int64_t s, std::int64_t j) const {
    const std::int64_t at = s - first - j;
    return circular ? (at % T + T) % T : at;
  }
};
constexpr std::int64_t pooled(std::int64_t T) { return (T - 1) / 2 + 1; }

void unfold(const Cuda& on, float* y, const float* x, std::int64_t N, const UnfoldShape& a);
void unfold_backward(const Cuda& on, Sink<float> dx, const float* dy, std::int64_t N, const UnfoldShape& a);
void max_pool(const Cuda& on, float* y, const float* x, std::int64_t N, std::int64_t T, std::int64_t C);
void max_pool_backward(const Cuda& on, Sink<float> dx, const float* dy, const float* x, std::int64_t N, std::int64_t T,
                       std::int64_t C);
void sinusoids(const Cuda& on, float* P, std::int64_t T, std::int64_t d);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"

namespace samformer::kernels {

template <class T>
void unfold(Cpu, T* y, const T* x, std::int64_t N, const UnfoldShape& a) {
  for_rows<T>(N * a.rows, a.C * a.width, [=](std::int64_t r) {
    T* const to = y + r * a.C * a.width;
    for (std::int64_t j = 0; j < a.width; ++j) {
      const std::int64_t s = a.source(r % a.rows, j);
      const T* const from = x + (r / a.rows * a.T + s) * a.C;
      for (std::int64_t c = 0; c < a.C; ++c) to[c * a.width + j] = s < 0 ? T{} : from[c];
    }
  });
}

template <class T>
void unfold_backward(Cpu, Sink<T> dx, const T* dy, std::int64_t N, const UnfoldShape& a) {
  for_rows<T>(N * a.T, a.C * a.width, [=](std::int64_t r) {
    T* const to = dx.data + r * dx.ld;
    if (!dx.add) std::fill_n(to, a.C, T{});
    for (std::int64_t j = 0; j < a.width; ++j) {
      for (std::int64_t at = a.begin(r % a.T, j); at < a.rows * a.stride; at += a.T) {
        if (at >= 0 && at % a.stride == 0) {
          const T* const from = dy + (r / a.T * a.rows + at / a.stride) * a.C * a.width + j;
          for (std::int64_t c = 0; c < a.C; ++c) to[c] += from[c * a.width];
        }
        if (!a.circular) break;
      }
    }
  });
}

template <class T>
void max_pool(Cpu, T* y, const T* x, std::int64_t N, std::int64_t steps, std::int64_t C) {
  const std::int64_t rows = pooled(steps);
  for_rows<T>(N * rows, C, [=](std::int64_t r) {
    const std::int64_t t = 2 * (r % rows), end = std::min(t + 2, steps);
    const T* const from = x + r / rows * steps * C;
    for (std::int64_t c = 0; c < C; ++c) {
      std::int64_t most = std::max<std::int64_t>(t - 1, 0);
      for (std::int64_t s = most + 1; s < end; ++s) most = from[s * C + c] > from[most * C + c] ? s : most;
      y[r * C + c] = from[most * C + c];
    }
  });
}

template <class T>
void max_pool_backward(Cpu, Sink<T> dx, const T* dy, const T* x, std::int64_t N, std::int64_t steps, std::int64_t C) {
  const std::int64_t rows = pooled(steps);
  for_rows<T>(N, steps * C, [=](std::int64_t n) {
    const T* const from = x + n * steps * C;
    for (std::int64_t s = 0; !dx.add && s < steps; ++s) std::fill_n(dx.data + (n * steps + s) * dx.ld, C, T{});
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::int64_t end = std::min(2 * t + 2, steps);
      for (std::int64_t c = 0; c < C; ++c) {
        std::int64_t most = std::max<std::int64_t>(2 * t - 1, 0);
        for (std::int64_t s = most + 1; s < end; ++s) most = from[s * C + c] > from[most * C + c] ? s : most;
        dx.data[(n * steps + most) * dx.ld + c] += dy[(n * rows + t) * C + c];
      }
    }
  });
}

template <class T>
void sinusoids(Cpu, T* P, std::int64_t steps, std::int64_t d) {
  for (std::int64_t t = 0; t < steps; ++t) {
    for (std::int64_t c = 0; c < d; ++c) {
      const double angle =
          static_cast<double>(t) * std::pow(10000.0, -static_cast<double>(c / 2 * 2) / static_cast<double>(d));
      P[t * d + c] = static_cast<T>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
  }
}

}  // namespace samformer::kernels
#endif
