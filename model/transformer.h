// The paper's transformer and what becomes of it when its attention is changed, as the formula reads:
//
//   f(X) = [X + A(X) X W_V W_O] W,   A(X) = softmax(X W_Q W_K' X' / sqrt(d_m)) in R^{D x D},   biases on every product
//
//   learned        SAMformer's low-rank function (model/samformer.h computes it faster)
//   frozen         Random Transformer: W_Q, W_K, W_V, W_O stay as they were drawn, W alone (and RevIN) is trained
//   identity       A = I: no W_Q, W_K
//   sigma_reparam  each of W_Q, W_K, W_V, W_O becomes g W / |W|_2 with g learned from 1 (Zhai et al. 2023)
//
// inside RevIN, or without it. Tensors are named as SAMformer's, g is `compute_queries.gamma` and so on.
// Trained parameters at L = 512, d_m = 16, and 2 D more with RevIN:
//
//   learned 33328 + 513 H      frozen 513 H      identity 16912 + 513 H      sigma_reparam 33332 + 513 H
#pragma once

#include <array>
#include <cstdint>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

enum class Attention { learned, frozen, identity, sigma_reparam };

struct TransformerShape {
  std::int64_t D = 7;
  std::int64_t L = 512;
  std::int64_t H = 96;
  std::int64_t d_m = 16;
  Attention attention = Attention::learned;
  bool revin = true;
};

class Transformer {
 public:
  explicit Transformer(TransformerShape shape);

  const TransformerShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  bool has_revin() const { return shape_.revin; }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  TransformerShape shape_;
  ParameterTable table_;
  RevinAffine affine_;
  Dense head_, output_;
  AttentionLayers layers_;
  std::array<std::int64_t, 4> gains_{};  // offsets of sigma-reparam's g, in the order queries, keys, values, output
};

ModelRow random_transformer_row();
ModelRow identity_row();
ModelRow sigma_reparam_row();

}  // namespace samformer::model
