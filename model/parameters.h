// A model's parameters: named tensors at fixed offsets of one slab, so that a pass over all of them is one loop and
// gradients, moments and saved copies share the same offsets. Gaps (alignment to 64 bytes) hold zeros for ever.
#pragma once

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
};

class ParameterTable {
 public:
  // Appends a tensor; `adjacent`: right behind the previous one, without a gap.
  std::int64_t add(std::string name, Shape shape, bool adjacent = false) {
    if (!adjacent) size_ = (size_ + 15) / 16 * 16;
    const std::int64_t offset = size_;
    size_ += shape.count();
    parameters_.push_back({std::move(name), shape, offset});
    return offset;
  }
  const std::vector<Parameter>& all() const { return parameters_; }
  // Elements of a slab, gaps included.
  std::int64_t slab_size() const { return (size_ + 15) / 16 * 16; }
  // Trainable numbers, gaps not included.
  std::int64_t count() const {
    std::int64_t total = 0;
    for (const Parameter& p : parameters_) total += p.shape.count();
    return total;
  }
  const Parameter& find(std::string_view name) const {
    for (const Parameter& p : parameters_) {
      if (p.name == name) return p;
    }
    throw Error(Exit::internal, fmt::format("no parameter is called '{}'", name));
  }

 private:
  std::vector<Parameter> parameters_;
  std::int64_t size_ = 0;
};

}  // namespace samformer::model
