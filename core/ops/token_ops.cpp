#include "core/ops/token_ops.h"

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

#define INSTANTIATE(T, On)                                             \
  template Var<T, On> unfold(Var<T, On>, std::int64_t, const Unfold&); \
  template Var<T, On> max_pool(Var<T, On>, std::int64_t);              \
  template Var<T, On> sinusoids(Tape<T, On>&, std::int64_t, std::int64_t);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
