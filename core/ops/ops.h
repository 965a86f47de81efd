// The operations of the tape: each ties kernels (forward and backward) to a node, on either device. Shapes are checked
// here; a mismatch throws Error(Exit::internal) naming the operation, what it expected and what it was given.
//
// Matrices are [rows, columns]; a tensor of higher rank counts as [product of leading dimensions, last]. Weights are
// stored [out, in]. R = N D rows, row r = n D + d. Any input may be a constant.
// Defined for every tape (SAMFORMER_FOR_EACH_TAPE).
#pragma once

#include <array>
#include <cstdint>

#include "core/tape.h"
#include "kernels/attention.h"
#include "kernels/cpu/bf16.h"
#include "kernels/elementwise.h"
#include "kernels/loss.h"
#include "kernels/normalise.h"
#include "kernels/revin.h"
#include "kernels/spectral.h"

namespace samformer {

using kernels::Activation;
using kernels::Dropout;

// ---- General operations (linear_ops.cpp) --------------------------------------------------------------------------

// y = residual + dropout(act(a + bias)), bias [columns] added to every row; bias and residual may be of no tape.
template <class T, class On>
Var<T, On> bias_activation(Var<T, On> a, Var<T, On> bias, Activation activation, Var<T, On> residual = {},
                           const Dropout& dropout = {});
template <class T, class On>
Var<T, On> operator+(Var<T, On> a, Var<T, On> b) {
  return bias_activation(b, {}, Activation::none, a);
}
template <class T, class On>
Var<T, On> relu(Var<T, On> x) {
  return bias_activation(x, {}, Activation::relu);
}
template <class T, class On>
Var<T, On> tanh(Var<T, On> x) {
  return bias_activation(x, {}, Activation::tanh);
}
template <class T, class On>
Var<T, On> gelu(Var<T, On> x) {
  return bias_activation(x, {}, Activation::gelu);
}

// y = x W' for x [R, in], W [out, in]; with a bias [out], y = x W' + b.
template <class T, class On>
Var<T, On> linear(Var<T, On> x, Var<T, On> weight);
template <class T, class On>
Var<T, On> linear(Var<T, On> x, Var<T, On> weight, Var<T, On> bias) {
  return bias_activation(linear(x, weight), bias, Activation::none);
}

// Each of N samples transposed: [N A, B] -> [N B, A]; `add` (of no tape: nothing) is added to the result.
template <class T, class On>
Var<T, On> transpose(Var<T, On> x, std::int64_t N, Var<T, On> add = {});

// Mean squared difference over all elements: a scalar.
template <class T, class On>
Var<T, On> mse(Var<T, On> prediction, Var<T, On> target);

// Columns [first, first + count) and rows [first, first + count) of x: no copy, no work in backward.
template <class T, class On>
Var<T, On> columns(Var<T, On> x, std::int64_t first, std::int64_t count) {
  return x.tape->part(x, Tape<T, On>::Axis::columns, first, first + count, x.value().columns(first, count));
}
template <class T, class On>
Var<T, On> rows(Var<T, On> x, std::int64_t first, std::int64_t count) {
  return x.tape->part(x, Tape<T, On>::Axis::rows, first, first + count, x.value().slice(first, count));
}

template <class T, class On>
Var<T, On> reshape(Var<T, On> x, Shape shape) {
  return x.tape->reshape(x, shape);
}

// ---- RevIN (revin_ops.cpp) -----------------------------------------------------------------------------------------

// Normalised windows and their statistics (kernels/revin.h), constants of differentiation.
template <class T, class On = Cpu>
struct Normalised {
  Var<T, On> xhat;  // [N, D, L], without scale and shift; no data where `sliding` has windows
  const T* stats = nullptr;
  const kernels::Moment<T, On>* moments = nullptr;  // what statistics mixing mixes with; null: nothing
  kernels::Bf16Windows halves = {};                 // set: products with xhat are in bfloat16
  kernels::Windows<T> sliding = {};                 // set: products are correlations of the series
  Var<T, On> marks = {};             // [N, marks, L + marks_ahead], as they are; of no tape where there are none
  kernels::Windows<T> windows = {};  // where x.known is: of the covariates, with
  const T* known_levels = nullptr;   // [N, rows], their levels; null: there are none

  std::int64_t N() const { return xhat.value().shape[0]; }
  std::int64_t D() const { return xhat.value().shape[1]; }
};

// Normalises windows of length L; `mixing`: with the batch's moments. A batch of one window is not mixed on the CPU.
template <class T, class On>
Normalised<T, On> revin(Tape<T, On>& tape, const kernels::Windows<T>& x, std::int64_t L, kernels::Center center,
                        bool mixing = false);
// Statistics alone, of windows that start one step apart, for a model without gradients (kernels/correlation.h).
Normalised<float> revin_sliding(Tape<float>& tape, const kernels::Windows<float>& x, std::int64_t L,
                                kernels::Center center);
// The covariates' levels, where x has any (kernels/covariates.h); revin and revin_sliding do so.
template <class T, class On>
void add_levels(Normalised<T, On>& input, const kernels::Windows<T>& x, std::int64_t L, kernels::Center center);
// Rounds the windows, once for all products with them.
void round_to_bf16(Normalised<float>& input);

// On a device: where operations leave their parts of dgamma and dbeta, until somebody adds them up (kernels/revin.h).
struct RowSums {
  float* memory;
  std::int64_t N, D;
  int expected = 0, done = 0;  // operations that have a part
  int parts = 0;
  bool added_up = false;
};

// RevIN's learned scale and shift [D]; of no tape where there is no RevIN. guard: added to the scale in the inverse.
template <class T, class On = Cpu>
struct AffineVars {
  Var<T, On> gamma, beta;
  double guard = 0;
  RowSums* sums = nullptr;

  kernels::Affine<T> kernel() const {
    return {gamma ? gamma.value().data : nullptr, beta ? beta.value().data : nullptr, guard};
  }
  // In forward: an operation whose backward will call sink(). Where the parts of its gradients go.
  void expect() const {
    if (sums) ++sums->expected;
  }
  kernels::AffineSink<T> sink(Backward<T, On>& g, int parts) const;
};
// Before all operations that use them: on a device their gradients are added up last, or by project.
template <class T, class On>
AffineVars<T, On> affine_vars(Var<T, On> gamma, Var<T, On> beta, double guard, std::int64_t N);

// u = gamma_d xhat + beta_d, shape of xhat [N, D, L], which must be a constant.
template <class T, class On>
Var<T, On> revin_affine(Var<T, On> xhat, const AffineVars<T, On>& affine);

// ---- Projections and attention (attention_ops.cpp) -----------------------------------------------------------------

// Columns of a product as consumers read them. On the CPU z is complete. On a device it may lack its scale, shift, bias
// and a term, which the consumer's kernel applies (kernels/projection.h); z's gradient is that of the complete columns.
template <class T, class On = Cpu>
struct Projected {
  Var<T, On> z;
  kernels::Projected<T> pending = {};  // p and ld apart
  AffineVars<T, On> affine = {};       // whose scale and shift are pending
  Tensor<T> mixed = {};                // a term [R, columns]

  Projected() = default;
  Projected(Var<T, On> z) : z(z) {}
  kernels::Projected<T> kernel() const {
    kernels::Projected<T> all = pending;
    all.p = z.value().data, all.ld = z.value().stride;
    return all;
  }
  Projected columns(std::int64_t first, std::int64_t count) const {
    Projected part(samformer::columns(z, first, count));
    part.pending = pending.columns(first), part.affine = affine;
    return part;
  }
  explicit operator bool() const { return static_cast<bool>(z); }
};

// One to four linear layers of one input, side by side in the result; layer i has the columns from `column` on. Where
// the weights lie one behind another they are one product, which a device demands. The result is [rows, all columns].
template <class T, class On>
struct Layer {
  Var<T, On> weight, bias;
  std::int64_t column = 0;
};
template <class T, class On>
Projected<T, On> layers(Var<T, On> x, std::initializer_list<Layer<T, On>> all);

// The affine map x -> a (b x + shift) as one: weight a b [M, N] and bias a shift [1, M], for a [M, K], b [K, N], shift
// [1, K]. On a device the bias is for project alone, which has its part of a's gradient, so that a must be the head of
// project's weight; it computes the bias too where `in_product` is false.
template <class T, class On>
struct Composed {
  Var<T, On> weight, bias, shift, a;
  bool in_product = true;
};
template <class T, class On>
Composed<T, On> compose(Var<T, On> a, Var<T, On> b, Var<T, On> shift, bool bias_in_product);

// Z = (gamma_d xhat + beta_d) W' + b, [R, O] (kernels/projection.h); xhat must be a constant, with scale and shift. W
// and b come in one piece [O, L] or two: `values` first (a composed weight), then `rest`. A composed bias of the head,
// the columns of `rest` from `head` on, is added to b. The bias columns [skip_begin, skip_end) of `rest` get no
// gradient: the key bias.
template <class T, class On>
struct ProjectionInput {
  Composed<T, On> values = {};
  Var<T, On> weight, bias;
  Composed<T, On> head_bias = {};
  std::int64_t head = 0;
  std::int64_t skip_begin = 0, skip_end = 0;
};
template <class T, class On>
struct Projection {
  Projected<T, On> values, rest;
};
template <class T, class On>
Projection<T, On> project(const Normalised<T, On>& input, const ProjectionInput<T, On>& w,
                          const AffineVars<T, On>& affine);

// C = softmax_rows(Q K' / sqrt(d_m)) V for each sample's D channels (kernels/attention.h); q, k [R, d_m], v [R, d_v]
// are columns of one matrix, on a device v, q and k side by side. `lse_out`: the saved log-sum-exp [R].
template <class T, class On>
Var<T, On> channel_attention(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v,
                             std::int64_t D, Tensor<T>* lse_out = nullptr);

// y = x + A W', on the CPU written over x (see record_in_place): x [R, O], a [R, K], weight [O, K].
template <class T, class On>
Projected<T, On> add_linear(const Projected<T, On>& x, Var<T, On> a, Var<T, On> weight);
// y = x + a, likewise.
template <class T, class On>
Projected<T, On> add_term(const Projected<T, On>& x, Var<T, On> a);
// z plus the covariates' part of the forecast (covariate_ops.cpp; kernels/covariates.h), on the CPU written over z:
// z [N D, H], weight [D, F].
template <class T, class On>
Projected<T, On> add_covariates(const Projected<T, On>& z, Var<T, On> weight, const Normalised<T, On>& input);

// ---- Sequences (sequence_ops.cpp) ----------------------------------------------------------------------------------

// Patches of `length` steps of each row [R, L], every `stride`, the last value going on: [R n, length]
// (kernels/patches.h).
template <class T, class On>
Var<T, On> patches(Var<T, On> x, std::int64_t length, std::int64_t stride);

// Of each of N samples: the rows of a and, behind them, those of b, [N (A + B), C]; its first `count` rows.
template <class T, class On>
Var<T, On> join_rows(Var<T, On> a, Var<T, On> b, std::int64_t N);
template <class T, class On>
Var<T, On> first_rows(Var<T, On> x, std::int64_t N, std::int64_t count);

// Attention with heads of each of N samples, q [N T_q, d], k and v [N T_k, d] (kernels/heads.h); dropout is of the
// probabilities. `previous`: scores of an earlier call, [N h T_k, T_q], that are added to its own, which are in the
// result where `pass_scores`.
template <class T, class On>
struct Attended {
  Var<T, On> context;      // [N T_q, d]
  Var<T, On> scores = {};  // of no tape: not wanted
  Tensor<T> lse = {};      // the saved log-sum-exp, [N h, T_q]
};
template <class T, class On>
Attended<T, On> multi_head_attention(const Projected<T, On>& q, const Projected<T, On>& k, const Projected<T, On>& v,
                                     std::int64_t N, std::int64_t heads, const Dropout& dropout = {},
                                     Var<T, On> previous = {}, bool pass_scores = false);

// A row's moving average of `width` steps, its ends continued, and what is left (kernels/decompose.h): [R, L] each.
template <class T, class On>
struct Decomposed {
  Var<T, On> seasonal, trend;
};
template <class T, class On>
Decomposed<T, On> decompose(Var<T, On> x, std::int64_t width);

// ---- Loss (loss_ops.cpp) -------------------------------------------------------------------------------------------

// RevIN's inverse, for evaluation: y = (z - beta) / (gamma + guard) sigma + level, [R, H]. Not differentiated.
template <class T, class On>
Tensor<T> revin_inverse(const Projected<T, On>& z, const AffineVars<T, On>& affine, const Normalised<T, On>& input);

// What a forecast is compared with.
template <class T>
struct Truth {
  kernels::Windows<T> y;        // windows of length H
  const std::int32_t* targets;  // [target_count] channels that count
  std::int64_t target_count;
  const T* channel_weight = nullptr;  // a device's, see ForecastLoss
};

// Mean squared error of the forecast after RevIN's inverse, with statistics mixing where the input has moments
// (kernels/loss.h). On the CPU a scalar; on a device parts of it, which are there after backward where z needs a
// gradient: backward begins there.
template <class T, class On>
Var<T, On> forecast_loss(const Projected<T, On>& z, const AffineVars<T, On>& affine, const Normalised<T, On>& input,
                         const Truth<T>& truth, kernels::StatsMix mix);

// ---- Norms (norm_ops.cpp) ------------------------------------------------------------------------------------------

// Running averages of a batch norm [M]; `update`: this pass moves them, unless `progress` has a bad one.
template <class T>
struct Running {
  Tensor<T> mean;
  Tensor<T> var;
  bool training = false;  // normalise with the batch's own statistics
  bool update = false;
  const kernels::Progress* progress = nullptr;
  kernels::NormRule rule = {};
};
// Samples [N, ...] of M positions, as many as weight and bias have (kernels/normalise.h): all channels and steps of a
// window, [D, L], or the features of a token, [d].
template <class T, class On>
Var<T, On> batch_norm(Var<T, On> x, Var<T, On> weight, Var<T, On> bias, const Running<T>& running);

template <class T, class On>
Var<T, On> layer_norm(Var<T, On> x, Var<T, On> weight, Var<T, On> bias, double epsilon = kernels::norm_epsilon);

// gamma W / |W|_2 of up to four layers (kernels/spectral.h), W [out, in], gamma [1]: one behind another in memory.
template <class T, class On>
struct Scaled {
  Var<T, On> weight, gamma;
};
template <class T, class On>
std::array<Var<T, On>, kernels::spectral_most> spectral_reparam(std::initializer_list<Scaled<T, On>> all);

}  // namespace samformer
