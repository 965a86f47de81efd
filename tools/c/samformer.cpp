// The C interface over the program's own `train` and `backtest`, and over tools/run/prediction.h.
#include "tools/c/samformer.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <sstream>
#include <string_view>
#include <thread>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "core/text.h"
#include "tools/cli/command_line.h"
#include "tools/cli/failure.h"
#include "tools/cli/text_format.h"
#include "tools/commands/commands.h"
#include "tools/run/automatic.h"
#include "tools/run/datasets.h"
#include "tools/run/forecasting.h"
#include "tools/run/prediction.h"
#include "tools/run/runner.h"
#include "tools/run/stored_json.h"
#include "tools/run/watch.h"

struct samformer_forecaster {
  std::vector<samformer::tools::Checkpoint> models;
  samformer::tools::MachineSettings machine;
  std::filesystem::path run;
  std::string info;
};

namespace samformer::tools {
namespace {
namespace fs = std::filesystem;

thread_local std::string error_text, error_document, result_text, warning_text;
thread_local std::string warned;  // in the thread of guarded()

// Runs in a thread of its own: what the engine keeps for a thread (number of threads, inputs) is not the caller's.
template <class Body>
int guarded(const Body& body) noexcept {
  int code = 0;
  try {
    error_text.clear(), error_document.clear(), warning_text.clear();
    std::string text, document, warnings;
    std::thread([&]() noexcept {
      try {
        try {
          body();
        } catch (...) {
          const Error error = current_failure();
          code = static_cast<int>(error.code);
          text = error_block(error);
          document = error_json(error).dump(-1, ' ', false, Json::error_handler_t::replace);
        }
      } catch (...) {  // no memory for the message
        code = static_cast<int>(Exit::device);
      }
      warnings = std::move(warned);
    }).join();
    error_text = code != 0 && text.empty() ? "out of memory" : std::move(text);  // short: needs none
    error_document = std::move(document);
    warning_text = std::move(warnings);
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

// Messages go to a run's log.txt alone; warnings are kept too.
class Silent {
 public:
  Silent() : stream_(open_memstream(&text_, &size_)), console(stream_, false, true, false) {
    if (!stream_) throw std::bad_alloc();
  }
  Silent(const Silent&) = delete;
  Silent& operator=(const Silent&) = delete;
  ~Silent() {
    std::fclose(stream_);
    try {
      if (size_ > 0) warned.append(text_, size_);
    } catch (const std::bad_alloc&) {  // then nothing was warned of
    }
    std::free(text_);
  }

 private:
  char* text_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* stream_;

 public:
  Console console;
};

const Command& command_named(std::string_view name) { return *std::ranges::find(commands(), name, &Command::name); }

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

std::vector<std::string> names_of(const samformer_table& table) {
  given(table.values, "values");
  given(table.names, "names");
  if (table.rows < 1 || table.columns < 1) {
    throw Error(Exit::usage, fmt::format("{} rows of {} columns: there are no values", table.rows, table.columns));
  }
  std::vector<std::string> names;
  for (std::int64_t d = 0; d < table.columns; ++d) names.emplace_back(&given(table.names[d], "a name"));
  return names;
}

// The table as a file that the program reads, in pieces for `write`.
template <class Write>
void write_csv(const samformer_table& table, const Write& write) {
  constexpr std::size_t piece = 1 << 16;
  const std::vector<std::string> names = names_of(table);
  std::string text;
  const auto add = [&](const char* cell) { text += csv_field(cell) + ','; };
  if (table.ids) add("unique_id");
  if (table.dates) add("date");
  for (const std::string& name : names) add(name.c_str());
  text.back() = '\n';
  for (std::int64_t t = 0; t < table.rows; ++t) {
    if (table.ids) add(&given(table.ids[t], "an id"));
    if (table.dates) add(&given(table.dates[t], "a date"));
    for (std::int64_t d = 0; d < table.columns; ++d) {
      const float value = table.values[t * table.columns + d];
      if (std::isinf(value)) {
        throw Error(Exit::data, fmt::format("values: row {}, column {} ('{}') is {}, a finite number was expected",
                                            t + 1, d + 1, names[static_cast<std::size_t>(d)], value))
            .hint("give the number, or NaN where it is missing");
      }
      // Of the double: the same number as the program reads it; nan is a missing value to it too.
      fmt::format_to(std::back_inserter(text), "{},", static_cast<double>(value));
    }
    text.back() = '\n';
    if (text.size() >= piece || t + 1 == table.rows) {
      write(std::string_view(text));
      text.clear();
    }
  }
}

// Of all that write_csv() writes, without writing it.
std::string hash_of(const samformer_table& table) {
  Sha256 hash;
  const auto add = [&](const char* text) { hash.update(std::as_bytes(std::span(text, std::strlen(text) + 1))); };
  for (const std::string& name : names_of(table)) add(name.c_str());
  for (const char* const* texts : {table.ids, table.dates}) {
    add(texts ? "given" : "none");
    for (std::int64_t t = 0; texts && t < table.rows; ++t) add(&given(texts[t], "a text"));
  }
  const auto size = static_cast<std::size_t>(table.rows) * static_cast<std::size_t>(table.columns);
  return hash.update(std::as_bytes(std::span(table.values, size))).hex();
}

// How such a file is read.
void describe(const samformer_table& table, DataSettings& settings) {
  settings.no_date = !table.dates;
  settings.delimiter = "comma", settings.decimal = "point";
  settings.date_column = table.dates ? "date" : "";
  settings.id = table.ids ? "unique_id" : "";
  settings.value_column = table.ids ? table.names[0] : "";
}

model::Series series_of_table(const samformer_table& table, const Settings& settings,
                              const model::SeriesOptions& options) {
  std::string text;
  write_csv(table, [&](std::string_view piece) { text += piece; });
  return series_from(text, "values", settings, options);
}

std::unique_ptr<samformer_forecaster> load(const fs::path& run, const Settings& asked) {
  auto forecaster = std::make_unique<samformer_forecaster>();
  forecaster->models = read_run(run.string(), asked.weights);
  choose_member(forecaster->models, asked.member);
  forecaster->machine = asked;
  forecaster->run = fs::absolute(run);
  const Checkpoint& first = forecaster->models[0];
  Json hashes = Json::array(), targets = Json::array();
  for (const Checkpoint& model : forecaster->models) hashes.push_back(model.sha256);
  for (const std::int32_t t : first.targets) targets.push_back(first.columns[static_cast<std::size_t>(t)]);
  Json info = {{"weights_sha256", hashes.size() == 1 ? hashes[0] : hashes},
               {"run_dir", run.string()},
               {"channels", first.columns},
               {"targets", std::move(targets)},
               {"known_ahead", first.basis.names()},
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

bool is_ours(const fs::path& file) { return file.filename().string().starts_with("series-"); }

// The values that samformer_train() has left in a run's folder; empty where there is no such run.
fs::path values_of_run(const fs::path& folder) {
  if (!holds_run(folder)) return {};
  try {
    const fs::path data = read_run_settings(folder).data;
    return data.parent_path() == fs::absolute(folder).lexically_normal() && is_ours(data) ? data : fs::path();
  } catch (const Error&) {
    return {};
  }
}

Watch watch_of(const samformer_watch* follow) {
  if (!follow) return {};
  return [=](const char* epoch) {
    if (follow->stop && __atomic_load_n(follow->stop, __ATOMIC_RELAXED) != 0) return false;
    return !epoch || !follow->progress || follow->progress(epoch, follow->user) == 0;
  };
}

// A command that has the table for its --data.
Resolved run_on_table(std::string_view name, const samformer_table& table, const char* settings,
                      std::initializer_list<std::string_view> refused, const samformer_watch* follow,
                      std::ostream& document) {
  const Command& command = command_named(name);
  Flags flags = flags_of(settings, command.takes, refused);
  const auto out = std::ranges::find(flags, "out", &Flags::value_type::first);
  if (out == flags.end() || out->second.empty()) {
    throw Error(Exit::usage, "settings: no 'out'").hint("name the folder of the run");
  }
  const fs::path folder = out->second;
  // By its content: the values of a run that is there stay until another one stands in its place.
  const fs::path file = fs::absolute(folder) / fmt::format("series-{}.csv", hash_of(table).substr(0, 12));
  flags.emplace_back("data", file.string());
  if (!table.dates) flags.emplace_back("no-date", "true");
  // Of several columns nobody would guess which.
  if (table.ids && table.columns > 1) flags.emplace_back("value-column", table.names[0]);
  Resolved resolved = resolve(flags, {}, command.takes);
  resolved.settings.json = true;
  resolved.settings.jobs = 1;  // of a backtest, in this thread
  const fs::path before = values_of_run(folder);
  bool is_new = false;
  if (!holds_run(folder) || resolved.settings.overwrite) {  // else `train` says so
    make_folders(folder);
    const FolderLock lock(folder);
    is_new = !fs::exists(file);
    if (is_new) {
      AtomicFile written(file);
      write_csv(table, [&](std::string_view piece) { written.write(bytes_of(piece)); });
      written.commit();
    }
  }
  Silent silent;
  watch = watch_of(follow);
  std::error_code ignored;
  try {
    command.handler({resolved, resolved.settings, {}, document, silent.console, flags});
  } catch (...) {
    if (is_new && values_of_run(folder) != file.lexically_normal()) fs::remove(file, ignored);
    throw;
  }
  if (!before.empty() && before != file.lexically_normal()) fs::remove(before, ignored);
  return resolved;
}

std::unique_ptr<samformer_forecaster> resume(const std::string& run, const char* settings,
                                             const samformer_watch* follow) {
  const Command& command = command_named("train");
  Flags flags = flags_of(settings, command.takes, {"data", "out", "resume", "config", "print-config", "dry-run"});
  flags.emplace_back("resume", run);
  Resolved resolved = resolve(flags, {}, command.takes);
  resolved.settings.json = true;
  Silent silent;
  watch = watch_of(follow);
  std::ostringstream document;
  command.handler({resolved, resolved.settings, {}, document, silent.console, flags});
  return load(run, resolved.settings);
}

// In this thread and process, whose program is another one.
void run_here(const std::vector<std::string>& words, std::ostream& out) {
  const CommandLine line = parse_command_line(commands(), words);
  const Resolved resolved = resolve(line.flags, {}, line.command->takes);
  Silent silent;
  line.command->handler({resolved, resolved.settings, line.arguments, out, silent.console, line.flags});
}

// A forecast with what its pointers point to.
struct OwnForecast : samformer_forecast {
  explicit OwnForecast(Forecast given) : samformer_forecast{}, f(std::move(given)) {
    for (const std::string& name : name_texts = f.names()) name_list.push_back(name.c_str());
    for (const Forecast::Part& part : f.parts) {
      for (std::size_t h = 0; h < f.steps(); ++h) {
        date_list.push_back(f.dates[part.dates][h].c_str());
        id_list.push_back(part.id.c_str());
      }
      for (const std::string& text : part.texts) numbers.push_back(number_of(text));
    }
    values = numbers.data();
    rows = std::ssize(date_list), columns = std::ssize(name_list);
    names = name_list.data(), dates = date_list.data();
    ids = f.long_form ? id_list.data() : nullptr;
  }

 private:
  Forecast f;
  std::vector<double> numbers;
  std::vector<std::string> name_texts;
  std::vector<const char*> name_list, date_list, id_list;
};

std::unique_ptr<OwnForecast> forecast(const samformer_forecaster& forecaster, const samformer_table* table,
                                      const samformer_table* future, const char* asked_text) {
  const Checkpoint& first = forecaster.models[0];
  const Command& command = command_named("predict");
  const Resolved asked = resolve(
      flags_of(asked_text, command.takes, {"data", "out", "future-data", "weights", "member", "device", "threads"}), {},
      command.takes);
  Settings settings = settings_of_prediction(first, asked);
  Silent silent;
  model::Series series;
  if (table) {
    names_of(*table);
    describe(*table, settings);
    const model::SeriesOptions options = options_of_prediction(first, settings, asked);
    series = at_step_of(first, settings, series_of_table(*table, settings, options), silent.console);
  } else {
    // The run may have been moved, and its values with it.
    const fs::path data = settings.data, here = forecaster.run / data.filename();
    if (is_ours(data) && fs::exists(here)) settings.data = here.string();
    series = series_of(first, settings, options_of_prediction(first, settings, asked), silent.console);
  }
  std::optional<model::Series> ahead;
  if (future) {
    names_of(*future);
    Settings of_future = settings_of_future(settings);
    describe(*future, of_future);
    ahead = series_of_table(*future, of_future, series_options(of_future));
    check_future(first, *ahead, silent.console);
  }
  Forecast f = predict_after(forecaster.models, settings, asked, series, ahead ? &*ahead : nullptr,
                             select_device(forecaster.machine), silent.console);
  if (!f.long_form && !series.long_form.id.empty()) f = in_long_form(f, series.long_form.value);
  return std::make_unique<OwnForecast>(std::move(f));
}

}  // namespace

// In place of tools/run/fetch.cpp, which then is not linked, nor libcurl and the thirty libraries behind it.
Fetched fetch_dataset(const Dataset&, const FetchOptions&) {
  throw Error(Exit::usage, "the library downloads nothing").hint("samformer data fetch");
}
std::string libcurl_version() { return "none"; }

}  // namespace samformer::tools

namespace tools = samformer::tools;

int samformer_train(const samformer_table* table, const char* settings, const samformer_watch* watch,
                    samformer_forecaster** out) {
  return tools::guarded([&] {
    tools::given(out, "out") = nullptr;
    std::ostringstream document;
    const tools::Resolved resolved =
        tools::run_on_table("train", tools::given(table, "table"), settings,
                            {"data", "resume", "config", "print-config", "dry-run"}, watch, document);
    *out = tools::load(resolved.settings.out, resolved.settings).release();
  });
}

int samformer_resume(const char* run, const char* settings, const samformer_watch* watch, samformer_forecaster** out) {
  return tools::guarded([&] {
    tools::given(out, "out") = nullptr;
    *out = tools::resume(&tools::given(run, "run"), settings, watch).release();
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

int samformer_predict(const samformer_forecaster* forecaster, const samformer_table* table,
                      const samformer_table* future, const char* settings, samformer_forecast** out) {
  return tools::guarded([&] {
    tools::given(out, "out") = nullptr;
    *out = tools::forecast(tools::given(forecaster, "forecaster"), table, future, settings).release();
  });
}

int samformer_backtest(const samformer_table* table, const char* settings, const samformer_watch* watch,
                       const char** json) {
  std::string result;
  const int code = tools::guarded([&] {
    tools::given(json, "json") = nullptr;
    tools::run_task_here = tools::run_here;
    std::ostringstream document;
    tools::run_on_table("backtest", tools::given(table, "table"), settings,
                        {"data", "resume", "config", "print-config", "dry-run", "jobs"}, watch, document);
    result = document.str();
  });
  if (code != 0) return code;
  tools::result_text = std::move(result);
  *json = tools::result_text.c_str();
  return code;
}

int samformer_info(const samformer_forecaster* forecaster, const char** json) {
  return tools::guarded([&] {
    tools::given(json, "json") = nullptr;
    *json = tools::given(forecaster, "forecaster").info.c_str();
  });
}

void samformer_free(samformer_forecaster* forecaster) { delete forecaster; }

void samformer_free_forecast(samformer_forecast* forecast) { delete static_cast<tools::OwnForecast*>(forecast); }

int samformer_abi(void) { return SAMFORMER_ABI; }

const char* samformer_error(void) { return tools::error_text.c_str(); }

const char* samformer_error_json(void) { return tools::error_document.c_str(); }

const char* samformer_warnings(void) { return tools::warning_text.c_str(); }
