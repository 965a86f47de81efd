// LogTrans (Li et al., NeurIPS 2019), whose program was never published, as an encoder-decoder over the steps of a
// window (model/step_network.h), embedding with positions and without biases; self attention is Sparse, cross attention
// full.
//
// Sparse: attention with heads to the keys that the mask of logarithms allows, the pattern beginning anew every `sub`
// steps (kernels::HeadsMask); queries and keys are causal convolutions of width k, q_t = sum_j W_j x_{t - k + 1 + j} + b,
// zeros before the start. Biases on every product, dropout after the embedding, on probabilities, after W_O, gelu and
// W_2.
// Choices where the paper leaves them open: k = 3, sub = 24 (a day of hours), the encoder causal too, cross attention
// full; the decoder, its inputs and the training as Informer's and Autoformer's. Parameters: 13685767 at d 512, f 2048.
#pragma once

#include <cstdint>

#include "model/step_network.h"

namespace samformer::model {

struct LogTransShape : StepSizes {
  std::int64_t sub = 24;
  std::int64_t kernel = 3;
};

class LogTrans : public StepNetwork<LogTransShape> {
 public:
  explicit LogTrans(LogTransShape shape);

  // Of a sequence of `cells`; a pattern longer than that is one of all cells.
  kernels::HeadsMask mask(std::int64_t cells) const;
  std::vector<TokenSteps> map_steps() const { return single_steps(shape_.L); }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
    network_.initialise(weights, table_, seed, init, head);
  }
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  EncoderDecoder network_;
};

ModelRow logtrans_row();

}  // namespace samformer::model
