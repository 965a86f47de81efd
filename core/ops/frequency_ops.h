// Operations on tokens [N T, d] by steps: decompositions, delays, frequencies. As core/ops/ops.h's.
#pragma once

#include <initializer_list>
#include <span>

#include "core/ops/ops.h"

namespace samformer {

// The trend, a mixture of moving averages of up to kernels::most_averages widths, and what is left (kernels/steps.h):
// [N T, d] each. scale and shift [widths] are the mixture's; of no tape where there is one width.
template <class T, class On>
Decomposed<T, On> decompose_steps(Var<T, On> x, std::int64_t N, std::span<const std::int64_t> widths,
                                  Var<T, On> scale = {}, Var<T, On> shift = {});

// Less its mean over each sample's steps; that mean at every step.
template <class T, class On>
Var<T, On> step_means(Var<T, On> x, std::int64_t N, double own, double share);
template <class T, class On>
Var<T, On> less_step_mean(Var<T, On> x, std::int64_t N) {
  return step_means(x, N, 1, -1);
}
template <class T, class On>
Var<T, On> step_mean(Var<T, On> x, std::int64_t N) {
  return step_means(x, N, 0, 1);
}

// Auto-correlation of q [N T, d] with k, v [N S, d] over the K strongest delays (kernels/delays.h), one set for all
// samples where `shared`: [N T, d].
template <class T, class On>
Var<T, On> auto_correlation(Var<T, On> q, Var<T, On> k, Var<T, On> v, std::int64_t N, std::int64_t K, bool shared);

// The basis of the modes [M], a constant of no gradient, for linear() (kernels/fourier.h): [2 M, T], the inverse
// [T, 2 M]. `modes` of no tape: 0 .. count-1.
template <class T, class On>
Var<T, On> fourier_basis(Tape<T, On>& tape, Var<T, On> modes, std::int64_t count, std::int64_t steps);
template <class T, class On>
Var<T, On> inverse_fourier_basis(Tape<T, On>& tape, Var<T, On> modes, std::int64_t count, std::int64_t steps,
                                 double scale = 1);

// Complex products by head and mode, x [N h E_in, 2 M], weight [h, E_in, E_out, M, 2]: [N h E_out, 2 M].
template <class T, class On>
Var<T, On> mode_products(Var<T, On> x, Var<T, On> weight, std::int64_t N);

// tanh(q' k) k of coefficients, by head: q [N h E, 2 Mq], k [N h E, 2 Mk], result as q (kernels/fourier.h).
template <class T, class On>
Var<T, On> mode_attention(Var<T, On> q, Var<T, On> k, std::int64_t N, std::int64_t heads);

}  // namespace samformer
