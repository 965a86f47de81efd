// Autoformer (Wu et al., NeurIPS 2021): an encoder-decoder that decomposes (model/decomposition.h), auto-correlation in
// the place of attention (kernels/delays.h): the delays at which a sequence resembles itself most, and the sequence
// rolled by them. K = floor(factor ln T) delays for T queries: in training one set for the batch, else one for each
// window, so that training and evaluation are two functions of the same weights. Cross attention cuts the encoder's L
// steps to the decoder's p + H, or appends zeros.
//
// The gradients of all query biases are exactly zero, of key biases unless zeros are appended (they add the same to
// every delay), and of the encoder's value biases, constants, which a decomposition takes out. Parameters: 2 (3 D d +
// 4 d) + layers (4 d^2 + 4 d + 2 d f) + (8 d^2 + 8 d + 2 d f + 3 d D) + 4 d + d D + D: 10535943 at D 7, d 512, f 2048.
#pragma once

#include "model/decomposition.h"
#include "model/model_row.h"

namespace samformer::model {

struct AutoformerShape : DecompositionShape {
  std::int64_t factor = 3;
};

class Autoformer : public StepNetwork<AutoformerShape> {
 public:
  explicit Autoformer(AutoformerShape shape);

  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
    network_.initialise(weights, table_, seed, init, head);
  }
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  DecompositionNetwork network_;
};

ModelRow autoformer_row();

}  // namespace samformer::model
