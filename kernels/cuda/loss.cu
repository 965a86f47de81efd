// The loss fused with RevIN's inverse; kernels/gpu.h has the formulas, paper/facts.md the closed form of the mixing.
//
// A block has 16 rows, a warp two of them, lanes along the horizon. The rows' scalars and the columns' sums and biases
// are fetched once a block into shared memory.
#include "kernels/cuda/blocks.h"
#include "kernels/gpu.h"

namespace samformer::kernels::gpu {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {
using namespace simt;

constexpr int rows_per_block = 16;

struct LossArguments {
  In<float> p, gamma, beta, s, b, mixed, stats, moments, series, channel_weight;
  In<std::int32_t> starts;
  const Progress* progress;
  std::int64_t ld, mixed_ld, series_length;
  int rows, batch_stride, channels, look_back, horizon, first_column;
  float share, rise, guard, scale;
};

// What the loop over the horizon needs of a row.
enum Scalar {
  row_gamma,
  row_beta,
  row_inverse,
  row_level,
  row_sigma,
  row_d1,  // of the batch: S1 - sigma, S2 - sigma^2; levels relative to the row's
  row_d2,
  row_m1,
  row_m2,
  row_sm,
  row_weight,
  scalars
};

SIMT_DEVICE void fetch_row(Pointer<float> scalar, Pointer<int> target, const LossArguments& a, int r) {
  const int i = threadIdx.x;
  const int n = r / a.channels, d = r % a.channels;
  const float2 own = load2(a.stats + 2 * (static_cast<std::int64_t>(n) * channel_stride(a.channels) + d));
  const float level = own.x, sigma = own.y;
  const float gamma = a.gamma ? static_cast<float>(a.gamma[d]) : 1.0f;
  scalar[row_gamma * rows_per_block + i] = gamma;
  scalar[row_beta * rows_per_block + i] = a.beta ? static_cast<float>(a.beta[d]) : 0.0f;
  scalar[row_inverse * rows_per_block + i] = 1.0f / (gamma + a.guard);
  scalar[row_level * rows_per_block + i] = level;
  scalar[row_sigma * rows_per_block + i] = sigma;
  scalar[row_weight * rows_per_block + i] =
      a.scale * (a.channel_weight ? static_cast<float>(a.channel_weight[d]) : 1.0f);
  if (a.share > 0) {
    const auto moment = [&](int k) { return static_cast<float>(a.moments[k * channel_stride(a.channels) + d]); };
    scalar[row_d1 * rows_per_block + i] = moment(0) - sigma;
    scalar[row_d2 * rows_per_block + i] = moment(1) - sigma * sigma;
    scalar[row_m1 * rows_per_block + i] = moment(2) - level;
    scalar[row_m2 * rows_per_block + i] = moment(3) - level * (2.0f * moment(2) - level);
    scalar[row_sm * rows_per_block + i] = moment(4) - level * moment(0);
  }
  const std::int64_t batch = a.progress ? a.progress->batch : 0;
  target[i] = a.starts[batch * a.batch_stride + n] + a.look_back;
}

// parts [blocks][2]; dz null: no gradient; row_sums null: no affine. With `forecast`, writes that and nothing else.
template <bool forecasting>
__global__ void __launch_bounds__(256, 4) loss_kernel(Out<float> parts, Out<float> dz, std::int64_t ldz,
                                                      Out<float> row_sums, Out<float> forecast, LossArguments a) {
  SIMT_DYNAMIC_SHARED(columns);
  SIMT_SHARED(float, scalar, scalars* rows_per_block);
  SIMT_SHARED(int, target, rows_per_block);
  SIMT_SHARED(float, scratch, 8);
  SIMT_SHARED(float, sums, 2 * rows_per_block);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int first = static_cast<int>(blockIdx.x) * rows_per_block;
  const bool folding = a.gamma && a.s;  // scale and shift are still to be applied to p
  for (int h = threadIdx.x; h < a.horizon; h += 256) {
    columns[h] = a.b[a.first_column + h];
    if (folding) columns[a.horizon + h] = a.s[a.first_column + h];
  }
  if (threadIdx.x < rows_per_block && first + static_cast<int>(threadIdx.x) < a.rows)
    fetch_row(scalar, target, a, first + threadIdx.x);
  __syncthreads();
  float squared = 0, absolute = 0;
  for (int i = warp; i < rows_per_block; i += 8) {
    if (first + i >= a.rows) break;
    const std::int64_t r = first + i;
    const auto value = [&](Scalar k) { return static_cast<float>(scalar[k * rows_per_block + i]); };
    const float gamma = value(row_gamma), beta = value(row_beta), inverse = value(row_inverse);
    const float level = value(row_level), sigma = value(row_sigma), weight = value(row_weight);
    const bool mixing = a.share > 0;
    const float d1 = mixing ? value(row_d1) : 0, d2 = mixing ? value(row_d2) : 0, m1 = mixing ? value(row_m1) : 0;
    const float m2 = mixing ? value(row_m2) : 0, sm = mixing ? value(row_sm) : 0;
    const std::int64_t first_target = r % a.channels * a.series_length + target[i];
    float row_squared = 0, row_absolute = 0, sum_gamma = 0, sum_beta = 0;
    for (int h = lane; h < a.horizon; h += 32) {
      const float p = a.p[r * a.ld + a.first_column + h];
      const float s = folding ? static_cast<float>(columns[a.horizon + h]) : 0.0f;
      float z = (folding ? gamma : 1.0f) * p + (beta * s + columns[h]);
      if (a.mixed) z += a.mixed[r * a.mixed_ld + h];
      const float q = (z - beta) * inverse;
      if constexpr (forecasting) {
        forecast[r * a.horizon + h] = q * sigma + level;
      } else {
        const float v = a.series[first_target + h] - level;
        const float error = q * sigma - v;
        float gradient = error * sigma;
        row_squared += error * error;
        if (mixing) {
          const float risen = a.share * static_cast<float>((h + 1) * (h + 1));
          const float share = a.rise > 0 ? risen / (risen + a.rise) : a.share;
          const float cross = sm - v * d1, slope = q * d2 + cross;
          row_squared += share * (q * (slope + cross) + (m2 - 2.0f * v * m1));
          gradient += share * slope;
        }
        row_absolute += fabsf(error);
        if (dz) {
          gradient *= 2.0f * weight * inverse;
          dz[r * ldz + h] = gradient;
          sum_gamma += gradient * ((folding ? p : 0.0f) - q);
          sum_beta += gradient * (s - 1.0f);
        }
      }
    }
    squared += weight * row_squared;
    absolute += weight * row_absolute;
    if (!forecasting && row_sums) {
      sum_gamma = warp_sum(sum_gamma);
      sum_beta = warp_sum(sum_beta);
      if (lane == 0) sums[i] = sum_gamma, sums[rows_per_block + i] = sum_beta;
    }
  }
  if constexpr (!forecasting) {
    squared = block_sum(squared, scratch);
    absolute = block_sum(absolute, scratch);
    if (threadIdx.x == 0) store2(parts + 2 * static_cast<std::int64_t>(blockIdx.x), make_float2(squared, absolute));
    const int i = threadIdx.x;
    if (row_sums && i < rows_per_block && first + i < a.rows) {
      const int stride = channel_stride(a.channels);
      const std::int64_t at = static_cast<std::int64_t>((first + i) / a.channels) * stride + (first + i) % a.channels;
      row_sums[at] = sums[i];
      row_sums[static_cast<std::int64_t>(a.rows / a.channels) * stride + at] = sums[rows_per_block + i];
    }
  }
}

// A block has 32 steps of one target, a step a lane; its warps share the windows.
__global__ void __launch_bounds__(256)
    error_sums_kernel(Out<double> sums, In<float> forecast, In<float> series, In<std::int32_t> starts,
                      In<std::int32_t> targets, int target_count, int batch, int channels, std::int64_t series_length,
                      int look_back, int horizon) {
  SIMT_SHARED(double, part, 2 * 256);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, across = (horizon + 31) / 32;
  const int target = static_cast<int>(blockIdx.x) / across;
  const int h = static_cast<int>(blockIdx.x) % across * 32 + lane;
  double squared = 0, absolute = 0;
  if (h < horizon) {
    const std::int64_t d = targets[target], first = d * series_length + look_back + h;
    for (int n = warp; n < batch; n += 8) {
      const std::int64_t r = static_cast<std::int64_t>(n) * channels + d;
      const double error = static_cast<double>(static_cast<float>(forecast[r * horizon + h])) -
                           static_cast<double>(static_cast<float>(series[first + starts[n]]));
      squared += error * error;
      absolute += error < 0 ? -error : error;
    }
  }
  part[threadIdx.x] = squared;
  part[256 + threadIdx.x] = absolute;
  __syncthreads();
  if (warp >= 2 || h >= horizon) return;
  double total = 0;
  for (int i = 0; i < 8; ++i) total += part[warp * 256 + i * 32 + lane];
  sums[(static_cast<std::int64_t>(warp) * target_count + target) * horizon + h] += total;
}

LossArguments arguments_of(const LossInput& x) {
  const int rows = x.batch * x.channels;
  LossArguments a;
  a.p = x.in.p, a.gamma = x.in.gamma, a.beta = x.in.beta, a.s = x.in.s, a.b = x.in.b, a.mixed = x.mixed;
  a.stats = x.stats, a.moments = x.moments, a.series = x.series, a.channel_weight = x.channel_weight;
  a.starts = x.starts, a.progress = x.progress, a.ld = x.in.ld, a.mixed_ld = x.mixed_ld,
  a.series_length = x.series_length;
  a.rows = rows, a.batch_stride = x.batch_stride, a.channels = x.channels, a.look_back = x.look_back;
  a.horizon = x.widths.horizon, a.first_column = x.widths.first_head();
  a.share = x.share, a.rise = x.rise, a.guard = x.guard;
  a.scale = static_cast<float>(1.0 / (static_cast<double>(rows) * x.widths.horizon));
  return a;
}

}  // namespace

int loss_blocks(int rows) { return (rows + rows_per_block - 1) / rows_per_block; }

void loss(float* loss_parts, float* dz, std::int64_t ldz, float* row_sums, const LossInput& input, Stream stream) {
  const LossArguments a = arguments_of(input);
  launch("loss", loss_kernel<false>, dim3{static_cast<unsigned>(loss_blocks(a.rows)), 1, 1}, dim3{256, 1, 1},
         static_cast<std::size_t>(a.horizon) * 8, static_cast<simt::Stream>(stream), loss_parts, dz, ldz, row_sums,
         static_cast<float*>(nullptr), a);
}

void denormalise(float* forecast, const LossInput& input, Stream stream) {
  const LossArguments a = arguments_of(input);
  float* const none = nullptr;
  launch("denormalise", loss_kernel<true>, dim3{static_cast<unsigned>(loss_blocks(a.rows)), 1, 1}, dim3{256, 1, 1},
         static_cast<std::size_t>(a.horizon) * 8, static_cast<simt::Stream>(stream), none, none, std::int64_t{0}, none,
         forecast, a);
}

void error_sums(double* sums, const float* forecast, const float* series, const std::int32_t* starts,
                const std::int32_t* targets, int target_count, int batch, int channels, std::int64_t series_length,
                int look_back, int horizon, Stream stream) {
  const unsigned blocks = static_cast<unsigned>(target_count) * static_cast<unsigned>((horizon + 31) / 32);
  launch("error_sums", error_sums_kernel, dim3{blocks, 1, 1}, dim3{256, 1, 1}, 0, static_cast<simt::Stream>(stream),
         sums, forecast, series, starts, targets, target_count, batch, channels, series_length, look_back, horizon);
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::kernels::gpu
