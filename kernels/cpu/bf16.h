// Matrix products in bfloat16, added up in float:   C[M][N] (+)= A[M][K] B[K][N],   for CPUs with AVX512-BF16.
//
// The instruction multiplies pairs: c += a0 b0 + a1 b1. Operands are therefore stored as 32-bit words that hold two
// values which are neighbours along K (the first in the low half), an odd K filled up with 0:
//   A  any strides: the word of row i and pair p at words[i row + p pair];
//   B  panels of 64 columns, one after the other, each [pairs][64]; the last one is as wide as is left, rounded up to a
//      multiple of 16 (0 in the columns that are not there).
// Values are rounded to nearest, even; NaN stays NaN. Blocks of 48 rows x 1 panel, each with K in order: bits do not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cpu/parallel.h"

namespace samformer::kernels {

// Whether this CPU has the instructions, and SAMFORMER_MAX_ISA does not lower them away.
bool bf16_available();

inline constexpr std::int64_t bf16_panel = 64;

constexpr std::int64_t bf16_pairs(std::int64_t K) { return blocks_of(K, 2); }
// Words of B for N columns and K rows.
constexpr std::int64_t bf16_panel_words(std::int64_t N, std::int64_t K) {
  return blocks_of(N, 16) * 16 * bf16_pairs(K);
}

inline std::uint32_t bf16_bits(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  return (x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000) >> 16;
}
inline std::uint32_t bf16_word(float first, float second) { return bf16_bits(first) | bf16_bits(second) << 16; }

// A from x [R][K], pairs along the rows: words [R][pairs].
inline void bf16_rows(std::uint32_t* words, const float* x, std::int64_t R, std::int64_t K) {
  constexpr std::int64_t rows = 16;
  const std::int64_t pairs = bf16_pairs(K);
  parallel_for<float>(blocks_of(R, rows), [=](std::int64_t block) {
    for (std::int64_t r = block * rows; r < std::min(R, (block + 1) * rows); ++r) {
      const float* from = x + r * K;
      std::uint32_t* to = words + r * pairs;
      for (std::int64_t p = 0; p < K / 2; ++p) to[p] = bf16_word(from[2 * p], from[2 * p + 1]);
      if (K % 2 != 0) to[pairs - 1] = bf16_word(from[K - 1], 0);
    }
  });
}

// B = W' from W [N][K], pairs along the rows of W: panels.
inline void bf16_panels_of_rows(std::uint32_t* words, const float* W, std::int64_t N, std::int64_t K) {
  constexpr std::int64_t columns = 16, depth = 64;
  const std::int64_t pairs = bf16_pairs(K);
  parallel_for<float>(blocks_of(N, columns), [=](std::int64_t block) {
    const std::int64_t first = block * columns, panel = first / bf16_panel * bf16_panel;
    const std::int64_t width = std::min(bf16_panel, blocks_of(N - panel, columns) * columns);
    std::uint32_t* to = words + panel * pairs + (first - panel);
    std::uint32_t turned[columns][depth];
    for (std::int64_t p = 0; p < pairs; p += depth) {
      const std::int64_t count = std::min(depth, pairs - p), whole = std::min(count, K / 2 - p);
      for (std::int64_t c = 0; c < columns; ++c) {
        std::fill_n(turned[c], count, 0);
        if (first + c >= N) continue;
        const float* from = W + (first + c) * K + 2 * p;
        for (std::int64_t k = 0; k < whole; ++k) turned[c][k] = bf16_word(from[2 * k], from[2 * k + 1]);
        if (whole < count) turned[c][whole] = bf16_word(from[2 * whole], 0);
      }
      for (std::int64_t k = 0; k < count; ++k) {
        for (std::int64_t c = 0; c < columns; ++c) to[(p + k) * width + c] = turned[c][k];
      }
    }
  });
}

// Pairs of neighbouring rows of x [R][N] (rows ldx apart), in panels of `panel` columns, the last one filled up with 0
// to a multiple of `granule`: B of a product over R with 64 and 16, A' of one (row 1, pair N) with N and 1.
inline void bf16_row_pairs(std::uint32_t* words, const float* x, std::int64_t ldx, std::int64_t R, std::int64_t N,
                           std::int64_t panel, std::int64_t granule) {
  const std::int64_t pairs = bf16_pairs(R);
  constexpr std::int64_t together = 8;
  parallel_for<float>(blocks_of(pairs, together), [=](std::int64_t block) {
    for (std::int64_t p = block * together; p < std::min(pairs, (block + 1) * together); ++p) {
      const float *even = x + 2 * p * ldx, *odd = even + ldx;
      const bool last = 2 * p + 1 == R;
      for (std::int64_t first = 0; first < N; first += panel) {
        const std::int64_t count = std::min(panel, N - first), width = blocks_of(count, granule) * granule;
        std::uint32_t* to = words + first * pairs + p * width;
        for (std::int64_t c = 0; c < count; ++c) to[c] = bf16_word(even[first + c], last ? 0 : odd[first + c]);
        std::fill(to + count, to + width, 0);
      }
    }
  });
}

// What both passes of a step share: the windows xhat [R][L] as A of the projection and as B of its backward.
struct Bf16Windows {
  const std::uint32_t* rows = nullptr;    // [R][pairs of L]
  const std::uint32_t* panels = nullptr;  // pairs of R
};

struct Bf16Operand {
  const std::uint32_t* words;
  std::int64_t row, pair;
};

inline constexpr std::int64_t bf16_block_rows = 48;

// C[M][N] of one panel, M <= bf16_block_rows, serial.
void bf16_block(std::int64_t M, std::int64_t N, std::int64_t pairs, Bf16Operand A, const std::uint32_t* B, float* C,
                std::int64_t ldc, bool accumulate);

// C[M][N] (+)= A B on all threads; `epilogue` as gemm's.
template <class Epilogue>
void bf16_gemm(std::int64_t M, std::int64_t N, std::int64_t K, Bf16Operand A, const std::uint32_t* B, float* C,
               std::int64_t ldc, bool accumulate, const Epilogue epilogue) {
  const std::int64_t pairs = bf16_pairs(K), down = blocks_of(M, bf16_block_rows), across = blocks_of(N, bf16_panel);
  parallel_for<float>(down * across, [=](std::int64_t block) {
    const std::int64_t i = block / across * bf16_block_rows, j = block % across * bf16_panel;
    const std::int64_t m = std::min(bf16_block_rows, M - i), n = std::min(bf16_panel, N - j);
    bf16_block(m, n, pairs, {A.words + i * A.row, A.row, A.pair}, B + j * pairs, C + i * ldc + j, ldc, accumulate);
    epilogue(i, j, m, n);
  });
}

}  // namespace samformer::kernels
