#include "core/dual.h"
#include "core/dual_gemm.h"
#include "core/ops/ops.h"
#include "kernels/correlation.h"
#include "kernels/projection.h"

namespace samformer {

template <class T, class On>
Composed<T, On> compose(Var<T, On> a, Var<T, On> b, Var<T, On> shift, bool bias_in_product) {
  const Tensor<T> A = a.value(), B = b.value(), s = shift.value();
  SAMFORMER_CHECK(A.cols() == B.rows() && s.count() == B.rows(),
                  "compose: a [M, K], b [K, N] and shift [1, K] expected, found {}, {}, {}", A.shape.to_string(),
                  B.shape.to_string(), s.shape.to_string());
  const std::int64_t M = A.rows(), N = B.cols(), K = A.cols();
  const Cost once = product_cost(M, N + 1, K);
  Operation<T, On> op(*a.tape, "compose", once, {2 * once.flops, 2 * once.bytes});
  // One node: the weight's rows, then the bias.
  const Tensor<T> both = op.output(Shape{M + kernels::blocks_of(M, N), N});
  T* const c = both.data + M * N;
  if constexpr (std::is_same_v<On, Cuda>) {
    kernels::gemm(op.on(), false, false, M, N, K, A.data, A.stride, B.data, B.stride, both.data, N, false);
    if (bias_in_product) kernels::gemm(op.on(), false, false, M, 1, K, A.data, A.stride, s.data, 1, c, 1, false);
  } else {
    // The vector's part of each product runs on the blocks of the matrix's, where A and its gradient are in the cache.
    gemm(op.on(), false, false, M, N, K, A.data, A.stride, B.data, B.stride, both.data, N, false,
         [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t) {
           for (std::int64_t r = i; j == 0 && r < i + m; ++r) c[r] = kernels::dot(A.row(r), s.data, K);
         });
  }
  const Var<T, On> whole = a.tape->record(both, {a, b, shift}, [=](Backward<T, On>& g) {
    const T* const dweight = g.self().data;
    const T* const dbias = dweight + M * N;
    const Sink<T> dA = g.into(a), dB = g.into(b), dshift = g.into(shift);
    if constexpr (std::is_same_v<On, Cuda>) {  // the bias's part of dA is project's
      if (dA) gemm(g.on(), false, true, M, K, N, dweight, N, B.data, B.stride, dA.data, dA.ld, dA.add);
      if (dB) gemm(g.on(), true, false, K, N, M, A.data, A.stride, dweight, N, dB.data, dB.ld, dB.add);
      if (dshift) gemm(g.on(), true, false, K, 1, M, A.data, A.stride, dbias, 1, dshift.data, 1, dshift.add);
    } else {
      if (dA) {
        gemm(g.on(), false, true, M, K, N, dweight, N, B.data, B.stride, dA.data, dA.ld, dA.add,
             [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t n) {
               for (std::int64_t r = i; r < i + m; ++r) {
                 const T factor = dbias[r];
                 T* to = dA.data + r * dA.ld;
                 for (std::int64_t k = j; k < j + n; ++k) to[k] += factor * s.data[k];
               }
             });
      }
      const auto add_shift = [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t) {
        if (!dshift || j != 0) return;
        if (!dshift.add) std::fill_n(dshift.data + i, m, T{});
        for (std::int64_t r = 0; r < M; ++r) {
          const T factor = dbias[r];
          const T* from = A.row(r);
          for (std::int64_t k = i; k < i + m; ++k) dshift.data[k] += factor * from[k];
        }
      };
      if (!dB) {  // compiled for the same vectors as inside gemm: the same bits
        return kernels::parallel_for<T>(1, [=](std::int64_t) { add_shift(0, 0, K, N); });
      }
      gemm(g.on(), true, false, K, N, M, A.data, A.stride, dweight, N, dB.data, dB.ld, dB.add, add_shift);
    }
  });
  using Axis = typename Tape<T, On>::Axis;
  const Tensor<T> bias(c, Shape{1, M}, N);
  return {rows(whole, 0, M), a.tape->part(whole, Axis::rows, M, both.rows(), bias), shift, a, bias_in_product};
}

namespace {

// Shapes of a projection, checked.
template <class T, class On>
void check_projection(const Normalised<T, On>& input, Var<T, On> weight, Var<T, On> bias,
                      const AffineVars<T, On>& affine) {
  SAMFORMER_CHECK(affine.gamma && affine.beta, "project: RevIN's scale and shift expected");
  const Tensor<T> X = input.xhat.value(), W = weight.value(), b = bias.value();
  const std::int64_t D = affine.gamma.value().count();
  SAMFORMER_CHECK(
      X.cols() == W.cols() && b.count() == W.rows() && affine.beta.value().count() == D && D > 0 && X.rows() % D == 0 &&
          X.contiguous() && W.contiguous(),
      "project: xhat [N, D, L], weight [O, L], bias [O], gamma and beta [D] expected, found {}, {}, {}, {}, "
      "{}",
      X.shape.to_string(), W.shape.to_string(), b.shape.to_string(), affine.gamma.value().shape.to_string(),
      affine.beta.value().shape.to_string());
  SAMFORMER_CHECK(!input.xhat.needs_gradient(), "project: the normalised windows are a constant");
}

// The CPU's: one piece of the weights. head_bias, if any, is added to the columns from `head` on.
template <class T>
Projected<T> project_piece(const Normalised<T>& input, Var<T> weight, Var<T> bias, const AffineVars<T>& affine,
                           std::int64_t skip_begin, std::int64_t skip_end, Var<T> head_bias, std::int64_t head) {
  check_projection(input, weight, bias, affine);
  const kernels::Bf16Windows halves = input.halves;
  const Tensor<T> X = input.xhat.value(), W = weight.value();
  const Tensor<T> gamma = affine.gamma.value(), beta = affine.beta.value();
  const std::int64_t R = X.rows(), D = gamma.count(), O = W.rows(), L = W.cols();
  Tape<T>& tape = *input.xhat.tape;
  Operation<T, Cpu> op(tape, "projection", float_cost(2 * R * O * L + 4 * R * O + O * L, R * L + O * L + 2 * R * O),
                       float_cost(2 * R * O * L + 8 * R * O + O * L, R * L + 2 * O * L + 3 * R * O));
  const Tensor<T> Z = op.output(Shape{R, O});
  T* b = bias.value().data;
  const std::int64_t folded = head_bias ? head_bias.value().count() : 0;
  if (head_bias) {
    SAMFORMER_CHECK(head >= 0 && head + folded <= O, "project: a bias for columns {}..{} of {}", head, head + folded,
                    O);
    const T *const own = b, *const more = head_bias.value().data;
    b = op.saved(O);
    std::copy_n(own, O, b);
    for (std::int64_t i = 0; i < folded; ++i) b[head + i] += more[i];
  }
  if (input.sliding.base) {
    SAMFORMER_CHECK(!weight.needs_gradient(), "project: sliding windows have no gradient");
    if constexpr (std::is_same_v<T, float>) {
      kernels::correlate(Z.data, input.sliding, input.stats, input.stats + R, W.data, b, gamma.data, beta.data, O, L,
                         op.template scratch<double>(kernels::correlation_work(D, O, L)));
    }
    return tape.constant(Z);
  }
  T* const s = op.saved(O);
  T* const P = affine.gamma.needs_gradient() ? op.saved(R * O) : Z.data;
  const auto words = [=](auto& memory, std::int64_t count) {
    return halves.rows ? memory.template scratch<std::uint32_t>(count) : nullptr;
  };
  const kernels::ProjectionOperands<T> operands{Z.data,    P, s, X.data, W.data, b,     gamma.data,
                                                beta.data, R, D, O,      L,      halves};
  kernels::projection(op.on(), operands, op.scratch(O * L), words(op, kernels::bf16_words(O, L)));
  return tape.record(Z, {weight, bias, head_bias, affine.gamma, affine.beta}, [=](Backward<T, Cpu>& g) {
    const Tensor<T> dz = g.self_in_place();
    const Sink<T> dW = g.into(weight), dh = g.into(head_bias), own = g.into(bias);
    const Sink<T> db = head_bias ? Sink<T>{g.scratch(O), O, false} : own;
    kernels::projection_backward(g.on(), dW, db, affine.sink(g, 1), dz.data, operands, skip_begin, skip_end,
                                 g.scratch(kernels::projection_backward_work<T>(R, O, L)),
                                 words(g, kernels::bf16_words(O, R)));
    if (!head_bias) return;
    const auto give = [&](Sink<T> to, const T* from, std::int64_t n) {
      for (std::int64_t i = 0; to && i < n; ++i) to.data[i] = to.add ? to.data[i] + from[i] : from[i];
    };
    give(own, db.data, O);
    give(dh, db.data + head, folded);
  });
}

// The device's: both pieces at once.
template <class On>
Projection<float, On> project_on_device(const Normalised<float, On>& input, const ProjectionInput<float, On>& w,
                                        const AffineVars<float, On>& affine) {
  check_projection(input, w.weight, w.bias, affine);
  const bool two = static_cast<bool>(w.values.weight);
  const Tensor<float> X = input.xhat.value(), W = w.weight.value();
  const Tensor<float> V = two ? w.values.weight.value() : Tensor<float>{};
  const std::int64_t N = input.N(), D = input.D(), R = N * D, L = X.cols(), O = W.rows() + V.rows() * two;
  const std::int64_t values = O - W.rows(), ld = (O + 3) / 4 * 4;  // whole 16-byte vectors
  Tape<float, On>& tape = *input.xhat.tape;
  Operation<float, On> op(tape, "projection", float_cost(2 * R * O * L + 4 * R * O + O * L, R * L + O * L + 2 * R * O),
                          float_cost(2 * R * O * L + 8 * R * O + O * L, R * L + 2 * O * L + 3 * R * O));
  const Composed<float, On>& composed = two ? w.values : w.head_bias;
  SAMFORMER_CHECK((two || !w.head_bias.bias || composed.weight) &&
                      (!composed.weight || (composed.a.value().data == W.data + w.head * L &&
                                            composed.a.value().rows() == W.rows() - w.head)),
                  "project: on a device a composed map of the head of its own weight expected");
  kernels::ProjectionWeights weights;
  weights.weight = W.data, weights.bias = w.bias.value().data, weights.rest = W.rows(), weights.L = L;
  weights.head = values + w.head, weights.skip_begin = values + w.skip_begin, weights.skip_end = values + w.skip_end;
  if (two) {
    SAMFORMER_CHECK(w.values.in_product && V.contiguous() && V.cols() == L, "project: composed values [O, {}] expected",
                    L);
    weights.value_weight = V.data, weights.value_bias = w.values.bias.value().data, weights.values = values;
    weights.folded = kernels::FoldedBias::value, weights.folded_bias = w.values.shift.value().data;
  } else if (w.head_bias.weight) {
    SAMFORMER_CHECK(!w.head_bias.in_product, "project: a composed bias that is left to it expected");
    weights.folded = kernels::FoldedBias::output, weights.folded_bias = w.head_bias.shift.value().data;
  }
  float *const s = op.saved(O), *const b = op.saved(O);
  kernels::weight_sums(op.on(), s, b, weights);
  const Tensor<float> P = op.output(Shape{R, O}, ld);
  if (two) kernels::gemm(op.on(), false, true, R, values, L, X.data, L, V.data, L, P.data, ld, false);
  kernels::gemm(op.on(), false, true, R, O - values, L, X.data, L, W.data, L, P.data + values, ld, false);
  const float *const gamma = affine.gamma.value().data, *const beta = affine.beta.value().data;
  Projected<float, On> z(tape.record(
      P, {w.weight, w.bias, w.values.weight, w.values.bias, w.head_bias.bias, affine.gamma, affine.beta},
      [=](Backward<float, On>& g) {
        const Tensor<float> dz = g.self();
        SAMFORMER_CHECK(dz.stride == ld, "project: a gradient with rows {} apart expected, found {}", ld, dz.stride);
        float *const dp = g.scratch(R * ld), *const parts = g.scratch(kernels::projection_parts(g.on(), R, O));
        kernels::projection_backward(g.on(), dp, parts, dz.data, ld, gamma, beta, N, D, O);
        kernels::ProjectionGradients to;
        if (two) {
          const Sink<float> dV = g.write(w.values.weight, values, L);
          kernels::gemm(g.on(), true, false, values, L, R, dp, ld, X.data, L, dV.data, L, false);
          to.value_weight = dV.data, to.value_bias = g.write(w.values.bias, 1, values).data;
        }
        const Sink<float> dW = g.write(w.weight, O - values, L), db = g.write(w.bias, 1, O - values);
        kernels::gemm(g.on(), true, false, O - values, L, R, dp + values, ld, X.data, L, dW.data, L, false);
        to.weight = dW.data, to.bias = db.data;
        // All that will be known of RevIN's gradients is there: they cost no launch of their own.
        RowSums* const sums = affine.sums;
        if (sums && sums->done == sums->expected && !sums->added_up) {
          to.gamma = g.write(affine.gamma, 1, D).data, to.beta = g.write(affine.beta, 1, D).data;
          to.row_sums = sums->memory, to.row_sum_parts = sums->parts, sums->added_up = true;
        }
        if (w.head_bias.weight) to.head_bias = g.write(w.head_bias.bias, 1, O - weights.head).data;
        kernels::finish_gradients(g.on(), to, weights, parts, true, N, D);
      }));
  z.pending.gamma = gamma, z.pending.beta = beta, z.pending.s = s, z.pending.b = b;
  z.affine = affine;
  if (!two) return {{}, z};
  return {z.columns(0, values), z.columns(values, O - values)};
}

}  // namespace

template <class T, class On>
Projection<T, On> project(const Normalised<T, On>& input, const ProjectionInput<T, On>& w,
                          const AffineVars<T, On>& affine) {
  if constexpr (std::is_same_v<On, Cuda>) {
    return project_on_device(input, w, affine);
  } else {
    Projection<T, On> z;
    z.rest = project_piece(input, w.weight, w.bias, affine, w.skip_begin, w.skip_end, w.head_bias.bias, w.head);
    if (w.values.weight) z.values = project_piece(input, w.values.weight, w.values.bias, affine, 0, 0, {}, 0);
    return z;
  }
}

template <class T, class On>
Var<T, On> channel_attention(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v,
                             std::int64_t D, Tensor<T>* lse_out) {
  const Tensor<T> Q = q.z.value(), K = k.z.value(), V = v.z.value();
  SAMFORMER_CHECK(Q.shape == K.shape && Q.rows() == V.rows() && D > 0 && Q.rows() % D == 0 && Q.stride == K.stride,
                  "channel_attention: q and k [R, d_m] with one row stride, v [R, d_v], R a multiple of D = {} "
                  "expected, found {}, {}, {}",
                  D, Q.shape.to_string(), K.shape.to_string(), V.shape.to_string());
  const kernels::AttentionShape shape{Q.rows() / D, D, Q.cols(), V.cols()};
  const std::int64_t R = Q.rows(), d_m = Q.cols(), d_v = V.cols();
  Operation<T, On> op(*q.z.tape, "attention", float_cost(R * D * (2 * d_m + 2 * d_v + 4), R * (2 * d_m + 2 * d_v + 1)),
                      float_cost(R * D * (6 * d_m + 4 * d_v + 5), R * (6 * d_m + 5 * d_v + 1)));
  const Tensor<T> C = op.output(Shape{R, d_v}), lse = op.output(Shape{R});
  T* const saved = op.saved(kernels::attention_saved(op.on(), shape));
  kernels::attention(op.on(), C.data, C.stride, lse.data, q.kernel(), k.kernel(), v.kernel(), shape, saved,
                     op.scratch(kernels::attention_scratch(op.on(), shape)));
  if (lse_out) *lse_out = lse;
  const bool folds = q.pending.gamma != nullptr;
  if (folds) q.affine.expect();
  return q.z.tape->record(C, {q.z, k.z, v.z}, [=](Backward<T, On>& g) {
    const Tensor<T> dC = g.self();
    constexpr bool writes = std::is_same_v<On, Cuda>;
    Sink<T> dq, dk, dv;
    T* side_by_side = nullptr;
    if constexpr (writes) {  // straight into the gradients of v | q | k where they have no part yet
      dv = g.into(v.z), dq = g.into(q.z), dk = g.into(k.z);
      const std::int64_t ld = v.z.value().stride;
      const bool direct = dv && dq && dk && !dv.add && !dq.add && !dk.add && dq.data == dv.data + d_v &&
                          dk.data == dq.data + d_m && dv.ld == ld && dq.ld == ld && dk.ld == ld;
      if (!direct) {
        side_by_side = g.scratch(R * ld);
        g.give_later(v.z, dv, side_by_side, ld), g.give_later(q.z, dq, side_by_side + d_v, ld);
        g.give_later(k.z, dk, side_by_side + d_v + d_m, ld);
        dv = {side_by_side, ld, false}, dq = {side_by_side + d_v, ld, false};
        dk = {side_by_side + d_v + d_m, ld, false};
      }
    } else {
      dq = g.into_or_scratch(q.z, R, d_m), dk = g.into_or_scratch(k.z, R, d_m), dv = g.into_or_scratch(v.z, R, d_v);
      SAMFORMER_CHECK(dq.ld == dk.ld, "channel_attention: gradients of q and k in one matrix expected");
    }
    const kernels::AffineSink<T> affine = folds ? q.affine.sink(g, 2) : kernels::AffineSink<T>{};
    kernels::attention_backward(g.on(), dq, dk, dv, affine, dC.data, dC.stride, C.data, C.stride, lse.data, q.kernel(),
                                k.kernel(), v.kernel(), shape, saved,
                                g.scratch(kernels::attention_backward_scratch(g.on(), shape)));
  });
}

template <class T, class On>
Projected<T, On> add_linear(const Projected<T, On>& x, Var<T, On> a, Var<T, On> weight) {
  const Tensor<T> X = x.z.value(), A = a.value(), W = weight.value();
  SAMFORMER_CHECK(X.rows() == A.rows() && X.cols() == W.rows() && A.cols() == W.cols() && !x.mixed.data,
                  "add_linear: x [R, O], a [R, K], weight [O, K] expected, found {}, {}, {}", X.shape.to_string(),
                  A.shape.to_string(), W.shape.to_string());
  const Cost once = product_cost(X.rows(), X.cols(), A.cols());
  Operation<T, On> op(*x.z.tape, "add_linear", once, {2 * once.flops, 2 * once.bytes});
  constexpr bool in_place = std::is_same_v<On, Cpu>;
  const Tensor<T> to = in_place ? X : op.output(Shape{X.rows(), X.cols()});
  gemm(op.on(), false, true, X.rows(), X.cols(), A.cols(), A.data, A.stride, W.data, W.stride, to.data, to.stride,
       in_place);
  Projected<T, On> out(x.z.tape->record_in_place(x.z, {a, weight}, [=](Backward<T, On>& g) {
    const Tensor<T> dy = g.self();
    if (const Sink<T> da = g.into(a)) {
      gemm(g.on(), false, false, A.rows(), A.cols(), W.rows(), dy.data, dy.stride, W.data, W.stride, da.data, da.ld,
           da.add);
    }
    if (const Sink<T> dw = g.into(weight)) {
      kernels::gemm_in_parts(g.on(), W.rows(), W.cols(), A.rows(), dy.data, dy.stride, A.data, A.stride, dw,
                             g.scratch(kernels::gemm_parts_work<T>(g.on(), W.rows(), W.cols(), A.rows())));
    }
  }));
  out.pending = x.pending, out.affine = x.affine;
  if (!in_place) out.mixed = to;
  return out;
}

template <class T, class On>
Projected<T, On> add_term(const Projected<T, On>& x, Var<T, On> a) {
  const Tensor<T> X = x.z.value(), A = a.value();
  SAMFORMER_CHECK(X.shape == A.shape && !x.mixed.data, "add_term: equal shapes expected, found {} and {}",
                  X.shape.to_string(), A.shape.to_string());
  Operation<T, On> op(*x.z.tape, "add", float_cost(X.count(), 3 * X.count()), {});
  constexpr bool in_place = std::is_same_v<On, Cpu>;
  if (in_place) kernels::add(op.on(), X.data, X.stride, static_cast<const T*>(A.data), A.stride, X.rows(), X.cols());
  Projected<T, On> out(x.z.tape->record_in_place(x.z, {a}, [=](Backward<T, On>& g) { g.pass(a); }));
  out.pending = x.pending, out.affine = x.affine;
  if (!in_place) out.mixed = A;
  return out;
}

#define INSTANTIATE(T, On)                                                                                         \
  template Composed<T, On> compose(Var<T, On>, Var<T, On>, Var<T, On>, bool);                                      \
  template Projection<T, On> project(const Normalised<T, On>&, const ProjectionInput<T, On>&,                      \
                                     const AffineVars<T, On>&);                                                    \
  template Var<T, On> channel_attention(const Projected<T, On>&, const Projected<T, On>&, const Projected<T, On>&, \
                                        std::int64_t, Tensor<T>*);                                                 \
  template Projected<T, On> add_linear(const Projected<T, On>&, Var<T, On>, Var<T, On>);                           \
  template Projected<T, On> add_term(const Projected<T, On>&, Var<T, On>);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
