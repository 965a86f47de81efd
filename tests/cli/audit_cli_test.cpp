// The rows that a command uses are looked at, and small files get what suits them: nothing flatters in silence.
#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class Audit : public ProgramTest {
 protected:
  // small.csv without the rows first .. last (from 0).
  std::string without(const std::string& name, int first, int last) {
    if (!exists("small.csv")) series("small.csv", 400, 3);
    std::istringstream text(read("small.csv"));
    std::string kept, line;
    for (int t = -1; std::getline(text, line); ++t) {
      if (t < first || t > last) kept += line + '\n';
    }
    return write(name, kept);
  }
  // 180 months of 4 channels with a trend and a season.
  std::string monthly(const std::string& name, int rows = 180) {
    return series(name, rows, 4, [](int t) { return fmt::format("{}-{:02}-01", 2000 + t / 12, 1 + t % 12); });
  }
  std::string warnings(const Words& words) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.err;
  }
  static void expect(const std::string& text, const std::string& part, bool there = true) {
    EXPECT_EQ(text.find(part) != std::string::npos, there) << part << "\n" << text;
  }
};

// 400 rows less 10: training rows 273, validation rows 39, test rows 78. A hole inside a part costs L + H - 1 windows.
TEST_F(Audit, NoWindowCrossesAHole) {
  const Words holed = small("run", {"--data", without("holed.csv", 100, 109)});
  const std::string said = warnings(holed);
  expect(said, "holed.csv:102:1: gap: ");
  expect(said, "windows across absent rows are left out: 29 of 244 for training\n");
  const Json result = document(small("again", {"--data", path("holed.csv")}));
  EXPECT_EQ(result["train_windows"], 244 - 29);
  EXPECT_EQ(result["val_windows"], 34);
  EXPECT_EQ(result["test_windows"], 73);
  const Json closed = document(small("closed", {"--data", path("holed.csv"), "--holes", "close"}));
  EXPECT_EQ(closed["train_windows"], 244);
  expect(warnings(small("quiet", {"--data", path("holed.csv"), "--holes", "close"})), "gap", false);
  // The weights are those of a training on exactly these windows: the second run's, not the third's.
  EXPECT_NE(result["weights_sha256"], closed["weights_sha256"]);
  // So are those of the linear fit, which forecasts a wave exactly but for windows where it leaps.
  std::string wave = "date,x,y\n";
  for (int t = 0; t < 400; ++t) {
    if (t >= 100 && t < 109) continue;
    wave += fmt::format("{},{:.3f},{:.3f}\n", hourly(t), std::sin(0.7 * t), std::sin(0.3 * t) + std::cos(0.9 * t));
  }
  const Words waves = {"--data", write("wave.csv", wave)};
  const auto fit = [&](const Words& more) {
    return document(small("wave", waves + Words{"--overwrite"} + more))["baselines"]["least_squares"]["test_mse"]
        .get<double>();
  };
  EXPECT_LT(fit({}), 1e-4);  // of the rounding
  EXPECT_GT(fit({"--holes", "close"}), 1e-3);
  // In the test part, in data check and in eval.
  without("late.csv", 350, 352);
  expect(warnings(small("late", {"--data", path("late.csv")})), "left out: 29 of 74 for test");
  const Outcome checked = run({"data", "check", "late.csv", "--lookback", "24", "--horizon", "6"});
  EXPECT_EQ(checked.code, 0);
  expect(checked.out, "left out: 29 of 74 for test");
  expect(warnings({"eval", "run", "--data", path("late.csv")}), "windows across absent rows are left out: 29 of 74");
  const Json evaluated = document({"eval", "run", "--data", path("late.csv")});
  EXPECT_EQ(evaluated["windows"], 74 - 29);
  // Without a window left it is refused, and the remedy works.
  Words all_parts = small("none", {"--data", write("broken.csv", [&] {
                                     std::istringstream text(read("small.csv"));
                                     std::string kept, line;
                                     for (int t = -1; std::getline(text, line); ++t) {
                                       if (t < 0 || t % 20 != 19) kept += line + '\n';
                                     }
                                     return kept;
                                   }())});
  fails(3, all_parts, {"every window of look-back 24 and horizon 6 for training crosses absent rows", "--holes close"});
  EXPECT_EQ(run(all_parts + Words{"--holes", "close"}).code, 0);
}

// Markets close on holidays: the next session follows.
TEST_F(Audit, ADayWithoutBusinessIsNoHole) {
  const auto weekdays = [](int t) {
    const auto at = std::chrono::sys_days{std::chrono::year{2020} / 1 / 6} + std::chrono::days{t / 5 * 7 + t % 5};
    const std::chrono::year_month_day date{at};
    return fmt::format("{:04}-{:02}-{:02}", int(date.year()), unsigned(date.month()), unsigned(date.day()));
  };
  series("small.csv", 400, 3, weekdays);
  const Json result = document(small("run", {"--data", without("holiday.csv", 100, 101)}));
  EXPECT_EQ(result["step"], "1 business day");
  EXPECT_EQ(result["train_windows"], 278 - 29);
  const Json closed = document(small("closed", {"--data", without("closed.csv", 100, 115)}));
  EXPECT_EQ(closed["train_windows"], 268 - 29 - 29);
}

TEST_F(Audit, PredictLooksAtTheRowsItUses) {
  ASSERT_EQ(run(small("run", {"--refit"})).code, 0);
  const std::string whole = warnings({"predict", "run"});
  EXPECT_EQ(whole, "");
  // A hole inside the look-back; before it, it does not matter.
  without("inside.csv", 385, 388);
  const std::string said = fails(3, {"predict", "run", "--data", "inside.csv"},
                                 {"inside.csv:387",
                                  "4 rows are absent between 2020-01-17 00:00:00 and "
                                  "2020-01-17 05:00:00, inside the 24 rows"});
  expect(said, "--origin '2020-01-17 00:00:00'");
  expect(warnings({"predict", "run", "--data", "inside.csv", "--origin", "2020-01-17 00:00:00"}),
         "trained on the rows");
  EXPECT_EQ(run({"predict", "run", "--data", "inside.csv", "--holes", "close"}).code, 0);
  EXPECT_EQ(warnings({"predict", "run", "--data", without("before.csv", 300, 303)}), "");
  // The page of such a run draws no forecast that predict would refuse.
  ASSERT_EQ(run(small("holed", {"--data", "inside.csv"})).code, 0);
  const std::string page = read("holed/report.html");
  EXPECT_NE(page.find("so that no forecast is drawn"), page.npos);
  EXPECT_EQ(page.find(": the next "), page.npos);
  EXPECT_NE(read("run/report.html").find(": the next "), page.npos);
  // Two holes less than a look-back apart: the last origin that works lies before both.
  std::istringstream lines_of(read("inside.csv"));
  std::string twice_cut, row;
  for (int t = -1; std::getline(lines_of, row); ++t) {
    if (t < 370 || t > 371) twice_cut += row + '\n';
  }
  write("two.csv", twice_cut);
  expect(fails(3, {"predict", "run", "--data", "two.csv"}, {"4 rows are absent"}), "--origin '2020-01-16 09:00:00'");
  EXPECT_EQ(run({"predict", "run", "--data", "two.csv", "--origin", "2020-01-16 09:00:00"}).code, 0);
  // A row twice.
  std::string text = read("small.csv");
  const std::string last = text.substr(text.rfind('\n', text.size() - 2) + 1);
  write("twice.csv", text + last);
  expect(warnings({"predict", "run", "--data", "twice.csv"}), "twice.csv:402: repeated time step: 2020-01-17 15:00:00");
}

TEST_F(Audit, AnotherStepThanTheModelsIsRefused) {
  ASSERT_EQ(run(small("run", {"--refit"})).code, 0);
  const auto daily = [](int t) { return fmt::format("2021-{:02}-{:02}", 1 + t / 28, 1 + t % 28); };
  series("daily.csv", 28, 3, daily);
  for (const char* command : {"predict", "eval"}) {
    fails(3, {command, "run", "--data", "daily.csv"}, {"trained on steps of 1 hour, this file has 1 day", "--freq"});
  }
  const std::string said = warnings({"predict", "run", "--data", "daily.csv", "--freq", "d"});
  expect(said, "trained on steps of 1 hour, this file has 1 day");
  // Few rows of business days look like days: they are read at the model's step.
  const auto weekday = [](int t) {
    const auto at = std::chrono::sys_days{std::chrono::year{2020} / 1 / 6} + std::chrono::days{t / 5 * 7 + t % 5};
    const std::chrono::year_month_day date{at};
    return fmt::format("{:04}-{:02}-{:02}", int(date.year()), unsigned(date.month()), unsigned(date.day()));
  };
  series("week.csv", 400, 3, weekday);
  ASSERT_EQ(run(small("weekdays", {"--data", path("week.csv"), "--lookback", "4", "--horizon", "2"})).code, 0);
  series("few.csv", 5, 3, weekday);
  const Outcome few = run({"predict", "weekdays", "--data", "few.csv"});
  EXPECT_EQ(few.code, 0) << few.err;
  expect(few.out, "\n2020-01-13,");
}

TEST_F(Audit, AnOriginInsideTheTrainedRowsIsSaid) {
  ASSERT_EQ(run(small("run", {"--refit"})).code, 0);
  const Words origin = {"--origin", "2020-01-10 00:00:00"};
  for (const char* weights : {"best", "final"}) {
    const std::string said = warnings(Words{"predict", "run", "--weights", weights} + origin);
    expect(said, "warning: the model was trained on the rows after 2020-01-10 00:00:00 too");
    expect(said, "steps before this forecast", false);
  }
  expect(warnings({"predict", "run", "--weights", "best"}), "steps before this forecast");
}

// One channel is constant in the training rows, one hardly varies, one is constant everywhere.
TEST_F(Audit, AChannelThatDoesNotVaryInTrainingIsLeftOutOfTheMeans) {
  std::string text = "date,live,late,rain,dead\n";
  for (int t = 0; t < 400; ++t) {
    text += fmt::format("{},{},{},{},{}\n", hourly(t), std::sin(t * 0.3) + std::cos(t * 1.7), t < 280 ? 0 : 40,
                        t == 7    ? 0.001
                        : t < 280 ? 0.0
                                  : t % 3,
                        5);
  }
  const std::string data = write("late.csv", text);
  const Outcome trained = run(small("run", {"--data", data}));
  expect(trained.err, "channel 'late' is constant in the training rows and not after them; it is left out");
  expect(trained.err, "channel 'rain' varies ");
  expect(trained.out, "errors are means over 1 of 4 channels");
  const Json result = document(small("again", {"--data", data}));
  EXPECT_EQ(result["left_out"], Json({"late", "rain", "dead"}));
  EXPECT_EQ(result["pooled_channels"], 1);
  EXPECT_EQ(result["test_mse"], result["per_channel"][0]["mse"]);
  EXPECT_LT(result["val_mse"].get<double>(), 10);
  EXPECT_EQ(document({"eval", "again"})["test_mse"], result["test_mse"]);
  const Json mean = document(small("mean", {"--data", data, "--late", "mean"}));
  EXPECT_GT(mean["test_mse"].get<double>(), 100);
  EXPECT_EQ(mean["pooled_channels"], 4);
  EXPECT_FALSE(mean.contains("left_out"));
}

TEST_F(Audit, TheShapeFitsTheFile) {
  const Words train = {"train", "--data", monthly("m.csv"), "--epochs", "2", "--threads", "1"};
  const Json months = document(train + Words{"--out", "a"});
  EXPECT_EQ(months["horizon"], 12);
  EXPECT_EQ(months["lookback"], 64);  // 125 training rows: 50 windows, at 96 there would be 18
  expect(read("a/config.toml"), "lookback = 64\nhorizon = 12\n");
  series("hours.csv", 3000, 2);
  const Json hours = document({"data", "check", "hours.csv"});
  EXPECT_EQ(hours["horizon"], 96);
  EXPECT_EQ(hours["lookback"], 512);
  EXPECT_EQ(document({"data", "check", "hours.csv", "--horizon", "300"})["lookback"], 512);
  EXPECT_EQ(document({"data", "check", "hours.csv", "--lookback", "auto", "--horizon", "auto"})["horizon"], 96);
  fails(2, {"train", "--lookback", "0"}, {"expected auto or a whole number from 1"});
}

// 78 windows are 3 batches: an epoch has 50, and too few windows are warned of.
TEST_F(Audit, SmallFilesAreTrainedEnough) {
  const Words train = {"train", "--data", monthly("m.csv"), "--lookback", "36",         "--horizon", "12",
                       "--out", "run",    "--threads",      "1",          "--overwrite"};
  const Outcome short_run = run(train + Words{"--epochs", "2", "--patience", "0"});
  expect(short_run.err, "78 windows of 36 + 12 steps");
  expect(short_run.err, "still improving when it ended: epoch 2 of 2 is the best one; --epochs 4");
  EXPECT_EQ(lines(read("run/metrics.jsonl")).size(), 2u);
  const Json long_run = document(train + Words{"--epochs", "200"});
  EXPECT_EQ(long_run["still_improving"], false);
  const Json once = document(train + Words{"--epochs", "2", "--epoch-steps", "1"});
  EXPECT_GT(once["test_mse"], document(train + Words{"--epochs", "2"})["test_mse"]);
  expect(warnings(train + Words{"--lookback", "96", "--epochs", "1"}), "only 18 training windows");
  expect(warnings(train + Words{"--lookback", "64", "--epochs", "1"}), "training windows at", false);
}

// The skill is against the best row of the table.
TEST_F(Audit, SkillCountsEveryBaseline) {
  const Json result = document(small("run"));
  double best = 1e9;
  for (const Json& baseline : result["baselines"]) best = std::min(best, baseline["test_mse"].get<double>());
  EXPECT_EQ(best, result["baselines"]["least_squares"]["test_mse"].get<double>());
  EXPECT_DOUBLE_EQ(result["skill"].get<double>(), 1 - result["test_mse"].get<double>() / best);
}

// At step 6 a share of 0.5 at step 250 is 0.06 %: the two candidates with a mixture are those without.
TEST_F(Audit, TuneDoesNotTrainTheSameTwice) {
  const Json result = document(small("run", {"--tune"}));
  EXPECT_EQ(result["tune"]["candidates"].size(), 2u);
  EXPECT_FALSE(exists("run/tune-mean-0.5"));
  const Json everywhere = document(small("all", {"--tune", "--stats-mix-step", "0"}));
  EXPECT_EQ(everywhere["tune"]["candidates"].size(), 4u);
}

}  // namespace
}  // namespace samformer
