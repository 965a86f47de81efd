// A model's parameters: named tensors at fixed offsets of one slab, so that a pass over all of them is one loop and
// gradients, moments and saved copies share the same offsets. Gaps (alignment to 64 bytes) hold zeros for ever.
// Tensors that are not trained (frozen weights, running averages) lie behind those that are: optimisers see the slab's
// beginning alone, checkpoints all of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace samformer::model {

struct Parameter {
  std::string name;  // that of the official PyTorch module
  Shape shape;       // weights [out, in]
  std::int64_t offset;
  bool trained;
  std::vector<float> constant = {};  // what the model wants there; empty: anything. Files need not have it
};

class ParameterTable {
 public:
  ParameterTable() = default;
  // A trained tensor, and behind it, from a multiple of `block` on, all of another table's.
  ParameterTable(std::string name, Shape shape, std::int64_t block, const ParameterTable& others) {
    add(std::move(name), shape);
    const std::int64_t first = (size_ + block - 1) / block * block;
    for (Parameter p : others.parameters_) {
      p.offset += first;
      parameters_.push_back(std::move(p));
    }
    size_ = first + others.size_, trained_size_ = first + others.trained_size_;
  }
  // Appends a trained tensor; `adjacent`: right behind the previous one, without a gap.
  std::int64_t add(std::string name, Shape shape, bool adjacent = false) {
    SAMFORMER_CHECK(trained_size_ == size_, "'{}' is added behind tensors that are not trained", name);
    const std::int64_t offset = append(std::move(name), shape, adjacent, true);
    trained_size_ = size_;
    return offset;
  }
  // Appends one that is not trained; none that is may follow.
  std::int64_t add_untrained(std::string name, Shape shape, bool adjacent = false) {
    return append(std::move(name), shape, adjacent, false);
  }
  // Appends a row of numbers that belong to the model as its sizes do.
  std::int64_t add_constant(std::string name, std::vector<float> numbers) {
    const std::int64_t offset = add_untrained(std::move(name), Shape{static_cast<std::int64_t>(numbers.size())});
    parameters_.back().constant = std::move(numbers);
    return offset;
  }
  void fill_constants(float* slab) const {
    for (const Parameter& p : parameters_) std::copy(p.constant.begin(), p.constant.end(), slab + p.offset);
  }
  const std::vector<Parameter>& all() const { return parameters_; }
  // Elements of a slab, gaps included, and of its trained beginning.
  std::int64_t slab_size() const { return aligned(size_); }
  std::int64_t trained_size() const { return aligned(trained_size_); }
  // Trained numbers, gaps not included.
  std::int64_t count() const {
    std::int64_t total = 0;
    for (const Parameter& p : parameters_) total += p.trained ? p.shape.count() : 0;
    return total;
  }
  bool has(std::string_view name) const {
    return std::any_of(parameters_.begin(), parameters_.end(), [&](const Parameter& p) { return p.name == name; });
  }
  const Parameter& find(std::string_view name) const {
    for (const Parameter& p : parameters_) {
      if (p.name == name) return p;
    }
    throw Error(Exit::internal, fmt::format("no parameter is called '{}'", name));
  }

 private:
  static std::int64_t aligned(std::int64_t size) { return (size + 15) / 16 * 16; }
  std::int64_t append(std::string name, Shape shape, bool adjacent, bool trained) {
    if (!adjacent) size_ = aligned(size_);
    const std::int64_t offset = size_;
    size_ += shape.count();
    parameters_.push_back({std::move(name), shape, offset, trained, {}});
    return offset;
  }

  std::vector<Parameter> parameters_;
  std::int64_t size_ = 0;
  std::int64_t trained_size_ = 0;
};

}  // namespace samformer::model
