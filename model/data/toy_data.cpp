#include "model/data/toy_data.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "kernels/gemm.h"
#include "optim/normal_equations.h"

namespace samformer::model {
namespace {

constexpr std::uint32_t toy_stream = 6;
constexpr std::uint32_t weights = 0, inputs = 1, noises = 2;  // `sub`
constexpr std::int64_t block_rows = 1024;

// Fills `n` normals, number i of tensor `sub` from place `first` on.
void normals(float* to, std::int64_t n, std::uint64_t seed, std::uint32_t sub, std::int64_t first, double scale) {
  for (std::int64_t i = 0; i < n; i += 2) {
    const auto pair = normal_pair(random_block(seed, toy_stream, sub, static_cast<std::uint64_t>(first + i)));
    to[i] = static_cast<float>(scale * pair[0]);
    if (i + 1 < n) to[i + 1] = static_cast<float>(scale * pair[1]);
  }
}

// body(rows [X | Y], their number) for blocks of a part's rows, channel by channel.
template <class Body>
void for_blocks(ToySizes sizes, const ToySamples& samples, ToyPart part, const Body& body) {
  const std::int64_t length = sizes.L + sizes.H;
  for (std::int64_t d = 0; d < sizes.D; ++d) {
    for (std::int64_t i = 0; i < part.count; i += block_rows) {
      const float* from = samples.values.data() + (d * samples.count + part.first + i) * length;
      body(from, std::min(block_rows, part.count - i));
    }
  }
}

}  // namespace

ToySamples make_toy(ToySizes sizes, std::int64_t count, double noise, std::uint64_t seed) {
  const auto [D, L, H] = sizes;
  const std::int64_t length = L + H, rows = D * count;
  std::vector<float> weight(static_cast<std::size_t>(H * L));
  normals(weight.data(), H * L, seed, weights, 0, 1);
  ToySamples out;
  out.count = count;
  out.values.resize(static_cast<std::size_t>(rows * length));
  float* values = out.values.data();
  kernels::parallel_for<float>(rows, [=, L = L, H = H](std::int64_t r) {
    float* row = values + r * length;
    normals(row, L, seed, inputs, r * L, 1);
    normals(row + L, H, seed, noises, r * H, noise);
  });
  kernels::gemm(false, true, rows, H, L, values, length, weight.data(), L, values + L, length, true);
  for (std::int64_t i = 0; i < count; ++i) out.starts.push_back(static_cast<std::int32_t>(i * length));
  for (std::int64_t d = 0; d < D; ++d) out.targets.push_back(static_cast<std::int32_t>(d));
  return out;
}

std::vector<float> least_squares(ToySizes sizes, const ToySamples& samples, ToyPart part) {
  const auto [D, L, H] = sizes;
  const std::int64_t length = L + H;
  std::vector<double> G(static_cast<std::size_t>(L * L)), C(static_cast<std::size_t>(L * H));
  std::vector<double> block(static_cast<std::size_t>(block_rows * length));
  for_blocks(sizes, samples, part, [&, L = L, H = H](const float* from, std::int64_t n) {
    std::copy(from, from + n * length, block.begin());
    kernels::gemm(true, false, L, L, n, block.data(), length, block.data(), length, G.data(), L, true);
    kernels::gemm(true, false, L, H, n, block.data(), length, block.data() + L, length, C.data(), H, true);
  });
  if (!solve_normal_equations(G, C, L, H)) {
    throw Error(Exit::usage, fmt::format("too few samples for least squares of {} inputs", L))
        .hint("give more --samples");
  }
  std::vector<float> weight(static_cast<std::size_t>(H * L));
  for (std::int64_t h = 0; h < H; ++h) {
    for (std::int64_t i = 0; i < L; ++i) {
      weight[static_cast<std::size_t>(h * L + i)] = static_cast<float>(C[static_cast<std::size_t>(i * H + h)]);
    }
  }
  return weight;
}

double linear_mse(ToySizes sizes, const std::vector<float>& weight, const ToySamples& samples, ToyPart part) {
  const auto [D, L, H] = sizes;
  const std::int64_t length = L + H;
  std::vector<float> predicted(static_cast<std::size_t>(block_rows * H));
  double total = 0;
  for_blocks(sizes, samples, part, [&, L = L, H = H](const float* from, std::int64_t n) {
    kernels::gemm(false, true, n, H, L, from, length, weight.data(), L, predicted.data(), H, false);
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t h = 0; h < H; ++h) {
        const double e = static_cast<double>(predicted[static_cast<std::size_t>(r * H + h)]) -
                         static_cast<double>(from[r * length + L + h]);
        total += e * e;
      }
    }
  });
  return total / static_cast<double>(D * part.count * H);
}

}  // namespace samformer::model
