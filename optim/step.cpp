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

template <class T>
Training<T>::Training(const model::Model& model, const StepSettings& settings) : model_(model), settings_(settings) {
  const auto n = static_cast<std::size_t>(model.parameters().trained_size());
  weights_.resize(static_cast<std::size_t>(model.parameters().slab_size()));
  gradient_.resize(n);
  first_moment_.resize(n);
  if (settings.rule.rule != kernels::Rule::sgd) second_moment_.resize(n);
  if (settings.rho > 0) saved_.resize(n);
  if (settings.ema > 0) averaged_.resize(weights_.size());
  partial_.resize(static_cast<std::size_t>(kernels::blocks_of(static_cast<std::int64_t>(n), kernels::update_block)));
}

template <class T>
double Training<T>::pass(const Normalised<T>& input, Truth<T> truth, int number) {
  const Arena::Mark mark = arena_.mark();
  const auto output = model_.forward(tape_, weights_.data(), gradient_.data(), input,
                                     model::Pass{true, settings_.seed, steps_, number});
  const Var<T> loss = forecast_loss(output.z, output.affine, input.level, input.sigma, truth, settings_.stats_mix);
  tape_.backward(loss);
  const double value = static_cast<double>(loss.value().data[0]);
  arena_.rewind(mark);
  return value;
}

template <class T>
typename Training<T>::Losses Training<T>::step(kernels::Windows<T> x, Truth<T> truth, double lr) {
  const auto n = static_cast<std::int64_t>(gradient_.size());
  arena_.rewind({});
  tape_.clear();
  Normalised<T> input = revin(tape_, x, model_.shape().L, model_.center(settings_.center));
  if constexpr (std::is_same_v<T, float>) {
    if (settings_.bf16) round_to_bf16(input);
  }
  const Tensor<T> xhat = input.xhat.value();
  Losses losses{};
  losses.first = losses.second = pass(input, truth, 0);
  const T* scale = settings_.adaptive ? weights_.data() : nullptr;
  const auto squared_norm = [&](const T* by) {
    const Stopwatch watch(profile_, "gradient_norm", float_cost(2 * n, by ? 2 * n : n));
    return kernels::squared_norm(gradient_.data(), by, n, partial_.data());
  };
  const double squares = squared_norm(scale);
  check_finite(losses.first, squares, 1);
  if (settings_.rho > 0) {
    const double norm = std::sqrt(squares);
    {
      const Stopwatch watch(profile_, "perturb", float_cost(2 * n, 4 * n));
      kernels::sam_perturb(weights_.data(), saved_.data(), gradient_.data(), n, settings_.rho / (norm + 1e-12),
                           settings_.adaptive);
    }
    tape_.clear();
    losses.second = pass({tape_.constant(xhat), input.level, input.sigma, input.halves}, truth, 1);
    try {
      check_finite(losses.second, squared_norm(nullptr), 2);
    } catch (const Error&) {
      std::copy(saved_.begin(), saved_.end(), weights_.begin());
      throw;
    }
  }
  ++steps_;
  const double t = static_cast<double>(steps_ - 1);
  const Stopwatch watch(profile_, "update", float_cost(19 * n, 9 * n));
  kernels::restore_and_step(weights_.data(), settings_.rho > 0 ? saved_.data() : weights_.data(), gradient_.data(),
                            first_moment_.data(), second_moment_.data(), averaged_.empty() ? nullptr : averaged_.data(),
                            n, settings_.rule, lr, steps_, std::min(settings_.ema, (1 + t) / (10 + t)));
  if (!averaged_.empty()) std::copy(weights_.begin() + n, weights_.end(), averaged_.begin() + n);
  return losses;
}

template <class T>
void Training<T>::check_finite(double loss, double norm_squared, int pass) const {
  if (std::isfinite(loss) && std::isfinite(norm_squared)) return;
  const model::Parameter* where = not_finite(gradient_);
  throw diverged(steps_ + 1, pass, loss, where);
}

template <class T>
void Training<T>::check_weights() const {
  const model::Parameter* where = not_finite(weights_);
  if (!where) return;
  throw Error(Exit::diverged, fmt::format("training diverged at step {}, in the update after its last pass: the first "
                                          "parameter that is not finite: {}",
                                          steps_, where->name))
      .hint("use a smaller --lr or --rho, and look at the series with `samformer data check`");
}

template <class T>
const model::Parameter* Training<T>::not_finite(std::span<const T> slab) const {
  for (const model::Parameter& p : model_.parameters().all()) {
    if (p.offset >= static_cast<std::int64_t>(slab.size())) continue;  // not trained
    const T* values = slab.data() + p.offset;
    if (!std::all_of(values, values + p.shape.count(), [](T value) { return std::isfinite(value); })) return &p;
  }
  return nullptr;
}

template class Training<float>;
template class Training<double>;

}  // namespace samformer::optim
