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
    std::vector<std::string> names, dates;
    std::int64_t rows() const { return static_cast<std::int64_t>(values.size() / names.size()); }
    std::vector<const char*> name_pointers() const { return pointers(names); }
    std::vector<const char*> date_pointers() const { return pointers(dates); }

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
  static int train(const Table& t, const Json& settings, Handle& handle, bool dates = true,
                   samformer_progress progress = nullptr, void* user = nullptr) {
    const auto names = t.name_pointers(), at = t.date_pointers();
    return samformer_train(t.values.data(), t.rows(), static_cast<std::int64_t>(names.size()), names.data(),
                           dates ? at.data() : nullptr, settings.dump().c_str(), progress, user, &handle.get);
  }
  static Json info(const Handle& handle) {
    const char* text = nullptr;
    EXPECT_EQ(samformer_info(handle.get, &text), 0) << samformer_error();
    return Json::parse(text);
  }
  static std::vector<float> predict(const Handle& handle, const Table& t, bool dates = true) {
    const Json about = info(handle);
    std::vector<float> result(about["horizon"].get<std::size_t>() * about["targets"].size());
    const auto at = t.date_pointers();
    EXPECT_EQ(samformer_predict(handle.get, t.values.data(), t.rows(), dates ? at.data() : nullptr, result.data(),
                                static_cast<std::int64_t>(result.size())),
              0)
        << samformer_error();
    return result;
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
  const auto names = t.name_pointers();
  const std::string good = settings("never").dump();
  expect_error(samformer_train(t.values.data(), 400, 3, names.data(), nullptr, "{", nullptr, nullptr, &h.get), 3,
               {"settings"});
  expect_error(samformer_train(nullptr, 400, 3, names.data(), nullptr, good.c_str(), nullptr, nullptr, &h.get), 2,
               {"values is NULL"});
  expect_error(samformer_train(t.values.data(), 0, 3, names.data(), nullptr, good.c_str(), nullptr, nullptr, &h.get), 2,
               {"0 rows"});
  expect_error(samformer_train(t.values.data(), 400, 3, nullptr, nullptr, good.c_str(), nullptr, nullptr, &h.get), 2,
               {"names is NULL"});
  expect_error(samformer_train(t.values.data(), 400, 3, names.data(), nullptr, good.c_str(), nullptr, nullptr, nullptr),
               2, {"out is NULL"});
  Table holed = t;
  holed.values[7 * 3 + 1] = std::numeric_limits<float>::quiet_NaN();
  expect_error(train(holed, settings("never"), h), 3, {"row 8, column 2 ('c1')", "nan"});
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
  const auto dates = t.date_pointers();
  float forecast[18];
  const auto predicts = [&](std::int64_t rows, float* to, std::int64_t size) {
    return samformer_predict(h.get, t.values.data(), rows, dates.data(), to, size);
  };
  expect_error(predicts(400, forecast, 17), 2, {"room for 17"});
  expect_error(predicts(400, nullptr, 18), 2, {"forecast is NULL"});
  expect_error(predicts(23, forecast, 18), 3, {"24"});
  expect_error(samformer_predict(nullptr, t.values.data(), 400, nullptr, forecast, 18), 2, {"forecaster is NULL"});
  expect_error(samformer_predict(h.get, holed.values.data(), 400, nullptr, forecast, 18), 3, {"row 8, column 2"});
  EXPECT_EQ(predicts(400, forecast, 18), 0);
  EXPECT_STREQ(samformer_error(), "");
  samformer_free(nullptr);
  EXPECT_EQ(samformer_abi(), SAMFORMER_ABI);
}

struct Seen {
  int steps = 0;
  std::vector<Json> epochs = {};
  int stop_after;
};
int watch(const char* epoch, void* user) {
  Seen& seen = *static_cast<Seen*>(user);
  if (epoch) {
    seen.epochs.push_back(Json::parse(epoch));
  } else {
    ++seen.steps;
  }
  return std::ssize(seen.epochs) == seen.stop_after;
}

TEST_F(CApi, ProgressMayStopATraining) {
  const Table t = exact();
  Handle whole, stopped;
  Seen all{.stop_after = -1}, some{.stop_after = 1};
  ASSERT_EQ(train(t, settings("whole"), whole, true, watch, &all), 0) << samformer_error();
  ASSERT_EQ(all.epochs.size(), 3u);
  EXPECT_GE(all.steps, 3);
  EXPECT_EQ(all.epochs, lines(read("whole/metrics.jsonl")));
  expect_error(train(t, settings("run"), stopped, true, watch, &some), 130, {"interrupted in epoch 2"});
  EXPECT_EQ(stopped.get, nullptr);
  EXPECT_EQ(some.epochs.size(), 1u);
  const Json resumed = document({"train", "--resume", path("run"), "--threads=1"});
  EXPECT_EQ(resumed["weights_sha256"], info(whole)["weights_sha256"]);
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
