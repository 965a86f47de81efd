// SAMformer (Ilbert et al., ICML 2024): a forecast of H steps for D channels from L steps,
//
//   f(X) = [X + A(X) X W_V W_O] W,   A(X) = softmax(X W_Q W_K' X' / sqrt(d_m)) in R^{D x D},   biases on every product,
//
// inside RevIN. Two variants: low-rank (the paper: W_V L x d_m, W_O d_m x L) and full (the authors' PyTorch module:
// W_V L x L, no W_O, the inverse divides by scale + eps^2).
//
// How it is computed: W_V, W_Q, W_K, W lie adjacent, so one product gives [V | Q | K | F] (kernels/projection.h); the
// output projection is folded, A V W_O W = (A V)(W_O W), so the D x L context never exists. For `full` W_V W is folded
// where that takes fewer operations. Both orders give the same result (`Association`).
//
// Parameters: 33328 + 513 H + 2 D (low-rank), 279072 + 513 H + 2 D (full) at L = 512, d_m = 16.
#pragma once

#include <cstdint>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

enum class Value { low_rank, full };

struct SamformerShape {
  Value value = Value::low_rank;
  std::int64_t D = 7;
  std::int64_t L = 512;
  std::int64_t H = 96;
  std::int64_t d_m = 16;
};

// Which way the products on the value path are grouped: `folded` multiplies weights first (W W_O, W W_V).
enum class Association { folded, direct };

class Samformer {
 public:
  explicit Samformer(SamformerShape shape);

  const SamformerShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  static constexpr bool has_revin() { return true; }
  // What the inverse of RevIN adds to its scale: eps^2 in the authors' PyTorch module.
  double guard() const { return shape_.value == Value::low_rank ? 0 : 1e-10; }

  // Fills a slab (gaps zero). keras: sqrt(6 / (L + L d_m)) for W_Q, W_K, W_V, what the authors' TensorFlow code gets.
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;

  // The order with fewer multiplications for R rows, forward and backward. A device has the folded one alone.
  Association association(std::int64_t R) const;

  // `gradients` null: nothing is differentiated. Both slabs have parameters().slab_size() elements.
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        Association order) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass&) const {
    const bool device = std::is_same_v<On, Cuda>;
    return forward(tape, weights, gradients, input,
                   device ? Association::folded : association(input.xhat.value().rows()));
  }

 private:
  SamformerShape shape_;
  ParameterTable table_;
  std::int64_t weights_ = 0, biases_ = 0, output_weight_ = 0, output_bias_ = 0, gamma_ = 0, beta_ = 0;
};

ModelRow samformer_row();
ModelRow transformer_row();  // SAMformer without SAM

}  // namespace samformer::model
