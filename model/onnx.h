// SAMformer and linear in the ONNX format (onnx.proto3 of onnx/onnx; IR 8, operators of version 17), what other runtimes
// execute. Scaler and RevIN are inside:
//
//   values    [batch, L, D]  float32, original units, the channels in the order of `channels`
//   forecast  [batch, H, T]  float32, original units, the targets
//
// T is the number of targets, `batch` is free. The nodes follow the model's own formula (model/samformer.h), not the
// order in which it is computed here; results agree to float32's rounding. Metadata: channels, targets (JSON) and the
// keys that are given.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/revin.h"
#include "model/data/series.h"
#include "model/registry.h"
#include "model/safetensors.h"

namespace samformer::model {

struct OnnxSource {
  const Model& model;
  std::span<const float> weights;  // the model's slab
  const Scaler& scaler;
  kernels::Center center;
  std::span<const std::int32_t> targets;  // channels that are forecast
  const Metadata& metadata;
};

// The file's bytes. Exit::usage for other models and for columns known ahead.
std::string to_onnx(const OnnxSource& source);

}  // namespace samformer::model
