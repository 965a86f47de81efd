#include "model/informer.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

std::string distilling_name(std::size_t i) { return fmt::format("encoder.conv_layers.{}.", i); }

}  // namespace

Informer::Informer(InformerShape shape)
    : StepNetwork(shape),
      network_(table_, "informer", shape, shape.official, 1, shape.official ? "projection" : "decoder.projection") {
  SAMFORMER_CHECK(shape_.factor > 0, "informer: a factor of at least 1, found {}", shape_.factor);
  for (std::size_t i = 0; std::ssize(distilling_) + 1 < shape_.layers; ++i) {
    distilling_.push_back({Convolution(table_, distilling_name(i) + "downConv", shape_.d, shape_.d, 3, true),
                           NormLayer(table_, distilling_name(i) + "norm", shape_.d)});
  }
  for (std::size_t i = 0; i < distilling_.size(); ++i) {
    distilling_[i].norm.add_running(table_, distilling_name(i) + "norm");
  }
}

void Informer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  network_.initialise(weights, table_, seed, init, head);
  for (std::size_t i = 0; i < distilling_.size(); ++i) {
    draw_dense(weights, table_, distilling_name(i) + "downConv", seed, init);
    distilling_[i].norm.initialise(weights);
  }
}

template <class T, class On>
Output<T, On> Informer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                const Pass& pass) const {
  const std::int64_t N = check_windows("informer", input, shape_.D, shape_.L), d = shape_.d, heads = shape_.heads;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const StepLayers<T, On> with{tape, slab, dropout, N};

  int sites = 0;  // of draws
  const auto attend = [&](Place place, const AttentionMaps& a, Var<T, On> x, Var<T, On> memory) {
    if (place == Place::cross && shape_.official) return with.attention(a, x, memory, heads);
    ProbSparse how{shape_.factor, place == Place::decoder, place != Place::encoder || !shape_.official};
    if (pass.training) how.sampling.seed = pass.seed, how.sampling.step = pass.step;
    how.sampling.progress = pass.training ? pass.progress : nullptr;
    how.sampling.site = sites;
    if (static_cast<std::size_t>(sites) < given_.size()) {
      how.sampling.given = given_[static_cast<std::size_t>(sites)].data();
    }
    ++sites;
    return prob_sparse_attention(with.plain(a.queries, x), with.plain(a.keys, memory, true),
                                 with.plain(a.values, memory), N, heads, how);
  };
  // Distil behind all layers but the last.
  const auto finish = [&](std::size_t i, const NormLayer& norm, Var<T, On> sum) {
    if (i >= distilling_.size()) return with.normalised(norm, sum);
    const Distilling& l = distilling_[i];
    const auto unseen = [&](std::int64_t bias) { return before_batch_norm(slab, bias, d, pass); };
    const Var<T, On> x = layer_norm(sum, slab(norm.weight, Shape{d}), unseen(norm.bias), kernels::pytorch_norm.epsilon);
    const std::int64_t steps = x.value().rows() / N, before = shape_.official ? 1 : 2;
    const Unfold how{.rows = steps + 2 * (before - 1), .first = -before, .circular = true};
    const Var<T, On> y = bias_activation(convolution(x, N, with.weight(l.convolution), how), unseen(l.convolution.bias),
                                         Activation::none);
    return max_pool(bias_activation(batch_normalised(slab, l.norm, y, pass), {}, Activation::elu), N);
  };
  return network_.forward(with, input, attend, finish);
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Informer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: scripts/ETTh1.sh of zhouhaoyi/Informer2020 for its own variant; the other one as PatchTST's authors ran it,
// look-back 96.
ModelRow informer_row() {
  ModelRow row =
      step_row("informer", "Informer: an encoder-decoder over steps, attention of the queries that sampled keys pick");
  row.options.push_back({.name = "informer",
                         .otherwise = std::string("ltsf"),
                         .help = "the variant: that behind the quoted numbers, or the authors'",
                         .choices = {"ltsf", "official"}});
  row.options.push_back({.name = "factor",
                         .otherwise = 5,
                         .value_name = "C",
                         .help = "C ln T of T steps: delays; of informer queries and keys",
                         .range = {.low = 1}});
  row.other_head = "projection.weight";
  row.published = [](std::string_view, std::int64_t H) {
    ModelRow::Settings all = published_steps();
    all.insert(all.end(), {{"epochs", "6"}});
    const char* const longer = H > 336 ? "336" : "168";
    if (H > 96) all.insert(all.end(), {{"lookback", longer}, {"label", longer}});
    return all;
  };
  row.make = [](Sizes s, const OptionValues& o) -> Model {
    return Informer({step_sizes(s, o), o.get<std::string>("informer") == "official", o.get<std::int64_t>("factor")});
  };
  return row;
}

}  // namespace samformer::model
