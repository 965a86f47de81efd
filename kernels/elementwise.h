// Element-wise and reducing kernels of the general operations (core/ops/ops.h). Matrices [rows][n], rows ld apart.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

// body(row) for every row, blocks of rows in parallel.
template <class T, class Body>
void for_rows(std::int64_t rows, std::int64_t n, const Body body) {
  const std::int64_t size = std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(n, 1));
  parallel_for<T>(blocks_of(rows, size), [=](std::int64_t block) {
    for (std::int64_t r = block * size; r < std::min(rows, (block + 1) * size); ++r) body(r);
  });
}

// to[c] += sum over rows of from[r][c], in row order.
template <class T>
void add_column_sums(T* to, const T* from, std::int64_t ld, std::int64_t rows, std::int64_t n) {
  constexpr std::int64_t width = 64;
  parallel_for<T>(blocks_of(n, width), [=](std::int64_t block) {
    const std::int64_t end = std::min(n, (block + 1) * width);
    for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
      for (std::int64_t c = block * width; c < end; ++c) to[c] += from[r * ld + c];
    }
  });
}

// to [N][B][A] (+)= from [N][A][B], each sample transposed.
template <class T>
void transpose(T* to, const T* from, std::int64_t N, std::int64_t A, std::int64_t B, bool accumulate) {
  for_rows<T>(N * B, A, [=](std::int64_t r) {
    const T* column = from + r / B * A * B + r % B;
    for (std::int64_t a = 0; a < A; ++a) {
      to[r * A + a] = accumulate ? to[r * A + a] + column[a * B] : column[a * B];
    }
  });
}

// sum (a - b)^2 / count and sum |a - b| / count over [rows][n]; row sums first (`work`: rows scalars), in row order.
template <class T, class Measure>
T mean_difference(const T* a, std::int64_t lda, const T* b, std::int64_t ldb, std::int64_t rows, std::int64_t n,
                  const Measure measure, T* work) {
  for_rows<T>(rows, n, [=](std::int64_t r) {
    T total{};
    for (std::int64_t c = 0; c < n; ++c) total += measure(a[r * lda + c] - b[r * ldb + c]);
    work[r] = total;
  });
  T total{};
  for (std::int64_t r = 0; r < rows; ++r) total += work[r];
  return total / static_cast<T>(static_cast<double>(rows * n));
}

}  // namespace samformer::kernels
