// No training step after the first allocates, nor a batch of an evaluation. The malloc family is interposed, operator
// new included; a call with a frame of the oneDNN library on its stack is the library's own and counted apart.
#include <gtest/gtest.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SAMFORMER_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SAMFORMER_SANITIZED
#endif

#ifdef SAMFORMER_SANITIZED
TEST(Allocation, NoneAfterTheFirstStep) { GTEST_SKIP() << "a sanitizer has its own malloc"; }
#else

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "optim/evaluator.h"
#include "optim/step.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<long> ours{0}, library{0};
thread_local bool inside = false;  // backtrace() may allocate
std::atomic<void*> culprit{nullptr};

void count() {
  if (!counting.load(std::memory_order_relaxed) || inside) return;
  inside = true;
  void* frames[32];
  const int depth = backtrace(frames, 32);
  bool in_library = false;
  for (int i = 0; i < depth; ++i) {
    Dl_info info;
    in_library |= dladdr(frames[i], &info) != 0 && info.dli_fname && std::strstr(info.dli_fname, "libdnnl");
  }
  if (in_library) {
    ++library;
  } else {
    ++ours;
    culprit = frames[2];
  }
  inside = false;
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) noexcept {
  count();
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) noexcept {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) noexcept {
  count();
  return __libc_realloc(old, size);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t size) noexcept {
  count();
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : ENOMEM;
}
}

namespace samformer::optim {
namespace {

struct Counts {
  long ours, library;
};

// Of ten steps after the first, a last short batch among them.
Counts counts_of(const StepSettings& settings, const model::Model& model, int threads) {
  omp_set_num_threads(threads);
  constexpr std::int64_t rows = 400, marks = 4;
  const auto [D, L, H, none] = model.shape();
  Training<float> training(model, settings);
  model.initialise(training.weights().data(), 1, model::Init::glorot, model::HeadInit::as_init);
  training.start_average();
  std::vector<float> values(static_cast<std::size_t>((D + marks) * rows));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(std::sin(0.1 * static_cast<double>(i)));
  std::vector<std::int32_t> targets(static_cast<std::size_t>(D)), starts(32);
  std::iota(targets.begin(), targets.end(), 0);
  std::iota(starts.begin(), starts.end(), 5);
  const Problem problem{values, rows, D, targets, {}, marks};
  const std::span<const std::int32_t> batch = starts;
  const auto step = [&, L = L](std::span<const std::int32_t> part) {
    training.step(problem.windows(part), problem.truth(part, L), 1e-3);
  };
  step(batch);
  ours = library = 0;
  counting = true;
  for (int i = 0; i < 10; ++i) step(i == 5 ? batch.first(9) : batch);
  counting = false;
  return {ours, library};
}

// Of evaluations after the first: their sums apart (three vectors), whatever the number of batches.
TEST(Allocation, NoneInEvaluationBatches) {
  void* frames[4];
  backtrace(frames, 4);
  constexpr std::int64_t D = 3, L = 60, H = 10, rows = 2500;
  std::vector<float> values(static_cast<std::size_t>(D * rows));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(std::sin(0.1 * static_cast<double>(i)));
  std::vector<std::int32_t> targets(D), starts(static_cast<std::size_t>(rows - L - H + 1));
  std::iota(targets.begin(), targets.end(), 0);
  std::iota(starts.begin(), starts.end(), 0);
  const Problem problem{values, rows, D, targets};
  const model::Samformer model({model::Value::low_rank, D, L, H, 16});
  const std::vector<float> weights(static_cast<std::size_t>(model.parameters().slab_size()), 0.01f);
  for (const bool consecutive : {true, false}) {
    if (!consecutive) std::reverse(starts.begin(), starts.end());
    Evaluator evaluator(model, kernels::Center::mean);
    evaluator.errors(weights, problem, starts);
    ours = library = 0;
    counting = true;
    evaluator.errors(weights, problem, starts);
    counting = false;
    EXPECT_EQ(ours, 3) << (consecutive ? "consecutive" : "backwards");
  }
}

TEST(Allocation, TheCounterCounts) {
  void* frames[4];
  backtrace(frames, 4);  // loads what it needs
  ours = 0;
  counting = true;
  std::vector<int> v(10);
  std::free(std::aligned_alloc(64, 64));
  std::free(std::calloc(1, v.size()));
  counting = false;
  EXPECT_EQ(ours, 3);
}

TEST(Allocation, NoneAfterTheFirstStep) {
  void* frames[4];
  backtrace(frames, 4);
  constexpr std::int64_t D = 7, L = 96, H = 24;
  const model::StepSizes steps{D, L, H, 4, 48, 8, 8, 2};
  model::PyraformerShape pyramid;
  static_cast<model::StepSizes&>(pyramid) = steps;
  pyramid.key_width = 4, pyramid.bottleneck = 4;
  const model::ModeSets modes = model::published_modes(L, 48 + H, 64);
  const std::pair<const char*, model::Model> models[] = {
      {"low-rank", model::Samformer({model::Value::low_rank, D, L, H, 16})},
      {"full", model::Samformer({model::Value::full, D, L, H, 16})},
      {"dlinear", model::DLinear({D, L, H})},
      {"itransformer", model::ITransformer({D, L, H, 16, 16, 4})},
      {"patchtst", model::PatchTst({D, L, H})},
      {"logtrans", model::LogTrans({steps})},
      {"informer", model::Informer({steps})},
      {"pyraformer", model::Pyraformer(pyramid)},
      {"autoformer", model::Autoformer({{steps, {25}}, 3})},
      {"fedformer", model::Fedformer({{steps, {12, 24}}, modes})},
  };
  for (const auto& [model_name, model] : models) {
    for (const auto& [rho, rule] : {std::pair(0.7, kernels::Rule::adam), std::pair(0.0, kernels::Rule::sgd)}) {
      for (const int threads : {1, 2}) {
        StepSettings settings;
        settings.rule.rule = rule;
        settings.rho = rho;
        const Counts counts = counts_of(settings, model, threads);
        Dl_info info{};
        if (counts.ours > 0) dladdr(culprit, &info);
        const std::string name = fmt::format("{}, rho {}, {}, {} threads", model_name, rho,
                                             rule == kernels::Rule::adam ? "adam" : "sgd", threads);
        EXPECT_EQ(counts.ours, 0) << name << "; the last one came from "
                                  << (info.dli_sname   ? info.dli_sname
                                      : info.dli_fname ? info.dli_fname
                                                       : "?");
        std::printf("%s: %ld allocations of ours, %ld inside oneDNN in 10 steps\n", name.c_str(), counts.ours,
                    counts.library);
      }
    }
  }
}

}  // namespace
}  // namespace samformer::optim

#endif
