// Short vectors and the few vector functions that kernels share, for any scalar T (float, double, dual numbers).
//
// Pack<T, bytes> is `bytes` of T where the compiler has such a vector (float, double), else one T. Loads and stores are
// unaligned. Written with compiler vectors, not intrinsics: the same source serves AVX2, AVX-512, SSE2 and NEON.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace samformer::kernels {

template <class T, int bytes>
struct PackOf {
  using type = T;
  static constexpr int lanes = 1;
};
template <int bytes>
struct PackOf<float, bytes> {
  typedef float type __attribute__((vector_size(bytes)));
  static constexpr int lanes = bytes / 4;
};
template <int bytes>
struct PackOf<double, bytes> {
  typedef double type __attribute__((vector_size(bytes)));
  static constexpr int lanes = bytes / 8;
};
template <class T, int bytes>
using Pack = typename PackOf<T, bytes>::type;
template <class T, int bytes>
inline constexpr int lanes = PackOf<T, bytes>::lanes;

template <class Pack, class T>
inline void load(Pack& pack, const T* from) {
  std::memcpy(&pack, from, sizeof pack);
}
template <class Pack, class T>
inline void store(T* to, const Pack& pack) {
  std::memcpy(to, &pack, sizeof pack);
}

namespace detail {

// Lanes of a and b in turn, in runs of `run`: the low (half = 0) or the high half of each.
template <int run, int half, class P, int... lane>
inline P interleave(const P& a, const P& b, std::integer_sequence<int, lane...>) {
  constexpr int n = sizeof...(lane);
  return __builtin_shufflevector(a, b,
                                 ((lane / run % 2) * n + lane / (2 * run) * (2 * run) + half * run + lane % run)...);
}
template <int run, class P, int n>
inline void transpose_runs(P (&x)[n]) {
  if constexpr (run < n) {
    constexpr auto all = std::make_integer_sequence<int, n>();
    for (int i = 0; i < n; ++i) {
      if (i & run) continue;
      const P a = x[i], b = x[i + run];
      x[i] = interleave<run, 0>(a, b, all);
      x[i + run] = interleave<run, 1>(a, b, all);
    }
    transpose_runs<2 * run>(x);
  }
}

}  // namespace detail

// to[n][m] = from[m][n]' (rows ldt and ldf apart), squares of `lanes` in registers.
template <class T, int bytes>
inline void transpose(T* to, std::int64_t ldt, const T* from, std::int64_t ldf, std::int64_t m, std::int64_t n) {
  constexpr int side = lanes<T, bytes>;
  std::int64_t i = 0;
  if constexpr (side > 1) {
    for (; i + side <= m; i += side) {
      std::int64_t j = 0;
      for (; j + side <= n; j += side) {
        Pack<T, bytes> x[side];
        for (int r = 0; r < side; ++r) load(x[r], from + (i + r) * ldf + j);
        detail::transpose_runs<1>(x);
        for (int r = 0; r < side; ++r) store(to + (j + r) * ldt + i, x[r]);
      }
      for (; j < n; ++j) {
        for (int r = 0; r < side; ++r) to[j * ldt + i + r] = from[(i + r) * ldf + j];
      }
    }
  }
  for (; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) to[j * ldt + i] = from[i * ldf + j];
  }
}

// The value without its tangent: what RevIN's statistics are to the gradient. A plain number has none.
inline float detach(float x) { return x; }
inline double detach(double x) { return x; }

// e^x. For float a branch-free form that vectorises: x = n ln2 + r, polynomial of degree 6 on |r| <= ln2 / 2 (Cephes),
// relative error below 2e-7; below -88 the power of two, and so the result, is 0; above 88.37 the result is 2^127 e^r
// at most. A NaN stays one through r.
inline float exponential(float x) {
  const float above = x < -88.0f ? -88.0f : x, bounded = above > 88.37f ? 88.37f : above;
  const float shifted = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the integer part lands in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((std::bit_cast<std::int32_t>(shifted) - 0x4b400000 + 127) << 23);
}
inline double exponential(double x) { return std::exp(x); }

// erf(x). For float without branches, to 2 ulp: a polynomial below 0.93, above it 1 - e^polynomial (coefficients: N.
// Juffa's erff).
inline float error_function(float x) {
  const float t = x < 0 ? -x : x, s = x * x;
  float r = -1.72853470e-5f * t + 3.83197126e-4f;
  r = r * s + (-3.88396438e-3f * t + 2.42546219e-2f);
  r = r * t - 1.06777877e-1f;
  r = r * t - 6.34846687e-1f;
  r = r * t - 1.28717512e-1f;
  const float above = 1.0f - exponential(r * t - t);
  float q = -5.96761703e-4f;
  q = q * s + 4.99119423e-3f;
  q = q * s - 2.67681349e-2f;
  q = q * s + 1.12819925e-1f;
  q = q * s - 3.76125336e-1f;
  q = q * s + 1.28379166e-1f;
  return t > 0.927734375f ? (x < 0 ? -above : above) : q * x + x;
}
inline double error_function(double x) { return std::erf(x); }

// The sum of element(0) ... element(n - 1), each called once: 64 partial sums, which are whole vectors of any
// instruction set, added up by halves. (A simd reduction's own last step is one scalar addition a lane, in turn: it
// takes several times as long as the rest of a short row.)
template <class T, class Element>
inline T sum_of(std::int64_t n, const Element& element) {
  T total{};
  std::int64_t i = 0;
  if constexpr (std::is_floating_point_v<T>) {
    constexpr std::int64_t wide = 64, narrow = 16;
    T lane[wide] = {};
    for (; i + wide <= n; i += wide) {
#pragma omp simd
      for (std::int64_t l = 0; l < wide; ++l) lane[l] += element(i + l);
    }
    for (; i + narrow <= n; i += narrow) {
#pragma omp simd
      for (std::int64_t l = 0; l < narrow; ++l) lane[l] += element(i + l);
    }
#pragma omp simd
    for (std::int64_t l = 0; l < 32; ++l) lane[l] += lane[l + 32];
#pragma omp simd
    for (std::int64_t l = 0; l < 16; ++l) lane[l] += lane[l + 16];
#pragma omp simd
    for (std::int64_t l = 0; l < 8; ++l) lane[l] += lane[l + 8];
#pragma omp simd
    for (std::int64_t l = 0; l < 4; ++l) lane[l] += lane[l + 4];
    total = (lane[0] + lane[2]) + (lane[1] + lane[3]);
  }
  for (; i < n; ++i) total += element(i);
  return total;
}

template <class T>
inline T sum(const T* x, std::int64_t n) {
  return sum_of<T>(n, [=](std::int64_t i) { return x[i]; });
}

template <class T>
inline T dot(const T* x, const T* y, std::int64_t n) {
  return sum_of<T>(n, [=](std::int64_t i) { return x[i] * y[i]; });
}

}  // namespace samformer::kernels
