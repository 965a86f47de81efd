#include "tools/run/ensemble.h"

namespace samformer::tools {

Ensemble::Ensemble(std::span<const Checkpoint> models, const optim::Problem& problem, const ChosenDevice& device)
    : Ensemble(problem, device) {
  for (const Checkpoint& m : models) add(m.settings, m.model, m.slab);
}

void Ensemble::add(const Settings& settings, const model::Model& model, std::span<const float> slab) {
  const kernels::Center center = center_of(settings);
  settings_ = &settings;
  loaded_.push_back(device_.load(model, problem_, center));
  members_.push_back({&evaluators_.emplace_back(model, center, loaded_.back().get()), slab});
}

std::vector<double> Ensemble::forecast(std::span<const std::int32_t> starts) const {
  return optim::mean_forecast(members_, problem_, starts);
}

optim::ErrorSums Ensemble::errors(std::span<const std::int32_t> starts) const {
  // Alone it need not bring its forecasts to the host.
  if (members_.size() == 1) return members_[0].evaluator->errors(members_[0].weights, problem_, starts);
  return optim::mean_forecast_errors(members_, problem_, starts, settings_->lookback, settings_->horizon);
}

}  // namespace samformer::tools
