// Covariates that are known ahead: rows of a basis (model/data/covariates.h) behind a series' channels, whose part of
// the forecast is a linear map for each channel,
//
//   z[r][h] += (1 / sigma_r) sum_f W[d][f] (b_f[L + h] - level_f),   r = n D + d
//
// b_f: row f of the window from its first step on; level_f: its mean over the look-back (0 without RevIN). A channel's
// own level holds what the covariates did to the look-back, so that only their difference to it is new; and their part
// is in the units of the series, whatever a window's sigma. sigma and level are constants. (The last row instead of the
// mean would bring that row's own error in.)
//
//   dW[d][f] = sum_n (1 / sigma_r) sum_h dz[r][h] (b_f[L + h] - level_f)      over n in order, its own sum each
//
// Shapes: W [D][F], F = shared + own; level [N][rows]; z, dz [R][H]. Nothing but `level` is saved: the rows stay in the
// series.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/revin.h"

namespace samformer::kernels {

// level of all rows of x.known over look-backs of L steps.
void covariate_levels(const Cuda& on, float* level, const Windows<float>& x, std::int64_t L, Center center);
// to = from + the map's part; from may be to, or null: zeros.
void covariate_map(const Cuda& on, float* to, std::int64_t ldt, const float* from, std::int64_t ldf,
                   const Windows<float>& x, const float* level, const float* stats, const float* W, std::int64_t L,
                   std::int64_t H);
void covariate_map_backward(const Cuda& on, Sink<float> dW, const float* dz, std::int64_t ld, const Windows<float>& x,
                            const float* level, const float* stats, std::int64_t L, std::int64_t H);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

template <class T>
void covariate_levels(Cpu, T* level, const Windows<T>& x, std::int64_t L, Center center) {
  const std::int64_t rows = x.known.rows(x.D);
  parallel_for<T>(x.N, [=](std::int64_t n) {
    for (std::int64_t k = 0; k < rows; ++k) {
      const T* b = x.row(n, x.known.first + k);
      level[n * rows + k] = center == Center::none ? T{} : detach(sum(b, L) / static_cast<T>(static_cast<double>(L)));
    }
  });
}

// Four channels by 32 steps stay in registers while the features go by.
template <class T>
void covariate_map(Cpu, T* to, std::int64_t ldt, const T* from, std::int64_t ldf, const Windows<T>& x, const T* level,
                   const T* stats, const T* W, std::int64_t L, std::int64_t H) {
  constexpr std::int64_t tile = 4, width = 32;
  const std::int64_t D = x.D, R = x.N * D, F = x.known.features(), rows = x.known.rows(D), tiles = blocks_of(D, tile);
  parallel_for<T>(x.N * tiles, [=](std::int64_t block) {
    const std::int64_t n = block / tiles, d0 = block % tiles * tile, here = std::min(tile, D - d0);
    const T *const first = x.row(n, x.known.first) + L, *const of = level + n * rows;
    const auto weight = [=](std::int64_t k, std::int64_t f) { return W[std::min(d0 + k, D - 1) * F + f]; };
    T shift[tile] = {};
    for (std::int64_t k = 0; k < here; ++k) {
      for (std::int64_t f = 0; f < F; ++f) shift[k] += weight(k, f) * of[x.known.row(d0 + k, f)];
    }
    for (std::int64_t h = 0; h < H; h += width) {
      const std::int64_t count = std::min(width, H - h);
      T sums[tile][width] = {};
      for (std::int64_t f = 0; f < x.known.shared; ++f) {
        const T* const b = first + f * x.channel_stride + h;
        const T w0 = weight(0, f), w1 = weight(1, f), w2 = weight(2, f), w3 = weight(3, f);
        const auto add = [&](std::int64_t i) {
          sums[0][i] += w0 * b[i], sums[1][i] += w1 * b[i], sums[2][i] += w2 * b[i], sums[3][i] += w3 * b[i];
        };
        if (count == width) {
#pragma omp simd
          for (std::int64_t i = 0; i < width; ++i) add(i);
        } else {
          for (std::int64_t i = 0; i < count; ++i) add(i);
        }
      }
      for (std::int64_t k = 0; k < here; ++k) {
        const std::int64_t r = n * D + d0 + k;
        for (std::int64_t f = x.known.shared; f < F; ++f) {
          const T* const b = first + x.known.row(d0 + k, f) * x.channel_stride + h;
          const T w = weight(k, f);
          for (std::int64_t i = 0; i < count; ++i) sums[k][i] += w * b[i];
        }
        const T scale = static_cast<T>(1) / stats[R + r];
        T* const out = to + r * ldt + h;
        const T* const in = from ? from + r * ldf + h : nullptr;
        for (std::int64_t i = 0; i < count; ++i) out[i] = (in ? in[i] : T{}) + scale * (sums[k][i] - shift[k]);
      }
    }
  });
}

// A channel's features keep their sums by lanes over all windows; lanes are added up last.
template <class T>
void covariate_map_backward(Cpu, Sink<T> dW, const T* dz, std::int64_t ld, const Windows<T>& x, const T* level,
                            const T* stats, std::int64_t L, std::int64_t H) {
  constexpr std::int64_t features = 32, lanes = 16, width = 256;
  const std::int64_t D = x.D, F = x.known.features(), rows = x.known.rows(D), parts = blocks_of(F, features);
  parallel_for<T>(D * parts, [=](std::int64_t block) {
    const std::int64_t d = block / parts, f0 = block % parts * features, here = std::min(features, F - f0);
    T sums[features][lanes] = {}, shifts[features] = {}, scaled[width];
    for (std::int64_t n = 0; n < x.N; ++n) {
      const std::int64_t r = n * D + d;
      const T scale = static_cast<T>(1) / stats[x.N * D + r];
      const T *const first = x.row(n, x.known.first) + L, *const of = level + n * rows;
      for (std::int64_t h = 0; h < H; h += width) {
        const std::int64_t count = std::min(width, H - h), whole = count / lanes * lanes;
        const T* const g = dz + r * ld + h;
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) scaled[i] = scale * g[i];
        const T total = sum(scaled, count);
        for (std::int64_t f = 0; f < here; ++f) {
          const std::int64_t k = x.known.row(d, f0 + f);
          const T* const b = first + k * x.channel_stride + h;
          T* const own = sums[f];
          for (std::int64_t i = 0; i < whole; i += lanes) {
#pragma omp simd
            for (std::int64_t j = 0; j < lanes; ++j) own[j] += scaled[i + j] * b[i + j];
          }
          for (std::int64_t i = whole; i < count; ++i) own[i - whole] += scaled[i] * b[i];
          shifts[f] += total * of[k];
        }
      }
    }
    for (std::int64_t f = 0; f < here; ++f) {
      T& to = dW.data[d * dW.ld + f0 + f];
      const T all = sum(sums[f], lanes) - shifts[f];
      to = dW.add ? to + all : all;
    }
  });
}

}  // namespace samformer::kernels
#endif
