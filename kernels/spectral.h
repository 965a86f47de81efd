// sigma-reparam (Zhai et al. 2023), of the weights:  What = gamma W / sigma,  sigma = |W|_2 the largest singular value,
//
//   dsigma = u' dW v  with the singular vectors u, v;   dgamma = <dWhat, W> / sigma,
//   dW = gamma / sigma (dWhat - <dWhat, W> / sigma u v')
//
// sigma, u and v by power iteration on W's smaller Gram matrix G, by repeated squaring: P = G^(2^k) / trace tends to
// the projector on the top eigenvector, the error squaring each time, so that every pass starts anew and keeps no
// state. The iterate is in double for float; for dual numbers its tangent converges along with it. W must not be zero.
// Shapes: W, What [out][in]; u [out], v [in], gamma one number. Saved for backward: v, u, sigma.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/device.h"

namespace samformer::kernels {

// The type that the iteration runs in.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, T>;
// What is saved of it.
template <class T, class On>
using Singular = std::conditional_t<std::is_same_v<On, Cuda>, float, Wide<T>>;

// Several layers at once; on a device up to four, the smaller side of each W at most 64 (GpuError).
inline constexpr int spectral_most = 4;
template <class T, class On>
struct SpectralLayer {
  const T* weight;  // [out][in]
  const T* gamma;   // one number
  T* scaled;
  Singular<T, On>* saved;  // v [in], u [out], sigma: v begins where float4 may be read
  std::int64_t out, in;
  Sink<T> dweight = {}, dgamma = {};
  const T* dscaled = nullptr;
};
constexpr std::int64_t spectral_saved(std::int64_t out, std::int64_t in) { return 1 + out + in; }
// Wide<T> scalars of workspace for one layer.
constexpr std::int64_t spectral_scratch(Cpu, std::int64_t out, std::int64_t in) {
  const std::int64_t k = std::min(out, in);
  return out * in + 3 * k * k;
}
constexpr std::int64_t spectral_scratch(const Cuda&, std::int64_t, std::int64_t) { return 0; }
void spectral_reparam(const Cuda& on, const SpectralLayer<float, Cuda>* layers, int count, double* scratch);
void spectral_reparam_backward(const Cuda& on, const SpectralLayer<float, Cuda>* layers, int count, double* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <cmath>

#include "kernels/gemm.h"

namespace samformer::kernels {
namespace detail {

// Returns sigma, fills u and v.
template <class T>
Wide<T> spectral_norm(Wide<T>* u, Wide<T>* v, const T* W, std::int64_t out, std::int64_t in, Wide<T>* work) {
  using A = Wide<T>;
  using std::sqrt;
  const bool wide = out <= in;  // G = W W', else W' W
  const std::int64_t k = std::min(out, in);
  A *w = work, *G = w + out * in, *P = G + k * k, *next = P + k * k;
  for (std::int64_t i = 0; i < out * in; ++i) w[i] = static_cast<A>(W[i]);
  gemm(!wide, wide, k, k, std::max(out, in), w, in, w, in, G, k, false);
  const auto trace = [k](const A* M) {
    A total{};
    for (std::int64_t i = 0; i < k; ++i) total += M[i * k + i];
    return total;
  };
  const auto scaled = [k](A* to, const A* from, A factor) {
    for (std::int64_t i = 0; i < k * k; ++i) to[i] = from[i] * factor;
  };
  scaled(P, G, static_cast<A>(1) / trace(G));
  // The trace of P^2 is 1 where P is a projector; one more squaring settles the tangents. Two equal largest singular
  // values never get there: 50 squarings tell any two apart that doubles can.
  bool settled = false;
  for (int squaring = 0; squaring < 50; ++squaring) {
    gemm(false, false, k, k, k, P, k, P, k, next, k, false);
    const A norm = trace(next);
    scaled(P, next, static_cast<A>(1) / norm);
    if (settled) break;
    settled = !(norm < static_cast<A>(1 - 1e-15));
  }
  std::int64_t top = 0;
  for (std::int64_t i = 1; i < k; ++i) top = P[top * k + top] < P[i * k + i] ? i : top;
  A *x = wide ? u : v, *y = wide ? v : u;  // of G, and the other one
  const A length = sqrt(dot(P + top * k, P + top * k, k));
  for (std::int64_t i = 0; i < k; ++i) x[i] = P[top * k + i] / length;
  for (std::int64_t i = 0; i < std::max(out, in); ++i) {
    A total{};
    for (std::int64_t j = 0; j < k; ++j) total += x[j] * (wide ? w[j * in + i] : w[i * in + j]);
    y[i] = total;
  }
  const A sigma = sqrt(dot(y, y, std::max(out, in)));
  for (std::int64_t i = 0; i < std::max(out, in); ++i) y[i] /= sigma;
  return sigma;
}

}  // namespace detail

template <class T>
void spectral_reparam(Cpu, const SpectralLayer<T, Cpu>* layers, int count, Wide<T>* scratch) {
  for (int i = 0; i < count; ++i) {
    const SpectralLayer<T, Cpu>& l = layers[i];
    const Wide<T> sigma = detail::spectral_norm(l.saved + l.in, l.saved, l.weight, l.out, l.in, scratch);
    l.saved[l.in + l.out] = sigma;
    const T factor = static_cast<T>(static_cast<Wide<T>>(*l.gamma) / sigma);
    for (std::int64_t k = 0; k < l.out * l.in; ++k) l.scaled[k] = factor * l.weight[k];
  }
}

// dgamma and dweight of each layer from its dscaled.
template <class T>
void spectral_reparam_backward(Cpu, const SpectralLayer<T, Cpu>* layers, int count, Wide<T>* scratch) {
  T* const work = reinterpret_cast<T*>(scratch);
  for (int i = 0; i < count; ++i) {
    const SpectralLayer<T, Cpu>& l = layers[i];
    const Wide<T> sigma = l.saved[l.in + l.out], *const v = l.saved, *const u = v + l.in;
    const std::int64_t in = l.in;
    parallel_for<T>(l.out, [=](std::int64_t o) { work[o] = dot(l.dscaled + o * in, l.weight + o * in, in); });
    Wide<T> along{};
    for (std::int64_t o = 0; o < l.out; ++o) along += static_cast<Wide<T>>(work[o]);
    along /= sigma;
    if (l.dgamma) *l.dgamma.data = (l.dgamma.add ? *l.dgamma.data : T{}) + static_cast<T>(along);
    if (!l.dweight) continue;
    const T factor = *l.gamma / static_cast<T>(sigma);
    parallel_for<T>(l.out, [=](std::int64_t o) {
      for (std::int64_t k = o * in; k < (o + 1) * in; ++k) {
        const T slope = factor * (l.dscaled[k] - static_cast<T>(along * u[o] * v[k - o * in]));
        l.dweight.data[k] = l.dweight.add ? l.dweight.data[k] + slope : slope;
      }
    });
  }
}

}  // namespace samformer::kernels
#endif
