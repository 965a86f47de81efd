// Forecasts that need no training, to compare with, and the mean of several models' forecasts.
#pragma once

#include <span>

#include "optim/evaluator.h"

namespace samformer::optim {

// One of several trained models whose forecasts are averaged.
struct Member {
  Evaluator* evaluator;
  std::span<const float> weights;
};
// Errors of the members' mean forecast (an ensemble of initialisations: Lakshminarayanan et al., NeurIPS 2017).
ErrorSums mean_forecast_errors(std::span<const Member> members, const Problem& problem,
                               std::span<const std::int32_t> starts, std::int64_t lookback, std::int64_t H);

// Repeats the last value of the look-back.
ErrorSums naive_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                       std::int64_t H);
// Repeats the last season of the look-back (season <= lookback).
ErrorSums seasonal_naive_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                                std::int64_t H, std::int64_t season);

}  // namespace samformer::optim
