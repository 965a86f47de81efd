// Informer (Zhou et al., AAAI 2021), an encoder-decoder over the steps of a window (model/step_network.h), embedding with
// positions; self attention is Prob, masked in the decoder, and between the encoder's layers stands Distil:
//
//   Distil: circular convolution of width 3, batch norm, ELU, the largest of three steps every two
//
// Prob: only the queries that a draw of keys picks attend, the others get a mean of values or, masked, a cumulative sum
// (kernels/prob_sparse.h). The draw is a function of seed, step and place in training, the same in both of SAM's passes;
// outside training of the place alone, so that a checkpoint's forecasts are a function of its weights. Dropout after the
// embedding, after W_O, gelu and W_2, and on the cross attention's probabilities where it is full.
//
//                official                                 ltsf, behind the numbers that later papers quote
//   Prob's rows  encoder (step, head), decoder as ltsf    of one head, its steps side by side
//   cross        full                                     Prob
//   Distil       T steps                                  T + 2: the convolution starts two steps before the first
//   embedding    with biases                              without
//
// Tensors are named as in the official modules. Parameters at d 512, f 2048, D 7: 11330055, ltsf 11328007.
#pragma once

#include <cstdint>
#include <vector>

#include "model/step_network.h"

namespace samformer::model {

struct InformerShape : StepSizes {
  bool official = false;
  std::int64_t factor = 5;
};

class Informer : public StepNetwork<InformerShape> {
 public:
  explicit Informer(InformerShape shape);

  // Sampled keys [T][U] of every ProbSparse attention, in forward's order, instead of draws; on the CPU.
  void set_sampled_keys(std::vector<std::vector<std::int32_t>> keys) { given_ = std::move(keys); }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  struct Distilling {
    Convolution convolution;
    NormLayer norm;
  };

  EncoderDecoder network_;
  std::vector<Distilling> distilling_;
  std::vector<std::vector<std::int32_t>> given_;
};

ModelRow informer_row();

}  // namespace samformer::model
