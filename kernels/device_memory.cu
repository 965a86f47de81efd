// Device memory and launch checks, on a GPU and on the emulator; kernels/gpu.h declares them.
#include "kernels/gpu.h"
#include "kernels/gpu_ops.h"

#include <cstdio>
#include <cstring>
#include <string>

namespace samformer::kernels {

#ifdef __CUDACC__
namespace {
std::string described(const char* kernel, dim3 blocks, dim3 threads, std::size_t shared_bytes) {
  char text[160];
  std::snprintf(text, sizeof(text), "%s <<<(%u,%u,%u), %u, %zu bytes>>>", kernel, blocks.x, blocks.y, blocks.z,
                threads.x, shared_bytes);
  return text;
}
void check(cudaError_t status, const std::string& call) {
  if (status != cudaSuccess) throw gpu::cuda::GpuError(call + ": " + cudaGetErrorString(status));
}
}  // namespace

namespace simt {
inline namespace device {
void check_launch(const char* kernel, const void*, dim3 blocks, dim3 threads, std::size_t shared_bytes) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) check(status, described(kernel, blocks, threads, shared_bytes));
}
void allow_shared(const char* kernel, const void* function, std::size_t shared_bytes) {
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
        std::string(kernel) + ": " + std::to_string(shared_bytes) + " bytes of shared memory");
}
int shared_limit() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute");
  return bytes;
}
}  // namespace device
}  // namespace simt

namespace gpu {
inline namespace cuda {
void* device_allocate(std::size_t bytes, const char* name) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status != cudaSuccess) {
    std::size_t free_bytes = 0, total = 0;
    const bool known = cudaMemGetInfo(&free_bytes, &total) == cudaSuccess;
    check(status,
          std::string("cudaMalloc of ") + std::to_string(bytes) + " bytes for " + name +
              (known ? " (" + std::to_string(free_bytes) + " of " + std::to_string(total) + " bytes free)" : ""));
  }
  return memory;
}
void device_free(void* memory) { cudaFree(memory); }
void upload(void* device, const void* host, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream)), "upload");
}
void download(void* host, const void* device, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)), "download");
}
void device_zero(void* device, std::size_t bytes, Stream stream) {
  check(cudaMemsetAsync(device, 0, bytes, static_cast<cudaStream_t>(stream)), "cudaMemsetAsync");
}
void synchronise(Stream stream) {
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize");
}
}  // namespace cuda
}  // namespace gpu

#else

namespace gpu {
inline namespace emulated {
void* device_allocate(std::size_t bytes, const char* name) {
  return std::make_unique<simt::Region>(name, bytes, false).release()->begin();
}
void device_free(void* memory) {
  if (memory != nullptr) std::unique_ptr<simt::Region>(simt::find_region(memory));
}
void upload(void* device, const void* host, std::size_t bytes, Stream) {
  simt::mark_set(device, bytes, true);
  std::memcpy(device, host, bytes);
}
void download(void* host, const void* device, std::size_t bytes, Stream) { std::memcpy(host, device, bytes); }
void device_zero(void* device, std::size_t bytes, Stream) {
  simt::mark_set(device, bytes, true);
  std::memset(device, 0, bytes);
}
void synchronise(Stream) {}
}  // namespace emulated
}  // namespace gpu

#endif

}  // namespace samformer::kernels
