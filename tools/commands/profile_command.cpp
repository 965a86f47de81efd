// `samformer profile`: training steps, operation by operation: calls, time, operations and bytes, share of the
// roofline.
//
// On the CPU the tape times its operations, on a GPU events around each kernel do, with the steps launched kernel by
// kernel; the time of a step is then measured apart, as training runs it (one graph). share: the larger of operations a
// second over the peak of float32 and bytes a second over the peak of the memory. Peaks: of the CPU measured (its
// product with the windows, a copy of them), of a GPU from its clocks. --trace writes the steps for ui.perfetto.dev.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/io/file.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "tools/cli/document.h"
#include "tools/commands/commands.h"
#include "tools/run/experiment.h"

namespace samformer::tools {
namespace {

using std::int64_t;

double median(std::vector<double> x) {
  std::ranges::nth_element(x, x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2));
  return x[x.size() / 2];
}

// Operations and bytes a second of this CPU.
Cost cpu_peaks(int64_t R, int64_t L, int64_t O) {
  std::vector<float> x(static_cast<std::size_t>(R * L), 0.5f), w(static_cast<std::size_t>(O * L), 0.25f),
      z(static_cast<std::size_t>(R * O)), copy(x.size());
  double product = 1e30, move = 1e30;
  for (int i = 0; i < 20; ++i) {
    const double begin = monotonic_seconds();
    kernels::gemm(false, true, R, O, L, x.data(), L, w.data(), L, z.data(), O, false);
    const double between = monotonic_seconds();
    kernels::for_rows<float>(R, L, [&](int64_t r) {
      std::memcpy(copy.data() + r * L, x.data() + r * L, static_cast<std::size_t>(L) * sizeof(float));
    });
    product = std::min(product, between - begin);
    move = std::min(move, monotonic_seconds() - between);
  }
  return {2 * static_cast<double>(R * L * O) / product, 8 * static_cast<double>(R * L) / move};
}

struct Row {
  std::string name;
  int64_t calls = 0;
  double seconds = 0;
  Cost cost;
};

// By operation, in the order of the first call. Seconds: the median over the steps, times the steps: what another
// program takes of the machine in one of them does not count.
std::vector<Row> rows_of(const Profile& profile, std::size_t steps) {
  std::vector<Row> rows;
  std::vector<std::vector<double>> seconds;
  const std::size_t in_a_step = profile.entries.size() / steps;
  for (std::size_t i = 0; i < profile.entries.size(); ++i) {
    const Profile::Entry& e = profile.entries[i];
    auto row = std::ranges::find(rows, e.name, &Row::name);
    if (row == rows.end()) {
      row = rows.insert(row, Row{e.name, 0, 0, {}});
      seconds.emplace_back(steps);
    }
    ++row->calls;
    seconds[static_cast<std::size_t>(row - rows.begin())][i / in_a_step] += e.seconds;
    row->cost.flops += e.cost.flops;
    row->cost.bytes += e.cost.bytes;
  }
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i].seconds = static_cast<double>(steps) * median(seconds[i]);
  return rows;
}

// The format of chrome://tracing and ui.perfetto.dev; microseconds.
std::string chrome_trace(const Profile& profile, const std::string& device) {
  Json events = Json::array();
  events.push_back({{"name", "process_name"}, {"ph", "M"}, {"pid", 1}, {"args", {{"name", "samformer " + device}}}});
  for (const Profile::Entry& e : profile.entries) {
    events.push_back({{"name", e.name},
                      {"ph", "X"},
                      {"pid", 1},
                      {"tid", 1},
                      {"ts", (e.begin - profile.entries.front().begin) * 1e6},
                      {"dur", e.seconds * 1e6},
                      {"args", {{"flops", e.cost.flops}, {"bytes", e.cost.bytes}}}});
  }
  return Json{{"displayTimeUnit", "ns"}, {"traceEvents", events}}.dump() + "\n";
}

struct ProfileSettings {
  std::int64_t steps = 20;
  std::string trace;
};

}  // namespace

int profile(const Invocation& invocation) {
  Settings settings = invocation.settings;
  const ProfileSettings own = settings.of<ProfileSettings>();
  if (!settings.resume.empty() || !settings.seeds.empty() || settings.automatic || settings.tune) {
    throw Error(Exit::usage, "profile: --resume, --seeds, --auto and --tune belong to train")
        .hint("it runs the steps of one model: --model, --seed");
  }
  const ChosenDevice device = select_device(settings);
  const Experiment experiment = load_experiment(settings, invocation.console);
  const model::Model model = make_model(settings, experiment);
  const optim::Problem problem = experiment.problem();
  const optim::TrainerSettings t = trainer_settings(settings);
  optim::Training<float> training(model, t.step);
  initialise(training, model, settings);

  // As many full batches as steps and one to warm up, epoch after epoch.
  const int64_t steps = own.steps + 1, batch = settings.batch;
  const std::vector<std::int32_t> starts =
      model::window_starts(experiment.series, experiment.splits.train, settings.lookback, settings.horizon);
  std::vector<std::int32_t> order, epoch;
  for (int64_t e = 0; static_cast<int64_t>(order.size()) < steps * batch; ++e) {
    epoch = starts;
    optim::shuffle(epoch, t.seed, e);
    order.insert(order.end(), epoch.begin(), epoch.end());
  }
  order.resize(static_cast<std::size_t>(steps * batch));

  Profile operations, whole;
  if (device.gpu) {
    const auto loaded = device.gpu->load(model, problem, t.step.center);
    for (Profile* profile : {&operations, &whole}) {
      loaded->set_profile(profile, profile == &operations);
      loaded->train(training, order, 0, batch, t.lr, [](int64_t) {});
    }
  } else {
    for (Profile* profile : {&operations, &whole}) {
      training.set_profile(profile == &operations ? profile : nullptr);
      Timer<Cpu> timer{{}, profile == &whole ? profile : nullptr};
      for (int64_t i = 0; i < steps; ++i) {
        const auto part = std::span<const std::int32_t>(order).subspan(static_cast<std::size_t>(i * batch),
                                                                       static_cast<std::size_t>(batch));
        const Stopwatch<Cpu> step(timer, "SAM step", {});
        training.step(problem.windows(part), problem.truth(part, settings.lookback), t.lr);
      }
    }
  }
  for (Profile* profile : {&operations, &whole}) {  // the first step was to warm up
    auto& all = profile->entries;
    all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / static_cast<std::size_t>(steps)));
  }
  std::vector<double> times;
  for (const Profile::Entry& e : whole.entries) times.push_back(e.seconds);
  const double step_seconds = median(times);
  const int64_t columns = 3 * settings.model_option<std::int64_t>("d-model") + settings.horizon;
  const Cost peaks = device.gpu ? device.gpu->peaks() : cpu_peaks(batch * experiment.D(), settings.lookback, columns);

  Json table = Json::array();
  double sum = 0;
  for (const Row& row : rows_of(operations, static_cast<std::size_t>(own.steps))) {
    sum += row.seconds;
    const double share = std::max(row.cost.flops / peaks.flops, row.cost.bytes / peaks.bytes) / row.seconds;
    table.push_back({{"op", row.name},
                     {"calls", row.calls},
                     {"seconds", row.seconds},
                     {"flops", row.cost.flops},
                     {"bytes", row.cost.bytes},
                     {"share_of_peak", share}});
  }
  if (!own.trace.empty()) write_atomic(own.trace, chrome_trace(operations, device.name));
  Json result = document("profile");
  result.update(Json{{"device", device.name},
                     {"description", device.gpu ? Json(device.gpu->description()) : Json(nullptr)},
                     {"precision", settings.precision},
                     {"threads", thread_count(settings)},
                     {"channels", experiment.D()},
                     {"lookback", settings.lookback},
                     {"horizon", settings.horizon},
                     {"batch", batch},
                     {"value", settings.model_option<std::string>("value")},
                     {"steps", own.steps},
                     {"seconds_per_step", step_seconds},
                     {"seconds_per_step_of_operations", sum / static_cast<double>(own.steps)},
                     {"peaks", {{"flops", peaks.flops}, {"bytes", peaks.bytes}}},
                     {"operations", table}});
  if (settings.json) {
    print(result, invocation.out);
    return 0;
  }
  const double n = static_cast<double>(own.steps);
  Table text("lrrrrrrr", {"operation", "calls a step", "us a step", "% of time", "MFLOP a step", "MB a step", "GFLOP/s",
                          "% of roofline"});
  for (const Json& row : table) {
    const double seconds = row["seconds"], flops = row["flops"], bytes = row["bytes"], share = row["share_of_peak"];
    text.row({row["op"], fmt::format("{:.3g}", static_cast<double>(row["calls"].get<int64_t>()) / n),
              fmt::format("{:.1f}", seconds / n * 1e6), fmt::format("{:.1f}", 100 * seconds / sum),
              fmt::format("{:.3f}", flops / n * 1e-6), fmt::format("{:.3f}", bytes / n * 1e-6),
              fmt::format("{:.1f}", flops / seconds * 1e-9), fmt::format("{:.0f}", 100 * share)});
  }
  invocation.out
      << text.str()
      << fmt::format(
             "\n{}: a step takes {:.1f} us{}, its operations {:.1f} us one by one; peaks {:.0f} GFLOP/s, {:.1f} "
             "GB/s\n",
             device.gpu ? device.gpu->description() : "cpu", step_seconds * 1e6, device.gpu ? " as one graph" : "",
             sum / n * 1e6, peaks.flops * 1e-9, peaks.bytes * 1e-9);
  if (!own.trace.empty()) {
    invocation.console.info(fmt::format("{}: open it in ui.perfetto.dev or chrome://tracing", own.trace));
  }
  return 0;
}

Command profile_command() {
  return {.name = "profile",
          .handler = profile,
          .takes = takes_of_training(),
          .options = {{.name = "steps",
                       .member = at(&ProfileSettings::steps),
                       .value_name = "N",
                       .help = "training steps to profile",
                       .range = from_one},
                      {.name = "trace",
                       .member = at(&ProfileSettings::trace),
                       .value_name = "FILE",
                       .help = "the steps as a Chrome trace, for ui.perfetto.dev",
                       .default_text = "none"}},
          .summary = "times the operations of training steps on the CPU or a GPU, beside the machine's limits",
          .example = "samformer profile --data ETTh1.csv --device cuda --steps 20 --trace steps.json",
          .texts = {{"out", "of a trained run; a profile writes --trace alone", "none"}}};
}

}  // namespace samformer::tools
