// `samformer toy`: the paper's toy regression (section 2). A transformer is trained on Y = X W + noise, which a linear
// map solves, and gets stuck in a sharp minimum far from it: beside it the Oracle (least squares), attention frozen at
// its initialisation, SAM and sigma-reparam, and other networks of the registry (--models), each with and without SAM.
// No RevIN, samples in one order, Adam at a constant rate, no averaging.
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "model/data/toy_data.h"
#include "optim/analysis/attention_map.h"
#include "optim/analysis/lanczos.h"
#include "optim/analysis/sharpness.h"
#include "optim/trainer.h"
#include "tools/cli/signals.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/experiment.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t map_samples = 256;        // of the validation set, that attention is averaged over
constexpr std::size_t sharpness_samples = 256;  // of the training set
constexpr std::int64_t early_epoch = 15;        // tracked besides 0, 1 and the last, as in the paper

struct Contender {
  std::string name;
  model::Attention attention;
  double rho = 0;
  kernels::Rule rule = kernels::Rule::adam;
  double weight_decay = 0;
  std::string other = {};  // a model of the registry instead
};

struct ToySettings {
  double noise = 1;
  std::int64_t samples = 10000;
  std::string ablation;
};

std::vector<Contender> contenders(const Settings& s) {
  using model::Attention;
  if (s.of<ToySettings>().ablation == "optimizers") {
    std::vector<Contender> out{{"transformer, adam", Attention::learned},
                               {"transformer, sgd", Attention::learned, 0, kernels::Rule::sgd}};
    for (const double decay : {1e-3, 1e-4, 1e-5}) {
      out.push_back({fmt::format("transformer, adamw {}", short_number(decay)), Attention::learned, 0,
                     kernels::Rule::adamw, decay});
    }
    return out;
  }
  std::vector<Contender> out{{"random-transformer", Attention::frozen},
                             {"transformer", Attention::learned},
                             {"transformer-sam", Attention::learned, s.rho},
                             {"sigma-reparam", Attention::sigma_reparam}};
  for (const std::string& name : s.models) {
    model::model_row(name);  // throws where there is none
    for (const double rho : {0.0, s.rho}) {
      out.push_back({rho > 0 ? name + "-sam" : name, Attention::identity, rho, kernels::Rule::adam, 0, name});
      if (s.rho == 0) break;
    }
  }
  return out;
}

// The samples and their parts.
struct Toy {
  model::ToySizes sizes;
  model::ToySamples samples;
  model::ToyPart train, val, test;

  optim::Problem problem() const {
    return {samples.values, samples.count * (sizes.L + sizes.H), sizes.D, samples.targets};
  }
  std::span<const std::int32_t> starts(model::ToyPart part) const {
    return std::span(samples.starts)
        .subspan(static_cast<std::size_t>(part.first), static_cast<std::size_t>(part.count));
  }
};

// Follows one training: its course and, at the tracked epochs, its attention.
class Course final : public optim::Observer {
 public:
  // `device`: where the maps are computed; null: on the CPU.
  Course(const Toy& toy, const model::Model& model, optim::DeviceModel* device, std::int64_t epochs, Console& console)
      : toy_(toy), model_(model), device_(device), tracked_{0, 1, early_epoch, epochs}, progress_(console) {}

  void train(optim::Trainer& trainer) {
    trainer_ = &trainer;
    note_attention(0);
    trainer.run(*this);
  }
  Json curve = Json::array();
  Json entropies = Json::array();
  Json maps = Json::array();

  void epoch_begins(std::int64_t epoch, std::int64_t steps) override {
    progress_.epoch_begin(static_cast<int>(epoch), static_cast<int>(trainer_->epochs()), steps);
  }
  optim::Action step_done(std::int64_t step) override {
    progress_.step(step);
    return interrupted() ? optim::Action::stop : optim::Action::go_on;
  }
  void steps_done() override {}
  void epoch_ends(const optim::EpochReport& r) override {
    curve.push_back({{"epoch", r.epoch}, {"train_mse", r.train_loss}, {"val_mse", r.val_mse}});
    note_attention(r.epoch);
    progress_.epoch_end(fmt::format("epoch {}/{}  train mse {:.4f}  val mse {:.4f}", r.epoch, trainer_->epochs(),
                                    r.train_loss, r.val_mse),
                        trainer_->done());
  }
  void save_state() override {}  // a training is too short to be taken up again

 private:
  void note_attention(std::int64_t epoch) {
    if (!tracked_.contains(epoch) || !model_.has_attention()) return;
    const auto starts = toy_.starts(toy_.val);
    const auto s = optim::attention_summary(
        model_, kernels::Center::none, trainer_->training().tested(), toy_.problem(),
        starts.first(std::min(map_samples, starts.size())), 0, [] {}, device_);
    entropies.push_back({{"epoch", epoch}, {"entropy", s.entropy}});
    Json map = Json::array();
    const std::int64_t D = toy_.sizes.D;
    for (std::int64_t i = 0; i < D; ++i) map.push_back(std::vector(s.map.begin() + i * D, s.map.begin() + (i + 1) * D));
    maps.push_back({{"epoch", epoch}, {"map", std::move(map)}});
  }

  const Toy& toy_;
  const model::Model& model_;
  optim::DeviceModel* device_;
  std::set<std::int64_t> tracked_;
  Progress progress_;
  optim::Trainer* trainer_ = nullptr;
};

Json run(const Contender& c, const Toy& toy, const Settings& s, const ChosenDevice& device, Console& console) {
  console.info(fmt::format("{}", c.name));
  const auto [D, L, H] = toy.sizes;
  const model::Model net =
      c.other.empty()
          ? model::Model(model::Transformer({D, L, H, s.model_option<std::int64_t>("d-model"), c.attention, false}))
          : model::make_model(c.other, {D, L, H}, {});
  optim::TrainerSettings t;
  t.step.rule.rule = c.rule;
  t.step.rule.weight_decay = c.weight_decay;
  t.step.rho = c.rho;
  t.step.stats_mix = {};
  t.step.ema = 0;
  t.schedule = optim::Schedule::constant;
  t.lr = s.lr;
  t.batch = s.batch;
  t.shuffle = false;
  t.epochs = s.epochs;
  t.patience = 0;
  t.select_last = true;
  const optim::Problem problem = toy.problem();
  optim::Trainer trainer(net, problem, toy.starts(toy.train), toy.starts(toy.val), t, device.gpu.get());
  initialise(trainer.training(), net, s);
  const auto loaded = device.load(net, problem, kernels::Center::none);
  Course course(toy, net, loaded.get(), s.epochs, console);
  const double begin = monotonic_seconds();
  course.train(trainer);
  const double seconds = monotonic_seconds() - begin;

  optim::Evaluator evaluator(net, kernels::Center::none, loaded.get());
  const auto mse = [&](model::ToyPart part) {
    return number_or_null(evaluator.errors(trainer.training().tested(), problem, toy.starts(part)).mse());
  };
  const auto starts = toy.starts(toy.train);
  optim::TrainingLoss loss(net, kernels::Center::none, problem,
                           starts.first(std::min(sharpness_samples, starts.size())), 0, stop_when_interrupted);
  const std::vector<double> at = loss.compact(trainer.training().tested());
  const auto largest = optim::largest_eigenvalue(
      [&](std::span<const double> v, std::span<double> out) { loss.hessian_product(at, v, out); }, loss.size(), 1e-3,
      60, static_cast<std::uint64_t>(s.seed));
  return {{"model", c.name},
          {"parameters", net.parameters().count()},
          {"rho", c.rho},
          {"train_mse", mse(toy.train)},
          {"val_mse", mse(toy.val)},
          {"test_mse", mse(toy.test)},
          {"attention_entropy", course.entropies},
          {"lambda_max", number_or_null(largest.value)},
          {"lambda_max_residual", number_or_null(largest.residual)},
          {"seconds_training", seconds},
          {"curve", course.curve},
          {"attention", course.maps}};
}

Json oracle(const Toy& toy) {
  const std::vector<float> weight = model::least_squares(toy.sizes, toy.samples, toy.train);
  const auto mse = [&](model::ToyPart part) { return model::linear_mse(toy.sizes, weight, toy.samples, part); };
  return {{"model", "oracle"},       {"parameters", weight.size()}, {"train_mse", mse(toy.train)},
          {"val_mse", mse(toy.val)}, {"test_mse", mse(toy.test)},   {"attention_entropy", nullptr},
          {"lambda_max", nullptr}};
}

// Null where there is no attention between channels.
Json last_entropy(const Json& m) {
  const Json& all = m["attention_entropy"];
  return all.empty() ? Json() : all.back()["entropy"];
}

void write_page(const Json& d, const fs::path& folder) {
  Report page("Toy regression",
              fmt::format("Y = X W + noise of standard deviation {}, {} training samples, {} epochs, SAM's rho {}, "
                          "d_m {}, init {}, seed {}",
                          d["noise"].dump(), d["samples"]["train"].dump(), d["epochs"].dump(), d["rho"].dump(),
                          d["d_model"].dump(), d["init"].get<std::string>(), d["seed"].dump()));
  std::vector<std::vector<std::string>> rows;
  LineChart train{"Training loss", "epoch", "MSE", {}, true}, val{"Validation loss", "epoch", "MSE", {}, true};
  std::vector<std::string> maps;
  for (const Json& m : d["models"]) {
    const std::string name = m["model"];
    const bool trained = m.contains("curve");
    rows.push_back({name, short_number(m["train_mse"]), short_number(m["val_mse"]), short_number(m["test_mse"]),
                    last_entropy(m).is_number() ? short_number(last_entropy(m)) : "",
                    m["lambda_max"].is_number() ? short_number(m["lambda_max"]) : ""});
    Curve losses{name, {}, {}, !trained}, validation{name, {}, {}, !trained};
    if (trained) {
      for (const Json& e : m["curve"]) {
        losses.x.push_back(e["epoch"]);
        losses.y.push_back(e["train_mse"]);
        validation.x.push_back(e["epoch"]);
        validation.y.push_back(e["val_mse"]);
      }
      for (const Json& a : m["attention"]) {
        std::vector<double> cells;
        for (const Json& row : a["map"]) {
          for (const Json& cell : row) cells.push_back(cell);
        }
        const auto D = static_cast<std::int64_t>(a["map"].size());
        std::vector<std::string> channels;
        for (std::int64_t i = 1; i <= D; ++i) channels.push_back(std::to_string(i));
        maps.push_back(draw(HeatMap{fmt::format("{}, epoch {}", name, a["epoch"].dump()), "looked at", "looks", D, D,
                                    cells, 0, 1, channels, channels}));
      }
    } else {
      losses.x = validation.x = {1.0, d["epochs"].get<double>()};
      losses.y = std::vector(2, m["train_mse"].get<double>());
      validation.y = std::vector(2, m["val_mse"].get<double>());
    }
    train.curves.push_back(losses);
    val.curves.push_back(validation);
  }
  page.table({"model", "train MSE", "validation MSE", "test MSE", "entropy", "λ max"}, rows);
  page.charts({draw(train), draw(val)});
  page.heading("Attention");
  page.paragraph(
      fmt::format("Mean maps of {} validation samples; a row is a channel. Uniform rows have entropy {:.3f}.",
                  map_samples, std::log(d["channels"].get<double>())));
  page.charts(maps);
  page.write(folder);
}

void print_table(std::ostream& out, const Json& d) {
  Table table("lrrrrr", {"model", "train mse", "val mse", "test mse", "entropy", "lambda max"});
  const auto number = [](const Json& v) {
    return v.is_number() ? fmt::format("{:.4f}", v.get<double>()) : std::string("-");
  };
  for (const Json& m : d["models"]) {
    table.row({m["model"], number(m["train_mse"]), number(m["val_mse"]), number(m["test_mse"]), number(last_entropy(m)),
               number(m["lambda_max"])});
  }
  out << fmt::format("Y = X W + noise {}, {} / {} / {} samples, {} epochs, rho {}, d_m {}, init {}, seed {}\n\n",
                     d["noise"].dump(), d["samples"]["train"].dump(), d["samples"]["val"].dump(),
                     d["samples"]["test"].dump(), d["epochs"].dump(), d["rho"].dump(), d["d_model"].dump(),
                     d["init"].get<std::string>(), d["seed"].dump())
      << table.str();
}

}  // namespace

int toy(const Invocation& invocation) {
  const CatchSignals catch_signals;
  Settings s = invocation.settings;
  const ToySettings own = s.of<ToySettings>();
  s.head_init = "as-init";
  s.shape_without_series();
  s.epoch_steps = 1;
  // The published figures are Keras's: its small queries, keys and values make attention uniform at the start.
  if (invocation.resolved.origin("init").layer == Layer::builtin) s.init = "keras";
  const ChosenDevice device = select_device(s);
  const fs::path folder = s.out.empty() ? "toy" : s.out;
  make_folders(folder);
  const FolderLock lock = lock_folder(folder);
  Toy toy{{7, s.lookback, s.horizon}, {}, {}, {}, {}};
  toy.train = {0, own.samples};
  toy.val = {own.samples, std::max<std::int64_t>(1, own.samples / 2)};
  toy.test = {toy.val.first + toy.val.count, std::max<std::int64_t>(1, own.samples / 5)};
  toy.samples =
      model::make_toy(toy.sizes, toy.test.first + toy.test.count, own.noise, static_cast<std::uint64_t>(s.seed));

  Json d = document("toy");
  d["device"] = device.name;
  d["noise"] = own.noise;
  d["init"] = s.init;
  d["rho"] = s.rho;
  d["epochs"] = s.epochs;
  d["d_model"] = s.model_option<std::int64_t>("d-model");
  d["seed"] = s.seed;
  d["lr"] = s.lr;
  d["batch"] = s.batch;
  d["channels"] = toy.sizes.D;
  d["lookback"] = s.lookback;
  d["horizon"] = s.horizon;
  d["samples"] = {{"train", toy.train.count}, {"val", toy.val.count}, {"test", toy.test.count}};
  d["models"] = Json::array({oracle(toy)});
  for (const Contender& c : contenders(s)) d["models"].push_back(run(c, toy, s, device, invocation.console));
  write_json(folder / "toy.json", d);
  write_page(d, folder);
  if (s.json) {
    print(d, invocation.out);
  } else {
    print_table(invocation.out, d);
  }
  return 0;
}

Command toy_command() {
  return {.name = "toy",
          .handler = toy,
          .takes = {"lookback", "horizon", "d-model", "init", "rho", "lr", "batch", "epochs", "seed", "device",
                    "threads", "models", "out"},
          .options = {{.name = "noise",
                       .member = at(&ToySettings::noise),
                       .value_name = "X",
                       .help = "standard deviation of the noise on the targets",
                       .range = not_negative},
                      {.name = "samples",
                       .member = at(&ToySettings::samples),
                       .value_name = "N",
                       .help = "to train on; half as many to validate, a fifth to test",
                       .range = from_one},
                      {.name = "ablation",
                       .member = at(&ToySettings::ablation),
                       .help = "the transformer under SGD and AdamW instead of the other models",
                       .default_text = "none",
                       .choices = {"optimizers"}}},
          .summary = "the paper's toy regression: a transformer with and without SAM beside least squares",
          .example = "samformer toy --epochs 100 --out toy",
          .texts = {{"lookback", "features of a sample", "512"},
                    {"horizon", "targets of a sample", "96"},
                    {"init", "limits of the initial weights", "keras"},
                    {"seed", "of samples, initialisation and order"},
                    {"models", "other values of --model, each with and without SAM", "none"},
                    {"out", "folder of the results", "toy"}}};
}

}  // namespace samformer::tools
