// What the kernels of one training step cost at the paper's shapes (batch 32, L 512, H 96, d_m 16), counted by a PTX
// simulator that is preloaded and found with dlsym (cudasim_counter). The steps are the tape's own, and so are the
// bytes that an operation says it costs, each operand read and each result written once (core/profile.h). Prints one
// table and checks:
//   global sectors at most 1.25 x the ideal of the same requests, and at most 1.25 x the bytes of the operations that
//   the kernel computes, or of which it is a part (attention and spectral_reparam 3 x, bias_activation 1.5 x);
//   shared-memory wavefronts at most 1.05 x ideal; at least 85 % active lanes (the softmax of attention by products
//   65); no local memory.
// Arguments: the channel counts (7 21 321). Exit code 1 where a bound is broken, 77 without a simulator.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "optim/device_model.h"

namespace samformer::optim {
namespace {

using Counter = double (*)(const char* kernel, const char* counter);
using Mark = void (*)(const char* phase);

struct Row {
  const char* kernel;  // a part of its name that no other one has
  std::vector<const char*> operations = {};
  double rereads = 1.25, banks = 1.05, lanes = 0.85;
};
const Row of_samformer[] = {
    {"revin_normalise", {"revin"}},
    {"revin_moments", {"moments"}},
    {"weight_sums", {"projection"}},
    {"attention_forward", {"attention"}, 3},
    {"attention_backward", {"attention_backward"}, 3},
    {"loss_kernel", {"loss_backward"}},
    {"projection_backward", {"projection_backward"}},
    {"finish_gradients", {"projection_backward"}},
    {"gradient_norm", {"gradient_norm"}},
    {"perturb", {"perturb"}},
    {"update", {"update"}},
};
const Row of_relatives[] = {
    {"revin_affine_kernel", {"revin_affine"}},
    {"revin_affine_backward", {"revin_affine_backward"}},
    // Rows of 321 values are no whole sectors, and the bias is read again for each.
    {"bias_activation_kernel<false>", {"bias_activation", "add", "activation"}, 1.5},
    {"bias_activation_kernel<true>", {"bias_activation_backward", "add_backward", "activation_backward"}, 1.5},
    {"column_parts_kernel<1>"},
    {"column_parts_kernel<4>"},
    {"column_totals"},
    {"transpose_kernel", {"transpose", "transpose_backward"}},
    {"Statistics)0", {"batch_norm"}},
    {"norm_backward_kernel<false>", {"batch_norm_backward"}},
    {"sample_parts_kernel<false>", {"layer_norm"}},
    {"sample_parts_kernel<true>", {"layer_norm_backward"}},
    {"Statistics)2", {"layer_norm"}},
    {"norm_backward_kernel<true>", {"layer_norm_backward"}},
    // Rows of 16 doubles: both halves of a warp read the same 128 bytes, which the simulator counts twice.
    {"spectral_reparam_kernel", {"spectral_reparam"}, 3, 1.4},
    {"spectral_reparam_backward", {"spectral_reparam_backward"}, 3},
};
const Row of_full_values[] = {
    // A row of 321 scores is two and a half turns of a warp.
    {"attention_operands"},
    {"attention_softmax_kernel", {}, 3, 1.05, 0.65},
    {"attention_softmax_backward", {}, 3, 1.05, 0.65},
    {"attention_row_sums"},
};

bool print_row(Counter counter, const Row& row, const Profile& step, const char* model, std::int64_t D) {
  const auto count = [&](const char* name) { return counter(row.kernel, name); };
  if (count("launches") == 0) return true;
  const double sectors = count("global_load_sectors") + count("global_store_sectors");
  const double ideal = count("global_load_ideal_sectors") + count("global_store_ideal_sectors");
  double bytes = 0;
  for (const Profile::Entry& e : step.entries) {
    if (std::ranges::count(row.operations, e.name) > 0) bytes += e.cost.bytes;
  }
  const double once = bytes > 0 ? 32 * sectors / bytes : 0;
  const double best = count("shared_ideal_wavefronts"), shared = best > 0 ? count("shared_wavefronts") / best : 1;
  const double lanes = count("thread_instructions") / (32 * count("warp_instructions"));
  const double local = count("local_load_bytes") + count("local_store_bytes");
  const bool good =
      sectors <= 1.25 * ideal && once <= row.rereads && shared <= row.banks && lanes >= row.lanes && local == 0;
  std::printf("%-20s %4d %-30s %7.0f %9.0f %6.2f %6.2f %7.3f %7.1f %6.0f %8.2f  %s\n", model, static_cast<int>(D),
              row.kernel, count("launches"), sectors, sectors / ideal, once, shared, 100 * lanes, local,
              count("model_microseconds"), good ? "" : "<--");
  return good;
}

bool costs_of(const char* name, const model::Model& model, std::span<const Row> rows, Device& device, Counter counter,
              Mark mark) {
  constexpr std::int64_t length = 4096, batch = 32;
  const std::int64_t D = model.shape().D;
  std::vector<float> values(static_cast<std::size_t>(D * length));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(0.1f * static_cast<float>(i)) + static_cast<float>(i * 7919 % 1000) / 1000;
  }
  std::vector<std::int32_t> targets, order;
  for (std::int32_t d = 0; d < D; ++d) targets.push_back(d);
  for (std::int32_t n = 0; n < batch; ++n) order.push_back((n * 997 + 11) % 3000);
  const Problem problem{values, length, D, targets};
  const std::unique_ptr<DeviceModel> loaded = device.load(model, problem, kernels::Center::mean);
  Training<float> training(model, {});
  model.initialise(training.weights().data(), 1, model::Init::glorot, model::HeadInit::as_init);
  training.start_average();
  Profile step;
  loaded->set_profile(&step, true);
  mark((name + std::to_string(D)).c_str());
  loaded->train(training, order, 0, batch, 1e-3, [](std::int64_t) {});
  bool good = true;
  for (const Row& row : rows) good = print_row(counter, row, step, name, D) && good;
  return good;
}

int check_costs(const std::vector<std::int64_t>& channels) {
  const auto counter = reinterpret_cast<Counter>(dlsym(RTLD_DEFAULT, "cudasim_counter"));
  const auto mark = reinterpret_cast<Mark>(dlsym(RTLD_DEFAULT, "cudasim_mark"));
  if (counter == nullptr || mark == nullptr) {
    std::printf("skipped: no PTX simulator is preloaded\n");
    return 77;
  }
  const std::unique_ptr<Device> device = open_gpu(0, false);
  std::printf("%-20s %4s %-30s %7s %9s %6s %6s %7s %7s %6s %8s\n", "model", "D", "kernel", "runs", "sectors", "/ideal",
              "/once", "shared", "lanes %", "local", "model us");
  bool good = true;
  const auto run = [&](const char* name, const model::Model& model, std::span<const Row> rows) {
    good = costs_of(name, model, rows, *device, counter, mark) && good;
  };
  using model::Value, kernels::Activation;
  for (const std::int64_t D : channels) {
    run("samformer", model::Samformer({Value::low_rank, D}), of_samformer);
    if (D >= 64) run("samformer full", model::Samformer({Value::full, D}), of_full_values);
    run("sigma-reparam", model::Transformer({.D = D, .attention = model::Attention::sigma_reparam}), of_relatives);
    run("tsmixer", model::TsMixer({.D = D, .blocks = 1, .activation = Activation::gelu}), of_relatives);
    run("tsmixer layer norm", model::TsMixer({.D = D, .blocks = 1, .norm = model::Norm::layer}), of_relatives);
  }
  const double findings = counter("", "findings");
  std::printf("findings: %.0f\n", findings);
  return good && findings == 0 ? 0 : 1;
}

}  // namespace
}  // namespace samformer::optim

int main(int argc, char** argv) {
  std::vector<std::int64_t> channels;
  for (int i = 1; i < argc; ++i) channels.push_back(std::stoll(argv[i]));
  if (channels.empty()) channels = {7, 21, 321};
  return samformer::optim::check_costs(channels);
}
