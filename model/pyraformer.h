// Pyraformer (Liu et al., ICLR 2022) with its fully connected head: attention over a pyramid of coarser and coarser
// steps (model/step_network.h has the embedding, with positions and biases),
//
//   tokens  the window's L steps and one of zeros with the marks of the first step of the horizon
//   pyramid z_0 = down(x): d -> b;  z_l = ELU(BN(conv(z_{l-1}))), b -> b, width and stride w_l;  T_l = floor(T_{l-1} / w_l)
//           x <- LN([x; up(z_1 .. z_m)])
//   layers  x <- LN(x + fc(Att(x)));  x <- LN(x + W_2 gelu(W_1 x)), LN eps 1e-6; Q, K and V without biases, h heads of
//           d_k columns; a node sees its neighbours, children and parent (kernels::HeadsMask)
//   head    the last step and its ancestors side by side, (m + 1) d -> H D, without bias
//
// Dropout after the embedding, on probabilities, after fc, gelu and W_2. Tensors are named as in the official module.
// Parameters: 10123520 at L 96, H 96, D 7 and the defaults.
#pragma once

#include <cstdint>
#include <vector>

#include "model/step_network.h"

namespace samformer::model {

struct PyraformerShape : StepSizes {
  std::int64_t key_width = 128;  // d_k
  std::int64_t bottleneck = 128;
  std::int64_t inner = 3;  // neighbours within a level, itself too
  std::vector<std::int64_t> windows = {4, 4, 4};
};

class Pyraformer : public StepNetwork<PyraformerShape> {
 public:
  explicit Pyraformer(PyraformerShape shape);

  static constexpr std::int64_t marks_ahead() { return 1; }
  std::int64_t tokens() const { return mask_.first[mask_.levels]; }
  const kernels::HeadsMask& mask() const { return mask_; }
  std::vector<TokenSteps> map_steps() const;
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  struct Coarser {
    Convolution convolution;
    NormLayer norm;
  };
  struct StepLayer {
    Dense queries, keys, values, out, first, second;  // the first three without biases
    NormLayer attention_norm, norm;
  };

  kernels::HeadsMask mask_;
  StepEmbedding embedding_;
  Dense down_, up_, head_;  // the head without a bias
  std::vector<Coarser> coarser_;
  NormLayer pyramid_norm_;
  std::vector<StepLayer> layers_;
  RevinAffine affine_;
};

ModelRow pyraformer_row();

}  // namespace samformer::model
