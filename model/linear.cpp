#include "model/registry.h"

namespace samformer::model {

ModelRow linear_row() {
  return {.name = "linear",
          .summary = "RevIN and one linear layer on time",
          .make = [](Sizes s, const OptionValues&) -> Model {
            return Linear({s.D, s.L, s.H});
          }};
}

}  // namespace samformer::model
