#include "optim/analysis/attention_map.h"

#include <Eigen/SVD>
#include <algorithm>
#include <cmath>

namespace samformer::optim {

AttentionSummary attention_summary(const model::Model& model, kernels::Center center, std::span<const float> weights,
                                   const Problem& problem, std::span<const std::int32_t> starts,
                                   std::int64_t most_norms, const std::function<void()>& before_batch,
                                   DeviceModel* device) {
  if (!model.has_attention() && model.map_steps().empty()) {
    throw Error(Exit::usage, "this model has no attention map")
        .hint(
            "samformer, transformer, random-transformer, sigma-reparam and itransformer have one of the channels, "
            "temporal, patchtst, logtrans and pyraformer of the steps");
  }
  const auto windows = static_cast<std::int64_t>(starts.size());
  AttentionSummary out;
  Eigen::MatrixXd map;
  Evaluator evaluator(model, center, device);
  before_batch();
  evaluator.attention(weights, problem, starts, [&](std::int64_t first, std::int64_t N, const auto& of) {
    if (first > 0) before_batch();
    const std::int64_t D = out.tokens = of.tokens, width = of.q.cols() / of.heads, a_window = of.maps / N;
    const std::int64_t maps = windows * a_window, norms = std::min(maps, most_norms);
    out.map.resize(static_cast<std::size_t>(D * D));
    const double scale = 1 / std::sqrt(static_cast<double>(width)), share = 1 / static_cast<double>(of.heads);
    for (std::int64_t n = 0; n < of.maps; ++n) {
      map.setZero(D, D);
      for (std::int64_t h = 0; h < of.heads; ++h) {
        const std::int64_t block = n * of.heads + h;
        for (std::int64_t i = 0; i < D; ++i) {
          const float* const row = of.q.row(n * D + i) + h * width;
          for (std::int64_t j = 0; j < D; ++j) {
            if (!of.mask.allows(i, j)) continue;
            double score = 0;
            for (std::int64_t c = 0; c < width; ++c) score += double(row[c]) * double(of.k(n * D + j, h * width + c));
            score *= scale;
            if (of.previous) score += double(of.previous[(block * D + j) * D + i]);
            const double logarithm = score - double(of.lse[block * D + i]);
            const double a = std::exp(logarithm);
            map(i, j) += share * a;
            out.entropy -= share * a * logarithm / static_cast<double>(maps * D);
          }
        }
      }
      for (std::int64_t c = 0; c < D * D; ++c) {
        out.map[static_cast<std::size_t>(c)] += map(c / D, c % D) / static_cast<double>(maps);
      }
      out.identity_distance += (map - Eigen::MatrixXd::Identity(D, D)).norm() / std::sqrt(static_cast<double>(D)) /
                               static_cast<double>(maps);
      // Evenly spaced: map w is taken where the share of taken ones falls behind.
      const std::int64_t w = first * a_window + n;
      if ((w + 1) * norms / maps > out.norm_maps) {
        out.nuclear_norm += Eigen::BDCSVD<Eigen::MatrixXd>(map).singularValues().sum();
        ++out.norm_maps;
      }
    }
  });
  if (out.norm_maps > 0) out.nuclear_norm /= static_cast<double>(out.norm_maps);
  return out;
}

}  // namespace samformer::optim
