// data check, data synth, data list and data fetch from outside: what they print, as text and JSON, and exit codes.
#include <chrono>
#include <cmath>

#include "model/data/synth.h"
#include "tests/cli_fixture.h"
#include "tests/compressed.h"
#include "tests/shared_data.h"

namespace samformer {
namespace {

// Daily rows of three channels; `row` may change a row's cells, date first.
using Cells = Words;
std::string daily(int rows, const std::function<void(int, Cells&)>& change = {}) {
  std::string text = "date,a,b,c\n";
  for (int t = 0; t < rows; ++t) {
    const std::chrono::year_month_day day(std::chrono::sys_days(std::chrono::year{2021} / 1 / 1) +
                                          std::chrono::days{t});
    Cells cells = {fmt::format("2021-{:02}-{:02}", unsigned(day.month()), unsigned(day.day())),
                   fmt::format("{}", 10 + t % 7), fmt::format("{:.2f}", std::sin(0.9 * t)), fmt::format("{}", t)};
    if (change) change(t, cells);
    for (std::size_t i = 0; i < cells.size(); ++i) text += (i ? "," : "") + cells[i];
    text += '\n';
  }
  return text;
}

class DataCheck : public ProgramTest {
 protected:
  static Words words(const std::string& file, const Words& flags = {}) {
    return Words{"data", "check", file, "--lookback", "8", "--horizon", "4"} + flags;
  }
  // Runs it as text and as JSON, whose codes must agree and be those of `accepted`; returns the document.
  Json check(const std::string& text, const Words& flags = {}) {
    write("a.csv", text);
    const Outcome plain = run(words("a.csv", flags));
    text_ = plain.out;
    const Outcome json = run(words("a.csv", flags + Words{"--json"}));
    Json document = json.json();
    EXPECT_TRUE(document.is_object()) << json.out << json.err;
    if (!document.is_object()) return {};
    EXPECT_EQ(plain.err + json.err, "");
    EXPECT_EQ(plain.code, json.code);
    EXPECT_EQ(json.code, document.at("accepted").get<bool>() ? 0 : 3);
    EXPECT_EQ(document.contains("error"), json.code != 0);
    EXPECT_NE(text_.find(json.code == 0 ? "train would accept" : "train would refuse"), std::string::npos) << text_;
    // Each finding is on stdout with its place and its hint.
    for (const Json& finding : document.at("findings")) {
      std::string place = finding.at("file").get<std::string>();
      for (const char* part : {"line", "column"}) {
        if (!finding.at(part).is_null()) place += fmt::format(":{}", finding.at(part).get<int>());
      }
      EXPECT_NE(text_.find(place + ": " + finding.at("message").get<std::string>()), std::string::npos) << place;
      EXPECT_FALSE(finding.at("hint").is_null()) << finding;
      EXPECT_NE(text_.find("  hint: " + finding.value("hint", "?")), std::string::npos);
    }
    return document;
  }
  static Json finding(const Json& document, const std::string& kind) {
    for (const Json& one : document.value("findings", Json::array())) {
      if (one.at("kind") == kind) return one;
    }
    ADD_FAILURE() << "no finding of kind " << kind << " in " << document;
    return {};
  }
  // One finding of this kind, at this place; 0: no line or column.
  void expect_finding(const std::string& text, const std::string& kind, bool refuse, int line, int column,
                      const Words& flags = {}) {
    SCOPED_TRACE(kind);
    const Json document = check(text, flags);
    const Json one = finding(document, kind);
    if (!one.is_object()) return;
    EXPECT_EQ(one.at("severity"), refuse ? "refuse" : "warn");
    EXPECT_EQ(one.at("file"), "a.csv");
    EXPECT_EQ(one.at("line"), line ? Json(line) : Json());
    EXPECT_EQ(one.at("column"), column ? Json(column) : Json());
    EXPECT_EQ(document.at("accepted"), !refuse);
    if (refuse) {
      EXPECT_EQ(document.at("error").at("exit_code"), 3);
      EXPECT_EQ(document.at("error").at("kind"), "data");
      EXPECT_EQ(document.at("error").at("message"), one.at("message"));
      EXPECT_EQ(document.at("error").at("line"), one.at("line"));
    }
  }

  std::string text_;
};

TEST_F(DataCheck, ACleanFile) {
  const std::string text = daily(140);
  const Json document = check(text);
  EXPECT_EQ(document.at("schema_version"), 1);
  EXPECT_EQ(document.at("version"), SAMFORMER_VERSION);
  EXPECT_EQ(document.at("command"), "data check");
  EXPECT_EQ(document.at("file"), "a.csv");
  EXPECT_EQ(document.at("sha256"), sha256(bytes_of(text)));
  EXPECT_EQ(document.at("rows"), 140);
  EXPECT_EQ(document.at("channels"), Json({"a", "b", "c"}));
  EXPECT_EQ(document.at("targets"), Json({"a", "b", "c"}));
  EXPECT_EQ(document.at("first_date"), "2021-01-01");
  EXPECT_EQ(document.at("last_date"), "2021-05-20");
  EXPECT_EQ(document.at("accepted"), true);
  // int(0.7 140) = 98 (97.99999999999999 in double: 97), 140 - int(0.2 140) = 112.
  EXPECT_EQ(document.at("split"), "ratio:0.7,0.1,0.2");
  const Json& splits = document.at("splits");
  EXPECT_EQ(splits.at("train").at("first_row"), 1);
  EXPECT_EQ(splits.at("train").at("last_row"), static_cast<int>(0.7 * 140));
  EXPECT_EQ(splits.at("val").at("first_row"), static_cast<int>(0.7 * 140) + 1);
  EXPECT_EQ(splits.at("test").at("first_row"), 113);
  EXPECT_EQ(splits.at("test").at("last_row"), 140);
  EXPECT_EQ(splits.at("test").at("first_date"), "2021-04-23");
  EXPECT_EQ(splits.at("test").at("last_date"), "2021-05-20");
  EXPECT_EQ(document.at("train_windows"), static_cast<int>(0.7 * 140) - 8 - 4 + 1);
  EXPECT_EQ(document.at("test_windows"), 28 - 4 + 1);
  // Text: a table, then the next command with the flags of this one.
  for (const char* part : {"rows          140", "3: a, b, c", "2021-01-01 to 2021-05-20"}) {
    EXPECT_NE(text_.find(part), std::string::npos) << part << "\n" << text_;
  }
  EXPECT_TRUE(text_.ends_with("\nsamformer train --data a.csv --lookback 8 --horizon 4\n")) << text_;
}

TEST_F(DataCheck, StepIsInferredOrGiven) {
  const auto hourly = [](int t, Cells& cells) { cells[0] = fmt::format("2021-01-{:02} {:02}:00", 1 + t / 24, t % 24); };
  EXPECT_EQ(check(daily(120, hourly)).at("step"), "1 hour");
  EXPECT_EQ(check(daily(120, hourly), {"--freq", "h"}).at("step"), "1 hour");
  const Json undated = check(daily(120), {"--no-date", "--drop", "date"});
  EXPECT_EQ(undated.at("step"), nullptr);
  EXPECT_EQ(undated.at("first_date"), nullptr);
  EXPECT_EQ(undated.at("splits").at("train").at("first_date"), nullptr);
}

TEST_F(DataCheck, WhatTrainRefuses) {
  const auto cell = [](int row, std::size_t column, const std::string& text) {
    return daily(120, [=](int t, Cells& cells) {
      if (t == row) cells[column] = text;
    });
  };
  expect_finding(cell(3, 1, ""), "missing", true, 5, 2);
  expect_finding(cell(3, 2, "NaN"), "missing", true, 5, 3);
  expect_finding(cell(4, 2, "inf"), "infinite", true, 6, 3);
  expect_finding(cell(5, 3, "1.2.3"), "unparsable", true, 7, 4);
  expect_finding(cell(6, 0, "31/12/2021"), "date", true, 8, 1);
  expect_finding(daily(120,
                       [](int t, Cells& c) {
                         if (t == 7) c.pop_back();
                       }),
                 "ragged", true, 9, 3);
  expect_finding(daily(120,
                       [](int t, Cells& c) {
                         if (t == 8) c[0] = "2020-01-01";
                       }),
                 "date-order", true, 10, 1);
  expect_finding(daily(120, [](int, Cells& c) { c[2] = "blue"; }), "text-column", true, 2, 3);
  EXPECT_NE(text_.find("--drop b"), std::string::npos) << text_;
  expect_finding(daily(20), "too-short", true, 0, 0);
}

TEST_F(DataCheck, WhatTrainWarnsOf) {
  const auto dated = [](int row, const std::string& date) {
    return daily(110, [=](int t, Cells& cells) {
      cells[0] = fmt::format("2021-01-01 {:02}:{:02}", t / 60, t % 60);
      if (t == row) cells[0] = date;
    });
  };
  expect_finding(dated(109, "2021-01-01 01:59"), "gap", false, 111, 1);
  expect_finding(dated(5, "2021-01-01 00:04"), "repeated", false, 7, 1);
  expect_finding(dated(5, "2021-01-01 00:05:30"), "irregular", false, 7, 1);
  expect_finding(daily(110,
                       [](int t, Cells& c) {
                         const int months = t * (t + 1) / 2;  // no two steps agree
                         c[0] = fmt::format("{}-{:02}-01", 1500 + months / 12, 1 + months % 12);
                       }),
                 "step", false, 3, 1);
  expect_finding(daily(110, [](int, Cells& c) { c[3] = "5"; }), "constant", false, 2, 4);
  expect_finding(daily(110,
                       [](int t, Cells& c) {
                         if (t == 9) c[2] = "-999";
                       }),
                 "sentinel", false, 11, 3);
}

TEST_F(DataCheck, EverythingIsReportedAtOnce) {
  const Json document = check(daily(20, [](int t, Cells& cells) {
    cells[3] = "5";
    if (t == 3 || t == 4) cells[1] = "";
    if (t == 6) cells[2] = "x";
  }));
  EXPECT_EQ(finding(document, "missing").at("count"), 2);
  for (const char* kind : {"constant", "missing", "unparsable", "too-short"}) finding(document, kind);
  EXPECT_NE(text_.find("3 reasons to refuse, "), std::string::npos) << text_;
}

TEST_F(DataCheck, NothingToRead) {
  for (const auto& [name, text] :
       std::vector<std::pair<std::string, std::string>>{{"empty.csv", ""},
                                                        {"header.csv", "date,a\n"},
                                                        {"twice.csv", "date,a,a\n2021-01-01,1,2\n"},
                                                        {"bytes.csv", std::string("PK\x03\x04\0\0\0", 7)}}) {
    write(name, text);
  }
  for (const char* name : {"empty.csv", "header.csv", "twice.csv", "bytes.csv", "./absent.csv", "absent", "."}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(run(words(name)).code, 3);
    const Outcome json = run(words(name, {"--json"}));
    EXPECT_EQ(json.code, 3);
    const Json document = json.json();
    ASSERT_TRUE(document.is_object()) << json.out << json.err;
    EXPECT_EQ(document.at("accepted"), false);
    EXPECT_EQ(document.at("rows"), nullptr);
    EXPECT_EQ(document.at("findings").size(), 1u);
    EXPECT_EQ(document.at("error").at("exit_code"), 3);
    EXPECT_FALSE(document.at("error").at("message").get<std::string>().empty());
  }
}

// 60 rows are split into 42, 6 and 12. What the message says fits does fit, one more does not.
TEST_F(DataCheck, ATooShortFileSaysWhatWouldFit) {
  const auto check_sizes = [&](int lookback, int horizon, int rows) {
    write("a.csv", daily(rows));
    return run(
        {"data", "check", "a.csv", "--lookback", fmt::format("{}", lookback), "--horizon", fmt::format("{}", horizon)});
  };
  const auto windows = [&](int lookback, int horizon, int rows) {
    write("a.csv", daily(rows));
    const Outcome outcome = run({"data", "check", "a.csv", "--lookback", fmt::format("{}", lookback), "--horizon",
                                 fmt::format("{}", horizon), "--json"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json().at("train_windows").get<int>();
  };
  const auto says = [&](int lookback, int horizon, int rows, const std::string& part) {
    const Outcome refused = check_sizes(lookback, horizon, rows);
    EXPECT_EQ(refused.code, 3);
    EXPECT_NE(refused.out.find(part), std::string::npos) << refused.out;
  };
  says(8, 10, 60, "the largest horizon at look-back 8 is 3, no look-back fits horizon 10");
  EXPECT_EQ(windows(8, 3, 60), 32);
  says(40, 4, 60, "no horizon fits look-back 40, the largest look-back at horizon 4 is 7");
  EXPECT_EQ(windows(7, 4, 60), 32);
  says(40, 10, 60, "no horizon fits look-back 40, no look-back fits horizon 10; --lookback 8 --horizon 6 fit");
  EXPECT_EQ(check_sizes(8, 6, 60).code, 0);
  EXPECT_EQ(check_sizes(39, 4, 60).code, 3);
  // int(0.7 n) is 44 from n = 63 on.
  says(40, 4, 60, "too few rows: 60, and look-back 40 with horizon 4 needs 63");
  EXPECT_EQ(check_sizes(40, 4, 63).code, 0);
  EXPECT_EQ(check_sizes(40, 4, 62).code, 3);
}

TEST_F(DataCheck, FlagsAreThoseOfTrain) {
  const std::string text = daily(120);
  const Json targets = check(text, {"--features", "S", "--target", "b"});
  EXPECT_EQ(targets.at("channels"), Json({"a", "b", "c"}));
  EXPECT_EQ(targets.at("targets"), Json({"b"}));
  EXPECT_EQ(check(text, {"--columns", "c,a"}).at("channels"), Json({"c", "a"}));
  EXPECT_EQ(check(text, {"--drop", "a"}).at("channels"), Json({"b", "c"}));
  EXPECT_EQ(check(text, {"--split", "rows:60,20,40"}).at("splits").at("test").at("first_row"), 81);
  EXPECT_EQ(check(text, {"--split", "rows:60,20,400"}).at("accepted"), false);
  EXPECT_EQ(finding(check(text, {"--split", "ett-hour"}), "too-short").at("severity"), "refuse");
  check(text, {"--split", "dates:2021-03-01,2021-04-01"});
  EXPECT_TRUE(text_.ends_with("--split dates:2021-03-01,2021-04-01 --lookback 8 --horizon 4\n")) << text_;
  // What the flags ask and the file does not have is the flags' fault.
  for (const Words& flags : std::vector<Words>{
           {"--features", "S", "--target", "z"}, {"--columns", "z"}, {"--split", "halves"}, {"--target", "a"}}) {
    const Outcome outcome = run(words("a.csv", flags));
    EXPECT_EQ(outcome.code, 2) << flags[0] << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(DataCheck, FileIsAPathANameOrStdin) {
  const std::filesystem::path named = scratch_ / "data";
  std::filesystem::create_directory(named);
  std::ofstream(named / "sales.csv") << daily(130);
  const Outcome by_name = run(words("sales", {"--json"}));
  EXPECT_EQ(by_name.code, 0) << by_name.err;
  EXPECT_EQ(by_name.json().at("rows"), 130);
  EXPECT_EQ(by_name.json().at("file"), "data/sales.csv");
  const Outcome from_pipe = run(words("-", {"--json"}), {.input = daily(120)});
  EXPECT_EQ(from_pipe.code, 0) << from_pipe.err;
  EXPECT_EQ(from_pipe.json().at("rows"), 120);
  const Outcome built_in = run({"data", "check", "seasonal", "--json"});
  EXPECT_EQ(built_in.code, 0) << built_in.err;
  EXPECT_EQ(built_in.json().at("rows"), 6000);
  EXPECT_EQ(built_in.json().at("step"), "1 hour");
}

TEST_F(DataCheck, CompressedFilesAreReadAsThePlainOne) {
  std::filesystem::create_directories(scratch_ / "data");
  write("plain.csv", daily(120));
  for (const auto& [tool, extension, pack] :
       {std::tuple(std::string("gzip"), ".gz", &gzip_of), {"zstd", ".zst", &zstd_of}}) {
    const std::string sales = std::string("data/sales.csv") + extension,
                      ett = std::string("data/ETTm1.csv") + extension;
    const std::string bytes = pack(read("plain.csv"));
    write(sales, bytes);
    const Json named = run(words("sales", {"--json"})).json();
    EXPECT_EQ(named.at("file"), sales);
    EXPECT_EQ(named.at("sha256"), sha256(bytes_of(bytes)));
    EXPECT_EQ(named.at("splits"), run(words("./plain.csv", {"--json"})).json().at("splits"));
    EXPECT_EQ(run(words("-", {"--json"}), {.input = bytes}).json().at("sha256"), named.at("sha256"));
    // The split is chosen by the name of the series: ETTm1's needs more rows.
    std::filesystem::rename(path(sales), path(ett));
    EXPECT_EQ(finding(run(words(ett, {"--json"})).json(), "too-short").at("severity"), "refuse");
    std::filesystem::remove(path(ett));
    write("cut.csv", bytes.substr(0, 200));
    const Outcome cut = run(words("./cut.csv"));
    EXPECT_EQ(cut.code, 3);
    EXPECT_NE(cut.out.find("cut " + tool + " data"), std::string::npos) << cut.out << cut.err;
  }
}

TEST_F(DataCheck, WhatIsSkippedIsNamed) {
  std::string text = daily(120);
  text = "Plant 7\n\n" + text.substr(0, 11) + ",kW,kW,kW\n" + text.substr(11) + "Total,1,2,3\n";
  const Json document = check(text);
  EXPECT_EQ(document.at("rows"), 120);
  EXPECT_EQ(std::ranges::count(document.at("findings"), "skipped", [](const Json& f) { return f.at("kind"); }), 2);
  EXPECT_NE(text_.find("a.csv:1: line 1 is no part of the table and skipped ('Plant 7')"), std::string::npos) << text_;
  EXPECT_NE(text_.find("a.csv:4: lines 4 and 125 are no part of the table"), std::string::npos) << text_;
  expect_finding("store,date,y\nA,2020-01-01,1\nA,2020-01-02,2\nB,2020-01-01,3\nB,2020-01-02,4\n", "unreadable", true,
                 1, 0);
}

TEST_F(DataCheck, NamesAreShownWithoutWhatATerminalObeys) {
  std::string text = daily(120);
  const std::string name = "\x1b]0;title\x07\n";
  text.replace(0, 10,
               "date,\"" + name +
                   "a\",\xc2\x9b"
                   "2J,=c");
  write("a.csv", text);
  const Outcome outcome = run(words("a.csv"));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("3: ?]0;title??a, ?2J, =c\n"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("warning: a.csv:1:4: column '=c'"), std::string::npos) << outcome.out;
  const std::string refused = run(words("a.csv", {"--drop", name})).err;
  EXPECT_NE(refused.find("no column is named '?]0;title?"
                         "?'"),
            std::string::npos)
      << refused;
  EXPECT_NE(refused.find("'?]0;title??a'"), std::string::npos) << refused;
  EXPECT_EQ(run(words("a.csv", {"--json"})).json().at("channels").at(0), name + "a");
}

TEST_F(DataCheck, TheNextCommandCanBePasted) {
  write("a b's.csv", daily(120));
  const Outcome outcome = run(words("./a b's.csv", {"--no-date", "--drop", "date"}));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.ends_with(
      "\nsamformer train --data './a b'\\''s.csv' --drop date --no-date --lookback 8 --horizon 4\n"))
      << outcome.out;
  write("\x1b'.csv", daily(120));
  const Outcome bytes = run(words("./\x1b'.csv"));
  EXPECT_TRUE(bytes.out.ends_with("\nsamformer train --data $'./\\x1b\\x27.csv' --lookback 8 --horizon 4\n"))
      << bytes.out;
}

// What a hint says works when it is pasted, whatever the column is called.
TEST_F(DataCheck, HintsCanBePasted) {
  for (const char* name : {"b c", "wind; m/s", "it's", "a, b", "\"x\", y", "$HOME", "# n", "-z", "*"}) {
    SCOPED_TRACE(name);
    std::string quoted;
    for (const char c : std::string(name)) quoted += c == '"' ? "\"\"" : std::string(1, c);
    std::string text = daily(120, [](int t, Cells& cells) { cells[2] = t % 2 ? "low" : "high"; });
    write("a.csv", "date,a,\"" + quoted + "\",c\n" + text.substr(text.find('\n') + 1));
    const Outcome refused = run(words("a.csv"));
    EXPECT_EQ(refused.code, 3);
    const Words remedy = pasted(refused.out, "--drop");
    EXPECT_EQ(remedy.size(), 2u);
    const Outcome dropped = run(words("a.csv", remedy));
    EXPECT_EQ(dropped.code, 0) << dropped.out << dropped.err;
    EXPECT_NE(dropped.out.find("2: a, c\n"), std::string::npos) << dropped.out;
    // So does the command that is printed in the end.
    const Words next = pasted(dropped.out, "samformer train --data");
    EXPECT_EQ(run(Words(next.begin() + 1, next.end()) + Words{"--dry-run"}).code, 0);
  }
}

TEST_F(DataCheck, ListsOfNamesWithCommas) {
  std::string text = daily(120);
  const auto channels = [&](const Words& flags) { return check(text, flags).value("channels", Json()); };
  text.replace(0, 10, "date,\"T, in\",\"T\",\"say \"\"x\"\"\"");
  EXPECT_EQ(channels({"--drop", "T, in"}), Json({"T", "say \"x\""}));
  EXPECT_EQ(channels({"--drop", "\"T, in\",T"}), Json({"say \"x\""}));
  EXPECT_EQ(channels({"--drop", "T,T, in"}), Json({"say \"x\""}));
  EXPECT_EQ(channels({"--columns", "say \"x\",T, in"}), Json({"say \"x\"", "T, in"}));
  EXPECT_EQ(check(text, {"--features", "S", "--target", "T, in"}).at("targets"), Json({"T, in"}));
  EXPECT_EQ(check(text, {"--features", "MS", "--target", "\"say \"\"x\"\"\",\"T, in\""}).at("targets"),
            Json({"say \"x\"", "T, in"}));
  EXPECT_EQ(run(words("a.csv", {"--drop", "T, out"})).code, 2);
}

// Bytes that are no text at all end in exit code 3 or 0, never in a crash (csv_test.cpp does the same to the reader, in
// earnest). Seed 5.
TEST_F(DataCheck, AnyBytes) {
  std::uint64_t state = 5;
  const auto random = [&] { return state = state * 6364136223846793005u + 1442695040888963407u, state >> 40; };
  for (int round = 0; round < 5; ++round) {
    std::string text = daily(60);
    for (int i = 0; i < 20; ++i) text[random() % text.size()] = static_cast<char>(random());
    write("fuzz.csv", text);
    const int code = run(words("./fuzz.csv")).code;
    EXPECT_TRUE(code == 0 || code == 3) << "round " << round << ": exit code " << code;
  }
}

using DataSynth = ProgramTest;

TEST_F(DataSynth, WritesTheSeries) {
  const Outcome outcome = run({"data", "synth", "seasonal"});
  EXPECT_EQ(outcome.code, 0);
  std::ostringstream expected;
  model::write_csv(expected, model::make_seasonal({}));
  EXPECT_EQ(outcome.out, expected.str());
  EXPECT_EQ(std::ranges::count(outcome.out, '\n'), 6001);
  EXPECT_NE(outcome.err.find("noise floor"), std::string::npos) << outcome.err;
  EXPECT_EQ(run({"data", "synth", "seasonal", "--quiet"}).err, "");
}

TEST_F(DataSynth, RowsChannelsSeedOut) {
  const Outcome text =
      run({"data", "synth", "seasonal", "--rows", "500", "--channels", "3", "--seed", "9", "--out", "s.csv"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_TRUE(text.out.ends_with("\nsamformer train --data ./s.csv\n")) << text.out;
  std::ostringstream expected;
  model::write_csv(expected, model::make_seasonal({500, 3, 9}));
  EXPECT_EQ(read("s.csv"), expected.str());

  const Outcome json =
      run({"data", "synth", "seasonal", "--rows", "500", "--channels", "3", "--out", "s.csv", "--json"});
  EXPECT_EQ(json.code, 0) << json.err;
  const Json document = json.json();
  EXPECT_EQ(document.at("rows"), 500);
  EXPECT_EQ(document.at("channels").size(), 3u);
  EXPECT_EQ(document.at("seed"), 1);
  const std::string file = read("s.csv");
  EXPECT_NE(file, expected.str());
  EXPECT_EQ(document.at("sha256"), sha256(bytes_of(file)));
  EXPECT_EQ(document.at("noise_floor").at(1).at("one_step"), model::seasonal_innovation_variance(3)[1]);
  EXPECT_EQ(document.at("noise_floor").at(2).at("steps_1_to_24"), model::seasonal_noise_floor(3, 24)[2]);
  EXPECT_EQ(scratch_.entries(), 1);
}

TEST_F(DataSynth, Jobs) {
  const Outcome text =
      run({"data", "synth", "load", "--rows", "2000", "--channels", "2", "--cut-holes", "--bad-cells"});
  EXPECT_EQ(text.code, 0) << text.err;
  std::ostringstream expected;
  model::write_csv(expected, model::make_synthetic("load", {2000, 2, 1, true, true}).series);
  EXPECT_EQ(text.out, expected.str());
  EXPECT_NE(text.err.find("over 24 steps; standardised 0."), std::string::npos) << text.err;
  const Json sales = run({"data", "synth", "sales", "--channels", "8", "--out", "sales.csv", "--json"}).json();
  EXPECT_EQ(sales.at("rows"), 1096);
  EXPECT_EQ(sales.at("channels").size(), 17u);
  EXPECT_EQ(sales.at("noise_floor").size(), 8u);
  EXPECT_TRUE(sales.at("noise_floor").at(3).at("steps_1_to_28").is_number());
  EXPECT_GT(sales.at("noise_floor_standardised").get<double>(), 0);
  const Outcome monthly = run({"data", "synth", "monthly", "--out", "monthly.csv"});
  EXPECT_NE(monthly.out.find("180 rows, 8 channels"), std::string::npos) << monthly.out;
  EXPECT_EQ(run({"data", "check", "monthly.csv", "--lookback", "24", "--horizon", "12"}).code, 0);
}

TEST_F(DataSynth, Refusals) {
  fails(2, {"data", "synth", "weekly"}, {"'weekly'", "seasonal, load, sales, promo, monthly, panel"});
  fails(2, {"data", "synth", "sales", "--cut-holes"}, {"load"});
  EXPECT_EQ(run({"data", "synth", "seasonal", "--json"}).code, 2);
  EXPECT_EQ(run({"data", "synth", "seasonal", "--rows", "0"}).code, 2);
  EXPECT_EQ(run({"data", "synth", "seasonal", "--channels", "2000000"}).code, 2);
  EXPECT_EQ(run({"data", "synth", "seasonal", "--out", "absent/s.csv"}).code, 7);
  EXPECT_EQ(run({"data", "synth", "seasonal"}, {.out = "/dev/full"}).code, 7);
}

class DataListAndFetch : public ProgramTest {
 protected:
  const Surroundings cache_{.environment = {{"XDG_CACHE_HOME", path("cache")}, {"SAMFORMER_DATA_DIR", ""}}};
};

TEST_F(DataListAndFetch, ListNamesWhatIsKnown) {
  const Outcome text = run({"data", "list"}, cache_);
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("ETTh1: 7 channels, 17420 rows"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("licence"), std::string::npos);
  const Json list = run({"data", "list", "--json"}, cache_).json().at("datasets");
  for (const char* field : {"name", "columns", "rows", "sha256", "licence", "url", "path"}) {
    EXPECT_TRUE(list.at(0).contains(field)) << field;
  }
  EXPECT_EQ(list.at(0).at("path"), nullptr);
}

TEST_F(DataListAndFetch, FetchSaysWhyNot) {
  EXPECT_EQ(run({"data", "fetch", "nothing"}, cache_).code, 2);
  EXPECT_EQ(run({"data", "fetch", "ETTh2"}, cache_).code, 2);
  EXPECT_EQ(run({"data", "fetch", "ETTh1", "--url", "file:///etc/passwd"}, cache_).code, 2);
  // Port 1 of this machine: nobody listens.
  const Outcome refused = run({"data", "fetch", "ETTh1", "--url", "http://127.0.0.1:1/a.csv"},
                              {.environment = {{"XDG_CACHE_HOME", path("cache")}, {"no_proxy", "*"}}});
  EXPECT_EQ(refused.code, 7) << refused.err;
  EXPECT_NE(refused.err.find("hint:"), std::string::npos);
}

TEST_F(DataListAndFetch, OverwriteIsForWhatCannotBeVerified) {
  std::filesystem::create_directories(scratch_ / "cache/samformer");
  write("cache/samformer/weather.csv", "old");
  const Words words = {"data", "fetch", "weather", "--url", "http://127.0.0.1:1/"};
  Surroundings offline = cache_;
  offline.environment["no_proxy"] = "*";
  fails(2, words, {"weather.csv", "--overwrite"}, offline);
  EXPECT_EQ(run(words + Words{"--overwrite"}, offline).code, 7);
  EXPECT_EQ(read("cache/samformer/weather.csv"), "old");
}

TEST_F(DataListAndFetch, AFileThatIsThereIsNotFetchedAgain) {
  SAMFORMER_REQUIRE_SHARED_DATA("data/ETTh1.csv");
  const std::filesystem::path cache = scratch_ / "cache" / "samformer";
  std::filesystem::create_directories(cache);
  std::filesystem::copy_file(shared_data("data/ETTh1.csv"), cache / "ETTh1.csv");
  const Outcome outcome = run({"data", "fetch", "ETTh1", "--json"}, cache_);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.json().at("downloaded"), false);
  EXPECT_EQ(outcome.json().at("verified"), true);
  EXPECT_EQ(run({"data", "check", "ETTh1"}, cache_).code, 0);
}

}  // namespace
}  // namespace samformer
