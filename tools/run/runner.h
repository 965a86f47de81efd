// A queue of runs of this program, several at a time, each in a process of its own, and the ledger that makes the
// command that started them resumable (`sweep`, `reproduce`).
//
// The ledger is JSON lines: first what the command was asked for, then one line a finished run: {trial, seed, status,
// ...} with the fields of its result that the command wants, or exit_code, kind and error of a failed one. A torn last
// line is cut off, so its run is done again. Only what the settings themselves have caused is a failure, recorded and
// not repeated: usage, data, divergence (exit codes 2, 3, 5). What comes from outside (a signal, a full disk, no memory,
// a lost device) is no result: the same command tries that run again, from the state that it has saved.
//
// A run's folder is locked before the run starts, and the lock handed down to it: nobody else gets in between. A run
// dies with the process that started it.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "tools/cli/console.h"
#include "tools/cli/document.h"
#include "tools/cli/settings.h"
#include "tools/run/stored_json.h"

namespace samformer::tools {

class Ledger {
 public:
  // `needed`: fields that a run's result must have. Exit::usage where the file begins with another `header`, Exit::data
  // where a line is not what append() writes.
  Ledger(const std::filesystem::path& path, const Json& header, std::vector<const char*> needed);
  const std::vector<const char*>& needed() const { return needed_; }
  void append(const Json& row);  // on the disk when it returns
  // Nothing where that run has not finished.
  const Json* trial(const std::string& name, std::uint64_t seed) const;
  // The row {tested: name, ...} that `sweep` appends; null where there is none.
  Json tested(const std::string& name) const;

 private:
  void add(const Json& row);
  std::vector<const char*> needed_;
  std::optional<AppendFile> file_;
  std::map<std::pair<std::string, std::uint64_t>, Json> trials_;
  std::map<std::string, Json> tested_;
};

struct Task {
  std::string name;
  std::uint64_t seed;
  std::vector<std::string> words;  // the command and its flags, to which --json, --threads and --out are added
  std::filesystem::path root;      // the command's --out
  std::filesystem::path folder;    // of the run, below root; FOLDER.json is its document, FOLDER.log what it said
};

// A run that something outside has ended.
struct Unfinished {
  std::string name;
  std::uint64_t seed;
  Error error;
};

struct Queue {
  std::vector<Task> tasks;
  std::int64_t jobs, threads;       // at a time; of each
  std::vector<const char*> fields;  // of a result, for the ledger
  const char* shown;                // the one that progress shows
};
// Runs the tasks in order; every result is a line of the ledger, after which `finished` is called. Where one cannot
// write (Exit::io), no more are started. A signal, and any error, ends the runs that are going on, which save their
// state: Error(Exit::interrupted).
// Of a thread that has set run_task_here all of it happens there, one task after the other.
std::vector<Unfinished> run_queue(
    const Queue& queue, Ledger& ledger, Console& console, const std::function<void()>& finished = [] {});

// Runs a command of the program: for a caller of the library, whose program is another one.
inline thread_local std::function<void(const std::vector<std::string>& words, std::ostream& out)> run_task_here;

// Throws the first of them, with their number, where there is one.
void require_finished(const std::vector<Unfinished>& unfinished);
// How many of the tasks' runs have failed: they are left out of what the command shows, which a warning says.
std::size_t warn_of_failures(const std::vector<Task>& tasks, const Ledger& ledger, Console& console);

// How many of `runs` runs at a time, and the CPU threads of each: --jobs, auto: one on a GPU, on the CPU as many as the
// cores have room for; --threads, else an equal share of the cores. Together at most the cores: Exit::usage.
struct Share {
  std::int64_t jobs, threads;
};
Share share_of_cores(const Settings& settings, std::size_t runs);

// This program with other words (--json among them), to its end: its document. Throws the Error that it ended with; a
// signal is Exit::device where the system has killed it, else Exit::internal.
StoredJson run_program(const std::vector<std::string>& words, const std::filesystem::path& out,
                       const std::filesystem::path& log);

// First thing in main(): where run_queue() or run_program() has started this process, it ends with its parent, to which
// it leaves the terminal's signals.
void follow_parent();
// The lock of --out: the one that was handed down, if there is one.
FolderLock lock_folder(const std::filesystem::path& folder);

}  // namespace samformer::tools
