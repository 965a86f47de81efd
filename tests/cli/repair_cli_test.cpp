// `data repair`, and what `data check` and the refusals of `train` say of it: every command that is named works when it
// is pasted.
#include "tests/cli_fixture.h"
#include "tests/compressed.h"

namespace samformer {
namespace {

class RepairCommand : public ProgramTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(run({"data", "synth", "load", "--rows", "2400", "--channels", "2", "--cut-holes", "--bad-cells",
                   "--timezone", "Europe/Berlin", "--out", "load.csv"})
                  .code,
              0);
  }
  // The words of the line that begins with `samformer <command>`, without the first one.
  Words command(const std::string& text, const std::string& name) {
    const Words all = pasted(text, "samformer " + name);
    return all.empty() ? all : Words(all.begin() + 1, all.end());
  }
};

// The job that a file of a year's load needs: holes, empty cells, a code, clocks that are changed.
TEST_F(RepairCommand, AYearOfLoad) {
  fails(3, {"data", "repair", "load.csv", "--timezone", "Europe/Berlin", "--out", "r.csv"},
        {"30 rows are absent from ", "more than the 24", "--max-gap 30"});
  EXPECT_FALSE(exists("r.csv"));
  const Words words = {"data",       "repair", "load.csv",  "--timezone",  "Europe/Berlin", "--max-gap", "36",
                       "--sentinel", "-9999",  "--changes", "changes.csv", "--out",         "r.csv"};
  const Json result = document(words);
  EXPECT_EQ(result["rows"], 2400);
  EXPECT_EQ(result["rows_inserted"], 37);
  EXPECT_EQ(result["rows_removed"], 0);
  EXPECT_EQ(result["cells_filled"], 22);
  EXPECT_EQ(result["sentinels"], 1);
  EXPECT_EQ(result["clock_changes"], 1);
  EXPECT_EQ(result["sha256"], sha256(bytes_of(read("r.csv"))));
  const std::string changes = read("changes.csv");
  EXPECT_EQ(std::ranges::count(changes, '\n'), 1 + 37 + 22 + 1);
  EXPECT_TRUE(changes.starts_with("line,column,old,new,rule\n"));
  EXPECT_NE(changes.find(",-9999,"), std::string::npos);
  // The values of the file without faults, but for those that were made.
  ASSERT_EQ(run({"data", "synth", "load", "--rows", "2400", "--channels", "2", "--timezone", "Europe/Berlin", "--out",
                 "whole.csv"})
                .code,
            0);
  std::istringstream repaired(read("r.csv")), whole(read("whole.csv"));
  int differ = 0;
  for (std::string a, b; std::getline(repaired, a) && std::getline(whole, b);) {
    EXPECT_EQ(a.substr(0, a.find(',')), b.substr(0, b.find(',')));
    differ += a != b ? 1 : 0;
  }
  EXPECT_LE(differ, 60);
  EXPECT_GT(differ, 20);
  ASSERT_EQ(run({"data", "repair", "r.csv", "--timezone", "Europe/Berlin", "--out", "again.csv"}).code, 0);
  EXPECT_EQ(read("again.csv"), read("r.csv"));
  // The table, and the command that it ends with.
  const Outcome table = run(words);
  EXPECT_NE(table.out.find("1 changes of Europe/Berlin"), std::string::npos) << table.out;
  const Words train = command(table.out, "train");
  EXPECT_EQ(run(train + Words{"--epochs", "1", "--lookback", "24", "--horizon", "4", "--out", "run"}).code, 0);
}

TEST_F(RepairCommand, CheckListsGapsAndNamesTheCommand) {
  const Outcome outcome = run({"data", "check", "load.csv", "--horizon", "4"});
  EXPECT_EQ(outcome.code, 3);
  for (const char* part : {"absent from", "missing from", "and 17 more: --json lists all"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << outcome.out;
  }
  const std::string tail = outcome.out.substr(outcome.out.find("\ntrain would"));
  const Words repair = command(tail, "data repair");
  EXPECT_EQ(repair, (Words{"data", "repair", "load.csv", "--timezone", "Europe/Berlin", "--out", "load-repaired.csv",
                           "--sentinel", "-9999", "--max-gap", "30"}));
  ASSERT_EQ(run(repair).code, 0);
  EXPECT_EQ(run({"data", "check", "load-repaired.csv", "--timezone", "Europe/Berlin", "--horizon", "4"}).code, 0);
  Outcome checked = run({"data", "check", "load.csv", "--horizon", "4", "--timezone", "Europe/Berlin", "--json"});
  const Json json = checked.json();
  ASSERT_EQ(json["holes"].size(), 3u);
  std::int64_t rows = 0;
  for (const Json& hole : json["holes"]) rows += hole["rows"].get<std::int64_t>();
  EXPECT_EQ(rows, 37);
  ASSERT_EQ(json["missing"].size(), 22u);
  EXPECT_EQ(json["missing"][0]["cells"], 1);
  EXPECT_EQ(json["missing"][0]["from"], json["missing"][0]["to"]);
  EXPECT_FALSE(json["missing"][0]["column"].get<std::string>().empty());
  EXPECT_GT(json["holes"][0]["line"], 1);
  EXPECT_TRUE(json["repair"].get<std::string>().starts_with("samformer data repair load.csv --timezone Europe/Berlin"));
  // Nothing to repair, nothing that repairs.
  EXPECT_EQ(document({"data", "check", series("clean.csv", 200, 2), "--horizon", "4"})["repair"], nullptr);
  write("text.csv", "date,x,y\n2020-01-01,1,a\n2020-01-02,,b\n2020-01-03,3,c\n");
  EXPECT_EQ(run({"data", "check", "text.csv", "--json"}).json()["repair"], nullptr);
}

// Every refusal that a repair mends names it; pasted, in a folder whose names need quotes, it works.
TEST_F(RepairCommand, RefusalsOfTrainNameIt) {
  const auto hours = [](int t) { return fmt::format("2020-01-{:02} {:02}:00", 1 + t / 24, t % 24); };
  const auto text = [&](const auto& row) {
    std::string all = "date;x;y\n";
    for (int t = 0; t < 200; ++t) all += row(t);
    return all;
  };
  const auto plain = [&](int t) { return fmt::format("{};{},5;{}\n", hours(t), t % 24, t % 7); };
  const std::map<std::string, std::string> faults = {
      {"missing it's.csv", text([&](int t) { return t == 50 ? hours(t) + ";;3\n" : plain(t); })},
      {"newest first.csv", text([&](int t) { return plain(199 - t); })},
      {"missing long.csv", text([&](int t) { return t >= 50 && t < 90 ? hours(t) + ";;3\n" : plain(t); })}};
  for (const auto& [name, content] : faults) {
    SCOPED_TRACE(name);
    const std::string file = write(name, content);
    const Words small = {"--decimal", "comma", "--lookback", "24",  "--horizon",  "4",
                         "--epochs",  "1",     "--out",      "run", "--overwrite"};
    Outcome refused = run(Words{"train", "--data", file} + small);
    EXPECT_EQ(refused.code, 3);
    std::string hint = refused.err;
    if (const std::size_t other = hint.find(", or leave"); other != hint.npos) hint.resize(other);
    Words repair = command(hint, "data repair");
    Outcome repaired = run(repair);
    if (name == "missing long.csv") {
      EXPECT_EQ(repaired.code, 3);
      EXPECT_NE(repaired.err.find("40 values are missing"), std::string::npos) << repaired.err;
      std::string more = repaired.err.substr(0, repaired.err.find("; else"));
      repaired = run(repair + pasted(more, "--max-gap"));
    }
    EXPECT_EQ(repaired.code, 0) << repaired.err;
    const Words train = command(repaired.out, "train");
    EXPECT_EQ(run(train + Words(small.begin() + 2, small.end())).code, 0);
  }
  // In warnings.
  std::string gap, twice, code;
  for (int t = 0; t < 200; ++t) {
    if (t < 50 || t >= 53) gap += plain(t);
    twice += plain(t) + (t == 60 ? plain(t) : "");
    code += t == 70 ? hours(t) + ";-9999;3\n" : plain(t);
  }
  int n = 0;
  for (const std::string& content : {gap, twice, code}) {
    const std::string file = write(fmt::format("warned {}.csv", n++), "date;x;y\n" + content);
    std::string warned = run({"train", "--data", file, "--decimal", "comma", "--lookback", "24", "--horizon", "4",
                              "--epochs", "1", "--out", "run", "--overwrite"})
                             .err;
    const std::size_t from = warned.find("samformer data repair");
    ASSERT_NE(from, warned.npos) << warned;
    warned = warned.substr(from, warned.find_first_of("\n;", from) - from);
    const Outcome repaired = run(command(warned + "\n", "data repair"));
    ASSERT_EQ(repaired.code, 0) << repaired.err;
    const Outcome checked = run({"data", "check", fmt::format("warned {}-repaired.csv", n - 1), "--decimal", "comma",
                                 "--lookback", "24", "--horizon", "4"});
    EXPECT_EQ(checked.code, 0);
    EXPECT_NE(checked.out.find(" 0 warnings"), std::string::npos) << checked.out;
  }
}

TEST_F(RepairCommand, WhatItReadsAndWrites) {
  const std::string text = "date,x\n2020-01-01,1\n2020-01-02,\n2020-01-03,3\n";
  const std::string mended = "date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n";
  write("a.csv", text);
  write("a.csv.gz", gzip_of(text));
  EXPECT_EQ(run({"data", "repair", "a.csv"}).out, mended);
  EXPECT_EQ(run({"data", "repair", "a.csv.gz"}).out, mended);
  EXPECT_EQ(run({"data", "repair", "-"}, {.input = text}).out, mended);
  EXPECT_NE(run({"data", "repair", "a.csv"}).err.find("1 cell filled in"), std::string::npos);
  // What it reads it never replaces.
  fails(2, {"data", "repair", "a.csv", "--out", "a.csv"}, {"a.csv"});
  fails(2, {"data", "repair", "a.csv", "--out", "b.csv", "--changes", "a.csv"}, {"a.csv"});
  fails(2, {"data", "repair", "a.csv", "--out", "b.csv", "--changes", "./b.csv"}, {"--changes and --out"});
  EXPECT_EQ(run({"data", "repair", "a.csv", "--json"}).code, 2);
  fails(2, {"data", "repair", "a.csv", "--missing", "spline", "--out", "b.csv"}, {"--missing"});
  fails(2, {"data", "repair", "a.csv", "--max-gap", "0", "--out", "b.csv"}, {"--max-gap"});
  fails(3, {"data", "repair", "./absent.csv", "--out", "b.csv"}, {"cannot read the file"});
  EXPECT_EQ(read("a.csv"), text);
  EXPECT_FALSE(exists("b.csv"));
}

}  // namespace
}  // namespace samformer
