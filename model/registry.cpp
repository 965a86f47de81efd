#include "model/registry.h"

#include "core/text.h"

namespace samformer::model {

// One line a model, in the order of help.
std::span<const ModelRow> models() {
  static const ModelRow rows[] = {
      samformer_row(),           //
      transformer_row(),         //
      random_transformer_row(),  //
      identity_row(),            //
      temporal_row(),            //
      linear_row(),              //
      sigma_reparam_row(),       //
      tsmixer_row(),             //
      dlinear_row(),             //
      itransformer_row(),        //
      patchtst_row(),            //
      logtrans_row(),            //
      informer_row(),            //
      pyraformer_row(),          //
      autoformer_row(),          //
      fedformer_row(),           //
  };
  return rows;
}

const ModelRow& model_row(std::string_view name) {
  std::vector<std::string> known;
  for (const ModelRow& row : models()) {
    if (row.name == name) return row;
    known.emplace_back(row.name);
  }
  throw Error(Exit::usage, fmt::format("there is no model '{}'", name)).hint(guess(name, known));
}

OptionValue option_value(std::string_view model, const OptionValues& values, std::string_view option) {
  if (const OptionValue* set = values.find(option)) return *set;
  if (const ModelOption* own = model_row(model).find_option(option)) return own->otherwise;
  for (const ModelRow& row : models()) {
    if (const ModelOption* other = row.find_option(option)) return other->otherwise;
  }
  throw Error(Exit::internal, fmt::format("no model has an option '{}'", option));
}

Model make_model(std::string_view name, Sizes sizes, const OptionValues& values) {
  const ModelRow& row = model_row(name);
  OptionValues own;
  for (const ModelOption& option : row.options) own.set(option.name, option_value(name, values, option.name));
  return row.make(sizes, own);
}

}  // namespace samformer::model
