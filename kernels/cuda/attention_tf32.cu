// Channel attention on tensor cores (mma.m16n8k8, TF32 products, float32 softmax and sums), sm_80 and newer.
//
// A warp has 16 rows ("own": queries; or keys, for their gradients) as operand A and walks over the other side, eight
// rows at a time, as operand B from shared memory. A result fragment holds columns 2 t and 2 t + 1 of thread t, an
// operand A columns t and t + 4; since a contraction may take its index in any order, the probabilities are used as
// operand A where they are, and operand B is read in the order 2 t, 2 t + 1: nothing is shuffled. Rows lie 4 words
// apart modulo 32, so that no two lanes meet in a bank, in either order. Roles, staging and recomputation are those of
// attention.cu.
#include "kernels/cuda/attention_blocks.h"

namespace samformer::kernels {
namespace {
using namespace attention_kernels;

constexpr int own_rows = 16;

// Where a lane's numbers are: rows `first` and first + 8 of its item.
struct Rows {
  int n, local, first;
  bool exists;
  SIMT_DEVICE Rows(const AttentionArguments& a, int index, int lane) {
    local = index / a.items_per_part;
    n = static_cast<int>(blockIdx.x) * a.samples_per_block + local;
    const int item = static_cast<int>(blockIdx.y) * a.items_per_part + index - local * a.items_per_part;
    first = item * own_rows + (lane >> 2);
    exists = local < a.samples_per_block && n < a.batch && item * own_rows < a.channels;
  }
};

// The item's rows as operand A: W columns, eight a product; scaled, rounded to TF32.
template <int W>
SIMT_DEVICE void load_own(std::uint32_t (&fragments)[W / 8][4], const Source& from, const AttentionArguments& a,
                          const Rows& rows, float scale) {
  const int t = threadIdx.x & 3;
#pragma unroll
  for (int k = 0; k < W / 8; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int d = rows.first + 8 * (i & 1), column = 8 * k + t + 4 * (i >> 1);
      float folded[1], stored[1];
      load_columns(folded, stored, from, a, column, static_cast<std::int64_t>(rows.n) * a.channels + d, d,
                   d < a.channels && column < from.width);
      fragments[k][i] = round_tf32((from.affine ? folded[0] : stored[0]) * scale);
    }
  }
}

// result += own x (eight staged rows)': the contraction runs over columns.
template <int W>
SIMT_DEVICE void multiply_rows(float (&result)[4], const std::uint32_t (&own)[W / 8][4], Pointer<const float> rows) {
  const int t = threadIdx.x & 3, g = (threadIdx.x & 31) >> 2;
#pragma unroll
  for (int k = 0; k < W / 8; ++k) {
    const Pointer<const float> at = rows + (g * row_stride(W) + 8 * k + t);
    const std::uint32_t b[2] = {round_tf32(at[0]), round_tf32(at[4])};
    mma_tf32(result, own[k], b);
  }
}

// sums += weights x (eight staged rows): the contraction runs over the rows, in the order of a result fragment.
template <int W>
SIMT_DEVICE void accumulate_rows(float (&sums)[W / 8][4], const float (&weights)[4], Pointer<const float> rows) {
  const int t = threadIdx.x & 3, g = (threadIdx.x & 31) >> 2;
  const std::uint32_t w[4] = {round_tf32(weights[0]), round_tf32(weights[2]), round_tf32(weights[1]),
                              round_tf32(weights[3])};
#pragma unroll
  for (int k = 0; k < W / 8; ++k) {
    const Pointer<const float> at = rows + (2 * t * row_stride(W) + 8 * k + g);
    const std::uint32_t b[2] = {round_tf32(at[0]), round_tf32(at[row_stride(W)])};
    mma_tf32(sums[k], w, b);
  }
}

SIMT_DEVICE float max_of_four(float v) {
  v = fmaxf(v, __shfl_xor_sync(all_lanes, v, 1));
  return fmaxf(v, __shfl_xor_sync(all_lanes, v, 2));
}
SIMT_DEVICE float sum_of_four(float v) {
  v += __shfl_xor_sync(all_lanes, v, 1);
  return v + __shfl_xor_sync(all_lanes, v, 2);
}

template <int W, int V>
__global__ void __launch_bounds__(256, 2)
    attention_forward_tf32_kernel(Out<float> c, std::int64_t ldc, Out<float> lse, AttentionArguments a) {
  SIMT_DYNAMIC_SHARED(shared);
  const Pointer<float> keys = shared, values = shared + a.samples_per_block * a.tile * row_stride(W);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = static_cast<int>(blockDim.x >> 5), t = lane & 3;
  const int first_sample = static_cast<int>(blockIdx.x) * a.samples_per_block;
  const Source value = projected(a, 0, a.value), query = projected(a, a.value, a.key);
  const Source key = projected(a, a.value + a.key, a.key);
  const int items = a.samples_per_block * a.items_per_part;
  for (int round = 0; round < items; round += warps) {
    const Rows rows(a, round + warp, lane);
    std::uint32_t q[W / 8][4];
    float sums[V / 8][4] = {}, maximum[2] = {-1e30f, -1e30f}, total[2] = {};
    if (rows.exists) load_own<W>(q, query, a, rows, a.scale * log2_e);
    for (int tile = 0; tile < a.tiles; ++tile) {
      if (a.tiles > 1 || round == 0) {
        __syncthreads();
        stage<W>(keys, key, a, 0, first_sample, tile);
        stage<V>(values, value, a, 0, first_sample, tile);
        __syncthreads();
      }
      if (!rows.exists) continue;
      const int left = a.channels - tile * a.tile, valid = left < a.tile ? left : a.tile;
#pragma unroll 1
      for (int j = 0; j < valid; j += 8) {
        const int at = rows.local * a.tile + j;
        float p[4] = {};
        multiply_rows<W>(p, q, keys + at * row_stride(W));
        if (j + 2 * t >= valid) p[0] = p[2] = -1e30f;
        if (j + 2 * t + 1 >= valid) p[1] = p[3] = -1e30f;
        const float high0 = fmaxf(p[0], p[1]), high1 = fmaxf(p[2], p[3]);
        // As in attention.cu: rescaling waits for a score 2^8 above the running maximum.
        if (__any_sync(all_lanes, high0 > maximum[0] + 8.0f || high1 > maximum[1] + 8.0f)) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float next = fmaxf(maximum[r], max_of_four(r == 0 ? high0 : high1));
            const float shrink = power_of_two(maximum[r] - next);
            maximum[r] = next;
            total[r] *= shrink;
#pragma unroll
            for (int k = 0; k < V / 8; ++k) sums[k][2 * r] *= shrink, sums[k][2 * r + 1] *= shrink;
          }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) p[i] = j + 2 * t + (i & 1) < valid ? power_of_two(p[i] - maximum[i >> 1]) : 0.0f;
        total[0] += p[0] + p[1];
        total[1] += p[2] + p[3];
        accumulate_rows<V>(sums, p, values + at * row_stride(V));
      }
    }
    if (!rows.exists) continue;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = sum_of_four(total[r]);
      const int d = rows.first + 8 * r;
      const std::int64_t row = static_cast<std::int64_t>(rows.n) * a.channels + d;
      if (d >= a.channels) continue;
#pragma unroll
      for (int k = 0; k < V / 8; ++k) {
        const float out[2] = {sums[k][2 * r] / sum, sums[k][2 * r + 1] / sum};
        const int column = 8 * k + 2 * t;
        store_slice(c + (row * ldc + column), out, a.value - column);
      }
      if (t == 0) lse[row] = ln_2 * (maximum[r] + log2f(sum));
    }
  }
}

// dZ columns of two rows of the item, and their sums with what is stored and with s.
template <int W>
SIMT_DEVICE void write_gradient(const AttentionArguments& a, const BackwardArguments& b, const Rows& rows,
                                const float (&gradient)[W / 8][4], int column, int width, float scale,
                                float (&sum_gamma)[2], float (&sum_beta)[2]) {
  const int t = threadIdx.x & 3;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int d = rows.first + 8 * r;
    const std::int64_t row = static_cast<std::int64_t>(rows.n) * a.channels + d;
    if (d >= a.channels) continue;
#pragma unroll
    for (int k = 0; k < W / 8; ++k) {
      const int at = 8 * k + 2 * t, left = width - at;
      const float out[2] = {scale * gradient[k][2 * r], scale * gradient[k][2 * r + 1]};
      store_slice(b.dz + (row * a.ld + column + at), out, left);
      if (a.gamma) {
        float stored[2], s[2];
        load_slice(stored, a.p + (row * a.ld + column + at), left);
        load_slice(s, a.s + (column + at), left);
        if (left > 0) sum_gamma[r] += out[0] * stored[0], sum_beta[r] += out[0] * s[0];
        if (left > 1) sum_gamma[r] += out[1] * stored[1], sum_beta[r] += out[1] * s[1];
      }
    }
  }
}

template <int W, int V, bool keys>
SIMT_DEVICE void attention_backward_tf32_role(const AttentionArguments& a, const BackwardArguments& b,
                                              Pointer<float> shared) {
  const int staged = a.samples_per_block * a.tile;
  const Pointer<float> firsts = shared, seconds = shared + staged * row_stride(W);
  const Pointer<float> lses = seconds + staged * row_stride(V), deltas = lses + staged;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = static_cast<int>(blockDim.x >> 5), t = lane & 3;
  const int first_sample = static_cast<int>(blockIdx.x) * a.samples_per_block;
  const Source value = projected(a, 0, a.value), query = projected(a, a.value, a.key);
  const Source key = projected(a, a.value + a.key, a.key), gradient{b.dc, b.lddc, 0, a.value, false};
  const int items = a.samples_per_block * a.items_per_part;
  for (int round = 0; round < items; round += warps) {
    const Rows rows(a, round + warp, lane);
    std::uint32_t first[W / 8][4], second[V / 8][4];
    float d_first[W / 8][4] = {}, d_second[V / 8][4] = {}, lse[2] = {}, delta[2] = {};
    if (rows.exists) {
      load_own<W>(first, keys ? key : query, a, rows, a.scale * log2_e);
      load_own<V>(second, keys ? value : gradient, a, rows, 1.0f);
      if constexpr (!keys) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int d = rows.first + 8 * r;
          const std::int64_t row = static_cast<std::int64_t>(rows.n) * a.channels + d;
          float sum = 0;
#pragma unroll
          for (int k = 0; k < V / 8; ++k) {
            float dc[2], c[2];
            const int column = 8 * k + 2 * t, left = d < a.channels ? a.value - column : 0;
            load_slice(dc, b.dc + (row * b.lddc + column), left);
            load_slice(c, b.c + (row * b.ldc + column), left);
            sum += dot(dc, c);
          }
          delta[r] = sum_of_four(sum);
          lse[r] = d < a.channels ? log2_e * b.lse[row] : 0.0f;
        }
      }
    }
    for (int tile = 0; tile < a.tiles; ++tile) {
      if (a.tiles > 1 || round == 0) {
        __syncthreads();
        stage<W>(firsts, keys ? query : key, a, 0, first_sample, tile);
        if constexpr (keys) {
          stage_gradients<V>(seconds, lses, deltas, a, b, 0, first_sample, tile);
        } else {
          stage<V>(seconds, value, a, 0, first_sample, tile);
        }
        __syncthreads();
      }
      if (!rows.exists) continue;
      const int left = a.channels - tile * a.tile, valid = left < a.tile ? left : a.tile;
#pragma unroll 1
      for (int j = 0; j < valid; j += 8) {
        const int at = rows.local * a.tile + j;
        float p[4] = {}, ds[4] = {};
        multiply_rows<W>(p, first, firsts + at * row_stride(W));
        multiply_rows<V>(ds, second, seconds + at * row_stride(V));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = 2 * t + (i & 1);
          const float own_lse = keys ? static_cast<float>(lses[at + column]) : lse[i >> 1];
          const float own_delta = keys ? static_cast<float>(deltas[at + column]) : delta[i >> 1];
          p[i] = j + column < valid ? power_of_two(p[i] - own_lse) : 0.0f;
          ds[i] = p[i] * (ds[i] - own_delta);
        }
        accumulate_rows<W>(d_first, ds, firsts + at * row_stride(W));
        if constexpr (keys) accumulate_rows<V>(d_second, p, seconds + at * row_stride(V));
      }
    }
    if (!rows.exists) continue;
    float sum_gamma[2] = {}, sum_beta[2] = {};
    write_gradient<W>(a, b, rows, d_first, a.value + (keys ? a.key : 0), a.key, a.scale, sum_gamma, sum_beta);
    if constexpr (keys) write_gradient<V>(a, b, rows, d_second, 0, a.value, 1.0f, sum_gamma, sum_beta);
    if (b.row_sums) {
      const int stride = channel_stride(a.channels);
      const std::int64_t plane = static_cast<std::int64_t>(a.batch) * stride;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int d = rows.first + 8 * r;
        const float gamma = sum_of_four(sum_gamma[r]), beta = sum_of_four(sum_beta[r]);
        if (t == 0 && d < a.channels) {
          const std::int64_t at = (keys ? 2 : 0) * plane + static_cast<std::int64_t>(rows.n) * stride + d;
          b.row_sums[at] = gamma;
          b.row_sums[at + plane] = beta;
        }
      }
    }
  }
}

template <int W, int V>
__global__ void __launch_bounds__(256, 2) attention_backward_tf32_kernel(AttentionArguments a, BackwardArguments b) {
  SIMT_DYNAMIC_SHARED(shared);
  if (blockIdx.z == 0) {
    attention_backward_tf32_role<W, V, false>(a, b, shared);
  } else {
    attention_backward_tf32_role<W, V, true>(a, b, shared);
  }
}

template <int W>
struct Shape {
  static constexpr int width = W;
};
template <class F>
void with_shape(AttentionShape a, F f) {
  if (a.d_m <= 16 && a.d_v <= 16) return f(Shape<16>{});
  f(Shape<32>{});
}

}  // namespace

namespace attention_kernels {

void forward_tf32(const Cuda& on, float* c, std::int64_t ldc, float* lse, const Projected<float>& in,
                  AttentionShape a) {
  with_shape(a, [&](auto shape) {
    constexpr int w = shape.width;
    const Plan plan = plan_of(in, a, own_rows, 2 * row_stride(w), 1, 3);
    launch("attention_forward_tf32", attention_forward_tf32_kernel<w, w>, dim3{plan.sample_blocks, plan.parts, 1},
           dim3{plan.threads, 1, 1}, plan.shared_bytes, static_cast<simt::Stream>(on.stream), c, ldc, lse,
           plan.arguments);
  });
}

void backward_tf32(const Cuda& on, const BackwardPointers& b, const Projected<float>& in, AttentionShape a) {
  with_shape(a, [&](auto shape) {
    constexpr int w = shape.width;
    const Plan plan = plan_of(in, a, own_rows, 2 * row_stride(w) + 2, 2, 2);
    launch("attention_backward_tf32", attention_backward_tf32_kernel<w, w>, dim3{plan.sample_blocks, plan.parts, 2},
           dim3{plan.threads, 1, 1}, plan.shared_bytes, static_cast<simt::Stream>(on.stream), plan.arguments,
           arguments_of(b));
  });
}

}  // namespace attention_kernels
}  // namespace samformer::kernels
