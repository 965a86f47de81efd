// RevIN and one linear layer on time, the same for every channel: f(X) = X W + b. H (L + 1) + 2 D parameters.
#pragma once

#include <algorithm>
#include <cstdint>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

struct LinearShape {
  std::int64_t D = 7;
  std::int64_t L = 512;
  std::int64_t H = 96;
};

class Linear {
 public:
  explicit Linear(LinearShape shape) : shape_(shape) {
    const auto [D, L, H] = shape_;
    SAMFORMER_CHECK(D > 0 && L > 0 && H > 0, "linear: D, L and H must be positive, found {}, {}, {}", D, L, H);
    head_ = add_dense(table_, "linear_forecaster", H, L);
    affine_ = RevinAffine(table_, D, true);
  }

  const LinearShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  static constexpr bool has_revin() { return true; }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
    std::fill(weights, weights + table_.slab_size(), 0.0f);
    if (head == HeadInit::as_init) draw_dense(weights, table_, "linear_forecaster", seed, init);
    affine_.initialise(weights);
  }
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass&) const {
    const std::int64_t N = check_windows("linear", input, shape_.D, shape_.L);
    const SlabVars<T, On> slab(tape, table_, weights, gradients);
    const AffineVars<T, On> affine = affine_.vars(slab, N);
    ProjectionInput<T, On> w;
    w.weight = slab.weight(head_), w.bias = slab.bias(head_);
    return {project(input, w, affine).rest, affine};
  }

 private:
  LinearShape shape_;
  ParameterTable table_;
  RevinAffine affine_;
  Dense head_;
};

ModelRow linear_row();

}  // namespace samformer::model
