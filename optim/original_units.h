// Errors in a file's own units, over the windows of a part and their H steps, by the formulas (and the signs) of
// utilsforecast 0.2.17, losses.py:
//
//   WAPE   sum |f - y| / sum |y|
//   MASE   mean |f - y| / mean over the training rows of |y_t - y_{t - season}|      (Hyndman & Koehler 2006)
//   RMSSE  root of mean (f - y)^2 / mean over the training rows of (y_t - y_{t - season})^2
//   bias   mean (f - y): above 0 where the forecast is too high
//
// The training rows are taken between their holes. Over all channels but those that ErrorSums leaves out: WAPE is the ratio of the sums, the others are means of the channels'. What divides by zero is NaN
// and left out of the means: a channel without truth above 0, one that repeats each season in the training rows or has
// no more rows than a season there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/data/series.h"
#include "optim/evaluator.h"

namespace samformer::optim {

struct OriginalErrors {
  double wape, mase, rmsse, bias;
};

// What is the same for every forecast of these windows.
class OriginalUnits {
 public:
  // `season`: 1 where there is none. The windows have their truth behind `lookback` rows.
  OriginalUnits(const model::Series& series, const model::Scaler& scaler, std::span<const std::int32_t> targets,
                std::span<const std::int32_t> starts, std::int64_t lookback, std::int64_t H, model::Span train,
                std::int64_t season);

  OriginalErrors channel(const ErrorSums& sums, std::int64_t t) const;
  OriginalErrors all(const ErrorSums& sums) const;
  // How many channels MASE and RMSSE are means of.
  std::int64_t scaled_channels() const;

 private:
  struct Channel {
    double unit;                             // of a standardised error
    double size;                             // mean |y| of the windows
    double absolute_season, squared_season;  // in-sample errors of the seasonal naive forecast
  };
  std::vector<Channel> channels_;
};

}  // namespace samformer::optim
