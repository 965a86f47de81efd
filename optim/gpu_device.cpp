// Training and evaluation on a GPU or on the SIMT emulator (optim/device.h), around any network (optim/gpu_network.h):
// the series, its windows, the loss, SAM with its optimiser, graphs. kernels/gpu.h has the kernels and their formulas.
#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "optim/device.h"
#include "optim/gpu_network.h"

namespace samformer::optim {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {

namespace gpu = kernels::gpu;
using std::int64_t;

constexpr int64_t evaluation_rows = 16384;  // of a network's widest matrix, evaluated at once

const char* why_unusable(const gpu::DeviceInfo& info) {
  if (info.major * 10 + info.minor < 75) return "compute capability 7.5 (Turing) or newer is needed";
  return nullptr;
}

std::string described(const gpu::DeviceInfo& info) {
  return fmt::format("{}, compute capability {}.{}, {:.1f} GB", info.name, info.major, info.minor,
                     static_cast<double>(info.memory_bytes) * 1e-9);
}

gpu::Level level_of(kernels::Center center) {
  switch (center) {
    case kernels::Center::mean:
      return gpu::Level::mean;
    case kernels::Center::last:
      return gpu::Level::last;
    case kernels::Center::none:
      return gpu::Level::none;
  }
  throw Error(Exit::internal, "a level that the GPU does not know");
}

gpu::Rule rule_of(const kernels::UpdateRule& rule) {
  const bool keras = rule.form == kernels::AdamForm::keras;
  switch (rule.rule) {
    case kernels::Rule::sgd:
      return gpu::Rule::sgd;
    case kernels::Rule::adam:
      return keras ? gpu::Rule::adam_keras : gpu::Rule::adam;
    case kernels::Rule::adamw:
      return keras ? gpu::Rule::adamw_keras : gpu::Rule::adamw;
  }
  throw Error(Exit::internal, "an optimiser that the GPU does not know");
}

gpu::Hyper hyper_of(const StepSettings& s, double lr) {
  gpu::Hyper h;
  h.lr = static_cast<float>(lr);
  h.rho = static_cast<float>(s.rho);
  h.momentum = static_cast<float>(s.rule.momentum);
  h.beta1 = static_cast<float>(s.rule.beta1);
  h.beta2 = static_cast<float>(s.rule.beta2);
  h.epsilon = static_cast<float>(s.rule.epsilon);
  h.weight_decay = static_cast<float>(s.rule.weight_decay);
  h.ema_decay = static_cast<float>(s.ema);
  h.log_beta1 = std::log(s.rule.beta1);
  h.log_beta2 = std::log(s.rule.beta2);
  return h;
}

// Normalised windows of a pass over up to `batch` of them, its loss and its network.
struct Work {
  int64_t batch = 0;
  DeviceArray<float> xhat, stats, moments, loss_parts;
  std::unique_ptr<Network> network;

  Work() = default;
  Work(const model::Model& model, int64_t windows, Queue& queue, bool tensor_cores, float* weights, float* gradients)
      : batch(windows) {
    const auto [D, L, H] = model.shape();
    const int stride = gpu::channel_stride(static_cast<int>(D));
    xhat = {windows * D * L, "normalised windows"};
    stats = {2 * windows * stride, "RevIN's statistics"};
    moments = {5 * stride, "the batch's moments"};
    loss_parts = {2 * gpu::loss_blocks(static_cast<int>(windows * D)), "parts of the loss"};
    network = make_network(model, queue, tensor_cores, weights, gradients, windows);
  }
};

class GpuModel final : public DeviceModel {
 public:
  GpuModel(const model::Model& model, const Problem& problem, kernels::Center center, bool tf32,
           const DeviceStream& stream, const DeviceBlas& blas)
      : model_(model),
        shape_(model.shape()),
        trained_(model.parameters().trained_size()),
        rows_(problem.rows),
        targets_(problem.targets.begin(), problem.targets.end()),
        level_(level_of(model.center(center))),
        stream_(stream),
        queue_(stream, blas),
        tf32_(tf32),
        series_(static_cast<int64_t>(problem.values.size()), "the series"),
        target_list_(static_cast<int64_t>(targets_.size()), "the targets"),
        channel_weight_(shape_.D, "channel weights"),
        weights_(model.parameters().slab_size(), "weights") {
    SAMFORMER_CHECK(problem.D == shape_.D, "a model of {} channels, a series of {}", shape_.D, problem.D);
    std::vector<float> weight(static_cast<std::size_t>(shape_.D));
    for (const std::int32_t d : targets_) {
      weight[static_cast<std::size_t>(d)] = static_cast<float>(shape_.D) / static_cast<float>(targets_.size());
    }
    series_.upload(problem.values, stream_);
    target_list_.upload(targets_, stream_);
    channel_weight_.upload(weight, stream_);
    gpu::synchronise(stream_.get());
  }

  ErrorSums errors(std::span<const float> weights, std::span<const std::int32_t> starts) override {
    return on_device([&] {
      const auto targets = static_cast<int64_t>(targets_.size());
      ErrorSums sums(targets, shape_.H);
      sums.windows = static_cast<int64_t>(starts.size());
      const DeviceArray<double> total(2 * targets * shape_.H, "error sums");
      total.zero(stream_);
      for_batches(weights, starts, [&](int64_t first, int N) {
        gpu::error_sums(total.data(), forecast_.data(), series_.data(), starts_.data() + first, target_list_.data(),
                        static_cast<int>(targets), N, static_cast<int>(shape_.D), rows_, static_cast<int>(shape_.L),
                        static_cast<int>(shape_.H), stream_.get());
      });
      std::vector<double> both(static_cast<std::size_t>(total.count()));
      total.download(both, stream_);
      gpu::synchronise(stream_.get());
      const auto half = both.begin() + static_cast<std::ptrdiff_t>(sums.squared.size());
      std::copy(both.begin(), half, sums.squared.begin());
      std::copy(half, both.end(), sums.absolute.begin());
      return sums;
    });
  }

  double mixed_loss(std::span<const float> weights, std::span<const std::int32_t> starts, kernels::StatsMix mix,
                    int64_t batch) override {
    return on_device([&] {
      begin_evaluation(weights, starts, batch);
      std::vector<float> parts;
      double total = 0;
      for (int64_t first = 0; first < static_cast<int64_t>(starts.size()); first += batch) {
        const int N = static_cast<int>(std::min(batch, static_cast<int64_t>(starts.size()) - first));
        const Forecast z = evaluate(N, starts_.data() + first, mix.any());
        gpu::loss(evaluation_.loss_parts.data(), nullptr, 0, nullptr,
                  loss_input(evaluation_, z, N, nullptr, starts_.data() + first, N, mix), stream_.get());
        parts.resize(2 * static_cast<std::size_t>(gpu::loss_blocks(N * static_cast<int>(shape_.D))));
        evaluation_.loss_parts.download(parts, stream_);
        gpu::synchronise(stream_.get());
        for (std::size_t i = 0; i < parts.size(); i += 2) total += static_cast<double>(parts[i]) * N;
      }
      return total / static_cast<double>(starts.size());
    });
  }

  std::vector<float> forecast(std::span<const float> weights, std::span<const std::int32_t> starts) override {
    return on_device([&] {
      std::vector<float> all, part;
      const int64_t H = shape_.H;
      for_batches(weights, starts, [&](int64_t, int N) {
        part.resize(static_cast<std::size_t>(N * shape_.D * H));
        forecast_.download(part, stream_);
        gpu::synchronise(stream_.get());
        for (int64_t n = 0; n < N; ++n) {
          for (const std::int32_t d : targets_) {
            const auto row = part.begin() + (n * shape_.D + d) * H;
            all.insert(all.end(), row, row + H);
          }
        }
      });
      return all;
    });
  }

  double train(Training<float>& training, std::span<const std::int32_t> order, int64_t first_step, int64_t batch,
               double lr, const std::function<void(int64_t)>& queued) override {
    return on_device([&] {
      const auto windows = static_cast<int64_t>(order.size());
      const int64_t steps = kernels::blocks_of(windows, batch), full_steps = windows / batch;
      const int short_batch = static_cast<int>(windows % batch);
      if (!training_) prepare(training, windows, batch);
      const gpu::Hyper hyper = hyper_of(training.settings(), lr);
      const auto start = [&](int64_t step) {
        gpu::Progress progress;
        progress.step = training.steps();
        progress.batch = step;
        training_->hyper.upload({&hyper, 1}, stream_);
        training_->progress.upload({&progress, 1}, stream_);
        training_->order.upload(order, stream_);
        transfer(training, true);
      };
      const auto step_of = [&](int N) { queue_step(training.settings(), N, static_cast<int>(batch)); };
      if (!queue_.by_operation() && !training_->captured) {
        // The library of products loads its kernels at their first use, which a capture does not allow.
        for (const auto& [N, at, graph] : {std::tuple(static_cast<int>(batch), int64_t{0}, &training_->full),
                                           std::tuple(short_batch, full_steps, &training_->last)}) {
          if (N == 0 || (graph == &training_->full && full_steps == 0)) continue;
          start(at);
          step_of(N);
          *graph = captured(stream_, [&, N = N] { step_of(N); });
        }
        training_->captured = true;
      }
      start(first_step);
      for (int64_t step = first_step; step < steps; ++step) {
        const bool full = step < full_steps;
        if (queue_.by_operation()) {
          step_of(full ? static_cast<int>(batch) : short_batch);
        } else {
          queue_.step([&] { gpu::graph_launch((full ? training_->full : training_->last).get(), stream_.get()); });
        }
        queued(step + 1);
      }
      gpu::Progress progress;
      training_->progress.download({&progress, 1}, stream_);
      transfer(training, false);
      gpu::synchronise(stream_.get());
      queue_.collect_times();
      // What is not trained the networks alone move: its average is what it is.
      if (const auto averaged = training.averaged(); !averaged.empty()) {
        std::copy(training.weights().begin() + trained_, training.weights().end(), averaged.begin() + trained_);
      }
      if (progress.bad_pass != 0) {
        training.set_steps(progress.bad_step - 1);
        throw diverged(progress.bad_step, progress.bad_pass, std::nullopt, parameter_at(progress.bad_element));
      }
      training.set_steps(progress.step);
      return progress.squared_error[0];
    });
  }

  void set_profile(Profile* profile, bool operations) override { queue_.set_profile(profile, operations); }

 private:
  // What training needs beside the weights.
  struct TrainingMemory {
    Work work;
    DeviceArray<float> gradient, saved, first_moment, second_moment, averaged, norm_parts;
    DeviceArray<std::int32_t> order;
    DeviceArray<gpu::Hyper> hyper;
    DeviceArray<gpu::Progress> progress;
    DeviceGraph full, last;
    bool captured = false;
  };

  void prepare(Training<float>& t, int64_t windows, int64_t batch) {
    training_.emplace();
    TrainingMemory& m = *training_;
    m.gradient = {trained_, "gradients"};
    m.gradient.zero(stream_);  // the key bias and the gaps stay zero
    m.work = Work(model_, std::min(batch, windows), queue_, tf32_, weights_.data(), m.gradient.data());
    if (t.settings().rho > 0) m.saved = {trained_, "SAM's saved weights"};
    m.first_moment = {trained_, "first moments"};
    if (!t.second_moment().empty()) m.second_moment = {trained_, "second moments"};
    if (!t.averaged().empty()) m.averaged = {weights_.count(), "averaged weights"};
    m.norm_parts = {2 * gpu::norm_blocks(trained_), "parts of the norm"};
    m.order = {windows, "the order of the windows"};
    m.hyper = {1, "hyper-parameters"};
    m.progress = {1, "progress"};
  }
  // The slabs of the host to the device, or back.
  void transfer(Training<float>& t, bool up) {
    const auto one = [&](const DeviceArray<float>& device, std::span<float> host) {
      if (host.empty()) return;
      if (up) {
        device.upload(host, stream_);
      } else {
        device.download(host, stream_);
      }
    };
    one(weights_, t.weights());
    one(training_->first_moment, t.first_moment());
    one(training_->second_moment, t.second_moment());
    one(training_->averaged, t.averaged());
  }
  const model::Parameter* parameter_at(int64_t element) const {
    for (const model::Parameter& p : model_.parameters().all()) {
      if (element >= p.offset && element < p.offset + p.shape.count()) return &p;
    }
    return nullptr;
  }

  void normalise(const Work& w, int N, gpu::Progress* progress, const std::int32_t* starts, int batch_stride,
                 bool moments) {
    const double R = static_cast<double>(N * shape_.D), l = static_cast<double>(shape_.L);
    queue_.operation("revin", {6 * R * l, 4 * (2 * R * l + 2 * R)}, [&] {
      gpu::revin_normalise(w.xhat.data(), w.stats.data(), progress,
                           progress != nullptr ? training_->hyper.data() : nullptr, series_.data(), starts, N,
                           batch_stride, static_cast<int>(shape_.D), rows_, static_cast<int>(shape_.L), level_,
                           progress != nullptr, stream_.get());
    });
    if (!moments) return;
    queue_.operation("moments", {8 * R, 4 * 2 * R}, [&] {
      gpu::revin_moments(w.moments.data(), w.stats.data(), N, static_cast<int>(shape_.D), stream_.get());
    });
  }
  Forecast evaluate(int N, const std::int32_t* starts, bool moments) {
    normalise(evaluation_, N, nullptr, starts, N, moments);
    return evaluation_.network->forward(evaluation_.xhat.data(), N, nullptr);
  }

  gpu::LossInput loss_input(const Work& w, const Forecast& z, int N, const gpu::Progress* progress,
                            const std::int32_t* starts, int batch_stride, kernels::StatsMix mix) const {
    gpu::LossInput in{};
    in.in = z.in;
    in.mixed = z.mixed;
    in.mixed_ld = z.mixed_ld;
    in.stats = w.stats.data();
    in.moments = w.moments.data();
    in.series = series_.data();
    in.starts = starts;
    in.progress = progress;
    in.batch = N;
    in.batch_stride = batch_stride;
    in.channels = static_cast<int>(shape_.D);
    in.series_length = rows_;
    in.look_back = static_cast<int>(shape_.L);
    in.widths = z.widths;
    in.channel_weight = static_cast<int64_t>(targets_.size()) == shape_.D ? nullptr : channel_weight_.data();
    in.share = static_cast<float>(mix.share);
    in.rise = static_cast<float>(mix.rise());
    in.guard = z.guard;
    return in;
  }

  // Forward and backward of one pass at the weights as they are; pass 0 or 1.
  void queue_pass(const StepSettings& settings, int N, int batch_stride, int pass) {
    const TrainingMemory& t = *training_;
    const Work& w = t.work;
    const int64_t outputs = N * shape_.D * shape_.H;
    const TrainingPass training_pass{pass, settings.seed, t.progress.data()};
    w.network->fold();
    const Forecast z = w.network->forward(w.xhat.data(), N, &training_pass);
    queue_.operation("loss", float_cost(36 * outputs, 4 * outputs), [&] {
      gpu::loss(w.loss_parts.data(), z.dz, z.ldz, z.row_sums,
                loss_input(w, z, N, t.progress.data(), t.order.data(), batch_stride, settings.stats_mix),
                stream_.get());
    });
    w.network->backward(w.xhat.data(), N, w.loss_parts.data(), training_pass);
  }

  void queue_step(const StepSettings& settings, int N, int batch_stride) {
    TrainingMemory& t = *training_;
    const bool sam = settings.rho > 0;
    float *const w = weights_.data(), *const g = t.gradient.data(), *const parts = t.norm_parts.data();
    const int64_t P = trained_;
    const double p = static_cast<double>(P);
    const auto norm = [&](bool adaptive) {
      queue_.operation("gradient_norm", {2 * p, (adaptive ? 8 : 4) * p},
                       [&] { gpu::gradient_norm(parts, t.progress.data(), g, w, P, adaptive, stream_.get()); });
    };
    normalise(t.work, N, t.progress.data(), t.order.data(), batch_stride, settings.stats_mix.any());
    queue_pass(settings, N, batch_stride, 0);
    if (sam) {
      norm(settings.adaptive);
      queue_.operation("perturb", {2 * p, 16 * p}, [&] {
        gpu::perturb(w, t.saved.data(), t.progress.data(), t.hyper.data(), parts, g, P, settings.adaptive,
                     stream_.get());
      });
      queue_pass(settings, N, batch_stride, 1);
    }
    norm(false);
    queue_.operation("update", {19 * p, 36 * p}, [&] {
      gpu::update(w, t.first_moment.data(), t.second_moment.data(), t.averaged.data(), t.progress.data(),
                  t.hyper.data(), parts, t.saved.data(), g, P, rule_of(settings.rule), sam ? 2 : 1, stream_.get());
    });
  }

  // Weights, start indices and memory for batches of `batch` windows.
  void begin_evaluation(std::span<const float> weights, std::span<const std::int32_t> starts, int64_t batch) {
    batch = std::min(batch, static_cast<int64_t>(starts.size()));
    if (evaluation_.batch < batch) {
      evaluation_ = Work(model_, batch, queue_, tf32_, weights_.data(), nullptr);
      forecast_ = {batch * shape_.D * shape_.H, "forecasts"};
    }
    if (starts_.count() < static_cast<int64_t>(starts.size())) {
      starts_ = {static_cast<int64_t>(starts.size()), "window starts"};
    }
    weights_.upload(weights, stream_);
    starts_.upload(starts, stream_);
    evaluation_.network->fold();
  }
  // Calls body(first, N) with the forecasts [N D][H] of the windows first .. first + N in forecast_.
  template <class Body>
  void for_batches(std::span<const float> weights, std::span<const std::int32_t> starts, const Body& body) {
    const int64_t most = std::max<int64_t>(1, evaluation_rows / rows_per_window(model_)),
                  all = static_cast<int64_t>(starts.size());
    if (all == 0) return;
    begin_evaluation(weights, starts, most);
    for (int64_t first = 0; first < all; first += most) {
      const int N = static_cast<int>(std::min(most, all - first));
      const Forecast z = evaluate(N, starts_.data() + first, false);
      gpu::denormalise(forecast_.data(), loss_input(evaluation_, z, N, nullptr, starts_.data() + first, N, 0),
                       stream_.get());
      body(first, N);
    }
  }

  const model::Model model_;
  const model::Sizes shape_;
  const int64_t trained_;  // elements of a slab that the optimiser sees
  const int64_t rows_;
  const std::vector<std::int32_t> targets_;
  const gpu::Level level_;
  const DeviceStream& stream_;
  Queue queue_;
  const bool tf32_;
  DeviceArray<float> series_;
  DeviceArray<std::int32_t> target_list_;
  DeviceArray<float> channel_weight_, weights_;
  std::optional<TrainingMemory> training_;
  Work evaluation_;
  DeviceArray<float> forecast_;
  DeviceArray<std::int32_t> starts_;
};

class GpuDevice final : public Device {
 public:
  GpuDevice(int index, const gpu::DeviceInfo& info, bool tf32)
      : name_(fmt::format("cuda:{}", index)),
        description_(described(info)),
        peaks_{info.flops, info.bytes},
        tf32_(tf32),
        stream_(gpu::stream_create()),
        blas_(gpu::blas_create(stream_.get(), tf32)) {}
  std::string name() const override { return name_; }
  std::string description() const override { return description_; }
  Cost peaks() const override { return peaks_; }
  std::unique_ptr<DeviceModel> load(const model::Model& model, const Problem& problem,
                                    kernels::Center center) override {
    return on_device([&] { return std::make_unique<GpuModel>(model, problem, center, tf32_, stream_, blas_); });
  }

 private:
  std::string name_, description_;
  Cost peaks_;
  bool tf32_;
  DeviceStream stream_;
  DeviceBlas blas_;
};

}  // namespace

std::vector<Gpu> list_gpus(std::string& why_none) {
  return on_device([&] {
    std::vector<Gpu> all;
    for (const gpu::DeviceInfo& info : gpu::devices(why_none)) {
      const char* const why_not = why_unusable(info);
      all.push_back({described(info), why_not != nullptr ? why_not : ""});
    }
    return all;
  });
}

std::unique_ptr<Device> open_gpu(int index, bool tf32) {
  return on_device([&]() -> std::unique_ptr<Device> {
    std::string why_none;
    const std::vector<gpu::DeviceInfo> all = gpu::devices(why_none);
    const auto refuse = [&](const std::string& why) {
      return Error(Exit::device, fmt::format("cuda:{}: {}", index, why))
          .hint("use --device cpu; `samformer doctor` lists the devices");
    };
    if (all.empty()) throw refuse(fmt::format("no device: {}", why_none));
    if (index >= static_cast<int>(all.size())) throw refuse(fmt::format("there are only {} devices", all.size()));
    const gpu::DeviceInfo& info = all[static_cast<std::size_t>(index)];
    if (const char* const why = why_unusable(info)) throw refuse(fmt::format("{}: {}", described(info), why));
    if (tf32 && info.major < 8) throw refuse(fmt::format("{}: it has no TF32, which began with 8.0", described(info)));
    gpu::select_device(index);
    return std::make_unique<GpuDevice>(index, info, tf32);
  });
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::optim
