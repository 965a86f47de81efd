// Operations of networks whose tokens are steps of a window (ops.h has the rules): [N T, d], row n T + t.
#pragma once

#include "core/ops/ops.h"
#include "kernels/heads.h"
#include "kernels/prob_sparse.h"
#include "kernels/unfold.h"

namespace samformer {

// Of each of N samples, T rows of C columns: rows side by side, [N rows, C width], column c width + j
// (kernels/unfold.h). T and C are x's.
struct Unfold {
  std::int64_t rows, width = 1, stride = 1, first = 0;
  bool circular = false;
};
template <class T, class On>
Var<T, On> unfold(Var<T, On> x, std::int64_t N, const Unfold& how);

// Rows [first, first + count) of each of N samples: zeros before its first and behind its last.
template <class T, class On>
Var<T, On> sample_rows(Var<T, On> x, std::int64_t N, std::int64_t first, std::int64_t count) {
  return unfold(x, N, {.rows = count, .first = first});
}

// A convolution over the steps of each of N samples, weight [out, C, width]: [N how.rows, out], without a bias.
template <class T, class On>
Var<T, On> convolution(Var<T, On> x, std::int64_t N, Var<T, On> weight, Unfold how) {
  const Shape shape = weight.value().shape;
  how.width = shape[2];
  return linear(unfold(x, N, how), reshape(weight, Shape{shape[0], shape[1] * shape[2]}));
}

// The largest of three steps every two, of each of N samples: [N pooled(T), C] (kernels/unfold.h).
template <class T, class On>
Var<T, On> max_pool(Var<T, On> x, std::int64_t N);

// The table of sinusoids [steps, d], a constant (kernels/unfold.h).
template <class T, class On>
Var<T, On> sinusoids(Tape<T, On>& tape, std::int64_t steps, std::int64_t d);

// Attention with heads, as in ops.h, of the keys that the mask allows (kernels/heads.h). `picked` [N h, T_q], where the
// tape computes: the queries are these cells of their sequences. `lse`: gets the saved log-sum-exp, [N h, T_q].
template <class T, class On>
Var<T, On> masked_attention(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v,
                            std::int64_t N, std::int64_t heads, const kernels::HeadsMask& mask,
                            const Dropout& dropout = {}, const std::int32_t* picked = nullptr,
                            Tensor<T>* lse = nullptr);

// ProbSparse attention of q [N T, d] over k and v [N S, d], of u = min(T, factor ceil(ln T)) queries picked by
// U = min(S, factor ceil(ln S)) sampled keys each (kernels/prob_sparse.h): [N T, d]. `masked`: a picked query sees the
// keys up to its own step, the others have cumulative sums instead of means. `heads_first`: rows of the result mix the
// steps of one head, [N, h, T, E] read as [N T, d].
struct ProbSparse {
  std::int64_t factor = 5;
  bool masked = false, heads_first = false;
  kernels::KeySampling sampling = {};
};
template <class T, class On>
Var<T, On> prob_sparse_attention(Var<T, On> q, Var<T, On> k, Var<T, On> v, std::int64_t N, std::int64_t heads,
                                 const ProbSparse& how);

}  // namespace samformer
