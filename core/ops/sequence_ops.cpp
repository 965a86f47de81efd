#include "core/dual.h"
#include "core/ops/ops.h"
#include "core/ops/token_ops.h"
#include "kernels/decompose.h"
#include "kernels/heads.h"
#include "kernels/patches.h"

namespace samformer {

template <class T, class On>
Decomposed<T, On> decompose(Var<T, On> x, std::int64_t width) {
  const Tensor<T> X = x.value();
  const std::int64_t R = X.rows(), L = X.cols(), n = X.count();
  SAMFORMER_CHECK(X.contiguous() && L > 0 && width > 0,
                  "decompose: rows and a width of at least 1 expected, found {}, {}", X.shape.to_string(), width);
  Operation<T, On> op(*x.tape, "decompose", float_cost((width + 2) * n, 3 * n), float_cost((3 * width + 2) * n, 3 * n));
  const Tensor<T> Y = op.output(Shape{R, 2 * L});
  kernels::decompose(op.on(), Y.data, static_cast<const T*>(X.data), R, L, width);
  const Var<T, On> both = x.tape->record(Y, {x}, [=](Backward<T, On>& g) {
    const Tensor<T> dy = g.self();
    Sink<T> dx = g.into(x);
    if (dx) dx.ld = L;  // of higher rank it is contiguous too
    kernels::decompose_backward(g.on(), dx, static_cast<const T*>(dy.data), dy.stride, R, L, width);
  });
  return {columns(both, 0, L), columns(both, L, L)};
}

template <class T, class On>
Var<T, On> patches(Var<T, On> x, std::int64_t length, std::int64_t stride) {
  const Tensor<T> X = x.value();
  const std::int64_t R = X.rows();
  const kernels::PatchShape shape{X.cols(), length, stride};
  SAMFORMER_CHECK(X.contiguous() && length > 0 && stride > 0 && length <= X.cols(),
                  "patches: rows of at least the {} steps of a patch and a stride expected, found {}, {}", length,
                  X.shape.to_string(), stride);
  const std::int64_t n = R * shape.count() * length;
  Operation<T, On> op(*x.tape, "patches", float_cost(0, X.count() + n), float_cost(n, X.count() + n));
  const Tensor<T> Y = op.output(Shape{R * shape.count(), length});
  kernels::patches(op.on(), Y.data, static_cast<const T*>(X.data), R, shape);
  return x.tape->record(Y, {x}, [=](Backward<T, On>& g) {
    Sink<T> dx = g.into(x);
    dx.ld = X.cols();
    kernels::patches_backward(g.on(), dx, static_cast<const T*>(g.self_dense().data), R, shape);
  });
}

template <class T, class On>
Var<T, On> join_rows(Var<T, On> a, Var<T, On> b, std::int64_t N) {
  const Tensor<T> A = a.value(), B = b.value();
  SAMFORMER_CHECK(
      A.cols() == B.cols() && N > 0 && A.rows() % N == 0 && B.rows() % N == 0 && A.contiguous() && B.contiguous(),
      "join_rows: {} samples of whole rows of one width expected, found {}, {}", N, A.shape.to_string(),
      B.shape.to_string());
  const std::int64_t n = A.count() + B.count(), first = A.count() / N, second = B.count() / N, all = first + second;
  Operation<T, On> op(*a.tape, "join_rows", float_cost(0, 2 * n), float_cost(n, 3 * n));
  const Tensor<T> Y = op.output(Shape{A.rows() + B.rows(), A.cols()});
  kernels::copy(op.on(), Y.data, all, static_cast<const T*>(A.data), first, N, first);
  kernels::copy(op.on(), Y.data + first, all, static_cast<const T*>(B.data), second, N, second);
  return a.tape->record(Y, {a, b}, [=](Backward<T, On>& g) {
    const T* const dy = g.self_dense().data;
    const auto give = [&](Sink<T> to, const T* from, std::int64_t size) {
      if (to && to.add) kernels::add(g.on(), to.data, size, from, all, N, size);
      if (to && !to.add) kernels::copy(g.on(), to.data, size, from, all, N, size);
    };
    give(g.into(a), dy, first);
    give(g.into(b), dy + first, second);
  });
}

template <class T, class On>
Var<T, On> first_rows(Var<T, On> x, std::int64_t N, std::int64_t count) {
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(N > 0 && X.rows() % N == 0 && count > 0 && count <= X.rows() / N && X.contiguous(),
                  "first_rows: {} rows of each of {} samples expected, found {}", count, N, X.shape.to_string());
  const std::int64_t size = count * X.cols(), all = X.count() / N, n = N * size;
  if (size == all) return x;
  Operation<T, On> op(*x.tape, "first_rows", float_cost(0, 2 * n), float_cost(n, 2 * N * all));
  const Tensor<T> Y = op.output(Shape{N * count, X.cols()});
  kernels::copy(op.on(), Y.data, size, static_cast<const T*>(X.data), all, N, size);
  return x.tape->record(Y, {x}, [=](Backward<T, On>& g) {
    const T* const dy = g.self_dense().data;
    const Sink<T> dx = g.into(x);
    if (dx.add) return kernels::add(g.on(), dx.data, all, dy, size, N, size);
    kernels::copy(g.on(), dx.data, all, dy, size, N, size);
    kernels::clear(g.on(), dx.data + size, all, N, all - size);
  });
}

namespace {

template <class T, class On>
Attended<T, On> attend(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v, std::int64_t N,
                       std::int64_t heads, const Dropout& dropout, Var<T, On> previous, bool pass_scores,
                       const kernels::HeadsMask& mask, const std::int32_t* picked) {
  const Tensor<T> Q = q.z.value(), K = k.z.value(), V = v.z.value();
  const std::int64_t R = Q.rows(), d = Q.cols();
  SAMFORMER_CHECK(
      N > 0 && heads > 0 && d % heads == 0 && K.cols() == d && V.cols() == d && R % N == 0 && K.rows() % N == 0 &&
          V.rows() == K.rows(),
      "multi_head_attention: q [N T_q, d], k and v [N T_k, d], d a multiple of {} heads expected, found {}, "
      "{}, {} for N = {}",
      heads, Q.shape.to_string(), K.shape.to_string(), V.shape.to_string(), N);
  SAMFORMER_CHECK(!q.pending.gamma && !k.pending.gamma && !v.pending.gamma,
                  "multi_head_attention: columns that lack no more than their bias expected");
  const kernels::HeadsShape shape{N, heads, R / N, K.rows() / N, d / heads};
  SAMFORMER_CHECK(!previous || (previous.value().count() == shape.scores() && previous.value().contiguous()),
                  "multi_head_attention: {} previous scores expected, found {}", shape.scores(),
                  previous ? previous.value().shape.to_string() : "none");
  if (std::is_same_v<On, Cuda> && shape.width > kernels::most_head_width) {
    throw Error(Exit::usage,
                fmt::format("heads of {} columns: a GPU has them up to {}", shape.width, kernels::most_head_width))
        .hint("take more --heads, or --device cpu");
  }
  const std::int64_t n = shape.scores(), keys = K.rows(), extra = (previous ? n : 0) + (pass_scores ? n : 0);
  Operation<T, On> op(*q.z.tape, "multi_head_attention",
                      float_cost(n * (4 * shape.width + 4), (2 * R + 2 * keys) * d + extra),
                      float_cost(n * (10 * shape.width + 5), (4 * R + 4 * keys) * d + 2 * extra));
  // One node: the context, then the scores.
  const std::int64_t size = R * d;
  const Tensor<T> all = op.output(pass_scores ? Shape{size + n, 1} : Shape{R, d});
  T* const lse = op.saved(N * heads * shape.queries);
  kernels::HeadsInput<T> in;
  in.q = q.kernel(), in.k = k.kernel(), in.v = v.kernel();
  in.previous = previous ? previous.value().data : nullptr;
  in.shape = shape, in.dropout = dropout, in.mask = mask, in.picked = picked;
  kernels::multi_head_attention(op.on(), all.data, lse, pass_scores ? all.data + size : nullptr, in,
                                op.scratch(kernels::heads_scratch(op.on(), shape)));
  Tape<T, On>& tape = *q.z.tape;
  const Var<T, On> whole = tape.record(all, {q.z, k.z, v.z, previous}, [=](Backward<T, On>& g) {
    const Tensor<T> dy = g.self();
    kernels::HeadsGradients<T> to;
    if constexpr (std::is_same_v<On, Cuda>) {
      to.dq = g.into(q.z), to.dk = g.into(k.z), to.dv = g.into(v.z);
    } else {
      to.dq = g.into_or_scratch(q.z, R, d), to.dk = g.into_or_scratch(k.z, keys, d);
      to.dv = g.into_or_scratch(v.z, keys, d);
    }
    to.dprevious = g.into(previous);
    to.dscores = pass_scores ? dy.data + size : nullptr;
    kernels::multi_head_attention_backward(g.on(), to, static_cast<const T*>(dy.data), pass_scores ? d : dy.stride,
                                           static_cast<const T*>(all.data), static_cast<const T*>(lse), in,
                                           g.scratch(kernels::heads_backward_scratch(g.on(), shape)));
  });
  const Tensor<T> sums(lse, Shape{N * heads, shape.queries});
  if (!pass_scores) return {whole, {}, sums};
  using Axis = typename Tape<T, On>::Axis;
  return {tape.part(whole, Axis::rows, 0, size, Tensor<T>(all.data, Shape{R, d})),
          tape.part(whole, Axis::rows, size, size + n,
                    Tensor<T>(all.data + size, Shape{N * heads * shape.keys, shape.queries})),
          sums};
}

}  // namespace

template <class T, class On>
Attended<T, On> multi_head_attention(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v,
                                     std::int64_t N, std::int64_t heads, const Dropout& dropout, Var<T, On> previous,
                                     bool pass_scores) {
  return attend(q, k, v, N, heads, dropout, previous, pass_scores, {}, nullptr);
}

template <class T, class On>
Var<T, On> masked_attention(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v,
                            std::int64_t N, std::int64_t heads, const kernels::HeadsMask& mask, const Dropout& dropout,
                            const std::int32_t* picked, Tensor<T>* lse) {
  const Attended<T, On> attended = attend(q, k, v, N, heads, dropout, {}, false, mask, picked);
  if (lse) *lse = attended.lse;
  return attended.context;
}

#define INSTANTIATE(T, On)                                                                                           \
  template Decomposed<T, On> decompose(Var<T, On>, std::int64_t);                                                    \
  template Var<T, On> patches(Var<T, On>, std::int64_t, std::int64_t);                                               \
  template Var<T, On> join_rows(Var<T, On>, Var<T, On>, std::int64_t);                                               \
  template Var<T, On> first_rows(Var<T, On>, std::int64_t, std::int64_t);                                            \
  template Attended<T, On> multi_head_attention(const Projected<T, On>&, const Projected<T, On>&,                    \
                                                const Projected<T, On>&, std::int64_t, std::int64_t, const Dropout&, \
                                                Var<T, On>, bool);                                                   \
  template Var<T, On> masked_attention(const Projected<T, On>&, const Projected<T, On>&, const Projected<T, On>&,    \
                                       std::int64_t, std::int64_t, const kernels::HeadsMask&, const Dropout&,        \
                                       const std::int32_t*, Tensor<T>*);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
