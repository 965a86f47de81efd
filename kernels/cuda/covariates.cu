// Known-ahead covariates on the GPU; kernels/covariates.h has the formulas.
//
// A thread has an element of z, a warp a level, a block an element of dW: neighbouring threads read neighbouring steps
// of the resident rows, and every sum has a fixed order.
#include "kernels/covariates.h"
#include "kernels/cuda/blocks.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Covariates {
  std::int64_t stride;  // between the series' rows
  std::int64_t batch_stride;
  int N, D, first, shared, own, L, H, stats_stride;
};
Covariates covariates_of(const Windows<float>& x, std::int64_t L, std::int64_t H) {
  return {x.channel_stride,
          x.batch_stride,
          static_cast<int>(x.N),
          static_cast<int>(x.D),
          static_cast<int>(x.known.first),
          static_cast<int>(x.known.shared),
          static_cast<int>(x.known.own),
          static_cast<int>(L),
          static_cast<int>(H),
          static_cast<int>(channel_stride(x.D))};
}
SIMT_DEVICE int row_of(const Covariates& c, int d, int f) { return f < c.shared ? f : f + d * c.own; }
// Where row k of window n begins in the series.
SIMT_DEVICE std::int64_t begin_of(const Covariates& c, const Progress* progress, In<std::int32_t> starts, int n,
                                  int k) {
  const std::int64_t batch = progress ? progress->batch : 0;
  return (c.first + k) * c.stride + starts[batch * c.batch_stride + n];
}

__global__ void __launch_bounds__(256)
    covariate_levels_kernel(Out<float> level, In<float> series, const Progress* progress, In<std::int32_t> starts,
                            Covariates c, Center center) {
  const int lane = threadIdx.x & 31, rows = c.shared + c.own * c.D;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 8 + (threadIdx.x >> 5);
  if (i >= static_cast<std::int64_t>(c.N) * rows) return;  // the whole warp
  const std::int64_t begin = begin_of(c, progress, starts, static_cast<int>(i / rows), static_cast<int>(i % rows));
  float sum = 0;
  for (int t = lane; t < c.L; t += 32) sum += series[begin + t];
  const float mean = warp_sum(sum) / static_cast<float>(c.L);
  if (lane != 0) return;
  level[i] = center == Center::none ? 0.0f : mean;
}

__global__ void __launch_bounds__(256)
    covariate_map_kernel(Out<float> to, std::int64_t ldt, In<float> from, std::int64_t ldf, In<float> series,
                         const Progress* progress, In<std::int32_t> starts, In<float> level, In<float> stats,
                         In<float> weight, bool adds, Covariates c) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= static_cast<std::int64_t>(c.N) * c.D * c.H) return;
  const std::int64_t r = i / c.H;
  const int h = static_cast<int>(i % c.H), n = static_cast<int>(r / c.D), d = static_cast<int>(r % c.D);
  const int features = c.shared + c.own, rows = c.shared + c.own * c.D;
  const std::int64_t begin = begin_of(c, progress, starts, n, 0) + c.L + h;
  float sum = 0;
  for (int f = 0; f < features; ++f) {
    const int k = row_of(c, d, f);
    sum += weight[static_cast<std::int64_t>(d) * features + f] *
           (series[begin + k * c.stride] - level[static_cast<std::int64_t>(n) * rows + k]);
  }
  const float sigma = stats[2 * (static_cast<std::int64_t>(n) * c.stats_stride + d) + 1];
  to[r * ldt + h] = (adds ? static_cast<float>(from[r * ldf + h]) : 0.0f) + sum / sigma;
}

__global__ void __launch_bounds__(256)
    covariate_map_backward_kernel(Out<float> dweight, std::int64_t ldw, bool adds, In<float> dz, std::int64_t ld,
                                  In<float> series, const Progress* progress, In<std::int32_t> starts, In<float> level,
                                  In<float> stats, Covariates c) {
  SIMT_SHARED(float, scratch, 8);
  const int features = c.shared + c.own, rows = c.shared + c.own * c.D;
  const int d = static_cast<int>(blockIdx.x) / features, f = static_cast<int>(blockIdx.x) % features;
  const int k = row_of(c, d, f);
  float sum = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < c.N * c.H; i += 256) {
    const int n = i / c.H, h = i % c.H;
    const std::int64_t r = static_cast<std::int64_t>(n) * c.D + d;
    const float b =
        series[begin_of(c, progress, starts, n, k) + c.L + h] - level[static_cast<std::int64_t>(n) * rows + k];
    sum += dz[r * ld + h] * b / stats[2 * (static_cast<std::int64_t>(n) * c.stats_stride + d) + 1];
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x != 0) return;
  const Out<float> out = dweight + (d * ldw + f);
  *out = adds ? static_cast<float>(*out) + sum : sum;
}

}  // namespace

void covariate_levels(const Cuda& on, float* level, const Windows<float>& x, std::int64_t L, Center center) {
  launch(on, "covariate_levels", covariate_levels_kernel, grid_of(x.N * x.known.rows(x.D), 8), level, x.base,
         x.progress, x.starts, covariates_of(x, L, 0), center);
}
void covariate_map(const Cuda& on, float* to, std::int64_t ldt, const float* from, std::int64_t ldf,
                   const Windows<float>& x, const float* level, const float* stats, const float* W, std::int64_t L,
                   std::int64_t H) {
  launch(on, "covariate_map", covariate_map_kernel, grid_of(x.N * x.D * H, 256), to, ldt, from ? from : to, ldf, x.base,
         x.progress, x.starts, level, stats, W, from != nullptr, covariates_of(x, L, H));
}
void covariate_map_backward(const Cuda& on, Sink<float> dW, const float* dz, std::int64_t ld, const Windows<float>& x,
                            const float* level, const float* stats, std::int64_t L, std::int64_t H) {
  launch(on, "covariate_map_backward", covariate_map_backward_kernel, grid_of(x.D * x.known.features(), 1), dW.data,
         dW.ld, dW.add, dz, ld, x.base, x.progress, x.starts, level, stats, covariates_of(x, L, H));
}

}  // namespace samformer::kernels
