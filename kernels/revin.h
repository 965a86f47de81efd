// RevIN (Kim et al. 2022; SAMformer, section 3): per window row r = (n, d),
//
//   xhat = (x - level) / sigma,   sigma = sqrt(var(x) + 1e-5) (biased, around the mean),   level = mean or last value
//   u = gamma_d xhat + beta_d;   inverse: y = (z - beta_d) / (gamma_d + guard) sigma + level
//
// SAMformer applies the scale and shift after its projection (projection.h), so that xhat is a constant of the whole
// SAM step; revin_affine is for the models that need u itself. level and sigma are constants of differentiation: their
// tangents are dropped (`detach`). Shapes: xhat [R][L], level and sigma [R], R = N D rows, row r = n D + d; y, z
// [R][H].
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

// N windows of D channels inside a channel-major series, never copied: row (n, d) starts at
// base + d * channel_stride + starts[n]. A plain array [N][D][L] has channel_stride L and starts n D L.
template <class T>
struct Windows {
  const T* base;
  std::int64_t channel_stride;
  const std::int32_t* starts;
  std::int64_t N;
  std::int64_t D;

  const T* row(std::int64_t n, std::int64_t d) const { return base + d * channel_stride + starts[n]; }
};

// none: no RevIN, level 0 and sigma 1.
enum class Center { mean, last, none };

inline constexpr double revin_epsilon = 1e-5;

// xhat [R][L] (null: not wanted), level [R], sigma [R] from windows of length L.
template <class T>
void revin_normalise(T* xhat, T* level, T* sigma, Windows<T> x, std::int64_t L, Center center) {
  constexpr std::int64_t rows = 16;
  const std::int64_t R = x.N * x.D;
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

// The backward of revin_normalise for an input that needs a gradient: dx += dxhat / sigma (level and sigma constant).
// dx is [R][L], as xhat.
template <class T>
void revin_normalise_backward(T* dx, const T* dxhat, const T* sigma, std::int64_t R, std::int64_t L) {
  constexpr std::int64_t rows = 16;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const T scale = static_cast<T>(1) / sigma[r];
#pragma omp simd
      for (std::int64_t t = 0; t < L; ++t) dx[r * L + t] += dxhat[r * L + t] * scale;
    }
  });
}

// u [R][L] = gamma_d xhat + beta_d.
template <class T>
void revin_affine(T* u, const T* xhat, const T* gamma, const T* beta, std::int64_t R, std::int64_t D, std::int64_t L) {
  constexpr std::int64_t rows = 16;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const T scale = gamma[r % D], shift = beta[r % D];
#pragma omp simd
      for (std::int64_t t = 0; t < L; ++t) u[r * L + t] = scale * xhat[r * L + t] + shift;
    }
  });
}

// Backward of revin_affine for constant xhat: dgamma and dbeta [D] (each null where not wanted) accumulate. `work`: 2 R
// scalars.
template <class T>
void revin_affine_backward(T* dgamma, T* dbeta, const T* du, const T* xhat, std::int64_t R, std::int64_t D,
                           std::int64_t L, T* work) {
  constexpr std::int64_t rows = 16;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      work[r] = dot(du + r * L, xhat + r * L, L);
      work[R + r] = sum(du + r * L, L);
    }
  });
  for (std::int64_t r = 0; r < R; ++r) {
    if (dgamma) dgamma[r % D] += work[r];
    if (dbeta) dbeta[r % D] += work[R + r];
  }
}

// RevIN's learned scale and shift, [D] each, as the inverse uses them; null pointers: none.
template <class T>
struct Affine {
  const T* gamma = nullptr;
  const T* beta = nullptr;
  double guard = 0;  // added to the scale in the inverse: eps^2 in the authors' PyTorch model

  T scale(std::int64_t d) const { return gamma ? gamma[d] + static_cast<T>(guard) : static_cast<T>(1); }
  T shift(std::int64_t d) const { return beta ? beta[d] : static_cast<T>(0); }
};

// y[r][h] = (z[r][h] - beta) / (gamma + guard) sigma[r] + level[r]; z and y may have wider rows (ldz, ldy).
template <class T>
void revin_inverse(T* y, std::int64_t ldy, const T* z, std::int64_t ldz, const T* level, const T* sigma,
                   Affine<T> affine, std::int64_t R, std::int64_t D, std::int64_t H) {
  constexpr std::int64_t rows = 16;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const T factor = sigma[r] / affine.scale(r % D), shift = affine.shift(r % D), base = level[r];
#pragma omp simd
      for (std::int64_t h = 0; h < H; ++h) y[r * ldy + h] = (z[r * ldz + h] - shift) * factor + base;
    }
  });
}

// Backward of revin_inverse: dz += dy sigma / scale; dgamma and dbeta [D] (each null where not wanted) accumulate.
// `work`: 2 R scalars.
template <class T>
void revin_inverse_backward(T* dz, std::int64_t lddz, T* dgamma, T* dbeta, const T* dy, std::int64_t ldy, const T* z,
                            std::int64_t ldz, const T* sigma, Affine<T> affine, std::int64_t R, std::int64_t D,
                            std::int64_t H, T* work) {
  constexpr std::int64_t rows = 16;
  parallel_for<T>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const T scale = affine.scale(r % D), shift = affine.shift(r % D), factor = sigma[r] / scale;
      T total{}, weighted{};
      for (std::int64_t h = 0; h < H; ++h) {
        const T g = dy[r * ldy + h] * factor;
        dz[r * lddz + h] += g;
        total += g;
        weighted += g * (z[r * ldz + h] - shift);
      }
      work[r] = total;
      work[R + r] = weighted / scale;
    }
  });
  for (std::int64_t r = 0; r < R; ++r) {
    if (dbeta) dbeta[r % D] -= work[r];
    if (dgamma) dgamma[r % D] -= work[R + r];
  }
}

}  // namespace samformer::kernels
