// Covariates that are known ahead: rows of a basis (model/data/covariates.h) behind a series' channels, whose part of
// the forecast is a linear map for each channel,
//
//   z[r][h] += (1 / sigma_r) sum_f W[d][f] (b_f[L + h] - level_f),   r = n D + d
//
// b_f: row f of the window from its first step on; level_f: its mean or last value over the look-back, as RevIN's level
// of the channels (0 without RevIN). A channel's own level holds what the covariates did to the look-back, so that only
// their difference to it is new; and their part is in the units of the series, whatever a window's sigma. sigma and
// level are constants.
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
      level[n * rows + k] = center == Center::none   ? T{}
                            : center == Center::last ? b[L - 1]
                                                     : detach(sum(b, L) / static_cast<T>(static_cast<double>(L)));
    }
  });
}

template <class T>
void covariate_map(Cpu, T* to, std::int64_t ldt, const T* from, std::int64_t ldf, const Windows<T>& x, const T* level,
                   const T* stats, const T* W, std::int64_t L, std::int64_t H) {
  constexpr std::int64_t block = 8, width = 64;
  const std::int64_t R = x.N * x.D, F = x.known.features(), rows = x.known.rows(x.D);
  parallel_for<T>(blocks_of(R, block), [=](std::int64_t b) {
    for (std::int64_t r = b * block; r < std::min(R, (b + 1) * block); ++r) {
      const std::int64_t n = r / x.D, d = r % x.D;
      const T *w = W + d * F, *of = level + n * rows;
      const T scale = static_cast<T>(1) / stats[R + r];
      T shift{};
      for (std::int64_t f = 0; f < F; ++f) shift += w[f] * of[x.known.row(d, f)];
      for (std::int64_t h = 0; h < H; h += width) {
        const std::int64_t count = std::min(width, H - h);
        T sums[width] = {};
        for (std::int64_t f = 0; f < F; ++f) {
          const T* from_row = x.row(n, x.known.first + x.known.row(d, f)) + L + h;
          const T factor = w[f];
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i) sums[i] += factor * from_row[i];
        }
        T* out = to + r * ldt + h;
        const T* in = from ? from + r * ldf + h : nullptr;
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) out[i] = (in ? in[i] : T{}) + scale * (sums[i] - shift);
      }
    }
  });
}

template <class T>
void covariate_map_backward(Cpu, Sink<T> dW, const T* dz, std::int64_t ld, const Windows<T>& x, const T* level,
                            const T* stats, std::int64_t L, std::int64_t H) {
  const std::int64_t D = x.D, F = x.known.features(), rows = x.known.rows(D);
  parallel_for<T>(D, [=](std::int64_t d) {
    T* to = dW.data + d * dW.ld;
    if (!dW.add) std::fill_n(to, F, T{});
    for (std::int64_t n = 0; n < x.N; ++n) {
      const std::int64_t r = n * D + d;
      const T* g = dz + r * ld;
      const T scale = static_cast<T>(1) / stats[x.N * D + r];
      for (std::int64_t f = 0; f < F; ++f) {
        const std::int64_t k = x.known.row(d, f);
        const T* b = x.row(n, x.known.first + k) + L;
        const T of = level[n * rows + k];
        to[f] += scale * sum_of<T>(H, [=](std::int64_t h) { return g[h] * (b[h] - of); });
      }
    }
  });
}

}  // namespace samformer::kernels
#endif
