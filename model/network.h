// What SAMformer and its relatives share: the pass they are asked for, what they return, linear layers in the slab and
// their initial weights. A network has
//
//   shape() with D, L, H     parameters()     has_revin()     initialise(weights, seed, init, head)
//   forward(tape, weights, gradients, input, pass) for float, double and Dual<double>
//
// and is one of the alternatives of model/registry.h. `weights` and `gradients` are slabs; without gradients nothing is
// differentiated. A training pass may write to the slab's tensors that are not trained (running averages).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/ops/ops.h"
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
};

// What the forecast's loss and inverse need besides z.
template <class T>
struct Output {
  Var<T> z;  // [R, H], before RevIN's inverse
  AffineVars<T> affine;
  Var<T> q = {}, k = {};  // [R, d_m]; of no tape where there is no channel attention
  Tensor<T> lse = {};     // [R]: with q and k, the attention map
};

// A linear layer's tensors `name`.weight [out, in] and `name`.bias [out].
struct Dense {
  std::int64_t out = 0, in = 0;
  std::int64_t weight = 0, bias = 0;  // offsets
};
Dense add_dense(ParameterTable& table, const std::string& name, std::int64_t out, std::int64_t in, bool trained = true);

// Attention's layers: W_V, W_Q, W_K [d_m, in] lie side by side, and so do their biases, so that one product has them
// all.
struct AttentionLayers {
  Dense values, queries, keys;
};
AttentionLayers add_attention(ParameterTable& table, std::int64_t d_m, std::int64_t in, bool trained = true);

// Initial weights of the layer `name` by its fans: glorot and keras +-sqrt(6 / (in + out)), biases zero (left as they
// are); pytorch +-1/sqrt(in) for both. `keras_limit`: instead of that, for Init::keras, where it is not 0. The numbers
// depend on the seed, the tensors' names and an element's index alone.
void draw_dense(float* weights, const ParameterTable& table, std::string_view name, std::uint64_t seed, Init init,
                double keras_limit = 0);
// What Keras takes for W_Q, W_K and W_V, as the authors' TensorFlow code states them: kernels of shape L x 1 x d_m.
double keras_attention_limit(std::int64_t in, std::int64_t out);

// A slab as values of a tape: leaves where gradients are wanted and the tensor is trained, else constants.
template <class T>
class SlabVars {
 public:
  SlabVars(Tape<T>& tape, const ParameterTable& table, T* weights, T* gradients)
      : tape_(&tape), weights_(weights), gradients_(gradients), trained_(table.trained_size()) {}

  Var<T> operator()(std::int64_t offset, Shape shape) const {
    const Tensor<T> w = tensor(offset, shape);
    if (!gradients_ || offset >= trained_) return tape_->constant(w);
    return tape_->leaf(w, Tensor<T>(gradients_ + offset, shape));
  }
  Tensor<T> tensor(std::int64_t offset, Shape shape) const { return {weights_ + offset, shape}; }
  // x W' + b.
  Var<T> apply(const Dense& layer, Var<T> x) const {
    return linear(x, (*this)(layer.weight, Shape{layer.out, layer.in}), (*this)(layer.bias, Shape{layer.out}));
  }

 private:
  Tape<T>* tape_;
  T* weights_;
  T* gradients_;
  std::int64_t trained_;
};

// RevIN's scale and shift [D] in a slab. Without RevIN the network is the same with constants 1 and 0.
struct RevinAffine {
  bool learned = true;
  std::int64_t D = 0;
  std::int64_t gamma = 0, beta = 0;  // offsets

  RevinAffine() = default;
  RevinAffine(ParameterTable& table, std::int64_t D, bool learned);
  void initialise(float* weights) const;
  template <class T>
  AffineVars<T> vars(Tape<T>& tape, const SlabVars<T>& slab) const {
    if (learned) return {slab(gamma, Shape{D}), slab(beta, Shape{D})};
    const Tensor<T> one = tape.arena().template tensor<T>(Shape{D}), zero = tape.arena().template tensor<T>(Shape{D});
    one.fill(static_cast<T>(1));
    zero.fill(T{});
    return {tape.constant(one), tape.constant(zero)};
  }
  // The windows [R, L] with scale and shift.
  template <class T>
  Var<T> apply(const Normalised<T>& input, AffineVars<T> affine) const {
    const Var<T> u = learned ? revin_affine(input.xhat, affine) : input.xhat;
    return rows(u, 0, u.value().rows());
  }
};

// Throws unless the windows are [N, D, L]; returns N.
template <class T>
std::int64_t check_windows(const char* network, const Normalised<T>& input, std::int64_t D, std::int64_t L) {
  const Shape shape = input.xhat.value().shape;
  SAMFORMER_CHECK(shape.rank() == 3 && shape[1] == D && shape[2] == L, "{}: windows [N, {}, {}] expected, found {}",
                  network, D, L, shape.to_string());
  return shape[0];
}

}  // namespace samformer::model
