// Memory that is given out by moving a pointer and taken back all at once, on the host or on a device.
//
// Activations of a training step live here; rewinding keeps the chunks, so that every step after the first allocates
// nothing, and the same requests in the same order have the same addresses: what a captured graph relies on. Addresses
// are aligned to 64 bytes (a cache line, an AVX-512 vector; two sectors). Not for types with destructors.
// Throws Error(Exit::device) with the bytes asked for when memory runs out; GpuError on a device.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/device_memory.h"
#include "core/tensor.h"

namespace samformer {

using kernels::Cpu;
using kernels::Cuda;

template <class On = Cpu>
class Arena {
  static constexpr bool host = std::is_same_v<On, Cpu>;
  static constexpr std::size_t alignment = 64, smallest = std::size_t{1} << (host ? 18 : 22);

 public:
  struct Mark {
    std::size_t chunk = 0;
    std::size_t used = 0;
  };

  // Uninitialised room for n values of T.
  template <class T>
  T* allocate(std::int64_t n) {
    static_assert(std::is_trivially_destructible_v<T>);
    return static_cast<T*>(bytes(static_cast<std::size_t>(n) * sizeof(T)));
  }
  // Rows `stride` apart; 0: dense.
  template <class T>
  Tensor<T> tensor(Shape shape, std::int64_t stride = 0) {
    if (stride == 0) stride = shape.cols();
    return Tensor<T>(allocate<T>(shape.rows() * stride), shape, stride);
  }
  Mark mark() const { return top_; }
  // Everything allocated since the mark is free again.
  void rewind(Mark mark) { top_ = mark; }
  // Bytes held, used or not.
  std::size_t capacity() const {
    std::size_t total = 0;
    for (const Chunk& c : chunks_) total += c.size;
    return total;
  }

 private:
  static void* acquire(std::size_t size, std::size_t held) {
    if constexpr (host) {
      if (void* memory = std::aligned_alloc(alignment, size)) return memory;
      throw Error(Exit::device, fmt::format("out of memory: {} bytes asked for, {} held", size, held))
          .hint("use a smaller --batch, or fewer channels (--columns)");
    } else {
      return kernels::device_allocate(size, "activations");
    }
  }
  struct Free {
    void operator()(void* p) const { host ? std::free(p) : kernels::device_free(p); }
  };
  struct Chunk {
    std::unique_ptr<std::byte, Free> data;
    std::size_t size;
  };

  void* bytes(std::size_t n) {
    n = (n + alignment - 1) / alignment * alignment;
    while (top_.chunk < chunks_.size() && chunks_[top_.chunk].size - top_.used < n) {
      ++top_.chunk;
      top_.used = 0;
    }
    if (top_.chunk == chunks_.size()) {
      const std::size_t size = std::max(n, smallest);
      chunks_.push_back({std::unique_ptr<std::byte, Free>(static_cast<std::byte*>(acquire(size, capacity()))), size});
    }
    void* at = chunks_[top_.chunk].data.get() + top_.used;
    top_.used += n;
    return at;
  }

  std::vector<Chunk> chunks_;
  Mark top_;
};

}  // namespace samformer
