// `backtest`: what each model saw, which origins there are, the ledger, the files.
#include <random>
#include <set>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class Backtest : public ProgramTest {
 protected:
  // Two noisy waves by the hour; `spike` rows and later ones are other values.
  std::string waves(const std::string& name, int rows, int spike = 1 << 30) {
    std::mt19937_64 random(11);
    std::normal_distribution<double> normal;
    std::string text = "date,a,b\n";
    for (int t = 0; t < rows; ++t) {
      double a = std::sin(t * std::numbers::pi / 12) + 0.3 * normal(random);
      double b = 50 + 4 * std::cos(t * std::numbers::pi / 12) + normal(random);
      if (t >= spike) a = 1000, b = -1000 + t;
      text += fmt::format("{},{:.3f},{:.3f}\n", hourly(t), a, b);
    }
    return write(name, text);
  }
  // 600 training rows, 100 for validation, 100 for test.
  Words asked(const std::string& out, const Words& more = {}, const std::string& data = "waves.csv") {
    return Words{"backtest",   "--data",    path(data),  "--split", "rows:600,100,100",
                 "--lookback", "24",        "--horizon", "6",       "--epochs",
                 "2",          "--threads", "1",         "--out",   out} +
           more;
  }
  std::vector<std::int64_t> rows_of(const Json& document) {
    std::vector<std::int64_t> rows;
    for (const Json& o : document["origins"]) rows.push_back(o["row"]);
    return rows;
  }
  // Lines of forecasts.csv, by origin.
  std::map<std::string, std::string> by_origin(const std::string& folder) {
    std::map<std::string, std::string> forecasts;
    std::istringstream lines(read(folder + "/forecasts.csv"));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line)) forecasts[line.substr(0, line.find(','))] += line + '\n';
    return forecasts;
  }
  std::string split_of(const std::string& run) {
    const std::string config = read(run + "/config.toml");
    const std::size_t from = config.find("rows:");
    return config.substr(from, config.find('"', from) - from);
  }
};

// One model for all windows of the test part is what `eval` looks at.
TEST_F(Backtest, WithoutRefitsItIsEval) {
  waves("waves.csv", 800);
  const Words levels = {"--intervals", "80,90", "--calibration", "60"};
  const Json d = document(asked("b", Words{"--origins", "every:1", "--refits", "never"} + levels));
  ASSERT_EQ(d["origins"].size(), 95u);
  Words train = asked("run");
  train[0] = "train";
  const Json evaluated = document(train);
  for (const char* field : {"test_mse", "test_mae", "wape", "mase", "rmsse", "bias", "skill"}) {
    EXPECT_NEAR(d[field].get<double>(), evaluated[field].get<double>(), 1e-6) << field;
  }
  for (const char* name : {"naive", "seasonal_naive", "least_squares"}) {
    EXPECT_NEAR(d["baselines"][name]["test_mse"].get<double>(), evaluated["baselines"][name]["test_mse"].get<double>(),
                1e-6);
  }
  double mean = 0;
  for (const Json& o : d["origins"]) mean += o["mse"].get<double>() / 95;
  EXPECT_NEAR(mean, d["test_mse"].get<double>(), 1e-9);
  // The file has the same errors, by origin.
  const auto forecasts = by_origin("b");
  ASSERT_EQ(forecasts.size(), 95u);
  const Json once_more = document(Words{"eval", "run", "--forecasts", "eval.csv"} + levels);
  EXPECT_EQ(read("b/forecasts.csv"), read("eval.csv"));
  EXPECT_GT(d["intervals"]["windows"], 60);
  EXPECT_EQ(d["intervals"], once_more["intervals"]);
  EXPECT_NE(read("b/report.html").find("MSE by origin"), std::string::npos);
  EXPECT_EQ(Json::parse(read("b/backtest.json"))["test_mse"], d["test_mse"]);
}

// Nothing after an origin is seen by scaler, training, stopping, the choice of members or a baseline.
TEST_F(Backtest, LaterRowsChangeNoEarlierForecast) {
  waves("waves.csv", 800);
  for (const Words& how : {Words{"--late", "leave-out"}, Words{"--auto", "--members", "naive,ridge,samformer-mean"}}) {
    const Json before = document(asked("before", how + Words{"--origins", "4"}));
    const std::vector<std::int64_t> rows = rows_of(before);
    ASSERT_EQ(rows.size(), 4u);
    // From the last row of the second origin's truth on.
    waves("spiked.csv", 800, static_cast<int>(rows[1]) + 7);
    ASSERT_EQ(run(asked("after", how + Words{"--origins", "4"}, "spiked.csv")).code, 0);
    const auto a = by_origin("before"), b = by_origin("after");
    const std::string first = hourly(static_cast<int>(rows[0])), second = hourly(static_cast<int>(rows[1])),
                      third = hourly(static_cast<int>(rows[2]));
    EXPECT_EQ(a.at(first), b.at(first));
    EXPECT_EQ(a.at(second), b.at(second));
    EXPECT_NE(a.at(third), b.at(third));
    std::filesystem::remove_all(path("before"));
    std::filesystem::remove_all(path("after"));
  }
}

TEST_F(Backtest, EachModelHasTheRowsBeforeItsOrigin) {
  waves("waves.csv", 800);
  const Json each = document(asked("each", {"--origins", "3", "--gap", "5"}));
  const auto rows = rows_of(each);
  for (const std::int64_t row : rows) {
    // 100 rows of validation up to five rows before the origin, the one at `row` being the last known.
    EXPECT_EQ(split_of(fmt::format("each/origins/{}", row)), fmt::format("rows:{},100,11@0", row + 1 - 105));
  }
  document(asked("window", {"--origins", "3", "--train-window", "rows:300"}));
  EXPECT_EQ(split_of(fmt::format("window/origins/{}", rows[2])), fmt::format("rows:300,100,6@{}", rows[2] + 1 - 400));
  const Json some = document(asked("some", {"--origins", "5", "--refits", "every:2"}));
  std::set<std::int64_t> models;
  for (const Json& o : some["origins"]) models.insert(o["model"].get<std::int64_t>());
  const auto five = rows_of(some);
  EXPECT_EQ(models, (std::set<std::int64_t>{five[0], five[2], five[4]}));
  EXPECT_EQ(some["origins"][1]["model"], five[0]);
}

TEST_F(Backtest, Origins) {
  waves("waves.csv", 800);
  // 94 / 3 = 31 has no factor of a day's 24; 94 / 6 = 15 and 14 have, 13 has not.
  EXPECT_EQ(rows_of(document(asked("a", {"--origins", "4", "--refits", "never"}))),
            (std::vector<std::int64_t>{699, 730, 761, 792}));
  const auto seven = rows_of(document(asked("b", {"--origins", "7", "--refits", "never"})));
  EXPECT_EQ(seven[1] - seven[0], 13);
  EXPECT_EQ(rows_of(document(asked("c", {"--origins", "every:40", "--refits", "never"}))),
            (std::vector<std::int64_t>{699, 739, 779}));
  write("dates.csv", "origin\n" + hourly(750) + "\n" + hourly(710) + "\r\n");
  EXPECT_EQ(rows_of(document(asked("d", {"--origins", "dates:" + path("dates.csv"), "--refits", "never"}))),
            (std::vector<std::int64_t>{710, 750}));
  write("dates.csv", "\xEF\xBB\xBF" + hourly(750) + "\n" + hourly(710) + "\n");
  EXPECT_EQ(rows_of(document(asked("d", {"--origins", "dates:" + path("dates.csv"), "--refits", "never"}))),
            (std::vector<std::int64_t>{710, 750}));
  fails(3, asked("e", {"--origins", "96"}), {"--origins 96: the test part has 95"});
  const auto dates = [&](const std::string& text) {
    write("dates.csv", text);
    return asked("e", {"--origins", "dates:" + path("dates.csv")});
  };
  fails(3, dates("2020-01-30 06:30:00\n"),
        {"dates.csv:1", "the nearest are 2020-01-30 06:00:00 and 2020-01-30 07:00:00"});
  fails(3, dates(hourly(650) + "\n"), {"is no origin of the test part", hourly(699), hourly(793)});
  fails(3, dates(hourly(750) + "\n" + hourly(750) + "\n"), {"a date is there twice"});
  fails(3, dates(hourly(750) + "\nsoon\n"), {"dates.csv:2", "'soon' is no date"});
  for (const char* bad : {"0", "-3", "every:0", "few", "every:"})
    fails(2, asked("e", {"--origins", bad}), {"expected a number, every:K or dates:FILE"});
  fails(2, asked("e", {"--no-date", "--drop", "date", "--origins", "dates:" + path("dates.csv")}),
        {"the series has no dates", "--origins 12"});
  fails(2, asked("e", {"--refits", "sometimes"}), {"never, each or every:K"});
  fails(2, asked("e", {"--train-window", "rows:0"}), {"expanding or rows:N"});
  fails(3, asked("e", {"--gap", "580"}), {"have no window of 24 + 6 steps"});
  EXPECT_FALSE(exists("e"));
}

TEST_F(Backtest, IsResumedFromItsLedger) {
  waves("waves.csv", 800);
  const Words words = asked("b", {"--origins", "3"});
  ASSERT_EQ(run(words).code, 0);
  const std::string forecasts = read("b/forecasts.csv"), ledger = read("b/backtest.jsonl");
  const Outcome again = run(words);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.err.find("0 to train"), std::string::npos) << again.err;
  EXPECT_EQ(read("b/forecasts.csv"), forecasts);
  // As a kill in the middle leaves it.
  write("b/backtest.jsonl", ledger.substr(0, ledger.find('\n', ledger.find('\n') + 1) + 5));
  std::filesystem::remove(path("b/forecasts.csv"));
  const Outcome resumed = run(words);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("2 to train"), std::string::npos) << resumed.err;
  EXPECT_EQ(read("b/forecasts.csv"), forecasts);
  ASSERT_EQ(run(asked("two", {"--origins", "3", "--jobs", "2"})).code, 0);
  EXPECT_EQ(read("two/forecasts.csv"), forecasts);
  // Other settings are another backtest; more origins are not.
  fails(2, asked("b", {"--origins", "3", "--lr", "0.01"}), {"backtest.jsonl"});
  EXPECT_EQ(run(asked("b", {"--origins", "every:31"})).code, 0);
}

// A file may have what `train` does not know; with other values it is another backtest.
TEST_F(Backtest, SettingsOfAFile) {
  waves("waves.csv", 800);
  const std::string ours = "origins = \"2\"\nrefits = \"never\"\njobs = 1\nmodel = \"linear\"\n";
  write("b.toml", ours + "lr = 0.002\n");
  const Json d = document(asked("b", {"--config", path("b.toml")}));
  EXPECT_EQ(d["origins"].size(), 2u);
  EXPECT_EQ(d["failed"], 0);
  EXPECT_NE(read(fmt::format("b/origins/{}/config.toml", rows_of(d)[0])).find("lr = 0.002"), std::string::npos);
  write("b.toml", ours + "lr = 0.003\n");
  fails(2, asked("b", {"--config", path("b.toml")}), {"backtest.jsonl"});
  const std::string config = path(fmt::format("b/origins/{}/config.toml", rows_of(d)[0]));
  EXPECT_EQ(document(asked("c", {"--config", config, "--origins", "1"}))["failed"], 0);
}

// A model begins with the weights of the one before, also where that one is taken from the ledger.
TEST_F(Backtest, WarmStart) {
  waves("waves.csv", 800);
  const Words how = {"--origins", "3", "--warm-start"};
  const Json warm = document(asked("warm", how));
  EXPECT_EQ(warm["warm_start"], true);
  const std::vector<std::int64_t> rows = rows_of(warm);
  ASSERT_EQ(run(asked("cold", {"--origins", "3"})).code, 0);
  const auto a = by_origin("warm"), b = by_origin("cold");
  EXPECT_EQ(a.at(hourly(static_cast<int>(rows[0]))), b.at(hourly(static_cast<int>(rows[0]))));
  EXPECT_NE(a.at(hourly(static_cast<int>(rows[1]))), b.at(hourly(static_cast<int>(rows[1]))));
  // By hand.
  const auto folder = [&](std::size_t i) { return fmt::format("warm/origins/{}", rows[i]); };
  ASSERT_EQ(run({"train", "--data", path("waves.csv"), "--split", split_of(folder(1)), "--lookback", "24", "--horizon",
                 "6", "--epochs", "2", "--threads", "1", "--out", "second", "--no-test", "--weights-from",
                 path(folder(0) + "/best.safetensors")})
                .code,
            0);
  EXPECT_EQ(Json::parse(read("second/result.json"))["weights_sha256"],
            Json::parse(read(folder(1) + "/result.json"))["weights_sha256"]);
  const std::string ledger = read("warm/backtest.jsonl"), forecasts = read("warm/forecasts.csv");
  write("warm/backtest.jsonl", ledger.substr(0, ledger.find('\n', ledger.find('\n') + 1) + 1));
  ASSERT_EQ(run(asked("warm", how)).code, 0);
  EXPECT_EQ(read("warm/forecasts.csv"), forecasts);
  fails(2, asked("warm", {"--origins", "2", "--warm-start"}), {"backtest.jsonl"});
  fails(2, asked("e", {"--warm-start", "--jobs", "2"}), {"begins each model where the one before ended"});
  fails(2, asked("e", {"--warm-start", "--auto"}), {"begins each model where the one before ended"});
}

// Ends of intervals beside the forecasts: those that `predict` gives at the origin, and without refits `eval`'s scores.
TEST_F(Backtest, Intervals) {
  waves("waves.csv", 800);
  const Words levels = {"--intervals", "80,90", "--calibration", "60"};
  const Json d = document(asked("b", Words{"--origins", "3"} + levels));
  EXPECT_EQ(d["intervals"]["windows"], 3);
  EXPECT_EQ(d["intervals"]["levels"].size(), 2u);
  std::istringstream lines(read("b/forecasts.csv"));
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "origin,date,step,series,actual,forecast,naive,seasonal_naive,least_squares,lo_80,hi_80,lo_90,hi_90");
  for (const std::int64_t row : rows_of(d)) {
    const std::string origin = hourly(static_cast<int>(row));
    const Json there = document(Words{"predict", fmt::format("b/origins/{}", row), "--origin", origin} + levels);
    for (std::size_t t = 0; t < 2; ++t) {
      for (std::size_t h = 0; h < 6; ++h) {
        ASSERT_TRUE(std::getline(lines, line));
        std::vector<std::string> cells;
        std::istringstream parts(line);
        for (std::string cell; std::getline(parts, cell, ',');) cells.push_back(cell);
        ASSERT_EQ(cells.size(), 13u) << line;
        EXPECT_EQ(cells[0], origin);
        for (std::size_t k = 0; k < 2; ++k) {
          const Json& ends = there["forecast"][h]["intervals"][k];
          EXPECT_NEAR(std::stod(cells[9 + 2 * k]), ends["low"][t].get<double>(), 1e-5) << line;
          EXPECT_NEAR(std::stod(cells[10 + 2 * k]), ends["high"][t].get<double>(), 1e-5) << line;
        }
      }
    }
  }
}

TEST_F(Backtest, WhatIsRefused) {
  waves("waves.csv", 800);
  Words nowhere = asked("b");
  nowhere.resize(nowhere.size() - 2);
  fails(2, nowhere, {"backtest needs --out"});
  fails(2, asked("b", {"--refit"}), {"--refit would train on the rows after the origins"});
  fails(2, asked("b", {"--seeds", "1,2"}), {"one --seed"});
  fails(2, {"backtest", "--data", "-", "--out", "b"}, {"reads its file again"});
  EXPECT_FALSE(exists("b"));
  // Trainings that fail are named; without any there is nothing to show.
  const Outcome failed = run(asked("b", {"--origins", "2", "--lr", "1e30", "--optimizer", "sgd"}));
  EXPECT_EQ(failed.code, 6) << failed.err;
  EXPECT_NE(failed.err.find("no model could be trained"), std::string::npos) << failed.err;
}

TEST_F(Backtest, Screen) {
  waves("waves.csv", 800);
  const Outcome outcome = run(asked("b", {"--origins", "4"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part :
       {"seasonal naive", "linear least squares", "Diebold-Mariano t", "2020-01-30 03:00:00", "forecasts.csv"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  }
}

}  // namespace
}  // namespace samformer
