// ProbSparse attention's picks and contexts on the GPU; kernels/prob_sparse.h has the formulas. A warp has a query's
// measure, a block the picks of a head; a thread has an element of what is selected, or a column of the context.
#include "kernels/cuda/blocks.h"
#include "kernels/prob_sparse.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Draw {
  std::uint64_t seed;
  std::int64_t step;
  int site;
  const Progress* progress;
};

SIMT_DEVICE float warp_most(float v) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) v = fmaxf(v, __shfl_xor_sync(all_lanes, v, step));
  return v;
}

__global__ void __launch_bounds__(256, 4)
    measure_kernel(Out<float> measure, In<float> q, In<float> k, ProbSparseShape a, Draw draw) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * 8 + (threadIdx.x >> 5);
  if (row >= a.N * a.heads * a.queries) return;  // the whole warp
  const std::int64_t block = row / a.queries, t = row % a.queries, n = block / a.heads;
  const std::int64_t column = block % a.heads * a.width, ld = a.columns();
  const std::int64_t step = draw.progress ? draw.progress->step : draw.step;
  const In<float> query = q + ((n * a.queries + t) * ld + column);
  float most = -3e38f, total = 0;
  for (std::int64_t j = threadIdx.x & 31; j < a.sampled; j += 32) {
    const std::int64_t key = sampled_key(draw.seed, step, draw.site, t * a.sampled + j, a.keys);
    const In<float> other = k + ((n * a.keys + key) * ld + column);
    float score = 0;
    for (std::int64_t c = 0; c < a.width; ++c) score += query[c] * other[c];
    most = fmaxf(most, score);
    total += score;
  }
  most = warp_most(most);
  total = warp_sum(total);
  if ((threadIdx.x & 31) == 0) measure[row] = most - total / static_cast<float>(a.keys);
}

__global__ void __launch_bounds__(256, 4)
    pick_kernel(Out<std::int32_t> picked, Out<std::int32_t> place, In<float> measure, ProbSparseShape a) {
  const std::int64_t block = blockIdx.x;
  const int queries = static_cast<int>(a.queries), active = static_cast<int>(a.active);
  const In<float> own = measure + block * queries;
  const Out<std::int32_t> to = picked + block * active, at = place + block * queries;
  for (int t = static_cast<int>(threadIdx.x); t < queries; t += 256) {
    const float mine = own[t];
    int before = 0;
    for (int other = 0; other < queries; ++other) {
      const float theirs = own[other];
      before += theirs > mine || (theirs == mine && other < t);
    }
    at[t] = before < active;  // whether it is picked; a NaN is before all
  }
  __syncthreads();
  for (int t = static_cast<int>(threadIdx.x); t < queries; t += 256) {
    if (at[t] == 0) continue;
    int found = 0;
    for (int other = 0; other < t; ++other) found += at[other];
    if (found < active) to[found] = t;
  }
  __syncthreads();
  for (int t = static_cast<int>(threadIdx.x); t < queries; t += 256) at[t] = -1;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < active; i += 256) at[to[i]] = i;
}

__global__ void __launch_bounds__(256, 4)
    select_kernel(Out<float> y, In<float> x, In<std::int32_t> picked, std::int64_t elements, ProbSparseShape a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t r = i / a.columns(), c = i % a.columns(), n = r / a.active;
  const std::int64_t t = picked[(n * a.heads + c / a.width) * a.active + r % a.active];
  y[i] = x[(n * a.queries + t) * a.columns() + c];
}

__global__ void __launch_bounds__(256, 4)
    select_backward_kernel(Out<float> dx, In<float> dy, In<std::int32_t> place, std::int64_t ld, bool adds,
                           std::int64_t elements, ProbSparseShape a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= elements) return;
  const std::int64_t r = i / a.columns(), c = i % a.columns(), n = r / a.queries;
  const std::int64_t at = place[(n * a.heads + c / a.width) * a.queries + r % a.queries];
  const float g = at < 0 ? 0.0f : static_cast<float>(dy[(n * a.active + at) * a.columns() + c]);
  const Out<float> to = dx + (r * ld + c);
  *to = adds ? *to + g : g;
}

__global__ void __launch_bounds__(256, 4)
    context_kernel(Out<float> y, In<float> attended, In<float> v, In<std::int32_t> place, ProbSparseShape a,
                   bool cumulative, bool heads_first) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.N * a.columns()) return;
  const std::int64_t n = i / a.columns(), c = i % a.columns();
  float total = 0;
  for (std::int64_t s = 0; !cumulative && s < a.keys; ++s) total += v[(n * a.keys + s) * a.columns() + c];
  if (!cumulative) total = total / static_cast<float>(a.keys);
  for (std::int64_t t = 0; t < a.queries; ++t) {
    if (cumulative) total += v[(n * a.keys + t) * a.columns() + c];
    const std::int64_t at = place[(n * a.heads + c / a.width) * a.queries + t];
    y[context_element(a, n, t, c, heads_first)] =
        at < 0 ? total : static_cast<float>(attended[(n * a.active + at) * a.columns() + c]);
  }
}

struct ContextSinks {
  Out<float> attended, v;  // null: not wanted
  std::int64_t ld_attended, ld_v;
  bool add_attended, add_v;
};

__global__ void __launch_bounds__(256, 4)
    context_backward_kernel(ContextSinks to, In<float> dy, In<std::int32_t> picked, In<std::int32_t> place,
                            ProbSparseShape a, bool cumulative, bool heads_first) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.N * a.columns()) return;
  const std::int64_t n = i / a.columns(), c = i % a.columns(), head = n * a.heads + c / a.width;
  for (std::int64_t at = 0; to.attended && at < a.active; ++at) {
    const float g = dy[context_element(a, n, picked[head * a.active + at], c, heads_first)];
    const Out<float> there = to.attended + ((n * a.active + at) * to.ld_attended + c);
    *there = to.add_attended ? *there + g : g;
  }
  if (!to.v) return;
  float total = 0;
  for (std::int64_t t = a.queries - 1; t >= 0; --t) {
    if (place[head * a.queries + t] < 0) total += dy[context_element(a, n, t, c, heads_first)];
    if (!cumulative) continue;
    const Out<float> there = to.v + ((n * a.keys + t) * to.ld_v + c);
    *there = to.add_v ? *there + total : total;
  }
  if (cumulative) return;
  total = total / static_cast<float>(a.keys);
  for (std::int64_t s = 0; s < a.keys; ++s) {
    const Out<float> there = to.v + ((n * a.keys + s) * to.ld_v + c);
    *there = to.add_v ? *there + total : total;
  }
}

}  // namespace

void pick_queries(const Cuda& on, std::int32_t* picked, std::int32_t* place, float* measure, const float* q,
                  const float* k, const ProbSparseShape& a, const KeySampling& s) {
  launch(on, "measure_queries", measure_kernel, grid_of(a.N * a.heads * a.queries, 8), measure, q, k, a,
         Draw{s.seed, s.step, s.site, s.progress});
  launch(on, "pick_queries", pick_kernel, grid_of(a.N * a.heads, 1), picked, place, measure, a);
}
void select_queries(const Cuda& on, float* y, const float* x, const std::int32_t* picked, const ProbSparseShape& a) {
  const std::int64_t elements = a.N * a.active * a.columns();
  launch(on, "select_queries", select_kernel, grid_of(elements, 256), y, x, picked, elements, a);
}
void select_queries_backward(const Cuda& on, Sink<float> dx, const float* dy, const std::int32_t* place,
                             const ProbSparseShape& a) {
  const std::int64_t elements = a.N * a.queries * a.columns();
  launch(on, "select_queries_backward", select_backward_kernel, grid_of(elements, 256), dx.data, dy, place, dx.ld,
         dx.add, elements, a);
}
void sparse_context(const Cuda& on, float* y, const float* attended, const float* v, const std::int32_t* place,
                    const ProbSparseShape& a, bool cumulative, bool heads_first) {
  launch(on, "sparse_context", context_kernel, grid_of(a.N * a.columns(), 256), y, attended, v, place, a, cumulative,
         heads_first);
}
void sparse_context_backward(const Cuda& on, Sink<float> dattended, Sink<float> dv, const float* dy,
                             const std::int32_t* picked, const std::int32_t* place, const ProbSparseShape& a,
                             bool cumulative, bool heads_first) {
  const ContextSinks to{dattended.data, dv.data, dattended.ld, dv.ld, dattended.add, dv.add};
  launch(on, "sparse_context_backward", context_backward_kernel, grid_of(a.N * a.columns(), 256), to, dy, picked, place,
         a, cumulative, heads_first);
}

}  // namespace samformer::kernels
