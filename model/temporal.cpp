#include "model/temporal.h"

#include <algorithm>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {

Temporal::Temporal(TemporalShape shape) : shape_(shape) {
  const auto [D, L, H, d_m] = shape_;
  SAMFORMER_CHECK(D > 0 && L > 0 && H > 0 && d_m > 0,
                  "temporal: D, L, H and d_m must be positive, found {}, {}, {}, {}", D, L, H, d_m);
  head_ = add_dense(table_, "linear_forecaster", H, L);
  layers_ = add_attention(table_, d_m, D);
  output_ = add_dense(table_, "output_projection", D, d_m);
  affine_ = RevinAffine(table_, D, true);
}

void Temporal::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  const double keras = keras_attention_limit(shape_.D, shape_.d_m);
  for (const char* layer : {"compute_values", "compute_queries", "compute_keys"}) {
    draw_dense(weights, table_, layer, seed, init, keras);
  }
  draw_dense(weights, table_, "output_projection", seed, init);
  if (head == HeadInit::as_init) draw_dense(weights, table_, "linear_forecaster", seed, init);
  affine_.initialise(weights);
}

template <class T, class On>
Output<T, On> Temporal::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                const Pass&) const {
  const std::int64_t N = check_windows("temporal", input, shape_.D, shape_.L), d_m = shape_.d_m;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  const Var<T, On> u = affine_.apply(input, affine), steps = transpose(u, N);  // [N D, L], [N L, D]
  const Projected<T, On> p = layers(
      steps, {slab.layer(layers_.queries, d_m), slab.layer(layers_.keys, 2 * d_m, true), slab.layer(layers_.values)});
  Output<T, On> out{{}, affine, {p.columns(d_m, d_m), p.columns(2 * d_m, d_m)}};
  const Var<T, On> context = channel_attention(out.map.q, out.map.k, p.columns(0, d_m), shape_.L, &out.map.lse);
  const Var<T, On> o = linear(context, slab.weight(output_), slab.bias(output_));
  out.z = slab.head(head_, transpose(o, N, u));
  return out;
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Temporal, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

ModelRow temporal_row() {
  return {.name = "temporal",
          .summary = "samformer with its attention over the steps",
          .options = {attention_width()},
          .fixed = {{"precision", "float32"}},
          .make = [](Sizes s, const OptionValues& o) -> Model {
            return Temporal({s.D, s.L, s.H, o.get<std::int64_t>("d-model")});
          }};
}

}  // namespace samformer::model
