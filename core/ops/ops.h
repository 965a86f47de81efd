// The operations of the tape: each ties kernels (forward and backward) to a node. Shapes are checked here; a mismatch
// throws Error(Exit::internal) naming the operation, what it expected and what it was given.
//
// Matrices are [rows, columns]; a tensor of higher rank counts as [product of leading dimensions, last]. Weights are
// stored [out, in]. R = N D rows, row r = n D + d. Any input may be a constant.
// Defined for T = float, double and Dual<double>.
#pragma once

#include <cstdint>

#include "core/tape.h"
#include "kernels/attention.h"
#include "kernels/cpu/bf16.h"
#include "kernels/loss.h"
#include "kernels/revin.h"

namespace samformer {

// ---- General operations -------------------------------------------------------------------------------------------

template <class T>
Var<T> operator+(Var<T> a, Var<T> b);

template <class T>
Var<T> operator-(Var<T> a, Var<T> b);

// Element by element.
template <class T>
Var<T> operator*(Var<T> a, Var<T> b);

template <class T>
Var<T> relu(Var<T> x);

template <class T>
Var<T> tanh(Var<T> x);

// x Phi(x), Phi the normal distribution function: the exact form, with erf.
template <class T>
Var<T> gelu(Var<T> x);

// C = A B for A [M, K] and B [K, N].
template <class T>
Var<T> matmul(Var<T> a, Var<T> b);

// y = x W' for x [R, in], W [out, in].
template <class T>
Var<T> linear(Var<T> x, Var<T> weight);

// y = x + bias, bias [columns] added to every row, written over x (see record_in_place).
template <class T>
Var<T> add_bias(Var<T> x, Var<T> bias);

template <class T>
Var<T> linear(Var<T> x, Var<T> weight, Var<T> bias);

// Columns [first, first + count) and rows [first, first + count) of x: no copy, no work in backward.
template <class T>
Var<T> columns(Var<T> x, std::int64_t first, std::int64_t count) {
  return x.tape->alias(x, x.value().columns(first, count));
}
template <class T>
Var<T> rows(Var<T> x, std::int64_t first, std::int64_t count) {
  return x.tape->alias(x, x.value().slice(first, count));
}

// Mean squared and mean absolute difference over all elements: scalars. At 0 the slope of |e| is 0.
template <class T>
Var<T> mse(Var<T> prediction, Var<T> target);

template <class T>
Var<T> mae(Var<T> prediction, Var<T> target);

// ---- SAMformer's operations ---------------------------------------------------------------------------------------

// RevIN's statistics: level and sigma [R], constants of differentiation.
template <class T>
struct Normalised {
  Var<T> xhat;  // [N, D, L], without scale and shift; no data where `sliding` has windows
  Tensor<T> level;
  Tensor<T> sigma;
  kernels::Bf16Windows halves = {};  // set: products with xhat are in bfloat16
  kernels::Windows<T> sliding = {};  // set: products are correlations of the series (kernels/correlation.h)
};

// Level and sigma of windows that start one step apart, for a model without gradients.
Normalised<float> revin_sliding(Tape<float>& tape, kernels::Windows<float> x, std::int64_t L, kernels::Center center);

// Rounds the windows, once for all products with them.
void round_to_bf16(Normalised<float>& input);

// Normalises windows of length L. The windows are data: xhat is a constant.
template <class T>
Normalised<T> revin(Tape<T>& tape, kernels::Windows<T> x, std::int64_t L, kernels::Center center);

// The same for an input [N, D, L] on the tape, which may need a gradient: dx = dxhat / sigma.
template <class T>
Normalised<T> revin(Var<T> x, kernels::Center center);

// RevIN's learned scale and shift [D] as values of the tape. guard: added to the scale in the inverse.
template <class T>
struct AffineVars {
  Var<T> gamma;
  Var<T> beta;
  double guard = 0;

  kernels::Affine<T> kernel() const { return {gamma.value().data, beta.value().data, guard}; }
};

// Z = (gamma_d xhat + beta_d) W' + b, [R, O] (kernels/projection.h). xhat must be a constant. The bias columns
// [skip_begin, skip_end) get no gradient: the key bias. Backward scales Z's gradient in place: do not read it
// afterwards.
template <class T>
Var<T> project(const Normalised<T>& input, Var<T> weight, Var<T> bias, AffineVars<T> affine,
               std::int64_t skip_begin = 0, std::int64_t skip_end = 0);

// C = softmax_rows(Q K' / sqrt(d_m)) V for each sample's D channels (kernels/attention.h); q, k [R, d_m], v [R, d_v]
// are views of one matrix. `lse_out` receives the saved log-sum-exp [R] when given.
template <class T>
Var<T> channel_attention(Var<T> q, Var<T> k, Var<T> v, std::int64_t D, Tensor<T>* lse_out = nullptr);

// y = x + A W', written over x (see record_in_place): x [R, O], a [R, K], weight [O, K].
template <class T>
Var<T> add_linear(Var<T> x, Var<T> a, Var<T> weight);

// y = x + a, written over x.
template <class T>
Var<T> add_in_place(Var<T> x, Var<T> a);

// The affine map x -> a (b x + shift) as one: weight a b [M, N] and bias a shift [1, M], for a [M, K], b [K, N], shift
// [1, K].
template <class T>
struct Composed {
  Var<T> weight, bias;
};
template <class T>
Composed<T> compose(Var<T> a, Var<T> b, Var<T> shift);

// A copy of b [n] with a [m] added to its elements [first, first + m): joins the biases that folding makes.
template <class T>
Var<T> add_at(Var<T> b, Var<T> a, std::int64_t first);

// RevIN's inverse as an operation: y = (z - beta) / (gamma + guard) sigma + level, [R, H].
template <class T>
Var<T> revin_inverse(Var<T> z, AffineVars<T> affine, Tensor<T> level, Tensor<T> sigma);

// What a forecast is compared with.
template <class T>
struct Truth {
  kernels::Windows<T> y;        // windows of length H
  const std::int32_t* targets;  // [target_count] channels that count
  std::int64_t target_count;
};

// Mean squared error of the forecast after RevIN's inverse, with statistics mixing (kernels/loss.h): a scalar.
// `moments` [D][5]: the statistics to mix with; null: the batch's own.
template <class T>
Var<T> forecast_loss(Var<T> z, AffineVars<T> affine, Tensor<T> level, Tensor<T> sigma, Truth<T> truth,
                     kernels::StatsMix mix, kernels::Moment<T>* moments = nullptr);

// ---- Operations of SAMformer's relatives --------------------------------------------------------------------------

// u = gamma_d xhat + beta_d, shape of xhat [N, D, L], which must be a constant.
template <class T>
Var<T> revin_affine(Var<T> xhat, AffineVars<T> affine);

// Each of N samples transposed: [N A, B] -> [N B, A].
template <class T>
Var<T> transpose(Var<T> x, std::int64_t N);

// Running averages of a batch norm [M]; `update`: this pass moves them.
template <class T>
struct Running {
  Tensor<T> mean;
  Tensor<T> var;
  bool training = false;  // normalise with the batch's own statistics
  bool update = false;
};
// Samples [N, ...] of M = D L positions; weight and bias [D, L] (kernels/normalise.h).
template <class T>
Var<T> batch_norm(Var<T> x, Var<T> weight, Var<T> bias, Running<T> running);

template <class T>
Var<T> layer_norm(Var<T> x, Var<T> weight, Var<T> bias);

// Where in the random numbers (kernels/philox.h, stream 2) a dropout mask lies: a training step's pass, and which of
// the model's dropouts it is.
struct DropoutAddress {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  int pass = 0;
  int site = 0;
};
// Each element is 0 with probability `rate` (0 <= rate < 1), else divided by 1 - rate.
template <class T>
Var<T> dropout(Var<T> x, double rate, DropoutAddress address);

// gamma W / |W|_2 (kernels/spectral.h); W [out, in], gamma [1].
template <class T>
Var<T> spectral_reparam(Var<T> weight, Var<T> gamma);

}  // namespace samformer
