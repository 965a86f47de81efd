// Owners of what kernels/device.h creates on a device: memory, streams, events, captured graphs, the library of
// products.
//
// All move and none copies; destruction gives back. Sizes are in elements. Failures throw GpuError, whose message names
// the call, and the kernel with its launch shape or the bytes asked for and free; on_device turns it into what the
// program reports (exit code 4).
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "core/error.h"
#include "kernels/device.h"

namespace samformer {
// A handle that `destroy` gives back.
template <class Handle, void (*destroy)(Handle)>
class DeviceHandle {
 public:
  DeviceHandle() = default;
  explicit DeviceHandle(Handle handle) : handle_(handle) {}
  DeviceHandle(DeviceHandle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  DeviceHandle& operator=(DeviceHandle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~DeviceHandle() {
    if (handle_ != nullptr) destroy(handle_);
  }
  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  Handle handle_ = nullptr;
};

using DeviceStream = DeviceHandle<kernels::Stream, kernels::stream_destroy>;
using DeviceEvent = DeviceHandle<kernels::Event, kernels::event_destroy>;
using DeviceGraph = DeviceHandle<kernels::Graph, kernels::graph_destroy>;
using DeviceBlas = DeviceHandle<kernels::Blas, kernels::blas_destroy>;

// What `work` puts on the stream, as one graph.
template <class Work>
DeviceGraph captured(kernels::Stream stream, const Work& work) {
  kernels::capture_begin(stream);
  try {
    work();
  } catch (...) {
    try {  // the stream must leave its capture, which what went wrong may have ended
      DeviceGraph(kernels::capture_end(stream));
    } catch (const kernels::GpuError&) {
    }
    throw;
  }
  return DeviceGraph(kernels::capture_end(stream));
}

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(std::int64_t count, const char* name)
      : count_(count), memory_(kernels::device_allocate(static_cast<std::size_t>(count) * sizeof(T), name)) {}
  T* data() const { return static_cast<T*>(memory_.get()); }
  std::int64_t count() const { return count_; }
  void upload(std::span<const T> values, kernels::Stream stream) const {
    check(values.size());
    kernels::upload(memory_.get(), values.data(), values.size_bytes(), stream);
  }
  // The values are there once the stream was waited for.
  void download(std::span<T> values, kernels::Stream stream) const {
    check(values.size());
    kernels::download(values.data(), memory_.get(), values.size_bytes(), stream);
  }

 private:
  void check(std::size_t count) const {
    SAMFORMER_CHECK(static_cast<std::int64_t>(count) <= count_, "a device array of {} elements, {} copied", count_,
                    count);
  }
  std::int64_t count_ = 0;
  DeviceHandle<void*, kernels::device_free> memory_;
};

template <class Work>
auto on_device(const Work& work) {
  try {
    return work();
  } catch (const kernels::GpuError& e) {
    throw Error(Exit::device, e.what())
        .hint(
            "--device cpu computes without it; `samformer doctor` lists the devices; a smaller --batch needs less "
            "memory");
  }
}

}  // namespace samformer
