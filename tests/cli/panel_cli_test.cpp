// Files in long form: as channels what the wide file gives, as a panel one model of series of different lengths.
#include <algorithm>
#include <random>
#include <set>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

std::string day(int t) {
  using namespace std::chrono;
  const year_month_day date{sys_days{year{2024} / 1 / 1} + days{t}};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()));
}

struct Part {
  std::string id;
  int first, last;  // days
};

class Panel : public ProgramTest {
 protected:
  // A week with noise, of a level and a size of its own; `spike`: other values from this day on.
  static double value(const std::string& id, int t, int spike) {
    std::mt19937_64 random(std::hash<std::string>()(id) * 1000 + static_cast<std::uint64_t>(t));
    const double size = 1 + static_cast<double>(id[0] - 'a');
    const double noise = static_cast<double>(random() % 1000) / 1000 - 0.5;
    return t >= spike ? 500 + 300 * noise : size * (20 + 3 * std::sin(t * 2 * std::numbers::pi / 7) + 2 * noise);
  }
  static std::vector<std::string> rows_of(const std::vector<Part>& parts, int spike = 1 << 20) {
    std::vector<std::string> rows;
    for (const auto& [id, first, last] : parts) {
      for (int t = first; t < last; ++t) rows.push_back(fmt::format("{},{},{:.3f}\n", id, day(t), value(id, t, spike)));
    }
    return rows;
  }
  std::string table(const std::string& name, const std::vector<std::string>& rows,
                    const std::string& header = "unique_id,ds,y") {
    std::string text = header + '\n';
    for (const std::string& row : rows) text += row;
    return write(name, text);
  }
  static std::vector<std::string> mixed(std::vector<std::string> rows) {
    std::mt19937_64 random(3);
    std::shuffle(rows.begin(), rows.end(), random);
    return rows;
  }
  Outcome ok(const Words& words) {
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  }
  static Words train(const std::string& data, const std::string& out, const Words& more = {}) {
    return Words{"train",    "--data", data,        "--lookback", "14",    "--horizon", "7",
                 "--epochs", "2",      "--threads", "1",          "--out", out} +
           more;
  }
  // Two series of 200 days, one that starts late, one too short for a window.
  const std::vector<Part> parts_ = {{"a", 0, 200}, {"b", 10, 190}, {"c", 130, 200}, {"d", 195, 200}};
};

TEST_F(Panel, ChannelsAreTheWideFilesAndRowsStandInAnyOrder) {
  const std::vector<Part> parts = {{"b", 0, 160}, {"a", 0, 160}, {"c", 0, 160}};
  std::string wide = "date,a,b,c\n";
  for (int t = 0; t < 160; ++t) {
    wide +=
        fmt::format("{},{:.3f},{:.3f},{:.3f}\n", day(t), value("a", t, 999), value("b", t, 999), value("c", t, 999));
  }
  write("wide.csv", wide);
  table("long.csv", rows_of(parts));
  table("mixed.csv", mixed(rows_of(parts)), "item_id,timestamp,target");
  const Json expected = document(train("wide.csv", "w"));
  for (const char* name : {"long", "mixed"}) {
    SCOPED_TRACE(name);
    const Json d = document(train(fmt::format("./{}.csv", name), name));
    EXPECT_EQ(d["weights_sha256"], expected["weights_sha256"]);
    EXPECT_EQ(d["test_mse"], expected["test_mse"]);
    EXPECT_EQ(d["targets"], expected["targets"]);
    const std::string config = read(fmt::format("{}/config.toml", name));
    EXPECT_NE(config.find("panel = \"channels\""), config.npos) << config;
  }
  // A forecast is written as its file is: the same numbers.
  const std::string forecast = ok({"predict", "w"}).out;
  const std::string of_long = ok({"predict", "long"}).out;
  EXPECT_TRUE(of_long.starts_with("unique_id,ds,y\na,2024-06-09,")) << of_long;
  EXPECT_TRUE(ok({"predict", "mixed"}).out.starts_with("item_id,timestamp,target\na,2024-06-09,"));
  std::set<std::string> numbers, long_numbers;
  std::istringstream cells(forecast), long_cells(of_long);
  std::string line, cell;
  std::getline(cells, line), std::getline(long_cells, line);
  while (std::getline(cells, line)) {
    std::istringstream row(line);
    std::getline(row, cell, ',');
    while (std::getline(row, cell, ',')) numbers.insert(cell);
  }
  while (std::getline(long_cells, line)) long_numbers.insert(line.substr(line.rfind(',') + 1));
  EXPECT_EQ(numbers.size(), 21u);
  EXPECT_EQ(numbers, long_numbers);
  // Either file does for either run.
  EXPECT_EQ(ok({"predict", "long", "--data", "./wide.csv"}).out, forecast);
  EXPECT_EQ(ok({"predict", "w", "--data", "./long.csv"}).out, of_long);
  const Outcome without = run({"predict", "long", "--data", table("two.csv", rows_of({{"a", 0, 160}, {"b", 0, 160}}))});
  EXPECT_EQ(without.code, 3);
  EXPECT_NE(without.err.find("the first is 'c'"), without.err.npos) << without.err;
}

TEST_F(Panel, SeriesOfDifferentLengthsTrainOneModelAndAllAreForecast) {
  table("long.csv", rows_of(parts_));
  table("mixed.csv", mixed(rows_of(parts_)));
  const Json d = document(train("./long.csv", "run"));
  EXPECT_EQ(d["series"], 4);
  EXPECT_EQ(d["rows"], 200 + 180 + 70 + 5);
  EXPECT_EQ(d["channels"], 1);
  // a: 140, 20, 40 rows; b: 125, 19, 36; c: 49, 7, 14; d: none. Windows of 14 + 7 in the training rows, of 7 behind them.
  EXPECT_EQ(d["train_windows"], 120 + 105 + 29);
  EXPECT_EQ(d["val_windows"], 14 + 13 + 1);
  EXPECT_EQ(d["test_windows"], 34 + 30 + 8);
  ASSERT_EQ(d["per_series"].size(), 3u);
  double squares = 0;
  for (const Json& s : d["per_series"]) {
    squares += s["mse"].get<double>() * s["windows"].get<double>() / 72;
    EXPECT_GT(s["mase"].get<double>(), 0.3);
    EXPECT_LT(s["mase"].get<double>(), 3);
  }
  EXPECT_NEAR(squares, d["test_mse"].get<double>(), 1e-6);
  EXPECT_LT(d["test_mse"], d["baselines"]["naive"]["test_mse"]);
  EXPECT_EQ(document(train("./mixed.csv", "other"))["weights_sha256"], d["weights_sha256"]);

  const Outcome predicted = ok({"predict", "run"});
  EXPECT_NE(predicted.err.find("1 series ('d') with fewer than the 14 rows"), predicted.err.npos) << predicted.err;
  std::map<std::string, std::vector<std::string>> dates;
  std::istringstream lines(predicted.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "unique_id,ds,y");
  while (std::getline(lines, line)) dates[line.substr(0, 1)].push_back(line.substr(2, 10));
  ASSERT_EQ(dates.size(), 4u);
  EXPECT_EQ(dates["a"], dates["d"]);
  EXPECT_EQ(dates["a"].front(), day(200));
  EXPECT_EQ(dates["b"].back(), day(196));
  EXPECT_EQ(ok({"predict", "other"}).out, predicted.out);
  // The same test by `eval`, and every one of its forecasts.
  const Json evaluated = document({"eval", "run", "--forecasts", "f.csv", "--threads", "1"});
  EXPECT_NEAR(evaluated["test_mse"].get<double>(), d["test_mse"].get<double>(), 1e-6);
  EXPECT_EQ(evaluated["per_series"], d["per_series"]);
  EXPECT_EQ(evaluated["windows_overlapping_training"],
            7);  // of c: the others have longer validation parts than look-backs
  EXPECT_EQ(std::ranges::count(read("f.csv"), '\n'), 72 * 7 + 1);
  EXPECT_NE(read("f.csv").find(",1,c,"), std::string::npos);
  EXPECT_NE(read("run/report.html").find("Series (3 of 3)"), std::string::npos);
}

// What a series' size is does not matter: it has a scale of its own.
TEST_F(Panel, ASeriesThatWasNotSeenHasTheScaleOfItsRows) {
  table("long.csv", rows_of(parts_));
  ok(train("./long.csv", "run"));
  std::vector<std::string> rows;
  for (int t = 0; t < 60; ++t) {
    rows.push_back(fmt::format("new,{},{:.9f}\n", day(t), 1e-4 * value("a", t, 999)));
    rows.push_back(fmt::format("other,{},{:.3f}\n", day(t), value("a", t, 999)));
  }
  table("new.csv", rows);
  const Json d = document({"predict", "run", "--data", "./new.csv", "--intervals", "80"});
  EXPECT_EQ(d["unseen"], Json({"new", "other"}));
  for (std::size_t h = 0; h < 7; ++h) {
    const Json &small = d["series"][0]["forecast"][h], &large = d["series"][1]["forecast"][h];
    EXPECT_NEAR(small["value"].get<double>(), 1e-4 * large["value"].get<double>(), 2e-6);
    EXPECT_LT(small["intervals"][0]["low"], small["value"]);
    EXPECT_LT(small["value"], small["intervals"][0]["high"]);
  }
}

// Scaler, training and stopping see nothing of a series' test rows; nor does a forecast of rows after its origin.
TEST_F(Panel, NothingSeesLaterRows) {
  table("long.csv", rows_of(parts_));
  table("spike.csv", rows_of(parts_, 190));  // in the test rows of a, b and c
  const Json d = document(train("./long.csv", "run")),
             spiked = document(train("./spike.csv", "spiked", {"--late", "mean"}));
  EXPECT_EQ(spiked["weights_sha256"], d["weights_sha256"]);
  EXPECT_EQ(spiked["val_mse"], d["val_mse"]);
  EXPECT_NE(spiked["test_mse"], d["test_mse"]);
  const Words origin = {"--origin", day(188)};
  EXPECT_EQ(ok(Words{"predict", "run"} + origin).out,
            ok(Words{"predict", "run", "--data", "./spike.csv"} + origin).out);
  EXPECT_EQ(ok(Words{"predict", "run"} + origin).out, ok(Words{"predict", "spiked"} + origin).out);
  // One that is constant until then is left out of the errors.
  std::vector<std::string> rows = rows_of(parts_);
  for (int t = 0; t < 200; ++t) rows.push_back(fmt::format("z,{},{}\n", day(t), t < 170 ? 0 : t % 5));
  table("late.csv", rows);
  const Outcome late = run(train("./late.csv", "late", {"--json"}));
  EXPECT_NE(late.err.find("1 series hardly vary"), late.err.npos) << late.err;
  EXPECT_EQ(late.json()["per_series"].size(), 3u);
  EXPECT_NEAR(document({"eval", "late"})["test_mse"].get<double>(), late.json()["test_mse"].get<double>(), 1e-6);
}

// Each interval is the one that `predict` had given at its origin, and none sees a later row.
TEST_F(Panel, IntervalsAreScoredAsPredictGivesThem) {
  table("long.csv", rows_of(parts_));
  table("spike.csv", rows_of(parts_, 190));
  const Json trained = document(train("./long.csv", "run", {"--intervals", "80,90"}));
  const Words scored = {"--intervals", "80,90", "--threads", "1", "--forecasts"};
  const Json d = document(Words{"eval", "run"} + scored + Words{"f.csv"});
  EXPECT_EQ(d["intervals"], trained["intervals"]);
  document(Words{"eval", "run", "--data", "./spike.csv"} + scored + Words{"g.csv"});

  // origin,date,step,series,actual,forecast,naive,seasonal_naive,least_squares,lo_80,hi_80,lo_90,hi_90
  const auto cells_of = [](const std::string& text) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream in(line + ",.");
      for (rows.emplace_back(); std::getline(in, line, ',');) rows.back().push_back(line);
    }
    return rows;
  };
  const auto rows = cells_of(read("f.csv")), spiked = cells_of(read("g.csv"));
  ASSERT_EQ(rows.size(), 72u * 7 + 1);
  ASSERT_EQ(rows.size(), spiked.size());
  const Json at = document({"predict", "run", "--intervals", "80,90", "--origin", day(180), "--threads", "1"});
  double covered = 0, windows = 0, compared = 0;
  std::map<std::string, double> of_series;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    std::vector<std::string> row = rows[i], other = spiked[i];
    if (row[0] < day(190)) {  // the truth apart
      row[4] = other[4] = "";
      EXPECT_EQ(row, other);
    }
    if (rows[i][9].empty()) continue;
    const double actual = std::stod(rows[i][4]);
    covered += std::stod(rows[i][9]) <= actual && actual <= std::stod(rows[i][10]) ? 1 : 0;
    windows += 1. / 7, of_series[row[3]] += 1. / 7;
    for (const Json& series : at["series"]) {
      if (row[0] != day(180) || series["id"] != row[3]) continue;
      const Json& step = series["forecast"][std::stoul(row[2]) - 1];
      for (std::size_t l = 0; l < 2; ++l) {
        EXPECT_NEAR(std::stod(rows[i][9 + 2 * l]), step["intervals"][l]["low"].get<double>(), 1e-3);
        EXPECT_NEAR(std::stod(rows[i][10 + 2 * l]), step["intervals"][l]["high"].get<double>(), 1e-3);
      }
      ++compared;
    }
  }
  EXPECT_EQ(compared, 2 * 7);  // of a and b; c's test rows begin later
  const Json& intervals = d["intervals"];
  EXPECT_NEAR(intervals["windows"].get<double>(), windows, 1e-6);
  EXPECT_NEAR(intervals["levels"][0]["cover"].get<double>(), covered / (7 * windows), 1e-9);
  ASSERT_EQ(intervals["per_series"].size(), 3u);
  for (const Json& s : intervals["per_series"]) {
    EXPECT_NEAR(s["windows"].get<double>(), of_series[s["id"]], 1e-6) << s;
  }
  EXPECT_EQ(intervals["per_step"].size(), 7u);
  EXPECT_GT(intervals["seasonal_naive"]["wis"], 0);
}

TEST_F(Panel, EveryCommandWorksOrSaysNo) {
  table("long.csv", rows_of(parts_));
  const Json checked = document({"data", "check", "./long.csv", "--horizon", "7", "--lookback", "14"});
  EXPECT_EQ(checked["panel"]["form"], "global");
  EXPECT_EQ(checked["panel"]["only_forecast"], 1);
  EXPECT_EQ(checked["train_windows"], 254);
  EXPECT_EQ(checked["panel"]["series"][2]["rows"], 70);
  EXPECT_EQ(document({"data", "check", "./long.csv", "--horizon", "7", "--lookback", "14", "--columns",
                      "c,b"})["train_windows"],
            29 + 105);
  const Json forecast = document({"forecast", "./long.csv", "--horizon", "7", "--lookback", "14", "--epochs", "2",
                                  "--threads", "1", "--intervals", "80", "--out", "f"});
  EXPECT_EQ(forecast["predict"]["series"].size(), 4u);
  EXPECT_EQ(forecast["predict"]["weights"], "final.safetensors");
  EXPECT_TRUE(read("f/forecast.csv").starts_with("unique_id,ds,y,lo_80,hi_80\n"));
  EXPECT_EQ(document({"predict", "f", "--member", forecast["train"]["members"][0]})["series"].size(), 4u);

  const auto refused = [&](const Words& words, int code, const std::string& what) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(what), std::string::npos) << outcome.err;
  };
  refused({"backtest", "--data", "./long.csv", "--horizon", "7", "--lookback", "14", "--out", "b"}, 2,
          "no origins are common");
  refused(train("./long.csv", "x", {"--panel", "channels"}), 3, "--panel global");
  refused(train("./long.csv", "x", {"--split", "rows:10,10,10"}), 2, "rows of their own");
  refused(train("./long.csv", "x", {"--features", "S"}), 2, "a panel has series of one");
  refused(train("./long.csv", "x", {"--id", "item"}), 2, "no column is named 'item'");
  refused({"data", "repair", "./long.csv", "--out", "x.csv"}, 3, "long form");
  refused(train(table("short.csv", rows_of({{"a", 0, 20}, {"b", 3, 15}})), "x"), 3, "no series has a window of 14 + 7");
  // Too few rows for a model: naive forecasts.
  const Json naive = document({"forecast", "./short.csv", "--horizon", "7", "--out", "n", "--threads", "1"});
  EXPECT_EQ(naive["predict"]["series"].size(), 2u);
  EXPECT_NEAR(naive["predict"]["series"][0]["forecast"][6]["value"].get<double>(), value("a", 19, 999), 8);
  std::vector<std::string> rows = rows_of(parts_);
  rows.erase(rows.begin() + 195);
  table("hole.csv", rows);
  ok(train("./hole.csv", "hole"));
  refused({"predict", "hole"}, 3, "inside the 14 rows that the forecast looks back on, in 1 series ('a')");
  ok({"predict", "hole", "--holes", "close"});
  // All at the same dates.
  const Json dated =
      document(train("./long.csv", "dates", {"--split", fmt::format("dates:{},{}", day(150), day(170))}));
  EXPECT_EQ(dated["splits"]["test"]["first_date"], day(170));
  EXPECT_EQ(dated["splits"]["train"]["last_date"], day(149));
}

TEST_F(Panel, TheBuiltInPanelsFloorIsNearlyReached) {
  ok({"data", "synth", "panel", "--rows", "300", "--channels", "60", "--out", "panel.csv"});
  const Json made = document({"data", "synth", "panel", "--rows", "300", "--channels", "60", "--out", "again.csv"});
  EXPECT_EQ(read("panel.csv"), read("again.csv"));
  const double floor = made["noise_floor_standardised"];
  const Json d = document({"train", "--data", "./panel.csv", "--horizon", "14", "--out", "run", "--threads", "2"});
  EXPECT_EQ(d["series"], 60);
  EXPECT_GT(d["test_mse"].get<double>(), 0.85 * floor);
  EXPECT_LT(d["test_mse"].get<double>(), 1.35 * floor);
}

}  // namespace
}  // namespace samformer
