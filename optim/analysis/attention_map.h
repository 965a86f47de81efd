// Attention maps A = softmax_rows(Q K' / sqrt(d_m)) [D][D] of a model's windows, and what they say:
//
//   entropy of a row   -sum_j a_ij ln a_ij (ln D: uniform, 0: one channel alone), mean over rows, heads and windows
//   nuclear norm       sum of A's singular values, of each map, then the mean over maps
//   identity distance  |A - I|_F / sqrt(D), of each map, then the mean
//
// Rows are queries. A is the mean over heads, of the encoder's last attention, one map a window; patchtst has one of
// each channel. D counts what the map is between: the channels, behind them the dates' marks where a network looks at
// them too (iTransformer); or the window's steps, patches or pyramid of steps (Model::map_steps). Singular values cost
// O(D^3) a map: over `most_norms` maps, evenly spaced, they are of those; 0: none.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "optim/evaluator.h"

namespace samformer::optim {

struct AttentionSummary {
  std::int64_t tokens = 0;  // D
  std::vector<double> map;  // [D][D], mean over maps
  double entropy = 0;
  double nuclear_norm = 0;
  double identity_distance = 0;
  std::int64_t norm_maps = 0;  // that the nuclear norm is of
};
// `before_batch` is called before each batch of windows and may throw (a signal). `device`: of Evaluator.
AttentionSummary attention_summary(
    const model::Model& model, kernels::Center center, std::span<const float> weights, const Problem& problem,
    std::span<const std::int32_t> starts, std::int64_t most_norms, const std::function<void()>& before_batch = [] {},
    DeviceModel* device = nullptr);

}  // namespace samformer::optim
