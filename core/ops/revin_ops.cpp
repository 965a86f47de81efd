#include "core/dual.h"
#include "core/ops/ops.h"

namespace samformer {
namespace {

constexpr int most_parts = 8;  // of row sums

}  // namespace

template <class T, class On>
Normalised<T, On> revin(Tape<T, On>& tape, const kernels::Windows<T>& x, std::int64_t L, kernels::Center center,
                        bool mixing) {
  const std::int64_t R = x.N * x.D;
  Normalised<T, On> out;
  {
    Operation<T, On> op(tape, "revin", float_cost(6 * R * L, 2 * R * L + 2 * R), {});
    T* const stats = op.saved(kernels::stats_size(op.on(), x.N, x.D));
    const Tensor<T> xhat = op.output(Shape{x.N, x.D, L});
    kernels::revin_normalise(op.on(), xhat.data, stats, x, L, center);
    out.xhat = tape.constant(xhat), out.stats = stats;
  }
  add_levels(out, x, L, center);
  if (x.marks > 0) {
    const kernels::Windows<T> marks = kernels::marks_of(x);
    const std::int64_t steps = L + x.marks_ahead;
    Operation<T, On> op(tape, "marks", float_cost(0, 2 * x.N * x.marks * steps), {});
    const Tensor<T> copied = op.output(Shape{x.N, x.marks, steps});
    kernels::revin_normalise(op.on(), copied.data, op.scratch(kernels::stats_size(op.on(), x.N, x.marks)), marks, steps,
                             kernels::Center::none);
    out.marks = tape.constant(copied);
  }
  if (!mixing || (std::is_same_v<On, Cpu> && x.N == 1)) return out;
  Operation<T, On> op(tape, "moments", float_cost(8 * R, 2 * R), {});
  auto* const moments = op.template saved<kernels::Moment<T, On>>(kernels::moments_size(op.on(), x.D));
  kernels::revin_moments(op.on(), moments, out.stats, x.N, x.D);
  out.moments = moments;
  return out;
}

Normalised<float> revin_sliding(Tape<float>& tape, const kernels::Windows<float>& x, std::int64_t L,
                                kernels::Center center) {
  Normalised<float> out;
  {
    Operation<float, Cpu> op(tape, "revin", float_cost(6 * x.N * x.D * L, x.N * x.D * (L + 2)), {});
    float* const stats = op.saved(kernels::stats_size(op.on(), x.N, x.D));
    kernels::revin_normalise<float>(op.on(), nullptr, stats, x, L, center);
    out.xhat = tape.constant(Tensor<float>(nullptr, Shape{x.N, x.D, L}));
    out.stats = stats, out.sliding = x;
  }
  add_levels(out, x, L, center);
  return out;
}

void round_to_bf16(Normalised<float>& input) {
  const Tensor<float> x = input.xhat.value();
  const std::int64_t R = x.rows(), L = x.cols();
  Arena<>& arena = input.xhat.tape->arena();
  std::uint32_t* rows = arena.allocate<std::uint32_t>(kernels::bf16_words(R, L));
  std::uint32_t* panels = arena.allocate<std::uint32_t>(kernels::bf16_words(L, R));
  kernels::bf16_rows(rows, x.data, R, L);
  kernels::bf16_panels(panels, x.data, R, L);
  input.halves = {rows, panels};
}

template <class T, class On>
kernels::AffineSink<T> AffineVars<T, On>::sink(Backward<T, On>& g, int parts) const {
  kernels::AffineSink<T> to;
  if constexpr (std::is_same_v<On, Cpu>) {
    to.gamma = g.onto(gamma), to.beta = g.onto(beta);
  } else if (sums) {
    SAMFORMER_CHECK(sums->parts + parts <= most_parts, "more than {} parts of RevIN's gradients", most_parts);
    to.row_sums = sums->memory + sums->parts * kernels::row_sums_size(sums->N, sums->D);
    sums->parts += parts;
    ++sums->done;
  }
  return to;
}

template <class T, class On>
AffineVars<T, On> affine_vars(Var<T, On> gamma, Var<T, On> beta, double guard, std::int64_t N) {
  AffineVars<T, On> affine{gamma, beta, guard};
  if constexpr (std::is_same_v<On, Cuda>) {
    if (!gamma.needs_gradient() && !beta.needs_gradient()) return affine;
    Tape<T, On>& tape = *gamma.tape;
    const std::int64_t D = gamma.value().count();
    float* const memory = tape.arena().template allocate<float>(most_parts * kernels::row_sums_size(N, D));
    RowSums* const sums = affine.sums = tape.host().template allocate<RowSums>(1);
    *sums = {memory, N, D};
    tape.at_the_end({gamma, beta}, [=](Backward<T, On>& g) {
      if (!sums->added_up && sums->parts > 0) {
        const Sink<T> dgamma = g.write(gamma, 1, D), dbeta = g.write(beta, 1, D);
        kernels::affine_gradients(g.on(), dgamma.data, dbeta.data, memory, sums->parts, N, D);
      }
      sums->parts = sums->done = 0, sums->added_up = false;
    });
  }
  return affine;
}

template <class T, class On>
Var<T, On> revin_affine(Var<T, On> xhat, const AffineVars<T, On>& affine) {
  const Tensor<T> X = xhat.value(), gamma = affine.gamma.value(), beta = affine.beta.value();
  const std::int64_t R = X.rows(), D = gamma.count(), L = X.cols(), N = D > 0 ? R / D : 0;
  SAMFORMER_CHECK(X.contiguous() && D > 0 && R % D == 0 && beta.count() == D,
                  "revin_affine: xhat [N, D, L], gamma and beta [D] expected, found {}, {}, {}", X.shape.to_string(),
                  gamma.shape.to_string(), beta.shape.to_string());
  SAMFORMER_CHECK(!xhat.needs_gradient(), "revin_affine: the normalised windows are a constant");
  const std::int64_t n = X.count();
  Operation<T, On> op(*xhat.tape, "revin_affine", float_cost(2 * n, 2 * n), float_cost(3 * n, 2 * n));
  const Tensor<T> U = op.output(X.shape);
  kernels::revin_affine(op.on(), U.data, X.data, gamma.data, beta.data, N, D, L);
  affine.expect();
  return xhat.tape->record(U, {affine.gamma, affine.beta}, [=](Backward<T, On>& g) {
    kernels::revin_affine_backward(g.on(), affine.sink(g, 1), g.self_dense().data, X.data, N, D, L, g.scratch(2 * R));
  });
}

#define INSTANTIATE(T, On)                                                                                         \
  template Normalised<T, On> revin(Tape<T, On>&, const kernels::Windows<T>&, std::int64_t, kernels::Center, bool); \
  template kernels::AffineSink<T> AffineVars<T, On>::sink(Backward<T, On>&, int) const;                            \
  template AffineVars<T, On> affine_vars(Var<T, On>, Var<T, On>, double, std::int64_t);                            \
  template Var<T, On> revin_affine(Var<T, On>, const AffineVars<T, On>&);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
