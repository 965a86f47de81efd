// The loss fused with RevIN's inverse; kernels/loss.h has the formulas.
//
// A block has 16 rows, a warp two of them, lanes along the horizon. The rows' scalars and the columns' sums and biases
// are fetched once a block into shared memory.
#include "kernels/cuda/blocks.h"
#include "kernels/loss.h"

namespace samformer::kernels {
namespace {
using namespace simt;

constexpr int rows_per_block = 16;

struct LossArguments {
  In<float> p, gamma, beta, s, b, mixed, stats, moments, series, channel_weight;
  In<std::int32_t> starts;
  const Progress* progress;
  std::int64_t ld, mixed_ld, series_length;
  int rows, batch_stride, channels, horizon;
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
  if (a.moments) {
    const auto moment = [&](int k) { return static_cast<float>(a.moments[k * channel_stride(a.channels) + d]); };
    scalar[row_d1 * rows_per_block + i] = moment(0) - sigma;
    scalar[row_d2 * rows_per_block + i] = moment(1) - sigma * sigma;
    scalar[row_m1 * rows_per_block + i] = moment(2) - level;
    scalar[row_m2 * rows_per_block + i] = moment(3) - level * (2.0f * moment(2) - level);
    scalar[row_sm * rows_per_block + i] = moment(4) - level * moment(0);
  }
  const std::int64_t batch = a.progress ? a.progress->batch : 0;
  target[i] = a.starts ? static_cast<int>(a.starts[batch * a.batch_stride + n]) : 0;
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
    columns[h] = a.b ? static_cast<float>(a.b[h]) : 0.0f;
    if (folding) columns[a.horizon + h] = a.s[h];
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
    const bool mixing = static_cast<bool>(a.moments);
    const float d1 = mixing ? value(row_d1) : 0, d2 = mixing ? value(row_d2) : 0, m1 = mixing ? value(row_m1) : 0;
    const float m2 = mixing ? value(row_m2) : 0, sm = mixing ? value(row_sm) : 0;
    const std::int64_t first_target = r % a.channels * a.series_length + target[i];
    float row_squared = 0, row_absolute = 0, sum_gamma = 0, sum_beta = 0;
    for (int h = lane; h < a.horizon; h += 32) {
      const float p = a.p[r * a.ld + h];
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
    error_sums_kernel(Out<double> squared_sums, Out<double> absolute_sums, Out<double> difference_sums,
                      In<float> forecast, In<float> series, In<std::int32_t> starts, In<std::int32_t> targets,
                      int batch, int channels, std::int64_t series_length, int horizon) {
  SIMT_SHARED(double, part, 3 * 256);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, across = (horizon + 31) / 32;
  const int target = static_cast<int>(blockIdx.x) / across;
  const int h = static_cast<int>(blockIdx.x) % across * 32 + lane;
  double squared = 0, absolute = 0, difference = 0;
  if (h < horizon) {
    const std::int64_t d = targets[target], first = d * series_length + h;
    for (int n = warp; n < batch; n += 8) {
      const std::int64_t r = static_cast<std::int64_t>(n) * channels + d;
      const double error = static_cast<double>(static_cast<float>(forecast[r * horizon + h])) -
                           static_cast<double>(static_cast<float>(series[first + starts[n]]));
      squared += error * error;
      absolute += error < 0 ? -error : error;
      difference += error;
    }
  }
  part[threadIdx.x] = squared;
  part[256 + threadIdx.x] = absolute;
  part[512 + threadIdx.x] = difference;
  __syncthreads();
  if (warp >= 3 || h >= horizon) return;
  double total = 0;
  for (int i = 0; i < 8; ++i) total += part[warp * 256 + i * 32 + lane];
  (warp == 0   ? squared_sums
   : warp == 1 ? absolute_sums
               : difference_sums)[static_cast<std::int64_t>(target) * horizon + h] += total;
}

LossArguments arguments_of(const Projected<float>& z, const float* mixed, std::int64_t mixed_ld, const float* stats,
                           const Affine<float>& affine, std::int64_t N, std::int64_t D, std::int64_t H) {
  LossArguments a;
  a.p = z.p, a.gamma = affine.gamma, a.beta = affine.beta, a.s = z.gamma ? z.s : nullptr, a.b = z.b, a.mixed = mixed;
  a.stats = stats, a.moments = nullptr, a.series = nullptr, a.channel_weight = nullptr, a.starts = nullptr;
  a.progress = nullptr, a.ld = z.ld, a.mixed_ld = mixed_ld, a.series_length = 0;
  a.rows = static_cast<int>(N * D), a.batch_stride = 0, a.channels = static_cast<int>(D);
  a.horizon = static_cast<int>(H), a.share = 0, a.rise = 0, a.guard = static_cast<float>(affine.guard);
  a.scale = static_cast<float>(1.0 / (static_cast<double>(a.rows) * a.horizon));
  return a;
}

void launch_loss(const Cuda& on, float* loss, Sink<float> dz, AffineSink<float> affine,
                 const ForecastLoss<float, Cuda>& f) {
  LossArguments a = arguments_of(f.z, f.mixed, f.mixed_ld, f.stats, f.affine, f.y.N, f.y.D, f.H);
  a.moments = f.moments, a.series = f.y.base, a.channel_weight = f.channel_weight, a.starts = f.y.starts;
  a.progress = f.y.progress, a.series_length = f.y.channel_stride, a.batch_stride = static_cast<int>(f.y.batch_stride);
  a.share = static_cast<float>(f.mix.share), a.rise = static_cast<float>(f.mix.rise());
  launch("loss", loss_kernel<false>, grid_of(a.rows, rows_per_block), dim3{256, 1, 1},
         static_cast<std::size_t>(a.horizon) * 8, static_cast<simt::Stream>(on.stream), loss, dz.data, dz.ld,
         affine.row_sums, static_cast<float*>(nullptr), a);
}

}  // namespace

std::int64_t loss_size(const Cuda&, std::int64_t rows) { return 2 * grid_of(rows, rows_per_block).x; }

void forecast_loss(const Cuda& on, float* loss, const ForecastLoss<float, Cuda>& f, float*) {
  launch_loss(on, loss, {}, {}, f);
}
void forecast_loss_backward(const Cuda& on, Sink<float> dz, AffineSink<float> affine, const float*, float* loss,
                            const ForecastLoss<float, Cuda>& f, float*) {
  launch_loss(on, loss, dz, affine, f);
}

void revin_inverse(const Cuda& on, float* y, const Inverse<float>& z, std::int64_t N, std::int64_t D, std::int64_t H) {
  const LossArguments a = arguments_of(z.z, z.mixed, z.mixed_ld, z.stats, z.affine, N, D, H);
  float* const none = nullptr;
  launch("denormalise", loss_kernel<true>, grid_of(a.rows, rows_per_block), dim3{256, 1, 1},
         static_cast<std::size_t>(a.horizon) * 8, static_cast<simt::Stream>(on.stream), none, none, std::int64_t{0},
         none, y, a);
}

void error_sums(const Cuda& on, double* squared, double* absolute, double* difference, const float* forecast,
                const Windows<float>& y, std::int64_t H, const std::int32_t* targets, std::int64_t target_count) {
  launch(on, "error_sums", error_sums_kernel, grid_of(target_count * ((H + 31) / 32), 1), squared, absolute, difference,
         forecast, y.base, y.starts, targets, static_cast<int>(y.N), static_cast<int>(y.D), y.channel_stride,
         static_cast<int>(H));
}

}  // namespace samformer::kernels
