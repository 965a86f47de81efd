// train --auto: a forecast that does not lose to a naive one.
//
// Members: naive; seasonal naive (season, and the week where the season is the day); ridge regression; SAMformer with
// --center mean and last; any other --model by --members. Each is trained on the training rows and compared by its mean
// squared error over the validation windows; fewer than 30 of these: over those of three blocks before them too, each
// by members trained on what lies before it. The run's forecast is the plain mean of the members within --within percent
// of the best one. By convexity its validation error is at most that much above the best member's. (Weights fitted to
// the validation errors are worse: Clemen, Combining forecasts, Int. J. Forecasting 1989, finds the same.)
//
// The naive and the ridge members are `linear` networks (model/linear.h) with weights in closed form, so that one
// checkpoint holds all chosen members (write_members()). Trained members keep their folders: FOLDER/member-NAME.
// With too few rows for a window in every part the forecast is the (seasonal) naive one.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tools/run/run_folder.h"

namespace samformer::tools {

// Exit::usage for settings that --auto cannot go with, and for members that there are not.
void check_automatic(const Settings& settings);

// The run of --auto in `folder`; its result, with `selection`: [{member, val_mse, chosen, weight}]. With --refit also
// final.safetensors, the chosen members fitted to all rows.
Json train_automatic(const std::filesystem::path& folder, const Settings& settings, const Experiment& experiment,
                     const ChosenDevice& device, Console& console, bool resume);

// Sets model, members, value, parameters and weights_sha256 of a document whose forecast is the mean of members.
void describe_members(Json& document, std::span<const Checkpoint> members);
// Cuts a run's checkpoints down to the member that --member names; empty: all. Exit::usage where there is none such.
void choose_member(std::vector<Checkpoint>& runs, const std::string& name);

}  // namespace samformer::tools
