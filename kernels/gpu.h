// The GPU kernels of a SAM step, as functions of the host: outputs, inputs, sizes, stream. No call allocates or
// synchronises, so a whole step can be captured in one graph. Float32, row-major; rows r = n D + d, R = N D.
//
//   xhat = (x - level) / sigma                        revin_normalise, once a step: both of SAM's passes use it
//   s, b = row sums of Wcat, biases with W b_O folded weight_sums
//   P = xhat Wcat'                                    GEMM; columns V (d_v), Q (d_m), K (d_m), F (H); O = d_v + 2 d_m +
//   H Z = gamma_d P + beta_d s + b                      never written: folded into attention and loss C = softmax(Q K'
//   / sqrt(d_m)) V                   attention_forward; C G' (G = W W_O) by GEMM z = Z_F + C G', loss, dz loss dQ, dK,
//   dV from dC = dz G                         attention_backward dP = gamma_d dZ, partial sums over the rows
//   projection_backward; dWcat = dP' xhat by GEMM biases, RevIN's scale and shift, rank-one terms   finish_gradients
//   SAM's ascent; its restore with the optimiser      gradient_norm, perturb, update
//
// Per-row scalars (statistics, row sums) are [N][channel_stride(D)], so that eight channels are one 32-byte sector.
// Null gamma and beta mean "without affine": 1 and 0. The same sources compile for the SIMT emulator (simt.h) in their
// own inline namespace; define SAMFORMER_EMULATED to call those. Errors of a launch throw GpuError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/gpu_backend.h"

namespace samformer::kernels::gpu {
inline namespace SAMFORMER_GPU_BACKEND {

using Stream = void*;  // a cudaStream_t

class GpuError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr int channel_stride(int channels) { return (channels + 7) & ~7; }

// ---- the runtime: what differs between a GPU and the emulator ------------------------------------------------------
// core/device_memory.h owns what is created here.

struct DeviceInfo {
  std::string name;
  int major, minor;  // compute capability
  std::size_t memory_bytes;
  double flops, bytes;  // a second at most: float32 products and sums, device memory; 0: unknown
};
// All devices; `why_none` says why there are none. The first call loads the driver's library, where there is one.
std::vector<DeviceInfo> devices(std::string& why_none);
void select_device(int index);

// Unset memory reads as NaN on the emulator.
void* device_allocate(std::size_t bytes, const char* name);
void device_free(void* memory);
void upload(void* device, const void* host, std::size_t bytes, Stream stream);
void download(void* host, const void* device, std::size_t bytes, Stream stream);
void device_zero(void* device, std::size_t bytes, Stream stream);
void synchronise(Stream stream);

Stream stream_create();
void stream_destroy(Stream stream);

using Event = void*;
Event event_create();
void event_destroy(Event event);
void event_record(Event event, Stream stream);
double event_seconds(Event begin, Event end);  // both reached by their stream

// Between the two calls the stream's work is recorded, not done; graph_launch then does all of it.
using Graph = void*;
void capture_begin(Stream stream);
Graph capture_end(Stream stream);
void graph_destroy(Graph graph);
void graph_launch(Graph graph, Stream stream);

// Products by cuBLAS (on the emulator kernels/gemm.h), which is opened by the first blas_create. Results repeat.
using Blas = void*;
Blas blas_create(Stream stream, bool tf32);
void blas_destroy(Blas blas);
// Row-major C[M][N] (+)= op(A)[M][K] op(B)[K][N].
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t M, N, K;
  const float* A;
  std::int64_t lda;
  const float* B;
  std::int64_t ldb;
  float* C;
  std::int64_t ldc;
  bool accumulate = false;
  std::int64_t samples = 1, stride_a = 0, stride_b = 0, stride_c = 0;  // so many products, their matrices so far apart
};
void product(Blas blas, const Product& p);

// A named range of the calling thread for profilers (NVTX).
void range_begin(const char* name);
void range_end();

// ---- the state of the training loop, in device memory ----------------------------------------------------------

// What may change between steps of a captured graph; written by the host between epochs.
struct Hyper {
  float lr = 0, rho = 0, momentum = 0, beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0;
  float ema_decay = 0;                  // 0: no averaged weights
  double log_beta1 = 0, log_beta2 = 0;  // natural logarithms: 1 - beta^t loses digits in float
};

// Written by the kernels alone, one writer each. A pass that meets a non-finite gradient fills the record `bad_*`;
// from then on weights, moments and averages stay as they are.
struct Progress {
  std::int64_t step = 0;  // steps begun; the step that runs is number `step` from 1
  std::int64_t batch =
      0;  // batches finished in this epoch: the first start of the batch is starts[batch * batch_stride]
  float correction1 = 1, correction2 = 1;  // 1 - beta^step
  float ema_decay = 0;                     // min(decay, (1 + t) / (10 + t)), t = step - 1
  std::int32_t bad_pass = 0;               // 1 or 2; 0: none
  std::int64_t bad_step = 0;
  std::int64_t bad_element = 0;      // index in the parameter slab
  double squared_error[2] = {0, 0};  // sums over the epoch's windows of both passes' losses
  double absolute_error[2] = {0, 0};
  float norm = 0;  // of the last ascent's gradient
};

// ---- RevIN ---------------------------------------------------------------------------------------------------------

enum class Level { mean, last, none };  // none: no RevIN, level 0 and sigma 1

// xhat [R][look_back]; stats [N][channel_stride][2] = level (mean, or the last value), sigma = sqrt(biased variance +
// 1e-5). series [D][T] (resident), starts: the epoch's order; the batch is starts[progress->batch * batch_stride + n]
// (null progress: batch 0). Advances progress->step and its corrections when `begins_step`.
void revin_normalise(float* xhat, float* stats, Progress* progress, const Hyper* hyper, const float* series,
                     const std::int32_t* starts, int batch, int batch_stride, int channels, std::int64_t series_length,
                     int look_back, Level level, bool begins_step, Stream stream);

// moments [5][channel_stride]: the batch's means of sigma, sigma^2, level, level^2, sigma level.
void revin_moments(float* moments, const float* stats, int batch, int channels, Stream stream);

// u [R][look_back] = gamma_d xhat + beta_d, for the models that need u itself.
void revin_affine(float* u, const float* xhat, const float* gamma, const float* beta, int batch, int channels,
                  int look_back, Stream stream);
// Row sums, slot 1 (below): sum du xhat and sum du.
void revin_affine_backward(float* row_sums, const float* du, const float* xhat, int batch, int channels, int look_back,
                           Stream stream);

// ---- projection --------------------------------------------------------------------------------------------------

// Columns of P and rows of Wcat, in this order: values, queries, keys, forecast. Values are d_m wide; in the full-rank
// variant H (W_V folded into the head) or L.
struct Widths {
  int value = 16, key = 16, horizon = 96;
  constexpr int first_query() const { return value; }
  constexpr int first_key() const { return value + key; }
  constexpr int first_head() const { return value + 2 * key; }
  constexpr int columns() const { return value + 2 * key + horizon; }
};

// Wcat [O][look_back] in one piece or two: the rows of the values, and all others.
struct WeightRows {
  const float* value;
  const float* rest;
};

// The projection's columns as their consumers read them: value[r][o] = gamma_d p[r ld + o] + beta_d s[o] + b[o].
struct Projected {
  const float* p;
  std::int64_t ld;
  const float* gamma;  // [D] or null
  const float* beta;
  const float* s;  // [O]; not read without affine; null in the loss: p has scale and shift already
  const float* b;  // [O]
};

// The biases, each null where the model has none. Output: b_O [look_back]; the others as wide as their product (value:
// W b_V where W_V is folded).
struct Biases {
  const float* value;
  const float* query;
  const float* key;
  const float* output;
  const float* head;
};

// s[o] = sum of row o of Wcat; b[o] = its bias, for the forecasting rows W b_O + b_W.
void weight_sums(float* s, float* b, const WeightRows& weights, const Biases& biases, Widths widths, int look_back,
                 Stream stream);

// Partial sums of projection_backward: column_parts [chunks][2][O] with chunks = projection_chunks(R).
int projection_chunks(int rows);

// dp [R][ld] = gamma_d dz (null without affine: use dz itself); column_parts: per chunk of rows sum dz, sum beta_d dz.
void projection_backward(float* dp, float* column_parts, const float* dz, std::int64_t ld, const float* gamma,
                         const float* beta, int batch, int channels, int columns, Stream stream);

// Row sums written by the loss (slot 0) and attention_backward (1: queries, 2: keys and values) or
// revin_affine_backward (1):
// [slots][2][N][channel_stride] = gradient of gamma_d, of beta_d, before the sum over n.
constexpr int row_sum_slots = 3;

struct Gradients {
  float* value_rows;  // of dWcat, which hold dP' xhat on entry
  float* other_rows;
  float* value;  // biases, each null where the model has none
  float* query;
  float* head;
  float* gamma;  // [D] or null
  float* beta;
};

// A bias that is folded into the head brings a rank-one term to the head's gradient: r folded'. r: the bias gradient of
// the forecasting column (b_O), or of the value column of the same step (b_V, where W_V is folded).
enum class Folded { nothing, output_bias, value_bias };

// Finishes what the products left: bias gradients (value: r itself where b_V is folded), RevIN's scale and shift, and
// onto dWcat the rank-one terms ds_o (every column) and r folded'. The key bias has no gradient: it is not touched.
// Widths of zero: RevIN's and the loss alone. `slots` of the row
// sums are in use. Sums loss_parts [loss_blocks(R)][2], times the batch, into
// progress->squared_error[pass], absolute_error[pass].
void finish_gradients(const Gradients& gradients, Progress* progress, const float* column_parts, const float* row_sums,
                      int slots, const float* loss_parts, Folded folded, const float* folded_bias, int batch,
                      int channels, Widths widths, int look_back, int pass, Stream stream);

// ---- channel attention -------------------------------------------------------------------------------------------

// c [R][ldc] = softmax(Q K' / sqrt(key)) V over the D channels of each sample; lse [R]: row log-sum-exp.
void attention_forward(float* c, std::int64_t ldc, float* lse, const Projected& in, int batch, int channels,
                       Widths widths, Stream stream);

// The widest keys of these kernels, and of the next two.
constexpr int attention_widest_key = 64;

// dz [R][ld of in]: columns V, Q, K; row_sums as above (slots 1 and 2; null without affine).
void attention_backward(float* dz, float* row_sums, const float* dc, const float* c, std::int64_t ldc, const float* lse,
                        const Projected& in, int batch, int channels, Widths widths, Stream stream);

// The same on tensor cores (TF32 products, float32 softmax and sums): sm_80 and newer, for many channels.
bool attention_tf32_supports(Widths widths);
void attention_forward_tf32(float* c, std::int64_t ldc, float* lse, const Projected& in, int batch, int channels,
                            Widths widths, Stream stream);
void attention_backward_tf32(float* dz, float* row_sums, const float* dc, const float* c, std::int64_t ldc,
                             const float* lse, const Projected& in, int batch, int channels, Widths widths,
                             Stream stream);

// The same by products of whole samples, with D x D scores of each in memory: for wide values, and for keys of any
// width. The operands and probabilities of forward are backward's.
struct AttentionMemory {
  float* operands;
  float* probabilities;
  float* gradients;  // as large as probabilities; null: forward only
  struct Floats {
    std::int64_t operands, probabilities;
  };
  static Floats floats(std::int64_t batch, std::int64_t channels, Widths widths);
};
void attention_forward_products(Blas blas, const AttentionMemory& memory, float* c, std::int64_t ldc,
                                const Projected& in, int batch, int channels, Widths widths, Stream stream);
void attention_backward_products(Blas blas, const AttentionMemory& memory, float* dz, float* row_sums, const float* dc,
                                 std::int64_t ldc, const Projected& in, int batch, int channels, Widths widths,
                                 Stream stream);

// ---- loss --------------------------------------------------------------------------------------------------------

int loss_blocks(int rows);

struct LossInput {
  Projected in;        // the forecast's columns
  const float* mixed;  // [R][mixed_ld]: C G'; null: nothing to add (identity, random walk)
  std::int64_t mixed_ld;
  const float* stats;    // [N][channel_stride][2]
  const float* moments;  // [5][channel_stride]; read only where share > 0
  const float* series;
  const std::int32_t* starts;
  const Progress* progress;
  int batch, batch_stride, channels;
  std::int64_t series_length;
  int look_back;
  Widths widths;
  const float* channel_weight;  // [D], null: 1. Forecasting targets only: channels / targets, other channels 0
  float share;                  // of the batch's statistics, and how it rises with the step: kernels/loss.h, StatsMix
  float rise;                   // (1 - share) K^2; 0: the same share at every step
  float guard;                  // added to gamma in the inverse: 0, or eps^2 in the full-rank variant
};

// z = Z_F + mixed, q = (z - beta) / (gamma + guard), forecast q sigma + level against series[d][start + L + h].
// loss_parts [loss_blocks(R)][2]: sums of squared and absolute errors (absolute: with the window's own statistics),
// divided by R H. dz (null: evaluate only): [R][ldz] gradient of the mean squared error, already divided by R H.
// row_sums (slot 0; null without affine or gradient): both roles of gamma and beta, in the forecast's columns and in
// the inverse.
void loss(float* loss_parts, float* dz, std::int64_t ldz, float* row_sums, const LossInput& input, Stream stream);

// forecast [R][horizon] = q sigma + level, in standardised units.
void denormalise(float* forecast, const LossInput& input, Stream stream);

// sums [2][targets][horizon] += squared and absolute errors of forecast [R][horizon], in double, in a fixed order.
void error_sums(double* sums, const float* forecast, const float* series, const std::int32_t* starts,
                const std::int32_t* targets, int target_count, int batch, int channels, std::int64_t series_length,
                int look_back, int horizon, Stream stream);

// ---- operations of SAMformer's relatives ---------------------------------------------------------------------------
// Gradients accumulate (+=) where the comment says "adds"; a null residual or running average is left out. Matrices are
// dense.

enum class Activation { none, relu, gelu };

// Philox address of a mask (kernels/philox.h); the step is the one that progress counts. Rate 0: nothing is dropped.
struct Dropout {
  double rate = 0;
  std::uint64_t seed = 0;
  int pass = 0, site = 0;
  const Progress* progress = nullptr;
};

// y = residual + dropout(act(a + bias)); all [rows][columns], bias [columns].
void bias_activation(float* y, const float* a, const float* bias, const float* residual, std::int64_t rows, int columns,
                     Activation activation, const Dropout& dropout, Stream stream);
// da = act'(a + bias) dropout(dy).
void bias_activation_backward(float* da, const float* dy, const float* a, const float* bias, std::int64_t rows,
                              int columns, Activation activation, const Dropout& dropout, Stream stream);

// Adds the column sums of from [rows][ld] to `to` [columns]. parts: [column_sum_chunks][columns] of workspace.
constexpr int column_sum_chunks = 64;
void add_column_sums(float* to, float* parts, const float* from, std::int64_t ld, std::int64_t rows, int columns,
                     Stream stream);

// y [N][columns][rows] = add + from [N][rows][columns], each of N samples transposed; add: as y, y itself,
// or null.
void transpose(float* y, const float* from, const float* add, int samples, int rows, int columns, Stream stream);

// Batch norm of x [samples][positions] by kernels/normalise.h: mean, rstd [positions] of this batch, saved for
// backward. Running averages move by this batch (null, one sample, or a recorded bad pass: they stay).
void batch_norm(float* y, float* mean, float* rstd, float* running_mean, float* running_var, const Progress* progress,
                const float* x, const float* weight, const float* bias, int samples, int positions, Stream stream);
// The same by running averages: evaluation.
void batch_norm_running(float* y, const float* running_mean, const float* running_var, const float* x,
                        const float* weight, const float* bias, int samples, int positions, Stream stream);
// Adds to dx, dw, db.
void batch_norm_backward(float* dx, float* dw, float* db, const float* dy, const float* x, const float* mean,
                         const float* rstd, const float* weight, int samples, int positions, Stream stream);

// mean, rstd [samples]; parts [layer_norm_parts][2] of workspace, in backward with room for [samples][2] more.
std::int64_t layer_norm_parts(int samples, int positions);
void layer_norm(float* y, float* mean, float* rstd, float* parts, const float* x, const float* weight,
                const float* bias, int samples, int positions, Stream stream);
void layer_norm_backward(float* dx, float* dw, float* db, float* parts, const float* dy, const float* x,
                         const float* mean, const float* rstd, const float* weight, int samples, int positions,
                         Stream stream);

// sigma-reparam of several layers at once: scaled = gamma W / sigma with the singular vectors u [out], v [in] by
// kernels/spectral.h, in double. The smaller side of W is at most spectral_limit.
constexpr int spectral_limit = 64, spectral_most = 4;
struct SpectralLayer {
  const float* weight;  // [out][in]
  const float* gamma;   // one number
  float* scaled;
  float *sigma, *u, *v;
  int out, in;
};
void spectral_reparam(const SpectralLayer* layers, int count, Stream stream);
// Adds dW and dgamma from d_scaled [out][in], each of them one layer's.
struct SpectralGradient {
  float* weight;
  float* gamma;
  const float* scaled;
};
void spectral_reparam_backward(const SpectralGradient* gradients, const SpectralLayer* layers, int count,
                               Stream stream);

// ---- SAM and the optimisers ----------------------------------------------------------------------------------------

int norm_blocks(std::int64_t count);

// parts [norm_blocks][2] = sum of g^2 (adaptive: of (w g)^2); the second: bits of the int index of the block's first
// non-finite element, -1 for none. Once the record is filled every sum is NaN.
void gradient_norm(float* parts, const Progress* progress, const float* gradients, const float* weights,
                   std::int64_t count, bool adaptive, Stream stream);

// saved = w; w += rho g / (norm + 1e-12), adaptive: rho w^2 g / (norm + 1e-12). Nothing but the copy when the norm is
// not finite; fills the record.
void perturb(float* weights, float* saved, Progress* progress, const Hyper* hyper, const float* parts,
             const float* gradients, std::int64_t count, bool adaptive, Stream stream);

enum class Rule { sgd, adam, adam_keras, adamw, adamw_keras };

// From w = saved (null: w itself, one pass a step without SAM): the optimiser's step, its moments and the averaged
// weights (null: none). A non-finite norm restores w, fills the record and changes nothing else. Ends the step:
// ++progress->batch.
void update(float* weights, float* m, float* v, float* average, Progress* progress, const Hyper* hyper,
            const float* parts, const float* saved, const float* gradients, std::int64_t count, Rule rule, int pass,
            Stream stream);

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::kernels::gpu
