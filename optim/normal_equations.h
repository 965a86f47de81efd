// Linear least squares by its normal equations.
#pragma once

#include <cstdint>
#include <vector>

namespace samformer::model {

// Solves G W = C in place of C [L][H]; G [L][L] is symmetric (its lower triangle is read) and overwritten. False where
// it is not positive definite to 1e-12 of its diagonal.
bool solve_normal_equations(std::vector<double>& G, std::vector<double>& C, std::int64_t L, std::int64_t H);

}  // namespace samformer::model
