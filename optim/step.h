// One training step: sharpness-aware minimisation (Foret et al. 2021) over SGD, Adam or AdamW.
//
//   g = grad loss(w);  e = rho g / (|g| + 1e-12);  g' = grad loss(w + e);  w = step(w, g')        rho = 0: one pass
//
// One norm over all parameters. ASAM (`adaptive`): e = rho w^2 g / (| |w| g | + 1e-12). The windows are normalised once
// a step, both passes read the same copy. Slabs (model/parameters.h) hold weights, gradients, the saved copy, the
// optimiser's moments and the averaged weights. The optimiser works on the trained beginning of a slab; what lies
// behind it (running averages) is the forward pass's, and the averaged copy has it as it is. After the first step
// nothing is allocated. Step is the same on both devices; a device's (optim/device_model.cpp) is recorded once and
// replayed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
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

// A step's slabs, where it is computed; saved, second and averaged null where the settings have no use for them.
template <class T>
struct StepSlabs {
  T *weights, *gradient, *saved, *first_moment, *second_moment, *averaged;
};

// One step, both of SAM's passes: on a device what is queued.
template <class T, class On>
class Step {
 public:
  Step(const model::Model& model, const StepSettings& settings, On on = {})
      : model_(model), settings_(settings), tape_(arena_, on) {}
  // On the windows x (length L) and their truth (length H). Losses, norms and what goes wrong are in `progress`.
  void operator()(const StepSlabs<T>& slabs, kernels::Progress* progress, const kernels::HyperOn<On>* hyper,
                  const kernels::Windows<T>& x, const Truth<T>& truth);
  Timer<On>& timer() { return tape_.timer(); }

 private:
  model::Model model_;
  StepSettings settings_;
  Arena<On> arena_;
  Tape<T, On> tape_;
};

// What a training depends on, on the host, and its steps there. T is float, or double: the reference.
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
  // Steps add what their operations cost; pass null to stop.
  void set_profile(Profile* profile) { step_.timer().profile = profile; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  // Starts the average at the current weights: call after filling them in.
  void start_average() {
    if (!averaged_.empty()) averaged_ = weights_;
  }
  // What is not trained the passes alone move: its average is what it is. After steps that a device took.
  void copy_untrained() {
    if (!averaged_.empty()) std::copy(weights_.begin() + trained(), weights_.end(), averaged_.begin() + trained());
  }
  // Throws Error(Exit::diverged) where the progress has a bad pass, with the steps before it counted.
  void check(const kernels::Progress& progress);

  struct Losses {
    double first;   // at w
    double second;  // at w + e; the same as `first` without SAM
  };
  // One step on the windows x (length L) and their truth (length H). Throws Error(Exit::diverged) naming step (from 1),
  // pass and the first parameter whose gradient is not finite; the trained weights are then those before the step.
  Losses step(const kernels::Windows<T>& x, const Truth<T>& truth, double lr);
  // Throws Error(Exit::diverged) naming the step and the parameter unless all weights are finite: the last step's
  // update is followed by no pass that would find out.
  void check_weights() const;

 private:
  std::int64_t trained() const { return static_cast<std::int64_t>(gradient_.size()); }

  model::Model model_;
  StepSettings settings_;
  std::int64_t steps_ = 0;
  std::vector<T> weights_, gradient_, saved_, first_moment_, second_moment_, averaged_;
  Step<T, Cpu> step_;
};

}  // namespace samformer::optim
