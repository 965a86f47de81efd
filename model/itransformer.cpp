#include "model/itransformer.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {

ITransformer::ITransformer(ITransformerShape shape) : shape_(shape) {
  const auto [D, L, H, d, f, heads, layers, dropout] = shape_;
  SAMFORMER_CHECK(D > 0 && L > 0 && H > 0 && d > 0 && f > 0 && layers > 0,
                  "itransformer: D, L, H, d, f and layers must be positive, found {}, {}, {}, {}, {}, {}", D, L, H, d,
                  f, layers);
  check_heads("itransformer", d, heads);
  embedding_ = add_dense(table_, "enc_embedding.value_embedding", d, L);
  layers_.resize(static_cast<std::size_t>(layers));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    EncoderLayer& layer = layers_[i];
    const std::string prefix = fmt::format("encoder.attn_layers.{}.", i), attention = prefix + "attention.";
    add_side_by_side(table_,
                     {{attention + "query_projection", &layer.queries},
                      {attention + "key_projection", &layer.keys},
                      {attention + "value_projection", &layer.values}},
                     d, d);
    layer.out = add_dense(table_, attention + "out_projection", d, d);
    layer.first = add_pointwise(table_, prefix + "conv1", f, d);
    layer.second = add_pointwise(table_, prefix + "conv2", d, f);
    layer.attention_norm = NormLayer(table_, prefix + "norm1", d);
    layer.norm = NormLayer(table_, prefix + "norm2", d);
  }
  norm_ = NormLayer(table_, "encoder.norm", d);
  projector_ = add_dense(table_, "projector", H, d);
}

void ITransformer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  draw_dense(weights, table_, "enc_embedding.value_embedding", seed, init);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::string prefix = fmt::format("encoder.attn_layers.{}.", i);
    for (const char* name : {"attention.query_projection", "attention.key_projection", "attention.value_projection",
                             "attention.out_projection", "conv1", "conv2"}) {
      draw_dense(weights, table_, prefix + name, seed, init);
    }
    layers_[i].attention_norm.initialise(weights);
    layers_[i].norm.initialise(weights);
  }
  norm_.initialise(weights);
  if (head == HeadInit::as_init) draw_dense(weights, table_, "projector", seed, init);
}

template <class T, class On>
Output<T, On> ITransformer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                    const Pass& pass) const {
  const std::int64_t D = shape_.D, d = shape_.d, N = check_windows("itransformer", input, D, shape_.L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const auto layer = [&](const Dense& dense, Var<T, On> x, Activation activation, Var<T, On> residual = {}) {
    return bias_activation(linear(x, slab.weight(dense)), slab.bias(dense), activation, residual, dropout());
  };
  const auto normalised = [&](const NormLayer& norm, Var<T, On> x) {
    return layer_norm(x, slab(norm.weight, Shape{d}), slab(norm.bias, Shape{d}), kernels::pytorch_norm.epsilon);
  };

  const Var<T, On> windows = reshape(input.xhat, Shape{N * D, shape_.L});
  Var<T, On> z = layer(embedding_, input.marks ? join_rows(windows, input.marks, N) : windows, Activation::none);
  Output<T, On> out;
  out.map.heads = shape_.heads;
  for (const EncoderLayer& l : layers_) {
    const Projected<T, On> p =
        layers(z, {slab.layer(l.queries), slab.layer(l.keys, d, true), slab.layer(l.values, 2 * d)});
    out.map.q = p.columns(0, d), out.map.k = p.columns(d, d);
    const Attended<T, On> attended =
        multi_head_attention(out.map.q, out.map.k, p.columns(2 * d, d), N, shape_.heads, dropout());
    out.map.lse = attended.lse;
    z = normalised(l.attention_norm, layer(l.out, attended.context, Activation::none, z));
    z = normalised(l.norm, layer(l.second, layer(l.first, z, Activation::gelu), Activation::none, z));
  }
  out.z = slab.head(projector_, normalised(norm_, first_rows(z, N, D)));
  return out;
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(ITransformer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: scripts/multivariate_forecasting of thuml/iTransformer.
ModelRow itransformer_row() {
  return {
      .name = "itransformer",
      .summary = "iTransformer: attention over channels and the dates' marks, a token a window",
      .options = {attention_width(256), feed_forward_width(256), head_count(8), layer_count(2), dropout_rate(0.1)},
      .defaults = {{"stats-mix", "0"}, {"rho", "0"}, {"init", "pytorch"}, {"head-init", "as-init"}, {"lr", "1e-4"}},
      .fixed = {{"precision", "float32"}},
      .head = "projector.weight",
      .head_reads_window = false,
      .published = [](std::string_view, std::int64_t H) -> ModelRow::Settings {
        ModelRow::Settings all = published_training();
        const char* const width = H > 192 ? "512" : "256";
        all.insert(all.end(), {{"lookback", "96"}, {"d-model", width}, {"d-ff", width}});
        return all;
      },
      .make = [](Sizes s, const OptionValues& o) -> Model {
        return ITransformer({s.D, s.L, s.H, o.get<std::int64_t>("d-model"), o.get<std::int64_t>("d-ff"),
                             o.get<std::int64_t>("heads"), o.get<std::int64_t>("layers"), o.get<double>("dropout")});
      }};
}

}  // namespace samformer::model
