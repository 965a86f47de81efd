// The moving average decomposition on the GPU; kernels/decompose.h has the formulas. A thread has an element.
#include "kernels/cuda/blocks.h"
#include "kernels/decompose.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Average {
  std::int64_t count;  // R L
  int L, width, front;
  float share;
};
Average average_of(std::int64_t R, std::int64_t L, std::int64_t width) {
  return {R * L, static_cast<int>(L), static_cast<int>(width), static_cast<int>(average_front(width)),
          1.0f / static_cast<float>(width)};
}

__global__ void __launch_bounds__(256) decompose_kernel(Out<float> y, In<float> x, Average a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.count) return;
  const int t = static_cast<int>(i % a.L);
  const In<float> row = x + (i - t);
  float total = 0;
  for (int j = 0; j < a.width; ++j) {
    const int at = t + j - a.front;
    total += row[at < 0 ? 0 : at < a.L ? at : a.L - 1];
  }
  const float trend = a.share * total;
  const Out<float> to = y + (2 * i - t);
  to[0] = row[t] - trend;
  to[a.L] = trend;
}

__global__ void __launch_bounds__(256)
    decompose_backward_kernel(Out<float> dx, In<float> dy, std::int64_t ldx, std::int64_t ldy, bool adds, Average a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.count) return;
  const int s = static_cast<int>(i % a.L), begin = s - (a.width - 1 - a.front);
  const In<float> seasonal = dy + i / a.L * ldy, trend = seasonal + a.L;
  float total = 0;
  for (int t = begin < 0 ? 0 : begin; t <= s + a.front && t < a.L; ++t) {
    total += static_cast<float>(average_terms(s, t, a.L, a.width, a.front)) * (trend[t] - seasonal[t]);
  }
  const Out<float> to = dx + (i / a.L * ldx + s);
  *to = (adds ? static_cast<float>(*to) : 0.0f) + (seasonal[s] + a.share * total);
}

}  // namespace

void decompose(const Cuda& on, float* y, const float* x, std::int64_t R, std::int64_t L, std::int64_t width) {
  launch(on, "decompose", decompose_kernel, grid_of(R * L, 256), y, x, average_of(R, L, width));
}
void decompose_backward(const Cuda& on, Sink<float> dx, const float* dy, std::int64_t ld, std::int64_t R,
                        std::int64_t L, std::int64_t width) {
  launch(on, "decompose_backward", decompose_backward_kernel, grid_of(R * L, 256), dx.data, dy, dx.ld, ld, dx.add,
         average_of(R, L, width));
}

}  // namespace samformer::kernels
