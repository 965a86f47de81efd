// The C interface: what it trains and forecasts is what the program does with a file of the same values.
#include <cmath>
#include <limits>
#include <thread>

#include "tests/cli_fixture.h"
#include "tests/shared_data.h"
#include "tools/c/samformer.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

class CApi : public ProgramTest {
 protected:
  struct Handle {
    Handle() = default;
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() { samformer_free(get); }
    samformer_forecaster* get = nullptr;
  };

  // Values as float32, their dates, and the file of the same numbers.
  struct Table {
    std::vector<float> values;
    std::vector<std::string> names, dates, ids = {};
    std::int64_t rows() const { return static_cast<std::int64_t>(values.size() / names.size()); }
    std::vector<const char*> name_pointers() const { return pointers(names); }
    std::vector<const char*> date_pointers() const { return pointers(dates); }
    std::vector<const char*> id_pointers() const { return pointers(ids); }

   private:
    static std::vector<const char*> pointers(const std::vector<std::string>& texts) {
      std::vector<const char*> result;
      for (const std::string& text : texts) result.push_back(text.c_str());
      return result;
    }
  };
  Table table(const std::string& file) {
    Table result;
    std::istringstream text(read(file));
    std::string line, cell;
    for (bool head = true; std::getline(text, line); head = false) {
      std::istringstream cells(line);
      for (bool date = true; std::getline(cells, cell, ','); date = false) {
        if (head && !date) result.names.push_back(cell);
        if (!head && date) result.dates.push_back(cell);
        if (!head && !date) result.values.push_back(std::stof(cell));
      }
    }
    return result;
  }
  void write_exactly(const std::string& file, const Table& table, bool dates = true) {
    std::string text = dates ? "date" : "";
    for (const std::string& name : table.names) text += (text.empty() ? "" : ",") + name;
    for (std::size_t i = 0; i < table.values.size(); ++i) {
      const std::size_t d = i % table.names.size();
      if (d == 0) text += '\n' + (dates ? table.dates[i / table.names.size()] + ',' : "");
      text += fmt::format("{}{}", d ? "," : "", static_cast<double>(table.values[i]));
    }
    write(file, text + '\n');
  }

  Table exact(bool dates = true) {
    series("rough.csv", 400, 3);
    Table result = table("rough.csv");
    write_exactly("exact.csv", result, dates);
    return result;
  }
  Json settings(const std::string& out) {
    return {{"out", path(out)}, {"lookback", 24}, {"horizon", 6},     {"epochs", 3},
            {"patience", 0},    {"threads", 1},   {"epoch-steps", 1}, {"overwrite", false}};
  }
  Words words(const std::string& out) {
    return {"train",           "--lookback=24", "--horizon=6",     "--epochs=3", "--patience=0", "--data",
            path("exact.csv"), "--threads=1",   "--epoch-steps=1", "--out",      path(out)};
  }
  // What the interface takes; it points into a Table and to the lists here.
  struct Pointers {
    std::vector<const char*> names, dates, ids;
    samformer_table get;
    const samformer_table* at() const { return &get; }
    explicit Pointers(const Table& t, bool dated = true)
        : names(t.name_pointers()),
          dates(t.date_pointers()),
          ids(t.id_pointers()),
          get{t.values.data(),
              t.rows(),
              std::ssize(names),
              names.data(),
              dated ? dates.data() : nullptr,
              ids.empty() ? nullptr : ids.data()} {}
  };
  static int train(const Table& t, const Json& settings, Handle& handle, bool dates = true,
                   const samformer_watch* watch = nullptr) {
    return samformer_train(Pointers(t, dates).at(), settings.dump().c_str(), watch, &handle.get);
  }
  static Json info(const Handle& handle) {
    const char* text = nullptr;
    EXPECT_EQ(samformer_info(handle.get, &text), 0) << samformer_error();
    return Json::parse(text);
  }
  // As CSV, as `predict` writes it.
  static std::string forecast(const Handle& handle, const Table* t, const Json& settings = Json::object(),
                              const Table* future = nullptr) {
    std::optional<Pointers> table, ahead;
    if (t) table.emplace(*t);
    if (future) ahead.emplace(*future);
    samformer_forecast* result = nullptr;
    EXPECT_EQ(samformer_predict(handle.get, table ? &table->get : nullptr, ahead ? &ahead->get : nullptr,
                                settings.dump().c_str(), &result),
              0)
        << samformer_error();
    if (!result) return "";
    std::string text = result->ids ? "unique_id,date" : "date";
    for (std::int64_t d = 0; d < result->columns; ++d) text += fmt::format(",{}", result->names[d]);
    for (std::int64_t t = 0; t < result->rows; ++t) {
      text += fmt::format("\n{}{}", result->ids ? fmt::format("{},", result->ids[t]) : "", result->dates[t]);
      for (std::int64_t d = 0; d < result->columns; ++d) {
        text += fmt::format(",{}", result->values[t * result->columns + d]);
      }
    }
    samformer_free_forecast(result);
    return text + '\n';
  }
  static std::vector<float> predict(const Handle& handle, const Table& t, bool dates = true) {
    samformer_forecast* result = nullptr;
    EXPECT_EQ(samformer_predict(handle.get, Pointers(t, dates).at(), nullptr, nullptr, &result), 0)
        << samformer_error();
    std::vector<float> values;
    if (result) values.assign(result->values, result->values + result->rows * result->columns);
    samformer_free_forecast(result);
    return values;
  }
  // What a command prints, with numbers as forecast() writes them.
  std::string printed(const Words& words) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::string text, cell;
    for (const char c : outcome.out) {
      if (c != ',' && c != '\n') {
        cell += c;
        continue;
      }
      char* end = nullptr;
      const double number = std::strtod(cell.c_str(), &end);
      text += (*end == 0 && !cell.empty() ? fmt::format("{}", number) : cell) + c;
      cell.clear();
    }
    return text;
  }
  std::vector<float> program_forecast(const std::string& run) {
    std::vector<float> result;
    const Json program = document({"predict", path(run), "--threads=1"});
    for (const Json& row : program["forecast"]) {
      for (const Json& value : row["values"]) result.push_back(static_cast<float>(value.get<double>()));
    }
    return result;
  }
  static void expect_error(int code, int expected, const Words& parts) {
    EXPECT_EQ(code, expected);
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(samformer_error()).find(part), std::string::npos) << samformer_error();
    }
  }
};

TEST_F(CApi, TrainsAndForecastsAsTheProgramDoes) {
  for (const bool dates : {true, false}) {
    SCOPED_TRACE(dates);
    const Table t = exact(dates);
    const std::string ours = dates ? "ours" : "ours_undated", theirs = dates ? "theirs" : "theirs_undated";
    Handle trained, loaded;
    ASSERT_EQ(train(t, settings(ours), trained, dates), 0) << samformer_error();
    EXPECT_STREQ(samformer_error(), "");
    const Json program = document(words(theirs) + (dates ? Words{} : Words{"--no-date"}));
    const Json about = info(trained);
    EXPECT_EQ(about["weights_sha256"], program["weights_sha256"]);
    EXPECT_EQ(about["test_mse"], program["test_mse"]);
    EXPECT_TRUE(about["test_mae"].is_number());
    EXPECT_EQ(about["channels"], Json({"c0", "c1", "c2"}));
    EXPECT_EQ(about["lookback"], 24);

    const std::vector<float> forecast = predict(trained, t, dates);
    ASSERT_EQ(forecast.size(), 18u);
    EXPECT_EQ(forecast, program_forecast(theirs));
    EXPECT_EQ(forecast, program_forecast(ours));  // the program reads what the library has written
    ASSERT_EQ(samformer_load(path(theirs).c_str(), R"({"threads": 1})", &loaded.get), 0) << samformer_error();
    EXPECT_EQ(predict(loaded, t, dates), forecast);  // and the other way round
    EXPECT_EQ(info(loaded)["test_mse"], program["test_mse"]);

    Table last = t;  // the look-back alone
    last.values.erase(last.values.begin(), last.values.end() - 24 * 3);
    last.dates.erase(last.dates.begin(), last.dates.end() - 24);
    EXPECT_EQ(predict(trained, last, dates), forecast);
  }
}

TEST_F(CApi, SettingsAreTheProgramsFlags) {
  const Table t = exact();
  Json asked = settings("seeds");
  asked["seeds"] = {2, 5};
  asked["target"] = {"c1"};
  asked["features"] = "MS";
  asked["lr"] = 0.002;
  asked["refit"] = true;
  Handle trained;
  ASSERT_EQ(train(t, asked, trained), 0) << samformer_error();
  const Json program =
      document(words("program") + Words{"--seeds=2,5", "--target=c1", "--features=MS", "--lr=0.002", "--refit"});
  const Json about = info(trained);
  ASSERT_EQ(about["weights_sha256"].size(), 2u);
  EXPECT_EQ(about["targets"], Json({"c1"}));
  EXPECT_EQ(about["test_mse"], program["mean"]["test_mse"]);
  EXPECT_EQ(predict(trained, t), program_forecast("program"));
}

TEST_F(CApi, OverwritesARunWhereItIsAsked) {
  const Table t = exact();
  for (const bool again : {false, true}) {
    Json asked = settings("run");
    asked["overwrite"] = again;
    Handle trained;
    ASSERT_EQ(train(t, asked, trained), 0) << samformer_error();
  }
  Handle refused;
  expect_error(train(t, settings("run"), refused), 2, {"already holds a run"});
  EXPECT_EQ(refused.get, nullptr);
}

// What is refused leaves the run that was there and every other file of the folder; what is trained its own values.
TEST_F(CApi, NothingIsLost) {
  Table t = exact();
  fs::create_directories(path("run"));
  write("run/series.csv", "mine");
  Json asked = settings("run");
  asked["overwrite"] = true;
  Handle first, refused, second;
  ASSERT_EQ(train(t, asked, first), 0) << samformer_error();
  const std::vector<float> forecast = program_forecast("run");
  const std::set<std::string> before = files("run");
  Table brief = t;
  brief.values.resize(30 * 3), brief.dates.resize(30);
  expect_error(train(brief, asked, refused), 3, {"series-"});
  EXPECT_EQ(files("run"), before);
  EXPECT_EQ(program_forecast("run"), forecast);
  t.values[0] += 1;
  ASSERT_EQ(train(t, asked, second), 0) << samformer_error();
  EXPECT_EQ(files("run").size(), before.size());
  EXPECT_NE(files("run"), before);
  EXPECT_EQ(program_forecast("run"), predict(second, t));
  EXPECT_EQ(read("run/series.csv"), "mine");
}

TEST_F(CApi, Errors) {
  const Table t = exact();
  const auto with = [&](const char* key, const Json& value) {
    Json changed = settings("never");
    changed[key] = value;
    return changed;
  };
  Handle h;
  expect_error(train(t, with("horizn", 6), h), 2, {"unknown key 'horizn'", "horizon"});
  expect_error(train(t, with("data", "a.csv"), h), 2, {"unknown key 'data'"});
  expect_error(train(t, with("rho", -1), h), 2, {"--rho"});
  expect_error(train(t, with("lr", Json::object()), h), 2, {"'lr'"});
  expect_error(train(t, with("out", ""), h), 2, {"no 'out'"});
  expect_error(train(t, Json::array(), h), 2, {"a JSON object"});
  expect_error(train(t, with("horizon", 500), h), 3, {"500"});
  const std::string good = settings("never").dump();
  const auto trains = [&](const samformer_table* table, const char* asked) {
    return samformer_train(table, asked, nullptr, &h.get);
  };
  Pointers p(t);
  expect_error(trains(&p.get, "{"), 3, {"settings"});
  expect_error(trains(nullptr, good.c_str()), 2, {"table is NULL"});
  expect_error(samformer_train(&p.get, good.c_str(), nullptr, nullptr), 2, {"out is NULL"});
  const auto changed = [&](auto samformer_table::*member, auto value) {
    samformer_table table = p.get;
    table.*member = value;
    return trains(&table, good.c_str());
  };
  expect_error(changed(&samformer_table::values, nullptr), 2, {"values is NULL"});
  expect_error(changed(&samformer_table::rows, 0), 2, {"0 rows"});
  expect_error(changed(&samformer_table::names, nullptr), 2, {"names is NULL"});
  Table holed = t, endless = t;
  holed.values[7 * 3 + 1] = std::numeric_limits<float>::quiet_NaN();
  expect_error(train(holed, settings("never"), h), 3, {"series-", "csv:9:3", "missing"});
  endless.values[7 * 3 + 1] = -std::numeric_limits<float>::infinity();
  expect_error(train(endless, settings("never"), h), 3, {"row 8, column 2 ('c1')", "-inf"});
  Table brief = t;
  brief.values.resize(30 * 3), brief.dates.resize(30);
  expect_error(train(brief, settings("brief"), h), 3, {"series-"});
  EXPECT_TRUE(files("brief").empty()) << "what was refused leaves nothing";
  EXPECT_EQ(h.get, nullptr);
  EXPECT_FALSE(exists("never/best.safetensors"));

  expect_error(samformer_load(path("nothing").c_str(), nullptr, &h.get), 3, {"no run"});
  expect_error(samformer_load(nullptr, nullptr, &h.get), 2, {"run is NULL"});
  expect_error(samformer_info(nullptr, nullptr), 2, {"NULL"});
  ASSERT_EQ(train(t, settings("run"), h), 0) << samformer_error();
  samformer_forecast* none = nullptr;
  const auto predicts = [&](const samformer_table* table, const char* asked) {
    return samformer_predict(h.get, table, nullptr, asked, &none);
  };
  samformer_table few = p.get;
  few.rows = 23;
  expect_error(predicts(&few, nullptr), 3, {"24"});
  const Json error = Json::parse(samformer_error_json());
  EXPECT_EQ(error["exit_code"], 3);
  EXPECT_EQ(error["kind"], "data");
  EXPECT_NE(error["message"].get<std::string>().find("24"), std::string::npos);
  expect_error(predicts(&p.get, R"({"horizon": 7})"), 2, {"--horizon 7"});
  expect_error(predicts(&p.get, R"({"out": "a.csv"})"), 2, {"unknown key 'out'"});
  expect_error(samformer_predict(nullptr, &p.get, nullptr, nullptr, &none), 2, {"forecaster is NULL"});
  expect_error(samformer_predict(h.get, &p.get, nullptr, nullptr, nullptr), 2, {"out is NULL"});
  expect_error(samformer_predict(h.get, &p.get, &p.get, nullptr, &none), 3, {"c0", "knows ahead"});
  expect_error(samformer_predict(h.get, Pointers(endless).at(), nullptr, nullptr, &none), 3, {"row 8, column 2"});
  EXPECT_EQ(none, nullptr);
  EXPECT_EQ(predict(h, t).size(), 18u);
  EXPECT_STREQ(samformer_error(), "");
  EXPECT_STREQ(samformer_error_json(), "");
  samformer_free_forecast(nullptr);
  samformer_free(nullptr);
  EXPECT_EQ(samformer_abi(), SAMFORMER_ABI);
}

struct Seen {
  std::vector<Json> epochs = {};
  int stop_after = -1;
  int stop = 0;
};
int see(const char* epoch, void* user) {
  Seen& seen = *static_cast<Seen*>(user);
  seen.epochs.push_back(Json::parse(epoch));
  return std::ssize(seen.epochs) == seen.stop_after;
}

TEST_F(CApi, ProgressMayStopATraining) {
  const Table t = exact();
  Handle whole, stopped;
  Seen all, some{.stop_after = 1};
  const samformer_watch of_all{see, &all, nullptr}, of_some{see, &some, nullptr};
  ASSERT_EQ(train(t, settings("whole"), whole, true, &of_all), 0) << samformer_error();
  ASSERT_EQ(all.epochs.size(), 3u);
  EXPECT_EQ(all.epochs, lines(read("whole/metrics.jsonl")));
  expect_error(train(t, settings("run"), stopped, true, &of_some), 130, {"interrupted in epoch 2"});
  EXPECT_EQ(stopped.get, nullptr);
  EXPECT_EQ(some.epochs.size(), 1u);
  fs::copy(path("run"), path("copy"), fs::copy_options::recursive);
  Handle resumed;
  Seen rest;
  const samformer_watch of_rest{see, &rest, nullptr};
  expect_error(samformer_resume(path("run").c_str(), R"({"lr": 1})", nullptr, &resumed.get), 2, {"--lr"});
  ASSERT_EQ(samformer_resume(path("run").c_str(), R"({"threads": 1})", &of_rest, &resumed.get), 0) << samformer_error();
  EXPECT_EQ(rest.epochs.size(), 2u);
  EXPECT_EQ(info(resumed)["weights_sha256"], info(whole)["weights_sha256"]);
  EXPECT_EQ(document({"train", "--resume", path("copy"), "--threads=1"})["weights_sha256"],
            info(whole)["weights_sha256"]);
  const int stop = 1;
  const samformer_watch at_once{nullptr, nullptr, &stop};
  expect_error(train(t, settings("at_once"), stopped, true, &at_once), 130, {"interrupted in epoch 1"});
}

// Each form of predict's own text, from the same values.
TEST_F(CApi, ForecastsAsPredictPrints) {
  const Table t = exact();
  Handle trained, moved;
  Json asked = settings("run");
  asked["refit"] = true;
  ASSERT_EQ(train(t, asked, trained), 0) << samformer_error();
  const Json with = {{"intervals", {"80", "50"}}, {"calibration", 40}, {"min", 12}, {"decimals", 2}, {"horizon", 4}};
  const std::string expected = printed({"predict", path("run"), "--threads=1", "--intervals=80,50", "--calibration=40",
                                        "--min=12", "--decimals=2", "--horizon=4"});
  EXPECT_NE(expected.find("c0_lo_50"), std::string::npos);
  EXPECT_EQ(forecast(trained, &t, with), expected);
  EXPECT_EQ(forecast(trained, nullptr, with), expected);
  fs::rename(path("run"), path("moved"));  // its values move with it
  ASSERT_EQ(samformer_load(path("moved").c_str(), R"({"threads": 1})", &moved.get), 0) << samformer_error();
  EXPECT_EQ(forecast(moved, nullptr, with), expected);
}

TEST_F(CApi, ManySeries) {
  Table t;
  t.names = {"y"};
  for (const auto& [id, first, last] :
       {std::tuple("b", 10, 190), std::tuple("a", 0, 200), std::tuple("short", 195, 200)}) {
    for (int row = first; row < last; ++row) {
      t.ids.emplace_back(id);
      t.dates.push_back(hourly(24 * row).substr(0, 10));
      t.values.push_back(static_cast<float>(20 + 3 * (row % 7) + (row * 7919 % 13) / 13.0));
    }
  }
  Handle panel, channels;
  Json asked = settings("panel");
  asked["lookback"] = 14;
  ASSERT_EQ(train(t, asked, panel), 0) << samformer_error();
  const Json with = {{"intervals", {"80"}}};
  const std::string expected = printed({"predict", path("panel"), "--threads=1", "--intervals=80"});
  EXPECT_NE(expected.find("\nshort,2020-07-19,"), std::string::npos) << expected;
  EXPECT_EQ(forecast(panel, &t, with), expected);
  EXPECT_STREQ(
      samformer_warnings(),
      "warning: 1 series ('short') with fewer than the 14 rows that a forecast looks back on: their mean stands "
      "before them\n");
  EXPECT_EQ(forecast(panel, nullptr, with), expected);
  // Series of the same dates are channels, which are forecast in the form they came in.
  Table both = t;
  both.ids.clear(), both.dates.clear(), both.values.clear();
  for (const std::string id : {"a", "b"}) {
    for (int row = 0; row < 160; ++row) {
      both.ids.push_back(id);
      both.dates.push_back(t.dates[180 + row]);
      both.values.push_back(t.values[static_cast<std::size_t>(180 + row)] + (id == "b" ? 5.0F : 0.0F));
    }
  }
  asked["out"] = path("channels");
  ASSERT_EQ(train(both, asked, channels), 0) << samformer_error();
  EXPECT_EQ(info(channels)["channels"], Json({"a", "b"}));
  info(channels);
  EXPECT_STREQ(samformer_warnings(), "");
  EXPECT_EQ(forecast(channels, &both, with), printed({"predict", path("channels"), "--threads=1", "--intervals=80"}));
}

TEST_F(CApi, ColumnsKnownAhead) {
  Table t = exact(), ahead;
  const std::size_t D = t.names.size(), rows = t.dates.size(), H = 6;
  Json asked = settings("run");
  asked["future"] = "c2";
  Handle trained;
  ASSERT_EQ(train(t, asked, trained), 0) << samformer_error();
  EXPECT_EQ(info(trained)["known_ahead"], Json({"c2"}));
  ahead.names = {"c2"};
  std::string file = "date,c2\n";
  for (std::size_t h = 0; h < H; ++h) {
    ahead.dates.push_back(hourly(static_cast<int>(rows + h)));
    ahead.values.push_back(static_cast<float>(30 + h));
    file += fmt::format("{},{}\n", ahead.dates.back(), 30 + h);
  }
  write("ahead.csv", file);
  const std::string expected = printed({"predict", path("run"), "--threads=1", "--future-data", path("ahead.csv")});
  EXPECT_EQ(forecast(trained, &t, Json::object(), &ahead), expected);
  EXPECT_EQ(forecast(trained, nullptr, Json::object(), &ahead), expected);
  samformer_forecast* none = nullptr;
  expect_error(samformer_predict(trained.get, nullptr, nullptr, nullptr, &none), 3, {"'c2'", "step 1 of 6"});
  for (std::size_t h = 0; h < H; ++h) {  // the same as rows of the table
    t.dates.push_back(ahead.dates[h]);
    for (std::size_t d = 0; d < D; ++d) {
      t.values.push_back(d == 2 ? ahead.values[h] : -std::numeric_limits<float>::quiet_NaN());
    }
  }
  EXPECT_EQ(forecast(trained, &t), expected);
}

TEST_F(CApi, Backtest) {
  const Table t = exact();
  Json asked = settings("ours");
  asked["origins"] = 4;
  asked["refits"] = "every:2";
  asked["intervals"] = "50";
  const auto backtest = [&](Seen* seen) {
    const samformer_watch watch{see, seen, nullptr};
    const char* json = nullptr;
    const int code = samformer_backtest(Pointers(t).at(), asked.dump().c_str(), &watch, &json);
    return std::pair(code, code == 0 ? Json::parse(json) : Json());
  };
  Seen stopped{.stop_after = 1}, all;
  expect_error(backtest(&stopped).first, 130, {"interrupted in epoch 2"});
  EXPECT_EQ(files("ours/origins").size(), 1u) << "the second training does not begin";
  const auto [code, ours] = backtest(&all);
  ASSERT_EQ(code, 0) << samformer_error();
  EXPECT_EQ(all.epochs.size(), 5u) << "it goes on where it was stopped";
  Words program = words("theirs");
  program[0] = "backtest";
  const Json theirs = document(program + Words{"--origins=4", "--refits=every:2", "--intervals=50"});
  EXPECT_EQ(read("ours/forecasts.csv"), read("theirs/forecasts.csv"));
  for (const char* field : {"test_mse", "test_mae", "origins", "intervals", "diebold_mariano", "baselines"}) {
    EXPECT_EQ(ours[field], theirs[field]) << field;
  }
  asked["jobs"] = 2;
  expect_error(backtest(&all).first, 2, {"unknown key 'jobs'"});
}

TEST_F(CApi, TwoThreadsDoNotMeet) {
  const Table t = exact();
  Handle alone, both[2];
  ASSERT_EQ(train(t, settings("alone"), alone), 0) << samformer_error();
  const std::vector<float> expected = predict(alone, t);
  std::vector<float> got[2];
  std::string errors[2];
  const auto work = [&](int i) {
    Json asked = settings(fmt::format("both{}", i));
    asked["threads"] = 2;
    if (train(t, asked, both[i]) == 0) {
      for (int k = 0; k < 3; ++k) got[i] = predict(both[i], t);
    }
    Handle none;
    samformer_load(path(fmt::format("none{}", i)).c_str(), nullptr, &none.get);
    errors[i] = samformer_error();
  };
  std::thread first(work, 0), second(work, 1);
  first.join(), second.join();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(got[i], expected);
    EXPECT_NE(errors[i].find(fmt::format("none{}", i)), std::string::npos) << errors[i];
  }
  EXPECT_STREQ(samformer_error(), "");  // of this thread's last call
}

TEST_F(CApi, Etth1) {
  SAMFORMER_REQUIRE_SHARED_DATA("data/ETTh1.csv");
  const std::string file = shared_data("data/ETTh1.csv").string();
  write("etth1.csv", read_file(file));
  const Table t = table("etth1.csv");
  Handle trained;
  ASSERT_EQ(train(t,
                  {{"out", path("ours")},
                   {"split", "ett-hour"},
                   {"horizon", 96},
                   {"epochs", 1},
                   {"epoch-steps", 2},
                   {"no-test", true}},
                  trained),
            0)
      << samformer_error();
  const Json program = document(
      {"train", "--data", file, "--horizon=96", "--epochs=1", "--epoch-steps=2", "--no-test", "--out", path("theirs")});
  EXPECT_EQ(info(trained)["weights_sha256"], program["weights_sha256"]);
  EXPECT_EQ(predict(trained, t), program_forecast("theirs"));
}

}  // namespace
}  // namespace samformer
