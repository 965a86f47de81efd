// A device's model: its arrays, and the steps as graphs recorded from the tape's own (optim/step.h, optim/evaluator.h).
#include "optim/device_model.h"

#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

namespace samformer::optim {
namespace {

using std::int64_t;

const char* why_unusable(const kernels::DeviceInfo& info) {
  if (info.major * 10 + info.minor < 75) return "compute capability 7.5 (Turing) or newer is needed";
  return nullptr;
}

std::string described(const kernels::DeviceInfo& info) {
  return fmt::format("{}, compute capability {}.{}, {:.1f} GB", info.name, info.major, info.minor,
                     static_cast<double>(info.memory_bytes) * 1e-9);
}

kernels::DeviceHyper hyper_of(const StepSettings& s, double lr) {
  kernels::DeviceHyper h;
  h.lr = static_cast<float>(lr);
  h.rho = static_cast<float>(s.rho);
  h.momentum = static_cast<float>(s.rule.momentum);
  h.beta1 = static_cast<float>(s.rule.beta1);
  h.beta2 = static_cast<float>(s.rule.beta2);
  h.epsilon = static_cast<float>(s.rule.epsilon);
  h.weight_decay = static_cast<float>(s.rule.weight_decay);
  h.ema = static_cast<float>(s.ema);
  h.log_beta1 = std::log(s.rule.beta1);
  h.log_beta2 = std::log(s.rule.beta2);
  return h;
}

class GpuModel final : public DeviceModel {
 public:
  GpuModel(const model::Model& model, const Problem& problem, kernels::Center center, const Cuda& on)
      : model_(model),
        on_(on),
        evaluation_(model, center, on),
        series_(static_cast<int64_t>(problem.values.size()), "the series"),
        targets_(static_cast<int64_t>(problem.targets.size()), "the targets"),
        channel_weight_(problem.D, "channel weights"),
        weights_(model.parameters().slab_size(), "weights") {
    SAMFORMER_CHECK(problem.D == model.shape().D, "a model of {} channels, a series of {}", model.shape().D, problem.D);
    std::vector<float> weight(static_cast<std::size_t>(problem.D));
    for (const std::int32_t d : problem.targets) {
      weight[static_cast<std::size_t>(d)] = static_cast<float>(problem.D) / static_cast<float>(problem.targets.size());
    }
    series_.upload(problem.values, on_.stream);
    targets_.upload(problem.targets, on_.stream);
    channel_weight_.upload(weight, on_.stream);
    kernels::synchronise(on_.stream);
    here_ = {weights_.data(),  series_.data(),
             problem.rows,     problem.D,
             problem.marks,    targets_.data(),
             targets_.count(), targets_.count() == problem.D ? nullptr : channel_weight_.data()};
    here_.known = problem.known;
  }

  ErrorSums errors(std::span<const float> weights, std::span<const std::int32_t> starts) override {
    return on_device([&] { return evaluation_.errors(placed(weights, starts), starts); });
  }
  double mixed_loss(std::span<const float> weights, std::span<const std::int32_t> starts, kernels::StatsMix mix,
                    int64_t batch) override {
    return on_device([&] { return evaluation_.mixed_loss(placed(weights, starts), starts, mix, batch); });
  }
  std::vector<float> forecast(std::span<const float> weights, std::span<const std::int32_t> starts) override {
    return on_device([&] { return evaluation_.forecast(placed(weights, starts), starts); });
  }
  void attention(std::span<const float> weights, std::span<const std::int32_t> starts,
                 const Evaluation<Cpu>::Maps& body) override {
    on_device([&] { evaluation_.attention(placed(weights, starts), starts, body); });
  }

  double train(Training<float>& training, std::span<const std::int32_t> order, int64_t first_step, int64_t batch,
               double lr, const std::function<void(int64_t)>& queued) override {
    return on_device([&] {
      const auto windows = static_cast<int64_t>(order.size());
      const int64_t steps = kernels::blocks_of(windows, batch), full_steps = windows / batch;
      const int64_t short_batch = windows % batch;
      if (!training_) prepare(training, windows, batch);
      Memory& m = *training_;
      SAMFORMER_CHECK(m.of == &training && m.order.count() == windows && m.batch == batch,
                      "steps of one training, over {} windows in batches of {}, are recorded here", m.order.count(),
                      m.batch);
      const kernels::DeviceHyper hyper = hyper_of(training.settings(), lr);
      const auto start = [&](int64_t step) {
        kernels::Progress progress;
        progress.step = training.steps();
        progress.batch = step;
        m.hyper.upload({&hyper, 1}, on_.stream);
        m.progress.upload({&progress, 1}, on_.stream);
        m.order.upload(order, on_.stream);
        transfer(training, true);
      };
      const auto queue = [&](int64_t N) {
        Resident at = here_;
        at.starts = m.order.data();
        kernels::Windows<float> x = at.windows(0, N), y = at.windows(0, N, model_.shape().L);
        x.progress = y.progress = m.progress.data();
        x.batch_stride = y.batch_stride = batch;
        m.step({weights_.data(), m.gradient.data(), m.saved.data(), m.first_moment.data(), m.second_moment.data(),
                m.averaged.data()},
               m.progress.data(), m.hyper.data(), x, {y, at.targets, at.target_count, at.channel_weight});
      };
      const bool by_operation = m.step.timer().profile != nullptr;
      if (!by_operation && !m.captured) {
        // A first run gives the arena its memory and has the library of products load its kernels, neither of which a
        // capture allows.
        for (const auto& [N, at, graph] :
             {std::tuple(batch, int64_t{0}, &m.full), std::tuple(short_batch, full_steps, &m.last)}) {
          if (N == 0 || (graph == &m.full && full_steps == 0)) continue;
          start(at);
          queue(N);
          *graph = captured(on_.stream, [&, N = N] { queue(N); });
        }
        m.captured = true;
      }
      start(first_step);
      for (int64_t step = first_step; step < steps; ++step) {
        const bool full = step < full_steps;
        if (by_operation) {
          queue(full ? batch : short_batch);
        } else {
          const Stopwatch<Cuda> watch(timer_, "SAM step", {});
          kernels::graph_launch((full ? m.full : m.last).get(), on_.stream);
        }
        queued(step + 1);
      }
      kernels::Progress progress;
      m.progress.download({&progress, 1}, on_.stream);
      transfer(training, false);
      kernels::synchronise(on_.stream);
      timer_.collect();
      m.step.timer().collect();
      training.copy_untrained();
      training.check(progress);
      training.set_steps(progress.step);
      return progress.squared_error[0];
    });
  }

  void set_profile(Profile* profile, bool operations) override {
    timer_.profile = operations ? nullptr : profile;
    operations_ = operations ? profile : nullptr;
    timer_.events.clear();
    if (!training_) return;
    training_->step.timer().profile = operations_;
    training_->step.timer().events.clear();
  }

 private:
  // What training needs beside the weights.
  struct Memory {
    Step<float, Cuda> step;
    DeviceArray<float> gradient, saved, first_moment, second_moment, averaged;
    DeviceArray<std::int32_t> order;
    DeviceArray<kernels::DeviceHyper> hyper;
    DeviceArray<kernels::Progress> progress;
    DeviceGraph full, last;
    bool captured = false;
    const Training<float>* of;
    int64_t batch;

    Memory(const model::Model& model, const Training<float>& training, int64_t windows_a_step, const Cuda& on)
        : step(model, training.settings(), on), of(&training), batch(windows_a_step) {}
  };

  void prepare(Training<float>& t, int64_t windows, int64_t batch) {
    const int64_t n = model_.parameters().trained_size();
    training_.emplace(model_, t, batch, on_);
    Memory& m = *training_;
    m.step.timer().profile = operations_;
    m.gradient = {n, "gradients"};
    m.gradient.upload(std::vector<float>(static_cast<std::size_t>(n)), on_.stream);  // the gaps stay zero
    kernels::synchronise(on_.stream);
    if (t.settings().rho > 0) m.saved = {n, "SAM's saved weights"};
    m.first_moment = {n, "first moments"};
    if (!t.second_moment().empty()) m.second_moment = {n, "second moments"};
    if (!t.averaged().empty()) m.averaged = {weights_.count(), "averaged weights"};
    m.order = {windows, "the order of the windows"};
    m.hyper = {1, "hyper-parameters"};
    m.progress = {1, "progress"};
  }
  // The slabs of the host to the device, or back.
  void transfer(Training<float>& t, bool up) {
    const auto one = [&](const DeviceArray<float>& device, std::span<float> host) {
      if (host.empty()) return;
      if (up) {
        device.upload(host, on_.stream);
      } else {
        device.download(host, on_.stream);
      }
    };
    one(weights_, t.weights());
    one(training_->first_moment, t.first_moment());
    one(training_->second_moment, t.second_moment());
    one(training_->averaged, t.averaged());
  }
  // The weights and the starts of an evaluation, on the device.
  Resident placed(std::span<const float> weights, std::span<const std::int32_t> starts) {
    if (starts_.count() < static_cast<int64_t>(starts.size())) {
      starts_ = {static_cast<int64_t>(starts.size()), "window starts"};
    }
    weights_.upload(weights, on_.stream);
    starts_.upload(starts, on_.stream);
    Resident at = here_;
    at.starts = starts_.data();
    return at;
  }

  const model::Model model_;
  const Cuda on_;
  Evaluation<Cuda> evaluation_;
  DeviceArray<float> series_;
  DeviceArray<std::int32_t> targets_;
  DeviceArray<float> channel_weight_, weights_;
  Resident here_;  // without starts
  DeviceArray<std::int32_t> starts_;
  std::optional<Memory> training_;
  Timer<Cuda> timer_{on_};
  Profile* operations_ = nullptr;
};

class GpuDevice final : public Device {
 public:
  GpuDevice(int index, const kernels::DeviceInfo& info, bool tf32)
      : name_(fmt::format("cuda:{}", index)),
        description_(described(info)),
        peaks_{info.flops, info.bytes},
        stream_(kernels::stream_create()),
        blas_(kernels::blas_create(stream_.get(), tf32)),
        on_{stream_.get(), blas_.get(), tf32} {}
  std::string name() const override { return name_; }
  std::string description() const override { return description_; }
  Cost peaks() const override { return peaks_; }
  std::unique_ptr<DeviceModel> load(const model::Model& model, const Problem& problem,
                                    kernels::Center center) override {
    return on_device([&] { return std::make_unique<GpuModel>(model, problem, center, on_); });
  }

 private:
  std::string name_, description_;
  Cost peaks_;
  DeviceStream stream_;
  DeviceBlas blas_;
  Cuda on_;
};

}  // namespace

std::vector<Gpu> list_gpus(std::string& why_none) {
  return on_device([&] {
    std::vector<Gpu> all;
    for (const kernels::DeviceInfo& info : kernels::devices(why_none)) {
      const char* const why_not = why_unusable(info);
      all.push_back({described(info), why_not != nullptr ? why_not : ""});
    }
    return all;
  });
}

std::unique_ptr<Device> open_gpu(int index, bool tf32) {
  return on_device([&]() -> std::unique_ptr<Device> {
    std::string why_none;
    const std::vector<kernels::DeviceInfo> all = kernels::devices(why_none);
    const auto refuse = [&](const std::string& why) {
      return Error(Exit::device, fmt::format("cuda:{}: {}", index, why))
          .hint("use --device cpu; `samformer doctor` lists the devices");
    };
    if (all.empty()) throw refuse(fmt::format("no device: {}", why_none));
    if (index >= static_cast<int>(all.size())) throw refuse(fmt::format("there are only {} devices", all.size()));
    const kernels::DeviceInfo& info = all[static_cast<std::size_t>(index)];
    if (const char* const why = why_unusable(info)) throw refuse(fmt::format("{}: {}", described(info), why));
    if (tf32 && info.major < 8) throw refuse(fmt::format("{}: it has no TF32, which began with 8.0", described(info)));
    kernels::select_device(index);
    return std::make_unique<GpuDevice>(index, info, tf32);
  });
}

}  // namespace samformer::optim
