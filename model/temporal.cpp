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

template <class T>
Output<T> Temporal::forward(Tape<T>& tape, T* weights, T* gradients, const Normalised<T>& input, const Pass&) const {
  const std::int64_t N = check_windows("temporal", input, shape_.D, shape_.L);
  const SlabVars<T> slab(tape, table_, weights, gradients);
  const AffineVars<T> affine = affine_.vars(tape, slab);
  const Var<T> u = affine_.apply(input, affine), steps = transpose(u, N);  // [N D, L], [N L, D]
  const Var<T> q = slab.apply(layers_.queries, steps);
  // The key bias has no gradient, a softmax row is blind to it: its slot, a leaf's, stays zero.
  const Var<T> k = linear(steps, slab(layers_.keys.weight, Shape{layers_.keys.out, layers_.keys.in}),
                          tape.constant(slab(layers_.keys.bias, Shape{layers_.keys.out}).value()));
  const Var<T> context = channel_attention(q, k, slab.apply(layers_.values, steps), shape_.L);
  return {slab.apply(head_, u + transpose(slab.apply(output_, context), N)), affine};
}

template Output<float> Temporal::forward(Tape<float>&, float*, float*, const Normalised<float>&, const Pass&) const;
template Output<double> Temporal::forward(Tape<double>&, double*, double*, const Normalised<double>&,
                                          const Pass&) const;
template Output<Dual<double>> Temporal::forward(Tape<Dual<double>>&, Dual<double>*, Dual<double>*,
                                                const Normalised<Dual<double>>&, const Pass&) const;

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
