#include "model/informer.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

std::string encoder_name(std::size_t i) { return fmt::format("encoder.attn_layers.{}.", i); }
std::string decoder_name(std::size_t i) { return fmt::format("decoder.layers.{}.", i); }
std::string distilling_name(std::size_t i) { return fmt::format("encoder.conv_layers.{}.", i); }

}  // namespace

Informer::Informer(InformerShape shape) : shape_(shape) {
  check_sizes("informer", shape_);
  SAMFORMER_CHECK(shape_.factor > 0, "informer: a factor of at least 1, found {}", shape_.factor);
  encoder_embedding_ = StepEmbedding(table_, "enc_embedding", shape_, shape_.official, true);
  decoder_embedding_ = StepEmbedding(table_, "dec_embedding", shape_, shape_.official, true);
  const std::int64_t d = shape_.d;
  for (std::size_t i = 0; std::ssize(encoder_) < shape_.layers; ++i) {
    encoder_.push_back(add_layer(encoder_name(i), false));
    if (!shape_.distil || std::ssize(encoder_) == shape_.layers) continue;
    distilling_.push_back({Convolution(table_, distilling_name(i) + "downConv", d, d, 3, true),
                           NormLayer(table_, distilling_name(i) + "norm", d)});
  }
  encoder_norm_ = NormLayer(table_, "encoder.norm", d);
  for (std::size_t i = 0; std::ssize(decoder_) < shape_.decoder_layers; ++i) {
    decoder_.push_back(add_layer(decoder_name(i), true));
  }
  decoder_norm_ = NormLayer(table_, "decoder.norm", d);
  projection_ = add_dense(table_, projection_name(), shape_.D, d);
  affine_ = RevinAffine(table_, shape_.D, shape_.revin);
  for (std::size_t i = 0; i < distilling_.size(); ++i)
    distilling_[i].norm.add_running(table_, distilling_name(i) + "norm");
}

Informer::StepLayer Informer::add_layer(const std::string& name, bool decodes) {
  const std::int64_t d = shape_.d;
  StepLayer layer;
  layer.self = AttentionMaps(table_, name + (decodes ? "self_attention" : "attention"), d);
  if (decodes) layer.cross = AttentionMaps(table_, name + "cross_attention", d);
  layer.first = add_pointwise(table_, name + "conv1", shape_.f, d);
  layer.second = add_pointwise(table_, name + "conv2", d, shape_.f);
  for (int i = 1; i <= (decodes ? 3 : 2); ++i) layer.norms.emplace_back(table_, fmt::format("{}norm{}", name, i), d);
  return layer;
}

void Informer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
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
  for (std::size_t i = 0; i < distilling_.size(); ++i) {
    draw_dense(weights, table_, distilling_name(i) + "downConv", seed, init);
    distilling_[i].norm.initialise(weights);
  }
  encoder_norm_.initialise(weights);
  decoder_norm_.initialise(weights);
  if (head == HeadInit::as_init) draw_dense(weights, table_, projection_name(), seed, init);
  affine_.initialise(weights);
}

template <class T, class On>
Output<T, On> Informer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                const Pass& pass) const {
  const std::int64_t N = check_windows("informer", input, shape_.D, shape_.L), d = shape_.d, heads = shape_.heads;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const StepLayers<T, On> with{tape, slab, dropout, N};
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const StepInput<T, On> in = steps_of(input, affine_.apply(input, affine), shape_.marks);

  int sites = 0;  // of draws
  const auto sparse = [&](const AttentionMaps& a, Var<T, On> x, Var<T, On> from, bool masked, bool heads_first) {
    ProbSparse how{shape_.factor, masked, heads_first};
    if (pass.training) how.sampling.seed = pass.seed, how.sampling.step = pass.step;
    how.sampling.progress = pass.training ? pass.progress : nullptr;
    how.sampling.site = sites;
    if (static_cast<std::size_t>(sites) < given_.size()) {
      how.sampling.given = given_[static_cast<std::size_t>(sites)].data();
    }
    ++sites;
    const Var<T, On> context = prob_sparse_attention(with.plain(a.queries, x), with.plain(a.keys, from, true),
                                                     with.plain(a.values, from), N, heads, how);
    return with.dropped(a.out, context, Activation::none, x);
  };
  // What a batch norm makes of a constant added to its input: nothing.
  const auto removed = [&](std::int64_t bias) {
    return pass.training ? slab.constant(bias, Shape{d}) : slab(bias, Shape{d});
  };
  const auto distilled = [&](const Distilling& l, Var<T, On> x) {
    const std::int64_t steps = x.value().rows() / N, before = shape_.official ? 1 : 2;
    const Unfold how{.rows = steps + 2 * (before - 1), .first = -before, .circular = true};
    const Var<T, On> y = bias_activation(convolution(x, N, with.weight(l.convolution), how),
                                         removed(l.convolution.bias), Activation::none);
    const Shape features{d};
    const Running<T> running{slab.tensor(l.norm.running_mean, features),
                             slab.tensor(l.norm.running_var, features),
                             pass.training,
                             pass.training && pass.number == 0,
                             pass.progress,
                             kernels::pytorch_norm};
    const Var<T, On> z = batch_norm(y, slab(l.norm.weight, features), slab(l.norm.bias, features), running);
    return max_pool(bias_activation(z, {}, Activation::elu), N);
  };

  Var<T, On> x = with.embed(encoder_embedding_, in);
  for (std::size_t i = 0; i < encoder_.size(); ++i) {
    const StepLayer& l = encoder_[i];
    x = with.normalised(l.norms[0], sparse(l.self, x, x, false, !shape_.official));
    x = with.feed_forward(l.first, l.second, x);
    if (i < distilling_.size()) {
      x = layer_norm(x, slab(l.norms[1].weight, Shape{d}), removed(l.norms[1].bias), kernels::pytorch_norm.epsilon);
      x = distilled(distilling_[i], x);
    } else {
      x = with.normalised(l.norms[1], x);
    }
  }
  x = with.normalised(encoder_norm_, x);
  Var<T, On> y = with.embed(decoder_embedding_, decoder_input(in, N, shape_));
  for (const StepLayer& l : decoder_) {
    y = with.normalised(l.norms[0], sparse(l.self, y, y, true, true));
    if (shape_.official) {
      const AttentionMaps& a = l.cross;
      const Var<T, On> context = multi_head_attention<T, On>(with.plain(a.queries, y), with.plain(a.keys, x, true),
                                                             with.plain(a.values, x), N, heads, dropout())
                                     .context;
      y = with.dropped(a.out, context, Activation::none, y);
    } else {
      y = sparse(l.cross, y, x, false, true);
    }
    y = with.normalised(l.norms[1], y);
    y = with.normalised(l.norms[2], with.feed_forward(l.first, l.second, y));
  }
  y = with.normalised(decoder_norm_, y);
  return {with.forecast(projection_, y, shape_.H), affine};
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Informer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: scripts/ETTh1.sh of zhouhaoyi/Informer2020 for its own variant; the other one as PatchTST's authors ran it,
// look-back 96.
ModelRow informer_row() {
  std::vector<ModelOption> options = step_options();
  options.push_back({.name = "informer",
                     .otherwise = std::string("ltsf"),
                     .help = "the variant: that behind the quoted numbers, or the authors'",
                     .choices = {"ltsf", "official"}});
  options.push_back({.name = "factor",
                     .otherwise = 5,
                     .value_name = "C",
                     .help = "C ln T of T steps: delays; of informer queries and keys",
                     .range = {.low = 1}});
  return {.name = "informer",
          .summary = "Informer: an encoder-decoder over steps, attention of the queries that sampled keys pick",
          .options = std::move(options),
          .defaults = step_defaults(),
          .fixed = {{"precision", "float32"}},
          .head = "decoder.projection.weight",
          .head_reads_window = false,
          .head_rows = ModelRow::HeadRows::channels,
          .other_head = "projection.weight",
          .marks_weight = "enc_embedding.temporal_embedding.embed.weight",
          .published =
              [](std::string_view, std::int64_t H) {
                ModelRow::Settings all = published_steps();
                all.insert(all.end(), {{"epochs", "6"}});
                if (H > 96)
                  all.insert(all.end(), {{"lookback", H > 336 ? "336" : "168"}, {"label", H > 336 ? "336" : "168"}});
                return all;
              },
          .make = [](Sizes s, const OptionValues& o) -> Model {
            return Informer(
                {step_sizes(s, o), o.get<std::string>("informer") == "official", o.get<std::int64_t>("factor"), true});
          }};
}

}  // namespace samformer::model
