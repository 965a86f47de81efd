#include "tools/run/prediction.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/text.h"
#include "tools/cli/text_format.h"
#include "tools/run/forecasting.h"
#include "tools/run/intervals.h"

namespace samformer::tools {
namespace {

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
    for (std::size_t h = 0; h < f.steps(); ++h) below += number_of(f.parts[0].texts[h * f.width() + t]) < 0;
    if (below > 0 && ++columns == 1) {
      first = fmt::format("{}: {} of {} values are below 0, the file has none", f.columns[t], below, f.steps());
    }
  }
  if (columns == 0) return;
  const std::string more = columns > 1 ? fmt::format(" (and {} more columns)", columns - 1) : "";
  console.warning(fmt::format("{}{}: --min 0", first, more));
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

// Half-widths of the intervals, [levels][targets][H].
std::vector<double> interval_widths(std::span<const Checkpoint> runs, const model::Series& series, std::int64_t origin,
                                    std::span<const double> levels, std::int64_t most, const ChosenDevice& device,
                                    Console& console) {
  if (levels.empty()) return {};
  const std::int64_t H = runs[0].settings.horizon;
  const std::vector<Checkpoint> models = calibration_models(runs);
  std::vector<double> widths = calibrate(models, series, origin, levels, most, device);
  const auto windows = calibration_windows(models[0], series, origin, most);
  if (const std::int64_t rows = windows.back() - windows.front() + H; rows < 10 * H) {
    console.warning(fmt::format("the intervals are calibrated on {} rows alone, fewer than ten horizons", rows));
  }
  return widths;
}

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
Forecast predict_panel(std::span<const Checkpoint> runs, const Settings& settings, const Resolved& resolved,
                       const model::Series& file, std::int64_t horizon, const ChosenDevice& device, Console& console) {
  const Settings& asked = resolved.settings;
  const Digits digits(asked.of<PredictSettings>());
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
  if (!levels.empty())
    widths = calibrate_panel(calibration_models(runs), file, until, levels, asked.calibration, device);

  Forecast f;
  f.long_form = true;
  f.columns = {file.long_form.value};
  for (const double level : levels) f.levels.push_back(level_name(level));
  const model::Stamp* dated = nullptr;  // whose next dates the last ones are
  std::vector<std::string> negative;
  for (std::size_t k = 0; k < ends->starts.size(); ++k) {
    const model::Series::Member& member = file.panel[static_cast<std::size_t>(ends->member[k])];
    const model::Stamp& last = file.dates[static_cast<std::size_t>(ends->origin[k])];
    if (dated == nullptr || *dated != last) {
      std::vector<std::string>& dates = f.dates.emplace_back();
      for (const model::Stamp& ahead : dates_ahead(first, settings, file, ends->origin[k], horizon)) {
        dates.push_back(model::format_stamp(ahead, file.date_format));
      }
      dated = &last;
    }
    const double deviation = ends->scaler.std[k];
    Forecast::Part& part = f.parts.emplace_back();
    part.id = member.id;
    part.origin = file.date(ends->origin[k]);
    part.dates = f.dates.size() - 1;
    bool below = false;
    for (std::size_t h = 0; h < static_cast<std::size_t>(horizon); ++h) {
      const double value = values[k * static_cast<std::size_t>(H) + h];
      part.texts.push_back(digits.text(value, deviation));
      below |= number_of(part.texts.back()) < 0;
      for (std::size_t l = 0; l < levels.size(); ++l) {
        const double half = widths[l * static_cast<std::size_t>(H) + h] * static_cast<double>(sigmas[k]) * deviation;
        part.texts.push_back(digits.text(value - half, deviation));
        part.texts.push_back(digits.text(value + half, deviation));
      }
    }
    const auto rows =
        std::span(file.values)
            .subspan(static_cast<std::size_t>(member.rows.first), static_cast<std::size_t>(member.rows.size()));
    if (below && std::ranges::none_of(rows, [](double v) { return v < 0; })) negative.push_back(member.id);
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
  if (!negative.empty() && !resolved.given("min")) {
    console.warning(
        fmt::format("{} with values below 0 in the forecast and none in the file: --min 0", counted(negative)));
  }
  if (first.path.filename() != "final.safetensors" && !first.trained_until.empty()) {
    console.info(fmt::format("trained on rows up to {}", first.trained_until));
  }
  f.padded = std::move(ends->padded);
  f.unseen = std::move(ends->unseen);
  return f;
}

std::int64_t horizon_of(const Checkpoint& run, const Resolved& asked) {
  return asked.given("horizon") ? asked.settings.horizon : run.settings.horizon;
}

}  // namespace

std::vector<std::string> Forecast::names() const {
  std::vector<std::string> names = columns;
  for (const std::string& column : columns) {
    for (const std::string& level : levels) {
      for (const char* end : {"lo", "hi"}) {
        names.push_back(fmt::format("{}{}_{}", long_form ? "" : column + "_", end, level));
      }
    }
  }
  return names;
}

Settings settings_of_prediction(const Checkpoint& run, const Resolved& asked) {
  const Digits digits(asked.settings.of<PredictSettings>());
  levels_of(asked.settings);
  const std::int64_t H = run.settings.horizon;
  if (const std::int64_t horizon = horizon_of(run, asked); horizon > H) {
    throw Error(Exit::usage, fmt::format("--horizon {}: the model forecasts {} steps", horizon, H))
        .hint(fmt::format("give at most {}, or train with a longer --horizon", H));
  }
  Settings settings = settings_on_run(run.settings, asked);
  settings.data_sha256.clear();  // the file may have grown
  return settings;
}

model::SeriesOptions options_of_prediction(const Checkpoint& run, const Settings& settings, const Resolved& asked) {
  model::SeriesOptions options = series_options(run, settings);
  // The rows before another origin are looked at when it is known.
  options.missing_allowed_before_last = asked.settings.origin.empty() ? run.settings.lookback : 0;
  return options;
}

Settings settings_of_future(Settings settings) {
  settings.future.clear(), settings.future_for.clear(), settings.calendar.clear();
  settings.columns.clear(), settings.drop.clear();
  return settings;
}

void check_future(const Checkpoint& run, const model::Series& future, Console& console) {
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
}

Forecast predict_after(std::span<const Checkpoint> runs, const Settings& settings, const Resolved& resolved,
                       const model::Series& series, const model::Series* future, const ChosenDevice& device,
                       Console& console) {
  const Checkpoint& first = runs[0];
  const std::int64_t horizon = horizon_of(first, resolved);
  if (first.panel) return predict_panel(runs, settings, resolved, series, horizon, device, console);
  const Settings& asked = resolved.settings;
  const std::int64_t origin = asked.origin.empty() ? series.rows - 1 : model::find_row(series, asked.origin);
  const std::int64_t L = first.settings.lookback, H = first.settings.horizon;
  model::require_lookback(series, options_of_prediction(first, settings, resolved), L, origin);
  audit(series, L, origin, console);

  Forecast f;
  for (const std::int32_t t : first.targets) f.columns.push_back(first.columns[static_cast<std::size_t>(t)]);
  const std::vector<model::Stamp> ahead = dates_ahead(first, settings, series, origin, H);
  std::vector<std::string>& dates = f.dates.emplace_back();
  for (std::int64_t h = 0; h < horizon; ++h) {
    dates.push_back(series.dates.empty() ? std::to_string(origin + 2 + h)
                                         : model::format_stamp(ahead[static_cast<std::size_t>(h)], series.date_format));
  }
  const std::vector<double> values = mean_forecast(runs, settings, series, origin, ahead, future, horizon, device);
  const std::vector<double> levels = levels_of(asked);
  for (const double level : levels) f.levels.push_back(level_name(level));
  const std::vector<double> widths = interval_widths(runs, series, origin, levels, asked.calibration, device, console);
  const Digits digits(asked.of<PredictSettings>());
  Forecast::Part& part = f.parts.emplace_back();
  part.origin = series.date(origin);
  const std::size_t T = f.columns.size();
  const auto deviation = [&](std::size_t t) { return first.scaler.std[static_cast<std::size_t>(first.targets[t])]; };
  for (std::size_t h = 0; h < f.steps(); ++h) {
    const double* const row = values.data() + h * T;
    for (std::size_t t = 0; t < T; ++t) part.texts.push_back(digits.text(row[t], deviation(t)));
    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t k = 0; k < levels.size(); ++k) {
        const double half = widths[(k * T + t) * static_cast<std::size_t>(H) + h];
        part.texts.push_back(digits.text(row[t] - half, deviation(t)));
        part.texts.push_back(digits.text(row[t] + half, deviation(t)));
      }
    }
  }
  if (!resolved.given("min")) warn_of_signs(f, first.targets, series, console);
  say_age(first, series, origin, console);
  return f;
}

Forecast in_long_form(const Forecast& wide, const std::string& values) {
  Forecast f;
  f.long_form = true;
  f.columns = {values};
  f.levels = wide.levels;
  f.dates = wide.dates;
  const Forecast::Part& all = wide.parts[0];
  for (std::size_t t = 0; t < wide.columns.size(); ++t) {
    Forecast::Part& part = f.parts.emplace_back();
    part.id = wide.columns[t];
    part.origin = all.origin;
    for (std::size_t h = 0; h < wide.steps(); ++h) {
      const std::string* const row = all.texts.data() + h * wide.width();
      part.texts.push_back(row[t]);
      part.texts.insert(part.texts.end(), row + wide.end_of(t, 0), row + wide.end_of(t, wide.levels.size()));
    }
  }
  return f;
}

std::string csv(const Forecast& f, const model::Series& series) {
  if (!f.long_form && !series.long_form.id.empty()) return csv(in_long_form(f, series.long_form.value), series);
  std::string text;
  const auto add = [&](const std::string& cell) {
    if (!text.empty() && text.back() != '\n') text += ',';
    text += csv_field(cell);
  };
  if (f.long_form) add(series.long_form.id);
  for (const model::Series::DatePart& part : series.date_parts) add(part.name);
  if (series.date_parts.empty()) add(f.long_form ? series.long_form.date : "date");
  for (const std::string& name : f.names()) add(name);
  text += '\n';
  for (const Forecast::Part& part : f.parts) {
    for (std::size_t h = 0; h < f.steps(); ++h) {
      const std::string& date = f.dates[part.dates][h];
      if (f.long_form) add(part.id);
      for (const std::string& cell : series.date_parts.empty() ? std::vector{date} : series.date_cells(date)) add(cell);
      for (std::size_t i = 0; i < f.width(); ++i) text += ',' + part.texts[h * f.width() + i];
      text += '\n';
    }
  }
  return text;
}

}  // namespace samformer::tools
