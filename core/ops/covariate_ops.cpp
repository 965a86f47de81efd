#include "core/dual.h"
#include "core/ops/ops.h"
#include "kernels/covariates.h"

namespace samformer {

template <class T, class On>
void add_levels(Normalised<T, On>& input, const kernels::Windows<T>& x, std::int64_t L, kernels::Center center) {
  if (!x.known) return;
  const std::int64_t count = x.N * x.known.rows(x.D);
  Operation<T, On> op(*input.xhat.tape, "covariate_levels", float_cost(count * L, count * (L + 1)), {});
  T* const levels = op.saved(count);
  kernels::covariate_levels(op.on(), levels, x, L, center);
  input.windows = x, input.known_levels = levels;
}

template <class T, class On>
Projected<T, On> add_covariates(const Projected<T, On>& z, Var<T, On> weight, const Normalised<T, On>& input) {
  const Tensor<T> Z = z.z.value(), W = weight.value();
  const kernels::Windows<T> x = input.windows;
  const T *const levels = input.known_levels, *const stats = input.stats;
  const std::int64_t L = input.xhat.value().cols(), H = Z.cols(), R = x.N * x.D, F = x.known.features();
  SAMFORMER_CHECK(levels && Z.rows() == R && W.contiguous() && W.rows() == x.D && W.cols() == F,
                  "add_covariates: z [{}, H], weight [{}, {}] expected, found {}, {}", R, x.D, F, Z.shape.to_string(),
                  W.shape.to_string());
  Operation<T, On> op(*z.z.tape, "covariates", float_cost(2 * R * H * F, R * H * 2 + x.N * F * H),
                      float_cost(3 * R * H * F, R * H + x.N * F * H));
  constexpr bool in_place = std::is_same_v<On, Cpu>;
  const Tensor<T> to = in_place ? Z : op.output(Shape{R, H});
  const Tensor<T> from = in_place ? Z : z.mixed;  // which others may need as it is
  kernels::covariate_map(op.on(), to.data, to.stride, static_cast<const T*>(from.data), from.stride, x, levels, stats,
                         static_cast<const T*>(W.data), L, H);
  Projected<T, On> out(z.z.tape->record_in_place(z.z, {weight}, [=](Backward<T, On>& g) {
    const Tensor<T> dz = g.self();
    if (const Sink<T> dw = g.into(weight)) {
      kernels::covariate_map_backward(g.on(), dw, static_cast<const T*>(dz.data), dz.stride, x, levels, stats, L, H);
    }
  }));
  out.pending = z.pending, out.affine = z.affine;
  if (!in_place) out.mixed = to;
  return out;
}

#define INSTANTIATE(T, On)                                                                                 \
  template void add_levels(Normalised<T, On>&, const kernels::Windows<T>&, std::int64_t, kernels::Center); \
  template Projected<T, On> add_covariates(const Projected<T, On>&, Var<T, On>, const Normalised<T, On>&);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
