#include "core/dual.h"
#include "core/ops/ops.h"

namespace samformer {

template <class T, class On>
Tensor<T> revin_inverse(const Projected<T, On>& z, const AffineVars<T, On>& affine, const Normalised<T, On>& input) {
  const Tensor<T> Z = z.z.value();
  const std::int64_t N = input.N(), D = input.D(), H = Z.cols();
  SAMFORMER_CHECK(Z.rows() == N * D, "revin_inverse: z [{}, H] expected, found {}", N * D, Z.shape.to_string());
  SAMFORMER_CHECK(!z.z.needs_gradient(), "revin_inverse: for evaluation, it is not differentiated");
  Operation<T, On> op(*z.z.tape, "revin_inverse", float_cost(3 * Z.count(), 2 * Z.count()), {});
  const Tensor<T> Y = op.output(Shape{N * D, H});
  const kernels::Inverse<T> inverse{z.kernel(), z.mixed.data, z.mixed.stride, input.stats, affine.kernel()};
  kernels::revin_inverse(op.on(), Y.data, inverse, N, D, H);
  return Y;
}

template <class T, class On>
Var<T, On> forecast_loss(const Projected<T, On>& z, const AffineVars<T, On>& affine, const Normalised<T, On>& input,
                         const Truth<T>& truth, kernels::StatsMix mix) {
  const Tensor<T> Z = z.z.value();
  const std::int64_t N = truth.y.N, D = truth.y.D, H = Z.cols();
  SAMFORMER_CHECK(Z.rows() == N * D && input.N() == N && input.D() == D,
                  "forecast_loss: z [N D, H] for N = {}, D = {} expected, found {} and {} windows", N, D,
                  Z.shape.to_string(), input.N());
  Operation<T, On> op(*z.z.tape, "loss", float_cost(19 * Z.count(), 2 * Z.count()),
                      float_cost(17 * Z.count(), 4 * Z.count()));
  const kernels::ForecastLoss<T, On> loss{
      z.kernel(), z.mixed.data,  z.mixed.stride,     input.stats,          input.moments, affine.kernel(), truth.y,
      H,          truth.targets, truth.target_count, truth.channel_weight, mix,           op.saved(H)};
  const Tensor<T> out(op.saved(kernels::loss_size(op.on(), N * D)), Shape{});
  T* const work = op.saved(kernels::loss_scratch(op.on(), N, truth.target_count));
  const bool later = kernels::loss_with_gradient(op.on()) && z.z.needs_gradient();
  if (!later) kernels::forecast_loss(op.on(), out.data, loss, work);
  affine.expect();
  return z.z.tape->record(out, {z.z, affine.gamma, affine.beta}, [=](Backward<T, On>& g) {
    constexpr bool fused = kernels::loss_with_gradient(On{});
    SAMFORMER_CHECK(!fused || g.begins(), "forecast_loss: on a device backward begins at the loss");
    const T* const seed = fused ? nullptr : g.self().data;
    const Sink<T> given = fused || !z.z.needs_gradient() ? g.write(z.z, Z.rows(), H) : g.into(z.z);
    kernels::forecast_loss_backward(g.on(), given, affine.sink(g, 1), seed, out.data, loss, work);
  });
}

#define INSTANTIATE(T, On)                                                                                       \
  template Tensor<T> revin_inverse(const Projected<T, On>&, const AffineVars<T, On>&, const Normalised<T, On>&); \
  template Var<T, On> forecast_loss(const Projected<T, On>&, const AffineVars<T, On>&, const Normalised<T, On>&, \
                                    const Truth<T>&, kernels::StatsMix);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
