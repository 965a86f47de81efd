#include "core/dual.h"
#include "core/dual_gemm.h"
#include "core/ops/ops.h"
#include "kernels/normalise.h"
#include "kernels/spectral.h"

namespace samformer {
namespace {

// Number of samples N of a norm's input, checked.
template <class T, class On>
std::int64_t samples(const char* op, Var<T, On> x, Var<T, On> weight, Var<T, On> bias) {
  const Tensor<T> X = x.value();
  const std::int64_t M = weight.value().count();
  SAMFORMER_CHECK(X.contiguous() && M > 0 && bias.value().count() == M && X.count() % M == 0,
                  "{}: samples of as many elements as weight and bias expected, found {}, {}, {}", op,
                  X.shape.to_string(), weight.value().shape.to_string(), bias.value().shape.to_string());
  return X.count() / M;
}

}  // namespace

template <class T, class On>
Var<T, On> batch_norm(Var<T, On> x, Var<T, On> weight, Var<T, On> bias, const Running<T>& running) {
  const std::int64_t N = samples("batch_norm", x, weight, bias), M = weight.value().count();
  SAMFORMER_CHECK(running.mean.count() == M && running.var.count() == M,
                  "batch_norm: running averages of {} positions expected, found {}, {}", M,
                  running.mean.shape.to_string(), running.var.shape.to_string());
  const std::int64_t n = x.value().count();
  Operation<T, On> op(*x.tape, "batch_norm", float_cost(7 * n, 2 * n), float_cost(12 * n, 4 * n));
  const Tensor<T> X = x.value(), W = weight.value(), Y = op.output(X.shape);
  const bool constant = !running.training;
  T *const mean = constant ? running.mean.data : op.saved(M), *const rstd = op.saved(M);
  if (constant) {
    kernels::batch_norm_running(op.on(), Y.data, rstd, running.mean.data, running.var.data, X.data, W.data,
                                bias.value().data, N, M, running.rule);
  } else {
    T *const moved_mean = running.update ? running.mean.data : nullptr, *const moved_var = running.var.data;
    kernels::batch_norm(op.on(), Y.data, mean, rstd, moved_mean, running.update ? moved_var : nullptr, running.progress,
                        X.data, W.data, bias.value().data, N, M, running.rule);
  }
  return x.tape->record(Y, {x, weight, bias}, [=](Backward<T, On>& g) {
    const Sink<T> dx = g.into(x), dw = g.into(weight), db = g.into(bias);
    kernels::batch_norm_backward(g.on(), dx, dw, db, g.self_dense().data, X.data, mean, rstd, W.data, constant, N, M);
  });
}

template <class T, class On>
Var<T, On> layer_norm(Var<T, On> x, Var<T, On> weight, Var<T, On> bias, double epsilon) {
  const std::int64_t N = samples("layer_norm", x, weight, bias), M = weight.value().count();
  const std::int64_t n = x.value().count();
  Operation<T, On> op(*x.tape, "layer_norm", float_cost(7 * n, 2 * n), float_cost(14 * n, 4 * n));
  const Tensor<T> X = x.value(), W = weight.value(), Y = op.output(X.shape);
  T *const mean = op.saved(N), *const rstd = op.saved(N);
  kernels::layer_norm(op.on(), Y.data, mean, rstd, X.data, W.data, bias.value().data, N, M,
                      op.scratch(kernels::layer_norm_scratch(op.on(), N, M)), epsilon);
  return x.tape->record(Y, {x, weight, bias}, [=](Backward<T, On>& g) {
    const Sink<T> dx = g.into(x), dw = g.into(weight), db = g.into(bias);
    kernels::layer_norm_backward(g.on(), dx, dw, db, g.self_dense().data, X.data, mean, rstd, W.data, N, M,
                                 g.scratch(kernels::layer_norm_scratch(g.on(), N, M)));
  });
}

template <class T, class On>
std::array<Var<T, On>, kernels::spectral_most> spectral_reparam(std::initializer_list<Scaled<T, On>> all) {
  using Layer = kernels::SpectralLayer<T, On>;
  struct Layers {
    std::array<Scaled<T, On>, kernels::spectral_most> vars{};
    std::array<Layer, kernels::spectral_most> kernel{};
    int count = 0;
  } layers;
  SAMFORMER_CHECK(all.size() > 0 && all.size() <= layers.vars.size(), "spectral_reparam: 1 to {} layers, not {}",
                  layers.vars.size(), all.size());
  Cost forward{}, backward{};
  std::int64_t total = 0, scratch = 0;
  for (const Scaled<T, On>& s : all) {
    const Tensor<T> W = s.weight.value();
    SAMFORMER_CHECK(W.contiguous() && W.count() > 0 && s.gamma.value().count() == 1,
                    "spectral_reparam: weight [out, in], gamma [1] expected, found {}, {}", W.shape.to_string(),
                    s.gamma.value().shape.to_string());
    total += W.count();
    scratch = std::max({scratch, kernels::spectral_scratch(On{}, W.rows(), W.cols()), W.rows()});
    // The Gram matrix alone: how many squarings follow depends on the weights.
    const std::int64_t side = std::min(W.rows(), W.cols());
    const Cost gram = product_cost(side, side, std::max(W.rows(), W.cols()));
    forward = {forward.flops + gram.flops, forward.bytes + gram.bytes};
    layers.vars[static_cast<std::size_t>(layers.count++)] = s;
  }
  backward = float_cost(6 * total, 4 * total);
  Tape<T, On>& tape = *layers.vars[0].weight.tape;
  Operation<T, On> op(tape, "spectral_reparam", forward, backward);
  const Tensor<T> scaled = op.output(Shape{total, 1});
  T* to = scaled.data;
  for (int i = 0; i < layers.count; ++i) {
    const auto& [weight, gamma] = layers.vars[static_cast<std::size_t>(i)];
    const Tensor<T> W = weight.value();
    auto* const saved = op.template saved<kernels::Singular<T, On>>(kernels::spectral_saved(W.rows(), W.cols()));
    layers.kernel[static_cast<std::size_t>(i)] = {W.data, gamma.value().data, to, saved, W.rows(), W.cols(), {}, {},
                                                  nullptr};
    to += W.count();
  }
  using Wide = std::conditional_t<std::is_same_v<On, Cuda>, double, kernels::Wide<T>>;
  kernels::spectral_reparam(op.on(), layers.kernel.data(), layers.count, op.template scratch<Wide>(scratch));
  const auto& v = layers.vars;
  const Var<T, On> whole = tape.record(
      scaled, {v[0].weight, v[0].gamma, v[1].weight, v[1].gamma, v[2].weight, v[2].gamma, v[3].weight, v[3].gamma},
      [=](Backward<T, On>& g) {
        Layers own = layers;
        const T* from = g.self().data;
        for (int i = 0; i < own.count; ++i) {
          Layer& l = own.kernel[static_cast<std::size_t>(i)];
          const Scaled<T, On>& s = own.vars[static_cast<std::size_t>(i)];
          l.dweight = g.into(s.weight), l.dgamma = g.into(s.gamma), l.dscaled = from;
          from += l.out * l.in;
        }
        kernels::spectral_reparam_backward(g.on(), own.kernel.data(), own.count, g.template scratch<Wide>(scratch));
      });
  std::array<Var<T, On>, kernels::spectral_most> result{};
  std::int64_t first = 0;
  for (int i = 0; i < layers.count; ++i) {
    const Layer& l = layers.kernel[static_cast<std::size_t>(i)];
    const std::int64_t end = first + l.out * l.in;
    result[static_cast<std::size_t>(i)] =
        tape.part(whole, Tape<T, On>::Axis::rows, first, end, Tensor<T>(scaled.data + first, Shape{l.out, l.in}));
    first = end;
  }
  return result;
}

#define INSTANTIATE(T, On)                                                               \
  template Var<T, On> batch_norm(Var<T, On>, Var<T, On>, Var<T, On>, const Running<T>&); \
  template Var<T, On> layer_norm(Var<T, On>, Var<T, On>, Var<T, On>, double);            \
  template std::array<Var<T, On>, kernels::spectral_most> spectral_reparam(std::initializer_list<Scaled<T, On>>);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
