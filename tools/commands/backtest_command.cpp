// `samformer backtest`: forecasts from many origins of the test part, each by a model that was fitted to the rows before
// its origin alone: scaler, training, early stopping and --auto's choice see none after it.
//
//   row   0 ... | training | validation | gap | look-back ends at the origin | H rows: the truth
//
// The validation part has as many rows as the split gives it and moves along; training rows are all before it, or the
// last N (--train-window rows:N). A model serves the origins up to the next refit (--refits). Baselines are fitted to
// the same rows. With --warm-start a model begins with the weights of the one before. Intervals are calibrated, for each
// model, on the rows between its training and the origin. Folder --out: backtest.jsonl (the ledger: the same command
// takes an interrupted one up), origins/ROW (a run each), forecasts.csv (tools/run/forecast_file.h), backtest.json,
// report.html.
//
// JSON: what `eval` has (test_mse ... skill, intervals; errors in the scale of the split's training rows), gap, refits,
// train_window, warm_start, origins [{origin, row, model, mse, naive_mse, seasonal_naive_mse, least_squares_mse}],
// diebold_mariano {baseline, t, p} against the best baseline, failed, forecasts.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <sstream>

#include "core/text.h"
#include "optim/analysis/diebold_mariano.h"
#include "tools/cli/command.h"
#include "tools/cli/signals.h"
#include "tools/report/page.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/automatic.h"
#include "tools/run/ensemble.h"
#include "tools/run/forecast_file.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"
#include "tools/run/training.h"

namespace samformer::tools {
namespace fs = std::filesystem;

namespace {

struct BacktestSettings {
  std::string origins = "12";
  std::string refits = "each";
  std::int64_t gap = 0;
  std::string train_window = "expanding";
  bool warm_start = false;
};

Error usage(const std::string& flag, const std::string& text, const std::string& expected) {
  return Error(Exit::usage, fmt::format("--{} {}: expected {}", flag, text, expected));
}

// Every how many-th origin has a model of its own; 0: the first one alone.
std::int64_t refit_every(const std::string& text) {
  if (text == "each") return 1;
  if (text == "never") return 0;
  const std::int64_t every = text.starts_with("every:") ? whole_number(std::string_view(text).substr(6)) : 0;
  if (every < 1) throw usage("refits", text, "never, each or every:K");
  return every;
}

// 0: all before the validation part.
std::int64_t training_rows(const std::string& text) {
  if (text == "expanding") return 0;
  const std::int64_t rows = text.starts_with("rows:") ? whole_number(std::string_view(text).substr(5)) : 0;
  if (rows < 1) throw usage("train-window", text, "expanding or rows:N");
  return rows;
}

// The starts among `all` of windows whose look-back ends at a date of the file.
std::vector<std::int32_t> at_dates(const std::string& path, const Experiment& e, std::int64_t lookback,
                                   std::span<const std::int32_t> all) {
  if (e.series.dates.empty()) {
    throw Error(Exit::usage, "--origins dates: the series has no dates").hint("say how many: --origins 12");
  }
  std::vector<std::int32_t> chosen;
  std::istringstream lines(read_file(path));
  std::int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    if (++number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || (number == 1 && !model::read_date(e.series, line))) continue;  // a name
    const auto fail = [&](const std::string& what) {
      return Error(Exit::data, fmt::format("--origins: {}", what)).at(path, number);
    };
    const auto date = model::read_date(e.series, line);
    if (!date) throw fail(fmt::format("'{}' is no date as the file has them", shown(line, 40)));
    const auto& dates = e.series.dates;
    const auto found =
        std::ranges::lower_bound(dates, *date, [](const auto& a, const auto& b) { return compare(a, b) < 0; });
    const auto row = found - dates.begin();
    if (found == dates.end() || compare(*found, *date) != 0) {
      std::string near;
      if (row > 0) near += e.series.date(row - 1);
      if (found != dates.end()) near += (near.empty() ? "" : " and ") + e.series.date(row);
      throw fail(fmt::format("no row is at {}", line)).hint("the nearest are " + near);
    }
    const auto start = static_cast<std::int32_t>(row + 1 - lookback);
    if (std::ranges::find(all, start) == all.end()) {
      throw fail(fmt::format("{} is no origin of the test part", line))
          .hint(fmt::format("those are from {} to {}, where no row is absent around them",
                            e.series.date(all.front() + lookback - 1), e.series.date(all.back() + lookback - 1)));
    }
    chosen.push_back(start);
  }
  std::ranges::sort(chosen);
  if (chosen.empty() || std::ranges::adjacent_find(chosen) != chosen.end()) {
    throw Error(Exit::data, chosen.empty() ? "--origins: no date" : "--origins: a date is there twice").at(path);
  }
  return chosen;
}

// N of them, evenly, by a stride without a common factor with the season: every 24th hour would always be the same one.
std::vector<std::int32_t> choose_origins(const std::string& text, const Experiment& e, std::int64_t lookback,
                                         std::span<const std::int32_t> all) {
  if (text.starts_with("dates:")) return at_dates(text.substr(6), e, lookback, all);
  const bool every = text.starts_with("every:");
  const std::int64_t n = whole_number(every ? std::string_view(text).substr(6) : std::string_view(text));
  if (n < 1) throw usage("origins", text, "a number, every:K or dates:FILE");
  const std::int64_t count = std::ssize(all);
  std::int64_t stride = n;
  if (!every) {
    if (n > count) {
      throw Error(Exit::data, fmt::format("--origins {}: the test part has {} at this look-back and horizon", n, count))
          .at(e.series.path)
          .hint("choose fewer, or another --split");
    }
    stride = n == 1 ? 1 : (count - 1) / (n - 1);
    while (stride > 1 && e.season > 1 && std::gcd(stride, e.season) > 1) --stride;
  }
  std::vector<std::int32_t> chosen;
  for (std::int64_t i = 0; i < count && (every || std::ssize(chosen) < n); i += stride) {
    chosen.push_back(all[static_cast<std::size_t>(i)]);
  }
  return chosen;
}

// A model and the origins that it forecasts from.
struct Fit {
  std::int64_t row = 0;  // the first of its origins
  model::Span train, val;
  std::vector<std::int32_t> starts;
  std::string name() const { return std::to_string(row); }
};

std::vector<Fit> plan(const Experiment& e, const BacktestSettings& own, std::int64_t lookback,
                      std::span<const std::int32_t> starts) {
  const std::int64_t every = refit_every(own.refits), rows = training_rows(own.train_window);
  std::vector<Fit> fits;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    if (fits.empty() || (every > 0 && i % static_cast<std::size_t>(every) == 0)) {
      const std::int64_t origin = starts[i] + lookback - 1, end = origin + 1 - own.gap;
      const model::Span val = {end - e.splits.val.size(), end};
      const std::int64_t first = std::max(e.splits.train.first, rows > 0 ? val.first - rows : 0);
      fits.push_back({origin, {first, val.first}, val, {}});
    }
    fits.back().starts.push_back(starts[i]);
  }
  return fits;
}

// Errors of one forecast, by target and step and by origin.
struct Sums {
  optim::ErrorSums all;
  std::vector<double> by_origin;  // mean squared errors

  Sums(const Experiment& e, std::int64_t H) : all(static_cast<std::int64_t>(e.targets.size()), H) {
    all.left_out = e.left_out_of_test;
  }
  // `error(t, h)` in the scale of the errors.
  template <class ErrorOf>
  void add(const ErrorOf& error) {
    double sum = 0;
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < all.targets; ++t) {
      const bool out = !all.left_out.empty() && all.left_out[static_cast<std::size_t>(t)] != 0;
      for (std::int64_t h = 0; h < all.H; ++h) {
        const double off = error(t, h);
        all.add(t, h, off);
        if (!out) sum += off * off, ++count;
      }
    }
    ++all.windows;
    by_origin.push_back(sum / static_cast<double>(count));
  }
};

// The queue's tasks, each from the weights of the last one before it in `all` that did not fail.
std::vector<Unfinished> train_in_turn(const Queue& queue, std::span<const Task> all, Ledger& ledger, Console& console) {
  const Task* before = nullptr;
  for (const Task& task : all) {
    const Json* done = ledger.trial(task.name, task.seed);
    if (!done) {
      Queue one = queue;
      one.tasks = {task};
      if (before) {
        one.tasks[0].words.push_back("--weights-from=" + fs::absolute(before->folder / "best.safetensors").string());
      }
      if (std::vector<Unfinished> unfinished = run_queue(one, ledger, console); !unfinished.empty()) return unfinished;
      done = ledger.trial(task.name, task.seed);
    }
    if (done->value("status", "") == "ok") before = &task;
  }
  return {};
}

constexpr std::size_t most_drawn = 200;  // origins to look through
// Every how many-th of them is drawn.
std::size_t drawn_every(std::size_t origins) { return (origins + most_drawn - 1) / most_drawn; }

// `forecasts`: of the origins that are drawn, [targets * H] in original units.
void write_page(const fs::path& folder, const Json& d, const Experiment& e, std::span<const std::int32_t> starts,
                const std::vector<std::vector<double>>& forecasts, std::int64_t lookback) {
  const std::int64_t H = d["horizon"];
  Report page(fmt::format("Backtest of {} on {}", d["model"].get<std::string>(), d["dataset"].get<std::string>()),
              fmt::format("{} origins, horizon {}, look-back {}, refits: {}", starts.size(), H, lookback,
                          d["refits"].get<std::string>()));
  const Json& test = d["diebold_mariano"];
  const auto text = [](const Json& value) {
    return value.is_number() ? short_number(value.get<double>()) : std::string("–");
  };
  page.figures({{"MSE", text(d["test_mse"])},
                {"MAE", text(d["test_mae"])},
                {d["skill"].is_number() && d["skill"].get<double>() >= 0 ? "lower error than the best baseline"
                                                                         : "against the best baseline",
                 d["skill"].is_number() ? fmt::format("{:.1f} %", 100 * d["skill"].get<double>()) : "–"},
                {"Diebold-Mariano p", text(test["p"])}});
  page.heading("Origins");
  page.paragraph(
      fmt::format("What was known, the truth and the forecast, in original units; {} of {} channels, those "
                  "with the largest errors.",
                  std::min<std::size_t>(4, e.targets.size()), e.targets.size()));
  std::vector<std::size_t> order(e.targets.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t t) {
    const Json& mse = d["per_channel"][t]["mse"];
    return mse.is_number() ? mse.get<double>() : 0;
  });
  order.resize(std::min<std::size_t>(4, order.size()));
  const std::size_t step = drawn_every(starts.size());
  std::vector<std::size_t> shown_origins;
  for (std::size_t i = 0; i < starts.size(); i += step) shown_origins.push_back(i);
  Gallery gallery{fmt::format("Origin ({})", shown_origins.size()), {}, {}, {}, {}};
  for (const std::size_t t : order) gallery.suffixes.push_back(": " + e.target_names()[t]);
  for (const std::size_t i : shown_origins) {
    gallery.names.push_back(e.series.date(starts[i] + lookback - 1));
    gallery.captions.push_back(
        fmt::format("MSE {}, naive {}", text(d["origins"][i]["mse"]), text(d["origins"][i]["naive_mse"])));
  }
  const std::int64_t tail = std::min(lookback, std::max<std::int64_t>(H, 48));
  gallery.charts = [&](std::size_t k) {
    const std::size_t i = shown_origins[k];
    std::vector<LineChart> charts;
    for (const std::size_t t : order) {
      const double* const end = e.series.channel(e.targets[t]).data() + starts[i] + lookback;
      LineChart chart{"", "steps from the origin", "", {}};
      Curve truth{"truth", {}, {}}, forecast{"forecast", {0}, {end[-1]}}, naive{"naive", {0}, {end[-1]}, true};
      for (std::int64_t h = 1 - tail; h <= H; ++h) {
        truth.x.push_back(static_cast<double>(h));
        truth.y.push_back(end[h - 1]);
        if (h < 1) continue;
        forecast.x.push_back(static_cast<double>(h));
        forecast.y.push_back(forecasts[k][t * static_cast<std::size_t>(H) + static_cast<std::size_t>(h - 1)]);
        naive.x.push_back(static_cast<double>(h));
        naive.y.push_back(end[-1]);
      }
      chart.curves = {std::move(truth), std::move(forecast), std::move(naive)};
      chart.mark = 0;
      charts.push_back(std::move(chart));
    }
    return charts;
  };
  page.gallery(draw(gallery));
  Curve model{"model", {}, {}}, naive{"naive", {}, {}, true};
  for (std::size_t i = 0; i < starts.size(); ++i) {
    for (auto& [curve, field] : {std::pair<Curve&, const char*>(model, "mse"), {naive, "naive_mse"}}) {
      curve.x.push_back(static_cast<double>(i));
      curve.y.push_back(d["origins"][i][field].is_number() ? d["origins"][i][field].get<double>() : NAN);
    }
  }
  LineChart by_origin{"MSE by origin", "", "standardised", {model, naive}};
  for (const std::int32_t s : starts) by_origin.x_names.push_back(e.series.date(s + lookback - 1));
  page.charts({draw(by_origin)});
  add_errors(page, d);
  page.write(folder);
}

void print_text(std::ostream& out, const Json& d) {
  Table table("lrrrrr", {"forecast", "mse", "mae", "wape", "mase", "bias"});
  const auto row = [&](const std::string& name, const Json& of) {
    if (!of.is_object()) return;
    const Json wape = of.value("wape", Json());
    table.row({name, fixed(of["test_mse"], 4), fixed(of["test_mae"], 4),
               wape.is_number() ? fmt::format("{:.2f} %", 100 * wape.get<double>()) : "-",
               fixed(of.value("mase", Json()), 3), fixed(of.value("bias", Json()), 4)});
  };
  row(d["model"], d);
  row("naive", d["baselines"]["naive"]);
  row("seasonal naive", d["baselines"]["seasonal_naive"]);
  row("linear least squares", d["baselines"]["least_squares"]);
  out << table.str();
  const Json& test = d["diebold_mariano"];
  if (d["skill"].is_number()) {
    const double percent = 100 * d["skill"].get<double>();
    out << fmt::format("\n{:.1f} % {} error than the best baseline, {}", std::fabs(percent),
                       percent >= 0 ? "lower" : "higher", test["baseline"].get<std::string>());
    if (test["p"].is_number()) {
      out << fmt::format("; Diebold-Mariano t {:.2f}, p {:.3g}", test["t"].get<double>(), test["p"].get<double>());
    }
    out << '\n';
  }
  print_intervals(out, d);
  Table origins("lrrr", {"origin", "mse", "naive", d["baselines"]["seasonal_naive"].is_object() ? "seasonal" : ""});
  std::size_t listed = 0;
  for (const Json& o : d["origins"]) {
    if (listed++ == 20) break;
    origins.row({o["origin"], fixed(o["mse"], 4), fixed(o["naive_mse"], 4),
                 fixed(o.value("seasonal_naive_mse", Json()), 4, "")});
  }
  out << '\n' << origins.str();
  if (d["origins"].size() > 20) out << fmt::format("... {} more in backtest.json\n", d["origins"].size() - 20);
  out << fmt::format("\nwritten to {}: forecasts.csv, backtest.json, report.html\n", d["out"].get<std::string>());
}

}  // namespace

int backtest(const Invocation& invocation) {
  const CatchSignals catch_signals;
  Settings settings = invocation.settings;
  const auto own = settings.of<BacktestSettings>();
  if (settings.out.empty()) throw Error(Exit::usage, "backtest needs --out DIR for its ledger and runs");
  if (settings.refit) {
    throw Error(Exit::usage, "--refit would train on the rows after the origins").hint("how often: --refits each");
  }
  if (!settings.seeds.empty()) throw Error(Exit::usage, "backtest takes one --seed");
  if (settings.data == "-") throw Error(Exit::usage, "backtest reads its file again and again").hint("save it first");
  if (settings.automatic) check_automatic(settings);
  const std::vector<double> levels = levels_of(settings);  // throws before anything is trained
  if (own.warm_start && (settings.automatic || settings.jobs > 1)) {
    throw Error(Exit::usage, "--warm-start begins each model where the one before ended")
        .hint(settings.automatic ? "leave --auto out" : "leave --jobs out");
  }
  const ChosenDevice device = select_device(settings);
  Experiment e = load_experiment(settings, invocation.console);
  const std::int64_t L = settings.lookback, H = settings.horizon;
  if (e.panel) {
    throw Error(Exit::usage, "backtest: of a panel no origins are common to all series")
        .at(e.series.path)
        .hint("`samformer train` tests it; series with the same dates can be read as channels: --panel channels");
  }
  if (e.too_few) {
    throw Error(Exit::data,
                fmt::format("{} rows are too few for a backtest at look-back {} and horizon {}", e.series.rows, L, H))
        .at(e.series.path);
  }
  if (const std::vector<std::string> known = e.basis.names(); !known.empty()) {
    invocation.console.info(
        fmt::format("{} are taken as known ahead, as they were in the end: a forecast of them is worse, "
                    "and so are errors then",
                    join(known, ", ")));
  }
  const std::vector<std::int32_t> all = all_starts(e, model::with_lookback(e.splits.test, L), settings);
  const std::vector<std::int32_t> starts = choose_origins(own.origins, e, L, all);
  const std::vector<Fit> fits = plan(e, own, L, starts);
  const auto [jobs, threads] = share_of_cores(settings, own.warm_start ? 1 : fits.size());
  for (const Fit& fit : fits) {
    if (fit.train.size() > 0 && model::window_count(e.series, fit.train, L, H) > 0) continue;
    throw Error(Exit::data, fmt::format("the {} training rows before the origin {} have no window of {} + {} steps",
                                        std::max<std::int64_t>(fit.train.size(), 0), e.series.date(fit.row), L, H))
        .at(e.series.path)
        .hint("take a smaller --gap, more of --train-window, or another --split");
  }

  // Flags of every training, those of --config and the environment too: a file may also have what is ours alone.
  static constexpr std::string_view ours[] = {"split", "lookback", "horizon",   "columns",
                                              "seed",  "threads",  "intervals", "calibration"};
  std::vector<std::string> common = stored_flags(invocation.resolved, Layer::file, Layer::flag, ours);
  std::vector<std::string> columns = e.series.channels;
  columns.insert(columns.end(), e.series.known.names.begin(), e.series.known.names.end());
  common.push_back("--columns=" + names_list(columns));
  common.push_back(fmt::format("--lookback={}", L));
  common.push_back(fmt::format("--horizon={}", H));

  const fs::path folder = settings.out;
  if (fs::exists(settings.data)) never_replace(settings.data);
  require_no_input(folder, std::array{"backtest.jsonl", "backtest.json", "forecasts.csv", "report.html"});
  make_folders(folder, "origins");
  const FolderLock lock(folder);
  const auto seed = static_cast<std::uint64_t>(settings.seed);
  Json header = {{"flags", common}, {"data_sha256", e.series.sha256}, {"split", e.splits.rule}};
  header.update(Json{{"gap", own.gap}, {"train_window", own.train_window}});
  if (own.warm_start) header["warm_start"] = {own.origins, own.refits};  // say whose weights come before
  Ledger ledger(folder / "backtest.jsonl", {{"backtest", header}}, {"val_mse"});
  Queue queue{{}, jobs, threads, {"val_mse", "epochs_run", "seconds_training"}, "val_mse"};
  std::vector<Task> tasks;
  for (const Fit& fit : fits) {
    std::vector<std::string> words{"train"};
    words.insert(words.end(), common.begin(), common.end());
    words.push_back(
        fmt::format("--split=rows:{},{},{}@{}", fit.train.size(), fit.val.size(), H + own.gap, fit.train.first));
    words.insert(words.end(), {"--no-test", "--seed", std::to_string(seed)});
    tasks.push_back({fit.name(), seed, words, folder, folder / "origins" / fit.name()});
  }
  std::ranges::copy_if(tasks, std::back_inserter(queue.tasks),
                       [&](const Task& task) { return !ledger.trial(task.name, task.seed); });
  invocation.console.info(fmt::format("{} origins, {} models, {} to train, {} at a time with {} threads each",
                                      starts.size(), fits.size(), queue.tasks.size(), jobs, threads));
  const std::vector<Unfinished> unfinished = own.warm_start ? train_in_turn(queue, tasks, ledger, invocation.console)
                                                            : run_queue(queue, ledger, invocation.console);
  const std::size_t failed = warn_of_failures(tasks, ledger, invocation.console);
  require_finished(unfinished);

  const bool seasonal = has_season(e, L);
  Sums model(e, H), naive(e, H), season(e, H), squares(e, H);
  std::vector<float> weights;  // of least squares; a fit that its rows do not determine has those of the one before
  std::optional<ForecastFile> file;
  std::vector<std::int32_t> done;
  std::vector<std::int64_t> model_of;
  std::vector<std::vector<double>> forecasts;  // of those that are drawn
  const std::size_t step = drawn_every(starts.size());
  std::optional<Checkpoint> first;
  IntervalScores intervals;
  const double begin = monotonic_seconds();
  for (const Fit& fit : fits) {
    if (ledger.trial(fit.name(), seed)->value("status", "") != "ok") continue;
    const std::vector<Checkpoint> runs = read_run((folder / "origins" / fit.name()).string(), "best");
    if (!first) first = runs[0];
    Experiment here = e;
    here.splits.train = fit.train;
    tools::fit(here, settings, fit.train);
    const optim::Problem problem = here.problem();
    if (std::vector<float> now = fit_least_squares(here, settings); !now.empty() && (!file || !weights.empty())) {
      weights = std::move(now);
    }
    std::vector<float> halves;
    if (!levels.empty()) {
      const IntervalScores of = score_intervals(runs, here, fit.starts, levels, settings.calibration, device, &halves);
      std::vector<double> units;
      for (const std::int32_t d : e.targets) {
        units.push_back(here.scaler.std[static_cast<std::size_t>(d)] / e.scaler.std[static_cast<std::size_t>(d)]);
      }
      intervals.model.add(of.model, units);
      intervals.naive.add(of.naive, units);
    }
    std::size_t written = 0;  // of them
    if (!file) file.emplace(folder / "forecasts.csv", e, L, H, !weights.empty(), levels);
    Ensemble(runs, problem, device).for_batches(fit.starts, [&](const auto& batch, const auto& values) {
      std::vector<float> fit_values;
      if (!weights.empty()) {
        fit_values =
            optim::Evaluator(linear_model(settings, here), kernels::Center::mean).forecast(weights, problem, batch);
      }
      const std::size_t size = levels.size() * values.size();
      file->add(batch, here.scaler, values, fit_values, std::span(halves).subspan(written, size));
      written += size;
      const std::size_t outputs = e.targets.size() * static_cast<std::size_t>(H);
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const std::int32_t start = batch[i];
        const auto truth = [&](std::int64_t t, std::int64_t h) {
          return e.series.channel(e.targets[static_cast<std::size_t>(t)])[static_cast<std::size_t>(start + L + h)];
        };
        const auto deviation = [&](std::int64_t t) {
          return e.scaler.std[static_cast<std::size_t>(e.targets[static_cast<std::size_t>(t)])];
        };
        const auto restored = [&](const auto& of, std::int64_t t, std::int64_t h) {
          const auto at = i * outputs + static_cast<std::size_t>(t * H + h);
          return here.scaler.restore(static_cast<double>(of[at]),
                                     static_cast<std::size_t>(e.targets[static_cast<std::size_t>(t)]));
        };
        if (done.size() % step == 0) {
          std::vector<double>& original = forecasts.emplace_back();
          for (std::int64_t at = 0; at < static_cast<std::int64_t>(outputs); ++at) {
            original.push_back(restored(values, at / H, at % H));
          }
        }
        model.add([&](auto t, auto h) { return (restored(values, t, h) - truth(t, h)) / deviation(t); });
        naive.add([&](auto t, auto h) { return (truth(t, -1) - truth(t, h)) / deviation(t); });
        if (seasonal) {
          season.add([&](auto t, auto h) { return (truth(t, h % e.season - e.season) - truth(t, h)) / deviation(t); });
        }
        if (!weights.empty()) {
          squares.add([&](auto t, auto h) { return (restored(fit_values, t, h) - truth(t, h)) / deviation(t); });
        }
        done.push_back(start);
        model_of.push_back(fit.row);
      }
    });
  }
  if (done.empty()) throw Error(Exit::check, "no model could be trained: the ledger says why").at(folder.string());
  file->commit();
  const double seconds = monotonic_seconds() - begin;
  const bool fitted = !weights.empty();

  Json d = describe("backtest", settings, e, first->model, device);
  d["out"] = folder.string();
  d["gap"] = own.gap;
  d["refits"] = own.refits;
  d["train_window"] = own.train_window;
  d["warm_start"] = own.warm_start;
  if (settings.automatic) {
    d["model"] = "auto";
    d["parameters"] = nullptr;  // those of each origin's members
  }
  const Scores scores{model.all,
                      naive.all,
                      seasonal ? std::optional(season.all) : std::nullopt,
                      fitted ? std::optional(squares.all) : std::nullopt,
                      seconds,
                      {e.series, e.scaler, e.targets, done, L, H, e.splits.train, std::max<std::int64_t>(1, e.season)},
                      {}};
  add_scores(d, scores, e);
  if (!levels.empty()) {
    d["intervals"] = interval_document(intervals, e, L, settings.calibration);
    if (d["intervals"].is_null()) {
      invocation.console.warning(too_few_for_intervals(levels));
    }
  }
  d["origins"] = Json::array();
  for (std::size_t i = 0; i < done.size(); ++i) {
    Json row = {{"origin", e.series.date(done[i] + L - 1)}, {"row", done[i] + L - 1}, {"model", model_of[i]}};
    row["mse"] = number_or_null(model.by_origin[i]);
    row["naive_mse"] = number_or_null(naive.by_origin[i]);
    if (seasonal) row["seasonal_naive_mse"] = number_or_null(season.by_origin[i]);
    if (fitted) row["least_squares_mse"] = number_or_null(squares.by_origin[i]);
    d["origins"].push_back(std::move(row));
  }
  std::pair<const char*, const Sums*> best = {"naive", &naive};
  if (seasonal && season.all.mse() < best.second->all.mse()) best = {"seasonal_naive", &season};
  if (fitted && squares.all.mse() < best.second->all.mse()) best = {"least_squares", &squares};
  std::int64_t spacing = H;
  for (std::size_t i = 1; i < done.size(); ++i) spacing = std::min<std::int64_t>(spacing, done[i] - done[i - 1]);
  const optim::DieboldMariano test =
      optim::diebold_mariano(model.by_origin, best.second->by_origin, (H + spacing - 1) / spacing - 1);
  d["diebold_mariano"] = {{"baseline", best.first}, {"t", number_or_null(test.t)}, {"p", number_or_null(test.p)}};
  d["failed"] = failed;
  d["forecasts"] = (folder / "forecasts.csv").string();
  write_page(folder, d, e, done, forecasts, L);
  write_json(folder / "backtest.json", d);
  if (settings.json) {
    print(d, invocation.out);
  } else {
    print_text(invocation.out, d);
  }
  return 0;
}

Command backtest_command() {
  return {.name = "backtest",
          .handler = backtest,
          .takes = takes_of_training({"jobs", "intervals", "calibration"}),
          .options = {{.name = "origins",
                       .member = at(&BacktestSettings::origins),
                       .value_name = "N|every:K|dates:FILE",
                       .help = "of the test part: so many, every K-th, or those of a file's lines"},
                      {.name = "refits",
                       .member = at(&BacktestSettings::refits),
                       .value_name = "each|every:K|never",
                       .help = "origins with a model of their own"},
                      {.name = "gap",
                       .member = at(&BacktestSettings::gap),
                       .value_name = "ROWS",
                       .help = "before each origin, that no model is fitted to",
                       .range = {.low = 0}},
                      {.name = "train-window",
                       .member = at(&BacktestSettings::train_window),
                       .value_name = "expanding|rows:N",
                       .help = "training rows before the validation part"},
                      {.name = "warm-start",
                       .member = at(&BacktestSettings::warm_start),
                       .help = "each model begins with the weights of the one before"}},
          .summary = "forecasts from many origins, each by a model of the rows before it, beside the baselines",
          .example = "samformer backtest --data sales.csv --horizon 28 --origins 12 --auto --out backtests/sales",
          .texts = {{"threads", "CPU threads of each training", "the cores over --jobs"},
                    {"out", "folder of the ledger and the runs, needed; the same one goes on later", "none"}}};
}

}  // namespace samformer::tools
