// `train --auto` and `forecast`: the choice never loses to a naive forecast, and one file holds it.
#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class Auto : public ProgramTest {
 protected:
  Words automatic(const std::string& out, const Words& more = {}) {
    return small(out, Words{"--auto", "--members", "naive,seasonal-naive,ridge,samformer-mean"} + more);
  }
  // A random walk of two channels, hourly.
  std::string walk(const std::string& name, int rows) {
    std::string text = "date,a,b\n";
    std::uint64_t state = 7;
    double level[2] = {100, 50};
    for (int t = 0; t < rows; ++t) {
      text += hourly(t);
      for (double& x : level) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x += static_cast<double>(state >> 40) / static_cast<double>(1 << 24) - 0.5;
        text += fmt::format(",{}", x);
      }
      text += '\n';
    }
    return write(name, text);
  }
  std::vector<std::vector<double>> values(const Words& words) {
    const Json predicted = document(words);
    std::vector<std::vector<double>> all;
    for (const Json& row : predicted["forecast"]) all.push_back(row["values"]);
    EXPECT_EQ(all.size(), predicted["horizon"].get<std::size_t>());
    return all;
  }
  static Words chosen(const Json& result) {
    Words names;
    for (const Json& member : result["selection"]) {
      if (member["chosen"].get<bool>()) names.push_back(member["member"]);
    }
    return names;
  }
};

TEST_F(Auto, TheMeanOfTheMembersNearTheBest) {
  const Json result = document(automatic("run", {"--within", "100"}));
  EXPECT_EQ(result["model"], "auto");
  double best = 1e9, weights = 0;
  for (const Json& member : result["selection"]) best = std::min(best, member["val_mse"].get<double>());
  ASSERT_EQ(result["selection"].size(), 4u);
  for (const Json& member : result["selection"]) {
    EXPECT_EQ(member["chosen"], member["val_mse"].get<double>() <= 2 * best) << member;
    weights += member["weight"].get<double>();
  }
  EXPECT_DOUBLE_EQ(weights, 1);
  const Words names = chosen(result);
  ASSERT_GE(names.size(), 2u);
  ASSERT_LT(names.size(), 4u);
  EXPECT_LE(result["val_mse"].get<double>(), 2 * best);
  EXPECT_GT(result["baselines"]["ridge"]["test_mse"].get<double>(), 0);
  // predict is the mean of the members, each of which --member gives; eval gives the result again.
  const auto mean = values({"predict", "run"});
  std::vector<std::vector<std::vector<double>>> each;
  for (const std::string& name : names) each.push_back(values({"predict", "run", "--member", name}));
  for (std::size_t h = 0; h < mean.size(); ++h) {
    for (std::size_t d = 0; d < mean[h].size(); ++d) {
      double sum = 0;
      for (const auto& one : each) sum += one[h][d];
      EXPECT_NEAR(mean[h][d], sum / static_cast<double>(names.size()), 2e-5);
    }
  }
  const Json evaluated = document({"eval", "run"});
  EXPECT_EQ(evaluated["test_mse"], result["test_mse"]);
  EXPECT_EQ(evaluated["weights_sha256"], result["weights_sha256"]);
  const std::string table = run({"eval", "run"}).out;
  EXPECT_NE(table.find("auto (mean of " + names[0]), std::string::npos) << table;
  EXPECT_EQ(table.find("objective"), std::string::npos) << table;
  EXPECT_EQ(run({"train", "--resume", "run"}).out.find("objective"), std::string::npos);  // the stored result
  EXPECT_EQ(document({"eval", "run", "--member", "ridge"})["test_mse"], result["baselines"]["ridge"]["test_mse"]);
  // The same bits again, and from what an interruption left.
  EXPECT_EQ(document(automatic("again", {"--within", "100"}))["weights_sha256"], result["weights_sha256"]);
  std::filesystem::remove(path("run/result.json"));
  std::filesystem::remove(path("run/best.safetensors"));
  EXPECT_EQ(document({"train", "--resume", "run"})["weights_sha256"], result["weights_sha256"]);
}

// Naive members are exactly that: the last value, the last day.
TEST_F(Auto, ClosedFormsAreWhatTheySay) {
  const Json result = document(automatic("run", {"--members", "naive,seasonal-naive", "--within", "1e6"}));
  EXPECT_EQ(chosen(result), (Words{"naive", "seasonal-naive"}));
  std::istringstream text(read("small.csv"));
  std::vector<std::string> rows;
  for (std::string line; std::getline(text, line);) rows.push_back(line);
  const auto row = [&](std::size_t from_end) {
    std::vector<double> numbers;
    std::istringstream cells(rows[rows.size() - from_end]);
    std::string cell;
    std::getline(cells, cell, ',');
    while (std::getline(cells, cell, ',')) numbers.push_back(std::stod(cell));
    return numbers;
  };
  const auto naive = values({"predict", "run", "--member", "naive"});
  const auto seasonal = values({"predict", "run", "--member", "seasonal-naive"});
  for (std::size_t h = 0; h < naive.size(); ++h) {
    for (std::size_t d = 0; d < 3; ++d) {
      EXPECT_NEAR(naive[h][d], row(1)[d], 1e-5);
      EXPECT_NEAR(seasonal[h][d], row(24 - h)[d], 1e-5);
    }
  }
  for (const char* name : {"naive", "seasonal_naive"}) {
    const std::string member = name == std::string("naive") ? "naive" : "seasonal-naive";
    EXPECT_NEAR(document({"eval", "run", "--member", member})["test_mse"].get<double>(),
                result["baselines"][name]["test_mse"].get<double>(), 1e-6);
  }
}

// Neither the choice nor the weights see a row of the test part.
TEST_F(Auto, TheTestRowsAreNotSeen) {
  const Json before = document(automatic("before"));
  std::istringstream text(read("small.csv"));
  std::string changed, line;
  for (int t = -1; std::getline(text, line); ++t) {
    changed += t < 320 ? line + '\n' : fmt::format("{},{},{},{}\n", hourly(t), 900 * (t % 3), -50 * t, t % 7);
  }
  const Json after = document(automatic("after", {"--data", write("changed.csv", changed)}));
  EXPECT_EQ(after["selection"], before["selection"]);
  EXPECT_EQ(after["val_mse"], before["val_mse"]);
  EXPECT_EQ(after["weights_sha256"], before["weights_sha256"]);
  EXPECT_NE(after["test_mse"], before["test_mse"]);
}

TEST_F(Auto, ARandomWalkChoosesANaiveForecast) {
  const Json result = document(automatic("run", {"--data", walk("walk.csv", 600), "--epochs", "20"}));
  EXPECT_EQ(chosen(result).front(), "naive");
  EXPECT_LE(result["test_mse"].get<double>(), 1.05 * result["baselines"]["naive"]["test_mse"].get<double>());
}

// --refit fits the chosen members to all rows; predict takes those.
TEST_F(Auto, RefitIsOfTheChosenMembers) {
  const Json result = document(automatic("run", {"--within", "100", "--refit"}));
  ASSERT_TRUE(exists("run/final.safetensors"));
  const Json predicted = document({"predict", "run"});
  EXPECT_EQ(predicted["weights"], "final.safetensors");
  EXPECT_EQ(predicted["models"], chosen(result).size());
  EXPECT_NE(values({"predict", "run", "--weights", "best"}), values({"predict", "run"}));
  // Closed forms too: a wave that the training rows did not have is forecast by the refitted weights alone.
  std::string text = "date,x\n";
  for (int t = 0; t < 400; ++t) {
    text += fmt::format("{},{:.3f}\n", hourly(t), t < 300 ? 0.01 * (t * t % 17) : std::sin(0.4 * t));
  }
  ASSERT_EQ(run(automatic("wave", {"--members", "ridge", "--refit", "--data", write("wave.csv", text)})).code, 0);
  const auto error = [&](const Words& more) {
    const auto forecast = values(Words{"predict", "wave"} + more);
    double sum = 0;
    for (std::size_t h = 0; h < forecast.size(); ++h)
      sum += std::abs(forecast[h][0] - std::sin(0.4 * (400 + static_cast<double>(h))));
    return sum / static_cast<double>(forecast.size());
  };
  EXPECT_LT(error({}), 0.5 * error({"--weights", "best"}));
}

TEST_F(Auto, FewValidationWindowsAreNotEnough) {
  series("months.csv", 144, 1, [](int t) { return fmt::format("{}-{:02}-01", 2000 + t / 12, 1 + t % 12); });
  const Words words = {"train", "--auto", "--data",    path("months.csv"), "--epochs",
                       "3",     "--out",  path("run"), "--members",        "naive,seasonal-naive,ridge,samformer-mean"};
  const Outcome outcome = run(words);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("5 validation windows are few: members are compared over"), std::string::npos)
      << outcome.err;
  EXPECT_TRUE(exists("run/member-samformer-mean-before-1/best.safetensors"));
}

// Nothing can be trained: the naive forecast that all rows speak for, and it is said.
TEST_F(Auto, TooFewRowsGetANaiveForecast) {
  const auto forecast_of = [&](const std::string& name, const std::function<double(int)>& value) {
    std::string text = "date,x\n";
    for (int t = 0; t < 30; ++t) text += fmt::format("{}-{:02}-01,{}\n", 2000 + t / 12, 1 + t % 12, value(t));
    const Outcome outcome = run({"forecast", write(name + ".csv", text), "--out", path(name)});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("30 rows are too few to train and test a model at horizon 12: the forecast is "),
              std::string::npos)
        << outcome.err;
    return outcome.err.substr(outcome.err.find("the forecast is "));
  };
  EXPECT_EQ(forecast_of("few", [](int t) { return t * t % 12 + 0.1 * t; }), "the forecast is seasonal-naive\n");
  EXPECT_EQ(forecast_of("trend", [](int t) { return 2.0 * t + t * t % 5; }), "the forecast is naive\n");
  EXPECT_EQ(forecast_of("both", [](int) { return 5.0; }), "the forecast is the mean of seasonal-naive and naive\n");
  const Words forecast = [&] {
    Words rows;
    std::istringstream text(read("few/forecast.csv"));
    for (std::string line; std::getline(text, line);) rows.push_back(line);
    return rows;
  }();
  ASSERT_EQ(forecast.size(), 13u);
  EXPECT_TRUE(forecast[1].starts_with("2002-07-01,"));
  EXPECT_TRUE(forecast[12].starts_with("2003-06-01,"));
  write("one.csv", "date,x\n2020-01-01,5\n2020-01-02,7\n");
  const Outcome one = run({"forecast", path("one.csv"), "--horizon", "2", "--out", path("one")});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(read("one/forecast.csv"), "date,x\n2020-01-03,7\n2020-01-04,7\n");
}

TEST_F(Auto, WhatItCannotGoWithIsRefused) {
  fails(2, automatic("run", {"--seeds", "1,2"}), {"--auto: several --seeds"});
  fails(2, automatic("run", {"--tune"}), {"--auto: --tune"});
  fails(2, automatic("run", {"--members", "naive,prophet"}), {"no member is named 'prophet'; there are naive,"});
  fails(2, automatic("run", {"--members", "naive,naive"}), {"'naive' is named twice"});
  EXPECT_FALSE(exists("run"));
  ASSERT_EQ(run(automatic("run", {"--members", "naive,ridge"})).code, 0);
  fails(2, {"predict", "run", "--member", "samformer-last"}, {"the run's forecast has no 'samformer-last'", "mean of"});
  fails(2, {"sharpness", "run"}, {"the run is the mean of ", "member-"});
  ASSERT_EQ(run(small("one")).code, 0);
  fails(2, {"predict", "one", "--member", "naive"}, {"not trained with --auto"});
}

TEST_F(Auto, ForecastIsOneCommand) {
  series("my sales.csv", 400, 3);
  const Words words = {"forecast",   path("my sales.csv"),
                       "--lookback", "24",
                       "--horizon",  "6",
                       "--epochs",   "3",
                       "--members",  "ridge,samformer-last,seasonal-naive",
                       "--within",   "1e6",
                       "--out",      path("run")};
  const Outcome outcome = run(words);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part :
       {"auto (mean of ", "ridge regression", "date,c0,c1,c2\n2020-01-17 16:00:00,", "forecast  ", "report.html"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  }
  const std::string page = read("run/report.html");
  for (const char* part : {"Members", "samformer-last", "the weights refitted on all rows"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(read("run/forecast.csv"), run({"predict", "run"}).out);
  const Json both = document({"forecast", path("my sales.csv"), "--lookback", "24", "--horizon", "6", "--members",
                              "ridge", "--out", path("json")});
  EXPECT_EQ(both["predict"]["forecast"].size(), 6u);
  EXPECT_EQ(both["train"]["selection"].size(), 1u);
  // What would end it is said before anything is trained.
  write("odd.csv", "date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-07,3\n2020-03-01,2\n2020-03-02,4\n2021-01-01,1\n");
  fails(3, {"forecast", path("odd.csv"), "--out", path("odd")}, {"no regular step"});
  EXPECT_FALSE(exists("odd"));
  fails(2, {"forecast", "-"}, {"reads its file twice", "save it"});
  std::string holed = "date,x\n";
  for (int t = 0; t < 300; ++t) holed += t == 293 ? "" : fmt::format("{},{}\n", hourly(t), t * 5 % 24);
  const Words dated = {"forecast", write("holed.csv", holed), "--horizon", "6", "--members", "ridge", "--out", "hole"};
  const std::string hint = fails(3, dated, {"holed.csv:295: 1 rows are absent", "--origin", "--holes close"});
  EXPECT_FALSE(exists("hole"));
  EXPECT_EQ(run(dated + pasted(hint, "--holes")).code, 0);
  // The run's folder is the forecast's: train's --resume is no flag of it.
  const std::string again = fails(2, dated + Words{"--holes", "close"}, {"already holds a run"});
  EXPECT_EQ(again.find("--resume"), again.npos) << again;
  EXPECT_EQ(run(dated + Words{"--holes", "close", "--overwrite"}).code, 0);
  fails(2, dated + Words{"--date-format", "%Y-%m-%d %H:%M:%S", "--no-date"}, {"exclude", "leave --date-format out"});
}

}  // namespace
}  // namespace samformer
