// From argv to a command and its flags (CLI11), and the help texts. Both are made from the table of commands and
// options(); there is no second list. Errors: Exit::usage, naming a near command or flag, or else what there is.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli/command.h"

namespace samformer::tools {

struct CommandLine {
  const Command* command = nullptr;  // nothing: the program's own help or version was asked for
  bool help = false;
  bool version = false;
  Flags flags;
  std::vector<std::string> arguments;
};

// `words` is argv without the program's name.
CommandLine parse_command_line(std::span<const Command> commands, const std::vector<std::string>& words);

// Of a command, or of the program where `command` is nothing.
std::string help_text(std::span<const Command> commands, const Command* command);

}  // namespace samformer::tools
