#include "model/transformer.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

constexpr const char* attention_layers[] = {"compute_queries", "compute_keys", "compute_values", "output_projection"};

}  // namespace

Transformer::Transformer(TransformerShape shape) : shape_(shape) {
  const auto [D, L, H, d_m, attention, revin] = shape_;
  SAMFORMER_CHECK(D > 0 && L > 0 && H > 0 && d_m > 0,
                  "transformer: D, L, H and d_m must be positive, found {}, {}, {}, {}", D, L, H, d_m);
  head_ = add_dense(table_, "linear_forecaster", H, L);
  affine_ = RevinAffine(table_, D, revin);
  const bool trained = attention != Attention::frozen;
  if (attention == Attention::identity) {
    layers_.values = add_dense(table_, "compute_values", d_m, L, trained);
  } else {
    layers_ = add_attention(table_, d_m, L, trained);
  }
  output_ = add_dense(table_, "output_projection", L, d_m, trained);
  if (attention == Attention::sigma_reparam) {
    for (std::size_t i = 0; i < gains_.size(); ++i) {
      gains_[i] = table_.add(std::string(attention_layers[i]) + ".gamma", Shape{1});
    }
  }
}

void Transformer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  const double keras = keras_attention_limit(shape_.L, shape_.d_m);
  const bool scores = shape_.attention != Attention::identity;
  for (const char* layer : {"compute_values", "compute_queries", "compute_keys"}) {
    if (scores || std::string_view(layer) == "compute_values") draw_dense(weights, table_, layer, seed, init, keras);
  }
  draw_dense(weights, table_, "output_projection", seed, init);
  if (head == HeadInit::as_init) draw_dense(weights, table_, "linear_forecaster", seed, init);
  affine_.initialise(weights);
  if (shape_.attention == Attention::sigma_reparam) {
    for (const std::int64_t gain : gains_) weights[gain] = 1;
  }
}

template <class T, class On>
Output<T, On> Transformer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                   const Pass&) const {
  const std::int64_t D = shape_.D, d_m = shape_.d_m, N = check_windows("transformer", input, D, shape_.L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const Var<T, On> u = affine_.apply(input, affine);
  Layer<T, On> values = slab.layer(layers_.values), output = slab.layer(output_);
  Output<T, On> out{{}, affine};
  Var<T, On> context;
  if (shape_.attention == Attention::identity) {
    context = linear(u, values.weight, values.bias);
  } else {
    Layer<T, On> queries = slab.layer(layers_.queries, d_m), keys = slab.layer(layers_.keys, 2 * d_m, true);
    if (shape_.attention == Attention::sigma_reparam) {
      const auto gain = [&](std::size_t i) { return slab(gains_[i], Shape{1}); };
      const auto scaled = spectral_reparam<T, On>(
          {{values.weight, gain(2)}, {queries.weight, gain(0)}, {keys.weight, gain(1)}, {output.weight, gain(3)}});
      values.weight = scaled[0], queries.weight = scaled[1], keys.weight = scaled[2], output.weight = scaled[3];
    }
    const Projected<T, On> p = layers(u, {values, queries, keys});
    out.map.q = p.columns(d_m, d_m), out.map.k = p.columns(2 * d_m, d_m);
    context = channel_attention(out.map.q, out.map.k, p.columns(0, d_m), D, &out.map.lse);
  }
  out.z = slab.head(head_, bias_activation(linear(context, output.weight), output.bias, Activation::none, u));
  return out;
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Transformer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

namespace {

ModelRow variant_row(std::string_view name, std::string_view summary) {
  return {.name = name, .summary = summary, .options = {attention_width()}, .fixed = {{"precision", "float32"}}};
}

template <Attention attention, bool revin = true>
Model make(Sizes s, const OptionValues& o) {
  return Transformer({s.D, s.L, s.H, o.get<std::int64_t>("d-model"), attention, revin});
}

}  // namespace

ModelRow random_transformer_row() {
  ModelRow row = variant_row("random-transformer", "attention stays as it was drawn; without RevIN");
  row.defaults = {{"rho", "0"}};
  row.fixed.insert(row.fixed.end(), {{"stats-mix", "0"}, {"center", "mean"}});
  row.make = make<Attention::frozen, false>;
  return row;
}

ModelRow identity_row() {
  ModelRow row = variant_row("identity", "samformer whose attention is the identity");
  row.make = make<Attention::identity>;
  return row;
}

ModelRow sigma_reparam_row() {
  ModelRow row = variant_row("sigma-reparam", "weights of attention divided by their spectral norm, instead of SAM");
  row.defaults = {{"stats-mix", "0"}, {"rho", "0"}};
  row.make = make<Attention::sigma_reparam>;
  return row;
}

}  // namespace samformer::model
