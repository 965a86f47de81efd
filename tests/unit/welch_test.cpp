// Welch's t-test against values of scipy.stats.ttest_ind_from_stats(..., equal_var=False).
#include <gtest/gtest.h>

#include <cmath>

#include "optim/analysis/welch.h"

namespace samformer {
namespace {

TEST(Welch, AgreesWithScipy) {
  struct Case {
    optim::Summary a, b;
    double t, degrees, p;
  };
  const Case cases[] = {
      {{0.363, 0.0005, 5}, {0.381, 0.003, 5}, -13.233863197688549, 4.2220508866615267, 0.00013490518132813081},
      {{0.437, 0.001, 5}, {0.427, 0.002, 5}, 10.000000000000009, 5.882352941176471, 6.5468236841925999e-05},
      {{0.41, 0.02, 3}, {0.409, 0.002, 5}, 0.086343896076457205, 2.0240355673597872, 0.93897625896477566},
      {{1.0, 0.3, 2}, {1.7, 0.5, 5}, -2.2710998958306754, 3.4056603773584904, 0.097255920612162247},
      {{0.512, 0.031, 5}, {0.509, 0.031, 5}, 0.15301343516943786, 8, 0.88217672043390016},
  };
  for (const Case& c : cases) {
    const optim::WelchTest test = optim::welch_test(c.a, c.b);
    const double errors[] = {test.t / c.t - 1, test.degrees / c.degrees - 1, test.p / c.p - 1};
    for (const double error : errors) {
      if (!(std::fabs(error) <= 1e-9)) ADD_FAILURE() << "off by " << error << " at p " << c.p;
    }
  }
}

TEST(Welch, SaysNothingWithoutTwoDeviations) {
  const double nan = std::nan("");
  EXPECT_TRUE(std::isnan(optim::welch_test({1, nan, 1}, {2, 0.1, 5}).p));
  EXPECT_TRUE(std::isnan(optim::welch_test({1, 0.1, 5}, {2, nan, 5}).p));
  EXPECT_TRUE(std::isnan(optim::welch_test({1, 0, 5}, {2, 0, 5}).t));
}

}  // namespace
}  // namespace samformer
