// SAMformer's relatives beyond their gradients (gradient_test.cpp): TSMixer against the shared golden files, what is
// not trained, running averages, dropout, spectral norms, models without RevIN, the toy data.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "core/dual.h"
#include "kernels/normalise.h"
#include "kernels/spectral.h"
#include "model/data/toy_data.h"
#include "model/registry.h"
#include "model/safetensors.h"
#include "optim/least_squares.h"
#include "optim/ridge.h"
#include "optim/step.h"
#include "optim/trainer.h"
#include "tests/numeric.h"
#include "tests/shared_data.h"

namespace samformer {
namespace {

using kernels::Center;
using model::Model;
using model::Pass;
using model::Safetensors;

constexpr std::uint64_t seed = 20240211;

std::vector<std::int32_t> range(std::int64_t count, std::int64_t step) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>(i * step));
  return out;
}

// ---- TSMixer against PyTorch --------------------------------------------------------------------------------------

template <class T>
std::vector<T> numbers(const Safetensors& file, const std::string& name) {
  const std::vector<double> values = file.read<double>(name);
  return {values.begin(), values.end()};
}

// Weights, x [N, D, L] and y [N, D, H] of a golden file.
template <class T>
struct Golden {
  Safetensors file;
  Model net;
  std::int64_t N, D, L, H;
  std::vector<T> x, y, weights;

  Golden(const std::string& path, bool shared)
      : file(Safetensors::open(path)), net(read_net(shared)), N(file.tensor("x").shape[0]) {
    D = net.shape().D, L = net.shape().L, H = net.shape().H;
    x = numbers<T>(file, "x");
    y = numbers<T>(file, "y");
    weights.resize(static_cast<std::size_t>(net.parameters().slab_size()));
    for (const model::Parameter& p : net.parameters().all()) {
      const std::vector<T> values = numbers<T>(file, "parameter." + p.name);
      EXPECT_EQ(static_cast<std::int64_t>(values.size()), p.shape.count()) << p.name;
      std::copy(values.begin(), values.end(), weights.begin() + p.offset);
    }
  }
  Model read_net(bool shared) const {
    const auto size = [&](const std::string& name, std::size_t i) { return file.tensor("parameter." + name).shape[i]; };
    const std::string ff = shared ? "feature_in.bias" : "blocks.0.feature_in.bias";
    return model::TsMixer({size("revin.affine_weight", 0), size("linear_forecaster.weight", 1),
                           size("linear_forecaster.weight", 0), 2, size(ff, 0), 0, model::Norm::batch,
                           kernels::Activation::relu, shared});
  }
};

template <class T>
struct Evaluation {
  std::vector<T> prediction, gradient;
  T loss;
};
template <class T>
Evaluation<T> evaluate(const Golden<T>& g, std::vector<T> weights, const Pass& pass) {
  const auto x_starts = range(g.N, g.D * g.L), y_starts = range(g.N, g.D * g.H), targets = range(g.D, 1);
  Evaluation<T> out;
  out.gradient.resize(weights.size());
  Arena<> arena;
  Tape<T> tape(arena);
  const Normalised<T> input =
      revin(tape, kernels::Windows<T>{g.x.data(), g.L, x_starts.data(), g.N, g.D}, g.L, Center::mean);
  const auto f = g.net.forward(tape, weights.data(), out.gradient.data(), input, pass);
  const Truth<T> truth{{g.y.data(), g.H, y_starts.data(), g.N, g.D}, targets.data(), g.D};
  const Var<T> loss = forecast_loss(f.z, f.affine, input, truth, 0);
  tape.backward(loss);
  out.loss = loss.value().data[0];
  const auto forecast = g.net.forward(tape, weights.data(), static_cast<T*>(nullptr), input, pass);
  const Tensor<T> y = revin_inverse(forecast.z, forecast.affine, input);
  out.prediction.assign(y.data, y.data + y.count());
  return out;
}

template <class T>
void expect_group(const Golden<T>& g, const std::string& group, const std::vector<T>& slab, double tolerance) {
  double largest = 0;
  for (const model::Parameter& p : g.net.parameters().all()) {
    if (p.trained) largest = std::max(largest, numeric::largest(g.file.template read<double>(group + p.name)));
  }
  for (const model::Parameter& p : g.net.parameters().all()) {
    if (!p.trained) continue;
    const std::vector<T> part(slab.begin() + p.offset, slab.begin() + p.offset + p.shape.count());
    const double error = numeric::error(part, g.file.template read<double>(group + p.name), 1e-3 * largest);
    EXPECT_TRUE(error <= tolerance) << group << p.name << ": error " << error << ", tolerance " << tolerance;
  }
}

// Tolerances as the golden files' README has them.
template <class T>
void expect_golden() {
  const bool exact = std::is_same_v<T, double>;
  const double loss = exact ? 1e-11 : 2e-6, prediction = exact ? 1e-11 : 1e-5, gradient = exact ? 1e-11 : 2e-5;
  for (const bool shared : {true, false}) {
    const std::string path =
        shared_data(fmt::format("golden/tsmixer_{}_tiny.safetensors", shared ? "shared" : "published")).string();
    SCOPED_TRACE(path);
    const Golden<T> g(path, shared);
    const auto expect = [&](const std::string& name, const std::vector<T>& actual, double tolerance) {
      const double error = numeric::error(actual, g.file.template read<double>(name));
      EXPECT_TRUE(error <= tolerance) << name << ": error " << error << ", tolerance " << tolerance;
    };
    // The second pass: running averages stay as they are.
    const Pass training{.training = true, .number = 1};
    const Evaluation<T> base = evaluate(g, g.weights, training);
    expect("prediction", base.prediction, prediction);
    expect("loss", {base.loss}, loss);
    expect_group(g, "gradient.", base.gradient, gradient);
    expect("prediction_inference", evaluate(g, g.weights, Pass{}).prediction, prediction);

    double squares = 0;
    for (const T v : base.gradient) squares += static_cast<double>(v) * static_cast<double>(v);
    expect("gradient_norm", {static_cast<T>(std::sqrt(squares))}, gradient);
    std::vector<T> up = g.weights;
    const T scale = static_cast<T>(g.file.template read<double>("rho")[0] / (std::sqrt(squares) + 1e-12));
    for (std::size_t i = 0; i < up.size(); ++i) up[i] += scale * base.gradient[i];
    const Evaluation<T> perturbed = evaluate(g, up, training);
    expect("loss_perturbed", {perturbed.loss}, loss);
    expect_group(g, "gradient_perturbed.", perturbed.gradient, gradient);
  }
}

TEST(TsMixerGolden, InDouble) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  expect_golden<double>();
}
TEST(TsMixerGolden, InFloat) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  expect_golden<float>();
}

// ---- What is not trained ------------------------------------------------------------------------------------------

// Trains on smooth curves; returns all slabs' states after each step.
struct Course {
  std::vector<std::vector<float>> weights, averaged;
};
// A training on N windows of a smooth series.
struct Steps {
  Steps(const Model& net, const optim::StepSettings& settings, std::int64_t windows)
      : D(net.shape().D),
        L(net.shape().L),
        values(static_cast<std::size_t>(D * rows)),
        starts(range(windows, 11)),
        targets(range(D, 1)),
        training(net, settings) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double t = static_cast<double>(i);
      values[i] = static_cast<float>(std::sin(0.1 * t) + 0.3 * std::sin(0.037 * t * t));
    }
    net.initialise(training.weights().data(), 3, model::Init::glorot, model::HeadInit::as_init);
    training.start_average();
  }
  void step() {
    const auto N = static_cast<std::int64_t>(starts.size());
    training.step({values.data(), rows, starts.data(), N, D},
                  {{values.data() + L, rows, starts.data(), N, D}, targets.data(), D}, 1e-2);
  }

  static constexpr std::int64_t rows = 200;
  std::int64_t D, L;
  std::vector<float> values;
  std::vector<std::int32_t> starts, targets;
  optim::Training<float> training;
};
Course train(const Model& net, std::int64_t steps, optim::StepSettings settings, std::int64_t N = 8) {
  Steps s(net, settings, N);
  Course out;
  const auto keep = [&] {
    out.weights.emplace_back(s.training.weights().begin(), s.training.weights().end());
    out.averaged.emplace_back(s.training.tested().begin(), s.training.tested().end());
  };
  keep();
  for (std::int64_t i = 0; i < steps; ++i) {
    s.step();
    keep();
  }
  return out;
}
std::vector<float> part(const std::vector<float>& slab, const model::Parameter& p) {
  return {slab.begin() + p.offset, slab.begin() + p.offset + p.shape.count()};
}

TEST(Untrained, FrozenAttentionStaysAndTheRestMoves) {
  for (const bool revin : {true, false}) {
    const Model net = model::Transformer({3, 16, 4, 4, model::Attention::frozen, revin});
    optim::StepSettings settings;
    settings.rule.weight_decay = 0.1;  // would move what has no gradient
    const Course course = train(net, 3, settings);
    for (const model::Parameter& p : net.parameters().all()) {
      const bool frozen = !p.name.starts_with("linear_forecaster") && !p.name.starts_with("revin");
      EXPECT_EQ(p.trained, !frozen) << p.name;
      EXPECT_EQ(numeric::same_bits(part(course.weights[0], p), part(course.weights[3], p)), frozen) << p.name;
      EXPECT_EQ(numeric::same_bits(part(course.averaged[0], p), part(course.averaged[3], p)), frozen) << p.name;
    }
  }
}

// One step moves the running averages once for each use of the norm, with SAM too, and the averaged weights have them.
TEST(Untrained, RunningAveragesMoveInTheFirstPassAlone) {
  const Model net = model::TsMixer({2, 16, 4, 1, 4, 0});
  const model::Parameter& mean = net.parameters().find("blocks.0.time_norm.running_mean");
  const model::Parameter& var = net.parameters().find("blocks.0.time_norm.running_var");
  optim::StepSettings with_sam, without;
  without.rho = 0;
  const Course sam = train(net, 1, with_sam), plain = train(net, 1, without);
  for (const model::Parameter* p : {&mean, &var}) {
    EXPECT_TRUE(numeric::same_bits(part(sam.weights[1], *p), part(plain.weights[1], *p))) << p->name;
    EXPECT_TRUE(numeric::same_bits(part(sam.weights[1], *p), part(sam.averaged[1], *p))) << p->name;
    EXPECT_FALSE(numeric::same_bits(part(sam.weights[0], *p), part(sam.weights[1], *p))) << p->name;
  }
  const Course one = train(net, 1, with_sam, 1);  // a batch of one window has no statistics
  EXPECT_TRUE(numeric::same_bits(part(one.weights[0], mean), part(one.weights[1], mean)));
}

TEST(Untrained, RunningAveragesByHand) {
  const std::int64_t N = 5, M = 130;
  const std::vector<double> x = numeric::normals(N * M, seed, 1, 0.5, 2);
  numeric::Guarded<double> mean(M), rstd(M), running_mean(std::vector<double>(M, 3)),
      running_var(std::vector<double>(M, 7));
  std::vector<double> y(x.size()), one(M, 1.0);
  kernels::batch_norm<double>(kernels::Cpu{}, y.data(), mean.data(), rstd.data(), running_mean.data(),
                              running_var.data(), nullptr, x.data(), one.data(), one.data(), N, M);
  std::vector<double> expected_mean, expected_rstd, expected_running_mean, expected_running_var;
  for (std::int64_t c = 0; c < M; ++c) {
    double m = 0, v = 0;
    for (std::int64_t n = 0; n < N; ++n) m += x[n * M + c] / N;
    for (std::int64_t n = 0; n < N; ++n) v += (x[n * M + c] - m) * (x[n * M + c] - m) / N;
    expected_mean.push_back(m);
    expected_rstd.push_back(1 / std::sqrt(v + 1e-3));
    expected_running_mean.push_back(0.99 * 3 + 0.01 * m);
    expected_running_var.push_back(0.99 * 7 + 0.01 * v);
  }
  EXPECT_TRUE(numeric::error(mean.values(), expected_mean) <= 1e-14);
  EXPECT_TRUE(numeric::error(rstd.values(), expected_rstd) <= 1e-14);
  EXPECT_TRUE(numeric::error(running_mean.values(), expected_running_mean) <= 1e-14);
  EXPECT_TRUE(numeric::error(running_var.values(), expected_running_var) <= 1e-14);
  EXPECT_TRUE(mean.intact() && rstd.intact() && running_mean.intact() && running_var.intact());
}

// ---- What a step leaves -------------------------------------------------------------------------------------------

// mean = d mean + (1 - d) w behind step t (from 0), d = min(ema, (1 + t) / (10 + t)): both sides of that minimum.
TEST(Step, TheAverageIsThatOfItsFormula) {
  const Model net = model::Samformer({model::Value::low_rank, 3, 16, 4, 4});
  for (const double ema : {0.998, 0.2}) {
    optim::StepSettings settings;
    settings.ema = ema;
    const Course course = train(net, 4, settings);
    std::vector<double> mean(course.weights[0].begin(), course.weights[0].end());
    for (std::size_t t = 0; t + 1 < course.weights.size(); ++t) {
      const double d = std::min(ema, (1 + static_cast<double>(t)) / (10 + static_cast<double>(t)));
      for (std::size_t i = 0; i < mean.size(); ++i) {
        mean[i] = d * mean[i] + (1 - d) * static_cast<double>(course.weights[t + 1][i]);
      }
      EXPECT_TRUE(numeric::error(course.averaged[t + 1], mean) <= 1e-6) << ema << ", step " << t;
    }
  }
}

TEST(Step, ADivergenceInSamsSecondPassLeavesTheWeightsBeforeTheStep) {
  const Model net = model::Samformer({model::Value::low_rank, 3, 16, 4, 4});
  for (const bool adaptive : {false, true}) {
    optim::StepSettings settings;
    settings.rho = 1e30;  // the ascent point overflows
    settings.adaptive = adaptive;
    Steps s(net, settings, 8);
    const auto copy = [](std::span<const float> slab) { return std::vector<float>(slab.begin(), slab.end()); };
    const std::vector<float> before = copy(s.training.weights());
    try {
      s.step();
      FAIL() << "not diverged";
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::diverged);
      EXPECT_NE(std::string(e.what()).find("step 1, pass 2"), std::string::npos) << e.what();
    }
    EXPECT_TRUE(numeric::same_bits(before, copy(s.training.weights())));
    EXPECT_TRUE(numeric::same_bits(before, copy(s.training.tested())));
  }
}

// ---- Operations ---------------------------------------------------------------------------------------------------

TEST(LayerNorm, OfASampleByHand) {
  const std::int64_t N = 3, M = 70;
  const std::vector<double> x = numeric::normals(N * M, seed, 2, 1, 3), w = numeric::normals(M, seed, 3),
                            b = numeric::normals(M, seed, 4);
  numeric::Guarded<double> y(N * M), mean(N), rstd(N);
  kernels::layer_norm<double>(kernels::Cpu{}, y.data(), mean.data(), rstd.data(), x.data(), w.data(), b.data(), N, M,
                              nullptr);
  std::vector<double> expected;
  for (std::int64_t n = 0; n < N; ++n) {
    double m = 0, v = 0;
    for (std::int64_t c = 0; c < M; ++c) m += x[n * M + c] / M;
    for (std::int64_t c = 0; c < M; ++c) v += (x[n * M + c] - m) * (x[n * M + c] - m) / M;
    for (std::int64_t c = 0; c < M; ++c) expected.push_back((x[n * M + c] - m) / std::sqrt(v + 1e-3) * w[c] + b[c]);
  }
  EXPECT_TRUE(numeric::error(y.values(), expected) <= 1e-13);
  EXPECT_TRUE(y.intact() && mean.intact() && rstd.intact());
}

TEST(Gelu, KnownValues) {
  Arena<> arena;
  Tape<double> tape(arena);
  std::vector<double> x{-2, 0, 1};
  const Var<double> y = gelu(tape.constant({x.data(), Shape{3}}));
  const std::vector<double> expected{-0.04550026389635842, 0, 0.8413447460685429};  // x Phi(x), scipy
  EXPECT_TRUE(numeric::error(std::vector(y.value().data, y.value().data + 3), expected) <= 1e-14);
}

TEST(Dropout, DropsItsShareAndKeepsTheMean) {
  const std::int64_t n = 200001;
  const auto mask = [&](Dropout dropout) {
    Arena<> arena;
    Tape<float> tape(arena);
    std::vector<float> ones(static_cast<std::size_t>(n), 1.0f);
    const Var<float> y =
        bias_activation(tape.constant({ones.data(), Shape{n}}), {}, kernels::Activation::none, {}, dropout);
    return std::vector<float>(y.value().data, y.value().data + n);
  };
  for (const double rate : {0.0, 0.3, 0.9}) {
    const std::vector<float> y = mask({.rate = rate, .seed = 4, .step = 10});
    double zeros = 0;
    for (const float v : y) {
      zeros += v == 0;
      EXPECT_TRUE(v == 0 || std::fabs(v - 1 / (1 - rate)) <= 1e-6 / (1 - rate));
    }
    // Five standard deviations of a binomial.
    EXPECT_LE(std::fabs(zeros - rate * n), 5 * std::sqrt(rate * (1 - rate) * n) + 1e-9) << rate;
  }
  const Dropout here{0.5, 4, 10, 1, 2};
  EXPECT_TRUE(numeric::same_bits(mask(here), mask(here)));
  for (const Dropout other : {Dropout{0.5, 5, 10, 1, 2}, {0.5, 4, 11, 1, 2}, {0.5, 4, 10, 0, 2}, {0.5, 4, 10, 1, 3}}) {
    const std::vector<float> a = mask(here), b = mask(other);
    std::int64_t same = 0;
    for (std::size_t i = 0; i < a.size(); ++i) same += a[i] == b[i];
    EXPECT_NEAR(static_cast<double>(same) / n, 0.5, 0.01);  // independent masks
  }
}

// W = U diag(s) V' of known singular values, by Householder reflections.
TEST(SpectralNorm, OfMatricesOfKnownSingularValues) {
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>(5, 40), {40, 5}, {16, 512}, {1, 9}}) {
    const std::int64_t k = std::min(out, in);
    const auto unit = [&](std::int64_t n, std::uint32_t sub) {
      std::vector<double> v = numeric::normals(n, seed, sub);
      const double length = std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
      for (double& e : v) e /= length;
      return v;
    };
    const std::vector<double> a = unit(out, 10), b = unit(in, 11);
    std::vector<double> W(static_cast<std::size_t>(out * in));
    // (I - 2 a a') S (I - 2 b b') with S diagonal, 3, 2.9, 2.8, ...
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t i = 0; i < in; ++i) {
        for (std::int64_t s = 0; s < k; ++s) {
          W[o * in + i] += ((o == s) - 2 * a[o] * a[s]) * (3 - 0.1 * double(s)) * ((i == s) - 2 * b[i] * b[s]);
        }
      }
    }
    const double gamma = 1;
    std::vector<double> scaled(W.size()), saved(static_cast<std::size_t>(kernels::spectral_saved(out, in)));
    std::vector<double> work(static_cast<std::size_t>(kernels::spectral_scratch(kernels::Cpu{}, out, in)));
    const kernels::SpectralLayer<double, kernels::Cpu> layer{
        .weight = W.data(), .gamma = &gamma, .scaled = scaled.data(), .saved = saved.data(), .out = out, .in = in};
    kernels::spectral_reparam(kernels::Cpu{}, &layer, 1, work.data());
    const double sigma = saved.back(), *const v = saved.data(), *const u = v + in;
    EXPECT_TRUE(std::fabs(sigma - 3) <= 1e-13) << out << " x " << in << ": " << sigma;
    // The first columns of U and V, up to a common sign.
    const double sign = (u[0] > 0) == (1 - 2 * a[0] * a[0] > 0) ? 1 : -1;
    for (std::int64_t o = 0; o < out; ++o) EXPECT_TRUE(std::fabs(u[o] - sign * ((o == 0) - 2 * a[o] * a[0])) <= 1e-12);
    for (std::int64_t i = 0; i < in; ++i) EXPECT_TRUE(std::fabs(v[i] - sign * ((i == 0) - 2 * b[i] * b[0])) <= 1e-12);
  }
}

// ---- Without RevIN ------------------------------------------------------------------------------------------------

TEST(WithoutRevin, WindowsAndForecastsAreAsTheyAre) {
  const Model net = model::Transformer({2, 6, 3, 2, model::Attention::learned, false});
  EXPECT_FALSE(net.has_revin());
  EXPECT_EQ(net.center(Center::last), Center::none);
  const std::vector<double> x = numeric::normals(2 * 2 * 6, seed, 20, 5, 2);
  const auto starts = range(2, 12);
  Arena<> arena;
  Tape<double> tape(arena);
  const auto input = revin(tape, kernels::Windows<double>{x.data(), 6, starts.data(), 2, 2}, 6, Center::none);
  EXPECT_TRUE(numeric::same_bits(std::vector(input.xhat.value().data, input.xhat.value().data + 24), x));
  std::vector<double> weights(static_cast<std::size_t>(net.parameters().slab_size()), 0.1);
  const auto f = net.forward(tape, weights.data(), static_cast<double*>(nullptr), input, Pass{});
  const double *const y = revin_inverse(f.z, f.affine, input).data, *const z = f.z.z.value().data;
  EXPECT_TRUE(numeric::same_bits(std::vector(y, y + 12), std::vector(z, z + 12)));
}

// ---- The toy data -------------------------------------------------------------------------------------------------

TEST(Toy, LeastSquaresReachesTheNoise) {
  const model::ToySizes sizes{3, 40, 6};
  const double noise = 0.5;
  const auto samples = model::make_toy(sizes, 3000, noise, 7);
  const model::ToyPart train{0, 1500}, test{1500, 1500};
  const std::vector<float> weight = model::least_squares(sizes, samples, train);
  // 4500 equations of 40 unknowns: the expected errors are noise^2 (1 -+ 40 / 4500).
  const double n = 4500, bias = 40 / n, spread = std::sqrt(2 / (n * 6));
  EXPECT_NEAR(model::linear_mse(sizes, weight, samples, train) / (noise * noise), 1 - bias, 4 * spread);
  EXPECT_NEAR(model::linear_mse(sizes, weight, samples, test) / (noise * noise), 1 + bias, 4 * spread);
  // Without noise it is W itself.
  const auto exact = model::make_toy(sizes, 200, 0, 7);
  EXPECT_LE(model::linear_mse(sizes, model::least_squares(sizes, exact, {0, 100}), exact, {100, 100}), 1e-8);
  EXPECT_THROW(model::least_squares(sizes, exact, {0, 10}), Error);
}

// Of series that a linear map forecasts exactly (each channel a sum of three waves and a level), it does.
TEST(LeastSquares, FindsTheRecurrenceOfASeries) {
  const std::int64_t D = 2, L = 20, H = 5, rows = 300;
  std::vector<float> values(static_cast<std::size_t>(D * rows));
  const std::vector<double> noise = numeric::normals(D * rows, seed, 40, 0, 1e-3);
  for (std::int64_t d = 0; d < D; ++d) {
    for (std::int64_t t = 0; t < rows; ++t) {
      double v = 3 - 5 * double(d) + noise[d * rows + t];
      for (const double period : {7.0, 11.3, 24.0})
        v += std::sin(2 * 3.14159265 * (double(t) + 3 * double(d)) / period);
      values[d * rows + t] = static_cast<float>(v);
    }
  }
  const auto targets = range(D, 1), tested = range(270, 1);
  const optim::Problem problem{values, rows, D, targets};
  const model::Linear net({D, L, H});
  const model::Span all[] = {{0, 200}};
  const std::vector<float> slab = optim::least_squares_slab(net, problem, all);
  ASSERT_FALSE(slab.empty());
  optim::Evaluator evaluator(net, Center::mean);
  EXPECT_LE(evaluator.errors(slab, problem, std::span(tested).subspan(200)).mse(), 1e-4);
  // No other weights of the network do better on the windows it was fitted to: the loss has no slope there.
  const auto fitted = range(200 - L - H + 1, 1);
  const double best = evaluator.errors(slab, problem, fitted).mse();
  const std::vector<double> direction = numeric::normals(H * L, seed, 41);
  for (const double step : {1e-2, -1e-2}) {
    std::vector<float> moved = slab;
    for (std::int64_t h = 0; h < H; ++h) {
      double mean = 0;
      for (std::int64_t i = 0; i < L; ++i) mean += direction[h * L + i] / L;
      for (std::int64_t i = 0; i < L; ++i) moved[h * L + i] += static_cast<float>(step * (direction[h * L + i] - mean));
    }
    EXPECT_GT(evaluator.errors(moved, problem, fitted).mse(), best);
  }
  // Of two runs of rows: what lies between them is not seen, nor a window across.
  std::vector<float> broken = values;
  for (std::int64_t d = 0; d < D; ++d) std::fill_n(broken.begin() + d * rows + 90, 20, 1e3f);
  const model::Span two[] = {{0, 90}, {110, 200}};
  const optim::Problem holed{broken, rows, D, targets};
  EXPECT_LE(evaluator.errors(optim::least_squares_slab(net, holed, two), problem, std::span(tested).subspan(200)).mse(),
            1e-4);
  const model::Span few[] = {{0, 20}};
  EXPECT_TRUE(optim::least_squares_slab(net, problem, few).empty());
  std::vector<float> constant(values.size(), 1.0f);
  EXPECT_TRUE(optim::least_squares_slab(net, {constant, rows, D, targets}, all).empty());
}

// Series without structure that least squares would find by chance: a strength above the smallest helps.
optim::Problem noisy(std::vector<float>& values, const std::vector<std::int32_t>& targets, std::int64_t rows) {
  const auto D = static_cast<std::int64_t>(targets.size());
  const std::vector<double> noise = numeric::normals(D * rows, seed, 50);
  values.resize(static_cast<std::size_t>(D * rows));
  for (std::int64_t d = 0; d < D; ++d) {
    double level = 0;
    for (std::int64_t t = 0; t < rows; ++t) {
      level = 0.9 * level + noise[d * rows + t];
      values[d * rows + t] = static_cast<float>(level + std::sin(2 * 3.14159265 * double(t) / 12));
    }
  }
  return {values, rows, D, targets};
}

// From the windows themselves: (sum z z^T + a m I) W = sum z y^T, z and y without their centre.
TEST(Ridge, SolvesItsNormalEquations) {
  const std::int64_t L = 12, H = 5, rows = 200;
  std::vector<float> values;
  const auto targets = range(2, 1);
  const optim::Problem problem = noisy(values, targets, rows);
  const model::Linear net({2, L, H});
  const model::Span runs[] = {{0, 90}, {100, 180}};
  for (const Center center : {Center::mean, Center::last}) {
    for (const double strength : {1e-3, 1.0}) {
      Eigen::MatrixXd G = Eigen::MatrixXd::Zero(L, L), C = Eigen::MatrixXd::Zero(L, H);
      for (const model::Span run : runs) {
        for (std::int64_t d = 0; d < 2; ++d) {
          for (std::int64_t start = run.first; start + L + H <= run.last; ++start) {
            Eigen::VectorXd x(L + H);
            for (std::int64_t i = 0; i < L + H; ++i) x(i) = double(values[d * rows + start + i]);
            x.array() -= center == Center::mean ? x.head(L).mean() : x(L - 1);
            G += x.head(L) * x.head(L).transpose();
            C += x.head(L) * x.tail(H).transpose();
          }
        }
      }
      G.diagonal().array() += strength * G.diagonal().mean();
      const Eigen::MatrixXd W = G.ldlt().solve(C);
      const std::vector<float> slab = optim::ridge_slab(net, problem, runs, {center, strength});
      const float* weight = slab.data() + net.parameters().find("linear_forecaster.weight").offset;
      for (std::int64_t h = 0; h < H; ++h) {
        for (std::int64_t i = 0; i < L; ++i) EXPECT_NEAR(double(weight[h * L + i]), W(i, h), 1e-6) << h << ' ' << i;
      }
    }
  }
  EXPECT_TRUE(optim::ridge_slab(net, problem, std::vector<model::Span>{{0, 10}}, {}).empty());
}

// The choice is that of forecasting each block with weights fitted to what lies before it, and sees nothing behind
// `known`.
TEST(Ridge, ChoosesByRollingFolds) {
  const std::int64_t L = 12, H = 5, rows = 400, known = 320, block = known / 8;
  std::vector<float> values;
  const auto targets = range(2, 1);
  const optim::Problem problem = noisy(values, targets, rows);
  const model::Linear net({2, L, H});
  model::Series series;
  series.rows = rows;
  series.holes = {{100, 3}};
  double lowest = 1e9;
  optim::Ridge best;
  for (const Center center : {Center::mean, Center::last}) {
    for (const double strength : {1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0}) {
      double sum = 0;
      for (std::int64_t f = 4; f > 0; --f) {
        const model::Span inside{known - f * block, known - (f - 1) * block};
        const auto slab =
            optim::ridge_slab(net, problem, model::unbroken(series, {0, inside.first}), {center, strength});
        const auto starts = model::window_starts(series, model::with_lookback(inside, L), L, H);
        sum += optim::Evaluator(net, center).errors(slab, problem, starts).mse() / 4;
      }
      if (sum < lowest) lowest = sum, best = {center, strength};
    }
  }
  const optim::Ridge chosen = optim::choose_ridge(net, problem, series, known);
  EXPECT_EQ(chosen.center, best.center);
  EXPECT_EQ(chosen.strength, best.strength);
  EXPECT_GT(chosen.strength, 1e-7);
  std::vector<float> other = values;
  for (std::int64_t d = 0; d < 2; ++d) std::fill_n(other.begin() + d * rows + known, rows - known, 1e4f);
  const optim::Ridge same = optim::choose_ridge(net, {other, rows, 2, targets}, series, known);
  EXPECT_EQ(same.strength, chosen.strength);
  EXPECT_EQ(same.center, chosen.center);
  // A target that is left out of errors over all has no say.
  for (std::int64_t t = 0; t < rows; ++t) other[rows + t] = t % 2 ? 1e3f : -1e3f;
  const std::uint8_t left_out[] = {0, 1};
  const optim::Ridge alone = optim::choose_ridge(net, {other, rows, 2, targets, left_out}, series, known);
  const auto first = range(1, 1);
  const optim::Ridge one = optim::choose_ridge(model::Linear({1, L, H}), {values, rows, 1, first}, series, known);
  EXPECT_EQ(alone.strength, one.strength);
  // Too few rows for a fold.
  EXPECT_EQ(optim::choose_ridge(net, problem, series, 16).strength, optim::Ridge{}.strength);
}

// An epoch longer than the windows: order after order, each another, none used twice.
TEST(Epoch, GoesThroughTheWindowsAgain) {
  const auto starts = range(10, 3);
  std::vector<std::int32_t> first(25), second(25), shuffled = starts;
  optim::fill_epoch(first, starts, true, seed, 0);
  optim::fill_epoch(second, starts, true, seed, 1);
  optim::shuffle(shuffled, seed, 0);
  EXPECT_TRUE(std::equal(shuffled.begin(), shuffled.end(), first.begin()));
  std::set<std::vector<std::int32_t>> orders;
  for (const auto* epoch : {&first, &second}) {
    for (const std::size_t at : {0, 10}) {
      std::vector<std::int32_t> order(epoch->begin() + std::ptrdiff_t(at), epoch->begin() + std::ptrdiff_t(at) + 10);
      orders.insert(order);
      std::sort(order.begin(), order.end());
      EXPECT_EQ(order, starts);
    }
  }
  EXPECT_EQ(orders.size(), 4u);
  std::vector<std::int32_t> once(10);
  optim::fill_epoch(once, starts, true, seed, 2);
  shuffled = starts;
  optim::shuffle(shuffled, seed, 2);
  EXPECT_EQ(once, shuffled);
  std::vector<std::int32_t> plain(15);
  optim::fill_epoch(plain, starts, false, seed, 0);
  EXPECT_TRUE(std::equal(starts.begin(), starts.end(), plain.begin()));
  EXPECT_EQ(plain[10], starts[0]);
}

TEST(Toy, IsTheSameForTheSameSeedAlone) {
  const auto values = [](std::uint64_t s) { return model::make_toy({2, 5, 3}, 4, 1, s).values; };
  EXPECT_TRUE(numeric::same_bits(values(1), values(1)));
  EXPECT_FALSE(numeric::same_bits(values(1), values(2)));
}

}  // namespace
}  // namespace samformer
