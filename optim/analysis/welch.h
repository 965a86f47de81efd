// Welch's t-test of two means with unequal variances, from their summaries.
//
//   t = (m1 - m2) / sqrt(v1 + v2),  v = s^2 / n (s: the standard deviation with n - 1)
//   degrees of freedom = (v1 + v2)^2 / (v1^2 / (n1 - 1) + v2^2 / (n2 - 1))       (Welch 1947, Satterthwaite 1946)
//   p = P(|T| >= |t|) = I_x(df / 2, 1 / 2),  x = df / (df + t^2)                 (two-sided)
//
// I is the regularised incomplete beta function, by Lentz's continued fraction (Press et al., Numerical Recipes, 6.4).
#pragma once

namespace samformer::optim {

struct Summary {
  double mean, deviation;
  int n;
};
struct WelchTest {
  double t, degrees, p;
};
// NaN where it says nothing: fewer than two values on a side, a deviation that is not known, or both zero.
WelchTest welch_test(const Summary& a, const Summary& b);

// P(|T| >= |t|) of Student's t.
double two_sided_p(double t, double degrees);

}  // namespace samformer::optim
