// Whether two forecasts differ in error, from their mean squared errors at each of n origins (Diebold & Mariano 1995),
// with the correction for few origins of Harvey, Leybourne & Newbold (1997):
//
//   d_i = a_i - b_i,   V = g_0 + 2 sum_{k=1..q} (1 - k / (q + 1)) g_k,   g_k: autocovariance of d at lag k, by n
//   t = mean(d) / sqrt(V / n) * sqrt((n + 1 - 2 h + h (h - 1) / n) / n),   h = q + 1,   p from Student's t, n - 1 degrees
//
// q: how many of the following origins a forecast overlaps. Bartlett's weights keep V from being negative.
#pragma once

#include <cstdint>
#include <span>

namespace samformer::optim {

struct DieboldMariano {
  double t = 0;  // below 0: a has the lower error
  double p = 0;
};
// NaN where it says nothing: fewer than 3 origins, no difference that varies.
DieboldMariano diebold_mariano(std::span<const double> a, std::span<const double> b, std::int64_t overlap);

}  // namespace samformer::optim
