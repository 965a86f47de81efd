#include "tools/cli/settings.h"

#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/io/file.h"
#include "core/text.h"
#include "tools/cli/text_format.h"

namespace samformer::tools {

namespace {

constexpr std::size_t max_config_bytes = 1 << 20;
constexpr int max_key_dots = 16;
constexpr std::size_t max_seeds = 10000;
constexpr std::string_view prefix = "SAMFORMER_";
// Where data sets lie; the widest instruction set that kernels may use (kernels/cpu/parallel.h); what a process that
// the program starts is told (tools/run/runner.cpp).
constexpr std::array<std::string_view, 3> no_settings = {"SAMFORMER_DATA_DIR", "SAMFORMER_MAX_ISA", "SAMFORMER_TRIAL"};

struct Assignment {
  const Option* option;
  Value value;
  Origin origin;
};

Error usage(const std::string& message) { return Error(Exit::usage, message); }

std::string environment_name(std::string_view option) {
  std::string result(prefix);
  for (const char c : option) result += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return result;
}

// Whole text as a number; false where it is none or does not fit.
template <typename T>
bool parse_whole(std::string_view text, T& number) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

std::string describe(const Range& range) {
  if (std::isinf(range.low)) return "that is finite";
  const std::string low = shortest(range.low), high = shortest(range.high);
  const bool bounded = std::isfinite(range.high);
  std::string result = range.low_open ? "above " + low : bounded ? "from " + low : "of at least " + low;
  if (bounded) result += range.high_open ? " and below " + high : " to " + high;
  return result;
}

// One function for each kind of value: `overloaded{[](std::int64_t) {...}, ...}`.
template <class... F>
struct overloaded : F... {
  using F::operator()...;
};
template <class... F>
overloaded(F...) -> overloaded<F...>;  // clang before 17 needs to be told

std::string expectation(const Option& option) {
  if (option.automatic) return "auto or a whole number " + describe(option.range);
  return std::visit(
      overloaded{[&](const std::string&) {
                   return option.choices.empty() ? "text" : fmt::format("one of {}", join(option.choices, ", "));
                 },
                 [&](std::int64_t) { return "a whole number " + describe(option.range); },
                 [&](double) { return "a number " + describe(option.range); },
                 [](bool) { return std::string("true or false"); },
                 [](const std::vector<std::string>&) { return std::string("names separated by commas"); },
                 [](const std::vector<std::uint64_t>&) { return std::string("seeds such as 1..5 or 1,3,9"); }},
      option.default_value());
}

Error unexpected(const Option& option, std::string_view subject, std::string_view found) {
  Error error = usage(fmt::format("{}: expected {}, found '{}'", subject, expectation(option), found));
  if (option.choices.empty()) return error;
  const std::vector<std::string> choices(option.choices.begin(), option.choices.end());
  return std::move(error).hint(guess(found, choices, fmt::format("give one of them, such as '{}'", choices[0])));
}

// Value of the option's kind from the text of a flag, a variable or a preset. `subject` is the name as the user wrote
// it.
Value parse_text(const Option& option, std::string_view subject, std::string_view text) {
  require_utf8(subject, text);
  if (option.automatic && text == "auto") return std::int64_t{0};
  const auto number = [&](auto value) -> Value {
    if (parse_whole(text, value) && !(option.automatic && value == 0)) return value;
    throw unexpected(option, subject, text);
  };
  return std::visit(
      overloaded{[&](const std::string&) -> Value { return std::string(text); },
                 [&](std::int64_t) { return number(std::int64_t{0}); }, [&](double) { return number(0.0); },
                 [&](bool) -> Value {
                   if (text == "true" || text == "1") return true;
                   if (text == "false" || text == "0") return false;
                   throw unexpected(option, subject, text);
                 },
                 [&](const std::vector<std::string>&) -> Value { return split_names(text); },
                 [&](const std::vector<std::uint64_t>&) -> Value { return parse_seeds(text); }},
      option.default_value());
}

Value parse_toml(const Option& option, std::string_view subject, const toml::node& node) {
  const auto found = [&] {
    std::ostringstream text;
    node.visit([&](const auto& n) { text << n; });
    return unexpected(option, subject, text.str().substr(0, 80));
  };
  return std::visit(overloaded{[&](const std::string&) -> Value {
                                 if (node.is_string()) return node.ref<std::string>();
                                 throw found();
                               },
                               [&](std::int64_t) -> Value {
                                 if (option.automatic && node.is_string() && node.ref<std::string>() == "auto") {
                                   return std::int64_t{0};
                                 }
                                 if (!node.is_integer()) throw found();
                                 const std::int64_t number = node.ref<std::int64_t>();
                                 if (option.automatic && number == 0) throw found();
                                 return number;
                               },
                               [&](double) -> Value {
                                 if (node.is_integer()) return static_cast<double>(node.ref<std::int64_t>());
                                 if (node.is_floating_point()) return node.ref<double>();
                                 throw found();
                               },
                               [&](bool) -> Value {
                                 if (node.is_boolean()) return node.ref<bool>();
                                 throw found();
                               },
                               [&](const std::vector<std::string>&) -> Value {
                                 if (node.is_string()) return split_names(node.ref<std::string>());
                                 if (!node.is_array()) throw found();
                                 std::vector<std::string> names;
                                 for (const toml::node& element : *node.as_array()) {
                                   if (!element.is_string()) throw found();
                                   names.push_back(element.ref<std::string>());
                                 }
                                 return names;
                               },
                               [&](const std::vector<std::uint64_t>&) -> Value {
                                 if (node.is_string()) return parse_seeds(node.ref<std::string>());
                                 if (node.is_integer()) return parse_seeds(std::to_string(node.ref<std::int64_t>()));
                                 if (!node.is_array()) throw found();
                                 std::string text;
                                 for (const toml::node& element : *node.as_array()) {
                                   if (!element.is_integer()) throw found();
                                   text += (text.empty() ? "" : ",") + std::to_string(element.ref<std::int64_t>());
                                 }
                                 return parse_seeds(text);
                               }},
                    option.default_value());
}

// Range, choices and characters; also brings the accepted other spellings into the one that is stored.
void check_value(const Option& option, std::string_view subject, Value& value) {
  const auto check_range = [&](double number, const std::string& text) {
    const Range& range = option.range;
    const bool low = range.low_open ? number > range.low : number >= range.low;
    const bool high = range.high_open ? number < range.high : number <= range.high;
    if (!(low && high)) throw unexpected(option, subject, text);  // NaN is neither
  };
  const auto check_text = [&](const std::string& text) {
    if (text.find('\0') != std::string::npos) throw usage(fmt::format("{}: holds a zero byte", subject));
  };
  if (const auto* whole = std::get_if<std::int64_t>(&value)) {
    if (option.automatic && *whole == 0) return;
    check_range(static_cast<double>(*whole), std::to_string(*whole));
  } else if (const auto* number = std::get_if<double>(&value)) {
    check_range(*number, shortest(*number));
    if (*number == 0) value = 0.0;  // not -0
  } else if (auto* names = std::get_if<std::vector<std::string>>(&value)) {
    for (const std::string& name : *names) {
      check_text(name);
      if (name.empty()) throw unexpected(option, subject, join(*names, ","));
    }
  } else if (auto* text = std::get_if<std::string>(&value)) {
    check_text(*text);
    if (option.name == "delimiter") {
      if (*text == ",") *text = "comma";
      if (*text == ";") *text = "semicolon";
      if (*text == "\t") *text = "tab";
    }
    if (option.name == "data-sha256") *text = lower(*text);
    const bool is_default = value == option.default_value();
    // An empty path or name is a shell variable that was not set. A stored one can be cleared.
    if (text->empty() && !(is_default && option.stored)) throw unexpected(option, subject, *text);
    if (!option.choices.empty() && !is_default && std::ranges::find(option.choices, *text) == option.choices.end()) {
      throw unexpected(option, subject, *text);
    }
  }
}

Assignment assign_text(const Option& option, std::string_view subject, std::string_view text, Origin origin) {
  Value value = parse_text(option, subject, text);
  check_value(option, subject, value);
  return {&option, std::move(value), std::move(origin)};
}

void apply(const Assignment& assignment, Resolved& resolved) {
  assignment.option->member.write(resolved.settings, assignment.value);
  resolved.origins[std::string(assignment.option->name)] = assignment.origin;
}

void apply(std::string_view name, std::string_view text, const Origin& origin, Resolved& resolved) {
  apply(assign_text(*find_option(name), name, text, origin), resolved);
}

std::string read_configuration(const std::string& path, Exit code) {
  std::error_code unknown;  // a pipe's, say
  if (const auto size = std::filesystem::file_size(path, unknown); !unknown && size > max_config_bytes) {
    throw Error(code, "a configuration of more than 1 MiB").at(path).hint("is it another file?");
  }
  return read_file(path, code);
}

// toml++ frees tables recursively: how deep they are is bounded before it makes them. It stops where the text is no
// TOML: up to there strings and comments end as they do here.
void check_keys(std::string_view text, const std::string& source) {
  if (text.size() > max_config_bytes) throw usage("the configuration is longer than 1 MiB").at(source);
  int dots = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size());
      dots = 0;
    } else if (c == '"' || c == '\'') {
      const std::string three(3, c);
      const bool lines = text.substr(i, 3) == three;
      const auto ends = [&] { return lines ? text.substr(i, 3) == three : text[i] == c || text[i] == '\n'; };
      for (i += lines ? 3 : 1; i < text.size() && !ends(); ++i) i += c == '"' && text[i] == '\\';
      if (!lines) continue;
      i += 2;
      for (int more = 0; more < 2 && i + 1 < text.size() && text[i + 1] == c; ++more) ++i;  // quotes of the text
    } else if (c == '.') {
      if (++dots <= max_key_dots) continue;
      const std::string_view before = text.substr(0, i);
      throw usage(fmt::format("a key of more than {} dots", max_key_dots))
          .at(source, std::ranges::count(before, '\n') + 1, static_cast<std::int64_t>(i - (before.rfind('\n') + 1)) + 1)
          .hint("the names of settings have none: lookback = 512");
    } else if (std::string_view("=,[]{}\n").find(c) != std::string_view::npos) {
      dots = 0;
    }
  }
}

// In the file's order. Keys of other commands are refused, stored settings are not: a train configuration also
// serves `data check`.
std::vector<Assignment> assignments_of_file(std::string_view text, const std::string& source, const Takes& taken) {
  check_keys(text, source);
  toml::table table;
  try {
    table = toml::parse(text, source);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    throw usage(fmt::format("not valid TOML: {}", error.description())).at(source, at.line, at.column);
  }
  std::vector<std::pair<const toml::key*, const toml::node*>> entries;
  for (auto&& [key, node] : table) entries.emplace_back(&key, &node);
  std::ranges::sort(entries, {}, [](const auto& entry) {
    const toml::source_position at = entry.first->source().begin;
    return std::pair(at.line, at.column);
  });

  std::vector<std::string> known;
  for (const Option& option : options()) {
    if (option.stored || takes(taken, option)) known.emplace_back(option.name);
  }
  std::vector<Assignment> result;
  std::set<const Option*> seen;
  for (const auto& [key, node] : entries) {
    const std::string name(key->str());
    const toml::source_position key_at = key->source().begin;
    const Option* option = find_option(name);
    if (!option || std::ranges::find(known, option->name) == known.end()) {
      throw usage(fmt::format("unknown key '{}'", name))
          .at(source, key_at.line, key_at.column)
          .hint(guess(name, known, "the keys are the flags' names: samformer train --help lists them"));
    }
    if (!seen.insert(option).second) {
      throw usage(fmt::format("'{}' is given twice, as '{}' too", option->name, name))
          .at(source, key_at.line, key_at.column);
    }
    const toml::source_position at = node->source().begin;
    try {
      Value value = parse_toml(*option, name, *node);
      check_value(*option, name, value);
      result.push_back({option, std::move(value), {Layer::file, fmt::format("{}:{}", source, key_at.line)}});
    } catch (Error& error) {
      throw Error(std::move(error).at(source, at.line, at.column));
    }
  }
  return result;
}

std::vector<Assignment> assignments_of_environment(const Environment& environment, const Takes& taken) {
  std::vector<Assignment> result;
  for (const auto& [name, text] : environment) {
    if (!name.starts_with(prefix) || std::ranges::find(no_settings, name) != no_settings.end()) continue;
    const Option* found = nullptr;
    std::vector<std::string> known;  // without the prefix
    for (const std::string_view other : no_settings) known.emplace_back(other.substr(prefix.size()));
    for (const Option& option : options()) {
      std::vector<std::string_view> spellings = option.aliases;
      spellings.push_back(option.name);
      for (const std::string_view spelling : spellings) {
        const std::string variable = environment_name(spelling);
        known.push_back(variable.substr(prefix.size()));
        if (variable == name) found = &option;
      }
    }
    if (!found) {
      throw usage(fmt::format("unknown environment variable {}", name))
          .hint(guess(name.substr(prefix.size()), known,
                      "--stats-mix is SAMFORMER_STATS_MIX: samformer train --help lists the flags", prefix));
    }
    if (text.empty() || !takes(taken, *found)) continue;
    result.push_back(assign_text(*found, name, text, {Layer::environment, "environment " + name}));
  }
  return result;
}

std::vector<Assignment> assignments_of_flags(const Flags& flags) {
  std::vector<Assignment> result;
  for (const auto& [name, text] : flags) {
    const Option* option = find_option(name);
    SAMFORMER_CHECK(option, "no option is named {}", name);
    const std::string subject = fmt::format("--{}", option->name);
    result.push_back(assign_text(*option, subject, text, {Layer::flag, "flag " + subject}));
  }
  return result;
}

// The value of an option in the last of the lists that has one.
template <class T>
T last_value(std::string_view name, std::initializer_list<const std::vector<Assignment>*> lists, T otherwise) {
  for (const auto* list : lists) {
    for (const Assignment& assignment : *list) {
      if (assignment.option->name == name) otherwise = std::get<T>(assignment.value);
    }
  }
  return otherwise;
}
std::string last_text(std::string_view name, std::initializer_list<const std::vector<Assignment>*> lists,
                      std::string_view otherwise) {
  return last_value(name, lists, std::string(otherwise));
}

// Rules between settings. Messages carry the origin, since the value may come from anywhere.
void check_together(Resolved& resolved) {
  Settings& s = resolved.settings;
  const auto from = [&](std::string_view name) { return resolved.origin(name).text; };

  std::string_view device = s.device;
  bool known_device = device == "auto" || device == "cpu" || device == "cuda";
  if (int index = 0; device.starts_with("cuda:")) {
    device.remove_prefix(5);
    known_device = !device.empty() && std::isdigit(static_cast<unsigned char>(device[0])) && parse_whole(device, index);
  }
  if (!known_device) {
    throw usage(fmt::format("--device: expected auto, cpu, cuda or cuda:N, found '{}' ({})", s.device, from("device")));
  }
  const bool hex = std::ranges::all_of(s.data_sha256, [](unsigned char c) { return std::isxdigit(c); });
  if (!s.data_sha256.empty() && (s.data_sha256.size() != 64 || !hex)) {
    throw usage(fmt::format("--data-sha256: expected 64 hexadecimal digits, found '{}' ({})", s.data_sha256,
                            from("data-sha256")));
  }
  for (const auto& [name, text] : {std::pair("date-column", &s.date_column), std::pair("date-format", &s.date_format),
                                   std::pair("timezone", &s.timezone)}) {
    if (s.no_date && !text->empty()) {
      throw usage(fmt::format("--no-date ({}) and --{} ({}) exclude each other", from("no-date"), name, from(name)))
          .hint(fmt::format("leave --{} out", name));
    }
  }
  if (s.automatic && !s.weights_from.empty()) {
    throw usage(fmt::format("--weights-from ({}) is of one model, --auto of several", from("weights-from")));
  }
  if (s.features == "M" && !s.target.empty()) {
    resolved.notices.push_back("--target has no effect with --features M: every channel is forecast");
  }
}

void apply_seed_rule(Resolved& resolved) {
  Settings& s = resolved.settings;
  const Layer seed = resolved.origin("seed").layer, seeds = resolved.origin("seeds").layer;
  if (s.seeds.empty()) return;
  if (seed == Layer::flag && seeds == Layer::flag) throw usage("--seed and --seeds exclude each other");
  if (seed > seeds) {
    s.seeds.clear();
    resolved.origins["seeds"] = {Layer::builtin, "none, after " + resolved.origin("seed").text};
  }
}

// The published protocols' smaller rate for three large series.
void apply_small_rate(const Preset& preset, Resolved& resolved) {
  Settings& s = resolved.settings;
  const std::string series = std::filesystem::path(s.data).stem().string();
  const std::string name = lower(series);
  if (!preset.small_rate || resolved.origin("lr").layer != Layer::builtin) return;
  if (name != "weather" && name != "electricity" && name != "traffic") return;
  s.lr = 1e-4;
  resolved.origins["lr"] = {Layer::preset, fmt::format("preset {}, for a file named {}", preset.name, series)};
  resolved.notices.push_back(
      fmt::format("learning rate 1e-4: preset {} takes it for a file named {}", preset.name, series));
}

// What goes by the series, and what follows from the value of another option.
void apply_model_defaults(const model::ModelRow& model, Resolved& resolved) {
  Settings& s = resolved.settings;
  const std::string series = std::filesystem::path(s.data).stem().string(), name = lower(series);
  for (const model::ModelOption& option : model.options) {
    const auto row = std::ranges::find_if(option.by_series, [&](const auto& r) { return name.starts_with(r.first); });
    if (row != option.by_series.end() && resolved.origin(option.name).layer == Layer::builtin) {
      s.model_options.set(option.name, row->second);
      resolved.origins[std::string(option.name)] = {
          Layer::builtin, fmt::format("default of --model {} for a file named {}", model.name, series)};
    }
    const model::OptionValue value = model::option_value(model.name, s.model_options, option.name);
    for (const model::Implied& implied : option.implies) {
      if (value != implied.value || resolved.origin(implied.setting).layer != Layer::builtin) continue;
      apply(implied.setting, implied.otherwise,
            {Layer::builtin, fmt::format("default for --{} {}", option.name, model::text_of(value))}, resolved);
    }
  }
}

bool lacks(const model::ModelRow& model, const Option& option) {
  return option.of_models && !model.find_option(option.name);
}

// An option that the model does not have. Files and variables may hold its default: files of earlier versions hold the
// options of all models.
void refuse_others_options(const model::ModelRow& model, const Resolved& resolved) {
  for (const Option& option : options()) {
    const Origin origin = resolved.origin(option.name);
    if (!lacks(model, option) || origin.layer < Layer::file) continue;
    if (origin.layer != Layer::flag && option.member.read(resolved.settings) == option.default_value()) continue;
    throw usage(fmt::format("--model {} has no --{}; a value comes from {}", model.name, option.name, origin.text))
        .hint(fmt::format("leave --{} out, or choose another --model", option.name));
  }
}

// What a run of a version before these settings was trained with.
constexpr std::pair<std::string_view, std::string_view> before[] = {
    {"holes", "close"}, {"late", "mean"}, {"epoch-steps", "1"}};

// `of_run`: the file is a run's, the hash in it is its data's.
Resolved merge(const std::vector<Assignment>& file, const std::vector<Assignment>& environment,
               const std::vector<Assignment>& flags, bool of_run) {
  Resolved resolved;
  if (of_run) {
    for (const auto& [name, text] : before) apply(name, text, {Layer::builtin, "as in earlier versions"}, resolved);
  }
  const Settings defaults;
  const model::ModelRow& model = model::model_row(last_text("model", {&file, &environment, &flags}, defaults.model));
  const Preset& preset =
      *std::ranges::find(presets(), last_text("preset", {&file, &environment, &flags}, defaults.preset), &Preset::name);

  for (const auto& [name, text] : model.defaults) {
    apply(name, text, {Layer::builtin, fmt::format("default of --model {}", model.name)}, resolved);
  }
  model::ModelRow::Settings chosen = preset.settings;
  if (preset.of_model && model.published) {
    const std::string series = std::filesystem::path(last_text("data", {&file, &environment, &flags}, "")).stem();
    chosen = model.published(lower(series), last_value("horizon", {&file, &environment, &flags}, std::int64_t{0}));
  }
  for (const auto& [name, text] : chosen) {
    if (lacks(model, *find_option(name))) continue;
    apply(name, text, {Layer::preset, fmt::format("preset {}", preset.name)}, resolved);
  }
  for (const auto& [name, text] : model.fixed) {
    apply(name, text, {Layer::preset, fmt::format("--model {}", model.name)}, resolved);
  }
  const Settings fixed = resolved.settings;
  for (const auto* list : {&file, &environment, &flags}) {
    for (const Assignment& assignment : *list) apply(assignment, resolved);
  }
  for (const auto& [name, text] : model.fixed) {
    const Member& member = find_option(name)->member;
    if (member.read(resolved.settings) != member.read(fixed)) {
      throw usage(fmt::format("--model {} has --{} {}; another value comes from {}", model.name, name, text,
                              resolved.origin(name).text))
          .hint(fmt::format("leave --{} out, or choose another --model", name));
    }
  }
  refuse_others_options(model, resolved);

  Settings& s = resolved.settings;
  // The hash belongs to the file named beside it, not to one that a later layer names instead.
  if (!of_run && resolved.origin("data").layer > resolved.origin("data-sha256").layer && !s.data_sha256.empty()) {
    s.data_sha256.clear();
    resolved.origins["data-sha256"] = {Layer::builtin, "any, after " + resolved.origin("data").text};
  }
  apply_seed_rule(resolved);
  if (!(preset.of_model && model.published)) apply_small_rate(preset, resolved);
  apply_model_defaults(model, resolved);
  check_together(resolved);
  return resolved;
}

std::string quote_toml(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      result += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::string toml_value(const Option& option, const Value& value) {
  if (option.automatic && value == Value(std::int64_t{0})) return quote_toml("auto");
  struct Writer {
    std::string operator()(const std::string& text) const { return quote_toml(text); }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return shortest(number); }
    std::string operator()(bool on) const { return on ? "true" : "false"; }
    std::string operator()(const std::vector<std::string>& names) const {
      std::vector<std::string> quoted;
      for (const std::string& name : names) quoted.push_back(quote_toml(name));
      return fmt::format("[{}]", join(quoted, ", "));
    }
    std::string operator()(const std::vector<std::uint64_t>& seeds) const { return quote_toml(format_seeds(seeds)); }
  };
  return std::visit(Writer{}, value);
}

// What a run's config.toml holds: the stored settings, of the models' options those that its model has.
bool is_stored(const Option& option, const Settings& settings) {
  return option.stored && !lacks(model::model_row(settings.model), option);
}

std::string write_toml(const Settings& settings, const Resolved* origins) {
  std::string result;
  std::string_view group;
  for (const Option& option : options()) {
    if (!is_stored(option, settings)) continue;
    if (option.group != group) result += fmt::format("{}# {}\n", group.empty() ? "" : "\n", option.group);
    group = option.group;
    const std::string line = fmt::format("{} = {}", option.name, toml_value(option, option.member.read(settings)));
    // A comment ends with its line.
    const std::string comment = origins ? shown("# " + origins->origin(option.name).text) : "";
    result += origins ? fmt::format("{:<32} {}\n", line, comment) : line + "\n";
  }
  return result;
}

// "; 0 for transformer, tsmixer; pytorch for --value full": the models' other defaults.
std::string models_text(const Option& option, const std::string& common) {
  std::vector<std::pair<std::string, std::vector<std::string>>> others;  // a default, and where it holds
  const auto add = [&](std::string_view text, const std::string& where) {
    if (text == common) return;
    auto found = std::ranges::find_if(others, [&](const auto& other) { return other.first == text; });
    if (found == others.end()) found = others.insert(found, {std::string(text), {}});
    if (std::ranges::find(found->second, where) == found->second.end()) found->second.push_back(where);
  };
  for (const model::ModelRow& model : model::models()) {
    const std::string name(model.name);
    for (const auto* settings : {&model.defaults, &model.fixed}) {
      for (const auto& [setting, text] : *settings) {
        if (setting == option.name) add(text, name);
      }
    }
    for (const model::ModelOption& own : model.options) {
      if (own.name == option.name) add(model::text_of(own.otherwise), name);
      for (const model::Implied& implied : own.implies) {
        if (implied.setting != option.name) continue;
        add(implied.otherwise, fmt::format("--{} {}", own.name, model::text_of(implied.value)));
      }
    }
  }
  std::string result;
  for (const auto& [text, where] : others) result += fmt::format("; {} for {}", text, join(where, ", "));
  return result;
}

}  // namespace

std::vector<std::string_view> published_models() {
  std::vector<std::string_view> names;
  for (const model::ModelRow& row : model::models()) {
    if (row.published) names.push_back(row.name);
  }
  return names;
}

bool operator==(const Settings& a, const Settings& b) {
  return std::ranges::all_of(options(), [&](const Option& o) { return o.member.read(a) == o.member.read(b); });
}

Origin Resolved::origin(std::string_view name) const {
  const auto found = origins.find(name);
  return found == origins.end() ? Origin{} : found->second;
}

void require_utf8(std::string_view subject, std::string_view text) {
  if (is_utf8(text)) return;
  throw usage(fmt::format("{}: expected UTF-8 text, found '{}'", subject, text))
      .hint("write it as UTF-8; a file or folder has to be renamed, or reached through a link");
}

Environment process_environment() {
  Environment result;
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (text.starts_with(prefix) && equals != std::string_view::npos) {
      result.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return result;
}

std::string default_text(const Option& option, bool on_run) {
  if (option.is_flag()) return "";
  if (on_run && !option.run_default.empty()) return std::string(option.run_default);
  if (!option.default_text.empty() && option.default_text[0] != ';') return option.default_text;
  const Value value = option.default_value();
  const auto* plain = std::get_if<std::string>(&value);
  const std::string text = plain ? *plain : toml_value(option, value);
  return text + models_text(option, text) + option.default_text;
}

Settings settings_on_run(const Settings& run, const Resolved& asked) {
  Settings settings = run;
  for (const Option& option : options()) {
    const bool given = option.overrides == Overrides::when_given && asked.given(option.name);
    if (given || option.overrides == Overrides::always) {
      option.member.write(settings, option.member.read(asked.settings));
    }
  }
  if (asked.given("data")) settings.data_sha256.clear();
  return settings;
}

Settings with_model(const Settings& settings, std::string_view name) {
  const model::ModelRow& model = model::model_row(name);
  Resolved resolved;
  resolved.settings = settings;
  resolved.settings.model = name;
  for (const auto* list : {&model.defaults, &model.fixed}) {
    for (const auto& [setting, text] : *list) {
      const Option& option = *find_option(setting);
      const bool untouched = option.member.read(settings) == option.default_value();
      if (untouched || list == &model.fixed) apply(setting, text, {}, resolved);
    }
  }
  apply_model_defaults(model, resolved);
  return resolved.settings;
}

void check_resume_flags(const Flags& flags) {
  std::vector<std::string> allowed;
  for (const Option& option : options()) {
    if (option.on_resume && option.stored) allowed.push_back(fmt::format("--{}", option.name));
  }
  for (const auto& [name, text] : flags) {
    if (!find_option(name)->on_resume) {
      throw usage(fmt::format("--{} cannot be given with --resume, which goes on with the run's own settings", name))
          .hint(fmt::format("only {} can", join(allowed, ", ")));
    }
  }
}

Resolved resolve(const Flags& flags, const Environment& environment, const Takes& taken) {
  const std::vector<Assignment> from_flags = assignments_of_flags(flags);
  std::vector<Assignment> from_environment = assignments_of_environment(environment, taken);
  const std::string run = last_text("resume", {&from_environment, &from_flags}, "");
  const std::string config = last_text("config", {&from_environment, &from_flags}, "");
  std::vector<Assignment> from_file;
  if (run.empty()) {
    if (!config.empty()) from_file = assignments_of_file(read_configuration(config, Exit::usage), config, taken);
    return merge(from_file, from_environment, from_flags, false);
  }

  check_resume_flags(flags);
  // The run's settings hold what the environment said when it began.
  std::erase_if(from_environment, [](const Assignment& a) { return a.option->stored || !a.option->on_resume; });
  const std::string stored = (std::filesystem::path(run) / "config.toml").string();
  const Settings before = read_run_settings(run);
  from_file = assignments_of_file(read_configuration(stored, Exit::data), stored, taken);
  Resolved resolved = merge(from_file, from_environment, from_flags, true);
  if (resolved.settings.epochs < before.epochs) {
    throw usage(fmt::format("--epochs: with --resume at least the run's {}, found {}", before.epochs,
                            resolved.settings.epochs));
  }
  return resolved;
}

std::string to_toml(const Settings& settings) { return write_toml(settings, nullptr); }

std::string to_toml(const Resolved& resolved) { return write_toml(resolved.settings, &resolved); }

nlohmann::ordered_json to_json(const Resolved& resolved) {
  nlohmann::ordered_json result = nlohmann::ordered_json::object();
  for (const Option& option : options()) {
    if (!is_stored(option, resolved.settings)) continue;
    auto& entry = result[std::string(option.name)];
    std::visit([&](const auto& value) { entry["value"] = value; }, option.member.read(resolved.settings));
    if (option.automatic && entry["value"] == 0) entry["value"] = "auto";
    entry["origin"] = resolved.origin(option.name).text;
  }
  return result;
}

std::string flag_text(const Option& option, const Settings& settings) {
  return std::visit(overloaded{[](const std::string& text) { return text; },
                               [&](std::int64_t number) {
                                 return option.automatic && number == 0 ? "auto" : fmt::format("{}", number);
                               },
                               [](double number) { return fmt::format("{}", number); },
                               [](bool is) { return std::string(is ? "true" : "false"); },
                               [](const std::vector<std::string>& names) { return names_list(names); },
                               [](const std::vector<std::uint64_t>& seeds) {
                                 std::string text;
                                 for (const std::uint64_t seed : seeds) {
                                   text += fmt::format("{}{}", text.empty() ? "" : ",", seed);
                                 }
                                 return text;
                               }},
                    option.member.read(settings));
}

std::vector<std::string> stored_flags(const Resolved& resolved, Layer from, Layer to,
                                      std::span<const std::string_view> except) {
  std::vector<std::string> words;
  for (const Option& option : options()) {
    const Layer layer = resolved.origin(option.name).layer;
    if (!option.stored || layer < from || layer > to || std::ranges::find(except, option.name) != except.end())
      continue;
    // A run's config.toml has empty lists too.
    const std::string text = flag_text(option, resolved.settings);
    if (!text.empty()) words.push_back(fmt::format("--{}={}", option.name, text));
  }
  return words;
}

std::string given_flags(const Resolved& resolved) {
  const Settings& settings = resolved.settings;
  std::string words;
  for (const Option& option : options()) {
    if (!option.stored || resolved.origin(option.name).layer != Layer::flag) continue;
    words += fmt::format(" --{}", option.name);
    if (!option.is_flag()) words += ' ' + shell_quoted(flag_text(option, settings));
  }
  if (!settings.config.empty()) words += fmt::format(" --config {}", shell_quoted(settings.config));
  return words;
}

Settings settings_from_toml(std::string_view text, const std::string& source) {
  try {
    return merge(assignments_of_file(text, source, takes_of_training()), {}, {}, true).settings;
  } catch (Error& error) {
    error.code = Exit::data;
    if (error.file.empty()) error.file = source;
    throw;
  }
}

Settings read_run_settings(const std::filesystem::path& run_folder) {
  const std::string path = (run_folder / "config.toml").string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(Exit::data, "there is no run here: config.toml is missing")
        .at(run_folder.string())
        .hint("name the folder that `samformer train` wrote (its --out)");
  }
  return settings_from_toml(read_configuration(path, Exit::data), path);
}

std::vector<std::uint64_t> parse_seeds(std::string_view text) {
  const auto wrong = [&](std::string_view what) {
    return usage(
        fmt::format("--seeds: expected whole numbers such as 1..5 or 1,3,9, found '{}': {}", text.substr(0, 80), what));
  };
  std::vector<std::uint64_t> result;
  std::set<std::uint64_t> seen;
  for (const std::string& part : split_names(text)) {
    const std::size_t dots = part.find("..");
    std::uint64_t first = 0, last = 0;
    const bool ok = parse_whole(std::string_view(part).substr(0, dots), first) &&
                    (dots == std::string::npos || parse_whole(std::string_view(part).substr(dots + 2), last));
    if (dots == std::string::npos) last = first;
    if (!ok || last > INT64_MAX) throw wrong(fmt::format("'{}' is none", part));
    if (first > last) throw wrong(fmt::format("'{}' runs backwards", part));
    if (last - first >= max_seeds - result.size()) throw wrong(fmt::format("more than {} seeds", max_seeds));
    for (std::uint64_t seed = first; seed <= last; ++seed) {
      if (!seen.insert(seed).second) throw wrong(fmt::format("{} is there twice", seed));
      result.push_back(seed);
    }
  }
  return result;
}

std::string format_seeds(std::span<const std::uint64_t> seeds) {
  std::string result;
  for (std::size_t i = 0; i < seeds.size();) {
    std::size_t end = i + 1;
    while (end < seeds.size() && seeds[end] == seeds[end - 1] + 1) ++end;
    if (!result.empty()) result += ',';
    result += std::to_string(seeds[i]);
    if (end - i > 1) result += (end - i > 2 ? ".." : ",") + std::to_string(seeds[end - 1]);
    i = end;
  }
  return result;
}

char delimiter_character(const DataSettings& settings) {
  if (settings.delimiter == "comma") return ',';
  if (settings.delimiter == "semicolon") return ';';
  return settings.delimiter == "tab" ? '\t' : '\0';
}

}  // namespace samformer::tools
