// Channel attention on the GPU, forward and backward, float32; kernels/attention.h has the formulas.
//
// A warp has an item: 4 R / G rows of one sample (queries; or keys, for their gradients). Its lanes are 8 slots x G
// column groups x 4 / G rows: a slot takes every eighth row of the other side, a group its share of the columns. So a
// warp reads eight different shared rows at a time, one 16-byte access a slot and column quad, which no bank sees twice
// (rows are an odd number of quads apart), and no lane idles at D = 7: seven rows by eight slots. Each lane keeps its
// own softmax (online: maximum, sum, weighted values); the slots are merged once, at the end of the item.
//
// The other side is staged in shared memory, whole where it fits, else tile by tile; small samples share a block. Z is
// folded from the projection while staging. Backward recomputes the probabilities from the row log-sum-exp; queries
// and keys are two roles of one launch, so nothing is summed across blocks. Values wider than a lane's share are walked
// in chunks of columns: dS is linear in dC, so a chunk adds its own part to dQ and dK.
#include "kernels/cuda/attention_blocks.h"

namespace samformer::kernels {
namespace {
using namespace attention_kernels;

// A lane's share of its own row: W columns from group * W on. Each slot fetches an eighth, and all get all.
template <int W>
struct Own {
  static constexpr int part = W >= 8 ? W / 8 : 1;
  static SIMT_DEVICE int first(int group, int slot) { return group * W + slot * W / 8; }
  static SIMT_DEVICE bool writes(int slot) { return W >= 8 || (slot & 1) == 0; }
  static SIMT_DEVICE void gather(float (&all)[W], const float (&mine)[part], int lane) {
#pragma unroll
    for (int c = 0; c < W; ++c) all[c] = __shfl_sync(all_lanes, mine[c % part], (lane & 24) | (c * 8 / W));
  }
  // The reverse: sums over the eight slots; slot k ends with columns k W / 8 on, in v[0..part). In each step a lane
  // sends one half of what it still has and keeps the other.
  template <int step = 4, int half = W / 2>
  static SIMT_DEVICE void reduce(float (&v)[W], int slot) {
    if constexpr (half == 0) {
      v[0] += __shfl_xor_sync(all_lanes, v[0], step);
    } else {
      const bool upper = (slot & step) != 0;
#pragma unroll
      for (int i = 0; i < half; ++i) {
        const float sent = upper ? v[i] : v[i + half];
        v[i] = (upper ? v[i + half] : v[i]) + __shfl_xor_sync(all_lanes, sent, step);
      }
    }
    if constexpr (step > 1) reduce<step / 2, half / 2>(v, slot);
  }
};

template <int G>
SIMT_DEVICE float sum_groups(float v) {
  if constexpr (G >= 2) v += __shfl_xor_sync(all_lanes, v, 8);
  if constexpr (G >= 4) v += __shfl_xor_sync(all_lanes, v, 16);
  return v;
}
template <int G>
SIMT_DEVICE float sum_row(float v) {
#pragma unroll
  for (int step = 4; step > 0; step >>= 1) v += __shfl_xor_sync(all_lanes, v, step);
  return sum_groups<G>(v);
}

// W columns of a shared row against a register row.
template <int W>
SIMT_DEVICE void load_row(float (&x)[W], Pointer<const float> row) {
#pragma unroll
  for (int c = 0; c < W; c += 4) {
    const float4 v = load4(row + c);
    x[c] = v.x, x[c + 1] = v.y, x[c + 2] = v.z, x[c + 3] = v.w;
  }
}
// Which rows a lane has.
template <int G, int R>
struct Item {
  int n, local, first_row;  // sample, its index in the block, the lane's first row; the next is 4 / G further
  bool exists;
  SIMT_DEVICE Item(const AttentionArguments& a, int index, int lane) {
    local = index / a.items_per_part;
    n = static_cast<int>(blockIdx.x) * a.samples_per_block + local;
    const int item = static_cast<int>(blockIdx.y) * a.items_per_part + index - local * a.items_per_part;
    first_row = item * (4 / G * R) + lane / (8 * G);
    exists = local < a.samples_per_block && n < a.batch && item * (4 / G * R) < a.channels;
  }
};

template <int KW, int VW, int G, int R>
__global__ void __launch_bounds__(256, 2)
    attention_forward_kernel(Out<float> c, std::int64_t ldc, Out<float> lse, AttentionArguments a) {
  SIMT_DYNAMIC_SHARED(shared);
  constexpr int ks = row_stride(KW * G), vs = row_stride(VW * G), rows = 4 / G;
  const Pointer<float> keys = shared, values = shared + a.samples_per_block * a.tile * ks;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = static_cast<int>(blockDim.x >> 5);
  const int slot = lane & 7, group = (lane >> 3) & (G - 1);
  const int first_sample = static_cast<int>(blockIdx.x) * a.samples_per_block;
  const int chunk_column = static_cast<int>(blockIdx.z) * VW * G;
  const Source v_source = projected(a, 0, a.value), q_source = projected(a, a.value, a.key);
  const Source k_source = projected(a, a.value + a.key, a.key);
  const int items = a.samples_per_block * a.items_per_part;
  for (int round = 0; round < items; round += warps) {
    const Item<G, R> item(a, round + warp, lane);
    float q[R][KW], sums[R][VW] = {}, maximum[R], total[R] = {};
    if (item.exists) {
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const int d = item.first_row + r * rows;
        float folded[Own<KW>::part], stored[Own<KW>::part];
        load_columns(folded, stored, q_source, a, Own<KW>::first(group, slot),
                     static_cast<std::int64_t>(item.n) * a.channels + d, d, d < a.channels);
#pragma unroll
        for (int i = 0; i < Own<KW>::part; ++i) folded[i] *= a.scale * log2_e;
        Own<KW>::gather(q[r], folded, lane);
        maximum[r] = -1e30f;
      }
    }
    for (int tile = 0; tile < a.tiles; ++tile) {
      if (a.tiles > 1 || round == 0) {
        __syncthreads();
        stage<KW * G>(keys, k_source, a, 0, first_sample, tile);
        stage<VW * G>(values, v_source, a, chunk_column, first_sample, tile);
        __syncthreads();
      }
      if (!item.exists) continue;
      const int left = a.channels - tile * a.tile, valid = left < a.tile ? left : a.tile;
      const Pointer<float> k_rows = keys + (item.local * a.tile * ks + group * KW);
      const Pointer<float> v_rows = values + (item.local * a.tile * vs + group * VW);
      for (int j = slot; j < ((valid + 7) & ~7); j += 8) {
        float k[KW], score[R];
        load_row<KW>(k, k_rows + j * ks);
        bool higher = false;
#pragma unroll
        for (int r = 0; r < R; ++r) {
          score[r] = sum_groups<G>(dot(q[r], k));
          // What pads the tile must not be the maximum where all scores are far below zero.
          if (j >= valid) score[r] = -1e30f;
          higher = higher || score[r] > maximum[r] + 8.0f;
        }
        // Rescaling waits until a score is 2^8 above the running maximum, and is then the whole warp's.
        if (__any_sync(all_lanes, higher)) {
#pragma unroll
          for (int r = 0; r < R; ++r) {
            const float next = fmaxf(maximum[r], score[r]), shrink = power_of_two(maximum[r] - next);
            maximum[r] = next;
            total[r] *= shrink;
#pragma unroll
            for (int i = 0; i < VW; ++i) sums[r][i] *= shrink;
          }
        }
        float v[VW];
        load_row<VW>(v, v_rows + j * vs);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const float p = j < valid ? power_of_two(score[r] - maximum[r]) : 0.0f;
          total[r] += p;
#pragma unroll
          for (int i = 0; i < VW; ++i) sums[r][i] += p * v[i];
        }
      }
    }
    if (!item.exists) continue;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float highest = maximum[r];
#pragma unroll
      for (int step = 4; step > 0; step >>= 1) highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, step));
      const float shrink = power_of_two(maximum[r] - highest);
      float sum = total[r] * shrink;
#pragma unroll
      for (int step = 4; step > 0; step >>= 1) sum += __shfl_xor_sync(all_lanes, sum, step);
#pragma unroll
      for (int i = 0; i < VW; ++i) sums[r][i] *= shrink;
      Own<VW>::reduce(sums[r], slot);
      const int d = item.first_row + r * rows, column = chunk_column + Own<VW>::first(group, slot);
      const std::int64_t row = static_cast<std::int64_t>(item.n) * a.channels + d;
      if (d < a.channels) {
        float out[Own<VW>::part];
#pragma unroll
        for (int i = 0; i < Own<VW>::part; ++i) out[i] = sums[r][i] / sum;
        if (Own<VW>::writes(slot)) store_slice(c + (row * ldc + column), out, a.value - column);
        if (blockIdx.z == 0 && slot == 0 && group == 0) lse[row] = ln_2 * (highest + log2f(sum));
      }
    }
  }
}

// One role: `keys` false: dQ of the item's rows; true: dK and dV. "First" is Q or K, "second" is dC or V.
template <int KW, int VW, int G, bool keys>
SIMT_DEVICE void attention_backward_role(const AttentionArguments& a, const BackwardArguments& b,
                                         Pointer<float> shared) {
  constexpr int ks = row_stride(KW * G), vs = row_stride(VW * G);
  const int staged = a.samples_per_block * a.tile;
  const Pointer<float> firsts = shared, seconds = shared + staged * ks;
  const Pointer<float> lses = seconds + staged * vs, deltas = lses + staged;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = static_cast<int>(blockDim.x >> 5);
  const int slot = lane & 7, group = (lane >> 3) & (G - 1);
  const int first_sample = static_cast<int>(blockIdx.x) * a.samples_per_block;
  const Source value = projected(a, 0, a.value), query = projected(a, a.value, a.key);
  const Source key = projected(a, a.value + a.key, a.key);
  const Source gradient{b.dc, b.lddc, 0, a.value, false};
  const Source own_first = keys ? key : query, other_first = keys ? query : key;
  const Source own_second = keys ? value : gradient;
  const int items = a.samples_per_block * a.items_per_part;
  // One column group is used for narrow values only (with_shape), which saves the registers of the loop.
  const int chunks = G == 1 ? 1 : (a.value + VW * G - 1) / (VW * G);
  constexpr int k_part = Own<KW>::part, v_part = Own<VW>::part;
  for (int round = 0; round < items; round += warps) {
    const Item<G, 1> item(a, round + warp, lane);
    const int d = item.first_row, k_column = Own<KW>::first(group, slot);
    const bool valid_row = item.exists && d < a.channels;
    const std::int64_t row = static_cast<std::int64_t>(item.n) * a.channels + d;
    float first[KW], d_first[KW] = {}, stored_first[k_part], sum_gamma = 0, sum_beta = 0;
    if (item.exists) {
      float folded[k_part];
      load_columns(folded, stored_first, own_first, a, k_column, row, d, valid_row);
#pragma unroll
      for (int i = 0; i < k_part; ++i) folded[i] *= a.scale * log2_e;
      Own<KW>::gather(first, folded, lane);
    }
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int v_column = chunk * VW * G + Own<VW>::first(group, slot);
      float second[VW], d_second[VW] = {}, stored_second[v_part], lse = 0, delta = 0;
      if (item.exists) {
        float folded[v_part];
        load_columns(folded, stored_second, own_second, a, v_column, row, d, valid_row);
        Own<VW>::gather(second, folded, lane);
        if constexpr (!keys) {
          float c[v_part];
          load_slice(c, b.c + (row * b.ldc + v_column), valid_row ? a.value - v_column : 0);
          delta = sum_row<G>(Own<VW>::writes(slot) ? dot(folded, c) : 0.0f);
          lse = valid_row ? log2_e * b.lse[row] : 0.0f;
        }
      }
      for (int tile = 0; tile < a.tiles; ++tile) {
        if (a.tiles > 1 || chunks > 1 || round == 0) {
          __syncthreads();
          stage<KW * G>(firsts, other_first, a, 0, first_sample, tile);
          if constexpr (keys) {
            stage_gradients<VW * G>(seconds, lses, deltas, a, b, chunk * VW * G, first_sample, tile);
          } else {
            stage<VW * G>(seconds, value, a, chunk * VW * G, first_sample, tile);
          }
          __syncthreads();
        }
        if (!item.exists) continue;
        const int left = a.channels - tile * a.tile, valid = left < a.tile ? left : a.tile;
        const int staged_from = item.local * a.tile;
#pragma unroll 1
        for (int j = slot; j < ((valid + 7) & ~7); j += 8) {
          float x[KW];
          load_row<KW>(x, firsts + ((staged_from + j) * ks + group * KW));
          if constexpr (keys) {
            lse = lses[staged_from + j];
            delta = deltas[staged_from + j];
          }
          const float score = sum_groups<G>(dot(first, x));
          const float p = j < valid ? power_of_two(score - lse) : 0.0f;
          // A quad at a time: a whole row beside the accumulators would not fit in the registers.
          float dp = 0;
#pragma unroll
          for (int c = 0; c < VW; c += 4) {
            float y[4];
            load_row<4>(y, seconds + ((staged_from + j) * vs + group * VW + c));
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              dp += second[c + i] * y[i];
              if constexpr (keys) d_second[c + i] += p * y[i];
            }
          }
          const float ds = p * (sum_groups<G>(dp) - delta);
#pragma unroll
          for (int i = 0; i < KW; ++i) d_first[i] += ds * x[i];
        }
      }
      if constexpr (keys) {
        if (item.exists) {
          Own<VW>::reduce(d_second, slot);
          float out[v_part];
#pragma unroll
          for (int i = 0; i < v_part; ++i) {
            out[i] = d_second[i];
            if (valid_row && Own<VW>::writes(slot) && v_column + i < a.value && a.gamma) {
              sum_gamma += out[i] * stored_second[i];
              sum_beta += out[i] * a.s[v_column + i];
            }
          }
          if (valid_row && Own<VW>::writes(slot)) store_slice(b.dz + (row * a.ld + v_column), out, a.value - v_column);
        }
      }
    }
    if (!item.exists) continue;
    Own<KW>::reduce(d_first, slot);
    float out[k_part];
    const int column = a.value + (keys ? a.key : 0) + k_column;
#pragma unroll
    for (int i = 0; i < k_part; ++i) {
      out[i] = a.scale * d_first[i];
      if (valid_row && Own<KW>::writes(slot) && k_column + i < a.key && a.gamma) {
        sum_gamma += out[i] * stored_first[i];
        sum_beta += out[i] * a.s[column + i];
      }
    }
    if (valid_row && Own<KW>::writes(slot)) store_slice(b.dz + (row * a.ld + column), out, a.key - k_column);
    if (b.row_sums) {
      sum_gamma = sum_row<G>(sum_gamma);
      sum_beta = sum_row<G>(sum_beta);
      if (valid_row && slot == 0 && group == 0) {
        const int stride = channel_stride(a.channels);
        const std::int64_t plane = static_cast<std::int64_t>(a.batch) * stride;
        const std::int64_t at = (keys ? 2 : 0) * plane + static_cast<std::int64_t>(item.n) * stride + d;
        b.row_sums[at] = sum_gamma;
        b.row_sums[at + plane] = sum_beta;
      }
    }
  }
}

template <int KW, int VW, int G>
__global__ void __launch_bounds__(256, 2) attention_backward_kernel(AttentionArguments a, BackwardArguments b) {
  SIMT_DYNAMIC_SHARED(shared);
  if (blockIdx.z == 0) {
    attention_backward_role<KW, VW, G, false>(a, b, shared);
  } else {
    attention_backward_role<KW, VW, G, true>(a, b, shared);
  }
}

// ---- host ----------------------------------------------------------------------------------------------------------

template <int KW, int VW, int G>
struct Shape {
  static constexpr int key = KW, value = VW, groups = G;
};

constexpr std::int64_t widest_key = 64;     // of the fused kernels
constexpr std::int64_t many_channels = 64;  // fewer do not fill the tensor cores' tiles, nor batched products

enum class Variant { fused, tf32, products };
Variant variant_of(const Cuda& on, AttentionShape a) {
  if (on.tf32 && a.D >= many_channels && a.d_m <= 32 && a.d_v <= 32) return Variant::tf32;
  if (a.d_m > widest_key || (a.d_v > 16 && a.D >= many_channels)) return Variant::products;
  return Variant::fused;
}

// Calls `f` with the narrowest kernel that holds the widths; wider values are walked in chunks.
template <class F>
void with_shape(AttentionShape a, F f) {
  if (a.d_m <= 8 && a.d_v <= 8) return f(Shape<8, 8, 1>{});
  if (a.d_m <= 16 && a.d_v <= 16) return f(Shape<16, 16, 1>{});
  if (a.d_m <= 16) return f(Shape<4, 16, 4>{});
  if (a.d_m <= 32) return f(Shape<16, 16, 2>{});
  f(Shape<16, 16, 4>{});
}

void forward_fused(const Cuda& on, float* c, std::int64_t ldc, float* lse, const Projected<float>& in,
                   AttentionShape a) {
  with_shape(a, [&](auto shape) {
    constexpr int kw = shape.key, vw = shape.value, g = shape.groups, r = g == 1 ? 2 : 1;
    const Plan plan = plan_of(in, a, 4 / g * r, row_stride(kw * g) + row_stride(vw * g), 1, 3);
    const int chunks = (plan.arguments.value + vw * g - 1) / (vw * g);
    launch("attention_forward", attention_forward_kernel<kw, vw, g, r>,
           dim3{plan.sample_blocks, plan.parts, static_cast<unsigned>(chunks)}, dim3{plan.threads, 1, 1},
           plan.shared_bytes, static_cast<simt::Stream>(on.stream), c, ldc, lse, plan.arguments);
  });
}
void backward_fused(const Cuda& on, const BackwardPointers& b, const Projected<float>& in, AttentionShape a) {
  with_shape(a, [&](auto shape) {
    constexpr int kw = shape.key, vw = shape.value, g = shape.groups;
    const Plan plan = plan_of(in, a, 4 / g, row_stride(kw * g) + row_stride(vw * g) + 2, 2, 2);
    launch("attention_backward", attention_backward_kernel<kw, vw, g>, dim3{plan.sample_blocks, plan.parts, 2},
           dim3{plan.threads, 1, 1}, plan.shared_bytes, static_cast<simt::Stream>(on.stream), plan.arguments,
           arguments_of(b));
  });
}

void check_columns(bool side_by_side) {
  if (!side_by_side) throw GpuError("attention: v, q and k side by side in one matrix expected");
}

}  // namespace

std::int64_t attention_saved(const Cuda& on, AttentionShape a) {
  return variant_of(on, a) == Variant::products ? operands_size(a) + probabilities_size(a) : 0;
}
std::int64_t attention_scratch(const Cuda&, AttentionShape) { return 0; }
std::int64_t attention_backward_scratch(const Cuda& on, AttentionShape a) {
  return variant_of(on, a) == Variant::products ? probabilities_size(a) : 0;
}

void attention(const Cuda& on, float* C, std::int64_t ldc, float* lse, const Projected<float>& q,
               const Projected<float>& k, const Projected<float>& v, AttentionShape a, float* saved, float*) {
  check_columns(q.p == v.p + a.d_v && k.p == q.p + a.d_m && q.ld == v.ld && k.ld == v.ld);
  switch (variant_of(on, a)) {
    case Variant::fused:
      return forward_fused(on, C, ldc, lse, v, a);
    case Variant::tf32:
      return forward_tf32(on, C, ldc, lse, v, a);
    case Variant::products:
      return forward_by_products(on, C, ldc, lse, v, a, saved);
  }
}

void attention_backward(const Cuda& on, Sink<float> dq, Sink<float> dk, Sink<float> dv, AffineSink<float> affine,
                        const float* dC, std::int64_t lddc, const float* C, std::int64_t ldc, const float* lse,
                        const Projected<float>&, const Projected<float>&, const Projected<float>& v, AttentionShape a,
                        const float* saved, float* scratch) {
  check_columns(dq.data == dv.data + a.d_v && dk.data == dq.data + a.d_m && dq.ld == v.ld && dk.ld == v.ld &&
                dv.ld == v.ld && !dq.add && !dk.add && !dv.add);
  const BackwardPointers b{dv.data, affine.row_sums, dC, lddc, C, ldc, lse};
  switch (variant_of(on, a)) {
    case Variant::fused:
      return backward_fused(on, b, v, a);
    case Variant::tf32:
      return backward_tf32(on, b, v, a);
    case Variant::products:
      return backward_by_products(on, b, v, a, saved, scratch);
  }
}

}  // namespace samformer::kernels
