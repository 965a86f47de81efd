#include "core/ops/token_ops.h"

#include <algorithm>
#include <cmath>

#include "core/dual.h"

namespace samformer {

template <class T, class On>
Var<T, On> unfold(Var<T, On> x, std::int64_t N, const Unfold& how) {
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(N > 0 && X.rows() % N == 0 && X.contiguous() && how.rows > 0 && how.width > 0 && how.stride > 0,
                  "unfold: rows of {} samples, and at least one row, width and stride expected, found {}, {}, {}, {}",
                  N, X.shape.to_string(), how.rows, how.width, how.stride);
  const kernels::UnfoldShape shape{X.rows() / N, X.cols(), how.rows, how.width, how.stride, how.first, how.circular};
  const std::int64_t n = N * how.rows * how.width * shape.C;
  Operation<T, On> op(*x.tape, "unfold", float_cost(0, X.count() + n), float_cost(n, X.count() + n));
  const Tensor<T> Y = op.output(Shape{N * how.rows, shape.C * how.width});
  kernels::unfold(op.on(), Y.data, static_cast<const T*>(X.data), N, shape);
  return x.tape->record(Y, {x}, [=](Backward<T, On>& g) {
    kernels::unfold_backward(g.on(), g.into(x), static_cast<const T*>(g.self_dense().data), N, shape);
  });
}

template <class T, class On>
Var<T, On> max_pool(Var<T, On> x, std::int64_t N) {
  const Tensor<T> X = x.value();
  const std::int64_t steps = N > 0 ? X.rows() / N : 0, C = X.cols();
  SAMFORMER_CHECK(steps > 0 && X.rows() % N == 0 && X.contiguous(), "max_pool: rows of {} samples expected, found {}",
                  N, X.shape.to_string());
  const std::int64_t rows = kernels::pooled(steps), n = N * rows * C;
  Operation<T, On> op(*x.tape, "max_pool", float_cost(2 * n, X.count() + n), float_cost(3 * n, 2 * X.count() + n));
  const Tensor<T> Y = op.output(Shape{N * rows, C});
  kernels::max_pool(op.on(), Y.data, static_cast<const T*>(X.data), N, steps, C);
  return x.tape->record(Y, {x}, [=](Backward<T, On>& g) {
    kernels::max_pool_backward(g.on(), g.into(x), static_cast<const T*>(g.self_dense().data),
                               static_cast<const T*>(X.data), N, steps, C);
  });
}

template <class T, class On>
Var<T, On> sinusoids(Tape<T, On>& tape, std::int64_t steps, std::int64_t d) {
  Operation<T, On> op(tape, "sinusoids", float_cost(8 * steps * d, steps * d), {});
  const Tensor<T> table = op.output(Shape{steps, d});
  kernels::sinusoids(op.on(), table.data, steps, d);
  return tape.constant(table);
}

template <class T, class On>
Var<T, On> prob_sparse_attention(Var<T, On> q, Var<T, On> k, Var<T, On> v, std::int64_t N, std::int64_t heads,
                                 const ProbSparse& how) {
  const Tensor<T> Q = q.value(), K = k.value(), V = v.value();
  const std::int64_t d = Q.cols();
  SAMFORMER_CHECK(
      N > 0 && heads > 0 && d % heads == 0 && Q.rows() % N == 0 && K.rows() % N == 0 && K.cols() == d &&
          V.rows() == K.rows() && V.cols() == d && Q.contiguous() && K.contiguous() && V.contiguous() &&
          how.factor > 0 && (!how.masked || Q.rows() == K.rows()),
      "prob_sparse_attention: q [N T, d], k and v [N S, d], d a multiple of {} heads expected, found {}, {}, "
      "{} for N = {}",
      heads, Q.shape.to_string(), K.shape.to_string(), V.shape.to_string(), N);
  const std::int64_t steps = Q.rows() / N, keys = K.rows() / N;
  const auto few = [&](std::int64_t of) {
    const auto logarithm = static_cast<std::int64_t>(std::ceil(std::log(static_cast<double>(of))));
    return std::clamp<std::int64_t>(how.factor * logarithm, 1, of);
  };
  const kernels::ProbSparseShape a{N, heads, steps, keys, d / heads, few(keys), few(steps)};
  Tape<T, On>& tape = *q.tape;
  std::int32_t *picked = nullptr, *place = nullptr;
  {
    const std::int64_t scores = N * heads * steps * a.sampled;
    Operation<T, On> op(tape, "pick_queries", float_cost(2 * scores * a.width, Q.count() + K.count()), {});
    picked = op.template saved<std::int32_t>(N * heads * a.active);
    place = op.template saved<std::int32_t>(N * heads * steps);
    kernels::pick_queries(op.on(), picked, place, op.scratch(N * heads * steps), static_cast<const T*>(Q.data),
                          static_cast<const T*>(K.data), a, how.sampling);
  }
  Var<T, On> queries;
  {
    const std::int64_t n = N * a.active * d;
    Operation<T, On> op(tape, "select_queries", float_cost(0, 2 * n), float_cost(n, Q.count() + n));
    const Tensor<T> Y = op.output(Shape{N * a.active, d});
    kernels::select_queries(op.on(), Y.data, static_cast<const T*>(Q.data), picked, a);
    queries = tape.record(Y, {q}, [=](Backward<T, On>& g) {
      kernels::select_queries_backward(g.on(), g.into(q), static_cast<const T*>(g.self_dense().data), place, a);
    });
  }
  using Kind = kernels::HeadsMask::Kind;
  const Var<T, On> attended =
      masked_attention<T, On>(queries, k, v, N, heads, {.kind = how.masked ? Kind::causal : Kind::none}, {}, picked);
  const bool cumulative = how.masked, heads_first = how.heads_first;
  Operation<T, On> op(tape, "sparse_context", float_cost(V.count(), V.count() + Q.count()),
                      float_cost(Q.count() + V.count(), V.count() + 2 * Q.count()));
  const Tensor<T> Y = op.output(Shape{N * steps, d});
  kernels::sparse_context(op.on(), Y.data, static_cast<const T*>(attended.value().data), static_cast<const T*>(V.data),
                          place, a, cumulative, heads_first);
  return tape.record(Y, {attended, v}, [=](Backward<T, On>& g) {
    const Sink<T> dattended = g.into(attended), dv = g.into(v);
    kernels::sparse_context_backward(g.on(), dattended, dv, static_cast<const T*>(g.self_dense().data), picked, place,
                                     a, cumulative, heads_first);
  });
}

#define INSTANTIATE(T, On)                                                                                  \
  template Var<T, On> unfold(Var<T, On>, std::int64_t, const Unfold&);                                      \
  template Var<T, On> max_pool(Var<T, On>, std::int64_t);                                                   \
  template Var<T, On> sinusoids(Tape<T, On>&, std::int64_t, std::int64_t);                                  \
  template Var<T, On> prob_sparse_attention(Var<T, On>, Var<T, On>, Var<T, On>, std::int64_t, std::int64_t, \
                                            const ProbSparse&);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
