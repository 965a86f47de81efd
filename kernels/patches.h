// Patches of rows [R][L] (PatchTST, Nie et al. 2023): as if the last value went on for another stride,
//
//   y[r][p][j] = x[r][min(p s + j, L - 1)],   p < n = floor((L - P) / s) + 2, j < P
//   dx[r][t] = sum of dy[r][p][j] over the pairs (p, j) that read x[r][t], by rising p, then j
//
// A gather whose indices are a formula: no list of them is anywhere. y [R][n][P]; P <= L.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

struct PatchShape {
  std::int64_t L, length, stride;  // P, s
  constexpr std::int64_t count() const { return (L - length) / stride + 2; }
};

void patches(const Cuda& on, float* y, const float* x, std::int64_t R, const PatchShape& a);
void patches_backward(const Cuda& on, Sink<float> dx, const float* dy, std::int64_t R, const PatchShape& a);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace samformer::kernels {

template <class T>
void patches(Cpu, T* y, const T* x, std::int64_t R, const PatchShape& a) {
  const std::int64_t L = a.L, n = a.count(), P = a.length, s = a.stride;
  parallel_for<T>(R, [=](std::int64_t r) {
    const T* from = x + r * L;
    for (std::int64_t p = 0; p < n; ++p) {
      T* to = y + (r * n + p) * P;
      const std::int64_t own = std::clamp<std::int64_t>(L - p * s, 0, P);
      std::copy_n(from + std::min(p * s, L), own, to);
      std::fill(to + own, to + P, from[L - 1]);
    }
  });
}

template <class T>
void patches_backward(Cpu, Sink<T> dx, const T* dy, std::int64_t R, const PatchShape& a) {
  const std::int64_t L = a.L, n = a.count(), P = a.length, s = a.stride;
  parallel_for<T>(R, [=](std::int64_t r) {
    T* to = dx.data + r * dx.ld;
    if (!dx.add) std::fill_n(to, L, T{});
    for (std::int64_t p = 0; p < n; ++p) {
      const T* from = dy + (r * n + p) * P;
      for (std::int64_t j = 0; j < P; ++j) to[std::min(p * s + j, L - 1)] += from[j];
    }
  });
}

}  // namespace samformer::kernels
#endif
