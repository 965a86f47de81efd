// `samformer sweep`: trains every combination of the --grid values for every seed, several at a time, each in a process
// of its own, and ranks them by validation error. Trials are run with --no-test: only the winner sees the test split,
// once.
//
//   DIR/sweep.jsonl                the ledger: a first line with the common flags, then one line a finished trial
//   DIR/trials/KEY=VALUE/seed-N    each trial's run, seed-N.log what it said
//   DIR/sweep.json, report.html    the ranking
//
// The ledger (tools/run/runner.h) makes it resumable: the same command resumes where it was stopped, and a wider grid
// adds to it. A trial whose settings are at fault is recorded, left out and not repeated.

#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "core/random.h"
#include "core/text.h"
#include "tools/cli/signals.h"
#include "tools/report/svg.h"
#include "tools/run/analysis.h"
#include "tools/run/automatic.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"
#include "tools/run/stored_json.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr std::uint32_t sample_stream = 6;
constexpr std::size_t most_trials = 100000;

// Their flags are told apart in `invocation.flags`: --grid may be given several times.
struct SweepSettings {
  std::string grid;
  std::int64_t random = 0;
  std::string metric = "val_mse";
};

struct Axis {
  std::string key;
  std::vector<std::string> values;
};
using Trial = std::vector<std::pair<std::string, std::string>>;  // flag and value

Error grid_error(const std::string& grid, const std::string& what) {
  return Error(Exit::usage, fmt::format("--grid {}: {}", grid, what))
      .hint(
          "write KEY=V1,V2 or KEY=A..B..STEP or KEY=log:A..B:N, KEY a flag of train: --grid rho=0,0.5 --grid "
          "lr=log:1e-4..1e-2:5");
}

double number_in(const std::string& grid, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw grid_error(grid, fmt::format("'{}' is no number", text));
  }
  return value;
}

// "A..B..STEP" or "log:A..B:N"; anything else is a value as it stands.
std::vector<std::string> expand(const std::string& grid, std::string_view item, bool whole) {
  const bool logarithmic = item.starts_with("log:");
  if (logarithmic) item.remove_prefix(4);
  const std::size_t first = item.find(".."),
                    second = first == item.npos ? item.npos : item.find(logarithmic ? ":" : "..", first + 2);
  if (first == item.npos) {
    if (logarithmic) throw grid_error(grid, "log: needs A..B:N");
    return {std::string(item)};
  }
  if (second == item.npos) throw grid_error(grid, logarithmic ? "log: needs A..B:N" : "a range needs A..B..STEP");
  const double low = number_in(grid, item.substr(0, first)),
               high = number_in(grid, item.substr(first + 2, second - first - 2));
  const double last = number_in(grid, item.substr(second + (logarithmic ? 1 : 2)));
  if (!(low <= high)) throw grid_error(grid, "the range runs backwards");
  if (logarithmic ? !(low > 0 && last >= 2 && last == std::floor(last)) : !(last > 0)) {
    throw grid_error(grid, logarithmic ? "log: needs 0 < A and a whole N of at least 2" : "the step must be above 0");
  }
  const double count = logarithmic ? last : std::floor((high - low) / last + 1e-9) + 1;
  if (count > static_cast<double>(most_trials)) throw grid_error(grid, "too many values");
  std::vector<std::string> values;
  for (double i = 0; i < count; ++i) {
    const double v = logarithmic ? low * std::pow(high / low, i / (count - 1)) : low + i * last;
    values.push_back(fmt::format("{:.12g}", whole ? std::round(v) : v));
  }
  return values;
}

Axis parse_grid(const std::string& grid, const std::string& model) {
  const std::size_t equals = grid.find('=');
  const std::string key = grid.substr(0, equals);
  const Option* option = equals == grid.npos ? nullptr : find_option(key);
  if (!option || !option->stored) throw grid_error(grid, fmt::format("'{}' is no setting of train", key));
  for (const std::string_view own : {"seed", "seeds", "threads", "device"}) {
    if (option->name == own) throw grid_error(grid, "give seeds with --seeds, threads and device once for all");
  }
  Axis axis{std::string(option->name), {}};
  const bool whole = std::holds_alternative<std::int64_t>(option->default_value());
  for (std::size_t begin = equals + 1;;) {
    const std::size_t comma = grid.find(',', begin);
    for (std::string& value : expand(grid, std::string_view(grid).substr(begin, comma - begin), whole)) {
      resolve({{"model", model}, {axis.key, value}}, {});  // refuses what train would
      if (std::ranges::find(axis.values, value) == axis.values.end()) axis.values.push_back(std::move(value));
    }
    if (comma == grid.npos) return axis;
    begin = comma + 1;
  }
}

// All combinations, the last axis fastest; `sample` > 0: that many of them, drawn without repetition, in grid order.
std::vector<Trial> combinations(const std::vector<Axis>& axes, std::int64_t sample, std::uint64_t seed) {
  std::size_t count = 1;
  for (const Axis& axis : axes) {
    count *= axis.values.size();
    if (count > most_trials) throw Error(Exit::usage, fmt::format("--grid: more than {} combinations", most_trials));
  }
  std::set<std::size_t> chosen;
  const std::size_t wanted = sample > 0 ? std::min(count, static_cast<std::size_t>(sample)) : count;
  for (std::size_t i = 0; i < count; ++i) chosen.insert(chosen.end(), i);
  if (wanted < count) {
    // Each combination's own random number: the smallest ones are taken.
    std::vector<std::pair<double, std::size_t>> drawn;
    for (std::size_t i = 0; i < count; ++i) {
      const PhiloxBlock words = random_block(seed, sample_stream, 0, i);
      drawn.emplace_back(uniform01(words[0], words[1]), i);
    }
    std::ranges::sort(drawn);
    chosen.clear();
    for (std::size_t i = 0; i < wanted; ++i) chosen.insert(drawn[i].second);
  }
  std::vector<Trial> trials;
  for (std::size_t index : chosen) {
    Trial trial(axes.size());
    for (std::size_t a = axes.size(); a-- > 0; index /= axes[a].values.size()) {
      trial[a] = {axes[a].key, axes[a].values[index % axes[a].values.size()]};
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

std::string name_of(const Trial& trial) {
  std::string name;
  for (const auto& [key, value] : trial) name += fmt::format("{}{}={}", name.empty() ? "" : ",", key, value);
  return name;
}
// The same as a folder's name.
std::string folder_name(const Trial& trial) {
  std::string name = name_of(trial);
  std::ranges::replace(name, '/', '_');
  return name;
}

// The test split, for the first time: `eval` on all seeds of the winner.
Json test_winner(const Trial& winner, const fs::path& folder, bool several) {
  const StoredJson document =
      run_program({"eval", folder.string(), "--json", "--quiet"}, folder / "eval.json", folder / "eval.log");
  Json row = {{"tested", name_of(winner)}};
  for (const std::string name : {"test_mse", "test_mae"}) {
    const auto of = [&](const char* part) { return number_or_null(document.at(part).at(name).number_or_nan()); };
    row[name] = several ? of("mean") : number_or_null(document.at(name).number_or_nan());
    row[name + "_std"] = several ? of("std") : Json();
  }
  return row;
}

// Mean and deviation over the seeds; the trials with a failed seed last.
std::vector<Json> ranked(const std::vector<Trial>& trials, const std::vector<std::uint64_t>& seeds,
                         const std::string& metric, const Ledger& ledger) {
  std::vector<Json> rows;
  for (const Trial& trial : trials) {
    std::vector<double> values;
    Json failures = Json::array(), settings = Json::object();
    for (const auto& [key, value] : trial) settings[key] = value;
    for (const std::uint64_t seed : seeds) {
      const Json& row = *ledger.trial(name_of(trial), seed);
      if (row["status"] == "ok" && row[metric].is_number()) {
        values.push_back(row[metric]);
      } else {
        failures.push_back({{"seed", seed}, {"error", row.value("error", "no " + metric)}});
      }
    }
    const double n = static_cast<double>(values.size());
    double mean = 0, squares = 0;
    for (const double v : values) mean += v / n;
    for (const double v : values) squares += (v - mean) * (v - mean);
    rows.push_back({{"trial", name_of(trial)},
                    {"settings", settings},
                    {"seeds", values.size()},
                    {"mean", failures.empty() ? number_or_null(mean) : Json()},
                    {"std", failures.empty() && n > 1 ? number_or_null(std::sqrt(squares / (n - 1))) : Json()},
                    {"failures", failures}});
  }
  std::ranges::stable_sort(rows, [](const Json& a, const Json& b) {
    if (a["mean"].is_null() || b["mean"].is_null()) return !a["mean"].is_null() && b["mean"].is_null();
    return a["mean"].get<double>() < b["mean"].get<double>();
  });
  return rows;
}

std::string plus_minus(const Json& mean, const Json& deviation) {
  if (!mean.is_number()) return "failed";
  return deviation.is_number() ? fmt::format("{:.5f} ± {:.5f}", mean.get<double>(), deviation.get<double>())
                               : fmt::format("{:.5f}", mean.get<double>());
}

void write_report(const fs::path& folder, const Json& d, const std::vector<Axis>& axes) {
  Report page("Sweep", fmt::format("{} trials of {} seeds, ranked by the mean {}; only the first was tested",
                                   d["trials"].size(), d["seeds"].size(), d["metric"].get<std::string>()));
  const Json& winner = d["winner"];
  if (winner.is_object()) {
    page.figures({{"winner", winner["trial"]},
                  {d["metric"], plus_minus(winner["mean"], winner["std"])},
                  {"test MSE", plus_minus(winner["test_mse"], winner["test_mse_std"])},
                  {"test MAE", plus_minus(winner["test_mae"], winner["test_mae_std"])}});
  }
  // A curve over the first axis of numbers for each combination of the others, where there are few.
  const auto numeric = std::ranges::find_if(axes, [](const Axis& axis) {
    return axis.values.size() > 1 && std::ranges::all_of(axis.values, [](const std::string& v) {
             double number = 0;
             return std::from_chars(v.data(), v.data() + v.size(), number).ptr == v.data() + v.size();
           });
  });
  if (numeric != axes.end()) {
    std::map<std::string, std::map<double, double>> curves;
    for (const Json& t : d["trials"]) {
      if (!t["mean"].is_number()) continue;
      std::string others;
      for (const auto& [key, value] : t["settings"].items()) {
        if (key != numeric->key) others += (others.empty() ? "" : ", ") + key + "=" + value.get<std::string>();
      }
      curves[others][std::stod(t["settings"][numeric->key].get<std::string>())] = t["mean"];
    }
    if (!curves.empty() && curves.size() <= 6) {
      LineChart chart{"Validation by " + numeric->key, numeric->key, d["metric"], {}};
      for (const auto& [name, points] : curves) {
        Curve curve{name, {}, {}};
        for (const auto& [x, y] : points) {
          curve.x.push_back(x);
          curve.y.push_back(y);
        }
        chart.curves.push_back(std::move(curve));
      }
      page.charts({draw(chart)});
    }
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& t : d["trials"]) {
    std::string note = plus_minus(t["mean"], t["std"]);
    if (!t["failures"].empty()) note += ": " + t["failures"][0]["error"].get<std::string>();
    rows.push_back({t["trial"], note});
  }
  page.table({"trial", d["metric"].get<std::string>() + ", mean ± deviation"}, rows);
  page.write(folder);
}

void print_text(std::ostream& out, const Json& d) {
  Table table("lr", {"trial", d["metric"].get<std::string>() + " (mean over seeds)"});
  std::size_t shown = 0;
  for (const Json& t : d["trials"]) {
    if (shown++ == 20) break;
    table.row({t["trial"], plus_minus(t["mean"], t["std"])});
  }
  out << table.str();
  if (d["trials"].size() > 20) out << fmt::format("... {} more in sweep.json\n", d["trials"].size() - 20);
  const Json& w = d["winner"];
  if (!w.is_object()) {
    out << "\nevery trial failed: the ledger says why\n";
  } else {
    out << fmt::format("\nwinner: {}, test mse {}, test mae {}\n", w["trial"].get<std::string>(),
                       plus_minus(w["test_mse"], w["test_mse_std"]), plus_minus(w["test_mae"], w["test_mae_std"]));
  }
  out << fmt::format("\nwritten to {}: sweep.jsonl, sweep.json, report.html\n", d["out"].get<std::string>());
}

}  // namespace

int sweep(const Invocation& invocation) {
  const CatchSignals catch_signals;
  const Settings& asked = invocation.settings;
  const SweepSettings own = asked.of<SweepSettings>();
  if (asked.out.empty()) throw Error(Exit::usage, "sweep needs --out DIR for its ledger and runs");
  std::vector<Axis> axes;
  std::vector<std::string> common;  // flags of every trial, as they were given
  for (const auto& [name, text] : invocation.flags) {
    const Option& option = *find_option(name);
    if (option.name == "grid") {
      axes.push_back(parse_grid(text, asked.model));
    } else if (option.stored && option.name != "seed" && option.name != "seeds" && option.name != "threads") {
      common.push_back(fmt::format("--{}={}", option.name, text));
    }
  }
  if (axes.empty() && !own.grid.empty()) axes.push_back(parse_grid(own.grid, asked.model));
  if (axes.empty()) throw Error(Exit::usage, "sweep needs a --grid").hint("for example --grid rho=0..1..0.25");
  for (const Axis& axis : axes) {
    const auto same = [&](const Axis& other) { return &other != &axis && other.key == axis.key; };
    if (std::ranges::any_of(axes, same)) throw Error(Exit::usage, fmt::format("--grid {} is there twice", axis.key));
    if (std::ranges::any_of(common, [&](const std::string& word) { return word.starts_with("--" + axis.key + "="); })) {
      throw Error(Exit::usage, fmt::format("--{} is in the grid and a flag", axis.key));
    }
  }
  // What --config says of trials; the file may also have what is ours alone.
  std::vector<std::string_view> ours = {"seed", "seeds", "threads"};
  for (const Axis& axis : axes) ours.push_back(axis.key);
  for (std::string& word : stored_flags(invocation.resolved, Layer::file, Layer::file, ours)) {
    common.push_back(std::move(word));
  }
  if (asked.automatic) check_automatic(asked);
  const auto seed = static_cast<std::uint64_t>(asked.seed);
  const std::vector<std::uint64_t> seeds = asked.seeds.empty() ? std::vector{seed} : asked.seeds;
  const std::vector<Trial> trials = combinations(axes, own.random, seed);
  const auto [jobs, threads] = share_of_cores(asked, trials.size() * seeds.size());
  for (const Trial& trial : trials) {
    if (const std::string name = folder_name(trial); name.size() > NAME_MAX) {
      throw Error(Exit::usage, fmt::format("--grid: the trial '{}' would have a folder's name of {} bytes, expected at "
                                           "most {}",
                                           shown(name, 60), name.size(), NAME_MAX))
          .hint("give fewer axes, shorter values, or what all trials share as a flag");
    }
  }

  const fs::path folder = asked.out;
  if (fs::exists(asked.data)) never_replace(asked.data);
  require_no_input(folder, std::array{"sweep.jsonl", "sweep.json", "report.html", "eval.json", "eval.log"});
  make_folders(folder, "trials");
  const FolderLock lock(folder);
  Ledger ledger(folder / "sweep.jsonl", {{"sweep", common}}, {"val_mse", "train_loss"});
  Queue queue{{},
              jobs,
              threads,
              {"val_mse", "train_loss", "best_epoch", "epochs_run", "seconds_training", "parameters"},
              "val_mse"};
  std::vector<Task> tasks;
  for (const Trial& trial : trials) {
    for (const std::uint64_t s : seeds) {
      std::vector<std::string> words{"train"};
      words.insert(words.end(), common.begin(), common.end());
      for (const auto& [key, value] : trial) words.push_back(fmt::format("--{}={}", key, value));
      words.insert(words.end(), {"--no-test", "--seed", std::to_string(s)});
      tasks.push_back(
          {name_of(trial), s, words, folder, folder / "trials" / folder_name(trial) / fmt::format("seed-{}", s)});
    }
  }
  std::ranges::copy_if(tasks, std::back_inserter(queue.tasks),
                       [&](const Task& task) { return !ledger.trial(task.name, task.seed); });
  invocation.console.info(fmt::format("{} trials of {} seeds, {} runs to do, {} at a time with {} threads each",
                                      trials.size(), seeds.size(), queue.tasks.size(), jobs, threads));
  const std::vector<Unfinished> unfinished = run_queue(queue, ledger, invocation.console);
  const std::size_t failed = warn_of_failures(tasks, ledger, invocation.console);
  require_finished(unfinished);

  Json d = document("sweep");
  d["out"] = folder.string();
  d["metric"] = own.metric;
  d["seeds"] = seeds;
  d["jobs"] = jobs;
  d["threads"] = threads;
  d["failed"] = failed;
  d["trials"] = ranked(trials, seeds, own.metric, ledger);
  d["winner"] = nullptr;
  if (const Json& first = d["trials"][0]; first["mean"].is_number()) {
    const auto winner = std::ranges::find(trials, first["trial"].get<std::string>(), name_of);
    Json tested = ledger.tested(name_of(*winner));
    if (tested.is_null()) {
      tested = test_winner(*winner, folder / "trials" / folder_name(*winner), seeds.size() > 1);
      ledger.append(tested);
    }
    Json best = first;
    best.erase("failures");
    for (const char* name : {"test_mse", "test_mse_std", "test_mae", "test_mae_std"}) best[name] = tested[name];
    best["run_dir"] = (folder / "trials" / folder_name(*winner)).string();
    d["winner"] = best;
  }
  write_report(folder, d, axes);
  write_json(folder / "sweep.json", d);
  if (asked.json) {
    print(d, invocation.out);
  } else {
    print_text(invocation.out, d);
  }
  return d["winner"].is_null() ? static_cast<int>(Exit::check) : 0;
}

Command sweep_command() {
  return {.name = "sweep",
          .handler = sweep,
          .takes = takes_of_training({"jobs"}),
          .options = {{.name = "grid",
                       .member = at(&SweepSettings::grid),
                       .value_name = "KEY=V1,V2",
                       .help = "values of a flag: a list, A..B..STEP or log:A..B:N; may be given several times",
                       .default_text = "none"},
                      {.name = "random",
                       .member = at(&SweepSettings::random),
                       .value_name = "N",
                       .help = "N combinations of the grid, drawn with --seed",
                       .default_text = "all"},
                      {.name = "metric",
                       .member = at(&SweepSettings::metric),
                       .help = "what trials are ranked by",
                       .choices = {"val_mse", "train_loss"}}},
          .summary = "trains every combination of settings, ranks them by validation error, tests the winner once",
          .example = "samformer sweep --data ETTh1.csv --grid rho=0..1..0.25 --seeds 1..3 --out sweeps/rho",
          .texts = {{"threads", "CPU threads of each run", "the cores over --jobs"},
                    {"out", "folder of the ledger and the runs, needed; the same one goes on later", "none"}}};
}

}  // namespace samformer::tools
