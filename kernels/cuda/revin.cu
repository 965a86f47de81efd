// RevIN on the GPU; kernels/gpu.h has the formulas.
//
// A warp normalises one row. It copies the window from the resident series into shared memory with 16-byte loads from
// the aligned address below its start, so that every byte of the window is read once; mean and variance are two exact
// sweeps over the copy (shifted by the first value, so a large level costs no digits).
#include "kernels/cuda/blocks.h"
#include "kernels/gpu.h"

namespace samformer::kernels::gpu {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {
using namespace simt;

__global__ void __launch_bounds__(128)
    revin_normalise_kernel(Out<float> xhat, Out<float> stats, Progress* progress, const Hyper* hyper, In<float> series,
                           In<std::int32_t> starts, int rows, int batch_stride, int channels,
                           std::int64_t series_length, int look_back, int stride, Level kind, bool begins_step) {
  SIMT_DYNAMIC_SHARED(shared);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (begins_step && blockIdx.x == 0 && threadIdx.x == 0) {
    const std::int64_t step = ++progress->step;
    progress->correction1 = static_cast<float>(-expm1(static_cast<double>(step) * hyper->log_beta1));
    progress->correction2 = static_cast<float>(-expm1(static_cast<double>(step) * hyper->log_beta2));
    const float t = static_cast<float>(step);
    progress->ema_decay = fminf(hyper->ema_decay, t / (9.0f + t));
  }
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
  const float deviation = sqrtf(warp_sum(squares) / static_cast<float>(look_back) + 1e-5f);
  const float sigma = kind == Level::none ? 1.0f : deviation, scale = 1.0f / sigma;
  const float level = kind == Level::none ? 0.0f : kind == Level::last ? last : mean;
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

void revin_normalise(float* xhat, float* stats, Progress* progress, const Hyper* hyper, const float* series,
                     const std::int32_t* starts, int batch, int batch_stride, int channels, std::int64_t series_length,
                     int look_back, Level level, bool begins_step, Stream stream) {
  const int stride = (look_back + 3 + 3) & ~3, rows = batch * channels;
  int warps = 4;
  while (warps > 1 && warps * stride * 4 > 48 * 1024) warps /= 2;
  const dim3 blocks{static_cast<unsigned>((rows + warps - 1) / warps), 1, 1},
      threads{static_cast<unsigned>(warps * 32), 1, 1};
  launch("revin_normalise", revin_normalise_kernel, blocks, threads, static_cast<std::size_t>(warps * stride) * 4,
         static_cast<simt::Stream>(stream), xhat, stats, progress, hyper, series, starts, rows, batch_stride, channels,
         series_length, look_back, stride, level, begins_step);
}

void revin_moments(float* moments, const float* stats, int batch, int channels, Stream stream) {
  launch("revin_moments", revin_moments_kernel, dim3{static_cast<unsigned>((channels + 7) / 8), 1, 1}, dim3{256, 1, 1},
         0, static_cast<simt::Stream>(stream), moments, stats, batch, channels);
}

void revin_affine(float* u, const float* xhat, const float* gamma, const float* beta, int batch, int channels,
                  int look_back, Stream stream) {
  const int rows = batch * channels;
  launch("revin_affine", revin_affine_kernel, dim3{static_cast<unsigned>((rows + 7) / 8), 1, 1}, dim3{256, 1, 1}, 0,
         static_cast<simt::Stream>(stream), u, xhat, gamma, beta, rows, channels, look_back);
}

void revin_affine_backward(float* row_sums, const float* du, const float* xhat, int batch, int channels, int look_back,
                           Stream stream) {
  const int rows = batch * channels;
  // Slot 1 of the row sums: the slots of attention are free in the models that need this.
  float* const slot = row_sums + 2 * static_cast<std::int64_t>(batch) * channel_stride(channels);
  launch("revin_affine_backward", revin_affine_backward_kernel, dim3{static_cast<unsigned>((rows + 7) / 8), 1, 1},
         dim3{256, 1, 1}, 0, static_cast<simt::Stream>(stream), slot, du, xhat, rows, channels, look_back);
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::kernels::gpu
