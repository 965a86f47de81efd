// Channel attention (SAMformer, section 3): for each of N samples, over its D channels,
//
//   A = softmax_rows(Q K' / sqrt(d_m)) in R^{D x D},   C = A V
//   dV = A' dC,   dS = A * (dC V' - delta),  delta = rowsum(dC * C),   dQ = dS K / sqrt(d_m),   dK = dS' Q / sqrt(d_m)
//
// Tiles of channels with a running row maximum and sum (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022): no
// D x D matrix exists, memory is O(R (d_m + d_v)); only a device's products, below, hold the scores. The CPU's tile of
// scores is transposed, keys down and queries across, so that a row's maximum and sum run along the vector's lanes and
// never across them. Saved for backward: Q, K, V, C and the row log-sum-exp. Shapes: Q, K [R][d_m] (rows ld apart),
// V and C [R][d_v] (ldv, ldc); lse [R]; row r = n D + d. A sample is one block of work on the CPU: the bits do not
// depend on the number of threads.
#pragma once

#include <cstdint>

#include "kernels/projection.h"

namespace samformer::kernels {

struct AttentionShape {
  std::int64_t N, D, d_m, d_v;
};

// A device's kernels read q, k and v as columns of one matrix, v | q | k, and fold what they still lack while they
// stage them. Which kernels, follows from the shape: fused ones, those on tensor cores (on.tf32, 64 channels and more),
// or, for keys over 64 and for values over 16 of many channels, products with the D x D scores of each sample in
// memory. Scalars saved for backward besides lse, and workspace of each pass.
std::int64_t attention_saved(const Cuda& on, AttentionShape a);
std::int64_t attention_scratch(const Cuda& on, AttentionShape a);
std::int64_t attention_backward_scratch(const Cuda& on, AttentionShape a);

// C [R][d_v] and lse [R].
void attention(const Cuda& on, float* C, std::int64_t ldc, float* lse, const Projected<float>& q,
               const Projected<float>& k, const Projected<float>& v, AttentionShape a, float* saved, float* scratch);
// dq, dk [R][d_m], with one ld, and dv [R][d_v] (+)=; a device writes them, side by side as q, k and v are.
// affine: of what it folded, two parts of row sums.
void attention_backward(const Cuda& on, Sink<float> dq, Sink<float> dk, Sink<float> dv, AffineSink<float> affine,
                        const float* dC, std::int64_t lddc, const float* C, std::int64_t ldc, const float* lse,
                        const Projected<float>& q, const Projected<float>& k, const Projected<float>& v,
                        AttentionShape a, const float* saved, float* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <cmath>

#include "kernels/gemm.h"

namespace samformer::kernels {

namespace detail {

// Keys and queries of a tile: whole tiles of gemm_tile, and two tiles of scores fit the first-level cache.
inline constexpr std::int64_t attention_keys = 48, attention_queries = 64;

// Whole vectors of any instruction set.
constexpr std::int64_t padded(std::int64_t D) { return blocks_of(D, 16) * 16; }

// to[width][padded D] = scale from[D][width]', the padding zero: queries side by side for the vector unit.
template <class T, class Target>
inline void transpose_padded(T* to, const T* from, std::int64_t ld, std::int64_t D, std::int64_t width, T scale) {
  constexpr int side = lanes<T, Target::bytes>;
  const std::int64_t stride = padded(D), whole = side > 1 ? width / side * side : 0;
  for (std::int64_t d = 0; d < stride; d += side) {
    for (std::int64_t k = 0; k < whole; k += side) {
      Pack<T, Target::bytes> x[side] = {};
      for (std::int64_t r = 0; r < std::min<std::int64_t>(side, D - d); ++r) {
        load(x[r], from + (d + r) * ld + k);
        x[r] *= scale;
      }
      transpose_runs<1>(x);
      for (int r = 0; r < side; ++r) store(to + (k + r) * stride + d, x[r]);
    }
  }
  for (std::int64_t k = whole; k < width; ++k) {
    for (std::int64_t d = 0; d < stride; ++d) to[k * stride + d] = d < D ? from[d * ld + k] * scale : T{};
  }
}

}  // namespace detail

constexpr std::int64_t attention_saved(Cpu, AttentionShape) { return 0; }
constexpr std::int64_t attention_scratch(Cpu, AttentionShape a) { return a.N * a.d_m * detail::padded(a.D); }
constexpr std::int64_t attention_backward_scratch(Cpu, AttentionShape a) {
  return a.N * (a.d_m + a.d_v + 1) * detail::padded(a.D);
}

template <class T>
void attention(Cpu, T* C, std::int64_t ldc, T* lse, const Projected<T>& q, const Projected<T>& k, const Projected<T>& v,
               AttentionShape a, T*, T* work) {
  const T *const Q = q.p, *const K = k.p, *const V = v.p;
  const std::int64_t ld = q.ld, ldv = v.ld;
  parallel_for<T>(a.N, [=](std::int64_t n, auto target) {
    using std::log;
    constexpr std::int64_t TI = detail::attention_queries, TJ = detail::attention_keys;
    const std::int64_t D = a.D, first = n * D, stride = detail::padded(D);
    T* queries = work + n * a.d_m * stride;  // [d_m][stride], scaled by 1 / sqrt(d_m)
    detail::transpose_padded<T, decltype(target)>(queries, Q + first * ld, ld, D, a.d_m,
                                                  static_cast<T>(1 / std::sqrt(double(a.d_m))));
    for (std::int64_t i = 0; i < D; i += TI) {
      const std::int64_t rows = std::min(TI, D - i), filled = detail::padded(rows);
      T* c = C + (first + i) * ldc;
      T S[TJ * TI], most[TI], total[TI];  // scores of keys x queries; their maximum and sum so far
      for (std::int64_t j = 0; j < D; j += TJ) {
        const std::int64_t keys = std::min(TJ, D - j);
        gemm_tile(target, false, keys, filled, a.d_m, K + (first + j) * ld, ld, 1, queries + i, stride, S, TI, false);
        T before[TI];
        std::copy_n(j == 0 ? S : most, filled, before);
        std::copy_n(before, filled, most);
        for (std::int64_t k = 0; k < keys; ++k) {
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) most[r] = S[k * TI + r] > most[r] ? S[k * TI + r] : most[r];
        }
        bool rises = false;
        for (std::int64_t r = 0; r < rows; ++r) rises |= most[r] > before[r];
        if (j == 0) {
          std::fill_n(total, filled, T{});
        } else if (rises) {  // what earlier tiles gave was relative to `before`
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) {
            before[r] = exponential(before[r] - most[r]);
            total[r] *= before[r];
          }
          for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
            for (std::int64_t v = 0; v < a.d_v; ++v) c[r * ldc + v] *= before[r];
          }
        }
        for (std::int64_t k = 0; k < keys; ++k) {
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) {
            const T p = exponential(S[k * TI + r] - most[r]);
            S[k * TI + r] = p;
            total[r] += p;
          }
        }
        gemm_tile(target, false, rows, a.d_v, keys, S, 1, TI, V + (first + j) * ldv, ldv, c, ldc, j > 0);
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const T scale = static_cast<T>(1) / total[r];
#pragma omp simd
        for (std::int64_t v = 0; v < a.d_v; ++v) c[r * ldc + v] *= scale;
        lse[first + i + r] = most[r] + log(total[r]);
      }
    }
  });
}

template <class T>
void attention_backward(Cpu, Sink<T> dq, Sink<T> dk, Sink<T> dv, AffineSink<T>, const T* dC, std::int64_t lddc,
                        const T* C, std::int64_t ldc, const T* lse, const Projected<T>& q, const Projected<T>& k,
                        const Projected<T>& v, AttentionShape a, const T*, T* work) {
  const T *const Q = q.p, *const K = k.p, *const V = v.p;
  T *const dQ = dq.data, *const dK = dk.data, *const dV = dv.data;
  const std::int64_t ld = q.ld, ldv = v.ld, ldg = dq.ld, ldgv = dv.ld;
  parallel_for<T>(a.N, [=](std::int64_t n, auto target) {
    for (std::int64_t r = n * a.D; r < (n + 1) * a.D; ++r) {  // what follows adds
      if (!dq.add) std::fill_n(dQ + r * ldg, a.d_m, T{});
      if (!dk.add) std::fill_n(dK + r * ldg, a.d_m, T{});
      if (!dv.add) std::fill_n(dV + r * ldgv, a.d_v, T{});
    }
    if (a.D == 1) {  // one channel: the probability is 1, Q and K have no gradient, not even rounding noise
      for (std::int64_t v = 0; v < a.d_v; ++v) dV[n * ldgv + v] += dC[n * lddc + v];
      return;
    }
    constexpr std::int64_t TI = detail::attention_queries, TJ = detail::attention_keys;
    const std::int64_t D = a.D, first = n * D, stride = detail::padded(D);
    const T scale = static_cast<T>(1 / std::sqrt(double(a.d_m)));
    T* queries = work + n * (a.d_m + a.d_v + 1) * stride;  // [d_m][stride], scaled
    T* gradients = queries + a.d_m * stride;               // [d_v][stride]
    T* delta = gradients + a.d_v * stride;                 // [stride]
    detail::transpose_padded<T, decltype(target)>(queries, Q + first * ld, ld, D, a.d_m, scale);
    detail::transpose_padded<T, decltype(target)>(gradients, dC + first * lddc, lddc, D, a.d_v, static_cast<T>(1));
    for (std::int64_t i = 0; i < D; ++i) delta[i] = dot(dC + (first + i) * lddc, C + (first + i) * ldc, a.d_v);
    std::fill(delta + D, delta + stride, T{});
    for (std::int64_t i = 0; i < D; i += TI) {
      const std::int64_t rows = std::min(TI, D - i), filled = detail::padded(rows);
      const T* dc = dC + (first + i) * lddc;
      T S[TJ * TI], dS[TJ * TI], row_lse[TI];
      std::copy_n(lse + first + i, rows, row_lse);
      std::fill(row_lse + rows, row_lse + filled, T{});
      for (std::int64_t j = 0; j < D; j += TJ) {
        const std::int64_t keys = std::min(TJ, D - j);
        const T* k = K + (first + j) * ld;
        gemm_tile(target, false, keys, filled, a.d_m, k, ld, 1, queries + i, stride, S, TI, false);
        gemm_tile(target, false, keys, filled, a.d_v, V + (first + j) * ldv, ldv, 1, gradients + i, stride, dS, TI,
                  false);
        for (std::int64_t key = 0; key < keys; ++key) {
          T* s = S + key * TI;
          T* ds = dS + key * TI;
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) {
            s[r] = exponential(s[r] - row_lse[r]);
            ds[r] = s[r] * (ds[r] - delta[i + r]) * scale;
          }
        }
        gemm_tile(target, false, keys, a.d_v, rows, S, TI, 1, dc, lddc, dV + (first + j) * ldgv, ldgv, true);
        gemm_tile(target, false, keys, a.d_m, rows, dS, TI, 1, Q + (first + i) * ld, ld, dK + (first + j) * ldg, ldg,
                  true);
        gemm_tile(target, false, rows, a.d_m, keys, dS, 1, TI, k, ld, dQ + (first + i) * ldg, ldg, true);
      }
    }
  });
}

}  // namespace samformer::kernels
#endif
