#include "tools/run/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "tools/cli/signals.h"
#include "tools/run/experiment.h"
#include "tools/run/tracking.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

pid_t start(const std::vector<std::string>& words, const fs::path& out, const fs::path& log) {
  std::vector<char*> arguments{const_cast<char*>("samformer")};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), flags, 0644);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(), flags, 0644);
  pid_t child = 0;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw Error(Exit::internal, fmt::format("cannot start a run: {}", std::strerror(error)));
  return child;
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

fs::path beside(const Task& task, const char* extension) { return task.folder.string() + extension; }

pid_t start_task(const Task& task, std::int64_t threads) {
  fs::create_directories(task.folder.parent_path());
  std::vector<std::string> words = task.words;
  std::string folder_flag = "--out";
  if (fs::exists(task.folder / "config.toml")) {
    words = {"train"};
    folder_flag = "--resume";
  }
  words.insert(words.end(), {"--json", "--threads", std::to_string(threads), folder_flag, task.folder.string()});
  return start(words, beside(task, ".json"), beside(task, ".log"));
}

// Whether another process trains there: one that a killed command has left behind.
bool in_use(const fs::path& folder) {
  if (!fs::exists(folder)) return false;
  try {
    const FolderLock lock(folder);
  } catch (const Error& e) {
    return e.code == Exit::usage;
  }
  return false;
}

Json result_of(const Task& task, int code, const std::vector<const char*>& fields) {
  const Json d = Json::parse(read_file(beside(task, ".json")), nullptr, false);
  Json row = {{"trial", task.name}, {"seed", task.seed}, {"status", code == 0 ? "ok" : "failed"}};
  if (code == 0 && d.is_object()) {
    for (const char* name : fields) row[name] = d.value(name, Json());
    return row;
  }
  row["status"] = "failed";
  row["exit_code"] = code;
  row["error"] =
      d.is_object() && d.contains("error") ? d["error"].value("message", "") : fmt::format("exit code {}", code);
  return row;
}

}  // namespace

Ledger::Ledger(const fs::path& path, const Json& header) {
  if (fs::exists(path)) {
    const std::string text = read_file(path);
    const std::size_t whole = text.rfind('\n') + 1;
    if (whole < text.size()) cut_file(path, whole);
  }
  const std::vector<Json> rows = read_metrics(path);
  if (!rows.empty() && rows[0] != header) {
    throw Error(Exit::usage, fmt::format("the folder holds a {} with other flags", header.begin().key()))
        .at(path.string())
        .hint("give the same flags (what is to be run may grow), or another --out");
  }
  file_.emplace(path);
  if (rows.empty()) append(header);
  for (const Json& row : rows) add(row);
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
  if (row.contains("trial")) trials_[{row["trial"], row.value("seed", std::uint64_t{0})}] = row;
  if (row.contains("tested")) tested_[row["tested"]] = row;
}

void run_queue(const Queue& queue, Ledger& ledger, Console& console, const std::function<void()>& finished) {
  const std::vector<Task>& tasks = queue.tasks;
  std::map<pid_t, const Task*> running;
  std::size_t next = 0, done = 0;
  while (next < tasks.size() || !running.empty()) {
    if (interrupted()) {
      for (const auto& [child, task] : running) kill(child, SIGTERM);  // they save their state
      for (const auto& [child, task] : running) waitpid(child, nullptr, 0);
      throw Error(Exit::interrupted, fmt::format("interrupted after {} of {} runs", done, tasks.size()))
          .hint("the same command goes on from here");
    }
    if (next < tasks.size() && static_cast<std::int64_t>(running.size()) < queue.jobs && !in_use(tasks[next].folder)) {
      running[start_task(tasks[next], queue.threads)] = &tasks[next];
      ++next;
      continue;
    }
    int status = 0;
    const pid_t child = waitpid(-1, &status, WNOHANG);
    const auto found = running.find(child);
    if (child <= 0 || found == running.end()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    if (interrupted()) continue;  // ended by the signal that also reached us: no result
    const Task& task = *found->second;
    const Json row = result_of(task, exit_code(status), queue.fields);
    ledger.append(row);
    ++done;
    std::string outcome = row["status"] == "ok" ? "done" : "failed: " + row["error"].get<std::string>();
    if (const Json shown = row.value(queue.shown, Json()); shown.is_number()) {
      outcome = fmt::format("{} {:.5f}", queue.shown, shown.get<double>());
    }
    console.info(fmt::format("{}/{}  {}  seed {}  {}", done, tasks.size(), task.name, task.seed, outcome));
    running.erase(found);
    finished();
  }
}

std::int64_t threads_of_each(std::int64_t jobs, std::int64_t threads, std::int64_t otherwise) {
  const std::int64_t cores = thread_count({});
  if (threads == 0) threads = otherwise > 0 ? otherwise : std::max<std::int64_t>(1, cores / jobs);
  if (jobs * threads > cores) {
    throw Error(Exit::usage, fmt::format("{} jobs of {} threads on {} cores", jobs, threads, cores))
        .hint("lower --jobs or --threads: together at most the cores");
  }
  return threads;
}

int run_program(const std::vector<std::string>& words, const fs::path& out, const fs::path& log) {
  int status = 0;
  waitpid(start(words, out, log), &status, 0);
  return exit_code(status);
}

}  // namespace samformer::tools
