// The projection of consecutive windows, without gradients: what evaluation needs. Windows of one channel that start at
// t, t + 1, ... share all but one value, so their products with the filters are a correlation of the series:
//
//   P[t][o] = (sum_l x[t + l] W[o][l] - level_t s_o) / sigma_t,   s_o = sum_l W[o][l]     (RevIN by linearity)
//   Z[t][o] = gamma_d P[t][o] + beta_d s_o + b_o                                          (kernels/projection.h)
//
// by fast Fourier transforms in a tenth of the products' operations: sum = F^-1(F(x) F(W reversed)), over `size` points
// that hold all of the windows' values. In double: the subtraction cancels where a window is flat. Two filters make one
// complex transform, 8 transforms are the lanes of a vector. The forward transform (radix 4, decimation in frequency)
// leaves its output in digit-reversed order, the inverse (decimation in time) takes it so.
//
// Shapes: W [O][L], b [O], gamma and beta [D], Z [N D][O], level and sigma [N D], row r = n D + d.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <numbers>

#include "kernels/cpu/parallel.h"
#include "kernels/revin.h"

namespace samformer::kernels {

// Points of a transform for windows of length L: a power of 4.
constexpr std::int64_t correlation_size(std::int64_t L) {
  std::int64_t size = 4;
  while (size < L + L / 4) size *= 4;
  return size;
}
// The most windows that one transform holds.
constexpr std::int64_t correlation_windows(std::int64_t L) { return correlation_size(L) - L + 1; }
// Whether N windows of length L are worth it. Measured: at L = 512 the products are as fast at 90 windows.
constexpr bool correlation_pays(std::int64_t N, std::int64_t L) {
  std::int64_t operations = 0;
  for (std::int64_t size = correlation_size(L), n = size; n > 1; n /= 4) operations += 10 * size;
  return N <= correlation_windows(L) && N * L > operations;
}

namespace detail {

inline constexpr std::int64_t correlation_lanes = 8, correlation_filters = 2 * correlation_lanes;
inline constexpr std::int64_t correlation_workers = 32;

typedef double Lanes __attribute__((vector_size(64)));
struct ComplexLanes {
  Lanes re, im;
};
using Root = std::complex<double>;

inline ComplexLanes operator+(const ComplexLanes& a, const ComplexLanes& b) { return {a.re + b.re, a.im + b.im}; }
inline ComplexLanes operator-(const ComplexLanes& a, const ComplexLanes& b) { return {a.re - b.re, a.im - b.im}; }
inline ComplexLanes operator*(const ComplexLanes& a, const Root& w) {
  return {a.re * w.real() - a.im * w.imag(), a.re * w.imag() + a.im * w.real()};
}

// In place; roots[i] = exp(-2 pi i / size).
inline void transform(ComplexLanes* x, std::int64_t size, const Root* roots) {
  for (std::int64_t quarter = size / 4, stride = 1; quarter >= 1; quarter /= 4, stride *= 4) {
    for (std::int64_t first = 0; first < size; first += 4 * quarter) {
      for (std::int64_t j = 0; j < quarter; ++j) {
        ComplexLanes *a = x + first + j, *b = a + quarter, *c = b + quarter, *d = c + quarter;
        const ComplexLanes even = *a + *c, odd = *a - *c, sum = *b + *d, difference = *b - *d;
        const ComplexLanes turned{difference.im, -difference.re};
        *a = even + sum;
        *b = (odd + turned) * roots[j * stride];
        *c = (even - sum) * roots[2 * j * stride];
        *d = (odd - turned) * roots[3 * j * stride];
      }
    }
  }
}

inline void transform_back(ComplexLanes* x, std::int64_t size, const Root* roots) {
  for (std::int64_t quarter = 1, stride = size / 4; quarter < size; quarter *= 4, stride /= 4) {
    for (std::int64_t first = 0; first < size; first += 4 * quarter) {
      for (std::int64_t j = 0; j < quarter; ++j) {
        ComplexLanes *a = x + first + j, *b = a + quarter, *c = b + quarter, *d = c + quarter;
        const ComplexLanes q = *b * std::conj(roots[j * stride]), r = *c * std::conj(roots[2 * j * stride]);
        const ComplexLanes s = *d * std::conj(roots[3 * j * stride]);
        const ComplexLanes even = *a + r, odd = *a - r, sum = q + s, difference = q - s;
        const ComplexLanes turned{-difference.im, difference.re};
        *a = even + sum;
        *b = odd + turned;
        *c = even - sum;
        *d = odd - turned;
      }
    }
  }
}

}  // namespace detail

// Doubles of workspace, aligned to 64 bytes.
constexpr std::int64_t correlation_work(std::int64_t D, std::int64_t O, std::int64_t L) {
  using namespace detail;
  const std::int64_t groups = blocks_of(O, correlation_filters);
  return correlation_size(L) * (correlation_filters * (groups + correlation_workers) + 2 * (D + 1)) +
         groups * correlation_filters;
}

// Z of N <= correlation_windows(L) windows that start one step apart; level and sigma are those of revin_normalise.
inline void correlate(float* Z, Windows<float> x, const float* level, const float* sigma, const float* W,
                      const float* b, const float* gamma, const float* beta, std::int64_t O, std::int64_t L,
                      double* work) {
  using namespace detail;
  const std::int64_t D = x.D, N = x.N, size = correlation_size(L), groups = blocks_of(O, correlation_filters);
  ComplexLanes* filters = reinterpret_cast<ComplexLanes*>(work);                  // [groups][size]
  ComplexLanes* buffers = filters + groups * size;                                // [workers][size]
  Root* spectra = reinterpret_cast<Root*>(buffers + correlation_workers * size);  // [D][size]
  Root* roots = spectra + D * size;                                               // [size]
  double* sums = reinterpret_cast<double*>(roots + size);                         // [groups][filters]
  for (std::int64_t i = 0; i < size; ++i) {
    roots[i] = std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(size));
  }
  const double scale = 1 / static_cast<double>(size);
  parallel_for<float>(groups, [=](std::int64_t group) {
    ComplexLanes* to = filters + group * size;
    double* sum = sums + group * correlation_filters;
    std::fill_n(to, size, ComplexLanes{});
    std::fill_n(sum, correlation_filters, 0.0);
    for (std::int64_t k = 0; k < std::min(correlation_filters, O - group * correlation_filters); ++k) {
      const float* w = W + (group * correlation_filters + k) * L;
      for (std::int64_t l = 0; l < L; ++l) {
        ComplexLanes& at = to[(size - l) % size];
        // A name of its own: in one expression, g++ 12 with -fsanitize=undefined writes into a copy.
        Lanes& half = k < correlation_lanes ? at.re : at.im;
        half[k % correlation_lanes] = static_cast<double>(w[l]) * scale;
        sum[k] += static_cast<double>(w[l]);
      }
    }
    transform(to, size, roots);
  });
  const std::int64_t batches = blocks_of(D, correlation_lanes), loaders = std::min(batches, correlation_workers);
  parallel_for<float>(loaders, [=](std::int64_t worker) {
    ComplexLanes* values = buffers + worker * size;
    for (std::int64_t first = worker * correlation_lanes; first < D; first += loaders * correlation_lanes) {
      const std::int64_t count = std::min(correlation_lanes, D - first);
      std::fill_n(values, size, ComplexLanes{});
      for (std::int64_t k = 0; k < count; ++k) {
        const float* from = x.row(0, first + k);
        for (std::int64_t t = 0; t < N + L - 1; ++t) values[t].re[k] = static_cast<double>(from[t]);
      }
      transform(values, size, roots);
      for (std::int64_t k = 0; k < count; ++k) {
        for (std::int64_t i = 0; i < size; ++i) spectra[(first + k) * size + i] = {values[i].re[k], values[i].im[k]};
      }
    }
  });
  const std::int64_t tasks = D * groups, workers = std::min(tasks, correlation_workers);
  parallel_for<float>(workers, [=](std::int64_t worker) {
    ComplexLanes* y = buffers + worker * size;
    for (std::int64_t task = worker; task < tasks; task += workers) {
      const std::int64_t d = task / groups, first = task % groups * correlation_filters;
      const std::int64_t count = std::min(correlation_filters, O - first);
      const ComplexLanes* f = filters + task % groups * size;
      const Root* s = spectra + d * size;
      for (std::int64_t i = 0; i < size; ++i) y[i] = f[i] * s[i];
      transform_back(y, size, roots);
      const double gain = static_cast<double>(gamma[d]), shift = static_cast<double>(beta[d]);
      for (std::int64_t n = 0; n < N; ++n) {
        const std::int64_t r = n * D + d;
        const double mean = static_cast<double>(level[r]), factor = gain / static_cast<double>(sigma[r]);
        double product[correlation_filters];
        std::memcpy(product, y + n, sizeof product);
        float* z = Z + r * O + first;
        for (std::int64_t k = 0; k < count; ++k) {
          const double sum = sums[first + k];
          z[k] =
              static_cast<float>((product[k] - mean * sum) * factor + shift * sum + static_cast<double>(b[first + k]));
        }
      }
    }
  });
}

}  // namespace samformer::kernels
