// What the attention kernels share: the folded projection, staging in shared memory, how the work is cut into blocks.
//
// A block has one sample, or a part of its rows ("items" of a warp each), or several samples where they are small; the
// other side of each sample is staged whole where it fits, else tile by tile. Internal to kernels/attention*.cu.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/blocks.h"

namespace samformer::kernels {
namespace attention_kernels {
using namespace simt;

constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

struct AttentionArguments {
  In<float> p, gamma, beta, s, b;
  std::int64_t ld;
  int batch, channels, key, value;
  int samples_per_block, items_per_part, tile, tiles;  // tile: rows of a sample staged at a time, a multiple of 8
  float scale;
};

// Some columns of a matrix of rows; affine: folded from the projection.
struct Source {
  In<float> p;
  std::int64_t ld;
  int column, width;
  bool affine;
};

SIMT_DEVICE Source projected(const AttentionArguments& a, int column, int width) {
  return {a.p, a.ld, column, width, true};
}

constexpr int row_stride(int width) { return width % 8 == 4 ? width : width + 4; }

// What folds E columns of any row.
template <int E>
struct Coefficients {
  float s[E] = {}, b[E] = {};
  bool affine;
  SIMT_DEVICE Coefficients(const Source& from, const AttentionArguments& a, int column)
      : affine(from.affine && static_cast<bool>(a.gamma)) {
    if (affine) load_slice(s, a.s + (from.column + column), from.width - column);
    if (from.affine && a.b) load_slice(b, a.b + (from.column + column), from.width - column);
  }
};
template <int E>
SIMT_DEVICE void fold_columns(float (&folded)[E], const float (&stored)[E], const Coefficients<E>& k,
                              const AttentionArguments& a, int d, bool valid) {
  const float gamma = k.affine && valid ? static_cast<float>(a.gamma[d]) : 1.0f;
  const float beta = k.affine && valid ? static_cast<float>(a.beta[d]) : 0.0f;
#pragma unroll
  for (int i = 0; i < E; ++i) folded[i] = valid ? gamma * stored[i] + (beta * k.s[i] + k.b[i]) : 0.0f;
}

// E columns from `column` on of row r: as stored, and folded.
template <int E>
SIMT_DEVICE void load_columns(float (&folded)[E], float (&stored)[E], const Source& from, const AttentionArguments& a,
                              int column, std::int64_t r, int d, bool valid) {
  load_slice(stored, from.p + (r * from.ld + from.column + column), valid ? from.width - column : 0);
  fold_columns(folded, stored, Coefficients<E>(from, a, column), a, d, valid);
}

template <int W>
SIMT_DEVICE float dot(const float (&x)[W], const float (&y)[W]) {
  float sum = x[0] * y[0];
#pragma unroll
  for (int c = 1; c < W; ++c) sum += x[c] * y[c];
  return sum;
}

// How a block walks over the staged rows: a warp has 8 rows x 4 quads of columns at a time (16 x 2 where a row has only
// two), a phase of eight lanes one quad of eight rows: no bank twice, and every sector of the source whole.
template <int W>
struct Walk {
  static constexpr int quads = W / 4, across = quads < 4 ? quads : 4, rows = 32 / across;
  int row, column, end, stride;  // the lane's first row and column; the next row is `stride` further
  SIMT_DEVICE explicit Walk(const AttentionArguments& a) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    row = warp * rows + (lane & 7) + 8 * (lane / (8 * across));
    column = 4 * ((lane >> 3) % across);
    end = a.samples_per_block * a.tile;
    stride = static_cast<int>(blockDim.x >> 5) * rows;
  }
};

// Sample and channel of a staged row.
struct StagedRow {
  int d;
  std::int64_t r;
  bool valid;
  SIMT_DEVICE StagedRow(const AttentionArguments& a, int row, int first_sample, int tile) {
    const int local = row / a.tile, n = first_sample + local;
    d = tile * a.tile + row - local * a.tile;
    r = static_cast<std::int64_t>(n) * a.channels + d;
    valid = n < a.batch && d < a.channels && local < a.samples_per_block;
  }
};

// shared[row][row_stride(W)] = columns [column, column + W) of the tile's rows, zero where there is nothing.
template <int W>
SIMT_DEVICE void stage(Pointer<float> shared, const Source& from, const AttentionArguments& a, int column,
                       int first_sample, int tile) {
  const Walk<W> walk(a);
#pragma unroll 1
  for (int block = 0; block < W; block += 16) {
    const int c = walk.column + block;
    const Coefficients<4> k(from, a, column + c);
#pragma unroll 1
    for (int row = walk.row; row < walk.end; row += walk.stride) {
      const StagedRow at(a, row, first_sample, tile);
      float folded[4], stored[4];
      load_slice(stored, from.p + (at.r * from.ld + from.column + column + c), at.valid ? from.width - column - c : 0);
      fold_columns(folded, stored, k, a, at.d, at.valid);
      store4_shared(shared + (row * row_stride(W) + c), make_float4(folded[0], folded[1], folded[2], folded[3]));
    }
  }
}

struct BackwardArguments {
  Out<float> dz, row_sums;
  In<float> dc, c, lse;
  std::int64_t lddc, ldc;
};

// For the keys' role: shared = dC as stage() does, with lse (base 2) and delta = the chunk's sum of dC C of the same
// rows.
template <int W>
SIMT_DEVICE void stage_gradients(Pointer<float> shared, Pointer<float> lse, Pointer<float> delta,
                                 const AttentionArguments& a, const BackwardArguments& b, int column, int first_sample,
                                 int tile) {
  const Walk<W> walk(a);
#pragma unroll 1
  for (int row = walk.row; row - walk.row < walk.end; row += walk.stride) {  // as often in every lane: it shuffles
    const StagedRow at(a, row, first_sample, tile);
    float sum = 0;
#pragma unroll 1
    for (int block = 0; block < W; block += 16) {
      const int c = walk.column + block;
      float dc[4], values[4];
      load_slice(dc, b.dc + (at.r * b.lddc + column + c), at.valid ? a.value - column - c : 0);
      load_slice(values, b.c + (at.r * b.ldc + column + c), at.valid ? a.value - column - c : 0);
      sum += dot(dc, values);
      if (row < walk.end) store4_shared(shared + (row * row_stride(W) + c), make_float4(dc[0], dc[1], dc[2], dc[3]));
    }
#pragma unroll
    for (int step = 8; step < 8 * Walk<W>::across; step *= 2) sum += __shfl_xor_sync(all_lanes, sum, step);
    if (walk.column == 0 && row < walk.end) {
      delta[row] = sum;
      lse[row] = at.valid ? log2_e * b.lse[at.r] : 0.0f;
    }
  }
}

struct Plan {
  AttentionArguments arguments;
  unsigned sample_blocks, parts, threads;
  std::size_t shared_bytes;
};

// `floats_per_row`: shared memory of a staged row. A block has up to eight warps; a sample is cut into at most
// `most_parts` blocks, each of which reads the whole other side, or more where the batch alone cannot fill a GPU.
inline Plan plan_of(const Projected<float>& in, AttentionShape shape, int rows_per_item, int floats_per_row, int roles,
                    int most_parts) {
  const int batch = static_cast<int>(shape.N), channels = static_cast<int>(shape.D);
  const int items = (channels + rows_per_item - 1) / rows_per_item, padded = (channels + 7) & ~7;
  const int largest = (shared_limit() / (floats_per_row * 4)) & ~7;
  Plan plan;
  AttentionArguments& a = plan.arguments;
  a.p = in.p, a.gamma = in.gamma, a.beta = in.beta, a.s = in.s, a.b = in.b, a.ld = in.ld;
  a.batch = batch, a.channels = channels;
  a.key = static_cast<int>(shape.d_m), a.value = static_cast<int>(shape.d_v);
  a.scale = 1.0f / sqrtf(static_cast<float>(shape.d_m));
  a.tile = padded < largest ? padded : largest;
  a.tiles = (padded + a.tile - 1) / a.tile;
  a.samples_per_block = items >= 4 ? 1 : 4 / items;
  int parts = (items + 7) / 8;
  if (a.tiles == 1) {
    const int fill = 96 / (batch * roles);
    const int limit = most_parts > fill ? most_parts : fill;
    parts = parts < limit ? parts : limit;
  }
  a.items_per_part = (items + parts - 1) / parts;
  plan.parts = static_cast<unsigned>((items + a.items_per_part - 1) / a.items_per_part);
  plan.sample_blocks = static_cast<unsigned>((batch + a.samples_per_block - 1) / a.samples_per_block);
  const int warps = a.samples_per_block * a.items_per_part;
  plan.threads = 32u * static_cast<unsigned>(warps < 8 ? warps : 8);
  plan.shared_bytes =
      static_cast<std::size_t>(a.samples_per_block * a.tile) * static_cast<std::size_t>(floats_per_row) * 4;
  return plan;
}

// Variants of attention.cu, on tensor cores and by products.  `in`: columns v | q | k.
struct BackwardPointers {
  float* dz;        // [R][ld of in]: columns v | q | k
  float* row_sums;  // two parts, or null
  const float* dc;
  std::int64_t lddc;
  const float* c;
  std::int64_t ldc;
  const float* lse;
};
void forward_tf32(const Cuda& on, float* c, std::int64_t ldc, float* lse, const Projected<float>& in, AttentionShape a);
void backward_tf32(const Cuda& on, const BackwardPointers& b, const Projected<float>& in, AttentionShape a);
std::int64_t operands_size(AttentionShape a);
std::int64_t probabilities_size(AttentionShape a);
void forward_by_products(const Cuda& on, float* c, std::int64_t ldc, float* lse, const Projected<float>& in,
                         AttentionShape a, float* saved);
void backward_by_products(const Cuda& on, const BackwardPointers& b, const Projected<float>& in, AttentionShape a,
                          const float* saved, float* scratch);

inline BackwardArguments arguments_of(const BackwardPointers& from) {
  BackwardArguments b;
  b.dz = from.dz, b.row_sums = from.row_sums, b.dc = from.dc, b.c = from.c, b.lse = from.lse, b.lddc = from.lddc;
  b.ldc = from.ldc;
  return b;
}

}  // namespace attention_kernels
}  // namespace samformer::kernels
