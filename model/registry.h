// Any network of the program: what training, evaluation and checkpoints work with. A value; the choice between the
// networks is made once a pass. Below it the models by name: what --model and its options mean.
//
// Errors: Exit::usage for an unknown name, naming the nearest.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include "kernels/update.h"
#include "model/autoformer.h"
#include "model/dlinear.h"
#include "model/fedformer.h"
#include "model/informer.h"
#include "model/itransformer.h"
#include "model/linear.h"
#include "model/logtrans.h"
#include "model/model_row.h"
#include "model/patchtst.h"
#include "model/pyraformer.h"
#include "model/samformer.h"
#include "model/temporal.h"
#include "model/transformer.h"
#include "model/tsmixer.h"

namespace samformer::model {

class Model {
 public:
  using Network = std::variant<Samformer, Transformer, Temporal, Linear, TsMixer, DLinear, ITransformer, PatchTst,
                               LogTrans, Informer, Pyraformer, Autoformer, Fedformer>;
  template <class Net>
  requires std::constructible_from<Network, Net> Model(Net network) : network_(std::move(network)) {}

  const Network& network() const { return network_; }
  Sizes shape() const {
    return std::visit([](const auto& n) { return Sizes{n.shape().D, n.shape().L, n.shape().H}; }, network_);
  }
  // The same network with a map of so many covariates (kernels/covariates.h), zero until it is trained.
  Model with_covariates(std::int64_t features) const {
    Model with = *this;
    if (features == 0) return with;
    const Shape shape{this->shape().D, features};
    with.covariates_ = {features, ParameterTable("covariates.weight", shape, kernels::norm_block, parameters())};
    return with;
  }
  std::int64_t covariates() const { return covariates_.features; }
  const ParameterTable& parameters() const {
    if (covariates_.features > 0) return covariates_.table;
    return std::visit([](const auto& n) -> const ParameterTable& { return n.parameters(); }, network_);
  }
  bool has_revin() const {
    return std::visit([](const auto& n) { return n.has_revin(); }, network_);
  }
  // What the tokens of the output's map stand for, where it is between steps of a window; else empty.
  std::vector<TokenSteps> map_steps() const {
    return std::visit(
        [](const auto& n) -> std::vector<TokenSteps> {
          if constexpr (requires { n.map_steps(); }) return n.map_steps();
          return {};
        },
        network_);
  }
  // Between channels: the output has their map.
  bool has_attention() const {
    if (const auto* transformer = std::get_if<Transformer>(&network_)) {
      return transformer->shape().attention != Attention::identity;
    }
    return std::holds_alternative<Samformer>(network_) || std::holds_alternative<ITransformer>(network_);
  }
  // Windows are read by `project` alone: consecutive ones need not be normalised (revin_sliding).
  bool only_projects() const {
    return std::holds_alternative<Samformer>(network_) || std::holds_alternative<Linear>(network_);
  }
  // The windows as the network reads them: with the dates' marks, if it does, of its steps and some ahead; with
  // covariates, if it does.
  template <class T>
  kernels::Windows<T> seen(kernels::Windows<T> x) const {
    if (covariates_.features == 0) x.known = {};
    return std::visit(
        [x](const auto& n) mutable {
          if constexpr (requires { n.marks_ahead(); }) {
            x.marks_ahead = n.marks_ahead();
          } else {
            x.marks = 0;
          }
          return x;
        },
        network_);
  }
  // Rows of the widest matrices for each window: those of the steps, where it mixes channels; on the CPU the channels,
  // of tokens a quarter.
  std::int64_t rows_per_window(kernels::Cpu) const { return tokens() > 0 ? (tokens() + 3) / 4 : shape().D; }
  std::int64_t rows_per_window(const kernels::Cuda&) const {
    if (tokens() > 0) return tokens();
    const bool by_steps = std::holds_alternative<Temporal>(network_) || std::holds_alternative<TsMixer>(network_);
    return by_steps ? std::max(shape().D, shape().L) : shape().D;
  }
  // How the network's windows are normalised, `center` being what was asked for.
  kernels::Center center(kernels::Center center) const { return has_revin() ? center : kernels::Center::none; }
  void initialise(float* weights, std::uint64_t seed, Init init, HeadInit head) const {
    std::fill_n(weights, shift(), 0.0F);
    std::visit([&](const auto& n) { n.initialise(weights + shift(), seed, init, head); }, network_);
  }
  template <class T, class On>
  Output<T, On> forward(Tape<T, On>& tape, T* weights, T* gradients, const Normalised<T, On>& input,
                        const Pass& pass) const {
    auto output = std::visit(
        [&](const auto& n) {
          return n.forward(tape, weights + shift(), gradients ? gradients + shift() : nullptr, input, pass);
        },
        network_);
    if (covariates_.features > 0) {
      const SlabVars<T, On> slab(tape, covariates_.table, weights, gradients);
      output.z = add_covariates(output.z, slab(0, Shape{shape().D, covariates_.features}), input);
    }
    return output;
  }

 private:
  // Of a window; 0: rows are channels or steps.
  std::int64_t tokens() const {
    return std::visit(
        [](const auto& n) -> std::int64_t {
          if constexpr (requires { n.tokens(); }) return n.tokens();
          return 0;
        },
        network_);
  }
  // The map's tensor lies in front of the network's, which keep their blocks of the gradient's norm: covariates that
  // are 0 change no bit.
  struct Covariates {
    std::int64_t features = 0;
    ParameterTable table;
  };
  std::int64_t shift() const { return covariates_.features > 0 ? covariates_.table.all()[1].offset : 0; }

  Network network_;
  Covariates covariates_;
};

std::span<const ModelRow> models();
const ModelRow& model_row(std::string_view name);
// An option of the model, of another one where it has none of this name: what was set, else the default.
OptionValue option_value(std::string_view model, const OptionValues& values, std::string_view option);
Model make_model(std::string_view name, Sizes sizes, const OptionValues& values);

}  // namespace samformer::model
