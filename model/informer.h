// Informer (Zhou et al., AAAI 2021), an encoder-decoder over the steps of a window (model/step_network.h), embedding with
// positions:
//
//   x <- LN(x + W_O Prob(x));  x <- LN(x + W_2 gelu(W_1 x));  between layers x <- Distil(x)                encoder, LN
//   y <- LN(y + W_O Prob(y), masked);  y <- LN(y + W_O Cross(y, x));  y <- LN(y + W_2 gelu(W_1 y))         decoder, LN
//   Distil: circular convolution of width 3, batch norm, ELU, the largest of three steps every two
//   f = W y + b, the last H steps
//
// Prob: only the queries that a draw of keys picks attend, the others get a mean of values or, masked, a cumulative sum
// (kernels/prob_sparse.h). The draw is a function of seed, step and place in training, the same in both of SAM's passes;
// outside training of the place alone, so that a checkpoint's forecasts are a function of its weights. Dropout after the
// embedding, after W_O, gelu and W_2, and on Cross's probabilities where it is full.
//
//                official                                 ltsf, behind the numbers that later papers quote
//   Prob's rows  encoder (step, head), decoder as ltsf    of one head, its steps side by side
//   Cross        full                                     Prob
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
  bool distil = true;
};

class Informer {
 public:
  explicit Informer(InformerShape shape);

  const InformerShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  bool has_revin() const { return shape_.revin; }
  std::int64_t marks_ahead() const { return shape_.H; }
  std::int64_t tokens() const { return shape_.tokens(); }
  // Sampled keys [T][U] of every ProbSparse attention, in forward's order, instead of draws; on the CPU.
  void set_sampled_keys(std::vector<std::vector<std::int32_t>> keys) { given_ = std::move(keys); }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  struct StepLayer {
    AttentionMaps self, cross;  // cross: the decoder's
    Dense first, second;
    std::vector<NormLayer> norms;
  };
  struct Distilling {
    Convolution convolution;
    NormLayer norm;
  };
  StepLayer add_layer(const std::string& name, bool decodes);
  const char* projection_name() const { return shape_.official ? "projection" : "decoder.projection"; }

  InformerShape shape_;
  ParameterTable table_;
  StepEmbedding encoder_embedding_, decoder_embedding_;
  std::vector<StepLayer> encoder_, decoder_;
  std::vector<Distilling> distilling_;
  NormLayer encoder_norm_, decoder_norm_;
  Dense projection_;
  RevinAffine affine_;
  std::vector<std::vector<std::int32_t>> given_;
};

ModelRow informer_row();

}  // namespace samformer::model
