#include "tools/report/page.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "model/data/marks.h"
#include "optim/analysis/attention_map.h"
#include "optim/conformal.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/ensemble.h"
#include "tools/run/intervals.h"
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
.charts>*{background:var(--panel);border-radius:10px;padding:10px}.charts>:only-child{max-width:640px}
@media (min-width:900px){.three{grid-template-columns:repeat(3,1fr)}}
select{font:inherit;color:var(--ink);background:var(--panel);border:1px solid var(--rule);border-radius:8px;padding:4px 8px;max-width:100%}
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

// The forecasts of one window, standardised, [targets][H].
struct Forecasts {
  std::vector<double> model;
  std::vector<float> fit;  // of the linear least squares; empty without
};

// `count` of the values, evenly spaced, as a curve that begins at `x`.
Curve thinned(std::string name, const std::vector<double>& values, double x, std::size_t step, bool dashed = false) {
  Curve curve{std::move(name), {}, {}, dashed};
  const std::size_t last = values.size() - 1, count = std::max<std::size_t>(1, last / step);
  for (std::size_t i = 0; i <= count; ++i) {
    const double at = static_cast<double>(i * last) / static_cast<double>(count);
    curve.x.push_back(x + at);
    curve.y.push_back(values[static_cast<std::size_t>(std::lround(at))]);
  }
  return curve;
}

bool has_dates_ahead(const model::Series& series) { return !series.dates.empty() && series.step.known(); }
// Of the steps after the last row; of no meaning where it has none.
std::vector<model::Stamp> dates_ahead(const model::Series& series, std::int64_t steps) {
  if (!has_dates_ahead(series)) return std::vector<model::Stamp>(static_cast<std::size_t>(steps));
  return model::continue_dates(series.dates.back(), series.step, steps, series.zone.get());
}

// The forecast of the steps after the last row, and that of the last window, of every channel that varies.
class Pictures {
 public:
  Pictures(const Experiment& e, const Settings& settings, std::int32_t window) : e_(e), s_(settings), window_(window) {
    // As many rows of the look-back as steps, but two days of hours.
    tail_ = std::min(s_.lookback, std::max<std::int64_t>(s_.horizon, 48));
    for (const model::Stamp& date : dates_ahead(e.series, s_.horizon)) {
      ahead_dates_.push_back(has_dates_ahead(e.series) ? model::format_stamp(date, e.series.date_format)
                                                       : fmt::format("step {}", ahead_dates_.size() + 1));
    }
  }

  // [targets][H]; empty: the last look-back has a hole, so that predict refuses.
  std::vector<double> ahead;
  model::Scaler ahead_scaler;
  std::vector<double> levels, widths;  // of intervals, as calibrate() gives them; empty without
  Forecasts last;

  std::int64_t points() const { return 3 * tail_ + 6 * s_.horizon; }

  std::vector<LineChart> charts(std::size_t target, std::size_t step) const {
    const auto d = static_cast<std::size_t>(e_.targets[target]);
    const auto channel = e_.series.channel(static_cast<std::int64_t>(d));
    const std::int64_t H = s_.horizon, rows = e_.series.rows, end = window_ + s_.lookback;
    const auto rows_of = [&](std::int64_t first, std::int64_t last) {
      return std::vector<double>(channel.begin() + first, channel.begin() + last);
    };
    // A forecast's curve begins at the last known value.
    const auto forecast = [&](const auto& from, const model::Scaler& scaler, double known) {
      std::vector<double> values{known};
      for (std::int64_t h = 0; h < H; ++h) {
        values.push_back(scaler.restore(
            static_cast<double>(from[target * static_cast<std::size_t>(H) + static_cast<std::size_t>(h)]), d));
      }
      return values;
    };
    const double known = channel[static_cast<std::size_t>(rows - 1)], at = static_cast<double>(tail_ - 1);
    std::vector<LineChart> drawn;
    if (!ahead.empty()) {
      LineChart next{"", "", "", {}, false, dates(rows), at, "forecast from " + ahead_dates_.front()};
      next.curves = {thinned("known", rows_of(rows - tail_, rows), 0, step),
                     thinned("forecast", forecast(ahead, ahead_scaler, known), at, step)};
      for (std::size_t k = 0; k < levels.size(); ++k) {
        for (const double sign : {-1.0, 1.0}) {
          std::vector<double> edge = forecast(ahead, ahead_scaler, known);
          const std::size_t first = (k * e_.targets.size() + target) * static_cast<std::size_t>(H);
          for (std::size_t h = 0; h < static_cast<std::size_t>(H); ++h) edge[h + 1] += sign * widths[first + h];
          next.curves.push_back(thinned(level_name(levels[k]) + " %", edge, at, step));
          next.curves.back().edge = true;
        }
      }
      next.x_names.insert(next.x_names.end(), ahead_dates_.begin(), ahead_dates_.end());
      drawn.push_back(std::move(next));
    }

    const double before = channel[static_cast<std::size_t>(end - 1)];
    LineChart tested{"", "", "", {}, false, dates(end), at, "forecast from " + e_.series.date(end)};
    for (std::int64_t h = 0; h < H; ++h) tested.x_names.push_back(e_.series.date(end + h));
    tested.curves = {thinned("truth", rows_of(end - tail_, end + H), 0, step),
                     thinned("forecast", forecast(last.model, e_.scaler, before), at, step)};
    tested.curves.push_back(
        thinned("naive", std::vector<double>(static_cast<std::size_t>(H + 1), before), at, step, true));
    if (has_season(e_, s_.lookback)) {
      std::vector<double> season{before};
      for (std::int64_t h = 0; h < H; ++h) {
        season.push_back(channel[static_cast<std::size_t>(end + h % e_.season - e_.season)]);
      }
      tested.curves.push_back(thinned("seasonal naive", season, at, step, true));
    }
    if (!last.fit.empty()) {
      tested.curves.push_back(thinned("least squares", forecast(last.fit, e_.scaler, before), at, step));
    }
    drawn.push_back(std::move(tested));
    return drawn;
  }

 private:
  // Of the look-back's last rows.
  std::vector<std::string> dates(std::int64_t end) const {
    std::vector<std::string> names;
    for (std::int64_t t = end - tail_; t < end; ++t) names.push_back(e_.series.date(t));
    return names;
  }
  const Experiment& e_;
  const Settings& s_;
  std::int64_t window_, tail_;
  std::vector<std::string> ahead_dates_;
};

std::string percent(double share) { return std::isfinite(share) ? fmt::format("{:.2f}\u00a0%", 100 * share) : "–"; }

std::string caption(const Json& c) {
  return fmt::format("In original units: MAE {}, RMSE {}, WAPE {}, bias {}; MASE {}, RMSSE {}; standardised MSE {}",
                     short_number(number_of(c, "mae_original")), short_number(number_of(c, "rmse_original")),
                     percent(number_of(c, "wape")), short_number(number_of(c, "bias")),
                     short_number(number_of(c, "mase")), short_number(number_of(c, "rmsse")),
                     short_number(number_of(c, "mse")));
}

// Of the means over all channels: it hardly varies in the training rows.
bool is_left_out(const Json& document, const Json& channel) {
  const Json names = document.value("left_out", Json::array());
  return std::ranges::find(names, channel["name"]) != names.end();
}

// `final`: of refitted weights, whose forecast `predict` gives; empty without.
void add_forecasts(Report& page, const Json& document, const Settings& settings, const Experiment& e,
                   std::span<const Checkpoint> models, std::span<const std::int32_t> starts, const fs::path& final) {
  constexpr std::int64_t budget = 1'300'000;  // bytes of all curves
  const std::int32_t last[] = {starts.back()};
  Pictures pictures(e, settings, last[0]);
  const optim::Problem problem = e.problem();
  const ChosenDevice cpu{"cpu", nullptr};
  pictures.last.model = Ensemble(models, problem, cpu).forecast(last);
  if (const std::vector<float> fit = fit_least_squares(e, settings); !fit.empty()) {
    pictures.last.fit = optim::Evaluator(linear_model(settings, e), kernels::Center::mean).forecast(fit, problem, last);
  }
  pictures.ahead_scaler = e.scaler;
  // Where predict refuses too, because of a hole or of what should be known ahead.
  std::string not_ahead = "rows are absent among the last ones";
  if (model::last_complete_row(e.series, settings.lookback, e.series.rows) == e.series.rows - 1) try {
      const std::vector<Checkpoint> refitted = final.empty() ? std::vector<Checkpoint>{} : read_checkpoints(final);
      if (!final.empty()) pictures.ahead_scaler = refitted[0].scaler;
      const model::MarkedValues read = values_ahead(e.series, pictures.ahead_scaler, e.basis, e.series.rows - 1,
                                                    settings.lookback, dates_ahead(e.series, settings.horizon));
      const optim::Problem last_rows = read.problem(e.targets);
      const std::int32_t start[] = {0};
      pictures.ahead = Ensemble(final.empty() ? models : refitted, last_rows, cpu).forecast(start);
    } catch (const Error& why) {
      if (why.code != Exit::data) throw;
      not_ahead = why.what();
    }
  const bool ahead = !pictures.ahead.empty();

  if (const std::vector<double> levels = levels_of(settings); ahead && !levels.empty()) {
    const auto windows = calibration_windows(models[0], e.series, e.series.rows - 1, settings.calibration);
    if (std::ssize(windows) >= optim::windows_for(levels.back())) {
      pictures.widths = calibrate(models, e.series, e.series.rows - 1, levels, settings.calibration, cpu);
      pictures.levels = levels;
    }
  }

  // The worst first.
  const Json& channels = document["per_channel"];
  std::vector<std::size_t> order;
  for (std::size_t t = 0; t < channels.size(); ++t) {
    const auto values = e.series.channel(e.targets[t]);
    if (std::ranges::any_of(values, [&](double v) { return v != values[0]; })) order.push_back(t);
  }
  const std::size_t constant = channels.size() - order.size();
  if (order.empty()) return;
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t t) {
    return std::pair(!is_left_out(document, channels[t]), number_of(channels[t], "mse"));
  });
  const auto listed = static_cast<std::int64_t>(order.size());
  const std::int64_t step = std::max((2 * listed * pictures.points() + budget - 1) / budget,
                                     std::max(settings.horizon, std::int64_t{1}) / 360 + 1);
  page.heading("Forecast");
  std::string percents;
  for (const double level : pictures.levels) percents += (percents.empty() ? "" : ", ") + level_name(level);
  page.paragraph(fmt::format(
      "In original units: {}{}the last window of the {} part, beside the baselines. The channel with the largest error "
      "is the first{}{}.",
      ahead ? fmt::format("the {} steps after the last row, by {}, and ", settings.horizon,
                          final.empty() ? "the tested weights" : "the weights refitted on all rows")
            : not_ahead + ", so that no forecast is drawn; ",
      pictures.levels.empty() ? "" : fmt::format("between thin lines its intervals ({} %); ", percents),
      document.value("part", "test"), constant > 0 ? fmt::format("; {} constant ones are left out", constant) : "",
      step > 1 ? fmt::format("; one step of {} is drawn", step) : ""));
  Gallery gallery{fmt::format("Channel ({})", listed), {}, {}, {": the last window"}, [&](std::size_t i) {
                    return pictures.charts(order[i], static_cast<std::size_t>(step));
                  }};
  if (ahead) gallery.suffixes.insert(gallery.suffixes.begin(), fmt::format(": the next {} steps", settings.horizon));
  for (const std::size_t t : order) {
    gallery.names.push_back(channels[t]["name"]);
    gallery.captions.push_back(caption(channels[t]));
  }
  page.gallery(draw(gallery));
}

// The last tested window of a handful of a panel's series: those with the largest errors, some between, the smallest.
void add_panel_forecasts(Report& page, const Json& document, const Settings& settings, const Experiment& e,
                         std::span<const Checkpoint> models, std::span<const std::int32_t> starts) {
  constexpr std::size_t worst = 6, between = 3, best = 3;
  const std::vector<Json> all = document["per_series"];
  std::map<std::string_view, std::int32_t> last;
  for (const std::int32_t start : starts) last[e.panel->id_at(start)] = start;
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t i) { return number_of(all[i], "mse"); });
  if (order.size() > worst + between + best) {
    std::vector<std::size_t> some(order.begin(), order.begin() + worst);
    for (std::size_t i = 1; i <= between; ++i) some.push_back(order[i * order.size() / (between + 1)]);
    some.insert(some.end(), order.end() - best, order.end());
    order = std::move(some);
  }
  std::vector<std::int32_t> shown;
  for (const std::size_t i : order) shown.push_back(last.at(all[i]["name"].get<std::string>()));
  const optim::Problem problem = e.problem();
  const ChosenDevice cpu{"cpu", nullptr};
  const std::vector<double> forecasts = Ensemble(models, problem, cpu).forecast(shown);
  const std::int64_t L = settings.lookback, H = settings.horizon, tail = std::min(L, std::max<std::int64_t>(H, 48));
  const auto step = static_cast<std::size_t>(H / 360 + 1);
  page.heading("Forecast");
  page.paragraph(
      fmt::format("In original units: the last window of the {} part of {} of {} series, beside the naive "
                  "forecast. The first ones have the largest errors, the last ones the smallest.",
                  document.value("part", "test"), order.size(), all.size()));
  Gallery gallery{
      fmt::format("Series ({} of {})", order.size(), all.size()), {}, {}, {": the last window"}, [&](std::size_t i) {
        const std::int64_t end = shown[i] + L;
        const auto k = static_cast<std::size_t>(e.panel->piece_at(shown[i]).member);
        const auto value = e.series.values.begin() + end;
        std::vector<double> forecast{value[-1]}, naive(static_cast<std::size_t>(H + 1), value[-1]);
        for (std::int64_t h = 0; h < H; ++h) {
          forecast.push_back(
              e.panel->scaler.restore(forecasts[i * static_cast<std::size_t>(H) + static_cast<std::size_t>(h)], k));
        }
        const auto at = static_cast<double>(tail - 1);
        LineChart chart{"", "", "", {}, false, {}, at, "forecast from " + e.series.date(end)};
        for (std::int64_t t = end - tail; t < end + H; ++t) chart.x_names.push_back(e.series.date(t));
        chart.curves = {thinned("truth", std::vector<double>(value - tail, value + H), 0, step),
                        thinned("forecast", forecast, at, step), thinned("naive", naive, at, step, true)};
        return std::vector{std::move(chart)};
      }};
  for (const std::size_t i : order) {
    gallery.names.push_back(all[i]["name"]);
    gallery.captions.push_back(caption(all[i]));
  }
  page.gallery(draw(gallery));
}

void add_members(Report& page, const Json& members) {
  page.heading("Members");
  page.paragraph("The forecast is the plain mean of the members whose validation error is near the best one's.");
  std::vector<std::vector<std::string>> rows;
  for (const Json& m : members) {
    rows.push_back({m["member"], short_number(number_of(m, "val_mse")), m["chosen"].get<bool>() ? "yes" : "no"});
  }
  page.table({"member", "validation MSE", "in the mean"}, rows);
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
                  count, attention.entropy, std::log(static_cast<double>(attention.tokens))));
  const std::vector<std::string> names = e.token_names(model, attention.tokens);
  page.charts({draw(HeatMap{"Attention", "looked at", "looks", attention.tokens, attention.tokens, attention.map, 0,
                            *std::ranges::max_element(attention.map), names, names})});
}

}  // namespace

void add_errors(Report& page, const Json& document) {
  page.heading("Errors");
  const std::string part = document.value("part", "test");
  std::vector<std::vector<std::string>> rows;
  const Json& baselines = document["baselines"];
  const auto row = [&](const std::string& name, const Json& from) {
    if (!from.is_object()) return;
    rows.push_back({name, short_number(number_of(from, "test_mse")), short_number(number_of(from, "test_mae")),
                    percent(number_of(from, "wape")), short_number(number_of(from, "mase")),
                    short_number(number_of(from, "rmsse")), short_number(number_of(from, "bias"))});
  };
  row(document["model"].get<std::string>(), document);
  row("naive (last value)", baselines["naive"]);
  row("seasonal naive", baselines["seasonal_naive"]);
  row("linear least squares", baselines["least_squares"]);
  row("ridge regression", baselines.value("ridge", Json()));
  page.table({part + " part", "MSE", "MAE", "WAPE", "MASE", "RMSSE", "bias"}, rows);
  const bool panel = document.contains("per_series");
  const char* const what = panel ? "series" : "channel";
  const Json& every = document[panel ? "per_series" : "per_channel"];
  const std::size_t counted = document["scaled_channels"], all_channels = document["per_channel"].size();
  page.paragraph(fmt::format(
      "MSE and MAE standardised, the others in original units{}{}.",
      document.contains("left_out") ? fmt::format("; means over {} channels, without {} that hardly vary in the "
                                                  "training rows",
                                                  document["pooled_channels"].dump(), document["left_out"].size())
                                    : "",
      counted < all_channels ? fmt::format("; MASE and RMSSE of {} of {} channels", counted, all_channels) : ""));
  std::vector<Curve> steps;
  for (const auto& [name, field] : {std::pair("model", "mse"),
                                    {"naive", "naive_mse"},
                                    {"seasonal naive", "seasonal_naive_mse"},
                                    {"least squares", "least_squares_mse"}}) {
    if (!document["per_step"][0].contains(field)) continue;
    Curve curve{name, {}, {}, field != std::string_view("mse")};
    for (const Json& s : document["per_step"]) {
      curve.x.push_back(number_of(s, "step"));
      curve.y.push_back(number_of(s, field));
    }
    steps.push_back(std::move(curve));
  }
  // The ten largest of many channels.
  std::vector<Json> channels = every;
  std::erase_if(channels, [&](const Json& c) { return is_left_out(document, c); });
  const std::size_t all = channels.size();
  if (channels.size() > 10) {
    std::ranges::stable_sort(channels, std::greater(), [](const Json& c) { return number_of(c, "mse"); });
    channels.resize(10);
  }
  BarChart bars{
      all > 10 ? fmt::format("Error by {}: the 10 largest of {}", what, all) : fmt::format("Error by {}", what),
      "MSE, standardised",
      {},
      {}};
  for (const Json& c : channels) {
    bars.names.push_back(c["name"]);
    bars.values.push_back(number_of(c, "mse"));
  }
  // A baseline far off would flatten the others.
  double least = infinity, most = 0;
  for (const Curve& curve : steps) {
    least = std::min(least, *std::ranges::min_element(curve.y));
    most = std::max(most, *std::ranges::max_element(curve.y));
  }
  page.charts({draw(LineChart{"MSE by horizon step", "step", "standardised", steps, least > 0 && most > 10 * least}),
               draw(bars)});
}

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
  body_ += svg.size() % 3 == 0 ? "<div class=\"charts three\">\n" : "<div class=\"charts\">\n";
  for (const std::string& chart : svg) body_ += "<div>" + chart + "</div>\n";
  body_ += "</div>\n";
}
void Report::gallery(const std::string& html) { body_ += html; }
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
                      const Experiment& e, std::span<const Checkpoint> models, std::span<const std::int32_t> starts) {
  const auto text = [&](const char* name) {
    return document[name].is_string() ? document[name].get<std::string>() : document[name].dump();
  };
  Report page(fmt::format("{} on {}", text("model"), text("dataset")),
              fmt::format("{} steps from {}, {} {}, {} rows, step {}; {} parameters, seed {}", text("horizon"),
                          text("lookback"), text(e.panel ? "series" : "channels"), e.panel ? "series" : "channels",
                          text("rows"), text("step"), text("parameters"), text("seed")));
  const double skill = number_of(document, "skill");
  std::vector<std::pair<std::string, std::string>> figures = {
      {document.value("part", "test") + " MSE", short_number(number_of(document, "test_mse"))},
      {document.value("part", "test") + " MAE", short_number(number_of(document, "test_mae"))},
      {skill >= 0 ? "lower error than the best baseline" : "higher error than the best baseline",
       fmt::format("{:.1f} %", 100 * std::fabs(skill))},
      {"WAPE", percent(number_of(document, "wape"))},
      {"MASE", short_number(number_of(document, "mase"))}};
  if (!document.contains("members")) figures.emplace_back("tested epoch", text("best_epoch"));
  page.figures(figures);
  // Into the run's own folder only by `train`, which has just written all of it.
  const fs::path refitted = metrics.parent_path() / "final.safetensors";
  const bool use = folder == metrics.parent_path() && fs::exists(refitted);
  if (e.panel) {
    add_panel_forecasts(page, document, settings, e, models, starts);
  } else {
    add_forecasts(page, document, settings, e, models, starts, use ? refitted : fs::path());
  }
  add_errors(page, document);
  if (const Json tuned = document.value("tune", Json()); tuned.is_object()) add_choice(page, tuned);
  if (const Json members = document.value("selection", Json()); members.is_array()) add_members(page, members);
  if (!document.contains("members")) add_course(page, epochs_of(metrics), document);
  if (models.size() == 1 && models[0].model.has_attention() && !e.panel) {
    add_attention(page, settings, e, models[0].model, models[0].slab, starts);
  }
  page.heading("How it was made");
  std::vector<std::vector<std::string>> rows;
  for (const char* name : {"data_path", "data_sha256", "device", "threads", "precision", "train_windows", "val_windows",
                           "test_windows", "epochs_run", "stopped_by", "seconds_training", "seconds_per_epoch",
                           "seconds_evaluating", "peak_memory_bytes", "weights_sha256"}) {
    if (document.contains(name)) rows.push_back({name, text(name)});
  }
  page.table({"measured", "value"}, rows, "Data, machine, times");
  add_settings(page, settings);
  page.write(folder);
}

void write_eval_report(const Invocation& invocation, const Json& document, std::span<const Checkpoint> models,
                       const Settings& settings, const Experiment& e, std::span<const std::int32_t> starts) {
  try {
    write_run_report(output_folder(invocation, models[0], "eval"), document,
                     models[0].path.parent_path() / "metrics.jsonl", settings, e, models, starts);
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
