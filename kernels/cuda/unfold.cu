// Rows side by side, max pooling and sinusoids on the GPU; kernels/unfold.h has the formulas. A thread has an element
// of the result.
#include "kernels/cuda/blocks.h"
#include "kernels/unfold.h"

namespace samformer::kernels {
namespace {
using namespace simt;

__global__ void __launch_bounds__(256) unfold_kernel(Out<float> y, In<float> x, std::int64_t elements, UnfoldShape a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t r = i / (a.C * a.width), c = i % (a.C * a.width) / a.width;
  const std::int64_t s = a.source(r % a.rows, i % a.width);
  y[i] = s < 0 ? 0.0f : static_cast<float>(x[(r / a.rows * a.T + s) * a.C + c]);
}

__global__ void __launch_bounds__(256) unfold_backward_kernel(Out<float> dx, In<float> dy, std::int64_t ld, bool adds,
                                                              std::int64_t elements, UnfoldShape a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t r = i / a.C, c = i % a.C;
  const Out<float> to = dx + (r * ld + c);
  float sum = adds ? static_cast<float>(*to) : 0.0f;
  for (std::int64_t j = 0; j < a.width; ++j) {
    for (std::int64_t at = a.begin(r % a.T, j); at < a.rows * a.stride; at += a.T) {
      if (at >= 0 && at % a.stride == 0) {
        sum += dy[((r / a.T * a.rows + at / a.stride) * a.C + c) * a.width + j];
      }
      if (!a.circular) break;
    }
  }
  *to = sum;
}

// The step that t takes the largest of column c from.
SIMT_DEVICE std::int64_t largest(In<float> x, std::int64_t t, std::int64_t T, std::int64_t C) {
  std::int64_t most = t > 0 ? 2 * t - 1 : 0;
  for (std::int64_t s = most + 1; s < T && s < 2 * t + 2; ++s) most = x[s * C] > x[most * C] ? s : most;
  return most;
}

__global__ void __launch_bounds__(256)
    max_pool_kernel(Out<float> y, In<float> x, std::int64_t elements, std::int64_t T, std::int64_t C) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t rows = pooled(T), r = i / C;
  const In<float> from = x + (r / rows * T * C + i % C);
  y[i] = from[largest(from, r % rows, T, C) * C];
}

__global__ void __launch_bounds__(256)
    max_pool_backward_kernel(Out<float> dx, In<float> dy, In<float> x, std::int64_t ld, bool adds,
                             std::int64_t elements, std::int64_t T, std::int64_t C) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t rows = pooled(T), n = i / C / T, s = i / C % T;
  const In<float> from = x + (n * T * C + i % C);
  const Out<float> to = dx + (i / C * ld + i % C);
  float sum = adds ? static_cast<float>(*to) : 0.0f;
  for (std::int64_t t = s / 2; t <= (s + 1) / 2 && t < rows; ++t) {
    if (largest(from, t, T, C) == s) sum += dy[(n * rows + t) * C + i % C];
  }
  *to = sum;
}

__global__ void __launch_bounds__(256) sinusoids_kernel(Out<float> P, std::int64_t elements, std::int64_t d) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t c = i % d;
  const double angle =
      static_cast<double>(i / d) * pow(10000.0, -static_cast<double>(c / 2 * 2) / static_cast<double>(d));
  const double half_turns = angle * 0.31830988618379067;
  P[i] = static_cast<float>(c % 2 == 0 ? sin_pi(half_turns) : cos_pi(half_turns));
}

}  // namespace

void unfold(const Cuda& on, float* y, const float* x, std::int64_t N, const UnfoldShape& a) {
  const std::int64_t elements = N * a.rows * a.C * a.width;
  launch(on, "unfold", unfold_kernel, grid_of(elements, 256), y, x, elements, a);
}
void unfold_backward(const Cuda& on, Sink<float> dx, const float* dy, std::int64_t N, const UnfoldShape& a) {
  const std::int64_t elements = N * a.T * a.C;
  launch(on, "unfold_backward", unfold_backward_kernel, grid_of(elements, 256), dx.data, dy, dx.ld, dx.add, elements,
         a);
}
void max_pool(const Cuda& on, float* y, const float* x, std::int64_t N, std::int64_t T, std::int64_t C) {
  const std::int64_t elements = N * pooled(T) * C;
  launch(on, "max_pool", max_pool_kernel, grid_of(elements, 256), y, x, elements, T, C);
}
void max_pool_backward(const Cuda& on, Sink<float> dx, const float* dy, const float* x, std::int64_t N, std::int64_t T,
                       std::int64_t C) {
  const std::int64_t elements = N * T * C;
  launch(on, "max_pool_backward", max_pool_backward_kernel, grid_of(elements, 256), dx.data, dy, x, dx.ld, dx.add,
         elements, T, C);
}
void sinusoids(const Cuda& on, float* P, std::int64_t T, std::int64_t d) {
  launch(on, "sinusoids", sinusoids_kernel, grid_of(T * d, 256), P, T * d, d);
}

}  // namespace samformer::kernels
