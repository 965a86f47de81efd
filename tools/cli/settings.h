// Every setting of the program, and where its value came from.
//
// One table (options()) drives flags, TOML keys, environment names, help, --print-config and the nearest-name
// suggestions: the rows that several commands take (options.cpp), the models' own (model/registry.h) and each command's
// own (tools/cli/command.h). The member `stats_mix` is the flag --stats-mix, the key `stats-mix` and the variable
// SAMFORMER_STATS_MIX. Defaults are the members' initialisers.
//
// Merging, later wins: defaults < preset < TOML file < environment < flags. A variable set to "" counts as unset.
// Errors: Exit::usage (Exit::data for the configuration of a stored run); TOML errors carry file, line and column.
#pragma once

#include <any>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <typeindex>
#include <utility>
#include <variant>
#include <vector>

#include "model/registry.h"

namespace samformer::tools {

// Empty means: found in the file (date column and format, step), all columns, none dropped, the last column.
struct DataSettings {
  std::string data = "seasonal";
  std::string data_sha256;  // of the file in lower-case hex; a file with another hash is refused; empty: any
  std::string features = "M";
  std::vector<std::string> target;
  std::vector<std::string> past, future, future_for, calendar;  // model/data/covariates.h
  std::string future_basis = "hinge:16";
  std::vector<std::string> columns;
  std::vector<std::string> drop;
  std::string date_column;
  std::string date_format;
  std::string freq;
  std::string timezone;
  bool no_date = false;
  std::string delimiter = "auto";  // auto, comma, semicolon, tab
  std::string decimal = "auto";    // auto, point, comma
  std::string id;                  // of a file in long form, as value_column; empty: found
  std::string value_column;
  std::string panel = "auto";  // auto, channels, global
  std::string split = "auto";
  std::int64_t lookback = 0;  // 0 (auto): model::default_lookback, model::default_horizon
  std::int64_t horizon = 0;
  std::int64_t season = 0;  // 0: from the step
  std::string holes = "skip";
  std::string late = "leave-out";
};

struct ModelSettings {
  std::string model = "samformer";
  model::OptionValues model_options;  // what was set of the models' own
  std::string init = "glorot";
  std::string head_init = "zero";
  std::string center = "mean";

  // An option of the model (of another one where it has none of this name).
  template <class T>
  T model_option(std::string_view name) const {
    return std::get<T>(model::option_value(model, model_options, name));
  }
};

struct TrainSettings {
  std::string preset = "default";
  double rho = 0.7;
  bool adaptive = false;
  double stats_mix = 0.5;
  double stats_mix_step = 250;
  double ema = 0.998;
  std::string optimizer = "adam";
  double lr = 1e-3;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double momentum = 0.9;
  std::string adam_form = "pytorch";
  std::string schedule = "cosine-restart";
  std::int64_t batch = 32;
  std::int64_t epochs = 100;
  std::int64_t epoch_steps = 50;
  std::int64_t patience = 5;
  std::string select = "best";
  std::string select_by = "own";
  std::int64_t seed = 1;
  std::vector<std::uint64_t> seeds;  // empty: the one of `seed`
  std::string weights_from;          // empty: drawn
  bool refit = false;
  std::int64_t track_sharpness = 0;  // 0: never
  bool tensorboard = false;
  bool no_test = false;
  bool tune = false;
  bool automatic = false;
  std::vector<std::string> members;  // empty: those that suit the series
  double within = 3;                 // percent
};

struct MachineSettings {
  std::string device = "auto";
  std::int64_t threads = 0;  // 0: all cores
  std::string precision = "float32";
};

// What a command reads and writes; no result depends on it.
struct FolderSettings {
  std::string out;  // empty: runs/UTC time-name for train, standard output elsewhere
  bool overwrite = false;
  std::string resume;
  bool dry_run = false;
  std::string weights;  // eval, predict: best, final, empty: the command's own choice
  std::string member;   // eval, predict: of a train --auto; empty: the mean of all
  std::string origin;
  std::vector<std::string> intervals;  // eval, predict: percent; empty: none
  std::int64_t calibration = 1440;
  std::string windows;              // sharpness, landscape: a number, all, empty: the command's own choice
  std::vector<std::string> models;  // reproduce: columns; toy: values of --model
  std::int64_t jobs = 0;            // auto
};

struct ProgramSettings {
  std::string config;
  bool print_config = false;
  bool json = false;
  bool quiet = false;
};

// A function takes the group that it reads. A command's own options are a struct of its own, in its file.
struct Settings : DataSettings, ModelSettings, TrainSettings, MachineSettings, FolderSettings, ProgramSettings {
  template <class Group>
  Group& of() {
    if constexpr (std::derived_from<Settings, Group>) {
      return *this;
    } else {
      std::any& group = own_[typeid(Group)];
      if (!group.has_value()) group = Group{};
      return std::any_cast<Group&>(group);
    }
  }
  template <class Group>
  Group of() const {
    if constexpr (std::derived_from<Settings, Group>) {
      return *this;
    } else {
      const auto found = own_.find(typeid(Group));
      return found == own_.end() ? Group{} : std::any_cast<const Group&>(found->second);
    }
  }
  // The network that --model and its options describe, for D channels and the marks of their dates.
  model::Model make_model(std::int64_t D, std::int64_t marks) const {
    return model::make_model(model, {D, lookback, horizon, marks}, model_options);
  }
  // The shape of `auto` where there is no series to choose it by.
  void shape_without_series() {
    if (lookback == 0) lookback = 512;
    if (horizon == 0) horizon = 96;
  }
  // The same value of every option.
  friend bool operator==(const Settings& a, const Settings& b);

 private:
  std::map<std::type_index, std::any> own_;
};

using Value =
    std::variant<std::string, std::int64_t, double, bool, std::vector<std::string>, std::vector<std::uint64_t>>;

// Where an option's value lies.
struct Member {
  std::function<Value(const Settings&)> read;
  std::function<void(Settings&, const Value&)> write;
};
template <class Group, class T>
Member at(T Group::*member) {
  return {[member](const Settings& settings) { return Value(settings.of<Group>().*member); },
          [member](Settings& settings, const Value& value) { settings.of<Group>().*member = std::get<T>(value); }};
}

using model::Range;
inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr Range positive{.low = 0, .high = infinity, .low_open = true, .high_open = true};
inline constexpr Range finite{.low = -infinity, .high = infinity, .low_open = true, .high_open = true};
inline constexpr Range not_negative{.low = 0, .high = infinity, .high_open = true};
inline constexpr Range below_one{.low = 0, .high = 1, .high_open = true};
inline constexpr Range from_one{.low = 1};

// What a command that works on a stored RUN does with the option: leaves the run's value, takes its own if that was
// given, or takes its own in any case.
enum class Overrides { never, when_given, always };

struct Option {
  std::string_view name;
  Member member;
  std::string_view value_name = {};  // what help shows for the value; empty: the choices
  std::string help = {};
  std::string default_text = {};               // empty: the default itself; after a `;`: added to it
  std::string_view run_default = {};           // the default in commands that work on a RUN
  std::vector<std::string_view> choices = {};  // empty: any
  Range range = {};
  bool automatic = false;                      // `auto`, kept as 0, is a value too
  std::vector<std::string_view> aliases = {};  // without the dashes, as researchers know them
  bool on_resume = false;                      // may be given beside --resume
  bool everywhere = false;                     // every command takes it
  bool of_models = false;                      // an option of models: the others refuse it
  Overrides overrides = Overrides::never;
  // Of the table, not of the row:
  std::string_view group = {};  // the heading in help
  bool stored = false;          // part of a run's config.toml: what a result depends on, and where it is computed

  Value default_value() const { return member.read(Settings{}); }
  bool is_flag() const { return std::holds_alternative<bool>(default_value()); }
};
std::span<const Option> options();

// Which options a command takes: names of options ("seed") and of whole groups ("Training").
using Takes = std::vector<std::string_view>;
bool takes(const Takes& taken, const Option& option);
// What `train` takes, and more: for the commands that train with the same flags.
Takes takes_of_training(std::initializer_list<std::string_view> more = {});

// A named group of values, which ranks between the defaults and the file. The choices of --preset.
struct Preset {
  std::string_view name;
  model::ModelRow::Settings settings = {};
  bool small_rate = false;  // lr 1e-4 for a file named weather, electricity or traffic
  bool of_model = false;    // the model's own ones instead, where it has ModelRow::published
};
std::span<const Preset> presets();
// Those that have published settings of their own.
std::vector<std::string_view> published_models();

// Nothing when no option has that name or alias.
const Option* find_option(std::string_view name);

// Not fmt::join: with fmt 9 and g++ 12 it draws a false warning (stringop-overflow) at -O3.
template <typename Words>
std::string join(const Words& words, std::string_view separator) {
  std::string result;
  for (const auto& word : words) {
    if (&word != &*std::begin(words)) result += separator;
    result += word;
  }
  return result;
}

enum class Layer { builtin, preset, file, environment, flag };
struct Origin {
  Layer layer = Layer::builtin;
  std::string text = "default";  // "flag --lr", "environment SAMFORMER_LR", "a.toml:3", "preset paper", ...
};

struct Resolved {
  Settings settings;
  std::map<std::string, Origin, std::less<>> origins;  // by option name; absent: the default
  std::vector<std::string> notices;                    // what the user should be told about a choice made for them

  Origin origin(std::string_view name) const;
  // Set by the user (file, environment, flag) rather than by a default or a preset.
  bool given(std::string_view name) const { return origin(name).layer >= Layer::file; }
};

using Environment = std::map<std::string, std::string>;
using Flags = std::vector<std::pair<std::string, std::string>>;  // option name and text, in the order given

// The SAMFORMER_* part of the process environment, SAMFORMER_DATA_DIR apart, which is not a setting.
Environment process_environment();

// What help shows as the default; `on_run`: in a command that works on a RUN. Empty: nothing to show.
std::string default_text(const Option& option, bool on_run);

// Exit::usage for a flag's or an argument's text that is no UTF-8: neither config.toml nor a JSON document can hold it.
void require_utf8(std::string_view subject, std::string_view text);

// Merges and checks. With `resume` among the flags the stored run's config.toml is the base (check_resume_flags).
Resolved resolve(const Flags& flags, const Environment& environment, const Takes& taken = takes_of_training());

// A stored run's settings with what a command on it was asked for (Option::overrides). Another file has another hash.
Settings settings_on_run(const Settings& run, const Resolved& asked);

// These settings with another network: its own defaults where they have none of their own.
Settings with_model(const Settings& settings, std::string_view model);

// Exit::usage for any flag that may not be given beside --resume.
void check_resume_flags(const Flags& flags);

// The text of a run's config.toml (set `data` to the absolute path and `data_sha256` before writing it). Only stored
// settings; doubles in shortest round-trip form. The second form adds each value's origin as a comment.
std::string to_toml(const Settings& settings);
std::string to_toml(const Resolved& resolved);
nlohmann::ordered_json to_json(const Resolved& resolved);  // {name: {value, origin}}

// What the layers `from` to `to` gave of them, as words of a child process, "--lr=0.1"; without the options `except`.
std::vector<std::string> stored_flags(const Resolved& resolved, Layer from, Layer to,
                                      std::span<const std::string_view> except);
// What the user gave of them as flags, as a shell reads it back: " --horizon 28 --config a.toml".
std::string given_flags(const Resolved& resolved);
// The option's value as its flag takes it.
std::string flag_text(const Option& option, const Settings& settings);

// The inverse, for a run's config.toml or the `config` of a checkpoint's metadata. Exit::data, naming `source`.
Settings settings_from_toml(std::string_view text, const std::string& source);
Settings read_run_settings(const std::filesystem::path& run_folder);  // run_folder/config.toml

// "1..5", "1,3,9" or both mixed; Exit::usage for anything else, a duplicate or more than 10000 seeds.
std::vector<std::uint64_t> parse_seeds(std::string_view text);
std::string format_seeds(std::span<const std::uint64_t> seeds);

// 0 for `auto`.
char delimiter_character(const DataSettings& settings);

}  // namespace samformer::tools
