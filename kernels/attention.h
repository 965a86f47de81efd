// Channel attention (SAMformer, section 3): for each of N samples, over its D channels,
//
//   A = softmax_rows(Q K' / sqrt(d_m)) in R^{D x D},   C = A V
//   dV = A' dC,   dS = A * (dC V' - delta),  delta = rowsum(dC * C),   dQ = dS K / sqrt(d_m),   dK = dS' Q / sqrt(d_m)
//
// Tiles of channels with a running row maximum and sum (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022): no
// D x D matrix exists, memory is O(R (d_m + d_v)). Saved for backward: Q, K, V, C and the row log-sum-exp.
// Shapes: Q, K [R][d_m] (rows ld apart), V and C [R][d_v] (ldv, ldc); lse [R]; row r = n D + d. A sample is one block
// of work: the bits do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/gemm.h"

namespace samformer::kernels {

struct AttentionShape {
  std::int64_t N, D, d_m, d_v;
};

namespace detail {

inline constexpr std::int64_t attention_rows = 16;      // query rows of a tile
inline constexpr std::int64_t attention_columns = 128;  // key rows of a tile

template <class T>
constexpr std::int64_t padded(std::int64_t D) {
  return blocks_of(D, lanes<T>) * lanes<T>;
}

// to[w][padded D] = scale * from[D][w]', the padding zero: columns of keys side by side for the vector unit.
template <class T>
inline void transpose_padded(T* to, const T* from, std::int64_t ld, std::int64_t D, std::int64_t width, T scale) {
  const std::int64_t stride = padded<T>(D);
  for (std::int64_t k = 0; k < width; ++k) {
    for (std::int64_t j = 0; j < D; ++j) to[k * stride + j] = from[j * ld + k] * scale;
    for (std::int64_t j = D; j < stride; ++j) to[k * stride + j] = T{};
  }
}

}  // namespace detail

// Scalars of workspace of the forward and of the backward pass.
template <class T>
constexpr std::int64_t attention_work(AttentionShape a) {
  return a.N * (a.d_m * detail::padded<T>(a.D) + 2 * a.D);
}
template <class T>
constexpr std::int64_t attention_backward_work(AttentionShape a) {
  return a.N * ((a.d_m + a.d_v) * detail::padded<T>(a.D) + a.D);
}

// C [R][d_v] and lse [R].
template <class T>
void attention(T* C, std::int64_t ldc, T* lse, const T* Q, const T* K, std::int64_t ld, const T* V, std::int64_t ldv,
               AttentionShape a, T* work) {
  parallel_for<T>(a.N, [=](std::int64_t n) {
    using std::log;
    constexpr std::int64_t TI = detail::attention_rows, TJ = detail::attention_columns;
    const std::int64_t D = a.D, first = n * D, stride = detail::padded<T>(D);
    T* keys = work + n * (a.d_m * stride + 2 * D);  // [d_m][stride], scaled by 1 / sqrt(d_m)
    T* maximum = keys + a.d_m * stride;             // [D]
    T* denominator = maximum + D;                   // [D]
    detail::transpose_padded(keys, K + first * ld, ld, D, a.d_m, static_cast<T>(1 / std::sqrt(double(a.d_m))));
    for (std::int64_t j = 0; j < D; j += TJ) {
      const std::int64_t columns = std::min(TJ, D - j), filled = detail::padded<T>(columns);
      for (std::int64_t i = 0; i < D; i += TI) {
        const std::int64_t rows = std::min(TI, D - i);
        T S[TI * TJ];
        gemm_tile<T>(rows, filled, a.d_m, Q + (first + i) * ld, ld, 1, keys + j, stride, S, TJ, false);
        for (std::int64_t k = 0; k < rows; ++k) {
          T* s = S + k * TJ;
          T most = s[0];
          for (std::int64_t c = 1; c < columns; ++c) most = s[c] > most ? s[c] : most;
          T keep{};  // factor on what earlier tiles contributed
          if (j > 0) {
            if (maximum[i + k] > most) most = maximum[i + k];
            keep = exponential(maximum[i + k] - most);
          }
#pragma omp simd
          for (std::int64_t c = 0; c < filled; ++c) s[c] = exponential(s[c] - most);
          maximum[i + k] = most;
          denominator[i + k] = j > 0 ? denominator[i + k] * keep + sum(s, columns) : sum(s, columns);
          if (j > 0) {
            T* c = C + (first + i + k) * ldc;
            for (std::int64_t v = 0; v < a.d_v; ++v) c[v] *= keep;
          }
        }
        gemm_tile<T>(rows, a.d_v, columns, S, TJ, 1, V + (first + j) * ldv, ldv, C + (first + i) * ldc, ldc, j > 0);
      }
    }
    for (std::int64_t i = 0; i < D; ++i) {
      const T scale = static_cast<T>(1) / denominator[i];
      T* c = C + (first + i) * ldc;
#pragma omp simd
      for (std::int64_t v = 0; v < a.d_v; ++v) c[v] *= scale;
      lse[first + i] = maximum[i] + log(denominator[i]);
    }
  });
}

// Accumulates dQ, dK [R][d_m] (rows ldg apart) and dV [R][d_v] (ldgv).
template <class T>
void attention_backward(T* dQ, T* dK, std::int64_t ldg, T* dV, std::int64_t ldgv, const T* dC, std::int64_t lddc,
                        const T* C, std::int64_t ldc, const T* lse, const T* Q, const T* K, std::int64_t ld, const T* V,
                        std::int64_t ldv, AttentionShape a, T* work) {
  parallel_for<T>(a.N, [=](std::int64_t n) {
    if (a.D == 1) {  // one channel: the probability is 1, Q and K have no gradient, not even rounding noise
      for (std::int64_t v = 0; v < a.d_v; ++v) dV[n * ldgv + v] += dC[n * lddc + v];
      return;
    }
    constexpr std::int64_t TI = detail::attention_rows, TJ = detail::attention_columns;
    const std::int64_t D = a.D, first = n * D, stride = detail::padded<T>(D);
    const T scale = static_cast<T>(1 / std::sqrt(double(a.d_m)));
    T* keys = work + n * ((a.d_m + a.d_v) * stride + D);  // [d_m][stride], scaled
    T* values = keys + a.d_m * stride;                    // [d_v][stride]
    T* delta = values + a.d_v * stride;                   // [D]
    detail::transpose_padded(keys, K + first * ld, ld, D, a.d_m, scale);
    detail::transpose_padded(values, V + first * ldv, ldv, D, a.d_v, static_cast<T>(1));
    for (std::int64_t i = 0; i < D; ++i) delta[i] = dot(dC + (first + i) * lddc, C + (first + i) * ldc, a.d_v);
    for (std::int64_t j = 0; j < D; j += TJ) {
      const std::int64_t columns = std::min(TJ, D - j), filled = detail::padded<T>(columns);
      for (std::int64_t i = 0; i < D; i += TI) {
        const std::int64_t rows = std::min(TI, D - i);
        const T* q = Q + (first + i) * ld;
        const T* dc = dC + (first + i) * lddc;
        T S[TI * TJ], dS[TI * TJ];
        gemm_tile<T>(rows, filled, a.d_m, q, ld, 1, keys + j, stride, S, TJ, false);
        gemm_tile<T>(rows, filled, a.d_v, dc, lddc, 1, values + j, stride, dS, TJ, false);
        for (std::int64_t k = 0; k < rows; ++k) {
          T* s = S + k * TJ;
          T* ds = dS + k * TJ;
          const T row_lse = lse[first + i + k], row_delta = delta[i + k];
#pragma omp simd
          for (std::int64_t c = 0; c < filled; ++c) {
            s[c] = exponential(s[c] - row_lse);
            ds[c] = s[c] * (ds[c] - row_delta) * scale;
          }
        }
        gemm_tile<T>(columns, a.d_v, rows, S, 1, TJ, dc, lddc, dV + (first + j) * ldgv, ldgv, true);
        gemm_tile<T>(rows, a.d_m, columns, dS, TJ, 1, K + (first + j) * ld, ld, dQ + (first + i) * ldg, ldg, true);
        gemm_tile<T>(columns, a.d_m, rows, dS, 1, TJ, q, ld, dK + (first + j) * ldg, ldg, true);
      }
    }
  });
}

// The probabilities themselves, A [N][D][D], from Q, K and the saved log-sum-exp: for pictures and tests.
template <class T>
void attention_probabilities(T* A, const T* lse, const T* Q, const T* K, std::int64_t ld, AttentionShape a) {
  parallel_for<T>(a.N * a.D, [=](std::int64_t r) {
    const T scale = static_cast<T>(1 / std::sqrt(double(a.d_m)));
    for (std::int64_t j = 0; j < a.D; ++j) {
      A[r * a.D + j] = exponential(dot(Q + r * ld, K + (r / a.D * a.D + j) * ld, a.d_m) * scale - lse[r]);
    }
  });
}

}  // namespace samformer::kernels
