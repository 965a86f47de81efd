#include "model/decomposition.h"

#include <algorithm>

#include "kernels/steps.h"

namespace samformer::model {
namespace {

// Functions: a static model of another file may be made first.
std::vector<std::string> encoder_attentions() { return {"attention"}; }
std::vector<std::string> decoder_attentions() { return {"self_attention", "cross_attention"}; }

}  // namespace

DecompositionNetwork::Mixture DecompositionNetwork::add_mixture(ParameterTable& table, const std::string& name) const {
  if (!mixture_) return {};
  const auto count = static_cast<std::int64_t>(shape_.widths.size());
  const std::int64_t weight = table.add(name + ".layer.weight", Shape{count, 1});
  return {weight, table.add(name + ".layer.bias", Shape{count})};
}

DecompositionNetwork::Layer DecompositionNetwork::add_layer(ParameterTable& table, const std::string& prefix,
                                                            const std::vector<std::string>& attentions) const {
  const std::int64_t d = shape_.d, f = shape_.f;
  Layer layer;
  for (const std::string& attention : attentions) layer.attention.emplace_back(table, prefix + attention, d);
  layer.first = Convolution(table, prefix + "conv1", f, d, 1, false);
  layer.second = Convolution(table, prefix + "conv2", d, f, 1, false);
  for (std::size_t i = 0; i <= attentions.size(); ++i) {
    layer.mixtures.push_back(add_mixture(table, prefix + fmt::format("decomp{}", i + 1)));
  }
  return layer;
}

DecompositionNetwork::DecompositionNetwork(ParameterTable& table, const char* network, DecompositionShape shape,
                                           bool mixture)
    : shape_(std::move(shape)), mixture_(mixture) {
  const DecompositionShape& z = shape_;
  check_sizes(network, z);
  SAMFORMER_CHECK(!z.widths.empty() && z.widths.size() <= kernels::most_averages, "{}: {} averages", network,
                  z.widths.size());
  start_ = add_mixture(table, "decomp");
  encoder_embedding_ = StepEmbedding(table, "enc_embedding", z, false, false);
  decoder_embedding_ = StepEmbedding(table, "dec_embedding", z, false, false);
  for (std::size_t i = 0; i < static_cast<std::size_t>(z.layers); ++i) {
    encoder_.push_back(add_layer(table, encoder_layer(i), encoder_attentions()));
  }
  encoder_norm_ = NormLayer(table, "encoder.norm.layernorm", z.d);
  for (std::size_t i = 0; i < static_cast<std::size_t>(z.decoder_layers); ++i) {
    Layer& layer = decoder_.emplace_back(add_layer(table, decoder_layer(i), decoder_attentions()));
    layer.trend = Convolution(table, decoder_layer(i) + "projection", z.D, z.d, 3, false);
  }
  decoder_norm_ = NormLayer(table, "decoder.norm.layernorm", z.d);
  projection_ = add_dense(table, "decoder.projection", z.D, z.d);
  affine_ = RevinAffine(table, z.D, z.revin);
}

void DecompositionNetwork::initialise(float* weights, const ParameterTable& table, std::uint64_t seed, Init init,
                                      HeadInit head) const {
  std::fill(weights, weights + table.slab_size(), 0.0f);
  const auto draw = [&](const std::string& name) { draw_dense(weights, table, name, seed, init); };
  const auto draw_layer = [&](const std::string& prefix, const std::vector<std::string>& attentions) {
    for (const std::string& attention : attentions) {
      AttentionMaps::initialise(weights, table, prefix + attention, seed, init);
    }
    for (const char* name : {"conv1", "conv2"}) draw(prefix + name);
    for (std::size_t i = 0; mixture_ && i <= attentions.size(); ++i)
      draw(prefix + fmt::format("decomp{}.layer", i + 1));
  };
  if (mixture_) draw("decomp.layer");
  for (const char* name : {"enc_embedding", "dec_embedding"}) {
    StepEmbedding::initialise(weights, table, name, seed, init);
  }
  for (std::size_t i = 0; i < encoder_.size(); ++i) draw_layer(encoder_layer(i), encoder_attentions());
  for (std::size_t i = 0; i < decoder_.size(); ++i) {
    draw_layer(decoder_layer(i), decoder_attentions());
    draw(decoder_layer(i) + "projection");
  }
  encoder_norm_.initialise(weights);
  decoder_norm_.initialise(weights);
  affine_.initialise(weights);
  if (head == HeadInit::as_init) draw("decoder.projection");
}

}  // namespace samformer::model
