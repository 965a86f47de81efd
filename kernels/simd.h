// Short vectors and the few vector functions that kernels share, for any scalar T (float, double, dual numbers).
//
// Pack<T> is 32 bytes of T where the compiler has such a vector (float 8, double 4), else one T. Loads and stores are
// unaligned. Written with compiler vectors, not intrinsics: the same source serves AVX2, AVX-512, SSE2 and NEON.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace samformer::kernels {

template <class T>
struct PackOf {
  using type = T;
  static constexpr int lanes = 1;
};
template <>
struct PackOf<float> {
  typedef float type __attribute__((vector_size(32)));
  static constexpr int lanes = 8;
};
template <>
struct PackOf<double> {
  typedef double type __attribute__((vector_size(32)));
  static constexpr int lanes = 4;
};
template <class T>
using Pack = typename PackOf<T>::type;
template <class T>
inline constexpr int lanes = PackOf<T>::lanes;

template <class T>
inline void load(Pack<T>& pack, const T* from) {
  std::memcpy(&pack, from, sizeof pack);
}
template <class T>
inline void store(T* to, const Pack<T>& pack) {
  std::memcpy(to, &pack, sizeof pack);
}

// The value without its tangent: what RevIN's statistics are to the gradient. A plain number has none.
inline float detach(float x) { return x; }
inline double detach(double x) { return x; }

// e^x. For float a branch-free form that vectorises: x = n ln2 + r, polynomial of degree 6 on |r| <= ln2 / 2 (Cephes),
// relative error below 2e-7; results under 2^-126 are flushed to 0; above 88.37 the result is 2^127 e^r at most.
inline float exponential(float x) {
  const float bounded = x < -87.3f ? -87.3f : (x > 88.37f ? 88.37f : x);
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
  const float scale = std::bit_cast<float>((std::bit_cast<std::int32_t>(shifted) - 0x4b400000 + 127) << 23);
  return x < -87.3f ? 0.0f : (x == x ? p * scale : x);
}
inline double exponential(double x) { return std::exp(x); }

template <class T>
inline T sum(const T* x, std::int64_t n) {
  T total{};
  if constexpr (std::is_floating_point_v<T>) {
#pragma omp simd reduction(+ : total)
    for (std::int64_t i = 0; i < n; ++i) total += x[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) total += x[i];
  }
  return total;
}

template <class T>
inline T dot(const T* x, const T* y, std::int64_t n) {
  T total{};
  if constexpr (std::is_floating_point_v<T>) {
#pragma omp simd reduction(+ : total)
    for (std::int64_t i = 0; i < n; ++i) total += x[i] * y[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) total += x[i] * y[i];
  }
  return total;
}

}  // namespace samformer::kernels
