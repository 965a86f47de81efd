// The kernels against naive statements in double (tests/numeric.h), between guard zones, on ragged shapes.
#include <gtest/gtest.h>
#include <omp.h>

#include <atomic>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/loss.h"
#include "kernels/normalise.h"
#include "kernels/projection.h"
#include "kernels/revin.h"
#include "kernels/spectral.h"
#include "kernels/update.h"
#include "tests/numeric.h"

namespace samformer::kernels {
namespace {

using numeric::error;
using numeric::Guarded;
using numeric::normals;

constexpr std::uint64_t seed = 31;

template <class T>
std::vector<double> widened(const std::vector<T>& x) {
  return {x.begin(), x.end()};
}

template <class T>
std::vector<T> zeros(std::int64_t n) {
  return std::vector<T>(static_cast<std::size_t>(n));
}

// Where a gradient is added to what is there, and where it is written.
template <class T>
Sink<T> added(Guarded<T>& to, std::int64_t ld) {
  return {to.data(), ld, true};
}
template <class T>
Sink<T> written(Guarded<T>& to, std::int64_t ld) {
  return {to.data(), ld, false};
}
template <class T>
Projected<T> complete(Guarded<T>& z, std::int64_t ld) {
  return {.p = z.data(), .ld = ld};
}

TEST(Numeric, NaNAndMissingValuesAreErrors) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(error(std::vector{1.0, nan}, std::vector{1.0, 2.0}), infinity);
  EXPECT_EQ(error(std::vector{1.0, 2.0}, std::vector{nan, 2.0}), infinity);
  EXPECT_EQ(error(std::vector{infinity}, std::vector{infinity}), infinity);
  EXPECT_EQ(error(std::vector{1.0}, std::vector{1.0, 2.0}), infinity);
  EXPECT_EQ(error(std::vector{1.0, 0.0}, std::vector{1.0, 2.0}), 1);
  EXPECT_EQ(error(std::vector{0.0}, std::vector{0.0}), 0);
  Guarded<float> guarded(3);
  EXPECT_TRUE(guarded.intact());
  guarded.data()[3] = 0;
  EXPECT_FALSE(guarded.intact());
}

// ---- Products -----------------------------------------------------------------------------------------------------

struct Product {
  std::int64_t M, N, K;
};

template <class T>
void expect_product(Product p, bool transpose_a, bool transpose_b, bool accumulate, double tolerance) {
  SCOPED_TRACE(fmt::format("M = {}, N = {}, K = {}, {}{}, accumulate {}, seed {}", p.M, p.N, p.K,
                           transpose_a ? "A' " : "A ", transpose_b ? "B'" : "B", accumulate, seed));
  // Rows wider than the matrix: the gaps must stay as they are.
  const std::int64_t lda = (transpose_a ? p.M : p.K) + 3, ldb = (transpose_b ? p.K : p.N) + 5, ldc = p.N + 2;
  const std::vector<T> A = normals<T>((transpose_a ? p.K : p.M) * lda, seed, 1);
  const std::vector<T> B = normals<T>((transpose_b ? p.N : p.K) * ldb, seed, 2);
  const std::vector<T> before = normals<T>(p.M * ldc, seed, 3);
  std::vector<double> expected = widened(before);
  numeric::gemm(transpose_a, transpose_b, p.M, p.N, p.K, widened(A).data(), lda, widened(B).data(), ldb,
                expected.data(), ldc, accumulate);
  Guarded<T> C(before), a(A), b(B);
  gemm(transpose_a, transpose_b, p.M, p.N, p.K, a.data(), lda, b.data(), ldb, C.data(), ldc, accumulate);
  EXPECT_TRUE(error(C.values(), expected) <= tolerance) << error(C.values(), expected);
  EXPECT_TRUE(C.intact() && a.intact() && b.intact());
  const std::vector<T> after = C.values();
  for (std::int64_t r = 0; r < p.M; ++r) {
    for (std::int64_t c = p.N; c < ldc; ++c) {
      EXPECT_EQ(after[static_cast<std::size_t>(r * ldc + c)], before[static_cast<std::size_t>(r * ldc + c)]);
    }
  }
}

TEST(Gemm, AllTranspositionsAndRaggedShapes) {
  for (const Product p : {Product{1, 1, 1},
                          {1, 7, 5},
                          {3, 1, 9},
                          {4, 16, 8},
                          {5, 17, 3},
                          {17, 19, 67},
                          {33, 31, 65},
                          {70, 45, 130},
                          {7, 9, 0},
                          {0, 4, 3},
                          {4, 0, 3},
                          {90, 530, 20},
                          {9, 1100, 480}}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        for (const bool accumulate : {false, true}) {
          expect_product<double>(p, transpose_a, transpose_b, accumulate, 1e-14);
          expect_product<float>(p, transpose_a, transpose_b, accumulate, 1e-6);
        }
      }
    }
  }
}

TEST(Gemm, BlocksCoverTheMatrixAndDependOnShapesAlone) {
  for (const Product p : {Product{1, 1, 1}, {224, 624, 512}, {224, 144, 512}, {10000, 16, 512}, {16, 5000, 64}}) {
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const GemmBlocks one = gemm_blocks(p.M, p.N, p.K);
    omp_set_num_threads(3);
    const GemmBlocks three = gemm_blocks(p.M, p.N, p.K);
    omp_set_num_threads(threads);
    EXPECT_EQ(one.rows, three.rows);
    EXPECT_EQ(one.columns, three.columns);
    EXPECT_GT(one.rows, 0);
    EXPECT_GT(one.columns, 0);
    EXPECT_TRUE(one.rows == p.M || one.rows % 4 == 0);
    EXPECT_TRUE(one.columns == p.N || one.columns % 4 == 0);
  }
}

// One block and many, products of our own and the library's (the last one), on 1, 2, 3 and 8 threads.
TEST(Gemm, TheSameBitsForAnyNumberOfThreads) {
  const int before = omp_get_max_threads();
  for (const Product p : {Product{280, 130, 50}, {224, 624, 512}, {64, 64, 64}, {624, 512, 224}, {70, 1100, 480}}) {
    const std::vector<float> A = normals<float>(p.M * p.K, seed, 1), B = normals<float>(p.N * p.K, seed, 2);
    std::vector<float> first;
    for (const int threads : {1, 2, 3, 8}) {
      omp_set_num_threads(threads);
      std::vector<float> C(static_cast<std::size_t>(p.M * p.N));
      gemm(false, true, p.M, p.N, p.K, A.data(), p.K, B.data(), p.K, C.data(), p.N, false);
      if (first.empty()) first = C;
      EXPECT_TRUE(numeric::same_bits(C, first)) << p.M << ' ' << p.N << ' ' << p.K << ", threads " << threads;
      EXPECT_EQ(omp_get_max_threads(), threads);
    }
  }
  omp_set_num_threads(before);
}

// A long K, in one part and in eight.
TEST(Gemm, PartsAddUp) {
  const int threads = omp_get_max_threads();
  for (const std::int64_t K : {70, 5003}) {
    const std::int64_t M = 19, N = 37, lda = M + 1, ldb = N + 2, ldc = N + 3;
    const std::vector<float> A = normals<float>(K * lda, seed, 1), B = normals<float>(K * ldb, seed, 2);
    const std::vector<float> before = normals<float>(M * ldc, seed, 3);
    std::vector<double> expected = widened(before);
    numeric::gemm(true, false, M, N, K, widened(A).data(), lda, widened(B).data(), ldb, expected.data(), ldc, true);
    Guarded<float> C(before), work(gemm_parts_work<float>(M, N, K));
    EXPECT_EQ(work.values().empty(), K == 70);
    std::int64_t rows = 0, *seen = &rows;
    omp_set_num_threads(1);
    gemm_in_parts(M, N, K, A.data(), lda, B.data(), ldb, added(C, ldc), work.data(),
                  [=](std::int64_t, std::int64_t, std::int64_t m, std::int64_t n) { *seen += m * n; });
    EXPECT_EQ(rows, M * N);
    EXPECT_TRUE(error(C.values(), expected) <= 2e-6) << error(C.values(), expected);
    EXPECT_TRUE(C.intact() && work.intact());
    omp_set_num_threads(3);
    Guarded<float> again(before);
    gemm_in_parts(M, N, K, A.data(), lda, B.data(), ldb, added(again, ldc), work.data());
    EXPECT_TRUE(numeric::same_bits(C.values(), again.values()));
  }
  omp_set_num_threads(threads);
}

TEST(Gemm, NaNInAnOperandIsNotLost) {
  const std::int64_t n = 40;
  std::vector<float> A(n * n, 0.0f), B(n * n, 0.0f), C(n * n);
  A[3 * n + 5] = std::nanf("");
  gemm(false, false, n, n, n, A.data(), n, B.data(), n, C.data(), n, false);
  EXPECT_TRUE(std::isnan(C[3 * n + 7]));
  EXPECT_EQ(C[4 * n + 7], 0.0f);
}

TEST(ParallelFor, RunsEveryBlockOnceAndPassesExceptionsOn) {
  std::vector<int> count(1000);
  int* at = count.data();
  parallel_for<float>(1000, [=](std::int64_t block) { ++at[block]; });
  EXPECT_TRUE(std::all_of(count.begin(), count.end(), [](int c) { return c == 1; }));
  const auto failing = [](std::int64_t block) {
    if (block == 7) throw Error(Exit::data, "block 7");
  };
  EXPECT_THROW(parallel_for<float>(100, failing), Error);
  EXPECT_NO_THROW(parallel_for<float>(0, failing));
}

// Regions inside regions and callers on several threads at once, with changing numbers of threads: each block once, and
// what it wrote is there when the caller goes on.
TEST(ParallelFor, NestedAndConcurrentRegions) {
  const auto caller = [] {
    for (int repeat = 0; repeat < 200; ++repeat) {
      omp_set_num_threads(2 + repeat % 3);
      std::vector<int> count(60);
      int* at = count.data();
      parallel_for<float>(6, [=](std::int64_t outer) {
        parallel_for<float>(10, [=](std::int64_t inner) { ++at[outer * 10 + inner]; });
      });
      ASSERT_TRUE(std::all_of(count.begin(), count.end(), [](int c) { return c == 1; }));
    }
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) callers.emplace_back(caller);
  for (std::thread& each : callers) each.join();
}

// A thread whose block takes long delays none of the others: they take over its share.
TEST(ParallelFor, OthersTakeOverTheShareOfASlowThread) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(2);
  std::atomic<int> done = 0;
  std::atomic<int>* const others = &done;
  parallel_for<float>(64, [=](std::int64_t block) {
    if (block == 0) {
      while (*others < 63) std::this_thread::yield();
    } else {
      ++*others;
    }
  });
  EXPECT_EQ(done, 63);
  omp_set_num_threads(before);
}

// ---- Attention ----------------------------------------------------------------------------------------------------

template <class T>
void expect_attention(AttentionShape a, double scale, double tolerance) {
  SCOPED_TRACE(
      fmt::format("N = {}, D = {}, d_m = {}, d_v = {}, scores times {}, seed {}", a.N, a.D, a.d_m, a.d_v, scale, seed));
  const std::int64_t R = a.N * a.D, ld = a.d_m + 3, ldv = a.d_v + 1, ldc = a.d_v + 2;
  Guarded<T> Q(normals<T>(R * ld, seed, 1, 0, scale)), K(normals<T>(R * ld, seed, 2)), V(normals<T>(R * ldv, seed, 3));
  std::vector<double> q, k, v;
  for (std::int64_t r = 0; r < R; ++r) {
    q.insert(q.end(), Q.data() + r * ld, Q.data() + r * ld + a.d_m);
    k.insert(k.end(), K.data() + r * ld, K.data() + r * ld + a.d_m);
    v.insert(v.end(), V.data() + r * ldv, V.data() + r * ldv + a.d_v);
  }
  const numeric::Attention expected = numeric::attention(q, k, v, a.N, a.D, a.d_m, a.d_v);
  Guarded<T> C(R * ldc), lse(R), work(attention_scratch(Cpu{}, a));
  attention<T>(Cpu{}, C.data(), ldc, lse.data(), complete(Q, ld), complete(K, ld), complete(V, ldv), a, nullptr,
               work.data());
  const std::vector<T> probabilities =
      numeric::attention_probabilities<T>(Q.data(), K.data(), ld, lse.data(), a.N, a.D, a.d_m);
  std::vector<T> context;
  for (std::int64_t r = 0; r < R; ++r) {
    context.insert(context.end(), C.data() + r * ldc, C.data() + r * ldc + a.d_v);
    EXPECT_TRUE(C.untouched_inside(static_cast<std::size_t>(r * ldc + a.d_v), 2)) << "row " << r;
  }
  EXPECT_TRUE(error(context, expected.context) <= tolerance) << error(context, expected.context);
  EXPECT_TRUE(error(probabilities, expected.probabilities) <= tolerance)
      << error(probabilities, expected.probabilities);

  // Backward: dV = A' dC and friends, stated naively.
  const std::vector<T> dC_values = normals<T>(R * ldc, seed, 4);
  Guarded<T> dC(dC_values), dQ(normals<T>(R * ld, seed, 5)), dK(normals<T>(R * ld, seed, 6)),
      dV(normals<T>(R * ldv, seed, 7)), backward_work(attention_backward_scratch(Cpu{}, a));
  std::vector<double> dq = widened(dQ.values()), dk = widened(dK.values()), dv = widened(dV.values());
  const double root = 1 / std::sqrt(static_cast<double>(a.d_m));
  for (std::int64_t r = 0; r < R; ++r) {
    const double* p = expected.probabilities.data() + r * a.D;
    const std::int64_t first = r / a.D * a.D;
    std::vector<double> along(static_cast<std::size_t>(a.D));
    double delta = 0;
    for (std::int64_t j = 0; j < a.D; ++j) {
      double& s = along[static_cast<std::size_t>(j)];
      for (std::int64_t c = 0; c < a.d_v; ++c) {
        const double g = dC_values[static_cast<std::size_t>(r * ldc + c)];
        s += g * v[static_cast<std::size_t>((first + j) * a.d_v + c)];
        dv[static_cast<std::size_t>((first + j) * ldv + c)] += p[j] * g;
      }
      delta += p[j] * s;
    }
    for (std::int64_t j = 0; j < a.D; ++j) {
      const double ds = p[j] * (along[static_cast<std::size_t>(j)] - delta) * root;
      for (std::int64_t c = 0; c < a.d_m; ++c) {
        dq[static_cast<std::size_t>(r * ld + c)] += ds * k[static_cast<std::size_t>((first + j) * a.d_m + c)];
        dk[static_cast<std::size_t>((first + j) * ld + c)] += ds * q[static_cast<std::size_t>(r * a.d_m + c)];
      }
    }
  }
  attention_backward<T>(Cpu{}, added(dQ, ld), added(dK, ld), added(dV, ldv), {}, dC.data(), ldc, C.data(), ldc,
                        lse.data(), complete(Q, ld), complete(K, ld), complete(V, ldv), a, nullptr,
                        backward_work.data());
  EXPECT_TRUE(error(dQ.values(), dq) <= tolerance) << error(dQ.values(), dq);
  EXPECT_TRUE(error(dK.values(), dk) <= tolerance) << error(dK.values(), dk);
  EXPECT_TRUE(error(dV.values(), dv) <= tolerance) << error(dV.values(), dv);
  for (const Guarded<T>* g : {&C, &lse, &work, &dQ, &dK, &dV, &dC, &backward_work, &Q, &K, &V}) {
    EXPECT_TRUE(g->intact());
  }
}

TEST(Attention, AgainstTheNaiveStatement) {
  for (const AttentionShape a : {AttentionShape{1, 1, 1, 1},
                                 {4, 1, 3, 5},
                                 {3, 2, 16, 16},
                                 {5, 7, 16, 16},
                                 {2, 8, 4, 24},
                                 {3, 15, 5, 3},
                                 {2, 16, 8, 8},
                                 {2, 17, 8, 8},
                                 {2, 33, 7, 20},
                                 {1, 127, 4, 4},
                                 {1, 128, 4, 4},
                                 {2, 129, 4, 6},
                                 {1, 321, 16, 16},
                                 {1, 862, 16, 16}}) {
    expect_attention<double>(a, 1, 1e-12);
    expect_attention<float>(a, 1, 2e-5);
  }
}

TEST(Attention, TwoThousandAndFortyEightChannels) {
  expect_attention<float>({1, 2048, 8, 8}, 1, 4e-5);
  expect_attention<double>({1, 2048, 3, 2}, 1, 1e-12);
}

// Scores of hundreds: without the running maximum float overflows at 88.
TEST(Attention, LargeScores) {
  expect_attention<double>({2, 40, 4, 4}, 300, 1e-10);
  expect_attention<float>({2, 200, 4, 4}, 60, 1e-3);
}

TEST(Attention, OneChannelGivesQueriesAndKeysNoGradient) {
  const AttentionShape a{6, 1, 4, 3};
  Guarded<float> Q(normals<float>(24, seed, 1)), K(normals<float>(24, seed, 2)), V(normals<float>(18, seed, 3)), C(18),
      lse(6), dC(normals<float>(18, seed, 4)), dQ(24), dK(24), dV(18);
  std::vector<float> work(static_cast<std::size_t>(attention_scratch(Cpu{}, a) + attention_backward_scratch(Cpu{}, a)));
  const auto q = complete(Q, 4), k = complete(K, 4), v = complete(V, 3);
  attention<float>(Cpu{}, C.data(), 3, lse.data(), q, k, v, a, nullptr, work.data());
  attention_backward<float>(Cpu{}, written(dQ, 4), written(dK, 4), written(dV, 3), {}, dC.data(), 3, C.data(), 3,
                            lse.data(), q, k, v, a, nullptr, work.data());
  EXPECT_TRUE(numeric::same_bits(C.values(), V.values()));
  EXPECT_TRUE(numeric::same_bits(dV.values(), dC.values()));
  EXPECT_TRUE(numeric::same_bits(dQ.values(), zeros<float>(24)));
  EXPECT_TRUE(numeric::same_bits(dK.values(), zeros<float>(24)));
}

// Whole numbers: every order of adding them gives the same sum, so a lane that is left out or counted twice shows.
template <class T>
void expect_exact_sums() {
  for (std::int64_t n = 0; n <= 200; ++n) {
    std::vector<int> calls(static_cast<std::size_t>(n));
    T total{};
    parallel_for<T>(1, [n, calls = calls.data(), out = &total](std::int64_t) {
      *out = sum_of<T>(n, [=](std::int64_t i) {
        calls[i] += 1;
        return static_cast<T>(i + 1);
      });
    });
    EXPECT_EQ(total, static_cast<T>(n * (n + 1) / 2)) << n;
    EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(n), 1)) << n;
  }
}

TEST(Sums, OfEveryLengthTakeEachElementOnce) {
  expect_exact_sums<float>();
  expect_exact_sums<double>();
}

TEST(Exponential, AgainstTheLibrary) {
  double worst = 0;
  for (int i = -87'000; i <= 88'000; ++i) {
    const float x = static_cast<float>(i) * 1e-3f;
    const double expected = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::fabs(exponential(x) - expected) / expected);
  }
  EXPECT_TRUE(worst <= 2e-7) << worst;
  worst = 0;
  for (int i = -60000; i <= 60000; ++i) {
    const float x = 1e-4f * static_cast<float>(i);
    const double expected = std::erf(static_cast<double>(x));
    worst = std::max(worst, std::fabs(error_function(x) - expected) / (std::fabs(expected) + 1e-30));
  }
  EXPECT_TRUE(worst <= 1.2e-7) << worst;
  EXPECT_EQ(error_function(-std::numeric_limits<float>::infinity()), -1.0f);
  EXPECT_TRUE(std::isnan(error_function(std::nanf(""))));
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_EQ(exponential(-200.0f), 0.0f);
  EXPECT_EQ(exponential(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(exponential(std::nanf(""))));
}

// ---- RevIN and losses ---------------------------------------------------------------------------------------------

// A series [D][T] with windows at arbitrary starts; channel 1 is constant.
template <class T>
struct Batch {
  std::int64_t N = 5, D = 3, rows = 90;
  std::vector<T> series;
  std::vector<std::int32_t> starts{0, 17, 3, 60, 17};

  Batch() : series(normals<T>(3 * 90, seed, 9, 2)) { std::fill_n(series.begin() + 90, 90, T(3)); }
  Windows<T> windows(std::int64_t ahead = 0) const { return {series.data() + ahead, rows, starts.data(), N, D}; }
};

template <class T>
void expect_revin(Center center, double tolerance) {
  const Batch<T> batch;
  const std::int64_t L = 21, R = batch.N * batch.D;
  Guarded<T> xhat(R * L), stats(stats_size(Cpu{}, batch.N, batch.D));
  revin_normalise(Cpu{}, xhat.data(), stats.data(), batch.windows(), L, center);
  std::vector<double> xhats, levels, sigmas;
  const std::vector<T> level(stats.data(), stats.data() + R), sigma(stats.data() + R, stats.data() + 2 * R);
  for (std::int64_t r = 0; r < R; ++r) {
    const T* row = batch.windows().row(r / batch.D, r % batch.D);
    const numeric::Revin one = numeric::revin(std::vector<double>(row, row + L).data(), L, center == Center::last);
    xhats.insert(xhats.end(), one.xhat.begin(), one.xhat.end());
    levels.push_back(one.level);
    sigmas.push_back(one.sigma);
  }
  EXPECT_TRUE(error(xhat.values(), xhats) <= tolerance) << error(xhat.values(), xhats);
  EXPECT_TRUE(error(level, levels) <= tolerance);
  EXPECT_TRUE(error(sigma, sigmas) <= tolerance);
  EXPECT_TRUE(xhat.intact() && stats.intact());
  for (std::int64_t n = 0; n < batch.N; ++n) {  // the constant channel
    EXPECT_NEAR(sigma[n * batch.D + 1], std::sqrt(1e-5), 1e-9);
    EXPECT_EQ(level[n * batch.D + 1], T(3));
    for (std::int64_t t = 0; t < L; ++t) EXPECT_EQ(xhat.data()[(n * batch.D + 1) * L + t], T(0));
  }
}

TEST(Revin, AgainstTheNaiveStatement) {
  for (const Center center : {Center::mean, Center::last}) {
    expect_revin<double>(center, 1e-14);
    expect_revin<float>(center, 1e-6);
  }
}

TEST(Revin, TheInverseUndoesIt) {
  const Batch<double> batch;
  const std::int64_t L = 21, R = batch.N * batch.D, ldz = L + 4;
  std::vector<double> xhat(R * L), stats(2 * R);
  Guarded<double> z(R * ldz), y(R * L);
  const std::vector<double> gamma{0.7, -1.2, 2}, beta{0.1, 0.2, -3};
  revin_normalise(Cpu{}, xhat.data(), stats.data(), batch.windows(), L, Center::mean);
  const double guard = 1e-3;
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t t = 0; t < L; ++t) {
      z.data()[r * ldz + t] = xhat[r * L + t] * (gamma[r % 3] + guard) + beta[r % 3];
    }
  }
  const Inverse<double> inverse{complete(z, ldz), nullptr, 0, stats.data(), {gamma.data(), beta.data(), guard}};
  revin_inverse(Cpu{}, y.data(), inverse, batch.N, batch.D, L);
  for (std::int64_t r = 0; r < R; ++r) {
    const double* x = batch.windows().row(r / 3, r % 3);
    for (std::int64_t t = 0; t < L; ++t) EXPECT_NEAR(y.data()[r * L + t], x[t], 1e-13);
  }
  EXPECT_TRUE(y.intact() && z.intact());
}

// Every pair (i, j) formed, as the released code does: sample j's output with sample i's statistics.
TEST(ForecastLoss, ClosedFormOfStatisticsMixing) {
  const Batch<double> batch;
  const std::int64_t H = 6, R = batch.N * batch.D;
  const std::vector<double> z = normals(R * H, seed, 1), level = normals(R, seed, 2),
                            sigma = normals(R, seed, 3, 1.5, 0.2);
  std::vector<double> stats = level;
  stats.insert(stats.end(), sigma.begin(), sigma.end());
  const std::vector<double> gamma{0.7, 1.2, 2}, beta{0.1, 0.2, -3};
  const std::vector<std::int32_t> targets{2, 0};
  const Affine<double> affine{gamma.data(), beta.data(), 0.25};
  std::vector<double> moments(moments_size(Cpu{}, 3)), work(loss_scratch(Cpu{}, batch.N, 2)), shares(H);
  revin_moments(Cpu{}, moments.data(), stats.data(), batch.N, batch.D);
  for (const StatsMix mix : {StatsMix(0.0), StatsMix(0.3), StatsMix(1.0), StatsMix(0.3, 4), StatsMix(1.0, 4)}) {
    double expected = 0;
    for (std::int64_t j = 0; j < batch.N; ++j) {
      for (const std::int32_t d : targets) {
        for (std::int64_t h = 0; h < H; ++h) {
          const double q = (z[(j * 3 + d) * H + h] - beta[d]) / (gamma[d] + 0.25);
          const double y = batch.windows(21).row(j, d)[h];
          const auto square = [&](std::int64_t i) {
            const double e = q * sigma[i * 3 + d] + level[i * 3 + d] - y;
            return e * e;
          };
          // Step h + 1; with K: 0.3 at the fourth, 1 everywhere.
          const double x = mix.share * std::pow(static_cast<double>(h + 1) / mix.step, 2);
          const double lambda = mix.step == 0 ? mix.share : x / (x + 1 - mix.share);
          expected += (1 - lambda) * square(j);
          for (std::int64_t i = 0; i < batch.N; ++i) expected += lambda / static_cast<double>(batch.N) * square(i);
        }
      }
    }
    expected /= static_cast<double>(batch.N * 2 * H);
    const ForecastLoss<double, Cpu> loss{.z = {.p = z.data(), .ld = H},
                                         .mixed = nullptr,
                                         .mixed_ld = 0,
                                         .stats = stats.data(),
                                         .moments = mix.any() ? moments.data() : nullptr,
                                         .affine = affine,
                                         .y = batch.windows(21),
                                         .H = H,
                                         .targets = targets.data(),
                                         .target_count = 2,
                                         .channel_weight = nullptr,
                                         .mix = mix,
                                         .shares = shares.data()};
    double found = 0;
    forecast_loss(Cpu{}, &found, loss, work.data());
    EXPECT_TRUE(std::fabs(found - expected) <= 1e-14 * expected) << mix.share << " at step " << mix.step;
  }
}

TEST(ErrorSums, AddUpByChannelAndStep) {
  const Batch<float> batch;
  const std::int64_t H = 7;
  const std::vector<float> prediction = normals<float>(batch.N * batch.D * H, seed, 1);
  const std::vector<std::int32_t> targets{2, 0};
  std::vector<double> expected(3 * 2 * H, 1.0);  // squared errors, absolute ones, differences
  Guarded<double> sums(expected);
  for (std::int64_t t = 0; t < 2; ++t) {
    for (std::int64_t n = 0; n < batch.N; ++n) {
      for (std::int64_t h = 0; h < H; ++h) {
        const double e = static_cast<double>(prediction[(n * batch.D + targets[t]) * H + h]) -
                         static_cast<double>(batch.windows(21).row(n, targets[t])[h]);
        expected[t * H + h] += e * e;
        expected[(2 + t) * H + h] += std::fabs(e);
        expected[(4 + t) * H + h] += e;
      }
    }
  }
  error_sums(Cpu{}, sums.data(), sums.data() + 2 * H, sums.data() + 4 * H, prediction.data(), batch.windows(21), H,
             targets.data(), 2);
  EXPECT_TRUE(error(sums.values(), expected) <= 1e-15);
  EXPECT_TRUE(sums.intact());
}

// ---- Passes over the slab -----------------------------------------------------------------------------------------

constexpr std::int64_t slab = 2 * norm_block + 77;

// What a step's kernels share: `w` from `saved` (both null: they are the test's own) along `g`.
template <class T>
struct Passes {
  Progress progress;
  Hyper hyper;
  std::vector<double> parts = std::vector<double>(static_cast<std::size_t>(norm_parts(Cpu{}, slab)));

  double norm(const UpdateSlabs<T>& slabs, bool adaptive, int pass) {
    const T loss = 2;
    gradient_norm(Cpu{}, parts.data(), &progress, &hyper, slabs, adaptive, PassLoss<T>{&loss, 1, 10, pass, pass == 1});
    return std::accumulate(parts.begin(), parts.end(), 0.0);
  }
  void ascend(const UpdateSlabs<T>& slabs, bool adaptive = false) {
    norm(slabs, adaptive, 0);
    perturb(Cpu{}, slabs, &progress, &hyper, parts.data(), adaptive);
  }
  void step(const UpdateSlabs<T>& slabs, const UpdateRule& rule = {}) {
    norm(slabs, false, slabs.saved ? 1 : 0);
    update(Cpu{}, slabs, &progress, &hyper, parts.data(), rule, slabs.saved ? 2 : 1);
  }
};

template <class T>
void expect_norm_and_perturbation(bool adaptive, double tolerance) {
  const std::vector<T> g = normals<T>(slab, seed, 1), w = normals<T>(slab, seed, 2);
  double norm = 0;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double term = static_cast<double>(g[i]) * (adaptive ? static_cast<double>(w[i]) : 1);
    norm += term * term;
  }
  Guarded<T> up(w), saved(slab);
  const UpdateSlabs<T> slabs{up.data(), saved.data(), nullptr, nullptr, nullptr, g.data(), slab};
  Passes<T> passes;
  passes.hyper.rho = 0.7;
  const double found = passes.norm(slabs, adaptive, 0);
  EXPECT_TRUE(std::fabs(found - norm) <= 1e-13 * norm);
  EXPECT_EQ(passes.progress.loss[0], 2);
  EXPECT_EQ(passes.progress.squared_error[0], 20);

  const double scale = 0.7 / (std::sqrt(norm) + 1e-12);
  std::vector<double> expected;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double value = w[i];
    expected.push_back(value + scale * (adaptive ? value * value : 1) * static_cast<double>(g[i]));
  }
  perturb(Cpu{}, slabs, &passes.progress, &passes.hyper, passes.parts.data(), adaptive);
  EXPECT_TRUE(error(up.values(), expected) <= tolerance);
  EXPECT_TRUE(numeric::same_bits(saved.values(), w));
  EXPECT_FALSE(numeric::same_bits(up.values(), w));
  EXPECT_TRUE(up.intact() && saved.intact());
}

TEST(Update, NormAndPerturbation) {
  for (const bool adaptive : {false, true}) {
    expect_norm_and_perturbation<double>(adaptive, 1e-15);
    expect_norm_and_perturbation<float>(adaptive, 1e-7);
  }
}

// Found by either pass; from then on nothing moves.
TEST(Update, AGradientOfNaNIsRecordedAndMovesNothing) {
  const std::vector<float> start = normals<float>(slab, seed, 1), good = normals<float>(slab, seed, 2);
  std::vector<float> bad = good;
  bad[2057] = std::nanf("");
  for (const int pass : {1, 2}) {
    std::vector<float> w = start, saved(slab), m(slab), v(slab);
    const auto slabs = [&](const std::vector<float>& g) {
      return UpdateSlabs<float>{w.data(), saved.data(), m.data(), v.data(), nullptr, g.data(), slab};
    };
    Passes<float> passes;
    passes.hyper = {.lr = 1e-3, .rho = 0.7};
    passes.ascend(slabs(pass == 1 ? bad : good));
    passes.step(slabs(pass == 2 ? bad : good));
    EXPECT_EQ(passes.progress.bad_pass, pass);
    EXPECT_EQ(passes.progress.bad_step, 1);
    EXPECT_EQ(passes.progress.bad_element, 2057);
    passes.ascend(slabs(good));
    passes.step(slabs(good));
    EXPECT_EQ(passes.progress.bad_pass, pass);
    EXPECT_EQ(passes.progress.step, 2);
    EXPECT_TRUE(numeric::same_bits(w, start) && numeric::same_bits(m, zeros<float>(slab))) << pass;
  }
}

// One parameter under PyTorch's documented formulas (torch.optim.SGD, Adam, AdamW), Keras's for Adam.
struct Scalar {
  double w, m = 0, v = 0, mean;

  void step(const UpdateRule& rule, double g, double lr, int t, double decay) {
    if (rule.rule == Rule::adamw) w -= lr * rule.weight_decay * w;
    if (rule.rule != Rule::adamw) g += rule.weight_decay * w;
    if (rule.rule == Rule::sgd) {
      m = t == 1 ? g : rule.momentum * m + g;
      w -= lr * m;
    } else {
      m = rule.beta1 * m + (1 - rule.beta1) * g;
      v = rule.beta2 * v + (1 - rule.beta2) * g * g;
      const double c1 = 1 - std::pow(rule.beta1, t), c2 = 1 - std::pow(rule.beta2, t);
      w -= rule.form == AdamForm::keras ? lr * std::sqrt(c2) / c1 * m / (std::sqrt(v) + rule.epsilon)
                                        : lr / c1 * m / (std::sqrt(v) / std::sqrt(c2) + rule.epsilon);
    }
    mean = decay * mean + (1 - decay) * w;
  }
};

template <class T>
void expect_steps(const UpdateRule& rule, double tolerance) {
  SCOPED_TRACE(fmt::format("rule {}, form {}, weight decay {}, seed {}", static_cast<int>(rule.rule),
                           static_cast<int>(rule.form), rule.weight_decay, seed));
  const std::vector<T> start = normals<T>(slab, seed, 1);
  Guarded<T> w(start), m(zeros<T>(slab)), v(zeros<T>(slab)), mean(start);
  std::vector<T> saved(slab);
  Passes<T> passes;
  std::vector<Scalar> expected;
  for (const T value : start) expected.push_back({static_cast<double>(value), 0, 0, static_cast<double>(value)});
  for (int t = 1; t <= 6; ++t) {
    const double lr = 1e-2 / t, decay = std::min(0.3, t / (9.0 + t));
    passes.hyper = {.lr = lr, .rho = 0.5, .ema = 0.3};
    const std::vector<T> g = normals<T>(slab, seed, static_cast<std::uint32_t>(10 + t), 0, 0.3);
    // As SAM leaves it: w is perturbed, `saved` holds the weights to step from.
    const UpdateSlabs<T> slabs{w.data(), saved.data(), m.data(), v.data(), mean.data(), g.data(), slab};
    passes.ascend(slabs);
    passes.step(slabs, rule);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i].step(rule, static_cast<double>(g[i]), lr, t, decay);
    }
  }
  std::vector<double> weights, means;
  for (const Scalar& s : expected) {
    weights.push_back(s.w);
    means.push_back(s.mean);
  }
  EXPECT_TRUE(error(w.values(), weights) <= tolerance) << error(w.values(), weights);
  EXPECT_TRUE(error(mean.values(), means) <= tolerance) << error(mean.values(), means);
  EXPECT_TRUE(w.intact() && m.intact() && v.intact() && mean.intact());
}

TEST(Update, OptimisersAgainstTheirPublishedFormulas) {
  for (const double weight_decay : {0.0, 0.1}) {
    for (const UpdateRule rule : {UpdateRule{Rule::sgd, AdamForm::pytorch, weight_decay},
                                  UpdateRule{Rule::adam, AdamForm::pytorch, weight_decay},
                                  UpdateRule{Rule::adam, AdamForm::keras, weight_decay, 0.9, 0.999, 1e-7},
                                  UpdateRule{Rule::adamw, AdamForm::pytorch, weight_decay},
                                  UpdateRule{Rule::adamw, AdamForm::keras, weight_decay, 0.9, 0.999, 1e-7}}) {
      expect_steps<double>(rule, 1e-14);
      expect_steps<float>(rule, 1e-6);
    }
  }
}

// A zero gradient with zero moments leaves weights alone: restoring copies, it does not subtract.
TEST(Update, RestoringIsBitwise) {
  const std::vector<float> start = normals<float>(slab, seed, 1), g = normals<float>(slab, seed, 2, 0, 1e3);
  for (const Rule rule : {Rule::sgd, Rule::adam, Rule::adamw}) {
    std::vector<float> w = start, saved(slab), m(slab), v(slab);
    const std::vector<float> zero(slab);
    const auto slabs = [&](const std::vector<float>& gradient) {
      return UpdateSlabs<float>{w.data(), saved.data(), m.data(), v.data(), nullptr, gradient.data(), slab};
    };
    Passes<float> passes;
    passes.hyper = {.lr = 1e-3, .rho = 0.7};
    passes.ascend(slabs(g));
    EXPECT_FALSE(numeric::same_bits(w, start));
    passes.step(slabs(zero), {rule});
    EXPECT_TRUE(numeric::same_bits(w, start)) << static_cast<int>(rule);
  }
}

TEST(Update, StepsFromTheWeightsThemselves) {
  const std::vector<double> start = normals(slab, seed, 1), g = normals(slab, seed, 2);
  std::vector<double> in_place = start, apart(slab), saved = start, m(slab), v(slab), m2(slab), v2(slab);
  Passes<double> one, two;
  one.hyper.lr = two.hyper.lr = 1e-3;
  one.step({in_place.data(), nullptr, m.data(), v.data(), nullptr, g.data(), slab});
  two.step({apart.data(), saved.data(), m2.data(), v2.data(), nullptr, g.data(), slab});
  EXPECT_TRUE(numeric::same_bits(in_place, apart));
}

TEST(Update, TheSameBitsForAnyNumberOfThreads) {
  const int before = omp_get_max_threads();
  const std::vector<float> start = normals<float>(slab, seed, 1), g = normals<float>(slab, seed, 2);
  std::vector<float> first;
  double first_norm = 0;
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    std::vector<float> w = start, saved(slab), m(slab), v(slab);
    const UpdateSlabs<float> slabs{w.data(), saved.data(), m.data(), v.data(), nullptr, g.data(), slab};
    Passes<float> passes;
    passes.hyper = {.lr = 1e-3, .rho = 0.7};
    const double norm = passes.norm(slabs, true, 0);
    passes.ascend(slabs, true);
    passes.step({w.data(), nullptr, m.data(), v.data(), nullptr, g.data(), slab});
    if (first.empty()) {
      first = w;
      first_norm = norm;
    }
    EXPECT_TRUE(numeric::same_bits(w, first)) << threads;
    EXPECT_EQ(norm, first_norm) << threads;
  }
  omp_set_num_threads(before);
}

// ---- Small kernels ------------------------------------------------------------------------------------------------

TEST(Elementwise, ColumnSumsStayInTheirColumns) {
  const std::int64_t rows = 37, n = 130, ld = 135;
  const std::vector<double> from = normals(rows * ld, seed, 1), before = normals(n, seed, 2);
  std::vector<double> expected = before;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < n; ++c) expected[c] += from[r * ld + c];
  }
  Guarded<double> to(before), over(before);
  add_column_sums<double>(Cpu{}, added(to, n), from.data(), ld, rows, n, nullptr);
  EXPECT_TRUE(error(to.values(), expected) <= 1e-15);
  add_column_sums<double>(Cpu{}, written(over, n), from.data(), ld, rows, n, nullptr);
  for (std::int64_t c = 0; c < n; ++c) expected[c] -= before[c];
  EXPECT_TRUE(error(over.values(), expected) <= 1e-15);
  EXPECT_TRUE(to.intact() && over.intact());
}

// Without RevIN's scale and shift, with and without a bias.
TEST(Projection, WithoutAffine) {
  const std::int64_t R = 70, D = 7, O = 33, L = 20;
  const std::vector<double> x = normals(R * L, seed, 1), W = normals(O * L, seed, 2), b = normals(O, seed, 3);
  for (const bool biased : {false, true}) {
    std::vector<double> expected(R * O);
    for (std::int64_t i = 0; biased && i < R * O; ++i) expected[i] = b[i % O];
    numeric::gemm(false, true, R, O, L, x.data(), L, W.data(), L, expected.data(), O, true);
    Guarded<double> Z(R * O), s(O), turned(O * L);
    const ProjectionOperands<double> operands{
        Z.data(), Z.data(), s.data(), x.data(), W.data(), biased ? b.data() : nullptr, nullptr, nullptr, R, D, O, L};
    projection(Cpu{}, operands, turned.data());
    EXPECT_TRUE(error(Z.values(), expected) <= 1e-14);

    Guarded<double> dZ(normals(R * O, seed, 4)), dW(zeros<double>(O * L)), db(zeros<double>(O)),
        work(projection_backward_work<double>(R, O, L));
    std::vector<double> dw(O * L), sums(O);
    numeric::gemm(true, false, O, L, R, dZ.data(), O, x.data(), L, dw.data(), L, false);
    for (std::int64_t i = 0; i < R * O; ++i) sums[i % O] += dZ.data()[i];
    projection_backward<double>(Cpu{}, added(dW, L), biased ? added(db, O) : Sink<double>{}, {}, dZ.data(), operands, 0,
                                0, work.data());
    EXPECT_TRUE(error(dW.values(), dw) <= 1e-14);
    EXPECT_TRUE(error(db.values(), biased ? sums : std::vector<double>(O)) <= 1e-14);
    EXPECT_TRUE(Z.intact() && s.intact() && dZ.intact() && dW.intact() && db.intact() && work.intact() &&
                turned.intact());
  }
}

// ---- Kernels of SAMformer's relatives -----------------------------------------------------------------------------

// `got` agrees with the naive statement, 1.001 times it does not.
template <class T>
void expect_close(const char* what, const Guarded<T>& got, const std::vector<double>& expected) {
  const double tolerance = std::is_same_v<T, float> ? 2e-6 : 2e-14;
  std::vector<double> wrong = widened(got.values());
  for (double& x : wrong) x *= 1.001;
  EXPECT_TRUE(error(got.values(), expected) <= tolerance) << what << ": error " << error(got.values(), expected);
  EXPECT_FALSE(error(wrong, expected) <= tolerance) << what << ": a planted error passed";
  EXPECT_TRUE(got.intact()) << what;
}

// Rows of samples [N][M], drawn as T has them; gradients start at a value that the kernel has to add to.
template <class T>
struct NormCase {
  std::int64_t N, M;
  std::vector<T> x, dy, w, b, before, before_w;
  NormCase(std::int64_t N, std::int64_t M)
      : N(N),
        M(M),
        x(normals<T>(N * M, seed, 50, 1, 3)),
        dy(normals<T>(N * M, seed, 51)),
        w(normals<T>(M, seed, 52, 1)),
        b(normals<T>(M, seed, 53)),
        before(normals<T>(N * M, seed, 54)),
        before_w(normals<T>(M, seed, 55)) {}
  double at(const std::vector<T>& v, std::int64_t n, std::int64_t c) const { return v[n * M + c]; }
};

// The gradients of y = (x - mean) rstd w + b where mean and rstd are those of a group of `count` elements, by the sums
// over the group: total = sum w dy, along = sum w dy xhat. Null groups: mean and rstd are constants.
struct Naive {
  std::vector<double> y, dx, dw, db;
};
template <class T>
Naive naive_norm(const NormCase<T>& c, bool by_sample, const std::vector<double>* mean_given = nullptr,
                 const std::vector<double>* rstd_given = nullptr) {
  const std::size_t groups = static_cast<std::size_t>(by_sample ? c.N : c.M);
  const double count = static_cast<double>(by_sample ? c.M : c.N);
  std::vector<double> mean(groups), rstd(groups), total(groups), along(groups);
  const auto each = [&](const auto& body) {
    for (std::int64_t n = 0; n < c.N; ++n) {
      for (std::int64_t k = 0; k < c.M; ++k) body(n, k, static_cast<std::size_t>(by_sample ? n : k));
    }
  };
  each([&](auto n, auto k, auto g) { mean[g] += c.at(c.x, n, k) / count; });
  each([&](auto n, auto k, auto g) { rstd[g] += std::pow(c.at(c.x, n, k) - mean[g], 2) / count; });
  for (double& v : rstd) v = 1 / std::sqrt(v + 1e-3);
  if (mean_given) mean = *mean_given, rstd = *rstd_given;
  Naive out;
  out.dw = widened(c.before_w), out.db = widened(c.before_w);
  each([&](auto n, auto k, auto g) {
    const double xhat = (c.at(c.x, n, k) - mean[g]) * rstd[g], dy = c.at(c.dy, n, k), w = c.w[k];
    out.y.push_back(xhat * w + static_cast<double>(c.b[k]));
    out.dw[k] += dy * xhat;
    out.db[k] += dy;
    total[g] += w * dy;
    along[g] += w * dy * xhat;
  });
  each([&](auto n, auto k, auto g) {
    const double xhat = (c.at(c.x, n, k) - mean[g]) * rstd[g];
    const double pulled = mean_given ? 0 : (total[g] + xhat * along[g]) / count;
    out.dx.push_back(c.at(c.before, n, k) + rstd[g] * (c.w[k] * c.at(c.dy, n, k) - pulled));
  });
  return out;
}

template <class T>
void expect_batch_norm(std::int64_t N, std::int64_t M, bool constant) {
  const NormCase<T> c(N, M);
  Guarded<T> mean(normals<T>(M, seed, 56)), rstd(M), y(N * M), dx(c.before), dw(c.before_w), db(c.before_w);
  if (constant) {
    std::vector<T> var = normals<T>(M, seed, 57);
    for (T& v : var) v = T(0.5) + v * v;
    batch_norm_running(Cpu{}, y.data(), rstd.data(), mean.data(), var.data(), c.x.data(), c.w.data(), c.b.data(), N, M);
  } else {
    batch_norm<T>(Cpu{}, y.data(), mean.data(), rstd.data(), nullptr, nullptr, nullptr, c.x.data(), c.w.data(),
                  c.b.data(), N, M);
  }
  const std::vector<double> means = widened(mean.values()), rstds = widened(rstd.values());
  const Naive naive = constant ? naive_norm(c, false, &means, &rstds) : naive_norm(c, false);
  batch_norm_backward(Cpu{}, added(dx, M), added(dw, M), added(db, M), c.dy.data(), c.x.data(), mean.data(),
                      rstd.data(), c.w.data(), constant, N, M);
  expect_close("y", y, naive.y);
  expect_close("dx", dx, naive.dx);
  expect_close("dw", dw, naive.dw);
  expect_close("db", db, naive.db);
  EXPECT_TRUE(mean.intact() && rstd.intact());
}

template <class T>
void expect_layer_norm(std::int64_t N, std::int64_t M) {
  const NormCase<T> c(N, M);
  const Naive naive = naive_norm(c, true);
  Guarded<T> mean(N), rstd(N), y(N * M), dx(c.before), dw(c.before_w), db(c.before_w);
  layer_norm<T>(Cpu{}, y.data(), mean.data(), rstd.data(), c.x.data(), c.w.data(), c.b.data(), N, M, nullptr);
  layer_norm_backward<T>(Cpu{}, added(dx, M), added(dw, M), added(db, M), c.dy.data(), c.x.data(), mean.data(),
                         rstd.data(), c.w.data(), N, M, nullptr);
  expect_close("y", y, naive.y);
  expect_close("dx", dx, naive.dx);
  expect_close("dw", dw, naive.dw);
  expect_close("db", db, naive.db);
  EXPECT_TRUE(mean.intact() && rstd.intact());
}

TEST(Norms, AgainstTheNaiveStatement) {
  for (const auto& [N, M] : {std::pair<std::int64_t, std::int64_t>(2, 5), {5, 64}, {32, 130}, {3, 700}}) {
    SCOPED_TRACE(std::to_string(N) + " samples of " + std::to_string(M));
    for (const bool constant : {false, true}) {
      expect_batch_norm<double>(N, M, constant);
      expect_batch_norm<float>(N, M, constant);
    }
    expect_layer_norm<double>(N, M);
    expect_layer_norm<float>(N, M);
  }
}

template <class T>
void expect_affine_and_transpose(std::int64_t N, std::int64_t D, std::int64_t L) {
  const std::int64_t R = N * D;
  const std::vector<T> x = normals<T>(R * L, seed, 60), du = normals<T>(R * L, seed, 61);
  const std::vector<T> gamma = normals<T>(D, seed, 62, 1), beta = normals<T>(D, seed, 63);
  const std::vector<T> before = normals<T>(R * L, seed, 64);
  std::vector<double> u, dgamma = widened(gamma), dbeta = widened(beta), turned(R * L), added(R * L);
  for (std::int64_t i = 0; i < R * L; ++i) {
    const std::int64_t d = i / L % D, to = i / (D * L) * D * L + i % L * D + d;
    const double value = x[i], g = du[i];
    u.push_back(static_cast<double>(gamma[d]) * value + static_cast<double>(beta[d]));
    dgamma[d] += g * value;
    dbeta[d] += g;
    turned[to] = value;
    added[to] = static_cast<double>(before[to]) + value;
  }
  Guarded<T> U(R * L), dg(gamma), db(beta), work(2 * R), to(R * L), onto(before);
  revin_affine(Cpu{}, U.data(), x.data(), gamma.data(), beta.data(), N, D, L);
  revin_affine_backward<T>(Cpu{}, {.gamma = dg.data(), .beta = db.data()}, du.data(), x.data(), N, D, L, work.data());
  transpose<T>(Cpu{}, to.data(), x.data(), nullptr, N, D, L);
  transpose<T>(Cpu{}, onto.data(), x.data(), onto.data(), N, D, L);
  expect_close("u", U, u);
  expect_close("dgamma", dg, dgamma);
  expect_close("dbeta", db, dbeta);
  expect_close("transposed", to, turned);
  expect_close("added, transposed", onto, added);
  EXPECT_TRUE(work.intact());
}

TEST(Relatives, AffineAndTransposeAgainstTheNaiveStatement) {
  for (const auto& [N, D, L] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>(1, 1, 3), {4, 7, 20}, {3, 33, 5}, {2, 300, 40}}) {
    SCOPED_TRACE(std::to_string(N) + " x " + std::to_string(D) + " x " + std::to_string(L));
    expect_affine_and_transpose<double>(N, D, L);
    expect_affine_and_transpose<float>(N, D, L);
  }
}

// For any unit vectors and sigma: the formula of the header, term by term.
template <class T>
void expect_spectral_backward(std::int64_t out, std::int64_t in) {
  const std::vector<T> W = normals<T>(out * in, seed, 70), dWhat = normals<T>(out * in, seed, 71),
                       before = normals<T>(out * in, seed, 72);
  const std::vector<double> u = normals(out, seed, 73, 0, 0.3), v = normals(in, seed, 74, 0, 0.3);
  const double sigma = 2.5;
  const T gamma = T(0.75);
  double along = 0;
  for (std::int64_t i = 0; i < out * in; ++i)
    along += static_cast<double>(dWhat[i]) * static_cast<double>(W[i]) / sigma;
  std::vector<double> dW;
  for (std::int64_t i = 0; i < out * in; ++i) {
    dW.push_back(static_cast<double>(before[i]) +
                 0.75 / sigma * (static_cast<double>(dWhat[i]) - along * u[i / in] * v[i % in]));
  }
  Guarded<T> got(before), dgamma(std::vector<T>{T(1)});
  Guarded<Wide<T>> saved(spectral_saved(out, in)), work(spectral_scratch(Cpu{}, out, in));
  std::copy(v.begin(), v.end(), saved.data());
  std::copy(u.begin(), u.end(), saved.data() + in);
  saved.data()[in + out] = sigma;
  const SpectralLayer<T, Cpu> layer{W.data(), &gamma,         nullptr,          saved.data(), out,
                                    in,       added(got, in), added(dgamma, 1), dWhat.data()};
  spectral_reparam_backward(Cpu{}, &layer, 1, work.data());
  expect_close("dW", got, dW);
  expect_close("dgamma", dgamma, {1 + along});
  EXPECT_TRUE(work.intact());
}

TEST(Relatives, SpectralBackwardAgainstTheNaiveStatement) {
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>(5, 40), {40, 5}, {16, 512}, {1, 9}}) {
    SCOPED_TRACE(std::to_string(out) + " x " + std::to_string(in));
    expect_spectral_backward<double>(out, in);
    expect_spectral_backward<float>(out, in);
  }
}

}  // namespace
}  // namespace samformer::kernels
