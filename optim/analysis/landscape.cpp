#include "optim/analysis/landscape.h"

#include <cmath>

#include "core/random.h"

namespace samformer::optim {
namespace {

constexpr std::uint32_t direction_stream = 5;

std::vector<double> offsets(double reach, int points) {
  std::vector<double> at;
  for (int i = 0; i < points; ++i) at.push_back(reach * (2 * i - (points - 1)) / (points - 1));
  return at;
}

}  // namespace

std::vector<float> filter_normalised_direction(const model::Model& model, std::span<const float> weights,
                                               std::uint64_t seed, std::uint32_t which) {
  std::vector<float> direction(weights.size());
  for (const model::Parameter& p : model.parameters().all()) {
    if (p.shape.rank() < 2 || !p.trained) continue;  // biases, RevIN
    for (std::int64_t r = 0; r < p.shape.rows(); ++r) {
      const std::int64_t first = p.offset + r * p.shape.cols();
      std::vector<double> row;
      double squares = 0, drawn = 0;
      for (std::int64_t i = first; i < first + p.shape.cols(); ++i) {
        const double w = static_cast<double>(weights[static_cast<std::size_t>(i)]);
        row.push_back(normal_pair(random_block(seed, direction_stream, which, static_cast<std::uint64_t>(i)))[0]);
        squares += w * w;
        drawn += row.back() * row.back();
      }
      for (std::int64_t c = 0; c < p.shape.cols(); ++c) {
        direction[static_cast<std::size_t>(first + c)] =
            static_cast<float>(row[static_cast<std::size_t>(c)] * std::sqrt(squares / drawn));
      }
    }
  }
  return direction;
}

LossSlices loss_slices(const model::Model& model, kernels::Center center, std::span<const float> weights,
                       const Problem& problem, std::span<const std::int32_t> starts, std::uint64_t seed, double reach,
                       int points, int side, const std::function<void()>& before_point, DeviceModel* device) {
  SAMFORMER_CHECK(points % 2 == 1 && side % 2 == 1 && points > 1 && side > 1, "slices have an odd number of points");
  const std::vector<float> first = filter_normalised_direction(model, weights, seed, 0);
  const std::vector<float> second = filter_normalised_direction(model, weights, seed, 1);
  Evaluator evaluator(model, center, device);
  std::vector<float> moved(weights.size());
  const auto loss = [&](double a, double b) {
    before_point();
    for (std::size_t i = 0; i < moved.size(); ++i) {
      moved[i] = static_cast<float>(static_cast<double>(weights[i]) + a * static_cast<double>(first[i]) +
                                    b * static_cast<double>(second[i]));
    }
    return evaluator.errors(moved, problem, starts).mse();
  };
  LossSlices out{offsets(reach, points), {}, {}, offsets(reach, side)};
  for (const double a : out.at) out.line.push_back(loss(a, 0));
  for (const double b : out.square_at) {
    for (const double a : out.square_at) out.square.push_back(loss(a, b));
  }
  return out;
}

}  // namespace samformer::optim
