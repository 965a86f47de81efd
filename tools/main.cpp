// The program: the table of commands, and what is common to all of them: help, errors, exit codes, a checked stdout.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <new>
#include <sstream>

#include "core/error.h"
#include "tools/cli/command_line.h"
#include "tools/cli/console.h"
#include "tools/cli/document.h"
#include "tools/cli/settings.h"
#include "tools/cli/signals.h"
#include "tools/commands/commands.h"

namespace samformer::tools {
namespace {

const std::vector<Command>& commands() {
  static const std::vector<Command> rows = {
      {.name = "train",
       .handler = train,
       .takes = kTrain,
       .summary = "trains one model on one series and tests it once",
       .example = "samformer train --data ETTh1.csv --horizon 96 --seeds 1..3 --out runs/etth1"},
      {.name = "eval",
       .handler = eval,
       .takes = kEval,
       .arguments = {"RUN"},
       .summary = "runs the test protocol on a trained run, or on other data with it",
       .example = "samformer eval runs/etth1 --data ETTh2.csv --part all"},
      {.name = "predict",
       .handler = predict,
       .takes = kPredict,
       .arguments = {"RUN"},
       .summary = "forecasts the steps after the end of a CSV, in original units, with dates",
       .example = "samformer predict runs/etth1 --data latest.csv --out forecast.csv"},
      {.name = "sharpness",
       .handler = sharpness,
       .takes = kSharpness,
       .arguments = {"RUN"},
       .summary = "curvature of the training loss at a run's weights: extreme eigenvalues, trace, m-sharpness",
       .example = "samformer sharpness runs/etth1 --density"},
      {.name = "attention",
       .handler = attention,
       .takes = kAttention,
       .arguments = {"RUN"},
       .summary = "which channel looks at which: the mean map of the test split, or of one window",
       .example = "samformer attention runs/etth1 --origin \"2018-02-20 23:00:00\""},
      {.name = "landscape",
       .handler = landscape,
       .takes = kLandscape,
       .arguments = {"RUN"},
       .summary = "slices of the training loss around a run's weights, filter-normalised",
       .example = "samformer landscape runs/transformer --against runs/samformer"},
      {.name = "sweep",
       .handler = sweep,
       .takes = kTrain | kSweep,
       .summary = "trains every combination of settings, ranks them by validation error, tests the winner once",
       .example = "samformer sweep --data ETTh1.csv --grid rho=0..1..0.25 --seeds 1..3 --jobs 2 --out sweeps/rho"},
      {.name = "reproduce",
       .handler = reproduce,
       .takes = kReproduce,
       .arguments = {"TABLE"},
       .summary =
           "the paper's tables beside our runs: main, temporal, rho, mix, toy, parameters; goes on where it stopped",
       .example = "samformer reproduce main --data data --models samformer --jobs 2 --out reproduction"},
      {.name = "data check",
       .handler = data_check,
       .takes = kCheck,
       .arguments = {"FILE"},
       .summary = "finds what train would refuse or warn of: gaps, missing values, dates out of order, ...",
       .example = "samformer data check sales.csv --horizon 30 --lookback 90"},
      {.name = "data synth",
       .handler = data_synth,
       .takes = kSynth,
       .arguments = {"seasonal"},
       .summary = "writes the built-in series, whose noise floor is known",
       .example = "samformer data synth seasonal --rows 2000 --out seasonal.csv"},
      {.name = "data list",
       .handler = data_list,
       .takes = kList,
       .summary = "lists known public series: size, licence, where from, present or not"},
      {.name = "data fetch",
       .handler = data_fetch,
       .takes = kFetch,
       .arguments = {"NAME"},
       .summary = "downloads a known series into the user's cache folder and checks its hash",
       .example = "samformer data fetch ETTh1"},
      {.name = "toy",
       .handler = toy,
       .takes = kToy,
       .summary = "the paper's toy regression: a transformer with and without SAM beside least squares",
       .example = "samformer toy --epochs 100 --out toy"},
      {.name = "doctor",
       .handler = doctor,
       .takes = kDoctor,
       .summary = "checks this machine: devices, libraries, speed, a ten-second self-test"},
      {.name = "bench",
       .handler = bench,
       .takes = kBench,
       .summary = "measures every operation and the training step against this machine's own limits",
       .example = "samformer bench --shapes 7x96,321x96 --format md"},
      {.name = "profile",
       .handler = profile,
       .takes = kTrain | kProfile,
       .summary = "times the operations of training steps on the CPU or a GPU, beside the machine's limits",
       .example = "samformer profile --data ETTh1.csv --device cuda --steps 20 --trace steps.json"},
  };
  return rows;
}

std::string error_block(const Error& error) {
  std::string place = error.file;
  if (error.line > 0) place += fmt::format(":{}", error.line);
  if (error.column > 0) place += fmt::format(":{}", error.column);
  std::string result = place.empty() ? error.what() : fmt::format("{}: {}", place, error.what());
  if (!error.advice.empty()) result += fmt::format("\n  hint: {}", error.advice);
  return result;
}

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
    out << (json ? to_json(resolved).dump(2) + "\n" : to_toml(resolved));
    return 0;
  }
  // With --json a command that fails half-way must leave nothing on stdout but the error.
  std::ostringstream document;
  const int code =
      line.command->handler({resolved, settings, line.arguments, json ? document : out, console, line.flags});
  if (json) out << document.str();
  return code;
}

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

int program(const std::vector<std::string>& words) {
  const bool can_print = standard_output_is_open();
  install_signal_handlers();
  const Environment environment = process_environment();
  bool json = asks_for("json", words, environment);
  Console console = Console::standard(asks_for("quiet", words, environment));
  std::optional<Error> failure;
  try {
    if (!can_print) throw Error(Exit::io, "standard output is closed").hint("redirect it to a file or to /dev/null");
    const int code = run(words, environment, console, json, std::cout);
    flush_output(std::cout);
    return code;
  } catch (const Error& error) {
    failure = error;
  } catch (const std::bad_alloc&) {
    failure = Error(Exit::device, "out of memory").hint("a smaller --batch or --lookback needs less");
  } catch (const std::length_error&) {
    failure = Error(Exit::device, "out of memory").hint("a smaller --batch or --lookback needs less");
  } catch (const std::filesystem::filesystem_error& error) {
    failure = Error(Exit::io, error.what());
  } catch (const std::exception& error) {
    failure = Error(Exit::internal, error.what()).hint("this is a bug in samformer, please report it");
  }
  console.error(error_block(*failure));
  if (json && can_print) {
    std::cout.clear();
    print({{"error", error_json(*failure)}}, std::cout);
    std::cout.flush();
  }
  return static_cast<int>(failure->code);
}

}  // namespace
}  // namespace samformer::tools

int main(int argc, char** argv) {
  return samformer::tools::program(std::vector<std::string>(argv + (argc > 0), argv + argc));
}
