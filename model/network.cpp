#include "model/network.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace samformer::model {
namespace {

constexpr std::uint32_t initialisation_stream = 0;

// FNV-1a, so that a tensor's numbers follow from its name and not from the order of creation.
std::uint32_t name_hash(std::string_view name) {
  std::uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

void fill_uniform(float* to, std::int64_t count, double limit, std::uint64_t seed, std::string_view name) {
  const std::uint32_t sub = name_hash(name);
  for (std::int64_t i = 0; i < count; i += 4) {
    const PhiloxBlock words = random_block(seed, initialisation_stream, sub, static_cast<std::uint64_t>(i / 4));
    for (std::int64_t k = 0; k < 4 && i + k < count; ++k) {
      to[i + k] = static_cast<float>((2.0 * uniform01(words[static_cast<std::size_t>(k)]) - 1.0) * limit);
    }
  }
}

}  // namespace

Dense add_dense(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in, bool trained) {
  const auto add = [&](const std::string& part, Shape shape) {
    return trained ? table.add(name + part, shape) : table.add_untrained(name + part, shape);
  };
  const std::int64_t weight = add(".weight", Shape{out, in});
  return {out, in, weight, add(".bias", Shape{out})};
}

Dense add_pointwise(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in) {
  const std::int64_t weight = table.add(name + ".weight", Shape{out, in, 1});
  return {out, in, weight, table.add(name + ".bias", Shape{out})};
}

void add_side_by_side(ParameterTable& table, std::initializer_list<std::pair<std::string, Dense*>> layers,
                      std::int64_t out, std::int64_t in) {
  const Dense* const first = layers.begin()->second;
  for (const auto& [name, layer] : layers) {
    *layer = {out, in};
    layer->weight = table.add(name + ".weight", Shape{out, in}, layer != first);
  }
  for (const auto& [name, layer] : layers) layer->bias = table.add(name + ".bias", Shape{out}, layer != first);
}

std::vector<TokenSteps> single_steps(std::int64_t count, std::int64_t last) {
  std::vector<TokenSteps> steps;
  for (std::int64_t step = last - count + 1; step <= last; ++step) steps.push_back({step, step});
  return steps;
}

void check_heads(const char* network, std::int64_t d, std::int64_t heads) {
  if (heads > 0 && d % heads == 0) return;
  std::int64_t fewer = std::clamp<std::int64_t>(heads, 1, d);
  while (d % fewer != 0) --fewer;
  throw Error(Exit::usage, fmt::format("--model {}: {} heads do not divide --d-model {}", network, heads, d))
      .hint(fmt::format("take --heads {}", fewer));
}

NormLayer::NormLayer(ParameterTable& table, const std::string& name, std::int64_t d)
    : d(d), weight(table.add(name + ".weight", Shape{d})), bias(table.add(name + ".bias", Shape{d})) {}
void NormLayer::add_running(ParameterTable& table, const std::string& name) {
  running_mean = table.add_untrained(name + ".running_mean", Shape{d});
  running_var = table.add_untrained(name + ".running_var", Shape{d});
}
void NormLayer::initialise(float* weights) const {
  std::fill_n(weights + weight, d, 1.0f);
  if (running_var > 0) std::fill_n(weights + running_var, d, 1.0f);
}

AttentionLayers add_attention(ParameterTable& table, std::int64_t d_m, std::int64_t in, bool trained) {
  AttentionLayers layers{{d_m, in}, {d_m, in}, {d_m, in}};
  const std::pair<const char*, Dense*> all[] = {
      {"compute_values", &layers.values}, {"compute_queries", &layers.queries}, {"compute_keys", &layers.keys}};
  const auto add = [&](const std::string& name, Shape shape, bool adjacent) {
    return trained ? table.add(name, shape, adjacent) : table.add_untrained(name, shape, adjacent);
  };
  for (const auto& [name, layer] : all) {
    layer->weight = add(std::string(name) + ".weight", Shape{d_m, in}, layer != &layers.values);
  }
  for (const auto& [name, layer] : all) {
    layer->bias = add(std::string(name) + ".bias", Shape{d_m}, layer != &layers.values);
  }
  return layers;
}

void draw_uniform(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed,
                  double limit) {
  const Parameter& p = table.find(name);
  fill_uniform(weights + p.offset, p.shape.count(), limit, seed, p.name);
}

void draw_dense(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed, Init init,
                double keras_limit) {
  const Parameter& weight = table.find(std::string(name) + ".weight");
  const double out = static_cast<double>(weight.shape[0]), in = static_cast<double>(weight.shape.count()) / out;
  double limit = std::sqrt(6.0 / (in + out));
  if (init == Init::pytorch) limit = 1.0 / std::sqrt(in);
  if (init == Init::keras && keras_limit > 0) limit = keras_limit;
  fill_uniform(weights + weight.offset, weight.shape.count(), limit, seed, weight.name);
  const std::string bias = std::string(name) + ".bias";
  if (init == Init::pytorch && table.has(bias)) draw_uniform(weights, table, bias, seed, limit);
}

void draw_normal(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed,
                 double deviation) {
  const Parameter& p = table.find(name);
  const std::uint32_t sub = name_hash(p.name);
  for (std::int64_t i = 0; i < p.shape.count(); ++i) {
    const auto pair = normal_pair(random_block(seed, initialisation_stream, sub, static_cast<std::uint64_t>(i / 2)));
    weights[p.offset + i] = static_cast<float>(deviation * pair[static_cast<std::size_t>(i % 2)]);
  }
}

double keras_attention_limit(std::int64_t in, std::int64_t out) {
  return std::sqrt(6.0 / (static_cast<double>(in) + static_cast<double>(in) * static_cast<double>(out)));
}

RevinAffine::RevinAffine(ParameterTable& table, std::int64_t D, bool learned) : learned(learned), D(D) {
  if (!learned) return;
  gamma = table.add("revin.affine_weight", Shape{D});
  beta = table.add("revin.affine_bias", Shape{D});
}

void RevinAffine::initialise(float* weights) const {
  if (learned) std::fill_n(weights + gamma, D, 1.0f);
}

}  // namespace samformer::model
