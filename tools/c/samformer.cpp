// The C interface over the program's own `train` and over tools/run/forecasting.h.
#include "tools/c/samformer.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <span>
#include <sstream>
#include <thread>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "core/text.h"
#include "tools/cli/command.h"
#include "tools/cli/failure.h"
#include "tools/cli/text_format.h"
#include "tools/commands/commands.h"
#include "tools/run/automatic.h"
#include "tools/run/forecasting.h"
#include "tools/run/stored_json.h"
#include "tools/run/watch.h"

struct samformer_forecaster {
  std::vector<samformer::tools::Checkpoint> models;
  samformer::tools::MachineSettings machine;
  std::string info;
};

namespace samformer::tools {
namespace {
namespace fs = std::filesystem;

thread_local std::string error_text;

// Runs in a thread of its own: what the engine keeps for a thread (number of threads, inputs) is not the caller's.
template <class Body>
int guarded(const Body& body) noexcept {
  int code = 0;
  try {
    error_text.clear();
    std::string text;
    std::thread([&]() noexcept {
      try {
        try {
          body();
        } catch (...) {
          const Error error = current_failure();
          code = static_cast<int>(error.code);
          text = error_block(error);
        }
      } catch (...) {  // no memory for the message
        code = static_cast<int>(Exit::device);
      }
    }).join();
    error_text = code != 0 && text.empty() ? "out of memory" : std::move(text);  // short: needs none
  } catch (...) {
    code = static_cast<int>(Exit::device);
  }
  return code;
}

template <class T>
T& given(T* pointer, const char* name) {
  if (!pointer) throw Error(Exit::usage, fmt::format("{} is NULL", name));
  return *pointer;
}

// Messages go to a run's log.txt alone.
class Silent {
 public:
  Silent() : null_(std::fopen("/dev/null", "we"), &std::fclose), console(null_.get(), false, true, false) {
    if (!null_) throw Error(Exit::io, "cannot open /dev/null");
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> null_;

 public:
  Console console;
};

std::string flag_of(const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  std::vector<std::string> items;
  bool numbers = false;
  if (!value.is_array()) throw Error(Exit::usage, fmt::format("settings: '{}' is {}", key, value.dump()));
  for (const Json& item : value) {
    if (!item.is_string() && !item.is_number()) {
      throw Error(Exit::usage,
                  fmt::format("settings: '{}' holds {}, a text or a number was expected", key, item.dump()));
    }
    numbers |= item.is_number();
    items.push_back(flag_of(key, item));
  }
  return numbers ? join(items, ",") : names_list(items);
}

// The settings of a JSON object, as flags of a command that takes `taken` without `refused`.
Flags flags_of(const char* settings, const Takes& taken, std::initializer_list<std::string_view> refused = {}) {
  if (!settings) return {};
  const StoredJson read(settings, {"settings", "give a JSON object"});
  if (!read.json().is_object()) throw Error(Exit::usage, "settings: a JSON object was expected");
  std::vector<std::string> known;
  for (const Option& option : options()) {
    if (takes(taken, option) && std::ranges::count(refused, option.name) == 0) known.emplace_back(option.name);
  }
  Flags flags;
  for (const auto& [key, value] : read.json().items()) {
    const Option* const option = find_option(key);
    if (!option || std::ranges::count(known, option->name) == 0) {
      throw Error(Exit::usage, fmt::format("settings: unknown key '{}'", key)).hint(guess(key, known));
    }
    flags.emplace_back(option->name, flag_of(key, value));
  }
  return flags;
}

// A table of the values, as a file that the program reads.
std::string csv_of(const float* values, std::int64_t rows, std::span<const std::string> names,
                   const char* const* dates) {
  given(values, "values");
  const auto D = static_cast<std::int64_t>(names.size());
  if (rows < 1 || D < 1) throw Error(Exit::usage, fmt::format("{} rows of {} columns: there are no values", rows, D));
  std::string text = dates ? "date" : "";
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + csv_field(name);
  text += '\n';
  for (std::int64_t t = 0; t < rows; ++t) {
    if (dates) text += csv_field(&given(dates[t], "a date")) + ',';
    for (std::int64_t d = 0; d < D; ++d) {
      const float value = values[t * D + d];
      if (!std::isfinite(value)) {
        throw Error(Exit::data, fmt::format("values: row {}, column {} ('{}') is {}, a finite number was expected",
                                            t + 1, d + 1, names[static_cast<std::size_t>(d)], value))
            .hint("fill missing values in");
      }
      // Of the double: the same number as the program reads it.
      fmt::format_to(std::back_inserter(text), "{}{}", static_cast<double>(value), d + 1 < D ? ',' : '\n');
    }
  }
  return text;
}

std::unique_ptr<samformer_forecaster> load(const fs::path& run, const Settings& asked) {
  auto forecaster = std::make_unique<samformer_forecaster>();
  forecaster->models = read_run(run.string(), asked.weights);
  choose_member(forecaster->models, asked.member);
  forecaster->machine = asked;
  const Checkpoint& first = forecaster->models[0];
  Json hashes = Json::array(), targets = Json::array();
  for (const Checkpoint& model : forecaster->models) hashes.push_back(model.sha256);
  for (const std::int32_t t : first.targets) targets.push_back(first.columns[static_cast<std::size_t>(t)]);
  Json info = {{"weights_sha256", hashes.size() == 1 ? hashes[0] : hashes},
               {"run_dir", run.string()},
               {"channels", first.columns},
               {"targets", std::move(targets)},
               {"lookback", first.settings.lookback},
               {"horizon", first.settings.horizon},
               {"test_mse", nullptr},
               {"test_mae", nullptr}};
  if (const fs::path path = run / "result.json"; fs::exists(path)) {
    const StoredJson result = read_json(path, "train again, or take another copy of it");
    const auto mean = result.find("mean");  // of several seeds
    for (const char* name : {"test_mse", "test_mae"}) {
      if (const auto error = (mean ? *mean : result).find(name)) info[name] = error->json();
    }
  }
  forecaster->info = info.dump();
  return forecaster;
}

// The values that samformer_train() has left in a run's folder; empty where there is no such run.
fs::path values_of_run(const fs::path& folder) {
  if (!holds_run(folder)) return {};
  try {
    const fs::path data = read_run_settings(folder).data;
    const bool ours = data.parent_path() == fs::absolute(folder).lexically_normal() &&
                      data.filename().string().starts_with("series-");
    return ours ? data : fs::path();
  } catch (const Error&) {
    return {};
  }
}

void train_values(const float* values, std::int64_t rows, std::span<const std::string> names, const char* const* dates,
                  const char* settings, samformer_progress progress, void* user,
                  std::unique_ptr<samformer_forecaster>& trained) {
  const Command& command = *std::ranges::find(commands(), "train", &Command::name);
  Flags flags = flags_of(settings, command.takes, {"data", "resume", "config", "print-config", "dry-run"});
  const auto out = std::ranges::find(flags, "out", &Flags::value_type::first);
  if (out == flags.end() || out->second.empty()) {
    throw Error(Exit::usage, "settings: no 'out'").hint("name the folder of the run");
  }
  const fs::path folder = out->second;
  const std::string text = csv_of(values, rows, names, dates);
  // By its content: the values of a run that is there stay until another one stands in its place.
  const fs::path file = (fs::absolute(folder) / fmt::format("series-{}.csv", sha256(bytes_of(text)).substr(0, 12)));
  flags.emplace_back("data", file.string());
  if (!dates) flags.emplace_back("no-date", "true");
  Resolved resolved = resolve(flags, {}, command.takes);
  resolved.settings.json = true;
  const fs::path before = values_of_run(folder);
  bool is_new = false;
  if (!holds_run(folder) || resolved.settings.overwrite) {  // else `train` says so
    make_folders(folder);
    const FolderLock lock(folder);
    is_new = !fs::exists(file);
    if (is_new) write_atomic(file, text);
  }
  Silent silent;
  std::ostringstream document;
  if (progress) watch = [=](const char* epoch) { return progress(epoch, user) == 0; };
  std::error_code ignored;
  try {
    command.handler({resolved, resolved.settings, {}, document, silent.console, flags});
  } catch (...) {
    if (is_new && values_of_run(folder) != file.lexically_normal()) fs::remove(file, ignored);
    throw;
  }
  if (!before.empty() && before != file.lexically_normal()) fs::remove(before, ignored);
  trained = load(folder, resolved.settings);
}

void forecast(const samformer_forecaster& forecaster, const float* values, std::int64_t rows, const char* const* dates,
              float* result, std::int64_t size) {
  const Checkpoint& first = forecaster.models[0];
  if (first.panel || !first.basis.names().empty()) {
    throw Error(Exit::usage, first.panel ? "the model is one of a panel" : "the model has columns that are known ahead")
        .hint("forecast with `samformer predict`");
  }
  const std::int64_t L = first.settings.lookback, H = first.settings.horizon;
  const auto targets = static_cast<std::int64_t>(first.targets.size());
  given(result, "forecast");
  if (size < H * targets) {
    throw Error(Exit::usage,
                fmt::format("the forecast has {} steps of {} targets, there is room for {} numbers", H, targets, size));
  }
  Settings settings = first.settings;
  settings.no_date = !dates;
  settings.delimiter = "comma", settings.decimal = "point";
  for (std::string* name : {&settings.date_column, &settings.id, &settings.value_column, &settings.data_sha256}) {
    name->clear();
  }
  model::SeriesOptions options = series_options(first, settings);
  Silent silent;
  const model::Series series =
      at_step_of(first, settings, series_from(csv_of(values, rows, first.columns, dates), "values", settings, options),
                 silent.console);
  model::require_lookback(series, options, L, series.rows - 1);
  const std::vector<double> mean = mean_forecast(forecaster.models, settings, series, series.rows - 1,
                                                 dates_ahead(first, settings, series, series.rows - 1, H), nullptr, H,
                                                 select_device(forecaster.machine));
  for (std::int64_t i = 0; i < H * targets; ++i) {
    const auto d = static_cast<std::size_t>(first.targets[static_cast<std::size_t>(i % targets)]);
    // As `predict` writes it.
    result[i] = static_cast<float>(number_of(shortest(mean[static_cast<std::size_t>(i)], 1e-5 * first.scaler.std[d])));
  }
}

}  // namespace
}  // namespace samformer::tools

namespace tools = samformer::tools;

int samformer_train(const float* values, int64_t rows, int64_t columns, const char* const* names,
                    const char* const* dates, const char* settings, samformer_progress progress, void* user,
                    samformer_forecaster** out) {
  return tools::guarded([&] {
    tools::given(out, "out") = nullptr;
    tools::given(names, "names");
    std::vector<std::string> channels;
    for (int64_t d = 0; d < columns; ++d) channels.emplace_back(&tools::given(names[d], "a name"));
    std::unique_ptr<samformer_forecaster> trained;
    tools::train_values(values, rows, channels, dates, settings, progress, user, trained);
    *out = trained.release();
  });
}

int samformer_load(const char* run, const char* settings, samformer_forecaster** out) {
  return tools::guarded([&] {
    tools::given(out, "out") = nullptr;
    const tools::Takes taken = {"device", "threads", "weights", "member"};
    const tools::Resolved asked = tools::resolve(tools::flags_of(settings, taken), {}, taken);
    *out = tools::load(&tools::given(run, "run"), asked.settings).release();
  });
}

int samformer_predict(const samformer_forecaster* forecaster, const float* values, int64_t rows,
                      const char* const* dates, float* forecast, int64_t size) {
  return tools::guarded(
      [&] { tools::forecast(tools::given(forecaster, "forecaster"), values, rows, dates, forecast, size); });
}

int samformer_info(const samformer_forecaster* forecaster, const char** json) {
  return tools::guarded([&] {
    tools::given(json, "json") = nullptr;
    *json = tools::given(forecaster, "forecaster").info.c_str();
  });
}

void samformer_free(samformer_forecaster* forecaster) { delete forecaster; }

int samformer_abi(void) { return SAMFORMER_ABI; }

const char* samformer_error(void) { return tools::error_text.c_str(); }
