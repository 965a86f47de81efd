// The test protocol: errors over every window, channel and step of a split, nothing dropped, each window de-normalised
// with its own statistics. Errors are in standardised units; sums in double, in a fixed order. One evaluation serves
// the CPU and a device.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/device_memory.h"
#include "model/data/problem.h"
#include "model/registry.h"

namespace samformer::optim {

using model::Problem;

// The mean of sums [targets][H] over windows, of targets t0 to t1 and steps h0 to h1 (exclusive). A target that is left
// out ([targets], or empty) counts where it is asked for alone.
double mean_of(const std::vector<double>& sums, std::int64_t windows, std::int64_t H,
               std::span<const std::uint8_t> left_out, std::int64_t t0, std::int64_t t1, std::int64_t h0,
               std::int64_t h1);

struct ErrorSums {
  std::int64_t windows = 0;
  std::int64_t targets = 0;
  std::int64_t H = 0;
  std::vector<double> squared;         // [targets][H]
  std::vector<double> absolute;        // [targets][H]
  std::vector<double> difference;      // [targets][H], forecast minus truth
  std::vector<std::uint8_t> left_out;  // [targets] of the means over all; empty: none (Problem::left_out)

  ErrorSums(std::int64_t targets, std::int64_t H)
      : targets(targets),
        H(H),
        squared(static_cast<std::size_t>(targets * H)),
        absolute(squared.size()),
        difference(squared.size()) {}

  void add(std::int64_t t, std::int64_t h, double error) {
    const auto at = static_cast<std::size_t>(t * H + h);
    squared[at] += error * error;
    absolute[at] += error < 0 ? -error : error;
    difference[at] += error;
  }

  // Means over all but those left out, over one target's, over one step's elements (t, h from 0).
  double mse() const { return mean(squared, 0, targets, 0, H); }
  double mae() const { return mean(absolute, 0, targets, 0, H); }
  double channel_mse(std::int64_t t) const { return mean(squared, t, t + 1, 0, H); }
  double channel_mae(std::int64_t t) const { return mean(absolute, t, t + 1, 0, H); }
  double channel_bias(std::int64_t t) const { return mean(difference, t, t + 1, 0, H); }
  double step_mse(std::int64_t h) const { return mean(squared, 0, targets, h, h + 1); }
  double step_mae(std::int64_t h) const { return mean(absolute, 0, targets, h, h + 1); }

 private:
  double mean(const std::vector<double>& sums, std::int64_t t0, std::int64_t t1, std::int64_t h0,
              std::int64_t h1) const {
    return mean_of(sums, windows, H, left_out, t0, t1, h0, h1);
  }
};

// What an evaluation reads, where it computes: the weights, a series and the starts of windows in it.
struct Resident {
  float* weights = nullptr;
  const float* values = nullptr;
  std::int64_t rows = 0, D = 0, marks = 0;
  const std::int32_t* targets = nullptr;
  std::int64_t target_count = 0;
  const float* channel_weight = nullptr;  // of Truth
  const std::int32_t* starts = nullptr;
  kernels::KnownRows known = {};

  kernels::Windows<float> windows(std::int64_t first, std::int64_t N, std::int64_t offset = 0) const {
    return {values + offset, rows, starts + first, N, D, nullptr, 0, marks, known};
  }
};

// What `maps` attention maps are made of (model::MapParts).
struct AttentionParts {
  Tensor<const float> q, k;  // [maps tokens][d]
  const float* lse;          // [maps heads][tokens]
  std::int64_t heads, tokens, maps;
  kernels::HeadsMask mask;
  const float* previous;  // [maps heads][keys][queries]; null: none
};

// A model's forecasts for many windows, in batches; without gradients it only reads its weights.
template <class On>
class Evaluation {
 public:
  Evaluation(const model::Model& model, kernels::Center center, On on = {})
      : model_(model), center_(model.center(center)), tape_(arena_, on) {}

  // `starts`: the host's copy of those in `at`.
  ErrorSums errors(const Resident& at, std::span<const std::int32_t> starts);
  double mixed_loss(const Resident& at, std::span<const std::int32_t> starts, kernels::StatsMix mix,
                    std::int64_t batch);
  std::vector<float> forecast(const Resident& at, std::span<const std::int32_t> starts);
  // Calls body(first, N, parts) with what the attention maps of N windows from number `first` on are made of, one or
  // several maps a window: complete, on the host. For models whose outputs have maps.
  using Maps = std::function<void(std::int64_t, std::int64_t, const AttentionParts&)>;
  void attention(const Resident& at, std::span<const std::int32_t> starts, const Maps& body);

 private:
  struct Forward {
    model::Output<float, On> output;
    Normalised<float, On> input;
  };
  // Whether `together` windows at a time are projected by correlation: they start one step apart and it pays.
  bool slides(std::int64_t together, std::span<const std::int32_t> starts) const;
  // `slide`: windows that start one step apart may be projected by correlation.
  Forward forward(const Resident& at, std::int64_t first, std::span<const std::int32_t> starts, bool slide,
                  bool mixing);
  // Calls body(number of the first window, how many, their forecasts [N D][H]).
  template <class Body>
  void for_batches(const Resident& at, std::span<const std::int32_t> starts, const Body& body);
  // `count` numbers of the tape's, on the host until the next call.
  const float* fetch(const float* from, std::int64_t count);

  model::Model model_;
  kernels::Center center_;
  Arena<On> arena_;
  Tape<float, On> tape_;
  std::vector<float> fetched_;
};

class DeviceModel;

// An Evaluation on the CPU, or a device's.
class Evaluator {
 public:
  // `device`: where it is computed instead of on the CPU; the problem must then be the one that the device was loaded
  // with.
  Evaluator(const model::Model& model, kernels::Center center, DeviceModel* device = nullptr)
      : evaluation_(model, center), device_(device) {}

  // `weights`: a slab of the model.
  ErrorSums errors(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts);
  // The training loss with statistics mixing over batches of `batch` consecutive windows, weighted by their windows.
  double mixed_loss(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts,
                    kernels::StatsMix mix, std::int64_t batch);
  // Forecasts [windows][targets][H] of the windows that start at `starts`, standardised.
  std::vector<float> forecast(std::span<const float> weights, const Problem& problem,
                              std::span<const std::int32_t> starts);
  void attention(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts,
                 const Evaluation<Cpu>::Maps& body);

 private:
  Evaluation<Cpu> evaluation_;
  DeviceModel* device_;
};

}  // namespace samformer::optim
