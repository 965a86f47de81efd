#include "optim/least_squares.h"

#include "optim/covariate_fit.h"
#include "optim/moments.h"
#include "optim/normal_equations.h"

namespace samformer::optim {

std::vector<float> least_squares_slab(const model::Linear& net, const Problem& problem,
                                      std::span<const model::Span> runs) {
  const std::int64_t L = net.shape().L, H = net.shape().H;
  const std::int64_t last = L - 1;  // regressors are x_i - x_last, i < last
  if (last == 0) return {};
  const std::vector<float> map = fit_covariates(problem, runs, L, H);
  const WindowMoments moment = window_moments(problem, runs, L, H, false, map);
  const auto relative = [&](std::int64_t i, std::int64_t j) {
    return moment(i, j) - moment(i, last) - moment(j, last) + moment(last, last);
  };
  std::vector<double> G(static_cast<std::size_t>(last * last)), C(static_cast<std::size_t>(last * H));
  for (std::int64_t i = 0; i < last; ++i) {
    for (std::int64_t j = 0; j < last; ++j) G[static_cast<std::size_t>(i * last + j)] = relative(i, j);
    for (std::int64_t h = 0; h < H; ++h) C[static_cast<std::size_t>(i * H + h)] = relative(i, L + h);
  }
  if (!model::solve_normal_equations(G, C, last, H)) return {};
  std::vector<float> slab(static_cast<std::size_t>(net.parameters().slab_size()));
  net.initialise(slab.data(), 0, model::Init::glorot, model::HeadInit::zero);
  float* weight = slab.data() + net.parameters().find("linear_forecaster.weight").offset;
  for (std::int64_t h = 0; h < H; ++h) {
    double rest = 1;
    for (std::int64_t i = 0; i < last; ++i) {
      const double w = C[static_cast<std::size_t>(i * H + h)];
      weight[h * L + i] = static_cast<float>(w);
      rest -= w;
    }
    weight[h * L + last] = static_cast<float>(rest);
  }
  return with_covariates(net, slab, problem, map);
}

}  // namespace samformer::optim
