#include "optim/ridge.h"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <limits>

#include "optim/covariate_fit.h"

namespace samformer::optim {
namespace {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

constexpr std::array<double, 8> strengths = {1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
constexpr std::array<kernels::Center, 2> all_centers = {kernels::Center::mean, kernels::Center::last};
constexpr std::int64_t folds = 4;

// Moments of windows from which their centre is taken: G [L][L], C [L][H], and the targets' own sum of squares.
struct Centred {
  Matrix G, C;
  double squares;
};

Centred centred(const WindowMoments& moments, std::int64_t L, kernels::Center center) {
  const std::int64_t length = moments.length, H = length - L;
  Matrix S(length, length);
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t j = 0; j < length; ++j) S(i, j) = moments(i, j);
  }
  // With c = a^T x: sum (x_i - c)(x_j - c) = S_ij - s_i - s_j + a^T s, s = S a.
  const Vector s = center == kernels::Center::last ? Vector(S.col(L - 1)) : Vector(S.leftCols(L).rowwise().mean());
  const double t = center == kernels::Center::last ? s(L - 1) : s.head(L).mean();
  S.colwise() -= s;
  S.rowwise() -= s.transpose();
  S.array() += t;
  return {S.topLeftCorner(L, L), S.topRightCorner(L, H), S.diagonal().tail(H).sum()};
}

// Sums of squared errors over the windows of `tested`, by strength, of weights fitted to those of `fitted`. With
// G = V D V^T and d_i = 1 / (D_i + a m): W = V diag(d) A, A = V^T C, and the sum is
//   squares - 2 sum_i d_i (A Av^T)_ii + sum_ij d_i d_j (V^T Gv V)_ij (A A^T)_ij
std::array<double, strengths.size()> errors(const Centred& fitted, const Centred& tested) {
  const Eigen::SelfAdjointEigenSolver<Matrix> eigen(fitted.G);
  const Matrix& V = eigen.eigenvectors();
  const Matrix A = V.transpose() * fitted.C;
  const Vector cross = A.cwiseProduct(V.transpose() * tested.C).rowwise().sum();
  const Matrix quadratic = (V.transpose() * tested.G * V).cwiseProduct(A * A.transpose());
  const double mean = fitted.G.diagonal().mean();
  std::array<double, strengths.size()> sums{};
  for (std::size_t a = 0; a < strengths.size(); ++a) {
    const Vector d = (eigen.eigenvalues().cwiseMax(0).array() + strengths[a] * mean).inverse();
    sums[a] = tested.squares - 2 * d.dot(cross) + d.dot(quadratic * d);
  }
  return sums;
}

}  // namespace

Ridge choose_ridge(const model::Linear& net, const Problem& problem, const model::Series& series, std::int64_t rows) {
  const std::int64_t L = net.shape().L, H = net.shape().H, length = L + H;
  // The map's levels are means.
  const std::span<const kernels::Center> centers = std::span(all_centers).first(problem.known ? 1 : 2);
  const std::int64_t block = std::max(rows / (2 * folds), H);
  struct Fold {
    WindowMoments before, inside;
  };
  std::vector<Fold> usable;
  for (std::int64_t f = folds; f > 0; --f) {
    const model::Span inside{rows - f * block, rows - (f - 1) * block};
    if (inside.first <= 0) continue;
    const std::vector<model::Span> before = model::unbroken(series, {0, inside.first});
    const std::vector<float> map = fit_covariates(problem, before, L, H);
    Fold fold{window_moments(problem, before, L, H, true, map),
              window_moments(problem, model::unbroken(series, model::with_lookback(inside, L)), L, H, true, map)};
    if (inside.first >= length && fold.before.windows > 0 && fold.inside.windows > 0) usable.push_back(std::move(fold));
  }
  const int threads = Eigen::nbThreads();
  Eigen::setNbThreads(1);
  const auto tasks = static_cast<std::int64_t>(usable.size() * centers.size());
  std::vector<std::array<double, strengths.size()>> sums(static_cast<std::size_t>(tasks));
  kernels::parallel_for<double>(tasks, [&](std::int64_t task) {
    const Fold& fold = usable[static_cast<std::size_t>(task) / centers.size()];
    const kernels::Center center = centers[static_cast<std::size_t>(task) % centers.size()];
    sums[static_cast<std::size_t>(task)] = errors(centred(fold.before, L, center), centred(fold.inside, L, center));
  });
  Eigen::setNbThreads(threads);
  Ridge best;
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t c = 0; c < centers.size() && !usable.empty(); ++c) {
    for (std::size_t a = 0; a < strengths.size(); ++a) {
      double error = 0;
      for (std::size_t f = 0; f < usable.size(); ++f) {
        error += sums[f * centers.size() + c][a] / static_cast<double>(usable[f].inside.windows);
      }
      if (!(error < lowest)) continue;
      lowest = error;
      best = {centers[c], strengths[a]};
    }
  }
  return best;
}

std::vector<float> ridge_slab(const model::Linear& net, const Problem& problem, std::span<const model::Span> runs,
                              const Ridge& ridge) {
  const std::int64_t L = net.shape().L, H = net.shape().H;
  const std::vector<float> map = fit_covariates(problem, runs, L, H);
  const WindowMoments moments = window_moments(problem, runs, L, H, true, map);
  if (moments.windows == 0) return {};
  Centred c = centred(moments, L, ridge.center);
  // Without any variation in the rows all weights are 0: the forecast is the centre.
  const double mean = std::max(c.G.diagonal().mean(), std::numeric_limits<double>::min());
  c.G.diagonal().array() += ridge.strength * mean;
  const int threads = Eigen::nbThreads();
  Eigen::setNbThreads(1);
  const Matrix W = c.G.llt().solve(c.C);
  Eigen::setNbThreads(threads);
  std::vector<float> slab(static_cast<std::size_t>(net.parameters().slab_size()));
  net.initialise(slab.data(), 0, model::Init::glorot, model::HeadInit::zero);
  float* weight = slab.data() + net.parameters().find("linear_forecaster.weight").offset;
  for (std::int64_t h = 0; h < H; ++h) {
    for (std::int64_t i = 0; i < L; ++i) weight[h * L + i] = static_cast<float>(W(i, h));
  }
  return with_covariates(net, slab, problem, map);
}

}  // namespace samformer::optim
