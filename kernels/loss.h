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
// pairs, in closed form. A batch of one window is not mixed. On the CPU the brackets are in double for float, since
// the expanded form loses digits. lambda may rise with the step of the forecast (StatsMix): the further ahead, the less
// a window's own level and scale say.
//
// Shapes: z [R][H], y windows of length H, stats of kernels/revin.h; only the channels in `targets` count. The loss is
// the mean over N * targets * H elements. Row sums first, added up in row order: the bits do not depend on the number
// of threads.
#pragma once

#include <cstdint>

#include "kernels/projection.h"
#include "kernels/revin.h"

namespace samformer::kernels {

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

template <class T, class On>
struct ForecastLoss {
  Projected<T> z;
  const T* mixed;  // [R][mixed_ld], to be added to z; null: nothing
  std::int64_t mixed_ld;
  const T* stats;
  const Moment<T, On>* moments;  // of the windows whose statistics are mixed; null: each has its own alone
  Affine<T> affine;
  Windows<T> y;
  std::int64_t H;
  const std::int32_t* targets;  // [target_count] channels
  std::int64_t target_count;
  const T* channel_weight;  // the device's: [D], D / target_count for targets, else 0; null: all are
  StatsMix mix;
  T* shares;  // [H]: the CPU's forward fills it with mix.at(1), mix.at(2), ...

  std::int64_t elements() const { return y.N * target_count * H; }
};

// What a loss is written to: on the CPU one number; on a device parts [blocks][2], sums of squared and absolute errors
// divided by R H, that gradient_norm (kernels/update.h) adds up.
constexpr std::int64_t loss_size(Cpu, std::int64_t) { return 1; }
std::int64_t loss_size(const Cuda& on, std::int64_t rows);
// On a device one pass over z makes both the loss and its gradient: forward then leaves it to backward.
constexpr bool loss_with_gradient(Cpu) { return false; }
constexpr bool loss_with_gradient(const Cuda&) { return true; }
constexpr std::int64_t loss_scratch(Cpu, std::int64_t N, std::int64_t targets) { return 2 * N * targets; }
constexpr std::int64_t loss_scratch(const Cuda&, std::int64_t, std::int64_t) { return 0; }

void forecast_loss(const Cuda& on, float* loss, const ForecastLoss<float, Cuda>& f, float* scratch);
// dz (+)= *seed dloss/dz and, through z and the inverse, dgamma and dbeta. A device's seed is 1 (null), its dz written.
void forecast_loss_backward(const Cuda& on, Sink<float> dz, AffineSink<float> affine, const float* seed, float* loss,
                            const ForecastLoss<float, Cuda>& f, float* scratch);

// y [R][H] = (z + mixed - beta) / (gamma + guard) sigma + level.
template <class T>
struct Inverse {
  Projected<T> z;
  const T* mixed;  // as above
  std::int64_t mixed_ld;
  const T* stats;
  Affine<T> affine;
};
void revin_inverse(const Cuda& on, float* y, const Inverse<float>& z, std::int64_t N, std::int64_t D, std::int64_t H);

// squared, absolute and difference (forecast minus truth) [targets][H] += the errors of N forecasts [N D][H], in double,
// in a fixed order.
void error_sums(const Cuda& on, double* squared, double* absolute, double* difference, const float* forecast,
                const Windows<float>& y, std::int64_t H, const std::int32_t* targets, std::int64_t target_count);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <type_traits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

namespace detail {

// S1 - sigma, S2 - sigma^2, M1, M2, SM of one row, with levels relative to its own.
template <class T>
inline void batch_moments(T out[5], const ForecastLoss<T, Cpu>& f, std::int64_t r, std::int64_t d) {
  using M = Moment<T, Cpu>;
  const M own = f.stats[r], s = f.stats[f.y.N * f.y.D + r];
  const M* m = f.moments + d * 5;
  out[0] = static_cast<T>(m[0] - s);
  out[1] = static_cast<T>(m[1] - s * s);
  out[2] = static_cast<T>(m[2] - own);
  out[3] = static_cast<T>(m[3] - static_cast<M>(2) * own * m[2] + own * own);
  out[4] = static_cast<T>(m[4] - own * m[0]);
}

}  // namespace detail

template <class T>
void forecast_loss(Cpu, T* loss, const ForecastLoss<T, Cpu>& given, T* work) {
  const ForecastLoss<T, Cpu> f = given;
  const bool mixed = f.moments != nullptr;
  for (std::int64_t h = 0; mixed && h < f.H; ++h) f.shares[h] = static_cast<T>(f.mix.at(h + 1));
  constexpr std::int64_t rows = 16;
  const std::int64_t count = f.y.N * f.target_count;
  parallel_for<T>(blocks_of(count, rows), [=](std::int64_t block) {
    for (std::int64_t i = block * rows; i < std::min(count, (block + 1) * rows); ++i) {
      const std::int64_t n = i / f.target_count, d = f.targets[i % f.target_count], r = n * f.y.D + d;
      const T* z = f.z.p + r * f.z.ld;
      const T* y = f.y.row(n, d);
      const T inverse = static_cast<T>(1) / f.affine.scale(d), shift = f.affine.shift(d);
      const T own = f.stats[r], sigma = f.stats[f.y.N * f.y.D + r], two = static_cast<T>(2);
      const auto scaled = [=](std::int64_t h) { return (z[h] - shift) * inverse; };
      if (mixed) {
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
    *loss = static_cast<float>(total / static_cast<double>(f.elements()));
  } else {
    T total{};
    for (std::int64_t i = 0; i < count; ++i) total += work[i];
    *loss = total / static_cast<T>(static_cast<double>(f.elements()));
  }
}

template <class T>
void forecast_loss_backward(Cpu on, Sink<T> dz, AffineSink<T> affine, const T* seed, T*,
                            const ForecastLoss<T, Cpu>& given, T* work) {
  const ForecastLoss<T, Cpu> f = given;
  const bool mixed = f.moments != nullptr;
  if (!dz.add && f.target_count < f.y.D) {
    clear(on, dz.data, dz.ld, f.y.N * f.y.D, f.H);
    dz.add = true;
  }
  constexpr std::int64_t rows = 16;
  const std::int64_t count = f.y.N * f.target_count;
  const T factor = *seed * static_cast<T>(2.0 / static_cast<double>(f.elements()));
  parallel_for<T>(blocks_of(count, rows), [=](std::int64_t block) {
    for (std::int64_t i = block * rows; i < std::min(count, (block + 1) * rows); ++i) {
      const std::int64_t n = i / f.target_count, d = f.targets[i % f.target_count], r = n * f.y.D + d;
      const T* z = f.z.p + r * f.z.ld;
      const T* y = f.y.row(n, d);
      T* g = dz.data + r * dz.ld;
      const T inverse = static_cast<T>(1) / f.affine.scale(d), shift = f.affine.shift(d);
      const T scale = factor * inverse, own = f.stats[r], sigma = f.stats[f.y.N * f.y.D + r];
      const auto scaled = [=](std::int64_t h) { return (z[h] - shift) * inverse; };
      const auto add = [=](const auto& slope) {
        work[i] = sum_of<T>(f.H, slope);
        work[count + i] = sum_of<T>(f.H, [=](std::int64_t h) {
          const T change = slope(h);
          g[h] = dz.add ? g[h] + change : change;
          return change * scaled(h);
        });
      };
      if (mixed) {
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
      if (affine.beta) affine.beta[d] -= work[i + t];
      if (affine.gamma) affine.gamma[d] -= work[count + i + t];
    }
  }
}

template <class T>
void revin_inverse(Cpu, T* y, const Inverse<T>& given, std::int64_t N, std::int64_t D, std::int64_t H) {
  constexpr std::int64_t rows = 16;
  const std::int64_t R = N * D;
  const Inverse<T> z = given;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const T factor = z.stats[R + r] / z.affine.scale(r % D), shift = z.affine.shift(r % D), base = z.stats[r];
      const T* from = z.z.p + r * z.z.ld;
#pragma omp simd
      for (std::int64_t h = 0; h < H; ++h) y[r * H + h] = (from[h] - shift) * factor + base;
    }
  });
}

template <class T>
void error_sums(Cpu, double* squared_sums, double* absolute_sums, double* difference_sums, const T* forecast,
                const Windows<T>& y, std::int64_t H, const std::int32_t* targets, std::int64_t target_count) {
  parallel_for<T>(target_count, [=](std::int64_t t) {
    const std::int64_t d = targets[t];
    double *const squared = squared_sums + t * H, *const absolute = absolute_sums + t * H;
    double* const difference = difference_sums + t * H;
    for (std::int64_t n = 0; n < y.N; ++n) {
      const T* p = forecast + (n * y.D + d) * H;
      const T* truth = y.row(n, d);
#pragma omp simd
      for (std::int64_t h = 0; h < H; ++h) {
        const double e = static_cast<double>(p[h]) - static_cast<double>(truth[h]);
        squared[h] += e * e;
        absolute[h] += e < 0 ? -e : e;
        difference[h] += e;
      }
    }
  });
}

}  // namespace samformer::kernels
#endif
