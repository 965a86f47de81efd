// The program as a user runs it: a child process in a folder of its own that can be signalled, limited and fed, and
// small series to run it on. Every wait ends: a child that takes longer than two minutes is killed and fails the test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "model/safetensors.h"
#include "tests/scratch_folder.h"

namespace samformer {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Outcome {
  int code;  // exit code; 1000 + signal where one ended it
  std::string out, err;

  Json json() const { return Json::parse(out, nullptr, false); }
};

struct Surroundings {
  std::map<std::string, std::string> environment = {};
  std::string input = {};                  // stdin
  std::string out = {};                    // a file that stdout goes to instead; "closed": nowhere
  std::function<void()> in_child = [] {};  // limits and the like, before the program starts
};

class ProgramTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  std::string read(const std::string& name) const { return read_file(scratch_ / name); }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(scratch_ / name, std::ios::binary) << text;
    return path(name);
  }
  bool exists(const std::string& name) const { return std::filesystem::exists(scratch_ / name); }
  std::set<std::string> files(const std::string& folder) const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(scratch_ / folder))
      names.insert(entry.path().filename());
    return names;
  }

  // Starts the program in the scratch folder.
  pid_t start(const Words& words, const Surroundings& s = {}) {
    const std::string in = s.input.empty() ? "/dev/null" : write("in", s.input), folder = scratch_.path().string();
    // Pipes rather than files: a limit on the size of files must not cut the messages.
    Pipe out, err;
    std::vector<char*> arguments{const_cast<char*>("samformer")};
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      const auto redirect = [](const std::string& file, int flags, int descriptor) {
        const int opened = open(file.c_str(), flags);
        dup2(opened, descriptor);
        close(opened);
      };
      if (chdir(folder.c_str()) != 0) _exit(126);
      redirect(in, O_RDONLY, STDIN_FILENO);
      dup2(out.write_end.get(), STDOUT_FILENO);
      dup2(err.write_end.get(), STDERR_FILENO);
      if (s.out == "closed") {
        close(STDOUT_FILENO);
      } else if (!s.out.empty()) {
        redirect(s.out, O_WRONLY, STDOUT_FILENO);
      }
      setenv("OMP_WAIT_POLICY", "passive", 1);  // the tests share their cores
      for (const auto& [name, value] : s.environment) setenv(name.c_str(), value.c_str(), 1);
      s.in_child();
      execv(SAMFORMER_BINARY, arguments.data());
      _exit(127);
    }
    out.write_end = Descriptor();
    err.write_end = Descriptor();
    running_[child] = {std::move(out.read_end), std::move(err.read_end)};
    return child;
  }

  Outcome finish(pid_t child) {
    const auto [out, err] = std::move(running_.extract(child).mapped());
    Outcome outcome{};
    int status = 0;
    for (int i = 0;; ++i) {
      const bool ended = waitpid(child, &status, WNOHANG) != 0;
      drain(out, outcome.out);
      drain(err, outcome.err);
      if (ended) break;
      if (i == 60000) {
        ADD_FAILURE() << "the program hangs";
        kill(child, SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return outcome;
  }

  Outcome run(const Words& words, const Surroundings& s = {}) { return finish(start(words, s)); }

  // The JSON document of a command that must succeed.
  Json document(const Words& words, const Surroundings& s = {}) {
    const Outcome outcome = run(words + Words{"--json"}, s);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const Json result = outcome.json();
    EXPECT_TRUE(result.is_object()) << outcome.out;
    return result;
  }

  // The flags of a hint, from `flag` to the end of its line, as a shell that they are pasted into splits them.
  Words pasted(const std::string& text, const std::string& flag) {
    const std::size_t from = text.find(flag), end = text.find('\n', from);
    if (from == std::string::npos) {
      ADD_FAILURE() << flag << " is not in " << text;
      return {};
    }
    std::string script = write("pasted", "printf '%s\\n' " + text.substr(from, end - from) + '\n');
    FILE* const shell = popen(fmt::format("bash {}", script).c_str(), "r");
    std::string out;
    char buffer[4096];
    while (fgets(buffer, sizeof buffer, shell)) out += buffer;
    EXPECT_EQ(pclose(shell), 0) << text;
    Words result;
    std::istringstream lines(out);
    for (std::string line; std::getline(lines, line);) result.push_back(line);
    return result;
  }

  // A failure: its exit code and what stderr says; stdout stays empty, with --json it is the error document. Returns
  // what stderr says.
  std::string fails(int code, const Words& words, const Words& parts, const Surroundings& s = {}) {
    const Outcome plain = run(words, s);
    SCOPED_TRACE(plain.err);
    EXPECT_EQ(plain.code, code);
    EXPECT_EQ(plain.out, "");
    for (const std::string& part : parts) EXPECT_NE(plain.err.find(part), std::string::npos) << part;
    const Outcome json = run(words + Words{"--json"}, s);
    EXPECT_EQ(json.code, code);
    const Json result = json.json();
    if (!result.is_object() || result.size() != 1 || !result.contains("error")) {
      ADD_FAILURE() << "not an error document: " << json.out;
      return plain.err;
    }
    const Json& error = result.at("error");
    EXPECT_EQ(error.at("exit_code"), code);
    EXPECT_EQ(error.at("kind") == "usage", code == 2);
    EXPECT_EQ(error.size(), 7u);
    for (const char* field : {"kind", "message", "file", "line", "column", "hint"})
      EXPECT_TRUE(error.contains(field)) << field;
    return plain.err;
  }

  // Seasonal channels c0, c1, ... with reproducible noise; hourly unless `date` says otherwise.
  std::string series(const std::string& name, int rows, int channels,
                     const std::function<std::string(int)>& date = hourly) {
    std::ostringstream text;
    text << "date";
    for (int d = 0; d < channels; ++d) text << ",c" << d;
    text << '\n';
    std::uint64_t state = 12345;
    for (int t = 0; t < rows; ++t) {
      text << date(t);
      for (int d = 0; d < channels; ++d) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const double noise = static_cast<double>(state >> 40) / static_cast<double>(1 << 24) - 0.5;
        text << ',' << 10 * (d + 1) + 5 * std::sin(2 * std::numbers::pi * (t + 3 * d) / 24) + noise;
      }
      text << '\n';
    }
    return write(name, text.str());
  }

  static std::string hourly(int t) {
    const auto day = std::chrono::sys_days{std::chrono::year{2020} / 1 / 1} + std::chrono::days{t / 24};
    const std::chrono::year_month_day date{day};
    return fmt::format("{:04}-{:02}-{:02} {:02}:00:00", int(date.year()), unsigned(date.month()), unsigned(date.day()),
                       t % 24);
  }

  // A training of a few milliseconds: 400 rows, 3 channels, 251 training windows, 8 steps an epoch.
  Words small(const std::string& out, const Words& more = {}) {
    if (!exists("small.csv")) series("small.csv", 400, 3);
    return Words{"train", "--epoch-steps=1", "--data", path("small.csv"), "--lookback", "24", "--horizon", "6"} +
           Words{"--epochs", "4", "--patience", "0", "--threads", "1", "--out", path(out)} + more;
  }

  static std::vector<Json> lines(const std::string& text) {
    std::vector<Json> result;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) result.push_back(Json::parse(line));
    return result;
  }

  // Writes a checkpoint, or a state, with other metadata and tensors.
  void rewrite(const std::string& name,
               const std::function<void(model::Metadata&, std::map<std::string, std::vector<float>>&)>& change) {
    model::Metadata metadata;
    std::map<std::string, std::vector<float>> values;
    std::vector<model::TensorSource> tensors;
    {
      const model::Safetensors file = model::Safetensors::open(scratch_ / name);
      metadata = file.metadata();
      for (const auto& [tensor, stored] : file.tensors()) {
        values[tensor] = file.read<float>(tensor);
        tensors.push_back(model::tensor_source(tensor, stored.shape, values[tensor].data()));
      }
    }
    change(metadata, values);
    model::write_safetensors(scratch_ / name, tensors, metadata);
  }

  // SHA-256 over the tensors' bytes in name order: what weights_sha256 must be.
  std::string hash_of(const std::string& checkpoint) const {
    const model::Safetensors file = model::Safetensors::open(scratch_ / checkpoint);
    Sha256 hash;
    for (const auto& [name, tensor] : file.tensors()) {
      EXPECT_EQ(tensor.dtype, model::Dtype::f32) << name;
      hash.update(tensor.bytes);
    }
    return hash.hex();
  }

  ScratchFolder scratch_;

 private:
  struct Pipe {
    Pipe() {
      int ends[2] = {-1, -1};
      if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
      read_end = Descriptor(ends[0]);
      write_end = Descriptor(ends[1]);
      fcntl(ends[0], F_SETFL, O_NONBLOCK);
    }
    Descriptor read_end, write_end;
  };
  static void drain(const Descriptor& from, std::string& text) {
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(from.get(), buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(n));
    }
  }

  std::map<pid_t, std::pair<Descriptor, Descriptor>> running_;
};

}  // namespace samformer
