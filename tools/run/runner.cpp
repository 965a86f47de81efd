#include "tools/run/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>
#include <variant>

#include "core/error.h"
#include "optim/device_model.h"
#include "tools/cli/failure.h"
#include "tools/cli/signals.h"
#include "tools/run/experiment.h"
#include "tools/run/result.h"
#include "tools/run/stored_json.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

// "PARENT LOCK": the process that has started this one, the descriptor of the lock that it hands down, or -1.
constexpr std::string_view variable = "SAMFORMER_TRIAL";
int handed_down = -1;

pid_t start(const std::vector<std::string>& words, const fs::path& out, const fs::path& log, int lock = -1) {
  std::vector<char*> arguments{const_cast<char*>("samformer")};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  constexpr int lock_there = 3;
  std::string trial = fmt::format("{}={} {}", variable, getpid(), lock < 0 ? -1 : lock_there);
  std::vector<char*> environment{trial.data()};
  for (char** entry = environ; *entry; ++entry) environment.push_back(*entry);
  environment.push_back(nullptr);
  const Descriptor out_file = open_emptied(out), log_file = open_emptied(log);
  posix_spawn_file_actions_t actions;
  int error = posix_spawn_file_actions_init(&actions);
  const auto redirect = [&](int from, int to) {
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, from, to);
  };
  if (error == 0) error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  redirect(out_file.get(), STDOUT_FILENO);
  redirect(log_file.get(), STDERR_FILENO);
  // Also where it has that number already: dup2 lets it through exec.
  if (lock >= 0) redirect(lock, lock_there);
  pid_t child = 0;
  if (error == 0)
    error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw Error(Exit::device, fmt::format("cannot start a run: {}", std::strerror(error)))
        .hint("lower --jobs, or raise the limits on processes and memory (ulimit -u, ulimit -v)");
  }
  return child;
}

fs::path beside(const Task& task, const char* extension) { return task.folder.string() + extension; }

std::vector<std::string> words_of(const Task& task, std::int64_t threads) {
  std::vector<std::string> words = task.words;
  std::string folder_flag = "--out";
  if (fs::exists(task.folder / "config.toml")) {
    words = {"train"};
    folder_flag = "--resume";
  } else if (words[0] == "train") {
    words.push_back("--overwrite");  // of a run without its settings nothing can be taken up
  }
  words.insert(words.end(), {"--json", "--threads", std::to_string(threads), folder_flag, task.folder.string()});
  return words;
}

pid_t start_task(const Task& task, std::int64_t threads, FolderLock lock) {
  const pid_t child = start(words_of(task, threads), beside(task, ".json"), beside(task, ".log"), lock.descriptor());
  lock.hand_down();
  return child;
}

// The runs that are going on. However the queue ends, they are ended with it, and save their state.
struct Running : std::map<pid_t, const Task*> {
  ~Running() {
    for (const auto& [child, task] : *this) kill(child, SIGTERM);
    for (const auto& [child, task] : *this) waitpid(child, nullptr, 0);
  }
};

// Whether the settings themselves have caused it: the same run would end so again.
bool is_result(Exit code) { return code == Exit::usage || code == Exit::data || code == Exit::diverged; }

// A run that has ended before it took its lock over leaves the lock's file behind.
void clear_lock(const fs::path& folder) {
  if (!fs::exists(folder / ".lock")) return;
  try {
    const FolderLock lock(folder);
  } catch (const Error&) {
    // Another process has it by now, or nothing can be written: the file does no harm.
  }
}

// Why a process of this program, which has printed to `out`, has not succeeded.
Error error_of(int status, const fs::path& out) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    if (signal == SIGKILL) return {Exit::device, "killed by signal 9, as the system does when memory runs out"};
    return {Exit::internal, fmt::format("ended by signal {}", signal)};
  }
  const int code = WEXITSTATUS(status);
  try {
    const StoredJson error = read_json(out, "").at("error");
    const auto text = [&](const char* name) { return error.at(name).is_null() ? "" : error.at(name).text(); };
    const auto number = [&](const char* name) { return error.at(name).is_null() ? 0 : error.at(name).whole(); };
    return Error(static_cast<Exit>(code), text("message"))
        .at(text("file"), number("line"), number("column"))
        .hint(text("hint"));
  } catch (const Error&) {
    return {static_cast<Exit>(code), fmt::format("exit code {} without a document", code)};
  }
}

// A row of the ledger, or why there is none.
using End = std::variant<Json, Unfinished>;

End end_of(const Task& task, const std::optional<Error>& failure, const std::vector<const char*>& fields,
           const std::vector<const char*>& needed) {
  const fs::path out = beside(task, ".json");
  if (!failure) {
    const StoredJson d = read_json(out, "the same command reads the run's result again");
    check_fields(d, needed);
    Json row = {{"trial", task.name}, {"seed", task.seed}, {"status", "ok"}};
    for (const char* name : fields) row[name] = d.json().value(name, Json());
    return row;
  }
  const Error& error = *failure;
  if (!is_result(error.code)) return Unfinished{task.name, task.seed, error};
  return Json{{"trial", task.name},
              {"seed", task.seed},
              {"status", "failed"},
              {"exit_code", static_cast<int>(error.code)},
              {"kind", error_json(error)["kind"]},
              {"error", error.what()}};
}

// What the task has failed with; nothing where it has not. A stop ends the queue too.
std::optional<Error> run_here(const Task& task, std::int64_t threads) {
  make_folders(task.root, task.folder.lexically_relative(task.root));
  try {
    std::ostringstream out;
    run_task_here(words_of(task, threads), out);
    write_atomic(beside(task, ".json"), out.str());
    return std::nullopt;
  } catch (...) {
    Error error = current_failure();
    if (error.code == Exit::interrupted) throw;
    return error;
  }
}

void check_row(const StoredJson& row, const std::vector<const char*>& needed) {
  if (const auto trial = row.find("trial")) {
    trial->text();
    row.at("seed").whole();
    const std::string status = row.at("status").text();
    if (status == "ok") {
      check_fields(row, needed);
      if (const auto error = row.find("error")) error->text();
    } else if (status == "failed") {
      row.at("exit_code").whole();
      row.at("error").text();
    } else {
      throw row.at("status").expected("ok or failed");
    }
  }
  if (const auto tested = row.find("tested")) {
    tested->text();
    check_fields(row, std::vector{"test_mse", "test_mse_std", "test_mae", "test_mae_std"});
  }
}

}  // namespace

Ledger::Ledger(const fs::path& path, const Json& header, std::vector<const char*> needed) : needed_(std::move(needed)) {
  if (fs::exists(path)) {
    const std::string text = read_file(path);
    const std::size_t whole = text.rfind('\n') + 1;
    if (whole < text.size()) cut_file(path, whole);
  }
  const std::vector<StoredJson> rows = read_json_lines(path, "remove that line: the same command runs it again");
  const std::string command = header.begin().key();
  if (!rows.empty() && rows[0].at(command).json() != header[command]) {
    throw Error(Exit::usage, fmt::format("the folder holds a {} with other flags", command))
        .at(path.string())
        .hint("give the same flags (what is to be run may grow), or another --out");
  }
  file_.emplace(path);
  if (rows.empty()) append(header);
  for (const StoredJson& row : rows) {
    check_row(row, needed_);
    add(row.json());
  }
}

void Ledger::append(const Json& row) {
  file_->append_line(row.dump(-1, ' ', false, Json::error_handler_t::replace));
  file_->sync();
  add(row);
}

const Json* Ledger::trial(const std::string& name, std::uint64_t seed) const {
  const auto found = trials_.find({name, seed});
  return found == trials_.end() ? nullptr : &found->second;
}

Json Ledger::tested(const std::string& name) const {
  const auto found = tested_.find(name);
  return found == tested_.end() ? Json() : found->second;
}

void Ledger::add(const Json& row) {
  if (row.value("status", "") == "failed") {
    // Earlier versions recorded what came from outside too, and a lock that was held as a failure of usage.
    const auto code = static_cast<Exit>(row.value("exit_code", 0));
    if (!is_result(code) || (code == Exit::usage && !row.contains("kind"))) return;
  }
  if (row.contains("trial")) trials_[{row["trial"], row["seed"]}] = row;
  if (row.contains("tested")) tested_[row["tested"]] = row;
}

std::vector<Unfinished> run_queue(const Queue& queue, Ledger& ledger, Console& console,
                                  const std::function<void()>& finished) {
  const std::vector<Task>& tasks = queue.tasks;
  std::vector<Unfinished> unfinished;
  std::size_t done = 0;
  bool can_write = true;
  const auto take = [&](const Task& task, const std::optional<Error>& failure) {
    ++done;
    std::string outcome = "done";
    const End end = end_of(task, failure, queue.fields, ledger.needed());
    if (const auto* none = std::get_if<Unfinished>(&end)) {
      outcome = fmt::format("not finished: {}", none->error.what());
      can_write = can_write && none->error.code != Exit::io;
      unfinished.push_back(*none);
    } else {
      const Json& row = std::get<Json>(end);
      ledger.append(row);
      if (row["status"] != "ok") outcome = "failed: " + row["error"].get<std::string>();
      if (const Json shown = row.value(queue.shown, Json()); shown.is_number()) {
        outcome = fmt::format("{} {:.5f}", queue.shown, shown.get<double>());
      }
      finished();
    }
    console.info(fmt::format("{}/{}  {}  seed {}  {}", done, tasks.size(), task.name, task.seed, outcome));
  };
  if (run_task_here) {
    for (const Task& task : tasks) {
      if (can_write) take(task, run_here(task, queue.threads));
    }
    return unfinished;
  }
  Running running;
  std::size_t next = 0, waiting = tasks.size();
  while ((can_write && next < tasks.size()) || !running.empty()) {
    if (interrupted()) {
      throw Error(Exit::interrupted, fmt::format("interrupted after {} of {} runs", done, tasks.size()))
          .hint("the same command goes on from here");
    }
    if (can_write && next < tasks.size() && static_cast<std::int64_t>(running.size()) < queue.jobs) {
      const Task& task = tasks[next];
      make_folders(task.root, task.folder.lexically_relative(task.root));
      try {
        running[start_task(task, queue.threads, FolderLock(task.folder))] = &task;
        ++next;
        continue;
      } catch (const Error& e) {
        if (e.code != Exit::usage) throw;
        if (waiting != next) console.info(fmt::format("waiting: {}", e.what()));
        waiting = next;
      }
    }
    int status = 0;
    const pid_t child = waitpid(-1, &status, WNOHANG);
    const auto found = running.find(child);
    if (child <= 0 || found == running.end()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    const Task& task = *found->second;
    running.erase(found);
    clear_lock(task.folder);
    if (interrupted()) continue;  // perhaps ended by the signal that also reached us: no result
    const std::optional<Error> failure =
        status == 0 ? std::nullopt : std::optional(error_of(status, beside(task, ".json")));
    take(task, failure);
  }
  return unfinished;
}

void require_finished(const std::vector<Unfinished>& unfinished) {
  if (unfinished.empty()) return;
  const auto& [name, seed, error] = unfinished.front();
  const std::size_t more = unfinished.size() - 1;
  throw Error(error.code, fmt::format("not finished: {}, seed {}: {}{}", name, seed, error.what(),
                                      more > 0 ? fmt::format(" (and {} more)", more) : ""))
      .at(error.file, error.line, error.column)
      .hint(fmt::format("{}{}that is no result: the same command tries again, from the state that was saved",
                        error.advice, error.advice.empty() ? "" : "; "));
}

std::size_t warn_of_failures(const std::vector<Task>& tasks, const Ledger& ledger, Console& console) {
  const auto failed = static_cast<std::size_t>(std::ranges::count_if(tasks, [&](const Task& task) {
    const Json* row = ledger.trial(task.name, task.seed);
    return row && (*row)["status"] != "ok";
  }));
  if (failed > 0) {
    console.warning(fmt::format("{} of {} runs failed, left out: the ledger says why", failed, tasks.size()));
  }
  return failed;
}

Share share_of_cores(const Settings& settings, std::size_t runs) {
  const std::int64_t cores = thread_count({}), threads = settings.threads,
                     at_most = std::max(std::int64_t{1}, static_cast<std::int64_t>(runs));
  std::int64_t jobs = settings.jobs;
  if (jobs == 0) {
    std::string none;
    const bool on_gpu = settings.device.starts_with("cuda") ||
                        (settings.device == "auto" &&
                         std::ranges::any_of(optim::list_gpus(none), &std::string::empty, &optim::Gpu::why_not));
    jobs = on_gpu ? 1 : std::clamp<std::int64_t>(cores / std::max<std::int64_t>(1, threads), 1, at_most);
  }
  const Share share{jobs, threads > 0 ? threads : std::max<std::int64_t>(1, cores / jobs)};
  if (share.jobs * share.threads > cores) {
    throw Error(Exit::usage, fmt::format("{} jobs of {} threads on {} cores", share.jobs, share.threads, cores))
        .hint("lower --jobs or --threads: together at most the cores");
  }
  return share;
}

StoredJson run_program(const std::vector<std::string>& words, const fs::path& out, const fs::path& log) {
  int status = 0;
  waitpid(start(words, out, log), &status, 0);
  if (status != 0) throw error_of(status, out);
  return read_json(out, "the same command tries again");
}

void follow_parent() {
  const char* const text = std::getenv(variable.data());
  if (!text) return;
  std::istringstream words(text);
  pid_t parent = 0;
  words >> parent >> handed_down;
  unsetenv(variable.data());
  // The parent may have died before: then nobody is left to send the signal.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(static_cast<int>(Exit::interrupted));
  for (const int signal : {SIGINT, SIGHUP}) std::signal(signal, SIG_IGN);
}

FolderLock lock_folder(const fs::path& folder) {
  if (handed_down < 0) return FolderLock(folder);
  return FolderLock(folder, Descriptor(std::exchange(handed_down, -1)));
}

}  // namespace samformer::tools
