// What is known ahead, from outside: --past, --future, --future-for, --calendar, rows behind the last one and
// predict --future-data; that nothing is learned from later rows, and what is refused.
#include <random>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

constexpr int known_rows = 500;

class Covariates : public ProgramTest {
 protected:
  // Items that follow a temperature and their own promotions, and zero, which is 0; `ahead` rows have no items. From row
  // `from` on what is known is another.
  std::string shop(const std::string& name, int ahead = 0, int from = 1 << 30) {
    std::mt19937_64 random(4);
    std::normal_distribution<double> normal;
    std::string text = "date,item_1,item_2,temp,promo_1,promo_2,zero\n";
    double temp = 0;
    for (int t = 0; t < known_rows + ahead; ++t) {
      temp = 0.8 * temp + normal(random);
      const int one = random() % 4 == 0, two = random() % 4 == 0;
      const double a = 20 + 2 * temp + 5 * one + 0.3 * normal(random), b = 50 - temp + 8 * two + 0.3 * normal(random);
      text += hourly(t) + (t < known_rows ? fmt::format(",{:.4f},{:.4f}", a, b) : ",,");
      text += t < from ? fmt::format(",{:.4f},{},{},0\n", temp, one, two) : fmt::format(",{},7,7,0\n", 100 + t);
    }
    return write(name, text);
  }
  Words train(const std::string& out, const std::string& data, const Words& more = {}) {
    return Words{"train", "--data", data, "--model", "linear", "--lookback", "48", "--horizon", "6", "--lr", "0.02"} +
           Words{"--epochs", "12", "--split", "rows:300,100,100", "--threads", "1", "--out", out} + more;
  }
  const Words future = {"--future", "temp", "--future-for", "item_*=promo_*", "--drop", "zero"};
  const Words none = {"--drop", "temp,promo_1,promo_2,zero"};
};

TEST_F(Covariates, WhatIsKnownIsUsed) {
  const std::string data = shop("shop.csv");
  const Json without = document(train("without", data, none)), with = document(train("with", data, future));
  EXPECT_LT(with["test_mse"].get<double>(), 0.5 * without["test_mse"].get<double>());
  const auto fit = [](const Json& d) { return d["baselines"]["least_squares"]["test_mse"].get<double>(); };
  EXPECT_LT(fit(with), 0.2 * fit(without));
  EXPECT_EQ(document({"eval", "with"})["test_mse"], with["test_mse"]);
  // Of --auto ridge regression has the same columns.
  const Json chosen = document(train("auto", data, future + Words{"--auto", "--members", "naive,ridge"}));
  EXPECT_LT(chosen["test_mse"].get<double>(), 0.2 * fit(without));
  EXPECT_EQ(chosen["members"], Json({"ridge"}));
}

// Columns of zeros, of networks with what is not trained behind what is, too.
TEST_F(Covariates, ZerosChangeNoBit) {
  const std::string data = shop("shop.csv");
  for (const std::string model : {"samformer", "tsmixer", "random-transformer"}) {
    const auto result = [&](const std::string& out, const Words& more) {
      const Json d = document(train(model + out, data, Words{"--model", model, "--epochs", "2"} + more));
      return std::pair(d["val_mse"].get<double>(), d["test_mse"].get<double>());
    };
    EXPECT_EQ(result("zero", {"--future", "zero", "--drop", "temp,promo_1,promo_2"}), result("none", none)) << model;
    EXPECT_EQ(run({"predict", model + "none"}).code, 0);
  }
}

// Neither nodes nor scale nor weights go by what comes after the training and validation rows.
TEST_F(Covariates, LaterRowsAreNotSeen) {
  const Words asked = future + Words{"--no-test", "--calendar", "dow"};
  const Json one = document(train("one", shop("one.csv"), asked));
  const Json two = document(train("two", shop("two.csv", 0, 400), asked));
  EXPECT_EQ(one["weights_sha256"], two["weights_sha256"]);
  const auto covariates = [&](const std::string& run) {
    return model::Safetensors::open(path(run + "/best.safetensors")).metadata("covariates");
  };
  EXPECT_EQ(covariates("one"), covariates("two"));
  EXPECT_NE(document(train("three", shop("three.csv", 0, 299), asked))["weights_sha256"], one["weights_sha256"]);
}

TEST_F(Covariates, PastIsMs) {
  const std::string data = shop("shop.csv");
  const Json past = document(train("past", data, {"--past", "temp", "--drop", "promo_1,promo_2,zero", "--no-test"}));
  const Json ms =
      document(train("ms", data, {"--features", "MS", "--target", "item_1,item_2", "--drop", "promo_1,promo_2,zero"}));
  EXPECT_EQ(past["weights_sha256"], ms["weights_sha256"]);
  fails(2, train("x", data, {"--past", "temp", "--features", "MS"}), {"give one of them"});
  fails(2, train("x", data, {"--past", "tenp"}), {"--past 'tenp' is not a channel", "temp"});
}

// Rows behind the last one with an item, or a file of their own; the same bytes.
TEST_F(Covariates, RowsAhead) {
  const std::string data = shop("ahead.csv", 8);
  ASSERT_EQ(run(train("run", data, future)).code, 0);
  const Outcome inside = run({"predict", "run"});
  ASSERT_EQ(inside.code, 0) << inside.err;
  EXPECT_NE(inside.out.find(hourly(known_rows + 5)), std::string::npos);
  EXPECT_EQ(inside.out.find(hourly(known_rows + 6)), std::string::npos);
  std::istringstream lines(read("ahead.csv"));
  std::string line, head, rest, to_file = "date,temp,promo_1,promo_2\n", short_file = to_file, without = "date,temp\n";
  for (int t = -1; std::getline(lines, line); ++t) {
    if (t < known_rows) head += line + '\n';
    if (t < known_rows) continue;
    std::istringstream cells(line);
    Words row;
    for (std::string cell; std::getline(cells, cell, ',');) row.push_back(cell);
    to_file += fmt::format("{},{},{},{}\n", row[0], row[3], row[4], row[5]);
    if (t < known_rows + 3) short_file += fmt::format("{},{},{},{}\n", row[0], row[3], row[4], row[5]);
    without += fmt::format("{},{}\n", row[0], row[3]);
  }
  const std::string measured = write("measured.csv", head), ahead = write("future.csv", to_file);
  EXPECT_EQ(run({"predict", "run", "--data", measured, "--future-data", ahead}).out, inside.out);
  // Inside the file its own rows are known, or those of an archived forecast in their place.
  const Words origin = {"predict", "run", "--origin", hourly(480)};
  const Outcome measured_ahead = run(origin);
  ASSERT_EQ(measured_ahead.code, 0) << measured_ahead.err;
  const auto archived = [&](const std::string& name, double colder) {
    std::string text = "date,temp,promo_1,promo_2\n";
    std::istringstream rows(read("ahead.csv"));
    for (std::string row; std::getline(rows, row);) {
      std::istringstream cells(row);
      Words cell;
      for (std::string one; std::getline(cells, one, ',');) cell.push_back(one);
      if (cell[0] <= hourly(480) || cell[0] > hourly(486) || cell[0] == "date") continue;
      text += fmt::format("{},{:.17g},{},{}\n", cell[0], std::stod(cell[3]) - colder, cell[4], cell[5]);
    }
    return write(name, text);
  };
  EXPECT_EQ(run(origin + Words{"--future-data", archived("same.csv", 0)}).out, measured_ahead.out);
  const Outcome colder = run(origin + Words{"--future-data", archived("colder.csv", 5)});
  EXPECT_EQ(colder.code, 0) << colder.err;
  EXPECT_NE(colder.out, measured_ahead.out);

  fails(3, {"predict", "run", "--data", measured},
        {"'temp', which the model knows ahead, has no value for " + hourly(known_rows) + ", step 1 of 6",
         "--future-data"});
  fails(3, {"predict", "run", "--data", measured, "--future-data", write("short.csv", short_file)},
        {"'temp'", hourly(known_rows + 3) + ", step 4 of 6"});
  fails(3, {"predict", "run", "--data", measured, "--future-data", write("one.csv", without)},
        {"'promo_1'", "step 1 of 6"});
  fails(3, {"predict", "run", "--data", measured, "--future-data", measured},
        {"column 'item_1' is none that the model knows ahead"});
  fails(3, {"predict", "run", "--data", write("no_temp.csv", "date,item_1\n" + hourly(0) + ",1\n")}, {"temp"});
}

TEST_F(Covariates, TheCalendarNeedsNoRows) {
  const std::string data = shop("shop.csv"), days = write("days.csv", "date,name\n2020-01-06,Epiphany\n2020-01-20,x\n");
  ASSERT_EQ(run(train("run", data, none + Words{"--calendar", "hour,dow,holidays:" + days})).code, 0);
  EXPECT_EQ(run({"predict", "run"}).code, 0);
  EXPECT_EQ(run({"eval", "run"}).code, 0);
  std::filesystem::rename(days, path("moved.csv"));
  EXPECT_EQ(run({"predict", "run"}).code, 3);
  EXPECT_EQ(run({"predict", "run", "--calendar", "hour,dow,holidays:" + path("moved.csv")}).code, 0);
  fails(2, {"predict", "run", "--calendar", "hour"}, {"the model was trained with hour,dow,holidays"});
}

TEST_F(Covariates, WhatCannotBe) {
  const std::string data = shop("shop.csv");
  fails(2, train("x", data, {"--future", "tenp"}), {"there is no column 'tenp'", "temp"});
  fails(2, train("x", data, {"--future-for", "promo"}), {"no pair of names with a * each"});
  fails(2, train("x", data, {"--future-for", "thing_*=promo_*"}), {"no channel is named so"});
  fails(2, train("x", data, {"--future-for", "item_*=price_*"}), {"there is no column 'price_1'"});
  fails(2, train("x", data, {"--calendar", "week"}), {"'week' is none of hour, dow, month, doy, holidays:FILE"});
  fails(2, train("x", data, {"--calendar", "hour,hour"}), {"twice"});
  fails(2, train("x", data, {"--future", "temp", "--future-basis", "hinge:0"}), {"hinge:N with N from 1 to 64"});
  fails(3, train("x", data, {"--calendar", "holidays:" + write("bad.csv", "date\n2020-01-01\nsoon\n")}),
        {"'soon' is no date", "bad.csv:3"});
  // A hole in what is known is one of the data.
  std::string text = read("shop.csv");
  const std::size_t cell = text.rfind(',', text.rfind(",0\n") - 1);
  text.erase(cell + 1, 1);
  fails(3, train("x", write("hole.csv", text), future), {"column 'promo_2': missing value"});
}

TEST_F(Covariates, OfABacktest) {
  const std::string data = shop("shop.csv");
  Words asked = train("back", data, future + Words{"--origins", "3", "--epochs", "2"});
  asked[0] = "backtest";
  const Outcome o = run(asked);
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.err.find("temp, promo_1, promo_2 are taken as known ahead"), std::string::npos) << o.err;
}

}  // namespace
}  // namespace samformer
