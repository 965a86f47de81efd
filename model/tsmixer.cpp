#include "model/tsmixer.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {

TsMixer::TsMixer(TsMixerShape shape) : shape_(shape) {
  const std::int64_t D = shape.D, L = shape.L, H = shape.H, ff = shape.ff;
  SAMFORMER_CHECK(D > 0 && L > 0 && H > 0 && ff > 0 && shape.blocks > 0,
                  "tsmixer: D, L, H, ff and blocks must be positive, found {}, {}, {}, {}, {}", D, L, H, ff,
                  shape.blocks);
  head_ = add_dense(table_, "linear_forecaster", H, L);
  affine_ = RevinAffine(table_, D, true);
  std::vector<std::pair<std::string, NormLayer*>> norms;
  const auto dense = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    layers_.push_back(name);
    return add_dense(table_, name, out, in);
  };
  const auto norm = [&](const std::string& name, NormLayer& layer) {
    layer.weight = table_.add(name + ".weight", Shape{D, L});
    layer.bias = table_.add(name + ".bias", Shape{D, L});
    norms.emplace_back(name, &layer);
  };
  blocks_.resize(static_cast<std::size_t>(shape.shared ? 1 : shape.blocks));
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    const std::string prefix = shape.shared ? "" : fmt::format("blocks.{}.", b);
    norm(prefix + (shape.shared ? "norm" : "time_norm"), block.time_norm);
    if (!shape.shared) norm(prefix + "feature_norm", block.feature_norm);
    block.time = dense(prefix + "time", L, L);
    block.feature_in = dense(prefix + "feature_in", ff, D);
    block.feature_out = dense(prefix + "feature_out", D, ff);
  }
  if (shape.norm == Norm::batch) {
    for (auto& [name, layer] : norms) {
      layer->running_mean = table_.add_untrained(name + ".running_mean", Shape{D, L});
      layer->running_var = table_.add_untrained(name + ".running_var", Shape{D, L});
    }
  }
  if (shape.shared) blocks_[0].feature_norm = blocks_[0].time_norm;
}

void TsMixer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  for (const std::string& layer : layers_) draw_dense(weights, table_, layer, seed, init);
  if (head == HeadInit::as_init) draw_dense(weights, table_, "linear_forecaster", seed, init);
  affine_.initialise(weights);
  const std::int64_t M = shape_.D * shape_.L;
  for (const Block& block : blocks_) {
    for (const NormLayer* norm : {&block.time_norm, &block.feature_norm}) {
      std::fill_n(weights + norm->weight, M, 1.0f);
      if (shape_.norm == Norm::batch) std::fill_n(weights + norm->running_var, M, 1.0f);
    }
  }
}

template <class T, class On>
Output<T, On> TsMixer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                               const Pass& pass) const {
  const std::int64_t D = shape_.D, L = shape_.L, N = check_windows("tsmixer", input, D, L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const auto normalised = [&](const NormLayer& norm, Var<T, On> x) {
    const Shape positions{D, L};
    const Var<T, On> weight = slab(norm.weight, positions), bias = slab(norm.bias, positions);
    if (shape_.norm == Norm::layer) return layer_norm(x, weight, bias);
    return batch_norm(x, weight, bias, running_averages(slab, norm.running_mean, norm.running_var, positions, pass));
  };
  DropoutSites dropout(shape_.dropout, pass);
  // residual + dropout(act(x W' + b))
  const auto layer = [&](const Dense& dense, Var<T, On> x, Activation activation, Var<T, On> residual = {}) {
    return bias_activation(linear(x, slab.weight(dense)), slab.bias(dense), activation, residual, dropout());
  };

  Var<T, On> h = affine_.apply(input, affine);  // [N D, L]
  for (std::int64_t b = 0; b < shape_.blocks; ++b) {
    const Block& block = blocks_[static_cast<std::size_t>(shape_.shared ? 0 : b)];
    h = layer(block.time, normalised(block.time_norm, h), shape_.activation, h);
    const Var<T, On> steps = transpose(normalised(block.feature_norm, h), N);  // [N L, D]
    const Var<T, On> hidden = layer(block.feature_in, steps, shape_.activation);
    h = transpose(layer(block.feature_out, hidden, Activation::none), N, h);
  }
  return {slab.head(head_, h), affine};
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(TsMixer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Defaults by series: the table of TSMixer's hyper-parameters in SAMformer's paper; ETT's are the others.
ModelRow tsmixer_row() {
  return {.name = "tsmixer",
          .summary = "TSMixer: perceptrons that mix the steps, then the channels",
          .options = {{.name = "blocks",
                       .otherwise = 2,
                       .value_name = "N",
                       .help = "how often both are mixed",
                       .range = {.low = 1, .high = 64},
                       .by_series = {{"weather", 4}, {"electricity", 4}, {"traffic", 8}, {"exchange", 8}}},
                      {.name = "ff",
                       .otherwise = 64,
                       .value_name = "N",
                       .help = "width of the mixing of channels",
                       .range = {.low = 1},
                       .by_series = {{"weather", 32}}},
                      {.name = "dropout",
                       .otherwise = 0.9,
                       .value_name = "X",
                       .help = "share of units that is left out",
                       .range = {.low = 0, .high = 1, .high_open = true},
                       .by_series = {{"weather", 0.3}, {"electricity", 0.7}, {"traffic", 0.7}, {"exchange", 0.7}}},
                      {.name = "norm", .otherwise = "batch", .choices = {"batch", "layer"}},
                      {.name = "activation", .otherwise = "relu", .choices = {"relu", "gelu"}},
                      {.name = "shared",
                       .otherwise = false,
                       .help = "all blocks use one set of layers, as in SAMformer's official repository"}},
          .defaults = {{"stats-mix", "0"}, {"rho", "0"}},
          .fixed = {{"precision", "float32"}},
          .make = [](Sizes s, const OptionValues& o) -> Model {
            return TsMixer({s.D, s.L, s.H, o.get<std::int64_t>("blocks"), o.get<std::int64_t>("ff"),
                            o.get<double>("dropout"), o.get<std::string>("norm") == "layer" ? Norm::layer : Norm::batch,
                            o.get<std::string>("activation") == "gelu" ? Activation::gelu : Activation::relu,
                            o.get<bool>("shared")});
          }};
}

}  // namespace samformer::model
