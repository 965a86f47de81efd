// Around the projection P = xhat Wcat' and its backward product; kernels/projection.h has the formulas.
#include "kernels/cuda/blocks.h"
#include "kernels/projection.h"

namespace samformer::kernels {
namespace {
using namespace simt;

constexpr int chunk = 1024;  // columns of the output bias kept in shared memory at a time
constexpr int max_chunks = 64;

struct WeightArguments {
  In<float> value_weight, value_bias, weight, bias, folded_bias;
  int values, columns, head, look_back;
};
WeightArguments arguments_of(const ProjectionWeights& w) {
  WeightArguments a;
  a.value_weight = w.value_weight, a.value_bias = w.value_bias, a.weight = w.weight, a.bias = w.bias;
  a.folded_bias = w.folded_bias, a.values = static_cast<int>(w.values), a.columns = static_cast<int>(w.columns());
  a.head = static_cast<int>(w.head), a.look_back = static_cast<int>(w.L);
  return a;
}

// Eight rows a block, one a warp. The output bias is fetched once a block.
__global__ void __launch_bounds__(256)
    weight_sums_kernel(Out<float> s, Out<float> b, WeightArguments a, bool output_bias) {
  SIMT_SHARED(float, output, chunk);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, columns = a.columns, look_back = a.look_back;
  const int o = static_cast<int>(blockIdx.x) * 8 + warp;
  const bool folding = output_bias && static_cast<int>(blockIdx.x) * 8 + 7 >= a.head;
  const In<float> weights = o < a.values ? a.value_weight + static_cast<std::int64_t>(o) * look_back
                                         : a.weight + static_cast<std::int64_t>(o - a.values) * look_back;
  float sum = 0, folded = 0;
  for (int begin = 0; begin < look_back; begin += chunk) {
    const int end = begin + chunk < look_back ? begin + chunk : look_back;
    if (folding) {
      __syncthreads();
      for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += 256) output[i - begin] = a.folded_bias[i];
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
  if (o >= columns || lane != 0) return;
  const In<float> bias = o < a.values ? a.value_bias : a.bias;
  const float own = bias ? static_cast<float>(bias[o < a.values ? o : o - a.values]) : 0.0f;
  s[o] = sum, b[o] = own + (o >= a.head ? folded : 0.0f);
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
  Out<float> value_weight, value_bias, weight, bias, head_bias, gamma, beta;
};
struct FinishSizes {
  int batch, channels, chunks, row_sum_parts, skip_begin, skip_end;
  bool affine;
  FoldedBias folded;
};

// Blocks by role: eight rows of Wcat each; eight channels each.
__global__ void __launch_bounds__(256) finish_gradients_kernel(GradientArguments out, WeightArguments a,
                                                               In<float> parts, In<float> row_sums, FinishSizes sizes) {
  SIMT_SHARED(float, scratch, 2 * 64);
  SIMT_SHARED(float, sums, 16);
  SIMT_SHARED(float, output, chunk);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int columns = a.columns, weight_blocks = (columns + 7) / 8, look_back = a.look_back;
  const int block = static_cast<int>(blockIdx.x);
  float v[2] = {};
  if (block >= weight_blocks) {
    const int d = (block - weight_blocks) * 8 + static_cast<int>(threadIdx.x & 7u),
              stride = channel_stride(sizes.channels);
    const std::int64_t plane = static_cast<std::int64_t>(sizes.batch) * stride;
    if (d < sizes.channels) {
      for (int n = threadIdx.x >> 3; n < sizes.batch; n += 32) {
        for (int slot = 0; slot < sizes.row_sum_parts; ++slot) {
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
  const int o = block * 8 + warp;
  const float bias_gradient = sums[warp], every_column = sizes.affine ? static_cast<float>(sums[8 + warp]) : 0.0f;
  if (lane == 0 && o < columns) {
    const float own = o >= sizes.skip_begin && o < sizes.skip_end ? 0.0f : bias_gradient;
    if (o < a.values) {
      if (out.value_bias) out.value_bias[o] = own;
    } else if (out.bias) {
      out.bias[o - a.values] = own;
    }
    if (out.head_bias && o >= a.head) out.head_bias[o - a.head] = own;
  }
  const bool folding = sizes.folded != FoldedBias::none && block * 8 + 7 >= a.head;
  if (!sizes.affine && !folding) return;
  float r = o >= a.head && o < columns ? bias_gradient : 0.0f;
  if (folding && sizes.folded == FoldedBias::value && o >= a.head && o < columns) {
    r = 0;
    for (int c = lane; c < sizes.chunks; c += 32) r += parts[(static_cast<std::int64_t>(c) * 2) * columns + o - a.head];
    r = warp_sum(r);
  }
  const Out<float> weights = o < a.values ? out.value_weight + static_cast<std::int64_t>(o) * look_back
                                          : out.weight + static_cast<std::int64_t>(o - a.values) * look_back;
  const bool wanted = static_cast<bool>(o < a.values ? out.value_weight : out.weight);
  for (int begin = 0; begin < look_back; begin += chunk) {
    const int end = begin + chunk < look_back ? begin + chunk : look_back;
    if (folding) {
      __syncthreads();
      for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += 256) output[i - begin] = a.folded_bias[i];
      __syncthreads();
    }
    if (o < columns && wanted) {
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

void weight_sums(const Cuda& on, float* s, float* b, const ProjectionWeights& w) {
  launch(on, "weight_sums", weight_sums_kernel, grid_of(w.columns(), 8), s, b, arguments_of(w),
         w.folded == FoldedBias::output);
}

std::int64_t projection_parts(const Cuda&, std::int64_t R, std::int64_t O) {
  return 2 * grid_of(R, rows_per_chunk(static_cast<int>(R))).x * O;
}

void projection_backward(const Cuda& on, float* dp, float* parts, const float* dz, std::int64_t ld, const float* gamma,
                         const float* beta, std::int64_t N, std::int64_t D, std::int64_t O) {
  const int rows = static_cast<int>(N * D);
  launch(on, "projection_backward", projection_backward_kernel,
         dim3{static_cast<unsigned>((O + 31) / 32), grid_of(rows, rows_per_chunk(rows)).x, 1}, dp, parts, dz, ld, gamma,
         beta, rows, rows_per_chunk(rows), static_cast<int>(D), static_cast<int>(O));
}

void finish_gradients(const Cuda& on, const ProjectionGradients& g, const ProjectionWeights& w, const float* parts,
                      bool affine, std::int64_t N, std::int64_t D) {
  GradientArguments out;
  out.value_weight = g.value_weight, out.value_bias = g.value_bias, out.weight = g.weight, out.bias = g.bias;
  out.head_bias = g.head_bias, out.gamma = g.gamma, out.beta = g.beta;
  const int rows = static_cast<int>(N * D);
  const FinishSizes sizes{static_cast<int>(N),
                          static_cast<int>(D),
                          static_cast<int>(grid_of(rows, rows_per_chunk(rows)).x),
                          g.row_sum_parts,
                          static_cast<int>(w.skip_begin),
                          static_cast<int>(w.skip_end),
                          affine,
                          w.folded};
  const unsigned blocks = grid_of(w.columns(), 8).x + (g.gamma != nullptr ? grid_of(D, 8).x : 0);
  launch(on, "finish_gradients", finish_gradients_kernel, dim3{blocks, 1, 1}, out, arguments_of(w), parts, g.row_sums,
         sizes);
}

void affine_gradients(const Cuda& on, float* dgamma, float* dbeta, const float* row_sums, int parts, std::int64_t N,
                      std::int64_t D) {
  ProjectionGradients g;
  g.gamma = dgamma, g.beta = dbeta, g.row_sums = row_sums, g.row_sum_parts = parts;
  finish_gradients(on, g, {}, nullptr, false, N, D);
}

}  // namespace samformer::kernels
