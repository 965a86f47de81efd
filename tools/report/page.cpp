#include "tools/report/page.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "optim/analysis/attention_map.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/result.h"
#include "tools/run/tracking.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view page_css =
    R"(*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 16px 48px}h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 10px}
p{margin:6px 0;color:var(--soft)}a{color:var(--c0)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:18px 0}
.figures div{background:var(--panel);border-radius:10px;padding:12px 14px}.figures b{display:block;font-size:21px;font-weight:600;overflow-wrap:anywhere}.figures span{color:var(--soft);font-size:14px}
.charts{display:grid;margin:14px 0;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:16px}
.charts>*{background:var(--panel);border-radius:10px;padding:10px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--rule)}th:first-child,td:first-child{text-align:left}.wide td{white-space:nowrap}th{color:var(--soft);font-weight:500}
summary{cursor:pointer;color:var(--soft);margin:14px 0 6px}
)";

// Lines of metrics.jsonl that belong to the training proper.
std::vector<Json> epochs_of(const fs::path& metrics) {
  std::vector<Json> rows = read_metrics(metrics);
  std::erase_if(rows, [](const Json& row) { return row["phase"] != "train"; });
  return rows;
}

double number_of(const Json& row, const char* name) {
  return row.contains(name) && row[name].is_number() ? row[name].get<double>()
                                                     : std::numeric_limits<double>::quiet_NaN();
}

// A column of the epochs' rows; nothing where no row has it.
std::optional<Curve> course(const std::vector<Json>& epochs, const char* name, const std::string& title) {
  Curve curve{title, {}, {}};
  for (const Json& row : epochs) {
    if (!row.contains(name) || !row[name].is_number()) continue;
    curve.x.push_back(number_of(row, "epoch"));
    curve.y.push_back(number_of(row, name));
  }
  return curve.x.empty() ? std::nullopt : std::optional(curve);
}

// --tune: what was to choose from, and by what.
void add_choice(Report& page, const Json& tuned) {
  page.heading("Chosen by validation error");
  std::vector<std::vector<std::string>> rows;
  for (const Json& c : tuned["candidates"]) {
    const bool chosen = c["center"] == tuned["center"] && c["stats_mix"] == tuned["stats_mix"];
    rows.push_back({fmt::format("center {}, stats-mix {}{}", c["center"].get<std::string>(), c["stats_mix"].dump(),
                                chosen ? " (chosen)" : ""),
                    short_number(number_of(c, "val_mse"))});
  }
  page.table({"candidate", "validation MSE"}, rows);
}

void add_course(Report& page, const std::vector<Json>& epochs, const Json& document) {
  if (epochs.empty()) return;
  page.heading("Training");
  std::vector<Curve> losses;
  if (auto c = course(epochs, "train_loss", "training loss")) losses.push_back(*c);
  if (auto c = course(epochs, "val_mse", "validation MSE")) losses.push_back(*c);
  if (auto c = course(epochs, "val_mixed", "mixed")) losses.push_back(*c);
  const double best = number_of(document, "best_epoch");
  std::vector<std::string> charts{
      draw(LineChart{"Loss by epoch", "epoch", "MSE", losses, false, {}, best, fmt::format("tested: {:.0f}", best)})};
  if (auto c = course(epochs, "lr", "rate")) {
    charts.push_back(draw(LineChart{"Learning rate", "epoch", "", {*c}, true}));
  }
  if (auto c = course(epochs, "lambda_max", "λ max")) {
    charts.push_back(draw(LineChart{"Sharpness: λ max of the Hessian", "epoch", "", {*c}, true}));
  }
  if (auto c = course(epochs, "attention_entropy", "entropy")) {
    charts.push_back(draw(LineChart{"Attention entropy", "epoch", "nats", {*c}}));
  }
  page.charts(charts);
}

// Truth and forecast of one window in original units, behind the end of its look-back.
std::string forecast_chart(const Experiment& e, const std::vector<float>& forecast, std::size_t target,
                           std::int64_t start, std::int64_t L, std::int64_t H) {
  const auto d = static_cast<std::size_t>(e.targets[target]);
  const std::int64_t shown = std::min(L, 2 * H);
  Curve truth{"truth", {}, {}}, model{"forecast", {}, {}};
  std::vector<std::string> dates;
  const auto channel = e.series.channel(static_cast<std::int64_t>(d));
  for (std::int64_t t = L - shown; t < L + H; ++t) {
    truth.x.push_back(static_cast<double>(dates.size()));
    truth.y.push_back(channel[static_cast<std::size_t>(start + t)]);
    dates.push_back(e.series.date(start + t));
  }
  for (std::int64_t h = 0; h < H; ++h) {
    model.x.push_back(static_cast<double>(shown + h));
    model.y.push_back(e.scaler.restore(
        static_cast<double>(forecast[target * static_cast<std::size_t>(H) + static_cast<std::size_t>(h)]), d));
  }
  return draw(
      LineChart{e.series.channels[d], "", "", {truth, model}, false, dates, static_cast<double>(shown), "forecast"});
}

void add_forecasts(Report& page, const Json& document, const Settings& settings, const Experiment& e,
                   const model::Model& model, std::span<const float> slab, std::span<const std::int32_t> starts) {
  const std::int32_t last[] = {starts.back()};
  const optim::Problem problem = e.problem();
  const std::vector<float> forecast = optim::Evaluator(model, center_of(settings)).forecast(slab, problem, last);
  // The best, the middle and the worst channel.
  const Json& channels = document["per_channel"];
  std::vector<std::size_t> order(channels.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t t) { return number_of(channels[t], "mse"); });
  std::vector<std::size_t> chosen{order.front()};
  for (const std::size_t t : {order[order.size() / 2], order.back()}) {
    if (std::ranges::find(chosen, t) == chosen.end()) chosen.push_back(t);
  }
  page.heading("Forecast against truth");
  page.paragraph(
      fmt::format("The last window, original units; channels with the lowest, the middle and the highest "
                  "error of {}.",
                  order.size()));
  std::vector<std::string> charts;
  for (const std::size_t t : chosen) {
    charts.push_back(forecast_chart(e, forecast, t, last[0], settings.lookback, settings.horizon));
  }
  page.charts(charts);
}

void add_attention(Report& page, const Settings& settings, const Experiment& e, const model::Model& model,
                   std::span<const float> slab, std::span<const std::int32_t> starts) {
  page.heading("Attention");
  std::vector<std::int32_t> some;
  // Wide maps cost D^2 a window.
  const auto affordable = static_cast<std::size_t>(std::clamp<std::int64_t>(20'000'000 / (e.D() * e.D()), 1, 256));
  const std::size_t count = std::min(starts.size(), affordable);
  for (std::size_t i = 0; i < count; ++i) some.push_back(starts[i * starts.size() / count]);
  const auto attention = optim::attention_summary(model, center_of(settings), slab, e.problem(), some, 0);
  page.paragraph(
      fmt::format("Mean map of {} windows; a row is a channel, its cells say how much it looks at each other "
                  "one. Mean row entropy {:.3f} of at most {:.3f}.",
                  count, attention.entropy, std::log(static_cast<double>(e.D()))));
  page.charts({draw(HeatMap{"Attention", "looked at", "looks", e.D(), e.D(), attention.map, 0,
                            *std::ranges::max_element(attention.map), e.series.channels, e.series.channels})});
}

void add_errors(Report& page, const Json& document) {
  page.heading("Errors");
  const std::string part = document.value("part", "test");
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const std::string& name, const Json& from) {
    if (from.is_object()) {
      rows.push_back({name, short_number(number_of(from, "test_mse")), short_number(number_of(from, "test_mae"))});
    }
  };
  row(document["model"].get<std::string>(), document);
  row("naive (last value)", document["baselines"]["naive"]);
  row("seasonal naive", document["baselines"]["seasonal_naive"]);
  page.table({part + ", standardised", "MSE", "MAE"}, rows);
  Curve steps{"MSE", {}, {}}, absolute{"MAE", {}, {}};
  for (const Json& s : document["per_step"]) {
    for (auto [curve, name] : {std::pair(&steps, "mse"), std::pair(&absolute, "mae")}) {
      curve->x.push_back(number_of(s, "step"));
      curve->y.push_back(number_of(s, name));
    }
  }
  // The twenty largest of many channels.
  std::vector<Json> channels = document["per_channel"];
  const std::size_t all = channels.size();
  if (all > 20) {
    std::ranges::stable_sort(channels, std::greater(), [](const Json& c) { return number_of(c, "mse"); });
    channels.resize(20);
  }
  BarChart bars{all > 20 ? fmt::format("Error by channel: the 20 largest of {}", all) : std::string("Error by channel"),
                "MSE, standardised",
                {},
                {}};
  for (const Json& c : channels) {
    bars.names.push_back(c["name"]);
    bars.values.push_back(number_of(c, "mse"));
  }
  page.charts({draw(LineChart{"Error by horizon step", "step", "standardised", {steps, absolute}}), draw(bars)});
}

}  // namespace

Report::Report(std::string title, std::string line) : title_(std::move(title)) {
  body_ = fmt::format("<h1>{}</h1>\n<p>{}</p>\n", escape_xml(title_), escape_xml(line));
}
void Report::heading(const std::string& text) { body_ += fmt::format("<h2>{}</h2>\n", escape_xml(text)); }
void Report::paragraph(const std::string& text) { body_ += fmt::format("<p>{}</p>\n", escape_xml(text)); }
void Report::link(const std::string& text, const std::string& target) {
  body_ += fmt::format("<p><a href=\"{}\">{}</a></p>\n", escape_xml(target), escape_xml(text));
}
void Report::figures(const std::vector<std::pair<std::string, std::string>>& values) {
  body_ += "<div class=\"figures\">\n";
  for (const auto& [name, value] : values) {
    body_ += fmt::format("<div><b>{}</b><span>{}</span></div>\n", escape_xml(value), escape_xml(name));
  }
  body_ += "</div>\n";
}
void Report::charts(const std::vector<std::string>& svg) {
  body_ += "<div class=\"charts\">\n";
  for (const std::string& chart : svg) body_ += "<div>" + chart + "</div>\n";
  body_ += "</div>\n";
}
void Report::table(const std::vector<std::string>& names, const std::vector<std::vector<std::string>>& rows,
                   const std::string& folded) {
  if (!folded.empty()) body_ += fmt::format("<details><summary>{}</summary>\n", escape_xml(folded));
  // Many columns scroll anyway: their cells need not wrap.
  body_ +=
      names.size() > 8 ? "<div class=\"scroll\"><table class=\"wide\">\n<tr>" : "<div class=\"scroll\"><table>\n<tr>";
  for (const std::string& name : names) body_ += fmt::format("<th>{}</th>", escape_xml(name));
  body_ += "</tr>\n";
  for (const auto& row : rows) {
    body_ += "<tr>";
    for (const std::string& cell : row) body_ += fmt::format("<td>{}</td>", escape_xml(cell));
    body_ += "</tr>\n";
  }
  body_ += "</table></div>\n";
  if (!folded.empty()) body_ += "</details>\n";
}

std::string Report::html() const {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>{}{}</style>\n</head>\n"
      "<body><main>\n{}<p>samformer {}</p>\n</main></body>\n</html>\n",
      escape_xml(title_), chart_css, page_css, body_, SAMFORMER_VERSION);
}

void Report::write(const fs::path& folder) const { write_atomic(folder / "report.html", html()); }

void add_settings(Report& page, const Settings& settings) {
  Resolved resolved;
  resolved.settings = settings;
  std::vector<std::vector<std::string>> rows;
  const Json all = to_json(resolved);
  for (const auto& [name, entry] : all.items()) {
    const auto& value = entry["value"];
    rows.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  page.table({"setting", "value"}, rows, "Settings");
}

void write_run_report(const fs::path& folder, const Json& document, const fs::path& metrics, const Settings& settings,
                      const Experiment& e, const model::Model& model, std::span<const float> slab,
                      std::span<const std::int32_t> starts) {
  const auto text = [&](const char* name) {
    return document[name].is_string() ? document[name].get<std::string>() : document[name].dump();
  };
  Report page(
      fmt::format("{} on {}", text("model"), text("dataset")),
      fmt::format("{} steps from {}, {} channels, {} rows, step {}; {} parameters, seed {}", text("horizon"),
                  text("lookback"), text("channels"), text("rows"), text("step"), text("parameters"), text("seed")));
  const double skill = number_of(document, "skill");
  page.figures({{document.value("part", "test") + " MSE", short_number(number_of(document, "test_mse"))},
                {document.value("part", "test") + " MAE", short_number(number_of(document, "test_mae"))},
                {skill >= 0 ? "lower error than the best baseline" : "higher error than the best baseline",
                 fmt::format("{:.1f} %", 100 * std::fabs(skill))},
                {"tested epoch", text("best_epoch")},
                {"seconds of training", short_number(number_of(document, "seconds_training"))}});
  add_forecasts(page, document, settings, e, model, slab, starts);
  add_errors(page, document);
  if (const Json tuned = document.value("tune", Json()); tuned.is_object()) add_choice(page, tuned);
  add_course(page, epochs_of(metrics), document);
  if (model.has_attention()) add_attention(page, settings, e, model, slab, starts);
  page.heading("How it was made");
  std::vector<std::vector<std::string>> rows;
  for (const char* name :
       {"data_path", "data_sha256", "device", "threads", "precision", "train_windows", "val_windows", "test_windows",
        "epochs_run", "stopped_by", "seconds_per_epoch", "seconds_evaluating", "peak_memory_bytes", "weights_sha256"}) {
    if (document.contains(name)) rows.push_back({name, text(name)});
  }
  page.table({"measured", "value"}, rows, "Data, machine, times");
  add_settings(page, settings);
  page.write(folder);
}

void write_eval_report(const Invocation& invocation, const Json& document, const Checkpoint& run,
                       const Settings& settings, const Experiment& e, std::span<const std::int32_t> starts) {
  try {
    write_run_report(output_folder(invocation, run, "eval"), document, run.path.parent_path() / "metrics.jsonl",
                     settings, e, run.model, run.slab, starts);
  } catch (const Error& error) {
    if (error.code != Exit::io || !invocation.settings.out.empty()) throw;
    invocation.console.info(fmt::format("no report.html: {}: {}", error.file, error.what()));
  }
}

void write_seeds_report(const fs::path& folder, const Json& document) {
  const Json& runs = document["runs"];
  const std::string dataset = runs[0]["dataset"];
  Report page(fmt::format("{} on {}, {} seeds", runs[0]["model"].get<std::string>(), dataset, runs.size()),
              fmt::format("horizon {}, look-back {}", runs[0]["horizon"].dump(), runs[0]["lookback"].dump()));
  const auto spread = [&](const char* name) {
    return fmt::format("{} ± {}", short_number(number_of(document["mean"], name)),
                       short_number(number_of(document["std"], name)));
  };
  page.figures(
      {{"test MSE", spread("test_mse")}, {"test MAE", spread("test_mae")}, {"validation MSE", spread("val_mse")}});
  std::vector<std::vector<std::string>> rows;
  for (const Json& run : runs) {
    rows.push_back({run["seed"].dump(), short_number(number_of(run, "test_mse")),
                    short_number(number_of(run, "test_mae")), short_number(number_of(run, "val_mse")),
                    run["best_epoch"].dump()});
  }
  page.table({"seed", "test MSE", "test MAE", "validation MSE", "tested epoch"}, rows);
  for (const Json& run : runs) {
    page.link(fmt::format("Report of seed {}", run["seed"].dump()),
              fmt::format("seed-{}/report.html", run["seed"].dump()));
  }
  page.write(folder);
}

}  // namespace samformer::tools
