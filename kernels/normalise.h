// Batch and layer normalisation of samples [N][M], M = channels times steps (TSMixer, Chen et al. 2023: both normalise
// over channels and time together):
//
//   y = (x - mean) rstd w + b,   rstd = 1 / sqrt(var + 1e-3)
//   batch: mean and biased var of each of the M positions over the N samples; layer: of each sample over its M
//   positions dx = rstd (g - avg(g) - xhat avg(g xhat)),  g = w dy,  averages over what was normalised;  dw = sum dy
//   xhat, db = sum dy
//
// Outside training batch normalisation uses running averages, constants: dx = rstd w dy. A batch of one sample
// normalises to b. Shapes: x, y [N][M]; w, b [M]; mean, rstd [M] (batch) or [N] (layer), saved for backward.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

inline constexpr double norm_epsilon = 1e-3;    // Keras's
inline constexpr double norm_momentum = 0.99;   // of the running averages
inline constexpr std::int64_t norm_width = 64;  // positions of a block

template <class T>
T reciprocal_root(T variance) {
  using std::sqrt;
  return static_cast<T>(1) / sqrt(variance + static_cast<T>(norm_epsilon));
}

// mean and rstd [M] over the samples. Running averages (null: left alone) move by 1 - momentum towards this batch; a
// batch of one sample leaves them alone.
template <class T>
void batch_statistics(T* mean, T* rstd, T* running_mean, T* running_var, const T* x, std::int64_t N, std::int64_t M) {
  parallel_for<T>(blocks_of(M, norm_width), [=](std::int64_t block) {
    const std::int64_t first = block * norm_width, n = std::min(norm_width, M - first);
    const T share = static_cast<T>(1.0 / static_cast<double>(N));
    T total[norm_width] = {}, squares[norm_width] = {};
    for (std::int64_t i = 0; i < N; ++i) {
      const T* row = x + i * M + first;
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) total[c] += row[c];
    }
    for (std::int64_t c = 0; c < n; ++c) total[c] *= share;
    for (std::int64_t i = 0; i < N; ++i) {
      const T* row = x + i * M + first;
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) squares[c] += (row[c] - total[c]) * (row[c] - total[c]);
    }
    const T keep = static_cast<T>(norm_momentum), take = static_cast<T>(1 - norm_momentum);
    for (std::int64_t c = 0; c < n; ++c) {
      const T variance = squares[c] * share;
      mean[first + c] = total[c];
      rstd[first + c] = reciprocal_root(variance);
      if (running_mean && N > 1) {
        running_mean[first + c] = keep * running_mean[first + c] + take * total[c];
        running_var[first + c] = keep * running_var[first + c] + take * variance;
      }
    }
  });
}

// y from statistics of positions; y may be x.
template <class T>
void batch_norm(T* y, const T* x, const T* mean, const T* rstd, const T* w, const T* b, std::int64_t N,
                std::int64_t M) {
  parallel_for<T>(N, [=](std::int64_t i) {
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) y[i * M + c] = (x[i * M + c] - mean[c]) * (rstd[c] * w[c]) + b[c];
  });
}

// Accumulates dx [N][M], dw and db [M] (null: not wanted). `constant`: the statistics were running averages.
template <class T>
void batch_norm_backward(T* dx, T* dw, T* db, const T* dy, const T* x, const T* mean, const T* rstd, const T* w,
                         bool constant, std::int64_t N, std::int64_t M) {
  parallel_for<T>(blocks_of(M, norm_width), [=](std::int64_t block) {
    const std::int64_t first = block * norm_width, n = std::min(norm_width, M - first);
    const T share = static_cast<T>(constant ? 0.0 : 1.0 / static_cast<double>(N));
    T total[norm_width] = {}, along[norm_width] = {};
    for (std::int64_t i = 0; i < N; ++i) {
      const T *g = dy + i * M + first, *row = x + i * M + first;
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) {
        total[c] += g[c];
        along[c] += g[c] * ((row[c] - mean[first + c]) * rstd[first + c]);
      }
    }
    for (std::int64_t c = 0; db && c < n; ++c) db[first + c] += total[c];
    for (std::int64_t c = 0; dw && c < n; ++c) dw[first + c] += along[c];
    if (!dx) return;
    for (std::int64_t i = 0; i < N; ++i) {
      const T *g = dy + i * M + first, *row = x + i * M + first;
      T* to = dx + i * M + first;
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) {
        const T xhat = (row[c] - mean[first + c]) * rstd[first + c];
        to[c] += rstd[first + c] * w[first + c] * (g[c] - share * (total[c] + xhat * along[c]));
      }
    }
  });
}

// y, mean and rstd [N].
template <class T>
void layer_norm(T* y, T* mean, T* rstd, const T* x, const T* w, const T* b, std::int64_t N, std::int64_t M) {
  parallel_for<T>(N, [=](std::int64_t i) {
    const T* row = x + i * M;
    const T share = static_cast<T>(1.0 / static_cast<double>(M)), average = sum(row, M) * share;
    T* to = y + i * M;
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) to[c] = row[c] - average;
    const T scale = reciprocal_root(dot(to, to, M) * share);
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) to[c] = to[c] * scale * w[c] + b[c];
    mean[i] = average;
    rstd[i] = scale;
  });
}

// Accumulates dx [N][M], dw and db [M] (null: not wanted).
template <class T>
void layer_norm_backward(T* dx, T* dw, T* db, const T* dy, const T* x, const T* mean, const T* rstd, const T* w,
                         std::int64_t N, std::int64_t M) {
  if (dw || db) {
    parallel_for<T>(blocks_of(M, norm_width), [=](std::int64_t block) {
      const std::int64_t first = block * norm_width, n = std::min(norm_width, M - first);
      T total[norm_width] = {}, along[norm_width] = {};
      for (std::int64_t i = 0; i < N; ++i) {
        const T *g = dy + i * M + first, *row = x + i * M + first;
#pragma omp simd
        for (std::int64_t c = 0; c < n; ++c) {
          total[c] += g[c];
          along[c] += g[c] * ((row[c] - mean[i]) * rstd[i]);
        }
      }
      for (std::int64_t c = 0; db && c < n; ++c) db[first + c] += total[c];
      for (std::int64_t c = 0; dw && c < n; ++c) dw[first + c] += along[c];
    });
  }
  if (!dx) return;
  parallel_for<T>(N, [=](std::int64_t i) {
    const T *g = dy + i * M, *row = x + i * M;
    T* to = dx + i * M;
    const T average = mean[i], scale = rstd[i], share = static_cast<T>(1.0 / static_cast<double>(M));
    const T total = dot(g, w, M);
    T along{};
    for (std::int64_t c = 0; c < M; ++c) along += g[c] * w[c] * ((row[c] - average) * scale);
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) {
      to[c] += scale * (g[c] * w[c] - share * (total + (row[c] - average) * scale * along));
    }
  });
}

}  // namespace samformer::kernels
