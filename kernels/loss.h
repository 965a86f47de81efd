// Losses and error sums.
//
// forecast_loss: mean squared error of the forecast, fused with RevIN's inverse and with statistics mixing: a share
// lambda (0..1) of the loss de-normalises each output with the statistics of every window of the batch in turn, rather
// than with its own (the released code of SAMformer trains on lambda = 1, the paper states lambda = 0). With
// q = (z - beta)/(gamma + guard), levels and v = y - level_j relative to the sample's own level, per element
//
//   e = q sigma_j - v
//   loss     = e^2 + lambda [q^2 (S2 - sigma_j^2) + 2 q (SM - v (S1 - sigma_j)) + M2 - 2 v M1]
//   dloss/dq = 2 (sigma_j e + lambda [q (S2 - sigma_j^2) + SM - v (S1 - sigma_j)])
//
// where S1, S2, M1, M2, SM are the batch's means of sigma, sigma^2, level, level^2 and sigma level: the mean over all
// pairs, in closed form. A batch of one window is not mixed. The brackets are in double for float, or the expanded form
// would lose digits. lambda may rise with the step of the forecast (StatsMix): the further ahead, the less a window's
// own level and scale say.
//
// Shapes: z [R][H] (rows ldz apart), level and sigma [R], y windows of length H; only the channels in `targets` count.
// The loss is the mean over N * targets * H elements. Row sums first, added up in row order: the bits do not depend on
// the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/revin.h"

namespace samformer::kernels {

// The type that batch statistics are added up in.
template <class T>
using Moment = std::conditional_t<std::is_same_v<T, float>, double, T>;

// The batch's share of the statistics. With `step` K > 0 the step h (from 1) of the forecast has
// lambda_h = share h^2 / (share h^2 + (1 - share) K^2): `share` at step K, less before, more after it; 0 and 1 stay.
struct StatsMix {
  double share = 0;  // 0..1
  double step = 0;   // K; 0: every step has `share`

  StatsMix(double share = 0, double step = 0) : share(share), step(step) {}
  bool any() const { return share > 0; }
  // (1 - share) K^2: with it lambda_h = share h^2 / (share h^2 + rise); 0: lambda_h = share.
  double rise() const { return (1 - share) * step * step; }
  double at(std::int64_t h) const {
    const double risen = share * static_cast<double>(h * h);
    return rise() > 0 && share > 0 ? risen / (risen + rise()) : share;
  }
};

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
  StatsMix mix;
  T* shares;  // [H] of workspace: forecast_loss fills it with mix.at(1), mix.at(2), ...
  // [D][5]: batch means of sigma, sigma^2, level, level^2, sigma level. Workspace that forecast_loss fills, unless
  // `moments_given`: those of a larger set that the windows are a part of.
  Moment<T>* moments;
  bool moments_given = false;

  std::int64_t elements() const { return y.N * target_count * H; }
  bool mixed() const { return mix.any() && (moments_given || y.N > 1); }
};

// Adds sigma, sigma^2, level, level^2 and sigma level of N windows to totals [D][5].
template <class T>
void add_moments(Moment<T>* totals, const T* level, const T* sigma, std::int64_t N, std::int64_t D) {
  parallel_for<T>(D, [=](std::int64_t d) {
    Moment<T>* total = totals + d * 5;
    for (std::int64_t n = 0; n < N; ++n) {
      const Moment<T> s = sigma[n * D + d], m = level[n * D + d];
      const Moment<T> own[5] = {s, s * s, m, m * m, s * m};
      for (int k = 0; k < 5; ++k) total[k] += own[k];
    }
  });
}

namespace detail {

// S1 - sigma, S2 - sigma^2, M1, M2, SM of one row, with levels relative to its own.
template <class T>
inline void batch_moments(T out[5], const ForecastLoss<T>& f, std::int64_t r, std::int64_t d) {
  using M = Moment<T>;
  const M s = f.sigma[r], own = f.level[r];
  const M* m = f.moments + d * 5;
  out[0] = static_cast<T>(m[0] - s);
  out[1] = static_cast<T>(m[1] - s * s);
  out[2] = static_cast<T>(m[2] - own);
  out[3] = static_cast<T>(m[3] - static_cast<M>(2) * own * m[2] + own * own);
  out[4] = static_cast<T>(m[4] - own * m[0]);
}

}  // namespace detail

// The loss. `work`: N * target_count scalars.
template <class T>
T forecast_loss(ForecastLoss<T> f, T* work) {
  if (f.mixed() && !f.moments_given) {
    std::fill(f.moments, f.moments + 5 * f.y.D, Moment<T>{});
    add_moments(f.moments, f.level, f.sigma, f.y.N, f.y.D);
    for (std::int64_t k = 0; k < 5 * f.y.D; ++k) f.moments[k] /= static_cast<Moment<T>>(f.y.N);
  }
  if (f.mixed()) {
    for (std::int64_t h = 0; h < f.H; ++h) f.shares[h] = static_cast<T>(f.mix.at(h + 1));
  }
  constexpr std::int64_t rows = 16;
  const std::int64_t count = f.y.N * f.target_count;
  parallel_for<T>(blocks_of(count, rows), [=](std::int64_t block) {
    for (std::int64_t i = block * rows; i < std::min(count, (block + 1) * rows); ++i) {
      const std::int64_t n = i / f.target_count, d = f.targets[i % f.target_count], r = n * f.y.D + d;
      const T* z = f.z + r * f.ldz;
      const T* y = f.y.row(n, d);
      const T inverse = static_cast<T>(1) / f.affine.scale(d), shift = f.affine.shift(d);
      const T own = f.level[r], sigma = f.sigma[r], two = static_cast<T>(2);
      const auto scaled = [=](std::int64_t h) { return (z[h] - shift) * inverse; };
      if (f.mixed()) {
        T m[5];
        detail::batch_moments(m, f, r, d);
        const T d1 = m[0], d2 = m[1], m1 = m[2], m2 = m[3], sm = m[4];
        const T* const shares = f.shares;
        work[i] = sum_of<T>(f.H, [=](std::int64_t h) {
          const T q = scaled(h), v = y[h] - own, e = q * sigma - v;
          return e * e + shares[h] * (q * (q * d2 + two * (sm - v * d1)) + (m2 - two * v * m1));
        });
      } else {
        work[i] = sum_of<T>(f.H, [=](std::int64_t h) {
          const T e = scaled(h) * sigma - (y[h] - own);
          return e * e;
        });
      }
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

// Accumulates seed * dloss into dz [R][H] (rows lddz apart) and, through the inverse, into dgamma and dbeta [D] (each
// null where not wanted). The moments and shares are those that forecast_loss left. `work`: 2 N target_count scalars.
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
      const T scale = factor * inverse, own = f.level[r], sigma = f.sigma[r];
      const auto scaled = [=](std::int64_t h) { return (z[h] - shift) * inverse; };
      const auto add = [=](const auto& slope) {
        work[i] = sum_of<T>(f.H, slope);
        work[count + i] = sum_of<T>(f.H, [=](std::int64_t h) {
          const T change = slope(h);
          g[h] += change;
          return change * scaled(h);
        });
      };
      if (f.mixed()) {
        T m[5];
        detail::batch_moments(m, f, r, d);
        const T d1 = m[0], d2 = m[1], sm = m[4];
        const T* const shares = f.shares;
        add([=](std::int64_t h) {
          const T q = scaled(h), v = y[h] - own;
          return scale * (sigma * (q * sigma - v) + shares[h] * (q * d2 + (sm - v * d1)));
        });
      } else {
        add([=](std::int64_t h) { return scale * (sigma * (scaled(h) * sigma - (y[h] - own))); });
      }
    }
  });
  for (std::int64_t i = 0; i < count; i += f.target_count) {
    for (std::int64_t t = 0; t < f.target_count; ++t) {
      const std::int32_t d = f.targets[t];
      if (dbeta) dbeta[d] -= work[i + t];
      if (dgamma) dgamma[d] -= work[count + i + t];
    }
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
