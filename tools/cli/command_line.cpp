#include "tools/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "core/error.h"
#include "core/text.h"

namespace samformer::tools {

namespace {

constexpr std::size_t help_width = 110;
constexpr std::size_t help_column = 30;

const Command& find_command(std::span<const Command> commands, const std::vector<std::string>& words) {
  const std::string& word = words[0];
  const std::string two_words = words.size() > 1 ? word + ' ' + words[1] : word;
  std::vector<std::string> known, members;
  for (const Command& command : commands) {
    if (command.name == word || command.name == two_words) return command;
    known.emplace_back(command.name);
    if (command.name != command.first_word() && command.first_word() == word) members.push_back(known.back());
  }
  if (word.starts_with('-')) {
    throw Error(Exit::usage, fmt::format("expected a command before '{}'", word))
        .hint("flags come after the command: samformer train --epochs 5");
  }
  if (!members.empty() && (words.size() == 1 || words[1].starts_with('-'))) {
    throw Error(Exit::usage, fmt::format("'{}' alone is no command", word))
        .hint(fmt::format("it is one of: {}", join(members, ", ")));
  }
  const std::string& asked = members.empty() ? word : two_words;
  throw Error(Exit::usage, fmt::format("unknown command '{}'", asked))
      .hint(guess(asked, members.empty() ? known : members,
                  fmt::format("there are: {}", join(members.empty() ? known : members, ", "))));
}

std::string spelled(const Option& option) {
  std::string result = fmt::format("--{}", option.name);
  for (const std::string_view alias : option.aliases) result += fmt::format(",--{}", alias);
  return result;
}

// `rest` are the words that are no flag of the command: its positional arguments, or a mistake.
std::vector<std::string> check_rest(const Command& command, std::vector<std::string> rest) {
  for (const std::string& word : rest) {
    if (!word.starts_with('-') || word == "-") continue;
    const std::string flag = word.substr(0, word.find('='));
    if (const Option* option = flag.starts_with("--") ? find_option(flag.substr(2)) : nullptr) {
      throw Error(Exit::usage, fmt::format("{} is no flag of {}", flag, command.name))
          .hint(fmt::format("samformer {} --help lists its flags ({} belongs to another command)", command.name,
                            option->name));
    }
    std::vector<std::string> known{"help"};
    for (const Option& option : options()) {
      if (!takes(command.takes, option)) continue;
      known.emplace_back(option.name);
      known.insert(known.end(), option.aliases.begin(), option.aliases.end());
    }
    throw Error(Exit::usage, fmt::format("unknown flag '{}'", flag))
        .hint(guess(flag.substr(std::min(flag.find_first_not_of('-'), flag.size())), known,
                    fmt::format("samformer {} --help lists its flags", command.name), "--"));
  }
  const std::size_t wanted = command.arguments.size();
  if (rest.size() < wanted) {
    throw Error(Exit::usage, fmt::format("{} needs {}", command.name, command.arguments[rest.size()]))
        .hint(fmt::format("samformer {} {}", command.name, join(command.arguments, " ")));
  }
  if (rest.size() > wanted) {
    throw Error(Exit::usage, fmt::format("{}: unexpected argument '{}'", command.name, rest[wanted]))
        .hint(fmt::format("samformer {} --help shows what it takes", command.name));
  }
  for (std::size_t i = 0; i < wanted; ++i) require_utf8(command.arguments[i], rest[i]);
  return rest;
}

std::string wrap(std::string_view text, std::size_t indent) {
  std::string result;
  std::size_t column = indent;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (column > indent && column + 1 + word.size() > help_width) {
      result += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
  }
  return result + '\n';
}

std::string entry(const std::string& left, std::string_view text) {
  const std::string head = "  " + left;
  const bool fits = head.size() + 2 <= help_column;
  return head + (fits ? std::string(help_column - head.size(), ' ') : '\n' + std::string(help_column, ' ')) +
         wrap(text, help_column);
}

// The option in the words of the command.
std::string option_help(Option option, const Command& command) {
  bool on_run = command.on_run();
  for (const OptionText& own : command.texts) {
    if (own.option != option.name) continue;
    option.help = own.help;
    if (!own.default_text.empty()) option.default_text = own.default_text, on_run = false;
  }
  std::string left = fmt::format("--{}", option.name);
  if (!option.value_name.empty()) {
    left += fmt::format(" {}", option.value_name);
  } else if (!option.choices.empty()) {
    left += fmt::format(" {}", join(option.choices, "|"));
  }
  std::string text(option.help);
  const std::string otherwise = default_text(option, on_run);
  if (!otherwise.empty()) text += fmt::format("{}[{}]", text.empty() ? "" : " ", otherwise);
  for (const std::string_view alias : option.aliases) text += fmt::format(" (or --{})", alias);
  return entry(left, text);
}

std::string flags_text(const model::ModelRow::Settings& settings) {
  std::vector<std::string> flags;
  for (const auto& [name, value] : settings) flags.push_back(fmt::format("--{} {}", name, value));
  return join(flags, " ");
}

std::string program_help(std::span<const Command> commands) {
  std::string result =
      "samformer trains SAMformer, a transformer for long time series, and forecasts with it.\n\n"
      "usage: samformer COMMAND [flags]\n"
      "start: samformer forecast FILE   forecasts the next rows of a CSV file; nothing needs to be set\n\nCommands\n";
  for (const Command& command : commands) {
    result += entry(fmt::format("{} {}", command.name, join(command.arguments, " ")), command.summary);
  }
  return result +
         "\n  samformer help COMMAND        the command's flags, as samformer COMMAND --help\n  samformer --version\n\n"
         "Results go to stdout, everything else to stderr; --json makes stdout one JSON document.\n"
         "Exit codes: 0 ok, 1 internal, 2 usage, 3 data, 4 device or memory, 5 diverged, 6 a check failed, 7 cannot "
         "write\nor reach, 130 interrupted.\n";
}

}  // namespace

CommandLine parse_command_line(std::span<const Command> commands, const std::vector<std::string>& words) {
  CommandLine line;
  if (!words.empty() && words[0] == "help") {
    std::vector<std::string> asked(words.begin() + 1, words.end());
    std::erase_if(asked, [](const std::string& word) { return word == "help" || word == "--help" || word == "-h"; });
    asked.emplace_back("--help");
    return parse_command_line(commands, asked);
  }
  const auto is_help = [&](std::size_t i) {
    return words.size() == i + 1 && (words[i] == "--help" || words[i] == "-h");
  };
  const bool is_group = !words.empty() && std::ranges::any_of(commands, [&](const Command& command) {
    return command.name != words[0] && command.first_word() == words[0];
  });
  if (words.empty() || is_help(0) || (is_group && is_help(1))) {
    line.help = true;
    return line;
  }
  if (words[0] == "--version") {
    line.version = true;
    return line;
  }
  const Command& command = find_command(commands, words);
  line.command = &command;

  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("-h,--help");
  std::vector<std::pair<const Option*, const CLI::Option*>> taken;
  for (const Option& option : options()) {
    if (!takes(command.takes, option)) continue;
    CLI::Option* added = option.is_flag() ? app.add_flag(spelled(option))
                                          : app.add_option(spelled(option), [](const CLI::results_t&) { return true; });
    added->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    taken.emplace_back(&option, added);
  }
  const auto skipped = static_cast<std::ptrdiff_t>(1 + std::ranges::count(command.name, ' '));
  std::vector<std::string> reversed(words.rbegin(), words.rend() - skipped);
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ArgumentMismatch&) {  // the words ended
    throw Error(Exit::usage, fmt::format("{} needs a value", words.back()));
  } catch (const CLI::ParseError& error) {
    throw Error(Exit::usage, error.what()).hint(fmt::format("samformer {} --help", command.name));
  }
  line.help = help->count() > 0;
  if (line.help) return line;
  line.arguments = check_rest(command, app.remaining());
  for (const auto& [option, parsed] : taken) {
    for (const std::string& text : parsed->results()) {
      if (text.starts_with("--")) {
        throw Error(Exit::usage, fmt::format("--{} needs a value, found '{}'", option->name, text));
      }
      line.flags.emplace_back(option->name, text);
    }
  }
  return line;
}

std::string help_text(std::span<const Command> commands, const Command* command) {
  if (!command) return program_help(commands);
  std::string result = fmt::format("samformer {}: {}\n\n", command->name, command->summary);
  result += fmt::format("usage: samformer {}{}{} [flags]\n", command->name, command->arguments.empty() ? "" : " ",
                        join(command->arguments, " "));
  std::string_view group;
  for (const Option& option : options()) {
    if (!takes(command->takes, option)) continue;
    if (option.group != group) result += fmt::format("\n{}\n", option.group);
    group = option.group;
    result += option_help(option, *command);
  }
  if (takes(command->takes, *find_option("model"))) {
    result += "\nModels\n";
    for (const model::ModelRow& row : model::models()) result += entry(std::string(row.name), row.summary);
  }
  if (takes(command->takes, *find_option("preset"))) {
    result += "\nPresets\n";
    for (const Preset& preset : presets()) {
      std::string text = flags_text(preset.settings);
      if (preset.small_rate) text += " (--lr 1e-4 for a file named weather, electricity or traffic)";
      if (preset.of_model)
        text = fmt::format("of {}: their authors' settings; else paper", join(published_models(), ", "));
      result += entry(std::string(preset.name), text.empty() ? "the defaults above" : text);
    }
    result +=
        "\n" +
        wrap("Later wins: defaults, --preset, --config, environment (SAMFORMER_STATS_MIX for --stats-mix), flags.", 0);
  }
  if (!command->example.empty()) result += fmt::format("\nExample\n  {}\n", command->example);
  return result;
}

}  // namespace samformer::tools
