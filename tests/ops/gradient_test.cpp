// Every gradient of the engine, from one table of cases: an operation (or a whole model), its inputs and constants.
//
//   adjoint   <u, J v> = <J' u, v> in double: J v from dual numbers forward, J' u from the tape backward; u, v normal.
//             The same check must reject J' u times 1.001, input by input.
//   float     outputs and J' u of Tape<float> against Tape<double> on the same (float) inputs: error over the largest
//             magnitude at most 4 max(noise, 2 ulp), noise being the error measured when the case was written.
//   threads   1, 2, 3 and 8 threads give the same bits.
//   Hessian   whole models: the tangent of the gradient is symmetric and the derivative of the gradient.
#include <gtest/gtest.h>
#include <omp.h>

#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "core/dual.h"
#include "core/ops/ops.h"
#include "model/registry.h"
#include "tests/numeric.h"

namespace samformer {
namespace {

using kernels::Center;
using model::Association;
using model::Samformer;
using model::SamformerShape;
using model::Value;

constexpr std::uint64_t seed = 20240210;
constexpr double planted = 1.001;

// Elements [first, first + count) of an input. dead: the engine gives them no gradient, though the value may depend on
// them (a key bias); then the gradient must be exactly zero.
struct Part {
  std::string name;
  std::size_t input;
  std::int64_t first, count;
  double mean = 0, scale = 1;
  bool dead = false;
};

template <class T>
using Inputs = std::vector<Var<T>>;

// One generic function for the three scalars.
struct Apply {
  template <class F>
  Apply(F f) : single(f), exact(f), dual(f) {}
  Var<float> operator()(Tape<float>& tape, const Inputs<float>& in) const { return single(tape, in); }
  Var<double> operator()(Tape<double>& tape, const Inputs<double>& in) const { return exact(tape, in); }
  Var<Dual<double>> operator()(Tape<Dual<double>>& tape, const Inputs<Dual<double>>& in) const {
    return dual(tape, in);
  }

  std::function<Var<float>(Tape<float>&, const Inputs<float>&)> single;
  std::function<Var<double>(Tape<double>&, const Inputs<double>&)> exact;
  std::function<Var<Dual<double>>(Tape<Dual<double>>&, const Inputs<Dual<double>>&)> dual;
};

struct Case {
  std::string name;
  double noise;  // largest float error measured, outputs and gradients; 0: below 2 ulp
  std::vector<Shape> inputs;
  std::vector<Part> parts;
  Apply apply;
  bool slab = false;  // a whole model: its one input is the slab of parameters, apply gets it and that of the gradients
};

Part whole(const std::vector<Shape>& inputs, std::size_t i, double mean = 0, double scale = 1) {
  return {"input " + std::to_string(i), i, 0, inputs[i].count(), mean, scale, false};
}
// A case whose inputs are standard normals.
Case op(std::string name, std::vector<Shape> inputs, Apply apply) {
  Case out{std::move(name), 0, std::move(inputs), {}, std::move(apply)};
  for (std::size_t i = 0; i < out.inputs.size(); ++i) out.parts.push_back(whole(out.inputs, i));
  return out;
}
Case with_noise(Case c, double noise) {
  c.noise = noise;
  return c;
}
Case with_part(Case c, std::size_t i, double mean, double scale) {
  c.parts[i].mean = mean;
  c.parts[i].scale = scale;
  return c;
}

// Normals as float has them, so that every scalar computes with the same numbers.
std::vector<double> float_normals(std::int64_t n, std::uint32_t sub, double mean = 0, double scale = 1) {
  const std::vector<float> rounded = numeric::normals<float>(n, seed, sub, mean, scale);
  return {rounded.begin(), rounded.end()};
}

// A tensor that the case does not differentiate.
template <class T>
Tensor<T> constant(Tape<T>& tape, Shape shape, std::uint32_t sub, double mean = 0, double scale = 1) {
  const Tensor<T> out = tape.arena().template tensor<T>(shape);
  const std::vector<double> values = float_normals(shape.count(), sub, mean, scale);
  for (std::size_t i = 0; i < values.size(); ++i) out.data[i] = static_cast<T>(values[i]);
  return out;
}
// What an operation may write over.
template <class T>
Var<T> copy(Var<T> x) {
  const Tensor<T> zero = x.tape->arena().template tensor<T>(x.value().shape);
  zero.fill(T{});
  return x + x.tape->constant(zero);
}
// Windows [N][D][length] of constants.
template <class T>
kernels::Windows<T> windows(Tape<T>& tape, std::int64_t N, std::int64_t D, std::int64_t length, std::uint32_t sub) {
  std::int32_t* starts = tape.arena().template allocate<std::int32_t>(N);
  for (std::int64_t n = 0; n < N; ++n) starts[n] = static_cast<std::int32_t>(n * D * length);
  return {constant(tape, Shape{N, D, length}, sub).data, length, starts, N, D};
}
template <class T>
Truth<T> truth(Tape<T>& tape, std::int64_t N, std::int64_t D, std::int64_t H,
               const std::vector<std::int32_t>& targets) {
  std::int32_t* kept = tape.arena().template allocate<std::int32_t>(static_cast<std::int64_t>(targets.size()));
  std::copy(targets.begin(), targets.end(), kept);
  return {windows(tape, N, D, H, 510), kept, static_cast<std::int64_t>(targets.size())};
}
std::vector<std::int32_t> all_channels(std::int64_t D) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(D));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

// ---- The table ----------------------------------------------------------------------------------------------------

Case project_case(std::string name, std::int64_t N, std::int64_t D, std::int64_t L, std::int64_t O,
                  std::int64_t skip_begin, std::int64_t skip_end) {
  Case c = op(std::move(name), {{O, L}, {O}, {D}, {D}}, [=]<class T>(Tape<T>& tape, const Inputs<T>& in) {
    Normalised<T> input;
    input.xhat = tape.constant(constant(tape, Shape{N, D, L}, 500));
    ProjectionInput<T, Cpu> w;
    w.weight = in[0], w.bias = in[1], w.skip_begin = skip_begin, w.skip_end = skip_end;
    return project(input, w, affine_vars(in[2], in[3], 0, N)).rest.z;
  });
  if (skip_end > skip_begin) {
    c.parts[1] = {"bias before", 1, 0, skip_begin};
    c.parts.push_back({"bias skipped", 1, skip_begin, skip_end - skip_begin, 0, 1, true});
    c.parts.push_back({"bias behind", 1, skip_end, O - skip_end});
  }
  return with_part(c, 2, 1, 0.3);
}

Case attention_case(double noise, std::int64_t N, std::int64_t D, std::int64_t d_m, std::int64_t d_v) {
  const std::int64_t R = N * D;
  Case c = op(fmt::format("channel_attention D = {}, d_m = {}, d_v = {}", D, d_m, d_v), {{R, d_m}, {R, d_m}, {R, d_v}},
              [=](auto&, const auto& in) {
                return channel_attention(Projected(in[0]), Projected(in[1]), Projected(in[2]), D);
              });
  if (D == 1) c.parts[0].dead = c.parts[1].dead = true;
  return with_noise(c, noise);
}

Case loss_case(std::int64_t N, std::vector<std::int32_t> targets, kernels::StatsMix mix) {
  const std::int64_t D = 4, H = 7;
  Case c = op(fmt::format("forecast_loss N = {}, {} of {} channels, mix {} at step {}", N, targets.size(), D, mix.share,
                          mix.step),
              {{N * D, H}, {D}, {D}}, [=]<class T>(Tape<T>& tape, const Inputs<T>& in) {
                const std::int64_t R = N * D;
                const Tensor<T> stats = constant(tape, Shape{2 * R}, 501),
                                sigma = constant(tape, Shape{R}, 502, 1.5, 0.2);
                std::copy_n(sigma.data, R, stats.data + R);
                Normalised<T> input;
                input.xhat = tape.constant(constant(tape, Shape{N, D, 1}, 500)), input.stats = stats.data;
                if (mix.any() && N > 1) {
                  auto* const moments = tape.arena().template allocate<kernels::Moment<T, Cpu>>(5 * D);
                  kernels::revin_moments(Cpu{}, moments, stats.data, N, D);
                  input.moments = moments;
                }
                return forecast_loss(Projected(in[0]), affine_vars(in[1], in[2], 1e-2, N), input,
                                     truth(tape, N, D, H, targets), mix);
              });
  return with_part(c, 1, 1, 0.2);
}

// A whole model: what the loss reads, or the loss.
enum class Result { z, loss };
struct ModelRun {
  std::int64_t N;
  SamformerShape shape;
  Association order;
  Result result;
  double lambda = 0;
  Center center = Center::mean;

  std::string name() const {
    return fmt::format("{} {} {}, N = {}, D = {}, lambda = {}", shape.value == Value::full ? "full" : "low-rank",
                       order == Association::folded ? "folded" : "direct", result == Result::loss ? "loss" : "z", N,
                       shape.D, lambda);
  }
};
template <class T>
Var<T> apply_model(const ModelRun& m, Tape<T>& tape, T* weights, T* gradients) {
  const auto [value, D, L, H, d_m] = m.shape;
  const Samformer net(m.shape);
  const Normalised<T> input = revin(tape, windows(tape, m.N, D, L, 520), L, m.center, m.lambda > 0);
  const auto out = net.forward(tape, weights, gradients, input, m.order);
  if (m.result == Result::z) return out.z.z;
  return forecast_loss(out.z, out.affine, input, truth(tape, m.N, D, H, all_channels(D)), m.lambda);
}
Case model_case(const ModelRun& m) {
  const Samformer net(m.shape);
  Case c{m.name(),
         3.1e-6,
         {{net.parameters().slab_size()}},
         {},
         [m](auto& tape, const auto& in) { return apply_model(m, tape, in[0].value().data, in[1].value().data); },
         true};
  for (const model::Parameter& p : net.parameters().all()) {
    const bool scale = p.name == "revin.affine_weight";
    c.parts.push_back({p.name, 0, p.offset, p.shape.count(), scale ? 1.0 : 0.0, scale ? 0.1 : 0.4,
                       p.name == "compute_keys.bias" || (m.shape.D == 1 && p.name.starts_with("compute_keys")) ||
                           (m.shape.D == 1 && p.name.starts_with("compute_queries"))});
  }
  return c;
}

std::vector<ModelRun> model_runs() {
  std::vector<ModelRun> out;
  for (const Value value : {Value::low_rank, Value::full}) {
    for (const Association order : {Association::folded, Association::direct}) {
      for (const std::int64_t D : {1, 3, 21}) {
        out.push_back({4, {value, D, 12, 5, 3}, order, Result::z});
        out.push_back({4, {value, D, 12, 5, 3}, order, Result::loss, 0.5, Center::last});
      }
    }
  }
  return out;
}

// Operations of SAMformer's relatives.
template <class T>
Running<T> running(Tape<T>& tape, std::int64_t M, bool training, bool update = false) {
  const Tensor<T> mean = constant(tape, Shape{M}, 530), var = constant(tape, Shape{M}, 531, 0, 1);
  for (std::int64_t i = 0; i < M; ++i) var.data[i] = static_cast<T>(0.5) + var.data[i] * var.data[i];
  return {mean, var, training, update};
}
std::vector<Case> relative_ops() {
  std::vector<Case> out{
      with_part(op("revin_affine", {{3}, {3}},
                   [](auto& tape, const auto& in) {
                     return revin_affine(tape.constant(constant(tape, Shape{4, 3, 12}, 500)), {in[0], in[1], 0});
                   }),
                0, 1, 0.3),
      op("transpose", {{15, 4}}, [](auto&, const auto& in) { return transpose(in[0], 3); }),
      op("batch_norm, inference", {{12, 5}, {3, 5}, {3, 5}},
         [](auto& tape, const auto& in) { return batch_norm(in[0], in[1], in[2], running(tape, 15, false)); }),
      op("batch_norm of one sample", {{3, 5}, {3, 5}},
         [](auto& tape, const auto& in) {
           return batch_norm(tape.constant(constant(tape, Shape{3, 5}, 500)), in[0], in[1], running(tape, 15, true));
         }),
      with_noise(op("layer_norm", {{12, 70}, {3, 70}, {3, 70}},
                    [](auto&, const auto& in) { return layer_norm(in[0], in[1], in[2]); }),
                 3.7e-7),
      op("dropout", {{12, 5}, {5}, {12, 5}},
         [](auto&, const auto& in) {
           return bias_activation(in[0], in[1], Activation::gelu, in[2], {0.6, 7, 3, 1, 2});
         }),
  };
  out[3].parts[0].dead = true;  // a batch of one normalises to the bias: the weight has no gradient
  for (const std::int64_t N : {2, 4, 40}) {
    out.push_back(with_noise(
        op(fmt::format("batch_norm of {} samples", N), {{N * 3, 70}, {3, 70}, {3, 70}},
           [](auto& tape, const auto& in) { return batch_norm(in[0], in[1], in[2], running(tape, 210, true, true)); }),
        3.7e-7));
  }
  for (const auto& [rows, cols] : {std::pair(4, 30), std::pair(30, 4), std::pair(1, 6), std::pair(16, 512)}) {
    out.push_back(with_part(op(fmt::format("spectral_reparam {} x {}", rows, cols), {{rows, cols}, {1}},
                               [](auto&, const auto& in) {
                                 return spectral_reparam({Scaled{in[0], in[1]}})[0];
                               }),
                            1, 1, 0.2));
  }
  return out;
}

// A relative of SAMformer: its one input is the slab of parameters; the forecast in a training pass.
struct Relative {
  std::string name;
  model::Model net;
  std::int64_t count;  // of trained parameters
};
std::vector<Relative> relatives() {
  using model::Attention, model::Norm, model::TransformerShape, model::TsMixerShape;
  std::vector<Relative> out;
  const std::int64_t D = 3, L = 12, H = 5, d_m = 4;
  const std::int64_t qkv = 3 * (L * d_m + d_m), back = d_m * L + L, head = (L + 1) * H;
  const auto transformer = [&](std::string name, Attention attention, bool revin, std::int64_t count) {
    out.push_back({std::move(name), model::Transformer(TransformerShape{D, L, H, d_m, attention, revin}), count});
  };
  transformer("transformer", Attention::learned, true, qkv + back + head + 2 * D);
  transformer("transformer without RevIN", Attention::learned, false, qkv + back + head);
  transformer("random transformer", Attention::frozen, true, head + 2 * D);
  transformer("random transformer without RevIN", Attention::frozen, false, head);
  transformer("identity attention", Attention::identity, true, qkv / 3 + back + head + 2 * D);
  transformer("sigma-reparam", Attention::sigma_reparam, true, qkv + back + head + 2 * D + 4);
  out.push_back({"temporal", model::Temporal({D, L, H, d_m}), 4 * d_m * D + 3 * d_m + D + head + 2 * D});
  out.push_back({"linear", model::Linear({D, L, H}), head + 2 * D});
  out.push_back({"dlinear", model::DLinear({D, L, H, 5}), 2 * head});
  out.push_back({"dlinear with RevIN", model::DLinear({D, L, H, 25, true}), 2 * head + 2 * D});
  for (const double dropout : {0.0, 0.2}) {
    out.push_back({dropout > 0 ? "itransformer" : "itransformer without dropout",
                   model::ITransformer({D, L, H, 6, 7, 2, 2, dropout}),
                   L * 6 + 6 + 2 * (4 * 36 + 2 * 42 + 7 + 54) + 12 + 6 * H + H});
  }
  for (const double dropout : {0.0, 0.2}) {
    out.push_back({dropout > 0 ? "patchtst" : "patchtst without dropout",
                   model::PatchTst({D, L, H, 6, 7, 2, 2, 4, 3, dropout}),
                   4 * 6 + 6 + 4 * 6 + 2 * (4 * 36 + 2 * 42 + 7 + 54) + 6 * 4 * H + H});
  }
  model::StepSizes z{D, L, H, 2, 7, 6, 7, 2, 2, 1, 0};
  const std::int64_t embeddings = 2 * (3 * D * 6 + 2 * 6), layer = 4 * 36 + 2 * 6 * 7 + 7 + 9 * 6;
  const std::int64_t decoder = layer + 4 * 36 + 6 * 6, norms = 4 * 6, to_channels = 6 * D + D;
  const std::int64_t all = embeddings + 2 * layer + decoder + norms + to_channels, distilling = 3 * 36 + 3 * 6;
  for (const double dropout : {0.0, 0.2}) {
    const std::string suffix = dropout > 0 ? "" : " without dropout";
    z.dropout = dropout, z.revin = dropout > 0;
    const std::int64_t affine = z.revin ? 2 * D : 0;
    out.push_back({"logtrans" + suffix, model::LogTrans({z, 4, 3}), all + 3 * 4 * 36 + affine});
    out.push_back({"informer" + suffix, model::Informer({z, true, 1}), all + distilling + 4 * 6 + affine});
    out.push_back({"informer, ltsf" + suffix, model::Informer({z, false, 2}), all + distilling + affine});
    model::PyraformerShape shape;
    static_cast<model::StepSizes&>(shape) = z;
    shape.key_width = 5, shape.bottleneck = 4, shape.windows = {3, 2};
    out.push_back({"pyraformer" + suffix, model::Pyraformer(shape),
                   (3 * D + 2) * 6 + 2 * 6 + 2 * 24 + 4 + 6 + 16 * 5 + 3 * 8 + 2 * 6 +
                       2 * (4 * 6 * 10 + 2 * 42 + 7 + 6 * 6) + 3 * 6 * H * D + affine});
  }
  out.push_back(
      {"linear, covariates", model::Model(model::Linear({D, L, H})).with_covariates(3), head + 2 * D + 3 * D});
  // The decoder's p + H steps are more than L, fewer, with a second layer.
  const auto steps_of = [&](std::int64_t label, std::int64_t decoder_layers, double dropout) {
    return model::StepSizes{D, L, H, 2, label, 6, 7, 2, 2, decoder_layers, dropout};
  };
  const std::int64_t second = 8 * 36 + 8 * 6 + 2 * 42 + 3 * 6 * D;  // a layer of the decoder
  const std::int64_t autoformer = embeddings + 2 * (4 * 36 + 4 * 6 + 2 * 42) + second + norms + to_channels;
  out.push_back({"autoformer", model::Autoformer({{steps_of(9, 1, 0.2), {5}}, 2}), autoformer});
  out.push_back(
      {"autoformer, two decoder layers", model::Autoformer({{steps_of(4, 2, 0), {4}}, 1}), autoformer + second});
  const model::ModeSets modes{{0, 2, 3}, {1, 4}, {0, 1, 5}, {0, 2}};
  const std::int64_t blocks = 2 * 2 * 9 * (3 + 2 + 3);
  out.push_back(
      {"fedformer", model::Fedformer({{steps_of(9, 1, 0.2), {3, 6}}, modes}), autoformer + blocks + 2 * 2 * 8});
  out.push_back(
      {"fedformer of one average", model::Fedformer({{steps_of(9, 1, 0), {4}}, modes}), autoformer + blocks + 2 * 8});
  const std::int64_t ff = 6, mix = L * L + L + 2 * ff * D + ff + D;
  out.push_back({"tsmixer", model::TsMixer({D, L, H, 2, ff, 0.3}), 2 * (mix + 4 * D * L) + head + 2 * D});
  out.push_back({"tsmixer, shared, gelu", model::TsMixer({D, L, H, 2, ff, 0.3, Norm::batch, Activation::gelu, true}),
                 mix + 2 * D * L + head + 2 * D});
  out.push_back({"tsmixer, layer norm, no dropout", model::TsMixer({D, L, H, 3, ff, 0, Norm::layer}),
                 3 * (mix + 4 * D * L) + head + 2 * D});
  return out;
}
template <class T>
model::Output<T> apply_relative(const model::Model& net, Tape<T>& tape, T* weights, T* gradients,
                                const model::Pass& pass) {
  const auto [D, L, H, none] = net.shape();
  constexpr std::int64_t marks = 2;
  const std::int64_t own = std::min<std::int64_t>(net.covariates(), 1), shared = net.covariates() - own;
  kernels::Windows<T> x = windows(tape, 4, D + marks + shared + own * D, L + H, 520);
  x.D = D, x.marks = marks, x.known = {D + marks, shared, own};
  return net.forward(tape, weights, gradients, revin(tape, net.seen(x), L, net.center(Center::mean)), pass);
}
constexpr model::Pass second_pass{.training = true, .seed = 5, .step = 3, .number = 1};

// Softmax is blind to a key's bias, a batch norm to one that goes into it as it is.
bool has_no_gradient(const Relative& r, const std::string& name) {
  const auto is_one_of = [&](std::initializer_list<const char*> ends) {
    return std::any_of(ends.begin(), ends.end(), [&](const char* end) { return name.ends_with(end); });
  };
  if (r.name.starts_with("autoformer")) {
    const bool encodes = name.starts_with("encoder.");
    if (is_one_of({"cross_attention.key_projection.bias"})) return r.name != "autoformer";  // zeros behind the keys
    return is_one_of({"query_projection.bias", "key_projection.bias", "layernorm.bias"}) ||
           (encodes && is_one_of({"value_projection.bias", "out_projection.bias"}));
  }
  if (r.name.starts_with("fedformer")) {
    const bool unused = is_one_of({"value_projection.weight", "value_projection.bias"}) ||
                        (is_one_of({"key_projection.weight", "key_projection.bias"}) &&
                         name.find("cross_attention") == std::string::npos);
    const bool one = r.name == "fedformer of one average";
    return unused || is_one_of({"layernorm.bias", "self_attention.query_projection.bias"}) ||
           (one && (name.find("decomp") != std::string::npos ||
                    (name.starts_with("encoder.") && is_one_of({"out_projection.bias"}))));
  }
  if (is_one_of({"compute_keys.bias", "key_projection.bias", "W_K.bias"})) return true;
  if (is_one_of({"downConv.bias", "conv_layers.down.bias"})) return true;
  if (r.name.starts_with("informer") && name == "encoder.attn_layers.0.norm2.bias") return true;
  return r.name == "patchtst without dropout" && is_one_of({"W_V.bias", "to_out.0.bias", "ff.3.bias"});
}

Case relative_case(const Relative& r) {
  Case c{r.name,
         r.name.starts_with("informer")     ? 1.7e-5
         : r.name.starts_with("fedformer")  ? 1e-5  // complex tanh amplifies
         : r.name.starts_with("autoformer") ? 7e-6
                                            : 3.1e-6,
         {{r.net.parameters().slab_size()}},
         {},
         [net = r.net](auto& tape, const auto& in) {
           return apply_relative(net, tape, in[0].value().data, in[1].value().data, second_pass).z.z;
         },
         true};
  for (const model::Parameter& p : r.net.parameters().all()) {
    const bool scale = p.name == "revin.affine_weight" || p.name.ends_with("norm.weight") ||
                       p.name.ends_with("norm1.weight") || p.name.ends_with("norm2.weight") ||
                       p.name.ends_with("norm3.weight") || p.name.ends_with("norm_attn.1.weight") ||
                       p.name.ends_with("norm_ffn.1.weight") || p.name.ends_with(".gamma") ||
                       p.name.ends_with("running_var");
    for (std::size_t i = 0; i < p.constant.size(); ++i) {
      c.parts.push_back({p.name, 0, p.offset + static_cast<std::int64_t>(i), 1, p.constant[i], 0, true});
    }
    if (!p.constant.empty()) continue;
    c.parts.push_back({p.name, 0, p.offset, p.shape.count(), scale ? 1.0 : 0.0, scale ? 0.1 : 0.4,
                       !p.trained || has_no_gradient(r, p.name)});
  }
  return c;
}

std::vector<Case> table() {
  std::vector<Case> out{
      op("add", {{7, 5}, {7, 5}}, [](auto&, const auto& in) { return in[0] + in[1]; }),
      op("relu", {{9, 11}}, [](auto&, const auto& in) { return relu(in[0]); }),
      op("tanh", {{9, 11}}, [](auto&, const auto& in) { return tanh(in[0]); }),
      op("gelu", {{9, 11}}, [](auto&, const auto& in) { return gelu(in[0]); }),
      with_noise(op("linear, several blocks", {{600, 70}, {90, 70}},
                    [](auto&, const auto& in) { return linear(in[0], in[1]); }),
                 3.7e-7),
      op("linear", {{13, 6}, {10, 6}}, [](auto&, const auto& in) { return linear(in[0], in[1]); }),
      op("linear of views", {{13, 16}, {20, 6}},
         [](auto&, const auto& in) { return linear(columns(in[0], 3, 6), rows(in[1], 5, 9)); }),
      op("linear with bias", {{13, 6}, {10, 6}, {10}},
         [](auto&, const auto& in) { return linear(in[0], in[1], in[2]); }),
      with_noise(op("bias alone", {{150, 70}, {70}},
                    [](auto&, const auto& in) { return bias_activation(in[0], in[1], Activation::none); }),
                 3.7e-7),
      op("mse", {{6, 7}, {6, 7}}, [](auto&, const auto& in) { return mse(in[0], in[1]); }),
      project_case("project", 4, 3, 12, 10, 0, 0),
      project_case("project, key bias left out", 4, 3, 12, 10, 4, 7),
      with_noise(project_case("project, several blocks", 40, 7, 50, 130, 16, 32), 2.8e-7),
      attention_case(0, 3, 1, 4, 6),
      attention_case(0, 3, 2, 4, 4),
      attention_case(2.5e-7, 3, 7, 16, 16),
      attention_case(2.4e-7, 3, 8, 4, 3),
      attention_case(7.3e-7, 3, 21, 5, 9),
      attention_case(4.3e-7, 2, 33, 16, 40),
      attention_case(4.2e-7, 2, 130, 8, 3),
      attention_case(9.4e-7, 1, 300, 4, 6),
      op("channel_attention of one matrix", {{15, 20}},
         [](auto&, const auto& in) {
           const Projected z(in[0]);
           return channel_attention(z.columns(6, 4), z.columns(10, 4), z.columns(0, 6), 5);
         }),
      op("add_linear", {{9, 7}, {9, 5}, {7, 5}},
         [](auto&, const auto& in) { return add_linear(Projected(copy(in[0])), in[1], in[2]).z; }),
      op("add_linear to columns", {{9, 12}, {9, 5}, {7, 5}},
         [](auto&, const auto& in) { return add_linear(Projected(copy(in[0])).columns(4, 7), in[1], in[2]).z; }),
      op("compose", {{13, 6}, {6, 11}, {1, 6}, {9, 11}},
         [](auto&, const auto& in) {
           const auto map = compose(in[0], in[1], in[2], true);
           return linear(in[3], map.weight, map.bias);
         }),
      // The term is handed columns of a wider gradient, and is read in another shape as well.
      op("add_term of what is reshaped", {{6, 12}, {6, 4}, {4, 8}},
         [](auto&, const auto& in) {
           const auto term = in[1] + in[1], other = linear(reshape(term, Shape{3, 8}), in[2]);
           return linear(add_term(Projected(copy(in[0])).columns(4, 4), term).z, other);
         }),
      op("add_term", {{9, 7}, {9, 7}}, [](auto&, const auto& in) { return add_term(Projected(copy(in[0])), in[1]).z; }),
  };
  for (Case& c : relative_ops()) out.push_back(std::move(c));
  for (const kernels::StatsMix mix :
       {kernels::StatsMix(0), kernels::StatsMix(0.3), kernels::StatsMix(1), kernels::StatsMix(0.5, 4)}) {
    out.push_back(loss_case(5, {0, 1, 2, 3}, mix));
    out.push_back(loss_case(5, {3, 1}, mix));
    out.push_back(loss_case(1, {0, 2}, mix));
  }
  for (const ModelRun& m : model_runs()) {
    // One channel's scale has its gradient by an identity of the loss (model/samformer.cpp).
    if (m.result == Result::loss || m.shape.D > 1) out.push_back(model_case(m));
  }
  for (const Relative& r : relatives()) out.push_back(relative_case(r));
  return out;
}

// ---- Running a case -----------------------------------------------------------------------------------------------

std::vector<std::vector<double>> values_of(const Case& c) {
  std::vector<std::vector<double>> out;
  for (const Shape& shape : c.inputs) out.emplace_back(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < c.parts.size(); ++i) {
    const Part& p = c.parts[i];
    const auto drawn = float_normals(p.count, static_cast<std::uint32_t>(i), p.mean, p.scale);
    std::copy(drawn.begin(), drawn.end(), out[p.input].begin() + p.first);
  }
  return out;
}

// Inputs as leaves with their own gradients (`only` >= 0: that one alone, the others constants), the result, and the
// seed u of the backward pass.
template <class T>
struct Pass {
  std::vector<std::vector<T>> values, gradients;
  std::vector<T> output, u;

  explicit Pass(const Case& c, const std::vector<std::vector<double>>& at,
                const std::vector<std::vector<double>>* tangents = nullptr, int only = -1) {
    Arena<> arena;
    Tape<T> tape(arena);
    Inputs<T> in;
    for (std::size_t i = 0; i < at.size(); ++i) {
      std::vector<T>& value = values.emplace_back(at[i].begin(), at[i].end());
      if constexpr (std::is_same_v<T, Dual<double>>) {
        for (std::size_t k = 0; tangents && k < value.size(); ++k) value[k].d = (*tangents)[i][k];
      }
      gradients.emplace_back(value.size());
    }
    for (std::size_t i = 0; i < at.size(); ++i) {
      const Tensor<T> value{values[i].data(), c.inputs[i]};
      if (c.slab) {
        in = {tape.constant(value), tape.constant({gradients[i].data(), c.inputs[i]})};
        break;
      }
      const bool leaf = only < 0 || static_cast<std::size_t>(only) == i;
      in.push_back(leaf ? tape.leaf(value, {gradients[i].data(), c.inputs[i]}) : tape.constant(value));
    }
    const Var<T> result = c.apply(tape, in);
    const Tensor<T> y = result.value();
    for (std::int64_t r = 0; r < y.rows(); ++r) output.insert(output.end(), y.row(r), y.row(r) + y.cols());
    const auto drawn = float_normals(y.count(), 700);
    u.assign(drawn.begin(), drawn.end());
    tape.backward(result, {u.data(), y.shape});
  }
};

struct Adjoint {
  double forward;   // <u, J v>
  double backward;  // <J' u, v>
};
// The check that every gradient passes and every planted error fails. A case of zeros has nothing to compare.
bool agree(const Adjoint& a) {
  const double scale = std::max(std::fabs(a.forward), std::fabs(a.backward));
  return scale > 0 && std::fabs(a.forward - a.backward) <= 1e-12 * scale;
}

// v is normal in the live parts among `only` (all of them if empty) and zero elsewhere.
Adjoint adjoint(const Case& c, const Pass<double>& run, const std::vector<std::vector<double>>& at, int only) {
  std::vector<std::vector<double>> v;
  for (const auto& x : at) v.emplace_back(x.size());
  for (std::size_t i = 0; i < c.parts.size(); ++i) {
    const Part& p = c.parts[i];
    if (p.dead || (only >= 0 && static_cast<int>(i) != only)) continue;
    const auto drawn = numeric::normals(p.count, seed, static_cast<std::uint32_t>(300 + i));
    std::copy(drawn.begin(), drawn.end(), v[p.input].begin() + p.first);
  }
  const Pass<Dual<double>> tangent(c, at, &v);
  Adjoint out{0, 0};
  for (std::size_t i = 0; i < run.u.size(); ++i) out.forward += run.u[i] * tangent.output[i].d;
  for (std::size_t i = 0; i < v.size(); ++i) {
    for (std::size_t k = 0; k < v[i].size(); ++k) out.backward += run.gradients[i][k] * v[i][k];
  }
  return out;
}

TEST(Gradients, AdjointIdentityAndPlantedErrors) {
  for (const Case& c : table()) {
    SCOPED_TRACE(fmt::format("{} (seed {})", c.name, seed));
    const auto at = values_of(c);
    const Pass<double> run(c, at);
    for (int i = -1; i < static_cast<int>(c.parts.size()); ++i) {
      if (i >= 0 && c.parts[static_cast<std::size_t>(i)].dead) continue;
      const std::string name = i < 0 ? "all inputs" : c.parts[static_cast<std::size_t>(i)].name;
      const Adjoint a = adjoint(c, run, at, i);
      EXPECT_TRUE(agree(a)) << name << ": <u, Jv> = " << a.forward << ", <J'u, v> = " << a.backward << ", difference "
                            << a.forward - a.backward;
      EXPECT_FALSE(agree({a.forward, a.backward * planted})) << name << ": a planted error passed";
    }
    for (const Part& p : c.parts) {
      if (!p.dead) continue;
      const auto first = run.gradients[p.input].begin() + p.first;
      EXPECT_TRUE(std::all_of(first, first + p.count, [](double g) { return g == 0; })) << p.name << " has a gradient";
    }
  }
}

TEST(Gradients, EachInputAloneHasTheSameGradient) {
  for (const Case& c : table()) {
    const auto at = values_of(c);
    const Pass<float> all(c, at);
    for (std::size_t i = 0; c.inputs.size() > 1 && i < c.inputs.size(); ++i) {
      SCOPED_TRACE(fmt::format("{}, input {} (seed {})", c.name, i, seed));
      const Pass<float> alone(c, at, nullptr, static_cast<int>(i));
      EXPECT_TRUE(numeric::same_bits(alone.output, all.output));
      EXPECT_TRUE(numeric::same_bits(alone.gradients[i], all.gradients[i]));
    }
  }
}

TEST(Gradients, TheCheckRejectsNaNAndZeros) {
  EXPECT_FALSE(agree({std::nan(""), 1}));
  EXPECT_FALSE(agree({std::nan(""), std::nan("")}));
  EXPECT_FALSE(agree({0, 0}));
  EXPECT_TRUE(agree({2, 2}));
}

// Errors of one case: the output, then each part's gradient, over the part's largest magnitude or 1e-3 of the case's.
std::vector<double> float_errors(const Case& c, const Pass<float>& run, const Pass<double>& exact, double factor) {
  std::vector<double> out{numeric::error(run.output, exact.output)};
  double group = 0;
  for (const auto& g : exact.gradients) group = std::max(group, numeric::largest(g));
  for (const Part& p : c.parts) {
    std::vector<double> single, full;
    for (std::int64_t k = p.first; k < p.first + p.count; ++k) {
      single.push_back(factor * run.gradients[p.input][static_cast<std::size_t>(k)]);
      full.push_back(exact.gradients[p.input][static_cast<std::size_t>(k)]);
    }
    out.push_back(p.dead ? numeric::largest(single) : numeric::error(single, full, 1e-3 * group));
  }
  return out;
}

// A part's largest gradient over what its errors are measured by.
double share_of(const Case& c, const Pass<double>& exact, std::size_t part) {
  const Part& p = c.parts[part];
  double group = 0, own = 0;
  for (const auto& g : exact.gradients) group = std::max(group, numeric::largest(g));
  for (std::int64_t k = p.first; k < p.first + p.count; ++k) {
    own = std::max(own, std::abs(exact.gradients[p.input][static_cast<std::size_t>(k)]));
  }
  return own / std::max(own, 1e-3 * group);
}

TEST(Gradients, FloatAgainstDouble) {
  for (const Case& c : table()) {
    SCOPED_TRACE(fmt::format("{} (seed {})", c.name, seed));
    const auto at = values_of(c);
    const Pass<double> exact(c, at);
    const Pass<float> run(c, at);
    const double tolerance = 4 * std::max(c.noise, 2 * 0x1p-23);
    ASSERT_LT(tolerance, planted - 1);
    const std::vector<double> errors = float_errors(c, run, exact, 1), wrong = float_errors(c, run, exact, planted);
    for (std::size_t i = 0; i < errors.size(); ++i) {
      const std::string name = i == 0 ? "output" : c.parts[i - 1].name;
      EXPECT_TRUE(errors[i] <= tolerance) << name << ": error " << errors[i] << ", tolerance " << tolerance;
      // What is planted in a gradient far below the case's largest is below its tolerance: in double it is seen.
      if (i > 0 && !c.parts[i - 1].dead && share_of(c, exact, i - 1) * (planted - 1) > 2 * tolerance) {
        EXPECT_FALSE(wrong[i] <= tolerance) << name << ": a planted error passed";
      }
    }
  }
}

template <class T>
void expect_same_bits(const Pass<T>& one, const Pass<T>& many, int threads) {
  EXPECT_TRUE(numeric::same_bits(one.output, many.output)) << threads << " threads: output";
  for (std::size_t i = 0; i < one.gradients.size(); ++i) {
    EXPECT_TRUE(numeric::same_bits(one.gradients[i], many.gradients[i])) << threads << " threads: input " << i;
  }
}

TEST(Gradients, TheSameBitsForAnyNumberOfThreads) {
  const int before = omp_get_max_threads();
  for (const Case& c : table()) {
    SCOPED_TRACE(fmt::format("{} (seed {})", c.name, seed));
    const auto at = values_of(c);
    omp_set_num_threads(1);
    const Pass<float> single(c, at);
    const Pass<double> exact(c, at);
    for (const int threads : {1, 2, 3, 8}) {
      omp_set_num_threads(threads);
      expect_same_bits(single, Pass<float>(c, at), threads);
      expect_same_bits(exact, Pass<double>(c, at), threads);
    }
  }
  omp_set_num_threads(before);
}

// ---- Whole models -------------------------------------------------------------------------------------------------

TEST(Model, BothAssociationsAgree) {
  for (ModelRun m : model_runs()) {
    SCOPED_TRACE(m.name());
    m.order = Association::folded;
    const Case folded = model_case(m);
    m.order = Association::direct;
    const Case direct = model_case(m);
    const auto at = values_of(folded);
    const Pass<double> a(folded, at), b(direct, at);
    EXPECT_TRUE(numeric::error(a.output, b.output) <= 1e-13);
    EXPECT_TRUE(numeric::error(a.gradients[0], b.gradients[0]) <= 1e-12);
  }
}

TEST(Model, TheKeyBiasChangesNothing) {
  for (const ModelRun& m : model_runs()) {
    SCOPED_TRACE(m.name());
    const Case c = model_case(m);
    auto at = values_of(c);
    const Pass<double> before(c, at);
    for (const Part& p : c.parts) {
      if (p.name == "compute_keys.bias") at[0][static_cast<std::size_t>(p.first)] += 1;
    }
    EXPECT_TRUE(numeric::error(Pass<double>(c, at).output, before.output) <= 1e-13);
  }
}

TEST(Model, RelativesHaveTheirNumberOfParameters) {
  for (const Relative& r : relatives()) EXPECT_EQ(r.net.parameters().count(), r.count) << r.name;
  EXPECT_EQ(model::TsMixer({.shared = true}).parameters().count(), 320053);
  EXPECT_EQ(model::TsMixer(model::TsMixerShape{}).parameters().count(), 605180);
  const std::int64_t attention = 33328, head = 513 * 96;
  const auto count = [](model::Attention kind, bool revin) {
    return model::Transformer({.attention = kind, .revin = revin}).parameters().count();
  };
  EXPECT_EQ(count(model::Attention::learned, true), attention + head + 14);
  EXPECT_EQ(count(model::Attention::frozen, false), head);
  EXPECT_EQ(count(model::Attention::identity, true), 16912 + head + 14);
  EXPECT_EQ(count(model::Attention::sigma_reparam, true), attention + 4 + head + 14);
  EXPECT_EQ(model::Linear(model::LinearShape{}).parameters().count(), head + 14);
  EXPECT_EQ(model::DLinear(model::DLinearShape{}).parameters().count(), 2 * 337 * 96);
  const auto itransformer = [](std::int64_t H, std::int64_t d) {
    return model::ITransformer({.H = H, .d = d, .f = d}).parameters().count();
  };
  const auto patchtst = [](std::int64_t L, std::int64_t H) {
    return model::PatchTst({.L = L, .H = H}).parameters().count();
  };
  const model::StepSizes published;
  EXPECT_EQ(model::LogTrans({published}).parameters().count(), 13685767);
  EXPECT_EQ(model::Informer({published, true}).parameters().count(), 11330055);
  EXPECT_EQ(model::Informer({published, false}).parameters().count(), 11328007);
  for (const auto& [H, count] :
       {std::pair(96, 10123520), std::pair(192, 11499776), std::pair(336, 13564160), std::pair(720, 19069184)}) {
    model::PyraformerShape shape;
    shape.H = H, shape.f = 512, shape.heads = 6, shape.layers = 4;
    EXPECT_EQ(model::Pyraformer(shape).parameters().count(), count) << H;
  }
  EXPECT_EQ(patchtst(336, 96), 81728);
  EXPECT_EQ(patchtst(336, 192), 146336);
  EXPECT_EQ(patchtst(336, 336), 243248);
  EXPECT_EQ(patchtst(336, 720), 501680);
  EXPECT_EQ(patchtst(512, 96), 115872);
  EXPECT_EQ(patchtst(96, 96), 35168);
  EXPECT_EQ(itransformer(96, 256), 841568);
  EXPECT_EQ(itransformer(192, 256), 866240);
  EXPECT_EQ(itransformer(336, 512), 3379024);
  EXPECT_EQ(itransformer(720, 512), 3576016);
  EXPECT_EQ(model::Autoformer(model::AutoformerShape{}).parameters().count(), 10535943);
  for (const std::int64_t H : {96, 720}) {
    model::StepSizes z;
    z.H = H;
    const model::Fedformer net({{z, {24}}, model::published_modes(96, z.decoder_steps(), 64)});
    EXPECT_EQ(net.parameters().count(), 22070295);
  }
  EXPECT_EQ(model::Temporal(model::TemporalShape{}).parameters().count(), 4 * 16 * 7 + 3 * 16 + 7 + head + 14);
}

// SAMformer's fused computation against the formula, on the same weights: forecasts and gradients.
TEST(Model, SamformerIsTheTransformer) {
  const Samformer fused({Value::low_rank, 3, 12, 5, 4});
  const model::Transformer plain({3, 12, 5, 4});
  const auto run = [](const model::Model& net) {
    const std::int64_t n = net.parameters().slab_size();
    std::vector<double> weights(static_cast<std::size_t>(n)), gradients(weights.size());
    for (const model::Parameter& p : net.parameters().all()) {
      const auto drawn = float_normals(p.shape.count(), static_cast<std::uint32_t>(p.name.size()), 0.3, 0.4);
      std::copy(drawn.begin(), drawn.end(), weights.begin() + p.offset);
    }
    Arena<> arena;
    Tape<double> tape(arena);
    const Var<double> y = apply_relative(net, tape, weights.data(), gradients.data(), second_pass).z.z;
    const auto u = float_normals(y.value().count(), 700);
    tape.backward(y, {const_cast<double*>(u.data()), y.value().shape});
    std::map<std::string, std::vector<double>> out;
    for (std::int64_t r = 0; r < y.value().rows(); ++r) {
      out["y"].insert(out["y"].end(), y.value().row(r), y.value().row(r) + y.value().cols());
    }
    for (const model::Parameter& p : net.parameters().all()) {
      out[p.name].assign(gradients.begin() + p.offset, gradients.begin() + p.offset + p.shape.count());
    }
    return out;
  };
  const auto a = run(fused), b = run(plain);
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, values] : a) EXPECT_TRUE(numeric::error(values, b.at(name)) <= 1e-12) << name;
}

// The statistics are constants of differentiation: no tangent, whatever the windows' own.
TEST(Model, RevinStatisticsHaveNoTangent) {
  using D2 = Dual<double>;
  const std::int64_t N = 3, D = 2, L = 9;
  std::vector<D2> x;
  const auto values = numeric::normals(N * D * L, seed, 1), tangents = numeric::normals(N * D * L, seed, 2);
  for (std::size_t i = 0; i < values.size(); ++i) x.emplace_back(values[i], tangents[i]);
  const std::vector<std::int32_t> starts{0, static_cast<std::int32_t>(D * L), static_cast<std::int32_t>(2 * D * L)};
  for (const Center center : {Center::mean, Center::last}) {
    Arena<> arena;
    Tape<D2> tape(arena);
    const Normalised<D2> n = revin(tape, kernels::Windows<D2>{x.data(), L, starts.data(), N, D}, L, center);
    EXPECT_FALSE(n.xhat.needs_gradient());
    for (std::int64_t r = 0; r < N * D; ++r) {
      const D2 level = n.stats[r], sigma = n.stats[N * D + r];
      EXPECT_EQ(level.d, 0);
      EXPECT_EQ(sigma.d, 0);
      EXPECT_GT(sigma.v, 0);
      for (std::int64_t t = 0; t < L; ++t) {
        const double expected = tangents[static_cast<std::size_t>(r * L + t)] / sigma.v;
        EXPECT_TRUE(std::fabs(n.xhat.value()(r, t).d - expected) <= 1e-14 * std::fabs(expected));
      }
    }
  }
}

// Gradient and H v of the loss at `at` along v.
struct HessianProduct {
  std::vector<double> gradient, product;
};
HessianProduct hessian_product(const ModelRun& m, const std::vector<double>& at, const std::vector<double>& v) {
  std::vector<Dual<double>> w(at.size()), g(at.size());
  for (std::size_t i = 0; i < at.size(); ++i) w[i] = {at[i], v[i]};
  Arena<> arena;
  Tape<Dual<double>> tape(arena);
  tape.backward(apply_model(m, tape, w.data(), g.data()));
  HessianProduct out;
  for (const Dual<double> x : g) {
    out.gradient.push_back(x.v);
    out.product.push_back(x.d);
  }
  return out;
}
double inner(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
// Normals at the parameters, zero in the gaps.
std::vector<double> slab_vector(const ModelRun& m, std::uint32_t sub) {
  const Samformer net(m.shape);
  std::vector<double> out(static_cast<std::size_t>(net.parameters().slab_size()));
  for (const model::Parameter& p : net.parameters().all()) {
    const auto drawn = numeric::normals(p.shape.count(), seed, sub++);
    std::copy(drawn.begin(), drawn.end(), out.begin() + p.offset);
  }
  return out;
}

std::vector<ModelRun> loss_runs() {
  std::vector<ModelRun> out;
  for (const ModelRun& m : model_runs()) {
    if (m.result == Result::loss) {
      out.push_back(m);
      out.push_back(m);
      out.back().lambda = 0;
      out.back().center = Center::mean;
    }
  }
  return out;
}

TEST(Hessian, ProductsAreSymmetric) {
  for (const ModelRun& m : loss_runs()) {
    SCOPED_TRACE(fmt::format("{} (seed {})", m.name(), seed));
    const auto at = values_of(model_case(m))[0], u = slab_vector(m, 600), v = slab_vector(m, 620);
    const double uHv = inner(u, hessian_product(m, at, v).product), vHu = inner(v, hessian_product(m, at, u).product);
    EXPECT_TRUE(std::fabs(uHv - vHu) <= 1e-10 * std::fabs(uHv)) << uHv << ' ' << vHu;
    EXPECT_FALSE(std::fabs(uHv - planted * vHu) <= 1e-10 * std::fabs(uHv));
  }
}

TEST(Hessian, TheDualGradientIsTheGradient) {
  for (const ModelRun& m : loss_runs()) {
    SCOPED_TRACE(m.name());
    const Case c = model_case(m);
    const auto at = values_of(c);
    const Pass<double> run(c, at);
    std::vector<double> gradient = hessian_product(m, at[0], slab_vector(m, 600)).gradient;
    for (double& g : gradient) g *= run.u[0];
    EXPECT_TRUE(numeric::error(gradient, run.gradients[0]) <= 1e-12);
  }
}

// Column i of the dense Hessian is H e_i; central differences of the gradient are an independent statement of it.
TEST(Hessian, ProductsAgreeWithTheDenseMatrix) {
  for (const Value value : {Value::low_rank, Value::full}) {
    const ModelRun m{3, {value, 2, 5, 2, 2}, Association::folded, Result::loss, 0.3};
    SCOPED_TRACE(fmt::format("{} (seed {})", m.name(), seed));
    const auto at = values_of(model_case(m))[0], v = slab_vector(m, 600);
    const std::size_t n = at.size();
    std::vector<double> dense(n * n), difference(n * n), by_columns(n);
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<double> e(n), up = at, down = at;
      e[i] = 1;
      const double h = 1e-5;
      up[i] += h;
      down[i] -= h;
      const auto column = hessian_product(m, at, e).product;
      const auto above = hessian_product(m, up, e).gradient, below = hessian_product(m, down, e).gradient;
      for (std::size_t k = 0; k < n; ++k) {
        dense[k * n + i] = column[k];
        difference[k * n + i] = (above[k] - below[k]) / (2 * h);
        by_columns[k] += column[k] * v[i];
      }
    }
    std::vector<double> transposed(n * n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t k = 0; k < n; ++k) transposed[k * n + i] = dense[i * n + k];
    }
    EXPECT_TRUE(numeric::error(dense, transposed) <= 1e-12);
    EXPECT_TRUE(numeric::error(dense, difference) <= 1e-8) << numeric::error(dense, difference);
    EXPECT_TRUE(numeric::error(hessian_product(m, at, v).product, by_columns) <= 1e-12);
    for (double& d : dense) d *= planted;
    EXPECT_FALSE(numeric::error(dense, difference) <= 1e-8);
  }
}

}  // namespace
}  // namespace samformer
