// Around the relatives' linear layers on the GPU: bias, activation, dropout and residual in one pass over a product,
// column sums for bias gradients, transposition of samples, matrices in place, mean squares; kernels/elementwise.h has
// the formulas.
#include "kernels/cuda/blocks.h"
#include "kernels/elementwise.h"
#include "kernels/philox.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct EpilogueArguments {
  In<float> a, bias, other;  // other: the residual, or dy
  const Progress* progress;
  std::uint64_t seed, first;
  std::int64_t count, half, step;
  int columns;
  Activation activation;
  bool dropping, adds;
  std::uint32_t threshold;
  float kept;
};

constexpr float inverse_root_2 = 0.70710678118654752f, inverse_root_2pi = 0.39894228040143268f,
                log2_e = 1.4426950408889634f;

// act(x), or act'(x).
template <bool slope>
SIMT_DEVICE float activated(Activation activation, float x) {
  if (activation == Activation::none) return slope ? 1.0f : x;
  if (activation == Activation::relu) return x > 0 ? (slope ? 1.0f : x) : 0.0f;
  if (activation == Activation::tanh) {
    const float y = tanhf(x);
    return slope ? 1.0f - y * y : y;
  }
  if (activation == Activation::elu)
    return x > 0 ? (slope ? 1.0f : x) : power_of_two(log2_e * x) - (slope ? 0.0f : 1.0f);
  const float distribution = 0.5f * (1.0f + erff(x * inverse_root_2));
  if (!slope) return x * distribution;
  return distribution + x * (inverse_root_2pi * power_of_two(-0.5f * log2_e * x * x));
}

// Twice four elements a thread, each the four words of one Philox block; the second four lie `half` further, in the
// same columns, so that a bias is read once for two rows.
template <bool backward>
__global__ void __launch_bounds__(256) bias_activation_kernel(Out<float> y, EpilogueArguments e) {
  const std::int64_t begin = (static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x) * 4;
  if (begin >= e.half) return;
  float bias[4] = {};
  const int c = static_cast<int>(begin % e.columns);
  if (!e.bias) {
  } else if (c + 4 <= e.columns) {
    load_slice(bias, e.bias + c, 4);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) bias[k] = e.bias[(c + k) % e.columns];
  }
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const std::int64_t i = begin + part * e.half;
    const int valid = e.count - i < 4 ? static_cast<int>(e.count - i) : 4;
    if (valid <= 0) return;
    float x[4], other[4] = {};
    load_slice(x, e.a + i, valid);
    if (e.other) load_slice(other, e.other + i, valid);
    float factor[4] = {1, 1, 1, 1};
    if (e.dropping) {
      const PhiloxBlock words = random_block(
          e.seed, dropout_stream, static_cast<std::uint32_t>(e.progress ? e.progress->step : e.step), e.first + i / 4);
#pragma unroll
      for (int k = 0; k < 4; ++k) factor[k] = words[k] < e.threshold ? 0.0f : e.kept;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float value = factor[k] * activated<backward>(e.activation, x[k] + bias[k]);
      x[k] = backward ? other[k] * value : other[k] + value;
    }
    if (backward && e.adds) {
      load_slice<4>(other, y + i, valid);
#pragma unroll
      for (int k = 0; k < 4; ++k) x[k] += other[k];
    }
    store_slice(y + i, x, valid);
  }
}

// Column sums, first stage: a block has a tile of columns and a chunk of rows. Thread t has the columns E (t % width)
// on, of every `lines`-th row from t / width.
constexpr int column_chunks = 64;  // at most: column_sums_scratch
struct Tiles {
  int width, lines, tiles, chunk_rows, chunks;  // width in units of E columns
};
template <int E>
__global__ void __launch_bounds__(256)
    column_parts_kernel(Out<float> parts, In<float> from, std::int64_t ld, int rows, int columns, Tiles t) {
  SIMT_SHARED(float, scratch, 256 * E);
  const int unit = static_cast<int>(threadIdx.x) % t.width, line = static_cast<int>(threadIdx.x) / t.width;
  const int c = (static_cast<int>(blockIdx.x) * t.width + unit) * E,
            begin = static_cast<int>(blockIdx.y) * t.chunk_rows;
  const int end = begin + t.chunk_rows < rows ? begin + t.chunk_rows : rows;
  float sum[E] = {};
  if (c < columns && line < t.lines) {
#pragma unroll 4
    for (int r = begin + line; r < end; r += t.lines) {
      float v[E];
      load_slice(v, from + (r * ld + c), E);
#pragma unroll
      for (int k = 0; k < E; ++k) sum[k] += v[k];
    }
  }
#pragma unroll
  for (int k = 0; k < E; ++k) scratch[k * 256 + threadIdx.x] = sum[k];
  __syncthreads();
  for (int n = t.lines; n > 1;) {  // the upper half onto the lower one
    const int half = (n + 1) / 2;
    if (line + half < n) {
#pragma unroll
      for (int k = 0; k < E; ++k) {
        sum[k] += scratch[k * 256 + threadIdx.x + half * t.width];
        scratch[k * 256 + threadIdx.x] = sum[k];
      }
    }
    __syncthreads();
    n = half;
  }
  if (line == 0 && c < columns) store_slice(parts + (static_cast<std::int64_t>(blockIdx.y) * columns + c), sum, E);
}

// Second stage: 32 columns a block, a column a lane; the warps share the chunks.
__global__ void __launch_bounds__(256)
    column_totals_kernel(Out<float> to, In<float> parts, int columns, int chunks, bool adds) {
  SIMT_SHARED(float, scratch, 256);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, c = static_cast<int>(blockIdx.x) * 32 + lane;
  float sum = 0;
  if (c < columns) {
    for (int k = warp; k < chunks; k += 8) sum += parts[static_cast<std::int64_t>(k) * columns + c];
  }
  scratch[threadIdx.x] = sum;
  __syncthreads();
  if (warp != 0 || c >= columns) return;
#pragma unroll
  for (int k = 1; k < 8; ++k) sum += scratch[k * 32 + lane];
  to[c] = adds ? to[c] + sum : sum;
}

Tiles tiles_of(std::int64_t rows, int columns) {
  const int units = columns % 4 == 0 ? columns / 4 : columns;
  Tiles t;
  t.tiles = (units + 255) / 256;
  t.width = t.tiles == 1 ? units : ((units + t.tiles - 1) / t.tiles + 31) / 32 * 32;
  t.lines = 256 / t.width;
  const int least = 8 * t.lines, even = static_cast<int>((rows + column_chunks - 1) / column_chunks);
  t.chunk_rows = least > even ? least : even;
  t.chunks = static_cast<int>((rows + t.chunk_rows - 1) / t.chunk_rows);
  return t;
}

// A tile of a sample: the whole shorter side, or a part of at most 352, by 32 to 128 of the longer one. In shared
// memory it lies as on the side where the shorter one is contiguous, in rows of odd length: there threads run along it
// in memory order, on the other side along the longer one, and no bank is met twice.
struct TransposeTile {
  int shorter, longer, part, length;  // part, length: of a tile
};
template <bool from_shorter>  // the input's rows are the shorter side
__global__ void __launch_bounds__(256)
    transpose_kernel(Pointer<float> y, In<float> from, Pointer<const float> add, TransposeTile t) {
  SIMT_DYNAMIC_SHARED(tile);
  const int s0 = static_cast<int>(blockIdx.y) * t.part, l0 = static_cast<int>(blockIdx.x) * t.length;
  const int s = t.shorter - s0 < t.part ? t.shorter - s0 : t.part;
  const int l = t.longer - l0 < t.length ? t.longer - l0 : t.length;
  const int pitch = t.part | 1;
  const std::int64_t sample = static_cast<std::int64_t>(blockIdx.z) * t.shorter * t.longer;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  // Element (i, k), i along the shorter and k along the longer side: rows of the longer side, and the other matrix.
  const auto by_row = [&](int i, int k) { return sample + static_cast<std::int64_t>(s0 + i) * t.longer + (l0 + k); };
  const auto by_column = [&](int i, int k) {
    return sample + static_cast<std::int64_t>(l0 + k) * t.shorter + (s0 + i);
  };
  if (from_shorter) {
    for (int i = warp; i < s; i += 8) {
      for (int k = lane; k < l; k += 32) tile[k * pitch + i] = from[by_row(i, k)];
    }
  } else {
    for (int e = threadIdx.x; e < s * l; e += 256) tile[e / s * pitch + e % s] = from[by_column(e % s, e / s)];
  }
  __syncthreads();
  if (from_shorter) {
    for (int e = threadIdx.x; e < s * l; e += 256) {
      const std::int64_t at = by_column(e % s, e / s);
      y[at] = tile[e / s * pitch + e % s] + (add ? static_cast<float>(add[at]) : 0.0f);
    }
  } else {
    for (int i = warp; i < s; i += 8) {
      for (int k = lane; k < l; k += 32) {
        const std::int64_t at = by_row(i, k);
        y[at] = tile[k * pitch + i] + (add ? static_cast<float>(add[at]) : 0.0f);
      }
    }
  }
}

template <bool backward>
void launch_epilogue(const Cuda& on, float* y, bool adds, const float* a, const float* bias, const float* other,
                     std::int64_t rows, std::int64_t columns, Activation activation, const Dropout& dropout) {
  EpilogueArguments e;
  e.a = a, e.bias = bias, e.other = other, e.progress = dropout.progress, e.seed = dropout.seed, e.step = dropout.step;
  e.first = dropout_index(dropout.pass, dropout.site), e.count = rows * columns;
  e.columns = static_cast<int>(columns);
  e.half = (rows + 7) / 8 * 4 * columns;  // whole rows, whole Philox blocks
  e.activation = activation, e.dropping = dropout.rate > 0, e.adds = adds;
  e.threshold = dropout_threshold(dropout.rate);
  e.kept = static_cast<float>(1 / (1 - dropout.rate));
  launch(on, backward ? "bias_activation_backward" : "bias_activation", bias_activation_kernel<backward>,
         grid_of(e.half, 1024), y, e);
}

// ---- matrices in place, and mean squares ---------------------------------------------------------------------------

enum class Assign { zero, copy, add };

__global__ void __launch_bounds__(256) assign_kernel(Pointer<float> to, In<float> from, std::int64_t ldt,
                                                     std::int64_t ldf, int columns, int across, Assign what) {
  const std::int64_t r = static_cast<int>(blockIdx.x) / across;
  const int c = static_cast<int>(blockIdx.x) % across * 1024 + 4 * static_cast<int>(threadIdx.x), left = columns - c;
  if (left <= 0) return;
  const Pointer<float> at = to + (r * ldt + c);
  float v[4] = {}, before[4];
  if (what != Assign::zero) load_slice(v, from + (r * ldf + c), left);
  if (what == Assign::add) {
    load_slice<4>(before, at, left);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] += before[k];
  }
  store_slice(at, v, left);
}
void assign(const Cuda& on, const char* name, Assign what, float* to, std::int64_t ldt, const float* from,
            std::int64_t ldf, std::int64_t rows, std::int64_t columns) {
  const bool dense = ldt == columns && (ldf == columns || from == nullptr);
  if (dense && rows * columns < (std::int64_t{1} << 31)) columns *= rows, rows = 1;
  const std::int64_t across = (columns + 1023) / 1024;
  launch(on, name, assign_kernel, grid_of(across * rows, 1), to, from, ldt, ldf, static_cast<int>(columns),
         static_cast<int>(across), what);
}

// A warp a row; then one block adds the rows up.
__global__ void __launch_bounds__(256)
    squares_kernel(Out<float> row_sums, In<float> a, In<float> b, int rows, int columns) {
  const int lane = threadIdx.x & 31, r = static_cast<int>(blockIdx.x) * 8 + static_cast<int>(threadIdx.x >> 5);
  if (r >= rows) return;  // the whole warp
  float sum = 0;
  for (int c = lane; c < columns; c += 32) {
    const std::int64_t at = static_cast<std::int64_t>(r) * columns + c;
    const float apart = a[at] - b[at];
    sum += apart * apart;
  }
  sum = warp_sum(sum);
  if (lane == 0) row_sums[r] = sum;
}
__global__ void __launch_bounds__(256) mean_kernel(Out<float> mean, In<float> row_sums, int rows, float count) {
  SIMT_SHARED(float, scratch, 8);
  float sum = 0;
  for (int r = threadIdx.x; r < rows; r += 256) sum += row_sums[r];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *mean = sum / count;
}
__global__ void __launch_bounds__(256)
    squares_backward_kernel(Out<float> to, In<float> seed, In<float> a, In<float> b, std::int64_t ld,
                            std::int64_t count, int columns, float scale, bool adds) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= count) return;
  const float slope = scale * *seed * (a[i] - b[i]);
  const Out<float> at = to + (i / columns * ld + i % columns);
  *at = adds ? *at + slope : slope;
}

}  // namespace

void clear(const Cuda& on, float* to, std::int64_t ld, std::int64_t rows, std::int64_t columns) {
  assign(on, "clear", Assign::zero, to, ld, nullptr, 0, rows, columns);
}
void copy(const Cuda& on, float* to, std::int64_t ldt, const float* from, std::int64_t ldf, std::int64_t rows,
          std::int64_t columns) {
  assign(on, "copy", Assign::copy, to, ldt, from, ldf, rows, columns);
}
void add(const Cuda& on, float* to, std::int64_t ldt, const float* from, std::int64_t ldf, std::int64_t rows,
         std::int64_t columns) {
  assign(on, "add", Assign::add, to, ldt, from, ldf, rows, columns);
}

void bias_activation(const Cuda& on, float* y, float*, const float* a, const float* bias, const float* residual,
                     std::int64_t rows, std::int64_t columns, Activation activation, const Dropout& dropout) {
  launch_epilogue<false>(on, y, false, a, bias, residual, rows, columns, activation, dropout);
}
void bias_activation_backward(const Cuda& on, Sink<float> da, const float* dy, const float*, const float* a,
                              const float* bias, std::int64_t rows, std::int64_t columns, Activation activation,
                              const Dropout& dropout) {
  launch_epilogue<true>(on, da.data, da.add, a, bias, dy, rows, columns, activation, dropout);
}

void add_column_sums(const Cuda& on, Sink<float> to, const float* from, std::int64_t ld, std::int64_t rows,
                     std::int64_t columns, float* scratch) {
  const int n = static_cast<int>(columns);
  const Tiles t = tiles_of(rows, n);
  launch("column_parts", columns % 4 == 0 ? column_parts_kernel<4> : column_parts_kernel<1>,
         dim3{static_cast<unsigned>(t.tiles), static_cast<unsigned>(t.chunks), 1},
         dim3{static_cast<unsigned>((t.width * t.lines + 31) / 32 * 32), 1, 1}, 0, static_cast<simt::Stream>(on.stream),
         scratch, from, ld, static_cast<int>(rows), n, t);
  launch(on, "column_totals", column_totals_kernel, grid_of(columns, 32), to.data, scratch, n, t.chunks, to.add);
}

void transpose(const Cuda& on, float* y, const float* from, const float* add, std::int64_t samples, std::int64_t rows,
               std::int64_t columns) {
  const bool from_shorter = rows <= columns;
  TransposeTile t;
  t.shorter = static_cast<int>(from_shorter ? rows : columns);
  t.longer = static_cast<int>(from_shorter ? columns : rows);
  const int parts = (t.shorter + 351) / 352;
  t.part = (t.shorter + parts - 1) / parts;
  t.length = 32;
  while (t.length < 128 && 2 * t.length * t.part <= 2048) t.length *= 2;
  constexpr std::int64_t most = 65535;  // blocks of a grid's third dimension
  for (std::int64_t first = 0; first < samples; first += most) {
    const std::int64_t n = samples - first < most ? samples - first : most, at = first * rows * columns;
    launch("transpose", from_shorter ? transpose_kernel<true> : transpose_kernel<false>,
           dim3{static_cast<unsigned>((t.longer + t.length - 1) / t.length), static_cast<unsigned>(parts),
                static_cast<unsigned>(n)},
           dim3{256, 1, 1}, static_cast<std::size_t>(t.part | 1) * static_cast<std::size_t>(t.length) * 4,
           static_cast<simt::Stream>(on.stream), y + at, from + at, add ? add + at : nullptr, t);
  }
}

void mean_squares(const Cuda& on, float* mean, const float* a, const float* b, std::int64_t rows, std::int64_t columns,
                  float* scratch) {
  launch(on, "squares", squares_kernel, grid_of(rows, 8), scratch, a, b, static_cast<int>(rows),
         static_cast<int>(columns));
  launch(on, "mean", mean_kernel, dim3{1, 1, 1}, mean, scratch, static_cast<int>(rows),
         static_cast<float>(rows * columns));
}
void mean_squares_backward(const Cuda& on, Sink<float> da, Sink<float> db, const float* seed, const float* a,
                           const float* b, std::int64_t rows, std::int64_t columns) {
  const float scale = 2.0f / static_cast<float>(rows * columns);
  for (const bool first : {true, false}) {
    const Sink<float> to = first ? da : db;
    if (!to) continue;
    launch(on, "squares_backward", squares_backward_kernel, grid_of(rows * columns, 256), to.data, seed, a, b, to.ld,
           rows * columns, static_cast<int>(columns), first ? scale : -scale, to.add);
  }
}

}  // namespace samformer::kernels
