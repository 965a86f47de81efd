#include "model/logtrans.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

std::string encoder_name(std::size_t i) { return fmt::format("encoder.attn_layers.{}.", i); }
std::string decoder_name(std::size_t i) { return fmt::format("decoder.layers.{}.", i); }

}  // namespace

LogTrans::LogTrans(LogTransShape shape) : shape_(shape) {
  check_sizes("logtrans", shape_);
  SAMFORMER_CHECK(shape_.sub > 0 && shape_.kernel > 0, "logtrans: a pattern and a width of at least 1, found {}, {}",
                  shape_.sub, shape_.kernel);
  encoder_embedding_ = StepEmbedding(table_, "enc_embedding", shape_, false, true);
  decoder_embedding_ = StepEmbedding(table_, "dec_embedding", shape_, false, true);
  for (std::size_t i = 0; std::ssize(encoder_) < shape_.layers; ++i)
    encoder_.push_back(add_layer(encoder_name(i), false));
  encoder_norm_ = NormLayer(table_, "encoder.norm", shape_.d);
  for (std::size_t i = 0; std::ssize(decoder_) < shape_.decoder_layers; ++i) {
    decoder_.push_back(add_layer(decoder_name(i), true));
  }
  decoder_norm_ = NormLayer(table_, "decoder.norm", shape_.d);
  projection_ = add_dense(table_, "decoder.projection", shape_.D, shape_.d);
  affine_ = RevinAffine(table_, shape_.D, shape_.revin);
}

LogTrans::StepLayer LogTrans::add_layer(const std::string& name, bool decodes) {
  const std::string self = name + (decodes ? "self_attention" : "attention");
  const std::int64_t d = shape_.d;
  StepLayer layer;
  layer.self.queries = Convolution(table_, self + ".query_projection", d, d, shape_.kernel, true);
  layer.self.keys = Convolution(table_, self + ".key_projection", d, d, shape_.kernel, true);
  layer.self.values = add_dense(table_, self + ".value_projection", d, d);
  layer.self.out = add_dense(table_, self + ".out_projection", d, d);
  if (decodes) layer.cross = AttentionMaps(table_, name + "cross_attention", d);
  layer.first = add_pointwise(table_, name + "conv1", shape_.f, d);
  layer.second = add_pointwise(table_, name + "conv2", d, shape_.f);
  for (int i = 1; i <= (decodes ? 3 : 2); ++i) layer.norms.emplace_back(table_, fmt::format("{}norm{}", name, i), d);
  return layer;
}

kernels::HeadsMask LogTrans::mask(std::int64_t cells) const {
  return {.kind = kernels::HeadsMask::Kind::log_sparse,
          .cells = static_cast<int>(cells),
          .sub = static_cast<int>(std::min(cells, shape_.sub))};
}

void LogTrans::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  for (const char* name : {"enc_embedding", "dec_embedding"}) {
    StepEmbedding::initialise(weights, table_, name, seed, init);
  }
  const auto layer = [&](const StepLayer& l, const std::string& name, const std::string& self) {
    for (const char* map : {"query_projection", "key_projection", "value_projection", "out_projection"}) {
      draw_dense(weights, table_, name + self + map, seed, init);
      if (l.norms.size() > 2) draw_dense(weights, table_, name + "cross_attention." + map, seed, init);
    }
    for (const char* map : {"conv1", "conv2"}) draw_dense(weights, table_, name + map, seed, init);
    for (const NormLayer& norm : l.norms) norm.initialise(weights);
  };
  for (std::size_t i = 0; i < encoder_.size(); ++i) layer(encoder_[i], encoder_name(i), "attention.");
  for (std::size_t i = 0; i < decoder_.size(); ++i) layer(decoder_[i], decoder_name(i), "self_attention.");
  encoder_norm_.initialise(weights);
  decoder_norm_.initialise(weights);
  if (head == HeadInit::as_init) draw_dense(weights, table_, "decoder.projection", seed, init);
  affine_.initialise(weights);
}

template <class T, class On>
Output<T, On> LogTrans::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                const Pass& pass) const {
  const std::int64_t N = check_windows("logtrans", input, shape_.D, shape_.L), heads = shape_.heads;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const StepLayers<T, On> with{tape, slab, dropout, N};
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const StepInput<T, On> in = steps_of(input, affine_.apply(input, affine), shape_.marks);

  const auto self_attention = [&](const StepLayer& l, Var<T, On> x) {
    const SparseAttention& a = l.self;
    const std::int64_t steps = x.value().rows() / N, d = shape_.d;
    const Unfold causal{.rows = steps, .width = shape_.kernel, .first = 1 - shape_.kernel};
    const Var<T, On> seen = unfold(x, N, causal);  // read by both
    const auto map = [&](const Convolution& c, Var<T, On> bias) {
      return linear(seen, slab(c.weight, Shape{d, c.in * c.width}), bias);
    };
    const Var<T, On> q = map(a.queries, with.bias(a.queries)), k = map(a.keys, slab.constant(a.keys.bias, Shape{d}));
    const Var<T, On> context = masked_attention<T, On>(q, k, with.plain(a.values, x), N, heads, mask(steps), dropout());
    return with.normalised(l.norms[0], with.dropped(a.out, context, Activation::none, x));
  };

  Var<T, On> x = with.embed(encoder_embedding_, in);
  for (const StepLayer& l : encoder_) {
    x = self_attention(l, x);
    x = with.normalised(l.norms[1], with.feed_forward(l.first, l.second, x));
  }
  x = with.normalised(encoder_norm_, x);
  Var<T, On> y = with.embed(decoder_embedding_, decoder_input(in, N, shape_));
  for (const StepLayer& l : decoder_) {
    y = self_attention(l, y);
    const AttentionMaps& a = l.cross;
    const Var<T, On> context = multi_head_attention<T, On>(with.plain(a.queries, y), with.plain(a.keys, x, true),
                                                           with.plain(a.values, x), N, heads, dropout())
                                   .context;
    y = with.normalised(l.norms[1], with.dropped(a.out, context, Activation::none, y));
    y = with.normalised(l.norms[2], with.feed_forward(l.first, l.second, y));
  }
  y = with.normalised(decoder_norm_, y);
  return {with.forecast(projection_, y, shape_.H), affine};
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(LogTrans, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: look-back 96 (FEDformer's table); the rest of the training is Autoformer's.
ModelRow logtrans_row() {
  std::vector<ModelOption> options = step_options();
  options.push_back({.name = "sub-length",
                     .otherwise = 24,
                     .value_name = "N",
                     .help = "steps after which the mask's pattern begins anew",
                     .range = {.low = 1}});
  options.push_back({.name = "qk-kernel",
                     .otherwise = 3,
                     .value_name = "N",
                     .help = "steps that a query and a key are made of",
                     .range = {.low = 1}});
  return {.name = "logtrans",
          .summary = "LogTrans: an encoder-decoder over steps, attention to logarithmically many of them",
          .options = std::move(options),
          .defaults = step_defaults(),
          .fixed = {{"precision", "float32"}},
          .head = "decoder.projection.weight",
          .head_reads_window = false,
          .head_rows = ModelRow::HeadRows::channels,
          .marks_weight = "enc_embedding.temporal_embedding.embed.weight",
          .published = [](std::string_view, std::int64_t) { return published_steps(); },
          .make = [](Sizes s, const OptionValues& o) -> Model {
            return LogTrans({step_sizes(s, o), o.get<std::int64_t>("sub-length"), o.get<std::int64_t>("qk-kernel")});
          }};
}

}  // namespace samformer::model
