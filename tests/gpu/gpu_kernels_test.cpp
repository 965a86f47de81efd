// The GPU kernels against naive double references, those of the relatives' operations against the CPU's in double, over
// tables of shapes: on the SIMT emulator, or, built with nvcc, on a GPU. Tolerance: 4 times the larger of a naive float
// program's error and two ulp of the scale; the same result times 1.001 must be outside it.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>

#include "core/device_memory.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/loss.h"
#include "kernels/normalise.h"
#include "kernels/projection.h"
#include "kernels/revin.h"
#include "kernels/spectral.h"
#include "kernels/update.h"
#include "tests/reference.h"
#ifdef SAMFORMER_ON_EMULATOR
#include "kernels/simt/simt.h"
#endif

namespace samformer::kernels {
namespace {

using reference::as;
using reference::Sizes;
template <class T>
using Vector = std::vector<T>;
using Floats = Vector<float>;

const Cuda on;
std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// On the device: unset, or a copy.
template <class T>
class Array : public DeviceArray<T> {
 public:
  explicit Array(std::int64_t count) : DeviceArray<T>(count, "an array of the test") {}
  explicit Array(const Vector<T>& values) : Array(static_cast<std::int64_t>(values.size())) {
    this->upload(values, nullptr);
    synchronise(nullptr);
  }
  operator T*() const { return this->data(); }
  T* when(bool there) const { return there ? this->data() : nullptr; }
  Vector<T> values() const {
    Vector<T> host(size(this->count()));
    this->download(host, nullptr);
    synchronise(nullptr);
    return host;
  }
};
Array<float> space(std::int64_t count) { return Array<float>(count); }
Array<float> zeros(std::int64_t count) { return Array<float>(Floats(size(count))); }

struct Random {
  explicit Random(std::uint64_t seed) : engine(seed) {}
  Floats normal(std::int64_t count, float scale = 1, float shift = 0) {
    std::normal_distribution<float> draw;
    Floats out(static_cast<std::size_t>(count));
    for (float& x : out) x = shift + scale * draw(engine);
    return out;
  }
  std::mt19937_64 engine;
};

double error_of(const Floats& got, const Vector<double>& truth, double factor) {
  double worst = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) * factor - truth[i]);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

// TF32 has 13 bits less, and its mutant is 1.01. `scale`: where a result may be all rounding noise (the gradient of a
// one-channel softmax), that of its group.
void expect_close(const std::string& what, const Floats& got, const Floats& noisy, const Vector<double>& truth,
                  double scale = 0, bool tf32 = false) {
  ASSERT_EQ(got.size(), truth.size()) << what;
  ASSERT_FALSE(truth.empty()) << what;
  for (const double x : truth) scale = std::max(scale, std::abs(x));
  const double ulp = tf32 ? 1.2e-4 : 1.2e-7, mutant = tf32 ? 1.01 : 1.001;
  const double tolerance = 4 * std::max(error_of(noisy, truth, 1), 2 * ulp * scale);
  const double error = error_of(got, truth, 1);
  EXPECT_TRUE(error <= tolerance) << what << ": error " << error << ", tolerance " << tolerance << ", scale " << scale;
  double largest = 0;
  for (const double x : truth) largest = std::max(largest, std::abs(x));
  if (largest > 0.1 * scale) {
    EXPECT_FALSE(error_of(got, truth, mutant) <= tolerance) << what << ": a mutant passes, tolerance " << tolerance;
  }
}

struct Case {
  Sizes sizes;
  bool affine;
  bool last_value;
  float lambda, guard;
  bool adaptive;
};

std::string name_of(const Case& c) {
  const Sizes& z = c.sizes;
  return "N" + std::to_string(z.N) + "_D" + std::to_string(z.D) + "_L" + std::to_string(z.L) + "_H" +
         std::to_string(z.H) + "_k" + std::to_string(z.key) + "_v" + std::to_string(z.value);
}
void PrintTo(const Case& c, std::ostream* out) { *out << name_of(c); }

// N, D, L, H, key, value: ragged and round, one window and a short batch, narrow and wide values, few and many
// channels.
const Case cases[] = {
    {{1, 1, 8, 4, 4, 4}, true, false, 0, 0, false},          {{3, 1, 17, 5, 16, 16}, true, false, 0.5f, 0, true},
    {{3, 2, 33, 7, 5, 5}, true, true, 0, 0, false},          {{32, 2, 16, 96, 16, 16}, false, false, 1, 0, false},
    {{32, 7, 64, 24, 16, 16}, true, false, 0.5f, 0, false},  {{3, 7, 512, 96, 16, 16}, true, false, 0, 0, true},
    {{5, 8, 30, 12, 8, 8}, true, false, 0.5f, 0, false},     {{3, 8, 31, 21, 16, 21}, true, false, 0, 1e-10f, false},
    {{3, 21, 48, 33, 16, 16}, true, false, 0.25f, 0, false}, {{1, 21, 20, 100, 16, 100}, true, true, 0, 1e-10f, false},
    {{3, 33, 19, 10, 32, 32}, true, false, 0.5f, 0, false},  {{2, 33, 19, 10, 64, 64}, false, false, 0.5f, 0, false},
    {{1, 33, 1030, 9, 20, 70}, true, false, 0.5f, 0, false}, {{2, 9, 12, 7, 81, 81}, true, false, 0, 0, false},
    {{2, 66, 14, 19, 8, 19}, true, false, 0.5f, 0, false},   {{1, 321, 24, 12, 16, 16}, true, false, 0, 0, false},
    {{1, 862, 9, 6, 16, 16}, true, false, 0, 0, false},      {{3, 1, 9, 5, 65, 7}, true, false, 0, 0, false},
    {{2, 5, 10, 6, 70, 3}, true, false, 0.5f, 0, false},     {{1, 130, 9, 30, 8, 24}, false, false, 0, 0, false},
    {{2, 70, 11, 5, 32, 32}, true, false, 0.5f, 0, false},
};

class GpuKernels : public testing::TestWithParam<Case> {
 protected:
  // Inputs of a case, drawn once from a fixed seed.
  GpuKernels() : c(GetParam()), z(c.sizes), length(z.L + z.H + 37), random(20260731) {
    SCOPED_TRACE(name_of(c));
    series = random.normal(z.D * length, 1, 3);
    for (int n = 0; n < z.N; ++n) starts.push_back(static_cast<std::int32_t>(random.engine() % 38));
    ld = (z.columns() + 3) / 4 * 4;
    p = random.normal(z.rows() * ld);
    gamma = c.affine ? random.normal(z.D, 0.1f, 1) : Floats(static_cast<std::size_t>(z.D), 1.0f);
    beta = c.affine ? random.normal(z.D, 0.1f) : Floats(static_cast<std::size_t>(z.D), 0.0f);
    s = random.normal(z.columns());
    b = random.normal(z.columns(), 0.3f);
  }
  void check_attention(bool tensor_cores);
  void check_loss(bool applied);
  Windows<float> windows(const float* base, const std::int32_t* at) const { return {base, length, at, z.N, z.D}; }
  template <class T>
  Vector<T> folded() const {
    return reference::fold(as<T>(p), ld, as<T>(gamma), as<T>(beta), as<T>(s), as<T>(b), z);
  }
  // [N][channel_stride] to [N][D].
  Floats unpadded(const Floats& x, std::size_t offset, int step) const {
    Floats out;
    for (int r = 0; r < z.rows(); ++r)
      out.push_back(x[offset + static_cast<std::size_t>((r / z.D * channel_stride(z.D) + r % z.D) * step)]);
    return out;
  }
  std::size_t plane() const { return size(z.N * channel_stride(z.D)); }

  const Case c;
  const Sizes z;
  const std::int64_t length;
  Random random;
  Floats series, p, gamma, beta, s, b;
  Vector<std::int32_t> starts;
  std::int64_t ld = 0;
};

#ifdef SAMFORMER_ON_EMULATOR
// The results under all three orders of warps and blocks must be the same bits.
template <class F>
Vector<Floats> in_every_order(bool large, F run) {
  Vector<Floats> first;
  for (const simt::Order order : {simt::Order::forward, simt::Order::reverse, simt::Order::shuffled}) {
    if (large && order == simt::Order::reverse) continue;  // slow
    simt::options() = {order, 11};
    const Vector<Floats> results = run();
    simt::options() = {};
    if (order == simt::Order::forward) {
      first = results;
      continue;
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      EXPECT_EQ(std::memcmp(first[i].data(), results[i].data(), first[i].size() * 4), 0)
          << "result " << i << " depends on the order of threads";
    }
  }
  return first;
}
#else
template <class F>
Vector<Floats> in_every_order(bool, F run) {
  const Vector<Floats> first = run(), second = run();
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_EQ(std::memcmp(first[i].data(), second[i].data(), first[i].size() * 4), 0) << "two runs differ";
  return first;
}
#endif

TEST_P(GpuKernels, Revin) {
  starts.back() = static_cast<std::int32_t>(length - z.L);  // the last channel's window ends with the buffer
  const Array series_d(series);
  const Array starts_d(starts);
  const auto out = in_every_order(z.D > 100, [&] {
    const Array<float> xhat = space(z.rows() * z.L), stats = zeros(stats_size(on, z.N, z.D)),
                       moments = zeros(moments_size(on, z.D));
    revin_normalise(on, xhat, stats, windows(series_d, starts_d), z.L, c.last_value ? Center::last : Center::mean);
    revin_moments(on, moments, stats, z.N, z.D);
    return Vector<Floats>{xhat.values(), stats.values(), moments.values()};
  });
  const auto truth = reference::revin<double>(series, starts, z, length, c.last_value);
  const auto noisy = reference::revin<float>(series, starts, z, length, c.last_value);
  expect_close("xhat", out[0], noisy.xhat, truth.xhat);
  expect_close("level", unpadded(out[1], 0, 2), noisy.level, truth.level);
  expect_close("sigma", unpadded(out[1], 1, 2), noisy.sigma, truth.sigma);
  Floats moments;
  for (int i = 0; i < z.D * 5; ++i)
    moments.push_back(out[2][static_cast<std::size_t>(i % 5 * channel_stride(z.D) + i / 5)]);
  expect_close("moments", moments, noisy.moments, truth.moments);
}

TEST_P(GpuKernels, WeightSums) {
  const Floats weights = random.normal(z.columns() * z.L), output = random.normal(z.L),
               bias = random.normal(z.columns());
  const Array weights_d(weights), output_d(output), bias_d(bias);
  ProjectionWeights w{weights_d, bias_d, weights_d + z.value * z.L, bias_d + z.value, z.value, z.columns() - z.value,
                      z.L};
  w.head = z.first_head(), w.folded = FoldedBias::output, w.folded_bias = output_d;
  const auto out = in_every_order(z.D > 100, [&] {
    const Array<float> sums = space(z.columns()), biases = space(z.columns());
    weight_sums(on, sums, biases, w);
    return Vector<Floats>{sums.values(), biases.values()};
  });
  const auto sums = [&]<class T>(T, bool biases) {
    Vector<T> x(size(z.columns()));
    for (int o = 0; o < z.columns(); ++o) {
      if (biases) x[size(o)] = bias[size(o)];
      for (int i = 0; i < z.L; ++i) {
        const T value = weights[size(o * z.L + i)];
        if (!biases) x[size(o)] += value;
        if (biases && o >= z.first_head()) x[size(o)] += value * T(output[size(i)]);
      }
    }
    return x;
  };
  expect_close("s", out[0], sums(0.0f, false), sums(0.0, false));
  expect_close("b", out[1], sums(0.0f, true), sums(0.0, true));
}

void GpuKernels::check_attention(bool tensor_cores) {
  const int W = z.first_head();
  const AttentionShape shape{z.N, z.D, z.key, z.value};
  const Floats dc = random.normal(z.rows() * z.value);
  const Array p_d(p), gamma_d(gamma), beta_d(beta), s_d(s), b_d(b), dc_d(dc);
  const Projected<float> v{p_d, ld, gamma_d.when(c.affine), beta_d.when(c.affine), s_d.when(c.affine), b_d};
  const Projected<float> q = v.columns(z.value), k = q.columns(z.key);
  const DeviceBlas blas(blas_create(nullptr, false));
  const Cuda here{nullptr, blas.get(), tensor_cores};
  const auto out = in_every_order(z.D > 100, [&] {
    const Array<float> context = space(z.rows() * z.value), lse = space(z.rows()), dz = zeros(z.rows() * ld),
                       sums = zeros(2 * row_sums_size(z.N, z.D)), saved = space(attention_saved(here, shape)),
                       scratch = space(attention_scratch(here, shape)),
                       backward_scratch = space(attention_backward_scratch(here, shape));
    attention(here, context, z.value, lse, q, k, v, shape, saved, scratch);
    attention_backward(here, {dz + z.value, ld}, {dz + z.value + z.key, ld}, {dz, ld},
                       {nullptr, nullptr, sums.when(c.affine)}, dc_d, z.value, context, z.value, lse, q, k, v, shape,
                       saved, backward_scratch);
    return Vector<Floats>{context.values(), lse.values(), dz.values(), sums.values()};
  });
  const auto truth = reference::attention(folded<double>(), as<double>(dc), z);
  // The noise of tensor cores is that of operands with ten bits of mantissa.
  Floats operands = folded<float>(), gradients = dc;
  if (tensor_cores) {
    for (Floats* x : {&operands, &gradients}) {
      for (float& value : *x) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        bits = (bits + 0x1000u) & ~0x1fffu;
        std::memcpy(&value, &bits, 4);
      }
    }
  }
  const auto noisy = reference::attention(operands, gradients, z);
  expect_close("C", out[0], noisy.c, truth.c, 0, tensor_cores);
  expect_close("lse", out[1], noisy.lse, truth.lse, 0, tensor_cores);
  double scale = 0;
  for (const double x : truth.dz) scale = std::max(scale, std::abs(x));
  for (int part = 0; part < 3; ++part) {
    const int first = part == 0 ? 0 : part == 1 ? z.value : z.value + z.key, last = part == 0 ? z.value : first + z.key;
    Floats got, noise;
    Vector<double> exact;
    for (int r = 0; r < z.rows(); ++r) {
      for (int o = first; o < last; ++o) {
        got.push_back(out[2][static_cast<std::size_t>(r * ld + o)]);
        noise.push_back(noisy.dz[static_cast<std::size_t>(r * W + o)]);
        exact.push_back(truth.dz[static_cast<std::size_t>(r * W + o)]);
      }
    }
    expect_close(part == 0 ? "dV" : part == 1 ? "dQ" : "dK", got, noise, exact, scale, tensor_cores);
  }
  if (!c.affine) return;
  const auto sums = [&]<class T>(const Vector<T>& dz, int first, int last, bool gammas) {
    Vector<T> x(static_cast<std::size_t>(z.rows()));
    for (int r = 0; r < z.rows(); ++r) {
      for (int o = first; o < last; ++o)
        x[static_cast<std::size_t>(r)] +=
            dz[static_cast<std::size_t>(r * W + o)] *
            T(gammas ? p[static_cast<std::size_t>(r * ld + o)] : s[static_cast<std::size_t>(o)]);
    }
    return x;
  };
  for (const int part : {0, 1}) {  // of the queries; of the values and keys
    for (const bool gammas : {true, false}) {
      const auto total = [&]<class T>(const Vector<T>& dz) {
        if (part == 0) return sums(dz, z.value, z.value + z.key, gammas);
        Vector<T> x = sums(dz, 0, z.value, gammas);
        const Vector<T> y = sums(dz, z.value + z.key, W, gammas);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
        return x;
      };
      const Vector<double> exact = total(truth.dz);
      expect_close("row sums", unpadded(out[3], size(2 * part + (gammas ? 0 : 1)) * plane(), 1), total(noisy.dz), exact,
                   scale, tensor_cores);
    }
  }
}

TEST_P(GpuKernels, Attention) { check_attention(false); }
TEST_P(GpuKernels, AttentionOnTensorCores) {
  if (z.D < 64 || z.key > 32 || z.value > 32) GTEST_SKIP() << "not one that the TF32 kernels take";
  check_attention(true);
}

// `applied`: the scale and shift are in p already.
void GpuKernels::check_loss(bool applied) {
  const Floats mixed = random.normal(z.rows() * z.H);
  const auto r64 = reference::revin<double>(series, starts, z, length, c.last_value);
  const auto r32 = reference::revin<float>(series, starts, z, length, c.last_value);
  Floats stats(plane() * 2), moments(static_cast<std::size_t>(channel_stride(z.D) * 5)),
      weight(static_cast<std::size_t>(z.D), 1.0f);
  for (int r = 0; r < z.rows(); ++r) {
    const auto at = static_cast<std::size_t>(r / z.D * channel_stride(z.D) + r % z.D) * 2;
    stats[at] = static_cast<float>(r64.level[static_cast<std::size_t>(r)]);
    stats[at + 1] = static_cast<float>(r64.sigma[static_cast<std::size_t>(r)]);
  }
  for (int i = 0; i < z.D * 5; ++i)
    moments[static_cast<std::size_t>(i % 5 * channel_stride(z.D) + i / 5)] =
        static_cast<float>(r64.moments[static_cast<std::size_t>(i)]);
  if (z.D > 2) weight[0] = 0, weight[1] = 2;
  const Array p_d(p), gamma_d(gamma), beta_d(beta), s_d(s), b_d(b), mixed_d(mixed), stats_d(stats), moments_d(moments),
      series_d(series), weight_d(weight);
  const Array starts_d(starts);
  const StatsMix mix(c.lambda, c.affine ? 9 : 0);
  const bool folds = c.affine && !applied;
  const Projected<float> all{p_d, ld, gamma_d.when(folds), beta_d.when(folds), s_d.when(folds), b_d};
  const Affine<float> affine{gamma_d.when(c.affine), beta_d.when(c.affine), c.guard};
  const ForecastLoss<float, Cuda> f{.z = all.columns(z.first_head()),
                                    .mixed = mixed_d,
                                    .mixed_ld = z.H,
                                    .stats = stats_d,
                                    .moments = moments_d.when(mix.any()),
                                    .affine = affine,
                                    .y = windows(series_d + z.L, starts_d),
                                    .H = z.H,
                                    .targets = nullptr,
                                    .target_count = z.D,
                                    .channel_weight = weight_d,
                                    .mix = mix,
                                    .shares = nullptr};
  const auto out = in_every_order(z.D > 100, [&] {
    const std::int64_t parts_count = loss_size(on, z.rows()), outputs = z.rows() * z.H;
    const Array<float> parts = space(parts_count), alone = space(parts_count), dz = space(outputs),
                       forecast = space(outputs), sums = zeros(row_sums_size(z.N, z.D));
    forecast_loss_backward(on, {dz, z.H}, {nullptr, nullptr, sums.when(c.affine)}, nullptr, parts, f, nullptr);
    forecast_loss(on, alone, f, nullptr);
    EXPECT_EQ(parts.values(), alone.values());
    revin_inverse(on, forecast, {f.z, mixed_d, z.H, stats_d, affine}, z.N, z.D, z.H);
    return Vector<Floats>{parts.values(), dz.values(), sums.values(), forecast.values()};
  });
  const auto of = [&]<class T>(T) {
    const Floats level(r32.level), sigma(r32.sigma);
    Vector<T> l, g;
    for (int r = 0; r < z.rows(); ++r)
      l.push_back(T(r64.level[static_cast<std::size_t>(r)])), g.push_back(T(r64.sigma[static_cast<std::size_t>(r)]));
    Vector<T> m(r64.moments.begin(), r64.moments.end());
    const Vector<T> none(p.size()), one(static_cast<std::size_t>(z.D), T(1));
    const Vector<T> forecast = applied ? reference::fold(as<T>(p), ld, one, none, none, as<T>(b), z) : folded<T>();
    return reference::loss(forecast, applied ? none : as<T>(p), ld, as<T>(mixed), as<T>(gamma), as<T>(beta),
                           applied ? none : as<T>(s), l, g, m, as<T>(weight), series, starts, length, mix, T(c.guard),
                           z);
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  double squared = 0, absolute = 0;
  for (std::size_t i = 0; i < out[0].size(); i += 2) squared += out[0][i], absolute += out[0][i + 1];
  expect_close("squared error", {static_cast<float>(squared)}, {noisy.squared}, {truth.squared});
  expect_close("absolute error", {static_cast<float>(absolute)}, {noisy.absolute}, {truth.absolute});
  expect_close("dz", out[1], noisy.dz, truth.dz);
  expect_close("forecast", out[3], noisy.forecast, truth.forecast);
  if (!c.affine) return;
  expect_close("sum for gamma", unpadded(out[2], 0, 1), noisy.sum_gamma, truth.sum_gamma);
  expect_close("sum for beta", unpadded(out[2], plane(), 1), noisy.sum_beta, truth.sum_beta);
}

TEST_P(GpuKernels, Loss) { check_loss(false); }
TEST_P(GpuKernels, LossAfterScaleAndShift) {
  if (!c.affine) GTEST_SKIP() << "there are none";
  check_loss(true);
}

TEST_P(GpuKernels, WithoutRevin) {
  const Array series_d(series);
  const Array starts_d(starts);
  const Array<float> xhat = space(z.rows() * z.L), stats = zeros(stats_size(on, z.N, z.D));
  revin_normalise(on, xhat, stats, windows(series_d, starts_d), z.L, Center::none);
  const Floats got = xhat.values();
  for (int r = 0; r < z.rows(); ++r) {
    const float* const window = series.data() + r % z.D * length + starts[static_cast<std::size_t>(r / z.D)];
    ASSERT_EQ(std::memcmp(got.data() + r * z.L, window, static_cast<std::size_t>(z.L) * 4), 0) << "row " << r;
  }
  const auto rows = static_cast<std::size_t>(z.rows());
  EXPECT_EQ(unpadded(stats.values(), 0, 2), Floats(rows, 0.0f));
  EXPECT_EQ(unpadded(stats.values(), 1, 2), Floats(rows, 1.0f));
}

TEST_P(GpuKernels, RevinAffine) {
  if (!c.affine) GTEST_SKIP() << "without affine";
  const std::int64_t R = z.rows(), count = R * z.L;
  const Floats x = random.normal(count), du = random.normal(count);
  const Array x_d(x), du_d(du), gamma_d(gamma), beta_d(beta);
  const auto out = in_every_order(z.D > 100, [&] {
    const Array<float> u = space(count), sums = space(row_sums_size(z.N, z.D)), dgamma = space(z.D), dbeta = space(z.D);
    revin_affine(on, u, x_d, gamma_d, beta_d, z.N, z.D, z.L);
    revin_affine_backward(on, {nullptr, nullptr, sums}, du_d, x_d, z.N, z.D, z.L, nullptr);
    affine_gradients(on, dgamma, dbeta, sums, 1, z.N, z.D);
    return Vector<Floats>{u.values(), dgamma.values(), dbeta.values()};
  });
  const auto of = [&]<class T>(T) {
    Vector<Vector<T>> r{Vector<T>(x.size()), Vector<T>(size(z.D)), Vector<T>(size(z.D))};
    Vector<T> work(size(2 * R));
    revin_affine(Cpu{}, r[0].data(), as<T>(x).data(), as<T>(gamma).data(), as<T>(beta).data(), z.N, z.D, z.L);
    revin_affine_backward(Cpu{}, AffineSink<T>{r[1].data(), r[2].data()}, as<T>(du).data(), as<T>(x).data(), z.N, z.D,
                          z.L, work.data());
    return r;
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  const char* const names[] = {"u", "dgamma", "dbeta"};
  for (std::size_t i = 0; i < 3; ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
}

// Added in double: exact but for the order of the sum. Every other channel is a target; twice the same batch.
TEST_P(GpuKernels, ErrorSums) {
  const Floats forecast = random.normal(z.rows() * z.H);
  Vector<std::int32_t> targets;
  for (int d = z.D - 1; d >= 0; d -= 2) targets.push_back(d);
  const int count = static_cast<int>(targets.size());
  const Array forecast_d(forecast), series_d(series);
  const Array starts_d(starts), targets_d(targets);
  const auto cells = size(count * z.H);
  const Array sums(Vector<double>(3 * cells));
  for (int i = 0; i < 2; ++i) {
    error_sums(on, sums, sums + cells, sums + 2 * cells, forecast_d, windows(series_d + z.L, starts_d), z.H, targets_d,
               count);
  }
  const Vector<double> got = sums.values();
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const int d = targets[cell / static_cast<std::size_t>(z.H)], h = static_cast<int>(cell) % z.H;
    double squared = 0, absolute = 0, difference = 0;
    for (int n = 0; n < z.N; ++n) {
      const auto row = static_cast<std::size_t>(n * z.D + d);
      const auto at = static_cast<std::size_t>(d * length + starts[static_cast<std::size_t>(n)] + z.L + h);
      const double error =
          double(forecast[row * static_cast<std::size_t>(z.H) + static_cast<std::size_t>(h)]) - double(series[at]);
      squared += 2 * error * error;
      absolute += 2 * std::abs(error);
      difference += 2 * error;
    }
    ASSERT_NEAR(got[cell], squared, 1e-12 * squared) << "target " << d << ", step " << h;
    ASSERT_NEAR(got[cells + cell], absolute, 1e-12 * absolute) << "target " << d << ", step " << h;
    ASSERT_NEAR(got[2 * cells + cell], difference, 1e-12 * absolute) << "target " << d << ", step " << h;
  }
}

TEST_P(GpuKernels, ProjectionBackwardAndGradients) {
  constexpr int row_sum_parts = 3;
  const int O = z.columns(), L = z.L, rest = O - z.value;
  const Floats dz = random.normal(z.rows() * ld), product = random.normal(O * L), bias = random.normal(L);
  const Floats sums = random.normal(row_sum_parts * row_sums_size(z.N, z.D));
  const Array dz_d(dz), gamma_d(gamma), beta_d(beta), bias_d(bias), sums_d(sums);
  ProjectionWeights w{.values = z.value, .rest = rest, .L = L, .head = z.first_head(), .folded_bias = bias_d};
  w.skip_begin = z.value + z.key, w.skip_end = z.first_head();  // the keys' bias
  w.folded = z.value == z.H ? FoldedBias::value : z.value == z.key ? FoldedBias::output : FoldedBias::none;
  const auto out = in_every_order(z.D > 100, [&] {
    const Array<float> dp = zeros(z.rows() * ld), parts = space(projection_parts(on, z.rows(), O)),
                       d_value = space(z.value), d_bias = space(rest), d_head = space(z.H), d_gamma = zeros(z.D),
                       d_beta = zeros(z.D);
    const Array weights(product);
    projection_backward(on, dp, parts, dz_d, ld, gamma_d.when(c.affine), beta_d.when(c.affine), z.N, z.D, O);
    finish_gradients(on,
                     {weights, d_value, weights + z.value * L, d_bias, d_head, d_gamma.when(c.affine),
                      d_beta.when(c.affine), sums_d, row_sum_parts},
                     w, parts, c.affine, z.N, z.D);
    return Vector<Floats>{dp.values(),     weights.values(), d_value.values(), d_bias.values(),
                          d_head.values(), d_gamma.values(), d_beta.values()};
  });
  const auto of = [&]<class T>(T) {
    Vector<T> dp, db(static_cast<std::size_t>(O)), ds(static_cast<std::size_t>(O)), weights,
        d_gamma(static_cast<std::size_t>(z.D)), d_beta(d_gamma);
    for (int r = 0; r < z.rows(); ++r) {
      const auto d = static_cast<std::size_t>(r % z.D);
      for (int o = 0; o < O; ++o) {
        const T x = dz[static_cast<std::size_t>(r * ld + o)];
        dp.push_back(x * T(gamma[d]));
        db[static_cast<std::size_t>(o)] += x;
        ds[static_cast<std::size_t>(o)] += x * T(beta[d]);
      }
      for (std::size_t slot = 0; slot < row_sum_parts; ++slot) {
        const std::size_t at = static_cast<std::size_t>(r / z.D * channel_stride(z.D)) + d;
        d_gamma[d] += sums[2 * slot * plane() + at];
        d_beta[d] += sums[(2 * slot + 1) * plane() + at];
      }
    }
    for (int i = 0; i < O * L; ++i) {
      const int o = i / L, h = o - z.first_head();
      T weight = T(product[size(i)]) + ds[size(o)];
      if (h >= 0 && w.folded != FoldedBias::none)
        weight += db[size(w.folded == FoldedBias::output ? o : h)] * T(bias[size(i % L)]);
      weights.push_back(weight);
    }
    return std::tuple(dp, weights, db, d_gamma, d_beta);
  };
  const auto [dp, weights, db, d_gamma, d_beta] = of(0.0);
  const auto [dp32, weights32, db32, d_gamma32, d_beta32] = of(0.0f);
  expect_close("dWcat", out[1], weights32, weights);
  const auto part = [&](const auto& x, int first, int count) {
    return std::remove_cvref_t<decltype(x)>(x.begin() + first, x.begin() + first + count);
  };
  double scale = 0;
  for (const double x : db) scale = std::max(scale, std::abs(x));
  const auto own = [&](const Floats& x, int first, int count) { return part(x, first - z.value, count); };
  expect_close("db_V", out[2], part(db32, 0, z.value), part(db, 0, z.value), scale);
  expect_close("db_Q", own(out[3], z.value, z.key), part(db32, z.value, z.key), part(db, z.value, z.key), scale);
  EXPECT_EQ(own(out[3], z.value + z.key, z.key), Floats(size(z.key)));
  expect_close("db_W", out[4], part(db32, z.first_head(), z.H), part(db, z.first_head(), z.H), scale);
  EXPECT_EQ(own(out[3], z.first_head(), z.H), out[4]);
  if (!c.affine) return;
  Floats dense;
  for (int i = 0; i < z.rows() * O; ++i) dense.push_back(out[0][static_cast<std::size_t>(i / O * ld + i % O)]);
  expect_close("dP", dense, dp32, dp);
  expect_close("dgamma", out[5], d_gamma32, d_gamma);
  expect_close("dbeta", out[6], d_beta32, d_beta);
}

INSTANTIATE_TEST_SUITE_P(Shapes, GpuKernels, testing::ValuesIn(cases),
                         [](const testing::TestParamInfo<Case>& info) { return name_of(info.param); });

// ---- operations of SAMformer's relatives ---------------------------------------------------------------------------

// y = residual + dropout(act(a + bias)) and its gradients; the mask is the one that the CPU's operation draws.
void check_epilogue(int rows, int columns, Activation activation, double rate, bool with_residual) {
  SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns) + ", activation " +
               std::to_string(static_cast<int>(activation)) + ", rate " + std::to_string(rate));
  const std::int64_t count = static_cast<std::int64_t>(rows) * columns;
  Random random(77);
  const Floats a = random.normal(count, 2), bias = random.normal(columns), residual = random.normal(count),
               dy = random.normal(count), before = random.normal(columns);
  const Dropout of_step{rate, 123456789012345u, 41, 1, 5};
  Floats mask(size(count), 1.0f), unused(size(count));
  bias_activation<float>(Cpu{}, unused.data(), mask.data(), unused.data(), nullptr, nullptr, rows, columns,
                         Activation::none, of_step);
  const Array a_d(a), bias_d(bias), residual_d(residual), dy_d(dy);
  Vector<Progress> now(1);
  now[0].step = of_step.step;
  const Array progress(now);
  Dropout dropped = of_step;
  dropped.step = 0, dropped.progress = progress;
  const auto out = in_every_order(false, [&] {
    const Array<float> y = space(count), da = space(count), scratch = space(column_sums_scratch(on, columns)),
                       fresh = space(columns);
    const Array db(before);
    bias_activation(on, y, nullptr, a_d, bias_d, residual_d.when(with_residual), rows, columns, activation, dropped);
    bias_activation_backward(on, {da, columns}, dy_d, nullptr, a_d, bias_d, rows, columns, activation, dropped);
    add_column_sums(on, {db, columns, true}, da, columns, rows, columns, scratch);
    add_column_sums(on, {fresh, columns, false}, da, columns, rows, columns, scratch);
    return Vector<Floats>{y.values(), da.values(), db.values(), fresh.values()};
  });
  const auto of = [&]<class T>(T) {
    Vector<Vector<T>> r{Vector<T>(), Vector<T>(), as<T>(before), Vector<T>(size(columns))};
    for (std::size_t i = 0; i < a.size(); ++i) {
      const T x = T(a[i]) + T(bias[i % size(columns)]), phi = (T(1) + std::erf(x / std::sqrt(T(2)))) / T(2);
      T value = x, slope = 1;
      if (activation == Activation::relu) value = x > 0 ? x : T(0), slope = x > 0 ? T(1) : T(0);
      if (activation == Activation::gelu)
        value = x * phi, slope = phi + x * std::exp(-x * x / T(2)) / std::sqrt(T(2 * 3.14159265358979323846));
      if (activation == Activation::tanh) value = std::tanh(x), slope = 1 - value * value;
      r[0].push_back((with_residual ? T(residual[i]) : T(0)) + T(mask[i]) * value);
      r[1].push_back(T(dy[i]) * T(mask[i]) * slope);
      r[2][i % size(columns)] += r[1].back();
      r[3][i % size(columns)] += r[1].back();
    }
    return r;
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  const char* const names[] = {"y", "da", "db", "db, written"};
  for (std::size_t i = 0; i < 4; ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
  if (rate == 0) return;
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(out[1][i] == 0, truth[1][i] == 0) << "mask at " << i;
}

// All scores of a row far below zero: what pads its last four must not become the maximum.
TEST(GpuAttention, ScoresFarBelowZero) {
  constexpr int D = 9, width = 4;
  const DeviceBlas blas(blas_create(nullptr, false));
  for (const int key : {4, 66}) {  // fused, and by products
    const std::int64_t ld = width + 2 * key;
    Floats p;
    for (int d = 0; d < D; ++d) {
      for (int o = 0; o < ld; ++o) p.push_back(o < width ? float(d + o) : o < width + key ? 30.0f : -30.0f);
    }
    const Array p_d(p);
    const Cuda here{nullptr, blas.get()};
    const AttentionShape shape{1, D, key, width};
    const Array<float> context = space(D * width), lse = space(D), saved = space(attention_saved(here, shape));
    const Projected<float> v{p_d, ld}, q = v.columns(width), k = q.columns(key);
    attention(here, context, width, lse, q, k, v, shape, saved, nullptr);
    const Floats got = context.values();
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_TRUE(std::abs(got[i] - static_cast<float>(4 + i % width)) <= 1e-5f) << got[i];
    }
  }
}

TEST(GpuRelatives, BiasActivationDropoutAndColumnSums) {
  for (const auto& [rows, columns] :
       {std::pair(1, 1), {3, 5}, {70, 7}, {37, 64}, {600, 16}, {5, 321}, {2, 1030}, {3, 861}}) {
    check_epilogue(rows, columns, Activation::none, 0, true);
    check_epilogue(rows, columns, Activation::relu, 0.3, true);
    check_epilogue(rows, columns, Activation::gelu, columns % 2 == 0 ? 0.9 : 0, false);
    check_epilogue(rows, columns, Activation::tanh, 0, false);
  }
}

// A column range of a wider matrix.
TEST(GpuRelatives, ColumnSumsOfAView) {
  Random random(78);
  const Floats from = random.normal(50 * 12);
  const Array from_d(from);
  const Array<float> to = zeros(8), scratch = space(column_sums_scratch(on, 8));
  add_column_sums(on, {to, 8, true}, from_d + 4, 12, 50, 8, scratch);
  Vector<double> truth(8);
  Floats noisy(8);
  add_column_sums<double>(Cpu{}, Sink<double>{truth.data(), 8, true}, as<double>(from).data() + 4, 12, 50, 8, nullptr);
  add_column_sums<float>(Cpu{}, Sink<float>{noisy.data(), 8, true}, from.data() + 4, 12, 50, 8, nullptr);
  expect_close("sums", to.values(), noisy, truth);
}

TEST(GpuRelatives, Transpose) {
  for (const auto& [N, A, B] : {std::tuple(1, 1, 1),
                                {3, 7, 48},
                                {2, 48, 7},
                                {2, 21, 133},
                                {1, 321, 40},
                                {1, 40, 862},
                                {2, 8, 130},
                                {1, 862, 9},
                                {1, 710, 360}}) {
    SCOPED_TRACE(std::to_string(N) + " x " + std::to_string(A) + " x " + std::to_string(B));
    Random random(79);
    const std::int64_t count = static_cast<std::int64_t>(N) * A * B;
    const Floats from = random.normal(count), add = random.normal(count);
    const Array from_d(from), add_d(add);
    for (const bool adding : {false, true}) {
      Floats truth(size(count));
      transpose(Cpu{}, truth.data(), from.data(), adding ? add.data() : nullptr, N, A, B);
      const Array<float> y = space(count);
      transpose(on, y, from_d, add_d.when(adding), N, A, B);
      EXPECT_EQ(y.values(), truth);
    }
  }
}

struct NormInputs {
  NormInputs(std::int64_t N, std::int64_t M) {
    Random random(80);
    x = random.normal(N * M, 2, 5), dy = random.normal(N * M), before = random.normal(N * M);
    w = random.normal(M, 0.5f, 1), b = random.normal(M), mean = random.normal(M, 1, 5), var = random.normal(M, 0.1f, 2);
  }
  Floats x, dy, before, w, b, mean, var;
};

// add: the gradients are added to what is there.
void check_batch_norm(std::int64_t N, std::int64_t M, bool add) {
  const NormInputs in(N, M);
  const Array x(in.x), dy(in.dy), w(in.w), b(in.b);
  const Array progress(Vector<Progress>(1));
  const auto out = in_every_order(false, [&] {
    const Array<float> y = space(N * M), mean = space(M), rstd = space(M), constant = space(N * M),
                       fixed_rstd = space(M);
    const Array rm(in.mean), rv(in.var), dx(in.before), dw(in.w), db(in.b), fixed_dx(in.before);
    batch_norm_running(on, constant, fixed_rstd, rm, rv, x, w, b, N, M);
    batch_norm_backward(on, {fixed_dx, M, add}, {}, {}, dy, x, rm, fixed_rstd, w, true, N, M);
    batch_norm(on, y, mean, rstd, rm, rv, progress, x, w, b, N, M);
    batch_norm_backward(on, {dx, M, add}, {dw, M, add}, {db, M, add}, dy, x, mean, rstd, w, false, N, M);
    return Vector<Floats>{y.values(),  mean.values(), rm.values(),       rv.values(),      dx.values(),
                          dw.values(), db.values(),   constant.values(), fixed_dx.values()};
  });
  const auto of = [&]<class T>(T) {
    const Vector<T> X = as<T>(in.x), DY = as<T>(in.dy), W = as<T>(in.w), B = as<T>(in.b);
    Vector<T> y(X.size()), mean(W.size()), rstd(W.size()), rm = as<T>(in.mean), rv = as<T>(in.var);
    Vector<T> dx = as<T>(in.before), dw = W, db = B, constant(X.size()), fixed_dx = dx;
    const auto sink = [&](Vector<T>& to) { return Sink<T>{to.data(), M, add}; };
    batch_norm_running(Cpu{}, constant.data(), rstd.data(), rm.data(), rv.data(), X.data(), W.data(), B.data(), N, M);
    batch_norm_backward<T>(Cpu{}, sink(fixed_dx), {}, {}, DY.data(), X.data(), rm.data(), rstd.data(), W.data(), true,
                           N, M);
    batch_norm(Cpu{}, y.data(), mean.data(), rstd.data(), rm.data(), rv.data(), nullptr, X.data(), W.data(), B.data(),
               N, M);
    batch_norm_backward(Cpu{}, sink(dx), sink(dw), sink(db), DY.data(), X.data(), mean.data(), rstd.data(), W.data(),
                        false, N, M);
    return Vector<Vector<T>>{y, mean, rm, rv, dx, dw, db, constant, fixed_dx};
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  const char* const names[] = {"y",  "mean", "running mean",          "running var",           "dx",
                               "dw", "db",   "y of running averages", "dx of running averages"};
  for (std::size_t i = 0; i < truth.size(); ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
}

void check_layer_norm(std::int64_t N, std::int64_t M, bool add) {
  const NormInputs in(N, M);
  const Array x(in.x), dy(in.dy), w(in.w), b(in.b);
  const auto out = in_every_order(false, [&] {
    const Array<float> y = space(N * M), mean = space(N), rstd = space(N),
                       scratch = space(layer_norm_scratch(on, N, M));
    const Array dx(in.before), dw(in.w), db(in.b);
    layer_norm(on, y, mean, rstd, x, w, b, N, M, scratch);
    layer_norm_backward(on, {dx, M, add}, {dw, M, add}, {db, M, add}, dy, x, mean, rstd, w, N, M, scratch);
    return Vector<Floats>{y.values(), mean.values(), rstd.values(), dx.values(), dw.values(), db.values()};
  });
  const auto of = [&]<class T>(T) {
    const Vector<T> X = as<T>(in.x), DY = as<T>(in.dy), W = as<T>(in.w), B = as<T>(in.b);
    Vector<T> y(X.size()), mean(size(N)), rstd(size(N)), dx = as<T>(in.before), dw = W, db = B;
    const auto sink = [&](Vector<T>& to) { return Sink<T>{to.data(), M, add}; };
    T* const none = nullptr;
    layer_norm(Cpu{}, y.data(), mean.data(), rstd.data(), X.data(), W.data(), B.data(), N, M, none);
    layer_norm_backward(Cpu{}, sink(dx), sink(dw), sink(db), DY.data(), X.data(), mean.data(), rstd.data(), W.data(), N,
                        M, none);
    return Vector<Vector<T>>{y, mean, rstd, dx, dw, db};
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  const char* const names[] = {"y", "mean", "rstd", "dx", "dw", "db"};
  for (std::size_t i = 0; i < truth.size(); ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
}

TEST(GpuRelatives, Norms) {
  for (const auto& [N, M] :
       {std::pair<std::int64_t, std::int64_t>(1, 5), {2, 64}, {5, 130}, {32, 84}, {40, 33}, {70, 12}, {2, 2051}}) {
    for (const bool add : {false, true}) {
      SCOPED_TRACE(std::to_string(N) + " samples of " + std::to_string(M) + (add ? ", added" : ""));
      check_batch_norm(N, M, add);
      check_layer_norm(N, M, add);
    }
  }
}

// What a recorded bad pass, one sample or null pointers leave alone.
TEST(GpuRelatives, RunningAveragesStay) {
  const NormInputs in(4, 9);
  Vector<Progress> bad(1);
  bad[0].bad_pass = 2;
  const Array good_d(Vector<Progress>(1)), bad_d(bad);
  const Array x(in.x), w(in.w), b(in.b), rm(in.mean), rv(in.var);
  const Array<float> y = space(36), mean = space(9), rstd = space(9);
  batch_norm(on, y, mean, rstd, rm, rv, bad_d, x, w, b, 4, 9);
  batch_norm(on, y, mean, rstd, rm, rv, good_d, x, w, b, 1, 9);
  batch_norm(on, y, mean, rstd, nullptr, nullptr, good_d, x, w, b, 4, 9);
  EXPECT_EQ(rm.values(), in.mean);
  EXPECT_EQ(rv.values(), in.var);
  batch_norm(on, y, mean, rstd, rm, rv, good_d, x, w, b, 4, 9);
  EXPECT_NE(rm.values(), in.mean);
}

// Layers of one launch: both ways round, and of different sizes.
void check_spectral(const Vector<std::pair<int, int>>& shapes, bool add) {
  Random random(81);
  const auto count = static_cast<int>(shapes.size());
  Vector<Floats> weights, upstream, starts, gains;
  for (const auto& [out, in] : shapes) {
    weights.push_back(random.normal(out * in)), upstream.push_back(random.normal(out * in));
    starts.push_back(random.normal(out * in)), gains.push_back(random.normal(1, 0.1f, 1.5f));
  }
  const auto results = in_every_order(false, [&] {
    Vector<Array<float>> keep;
    const auto device = [&](const Floats& values) -> float* { return keep.emplace_back(values); };
    Vector<SpectralLayer<float, Cuda>> layers;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const auto [out, in] = shapes[i];
      float *const scaled = device(Floats(size(out * in))), *const saved =
                                                                device(Floats(size(spectral_saved(out, in))));
      float *const dweight = device(starts[i]), *const dgamma = device({0.25f});
      layers.push_back({device(weights[i]),
                        device(gains[i]),
                        scaled,
                        saved,
                        out,
                        in,
                        {dweight, in, add},
                        {dgamma, 1, add},
                        device(upstream[i])});
    }
    spectral_reparam(on, layers.data(), count, nullptr);
    spectral_reparam_backward(on, layers.data(), count, nullptr);
    Vector<Floats> all;
    for (std::size_t k = 0; k < keep.size(); ++k) {
      if (k % 7 < 4) all.push_back(keep[k].values());  // scaled, saved, dweight, dgamma
    }
    return all;
  });
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const auto [out, in] = shapes[i];
    SCOPED_TRACE(std::to_string(out) + " x " + std::to_string(in));
    const auto of = [&]<class T>(T) {
      const Vector<T> W = as<T>(weights[i]), G = as<T>(upstream[i]), gamma = as<T>(gains[i]);
      Vector<Wide<T>> saved(size(spectral_saved(out, in))), work(size(spectral_scratch(Cpu{}, out, in)));
      Vector<T> scaled(W.size()), dW = as<T>(starts[i]), dgamma{T(0.25)};
      const SpectralLayer<T, Cpu> layer{W.data(), gamma.data(),         scaled.data(),           saved.data(), out,
                                        in,       {dW.data(), in, add}, {dgamma.data(), 1, add}, G.data()};
      spectral_reparam(Cpu{}, &layer, 1, work.data());
      spectral_reparam_backward(Cpu{}, &layer, 1, work.data());
      return Vector<Vector<T>>{scaled, {T(saved.back())}, Vector<T>(saved.begin(), saved.end() - 1), dW, dgamma};
    };
    const auto truth = of(0.0);
    const auto noisy = of(0.0f);
    const Floats& saved = results[4 * i + 1];
    expect_close("scaled", results[4 * i], noisy[0], truth[0]);
    expect_close("sigma", {saved.back()}, noisy[1], truth[1]);
    expect_close("v and u", Floats(saved.begin(), saved.end() - 1), noisy[2], truth[2]);
    expect_close("dW", results[4 * i + 2], noisy[3], truth[3]);
    expect_close("dgamma", results[4 * i + 3], noisy[4], truth[4]);
  }
}

TEST(GpuRelatives, SpectralReparam) {
  for (const bool add : {false, true}) {
    check_spectral({{1, 9}}, add);
    check_spectral({{16, 48}, {16, 48}, {5, 33}, {48, 16}}, add);
    check_spectral({{20, 33}, {33, 20}}, add);
    check_spectral({{64, 70}}, add);
  }
  EXPECT_THROW(check_spectral({{65, 70}}, true), GpuError);
}

// ---- what the tape itself calls ------------------------------------------------------------------------------------

TEST(GpuTape, ClearCopyAndAddOfColumns) {
  Random random(82);
  const std::int64_t rows = 70, columns = 33, wide = 40;
  const Floats from = random.normal(rows * wide), before = random.normal(rows * wide);
  const Array from_d(from), cleared(before), copied(before), added(before);
  clear(on, cleared + 3, wide, rows, columns);
  copy(on, copied + 3, wide, from_d + 5, wide, rows, columns);
  add(on, added + 3, wide, from_d + 5, wide, rows, columns);
  Floats want[] = {before, before, before};
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < columns; ++k) {
      const std::size_t to = size(r * wide + 3 + k), at = size(r * wide + 5 + k);
      want[0][to] = 0, want[1][to] = from[at], want[2][to] = before[to] + from[at];
    }
  }
  EXPECT_EQ(cleared.values(), want[0]);
  EXPECT_EQ(copied.values(), want[1]);
  EXPECT_EQ(added.values(), want[2]);
}

TEST(GpuTape, MeanSquares) {
  for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>(1, 1), {7, 5}, {300, 33}, {3, 1030}}) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
    Random random(83);
    const std::int64_t R = rows, C = columns;
    const Floats a = random.normal(R * C), b = random.normal(R * C), before = random.normal(R * C), seed{0.75f};
    const Array a_d(a), b_d(b), seed_d(seed);
    const auto out = in_every_order(false, [&] {
      const Array<float> mean = space(1), scratch = space(R), da = space(R * C);
      const Array db(before);
      mean_squares(on, mean, a_d, b_d, R, C, scratch);
      mean_squares_backward(on, {da, C, false}, {db, C, true}, seed_d, a_d, b_d, R, C);
      return Vector<Floats>{mean.values(), da.values(), db.values()};
    });
    const auto of = [&]<class T>(T) {
      Vector<T> mean(1), da, db = as<T>(before);
      const T count = T(R * C);
      for (std::size_t i = 0; i < a.size(); ++i) {
        const T apart = T(a[i]) - T(b[i]);
        mean[0] += apart * apart / count;
        da.push_back(T(seed[0]) * 2 * apart / count);
        db[i] -= da.back();
      }
      return Vector<Vector<T>>{mean, da, db};
    };
    const auto truth = of(0.0);
    const auto noisy = of(0.0f);
    const char* const names[] = {"mean", "da", "db"};
    for (std::size_t i = 0; i < 3; ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
  }
}

// ---- SAM and the optimisers ----------------------------------------------------------------------------------------

struct Slab {
  explicit Slab(int count) : count(count) {
    Random random(5);
    weights = random.normal(count);
    gradient1 = random.normal(count);
    gradient2 = random.normal(count);
  }
  int count;
  Floats weights, gradient1, gradient2;
};

DeviceHyper hyper_of(const UpdateRule& rule) {
  DeviceHyper h;
  h.lr = 0.01f, h.rho = 0.7f, h.momentum = 0.9f, h.beta1 = 0.9f, h.beta2 = 0.999f, h.weight_decay = 0.1f;
  h.epsilon = rule.form == AdamForm::keras ? 1e-7f : 1e-8f;
  h.ema = 0.3f, h.log_beta1 = std::log(0.9), h.log_beta2 = std::log(0.999);
  return h;
}
UpdateRule rule_of(Rule rule, AdamForm form = AdamForm::pytorch) { return {.rule = rule, .form = form}; }

// The device's side of three steps; NaN planted in a gradient where `bad_step` and `bad_pass` say so. Each pass has 32
// windows and a loss of 0.5 + 0.25 in two parts.
struct Result {
  Floats weights, m, v, average;
  Progress progress;
};
Result three_steps(const Slab& slab, const UpdateRule& rule, bool adaptive, bool sam, int bad_step = 0,
                   int bad_pass = 0, int bad_element = 0) {
  const std::int64_t n = slab.count;
  const Array weights(slab.weights), average(slab.weights), loss(Floats{0.5f, 1, 0.25f, 2});
  const Array<float> saved = space(n), m = zeros(n), v = zeros(n);
  const Array<double> parts(norm_parts(on, n));
  const Array hyper(Vector<DeviceHyper>{hyper_of(rule)});
  const Array progress(Vector<Progress>(1));
  for (int step = 1; step <= 3; ++step) {
    Floats gradients[] = {slab.gradient1, slab.gradient2};
    for (float& g : gradients[0]) g *= static_cast<float>(step);
    if (step == bad_step) gradients[bad_pass - 1][size(bad_element)] = std::numeric_limits<float>::quiet_NaN();
    const Array g1(gradients[0]), g2(gradients[1]);
    UpdateSlabs<float> slabs{weights, saved.when(sam), m, v, average, g1, n};
    if (sam) {
      gradient_norm(on, parts, progress, hyper, slabs, adaptive, {loss, 4, 32, 0, false});
      perturb(on, slabs, progress, hyper, parts, adaptive);
    }
    slabs.gradient = g2;
    gradient_norm(on, parts, progress, hyper, slabs, false, {loss, 4, 32, sam ? 1 : 0, true});
    update(on, slabs, progress, hyper, parts, rule, sam ? 2 : 1);
  }
  return {weights.values(), m.values(), v.values(), average.values(), progress.values()[0]};
}

template <class T>
std::tuple<Vector<T>, Vector<T>, Vector<T>> steps_on_host(const Slab& slab, const UpdateRule& rule, int steps) {
  const DeviceHyper hyper = hyper_of(rule);
  const bool keras = rule.form == AdamForm::keras;
  Vector<T> w = as<T>(slab.weights), m(w.size()), v(w.size()), average = w;
  const T b1 = T(hyper.beta1), b2 = T(hyper.beta2), lr = T(hyper.lr), wd = T(hyper.weight_decay),
          eps = T(hyper.epsilon);
  for (int t = 1; t <= steps; ++t) {
    const T keep = std::min(T(hyper.ema), T(t) / T(9 + t));
    const T c1 = T(1 - std::pow(0.9, t)), c2 = T(1 - std::pow(0.999, t));
    for (std::size_t i = 0; i < w.size(); ++i) {
      T g = slab.gradient2[i];
      if (rule.rule == Rule::adamw)
        w[i] *= 1 - lr * wd;
      else
        g += wd * w[i];
      if (rule.rule == Rule::sgd) {
        m[i] = T(hyper.momentum) * m[i] + g;
        w[i] -= lr * m[i];
      } else {
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        if (keras)
          w[i] -= lr * std::sqrt(c2) / c1 * m[i] / (std::sqrt(v[i]) + eps);
        else
          w[i] -= lr / c1 * m[i] / (std::sqrt(v[i]) / std::sqrt(c2) + eps);
      }
      average[i] = keep * average[i] + (1 - keep) * w[i];
    }
  }
  return {w, average, m};
}

TEST(GpuSam, OptimisersFromTheSavedWeights) {
  const Slab slab(2100);
  for (const UpdateRule& rule : {rule_of(Rule::sgd), rule_of(Rule::adam), rule_of(Rule::adam, AdamForm::keras),
                                 rule_of(Rule::adamw), rule_of(Rule::adamw, AdamForm::keras)}) {
    const auto [w, average, m] = steps_on_host<double>(slab, rule, 3);
    const auto [w32, average32, m32] = steps_on_host<float>(slab, rule, 3);
    const Result got = three_steps(slab, rule, false, true);
    expect_close("weights", got.weights, w32, w);
    expect_close("average", got.average, average32, average);
    expect_close("m", got.m, m32, m);
    EXPECT_EQ(got.progress.step, 3);
    EXPECT_EQ(got.progress.batch, 3);
    EXPECT_EQ(got.progress.bad_pass, 0);
    for (const int pass : {0, 1}) {
      EXPECT_EQ(got.progress.squared_error[pass], 3 * 32 * 0.75);
      EXPECT_EQ(got.progress.absolute_error[pass], 3 * 32 * 3);
    }
    // Restored from the copy, so the ascent leaves no trace; and without SAM the same steps.
    EXPECT_EQ(got.weights, three_steps(slab, rule, true, true).weights);
    EXPECT_EQ(got.weights, three_steps(slab, rule, false, false).weights);
  }
}

TEST(GpuSam, Ascent) {
  for (const int count : {1, 7, 2048, 4099}) {
    const Slab slab(count);
    for (const bool adaptive : {false, true}) {
      const Array weights(slab.weights), gradient(slab.gradient1), loss(Floats{1, 1});
      const Array<float> saved = space(count);
      const Array<double> parts(norm_parts(on, count));
      const Array hyper(Vector<DeviceHyper>{hyper_of({})});
      const Array progress(Vector<Progress>(1));
      const UpdateSlabs<float> slabs{weights, saved, nullptr, nullptr, nullptr, gradient, count};
      gradient_norm(on, parts, progress, hyper, slabs, adaptive, {loss, 2, 1, 0, false});
      perturb(on, slabs, progress, hyper, parts, adaptive);
      const auto of = [&]<class T>(T) {
        T norm = 0;
        for (std::size_t i = 0; i < size(count); ++i)
          norm += std::pow(T(slab.gradient1[i]) * (adaptive ? T(slab.weights[i]) : 1), T(2));
        norm = std::sqrt(norm);
        Vector<T> step;
        for (std::size_t i = 0; i < size(count); ++i) {
          const T w = slab.weights[i];
          step.push_back(w + T(0.7f) * (adaptive ? w * w : 1) * T(slab.gradient1[i]) / (norm + T(1e-12)));
        }
        step.push_back(norm);
        return step;
      };
      Floats got = weights.values();
      got.push_back(progress.values()[0].norm);
      expect_close("ascent", got, of(0.0f), of(0.0));
      EXPECT_EQ(saved.values(), slab.weights);
    }
  }
}

TEST(GpuSam, TheFirstNonFiniteGradientStopsEverything) {
  const Slab slab(2100);
  for (const int step : {1, 3}) {
    for (const int pass : {1, 2}) {
      for (const int element : {0, 2047, 2099}) {
        const Result got = three_steps(slab, {}, false, true, step, pass, element);
        EXPECT_EQ(got.progress.bad_step, step);
        EXPECT_EQ(got.progress.bad_pass, pass);
        EXPECT_EQ(got.progress.bad_element, element);
        const auto [w, average, m] = steps_on_host<float>(slab, {}, step - 1);
        for (std::size_t i = 0; i < w.size(); ++i) {
          ASSERT_NEAR(got.weights[i], w[i], 1e-5) << "step " << step << " pass " << pass << " element " << i;
          ASSERT_NEAR(got.average[i], average[i], 1e-5);
          ASSERT_NEAR(got.m[i], m[i], 1e-5);
        }
      }
    }
  }
}

}  // namespace
}  // namespace samformer::kernels
