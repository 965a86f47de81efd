// Products in bfloat16 (kernels/cpu/bf16.h) against products in double of operands that were rounded independently.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/bf16.h"
#include "kernels/projection.h"
#include "tests/numeric.h"

namespace samformer::kernels {
namespace {

using numeric::error;
using numeric::Guarded;
using numeric::normals;

constexpr std::uint64_t seed = 37;

// The nearest number with 8 significant bits, halves to even.
double rounded(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

std::vector<double> rounded(const std::vector<float>& x) {
  std::vector<double> out;
  for (const float v : x) out.push_back(rounded(static_cast<double>(v)));
  return out;
}

float value_of(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }

TEST(Bf16, RoundsToNearestEvenAndKeepsNaN) {
  std::vector<float> values = normals<float>(1000, seed, 1);
  for (const float x : {0.0f, 1.0f, 1.00390625f, 1.01171875f, -1.00390625f, 3.3e38f, 1e-30f}) values.push_back(x);
  for (const float x : values) EXPECT_EQ(value_of(bf16_bits(x)), rounded(static_cast<double>(x))) << x;
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(value_of(bf16_bits(-infinity)), -infinity);
  EXPECT_EQ(value_of(bf16_bits(std::numeric_limits<float>::max())), infinity);
  for (const std::uint32_t nan : {0x7fffffffu, 0xffffffffu, 0x7f800001u, 0x7fc00000u}) {
    EXPECT_TRUE(std::isnan(value_of(bf16_bits(std::bit_cast<float>(nan))))) << nan;
  }
}

using Words = std::vector<std::uint32_t>;
Words words(std::int64_t count) { return Words(static_cast<std::size_t>(count), 0xffffffffu); }  // NaN where unset

struct Size {
  std::int64_t M, N, K;
};

// C (+)= A B' for A [M][K], B [N][K] or, `by_rows`, C (+)= A' B for A [K][M], B [K][N].
void product(Size z, bool by_rows, const std::vector<float>& A, const std::vector<float>& B, float* C, std::int64_t ldc,
             bool accumulate) {
  Words a = words(bf16_words(z.M, z.K)), b = words(bf16_words(z.N, z.K));
  if (by_rows) {
    bf16_rows_of_columns(a.data(), A.data(), z.K, z.M);
    bf16_panels(b.data(), B.data(), z.K, z.N);
  } else {
    bf16_rows(a.data(), A.data(), z.M, z.K);
    bf16_panels_of_rows(b.data(), B.data(), z.N, z.K);
  }
  bf16_gemm(z.M, z.N, z.K, a.data(), b.data(), C, ldc, accumulate,
            [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
}

TEST(Bf16, ProductsOfRaggedShapes) {
  if (!bf16_available()) GTEST_SKIP() << "this CPU has no AVX512-BF16";
  for (const Size z : {Size{1, 1, 1},
                       {1, 16, 2},
                       {5, 17, 3},
                       {6, 64, 8},
                       {7, 63, 9},
                       {47, 65, 31},
                       {49, 128, 131},
                       {97, 100, 64},
                       {13, 80, 1027},
                       {3, 40, 2050}}) {
    for (const bool by_rows : {false, true}) {
      for (const bool accumulate : {false, true}) {
        SCOPED_TRACE(fmt::format("M = {}, N = {}, K = {}, by rows {}, accumulate {}, seed {}", z.M, z.N, z.K, by_rows,
                                 accumulate, seed));
        const std::vector<float> A = normals<float>(z.M * z.K, seed, 1), B = normals<float>(z.N * z.K, seed, 2);
        const std::int64_t ldc = z.N + 3;
        const std::vector<float> before = normals<float>(z.M * ldc, seed, 3);
        std::vector<double> expected(before.begin(), before.end());
        numeric::gemm(by_rows, !by_rows, z.M, z.N, z.K, rounded(A).data(), by_rows ? z.M : z.K, rounded(B).data(),
                      by_rows ? z.N : z.K, expected.data(), ldc, accumulate);
        Guarded<float> C(before);
        product(z, by_rows, A, B, C.data(), ldc, accumulate);
        EXPECT_TRUE(error(C.values(), expected) <= 1e-6) << error(C.values(), expected);
        EXPECT_TRUE(C.intact());
        const std::vector<float> after = C.values();
        for (std::int64_t i = 0; i < z.M; ++i) {
          for (std::int64_t j = z.N; j < ldc; ++j) {
            EXPECT_EQ(after[static_cast<std::size_t>(i * ldc + j)], before[static_cast<std::size_t>(i * ldc + j)]);
          }
        }
      }
    }
  }
}

TEST(Bf16, TheSameBitsForAnyNumberOfThreads) {
  if (!bf16_available()) GTEST_SKIP() << "this CPU has no AVX512-BF16";
  const int before = omp_get_max_threads();
  const Size z{300, 150, 600};
  const std::vector<float> A = normals<float>(z.M * z.K, seed, 1), B = normals<float>(z.N * z.K, seed, 2);
  std::vector<float> first;
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    std::vector<float> C(static_cast<std::size_t>(z.M * z.N));
    product(z, true, A, B, C.data(), z.N, false);
    if (first.empty()) first = C;
    EXPECT_TRUE(numeric::same_bits(C, first)) << "threads " << threads;
  }
  omp_set_num_threads(before);
}

// The projection and its gradients: what the float kernels give from rounded operands.
TEST(Bf16, ProjectionTakesRoundedOperands) {
  if (!bf16_available()) GTEST_SKIP() << "this CPU has no AVX512-BF16";
  const std::int64_t D = 3, R = 21, O = 37, L = 51;
  const std::vector<float> x = normals<float>(R * L, seed, 1), W = normals<float>(O * L, seed, 2);
  const std::vector<float> b = normals<float>(O, seed, 3), gamma = normals<float>(D, seed, 4);
  const std::vector<float> beta(D), dZ = normals<float>(R * O, seed, 5);  // beta: 0, or it would add unrounded sums
  Words rows = words(bf16_words(R, L)), panels = words(bf16_words(L, R)), of_W = words(bf16_words(O, L));
  Words of_dZ = words(bf16_words(O, R));
  bf16_rows(rows.data(), x.data(), R, L);
  bf16_panels(panels.data(), x.data(), R, L);
  const Bf16Windows halves{rows.data(), panels.data()};
  const auto room = [](std::int64_t n) { return std::vector<float>(static_cast<std::size_t>(n)); };
  const auto narrow = [](const std::vector<double>& v) { return std::vector<float>(v.begin(), v.end()); };

  std::vector<float> work = room(std::max(O * L, projection_backward_work<float>(R, O, L)));
  std::vector<float> Z = room(R * O), P = Z, s = room(O), expected_Z = Z, expected_P = Z, expected_s = s;
  const ProjectionOperands<float> in_halves{Z.data(),    P.data(), s.data(), x.data(), W.data(), b.data(), gamma.data(),
                                            beta.data(), R,        D,        O,        L,        halves};
  projection(Cpu{}, in_halves, work.data(), of_W.data());
  const std::vector<float> x_rounded = narrow(rounded(x)), W_rounded = narrow(rounded(W));
  const ProjectionOperands<float> in_floats{expected_Z.data(),
                                            expected_P.data(),
                                            expected_s.data(),
                                            x_rounded.data(),
                                            W_rounded.data(),
                                            b.data(),
                                            gamma.data(),
                                            beta.data(),
                                            R,
                                            D,
                                            O,
                                            L};
  projection(Cpu{}, in_floats, work.data());
  EXPECT_TRUE(error(Z, expected_Z) <= 1e-6) << error(Z, expected_Z);
  EXPECT_TRUE(error(P, expected_P) <= 1e-6) << error(P, expected_P);

  std::vector<float> dW = room(O * L), db = room(O), dgamma = room(D);
  std::vector<float> expected_dW = dW, expected_db = db, expected_dgamma = dgamma, dbeta = room(D), ignored = dbeta;
  std::vector<float> dP = dZ, rounded_dP = dZ;
  const auto to = [](std::vector<float>& v, std::int64_t ld) { return Sink<float>{v.data(), ld, true}; };
  ProjectionOperands<float> unrounded = in_halves;
  unrounded.halves = {};
  projection_backward(Cpu{}, to(dW, L), to(db, O), {dgamma.data(), dbeta.data()}, dP.data(), in_halves, 0, 0,
                      work.data(), of_dZ.data());
  projection_backward(Cpu{}, to(expected_dW, L), to(expected_db, O), {expected_dgamma.data(), ignored.data()},
                      rounded_dP.data(), unrounded, 0, 0, work.data());
  EXPECT_TRUE(numeric::same_bits(db, expected_db) && numeric::same_bits(dgamma, expected_dgamma));
  std::vector<double> exact(static_cast<std::size_t>(O * L));
  numeric::gemm(true, false, O, L, R, rounded(dP).data(), O, rounded(x).data(), L, exact.data(), L, false);
  EXPECT_TRUE(error(dW, exact) <= 1e-6) << error(dW, exact);
}

}  // namespace
}  // namespace samformer::kernels
