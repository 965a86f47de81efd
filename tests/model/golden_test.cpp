// Agreement with independent statements of SAMformer, in double and in float.
//
// Two sets of safetensors files under the same names: tests/data (plain Python, make_golden.py there says what each
// tensor is) and the shared golden files (PyTorch, compared once with the authors' own code), which also hold Hessians
// and training runs; where those are absent their tests are skipped.
// Error: largest difference over max(largest magnitude of the tensor, 1e-3 of the largest in its group), a group being
// all `gradient.*` and so on. The key bias has no gradient: its slot is exactly zero, the golden numbers are noise.
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "core/dual.h"
#include "core/ops/ops.h"
#include "kernels/update.h"
#include "model/data/readers.h"
#include "model/safetensors.h"
#include "model/samformer.h"
#include "optim/step.h"
#include "tests/numeric.h"
#include "tests/shared_data.h"

namespace samformer {
namespace {

using kernels::Center;
using model::Association;
using model::Safetensors;
using model::Samformer;
using model::SamformerShape;
using model::Value;

// Of double and of float, as the shared golden files' README has them.
struct Tolerance {
  double exact, single;
};
constexpr Tolerance loss_tolerance{1e-11, 2e-6}, prediction_tolerance{1e-11, 1e-5}, gradient_tolerance{1e-11, 2e-5};
// After 20 steps: losses, weights by element and by L2 norm.
constexpr Tolerance losses_tolerance{1e-11, 5e-6}, weights_tolerance{1e-11, 5e-4}, weights_norm_tolerance{1e-11, 1e-5};

std::string data_file(const std::string& name) {
  return std::string(SAMFORMER_TEST_DATA) + "/" + name + ".safetensors";
}
std::string shared_file(const std::string& name) { return shared_data("golden/" + name + ".safetensors").string(); }

// A file's tensor as double, whatever its type.
std::vector<double> numbers(const Safetensors& file, const std::string& name) {
  if (file.tensor(name).dtype == model::Dtype::f64) return file.read<double>(name);
  const std::vector<float> values = file.read<float>(name);
  return {values.begin(), values.end()};
}
double number(const Safetensors& file, const std::string& name) { return numbers(file, name).at(0); }
template <class T>
std::vector<T> numbers_as(const Safetensors& file, const std::string& name) {
  const std::vector<double> values = numbers(file, name);
  return {values.begin(), values.end()};
}

// ETTh1 standardised as the golden runs had it, [D][T] in double.
struct Etth1 {
  model::Series series;
  model::Scaler scaler;

  Etth1() : series(model::read_series(shared_data("data/ETTh1.csv").string(), {})) {
    scaler = model::fit_scaler(series, {0, 8640});
    for (std::size_t i = 0; i < series.values.size(); ++i) {
      const std::size_t d = i / static_cast<std::size_t>(series.rows);
      series.values[i] = (series.values[i] - scaler.mean[d]) / scaler.std[d];
    }
  }
};

// A golden file, its model and one batch: the file's own tensors, or the windows of ETTh1 that start at its `starts`.
template <class T>
struct Golden {
  Safetensors file;
  SamformerShape shape;
  std::int64_t N;
  Samformer net;
  std::vector<T> x, y, weights;
  std::int64_t x_stride, y_stride;
  std::vector<std::int32_t> x_starts, y_starts, targets;

  explicit Golden(const std::string& path, const Etth1* etth1 = nullptr)
      : file(Safetensors::open(path)), shape(read_shape()), net(shape) {
    if (etth1) {
      x.assign(etth1->series.values.begin(), etth1->series.values.end());
      y = x;
      x_stride = y_stride = etth1->series.rows;
      N = file.tensor("starts").shape[1];
      select_batch(0);
    } else {
      x = numbers_as<T>(file, "x");
      y = numbers_as<T>(file, "y");
      x_stride = shape.L;
      y_stride = shape.H;
      N = file.tensor("x").shape[0];
      for (std::int64_t n = 0; n < N; ++n) {
        x_starts.push_back(static_cast<std::int32_t>(n * shape.D * shape.L));
        y_starts.push_back(static_cast<std::int32_t>(n * shape.D * shape.H));
      }
    }
    targets.resize(static_cast<std::size_t>(shape.D));
    std::iota(targets.begin(), targets.end(), 0);
    weights = slab("parameter.");
  }
  // Batch `step` of ETTh1's training run.
  void select_batch(std::int64_t step) {
    const std::vector<std::int64_t> starts = file.read<std::int64_t>("starts");
    x_starts.assign(starts.begin() + step * N, starts.begin() + (step + 1) * N);
    y_starts = x_starts;
    for (std::int32_t& start : y_starts) start += static_cast<std::int32_t>(shape.L);
  }
  SamformerShape read_shape() const {
    const auto size = [&](const char* name, std::size_t i) { return file.tensor(name).shape[i]; };
    const bool low_rank = file.has("parameter.output_projection.weight");
    return {low_rank ? Value::low_rank : Value::full, size("parameter.revin.affine_weight", 0),
            size("parameter.linear_forecaster.weight", 1), size("parameter.linear_forecaster.weight", 0),
            size("parameter.compute_keys.weight", 0)};
  }
  // All tensors of a group, at the parameters' offsets.
  std::vector<T> slab(const std::string& group) const {
    std::vector<T> out(static_cast<std::size_t>(net.parameters().slab_size()));
    for (const model::Parameter& p : net.parameters().all()) {
      const std::vector<T> values = numbers_as<T>(file, group + p.name);
      EXPECT_EQ(static_cast<std::int64_t>(values.size()), p.shape.count()) << p.name;
      std::copy(values.begin(), values.end(), out.begin() + p.offset);
    }
    return out;
  }
};

template <class T>
struct Evaluation {
  std::vector<T> prediction, level, sigma, attention, gradient;
  T loss{};
};
template <class T, class File>
Evaluation<T> evaluate(const Golden<File>& g, std::vector<T> weights, Association order, Center center, double lambda) {
  const auto [value, D, L, H, d_m] = g.shape;
  const std::int64_t R = g.N * D;
  const std::vector<T> x(g.x.begin(), g.x.end()), y(g.y.begin(), g.y.end());
  Evaluation<T> out;
  out.gradient.resize(weights.size());
  Arena<> arena;
  Tape<T> tape(arena);
  const Normalised<T> input =
      revin(tape, kernels::Windows<T>{x.data(), g.x_stride, g.x_starts.data(), g.N, D}, L, center, lambda > 0);
  const auto f = g.net.forward(tape, weights.data(), out.gradient.data(), input, order);
  const Truth<T> truth{{y.data(), g.y_stride, g.y_starts.data(), g.N, D}, g.targets.data(), D};
  const Var<T> loss = forecast_loss(f.z, f.affine, input, truth, lambda);
  tape.backward(loss);
  out.loss = loss.value().data[0];
  out.level.assign(input.stats, input.stats + R);
  out.sigma.assign(input.stats + R, input.stats + 2 * R);
  // The same forward pass, not differentiated.
  const auto forecast = g.net.forward(tape, weights.data(), static_cast<T*>(nullptr), input, order);
  const Tensor<T> prediction = revin_inverse(forecast.z, forecast.affine, input);
  out.prediction.assign(prediction.data, prediction.data + R * H);
  if constexpr (std::is_floating_point_v<T>) {
    out.attention = numeric::attention_probabilities(f.map.q.z.value().data, f.map.k.z.value().data,
                                                     f.map.q.z.value().stride, f.map.lse.data, g.N, D, d_m);
  }
  return out;
}

// Compares each parameter's part of a slab with the file's group.
template <class T, class File>
void expect_group(const Golden<File>& g, const std::string& group, const std::vector<T>& slab, double tolerance) {
  double largest = 0;
  for (const model::Parameter& p : g.net.parameters().all()) {
    largest = std::max(largest, numeric::largest(numbers(g.file, group + p.name)));
  }
  for (const model::Parameter& p : g.net.parameters().all()) {
    const std::vector<T> part(slab.begin() + p.offset, slab.begin() + p.offset + p.shape.count());
    if (p.name == "compute_keys.bias") {
      EXPECT_TRUE(std::all_of(part.begin(), part.end(), [](T v) { return v == 0; })) << group << p.name;
      continue;
    }
    const double error = numeric::error(part, numbers(g.file, group + p.name), 1e-3 * largest);
    EXPECT_TRUE(error <= tolerance) << group << p.name << ": error " << error << ", tolerance " << tolerance;
  }
}
template <class T, class File>
void expect_tensor(const Golden<File>& g, const std::string& name, const std::vector<T>& actual, double tolerance) {
  const double error = numeric::error(actual, numbers(g.file, name));
  EXPECT_TRUE(error <= tolerance) << name << ": error " << error << ", tolerance " << tolerance;
}

// A file in single precision holds rounded weights: it asks no more of double than of float.
template <class T>
double tolerance_of(Tolerance tolerance, const Golden<T>& g) {
  const bool rounded = g.file.tensor("loss").dtype == model::Dtype::f32;
  return std::is_same_v<T, float> || rounded ? tolerance.single : tolerance.exact;
}

// Everything of one batch but Hessians and training.
template <class T>
void expect_golden(const Golden<T>& g, Association order) {
  const double loss = tolerance_of<T>(loss_tolerance, g), prediction = tolerance_of<T>(prediction_tolerance, g);
  const double gradient = tolerance_of<T>(gradient_tolerance, g);
  const Evaluation<T> base = evaluate(g, g.weights, order, Center::mean, 0);
  expect_tensor(g, "forward.mean", base.level, prediction);
  expect_tensor(g, "forward.sigma", base.sigma, prediction);
  expect_tensor(g, "forward.attention", base.attention, prediction);
  expect_tensor(g, "prediction", base.prediction, prediction);
  expect_tensor(g, "loss", std::vector{base.loss}, loss);
  expect_group(g, "gradient.", base.gradient, gradient);

  // SAM's ascent.
  const auto n = static_cast<std::int64_t>(g.weights.size());
  std::vector<double> parts(static_cast<std::size_t>(kernels::norm_parts(kernels::Cpu{}, n)));
  std::vector<T> up = g.weights, saved(g.weights.size());
  kernels::Progress progress;
  const kernels::Hyper hyper{.rho = number(g.file, "rho")};
  const kernels::UpdateSlabs<T> slabs{up.data(), saved.data(), nullptr, nullptr, nullptr, base.gradient.data(), n};
  kernels::gradient_norm(kernels::Cpu{}, parts.data(), &progress, &hyper, slabs, false,
                         kernels::PassLoss<T>{&base.loss, 1, g.N, 0, false});
  const double norm = std::sqrt(std::accumulate(parts.begin(), parts.end(), 0.0));
  expect_tensor(g, "gradient_norm", std::vector{norm}, gradient);
  kernels::perturb(kernels::Cpu{}, slabs, &progress, &hyper, parts.data(), false);
  EXPECT_EQ(progress.bad_pass, 0);
  EXPECT_TRUE(numeric::same_bits(saved, g.weights));
  const Evaluation<T> perturbed = evaluate(g, up, order, Center::mean, 0);
  expect_tensor(g, "loss_perturbed", std::vector{perturbed.loss}, loss);
  expect_group(g, "gradient_perturbed.", perturbed.gradient, gradient);

  const Evaluation<T> mixed = evaluate(g, g.weights, order, Center::mean, 1);
  expect_tensor(g, "loss_mixed", std::vector{mixed.loss}, loss);
  expect_group(g, "gradient_mixed.", mixed.gradient, gradient);

  const Evaluation<T> last = evaluate(g, g.weights, order, Center::last, 0);
  expect_tensor(g, "prediction_last", last.prediction, prediction);
  expect_tensor(g, "loss_last", std::vector{last.loss}, loss);
  expect_group(g, "gradient_last.", last.gradient, gradient);
}

const std::vector<std::string> own_names{"samformer_low_rank_1", "samformer_low_rank_3", "samformer_low_rank_9",
                                         "samformer_full_1",     "samformer_full_3",     "samformer_full_9"};
const std::vector<std::string> shared_names{"samformer_low_rank_tiny",        "samformer_low_rank_1_channel",
                                            "samformer_low_rank_33_channels", "samformer_full_tiny",
                                            "samformer_full_1_channel",       "samformer_full_33_channels"};

template <class T>
void expect_golden_file(const std::string& path) {
  const Golden<T> g(path);
  for (const Association order : {Association::folded, Association::direct}) {
    SCOPED_TRACE(path + (order == Association::folded ? ", folded" : ", direct"));
    expect_golden(g, order);
  }
}

TEST(Golden, OwnFilesInDouble) {
  for (const std::string& name : own_names) expect_golden_file<double>(data_file(name));
}
TEST(Golden, OwnFilesInFloat) {
  for (const std::string& name : own_names) expect_golden_file<float>(data_file(name));
}
TEST(Golden, SharedFilesInDouble) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  for (const std::string& name : shared_names) expect_golden_file<double>(shared_file(name));
}
TEST(Golden, SharedFilesInFloat) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  for (const std::string& name : shared_names) expect_golden_file<float>(shared_file(name));
}

// ---- Hessians -----------------------------------------------------------------------------------------------------

std::vector<double> hessian_product(const Golden<double>& g, const std::vector<double>& v) {
  std::vector<Dual<double>> w(g.weights.size());
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = {g.weights[i], v[i]};
  std::vector<double> out;
  for (const Dual<double> d : evaluate(g, w, Association::folded, Center::mean, 0).gradient) out.push_back(d.d);
  return out;
}

// Eigenvalues of a dense symmetric matrix [n][n]: Householder to tridiagonal form, then the implicit QL iteration
// (Golub & Van Loan, Matrix Computations, 8.3; EISPACK tred2 and tql1).
std::vector<double> symmetric_eigenvalues(std::vector<double> a, std::size_t n) {
  std::vector<double> diagonal(n), side(n);
  for (std::size_t k = 0; k + 2 < n; ++k) {
    // Reflect column k below the diagonal onto its first element: v, then A -= v w' + w v'.
    double norm = 0;
    for (std::size_t i = k + 1; i < n; ++i) norm = std::hypot(norm, a[i * n + k]);
    if (norm == 0) continue;
    std::vector<double> v(n), p(n);
    const double target = a[(k + 1) * n + k] > 0 ? -norm : norm;
    for (std::size_t i = k + 1; i < n; ++i) v[i] = a[i * n + k];
    v[k + 1] -= target;
    double square = 0, along = 0;
    for (std::size_t i = k + 1; i < n; ++i) square += v[i] * v[i];
    for (std::size_t i = k; i < n; ++i) {
      for (std::size_t j = k + 1; j < n; ++j) p[i] += a[i * n + j] * v[j];
      p[i] *= 2 / square;
      along += p[i] * v[i];
    }
    for (std::size_t i = k; i < n; ++i) p[i] -= along / square * v[i];
    for (std::size_t i = k; i < n; ++i) {
      for (std::size_t j = k; j < n; ++j) a[i * n + j] -= v[i] * p[j] + p[i] * v[j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) diagonal[i] = a[i * n + i];
  for (std::size_t i = 0; i + 1 < n; ++i) side[i] = a[(i + 1) * n + i];
  // Relative to the matrix, not to its neighbours: many eigenvalues are zero.
  const double negligible = 0x1p-54 * (numeric::largest(diagonal) + numeric::largest(side));
  for (std::size_t l = 0; l < n; ++l) {
    for (int round = 0;; ++round) {
      std::size_t m = l;
      while (m + 1 < n && std::fabs(side[m]) > negligible) ++m;
      if (m == l) break;
      if (round == 100) throw std::runtime_error("the QL iteration does not converge");
      double g = (diagonal[l + 1] - diagonal[l]) / (2 * side[l]);
      g = diagonal[m] - diagonal[l] + side[l] / (g + std::copysign(std::hypot(g, 1.0), g));
      double s = 1, c = 1, shift = 0;
      for (std::size_t i = m; i-- > l;) {
        const double f = s * side[i], b = c * side[i], r = std::hypot(f, g);
        side[i + 1] = r;
        if (r == 0) {
          diagonal[i + 1] -= shift;
          side[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = diagonal[i + 1] - shift;
        const double t = (diagonal[i] - g) * s + 2 * c * b;
        shift = s * t;
        diagonal[i + 1] = g + shift;
        g = c * t - b;
      }
      diagonal[l] -= shift;
      side[l] = g;
      side[m] = 0;
    }
  }
  std::sort(diagonal.begin(), diagonal.end());
  return diagonal;
}

// Q diag(values) Q' for a reflection Q: the spectrum is known.
TEST(Golden, EigenvaluesOfAKnownMatrix) {
  const std::size_t n = 40;
  const std::vector<double> v = numeric::normals(n, 5);
  std::vector<double> known(n), a(n * n);
  for (std::size_t i = 0; i < n; ++i) known[i] = i % 5 == 0 ? 0 : static_cast<double>(i) - 11;
  const double square = std::inner_product(v.begin(), v.end(), v.begin(), 0.0);
  const auto q = [&](std::size_t i, std::size_t k) { return (i == k ? 1.0 : 0.0) - 2 * v[i] * v[k] / square; };
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n; ++k) a[i * n + j] += q(i, k) * known[k] * q(j, k);
    }
  }
  std::sort(known.begin(), known.end());
  EXPECT_TRUE(numeric::error(symmetric_eigenvalues(a, n), known) <= 1e-13);
}

TEST(Golden, SharedHessians) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  for (const std::string name : {"samformer_low_rank_tiny", "samformer_full_tiny"}) {
    SCOPED_TRACE(name);
    const Golden<double> g(shared_file(name));
    expect_group(g, "hessian.product.", hessian_product(g, g.slab("hessian.vector.")), 1e-11);
    // Dense, column by column, without the slab's gaps.
    std::vector<std::size_t> places;
    for (const model::Parameter& p : g.net.parameters().all()) {
      for (std::int64_t i = 0; i < p.shape.count(); ++i) places.push_back(static_cast<std::size_t>(p.offset + i));
    }
    const std::size_t n = places.size();
    std::vector<double> dense(n * n), transposed(n * n);
    double trace = 0;
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<double> e(g.weights.size());
      e[places[i]] = 1;
      const std::vector<double> column = hessian_product(g, e);
      for (std::size_t k = 0; k < n; ++k) dense[k * n + i] = transposed[i * n + k] = column[places[k]];
      trace += column[places[i]];
    }
    EXPECT_TRUE(numeric::error(dense, transposed) <= 1e-10);
    EXPECT_TRUE(std::fabs(trace - number(g.file, "hessian.trace")) <= 1e-11 * std::fabs(trace));
    std::vector<double> expected = numbers(g.file, "hessian.eigenvalues");
    std::sort(expected.begin(), expected.end());
    for (std::size_t i = 0; i < dense.size(); ++i) dense[i] = (dense[i] + transposed[i]) / 2;
    const double error = numeric::error(symmetric_eigenvalues(dense, n), expected);
    EXPECT_TRUE(error <= 1e-11) << error;
  }
}

// ---- Training -----------------------------------------------------------------------------------------------------

struct TrainingRun {
  std::string name;
  optim::StepSettings settings;
  double lr;
};
std::vector<TrainingRun> tiny_runs() {
  const optim::StepSettings sam{{}, 0.5, false, 0, Center::mean, 0};
  std::vector<TrainingRun> runs(5, TrainingRun{"sam_adam", sam, 1e-2});
  runs[1].name = "adam";
  runs[1].settings.rho = 0;
  runs[2].name = "sam_adamw";
  runs[2].settings.rule.rule = kernels::Rule::adamw;
  runs[2].settings.rule.weight_decay = 0.1;
  runs[3].name = "sam_sgd";
  runs[3].settings.rule.rule = kernels::Rule::sgd;
  runs[4].name = "asam_adam";
  runs[4].settings.adaptive = true;
  return runs;
}

// 20 steps through the training step that the program takes; batch(step) gives the windows and their truth.
template <class T, class Batch>
void expect_training(const Golden<T>& g, const TrainingRun& run, const Batch& batch) {
  SCOPED_TRACE(g.file.path().string() + ", " + run.name);
  optim::Training<T> training(g.net, run.settings);
  std::copy(g.weights.begin(), g.weights.end(), training.weights().begin());
  std::vector<double> losses;
  for (std::int64_t step = 0; step < 20; ++step) {
    const auto [x, truth] = batch(step);
    const auto loss = training.step(x, truth, run.lr);
    losses.push_back(loss.first);
    losses.push_back(loss.second);
  }
  expect_tensor(g, "train." + run.name + ".losses", losses, tolerance_of(losses_tolerance, g));
  const std::vector<T> expected = g.slab("train." + run.name + ".parameter.");
  std::vector<T> weights(training.weights().begin(), training.weights().end());
  // No gradient: the key bias has only its weight decay, and frameworks a random walk.
  const model::Parameter& key_bias = g.net.parameters().find("compute_keys.bias");
  for (std::int64_t i = key_bias.offset; i < key_bias.offset + key_bias.shape.count(); ++i) {
    weights[static_cast<std::size_t>(i)] = expected[static_cast<std::size_t>(i)];
  }
  double difference = 0, square = 0, largest = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    difference += (weights[i] - expected[i]) * (weights[i] - expected[i]);
    square += expected[i] * expected[i];
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  }
  double worst = 0;
  for (const model::Parameter& p : g.net.parameters().all()) {
    const auto part = [&](const std::vector<T>& slab) {
      return std::vector<T>(slab.begin() + p.offset, slab.begin() + p.offset + p.shape.count());
    };
    worst = std::max(worst, numeric::error(part(weights), part(expected), 1e-3 * largest));
  }
  const double by_norm = std::sqrt(difference / square);
  EXPECT_TRUE(worst <= tolerance_of(weights_tolerance, g)) << "weights: error by element " << worst;
  EXPECT_TRUE(by_norm <= tolerance_of(weights_norm_tolerance, g)) << "weights: error by norm " << by_norm;
}

template <class T>
void expect_tiny_training() {
  for (const std::string name : {"samformer_low_rank_tiny", "samformer_full_tiny"}) {
    const Golden<T> g(shared_file(name));
    const auto [value, D, L, H, d_m] = g.shape;
    const std::vector<T> x = numbers_as<T>(g.file, "train.x"), y = numbers_as<T>(g.file, "train.y");
    const auto batch = [&, D = D, L = L, H = H](std::int64_t step) {
      const kernels::Windows<T> input{x.data() + step * g.N * D * L, L, g.x_starts.data(), g.N, D};
      const kernels::Windows<T> output{y.data() + step * g.N * D * H, H, g.y_starts.data(), g.N, D};
      return std::pair(input, Truth<T>{output, g.targets.data(), D});
    };
    for (const TrainingRun& run : tiny_runs()) expect_training(g, run, batch);
  }
}

TEST(Golden, SharedTrainingInDouble) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  expect_tiny_training<double>();
}
TEST(Golden, SharedTrainingInFloat) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  expect_tiny_training<float>();
}

template <class T>
void expect_etth1(const Etth1& etth1) {
  for (const std::string name : {"samformer_low_rank_etth1", "samformer_full_etth1"}) {
    Golden<T> g(shared_file(name), &etth1);
    SCOPED_TRACE(name);
    const auto [value, D, L, H, d_m] = g.shape;
    std::vector<T> first_x, first_y;
    for (std::int64_t d = 0; d < D; ++d) {
      const T* row = g.x.data() + d * g.x_stride + g.x_starts[0];
      first_x.insert(first_x.end(), row, row + L);
      first_y.insert(first_y.end(), row + L, row + L + H);
    }
    expect_tensor(g, "x.first", first_x, 1e-6);
    expect_tensor(g, "y.first", first_y, 1e-6);
    expect_tensor(g, "scaler.mean", etth1.scaler.mean, 1e-6);
    expect_tensor(g, "scaler.std", etth1.scaler.std, 1e-6);
    expect_golden(g, g.net.association(g.N * D));
    const TrainingRun run{"sam_adam", {{}, 0.7, false, 0, Center::mean, 0}, 1e-3};
    expect_training(g, run, [&, D = D](std::int64_t step) {
      g.select_batch(step);
      const kernels::Windows<T> input{g.x.data(), g.x_stride, g.x_starts.data(), g.N, D};
      const kernels::Windows<T> output{g.y.data(), g.y_stride, g.y_starts.data(), g.N, D};
      return std::pair(input, Truth<T>{output, g.targets.data(), D});
    });
  }
}

TEST(Golden, SharedEtth1) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  SAMFORMER_REQUIRE_SHARED_DATA("data/ETTh1.csv");
  const Etth1 etth1;
  expect_etth1<double>(etth1);
  expect_etth1<float>(etth1);
}

}  // namespace
}  // namespace samformer
