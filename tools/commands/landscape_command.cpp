// `samformer landscape RUN`: slices of the training loss around a run's weights (optim/analysis/landscape.h), beside
// another run's with --against: the same windows, scale and pair of seeds.
#include <algorithm>
#include <cmath>

#include "optim/analysis/landscape.h"
#include "tools/cli/signals.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"

namespace samformer::tools {
namespace {

constexpr double reach = 1;  // in units of each row's norm
constexpr int line_points = 41, square_side = 21;

struct Slices {
  std::string name;
  optim::LossSlices values;
};

Slices slices_of(const Checkpoint& run, const Experiment& e, const ChosenDevice& device,
                 std::span<const std::int32_t> starts, const Invocation& invocation) {
  const optim::Problem problem = e.problem();
  const kernels::Center center = center_of(run.settings);
  const auto loaded = device.load(run.model, problem, center);
  int done = 0;
  const auto before_point = [&] {
    stop_when_interrupted();
    invocation.console.status(
        fmt::format("{}: point {} of {}", run.path.string(), ++done, line_points + square_side * square_side));
  };
  return {run.path.parent_path().filename().string(),
          optim::loss_slices(run.model, center, run.slab, problem, starts,
                             static_cast<std::uint64_t>(invocation.settings.seed), reach, line_points, square_side,
                             before_point, loaded.get())};
}

Json json_of(const Slices& s) {
  const double centre = s.values.line[line_points / 2];
  return {{"run", s.name},
          {"loss", centre},
          {"line", s.values.line},
          {"square", s.values.square},
          {"rise", *std::ranges::max_element(s.values.line) - centre}};
}

struct LandscapeSettings {
  std::string against;
};

void look(Analysed& a, const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  const std::string against = asked.of<LandscapeSettings>().against;
  const auto starts = training_windows(a.experiment, a.run.settings, asked.windows);
  std::vector<Slices> all{slices_of(a.run, a.experiment, a.device, starts, invocation)};
  if (!against.empty()) {
    const Checkpoint other = single_checkpoint(against);
    if (other.settings.lookback != a.run.settings.lookback || other.settings.horizon != a.run.settings.horizon ||
        other.columns != a.run.columns || other.targets != a.run.targets) {
      throw Error(Exit::usage, "the runs differ in look-back, horizon or channels: their losses cannot be compared")
          .at(other.path.string());
    }
    // The other run's own scale of the same rows.
    const Experiment second = experiment_for(other, invocation);
    if (second.series.sha256 != a.experiment.series.sha256) {
      throw Error(Exit::usage, "the runs were trained on different files").at(other.path.string());
    }
    all.push_back(slices_of(other, second, a.device, starts, invocation));
  }

  Json& d = a.document;
  const std::string windows = windows_text(starts.size(), a.experiment, a.run.settings);
  d["loss_is"] = "mean squared error over " + windows + ", each window with its own statistics";
  d["windows"] = starts.size();
  d["seed"] = asked.seed;
  d["loss"] = all[0].values.line[line_points / 2];
  d["at"] = all[0].values.at;
  d["square_at"] = all[0].values.square_at;
  d["slices"] = Json::array();
  for (const Slices& s : all) d["slices"].push_back(json_of(s));

  std::vector<Curve> curves;
  double low = INFINITY, high = 0;
  for (const Slices& s : all) {
    curves.push_back({s.name, s.values.at, s.values.line});
    for (const double v : s.values.square) {
      if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
    }
  }
  std::vector<std::string> charts{draw(LineChart{
      "Loss along one direction", "distance, in norms of each row", "loss", curves, false, {}, 0, "trained weights"})};
  for (const Slices& s : all) {
    std::vector<double> levels;
    for (int b = square_side; b-- > 0;) {  // the picture's rows go downwards
      for (int k = 0; k < square_side; ++k) {
        levels.push_back(std::log10(s.values.square[static_cast<std::size_t>(b * square_side + k)]));
      }
    }
    charts.push_back(draw(HeatMap{"log10 of the loss: " + s.name,
                                  "first direction",
                                  "second direction",
                                  square_side,
                                  square_side,
                                  levels,
                                  std::log10(low),
                                  std::log10(high),
                                  {},
                                  {},
                                  -reach,
                                  reach,
                                  -reach,
                                  reach}));
  }
  Report page("Loss landscape", fmt::format("{}, horizon {}; {}; filter-normalised Gaussian directions, seed {}",
                                            a.experiment.series.name, a.run.settings.horizon,
                                            d["loss_is"].get<std::string>(), asked.seed));
  page.charts(charts);
  std::vector<std::vector<std::string>> rows;
  for (const Json& s : d["slices"]) {
    rows.push_back({s["run"].get<std::string>(), short_number(s["loss"]), short_number(s["rise"])});
  }
  page.table({"run", "loss at the centre", "largest rise along the line"}, rows);
  add_settings(page, a.run.settings);
  page.write(a.folder);
}

std::string text(const Json& d) {
  Table table("lrr", {"run", "loss", "largest rise"});
  for (const Json& s : d["slices"]) {
    table.row({s["run"].get<std::string>(), fmt::format("{:.6g}", s["loss"].get<double>()),
               fmt::format("{:.6g}", s["rise"].get<double>())});
  }
  return fmt::format("{}, seed {}\n\n", d["loss_is"].get<std::string>(), d["seed"].dump()) + table.str();
}

}  // namespace

int landscape(const Invocation& invocation) {
  return analyse(
      invocation, "landscape", [&](Analysed& a) { look(a, invocation); }, text);
}

Command landscape_command() {
  return {.name = "landscape",
          .handler = landscape,
          .takes = {"data", "device", "threads", "out", "seed", "windows"},
          .options = {{.name = "against",
                       .member = at(&LandscapeSettings::against),
                       .value_name = "RUN2",
                       .help = "a second run, on the same scale, loss and pair of seeds",
                       .default_text = "none"}},
          .arguments = {"RUN"},
          .summary = "slices of the training loss around a run's weights, filter-normalised",
          .example = "samformer landscape runs/transformer --against runs/samformer",
          .texts = {{"seed", "of the directions"}, {"out", "folder of the results", "RUN/landscape"}}};
}

}  // namespace samformer::tools
