// The training loop: shuffled epochs of SAM steps, validation after each, early stopping, the best epoch's weights.
//
// An epoch goes through the windows in a new order; where that makes fewer than `epoch_steps` batches, it goes on with
// the next orders until it has so many, all full.
// Learning rate of epoch e (from 0): cosine-restart 1e-6 + (lr - 1e-6)(1 + cos(pi (e mod 5) / 5)) / 2; constant; halve
// lr 0.5^max(0, e - 1), Informer's `type1`; decay lr 0.9^max(0, e - 3), PatchTST's `type3`.
// Order p of epoch e: Fisher-Yates, Philox stream 1, counter e * orders + p: the same after a resume. A last short batch is
// kept. What files, clocks and signals do is the Observer's business. A State holds all that the rest of a training
// depends on: restored, it continues to the same bits.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "optim/device_model.h"

namespace samformer::optim {

enum class Schedule { cosine_restart, constant, halve, decay };
double learning_rate(Schedule schedule, double lr, std::int64_t epoch);
// Order number `order` (from 0) of `starts`.
void shuffle(std::span<std::int32_t> starts, std::uint64_t seed, std::int64_t order);
// The windows of epoch `epoch` (from 0): the next orders of `starts`, the last one cut, until `order` is full. Without
// `shuffled` as they are.
void fill_epoch(std::span<std::int32_t> order, std::span<const std::int32_t> starts, bool shuffled, std::uint64_t seed,
                std::int64_t epoch);

struct TrainerSettings {
  StepSettings step;
  Schedule schedule = Schedule::cosine_restart;
  double lr = 1e-3;
  std::int64_t batch = 32;
  bool shuffle = true;  // the windows, each epoch
  std::int64_t epochs = 100;
  std::int64_t epoch_steps = 1;  // at least
  std::int64_t patience = 5;     // epochs without improvement before stopping; 0: never
  bool select_last = false;      // test the last epoch's weights, not the best one's
  bool select_mixed = false;     // rank epochs by the mixed validation loss over batches of 32 consecutive windows
  std::uint64_t seed = 1;
};

struct EpochReport {
  std::int64_t epoch = 0;  // from 1
  double lr = 0;
  double train_loss = 0;  // mean loss of the first passes, over windows
  double val_mse = 0;     // NaN without validation windows
  double val_mae = 0;
  double val_mixed = 0;   // NaN unless epochs are ranked by it
  bool selected = false;  // these weights are now the ones to test
};

struct State {
  std::int64_t epoch = 0;  // epochs completed
  std::int64_t step = 0;   // steps completed of the next one
  double loss_sum = 0;     // of those steps, weighted by windows
  std::int64_t best_epoch = 0;
  double best_score = 0;
  std::int64_t stale_epochs = 0;  // since the best one
  EpochReport tested;             // of the selected weights
};

// Nothing is left to do: all epochs, or `patience` epochs without a better one.
bool stops_early(const State& state, const TrainerSettings& settings);
bool done(const State& state, const TrainerSettings& settings);

enum class Action { go_on, save, stop };

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void epoch_begins(std::int64_t epoch, std::int64_t steps) = 0;  // epoch from 1
  // After each step; `save`: save_state() is called, `stop`: that too, then Error(Exit::interrupted) is thrown. On a
  // device a step is then queued, not done; `save` waits for the end of the epoch, which saves, and `stop` for its
  // steps.
  virtual Action step_done(std::int64_t step) = 0;
  virtual void steps_done() = 0;                           // an epoch's steps, before its validation
  virtual void epoch_ends(const EpochReport& report) = 0;  // writes the selected weights and the state
  virtual void save_state() = 0;
};

class Trainer {
 public:
  // `starts` of the training and validation windows (the latter may be empty). All arguments but the model outlive this
  // object. `device`: where to compute; null: on the CPU.
  Trainer(const model::Model& model, const Problem& problem, std::span<const std::int32_t> train_starts,
          std::span<const std::int32_t> val_starts, const TrainerSettings& settings, Device* device = nullptr);

  Training<float>& training() { return training_; }
  const Training<float>& training() const { return training_; }
  State& state() { return state_; }
  const State& state() const { return state_; }
  std::int64_t steps_per_epoch() const;
  std::int64_t epochs() const { return settings_.epochs; }
  // The state says that there is nothing left to do; why: "epochs" or "patience".
  bool done() const { return optim::done(state_, settings_); }
  std::string stopped_by() const { return stops_early(state_, settings_) ? "patience" : "epochs"; }
  void run(Observer& observer);

 private:
  void run_epoch(Observer& observer);
  Action run_steps(Observer& observer, double lr);
  Action run_steps_on_device(Observer& observer, double lr);
  EpochReport validate();

  model::Model model_;
  const Problem* problem_;
  std::span<const std::int32_t> train_starts_, val_starts_;
  TrainerSettings settings_;
  Training<float> training_;
  std::unique_ptr<DeviceModel> device_;
  Evaluator evaluator_;
  State state_;
  std::vector<std::int32_t> order_;
};

}  // namespace samformer::optim
