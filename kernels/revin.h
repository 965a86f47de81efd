// RevIN (Kim et al. 2022; SAMformer, section 3): per window row r = (n, d),
//
//   xhat = (x - level) / sigma,   sigma = sqrt(var(x) + 1e-5) (biased, around the mean),   level = mean or last value
//   u = gamma_d xhat + beta_d;   inverse: y = (z - beta_d) / (gamma_d + guard) sigma + level
//
// SAMformer applies the scale and shift after its projection (projection.h), so that xhat is a constant of the whole
// SAM step; revin_affine is for the models that need u itself. level and sigma are constants of differentiation: their
// tangents are dropped (`detach`). Shapes: xhat [R][L], R = N D rows, row r = n D + d; y, z [R][H]. `stats`: on the CPU
// level [R], then sigma [R]; on a device [N][channel_stride(D)][2] of level, sigma.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/device.h"

namespace samformer::kernels {

// Rows behind the channels that hold what is known ahead (kernels/covariates.h): from row `first` on `shared` ones for
// all channels, then `own` ones for each.
struct KnownRows {
  std::int64_t first = 0, shared = 0, own = 0;

  constexpr std::int64_t features() const { return shared + own; }  // of a channel
  constexpr std::int64_t rows(std::int64_t D) const { return shared + own * D; }
  // Feature f of channel d, from `first` on.
  constexpr std::int64_t row(std::int64_t d, std::int64_t f) const { return f < shared ? f : f + d * own; }
  explicit operator bool() const { return features() > 0; }
};

// N windows of D channels inside a channel-major series, never copied: row (n, d) starts at
// base + d * channel_stride + starts[n]. A plain array [N][D][L] has channel_stride L and starts n D L. On a device the
// arrays are there, and where there is a `progress` the windows are those of its batch: starts[batch * stride + n].
template <class T>
struct Windows {
  const T* base;
  std::int64_t channel_stride;
  const std::int32_t* starts;
  std::int64_t N;
  std::int64_t D;
  const Progress* progress = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t marks = 0;  // rows behind the D channels, in every window: what the dates say (model/data/marks.h)
  KnownRows known = {};
  std::int64_t marks_ahead = 0;  // steps behind the window of which the marks are read too

  const T* row(std::int64_t n, std::int64_t d) const { return base + d * channel_stride + starts[n]; }
};

// The windows of the marks.
template <class T>
Windows<T> marks_of(Windows<T> x) {
  x.base += x.D * x.channel_stride;
  x.D = x.marks, x.marks = 0, x.known = {};
  return x;
}

// none: no RevIN, level 0 and sigma 1.
enum class Center { mean, last, none };

inline constexpr double revin_epsilon = 1e-5;

constexpr std::int64_t stats_size(Cpu, std::int64_t N, std::int64_t D) { return 2 * N * D; }
constexpr std::int64_t stats_size(const Cuda&, std::int64_t N, std::int64_t D) {
  return 2 * N * kernels::channel_stride(D);
}

// xhat [R][L] (the CPU's may be null: not wanted) and stats of windows of length L.
void revin_normalise(const Cuda& on, float* xhat, float* stats, const Windows<float>& x, std::int64_t L, Center center);

// The batch's means of sigma, sigma^2, level, level^2, sigma level, for statistics mixing (kernels/loss.h): on the CPU
// [D][5], in double for float; on a device [5][channel_stride(D)].
template <class T, class On>
using Moment = std::conditional_t<std::is_same_v<T, float> && std::is_same_v<On, Cpu>, double, T>;
constexpr std::int64_t moments_size(Cpu, std::int64_t D) { return 5 * D; }
constexpr std::int64_t moments_size(const Cuda&, std::int64_t D) { return 5 * kernels::channel_stride(D); }
void revin_moments(const Cuda& on, float* moments, const float* stats, std::int64_t N, std::int64_t D);

// RevIN's learned scale and shift, [D] each; null: 1 and 0.
template <class T>
struct Affine {
  const T* gamma = nullptr;
  const T* beta = nullptr;
  double guard = 0;  // added to the scale in the inverse: eps^2 in the authors' PyTorch model

  T scale(std::int64_t d) const { return gamma ? gamma[d] + static_cast<T>(guard) : static_cast<T>(1); }
  T shift(std::int64_t d) const { return beta ? beta[d] : static_cast<T>(0); }
};

// Where dgamma and dbeta go (all null: not wanted). On the CPU they are added. A device's kernels write the part of
// each row, before the sum over n, to row_sums [2][N][channel_stride(D)]: of gamma_d, of beta_d. Several parts lie one
// behind the other; affine_gradients adds them up.
template <class T>
struct AffineSink {
  T* gamma = nullptr;
  T* beta = nullptr;
  T* row_sums = nullptr;
  explicit operator bool() const { return gamma || beta || row_sums; }
};
constexpr std::int64_t row_sums_size(std::int64_t N, std::int64_t D) { return 2 * N * kernels::channel_stride(D); }
void affine_gradients(const Cuda& on, float* dgamma, float* dbeta, const float* row_sums, int parts, std::int64_t N,
                      std::int64_t D);

// u [R][L] = gamma_d xhat + beta_d, and its backward for constant xhat. scratch: on the CPU 2 R scalars.
void revin_affine(const Cuda& on, float* u, const float* xhat, const float* gamma, const float* beta, std::int64_t N,
                  std::int64_t D, std::int64_t L);
void revin_affine_backward(const Cuda& on, AffineSink<float> affine, const float* du, const float* xhat, std::int64_t N,
                           std::int64_t D, std::int64_t L, float* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

template <class T>
void revin_normalise(Cpu, T* xhat, T* stats, const Windows<T>& x, std::int64_t L, Center center) {
  constexpr std::int64_t rows = 16;
  const std::int64_t R = x.N * x.D;
  T *const level = stats, *const sigma = stats + R;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      using std::sqrt;
      const T* from = x.row(r / x.D, r % x.D);
      if (center == Center::none) {
        for (std::int64_t t = 0; xhat && t < L; ++t) xhat[r * L + t] = from[t];
        level[r] = T{};
        sigma[r] = static_cast<T>(1);
        continue;
      }
      const T mean = detach(sum(from, L) / static_cast<T>(L));
      const T reference = center == Center::mean ? mean : detach(from[L - 1]);
      const T squares = sum_of<T>(L, [=](std::int64_t t) { return (from[t] - mean) * (from[t] - mean); });
      const T deviation = detach(sqrt(squares / static_cast<T>(L) + static_cast<T>(revin_epsilon)));
      level[r] = reference;
      sigma[r] = deviation;
      if (!xhat) continue;
      const T scale = static_cast<T>(1) / deviation;
      T* to = xhat + r * L;
#pragma omp simd
      for (std::int64_t t = 0; t < L; ++t) to[t] = (from[t] - reference) * scale;
    }
  });
}

// Adds sigma, sigma^2, level, level^2 and sigma level of N windows to totals [D][5].
template <class T>
void add_moments(Moment<T, Cpu>* totals, const T* stats, std::int64_t N, std::int64_t D) {
  const T *const level = stats, *const sigma = stats + N * D;
  parallel_for<T>(D, [=](std::int64_t d) {
    Moment<T, Cpu>* total = totals + d * 5;
    for (std::int64_t n = 0; n < N; ++n) {
      const Moment<T, Cpu> s = sigma[n * D + d], m = level[n * D + d];
      const Moment<T, Cpu> own[5] = {s, s * s, m, m * m, s * m};
      for (int k = 0; k < 5; ++k) total[k] += own[k];
    }
  });
}
template <class T>
void revin_moments(Cpu, Moment<T, Cpu>* moments, const T* stats, std::int64_t N, std::int64_t D) {
  std::fill(moments, moments + 5 * D, Moment<T, Cpu>{});
  add_moments(moments, stats, N, D);
  for (std::int64_t k = 0; k < 5 * D; ++k) moments[k] /= static_cast<Moment<T, Cpu>>(N);
}

template <class T>
void revin_affine(Cpu, T* u, const T* xhat, const T* gamma, const T* beta, std::int64_t N, std::int64_t D,
                  std::int64_t L) {
  constexpr std::int64_t rows = 16;
  const std::int64_t R = N * D;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const T scale = gamma[r % D], shift = beta[r % D];
#pragma omp simd
      for (std::int64_t t = 0; t < L; ++t) u[r * L + t] = scale * xhat[r * L + t] + shift;
    }
  });
}

template <class T>
void revin_affine_backward(Cpu, AffineSink<T> affine, const T* du, const T* xhat, std::int64_t N, std::int64_t D,
                           std::int64_t L, T* work) {
  constexpr std::int64_t rows = 16;
  const std::int64_t R = N * D;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      work[r] = dot(du + r * L, xhat + r * L, L);
      work[R + r] = sum(du + r * L, L);
    }
  });
  for (std::int64_t r = 0; r < R; ++r) {
    if (affine.gamma) affine.gamma[r % D] += work[r];
    if (affine.beta) affine.beta[r % D] += work[R + r];
  }
}

}  // namespace samformer::kernels
#endif
