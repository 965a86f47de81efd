// The test protocol: errors over every window, channel and step of a split, nothing dropped, each window de-normalised
// with its own statistics. Errors are in standardised units; sums in double, in window order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/registry.h"

namespace samformer::optim {

// A standardised series as the engine reads it: values[d * rows + t], resident; the channels that are forecast.
struct Problem {
  std::span<const float> values;  // [D][rows]
  std::int64_t rows = 0;
  std::int64_t D = 0;
  std::span<const std::int32_t> targets;

  // Windows of the look-back (or, `offset` = look-back, of the truth) that start at `starts`.
  kernels::Windows<float> windows(std::span<const std::int32_t> starts, std::int64_t offset = 0) const {
    return {values.data() + offset, rows, starts.data(), static_cast<std::int64_t>(starts.size()), D};
  }
  Truth<float> truth(std::span<const std::int32_t> starts, std::int64_t lookback) const {
    return {windows(starts, lookback), targets.data(), static_cast<std::int64_t>(targets.size())};
  }
};

struct ErrorSums {
  std::int64_t windows = 0;
  std::int64_t targets = 0;
  std::int64_t H = 0;
  std::vector<double> squared;   // [targets][H]
  std::vector<double> absolute;  // [targets][H]

  ErrorSums(std::int64_t targets, std::int64_t H)
      : targets(targets), H(H), squared(static_cast<std::size_t>(targets * H)), absolute(squared.size()) {}
  // Means over all, over one target's, over one step's elements (t, h from 0).
  double mse() const { return mean(squared, 0, targets, 0, H); }
  double mae() const { return mean(absolute, 0, targets, 0, H); }
  double channel_mse(std::int64_t t) const { return mean(squared, t, t + 1, 0, H); }
  double channel_mae(std::int64_t t) const { return mean(absolute, t, t + 1, 0, H); }
  double step_mse(std::int64_t h) const { return mean(squared, 0, targets, h, h + 1); }
  double step_mae(std::int64_t h) const { return mean(absolute, 0, targets, h, h + 1); }

 private:
  double mean(const std::vector<double>& sums, std::int64_t t0, std::int64_t t1, std::int64_t h0,
              std::int64_t h1) const;
};

class DeviceModel;

class Evaluator {
 public:
  // `device`: where it is computed instead of on the CPU; the problem must then be the one that the device was loaded
  // with.
  Evaluator(const model::Model& model, kernels::Center center, DeviceModel* device = nullptr)
      : model_(model), center_(model.center(center)), device_(device) {}

  // `weights`: a slab of the model.
  ErrorSums errors(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts);
  // The training loss with statistics mixing over batches of `batch` consecutive windows, weighted by their windows.
  double mixed_loss(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts,
                    kernels::StatsMix mix, std::int64_t batch);
  // Forecasts [windows][targets][H] of the windows that start at `starts`, standardised.
  std::vector<float> forecast(std::span<const float> weights, const Problem& problem,
                              std::span<const std::int32_t> starts);

 private:
  struct Forward {
    model::Output<float> output;
    Normalised<float> input;
  };
  // Whether `together` windows at a time are projected by correlation: they start one step apart and it pays.
  bool slides(std::int64_t together, std::span<const std::int32_t> starts) const;
  Forward forward(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts);
  // Calls body(starts of a batch, its forecasts [N D][H]).
  template <class Body>
  void for_batches(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts,
                   const Body& body);

  model::Model model_;
  kernels::Center center_;
  DeviceModel* device_;
  Arena arena_;
  Tape<float> tape_{arena_};
};

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
