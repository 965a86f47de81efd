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
// Their mean forecast of the windows at `starts`, standardised, [windows][targets][H].
std::vector<double> mean_forecast(std::span<const Member> members, const Problem& problem,
                                  std::span<const std::int32_t> starts);
// Its errors (an ensemble of initialisations: Lakshminarayanan et al., NeurIPS 2017).
ErrorSums mean_forecast_errors(std::span<const Member> members, const Problem& problem,
                               std::span<const std::int32_t> starts, std::int64_t lookback, std::int64_t H);

// Repeats the last value of the look-back.
ErrorSums naive_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                       std::int64_t H);
// Repeats the last season of the look-back (season <= lookback).
ErrorSums seasonal_naive_errors(const Problem& problem, std::span<const std::int32_t> starts, std::int64_t lookback,
                                std::int64_t H, std::int64_t season);

// What they are: the look-back's last `period` values of the window at `start`, again and again, [targets][H].
std::vector<double> repeated_forecast(const Problem& problem, std::int32_t start, std::int64_t lookback, std::int64_t H,
                                      std::int64_t period);

// The same as weights of model/linear.h (RevIN at its neutral values): what a checkpoint can hold. Exact up to rounding
// for a period of several steps, with either centre; the last value itself (period 1) is Center::last's.
std::vector<float> repeating_slab(const model::Linear& net, std::int64_t period);

}  // namespace samformer::optim
