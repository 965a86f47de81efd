// sigma-reparam on the GPU; kernels/spectral.h has the formulas and the iteration, which is the same here: the smaller
// Gram matrix in double, squared until it is a projector. A block has a layer, from its Gram matrix to its scaled
// weights: 16 x 16 threads with T x T elements each of matrices of up to 16 T.
#include "kernels/cuda/blocks.h"
#include "kernels/spectral.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Layer {
  In<float> weight, gamma, d_scaled;
  Out<float> scaled, sigma, u, v, d_weight, d_gamma;
  int out, in;
  bool add_weight, add_gamma;
};
struct Layers {
  Layer of[spectral_most];
};

template <int T>
__global__ void __launch_bounds__(256) spectral_reparam_kernel(Layers layers) {
  constexpr int side = 16 * T, pitch = side + 1, steps = 32;
  SIMT_SHARED(double, p, side* side);
  SIMT_SHARED(double, diagonal, side);
  SIMT_SHARED(double, scratch, 8);
  SIMT_SHARED(float, staged, steps* pitch);
  const Layer& l = layers.of[blockIdx.x];
  const bool wide = l.out <= l.in;  // the Gram matrix is W W', else W' W
  const int k = wide ? l.out : l.in, n = wide ? l.in : l.out;
  const int thread = threadIdx.x, tx = thread & 15, ty = thread >> 4;
  double own[T][T] = {};
  // own[i][j] += row (ty + 16 i) times column (tx + 16 j) over `length` terms; all threads end with p = own / trace and
  // the trace.
  const auto normalised = [&] {
    if (tx == ty) {
#pragma unroll
      for (int i = 0; i < T; ++i) diagonal[ty + 16 * i] = own[i][i];
    }
    __syncthreads();
    double trace = 0;
    for (int i = 0; i < side; ++i) trace += diagonal[i];
#pragma unroll
    for (int i = 0; i < T; ++i) {
#pragma unroll
      for (int j = 0; j < T; ++j) p[(ty + 16 * i) * side + tx + 16 * j] = own[i][j] / trace;
    }
    __syncthreads();
    return trace;
  };
  // staged[t][i] = the weight at step begin + t of the long side, i of the short one.
  const auto stage = [&](int begin) {
    __syncthreads();
    for (int e = thread; e < steps * side; e += 256) {
      const int t = wide ? e % steps : e / side, i = wide ? e / steps : e % side;
      const bool there = i < k && begin + t < n;
      const int at = wide ? i * n + begin + t : (begin + t) * k + i;
      staged[t * pitch + i] = there ? static_cast<float>(l.weight[at]) : 0.0f;
    }
    __syncthreads();
  };
  for (int begin = 0; begin < n; begin += steps) {
    stage(begin);
    for (int t = 0; t < steps; ++t) {
      double row[T], column[T];
#pragma unroll
      for (int i = 0; i < T; ++i) {
        row[i] = static_cast<double>(static_cast<float>(staged[t * pitch + ty + 16 * i]));
        column[i] = static_cast<double>(static_cast<float>(staged[t * pitch + tx + 16 * i]));
      }
#pragma unroll
      for (int i = 0; i < T; ++i) {
#pragma unroll
        for (int j = 0; j < T; ++j) own[i][j] += row[i] * column[j];
      }
    }
  }
  normalised();
  bool settled = false;
  for (int squaring = 0; squaring < 50; ++squaring) {
#pragma unroll
    for (int i = 0; i < T; ++i) {
#pragma unroll
      for (int j = 0; j < T; ++j) own[i][j] = 0;
    }
    for (int t = 0; t < k; ++t) {  // p is symmetric
      double row[T], column[T];
#pragma unroll
      for (int i = 0; i < T; ++i) row[i] = p[t * side + ty + 16 * i], column[i] = p[t * side + tx + 16 * i];
#pragma unroll
      for (int i = 0; i < T; ++i) {
#pragma unroll
        for (int j = 0; j < T; ++j) own[i][j] += row[i] * column[j];
      }
    }
    const double trace = normalised();
    if (settled) break;
    settled = !(trace < 1 - 1e-15);
  }
  // The projector's largest column is the vector x of the short side, W'x or W x over its length sigma the other one.
  int top = 0;
  for (int i = 1; i < k; ++i) top = static_cast<double>(p[top * side + top]) < p[i * side + i] ? i : top;
  double length = 0;
  for (int i = 0; i < k; ++i) length += p[top * side + i] * p[top * side + i];
  length = sqrt(length);
  const Out<float> x = wide ? l.u : l.v, y = wide ? l.v : l.u;
  if (thread < k) x[thread] = static_cast<float>(p[top * side + thread] / length);
  double squares = 0;
  for (int begin = 0; begin < n; begin += steps) {  // eight threads a step
    stage(begin);
    const int t = thread >> 3;
    double total = 0;
    for (int i = thread & 7; i < k; i += 8) {
      total += p[top * side + i] * static_cast<double>(static_cast<float>(staged[t * pitch + i]));
    }
#pragma unroll
    for (int step = 4; step > 0; step >>= 1) total += __shfl_xor_sync(all_lanes, total, step);
    if ((thread & 7) == 0 && begin + t < n) {
      y[begin + t] = static_cast<float>(total / length);
      squares += total * total;
    }
  }
  const double sigma = sqrt(block_sum(squares, scratch)) / length;
  const float inverse = static_cast<float>(1 / sigma);
  for (int t = thread; t < n; t += 256) y[t] = y[t] * inverse;
  if (thread == 0) *l.sigma = static_cast<float>(sigma);
  const float factor = static_cast<float>(static_cast<double>(static_cast<float>(*l.gamma)) / sigma);
  const int count = l.out * l.in;
  for (int i = 4 * thread; i < count; i += 1024) {
    float w[4];
    load_slice(w, l.weight + i, count - i);
#pragma unroll
    for (int e = 0; e < 4; ++e) w[e] *= factor;
    store_slice(l.scaled + i, w, count - i);
  }
}

__global__ void __launch_bounds__(256) spectral_reparam_backward_kernel(Layers layers) {
  SIMT_SHARED(float, scratch, 8);
  const Layer& l = layers.of[blockIdx.x];
  const int count = l.out * l.in;
  float along = 0;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < count; i += 1024) {
    float g[4], w[4];
    load_slice(g, l.d_scaled + i, count - i);
    load_slice(w, l.weight + i, count - i);
    along += (g[0] * w[0] + g[1] * w[1]) + (g[2] * w[2] + g[3] * w[3]);
  }
  const float sigma = *l.sigma;
  along = block_sum(along, scratch) / sigma;
  if (threadIdx.x == 0 && l.d_gamma) *l.d_gamma = l.add_gamma ? *l.d_gamma + along : along;
  if (!l.d_weight) return;
  const float factor = *l.gamma / sigma;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < count; i += 1024) {
    float g[4], w[4] = {};
    load_slice(g, l.d_scaled + i, count - i);
    if (l.add_weight) load_slice<4>(w, l.d_weight + i, count - i);
    const int o = i / l.in, c = i - o * l.in;
    if (c + 4 <= l.in) {
      float v[4];
      load_slice<4>(v, l.v + c, 4);
      const float u = l.u[o];
#pragma unroll
      for (int e = 0; e < 4; ++e) w[e] += factor * (g[e] - along * u * v[e]);
    } else {
      for (int e = 0; e < 4 && i + e < count; ++e) {
        const int row = (i + e) / l.in;
        w[e] += factor * (g[e] - along * l.u[row] * l.v[i + e - row * l.in]);
      }
    }
    store_slice(l.d_weight + i, w, count - i);
  }
}

Layers layers_of(const SpectralLayer<float, Cuda>* layers, int count) {
  if (count > spectral_most) throw GpuError("spectral_reparam: more layers than a launch has");
  Layers all;
  for (int i = 0; i < count; ++i) {
    const SpectralLayer<float, Cuda>& from = layers[i];
    Layer& to = all.of[i];
    to.weight = from.weight, to.gamma = from.gamma, to.scaled = from.scaled, to.v = from.saved;
    to.u = from.saved + from.in, to.sigma = from.saved + from.in + from.out;
    to.out = static_cast<int>(from.out), to.in = static_cast<int>(from.in);
    to.d_scaled = from.dscaled, to.d_weight = from.dweight.data, to.d_gamma = from.dgamma.data;
    to.add_weight = from.dweight.add, to.add_gamma = from.dgamma.add;
  }
  return all;
}

}  // namespace

void spectral_reparam(const Cuda& on, const SpectralLayer<float, Cuda>* layers, int count, double*) {
  std::int64_t side = 0;
  for (int i = 0; i < count; ++i) {
    const std::int64_t smaller = layers[i].out < layers[i].in ? layers[i].out : layers[i].in;
    side = side < smaller ? smaller : side;
  }
  if (side > 64)
    throw GpuError("spectral_reparam: weights whose smaller side is above 64 are not supported on the GPU");
  const auto kernel = side <= 16   ? spectral_reparam_kernel<1>
                      : side <= 32 ? spectral_reparam_kernel<2>
                                   : spectral_reparam_kernel<4>;
  launch(on, "spectral_reparam", kernel, dim3{static_cast<unsigned>(count), 1, 1}, layers_of(layers, count));
}

void spectral_reparam_backward(const Cuda& on, const SpectralLayer<float, Cuda>* layers, int count, double*) {
  launch(on, "spectral_reparam_backward", spectral_reparam_backward_kernel, dim3{static_cast<unsigned>(count), 1, 1},
         layers_of(layers, count));
}

}  // namespace samformer::kernels
