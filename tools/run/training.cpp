#include "tools/run/training.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <system_error>
#include <thread>

#include "optim/covariate_fit.h"
#include "tools/report/page.h"
#include "tools/run/intervals.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"
#include "tools/run/watch.h"

namespace samformer::tools {
namespace fs = std::filesystem;

void side_by_side(std::size_t count, const ChosenDevice& device,
                  const std::function<void(std::size_t i, bool alone)>& work) {
  const int threads = omp_get_max_threads();
  const int at_once = device.gpu || watch ? 1 : std::min(threads, static_cast<int>(count));
  if (at_once <= 1) {
    for (std::size_t i = 0; i < count; ++i) work(i, true);
    return;
  }
  std::vector<std::exception_ptr> failures(count);
  std::atomic<std::size_t> next = 0;
  const auto take_turns = [&] {
    omp_set_num_threads(threads / at_once);  // of this thread alone
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i, false);
      } catch (...) {
        failures[i] = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> workers;
    try {
      for (int i = 1; i < at_once; ++i) {
        workers.emplace_back([&, inputs = never_replaced()] {
          never_replaced() = inputs;
          take_turns();
        });
      }
    } catch (const std::system_error&) {
      // The system gives no more threads: those there are do it.
    }
    take_turns();
  }
  omp_set_num_threads(threads);
  const auto failed = std::ranges::find_if(failures, [](const std::exception_ptr& e) { return e != nullptr; });
  if (failed != failures.end()) std::rethrow_exception(*failed);
}

fs::path seed_folder(const fs::path& folder, std::uint64_t seed) { return folder / fmt::format("seed-{}", seed); }

bool finished(const fs::path& folder, const Settings& settings) {
  if (!fs::exists(folder / "result.json")) return false;
  const Settings before = read_run_settings(folder);
  if (before.epochs == settings.epochs && before.patience == settings.patience) return true;
  if (settings.tune || settings.automatic) return false;  // another candidate may have epochs to go
  if (settings.seeds.empty()) return training_done(folder, settings);
  Settings one = settings;
  one.seeds.clear();
  return std::ranges::all_of(settings.seeds, [&](auto seed) { return finished(seed_folder(folder, seed), one); });
}

std::vector<std::int32_t> all_starts(const Experiment& e, model::Span rows, const Settings& settings) {
  return model::window_starts(e.series, rows, settings.lookback, settings.horizon);
}

Json train_one(const fs::path& folder, const Settings& settings, const Experiment& experiment,
               const ChosenDevice& device, Console& console, bool resume, const Json& tuned) {
  if (resume && finished(folder, settings)) {
    console.info(fmt::format("{} is finished: its stored result", folder.string()));
    return read_result(folder, false);
  }
  const model::Model model = make_model(settings, experiment);
  const bool goes_on = resume && fs::exists(folder / "state.safetensors");
  std::vector<float> first_weights;  // before anything is written
  if (!settings.weights_from.empty() && (!goes_on || settings.refit)) {
    first_weights = read_weights(model, settings.weights_from);
  }
  // The map of covariates begins with its fit in closed form to the rows `of`: a thousand steps would not bring it there.
  const auto begin = [&](optim::Training<float>& training, const optim::Problem& problem, model::Span of) {
    initialise(training, model, settings);
    if (!first_weights.empty()) {
      std::ranges::copy(first_weights, training.weights().begin());
    } else if (model.covariates() > 0 && model.has_revin()) {
      const std::vector<float> map =
          optim::fit_covariates(problem, model::unbroken(experiment.series, of), settings.lookback, settings.horizon);
      std::ranges::copy(map, training.weights().begin());
    } else {
      return;
    }
    training.start_average();
  };
  remove_temporaries(folder);
  fs::remove(folder / "result.json");
  write_config(folder, settings);
  const optim::Problem problem = experiment.problem();
  const auto train_starts = all_starts(experiment, experiment.splits.train, settings);
  const auto val_starts =
      all_starts(experiment, model::with_lookback(experiment.splits.val, settings.lookback), settings);
  RunFolder run(folder, settings, experiment, model, console, resume);
  try {
    console.info(fmt::format("{}: {} windows of {} + {} steps, {} parameters, device {}, {} threads", folder.string(),
                             train_starts.size(), settings.lookback, settings.horizon, model.parameters().count(),
                             device.gpu ? fmt::format("{} ({})", device.name, device.gpu->description()) : device.name,
                             omp_get_max_threads()));
    optim::Trainer trainer(model, problem, train_starts, val_starts, trainer_settings(settings), device.gpu.get());
    begin(trainer.training(), problem, experiment.splits.train);
    run.train(trainer);

    const Checkpoint best = read_checkpoint(folder / "best.safetensors");
    const auto test_starts =
        all_starts(experiment, model::with_lookback(experiment.splits.test, settings.lookback), settings);
    const optim::State& state = trainer.state();
    Json result = describe("train", settings, experiment, model, device);
    result["run_dir"] = folder.string();
    result["epochs_run"] = state.epoch;
    result["best_epoch"] = state.tested.epoch;
    result["stopped_by"] = trainer.stopped_by();
    const bool improving =
        trainer.stopped_by() == "epochs" && state.best_epoch == state.epoch && settings.select != "last";
    result["still_improving"] = improving;
    if (improving) {
      console.warning(fmt::format("still improving when it ended: epoch {} of {} is the best one; --epochs {}",
                                  state.epoch, state.epoch, 2 * state.epoch));
    }
    result["train_loss"] = number_or_null(state.tested.train_loss);
    result["val_mse"] = number_or_null(state.tested.val_mse);
    if (settings.select_by == "mixed") result["val_mse_mixed"] = number_or_null(state.tested.val_mixed);
    if (!settings.no_test) {
      add_scores(result, score({&best, 1}, experiment, test_starts, settings, device), experiment);
      add_intervals(result, {&best, 1}, experiment, test_starts, settings, device);
    }
    if (!tuned.is_null()) result["tune"] = tuned;
    result["seconds_training"] = run.seconds_training();
    result["seconds_per_epoch"] = number_or_null(run.seconds_per_epoch());
    result["peak_memory_bytes"] = peak_memory_bytes();
    result["weights_sha256"] = best.sha256;

    if (settings.refit) {
      const Experiment all = refitted(experiment);
      const auto starts = all_starts(all, {0, all.series.rows}, settings);
      optim::TrainerSettings refit = trainer_settings(settings);
      refit.epochs = state.tested.epoch;
      refit.patience = 0;
      const optim::Problem every_row = all.problem();
      optim::Trainer again(model, every_row, starts, {}, refit, device.gpu.get());
      begin(again.training(), every_row, {0, all.series.rows});
      console.info(fmt::format("refit on all {} rows for {} epochs", all.series.rows, refit.epochs));
      run.refit(again, all);
    }
    if (!settings.no_test)
      write_run_report(folder, result, folder / "metrics.jsonl", settings, experiment, {&best, 1}, test_starts);
    write_json(folder / "result.json", result);
    return result;
  } catch (const Error& e) {
    try {
      console.log(fmt::format("error: {}", e.what()));
    } catch (const Error&) {
      // The log cannot be written either: the first error is the one to report.
    }
    throw;
  }
}

Json tune(const fs::path& folder, const Settings& settings, const Experiment& experiment, const ChosenDevice& device,
          Console& console, bool resume) {
  if (resume && finished(folder, settings)) return train_one(folder, settings, experiment, device, console, resume);
  // An earlier result is not that of what is copied here below.
  fs::remove(folder / "result.json");
  write_config(folder, settings);
  constexpr double least_share = 0.02;
  constexpr std::pair<const char*, double> candidates[] = {{"mean", 0}, {"mean", 0.5}, {"last", 0}, {"last", 0.25}};
  std::vector<Settings> tried;
  for (const auto& [center, stats_mix] : candidates) {
    // lambda_H of --stats-mix-step, for its own 0 and 1 too.
    const double H = static_cast<double>(settings.horizon), K = settings.stats_mix_step;
    const double share = stats_mix * H * H / (stats_mix * H * H + (1 - stats_mix) * K * K);
    if (stats_mix > 0 && share < least_share) {
      console.info(
          fmt::format("--tune: --center {} --stats-mix {} is left out: at step {} its share is {:.1f} %, as "
                      "good as none",
                      center, stats_mix, settings.horizon, 100 * share));
      continue;
    }
    Settings& candidate = tried.emplace_back(settings);
    candidate.center = center;
    candidate.stats_mix = stats_mix;
    candidate.no_test = true;
    candidate.tune = candidate.refit = false;
  }
  const auto name_of = [](const Settings& s) { return fmt::format("tune-{}-{}", s.center, s.stats_mix); };
  std::vector<double> errors(tried.size(), std::numeric_limits<double>::infinity());
  Json rows(tried.size(), Json());
  side_by_side(tried.size(), device, [&](std::size_t i, bool alone) {
    const Settings& candidate = tried[i];
    const fs::path part = make_folders(folder, name_of(candidate));
    Console own = console.of_part(name_of(candidate));
    const Json result =
        train_one(part, candidate, experiment, device, alone ? console : own, fs::exists(part / "state.safetensors"));
    rows[i] = {{"center", candidate.center}, {"stats_mix", candidate.stats_mix}, {"val_mse", result["val_mse"]}};
    if (result["val_mse"].is_number()) errors[i] = result["val_mse"];
  });
  const auto lowest = std::ranges::min_element(errors);
  if (lowest == errors.end() || *lowest == std::numeric_limits<double>::infinity()) {
    throw Error(Exit::internal, "--tune: no candidate has a validation error").at(folder.string());
  }
  Settings chosen = settings;
  const Settings& winner = tried[static_cast<std::size_t>(lowest - errors.begin())];
  chosen.center = winner.center;
  chosen.stats_mix = winner.stats_mix;
  const fs::path best = folder / name_of(winner);
  console.info(fmt::format("--tune: --center {} --stats-mix {} has the lowest validation error, {:.5f}", chosen.center,
                           chosen.stats_mix, *lowest));
  for (const char* name :
       {"metrics.jsonl", "log.txt", "events.out.tfevents.samformer", "best.safetensors", "state.safetensors"}) {
    if (fs::exists(best / name)) copy_atomic(best / name, folder / name);
  }
  const Json tuned = {{"center", chosen.center}, {"stats_mix", chosen.stats_mix}, {"candidates", rows}};
  return train_one(folder, chosen, experiment, device, console, true, tuned);
}

}  // namespace samformer::tools
