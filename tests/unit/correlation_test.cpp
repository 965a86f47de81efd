// The projection of consecutive windows by transforms (kernels/correlation.h) against products in double of the windows
// themselves; and the evaluator, which takes it where it pays, against itself on windows out of order.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "kernels/correlation.h"
#include "kernels/projection.h"
#include "optim/evaluator.h"
#include "tests/numeric.h"

namespace samformer::kernels {
namespace {

using numeric::error;
using numeric::Guarded;
using numeric::normals;

constexpr std::uint64_t seed = 41;

struct Case {
  std::int64_t N, D, L, O;
};

struct Problem {
  std::vector<float> series;
  std::vector<std::int32_t> starts;
  Windows<float> windows;
  std::vector<float> stats, W, b, gamma, beta;  // stats: level, then sigma
};

// Channels that wander, one of them nearly flat at a high level.
Problem make_problem(Case c, Center center) {
  const std::int64_t rows = c.N + c.L + 6;
  Problem p;
  p.series = normals<float>(c.D * rows, seed, 1);
  for (std::int64_t d = 0; d < c.D; ++d) {
    float level = 0;
    for (std::int64_t t = 0; t < rows; ++t) {
      float& value = p.series[static_cast<std::size_t>(d * rows + t)];
      level += 0.1f * value;
      value = d == 1 ? 3 + 1e-3f * value : level + value;
    }
  }
  p.starts.resize(static_cast<std::size_t>(c.N));
  std::iota(p.starts.begin(), p.starts.end(), 4);
  p.windows = {p.series.data(), rows, p.starts.data(), c.N, c.D};
  p.stats.resize(static_cast<std::size_t>(stats_size(Cpu{}, c.N, c.D)));
  revin_normalise<float>(Cpu{}, nullptr, p.stats.data(), p.windows, c.L, center);
  p.W = normals<float>(c.O * c.L, seed, 2), p.b = normals<float>(c.O, seed, 3);
  p.gamma = normals<float>(c.D, seed, 4), p.beta = normals<float>(c.D, seed, 5);
  return p;
}

std::vector<double> expected(const Problem& p, Case c) {
  std::vector<double> Z;
  for (std::int64_t r = 0; r < c.N * c.D; ++r) {
    const std::int64_t d = r % c.D;
    const auto of = [](const std::vector<float>& v, std::int64_t i) {
      return static_cast<double>(v[static_cast<std::size_t>(i)]);
    };
    for (std::int64_t o = 0; o < c.O; ++o) {
      double z = of(p.b, o);
      for (std::int64_t l = 0; l < c.L; ++l) {
        const double xhat =
            (static_cast<double>(p.windows.row(r / c.D, d)[l]) - of(p.stats, r)) / of(p.stats, c.N * c.D + r);
        z += (of(p.gamma, d) * xhat + of(p.beta, d)) * of(p.W, o * c.L + l);
      }
      Z.push_back(z);
    }
  }
  return Z;
}

std::vector<float> correlated(const Problem& p, Case c) {
  Guarded<float> Z(std::vector<float>(static_cast<std::size_t>(c.N * c.D * c.O)));
  Arena<> arena;
  correlate(Z.data(), p.windows, p.stats.data(), p.stats.data() + c.N * c.D, p.W.data(), p.b.data(), p.gamma.data(),
            p.beta.data(), c.O, c.L, arena.allocate<double>(correlation_work(c.D, c.O, c.L)));
  EXPECT_TRUE(Z.intact());
  return Z.values();
}

TEST(Correlation, IsTheProjection) {
  for (const Case c :
       {Case{1, 1, 1, 1}, {2, 2, 3, 5}, {41, 9, 24, 33}, {7, 2, 24, 16}, {3, 300, 5, 18}, {513, 3, 512, 20}}) {
    for (const Center center : {Center::mean, Center::last}) {
      SCOPED_TRACE(fmt::format("N {}, D {}, L {}, O {}, center {}, seed {}", c.N, c.D, c.L, c.O,
                               center == Center::last ? "last" : "mean", seed));
      ASSERT_LE(c.N, correlation_windows(c.L));
      const Problem p = make_problem(c, center);
      const std::vector<float> Z = correlated(p, c);
      EXPECT_TRUE(error(Z, expected(p, c)) <= 1e-7) << error(Z, expected(p, c));
    }
  }
}

TEST(Correlation, TheSameBitsForAnyNumberOfThreads) {
  const int before = omp_get_max_threads();
  const Case c{41, 9, 24, 33};
  const Problem p = make_problem(c, Center::mean);
  std::vector<float> first;
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    const std::vector<float> Z = correlated(p, c);
    if (first.empty()) first = Z;
    EXPECT_TRUE(numeric::same_bits(Z, first)) << threads;
  }
  omp_set_num_threads(before);
}

// Window by window, as backwards order makes it, against consecutive windows, and against those with a gap or a stride,
// which no correlation holds.
TEST(Correlation, EvaluationIsTheSame) {
  const std::int64_t rows = 500, D = 3, L = 60, H = 10;
  const std::vector<float> series = normals<float>(D * rows, seed, 1);
  const std::vector<std::int32_t> targets{0, 2};
  std::vector<std::int32_t> all(static_cast<std::size_t>(rows - L - H + 1)), gap, strided;
  std::iota(all.begin(), all.end(), 0);
  std::copy_if(all.begin(), all.end(), std::back_inserter(gap), [](std::int32_t start) { return start != 70; });
  std::copy_if(all.begin(), all.end(), std::back_inserter(strided), [](std::int32_t start) { return start % 3 == 0; });
  const optim::Problem problem{series, rows, D, targets};
  ASSERT_TRUE(correlation_pays(correlation_windows(L), L));
  for (const model::Model& model :
       {model::Model{model::Samformer({model::Value::low_rank, D, L, H, 4})},
        model::Model{model::Samformer({model::Value::full, D, L, H, 4})}, model::Model{model::Linear({D, L, H})},
        model::Model{model::Transformer({D, L, H, 4, model::Attention::learned, true})}}) {
    std::vector<float> weights(static_cast<std::size_t>(model.parameters().slab_size()));
    model.initialise(weights.data(), seed, model::Init::pytorch, model::HeadInit::as_init);
    for (const Center center : {Center::mean, Center::last}) {
      optim::Evaluator evaluator(model, center);
      for (const auto* starts : {&all, &gap, &strided}) {
        SCOPED_TRACE(fmt::format("network {}, center {}, {} windows, seed {}", model.network().index(),
                                 center == Center::last ? "last" : "mean", starts->size(), seed));
        const std::vector<float> forecasts = evaluator.forecast(weights, problem, *starts);
        const std::vector<std::int32_t> backwards(starts->rbegin(), starts->rend());
        const std::vector<float> one_by_one = evaluator.forecast(weights, problem, backwards);
        std::vector<double> in_order;
        const auto width = static_cast<std::size_t>(H * 2);
        for (std::size_t n = starts->size(); n-- > 0;) {
          in_order.insert(in_order.end(), one_by_one.begin() + static_cast<std::ptrdiff_t>(n * width),
                          one_by_one.begin() + static_cast<std::ptrdiff_t>((n + 1) * width));
        }
        EXPECT_TRUE(error(forecasts, in_order) <= 1e-6) << error(forecasts, in_order);
        const double a = evaluator.errors(weights, problem, *starts).mse();
        const double b = evaluator.errors(weights, problem, backwards).mse();
        EXPECT_TRUE(std::abs(a - b) <= 1e-6 * b) << a << ' ' << b;
      }
    }
  }
}

}  // namespace
}  // namespace samformer::kernels
