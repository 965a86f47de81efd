// Patches on the GPU; kernels/patches.h has the formula. A thread has an element of the result.
#include "kernels/cuda/blocks.h"
#include "kernels/patches.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Patches {
  std::int64_t elements;  // of the result
  int L, count, length, stride;
};
Patches patches_of(std::int64_t elements, const PatchShape& a) {
  return {elements, static_cast<int>(a.L), static_cast<int>(a.count()), static_cast<int>(a.length),
          static_cast<int>(a.stride)};
}

__global__ void __launch_bounds__(256) patches_kernel(Out<float> y, In<float> x, Patches a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.elements) return;
  const int at = static_cast<int>(i % (a.count * a.length));
  const int t = at / a.length * a.stride + at % a.length;
  y[i] = x[i / (a.count * a.length) * a.L + (t < a.L ? t : a.L - 1)];
}

__global__ void __launch_bounds__(256)
    patches_backward_kernel(Out<float> dx, In<float> dy, std::int64_t ld, bool adds, Patches a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.elements) return;
  const int t = static_cast<int>(i % a.L), before = t - a.length + 1;
  const bool last = t == a.L - 1;  // and all that lies behind it
  const In<float> row = dy + i / a.L * (a.count * a.length);
  const Out<float> to = dx + (i / a.L * ld + t);
  float sum = adds ? static_cast<float>(*to) : 0.0f;
  for (int p = before > 0 ? (before + a.stride - 1) / a.stride : 0; p < a.count && (last || p * a.stride <= t); ++p) {
    const int j = t - p * a.stride;
    for (int k = j > 0 ? j : 0; k < a.length && (last || k == j); ++k) sum += row[p * a.length + k];
  }
  *to = sum;
}

}  // namespace

void patches(const Cuda& on, float* y, const float* x, std::int64_t R, const PatchShape& a) {
  const Patches all = patches_of(R * a.count() * a.length, a);
  launch(on, "patches", patches_kernel, grid_of(all.elements, 256), y, x, all);
}
void patches_backward(const Cuda& on, Sink<float> dx, const float* dy, std::int64_t R, const PatchShape& a) {
  launch(on, "patches_backward", patches_backward_kernel, grid_of(R * a.L, 256), dx.data, dy, dx.ld, dx.add,
         patches_of(R * a.L, a));
}

}  // namespace samformer::kernels
