// The mean forecast of a run's models (several seeds, the members of --auto), where they are computed; of one model its
// own.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "optim/baselines.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {

class Ensemble {
 public:
  // All arguments, here and of add(), outlive it.
  Ensemble(const optim::Problem& problem, const ChosenDevice& device) : problem_(problem), device_(device) {}
  Ensemble(std::span<const Checkpoint> models, const optim::Problem& problem, const ChosenDevice& device);
  // A model with the look-back and horizon of the others and the problem's channels.
  void add(const Settings& settings, const model::Model& model, std::span<const float> slab);

  // Standardised, [windows][targets][H].
  std::vector<double> forecast(std::span<const std::int32_t> starts) const;
  optim::ErrorSums errors(std::span<const std::int32_t> starts) const;

 private:
  const optim::Problem& problem_;
  const ChosenDevice& device_;
  const Settings* settings_ = nullptr;  // of any of them
  std::vector<std::unique_ptr<optim::DeviceModel>> loaded_;
  std::deque<optim::Evaluator> evaluators_;
  std::vector<optim::Member> members_;
};

}  // namespace samformer::tools
