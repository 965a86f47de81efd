// `samformer sweep`: grids, the ledger and what it survives, the ranking, the one test.
#include <gtest/gtest.h>
#include <algorithm>

#include <set>
#include <thread>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

class SweepTest : public ProgramTest {
 protected:
  // The flags of `small`, as a sweep.
  Words sweep(const std::string& out, const Words& more) {
    Words words = small(out);
    words[0] = "sweep";
    std::erase(words, "--threads");
    std::erase(words, "1");
    return words + Words{"--threads", "1"} + more;
  }
  std::vector<Json> ledger(const std::string& out) { return lines(read(out + "/sweep.jsonl")); }
  // Ledger lines that have `key`.
  std::size_t with(const std::string& out, const std::string& key) {
    std::size_t n = 0;
    for (const Json& row : ledger(out)) n += row.contains(key);
    return n;
  }
};

// A file has keys of the sweep and of its trainings; the grid goes before it.
TEST_F(SweepTest, SettingsOfAFile) {
  write("sweep.toml", "grid = \"rho=0,0.5\"\njobs = 2\nlr = 0.002\nrho = 0.3\n");
  Words words = sweep("s", {"--config", path("sweep.toml")});
  const Json d = document(words);
  EXPECT_EQ(d["jobs"], 2);
  ASSERT_EQ(d["trials"].size(), 2u);
  const std::string config = read("s/trials/rho=0/seed-1/config.toml");
  EXPECT_NE(config.find("lr = 0.002"), std::string::npos) << config;
  EXPECT_NE(config.find("\nrho = 0\n"), std::string::npos) << config;
}

// Each trial is a choice of its own; the winner is the mean of its members.
TEST_F(SweepTest, OfAutomaticChoices) {
  const Words members = {"--auto", "--members", "naive,seasonal-naive,ridge", "--within", "1e6"};
  const Words grid = {"--grid", "season=6,24"};
  const Json d = document(sweep("s", members + grid));
  ASSERT_EQ(d["trials"].size(), 2u);
  EXPECT_EQ(d["winner"]["test_mse"], document({"eval", d["winner"]["run_dir"]})["test_mse"]);
  EXPECT_EQ(document({"predict", d["winner"]["run_dir"]})["models"], 3);
  fails(2, sweep("t", members + grid + Words{"--seeds", "1,2"}), {"--auto: several --seeds"});
  EXPECT_FALSE(exists("t"));
}

TEST_F(SweepTest, RanksByValidationAndTestsTheWinnerOnce) {
  const Json d = document(sweep("s", {"--grid", "rho=0,0.5", "--grid", "lr=log:1e-4..1e-2:3", "--seeds", "1,2"}));
  ASSERT_EQ(d["trials"].size(), 6u);
  EXPECT_EQ(d["jobs"], std::clamp(std::thread::hardware_concurrency(), 1u, 12u));  // of one thread: a core each
  EXPECT_EQ(d["threads"], 1);
  std::set<std::string> names;
  double before = 0;
  for (const Json& t : d["trials"]) {
    names.insert(t["trial"]);
    EXPECT_GE(t["mean"].get<double>(), before);
    before = t["mean"];
    double total = 0;
    for (const char* seed : {"1", "2"}) {
      const std::string run = "s/trials/" + t["trial"].get<std::string>() + "/seed-" + seed;
      const Json result = Json::parse(read(run + "/result.json"));
      total += result["val_mse"].get<double>() / 2;
      // Trials never see the test split.
      EXPECT_FALSE(result.contains("test_mse"));
      EXPECT_FALSE(exists(run + "/report.html"));
    }
    EXPECT_NEAR(t["mean"].get<double>(), total, 1e-15);
  }
  EXPECT_EQ(names, (std::set<std::string>{"rho=0,lr=0.0001", "rho=0,lr=0.001", "rho=0,lr=0.01", "rho=0.5,lr=0.0001",
                                          "rho=0.5,lr=0.001", "rho=0.5,lr=0.01"}));
  EXPECT_EQ(d["winner"]["trial"], d["trials"][0]["trial"]);
  const Json eval = document({"eval", d["winner"]["run_dir"]});
  EXPECT_EQ(d["winner"]["test_mse"], eval["mean"]["test_mse"]);
  EXPECT_EQ(d["winner"]["test_mae_std"], eval["std"]["test_mae"]);
  EXPECT_EQ(with("s", "trial"), 12u);
  EXPECT_EQ(with("s", "tested"), 1u);
  EXPECT_TRUE(read("s/report.html").find("<svg ") != std::string::npos);
  // The same weights as a training of its own.
  EXPECT_EQ(run(small("alone", {"--rho", "0.5", "--lr", "0.01", "--seed", "2"})).code, 0);
  EXPECT_EQ(hash_of("alone/best.safetensors"), hash_of("s/trials/rho=0.5,lr=0.01/seed-2/best.safetensors"));

  // Again: nothing left to do, nothing tested twice.
  const std::string text = read("s/sweep.jsonl");
  EXPECT_EQ(document(sweep("s", {"--grid", "rho=0,0.5", "--grid", "lr=log:1e-4..1e-2:3", "--seeds", "1,2"})), d);
  EXPECT_EQ(read("s/sweep.jsonl"), text);
}

TEST_F(SweepTest, FailuresAreRecordedAndPassedOver) {
  const Json d = document(sweep("s", {"--grid", "lr=1e30,1e-3", "--schedule", "constant", "--ema", "0"}));
  EXPECT_EQ(d["trials"][0]["trial"], "lr=1e-3");
  EXPECT_TRUE(d["trials"][1]["mean"].is_null());
  EXPECT_NE(d["trials"][1]["failures"][0]["error"].get<std::string>().find("diverged"), std::string::npos);
  std::size_t failures = 0;
  for (const Json& row : ledger("s")) {
    if (row.value("status", "") != "failed") continue;
    ++failures;
    EXPECT_EQ(row["exit_code"], 5);
  }
  EXPECT_EQ(failures, 1u);
  // Not repeated.
  document(sweep("s", {"--grid", "lr=1e30,1e-3", "--schedule", "constant", "--ema", "0"}));
  EXPECT_EQ(with("s", "trial"), 2u);
  const Outcome none = run(sweep("none", {"--grid", "lr=1e30", "--schedule", "constant", "--ema", "0"}));
  EXPECT_EQ(none.code, 6);
  EXPECT_NE(none.out.find("every trial failed"), std::string::npos);
}

TEST_F(SweepTest, AFailureIsSaid) {
  const Outcome o = run(sweep("s", {"--grid", "lr=1e30,1e-3", "--schedule", "constant", "--ema", "0", "--quiet"}));
  EXPECT_EQ(o.code, 0);
  EXPECT_NE(o.err.find("1 of 2 runs failed, left out"), std::string::npos) << o.err;
}

// What happens to a trial from outside is not its result: the same command tries it again, and ends as undisturbed.
TEST_F(SweepTest, ATrialThatIsEndedFromOutsideIsTriedAgain) {
  const auto words = [&](const std::string& out) {
    return sweep(out, {"--grid", "rho=0,0.5", "--jobs", "1", "--epochs", "60", "--json"});
  };
  const Json whole = document(words("whole"));
  for (const auto& [out, signal, code, says] :
       {std::tuple("killed", SIGKILL, 4, "killed by signal 9"), std::tuple("ended", SIGTERM, 130, "interrupted in")}) {
    const pid_t parent = start(words(out));
    const fs::path folder = scratch_ / out / "trials/rho=0/seed-1";
    while (!fs::exists(folder / "state.safetensors")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(std::stoi(read_file(folder / ".lock")), signal);
    const Outcome o = finish(parent);
    EXPECT_EQ(o.code, code) << o.err;
    EXPECT_EQ(o.json()["error"]["exit_code"], code);
    EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
    EXPECT_NE(o.err.find("the same command tries again"), std::string::npos) << o.err;
    EXPECT_EQ(with(out, "trial"), 1u);
    EXPECT_EQ(with(out, "tested"), 0u);
    const Json d = document(words(out));
    EXPECT_EQ(with(out, "trial"), 2u);
    EXPECT_EQ(d["failed"], 0);
    EXPECT_EQ(d["trials"], whole["trials"]);
  }
}

TEST_F(SweepTest, AFullDiskIsNoResult) {
  const Words words = sweep("s", {"--grid", "rho=0,0.5", "--jobs", "1"});
  Surroundings full;
  full.in_child = [] {
    const rlimit limit{20000, 20000};  // room for the ledger, not for a state
    setrlimit(RLIMIT_FSIZE, &limit);
  };
  const Outcome o = run(words, full);
  EXPECT_EQ(o.code, 7) << o.err;
  EXPECT_EQ(with("s", "trial"), 0u);
  EXPECT_EQ(document(words)["failed"], 0);
}

TEST_F(SweepTest, LedgersOfEarlierVersions) {
  const Words words = sweep("s", {"--grid", "rho=0,0.1,0.2,0.3", "--epochs", "1"});
  const Json d = document(words);
  std::istringstream text(read("s/sweep.jsonl"));
  std::string header;
  std::getline(text, header);
  // What they recorded of a trial that was killed, of one that met a lock, of one whose settings were at fault.
  write("s/sweep.jsonl", header + R"(
{"trial":"rho=0","seed":1,"status":"failed","exit_code":137,"error":"exit code 137"}
{"trial":"rho=0.1","seed":1,"status":"failed","exit_code":2,"error":"the folder 'x' is in use by process 1"}
{"trial":"rho=0.2","seed":1,"status":"failed","exit_code":5,"error":"training diverged"}
{"trial":"rho=0.3","seed":1,"status":"ok","val_mse":0.5,"train_loss":0.5,"best_epoch":1}
)");
  const Json again = document(words);
  EXPECT_EQ(again["failed"], 1);
  EXPECT_EQ(again["trials"][3]["trial"], "rho=0.2");
  for (const char* name : {"rho=0", "rho=0.1"}) {
    const auto mean = [&](const Json& document) {
      for (const Json& t : document["trials"]) {
        if (t["trial"] == name) return t["mean"];
      }
      return Json();
    };
    EXPECT_TRUE(mean(d).is_number());
    EXPECT_EQ(mean(again), mean(d)) << name;
  }
}

// The command dies, and its trial with it, before the trial has a state or a lock of its own.
TEST_F(SweepTest, KilledAndStartedAgainAtOnce) {
  const Words words = sweep("s", {"--grid", "rho=0,0.5", "--jobs", "1", "--epochs", "30"});
  for (int i = 0; i < 2; ++i) {
    const pid_t parent = start(words);
    while (!exists("s/trials/rho=0/seed-1.log")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(5 * i));
    kill(parent, SIGKILL);
    EXPECT_EQ(finish(parent).code, 1000 + SIGKILL);
  }
  const Json d = document(words);
  EXPECT_EQ(d["failed"], 0);
  EXPECT_EQ(d["trials"], document(sweep("whole", {"--grid", "rho=0,0.5", "--jobs", "1", "--epochs", "30"}))["trials"]);
}

TEST_F(SweepTest, NoLinkOfItsFolderIsFollowed) {
  const Words words = sweep("s", {"--grid", "rho=0", "--epochs", "1"});
  write("letter", "a letter");
  fs::create_directories(scratch_ / "s/trials/rho=0");
  fs::create_symlink(path("letter"), path("s/trials/rho=0/seed-1.log"));
  fails(7, words, {"seed-1.log", "symbolic link"});
  EXPECT_EQ(read("letter"), "a letter");
  fs::remove_all(scratch_ / "s/trials");
  fs::create_directories(scratch_ / "other/rho=0");
  fs::create_directory_symlink(path("other"), path("s/trials"));
  fails(7, words, {"s/trials", "symbolic link"});
  EXPECT_TRUE(fs::is_empty(scratch_ / "other/rho=0"));
}

TEST_F(SweepTest, ATornLastLineIsRunAgainAndAGridMayGrow) {
  const Json d = document(sweep("s", {"--grid", "rho=0,0.5"}));
  const std::string text = read("s/sweep.jsonl");
  // Killed in the middle of its last line, before the test.
  const std::size_t second = text.find("\"rho=0.5\""), torn = second + 20;
  write("s/sweep.jsonl", text.substr(0, torn));
  EXPECT_EQ(document(sweep("s", {"--grid", "rho=0,0.5"}))["winner"], d["winner"]);
  EXPECT_EQ(with("s", "trial"), 2u);
  EXPECT_EQ(with("s", "tested"), 1u);
  const Json grown = document(sweep("s", {"--grid", "rho=0..1..0.25"}));
  EXPECT_EQ(grown["trials"].size(), 5u);
  EXPECT_EQ(with("s", "trial"), 5u);
  fails(2, sweep("s", {"--grid", "rho=0,0.5", "--weight-decay", "1e-3"}), {"other flags"});
}

TEST_F(SweepTest, ADamagedLedgerIsRefused) {
  const Words words = sweep("s", {"--grid", "rho=0", "--epochs", "1"});
  const Json d = document(words);
  const std::string good = read("s/sweep.jsonl"), header = good.substr(0, good.find('\n') + 1);
  for (const char* line : {R"({"trial":"rho=0","seed":1,"status":"ok"})", R"({"trial":5})", R"({"tested":7})",
                           R"({"trial":"rho=0","seed":1,"status":"failed","exit_code":5,"error":7})",
                           R"({"trial":"rho=0","seed":1,"status":"ok","val_mse":1,"train_loss":"x"})", "[]", "{"}) {
    SCOPED_TRACE(line);
    write("s/sweep.jsonl", header + line + '\n');
    fails(3, words, {"sweep.jsonl:2", "damaged", "remove that line"});
  }
  write("s/sweep.jsonl", "[]\n");
  fails(3, words, {"sweep.jsonl:1", "damaged"});
  write("s/sweep.jsonl", header);
  EXPECT_EQ(document(words)["trials"], d["trials"]);
}

// The options that the swept model has of its own, and no others.
TEST_F(SweepTest, AGridOverAModelsOwnOption) {
  const Words grid = {"--model", "tsmixer", "--ff", "8", "--epochs", "1", "--grid", "blocks=1,2"};
  EXPECT_EQ(document(sweep("s", grid))["trials"].size(), 2u);
  fails(2, sweep("t", {"--grid", "blocks=1,2"}), {"--model samformer has no --blocks"});
}

TEST_F(SweepTest, ARandomSampleOfTheGrid) {
  const Words grid = {"--grid", "rho=0..0.9..0.1", "--grid", "d-model=4,8", "--random", "3"};
  const Json d = document(sweep("s", grid));
  EXPECT_EQ(d["trials"].size(), 3u);
  const auto names = [](const Json& document) {
    std::set<std::string> all;
    for (const Json& t : document["trials"]) all.insert(t["trial"]);
    return all;
  };
  const std::set<std::string> first = names(d), again = names(document(sweep("t", grid)));
  const std::set<std::string> other = names(document(sweep("u", grid + Words{"--seed", "2"})));
  EXPECT_EQ(first.size(), 3u);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
}

TEST_F(SweepTest, AnInterruptionSavesAndTheSameCommandGoesOn) {
  const Words more = {"--grid", "rho=0.5", "--epochs", "80"};
  const pid_t child = start(sweep("s", more));
  while (!exists("s/trials/rho=0.5/seed-1/state.safetensors"))
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(child, SIGTERM);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  EXPECT_EQ(with("s", "trial"), 0u);
  EXPECT_FALSE(exists("s/trials/rho=0.5/seed-1/result.json"));
  const Json resumed = document(sweep("s", more)), whole = document(sweep("t", more));
  EXPECT_EQ(resumed["winner"]["mean"], whole["winner"]["mean"]);
  EXPECT_EQ(resumed["winner"]["test_mse"], whole["winner"]["test_mse"]);
  EXPECT_NE(read("s/trials/rho=0.5/seed-1/log.txt").find("resumed after epoch"), std::string::npos);
}

TEST_F(SweepTest, Refusals) {
  fails(2, sweep("s", {}), {"--grid"});
  fails(2, {"sweep", "--grid", "rho=0,1"}, {"--out"});
  for (const auto& [grid, words] :
       std::map<std::string, Words>{{"nothing=1", {"no setting of train"}},
                                    {"rho", {"no setting"}},
                                    {"rho=1..0..0.1", {"backwards"}},
                                    {"rho=0..1", {"A..B..STEP"}},
                                    {"rho=log:0..1:3", {"0 < A"}},
                                    {"rho=-1", {"--rho"}},
                                    {"seed=1,2", {"--seeds"}},
                                    {"optimizer=adam,adem", {"adam"}},
                                    {"drop=" + std::string(300, 'x'), {"305 bytes", "255"}}}) {
    SCOPED_TRACE(grid);
    fails(2, sweep("s", {"--grid", grid}), words);
  }
  fails(2, sweep("s", {"--grid", "rho=0,1", "--rho", "0.3"}), {"in the grid and a flag"});
  fails(2, sweep("s", {"--grid", "rho=0,1", "--jobs", "4000"}), {"cores"});
  EXPECT_FALSE(exists("s"));
}

}  // namespace
}  // namespace samformer
