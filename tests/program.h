// Runs the program in a child process, in a folder of its own, as a user would.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/scratch_folder.h"

namespace samformer {

struct Outcome {
  int code;  // exit code; 1000 + signal where one ended it
  std::string out, err;

  nlohmann::ordered_json json() const { return nlohmann::ordered_json::parse(out, nullptr, false); }
};

class Program {
 public:
  using Environment = std::map<std::string, std::string>;

  // The program's working folder.
  const ScratchFolder& folder() const { return folder_; }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return name;
  }
  std::string read(const std::string& name) const { return text_of(folder_ / name); }

  // `out`: where stdout goes instead of Outcome::out. Standard input is /dev/null or the file `in` of the folder.
  Outcome run(const std::vector<std::string>& words, const Environment& environment = {}, const std::string& out = "",
              const std::string& in = "/dev/null") const {
    const std::filesystem::path out_path = out.empty() ? streams_ / "out" : std::filesystem::path(out);
    const pid_t child = ::fork();
    if (child == 0) {
      const auto redirect = [](const std::filesystem::path& path, int flags, int descriptor) {
        if (::dup2(::open(path.c_str(), flags, 0600), descriptor) < 0) ::_exit(126);
      };
      if (::chdir(folder_.path().c_str()) != 0) ::_exit(126);
      redirect(in, O_RDONLY, STDIN_FILENO);
      redirect(out_path, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
      redirect(streams_ / "err", O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
      ::setenv("OMP_WAIT_POLICY", "passive", 1);  // tests share their cores
      for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
      std::vector<char*> arguments{const_cast<char*>("samformer")};
      for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      ::execv(SAMFORMER_BINARY, arguments.data());
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), out.empty() ? text_of(out_path) : "",
            text_of(streams_ / "err")};
  }

 private:
  static std::string text_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  ScratchFolder folder_, streams_;
};

}  // namespace samformer
