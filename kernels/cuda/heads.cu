// Multi-head attention on the GPU, forward and backward, float32; kernels/heads.h has the formulas.
//
// A warp has a query of one head, or, for the gradients of keys and values, a key; its lanes are 32 of the other side,
// which the block stages in shared memory tile by tile, and for sums over them the columns of the head: then each
// lane's probability goes round by shuffles. Forward keeps a running maximum and sum; backward recomputes the
// probabilities from the row log-sum-exp, once by queries and once by keys, so that nothing is summed across warps.
#include "kernels/cuda/blocks.h"
#include "kernels/heads.h"
#include "kernels/philox.h"

namespace samformer::kernels {
namespace {
using namespace simt;

constexpr int tile = 32, rows_of_block = 8;
constexpr int lane_columns = most_head_width / 32;
constexpr float log2_e = 1.44269504089f;

// Columns of a matrix with the bias that they lack.
struct Columns {
  In<float> p, bias;
  std::int64_t ld;
  SIMT_DEVICE float at(std::int64_t row, int column) const {
    return p[row * ld + column] + (bias ? static_cast<float>(bias[column]) : 0.0f);
  }
};
struct HeadsArguments {
  Columns q, k, v;
  In<float> previous;
  int heads, queries, keys, width;
  float scale;
  bool dropping;
  std::uint64_t seed, first;
  std::uint32_t threshold;
  float kept;
  std::int64_t step;
  const Progress* progress;
  HeadsMask mask;
  In<std::int32_t> picked;

  SIMT_DEVICE bool allows(int block, int i, int j) const {
    if (mask.kind == HeadsMask::Kind::none) return true;
    return mask.allows(picked ? picked[static_cast<std::int64_t>(block) * queries + i] : i, j);
  }
  // Keys that a block's queries from `first` on may see, of those up to the last; the first tile's query that sees key j.
  SIMT_DEVICE int reach(int first) const {
    return picked ? keys : static_cast<int>(mask.reach(first + rows_of_block - 1, keys));
  }
  SIMT_DEVICE int first_tile(int j) const {
    const bool looks_back = mask.kind == HeadsMask::Kind::causal || mask.kind == HeadsMask::Kind::log_sparse;
    return looks_back && !picked ? j / tile * tile : 0;
  }
  // Of query i and key j of a sample's head.
  SIMT_DEVICE std::int64_t score(int block, int i, int j) const {
    return (static_cast<std::int64_t>(block) * keys + j) * queries + i;
  }
  SIMT_DEVICE float factor(int block, int i, int j) const {
    if (!dropping) return 1.0f;
    const std::int64_t padded = (queries + 3) / 4;
    const std::uint64_t at = static_cast<std::uint64_t>((static_cast<std::int64_t>(block) * keys + j) * padded + i / 4);
    const PhiloxBlock words =
        random_block(seed, dropout_stream, static_cast<std::uint32_t>(progress ? progress->step : step), first + at);
    const int which = i & 3;
    const std::uint32_t word = which == 0 ? words[0] : which == 1 ? words[1] : which == 2 ? words[2] : words[3];
    return word < threshold ? 0.0f : kept;
  }
};

// Rows [begin, begin + count) of a head into shared memory, rows `pitch` apart; behind the `end` there are zeros.
SIMT_DEVICE void stage(Pointer<float> to, int pitch, const Columns& from, std::int64_t first_row, int begin, int count,
                       int end, int column, int width, float scale) {
  for (int e = static_cast<int>(threadIdx.x); e < count * width; e += 256) {
    const int r = e / width, c = e % width;
    to[r * pitch + c] = begin + r < end ? scale * from.at(first_row + begin + r, column + c) : 0.0f;
  }
}
SIMT_DEVICE float dot(Pointer<const float> a, Pointer<const float> b, int n) {
  float sum = 0;
  for (int c = 0; c < n; ++c) sum += a[c] * b[c];
  return sum;
}
// sums[c] += the lanes' weights times their rows, of columns lane, lane + 32, ...
SIMT_DEVICE void add_rows(float (&sums)[lane_columns], float weight, Pointer<const float> rows, int pitch, int width) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll 4
  for (int j = 0; j < tile; ++j) {
    const float w = __shfl_sync(all_lanes, weight, j);
#pragma unroll
    for (int k = 0; k < lane_columns; ++k) {
      if (lane + 32 * k < width) sums[k] += w * rows[j * pitch + lane + 32 * k];
    }
  }
}
SIMT_DEVICE float warp_max(float v) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) v = fmaxf(v, __shfl_xor_sync(all_lanes, v, step));
  return v;
}
SIMT_DEVICE void write_columns(Out<float> to, const float (&sums)[lane_columns], float scale, int width, bool adds) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll
  for (int k = 0; k < lane_columns; ++k) {
    const int c = lane + 32 * k;
    if (c < width) to[c] = (adds ? static_cast<float>(to[c]) : 0.0f) + scale * sums[k];
  }
}

__global__ void __launch_bounds__(256)
    heads_kernel(Out<float> context, Out<float> lse, Out<float> scores, HeadsArguments a) {
  SIMT_DYNAMIC_SHARED(shared);
  const int pitch = a.width + 1, lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const Pointer<float> keys = shared, values = keys + tile * pitch, queries = values + tile * pitch;
  const int block = static_cast<int>(blockIdx.x), column = block % a.heads * a.width;
  const int first = static_cast<int>(blockIdx.y) * rows_of_block, i = first + warp;
  const std::int64_t n = block / a.heads;
  stage(queries, pitch, a.q, n * a.queries, first, rows_of_block, a.queries, column, a.width, a.scale);
  float sums[lane_columns] = {}, most = -1e30f, total = 0;
  const int reach = a.reach(first);
  for (int j0 = 0; j0 < reach; j0 += tile) {
    __syncthreads();
    stage(keys, pitch, a.k, n * a.keys, j0, tile, a.keys, column, a.width, 1.0f);
    stage(values, pitch, a.v, n * a.keys, j0, tile, a.keys, column, a.width, 1.0f);
    __syncthreads();
    if (i >= a.queries) continue;  // the whole warp
    const int j = j0 + lane;
    const bool there = j < a.keys && a.allows(block, i, j);
    float s = dot(queries + warp * pitch, keys + lane * pitch, a.width);
    if (there && a.previous) s += a.previous[a.score(block, i, j)];
    if (there && scores) scores[a.score(block, i, j)] = s;
    const float next = fmaxf(most, warp_max(there ? s : -1e30f));
    const float shrink = power_of_two((most - next) * log2_e);
    const float p = there ? power_of_two((s - next) * log2_e) : 0.0f;
    most = next;
    total = total * shrink + warp_sum(p);
#pragma unroll
    for (int k = 0; k < lane_columns; ++k) sums[k] *= shrink;
    add_rows(sums, there ? p * a.factor(block, i, j) : 0.0f, values, pitch, a.width);
  }
  if (i >= a.queries) return;
  write_columns(context + ((n * a.queries + i) * a.heads * a.width + column), sums, 1.0f / total, a.width, false);
  if (lane == 0) lse[static_cast<std::int64_t>(block) * a.queries + i] = most + logf(total);
}

struct HeadsSinks {
  Out<float> dq, dk, dv, dprevious;  // null: not wanted
  std::int64_t ldq, ldk, ldv;
  bool add_q, add_k, add_v, add_previous;
  explicit HeadsSinks(const HeadsGradients<float>& g)
      : dq(g.dq.data),
        dk(g.dk.data),
        dv(g.dv.data),
        dprevious(g.dprevious.data),
        ldq(g.dq.ld),
        ldk(g.dk.ld),
        ldv(g.dv.ld),
        add_q(g.dq.add),
        add_k(g.dk.add),
        add_v(g.dv.add),
        add_previous(g.dprevious.add) {}
};
struct HeadsSources {
  In<float> dscores, lse;
  Columns dc, c;
};

// The gradient of a score: p is the probability, dp the gradient of what is left of it, `factor` dropout's. One key:
// its probability is 1, the score has no gradient, not even rounding noise.
SIMT_DEVICE float score_gradient(const HeadsArguments& a, float p, float dp, float factor, float delta) {
  return a.keys > 1 ? p * (factor * dp - delta) : 0.0f;
}

// dQ, dS_prev, and delta [N h][T_q] = rowsum(dC * C) for the other kernel.
__global__ void __launch_bounds__(256)
    heads_backward_queries_kernel(HeadsSinks to, Out<float> deltas, HeadsSources from, HeadsArguments a) {
  SIMT_DYNAMIC_SHARED(shared);
  const int pitch = a.width + 1, lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const Pointer<float> keys = shared, values = keys + tile * pitch, queries = values + tile * pitch,
                       gradients = queries + rows_of_block * pitch;
  const int block = static_cast<int>(blockIdx.x), column = block % a.heads * a.width;
  const int first = static_cast<int>(blockIdx.y) * rows_of_block, i = first + warp;
  const std::int64_t n = block / a.heads, row = static_cast<std::int64_t>(block) * a.queries + i;
  stage(queries, pitch, a.q, n * a.queries, first, rows_of_block, a.queries, column, a.width, a.scale);
  stage(gradients, pitch, from.dc, n * a.queries, first, rows_of_block, a.queries, column, a.width, 1.0f);
  float sums[lane_columns] = {}, delta = 0, lse = 0;
  if (i < a.queries) {
    for (int c = lane; c < a.width; c += 32) {
      delta += from.dc.at(n * a.queries + i, column + c) * from.c.at(n * a.queries + i, column + c);
    }
    delta = warp_sum(delta);
    lse = from.lse[row];
    if (lane == 0) deltas[row] = delta;
  }
  const int reach = a.reach(first);
  for (int j0 = 0; j0 < reach; j0 += tile) {
    __syncthreads();
    stage(keys, pitch, a.k, n * a.keys, j0, tile, a.keys, column, a.width, 1.0f);
    stage(values, pitch, a.v, n * a.keys, j0, tile, a.keys, column, a.width, 1.0f);
    __syncthreads();
    if (i >= a.queries) continue;  // the whole warp
    const int j = j0 + lane;
    float ds = 0;
    if (j < a.keys && a.allows(block, i, j)) {
      const std::int64_t at = a.score(block, i, j);
      float s = dot(queries + warp * pitch, keys + lane * pitch, a.width);
      if (a.previous) s += a.previous[at];
      const float dp = dot(gradients + warp * pitch, values + lane * pitch, a.width);
      ds = score_gradient(a, power_of_two((s - lse) * log2_e), dp, a.factor(block, i, j), delta);
      if (from.dscores) ds += from.dscores[at];
      if (to.dprevious) to.dprevious[at] = (to.add_previous ? static_cast<float>(to.dprevious[at]) : 0.0f) + ds;
    }
    add_rows(sums, ds, keys, pitch, a.width);
  }
  if (i >= a.queries || !to.dq) return;
  write_columns(to.dq + ((n * a.queries + i) * to.ldq + column), sums, a.scale, a.width, to.add_q);
}

__global__ void __launch_bounds__(256)
    heads_backward_keys_kernel(HeadsSinks to, In<float> deltas, HeadsSources from, HeadsArguments a) {
  SIMT_DYNAMIC_SHARED(shared);
  const int pitch = a.width + 1, lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const Pointer<float> queries = shared, gradients = queries + tile * pitch, keys = gradients + tile * pitch,
                       values = keys + rows_of_block * pitch;
  const int block = static_cast<int>(blockIdx.x), column = block % a.heads * a.width;
  const int first = static_cast<int>(blockIdx.y) * rows_of_block, j = first + warp;
  const std::int64_t n = block / a.heads;
  stage(keys, pitch, a.k, n * a.keys, first, rows_of_block, a.keys, column, a.width, 1.0f);
  stage(values, pitch, a.v, n * a.keys, first, rows_of_block, a.keys, column, a.width, 1.0f);
  float dk[lane_columns] = {}, dv[lane_columns] = {};
  for (int i0 = a.first_tile(first); i0 < a.queries; i0 += tile) {
    __syncthreads();
    stage(queries, pitch, a.q, n * a.queries, i0, tile, a.queries, column, a.width, a.scale);
    stage(gradients, pitch, from.dc, n * a.queries, i0, tile, a.queries, column, a.width, 1.0f);
    __syncthreads();
    if (j >= a.keys) continue;  // the whole warp
    const int i = i0 + lane;
    float ds = 0, kept = 0;
    if (i < a.queries && a.allows(block, i, j)) {
      const std::int64_t at = a.score(block, i, j), row = static_cast<std::int64_t>(block) * a.queries + i;
      float s = dot(queries + lane * pitch, keys + warp * pitch, a.width);
      if (a.previous) s += a.previous[at];
      const float p = power_of_two((s - from.lse[row]) * log2_e), factor = a.factor(block, i, j);
      const float dp = dot(gradients + lane * pitch, values + warp * pitch, a.width);
      kept = p * factor;
      ds = score_gradient(a, p, dp, factor, deltas[row]);
      if (from.dscores) ds += from.dscores[at];
    }
    add_rows(dk, ds, queries, pitch, a.width);  // scaled queries
    add_rows(dv, kept, gradients, pitch, a.width);
  }
  if (j >= a.keys) return;
  if (to.dk) write_columns(to.dk + ((n * a.keys + j) * to.ldk + column), dk, 1.0f, a.width, to.add_k);
  if (to.dv) write_columns(to.dv + ((n * a.keys + j) * to.ldv + column), dv, 1.0f, a.width, to.add_v);
}

Columns columns_of(const Projected<float>& x) { return {x.p, x.b, x.ld}; }

HeadsArguments arguments_of(const HeadsInput<float>& in) {
  const HeadsShape& s = in.shape;
  const Dropout& d = in.dropout;
  HeadsArguments a;
  a.q = columns_of(in.q), a.k = columns_of(in.k), a.v = columns_of(in.v), a.previous = in.previous;
  a.heads = static_cast<int>(s.heads), a.queries = static_cast<int>(s.queries), a.keys = static_cast<int>(s.keys);
  a.width = static_cast<int>(s.width), a.scale = 1.0f / sqrtf(static_cast<float>(s.width));
  a.dropping = d.rate > 0, a.seed = d.seed, a.first = dropout_index(d.pass, d.site);
  a.threshold = dropout_threshold(d.rate), a.kept = static_cast<float>(1 / (1 - d.rate));
  a.step = d.step, a.progress = d.progress;
  a.mask = in.mask, a.picked = in.picked;
  return a;
}
dim3 blocks_of_rows(const HeadsShape& s, std::int64_t rows) {
  return {static_cast<unsigned>(s.samples()), static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block), 1};
}
std::size_t shared_bytes(const HeadsShape& s, int matrices_of_block) {
  return static_cast<std::size_t>(2 * tile + matrices_of_block * rows_of_block) *
         static_cast<std::size_t>(s.width + 1) * sizeof(float);
}

}  // namespace

std::int64_t heads_scratch(const Cuda&, const HeadsShape&) { return 0; }
std::int64_t heads_backward_scratch(const Cuda&, const HeadsShape& a) { return a.samples() * a.queries; }

void multi_head_attention(const Cuda& on, float* C, float* lse, float* scores, const HeadsInput<float>& in, float*) {
  launch("multi_head_attention", heads_kernel, blocks_of_rows(in.shape, in.shape.queries), dim3{256, 1, 1},
         shared_bytes(in.shape, 1), static_cast<simt::Stream>(on.stream), C, lse, scores, arguments_of(in));
}

void multi_head_attention_backward(const Cuda& on, const HeadsGradients<float>& to, const float* dC, std::int64_t lddc,
                                   const float* C, const float* lse, const HeadsInput<float>& in, float* deltas) {
  const HeadsShape& s = in.shape;
  const HeadsArguments a = arguments_of(in);
  HeadsSources from;
  from.dscores = to.dscores, from.lse = lse;
  from.dc = {dC, nullptr, lddc}, from.c = {C, nullptr, s.heads * s.width};
  const auto stream = static_cast<simt::Stream>(on.stream);
  launch("multi_head_attention_backward_queries", heads_backward_queries_kernel, blocks_of_rows(s, s.queries),
         dim3{256, 1, 1}, shared_bytes(s, 2), stream, HeadsSinks(to), deltas, from, a);
  launch("multi_head_attention_backward_keys", heads_backward_keys_kernel, blocks_of_rows(s, s.keys), dim3{256, 1, 1},
         shared_bytes(s, 2), stream, HeadsSinks(to), deltas, from, a);
}

}  // namespace samformer::kernels
