// The passes over the parameter slab: SAM (Foret et al. 2021), ASAM (Kwon et al. 2021), SGD, Adam, AdamW, averaging.
//
//   norm^2 = sum (a g)^2,  a = 1 (SAM) or |w| (ASAM)
//   perturb: saved = w;  w += rho a^2 g / (norm + 1e-12)
//   step, from the saved weights:
//     sgd    g += wd w;  m = momentum m + g;  w -= lr m
//     adam   g += wd w;  m, v moments;        w -= rate m / (sqrt(v) root + epsilon)
//     adamw  w *= 1 - lr wd;                  then as adam with wd = 0
//   average: mean = d mean + (1 - d) w, in the same pass
//
// Adam's two published forms differ in two scalars: PyTorch rate = lr/(1 - b1^t), root = 1/sqrt(1 - b2^t); Keras rate =
// lr sqrt(1 - b2^t)/(1 - b1^t), root = 1. Restoring copies `saved` back: subtracting the perturbation would drift.
// All arrays have n elements. Sums are per block of 2048, added up in block order, on the CPU in double. A step is
// gradient_norm and perturb (SAM), then gradient_norm and update; none waits: what goes wrong is recorded in Progress
// (kernels/device.h). After a pass with a non-finite gradient (or loss, which the CPU looks at) nothing moves any more,
// and update puts the saved weights back.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/device.h"

namespace samformer::kernels {

enum class Rule { sgd, adam, adamw };
enum class AdamForm { pytorch, keras };

// The optimiser's constants.
struct UpdateRule {
  Rule rule = Rule::adam;
  AdamForm form = AdamForm::pytorch;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double momentum = 0.9;
};

// What may change between steps: the host's, and what a device's kernels read (written between epochs).
struct Hyper {
  double lr = 0, rho = 0;
  double ema = 0;  // decay of the averaged weights
};
struct DeviceHyper {
  float lr = 0, rho = 0, momentum = 0, beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0, ema = 0;
  double log_beta1 = 0, log_beta2 = 0;  // natural logarithms: 1 - beta^t loses digits in float
};
template <class On>
using HyperOn = std::conditional_t<std::is_same_v<On, Cuda>, DeviceHyper, Hyper>;

template <class T>
struct UpdateSlabs {
  T *weights, *saved, *m, *v, *average;  // saved null: one pass a step; v null for sgd; average null: none
  const T* gradient;
  std::int64_t n;
};

// The loss of a pass over `windows` windows, number 0 or 1, as forecast_loss left it: `parts` of it.
template <class T>
struct PassLoss {
  const T* loss;
  std::int64_t parts, windows;
  int pass;
  bool last;  // of its step: update follows
};

// The optimisers, an element: w, in place, from gradient g and moments m, v; on both devices.
template <class T>
struct UpdateFactors {
  T lr, momentum;  // sgd
  T rate, root, epsilon, b1, c1, b2, c2;
  T coupled, shrink;  // weight decay in the gradient, and of the weight
};
template <class T>
constexpr void sgd_element(T& w, T& m, T g, const UpdateFactors<T>& f) {
  m = f.momentum * m + (g + f.coupled * w);
  w = w - f.lr * m;
}
template <class T>
constexpr void adam_element(T& w, T& m, T& v, T g, const UpdateFactors<T>& f) {
  const T gradient = g + f.coupled * w;
  m = f.b1 * m + f.c1 * gradient;
  v = f.b2 * v + f.c2 * gradient * gradient;
  w = w * f.shrink - f.rate * m / (std::sqrt(v) * f.root + f.epsilon);
}

// Elements that a norm sums up before it adds up the sums.
inline constexpr std::int64_t norm_block = 2048;
// Doubles of `parts`.
constexpr std::int64_t norm_parts(Cpu, std::int64_t n) { return (n + norm_block - 1) / norm_block; }
std::int64_t norm_parts(const Cuda& on, std::int64_t n);
// The norm of the gradient (adaptive: of w g), left in parts, and the pass's loss, in progress.
void gradient_norm(const Cuda& on, double* parts, Progress* progress, const DeviceHyper* hyper,
                   const UpdateSlabs<float>& slabs, bool adaptive, const PassLoss<float>& loss);
// saved = w; w += rho g / (norm + 1e-12), adaptive: rho w^2 g / (norm + 1e-12).
void perturb(const Cuda& on, const UpdateSlabs<float>& slabs, Progress* progress, const DeviceHyper* hyper,
             const double* parts, bool adaptive);
// From w = saved: the optimiser's step, its moments and the averaged weights. Ends the step of `passes` passes.
void update(const Cuda& on, const UpdateSlabs<float>& slabs, Progress* progress, const DeviceHyper* hyper,
            const double* parts, const UpdateRule& rule, int passes);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace samformer::kernels {

namespace detail {

// Fills the record of a pass whose loss or norm is not finite.
template <class T>
void record_bad(Progress* progress, int pass, double squares, const UpdateSlabs<T>& slabs) {
  if (progress->bad_pass != 0 || (std::isfinite(progress->loss[pass - 1]) && std::isfinite(squares))) return;
  const T* const bad = std::find_if(slabs.gradient, slabs.gradient + slabs.n, [](T g) { return !std::isfinite(g); });
  progress->bad_pass = pass;
  progress->bad_step = progress->step + 1;
  progress->bad_element = bad == slabs.gradient + slabs.n ? -1 : bad - slabs.gradient;
}
inline double total_of(const double* parts, std::int64_t n) {
  double total = 0;
  for (std::int64_t i = 0; i < norm_parts(Cpu{}, n); ++i) total += parts[i];
  return total;
}

}  // namespace detail

template <class T>
void gradient_norm(Cpu, double* work, Progress* progress, const Hyper*, const UpdateSlabs<T>& slabs, bool adaptive,
                   const PassLoss<T>& loss) {
  const T *const g = slabs.gradient, *const w = adaptive ? slabs.weights : nullptr;
  const std::int64_t n = slabs.n, blocks = blocks_of(n, norm_block);
  progress->loss[loss.pass] = static_cast<double>(*loss.loss);
  progress->squared_error[loss.pass] += progress->loss[loss.pass] * static_cast<double>(loss.windows);
  parallel_for<T>(blocks, [=](std::int64_t block) {
    double total = 0;
    const std::int64_t end = std::min(n, (block + 1) * norm_block);
    if (w) {
#pragma omp simd reduction(+ : total)
      for (std::int64_t i = block * norm_block; i < end; ++i) {
        const double scaled = static_cast<double>(g[i]) * static_cast<double>(w[i]);
        total += scaled * scaled;
      }
    } else {
#pragma omp simd reduction(+ : total)
      for (std::int64_t i = block * norm_block; i < end; ++i) {
        total += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      }
    }
    work[block] = total;
  });
}

template <class T>
void perturb(Cpu, const UpdateSlabs<T>& slabs, Progress* progress, const Hyper* hyper, const double* parts,
             bool adaptive) {
  T *const w = slabs.weights, *const saved = slabs.saved;
  const T* const g = slabs.gradient;
  const std::int64_t n = slabs.n;
  const double squares = detail::total_of(parts, n);
  detail::record_bad(progress, 1, squares, slabs);
  if (progress->bad_pass != 0) {
    std::copy(w, w + n, saved);
    return;
  }
  const double scale = hyper->rho / (std::sqrt(squares) + 1e-12);
  parallel_for<T>(blocks_of(n, norm_block), [=](std::int64_t block) {
    const std::int64_t end = std::min(n, (block + 1) * norm_block);
    const T factor = static_cast<T>(scale);
    if (adaptive) {
#pragma omp simd
      for (std::int64_t i = block * norm_block; i < end; ++i) {
        const T before = w[i];
        saved[i] = before;
        w[i] = before + factor * before * before * g[i];
      }
    } else {
#pragma omp simd
      for (std::int64_t i = block * norm_block; i < end; ++i) {
        const T before = w[i];
        saved[i] = before;
        w[i] = before + factor * g[i];
      }
    }
  });
}

template <class T>
void update(Cpu, const UpdateSlabs<T>& slabs, Progress* progress, const Hyper* hyper, const double* parts,
            const UpdateRule& rule, int passes) {
  T *const w = slabs.weights, *const m = slabs.m, *const v = slabs.v, *const mean = slabs.average;
  const T *const saved = slabs.saved ? slabs.saved : w, *const g = slabs.gradient;
  const std::int64_t n = slabs.n;
  detail::record_bad(progress, passes, detail::total_of(parts, n), slabs);
  ++progress->batch;
  const std::int64_t step = ++progress->step;
  if (progress->bad_pass != 0) {
    if (slabs.saved) std::copy(saved, saved + n, w);
    return;
  }
  const double lr = hyper->lr, before = static_cast<double>(step - 1);
  const double mean_decay = std::min(hyper->ema, (1 + before) / (10 + before));
  const double correction1 = 1 - std::pow(rule.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(rule.beta2, static_cast<double>(step));
  const bool keras = rule.form == AdamForm::keras;
  UpdateFactors<T> f{};
  f.lr = static_cast<T>(lr), f.momentum = static_cast<T>(rule.momentum);
  f.rate = static_cast<T>(keras ? lr * std::sqrt(correction2) / correction1 : lr / correction1);
  f.root = static_cast<T>(keras ? 1 : 1 / std::sqrt(correction2)), f.epsilon = static_cast<T>(rule.epsilon);
  f.b1 = static_cast<T>(rule.beta1), f.c1 = static_cast<T>(1 - rule.beta1);
  f.b2 = static_cast<T>(rule.beta2), f.c2 = static_cast<T>(1 - rule.beta2);
  f.coupled = static_cast<T>(rule.rule == Rule::adamw ? 0 : rule.weight_decay);
  f.shrink = static_cast<T>(rule.rule == Rule::adamw ? 1 - lr * rule.weight_decay : 1);
  const T keep = static_cast<T>(mean_decay), take = static_cast<T>(1 - mean_decay);
  const bool sgd = rule.rule == Rule::sgd;
  parallel_for<T>(blocks_of(n, norm_block), [=](std::int64_t block) {
    const std::int64_t begin = block * norm_block, end = std::min(n, begin + norm_block);
    if (sgd) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        T own = saved[i];
        sgd_element(own, m[i], g[i], f);
        w[i] = own;
      }
    } else {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        T own = saved[i];
        adam_element(own, m[i], v[i], g[i], f);
        w[i] = own;
      }
    }
    if (mean) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) mean[i] = keep * mean[i] + take * w[i];
    }
  });
}

}  // namespace samformer::kernels
#endif
