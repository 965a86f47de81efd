// Building blocks of the GPU kernels: guarded vector accesses, sums over a warp and a block, fast exponentials.
// A guarded access touches only the first `valid` of its elements, as one vector where the address allows it.
// Every reduction has a fixed order, so that two runs agree bit for bit.
#pragma once

#include <type_traits>

#include "kernels/device.h"
#include "kernels/simt/simt.h"

namespace samformer::kernels::simt {

constexpr unsigned all_lanes = 0xffffffffu;

template <int E>
SIMT_DEVICE void load_slice(float (&v)[E], Pointer<const float> p, int valid) {
  if constexpr (E == 4) {
    if (valid >= 4 && aligned(p, 16)) {
      const float4 x = load4(p);
      v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
      return;
    }
  } else if constexpr (E == 2) {
    if (valid >= 2 && aligned(p, 8)) {
      const float2 x = load2(p);
      v[0] = x.x, v[1] = x.y;
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < E; ++i) v[i] = i < valid ? static_cast<float>(p[i]) : 0.0f;
}

template <int E>
SIMT_DEVICE void store_slice(Pointer<float> p, const float (&v)[E], int valid) {
  if constexpr (E == 4) {
    if (valid >= 4 && aligned(p, 16)) return store4(p, make_float4(v[0], v[1], v[2], v[3]));
  } else if constexpr (E == 2) {
    if (valid >= 2 && aligned(p, 8)) return store2(p, make_float2(v[0], v[1]));
  }
#pragma unroll
  for (int i = 0; i < E; ++i)
    if (i < valid) p[i] = v[i];
}

template <class T>
SIMT_DEVICE T warp_sum(T v) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(all_lanes, v, step);
  return v;
}

// The sum over a block of 256 threads, in every thread. `scratch`: 8 numbers; free again on return. The last eight are
// added across lanes: reading them one after another would be eight accesses that a warp repeats 32 times.
template <class T>
SIMT_DEVICE T block_sum(T v, Pointer<std::common_type_t<T>> scratch) {
  v = warp_sum(v);
  if ((threadIdx.x & 31u) == 0) scratch[threadIdx.x >> 5] = v;
  __syncthreads();
  v = scratch[threadIdx.x & 7u];
  __syncthreads();
#pragma unroll
  for (int step = 4; step > 0; step >>= 1) v += __shfl_xor_sync(all_lanes, v, step);
  return v;
}

// The smallest over a block of 256 threads, in every thread; as block_sum.
SIMT_DEVICE int block_min(int v, Pointer<int> scratch) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) {
    const int other = __shfl_xor_sync(all_lanes, v, step);
    v = other < v ? other : v;
  }
  if ((threadIdx.x & 31u) == 0) scratch[threadIdx.x >> 5] = v;
  __syncthreads();
  v = scratch[threadIdx.x & 7u];
  __syncthreads();
#pragma unroll
  for (int step = 4; step > 0; step >>= 1) {
    const int other = __shfl_xor_sync(all_lanes, v, step);
    v = other < v ? other : v;
  }
  return v;
}

// A block of 256 threads as 32 rows of 8 columns, thread t at row t / 8, column t % 8: sums v[k] over the rows.
// Thread 8 k + c returns the sum of v[k] in column c. `scratch`: 64 K floats; free again on return.
template <int K>
SIMT_DEVICE float column_sums(float (&v)[K], Pointer<float> scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    v[k] += __shfl_xor_sync(all_lanes, v[k], 8);
    v[k] += __shfl_xor_sync(all_lanes, v[k], 16);
  }
  // Four of them are stored at a time, each by eight lanes.
#pragma unroll
  for (int k = 0; k < K; k += 4) {
    const int own = k + (lane >> 3);
    float stored = v[k];
#pragma unroll
    for (int i = k + 1; i < K && i < k + 4; ++i) stored = own == i ? v[i] : stored;
    if (own < K) scratch[warp * K * 8 + own * 8 + (lane & 7)] = stored;
  }
  __syncthreads();
  float total = 0;
  if (threadIdx.x < 8 * K) {
#pragma unroll
    for (int i = 0; i < 8; ++i) total += scratch[i * 8 * K + threadIdx.x];
  }
  __syncthreads();
  return total;
}

// 2^x, to 2 ulp; x = -inf gives 0.
SIMT_DEVICE float power_of_two(float x) {
#ifdef __CUDACC__
  return exp2f(x);
#else
  return std::exp2(x);
#endif
}

// A grid of so many blocks for `count` items, `size` a block.
inline dim3 grid_of(std::int64_t count, std::int64_t size) {
  return {static_cast<unsigned>((count + size - 1) / size), 1, 1};
}

// Of 256 threads a block, without dynamic shared memory.
template <class... P, class... A>
void launch(const Cuda& on, const char* name, void (*kernel)(P...), dim3 blocks, A... arguments) {
  launch(name, kernel, blocks, dim3{256, 1, 1}, 0, static_cast<Stream>(on.stream), arguments...);
}

SIMT_DEVICE bool finite(float x) { return x - x == 0.0f; }

}  // namespace samformer::kernels::simt
