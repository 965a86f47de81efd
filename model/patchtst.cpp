#include "model/patchtst.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

const std::string backbone = "model.backbone.";
std::string layer_name(std::size_t i) { return backbone + fmt::format("encoder.layers.{}.", i); }

}  // namespace

PatchTst::PatchTst(PatchTstShape shape) : shape_(shape), cut_{shape.L, shape.patch, shape.stride} {
  const auto [D, L, H, d, f, heads, layers, patch, stride, dropout] = shape_;
  SAMFORMER_CHECK(
      D > 0 && L > 0 && H > 0 && d > 0 && f > 0 && layers > 0 && patch > 0 && stride > 0,
      "patchtst: sizes must be positive, found D {}, L {}, H {}, d {}, f {}, {} layers, patches of {} every "
      "{}",
      D, L, H, d, f, layers, patch, stride);
  if (patch > L) {
    throw Error(Exit::usage, fmt::format("--model patchtst: patches of {} steps in a look-back of {}", patch, L))
        .hint(fmt::format("take --patch {} or a longer --lookback", L));
  }
  check_heads("patchtst", d, heads);
  const std::int64_t n = cut_.count();
  embedding_ = add_dense(table_, backbone + "W_P", d, patch);
  positions_ = table_.add(backbone + "W_pos", Shape{n, d});
  layers_.resize(static_cast<std::size_t>(layers));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    EncoderLayer& layer = layers_[i];
    const std::string prefix = layer_name(i), attention = prefix + "self_attn.";
    add_side_by_side(
        table_,
        {{attention + "W_Q", &layer.queries}, {attention + "W_K", &layer.keys}, {attention + "W_V", &layer.values}}, d,
        d);
    layer.out = add_dense(table_, attention + "to_out.0", d, d);
    layer.attention_norm = NormLayer(table_, prefix + "norm_attn.1", d);
    layer.first = add_dense(table_, prefix + "ff.0", f, d);
    layer.second = add_dense(table_, prefix + "ff.3", d, f);
    layer.norm = NormLayer(table_, prefix + "norm_ffn.1", d);
  }
  head_ = add_dense(table_, "model.head.linear", H, d * n);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention_norm.add_running(table_, layer_name(i) + "norm_attn.1");
    layers_[i].norm.add_running(table_, layer_name(i) + "norm_ffn.1");
  }
}

void PatchTst::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  draw_dense(weights, table_, backbone + "W_P", seed, init);
  draw_uniform(weights, table_, backbone + "W_pos", seed, 0.02);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (const char* name : {"self_attn.W_Q", "self_attn.W_K", "self_attn.W_V", "self_attn.to_out.0", "ff.0", "ff.3"}) {
      draw_dense(weights, table_, layer_name(i) + name, seed, init);
    }
    layers_[i].attention_norm.initialise(weights);
    layers_[i].norm.initialise(weights);
  }
  if (head == HeadInit::as_init) draw_dense(weights, table_, "model.head.linear", seed, init);
}

std::vector<TokenSteps> PatchTst::map_steps() const {
  std::vector<TokenSteps> steps;
  for (std::int64_t p = 0; p < cut_.count(); ++p) {
    const std::int64_t first = p * cut_.stride - (cut_.L - 1);
    steps.push_back({std::min<std::int64_t>(first, 0), std::min<std::int64_t>(first + cut_.length - 1, 0)});
  }
  return steps;
}

template <class T, class On>
Output<T, On> PatchTst::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                const Pass& pass) const {
  const std::int64_t d = shape_.d, n = cut_.count(), N = check_windows("patchtst", input, shape_.D, shape_.L);
  const std::int64_t samples = N * shape_.D;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const bool removed = pass.training && shape_.dropout == 0;  // what a batch norm does to a bias before it
  const auto bias = [&](const Dense& dense) {
    return removed ? slab.constant(dense.bias, Shape{dense.out}) : slab.bias(dense);
  };

  const Var<T, On> tokens =
      samformer::patches(reshape(input.xhat, Shape{samples, shape_.L}), shape_.patch, shape_.stride);
  const Var<T, On> embedded = linear(tokens, slab.weight(embedding_), slab.bias(embedding_));
  Var<T, On> z = bias_activation(reshape(embedded, Shape{samples, n * d}), slab(positions_, Shape{n * d}),
                                 Activation::none, {}, dropout());
  z = reshape(z, Shape{samples * n, d});
  MapParts<T, On> map{.heads = shape_.heads};
  Var<T, On> scores;
  for (const EncoderLayer& l : layers_) {
    const Layer<T, On> values{slab.weight(l.values), bias(l.values), 2 * d};
    const Projected<T, On> p = layers(z, {slab.layer(l.queries), slab.layer(l.keys, d, true), values});
    map.q = p.columns(0, d), map.k = p.columns(d, d), map.previous = scores;
    const auto attended = multi_head_attention(map.q, map.k, p.columns(2 * d, d), samples, shape_.heads, {}, scores,
                                               &l != &layers_.back());
    map.lse = attended.lse, scores = attended.scores;
    const Var<T, On> product = linear(attended.context, slab.weight(l.out));
    const Dropout inside = dropout(), before_residual = dropout();
    const Var<T, On> out = inside.rate > 0
                               ? bias_activation(bias_activation(product, bias(l.out), Activation::none, {}, inside),
                                                 {}, Activation::none, z, before_residual)
                               : bias_activation(product, bias(l.out), Activation::none, z);
    z = batch_normalised(slab, l.attention_norm, out, pass);
    const Var<T, On> hidden =
        bias_activation(linear(z, slab.weight(l.first)), slab.bias(l.first), Activation::gelu, {}, dropout());
    const Var<T, On> sum =
        bias_activation(linear(hidden, slab.weight(l.second)), bias(l.second), Activation::none, z, dropout());
    z = batch_normalised(slab, l.norm, sum, pass);
  }
  return {slab.head(head_, reshape(transpose(z, samples), Shape{samples, d * n})), {}, map};
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(PatchTst, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: PatchTST_supervised/scripts/PatchTST of yuqinie98/PatchTST, PatchTST/42. The larger series' own schedule
// (one cycle) is not here: they get the hourly ones'.
ModelRow patchtst_row() {
  return {.name = "patchtst",
          .summary = "PatchTST: attention over the patches of each channel's window",
          .options =
              {attention_width(16),
               feed_forward_width(128),
               head_count(4),
               layer_count(3),
               dropout_rate(0.3),
               {.name = "patch", .otherwise = 16, .value_name = "N", .help = "steps of a patch", .range = {.low = 1}},
               {.name = "stride",
                .otherwise = 8,
                .value_name = "N",
                .help = "steps from patch to patch",
                .range = {.low = 1}}},
          .defaults = {{"stats-mix", "0"}, {"rho", "0"}, {"init", "pytorch"}, {"head-init", "as-init"}, {"lr", "1e-4"}},
          .fixed = {{"precision", "float32"}},
          .head = "model.head.linear.weight",
          .head_reads_window = false,
          .published = [](std::string_view series, std::int64_t) -> ModelRow::Settings {
            ModelRow::Settings all = published_training();
            all.insert(
                all.end(),
                {{"lookback", "336"}, {"batch", "128"}, {"schedule", "decay"}, {"epochs", "100"}, {"patience", "100"}});
            if (!series.starts_with("etth")) {
              all.insert(
                  all.end(),
                  {{"d-model", "128"}, {"heads", "16"}, {"d-ff", "256"}, {"dropout", "0.2"}, {"patience", "20"}});
            }
            return all;
          },
          .make = [](Sizes s, const OptionValues& o) -> Model {
            return PatchTst({s.D, s.L, s.H, o.get<std::int64_t>("d-model"), o.get<std::int64_t>("d-ff"),
                             o.get<std::int64_t>("heads"), o.get<std::int64_t>("layers"), o.get<std::int64_t>("patch"),
                             o.get<std::int64_t>("stride"), o.get<double>("dropout")});
          }};
}

}  // namespace samformer::model
