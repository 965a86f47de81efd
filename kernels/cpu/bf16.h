// Matrix products in bfloat16, added up in float:   C[M][N] (+)= A[M][K] B[K][N],   for CPUs with AVX512-BF16, on the
// matrix units (AMX-BF16) where there are some: on Intel's CPUs AVX512-BF16 alone is slower than float.
//
// The instructions multiply pairs: c += a0 b0 + a1 b1. Operands are therefore stored as 32-bit words that hold two
// values which are neighbours along K (the first in the low half), filled up with 0 to a multiple of 16 pairs:
//   A  [rows][pairs], in memory for a multiple of 16 rows;
//   B  panels of 64 columns, one after the other, each [pairs][64]; the last one is as wide as is left, rounded up to a
//      multiple of 16 (0 in the columns that are not there).
// Values are rounded to nearest, even; NaN stays NaN; what is below 1e-38 counts as 0. Blocks of 64 rows x 1 panel, each
// with K in order: bits do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

// Whether this CPU has the instructions, and SAMFORMER_MAX_ISA does not lower them away.
bool bf16_available();
// Whether it has matrix units too, and the system lets the process use them. SAMFORMER_MAX_ISA=v4: no.
bool matrix_units_available();

inline constexpr std::int64_t bf16_panel = 64, bf16_tile = 16;  // of words, as many rows or pairs

constexpr std::int64_t bf16_pairs(std::int64_t K) { return blocks_of(K, 2 * bf16_tile) * bf16_tile; }
// Words of A for M rows, of B for N columns.
constexpr std::int64_t bf16_words(std::int64_t lines, std::int64_t K) {
  return blocks_of(lines, bf16_tile) * bf16_tile * bf16_pairs(K);
}

inline std::uint32_t bf16_bits(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  return (x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000) >> 16;
}
inline std::uint32_t bf16_word(float first, float second) { return bf16_bits(first) | bf16_bits(second) << 16; }

// A from x [R][K].
inline void bf16_rows(std::uint32_t* words, const float* x, std::int64_t R, std::int64_t K) {
  const std::int64_t pairs = bf16_pairs(K);
  parallel_for<float>(blocks_of(R, bf16_tile), [=](std::int64_t block) {
    for (std::int64_t r = block * bf16_tile; r < std::min(R, (block + 1) * bf16_tile); ++r) {
      const float* from = x + r * K;
      std::uint32_t* to = words + r * pairs;
      for (std::int64_t p = 0; p < K / 2; ++p) to[p] = bf16_word(from[2 * p], from[2 * p + 1]);
      if (K % 2 != 0) to[K / 2] = bf16_word(from[K - 1], 0);
      std::fill(to + blocks_of(K, 2), to + pairs, 0);
    }
  });
}

namespace detail {

// to[16][16] = from', any words.
template <class Target>
inline void turn_tile(std::uint32_t* to, std::int64_t ldt, const std::uint32_t (&from)[bf16_tile][bf16_tile]) {
  constexpr int side = lanes<float, Target::bytes>;
  for (std::int64_t i = 0; i < bf16_tile; i += side) {
    for (std::int64_t j = 0; j < bf16_tile; j += side) {
      Pack<float, Target::bytes> x[side];
      for (int r = 0; r < side; ++r) load(x[r], from[i + r] + j);
      transpose_runs<1>(x);
      for (int r = 0; r < side; ++r) store(to + (j + r) * ldt + i, x[r]);
    }
  }
}

}  // namespace detail

// B = W' from W [N][K].
inline void bf16_panels_of_rows(std::uint32_t* words, const float* W, std::int64_t N, std::int64_t K) {
  const std::int64_t pairs = bf16_pairs(K);
  parallel_for<float>(blocks_of(N, bf16_tile), [=](std::int64_t block, auto target) {
    const std::int64_t first = block * bf16_tile, panel = first / bf16_panel * bf16_panel;
    const std::int64_t width = std::min(bf16_panel, blocks_of(N - panel, bf16_tile) * bf16_tile);
    std::uint32_t* to = words + panel * pairs + (first - panel);
    std::uint32_t tile[bf16_tile][bf16_tile];
    for (std::int64_t p = 0; p < pairs; p += bf16_tile) {
      for (std::int64_t c = 0; c < bf16_tile; ++c) {
        const std::int64_t whole = first + c < N ? std::clamp<std::int64_t>(K / 2 - p, 0, bf16_tile) : 0;
        const float* from = W + (first + c) * K + 2 * p;
        for (std::int64_t k = 0; k < whole; ++k) tile[c][k] = bf16_word(from[2 * k], from[2 * k + 1]);
        std::fill(tile[c] + whole, tile[c] + bf16_tile, 0);
        if (first + c < N && whole < bf16_tile && 2 * (p + whole) < K) tile[c][whole] = bf16_word(from[2 * whole], 0);
      }
      detail::turn_tile<decltype(target)>(to + p * width, width, tile);
    }
  });
}

// B from x [R][N], K the rows.
inline void bf16_panels(std::uint32_t* words, const float* x, std::int64_t R, std::int64_t N) {
  const std::int64_t pairs = bf16_pairs(R);
  constexpr std::int64_t together = 8;
  parallel_for<float>(blocks_of(pairs, together), [=](std::int64_t block) {
    for (std::int64_t p = block * together; p < std::min(pairs, (block + 1) * together); ++p) {
      const bool has_even = 2 * p < R, has_odd = 2 * p + 1 < R;
      const float* even = x + 2 * p * N;
      for (std::int64_t first = 0; first < N; first += bf16_panel) {
        const std::int64_t count = std::min(bf16_panel, N - first), width = blocks_of(count, bf16_tile) * bf16_tile;
        std::uint32_t* to = words + first * pairs + p * width;
        if (has_odd) {
          const float *a = even + first, *b = a + N;
          for (std::int64_t c = 0; c < count; ++c) to[c] = bf16_word(a[c], b[c]);
        } else {
          for (std::int64_t c = 0; c < count; ++c) to[c] = has_even ? bf16_word(even[first + c], 0) : 0;
        }
        std::fill(to + count, to + width, 0);
      }
    }
  });
}

// A = x' from x [R][N], K the rows.
inline void bf16_rows_of_columns(std::uint32_t* words, const float* x, std::int64_t R, std::int64_t N) {
  const std::int64_t pairs = bf16_pairs(R), across = blocks_of(N, bf16_tile);
  constexpr std::int64_t together = 8;  // tiles along K
  parallel_for<float>(across * blocks_of(pairs, together * bf16_tile), [=](std::int64_t block, auto target) {
    const std::int64_t first = block % across * bf16_tile, count = std::min(bf16_tile, N - first);
    const std::int64_t begin = block / across * together * bf16_tile;
    std::uint32_t tile[bf16_tile][bf16_tile] = {};
    for (std::int64_t p = begin; p < std::min(pairs, begin + together * bf16_tile); p += bf16_tile) {
      for (std::int64_t k = 0; k < bf16_tile; ++k) {
        const std::int64_t r = 2 * (p + k);
        const float* even = x + r * N + first;
        if (r + 1 < R) {
          for (std::int64_t c = 0; c < count; ++c) tile[k][c] = bf16_word(even[c], even[N + c]);
        } else {
          for (std::int64_t c = 0; c < count; ++c) tile[k][c] = r < R ? bf16_word(even[c], 0) : 0;
        }
      }
      detail::turn_tile<decltype(target)>(words + first * pairs + p, pairs, tile);
    }
  });
}

// What both passes of a step share: the windows xhat [R][L] as A of the projection and as B of its backward.
struct Bf16Windows {
  const std::uint32_t* rows = nullptr;    // pairs of L
  const std::uint32_t* panels = nullptr;  // pairs of R
};

inline constexpr std::int64_t bf16_block_rows = 64;

// C[M][N] of one panel, M <= bf16_block_rows, serial.
void bf16_block(std::int64_t M, std::int64_t N, std::int64_t pairs, const std::uint32_t* A, const std::uint32_t* B,
                float* C, std::int64_t ldc, bool accumulate);

// C[M][N] (+)= A B on all threads; `epilogue` as gemm's.
template <class Epilogue>
void bf16_gemm(std::int64_t M, std::int64_t N, std::int64_t K, const std::uint32_t* A, const std::uint32_t* B, float* C,
               std::int64_t ldc, bool accumulate, const Epilogue epilogue) {
  const std::int64_t pairs = bf16_pairs(K), down = blocks_of(M, bf16_block_rows), across = blocks_of(N, bf16_panel);
  parallel_for<float>(down * across, [=](std::int64_t block) {
    const std::int64_t i = block / across * bf16_block_rows, j = block % across * bf16_panel;
    const std::int64_t m = std::min(bf16_block_rows, M - i), n = std::min(bf16_panel, N - j);
    bf16_block(m, n, pairs, A + i * pairs, B + j * pairs, C + i * ldc + j, ldc, accumulate);
    epilogue(i, j, m, n);
  });
}

}  // namespace samformer::kernels
