// Shapes and non-owning tensor views.
//
// A Tensor<T> is a pointer, a shape and the distance between rows, a row being the last dimension. Rows are contiguous;
// columns of a wider matrix are a Tensor too (`columns`). Nothing here owns or frees memory (see arena.h).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace samformer {

// Up to five dimensions; rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
    SAMFORMER_CHECK(sizes.size() <= size_.size(), "a shape has at most 5 dimensions, not {}", sizes.size());
    int i = 0;
    for (std::int64_t s : sizes) {
      SAMFORMER_CHECK(s >= 0, "dimension {} is {}: sizes are not negative", i, s);
      size_[i++] = s;
    }
  }
  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return size_[i]; }
  std::int64_t cols() const { return rank_ == 0 ? 1 : size_[rank_ - 1]; }
  // Product of all dimensions but the last.
  std::int64_t rows() const {
    std::int64_t n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= size_[i];
    return n;
  }
  std::int64_t count() const { return rows() * cols(); }
  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i) {
      if (size_[i] != other.size_[i]) return false;
    }
    return true;
  }
  std::string to_string() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(size_[i]);
    return text + "]";
  }

 private:
  std::array<std::int64_t, 5> size_{};
  int rank_ = 0;
};

template <class T>
struct Tensor {
  T* data = nullptr;
  Shape shape;
  std::int64_t stride = 0;  // elements from one row to the next

  Tensor() = default;
  Tensor(T* data, Shape shape) : data(data), shape(shape), stride(shape.cols()) {}
  Tensor(T* data, Shape shape, std::int64_t stride) : data(data), shape(shape), stride(stride) {}

  std::int64_t rows() const { return shape.rows(); }
  std::int64_t cols() const { return shape.cols(); }
  std::int64_t count() const { return shape.count(); }
  bool contiguous() const { return stride == cols() || rows() == 1; }
  T* row(std::int64_t r) const { return data + r * stride; }
  T& operator()(std::int64_t r, std::int64_t c) const { return data[r * stride + c]; }
  // Columns [first, first + count) as a view of the same memory.
  Tensor columns(std::int64_t first, std::int64_t count) const {
    SAMFORMER_CHECK(first >= 0 && count >= 0 && first + count <= cols(), "columns {}..{} of {}", first, first + count,
                    shape.to_string());
    return {data + first, Shape{rows(), count}, stride};
  }
  // Rows [first, first + count).
  Tensor slice(std::int64_t first, std::int64_t count) const {
    SAMFORMER_CHECK(first >= 0 && count >= 0 && first + count <= rows(), "rows {}..{} of {}", first, first + count,
                    shape.to_string());
    return {data + first * stride, Shape{count, cols()}, stride};
  }
  void fill(T value) const {
    for (std::int64_t r = 0; r < rows(); ++r) {
      for (std::int64_t c = 0; c < cols(); ++c) row(r)[c] = value;
    }
  }
};

}  // namespace samformer
