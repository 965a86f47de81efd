#include "optim/step.h"

#include <algorithm>
#include <cmath>

namespace samformer::optim {

Error diverged(std::int64_t step, int pass, std::optional<double> loss, const model::Parameter* where) {
  return Error(Exit::diverged,
               fmt::format(
                   "training diverged at step {}, pass {}: {}the first parameter whose gradient is not finite: {}",
                   step, pass, loss ? fmt::format("the loss is {}, ", *loss) : "",
                   where ? where->name : "none (the loss itself)"))
      .hint("use a smaller --lr or --rho, and look at the series with `samformer data check`");
}

template <class T, class On>
void Step<T, On>::operator()(const StepSlabs<T>& slabs, kernels::Progress* progress, const kernels::HyperOn<On>* hyper,
                             const kernels::Windows<T>& x, const Truth<T>& truth) {
  const On& on = tape_.on();
  const std::int64_t n = model_.parameters().trained_size(), R = x.N * x.D;
  const bool sam = settings_.rho > 0;
  const kernels::UpdateSlabs<T> update{slabs.weights,
                                       sam ? slabs.saved : nullptr,
                                       slabs.first_moment,
                                       slabs.second_moment,
                                       slabs.averaged,
                                       slabs.gradient,
                                       n};
  arena_.rewind({});
  tape_.clear();
  Normalised<T, On> input =
      revin(tape_, model_.seen(x), model_.shape().L, model_.center(settings_.center), settings_.stats_mix.any());
  if constexpr (std::is_same_v<T, float> && std::is_same_v<On, Cpu>) {
    if (settings_.bf16) round_to_bf16(input);
  }
  double* const parts = arena_.template allocate<double>(kernels::norm_parts(on, n));
  const Tensor<T> xhat = input.xhat.value(), marks = input.marks ? input.marks.value() : Tensor<T>{};
  const typename Arena<On>::Mark begin = arena_.mark();
  // Forward, backward and the gradient's norm at the weights as they are.
  const auto pass = [&](int number, bool last, bool adaptive) {
    tape_.clear();
    arena_.rewind(begin);
    input.xhat = tape_.constant(xhat);
    if (input.marks) input.marks = tape_.constant(marks);
    const std::int64_t step = std::is_same_v<On, Cpu> ? progress->step : 0;  // a device's reads its own progress
    const model::Pass training{true, settings_.seed, step, number, std::is_same_v<On, Cpu> ? nullptr : progress};
    const auto output = model_.forward(tape_, slabs.weights, slabs.gradient, input, training);
    const Var<T, On> loss = forecast_loss(output.z, output.affine, input, truth, settings_.stats_mix);
    tape_.backward(loss);
    const Stopwatch<On> watch(tape_.timer(), "gradient_norm", float_cost(2 * n, adaptive ? 2 * n : n));
    kernels::gradient_norm(on, parts, progress, hyper, update, adaptive,
                           {loss.value().data, kernels::loss_size(on, R), x.N, number, last});
  };
  pass(0, !sam, sam && settings_.adaptive);
  if (sam) {
    {
      const Stopwatch<On> watch(tape_.timer(), "perturb", float_cost(2 * n, 4 * n));
      kernels::perturb(on, update, progress, hyper, parts, settings_.adaptive);
    }
    pass(1, true, false);
  }
  const Stopwatch<On> watch(tape_.timer(), "update", float_cost(19 * n, 9 * n));
  kernels::update(on, update, progress, hyper, parts, settings_.rule, sam ? 2 : 1);
}

template <class T>
Training<T>::Training(const model::Model& model, const StepSettings& settings)
    : model_(model), settings_(settings), step_(model, settings) {
  const auto n = static_cast<std::size_t>(model.parameters().trained_size());
  weights_.resize(static_cast<std::size_t>(model.parameters().slab_size()));
  gradient_.resize(n);
  first_moment_.resize(n);
  if (settings.rule.rule != kernels::Rule::sgd) second_moment_.resize(n);
  if (settings.rho > 0) saved_.resize(n);
  if (settings.ema > 0) averaged_.resize(weights_.size());
}

template <class T>
typename Training<T>::Losses Training<T>::step(const kernels::Windows<T>& x, const Truth<T>& truth, double lr) {
  const kernels::Hyper hyper{lr, settings_.rho, settings_.ema};
  kernels::Progress progress;
  progress.step = steps_;
  const auto slab = [](std::vector<T>& v) { return v.empty() ? nullptr : v.data(); };
  step_({weights_.data(), gradient_.data(), slab(saved_), first_moment_.data(), slab(second_moment_), slab(averaged_)},
        &progress, &hyper, x, truth);
  check(progress);
  steps_ = progress.step;
  copy_untrained();
  return {progress.loss[0], progress.loss[settings_.rho > 0 ? 1 : 0]};
}

template <class T>
void Training<T>::check(const kernels::Progress& progress) {
  if (progress.bad_pass == 0) return;
  steps_ = progress.bad_step - 1;
  const model::Parameter* where = nullptr;
  for (const model::Parameter& p : model_.parameters().all()) {
    if (progress.bad_element >= p.offset && progress.bad_element < p.offset + p.shape.count()) where = &p;
  }
  std::optional<double> loss;  // the host's progress has it
  if (progress.loss[progress.bad_pass - 1] != 0) loss = progress.loss[progress.bad_pass - 1];
  throw diverged(progress.bad_step, progress.bad_pass, loss, where);
}

template <class T>
void Training<T>::check_weights() const {
  for (const model::Parameter& p : model_.parameters().all()) {
    const T* const values = weights_.data() + p.offset;
    if (std::all_of(values, values + p.shape.count(), [](T value) { return std::isfinite(value); })) continue;
    throw Error(Exit::diverged, fmt::format("training diverged at step {}, in the update after its last pass: the "
                                            "first parameter that is not finite: {}",
                                            steps_, p.name))
        .hint("use a smaller --lr or --rho, and look at the series with `samformer data check`");
  }
}

#ifndef SAMFORMER_NO_DEVICE
template class Step<float, Cuda>;
#endif
template class Training<float>;
template class Training<double>;

}  // namespace samformer::optim
