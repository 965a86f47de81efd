// TSMixer (Chen et al. 2023) inside RevIN: blocks that mix the steps of each channel, then the channels of each step,
//
//   h += dropout(act(norm(h) W_t + b_t))                                          W_t [L, L], on time
//   h += dropout(dropout(act(norm(h)' W_1 + b_1)) W_2 + b_2)'                     W_1 [ff, D], W_2 [D, ff], on channels
//   f = h W + b                                                                   W [H, L]
//
// norm: batch norm per (channel, step) over the batch, or layer norm over a sample's channels and steps, weights
// [D, L]. Published: each block has its own layers, `blocks.B.time_norm`, `.time`, `.feature_norm`, `.feature_in`,
// `.feature_out`; `shared`, as in SAMformer's official repository: all blocks use one `norm`, `time`, `feature_in`,
// `feature_out`. Running averages (not trained) move at every use in SAM's first pass, never in its second; dropout
// draws new masks in each pass. Trained parameters: with m = L^2 + L + 2 ff D + ff + D, shared m + 2 D L + 513 H + 2 D
// (L = 512), published blocks (m + 4 D L) + 513 H + 2 D: 320053 and, with 2 blocks, 605180 for D 7, H 96, ff 64.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

enum class Norm { batch, layer };

struct TsMixerShape {
  std::int64_t D = 7;
  std::int64_t L = 512;
  std::int64_t H = 96;
  std::int64_t blocks = 2;
  std::int64_t ff = 64;
  double dropout = 0.9;
  Norm norm = Norm::batch;
  Activation activation = Activation::relu;
  bool shared = false;
};

class TsMixer {
 public:
  explicit TsMixer(TsMixerShape shape);

  const TsMixerShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  static constexpr bool has_revin() { return true; }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const;
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const;

 private:
  struct NormLayer {
    std::int64_t weight = 0, bias = 0, running_mean = 0, running_var = 0;  // offsets
  };
  struct Block {
    NormLayer time_norm, feature_norm;  // one and the same where shared
    Dense time, feature_in, feature_out;
  };

  TsMixerShape shape_;
  ParameterTable table_;
  RevinAffine affine_;
  Dense head_;
  std::vector<Block> blocks_;        // one where shared
  std::vector<std::string> layers_;  // names of the linear layers, the head apart
};

ModelRow tsmixer_row();

}  // namespace samformer::model
