// One source for nvcc and for the host compiler: what a .cu file of this folder may use.
//
// Under nvcc the names below are thin aliases of CUDA. Under a host compiler they are a SIMT emulator: threads are
// fibers, blocks run one after another, warps in forward, reverse or seeded random order. Its pointers know their
// buffer and check every access; a kernel that is wrong throws simt::Fault, which names kernel, block, thread and what:
//   out of bounds or misaligned; read of unset memory; race (two threads of a block, or two blocks of a launch,
//   without a barrier between them; lanes of a warp need __syncwarp); divergent barrier or warp operation.
// Kernels take In<T> and Out<T> for arrays, raw pointers only for small records; static shared memory is
// SIMT_SHARED(type, name, count), dynamic SIMT_DYNAMIC_SHARED(name) (floats). Warp operations are full-warp.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define SIMT_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define SIMT_DYNAMIC_SHARED(name)                 \
  extern __shared__ float4 simt_dynamic_shared[]; \
  float* name = reinterpret_cast<float*>(simt_dynamic_shared)
#define SIMT_DEVICE __device__ __forceinline__
#define SIMT_PARAMETER __grid_constant__  // of a kernel, const: arrays in it are indexed where they lie

namespace samformer::kernels::simt {

template <class T>
using In = const T* __restrict__;
template <class T>
using Out = T* __restrict__;
template <class T>
using Pointer = T*;
using Stream = cudaStream_t;

SIMT_DEVICE float2 load2(const float* p) { return *reinterpret_cast<const float2*>(p); }
SIMT_DEVICE float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
SIMT_DEVICE void store2(float* p, float2 v) { *reinterpret_cast<float2*>(p) = v; }
// To global memory, and to shared memory, in one piece: nvcc 13 may split the plain assignment into four scalar stores,
// of which each touches every sector, or collides in the banks.
SIMT_DEVICE void store4(float* p, float4 v) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "f"(v.x), "f"(v.y),
               "f"(v.z), "f"(v.w)
               : "memory");
}
SIMT_DEVICE void store4_shared(float* p, float4 v) {
  asm volatile(
      "st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(p))),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
      : "memory");
}
// cos and sin of pi x: without the reduction of large arguments, which needs local memory.
SIMT_DEVICE double cos_pi(double x) { return cospi(x); }
SIMT_DEVICE double sin_pi(double x) { return sinpi(x); }
SIMT_DEVICE bool aligned(const float* p, int bytes) { return (reinterpret_cast<std::uintptr_t>(p) & (bytes - 1)) == 0; }

// One TF32 tensor-core product: d[16x8] += a[16x8] b[8x8], fragments as in PTX mma.m16n8k8.
SIMT_DEVICE void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
SIMT_DEVICE std::uint32_t round_tf32(float x) {
  std::uint32_t bits = 0;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
#endif
  return bits;
}

}  // namespace samformer::kernels::simt

#else  // the emulator

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SIMT_SHARED(type, name, count)    \
  static const char simt_site_##name = 0; \
  const auto name = ::samformer::kernels::simt::static_shared<type>(&simt_site_##name, count)
#define SIMT_DYNAMIC_SHARED(name) const auto name = ::samformer::kernels::simt::dynamic_shared()
#define SIMT_DEVICE inline
#define SIMT_PARAMETER

namespace samformer::kernels::simt {

inline double cos_pi(double x) { return std::cos(3.14159265358979323846 * x); }
inline double sin_pi(double x) { return std::sin(3.14159265358979323846 * x); }

class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// std::source_location, which clang 14 does not have.
struct SourcePlace {
  const char* file = "";
  int line = 0;
  static constexpr SourcePlace current(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

enum class Order { forward, reverse, shuffled };

struct Options {
  Order order = Order::forward;
  std::uint64_t seed = 1;
};
Options& options();  // of the calling thread

// Who touched a 4-byte word last. Epochs count barriers of the whole process, so nothing is cleared between blocks.
struct Word {
  std::uint64_t write_launch = 0, write_epoch = 0, read_launch = 0, read_epoch = 0;
  std::uint32_t write_warp_epoch = 0, read_warp_epoch = 0;
  std::int32_t writer = -1, reader = -1;  // thread in its block
  std::int32_t write_block = -1, read_block = -1;
  bool read_by_lanes = false, read_by_warps = false, read_by_blocks = false;
  bool set = false;
};

// A registered stretch of memory; buffers on the emulated device and shared arrays are regions.
struct Region {
  Region(std::string name, std::size_t bytes, bool shared);
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();
  std::byte* begin() const { return reinterpret_cast<std::byte*>(memory.get()); }

  std::string name;
  std::size_t bytes;
  bool shared;
  std::unique_ptr<float[]> memory;
  std::vector<Word> words;
};
Region* find_region(const void* address);                   // null where nothing is registered
void mark_set(void* address, std::size_t bytes, bool set);  // after a copy from the host

[[noreturn]] void fault(const std::string& what);
void check_access(Region* region, const void* address, std::size_t bytes, std::size_t alignment, bool write);

template <class T>
class Reference {
 public:
  Reference(T* address, Region* region) : address_(address), region_(region) {}
  Reference(const Reference&) = default;
  operator std::remove_const_t<T>() const {
    check_access(region_, address_, sizeof(T), alignof(T), false);
    return *address_;
  }
  const Reference& operator=(const std::remove_const_t<T>& value) const {
    check_access(region_, address_, sizeof(T), alignof(T), true);
    *address_ = value;
    return *this;
  }
  const Reference& operator=(const Reference& other) const { return *this = std::remove_const_t<T>(other); }
  const Reference& operator+=(const std::remove_const_t<T>& value) const {
    return *this = std::remove_const_t<T>(*this) + value;
  }

 private:
  T* address_;
  Region* region_;
};

template <class T>
class Pointer {
 public:
  Pointer(std::nullptr_t = nullptr) {}
  Pointer(T* address) : address_(address), region_(address ? find_region(address) : nullptr) {
    if (address && !region_) fault("a pointer argument that is in no device buffer");
  }
  Pointer(T* address, Region* region) : address_(address), region_(region) {}
  template <class U>
  requires std::is_same_v<const U, T> Pointer(const Pointer<U>& other)
      : address_(other.raw()), region_(other.region()) {}
  Reference<T> operator[](std::int64_t i) const { return {moved(i), region_}; }
  Reference<T> operator*() const { return {address_, region_}; }
  Pointer operator+(std::int64_t i) const { return {moved(i), region_}; }
  explicit operator bool() const { return address_ != nullptr; }
  T* raw() const { return address_; }
  Region* region() const { return region_; }

 private:
  // In integers: a kernel may form an address outside its buffer as long as it does not touch it.
  T* moved(std::int64_t i) const {
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(address_) +
                                static_cast<std::uintptr_t>(i) * sizeof(T));
  }
  T* address_ = nullptr;
  Region* region_ = nullptr;
};

template <class T>
using In = Pointer<const T>;
template <class T>
using Out = Pointer<T>;

// A stream: work is done at once, or, while it is captured, kept.
struct Recorder {
  bool capturing = false;
  std::vector<std::function<void()>> work;
};
using Stream = Recorder*;
void submit(Stream stream, std::function<void()> work);
// A host function's access to `count` floats on the device: reads must be of set memory, writes set it.
void touch_row(const float* row, std::size_t count, bool write);

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct Place {
  Dim3 thread, block, threads, blocks;
};
Place& place();  // of the fiber that runs

struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class V>
V load_vector(Pointer<const float> p) {
  check_access(p.region(), p.raw(), sizeof(V), sizeof(V), false);
  V v;
  std::memcpy(&v, p.raw(), sizeof(V));
  return v;
}
template <class V>
void store_vector(Pointer<float> p, V v) {
  check_access(p.region(), p.raw(), sizeof(V), sizeof(V), true);
  std::memcpy(p.raw(), &v, sizeof(V));
}
inline float2 load2(Pointer<const float> p) { return load_vector<float2>(p); }
inline float4 load4(Pointer<const float> p) { return load_vector<float4>(p); }
inline void store2(Pointer<float> p, float2 v) { store_vector(p, v); }
inline void store4(Pointer<float> p, float4 v) { store_vector(p, v); }
inline void store4_shared(Pointer<float> p, float4 v) { store_vector(p, v); }
inline bool aligned(Pointer<const float> p, int bytes) {
  return (reinterpret_cast<std::uintptr_t>(p.raw()) & static_cast<std::uintptr_t>(bytes - 1)) == 0;
}

Region* shared_region(const void* site, std::size_t bytes);  // this block's array of that declaration
template <class T>
Pointer<T> static_shared(const void* site, std::size_t count) {
  Region* region = shared_region(site, count * sizeof(T));
  return {reinterpret_cast<T*>(region->begin()), region};
}
Pointer<float> dynamic_shared();

void block_barrier(const SourcePlace& where);
void warp_barrier(const SourcePlace& where);
// Every lane hands in 64 bytes and gets the 32 of its warp; valid until the lane's next warp operation.
struct LaneData {
  float value[16];
};
const LaneData* lane_exchange(const LaneData& mine, const SourcePlace& where);

template <class T>
T shuffle(T value, int source, const SourcePlace& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  LaneData data{};
  std::memcpy(data.value, &value, sizeof(T));
  const LaneData* all = lane_exchange(data, where);
  std::memcpy(&value, all[source & 31].value, sizeof(T));
  return value;
}
void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const SourcePlace& where = SourcePlace::current());
// To nearest, ties away from zero, ten bits of mantissa (cvt.rna.tf32.f32).
inline std::uint32_t round_tf32(float x) { return (std::bit_cast<std::uint32_t>(x) + 0x1000u) & ~0x1fffu; }

void run(const char* kernel, Dim3 blocks, Dim3 threads, std::size_t shared_bytes, const std::function<void()>& thread);

}  // namespace samformer::kernels::simt

using samformer::kernels::simt::float2;
using samformer::kernels::simt::float4;
using samformer::kernels::simt::make_float2;
using samformer::kernels::simt::make_float4;
using dim3 = samformer::kernels::simt::Dim3;

#define threadIdx (::samformer::kernels::simt::place().thread)
#define blockIdx (::samformer::kernels::simt::place().block)
#define blockDim (::samformer::kernels::simt::place().threads)
#define gridDim (::samformer::kernels::simt::place().blocks)

inline void __syncthreads(
    const samformer::kernels::simt::SourcePlace& where = samformer::kernels::simt::SourcePlace::current()) {
  samformer::kernels::simt::block_barrier(where);
}
inline void __syncwarp(
    const samformer::kernels::simt::SourcePlace& where = samformer::kernels::simt::SourcePlace::current()) {
  samformer::kernels::simt::warp_barrier(where);
}
template <class T>
T __shfl_sync(unsigned, T value, int source,
              const samformer::kernels::simt::SourcePlace& where = samformer::kernels::simt::SourcePlace::current()) {
  return samformer::kernels::simt::shuffle(value, source, where);
}
template <class T>
T __shfl_xor_sync(
    unsigned, T value, int mask,
    const samformer::kernels::simt::SourcePlace& where = samformer::kernels::simt::SourcePlace::current()) {
  return samformer::kernels::simt::shuffle(value, static_cast<int>(threadIdx.x & 31u) ^ mask, where);
}
inline unsigned __ballot_sync(
    unsigned, bool yes,
    const samformer::kernels::simt::SourcePlace& where = samformer::kernels::simt::SourcePlace::current()) {
  samformer::kernels::simt::LaneData data{};
  data.value[0] = yes ? 1.0f : 0.0f;
  const samformer::kernels::simt::LaneData* all = samformer::kernels::simt::lane_exchange(data, where);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= all[lane].value[0] != 0.0f ? 1u << lane : 0u;
  return bits;
}
inline bool __any_sync(
    unsigned mask, bool yes,
    const samformer::kernels::simt::SourcePlace& where = samformer::kernels::simt::SourcePlace::current()) {
  return __ballot_sync(mask, yes, where) != 0;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

#endif

namespace samformer::kernels::simt {

// Thrown by launch() and the device calls of kernels/device.h where CUDA reports an error.
// The message names the call, the kernel and its launch shape.
// `shared_limit`: bytes of shared memory that a block may ask for.
#ifdef __CUDACC__
int shared_limit();
void check_launch(const char* kernel, const void* function, dim3 blocks, dim3 threads, std::size_t shared_bytes);
void allow_shared(const char* kernel, const void* function, std::size_t shared_bytes);

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 blocks, dim3 threads, std::size_t shared_bytes, Stream stream,
            A... arguments) {
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 * 1024) allow_shared(name, function, shared_bytes);
  kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...);
  check_launch(name, function, blocks, threads, shared_bytes);
}
#else
int shared_limit();
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), Dim3 blocks, Dim3 threads, std::size_t shared_bytes, Stream stream,
            A... arguments) {
  const std::tuple<P...> bound(arguments...);
  submit(stream, [=] { run(name, blocks, threads, shared_bytes, [&] { std::apply(kernel, bound); }); });
}
#endif

}  // namespace samformer::kernels::simt
