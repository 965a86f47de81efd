// Losses and error sums.
//
// forecast_loss: mean squared error of the forecast, fused with RevIN's inverse and with statistics mixing (lambda in
// 0..1; the released code of SAMformer trains on lambda = 1, the paper states lambda = 0). With q = (z - beta)/(gamma +
// guard), per element
//
//   lambda = 0:  (q sigma + level - y)^2
//   lambda > 0:  q^2 S2 + 2 q (SM - y S1) + (M2 - 2 y M1 + y^2),   dloss/dq = 2 (q S2 + SM - y S1)
//
// where S1 = (1 - lambda) sigma_j + lambda mean_i sigma_i and S2, M1, M2, SM the same for sigma^2, level, level^2 and
// sigma level: the mean over all pairs of the batch, in closed form. A batch of one window is not mixed.
//
// Shapes: z [R][H] (rows ldz apart), level and sigma [R], y windows of length H; only the channels in `targets` count.
// The loss is the mean over N * targets * H elements. Row sums first, added up in row order: the bits do not depend on
// the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/revin.h"

namespace samformer::kernels {

template <class T>
struct ForecastLoss {
  const T* z;
  std::int64_t ldz;
  const T* level;
  const T* sigma;
  Affine<T> affine;
  Windows<T> y;
  std::int64_t H;
  const std::int32_t* targets;  // [target_count] channels
  std::int64_t target_count;
  double lambda;
  T* moments;  // [D][5] workspace, filled by forecast_loss: batch means of sigma, sigma^2, level, level^2, sigma level

  std::int64_t elements() const { return y.N * target_count * H; }
  bool mixed() const { return lambda > 0 && y.N > 1; }
};

namespace detail {

// S1, S2, M1, M2, SM of one row: the sample's own statistics blended with the batch's.
template <class T>
inline void blended_moments(T out[5], const ForecastLoss<T>& f, std::int64_t r, std::int64_t d) {
  const T s = f.sigma[r], m = f.level[r];
  const T own[5] = {s, s * s, m, m * m, s * m};
  for (int k = 0; k < 5; ++k) {
    out[k] = static_cast<T>(1 - f.lambda) * own[k] + static_cast<T>(f.lambda) * f.moments[d * 5 + k];
  }
}

}  // namespace detail

// The loss. `work`: N * target_count scalars.
template <class T>
T forecast_loss(ForecastLoss<T> f, T* work) {
  if (f.mixed()) {
    parallel_for<T>(f.y.D, [=](std::int64_t d) {
      T total[5] = {};
      for (std::int64_t n = 0; n < f.y.N; ++n) {
        const T s = f.sigma[n * f.y.D + d], m = f.level[n * f.y.D + d];
        const T own[5] = {s, s * s, m, m * m, s * m};
        for (int k = 0; k < 5; ++k) total[k] += own[k];
      }
      for (int k = 0; k < 5; ++k) f.moments[d * 5 + k] = total[k] / static_cast<T>(f.y.N);
    });
  }
  constexpr std::int64_t rows = 16;
  const std::int64_t count = f.y.N * f.target_count;
  parallel_for<T>(blocks_of(count, rows), [=](std::int64_t block) {
    for (std::int64_t i = block * rows; i < std::min(count, (block + 1) * rows); ++i) {
      const std::int64_t n = i / f.target_count, d = f.targets[i % f.target_count], r = n * f.y.D + d;
      const T* z = f.z + r * f.ldz;
      const T* y = f.y.row(n, d);
      const T inverse = static_cast<T>(1) / f.affine.scale(d), shift = f.affine.shift(d);
      T total{};
      if (f.mixed()) {
        T m[5];
        detail::blended_moments(m, f, r, d);
        const auto error = [&](std::int64_t h) {
          const T q = (z[h] - shift) * inverse;
          return q * q * m[1] + static_cast<T>(2) * q * (m[4] - y[h] * m[0]) +
                 (m[3] - static_cast<T>(2) * y[h] * m[2] + y[h] * y[h]);
        };
        if constexpr (std::is_floating_point_v<T>) {
#pragma omp simd reduction(+ : total)
          for (std::int64_t h = 0; h < f.H; ++h) total += error(h);
        } else {
          for (std::int64_t h = 0; h < f.H; ++h) total += error(h);
        }
      } else {
        const T s = f.sigma[r], m = f.level[r];
        const auto error = [&](std::int64_t h) {
          const T e = (z[h] - shift) * inverse * s + (m - y[h]);
          return e * e;
        };
        if constexpr (std::is_floating_point_v<T>) {
#pragma omp simd reduction(+ : total)
          for (std::int64_t h = 0; h < f.H; ++h) total += error(h);
        } else {
          for (std::int64_t h = 0; h < f.H; ++h) total += error(h);
        }
      }
      work[i] = total;
    }
  });
  if constexpr (std::is_same_v<T, float>) {
    double total = 0;
    for (std::int64_t i = 0; i < count; ++i) total += work[i];
    return static_cast<float>(total / static_cast<double>(f.elements()));
  } else {
    T total{};
    for (std::int64_t i = 0; i < count; ++i) total += work[i];
    return total / static_cast<T>(static_cast<double>(f.elements()));
  }
}

// Accumulates seed * dloss into dz [R][H] (rows lddz apart) and, through the inverse, into dgamma and dbeta [D] (null:
// none). The moments are those that forecast_loss left. `work`: 2 N target_count scalars.
template <class T>
void forecast_loss_backward(T* dz, std::int64_t lddz, T* dgamma, T* dbeta, T seed, ForecastLoss<T> f, T* work) {
  constexpr std::int64_t rows = 16;
  const std::int64_t count = f.y.N * f.target_count;
  const T factor = seed * static_cast<T>(2.0 / static_cast<double>(f.elements()));
  parallel_for<T>(blocks_of(count, rows), [=](std::int64_t block) {
    for (std::int64_t i = block * rows; i < std::min(count, (block + 1) * rows); ++i) {
      const std::int64_t n = i / f.target_count, d = f.targets[i % f.target_count], r = n * f.y.D + d;
      const T* z = f.z + r * f.ldz;
      const T* y = f.y.row(n, d);
      T* g = dz + r * lddz;
      const T inverse = static_cast<T>(1) / f.affine.scale(d), shift = f.affine.shift(d);
      // dloss/dq = factor (q S2 + SM - y S1), in the unmixed case with S2 = s^2, SM = s m, S1 = s.
      T m[5];
      if (f.mixed()) {
        detail::blended_moments(m, f, r, d);
      } else {
        const T s = f.sigma[r];
        m[0] = s, m[1] = s * s, m[4] = s * f.level[r];
      }
      const T scale = factor * inverse, s1 = m[0], s2 = m[1], sm = m[4];
      T total{}, weighted{};
      const auto element = [&](std::int64_t h) {
        const T q = (z[h] - shift) * inverse;
        const T e = scale * (q * s2 + (sm - y[h] * s1));
        g[h] += e;
        total += e;
        weighted += e * q;
      };
      if constexpr (std::is_floating_point_v<T>) {
#pragma omp simd reduction(+ : total, weighted)
        for (std::int64_t h = 0; h < f.H; ++h) element(h);
      } else {
        for (std::int64_t h = 0; h < f.H; ++h) element(h);
      }
      work[i] = total;
      work[count + i] = weighted;
    }
  });
  if (!dgamma) return;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t d = f.targets[i % f.target_count];
    dbeta[d] -= work[i];
    dgamma[d] -= work[count + i];
  }
}

// Adds, for each target channel t and step h, the squared and the absolute error of N forecasts to
// squared[t][h] and absolute[t][h] (double). prediction row (n, t) starts at
// prediction + (n D + targets[t]) ld. Windows are added in order.
template <class T>
void error_sums(double* squared, double* absolute, const T* prediction, std::int64_t ld, Windows<T> y, std::int64_t H,
                const std::int32_t* targets, std::int64_t target_count) {
  parallel_for<T>(target_count, [=](std::int64_t t) {
    const std::int64_t d = targets[t];
    for (std::int64_t n = 0; n < y.N; ++n) {
      const T* p = prediction + (n * y.D + d) * ld;
      const T* truth = y.row(n, d);
#pragma omp simd
      for (std::int64_t h = 0; h < H; ++h) {
        const double e = static_cast<double>(p[h]) - static_cast<double>(truth[h]);
        squared[t * H + h] += e * e;
        absolute[t * H + h] += e < 0 ? -e : e;
      }
    }
  });
}

}  // namespace samformer::kernels
