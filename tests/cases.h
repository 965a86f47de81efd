// One table of operations, each with shapes and inputs, that drives
//   tests/ops/cases_test.cpp       the adjoint identity in double, float against double, guard zones, costs
//   tests/gpu/gpu_cases_test.cpp   a device against double: the emulator in every order of warps, or a GPU
//   tests/ops/cases_bench.cpp      how fast each is
// An operation is tested by adding its row here. Inputs are normals with a printed seed; results are compared through
// their values and the gradients of <u, result> for a fixed random u (never of a plain sum: softmax rows sum to 1).
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/dual.h"
#include "core/ops/frequency_ops.h"
#include "core/ops/ops.h"
#include "core/ops/token_ops.h"
#include "tests/numeric.h"

namespace samformer::cases {

constexpr std::uint64_t seed = 20;

struct Input {
  Shape shape;
  bool differentiated = true;
  double mean = 0, scale = 1;
};
constexpr bool constant = false;

// What a row's function builds with: the inputs as values of its tape, and memory where that computes.
template <class T, class On>
struct Build {
  Tape<T, On>& tape;
  std::vector<Var<T, On>> in;
  std::function<const std::int32_t*(std::vector<std::int32_t>)> place;
  std::function<const T*(std::vector<T>)> place_numbers;

  Var<T, On> none() const { return {}; }
  Var<T, On> constant(const std::vector<double>& values) const {
    const T* const placed = place_numbers(std::vector<T>(values.begin(), values.end()));
    return tape.constant(Tensor<T>(const_cast<T*>(placed), Shape{static_cast<std::int64_t>(values.size())}));
  }
  Projected<T, On> projected(Var<T, On> z) const { return z; }
  ProjectionInput<T, On> projection() const { return {}; }
  Layer<T, On> layer(Var<T, On> weight, Var<T, On> bias, std::int64_t column) const { return {weight, bias, column}; }
  Scaled<T, On> scaled(std::size_t weight, std::size_t gamma) const { return {in[weight], in[gamma]}; }
  Running<T> running(std::size_t mean, std::size_t var, bool training) const {
    return {in[mean].value(), in[var].value(), training, training};
  }
  // N windows of input i [D, rows], a series, each a step and a half behind the one before.
  kernels::Windows<T> windows(std::size_t i, std::int64_t N, std::int64_t offset = 0) const {
    const Tensor<T> x = in[i].value();
    std::vector<std::int32_t> starts;
    for (std::int64_t n = 0; n < N; ++n) starts.push_back(static_cast<std::int32_t>(3 * n / 2));
    return {x.data + offset, x.shape[1], place(starts), N, x.shape[0]};
  }
  // The loss of z for the windows of input i, the truth behind them; the first `targets` channels count.
  Var<T, On> loss(const Projected<T, On>& z, const AffineVars<T, On>& affine, const Normalised<T, On>& x, std::size_t i,
                  std::int64_t L, kernels::StatsMix mix, std::int64_t targets) const {
    const std::int64_t D = x.D();
    std::vector<std::int32_t> channels;
    std::vector<T> weight(static_cast<std::size_t>(D));
    for (std::int64_t d = 0; d < targets; ++d) {
      channels.push_back(static_cast<std::int32_t>(d));
      weight[static_cast<std::size_t>(d)] = static_cast<T>(static_cast<double>(D) / static_cast<double>(targets));
    }
    kernels::Windows<T> y = windows(i, x.N(), L);
    y.D = D;
    const Truth<T> truth{y, place(channels), targets, targets == D ? nullptr : place_numbers(weight)};
    return forecast_loss(z, affine, x, truth, mix);
  }
};

struct Case {
  std::string name;
  std::vector<Input> inputs;
  std::int64_t loss_rows = 0;  // the result is forecast_loss's, of so many rows: on a device parts of it
  double tolerance = 2e-5;     // of float, relative to the largest of a tensor
  std::function<Var<float, Cpu>(const Build<float, Cpu>&)> on_float;
  std::function<Var<double, Cpu>(const Build<double, Cpu>&)> on_double;
  std::function<Var<Dual<double>, Cpu>(const Build<Dual<double>, Cpu>&)> on_dual;
  std::function<Var<float, Cuda>(const Build<float, Cuda>&)> on_device;

  const auto& of(float, Cpu) const { return on_float; }
  const auto& of(double, Cpu) const { return on_double; }
  const auto& of(Dual<double>, Cpu) const { return on_dual; }
  const auto& of(float, const Cuda&) const { return on_device; }
};
inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name << ", seed " << seed; }

template <class F>
Case row(std::string name, std::vector<Input> inputs, const F& f) {
  Case c{std::move(name), std::move(inputs), 0, 2e-5, f, f, f, {}};
#ifdef SAMFORMER_CASES_ON_A_DEVICE  // a program that links one
  c.on_device = f;
#endif
  return c;
}
template <class F>
Case loss_row(std::string name, std::int64_t rows, std::vector<Input> inputs, const F& f) {
  Case c = row(std::move(name), std::move(inputs), f);
  c.loss_rows = rows;
  return c;
}

// ---- Running a row -------------------------------------------------------------------------------------------------

// Arrays where a tape computes.
template <class On>
class Memory;
template <>
class Memory<Cpu> {
 public:
  explicit Memory(Cpu = {}) {}
  template <class T>
  T* place(const std::vector<T>& values) {
    bytes_.push_back(std::vector<std::byte>(values.size() * sizeof(T)));
    std::copy(values.begin(), values.end(), reinterpret_cast<T*>(bytes_.back().data()));
    return reinterpret_cast<T*>(bytes_.back().data());
  }
  template <class T>
  std::vector<T> fetch(const T* from, std::int64_t n) const {
    return {from, from + n};
  }

 private:
  std::vector<std::vector<std::byte>> bytes_;
};
template <>
class Memory<Cuda> {
 public:
  explicit Memory(Cuda on) : on_(on) {}
  template <class T>
  T* place(const std::vector<T>& values) {
    arrays_.emplace_back(static_cast<std::int64_t>(values.size() * sizeof(T)), "input of a case");
    arrays_.back().upload(std::as_bytes(std::span(values)), on_.stream);
    kernels::synchronise(on_.stream);
    return reinterpret_cast<T*>(arrays_.back().data());
  }
  template <class T>
  std::vector<T> fetch(const T* from, std::int64_t n) const {
    std::vector<T> values(static_cast<std::size_t>(n));
    kernels::download(values.data(), from, values.size() * sizeof(T), on_.stream);
    kernels::synchronise(on_.stream);
    return values;
  }

 private:
  Cuda on_;
  std::vector<DeviceArray<std::byte>> arrays_;
};

inline std::vector<double> numbers(const Input& input, std::size_t index) {
  return numeric::normals(input.shape.count(), seed, static_cast<std::uint32_t>(index), input.mean, input.scale);
}
inline std::vector<double> direction(std::int64_t n, std::uint32_t which) {
  return numeric::normals(n, seed, 100 + which);
}

template <class T>
struct Outcome {
  std::vector<T> value;
  std::vector<std::vector<T>> gradients;  // of <u, value>, or of the loss, by input; empty where it is a constant
  bool guards_intact = true;
};

// The row on a tape, and its gradients unless `forward_only`. `values` of the inputs: by default numbers().
template <class T, class On = Cpu>
Outcome<T> run(const Case& c, On on = {}, const std::vector<std::vector<T>>& values = {}, bool forward_only = false,
               Profile* profile = nullptr) {
  constexpr std::int64_t zone = 64;
  Memory<On> memory(on);
  Arena<On> arena;
  Tape<T, On> tape(arena, on);
  tape.timer().profile = profile;
  std::vector<Var<T, On>> in;
  std::vector<T*> gradients;
  const T guard = static_cast<T>(-12345.5);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const std::int64_t n = c.inputs[i].shape.count();
    const std::vector<double> own = numbers(c.inputs[i], i);
    const Tensor<T> value(memory.place(values.empty() ? std::vector<T>(own.begin(), own.end()) : values[i]),
                          c.inputs[i].shape);
    gradients.push_back(memory.place(std::vector<T>(static_cast<std::size_t>(n + 2 * zone), guard)));
    in.push_back(c.inputs[i].differentiated && !forward_only
                     ? tape.leaf(value, Tensor<T>(gradients.back() + zone, c.inputs[i].shape))
                     : tape.constant(value));
  }
  const Build<T, On> build{tape, in, [&](std::vector<std::int32_t> x) { return memory.place(x); },
                           [&](std::vector<T> x) { return memory.place(x); }};
  const Var<T, On> y = c.of(T{}, on)(build);
  Outcome<T> out;
  if (!forward_only) {
    if (c.loss_rows > 0) {
      tape.backward(y);
    } else {
      const std::vector<double> u = direction(y.value().count(), 0);
      tape.backward(y, Tensor<T>(memory.place(std::vector<T>(u.begin(), u.end())), y.value().shape));
    }
  }
  if (c.loss_rows > 0 && std::is_same_v<On, Cuda>) {
    T total{};
    const auto parts = memory.fetch(y.value().data, kernels::loss_size(on, c.loss_rows));
    for (std::size_t i = 0; i < parts.size(); i += 2) total += parts[i];
    out.value = {total};
  } else {
    out.value = memory.fetch(y.value().data, y.value().count());
  }
  for (std::size_t i = 0; i < in.size(); ++i) {
    out.gradients.emplace_back();
    if (!in[i].needs_gradient()) continue;
    const std::int64_t n = c.inputs[i].shape.count();
    const std::vector<T> all = memory.fetch(gradients[i], n + 2 * zone);
    out.gradients.back().assign(all.begin() + zone, all.end() - zone);
    if constexpr (std::is_floating_point_v<T>) {
      for (std::int64_t k = 0; k < zone; ++k) {
        out.guards_intact &=
            all[static_cast<std::size_t>(k)] == guard && all[all.size() - 1 - static_cast<std::size_t>(k)] == guard;
      }
    }
  }
  if constexpr (std::is_same_v<On, Cuda>) {
    if (profile) tape.timer().collect();
  }
  return out;
}

// The worst relative error of values and gradients; NaN and wrong sizes are infinite.
template <class T>
double worst_error(const Outcome<T>& got, const Outcome<double>& want) {
  // A gradient that is zero but for rounding is compared with the largest of the others.
  double floor = 0;
  for (const auto& g : want.gradients) floor = std::max(floor, 1e-3 * numeric::largest(g));
  double worst = numeric::error(got.value, want.value);
  if (got.gradients.size() != want.gradients.size()) return INFINITY;
  for (std::size_t i = 0; i < want.gradients.size(); ++i) {
    worst = std::max(worst, numeric::error(got.gradients[i], want.gradients[i], floor));
  }
  return worst;
}

// ---- The table -----------------------------------------------------------------------------------------------------

// SAMformer's projection, attention and head over windows [N, D, L + H]; `values`: in two pieces, W_V folded.
inline Case samformer_row(std::string name, std::int64_t N, std::int64_t D, std::int64_t L, std::int64_t H,
                          std::int64_t d_m, bool two_pieces, kernels::StatsMix mix, std::int64_t targets) {
  const std::int64_t d_v = two_pieces ? L : d_m, all = d_v + 2 * d_m + H;
  std::vector<Input> inputs = {{Shape{D, L + H + 2 * N}, constant},
                               {Shape{all, L}, true, 0, 0.3},
                               {Shape{1, all}, true, 0, 0.3},
                               {Shape{L, d_m}, !two_pieces, 0, 0.3},
                               {Shape{1, L}, !two_pieces, 0, 0.3},
                               {Shape{D}, true, 1, 0.2},
                               {Shape{D}, true, 0, 0.2}};
  return loss_row(std::move(name), N * D, std::move(inputs), [=](const auto& b) {
    const auto x = revin(b.tape, b.windows(0, N), L, kernels::Center::mean, mix.any());
    const auto affine = affine_vars(b.in[5], b.in[6], 0, N);
    const auto head = rows(b.in[1], d_v + 2 * d_m, H);
    const std::int64_t first = two_pieces ? d_v : 0, at = d_v - first;
    auto w = b.projection();
    if (two_pieces) w.values = compose(head, rows(b.in[1], 0, L), columns(b.in[2], 0, d_v), true);
    if (!two_pieces) w.head_bias = compose(head, b.in[3], b.in[4], false);
    w.weight = rows(b.in[1], first, all - first), w.bias = columns(b.in[2], first, all - first);
    w.head = at + 2 * d_m, w.skip_begin = at + d_m, w.skip_end = at + 2 * d_m;
    const auto p = project(x, w, affine);
    const auto context = channel_attention(p.rest.columns(at, d_m), p.rest.columns(at + d_m, d_m),
                                           two_pieces ? p.values : p.rest.columns(0, d_v), D);
    const auto z = p.rest.columns(at + 2 * d_m, H);
    return b.loss(two_pieces ? add_term(z, context) : add_linear(z, context, w.head_bias.weight), affine, x, 0, L, mix,
                  targets);
  });
}

// Of core/ops/frequency_ops.h.
inline std::vector<Case> frequency_rows() {
  const Input tokens{Shape{3 * 10, 37}}, weight{Shape{5, 37}, true, 0, 0.3};
  std::vector<Case> all = {
      row("decompose steps", {tokens, weight},
          [](const auto& b) {
            const std::vector<std::int64_t> widths{7};
            const auto [seasonal, trend] = decompose_steps(b.in[0], 3, widths);
            return linear(seasonal, b.in[1]) + tanh(linear(trend, b.in[1])) + linear(b.in[0], b.in[1]);
          }),
      row("decompose steps, wider than all", {{Shape{2 * 5, 3}}},
          [](const auto& b) {
            const std::vector<std::int64_t> widths{12};
            return decompose_steps(tanh(b.in[0]), 2, widths).trend;
          }),
      row("mixture of averages", {tokens, {Shape{3}}, {Shape{3}}, weight},
          [](const auto& b) {
            const std::vector<std::int64_t> widths{3, 6, 1};
            const auto [seasonal, trend] = decompose_steps(b.in[0], 3, widths, b.in[1], b.in[2]);
            const auto again = decompose_steps(seasonal, 3, widths, b.in[1], b.in[2]);
            return linear(again.seasonal, b.in[3]) + tanh(linear(trend, b.in[3]));
          }),
      row("mixture of one average", {{Shape{2 * 6, 4}}, {Shape{1}, constant}, {Shape{1}, constant}},
          [](const auto& b) {
            const std::vector<std::int64_t> widths{4};
            return decompose_steps(b.in[0], 2, widths, b.in[1], b.in[2]).seasonal;
          }),
      row("less the mean of steps", {tokens},
          [](const auto& b) {
            const auto less = less_step_mean(b.in[0], 3);
            return tanh(less) + step_mean(b.in[0], 3);
          }),
      row("frequencies and back", {{Shape{4, 9}}},
          [](const auto& b) {
            const auto modes = b.constant({1, 0, 4});
            const auto x = linear(b.in[0], fourier_basis(b.tape, modes, 3, 9));
            return linear(tanh(x), inverse_fourier_basis(b.tape, modes, 3, 12, 0.5)) +
                   linear(x, inverse_fourier_basis(b.tape, b.none(), 3, 12));
          }),
      row("products by mode", {{Shape{3 * 2 * 4, 2 * 5}}, {Shape{2, 4, 9, 5, 2}}},
          [](const auto& b) { return mode_products(b.in[0], b.in[1], 3); }),
      row("products by mode, twice", {{Shape{2 * 3, 2 * 4}, true, 0, 0.5}, {Shape{1, 3, 3, 4, 2}, true, 0, 0.5}},
          [](const auto& b) { return mode_products(mode_products(b.in[0], b.in[1], 2), b.in[1], 2) + b.in[0]; }),
      row("attention of modes", {{Shape{3 * 2 * 4, 2 * 5}, true, 0, 0.3}, {Shape{3 * 2 * 4, 2 * 7}, true, 0, 0.3}},
          [](const auto& b) { return mode_attention(b.in[0], b.in[1], 3, 2); }),
      row("attention of modes over themselves", {{Shape{2 * 3, 2 * 4}, true, 0, 0.4}},
          [](const auto& b) { return mode_attention(b.in[0], b.in[0] + b.in[0], 2, 1) + b.in[0]; }),
  };
  for (const bool shared : {true, false}) {
    for (const std::int64_t keys : {10, 6, 14}) {  // as many as queries; continued by zeros; cut
      all.push_back(row(fmt::format("auto-correlation{} of {} keys", shared ? ", delays of all," : "", keys),
                        {{Shape{3 * 10, 19}}, {Shape{3 * keys, 19}}, {Shape{3 * keys, 19}}},
                        [=](const auto& b) { return auto_correlation(b.in[0], b.in[1], b.in[2], 3, 4, shared); }));
    }
    all.push_back(row(fmt::format("auto-correlation of itself{}", shared ? ", delays of all" : ""),
                      {{Shape{2 * 11, 3 * 5}}, {Shape{2 * 11, 5}}}, [=](const auto& b) {
                        const auto part = [&](std::int64_t i) { return columns(b.in[0], 5 * i, 5); };
                        return auto_correlation(part(1), part(2), part(0), 2, 11, shared) +
                               auto_correlation(b.in[1], b.in[1] + b.in[1], b.in[1], 2, 1, shared);
                      }));
  }
  return all;
}

template <class Build>
auto masked(const Build& b, std::int64_t N, std::int64_t heads, const kernels::HeadsMask& mask) {
  return masked_attention(b.projected(b.in[0]), b.projected(b.in[1]), b.projected(b.in[2]), N, heads, mask);
}

inline ProbSparse sampled(std::int64_t factor, bool masked, bool heads_first) {
  ProbSparse how{factor, masked, heads_first};
  how.sampling.seed = 7, how.sampling.step = 3, how.sampling.site = 1;
  return how;
}

inline std::vector<Case> table() {
  const Input x{Shape{12, 20}}, w{Shape{9, 20}, true, 0, 0.5}, bias{Shape{9}};
  std::vector<Case> all = {
      row("linear", {x, w}, [](const auto& b) { return linear(b.in[0], b.in[1]); }),
      row("linear of a constant", {{Shape{12, 20}, constant}, w},
          [](const auto& b) { return linear(b.in[0], b.in[1]); }),
      row("linear with a bias", {x, w, bias}, [](const auto& b) { return linear(b.in[0], b.in[1], b.in[2]); }),
      row("add", {x, x}, [](const auto& b) { return b.in[0] + b.in[1]; }),
      row("tanh", {x}, [](const auto& b) { return tanh(b.in[0]); }),
      // Twice, as input and as residual, and three times.
      row("used twice", {x}, [](const auto& b) { return tanh(b.in[0]) + gelu(b.in[0]); }),
      row("residual and input", {x, {Shape{20, 20}, true, 0, 0.3}, {Shape{20}}},
          [](const auto& b) { return bias_activation(linear(b.in[0], b.in[1]), b.in[2], Activation::gelu, b.in[0]); }),
      row("residual and input, no activation", {x, {Shape{20, 20}, true, 0, 0.3}, {Shape{20}}},
          [](const auto& b) {
            const auto h = bias_activation(linear(b.in[0], b.in[1]), b.in[2], Activation::none, b.in[0]);
            return bias_activation(linear(h, b.in[1]), b.in[2], Activation::none, h);
          }),
      row("used three times", {x, {Shape{20, 20}, true, 0, 0.3}, {Shape{20}}},
          [](const auto& b) {
            const auto h = b.in[0] + b.in[0];
            return bias_activation(linear(h, b.in[1]), b.in[2], Activation::tanh, h) + h;
          }),
      row("transpose", {x}, [](const auto& b) { return transpose(b.in[0], 3); }),
      row("transpose and add", {{Shape{3 * 4, 20}}, {Shape{3 * 20, 4}}},
          [](const auto& b) { return transpose(b.in[0], 3, b.in[1]); }),
      row("transpose of what is added", {{Shape{6, 3}}},
          [](const auto& b) { return transpose(b.in[0], 2, tanh(b.in[0])); }),
      row("decompose", {x, w},
          [](const auto& b) {
            const auto [seasonal, trend] = decompose(b.in[0], 7);
            return linear(seasonal, b.in[1]) + tanh(linear(trend, b.in[1]));
          }),
      row("decompose, wider than the rows", {{Shape{3, 5}}, {Shape{4, 5}}, {Shape{4, 5}}},
          [](const auto& b) {
            const auto [seasonal, trend] = decompose(b.in[0], 12);
            return linear(trend, b.in[1]) + linear(seasonal, b.in[2]) + linear(b.in[0], b.in[1]);
          }),
      row("decompose by an even width", {x, w},
          [](const auto& b) { return linear(decompose(b.in[0], 4).trend, b.in[1]); }),
      row("multi-head attention", {{Shape{3 * 11, 24}}},
          [](const auto& b) {
            const auto part = [&](std::int64_t i) { return b.projected(columns(b.in[0], 8 * i, 8)); };
            return multi_head_attention(part(1), part(2), part(0), 3, 2).context;
          }),
      row("multi-head attention of layers", {x, {Shape{24, 20}, true, 0, 0.5}, {Shape{1, 24}}},
          [](const auto& b) {
            const auto layer = [&](std::int64_t i) {
              return b.layer(rows(b.in[1], 8 * i, 8), columns(b.in[2], 8 * i, 8), 8 * i);
            };
            const auto p = layers(b.in[0], {layer(0), layer(1), layer(2)});
            return multi_head_attention(p.columns(8, 8), p.columns(16, 8), p.columns(0, 8), 3, 4).context;
          }),
      row("multi-head attention of queries over other keys",
          {{Shape{2 * 5, 6}}, {Shape{2 * 67, 6}}, {Shape{2 * 67, 6}}},
          [](const auto& b) {
            return multi_head_attention(b.projected(b.in[0]), b.projected(b.in[1]), b.projected(b.in[2]), 2, 2).context;
          }),
      row("multi-head attention, one head of 70", {{Shape{66, 70}}, {Shape{66, 70}}, {Shape{66, 70}}},
          [](const auto& b) {
            return multi_head_attention(b.projected(b.in[0]), b.projected(b.in[1]), b.projected(b.in[2]), 1, 1).context;
          }),
      row("multi-head attention of one key", {{Shape{4, 6}}, {Shape{4, 6}}, {Shape{4, 6}}},
          [](const auto& b) {
            return tanh(multi_head_attention(b.projected(b.in[0] + b.in[2]), b.projected(b.in[1] + b.in[2]),
                                             b.projected(b.in[2]), 4, 3)
                            .context) +
                   b.in[0] + b.in[1];
          }),
      row("multi-head attention, scores passed on twice", {{Shape{2 * 7, 12}}, {Shape{2 * 7, 12}}, {Shape{2 * 7, 12}}},
          [](const auto& b) {
            const auto q = b.projected(b.in[0]), k = b.projected(b.in[1]), v = b.projected(b.in[2]);
            const auto first = multi_head_attention(q, k, v, 2, 3, {}, b.none(), true);
            const auto second = multi_head_attention(k, q, v, 2, 3, {}, first.scores, true);
            const auto third = multi_head_attention(v, k, b.projected(first.context), 2, 3, {}, second.scores);
            return third.context + second.context;
          }),
      row("patches", {{Shape{3, 17}}, {Shape{4, 5}}},
          [](const auto& b) { return linear(patches(b.in[0], 5, 3), b.in[1]); }),
      row("patches that leave steps out", {{Shape{3, 17}}, {Shape{4, 10}}, {Shape{4, 17}}},
          [](const auto& b) {
            return linear(reshape(patches(b.in[0], 2, 5), Shape{3, 10}), b.in[1]) + linear(b.in[0], b.in[2]);
          }),
      row("a patch of the whole row", {{Shape{3, 6}}, {Shape{4, 6}}},
          [](const auto& b) { return linear(patches(b.in[0], 6, 9), b.in[1]); }),
      row("join rows, first rows, reshape", {{Shape{3 * 2, 4}}, {Shape{3 * 5, 4}}, {Shape{6, 8}}},
          [](const auto& b) {
            const auto joined = join_rows(tanh(b.in[0]), b.in[1], 3);
            const auto first = first_rows(joined, 3, 4);
            return linear(reshape(first + first, Shape{6, 8}), b.in[2]) + linear(reshape(first, Shape{6, 8}), b.in[2]);
          }),
      row("reshape of a sum that is used twice", {{Shape{6, 8}}, {Shape{6, 8}}, {Shape{5, 16}}},
          [](const auto& b) {
            const auto sum = b.in[0] + b.in[1];
            const auto wide = linear(reshape(sum, Shape{3, 16}), b.in[2]);
            return linear(linear(reshape(sum + b.in[0], Shape{3, 16}), b.in[2]), wide);
          }),
      row("masked attention, causal", {{Shape{2 * 53, 6}}, {Shape{2 * 53, 6}}, {Shape{2 * 53, 6}}},
          [](const auto& b) { return masked(b, 2, 2, {.kind = kernels::HeadsMask::Kind::causal}); }),
      row("masked attention of narrow heads, causal", {{Shape{2 * 70, 8}}, {Shape{2 * 70, 8}}, {Shape{2 * 70, 8}}},
          [](const auto& b) { return masked(b, 2, 2, {.kind = kernels::HeadsMask::Kind::causal}); }),
      row("attention of narrow heads whose scores go on", {{Shape{70, 16}}, {Shape{70, 16}}, {Shape{70, 16}}},
          [](const auto& b) {
            const auto q = b.projected(b.in[0]), k = b.projected(b.in[1]), v = b.projected(b.in[2]);
            const auto first = multi_head_attention(q, k, v, 1, 2, {}, b.none(), true);
            return multi_head_attention(v, q, b.projected(first.context), 1, 2, {}, first.scores).context;
          }),
      row("masked attention, logarithmically sparse", {{Shape{2 * 60, 6}}, {Shape{2 * 60, 6}}, {Shape{2 * 60, 6}}},
          [](const auto& b) {
            return masked(b, 2, 3, {.kind = kernels::HeadsMask::Kind::log_sparse, .cells = 60, .sub = 12});
          }),
      row("masked attention of a pyramid", {{Shape{2 * 22, 6}}, {Shape{2 * 22, 6}}, {Shape{2 * 22, 6}}},
          [](const auto& b) {
            return masked(b, 2, 1,
                          {.kind = kernels::HeadsMask::Kind::pyramid,
                           .radius = 1,
                           .levels = 3,
                           .first = {0, 15, 20, 22},
                           .window = {3, 2}});
          }),
      row("masked attention of picked queries", {{Shape{2 * 3, 6}}, {Shape{2 * 40, 6}}, {Shape{2 * 40, 6}}},
          [](const auto& b) {
            return masked_attention(b.projected(b.in[0]), b.projected(b.in[1]), b.projected(b.in[2]), 2, 2,
                                    {.kind = kernels::HeadsMask::Kind::causal}, {},
                                    b.place({1, 5, 39, 2, 3, 4, 7, 20, 38, 11, 12, 30}));
          }),
      row("circular convolution", {{Shape{2 * 9, 4}}, {Shape{5, 4, 3}, true, 0, 0.5}},
          [](const auto& b) { return convolution(b.in[0], 2, b.in[1], {.rows = 9, .first = -1, .circular = true}); }),
      row("circular convolution that pads two, of two rows", {{Shape{3 * 2, 4}}, {Shape{5, 4, 3}, true, 0, 0.5}},
          [](const auto& b) { return convolution(b.in[0], 3, b.in[1], {.rows = 4, .first = -2, .circular = true}); }),
      row("causal convolution", {{Shape{2 * 9, 4}}, {Shape{5, 4, 3}, true, 0, 0.5}},
          [](const auto& b) { return convolution(b.in[0], 2, b.in[1], {.rows = 9, .first = -2}); }),
      row("strided convolution", {{Shape{2 * 11, 4}}, {Shape{5, 4, 3}, true, 0, 0.5}},
          [](const auto& b) { return convolution(b.in[0], 2, b.in[1], {.rows = 3, .stride = 3}); }),
      row("rows of samples, zeros around them", {{Shape{2 * 7, 4}}, {Shape{9, 4}}},
          [](const auto& b) {
            return linear(sample_rows(b.in[0], 2, -3, 12), b.in[1]) +
                   linear(sample_rows(sample_rows(b.in[0], 2, 5, 2), 2, 0, 12), b.in[1]);
          }),
      row("max pool", {{Shape{2 * 9, 4}}}, [](const auto& b) { return max_pool(b.in[0], 2); }),
      row("max pool of an even number of steps, used twice", {{Shape{2 * 6, 4}}},
          [](const auto& b) {
            return max_pool(b.in[0], 2) + linear(max_pool(tanh(b.in[0]), 2), sinusoids(b.tape, 4, 4));
          }),
      row("sparse attention of sampled keys", {{Shape{2 * 30, 6}}, {Shape{2 * 21, 6}}, {Shape{2 * 21, 6}}},
          [](const auto& b) {
            return prob_sparse_attention(b.in[0], b.in[1], b.in[2], 2, 2, sampled(1, false, false));
          }),
      row("sparse attention, heads first", {{Shape{2 * 12, 6}}, {Shape{2 * 21, 6}}, {Shape{2 * 21, 6}}},
          [](const auto& b) {
            return prob_sparse_attention(b.in[0], b.in[1], b.in[2], 2, 3, sampled(2, false, true));
          }),
      row("masked sparse attention, used twice", {{Shape{2 * 30, 6}}, {Shape{2 * 30, 6}}, {Shape{2 * 30, 6}}},
          [](const auto& b) {
            const auto y = prob_sparse_attention(b.in[0], b.in[1], b.in[2], 2, 2, sampled(2, true, true));
            return y + prob_sparse_attention(b.in[1], b.in[0], tanh(b.in[2]), 2, 2, sampled(1, true, false)) + b.in[0];
          }),
      row("layer norm of tokens", {{Shape{13, 8}}, {Shape{8}, true, 1, 0.2}, {Shape{8}}},
          [](const auto& b) { return layer_norm(b.in[0], b.in[1], b.in[2], 1e-5); }),
      row("mse", {x, x}, [](const auto& b) { return mse(b.in[0], b.in[1]); }),
      row("layer norm", {{Shape{4 * 3, 7}}, {Shape{3, 7}, true, 1, 0.2}, {Shape{3, 7}}},
          [](const auto& b) { return layer_norm(b.in[0], b.in[1], b.in[2]); }),
      row("layer norm as a residual's term", {{Shape{4 * 3, 7}}, {Shape{3, 7}, true, 1, 0.2}, {Shape{3, 7}}},
          [](const auto& b) { return layer_norm(b.in[0], b.in[1], b.in[2]) + b.in[0]; }),
      row("layers side by side", {x, {Shape{27, 20}, true, 0, 0.5}, {Shape{1, 27}}},
          [](const auto& b) {
            const auto layer = [&](std::int64_t i) {
              return b.layer(rows(b.in[1], 9 * i, 9), columns(b.in[2], 9 * i, 9), 9 * i);
            };
            const auto p = layers(b.in[0], {layer(0), layer(1), layer(2)});
            return channel_attention(p.columns(9, 9), p.columns(18, 9), p.columns(0, 9), 4);
          }),
      row("spectral reparam",
          {{Shape{5, 11}}, {Shape{1}, true, 1, 0.1}, {Shape{11, 5}}, {Shape{1}, true, 1, 0.1}, {Shape{4, 11}}},
          [](const auto& b) {
            const auto scaled = spectral_reparam({b.scaled(0, 1), b.scaled(2, 3)});
            return linear(linear(b.in[4], scaled[0]), scaled[1]);
          }),
      row("RevIN's scale and shift", {{Shape{4, 3, 17}, constant}, {Shape{3}, true, 1, 0.2}, {Shape{3}}},
          [](const auto& b) { return revin_affine(b.in[0], affine_vars(b.in[1], b.in[2], 0, 4)); }),
      loss_row("linear model", 15,
               {{Shape{3, 28}, constant}, {Shape{6, 12}}, {Shape{1, 6}}, {Shape{3}, true, 1, 0.2}, {Shape{3}}},
               [](const auto& b) {
                 const auto in = revin(b.tape, b.windows(0, 5), 12, kernels::Center::last);
                 const auto affine = affine_vars(b.in[3], b.in[4], 1e-10, 5);
                 auto p = b.projection();
                 p.weight = b.in[1], p.bias = b.in[2];
                 return b.loss(project(in, p, affine).rest, affine, in, 0, 12, 0, 3);
               }),
      loss_row("loss without RevIN", 15, {{Shape{3, 28}, constant}, {Shape{6, 12}}, {Shape{6}}},
               [](const auto& b) {
                 const auto in = revin(b.tape, b.windows(0, 5), 12, kernels::Center::none);
                 return b.loss(layers(in.xhat, {b.layer(b.in[1], b.in[2], 0)}), {}, in, 0, 12, 0, 3);
               }),
      // Behind three channels two rows for all of them and one for each; more steps than a block of the CPU's.
      loss_row("covariates without RevIN", 15, {{Shape{8, 85}, constant}, {Shape{67, 12}}, {Shape{67}}, {Shape{3, 3}}},
               [](const auto& b) {
                 auto x = b.windows(0, 5);
                 x.D = 3, x.known = {3, 2, 1};
                 const auto in = revin(b.tape, x, 12, kernels::Center::none);
                 return b.loss(add_covariates(layers(in.xhat, {b.layer(b.in[1], b.in[2], 0)}), b.in[3], in), {}, in, 0,
                               12, 0, 3);
               }),
      loss_row("covariates beside a projection and a term", 15,
               {{Shape{8, 28}, constant},
                {Shape{6, 12}},
                {Shape{1, 6}},
                {Shape{3}, true, 1, 0.2},
                {Shape{3}},
                {Shape{3, 3}},
                {Shape{15, 6}}},
               [](const auto& b) {
                 auto x = b.windows(0, 5);
                 x.D = 3, x.known = {3, 2, 1};
                 const auto in = revin(b.tape, x, 12, kernels::Center::mean, true);
                 const auto affine = affine_vars(b.in[3], b.in[4], 1e-10, 5);
                 auto p = b.projection();
                 p.weight = b.in[1], p.bias = b.in[2];
                 const auto z = add_term(project(in, p, affine).rest, b.in[6]);
                 return b.loss(add_covariates(z, b.in[5], in), affine, in, 0, 12, {0.5, 3}, 2);
               }),
      samformer_row("samformer", 5, 7, 24, 6, 4, false, {0.5, 3}, 7),
      samformer_row("samformer, unmixed, some targets", 5, 7, 23, 5, 3, false, 0, 2),
      samformer_row("samformer, values of L x L", 4, 3, 12, 6, 4, true, {0.5, 3}, 3),
      samformer_row("samformer, attention by products", 2, 70, 12, 20, 4, true, 0, 70),
      samformer_row("samformer, keys of 70", 2, 5, 75, 4, 70, false, 0, 5),
  };
  for (const Activation act : {Activation::none, Activation::relu, Activation::gelu, Activation::elu}) {
    for (const double rate : {0.0, 0.4}) {
      for (const bool residual : {false, true}) {
        Dropout dropout;
        dropout.rate = rate, dropout.seed = 3, dropout.step = 5, dropout.pass = 1, dropout.site = 2;
        all.push_back(row(
            fmt::format("bias, activation {}, dropout {}{}", static_cast<int>(act), rate, residual ? ", residual" : ""),
            {{Shape{10, 9}}, bias, {Shape{10, 9}}}, [=](const auto& b) {
              return bias_activation(b.in[0], b.in[1], act, residual ? b.in[2] : b.none(), dropout);
            }));
      }
    }
  }
  for (const std::int64_t queries : {9, 66}) {  // one tile and two
    Dropout dropout;
    dropout.rate = 0.3, dropout.seed = 3, dropout.step = 5, dropout.pass = 1, dropout.site = 2;
    all.push_back(row(fmt::format("multi-head attention, dropout, {} queries", queries),
                      {{Shape{queries, 8}}, {Shape{queries, 8}}, {Shape{queries, 8}}}, [=](const auto& b) {
                        return multi_head_attention(b.projected(b.in[0]), b.projected(b.in[1]), b.projected(b.in[2]), 1,
                                                    2, dropout, b.none(), true)
                            .context;
                      }));
  }
  for (const bool training : {true, false}) {
    all.push_back(row(training ? "batch norm" : "batch norm by running averages",
                      {{Shape{5 * 3, 7}},
                       {Shape{3, 7}, true, 1, 0.2},
                       {Shape{3, 7}},
                       {Shape{3, 7}, constant},
                       {Shape{3, 7}, constant, 3, 0.1}},
                      [=](const auto& b) { return batch_norm(b.in[0], b.in[1], b.in[2], b.running(3, 4, training)); }));
    all.push_back(
        row(training ? "batch norm of tokens" : "batch norm of tokens by running averages",
            {{Shape{70, 5}}, {Shape{5}, true, 1, 0.2}, {Shape{5}}, {Shape{5}, constant}, {Shape{5}, constant, 3, 0.1}},
            [=](const auto& b) {
              auto running = b.running(3, 4, training);
              running.rule = kernels::pytorch_norm;
              return batch_norm(b.in[0], b.in[1], b.in[2], running);
            }));
  }
  for (const Case& c : frequency_rows()) all.push_back(c);
  return all;
}

}  // namespace samformer::cases
