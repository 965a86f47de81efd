// What a training notes beside its losses at the end of an epoch: sharpness and attention (--track-sharpness N), and
// TensorBoard's event file (--tensorboard), which is written anew from metrics.jsonl, so that a resumed run's is whole.
#pragma once

#include <filesystem>
#include <span>

#include "tools/cli/document.h"
#include "tools/run/experiment.h"

namespace samformer::tools {

// Adds lambda_max, lambda_max_residual, attention_entropy and identity_distance of the weights to an epoch's line every
// N epochs, and unix_time where TensorBoard needs it. Throws Error(Exit::interrupted) after a signal.
void track(Json& line, const Settings& settings, const Experiment& experiment, const model::Model& model,
           std::span<const float> weights);
// folder/events.out.tfevents.samformer from folder/metrics.jsonl; nothing without --tensorboard.
void write_tensorboard(const std::filesystem::path& folder, const Settings& settings);

// The complete lines of metrics.jsonl, with their epoch and phase; empty where it is missing. Throws Error(Exit::data).
std::vector<Json> read_metrics(const std::filesystem::path& file);

}  // namespace samformer::tools
