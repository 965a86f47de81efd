#include "model/step_network.h"

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

AttentionMaps::AttentionMaps(ParameterTable& table, const std::string& name, std::int64_t d)
    : queries(add_dense(table, name + ".query_projection", d, d)),
      keys(add_dense(table, name + ".key_projection", d, d)),
      values(add_dense(table, name + ".value_projection", d, d)),
      out(add_dense(table, name + ".out_projection", d, d)) {}

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

}  // namespace samformer::model
