// Where a model computes other than on the CPU. The trainer and the evaluator know this interface alone; what is behind
// it is decided at link time: optim/device_model.cpp on CUDA or on the SIMT emulator, or optim/no_device.cpp.
//
// On a device a step, its both passes included, is one graph that is recorded from the tape once (a last short batch
// has its own) and launched once a step; the host neither waits nor allocates before the epoch's end. Non-finite
// gradients are found by the device: later steps then change nothing, and train() throws at the end. The host's slabs
// (Training) are the state between epochs, so checkpoints and resume are the CPU's. Every failure of a device throws
// Error(Exit::device).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/profile.h"
#include "optim/evaluator.h"
#include "optim/step.h"

namespace samformer::optim {

// A model with one series resident on a device.
class DeviceModel {
 public:
  virtual ~DeviceModel() = default;

  // As Evaluator's, on the model's own series. `weights`: a slab of the model.
  virtual ErrorSums errors(std::span<const float> weights, std::span<const std::int32_t> starts) = 0;
  virtual double mixed_loss(std::span<const float> weights, std::span<const std::int32_t> starts, kernels::StatsMix mix,
                            std::int64_t batch) = 0;
  virtual std::vector<float> forecast(std::span<const float> weights, std::span<const std::int32_t> starts) = 0;
  virtual void attention(std::span<const float> weights, std::span<const std::int32_t> starts,
                         const Evaluation<Cpu>::Maps& body) = 0;

  // Takes the steps first_step, first_step + 1, ... of an epoch over the windows `order` in batches of `batch`, from
  // and into the slabs of `training`; calls `queued(steps)` after each launch. Returns the sum over the windows of the
  // first passes' losses. Throws Error(Exit::diverged) as Training::step does, with the weights from before that step.
  // The first call records the steps: later ones have the same training, number of windows and batch.
  virtual double train(Training<float>& training, std::span<const std::int32_t> order, std::int64_t first_step,
                       std::int64_t batch, double lr, const std::function<void(std::int64_t)>& queued) = 0;
  // From now on the device's times are added here: of each step, or, with `operations`, of each operation, the steps
  // then being queued operation by operation and not as graphs. Pass null to stop.
  virtual void set_profile(Profile* profile, bool operations) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;         // "cuda:0"
  virtual Cost peaks() const = 0;               // a second, of float32 and of the memory; 0: unknown
  virtual std::string description() const = 0;  // "NVIDIA H100, compute capability 9.0, 80.0 GB"
  // The problem outlives the result, which must not outlive the device.
  virtual std::unique_ptr<DeviceModel> load(const model::Model& model, const Problem& problem,
                                            kernels::Center center) = 0;
};

struct Gpu {
  std::string description;
  std::string why_not;  // it cannot be used; empty: it can
};
// All GPUs, by number; `why_none` says why there are none.
std::vector<Gpu> list_gpus(std::string& why_none);
// Throws Error(Exit::device) where there is no such device, or it cannot be used, or (tf32) has no such products.
std::unique_ptr<Device> open_gpu(int index, bool tf32);

}  // namespace samformer::optim
