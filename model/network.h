// What SAMformer and its relatives share: the pass they are asked for, what they return, linear layers in the slab and
// their initial weights. A network has
//
//   shape() with D, L, H     parameters()     has_revin()     initialise(weights, seed, init, head)
//   forward(tape, weights, gradients, input, pass) for every tape (SAMFORMER_FOR_EACH_TAPE)
//
// and is one of the alternatives of model/registry.h. `weights` and `gradients` are slabs; without gradients nothing is
// differentiated. A training pass may write to the slab's tensors that are not trained (running averages). Slabs lie
// where the tape computes.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/ops/ops.h"
#include "kernels/heads.h"
#include "model/parameters.h"

namespace samformer::model {

enum class Init { glorot, keras, pytorch };
enum class HeadInit { zero, as_init };

// Outside training: running averages instead of the batch's, no dropout. In training, what the random numbers of
// dropout and the running averages go by: the step, and which of SAM's two passes it is (0: at w, 1: at w + e).
struct Pass {
  bool training = false;
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  int number = 0;
  const kernels::Progress* progress = nullptr;  // on a device: whose step is taken instead
};

// Dropout's places in a network, in the order in which forward asks for them; none outside training.
class DropoutSites {
 public:
  DropoutSites(double rate, const Pass& pass) : rate_(pass.training ? rate : 0), pass_(pass) {}
  Dropout operator()() {
    if (rate_ == 0) return {};
    return {rate_, pass_.seed, pass_.step, pass_.number, site_++, pass_.progress};
  }

 private:
  double rate_;
  Pass pass_;
  int site_ = 0;
};

// What an attention map is made of: softmax_rows(Q K' / sqrt(d / heads) + previous), of the keys that the mask allows.
template <class T, class On = Cpu>
struct MapParts {
  Projected<T, On> q = {}, k = {};  // [maps tokens, d]; of no tape: no map
  Tensor<T> lse = {};               // the log-sum-exp, [maps heads, tokens]
  std::int64_t heads = 1;
  kernels::HeadsMask mask = {};
  Var<T, On> previous = {};  // an earlier layer's scores, [maps heads][keys][queries]; of no tape: none
};

// What the forecast's loss and inverse need.
template <class T, class On = Cpu>
struct Output {
  Projected<T, On> z;  // [R, H], before RevIN's inverse
  AffineVars<T, On> affine;
  MapParts<T, On> map = {};  // of the encoder's last attention
};

// The steps [first, last] of a window that a token stands for, the look-back's last being 0.
struct TokenSteps {
  std::int64_t first, last;
};
// A token a step, `count` of them, the last of which is `last`.
std::vector<TokenSteps> single_steps(std::int64_t count, std::int64_t last = 0);

// A linear layer's tensors `name`.weight [out, in] and `name`.bias [out].
struct Dense {
  std::int64_t out = 0, in = 0;
  std::int64_t weight = 0, bias = 0;  // offsets
};
Dense add_dense(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in, bool trained = true);

// A convolution of width 1, `name`.weight [out, in, 1]: a linear layer of every token.
Dense add_pointwise(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in);
// Layers [out, in] whose weights lie side by side, and so do their biases: one product.
void add_side_by_side(ParameterTable& table, std::initializer_list<std::pair<std::string, Dense*>> layers,
                      std::int64_t out, std::int64_t in);
// Throws Exit::usage unless `heads` divides d.
void check_heads(const char* network, std::int64_t d, std::int64_t heads);

// A norm over the d features of tokens, `name`.weight and `name`.bias [d]; a batch norm's running averages are added
// behind all that is trained.
struct NormLayer {
  std::int64_t d = 0;
  std::int64_t weight = 0, bias = 0, running_mean = 0, running_var = 0;  // offsets

  NormLayer() = default;
  NormLayer(ParameterTable& table, const std::string& name, std::int64_t d);
  void add_running(ParameterTable& table, const std::string& name);
  void initialise(float* weights) const;
};

// A layer of a transformer's encoder: attention of d columns, d -> f -> d, a norm behind each.
struct EncoderLayer {
  Dense queries, keys, values, out, first, second;  // the first three side by side
  NormLayer attention_norm, norm;
};

// Attention's layers: W_V, W_Q, W_K [d_m, in] lie side by side, and so do their biases, so that one product has them
// all.
struct AttentionLayers {
  Dense values, queries, keys;
};
AttentionLayers add_attention(ParameterTable& table, std::int64_t d_m, std::int64_t in, bool trained = true);

// Initial weights of the layer `name` by its fans, a convolution's input being all that it reads: glorot and keras
// +-sqrt(6 / (in + out)), biases zero (left as they are); pytorch +-1/sqrt(in) for both. `keras_limit`: instead of that, for Init::keras, where it is not 0. The numbers
// depend on the seed, the tensors' names and an element's index alone.
void draw_dense(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed, Init init,
                double keras_limit = 0);
// A tensor alone, +-limit, or normal.
void draw_uniform(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed, double limit);
void draw_normal(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed,
                 double deviation);
// What Keras takes for W_Q, W_K and W_V, as the authors' TensorFlow code states them: kernels of shape L x 1 x d_m.
double keras_attention_limit(std::int64_t in, std::int64_t out);

// A slab as values of a tape: leaves where gradients are wanted and the tensor is trained, else constants.
template <class T, class On>
class SlabVars {
 public:
  SlabVars(Tape<T, On>& tape, const ParameterTable& table, T* weights, T* gradients)
      : tape_(&tape), weights_(weights), gradients_(gradients), trained_(table.trained_size()) {}

  Var<T, On> operator()(std::int64_t offset, Shape shape) const {
    if (!gradients_ || offset >= trained_) return constant(offset, shape);
    return tape_->leaf(tensor(offset, shape), Tensor<T>(gradients_ + offset, shape));
  }
  Var<T, On> constant(std::int64_t offset, Shape shape) const { return tape_->constant(tensor(offset, shape)); }
  Tensor<T> tensor(std::int64_t offset, Shape shape) const { return {weights_ + offset, shape}; }
  Var<T, On> weight(const Dense& layer) const { return (*this)(layer.weight, Shape{layer.out, layer.in}); }
  Var<T, On> bias(const Dense& layer) const { return (*this)(layer.bias, Shape{layer.out}); }
  // As layers() wants it. A key's bias has no gradient, a softmax row is blind to it: its slot stays zero.
  Layer<T, On> layer(const Dense& dense, std::int64_t column = 0, bool key = false) const {
    return {weight(dense), key ? constant(dense.bias, Shape{dense.out}) : bias(dense), column};
  }
  // x W' + b, its bias left to the loss where a device does so.
  Projected<T, On> head(const Dense& dense, Var<T, On> x) const { return layers(x, {layer(dense)}); }

 private:
  Tape<T, On>* tape_;
  T* weights_;
  T* gradients_;
  std::int64_t trained_;
};

// A batch norm's averages at two offsets: SAM's first pass moves them, passes outside training go by them.
template <class T, class On>
Running<T> running_averages(const SlabVars<T, On>& slab, std::int64_t mean, std::int64_t var, Shape shape,
                            const Pass& pass, kernels::NormRule rule = {}) {
  return {slab.tensor(mean, shape),          slab.tensor(var, shape), pass.training,
          pass.training && pass.number == 0, pass.progress,           rule};
}
// The batch norm (PyTorch's) of tokens x [R, d].
template <class T, class On>
Var<T, On> batch_normalised(const SlabVars<T, On>& slab, const NormLayer& norm, Var<T, On> x, const Pass& pass) {
  const Shape features{norm.d};
  return batch_norm(x, slab(norm.weight, features), slab(norm.bias, features),
                    running_averages(slab, norm.running_mean, norm.running_var, features, pass, kernels::pytorch_norm));
}
// A bias [d] that only a batch norm reads: in training that takes it out again, and it has no gradient.
template <class T, class On>
Var<T, On> before_batch_norm(const SlabVars<T, On>& slab, std::int64_t bias, std::int64_t d, const Pass& pass) {
  return pass.training ? slab.constant(bias, Shape{d}) : slab(bias, Shape{d});
}

// RevIN's scale and shift [D] in a slab; `learned` false: there is no RevIN.
struct RevinAffine {
  bool learned = true;
  std::int64_t D = 0;
  std::int64_t gamma = 0, beta = 0;  // offsets

  RevinAffine() = default;
  RevinAffine(ParameterTable& table, std::int64_t D, bool learned);
  void initialise(float* weights) const;
  template <class T, class On>
  AffineVars<T, On> vars(const SlabVars<T, On>& slab, std::int64_t N) const {
    if (!learned) return {};
    return affine_vars(slab(gamma, Shape{D}), slab(beta, Shape{D}), 0, N);
  }
  // The windows [R, L] with scale and shift.
  template <class T, class On>
  Var<T, On> apply(const Normalised<T, On>& input, const AffineVars<T, On>& affine) const {
    const Var<T, On> u = learned ? revin_affine(input.xhat, affine) : input.xhat;
    return u.tape->part(u, Tape<T, On>::Axis::rows, 0, u.value().rows(),
                        Tensor<T>(u.value().data, Shape{u.value().rows(), u.value().cols()}));
  }
};

// Throws unless the windows are [N, D, L]; returns N.
template <class T, class On>
std::int64_t check_windows(const char* network, const Normalised<T, On>& input, std::int64_t D, std::int64_t L) {
  const Shape shape = input.xhat.value().shape;
  SAMFORMER_CHECK(shape.rank() == 3 && shape[1] == D && shape[2] == L, "{}: windows [N, {}, {}] expected, found {}",
                  network, D, L, shape.to_string());
  return shape[0];
}

// Explicit instantiations of a network's forward for every tape.
#define SAMFORMER_INSTANTIATE_FORWARD(Network, T, On) \
  template Output<T, On> Network::forward(Tape<T, On>&, T*, T*, const Normalised<T, On>&, const Pass&) const;

}  // namespace samformer::model
