// The one projection of a step, RevIN's scale and shift folded in (SAMformer, section 3; our own folding):
//
//   u = gamma_d xhat + beta_d,   Z = u W' + b = gamma_d P + beta_d s + b,   P = xhat W',   s = row sums of W
//
// so the normalised windows xhat are read as they are in both passes of SAM, and RevIN's gradients need no input
// gradient:  dgamma_d = sum dZ . P,  dbeta_d = sum dZ . s  over the rows of channel d,  db = column sums of dZ,
// dP = gamma_d dZ (in place of dZ),  dW = dP' xhat + ds 1',  ds = sum beta_d dZ.
//
// Shapes: xhat [R][L], W [O][L], b and s [O], P, Z, dZ [R][O], gamma and beta [D] (null: none), row r = n D + d.
// Saved for backward: xhat, s and, for dgamma, P. On a device Z is never written: its consumers, the attention and the
// loss, read P as Projected and leave their part of dgamma and dbeta.
// With `halves` (float only) the two products take their operands rounded to bfloat16; the rest stays float.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/revin.h"

namespace samformer::kernels {

// Columns of a product as their consumers read them: value[r][o] = gamma_d p[r ld + o] + beta_d s[o] + b[o]. On the CPU
// p has it all and the rest is null; on a device gamma, beta and s are null where there is no scale and shift, and b is
// null where p has the bias.
template <class T>
struct Projected {
  const T* p = nullptr;
  std::int64_t ld = 0;
  const T* gamma = nullptr;  // [D]
  const T* beta = nullptr;
  const T* s = nullptr;
  const T* b = nullptr;

  Projected columns(std::int64_t first) const {
    return {p + first, ld, gamma, beta, s ? s + first : nullptr, b ? b + first : nullptr};
  }
};

// ---- a device's projection, in pieces between which cuBLAS multiplies ----------------------------------------------

// Wcat [O][L] in one piece or two: `values` rows (folded weights, whose bias is there already), then `rest` ones. A
// bias [L] may be folded into the head, the columns from `head` on: b += W bias, a rank-one term r bias' of the
// gradient, where r is the bias gradient of the same column (output bias), or of the value column of the same step
// (value bias).
enum class FoldedBias { none, output, value };
struct ProjectionWeights {
  const float *value_weight = nullptr, *value_bias = nullptr;
  const float *weight = nullptr, *bias = nullptr;
  std::int64_t values = 0, rest = 0, L = 0;
  std::int64_t head = 0;                      // the first of the forecast's columns
  std::int64_t skip_begin = 0, skip_end = 0;  // columns whose bias has no gradient
  FoldedBias folded = FoldedBias::none;
  const float* folded_bias = nullptr;
  std::int64_t columns() const { return values + rest; }
};
// s [O] = row sums, b [O] = biases, W bias of an output bias included.
void weight_sums(const Cuda& on, float* s, float* b, const ProjectionWeights& w);
// dp [R][ld] = gamma_d dz; parts [projection_parts]: by chunks of rows sum dz, sum beta_d dz.
std::int64_t projection_parts(const Cuda& on, std::int64_t R, std::int64_t O);
void projection_backward(const Cuda& on, float* dp, float* parts, const float* dz, std::int64_t ld, const float* gamma,
                         const float* beta, std::int64_t N, std::int64_t D, std::int64_t O);
// What the products leave to be done, in one launch: bias gradients; onto the pieces of dWcat, which hold dP' xhat, the
// rank-one terms; dgamma and dbeta (null: not now) from their row sums (kernels/revin.h).
struct ProjectionGradients {
  float *value_weight = nullptr, *value_bias = nullptr, *weight = nullptr, *bias = nullptr;
  float* head_bias = nullptr;  // of the folded bias's own part of b: the head's bias gradient once more
  float *gamma = nullptr, *beta = nullptr;
  const float* row_sums = nullptr;
  int row_sum_parts = 0;
};
void finish_gradients(const Cuda& on, const ProjectionGradients& gradients, const ProjectionWeights& w,
                      const float* parts, bool affine, std::int64_t N, std::int64_t D);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/gemm.h"

namespace samformer::kernels {

// What the CPU's projection reads, and what it leaves for its consumers and for backward.
template <class T>
struct ProjectionOperands {
  T *Z, *P, *s;  // where gamma has no gradient, P is not needed: P = Z
  const T *xhat, *W, *b, *gamma, *beta;
  std::int64_t R, D, O, L;
  Bf16Windows halves = {};
};

// `work`: O L scalars, for W'. `words`: with halves, bf16_words(O, L).
template <class T>
void projection(Cpu, const ProjectionOperands<T>& operands, T* work, std::uint32_t* words = nullptr) {
  T *const Z = operands.Z, *const P = operands.P, *const s = operands.s;
  const T *const xhat = operands.xhat, *const W = operands.W, *const b = operands.b;
  const T *const gamma = operands.gamma, *const beta = operands.beta;
  const std::int64_t R = operands.R, D = operands.D, O = operands.O, L = operands.L;
  const Bf16Windows halves = operands.halves;
  constexpr std::int64_t rows = 16;
  parallel_for<T>(blocks_of(O, rows), [=](std::int64_t block, auto target) {
    const std::int64_t first = block * rows, count = std::min(rows, O - first);
    for (std::int64_t o = first; gamma && o < first + count; ++o) s[o] = sum(W + o * L, L);
    if (!halves.rows) transpose<T, target.bytes>(work + first, O, W + first * L, L, count, L);
  });
  const auto finish = [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t n) {
    for (std::int64_t r = i; r < i + m; ++r) {
      const T* p = P + r * O;
      T* z = Z + r * O;
      if (!gamma) {
        if (!b) continue;
#pragma omp simd
        for (std::int64_t o = j; o < j + n; ++o) z[o] = p[o] + b[o];
        continue;
      }
      const T scale = gamma[r % D], shift = beta[r % D];
      if (b) {
#pragma omp simd
        for (std::int64_t o = j; o < j + n; ++o) z[o] = scale * p[o] + (shift * s[o] + b[o]);
      } else {
#pragma omp simd
        for (std::int64_t o = j; o < j + n; ++o) z[o] = scale * p[o] + shift * s[o];
      }
    }
  };
  if constexpr (std::is_same_v<T, float>) {
    if (halves.rows) {
      bf16_panels_of_rows(words, W, O, L);
      bf16_gemm(R, O, L, halves.rows, words, P, O, false, finish);
      return;
    }
  }
  gemm(false, false, R, O, L, xhat, L, work, O, P, O, false, finish);
}

inline constexpr std::int64_t projection_backward_rows = 16;  // as forecast_loss cuts: a thread reads the rows it wrote
// Scalars of workspace that projection_backward needs.
template <class T>
constexpr std::int64_t projection_backward_work(std::int64_t R, std::int64_t O, std::int64_t L) {
  return 2 * R + 2 * O * blocks_of(R, projection_backward_rows) + O + gemm_parts_work<T>(O, L, R);
}

// dW [O][L] and db [O] (+)=, dgamma and dbeta [D] +=, each null where not wanted; scales dZ in place. Columns
// [skip_begin, skip_end) of db get nothing: the key bias has no gradient, a softmax row is blind to it. `words`: with
// halves, bf16_words(O, R).
template <class T>
void projection_backward(Cpu, Sink<T> dW, Sink<T> db, AffineSink<T> affine, T* dZ,
                         const ProjectionOperands<T>& operands, std::int64_t skip_begin, std::int64_t skip_end, T* work,
                         std::uint32_t* words = nullptr) {
  const T *const P = operands.P, *const s = operands.s, *const xhat = operands.xhat;
  const T *const gamma = operands.gamma, *const beta = operands.beta;
  T *const dgamma = affine.gamma, *const dbeta = affine.beta;
  const std::int64_t R = operands.R, D = operands.D, O = operands.O, L = operands.L;
  const Bf16Windows halves = operands.halves;
  constexpr std::int64_t rows = projection_backward_rows;
  const std::int64_t blocks = blocks_of(R, rows);
  T* by_p = work;                        // [R] dZ . P
  T* by_s = by_p + R;                    // [R] dZ . s
  T* bias_part = by_s + R;               // [blocks][O] column sums of dZ
  T* sum_part = bias_part + blocks * O;  // [blocks][O] column sums of beta dZ
  T* ds = sum_part + blocks * O;         // [O]
  parallel_for<T>(blocks, [=](std::int64_t block) {
    T* bias_sum = bias_part + block * O;
    T* ds_sum = sum_part + block * O;
    std::fill(bias_sum, bias_sum + O, T{});
    std::fill(ds_sum, ds_sum + O, T{});
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      T* g = dZ + r * O;
#pragma omp simd
      for (std::int64_t o = 0; o < O; ++o) bias_sum[o] += g[o];
      if (!gamma) continue;
      const T scale = gamma[r % D], shift = beta[r % D];
      if (dgamma) by_p[r] = dot(g, P + r * O, O);
      if (dbeta) by_s[r] = dot(g, s, O);
#pragma omp simd
      for (std::int64_t o = 0; o < O; ++o) {
        ds_sum[o] += shift * g[o];
        g[o] *= scale;
      }
    }
  });
  std::fill(ds, ds + O, T{});
  if (db && !db.add) std::fill(db.data, db.data + O, T{});
  for (std::int64_t block = 0; block < blocks; ++block) {
    if (db) {
      for (std::int64_t o = 0; o < skip_begin; ++o) db.data[o] += bias_part[block * O + o];
      for (std::int64_t o = skip_end; o < O; ++o) db.data[o] += bias_part[block * O + o];
    }
    for (std::int64_t o = 0; o < O; ++o) ds[o] += sum_part[block * O + o];
  }
  for (std::int64_t r = 0; r < R; r += D) {
    for (std::int64_t d = 0; dgamma && d < D; ++d) dgamma[d] += by_p[r + d];
    for (std::int64_t d = 0; dbeta && d < D; ++d) dbeta[d] += by_s[r + d];
  }
  if (!dW) return;
  const bool shifted = beta != nullptr;
  const auto finish = [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t n) {
    if (!shifted) return;
    for (std::int64_t o = i; o < i + m; ++o) {
      const T extra = ds[o];
#pragma omp simd
      for (std::int64_t t = j; t < j + n; ++t) dW.data[o * L + t] += extra;
    }
  };
  if constexpr (std::is_same_v<T, float>) {
    if (halves.rows) {
      bf16_rows_of_columns(words, dZ, R, O);
      bf16_gemm(O, L, R, words, halves.panels, dW.data, L, dW.add, finish);
      return;
    }
  }
  gemm_in_parts(O, L, R, dZ, O, xhat, L, dW, ds + O, finish);
}

}  // namespace samformer::kernels
#endif
