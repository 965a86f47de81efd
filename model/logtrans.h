// LogTrans (Li et al., NeurIPS 2019), whose program was never published, as an encoder-decoder over the steps of a
// window (model/step_network.h), embedding with positions and without biases:
//
//   x <- LN(x + W_O Sparse(x));  x <- LN(x + W_2 gelu(W_1 x))                              encoder, then LN
//   y <- LN(y + W_O Sparse(y));  y <- LN(y + W_O Att(y, x));  y <- LN(y + W_2 gelu(W_1 y))   decoder, then LN
//   f = W y + b, the last H steps
//
// Sparse: attention with heads to the keys that the mask of logarithms allows, the pattern beginning anew every `sub`
// steps (kernels::HeadsMask); queries and keys are causal convolutions of width k, q_t = sum_j W_j x_{t - k + 1 + j} + b,
// zeros before the start. Att: every query sees every key. Biases on every product, dropout after the embedding, on
// probabilities, after W_O, gelu and W_2.
// Choices where the paper leaves them open: k = 3, sub = 24 (a day of hours), the encoder causal too, cross attention
// full; the decoder, its inputs and the training as Informer's and Autoformer's. Parameters: 13685767 at d 512, f 2048.
#pragma once

#include <cstdint>
#include <vector>

#include "model/step_network.h"

namespace samformer::model {

struct LogTransShape : StepSizes {
  std::int64_t sub = 24;
  std::int64_t kernel = 3;
};

class LogTrans {
 public:
  explicit LogTrans(LogTransShape shape);

  const LogTransShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  bool has_revin() const { return shape_.revin; }
  std::int64_t marks_ahead() const { return shape_.H; }
  std::int64_t tokens() const { return shape_.tokens(); }
  // Of a sequence of `cells`; a pattern longer than that is one of all cells.
  kernels::HeadsMask mask(std::int64_t cells) const;
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  struct SparseAttention {
    Convolution queries, keys;
    Dense values, out;
  };
  struct StepLayer {
    SparseAttention self;
    AttentionMaps cross;  // the decoder's
    Dense first, second;
    std::vector<NormLayer> norms;
  };
  StepLayer add_layer(const std::string& name, bool decodes);

  LogTransShape shape_;
  ParameterTable table_;
  StepEmbedding encoder_embedding_, decoder_embedding_;
  std::vector<StepLayer> encoder_, decoder_;
  NormLayer encoder_norm_, decoder_norm_;
  Dense projection_;
  RevinAffine affine_;
};

ModelRow logtrans_row();

}  // namespace samformer::model
