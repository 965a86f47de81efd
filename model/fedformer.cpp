#include "model/fedformer.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <random>

#include "core/dual.h"
#include "core/text.h"
#include "kernels/steps.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

std::string block_name(Place place) {
  const char* const attention = place == Place::encoder   ? "encoder.attn_layers.0.attention"
                                : place == Place::decoder ? "decoder.layers.0.self_attention"
                                                          : "decoder.layers.0.cross_attention";
  return attention + std::string(".inner_correlation.");
}
std::int64_t count_of(const std::vector<std::int64_t>& modes) { return static_cast<std::int64_t>(modes.size()); }

// numpy.random.shuffle of a list: Fisher and Yates from the end, each place the first number of the masked words that
// is not above it.
void shuffle_as_numpy(std::vector<std::int64_t>& list, std::mt19937& generator) {
  for (std::size_t i = list.size(); i-- > 1;) {
    const std::uint32_t mask = std::bit_ceil(static_cast<std::uint32_t>(i) + 1) - 1;
    std::uint32_t j = 0;
    do j = static_cast<std::uint32_t>(generator()) & mask;
    while (j > i);
    std::swap(list[i], list[j]);
  }
}

std::vector<std::int64_t> widths_of(const std::string& text) {
  std::vector<std::int64_t> widths = whole_numbers(text);
  const bool wide = std::ranges::all_of(widths, [](std::int64_t w) { return w <= 1 << 24; });
  if (!wide || widths.empty() || widths.size() > kernels::most_averages) {
    throw Error(Exit::usage,
                fmt::format("--averages {}: 1 to {} numbers of steps expected", text, kernels::most_averages))
        .hint("for example --averages 12,24");
  }
  return widths;
}

}  // namespace

ModeSets published_modes(std::int64_t L, std::int64_t steps, std::int64_t modes) {
  std::mt19937 generator(2021);
  const auto draw = [&](std::int64_t T) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(std::max<std::int64_t>(1, T / 2)));
    std::iota(all.begin(), all.end(), 0);
    shuffle_as_numpy(all, generator);
    all.resize(std::min(all.size(), static_cast<std::size_t>(modes)));
    std::sort(all.begin(), all.end());
    return all;
  };
  ModeSets sets;
  sets.encoder = draw(L), sets.decoder = draw(steps), sets.queries = draw(steps), sets.keys = draw(L);
  return sets;
}

Fedformer::Fedformer(FedformerShape shape)
    : StepNetwork(std::move(shape)), network_(table_, "fedformer", shape_, true) {
  const std::int64_t h = shape_.heads, E = shape_.d / h;
  const auto weight = [&](Place place, const std::vector<std::int64_t>& modes) {
    return table_.add(block_name(place) + "weights1", Shape{h, E, E, count_of(modes), 2});
  };
  encoder_.weight = weight(Place::encoder, shape_.modes.encoder);
  decoder_.weight = weight(Place::decoder, shape_.modes.decoder);
  cross_.weight = weight(Place::cross, shape_.modes.queries);
  const auto index = [&](Place place, const char* name, const std::vector<std::int64_t>& modes) {
    return table_.add_constant(block_name(place) + name, {modes.begin(), modes.end()});
  };
  encoder_.index = index(Place::encoder, "index", shape_.modes.encoder);
  decoder_.index = index(Place::decoder, "index", shape_.modes.decoder);
  cross_.index = index(Place::cross, "index_q", shape_.modes.queries);
  keys_ = index(Place::cross, "index_kv", shape_.modes.keys);
}

void Fedformer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  network_.initialise(weights, table_, seed, init, head);
  // Uniform in [0, 1) / d^2, whatever the other layers' are.
  const double half = 0.5 / static_cast<double>(shape_.d * shape_.d);
  for (const Place place : {Place::encoder, Place::decoder, Place::cross}) {
    const std::string name = block_name(place) + "weights1";
    draw_uniform(weights, table_, name, seed, half);
    const Parameter& p = table_.find(name);
    for (std::int64_t i = 0; i < p.shape.count(); ++i) weights[p.offset + i] += static_cast<float>(half);
  }
  table_.fill_constants(weights);
}

template <class T, class On>
Output<T, On> Fedformer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                 const Pass& pass) const {
  const std::int64_t N = check_windows("fedformer", input, shape_.D, shape_.L), h = shape_.heads, d = shape_.d;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  // Rows of features, [N d, T], as coefficients; a constant has frequency 0 alone.
  const auto coefficients = [&](const Dense& dense, Var<T, On> x, const std::vector<std::int64_t>& modes,
                                std::int64_t index) {
    const std::int64_t count = count_of(modes);
    const Shape bias{dense.out};
    const bool moves = modes.front() == 0;
    const Var<T, On> q =
        linear(x, slab.weight(dense), moves ? slab(dense.bias, bias) : slab.constant(dense.bias, bias));
    return linear(transpose(q, N),
                  fourier_basis(tape, slab.constant(index, Shape{count}), count, x.value().rows() / N));
  };
  const auto products = [&](const Block& block, Var<T, On> x) {
    const std::int64_t E = d / h;
    return mode_products(x, slab(block.weight, Shape{h, E, E, x.value().cols() / 2, 2}), N);
  };
  const auto attend = [&](Place place, const AttentionMaps& a, Var<T, On> x, Var<T, On> memory) {
    const std::int64_t steps = x.value().rows() / N;
    Var<T, On> y;
    if (place == Place::cross) {
      const std::int64_t count = count_of(shape_.modes.queries);
      const Var<T, On> context = mode_attention(coefficients(a.queries, x, shape_.modes.queries, cross_.index),
                                                coefficients(a.keys, memory, shape_.modes.keys, keys_), N, h);
      y = linear(products(cross_, context), inverse_fourier_basis(tape, slab.constant(cross_.index, Shape{count}),
                                                                  count, steps, 1 / static_cast<double>(d * d)));
    } else {
      const bool encodes = place == Place::encoder;
      const Block& block = encodes ? encoder_ : decoder_;
      const std::vector<std::int64_t>& modes = encodes ? shape_.modes.encoder : shape_.modes.decoder;
      const Var<T, On> none;
      y = linear(products(block, coefficients(a.queries, x, modes, block.index)),
                 inverse_fourier_basis(tape, none, count_of(modes), steps));
    }
    return reshape(y, Shape{N * steps, d});
  };
  return network_.forward(tape, slab, input, pass, attend);
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Fedformer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: scripts/ETT_script of MAZiqing/FEDformer.
ModelRow fedformer_row() {
  ModelRow row = step_row(
      "fedformer", "FEDformer: an encoder-decoder that decomposes, products of frequencies in attention's place");
  row.options.push_back(
      {.name = "averages", .otherwise = "24", .value_name = "N,...", .help = "steps of each moving average, mixed"});
  row.options.push_back({.name = "modes",
                         .otherwise = 64,
                         .value_name = "N",
                         .help = "frequencies of attention, at most",
                         .range = {.low = 1}});
  row.make = [](Sizes s, const OptionValues& o) -> Model {
    const StepSizes z = step_sizes(s, o);
    return Fedformer({{z, widths_of(o.get<std::string>("averages"))},
                      published_modes(z.L, z.decoder_steps(), o.get<std::int64_t>("modes"))});
  };
  return row;
}

}  // namespace samformer::model
