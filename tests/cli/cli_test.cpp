// The program from outside: flags, help, errors, exit codes, what is on stdout. Nothing here reaches a training step.
#include "tests/cli_fixture.h"
#include "tools/commands/commands.h"

namespace samformer::tools {
namespace {

using Cli = ProgramTest;

TEST_F(Cli, HelpAndVersion) {
  const Outcome none = run({});
  EXPECT_EQ(none.code, 0);
  EXPECT_EQ(none.err, "");
  for (const std::string name : {"train", "eval RUN", "predict RUN", "data check FILE", "data synth seasonal",
                                 "data list", "data fetch NAME", "doctor", "Exit codes"}) {
    EXPECT_NE(none.out.find(name), std::string::npos) << name;
  }
  for (const Words& words : {Words{"--help"},
                             {"-h"},
                             {"data", "--help"},
                             {"data", "-h"},
                             {"help"},
                             {"help", "help"},
                             {"help", "--help"},
                             {"help", "data"}}) {
    EXPECT_EQ(run(words).out, none.out);
  }
  const std::size_t first = none.out.find("\nCommands\n  forecast FILE"),
                    start = none.out.find("samformer forecast FILE");
  EXPECT_NE(first, std::string::npos);
  EXPECT_LT(start, first) << "where a newcomer starts";
  EXPECT_EQ(run({"--version"}).out, "samformer " SAMFORMER_VERSION "\n");
  EXPECT_EQ(run({"--version", "--json"}).json().at("version"), SAMFORMER_VERSION);
}

Words words_of(const Command& command) {
  const std::size_t space = command.name.find(' ');
  Words words{std::string(command.name.substr(0, space))};
  if (space != command.name.npos) words.emplace_back(command.name.substr(space + 1));
  return words;
}

TEST_F(Cli, TheWordHelpBeforeACommand) {
  for (const Command& command : commands()) {
    const Words words = words_of(command);
    const Outcome flag = run(words + Words{"--help"}), word = run(Words{"help"} + words);
    EXPECT_EQ(word.code, 0) << word.err;
    EXPECT_EQ(word.out, flag.out) << command.name;
  }
  fails(2, {"help", "trian"}, {"unknown command 'trian'", "did you mean 'train'?"});
}

// What the table says of an option holds in every command that takes it: what differs is the command's own text.
TEST_F(Cli, HelpOfACommandSpeaksOfNoOther) {
  for (const Command& command : commands()) {
    const std::string help = run(words_of(command) + Words{"--help"}).out;
    for (const Command& other : commands()) {
      if (other.name == command.name) continue;
      const std::string name(other.name);
      for (const std::string& said : {name + ": ", "[" + name + " ", "; " + name + " "}) {
        EXPECT_EQ(help.find(said), std::string::npos) << command.name << " says '" << said << "'";
      }
    }
    for (const OptionText& text : command.texts) {
      const Option* option = find_option(text.option);
      ASSERT_NE(option, nullptr) << text.option;
      EXPECT_TRUE(takes(command.takes, *option)) << command.name << " has no --" << text.option;
    }
  }
  EXPECT_NE(run({"predict", "--help"}).out.find("the CSV file [stdout]"), std::string::npos);
  EXPECT_NE(run({"toy", "--help"}).out.find("targets of a sample [96]"), std::string::npos);
}

// Help of a command names each of its flags, and no line is too wide.
TEST_F(Cli, HelpOfACommandIsMadeFromTheTable) {
  for (const Command& command : commands()) {
    const Outcome help = run(words_of(command) + Words{"--help"});
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

struct Refusal {
  Words words, parts;  // what the message says
  Surroundings surroundings = {};
};
class CliRefuses : public ProgramTest, public testing::WithParamInterface<Refusal> {};

TEST_P(CliRefuses, SayingWhy) {
  const auto& [words, parts, surroundings] = GetParam();
  EXPECT_TRUE(fails(2, words, parts, surroundings).starts_with("error: "));
}
const std::vector<Refusal> unknown_names = {
    {{"trian"}, {"unknown command 'trian'", "train"}},
    {{"recalibrate"}, {"unknown command 'recalibrate'", "there are: forecast, train, eval", "bench, profile\n"}},
    {{"data", "chekc", "x"}, {"'data chekc'", "did you mean 'data check'?"}},
    {{"data", "download", "x"},
     {"'data download'", "there are: data check, data repair, data synth, data list, data fetch\n"}},
    {{"data"}, {"'data' alone", "data check, data repair, data synth, data list, data fetch"}},
    {{"--lr", "3"}, {"expected a command"}},
    {{"train", "--stat-mix", "0"}, {"unknown flag '--stat-mix'", "--stats-mix"}},
    {{"train", "--xy", "0"}, {"unknown flag '--xy'", "hint: samformer train --help lists its flags"}},
    {{"train", "--model", "prophet"}, {"--model: expected one of samformer", "hint: give one of them"}},
    {{"reproduce", "everything", "--out", "r"},
     {"'everything'", "there are: main, temporal, rho, mix, toy, parameters"}},
    {{"train", "--sq_len=3"}, {"unknown flag '--sq_len'", "--seq_len"}},
    {{"train", "-lr", "3"}, {"unknown flag '-lr'", "--lr"}},
    {{"train", "--origin", "x"}, {"--origin is no flag of train"}},
    {{"eval", "run", "--lr", "1"}, {"--lr is no flag of eval"}},
    {{"train"}, {"SAMFORMER_HORIZN", "SAMFORMER_HORIZON"}, {.environment = {{"SAMFORMER_HORIZN", "3"}}}},
    {{"train"}, {"SAMFORMER_WORKSPACE", "samformer train --help"}, {.environment = {{"SAMFORMER_WORKSPACE", "3"}}}},
};
const std::vector<Refusal> counts = {
    {{"eval"}, {"eval needs RUN"}},
    {{"predict"}, {"predict needs RUN"}},
    {{"data", "check"}, {"data check needs FILE"}},
    {{"train", "file.csv"}, {"unexpected argument 'file.csv'"}},
    {{"eval", "a", "b"}, {"unexpected argument 'b'"}},
};
const std::vector<Refusal> values = {
    {{"train", "--horizon", "0"}, {"--horizon: expected auto or a whole number from 1 to 2147483647, found '0'"}},
    {{"train", "--stats-mix", "-0.5"}, {"--stats-mix", "from 0 to 1", "-0.5"}},
    {{"train", "--lr=nan"}, {"--lr: expected a number above 0, found 'nan'"}},
    {{"train", "--optimizer", "adma"}, {"adam, sgd, adamw", "did you mean 'adam'"}},
    {{"train", "--seeds", "1,1"}, {"1 is there twice"}},
    {{"train", "--adaptive=perhaps"}, {"true or false"}},
    {{"train", "--lr", "--quiet"}, {"--lr needs a value, found '--quiet'"}},
    {{"train", "--seed", "1", "--seeds", "1..2"}, {"--seed and --seeds"}},
    {{"train", "--out", "run\xff"}, {"--out: expected UTF-8 text, found 'run?'", "hint: "}},
    {{"predict", "run\xff"}, {"RUN: expected UTF-8 text, found 'run?'", "hint: "}},
    {{"data", "check", "\xff.csv"}, {"FILE: expected UTF-8 text, found '?.csv'", "hint: "}},
    {{"train", "--config", "/no/such.toml"}, {"/no/such.toml", "No such file"}},
};
INSTANTIATE_TEST_SUITE_P(UnknownNamesGivingTheNearest, CliRefuses, testing::ValuesIn(unknown_names));
INSTANTIATE_TEST_SUITE_P(CountsOfArguments, CliRefuses, testing::ValuesIn(counts));
INSTANTIATE_TEST_SUITE_P(Values, CliRefuses, testing::ValuesIn(values));

TEST_F(Cli, ErrorsOfTheLastWordAndOfBytes) {
  const Outcome last = run({"train", "--lr"});
  EXPECT_EQ(last.code, 2);
  EXPECT_NE(last.err.find("--lr needs a value"), std::string::npos);
  EXPECT_NE(run({"train", "--data", "\xff\xfe", "--json"}).out.find("UTF-8"), std::string::npos);
}

TEST_F(Cli, PathsThatCannotBeUsed) {
  std::filesystem::create_symlink("loop", scratch_ / "loop");
  fails(7, {"train", "--out", std::string(256, 'o')}, {"ooo", "File name too long", "\n  hint: "});
  fails(7, {"train", "--out", "loop/run"}, {"loop/run", "Too many levels of symbolic links", "\n  hint: "});
}

TEST_F(Cli, ConfigurationErrorsNameThePlace) {
  const std::string file = write("a.toml", "lookback = 96\nlr = \"fast\"\n");
  const Outcome plain = run({"train", "--config", file});
  EXPECT_EQ(plain.code, 2);
  EXPECT_NE(plain.err.find("error: " + file + ":2:6: lr: expected a number above 0"), std::string::npos) << plain.err;
  const auto error = run({"train", "--config", file, "--json"}).json().at("error");
  EXPECT_EQ(error.at("file"), file);
  EXPECT_EQ(error.at("line"), 2);
  EXPECT_EQ(error.at("column"), 6);
  EXPECT_TRUE(error.at("hint").is_null());
}

TEST_F(Cli, PrintedConfigurationIsFedBack) {
  const Words flags = {"--preset",   "authors-tensorflow", "--data", "traffic.csv",
                       "--adaptive", "--columns",          "a,b",    "--seeds",
                       "1..3",       "--epsilon=3e-9"};
  Words words = Words{"train", "--print-config"} + flags;
  const Outcome first = run(words, {.environment = {{"SAMFORMER_RHO", "0.3"}}});
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
  const auto json = run(words).json();
  EXPECT_EQ(json.at("lr").at("value"), 1e-4);
  EXPECT_EQ(json.at("seeds").at("value"), (std::vector<int>{1, 2, 3}));
  words.push_back("--quiet");
  EXPECT_EQ(run(words).err, "");
}

TEST_F(Cli, ResumeTakesTheRunsSettings) {
  std::filesystem::create_directories(scratch_ / "run");
  Settings stored;
  stored.horizon = 24;
  write("run/config.toml", to_toml(stored));
  EXPECT_NE(run({"train", "--resume", path("run"), "--print-config"}).out.find("horizon = 24"), std::string::npos);
  fails(2, {"train", "--resume", path("run"), "--lr", "1"}, {"--lr cannot be given with --resume", "--epochs"});
  const Outcome missing = run({"train", "--resume", path("none"), "--json"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_EQ(missing.json().at("error").at("kind"), "data");
}

TEST_F(Cli, JsonMayComeFromTheEnvironment) {
  const Outcome outcome = run({"train", "--lr", "x"}, {.environment = {{"SAMFORMER_JSON", "1"}}});
  EXPECT_EQ(outcome.json().at("error").at("exit_code"), 2);
}

TEST_F(Cli, OutputThatCannotBeWrittenIsAnError) {
  const Outcome closed = run({"--help"}, {.out = "closed"});
  EXPECT_EQ(closed.code, 7);
  EXPECT_NE(closed.err.find("standard output is closed"), std::string::npos);
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this machine has no /dev/full";
  for (const Words& words : {Words{"--version"}, {"train", "--help"}, {"train", "--print-config"}}) {
    const Outcome full = run(words, {.out = "/dev/full"});
    EXPECT_EQ(full.code, 7);
    EXPECT_NE(full.err.find("cannot write to standard output"), std::string::npos);
  }
}

}  // namespace
}  // namespace samformer::tools
