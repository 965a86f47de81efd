// A queue of runs of this program, several at a time, each in a process of its own, and the ledger that makes the
// command that started them resumable (`sweep`, `reproduce`).
//
// The ledger is JSON lines: first what the command was asked for, then one line a finished run: {trial, seed, status,
// ...} with the fields of its result that the command wants, or exit_code and error of a failed one. A torn last line
// is cut off, so its run is done again; a failed run is recorded and not repeated. A run that was interrupted goes on
// from its own state; one that outlived a killed command is waited for.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "tools/cli/console.h"
#include "tools/cli/document.h"

namespace samformer::tools {

class Ledger {
 public:
  // Exit::usage where the file begins with another `header`.
  Ledger(const std::filesystem::path& path, const Json& header);
  void append(const Json& row);  // on the disk when it returns
  // Nothing where that run has not finished.
  const Json* trial(const std::string& name, std::uint64_t seed) const;
  // The row {tested: name, ...} that `sweep` appends; null where there is none.
  Json tested(const std::string& name) const;

 private:
  void add(const Json& row);
  std::optional<AppendFile> file_;
  std::map<std::pair<std::string, std::uint64_t>, Json> trials_;
  std::map<std::string, Json> tested_;
};

struct Task {
  std::string name;
  std::uint64_t seed;
  std::vector<std::string> words;  // the command and its flags, to which --json, --threads and --out are added
  std::filesystem::path folder;    // of the run; FOLDER.json is its document, FOLDER.log what it said
};

struct Queue {
  std::vector<Task> tasks;
  std::int64_t jobs, threads;       // at a time; of each
  std::vector<const char*> fields;  // of a result, for the ledger
  const char* shown;                // the one that progress shows
};
// Runs the tasks in order; every end is a line of the ledger, after which `finished` is called. A signal ends the runs
// that are going on, which save their state: Error(Exit::interrupted).
void run_queue(
    const Queue& queue, Ledger& ledger, Console& console, const std::function<void()>& finished = [] {});

// --jobs times --threads (0: `otherwise`, or an equal share of the cores) may be at most the cores: Exit::usage.
std::int64_t threads_of_each(std::int64_t jobs, std::int64_t threads, std::int64_t otherwise);

// This program with other words, to its end: its exit code.
int run_program(const std::vector<std::string>& words, const std::filesystem::path& out,
                const std::filesystem::path& log);

}  // namespace samformer::tools
