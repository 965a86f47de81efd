// Around the projection P = xhat Wcat' and its backward product; kernels/gpu.h has the formulas.
#include "kernels/cuda/blocks.h"
#include "kernels/gpu.h"

namespace samformer::kernels::gpu {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {
using namespace simt;

constexpr int chunk = 1024;  // columns of the output bias kept in shared memory at a time
constexpr int max_chunks = 64;

struct BiasArguments {
  In<float> value, query, key, output, head;
};

// Eight rows a block, one a warp. The output bias is fetched once a block.
__global__ void __launch_bounds__(256)
    weight_sums_kernel(Out<float> s, Out<float> b, In<float> value_rows, In<float> other_rows, BiasArguments bias,
                       Widths widths, int look_back) {
  SIMT_SHARED(float, output, chunk);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int columns = widths.columns(), first_head = widths.first_head();
  const int o = static_cast<int>(blockIdx.x) * 8 + warp;
  const bool folding = bias.output && static_cast<int>(blockIdx.x) * 8 + 7 >= first_head;
  const In<float> weights = o < widths.value ? value_rows + static_cast<std::int64_t>(o) * look_back
                                             : other_rows + static_cast<std::int64_t>(o - widths.value) * look_back;
  float sum = 0, folded = 0;
  for (int begin = 0; begin < look_back; begin += chunk) {
    const int end = begin + chunk < look_back ? begin + chunk : look_back;
    if (folding) {
      __syncthreads();
      for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += 256) output[i - begin] = bias.output[i];
      __syncthreads();
    }
    if (o < columns) {
      for (int i = begin + 4 * lane; i < end; i += 128) {
        float w[4];
        load_slice<4>(w, weights + i, end - i);
        sum += (w[0] + w[1]) + (w[2] + w[3]);
        if (folding) {
          float x[4];
          load_slice<4>(x, output + (i - begin), end - i);
          folded += (w[0] * x[0] + w[1] * x[1]) + (w[2] * x[2] + w[3] * x[3]);
        }
      }
    }
  }
  sum = warp_sum(sum);
  folded = warp_sum(folded);
  In<float> own_bias = bias.head;
  int index = o - first_head;
  if (o < widths.value) {
    own_bias = bias.value, index = o;
  } else if (o < widths.first_key()) {
    own_bias = bias.query, index = o - widths.first_query();
  } else if (o < first_head) {
    own_bias = bias.key, index = o - widths.first_key();
  }
  if (o >= columns) return;
  const float own = own_bias ? static_cast<float>(own_bias[index]) : 0.0f;
  if (lane == 0) s[o] = sum, b[o] = own + (o >= first_head ? folded : 0.0f);
}

int rows_per_chunk(int rows) {
  const int groups = (rows + 31) / 32;
  return (groups + max_chunks - 1) / max_chunks * 32;
}

// A block has 32 columns, four a thread, and a chunk of rows, every 32nd a thread.
__global__ void __launch_bounds__(256)
    projection_backward_kernel(Out<float> dp, Out<float> parts, In<float> dz, std::int64_t ld, In<float> gamma,
                               In<float> beta, int rows, int chunk_rows, int channels, int columns) {
  SIMT_SHARED(float, scratch, 8 * 64);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int o = static_cast<int>(blockIdx.x) * 32 + 4 * (lane & 7), left = columns - o;
  const int begin = static_cast<int>(blockIdx.y) * chunk_rows;
  const int end = begin + chunk_rows < rows ? begin + chunk_rows : rows;
  float sum[4] = {}, weighted[4] = {};
  if (left > 0) {
    for (int r = begin + warp * 4 + (lane >> 3); r < end; r += 32) {
      float v[4];
      const std::int64_t at = r * ld + o;
      load_slice(v, dz + at, left);
      const float scale = gamma ? static_cast<float>(gamma[r % channels]) : 1.0f;
      const float shift = gamma ? static_cast<float>(beta[r % channels]) : 0.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += v[i], weighted[i] += shift * v[i], v[i] *= scale;
      if (gamma) store_slice(dp + at, v, left);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int step = 8; step < 32; step *= 2) {
      sum[i] += __shfl_xor_sync(all_lanes, sum[i], step);
      weighted[i] += __shfl_xor_sync(all_lanes, weighted[i], step);
    }
  }
  if (lane < 8) {
    store4_shared(scratch + (warp * 64 + 4 * lane), make_float4(sum[0], sum[1], sum[2], sum[3]));
    store4_shared(scratch + (warp * 64 + 32 + 4 * lane),
                  make_float4(weighted[0], weighted[1], weighted[2], weighted[3]));
  }
  __syncthreads();
  const int column = static_cast<int>(blockIdx.x) * 32 + lane;
  if (warp < 2 && column < columns) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) total += scratch[i * 64 + warp * 32 + lane];
    parts[(static_cast<std::int64_t>(blockIdx.y) * 2 + warp) * columns + column] = total;
  }
}

struct GradientArguments {
  Out<float> value_rows, other_rows, value, query, head, gamma, beta;
};
struct FinishSizes {
  int batch, channels, look_back, pass, chunks, loss_parts, slots;
  Widths widths;
  Folded folded;
};

// Blocks by role: eight rows of Wcat each; eight channels each; one for the loss.
__global__ void __launch_bounds__(256)
    finish_gradients_kernel(GradientArguments out, Progress* progress, In<float> parts, In<float> row_sums,
                            In<float> loss_parts, In<float> folded_bias, FinishSizes sizes) {
  SIMT_SHARED(float, scratch, 2 * 64);
  SIMT_SHARED(float, sums, 16);
  SIMT_SHARED(float, output, chunk);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int columns = sizes.widths.columns(), weight_blocks = (columns + 7) / 8;
  const bool affine = static_cast<bool>(out.gamma);
  const int channel_blocks = affine ? (sizes.channels + 7) / 8 : 0;
  const int block = static_cast<int>(blockIdx.x);
  if (block >= weight_blocks + channel_blocks) {
    float squared = 0, absolute = 0;
    for (int i = threadIdx.x; i < sizes.loss_parts; i += 256) {
      const float2 part = load2(loss_parts + 2 * i);
      squared += part.x;
      absolute += part.y;
    }
    squared = block_sum(squared, scratch);
    absolute = block_sum(absolute, scratch);
    if (threadIdx.x == 0) {
      progress->squared_error[sizes.pass] += static_cast<double>(squared) * sizes.batch;
      progress->absolute_error[sizes.pass] += static_cast<double>(absolute) * sizes.batch;
    }
    return;
  }
  float v[2] = {};
  if (block >= weight_blocks) {
    const int d = (block - weight_blocks) * 8 + static_cast<int>(threadIdx.x & 7u),
              stride = channel_stride(sizes.channels);
    const std::int64_t plane = static_cast<std::int64_t>(sizes.batch) * stride;
    if (d < sizes.channels) {
      for (int n = threadIdx.x >> 3; n < sizes.batch; n += 32) {
        for (int slot = 0; slot < sizes.slots; ++slot) {
          const std::int64_t at = 2 * slot * plane + static_cast<std::int64_t>(n) * stride + d;
          v[0] += row_sums[at];
          v[1] += row_sums[plane + at];
        }
      }
    }
    const float total = column_sums(v, scratch);
    if (threadIdx.x < 8 && d < sizes.channels) out.gamma[d] = total;
    if (threadIdx.x >= 8 && threadIdx.x < 16 && d < sizes.channels) out.beta[d] = total;
    return;
  }
  {
    const int o = block * 8 + static_cast<int>(threadIdx.x & 7u);
    for (int c = threadIdx.x >> 3; c < sizes.chunks; c += 32) {
      if (o >= columns) break;
      v[0] += parts[(static_cast<std::int64_t>(c) * 2) * columns + o];
      v[1] += parts[(static_cast<std::int64_t>(c) * 2 + 1) * columns + o];
    }
    const float total = column_sums(v, scratch);
    if (threadIdx.x < 16) sums[threadIdx.x] = total;
    __syncthreads();
  }
  const Widths widths = sizes.widths;
  const int o = block * 8 + warp, first_head = widths.first_head();
  const float bias_gradient = sums[warp], every_column = affine ? static_cast<float>(sums[8 + warp]) : 0.0f;
  if (lane == 0 && o < columns) {
    if (o < widths.value) {
      if (out.value) out.value[o] = bias_gradient;
    } else if (o < widths.first_key()) {
      if (out.query) out.query[o - widths.first_query()] = bias_gradient;
    } else if (o >= first_head) {
      if (out.head) out.head[o - first_head] = bias_gradient;
    }
  }
  const bool folding = sizes.folded != Folded::nothing && block * 8 + 7 >= first_head;
  if (!affine && !folding) return;
  float r = o >= first_head && o < columns ? bias_gradient : 0.0f;
  if (folding && sizes.folded == Folded::value_bias && o >= first_head && o < columns) {
    r = 0;
    for (int c = lane; c < sizes.chunks; c += 32)
      r += parts[(static_cast<std::int64_t>(c) * 2) * columns + o - first_head];
    r = warp_sum(r);
  }
  const Out<float> weights = o < widths.value
                                 ? out.value_rows + static_cast<std::int64_t>(o) * sizes.look_back
                                 : out.other_rows + static_cast<std::int64_t>(o - widths.value) * sizes.look_back;
  for (int begin = 0; begin < sizes.look_back; begin += chunk) {
    const int end = begin + chunk < sizes.look_back ? begin + chunk : sizes.look_back;
    if (folding) {
      __syncthreads();
      for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += 256) output[i - begin] = folded_bias[i];
      __syncthreads();
    }
    if (o < columns) {
      for (int i = begin + 4 * lane; i < end; i += 128) {
        float w[4], x[4] = {};
        const Out<float> at = weights + i;
        load_slice<4>(w, at, end - i);
        if (folding) load_slice<4>(x, output + (i - begin), end - i);
#pragma unroll
        for (int k = 0; k < 4; ++k) w[k] += every_column + r * x[k];
        store_slice(at, w, end - i);
      }
    }
  }
}

}  // namespace

void weight_sums(float* s, float* b, const WeightRows& weights, const Biases& biases, Widths widths, int look_back,
                 Stream stream) {
  BiasArguments bias;
  bias.value = biases.value, bias.query = biases.query, bias.key = biases.key, bias.output = biases.output;
  bias.head = biases.head;
  launch("weight_sums", weight_sums_kernel, dim3{static_cast<unsigned>((widths.columns() + 7) / 8), 1, 1},
         dim3{256, 1, 1}, 0, static_cast<simt::Stream>(stream), s, b, weights.value, weights.rest, bias, widths,
         look_back);
}

int projection_chunks(int rows) { return (rows + rows_per_chunk(rows) - 1) / rows_per_chunk(rows); }

void projection_backward(float* dp, float* column_parts, const float* dz, std::int64_t ld, const float* gamma,
                         const float* beta, int batch, int channels, int columns, Stream stream) {
  const int rows = batch * channels;
  launch("projection_backward", projection_backward_kernel,
         dim3{static_cast<unsigned>((columns + 31) / 32), static_cast<unsigned>(projection_chunks(rows)), 1},
         dim3{256, 1, 1}, 0, static_cast<simt::Stream>(stream), dp, column_parts, dz, ld, gamma, beta, rows,
         rows_per_chunk(rows), channels, columns);
}

void finish_gradients(const Gradients& gradients, Progress* progress, const float* column_parts, const float* row_sums,
                      int slots, const float* loss_parts, Folded folded, const float* folded_bias, int batch,
                      int channels, Widths widths, int look_back, int pass, Stream stream) {
  GradientArguments out;
  out.value_rows = gradients.value_rows, out.other_rows = gradients.other_rows, out.value = gradients.value;
  out.query = gradients.query, out.head = gradients.head, out.gamma = gradients.gamma, out.beta = gradients.beta;
  const int rows = batch * channels;
  const FinishSizes sizes{batch, channels, look_back, pass, projection_chunks(rows), loss_blocks(rows),
                          slots, widths,   folded};
  const int blocks = (widths.columns() + 7) / 8 + (gradients.gamma ? (channels + 7) / 8 : 0) + 1;
  launch("finish_gradients", finish_gradients_kernel, dim3{static_cast<unsigned>(blocks), 1, 1}, dim3{256, 1, 1}, 0,
         static_cast<simt::Stream>(stream), out, progress, column_parts, row_sums, loss_parts, folded_bias, sizes);
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::kernels::gpu
