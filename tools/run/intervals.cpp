#include "tools/run/intervals.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "optim/baselines.h"
#include "optim/conformal.h"
#include "tools/cli/signals.h"
#include "tools/cli/text_format.h"
#include "tools/run/ensemble.h"
#include "tools/run/result.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

// Calls `visit(start, forecast [targets][H], scales [targets])` for each window.
template <class Visit>
void for_each_forecast(const Ensemble& models, const optim::Problem& problem, std::int64_t L,
                       std::span<const std::int32_t> starts, const Visit& visit) {
  models.for_batches(starts, [&](const auto& batch, const std::vector<double>& forecasts) {
    const std::size_t targets = problem.targets.size(), outputs = forecasts.size() / batch.size();
    const std::vector<float> scales = optim::window_scales(problem, batch, L);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      visit(batch[i], std::span(forecasts).subspan(i * outputs, outputs),
            std::span(scales).subspan(i * targets, targets));
    }
  });
}

// Targets whose scores of so many windows are held at a time: 256 MiB of them, in order and sorted.
std::size_t block_of_targets(std::int64_t windows, std::int64_t H) {
  return static_cast<std::size_t>(std::max<std::int64_t>((std::int64_t{1} << 25) / (windows * H), 1));
}

// visit(problem of the targets [t0, t1), t0) for blocks of them.
template <class Visit>
void for_each_block(const optim::Problem& problem, std::size_t block, const Visit& visit) {
  const std::size_t targets = problem.targets.size();
  for (std::size_t t = 0; t < targets; t += block) {
    optim::Problem part = problem;
    part.targets = problem.targets.subspan(t, std::min(block, targets - t));
    if (!problem.left_out.empty()) part.left_out = problem.left_out.subspan(t, part.targets.size());
    visit(part, t);
  }
}

Json means(const optim::IntervalSums& sums, std::int64_t t0, std::int64_t t1, std::int64_t h0, std::int64_t h1) {
  const auto mean = [&](const std::vector<double>& of) { return sums.mean(of, t0, t1, h0, h1); };
  Json levels = Json::array();
  for (const optim::IntervalSums::Level& l : sums.levels) {
    levels.push_back(
        {{"level", 100 * l.level}, {"cover", mean(l.covered)}, {"width", mean(l.width)}, {"winkler", mean(l.winkler)}});
  }
  return {{"levels", levels}, {"wis", mean(sums.wis)}};
}

}  // namespace

std::vector<double> levels_of(const Settings& settings) {
  std::vector<double> levels;
  for (const std::string& word : settings.intervals) {
    double percent = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), percent);
    if (error != std::errc() || end != word.data() + word.size() || !(percent > 0 && percent < 100)) {
      throw Error(Exit::usage, fmt::format("--intervals: '{}' is no percentage between 0 and 100", word))
          .hint("like --intervals 80,95");
    }
    levels.push_back(percent / 100);
  }
  std::ranges::sort(levels);
  if (std::ranges::adjacent_find(levels, {}, level_name) != levels.end()) {  // columns are named so
    throw Error(Exit::usage, "--intervals names a level twice");
  }
  if (!levels.empty() && optim::windows_for(levels.back()) > settings.calibration) {
    throw Error(Exit::usage, fmt::format("--calibration {}: an interval of {} % needs {} windows", settings.calibration,
                                         level_name(levels.back()), optim::windows_for(levels.back())));
  }
  return levels;
}

std::string level_name(double level) { return fmt::format("{:.6g}", 100 * level); }

std::int64_t first_unseen_row(const Checkpoint& run, const model::Series& series) {
  const bool last = run.path.filename() == "final.safetensors";
  const auto until = model::read_date(series, run.trained_until);
  if (!series.dates.empty() && !run.trained_until.empty() && until) {
    const auto later = [&](const model::Stamp& date) { return model::compare(date, *until) > 0; };
    return std::ranges::find_if(series.dates, later) - series.dates.begin();
  }
  if (series.sha256 != run.data_sha256) return 0;
  return last ? series.rows : run.splits.train.last;
}

std::vector<Checkpoint> calibration_models(std::span<const Checkpoint> runs) {
  if (runs[0].path.filename() != "final.safetensors") return {runs.begin(), runs.end()};
  std::vector<Checkpoint> models;
  for (const Checkpoint& run : runs) {
    const fs::path best = run.path.parent_path() / "best.safetensors";
    if (!fs::exists(best)) {
      throw Error(Exit::data, fmt::format("intervals are calibrated with weights that did not see the last rows: no {}",
                                          best.string()))
          .at(run.path.string())
          .hint("give the run's folder, with best.safetensors in it");
    }
    for (Checkpoint& model : read_checkpoints(best)) {
      if (model.member == run.member) models.push_back(std::move(model));
    }
  }
  return models;
}

std::vector<std::int32_t> calibration_windows(const Checkpoint& run, const model::Series& series, std::int64_t origin,
                                              std::int64_t most) {
  const std::int64_t L = run.settings.lookback, H = run.settings.horizon, first = first_unseen_row(run, series);
  std::vector<std::int32_t> starts =
      model::window_starts(series, {std::max<std::int64_t>(first - L, 0), origin + 1}, L, H);
  // `predict` accepts missing values before its look-back.
  std::vector<std::int64_t> missing(static_cast<std::size_t>(series.rows) + 1);
  for (std::int64_t t = 0; t < series.rows; ++t) {
    bool any = false;
    for (std::int64_t d = 0; d < series.width(); ++d) any |= std::isnan(series.channel(d)[static_cast<std::size_t>(t)]);
    missing[static_cast<std::size_t>(t) + 1] = missing[static_cast<std::size_t>(t)] + (any ? 1 : 0);
  }
  std::erase_if(starts, [&](std::int32_t s) {
    return missing[static_cast<std::size_t>(s + L + H)] != missing[static_cast<std::size_t>(s)];
  });
  if (std::ssize(starts) > most) starts.erase(starts.begin(), starts.end() - most);
  return starts;
}

std::vector<double> calibrate(std::span<const Checkpoint> models, const model::Series& series, std::int64_t origin,
                              std::span<const double> levels, std::int64_t most, const ChosenDevice& device) {
  const CatchSignals catch_signals;
  const Checkpoint& run = models[0];
  const std::int64_t L = run.settings.lookback, H = run.settings.horizon;
  const auto T = run.targets.size(), steps = static_cast<std::size_t>(H);
  const std::vector<std::int32_t> starts = calibration_windows(run, series, origin, most);
  const std::int64_t needed = optim::windows_for(levels.back());
  if (std::ssize(starts) < needed) {
    throw Error(Exit::data, fmt::format("{} windows of rows that the model was not trained on, {} are needed for an "
                                        "interval of {} %",
                                        starts.size(), needed, level_name(levels.back())))
        .at(series.path)
        .hint(
            "give a file with more rows after those of the training, a lower level, or train with a larger "
            "validation part");
  }
  const model::MarkedValues marked = values_of(series, run.scaler, basis_for(run, run.settings, series));
  const optim::Problem whole = marked.problem(run.targets);
  const std::int32_t last[] = {static_cast<std::int32_t>(origin + 1 - L)};
  std::vector<double> widths(levels.size() * T * steps);
  for_each_block(whole, block_of_targets(std::ssize(starts), H), [&](const optim::Problem& problem, std::size_t t0) {
    const std::size_t outputs = problem.targets.size() * steps;
    optim::ConformalScores scores(outputs, starts.size());
    const Ensemble together(models, problem, device);
    for_each_forecast(together, problem, L, starts, [&](std::int32_t start, const auto& forecast, const auto& scales) {
      std::vector<float> window = optim::scores_of(optim::window_errors(problem, start, L, H, forecast), scales);
      if (!std::ranges::all_of(window, [](float score) { return std::isfinite(score); })) {
        throw Error(Exit::diverged,
                    fmt::format("--intervals: the forecast from {} overflows", series.date(start + L - 1)))
            .at(run.path.string())
            .hint("look at the rows before with `samformer data check`, or take fewer windows: --calibration");
      }
      scores.add(std::move(window));
    });
    const std::vector<float> scales = optim::window_scales(problem, last, L);
    for (std::size_t k = 0; k < levels.size(); ++k) {
      for (std::size_t i = 0; i < outputs; ++i) {
        const double deviation = run.scaler.std[static_cast<std::size_t>(problem.targets[i / steps])];
        widths[(k * T + t0) * steps + i] =
            scores.quantile(i, levels[k]) * static_cast<double>(scales[i / steps]) * deviation;
      }
    }
  });
  return widths;
}

IntervalScores score_intervals(std::span<const Checkpoint> runs, const Experiment& e,
                               std::span<const std::int32_t> starts, std::span<const double> levels, std::int64_t most,
                               const ChosenDevice& device, std::vector<float>* halves) {
  const CatchSignals catch_signals;
  const Settings& settings = runs[0].settings;
  const std::int64_t L = settings.lookback, H = settings.horizon;
  // Those before the first forecast: the last `most` that had ended, the ones that had not, and all up to the last.
  const std::int64_t first =
      std::min<std::int64_t>(std::max<std::int64_t>(first_unseen_row(runs[0], e.series) - L, 0), starts.front());
  std::vector<std::int32_t> all = model::window_starts(e.series, {first, starts.back() + L + H}, L, H);
  const auto before = std::ranges::lower_bound(all, starts.front()) - all.begin();
  all.erase(all.begin(), all.begin() + std::max<std::ptrdiff_t>(before - (most + H), 0));
  const std::int64_t season = has_season(e, L) ? e.season : 1;
  if (halves) halves->clear();
  IntervalScores scores;
  const std::size_t block = halves ? e.targets.size() : block_of_targets(most, H);
  for_each_block(e.tested_problem(), block, [&](const optim::Problem& problem, std::size_t) {
    {  // one after the other: each holds two copies of its scores
      optim::RollingIntervals rolling(problem, L, H, levels, most);
      for_each_forecast(Ensemble(runs, problem, device), problem, L, all,
                        [&](std::int32_t start, const auto& forecast, const auto& scales) {
                          const bool scored = std::ranges::binary_search(starts, start);
                          rolling.add(start, forecast, scales, scored);
                          if (halves && scored) {
                            halves->insert(halves->end(), rolling.halves().begin(), rolling.halves().end());
                          }
                        });
      scores.model.append(rolling.sums());
    }
    optim::RollingIntervals rolling(problem, L, H, levels, most);
    for (const std::int32_t start : all) {
      rolling.add(start, optim::repeated_forecast(problem, start, L, H, season),
                  optim::window_scales(problem, {&start, 1}, L), std::ranges::binary_search(starts, start));
    }
    scores.naive.append(rolling.sums());
  });
  return scores;
}

Json interval_document(const IntervalScores& scores, const Experiment& e, std::int64_t lookback, std::int64_t most) {
  const optim::IntervalSums& model = scores.model;
  if (model.windows == 0) return nullptr;
  const std::int64_t T = static_cast<std::int64_t>(e.targets.size()), H = model.H;
  const auto document = [&](const optim::IntervalSums& sums) {
    Json of = means(sums, 0, T, 0, H);
    of["pinball"] = of["wis"].get<double>() / 2;
    return of;
  };
  Json result = {{"calibration", most}, {"windows", model.windows}};
  result.update(document(model));
  const std::vector<std::string> names = e.target_names();
  result["per_channel"] = Json::array();
  for (std::int64_t t = 0; t < T; ++t) {
    Json of = {{"name", names[static_cast<std::size_t>(t)]}};
    of.update(means(model, t, t + 1, 0, H));
    result["per_channel"].push_back(std::move(of));
  }
  result["per_step"] = Json::array();
  for (std::int64_t h = 0; h < H; ++h) {
    Json of = {{"step", h + 1}};
    of.update(means(model, 0, T, h, h + 1));
    result["per_step"].push_back(std::move(of));
  }
  result[has_season(e, lookback) ? "seasonal_naive" : "naive"] = document(scores.naive);
  return result;
}

std::string too_few_for_intervals(std::span<const double> levels) {
  return fmt::format("no window has the {} before it that an interval of {} % needs", optim::windows_for(levels.back()),
                     level_name(levels.back()));
}

void add_intervals(Json& document, std::span<const Checkpoint> runs, const Experiment& experiment,
                   std::span<const std::int32_t> starts, const Settings& settings, const ChosenDevice& device) {
  const std::vector<double> levels = levels_of(settings);
  if (levels.empty()) return;
  document["intervals"] =
      interval_document(score_intervals(runs, experiment, starts, levels, settings.calibration, device), experiment,
                        settings.lookback, settings.calibration);
}

}  // namespace samformer::tools
