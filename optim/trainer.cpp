#include "optim/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/random.h"

namespace samformer::optim {
namespace {

constexpr std::uint32_t shuffle_stream = 1;
constexpr std::int64_t restart_period = 5;
constexpr double lowest_rate = 1e-6;
constexpr std::int64_t mixed_batch = 32;  // of the mixed validation loss, as in the authors' code

// Uniform in 0 .. bound-1 from 64 random bits; the bias is below bound / 2^64.
std::uint64_t bounded(std::uint64_t bits, std::uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(bits) * bound >> 64);
}

}  // namespace

double learning_rate(Schedule schedule, double lr, std::int64_t epoch) {
  if (schedule == Schedule::constant) return lr;
  if (schedule == Schedule::halve) return lr * std::pow(0.5, std::max<double>(0, static_cast<double>(epoch) - 1));
  if (schedule == Schedule::decay) return lr * std::pow(0.9, std::max<double>(0, static_cast<double>(epoch) - 3));
  const double phase = static_cast<double>(epoch % restart_period) / static_cast<double>(restart_period);
  return lowest_rate + (lr - lowest_rate) * (1 + std::cos(std::numbers::pi * phase)) / 2;
}

void shuffle(std::span<std::int32_t> starts, std::uint64_t seed, std::int64_t order) {
  for (std::size_t i = starts.size(); i-- > 1;) {
    const PhiloxBlock words = random_block(seed, shuffle_stream, static_cast<std::uint32_t>(order), i / 2);
    const std::size_t w = i % 2 * 2;
    const std::uint64_t bits = std::uint64_t{words[w]} << 32 | words[w + 1];
    std::swap(starts[i], starts[bounded(bits, i + 1)]);
  }
}

void fill_epoch(std::span<std::int32_t> order, std::span<const std::int32_t> starts, bool shuffled, std::uint64_t seed,
                std::int64_t epoch) {
  const std::size_t windows = starts.size(), orders = windows == 0 ? 0 : (order.size() + windows - 1) / windows;
  std::vector<std::int32_t> whole;
  for (std::size_t p = 0; p < orders; ++p) {
    whole.assign(starts.begin(), starts.end());
    if (shuffled) {
      shuffle(whole, seed, epoch * static_cast<std::int64_t>(orders) + static_cast<std::int64_t>(p));
    }
    const std::size_t first = p * windows, count = std::min(windows, order.size() - first);
    std::copy_n(whole.begin(), count, order.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

bool stops_early(const State& state, const TrainerSettings& settings) {
  return settings.patience > 0 && state.stale_epochs >= settings.patience;
}

bool done(const State& state, const TrainerSettings& settings) {
  return state.epoch >= settings.epochs || stops_early(state, settings);
}

Trainer::Trainer(const model::Model& model, const Problem& problem, std::span<const std::int32_t> train_starts,
                 std::span<const std::int32_t> val_starts, const TrainerSettings& settings, Device* device)
    : model_(model),
      problem_(&problem),
      train_starts_(train_starts),
      val_starts_(val_starts),
      settings_(settings),
      training_(model, settings.step),
      device_(device ? device->load(model_, problem, settings.step.center) : nullptr),
      evaluator_(model, settings.step.center, device_.get()),
      order_(train_starts.size()) {
  if (!train_starts.empty() && steps_per_epoch() < settings.epoch_steps) {
    order_.resize(static_cast<std::size_t>(settings.epoch_steps * settings.batch));
  }
}

std::int64_t Trainer::steps_per_epoch() const {
  return kernels::blocks_of(static_cast<std::int64_t>(order_.size()), settings_.batch);
}

void Trainer::run(Observer& observer) {
  while (!done()) {
    run_epoch(observer);
    ++state_.epoch;
    state_.step = 0;
    observer.steps_done();
    const EpochReport report = validate();
    state_.loss_sum = 0;
    if (report.selected) state_.tested = report;
    observer.epoch_ends(report);
  }
}

void Trainer::run_epoch(Observer& observer) {
  fill_epoch(order_, train_starts_, settings_.shuffle, settings_.seed, state_.epoch);
  const std::int64_t steps = steps_per_epoch();
  const double lr = learning_rate(settings_.schedule, settings_.lr, state_.epoch);
  observer.epoch_begins(state_.epoch + 1, steps);
  while (state_.step < steps) {
    const Action action = device_ ? run_steps_on_device(observer, lr) : run_steps(observer, lr);
    if (action == Action::go_on) continue;
    observer.save_state();
    if (action == Action::stop) {
      throw Error(Exit::interrupted,
                  fmt::format("interrupted in epoch {} after step {} of {}", state_.epoch + 1, state_.step, steps));
    }
  }
}

// The epoch's next steps, until its end or until the observer wants something done.
Action Trainer::run_steps(Observer& observer, double lr) {
  const std::int64_t L = model_.shape().L, steps = steps_per_epoch();
  while (state_.step < steps) {
    const std::size_t first = static_cast<std::size_t>(state_.step * settings_.batch);
    const auto batch = std::span<const std::int32_t>(order_).subspan(
        first, std::min(static_cast<std::size_t>(settings_.batch), order_.size() - first));
    const double loss = training_.step(problem_->windows(batch), problem_->truth(batch, L), lr).first;
    state_.loss_sum += loss * static_cast<double>(batch.size());
    ++state_.step;
    if (const Action action = observer.step_done(state_.step); action != Action::go_on) return action;
  }
  return Action::go_on;
}

Action Trainer::run_steps_on_device(Observer& observer, double lr) {
  bool stop = false;
  const auto queued = [&](std::int64_t step) { stop = observer.step_done(step) == Action::stop || stop; };
  state_.loss_sum += device_->train(training_, order_, state_.step, settings_.batch, lr, queued);
  state_.step = steps_per_epoch();
  return stop ? Action::stop : Action::go_on;
}

EpochReport Trainer::validate() {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  EpochReport report{state_.epoch,
                     learning_rate(settings_.schedule, settings_.lr, state_.epoch - 1),
                     state_.loss_sum / static_cast<double>(order_.size()),
                     none,
                     none,
                     none,
                     false};
  training_.check_weights();
  if (!val_starts_.empty()) {
    const ErrorSums errors = evaluator_.errors(training_.tested(), *problem_, val_starts_);
    report.val_mse = errors.mse();
    report.val_mae = errors.mae();
    if (!std::isfinite(report.val_mse)) {
      throw Error(Exit::diverged, fmt::format("training diverged by step {}: the validation error is {}",
                                              training_.steps(), report.val_mse))
          .hint("use a smaller --lr or --rho, and look at the series with `samformer data check`");
    }
    if (settings_.select_mixed) {
      report.val_mixed =
          evaluator_.mixed_loss(training_.tested(), *problem_, val_starts_, settings_.step.stats_mix, mixed_batch);
    }
  }
  const double score = settings_.select_mixed ? report.val_mixed : report.val_mse;
  const bool better = state_.best_epoch == 0 || score < state_.best_score;
  if (better) {
    state_.best_epoch = state_.epoch;
    state_.best_score = score;
    state_.stale_epochs = 0;
  } else {
    ++state_.stale_epochs;
  }
  report.selected = better || settings_.select_last || val_starts_.empty();
  return report;
}

}  // namespace samformer::optim
