// `samformer doctor`: what this machine has, how fast it is, and a self-test of a few seconds. Each line is OK, WARN
// (works, but not as it should) or FAIL; one FAIL makes the exit code 6.
// JSON: schema_version, version, command, ok, seconds, lines [{status, name, message, numbers where measured}]; where a
// line fails also `error`, as every failure has.
#include <omp.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/dual.h"
#include "core/io/file.h"
#include "core/random.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/onednn.h"
#include "kernels/gemm.h"
#include "model/data/synth.h"
#include "tools/cli/document.h"
#include "tools/commands/commands.h"
#include "tools/run/datasets.h"
#include "tools/run/experiment.h"

namespace samformer::tools {
namespace {

namespace fs = std::filesystem;

struct Line {
  std::string status, name, message;
  Json numbers = Json::object();
};

Line line(bool ok, std::string name, std::string message, Json numbers = Json::object()) {
  return {ok ? "OK" : "FAIL", std::move(name), std::move(message), std::move(numbers)};
}
Line warn_unless(bool fine, std::string name, std::string message, Json numbers = Json::object()) {
  return {fine ? "OK" : "WARN", std::move(name), std::move(message), std::move(numbers)};
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string text; std::getline(info, text);) {
    const std::size_t colon = text.find(": ");
    if (text.starts_with("model name") && colon != std::string::npos) return text.substr(colon + 2);
  }
  return "unknown processor";
}

// Seconds of the fastest of the calls that fit into 0.2 s: other programs only ever make one slower.
template <class Work>
double fastest_seconds(const Work& work) {
  double fastest = std::numeric_limits<double>::infinity();
  const double start = monotonic_seconds();
  for (int calls = 0; calls < 4 || monotonic_seconds() - start < 0.2; ++calls) {
    const double begin = monotonic_seconds();
    work();
    fastest = std::min(fastest, monotonic_seconds() - begin);
  }
  return fastest;
}

// GFLOP/s of a product of windows with weights, C's numbers all being K / 8, and C where they are not.
double product_speed(int threads, std::int64_t M, std::int64_t N, std::int64_t K, std::vector<float>& c,
                     const std::function<void()>& multiply) {
  omp_set_num_threads(threads);
  const double speed = 2e-9 * static_cast<double>(M * N * K) / fastest_seconds(multiply);
  const auto expected = 0.125f * static_cast<float>(K);
  if (std::ranges::any_of(c, [=](float x) { return x != expected; })) return 0;
  return speed;
}

// The two products that a pass of the default step consists of: 32 windows of 7 channels, L 512, H 96.
Line gemm_speed(const char* name, int threads, bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N,
                std::int64_t K) {
  const std::vector<float> a(static_cast<std::size_t>(M * K), 0.5f), b(static_cast<std::size_t>(K * N), 0.25f);
  std::vector<float> c(static_cast<std::size_t>(M * N));
  const auto multiply = [&] {
    kernels::gemm(transpose_a, transpose_b, M, N, K, a.data(), transpose_a ? M : K, b.data(), transpose_b ? K : N,
                  c.data(), N, false);
  };
  const double one = product_speed(1, M, N, K, c, multiply), all = product_speed(threads, M, N, K, c, multiply);
  if (one == 0 || all == 0) return line(false, name, "the product is wrong");
  constexpr double slow = 5;  // an old core does more
  const std::string text =
      fmt::format("[{} x {}] [{} x {}]: {:.0f} GFLOP/s with 1 thread, {:.0f} with {}{}", M, K, K, N, one, all, threads,
                  all >= 0.8 * one ? ""
                                   : "; threads wait for processors that other programs use: "
                                     "fewer --threads or OMP_WAIT_POLICY=passive help");
  return warn_unless(one >= slow && all >= 0.8 * one, name, text,
                     {{"gflops_one_thread", one}, {"gflops", all}, {"threads", threads}});
}

// The first of them with --precision bf16, the weights packed each time, against float32.
Line bf16_speed(const char* name, int threads, std::int64_t M, std::int64_t N, std::int64_t K) {
  if (!kernels::bf16_available()) return line(true, name, "not available: the CPU's AVX512-BF16");
  const std::vector<float> a(static_cast<std::size_t>(M * K), 0.5f), b(static_cast<std::size_t>(K * N), 0.25f);
  std::vector<float> c(static_cast<std::size_t>(M * N));
  const auto room = [](std::int64_t words) { return std::vector<std::uint32_t>(static_cast<std::size_t>(words)); };
  std::vector<std::uint32_t> windows = room(kernels::bf16_words(M, K)), weights = room(kernels::bf16_words(N, K));
  kernels::bf16_rows(windows.data(), a.data(), M, K);
  const double bf16 = product_speed(threads, M, N, K, c, [&] {
    kernels::bf16_panels_of_rows(weights.data(), b.data(), N, K);
    kernels::bf16_gemm(M, N, K, windows.data(), weights.data(), c.data(), N, false,
                       [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
  });
  const double float32 = product_speed(
      threads, M, N, K, c, [&] { kernels::gemm(false, true, M, N, K, a.data(), K, b.data(), K, c.data(), N, false); });
  if (bf16 == 0 || float32 == 0) return line(false, name, "the product is wrong");
  return warn_unless(bf16 > float32, name,
                     fmt::format("[{} x {}] [{} x {}]: {:.0f} GFLOP/s with {} by {}, {:.1f} times float32{}", M, K, K,
                                 N, bf16, threads, kernels::matrix_units_available() ? "AMX-BF16" : "AVX512-BF16",
                                 bf16 / float32, bf16 > float32 ? "" : ": --precision float32 is faster here"),
                     {{"gflops", bf16}, {"threads", threads}, {"over_float32", bf16 / float32}});
}

Line copy_speed() {
  constexpr std::int64_t block = 1 << 20, blocks = 64;
  const std::vector<char> from(block * blocks, 1);
  std::vector<char> to(from.size());
  const char* const source = from.data();
  char* const target = to.data();
  const double seconds = fastest_seconds([&] {
    kernels::parallel_for<float>(blocks,
                                 [=](std::int64_t i) { std::memcpy(target + i * block, source + i * block, block); });
  });
  const double speed = 2e-9 * static_cast<double>(from.size()) / seconds;
  return warn_unless(speed >= 1, "memory copy", fmt::format("{:.1f} GB/s, read and written", speed),
                     {{"gigabytes_per_second", speed}});
}

// The training loss on a few windows; `gradients` null: the value alone.
template <class T>
T training_loss(const model::Samformer& model, std::vector<T>& weights, T* gradients, const std::vector<T>& series) {
  const auto [value, D, L, H, d_m] = model.shape();
  const std::vector<std::int32_t> starts = {0, 3, 7, 11}, targets = {0, 2};
  const auto rows = static_cast<std::int64_t>(series.size()) / D;
  const kernels::Windows<T> x{series.data(), rows, starts.data(), static_cast<std::int64_t>(starts.size()), D};
  kernels::Windows<T> y = x;
  y.base += L;
  Arena<> arena;
  Tape<T> tape(arena);
  const Normalised<T> input = revin(tape, x, L, kernels::Center::mean, true);
  const auto output = model.forward(tape, weights.data(), gradients, input, model.association(x.N * D));
  const Truth<T> truth{y, targets.data(), static_cast<std::int64_t>(targets.size())};
  const Var<T> loss = forecast_loss(output.z, output.affine, input, truth, 0.5);
  if (gradients) tape.backward(loss);
  return loss.value().data[0];
}

// <gradient, v> by the tape backward against the directional derivative by dual numbers forward, over sum |g_i v_i|.
double adjoint_error(model::Value value) {
  const model::Samformer model({value, 3, 24, 5, 4});
  const auto normals = [](std::size_t count, std::uint32_t sub) {
    std::vector<double> numbers(count);
    for (std::size_t i = 0; i < count; ++i) numbers[i] = normal_pair(random_block(1, 0, sub, i))[0];
    return numbers;
  };
  std::vector<float> initial(static_cast<std::size_t>(model.parameters().slab_size()));
  model.initialise(initial.data(), 1, model::Init::pytorch, model::HeadInit::as_init);
  std::vector<double> weights(initial.begin(), initial.end()), gradient(weights.size());
  const std::vector<double> series = normals(3 * 40, 1), direction = normals(weights.size(), 2);
  training_loss(model, weights, gradient.data(), series);
  std::vector<Dual<double>> moving(weights.size());
  for (std::size_t i = 0; i < moving.size(); ++i) moving[i] = {weights[i], direction[i]};
  const std::vector<Dual<double>> constant(series.begin(), series.end());
  double difference = -training_loss<Dual<double>>(model, moving, nullptr, constant).d, scale = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    difference += gradient[i] * direction[i];
    scale += std::abs(gradient[i] * direction[i]);
  }
  return std::abs(difference) / scale;
}

Line gradients() {
  const double low_rank = adjoint_error(model::Value::low_rank), full = adjoint_error(model::Value::full);
  return line(low_rank <= 1e-12 && full <= 1e-12, "gradients",
              fmt::format("adjoint identity of SAMformer, low-rank and full: errors {:.1e}, {:.1e}", low_rank, full),
              {{"low_rank_error", low_rank}, {"full_error", full}});
}

// Weights after one SAM step of the default model on the built-in series.
std::vector<float> one_step(int threads) {
  omp_set_num_threads(threads);
  const model::Series series = model::make_seasonal({.rows = 1000});
  const std::vector<float> values = model::standardise(series, model::fit_scaler(series, {0, series.rows}));
  std::vector<std::int32_t> starts, targets;
  for (std::int32_t i = 0; i < 32; ++i) starts.push_back(11 * i);
  for (std::int32_t d = 0; d < series.width(); ++d) targets.push_back(d);
  const optim::Problem problem{values, series.rows, series.width(), targets};
  const model::Samformer model(model::SamformerShape{.D = problem.D});
  optim::Training<float> training(model, {});
  model.initialise(training.weights().data(), 1, model::Init::glorot, model::HeadInit::as_init);
  training.step(problem.windows(starts), problem.truth(starts, model.shape().L), 1e-3);
  return {training.weights().begin(), training.weights().end()};
}

Line same_bits(int threads) {
  const int many = std::max(threads, 2);
  const std::vector<float> one = one_step(1), all = one_step(many);
  omp_set_num_threads(threads);
  const bool same = one.size() == all.size() && std::memcmp(one.data(), all.data(), one.size() * sizeof(float)) == 0;
  return line(
      same, "same bits",
      fmt::format("one SAM step with 1 and with {} threads: {}", many, same ? "the same weights" : "they differ"));
}

Line replace_file() {
  std::error_code error;
  const fs::path place = fs::temp_directory_path(error);
  if (error) return line(false, "files", "no folder for temporary files; set TMPDIR to one that can be written to");
  std::string folder = (place / "samformer-doctor-XXXXXX").string(), found;
  if (!::mkdtemp(folder.data())) {
    return line(false, "files", fmt::format("cannot create a folder in {}: {}", place.string(), std::strerror(errno)));
  }
  try {
    const fs::path file = fs::path(folder) / "file";
    write_atomic(file, "before");
    write_atomic(file, "after");
    found = read_file(file);
  } catch (const Error& failure) {
    found = failure.what();
  }
  fs::remove_all(folder, error);
  return line(found == "after", "files",
              fmt::format("write, flush, rename in {}{}", place.string(), found == "after" ? "" : ": " + found));
}

// One line a GPU, or one that says why there is none.
std::vector<Line> graphics() {
  std::string none;
  const std::vector<optim::Gpu> all = optim::list_gpus(none);
  if (all.empty()) {
    // Without a GPU that is as it should be; with its driver's device file it is not.
    return {warn_unless(!fs::exists("/dev/nvidiactl"), "cuda", fmt::format("not available: {}", none))};
  }
  std::vector<Line> lines;
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::string why = all[i].why_not;
    if (why.empty()) {
      try {
        optim::open_gpu(static_cast<int>(i), false);
      } catch (const Error& error) {
        why = error.what();
      }
    }
    lines.push_back(warn_unless(why.empty(), fmt::format("cuda:{}", i),
                                fmt::format("{}available: {}{}{}", why.empty() ? "" : "not ", all[i].description,
                                            why.empty() ? "" : "; ", why)));
  }
  return lines;
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

}  // namespace

int doctor(const Invocation& invocation) {
  const double begin = monotonic_seconds();
  const int threads = thread_count(invocation.settings), processors = omp_get_num_procs();
  omp_set_num_threads(threads);

  std::vector<Line> lines;
  // A check that throws has failed; the others still run, but for want of memory.
  const auto check = [&](const char* name, const auto& work) {
    invocation.console.status(fmt::format("checking: {}", name));
    try {
      lines.push_back(work());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      lines.push_back(line(false, name, error.what()));
    }
  };
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  lines.push_back(
      line(true, "cpu", fmt::format("available: {}, {:.1f} GiB of memory", processor_name(), memory / (1 << 30))));
  try {
    for (Line& gpu : graphics()) lines.push_back(std::move(gpu));
  } catch (const Error& error) {
    lines.push_back(warn_unless(false, "cuda", fmt::format("not available: {}", error.what())));
  }
  lines.push_back(warn_unless(kernels::isa() != kernels::Isa::baseline, "CPU features",
                              fmt::format("kernels run as {}", kernels::isa_name())));
  lines.push_back(warn_unless(threads <= processors, "threads",
                              fmt::format("{} of {} processors{}", threads, processors,
                                          threads > processors ? "; more threads than processors are slower" : ""),
                              {{"threads", threads}, {"processors", processors}}));
  lines.push_back(line(true, "oneDNN", kernels::gemm_library_version()));
  lines.push_back(line(true, "OpenMP", fmt::format("specification {}", _OPENMP)));
  lines.push_back(line(true, "OpenSSL", OpenSSL_version(OPENSSL_VERSION)));
  lines.push_back(line(true, "libcurl", libcurl_version()));
  lines.push_back(line(true, "compiler", compiler()));
  constexpr std::int64_t R = 32 * 7, L = 512, O = 3 * 16 + 96;
  check("product forward", [&] { return gemm_speed("product forward", threads, false, true, R, O, L); });
  check("product backward", [&] { return gemm_speed("product backward", threads, true, false, O, L, R); });
  check("product bf16", [&] { return bf16_speed("product bf16", threads, R, O, L); });
  check("memory copy", copy_speed);
  check("gradients", gradients);
  check("same bits", [&] { return same_bits(threads); });
  check("files", replace_file);
  invocation.console.status("");

  const double seconds = monotonic_seconds() - begin;
  std::vector<std::string> failed;
  for (const Line& l : lines) {
    if (l.status == "FAIL") failed.push_back(l.name);
  }
  const std::string verdict = failed.empty() ? fmt::format("this machine can run samformer ({:.1f} s)", seconds)
                                             : fmt::format("failed: {}", join(failed, ", "));
  if (invocation.settings.json) {
    Json rows = Json::array();
    for (const Line& l : lines) {
      rows.push_back({{"status", l.status}, {"name", l.name}, {"message", l.message}});
      rows.back().update(l.numbers);
    }
    Json result = document("doctor");
    result.update(Json{{"ok", failed.empty()}, {"seconds", seconds}, {"lines", rows}});
    if (!failed.empty()) {
      result["error"] = error_json(Error(Exit::check, verdict).hint("the lines that FAIL say why"));
    }
    print(result, invocation.out);
  } else {
    Table table("lll", {"", "check", "found"});
    for (const Line& l : lines) table.row({l.status, l.name, l.message});
    invocation.out << table.str() << '\n' << verdict << '\n';
  }
  return failed.empty() ? 0 : static_cast<int>(Exit::check);
}

Command doctor_command() {
  return {.name = "doctor",
          .handler = doctor,
          .takes = {"threads"},
          .summary = "checks this machine: devices, libraries, speed, a ten-second self-test"};
}

}  // namespace samformer::tools
