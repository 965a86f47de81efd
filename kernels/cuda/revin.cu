// RevIN on the GPU; kernels/revin.h has the formulas.
//
// A warp normalises one row. It copies the window from the resident series into shared memory with 16-byte loads from
// the aligned address below its start, so that every byte of the window is read once; mean and variance are two exact
// sweeps over the copy (shifted by the first value, so a large level costs no digits).
#include "kernels/cuda/blocks.h"
#include "kernels/revin.h"

namespace samformer::kernels {
namespace {
using namespace simt;

__global__ void __launch_bounds__(128)
    revin_normalise_kernel(Out<float> xhat, Out<float> stats, const Progress* progress, In<float> series,
                           In<std::int32_t> starts, int rows, int batch_stride, int channels,
                           std::int64_t series_length, int look_back, int stride, Center kind) {
  SIMT_DYNAMIC_SHARED(shared);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int r = static_cast<int>(blockIdx.x * (blockDim.x >> 5)) + warp;
  if (r >= rows) return;  // the whole warp: only warp barriers follow
  const int n = r / channels, d = r % channels;
  const std::int64_t batch = progress ? progress->batch : 0;
  const std::int64_t begin = d * series_length + starts[batch * batch_stride + n];
  const std::int64_t aligned_begin = begin & ~std::int64_t{3}, size = channels * series_length;
  const int shift = static_cast<int>(begin - aligned_begin);
  const Pointer<float> copy = shared + warp * stride;
  for (int i = 4 * lane; i < shift + look_back; i += 128) {
    float v[4];
    const std::int64_t left = size - (aligned_begin + i);
    load_slice(v, series + (aligned_begin + i), left < 4 ? static_cast<int>(left) : 4);
    store4_shared(copy + i, make_float4(v[0], v[1], v[2], v[3]));
  }
  __syncwarp();
  const Pointer<float> window = copy + shift;
  const float first = window[0], last = window[look_back - 1];
  float sum = 0;
  for (int i = lane; i < look_back; i += 32) sum += window[i] - first;
  const float mean = first + warp_sum(sum) / static_cast<float>(look_back);
  float squares = 0;
  for (int i = lane; i < look_back; i += 32) {
    const float centred = window[i] - mean;
    squares += centred * centred;
  }
  const float deviation = sqrtf(warp_sum(squares) / static_cast<float>(look_back) + static_cast<float>(revin_epsilon));
  const float sigma = kind == Center::none ? 1.0f : deviation, scale = 1.0f / sigma;
  const float level = kind == Center::none ? 0.0f : kind == Center::last ? last : mean;
  const std::int64_t row = static_cast<std::int64_t>(r) * look_back;
  for (int i = lane; i < look_back; i += 32) xhat[row + i] = (window[i] - level) * scale;
  if (lane == 0)
    store2(stats + 2 * (static_cast<std::int64_t>(n) * channel_stride(channels) + d), make_float2(level, sigma));
}

// A block has eight channels, thread t channel t % 8 and every 32nd sample from t / 8.
__global__ void __launch_bounds__(256)
    revin_moments_kernel(Out<float> moments, In<float> stats, int batch, int channels) {
  SIMT_SHARED(float, scratch, 8 * 8 * 5);
  const int o = threadIdx.x & 7, d = static_cast<int>(blockIdx.x) * 8 + o;
  float sums[5] = {};
  for (int n = threadIdx.x >> 3; n < batch; n += 32) {
    // Lanes past the last channel repeat it.
    const int from = d < channels ? d : channels - 1;
    const float2 x = load2(stats + 2 * (static_cast<std::int64_t>(n) * channel_stride(channels) + from));
    const float level = x.x, sigma = x.y;
    sums[0] += sigma, sums[1] += sigma * sigma, sums[2] += level, sums[3] += level * level, sums[4] += sigma * level;
  }
  const float total = column_sums(sums, scratch);
  const int k = threadIdx.x >> 3;
  if (k < 5 && d < channels) moments[k * channel_stride(channels) + d] = total / static_cast<float>(batch);
}

// A warp a row.
__global__ void __launch_bounds__(256) revin_affine_kernel(Out<float> u, In<float> xhat, In<float> gamma,
                                                           In<float> beta, int rows, int channels, int look_back) {
  const int lane = threadIdx.x & 31, r = static_cast<int>(blockIdx.x) * 8 + static_cast<int>(threadIdx.x >> 5);
  if (r >= rows) return;
  const float scale = gamma[r % channels], shift = beta[r % channels];
  const std::int64_t row = static_cast<std::int64_t>(r) * look_back;
  for (int i = 4 * lane; i < look_back; i += 128) {
    float v[4];
    load_slice(v, xhat + (row + i), look_back - i);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = scale * v[k] + shift;
    store_slice(u + (row + i), v, look_back - i);
  }
}

__global__ void __launch_bounds__(256)
    revin_affine_backward_kernel(Out<float> sums, In<float> du, In<float> xhat, int rows, int channels, int look_back) {
  const int lane = threadIdx.x & 31, r = static_cast<int>(blockIdx.x) * 8 + static_cast<int>(threadIdx.x >> 5);
  if (r >= rows) return;  // the whole warp
  const std::int64_t row = static_cast<std::int64_t>(r) * look_back;
  float sum_gamma = 0, sum_beta = 0;
  for (int i = 4 * lane; i < look_back; i += 128) {
    float g[4], x[4];
    load_slice(g, du + (row + i), look_back - i);
    load_slice(x, xhat + (row + i), look_back - i);
    sum_gamma += (g[0] * x[0] + g[1] * x[1]) + (g[2] * x[2] + g[3] * x[3]);
    sum_beta += (g[0] + g[1]) + (g[2] + g[3]);
  }
  sum_gamma = warp_sum(sum_gamma);
  sum_beta = warp_sum(sum_beta);
  if (lane != 0) return;
  const int stride = channel_stride(channels);
  const std::int64_t at = static_cast<std::int64_t>(r / channels) * stride + r % channels;
  sums[at] = sum_gamma;
  sums[static_cast<std::int64_t>(rows / channels) * stride + at] = sum_beta;
}

}  // namespace

void revin_normalise(const Cuda& on, float* xhat, float* stats, const Windows<float>& x, std::int64_t L,
                     Center center) {
  const int look_back = static_cast<int>(L), stride = (look_back + 3 + 3) & ~3, rows = static_cast<int>(x.N * x.D);
  int warps = 4;
  while (warps > 1 && warps * stride * 4 > 48 * 1024) warps /= 2;
  launch("revin_normalise", revin_normalise_kernel, grid_of(rows, warps), dim3{static_cast<unsigned>(warps * 32), 1, 1},
         static_cast<std::size_t>(warps * stride) * 4, static_cast<simt::Stream>(on.stream), xhat, stats, x.progress,
         x.base, x.starts, rows, static_cast<int>(x.batch_stride), static_cast<int>(x.D), x.channel_stride, look_back,
         stride, center);
}

void revin_moments(const Cuda& on, float* moments, const float* stats, std::int64_t N, std::int64_t D) {
  launch(on, "revin_moments", revin_moments_kernel, grid_of(D, 8), moments, stats, static_cast<int>(N),
         static_cast<int>(D));
}

void revin_affine(const Cuda& on, float* u, const float* xhat, const float* gamma, const float* beta, std::int64_t N,
                  std::int64_t D, std::int64_t L) {
  launch(on, "revin_affine", revin_affine_kernel, grid_of(N * D, 8), u, xhat, gamma, beta, static_cast<int>(N * D),
         static_cast<int>(D), static_cast<int>(L));
}

void revin_affine_backward(const Cuda& on, AffineSink<float> affine, const float* du, const float* xhat, std::int64_t N,
                           std::int64_t D, std::int64_t L, float*) {
  launch(on, "revin_affine_backward", revin_affine_backward_kernel, grid_of(N * D, 8), affine.row_sums, du, xhat,
         static_cast<int>(N * D), static_cast<int>(D), static_cast<int>(L));
}

}  // namespace samformer::kernels
