#include "tools/run/automatic.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "core/io/sha256.h"
#include "core/text.h"
#include "optim/covariate_fit.h"
#include "optim/ridge.h"
#include "tools/report/page.h"
#include "tools/run/ensemble.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"
#include "tools/run/training.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view closed_forms[] = {"naive", "seasonal-naive", "weekly-naive", "ridge"};
constexpr std::string_view centred[] = {"samformer-mean", "samformer-last"};
constexpr std::int64_t few_validation_windows = 30;

bool is_closed(std::string_view name) { return std::ranges::find(closed_forms, name) != std::end(closed_forms); }

// Steps of a week, where the season is a day; else 0.
std::int64_t week_of(const Experiment& e) {
  const model::Step& step = e.series.step;
  return step.unit == model::StepUnit::second && step.count * e.season == 86400 ? 7 * e.season : 0;
}

// Steps that a naive member repeats; 0: it is none, or its period does not fit.
std::int64_t period_of(std::string_view name, const Experiment& e, std::int64_t lookback) {
  const std::int64_t period = name == "naive"            ? 1
                              : name == "seasonal-naive" ? e.season
                              : name == "weekly-naive"   ? week_of(e)
                                                         : 0;
  return period <= lookback ? period : 0;
}

// What a member is trained with: no choice, no refit yet, no test.
Settings member_settings(const Settings& settings, std::string_view name, kernels::Center center) {
  Settings s = is_closed(name)                                         ? with_model(settings, "linear")
               : std::ranges::find(centred, name) != std::end(centred) ? with_model(settings, "samformer")
                                                                       : with_model(settings, name);
  if (name == centred[1] || (is_closed(name) && center == kernels::Center::last)) s.center = "last";
  if (name == centred[0] || (is_closed(name) && center == kernels::Center::mean)) s.center = "mean";
  s.automatic = s.refit = s.tune = false;
  s.members.clear();
  s.no_test = true;
  return s;
}

// The rows up to `last` in closed form; nothing where they hold no window.
std::optional<ModelMember> closed_form(std::string_view name, const Settings& settings, const Experiment& e,
                                       const optim::Ridge& ridge, std::int64_t last) {
  const std::int64_t L = settings.lookback, H = settings.horizon;
  const model::Linear net({e.D(), L, H});
  const model::Model whole = linear_model(settings, e);
  if (name == "ridge") {
    std::vector<float> slab =
        optim::ridge_slab(net, e.problem(), model::unbroken(e.series, {e.splits.train.first, last}), ridge);
    if (slab.empty()) return std::nullopt;
    return ModelMember{std::string(name), member_settings(settings, name, ridge.center), whole, std::move(slab)};
  }
  const std::int64_t period = period_of(name, e, L);
  if (period == 0) return std::nullopt;
  const kernels::Center center = period == 1 ? kernels::Center::last : kernels::Center::mean;
  return ModelMember{std::string(name), member_settings(settings, name, center), whole,
                     optim::with_covariates(net, optim::repeating_slab(net, period), e.problem(), {})};
}

optim::ErrorSums errors_of(const ModelMember& member, const optim::Problem& problem,
                           std::span<const std::int32_t> starts, const ChosenDevice& device) {
  Ensemble one(problem, device);
  one.add(member.settings, member.model, member.slab);
  return one.errors(starts);
}

// Training rows and the validation rows after them.
struct Fold {
  Experiment experiment;
  std::vector<std::int32_t> starts;  // of the validation windows
};

std::vector<Fold> folds_of(const Experiment& e, const Settings& settings) {
  const std::int64_t L = settings.lookback, size = e.splits.val.size();
  std::vector<Fold> folds;
  for (std::int64_t k = 0; k <= 3; ++k) {
    Experiment fold = e;
    fold.splits.val = {e.splits.val.first - k * size, e.splits.val.last - k * size};
    fold.splits.train.last = fold.splits.val.first;
    if (fold.splits.val.first < L) break;
    auto starts = all_starts(fold, model::with_lookback(fold.splits.val, L), settings);
    if (starts.empty() || all_starts(fold, fold.splits.train, settings).empty()) continue;
    folds.push_back({std::move(fold), std::move(starts)});
    if (k == 0 && (e.panel || std::ssize(folds.back().starts) >= few_validation_windows)) break;
  }
  return folds;
}

// One row of the choice.
struct Candidate {
  std::string name;
  std::optional<ModelMember> member;  // fitted to the training rows
  double val_mse = std::numeric_limits<double>::quiet_NaN();
  bool chosen = false;
};

std::vector<std::string> members_of(const Settings& settings) {
  if (!settings.members.empty()) return settings.members;
  std::vector<std::string> names(std::begin(closed_forms), std::end(closed_forms));
  names.insert(names.end(), std::begin(centred), std::end(centred));
  return names;
}

ModelMember trained_member(const std::string& name, const fs::path& checkpoint) {
  Checkpoint c = read_checkpoint(checkpoint);
  return {name, std::move(c.settings), std::move(c.model), std::move(c.slab)};
}

class Choice {
 public:
  Choice(const fs::path& folder, const Settings& settings, const Experiment& e, const ChosenDevice& device,
         Console& console)
      : folder_(folder), settings_(settings), e_(e), device_(device), console_(console) {}

  // Trains and compares the members; marks those that are chosen.
  std::vector<Candidate> choose() {
    if (e_.too_few) return choose_naive();
    std::vector<Candidate> candidates;
    const std::vector<Fold> folds = folds_of(e_, settings_);
    if (folds.size() > 1) {
      console_.info(
          fmt::format("--auto: {} validation windows are few: members are compared over {} earlier blocks "
                      "too",
                      folds[0].starts.size(), folds.size() - 1));
    }
    const std::vector<std::string> names = members_of(settings_);
    train(names, folds);
    for (const std::string& name : names) {
      Candidate c{name, {}};
      double sum = 0;
      std::int64_t windows = 0;
      for (std::size_t k = 0; k < folds.size(); ++k) {
        std::optional<ModelMember> member = fit(name, folds[k].experiment, k);
        if (!member) continue;
        const double mse = errors_of(*member, folds[k].experiment.problem(), folds[k].starts, device_).mse();
        sum += mse * static_cast<double>(folds[k].starts.size());
        windows += std::ssize(folds[k].starts);
        if (k == 0) c.member = std::move(member);
      }
      if (!c.member) continue;
      c.val_mse = sum / static_cast<double>(windows);
      candidates.push_back(std::move(c));
    }
    mark_chosen(candidates);
    if (std::ranges::none_of(candidates, &Candidate::chosen)) {
      throw Error(Exit::diverged, "--auto: no member has a finite validation error").at(folder_.string());
    }
    return candidates;
  }

  // A chosen member fitted to all rows, of which `all` has the scale.
  ModelMember refit(const Candidate& candidate, const Experiment& all) {
    if (is_closed(candidate.name)) return *closed_form(candidate.name, settings_, all, ridge_, all.series.rows);
    const fs::path part = folder_ / part_of(candidate.name, 0);
    Settings s = member_settings(settings_, candidate.name, kernels::Center::mean);
    s.refit = true;
    fs::remove(part / "result.json");
    train_one(part, s, e_, device_, console_, true);
    return trained_member(candidate.name, part / "final.safetensors");
  }

  std::int64_t epochs() const { return epochs_; }

 private:
  void mark_chosen(std::vector<Candidate>& candidates) const {
    double lowest = std::numeric_limits<double>::infinity();
    for (const Candidate& c : candidates) lowest = c.val_mse < lowest ? c.val_mse : lowest;
    for (Candidate& c : candidates) c.chosen = c.val_mse <= lowest * (1 + settings_.within / 100);
  }

  // Too few rows to fit anything to: naive forecasts are not fitted, so that all rows compare them, at a horizon that
  // half of them are origins of.
  std::vector<Candidate> choose_naive() const {
    Settings shorter = settings_;
    shorter.horizon = std::clamp<std::int64_t>((e_.series.rows - settings_.lookback) / 2, 1, settings_.horizon);
    const std::vector<std::int32_t> starts = all_starts(e_, {0, e_.series.rows}, shorter);
    std::vector<Candidate> candidates;
    for (const char* name : {"seasonal-naive", "naive"}) {
      Candidate c{name, closed_form(name, settings_, e_, {}, 0)};
      if (!c.member) continue;
      if (!starts.empty()) {
        c.val_mse = errors_of(*closed_form(name, shorter, e_, {}, 0), e_.problem(), starts, device_).mse();
      }
      candidates.push_back(std::move(c));
    }
    mark_chosen(candidates);
    if (std::ranges::none_of(candidates, &Candidate::chosen)) candidates[0].chosen = true;
    std::vector<std::string> chosen;
    for (const Candidate& c : candidates) {
      if (c.chosen) chosen.push_back(c.name);
    }
    console_.warning(fmt::format("{} rows are too few to train and test a model at horizon {}: the forecast is {}{}",
                                 e_.series.rows, settings_.horizon, chosen.size() > 1 ? "the mean of " : "",
                                 join(chosen, " and ")));
    return candidates;
  }

  fs::path part_of(const std::string& name, std::size_t fold) const {
    return fmt::format("member-{}{}", name, fold > 0 ? fmt::format("-before-{}", fold) : "");
  }

  // The members that are trained, each on every fold's rows, into folders of their own.
  void train(const std::vector<std::string>& names, const std::vector<Fold>& folds) {
    std::vector<std::pair<std::string, std::size_t>> parts;
    for (const std::string& name : names) {
      for (std::size_t k = 0; k < folds.size() && !is_closed(name); ++k) parts.emplace_back(name, k);
    }
    std::vector<std::int64_t> epochs(parts.size());
    side_by_side(parts.size(), device_, [&](std::size_t i, bool alone) {
      const auto& [name, fold] = parts[i];
      const Settings s = member_settings(settings_, name, kernels::Center::mean);
      const fs::path part = make_folders(folder_, part_of(name, fold));
      console_.info(fmt::format("--auto: {}", name));
      Console own = console_.of_part(name);
      const Json result = train_one(part, s, folds[fold].experiment, device_, alone ? console_ : own,
                                    fs::exists(part / "state.safetensors"));
      epochs[i] = result["epochs_run"].get<std::int64_t>();
    });
    epochs_ = std::accumulate(epochs.begin(), epochs.end(), std::int64_t{0});
  }

  std::optional<ModelMember> fit(const std::string& name, const Experiment& e, std::size_t fold) {
    if (is_closed(name)) {
      // Of the whole comparison's rows, or of those before an earlier block.
      optim::Ridge ridge;
      if (name == "ridge") {
        const model::Linear net({e.D(), settings_.lookback, settings_.horizon});
        ridge = optim::choose_ridge(net, e.problem(), e.series, fold == 0 ? e.splits.val.last : e.splits.train.last);
        if (fold == 0) ridge_ = ridge;
      }
      return closed_form(name, settings_, e, ridge, e.splits.train.last);
    }
    return trained_member(name, folder_ / part_of(name, fold) / "best.safetensors");
  }

  const fs::path& folder_;
  const Settings& settings_;
  const Experiment& e_;
  const ChosenDevice& device_;
  Console& console_;
  optim::Ridge ridge_;
  std::int64_t epochs_ = 0;
};

}  // namespace

void check_automatic(const Settings& settings) {
  const auto refuse = [](const std::string& what) {
    throw Error(Exit::usage, "--auto: " + what).hint("samformer train --help says what its members are");
  };
  if (!settings.seeds.empty()) refuse("several --seeds cannot be given too");
  if (settings.tune) refuse("--tune cannot be given too");
  std::vector<std::string> known(std::begin(closed_forms), std::end(closed_forms));
  known.insert(known.end(), std::begin(centred), std::end(centred));
  for (const model::ModelRow& row : model::models()) known.emplace_back(row.name);
  std::vector<std::string> seen;
  for (const std::string& name : settings.members) {
    if (std::ranges::find(known, name) == known.end()) {
      refuse(fmt::format("no member is named '{}'; there are {}", name, join(known, ", ")));
    }
    if (std::ranges::find(seen, name) != seen.end()) refuse(fmt::format("'{}' is named twice", name));
    seen.push_back(name);
  }
}

Json train_automatic(const fs::path& folder, const Settings& settings, const Experiment& e, const ChosenDevice& device,
                     Console& console, bool resume) {
  if (resume && fs::exists(folder / "result.json")) fs::remove(folder / "result.json");
  const double begin = monotonic_seconds();
  remove_temporaries(folder);
  write_config(folder, settings);
  AppendFile log(folder / "log.txt");
  console.replay([&](std::string_view text) { log_line(log, text); });
  Choice choice(folder, settings, e, device, console);
  const std::vector<Candidate> candidates = choice.choose();
  const auto chosen = std::ranges::count_if(candidates, &Candidate::chosen);

  std::vector<ModelMember> members;
  Json selection = Json::array();
  for (const Candidate& c : candidates) {
    if (c.chosen) members.push_back(*c.member);
    selection.push_back({{"member", c.name},
                         {"val_mse", number_or_null(c.val_mse)},
                         {"chosen", c.chosen},
                         {"weight", c.chosen ? 1 / static_cast<double>(chosen) : 0.0}});
    log_line(log, fmt::format("{}: validation mse {}{}", c.name, selection.back()["val_mse"].dump(),
                              c.chosen ? ", chosen" : ""));
  }
  write_members(folder / "best.safetensors", settings, e, members,
                e.too_few ? model::Span{0, e.series.rows} : e.splits.train);
  const std::vector<Checkpoint> best = read_checkpoints(folder / "best.safetensors");

  Json result = describe("train", settings, e, best[0].model, device);
  describe_members(result, best);
  result["run_dir"] = folder.string();
  result["selection"] = selection;
  result["epochs_run"] = choice.epochs();
  result["best_epoch"] = 0;
  result["stopped_by"] = "members";
  result["train_loss"] = nullptr;
  const auto starts = [&](model::Span part) {
    return all_starts(e, model::with_lookback(part, settings.lookback), settings);
  };
  const optim::Problem problem = e.problem();
  result["val_mse"] =
      e.too_few ? Json(nullptr) : number_or_null(Ensemble(best, problem, device).errors(starts(e.splits.val)).mse());
  std::optional<Scores> scores;
  const std::vector<std::int32_t> test = e.too_few ? std::vector<std::int32_t>{} : starts(e.splits.test);
  if (!settings.no_test && !e.too_few) {
    scores = score(best, e, test, settings, device);
    const auto ridge = std::ranges::find(candidates, "ridge", &Candidate::name);
    if (ridge != candidates.end()) {
      scores->ridge = errors_of(*ridge->member, e.tested_problem(), test, device);
    }
    add_scores(result, *scores, e);
    add_intervals(result, best, e, test, settings, device);
  }
  if (settings.refit) {
    const Experiment all = refitted(e);
    std::vector<ModelMember> refitted;
    for (const Candidate& c : candidates) {
      if (c.chosen) refitted.push_back(choice.refit(c, all));
    }
    write_members(folder / "final.safetensors", settings, all, refitted, {0, all.series.rows});
  }
  result["seconds_training"] = monotonic_seconds() - begin;
  result["seconds_per_epoch"] = nullptr;
  result["peak_memory_bytes"] = peak_memory_bytes();
  if (scores) write_run_report(folder, result, folder / "metrics.jsonl", settings, e, best, test);
  write_config(folder, settings);  // somebody may have removed it meanwhile
  write_json(folder / "result.json", result);
  return result;
}

void describe_members(Json& document, std::span<const Checkpoint> members) {
  std::int64_t parameters = 0;
  Sha256 hash;
  document["members"] = Json::array();
  for (const Checkpoint& m : members) {
    document["members"].push_back(m.member);
    parameters += m.model.parameters().count();
    hash.update(bytes_of(m.member + m.sha256));
  }
  document["model"] = "auto";
  document["value"] = nullptr;
  document["parameters"] = parameters;
  document["weights_sha256"] = hash.hex();
}

void choose_member(std::vector<Checkpoint>& runs, const std::string& name) {
  if (name.empty()) return;
  std::vector<std::string> names;
  for (const Checkpoint& run : runs) {
    if (!run.member.empty()) names.push_back(run.member);
  }
  if (names.empty()) {
    throw Error(Exit::usage, fmt::format("--member {}: the run was not trained with --auto", name))
        .hint("leave --member out");
  }
  std::erase_if(runs, [&](const Checkpoint& run) { return run.member != name; });
  if (runs.empty()) {
    throw Error(Exit::usage, fmt::format("--member: the run's forecast has no '{}'", name))
        .hint(fmt::format("it is the mean of {}", join(names, ", ")));
  }
}

}  // namespace samformer::tools
