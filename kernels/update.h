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
// All arrays have n elements. Sums: double, per block of 2048, added up in block order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/parallel.h"

namespace samformer::kernels {

inline constexpr std::int64_t update_block = 2048;

// sum (a g)^2; w null: a = 1, else a = |w|. `work`: blocks_of(n, update_block) doubles.
template <class T>
double squared_norm(const T* g, const T* w, std::int64_t n, double* work) {
  const std::int64_t blocks = blocks_of(n, update_block);
  parallel_for<T>(blocks, [=](std::int64_t block) {
    double total = 0;
    const std::int64_t end = std::min(n, (block + 1) * update_block);
    if (w) {
#pragma omp simd reduction(+ : total)
      for (std::int64_t i = block * update_block; i < end; ++i) {
        const double scaled = static_cast<double>(g[i]) * static_cast<double>(w[i]);
        total += scaled * scaled;
      }
    } else {
#pragma omp simd reduction(+ : total)
      for (std::int64_t i = block * update_block; i < end; ++i) {
        total += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      }
    }
    work[block] = total;
  });
  double total = 0;
  for (std::int64_t block = 0; block < blocks; ++block) total += work[block];
  return total;
}

// saved = w; w += scale g (adaptive: scale w^2 g), with scale = rho / (norm + 1e-12).
template <class T>
void sam_perturb(T* w, T* saved, const T* g, std::int64_t n, double scale, bool adaptive) {
  parallel_for<T>(blocks_of(n, update_block), [=](std::int64_t block) {
    const std::int64_t end = std::min(n, (block + 1) * update_block);
    const T factor = static_cast<T>(scale);
    if (adaptive) {
#pragma omp simd
      for (std::int64_t i = block * update_block; i < end; ++i) {
        const T before = w[i];
        saved[i] = before;
        w[i] = before + factor * before * before * g[i];
      }
    } else {
#pragma omp simd
      for (std::int64_t i = block * update_block; i < end; ++i) {
        const T before = w[i];
        saved[i] = before;
        w[i] = before + factor * g[i];
      }
    }
  });
}

enum class Rule { sgd, adam, adamw };
enum class AdamForm { pytorch, keras };

// The optimiser's constants; learning rate and decay of the average are given at each step.
struct UpdateRule {
  Rule rule = Rule::adam;
  AdamForm form = AdamForm::pytorch;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double momentum = 0.9;
};

// w = step from `saved` (which may be w itself) with gradient g; m and v are Adam's moments (m alone for sgd); `mean`
// is the averaged copy or null. `step` counts from 1.
template <class T>
void restore_and_step(T* w, const T* saved, const T* g, T* m, T* v, T* mean, std::int64_t n, const UpdateRule& rule,
                      double lr, std::int64_t step, double mean_decay) {
  const double correction1 = 1 - std::pow(rule.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(rule.beta2, static_cast<double>(step));
  const bool keras = rule.form == AdamForm::keras;
  const T rate = static_cast<T>(keras ? lr * std::sqrt(correction2) / correction1 : lr / correction1);
  const T root = static_cast<T>(keras ? 1 : 1 / std::sqrt(correction2));
  const T b1 = static_cast<T>(rule.beta1), c1 = static_cast<T>(1 - rule.beta1);
  const T b2 = static_cast<T>(rule.beta2), c2 = static_cast<T>(1 - rule.beta2);
  const T epsilon = static_cast<T>(rule.epsilon), momentum = static_cast<T>(rule.momentum);
  const T coupled = static_cast<T>(rule.rule == Rule::adamw ? 0 : rule.weight_decay);
  const T shrink = static_cast<T>(rule.rule == Rule::adamw ? 1 - lr * rule.weight_decay : 1);
  const T learning_rate = static_cast<T>(lr), keep = static_cast<T>(mean_decay), take = static_cast<T>(1 - mean_decay);
  const bool sgd = rule.rule == Rule::sgd;
  parallel_for<T>(blocks_of(n, update_block), [=](std::int64_t block) {
    const std::int64_t begin = block * update_block, end = std::min(n, begin + update_block);
    if (sgd) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        const T before = saved[i];
        m[i] = momentum * m[i] + (g[i] + coupled * before);
        w[i] = before - learning_rate * m[i];
      }
    } else {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        const T before = saved[i];
        const T gradient = g[i] + coupled * before;
        m[i] = b1 * m[i] + c1 * gradient;
        v[i] = b2 * v[i] + c2 * gradient * gradient;
        w[i] = before * shrink - rate * m[i] / (std::sqrt(v[i]) * root + epsilon);
      }
    }
    if (mean) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) mean[i] = keep * mean[i] + take * w[i];
    }
  });
}

}  // namespace samformer::kernels
