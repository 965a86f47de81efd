// Expected values by SciPy 1.x (stats.t) and NumPy from the formula of the header.
#include "optim/analysis/diebold_mariano.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace samformer::optim {
namespace {

TEST(DieboldMariano, ValuesOfScipy) {
  const std::vector<double> a = {0.31, 0.42, 0.28, 0.55, 0.47, 0.39, 0.61, 0.33, 0.44, 0.52};
  const std::vector<double> b = {0.35, 0.45, 0.33, 0.52, 0.58, 0.47, 0.59, 0.41, 0.43, 0.66};
  struct Case {
    std::int64_t overlap;
    double t, p;
  };
  for (const Case& c :
       {Case{0, -2.6269238499757983, 0.02749698805347799}, Case{1, -3.3383887107944576, 0.008682399605412046},
        Case{3, -3.2036000214360607, 0.010768915663953296}}) {
    const DieboldMariano test = diebold_mariano(a, b, c.overlap);
    EXPECT_NEAR(test.t, c.t, 1e-12);
    EXPECT_NEAR(test.p, c.p, 1e-12);
    const DieboldMariano swapped = diebold_mariano(b, a, c.overlap);
    EXPECT_NEAR(swapped.t, -c.t, 1e-12);
  }
}

TEST(DieboldMariano, SaysNothingWithoutDifferences) {
  const std::vector<double> few = {1, 2}, same = {1, 2, 3, 4}, shifted = {2, 3, 4, 5};
  EXPECT_TRUE(std::isnan(diebold_mariano(few, few, 0).p));
  EXPECT_TRUE(std::isnan(diebold_mariano(same, same, 0).p));
  EXPECT_TRUE(std::isnan(diebold_mariano(same, shifted, 0).t));
}

}  // namespace
}  // namespace samformer::optim
