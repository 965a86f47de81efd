#include "optim/normal_equations.h"

#include <cmath>

namespace samformer::model {

// By Cholesky, in place of the lower triangle.
bool solve_normal_equations(std::vector<double>& G, std::vector<double>& C, std::int64_t L, std::int64_t H) {
  for (std::int64_t j = 0; j < L; ++j) {
    double* row = G.data() + j * L;
    for (std::int64_t k = 0; k < j; ++k) {
      const double* other = G.data() + k * L;
      double total = row[k];
      for (std::int64_t i = 0; i < k; ++i) total -= row[i] * other[i];
      row[k] = total / other[k];
    }
    double pivot = row[j];
    const double before = pivot;
    for (std::int64_t i = 0; i < j; ++i) pivot -= row[i] * row[i];
    if (!(pivot > 1e-12 * before)) return false;
    row[j] = std::sqrt(pivot);
  }
  for (std::int64_t j = 0; j < L; ++j) {
    for (std::int64_t i = 0; i < j; ++i) {
      for (std::int64_t h = 0; h < H; ++h) C[j * H + h] -= G[j * L + i] * C[i * H + h];
    }
    for (std::int64_t h = 0; h < H; ++h) C[j * H + h] /= G[j * L + j];
  }
  for (std::int64_t j = L; j-- > 0;) {
    for (std::int64_t i = j + 1; i < L; ++i) {
      for (std::int64_t h = 0; h < H; ++h) C[j * H + h] -= G[i * L + j] * C[i * H + h];
    }
    for (std::int64_t h = 0; h < H; ++h) C[j * H + h] /= G[j * L + j];
  }
  return true;
}

}  // namespace samformer::model
