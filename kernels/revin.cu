// RevIN on the GPU; kernels/gpu.h has the formulas.
//
// A warp normalises one row. It copies the window from the resident series into shared memory with 16-byte loads from
// the aligned address below its start, so that every byte of the window is read once; mean and variance are two exact
// sweeps over the copy (shifted by the first value, so a large level costs no digits).
#include "kernels/gpu.h"
#include "kernels/gpu_ops.h"

namespace samformer::kernels::gpu {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {
using namespace simt;

__global__ void __launch_bounds__(128)
    revin_normalise_kernel(Out<float> xhat, Out<float> stats, Progress* progress, const Hyper* hyper, In<float> series,
                           In<std::int32_t> starts, int rows, int batch_stride, int channels,
                           std::int64_t series_length, int look_back, int stride, bool last_value, bool begins_step) {
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
  const float sigma = sqrtf(warp_sum(squares) / static_cast<float>(look_back) + 1e-5f);
  const float level = last_value ? last : mean, scale = 1.0f / sigma;
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

}  // namespace

void revin_normalise(float* xhat, float* stats, Progress* progress, const Hyper* hyper, const float* series,
                     const std::int32_t* starts, int batch, int batch_stride, int channels, std::int64_t series_length,
                     int look_back, bool last_value, bool begins_step, Stream stream) {
  const int stride = (look_back + 3 + 3) & ~3, rows = batch * channels;
  int warps = 4;
  while (warps > 1 && warps * stride * 4 > 48 * 1024) warps /= 2;
  const dim3 blocks{static_cast<unsigned>((rows + warps - 1) / warps), 1, 1},
      threads{static_cast<unsigned>(warps * 32), 1, 1};
  launch("revin_normalise", revin_normalise_kernel, blocks, threads, static_cast<std::size_t>(warps * stride) * 4,
         static_cast<simt::Stream>(stream), xhat, stats, progress, hyper, series, starts, rows, batch_stride, channels,
         series_length, look_back, stride, last_value, begins_step);
}

void revin_moments(float* moments, const float* stats, int batch, int channels, Stream stream) {
  launch("revin_moments", revin_moments_kernel, dim3{static_cast<unsigned>((channels + 7) / 8), 1, 1}, dim3{256, 1, 1},
         0, static_cast<simt::Stream>(stream), moments, stats, batch, channels);
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::kernels::gpu
