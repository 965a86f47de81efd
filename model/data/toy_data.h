// The paper's toy regression (section 2): Y = X W + noise with X, W standard normal and noise of a given standard
// deviation, samples of D channels, L inputs and H outputs. No network can do better than W: the Oracle is its least
// squares estimate.
//
// Samples lie one behind the other as windows of a series would: sample i of channel d is [X (L) | Y (H)] at
// values[(d n + i) (L + H)], so that training and evaluation read them as they read any series. Every number follows
// from the seed and its place (Philox stream 6).
#pragma once

#include <cstdint>
#include <vector>

namespace samformer::model {

struct ToySizes {
  std::int64_t D = 7;
  std::int64_t L = 512;
  std::int64_t H = 96;
};

struct ToySamples {
  std::int64_t count = 0;
  std::vector<float> values;          // [D][count][L + H]
  std::vector<std::int32_t> starts;   // of the samples, in a channel
  std::vector<std::int32_t> targets;  // all channels
};
ToySamples make_toy(ToySizes sizes, std::int64_t count, double noise, std::uint64_t seed);

// Samples [first, first + count).
struct ToyPart {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
// Least squares W [H][L] of a part (no intercept): the normal equations in double, solved by Cholesky. Throws
// Error(Exit::usage) where there are too few samples to determine it.
std::vector<float> least_squares(ToySizes sizes, const ToySamples& samples, ToyPart part);
// Mean squared error of X W on a part.
double linear_mse(ToySizes sizes, const std::vector<float>& weight, const ToySamples& samples, ToyPart part);

}  // namespace samformer::model
