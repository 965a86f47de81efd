// DLinear (Zeng et al. 2023): a linear map of the window's moving average and one of what is left, the same for every
// channel,
//
//   f(X) = (X - A X) W_s + b_s + (A X) W_t + b_t,   A: the average of 25 steps, the ends continued (kernels/decompose.h)
//
// Published without RevIN. Weights begin at 1/L, so that it forecasts the window's mean; biases as PyTorch's linear
// layers. Tensors are named as in the official LTSF-Linear module. Parameters: 2 H (L + 1), and 2 D with RevIN.
#pragma once

#include <cstdint>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

struct DLinearShape {
  std::int64_t D = 7;
  std::int64_t L = 336;
  std::int64_t H = 96;
  std::int64_t width = 25;
  bool revin = false;
};

class DLinear {
 public:
  explicit DLinear(DLinearShape shape);

  const DLinearShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  bool has_revin() const { return shape_.revin; }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  DLinearShape shape_;
  ParameterTable table_;
  RevinAffine affine_;
  Dense seasonal_, trend_;
};

ModelRow dlinear_row();

}  // namespace samformer::model
