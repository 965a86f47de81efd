// Matrix products, row-major:   C[M][N] (+)= op(A)[M][K] op(B)[K][N],   op(X) = X or its transpose.
//
// float goes to oneDNN's dnnl_sgemm. The partition of C into blocks is ours, depends on shapes only, and a block is one
// single-threaded library call: the bits do not depend on the number of threads. Products too small to be worth a
// library call, and every product of another scalar (double, dual numbers: the references), use gemm_tile.
//
// gemm_tile is a register-blocked serial product (4 rows x 2 packs); attention uses it on its tiles. It reads B by rows
// and A with any strides.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace samformer::kernels {

// How a product is cut: C's rows and columns into blocks of `rows` x `columns`.
struct GemmBlocks {
  std::int64_t rows;
  std::int64_t columns;
};
GemmBlocks gemm_blocks(std::int64_t M, std::int64_t N, std::int64_t K);

// The library writes its machine code at its first product, which takes 28 ms: call this beside something else.
void prepare_products();

// One block of a float product by dnnl_sgemm on the calling thread.
void sgemm_block(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                 std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate);

namespace detail {

template <class T, int Rows, int Packs>
inline void gemm_micro(std::int64_t K, const T* A, std::int64_t a_row, std::int64_t a_column, const T* B,
                       std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate) {
  Pack<T> total[Rows][Packs] = {};
  for (std::int64_t k = 0; k < K; ++k) {
    Pack<T> b[Packs];
    for (int p = 0; p < Packs; ++p) load(b[p], B + k * ldb + p * lanes<T>);
    for (int i = 0; i < Rows; ++i) {
      const T a = A[i * a_row + k * a_column];
      for (int p = 0; p < Packs; ++p) total[i][p] += a * b[p];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int p = 0; p < Packs; ++p) {
      T* c = C + i * ldc + p * lanes<T>;
      if (accumulate) {
        Pack<T> before;
        load(before, c);
        total[i][p] += before;
      }
      store(c, total[i][p]);
    }
  }
}

template <class T, int Rows>
inline void gemm_rows(std::int64_t N, std::int64_t K, const T* A, std::int64_t a_row, std::int64_t a_column, const T* B,
                      std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate) {
  std::int64_t j = 0;
  for (; j + 2 * lanes<T> <= N; j += 2 * lanes<T>) {
    gemm_micro<T, Rows, 2>(K, A, a_row, a_column, B + j, ldb, C + j, ldc, accumulate);
  }
  for (; j + lanes<T> <= N; j += lanes<T>) {
    gemm_micro<T, Rows, 1>(K, A, a_row, a_column, B + j, ldb, C + j, ldc, accumulate);
  }
  for (; j < N; ++j) {
    for (int i = 0; i < Rows; ++i) {
      T total = accumulate ? C[i * ldc + j] : T{};
      for (std::int64_t k = 0; k < K; ++k) total += A[i * a_row + k * a_column] * B[k * ldb + j];
      C[i * ldc + j] = total;
    }
  }
}

}  // namespace detail

// C[M][N] (+)= A B, serial; A[i][k] at A[i a_row + k a_column].
template <class T>
inline void gemm_tile(std::int64_t M, std::int64_t N, std::int64_t K, const T* A, std::int64_t a_row,
                      std::int64_t a_column, const T* B, std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate) {
  std::int64_t i = 0;
  for (; i + 4 <= M; i += 4) {
    detail::gemm_rows<T, 4>(N, K, A + i * a_row, a_row, a_column, B, ldb, C + i * ldc, ldc, accumulate);
  }
  for (; i < M; ++i) {
    detail::gemm_rows<T, 1>(N, K, A + i * a_row, a_row, a_column, B, ldb, C + i * ldc, ldc, accumulate);
  }
}

// The block [M][N] of a product of any scalar; a transposed B is turned panel by panel.
template <class T>
inline void gemm_block(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const T* A,
                       std::int64_t lda, const T* B, std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate) {
  const std::int64_t a_row = transpose_a ? 1 : lda, a_column = transpose_a ? lda : 1;
  if (!transpose_b || K == 0) {
    gemm_tile(M, N, K, A, a_row, a_column, B, ldb, C, ldc, accumulate);
    return;
  }
  constexpr std::int64_t depth = 64, width = 16;
  T panel[depth * width];
  for (std::int64_t j = 0; j < N; j += width) {
    const std::int64_t n = std::min(width, N - j);
    for (std::int64_t k = 0; k < K; k += depth) {
      const std::int64_t d = std::min(depth, K - k);
      for (std::int64_t c = 0; c < n; ++c) {
        for (std::int64_t p = 0; p < d; ++p) panel[p * width + c] = B[(j + c) * ldb + k + p];
      }
      gemm_tile<T>(M, n, d, A + k * a_column, a_row, a_column, panel, width, C + j, ldc, accumulate || k > 0);
    }
  }
}

struct NoEpilogue {
  void operator()(std::int64_t, std::int64_t, std::int64_t, std::int64_t) const {}
};

// C[M][N] (+)= op(A) op(B), on all threads. K = 0 clears C unless it accumulates. `epilogue(i, j, m, n)` runs after
// each block C[i .. i+m)[j .. j+n) on the thread that made it, while the block is in its cache.
template <class T, class Epilogue = NoEpilogue>
void gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const T* A,
          std::int64_t lda, const T* B, std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate,
          const Epilogue epilogue = {}) {
  const GemmBlocks cut = gemm_blocks(M, N, K);
  const std::int64_t down = blocks_of(M, cut.rows), across = blocks_of(N, cut.columns);
  constexpr std::int64_t small = 1 << 15;  // multiplications below which a library call costs more than it saves
  const bool library = std::is_same_v<T, float> && M * N * K > small && K > 0;
  parallel_for<T>(down * across, [=](std::int64_t block) {
    const std::int64_t i = block / across * cut.rows, j = block % across * cut.columns;
    const std::int64_t m = std::min(cut.rows, M - i), n = std::min(cut.columns, N - j);
    const T* a = A + (transpose_a ? i : i * lda);
    const T* b = B + (transpose_b ? j * ldb : j);
    T* c = C + i * ldc + j;
    bool done = false;
    if constexpr (std::is_same_v<T, float>) {
      if (library) {
        sgemm_block(transpose_a, transpose_b, m, n, K, a, lda, b, ldb, c, ldc, accumulate);
        done = true;
      }
    }
    if (!done) gemm_block(transpose_a, transpose_b, m, n, K, a, lda, b, ldb, c, ldc, accumulate);
    epilogue(i, j, m, n);
  });
}

}  // namespace samformer::kernels
