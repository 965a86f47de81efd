// Memory that is given out by moving a pointer and taken back all at once.
//
// Activations of a training step live here; rewinding keeps the chunks, so that every step after the first allocates
// nothing. Addresses are aligned to 64 bytes (a cache line, an AVX-512 vector). Not for types with destructors.
// Throws Error(Exit::device) with the bytes asked for when memory runs out.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/tensor.h"

namespace samformer {

class Arena {
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
  template <class T>
  Tensor<T> tensor(Shape shape) {
    return Tensor<T>(allocate<T>(shape.count()), shape);
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
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  struct Chunk {
    std::unique_ptr<std::byte, Free> data;
    std::size_t size;
  };
  static constexpr std::size_t alignment = 64, smallest = std::size_t{1} << 18;

  void* bytes(std::size_t n) {
    n = (n + alignment - 1) / alignment * alignment;
    while (top_.chunk < chunks_.size() && chunks_[top_.chunk].size - top_.used < n) {
      ++top_.chunk;
      top_.used = 0;
    }
    if (top_.chunk == chunks_.size()) {
      const std::size_t size = std::max(n, smallest);
      void* memory = std::aligned_alloc(alignment, size);
      if (!memory) {
        throw Error(Exit::device, fmt::format("out of memory: {} bytes asked for, {} held", size, capacity()))
            .hint("use a smaller --batch, or fewer channels (--columns)");
      }
      chunks_.push_back({std::unique_ptr<std::byte, Free>(static_cast<std::byte*>(memory)), size});
    }
    void* at = chunks_[top_.chunk].data.get() + top_.used;
    top_.used += n;
    return at;
  }

  std::vector<Chunk> chunks_;
  Mark top_;
};

}  // namespace samformer
