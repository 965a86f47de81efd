// `samformer sharpness RUN`: the curvature of the training loss at a run's weights (optim/analysis/lanczos.h,
// sharpness.h).
#include <cmath>

#include "optim/analysis/lanczos.h"
#include "optim/analysis/sharpness.h"
#include "tools/cli/signals.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

constexpr std::int64_t most_products = 300, trace_probes = 32, density_probes = 4, density_steps = 60;
constexpr std::size_t most_basis_bytes = std::size_t{1} << 30;
constexpr double radii[] = {0.05, 0.1, 0.2, 0.5, 0.7, 1.0};

void report(const Analysed& a, std::span<const optim::SpectralPoint> density) {
  const Json& d = a.document;
  Report page("Sharpness",
              fmt::format("{} on {}, horizon {}, seed {}: {}", a.run.settings.model, a.experiment.series.name,
                          a.run.settings.horizon, a.run.settings.seed, d["loss_is"].get<std::string>()));
  page.figures({{"λ max", short_number(d["lambda_max"])},
                {"λ min", short_number(d["lambda_min"])},
                {"trace", fmt::format("{} ± {}", short_number(d["trace"]), short_number(d["trace_standard_error"]))},
                {"loss", short_number(d["loss"])}});
  std::vector<std::string> charts;
  Curve rise{"rise", {0}, {0}};
  for (const Json& row : d["m_sharpness"]) {
    rise.x.push_back(row["rho"]);
    rise.y.push_back(row["rise"]);
  }
  charts.push_back(draw(LineChart{fmt::format("Rise of the loss at distance ρ (m = {})", d["m"].get<std::int64_t>()),
                                  "ρ",
                                  "loss(w + e) − loss(w)",
                                  {rise}}));
  if (!density.empty()) {
    Curve curve{"density", {}, {}};
    for (const auto& p : optim::smooth_density(density, 300)) {
      curve.x.push_back(p.eigenvalue);
      curve.y.push_back(p.weight);
    }
    charts.push_back(
        draw(LineChart{"Spectral density of the Hessian", "eigenvalue", "density, log scale", {curve}, true}));
  }
  page.charts(charts);
  std::vector<std::vector<std::string>> rows;
  for (const char* name : {"lambda_max", "residual", "lambda_min", "residual_min", "products", "converged", "trace",
                           "trace_standard_error", "gradient_norm", "loss", "windows", "seed", "seconds"}) {
    rows.push_back({name, d[name].dump()});
  }
  page.table({"measured", "value"}, rows);
  add_settings(page, a.run.settings);
  page.write(a.folder);
}

struct SharpnessSettings {
  double tolerance = 1e-6;
  bool density = false;
};

void look(Analysed& a, const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  const SharpnessSettings own = asked.of<SharpnessSettings>();
  const auto seed = static_cast<std::uint64_t>(asked.seed);
  const double begin = monotonic_seconds(), mix = invocation.resolved.given("stats-mix") ? asked.stats_mix : 0;
  const auto starts = training_windows(a.experiment, a.run.settings, asked.windows);
  const std::string windows = windows_text(starts.size(), a.experiment, a.run.settings);
  const optim::Problem problem = a.experiment.problem();
  optim::TrainingLoss loss(a.run.model, center_of(a.run.settings), problem, starts, mix, stop_when_interrupted);
  const std::vector<double> weights = loss.compact(a.run.slab);
  const std::int64_t n = loss.size();
  invocation.console.info(fmt::format("{}: {}, {} parameters", a.run.path.string(), windows, n));

  std::vector<double> gradient(weights.size());
  const double value = loss.gradient(weights, gradient);
  double squares = 0;
  for (const double g : gradient) squares += g * g;
  std::int64_t done = 0;
  const optim::Product product = [&](std::span<const double> v, std::span<double> out) {
    loss.hessian_product(weights, v, out);
    invocation.console.status(fmt::format("{} Hessian-vector products, {:.0f} s", ++done, monotonic_seconds() - begin));
  };
  const auto fits = static_cast<std::int64_t>(most_basis_bytes / (8 * weights.size()));
  const auto ends = optim::extreme_eigenvalues(product, n, own.tolerance, std::min({most_products, fits, n}), seed);
  const auto trace = optim::hutchinson_trace(product, n, trace_probes, seed);
  const std::vector<double> rise = loss.m_sharpness(weights, radii, a.run.settings.batch);

  Json& d = a.document;
  d["loss_is"] = fmt::format("mean squared error over {}, {}", windows,
                             mix > 0 ? fmt::format("statistics mixed by {} with those of the set as one batch", mix)
                                     : std::string("each window with its own statistics"));
  d["stats_mix"] = mix;
  d["windows"] = starts.size();
  d["parameters"] = n;
  d["loss"] = value;
  d["gradient_norm"] = std::sqrt(squares);
  d["lambda_max"] = ends.largest.value;
  d["residual"] = ends.largest.residual;
  d["lambda_min"] = ends.smallest.value;
  d["residual_min"] = ends.smallest.residual;
  d["tolerance"] = own.tolerance;
  d["converged"] = ends.converged;
  d["products"] = ends.products;
  d["trace"] = trace.trace;
  d["trace_standard_error"] = trace.standard_error;
  d["m"] = a.run.settings.batch;
  d["m_sharpness"] = Json::array();
  for (std::size_t i = 0; i < rise.size(); ++i) d["m_sharpness"].push_back({{"rho", radii[i]}, {"rise", rise[i]}});
  std::vector<optim::SpectralPoint> density;
  if (own.density) {
    density = optim::spectral_density(product, n, density_probes, std::min(density_steps, n), seed);
    d["density"] = Json::array();
    for (const auto& p : density) d["density"].push_back({{"eigenvalue", p.eigenvalue}, {"weight", p.weight}});
  }
  d["seed"] = asked.seed;
  d["seconds"] = monotonic_seconds() - begin;
  if (!ends.converged) {
    invocation.console.warning(
        fmt::format("after {} products the residuals are {:.3g} and {:.3g}: lambda_min is above "
                    "the true smallest eigenvalue by an unknown amount",
                    ends.products, ends.largest.residual, ends.smallest.residual));
  }
  report(a, density);
}

std::string text(const Json& d) {
  const auto number = [&](const char* name) { return fmt::format("{:.6g}", d[name].get<double>()); };
  Table table("lr", {"sharpness", "value"});
  table.row({"loss", number("loss")});
  table.row({"gradient norm", number("gradient_norm")});
  table.row({"lambda max", number("lambda_max")});
  table.row({"  residual", number("residual")});
  table.row({"lambda min", number("lambda_min")});
  table.row({"  residual", number("residual_min")});
  table.row({"trace", fmt::format("{} +- {}", number("trace"), number("trace_standard_error"))});
  for (const Json& row : d["m_sharpness"]) {
    table.row({fmt::format("rise at rho {}", row["rho"].dump()), fmt::format("{:.6g}", row["rise"].get<double>())});
  }
  return fmt::format("{}\n\n", d["loss_is"].get<std::string>()) + table.str();
}

}  // namespace

int sharpness(const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  Settings on_cpu = asked;
  on_cpu.device = "cpu";
  if (asked.device.starts_with("cuda")) {  // one that is not there is refused
    const ChosenDevice gpu = select_device(asked);
    invocation.console.info(fmt::format("{}: sharpness computes on the CPU, in double", gpu.name));
  }
  return analyse(
      {invocation.resolved, on_cpu, invocation.arguments, invocation.out, invocation.console, invocation.flags},
      "sharpness", [&](Analysed& a) { look(a, invocation); }, text);
}

Command sharpness_command() {
  return {
      .name = "sharpness",
      .handler = sharpness,
      .takes = {"data", "device", "threads", "out", "stats-mix", "seed", "windows"},
      .options = {{.name = "tolerance",
                   .member = at(&SharpnessSettings::tolerance),
                   .value_name = "X",
                   .help = "stop at a residual of X times the eigenvalue",
                   .range = positive},
                  {.name = "density",
                   .member = at(&SharpnessSettings::density),
                   .help = "the Hessian's spectral density too"}},
      .arguments = {"RUN"},
      .summary = "curvature of the training loss at a run's weights, in double on the CPU: eigenvalues, m-sharpness",
      .example = "samformer sharpness runs/etth1 --density",
      .texts = {{"seed", "of the probes"}, {"out", "folder of the results", "RUN/sharpness"}}};
}

}  // namespace samformer::tools
