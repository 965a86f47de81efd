// The training loss as a function of the weights, in double, exact to rounding: value, gradient, Hessian-vector product
// (Tape<Dual<double>>, forward over reverse) and m-sharpness.
//
//   loss(w) = mean over windows, target channels and steps of (forecast - truth)^2, each window with its own
//   statistics; with `stats_mix` > 0 mixed (kernels/loss.h, that share at every step) with the statistics of the whole
//   set, taken as one batch
//
// The windows are visited in batches of a bounded number of rows, so memory does not grow with their number; results
// are sums in window order and depend neither on the number of threads nor on how often they are asked for.
//
// Vectors are of length `size()`: the trainable numbers in the order of the parameter table, without the slab's gaps.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/dual.h"
#include "optim/evaluator.h"

namespace samformer::optim {

class TrainingLoss {
 public:
  // All arguments but the model outlive this object. `before_batch` is called before each batch of windows and may
  // throw (a signal).
  TrainingLoss(
      const model::Model& model, kernels::Center center, const Problem& problem, std::span<const std::int32_t> starts,
      double stats_mix, std::function<void()> before_batch = [] {});

  std::int64_t size() const { return static_cast<std::int64_t>(places_.size()); }
  // A slab's trained numbers without its gaps. Its others (running averages, frozen weights) are taken over: from now
  // on the loss is with these.
  std::vector<double> compact(std::span<const float> slab);

  double value(std::span<const double> weights);
  double gradient(std::span<const double> weights, std::span<double> gradient);
  // out = H v at the weights; returns the loss.
  double hessian_product(std::span<const double> weights, std::span<const double> v, std::span<double> out);
  // Mean over consecutive groups of m windows (their own loss L_S, mixed with the whole set's statistics) of
  // L_S(w + rho g / |g|) - L_S(w), g its gradient: SAM's own ascent step (Foret et al. 2021, m-sharpness), for each
  // rho.
  std::vector<double> m_sharpness(std::span<const double> weights, std::span<const double> rhos, std::int64_t m);

 private:
  template <class T>
  struct Pass {
    std::vector<T> weights, gradient;  // slabs
    std::vector<T> windows;            // [N][D][L + H] of one batch
    std::vector<std::int32_t> starts;
    std::vector<kernels::Moment<T, Cpu>> moments;
    Arena<> arena;
    Tape<T> tape{arena};
  };
  // Fills the batch's windows in; they start at pass.starts.
  template <class T>
  kernels::Windows<T> load(Pass<T>& pass, std::span<const std::int32_t> batch) const;
  // Loss of the windows at `starts`, its gradient added into `total` (a slab) unless that is empty.
  template <class T>
  T evaluate(Pass<T>& pass, std::span<const std::int32_t> starts, std::span<T> total);
  void scatter(std::span<const double> v, std::span<double> slab) const;

  model::Model model_;
  kernels::Center center_;
  const Problem* problem_;
  std::span<const std::int32_t> starts_;
  double stats_mix_;
  std::function<void()> before_batch_;
  std::vector<std::size_t> places_;  // of the trainable numbers in a slab
  std::vector<double> moments_;      // of the whole set, where mixed
  Pass<double> real_;
  Pass<Dual<double>> dual_;
};

}  // namespace samformer::optim
