#include "kernels/cpu/bf16.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace samformer::kernels {

#ifdef __x86_64__

bool bf16_available() { return isa() == Isa::v4 && __builtin_cpu_supports("avx512bf16"); }

namespace {

bool find_matrix_units() {
  const char* const limit = std::getenv("SAMFORMER_MAX_ISA");
  if (!bf16_available() || (limit && std::string_view(limit) == "v4")) return false;
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned needed = 1u << 22 | 1u << 24;  // AMX-BF16, AMX-TILE
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & needed) != needed) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

#define SAMFORMER_BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))

// A tile of C stays in registers, 6 x 4 vectors or as many of fewer columns; a word of A is broadcast against a row of
// B's panel.
template <int Rows, int Vectors>
SAMFORMER_BF16 void tile(std::int64_t pairs, const std::uint32_t* A, std::int64_t lda, const std::uint32_t* B, float* C,
                         std::int64_t ldc, __mmask16 last, bool accumulate) {
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
      const __m512i a = _mm512_set1_epi32(static_cast<int>(A[i * lda + p]));
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
SAMFORMER_BF16 void panel(std::int64_t M, std::int64_t N, std::int64_t pairs, const std::uint32_t* A,
                          const std::uint32_t* B, float* C, std::int64_t ldc, bool accumulate) {
  const auto last = static_cast<__mmask16>(0xffff >> (16 * Vectors - N));
  constexpr std::int64_t depth = 512;  // 128 KiB of B, read once a tile, stay in the second-level cache
  for (std::int64_t p = 0; p < pairs; p += depth) {
    const std::int64_t count = std::min(depth, pairs - p);
    const std::uint32_t* b = B + p * 16 * Vectors;
    const bool add = accumulate || p > 0;
    const std::uint32_t* a = A + p;
    constexpr int most[] = {16, 12, 8, 6}, rows = most[Vectors - 1];
    std::int64_t i = 0;
    for (; i + rows <= M; i += rows) tile<rows, Vectors>(count, a + i * pairs, pairs, b, C + i * ldc, ldc, last, add);
    for (; i + 2 <= M; i += 2) tile<2, Vectors>(count, a + i * pairs, pairs, b, C + i * ldc, ldc, last, add);
    if (i < M) tile<1, Vectors>(count, a + i * pairs, pairs, b, C + i * ldc, ldc, last, add);
  }
}

#define SAMFORMER_AMX __attribute__((target("arch=x86-64-v4,amx-tile,amx-bf16")))

// This thread's: eight tiles of 16 rows of 64 bytes.
SAMFORMER_AMX void configure_tiles() {
  static thread_local bool done = false;
  if (done) return;
  struct alignas(64) Config {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static constexpr Config config;  // not on the stack: g++ 12 takes the instruction to read 8 bytes of it
  _tile_loadconfig(&config);
  done = true;
}

// C of Down x Across tiles of 16 x 16. Tiles 0 to 3 are C's, 4 and 5 A's, 6 and 7 B's.
template <int Down, int Across>
SAMFORMER_AMX void tiles(std::int64_t pairs, const std::uint32_t* A, const std::uint32_t* B, std::int64_t width,
                         float* C, std::int64_t ldc, bool accumulate) {
  constexpr bool down = Down > 1, across = Across > 1;
  const auto bytes = [](std::int64_t words) { return static_cast<std::size_t>(words) * 4; };
  asm volatile("" ::: "memory");  // g++ 12 does not know that a load of a tile reads memory
  if (accumulate) {
    _tile_loadd(0, C, bytes(ldc));
    if constexpr (across) _tile_loadd(1, C + 16, bytes(ldc));
    if constexpr (down) _tile_loadd(2, C + 16 * ldc, bytes(ldc));
    if constexpr (down && across) _tile_loadd(3, C + 16 * ldc + 16, bytes(ldc));
  } else {
    _tile_zero(0);
    if constexpr (across) _tile_zero(1);
    if constexpr (down) _tile_zero(2);
    if constexpr (down && across) _tile_zero(3);
  }
  for (std::int64_t p = 0; p < pairs; p += bf16_tile) {
    _tile_loadd(4, A + p, bytes(pairs));
    _tile_loadd(6, B + p * width, bytes(width));
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (across) {
      _tile_loadd(7, B + p * width + 16, bytes(width));
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (down) {
      _tile_loadd(5, A + 16 * pairs + p, bytes(pairs));
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (down && across) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, C, bytes(ldc));
  if constexpr (across) _tile_stored(1, C + 16, bytes(ldc));
  if constexpr (down) _tile_stored(2, C + 16 * ldc, bytes(ldc));
  if constexpr (down && across) _tile_stored(3, C + 16 * ldc + 16, bytes(ldc));
}

void block_on_matrix_units(std::int64_t M, std::int64_t N, std::int64_t pairs, const std::uint32_t* A,
                           const std::uint32_t* B, float* C, std::int64_t ldc, bool accumulate) {
  configure_tiles();
  const std::int64_t width = blocks_of(N, bf16_tile) * bf16_tile;
  for (std::int64_t i = 0; i < M; i += 32) {
    for (std::int64_t j = 0; j < N; j += 32) {
      const std::int64_t m = std::min<std::int64_t>(32, M - i), n = std::min<std::int64_t>(32, N - j);
      const bool whole = m % bf16_tile == 0 && n % bf16_tile == 0;
      float edge[32 * 32], *const c = C + i * ldc + j, *const to = whole ? c : edge;
      const std::int64_t ld = whole ? ldc : 32;
      for (std::int64_t r = 0; !whole && accumulate && r < m; ++r) std::copy_n(c + r * ldc, n, edge + r * 32);
      const auto run = m > 16 ? (n > 16 ? tiles<2, 2> : tiles<2, 1>) : (n > 16 ? tiles<1, 2> : tiles<1, 1>);
      run(pairs, A + i * pairs, B + j, width, to, ld, accumulate);
      for (std::int64_t r = 0; !whole && r < m; ++r) std::copy_n(edge + r * 32, n, c + r * ldc);
    }
  }
}

}  // namespace

bool matrix_units_available() {
  static const bool available = find_matrix_units();
  return available;
}

void bf16_block(std::int64_t M, std::int64_t N, std::int64_t pairs, const std::uint32_t* A, const std::uint32_t* B,
                float* C, std::int64_t ldc, bool accumulate) {
  if (matrix_units_available()) return block_on_matrix_units(M, N, pairs, A, B, C, ldc, accumulate);
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

bool matrix_units_available() { return false; }

void bf16_block(std::int64_t, std::int64_t, std::int64_t, const std::uint32_t*, const std::uint32_t*, float*,
                std::int64_t, bool) {
  throw std::logic_error("bf16_block: this processor has no AVX512-BF16");
}

#endif

}  // namespace samformer::kernels
