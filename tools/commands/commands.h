// The program's commands. A handler gets its merged and checked settings, writes results to `out` (exactly one JSON
// document with settings.json) and everything else to the console, and returns the exit code or throws Error.
// A command is one handler here and one row of the table in main.cpp.
#pragma once

#include <ostream>
#include <string>
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

int train(const Invocation& invocation);
int eval(const Invocation& invocation);
int predict(const Invocation& invocation);
int data_check(const Invocation& invocation);
int data_synth(const Invocation& invocation);
int data_list(const Invocation& invocation);
int data_fetch(const Invocation& invocation);
int doctor(const Invocation& invocation);
int bench(const Invocation& invocation);
int profile(const Invocation& invocation);
int toy(const Invocation& invocation);
int sharpness(const Invocation& invocation);
int attention(const Invocation& invocation);
int landscape(const Invocation& invocation);
int sweep(const Invocation& invocation);
int reproduce(const Invocation& invocation);

}  // namespace samformer::tools
