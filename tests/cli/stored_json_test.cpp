// What is read back from a run's folder, with every key and value of real files changed: a reader takes it, or refuses
// it with Error(Exit::data), file, line and hint. Anything else (another exception, a crash) fails.
#include "tools/run/stored_json.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/cli_fixture.h"
#include "tools/report/page.h"
#include "tools/run/result.h"
#include "tools/run/runner.h"
#include "tools/run/tracking.h"

namespace samformer::tools {
namespace {

using samformer::operator+;

Error error_of(const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(Exit::internal, "");
}
Error refusal(
    const std::string& text, const std::function<void(const StoredJson&)>& use = [](const StoredJson&) {}) {
  return error_of([&] { use(StoredJson(text, {"a.json", "do this"})); });
}

TEST(StoredJson, NamesThePlaceOfAValue) {
  const std::string text = "{\"a\": 1,\n \"runs\": [\n  {\"n\": 2},\n  {\"n\":\n 3\n}]}";
  const StoredJson json(text, {"a.json", "do this"});
  const Error e = error_of([&] { json.at("runs").list()[1].at("n").text(); });
  EXPECT_EQ(e.code, Exit::data);
  EXPECT_STREQ(e.what(), "damaged: 'runs[1].n' is 3, a text was expected");
  EXPECT_EQ(e.file, "a.json");
  EXPECT_EQ(e.line, 5);
  EXPECT_EQ(e.advice, "do this");
  EXPECT_EQ(error_of([&] { json.at("runs").list()[0].at("m"); }).line, 3);
  const StoredJson part("[1]", {"a.safetensors", "do this", 1, "metadata 'x'"});
  const Error of_part = error_of([&] { part.list()[0].flag(); });
  EXPECT_STREQ(of_part.what(), "damaged: '[0]' of metadata 'x' is 1, true or false was expected");
  EXPECT_EQ(of_part.line, 0);
}

TEST(StoredJson, GivesWhatWasAskedFor) {
  const StoredJson json(R"({"n": -3, "x": 0.5, "t": "é", "f": true, "none": null, "big": 18446744073709551615})",
                        {"a.json", "do this"});
  EXPECT_EQ(json.at("n").whole(-3), -3);
  EXPECT_EQ(json.at("x").number(), 0.5);
  EXPECT_EQ(json.at("n").number(), -3);
  EXPECT_EQ(json.at("t").text(), "é");
  EXPECT_TRUE(json.at("f").flag());
  EXPECT_TRUE(std::isnan(json.at("none").number_or_nan()));
  EXPECT_FALSE(json.find("no").has_value());
  EXPECT_TRUE(json.find("none")->is_null());
  for (const char* key : {"n", "x", "t", "f", "none", "big"}) {
    const StoredJson value = json.at(key);
    EXPECT_EQ(error_of([&] { value.whole(); }).code, Exit::data) << key;
    EXPECT_EQ(error_of([&] { value.list(); }).code, Exit::data) << key;
    EXPECT_EQ(error_of([&] { value.at("x"); }).code, Exit::data) << key;
  }
  EXPECT_EQ(error_of([&] { json.at("n").whole(-2, 5); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { json.at("f").number(); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { json.at("none").number(); }).code, Exit::data);
}

TEST(StoredJson, RefusesWhatIsNoJson) {
  std::string keys = "{\"k\":0";
  for (int i = 0; i < 2000; ++i) keys += fmt::format(",\"{}\":0", i);
  const std::string bad[] = {"",
                             "\n\n{",
                             "{\"a\": }",
                             "{\"a\": 1} x",
                             "{\"a\": \"\xff\"}",
                             "{\"a\": 1e999}",
                             "{\"a\": 1, \"b\": {\"c\": 1}, \"a\": 2}",
                             std::string("{}\0{}", 5),
                             keys + "}",
                             std::string(100000, '['),
                             std::string(33, '[') + std::string(33, ']')};
  for (const std::string& text : bad) {
    const Error e = refusal(text);
    EXPECT_EQ(e.code, Exit::data) << text.substr(0, 40);
    EXPECT_EQ(e.line, 1 + std::ranges::count(text, '\n')) << text.substr(0, 40);
  }
  EXPECT_STREQ(refusal(bad[6]).what(), "damaged: \"a\" is there twice");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  EXPECT_EQ(refusal(deep).code, Exit::data);
  EXPECT_EQ(StoredJson(std::string(32, '[') + std::string(32, ']'), {"a.json", ""}).list().size(), 1u);
}

TEST(StoredJson, LinesButTheTornLast) {
  const ScratchFolder scratch;
  const auto write = [&](const std::string& text) { std::ofstream(scratch / "a.jsonl") << text; };
  const auto read = [&] { return read_json_lines(scratch / "a.jsonl", "do this"); };
  EXPECT_TRUE(read().empty());
  write("{\"a\":1}\n{\"a\":2}\n{\"a\"");
  ASSERT_EQ(read().size(), 2u);
  EXPECT_EQ(error_of([&] { read()[1].at("b"); }).line, 2);
  write("{\"a\":1}\n{\"a\"\n{\"a\":2}\n");
  EXPECT_EQ(error_of([&] { read(); }).line, 2);
}

class Mutated : public ProgramTest {
 protected:
  // `whole` with one key or value of it changed, and the name of the change; `path` leads to `value`, which is in it.
  template <class Visit>
  static void each(Json& whole, Json& value, const std::string& path, const Visit& visit) {
    static const Json others = [] {
      Json deep = 1;
      for (int i = 0; i < 40; ++i) deep = Json::array({deep});
      return Json{nullptr, true, 7, -1, 1.5, UINT64_MAX, "x", Json::array(), Json::object(), deep};
    }();
    const auto with = [&](Json other, const std::string& what) {
      std::swap(value, other);
      visit(whole, path + " " + what);
      std::swap(value, other);
    };
    for (const Json& other : others) with(other, "= " + other.dump().substr(0, 10));
    if (value.is_object()) {
      const Json object = value;
      for (const auto& [key, item] : object.items()) {
        Json without = object;
        without.erase(key);
        with(without, "without " + key);
      }
    } else if (value.is_array() && !value.empty()) {
      Json more = value;
      more.push_back(value[0]);
      with(more, "and its first again");
    }
    if (!value.is_structured()) return;
    const bool alike = value.is_array() && value.size() > 2;  // one of them is enough
    for (auto item = value.begin(); item != value.end(); item = alike ? value.end() : std::next(item)) {
      each(whole, *item, path + "/" + (value.is_object() ? item.key() : "[]"), visit);
    }
  }

  // `read` of the file with every change; `line` > 0: of that line of it.
  void all_changes(const std::string& name, const std::function<void()>& read, std::size_t line = 0) {
    const std::string text = this->read(name);
    std::vector<std::string> rows{text};
    if (line > 0) {
      std::istringstream stream(text);
      rows.clear();
      for (std::string row; std::getline(stream, row);) rows.push_back(row);
    }
    const std::size_t changed = line > 0 ? line - 1 : 0;
    Json whole = Json::parse(rows.at(changed));
    EXPECT_NO_THROW(read()) << name;
    int taken = 0, refused = 0;
    each(whole, whole, "", [&](const Json& other, const std::string& what) {
      std::vector<std::string> now = rows;
      now[changed] = other.dump();
      std::string again;
      for (const std::string& row : now) again += row + "\n";
      write(name, again);
      refused += !accepted(read, name, what);
      ++taken;
    });
    write(name, text);
    EXPECT_GT(refused, 10) << name;
    EXPECT_LT(refused, taken) << name;
  }

  bool accepted(const std::function<void()>& read, const std::string& name, const std::string& what) {
    try {
      read();
      return true;
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::data) << name << ": " << what << ": " << e.what();
      EXPECT_EQ(e.file, path(name)) << what << ": " << e.what();
      EXPECT_TRUE(e.line > 0 || name.ends_with(".safetensors")) << what << ": " << e.what();
      EXPECT_FALSE(e.advice.empty()) << what << ": " << e.what();
    } catch (const std::exception& e) {
      ADD_FAILURE() << name << ": " << what << ": " << e.what();
    }
    return false;
  }

  static void show(const Json& document) {
    std::ostringstream out;
    print_result(out, document);
    print(document, out);
  }
};

TEST_F(Mutated, ResultOfARun) {
  for (const Words& more : {Words{}, Words{"--no-test"}, Words{"--tune"}}) {
    EXPECT_EQ(run(small("run", more + Words{"--overwrite"})).code, 0);
    all_changes("run/result.json", [&] { show(read_result(path("run"), false)); });
  }
}

TEST_F(Mutated, ResultOfSeeds) {
  EXPECT_EQ(run(small("run", {"--seeds", "1,2"})).code, 0);
  all_changes("run/result.json", [&] { show(read_result(path("run"), true)); });
  all_changes("run/seed-1/result.json", [&] {
    const Json one = read_result(path("run/seed-1"), false);
    const Json all = summarise("train", path("run"), {one, one});
    write_seeds_report(path("run"), all);
    show(all);
  });
  EXPECT_EQ(error_of([&] { read_result(path("run"), false); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { read_result(path("run/seed-1"), true); }).code, Exit::data);
}

TEST_F(Mutated, Metrics) {
  EXPECT_EQ(run(small("run", {"--tensorboard", "--refit"})).code, 0);
  Settings settings;
  settings.tensorboard = true;
  for (const std::size_t line : {1, 5}) {
    all_changes(
        "run/metrics.jsonl", [&] { write_tensorboard(path("run"), settings); }, line);
  }
}

TEST_F(Mutated, LedgerOfASweep) {
  Words words = small("s", {"--grid", "rho=0", "--epochs", "1"});
  words[0] = "sweep";
  EXPECT_EQ(run(words).code, 0);
  std::ofstream(path("s/sweep.jsonl"), std::ios::app)
      << R"({"trial":"rho=0.5","seed":1,"status":"failed","exit_code":5,"kind":"diverged","error":"x"})" << '\n';
  const Json header = lines(read("s/sweep.jsonl"))[0];
  const auto use = [&] {
    const Ledger ledger(path("s/sweep.jsonl"), header, {"val_mse", "train_loss"});
    for (const char* name : {"rho=0", "rho=0.5"}) {
      const Json* row = ledger.trial(name, 1);
      if (!row) continue;
      EXPECT_TRUE(row->value("error", "").size() < 100);
      if (row->at("status") != "ok") continue;
      EXPECT_TRUE(row->at("val_mse").is_number() || row->at("val_mse").is_null());
    }
    const Json tested = ledger.tested("rho=0");
    EXPECT_TRUE(tested.is_null() || tested.contains("test_mae_std"));
  };
  for (const std::size_t line : {2, 3, 4}) all_changes("s/sweep.jsonl", use, line);
}

TEST_F(Mutated, LedgerOfAReproduction) {
  series("exchange_rate.csv", 1100, 3);
  EXPECT_EQ(run({"reproduce", "mix", "--data", path("exchange_rate.csv"), "--horizons", "96", "--lookback", "24",
                 "--epochs", "1", "--models", "mix/0", "--seeds", "1", "--out", path("r")})
                .code,
            0);
  const Json header = lines(read("r/reproduce.jsonl"))[0];
  all_changes(
      "r/reproduce.jsonl",
      [&] {
        const Ledger ledger(path("r/reproduce.jsonl"), header, {"test_mse", "test_mae", "baselines"});
        const Json* row = ledger.trial("exchange_rate/96/mix/0", 1);
        if (!row || row->at("status") != "ok") return;
        const Json& baselines = row->at("baselines");
        EXPECT_TRUE(baselines.at("naive").contains("test_mse"));
        EXPECT_TRUE(baselines.at("seasonal_naive").is_null() || baselines["seasonal_naive"].contains("test_mse"));
        EXPECT_TRUE(baselines.value("least_squares", Json()).is_null() ||
                    baselines["least_squares"].contains("test_mse"));
      },
      2);
  for (const char* line : {"[]", "1", "\"x\"", "{}"}) {
    write("r/reproduce.jsonl", std::string(line) + "\n");
    EXPECT_FALSE(accepted([&] { Ledger(path("r/reproduce.jsonl"), header, {}); }, "r/reproduce.jsonl", line));
  }
}

TEST_F(Mutated, CheckpointMetadata) {
  EXPECT_EQ(run(small("run", {"--model", "linear"})).code, 0);
  const std::string name = "run/best.safetensors";
  const auto read = [&] {
    const Checkpoint c = read_checkpoint(path(name));
    EXPECT_EQ(c.targets.size(), 3u);
    EXPECT_GT(*std::ranges::min_element(c.scaler.std), 0);
  };
  read();
  const model::Metadata good = model::Safetensors::open(path(name)).metadata();
  for (const std::string key : {"scaler", "columns", "targets", "splits"}) {
    Json whole = Json::parse(good.at(key));
    each(whole, whole, "", [&](const Json& other, const std::string& what) {
      rewrite(name, [&](model::Metadata& metadata, auto&) { metadata[key] = other.dump(); });
      accepted(read, name, key + what);
    });
    rewrite(name, [&](model::Metadata& metadata, auto&) { metadata[key] = good.at(key); });
  }
}

}  // namespace
}  // namespace samformer::tools
