// Training, evaluation and forecasts on a device against the CPU, from the same seed: on the SIMT emulator, or, built
// with nvcc, on a GPU. Losses agree to 1e-5, weights to 1e-4 (of the tensor's largest), over every option that changes
// the step, and every model.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "optim/trainer.h"
#ifdef SAMFORMER_ON_EMULATOR
#include "kernels/simt/simt.h"
#else
#include <dlfcn.h>
#endif

namespace samformer::optim {
namespace {

using Slab = std::vector<float>;

// Series, windows and model of a test; 37 training windows in batches of 8: four full ones and one of 5 an epoch; or, of
// networks that take the emulator long, `few`: 13.
struct Bench {
  explicit Bench(model::Model of, std::vector<std::int32_t> forecast_targets = {}, bool few = false)
      : model(std::move(of)), targets(std::move(forecast_targets)) {
    const auto [D, L, H, none] = model.shape();
    rows = L + H + 90;
    if (targets.empty()) {
      for (std::int32_t d = 0; d < D; ++d) targets.push_back(d);
    }
    for (std::int64_t d = 0; d < D + marks + known().rows(D); ++d) {
      for (std::int64_t t = 0; t < rows; ++t) {
        const double phase = 2 * std::numbers::pi * static_cast<double>(t) / static_cast<double>(9 + d);
        const double noise = static_cast<double>((t * 7919 + d * 104729) % 1000) / 1000 - 0.5;
        values.push_back(static_cast<float>(std::sin(phase) + 0.3 * noise + 0.01 * static_cast<double>(t)));
      }
    }
    for (std::int32_t t = 0; t < (few ? 13 : 37); ++t) train.push_back(t);
    for (std::int32_t t = 60; t < (few ? 66 : 90); ++t) val.push_back(t);
  }
  Problem problem() const { return {values, rows, model.shape().D, targets, {}, marks, known()}; }
  // Of a model with covariates: one for each channel, the others for all.
  kernels::KnownRows known() const {
    const std::int64_t own = std::min<std::int64_t>(model.covariates(), 1);
    return {model.shape().D + marks, model.covariates() - own, own};
  }

  static constexpr std::int64_t marks = 2;  // what a date would say, for models that ask

  model::Model model;
  std::vector<std::int32_t> targets;
  std::int64_t rows = 0;
  Slab values;
  std::vector<std::int32_t> train, val;
};

TrainerSettings settings_of(std::int64_t epochs) {
  TrainerSettings s;
  s.batch = 8;
  s.epochs = epochs;
  s.patience = 0;
  s.seed = 5;
  s.lr = 3e-3;
  return s;
}

class Recorder final : public Observer {
 public:
  void epoch_begins(std::int64_t, std::int64_t) override {}
  Action step_done(std::int64_t) override {
    ++steps;
    if (at_step) at_step(steps);
    return steps == stop_at ? Action::stop : Action::go_on;
  }
  void steps_done() override {}
  void epoch_ends(const EpochReport& report) override { reports.push_back(report); }
  void save_state() override { ++saves; }
  std::int64_t steps = 0, stop_at = -1, saves = 0;
  std::function<void(std::int64_t)> at_step;
  std::vector<EpochReport> reports;
};

std::unique_ptr<Device> open_device() {
  std::string none;
  if (list_gpus(none).empty()) return nullptr;
  return open_gpu(0, false);
}

struct Outcome {
  Slab weights, first_moment, tested;
  std::vector<EpochReport> reports;
  std::vector<float> forecast;
  ErrorSums errors{1, 1};
};

void start(Trainer& trainer, const Bench& bench) {
  bench.model.initialise(trainer.training().weights().data(), 3, model::Init::pytorch, model::HeadInit::as_init);
  trainer.training().start_average();
}
Slab copy(std::span<const float> slab) { return {slab.begin(), slab.end()}; }

Outcome run(const Bench& bench, const TrainerSettings& settings, Device* device) {
  const Problem problem = bench.problem();
  Trainer trainer(bench.model, problem, bench.train, bench.val, settings, device);
  start(trainer, bench);
  Recorder recorder;
  trainer.run(recorder);
  Outcome out;
  out.weights = copy(trainer.training().weights());
  out.first_moment = copy(trainer.training().first_moment());
  out.tested = copy(trainer.training().tested());
  out.reports = recorder.reports;
  const auto loaded = device ? device->load(bench.model, problem, settings.step.center) : nullptr;
  Evaluator evaluator(bench.model, settings.step.center, loaded.get());
  out.forecast = evaluator.forecast(out.tested, problem, bench.val);
  out.errors = evaluator.errors(out.tested, problem, bench.val);
  return out;
}

void expect_slab(const char* what, const Slab& got, const Slab& want, double tolerance, const model::Model& model) {
  ASSERT_EQ(got.size(), want.size());
  for (const model::Parameter& p : model.parameters().all()) {
    double scale = 0, error = 0;
    for (std::int64_t i = p.offset; i < p.offset + p.shape.count(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      scale = std::max(scale, std::abs(static_cast<double>(want[at])));
      const double e = std::abs(static_cast<double>(got[at]) - static_cast<double>(want[at]));
      if (!(e <= error)) error = e;
    }
    EXPECT_TRUE(error <= tolerance * scale) << what << " " << p.name << ": error " << error << ", scale " << scale;
  }
}
void expect_near(const char* what, double got, double want, double tolerance) {
  EXPECT_TRUE(std::abs(got - want) <= tolerance * std::abs(want)) << what << ": " << got << ", on the CPU " << want;
}

model::StepSizes with_label(std::int64_t label, double dropout) {
  return {2, 12, 4, Bench::marks, label, 4, 8, 2, 2, 1, dropout};
}

const model::ModeSets modes = model::published_modes(12, 16, 4);

struct Case {
  const char* name;
  model::Model model;
  std::function<void(TrainerSettings&)> change;
  std::vector<std::int32_t> targets = {};
  double weights = 1e-4;  // tolerance: Adam amplifies rounding where gradients are small
  bool few = false;       // windows, and one epoch
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

using model::Value;
model::Model samformer(Value value, std::int64_t D, std::int64_t L, std::int64_t H, std::int64_t d_m) {
  return model::Samformer({value, D, L, H, d_m});
}
model::Model transformer(model::Attention attention, bool revin = true) {
  return model::Transformer({3, 24, 6, 4, attention, revin});
}
model::Model tsmixer(std::int64_t blocks, double dropout, model::Norm norm, kernels::Activation activation,
                     bool shared) {
  return model::TsMixer({3, 20, 6, blocks, 8, dropout, norm, activation, shared});
}
constexpr model::StepSizes steps{2, 12, 4, 2, 9, 4, 8, 2, 2, 1, 0.2, true};
model::Model pyraformer() {
  model::PyraformerShape shape;
  static_cast<model::StepSizes&>(shape) = steps;
  shape.key_width = 5, shape.bottleneck = 6, shape.windows = {3, 2};
  return model::Pyraformer(shape);
}
const Case cases[] = {
    {"Defaults", samformer(Value::low_rank, 7, 48, 12, 8), [](TrainerSettings&) {}},
    {"Full", samformer(Value::full, 3, 33, 9, 5), [](TrainerSettings&) {}},
    {"FullOfManyChannels", samformer(Value::full, 65, 16, 18, 4), [](TrainerSettings&) {}},
    {"WideKeys", samformer(Value::low_rank, 3, 24, 6, 68), [](TrainerSettings&) {}},
    {"NoSam", samformer(Value::low_rank, 3, 24, 6, 4), [](TrainerSettings& s) { s.step.rho = 0; }},
    {"Adaptive", samformer(Value::low_rank, 2, 24, 6, 4), [](TrainerSettings& s) { s.step.adaptive = true; }},
    {"Sgd", samformer(Value::low_rank, 2, 24, 6, 4),
     [](TrainerSettings& s) {
       s.step.rule.rule = kernels::Rule::sgd;
       s.step.rule.weight_decay = 0.01;
     }},
    {"AdamWKeras", samformer(Value::low_rank, 2, 24, 6, 4),
     [](TrainerSettings& s) {
       s.step.rule.rule = kernels::Rule::adamw;
       s.step.rule.form = kernels::AdamForm::keras;
       s.step.rule.epsilon = 1e-7;
       s.step.rule.weight_decay = 0.01;
     }},
    {"NoMixingNoAverage", samformer(Value::full, 2, 24, 6, 4),
     [](TrainerSettings& s) {
       s.step.stats_mix = 0;
       s.step.ema = 0;
     }},
    {"LastValue", samformer(Value::low_rank, 2, 24, 6, 4),
     [](TrainerSettings& s) { s.step.center = kernels::Center::last; }},
    {"OneTarget", samformer(Value::low_rank, 3, 24, 6, 4), [](TrainerSettings&) {}, {2}},
    {"RankedByTheMixedLoss", samformer(Value::low_rank, 2, 24, 6, 4),
     [](TrainerSettings& s) {
       s.select_mixed = true;
       s.step.stats_mix = 1;
     }},
    {"Linear", model::Linear({3, 24, 6}), [](TrainerSettings&) {}},
    {"Covariates", samformer(Value::low_rank, 3, 24, 6, 4).with_covariates(3), [](TrainerSettings&) {}},
    {"CovariatesOfNormalisedSteps",
     tsmixer(2, 0.3, model::Norm::batch, kernels::Activation::relu, false).with_covariates(3),
     [](TrainerSettings&) {},
     {},
     5e-3},
    {"Identity", transformer(model::Attention::identity), [](TrainerSettings&) {}},
    {"LearnedAttention", transformer(model::Attention::learned), [](TrainerSettings&) {}, {1}},
    {"RandomTransformer", transformer(model::Attention::frozen, false),
     [](TrainerSettings& s) { s.step.stats_mix = 0; }},
    {"SigmaReparam", transformer(model::Attention::sigma_reparam), [](TrainerSettings&) {}},
    {"Temporal", model::Temporal({3, 24, 6, 4}), [](TrainerSettings&) {}},
    {"TemporalWideKeys", model::Temporal({3, 24, 6, 66}), [](TrainerSettings&) {}},
    {"DLinear", model::DLinear({3, 20, 6}), [](TrainerSettings&) {}},
    {"DLinearRevin", model::DLinear({3, 20, 6, 4, true}), [](TrainerSettings&) {}},
    {"ITransformer", model::ITransformer({3, 20, 6, 8, 12, 2, 2, 0.2}), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"PatchTst", model::PatchTst({3, 20, 6, 8, 12, 2, 2, 6, 4, 0.2}), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"LogTrans", model::LogTrans({steps, 6}), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"Informer", model::Informer({steps, true, 1}), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"InformerLtsf", model::Informer({steps, false, 2}), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"Pyraformer", pyraformer(), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"Autoformer", model::Autoformer({{with_label(12, 0.2), {5}}, 1}), [](TrainerSettings&) {}, {}, 1e-4, true},
    {"Fedformer", model::Fedformer({{with_label(12, 0.2), {3, 6}}, modes}), [](TrainerSettings&) {}, {}, 1e-2, true},
    {"TsMixer", tsmixer(2, 0.3, model::Norm::batch, kernels::Activation::relu, false), [](TrainerSettings&) {}},
    {"TsMixerShared", tsmixer(2, 0.3, model::Norm::batch, kernels::Activation::gelu, true), [](TrainerSettings&) {}},
    {"TsMixerLayerNorm", tsmixer(1, 0, model::Norm::layer, kernels::Activation::gelu, false), [](TrainerSettings&) {}},
};

class GpuTraining : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    device_ = open_device();
    if (!device_) GTEST_SKIP() << "no GPU here";
  }
  std::unique_ptr<Device> device_;
};

// 20 steps: four epochs of four full batches and a short one; of `few` one of one and a short one.
TEST_P(GpuTraining, AgreesWithTheCpu) {
  const Case& c = GetParam();
  const Bench bench(c.model, c.targets, c.few);
  const std::size_t epochs = c.few ? 1 : 4;
  TrainerSettings settings = settings_of(static_cast<std::int64_t>(epochs));
  c.change(settings);
  const Outcome cpu = run(bench, settings, nullptr), got = run(bench, settings, device_.get());
  ASSERT_EQ(got.reports.size(), epochs);
  for (std::size_t e = 0; e < epochs; ++e) {
    expect_near("training loss", got.reports[e].train_loss, cpu.reports[e].train_loss, 1e-5);
    expect_near("validation MSE", got.reports[e].val_mse, cpu.reports[e].val_mse, 1e-5);
    expect_near("validation MAE", got.reports[e].val_mae, cpu.reports[e].val_mae, 1e-5);
    if (settings.select_mixed) expect_near("mixed", got.reports[e].val_mixed, cpu.reports[e].val_mixed, 1e-5);
    EXPECT_EQ(got.reports[e].selected, cpu.reports[e].selected);
  }
  if (!c.few) {
    EXPECT_NE(cpu.reports.front().train_loss, cpu.reports.back().train_loss);
  }
  expect_slab("weights", got.weights, cpu.weights, c.weights, bench.model);
  expect_slab("tested", got.tested, cpu.tested, c.weights, bench.model);
  ASSERT_EQ(got.forecast.size(), cpu.forecast.size());
  for (std::size_t i = 0; i < got.forecast.size(); ++i) ASSERT_NEAR(got.forecast[i], cpu.forecast[i], 1e-4);
  for (std::size_t i = 0; i < cpu.errors.squared.size(); ++i) {
    ASSERT_NEAR(got.errors.squared[i], cpu.errors.squared[i], 1e-3 * cpu.errors.squared[i] + 1e-6);
    ASSERT_NEAR(got.errors.absolute[i], cpu.errors.absolute[i], 1e-3 * cpu.errors.absolute[i] + 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Options, GpuTraining, testing::ValuesIn(cases),
                         [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

class GpuTrainer : public testing::Test {
 protected:
  void SetUp() override {
    device_ = open_device();
    if (!device_) GTEST_SKIP() << "no GPU here";
  }
  Outcome repeated() { return repeated(bench_); }
  Outcome repeated(const Bench& bench) { return run(bench, settings_of(2), device_.get()); }
  const Bench bench_{samformer(Value::low_rank, 2, 24, 6, 4)};
  const Bench mixer_{tsmixer(1, 0.3, model::Norm::batch, kernels::Activation::relu, false)};
  std::unique_ptr<Device> device_;
};

TEST_F(GpuTrainer, TwoRunsAgreeBitForBit) {
  for (const Bench* bench : {&bench_, &mixer_}) {
    const Outcome first = repeated(*bench), second = repeated(*bench);
    EXPECT_EQ(first.weights, second.weights);
    EXPECT_EQ(first.reports.back().val_mse, second.reports.back().val_mse);
  }
}

#ifdef SAMFORMER_ON_EMULATOR
TEST_F(GpuTrainer, TheOrderOfThreadsChangesNothing) {
  namespace simt = kernels::simt;
  for (const Bench* bench : {&bench_, &mixer_}) {
    const Outcome forward = repeated(*bench);
    for (const simt::Order order : {simt::Order::reverse, simt::Order::shuffled}) {
      simt::options() = {order, 11};
      const Outcome other = repeated(*bench);
      simt::options() = {};
      EXPECT_EQ(forward.weights, other.weights);
    }
  }
}
#endif

#ifndef SAMFORMER_ON_EMULATOR
// Counted by the PTX simulator, where one is preloaded: between the first step of an epoch and its last nothing but
// one launch of a graph a step, of every model.
TEST_F(GpuTrainer, AStepIsOneGraphLaunch) {
  const auto counter = reinterpret_cast<double (*)(const char*, const char*)>(dlsym(RTLD_DEFAULT, "cudasim_counter"));
  const auto mark = reinterpret_cast<void (*)(const char*)>(dlsym(RTLD_DEFAULT, "cudasim_mark"));
  if (counter == nullptr || mark == nullptr) GTEST_SKIP() << "no PTX simulator is preloaded";
  const std::pair<const char*, model::Model> models[] = {
      {"low-rank", samformer(Value::low_rank, 7, 48, 12, 8)},
      {"full", samformer(Value::full, 7, 48, 12, 8)},
      {"linear", model::Linear({7, 48, 12})},
      {"covariates", model::Model(model::Linear({7, 48, 12})).with_covariates(3)},
      {"identity", transformer(model::Attention::identity)},
      {"random-transformer", transformer(model::Attention::frozen, false)},
      {"sigma-reparam", transformer(model::Attention::sigma_reparam)},
      {"temporal", model::Temporal({3, 24, 6, 4})},
      {"dlinear", model::DLinear({3, 24, 6})},
      {"itransformer", model::ITransformer({3, 24, 6, 8, 12, 2, 2, 0.2})},
      {"patchtst", model::PatchTst({3, 24, 6, 8, 12, 2, 2, 6, 4, 0.2})},
      {"logtrans", model::LogTrans({steps, 6})},
      {"informer", model::Informer({steps, false, 1})},
      {"pyraformer", pyraformer()},
      {"autoformer", model::Autoformer({{with_label(12, 0.2), {5}}, 1})},
      {"fedformer", model::Fedformer({{with_label(12, 0.2), {3, 6}}, modes})},
      {"tsmixer", tsmixer(2, 0.3, model::Norm::batch, kernels::Activation::relu, true)},
  };
  for (const auto& [name, model] : models) {
    SCOPED_TRACE(name);
    const Bench bench(model);
    const Problem problem = bench.problem();
    Trainer trainer(bench.model, problem, bench.train, {}, settings_of(1), device_.get());
    start(trainer, bench);
    const double findings = counter("", "findings");
    Recorder recorder;
    double graphs = -1, nodes = 0, others = 0, copies = 0, memsets = 0, allocations = 0, waits = 0;
    const std::int64_t last = trainer.steps_per_epoch();
    recorder.at_step = [&](std::int64_t step) {
      if (step == 1) mark(name);
      if (step != last) return;
      graphs = counter("", "graph_launches");
      nodes = counter("", "graph_kernel_nodes");
      others = counter("", "kernel_launches");
      allocations = counter("", "device_allocations") + counter("", "host_allocations");
      waits = counter("", "synchronisations");
      copies = counter("", "copy_bytes_host_to_device");
      memsets = counter("", "memsets");
    };
    trainer.run(recorder);
    EXPECT_EQ(graphs, static_cast<double>(last - 1));
    if (model.only_projects()) {
      EXPECT_LE(nodes / graphs, 40);
      if (name == std::string("low-rank")) {
        EXPECT_EQ(nodes / graphs, 36);
      }
      EXPECT_EQ(memsets, 0);  // the others' graphs begin with gradients of zero
    }
    std::printf("%s: kernel nodes a step: %.0f\n", name, nodes / graphs);
    EXPECT_EQ(others, 0);
    EXPECT_EQ(allocations, 0);
    EXPECT_EQ(waits, 0);
    EXPECT_EQ(copies, 0);
    EXPECT_EQ(counter("", "findings"), findings);
    EXPECT_EQ(findings, 0);
  }
}
#endif

// From the state of an interruption, which takes effect at the end of the epoch's steps, to the same bits.
TEST_F(GpuTrainer, ResumesToTheSameBits) {
  const Outcome whole = repeated();
  const Problem problem = bench_.problem();
  Trainer first(bench_.model, problem, bench_.train, bench_.val, settings_of(2), device_.get());
  start(first, bench_);
  Recorder recorder;
  recorder.stop_at = 2;
  try {
    first.run(recorder);
    FAIL() << "not interrupted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::interrupted);
  }
  EXPECT_EQ(recorder.saves, 1);
  EXPECT_EQ(first.state().step, first.steps_per_epoch());
  Trainer second(bench_.model, problem, bench_.train, bench_.val, settings_of(2), device_.get());
  const auto move = [](std::span<float> from, std::span<float> to) { std::copy(from.begin(), from.end(), to.begin()); };
  move(first.training().weights(), second.training().weights());
  move(first.training().first_moment(), second.training().first_moment());
  move(first.training().second_moment(), second.training().second_moment());
  move(first.training().averaged(), second.training().averaged());
  second.training().set_steps(first.training().steps());
  second.state() = first.state();
  Recorder again;
  second.run(again);
  EXPECT_EQ(copy(second.training().weights()), whole.weights);
  EXPECT_EQ(copy(second.training().tested()), whole.tested);
}

// The record of the first non-finite gradient: step, pass and parameter, the weights being those before the step.
TEST_F(GpuTrainer, ReportsADivergence) {
  const Problem problem = bench_.problem();
  TrainerSettings settings = settings_of(1);
  settings.step.rho = 1e30;  // the second pass overflows
  for (Device* device : {static_cast<Device*>(nullptr), device_.get()}) {
    Trainer trainer(bench_.model, problem, bench_.train, bench_.val, settings, device);
    start(trainer, bench_);
    const Slab before = copy(trainer.training().weights());
    Recorder recorder;
    try {
      trainer.run(recorder);
      FAIL() << "not diverged";
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::diverged);
      EXPECT_NE(std::string(e.what()).find("step 1, pass 2"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("compute_"), std::string::npos) << e.what();
    }
    EXPECT_EQ(copy(trainer.training().weights()), before);
  }
}

TEST_F(GpuTrainer, RefusesWhatIsNotThere) {
  try {
    open_gpu(1000, false);
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::device);
    EXPECT_NE(std::string(e.what()).find("cuda:1000"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace samformer::optim
