#include "model/samformer.h"

#include <algorithm>
#include <array>

#include "core/dual.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

// One channel: attention is the identity, so z is linear in gamma, beta and the biases of V, O and F together, and the
// forecast (z - beta) / gamma does not change when all of them are scaled. Euler's identity gives gamma's gradient from
// the others'; the direct sums of projection and inverse cancel to less than float can hold. Called before any of them
// is used, so that its backward comes last. On a device the sums stay as they are.
void one_channel_scale(const AffineVars<float>& affine, std::array<Var<float>, 3> biases, std::size_t count) {
  if (!affine.gamma.needs_gradient()) return;
  affine.gamma.tape->at_the_end({affine.gamma}, [=](Backward<float, Cpu>& g) {
    const auto along = [](Var<float> v) {
      double total = 0;
      for (std::int64_t i = 0; i < v.value().count(); ++i) {
        total += static_cast<double>(v.value().data[i]) * static_cast<double>(v.gradient().data[i]);
      }
      return total;
    };
    double total = along(affine.beta);
    for (std::size_t i = 0; i < count; ++i) total += along(biases[i]);
    const float scale = affine.gamma.value().data[0];
    *g.onto(affine.gamma) = static_cast<float>(-total / static_cast<double>(scale));
  });
}

}  // namespace

Samformer::Samformer(SamformerShape shape) : shape_(shape) {
  SAMFORMER_CHECK(shape.D > 0 && shape.L > 0 && shape.H > 0 && shape.d_m > 0,
                  "samformer: D, L, H and d_m must be positive, found {}, {}, {}, {}", shape.D, shape.L, shape.H,
                  shape.d_m);
  const auto [value, D, L, H, d_m] = shape_;
  const bool low_rank = value == Value::low_rank;
  const std::int64_t d_v = low_rank ? d_m : L;
  weights_ = table_.add("compute_values.weight", Shape{d_v, L});
  table_.add("compute_queries.weight", Shape{d_m, L}, true);
  table_.add("compute_keys.weight", Shape{d_m, L}, true);
  table_.add("linear_forecaster.weight", Shape{H, L}, true);
  biases_ = table_.add("compute_values.bias", Shape{d_v});
  table_.add("compute_queries.bias", Shape{d_m}, true);
  table_.add("compute_keys.bias", Shape{d_m}, true);
  table_.add("linear_forecaster.bias", Shape{H}, true);
  if (low_rank) {
    output_weight_ = table_.add("output_projection.weight", Shape{L, d_m});
    output_bias_ = table_.add("output_projection.bias", Shape{L});
  }
  gamma_ = table_.add("revin.affine_weight", Shape{D});
  beta_ = table_.add("revin.affine_bias", Shape{D});
}

void Samformer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  const double keras = keras_attention_limit(shape_.L, shape_.d_m);
  for (const char* layer : {"compute_values", "compute_queries", "compute_keys"}) {
    draw_dense(weights, table_, layer, seed, init, keras);
  }
  if (shape_.value == Value::low_rank) draw_dense(weights, table_, "output_projection", seed, init);
  if (head == HeadInit::as_init) draw_dense(weights, table_, "linear_forecaster", seed, init);
  std::fill_n(weights + gamma_, shape_.D, 1.0f);
}

Association Samformer::association(std::int64_t R) const {
  const auto [value, D, L, H, d_m] = shape_;
  // Multiplications of the value path alone, forward; backward takes twice as many of each.
  const std::int64_t folded = value == Value::low_rank ? H * L * d_m + R * d_m * H : H * L * L + R * L * H + R * D * H;
  const std::int64_t direct = value == Value::low_rank ? R * d_m * L + R * L * H : R * L * L + R * D * L + R * L * H;
  return folded <= direct ? Association::folded : Association::direct;
}

template <class T, class On>
Output<T, On> Samformer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                 Association order) const {
  const auto [value, D, L, H, d_m] = shape_;
  const std::int64_t N = check_windows("samformer", input, D, L);
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  const bool low_rank = value == Value::low_rank, folded = order == Association::folded;
  const std::int64_t d_v = low_rank ? d_m : L;
  const Var<T, On> all_weights = slab(weights_, Shape{d_v + 2 * d_m + H, L});
  const Var<T, On> all_biases = slab(biases_, Shape{1, d_v + 2 * d_m + H});
  const AffineVars<T, On> affine = affine_vars(slab(gamma_, Shape{D}), slab(beta_, Shape{D}), guard(), N);
  const Var<T, On> head = rows(all_weights, d_v + 2 * d_m, H);
  const Var<T, On> value_bias = columns(all_biases, 0, d_v);
  Var<T, On> output_weight, output_bias;
  if (low_rank) output_weight = slab(output_weight_, Shape{L, d_m}), output_bias = slab(output_bias_, Shape{1, L});
  if constexpr (std::is_same_v<T, float> && std::is_same_v<On, Cpu>) {
    const Var<T> head_bias = columns(all_biases, d_v + 2 * d_m, H);
    if (D == 1)
      one_channel_scale(affine, {value_bias, head_bias, low_rank ? output_bias : value_bias}, low_rank ? 3 : 2);
  }

  // z = [V | Q | K | F]; where the value weights are folded into the head first, V comes from those.
  const bool fold_values = !low_rank && folded;
  const std::int64_t first = fold_values ? d_v : 0, at = d_v - first;  // columns left out, column of Q
  ProjectionInput<T, On> w;
  if (fold_values) w.values = compose(head, rows(all_weights, 0, L), value_bias, true);
  if (low_rank && folded) w.head_bias = compose(head, output_weight, output_bias, false);
  if (low_rank && !folded) w.head_bias.bias = linear(output_bias, head);
  w.weight = rows(all_weights, first, 2 * d_m + H + at), w.bias = columns(all_biases, first, 2 * d_m + H + at);
  w.head = at + 2 * d_m, w.skip_begin = at + d_m, w.skip_end = at + 2 * d_m;
  const Projection<T, On> p = project(input, w, affine);
  const Projected<T, On>& z = p.rest;
  Output<T, On> out{z.columns(at + 2 * d_m, H), affine, {z.columns(at, d_m), z.columns(at + d_m, d_m)}};
  const Var<T, On> context =
      channel_attention(out.map.q, out.map.k, fold_values ? p.values : z.columns(0, d_v), D, &out.map.lse);
  if (fold_values) {
    out.z = add_term(out.z, context);
  } else if (low_rank) {
    out.z = folded ? add_linear(out.z, context, w.head_bias.weight)
                   : add_linear(out.z, linear(context, output_weight), head);
  } else {
    out.z = add_linear(out.z, context, head);
  }
  return out;
}

#define INSTANTIATE(T, On) \
  template Output<T, On> Samformer::forward(Tape<T, On>&, T*, T*, const Normalised<T, On>&, Association) const;
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

ModelRow samformer_row() {
  return {.name = "samformer",
          .summary = "the paper's model: one layer of attention between channels, trained with SAM",
          .options = {{.name = "value",
                       .otherwise = "low-rank",
                       .help = "low-rank: the paper's W_V W_O; full: one L x L matrix",
                       .choices = {"low-rank", "full"},
                       .implies = {{"full", "init", "pytorch"}}},
                      attention_width()},
          .make = [](Sizes s, const OptionValues& o) -> Model {
            const Value value = o.get<std::string>("value") == "full" ? Value::full : Value::low_rank;
            return Samformer({value, s.D, s.L, s.H, o.get<std::int64_t>("d-model")});
          }};
}

ModelRow transformer_row() {
  ModelRow row = samformer_row();
  row.name = "transformer";
  row.summary = "samformer without SAM";
  row.defaults = {{"stats-mix", "0"}};
  row.fixed = {{"rho", "0"}};
  return row;
}

}  // namespace samformer::model
