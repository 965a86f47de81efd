// FEDformer, the Fourier version (Zhou et al., ICML 2022): an encoder-decoder that decomposes (model/decomposition.h),
// its averages mixed, with products of chosen frequencies in the place of attention (kernels/fourier.h). Of T steps a
// set M of frequencies below floor(T / 2) is drawn once: for the encoder, the decoder, the cross attention's queries
// and its keys:
//
//   self:  y = irfft of Y,  Y[r] = X[M_r] W_r for X = rfft(q): frequency M_r goes on as r
//   cross: y = irfft of O / d^2,  O = W Z at M_q,  Z = tanh(X_q' X_k) X_k                     by head, W [h, E, E, M]
//
// The result [N, h, E, T] is read as [N, T, d] as it lies, so that its rows are not steps: so did the program that made
// the published numbers. The encoder's layers share one W and M, named as the first layer's. Keys of self attention and
// all values are projected in the official program and not used: their tensors are here, without gradients.
//
// The sets are part of the model: those that NumPy's legacy generator gives at seed 2021, as published, kept as tensors
// that are not trained. Exactly zero are, beside decomposition.h's, the gradients of a projection's bias of which
// frequency 0 was not drawn. Parameters: Autoformer's, 2 a width for each of the 1 + 2 layers + 3 decompositions, and
// 2 h E^2 (|M_enc| + |M_dec| + |M_q|): 22070295 at D 7, d 512, f 2048, L 96, H 96.
#pragma once

#include <utility>
#include <vector>

#include "model/decomposition.h"
#include "model/model_row.h"

namespace samformer::model {

// Sorted.
struct ModeSets {
  std::vector<std::int64_t> encoder, decoder, queries, keys;
};
// Of at most `modes` each, for an encoder of L and a decoder of `steps`.
ModeSets published_modes(std::int64_t L, std::int64_t steps, std::int64_t modes);

struct FedformerShape : DecompositionShape {
  FedformerShape(DecompositionShape shape, ModeSets sets)
      : DecompositionShape(std::move(shape)), modes(std::move(sets)) {}
  ModeSets modes;
};

class Fedformer : public StepNetwork<FedformerShape> {
 public:
  explicit Fedformer(FedformerShape shape);

  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  DecompositionNetwork network_;
  struct Block {
    std::int64_t weight = 0, index = 0;
  };
  Block encoder_, decoder_, cross_;
  std::int64_t keys_ = 0;
};

ModelRow fedformer_row();

}  // namespace samformer::model
