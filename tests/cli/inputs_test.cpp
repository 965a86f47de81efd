// What a command reads it never replaces: exit 2, nothing written.
#include "tests/cli_fixture.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

class Inputs : public ProgramTest {
 protected:
  // Every file below the scratch folder, with its content.
  std::map<std::string, std::string> everything() const {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      if (entry.is_regular_file()) result[entry.path()] = read_file(entry.path());
    }
    return result;
  }
  void refuses(const Words& words, const std::string& place, const Surroundings& s = {}) {
    if (!s.input.empty()) write("in", s.input);
    const auto before = everything();
    fails(2, words, {place, "this is an input of this command", "--out"}, s);
    EXPECT_EQ(everything(), before);
  }
};

TEST_F(Inputs, PredictNeverReplacesDataOrRun) {
  ASSERT_EQ(run(small("run")).code, 0);
  fs::copy_file(path("small.csv"), path("grown.csv"));
  fs::create_hard_link(path("grown.csv"), path("hard.csv"));
  fs::create_symlink("grown.csv", path("soft.csv"));
  for (const char* out : {"grown.csv", "./grown.csv", "hard.csv", "soft.csv", "small.csv", "run/best.safetensors",
                          "run/config.toml", "run/metrics.jsonl"}) {
    refuses({"predict", "run", "--data", "grown.csv", "--out", out}, out);
  }
  refuses({"predict", "run", "--data", "-", "--out", "in"}, "in", {.input = read("grown.csv")});
  refuses({"export", "run", "--out", "run/best.safetensors"}, "run/best.safetensors");
  refuses({"export", "run", "--out", "small.csv"}, "small.csv");
  EXPECT_EQ(run({"predict", "run", "--data", "grown.csv", "--out", "other.csv"}).code, 0);
  EXPECT_EQ(run({"predict", "run", "--data", "grown.csv", "--out", "other.csv"}).code, 0);
}

TEST_F(Inputs, NoFolderOfResultsReplacesThem) {
  ASSERT_EQ(run(small("run")).code, 0);
  for (const char* file : {"a/attention.csv", "a/report.html", "s/sweep.jsonl", "r/log.txt"}) {
    fs::create_directory(fs::path(path(file)).parent_path());
    fs::copy_file(path("small.csv"), path(file));
  }
  refuses({"attention", "run", "--data", "a/attention.csv", "--out", "a"}, "a/attention.csv");
  refuses({"attention", "run", "--data", "a/report.html", "--out", "a"}, "a/report.html");
  refuses({"attention", "run", "--out", "run"}, "run/report.html");
  refuses({"sweep", "--data", "s/sweep.jsonl", "--lookback", "24", "--horizon", "6", "--grid", "rho=0", "--out", "s"},
          "s/sweep.jsonl");
  refuses({"train", "--data", "r/log.txt", "--lookback", "24", "--horizon", "6", "--out", "r", "--overwrite"},
          "r/log.txt");
}

}  // namespace
}  // namespace samformer
