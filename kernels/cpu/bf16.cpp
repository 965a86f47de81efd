#include "kernels/cpu/bf16.h"

#include <cstring>
#include <stdexcept>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace samformer::kernels {

#ifdef __x86_64__

bool bf16_available() { return isa() == Isa::v4 && __builtin_cpu_supports("avx512bf16"); }

namespace {

#define SAMFORMER_BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))

// A tile of C stays in registers, 6 x 4 vectors or as many of fewer columns; a word of A is broadcast against a row of
// B's panel.
template <int Rows, int Vectors>
SAMFORMER_BF16 void tile(std::int64_t pairs, Bf16Operand A, const std::uint32_t* B, float* C, std::int64_t ldc,
                         __mmask16 last, bool accumulate) {
  __m512 total[Rows][Vectors];
  for (int i = 0; i < Rows; ++i) {
    for (int v = 0; v < Vectors; ++v) {
      const __mmask16 mask = v == Vectors - 1 ? last : __mmask16{0xffff};
      total[i][v] = accumulate ? _mm512_maskz_loadu_ps(mask, C + i * ldc + 16 * v) : _mm512_setzero_ps();
    }
  }
  for (std::int64_t p = 0; p < pairs; ++p) {
    __m512i b[Vectors];
    for (int v = 0; v < Vectors; ++v) b[v] = _mm512_loadu_si512(B + p * 16 * Vectors + 16 * v);
    for (int i = 0; i < Rows; ++i) {
      const __m512i a = _mm512_set1_epi32(static_cast<int>(A.words[i * A.row + p * A.pair]));
      for (int v = 0; v < Vectors; ++v) total[i][v] = _mm512_dpbf16_ps(total[i][v], (__m512bh)a, (__m512bh)b[v]);
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int v = 0; v < Vectors; ++v) {
      _mm512_mask_storeu_ps(C + i * ldc + 16 * v, v == Vectors - 1 ? last : __mmask16{0xffff}, total[i][v]);
    }
  }
}

template <int Vectors>
SAMFORMER_BF16 void panel(std::int64_t M, std::int64_t N, std::int64_t pairs, Bf16Operand A, const std::uint32_t* B,
                          float* C, std::int64_t ldc, bool accumulate) {
  const auto last = static_cast<__mmask16>(0xffff >> (16 * Vectors - N));
  constexpr std::int64_t depth = 512;  // 128 KiB of B, read once a tile, stay in the second-level cache
  for (std::int64_t p = 0; p < pairs; p += depth) {
    const std::int64_t count = std::min(depth, pairs - p);
    const std::uint32_t* b = B + p * 16 * Vectors;
    const bool add = accumulate || p > 0;
    const auto from = [&](std::int64_t i) { return Bf16Operand{A.words + i * A.row + p * A.pair, A.row, A.pair}; };
    constexpr int most[] = {16, 12, 8, 6}, rows = most[Vectors - 1];
    std::int64_t i = 0;
    for (; i + rows <= M; i += rows) tile<rows, Vectors>(count, from(i), b, C + i * ldc, ldc, last, add);
    for (; i + 2 <= M; i += 2) tile<2, Vectors>(count, from(i), b, C + i * ldc, ldc, last, add);
    if (i < M) tile<1, Vectors>(count, from(i), b, C + i * ldc, ldc, last, add);
  }
}

}  // namespace

void bf16_block(std::int64_t M, std::int64_t N, std::int64_t pairs, Bf16Operand A, const std::uint32_t* B, float* C,
                std::int64_t ldc, bool accumulate) {
  switch (blocks_of(N, 16)) {
    case 1:
      return panel<1>(M, N, pairs, A, B, C, ldc, accumulate);
    case 2:
      return panel<2>(M, N, pairs, A, B, C, ldc, accumulate);
    case 3:
      return panel<3>(M, N, pairs, A, B, C, ldc, accumulate);
    default:
      return panel<4>(M, N, pairs, A, B, C, ldc, accumulate);
  }
}

#else

bool bf16_available() { return false; }

void bf16_block(std::int64_t, std::int64_t, std::int64_t, Bf16Operand, const std::uint32_t*, float*, std::int64_t,
                bool) {
  throw std::logic_error("bf16_block: this processor has no AVX512-BF16");
}

#endif

}  // namespace samformer::kernels
