// Batch and layer normalisation of samples [N][M], M = channels times steps (TSMixer, Chen et al. 2023: both normalise
// over channels and time together):
//
//   y = (x - mean) rstd w + b,   rstd = 1 / sqrt(var + epsilon), var biased
//   batch: mean and var of each of the M positions over the N samples
//   layer: mean and var of each sample over its M positions
//   dx = rstd (g - avg(g) - xhat avg(g xhat)),  g = w dy,  averages over what was normalised
//   dw = sum dy xhat,  db = sum dy
//
// Outside training batch normalisation uses running averages, constants: dx = rstd w dy. A batch of one sample
// normalises to b. Shapes: x, y [N][M]; w, b [M]; mean, rstd [M] (batch) or [N] (layer), saved for backward.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

inline constexpr double norm_epsilon = 1e-3;   // Keras's
inline constexpr double norm_momentum = 0.99;  // of the running averages

// What frameworks differ in: epsilon, the share of a running average that stays, and whether the variance that it moves
// towards is unbiased, n / (n - 1) var.
struct NormRule {
  double epsilon = norm_epsilon, momentum = norm_momentum;
  bool unbiased = false;
  double spread(std::int64_t n) const {
    return unbiased && n > 1 ? static_cast<double>(n) / static_cast<double>(n - 1) : 1;
  }
};
inline constexpr NormRule pytorch_norm{1e-5, 0.9, true};

// Normalises by this batch. Running averages (null: left alone) move by 1 - momentum towards it; one sample, or a
// `progress` (null: none) with a bad pass, leaves them alone.
void batch_norm(const Cuda& on, float* y, float* mean, float* rstd, float* running_mean, float* running_var,
                const Progress* progress, const float* x, const float* w, const float* b, std::int64_t N,
                std::int64_t M, const NormRule& rule = {});
// The same by running averages; rstd of them.
void batch_norm_running(const Cuda& on, float* y, float* rstd, const float* running_mean, const float* running_var,
                        const float* x, const float* w, const float* b, std::int64_t N, std::int64_t M,
                        const NormRule& rule = {});
// `constant`: the statistics were running averages.
void batch_norm_backward(const Cuda& on, Sink<float> dx, Sink<float> dw, Sink<float> db, const float* dy,
                         const float* x, const float* mean, const float* rstd, const float* w, bool constant,
                         std::int64_t N, std::int64_t M);

// Scalars of workspace of both passes of layer norm.
constexpr std::int64_t layer_norm_scratch(Cpu, std::int64_t, std::int64_t) { return 0; }
std::int64_t layer_norm_scratch(const Cuda& on, std::int64_t N, std::int64_t M);
void layer_norm(const Cuda& on, float* y, float* mean, float* rstd, const float* x, const float* w, const float* b,
                std::int64_t N, std::int64_t M, float* scratch, double epsilon = norm_epsilon);
void layer_norm_backward(const Cuda& on, Sink<float> dx, Sink<float> dw, Sink<float> db, const float* dy,
                         const float* x, const float* mean, const float* rstd, const float* w, std::int64_t N,
                         std::int64_t M, float* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"

namespace samformer::kernels {

inline constexpr std::int64_t norm_width = 64;  // positions of a block

template <class T>
T reciprocal_root(T variance, double epsilon) {
  using std::sqrt;
  return static_cast<T>(1) / sqrt(variance + static_cast<T>(epsilon));
}

namespace detail {

template <class T>
void batch_statistics(T* mean, T* rstd, T* running_mean, T* running_var, const T* x, std::int64_t N, std::int64_t M,
                      const NormRule& rule) {
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
    const T keep = static_cast<T>(rule.momentum), take = static_cast<T>(1 - rule.momentum);
    const T spread = static_cast<T>(rule.spread(N));
    for (std::int64_t c = 0; c < n; ++c) {
      const T variance = squares[c] * share;
      mean[first + c] = total[c];
      rstd[first + c] = reciprocal_root(variance, rule.epsilon);
      if (running_mean && N > 1) {
        running_mean[first + c] = keep * running_mean[first + c] + take * total[c];
        running_var[first + c] = keep * running_var[first + c] + take * (spread * variance);
      }
    }
  });
}

template <class T>
void normalise_positions(T* y, const T* x, const T* mean, const T* rstd, const T* w, const T* b, std::int64_t N,
                         std::int64_t M) {
  for_rows<T>(N, M, [=](std::int64_t i) {
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) y[i * M + c] = (x[i * M + c] - mean[c]) * (rstd[c] * w[c]) + b[c];
  });
}

// Sums over the samples of `total` = dy and `along` = dy xhat, to dw and db from position `first` on.
template <class T>
void write_sums(Sink<T> dw, Sink<T> db, const T* along, const T* total, std::int64_t first, std::int64_t n) {
  for (std::int64_t c = 0; db && c < n; ++c) db.data[first + c] = db.add ? db.data[first + c] + total[c] : total[c];
  for (std::int64_t c = 0; dw && c < n; ++c) dw.data[first + c] = dw.add ? dw.data[first + c] + along[c] : along[c];
}

}  // namespace detail

template <class T>
void batch_norm(Cpu, T* y, T* mean, T* rstd, T* running_mean, T* running_var, const Progress*, const T* x, const T* w,
                const T* b, std::int64_t N, std::int64_t M, const NormRule& rule = {}) {
  detail::batch_statistics(mean, rstd, running_mean, running_var, x, N, M, rule);
  detail::normalise_positions(y, x, mean, rstd, w, b, N, M);
}
template <class T>
void batch_norm_running(Cpu, T* y, T* rstd, const T* running_mean, const T* running_var, const T* x, const T* w,
                        const T* b, std::int64_t N, std::int64_t M, const NormRule& rule = {}) {
  for (std::int64_t i = 0; i < M; ++i) rstd[i] = reciprocal_root(running_var[i], rule.epsilon);
  detail::normalise_positions(y, x, running_mean, rstd, w, b, N, M);
}

template <class T>
void batch_norm_backward(Cpu, Sink<T> dx, Sink<T> dw, Sink<T> db, const T* dy, const T* x, const T* mean, const T* rstd,
                         const T* w, bool constant, std::int64_t N, std::int64_t M) {
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
    detail::write_sums(dw, db, along, total, first, n);
    if (!dx) return;
    for (std::int64_t i = 0; i < N; ++i) {
      const T *g = dy + i * M + first, *row = x + i * M + first;
      T* to = dx.data + i * M + first;
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) {
        const T xhat = (row[c] - mean[first + c]) * rstd[first + c], before = dx.add ? to[c] : T{};
        to[c] = before + rstd[first + c] * w[first + c] * (g[c] - share * (total[c] + xhat * along[c]));
      }
    }
  });
}

template <class T>
void layer_norm(Cpu, T* y, T* mean, T* rstd, const T* x, const T* w, const T* b, std::int64_t N, std::int64_t M, T*,
                double epsilon = norm_epsilon) {
  for_rows<T>(N, M, [=](std::int64_t i) {
    const T* row = x + i * M;
    const T share = static_cast<T>(1.0 / static_cast<double>(M)), average = sum(row, M) * share;
    T* to = y + i * M;
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) to[c] = row[c] - average;
    const T scale = reciprocal_root(dot(to, to, M) * share, epsilon);
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) to[c] = to[c] * scale * w[c] + b[c];
    mean[i] = average;
    rstd[i] = scale;
  });
}

template <class T>
void layer_norm_backward(Cpu, Sink<T> dx, Sink<T> dw, Sink<T> db, const T* dy, const T* x, const T* mean, const T* rstd,
                         const T* w, std::int64_t N, std::int64_t M, T*) {
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
      detail::write_sums(dw, db, along, total, first, n);
    });
  }
  if (!dx) return;
  for_rows<T>(N, M, [=](std::int64_t i) {
    const T *g = dy + i * M, *row = x + i * M;
    T* to = dx.data + i * M;
    const T average = mean[i], scale = rstd[i], share = static_cast<T>(1.0 / static_cast<double>(M));
    const T total = dot(g, w, M);
    T along{};
    for (std::int64_t c = 0; c < M; ++c) along += g[c] * w[c] * ((row[c] - average) * scale);
#pragma omp simd
    for (std::int64_t c = 0; c < M; ++c) {
      const T before = dx.add ? to[c] : T{};
      to[c] = before + scale * (g[c] * w[c] - share * (total + (row[c] - average) * scale * along));
    }
  });
}

}  // namespace samformer::kernels
#endif
