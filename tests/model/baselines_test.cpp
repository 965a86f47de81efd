// The baselines against the shared golden files, which the official PyTorch programs made (BASELINES.md there): outputs,
// losses, gradients, running averages and exact zeros, in training and in evaluation mode, in double and in float; and
// the dates' marks. DLinear, which has no file, against its formula.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "core/dual.h"
#include "model/data/marks.h"
#include "model/data/synth.h"
#include "model/registry.h"
#include "model/safetensors.h"
#include "tests/numeric.h"
#include "tests/shared_data.h"

namespace samformer {
namespace {

using kernels::Center;
using model::Model;
using model::Pass;
using model::Safetensors;

struct Sizes {
  std::int64_t N, D, L, H, d, f, heads, layers, label;
};
Sizes sizes_of(const Safetensors& file) {
  const auto c = nlohmann::json::parse(file.metadata("config"));
  const auto of = [&](const char* name, const char* otherwise) { return c.at(c.contains(name) ? name : otherwise); };
  return {c.at("N"),
          c.at("D"),
          c.at("L"),
          c.at("H"),
          c.at("d_model"),
          of("d_ff", "d_inner_hid"),
          of("n_heads", "n_head"),
          of("e_layers", "n_layer"),
          c.value("label_len", 0)};
}

// Of double and of float: twice what PyTorch's own float program reaches.
struct Tolerance {
  double output, loss, gradient;
};
template <class T>
constexpr Tolerance tolerance =
    std::is_same_v<T, double> ? Tolerance{1e-11, 1e-11, 1e-11} : Tolerance{6e-6, 1e-6, 2e-4};

// A golden file's batch, its windows channel by channel with the marks behind, also those of the horizon, and the
// model that it is of.
template <class T>
struct Golden {
  Safetensors file;
  Model net;
  Sizes z;
  std::int64_t marks;
  std::vector<T> x, y, weights;
  std::vector<std::int32_t> x_starts, y_starts, targets;

  Golden(const std::string& name, const std::function<Model(const Sizes&)>& make)
      : file(Safetensors::open(shared_data("golden/baseline_" + name + ".safetensors"))),
        net(make(sizes_of(file))),
        z(sizes_of(file)),
        marks(file.tensor("input.marks").shape[2]) {
    const std::vector<double> values = file.read<double>("input.x"), dates = file.read<double>("input.marks");
    const std::vector<double> target = file.read<double>("target"), ahead = file.read<double>("input.marks_dec");
    const std::vector<T> unknown(static_cast<std::size_t>(z.H), std::numeric_limits<T>::quiet_NaN());
    for (std::int64_t n = 0; n < z.N; ++n) {
      x_starts.push_back(static_cast<std::int32_t>(x.size()));
      y_starts.push_back(static_cast<std::int32_t>(y.size()));
      for (std::int64_t c = 0; c < z.D; ++c) {
        append(x, values, n, z.L, z.D, 0, c);
        x.insert(x.end(), unknown.begin(), unknown.end());
      }
      for (std::int64_t c = 0; c < marks; ++c) {
        append(x, dates, n, z.L, marks, 0, c);
        append(x, ahead, n, z.label + z.H, marks, z.label, c);
      }
      for (std::int64_t c = 0; c < z.D; ++c) append(y, target, n, z.H, z.D, 0, c);
    }
    targets.resize(static_cast<std::size_t>(z.D));
    std::iota(targets.begin(), targets.end(), 0);
    weights.resize(static_cast<std::size_t>(net.parameters().slab_size()));
    for (const model::Parameter& p : net.parameters().all()) {
      if (!p.constant.empty()) {
        std::copy(p.constant.begin(), p.constant.end(), weights.begin() + p.offset);
        continue;
      }
      const std::vector<double> stored = file.read<double>((p.trained ? "weight." : "buffer.") + p.name);
      EXPECT_EQ(static_cast<std::int64_t>(stored.size()), p.shape.count()) << p.name;
      std::copy(stored.begin(), stored.end(), weights.begin() + p.offset);
    }
  }
  // Column c of the step-major [.., T, C] of window n, from step `first` on.
  static void append(std::vector<T>& to, const std::vector<double>& from, std::int64_t n, std::int64_t steps,
                     std::int64_t columns, std::int64_t first, std::int64_t c) {
    for (std::int64_t t = first; t < steps; ++t) {
      to.push_back(static_cast<T>(from[static_cast<std::size_t>((n * steps + t) * columns + c)]));
    }
  }
  // In evaluation what is as in training is not stored.
  std::vector<double> stored(const std::string& name, bool training) const {
    return file.read<double>(!training && file.has("eval." + name) ? "eval." + name : name);
  }
};

template <class T>
struct Outcome {
  std::vector<T> output, gradient;  // output [N][H][D]
  T loss{};
};
// The weights' running averages move where the pass says so.
template <class T>
Outcome<T> evaluate(Golden<T>& g, const Pass& pass) {
  const auto [N, D, L, H, d, f, heads, layers, label] = g.z;
  Outcome<T> out;
  out.gradient.resize(g.weights.size());
  Arena<> arena;
  Tape<T> tape(arena);
  const kernels::Windows<T> windows{g.x.data(), L + H, g.x_starts.data(), N, D, nullptr, 0, g.marks};
  const Normalised<T> input = revin(tape, g.net.seen(windows), L, g.net.center(Center::mean));
  const auto forward = g.net.forward(tape, g.weights.data(), out.gradient.data(), input, pass);
  const Truth<T> truth{{g.y.data(), H, g.y_starts.data(), N, D}, g.targets.data(), D};
  // The same, not differentiated, as SAM's second pass: averages stay.
  const auto again = g.net.forward(tape, g.weights.data(), static_cast<T*>(nullptr), input,
                                   Pass{.training = pass.training, .number = 1});
  const Tensor<T> y = revin_inverse(again.z, again.affine, input);
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t h = 0; h < H; ++h) {
      for (std::int64_t c = 0; c < D; ++c) out.output.push_back(y.data[(n * D + c) * H + h]);
    }
  }
  const Var<T> loss = forecast_loss(forward.z, forward.affine, input, truth, 0);
  tape.backward(loss);
  out.loss = loss.value().data[0];
  return out;
}

// `zeros`: parameters by the end of their names whose gradient is exactly zero, in training alone where `normed`.
template <class T>
void expect_golden(const std::string& name, const std::function<Model(const Sizes&)>& make,
                   const std::vector<std::string>& zeros, const std::vector<std::string>& normed,
                   double gradients = tolerance<T>.gradient) {
  constexpr Tolerance allowed = tolerance<T>;
  for (const bool training : {true, false}) {
    SCOPED_TRACE(name + (training ? ", training" : ", evaluation"));
    Golden<T> g(name, make);
    const std::vector<T> before = g.weights;
    const Outcome<T> got = evaluate(g, Pass{.training = training});
    const std::vector<double> output = g.stored("output", training);
    EXPECT_TRUE(numeric::error(got.output, output) <= allowed.output) << numeric::error(got.output, output);
    const double loss = numeric::error(std::vector{got.loss}, g.stored("loss", training));
    EXPECT_TRUE(loss <= allowed.loss) << loss;
    double largest = 0;
    for (const model::Parameter& p : g.net.parameters().all()) {
      if (p.trained) largest = std::max(largest, numeric::largest(g.stored("grad." + p.name, training)));
    }
    for (const model::Parameter& p : g.net.parameters().all()) {
      const auto part = [&](const std::vector<T>& slab) {
        return std::vector<T>(slab.begin() + p.offset, slab.begin() + p.offset + p.shape.count());
      };
      const auto is_one_of = [&](const auto& names) {
        return std::ranges::any_of(names, [&](const std::string& end) { return p.name.ends_with(end); });
      };
      if (!p.constant.empty()) {
        EXPECT_EQ(part(g.weights), part(before)) << p.name;
      } else if (!p.trained) {
        const double error =
            training ? numeric::error(part(g.weights), g.file.template read<double>("after.buffer." + p.name))
                     : numeric::error(part(g.weights), part(before));
        EXPECT_TRUE(error <= (training ? allowed.output : 0)) << p.name << ": " << error;
      } else if (is_one_of(zeros) || (training && is_one_of(normed))) {
        EXPECT_EQ(part(got.gradient), std::vector<T>(static_cast<std::size_t>(p.shape.count()))) << p.name;
      } else {
        const double error = numeric::error(part(got.gradient), g.stored("grad." + p.name, training), 1e-3 * largest);
        EXPECT_TRUE(error <= gradients) << p.name << ": " << error;
      }
    }
  }
}

Model itransformer(const Sizes& z) { return model::ITransformer({z.D, z.L, z.H, z.d, z.f, z.heads, z.layers, 0}); }

TEST(Baselines, ITransformer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  expect_golden<double>("itransformer", itransformer, {"key_projection.bias"}, {});
  expect_golden<float>("itransformer", itransformer, {"key_projection.bias"}, {});
}

Model patchtst(const Sizes& z) { return model::PatchTst({z.D, z.L, z.H, z.d, z.f, z.heads, z.layers, 8, 4, 0}); }

TEST(Baselines, PatchTst) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const std::vector<std::string> normed{"W_V.bias", "to_out.0.bias", "ff.3.bias"};
  expect_golden<double>("patchtst", patchtst, {"W_K.bias"}, normed);
  expect_golden<float>("patchtst", patchtst, {"W_K.bias"}, normed);
}

model::StepSizes step_sizes(const Sizes& z) { return {z.D, z.L, z.H, 4, z.label, z.d, z.f, z.heads, z.layers, 1, 0}; }

Model logtrans(const Sizes& z) { return model::LogTrans({step_sizes(z), 12, 3}); }

TEST(Baselines, LogTrans) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  expect_golden<double>("logtrans", logtrans, {"key_projection.bias"}, {});
  expect_golden<float>("logtrans", logtrans, {"key_projection.bias"}, {});
}

// Its draws, in forward's order.
Model informer(const Sizes& z, const std::string& name, const std::vector<std::string>& modules) {
  model::Informer net({step_sizes(z), name == "informer", 1});
  const Safetensors file = Safetensors::open(shared_data("golden/baseline_" + name + ".safetensors"));
  std::vector<std::vector<std::int32_t>> keys;
  for (const std::string& module : modules) {
    const auto drawn = file.read<std::int64_t>("choice." + module + ".inner_attention.sampled_keys");
    keys.emplace_back(drawn.begin(), drawn.end());
  }
  net.set_sampled_keys(std::move(keys));
  return net;
}

TEST(Baselines, Informer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const std::vector<std::string> sparse{"encoder.attn_layers.0.attention", "encoder.attn_layers.1.attention",
                                        "decoder.layers.0.self_attention"},
      normed{"downConv.bias", "attn_layers.0.norm2.bias"};
  const auto official = [&](const Sizes& z) { return informer(z, "informer", sparse); };
  expect_golden<double>("informer", official, {"key_projection.bias"}, normed);
  expect_golden<float>("informer", official, {"key_projection.bias"}, normed);
  std::vector<std::string> all = sparse;
  all.push_back("decoder.layers.0.cross_attention");
  const auto ltsf = [&](const Sizes& z) { return informer(z, "informer_ltsf", all); };
  expect_golden<double>("informer_ltsf", ltsf, {"key_projection.bias"}, normed);
  expect_golden<float>("informer_ltsf", ltsf, {"key_projection.bias"}, normed);
}

// The sampled keys go by seed and step in training, whichever of SAM's passes it is; outside it by nothing.
TEST(Baselines, InformersDraws) {
  const model::Informer net(
      {{.D = 2, .L = 40, .H = 6, .marks = 0, .label = 20, .d = 8, .f = 8, .heads = 2, .dropout = 0}, false, 1});
  std::vector<float> drawn(static_cast<std::size_t>(net.parameters().slab_size()));
  net.initialise(drawn.data(), 3, model::Init::pytorch, model::HeadInit::as_init);
  std::vector<double> weights(drawn.begin(), drawn.end());
  const std::vector<double> x = numeric::normals(3 * 2 * 40, 9);
  const std::vector<std::int32_t> starts{0, 80, 160};
  const auto forecast = [&](const Pass& pass) {
    Arena<> arena;
    Tape<double> tape(arena);
    const Normalised<double> input =
        revin(tape, kernels::Windows<double>{x.data(), 40, starts.data(), 3, 2}, 40, Center::none);
    const Tensor<double> z = net.forward(tape, weights.data(), static_cast<double*>(nullptr), input, pass).z.z.value();
    return std::vector<double>(z.data, z.data + z.count());
  };
  const auto training = [&](std::uint64_t seed, std::int64_t step) {
    return forecast({.training = true, .seed = seed, .step = step, .number = 1});
  };
  const std::vector<double> at = training(1, 5);
  // The first pass moves batch norm's averages too, in other instructions.
  EXPECT_LE(numeric::error(forecast({.training = true, .seed = 1, .step = 5, .number = 0}), at), 1e-14);
  EXPECT_NE(training(1, 6), at);
  EXPECT_NE(training(2, 5), at);
  EXPECT_EQ(forecast({.seed = 1, .step = 5}), forecast({.seed = 2, .step = 6}));
}

Model pyraformer(const Sizes& z) {
  model::PyraformerShape shape;
  static_cast<model::StepSizes&>(shape) = step_sizes(z);
  shape.key_width = 4, shape.bottleneck = 4, shape.windows = {2, 2, 2};
  return model::Pyraformer(shape);
}

TEST(Baselines, Pyraformer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const std::vector<std::string> normed{"conv_layers.down.bias", "downConv.bias"};
  expect_golden<double>("pyraformer", pyraformer, {}, normed);
  expect_golden<float>("pyraformer", pyraformer, {}, normed);
}

void expect_mask(const kernels::HeadsMask& mask, const std::vector<std::uint8_t>& allowed, std::uint8_t yes) {
  const auto cells = static_cast<std::int64_t>(std::sqrt(static_cast<double>(allowed.size())));
  ASSERT_GT(cells, 1);
  for (std::int64_t i = 0; i < cells; ++i) {
    for (std::int64_t j = 0; j < cells; ++j) {
      EXPECT_EQ(mask.allows(i, j), allowed[static_cast<std::size_t>(i * cells + j)] == yes) << i << ", " << j;
    }
  }
}

TEST(Baselines, MaskOfLogTrans) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const Safetensors file = Safetensors::open(shared_data("golden/baseline_logtrans.safetensors"));
  for (const auto& [name, cells, sub] :
       {std::tuple("choice.mask_allowed.encoder", 24, 12), std::tuple("choice.mask_allowed.decoder", 20, 12),
        std::tuple("mask_allowed.n96_sub24", 96, 24), std::tuple("mask_allowed.n96_sub48", 96, 48),
        std::tuple("mask_allowed.n144_sub24", 144, 24)}) {
    SCOPED_TRACE(name);
    model::StepSizes z;
    z.d = 8, z.f = 8;
    expect_mask(model::LogTrans({z, sub, 3}).mask(cells), file.read<std::uint8_t>(name), 1);
  }
  // A sequence shorter than the pattern has it once: every step sees something.
  EXPECT_TRUE(model::LogTrans({model::StepSizes{}, 24, 3}).mask(10).allows(0, 0));
}

TEST(Baselines, MaskOfPyraformer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const Safetensors file = Safetensors::open(shared_data("golden/baseline_pyraformer.safetensors"));
  const Model net = pyraformer(sizes_of(file));
  expect_mask(std::get<model::Pyraformer>(net.network()).mask(), file.read<std::uint8_t>("choice.mask_forbidden"), 0);
}

Model autoformer(const Sizes& z) { return model::Autoformer({{step_sizes(z), {5}}, 1}); }

// Keys count as followed by zeros where the decoder has more steps than the encoder: then their bias has a gradient.
TEST(Baselines, Autoformer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const std::vector<std::string> zeros{"query_projection.bias",
                                       "layernorm.bias",
                                       "attention.key_projection.bias",
                                       "layers.0.attention.value_projection.bias",
                                       "layers.1.attention.value_projection.bias",
                                       "layers.0.attention.out_projection.bias",
                                       "layers.1.attention.out_projection.bias"};
  expect_golden<double>("autoformer", autoformer, zeros, {});
  expect_golden<float>("autoformer", autoformer, zeros, {});
  std::vector<std::string> longer = zeros;
  longer[2] = "layers.0.attention.key_projection.bias";
  longer.insert(longer.end(), {"layers.1.attention.key_projection.bias", "self_attention.key_projection.bias"});
  expect_golden<double>("autoformer_long", autoformer, longer, {});
  expect_golden<float>("autoformer_long", autoformer, longer, {});
}

// The official program's draws at this size.
model::ModeSets modes_of(const std::string& name) {
  const Safetensors file = Safetensors::open(shared_data("golden/baseline_" + name + ".safetensors"));
  const auto set = [&](const char* of) { return file.read<std::int64_t>(fmt::format("choice.{}", of)); };
  return {set("encoder.attn_layers.0.attention.inner_correlation.index"),
          set("decoder.layers.0.self_attention.inner_correlation.index"),
          set("decoder.layers.0.cross_attention.inner_correlation.index_q"),
          set("decoder.layers.0.cross_attention.inner_correlation.index_kv")};
}

// Complex tanh amplifies: float has wider gradients.
TEST(Baselines, Fedformer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  for (const std::string name : {"fedformer", "fedformer_mixture"}) {
    const bool mixed = name.ends_with("mixture");
    const auto make = [&](const Sizes& z) -> Model {
      const std::vector<std::int64_t> widths = mixed ? std::vector<std::int64_t>{3, 6} : std::vector<std::int64_t>{4};
      return model::Fedformer({{step_sizes(z), widths}, modes_of(name)});
    };
    // Constants over the steps, where frequency 0 was not drawn; and what is projected and not used.
    std::vector<std::string> zeros{"layernorm.bias",
                                   "layers.0.attention.query_projection.bias",
                                   "layers.1.attention.query_projection.bias",
                                   "layers.0.attention.key_projection.weight",
                                   "layers.0.attention.key_projection.bias",
                                   "layers.1.attention.value_projection.weight",
                                   "self_attention.key_projection.weight",
                                   "self_attention.value_projection.bias",
                                   "cross_attention.value_projection.weight",
                                   "cross_attention.value_projection.bias"};
    if (mixed) {
      zeros.push_back("cross_attention.query_projection.bias");
    } else {
      zeros.insert(zeros.end(), {"self_attention.query_projection.bias", "cross_attention.key_projection.bias",
                                 "layers.0.attention.out_projection.bias", "layers.1.attention.out_projection.bias",
                                 "decomp.layer.weight", "decomp1.layer.bias", "decomp2.layer.weight"});
    }
    expect_golden<double>(name, make, zeros, {});
    expect_golden<float>(name, make, zeros, {}, mixed ? 6e-4 : 1.8e-3);
  }
}

TEST(Baselines, ModesOfFedformer) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const Safetensors file = Safetensors::open(shared_data("golden/baseline_fedformer_modes.safetensors"));
  for (const std::int64_t H : {96, 192, 336, 720}) {
    const model::ModeSets drawn = model::published_modes(96, 48 + H, 64);
    const auto set = [&](const char* name) { return file.read<std::int64_t>(fmt::format("H{}.{}", H, name)); };
    EXPECT_EQ(drawn.encoder, set("encoder"));
    EXPECT_EQ(drawn.decoder, set("decoder"));
    EXPECT_EQ(drawn.queries, set("cross_q"));
    EXPECT_EQ(drawn.keys, set("cross_kv"));
  }
}

TEST(Baselines, TimeMarks) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  const Safetensors file = Safetensors::open(shared_data("golden/baseline_time_features.safetensors"));
  using model::Step, model::StepUnit;
  for (const auto& [name, step] :
       {std::pair("second", Step{StepUnit::second, 1}), std::pair("minute", Step{StepUnit::second, 900}),
        std::pair("hour", Step{StepUnit::second, 3600}), std::pair("day", Step{StepUnit::day, 1}),
        std::pair("business_day", Step{StepUnit::business_day, 1}), std::pair("week", Step{StepUnit::day, 7}),
        std::pair("month", Step{StepUnit::month, 1})}) {
    std::vector<model::Stamp> dates;
    for (const std::int64_t seconds : file.read<std::int64_t>(std::string(name) + ".stamps"))
      dates.push_back({seconds});
    const std::vector<double> stored = file.read<double>(std::string(name) + ".features");
    const std::vector<double> marks = model::time_marks(dates, step);
    const std::size_t count = static_cast<std::size_t>(model::mark_count(step));
    std::vector<double> by_row;
    for (std::size_t t = 0; t < dates.size(); ++t) {
      for (std::size_t m = 0; m < count; ++m) by_row.push_back(marks[m * dates.size() + t]);
    }
    EXPECT_TRUE(numeric::error(by_row, stored) <= 1e-15) << name << ": " << numeric::error(by_row, stored);
  }
}

// 2000-01-01 was a Saturday, in the last week of 1999.
TEST(Baselines, MarksOfADay) {
  const std::vector<model::Stamp> dates{{946684800 + 23 * 3600 + 59 * 60}};
  using model::Step, model::StepUnit;
  EXPECT_EQ(model::time_marks(dates, Step{StepUnit::second, 60}),
            (std::vector<double>{0.5, 0.5, 5.0 / 6 - 0.5, -0.5, -0.5}));
  EXPECT_EQ(model::time_marks(dates, Step{StepUnit::day, 7}), (std::vector<double>{-0.5, 51.0 / 52 - 0.5}));
  EXPECT_EQ(model::mark_count(Step{StepUnit::month, 12}), 0);
  EXPECT_EQ(model::mark_count(Step{}), 0);
}

// A forecast's rows: those of the look-back with their marks, then marks alone.
TEST(Baselines, MarksGoOnAfterTheLastRow) {
  model::Series whole = model::make_seasonal({60, 2, 1});
  const model::Scaler scaler = model::fit_scaler(whole, {0, 40});
  const model::MarkedValues all = model::marked_values(whole, scaler);
  const std::vector<model::Stamp> ahead(whole.dates.begin() + 50, whole.dates.begin() + 56);
  model::Series cut = model::make_seasonal({50, 2, 1});
  const model::MarkedValues read = model::marked_values(cut, scaler, {38, 50}, ahead);
  const std::vector<std::int32_t> targets{0, 1};
  const model::Problem problem = read.problem(targets);
  ASSERT_EQ(problem.rows, 18);
  ASSERT_EQ(problem.marks, all.marks);
  for (std::int64_t d = 0; d < 2 + all.marks; ++d) {
    for (std::int64_t t = 0; t < 18; ++t) {
      const float value = problem.values[static_cast<std::size_t>(d * 18 + t)];
      if (d < 2 && t >= 12) {
        EXPECT_TRUE(std::isnan(value));
      } else {
        EXPECT_EQ(value, all.values[static_cast<std::size_t>(d * 60 + 38 + t)]) << d << ", " << t;
      }
    }
  }
}

// The formula, term by term: windows whose moving average reaches over both ends.
TEST(Baselines, DLinear) {
  const std::int64_t N = 2, D = 3, L = 9, H = 4;
  for (const std::int64_t width : {1, 4, 25}) {
    const Model net = model::DLinear({D, L, H, width});
    const std::vector<double> x = numeric::normals(N * D * L, 7);
    std::vector<double> weights(static_cast<std::size_t>(net.parameters().slab_size()));
    for (const model::Parameter& p : net.parameters().all()) {
      const auto drawn = numeric::normals(p.shape.count(), 8, static_cast<std::uint32_t>(p.name.size()));
      std::copy(drawn.begin(), drawn.end(), weights.begin() + p.offset);
    }
    const auto tensor = [&](const char* name) { return weights.data() + net.parameters().find(name).offset; };
    const std::vector<std::int32_t> starts{0, static_cast<std::int32_t>(D * L)};
    Arena<> arena;
    Tape<double> tape(arena);
    const Normalised<double> input =
        revin(tape, kernels::Windows<double>{x.data(), L, starts.data(), N, D}, L, net.center(Center::mean));
    const Tensor<double> z =
        net.forward(tape, weights.data(), static_cast<double*>(nullptr), input, Pass{}).z.z.value();
    std::vector<double> got, expected;
    const std::int64_t front = width - 1 - (width - 1) / 2;
    for (std::int64_t r = 0; r < N * D; ++r) {
      std::vector<double> trend;
      for (std::int64_t t = 0; t < L; ++t) {
        double sum = 0;
        for (std::int64_t j = t - front; j < t - front + width; ++j)
          sum += x[r * L + std::clamp<std::int64_t>(j, 0, L - 1)];
        trend.push_back(sum / static_cast<double>(width));
      }
      for (std::int64_t h = 0; h < H; ++h) {
        double sum = tensor("Linear_Seasonal.bias")[h] + tensor("Linear_Trend.bias")[h];
        for (std::int64_t t = 0; t < L; ++t) {
          const double slow = trend[static_cast<std::size_t>(t)];
          sum += (x[static_cast<std::size_t>(r * L + t)] - slow) * tensor("Linear_Seasonal.weight")[h * L + t] +
                 slow * tensor("Linear_Trend.weight")[h * L + t];
        }
        expected.push_back(sum);
        got.push_back(z(r, h));
      }
    }
    EXPECT_TRUE(numeric::error(got, expected) <= 1e-14) << width;
  }
}

}  // namespace
}  // namespace samformer
