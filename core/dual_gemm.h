// Products of dual matrices as products of real ones:
//
//   (A + A' e)(B + B' e) = A B + (A B' + A' B) e
//
// values and tangents apart, block by block, so that a Hessian-vector product runs at the speed of the vector unit. The
// products with a block's tangents are left out where they are zero (the windows are data). Arguments as kernels::gemm;
// the kernels' own calls find this overload by their arguments where T is Dual. C's partition depends on shapes alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dual.h"
#include "kernels/gemm.h"

namespace samformer {

using kernels::gemm;

template <class T, class Epilogue = kernels::NoEpilogue>
void gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const Dual<T>* A,
          std::int64_t lda, const Dual<T>* B, std::int64_t ldb, Dual<T>* C, std::int64_t ldc, bool accumulate,
          const Epilogue epilogue = {}) {
  constexpr std::int64_t rows = 64, columns = 32, depth = 64;
  const std::int64_t across = kernels::blocks_of(N, columns);
  kernels::parallel_for<T>(kernels::blocks_of(M, rows) * across, [=](std::int64_t block, auto target) {
    const std::int64_t i = block / across * rows, j = block % across * columns;
    const std::int64_t m = std::min(rows, M - i), n = std::min(columns, N - j);
    const std::int64_t filled = kernels::blocks_of(n, 8) * 8;  // whole packs
    T a[2][rows * depth], b[2][depth * columns], c[2][rows * columns];
    for (std::int64_t k = 0; k < std::max<std::int64_t>(K, 1); k += depth) {
      const std::int64_t d = std::min(depth, K - k);
      bool tangent_a = false, tangent_b = false;
      for (std::int64_t r = 0; r < m; ++r) {
        for (std::int64_t p = 0; p < d; ++p) {
          const Dual<T> x = transpose_a ? A[(k + p) * lda + i + r] : A[(i + r) * lda + k + p];
          a[0][r * depth + p] = x.v;
          a[1][r * depth + p] = x.d;
          tangent_a |= x.d != 0;
        }
      }
      for (std::int64_t p = 0; p < d; ++p) {
        for (std::int64_t q = 0; q < filled; ++q) {
          const Dual<T> x = q >= n ? Dual<T>() : transpose_b ? B[(j + q) * ldb + k + p] : B[(k + p) * ldb + j + q];
          b[0][p * columns + q] = x.v;
          b[1][p * columns + q] = x.d;
          tangent_b |= x.d != 0;
        }
      }
      kernels::gemm_tile(target, false, m, filled, d, a[0], depth, 1, b[0], columns, c[0], columns, k > 0);
      if (k == 0) std::fill(c[1], c[1] + m * columns, T{});
      if (tangent_b)
        kernels::gemm_tile(target, false, m, filled, d, a[0], depth, 1, b[1], columns, c[1], columns, true);
      if (tangent_a)
        kernels::gemm_tile(target, false, m, filled, d, a[1], depth, 1, b[0], columns, c[1], columns, true);
    }
    for (std::int64_t r = 0; r < m; ++r) {
      Dual<T>* to = C + (i + r) * ldc + j;
      for (std::int64_t q = 0; q < n; ++q) {
        const Dual<T> value(c[0][r * columns + q], c[1][r * columns + q]);
        to[q] = accumulate ? to[q] + value : value;
      }
    }
    epilogue(i, j, m, n);
  });
}

}  // namespace samformer
