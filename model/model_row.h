// A model as the program knows it: its name, the options that it has of its own, what it changes among the settings of
// training, how it is made. A model's row stands at the end of its .cpp file; model/registry.cpp lists the rows.
//
// A flag, a TOML key and an environment name are made of every option here; a model refuses the options of others.
// Errors: OptionValues::get throws Exit::internal for a name or a kind that the model's row does not have.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"

namespace samformer::model {

class Model;  // model/registry.h

struct Sizes {
  std::int64_t D, L, H;
  std::int64_t marks = 0;  // that the dates of its series have (model/data/marks.h), for networks with weights of them
};

// Allowed numbers; an open end excludes its bound. Whole numbers are at most 2^31 - 1 unless the row says otherwise.
struct Range {
  double low = 0;
  double high = 2147483647;
  bool low_open = false;
  bool high_open = false;
};

using OptionValue = std::variant<std::string, std::int64_t, double, bool>;
inline std::string text_of(const OptionValue& value) {
  return std::visit([](const auto& v) { return fmt::format("{}", v); }, value);
}

class OptionValues {
 public:
  void set(std::string_view name, OptionValue value) { values_.insert_or_assign(std::string(name), std::move(value)); }
  // Null where it was not set.
  const OptionValue* find(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }
  template <class T>
  const T& get(std::string_view name) const {
    const OptionValue* value = find(name);
    SAMFORMER_CHECK(value && std::holds_alternative<T>(*value), "the model's row has no option '{}' of this kind",
                    name);
    return std::get<T>(*value);
  }

 private:
  std::map<std::string, OptionValue, std::less<>> values_;
};

// Where a model's option has a value, a setting of training has another default.
struct Implied {
  OptionValue value;
  std::string_view setting, otherwise;
};

struct ModelOption {
  std::string_view name;
  OptionValue otherwise;             // the default; its kind is the option's
  std::string_view value_name = {};  // what help shows for the value; empty: the choices
  std::string_view help = {};
  std::vector<std::string_view> choices = {};  // empty: any
  Range range = {};
  // Other defaults for a file whose name, in lower case, begins so.
  std::vector<std::pair<std::string_view, OptionValue>> by_series = {};
  std::vector<Implied> implies = {};
};

struct ModelRow {
  using Settings = std::vector<std::pair<std::string_view, std::string_view>>;  // of training: name and text
  std::string_view name;
  std::string_view summary;
  std::vector<ModelOption> options = {};
  Settings defaults = {};
  Settings fixed = {};  // what the model is: other values are refused
  // The weight [H, in] of the layer that forecasts, in = L unless it reads something else; of a network of steps
  // [D, in], or [H D, in]. By it a checkpoint's sizes are checked before anything is made of them.
  std::string_view head = "linear_forecaster.weight";
  bool head_reads_window = true;
  enum class HeadRows { steps, channels, both } head_rows = HeadRows::steps;
  std::string_view other_head = {};  // of another variant; empty: there is none
  // The weight [d, marks] that a checkpoint's number of marks is read from; empty: there is none.
  std::string_view marks_weight = {};
  // --preset published: the settings that the authors trained it with, by the file's name (lower case, without
  // extension) and the horizon (0: auto); null: there are none of its own.
  Settings (*published)(std::string_view series, std::int64_t H) = nullptr;
  Model (*make)(Sizes, const OptionValues&) = nullptr;

  const ModelOption* find_option(std::string_view option) const {
    for (const ModelOption& o : options) {
      if (o.name == option) return &o;
    }
    return nullptr;
  }
  bool fixes(std::string_view setting) const {
    for (const auto& [name, text] : fixed) {
      if (name == setting) return true;
    }
    return false;
  }
};

// Of every model with attention.
inline ModelOption attention_width(std::int64_t otherwise = 16) {
  return {.name = "d-model", .otherwise = otherwise, .value_name = "N", .help = "attention width", .range = {.low = 1}};
}

// Of encoders.
inline ModelOption feed_forward_width(std::int64_t otherwise) {
  return {.name = "d-ff",
          .otherwise = otherwise,
          .value_name = "N",
          .help = "width inside a layer's feed-forward network",
          .range = {.low = 1}};
}
inline ModelOption head_count(std::int64_t otherwise) {
  return {.name = "heads", .otherwise = otherwise, .value_name = "N", .help = "attention heads", .range = {.low = 1}};
}
inline ModelOption layer_count(std::int64_t otherwise) {
  return {.name = "layers",
          .otherwise = otherwise,
          .value_name = "N",
          .help = "of the encoder",
          .range = {.low = 1, .high = 64}};
}
inline ModelOption dropout_rate(double otherwise) {
  return {.name = "dropout",
          .otherwise = otherwise,
          .value_name = "X",
          .help = "share of units that is left out",
          .range = {.low = 0, .high = 1, .high_open = true}};
}

// Of models that were published without RevIN.
inline ModelOption revin_option() {
  return {.name = "revin", .otherwise = false, .help = "normalise each window, with a learned scale and shift"};
}

// What the published trainings of the linear and transformer baselines have in common: plain Adam on the best epoch,
// without SAM and averaged weights.
inline ModelRow::Settings published_training() {
  return {{"rho", "0"},    {"stats-mix", "0"},    {"ema", "0"},     {"init", "pytorch"}, {"head-init", "as-init"},
          {"batch", "32"}, {"schedule", "halve"}, {"epochs", "10"}, {"patience", "3"},   {"epoch-steps", "1"},
          {"lr", "0.0001"}};
}

}  // namespace samformer::model
