// SAM's ascent and the optimisers on the GPU, each one pass over the parameter slab; kernels/gpu.h has the contract.
//
// The norm's second stage is inside perturb and update: every block adds up the same partial sums in the same order, so
// all blocks agree on the norm, and on whether the step happens, without a barrier between them.
#include "kernels/cuda/blocks.h"
#include "kernels/gpu.h"

namespace samformer::kernels::gpu {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {
using namespace simt;

constexpr int norm_chunk = 2048, step_chunk = 1024;

SIMT_DEVICE int as_int(float x) {
#ifdef __CUDACC__
  return __float_as_int(x);
#else
  return std::bit_cast<int>(x);
#endif
}
SIMT_DEVICE float as_float(int x) {
#ifdef __CUDACC__
  return __int_as_float(x);
#else
  return std::bit_cast<float>(x);
#endif
}

__global__ void __launch_bounds__(256)
    gradient_norm_kernel(Out<float> parts, const Progress* progress, In<float> gradients, In<float> weights, int count,
                         bool adaptive) {
  SIMT_SHARED(float, scratch, 8);
  SIMT_SHARED(int, first_bad, 8);
  float sum = 0;
  int bad = count;
#pragma unroll
  for (int k = 0; k < norm_chunk / 1024; ++k) {
    const int i = static_cast<int>(blockIdx.x) * norm_chunk + k * 1024 + 4 * static_cast<int>(threadIdx.x);
    if (i < count) {
      float g[4], w[4] = {};
      load_slice(g, gradients + i, count - i);
      if (adaptive) load_slice(w, weights + i, count - i);
#pragma unroll
      for (int j = 3; j >= 0; --j) {
        if (!finite(g[j]) && i + j < bad) bad = i + j;
        const float x = adaptive ? g[j] * w[j] : g[j];
        sum += x * x;
      }
    }
  }
  bad = block_min(bad, first_bad);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) {
    // A finite gradient whose square overflows has diverged too.
    if (bad == count && !finite(sum)) bad = static_cast<int>(blockIdx.x) * norm_chunk;
    if (progress->bad_pass != 0) sum = as_float(0x7fc00000);
    store2(parts + 2 * static_cast<std::int64_t>(blockIdx.x), make_float2(sum, as_float(bad == count ? -1 : bad)));
  }
}

// The norm, in every thread; `first_bad` is the first non-finite element, or -1.
SIMT_DEVICE float total_norm(int& first_bad, In<float> parts, int part_count, Pointer<float> scratch,
                             Pointer<int> bad_scratch) {
  float sum = 0;
  int bad = 0x7fffffff;
  for (int i = threadIdx.x; i < part_count; i += 256) {
    const float2 part = load2(parts + 2 * i);
    sum += part.x;
    const int element = as_int(part.y);
    if (element >= 0 && element < bad) bad = element;
  }
  bad = block_min(bad, bad_scratch);
  first_bad = bad == 0x7fffffff ? -1 : bad;
  return sqrtf(block_sum(sum, scratch));
}

SIMT_DEVICE void record(Progress* progress, int pass, int element) {
  if (progress->bad_pass != 0) return;
  progress->bad_pass = pass;
  progress->bad_step = progress->step;
  progress->bad_element = element;
}

__global__ void __launch_bounds__(256)
    perturb_kernel(Out<float> weights, Out<float> saved, Progress* progress, const Hyper* hyper, In<float> parts,
                   int part_count, In<float> gradients, int count, bool adaptive) {
  SIMT_SHARED(float, scratch, 8);
  SIMT_SHARED(int, bad_scratch, 8);
  int bad = -1;
  const float norm = total_norm(bad, parts, part_count, scratch, bad_scratch);
  const bool steps = finite(norm);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    progress->norm = norm;
    if (!steps) record(progress, 1, bad);
  }
  const int i = static_cast<int>(blockIdx.x) * step_chunk + 4 * static_cast<int>(threadIdx.x);
  if (i >= count) return;
  float w[4], g[4];
  load_slice<4>(w, weights + i, count - i);
  store_slice(saved + i, w, count - i);
  if (!steps) return;
  load_slice(g, gradients + i, count - i);
  const float scale = hyper->rho / (norm + 1e-12f);
#pragma unroll
  for (int k = 0; k < 4; ++k) w[k] += scale * (adaptive ? w[k] * w[k] * g[k] : g[k]);
  store_slice(weights + i, w, count - i);
}

struct Slabs {
  Out<float> weights, m, v, average;
  In<float> saved, gradients;
};

template <Rule rule>
__global__ void __launch_bounds__(256) update_kernel(Slabs slab, Progress* progress, const Hyper* hyper,
                                                     In<float> parts, int part_count, int count, int pass) {
  SIMT_SHARED(float, scratch, 8);
  SIMT_SHARED(int, bad_scratch, 8);
  int bad = -1;
  const bool steps = finite(total_norm(bad, parts, part_count, scratch, bad_scratch));
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    ++progress->batch;
    if (!steps) record(progress, pass, bad);
  }
  const int i = static_cast<int>(blockIdx.x) * step_chunk + 4 * static_cast<int>(threadIdx.x), left = count - i;
  if (left <= 0) return;
  constexpr bool decoupled = rule == Rule::adamw || rule == Rule::adamw_keras;
  constexpr bool keras = rule == Rule::adam_keras || rule == Rule::adamw_keras;
  float w[4], g[4], m[4], v[4];
  if (slab.saved) {
    load_slice<4>(w, slab.saved + i, left);
  } else {
    load_slice<4>(w, slab.weights + i, left);
  }
  if (!steps) {
    if (slab.saved) store_slice(slab.weights + i, w, left);
    return;
  }
  load_slice(g, slab.gradients + i, left);
  const float lr = hyper->lr, decay = hyper->weight_decay;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if constexpr (decoupled) {
      w[k] *= 1.0f - lr * decay;
    } else {
      g[k] += decay * w[k];
    }
  }
  load_slice<4>(m, slab.m + i, left);
  if constexpr (rule == Rule::sgd) {
    const float momentum = hyper->momentum;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      m[k] = momentum * m[k] + g[k];
      w[k] -= lr * m[k];
    }
  } else {
    load_slice<4>(v, slab.v + i, left);
    const float beta1 = hyper->beta1, beta2 = hyper->beta2, epsilon = hyper->epsilon;
    const float correction1 = progress->correction1, root2 = sqrtf(progress->correction2);
    const float rate = keras ? lr * root2 / correction1 : lr / correction1;
    const float inverse2 = keras ? 1.0f : 1.0f / root2;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      m[k] = beta1 * m[k] + (1.0f - beta1) * g[k];
      v[k] = beta2 * v[k] + (1.0f - beta2) * g[k] * g[k];
      w[k] -= rate * m[k] / (sqrtf(v[k]) * inverse2 + epsilon);
    }
    store_slice(slab.v + i, v, left);
  }
  store_slice(slab.m + i, m, left);
  store_slice(slab.weights + i, w, left);
  if (slab.average) {
    float a[4];
    load_slice<4>(a, slab.average + i, left);
    const float keep = progress->ema_decay;
#pragma unroll
    for (int k = 0; k < 4; ++k) a[k] = keep * a[k] + (1.0f - keep) * w[k];
    store_slice(slab.average + i, a, left);
  }
}

dim3 blocks_of(std::int64_t count, int chunk) { return {static_cast<unsigned>((count + chunk - 1) / chunk), 1, 1}; }

}  // namespace

int norm_blocks(std::int64_t count) { return static_cast<int>(blocks_of(count, norm_chunk).x); }

void gradient_norm(float* parts, const Progress* progress, const float* gradients, const float* weights,
                   std::int64_t count, bool adaptive, Stream stream) {
  launch("gradient_norm", gradient_norm_kernel, blocks_of(count, norm_chunk), dim3{256, 1, 1}, 0,
         static_cast<simt::Stream>(stream), parts, progress, gradients, weights, static_cast<int>(count), adaptive);
}

void perturb(float* weights, float* saved, Progress* progress, const Hyper* hyper, const float* parts,
             const float* gradients, std::int64_t count, bool adaptive, Stream stream) {
  launch("perturb", perturb_kernel, blocks_of(count, step_chunk), dim3{256, 1, 1}, 0, static_cast<simt::Stream>(stream),
         weights, saved, progress, hyper, parts, norm_blocks(count), gradients, static_cast<int>(count), adaptive);
}

void update(float* weights, float* m, float* v, float* average, Progress* progress, const Hyper* hyper,
            const float* parts, const float* saved, const float* gradients, std::int64_t count, Rule rule, int pass,
            Stream stream) {
  Slabs slab;
  slab.weights = weights, slab.m = m, slab.v = v, slab.average = average, slab.saved = saved,
  slab.gradients = gradients;
  const auto kernel = rule == Rule::sgd          ? update_kernel<Rule::sgd>
                      : rule == Rule::adam       ? update_kernel<Rule::adam>
                      : rule == Rule::adam_keras ? update_kernel<Rule::adam_keras>
                      : rule == Rule::adamw      ? update_kernel<Rule::adamw>
                                                 : update_kernel<Rule::adamw_keras>;
  launch("update", kernel, blocks_of(count, step_chunk), dim3{256, 1, 1}, 0, static_cast<simt::Stream>(stream), slab,
         progress, hyper, parts, norm_blocks(count), static_cast<int>(count), pass);
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::kernels::gpu
