// Channel attention by products, for values too wide or keys too wide for attention.cu: the D x D scores of each sample
// in memory, softmax between two batched products. kernels/attention.h has the formulas.
//
//   forward    S = Q K';  A = softmax(S / sqrt(key)) in its place;  C = A V
//   backward   dV = A' dC;  dA = dC V';  dS = A (dA - sum_j A dA) / sqrt(key) in its place;  dQ = dS K;  dK = dS' Q
//
// A row of scores is a warp's, read twice: from the first-level cache the second time.
#include <cmath>

#include "kernels/cuda/attention_blocks.h"

namespace samformer::kernels {
namespace {
using namespace attention_kernels;

constexpr int rows_per_block = 8;

// operands [R][stride] = gamma_d p + (beta_d s + b); four columns a thread.
__global__ void __launch_bounds__(256)
    attention_operands_kernel(Out<float> operands, In<float> p, In<float> gamma, In<float> beta, In<float> s,
                              In<float> b, std::int64_t ld, std::int64_t rows, int channels, int columns, int stride) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  const int quads = stride / 4, column = static_cast<int>(i % quads) * 4, valid = columns - column;
  const std::int64_t r = i / quads;
  if (r >= rows) return;
  const std::int64_t d = r % channels;
  float x[4], shift[4] = {}, sums[4] = {};
  load_slice(x, p + (r * ld + column), valid);
  if (b) load_slice(shift, b + column, valid);
  const float scale = gamma ? static_cast<float>(gamma[d]) : 1.0f;
  if (gamma) load_slice(sums, s + column, valid);
  const float level = gamma ? static_cast<float>(beta[d]) : 0.0f;
#pragma unroll
  for (int k = 0; k < 4; ++k) x[k] = scale * x[k] + (level * sums[k] + shift[k]);
  store_slice(operands + (r * stride + column), x, 4);
}

SIMT_DEVICE float highest_of(const float (&x)[4], int valid) {
  float highest = x[0];
#pragma unroll
  for (int k = 1; k < 4; ++k) highest = k < valid ? fmaxf(highest, x[k]) : highest;
  return highest;
}

// Softmax of scale a over each row, in place, and its log-sum-exp.
__global__ void __launch_bounds__(256)
    attention_softmax_kernel(Out<float> a, Out<float> lse, std::int64_t rows, int columns, int stride, float scale) {
  const int lane = threadIdx.x & 31;
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * rows_per_block + (threadIdx.x >> 5);
  if (r >= rows) return;
  const Pointer<float> row = a + r * stride;
  const float base_2 = scale * log2_e;
  // Of this lane's elements: the maximum, and the sum relative to it.
  float maximum = -1e30f, total = 0;
  for (int j = 4 * lane; j < columns; j += 128) {
    float x[4];
    load_slice(x, row + j, columns - j);
    const float next = fmaxf(maximum, base_2 * highest_of(x, columns - j));
    total *= power_of_two(maximum - next);
#pragma unroll
    for (int k = 0; k < 4; ++k) total += j + k < columns ? power_of_two(base_2 * x[k] - next) : 0.0f;
    maximum = next;
  }
  float highest = maximum;
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, step));
  const float sum = warp_sum(total * power_of_two(maximum - highest)), inverse = 1.0f / sum;
  if (lane == 0) lse[r] = ln_2 * (highest + log2f(sum));
  for (int j = 4 * lane; j < columns; j += 128) {
    float x[4];
    load_slice(x, row + j, columns - j);
#pragma unroll
    for (int k = 0; k < 4; ++k) x[k] = power_of_two(base_2 * x[k] - highest) * inverse;
    store_slice(row + j, x, columns - j);
  }
}

// da = scale a (da - sum of a da) over each row, in place.
__global__ void __launch_bounds__(256) attention_softmax_backward_kernel(Out<float> da, In<float> a, std::int64_t rows,
                                                                         int columns, int stride, float scale) {
  const int lane = threadIdx.x & 31;
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * rows_per_block + (threadIdx.x >> 5);
  if (r >= rows) return;
  const Pointer<float> gradient = da + r * stride;
  const Pointer<const float> row = a + r * stride;
  float sum = 0;
  for (int j = 4 * lane; j < columns; j += 128) {
    float x[4], g[4];
    load_slice(x, row + j, columns - j);
    load_slice(g, gradient + j, columns - j);
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += x[k] * g[k];
  }
  sum = warp_sum(sum);
  for (int j = 4 * lane; j < columns; j += 128) {
    float x[4], g[4];
    load_slice(x, row + j, columns - j);
    load_slice(g, gradient + j, columns - j);
#pragma unroll
    for (int k = 0; k < 4; ++k) g[k] = scale * x[k] * (g[k] - sum);
    store_slice(gradient + j, g, columns - j);
  }
}

// Row sums of dz p and of dz s: a part over the queries, one over the keys and values.
__global__ void __launch_bounds__(256)
    attention_row_sums_kernel(Out<float> row_sums, In<float> dz, In<float> p, In<float> s, std::int64_t ld,
                              std::int64_t rows, int channels, int value, int key) {
  const int lane = threadIdx.x & 31;
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * rows_per_block + (threadIdx.x >> 5);
  if (r >= rows) return;
  float queries[2] = {}, others[2] = {};
  const int columns = value + 2 * key;
  for (int j = 4 * lane; j < columns; j += 128) {
    float g[4], x[4], sums[4];
    load_slice(g, dz + (r * ld + j), columns - j);
    load_slice(x, p + (r * ld + j), columns - j);
    load_slice(sums, s + j, columns - j);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const bool query = j + k >= value && j + k < value + key;
      queries[0] += query ? g[k] * x[k] : 0.0f;
      queries[1] += query ? g[k] * sums[k] : 0.0f;
      others[0] += query ? 0.0f : g[k] * x[k];
      others[1] += query ? 0.0f : g[k] * sums[k];
    }
  }
  const std::int64_t stride = channel_stride(channels), plane = rows / channels * stride;
  const std::int64_t at = r / channels * stride + r % channels;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float of_queries = warp_sum(queries[k]), of_others = warp_sum(others[k]);
    if (lane == 0) row_sums[k * plane + at] = of_queries, row_sums[(2 + k) * plane + at] = of_others;
  }
}

constexpr int in_quads(int columns) { return (columns + 3) & ~3; }

// Where the operands and the scores of a sample lie.
struct Samples {
  int N, D, value, key;
  int stride, scores;  // of a row of operands, of scores
  float scale;
  const float *V, *Q, *K;

  Samples(const float* operands, AttentionShape a)
      : N(static_cast<int>(a.N)),
        D(static_cast<int>(a.D)),
        value(static_cast<int>(a.d_v)),
        key(static_cast<int>(a.d_m)),
        stride(in_quads(value + 2 * key)),
        scores(in_quads(D)),
        scale(1.0f / std::sqrt(static_cast<float>(key))),
        V(operands),
        Q(operands + value),
        K(operands + value + key) {}
  // C = op(A) op(B) of every sample; strides of rows, each sample has D of them.
  Product product(bool transpose_a, bool transpose_b, int columns, int inner, const float* A, std::int64_t lda,
                  const float* B, std::int64_t ldb, float* C, std::int64_t ldc) const {
    Product p{transpose_a, transpose_b, D, columns, inner, A, lda, B, ldb, C, ldc};
    p.samples = N, p.stride_a = D * lda, p.stride_b = D * ldb, p.stride_c = D * ldc;
    return p;
  }
  std::int64_t rows() const { return static_cast<std::int64_t>(N) * D; }
  dim3 blocks() const { return grid_of(rows(), rows_per_block); }
};

}  // namespace

namespace attention_kernels {

std::int64_t operands_size(AttentionShape a) { return a.N * a.D * in_quads(static_cast<int>(a.d_v + 2 * a.d_m)); }
std::int64_t probabilities_size(AttentionShape a) { return a.N * a.D * in_quads(static_cast<int>(a.D)); }

void forward_by_products(const Cuda& on, float* c, std::int64_t ldc, float* lse, const Projected<float>& in,
                         AttentionShape a, float* saved) {
  float *const operands = saved, *const probabilities = saved + operands_size(a);
  const Samples z(operands, a);
  launch(on, "attention_operands", attention_operands_kernel, grid_of(z.rows() * (z.stride / 4), 256), operands, in.p,
         in.gamma, in.beta, in.s, in.b, in.ld, z.rows(), z.D, z.value + 2 * z.key, z.stride);
  product(on, z.product(false, true, z.D, z.key, z.Q, z.stride, z.K, z.stride, probabilities, z.scores));
  launch(on, "attention_softmax", attention_softmax_kernel, z.blocks(), probabilities, lse, z.rows(), z.D, z.scores,
         z.scale);
  product(on, z.product(false, false, z.value, z.D, probabilities, z.scores, z.V, z.stride, c, ldc));
}

void backward_by_products(const Cuda& on, const BackwardPointers& b, const Projected<float>& in, AttentionShape a,
                          const float* saved, float* scratch) {
  const float* const probabilities = saved + operands_size(a);
  const Samples z(saved, a);
  float *const dq = b.dz + z.value, *const dk = dq + z.key, *const ds = scratch;
  product(on, z.product(true, false, z.value, z.D, probabilities, z.scores, b.dc, b.lddc, b.dz, in.ld));
  product(on, z.product(false, true, z.D, z.value, b.dc, b.lddc, z.V, z.stride, ds, z.scores));
  launch(on, "attention_softmax_backward", attention_softmax_backward_kernel, z.blocks(), ds, probabilities, z.rows(),
         z.D, z.scores, z.scale);
  product(on, z.product(false, false, z.key, z.D, ds, z.scores, z.K, z.stride, dq, in.ld));
  product(on, z.product(true, false, z.key, z.D, ds, z.scores, z.Q, z.stride, dk, in.ld));
  if (b.row_sums == nullptr) return;
  launch(on, "attention_row_sums", attention_row_sums_kernel, z.blocks(), b.row_sums, b.dz, in.p, in.s, in.ld, z.rows(),
         z.D, z.value, z.key);
}

}  // namespace attention_kernels
}  // namespace samformer::kernels
