#include "model/autoformer.h"

#include <algorithm>
#include <cmath>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {

Autoformer::Autoformer(AutoformerShape shape)
    : StepNetwork(std::move(shape)), network_(table_, "autoformer", shape_, false) {
  SAMFORMER_CHECK(shape_.factor > 0, "autoformer: a factor of {}", shape_.factor);
}

template <class T, class On>
Output<T, On> Autoformer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                  const Pass& pass) const {
  const std::int64_t N = check_windows("autoformer", input, shape_.D, shape_.L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  const auto attend = [&](Place place, const AttentionMaps& a, Var<T, On> x, Var<T, On> memory) {
    const std::int64_t steps = x.value().rows() / N, keys = memory.value().rows() / N;
    const auto projected = [&](const Dense& dense, Var<T, On> from, bool learned) {
      return linear(from, slab.weight(dense), learned ? slab.bias(dense) : slab.constant(dense.bias, Shape{dense.out}));
    };
    const auto delays =
        static_cast<std::int64_t>(static_cast<double>(shape_.factor) * std::log(static_cast<double>(steps)));
    return auto_correlation(projected(a.queries, x, false), projected(a.keys, memory, steps > keys),
                            projected(a.values, memory, place != Place::encoder), N,
                            std::clamp<std::int64_t>(delays, 1, steps), pass.training);
  };
  return network_.forward(tape, slab, input, pass, attend);
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Autoformer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: scripts/ETT_script of thuml/Autoformer.
ModelRow autoformer_row() {
  ModelRow row =
      step_row("autoformer", "Autoformer: an encoder-decoder that decomposes, auto-correlation in attention's place");
  row.options.push_back({.name = "moving-average",
                         .otherwise = 25,
                         .value_name = "N",
                         .help = "steps of the average",
                         .range = {.low = 1}});
  row.options.push_back({.name = "factor",
                         .otherwise = 3,
                         .value_name = "N",
                         .help = "C ln T of T steps: delays; of informer queries and keys",
                         .range = {.low = 1}});
  row.make = [](Sizes s, const OptionValues& o) -> Model {
    return Autoformer({{step_sizes(s, o), {o.get<std::int64_t>("moving-average")}}, o.get<std::int64_t>("factor")});
  };
  return row;
}

}  // namespace samformer::model
