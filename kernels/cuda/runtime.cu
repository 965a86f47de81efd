// Devices, memory, streams, graphs and products, on a GPU and on the emulator; kernels/device.h declares them.
//
// cuBLAS is opened when the first product is prepared, not linked: linking it alone costs a program 150 MiB and half a
// second of every start, on machines without a GPU too.
#include "kernels/cuda/blocks.h"
#include "kernels/device.h"

#include <cstdio>
#include <cstring>
#include <string>

#ifdef __CUDACC__
#include <cublas_v2.h>
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>
#else
#include <algorithm>
#include <chrono>

#include "kernels/gemm.h"
#endif

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
  if (status != cudaSuccess) throw GpuError(call + ": " + cudaGetErrorString(status));
}

// The functions of cuBLAS that we call.
struct CublasLibrary {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetStream_v2) set_stream;
  decltype(&cublasSetWorkspace_v2) set_workspace;
  decltype(&cublasSetMathMode) set_math_mode;
  decltype(&cublasSgemm_v2) sgemm;
  decltype(&cublasSgemmStridedBatched) sgemm_of_samples;
};

template <class F>
bool find(F& function, const char* name) {
  function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

const CublasLibrary& cublas() {
  static const CublasLibrary library = [] {
    CublasLibrary l;
    const std::string versioned = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
    // A library that is already there (preloaded) is taken as it is.
    if (!find(l.create, "cublasCreate_v2") && dlopen(versioned.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      const char* const why = dlerror();
      throw GpuError("cannot open " + versioned + " (cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) +
                     "): " + (why != nullptr ? why : "no reason given"));
    }
    if (!find(l.create, "cublasCreate_v2") || !find(l.destroy, "cublasDestroy_v2") ||
        !find(l.set_stream, "cublasSetStream_v2") || !find(l.set_workspace, "cublasSetWorkspace_v2") ||
        !find(l.set_math_mode, "cublasSetMathMode") || !find(l.sgemm, "cublasSgemm_v2") ||
        !find(l.sgemm_of_samples, "cublasSgemmStridedBatched"))
      throw GpuError(versioned + " lacks a function that samformer calls");
    return l;
  }();
  return library;
}
void check(cublasStatus_t status, const std::string& call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw GpuError(call + ": cuBLAS status " + std::to_string(static_cast<int>(status)));
}

// What a Blas points to.
struct CublasState {
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
};
}  // namespace

namespace simt {
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
}  // namespace simt

std::vector<DeviceInfo> devices(std::string& why_none) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    why_none = status == cudaErrorInsufficientDriver
                   ? "no NVIDIA driver, or one that is too old for CUDA " + std::to_string(CUDART_VERSION / 1000) +
                         "." + std::to_string(CUDART_VERSION / 10 % 100)
                   : std::string(cudaGetErrorString(status));
    return {};
  }
  if (count == 0) why_none = "the driver reports no device";
  std::vector<DeviceInfo> all;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties(" + std::to_string(i) + ")");
    const auto attribute = [&](cudaDeviceAttr which) {
      int value = 0;
      check(cudaDeviceGetAttribute(&value, which, i), "cudaDeviceGetAttribute");
      return static_cast<double>(value);
    };
    // Turing's and the A100's multiprocessors have 64 float32 units, the others 128; clocks are in kHz.
    const int capability = properties.major * 10 + properties.minor;
    const double units = capability <= 80 ? 64 : 128;
    const double flops = 2 * units * attribute(cudaDevAttrMultiProcessorCount) * attribute(cudaDevAttrClockRate) * 1e3;
    const double bytes =
        2 * attribute(cudaDevAttrMemoryClockRate) * 1e3 * attribute(cudaDevAttrGlobalMemoryBusWidth) / 8;
    all.push_back({properties.name, properties.major, properties.minor, properties.totalGlobalMem, flops, bytes});
  }
  return all;
}
void select_device(int index) { check(cudaSetDevice(index), "cudaSetDevice(" + std::to_string(index) + ")"); }

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
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream)),
        "cudaMemcpyAsync of " + std::to_string(bytes) + " bytes to the device");
}
void download(void* host, const void* device, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)),
        "cudaMemcpyAsync of " + std::to_string(bytes) + " bytes from the device");
}
void synchronise(Stream stream) {
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize");
}

Stream stream_create() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}
void stream_destroy(Stream stream) { cudaStreamDestroy(static_cast<cudaStream_t>(stream)); }

Event event_create() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return event;
}
void event_destroy(Event event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
void event_record(Event event, Stream stream) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)), "cudaEventRecord");
}
double event_seconds(Event begin, Event end) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end)),
        "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) * 1e-3;
}

void capture_begin(Stream stream) {
  check(cudaStreamBeginCapture(static_cast<cudaStream_t>(stream), cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture");
}
Graph capture_end(Stream stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(static_cast<cudaStream_t>(stream), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t ready = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  return ready;
}
void graph_destroy(Graph graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }
void graph_launch(Graph graph, Stream stream) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)), "cudaGraphLaunch");
}

Blas blas_create(Stream stream, bool tf32) {
  // What cuBLAS recommends for its newest kernels. A fixed workspace makes captured products valid and results repeat.
  constexpr std::size_t workspace_bytes = std::size_t{32} << 20;
  auto* const blas = new CublasState;
  try {
    check(cublas().create(&blas->handle), "cublasCreate");
    blas->workspace = device_allocate(workspace_bytes, "the workspace of cuBLAS");
    check(cublas().set_stream(blas->handle, static_cast<cudaStream_t>(stream)), "cublasSetStream");
    check(cublas().set_workspace(blas->handle, blas->workspace, workspace_bytes), "cublasSetWorkspace");
    check(cublas().set_math_mode(blas->handle, tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH),
          "cublasSetMathMode");
  } catch (...) {
    blas_destroy(blas);
    throw;
  }
  return blas;
}
void blas_destroy(Blas blas) {
  auto* const state = static_cast<CublasState*>(blas);
  if (state->handle != nullptr) cublas().destroy(state->handle);
  if (state->workspace != nullptr) device_free(state->workspace);
  delete state;
}
void product(const Cuda& on, const Product& p) {
  // Row-major C = A B is column-major C' = B' A'.
  const float one = 1, add = p.accumulate ? 1.0f : 0.0f;
  const cublasHandle_t handle = static_cast<CublasState*>(on.blas)->handle;
  const cublasOperation_t first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const int M = static_cast<int>(p.M), N = static_cast<int>(p.N), K = static_cast<int>(p.K);
  const int lda = static_cast<int>(p.lda), ldb = static_cast<int>(p.ldb), ldc = static_cast<int>(p.ldc);
  const cublasStatus_t status =
      p.samples == 1 ? cublas().sgemm(handle, first, second, N, M, K, &one, p.B, ldb, p.A, lda, &add, p.C, ldc)
                     : cublas().sgemm_of_samples(handle, first, second, N, M, K, &one, p.B, ldb, p.stride_b, p.A, lda,
                                                 p.stride_a, &add, p.C, ldc, p.stride_c, static_cast<int>(p.samples));
  if (status != CUBLAS_STATUS_SUCCESS)
    check(status, "cuBLAS, " + std::to_string(p.samples) + " x [" + std::to_string(p.M) + " x " + std::to_string(p.K) +
                      "] [" + std::to_string(p.K) + " x " + std::to_string(p.N) + "]");
}

void range_begin(const char* name) { nvtxRangePushA(name); }
void range_end() { nvtxRangePop(); }

#else

std::vector<DeviceInfo> devices(std::string&) { return {{"SIMT emulator", 8, 0, std::size_t{1} << 30, 0, 0}}; }
void select_device(int) {}

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
void synchronise(Stream) {}

Stream stream_create() { return new simt::Recorder; }
void stream_destroy(Stream stream) { delete static_cast<simt::Recorder*>(stream); }

using Clock = std::chrono::steady_clock;
Event event_create() { return new Clock::time_point; }
void event_destroy(Event event) { delete static_cast<Clock::time_point*>(event); }
void event_record(Event event, Stream) { *static_cast<Clock::time_point*>(event) = Clock::now(); }
double event_seconds(Event begin, Event end) {
  return std::chrono::duration<double>(*static_cast<Clock::time_point*>(end) - *static_cast<Clock::time_point*>(begin))
      .count();
}

void capture_begin(Stream stream) { static_cast<simt::Recorder*>(stream)->capturing = true; }
Graph capture_end(Stream stream) {
  auto* const recorder = static_cast<simt::Recorder*>(stream);
  recorder->capturing = false;
  return new simt::Recorder(std::exchange(*recorder, {}));
}
void graph_destroy(Graph graph) { delete static_cast<simt::Recorder*>(graph); }
void graph_launch(Graph graph, Stream) {
  for (const auto& work : static_cast<simt::Recorder*>(graph)->work) work();
}

Blas blas_create(Stream stream, bool) { return stream; }
void blas_destroy(Blas) {}
void product(const Cuda& on, const Product& p) {
  simt::submit(static_cast<simt::Recorder*>(on.stream), [p] {
    const auto touch = [](const float* x, std::int64_t rows, std::int64_t columns, std::int64_t ld, bool write) {
      for (std::int64_t r = 0; r < rows; ++r) simt::touch_row(x + r * ld, static_cast<std::size_t>(columns), write);
    };
    for (std::int64_t i = 0; i < p.samples; ++i) {
      const float *const A = p.A + i * p.stride_a, *const B = p.B + i * p.stride_b;
      float* const C = p.C + i * p.stride_c;
      touch(A, p.transpose_a ? p.K : p.M, p.transpose_a ? p.M : p.K, p.lda, false);
      touch(B, p.transpose_b ? p.N : p.K, p.transpose_b ? p.K : p.N, p.ldb, false);
      if (p.accumulate) touch(C, p.M, p.N, p.ldc, false);
      gemm(p.transpose_a, p.transpose_b, p.M, p.N, p.K, A, p.lda, B, p.ldb, C, p.ldc, p.accumulate);
      touch(C, p.M, p.N, p.ldc, true);
    }
  });
}

void range_begin(const char*) {}
void range_end() {}

#endif

}  // namespace samformer::kernels
