// Naive references of the GPU kernels: plain loops, one formula each, in T (double: the truth; float: the noise that a
// straightforward float program has). Shapes as in the headers of kernels/, per-row scalars [N][D] without padding.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/loss.h"

namespace samformer::reference {

template <class T>
using Vector = std::vector<T>;

template <class T>
Vector<T> as(const Vector<float>& x) {
  return Vector<T>(x.begin(), x.end());
}

struct Sizes {
  int N, D, L, H, key, value;
  int rows() const { return N * D; }
  int columns() const { return value + 2 * key + H; }
  int first_head() const { return value + 2 * key; }
};

template <class T>
struct Revin {
  Vector<T> xhat, level, sigma, moments;  // moments [D][5]
};
template <class T>
Revin<T> revin(const Vector<float>& series, const Vector<std::int32_t>& starts, Sizes z, std::int64_t length,
               bool last) {
  Revin<T> out{Vector<T>(z.rows() * z.L), Vector<T>(z.rows()), Vector<T>(z.rows()), Vector<T>(z.D * 5)};
  for (int r = 0; r < z.rows(); ++r) {
    const float* x = &series[(r % z.D) * length + starts[r / z.D]];
    T mean = 0, variance = 0;
    for (int i = 0; i < z.L; ++i) mean += T(x[i]) / T(z.L);
    for (int i = 0; i < z.L; ++i) variance += (T(x[i]) - mean) * (T(x[i]) - mean) / T(z.L);
    const T sigma = std::sqrt(variance + T(1e-5)), level = last ? T(x[z.L - 1]) : mean;
    for (int i = 0; i < z.L; ++i) out.xhat[r * z.L + i] = (T(x[i]) - level) / sigma;
    out.level[r] = level;
    out.sigma[r] = sigma;
    T* m = &out.moments[(r % z.D) * 5];
    m[0] += sigma / T(z.N), m[1] += sigma * sigma / T(z.N), m[2] += level / T(z.N);
    m[3] += level * level / T(z.N), m[4] += sigma * level / T(z.N);
  }
  return out;
}

// Z = gamma_d P + beta_d s + b, dense [R][O].
template <class T>
Vector<T> fold(const Vector<T>& p, std::int64_t ld, const Vector<T>& gamma, const Vector<T>& beta, const Vector<T>& s,
               const Vector<T>& b, Sizes z) {
  Vector<T> out(z.rows() * z.columns());
  for (int r = 0; r < z.rows(); ++r) {
    for (int o = 0; o < z.columns(); ++o)
      out[r * z.columns() + o] = gamma[r % z.D] * p[r * ld + o] + beta[r % z.D] * s[o] + b[o];
  }
  return out;
}

template <class T>
struct Attention {
  Vector<T> c, lse, dz;  // dz [R][value + 2 key]
};
template <class T>
Attention<T> attention(const Vector<T>& folded, const Vector<T>& dc, Sizes z) {
  const int O = z.columns(), W = z.first_head(), D = z.D;
  Attention<T> out{Vector<T>(z.rows() * z.value), Vector<T>(z.rows()), Vector<T>(z.rows() * W)};
  Vector<T> a(D * D), ds(D * D);
  const T scale = T(1) / std::sqrt(T(z.key));
  for (int n = 0; n < z.N; ++n) {
    const auto v = [&](int d) { return &folded[(n * D + d) * O]; };
    const auto q = [&](int d) { return v(d) + z.value; };
    const auto k = [&](int d) { return v(d) + z.value + z.key; };
    for (int i = 0; i < D; ++i) {
      T highest = -INFINITY, sum = 0;
      for (int j = 0; j < D; ++j) {
        T score = 0;
        for (int c = 0; c < z.key; ++c) score += q(i)[c] * k(j)[c];
        a[i * D + j] = score * scale;
        highest = std::max(highest, a[i * D + j]);
      }
      for (int j = 0; j < D; ++j) sum += std::exp(a[i * D + j] - highest);
      out.lse[n * D + i] = highest + std::log(sum);
      T delta = 0;
      for (int j = 0; j < D; ++j) {
        T& p = a[i * D + j];
        p = std::exp(p - highest) / sum;
        T dp = 0;
        for (int c = 0; c < z.value; ++c) {
          out.c[(n * D + i) * z.value + c] += p * v(j)[c];
          dp += dc[(n * D + i) * z.value + c] * v(j)[c];
        }
        ds[i * D + j] = dp;
        delta += p * dp;
      }
      for (int j = 0; j < D; ++j) ds[i * D + j] = a[i * D + j] * (ds[i * D + j] - delta) * scale;
    }
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) {
        T* di = &out.dz[(n * D + i) * W];
        T* dj = &out.dz[(n * D + j) * W];
        for (int c = 0; c < z.key; ++c) {
          di[z.value + c] += ds[i * D + j] * k(j)[c];
          dj[z.value + z.key + c] += ds[i * D + j] * q(i)[c];
        }
        for (int c = 0; c < z.value; ++c) dj[c] += a[i * D + j] * dc[(n * D + i) * z.value + c];
      }
    }
  }
  return out;
}

template <class T>
struct Loss {
  T squared = 0, absolute = 0;
  Vector<T> dz, forecast, sum_gamma, sum_beta;  // [R][H], [R][H], [R], [R]
};
// folded, p: dense [R][O]; mixed [R][H]; weight [D].
template <class T>
Loss<T> loss(const Vector<T>& folded, const Vector<T>& p, std::int64_t ld, const Vector<T>& mixed,
             const Vector<T>& gamma, const Vector<T>& beta, const Vector<T>& s, const Vector<T>& level,
             const Vector<T>& sigma, const Vector<T>& moments, const Vector<T>& weight, const Vector<float>& series,
             const Vector<std::int32_t>& starts, std::int64_t length, kernels::StatsMix share, T guard, Sizes z) {
  Loss<T> out;
  out.dz.resize(z.rows() * z.H);
  out.forecast.resize(z.rows() * z.H);
  out.sum_gamma.resize(z.rows());
  out.sum_beta.resize(z.rows());
  for (int r = 0; r < z.rows(); ++r) {
    const int d = r % z.D;
    const T inverse = 1 / (gamma[d] + guard), scale = weight[d] / T(z.rows() * z.H);
    for (int h = 0; h < z.H; ++h) {
      const T q = (folded[r * z.columns() + z.first_head() + h] + mixed[r * z.H + h] - beta[d]) * inverse;
      const T y = series[d * length + starts[r / z.D] + z.L + h], error = q * sigma[r] + level[r] - y;
      out.forecast[r * z.H + h] = q * sigma[r] + level[r];
      out.absolute += scale * std::abs(error);
      T slope = error * sigma[r];
      const T lambda = T(share.at(h + 1));
      const auto mix = [&](T own, int k) { return (1 - lambda) * own + lambda * moments[d * 5 + k]; };
      const T s1 = mix(sigma[r], 0), s2 = mix(sigma[r] * sigma[r], 1), m1 = mix(level[r], 2);
      const T m2 = mix(level[r] * level[r], 3), sm = mix(sigma[r] * level[r], 4);
      if (lambda == 0) {
        out.squared += scale * error * error;
      } else {
        out.squared += scale * (q * q * s2 + 2 * q * (sm - y * s1) + m2 - 2 * y * m1 + y * y);
        slope = q * s2 + sm - y * s1;
      }
      const T gradient = 2 * scale * slope * inverse;
      out.dz[r * z.H + h] = gradient;
      out.sum_gamma[r] += gradient * (p[r * ld + z.first_head() + h] - q);
      out.sum_beta[r] += gradient * (s[z.first_head() + h] - 1);
    }
  }
  return out;
}

}  // namespace samformer::reference
