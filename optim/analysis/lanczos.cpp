#include "optim/analysis/lanczos.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/random.h"
#include "kernels/cpu/parallel.h"

namespace samformer::optim {
namespace {

constexpr std::uint32_t probe_stream = 4;
constexpr std::uint32_t first_direction = 0xffffffff;  // sub of the start vector, away from the probes' numbers

double dot(std::span<const double> a, std::span<const double> b) {
  return std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0);
}

std::vector<double> normals(std::int64_t n, std::uint64_t seed, std::uint32_t sub) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = normal_pair(random_block(seed, probe_stream, sub, i))[0];
  return v;
}

std::vector<double> signs(std::int64_t n, std::uint64_t seed, std::uint32_t probe) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = random_block(seed, probe_stream, probe, i / 128)[i / 32 % 4] >> (i % 32) & 1 ? 1 : -1;
  }
  return v;
}

// H restricted to the Krylov space of a start vector: tridiagonal, `alpha` on and `beta` beside the diagonal.
class Lanczos {
 public:
  Lanczos(const Product& product, std::vector<double> start) : product_(product) {
    const double norm = std::sqrt(dot(start, start));
    for (double& x : start) x /= norm;
    basis_.push_back(std::move(start));
  }

  // One more product. False where the space is invariant: its Ritz values are eigenvalues, there is no next vector.
  bool step() {
    const std::vector<double>& v = basis_.back();
    std::vector<double> next(v.size());
    product_(v, next);
    alpha_.push_back(dot(v, next));
    for (int pass = 0; pass < 2; ++pass) orthogonalise(next);
    beta_.push_back(std::sqrt(dot(next, next)));
    scale_ = std::max(scale_, std::fabs(alpha_.back()) + beta_.back());
    if (!(beta_.back() > 1e-13 * scale_) || alpha_.size() == v.size()) {
      beta_.back() = 0;
      return false;
    }
    for (double& x : next) x /= beta_.back();
    basis_.push_back(std::move(next));
    return true;
  }

  struct Ritz {
    double value, residual;
    double weight;  // squared first component: the start vector's share
  };
  std::vector<Ritz> ritz() const {
    const auto k = static_cast<Eigen::Index>(alpha_.size());
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver;
    solver.computeFromTridiagonal(Eigen::Map<const Eigen::VectorXd>(alpha_.data(), k),
                                  Eigen::Map<const Eigen::VectorXd>(beta_.data(), k - 1));
    std::vector<Ritz> all;
    for (Eigen::Index i = 0; i < k; ++i) {
      const double first = solver.eigenvectors()(0, i), last = solver.eigenvectors()(k - 1, i);
      all.push_back({solver.eigenvalues()(i), beta_.back() * std::fabs(last), first * first});
    }
    return all;  // by value
  }
  std::int64_t steps() const { return static_cast<std::int64_t>(alpha_.size()); }

 private:
  // next -= V (V' next). The elements are cut into blocks by n alone: the same bits on any number of threads.
  void orthogonalise(std::vector<double>& next) const {
    const auto k = static_cast<std::int64_t>(basis_.size());
    std::vector<double> along(basis_.size());
    double* a = along.data();
    const std::vector<double>* basis = basis_.data();
    const std::vector<double>* target = &next;
    kernels::parallel_for<double>(k, [=](std::int64_t j) { a[j] = dot(basis[j], *target); });
    constexpr std::int64_t size = 4096;
    const auto n = static_cast<std::int64_t>(next.size());
    double* to = next.data();
    kernels::parallel_for<double>(kernels::blocks_of(n, size), [=](std::int64_t block) {
      for (std::int64_t j = 0; j < k; ++j) {
        const double* v = basis[j].data();
        for (std::int64_t i = block * size; i < std::min(n, (block + 1) * size); ++i) to[i] -= a[j] * v[i];
      }
    });
  }

  const Product& product_;
  std::vector<std::vector<double>> basis_;
  std::vector<double> alpha_, beta_;
  double scale_ = 0;
};

// Until both ends (or the upper one alone) are good enough.
ExtremeEigenvalues ends(const Product& product, std::int64_t n, double tolerance, std::int64_t products,
                        std::uint64_t seed, bool both) {
  constexpr std::int64_t look_every = 5;  // products between two looks at the Ritz values
  Lanczos lanczos(product, normals(n, seed, first_direction));
  ExtremeEigenvalues out;
  const auto good = [&](const Eigenvalue& e) { return e.residual <= tolerance * std::fabs(e.value); };
  for (bool more = true; more && !out.converged && lanczos.steps() < products;) {
    more = lanczos.step();
    if (more && lanczos.steps() % look_every != 0 && lanczos.steps() < products) continue;
    const auto ritz = lanczos.ritz();
    out.largest = {ritz.back().value, ritz.back().residual};
    out.smallest = {ritz.front().value, ritz.front().residual};
    out.products = lanczos.steps();
    out.converged = good(out.largest) && (!both || good(out.smallest));
  }
  return out;
}

}  // namespace

ExtremeEigenvalues extreme_eigenvalues(const Product& product, std::int64_t n, double tolerance, std::int64_t products,
                                       std::uint64_t seed) {
  return ends(product, n, tolerance, products, seed, true);
}

Eigenvalue largest_eigenvalue(const Product& product, std::int64_t n, double tolerance, std::int64_t products,
                              std::uint64_t seed) {
  return ends(product, n, tolerance, products, seed, false).largest;
}

TraceEstimate hutchinson_trace(const Product& product, std::int64_t n, std::int64_t probes, std::uint64_t seed) {
  std::vector<double> samples, out(static_cast<std::size_t>(n));
  for (std::int64_t p = 0; p < probes; ++p) {
    const std::vector<double> v = signs(n, seed, static_cast<std::uint32_t>(p));
    product(v, out);
    samples.push_back(dot(v, out));
  }
  const double count = static_cast<double>(probes);
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / count;
  double squares = 0;
  for (const double s : samples) squares += (s - mean) * (s - mean);
  return {mean, std::sqrt(squares / (count - 1) / count)};
}

std::vector<SpectralPoint> spectral_density(const Product& product, std::int64_t n, std::int64_t probes,
                                            std::int64_t steps, std::uint64_t seed) {
  std::vector<SpectralPoint> points;
  for (std::int64_t p = 0; p < probes; ++p) {
    Lanczos lanczos(product, signs(n, seed, static_cast<std::uint32_t>(p)));
    while (lanczos.steps() < steps && lanczos.step()) {
    }
    for (const auto& r : lanczos.ritz()) points.push_back({r.value, r.weight / static_cast<double>(probes)});
  }
  std::ranges::sort(points, {}, &SpectralPoint::eigenvalue);
  return points;
}

std::vector<SpectralPoint> smooth_density(std::span<const SpectralPoint> density, int points) {
  const double low = density.front().eigenvalue, high = density.back().eigenvalue;
  const double range = high > low ? high - low : 1, width = range / 100;
  const double height = 1 / (width * std::sqrt(2 * std::numbers::pi));
  std::vector<SpectralPoint> curve;
  for (int i = 0; i < points; ++i) {
    const double x = low + range * (1.1 * i / (points - 1) - 0.05);
    double total = 1e-8 * height;
    for (const SpectralPoint& p : density) {
      const double z = (x - p.eigenvalue) / width;
      total += p.weight * height * std::exp(-z * z / 2);
    }
    curve.push_back({x, total});
  }
  return curve;
}

}  // namespace samformer::optim
