// `samformer reproduce`: the cells against the runs that they come from and the printed numbers, the queue's order, the
// ledger and what it survives.
#include <gtest/gtest.h>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class ReproduceTest : public ProgramTest {
 protected:
  // Trainings of a few milliseconds; the name makes a series the paper's.
  Words reproduce(const std::string& table, const std::string& out, const Words& more = {}) {
    if (!exists("exchange_rate.csv")) series("exchange_rate.csv", 1100, 3);
    return Words{"reproduce",  table, "--data",     path("exchange_rate.csv"),
                 "--horizons", "96",  "--lookback", "24",
                 "--epochs",   "1",   "--out",      path(out)} +
           more;
  }
  static double number(const Json& v) { return v.is_number() ? v.get<double>() : std::nan(""); }
};

TEST_F(ReproduceTest, MainTableBesideThePrintedNumbers) {
  const Json d = document(reproduce("main", "r", {"--models", "samformer/paper,transformer/paper", "--seeds", "1,2"}));
  EXPECT_EQ(d["runs"], 4);
  EXPECT_EQ(d["runs_done"], 4);
  ASSERT_EQ(d["cells"].size(), 2u);
  const Json& cell = d["cells"][0];
  EXPECT_EQ(cell["column"], "samformer/paper");
  std::vector<double> mse;
  Json result;
  for (const char* seed : {"1", "2"}) {
    result = Json::parse(read(fmt::format("r/runs/exchange_rate/96/samformer/paper/seed-{}/result.json", seed)));
    EXPECT_EQ(result["preset"], "paper");
    EXPECT_EQ(std::to_string(result["seed"].get<int>()), seed);
    mse.push_back(result["test_mse"]);
  }
  EXPECT_NEAR(number(cell["test_mse"]), (mse[0] + mse[1]) / 2, 1e-14);
  EXPECT_NEAR(number(cell["test_mse_std"]), std::fabs(mse[0] - mse[1]) / std::numbers::sqrt2, 1e-14);
  EXPECT_EQ(cell["naive_mse"], result["baselines"]["naive"]["test_mse"]);
  EXPECT_EQ(cell["seasonal_naive_mse"], result["baselines"]["seasonal_naive"]["test_mse"]);
  EXPECT_EQ(cell["least_squares_mse"], result["baselines"]["least_squares"]["test_mse"]);
  // Exchange, H 96, as the paper prints it.
  EXPECT_EQ(number(cell["published_mse"]), 0.161);
  EXPECT_EQ(number(cell["published_std"]), 0.007);
  EXPECT_EQ(number(cell["best_published_mse"]), 0.139);
  EXPECT_NEAR(number(cell["difference"]), number(cell["test_mse"]) - 0.161, 1e-14);
  EXPECT_TRUE(cell["welch_p"].is_number());
  EXPECT_EQ(cell["naive_beats_published"], number(cell["naive_mse"]) < 0.139);
  const Json& other = d["cells"][1];
  EXPECT_EQ(number(other["published_mse"]), 0.292);
  for (const Json& row : d["improvement"]) {
    const Json& against = row["against"]["samformer/paper"];
    if (row["other"] == "transformer/paper (ours)") {
      EXPECT_NEAR(number(against["value"]), 1 - number(cell["test_mse"]) / number(other["test_mse"]), 1e-14);
    }
    // The paper says 14.33 %.
    if (row["other"] == "TSMixer (printed)") {
      EXPECT_NEAR(number(row["printed_all_cells"]["value"]), 0.1433, 5e-5);
      EXPECT_EQ(row["printed_all_cells"]["cells"], 32);
      EXPECT_EQ(against["cells"], 1);
    }
  }
  EXPECT_NE(read("r/report.html").find("test errors of ETTh1 and Exchange"), std::string::npos);
  EXPECT_NE(read("r/reproduce.md").find("| exchange_rate 96 |"), std::string::npos);
  EXPECT_NE(read("r/reproduce.csv").find("exchange_rate,96,samformer/paper"), std::string::npos);
}

// Systems that the paper does not print, and the look-back of every column.
TEST_F(ReproduceTest, OtherSystemsWithTheirLookbacks) {
  series("exchange_rate.csv", 2600, 3);
  const Json d = document({"reproduce", "main", "--data", path("exchange_rate.csv"), "--horizons", "96", "--epochs",
                           "1", "--seeds", "1", "--models", "dlinear/published,samformer/paper", "--out", path("r")});
  ASSERT_EQ(d["cells"].size(), 2u);
  EXPECT_EQ(d["cells"][0]["lookback"], 512);
  EXPECT_EQ(d["cells"][1]["column"], "dlinear/published");
  EXPECT_EQ(d["cells"][1]["lookback"], 336);
  EXPECT_TRUE(d["cells"][1]["published_mse"].is_null());
  EXPECT_TRUE(d["cells"][1]["difference"].is_null());
  const std::string text = read("r/reproduce.md");
  EXPECT_NE(text.find("| dlinear/published | 336 | --model=dlinear --preset=published |"), std::string::npos) << text;
  EXPECT_NE(text.find("SAMformer, printed (look-back 512)"), std::string::npos) << text;
}

TEST_F(ReproduceTest, RepeatingTheLastValueIsNamedWhereItWins) {
  // A straight line barely moves within a horizon against its spread over the training rows.
  std::string text = "date,a\n";
  for (int t = 0; t < 1100; ++t) text += fmt::format("{},{}\n", hourly(t), t < 770 ? t % 100 : 50 + 0.001 * t);
  write("exchange_rate.csv", text);
  const Json d = document(reproduce("mix", "r", {"--models", "mix/0", "--seeds", "1"}));
  EXPECT_TRUE(d["cells"][0]["naive_beats_published"].get<bool>());
  EXPECT_NE(read("r/report.html").find("beats every printed system"), std::string::npos);
}

TEST_F(ReproduceTest, FirstSeedsFirstAndATornLineIsRunAgain) {
  const Words more{"--models", "samformer/default,transformer/paper", "--seeds", "1,2"};
  const Json d = document(reproduce("main", "r", more));
  const std::string text = read("r/reproduce.jsonl");
  std::vector<int> seeds;
  for (const Json& row : lines(text)) {
    if (row.contains("seed")) seeds.push_back(row["seed"]);
  }
  EXPECT_EQ(seeds, (std::vector<int>{1, 1, 2, 2}));

  // Killed in the middle of the third run's line.
  const std::size_t third = text.find("\"seed\":2");
  write("r/reproduce.jsonl", text.substr(0, third));
  const Outcome again = run(reproduce("main", "r", more + Words{"--json"}));
  EXPECT_NE(again.err.find("2 runs to do"), std::string::npos) << again.err;
  EXPECT_EQ(again.json(), d);
  EXPECT_EQ(lines(read("r/reproduce.jsonl")).size(), 5u);
  // What is to be run may grow; the flags of the runs may not change.
  EXPECT_EQ(document(reproduce("main", "r", {"--models", "samformer/default", "--seeds", "1..3"}))["runs"], 3);
  fails(2, reproduce("mix", "r"), {"other flags"});
}

TEST_F(ReproduceTest, AChangedFileOfTheSameNameIsRefused) {
  const Words words = reproduce("mix", "r", {"--models", "mix/0", "--seeds", "1"});
  document(words);
  const std::string ledger = read("r/reproduce.jsonl");
  series("exchange_rate.csv", 1101, 3);
  fails(3, words, {"exchange_rate.csv", "SHA-256", "--out"});
  EXPECT_EQ(read("r/reproduce.jsonl"), ledger);
}

TEST_F(ReproduceTest, AnInterruptionSavesAndTheSameCommandGoesOn) {
  Words words = reproduce("mix", "r", {"--models", "mix/0", "--seeds", "1"});
  *(std::ranges::find(words, "--epochs") + 1) = "80";
  const std::string folder = "r/runs/exchange_rate/96/mix/0/seed-1";
  const pid_t child = start(words);
  while (!exists(folder + "/state.safetensors")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(child, SIGTERM);
  EXPECT_EQ(finish(child).code, 130);
  EXPECT_EQ(lines(read("r/reproduce.jsonl")).size(), 1u);
  const Json resumed = document(words);
  EXPECT_NE(read(folder + "/log.txt").find("resumed after epoch"), std::string::npos);
  *(std::ranges::find(words, "--out") + 1) = path("whole");
  EXPECT_EQ(resumed["cells"], document(words)["cells"]);
}

// A killed command leaves its training behind, which keeps its folder: no failure, it is waited for.
TEST_F(ReproduceTest, ARunThatOutlivedItsCommandIsWaitedFor) {
  const std::string folder = "r/runs/exchange_rate/96/mix/0/seed-1";
  const Words words = reproduce("mix", "r", {"--models", "mix/0", "--seeds", "1", "--json"});
  std::filesystem::create_directories(path(folder));
  std::optional<FolderLock> left_behind(path(folder));
  const pid_t child = start(words);
  while (!exists("r/reproduce.jsonl")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_EQ(lines(read("r/reproduce.jsonl")).size(), 1u);
  left_behind.reset();
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const Json cell = outcome.json()["cells"][0];
  EXPECT_TRUE(cell["failures"].empty()) << cell;
  EXPECT_EQ(cell["seeds"], 1);
}

TEST_F(ReproduceTest, FailuresAreRecordedAndShown) {
  series("short.csv", 150, 2);
  Words words = reproduce("mix", "r", {"--models", "mix/0", "--seeds", "1,2"});
  words[3] = path("short.csv");
  const Outcome o = run(words + Words{"--json"});
  EXPECT_EQ(o.code, 6) << o.err;
  const Json d = o.json();
  EXPECT_EQ(d["failed"], 2);
  EXPECT_NE(o.err.find("2 of 2 runs failed, left out"), std::string::npos) << o.err;
  EXPECT_EQ(d["cells"][0]["failures"].size(), 2u);
  EXPECT_TRUE(d["cells"][0]["test_mse"].is_null());
  EXPECT_NE(read("r/reproduce.md").find("too few rows"), std::string::npos);
}

TEST_F(ReproduceTest, ParametersAndDryRun) {
  const Json p = document({"reproduce", "parameters", "--out", path("p")});
  EXPECT_EQ(p["runs"], 0);
  const std::string text = read("p/reproduce.md");
  EXPECT_NE(text.find("| ETT 96 | 50272 | 82590 | 328334 | 124142 | 605180 | 320053 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| traffic 720 | 369904 | 404412 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| itransformer | 96 | 841568 | 866240 | 3379024 | 3576016 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| patchtst | 336 | 81728 | 146336 | 243248 | 501680 |"), std::string::npos) << text;

  // A folder: what it lacks is listed with where to get it.
  series("exchange_rate.csv", 1100, 3);
  const Json dry = document({"reproduce", "main", "--data", scratch_.path().string(), "--dry-run", "--out", path("d")});
  // Four systems in four settings, one of them also tuned; four horizons, five seeds.
  EXPECT_EQ(dry["runs"].size(), 17u * 4 * 5);
  const std::string commands = dry["runs"].dump();
  for (const char* flags :
       {"--model=tsmixer --rho=0.7 --seed=3",
        "--preset=authors-tensorflow --shared --init=glorot --model=tsmixer --seed=1",
        "--preset=authors-tensorflow --init=glorot --model=transformer", "--preset=paper --model=tsmixer"}) {
    EXPECT_NE(commands.find(flags), std::string::npos) << flags;
  }
  // Where they are asked for, the other systems, by how they are trained.
  const auto runs = [&](const std::string& models) {
    const Json asked = document({"reproduce", "main", "--data", path("exchange_rate.csv"), "--horizons", "96",
                                 "--seeds", "1", "--models", models, "--dry-run", "--out", path("d")});
    std::map<std::string, std::string> commands;
    for (const Json& run : asked["runs"]) commands[run["trial"]] = run["command"];
    return commands;
  };
  auto published = runs("published"), fair = runs("fair");
  EXPECT_EQ(fair.size() - 4, 2 * (published.size() - 4));
  EXPECT_NE(published["exchange_rate/96/dlinear/published"].find("--model=dlinear --preset=published"),
            std::string::npos);
  EXPECT_NE(published["exchange_rate/96/samformer/paper"].find("--preset=paper"), std::string::npos);
  EXPECT_NE(fair["exchange_rate/96/patchtst-sam/default"].find("--model=patchtst --rho=0.7"), std::string::npos);
  EXPECT_TRUE(fair.contains("exchange_rate/96/samformer/default"));
  EXPECT_EQ(runs("dlinear").size(), 2u);
  EXPECT_EQ(runs("dlinear-sam").size(), 1u);

  ASSERT_EQ(dry["absent"].size(), 7u);
  EXPECT_EQ(dry["absent"][0]["where"], "samformer data fetch ETTh1");
  EXPECT_FALSE(exists("d"));
}

TEST_F(ReproduceTest, ToyAtBothNoises) {
  const Json d = document({"reproduce", "toy", "--lookback", "4", "--epochs", "1", "--seeds", "1", "--out", path("t")});
  EXPECT_EQ(d["runs_done"], 2);
  const Json released = Json::parse(read("t/runs/noise/1/seed-1/toy.json"));
  EXPECT_EQ(released["noise"], 1);
  EXPECT_NE(read("t/reproduce.md").find(fmt::format("| oracle | {:.3f} |", number(released["models"][0]["train_mse"]))),
            std::string::npos);
}

TEST_F(ReproduceTest, Refusals) {
  fails(2, reproduce("mian", "r"), {"did you mean 'main'"});
  fails(2, reproduce("main", "r", {"--models", "arima"}), {"arima", "tsmixer/paper"});
  fails(2, reproduce("main", "r", {"--horizons", "0"}), {"--horizon"});
  fails(2, reproduce("main", "r", {"--jobs", "4000"}), {"cores"});
  fails(2, {"reproduce", "main"}, {"--out"});
  EXPECT_FALSE(exists("r"));
}

}  // namespace
}  // namespace samformer
