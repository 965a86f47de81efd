// `samformer predict RUN`: the next steps after the end of a CSV, in original units, as CSV with dates.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/text.h"
#include "model/data/repair.h"
#include "optim/conformal.h"
#include "tools/cli/command.h"
#include "tools/run/automatic.h"
#include "tools/run/forecasting.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace {

// predict's own.
struct PredictSettings {
  double min = -infinity;
  double max = infinity;
  std::int64_t decimals = -1;  // behind the point; -1: as many as float32 has
  bool integers = false;
  std::string future_data;
};

struct Forecast {
  std::vector<std::string> dates;  // [H]
  std::vector<std::string> date_columns;
  std::vector<std::vector<std::string>> date_cells;  // [H][date_columns]
  std::vector<std::string> columns;                  // the targets
  std::vector<double> values;                        // [H][targets], original units
  std::vector<std::string> texts;                    // the same as they are written
  struct Band {
    std::string level;                   // "80"
    std::vector<std::string> low, high;  // [H][targets]
  };
  std::vector<Band> bands;
};

// How values are written: inside the bounds, rounded, never -0.
class Digits {
 public:
  explicit Digits(const PredictSettings& asked) : decimals_(asked.integers ? 0 : asked.decimals) {
    if (asked.integers && asked.decimals > 0) {
      throw Error(Exit::usage, fmt::format("--integers and --decimals {} exclude each other", asked.decimals));
    }
    low_ = asked.min, high_ = asked.max;
    if (low_ > high_) {
      throw Error(Exit::usage, fmt::format("--min {} is above --max {}", shortest(asked.min), shortest(asked.max)));
    }
    if (decimals_ < 0) return;
    // The bounds themselves have that many decimals, so that no rounding leaves them.
    const double unit = std::pow(10.0, -static_cast<double>(decimals_));
    if (std::isfinite(low_) && rounded(low_) < low_) low_ += unit;
    if (std::isfinite(high_) && rounded(high_) > high_) high_ -= unit;
    low_ = rounded(low_), high_ = rounded(high_);
    if (low_ > high_) {
      throw Error(Exit::usage, fmt::format("no number of {} decimals is from --min {} to --max {}", decimals_,
                                           shortest(asked.min), shortest(asked.max)));
    }
  }

  // `deviation`: of the column, for how fine its digits need to be.
  std::string text(double value, double deviation) const {
    if (decimals_ < 0) return shortest(std::clamp(value, low_, high_), 1e-5 * deviation);
    return fmt::format("{:.{}f}", std::clamp(rounded(value), low_, high_) + 0.0, decimals_);
  }

 private:
  double rounded(double value) const {
    return std::isfinite(value) ? number_of(fmt::format("{:.{}f}", value, decimals_)) : value;
  }
  std::int64_t decimals_;
  double low_, high_;
};

// What a reader of the forecast would not expect after the file: values below 0 where it has none.
void warn_of_signs(const Forecast& f, const std::vector<std::int32_t>& targets, const model::Series& series,
                   Console& console) {
  std::string first;
  std::int64_t columns = 0;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    if (std::ranges::any_of(series.channel(targets[t]), [](double v) { return v < 0; })) continue;
    std::int64_t below = 0;
    for (std::size_t h = 0; h < f.dates.size(); ++h) below += number_of(f.texts[h * targets.size() + t]) < 0;
    if (below > 0 && ++columns == 1) {
      first = fmt::format("{}: {} of {} values are below 0, the file has none", f.columns[t], below, f.dates.size());
    }
  }
  if (columns == 0) return;
  const std::string more = columns > 1 ? fmt::format(" (and {} more columns)", columns - 1) : "";
  console.warning(fmt::format("{}{}: --min 0", first, more));
}

// The rows of --future-data; nothing without.
std::optional<model::Series> future_of(const Checkpoint& run, DataSettings settings, const std::string& path,
                                       Console& console) {
  if (path.empty()) return std::nullopt;
  settings.data = path, settings.future.clear(), settings.future_for.clear(), settings.calendar.clear();
  settings.columns.clear(), settings.drop.clear();
  model::Series future = load_series(settings, series_options(settings));
  model::require_clean(future);
  const std::vector<std::string> names = run.basis.names();
  for (const std::string& name : future.channels) {
    if (std::ranges::find(names, name) != names.end()) continue;
    throw Error(Exit::data, fmt::format("column '{}' is none that the model knows ahead", name))
        .at(future.path)
        .hint(names.empty() ? "the model knows none: leave --future-data out"
                            : fmt::format("leave it out of the file; there are {}", join(names, ", ")));
  }
  for (const model::Finding& f : future.findings) {
    if (f.kind != "constant") console.warning(fmt::format("{}: {}", place_text(f.file, f.line, f.column), f.message));
  }
  return future;
}

// A row a series and step, in the names of the file that was read.
class LongCsv {
 public:
  LongCsv(const model::Series::LongForm& names, const std::vector<std::string>& date_columns,
          const std::vector<std::string>& levels)
      : text_(csv_field(names.id)) {
    for (const std::string& name : date_columns) text_ += ',' + csv_field(name);
    text_ += ',' + csv_field(names.value);
    for (const std::string& level : levels) text_ += fmt::format(",lo_{},hi_{}", level, level);
    text_ += '\n';
  }
  void begin(const std::string& id, const std::vector<std::string>& date_cells, const std::string& value) {
    text_ += csv_field(id);
    for (const std::string& cell : date_cells) text_ += ',' + csv_field(cell);
    text_ += ',' + value;
  }
  void band(const std::string& low, const std::string& high) { text_ += ',' + low + ',' + high; }
  void end() { text_ += '\n'; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string long_csv(const Forecast& f, const model::Series::LongForm& names) {
  std::vector<std::string> levels;
  for (const Forecast::Band& band : f.bands) levels.push_back(band.level);
  LongCsv out(names, f.date_columns, levels);
  for (std::size_t t = 0; t < f.columns.size(); ++t) {
    for (std::size_t h = 0; h < f.dates.size(); ++h) {
      const std::size_t i = h * f.columns.size() + t;
      out.begin(f.columns[t], f.date_cells[h], f.texts[i]);
      for (const Forecast::Band& band : f.bands) out.band(band.low[i], band.high[i]);
      out.end();
    }
  }
  return out.text();
}

std::string csv(const Forecast& f) {
  std::string text;
  const auto add = [&](const std::vector<std::string>& cells) {
    for (const std::string& cell : cells) text += (&cell == cells.data() ? "" : ",") + csv_field(cell);
  };
  add(f.date_columns);
  for (const std::string& name : f.columns) text += "," + csv_field(name);
  for (const std::string& name : f.columns) {
    for (const Forecast::Band& band : f.bands) {
      for (const char* end : {"lo", "hi"}) text += "," + csv_field(fmt::format("{}_{}_{}", name, end, band.level));
    }
  }
  text += '\n';
  for (std::size_t h = 0; h < f.dates.size(); ++h) {
    add(f.date_cells[h]);
    const std::size_t first = h * f.columns.size();
    for (std::size_t t = 0; t < f.columns.size(); ++t) text += "," + f.texts[first + t];
    for (std::size_t t = 0; t < f.columns.size(); ++t) {
      for (const Forecast::Band& band : f.bands) text += "," + band.low[first + t] + "," + band.high[first + t];
    }
    text += '\n';
  }
  return text;
}

// What the model looks back on, as `train` looks at its file.
void audit(const model::Series& series, std::int64_t L, std::int64_t origin, Console& console) {
  const std::int64_t first = origin + 1 - L;
  const auto place = [&](std::int64_t row) {
    return place_text(series.path, series.lines.empty() ? 0 : series.lines[static_cast<std::size_t>(row)], 0);
  };
  const auto freq = std::ranges::find(series.findings, "freq", &model::Finding::kind);
  if (freq != series.findings.end()) console.warning(fmt::format("{}; {}", freq->message, freq->hint));
  model::RowSteps rows(series.dates, series.step);
  std::int64_t repeated = 0, irregular = 0, first_repeated = 0, first_irregular = 0;
  for (std::int64_t t = first + 1; !series.dates.empty() && t <= origin; ++t) {
    const auto now = static_cast<std::size_t>(t);
    if (model::compare(series.dates[now - 1], series.dates[now]) == 0) {
      if (repeated++ == 0) first_repeated = t;
    } else if (series.step.known() && !rows.to(now)) {
      if (irregular++ == 0) first_irregular = t;
    }
  }
  const auto say = [&](std::int64_t count, std::int64_t row, const char* what) {
    if (count == 0) return;
    console.warning(fmt::format("{}: {}: {}{}, inside the {} rows that the forecast looks back on", place(row), what,
                                series.date(row), count > 1 ? fmt::format(" (and {} more)", count - 1) : "", L));
  };
  say(repeated, first_repeated, "repeated time step");
  say(irregular, first_irregular, "irregular time step");
}

// How long ago the model's last training row is; a warning where the forecast's rows were trained on.
void say_age(const Checkpoint& run, const model::Series& series, std::int64_t origin, Console& console) {
  const bool refitted = run.path.filename() == "final.safetensors";
  bool seen = false;
  std::string age = "trained on part of the rows; train with --refit to use them all";
  const auto until = model::read_date(series, run.trained_until);
  if (!series.dates.empty() && !run.trained_until.empty() && until) {
    const model::Stamp& at = series.dates[static_cast<std::size_t>(origin)];
    seen = model::compare(at, *until) < 0;
    age = fmt::format("trained on rows up to {}", run.trained_until);
    if (const auto steps = model::steps_between(*until, at, series.step)) {
      age += fmt::format(", {} steps before this forecast", *steps);
    }
  } else if (series.dates.empty() && series.sha256 == run.data_sha256) {
    seen = origin + 1 < (refitted ? series.rows : run.splits.train.last);
  }
  if (seen) {
    console.warning(fmt::format("the model was trained on the rows after {} too{}: this forecast is no test of it",
                                series.date(origin),
                                run.trained_until.empty() ? "" : fmt::format(" (up to {})", run.trained_until)));
  } else if (!refitted) {
    console.info(age);
  }
}

// The bands around the values, inside the bounds and rounded as these are.
void add_bands(Forecast& f, std::span<const Checkpoint> runs, const model::Series& series, std::int64_t origin,
               std::span<const double> levels, const Settings& asked, const Digits& digits, const ChosenDevice& device,
               Console& console) {
  if (levels.empty()) return;
  const Checkpoint& run = runs[0];
  const auto H = static_cast<std::size_t>(run.settings.horizon), T = run.targets.size();
  const std::vector<Checkpoint> models = calibration_models(runs);
  const std::vector<double> widths = calibrate(models, series, origin, levels, asked.calibration, device);
  const auto windows = calibration_windows(models[0], series, origin, asked.calibration);
  if (const std::int64_t rows = windows.back() - windows.front() + run.settings.horizon;
      rows < 10 * run.settings.horizon) {
    console.warning(fmt::format("the intervals are calibrated on {} rows alone, fewer than ten horizons", rows));
  }
  for (std::size_t k = 0; k < levels.size(); ++k) {
    Forecast::Band& band = f.bands.emplace_back();
    band.level = level_name(levels[k]);
    for (std::size_t i = 0; i < f.values.size(); ++i) {
      const std::size_t h = i / T, t = i % T;
      const double deviation = run.scaler.std[static_cast<std::size_t>(run.targets[t])];
      const double half = widths[(k * T + t) * H + h];
      band.low.push_back(digits.text(f.values[i] - half, deviation));
      band.high.push_back(digits.text(f.values[i] + half, deviation));
    }
  }
}

}  // namespace

namespace {

// "3 series (the first is 'a')"
std::string counted(const std::vector<std::string>& ids) {
  return fmt::format("{} series ({}'{}')", ids.size(), ids.size() > 1 ? "the first is " : "", ids[0]);
}

// What a panel's forecast looks back on has no holes and no missing values.
void check_ends(const model::Series& file, const PanelEnds& ends, std::int64_t L, const Settings& settings) {
  std::vector<std::string> broken;
  std::int64_t at = 0;
  for (std::size_t i = 0; i < ends.starts.size(); ++i) {
    const model::Series::Member& member = file.panel[static_cast<std::size_t>(ends.member[i])];
    const std::int64_t first = std::max(member.rows.first, ends.origin[i] + 1 - L);
    const auto hole = std::ranges::upper_bound(file.holes, first, {}, &model::Hole::row);
    if (hole != file.holes.end() && hole->row <= ends.origin[i]) {
      if (broken.empty()) at = hole->row;
      broken.push_back(member.id);
    }
    for (std::int64_t t = first; t <= ends.origin[i]; ++t) {
      if (std::isfinite(file.values[static_cast<std::size_t>(t)])) continue;
      throw Error(Exit::data, fmt::format("'{}' has a missing value at {}, inside the {} rows the forecast needs",
                                          member.id, file.date(t), L))
          .at(file.path, file.lines[static_cast<std::size_t>(t)])
          .hint("write the value, or forecast from another row: --origin");
    }
  }
  if (broken.empty() || settings.holes == "close") return;
  throw Error(Exit::data,
              fmt::format("rows are absent before {}, inside the {} rows that the forecast looks back on, in {}",
                          file.date(at), L, counted(broken)))
      .at(file.path, file.lines[static_cast<std::size_t>(at)])
      .hint("write the rows into the file; or take rows as evenly spaced: --holes close");
}

// Each series' steps after its own last row.
int predict_panel(const Invocation& invocation, std::span<const Checkpoint> runs, const Settings& settings,
                  const model::Series& file, std::int64_t horizon, const Digits& digits, const ChosenDevice& device) {
  const Settings& asked = invocation.settings;
  Console& console = invocation.console;
  const Checkpoint& first = runs[0];
  const std::int64_t L = first.settings.lookback, H = first.settings.horizon;
  std::optional<model::Stamp> origin;
  if (!asked.origin.empty()) {
    origin = model::read_date(file, asked.origin);
    if (!origin) {
      throw Error(Exit::usage, fmt::format("--origin '{}' is no date like {}", asked.origin, file.date(0)));
    }
  }
  const model::Stamp* const until = origin ? &*origin : nullptr;
  const std::vector<std::int32_t> targets = {0};
  std::optional<PanelEnds> ends;
  std::vector<double> values;
  std::vector<float> sigmas;  // of the first run's scale
  for (const Checkpoint& run : runs) {
    if (!run.panel || run.settings.horizon != H || run.settings.lookback != L) {
      throw Error(Exit::data, "the seeds of this run differ in panel, look-back or horizon").at(run.path.string());
    }
    PanelEnds own = panel_ends(file, L, H, *run.panel, until);
    if (own.starts.empty()) {
      throw Error(Exit::usage, fmt::format("no series has a row up to --origin {}", asked.origin)).at(file.path);
    }
    check_ends(file, own, L, settings);
    const optim::Problem problem = own.values.problem(targets);
    const auto loaded = device.load(run.model, problem, center_of(run.settings));
    const std::vector<float> y =
        optim::Evaluator(run.model, center_of(run.settings), loaded.get()).forecast(run.slab, problem, own.starts);
    if (!ends) sigmas = optim::window_scales(problem, own.starts, L);
    values.resize(y.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double value = own.scaler.restore(static_cast<double>(y[i]), i / static_cast<std::size_t>(H));
      if (!std::isfinite(value)) {
        throw Error(Exit::diverged,
                    fmt::format("the forecast of '{}' overflows", file.panel[i / static_cast<std::size_t>(H)].id))
            .at(run.path.string())
            .hint("look at the last rows; if they are right, train again with a smaller --lr or --rho");
      }
      values[i] += value / static_cast<double>(runs.size());
    }
    if (!ends) ends = std::move(own);
  }
  const std::vector<double> levels = levels_of(asked);
  std::vector<double> widths;
  std::vector<std::string> level_names;
  for (const double level : levels) level_names.push_back(level_name(level));
  if (!levels.empty())
    widths = calibrate_panel(calibration_models(runs), file, until, levels, asked.calibration, device);

  std::vector<std::string> date_columns;
  for (const model::Series::DatePart& part : file.date_parts) date_columns.push_back(part.name);
  if (date_columns.empty()) date_columns = {file.long_form.date};
  LongCsv out(file.long_form, date_columns, level_names);
  Json series = Json::array();
  std::vector<std::string> dates;
  std::vector<std::vector<std::string>> cells;
  const model::Stamp* dated = nullptr;  // whose next dates these are
  std::vector<std::string> negative;
  for (std::size_t k = 0; k < ends->starts.size(); ++k) {
    const model::Series::Member& member = file.panel[static_cast<std::size_t>(ends->member[k])];
    const model::Stamp& last = file.dates[static_cast<std::size_t>(ends->origin[k])];
    if (dated == nullptr || *dated != last) {
      dates.clear();
      for (const model::Stamp& ahead : dates_ahead(first, settings, file, ends->origin[k], horizon)) {
        dates.push_back(model::format_stamp(ahead, file.date_format));
      }
      cells.clear();
      for (const std::string& date : dates) {
        cells.push_back(file.date_parts.empty() ? std::vector{date} : file.date_cells(date));
      }
      dated = &last;
    }
    const double deviation = ends->scaler.std[k];
    Json steps = Json::array();
    bool below = false;
    for (std::size_t h = 0; h < static_cast<std::size_t>(horizon); ++h) {
      const double value = values[k * static_cast<std::size_t>(H) + h];
      const std::string text = digits.text(value, deviation);
      below |= number_of(text) < 0;
      out.begin(member.id, cells[h], text);
      Json step = {{"date", dates[h]}, {"value", number_of(text)}};
      for (std::size_t l = 0; l < levels.size(); ++l) {
        const double half = widths[l * static_cast<std::size_t>(H) + h] * static_cast<double>(sigmas[k]) * deviation;
        const std::string low = digits.text(value - half, deviation), high = digits.text(value + half, deviation);
        out.band(low, high);
        step["intervals"].push_back(
            {{"level", number_of(level_names[l])}, {"low", number_of(low)}, {"high", number_of(high)}});
      }
      out.end();
      if (asked.json) steps.push_back(std::move(step));
    }
    const auto rows =
        std::span(file.values)
            .subspan(static_cast<std::size_t>(member.rows.first), static_cast<std::size_t>(member.rows.size()));
    if (below && std::ranges::none_of(rows, [](double v) { return v < 0; })) negative.push_back(member.id);
    if (asked.json) {
      series.push_back({{"id", member.id}, {"origin", file.date(ends->origin[k])}, {"forecast", std::move(steps)}});
    }
  }
  if (!ends->padded.empty()) {
    console.warning(
        fmt::format("{} with fewer than the {} rows that a forecast looks back on: their mean stands before "
                    "them",
                    counted(ends->padded), L));
  }
  if (!ends->unseen.empty()) {
    console.info(
        fmt::format("{} without training rows in the run: the rows given are their scale", counted(ends->unseen)));
  }
  if (!ends->left_out.empty()) {
    console.warning(fmt::format("{} without a row up to {}: no forecast", counted(ends->left_out), asked.origin));
  }
  if (!negative.empty() && !invocation.resolved.given("min")) {
    console.warning(
        fmt::format("{} with values below 0 in the forecast and none in the file: --min 0", counted(negative)));
  }
  if (first.path.filename() != "final.safetensors" && !first.trained_until.empty()) {
    console.info(fmt::format("trained on rows up to {}", first.trained_until));
  }
  if (!asked.out.empty()) write_atomic(asked.out, out.text());
  if (asked.json) {
    Json result = document("predict");
    result.update(Json{{"run_dir", invocation.arguments[0]},
                       {"weights", first.path.filename().string()},
                       {"models", runs.size()},
                       {"data_path", file.path},
                       {"data_sha256", file.sha256},
                       {"trained_until", first.trained_until.empty() ? Json(nullptr) : Json(first.trained_until)},
                       {"horizon", horizon},
                       {"device", device.name},
                       {"out", asked.out.empty() ? Json(nullptr) : Json(asked.out)},
                       {"padded", ends->padded},
                       {"unseen", ends->unseen},
                       {"series", std::move(series)}});
    print(result, invocation.out);
  } else if (asked.out.empty()) {
    invocation.out << out.text();
  } else {
    console.info(fmt::format("{} series, {} steps each, written to {}", ends->starts.size(), horizon, asked.out));
  }
  return 0;
}

}  // namespace

int predict(const Invocation& invocation) {
  const Settings& asked = invocation.settings;
  const Digits digits(asked.of<PredictSettings>());
  const std::vector<double> levels = levels_of(asked);
  const std::string& argument = invocation.arguments[0];
  std::vector<Checkpoint> runs = read_run_to_keep(argument, asked.weights);
  choose_member(runs, asked.member);
  const ChosenDevice device = select_device(asked);
  const Checkpoint& first = runs[0];
  const std::int64_t H = first.settings.horizon;
  const std::int64_t horizon = invocation.resolved.given("horizon") ? asked.horizon : H;
  if (horizon > H) {
    throw Error(Exit::usage, fmt::format("--horizon {}: the model forecasts {} steps", horizon, H))
        .hint(fmt::format("give at most {}, or train with a longer --horizon", H));
  }

  Settings settings = settings_on_run(first.settings, invocation.resolved);
  settings.data_sha256.clear();  // the file may have grown
  model::SeriesOptions options = series_options(first, settings);
  // The rows before another origin are looked at when it is known.
  options.missing_allowed_before_last = asked.origin.empty() ? first.settings.lookback : 0;
  const model::Series series = series_of(first, settings, options, invocation.console);
  if (first.panel) return predict_panel(invocation, runs, settings, series, horizon, digits, device);
  const std::int64_t origin = asked.origin.empty() ? series.rows - 1 : model::find_row(series, asked.origin);
  const std::int64_t L = first.settings.lookback;
  model::require_lookback(series, options, L, origin);
  audit(series, L, origin, invocation.console);

  Forecast forecast;
  for (const std::int32_t t : first.targets) forecast.columns.push_back(first.columns[static_cast<std::size_t>(t)]);
  const std::vector<model::Stamp> ahead = dates_ahead(first, settings, series, origin, H);
  for (std::int64_t h = 0; h < horizon; ++h) {
    forecast.dates.push_back(series.dates.empty()
                                 ? std::to_string(origin + 2 + h)
                                 : model::format_stamp(ahead[static_cast<std::size_t>(h)], series.date_format));
  }
  const std::optional<model::Series> future =
      future_of(first, settings, asked.of<PredictSettings>().future_data, invocation.console);
  for (const model::Series::DatePart& part : series.date_parts) forecast.date_columns.push_back(part.name);
  const bool in_long_form = !series.long_form.id.empty();
  if (series.date_parts.empty()) forecast.date_columns = {in_long_form ? series.long_form.date : "date"};
  for (const std::string& date : forecast.dates) {
    forecast.date_cells.push_back(series.date_parts.empty() ? std::vector{date} : series.date_cells(date));
  }
  forecast.values = mean_forecast(runs, settings, series, origin, ahead, future ? &*future : nullptr, horizon, device);
  for (std::size_t i = 0; i < forecast.values.size(); ++i) {
    const auto d = static_cast<std::size_t>(first.targets[i % first.targets.size()]);
    forecast.texts.push_back(digits.text(forecast.values[i], first.scaler.std[d]));
  }
  add_bands(forecast, runs, series, origin, levels, asked, digits, device, invocation.console);
  if (!invocation.resolved.given("min")) warn_of_signs(forecast, first.targets, series, invocation.console);
  say_age(first, series, origin, invocation.console);

  const std::string text = in_long_form ? long_csv(forecast, series.long_form) : csv(forecast);
  if (!asked.out.empty()) write_atomic(asked.out, text);
  if (asked.json) {
    Json rows = Json::array();
    for (std::size_t h = 0; h < forecast.dates.size(); ++h) {
      Json values = Json::array();
      for (std::size_t t = 0; t < forecast.columns.size(); ++t) {
        values.push_back(number_of(forecast.texts[h * forecast.columns.size() + t]));
      }
      Json row = {{"date", forecast.dates[h]}, {"values", std::move(values)}};
      for (const Forecast::Band& band : forecast.bands) {
        Json low = Json::array(), high = Json::array();
        for (std::size_t t = 0; t < forecast.columns.size(); ++t) {
          low.push_back(number_of(band.low[h * forecast.columns.size() + t]));
          high.push_back(number_of(band.high[h * forecast.columns.size() + t]));
        }
        row["intervals"].push_back(
            {{"level", number_of(band.level)}, {"low", std::move(low)}, {"high", std::move(high)}});
      }
      rows.push_back(std::move(row));
    }
    Json result = document("predict");
    result.update(Json{{"run_dir", argument},
                       {"weights", first.path.filename().string()},
                       {"models", runs.size()},
                       {"data_path", series.path},
                       {"data_sha256", series.sha256},
                       {"origin", series.date(origin)},
                       {"trained_until", first.trained_until.empty() ? Json(nullptr) : Json(first.trained_until)},
                       {"horizon", horizon},
                       {"device", device.name},
                       {"out", asked.out.empty() ? Json(nullptr) : Json(asked.out)},
                       {"columns", forecast.columns},
                       {"forecast", rows}});
    print(result, invocation.out);
  } else if (asked.out.empty()) {
    invocation.out << text;
  } else {
    invocation.console.info(fmt::format("{} steps, {} .. {}, written to {}", horizon, forecast.dates.front(),
                                        forecast.dates.back(), asked.out));
  }
  return 0;
}

Command predict_command() {
  return {
      .name = "predict",
      .handler = predict,
      .takes = {"data",    "date-column", "date-format",  "freq",   "timezone",  "no-date",     "delimiter",
                "decimal", "id",          "value-column", "holes",  "calendar",  "horizon",     "device",
                "threads", "weights",     "member",       "origin", "intervals", "calibration", "out"},
      .options = {{.name = "min",
                   .member = at(&PredictSettings::min),
                   .value_name = "X",
                   .help = "no value below it",
                   .default_text = "none",
                   .range = finite},
                  {.name = "max",
                   .member = at(&PredictSettings::max),
                   .value_name = "X",
                   .help = "no value above it",
                   .default_text = "none",
                   .range = finite},
                  {.name = "decimals",
                   .member = at(&PredictSettings::decimals),
                   .value_name = "N",
                   .help = "digits behind the point",
                   .default_text = "as many as float32 has",
                   .range = {.low = 0, .high = 15}},
                  {.name = "future-data",
                   .member = at(&PredictSettings::future_data),
                   .value_name = "FILE",
                   .help = "what is known ahead of the steps, where the data does not go on with it"},
                  {.name = "integers", .member = at(&PredictSettings::integers), .help = "the same as --decimals 0"}},
      .arguments = {"RUN"},
      .summary = "forecasts the steps after the end of a CSV, in original units, with dates",
      .example = "samformer predict runs/etth1 --data latest.csv --out forecast.csv",
      .texts = {{"data", "CSV file or name of a series to forecast after; - is stdin"},
                {"horizon", "steps to forecast, up to the run's"},
                {"weights", "best: the tested ones; final: refitted on all rows", "final if there"},
                {"out", "the CSV file", "stdout"}}};
}

}  // namespace samformer::tools
