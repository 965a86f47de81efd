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

template <class T>
Output<T> Transformer::forward(Tape<T>& tape, T* weights, T* gradients, const Normalised<T>& input, const Pass&) const {
  const auto [D, L, H, d_m, attention, revin] = shape_;
  check_windows("transformer", input, D, L);
  const SlabVars<T> slab(tape, table_, weights, gradients);
  const AffineVars<T> affine = affine_.vars(tape, slab);
  const Var<T> u = affine_.apply(input, affine);
  const auto weight = [&](const Dense& layer, std::size_t gain) {
    const Var<T> w = slab(layer.weight, Shape{layer.out, layer.in});
    return shape_.attention == Attention::sigma_reparam ? spectral_reparam(w, slab(gains_[gain], Shape{1})) : w;
  };
  const auto bias = [&](const Dense& layer) { return slab(layer.bias, Shape{layer.out}); };

  Output<T> out{{}, affine};
  Var<T> context = linear(u, weight(layers_.values, 2), bias(layers_.values));
  if (attention != Attention::identity) {
    out.q = linear(u, weight(layers_.queries, 0), bias(layers_.queries));
    // The key bias has no gradient, a softmax row is blind to it: its slot, a leaf's, stays zero.
    out.k = linear(u, weight(layers_.keys, 1), tape.constant(bias(layers_.keys).value()));
    context = channel_attention(out.q, out.k, context, D, &out.lse);
  }
  out.z = slab.apply(head_, u + linear(context, weight(output_, 3), bias(output_)));
  return out;
}

template Output<float> Transformer::forward(Tape<float>&, float*, float*, const Normalised<float>&, const Pass&) const;
template Output<double> Transformer::forward(Tape<double>&, double*, double*, const Normalised<double>&,
                                             const Pass&) const;
template Output<Dual<double>> Transformer::forward(Tape<Dual<double>>&, Dual<double>*, Dual<double>*,
                                                   const Normalised<Dual<double>>&, const Pass&) const;

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
