#include "model/step_network.h"

#include <algorithm>
#include <cmath>

namespace samformer::model {

void check_sizes(const char* network, const StepSizes& z) {
  SAMFORMER_CHECK(
      z.D > 0 && z.L > 0 && z.H > 0 && z.d > 0 && z.f > 0 && z.layers > 0 && z.decoder_layers > 0 && z.marks >= 0 &&
          z.label >= 0,
      "{}: sizes must be positive, found D {}, L {}, H {}, d {}, f {}, {} and {} layers, {} marks, label {}", network,
      z.D, z.L, z.H, z.d, z.f, z.layers, z.decoder_layers, z.marks, z.label);
  if (z.label > z.L) {
    throw Error(Exit::usage,
                fmt::format("--model {}: --label {} is longer than the look-back of {}", network, z.label, z.L))
        .hint(fmt::format("take --label {} or a longer --lookback", z.L / 2));
  }
  check_heads(network, z.d, z.heads);
}

Convolution::Convolution(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in,
                         std::int64_t width, bool has_bias)
    : out(out), in(in), width(width), weight(table.add(name + ".weight", Shape{out, in, width})) {
  if (has_bias) bias = table.add(name + ".bias", Shape{out});
}

StepEmbedding::StepEmbedding(ParameterTable& table, const std::string& name, const StepSizes& z, bool biases,
                             bool positions)
    : values(table, name + ".value_embedding.tokenConv", z.d, z.D, 3, biases), positions(positions) {
  if (z.marks == 0) return;
  const std::string embed = name + ".temporal_embedding.embed";
  marks.out = z.d, marks.in = z.marks, marks.width = 1;
  marks.weight = table.add(embed + ".weight", Shape{z.d, z.marks});
  if (biases) marks.bias = table.add(embed + ".bias", Shape{z.d});
}

void StepEmbedding::initialise(float* weights, const ParameterTable& table, const std::string& name, std::uint64_t seed,
                               Init init) {
  const std::string values = name + ".value_embedding.tokenConv", marks = name + ".temporal_embedding.embed";
  draw_dense(weights, table, values, seed, init);
  if (init == Init::pytorch) {
    const Shape shape = table.find(values + ".weight").shape;
    draw_normal(weights, table, values + ".weight", seed, std::sqrt(2 / static_cast<double>(shape[1] * shape[2])));
  }
  if (table.has(marks + ".weight")) draw_dense(weights, table, marks, seed, init);
}

AttentionMaps::AttentionMaps(ParameterTable& table, const std::string& name, std::int64_t d, std::int64_t width) {
  const auto map = [&](const char* which, std::int64_t steps) -> Dense {
    const std::string of = name + which;
    if (steps == 1) return add_dense(table, of, d, d);
    const std::int64_t weight = table.add(of + ".weight", Shape{d, d, steps});
    return {d, d * steps, weight, table.add(of + ".bias", Shape{d})};
  };
  queries = map(".query_projection", width), keys = map(".key_projection", width);
  values = map(".value_projection", 1), out = map(".out_projection", 1);
}

void AttentionMaps::initialise(float* weights, const ParameterTable& table, const std::string& name, std::uint64_t seed,
                               Init init) {
  for (const char* map : {".query_projection", ".key_projection", ".value_projection", ".out_projection"}) {
    draw_dense(weights, table, name + map, seed, init);
  }
}

std::string encoder_layer(std::size_t i) { return fmt::format("encoder.attn_layers.{}.", i); }
std::string decoder_layer(std::size_t i) { return fmt::format("decoder.layers.{}.", i); }

EncoderDecoder::EncoderDecoder(ParameterTable& table, const char* network, const StepSizes& z, bool biases,
                               std::int64_t width, std::string projection)
    : shape_(z), width_(width), projection_name_(std::move(projection)) {
  check_sizes(network, z);
  SAMFORMER_CHECK(width > 0, "{}: queries of {} steps", network, width);
  encoder_embedding_ = StepEmbedding(table, "enc_embedding", z, biases, true);
  decoder_embedding_ = StepEmbedding(table, "dec_embedding", z, biases, true);
  for (std::size_t i = 0; std::ssize(encoder_) < z.layers; ++i) {
    encoder_.push_back(add_layer(table, encoder_layer(i), false));
  }
  encoder_norm_ = NormLayer(table, "encoder.norm", z.d);
  for (std::size_t i = 0; std::ssize(decoder_) < z.decoder_layers; ++i) {
    decoder_.push_back(add_layer(table, decoder_layer(i), true));
  }
  decoder_norm_ = NormLayer(table, "decoder.norm", z.d);
  projection_ = add_dense(table, projection_name_, z.D, z.d);
  affine_ = RevinAffine(table, z.D, z.revin);
}

EncoderDecoder::StepLayer EncoderDecoder::add_layer(ParameterTable& table, const std::string& name,
                                                    bool decodes) const {
  const std::int64_t d = shape_.d;
  StepLayer layer;
  layer.self = AttentionMaps(table, name + (decodes ? "self_attention" : "attention"), d, width_);
  if (decodes) layer.cross = AttentionMaps(table, name + "cross_attention", d);
  layer.first = add_pointwise(table, name + "conv1", shape_.f, d);
  layer.second = add_pointwise(table, name + "conv2", d, shape_.f);
  for (int i = 1; i <= (decodes ? 3 : 2); ++i) layer.norms.emplace_back(table, fmt::format("{}norm{}", name, i), d);
  return layer;
}

void EncoderDecoder::initialise(float* weights, const ParameterTable& table, std::uint64_t seed, Init init,
                                HeadInit head) const {
  std::fill(weights, weights + table.slab_size(), 0.0f);
  for (const char* name : {"enc_embedding", "dec_embedding"}) {
    StepEmbedding::initialise(weights, table, name, seed, init);
  }
  const auto draw = [&](const StepLayer& l, const std::string& name, bool decodes) {
    AttentionMaps::initialise(weights, table, name + (decodes ? "self_attention" : "attention"), seed, init);
    if (decodes) AttentionMaps::initialise(weights, table, name + "cross_attention", seed, init);
    for (const char* map : {"conv1", "conv2"}) draw_dense(weights, table, name + map, seed, init);
    for (const NormLayer& norm : l.norms) norm.initialise(weights);
  };
  for (std::size_t i = 0; i < encoder_.size(); ++i) draw(encoder_[i], encoder_layer(i), false);
  for (std::size_t i = 0; i < decoder_.size(); ++i) draw(decoder_[i], decoder_layer(i), true);
  encoder_norm_.initialise(weights);
  decoder_norm_.initialise(weights);
  if (head == HeadInit::as_init) draw_dense(weights, table, projection_name_, seed, init);
  affine_.initialise(weights);
}

std::vector<ModelOption> step_options() {
  return {attention_width(512),
          feed_forward_width(2048),
          head_count(8),
          layer_count(2),
          {.name = "decoder-layers",
           .otherwise = 1,
           .value_name = "N",
           .help = "of the decoder",
           .range = {.low = 1, .high = 64}},
          {.name = "label",
           .otherwise = 48,
           .value_name = "P",
           .help = "steps of the look-back that the decoder gets too",
           .range = {.low = 0}},
          dropout_rate(0.05),
          revin_option()};
}

StepSizes step_sizes(Sizes s, const OptionValues& o) {
  const auto number = [&](std::string_view name) { return o.get<std::int64_t>(name); };
  return {s.D,
          s.L,
          s.H,
          s.marks,
          number("label"),
          number("d-model"),
          number("d-ff"),
          number("heads"),
          number("layers"),
          number("decoder-layers"),
          o.get<double>("dropout"),
          o.get<bool>("revin")};
}

ModelRow::Settings step_defaults() {
  return {{"stats-mix", "0"}, {"rho", "0"}, {"init", "pytorch"}, {"head-init", "as-init"}, {"lr", "1e-4"}};
}

ModelRow::Settings published_steps() {
  ModelRow::Settings all = published_training();
  all.insert(all.end(), {{"lookback", "96"}, {"label", "48"}});
  return all;
}

ModelRow step_row(std::string_view name, std::string_view summary) {
  return {.name = name,
          .summary = summary,
          .options = step_options(),
          .defaults = step_defaults(),
          .fixed = {{"precision", "float32"}},
          .head = "decoder.projection.weight",
          .head_reads_window = false,
          .head_rows = ModelRow::HeadRows::channels,
          .marks_weight = "enc_embedding.temporal_embedding.embed.weight",
          .published = [](std::string_view, std::int64_t) { return published_steps(); }};
}

}  // namespace samformer::model
