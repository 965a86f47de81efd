#include "optim/covariate_fit.h"

#include <Eigen/Cholesky>
#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace samformer::optim {
namespace {

constexpr std::int64_t most_pairs = 65536;
constexpr double strength = 1e-4;

double mean_of(const float* x, std::int64_t n) {
  double total = 0;
  for (std::int64_t i = 0; i < n; ++i) total += static_cast<double>(x[i]);
  return total / static_cast<double>(n);
}

}  // namespace

std::vector<float> fit_covariates(const model::Problem& p, std::span<const model::Span> runs, std::int64_t L,
                                  std::int64_t H) {
  const std::int64_t F = p.known.features();
  if (F == 0) return {};
  std::vector<float> weights(static_cast<std::size_t>(p.D * F));
  std::vector<std::int64_t> all, starts;
  for (const model::Span run : runs) {
    for (std::int64_t s = run.first; s + L + H <= run.last; ++s) all.push_back(s);
  }
  const std::int64_t most = std::max<std::int64_t>(most_pairs / H, 64), stride = (std::ssize(all) + most - 1) / most;
  for (std::int64_t i = 0; i < std::ssize(all); i += stride) starts.push_back(all[static_cast<std::size_t>(i)]);
  if (starts.empty()) return weights;

  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  const std::int64_t pairs = std::ssize(starts) * H;
  // Column `to` of the pairs: a row of the problem relative to its mean in the look-back.
  const auto fill = [&](Matrix& m, std::int64_t to, const float* row) {
    for (std::int64_t n = 0; n < std::ssize(starts); ++n) {
      const float* window = row + starts[static_cast<std::size_t>(n)];
      const double level = mean_of(window, L);
      for (std::int64_t h = 0; h < H; ++h) m(n * H + h, to) = static_cast<double>(window[L + h]) - level;
    }
  };
  const auto row = [&](std::int64_t number) { return p.values.data() + number * p.rows; };
  const int threads = Eigen::nbThreads();
  Eigen::setNbThreads(1);
  Matrix shared(pairs, p.known.shared);
  for (std::int64_t f = 0; f < p.known.shared; ++f) fill(shared, f, row(p.known.first + f));
  const Matrix G = shared.transpose() * shared;
  kernels::parallel_for<double>(std::ssize(p.targets), [&](std::int64_t t) {
    const std::int64_t d = p.targets[static_cast<std::size_t>(t)], S = p.known.shared;
    Matrix y(pairs, 1), own(pairs, p.known.own), whole(F, F), right(F, 1);
    fill(y, 0, row(d));
    for (std::int64_t f = S; f < F; ++f) fill(own, f - S, row(p.known.first + p.known.row(d, f)));
    whole.topLeftCorner(S, S) = G;
    whole.topRightCorner(S, F - S) = shared.transpose() * own;
    whole.bottomLeftCorner(F - S, S) = whole.topRightCorner(S, F - S).transpose();
    whole.bottomRightCorner(F - S, F - S) = own.transpose() * own;
    right.topRows(S) = shared.transpose() * y;
    right.bottomRows(F - S) = own.transpose() * y;
    const double ridge = strength * whole.diagonal().mean();
    if (!(ridge > 0)) return;
    whole.diagonal().array() += ridge;
    const Matrix w = whole.llt().solve(right);
    for (std::int64_t f = 0; f < F; ++f) weights[static_cast<std::size_t>(d * F + f)] = static_cast<float>(w(f, 0));
  });
  Eigen::setNbThreads(threads);
  return weights;
}

std::vector<float> with_covariates(const model::Linear& net, std::span<const float> slab, const model::Problem& problem,
                                   std::span<const float> weights) {
  const model::Model whole = model::Model(net).with_covariates(problem.known.features());
  if (slab.empty() || whole.covariates() == 0) return {slab.begin(), slab.end()};
  std::vector<float> all(static_cast<std::size_t>(whole.parameters().slab_size()));
  std::ranges::copy(weights, all.begin());
  std::ranges::copy(slab, all.begin() + whole.parameters().all()[1].offset);
  return all;
}

}  // namespace samformer::optim
