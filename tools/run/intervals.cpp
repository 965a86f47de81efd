#include "tools/run/intervals.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

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

// The last windows of each series, at most `most`, and evenly spaced ones of them where they are very many. `ended`: how
// many each has, which begin at `first` of all windows.
std::vector<std::size_t> pool_of(std::span<const std::size_t> first, std::span<const std::size_t> ended,
                                 std::int64_t most) {
  constexpr std::size_t enough = 100'000;
  std::vector<std::size_t> pool;
  for (std::size_t p = 0; p < first.size(); ++p) {
    const std::size_t end = first[p] + ended[p];
    for (std::size_t i = end - std::min(ended[p], static_cast<std::size_t>(most)); i < end; ++i) pool.push_back(i);
  }
  if (pool.size() > enough) {
    for (std::size_t i = 0; i < enough; ++i) pool[i] = pool[i * pool.size() / enough];
    pool.resize(enough);
  }
  return pool;
}

// [levels][H] of the scores [windows][H] of a pool that has enough for the levels, which rise.
std::vector<double> quantiles(std::span<const std::size_t> pool, std::span<const float> scores,
                              std::span<const double> levels, std::size_t H) {
  std::vector<double> widths(levels.size() * H);
  std::vector<float> of(pool.size());
  for (std::size_t h = 0; h < H; ++h) {
    for (std::size_t i = 0; i < pool.size(); ++i) of[i] = scores[pool[i] * H + h];
    for (std::size_t k = 0; k < levels.size(); ++k) widths[k * H + h] = optim::score_quantile(of, levels[k]);
  }
  return widths;
}

// The windows of a panel's rows after those of the training.
struct LaterWindows {
  LaterWindows(const model::Series& file, std::int64_t L, std::int64_t H, const PanelScale& scale,
               const model::Stamp* until)
      : e(panel_after_training(file, L, H, scale, until)) {
    for (const Panel::Piece& piece : e.panel->pieces) {
      const std::vector<std::int32_t> own = model::window_starts(e.series, piece.rows, L, H);
      first.push_back(starts.size());
      count.push_back(own.size());
      starts.insert(starts.end(), own.begin(), own.end());
    }
  }
  Experiment e;
  std::vector<std::int32_t> starts;
  std::vector<std::size_t> first, count;  // of each piece
};

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

std::vector<double> calibrate_panel(std::span<const Checkpoint> models, const model::Series& file,
                                    const model::Stamp* until, std::span<const double> levels, std::int64_t most,
                                    const ChosenDevice& device) {
  const CatchSignals catch_signals;
  const Checkpoint& run = models[0];
  const std::int64_t L = run.settings.lookback, H = run.settings.horizon;
  const LaterWindows later(file, L, H, *run.panel, until);
  std::vector<std::int32_t> starts;
  for (const std::size_t i : pool_of(later.first, later.count, most)) starts.push_back(later.starts[i]);
  const std::int64_t needed = optim::windows_for(levels.back());
  if (std::ssize(starts) < needed) {
    throw Error(Exit::data, fmt::format("{} windows of rows that the model was not trained on, {} are needed for an "
                                        "interval of {} %",
                                        starts.size(), needed, level_name(levels.back())))
        .at(file.path)
        .hint("give longer series, a lower level, or train with a larger validation part");
  }
  const optim::Problem problem = later.e.problem();
  std::vector<float> scores;
  for_each_forecast(Ensemble(models, problem, device), problem, L, starts,
                    [&](std::int32_t start, const auto& forecast, const auto& scales) {
                      const auto own = optim::scores_of(optim::window_errors(problem, start, L, H, forecast), scales);
                      scores.insert(scores.end(), own.begin(), own.end());
                    });
  std::vector<std::size_t> pool(starts.size());
  std::iota(pool.begin(), pool.end(), 0);
  return quantiles(pool, scores, levels, static_cast<std::size_t>(H));
}

namespace {

IntervalScores score_panel(std::span<const Checkpoint> runs, const Experiment& e, std::span<const std::int32_t> starts,
                           std::span<const double> levels, std::int64_t most, const ChosenDevice& device,
                           std::vector<float>* halves) {
  const std::int64_t L = runs[0].settings.lookback, H = runs[0].settings.horizon;
  const auto steps = static_cast<std::size_t>(H);
  const LaterWindows later(e.panel->file, L, H, *runs[0].panel, nullptr);
  const std::vector<model::Stamp>& dates = later.e.series.dates;
  const auto origin = [&](std::size_t i) -> const model::Stamp& {
    return dates[static_cast<std::size_t>(later.starts[i] + L - 1)];
  };
  const auto end = [&](std::size_t i) -> const model::Stamp& {
    return dates[static_cast<std::size_t>(later.starts[i] + L + H - 1)];
  };
  // By its row of the file each window is found again.
  const auto row_of = [](const Panel& panel, std::int32_t start) {
    const Panel::Piece& piece = panel.piece_at(start);
    return start - piece.rows.first + piece.source;
  };
  std::unordered_map<std::int64_t, std::size_t> by_row;
  std::vector<std::size_t> piece_of, by_end(later.starts.size());
  for (std::size_t p = 0; p < later.first.size(); ++p) piece_of.insert(piece_of.end(), later.count[p], p);
  for (std::size_t i = 0; i < later.starts.size(); ++i) {
    by_end[i] = i;
    by_row.emplace(row_of(*later.e.panel, later.starts[i]), i);
  }
  struct Scored {
    std::size_t window, asked;  // of `later`, of `starts`
  };
  std::vector<Scored> scored;
  for (std::size_t n = 0; n < starts.size(); ++n) {
    const auto found = by_row.find(row_of(*e.panel, starts[n]));
    if (found != by_row.end()) scored.push_back({found->second, n});
  }
  const auto earlier = [](const model::Stamp& a, const model::Stamp& b) { return model::compare(a, b) < 0; };
  std::ranges::stable_sort(by_end, earlier, end);
  std::ranges::stable_sort(scored, earlier, [&](const Scored& s) -> const model::Stamp& { return origin(s.window); });

  const optim::Problem problem = later.e.problem();
  const std::vector<float> sigmas = optim::window_scales(problem, later.starts, L);
  const optim::IntervalSums none = optim::IntervalSums::empty(problem, H, levels);
  IntervalScores result{none, none, std::vector<optim::IntervalSums>(e.panel->file.panel.size(), none)};
  if (halves) {
    halves->assign(starts.size() * levels.size() * steps, std::numeric_limits<float>::infinity());
  }
  const auto roll = [&](const std::vector<float>& scores, bool model) {
    std::vector<std::size_t> ended(later.first.size());
    std::size_t next = 0;
    std::vector<double> widths, errors(steps), own;
    for (std::size_t s = 0; s < scored.size(); ++s) {
      const std::size_t i = scored[s].window;
      if (s == 0 || model::compare(origin(scored[s - 1].window), origin(i)) != 0) {
        for (; next < by_end.size() && model::compare(end(by_end[next]), origin(i)) <= 0; ++next) {
          ++ended[piece_of[by_end[next]]];
        }
        const std::vector<std::size_t> pool = pool_of(later.first, ended, most);
        widths.clear();
        if (std::ssize(pool) >= optim::windows_for(levels.back())) widths = quantiles(pool, scores, levels, steps);
      }
      if (widths.empty()) continue;
      const auto sigma = static_cast<double>(sigmas[i]);
      for (std::size_t h = 0; h < steps; ++h) errors[h] = static_cast<double>(scores[i * steps + h]) * sigma;
      own.clear();
      for (const double width : widths) own.push_back(width * sigma);
      (model ? result.model : result.naive).add(errors, own);
      if (!model) continue;
      result.series[static_cast<std::size_t>(later.e.panel->pieces[piece_of[i]].member)].add(errors, own);
      if (halves) std::ranges::copy(own, halves->begin() + static_cast<std::ptrdiff_t>(scored[s].asked * own.size()));
    }
  };
  std::vector<float> scores;
  scores.reserve(later.starts.size() * steps);
  const auto add = [&](std::int32_t start, std::span<const double> forecast, std::span<const float> scales) {
    const auto own = optim::scores_of(optim::window_errors(problem, start, L, H, forecast), scales);
    scores.insert(scores.end(), own.begin(), own.end());
  };
  for_each_forecast(Ensemble(runs, problem, device), problem, L, later.starts, add);
  roll(scores, true);
  scores.clear();
  const std::int64_t season = has_season(e, L) ? e.season : 1;
  for (std::size_t i = 0; i < later.starts.size(); ++i) {
    add(later.starts[i], optim::repeated_forecast(problem, later.starts[i], L, H, season), {&sigmas[i], 1});
  }
  roll(scores, false);
  return result;
}

}  // namespace

IntervalScores score_intervals(std::span<const Checkpoint> runs, const Experiment& e,
                               std::span<const std::int32_t> starts, std::span<const double> levels, std::int64_t most,
                               const ChosenDevice& device, std::vector<float>* halves) {
  const CatchSignals catch_signals;
  if (e.panel) return score_panel(runs, e, starts, levels, most, device, halves);
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
  for (std::size_t k = 0; k < scores.series.size(); ++k) {
    const optim::IntervalSums& own = scores.series[k];
    if (own.windows == 0) continue;
    Json of = {{"id", e.panel->file.panel[k].id}, {"windows", own.windows}};
    of.update(means(own, 0, 1, 0, H));
    result["per_series"].push_back(std::move(of));
  }
  if (!e.panel) result["per_channel"] = Json::array();
  for (std::int64_t t = 0; t < T && !e.panel; ++t) {
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
