#include "tools/run/tracking.h"
#include "tools/cli/signals.h"

#include <chrono>

#include "core/io/file.h"
#include "optim/analysis/attention_map.h"
#include "optim/analysis/lanczos.h"
#include "optim/analysis/sharpness.h"
#include "tools/run/analysis.h"
#include "tools/run/events.h"
#include "tools/run/stored_json.h"

namespace samformer::tools {

void track(Json& line, const Settings& settings, const Experiment& e, const model::Model& model,
           std::span<const float> weights) {
  if (settings.tensorboard) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    line["unix_time"] = std::chrono::duration<double>(now).count();
  }
  if (settings.track_sharpness == 0 || line["epoch"].get<std::int64_t>() % settings.track_sharpness != 0) return;
  // A course over epochs needs fewer windows and digits than the command `sharpness`.
  constexpr double tolerance = 1e-3;
  constexpr std::int64_t most_products = 60;
  const auto starts = training_windows(e, settings, "512");
  const optim::Problem problem = e.problem();
  optim::TrainingLoss loss(model, center_of(settings), problem, starts, 0, stop_when_interrupted);
  const std::vector<double> at = loss.compact(weights);
  const auto largest = optim::largest_eigenvalue(
      [&](std::span<const double> v, std::span<double> out) { loss.hessian_product(at, v, out); }, loss.size(),
      tolerance, most_products, static_cast<std::uint64_t>(settings.seed));
  line["lambda_max"] = largest.value;
  line["lambda_max_residual"] = largest.residual;
  if (!model.has_attention()) return;
  const auto attention =
      optim::attention_summary(model, center_of(settings), weights, problem, starts, 0, stop_when_interrupted);
  line["attention_entropy"] = attention.entropy;
  line["identity_distance"] = attention.identity_distance;
}

std::vector<Json> read_metrics(const std::filesystem::path& file) {
  std::vector<Json> rows;
  for (const StoredJson& row : read_json_lines(file, "remove the file: only reports use it")) {
    row.at("epoch").whole(1);
    if (const std::string phase = row.at("phase").text(); phase != "train" && phase != "refit") {
      throw row.at("phase").expected("train or refit");
    }
    if (const auto time = row.find("unix_time")) time->number();
    rows.push_back(row.json());
  }
  return rows;
}

void write_tensorboard(const std::filesystem::path& folder, const Settings& settings) {
  if (!settings.tensorboard) return;
  std::vector<Scalar> scalars;
  for (const Json& row : read_metrics(folder / "metrics.jsonl")) {
    for (const auto& [name, value] : row.items()) {
      if (name == "epoch" || name == "unix_time" || !value.is_number()) continue;
      scalars.push_back({row["phase"].get<std::string>() + "/" + name, row["epoch"], row.value("unix_time", 0.0),
                         value.get<float>()});
    }
  }
  write_events(folder / "events.out.tfevents.samformer", scalars);
}

}  // namespace samformer::tools
