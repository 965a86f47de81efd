// The training loss in double and what Lanczos, Hutchinson and stochastic quadrature say of its Hessian, beside dense
// statements of the same.
#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <filesystem>
#include <numeric>

#include "model/safetensors.h"
#include "optim/analysis/lanczos.h"
#include "optim/analysis/sharpness.h"
#include "tests/numeric.h"
#include "tests/shared_data.h"

namespace samformer {
namespace {

using kernels::Center;
using model::Samformer;
using model::Value;

constexpr std::uint64_t seed = 20261125;

// A random series and a model with random weights; windows may be more than one batch.
struct Small {
  Samformer net;
  std::vector<float> series, slab;
  std::vector<std::int32_t> starts, targets;
  optim::Problem problem;

  Small(model::SamformerShape shape, std::int64_t windows, std::vector<std::int32_t> chosen)
      : net(shape), targets(std::move(chosen)) {
    const std::int64_t rows = windows + shape.L + shape.H - 1;
    series = numeric::normals<float>(shape.D * rows, seed, 1);
    slab.resize(static_cast<std::size_t>(net.parameters().slab_size()));
    net.initialise(slab.data(), seed, model::Init::pytorch, model::HeadInit::as_init);
    starts.resize(static_cast<std::size_t>(windows));
    std::iota(starts.begin(), starts.end(), 0);
    problem = {series, rows, shape.D, targets};
  }
  optim::TrainingLoss loss(double stats_mix = 0) { return {net, Center::mean, problem, starts, stats_mix}; }
};

double relative(double found, double expected) { return std::fabs(found - expected) / std::fabs(expected); }

optim::Product of_matrix(const Eigen::MatrixXd& a) {
  return [&a](std::span<const double> v, std::span<double> out) {
    Eigen::Map<Eigen::VectorXd>(out.data(), a.rows()) =
        a * Eigen::Map<const Eigen::VectorXd>(v.data(), static_cast<Eigen::Index>(v.size()));
  };
}

// Symmetric, n x n, with a few eigenvalues far out at both ends, as a Hessian has them.
Eigen::MatrixXd random_symmetric(Eigen::Index n) {
  const std::vector<double> numbers = numeric::normals(n * n, seed, 7);
  const Eigen::MatrixXd m = Eigen::Map<const Eigen::MatrixXd>(numbers.data(), n, n);
  Eigen::MatrixXd a = (m + m.transpose()) / 2;
  a += 60 * m.col(0) * m.col(0).transpose() / m.col(0).squaredNorm();
  return a;
}

TEST(Lanczos, ExtremesOfADenseMatrix) {
  const Eigen::MatrixXd a = random_symmetric(120);
  const Eigen::VectorXd all = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(a).eigenvalues();
  const auto found = optim::extreme_eigenvalues(of_matrix(a), a.rows(), 1e-9, 120, seed);
  EXPECT_TRUE(found.converged);
  EXPECT_LE(found.products, 120);
  EXPECT_TRUE(relative(found.largest.value, all.maxCoeff()) <= 1e-12) << found.largest.value;
  EXPECT_TRUE(relative(found.smallest.value, all.minCoeff()) <= 1e-12) << found.smallest.value;
  EXPECT_TRUE(found.largest.residual <= 1e-9 * std::fabs(found.largest.value));
  EXPECT_TRUE(found.smallest.residual <= 1e-9 * std::fabs(found.smallest.value));
  EXPECT_TRUE(relative(optim::largest_eigenvalue(of_matrix(a), a.rows(), 1e-9, 120, seed).value, all.maxCoeff()) <=
              1e-12);
  // Too few products: the residual says how far it is, a bound on the distance to an eigenvalue.
  const auto early = optim::extreme_eigenvalues(of_matrix(a), a.rows(), 1e-9, 12, seed);
  EXPECT_FALSE(early.converged);
  EXPECT_EQ(early.products, 12);
  EXPECT_GT(early.smallest.residual, 1e-9 * std::fabs(early.smallest.value));
  EXPECT_TRUE((all.array() - early.smallest.value).abs().minCoeff() <= early.smallest.residual * (1 + 1e-12));
}

TEST(Lanczos, AnInvariantSpaceEndsIt) {
  Eigen::MatrixXd a = Eigen::MatrixXd::Zero(30, 30);
  a.diagonal().head(3) << 5, 5, -2;
  const auto found = optim::extreme_eigenvalues(of_matrix(a), 30, 1e-9, 30, seed);
  EXPECT_TRUE(found.converged);
  EXPECT_LE(found.products, 5);
  EXPECT_TRUE(relative(found.largest.value, 5) <= 1e-12);
  EXPECT_TRUE(relative(found.smallest.value, -2) <= 1e-12);
}

TEST(Trace, HutchinsonAndTheDensityAgree) {
  const Eigen::MatrixXd a = random_symmetric(60);
  const auto found = optim::hutchinson_trace(of_matrix(a), 60, 200, seed);
  EXPECT_GT(found.standard_error, 0);
  EXPECT_TRUE(std::fabs(found.trace - a.trace()) <= 3 * found.standard_error) << found.trace << ' ' << a.trace();
  // The variance of v' A v for random signs is 2 sum_{i != j} a_ij^2.
  double off = a.squaredNorm() - a.diagonal().squaredNorm();
  EXPECT_TRUE(relative(found.standard_error, std::sqrt(2 * off / 200)) <= 0.2) << found.standard_error;
  // A diagonal matrix has no off-diagonal part to be wrong about.
  const Eigen::MatrixXd diagonal = a.diagonal().asDiagonal();
  const auto exact = optim::hutchinson_trace(of_matrix(diagonal), 60, 3, seed);
  EXPECT_TRUE(relative(exact.trace, a.trace()) <= 1e-12);
  EXPECT_TRUE(exact.standard_error <= 1e-12 * std::fabs(a.trace()));
  // Quadrature is exact for the first moments: the same probes give the same v' A v.
  const auto points = optim::spectral_density(of_matrix(a), 60, 200, 12, seed);
  double weight = 0, mean = 0;
  for (const auto& p : points) {
    weight += p.weight;
    mean += p.weight * p.eigenvalue;
  }
  EXPECT_TRUE(std::fabs(weight - 1) <= 1e-12) << weight;
  EXPECT_TRUE(relative(60 * mean, found.trace) <= 1e-10) << 60 * mean;
  EXPECT_TRUE(std::ranges::is_sorted(points, {}, &optim::SpectralPoint::eigenvalue));
}

// More windows than a batch holds, a subset of the channels.
TEST(TrainingLoss, IsTheErrorOfTheForecasts) {
  Small s({Value::low_rank, 3, 8, 4, 2}, 1500, {2, 0});
  const std::vector<double> w = s.loss().compact(s.slab);
  const double expected = optim::Evaluator(s.net, Center::mean).errors(s.slab, s.problem, s.starts).mse();
  EXPECT_TRUE(relative(s.loss().value(w), expected) <= 1e-6);
}

TEST(TrainingLoss, MixesTheWholeSetAsOneBatch) {
  const double lambda = 0.4;
  Small s({Value::low_rank, 3, 8, 4, 2}, 1500, {2, 0});
  optim::TrainingLoss loss = s.loss(lambda);
  const std::vector<double> w = loss.compact(s.slab);
  std::vector<double> gradient(w.size());
  const double found = loss.gradient(w, gradient);
  // One batch on a tape of its own.
  Arena<> arena;
  Tape<double> tape(arena);
  std::vector<double> series(s.series.begin(), s.series.end()), slab(s.slab.begin(), s.slab.end()), g(slab.size());
  const auto& shape = s.net.shape();
  const kernels::Windows<double> x{series.data(), s.problem.rows, s.starts.data(), 1500, shape.D};
  kernels::Windows<double> y = x;
  y.base += shape.L;
  const auto input = revin(tape, x, shape.L, Center::mean, true);
  const auto out = s.net.forward(tape, slab.data(), g.data(), input, model::Association::folded);
  const auto whole = forecast_loss(out.z, out.affine, input, Truth<double>{y, s.targets.data(), 2}, lambda);
  tape.backward(whole);
  EXPECT_TRUE(relative(found, whole.value().data[0]) <= 1e-13);
  std::vector<double> expected;
  for (const model::Parameter& p : s.net.parameters().all()) {
    expected.insert(expected.end(), g.begin() + p.offset, g.begin() + p.offset + p.shape.count());
  }
  EXPECT_TRUE(numeric::error(gradient, expected) <= 1e-12) << numeric::error(gradient, expected);
  EXPECT_FALSE(relative(found, s.loss().value(w)) <= 1e-6);  // mixing is felt
}

// Central differences of the gradient, column by column: independent of dual numbers.
TEST(TrainingLoss, LanczosAgreesWithTheDenseHessian) {
  for (const double lambda : {0.0, 0.5}) {
    for (const Value value : {Value::low_rank, Value::full}) {
      SCOPED_TRACE(lambda);
      Small s({value, 3, 6, 4, 2}, 700, {0, 1, 2});
      optim::TrainingLoss loss = s.loss(lambda);
      const std::vector<double> w = loss.compact(s.slab);
      const auto n = static_cast<Eigen::Index>(loss.size());
      Eigen::MatrixXd dense(n, n);
      for (Eigen::Index i = 0; i < n; ++i) {
        constexpr double h = 1e-5;
        std::vector<double> up = w, down = w, above(w.size()), below(w.size());
        up[static_cast<std::size_t>(i)] += h;
        down[static_cast<std::size_t>(i)] -= h;
        loss.gradient(up, above);
        loss.gradient(down, below);
        for (Eigen::Index k = 0; k < n; ++k) {
          dense(k, i) = (above[static_cast<std::size_t>(k)] - below[static_cast<std::size_t>(k)]) / (2 * h);
        }
      }
      const Eigen::VectorXd all =
          Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>((dense + dense.transpose()) / 2).eigenvalues();
      const optim::Product product = [&](std::span<const double> v, std::span<double> out) {
        loss.hessian_product(w, v, out);
      };
      const auto found = optim::extreme_eigenvalues(product, n, 1e-9, n, seed);
      EXPECT_TRUE(found.converged);
      EXPECT_TRUE(relative(found.largest.value, all.maxCoeff()) <= 1e-6)
          << found.largest.value << ' ' << all.maxCoeff();
      EXPECT_TRUE(relative(found.smallest.value, all.minCoeff()) <= 1e-6)
          << found.smallest.value << ' ' << all.minCoeff();
      const auto trace = optim::hutchinson_trace(product, n, 100, seed);
      EXPECT_TRUE(std::fabs(trace.trace - dense.trace()) <= 3 * trace.standard_error);
    }
  }
}

TEST(TrainingLoss, SharpnessIsTheRiseAtTheAscentPoint) {
  Small s({Value::low_rank, 3, 8, 4, 2}, 100, {0, 1, 2});
  optim::TrainingLoss loss = s.loss();
  const std::vector<double> w = loss.compact(s.slab), rhos{0.05, 0.5};
  // In groups of 40, 40 and 20.
  std::vector<double> expected(2);
  for (const auto& [first, count] : {std::pair(0, 40), std::pair(40, 40), std::pair(80, 20)}) {
    const std::vector<std::int32_t> part(s.starts.begin() + first, s.starts.begin() + first + count);
    optim::TrainingLoss group(s.net, Center::mean, s.problem, part, 0);
    std::vector<double> g(w.size());
    const double before = group.gradient(w, g);
    const double norm = std::sqrt(std::inner_product(g.begin(), g.end(), g.begin(), 0.0));
    for (std::size_t k = 0; k < 2; ++k) {
      std::vector<double> moved = w;
      for (std::size_t i = 0; i < w.size(); ++i) moved[i] += rhos[k] * g[i] / norm;
      expected[k] += (group.value(moved) - before) * count / 100;
    }
  }
  const std::vector<double> found = loss.m_sharpness(w, rhos, 40);
  EXPECT_GT(found[0], 0);
  EXPECT_TRUE(numeric::error(found, expected) <= 1e-10);
}

// The shared golden files: the spectrum of an independent dense Hessian in PyTorch. Windows are float here.
TEST(TrainingLoss, SharedHessians) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  for (const std::string name : {"samformer_low_rank_tiny", "samformer_full_tiny"}) {
    const auto file = model::Safetensors::open(shared_data("golden") / (name + ".safetensors"));
    const auto size = [&](const std::string& tensor, std::size_t i) { return file.tensor(tensor).shape[i]; };
    const std::int64_t N = size("x", 0), D = size("x", 1), L = size("x", 2), H = size("y", 2);
    const Samformer net({file.has("parameter.output_projection.weight") ? Value::low_rank : Value::full, D, L, H,
                         size("parameter.compute_keys.weight", 0)});
    const auto x = file.read<double>("x"), y = file.read<double>("y");
    const std::int64_t rows = N * (L + H);
    std::vector<float> series(static_cast<std::size_t>(D * rows));
    std::vector<std::int32_t> starts, targets(static_cast<std::size_t>(D));
    std::iota(targets.begin(), targets.end(), 0);
    for (std::int64_t n = 0; n < N; ++n) {
      starts.push_back(static_cast<std::int32_t>(n * (L + H)));
      for (std::int64_t d = 0; d < D; ++d) {
        float* to = series.data() + d * rows + n * (L + H);
        std::copy_n(x.begin() + (n * D + d) * L, L, to);
        std::copy_n(y.begin() + (n * D + d) * H, H, to + L);
      }
    }
    std::vector<double> w;
    for (const model::Parameter& p : net.parameters().all()) {
      const auto values = file.read<double>("parameter." + p.name);
      w.insert(w.end(), values.begin(), values.end());
    }
    const optim::Problem problem{series, rows, D, targets};
    optim::TrainingLoss loss(net, Center::mean, problem, starts, 0);
    EXPECT_TRUE(relative(loss.value(w), file.read<double>("loss")[0]) <= 1e-6);
    const optim::Product product = [&](std::span<const double> v, std::span<double> out) {
      loss.hessian_product(w, v, out);
    };
    const auto found = optim::extreme_eigenvalues(product, loss.size(), 1e-9, loss.size(), seed);
    const auto all = file.read<double>("hessian.eigenvalues");
    EXPECT_TRUE(relative(found.largest.value, *std::ranges::max_element(all)) <= 1e-6) << found.largest.value;
    EXPECT_TRUE(relative(found.smallest.value, *std::ranges::min_element(all)) <= 1e-6) << found.smallest.value;
  }
}

}  // namespace
}  // namespace samformer
