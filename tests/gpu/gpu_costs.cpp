// What each GPU kernel costs at the paper's shapes (batch 32, L 512, H 96, d_m 16), counted by a PTX simulator that is
// preloaded and found with dlsym (cudasim_counter). Prints one table and checks the bounds:
//   global sectors at most 1.25 x the ideal of the same requests, and, attention apart, at most 1.25 x reading each
//   operand and writing each result once; attention's and spectral_reparam's re-read factor at most 3; shared-memory
//   wavefronts at most 1.05 x ideal; at least 85 % active lanes (the softmax of attention by products 65); no local
//   memory.
// Arguments: the channel counts (7 21 321). Exit code 1 where a bound is broken, 77 without a simulator.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/gpu.h"

using namespace samformer::kernels::gpu;

namespace {

using Counter = double (*)(const char* kernel, const char* counter);
using Mark = void (*)(const char* phase);

float* filled(std::int64_t count, float shift = 0) {
  static std::mt19937_64 engine(1);
  std::normal_distribution<float> draw(shift, 1);
  std::vector<float> host(static_cast<std::size_t>(count));
  for (float& x : host) x = draw(engine);
  auto* memory = static_cast<float*>(device_allocate(host.size() * 4, "buffer"));
  upload(memory, host.data(), host.size() * 4, nullptr);
  return memory;
}

// Operand and result bytes of a kernel, each counted once. `kernel`: a part of its name that no other one has.
struct Row {
  const char* kernel;
  double bytes;
  const char* label = nullptr;  // what is printed, where that is not the name
};

bool print_row(Counter counter, const Row& row, int D) {
  const auto count = [&](const char* name) { return counter(row.kernel, name); };
  const double sectors = count("global_load_sectors") + count("global_store_sectors");
  const double ideal = count("global_load_ideal_sectors") + count("global_store_ideal_sectors");
  const double once = row.bytes / 32;
  const double wavefronts = count("shared_wavefronts"), best = count("shared_ideal_wavefronts");
  const double lanes = count("thread_instructions") / (32 * count("warp_instructions"));
  const double local = count("local_load_bytes") + count("local_store_bytes");
  const bool rereads = std::string(row.kernel).find("attention") == 0 || std::string(row.kernel).find("spectral") == 0;
  const double shared = best > 0 ? wavefronts / best : 1;
  // Rows of 16 doubles: both halves of a warp read the same 128 bytes, which the simulator counts twice.
  const double banks = std::string(row.kernel) == "spectral_reparam_kernel" ? 1.4 : 1.05;
  // A row of 321 scores is two and a half turns of a warp.
  const double active = std::string(row.kernel).find("attention_softmax") == 0 ? 0.65 : 0.85;
  const bool good = sectors <= 1.25 * ideal && sectors <= (rereads ? 3 : 1.25) * once && shared <= banks &&
                    lanes >= active && local == 0;
  std::printf("%-28s %5d %9.0f %6.2f %6.2f %7.3f %7.1f %6.0f %8.2f  %s\n",
              row.label != nullptr ? row.label : row.kernel, D, sectors, sectors / ideal, sectors / once, shared,
              100 * lanes, local, count("model_microseconds"), good ? "" : "<--");
  return good;
}

bool costs_of(int D, Counter counter, Mark mark) {
  const int N = 32, L = 512, H = 96, key = 16, R = N * D, stride = channel_stride(D);
  const Widths widths{key, key, H};
  const int O = widths.columns();
  const std::int64_t T = 4096, count = 33328 + 513 * H + 2 * D;
  float* const series = filled(D * T, 3);
  std::vector<std::int32_t> order(N);
  for (int n = 0; n < N; ++n) order[static_cast<std::size_t>(n)] = (n * 997 + 11) % 3000;
  auto* const starts = static_cast<std::int32_t*>(device_allocate(N * 4, "starts"));
  upload(starts, order.data(), N * 4, nullptr);
  auto* const progress = static_cast<Progress*>(device_allocate(sizeof(Progress), "progress"));
  const Progress fresh;
  upload(progress, &fresh, sizeof(fresh), nullptr);
  auto* const hyper = static_cast<Hyper*>(device_allocate(sizeof(Hyper), "hyper"));
  Hyper settings;
  settings.lr = 1e-3f, settings.rho = 0.7f, settings.beta1 = 0.9f, settings.beta2 = 0.999f, settings.epsilon = 1e-8f;
  settings.ema_decay = 0.998f, settings.log_beta1 = -0.1053605156578263, settings.log_beta2 = -0.0010005003335835335;
  upload(hyper, &settings, sizeof(settings), nullptr);
  float *const xhat = filled(R * L), *const stats = filled(2 * N * stride, 3), *const moments = filled(5 * stride);
  float *const weights = filled(O * L), *const s = filled(O), *const b = filled(O), *const p = filled(R * O);
  float *const gamma = filled(D, 1), *const beta = filled(D), *const bias = filled(L + O), *const c = filled(R * key);
  float *const lse = filled(R), *const dz = filled(R * O), *const dp = filled(R * O), *const dc = filled(R * key);
  float *const mixed = filled(R * H), *const sums = filled(2 * row_sum_slots * N * stride);
  float *const loss_parts = filled(2 * loss_blocks(R)), *const column_parts = filled(projection_chunks(R) * 2 * O);
  float *const slab = filled(count), *const gradient = filled(count), *const saved = filled(count),
               *const m = filled(count);
  float *const v = filled(count, 100), *const average = filled(count),
               *const norm_parts = filled(2 * norm_blocks(count));
  const Projected in{p, O, gamma, beta, s, b};
  LossInput input{};
  input.in = in, input.mixed = mixed, input.mixed_ld = H, input.stats = stats, input.moments = moments,
  input.series = series;
  input.starts = starts, input.progress = progress, input.batch = N, input.batch_stride = N, input.channels = D;
  input.series_length = T, input.look_back = L, input.widths = widths, input.share = 0.5f, input.rise = 100;

  if (mark != nullptr) mark(("D = " + std::to_string(D)).c_str());
  revin_normalise(xhat, stats, progress, hyper, series, starts, N, N, D, T, L, Level::mean, true, nullptr);
  revin_moments(moments, stats, N, D, nullptr);
  weight_sums(s, b, {weights, weights + key * L}, {bias, bias, bias, bias, bias}, widths, L, nullptr);
  attention_forward(c, key, lse, in, N, D, widths, nullptr);
  loss(loss_parts, dz + widths.first_head(), O, sums, input, nullptr);
  attention_backward(dz, sums, dc, c, key, lse, in, N, D, widths, nullptr);
  projection_backward(dp, column_parts, dz, O, gamma, beta, N, D, O, nullptr);
  finish_gradients({weights, weights + key * L, bias, bias + 16, bias + 32, gamma, beta}, progress, column_parts, sums,
                   row_sum_slots, loss_parts, Folded::output_bias, saved, N, D, widths, L, 0, nullptr);
  gradient_norm(norm_parts, progress, gradient, slab, count, false, nullptr);
  perturb(slab, saved, progress, hyper, norm_parts, gradient, count, false, nullptr);
  update(slab, m, v, average, progress, hyper, norm_parts, saved, gradient, count, Rule::adam, 2, nullptr);
  // Of the relatives, as TSMixer (ff 64) and sigma-reparam have them.
  const int M = D * L, steps = N * L;
  float *const wide_x = filled(R * L), *const wide_y = filled(R * L), *const wide_g = filled(R * L);
  float *const norm_w = filled(M, 1), *const norm_b = filled(M), *const mean = filled(M), *const rstd = filled(M, 2);
  float *const running_mean = filled(M), *const running_var = filled(M, 9);
  float* const layer_parts = filled(2 * (layer_norm_parts(N, M) + N));
  float* const bias_parts = filled(column_sum_chunks * (L > D ? L : D));
  const Dropout dropped{0.7, 1, 0, 0, progress};
  revin_affine(wide_x, xhat, gamma, beta, N, D, L, nullptr);
  revin_affine_backward(sums, wide_g, xhat, N, D, L, nullptr);
  bias_activation(wide_y, wide_x, bias, wide_g, R, L, Activation::gelu, dropped, nullptr);
  bias_activation_backward(wide_y, wide_g, wide_x, bias, R, L, Activation::gelu, dropped, nullptr);
  add_column_sums(bias, bias_parts, wide_x, L, R, L, nullptr);
  add_column_sums(bias, bias_parts, wide_x, D, steps, D, nullptr);
  transpose(wide_y, wide_x, nullptr, N, D, L, nullptr);
  transpose(wide_y, wide_x, wide_g, N, L, D, nullptr);
  batch_norm(wide_y, mean, rstd, running_mean, running_var, progress, wide_x, norm_w, norm_b, N, M, nullptr);
  batch_norm_backward(wide_y, norm_w, norm_b, wide_g, wide_x, mean, rstd, running_var, N, M, nullptr);
  layer_norm(wide_y, mean, rstd, layer_parts, wide_x, norm_w, norm_b, N, M, nullptr);
  layer_norm_backward(wide_y, norm_w, norm_b, layer_parts, wide_g, wide_x, mean, rstd, running_var, N, M, nullptr);
  std::vector<SpectralLayer> layers;
  std::vector<SpectralGradient> layer_gradients;
  for (int i = 0; i < 4; ++i) {
    const int out = i < 3 ? key : L, in = i < 3 ? L : key;
    layers.push_back({filled(key * L), filled(1, 1), filled(key * L), filled(1), filled(L), filled(L), out, in});
    layer_gradients.push_back({filled(key * L), filled(1), filled(key * L)});
  }
  spectral_reparam(layers.data(), 4, nullptr);
  spectral_reparam_backward(layer_gradients.data(), layers.data(), 4, nullptr);
  // Attention by products: where it is used, full values of many channels.
  const Widths full{H, key, H};
  const auto floats = AttentionMemory::floats(N, D, full);
  if (D >= 64) {
    float *const wide_p = filled(R * full.columns()), *const wide_dz = filled(R * full.columns());
    float* const columns = filled(full.columns());
    const AttentionMemory memory{filled(floats.operands), filled(floats.probabilities), filled(floats.probabilities)};
    const Projected wide_in{wide_p, full.columns(), gamma, beta, columns, columns};
    const Blas blas = blas_create(nullptr, false);
    attention_forward_products(blas, memory, mixed, H, wide_in, N, D, full, nullptr);
    attention_backward_products(blas, memory, wide_dz, sums, mixed, H, wide_in, N, D, full, nullptr);
    synchronise(nullptr);
    blas_destroy(blas);
  }
  synchronise(nullptr);

  const double f = 4, rows = R, wide = O;
  const double statistics = 2 * N * stride * f, column = wide * f, row_sums = 2 * N * stride * f;
  std::vector<Row> table = {
      {"revin_normalise", 2 * rows * L * f + statistics},
      {"revin_moments", statistics + D * 20},
      {"weight_sums", wide * L * f + 2 * column + L * f},
      {"attention_forward", rows * (3 * key + key + 1) * f},
      {"loss", rows * 4 * H * f + statistics + row_sums + D * (8 + 2) * f + 2 * H * f},
      {"attention_backward", rows * (3 * key + 2 * key + 1 + 3 * key) * f + 2 * row_sums},
      {"projection_backward", rows * 2 * wide * f + projection_chunks(R) * 2 * column},
      {"finish_gradients", 2 * wide * L * f + projection_chunks(R) * 2 * column + 3 * row_sums + L * f},
      {"gradient_norm", static_cast<double>(count) * f},
      {"perturb", 4.0 * static_cast<double>(count) * f},
      {"update", 9.0 * static_cast<double>(count) * f},
      {"revin_affine_kernel", 2 * rows * L * f},
      {"revin_affine_backward", 2 * rows * L * f + row_sums},
      {"bias_activation_kernel<false>", 3 * rows * L * f},
      {"bias_activation_kernel<true>", 3 * rows * L * f},
      {"column_parts_kernel<4>", (rows + column_sum_chunks) * L * f},
      {D % 4 == 0 ? "column_parts_kernel<4>" : "column_parts_kernel<1>", (rows * L + column_sum_chunks * D) * f},
      {"column_totals", (column_sum_chunks + 2) * (L + D) * f},
      {"transpose_kernel<true>", 2 * rows * L * f},
      {"transpose_kernel<false>", 3 * rows * L * f},
      {"Statistics)0", (2 * rows * L + 8 * M) * f, "batch_norm"},
      {"norm_backward_kernel<false>", (4 * rows * L + 7 * M) * f},
      {"sample_parts_kernel<false>", (rows * L + 2 * layer_norm_parts(N, M)) * f},
      {"sample_parts_kernel<true>", (2 * rows * L + M + 2 * layer_norm_parts(N, M)) * f},
      {"Statistics)2", (2 * rows * L + 2 * M) * f, "layer_norm"},
      {"norm_backward_kernel<true>", (4 * rows * L + 5 * M) * f},
      {"spectral_reparam_kernel", 4 * (2 * key * L + key + L) * f},
      {"spectral_reparam_backward", 4 * (4 * key * L + key + L) * f},
  };
  if (D >= 64) {
    const double operands = 4.0 * static_cast<double>(floats.operands);
    const double scores = 4.0 * static_cast<double>(floats.probabilities);
    table.push_back({"attention_operands", 2 * operands});
    table.push_back({"attention_softmax_kernel", 2 * scores});
    table.push_back({"attention_softmax_backward", 3 * scores});
    table.push_back({"attention_row_sums", 2 * operands + 2 * row_sums});
  }
  bool good = true;
  for (const Row& row : table) good = print_row(counter, row, D) && good;
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const auto counter = reinterpret_cast<Counter>(dlsym(RTLD_DEFAULT, "cudasim_counter"));
  const auto mark = reinterpret_cast<Mark>(dlsym(RTLD_DEFAULT, "cudasim_mark"));
  if (counter == nullptr) {
    std::printf("skipped: no PTX simulator is preloaded\n");
    return 77;
  }
  std::vector<int> channels;
  for (int i = 1; i < argc; ++i) channels.push_back(std::atoi(argv[i]));
  if (channels.empty()) channels = {7, 21, 321};
  std::printf("%-28s %5s %9s %6s %6s %7s %7s %6s %8s\n", "kernel", "D", "sectors", "/ideal", "/once", "shared",
              "lanes %", "local", "model us");
  bool good = true;
  for (const int D : channels) good = costs_of(D, counter, mark) && good;
  const double findings = counter("", "findings");
  std::printf("findings: %.0f\n", findings);
  return good && findings == 0 ? 0 : 1;
}
