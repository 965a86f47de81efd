// What Autoformer and FEDformer share (Wu et al. 2021; Zhou et al. 2022): an encoder-decoder of tokens by step, each
// layer's sums decomposed into a seasonal part, that goes on, and a trend, that the decoder collects:
//
//   Dec(x) = (x - A x, A x),  A: a mixture of moving averages (kernels/steps.h);  SLN(x) = LN(x) - its mean over steps
//   enc: x <- seasonal of Dec(x + W_O Att(x));  x <- seasonal of Dec(x + W_2 gelu(W_1 x))    `layers` times, then SLN
//   dec: (y, t1) <- Dec(y + W_O Att(y));  (y, t2) <- Dec(y + W_O Att(y, enc));  (y, t3) <- Dec(y + W_2 gelu(W_1 y));
//        trend <- trend + C (t1 + t2 + t3)                                                      `decoder_layers` times
//   f = trend + W SLN(y) + b, the last H steps
//
// It begins with (s, t) = Dec(x): the decoder reads [s's last p steps; H zeros], its trend is [t's last p steps; the
// mean of x over L, H times]. Embeddings (model/step_network.h) have no positions and no biases. C: a circular
// convolution of width 3, d -> D, without a bias; W_1 and W_2 have none either. Dropout after the embeddings, W_O, gelu
// and W_2. Tensors are named as in the official modules.
//
// Exactly zero are the gradients of both SLN's biases and, with one average, of the encoder's output biases: means over
// steps and the decomposition take out what is the same at every step. Which of attention's are, the networks say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/ops/frequency_ops.h"
#include "model/step_network.h"

namespace samformer::model {

struct DecompositionShape : StepSizes {
  std::vector<std::int64_t> widths = {25};  // of the averages
};

// The names and offsets of the tensors, and the formula; what stands in the place of attention is the network's own.
class DecompositionNetwork {
 public:
  // Adds its tensors; `mixture`: there are weights that mix the averages, learned where they are more than one.
  DecompositionNetwork(ParameterTable& table, const char* network, DecompositionShape shape, bool mixture);

  void initialise(float* weights, const ParameterTable& table, std::uint64_t seed, Init init, HeadInit head) const;

  // `attend(place, maps, x, memory)` gives what W_O reads, [N T, d] as x; keys and values are of the memory, which is x
  // itself but in Place::cross.
  template <class T, class On, class Attend>
  Output<T, On> forward(Tape<T, On>& tape, const SlabVars<T, On>& slab, const Normalised<T, On>& input,
                        const Pass& pass, const Attend& attend) const;

 private:
  struct Mixture {
    std::int64_t weight = 0, bias = 0;
  };
  struct Layer {
    std::vector<AttentionMaps> attention;  // of the decoder: its own and the cross attention
    Convolution first, second;             // of width 1
    std::vector<Mixture> mixtures;         // one for each sum
    Convolution trend;                     // the decoder's
  };

  Mixture add_mixture(ParameterTable& table, const std::string& name) const;
  Layer add_layer(ParameterTable& table, const std::string& prefix, const std::vector<std::string>& attentions) const;

  DecompositionShape shape_;
  bool mixture_;
  Mixture start_;
  StepEmbedding encoder_embedding_, decoder_embedding_;
  std::vector<Layer> encoder_, decoder_;
  NormLayer encoder_norm_, decoder_norm_;
  Dense projection_;
  RevinAffine affine_;
};

template <class T, class On, class Attend>
Output<T, On> DecompositionNetwork::forward(Tape<T, On>& tape, const SlabVars<T, On>& slab,
                                            const Normalised<T, On>& input, const Pass& pass,
                                            const Attend& attend) const {
  const DecompositionShape& z = shape_;
  const std::int64_t N = input.N(), averages = static_cast<std::int64_t>(z.widths.size());
  const Var<T, On> none;
  DropoutSites dropout(z.dropout, pass);
  const StepLayers<T, On> layers{tape, slab, dropout, N};
  const auto decomposed = [&](const Mixture& m, Var<T, On> x) {
    if (averages == 1) return decompose_steps(x, N, z.widths);
    return decompose_steps(x, N, z.widths, slab(m.weight, Shape{averages, 1}), slab(m.bias, Shape{averages}));
  };
  const auto attended = [&](Place place, const AttentionMaps& maps, Var<T, On> x, Var<T, On> memory) {
    const Var<T, On> product = linear(attend(place, maps, x, memory), slab.weight(maps.out));
    const bool removed = place == Place::encoder && averages == 1;
    const Var<T, On> bias = removed ? slab.constant(maps.out.bias, Shape{z.d}) : slab.bias(maps.out);
    return bias_activation(product, bias, Activation::none, x, dropout());
  };
  const auto fed_forward = [&](const Layer& l, Var<T, On> x) {
    const auto product = [&](const Convolution& c, Var<T, On> from) {
      return linear(from, reshape(layers.weight(c), Shape{c.out, c.in}));
    };
    const Var<T, On> inside = bias_activation(product(l.first, x), none, Activation::gelu, none, dropout());
    return bias_activation(product(l.second, inside), none, Activation::none, x, dropout());
  };
  const auto normalised = [&](const NormLayer& norm, Var<T, On> x) {
    const Var<T, On> weight = slab(norm.weight, Shape{z.d}), bias = slab.constant(norm.bias, Shape{z.d});
    return less_step_mean(layer_norm(x, weight, bias, kernels::pytorch_norm.epsilon), N);
  };

  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const StepInput<T, On> tokens = steps_of(input, affine_.apply(input, affine), z.marks);
  const auto start = decomposed(start_, tokens.values);
  Var<T, On> x = layers.embed(encoder_embedding_, tokens);
  for (const Layer& l : encoder_) {
    x = decomposed(l.mixtures[0], attended(Place::encoder, l.attention[0], x, x)).seasonal;
    x = decomposed(l.mixtures[1], fed_forward(l, x)).seasonal;
  }
  const Var<T, On> memory = normalised(encoder_norm_, x);

  Var<T, On> trend = unfold(step_mean(tokens.values, N), N, {.rows = z.H, .circular = true});  // the same H times
  if (z.label > 0) trend = join_rows(sample_rows(start.trend, N, z.L - z.label, z.label), trend, N);
  Var<T, On> y = layers.embed(decoder_embedding_, decoder_input(StepInput<T, On>{start.seasonal, tokens.marks}, N, z));
  for (const Layer& l : decoder_) {
    const auto own = decomposed(l.mixtures[0], attended(Place::decoder, l.attention[0], y, y));
    const auto cross = decomposed(l.mixtures[1], attended(Place::cross, l.attention[1], own.seasonal, memory));
    const auto last = decomposed(l.mixtures[2], fed_forward(l, cross.seasonal));
    trend = trend + convolution(own.trend + cross.trend + last.trend, N, layers.weight(l.trend),
                                {.rows = z.decoder_steps(), .first = -1, .circular = true});
    y = last.seasonal;
  }
  const Var<T, On> ahead = transpose(sample_rows(trend, N, z.label, z.H), N);
  return {layers.forecast(projection_, normalised(decoder_norm_, y), z.H) + ahead, affine};
}

}  // namespace samformer::model
