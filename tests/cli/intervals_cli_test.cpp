// --intervals of predict, eval, train and forecast: columns, cover, what they are made of, and what is refused.
#include <random>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class Intervals : public ProgramTest {
 protected:
  // Noise around two waves; `changed`: what becomes of the values from a row on.
  std::string waves(const std::string& name, int rows, int from = 1 << 30, double factor = 1) {
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal;
    std::string text = "date,a,b\n";
    for (int t = 0; t < rows; ++t) {
      double a = std::sin(t * std::numbers::pi / 12) + 0.5 * normal(random);
      double b = 100 + 5 * std::cos(t * std::numbers::pi / 12) + 2 * normal(random);
      if (t >= from) a *= factor, b *= factor;
      text += fmt::format("{},{:.4f},{:.4f}\n", hourly(t), a, b);
    }
    return write(name, text);
  }
  Words train(const std::string& out, const std::string& data, const Words& more = {}) {
    return Words{"train",     "--data", data,       "--model", "linear",  "--lookback",        "48",
                 "--horizon", "4",      "--epochs", "4",       "--split", "rows:1200,900,900", "--threads",
                 "1",         "--out",  out} +
           more;
  }
};

TEST_F(Intervals, ColumnsAroundTheForecast) {
  const std::string data = waves("waves.csv", 3000);
  ASSERT_EQ(run(train("run", data)).code, 0);
  const Outcome outcome = run({"predict", "run", "--intervals", "95,80"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "date,a,b,a_lo_80,a_hi_80,a_lo_95,a_hi_95,b_lo_80,b_hi_80,b_lo_95,b_hi_95");
  int rows = 0;
  for (; std::getline(lines, line); ++rows) {
    std::vector<double> v;
    std::istringstream cells(line.substr(line.find(',') + 1));
    for (std::string cell; std::getline(cells, cell, ',');) v.push_back(std::stod(cell));
    ASSERT_EQ(v.size(), 10u);
    for (const std::size_t t : {0u, 1u}) {
      const double f = v[t], lo80 = v[2 + 4 * t], hi80 = v[3 + 4 * t], lo95 = v[4 + 4 * t], hi95 = v[5 + 4 * t];
      EXPECT_TRUE(lo95 < lo80 && lo80 < f && f < hi80 && hi80 < hi95) << line;
      EXPECT_NEAR(f - lo80, hi80 - f, 1e-4);
      // 1.28 deviations of the noise, and a little for the forecast's own error.
      const double noise = t == 0 ? 0.5 : 2;
      EXPECT_GT(hi80 - f, 1.1 * noise);
      EXPECT_LT(hi80 - f, 1.7 * noise);
    }
  }
  EXPECT_EQ(rows, 4);
  // The forecast itself is the same; bounds and digits hold for the ends too.
  const Json plain = document({"predict", "run"}),
             json = document({"predict", "run", "--intervals", "80", "--min", "-0.5", "--decimals", "2"});
  const Json& first = json["forecast"][0];
  ASSERT_EQ(first["intervals"].size(), 1u);
  EXPECT_EQ(first["intervals"][0]["level"], 80);
  EXPECT_EQ(first["intervals"][0]["low"][0], -0.5);
  EXPECT_NEAR(first["values"][1].get<double>(), plain["forecast"][0]["values"][1].get<double>(), 0.0051);
  EXPECT_FALSE(plain["forecast"][0].contains("intervals"));
}

// Neither rows after the origin nor rows of the training are in them.
TEST_F(Intervals, AreMadeOfRowsBetweenTrainingAndOrigin) {
  const std::string data = waves("waves.csv", 3000);
  ASSERT_EQ(run(train("run", data)).code, 0);
  const Words asked = {"predict", "run", "--intervals", "80", "--origin", hourly(2399)};
  const std::string before = run(asked).out;
  EXPECT_EQ(run(asked + Words{"--data", waves("later.csv", 3000, 2400, 7)}).out, before);
  EXPECT_NE(run(asked + Words{"--data", waves("last.csv", 3000, 2399, 7)}).out, before);
  // The first origin with four windows of four steps behind the training: 1200 + 4 + 3 rows.
  EXPECT_EQ(run({"predict", "run", "--intervals", "80", "--origin", hourly(1206)}).code, 0);
  fails(3, {"predict", "run", "--intervals", "80", "--origin", hourly(1205)},
        {"3 windows of rows that the model was not trained on, 4 are needed for an interval of 80 %"});
  const Outcome few = run({"predict", "run", "--intervals", "80", "--origin", hourly(1210)});
  EXPECT_NE(few.err.find("calibrated on 11 rows alone"), std::string::npos) << few.err;
  // The last windows alone.
  EXPECT_NE(run(asked + Words{"--calibration", "50"}).out, before);
  // Windows with missing values are none; a file of rows that were never seen has more of them.
  std::string text = read("waves.csv");
  for (int t = 2000; t < 2200; ++t) {
    const std::size_t cell = text.find(',', text.find(hourly(t))) + 1;
    text.erase(cell, text.find(',', cell) - cell);
  }
  const Outcome gap = run({"predict", "run", "--intervals", "95", "--data", write("gap.csv", text)});
  EXPECT_EQ(gap.code, 0) << gap.err;
  EXPECT_EQ(gap.out.find("nan"), std::string::npos) << gap.out;
  EXPECT_NE(gap.out, run({"predict", "run", "--intervals", "95"}).out);
}

// After a quiet look-back they are narrow.
TEST_F(Intervals, GoByTheLookback) {
  const std::string data = waves("waves.csv", 3000);
  ASSERT_EQ(run(train("run", data)).code, 0);
  const auto width = [&](const std::string& file) {
    const Json row = document({"predict", "run", "--data", file, "--intervals", "80"})["forecast"][0]["intervals"][0];
    return row["high"][0].get<double>() - row["low"][0].get<double>();
  };
  EXPECT_NEAR(width(waves("quiet.csv", 3000, 2952, 0.25)) / width(data), 0.25, 0.02);
}

// Weights of all rows have no rows left: those of before stand in for them.
TEST_F(Intervals, OfRefittedWeights) {
  const std::string data = waves("waves.csv", 3000);
  ASSERT_EQ(run(train("run", data, {"--refit"})).code, 0);
  const Json best = document({"predict", "run", "--weights", "best", "--intervals", "80"});
  const Json final = document({"predict", "run", "--intervals", "80"});
  EXPECT_EQ(final["weights"], "final.safetensors");
  for (std::size_t h = 0; h < 4; ++h) {
    const auto half = [&](const Json& d, std::size_t t) {
      const Json& row = d["forecast"][h];
      return row["intervals"][0]["high"][t].get<double>() - row["values"][t].get<double>();
    };
    for (const std::size_t t : {0u, 1u}) EXPECT_NEAR(half(final, t), half(best, t), 1e-4);
  }
  std::filesystem::remove(path("run/best.safetensors"));
  fails(3, {"predict", "run", "--intervals", "80"}, {"weights that did not see the last rows", "best.safetensors"});
  // Seeds and members: of their mean.
  ASSERT_EQ(run(train("seeds", data, {"--seeds", "1,2", "--refit"})).code, 0);
  EXPECT_EQ(document({"predict", "seeds", "--intervals", "80"})["models"], 2);
  Words automatic = train("auto", data, {"--auto", "--members", "naive,ridge", "--within", "1e6", "--refit"});
  std::erase(automatic, "--model");
  std::erase(automatic, "linear");
  ASSERT_EQ(run(automatic).code, 0);
  EXPECT_EQ(document({"predict", "auto", "--intervals", "80"})["models"], 2);
  EXPECT_EQ(document({"predict", "auto", "--intervals", "80", "--member", "ridge"})["models"], 1);
}

TEST_F(Intervals, CoverWhatTheySay) {
  const std::string data = waves("waves.csv", 3000);
  const Json trained = document(train("run", data, {"--intervals", "80,95"}));
  const Json json = document({"eval", "run", "--intervals", "80,95"});
  EXPECT_EQ(trained["intervals"], json["intervals"]);
  const Json& of = json["intervals"];
  EXPECT_EQ(of["windows"], 897);
  const double cover[] = {0.8, 0.95};
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_NEAR(of["levels"][k]["cover"].get<double>(), cover[k], 0.02);
    EXPECT_NEAR(of["seasonal_naive"]["levels"][k]["cover"].get<double>(), cover[k], 0.02);
    // Twice the noise under the root: the seasonal naive forecast has its own.
    EXPECT_LT(of["levels"][k]["width"].get<double>(), 0.85 * of["seasonal_naive"]["levels"][k]["width"].get<double>());
    for (const Json& channel : of["per_channel"])
      EXPECT_NEAR(channel["levels"][k]["cover"].get<double>(), cover[k], 0.04);
    for (const Json& step : of["per_step"]) EXPECT_NEAR(step["levels"][k]["cover"].get<double>(), cover[k], 0.04);
  }
  EXPECT_LT(of["wis"].get<double>(), of["seasonal_naive"]["wis"].get<double>());
  EXPECT_EQ(of["pinball"].get<double>(), of["wis"].get<double>() / 2);
  const std::string table = run({"eval", "run", "--intervals", "80"}).out;
  EXPECT_NE(table.find("seasonal naive: cover"), std::string::npos) << table;
  // Bands in the page, in the forecast's colour; the legend does not name them.
  const std::string page = read("run/report.html");
  EXPECT_NE(page.find("between thin lines its intervals (80, 95 %)"), page.npos);
  EXPECT_NE(page.find("<path class=\"curve c1 edge\""), page.npos);
  EXPECT_NE(page.find("<title>80 %</title>"), page.npos);
  EXPECT_EQ(page.find("class=\"legend\">80 %"), page.npos);
  // Scores that do not fit in memory together are those of one channel after the other.
  Json whole = document({"eval", "run", "--intervals", "80,95", "--calibration", "2000"})["intervals"];
  Json blocks = document({"eval", "run", "--intervals", "80,95", "--calibration", "99000000"})["intervals"];
  whole.erase("calibration"), blocks.erase("calibration");
  EXPECT_EQ(whole, blocks);
  // Where no window has enough before it.
  const Outcome few = run({"eval", "run", "--part", "val", "--intervals", "99.9", "--calibration", "1200"});
  EXPECT_EQ(few.code, 0) << few.err;
  EXPECT_NE(few.err.find("no window has the 999 before it"), std::string::npos) << few.err;
}

TEST_F(Intervals, OfForecast) {
  const std::string data = waves("waves.csv", 900);
  const Outcome outcome = run({"forecast", data, "--members", "naive,ridge", "--horizon", "4", "--lookback", "48",
                               "--intervals", "80", "--out", "run"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(read("run/forecast.csv").starts_with("date,a,b,a_lo_80,a_hi_80,b_lo_80,b_hi_80\n"));
  EXPECT_NE(outcome.out.find("80 %"), std::string::npos) << outcome.out;
}

TEST_F(Intervals, WhatIsRefused) {
  ASSERT_EQ(run(small("run")).code, 0);
  for (const char* bad : {"0", "100", "eighty", "-5", "80x", "nan"}) {
    fails(2, {"predict", "run", "--intervals", bad}, {"is no percentage between 0 and 100"});
  }
  fails(2, {"predict", "run", "--intervals", "80,80"}, {"a level twice"});
  fails(2, {"predict", "run", "--intervals", "80,80.00000001"}, {"a level twice"});
  fails(2, {"eval", "run", "--intervals", "95", "--calibration", "18"}, {"an interval of 95 % needs 19 windows"});
  fails(2, small("other", {"--intervals", "101"}), {"is no percentage"});
  EXPECT_FALSE(exists("other"));
}

}  // namespace
}  // namespace samformer
