// SAMformer's step on a GPU or on the SIMT emulator (optim/device.h): kernels/gpu.h has the kernels and their formulas.
//
// A pass, low-rank (G = W W_O, z = F + C G'):      full (G = W W_V, values are G xhat', z = F + C):
//   G, sums of weights                               G, W b_V, sums of weights
//   P = xhat Wcat'                                   P = xhat [G | W_Q W_K W]'
//   C = attention; C G'; loss, dz                    C = attention; loss, dz, which is dC
//   dC = dz G; dQ dK dV; dG = dz' C                  dQ dK dV
//   dP; dWcat = dP' xhat                             dP; dG, dW_Q dW_K dW = dP' xhat
//   dW += dG W_O'; dW_O = W' dG; db_O = W' db_W      dW += dG W_V'; dW_V = W' dG; db_V = W' r
// 17 kernels each; a SAM step adds RevIN and its batch moments. `full` folds W_V whatever the shapes.
#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "core/gpu.h"
#include "optim/device.h"

namespace samformer::optim {
inline namespace SAMFORMER_GPU_BACKEND {
namespace {

namespace gpu = kernels::gpu;
using std::int64_t;

constexpr int64_t evaluation_rows = 16384;    // windows times channels evaluated at once
constexpr int64_t tensor_core_channels = 64;  // fewer do not fill attention's tiles of 16 x 8

const char* why_unusable(const gpu::DeviceInfo& info) {
  if (info.major * 10 + info.minor < 75) return "compute capability 7.5 (Turing) or newer is needed";
  return nullptr;
}

std::string described(const gpu::DeviceInfo& info) {
  return fmt::format("{}, compute capability {}.{}, {:.1f} GB", info.name, info.major, info.minor,
                     static_cast<double>(info.memory_bytes) * 1e-9);
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

// Sizes of a model and where its parameters lie in a slab.
struct Layout {
  int64_t D, L, H, d_m;
  bool low_rank;
  gpu::Widths widths;
  int64_t ld;  // of P, dz and dP: columns, rounded up to whole 16-byte vectors
  int64_t slab;
  int64_t value, query, head, value_bias, query_bias, key_bias, head_bias, output = 0, output_bias = 0, gamma, beta;

  explicit Layout(const model::Samformer& model)
      : D(model.shape().D),
        L(model.shape().L),
        H(model.shape().H),
        d_m(model.shape().d_m),
        low_rank(model.shape().value == model::Value::low_rank),
        widths{static_cast<int>(low_rank ? d_m : H), static_cast<int>(d_m), static_cast<int>(H)},
        ld((widths.columns() + 3) / 4 * 4),
        slab(model.parameters().slab_size()) {
    const auto at = [&](const char* name) { return model.parameters().find(name).offset; };
    value = at("compute_values.weight");
    query = at("compute_queries.weight");
    head = at("linear_forecaster.weight");
    value_bias = at("compute_values.bias");
    query_bias = at("compute_queries.bias");
    key_bias = at("compute_keys.bias");
    head_bias = at("linear_forecaster.bias");
    if (low_rank) {
      output = at("output_projection.weight");
      output_bias = at("output_projection.bias");
    }
    gamma = at("revin.affine_weight");
    beta = at("revin.affine_bias");
  }
  int64_t columns() const { return widths.columns(); }
  // Columns of P that do not come from folded weights.
  int64_t rest() const { return low_rank ? columns() : columns() - H; }
};

// Activations of passes over up to `batch` windows; `training`: gradients too.
struct Work {
  int64_t batch = 0;
  DeviceArray<float> xhat, stats, moments, sums, biases, p, c, lse, mixed, folded, folded_bias;
  DeviceArray<float> dz, dp, dc, row_sums, loss_parts, column_parts, d_folded, d_folded_bias;

  Work() = default;
  Work(const Layout& m, int64_t windows, bool training, const DeviceStream& stream) : batch(windows) {
    const int64_t R = windows * m.D, padded = windows * gpu::channel_stride(static_cast<int>(m.D));
    xhat = {R * m.L, "normalised windows"};
    stats = {2 * padded, "RevIN's statistics"};
    moments = {5 * gpu::channel_stride(static_cast<int>(m.D)), "the batch's moments"};
    sums = {m.columns(), "row sums of the weights"};
    biases = {m.columns(), "biases"};
    p = {R * m.ld, "the projection"};
    c = {R * (m.low_rank ? m.d_m : m.ld), "the attention's context"};
    lse = {R, "the attention's log-sum-exp"};
    if (m.low_rank) mixed = {R * m.H, "the context's forecast"};
    folded = {m.H * (m.low_rank ? m.d_m : m.L), "folded weights"};
    if (!m.low_rank) folded_bias = {m.H, "the folded bias"};
    loss_parts = {2 * gpu::loss_blocks(static_cast<int>(R)), "parts of the loss"};
    if (!training) return;
    dz = {R * m.ld, "dZ"};
    dp = {R * m.ld, "dP"};
    if (m.low_rank) dc = {R * m.d_m, "dC"};
    row_sums = {2 * gpu::row_sum_slots * padded, "row sums"};
    column_parts = {2 * gpu::projection_chunks(static_cast<int>(R)) * m.columns(), "column sums"};
    d_folded = {folded.count(), "the gradient of the folded weights"};
    if (!m.low_rank) d_folded_bias = {m.H, "the gradient of the folded bias"};
    row_sums.zero(stream);
  }
};

class GpuModel final : public DeviceModel {
 public:
  GpuModel(const model::Samformer& model, const Problem& problem, kernels::Center center, bool tf32,
           const DeviceStream& stream, const DeviceBlas& blas)
      : model_(model),
        layout_(model),
        rows_(problem.rows),
        targets_(problem.targets.begin(), problem.targets.end()),
        level_(center == kernels::Center::last ? gpu::Level::last : gpu::Level::mean),
        stream_(stream),
        blas_(blas),
        tensor_cores_(tf32 && layout_.D >= tensor_core_channels && gpu::attention_tf32_supports(layout_.widths)),
        series_(static_cast<int64_t>(problem.values.size()), "the series"),
        target_list_(static_cast<int64_t>(targets_.size()), "the targets"),
        channel_weight_(layout_.D, "channel weights"),
        weights_(layout_.slab, "weights") {
    SAMFORMER_CHECK(problem.D == layout_.D, "a model of {} channels, a series of {}", layout_.D, problem.D);
    std::vector<float> weight(static_cast<std::size_t>(layout_.D));
    for (const std::int32_t d : targets_) {
      weight[static_cast<std::size_t>(d)] = static_cast<float>(layout_.D) / static_cast<float>(targets_.size());
    }
    series_.upload(problem.values, stream_);
    target_list_.upload(targets_, stream_);
    channel_weight_.upload(weight, stream_);
    gpu::synchronise(stream_.get());
  }

  ErrorSums errors(std::span<const float> weights, std::span<const std::int32_t> starts) override {
    return on_device([&] {
      const auto targets = static_cast<int64_t>(targets_.size());
      ErrorSums sums(targets, layout_.H);
      sums.windows = static_cast<int64_t>(starts.size());
      const DeviceArray<double> total(2 * targets * layout_.H, "error sums");
      total.zero(stream_);
      for_batches(weights, starts, [&](int64_t first, int N) {
        gpu::error_sums(total.data(), forecast_.data(), series_.data(), starts_.data() + first, target_list_.data(),
                        static_cast<int>(targets), N, static_cast<int>(layout_.D), rows_, static_cast<int>(layout_.L),
                        static_cast<int>(layout_.H), stream_.get());
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

  double mixed_loss(std::span<const float> weights, std::span<const std::int32_t> starts, double lambda,
                    int64_t batch) override {
    return on_device([&] {
      begin_evaluation(weights, starts, batch);
      std::vector<float> parts;
      double total = 0;
      for (int64_t first = 0; first < static_cast<int64_t>(starts.size()); first += batch) {
        const int N = static_cast<int>(std::min(batch, static_cast<int64_t>(starts.size()) - first));
        forward(evaluation_, N, nullptr, starts_.data() + first, N, lambda > 0);
        gpu::loss(evaluation_.loss_parts.data(), nullptr, 0, nullptr,
                  loss_input(evaluation_, N, nullptr, starts_.data() + first, N, lambda), stream_.get());
        parts.resize(2 * static_cast<std::size_t>(gpu::loss_blocks(N * static_cast<int>(layout_.D))));
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
      const int64_t H = layout_.H;
      for_batches(weights, starts, [&](int64_t, int N) {
        part.resize(static_cast<std::size_t>(N * layout_.D * H));
        forecast_.download(part, stream_);
        gpu::synchronise(stream_.get());
        for (int64_t n = 0; n < N; ++n) {
          for (const std::int32_t d : targets_) {
            const auto row = part.begin() + (n * layout_.D + d) * H;
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
      if (!by_operation_ && !training_->captured) {
        // The library of products loads its kernels at their first use, which a capture does not allow.
        Profile* const profile = std::exchange(profile_, nullptr);
        for (const auto& [N, at, graph] : {std::tuple(static_cast<int>(batch), int64_t{0}, &training_->full),
                                           std::tuple(short_batch, full_steps, &training_->last)}) {
          if (N == 0 || (graph == &training_->full && full_steps == 0)) continue;
          start(at);
          step_of(N);
          *graph = captured(stream_, [&, N = N] { step_of(N); });
        }
        training_->captured = true;
        profile_ = profile;
      }
      start(first_step);
      for (int64_t step = first_step; step < steps; ++step) {
        const bool full = step < full_steps;
        if (by_operation_) {
          step_of(full ? static_cast<int>(batch) : short_batch);
        } else {
          timed("SAM step", {}, profile_ != nullptr,
                [&] { gpu::graph_launch((full ? training_->full : training_->last).get(), stream_.get()); });
        }
        queued(step + 1);
      }
      gpu::Progress progress;
      training_->progress.download({&progress, 1}, stream_);
      transfer(training, false);
      gpu::synchronise(stream_.get());
      collect_times();
      if (progress.bad_pass != 0) {
        training.set_steps(progress.bad_step - 1);
        throw diverged(progress.bad_step, progress.bad_pass, std::nullopt, parameter_at(progress.bad_element));
      }
      training.set_steps(progress.step);
      return progress.squared_error[0];
    });
  }

  void set_profile(Profile* profile, bool operations) override {
    profile_ = profile;
    by_operation_ = profile != nullptr && operations;
  }

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

  // What `f` queues, as a named range, and, where it is to be timed, between two events.
  template <class F>
  void timed(const char* name, Cost cost, bool with_events, const F& f) {
    gpu::range_begin(name);
    if (!with_events) {
      f();
    } else {
      const auto event = [&] {
        DeviceEvent e(gpu::event_create());
        gpu::event_record(e.get(), stream_.get());
        return e;
      };
      DeviceEvent begin = event();
      f();
      times_.push_back({name, cost, std::move(begin), event()});
    }
    gpu::range_end();
  }
  template <class F>
  void operation(const char* name, Cost cost, const F& f) {
    timed(name, cost, by_operation_, f);
  }
  void multiply(const char* name, gpu::Product p) {
    operation(name, product_cost(p.M, p.N, p.K), [&] { gpu::product(blas_.get(), p); });
  }
  void collect_times() {
    for (const Timed& t : times_) {
      profile_->entries.push_back({t.name, gpu::event_seconds(times_.front().begin.get(), t.begin.get()),
                                   gpu::event_seconds(t.begin.get(), t.end.get()), t.cost});
    }
    times_.clear();
  }

  void prepare(Training<float>& t, int64_t windows, int64_t batch) {
    training_.emplace();
    TrainingMemory& m = *training_;
    m.work = Work(layout_, std::min(batch, windows), true, stream_);
    m.gradient = {layout_.slab, "gradients"};
    m.gradient.zero(stream_);  // the key bias and the gaps stay zero
    if (t.settings().rho > 0) m.saved = {layout_.slab, "SAM's saved weights"};
    m.first_moment = {layout_.slab, "first moments"};
    if (!t.second_moment().empty()) m.second_moment = {layout_.slab, "second moments"};
    if (!t.averaged().empty()) m.averaged = {layout_.slab, "averaged weights"};
    m.norm_parts = {2 * gpu::norm_blocks(layout_.slab), "parts of the norm"};
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

  gpu::Projected projected(const Work& w) const {
    return {w.p.data(),    layout_.ld,     weights_.data() + layout_.gamma, weights_.data() + layout_.beta,
            w.sums.data(), w.biases.data()};
  }
  // What a pass needs of the weights alone: folded weights, row sums, biases.
  void fold(const Work& w) {
    const auto& [D, L, H, d_m, low_rank, widths, ld, slab, value, query, head, value_bias, query_bias, key_bias,
                 head_bias, output, output_bias, gamma, beta] = layout_;
    const float* const x = weights_.data();
    gpu::WeightRows rows{x + value, x + query};
    gpu::Biases biases{x + value_bias, x + query_bias, x + key_bias, nullptr, x + head_bias};
    if (low_rank) {
      multiply("G", {false, false, H, d_m, L, x + head, L, x + output, d_m, w.folded.data(), d_m});
      biases.output = x + output_bias;
    } else {
      multiply("G", {false, false, H, L, L, x + head, L, x + value, L, w.folded.data(), L});
      multiply("G", {false, false, H, 1, L, x + head, L, x + value_bias, 1, w.folded_bias.data(), 1});
      rows.value = w.folded.data();
      biases.value = w.folded_bias.data();
    }
    const double O = static_cast<double>(layout_.columns()), l = static_cast<double>(L);
    operation("weight_sums", {O * l + 2 * static_cast<double>(H) * l, 4 * (O * l + 2 * O + l)}, [&] {
      gpu::weight_sums(w.sums.data(), w.biases.data(), rows, biases, widths, static_cast<int>(L), stream_.get());
    });
  }
  void normalise(const Work& w, int N, gpu::Progress* progress, const std::int32_t* starts, int batch_stride,
                 bool moments) {
    const double R = static_cast<double>(N * layout_.D), l = static_cast<double>(layout_.L);
    operation("revin", {6 * R * l, 4 * (2 * R * l + 2 * R)}, [&] {
      gpu::revin_normalise(w.xhat.data(), w.stats.data(), progress,
                           progress != nullptr ? training_->hyper.data() : nullptr, series_.data(), starts, N,
                           batch_stride, static_cast<int>(layout_.D), rows_, static_cast<int>(layout_.L), level_,
                           progress != nullptr, stream_.get());
    });
    if (!moments) return;
    operation("moments", {8 * R, 4 * 2 * R}, [&] {
      gpu::revin_moments(w.moments.data(), w.stats.data(), N, static_cast<int>(layout_.D), stream_.get());
    });
  }
  // The projection, the attention and what it adds to the forecast.
  void project_and_attend(const Work& w, int N) {
    const Layout& m = layout_;
    const int64_t R = N * m.D;
    const float *const x = w.xhat.data(), *const weights = weights_.data();
    if (m.low_rank) {
      multiply("projection", {false, true, R, m.columns(), m.L, x, m.L, weights + m.value, m.L, w.p.data(), m.ld});
    } else {
      multiply("projection", {false, true, R, m.H, m.L, x, m.L, w.folded.data(), m.L, w.p.data(), m.ld});
      multiply("projection", {false, true, R, m.rest(), m.L, x, m.L, weights + m.query, m.L, w.p.data() + m.H, m.ld});
    }
    const double n = N, d = static_cast<double>(m.D), k = m.widths.key, v = m.widths.value;
    operation("attention", {n * d * d * (2 * k + 2 * v + 4), 4 * n * d * (2 * k + 2 * v + 1)}, [&] {
      (tensor_cores_ ? gpu::attention_forward_tf32 : gpu::attention_forward)(
          w.c.data(), context_stride(), w.lse.data(), projected(w), N, static_cast<int>(m.D), m.widths, stream_.get());
    });
    if (m.low_rank) {
      multiply("head", {false, true, R, m.H, m.d_m, w.c.data(), m.d_m, w.folded.data(), m.d_m, w.mixed.data(), m.H});
    }
  }
  // The context lies as dz's forecasting columns do where those are its gradient.
  int64_t context_stride() const { return layout_.low_rank ? layout_.d_m : layout_.ld; }

  void forward(const Work& w, int N, gpu::Progress* progress, const std::int32_t* starts, int batch_stride,
               bool moments) {
    normalise(w, N, progress, starts, batch_stride, moments);
    project_and_attend(w, N);
  }

  gpu::LossInput loss_input(const Work& w, int N, const gpu::Progress* progress, const std::int32_t* starts,
                            int batch_stride, double lambda) const {
    gpu::LossInput in{};
    in.in = projected(w);
    in.mixed = layout_.low_rank ? w.mixed.data() : w.c.data();
    in.mixed_ld = layout_.low_rank ? layout_.H : layout_.ld;
    in.stats = w.stats.data();
    in.moments = w.moments.data();
    in.series = series_.data();
    in.starts = starts;
    in.progress = progress;
    in.batch = N;
    in.batch_stride = batch_stride;
    in.channels = static_cast<int>(layout_.D);
    in.series_length = rows_;
    in.look_back = static_cast<int>(layout_.L);
    in.widths = layout_.widths;
    in.channel_weight = static_cast<int64_t>(targets_.size()) == layout_.D ? nullptr : channel_weight_.data();
    in.lambda = static_cast<float>(lambda);
    in.guard = layout_.low_rank ? 0.0f : 1e-10f;
    return in;
  }

  // Forward and backward of one pass at the weights as they are; pass 0 or 1.
  void queue_pass(const StepSettings& settings, int N, int batch_stride, int pass) {
    const Layout& m = layout_;
    TrainingMemory& t = *training_;
    const Work& w = t.work;
    const int64_t R = N * m.D;
    const int channels = static_cast<int>(m.D), L = static_cast<int>(m.L);
    const float *const x = weights_.data(), *const xhat = w.xhat.data();
    float* const g = t.gradient.data();
    float* const dz = w.dz.data() + m.widths.first_head();
    const double r = static_cast<double>(R), h = static_cast<double>(m.H), o = static_cast<double>(m.columns());
    fold(w);
    project_and_attend(w, N);
    operation("loss", {27 * r * h, 4 * 4 * r * h}, [&] {
      gpu::loss(w.loss_parts.data(), dz, m.ld, w.row_sums.data(),
                loss_input(w, N, t.progress.data(), t.order.data(), batch_stride, settings.stats_mix), stream_.get());
    });
    const float* dc = dz;
    if (m.low_rank) {
      multiply("head_backward", {false, false, R, m.d_m, m.H, dz, m.ld, w.folded.data(), m.d_m, w.dc.data(), m.d_m});
      dc = w.dc.data();
    }
    const double d = static_cast<double>(m.D), k = m.widths.key, v = m.widths.value;
    operation("attention_backward", {N * d * d * (6 * k + 4 * v + 5), 4 * r * (6 * k + 5 * v + 1)}, [&] {
      (tensor_cores_ ? gpu::attention_backward_tf32 : gpu::attention_backward)(
          w.dz.data(), w.row_sums.data(), dc, w.c.data(), context_stride(), w.lse.data(), projected(w), N, channels,
          m.widths, stream_.get());
    });
    if (m.low_rank) {
      multiply("head_backward", {true, false, m.H, m.d_m, R, dz, m.ld, w.c.data(), m.d_m, w.d_folded.data(), m.d_m});
    }
    operation("projection_scale", {4 * r * o, 8 * r * o}, [&] {
      gpu::projection_backward(w.dp.data(), w.column_parts.data(), w.dz.data(), m.ld, x + m.gamma, x + m.beta, N,
                               channels, static_cast<int>(m.columns()), stream_.get());
    });
    gpu::Gradients out{g + m.value,     g + m.query, g + m.value_bias, g + m.query_bias,
                       g + m.head_bias, g + m.gamma, g + m.beta};
    if (m.low_rank) {
      multiply("projection_backward",
               {true, false, m.columns(), m.L, R, w.dp.data(), m.ld, xhat, m.L, g + m.value, m.L});
    } else {
      multiply("projection_backward", {true, false, m.H, m.L, R, w.dp.data(), m.ld, xhat, m.L, w.d_folded.data(), m.L});
      multiply("projection_backward",
               {true, false, m.rest(), m.L, R, w.dp.data() + m.H, m.ld, xhat, m.L, g + m.query, m.L});
      out.value_rows = w.d_folded.data();
      out.value = w.d_folded_bias.data();
    }
    operation("finish_gradients", {2 * o * static_cast<double>(m.L), 8 * o * static_cast<double>(m.L)}, [&] {
      gpu::finish_gradients(out, t.progress.data(), w.column_parts.data(), w.row_sums.data(), w.loss_parts.data(),
                            m.low_rank ? gpu::Folded::output_bias : gpu::Folded::value_bias,
                            x + (m.low_rank ? m.output_bias : m.value_bias), N, channels, m.widths, L, pass,
                            stream_.get());
    });
    const int64_t inner = m.low_rank ? m.d_m : m.L;  // W_O or W_V: [L][inner]
    const int64_t folded = m.low_rank ? m.output : m.value, bias = m.low_rank ? m.output_bias : m.value_bias;
    const float *const dG = w.d_folded.data(), *const r_bias = m.low_rank ? g + m.head_bias : w.d_folded_bias.data();
    multiply("G_backward", {false, true, m.H, m.L, inner, dG, inner, x + folded, inner, g + m.head, m.L, true});
    multiply("G_backward", {true, false, m.L, inner, m.H, x + m.head, m.L, dG, inner, g + folded, inner});
    multiply("G_backward", {true, false, m.L, 1, m.H, x + m.head, m.L, r_bias, 1, g + bias, 1});
  }

  void queue_step(const StepSettings& settings, int N, int batch_stride) {
    TrainingMemory& t = *training_;
    const bool sam = settings.rho > 0;
    float *const w = weights_.data(), *const g = t.gradient.data(), *const parts = t.norm_parts.data();
    const int64_t P = layout_.slab;
    const double p = static_cast<double>(P);
    const auto norm = [&](bool adaptive) {
      operation("gradient_norm", {2 * p, (adaptive ? 8 : 4) * p},
                [&] { gpu::gradient_norm(parts, t.progress.data(), g, w, P, adaptive, stream_.get()); });
    };
    normalise(t.work, N, t.progress.data(), t.order.data(), batch_stride, settings.stats_mix > 0);
    queue_pass(settings, N, batch_stride, 0);
    if (sam) {
      norm(settings.adaptive);
      operation("perturb", {2 * p, 16 * p}, [&] {
        gpu::perturb(w, t.saved.data(), t.progress.data(), t.hyper.data(), parts, g, P, settings.adaptive,
                     stream_.get());
      });
      queue_pass(settings, N, batch_stride, 1);
    }
    norm(false);
    operation("update", {19 * p, 36 * p}, [&] {
      gpu::update(w, t.first_moment.data(), t.second_moment.data(), t.averaged.data(), t.progress.data(),
                  t.hyper.data(), parts, t.saved.data(), g, P, rule_of(settings.rule), sam ? 2 : 1, stream_.get());
    });
  }

  // Weights, start indices and memory for batches of `batch` windows.
  void begin_evaluation(std::span<const float> weights, std::span<const std::int32_t> starts, int64_t batch) {
    batch = std::min(batch, static_cast<int64_t>(starts.size()));
    if (evaluation_.batch < batch) {
      evaluation_ = Work(layout_, batch, false, stream_);
      forecast_ = {batch * layout_.D * layout_.H, "forecasts"};
    }
    if (starts_.count() < static_cast<int64_t>(starts.size())) {
      starts_ = {static_cast<int64_t>(starts.size()), "window starts"};
    }
    weights_.upload(weights, stream_);
    starts_.upload(starts, stream_);
    fold(evaluation_);
  }
  // Calls body(first, N) with the forecasts [N D][H] of the windows first .. first + N in forecast_.
  template <class Body>
  void for_batches(std::span<const float> weights, std::span<const std::int32_t> starts, const Body& body) {
    const int64_t most = std::max<int64_t>(1, evaluation_rows / layout_.D), all = static_cast<int64_t>(starts.size());
    if (all == 0) return;
    begin_evaluation(weights, starts, most);
    for (int64_t first = 0; first < all; first += most) {
      const int N = static_cast<int>(std::min(most, all - first));
      forward(evaluation_, N, nullptr, starts_.data() + first, N, false);
      gpu::denormalise(forecast_.data(), loss_input(evaluation_, N, nullptr, starts_.data() + first, N, 0),
                       stream_.get());
      body(first, N);
    }
  }

  const model::Samformer model_;
  const Layout layout_;
  const int64_t rows_;
  const std::vector<std::int32_t> targets_;
  const gpu::Level level_;
  const DeviceStream& stream_;
  const DeviceBlas& blas_;
  const bool tensor_cores_;
  DeviceArray<float> series_;
  DeviceArray<std::int32_t> target_list_;
  DeviceArray<float> channel_weight_, weights_;
  std::optional<TrainingMemory> training_;
  Work evaluation_;
  DeviceArray<float> forecast_;
  DeviceArray<std::int32_t> starts_;

  struct Timed {
    const char* name;
    Cost cost;
    DeviceEvent begin, end;
  };
  Profile* profile_ = nullptr;
  bool by_operation_ = false;
  std::vector<Timed> times_;
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
    const auto* network = std::get_if<model::Samformer>(&model.network());
    if (!network) {
      throw Error(Exit::device, fmt::format("{}: this model is computed on the CPU alone", name_))
          .hint("use --device cpu");
    }
    return on_device([&] { return std::make_unique<GpuModel>(*network, problem, center, tf32_, stream_, blas_); });
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
