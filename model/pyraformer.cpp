#include "model/pyraformer.h"

#include <algorithm>
#include <cmath>

#include "core/dual.h"
#include "core/text.h"
#include "model/registry.h"

namespace samformer::model {
namespace {

std::string coarser_name(std::size_t i) { return fmt::format("encoder.conv_layers.conv_layers.{}.", i); }
std::string layer_name(std::size_t i) { return fmt::format("encoder.layers.{}.", i); }
constexpr double layer_epsilon = 1e-6;

std::vector<std::int64_t> windows_of(const std::string& text) {
  std::vector<std::int64_t> windows = whole_numbers(text);
  const bool possible = std::ranges::all_of(windows, [](std::int64_t w) { return w >= 2 && w < 100000; });
  if (windows.empty() || !possible) {
    throw Error(Exit::usage, fmt::format("--pyramid '{}': numbers of at least 2 expected", text))
        .hint("give the children of a node of each coarser level: --pyramid 4,4,4");
  }
  return windows;
}

}  // namespace

Pyraformer::Pyraformer(PyraformerShape shape) : StepNetwork(std::move(shape)) {
  const std::int64_t d = shape_.d, b = shape_.bottleneck, f = shape_.f, inside = shape_.heads * shape_.key_width;
  const auto coarser = static_cast<std::int64_t>(shape_.windows.size());
  SAMFORMER_CHECK(shape_.D > 0 && shape_.L > 0 && shape_.H > 0 && d > 0 && f > 0 && b > 0 && inside > 0 &&
                      shape_.layers > 0 && shape_.inner > 0 && shape_.marks >= 0,
                  "pyraformer: sizes must be positive, found D {}, L {}, H {}, d {}, f {}, bottleneck {}, {} layers",
                  shape_.D, shape_.L, shape_.H, d, f, b, shape_.layers);
  mask_.kind = kernels::HeadsMask::Kind::pyramid;
  mask_.radius = static_cast<int>(shape_.inner / 2), mask_.levels = static_cast<int>(coarser) + 1;
  if (coarser < 1 || mask_.levels > kernels::HeadsMask::most_levels) {
    throw Error(Exit::usage, fmt::format("--model pyraformer: a pyramid of {} coarser levels", coarser))
        .hint(fmt::format("1 to {} are possible: --pyramid 4,4,4", kernels::HeadsMask::most_levels - 1));
  }
  std::int64_t steps = shape_.L + 1, all = steps;
  mask_.first[1] = static_cast<int>(steps);
  for (std::size_t l = 0; l < shape_.windows.size(); ++l) {
    steps /= shape_.windows[l];
    if (steps == 0) {
      throw Error(Exit::usage,
                  fmt::format("--model pyraformer: level {} of the pyramid is empty at look-back {}", l + 1, shape_.L))
          .hint("take fewer or smaller --pyramid windows, or a longer --lookback");
    }
    all += steps;
    mask_.window[l] = static_cast<int>(shape_.windows[l]), mask_.first[l + 2] = static_cast<int>(all);
  }

  embedding_ = StepEmbedding(table_, "encoder.enc_embedding", shape_, true, true);
  down_ = add_dense(table_, "encoder.conv_layers.down", b, d);
  for (std::size_t l = 0; l < shape_.windows.size(); ++l) {
    coarser_.push_back({Convolution(table_, coarser_name(l) + "downConv", b, b, shape_.windows[l], true),
                        NormLayer(table_, coarser_name(l) + "norm", b)});
  }
  up_ = add_dense(table_, "encoder.conv_layers.up", d, b);
  pyramid_norm_ = NormLayer(table_, "encoder.conv_layers.norm", d);
  const auto map = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    return Dense{out, in, table_.add(name + ".weight", Shape{out, in})};
  };
  for (std::size_t i = 0; std::ssize(layers_) < shape_.layers; ++i) {
    const std::string attention = layer_name(i) + "slf_attn.", ffn = layer_name(i) + "pos_ffn.";
    StepLayer layer;
    layer.queries = map(attention + "w_qs", inside, d);
    layer.keys = map(attention + "w_ks", inside, d);
    layer.values = map(attention + "w_vs", inside, d);
    layer.out = add_dense(table_, attention + "fc", d, inside);
    layer.attention_norm = NormLayer(table_, attention + "layer_norm", d);
    layer.first = add_dense(table_, ffn + "w_1", f, d);
    layer.second = add_dense(table_, ffn + "w_2", d, f);
    layer.norm = NormLayer(table_, ffn + "layer_norm", d);
    layers_.push_back(layer);
  }
  head_ = map("predictor.linear", shape_.H * shape_.D, (coarser + 1) * d);
  affine_ = RevinAffine(table_, shape_.D, shape_.revin);
  for (std::size_t l = 0; l < coarser_.size(); ++l) coarser_[l].norm.add_running(table_, coarser_name(l) + "norm");
}

void Pyraformer::initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
  std::fill(weights, weights + table_.slab_size(), 0.0f);
  StepEmbedding::initialise(weights, table_, "encoder.enc_embedding", seed, init);
  for (const char* name : {"encoder.conv_layers.down", "encoder.conv_layers.up"}) {
    draw_dense(weights, table_, name, seed, init);
  }
  for (std::size_t l = 0; l < coarser_.size(); ++l) {
    draw_dense(weights, table_, coarser_name(l) + "downConv", seed, init);
    coarser_[l].norm.initialise(weights);
  }
  pyramid_norm_.initialise(weights);
  // Its authors draw the attention's weights by Glorot's rule, uniform, and the head's, normal.
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (const char* name : {"slf_attn.w_qs", "slf_attn.w_ks", "slf_attn.w_vs", "slf_attn.fc"}) {
      draw_dense(weights, table_, layer_name(i) + name, seed, init);
      if (init != Init::pytorch) continue;
      const Parameter& p = table_.find(layer_name(i) + name + ".weight");
      draw_uniform(weights, table_, p.name, seed, std::sqrt(6 / static_cast<double>(p.shape[0] + p.shape[1])));
    }
    for (const char* name : {"pos_ffn.w_1", "pos_ffn.w_2"})
      draw_dense(weights, table_, layer_name(i) + name, seed, init);
    layers_[i].attention_norm.initialise(weights);
    layers_[i].norm.initialise(weights);
  }
  if (head == HeadInit::as_init) {
    draw_normal(weights, table_, "predictor.linear.weight", seed,
                std::sqrt(2 / static_cast<double>(head_.out + head_.in)));
  }
  affine_.initialise(weights);
}

std::vector<TokenSteps> Pyraformer::map_steps() const {
  std::vector<TokenSteps> steps = single_steps(shape_.L + 1, 1);
  for (int level = 0; level + 1 < mask_.levels; ++level) {
    const auto below = [&, first = mask_.first[level]](int cell) {
      return steps[static_cast<std::size_t>(first + cell)];
    };
    const int window = mask_.window[level], count = mask_.first[level + 2] - mask_.first[level + 1];
    for (int cell = 0; cell < count; ++cell) {
      steps.push_back({below(cell * window).first, below((cell + 1) * window - 1).last});
    }
  }
  return steps;
}

template <class T, class On>
Output<T, On> Pyraformer::forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                                  const Pass& pass) const {
  const std::int64_t N = check_windows("pyraformer", input, shape_.D, shape_.L), d = shape_.d, b = shape_.bottleneck;
  const SlabVars<T, On> slab(tape, table_, weights, gradients);
  DropoutSites dropout(shape_.dropout, pass);
  const StepLayers<T, On> with{tape, slab, dropout, N};
  const AffineVars<T, On> affine = affine_.vars(slab, N);
  StepInput<T, On> in = steps_of(input, affine_.apply(input, affine), shape_.marks);
  in.values = sample_rows(in.values, N, 0, shape_.L + 1);

  const Var<T, On> fine = with.embed(embedding_, in);
  Var<T, On> z = linear(fine, slab.weight(down_), before_batch_norm(slab, down_.bias, b, pass)), nodes;
  for (std::size_t l = 0; l < coarser_.size(); ++l) {
    const auto& [convolved, norm] = coarser_[l];
    const std::int64_t steps = mask_.first[l + 2] - mask_.first[l + 1];
    z = convolution(z, N, with.weight(convolved), {.rows = steps, .stride = convolved.width});
    z = bias_activation(z, before_batch_norm(slab, convolved.bias, b, pass), Activation::none);
    z = bias_activation(batch_normalised(slab, norm, z, pass), {}, Activation::elu);
    nodes = l == 0 ? z : join_rows(nodes, z, N);
  }
  Var<T, On> x = join_rows(fine, linear(nodes, slab.weight(up_), slab.bias(up_)), N);
  x = with.normalised(pyramid_norm_, x);
  MapParts<T, On> map{.heads = shape_.heads, .mask = mask_};
  for (const StepLayer& l : layers_) {
    map.q = linear(x, slab.weight(l.queries)), map.k = linear(x, slab.weight(l.keys));
    const Var<T, On> v = linear(x, slab.weight(l.values));
    const Var<T, On> context =
        masked_attention<T, On>(map.q, map.k, v, N, shape_.heads, mask_, dropout(), nullptr, &map.lse);
    x = with.normalised(l.attention_norm, with.dropped(l.out, context, Activation::none, x), layer_epsilon);
    x = with.normalised(l.norm, with.feed_forward(l.first, l.second, x), layer_epsilon);
  }
  // The last step and its ancestors.
  Var<T, On> path;
  int own = mask_.first[1] - 1;
  for (int level = 0; level < mask_.levels; ++level) {
    const Var<T, On> node = sample_rows(x, N, mask_.first[level] + own, 1);
    path = level == 0 ? node : join_rows(path, node, N);
    if (level + 1 < mask_.levels) own = mask_.parent(own, level);
  }
  const Var<T, On> all = linear(reshape(path, Shape{N, mask_.levels * d}), slab.weight(head_));  // [N, H D]
  return {transpose(reshape(all, Shape{N * shape_.H, shape_.D}), N), affine, map};
}

#define INSTANTIATE(T, On) SAMFORMER_INSTANTIATE_FORWARD(Pyraformer, T, On)
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

// Published: Formers/Pyraformer/scripts in yuqinie98/PatchTST, look-back 96; the epoch is chosen by validation here, by
// the test error there.
ModelRow pyraformer_row() {
  return {
      .name = "pyraformer",
      .summary = "Pyraformer: attention over a pyramid of steps",
      .options =
          {attention_width(512),
           feed_forward_width(512),
           head_count(6),
           layer_count(4),
           {.name = "key-width", .otherwise = 128, .value_name = "N", .help = "columns of a head", .range = {.low = 1}},
           {.name = "bottleneck",
            .otherwise = 128,
            .value_name = "N",
            .help = "width of the convolutions that make the pyramid",
            .range = {.low = 1}},
           {.name = "inner",
            .otherwise = 3,
            .value_name = "N",
            .help = "nodes of its own level that one sees",
            .range = {.low = 1}},
           {.name = "pyramid",
            .otherwise = std::string("4,4,4"),
            .value_name = "N,..",
            .help = "children of a node of each coarser level"},
           dropout_rate(0.05),
           revin_option()},
      .defaults = step_defaults(),
      .fixed = {{"precision", "float32"}},
      .head = "predictor.linear.weight",
      .head_reads_window = false,
      .head_rows = ModelRow::HeadRows::both,
      .marks_weight = "encoder.enc_embedding.temporal_embedding.embed.weight",
      .published = [](std::string_view, std::int64_t H) -> ModelRow::Settings {
        ModelRow::Settings all = published_training();
        all.insert(all.end(), {{"lookback", "96"}, {"epochs", "5"}, {"inner", H > 336 ? "5" : "3"}});
        return all;
      },
      .make = [](Sizes s, const OptionValues& o) -> Model {
        PyraformerShape shape;
        const auto number = [&](std::string_view name) { return o.get<std::int64_t>(name); };
        shape.D = s.D, shape.L = s.L, shape.H = s.H, shape.marks = s.marks;
        shape.d = number("d-model"), shape.f = number("d-ff"), shape.heads = number("heads");
        shape.layers = number("layers"), shape.dropout = o.get<double>("dropout");
        shape.revin = o.get<bool>("revin"), shape.key_width = number("key-width");
        shape.bottleneck = number("bottleneck"), shape.inner = number("inner");
        shape.windows = windows_of(o.get<std::string>("pyramid"));
        return Pyraformer(std::move(shape));
      }};
}

}  // namespace samformer::model
