// `samformer attention RUN`: which channel, or step, looks at which (optim/analysis/attention_map.h); "channels" of the
// document are the map's rows, with iTransformer the dates' marks too; "steps" where it is between those.
#include <algorithm>
#include <cmath>

#include "optim/analysis/attention_map.h"
#include "tools/cli/signals.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

constexpr std::int64_t most_norms = 64;  // singular values of wide maps cost too much for every one
constexpr std::int64_t wide = 64;
constexpr std::size_t listed_pairs = 12;

// The windows of the test split, or the one whose look-back ends at --origin.
std::vector<std::int32_t> chosen_windows(const Analysed& a, const std::string& origin) {
  const std::int64_t L = a.run.settings.lookback, H = a.run.settings.horizon;
  if (origin.empty()) {
    const auto rows = model::with_lookback(a.experiment.splits.test, L);
    if (rows.first < 0 || model::window_count(a.experiment.series, rows, L, H) == 0) {
      throw Error(Exit::data, "the test part has no window").at(a.experiment.series.path).hint("choose an --origin");
    }
    return model::window_starts(a.experiment.series, rows, L, H);
  }
  const std::int64_t start = model::find_row(a.experiment.series, origin) + 1 - L;
  if (start < 0) {
    throw Error(Exit::data, fmt::format("{} rows up to the origin, at least {} (the look-back) needed", start + L, L))
        .at(a.experiment.series.path)
        .hint("choose a later --origin");
  }
  return {static_cast<std::int32_t>(start)};
}

// The strongest looks at another token, [{from, to, weight}].
Json top_pairs(const std::vector<double>& map, const std::vector<std::string>& names) {
  const std::size_t D = names.size();
  std::vector<std::size_t> cells;
  for (std::size_t c = 0; c < D * D; ++c) {
    if (c / D != c % D) cells.push_back(c);
  }
  const std::size_t count = std::min(cells.size(), listed_pairs);
  std::ranges::partial_sort(cells, cells.begin() + static_cast<std::ptrdiff_t>(count), std::greater(),
                            [&](std::size_t c) { return map[c]; });
  Json pairs = Json::array();
  for (std::size_t i = 0; i < count; ++i) {
    pairs.push_back({{"from", names[cells[i] / D]}, {"to", names[cells[i] % D]}, {"weight", map[cells[i]]}});
  }
  return pairs;
}

void look(Analysed& a, const Settings& asked) {
  const auto starts = chosen_windows(a, asked.origin);
  const optim::Problem problem = a.experiment.problem();
  const kernels::Center center = center_of(a.run.settings);
  const auto loaded = a.device.load(a.run.model, problem, center);
  const auto s = optim::attention_summary(
      a.run.model, center, a.run.slab, problem, starts,
      a.run.model.has_attention() && a.experiment.D() <= wide ? std::ssize(starts) : most_norms, stop_when_interrupted,
      loaded.get());
  const std::int64_t D = s.tokens;
  const std::vector<std::string> names = a.experiment.token_names(a.run.model, D);
  const std::string kind = a.run.model.has_attention() ? "channel" : "step";
  const double uniform = std::log(static_cast<double>(D));
  Json& d = a.document;
  d["of"] = asked.origin.empty() ? "the mean over the test split" : "the window that ends at " + asked.origin;
  d["windows"] = starts.size();
  d[kind + "s"] = names;
  d["entropy"] = s.entropy;
  d["entropy_share"] = number_or_null(s.entropy / uniform);  // of ln D; null for one token
  d["nuclear_norm"] = s.nuclear_norm;
  d["nuclear_norm_windows"] = s.norm_maps;
  d["identity_distance"] = s.identity_distance;
  d["top_pairs"] = top_pairs(s.map, names);
  if (D <= wide) {
    d["map"] = Json::array();
    for (std::int64_t i = 0; i < D; ++i)
      d["map"].push_back(std::vector(s.map.begin() + i * D, s.map.begin() + (i + 1) * D));
  }

  std::string csv = kind;
  for (const std::string& name : names) csv += "," + csv_field(name);
  for (std::int64_t i = 0; i < D; ++i) {
    csv += '\n' + csv_field(names[static_cast<std::size_t>(i)]);
    for (std::int64_t j = 0; j < D; ++j) csv += ',' + shortest(s.map[static_cast<std::size_t>(i * D + j)]);
  }
  write_atomic(a.folder / "attention.csv", csv + '\n');

  Report page("Attention", fmt::format("{} on {}, horizon {}, seed {}: {}, {} windows", a.run.settings.model,
                                       a.experiment.series.name, a.run.settings.horizon, a.run.settings.seed,
                                       d["of"].get<std::string>(), starts.size()));
  page.figures({{fmt::format("mean row entropy, at most {:.3f}", uniform), fmt::format("{:.3f}", s.entropy)},
                {fmt::format("nuclear norm, mean of {} maps", s.norm_maps), short_number(s.nuclear_norm)},
                {"‖A − I‖ / √D", short_number(s.identity_distance)}});
  page.charts({draw(
      HeatMap{"Attention", "looked at", "looks", D, D, s.map, 0, *std::ranges::max_element(s.map), names, names})});
  std::vector<std::vector<std::string>> rows;
  for (const Json& pair : d["top_pairs"]) {
    rows.push_back(
        {pair["from"].get<std::string>() + " → " + pair["to"].get<std::string>(), short_number(pair["weight"])});
  }
  page.heading("Strongest looks at another " + kind);
  page.table({"pair", "weight"}, rows);
  add_settings(page, a.run.settings);
  page.write(a.folder);
}

std::string text(const Json& d) {
  const auto number = [&](const char* name) {
    return d[name].is_number() ? fmt::format("{:.4f}", d[name].get<double>()) : std::string("-");
  };
  Table table("lr", {"attention", "value"});
  table.row({"mean row entropy", number("entropy")});
  table.row({"  share of ln D", number("entropy_share")});
  table.row({fmt::format("nuclear norm ({} maps)", d["nuclear_norm_windows"].dump()), number("nuclear_norm")});
  table.row({"|A - I| / sqrt(D)", number("identity_distance")});
  for (const Json& pair : d["top_pairs"]) {
    table.row({fmt::format("{} looks at {}", pair["from"].get<std::string>(), pair["to"].get<std::string>()),
               fmt::format("{:.4f}", pair["weight"].get<double>())});
  }
  return fmt::format("{}, {} windows; attention.csv has the map\n\n", d["of"].get<std::string>(), d["windows"].dump()) +
         table.str();
}

}  // namespace

int attention(const Invocation& invocation) {
  return analyse(
      invocation, "attention", [&](Analysed& a) { look(a, invocation.settings); }, text);
}

Command attention_command() {
  return {.name = "attention",
          .handler = attention,
          .takes = {"data", "device", "threads", "out", "origin"},
          .arguments = {"RUN"},
          .summary = "which channel or step looks at which: the mean map of the test split, or of one window",
          .example = "samformer attention runs/etth1 --origin \"2018-02-20 23:00:00\"",
          .texts = {{"origin", "the map of the one window that ends here", "the mean of the test split"},
                    {"out", "folder of the results", "RUN/attention"}}};
}

}  // namespace samformer::tools
