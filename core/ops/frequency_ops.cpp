#include "core/ops/frequency_ops.h"

#include "core/dual.h"
#include "kernels/delays.h"
#include "kernels/fourier.h"
#include "kernels/steps.h"

namespace samformer {

template <class T, class On>
Decomposed<T, On> decompose_steps(Var<T, On> x, std::int64_t N, std::span<const std::int64_t> widths, Var<T, On> scale,
                                  Var<T, On> shift) {
  const Tensor<T> X = x.value();
  const std::int64_t count = static_cast<std::int64_t>(widths.size()), R = X.rows(), d = X.cols();
  SAMFORMER_CHECK(N > 0 && R % N == 0 && R > 0 && X.contiguous() && count > 0 && count <= kernels::most_averages,
                  "decompose_steps: {} samples of whole rows and 1 to {} widths expected, found {} and {}", N,
                  kernels::most_averages, X.shape.to_string(), count);
  SAMFORMER_CHECK(scale ? shift && scale.value().count() == count && shift.value().count() == count : count == 1,
                  "decompose_steps: a scale and a shift for each of {} widths expected", count);
  kernels::StepAverages<T> shape{N, R / N, d, static_cast<int>(count)};
  std::int64_t terms = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    SAMFORMER_CHECK(widths[i] > 0, "decompose_steps: a width of {}", widths[i]);
    shape.widths[i] = widths[i];
    terms += widths[i];
  }
  if (scale) shape.scale = scale.value().data, shape.shift = shift.value().data;
  const std::int64_t n = X.count();
  Operation<T, On> op(*x.tape, "decompose_steps", float_cost((terms + 2) * n, 3 * n),
                      float_cost(((scale ? 3 : 2) * terms + 2) * n, (scale ? 4 : 3) * n));
  const Tensor<T> Y = op.output(Shape{2 * R, d});
  kernels::decompose_steps(op.on(), Y.data, static_cast<const T*>(X.data), shape);
  const Var<T, On> both = x.tape->record(Y, {x, scale, shift}, [=](Backward<T, On>& g) {
    const T* const dy = g.self_dense().data;
    const Sink<T> dx = g.into(x), da = g.into(scale), db = g.into(shift);
    kernels::decompose_steps_backward(g.on(), dx, da, db, dy, static_cast<const T*>(X.data), shape,
                                      g.scratch(kernels::decompose_steps_scratch(g.on(), shape)));
  });
  return {rows(both, 0, R), rows(both, R, R)};
}

template <class T, class On>
Var<T, On> step_means(Var<T, On> x, std::int64_t N, double own, double share) {
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(N > 0 && X.rows() % N == 0 && X.rows() > 0 && X.contiguous(),
                  "step_means: {} samples of whole rows expected, found {}", N, X.shape.to_string());
  const std::int64_t steps = X.rows() / N, d = X.cols(), n = X.count();
  const T factor = static_cast<T>(own), part = static_cast<T>(share);
  Operation<T, On> op(*x.tape, "step_means", float_cost(3 * n, 3 * n), float_cost(3 * n, 3 * n));
  const Tensor<T> Y = op.output(X.shape);
  kernels::step_means(op.on(), Sink<T>{Y.data, d, false}, static_cast<const T*>(X.data), N, steps, d, factor, part);
  return x.tape->record(Y, {x}, [=](Backward<T, On>& g) {
    const T* const dy = g.self_dense().data;
    kernels::step_means(g.on(), g.into(x), dy, N, steps, d, factor, part);
  });
}

template <class T, class On>
Var<T, On> auto_correlation(Var<T, On> q, Var<T, On> k, Var<T, On> v, std::int64_t N, std::int64_t K, bool shared) {
  const Tensor<T> Q = q.value(), Keys = k.value(), V = v.value();
  const std::int64_t d = Q.cols();
  SAMFORMER_CHECK(N > 0 && Q.rows() > 0 && Q.rows() % N == 0 && Keys.rows() > 0 && Keys.rows() % N == 0 &&
                      V.rows() == Keys.rows() && Keys.cols() == d && V.cols() == d,
                  "auto_correlation: q [N T, d], k and v [N S, d] expected, found {}, {}, {} for N = {}",
                  Q.shape.to_string(), Keys.shape.to_string(), V.shape.to_string(), N);
  const kernels::DelayShape shape{N, Q.rows() / N, Keys.rows() / N, d, K, shared};
  SAMFORMER_CHECK(K > 0 && K <= shape.steps, "auto_correlation: 1 to {} delays expected, not {}", shape.steps, K);
  const kernels::DelayInput<T> in{Q.data, Keys.data, V.data, Q.stride, Keys.stride, V.stride};
  const std::int64_t n = Q.count(), m = 2 * Keys.count();
  Operation<T, On> op(*q.tape, "auto_correlation", float_cost(2 * n * (shape.used() + K), 2 * n + m),
                      float_cost(8 * n * K, 3 * n + 2 * m));
  const Tensor<T> Y = op.output(Shape{Q.rows(), d});
  T* const weight = op.saved(N * K);
  std::int32_t* const delays = op.template saved<std::int32_t>(shared ? K : N * K);
  kernels::auto_correlation(op.on(), Y.data, weight, delays, in, shape,
                            op.scratch(kernels::auto_correlation_scratch(op.on(), shape)));
  return q.tape->record(Y, {q, k, v}, [=](Backward<T, On>& g) {
    const T* const dy = g.self_dense().data;
    const Sink<T> dv = g.into(v), dq = g.into(q), dk = g.into(k);  // in the order of their rolls
    kernels::auto_correlation_backward(g.on(), dq, dk, dv, dy, static_cast<const T*>(weight),
                                       static_cast<const std::int32_t*>(delays), in, shape,
                                       g.scratch(kernels::auto_correlation_backward_scratch(g.on(), shape)));
  });
}

namespace {

template <class T, class On>
Var<T, On> basis(Tape<T, On>& tape, Var<T, On> modes, const kernels::BasisShape& a) {
  SAMFORMER_CHECK(a.modes > 0 && a.steps > 0 && (!modes || modes.value().count() == a.modes),
                  "fourier_basis: {} modes of {} steps expected, found {}", a.modes, a.steps,
                  modes ? modes.value().shape.to_string() : "none");
  const std::int64_t n = 2 * a.modes * a.steps;
  Operation<T, On> op(tape, "fourier_basis", float_cost(n, n), {});
  const Tensor<T> F = op.output(a.inverse ? Shape{a.steps, 2 * a.modes} : Shape{2 * a.modes, a.steps});
  kernels::fourier_basis(op.on(), F.data, modes ? static_cast<const T*>(modes.value().data) : nullptr, a);
  return tape.constant(F);
}

}  // namespace

template <class T, class On>
Var<T, On> fourier_basis(Tape<T, On>& tape, Var<T, On> modes, std::int64_t count, std::int64_t steps) {
  return basis(tape, modes, {count, steps, false, 1});
}
template <class T, class On>
Var<T, On> inverse_fourier_basis(Tape<T, On>& tape, Var<T, On> modes, std::int64_t count, std::int64_t steps,
                                 double scale) {
  return basis(tape, modes, {count, steps, true, scale});
}

template <class T, class On>
Var<T, On> mode_products(Var<T, On> x, Var<T, On> weight, std::int64_t N) {
  const Tensor<T> X = x.value(), W = weight.value();
  const Shape w = W.shape;
  SAMFORMER_CHECK(w.rank() == 5 && w[4] == 2 && N > 0 && X.rows() == N * w[0] * w[1] && X.cols() == 2 * w[3] &&
                      X.contiguous() && W.contiguous(),
                  "mode_products: x [N h E, 2 M] and a weight [h, E, E, M, 2] expected, found {} and {} for N = {}",
                  X.shape.to_string(), w.to_string(), N);
  const kernels::ModeShape shape{N, w[0], w[1], w[2], w[3]};
  const Shape result{N * w[0] * w[2], 2 * w[3]};
  const std::int64_t flops = 4 * N * W.count(), floats = X.count() + W.count();
  Operation<T, On> op(*x.tape, "mode_products", float_cost(flops, floats + result.count()),
                      float_cost(2 * flops, 2 * floats + result.count()));
  const Tensor<T> Y = op.output(result);
  kernels::mode_products(op.on(), Y.data, static_cast<const T*>(X.data), static_cast<const T*>(W.data), shape);
  return x.tape->record(Y, {x, weight}, [=](Backward<T, On>& g) {
    const T* const dy = g.self_dense().data;
    const Sink<T> dx = g.into(x), dw = g.into(weight);
    kernels::mode_products_backward(g.on(), dx, dw, dy, static_cast<const T*>(X.data), static_cast<const T*>(W.data),
                                    shape);
  });
}

template <class T, class On>
Var<T, On> mode_attention(Var<T, On> q, Var<T, On> k, std::int64_t N, std::int64_t heads) {
  const Tensor<T> Q = q.value(), K = k.value();
  SAMFORMER_CHECK(N > 0 && heads > 0 && Q.rows() > 0 && Q.rows() % (N * heads) == 0 && K.rows() == Q.rows() &&
                      Q.cols() % 2 == 0 && K.cols() % 2 == 0 && Q.contiguous() && K.contiguous(),
                  "mode_attention: q [N h E, 2 Mq] and k [N h E, 2 Mk] expected, found {} and {} for {} samples of {} "
                  "heads",
                  Q.shape.to_string(), K.shape.to_string(), N, heads);
  const kernels::ModeAttentionShape shape{N, heads, Q.rows() / (N * heads), Q.cols() / 2, K.cols() / 2};
  const std::int64_t products = 8 * shape.scores() * shape.width, bytes = 2 * Q.count() + K.count();
  Operation<T, On> op(*q.tape, "mode_attention", float_cost(2 * products, bytes + 2 * shape.scores()),
                      float_cost(4 * products, 2 * bytes + 2 * shape.scores()));
  const Tensor<T> Z = op.output(Q.shape);
  T* const scores = op.saved(2 * shape.scores());
  kernels::mode_attention(op.on(), Z.data, scores, static_cast<const T*>(Q.data), static_cast<const T*>(K.data), shape);
  return q.tape->record(Z, {q, k}, [=](Backward<T, On>& g) {
    const T* const dz = g.self_dense().data;
    const Sink<T> dq = g.into(q), dk = g.into(k);
    kernels::mode_attention_backward(g.on(), dq, dk, dz, static_cast<const T*>(scores), static_cast<const T*>(Q.data),
                                     static_cast<const T*>(K.data), shape, g.scratch(2 * shape.scores()));
  });
}

#define INSTANTIATE(T, On)                                                                                        \
  template Decomposed<T, On> decompose_steps(Var<T, On>, std::int64_t, std::span<const std::int64_t>, Var<T, On>, \
                                             Var<T, On>);                                                         \
  template Var<T, On> step_means(Var<T, On>, std::int64_t, double, double);                                       \
  template Var<T, On> auto_correlation(Var<T, On>, Var<T, On>, Var<T, On>, std::int64_t, std::int64_t, bool);     \
  template Var<T, On> fourier_basis(Tape<T, On>&, Var<T, On>, std::int64_t, std::int64_t);                        \
  template Var<T, On> inverse_fourier_basis(Tape<T, On>&, Var<T, On>, std::int64_t, std::int64_t, double);        \
  template Var<T, On> mode_products(Var<T, On>, Var<T, On>, std::int64_t);                                        \
  template Var<T, On> mode_attention(Var<T, On>, Var<T, On>, std::int64_t, std::int64_t);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
