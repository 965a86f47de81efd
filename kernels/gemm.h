// Matrix products, row-major:   C[M][N] (+)= op(A)[M][K] op(B)[K][N],   op(X) = X or its transpose.
//
// The partition of C into blocks is ours and depends on shapes only, and a block is serial: the bits do not depend on
// the number of threads. A block goes to gemm_tile, or, for float, to oneDNN's dnnl_sgemm where that is faster: see
// gemm_block.
//
// gemm_tile keeps a tile of C in registers, up to 6 x 4 vectors, while K runs: one broadcast of A against a row of B
// each. A is read in place with any strides, B in place by rows, or, transposed, turned panel by panel. Our operands
// are narrow or read once, so that the copies of Goto & van de Geijn (2008) would cost more than they save.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/device.h"

namespace samformer::kernels {

namespace detail {

// Rows of a tile of `packs` vectors: as many as the registers hold beside a row of B.
template <class Target>
constexpr int tile_rows(int packs) {
  constexpr int wide[] = {16, 12, 8, 6}, narrow[] = {8, 6};
  return Target::registers >= 32 ? wide[packs - 1] : narrow[packs - 1];
}
template <class Target>
inline constexpr int most_packs = Target::registers >= 32 ? 4 : 2;

template <class T, class Target, int Rows, int Packs>
inline void gemm_micro(std::int64_t K, const T* A, std::int64_t a_row, std::int64_t a_column, const T* B,
                       std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate) {
  constexpr int width = lanes<T, Target::bytes>;
  Pack<T, Target::bytes> total[Rows][Packs] = {};
  for (std::int64_t k = 0; k < K; ++k) {
    Pack<T, Target::bytes> b[Packs];
    for (int p = 0; p < Packs; ++p) load(b[p], B + k * ldb + p * width);
    for (int i = 0; i < Rows; ++i) {
      const T a = A[i * a_row + k * a_column];
      for (int p = 0; p < Packs; ++p) total[i][p] += a * b[p];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int p = 0; p < Packs; ++p) {
      T* c = C + i * ldc + p * width;
      if (accumulate) {
        Pack<T, Target::bytes> before;
        load(before, c);
        total[i][p] += before;
      }
      store(c, total[i][p]);
    }
  }
}

// Rows of C from i on in tiles of `Rows`; `columns` of the tile exist, the others are computed and dropped.
template <class T, class Target, int Rows, int Packs>
inline void gemm_rows(std::int64_t& i, std::int64_t M, std::int64_t columns, std::int64_t K, const T* A,
                      std::int64_t a_row, std::int64_t a_column, const T* B, std::int64_t ldb, T* C, std::int64_t ldc,
                      bool accumulate) {
  constexpr std::int64_t width = Packs * lanes<T, Target::bytes>;
  for (; i + Rows <= M; i += Rows) {
    if (columns == width) {
      gemm_micro<T, Target, Rows, Packs>(K, A + i * a_row, a_row, a_column, B, ldb, C + i * ldc, ldc, accumulate);
      continue;
    }
    T tile[Rows * width];
    gemm_micro<T, Target, Rows, Packs>(K, A + i * a_row, a_row, a_column, B, ldb, tile, width, false);
    for (std::int64_t r = 0; r < Rows; ++r) {
      T* c = C + (i + r) * ldc;
      for (std::int64_t j = 0; j < columns; ++j) c[j] = accumulate ? tile[r * width + j] + c[j] : tile[r * width + j];
    }
  }
}

template <class T, class Target, int Packs>
inline void gemm_panel(std::int64_t M, std::int64_t columns, std::int64_t K, const T* A, std::int64_t a_row,
                       std::int64_t a_column, const T* B, std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate) {
  std::int64_t i = 0;
  gemm_rows<T, Target, tile_rows<Target>(Packs), Packs>(i, M, columns, K, A, a_row, a_column, B, ldb, C, ldc,
                                                        accumulate);
  gemm_rows<T, Target, 4, Packs>(i, M, columns, K, A, a_row, a_column, B, ldb, C, ldc, accumulate);
  gemm_rows<T, Target, 1, Packs>(i, M, columns, K, A, a_row, a_column, B, ldb, C, ldc, accumulate);
}

}  // namespace detail

// C[M][N] (+)= A op(B), serial; A[i][k] at A[i a_row + k a_column].
template <class T, class Target>
inline void gemm_tile(Target, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const T* A,
                      std::int64_t a_row, std::int64_t a_column, const T* B, std::int64_t ldb, T* C, std::int64_t ldc,
                      bool accumulate) {
  if (M == 1 && transpose_b && a_column == 1) {  // a row: turning B would cost more than the product
    for (std::int64_t j = 0; j < N; ++j) C[j] = accumulate ? C[j] + dot(A, B + j * ldb, K) : dot(A, B + j * ldb, K);
    return;
  }
  constexpr int width = lanes<T, Target::bytes>, most = detail::most_packs<Target>;
  constexpr std::int64_t depth = 256, height = 240;  // of a pass over C; a multiple of all tiles
  T panel[depth * most * width];
  std::int64_t k = 0;
  do {
    const std::int64_t d = std::min(depth, K - k);
    for (std::int64_t i = 0; i < M; i += height) {
      const std::int64_t m = std::min(height, M - i);
      for (std::int64_t j = 0; j < N;) {
        const std::int64_t left = blocks_of(N - j, width);
        const std::int64_t packs =
            left >= most && left % most == 0 ? most : std::min<std::int64_t>(left, std::max(1, most - 1));
        const std::int64_t n = std::min(N - j, packs * width);
        const T* b = B + k * ldb + j;
        std::int64_t stride = ldb;
        if (transpose_b || n < packs * width) {
          stride = packs * width;
          if (transpose_b) {
            transpose<T, Target::bytes>(panel, stride, B + j * ldb + k, ldb, n, d);
          } else {
            for (std::int64_t r = 0; r < d; ++r) std::copy_n(b + r * ldb, n, panel + r * stride);
          }
          for (std::int64_t r = 0; r < d; ++r) std::fill(panel + r * stride + n, panel + (r + 1) * stride, T{});
          b = panel;
        }
        const T* a = A + i * a_row + k * a_column;
        T* c = C + i * ldc + j;
        const bool add = accumulate || k > 0;
        if (packs == 1) detail::gemm_panel<T, Target, 1>(m, n, d, a, a_row, a_column, b, stride, c, ldc, add);
        if (packs == 2) detail::gemm_panel<T, Target, 2>(m, n, d, a, a_row, a_column, b, stride, c, ldc, add);
        if constexpr (most == 4) {
          if (packs == 3) detail::gemm_panel<T, Target, 3>(m, n, d, a, a_row, a_column, b, stride, c, ldc, add);
          if (packs == 4) detail::gemm_panel<T, Target, 4>(m, n, d, a, a_row, a_column, b, stride, c, ldc, add);
        }
        j += n;
      }
    }
    k += depth;
  } while (k < K);
}

// One block of a product on the calling thread.
template <class T, class Target>
inline void gemm_block(Target target, bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N,
                       std::int64_t K, const T* A, std::int64_t lda, const T* B, std::int64_t ldb, T* C,
                       std::int64_t ldc, bool accumulate) {
  gemm_tile(target, transpose_b, M, N, K, A, transpose_a ? 1 : lda, transpose_a ? lda : 1, B, ldb, C, ldc, accumulate);
}

// The library writes its machine code at its first product, which takes 28 ms: call this beside something else.
void prepare_products();

// Of float there is one compiled copy of each; gemm_block chooses between gemm_tile and the library.
void sgemm_tile(bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t a_row,
                std::int64_t a_column, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate);
void sgemm_block(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                 std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate);
template <class Target>
inline void gemm_tile(Target, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                      std::int64_t a_row, std::int64_t a_column, const float* B, std::int64_t ldb, float* C,
                      std::int64_t ldc, bool accumulate) {
  sgemm_tile(transpose_b, M, N, K, A, a_row, a_column, B, ldb, C, ldc, accumulate);
}
template <class Target>
inline void gemm_block(Target, bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K,
                       const float* A, std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc,
                       bool accumulate) {
  sgemm_block(transpose_a, transpose_b, M, N, K, A, lda, B, ldb, C, ldc, accumulate);
}

// How a product is cut: C's rows and columns into blocks of `rows` x `columns`.
struct GemmBlocks {
  std::int64_t rows;
  std::int64_t columns;
};
GemmBlocks gemm_blocks(std::int64_t M, std::int64_t N, std::int64_t K);

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
  parallel_for<T>(down * across, [=](std::int64_t block, auto target) {
    const std::int64_t i = block / across * cut.rows, j = block % across * cut.columns;
    const std::int64_t m = std::min(cut.rows, M - i), n = std::min(cut.columns, N - j);
    gemm_block(target, transpose_a, transpose_b, m, n, K, A + (transpose_a ? i : i * lda), lda,
               B + (transpose_b ? j * ldb : j), ldb, C + i * ldc + j, ldc, accumulate);
    epilogue(i, j, m, n);
  });
}

// C[M][N] (+)= A' B for a long K: cut into parts, each thread reads whole rows of A and B, and the parts' products are
// added up in order. `work`: gemm_parts_work scalars.
template <class T>
constexpr std::int64_t gemm_parts(std::int64_t K) {
  return K < 4096 || !std::is_floating_point_v<T> ? 1 : 8;
}
template <class T>
constexpr std::int64_t gemm_parts_work(std::int64_t M, std::int64_t N, std::int64_t K) {
  return gemm_parts<T>(K) == 1 ? 0 : gemm_parts<T>(K) * M * N;
}
template <class T, class Epilogue = NoEpilogue>
void gemm_in_parts(std::int64_t M, std::int64_t N, std::int64_t K, const T* A, std::int64_t lda, const T* B,
                   std::int64_t ldb, Sink<T> C, T* work, const Epilogue epilogue = {}) {
  const std::int64_t parts = gemm_parts<T>(K), size = blocks_of(K, parts);
  if (parts == 1) {
    gemm(true, false, M, N, K, A, lda, B, ldb, C.data, C.ld, C.add, epilogue);
    return;
  }
  parallel_for<T>(parts, [=](std::int64_t part, auto target) {
    const std::int64_t k = std::min(K, part * size), depth = std::min(size, K - k);
    gemm_block(target, true, false, M, N, depth, A + k * lda, lda, B + k * ldb, ldb, work + part * M * N, N, false);
  });
  constexpr std::int64_t rows = 8;
  parallel_for<T>(blocks_of(M, rows), [=](std::int64_t block) {
    const std::int64_t i = block * rows, m = std::min(rows, M - i);
    for (std::int64_t r = i; r < i + m; ++r) {
      T* to = C.data + r * C.ld;
      if (!C.add) std::fill_n(to, N, T{});
      for (std::int64_t part = 0; part < parts; ++part) {
        const T* from = work + (part * M + r) * N;
#pragma omp simd
        for (std::int64_t c = 0; c < N; ++c) to[c] += from[c];
      }
    }
    epilogue(i, 0, m, N);
  });
}

// The same on either device. For dual numbers gemm is core/dual_gemm.h's, found by its arguments.
template <class T, class Epilogue = NoEpilogue>
void gemm(Cpu, bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const T* A,
          std::int64_t lda, const T* B, std::int64_t ldb, T* C, std::int64_t ldc, bool accumulate,
          const Epilogue epilogue = {}) {
  gemm(transpose_a, transpose_b, M, N, K, A, lda, B, ldb, C, ldc, accumulate, epilogue);
}
inline void gemm(const Cuda& on, bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K,
                 const float* A, std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc,
                 bool accumulate) {
  product(on, {transpose_a, transpose_b, M, N, K, A, lda, B, ldb, C, ldc, accumulate});
}
// C[M][N] (+)= A' B, K long.
template <class T>
void gemm_in_parts(Cpu, std::int64_t M, std::int64_t N, std::int64_t K, const T* A, std::int64_t lda, const T* B,
                   std::int64_t ldb, Sink<T> C, T* work) {
  gemm_in_parts(M, N, K, A, lda, B, ldb, C, work);
}
inline void gemm_in_parts(const Cuda& on, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                          std::int64_t lda, const float* B, std::int64_t ldb, Sink<float> C, float*) {
  gemm(on, true, false, M, N, K, A, lda, B, ldb, C.data, C.ld, C.add);
}
template <class T>
constexpr std::int64_t gemm_parts_work(Cpu, std::int64_t M, std::int64_t N, std::int64_t K) {
  return gemm_parts_work<T>(M, N, K);
}
template <class T>
constexpr std::int64_t gemm_parts_work(const Cuda&, std::int64_t, std::int64_t, std::int64_t) {
  return 0;
}

}  // namespace samformer::kernels
