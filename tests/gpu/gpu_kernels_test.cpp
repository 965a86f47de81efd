// The GPU kernels against naive double references, those of the relatives' operations against the CPU's in double, over
// tables of shapes: on the SIMT emulator, or, built with nvcc, on a GPU. Tolerance: 4 times the larger of a naive float
// program's error and two ulp of the scale; the same result times 1.001 must be outside it.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "core/ops/ops.h"
#include "kernels/elementwise.h"
#include "kernels/gpu.h"
#include "kernels/normalise.h"
#include "kernels/spectral.h"
#include "tests/reference.h"
#ifdef SAMFORMER_EMULATED
#include "kernels/simt/simt.h"
#endif

namespace samformer::kernels::gpu {
namespace {

using reference::as;
using reference::Sizes;
template <class T>
using Vector = std::vector<T>;
using Floats = Vector<float>;

template <class T>
class Device {
 public:
  Device(std::size_t count, const char* name)
      : count_(count), data_(static_cast<T*>(device_allocate(std::max<std::size_t>(1, count) * sizeof(T), name))) {}
  Device(const Vector<T>& values, const char* name) : Device(values.size(), name) {
    upload(data_, values.data(), count_ * sizeof(T), nullptr);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { device_free(data_); }
  operator T*() const { return data_; }
  T* when(bool there) const { return there ? data_ : nullptr; }
  Vector<T> values() const {
    Vector<T> host(count_);
    download(host.data(), data_, count_ * sizeof(T), nullptr);
    synchronise(nullptr);
    return host;
  }

 private:
  std::size_t count_;
  T* data_;
};

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
    {{1, 862, 9, 6, 16, 16}, true, false, 0, 0, false},
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
  enum class Kernels { fused, tensor_cores, products };
  void check_attention(Kernels kernels);
  void check_loss(bool applied);
  Widths widths() const { return {z.value, z.key, z.H}; }
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
  std::size_t plane() const { return static_cast<std::size_t>(z.N * channel_stride(z.D)); }

  const Case c;
  const Sizes z;
  const std::int64_t length;
  Random random;
  Floats series, p, gamma, beta, s, b;
  Vector<std::int32_t> starts;
  std::int64_t ld = 0;
};

#ifdef SAMFORMER_EMULATED
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
  const Device<float> series_d(series, "series");
  const Device<std::int32_t> starts_d(starts, "starts");
  const auto out = in_every_order(z.D > 100, [&] {
    Device<float> xhat(static_cast<std::size_t>(z.rows() * z.L), "xhat"), stats(plane() * 2, "stats"),
        moments(static_cast<std::size_t>(channel_stride(z.D) * 5), "moments");
    device_zero(stats, plane() * 8, nullptr);
    device_zero(moments, static_cast<std::size_t>(channel_stride(z.D)) * 20, nullptr);
    revin_normalise(xhat, stats, nullptr, nullptr, series_d, starts_d, z.N, z.N, z.D, length, z.L,
                    c.last_value ? Level::last : Level::mean, false, nullptr);
    revin_moments(moments, stats, z.N, z.D, nullptr);
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
  const Floats weights = random.normal(z.columns() * z.L), output = random.normal(z.L);
  const Floats value = random.normal(z.value), query = random.normal(z.key), head = random.normal(z.H);
  const Device<float> weights_d(weights, "weights"), output_d(output, "b_O"), value_d(value, "b_V"),
      query_d(query, "b_Q"), head_d(head, "b_W");
  const auto out = in_every_order(z.D > 100, [&] {
    const auto count = static_cast<std::size_t>(z.columns());
    Device<float> sums(count, "s"), biases(count, "b");
    weight_sums(sums, biases, {weights_d, weights_d + z.value * z.L}, {value_d, query_d, nullptr, output_d, head_d},
                widths(), z.L, nullptr);
    return Vector<Floats>{sums.values(), biases.values()};
  });
  const auto sums = [&]<class T>(T, bool biases) {
    Vector<T> x(static_cast<std::size_t>(z.columns()));
    for (int o = 0; o < z.columns(); ++o) {
      const auto at = static_cast<std::size_t>(o);
      const int h = o - z.first_head();
      if (biases && o < z.value) x[at] = value[at];
      if (biases && o >= z.value && o < z.value + z.key) x[at] = query[at - static_cast<std::size_t>(z.value)];
      if (biases && h >= 0) x[at] = head[static_cast<std::size_t>(h)];
      for (int i = 0; i < z.L; ++i) {
        const T w = weights[static_cast<std::size_t>(o * z.L + i)];
        if (!biases) x[at] += w;
        if (biases && h >= 0) x[at] += w * T(output[static_cast<std::size_t>(i)]);
      }
    }
    return x;
  };
  expect_close("s", out[0], sums(0.0f, false), sums(0.0, false));
  expect_close("b", out[1], sums(0.0f, true), sums(0.0, true));
}

void GpuKernels::check_attention(Kernels kernels) {
  const bool tensor_cores = kernels == Kernels::tensor_cores, products = kernels == Kernels::products;
  const int W = z.first_head();
  const Floats dc = random.normal(z.rows() * z.value);
  const Device<float> p_d(p, "P"), gamma_d(gamma, "gamma"), beta_d(beta, "beta"), s_d(s, "s"), b_d(b, "b"),
      dc_d(dc, "dC");
  const Projected in{p_d, ld, gamma_d.when(c.affine), beta_d.when(c.affine), s_d, b_d};
  const Blas blas = products ? blas_create(nullptr, false) : nullptr;
  const auto out = in_every_order(z.D > 100, [&] {
    const auto rows = static_cast<std::size_t>(z.rows());
    Device<float> context(rows * static_cast<std::size_t>(z.value), "C"), lse(rows, "lse"),
        dz(rows * static_cast<std::size_t>(ld), "dZ"), sums(plane() * 2 * row_sum_slots, "row sums");
    device_zero(dz, rows * static_cast<std::size_t>(ld) * 4, nullptr);
    device_zero(sums, plane() * 2 * row_sum_slots * 4, nullptr);
    if (products) {
      const auto floats = AttentionMemory::floats(z.N, z.D, widths());
      const auto count = static_cast<std::size_t>(floats.probabilities);
      const Device<float> operands(static_cast<std::size_t>(floats.operands), "operands"),
          probabilities(count, "probabilities"), gradients(count, "gradients of the probabilities");
      const AttentionMemory memory{operands, probabilities, gradients};
      attention_forward_products(blas, memory, context, z.value, in, z.N, z.D, widths(), nullptr);
      attention_backward_products(blas, memory, dz, sums.when(c.affine), dc_d, z.value, in, z.N, z.D, widths(),
                                  nullptr);
    } else {
      (tensor_cores ? attention_forward_tf32 : attention_forward)(context, z.value, lse, in, z.N, z.D, widths(),
                                                                  nullptr);
      (tensor_cores ? attention_backward_tf32 : attention_backward)(dz, sums.when(c.affine), dc_d, context, z.value,
                                                                    lse, in, z.N, z.D, widths(), nullptr);
    }
    return Vector<Floats>{context.values(), lse.values(), dz.values(), sums.values()};
  });
  if (products) blas_destroy(blas);
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
  if (!products) expect_close("lse", out[1], noisy.lse, truth.lse, 0, tensor_cores);
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
  for (int slot = 1; slot < 3; ++slot) {
    for (const bool gammas : {true, false}) {
      const auto total = [&]<class T>(const Vector<T>& dz) {
        if (slot == 1) return sums(dz, z.value, z.value + z.key, gammas);
        Vector<T> x = sums(dz, 0, z.value, gammas);
        const Vector<T> y = sums(dz, z.value + z.key, W, gammas);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
        return x;
      };
      const Vector<double> exact = total(truth.dz);
      expect_close("row sums", unpadded(out[3], static_cast<std::size_t>(2 * slot + (gammas ? 0 : 1)) * plane(), 1),
                   total(noisy.dz), exact, scale, tensor_cores);
    }
  }
}

TEST_P(GpuKernels, Attention) {
  if (z.key > attention_widest_key) GTEST_SKIP() << "wider than the fused kernels";
  check_attention(Kernels::fused);
}
TEST_P(GpuKernels, AttentionByProducts) { check_attention(Kernels::products); }
TEST_P(GpuKernels, AttentionOnTensorCores) {
  if (!attention_tf32_supports(widths())) GTEST_SKIP() << "wider than the TF32 kernels";
  check_attention(Kernels::tensor_cores);
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
  const Device<float> p_d(p, "P"), gamma_d(gamma, "gamma"), beta_d(beta, "beta"), s_d(s, "s"), b_d(b, "b"),
      mixed_d(mixed, "C G'"), stats_d(stats, "stats"), moments_d(moments, "moments"), series_d(series, "series"),
      weight_d(weight, "channel weights");
  const Device<std::int32_t> starts_d(starts, "starts");
  LossInput input{};
  input.in = {
      p_d, ld, gamma_d.when(c.affine), beta_d.when(c.affine), applied ? nullptr : static_cast<const float*>(s_d), b_d};
  input.mixed = mixed_d, input.mixed_ld = z.H, input.stats = stats_d, input.moments = moments_d,
  input.series = series_d, input.starts = starts_d;
  input.batch = z.N, input.batch_stride = z.N, input.channels = z.D, input.series_length = length,
  input.look_back = z.L;
  input.widths = widths(), input.channel_weight = weight_d, input.guard = c.guard;
  const kernels::StatsMix mix(c.lambda, c.affine ? 9 : 0);
  input.share = c.lambda, input.rise = static_cast<float>(mix.rise());
  const auto out = in_every_order(z.D > 100, [&] {
    const auto blocks = static_cast<std::size_t>(loss_blocks(z.rows()));
    const auto outputs = static_cast<std::size_t>(z.rows() * z.H);
    Device<float> parts(blocks * 2, "parts"), dz(outputs, "dz"), sums(plane() * 2, "row sums"),
        forecast(outputs, "forecast");
    device_zero(sums, plane() * 8, nullptr);
    loss(parts, dz, z.H, sums.when(c.affine), input, nullptr);
    denormalise(forecast, input, nullptr);
    Device<float> alone(blocks * 2, "parts of an evaluation");
    loss(alone, nullptr, 0, nullptr, input, nullptr);
    EXPECT_EQ(parts.values(), alone.values());
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
  const Device<float> series_d(series, "series");
  const Device<std::int32_t> starts_d(starts, "starts");
  Device<float> xhat(static_cast<std::size_t>(z.rows() * z.L), "xhat"), stats(plane() * 2, "stats");
  device_zero(stats, plane() * 8, nullptr);
  revin_normalise(xhat, stats, nullptr, nullptr, series_d, starts_d, z.N, z.N, z.D, length, z.L, Level::none, false,
                  nullptr);
  const Floats got = xhat.values();
  for (int r = 0; r < z.rows(); ++r) {
    const float* const window = series.data() + r % z.D * length + starts[static_cast<std::size_t>(r / z.D)];
    ASSERT_EQ(std::memcmp(got.data() + r * z.L, window, static_cast<std::size_t>(z.L) * 4), 0) << "row " << r;
  }
  const auto rows = static_cast<std::size_t>(z.rows());
  EXPECT_EQ(unpadded(stats.values(), 0, 2), Floats(rows, 0.0f));
  EXPECT_EQ(unpadded(stats.values(), 1, 2), Floats(rows, 1.0f));
}

// With finish_gradients as the models use it that apply scale and shift first: no columns, RevIN's gradients alone.
TEST_P(GpuKernels, RevinAffine) {
  if (!c.affine) GTEST_SKIP() << "without affine";
  const std::int64_t R = z.rows(), count = R * z.L;
  const Floats x = random.normal(count), du = random.normal(count);
  const Device<float> x_d(x, "xhat"), du_d(du, "du"), gamma_d(gamma, "gamma"), beta_d(beta, "beta");
  const auto out = in_every_order(z.D > 100, [&] {
    Device<float> u(static_cast<std::size_t>(count), "u"), sums(plane() * 4, "row sums"), dgamma(gamma, "dgamma"),
        dbeta(beta, "dbeta"), losses(2 * static_cast<std::size_t>(loss_blocks(z.rows())), "");
    Device<Progress> progress(Vector<Progress>(1), "progress");
    device_zero(sums, plane() * 4 * 4, nullptr);  // nothing from the loss
    device_zero(losses, 8 * static_cast<std::size_t>(loss_blocks(z.rows())), nullptr);
    revin_affine(u, x_d, gamma_d, beta_d, z.N, z.D, z.L, nullptr);
    revin_affine_backward(sums, du_d, x_d, z.N, z.D, z.L, nullptr);
    finish_gradients({nullptr, nullptr, nullptr, nullptr, nullptr, dgamma, dbeta}, progress, nullptr, sums, 2, losses,
                     Folded::nothing, nullptr, z.N, z.D, {0, 0, 0}, z.L, 0, nullptr);
    return Vector<Floats>{u.values(), dgamma.values(), dbeta.values()};
  });
  const auto of = [&]<class T>(T) {
    const auto n = static_cast<std::size_t>(z.D);
    Vector<Vector<T>> r{Vector<T>(x.size()), Vector<T>(n), Vector<T>(n)};
    Vector<T> work(static_cast<std::size_t>(2 * R));
    kernels::revin_affine(r[0].data(), as<T>(x).data(), as<T>(gamma).data(), as<T>(beta).data(), R, z.D, z.L);
    kernels::revin_affine_backward(r[1].data(), r[2].data(), as<T>(du).data(), as<T>(x).data(), R, z.D, z.L,
                                   work.data());
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
  const Device<float> forecast_d(forecast, "forecast"), series_d(series, "series");
  const Device<std::int32_t> starts_d(starts, "starts"), targets_d(targets, "targets");
  const auto cells = static_cast<std::size_t>(count * z.H);
  Device<double> sums(2 * cells, "sums");
  device_zero(sums, 2 * cells * sizeof(double), nullptr);
  for (int i = 0; i < 2; ++i) {
    error_sums(sums, forecast_d, series_d, starts_d, targets_d, count, z.N, z.D, length, z.L, z.H, nullptr);
  }
  const Vector<double> got = sums.values();
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const int d = targets[cell / static_cast<std::size_t>(z.H)], h = static_cast<int>(cell) % z.H;
    double squared = 0, absolute = 0;
    for (int n = 0; n < z.N; ++n) {
      const auto row = static_cast<std::size_t>(n * z.D + d);
      const auto at = static_cast<std::size_t>(d * length + starts[static_cast<std::size_t>(n)] + z.L + h);
      const double error =
          double(forecast[row * static_cast<std::size_t>(z.H) + static_cast<std::size_t>(h)]) - double(series[at]);
      squared += 2 * error * error;
      absolute += 2 * std::abs(error);
    }
    ASSERT_NEAR(got[cell], squared, 1e-12 * squared) << "target " << d << ", step " << h;
    ASSERT_NEAR(got[cells + cell], absolute, 1e-12 * absolute) << "target " << d << ", step " << h;
  }
}

TEST_P(GpuKernels, ProjectionBackwardAndGradients) {
  const int O = z.columns(), L = z.L;
  const Floats dz = random.normal(z.rows() * ld), product = random.normal(O * L), bias = random.normal(L);
  const Floats sums = random.normal(static_cast<std::int64_t>(plane()) * 2 * row_sum_slots);
  const Floats losses = random.normal(2 * loss_blocks(z.rows()), 0.1f, 1);
  const Folded fold = z.value == z.H ? Folded::value_bias : z.value == z.key ? Folded::output_bias : Folded::nothing;
  const Device<float> dz_d(dz, "dZ"), gamma_d(gamma, "gamma"), beta_d(beta, "beta"), bias_d(bias, "folded bias"),
      sums_d(sums, "row sums"), losses_d(losses, "loss parts");
  Vector<double> errors;
  const auto out = in_every_order(z.D > 100, [&] {
    Device<float> dp(dz.size(), "dP"),
        parts(static_cast<std::size_t>(projection_chunks(z.rows()) * 2 * O), "column parts"), weights(product, "dWcat"),
        d_value(static_cast<std::size_t>(z.value), "db_V"), d_query(static_cast<std::size_t>(z.key), "db_Q"),
        d_head(static_cast<std::size_t>(z.H), "db_W"), d_gamma(static_cast<std::size_t>(z.D), "dgamma"),
        d_beta(static_cast<std::size_t>(z.D), "dbeta");
    Device<Progress> progress(Vector<Progress>(1), "progress");
    device_zero(dp, dz.size() * 4, nullptr);
    device_zero(d_gamma, static_cast<std::size_t>(z.D) * 4, nullptr);
    device_zero(d_beta, static_cast<std::size_t>(z.D) * 4, nullptr);
    projection_backward(dp, parts, dz_d, ld, gamma_d.when(c.affine), beta_d.when(c.affine), z.N, z.D, O, nullptr);
    finish_gradients(
        {weights, weights + z.value * L, d_value, d_query, d_head, d_gamma.when(c.affine), d_beta.when(c.affine)},
        progress, parts, sums_d.when(c.affine), row_sum_slots, losses_d, fold, bias_d, z.N, z.D, widths(), L, 1,
        nullptr);
    const Progress after = progress.values()[0];
    errors = {after.squared_error[1], after.absolute_error[1]};
    EXPECT_EQ(after.squared_error[0], 0);
    return Vector<Floats>{dp.values(),     weights.values(), d_value.values(), d_query.values(),
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
      for (std::size_t slot = 0; slot < row_sum_slots; ++slot) {
        const std::size_t at = static_cast<std::size_t>(r / z.D * channel_stride(z.D)) + d;
        d_gamma[d] += sums[2 * slot * plane() + at];
        d_beta[d] += sums[(2 * slot + 1) * plane() + at];
      }
    }
    for (int i = 0; i < O * L; ++i) {
      const int o = i / L, h = o - z.first_head();
      T w = T(product[static_cast<std::size_t>(i)]) + ds[static_cast<std::size_t>(o)];
      if (h >= 0 && fold != Folded::nothing)
        w += db[static_cast<std::size_t>(fold == Folded::output_bias ? o : h)] *
             T(bias[static_cast<std::size_t>(i % L)]);
      weights.push_back(w);
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
  expect_close("db_V", out[2], part(db32, 0, z.value), part(db, 0, z.value), scale);
  expect_close("db_Q", out[3], part(db32, z.value, z.key), part(db, z.value, z.key), scale);
  expect_close("db_W", out[4], part(db32, z.first_head(), z.H), part(db, z.first_head(), z.H), scale);
  double squared = 0, absolute = 0;
  for (std::size_t i = 0; i < losses.size(); i += 2) squared += losses[i], absolute += losses[i + 1];
  EXPECT_NEAR(errors[0], z.N * squared, 1e-6 * z.N * squared);
  EXPECT_NEAR(errors[1], z.N * absolute, 1e-6 * z.N * absolute);
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

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// y = residual + dropout(act(a + bias)) and its gradients; the mask is the one that the CPU's operation draws.
void check_epilogue(int rows, int columns, Activation activation, double rate, bool with_residual) {
  SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns) + ", activation " +
               std::to_string(static_cast<int>(activation)) + ", rate " + std::to_string(rate));
  const std::int64_t count = static_cast<std::int64_t>(rows) * columns;
  Random random(77);
  const Floats a = random.normal(count, 2), bias = random.normal(columns), residual = random.normal(count),
               dy = random.normal(count), before = random.normal(columns);
  const int pass = 1, site = 5;
  Arena arena;
  Tape<float> tape(arena);
  Floats mask(size(count), 1.0f);
  if (rate > 0) {
    const Tensor<float> drawn =
        dropout(tape.constant({mask.data(), Shape{rows, columns}}), rate, {123456789012345u, 41, pass, site}).value();
    std::copy_n(drawn.data, count, mask.data());
  }
  const Device<float> a_d(a, "a"), bias_d(bias, "bias"), residual_d(residual, "residual"), dy_d(dy, "dy");
  Vector<Progress> now(1);
  now[0].step = 42;  // of the step that runs; the address counts finished ones
  const Device<Progress> progress(now, "progress");
  const Dropout dropped{rate, 123456789012345u, pass, site, progress};
  const auto out = in_every_order(false, [&] {
    Device<float> y(size(count), "y"), da(size(count), "da"), db(before, "db"),
        parts(column_sum_chunks * size(columns), "parts");
    bias_activation(y, a_d, bias_d, residual_d.when(with_residual), rows, columns, activation, dropped, nullptr);
    bias_activation_backward(da, dy_d, a_d, bias_d, rows, columns, activation, dropped, nullptr);
    add_column_sums(db, parts, da, columns, rows, columns, nullptr);
    return Vector<Floats>{y.values(), da.values(), db.values()};
  });
  const auto of = [&]<class T>(T) {
    Vector<Vector<T>> r{Vector<T>(), Vector<T>(), as<T>(before)};
    for (std::size_t i = 0; i < a.size(); ++i) {
      const T x = T(a[i]) + T(bias[i % size(columns)]), phi = (T(1) + std::erf(x / std::sqrt(T(2)))) / T(2);
      T value = x, slope = 1;
      if (activation == Activation::relu) value = x > 0 ? x : T(0), slope = x > 0 ? T(1) : T(0);
      if (activation == Activation::gelu)
        value = x * phi, slope = phi + x * std::exp(-x * x / T(2)) / std::sqrt(T(2 * 3.14159265358979323846));
      r[0].push_back((with_residual ? T(residual[i]) : T(0)) + T(mask[i]) * value);
      r[1].push_back(T(dy[i]) * T(mask[i]) * slope);
      r[2][i % size(columns)] += r[1].back();
    }
    return r;
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  const char* const names[] = {"y", "da", "db"};
  for (std::size_t i = 0; i < 3; ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
  if (rate == 0) return;
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(out[1][i] == 0, truth[1][i] == 0) << "mask at " << i;
}

// All scores of a row far below zero: what pads its last four must not become the maximum.
TEST(GpuAttention, ScoresFarBelowZero) {
  const int D = 9, width = 4;
  const Widths widths{width, width, 0};
  Floats p, mean(width);
  for (int d = 0; d < D; ++d) {
    for (int o = 0; o < 3 * width; ++o)
      p.push_back(o < width ? static_cast<float>(d + o) : o < 2 * width ? 30.0f : -30.0f);
  }
  for (int o = 0; o < width; ++o) mean[static_cast<std::size_t>(o)] = static_cast<float>(4 + o);
  const Device<float> p_d(p, "P"), b_d(Floats(3 * width), "b");
  const Projected in{p_d, 3 * width, nullptr, nullptr, nullptr, b_d};
  const auto floats = AttentionMemory::floats(1, D, widths);
  const Device<float> operands(static_cast<std::size_t>(floats.operands), "operands"),
      probabilities(static_cast<std::size_t>(floats.probabilities), "probabilities");
  const Device<float> products(D * width, "C"), fused(D * width, "C, fused"), lse(D, "lse");
  const Blas blas = blas_create(nullptr, false);
  attention_forward_products(blas, {operands, probabilities, nullptr}, products, width, in, 1, D, widths, nullptr);
  attention_forward(fused, width, lse, in, 1, D, widths, nullptr);
  const Floats by_products = products.values(), by_one = fused.values();
  blas_destroy(blas);
  for (std::size_t i = 0; i < by_products.size(); ++i) {
    EXPECT_TRUE(std::abs(by_products[i] - mean[i % width]) <= 1e-5f) << by_products[i];
    EXPECT_TRUE(std::abs(by_one[i] - mean[i % width]) <= 1e-5f) << by_one[i];
  }
}

TEST(GpuRelatives, BiasActivationDropoutAndColumnSums) {
  for (const auto& [rows, columns] :
       {std::pair(1, 1), {3, 5}, {70, 7}, {37, 64}, {600, 16}, {5, 321}, {2, 1030}, {3, 861}}) {
    check_epilogue(rows, columns, Activation::none, 0, true);
    check_epilogue(rows, columns, Activation::relu, 0.3, true);
    check_epilogue(rows, columns, Activation::gelu, columns % 2 == 0 ? 0.9 : 0, false);
  }
}

// A column range of a wider matrix.
TEST(GpuRelatives, ColumnSumsOfAView) {
  Random random(78);
  const Floats from = random.normal(50 * 12);
  const Device<float> from_d(from, "from");
  Device<float> to(Floats(8), "to"), parts(column_sum_chunks * 8, "parts");
  add_column_sums(to, parts, from_d + 4, 12, 50, 8, nullptr);
  Vector<double> truth(8);
  Floats noisy(8);
  kernels::add_column_sums(truth.data(), as<double>(from).data() + 4, 12, 50, 8);
  kernels::add_column_sums(noisy.data(), from.data() + 4, 12, 50, 8);
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
    const Device<float> from_d(from, "from"), add_d(add, "add");
    for (const bool adding : {false, true}) {
      Floats truth = adding ? add : Floats(size(count));
      kernels::transpose(truth.data(), from.data(), N, A, B, adding);
      Device<float> y(size(count), "y");
      transpose(y, from_d, add_d.when(adding), N, A, B, nullptr);
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

void check_batch_norm(std::int64_t N, std::int64_t M) {
  const NormInputs in(N, M);
  const int samples = static_cast<int>(N), positions = static_cast<int>(M);
  const Device<float> x(in.x, "x"), dy(in.dy, "dy"), w(in.w, "w"), b(in.b, "b");
  const Device<Progress> progress(Vector<Progress>(1), "progress");
  const auto out = in_every_order(false, [&] {
    Device<float> y(size(N * M), "y"), mean(size(M), "mean"), rstd(size(M), "rstd"), rm(in.mean, "running mean"),
        rv(in.var, "running var"), dx(in.before, "dx"), dw(in.w, "dw"), db(in.b, "db"), constant(size(N * M), "y");
    batch_norm_running(constant, rm, rv, x, w, b, samples, positions, nullptr);
    batch_norm(y, mean, rstd, rm, rv, progress, x, w, b, samples, positions, nullptr);
    batch_norm_backward(dx, dw, db, dy, x, mean, rstd, w, samples, positions, nullptr);
    return Vector<Floats>{y.values(),  mean.values(), rm.values(), rv.values(),
                          dx.values(), dw.values(),   db.values(), constant.values()};
  });
  const auto of = [&]<class T>(T) {
    const Vector<T> X = as<T>(in.x), DY = as<T>(in.dy), W = as<T>(in.w), B = as<T>(in.b);
    Vector<T> y(X.size()), mean(W.size()), rstd(W.size()), rm = as<T>(in.mean), rv = as<T>(in.var),
                                                           dx = as<T>(in.before), dw = W, db = B, constant(X.size());
    for (std::size_t i = 0; i < rv.size(); ++i) rstd[i] = kernels::reciprocal_root(rv[i]);
    kernels::batch_norm(constant.data(), X.data(), rm.data(), rstd.data(), W.data(), B.data(), N, M);
    kernels::batch_statistics(mean.data(), rstd.data(), rm.data(), rv.data(), X.data(), N, M);
    kernels::batch_norm(y.data(), X.data(), mean.data(), rstd.data(), W.data(), B.data(), N, M);
    kernels::batch_norm_backward(dx.data(), dw.data(), db.data(), DY.data(), X.data(), mean.data(), rstd.data(),
                                 W.data(), false, N, M);
    return Vector<Vector<T>>{y, mean, rm, rv, dx, dw, db, constant};
  };
  const auto truth = of(0.0);
  const auto noisy = of(0.0f);
  const char* const names[] = {"y", "mean", "running mean", "running var", "dx", "dw", "db", "y of running averages"};
  for (std::size_t i = 0; i < truth.size(); ++i) expect_close(names[i], out[i], noisy[i], truth[i]);
}

void check_layer_norm(std::int64_t N, std::int64_t M) {
  const NormInputs in(N, M);
  const int samples = static_cast<int>(N), positions = static_cast<int>(M);
  const Device<float> x(in.x, "x"), dy(in.dy, "dy"), w(in.w, "w"), b(in.b, "b");
  const auto out = in_every_order(false, [&] {
    Device<float> y(size(N * M), "y"), mean(size(N), "mean"), rstd(size(N), "rstd"), dx(in.before, "dx"),
        dw(in.w, "dw"), db(in.b, "db"), parts(size(2 * (layer_norm_parts(samples, positions) + N)), "parts");
    layer_norm(y, mean, rstd, parts, x, w, b, samples, positions, nullptr);
    layer_norm_backward(dx, dw, db, parts, dy, x, mean, rstd, w, samples, positions, nullptr);
    return Vector<Floats>{y.values(), mean.values(), rstd.values(), dx.values(), dw.values(), db.values()};
  });
  const auto of = [&]<class T>(T) {
    const Vector<T> X = as<T>(in.x), DY = as<T>(in.dy), W = as<T>(in.w), B = as<T>(in.b);
    Vector<T> y(X.size()), mean(size(N)), rstd(size(N)), dx = as<T>(in.before), dw = W, db = B;
    kernels::layer_norm(y.data(), mean.data(), rstd.data(), X.data(), W.data(), B.data(), N, M);
    kernels::layer_norm_backward(dx.data(), dw.data(), db.data(), DY.data(), X.data(), mean.data(), rstd.data(),
                                 W.data(), N, M);
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
    SCOPED_TRACE(std::to_string(N) + " samples of " + std::to_string(M));
    check_batch_norm(N, M);
    check_layer_norm(N, M);
  }
}

// What a recorded bad pass, one sample or null pointers leave alone.
TEST(GpuRelatives, RunningAveragesStay) {
  const NormInputs in(4, 9);
  Vector<Progress> bad(1);
  bad[0].bad_pass = 2;
  const Device<Progress> good_d(Vector<Progress>(1), "progress"), bad_d(bad, "progress");
  const Device<float> x(in.x, "x"), w(in.w, "w"), b(in.b, "b");
  Device<float> y(36, "y"), mean(9, "mean"), rstd(9, "rstd"), rm(in.mean, "running mean"), rv(in.var, "running var");
  batch_norm(y, mean, rstd, rm, rv, bad_d, x, w, b, 4, 9, nullptr);
  batch_norm(y, mean, rstd, rm, rv, good_d, x, w, b, 1, 9, nullptr);
  batch_norm(y, mean, rstd, nullptr, nullptr, good_d, x, w, b, 4, 9, nullptr);
  EXPECT_EQ(rm.values(), in.mean);
  EXPECT_EQ(rv.values(), in.var);
  batch_norm(y, mean, rstd, rm, rv, good_d, x, w, b, 4, 9, nullptr);
  EXPECT_NE(rm.values(), in.mean);
}

// Layers of one launch: both ways round, and of different sizes.
void check_spectral(const Vector<std::pair<int, int>>& shapes) {
  Random random(81);
  const auto count = static_cast<int>(shapes.size());
  Vector<Floats> weights, upstream, starts, gains;
  for (const auto& [out, in] : shapes) {
    weights.push_back(random.normal(out * in)), upstream.push_back(random.normal(out * in));
    starts.push_back(random.normal(out * in)), gains.push_back(random.normal(1, 0.1f, 1.5f));
  }
  const auto results = in_every_order(false, [&] {
    Vector<std::unique_ptr<Device<float>>> keep;
    const auto device = [&](const Floats& values) {
      return static_cast<float*>(*keep.emplace_back(std::make_unique<Device<float>>(values, "spectral")));
    };
    const auto space = [&](int n) {
      return static_cast<float*>(*keep.emplace_back(std::make_unique<Device<float>>(size(n), "spectral")));
    };
    Vector<SpectralLayer> layers;
    Vector<SpectralGradient> gradients;
    Vector<std::size_t> results_at;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const auto [out, in] = shapes[i];
      results_at.push_back(keep.size());
      layers.push_back({nullptr, nullptr, space(out * in), space(1), space(out), space(in), out, in});
      gradients.push_back({device(starts[i]), device({0.25f}), device(upstream[i])});
      layers.back().weight = device(weights[i]), layers.back().gamma = device(gains[i]);
    }
    spectral_reparam(layers.data(), count, nullptr);
    spectral_reparam_backward(gradients.data(), layers.data(), count, nullptr);
    Vector<Floats> all;
    for (const std::size_t at : results_at) {
      for (std::size_t k = 0; k < 6; ++k) all.push_back(keep[at + k]->values());
    }
    return all;
  });
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const auto [out, in] = shapes[i];
    SCOPED_TRACE(std::to_string(out) + " x " + std::to_string(in));
    const auto of = [&]<class T>(T) {
      using Wide = kernels::Wide<T>;
      const Vector<T> W = as<T>(weights[i]), G = as<T>(upstream[i]);
      const T gamma = T(gains[i][0]);
      Vector<Wide> u(size(out)), v(size(in)), work(size(kernels::spectral_work(out, in)));
      const Wide sigma = kernels::spectral_norm(u.data(), v.data(), W.data(), out, in, work.data());
      Vector<T> scaled, dW = as<T>(starts[i]), dgamma{T(0.25)}, space(size(out));
      for (const T w : W) scaled.push_back(T(gamma / sigma) * w);
      kernels::spectral_reparam_backward(dW.data(), dgamma.data(), G.data(), W.data(), gamma, sigma, u.data(), v.data(),
                                         out, in, space.data());
      return Vector<Vector<T>>{scaled, {T(sigma)}, Vector<T>(u.begin(), u.end()), Vector<T>(v.begin(), v.end()),
                               dW,     dgamma};
    };
    const auto truth = of(0.0);
    const auto noisy = of(0.0f);
    const char* const names[] = {"scaled", "sigma", "u", "v", "dW", "dgamma"};
    for (std::size_t k = 0; k < 6; ++k) expect_close(names[k], results[6 * i + k], noisy[k], truth[k]);
  }
}

TEST(GpuRelatives, SpectralReparam) {
  check_spectral({{1, 9}});
  check_spectral({{16, 48}, {16, 48}, {5, 33}, {48, 16}});
  check_spectral({{20, 33}, {33, 20}});
  check_spectral({{64, 70}});
  EXPECT_THROW(check_spectral({{65, 70}}), GpuError);
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

Hyper hyper_of(Rule rule) {
  Hyper h;
  h.lr = 0.01f, h.rho = 0.7f, h.momentum = 0.9f, h.beta1 = 0.9f, h.beta2 = 0.999f, h.epsilon = 1e-8f,
  h.weight_decay = 0.1f;
  h.ema_decay = 0.3f, h.log_beta1 = std::log(0.9), h.log_beta2 = std::log(0.999);
  if (rule == Rule::adam_keras || rule == Rule::adamw_keras) h.epsilon = 1e-7f;
  return h;
}

// The device's side of three steps; NaN planted in a gradient where `bad_step` and `bad_pass` say so.
struct Result {
  Floats weights, m, v, average;
  Progress progress;
};
Result three_steps(const Slab& slab, Rule rule, bool adaptive, bool sam, int bad_step = 0, int bad_pass = 0,
                   int bad_element = 0) {
  const auto n = static_cast<std::size_t>(slab.count);
  const Hyper hyper = hyper_of(rule);
  Device<float> weights(slab.weights, "weights"), saved(n, "saved"), m(Floats(n), "m"), v(Floats(n), "v"),
      average(slab.weights, "average"), parts(static_cast<std::size_t>(norm_blocks(slab.count)) * 2, "norm parts");
  Device<Hyper> hyper_d(Vector<Hyper>{hyper}, "hyper");
  Device<Progress> progress(Vector<Progress>(1), "progress");
  // RevIN begins a step: it counts, and sets the corrections.
  const Device<float> series(Floats{1, 2, 3, 4}, "series");
  const Device<std::int32_t> starts(Vector<std::int32_t>{0, 0, 0}, "starts");
  Device<float> xhat(4, "xhat"), stats(16, "stats");
  for (int step = 1; step <= 3; ++step) {
    Floats gradient1 = slab.gradient1, gradient2 = slab.gradient2;
    for (float& g : gradient1) g *= static_cast<float>(step);
    if (step == bad_step)
      (bad_pass == 1 ? gradient1 : gradient2)[static_cast<std::size_t>(bad_element)] =
          std::numeric_limits<float>::quiet_NaN();
    const Device<float> g1(gradient1, "gradient"), g2(gradient2, "gradient");
    revin_normalise(xhat, stats, progress, hyper_d, series, starts, 1, 1, 1, 4, 4, Level::mean, true, nullptr);
    if (sam) {
      gradient_norm(parts, progress, g1, weights, slab.count, adaptive, nullptr);
      perturb(weights, saved, progress, hyper_d, parts, g1, slab.count, adaptive, nullptr);
    }
    gradient_norm(parts, progress, g2, weights, slab.count, false, nullptr);
    update(weights, m, v, average, progress, hyper_d, parts, saved.when(sam), g2, slab.count, rule, sam ? 2 : 1,
           nullptr);
  }
  return {weights.values(), m.values(), v.values(), average.values(), progress.values()[0]};
}

template <class T>
std::tuple<Vector<T>, Vector<T>, Vector<T>> steps_on_host(const Slab& slab, Rule rule, int steps) {
  const Hyper hyper = hyper_of(rule);
  Vector<T> w = as<T>(slab.weights), m(w.size()), v(w.size()), average = w;
  const T b1 = T(hyper.beta1), b2 = T(hyper.beta2), lr = T(hyper.lr), wd = T(hyper.weight_decay),
          eps = T(hyper.epsilon);
  for (int t = 1; t <= steps; ++t) {
    const T keep = std::min(T(hyper.ema_decay), T(t) / T(9 + t));
    const T c1 = T(1 - std::pow(0.9, t)), c2 = T(1 - std::pow(0.999, t));
    for (std::size_t i = 0; i < w.size(); ++i) {
      T g = slab.gradient2[i];
      if (rule == Rule::adamw || rule == Rule::adamw_keras)
        w[i] *= 1 - lr * wd;
      else
        g += wd * w[i];
      if (rule == Rule::sgd) {
        m[i] = T(hyper.momentum) * m[i] + g;
        w[i] -= lr * m[i];
      } else {
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        if (rule == Rule::adam_keras || rule == Rule::adamw_keras)
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
  for (const Rule rule : {Rule::sgd, Rule::adam, Rule::adam_keras, Rule::adamw, Rule::adamw_keras}) {
    const auto [w, average, m] = steps_on_host<double>(slab, rule, 3);
    const auto [w32, average32, m32] = steps_on_host<float>(slab, rule, 3);
    const Result got = three_steps(slab, rule, false, true);
    expect_close("weights", got.weights, w32, w);
    expect_close("average", got.average, average32, average);
    expect_close("m", got.m, m32, m);
    EXPECT_EQ(got.progress.step, 3);
    EXPECT_EQ(got.progress.batch, 3);
    EXPECT_EQ(got.progress.bad_pass, 0);
    // Restored from the copy, so the ascent leaves no trace; and without SAM the same steps.
    EXPECT_EQ(got.weights, three_steps(slab, rule, true, true).weights);
    EXPECT_EQ(got.weights, three_steps(slab, rule, false, false).weights);
  }
}

TEST(GpuSam, Ascent) {
  for (const int count : {1, 7, 2048, 4099}) {
    const Slab slab(count);
    for (const bool adaptive : {false, true}) {
      const auto n = static_cast<std::size_t>(count);
      Device<float> weights(slab.weights, "weights"), saved(n, "saved"),
          parts(static_cast<std::size_t>(norm_blocks(count)) * 2, "parts");
      const Device<float> gradient(slab.gradient1, "gradient");
      Device<Hyper> hyper(Vector<Hyper>{hyper_of(Rule::adam)}, "hyper");
      Device<Progress> progress(Vector<Progress>(1), "progress");
      gradient_norm(parts, progress, gradient, weights, count, adaptive, nullptr);
      perturb(weights, saved, progress, hyper, parts, gradient, count, adaptive, nullptr);
      const auto of = [&]<class T>(T) {
        T norm = 0;
        for (std::size_t i = 0; i < n; ++i)
          norm += std::pow(T(slab.gradient1[i]) * (adaptive ? T(slab.weights[i]) : 1), T(2));
        norm = std::sqrt(norm);
        Vector<T> step;
        for (std::size_t i = 0; i < n; ++i) {
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
        const Result got = three_steps(slab, Rule::adam, false, true, step, pass, element);
        EXPECT_EQ(got.progress.bad_step, step);
        EXPECT_EQ(got.progress.bad_pass, pass);
        EXPECT_EQ(got.progress.bad_element, element);
        const auto [w, average, m] = steps_on_host<float>(slab, Rule::adam, step - 1);
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
}  // namespace samformer::kernels::gpu
