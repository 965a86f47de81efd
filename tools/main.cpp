// The program: what is common to all commands: help, errors, exit codes, a checked stdout.
#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <new>
#include <sstream>
#include <system_error>

#include "core/error.h"
#include "core/text.h"
#include "tools/cli/command_line.h"
#include "tools/cli/console.h"
#include "tools/cli/document.h"
#include "tools/cli/failure.h"
#include "tools/cli/settings.h"
#include "tools/cli/signals.h"
#include "tools/cli/text_format.h"
#include "tools/commands/commands.h"
#include "tools/run/runner.h"

namespace samformer::tools {
namespace {

// Before the command line is understood: an error in it must already come as JSON.
bool asks_for(std::string_view flag, const std::vector<std::string>& words, const Environment& environment) {
  const auto variable = environment.find(flag == "json" ? "SAMFORMER_JSON" : "SAMFORMER_QUIET");
  bool result = variable != environment.end() && (variable->second == "1" || variable->second == "true");
  for (const std::string& word : words) {
    if (word == fmt::format("--{}", flag)) result = true;
  }
  return result;
}

void flush_output(std::ostream& out) {
  out.flush();
  if (!out) {
    throw Error(Exit::io, "cannot write to standard output").hint("is the disk full, or the reading end closed?");
  }
}

int run(const std::vector<std::string>& words, const Environment& environment, Console& console, bool& json,
        std::ostream& out) {
  const CommandLine line = parse_command_line(commands(), words);
  if (line.version) {
    out << (json ? "{\"version\": \"" SAMFORMER_VERSION "\"}\n" : "samformer " SAMFORMER_VERSION "\n");
    return 0;
  }
  if (line.help) {
    out << help_text(commands(), line.command);
    return 0;
  }
  const Resolved resolved = resolve(line.flags, environment, line.command->takes);
  const Settings& settings = resolved.settings;
  json = settings.json;
  console.set_quiet(settings.quiet);
  for (const std::string& notice : resolved.notices) console.info(notice);
  if (settings.print_config) {
    if (json) {
      print(to_json(resolved), out);
    } else {
      out << to_toml(resolved);
    }
    return 0;
  }
  // With --json a command that fails half-way must leave nothing on stdout but the error.
  std::ostringstream document;
  document.exceptions(std::ios::badbit);  // std::bad_alloc, which a stream keeps to itself otherwise
  const int code =
      line.command->handler({resolved, settings, line.arguments, json ? document : out, console, line.flags});
  if (json) out << document.str();
  return code;
}

// Standard output that is a terminal: it is sent nothing that it would obey, whoever writes it.
class TerminalOutput : public std::stringbuf {
 protected:
  int sync() override {
    std::cout << shown_lines(view());
    str("");
    return std::cout.flush() ? 0 : -1;
  }
};

// A closed standard descriptor would be the next file opened, and receive what is printed.
bool standard_output_is_open() {
  bool open_output = true;
  for (int descriptor = 0; descriptor < 3; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    if (descriptor == STDOUT_FILENO) open_output = false;
    if (open("/dev/null", descriptor == STDIN_FILENO ? O_RDONLY : O_WRONLY) != descriptor) return false;
  }
  return open_output;
}

// Where there is no memory even for a message. Nothing here may allocate.
bool json_asked = false, main_returned = false;
[[noreturn]] void end_without_memory() {
  const auto put = [](int to, std::string_view text) {
    [[maybe_unused]] const ssize_t ignored = write(to, text.data(), text.size());
  };
  put(STDERR_FILENO, "error: out of memory or threads\n  hint: fewer --threads or a smaller --batch need less\n");
  if (json_asked) {
    put(STDOUT_FILENO,
        "{\"error\": {\"exit_code\": 4, \"kind\": \"device\", \"message\": \"out of memory or threads\", "
        "\"file\": null, \"line\": null, \"column\": null, "
        "\"hint\": \"fewer --threads or a smaller --batch need less\"}}\n");
  }
  _exit(static_cast<int>(Exit::device));
}

bool memory_was_missing = false;

// What has found no memory may have to abort(): a destructor that allocates, an assertion on what was not built. From
// before the program's own tables are built, which allocate too.
[[gnu::constructor(101)]] void expect_no_memory() {
  std::set_new_handler([] {
    memory_was_missing = true;
    std::signal(SIGABRT, [](int) { end_without_memory(); });
    throw std::bad_alloc();
  });
}

int program(const std::vector<std::string>& words) {
  const bool can_print = standard_output_is_open();
  install_signal_handlers();
  const Environment environment = process_environment();
  bool json = asks_for("json", words, environment);
  json_asked = json;
  Console console = Console::standard(asks_for("quiet", words, environment));
  TerminalOutput terminal;
  std::ostream out(isatty(STDOUT_FILENO) ? &terminal : std::cout.rdbuf());
  std::optional<Error> failure;
  try {
    if (!can_print) throw Error(Exit::io, "standard output is closed").hint("redirect it to a file or to /dev/null");
    const int code = run(words, environment, console, json, out);
    flush_output(out);
    return code;
  } catch (...) {
    failure = current_failure();
  }
  // Parsers take missing memory for bad input.
  if (memory_was_missing && failure->code < Exit::device) failure = out_of_memory();
  console.error(error_block(*failure));
  out.clear();
  std::cout.clear();
  if (json && can_print) print({{"error", error_json(*failure)}}, out);
  out.flush();
  return static_cast<int>(failure->code);
}

}  // namespace
}  // namespace samformer::tools

int main(int argc, char** argv) {
  using namespace samformer::tools;
  // The C library loads what it unwinds with at the first exception that passes through it (pthread_once), and aborts
  // where there is no memory left for it.
  void* frame = nullptr;
  backtrace(&frame, 1);
  // libgomp ends the process itself where it gets no thread or memory, after a message of its own.
  on_exit([](int, void*) { main_returned ? void() : end_without_memory(); }, nullptr);
  follow_parent();
  int code = 0;
  try {
    code = program(std::vector<std::string>(argv + (argc > 0), argv + argc));
  } catch (const std::bad_alloc&) {
    end_without_memory();
  }
  main_returned = true;
  return code;
}
