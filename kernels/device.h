// Where a kernel runs, chosen by its first argument: every operation has an overload for Cpu, a template on the scalar
// that has run when it returns, and one for Cuda, float32, that has queued its kernels. Both take the same arguments.
//
// The functions of the GPU's runtime are here too. Two libraries define them and the kernels' Cuda overloads: CUDA
// (kernels/cuda, by nvcc) and the SIMT emulator (the same files, by the host's compiler); a program links one of them,
// and without nvcc and tests there is neither (SAMFORMER_NO_DEVICE in core/tape.h). Device calls allocate or wait only
// where they say so, so that what they queue can be captured. Failures throw GpuError: the call, and the kernel with
// its launch shape or the bytes asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace samformer::kernels {

struct Cpu {};

using Stream = void*;  // a cudaStream_t
using Blas = void*;    // a library of products on a stream

struct Cuda {
  Stream stream = nullptr;
  Blas blas = nullptr;
  bool tf32 = false;  // products, and attention where it pays, on tensor cores
};

class GpuError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Where a gradient goes: written, or added to what is there; data null: it is not wanted. Rows are ld apart.
template <class T>
struct Sink {
  T* data = nullptr;
  std::int64_t ld = 0;
  bool add = false;
  explicit operator bool() const { return data != nullptr; }
};

// ---- devices and memory --------------------------------------------------------------------------------------------
// core/device_memory.h owns what is created here.

struct DeviceInfo {
  std::string name;
  int major, minor;  // compute capability
  std::size_t memory_bytes;
  double flops, bytes;  // a second at most: float32 products and sums, device memory; 0: unknown
};
// All devices; `why_none` says why there are none. The first call loads the driver's library, where there is one.
std::vector<DeviceInfo> devices(std::string& why_none);
void select_device(int index);

// Allocates. Unset memory reads as a fault on the emulator.
void* device_allocate(std::size_t bytes, const char* name);
void device_free(void* memory);
void upload(void* device, const void* host, std::size_t bytes, Stream stream);
void download(void* host, const void* device, std::size_t bytes, Stream stream);
void synchronise(Stream stream);  // waits

Stream stream_create();
void stream_destroy(Stream stream);

using Event = void*;
Event event_create();
void event_destroy(Event event);
void event_record(Event event, Stream stream);
double event_seconds(Event begin, Event end);  // both reached by their stream

// Between the two calls the stream's work is recorded, not done; graph_launch then does all of it.
using Graph = void*;
void capture_begin(Stream stream);
Graph capture_end(Stream stream);
void graph_destroy(Graph graph);
void graph_launch(Graph graph, Stream stream);

// Products by cuBLAS (on the emulator kernels/gemm.h), which is opened by the first blas_create. Results repeat.
Blas blas_create(Stream stream, bool tf32);
void blas_destroy(Blas blas);

// A named range of the calling thread for profilers (NVTX).
void range_begin(const char* name);
void range_end();

// ---- matrices ------------------------------------------------------------------------------------------------------

// Row-major C[M][N] (+)= op(A)[M][K] op(B)[K][N].
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t M, N, K;
  const float* A;
  std::int64_t lda;
  const float* B;
  std::int64_t ldb;
  float* C;
  std::int64_t ldc;
  bool accumulate = false;
  std::int64_t samples = 1, stride_a = 0, stride_b = 0, stride_c = 0;  // so many products, their matrices so far apart
};
void product(const Cuda& on, const Product& p);

// to [rows][columns] = 0, or a copy of `from`, or += from.
void clear(const Cuda& on, float* to, std::int64_t ld, std::int64_t rows, std::int64_t columns);
void copy(const Cuda& on, float* to, std::int64_t ldt, const float* from, std::int64_t ldf, std::int64_t rows,
          std::int64_t columns);
void add(const Cuda& on, float* to, std::int64_t ldt, const float* from, std::int64_t ldf, std::int64_t rows,
         std::int64_t columns);

// Of a row of per-channel scalars on the device, so that eight channels are one 32-byte sector.
constexpr int channel_stride(std::int64_t channels) { return static_cast<int>((channels + 7) & ~7); }

// ---- what changes between steps ------------------------------------------------------------------------------------

// The record of a training's steps, written by kernels alone (kernels/update.h), one writer each. A pass that meets a
// non-finite loss or gradient fills bad_*; from then on weights, moments and averages stay as they are.
struct Progress {
  std::int64_t step = 0;   // steps completed
  std::int64_t batch = 0;  // of them in this epoch: the next one's windows are starts[batch * batch_stride + n]
  float correction1 = 1, correction2 = 1;  // 1 - beta^(step + 1); the device's
  float ema_decay = 0;                     // min(decay, (1 + step) / (10 + step)); the device's
  std::int32_t bad_pass = 0;               // 1 or 2; 0: none
  std::int64_t bad_step = 0;               // from 1
  std::int64_t bad_element = 0;            // index in the parameter slab; -1: the loss alone
  double loss[2] = {0, 0};                 // of the last step's passes; the host's
  double squared_error[2] = {0, 0};        // sums over the epoch's windows of both passes' losses
  double absolute_error[2] = {0, 0};       // the device's
  float norm = 0;                          // of the last ascent's gradient; the device's
};

}  // namespace samformer::kernels
