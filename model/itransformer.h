// iTransformer (Liu et al., ICLR 2024): a token is a whole window of one channel, or of one of the dates' marks
// (model/data/marks.h), T = D + marks of them; the encoder's attention is over tokens, without positions,
//
//   z = W_E token + b                                                        L -> d
//   z <- LN(z + W_O Att(z));  z <- LN(z + W_2 gelu(W_1 z))                   `layers` times, h heads, d -> f -> d
//   f = W LN(z) + b                                                          d -> H, of the D channels' tokens
//
// biases on every product, dropout after the embedding, on the probabilities and after W_O, gelu and W_2; inside RevIN
// without a learned scale and shift. Marks are read as they are; a series without dates has none. Tensors are named as
// in the official module. Parameters: L d + d + layers (4 d^2 + 2 d f + f + 9 d) + 2 d + d H + H: 841568 at L 96, H 96,
// d = f = 256.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

struct ITransformerShape {
  std::int64_t D = 7;
  std::int64_t L = 96;
  std::int64_t H = 96;
  std::int64_t d = 256;
  std::int64_t f = 256;
  std::int64_t heads = 8;
  std::int64_t layers = 2;
  double dropout = 0.1;
};

class ITransformer {
 public:
  explicit ITransformer(ITransformerShape shape);

  const ITransformerShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  static constexpr bool has_revin() { return true; }
  static constexpr std::int64_t marks_ahead() { return 0; }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  // The output's attention map is the last layer's.
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  ITransformerShape shape_;
  ParameterTable table_;
  Dense embedding_, projector_;
  NormLayer norm_;
  std::vector<EncoderLayer> layers_;
};

ModelRow itransformer_row();

}  // namespace samformer::model
