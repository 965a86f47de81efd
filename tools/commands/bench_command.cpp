// `samformer bench`: how far each part of a training step is from what this machine can do. All of a shape's items are
// measured in turns (interleaved), each turn's calls back to back; the median over the turns is reported.
//
// Peaks: every product of the step alone, through kernels::gemm on the step's own operands, and a copy of an array as
// large as the batch's windows (a shape that fits the caches is held to the caches' speed). A product is 2 M N K
// operations and 4 (M K + K N + M N) bytes, C twice where it is added to; the copy moves 8 R L bytes.
// Counts, float32, N windows, R = N D rows, O columns of [V | Q | K | F], P elements of a slab of parameters:
//
//   op                   floating-point operations        bytes
//   revin                6 R L                            4 (2 R L + 2 R)
//   projection           2 R O L + 4 R O + O L            4 (R L + O L + 2 R O)
//   projection_backward  2 R O L + 8 R O + O L            4 (R L + 2 O L + 3 R O)
//   attention            N D^2 (2 d_m + 2 d_v + 4)        4 R (2 d_m + 2 d_v + 1)
//   attention_backward   N D^2 (6 d_m + 4 d_v + 5)        4 R (6 d_m + 5 d_v + 1)
//   head, head_backward  its products; where V is a product of its own (full, folded) also R H to add it up, 12 R H
//   loss                 19 R H                           8 R H
//   loss_backward        17 R H                           16 R H
//   norm_perturb         4 P                              20 P
//   restore_step         19 P                             36 P
//   evaluation           the forward ones + 9 R H         the forward ones' + 16 R H
//
// share_of_peak: the larger of operations a second over the shape's fastest product, bytes a second over its copy.
// Floor of a step: its products at their measured times + attention's 12 N D^2 (d_m + d_v) operations (two passes,
// nothing recomputed) at the fastest product's speed + the compulsory bytes at the copy's speed: revin once, in each
// pass 12 R H (z and the truth read, dz written), 56 P for norm, perturbation and update. efficiency = floor / time.
// What the threads are worth on this machine, in the same run: products_speedup, the projection's product on one thread
// over all of them, and core_to_core_seconds, what a cache line takes from one core to another (cores that share a
// cache: 25 to 50 ns; a virtual machine's may be moved to where they do not, and everything one core wrote and the
// other reads then takes several times as long). Beside it the same large products (the windows with the weights,
// forward and backward) as dnnl_sgemm alone computes them on all threads: library_seconds, and time / library_seconds.
// Where the CPU has AVX512-BF16, the same step with --precision bf16; a series of each shape as CSV text, read by one
// thread (parsing and checks, not the disk).
#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <functional>
#include <sstream>
#include <thread>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/onednn.h"
#include "kernels/elementwise.h"
#include "kernels/projection.h"
#include "model/data/csv.h"
#include "model/data/synth.h"
#include "tools/cli/document.h"
#include "tools/commands/commands.h"
#include "tools/run/experiment.h"

namespace samformer::tools {
namespace {

using std::int64_t;

constexpr int64_t series_windows = 256;  // eight batches of 32, taken in turn
constexpr double turn_seconds = 1e-3;    // an item's calls in one turn last about that long
constexpr double shape_seconds = 4;      // turns go on for so long, between these limits
constexpr std::size_t fewest_turns = 5, most_turns = 51;

struct Counts {
  double flops = 0;
  double bytes = 0;
};
Counts operator+(Counts a, Counts b) { return {a.flops + b.flops, a.bytes + b.bytes}; }

struct Shape {
  int64_t D, H;
};

struct Product {
  std::string name;
  bool transpose_a, transpose_b;
  int64_t M, N, K;
  const float* A;
  int64_t lda;
  const float* B;
  int64_t ldb;
  float* C;
  int64_t ldc;
  bool accumulate;
  float* work = nullptr;  // of a weight's gradient, where K may be long

  void run() const {
    if (work) {
      kernels::gemm_in_parts(M, N, K, A, lda, B, ldb, C, ldc, work);
    } else {
      kernels::gemm(transpose_a, transpose_b, M, N, K, A, lda, B, ldb, C, ldc, accumulate);
    }
  }
  Counts counts() const {
    const double m = static_cast<double>(M), n = static_cast<double>(N), k = static_cast<double>(K);
    return {2 * m * n * k, 4 * (m * k + k * n + (accumulate ? 2 : 1) * m * n)};
  }
};

enum class Kind { product, single, library, exchange, copy, operation, step, csv };

struct Item {
  Kind kind;
  std::string name;
  Counts counts;
  int threads;
  std::function<void()> run;
  std::array<int64_t, 3> size = {};  // of a product: M, N, K
  std::string precision = "float32";
  std::size_t calls = 1;  // in a turn
  std::vector<double> samples = {};
  double seconds = 0;
};

// ---- Measuring ----------------------------------------------------------------------------------------------------

void use_threads(int threads) {
  if (omp_get_max_threads() == threads) return;
  omp_set_num_threads(threads);
  kernels::parallel_for<float>(threads, [](int64_t) {});  // starts them
}

// Two threads hand a cache line to and fro for about a millisecond: seconds a hand-over.
double exchange_seconds() {
  constexpr int over = 2;
  struct alignas(64) {
    std::atomic<int> whose = 0;
    double seconds = 0;
  } line;
  // A thread stays in its block until the other one has the other block.
  kernels::parallel_for<float>(2, [at = &line](int64_t block) {
    const int own = static_cast<int>(block);
    const auto wait = [&] {
      int now;
      for (int spins = 0; (now = at->whose.load(std::memory_order_acquire)) == 1 - own; ++spins) {
        if (spins > 10000) std::this_thread::yield();  // both may be on one core
      }
      return now != over;
    };
    if (own == 1) {
      while (wait()) at->whose.store(0, std::memory_order_release);
      return;
    }
    at->whose.store(1, std::memory_order_release);
    wait();  // the other one is here
    const double begin = monotonic_seconds();
    int rounds = 0;
    do {
      for (int i = 0; i < 16; ++i) {
        at->whose.store(1, std::memory_order_release);
        wait();
      }
      rounds += 16;
    } while (monotonic_seconds() - begin < turn_seconds);
    at->seconds = (monotonic_seconds() - begin) / (2 * rounds);
    at->whose.store(over, std::memory_order_release);
  });
  return line.seconds;
}

double turn(const Item& item) {
  use_threads(item.threads);
  if (item.kind == Kind::exchange) return exchange_seconds();
  if (item.kind == Kind::library) item.run();  // starts the library's own threads
  const double begin = monotonic_seconds();
  for (std::size_t i = 0; i < item.calls; ++i) item.run();
  const double seconds = (monotonic_seconds() - begin) / static_cast<double>(item.calls);
  // The library's threads would spin beside what is measured next.
  if (item.kind == Kind::library) omp_pause_resource_all(omp_pause_soft);
  return seconds;
}

void measure(std::vector<Item>& items) {
  for (Item& item : items) {
    turn(item);
    item.calls = static_cast<std::size_t>(std::clamp(turn_seconds / std::max(turn(item), 1e-7), 1.0, 256.0));
    item.samples.reserve(most_turns);
  }
  const double begin = monotonic_seconds();
  for (std::size_t t = 0; t < most_turns && (t < fewest_turns || monotonic_seconds() - begin < shape_seconds); ++t) {
    for (Item& item : items) item.samples.push_back(turn(item));
  }
  for (Item& item : items) {
    const auto middle = item.samples.begin() + static_cast<std::ptrdiff_t>(item.samples.size() / 2);
    std::nth_element(item.samples.begin(), middle, item.samples.end());
    item.seconds = *middle;
  }
}

// ---- What is measured ---------------------------------------------------------------------------------------------

struct BenchSettings {
  std::string format = "text";
  std::vector<std::string> shapes;  // DxH; empty: all
};

optim::StepSettings bf16_step(const Settings& settings) {
  optim::StepSettings step = trainer_settings(settings).step;
  step.bf16 = true;
  return step;
}

// The operands of a step at one shape. Items of items() point into it.
class Workbench {
 public:
  Workbench(const Settings& settings, Shape shape, int threads);
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  // Products, copy, operations, the step with 1, 2, 4, ... and all threads, and in bfloat16; reading CSV.
  std::vector<Item> items();
  // Of a step, without its products: attention's operations, the compulsory bytes.
  Counts floor_counts() const;

 private:
  struct Columns {  // of the matrices that hold them, and the rows' distance
    float* data;
    int64_t stride;
  };
  float* floats(int64_t count, float value = 0) {
    float* memory = arena_.allocate<float>(count);
    std::fill_n(memory, count, value);
    return memory;
  }
  bool own_values() const { return !low_rank_ && folded_; }
  void project() const;
  void project_backward() const;
  void attend() const;
  void attend_backward() const;
  void step(optim::Training<float>& training);
  std::vector<Product> projections() const, head() const, head_backward() const;

  const Settings& settings_;
  int threads_;
  int64_t D_, H_, L_, d_m_, N_, R_;
  model::Samformer model_;
  bool low_rank_, folded_;
  int64_t d_v_, at_, O_;  // width of the values, column of Q in Z, columns of Z
  int64_t P_;
  std::vector<float> values_;
  std::vector<std::int32_t> starts_, targets_;
  optim::Problem problem_;
  optim::Training<float> training_, bf16_training_;
  std::string csv_;
  optim::Evaluator evaluator_;
  std::size_t batch_ = 0;

  Arena arena_;
  // Slabs, and in them the layer of Z, the head and W_O.
  float *w_, *g_, *updated_, *saved_, *m_, *v_, *mean_;
  int64_t first_ = 0, head_ = 0, output_ = 0;
  float *xhat_, *copy_, *level_, *sigma_, *gamma_, *beta_, *dgamma_, *dbeta_;
  float *Z_, *dZ_, *P_of_z_, *row_sums_, *bias_, *dbias_;
  Columns V_, dV_;
  float* P_of_v_ = nullptr;
  float *C_, *dC_, *lse_, *fold_, *dfold_, *work_, *turned_, *shares_;
  std::vector<double> moments_;  // of forecast_loss
  double* partial_;
};

Workbench::Workbench(const Settings& settings, Shape shape, int threads)
    : settings_(settings),
      threads_(threads),
      D_(shape.D),
      H_(shape.H),
      L_(settings.lookback),
      d_m_(settings.model_option<std::int64_t>("d-model")),
      N_(settings.batch),
      R_(N_ * D_),
      model_({settings.model_option<std::string>("value") == "full" ? model::Value::full : model::Value::low_rank, D_,
              L_, H_, d_m_}),
      low_rank_(model_.shape().value == model::Value::low_rank),
      folded_(model_.association(R_) == model::Association::folded),
      d_v_(low_rank_ ? d_m_ : (folded_ ? H_ : L_)),
      at_(own_values() ? 0 : d_v_),
      O_(at_ + 2 * d_m_ + H_),
      P_(model_.parameters().slab_size()),
      training_(model_, trainer_settings(settings).step),
      bf16_training_(model_, bf16_step(settings)),
      evaluator_(model_, center_of(settings)) {
  SAMFORMER_CHECK(!low_rank_ || folded_, "bench: a batch of {} rows is too small", R_);
  const model::Series series = model::make_seasonal({.rows = L_ + H_ + series_windows - 1, .channels = D_});
  const model::Span all{0, series.rows};
  values_ = model::standardise(series, model::fit_scaler(series, all));
  starts_ = model::window_starts(all, L_, H_);
  optim::shuffle(starts_, 1, 0);
  for (int64_t d = 0; d < D_; ++d) targets_.push_back(static_cast<std::int32_t>(d));
  problem_ = {values_, series.rows, D_, targets_};
  initialise(training_, model_, settings);
  initialise(bf16_training_, model_, settings);
  std::ostringstream text;
  model::write_csv(text, series);
  csv_ = text.str();

  const model::ParameterTable& table = model_.parameters();
  first_ = table.find(own_values() ? "compute_queries.weight" : "compute_values.weight").offset;
  head_ = table.find("linear_forecaster.weight").offset;
  if (low_rank_) output_ = table.find("output_projection.weight").offset;
  for (float** slab : {&w_, &g_, &updated_, &saved_, &m_, &v_, &mean_}) *slab = floats(P_);
  std::copy_n(training_.weights().data(), P_, w_);
  std::copy_n(w_, P_, saved_);

  const int64_t widest = std::max(O_, H_);
  xhat_ = floats(R_ * L_), copy_ = floats(R_ * L_), level_ = floats(R_), sigma_ = floats(R_, 1);
  gamma_ = floats(D_, 1), beta_ = floats(D_), dgamma_ = floats(D_), dbeta_ = floats(D_);
  Z_ = floats(R_ * O_), dZ_ = floats(R_ * O_, 1e-3f), P_of_z_ = floats(R_ * O_);
  row_sums_ = floats(widest), bias_ = floats(widest), dbias_ = floats(widest);
  V_ = {Z_, O_}, dV_ = {dZ_, O_};
  if (own_values()) V_ = {floats(R_ * H_), H_}, dV_ = {floats(R_ * H_, 1e-3f), H_}, P_of_v_ = floats(R_ * H_);
  C_ = floats(R_ * d_v_), dC_ = floats(R_ * d_v_, 1e-3f), lse_ = floats(R_);
  fold_ = floats(H_ * std::max(L_, d_m_)), dfold_ = floats(H_ * std::max(L_, d_m_));
  const kernels::AttentionShape attention{N_, D_, d_m_, d_v_};
  moments_.resize(static_cast<std::size_t>(5 * D_));
  work_ = floats(
      std::max({kernels::projection_backward_work<float>(R_, widest, L_), kernels::attention_work<float>(attention),
                kernels::attention_backward_work<float>(attention), 2 * R_ + 5 * D_}));
  turned_ = floats(widest * L_), shares_ = floats(H_);
  partial_ = arena_.allocate<double>(kernels::blocks_of(P_, kernels::update_block));
}

void Workbench::project() const {
  kernels::projection(Z_, P_of_z_, row_sums_, xhat_, w_ + first_, bias_, gamma_, beta_, R_, D_, O_, L_, turned_);
  if (own_values()) {
    kernels::projection(V_.data, P_of_v_, row_sums_, xhat_, fold_, bias_, gamma_, beta_, R_, D_, H_, L_, turned_);
  }
}

void Workbench::project_backward() const {
  kernels::projection_backward(g_ + first_, dbias_, dgamma_, dbeta_, dZ_, xhat_, P_of_z_, row_sums_, gamma_, beta_, R_,
                               D_, O_, L_, at_ + d_m_, at_ + 2 * d_m_, work_);
  if (own_values()) {
    kernels::projection_backward(dfold_, dbias_, dgamma_, dbeta_, dV_.data, xhat_, P_of_v_, row_sums_, gamma_, beta_,
                                 R_, D_, H_, L_, 0, 0, work_);
  }
}

void Workbench::attend() const {
  kernels::attention(C_, d_v_, lse_, Z_ + at_, Z_ + at_ + d_m_, O_, V_.data, V_.stride, {N_, D_, d_m_, d_v_}, work_);
}

void Workbench::attend_backward() const {
  kernels::attention_backward(dZ_ + at_, dZ_ + at_ + d_m_, O_, dV_.data, dV_.stride, dC_, d_v_, C_, d_v_, lse_,
                              Z_ + at_, Z_ + at_ + d_m_, O_, V_.data, V_.stride, {N_, D_, d_m_, d_v_}, work_);
}

void Workbench::step(optim::Training<float>& training) {
  const std::size_t N = static_cast<std::size_t>(N_);
  const auto starts = std::span<const std::int32_t>(starts_).subspan(batch_ * N, N);
  batch_ = (batch_ + 1) % (starts_.size() / N);
  training.step(problem_.windows(starts), problem_.truth(starts, L_), settings_.lr);
}

std::vector<Product> Workbench::projections() const {
  std::vector<Product> list = {
      {"projection", false, false, R_, O_, L_, xhat_, L_, turned_, O_, P_of_z_, O_, false},
      {"projection_backward", true, false, O_, L_, R_, dZ_, O_, xhat_, L_, g_ + first_, L_, true, work_}};
  if (own_values()) {
    list.push_back({"values", false, false, R_, H_, L_, xhat_, L_, turned_, H_, P_of_v_, H_, false});
    list.push_back({"values_backward", true, false, H_, L_, R_, dV_.data, H_, xhat_, L_, dfold_, L_, true, work_});
  }
  return list;
}

std::vector<Product> Workbench::head() const {
  const float* F = w_ + head_;
  float* z = Z_ + at_ + 2 * d_m_;
  if (own_values()) return {{"fold", false, false, H_, L_, L_, F, L_, w_, L_, fold_, L_, false}};
  if (!low_rank_) return {{"head", false, true, R_, H_, L_, C_, L_, F, L_, z, O_, true}};
  return {{"fold", false, false, H_, d_m_, L_, F, L_, w_ + output_, d_m_, fold_, d_m_, false},
          {"head", false, true, R_, H_, d_m_, C_, d_m_, fold_, d_m_, z, O_, true}};
}

std::vector<Product> Workbench::head_backward() const {
  const float *F = w_ + head_, *dz = dZ_ + at_ + 2 * d_m_;
  float* dF = g_ + head_;
  if (own_values()) {
    return {{"fold_backward_head", false, true, H_, L_, L_, dfold_, L_, w_, L_, dF, L_, true},
            {"fold_backward_values", true, false, L_, L_, H_, F, L_, dfold_, L_, g_, L_, true}};
  }
  const float* folded = low_rank_ ? fold_ : F;
  float* dfolded = low_rank_ ? dfold_ : dF;
  std::vector<Product> list = {
      {"head_backward_context", false, false, R_, d_v_, H_, dz, O_, folded, d_v_, dC_, d_v_, true},
      {"head_backward_weight", true, false, H_, d_v_, R_, dz, O_, C_, d_v_, dfolded, d_v_, true, work_}};
  if (low_rank_) {
    const float* W_O = w_ + output_;
    list.push_back({"fold_backward_head", false, true, H_, L_, d_m_, dfold_, d_m_, W_O, d_m_, dF, L_, true});
    list.push_back({"fold_backward_output", true, false, L_, d_m_, H_, F, L_, dfold_, d_m_, g_ + output_, d_m_, true});
  }
  return list;
}

std::vector<Item> Workbench::items() {
  const double N = double(N_), D = double(D_), H = double(H_), L = double(L_), R = double(R_), P = double(P_);
  const double d_m = double(d_m_), d_v = double(d_v_), O = double(own_values() ? O_ + H_ : O_);
  std::vector<Item> list;
  const auto add = [&](Kind kind, std::string name, Counts counts, std::function<void()> run) {
    list.push_back({kind, std::move(name), counts, threads_, std::move(run)});
  };
  const auto operation = [&](const char* name, Counts counts, std::function<void()> run) {
    add(Kind::operation, name, counts, std::move(run));
    return counts;
  };
  const auto add_products = [&](const std::vector<Product>& products) {
    Counts total;
    for (const Product& p : products) {
      add(Kind::product, p.name, p.counts(), [p] { p.run(); });
      list.back().size = {p.M, p.N, p.K};
      total = total + p.counts();
    }
    return total;
  };
  add_products(projections());
  if (threads_ > 1) {
    const Product p = projections().front();
    list.push_back({Kind::single, p.name, p.counts(), 1, [p] { p.run(); }});
    add(Kind::exchange, "exchange", {}, [] {});
  }
  for (const Product& p : projections()) {
    add(Kind::library, p.name, p.counts(), [p] {
      kernels::library_product(p.transpose_a, p.transpose_b, p.M, p.N, p.K, p.A, p.lda, p.B, p.ldb, p.C, p.ldc,
                               p.accumulate);
    });
  }
  const Counts head_counts = add_products(head()) + (own_values() ? Counts{R * H, 12 * R * H} : Counts{});
  const Counts head_backward_counts =
      add_products(head_backward()) + (own_values() ? Counts{R * H, 12 * R * H} : Counts{});
  add(Kind::copy, "copy", {0, 8 * R * L}, [this] {
    const int64_t count = R_ * L_, size = kernels::blocks_of(count, threads_);
    kernels::parallel_for<float>(kernels::blocks_of(count, size), [=, this](int64_t block) {
      const int64_t first = block * size;
      std::memcpy(copy_ + first, xhat_ + first, sizeof(float) * std::size_t(std::min(size, count - first)));
    });
  });

  const auto batch = std::span<const std::int32_t>(starts_).first(static_cast<std::size_t>(N_));
  const kernels::Windows<float> x = problem_.windows(batch);
  const kernels::ForecastLoss<float> loss{Z_ + at_ + 2 * d_m_,
                                          O_,
                                          level_,
                                          sigma_,
                                          {gamma_, beta_},
                                          problem_.windows(batch, L_),
                                          H_,
                                          targets_.data(),
                                          D_,
                                          {settings_.stats_mix, settings_.stats_mix_step},
                                          shares_,
                                          moments_.data()};
  Counts forward;
  forward = operation("revin", {6 * R * L, 4 * (2 * R * L + 2 * R)},
                      [=, this] { kernels::revin_normalise(xhat_, level_, sigma_, x, L_, center_of(settings_)); });
  forward = forward + operation("projection", {2 * R * O * L + 4 * R * O + O * L, 4 * (R * L + O * L + 2 * R * O)},
                                [this] { project(); });
  forward = forward + operation("attention", {N * D * D * (2 * d_m + 2 * d_v + 4), 4 * R * (2 * d_m + 2 * d_v + 1)},
                                [this] { attend(); });
  // Adding the values' own product up, forward (z += C) and backward (dC += dz).
  const auto add_rows = [=, this](float* to, int64_t to_stride, const float* from, int64_t stride) {
    if (!own_values()) return;
    const int64_t columns = H_;
    kernels::for_rows<float>(R_, columns, [=](int64_t r) {
      for (int64_t h = 0; h < columns; ++h) to[r * to_stride + h] += from[r * stride + h];
    });
  };
  const int64_t forecast = at_ + 2 * d_m_;
  forward = forward + operation("head", head_counts, [=, this, products = head()] {
              for (const Product& p : products) p.run();
              add_rows(Z_ + forecast, O_, C_, d_v_);
            });
  operation("loss", {19 * R * H, 8 * R * H}, [=, this] { kernels::forecast_loss(loss, work_); });
  operation("loss_backward", {17 * R * H, 16 * R * H},
            [=, this] { kernels::forecast_loss_backward(dZ_ + forecast, O_, dgamma_, dbeta_, 1.0f, loss, work_); });
  operation("head_backward", head_backward_counts, [=, this, products = head_backward()] {
    add_rows(dC_, d_v_, dZ_ + forecast, O_);
    for (const Product& p : products) p.run();
  });
  operation("attention_backward", {N * D * D * (6 * d_m + 4 * d_v + 5), 4 * R * (6 * d_m + 5 * d_v + 1)},
            [this] { attend_backward(); });
  operation("projection_backward", {2 * R * O * L + 8 * R * O + O * L, 4 * (R * L + 2 * O * L + 3 * R * O)},
            [this] { project_backward(); });
  operation("norm_perturb", {4 * P, 20 * P}, [this] {
    const double norm = std::sqrt(kernels::squared_norm<float>(g_, nullptr, P_, partial_));
    kernels::sam_perturb(updated_, saved_, g_, P_, settings_.rho / (norm + 1e-12), false);
  });
  const optim::StepSettings rule = trainer_settings(settings_).step;
  operation("restore_step", {19 * P, 36 * P}, [=, this] {
    kernels::restore_and_step(updated_, saved_, g_, m_, v_, mean_, P_, rule.rule, settings_.lr, 1000, rule.ema);
  });
  operation("evaluation", forward + Counts{9 * R * H, 16 * R * H},
            [=, this] { evaluator_.errors(training_.tested(), problem_, batch); });
  for (int threads = 1; threads < threads_; threads *= 2) {
    list.push_back({Kind::step, "sam_step", {}, threads, [this] { step(training_); }});
  }
  add(Kind::step, "sam_step", {}, [this] { step(training_); });
  if (kernels::bf16_available()) {
    add(Kind::step, "sam_step", {}, [this] { step(bf16_training_); });
    list.back().precision = "bf16";
  }
  list.push_back(
      {Kind::csv, "csv", {0, static_cast<double>(csv_.size())}, 1, [this] { model::parse_csv(csv_, "bench", {}); }});
  return list;
}

Counts Workbench::floor_counts() const {
  const double R = double(R_), scores = double(R_ * D_);
  return {12 * scores * double(d_m_ + d_v_),
          4 * (2 * R * double(L_) + 2 * R) + 2 * 12 * R * double(H_) + 56 * double(P_)};
}

// ---- Reporting ----------------------------------------------------------------------------------------------------

struct Measured {
  Shape shape;
  std::vector<Item> items;
  double flops_peak = 0, bytes_peak = 0;  // a second
  double floor_seconds = 0;
  double library_seconds = 0;                         // of a step's large products
  double products_speedup = 1, exchange_seconds = 0;  // on one thread: nothing to measure

  double share(const Item& item) const {
    return std::max(item.counts.flops / flops_peak, item.counts.bytes / bytes_peak) / item.seconds;
  }
};

Measured measure_shape(Settings settings, Shape shape, int threads) {
  settings.horizon = shape.H;
  Workbench bench(settings, shape, threads);
  Measured result{shape, bench.items()};
  measure(result.items);
  use_threads(threads);
  double products = 0;
  for (Item& item : result.items) {
    item.run = nullptr;  // it points into the workbench
    if (item.kind == Kind::product) {
      result.flops_peak = std::max(result.flops_peak, item.counts.flops / item.seconds);
      products += 2 * item.seconds;
    }
    if (item.kind == Kind::library) result.library_seconds += 2 * item.seconds;
    if (item.kind == Kind::single) result.products_speedup = item.seconds / result.items.front().seconds;
    if (item.kind == Kind::exchange) result.exchange_seconds = item.seconds;
    if (item.kind == Kind::copy) result.bytes_peak = item.counts.bytes / item.seconds;
  }
  const Counts rest = bench.floor_counts();
  result.floor_seconds = products + rest.flops / result.flops_peak + rest.bytes / result.bytes_peak;
  return result;
}

// One table of the report. Text and Markdown show `columns` of its rows, JSON all of them.
struct Column {
  std::string heading;
  std::string key;
  double scale = 0;  // of a number that is not whole, shown with `digits` behind the point
  int digits = 0;
};
struct Sheet {
  std::string title;
  std::vector<Column> columns;
  Json rows = Json::array();
};

struct Report {
  Json head;
  Sheet products, copies, operations, steps, scaling, precisions, csv;
  std::array<const Sheet*, 7> sheets() const {
    return {&products, &copies, &operations, &steps, &scaling, &precisions, &csv};
  }
};

Report make_report(const std::vector<Measured>& measured, const Settings& settings, int threads) {
  Report report;
  report.products = {"Products, the peak of computation",
                     {{"product", "product"},
                      {"D", "D"},
                      {"H", "H"},
                      {"M", "M"},
                      {"N", "N"},
                      {"K", "K"},
                      {"ms", "median_seconds", 1e3, 3},
                      {"GFLOP/s", "gflops", 1, 1}}};
  report.copies = {
      "Copying the windows, the peak of memory",
      {{"D", "D"}, {"H", "H"}, {"MB", "bytes", 1e-6, 2}, {"ms", "median_seconds", 1e3, 3}, {"GB/s", "gbs", 1, 1}}};
  report.operations = {"Operations",
                       {{"operation", "op"},
                        {"D", "D"},
                        {"H", "H"},
                        {"ms", "median_seconds", 1e3, 3},
                        {"MFLOP", "flops", 1e-6, 2},
                        {"MB", "bytes", 1e-6, 2},
                        {"GFLOP/s", "gflops", 1, 1},
                        {"GB/s", "gbs", 1, 1},
                        {"% of peak", "share_of_peak", 100, 0}}};
  report.steps = {"SAM steps",
                  {{"D", "D"},
                   {"H", "H"},
                   {"value", "value"},
                   {"ms", "seconds", 1e3, 3},
                   {"floor ms", "floor_seconds", 1e3, 3},
                   {"efficiency", "efficiency", 1, 2},
                   {"oneDNN's large products ms", "library_seconds", 1e3, 3},
                   {"ms / these", "over_library", 1, 2},
                   {"threads' gain in products", "products_speedup", 1, 2},
                   {"core to core ns", "core_to_core_seconds", 1e9, 0}}};
  report.scaling = {
      "Threads",
      {{"D", "D"}, {"H", "H"}, {"threads", "threads"}, {"ms", "seconds", 1e3, 3}, {"speed-up", "speedup", 1, 2}}};
  report.precisions = {
      "SAM steps by precision",
      {{"D", "D"}, {"H", "H"}, {"precision", "precision"}, {"ms", "seconds", 1e3, 3}, {"speed-up", "speedup", 1, 2}}};
  report.csv = {"Reading CSV, one thread",
                {{"D", "D"}, {"MB", "bytes", 1e-6, 2}, {"ms", "median_seconds", 1e3, 3}, {"MB/s", "mbs", 1, 0}}};
  double gemm = 0, copy = 0;
  for (const Measured& m : measured) {
    gemm = std::max(gemm, m.flops_peak * 1e-9);
    copy = std::max(copy, m.bytes_peak * 1e-9);
    double one_thread = 0, float32 = 0;
    for (const Item& item : m.items) {
      Json row = Json::object();
      const auto place = [&] { row.update({{"D", m.shape.D}, {"H", m.shape.H}, {"batch", settings.batch}}); };
      const auto timed = [&](std::string_view key) { row[key] = item.seconds; };
      const auto counted = [&](bool flops, bool bytes) {
        if (flops) row["flops"] = item.counts.flops;
        if (bytes) row["bytes"] = item.counts.bytes;
        if (flops) row["gflops"] = item.counts.flops / item.seconds * 1e-9;
        if (bytes) row["gbs"] = item.counts.bytes / item.seconds * 1e-9;
      };
      switch (item.kind) {
        case Kind::product:
          row["product"] = item.name;
          place();
          row.update({{"M", item.size[0]}, {"N", item.size[1]}, {"K", item.size[2]}});
          timed("median_seconds");
          counted(true, true);
          report.products.rows.push_back(row);
          break;
        case Kind::library:
        case Kind::single:
        case Kind::exchange:
          break;
        case Kind::copy:
          place();
          timed("median_seconds");
          counted(false, true);
          report.copies.rows.push_back(row);
          break;
        case Kind::operation:
          row["op"] = item.name;
          place();
          timed("median_seconds");
          counted(true, true);
          row["share_of_peak"] = m.share(item);
          report.operations.rows.push_back(row);
          break;
        case Kind::csv:
          place();
          timed("median_seconds");
          row["bytes"] = item.counts.bytes;
          row["mbs"] = item.counts.bytes / item.seconds * 1e-6;
          report.csv.rows.push_back(row);
          break;
        case Kind::step:
          place();
          row.update({{"value", settings.model_option<std::string>("value")}, {"threads", item.threads}});
          timed("seconds");
          if (item.threads == threads) {
            if (item.precision == "float32") float32 = item.seconds;
            Json line = row;
            line.update({{"precision", item.precision}, {"speedup", float32 / item.seconds}});
            report.precisions.rows.push_back(line);
          }
          if (item.precision != "float32") break;
          if (item.threads == 1) one_thread = item.seconds;
          row["speedup"] = one_thread / item.seconds;
          report.scaling.rows.push_back(row);
          if (item.threads != threads) break;
          row.erase("speedup");
          row.update({{"floor_seconds", m.floor_seconds},
                      {"efficiency", m.floor_seconds / item.seconds},
                      {"library_seconds", m.library_seconds},
                      {"over_library", item.seconds / m.library_seconds},
                      {"products_speedup", m.products_speedup},
                      {"core_to_core_seconds", m.exchange_seconds}});
          report.steps.rows.push_back(row);
          break;
      }
    }
  }
  report.head = document("bench");
  report.head.update(Json{{"instruction_set", kernels::isa_name()},
                          {"gemm_library", "oneDNN " + kernels::gemm_library_version()},
                          {"threads", threads},
                          {"precision", "float32"},
                          {"value", settings.model_option<std::string>("value")},
                          {"lookback", settings.lookback},
                          {"d_model", settings.model_option<std::int64_t>("d-model")},
                          {"batch", settings.batch},
                          {"peaks", {{"gemm_gflops", gemm}, {"copy_gbs", copy}}}});
  return report;
}

std::string shown(const Json& value, const Column& column) {
  if (value.is_string()) return value.get<std::string>();
  if (column.scale == 0) return fmt::format("{}", value.get<int64_t>());
  return fmt::format("{:.{}f}", value.get<double>() * column.scale, column.digits);
}

std::string summary(const Json& head) {
  const auto text = [&](const char* key) { return head[key].get<std::string>(); };
  const auto number = [&](const char* key) { return head[key].get<int64_t>(); };
  return fmt::format(
      "samformer {}, {} threads, {}, {}; float32, value {}, L {}, d_m {}, batch {}. Medians. Peaks: {:.0f} GFLOP/s "
      "(products), {:.1f} GB/s (copy).",
      text("version"), number("threads"), text("instruction_set"), text("gemm_library"), text("value"),
      number("lookback"), number("d_model"), number("batch"), head["peaks"]["gemm_gflops"].get<double>(),
      head["peaks"]["copy_gbs"].get<double>());
}

void print_tables(std::ostream& out, const Report& report, bool markdown) {
  out << summary(report.head) << '\n';
  for (const Sheet* sheet : report.sheets()) {
    std::string alignment;
    std::vector<std::string> heading;
    for (const Column& column : sheet->columns) {
      alignment += sheet->rows.front()[column.key].is_string() ? 'l' : 'r';
      heading.push_back(column.heading);
    }
    Table table(alignment, heading);
    std::string lines;
    for (const Json& row : sheet->rows) {
      std::vector<std::string> cells;
      for (const Column& column : sheet->columns) cells.push_back(shown(row[column.key], column));
      if (markdown) lines += fmt::format("| {} |\n", join(cells, " | "));
      table.row(std::move(cells));
    }
    if (markdown) {
      std::string rule = "|";
      for (const char side : alignment) rule += side == 'l' ? "---|" : "---:|";
      out << fmt::format("\n### {}\n\n| {} |\n{}\n{}", sheet->title, join(heading, " | "), rule, lines);
    } else {
      out << fmt::format("\n{}\n\n{}", sheet->title, table.str());
    }
  }
}

// One table with the columns of all, so that every line has the same number of cells.
void print_csv(std::ostream& out, const Report& report) {
  constexpr std::string_view names[] = {"product", "copy", "operation", "step", "scaling", "precision", "csv"};
  constexpr std::string_view keys[] = {"D",
                                       "H",
                                       "batch",
                                       "value",
                                       "threads",
                                       "seconds",
                                       "flops",
                                       "bytes",
                                       "M",
                                       "N",
                                       "K",
                                       "floor_seconds",
                                       "share_of_peak",
                                       "efficiency",
                                       "speedup",
                                       "precision",
                                       "library_seconds",
                                       "products_speedup",
                                       "core_to_core_seconds"};
  out << "kind,name";
  for (const std::string_view key : keys) out << ',' << key;
  out << '\n';
  for (std::size_t i = 0; i < std::size(names); ++i) {
    for (const Json& row : report.sheets()[i]->rows) {
      out << names[i] << ',';
      for (const char* key : {"product", "op"}) {
        if (row.contains(key)) out << row[key].get<std::string>();
      }
      for (const std::string_view key : keys) {
        const std::string other = key == "seconds" ? "median_seconds" : std::string(key);
        const auto found = row.contains(key) ? row.find(key) : row.find(other);
        out << ',';
        if (found == row.end()) continue;
        out << (found->is_string() ? found->get<std::string>() : found->dump());
      }
      out << '\n';
    }
  }
}

Json json_document(const Report& report) {
  Json result = report.head;
  result["peaks"]["products"] = report.products.rows;
  result["peaks"]["copies"] = report.copies.rows;
  result["operations"] = report.operations.rows;
  result["steps"] = report.steps.rows;
  result["scaling"] = report.scaling.rows;
  result["precisions"] = report.precisions.rows;
  result["csv"] = report.csv.rows;
  return result;
}

// "7x96": channels and horizon.
Shape parse_shape(const std::string& text) {
  constexpr int64_t most = 100000;
  Shape shape{};
  const char* end = text.data() + text.size();
  const auto [cross, bad] = std::from_chars(text.data(), end, shape.D);
  const bool found = bad == std::errc() && cross != end && *cross == 'x';
  const auto [rest, bad_horizon] = std::from_chars(found ? cross + 1 : end, end, shape.H);
  if (!found || bad_horizon != std::errc() || rest != end || shape.D < 1 || shape.D > most || shape.H < 1 ||
      shape.H > most) {
    throw Error(Exit::usage,
                fmt::format("--shapes: channels x horizon from 1x1 to {0}x{0} expected, found '{1}'", most, text))
        .hint("for example --shapes 7x96,321x720");
  }
  return shape;
}

}  // namespace

int bench(const Invocation& invocation) {
  const Settings& settings = invocation.settings;
  const BenchSettings own = settings.of<BenchSettings>();
  std::vector<Shape> shapes;
  for (const std::string& text : own.shapes) shapes.push_back(parse_shape(text));
  if (shapes.empty()) {
    for (const int64_t D : {7, 21, 321, 862}) {
      for (const int64_t H : {96, 720}) shapes.push_back({D, H});
    }
  }
  const int threads = thread_count(settings);
  std::vector<Measured> measured;
  for (const Shape shape : shapes) {
    invocation.console.info(fmt::format("measuring {} channels, horizon {} ({} of {})", shape.D, shape.H,
                                        measured.size() + 1, shapes.size()));
    measured.push_back(measure_shape(settings, shape, threads));
    const Measured& m = measured.back();
    if (m.products_speedup < 0.75 * threads || m.exchange_seconds > 100e-9) {
      invocation.console.warning(fmt::format(
          "{} threads compute products {:.2f} times as fast as one, and a cache line takes {:.0f} ns from core "
          "to core (25 to 50 where they share a cache): these are the times of cores that are shared or far apart",
          threads, m.products_speedup, m.exchange_seconds * 1e9));
    }
  }
  const Report report = make_report(measured, settings, threads);
  if (settings.json || own.format == "json") {
    print(json_document(report), invocation.out);
  } else if (own.format == "csv") {
    print_csv(invocation.out, report);
  } else {
    print_tables(invocation.out, report, own.format == "md");
  }
  return 0;
}

Command bench_command() {
  return {.name = "bench",
          .handler = bench,
          .takes = {"value", "threads"},
          .options = {{.name = "format",
                       .member = at(&BenchSettings::format),
                       .help = "of the report; md: for issues",
                       .choices = {"text", "md", "csv", "json"}},
                      {.name = "shapes",
                       .member = at(&BenchSettings::shapes),
                       .value_name = "DxH[,DxH]",
                       .help = "channels and horizons to measure",
                       .default_text = "7, 21, 321, 862 x 96, 720"}},
          .summary = "measures every operation and the training step against this machine's own limits",
          .example = "samformer bench --shapes 7x96,321x96 --format md"};
}

}  // namespace samformer::tools
