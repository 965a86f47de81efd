#include "model/dlinear.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {

DLinear::DLinear(DLinearShape shape) : shape_(shape) {
  const auto [D, L, H, width, revin] = shape_;
  SAMFORMER_CHECK(D > 0 && L > 0 && H > 0 && width > 0,
                  "dlinear: D, L, H and the average's width must be positive, found {}, {}, {}, {}", D, L, H, width);
  seasonal_ = add_dense(table_, "Linear_Seasonal", H, L);
  trend_ = add_dense(table_, "Linear_Trend", H, L);
  affine_ = RevinAffine(table_, D, revin);
}

void DLinear::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  affine_.initialise(weights);
  if (head == HeadInit::zero) return;
  for (const char* layer : {"Linear_Seasonal", "Linear_Trend"}) draw_dense(weights, table_, layer, seed, init);
  for (const Dense& layer : {seasonal_, trend_}) {
    std::fill_n(weights + layer.weight, layer.out * layer.in, 1 / static_cast<float>(layer.in));
  }
}

template <class T, class On>
Output<T, On> DLinear::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                               const Pass&) const {
  const std::int64_t N = check_windows("dlinear", input, shape_.D, shape_.L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const auto [seasonal, trend] = decompose(affine_.apply(input, affine), shape_.width);
  const Var<T, On> slow = linear(trend, slab.weight(trend_), slab.bias(trend_));
  return {add_term(slab.head(seasonal_, seasonal), slow), affine};
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(DLinear, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: scripts/EXP-LongForecasting/Linear of cure-lab/LTSF-Linear.
ModelRow dlinear_row() {
  return {.name = "dlinear",
          .summary = "DLinear: linear maps of the moving average and of what is left",
          .options = {{.name = "moving-average",
                       .otherwise = 25,
                       .value_name = "N",
                       .help = "steps of the average",
                       .range = {.low = 1}},
                      revin_option()},
          .defaults = {{"stats-mix", "0"}, {"rho", "0"}, {"init", "pytorch"}, {"head-init", "as-init"}},
          .fixed = {{"precision", "float32"}},
          .head = "Linear_Seasonal.weight",
          .published = [](std::string_view series, std::int64_t H) -> ModelRow::Settings {
            ModelRow::Settings all = published_training();
            const bool minutes = series.starts_with("ettm"), exchange = series.starts_with("exchange");
            all.insert(all.end(), {{"lookback", "336"},
                                   {"lr", minutes    ? "0.0001"
                                          : exchange ? "0.0005"
                                                     : "0.005"},
                                   {"batch", minutes || (exchange && H < 336) ? "8" : "32"}});
            return all;
          },
          .make = [](Sizes s, const OptionValues& o) -> Model {
            return DLinear({s.D, s.L, s.H, o.get<std::int64_t>("moving-average"), o.get<bool>("revin")});
          }};
}

}  // namespace samformer::model
