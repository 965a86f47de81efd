// What tests compare with: naive double-precision statements of the kernels, random inputs with an address, an error
// measure in which NaN is never small, and buffers between guard zones.
//
// Matrices are dense and row-major unless a stride is given. Nothing here shares code with kernels/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "core/random.h"

namespace samformer::numeric {

inline constexpr std::uint32_t test_stream = 1000;  // away from the streams of the engine (core/random.h)

// n standard normals: number i follows from seed, sub and i alone.
template <class T = double>
std::vector<T> normals(std::int64_t n, std::uint64_t seed, std::uint32_t sub = 0, double mean = 0, double scale = 1) {
  std::vector<T> out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<T>(mean + scale * normal_pair(random_block(seed, test_stream, sub, i))[0]);
  }
  return out;
}

inline double largest(const std::vector<double>& x) {
  double most = 0;
  for (const double v : x) most = std::isnan(v) ? v : std::max(most, std::fabs(v));
  return most;
}

// Largest difference over max(largest magnitude expected, floor); NaN or a wrong size give infinity.
template <class Actual, class Expected>
double error(const std::vector<Actual>& actual, const std::vector<Expected>& expected, double floor = 0) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, scale = floor;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double e = std::fabs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    if (!(e <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, e);
    scale = std::max(scale, std::fabs(static_cast<double>(expected[i])));
  }
  return difference == 0 ? 0 : difference / scale;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// n values between two zones of a bit pattern that no kernel writes (a NaN: reading a zone shows as well).
template <class T>
class Guarded {
 public:
  explicit Guarded(const std::vector<T>& values) : size_(values.size()), memory_(values.size() + 2 * zone) {
    std::memset(static_cast<void*>(memory_.data()), pattern, memory_.size() * sizeof(T));
    std::copy(values.begin(), values.end(), memory_.begin() + zone);
  }
  explicit Guarded(std::int64_t n) : size_(static_cast<std::size_t>(n)), memory_(size_ + 2 * zone) {
    std::memset(static_cast<void*>(memory_.data()), pattern, memory_.size() * sizeof(T));
  }
  T* data() { return memory_.data() + zone; }
  std::vector<T> values() const { return {memory_.begin() + zone, memory_.begin() + zone + size_}; }
  bool intact() const { return untouched(0, zone) && untouched(zone + size_, zone); }
  // Whether elements [first, first + count) still hold the pattern: the gaps between the rows of a wider matrix.
  bool untouched_inside(std::size_t first, std::size_t count) const { return untouched(zone + first, count); }

 private:
  static constexpr std::size_t zone = 1024;
  static constexpr unsigned char pattern = 0xff;

  bool untouched(std::size_t first, std::size_t count) const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(memory_.data() + first);
    return std::all_of(bytes, bytes + count * sizeof(T), [](unsigned char b) { return b == pattern; });
  }

  std::size_t size_;
  std::vector<T> memory_;
};

// C[M][N] = op(A) op(B) + (accumulate ? C : 0).
inline void gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const double* A,
                 std::int64_t lda, const double* B, std::int64_t ldb, double* C, std::int64_t ldc, bool accumulate) {
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      double total = accumulate ? C[i * ldc + j] : 0;
      for (std::int64_t k = 0; k < K; ++k) {
        total += (transpose_a ? A[k * lda + i] : A[i * lda + k]) * (transpose_b ? B[j * ldb + k] : B[k * ldb + j]);
      }
      C[i * ldc + j] = total;
    }
  }
}

// Probabilities A [N][D][D] and C = A V [N D][d_v] of Q, K [N D][d_m].
struct Attention {
  std::vector<double> probabilities;
  std::vector<double> context;
};
inline Attention attention(const std::vector<double>& Q, const std::vector<double>& K, const std::vector<double>& V,
                           std::int64_t N, std::int64_t D, std::int64_t d_m, std::int64_t d_v) {
  Attention out{std::vector<double>(static_cast<std::size_t>(N * D * D)),
                std::vector<double>(static_cast<std::size_t>(N * D * d_v))};
  for (std::int64_t r = 0; r < N * D; ++r) {
    double* a = out.probabilities.data() + r * D;
    const std::int64_t first = r / D * D;
    for (std::int64_t j = 0; j < D; ++j) {
      a[j] = 0;
      for (std::int64_t k = 0; k < d_m; ++k) a[j] += Q[r * d_m + k] * K[(first + j) * d_m + k];
      a[j] /= std::sqrt(static_cast<double>(d_m));
    }
    const double most = *std::max_element(a, a + D);
    double total = 0;
    for (std::int64_t j = 0; j < D; ++j) total += a[j] = std::exp(a[j] - most);
    for (std::int64_t j = 0; j < D; ++j) {
      a[j] /= total;
      for (std::int64_t v = 0; v < d_v; ++v) out.context[r * d_v + v] += a[j] * V[(first + j) * d_v + v];
    }
  }
  return out;
}

// The probabilities [N][D][D] that q and k (rows ld apart) and the row log-sum-exp of a kernel say.
template <class T>
std::vector<T> attention_probabilities(const T* q, const T* k, std::int64_t ld, const T* lse, std::int64_t N,
                                       std::int64_t D, std::int64_t d_m) {
  std::vector<T> out;
  for (std::int64_t r = 0; r < N * D; ++r) {
    for (std::int64_t j = r / D * D; j < (r / D + 1) * D; ++j) {
      T score = 0;
      for (std::int64_t c = 0; c < d_m; ++c) score += q[r * ld + c] * k[j * ld + c];
      out.push_back(std::exp(score / std::sqrt(static_cast<T>(d_m)) - lse[r]));
    }
  }
  return out;
}

// One window of RevIN: level, sigma and xhat.
struct Revin {
  double level = 0;
  double sigma = 0;
  std::vector<double> xhat;
};
inline Revin revin(const double* x, std::int64_t L, bool last) {
  double mean = 0, variance = 0;
  for (std::int64_t t = 0; t < L; ++t) mean += x[t];
  mean /= static_cast<double>(L);
  for (std::int64_t t = 0; t < L; ++t) variance += (x[t] - mean) * (x[t] - mean) / static_cast<double>(L);
  Revin out{last ? x[L - 1] : mean, std::sqrt(variance + 1e-5), {}};
  for (std::int64_t t = 0; t < L; ++t) out.xhat.push_back((x[t] - out.level) / out.sigma);
  return out;
}

}  // namespace samformer::numeric
