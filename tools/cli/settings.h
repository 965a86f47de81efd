// Every setting of the program, and where its value came from.
//
// One table (options()) drives flags, TOML keys, environment names, help, --print-config and the nearest-name
// suggestions. The member `stats_mix` is the flag --stats-mix, the key `stats-mix` and the variable
// SAMFORMER_STATS_MIX. Defaults are the initialisers of Settings.
//
// Merging, later wins: defaults < preset < TOML file < environment < flags. A variable set to "" counts as unset.
// Errors: Exit::usage (Exit::data for the configuration of a stored run); TOML errors carry file, line and column.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace samformer::tools {

struct Settings {
  // Data. Empty means: found in the file (date column and format, step), all columns, none dropped, the last column.
  std::string data = "seasonal";
  std::string data_sha256;  // of the file in lower-case hex; a file with another hash is refused; empty: any
  std::string features = "M";
  std::vector<std::string> target;
  std::vector<std::string> columns;
  std::vector<std::string> drop;
  std::string date_column;
  std::string date_format;
  std::string freq;
  bool no_date = false;
  std::string delimiter = "auto";  // auto, comma, semicolon, tab
  std::string split = "auto";
  std::int64_t lookback = 512;
  std::int64_t horizon = 96;
  std::int64_t season = 0;  // 0: from the step

  std::string model = "samformer";
  std::string value = "low-rank";
  std::int64_t d_model = 16;
  std::int64_t blocks = 2;  // tsmixer, to `shared`
  std::int64_t ff = 64;
  double dropout = 0.9;
  std::string norm = "batch";
  std::string activation = "relu";
  bool shared = false;
  std::string init = "glorot";
  std::string head_init = "zero";
  std::string center = "mean";

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
  std::int64_t patience = 5;
  std::string select = "best";
  std::string select_by = "own";
  std::int64_t seed = 1;
  std::vector<std::uint64_t> seeds;  // empty: the one of `seed`
  bool refit = false;
  std::int64_t track_sharpness = 0;  // 0: never
  bool tensorboard = false;
  bool no_test = false;
  bool tune = false;

  std::string device = "auto";
  std::int64_t threads = 0;  // 0: all cores
  std::string precision = "float32";

  std::string preset = "default";
  std::string config;
  bool print_config = false;
  std::string out;  // empty: runs/UTC time-name for train, standard output elsewhere
  bool overwrite = false;
  std::string resume;
  bool dry_run = false;
  bool json = false;
  bool quiet = false;

  std::string weights;  // eval, predict: best, final, empty: the command's own choice
  std::string part = "test";
  std::string origin;
  std::int64_t rows = 6000;  // data synth
  std::int64_t channels = 7;
  std::string url;      // data fetch
  std::string windows;  // sharpness, landscape: a number, all, empty: the command's own choice
  double tolerance = 1e-6;
  bool density = false;
  std::string against;
  std::string grid;  // sweep: the last one; the handler reads them all from the flags
  std::int64_t random = 0;
  std::int64_t jobs = 1;
  std::string metric = "val_mse";
  std::vector<std::string> horizons;  // reproduce; empty: the paper's, all
  std::vector<std::string> models;
  double noise = 1;  // toy
  std::int64_t samples = 10000;
  std::string ablation;
  std::string format = "text";      // bench
  std::vector<std::string> shapes;  // DxH; empty: all
  std::int64_t steps = 20;          // profile
  std::string trace;

  bool operator==(const Settings&) const = default;
};

// A command takes the options that share a bit with its `takes`; `profile`, say, takes kTrain | kProfile.
enum Takes : unsigned {
  kTrain = 1,
  kEval = 2,
  kPredict = 4,
  kCheck = 8,
  kSynth = 16,
  kFetch = 32,
  kDoctor = 64,
  kList = 128,
  kBench = 256,
  kSharpness = 512,
  kAttention = 1024,
  kLandscape = 2048,
  kSweep = 4096,
  kProfile = 8192,
  kToy = 16384,
  kReproduce = 32768,
  kEvery = ~0u,
};

// Allowed numbers; an open end excludes its bound. Whole numbers are at most 2^31 - 1 unless the row says otherwise.
struct Range {
  double low = 0;
  double high = 2147483647;
  bool low_open = false;
  bool high_open = false;
};

using Member = std::variant<std::string Settings::*, std::int64_t Settings::*, double Settings::*, bool Settings::*,
                            std::vector<std::string> Settings::*, std::vector<std::uint64_t> Settings::*>;

struct Option {
  std::string_view name;
  Member member;
  std::string_view group;
  unsigned takes = kTrain;
  std::string_view value_name = {};  // what help shows for the value; empty: the choices
  std::string_view help = {};
  std::string_view default_text = {};          // empty: the default itself; after a `;`: added to it
  std::string_view run_default = {};           // the default in commands that work on a RUN
  std::vector<std::string_view> choices = {};  // empty: any
  Range range = {};
  std::vector<std::string_view> aliases = {};  // without the dashes, as researchers know them
  bool stored = true;      // part of a run's config.toml: what a result depends on, and where it is computed
  bool on_resume = false;  // may be given beside --resume

  bool is_flag() const { return std::holds_alternative<bool Settings::*>(member); }
};
std::span<const Option> options();

// Named groups of values. A preset ranks between the defaults and the file. A model's `settings` are defaults, its
// `fixed` ones are what the model is: another value for them is refused. The choices of --preset and --model.
struct Bundle {
  using Values = std::vector<std::pair<std::string_view, std::string_view>>;
  std::string_view name;
  Values settings = {};
  Values fixed = {};
  bool small_rate = false;  // lr 1e-4 for a file named weather, electricity or traffic
};
std::span<const Bundle> presets();
std::span<const Bundle> models();

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

// What help shows as the default in a command with these `takes`; empty: nothing to show.
std::string default_text(const Option& option, unsigned takes);

// Merges and checks. With `resume` among the flags the stored run's config.toml is the base (check_resume_flags).
Resolved resolve(const Flags& flags, const Environment& environment, unsigned takes = kTrain);

// Exit::usage for any flag that may not be given beside --resume.
void check_resume_flags(const Flags& flags);

// The text of a run's config.toml (set `data` to the absolute path and `data_sha256` before writing it). Only stored
// settings; doubles in shortest round-trip form. The second form adds each value's origin as a comment.
std::string to_toml(const Settings& settings);
std::string to_toml(const Resolved& resolved);
nlohmann::ordered_json to_json(const Resolved& resolved);  // {name: {value, origin}}

// The inverse, for a run's config.toml or the `config` of a checkpoint's metadata. Exit::data, naming `source`.
Settings settings_from_toml(std::string_view text, const std::string& source);
Settings read_run_settings(const std::filesystem::path& run_folder);  // run_folder/config.toml

// "1..5", "1,3,9" or both mixed; Exit::usage for anything else, a duplicate or more than 10000 seeds.
std::vector<std::uint64_t> parse_seeds(std::string_view text);
std::string format_seeds(std::span<const std::uint64_t> seeds);

// 0 for `auto`.
char delimiter_character(const Settings& settings);

}  // namespace samformer::tools
