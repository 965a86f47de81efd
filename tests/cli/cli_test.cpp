// The program from outside: flags, help, errors, exit codes, what is on stdout. Nothing here reaches a training step.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/commands/commands.h"

namespace samformer::tools {
namespace {

struct Outcome {
  int code;
  std::string out, err;
};

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("samformer-cli-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string read(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // `out` replaces the file that stdout goes to; "" closes stdout.
  Outcome run(const std::vector<std::string>& words, const Environment& environment = {}, const char* out = nullptr) {
    const std::string out_path = out ? out : (folder_ / "out").string(), err_path = (folder_ / "err").string();
    const pid_t child = fork();
    if (child == 0) {
      const auto redirect = [](const std::string& path, int descriptor) {
        if (path.empty()) {
          close(descriptor);
          return;
        }
        const int opened = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(opened, descriptor);
        close(opened);
      };
      redirect(out_path, STDOUT_FILENO);
      redirect(err_path, STDERR_FILENO);
      for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
      std::vector<char*> arguments{const_cast<char*>("samformer")};
      for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      execv(SAMFORMER_BINARY, arguments.data());
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), out ? "" : read("out"), read("err")};
  }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }

  // A refusal: exit code 2, nothing on stdout, `parts` on stderr, no crash; with --json the document says the same.
  void refused(std::vector<std::string> words, const std::vector<std::string>& parts,
               const Environment& environment = {}) {
    const Outcome plain = run(words, environment);
    SCOPED_TRACE(plain.err);
    EXPECT_EQ(plain.code, 2);
    EXPECT_EQ(plain.out, "");
    EXPECT_TRUE(plain.err.starts_with("error: "));
    for (const std::string& part : parts) EXPECT_NE(plain.err.find(part), std::string::npos) << part;

    words.insert(words.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(words.size(), 2)), "--json");
    const Outcome json = run(words, environment);
    EXPECT_EQ(json.code, 2);
    const auto document = nlohmann::json::parse(json.out, nullptr, false);
    ASSERT_TRUE(document.is_object()) << json.out;
    EXPECT_EQ(document.size(), 1u);
    const auto& error = document.at("error");
    EXPECT_EQ(error.size(), 7u);
    for (const char* field : {"exit_code", "kind", "message", "file", "line", "column", "hint"}) {
      EXPECT_TRUE(error.contains(field)) << field;
    }
    EXPECT_EQ(error.at("exit_code"), 2);
    EXPECT_EQ(error.at("kind"), "usage");
  }

  std::filesystem::path folder_;
};

TEST_F(Cli, HelpAndVersion) {
  const Outcome none = run({});
  EXPECT_EQ(none.code, 0);
  EXPECT_EQ(none.err, "");
  for (const std::string name : {"train", "eval RUN", "predict RUN", "data check FILE", "data synth seasonal",
                                 "data list", "data fetch NAME", "doctor", "Exit codes"}) {
    EXPECT_NE(none.out.find(name), std::string::npos) << name;
  }
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--help"}, {"-h"}, {"data", "--help"}, {"data", "-h"}}) {
    EXPECT_EQ(run(words).out, none.out);
  }
  EXPECT_EQ(run({"--version"}).out, "samformer " SAMFORMER_VERSION "\n");
  EXPECT_EQ(nlohmann::json::parse(run({"--version", "--json"}).out).at("version"), SAMFORMER_VERSION);
}

// Help of a command names each of its flags, and no line is too wide.
TEST_F(Cli, HelpOfACommandIsMadeFromTheTable) {
  for (const Command& command : commands()) {
    const std::size_t space = command.name.find(' ');
    std::vector<std::string> words{std::string(command.name.substr(0, space))};
    if (space != command.name.npos) words.emplace_back(command.name.substr(space + 1));
    words.push_back("--help");
    const Outcome help = run(words);
    EXPECT_EQ(help.code, 0);
    for (const Option& option : options()) {
      const std::string flag = "\n  --" + std::string(option.name);
      const bool shown =
          help.out.find(flag + " ") != std::string::npos || help.out.find(flag + "\n") != std::string::npos;
      EXPECT_EQ(shown, takes(command.takes, option)) << command.name << flag;
      for (const auto alias : option.aliases) {
        EXPECT_EQ(help.out.find("--" + std::string(alias)) != std::string::npos, shown);
      }
    }
    std::istringstream lines(help.out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 120u) << line;
  }
  EXPECT_EQ(run({"train", "--lr", "3", "-h"}).out, run({"train", "--help"}).out);
}

TEST_F(Cli, UnknownNamesGiveTheNearest) {
  refused({"trian"}, {"unknown command 'trian'", "train"});
  refused({"data", "chekc", "x"}, {"'data chekc'", "data check"});
  refused({"data"}, {"'data' alone", "data check, data synth, data list, data fetch"});
  refused({"--lr", "3"}, {"expected a command"});
  refused({"train", "--stat-mix", "0"}, {"unknown flag '--stat-mix'", "--stats-mix"});
  refused({"train", "--sq_len=3"}, {"unknown flag '--sq_len'", "--seq_len"});
  refused({"train", "-lr", "3"}, {"unknown flag '-lr'", "--lr"});
  refused({"train", "--origin", "x"}, {"--origin is no flag of train"});
  refused({"eval", "run", "--lr", "1"}, {"--lr is no flag of eval"});
  refused({"train"}, {"SAMFORMER_HORIZN", "SAMFORMER_HORIZON"}, {{"SAMFORMER_HORIZN", "3"}});
}

TEST_F(Cli, ArgumentsAreCounted) {
  refused({"eval"}, {"eval needs RUN"});
  refused({"predict"}, {"predict needs RUN"});
  refused({"data", "check"}, {"data check needs FILE"});
  refused({"train", "file.csv"}, {"unexpected argument 'file.csv'"});
  refused({"eval", "a", "b"}, {"unexpected argument 'b'"});
}

TEST_F(Cli, ValuesAreChecked) {
  refused({"train", "--horizon", "0"}, {"--horizon: expected a whole number from 1 to 2147483647, found '0'"});
  refused({"train", "--stats-mix", "-0.5"}, {"--stats-mix", "from 0 to 1", "-0.5"});
  refused({"train", "--lr=nan"}, {"--lr: expected a number above 0, found 'nan'"});
  refused({"train", "--optimizer", "adma"}, {"adam, sgd, adamw", "did you mean 'adam'"});
  refused({"train", "--seeds", "1,1"}, {"1 is there twice"});
  refused({"train", "--adaptive=perhaps"}, {"true or false"});
  refused({"train", "--lr", "--quiet"}, {"--lr needs a value, found '--quiet'"});
  refused({"train", "--seed", "1", "--seeds", "1..2"}, {"--seed and --seeds"});
  refused({"train", "--config", "/no/such.toml"}, {"/no/such.toml", "no such file"});
  const Outcome last = run({"train", "--lr"});
  EXPECT_EQ(last.code, 2);
  EXPECT_NE(last.err.find("--lr needs a value"), std::string::npos);
  EXPECT_NE(run({"train", "--data", "\xff\xfe", "--json"}).out.find("UTF-8"), std::string::npos);
}

TEST_F(Cli, ConfigurationErrorsNameThePlace) {
  const std::string path = write("a.toml", "lookback = 96\nlr = \"fast\"\n");
  const Outcome plain = run({"train", "--config", path});
  EXPECT_EQ(plain.code, 2);
  EXPECT_NE(plain.err.find("error: " + path + ":2:6: lr: expected a number above 0"), std::string::npos) << plain.err;
  const auto error = nlohmann::json::parse(run({"train", "--config", path, "--json"}).out).at("error");
  EXPECT_EQ(error.at("file"), path);
  EXPECT_EQ(error.at("line"), 2);
  EXPECT_EQ(error.at("column"), 6);
  EXPECT_TRUE(error.at("hint").is_null());
}

TEST_F(Cli, PrintedConfigurationIsFedBack) {
  const std::vector<std::string> flags = {"--preset",   "authors-tensorflow", "--data", "traffic.csv",
                                          "--adaptive", "--columns",          "a,b",    "--seeds",
                                          "1..3",       "--epsilon=3e-9"};
  std::vector<std::string> words = {"train", "--print-config"};
  words.insert(words.end(), flags.begin(), flags.end());
  const Outcome first = run(words, {{"SAMFORMER_RHO", "0.3"}});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.out.find("rho = 0.3 "), std::string::npos);
  EXPECT_NE(first.out.find("# environment SAMFORMER_RHO"), std::string::npos);
  EXPECT_NE(first.out.find("# preset authors-tensorflow, for a file named traffic"), std::string::npos);
  EXPECT_NE(first.err.find("learning rate 1e-4"), std::string::npos) << "the program says so";
  const Outcome second = run({"train", "--print-config", "--config", write("b.toml", first.out)});
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(settings_from_toml(first.out, "1"), settings_from_toml(second.out, "2"));
  EXPECT_EQ(settings_from_toml(first.out, "1").epsilon, 3e-9);

  words.push_back("--json");
  const auto json = nlohmann::json::parse(run(words).out);
  EXPECT_EQ(json.at("lr").at("value"), 1e-4);
  EXPECT_EQ(json.at("seeds").at("value"), (std::vector<int>{1, 2, 3}));
  words.push_back("--quiet");
  EXPECT_EQ(run(words).err, "");
}

TEST_F(Cli, ResumeTakesTheRunsSettings) {
  std::filesystem::create_directories(folder_ / "run");
  Settings stored;
  stored.horizon = 24;
  write("run/config.toml", to_toml(stored));
  const std::string run_folder = (folder_ / "run").string();
  EXPECT_NE(run({"train", "--resume", run_folder, "--print-config"}).out.find("horizon = 24"), std::string::npos);
  refused({"train", "--resume", run_folder, "--lr", "1"}, {"--lr cannot be given with --resume", "--epochs"});
  const Outcome missing = run({"train", "--resume", (folder_ / "none").string(), "--json"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_EQ(nlohmann::json::parse(missing.out).at("error").at("kind"), "data");
}

TEST_F(Cli, JsonMayComeFromTheEnvironment) {
  const Outcome outcome = run({"train", "--lr", "x"}, {{"SAMFORMER_JSON", "1"}});
  EXPECT_EQ(nlohmann::json::parse(outcome.out).at("error").at("exit_code"), 2);
}

TEST_F(Cli, OutputThatCannotBeWrittenIsAnError) {
  const Outcome closed = run({"--help"}, {}, "");
  EXPECT_EQ(closed.code, 7);
  EXPECT_NE(closed.err.find("standard output is closed"), std::string::npos);
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this machine has no /dev/full";
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--version"}, {"train", "--help"}, {"train", "--print-config"}}) {
    const Outcome full = run(words, {}, "/dev/full");
    EXPECT_EQ(full.code, 7);
    EXPECT_NE(full.err.find("cannot write to standard output"), std::string::npos);
  }
}

}  // namespace
}  // namespace samformer::tools
