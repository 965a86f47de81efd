// PatchTST (Nie et al., ICLR 2023): each channel's window, a sample of its own, is cut into n patches, the tokens of an
// encoder whose layers pass their scores on,
//
//   z = W_P patch + b + W_pos                                                P -> d, W_pos [n, d]
//   S_l = Q K' / sqrt(d / h) + S_{l-1};  z <- BN(z + W_O softmax(S_l) V);  z <- BN(z + W_2 gelu(W_1 z))
//   f = W vec(z) + b                                                         vec: feature by feature, [d n] -> H
//
// biases on every product, BN over all tokens of the batch (PyTorch's), dropout after W_pos, twice after W_O, after gelu
// and W_2; inside RevIN without a learned scale and shift. n = floor((L - P) / s) + 2 (kernels/patches.h). Tensors are
// named as in the official module. Running averages move in SAM's first pass. A bias of V, W_O or W_2 goes straight into
// a batch norm: without dropout its gradient in training is exactly zero. Parameters, without the averages:
// P d + d + n d + layers (4 d^2 + 2 d f + f + 9 d) + d n H + H: 81728 at L 336, H 96, d 16, f 128.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/patches.h"
#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

struct PatchTstShape {
  std::int64_t D = 7;
  std::int64_t L = 336;
  std::int64_t H = 96;
  std::int64_t d = 16;
  std::int64_t f = 128;
  std::int64_t heads = 4;
  std::int64_t layers = 3;
  std::int64_t patch = 16;
  std::int64_t stride = 8;
  double dropout = 0.3;
};

class PatchTst {
 public:
  explicit PatchTst(PatchTstShape shape);

  const PatchTstShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  static constexpr bool has_revin() { return true; }
  std::int64_t tokens() const { return shape_.D * cut_.count(); }
  std::vector<TokenSteps> map_steps() const;
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  PatchTstShape shape_;
  kernels::PatchShape cut_;
  ParameterTable table_;
  Dense embedding_, head_;
  std::int64_t positions_ = 0;  // offset
  std::vector<EncoderLayer> layers_;
};

ModelRow patchtst_row();

}  // namespace samformer::model
