#include "kernels/gemm.h"

#include <omp.h>

#include "kernels/cpu/onednn.h"

namespace samformer::kernels {

GemmBlocks gemm_blocks(std::int64_t M, std::int64_t N, std::int64_t K) {
  // A block of 2 million multiplications or more keeps a core busy for some 40 us, so that what it starts with is
  // noise: large products are halved down to that, or to 8 blocks, with sides of 32 at least.
  // Medium ones are worth two cores. Past 512 rows a block only costs balance. Sides are multiples of 4.
  constexpr std::int64_t enough = std::int64_t{2} << 20, medium = std::int64_t{1} << 18, longest = 512;
  const auto half = [](std::int64_t n) { return blocks_of(blocks_of(n, 2), 4) * 4; };
  GemmBlocks block{std::max<std::int64_t>(M, 1), std::max<std::int64_t>(N, 1)};
  const auto count = [&] { return blocks_of(M, block.rows) * blocks_of(N, block.columns); };
  const auto worth_halving = [&] {
    const std::int64_t work = block.rows * block.columns * K;
    if (std::max(block.rows, block.columns) < 64) return false;
    return count() == 1 ? work > medium : count() < 8 && work > 2 * enough;
  };
  while (block.rows > longest) block.rows = half(block.rows);
  while (block.columns > longest) block.columns = half(block.columns);
  while (worth_halving()) {
    // Rows first: a thread's rows of a gradient are then the part of the slab that it clears and updates.
    std::int64_t& side = block.rows >= 64 || block.rows >= block.columns ? block.rows : block.columns;
    side = half(side);
  }
  return block;
}

namespace {

void library_block(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                   std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate) {
  // Outside a parallel region (a product of one block) the library would use every thread, and other bits.
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  library_product(transpose_a, transpose_b, M, N, K, A, lda, B, ldb, C, ldc, accumulate);
  omp_set_num_threads(threads);
}

}  // namespace

void prepare_products() {
  constexpr std::int64_t n = 8;
  const float A[n * n] = {}, B[n * n] = {};
  float C[n * n];
  library_block(false, false, n, n, n, A, n, B, n, C, n, false);
}

void sgemm_tile(bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t a_row,
                std::int64_t a_column, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate) {
  run_block<float>(
      isa(),
      [=](std::int64_t, auto target) {
        gemm_tile<float>(target, transpose_b, M, N, K, A, a_row, a_column, B, ldb, C, ldc, accumulate);
      },
      0);
}

void sgemm_block(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                 std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate) {
  // Measured on Zen 4: with AVX-512's 32 registers gemm_tile is 1.0 to 1.4 times as fast as the library as long as B
  // stays in the second-level cache; with AVX2 only where a library call costs more than it saves.
  const bool own = isa() == Isa::v4 ? K * N < 1 << 19 : M * N * K < 1 << 15;
  if (own || K == 0) {
    sgemm_tile(transpose_b, M, N, K, A, transpose_a ? 1 : lda, transpose_a ? lda : 1, B, ldb, C, ldc, accumulate);
  } else {
    library_block(transpose_a, transpose_b, M, N, K, A, lda, B, ldb, C, ldc, accumulate);
  }
}

}  // namespace samformer::kernels
