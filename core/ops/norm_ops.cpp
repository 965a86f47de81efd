#include <cmath>
#include <cstdint>

#include "core/dual.h"
#include "core/ops/ops.h"
#include "kernels/elementwise.h"
#include "kernels/normalise.h"
#include "kernels/philox.h"
#include "kernels/spectral.h"

namespace samformer {
namespace {

// Number of samples N and positions M of a norm's input, checked.
template <class T>
std::int64_t samples(const char* op, Var<T> x, Var<T> weight, Var<T> bias) {
  const Tensor<T> X = x.value();
  const std::int64_t M = weight.value().count();
  SAMFORMER_CHECK(X.contiguous() && M > 0 && bias.value().count() == M && X.count() % M == 0,
                  "{}: samples of as many elements as weight and bias expected, found {}, {}, {}", op,
                  X.shape.to_string(), weight.value().shape.to_string(), bias.value().shape.to_string());
  return X.count() / M;
}

// 0 with probability `rate`, else 1 / (1 - rate).
template <class T>
Tensor<T> dropout_mask(Tape<T>& tape, Shape shape, double rate, DropoutAddress address) {
  constexpr std::int64_t lanes = 16, block = 16 * 4 * lanes;  // elements of a block; Philox gives four words at a time
  const Tensor<T> mask = tape.arena().template tensor<T>(shape);
  const std::int64_t count = mask.count();
  const Operation<T> operation(tape, "dropout_mask", float_cost(25 * count, count), {});
  const std::uint32_t threshold = kernels::dropout_threshold(rate);
  const T kept = static_cast<T>(1 / (1 - rate));
  const auto sub = static_cast<std::uint32_t>(address.step);
  const std::uint64_t seed = address.seed;
  const std::uint64_t first = kernels::dropout_index(address.pass, address.site);
  kernels::parallel_for<T>(kernels::blocks_of(count, block), [=](std::int64_t b) {
    for (std::int64_t i = b * block; i < std::min(count, (b + 1) * block); i += 4 * lanes) {
      std::uint32_t words[4 * lanes];
#pragma omp simd
      for (std::int64_t k = 0; k < lanes; ++k) {
        const kernels::PhiloxBlock four =
            kernels::random_block(seed, kernels::dropout_stream, sub, first + static_cast<std::uint64_t>(i / 4 + k));
        for (std::int64_t j = 0; j < 4; ++j) words[4 * k + j] = four[static_cast<std::size_t>(j)];
      }
      const std::int64_t n = std::min(4 * lanes, count - i);
#pragma omp simd
      for (std::int64_t k = 0; k < n; ++k) mask.data[i + k] = words[k] < threshold ? T{} : kept;
    }
  });
  return mask;
}

}  // namespace

template <class T>
Var<T> revin_affine(Var<T> xhat, AffineVars<T> affine) {
  const Tensor<T> X = xhat.value(), gamma = affine.gamma.value(), beta = affine.beta.value();
  const std::int64_t R = X.rows(), D = gamma.count(), L = X.cols();
  SAMFORMER_CHECK(X.contiguous() && D > 0 && R % D == 0 && beta.count() == D,
                  "revin_affine: xhat [N, D, L], gamma and beta [D] expected, found {}, {}, {}", X.shape.to_string(),
                  gamma.shape.to_string(), beta.shape.to_string());
  SAMFORMER_CHECK(!xhat.needs_gradient(), "revin_affine: the normalised windows are a constant");
  const std::int64_t n = X.count();
  const Operation<T> operation(*xhat.tape, "revin_affine", float_cost(2 * n, 2 * n), float_cost(3 * n, 2 * n));
  const Tensor<T> U = xhat.tape->arena().template tensor<T>(X.shape);
  kernels::revin_affine(U.data, X.data, gamma.data, beta.data, R, D, L);
  return xhat.tape->record(U, {affine.gamma, affine.beta}, [=](Var<T> self) {
    Arena& memory = self.tape->arena();
    const Arena::Mark mark = memory.mark();
    kernels::revin_affine_backward(affine.gamma.gradient_or_null(), affine.beta.gradient_or_null(),
                                   self.gradient().data, X.data, R, D, L, memory.allocate<T>(2 * R));
    memory.rewind(mark);
  });
}

template <class T>
Var<T> transpose(Var<T> x, std::int64_t N) {
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(N > 0 && X.rows() % N == 0 && X.contiguous(),
                  "transpose: {} samples of whole rows expected, found {}", N, X.shape.to_string());
  const std::int64_t A = X.rows() / N, B = X.cols();
  const Operation<T> operation(*x.tape, "transpose", float_cost(0, 2 * X.count()),
                               float_cost(X.count(), 3 * X.count()));
  const Tensor<T> Y = x.tape->arena().template tensor<T>(Shape{N * B, A});
  kernels::transpose(Y.data, X.data, N, A, B, false);
  return x.tape->record(
      Y, {x}, [=](Var<T> self) { kernels::transpose(x.gradient().data, self.gradient().data, N, B, A, true); });
}

template <class T>
Var<T> batch_norm(Var<T> x, Var<T> weight, Var<T> bias, Running<T> running) {
  const std::int64_t N = samples("batch_norm", x, weight, bias), M = weight.value().count();
  SAMFORMER_CHECK(running.mean.count() == M && running.var.count() == M,
                  "batch_norm: running averages of {} positions expected, found {}, {}", M,
                  running.mean.shape.to_string(), running.var.shape.to_string());
  const Tensor<T> X = x.value(), W = weight.value(), Y = x.tape->arena().template tensor<T>(X.shape);
  const std::int64_t n = X.count();
  const Operation<T> operation(*x.tape, "batch_norm", float_cost(7 * n, 2 * n), float_cost(12 * n, 4 * n));
  T *mean = running.mean.data, *rstd = x.tape->arena().template allocate<T>(M);
  const bool constant = !running.training;
  if (constant) {
    for (std::int64_t i = 0; i < M; ++i) rstd[i] = kernels::reciprocal_root(running.var.data[i]);
  } else {
    mean = x.tape->arena().template allocate<T>(M);
    kernels::batch_statistics(mean, rstd, running.update ? running.mean.data : nullptr, running.var.data, X.data, N, M);
  }
  kernels::batch_norm(Y.data, X.data, mean, rstd, W.data, bias.value().data, N, M);
  return x.tape->record(Y, {x, weight, bias}, [=](Var<T> self) {
    kernels::batch_norm_backward(x.gradient_or_null(), weight.gradient_or_null(), bias.gradient_or_null(),
                                 self.gradient().data, X.data, mean, rstd, W.data, constant, N, M);
  });
}

template <class T>
Var<T> layer_norm(Var<T> x, Var<T> weight, Var<T> bias) {
  const std::int64_t N = samples("layer_norm", x, weight, bias), M = weight.value().count();
  Arena& arena = x.tape->arena();
  const Tensor<T> X = x.value(), W = weight.value(), Y = arena.tensor<T>(X.shape);
  const std::int64_t n = X.count();
  const Operation<T> operation(*x.tape, "layer_norm", float_cost(7 * n, 2 * n), float_cost(14 * n, 4 * n));
  T *mean = arena.allocate<T>(N), *rstd = arena.allocate<T>(N);
  kernels::layer_norm(Y.data, mean, rstd, X.data, W.data, bias.value().data, N, M);
  return x.tape->record(Y, {x, weight, bias}, [=](Var<T> self) {
    kernels::layer_norm_backward(x.gradient_or_null(), weight.gradient_or_null(), bias.gradient_or_null(),
                                 self.gradient().data, X.data, mean, rstd, W.data, N, M);
  });
}

template <class T>
Var<T> dropout(Var<T> x, double rate, DropoutAddress address) {
  SAMFORMER_CHECK(rate >= 0 && rate < 1, "dropout: a rate of at least 0 and below 1 expected, found {}", rate);
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(X.contiguous(), "dropout: {} must be contiguous", X.shape.to_string());
  return x * x.tape->constant(dropout_mask(*x.tape, X.shape, rate, address));
}

template <class T>
Var<T> spectral_reparam(Var<T> weight, Var<T> gamma) {
  const Tensor<T> W = weight.value(), g = gamma.value();
  SAMFORMER_CHECK(W.contiguous() && W.count() > 0 && g.count() == 1,
                  "spectral_reparam: weight [out, in], gamma [1] expected, found {}, {}", W.shape.to_string(),
                  g.shape.to_string());
  using Wide = kernels::Wide<T>;
  const std::int64_t out = W.rows(), in = W.cols();
  // The Gram matrix alone: how many squarings follow depends on the weights.
  const Operation<T> operation(*weight.tape, "spectral_reparam",
                               product_cost(std::min(out, in), std::min(out, in), std::max(out, in)),
                               float_cost(6 * W.count(), 4 * W.count()));
  Arena& arena = weight.tape->arena();
  const Tensor<T> What = arena.tensor<T>(W.shape);
  Wide *u = arena.allocate<Wide>(out), *v = arena.allocate<Wide>(in);
  const Arena::Mark mark = arena.mark();
  const Wide sigma =
      kernels::spectral_norm(u, v, W.data, out, in, arena.allocate<Wide>(kernels::spectral_work(out, in)));
  arena.rewind(mark);
  const T factor = static_cast<T>(static_cast<Wide>(g.data[0]) / sigma);
  for (std::int64_t i = 0; i < W.count(); ++i) What.data[i] = factor * W.data[i];
  return weight.tape->record(What, {weight, gamma}, [=](Var<T> self) {
    Arena& memory = self.tape->arena();
    const Arena::Mark begin = memory.mark();
    kernels::spectral_reparam_backward(weight.gradient_or_null(), gamma.gradient_or_null(), self.gradient().data,
                                       W.data, g.data[0], sigma, u, v, out, in, memory.allocate<T>(out));
    memory.rewind(begin);
  });
}

// The three scalars of the engine.
#define INSTANTIATE(T)                                                                  \
  template Var<T> revin_affine(Var<T> xhat, AffineVars<T> affine);                      \
  template Var<T> transpose(Var<T> x, std::int64_t N);                                  \
  template Var<T> batch_norm(Var<T> x, Var<T> weight, Var<T> bias, Running<T> running); \
  template Var<T> layer_norm(Var<T> x, Var<T> weight, Var<T> bias);                     \
  template Var<T> dropout(Var<T> x, double rate, DropoutAddress address);               \
  template Var<T> spectral_reparam(Var<T> weight, Var<T> gamma);

INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Dual<double>)
#undef INSTANTIATE

}  // namespace samformer
