// Networks on a GPU or on the SIMT emulator: what lies between the normalised windows and the loss, forward and
// backward, as kernels on a stream. optim/gpu_device.cpp is around them: windows, loss, SAM, optimiser, evaluation.
//
//   samformer, linear   a fixed sequence, in which RevIN's scale and shift are folded into the projection
//   the others          operations that queue their forward kernels at once and keep what queues their backward ones,
//                       as core/tape.h does, on u = gamma xhat + beta; model/*.h have the formulas
//
// No device memory is allocated after the first pass over a batch, so that passes can be captured.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/device_memory.h"
#include "core/profile.h"
#include "model/registry.h"

namespace samformer::optim {
inline namespace SAMFORMER_GPU_BACKEND {

// A stream with its library of products. What is queued is a named range, and timed where a profile is set.
class Queue {
 public:
  Queue(const DeviceStream& stream, const DeviceBlas& blas) : stream_(&stream), blas_(&blas) {}

  const DeviceStream& device_stream() const { return *stream_; }
  kernels::gpu::Stream stream() const { return stream_->get(); }
  kernels::gpu::Blas blas() const { return blas_->get(); }
  // Times are added at collect_times(): of steps, or of operations, which then must not be captured. Null: no more.
  void set_profile(Profile* profile, bool operations) {
    profile_ = profile;
    by_operation_ = profile != nullptr && operations;
  }
  bool by_operation() const { return by_operation_; }
  template <class F>
  void step(const F& f) {
    timed("SAM step", {}, profile_ != nullptr, f);
  }
  template <class F>
  void operation(const char* name, Cost cost, const F& f) {
    timed(name, cost, by_operation_, f);
  }
  void multiply(const char* name, const kernels::gpu::Product& p) {
    operation(name, product_cost(p.M, p.N, p.K), [&] { kernels::gpu::product(blas_->get(), p); });
  }
  // The stream must have been waited for.
  void collect_times();

 private:
  template <class F>
  void timed(const char* name, Cost cost, bool with_events, const F& f) {
    kernels::gpu::range_begin(name);
    if (!with_events) {
      f();
    } else {
      DeviceEvent begin = event();
      f();
      times_.push_back({name, cost, std::move(begin), event()});
    }
    kernels::gpu::range_end();
  }
  DeviceEvent event() const;

  struct Timed {
    const char* name;
    Cost cost;
    DeviceEvent begin, end;
  };
  const DeviceStream* stream_;
  const DeviceBlas* blas_;
  Profile* profile_ = nullptr;
  bool by_operation_ = false;
  std::vector<Timed> times_;
};

// z as the loss reads it, and where its gradient goes (null without gradients).
struct Forecast {
  kernels::gpu::Projected in;
  const float* mixed = nullptr;
  std::int64_t mixed_ld = 0;
  kernels::gpu::Widths widths;
  float guard = 0;
  float* dz = nullptr;
  std::int64_t ldz = 0;
  float* row_sums = nullptr;  // null without scale and shift too
};

// Which pass of a training step this is, from 0; `progress` counts steps.
struct TrainingPass {
  int number;
  std::uint64_t seed;  // of dropout
  kernels::gpu::Progress* progress;
};

class Network {
 public:
  virtual ~Network() = default;
  // What a pass needs of the weights alone. Before forward() whenever they have changed.
  virtual void fold() = 0;
  // Of N windows xhat [N D][L]; `pass` null: an evaluation.
  virtual Forecast forward(const float* xhat, int N, const TrainingPass* pass) = 0;
  // After the loss: all of the slab's gradients, and the loss parts into pass.progress.
  virtual void backward(const float* xhat, int N, const float* loss_parts, const TrainingPass& pass) = 0;
};

// For passes over up to `windows` windows; without `gradients` (the trained beginning of a slab) forward alone.
// tensor_cores: TF32 where a kernel has it. The weights' running averages move in training.
std::unique_ptr<Network> make_network(const model::Model& model, Queue& queue, bool tensor_cores, float* weights,
                                      float* gradients, std::int64_t windows);

// Rows of the model's widest matrices for each window.
std::int64_t rows_per_window(const model::Model& model);

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::optim
