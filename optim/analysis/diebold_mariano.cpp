#include "optim/analysis/diebold_mariano.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "optim/analysis/welch.h"

namespace samformer::optim {

DieboldMariano diebold_mariano(std::span<const double> a, std::span<const double> b, std::int64_t overlap) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const std::size_t n = a.size();
  if (n < 3) return {nan, nan};
  const auto count = static_cast<double>(n);
  std::vector<double> d;
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) {
    d.push_back(a[i] - b[i]);
    mean += d.back() / count;
  }
  const auto q = std::min(static_cast<std::size_t>(std::max<std::int64_t>(overlap, 0)), n - 1);
  double variance = 0;
  for (std::size_t k = 0; k <= q; ++k) {
    double covariance = 0;
    for (std::size_t i = k; i < n; ++i) covariance += (d[i] - mean) * (d[i - k] - mean) / count;
    const double weight = 1 - static_cast<double>(k) / static_cast<double>(q + 1);
    variance += (k == 0 ? 1 : 2) * weight * covariance;
  }
  const double h = static_cast<double>(q) + 1, harvey = (count + 1 - 2 * h + h * (h - 1) / count) / count;
  if (!(variance > 0) || !(harvey > 0)) return {nan, nan};
  const double t = mean / std::sqrt(variance / count) * std::sqrt(harvey);
  return {t, two_sided_p(t, count - 1)};
}

}  // namespace samformer::optim
