// SAM's ascent and the optimisers on the GPU, each one pass over the parameter slab; kernels/update.h has the contract.
//
// The norm's second stage is inside perturb and update: every block adds up the same partial sums in the same order, so
// all blocks agree on the norm, and on whether the step happens, without a barrier between them.
#include "kernels/cuda/blocks.h"
#include "kernels/update.h"

namespace samformer::kernels {
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

struct PassSums {
  int parts, windows, pass;
  bool last;
};

// The pass's loss, and what the update that follows will divide by.
SIMT_DEVICE void add_loss(Progress* progress, const DeviceHyper* hyper, In<float> loss, PassSums of,
                          Pointer<float> scratch) {
  float squared = 0, absolute = 0;
  for (int i = threadIdx.x; i < of.parts; i += 256) {
    const float2 part = load2(loss + 2 * i);
    squared += part.x;
    absolute += part.y;
  }
  squared = block_sum(squared, scratch);
  absolute = block_sum(absolute, scratch);
  if (threadIdx.x != 0) return;
  progress->squared_error[of.pass] += static_cast<double>(squared) * of.windows;
  progress->absolute_error[of.pass] += static_cast<double>(absolute) * of.windows;
  if (!of.last) return;
  const std::int64_t step = progress->step + 1;
  progress->correction1 = static_cast<float>(-expm1(static_cast<double>(step) * hyper->log_beta1));
  progress->correction2 = static_cast<float>(-expm1(static_cast<double>(step) * hyper->log_beta2));
  const float t = static_cast<float>(step);
  progress->ema_decay = fminf(hyper->ema, t / (9.0f + t));
}

// A block more than the gradients need has the loss.
__global__ void __launch_bounds__(256)
    gradient_norm_kernel(Out<float> parts, Progress* progress, const DeviceHyper* hyper, In<float> gradients,
                         In<float> weights, In<float> loss, int count, bool adaptive, PassSums pass) {
  SIMT_SHARED(float, scratch, 8);
  SIMT_SHARED(int, first_bad, 8);
  if (blockIdx.x == gridDim.x - 1) return add_loss(progress, hyper, loss, pass, scratch);
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
  progress->bad_step = progress->step + 1;
  progress->bad_element = element;
}

__global__ void __launch_bounds__(256)
    perturb_kernel(Out<float> weights, Out<float> saved, Progress* progress, const DeviceHyper* hyper, In<float> parts,
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

__global__ void __launch_bounds__(256)
    update_kernel(Slabs slab, Progress* progress, const DeviceHyper* hyper, In<float> parts, int part_count, int count,
                  Rule rule, bool keras, int pass) {
  SIMT_SHARED(float, scratch, 8);
  SIMT_SHARED(int, bad_scratch, 8);
  int bad = -1;
  const bool steps = finite(total_norm(bad, parts, part_count, scratch, bad_scratch));
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    if (!steps) record(progress, pass, bad);
    ++progress->batch;
    ++progress->step;
  }
  const int i = static_cast<int>(blockIdx.x) * step_chunk + 4 * static_cast<int>(threadIdx.x), left = count - i;
  if (left <= 0) return;
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
  load_slice<4>(m, slab.m + i, left);
  const float lr = hyper->lr, decay = hyper->weight_decay;
  const float correction1 = progress->correction1, root2 = sqrtf(progress->correction2);
  UpdateFactors<float> f;
  f.lr = lr, f.momentum = hyper->momentum, f.epsilon = hyper->epsilon;
  f.rate = keras ? lr * root2 / correction1 : lr / correction1, f.root = keras ? 1.0f : 1.0f / root2;
  f.b1 = hyper->beta1, f.c1 = 1.0f - f.b1, f.b2 = hyper->beta2, f.c2 = 1.0f - f.b2;
  f.coupled = rule == Rule::adamw ? 0.0f : decay, f.shrink = rule == Rule::adamw ? 1.0f - lr * decay : 1.0f;
  if (rule == Rule::sgd) {
#pragma unroll
    for (int k = 0; k < 4; ++k) sgd_element(w[k], m[k], g[k], f);
  } else {
    load_slice<4>(v, slab.v + i, left);
#pragma unroll
    for (int k = 0; k < 4; ++k) adam_element(w[k], m[k], v[k], g[k], f);
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

int norm_blocks(std::int64_t n) { return static_cast<int>(grid_of(n, norm_chunk).x); }

}  // namespace

// A part is two floats.
std::int64_t norm_parts(const Cuda&, std::int64_t n) { return norm_blocks(n); }

void gradient_norm(const Cuda& on, double* parts, Progress* progress, const DeviceHyper* hyper,
                   const UpdateSlabs<float>& slabs, bool adaptive, const PassLoss<float>& loss) {
  const PassSums sums{static_cast<int>(loss.parts / 2), static_cast<int>(loss.windows), loss.pass, loss.last};
  launch(on, "gradient_norm", gradient_norm_kernel, grid_of(norm_blocks(slabs.n) + 1, 1),
         reinterpret_cast<float*>(parts), progress, hyper, slabs.gradient, slabs.weights, loss.loss,
         static_cast<int>(slabs.n), adaptive, sums);
}

void perturb(const Cuda& on, const UpdateSlabs<float>& slabs, Progress* progress, const DeviceHyper* hyper,
             const double* parts, bool adaptive) {
  launch(on, "perturb", perturb_kernel, grid_of(slabs.n, step_chunk), slabs.weights, slabs.saved, progress, hyper,
         reinterpret_cast<const float*>(parts), norm_blocks(slabs.n), slabs.gradient, static_cast<int>(slabs.n),
         adaptive);
}

void update(const Cuda& on, const UpdateSlabs<float>& slabs, Progress* progress, const DeviceHyper* hyper,
            const double* parts, const UpdateRule& rule, int passes) {
  Slabs slab;
  slab.weights = slabs.weights, slab.m = slabs.m, slab.v = slabs.v, slab.average = slabs.average;
  slab.saved = slabs.saved, slab.gradients = slabs.gradient;
  launch(on, "update", update_kernel, grid_of(slabs.n, step_chunk), slab, progress, hyper,
         reinterpret_cast<const float*>(parts), norm_blocks(slabs.n), static_cast<int>(slabs.n), rule.rule,
         rule.form == AdamForm::keras, passes);
}

}  // namespace samformer::kernels
