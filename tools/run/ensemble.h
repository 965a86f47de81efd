// The mean forecast of a run's models (several seeds, the members of --auto), where they are computed; of one model its
// own.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "optim/baselines.h"
#include "tools/cli/signals.h"
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
  // The same, batch by batch, so that no more is held at a time: visit(starts, forecasts). Throws
  // Error(Exit::interrupted) after a signal.
  template <class Visit>
  void for_batches(std::span<const std::int32_t> starts, const Visit& visit) const {
    constexpr std::int64_t floats = std::int64_t{1} << 22;
    const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, floats / (problem_.D * settings_->horizon)));
    for (std::size_t first = 0; first < starts.size(); first += most) {
      stop_when_interrupted();
      const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
      visit(batch, forecast(batch));
    }
  }
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
