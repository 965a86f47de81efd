// Frequencies of tokens, the Fourier version of FEDformer (Zhou et al. 2022). Complex numbers are pairs (re, im), last:
//
//   basis of modes m_0 .. m_{M-1}, [2M][T], so that x F' are the coefficients of a row x [T]:
//     F_{2j,t} = cos(2 pi m_j t / T),   F_{2j+1,t} = -sin(2 pi m_j t / T)
//   inverse basis [T][2M], so that Y B' is the row with the coefficients Y at m_j and zeros elsewhere, times a scale:
//     B_{t,2j} = scale c/T cos(2 pi m_j t / T),   B_{t,2j+1} = -scale c/T sin(..),   c: 1 at m = 0 and T/2, else 2
//   mode_products: Y[n][h][o][m] = sum_i X[n][h][i][m] W[h][i][o][m],   dX = dY conj(W),   dW = sum_n conj(X) dY
//   mode_attention: A = tanh(Xq' Xk) [Mq][Mk] of a sample's head, over its E features,   Z[e][x] = sum_y A_xy Xk[e][y]
//     dA = dZ' conj(Xk),   dS = dA conj(1 - A^2),   dXq = conj(Xk) dS',   dXk = dZ conj(A) + conj(Xq) dS
//
// A gradient is dL/dre + i dL/dim. tanh is the complex one, from exponentials that do not overflow:
//
//   tanh(a + ib): e = expm1(-2 |a|), r = 1 + e, den = e^2 + 4 r cos^2 b;  re = -sign(a) expm1(-4 |a|) / den,
//                 im = 2 r sin(2 b) / den
//
// Shapes: X, Y, Z [N][h][E][M], W [h][E_in][E_out][M]. Modes are whole numbers as T; none: 0 .. M-1. Saved: A.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace samformer::kernels {

struct BasisShape {
  std::int64_t modes, steps;  // M, T
  bool inverse;
  double scale;  // of the inverse
};
void fourier_basis(const Cuda& on, float* to, const float* modes, const BasisShape& a);

struct ModeShape {
  std::int64_t N, heads, in, out, modes;
};
void mode_products(const Cuda& on, float* y, const float* x, const float* w, const ModeShape& a);
void mode_products_backward(const Cuda& on, Sink<float> dx, Sink<float> dw, const float* dy, const float* x,
                            const float* w, const ModeShape& a);

struct ModeAttentionShape {
  std::int64_t N, heads, width, queries, keys;  // h, E, Mq, Mk
  constexpr std::int64_t scores() const { return N * heads * queries * keys; }
};
void mode_attention(const Cuda& on, float* z, float* scores, const float* xq, const float* xk,
                    const ModeAttentionShape& a);
// scratch: 2 scores() scalars.
void mode_attention_backward(const Cuda& on, Sink<float> dxq, Sink<float> dxk, const float* dz, const float* scores,
                             const float* xq, const float* xk, const ModeAttentionShape& a, float* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <cmath>
#include <numbers>
#include <type_traits>

#include "kernels/cpu/parallel.h"

namespace samformer::kernels {
namespace detail {

// (re, im) += a b, or conj(a) b.
template <class T>
inline void add_product(T& re, T& im, T ar, T ai, T br, T bi) {
  re += ar * br - ai * bi;
  im += ar * bi + ai * br;
}
template <class T>
inline void add_conjugate_product(T& re, T& im, T ar, T ai, T br, T bi) {
  re += ar * br + ai * bi;
  im += ar * bi - ai * br;
}

template <class T>
inline void complex_tanh(T& re, T& im) {
  if constexpr (std::is_floating_point_v<T>) {
    const T a = std::abs(re), cosine = std::cos(im), e = std::expm1(-2 * a), r = 1 + e;
    const T den = e * e + 4 * r * cosine * cosine;
    re = std::copysign(-std::expm1(-4 * a), re) / den;
    im = 2 * r * std::sin(2 * im) / den;
  } else {  // dual numbers: the slope is 1 - tanh^2
    auto yr = re.v, yi = im.v;
    complex_tanh(yr, yi);
    auto dr = re.d, di = im.d;
    dr -= (yr * yr - yi * yi) * re.d - 2 * yr * yi * im.d;
    di -= (yr * yr - yi * yi) * im.d + 2 * yr * yi * re.d;
    re = T{yr, dr}, im = T{yi, di};
  }
}

}  // namespace detail

template <class T>
void fourier_basis(Cpu, T* to, const T* modes, const BasisShape& a) {
  parallel_for<T>(a.modes, [=](std::int64_t j) {
    std::int64_t mode = j;
    if constexpr (std::is_floating_point_v<T>) {
      if (modes) mode = static_cast<std::int64_t>(modes[j]);
    } else {
      if (modes) mode = static_cast<std::int64_t>(modes[j].v);
    }
    const double share = (mode == 0 || 2 * mode == a.steps ? 1 : 2) * a.scale / static_cast<double>(a.steps);
    for (std::int64_t t = 0; t < a.steps; ++t) {
      const double angle =
          2 * std::numbers::pi * static_cast<double>(mode * t % a.steps) / static_cast<double>(a.steps);
      const double re = std::cos(angle), im = -std::sin(angle);
      if (a.inverse) {
        to[t * 2 * a.modes + 2 * j] = static_cast<T>(share * re);
        to[t * 2 * a.modes + 2 * j + 1] = static_cast<T>(share * im);
      } else {
        to[2 * j * a.steps + t] = static_cast<T>(re);
        to[(2 * j + 1) * a.steps + t] = static_cast<T>(im);
      }
    }
  });
}

template <class T>
void mode_products(Cpu, T* y, const T* x, const T* w, const ModeShape& a) {
  constexpr std::int64_t width = 8;  // columns of W that stay in the cache for all samples
  const std::int64_t across = blocks_of(a.out, width), M = 2 * a.modes;
  parallel_for<T>(a.heads * across, [=](std::int64_t block) {
    const std::int64_t h = block / across, begin = block % across * width, end = std::min(a.out, begin + width);
    for (std::int64_t n = 0; n < a.N; ++n) {
      std::fill(y + ((n * a.heads + h) * a.out + begin) * M, y + ((n * a.heads + h) * a.out + end) * M, T{});
    }
    for (std::int64_t i = 0; i < a.in; ++i) {
      for (std::int64_t n = 0; n < a.N; ++n) {
        const T* from = x + ((n * a.heads + h) * a.in + i) * M;
        for (std::int64_t o = begin; o < end; ++o) {
          const T* weight = w + ((h * a.in + i) * a.out + o) * M;
          T* to = y + ((n * a.heads + h) * a.out + o) * M;
#pragma omp simd
          for (std::int64_t m = 0; m < M; m += 2) {
            detail::add_product(to[m], to[m + 1], from[m], from[m + 1], weight[m], weight[m + 1]);
          }
        }
      }
    }
  });
}

template <class T>
void mode_products_backward(Cpu, Sink<T> dx, Sink<T> dw, const T* dy, const T* x, const T* w, const ModeShape& a) {
  const std::int64_t M = 2 * a.modes;
  parallel_for<T>(a.heads * a.in, [=](std::int64_t block) {
    const std::int64_t h = block / a.in, i = block % a.in;
    const T* weights = w + block * a.out * M;
    T* const slopes = dw.data + block * a.out * M;
    if (dw && !dw.add) std::fill_n(slopes, a.out * M, T{});
    for (std::int64_t n = 0; n < a.N; ++n) {
      const std::int64_t row = (n * a.heads + h) * a.in + i;
      const T *from = x + row * M, *gradients = dy + (n * a.heads + h) * a.out * M;
      T* to = dx.data + row * dx.ld;
      if (dx && !dx.add) std::fill_n(to, M, T{});
      for (std::int64_t o = 0; dx && o < a.out; ++o) {
#pragma omp simd
        for (std::int64_t m = 0; m < M; m += 2) {
          detail::add_conjugate_product(to[m], to[m + 1], weights[o * M + m], weights[o * M + m + 1],
                                        gradients[o * M + m], gradients[o * M + m + 1]);
        }
      }
      for (std::int64_t o = 0; dw && o < a.out; ++o) {
#pragma omp simd
        for (std::int64_t m = 0; m < M; m += 2) {
          detail::add_conjugate_product(slopes[o * M + m], slopes[o * M + m + 1], from[m], from[m + 1],
                                        gradients[o * M + m], gradients[o * M + m + 1]);
        }
      }
    }
  });
}

template <class T>
void mode_attention(Cpu, T* z, T* scores, const T* xq, const T* xk, const ModeAttentionShape& a) {
  const std::int64_t Q = 2 * a.queries, K = 2 * a.keys;
  parallel_for<T>(a.N * a.heads, [=](std::int64_t block) {
    T* const A = scores + block * a.queries * K;
    const T *const q = xq + block * a.width * Q, *const k = xk + block * a.width * K;
    for (std::int64_t x = 0; x < a.queries; ++x) {
      T* row = A + x * K;
      std::fill_n(row, K, T{});
      for (std::int64_t e = 0; e < a.width; ++e) {
        const T re = q[e * Q + 2 * x], im = q[e * Q + 2 * x + 1], *key = k + e * K;
#pragma omp simd
        for (std::int64_t y = 0; y < K; y += 2) detail::add_product(row[y], row[y + 1], re, im, key[y], key[y + 1]);
      }
      for (std::int64_t y = 0; y < K; y += 2) detail::complex_tanh(row[y], row[y + 1]);
    }
    for (std::int64_t e = 0; e < a.width; ++e) {
      const T* key = k + e * K;
      for (std::int64_t x = 0; x < a.queries; ++x) {
        T re{}, im{};
        for (std::int64_t y = 0; y < K; y += 2) {
          detail::add_product(re, im, A[x * K + y], A[x * K + y + 1], key[y], key[y + 1]);
        }
        z[(block * a.width + e) * Q + 2 * x] = re, z[(block * a.width + e) * Q + 2 * x + 1] = im;
      }
    }
  });
}

template <class T>
void mode_attention_backward(Cpu, Sink<T> dxq, Sink<T> dxk, const T* dz, const T* scores, const T* xq, const T* xk,
                             const ModeAttentionShape& a, T* scratch) {
  const std::int64_t Q = 2 * a.queries, K = 2 * a.keys;
  parallel_for<T>(a.N * a.heads, [=](std::int64_t block) {
    const T* const A = scores + block * a.queries * K;
    T* const dS = scratch + block * a.queries * K;
    const T *const q = xq + block * a.width * Q, *const k = xk + block * a.width * K;
    const T* const g = dz + block * a.width * Q;
    for (std::int64_t x = 0; x < a.queries; ++x) {
      T* row = dS + x * K;
      std::fill_n(row, K, T{});
      for (std::int64_t e = 0; e < a.width; ++e) {
        const T re = g[e * Q + 2 * x], im = g[e * Q + 2 * x + 1], *key = k + e * K;
#pragma omp simd
        for (std::int64_t y = 0; y < K; y += 2) {
          detail::add_conjugate_product(row[y], row[y + 1], key[y], key[y + 1], re, im);
        }
      }
      const T one = static_cast<T>(1), two = static_cast<T>(2), *tanh = A + x * K;
#pragma omp simd
      for (std::int64_t y = 0; y < K; y += 2) {  // conj(1 - A^2) dA
        const T re = one - (tanh[y] * tanh[y] - tanh[y + 1] * tanh[y + 1]), im = T{} - two * tanh[y] * tanh[y + 1];
        T dr{}, di{};
        detail::add_conjugate_product(dr, di, re, im, row[y], row[y + 1]);
        row[y] = dr, row[y + 1] = di;
      }
    }
    for (std::int64_t e = 0; e < a.width; ++e) {
      const T* key = k + e * K;
      T *const to_query = dxq.data + (block * a.width + e) * dxq.ld, *const to_key =
                                                                         dxk.data + (block * a.width + e) * dxk.ld;
      if (dxk && !dxk.add) std::fill_n(to_key, K, T{});
      for (std::int64_t x = 0; x < a.queries; ++x) {
        const T *slope = dS + x * K, *tanh = A + x * K;
        if (dxq) {
          T re{}, im{};
          for (std::int64_t y = 0; y < K; y += 2) {
            detail::add_conjugate_product(re, im, key[y], key[y + 1], slope[y], slope[y + 1]);
          }
          to_query[2 * x] = dxq.add ? to_query[2 * x] + re : re;
          to_query[2 * x + 1] = dxq.add ? to_query[2 * x + 1] + im : im;
        }
        if (!dxk) continue;
        const T qr = q[e * Q + 2 * x], qi = q[e * Q + 2 * x + 1], gr = g[e * Q + 2 * x], gi = g[e * Q + 2 * x + 1];
#pragma omp simd
        for (std::int64_t y = 0; y < K; y += 2) {
          detail::add_conjugate_product(to_key[y], to_key[y + 1], tanh[y], tanh[y + 1], gr, gi);
          detail::add_conjugate_product(to_key[y], to_key[y + 1], qr, qi, slope[y], slope[y + 1]);
        }
      }
    }
  });
}

}  // namespace samformer::kernels
#endif
