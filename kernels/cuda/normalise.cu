// Batch and layer norm on the GPU; kernels/normalise.h has the formulas.
//
// One kernel each way for both: a block has 32 positions, eight quads of four, and 32 slots of samples, so that sums
// over the samples stay in the block and a batch of 32 is read once. A layer norm's sums over the positions come first,
// in two stages: chunks of a sample, then the samples.
#include "kernels/cuda/blocks.h"
#include "kernels/normalise.h"

namespace samformer::kernels {
namespace {
using namespace simt;

constexpr int chunk = 2048;  // positions of a sample in a block of the first stage

enum class Statistics { batch, running, sample };

// v summed over the 32 slots of the block's samples; every thread has its own quad's sums.
SIMT_DEVICE void slot_sums(float (&v)[4], Pointer<float> scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, quad = lane & 7;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    v[k] += __shfl_xor_sync(all_lanes, v[k], 8);
    v[k] += __shfl_xor_sync(all_lanes, v[k], 16);
  }
  if (lane < 8) store4_shared(scratch + (warp * 32 + 4 * quad), make_float4(v[0], v[1], v[2], v[3]));
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float4 x = load4(scratch + (i * 32 + 4 * quad));
    v[0] += x.x, v[1] += x.y, v[2] += x.z, v[3] += x.w;
  }
  __syncthreads();
}

struct NormArguments {
  In<float> x, dy, weight, bias;
  int samples, positions;
  float epsilon, momentum, spread;  // NormRule
};

// A thread's quad of positions in every 32nd sample; the first one stays in registers.
struct Quad {
  int column, left, slot;
  SIMT_DEVICE explicit Quad(int positions)
      : column(static_cast<int>(blockIdx.x) * 32 + 4 * static_cast<int>(threadIdx.x & 7u)),
        left(positions - column),
        slot(static_cast<int>(threadIdx.x >> 3)) {}
  SIMT_DEVICE void load(float (&v)[4], In<float> x, const NormArguments& a, int n) const {
    load_slice(v, x + (static_cast<std::int64_t>(n) * a.positions + column), left);
  }
  SIMT_DEVICE void load(float (&v)[4], const float (&first)[4], In<float> x, const NormArguments& a, int n) const {
    if (n != slot) return load(v, x, a, n);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = first[k];
  }
};

template <Statistics kind>
__global__ void __launch_bounds__(256)
    norm_kernel(Out<float> y, Out<float> mean, Out<float> rstd, Out<float> running_mean, Out<float> running_var,
                const Progress* progress, NormArguments a) {
  SIMT_SHARED(float, scratch, 256);
  SIMT_SHARED(float, parameters, 64);  // weight and bias, fetched once a block
  const Quad quad(a.positions);
  float first[4] = {}, average[4] = {}, scale[4] = {};
  if (quad.slot < 2) {
    float v[4];
    load_slice(v, (quad.slot == 0 ? a.weight : a.bias) + quad.column, quad.left);
    store4_shared(parameters + 4 * static_cast<int>(threadIdx.x), make_float4(v[0], v[1], v[2], v[3]));
  }
  __syncthreads();
  if (quad.slot < a.samples) quad.load(first, a.x, a, quad.slot);
  if constexpr (kind == Statistics::batch) {
    const float share = 1.0f / static_cast<float>(a.samples);
    float squares[4] = {};
    for (int n = quad.slot; n < a.samples; n += 32) {
      float v[4];
      quad.load(v, first, a.x, a, n);
#pragma unroll
      for (int k = 0; k < 4; ++k) average[k] += v[k];
    }
    slot_sums(average, scratch);
#pragma unroll
    for (int k = 0; k < 4; ++k) average[k] *= share;
    for (int n = quad.slot; n < a.samples; n += 32) {
      float v[4];
      quad.load(v, first, a.x, a, n);
#pragma unroll
      for (int k = 0; k < 4; ++k) squares[k] += (v[k] - average[k]) * (v[k] - average[k]);
    }
    slot_sums(squares, scratch);
#pragma unroll
    for (int k = 0; k < 4; ++k) squares[k] *= share, scale[k] = 1.0f / sqrtf(squares[k] + a.epsilon);
    if (quad.slot == 0) {
      store_slice(mean + quad.column, average, quad.left);
      store_slice(rstd + quad.column, scale, quad.left);
      if (running_mean && a.samples > 1 && (!progress || progress->bad_pass == 0)) {
        float m[4], v[4];
        load_slice<4>(m, running_mean + quad.column, quad.left);
        load_slice<4>(v, running_var + quad.column, quad.left);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          m[k] = a.momentum * m[k] + (1.0f - a.momentum) * average[k];
          v[k] = a.momentum * v[k] + (1.0f - a.momentum) * (a.spread * squares[k]);
        }
        store_slice(running_mean + quad.column, m, quad.left);
        store_slice(running_var + quad.column, v, quad.left);
      }
    }
  } else if constexpr (kind == Statistics::running) {
    load_slice<4>(average, running_mean + quad.column, quad.left);
    load_slice<4>(scale, running_var + quad.column, quad.left);
#pragma unroll
    for (int k = 0; k < 4; ++k) scale[k] = 1.0f / sqrtf(scale[k] + a.epsilon);
    if (quad.slot == 0) store_slice(rstd + quad.column, scale, quad.left);
  }
  const int own = 4 * static_cast<int>(threadIdx.x & 7u);
  const float4 w = load4(parameters + own), b = load4(parameters + (32 + own));
  const float weight[4] = {w.x, w.y, w.z, w.w}, bias[4] = {b.x, b.y, b.z, b.w};
  for (int n = quad.slot; n < a.samples; n += 32) {
    float v[4];
    quad.load(v, first, a.x, a, n);
    if constexpr (kind == Statistics::sample) {
      const float m = mean[n], s = rstd[n];
#pragma unroll
      for (int k = 0; k < 4; ++k) average[k] = m, scale[k] = s;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = (v[k] - average[k]) * (scale[k] * weight[k]) + bias[k];
    store_slice(y + (static_cast<std::int64_t>(n) * a.positions + quad.column), v, quad.left);
  }
}

struct NormGradients {
  Out<float> dx, dw, db;  // null: not wanted
  bool add_x, add_w, add_b;
  NormGradients(Sink<float> x, Sink<float> w, Sink<float> b)
      : dx(x.data), dw(w.data), db(b.data), add_x(x.add), add_w(w.add), add_b(b.add) {}
};

// sums [samples][2] of a layer norm: sum w dy, sum w dy xhat. constant: the statistics of a batch norm were.
template <bool by_sample>
__global__ void __launch_bounds__(256) norm_backward_kernel(NormGradients to, In<float> mean, In<float> rstd,
                                                            In<float> sums, bool constant, NormArguments a) {
  SIMT_SHARED(float, scratch, 256);
  const Quad quad(a.positions);
  float first[4] = {}, first_dy[4] = {}, average[4] = {}, scale[4] = {}, weight[4] = {}, total[4] = {}, along[4] = {};
  if (quad.slot < a.samples) {
    quad.load(first, a.x, a, quad.slot);
    quad.load(first_dy, a.dy, a, quad.slot);
  }
  load_slice(weight, a.weight + quad.column, quad.left);
  if constexpr (!by_sample) {
    load_slice(average, mean + quad.column, quad.left);
    load_slice(scale, rstd + quad.column, quad.left);
  }
  const auto statistics_of = [&](int n) {
    if constexpr (by_sample) {
      const float m = mean[n], s = rstd[n];
#pragma unroll
      for (int k = 0; k < 4; ++k) average[k] = m, scale[k] = s;
    }
  };
  for (int n = quad.slot; n < a.samples; n += 32) {
    float x[4], g[4];
    quad.load(x, first, a.x, a, n);
    quad.load(g, first_dy, a.dy, a, n);
    statistics_of(n);
#pragma unroll
    for (int k = 0; k < 4; ++k) total[k] += g[k], along[k] += g[k] * ((x[k] - average[k]) * scale[k]);
  }
  slot_sums(total, scratch);
  slot_sums(along, scratch);
  if (quad.slot == 0) {
    float w[4] = {}, b[4] = {};
    if (to.dw && to.add_w) load_slice<4>(w, to.dw + quad.column, quad.left);
    if (to.db && to.add_b) load_slice<4>(b, to.db + quad.column, quad.left);
#pragma unroll
    for (int k = 0; k < 4; ++k) w[k] += along[k], b[k] += total[k];
    if (to.dw) store_slice(to.dw + quad.column, w, quad.left);
    if (to.db) store_slice(to.db + quad.column, b, quad.left);
  }
  if (!to.dx) return;
  const float share = constant ? 0.0f : 1.0f / static_cast<float>(by_sample ? a.positions : a.samples);
  for (int n = quad.slot; n < a.samples; n += 32) {
    float x[4], g[4], dx[4] = {};
    quad.load(x, first, a.x, a, n);
    quad.load(g, first_dy, a.dy, a, n);
    statistics_of(n);
    const Out<float> at = to.dx + (static_cast<std::int64_t>(n) * a.positions + quad.column);
    if (to.add_x) load_slice<4>(dx, at, quad.left);
    float2 own{};
    if constexpr (by_sample) own = load2(sums + 2 * n);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float xhat = (x[k] - average[k]) * scale[k];
      if constexpr (by_sample) {
        dx[k] += scale[k] * (g[k] * weight[k] - share * (own.x + xhat * own.y));
      } else {
        dx[k] += scale[k] * weight[k] * (g[k] - share * (total[k] + xhat * along[k]));
      }
    }
    store_slice(at, dx, quad.left);
  }
}

// Forward: parts [samples][chunks][2] = mean of the chunk, sum of squares around it; backward: sum w dy, sum w dy xhat.
// Backward has several samples a block, which share the weights.
constexpr int backward_samples = 4;
template <bool backward>
__global__ void __launch_bounds__(256)
    sample_parts_kernel(Out<float> parts, In<float> mean, In<float> rstd, NormArguments a) {
  SIMT_SHARED(float, scratch, 8);
  constexpr int samples = backward ? backward_samples : 1, quads = chunk / 1024;
  const int begin = static_cast<int>(blockIdx.y) * chunk, left = a.positions - begin,
            size = left < chunk ? left : chunk;
  const int first_sample = static_cast<int>(blockIdx.x) * samples;
  float w[quads][4];
  if constexpr (backward) {
#pragma unroll
    for (int j = 0; j < quads; ++j) {
      const int i = j * 1024 + 4 * static_cast<int>(threadIdx.x);
      load_slice(w[j], a.weight + (begin + i), size - i);
    }
  }
  for (int n = first_sample; n < first_sample + samples && n < a.samples; ++n) {
    const std::int64_t row = static_cast<std::int64_t>(n) * a.positions + begin;
    float x[quads][4], first = 0, second = 0;
#pragma unroll
    for (int j = 0; j < quads; ++j) {
      const int i = j * 1024 + 4 * static_cast<int>(threadIdx.x);
      load_slice(x[j], a.x + (row + i), size - i);
      if constexpr (backward) {
        float g[4];
        load_slice(g, a.dy + (row + i), size - i);
        const float m = mean[n], s = rstd[n];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float weighted = g[k] * w[j][k];
          first += weighted, second += weighted * ((x[j][k] - m) * s);
        }
      } else {
        first += (x[j][0] + x[j][1]) + (x[j][2] + x[j][3]);
      }
    }
    first = block_sum(first, scratch);
    if constexpr (!backward) {
      first /= static_cast<float>(size);
#pragma unroll
      for (int j = 0; j < quads; ++j) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float centred = j * 1024 + 4 * static_cast<int>(threadIdx.x) + k < size ? x[j][k] - first : 0.0f;
          second += centred * centred;
        }
      }
    }
    second = block_sum(second, scratch);
    if (threadIdx.x == 0) {
      store2(parts + 2 * (static_cast<std::int64_t>(n) * gridDim.y + blockIdx.y), make_float2(first, second));
    }
  }
}

// A warp merges a sample's parts. Forward: mean, rstd; backward: sums [samples][2].
template <bool backward>
__global__ void __launch_bounds__(256)
    sample_merge_kernel(Out<float> mean, Out<float> rstd, Out<float> sums, In<float> parts, int chunks, int samples,
                        int positions, float epsilon) {
  const int lane = threadIdx.x & 31, n = static_cast<int>(blockIdx.x) * 8 + static_cast<int>(threadIdx.x >> 5);
  if (n >= samples) return;  // the whole warp
  const In<float> own = parts + 2 * static_cast<std::int64_t>(n) * chunks;
  const auto size = [&](int k) {
    return backward ? 1.0f : static_cast<float>(positions - k * chunk < chunk ? positions - k * chunk : chunk);
  };
  float first = 0, second = 0;
  for (int k = lane; k < chunks; k += 32) {
    const float2 part = load2(own + 2 * k);
    first += size(k) * part.x, second += part.y;
  }
  first = warp_sum(first);
  if constexpr (!backward) {
    first /= static_cast<float>(positions);
    for (int k = lane; k < chunks; k += 32) {
      const float apart = own[2 * k] - first;
      second += size(k) * apart * apart;
    }
  }
  second = warp_sum(second);
  if (lane != 0) return;
  if constexpr (backward) {
    store2(sums + 2 * n, make_float2(first, second));
  } else {
    mean[n] = first;
    rstd[n] = 1.0f / sqrtf(second / static_cast<float>(positions) + epsilon);
  }
}

NormArguments arguments_of(const float* x, const float* dy, const float* weight, const float* bias, std::int64_t N,
                           std::int64_t M, const NormRule& rule = {}) {
  NormArguments a;
  a.x = x, a.dy = dy, a.weight = weight, a.bias = bias, a.samples = static_cast<int>(N);
  a.positions = static_cast<int>(M);
  a.epsilon = static_cast<float>(rule.epsilon), a.momentum = static_cast<float>(rule.momentum);
  a.spread = static_cast<float>(rule.spread(N));
  return a;
}
dim3 columns_of(const NormArguments& a) { return grid_of(a.positions, 32); }
int chunks_of(std::int64_t positions) { return static_cast<int>((positions + chunk - 1) / chunk); }

template <bool backward>
void sums_of_samples(const Cuda& on, float* mean, float* rstd, float* sums, float* parts, const NormArguments& a) {
  const auto chunks = static_cast<unsigned>(chunks_of(a.positions)), samples = static_cast<unsigned>(a.samples);
  launch(on, backward ? "layer_norm_backward_parts" : "layer_norm_parts", sample_parts_kernel<backward>,
         dim3{backward ? (samples + backward_samples - 1) / backward_samples : samples, chunks, 1}, parts, mean, rstd,
         a);
  launch(on, backward ? "layer_norm_backward_merge" : "layer_norm_merge", sample_merge_kernel<backward>,
         grid_of(a.samples, 8), mean, rstd, sums, parts, static_cast<int>(chunks), a.samples, a.positions, a.epsilon);
}

constexpr float* none = nullptr;
constexpr const Progress* no_progress = nullptr;

}  // namespace

void batch_norm(const Cuda& on, float* y, float* mean, float* rstd, float* running_mean, float* running_var,
                const Progress* progress, const float* x, const float* w, const float* b, std::int64_t N,
                std::int64_t M, const NormRule& rule) {
  const NormArguments a = arguments_of(x, nullptr, w, b, N, M, rule);
  launch(on, "batch_norm", norm_kernel<Statistics::batch>, columns_of(a), y, mean, rstd, running_mean, running_var,
         progress, a);
}
void batch_norm_running(const Cuda& on, float* y, float* rstd, const float* running_mean, const float* running_var,
                        const float* x, const float* w, const float* b, std::int64_t N, std::int64_t M,
                        const NormRule& rule) {
  const NormArguments a = arguments_of(x, nullptr, w, b, N, M, rule);
  launch(on, "batch_norm_running", norm_kernel<Statistics::running>, columns_of(a), y, none, rstd,
         const_cast<float*>(running_mean), const_cast<float*>(running_var), no_progress, a);
}
void batch_norm_backward(const Cuda& on, Sink<float> dx, Sink<float> dw, Sink<float> db, const float* dy,
                         const float* x, const float* mean, const float* rstd, const float* w, bool constant,
                         std::int64_t N, std::int64_t M) {
  const NormArguments a = arguments_of(x, dy, w, nullptr, N, M);
  launch(on, "batch_norm_backward", norm_backward_kernel<false>, columns_of(a), NormGradients(dx, dw, db), mean, rstd,
         none, constant, a);
}

// Parts [samples][chunks][2], then sums [samples][2].
std::int64_t layer_norm_scratch(const Cuda&, std::int64_t N, std::int64_t M) { return 2 * N * (chunks_of(M) + 1); }
void layer_norm(const Cuda& on, float* y, float* mean, float* rstd, const float* x, const float* w, const float* b,
                std::int64_t N, std::int64_t M, float* scratch, double epsilon) {
  const NormArguments a = arguments_of(x, nullptr, w, b, N, M, {epsilon});
  sums_of_samples<false>(on, mean, rstd, none, scratch, a);
  launch(on, "layer_norm", norm_kernel<Statistics::sample>, columns_of(a), y, mean, rstd, none, none, no_progress, a);
}
void layer_norm_backward(const Cuda& on, Sink<float> dx, Sink<float> dw, Sink<float> db, const float* dy,
                         const float* x, const float* mean, const float* rstd, const float* w, std::int64_t N,
                         std::int64_t M, float* scratch) {
  const NormArguments a = arguments_of(x, dy, w, nullptr, N, M);
  float* const sums = scratch + 2 * N * chunks_of(M);
  sums_of_samples<true>(on, const_cast<float*>(mean), const_cast<float*>(rstd), sums, scratch, a);
  launch(on, "layer_norm_backward", norm_backward_kernel<true>, columns_of(a), NormGradients(dx, dw, db), mean, rstd,
         sums, false, a);
}

}  // namespace samformer::kernels
