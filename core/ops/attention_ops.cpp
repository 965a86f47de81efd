#include <cmath>

#include "core/dual.h"
#include "core/dual_gemm.h"
#include "core/ops/ops.h"
#include "kernels/correlation.h"
#include "kernels/elementwise.h"
#include "kernels/projection.h"

namespace samformer {
template <class T>
Normalised<T> revin(Tape<T>& tape, kernels::Windows<T> x, std::int64_t L, kernels::Center center) {
  Arena& arena = tape.arena();
  const std::int64_t R = x.N * x.D;
  const Operation<T> operation(tape, "revin", float_cost(6 * R * L, 2 * R * L + 2 * R), {});
  const Tensor<T> xhat = arena.tensor<T>(Shape{x.N, x.D, L});
  const Tensor<T> level = arena.tensor<T>(Shape{R}), sigma = arena.tensor<T>(Shape{R});
  kernels::revin_normalise(xhat.data, level.data, sigma.data, x, L, center);
  return {tape.constant(xhat), level, sigma};
}

template <class T>
Normalised<T> revin(Var<T> x, kernels::Center center) {
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(X.shape.rank() == 3 && X.contiguous(), "revin: [N, D, L] expected, found {}", X.shape.to_string());
  Arena& arena = x.tape->arena();
  const std::int64_t N = X.shape[0], D = X.shape[1], L = X.shape[2];
  std::int32_t* starts = arena.allocate<std::int32_t>(N);
  for (std::int64_t n = 0; n < N; ++n) starts[n] = static_cast<std::int32_t>(n * D * L);
  const Tensor<T> xhat = arena.tensor<T>(X.shape), level = arena.tensor<T>(Shape{N * D});
  const Tensor<T> sigma = arena.tensor<T>(Shape{N * D});
  kernels::revin_normalise(xhat.data, level.data, sigma.data, kernels::Windows<T>{X.data, L, starts, N, D}, L, center);
  return {x.tape->record(xhat, {x},
                         [=](Var<T> self) {
                           kernels::revin_normalise_backward(x.gradient().data, self.gradient().data, sigma.data, N * D,
                                                             L);
                         }),
          level, sigma};
}

void round_to_bf16(Normalised<float>& input) {
  const Tensor<float> x = input.xhat.value();
  const std::int64_t R = x.rows(), L = x.cols();
  Arena& arena = input.xhat.tape->arena();
  std::uint32_t* rows = arena.allocate<std::uint32_t>(R * kernels::bf16_pairs(L));
  std::uint32_t* panels = arena.allocate<std::uint32_t>(kernels::bf16_panel_words(L, R));
  kernels::bf16_rows(rows, x.data, R, L);
  kernels::bf16_row_pairs(panels, x.data, L, R, L, kernels::bf16_panel, 16);
  input.halves = {rows, panels};
}

// The same for a kernel that computes every gradient: rows nobody reads where v has none.
template <class T>
Tensor<T> gradient_or_scratch(Var<T> v, std::int64_t stride) {
  if (v.needs_gradient()) return v.gradient();
  return v.tape->arena().template tensor<T>(Shape{v.value().rows(), stride}).columns(0, v.value().cols());
}

Normalised<float> revin_sliding(Tape<float>& tape, kernels::Windows<float> x, std::int64_t L, kernels::Center center) {
  Arena& arena = tape.arena();
  const Tensor<float> level = arena.tensor<float>(Shape{x.N * x.D}), sigma = arena.tensor<float>(Shape{x.N * x.D});
  kernels::revin_normalise<float>(nullptr, level.data, sigma.data, x, L, center);
  return {tape.constant(Tensor<float>(nullptr, Shape{x.N, x.D, L})), level, sigma, {}, x};
}

template <class T>
Var<T> project(const Normalised<T>& input, Var<T> weight, Var<T> bias, AffineVars<T> affine, std::int64_t skip_begin,
               std::int64_t skip_end) {
  const Var<T> xhat = input.xhat;
  const kernels::Bf16Windows halves = input.halves;
  const Tensor<T> X = xhat.value(), W = weight.value(), b = bias.value();
  const Tensor<T> gamma = affine.gamma.value(), beta = affine.beta.value();
  const std::int64_t R = X.rows(), D = gamma.count(), O = W.rows(), L = W.cols();
  SAMFORMER_CHECK(
      X.cols() == L && b.count() == O && beta.count() == D && D > 0 && R % D == 0 && X.contiguous() && W.contiguous(),
      "project: xhat [N, D, L], weight [O, L], bias [O], gamma and beta [D] expected, found {}, {}, {}, {}, "
      "{}",
      X.shape.to_string(), W.shape.to_string(), b.shape.to_string(), gamma.shape.to_string(), beta.shape.to_string());
  SAMFORMER_CHECK(!xhat.needs_gradient(), "project: the normalised windows are a constant");
  Arena& arena = xhat.tape->arena();
  const Tensor<T> Z = arena.tensor<T>(Shape{R, O});
  if (input.sliding.base) {
    SAMFORMER_CHECK(!weight.needs_gradient(), "project: sliding windows have no gradient");
    if constexpr (std::is_same_v<T, float>) {
      const Arena::Mark before = arena.mark();
      kernels::correlate(Z.data, input.sliding, input.level.data, input.sigma.data, W.data, b.data, gamma.data,
                         beta.data, O, L, arena.allocate<double>(kernels::correlation_work(D, O, L)));
      arena.rewind(before);
    }
    return xhat.tape->constant(Z);
  }
  const Operation<T> operation(*xhat.tape, "projection",
                               float_cost(2 * R * O * L + 4 * R * O + O * L, R * L + O * L + 2 * R * O),
                               float_cost(2 * R * O * L + 8 * R * O + O * L, R * L + 2 * O * L + 3 * R * O));
  const Tensor<T> s = arena.tensor<T>(Shape{O});
  const Tensor<T> P = affine.gamma.needs_gradient() ? arena.tensor<T>(Shape{R, O}) : Z;
  const auto words = [=](Arena& memory, std::int64_t count) {
    return halves.rows ? memory.allocate<std::uint32_t>(count) : nullptr;
  };
  const Arena::Mark before = arena.mark();
  kernels::projection(Z.data, P.data, s.data, X.data, W.data, b.data, gamma.data, beta.data, R, D, O, L,
                      arena.allocate<T>(O * L), halves, words(arena, kernels::bf16_panel_words(O, L)));
  arena.rewind(before);
  return xhat.tape->record(Z, {weight, bias, affine.gamma, affine.beta}, [=](Var<T> self) {
    Arena& memory = self.tape->arena();
    const Arena::Mark mark = memory.mark();
    T* work = memory.allocate<T>(kernels::projection_backward_work<T>(R, O, L));
    kernels::projection_backward(weight.gradient_or_null(), bias.gradient_or_null(), affine.gamma.gradient_or_null(),
                                 affine.beta.gradient_or_null(), self.gradient().data, X.data, P.data, s.data,
                                 gamma.data, beta.data, R, D, O, L, skip_begin, skip_end, work, halves,
                                 words(memory, kernels::bf16_pairs(R) * O));
    memory.rewind(mark);
  });
}

template <class T>
Var<T> channel_attention(Var<T> q, Var<T> k, Var<T> v, std::int64_t D, Tensor<T>* lse_out) {
  const Tensor<T> Q = q.value(), K = k.value(), V = v.value();
  SAMFORMER_CHECK(Q.shape == K.shape && Q.rows() == V.rows() && D > 0 && Q.rows() % D == 0 && Q.stride == K.stride,
                  "channel_attention: q and k [R, d_m] with one row stride, v [R, d_v], R a multiple of D = {} "
                  "expected, found {}, {}, {}",
                  D, Q.shape.to_string(), K.shape.to_string(), V.shape.to_string());
  const kernels::AttentionShape shape{Q.rows() / D, D, Q.cols(), V.cols()};
  const std::int64_t R = Q.rows(), d_m = Q.cols(), d_v = V.cols();
  const Operation<T> operation(*q.tape, "attention",
                               float_cost(R * D * (2 * d_m + 2 * d_v + 4), R * (2 * d_m + 2 * d_v + 1)),
                               float_cost(R * D * (6 * d_m + 4 * d_v + 5), R * (6 * d_m + 5 * d_v + 1)));
  Arena& arena = q.tape->arena();
  const Tensor<T> C = arena.tensor<T>(Shape{Q.rows(), V.cols()}), lse = arena.tensor<T>(Shape{Q.rows()});
  const Arena::Mark mark = arena.mark();
  kernels::attention(C.data, C.stride, lse.data, Q.data, K.data, Q.stride, V.data, V.stride, shape,
                     arena.allocate<T>(kernels::attention_work<T>(shape)));
  arena.rewind(mark);
  if (lse_out) *lse_out = lse;
  return q.tape->record(C, {q, k, v}, [=](Var<T> self) {
    Arena& memory = self.tape->arena();
    const Arena::Mark begin = memory.mark();
    T* work = memory.allocate<T>(kernels::attention_backward_work<T>(shape));
    const std::int64_t stride =
        (q.needs_gradient() ? q : k).needs_gradient() ? (q.needs_gradient() ? q : k).gradient().stride : Q.cols();
    const Tensor<T> dQ = gradient_or_scratch(q, stride), dK = gradient_or_scratch(k, stride);
    const Tensor<T> dV = gradient_or_scratch(v, V.cols()), dC = self.gradient();
    SAMFORMER_CHECK(dQ.stride == dK.stride, "channel_attention: gradients of q and k in one matrix expected");
    kernels::attention_backward(dQ.data, dK.data, dQ.stride, dV.data, dV.stride, dC.data, dC.stride, C.data, C.stride,
                                lse.data, Q.data, K.data, Q.stride, V.data, V.stride, shape, work);
    memory.rewind(begin);
  });
}

template <class T>
Var<T> add_linear(Var<T> x, Var<T> a, Var<T> weight) {
  const Tensor<T> X = x.value(), A = a.value(), W = weight.value();
  SAMFORMER_CHECK(X.rows() == A.rows() && X.cols() == W.rows() && A.cols() == W.cols(),
                  "add_linear: x [R, O], a [R, K], weight [O, K] expected, found {}, {}, {}", X.shape.to_string(),
                  A.shape.to_string(), W.shape.to_string());
  const Cost once = product_cost(X.rows(), X.cols(), A.cols());
  const Operation<T> operation(*x.tape, "add_linear", once, {2 * once.flops, 2 * once.bytes});
  gemm(false, true, X.rows(), X.cols(), A.cols(), A.data, A.stride, W.data, W.stride, X.data, X.stride, true);
  return x.tape->record_in_place(x, {a, weight}, [=](Var<T> self) {
    const Tensor<T> g = self.gradient();
    if (a.needs_gradient()) {
      const Tensor<T> to = a.gradient();
      gemm(false, false, A.rows(), A.cols(), W.rows(), g.data, g.stride, W.data, W.stride, to.data, to.stride, true);
    }
    if (weight.needs_gradient()) {
      const Tensor<T> to = weight.gradient();
      Arena& memory = x.tape->arena();
      const Arena::Mark mark = memory.mark();
      T* work = memory.allocate<T>(kernels::gemm_parts_work<T>(W.rows(), W.cols(), A.rows()));
      kernels::gemm_in_parts(W.rows(), W.cols(), A.rows(), g.data, g.stride, A.data, A.stride, to.data, to.stride,
                             work);
      memory.rewind(mark);
    }
  });
}

template <class T>
Composed<T> compose(Var<T> a, Var<T> b, Var<T> shift) {
  const Tensor<T> A = a.value(), B = b.value(), s = shift.value();
  SAMFORMER_CHECK(A.cols() == B.rows() && s.count() == B.rows(),
                  "compose: a [M, K], b [K, N] and shift [1, K] expected, found {}, {}, {}", A.shape.to_string(),
                  B.shape.to_string(), s.shape.to_string());
  const std::int64_t M = A.rows(), N = B.cols(), K = A.cols();
  const Cost once = product_cost(M, N + 1, K);
  const Operation<T> operation(*a.tape, "compose", once, {2 * once.flops, 2 * once.bytes});
  // One node: the weight's rows, then the bias.
  const Tensor<T> both = a.tape->arena().template tensor<T>(Shape{M + kernels::blocks_of(M, N), N});
  T* const c = both.data + M * N;
  // The vector's part of each product runs on the blocks of the matrix's, where A and its gradient are in the cache.
  gemm(false, false, M, N, K, A.data, A.stride, B.data, B.stride, both.data, N, false,
       [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t) {
         for (std::int64_t r = i; j == 0 && r < i + m; ++r) c[r] = kernels::dot(A.row(r), s.data, K);
       });
  const Var<T> whole = a.tape->record(both, {a, b, shift}, [=](Var<T> self) {
    const T* dweight = self.gradient().data;
    const T* dbias = dweight + M * N;
    if (a.needs_gradient()) {
      const Tensor<T> dA = a.gradient();
      gemm(false, true, M, K, N, dweight, N, B.data, B.stride, dA.data, dA.stride, true,
           [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t n) {
             for (std::int64_t r = i; r < i + m; ++r) {
               const T factor = dbias[r];
               T* to = dA.row(r);
               for (std::int64_t k = j; k < j + n; ++k) to[k] += factor * s.data[k];
             }
           });
    }
    T* const dshift = shift.gradient_or_null();
    const auto add_shift = [=](std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t) {
      for (std::int64_t r = 0; dshift && j == 0 && r < M; ++r) {
        const T factor = dbias[r];
        const T* from = A.row(r);
        for (std::int64_t k = i; k < i + m; ++k) dshift[k] += factor * from[k];
      }
    };
    if (!b.needs_gradient()) {  // compiled for the same vectors as inside gemm: the same bits
      return kernels::parallel_for<T>(1, [=](std::int64_t) { add_shift(0, 0, K, N); });
    }
    const Tensor<T> dB = b.gradient();
    gemm(true, false, K, N, M, A.data, A.stride, dweight, N, dB.data, dB.stride, true, add_shift);
  });
  return {rows(whole, 0, M), a.tape->alias(whole, Tensor<T>(c, Shape{1, M}))};
}

template <class T>
Var<T> add_in_place(Var<T> x, Var<T> a) {
  const Tensor<T> X = x.value(), A = a.value();
  SAMFORMER_CHECK(X.shape == A.shape, "add_in_place: equal shapes expected, found {} and {}", X.shape.to_string(),
                  A.shape.to_string());
  kernels::for_rows<T>(X.rows(), X.cols(), [=](std::int64_t r) {
    for (std::int64_t c = 0; c < X.cols(); ++c) X(r, c) += A(r, c);
  });
  return x.tape->record_in_place(x, {a}, [=](Var<T> self) {
    if (!a.needs_gradient()) return;
    const Tensor<T> to = a.gradient(), g = self.gradient();
    kernels::for_rows<T>(to.rows(), to.cols(), [=](std::int64_t r) {
      for (std::int64_t c = 0; c < to.cols(); ++c) to(r, c) += g(r, c);
    });
  });
}

template <class T>
Var<T> add_at(Var<T> b, Var<T> a, std::int64_t first) {
  const Tensor<T> B = b.value(), A = a.value();
  SAMFORMER_CHECK(first >= 0 && first + A.count() <= B.count(), "add_at: elements {}..{} of {}", first,
                  first + A.count(), B.shape.to_string());
  const Tensor<T> out = b.tape->arena().template tensor<T>(B.shape);
  for (std::int64_t i = 0; i < B.count(); ++i) out.data[i] = B.data[i];
  for (std::int64_t i = 0; i < A.count(); ++i) out.data[first + i] += A.data[i];
  return b.tape->record(out, {b, a}, [=](Var<T> self) {
    const T* g = self.gradient().data;
    if (b.needs_gradient()) {
      for (std::int64_t i = 0; i < B.count(); ++i) b.gradient().data[i] += g[i];
    }
    if (a.needs_gradient()) {
      for (std::int64_t i = 0; i < A.count(); ++i) a.gradient().data[i] += g[first + i];
    }
  });
}

template <class T>
Var<T> revin_inverse(Var<T> z, AffineVars<T> affine, Tensor<T> level, Tensor<T> sigma) {
  const Tensor<T> Z = z.value();
  const std::int64_t R = Z.rows(), D = affine.gamma.value().count(), H = Z.cols();
  SAMFORMER_CHECK(level.count() == R && sigma.count() == R && D > 0 && R % D == 0,
                  "revin_inverse: z [R, H], level and sigma [R], R a multiple of D = {} expected, found {}, {}, {}", D,
                  Z.shape.to_string(), level.shape.to_string(), sigma.shape.to_string());
  const Tensor<T> Y = z.tape->arena().template tensor<T>(Shape{R, H});
  kernels::revin_inverse(Y.data, Y.stride, Z.data, Z.stride, level.data, sigma.data, affine.kernel(), R, D, H);
  return z.tape->record(Y, {z, affine.gamma, affine.beta}, [=](Var<T> self) {
    Arena& memory = self.tape->arena();
    const Arena::Mark mark = memory.mark();
    const Tensor<T> dz = gradient_or_scratch(z, H), dy = self.gradient();
    kernels::revin_inverse_backward(dz.data, dz.stride, affine.gamma.gradient_or_null(), affine.beta.gradient_or_null(),
                                    dy.data, dy.stride, Z.data, Z.stride, sigma.data, affine.kernel(), R, D, H,
                                    memory.allocate<T>(2 * R));
    memory.rewind(mark);
  });
}

template <class T>
Var<T> forecast_loss(Var<T> z, AffineVars<T> affine, Tensor<T> level, Tensor<T> sigma, Truth<T> truth,
                     kernels::StatsMix mix, kernels::Moment<T>* moments) {
  const Tensor<T> Z = z.value();
  SAMFORMER_CHECK(Z.rows() == truth.y.N * truth.y.D && level.count() == Z.rows() && sigma.count() == Z.rows() &&
                      affine.gamma.value().count() == truth.y.D,
                  "forecast_loss: z [N D, H], level and sigma [N D] for N = {}, D = {} expected, found {}, {}, {}",
                  truth.y.N, truth.y.D, Z.shape.to_string(), level.shape.to_string(), sigma.shape.to_string());
  const std::int64_t elements = Z.rows() * Z.cols();
  const Operation<T> operation(*z.tape, "loss", float_cost(19 * elements, 2 * elements),
                               float_cost(17 * elements, 4 * elements));
  Arena& arena = z.tape->arena();
  const kernels::ForecastLoss<T> loss{Z.data,
                                      Z.stride,
                                      level.data,
                                      sigma.data,
                                      affine.kernel(),
                                      truth.y,
                                      Z.cols(),
                                      truth.targets,
                                      truth.target_count,
                                      mix,
                                      arena.allocate<T>(Z.cols()),
                                      moments ? moments : arena.allocate<kernels::Moment<T>>(5 * truth.y.D),
                                      moments != nullptr};
  const Tensor<T> out = arena.tensor<T>(Shape{});
  T* work = arena.allocate<T>(2 * truth.y.N * truth.target_count);
  out.data[0] = kernels::forecast_loss(loss, work);
  return z.tape->record(out, {z, affine.gamma, affine.beta}, [=](Var<T> self) {
    Arena& memory = self.tape->arena();
    const Arena::Mark mark = memory.mark();
    const Tensor<T> dz = gradient_or_scratch(z, loss.H);
    kernels::forecast_loss_backward(dz.data, dz.stride, affine.gamma.gradient_or_null(), affine.beta.gradient_or_null(),
                                    self.gradient().data[0], loss, work);
    memory.rewind(mark);
  });
}

// The three scalars of the engine.
#define INSTANTIATE(T)                                                                                            \
  template Normalised<T> revin(Tape<T>& tape, kernels::Windows<T> x, std::int64_t L, kernels::Center center);     \
  template Normalised<T> revin(Var<T> x, kernels::Center center);                                                 \
  template Var<T> project(const Normalised<T>& input, Var<T> weight, Var<T> bias, AffineVars<T> affine,           \
                          std::int64_t skip_begin, std::int64_t skip_end);                                        \
  template Var<T> channel_attention(Var<T> q, Var<T> k, Var<T> v, std::int64_t D, Tensor<T>* lse_out);            \
  template Var<T> add_linear(Var<T> x, Var<T> a, Var<T> weight);                                                  \
  template Composed<T> compose(Var<T> a, Var<T> b, Var<T> shift);                                                 \
  template Var<T> add_in_place(Var<T> x, Var<T> a);                                                               \
  template Var<T> add_at(Var<T> b, Var<T> a, std::int64_t first);                                                 \
  template Var<T> revin_inverse(Var<T> z, AffineVars<T> affine, Tensor<T> level, Tensor<T> sigma);                \
  template Var<T> forecast_loss(Var<T> z, AffineVars<T> affine, Tensor<T> level, Tensor<T> sigma, Truth<T> truth, \
                                kernels::StatsMix mix, kernels::Moment<T>* moments);

INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Dual<double>)
#undef INSTANTIATE

}  // namespace samformer
