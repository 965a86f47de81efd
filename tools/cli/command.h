// A command of the program: one row, beside its handler in tools/commands/<name>_command.cpp, with the options that no
// other command has; tools/commands/commands.cpp lists them. The handler gets its merged and checked settings, writes
// results to `out` (exactly one JSON document with settings.json) and everything else to the console, and returns the
// exit code or throws Error.
#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli/console.h"
#include "tools/cli/settings.h"

namespace samformer::tools {

struct Invocation {
  const Resolved& resolved;
  const Settings& settings;            // resolved.settings
  std::vector<std::string> arguments;  // RUN, FILE, NAME: as many as the command's row names
  std::ostream& out;
  Console& console;
  const Flags& flags;  // as given
};

// A command's own words for an option that it shares with others.
struct OptionText {
  std::string_view option, help;
  std::string_view default_text = {};  // empty: as for the others
};

struct Command {
  std::string_view name;  // "train", "data check"
  int (*handler)(const Invocation&);
  Takes takes = {};                              // its own options are added
  std::vector<Option> options = {};              // that no other command has
  std::vector<std::string_view> arguments = {};  // positional, all required
  std::string_view summary = {};
  std::string_view example = {};
  std::vector<OptionText> texts = {};

  std::string_view first_word() const { return name.substr(0, name.find(' ')); }  // "data"
  bool on_run() const { return !arguments.empty() && arguments[0] == "RUN"; }
};

}  // namespace samformer::tools
