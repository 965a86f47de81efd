// Temporal attention: SAMformer's network with its attention over the L steps instead of the D channels,
//
//   f(X) = [X + (A(X) X' W_V W_O)'] W,   A(X) = softmax(X' W_Q W_K' X / sqrt(d_m)) in R^{L x L}
//
// with biases on every product, inside RevIN. Shapes: W_Q, W_K, W_V [d_m, D], W_O [D, d_m], W [H, L]; tensors are named
// as SAMformer's. Trained parameters: 4 d_m D + 3 d_m + 3 D + (L + 1) H.
#pragma once

#include <cstdint>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

struct TemporalShape {
  std::int64_t D = 7;
  std::int64_t L = 512;
  std::int64_t H = 96;
  std::int64_t d_m = 16;
};

class Temporal {
 public:
  explicit Temporal(TemporalShape shape);

  const TemporalShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  static constexpr bool has_revin() { return true; }
  std::vector<TokenSteps> map_steps() const { return single_steps(shape_.L); }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  TemporalShape shape_;
  ParameterTable table_;
  RevinAffine affine_;
  Dense head_, output_;
  AttentionLayers layers_;
};

ModelRow temporal_row();

}  // namespace samformer::model
