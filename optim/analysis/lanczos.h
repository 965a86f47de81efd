// What a symmetric matrix H of order n looks like, from products H v alone: its extreme eigenvalues (Lanczos), its
// trace (Hutchinson 1990), its spectral density (stochastic Lanczos quadrature: Ubaru, Chen & Saad 2017; Ghorbani et
// al. 2019).
//
// Lanczos keeps its basis orthonormal by orthogonalising every new vector twice against all before it, so the Ritz
// values have no ghosts and |H x - theta x| = beta_k |s_k| holds to rounding. Memory: 8 n bytes a step.
// Random vectors: Philox stream 4, sub = probe: the same seed gives the same numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace samformer::optim {

// out = H v, both of length n. May throw (an interruption).
using Product = std::function<void(std::span<const double> v, std::span<double> out)>;

struct Eigenvalue {
  double value = 0;
  double residual = 0;  // |H x - value x| for the unit vector x
};
struct ExtremeEigenvalues {
  Eigenvalue largest, smallest;
  std::int64_t products = 0;
  bool converged = false;  // both residuals are at most tolerance |value|
};
// At most `products` products; both ends are what was reached when they are spent.
ExtremeEigenvalues extreme_eigenvalues(const Product& product, std::int64_t n, double tolerance, std::int64_t products,
                                       std::uint64_t seed);
// The same for the largest one alone, which takes fewer products.
Eigenvalue largest_eigenvalue(const Product& product, std::int64_t n, double tolerance, std::int64_t products,
                              std::uint64_t seed);

struct TraceEstimate {
  double trace = 0;
  double standard_error = 0;  // of the mean over the probes
};
// Mean of v' H v over `probes` vectors of random signs.
TraceEstimate hutchinson_trace(const Product& product, std::int64_t n, std::int64_t probes, std::uint64_t seed);

// The density as weighted points: weights sum to 1, so the share of eigenvalues in an interval is the sum of its
// weights.
struct SpectralPoint {
  double eigenvalue;
  double weight;
};
// `probes` random starts of `steps` Lanczos steps each; sorted by eigenvalue.
std::vector<SpectralPoint> spectral_density(const Product& product, std::int64_t n, std::int64_t probes,
                                            std::int64_t steps, std::uint64_t seed);

// The same as a curve at `points` places: each point widened to a Gaussian of a hundredth of the range; never below
// 1e-8 of a lone point's height, for a logarithmic axis.
std::vector<SpectralPoint> smooth_density(std::span<const SpectralPoint> density, int points);

}  // namespace samformer::optim
