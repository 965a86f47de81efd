#include "tools/cli/completion.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"

namespace samformer::tools {
namespace {

// What a command has: an option's help is that of the command.
std::string_view help_of(const Option& option, const Command& command) {
  for (const OptionText& own : command.texts) {
    if (own.option == option.name) return own.help;
  }
  return option.help;
}

template <class Visit>
void for_each_option(const Command& command, const Visit& visit) {
  for (const Option& option : options()) {
    if (takes(command.takes, option)) visit(option);
  }
}

// The second words of "data check", "data list", ..., by the first.
std::map<std::string, std::vector<std::string>> groups(std::span<const Command> commands) {
  std::map<std::string, std::vector<std::string>> all;
  for (const Command& c : commands) {
    const std::string_view first = c.first_word();
    if (first != c.name) all[std::string(first)].emplace_back(c.name.substr(first.size() + 1));
  }
  return all;
}

std::vector<std::string> first_words(std::span<const Command> commands) {
  std::vector<std::string> words;
  for (const Command& c : commands) {
    if (words.empty() || words.back() != c.first_word()) words.emplace_back(c.first_word());
  }
  return words;
}

// In single quotes of all three shells.
std::string quoted(std::string_view text, std::string_view escaped_quote) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string(escaped_quote) : std::string(1, c);
  return result + "'";
}

std::string bash(std::span<const Command> commands) {
  std::string text =
      "# bash completion of samformer: source it, or put it where bash-completion looks for it.\n"
      "_samformer() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=\n"
      "  if [[ $COMP_CWORD -eq 1 ]]; then\n";
  text += fmt::format("    COMPREPLY=($(compgen -W '{} help --help --version' -- \"$cur\"))\n    return\n  fi\n",
                      join(first_words(commands), " "));
  text += "  case $command in\n";
  text += fmt::format("    help) words='{}' ;;\n", join(first_words(commands), " "));
  for (const auto& [first, second] : groups(commands)) {
    text += fmt::format(
        "    {})\n      if [[ $COMP_CWORD -eq 2 ]]; then words='{}'; else command+=\" ${{COMP_WORDS[2]}}\"; fi ;;\n",
        first, join(second, " "));
  }
  text +=
      "  esac\n  if [[ -n $words ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    return\n  fi\n";
  text += "  case $prev in\n";
  std::set<std::string_view> seen;
  for (const Command& command : commands) {
    for_each_option(command, [&](const Option& option) {
      if (option.choices.empty() || !seen.insert(option.name).second) return;
      text += fmt::format("    --{}) words='{}' ;;\n", option.name, join(option.choices, " "));
    });
  }
  text +=
      "  esac\n  if [[ -n $words ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    return\n  fi\n"
      "  [[ $cur == -* ]] || return\n  case $command in\n";
  for (const Command& command : commands) {
    std::string flags = "--help";
    for_each_option(command, [&](const Option& option) { flags += fmt::format(" --{}", option.name); });
    text += fmt::format("    '{}') words='{}' ;;\n", command.name, flags);
  }
  return text +
         "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _samformer samformer\n";
}

std::string zsh(std::span<const Command> commands) {
  // In brackets of _arguments and before the colon of _describe.
  const auto escaped = [](std::string_view help) {
    std::string result;
    for (const char c : help)
      result += std::string_view("[]:\\").find(c) != std::string_view::npos ? std::string("\\") + c : std::string(1, c);
    return result;
  };
  const auto listed = [&](std::string_view indent, const auto& rows) {
    std::string text;
    for (const auto& [name, summary] : rows) {
      text += fmt::format("{}{}\n", indent, quoted(fmt::format("{}:{}", name, escaped(summary)), "'\\''"));
    }
    return text;
  };
  std::vector<std::pair<std::string, std::string>> first;
  for (const std::string& word : first_words(commands)) {
    const auto command = std::ranges::find(commands, word, &Command::name);
    first.emplace_back(word, command == commands.end() ? "of files" : std::string(command->summary));
  }
  std::string text =
      "#compdef samformer\n# zsh completion of samformer: put it as _samformer into a folder of $fpath.\nlocal -a "
      "found\n";
  text += "if (( CURRENT == 2 )); then\n  found=(\n" + listed("    ", first) +
          "  )\n  _describe command found\n  return\nfi\n";
  text += "local command=$words[2]\ncase $command in\n";
  for (const auto& [word, second] : groups(commands)) {
    std::vector<std::pair<std::string, std::string>> rows;
    for (const std::string& s : second) {
      rows.emplace_back(s, std::string(std::ranges::find(commands, word + " " + s, &Command::name)->summary));
    }
    text += fmt::format(
        "  {})\n    if (( CURRENT == 3 )); then\n      found=(\n{}      )\n      _describe command found\n      "
        "return\n    fi\n    command+=\" $words[3]\" ;;\n",
        word, listed("        ", rows));
  }
  text += "esac\ncase $command in\n";
  for (const Command& command : commands) {
    text += fmt::format("  '{}')\n    _arguments \\\n", command.name);
    for_each_option(command, [&](const Option& option) {
      std::string entry = fmt::format("--{}[{}]", option.name, escaped(help_of(option, command)));
      if (!option.choices.empty()) {
        entry += fmt::format(":{}:({})", option.name, join(option.choices, " "));
      } else if (!option.is_flag()) {
        entry += fmt::format(":{}:_files", escaped(option.value_name));
      }
      text += fmt::format("      {} \\\n", quoted(entry, "'\\''"));
    });
    text += "      '*:file:_files' ;;\n";
  }
  return text + "esac\n";
}

std::string fish(std::span<const Command> commands) {
  const auto escape = [](std::string_view help) {
    std::string result;
    for (const char c : help) result += c == '\\' ? std::string("\\\\") : std::string(1, c);
    return quoted(result, "\\'");
  };
  std::string text =
      "# fish completion of samformer: put it into ~/.config/fish/completions/samformer.fish\n"
      "function __samformer_command\n  set -l words (commandline -opc)[2..-1]\n"
      "  test (string join ' ' -- $words[1..(count (string split ' ' -- $argv[1]))]) = $argv[1] 2>/dev/null\nend\n"
      "function __samformer_none\n  test (count (commandline -opc)) -eq 1\nend\n"
      "function __samformer_group\n  set -l words (commandline -opc)\n  test (count $words) -eq 2 -a \"$words[2]\" = "
      "$argv[1]\nend\n";
  for (const std::string& word : first_words(commands)) {
    const auto command = std::ranges::find(commands, word, &Command::name);
    text += fmt::format("complete -c samformer -f -n __samformer_none -a {} -d {}\n", word,
                        escape(command == commands.end() ? "of files" : command->summary));
  }
  for (const auto& [word, second] : groups(commands)) {
    for (const std::string& s : second) {
      text += fmt::format("complete -c samformer -f -n '__samformer_group {}' -a {} -d {}\n", word, s,
                          escape(std::ranges::find(commands, word + " " + s, &Command::name)->summary));
    }
  }
  for (const Command& command : commands) {
    for_each_option(command, [&](const Option& option) {
      text += fmt::format("complete -c samformer -n '__samformer_command \"{}\"' -l {} -d {}", command.name,
                          option.name, escape(help_of(option, command)));
      if (!option.choices.empty()) {
        text += fmt::format(" -x -a '{}'", join(option.choices, " "));
      } else if (!option.is_flag()) {
        text += " -r";
      }
      text += '\n';
    });
  }
  return text;
}

}  // namespace

std::string completion(std::string_view shell, std::span<const Command> commands) {
  if (shell == "bash") return bash(commands);
  if (shell == "zsh") return zsh(commands);
  if (shell == "fish") return fish(commands);
  throw Error(Exit::usage, fmt::format("no completion for '{}'", shell))
      .hint(fmt::format("one of {}", join(shells, ", ")));
}

}  // namespace samformer::tools
