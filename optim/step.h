// One training step: sharpness-aware minimisation (Foret et al. 2021) over SGD, Adam or AdamW.
//
//   g = grad loss(w);  e = rho g / (|g| + 1e-12);  g' = grad loss(w + e);  w = step(w, g')        rho = 0: one pass
//
// One norm over all parameters. ASAM (`adaptive`): e = rho w^2 g / (| |w| g | + 1e-12). The windows are normalised once
// a step, both passes read the same copy. Slabs (model/parameters.h) hold weights, gradients, the saved copy, the
// optimiser's moments and the averaged weights. The optimiser works on the trained beginning of a slab; what lies
// behind it (running averages) is the forward pass's, and the averaged copy has it as it is. After the first step
// nothing is allocated. T is float (training) or double (the reference).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/ops/ops.h"
#include "kernels/update.h"
#include "model/registry.h"

namespace samformer::optim {

struct StepSettings {
  kernels::UpdateRule rule;
  double rho = 0.7;
  bool adaptive = false;
  kernels::StatsMix stats_mix{0.5, 250};
  kernels::Center center = kernels::Center::mean;
  double ema = 0.998;      // decay of the averaged weights; 0: none are kept
  bool bf16 = false;       // float only: products with the windows in bfloat16 (kernels/cpu/bf16.h)
  std::uint64_t seed = 1;  // of dropout
};

// The error of a pass whose loss (where it is known) or gradient is not finite; `where` null: no parameter's.
Error diverged(std::int64_t step, int pass, std::optional<double> loss, const model::Parameter* where);

template <class T>
class Training {
 public:
  // The weights are zero until they are filled in.
  Training(const model::Model& model, const StepSettings& settings);

  const StepSettings& settings() const { return settings_; }
  // One slab of each kind; `averaged` is empty without ema.
  std::span<T> weights() { return weights_; }
  std::span<const T> gradient() const { return gradient_; }
  std::span<T> first_moment() { return first_moment_; }
  std::span<T> second_moment() { return second_moment_; }  // empty for sgd
  std::span<T> averaged() { return averaged_; }
  // The weights that validation, test and forecasts use.
  std::span<const T> tested() const { return averaged_.empty() ? std::span<const T>(weights_) : averaged_; }
  // Steps add what their operations cost; null: no more.
  void set_profile(Profile* profile) {
    profile_ = profile;
    tape_.set_profile(profile);
  }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  // Starts the average at the current weights: call after filling them in.
  void start_average() {
    if (!averaged_.empty()) averaged_ = weights_;
  }

  struct Losses {
    double first;   // at w
    double second;  // at w + e; the same as `first` without SAM
  };
  // One step on the windows x (length L) and their truth (length H). Throws Error(Exit::diverged) naming step (from 1),
  // pass and the first parameter whose gradient is not finite; the trained weights are then those before the step.
  Losses step(kernels::Windows<T> x, Truth<T> truth, double lr);
  // Throws Error(Exit::diverged) naming the step and the parameter unless all weights are finite: the last step's
  // update is followed by no pass that would find out.
  void check_weights() const;

 private:
  double pass(const Normalised<T>& input, Truth<T> truth, int number);
  void check_finite(double loss, double norm_squared, int pass) const;
  // The first parameter with a value in `slab` that is not finite; nullptr: none.
  const model::Parameter* not_finite(std::span<const T> slab) const;

  model::Model model_;
  StepSettings settings_;
  std::int64_t steps_ = 0;
  std::vector<T> weights_, gradient_, saved_, first_moment_, second_moment_, averaged_;
  std::vector<double> partial_;
  Arena arena_;
  Tape<T> tape_{arena_};
  Profile* profile_ = nullptr;
};

}  // namespace samformer::optim
