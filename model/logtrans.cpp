#include "model/logtrans.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {

LogTrans::LogTrans(LogTransShape shape) : StepNetwork(shape), network_(table_, "logtrans", shape, false, shape.kernel) {
  SAMFORMER_CHECK(shape_.sub > 0, "logtrans: a pattern of at least 1 step, found {}", shape_.sub);
}

kernels::HeadsMask LogTrans::mask(std::int64_t cells) const {
  return {.kind = kernels::HeadsMask::Kind::log_sparse,
          .cells = static_cast<int>(cells),
          .sub = static_cast<int>(std::min(cells, shape_.sub))};
}

template <class T, class On>
Output<T, On> LogTrans::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                const Pass& pass) const {
  const std::int64_t N = check_windows("logtrans", input, shape_.D, shape_.L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const StepLayers<T, On> with{tape, slab, dropout, N};
  MapParts<T, On> map{.heads = shape_.heads};
  const auto attend = [&](Place place, const AttentionMaps& a, Var<T, On> x, Var<T, On> memory) {
    if (place == Place::cross) return with.attention(a, x, memory, shape_.heads);
    const std::int64_t steps = x.value().rows() / N;
    const Var<T, On> seen = unfold(x, N, {.rows = steps, .width = shape_.kernel, .first = 1 - shape_.kernel});
    const Var<T, On> q = with.plain(a.queries, seen), k = with.plain(a.keys, seen, true), v = with.plain(a.values, x);
    if (place == Place::encoder) map.q = q, map.k = k, map.mask = mask(steps);
    return masked_attention<T, On>(q, k, v, N, shape_.heads, mask(steps), dropout(), nullptr,
                                   place == Place::encoder ? &map.lse : nullptr);
  };
  const auto finish = [&](std::size_t, const NormLayer& norm, Var<T, On> sum) { return with.normalised(norm, sum); };
  Output<T, On> out = network_.forward(with, input, attend, finish);
  out.map = map;
  return out;
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(LogTrans, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: look-back 96 (FEDformer's table); the rest of the training is Autoformer's.
ModelRow logtrans_row() {
  ModelRow row =
      step_row("logtrans", "LogTrans: an encoder-decoder over steps, attention to logarithmically many of them");
  row.options.push_back({.name = "sub-length",
                         .otherwise = 24,
                         .value_name = "N",
                         .help = "steps after which the mask's pattern begins anew",
                         .range = {.low = 1}});
  row.options.push_back({.name = "qk-kernel",
                         .otherwise = 3,
                         .value_name = "N",
                         .help = "steps that a query and a key are made of",
                         .range = {.low = 1}});
  row.make = [](Sizes s, const OptionValues& o) -> Model {
    return LogTrans({step_sizes(s, o), o.get<std::int64_t>("sub-length"), o.get<std::int64_t>("qk-kernel")});
  };
  return row;
}

}  // namespace samformer::model
