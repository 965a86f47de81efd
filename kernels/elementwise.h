// Around a linear layer, and what sums are made of. Matrices are [rows][columns], dense unless an ld is given.
//
//   bias_activation   y = residual + dropout(act(a + bias));   da = act'(a + bias) dropout(dy)
//   dropout           each element 0 with probability `rate`, else divided by 1 - rate
//   add_column_sums   to (+)= sums over the rows, in row order
//   transpose         y [N][columns][rows] = add + from [N][rows][columns], each of N samples transposed
//   mean_squares      mean (a - b)^2 and its gradient, row sums first
//
// act: none, relu, tanh, gelu (x Phi(x), the exact form with erf), elu (x, below 0 e^x - 1). bias, residual, add: null where there is none.
// Saved for backward: a, bias and, on the CPU, the mask of dropout (on a device its numbers are drawn again).
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

enum class Activation { none, relu, tanh, gelu, elu };

// Philox address of a mask (kernels/philox.h): the step counts from 0, and where there is a `progress` it is that
// one's.
struct Dropout {
  double rate = 0;  // 0 <= rate < 1
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  int pass = 0, site = 0;
  const Progress* progress = nullptr;
};

// Scalars of the mask that forward leaves for backward, of n elements.
constexpr std::int64_t dropout_saved(Cpu, std::int64_t n, const Dropout& dropout) { return dropout.rate > 0 ? n : 0; }
constexpr std::int64_t dropout_saved(const Cuda&, std::int64_t, const Dropout&) { return 0; }
void bias_activation(const Cuda& on, float* y, float* mask, const float* a, const float* bias, const float* residual,
                     std::int64_t rows, std::int64_t columns, Activation activation, const Dropout& dropout);
void bias_activation_backward(const Cuda& on, Sink<float> da, const float* dy, const float* mask, const float* a,
                              const float* bias, std::int64_t rows, std::int64_t columns, Activation activation,
                              const Dropout& dropout);

constexpr std::int64_t column_sums_scratch(Cpu, std::int64_t) { return 0; }
constexpr std::int64_t column_sums_scratch(const Cuda&, std::int64_t columns) { return 64 * columns; }
void add_column_sums(const Cuda& on, Sink<float> to, const float* from, std::int64_t ld, std::int64_t rows,
                     std::int64_t columns, float* scratch);

// `add` may be y.
void transpose(const Cuda& on, float* y, const float* from, const float* add, std::int64_t samples, std::int64_t rows,
               std::int64_t columns);

// *mean, one number. scratch: `rows` scalars.
void mean_squares(const Cuda& on, float* mean, const float* a, const float* b, std::int64_t rows, std::int64_t columns,
                  float* scratch);
// da and db (+)= their part of *seed times the gradient.
void mean_squares_backward(const Cuda& on, Sink<float> da, Sink<float> db, const float* seed, const float* a,
                           const float* b, std::int64_t rows, std::int64_t columns);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/philox.h"

namespace samformer::kernels {

// body(row) for every row, blocks of rows in parallel.
template <class T, class Body>
void for_rows(std::int64_t rows, std::int64_t n, const Body body) {
  const std::int64_t size = std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(n, 1));
  parallel_for<T>(blocks_of(rows, size), [=](std::int64_t block) {
    for (std::int64_t r = block * size; r < std::min(rows, (block + 1) * size); ++r) body(r);
  });
}

template <class T>
void clear(Cpu, T* to, std::int64_t ld, std::int64_t rows, std::int64_t n) {
  for_rows<T>(rows, n, [=](std::int64_t r) { std::fill_n(to + r * ld, n, T{}); });
}
template <class T>
void copy(Cpu, T* to, std::int64_t ldt, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t n) {
  for_rows<T>(rows, n, [=](std::int64_t r) { std::copy_n(from + r * ldf, n, to + r * ldt); });
}
template <class T>
void add(Cpu, T* to, std::int64_t ldt, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t n) {
  for_rows<T>(rows, n, [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < n; ++c) to[r * ldt + c] += from[r * ldf + c];
  });
}

namespace detail {

// factor [n] of dropout: 0 or 1 / (1 - rate).
template <class T>
void dropout_mask(T* factor, std::int64_t n, const Dropout& dropout) {
  constexpr std::int64_t lanes = 16, block = 16 * 4 * lanes;  // elements of a block; Philox gives four words at a time
  const std::uint32_t threshold = dropout_threshold(dropout.rate), sub = static_cast<std::uint32_t>(dropout.step);
  const T kept = static_cast<T>(1 / (1 - dropout.rate));
  const std::uint64_t seed = dropout.seed, first = dropout_index(dropout.pass, dropout.site);
  parallel_for<T>(blocks_of(n, block), [=](std::int64_t b) {
    for (std::int64_t i = b * block; i < std::min(n, (b + 1) * block); i += 4 * lanes) {
      std::uint32_t words[4 * lanes];
#pragma omp simd
      for (std::int64_t k = 0; k < lanes; ++k) {
        const PhiloxBlock four = random_block(seed, dropout_stream, sub, first + static_cast<std::uint64_t>(i / 4 + k));
        for (std::int64_t j = 0; j < 4; ++j) words[4 * k + j] = four[static_cast<std::size_t>(j)];
      }
      const std::int64_t here = std::min(4 * lanes, n - i);
#pragma omp simd
      for (std::int64_t k = 0; k < here; ++k) factor[i + k] = words[k] < threshold ? T{} : kept;
    }
  });
}

template <class T>
T normal_distribution(T x) {
  return static_cast<T>(0.5) * (static_cast<T>(1) + error_function(x * static_cast<T>(std::numbers::sqrt2 / 2)));
}

// body(activation's function, its slope as a function of x): one loop each, that vectorises.
template <class T, class Body>
void with_activation(Activation activation, const Body& body) {
  const T zero = static_cast<T>(0), one = static_cast<T>(1);
  switch (activation) {
    case Activation::none:
      return body([](T x) { return x; }, [=](T) { return one; });
    case Activation::relu:
      return body([=](T x) { return x > zero ? x : zero; }, [=](T x) { return static_cast<T>(x > zero ? one : zero); });
    case Activation::tanh:
      return body(
          [](T x) {
            using std::tanh;
            return tanh(x);
          },
          [=](T x) {
            using std::tanh;
            const T y = tanh(x);
            return one - y * y;
          });
    case Activation::gelu:
      return body([](T x) { return x * normal_distribution(x); },
                  [](T x) {
                    const T density = static_cast<T>(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2) *
                                      exponential(static_cast<T>(-0.5) * x * x);
                    return normal_distribution(x) + x * density;
                  });
    case Activation::elu:
      return body([=](T x) { return x > zero ? x : exponential(x) - one; },
                  [=](T x) { return x > zero ? one : exponential(x); });
  }
}

}  // namespace detail

// One loop a step of the formula: each result is rounded before the next, whatever a compiler would fuse.
template <class T>
void bias_activation(Cpu, T* y, T* mask, const T* a, const T* bias, const T* residual, std::int64_t rows,
                     std::int64_t n, Activation activation, const Dropout& dropout) {
  const bool drops = dropout.rate > 0;
  if (drops) detail::dropout_mask(mask, rows * n, dropout);
  detail::with_activation<T>(activation, [=](const auto act, const auto) {
    for_rows<T>(rows, n, [=](std::int64_t r) {
      const T* from = a + r * n;
      T* to = y + r * n;
      if (bias) {
#pragma omp simd
        for (std::int64_t c = 0; c < n; ++c) to[c] = from[c] + bias[c];
        from = to;
      }
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) to[c] = act(from[c]);
      if (drops) {
        const T* factor = mask + r * n;
#pragma omp simd
        for (std::int64_t c = 0; c < n; ++c) to[c] *= factor[c];
      }
      if (residual) {
        const T* other = residual + r * n;
#pragma omp simd
        for (std::int64_t c = 0; c < n; ++c) to[c] = other[c] + to[c];
      }
    });
  });
}

template <class T>
void bias_activation_backward(Cpu, Sink<T> da, const T* dy, const T* mask, const T* a, const T* bias, std::int64_t rows,
                              std::int64_t n, Activation activation, const Dropout& dropout) {
  const bool drops = dropout.rate > 0;
  detail::with_activation<T>(activation, [=](const auto, const auto slope) {
    for_rows<T>(rows, n, [=](std::int64_t r) {
      constexpr std::int64_t width = 256;
      T dx[width];
      for (std::int64_t first = 0; first < n; first += width) {
        const std::int64_t count = std::min(width, n - first);
        const T *g = dy + r * n + first, *x = a + r * n + first, *factor = mask + r * n + first;
        T* to = da.data + r * da.ld + first;
#pragma omp simd
        for (std::int64_t c = 0; c < count; ++c) dx[c] = drops ? factor[c] * g[c] : g[c];
#pragma omp simd
        for (std::int64_t c = 0; c < count; ++c) dx[c] = slope(bias ? x[c] + bias[first + c] : x[c]) * dx[c];
#pragma omp simd
        for (std::int64_t c = 0; c < count; ++c) to[c] = da.add ? to[c] + dx[c] : dx[c];
      }
    });
  });
}

template <class T>
void add_column_sums(Cpu, Sink<T> to, const T* from, std::int64_t ld, std::int64_t rows, std::int64_t n, T*) {
  constexpr std::int64_t width = 64;
  parallel_for<T>(blocks_of(n, width), [=](std::int64_t block) {
    const std::int64_t first = block * width, end = std::min(n, first + width);
    if (!to.add) std::fill(to.data + first, to.data + end, T{});
    for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
      for (std::int64_t c = first; c < end; ++c) to.data[c] += from[r * ld + c];
    }
  });
}

template <class T>
void transpose(Cpu, T* y, const T* from, const T* add, std::int64_t N, std::int64_t A, std::int64_t B) {
  for_rows<T>(N * B, A, [=](std::int64_t r) {
    const T* column = from + r / B * A * B + r % B;
    for (std::int64_t a = 0; a < A; ++a) y[r * A + a] = add ? add[r * A + a] + column[a * B] : column[a * B];
  });
}

template <class T>
void mean_squares(Cpu, T* mean, const T* a, const T* b, std::int64_t rows, std::int64_t n, T* scratch) {
  for_rows<T>(rows, n, [=](std::int64_t r) {
    T total{};
    for (std::int64_t c = r * n; c < (r + 1) * n; ++c) total += (a[c] - b[c]) * (a[c] - b[c]);
    scratch[r] = total;
  });
  T total{};
  for (std::int64_t r = 0; r < rows; ++r) total += scratch[r];
  *mean = total / static_cast<T>(static_cast<double>(rows * n));
}

template <class T>
void mean_squares_backward(Cpu, Sink<T> da, Sink<T> db, const T* seed, const T* a, const T* b, std::int64_t rows,
                           std::int64_t n) {
  const T scale = static_cast<T>(2) * *seed / static_cast<T>(static_cast<double>(rows * n));
  for_rows<T>(rows, n, [=](std::int64_t r) {
    for (std::int64_t c = 0; c < n; ++c) {
      const T slope = scale * (a[r * n + c] - b[r * n + c]);
      if (da) da.data[r * da.ld + c] = da.add ? da.data[r * da.ld + c] + slope : slope;
      if (db) db.data[r * db.ld + c] = db.add ? db.data[r * db.ld + c] - slope : T{} - slope;
    }
  });
}

}  // namespace samformer::kernels
#endif
