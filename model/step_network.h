// What the networks share whose tokens are the steps of a window (Informer and those after it): the inputs of encoder
// and decoder, their embedding, layers and options; and the encoder-decoder of Vaswani et al. (2017), norms behind sums,
// whose decoder forecasts all steps at once:
//
//   x <- LN(x + W_O Att(x));  x <- LN(x + W_2 gelu(W_1 x))                                   encoder, then LN
//   y <- LN(y + W_O Att(y));  y <- LN(y + W_O Att(y, x));  y <- LN(y + W_2 gelu(W_1 y))      decoder, then LN
//   f = W y + b, the last H steps
//
//   tokens      values [N L, D] and marks [N (L + H), M] of the window, step by step (model/data/marks.h)
//   decoder     of p + H tokens: the window's last p steps, then zeros; marks are those of the dates, the horizon's too
//   embedding   value_t + marks_t + pos_t, then dropout:  value_t = sum_j W_j x_{(t + j - 1) mod T} (+ b), j < 3,
//               marks_t = M m_t (+ b), none where the series has no dates; pos_t sinusoids (kernels/unfold.h), or none
//   projection  tokens d -> D, the last H of them
//
// Tensors are named as in the official modules, convolutions [out, in, width]. Errors: Exit::usage where the label p is
// longer than the look-back or heads do not divide d, Exit::data where a series has other marks than the network.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/ops/token_ops.h"
#include "model/model_row.h"
#include "model/network.h"

namespace samformer::model {

struct StepSizes {
  std::int64_t D = 7, L = 96, H = 96;
  std::int64_t marks = 4;  // of an hourly series
  std::int64_t label = 48;
  std::int64_t d = 512, f = 2048, heads = 8;
  std::int64_t layers = 2, decoder_layers = 1;
  double dropout = 0.05;
  bool revin = false;

  std::int64_t decoder_steps() const { return label + H; }
  std::int64_t tokens() const { return L > decoder_steps() ? L : decoder_steps(); }
};
// What the networks' classes share: sizes, tensors, and what they read of the dates.
template <class Shape>
class StepNetwork {
 public:
  const Shape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return table_; }
  bool has_revin() const { return shape_.revin; }
  std::int64_t marks_ahead() const { return shape_.H; }
  std::int64_t tokens() const { return shape_.tokens(); }

 protected:
  explicit StepNetwork(Shape shape) : shape_(std::move(shape)) {}

  Shape shape_;
  ParameterTable table_;
};
// Throws Exit::internal unless all sizes are positive, and the usage errors.
void check_sizes(const char* network, const StepSizes& z);

// A convolution over steps, `name`.weight [out, in, width] and, or not, `name`.bias [out].
struct Convolution {
  std::int64_t out = 0, in = 0, width = 0;
  std::int64_t weight = 0, bias = -1;  // offsets; -1: none

  Convolution() = default;
  Convolution(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in, std::int64_t width,
              bool has_bias);
};

// The embedding `name`.value_embedding.tokenConv and, where there are marks, `name`.temporal_embedding.embed.
struct StepEmbedding {
  Convolution values, marks;  // a linear map is a convolution of width 1, its weight [d, marks]
  bool positions = true;

  StepEmbedding() = default;
  StepEmbedding(ParameterTable& table, const std::string& name, const StepSizes& z, bool biases, bool positions);
  static void initialise(float* weights, const ParameterTable& table, const std::string& name, std::uint64_t seed,
                         Init init);
};

// Attention's four maps, `name`.query_projection and so on; queries and keys of `width` steps, [d, d, width], where they
// are more than one.
struct AttentionMaps {
  Dense queries, keys, values, out;
  AttentionMaps() = default;
  AttentionMaps(ParameterTable& table, const std::string& name, std::int64_t d, std::int64_t width = 1);
  static void initialise(float* weights, const ParameterTable& table, const std::string& name, std::uint64_t seed,
                         Init init);
};

// "encoder.attn_layers.0.", "decoder.layers.0."
std::string encoder_layer(std::size_t i);
std::string decoder_layer(std::size_t i);

// Where attention stands: keys and values are of the same tokens but in Place::cross.
enum class Place { encoder, decoder, cross };

// The steps of a window, for encoder and decoder.
template <class T, class On>
struct StepInput {
  Var<T, On> values;      // [N L, D]
  Var<T, On> marks = {};  // [N (L + ahead), M]; of no tape: none
};
// `values`: windows [N D, L], after RevIN where there is one.
template <class T, class On>
StepInput<T, On> steps_of(const Normalised<T, On>& input, Var<T, On> values, std::int64_t marks) {
  const std::int64_t N = input.N(), found = input.marks ? input.marks.value().shape[1] : 0;
  if (found < marks || (marks == 0 && found > 0)) {
    throw Error(Exit::data, fmt::format("the model reads {} marks of the dates, the series has {}", marks, found))
        .hint("give a file with dates of the step that the model was trained on");
  }
  StepInput<T, On> out{transpose(values, N), {}};
  if (marks == 0) return out;
  const Shape all = input.marks.value().shape;
  out.marks = transpose(reshape(input.marks, Shape{N * all[1], all[2]}), N);
  return out;
}
// The decoder's.
template <class T, class On>
StepInput<T, On> decoder_input(const StepInput<T, On>& in, std::int64_t N, const StepSizes& z) {
  const std::int64_t first = z.L - z.label, steps = z.decoder_steps();
  return {sample_rows(in.values, N, first, steps), in.marks ? sample_rows(in.marks, N, first, steps) : in.marks};
}

// What forward works with: layers of N samples in the slab, dropout where the official modules have it.
template <class T, class On>
struct StepLayers {
  Tape<T, On>& tape;
  const SlabVars<T, On>& slab;
  DropoutSites& dropout;
  std::int64_t N;

  Var<T, On> weight(const Convolution& c) const { return slab(c.weight, Shape{c.out, c.in, c.width}); }
  Var<T, On> bias(const Convolution& c) const { return c.bias < 0 ? Var<T, On>{} : slab(c.bias, Shape{c.out}); }
  // W x + b without dropout; a key's bias has no gradient.
  Var<T, On> plain(const Dense& dense, Var<T, On> x, bool key = false) const {
    const Layer<T, On> layer = slab.layer(dense, 0, key);
    return linear(x, layer.weight, layer.bias);
  }
  // residual + dropout(act(W x + b)).
  Var<T, On> dropped(const Dense& dense, Var<T, On> x, Activation activation = Activation::none,
                     Var<T, On> residual = {}) const {
    return bias_activation(linear(x, slab.weight(dense)), slab.bias(dense), activation, residual, dropout());
  }
  Var<T, On> normalised(const NormLayer& norm, Var<T, On> x, double epsilon = kernels::pytorch_norm.epsilon) const {
    return layer_norm(x, slab(norm.weight, Shape{norm.d}), slab(norm.bias, Shape{norm.d}), epsilon);
  }
  // x + dropout(W_2 dropout(gelu(W_1 x + b_1)) + b_2).
  Var<T, On> feed_forward(const Dense& first, const Dense& second, Var<T, On> x) const {
    const Var<T, On> inside = dropped(first, x, Activation::gelu);
    return dropped(second, inside, Activation::none, x);
  }
  // Attention of every query over every key, dropout on the probabilities: what W_O reads.
  Var<T, On> attention(const AttentionMaps& a, Var<T, On> x, Var<T, On> memory, std::int64_t heads) const {
    return multi_head_attention<T, On>(plain(a.queries, x), plain(a.keys, memory, true), plain(a.values, memory), N,
                                       heads, dropout())
        .context;
  }
  // [N steps, d]; marks behind the values' steps are left out.
  Var<T, On> embed(const StepEmbedding& e, const StepInput<T, On>& in) const {
    const std::int64_t steps = in.values.value().rows() / N;
    Var<T, On> x = convolution(in.values, N, weight(e.values), {.rows = steps, .first = -1, .circular = true});
    const bool marked = e.marks.out > 0;
    Var<T, On> dates;
    if (marked) {
      const Var<T, On> own = sample_rows(in.marks, N, 0, steps);
      dates = linear(own, slab(e.marks.weight, Shape{e.marks.out, e.marks.in}));
      if (e.marks.bias >= 0) dates = bias_activation(dates, bias(e.marks), Activation::none);
    }
    const Dropout last = dropout();
    x = bias_activation(x, bias(e.values), Activation::none, dates, e.positions ? Dropout{} : last);
    if (!e.positions) return x;
    const std::int64_t d = e.values.out;
    const Var<T, On> table = reshape(sinusoids(tape, steps, d), Shape{steps * d});
    return reshape(bias_activation(reshape(x, Shape{N, steps * d}), table, Activation::none, {}, last),
                   Shape{N * steps, d});
  }
  // Forecasts [N D, H]: the last H tokens through the projection d -> D.
  Var<T, On> forecast(const Dense& projection, Var<T, On> tokens, std::int64_t H) const {
    const std::int64_t steps = tokens.value().rows() / N;
    const Var<T, On> ahead = sample_rows(tokens, N, steps - H, H);
    return transpose(linear(ahead, slab.weight(projection), slab.bias(projection)), N);
  }
};

// The encoder-decoder: its tensors and the formula; what stands in the place of attention is the network's own.
class EncoderDecoder {
 public:
  // `biases`: of the embeddings; `width`: of self attention's queries and keys; `projection`: the last map's name. Throws
  // as check_sizes().
  EncoderDecoder(ParameterTable& table, const char* network, const StepSizes& z, bool biases, std::int64_t width,
                 std::string projection = "decoder.projection");

  void initialise(float* weights, const ParameterTable& table, std::uint64_t seed, Init init, HeadInit head) const;

  // `attend(place, maps, x, memory)` gives what W_O reads, [N T, d] as x; `finish(i, norm, sum)` what the encoder's layer
  // i gives, of its last sum.
  template <class T, class On, class Attend, class Finish>
  Output<T, On> forward(const StepLayers<T, On>& with, const Normalised<T, On>& input, const Attend& attend,
                        const Finish& finish) const;

 private:
  struct StepLayer {
    AttentionMaps self, cross;  // cross: the decoder's
    Dense first, second;
    std::vector<NormLayer> norms;  // behind each sum
  };
  StepLayer add_layer(ParameterTable& table, const std::string& name, bool decodes) const;

  StepSizes shape_;
  std::int64_t width_;
  std::string projection_name_;
  StepEmbedding encoder_embedding_, decoder_embedding_;
  std::vector<StepLayer> encoder_, decoder_;
  NormLayer encoder_norm_, decoder_norm_;
  Dense projection_;
  RevinAffine affine_;
};

template <class T, class On, class Attend, class Finish>
Output<T, On> EncoderDecoder::forward(const StepLayers<T, On>& with, const Normalised<T, On>& input,
                                      const Attend& attend, const Finish& finish) const {
  const std::int64_t N = with.N;
  const AffineVars<T, On> affine = affine_.vars(with.slab, N);
  const StepInput<T, On> in = steps_of(input, affine_.apply(input, affine), shape_.marks);
  const auto attended = [&](Place place, const AttentionMaps& maps, Var<T, On> x, Var<T, On> memory) {
    return with.dropped(maps.out, attend(place, maps, x, memory), Activation::none, x);
  };
  Var<T, On> x = with.embed(encoder_embedding_, in);
  for (std::size_t i = 0; i < encoder_.size(); ++i) {
    const StepLayer& l = encoder_[i];
    x = with.normalised(l.norms[0], attended(Place::encoder, l.self, x, x));
    x = finish(i, l.norms[1], with.feed_forward(l.first, l.second, x));
  }
  x = with.normalised(encoder_norm_, x);
  Var<T, On> y = with.embed(decoder_embedding_, decoder_input(in, N, shape_));
  for (const StepLayer& l : decoder_) {
    y = with.normalised(l.norms[0], attended(Place::decoder, l.self, y, y));
    y = with.normalised(l.norms[1], attended(Place::cross, l.cross, y, x));
    y = with.normalised(l.norms[2], with.feed_forward(l.first, l.second, y));
  }
  return {with.forecast(projection_, with.normalised(decoder_norm_, y), shape_.H), affine};
}

// The options, and the sizes that they and the series make.
std::vector<ModelOption> step_options();
StepSizes step_sizes(Sizes s, const OptionValues& o);
ModelRow::Settings step_defaults();
// What their published trainings on every series have in common.
ModelRow::Settings published_steps();
// What the encoder-decoders' rows share.
ModelRow step_row(std::string_view name, std::string_view summary);

}  // namespace samformer::model
