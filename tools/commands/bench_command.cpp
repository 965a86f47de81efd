// `samformer bench`: how far each part of a training step is from what this machine can do. All of a shape's items are
// measured in turns (interleaved), each turn's calls back to back; the median over the turns is reported.
//
// Peaks: every product of the step alone, through kernels::gemm on operands as the step's, and a copy of an array as
// large as the batch's windows (a shape that fits the caches is held to the caches' speed). A product is 2 M N K
// operations and 4 (M K + K N + M N) bytes, C twice where it is added to; the copy moves 8 R L bytes. N windows,
// R = N D rows, H columns of the forecast, P trained parameters.
// A step is one of the model's own: with SAM where it has a radius, --rho. What is known of SAMformer's products is not of
// the other models': their peaks are one product of 2048 x 512 x 512 and a copy as large as what the step's mean
// operation reads and writes, and the floor of their step is the sum over the calls of its operations of the larger of
// operations over the product's speed and bytes over the copy's.
// Operations: those of the tape in steps of their own that it times. time: the median over the steps of a step's sum
// over all calls, both passes of SAM; operations and bytes: the same sums of what each call says that it costs.
// evaluation: a batch through optim::Evaluator, the forward pass's operations + 9 R H, bytes + 16 R H.
//
// share_of_peak: the larger of operations a second over the shape's fastest product, bytes a second over its copy.
// Floor of SAMformer's step: its products at their measured times + attention's 12 N D^2 (d_m + d_v) operations (two passes,
// nothing recomputed) at the fastest product's speed + the compulsory bytes at the copy's speed: revin once, in each
// pass 12 R H (z and the truth read, dz written), 56 P for norm, perturbation and update; without SAM one pass and 40 P.
// efficiency = floor / time.
// What the threads are worth on this machine, in the same run: products_speedup, the projection's product on one thread
// over all of them, and core_to_core_seconds, what a cache line takes from one core to another (cores that share a
// cache: 25 to 50 ns; a virtual machine's may be moved to where they do not, and everything one core wrote and the
// other reads then takes several times as long). Beside it the same large products (the windows with the weights,
// forward and backward) as dnnl_sgemm alone computes them on all threads: library_seconds, and time / library_seconds.
// Where the CPU has AVX512-BF16, the same step with --precision bf16; a series of each shape as CSV text, read by one
// thread (parsing and checks, not the disk).
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <numeric>
#include <optional>
#include <sstream>
#include <thread>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/onednn.h"
#include "kernels/gemm.h"
#include "model/data/csv.h"
#include "model/data/marks.h"
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

// ---- Measuring ----------------------------------------------------------------------------------------------------

struct Item {
  int threads;
  std::function<void()> run;
  bool library = false;   // it has threads of its own
  std::size_t calls = 1;  // in a turn
  std::vector<double> samples = {};
  double seconds = 0;
};

double median(std::vector<double> x) {
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}

void use_threads(int threads) {
  if (omp_get_max_threads() == threads) return;
  omp_set_num_threads(threads);
  kernels::parallel_for<float>(threads, [](int64_t) {});  // starts them
}

// Two threads hand a cache line to and fro: seconds a hand-over, once both are there. A thread stays in its block, so
// the other one gets the other block.
double exchange_seconds() {
  constexpr int hand_overs = 1024;
  struct alignas(64) {
    std::atomic<int> count = 0;
    double seconds = 0;
  } line;
  kernels::parallel_for<float>(2, [at = &line](int64_t block) {
    double begin = 0;
    for (int i = static_cast<int>(block); i <= hand_overs; i += 2) {
      for (int spins = 0; at->count.load(std::memory_order_acquire) != i; ++spins) {
        if (spins > 10000) std::this_thread::yield();  // both may be on one core
      }
      if (i == 2) begin = monotonic_seconds();
      if (i == hand_overs) at->seconds = (monotonic_seconds() - begin) / (hand_overs - 2);
      at->count.store(i + 1, std::memory_order_release);
    }
  });
  return line.seconds;
}

double turn(const Item& item) {
  use_threads(item.threads);
  if (item.library) item.run();  // starts the library's own threads
  const double begin = monotonic_seconds();
  for (std::size_t i = 0; i < item.calls; ++i) item.run();
  const double seconds = (monotonic_seconds() - begin) / static_cast<double>(item.calls);
  if (item.library) omp_pause_resource_all(omp_pause_soft);  // its threads would spin beside what is measured next
  return seconds;
}

void measure(std::deque<Item>& items) {
  for (Item& item : items) {
    turn(item);
    item.calls = static_cast<std::size_t>(std::clamp(turn_seconds / std::max(turn(item), 1e-7), 1.0, 256.0));
    item.samples.reserve(most_turns);
  }
  const double begin = monotonic_seconds();
  for (std::size_t t = 0; t < most_turns && (t < fewest_turns || monotonic_seconds() - begin < shape_seconds); ++t) {
    for (Item& item : items) item.samples.push_back(turn(item));
  }
  for (Item& item : items) item.seconds = median(item.samples);
}

// ---- What is measured ---------------------------------------------------------------------------------------------

struct Product {  // C [M][N] (+)= op(A) op(B)
  std::string name;
  bool transpose_a, transpose_b;
  int64_t M, N, K, lda, ldb, ldc;
  bool accumulate = false;
  bool in_parts = false;  // a weight's gradient, where K may be long

  Cost cost() const {
    Cost cost = product_cost(M, N, K);
    if (accumulate) cost.bytes += 4 * static_cast<double>(M * N);
    return cost;
  }
};

// Those of a step, of the other models one. O columns of z = [V | Q | K | F], d_v of the values.
struct Products {
  std::vector<Product> list;
  std::size_t large;  // the first ones: with the windows
  int64_t d_v;        // 0: of another model
};
Products products_of(const model::Model& model, int64_t R) {
  using model::Association, model::Value;
  const auto* const samformer = std::get_if<model::Samformer>(&model.network());
  if (!samformer) return {{{"product", false, false, 2048, 512, 512, 512, 512, 512}}, 0, 0};
  const auto [value, D, L, H, d_m] = samformer->shape();
  const bool low_rank = value == Value::low_rank, folded = samformer->association(R) == Association::folded;
  SAMFORMER_CHECK(!low_rank || folded, "bench: a batch of {} rows is too small", R);
  const bool own_values = !low_rank && folded;  // a product of their own, with weights that are folded
  const int64_t d_v = low_rank ? d_m : (folded ? H : L), O = (own_values ? 0 : d_v) + 2 * d_m + H;
  std::vector<Product> list = {{"projection", false, false, R, O, L, L, O, O},
                               {"projection_backward", true, false, O, L, R, O, L, L, !folded, true}};
  if (own_values) {
    list.push_back({"values", false, false, R, H, L, L, H, H});
    list.push_back({"values_backward", true, false, H, L, R, H, L, L, false, true});
  }
  const std::size_t large = list.size();
  if (folded) {
    const int64_t n = low_rank ? d_m : L;
    list.push_back({"fold", false, false, H, n, L, L, n, n});
    list.push_back({"fold_backward_head", false, true, H, L, n, n, n, L, true});
    list.push_back({low_rank ? "fold_backward_output" : "fold_backward_values", true, false, L, n, H, L, n, n});
  }
  if (!own_values) {
    list.push_back({"head", false, true, R, H, d_v, d_v, d_v, O, true});
    list.push_back({"head_backward_context", false, false, R, d_v, H, O, d_v, d_v});
    list.push_back({"head_backward_weight", true, false, H, d_v, R, O, d_v, d_v, false, true});
  }
  return {std::move(list), large, d_v};
}

// Memory for any of the products.
struct Operands {
  Arena<> arena;
  float *A, *B, *C, *work;

  // With room for a copy of so many floats.
  Operands(const std::vector<Product>& list, int64_t copied) {
    int64_t a = copied, b = copied, c = 0, parts = 1;
    for (const Product& p : list) {
      a = std::max(a, (p.transpose_a ? p.K : p.M) * p.lda), b = std::max(b, (p.transpose_b ? p.N : p.K) * p.ldb);
      c = std::max(c, p.M * p.ldc), parts = std::max(parts, kernels::gemm_parts_work<float>(p.M, p.N, p.K));
    }
    A = arena.allocate<float>(a), B = arena.allocate<float>(b), C = arena.allocate<float>(c);
    work = arena.allocate<float>(parts);
    std::fill_n(A, a, 1e-3f), std::fill_n(B, b, 1e-3f), std::fill_n(C, c, 0.0f);
  }
  void multiply(const Product& p) const {
    if (p.in_parts) {
      kernels::gemm_in_parts(Cpu{}, p.M, p.N, p.K, A, p.lda, B, p.ldb, {C, p.ldc, p.accumulate}, work);
    } else {
      kernels::gemm(Cpu{}, p.transpose_a, p.transpose_b, p.M, p.N, p.K, A, p.lda, B, p.ldb, C, p.ldc, p.accumulate);
    }
  }
  void by_library(const Product& p) const {
    kernels::library_product(p.transpose_a, p.transpose_b, p.M, p.N, p.K, A, p.lda, B, p.ldb, C, p.ldc, p.accumulate);
  }
  void copy(int64_t count) const {
    const int64_t size = kernels::blocks_of(count, omp_get_max_threads());
    kernels::parallel_for<float>(kernels::blocks_of(count, size), [=, from = A, to = B](int64_t block) {
      const int64_t first = block * size;
      std::memcpy(to + first, from + first, sizeof(float) * static_cast<std::size_t>(std::min(size, count - first)));
    });
  }
};

// A step's operations by name, in the order of their first calls.
struct Operations {
  struct Row {
    std::string name;
    Cost cost;  // of all calls in a step, and their time
    double in_step = 0;
    std::vector<double> samples = {};
  };
  std::vector<Row> rows;
  std::vector<Cost> calls;
  Cost forward;  // the first pass up to the loss, which alone needs the moments

  void add(const Profile& step) {
    for (Row& row : rows) row.cost = {}, row.in_step = 0;
    forward = {};
    calls.clear();
    bool before_loss = true;
    for (const auto& [name, begin, seconds, cost] : step.entries) {
      auto row = std::ranges::find(rows, name, &Row::name);
      if (row == rows.end()) row = rows.insert(row, Row{name, {}});
      row->cost.flops += cost.flops, row->cost.bytes += cost.bytes, row->in_step += seconds;
      calls.push_back(cost);
      before_loss &= name != "loss";
      if (before_loss && name != "moments") forward.flops += cost.flops, forward.bytes += cost.bytes;
    }
    for (Row& row : rows) row.samples.push_back(row.in_step);
  }
};

// ---- The report ---------------------------------------------------------------------------------------------------

// A table. Text and Markdown show the columns `keys` of its rows, JSON all of them.
struct Sheet {
  std::string kind, place, title, keys;  // kind: in CSV, place: in JSON
  Json rows = Json::array();
};
enum { products, copies, operations, steps, scaling, precisions, csv };
std::vector<Sheet> empty_sheets() {
  return {
      {"product", "/peaks/products", "Products, the peak of computation", "product D H M N K median_seconds gflops"},
      {"copy", "/peaks/copies", "Copying the windows, the peak of memory", "D H bytes median_seconds gbs"},
      {"operation", "/operations", "Operations", "op D H median_seconds flops bytes gflops gbs share_of_peak"},
      {"step", "/steps", "Training steps",
       "D H value seconds floor_seconds efficiency library_seconds over_library products_speedup core_to_core_seconds"},
      {"scaling", "/scaling", "Threads", "D H threads seconds speedup"},
      {"precision", "/precisions", "Training steps by precision", "D H precision seconds speedup"},
      {"csv", "/csv", "Reading CSV, one thread", "D bytes median_seconds mbs"}};
}

std::vector<std::string> words(const std::string& list) {
  std::istringstream in(list);
  return {std::istream_iterator<std::string>(in), {}};
}

// How text and Markdown show a key; others as they are.
struct Column {
  std::string key, heading;
  double scale = 1;
  int digits = 2;
};
const Column columns[] = {{"op", "operation"},
                          {"median_seconds", "ms", 1e3, 3},
                          {"seconds", "ms", 1e3, 3},
                          {"flops", "MFLOP", 1e-6},
                          {"bytes", "MB", 1e-6},
                          {"gflops", "GFLOP/s", 1, 1},
                          {"gbs", "GB/s", 1, 1},
                          {"mbs", "MB/s", 1, 0},
                          {"share_of_peak", "% of peak", 100, 0},
                          {"floor_seconds", "floor ms", 1e3, 3},
                          {"efficiency", "efficiency"},
                          {"library_seconds", "oneDNN's large products ms", 1e3, 3},
                          {"over_library", "ms / these"},
                          {"products_speedup", "threads' gain in products"},
                          {"core_to_core_seconds", "core to core ns", 1e9, 0},
                          {"speedup", "speed-up"}};

std::string shown(const Json& value, const Column& column) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  return fmt::format("{:.{}f}", value.get<double>() * column.scale, column.digits);
}

void print_tables(std::ostream& out, const std::vector<Sheet>& sheets, bool markdown) {
  for (const Sheet& sheet : sheets) {
    std::string alignment, rule = "|", lines;
    std::vector<std::string> heading;
    std::vector<Column> shown_as;
    for (const std::string& key : words(sheet.keys)) {
      if (!sheet.rows.front().contains(key)) continue;  // not of this model
      const auto* const known = std::ranges::find(columns, key, &Column::key);
      shown_as.push_back(known == std::end(columns) ? Column{key, key} : *known);
      heading.push_back(shown_as.back().heading);
      alignment += sheet.rows.front()[key].is_string() ? 'l' : 'r';
      rule += alignment.back() == 'l' ? "---|" : "---:|";
    }
    Table table(alignment, heading);
    for (const Json& row : sheet.rows) {
      std::vector<std::string> cells;
      for (const Column& column : shown_as) cells.push_back(shown(row[column.key], column));
      lines += fmt::format("| {} |\n", join(cells, " | "));
      table.row(std::move(cells));
    }
    if (markdown) {
      out << fmt::format("\n### {}\n\n| {} |\n{}\n{}", sheet.title, join(heading, " | "), rule, lines);
    } else {
      out << fmt::format("\n{}\n\n{}", sheet.title, table.str());
    }
  }
}

// One table with the columns of all, so that every line has the same number of cells.
void print_csv(std::ostream& out, const std::vector<Sheet>& sheets) {
  const std::vector<std::string> keys = words(
      "D H batch value threads seconds flops bytes M N K floor_seconds share_of_peak efficiency speedup precision "
      "library_seconds products_speedup core_to_core_seconds");
  out << fmt::format("kind,name,{}\n", join(keys, ","));
  for (const Sheet& sheet : sheets) {
    for (const Json& row : sheet.rows) {
      out << sheet.kind << ',' << row.value("product", row.value("op", ""));
      for (const std::string& key : keys) {
        const auto cell = row.find(key == "seconds" && !row.contains(key) ? "median_seconds" : key);
        out << ',';
        if (cell != row.end()) out << (cell->is_string() ? cell->get<std::string>() : cell->dump());
      }
      out << '\n';
    }
  }
}

// ---- One shape ----------------------------------------------------------------------------------------------------

// Whether the model is one of those that --value is for.
bool has_values(const Settings& settings) {
  const auto& options = model::model_row(settings.model).options;
  return std::ranges::find(options, "value", &model::ModelOption::name) != options.end();
}

// Measures the settings' model with D channels and adds the rows to the tables.
void measure_shape(const Settings& settings, int64_t D, int threads, std::vector<Sheet>& sheets) {
  const int64_t N = settings.batch, H = settings.horizon, L = settings.lookback, R = N * D;
  const model::Series series = model::make_seasonal({.rows = L + H + series_windows - 1, .channels = D});
  const model::Span all{0, series.rows};
  const model::MarkedValues values = model::marked_values(series, model::fit_scaler(series, all));
  std::vector<std::int32_t> starts = model::window_starts(all, L, H), targets(static_cast<std::size_t>(D));
  optim::shuffle(starts, 1, 0);
  std::iota(targets.begin(), targets.end(), 0);
  const optim::Problem problem = values.problem(targets);
  std::ostringstream written;
  model::write_csv(written, series);
  const std::string text = written.str();

  const model::Model model = settings.make_model(D, problem.marks);
  optim::StepSettings step_settings = trainer_settings(settings).step;
  optim::Training<float> training(model, step_settings);
  step_settings.bf16 = true;
  std::optional<optim::Training<float>> bf16_training;
  const auto& fixed = model::model_row(settings.model).fixed;
  if (kernels::bf16_available() &&
      std::ranges::none_of(fixed, [](const auto& setting) { return setting.first == "precision"; })) {
    bf16_training.emplace(model, step_settings);
  }
  optim::Evaluator evaluator(model, center_of(settings));
  initialise(training, model, settings);
  if (bf16_training) initialise(*bf16_training, model, settings);
  const auto batch = [&](std::size_t first) {
    return std::span<const std::int32_t>(starts).subspan(first, static_cast<std::size_t>(N));
  };
  std::size_t next = 0;
  const auto step = [&](optim::Training<float>& with) {
    with.step(problem.windows(batch(next)), problem.truth(batch(next), L), settings.lr);
    next = (next + static_cast<std::size_t>(N)) % starts.size();
  };

  const Products products_alone = products_of(model, R);
  const std::vector<Product>& list = products_alone.list;
  Operations in_step;
  auto profiled_step = [&, profile = Profile{}]() mutable {
    profile.entries.clear();
    training.set_profile(&profile);
    step(training);
    training.set_profile(nullptr);
    in_step.add(profile);
  };
  int64_t copied = R * L;
  if (products_alone.d_v == 0) {
    profiled_step();
    double bytes = 0;
    for (const Cost& cost : in_step.calls) bytes += cost.bytes;
    copied = std::max<int64_t>(1, std::llround(bytes / (8 * static_cast<double>(in_step.calls.size()))));
    in_step = {};
  }
  const Operands operands(list, copied);
  std::vector<double> hand_overs;
  std::deque<Item> items;
  const auto add = [&](int with, std::function<void()> run, bool library = false) {
    return &items.emplace_back(Item{with, std::move(run), library});
  };
  std::vector<const Item*> alone, by_library, float_steps;
  for (const Product& p : list) alone.push_back(add(threads, [&] { operands.multiply(p); }));
  const Item* const single = add(1, [&] { operands.multiply(list.front()); });
  if (threads > 1) add(threads, [&] { hand_overs.push_back(exchange_seconds()); });
  for (const Product& p : std::span(list).first(products_alone.large)) {
    by_library.push_back(add(
        threads, [&] { operands.by_library(p); }, true));
  }
  const Item* const copy = add(threads, [&] { operands.copy(copied); });
  const Item* const evaluation = add(threads, [&] { evaluator.errors(training.tested(), problem, batch(0)); });
  for (int t = 1; t < threads; t *= 2) float_steps.push_back(add(t, [&] { step(training); }));
  float_steps.push_back(add(threads, [&] { step(training); }));
  add(threads, profiled_step);
  const Item* const bf16 = bf16_training ? add(threads, [&] { step(*bf16_training); }) : nullptr;
  const Item* const read = add(1, [&] { model::parse_csv(text, "bench", {}); });
  measure(items);
  use_threads(threads);

  const int passes = settings.rho > 0 ? 2 : 1;
  double flops_peak = 0, floor = 0, library = 0;  // peaks: a second
  for (std::size_t i = 0; i < list.size(); ++i) {
    flops_peak = std::max(flops_peak, list[i].cost().flops / alone[i]->seconds);
    floor += passes * alone[i]->seconds;
  }
  for (const Item* item : by_library) library += passes * item->seconds;
  const double copied_bytes = 8 * static_cast<double>(copied), bytes_peak = copied_bytes / copy->seconds;
  if (products_alone.d_v > 0) {
    const int64_t d_m = settings.model_option<int64_t>("d-model"), P = model.parameters().trained_size();
    floor += static_cast<double>(passes * 6 * R * D * (d_m + products_alone.d_v)) / flops_peak;
    const int64_t of_slabs = passes == 2 ? 56 : 40;
    floor += static_cast<double>(4 * (2 * R * L + 2 * R) + passes * 12 * R * H + of_slabs * P) / bytes_peak;
  } else {
    floor = 0;
    for (const Cost& cost : in_step.calls) floor += std::max(cost.flops / flops_peak, cost.bytes / bytes_peak);
  }

  const auto row = [&](int sheet, Json named, const Json& more) {
    named.update({{"D", D}, {"H", H}, {"batch", N}});
    named.update(more);
    sheets[static_cast<std::size_t>(sheet)].rows.push_back(std::move(named));
  };
  const auto counted = [&](int sheet, const Json& named, Cost cost, double seconds) {
    const double flops = cost.flops / seconds, bytes = cost.bytes / seconds;
    row(sheet, named,
        {{"median_seconds", seconds},
         {"flops", cost.flops},
         {"bytes", cost.bytes},
         {"gflops", flops * 1e-9},
         {"gbs", bytes * 1e-9},
         {"share_of_peak", std::max(flops / flops_peak, bytes / bytes_peak)}});
  };
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Product& p = list[i];
    counted(products, {{"product", p.name}, {"M", p.M}, {"N", p.N}, {"K", p.K}}, p.cost(), alone[i]->seconds);
  }
  const Json none = Json::object();
  row(copies, none, {{"median_seconds", copy->seconds}, {"bytes", copied_bytes}, {"gbs", bytes_peak * 1e-9}});
  for (const Operations::Row& o : in_step.rows) counted(operations, {{"op", o.name}}, o.cost, median(o.samples));
  const Cost errors = float_cost(9 * R * H, 4 * R * H), forward = in_step.forward;
  counted(operations, {{"op", "evaluation"}}, {forward.flops + errors.flops, forward.bytes + errors.bytes},
          evaluation->seconds);
  const auto step_row = [&](int sheet, const Item& item, Json more) {
    if (has_values(settings)) more["value"] = settings.model_option<std::string>("value");
    more.update({{"threads", item.threads}, {"seconds", item.seconds}});
    row(sheet, none, more);
  };
  const Item &first = *float_steps.front(), &last = *float_steps.back();
  for (const Item* item : float_steps) step_row(scaling, *item, {{"speedup", first.seconds / item->seconds}});
  step_row(precisions, last, {{"precision", "float32"}, {"speedup", 1.0}});
  if (bf16) step_row(precisions, *bf16, {{"precision", "bf16"}, {"speedup", last.seconds / bf16->seconds}});
  Json of_step = {{"floor_seconds", floor},
                  {"efficiency", floor / last.seconds},
                  {"products_speedup", single->seconds / alone.front()->seconds},
                  {"core_to_core_seconds", hand_overs.empty() ? 0 : median(hand_overs)}};
  if (!by_library.empty()) of_step.update({{"library_seconds", library}, {"over_library", last.seconds / library}});
  step_row(steps, last, of_step);
  const double bytes = static_cast<double>(text.size());
  row(csv, none, {{"median_seconds", read->seconds}, {"bytes", bytes}, {"mbs", bytes / read->seconds * 1e-6}});
}

struct BenchSettings {
  std::string format = "text";
  std::vector<std::string> shapes;  // DxH; empty: all
};

struct Shape {
  int64_t D, H;
};

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
  Settings settings = invocation.settings;
  settings.shape_without_series();
  const BenchSettings own = settings.of<BenchSettings>();
  std::vector<Shape> shapes;
  for (const std::string& text : own.shapes) shapes.push_back(parse_shape(text));
  if (shapes.empty()) {
    for (const int64_t D : {7, 21, 321, 862}) {
      for (const int64_t H : {96, 720}) shapes.push_back({D, H});
    }
  }
  const int threads = thread_count(settings);
  std::vector<Sheet> sheets = empty_sheets();
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    invocation.console.info(
        fmt::format("measuring {} channels, horizon {} ({} of {})", shapes[i].D, shapes[i].H, i + 1, shapes.size()));
    Settings at_shape = settings;
    at_shape.horizon = shapes[i].H;
    measure_shape(at_shape, shapes[i].D, threads, sheets);
    const Json& step = sheets[steps].rows.back();
    const double gain = step["products_speedup"], exchange = step["core_to_core_seconds"];
    if (threads > 1 && (gain < 0.75 * threads || exchange > 100e-9)) {
      invocation.console.warning(fmt::format(
          "{} threads compute products {:.2f} times as fast as one, and a cache line takes {:.0f} ns from core "
          "to core (25 to 50 where they share a cache): these are the times of cores that are shared or far apart",
          threads, gain, exchange * 1e9));
    }
  }
  const auto fastest = [](const Sheet& sheet, const char* key) {
    double most = 0;
    for (const Json& row : sheet.rows) most = std::max(most, row[key].get<double>());
    return most;
  };
  const double gemm = fastest(sheets[products], "gflops"), copy = fastest(sheets[copies], "gbs");
  const std::string library = "oneDNN " + kernels::gemm_library_version();
  Json head = document("bench");
  if (settings.json || own.format == "json") {
    head.update({{"instruction_set", kernels::isa_name()},
                 {"gemm_library", library},
                 {"threads", threads},
                 {"model", settings.model},
                 {"rho", settings.rho},
                 {"precision", "float32"},
                 {"lookback", settings.lookback},
                 {"d_model", settings.model_option<int64_t>("d-model")},
                 {"batch", settings.batch},
                 {"peaks", {{"gemm_gflops", gemm}, {"copy_gbs", copy}}}});
    if (has_values(settings)) head["value"] = settings.model_option<std::string>("value");
    for (const Sheet& sheet : sheets) head[Json::json_pointer(sheet.place)] = sheet.rows;
    print(head, invocation.out);
  } else if (own.format == "csv") {
    print_csv(invocation.out, sheets);
  } else {
    invocation.out << fmt::format(
        "samformer {}, {} threads, {}, {}; {}{}, float32, L {}, batch {}, rho {}. Medians. Peaks: {:.0f} GFLOP/s "
        "(products), {:.1f} GB/s (copy).\n",
        head["version"].get<std::string>(), threads, kernels::isa_name(), library, settings.model,
        has_values(settings) ? fmt::format(" with {} values", settings.model_option<std::string>("value")) : "",
        settings.lookback, settings.batch, settings.rho, gemm, copy);
    print_tables(invocation.out, sheets, own.format == "md");
  }
  return 0;
}

Command bench_command() {
  return {.name = "bench",
          .handler = bench,
          .takes = {"Model", "preset", "lookback", "batch", "rho", "threads"},
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
          .example =
              "samformer bench --shapes 7x96,321x96 --format md\n"
              "  samformer bench --shapes 7x96 --model informer --preset published"};
}

}  // namespace samformer::tools
