// Mended texts: what is changed is exact, what is not changed stays byte for byte, a second repair changes nothing.
#include "model/data/repair.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "core/error.h"
#include "model/data/csv.h"

namespace samformer::model {
namespace {

Repaired mended(std::string_view text, const Repair& rules = {}, const SeriesOptions& options = {}) {
  Repaired once = repair(text, "a.csv", options, rules);
  const Repaired twice = repair(once.text, "a.csv", options, rules);
  EXPECT_EQ(twice.text, once.text);
  EXPECT_TRUE(twice.changes.empty());
  return once;
}

std::string changes(const Repaired& r) {
  std::string all;
  for (const Change& c : r.changes) {
    all += fmt::format("{}|{}|{}|{}|{}\n", c.line, c.column, c.before, c.after, c.rule);
  }
  return all;
}

Error refusal(std::string_view text, const Repair& rules = {}, const SeriesOptions& options = {}) {
  try {
    repair(text, "a.csv", options, rules);
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::data);
    return error;
  }
  ADD_FAILURE() << "not refused";
  return {Exit::internal, ""};
}
void expect(const Error& error, std::string_view message, std::string_view hint) {
  EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  EXPECT_NE(error.advice.find(hint), std::string::npos) << error.advice;
}

TEST(Repair, ChangesNothingElse) {
  const std::string text =
      "\xEF\xBB\xBF"
      "# made by hand\r\n"
      "\"date\";note; x ;y\r\n"
      "\"2020-01-01\";\"a;b\"; 1,50 ;7\r\n"
      "\"2020-01-02\";\"a;b\";;8\r\n"
      "# a remark\r\n"
      "\"2020-01-04\";\"a;b\"; 3,00;\"9\"\r\n"
      "\r\n"
      "\"2020-01-05\";c;0,25;10;\r\n"
      "\"2020-01-06\";c;0,5;10\r\n"
      "total;;5,25;42";
  const SeriesOptions options{.drop = {"note"}, .freq = "1d", .delimiter = ';', .decimal = Decimal::comma};
  const Repaired r = mended(text, {}, options);
  EXPECT_EQ(r.text,
            "\xEF\xBB\xBF"
            "# made by hand\r\n"
            "\"date\";note; x ;y\r\n"
            "\"2020-01-01\";\"a;b\"; 1,50 ;7\r\n"
            "\"2020-01-02\";\"a;b\";2,00;8\r\n"
            "# a remark\r\n"
            "\"2020-01-03\";\"a;b\";2,50;8\r\n"
            "\"2020-01-04\";\"a;b\"; 3,00;\"9\"\r\n"
            "\r\n"
            "\"2020-01-05\";c;0,25;10;\r\n"
            "\"2020-01-06\";c;0,5;10\r\n"
            "total;;5,25;42");
  EXPECT_EQ(changes(r),
            "4|x||2,00|linear\n"
            "6|||\"2020-01-03\";\"a;b\";2,50;8|insert\n");
  EXPECT_EQ(r.rows, 6);
  EXPECT_EQ(r.inserted, 1);
  EXPECT_EQ(r.filled, 1);
  EXPECT_EQ(r.longest, 2);
  // Lines that end in CR, a clean text.
  EXPECT_EQ(mended("date,x\r2020-01-01,1\r2020-01-02,\r2020-01-03,3\r").text,
            "date,x\r2020-01-01,1\r2020-01-02,2\r2020-01-03,3\r");
  const std::string clean = "x,date\n1,2020-01-31\n5,2020-02-29\n\"7\",2020-03-31\n";
  EXPECT_EQ(mended(clean).text, clean);
}

TEST(Repair, FillsBetweenTheValuesAround) {
  const std::string text =
      "date,x,n\n2020-01-01,,4\n2020-01-02,1.0,NaN\n2020-01-03,NA,\n2020-01-04,,7\n2020-01-05,4.0,7\n2020-01-06,,7\n";
  EXPECT_EQ(mended(text).text,
            "date,x,n\n2020-01-01,1.0,4\n2020-01-02,1.0,5\n2020-01-03,2.0,6\n2020-01-04,3.0,7\n2020-01-05,4.0,7\n"
            "2020-01-06,4.0,7\n");
  const Repaired forward = mended(text, {.fill = Fill::forward});
  EXPECT_EQ(forward.text,
            "date,x,n\n2020-01-01,1.0,4\n2020-01-02,1.0,4\n2020-01-03,1.0,4\n2020-01-04,1.0,7\n2020-01-05,4.0,7\n"
            "2020-01-06,4.0,7\n");
  EXPECT_EQ(changes(forward),
            "2|x||1.0|nearest\n3|n|NaN|4|forward\n4|x|NA|1.0|forward\n4|n||4|forward\n5|x||1.0|forward\n"
            "7|x||4.0|nearest\n");
  // Small numbers and exponents keep what they are; a small negative one is not -0.
  EXPECT_EQ(mended("date,x\n2020-01-01,1e-9\n2020-01-02,\n2020-01-03,3e-9\n").text,
            "date,x\n2020-01-01,1e-9\n2020-01-02,2e-09\n2020-01-03,3e-9\n");
  EXPECT_EQ(mended("date,x\n2020-01-01,0\n2020-01-02,\n2020-01-03,\n2020-01-04,-1\n").text,
            "date,x\n2020-01-01,0\n2020-01-02,0\n2020-01-03,-1\n2020-01-04,-1\n");
}

// In accounts the minus stands behind the decimals, or a bracket.
TEST(Repair, DecimalsOfAccounts) {
  EXPECT_EQ(mended("date,x\n2020-01-01,(1.5)\n2020-01-02,\n2020-01-03,2.5-\n").text,
            "date,x\n2020-01-01,(1.5)\n2020-01-02,-2.0\n2020-01-03,2.5-\n");
}

TEST(Repair, FillsWithTheSeasonsAround) {
  std::string text = "date,x\n", whole = text;
  for (int t = 0; t < 35; ++t) {
    const int x = 10 * (t % 7) + t / 7;
    const auto row = [&](const std::string& value) {
      return fmt::format("2020-{:02}-{:02},{}\n", 1 + t / 31, 1 + t % 31, value);
    };
    if (t != 15) text += row(t == 8 || t == 16 || t == 34 || t == 0 ? "" : fmt::format("{}", x));
    // The mean of the nearest known weeks: 1 and 15 + 7; 15 - 7 is missing.
    whole += row(fmt::format("{}", t == 0 ? 10 : t == 34 ? 54 : x));
  }
  const Repaired r = mended(text, {.fill = Fill::seasonal});
  EXPECT_EQ(r.inserted, 1);
  EXPECT_EQ(changes(r).find("linear"), std::string::npos);
  std::string expected = whole;
  // 8: of 1 (10) and 22 (13), as 15 is absent; 15: the same; 16: of 9 (21) and 23 (23).
  const auto put = [&](const std::string& from, const std::string& to) {
    expected.replace(expected.find(from), from.size(), to);
  };
  put("2020-01-09,11", "2020-01-09,12");
  put("2020-01-16,12", "2020-01-16,12");
  EXPECT_EQ(r.text, expected);
}

TEST(Repair, SortsRowsAndJoinsRepeats) {
  const Repaired r = mended("date,x\n2020-01-03,3\n2020-01-02,2\n2020-01-02,2.0\n2020-01-01,1");
  EXPECT_EQ(r.text, "date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n");
  EXPECT_EQ(changes(r),
            "3||row 2|row 2|order\n4||row 3|row 3|order\n4||2020-01-02,2.0||repeat\n5||row 4|row 1|order\n");
  EXPECT_EQ(r.moved, 3);
  EXPECT_EQ(r.removed, 1);
  const std::string end = "2020-01-04,4,6\n2020-01-05,5,7\n";
  const std::string twice = "date,x,y\n2020-01-01,1,5\n2020-01-02,2,9\n# kept\n2020-01-02,5,\n2020-01-03,3,5\n" + end;
  expect(refusal(twice), "2020-01-02 is there twice, with different values of 'x'", "--duplicates first, last or mean");
  EXPECT_EQ(mended(twice, {.repeats = Repeats::first}).text,
            "date,x,y\n2020-01-01,1,5\n2020-01-02,2,9\n# kept\n2020-01-03,3,5\n" + end);
  EXPECT_EQ(mended(twice, {.repeats = Repeats::last}).text,
            "date,x,y\n2020-01-01,1,5\n# kept\n2020-01-02,5,5\n2020-01-03,3,5\n" + end);
  const Repaired mean = mended(twice, {.repeats = Repeats::mean});
  EXPECT_EQ(mean.text, "date,x,y\n2020-01-01,1,5\n2020-01-02,4,9\n# kept\n2020-01-03,3,5\n" + end);
  EXPECT_EQ(mean.averaged, 1);
  EXPECT_EQ(mean.differing, 1);
}

TEST(Repair, SentinelsAreNumbersOrWords) {
  const std::string text = "date,x,y\n2020-01-01,1,1\n2020-01-02,-999.0,closed\n2020-01-03,3,-999\n2020-01-04,4,4\n";
  expect(refusal(text), "'closed' is not a number", "--sentinel closed");
  const Repaired r = mended(text, {.sentinels = {"-999", "closed"}});
  EXPECT_EQ(r.text, "date,x,y\n2020-01-01,1,1\n2020-01-02,2,2\n2020-01-03,3,3\n2020-01-04,4,4\n");
  EXPECT_EQ(r.sentinels, 3);
  EXPECT_EQ(r.filled, 0);
  // The first word that is no number is a sentinel, the next one is not.
  expect(refusal("date,x\n2020-01-01,closed\n2020-01-02,'\n2020-01-03,3\n", {.sentinels = {"closed"}}),
         "column 'x': ''' is not a number", "--sentinel ''\\'''");
  // A comma would part it into two.
  expect(refusal("date,x\n2020-01-01,1\n2020-01-02,\"a,b\"\n2020-01-03,3\n2020-01-04,4\n2020-01-05,5\n"), "'a,b'",
         "--sentinel '\"a,b\"'");
}

TEST(Repair, LongGapsAreNamed) {
  std::string text = "date,x,y\n";
  for (int t = 0; t < 28; ++t) {
    if (t >= 5 && t < 14) continue;
    text += fmt::format("2020-02-{:02},{},{}\n", t + 1, t, t == 4 || t > 25 ? "" : "1");
  }
  expect(refusal(text), "9 rows are absent from 2020-02-06 to 2020-02-14, more than the 7 that are filled in",
         "--max-gap 9; to leave the holes: --gaps keep");
  // With the cell before it y has no value for ten days.
  const Error run = refusal(text, {.longest = 9});
  expect(run, "column 'y': 10 values are missing from 2020-02-05 to 2020-02-14, more than the 9", "--max-gap 10");
  EXPECT_EQ(run.line, 6);
  EXPECT_EQ(run.column, 3);
  EXPECT_EQ(mended(text, {.longest = 10}).longest, 10);
  const Repaired kept = mended(text, {.insert = false});
  EXPECT_EQ(kept.inserted, 0);
  EXPECT_EQ(kept.filled, 3);
  expect(refusal("date,x,y\n2020-01-01,1,\n2020-01-02,2,\n", {.longest = 9}), "column 'y' has no value at all",
         "--drop y");
  // Without the only column nothing is left.
  EXPECT_EQ(refusal("date,x\n2020-01-01,\n2020-01-02,\n").advice, "write its values");
  EXPECT_EQ(refusal("date,x\n2020-01-01,1\n2020-01-02,\n2020-01-03,\n2020-01-04,4\n", {.longest = 1}).advice,
            "if they may be interpolated: --max-gap 2");
  // Behind the --drop that is there.
  expect(refusal("date,x,y,z\n2020-01-01,1,,\n2020-01-02,2,,\n", {.longest = 9}, {.drop = {"z"}}), "'y'", "--drop z,y");
  expect(refusal("date,x,y\n2020-01-01,1,0,2,5\n2020-01-02,2,0,3,5\n2020-01-03,2,0,3,5\n", {},
                 {.decimal = Decimal::comma}),
         "decimal commas between commas", "semicolons");
}

// Dates in the file's own notation and columns.
TEST(Repair, InsertedDates) {
  EXPECT_EQ(mended("year,month,x\n2020,1,1\n2020,2,2\n2020,4,4\n2020,5,5\n2020,6,6\n2020,7,7\n2020,8,8\n2020,9,9\n"
                   "2020,10,10\n2020,11,11\n2020,12,12\n2021,1,13\n2021,2,14\n")
                .text.substr(13, 30),
            "2020,1,1\n2020,2,2\n2020,3,3\n202");
  std::string text = "x;date;time\n", whole = text;
  for (int t = 0; t < 48; ++t) {
    const std::string row = fmt::format("{};{:02}.03.2021;{:02}:00\n", t, 13 + t / 24, t % 24);
    whole += row;
    if (t != 3 && t != 20) text += row;
  }
  EXPECT_EQ(mended(text, {}, {.date_format = "%d.%m.%Y"}).text, whole);
  EXPECT_TRUE(mended(text, {}, {.date_format = "%d.%m.%Y"}).has_step);
  EXPECT_FALSE(mended("date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-07,3\n2020-02-11,4\n").has_step);
  std::string months = "period,x\n", all = months;
  for (int t = 0; t < 24; ++t) {
    const std::string row = fmt::format("{}-{:02},{}\n", 2020 + t / 12, 1 + t % 12, t);
    all += row;
    if (t != 7) months += row;
  }
  EXPECT_EQ(mended(months).text, all);
}

// A year that is wrong: the rows are counted, not made, before they are refused; many are made in linear time.
TEST(Repair, HugeHoles) {
  std::string text = "date,x\n";
  for (int t = 0; t < 20; ++t) text += fmt::format("2020-01-01 00:00:{:02},{}\n", t, t);
  expect(refusal(text + "9999-12-31 23:59:59,9\n"), "from 2020-01-01 00:00:20 to 9999-12-31 23:59:58", "--max-gap");
  const Repaired r = mended(text + "2020-01-04 00:00:00,9\n", {.longest = 300000});
  EXPECT_EQ(r.inserted, 3 * 86400 - 20);
}

TEST(Repair, ClocksOfAZone) {
  std::string text = "date,x\n";
  for (int t = 0; t < 72; ++t) {
    const int hour = t < 26 ? t : t - 1;  // 02:00 of the second day twice
    if (t != 40) text += fmt::format("2021-10-{:02} {:02}:00,{}\n", 30 + hour / 24, hour % 24, t);
    if (hour / 24 == 1 && hour % 24 == 23) break;
  }
  // As if no clock were changed: one row too many.
  expect(refusal(text), "2021-10-31 01:00 is there twice", "--timezone");
  // In no zone of the list the clock goes from 01:59 to 01:00; London's does.
  const Repaired r = mended(text, {}, {.timezone = "Europe/London"});
  EXPECT_EQ(r.inserted, 1);
  EXPECT_EQ(r.removed, 0);
  EXPECT_EQ(r.clock_changes, 1);
  EXPECT_NE(r.text.find("2021-10-31 15:00,40\n"), std::string::npos) << r.text;
}

// Columns that are no channels: numbers go on, text that stays is repeated.
TEST(Repair, OtherColumnsOfInsertedRows) {
  std::string text = "No,date,x,shop\n";
  for (int t = 0; t < 40; ++t) {
    if (t != 20)
      text += fmt::format("{},2020-{:02}-{:02},{},{}\n", t < 20 ? t : t - 1, 1 + t / 31, 1 + t % 31, t,
                          t < 30 ? "Ulm" : "Bonn");
  }
  const Repaired r = mended(text, {}, {.drop = {"shop"}});
  EXPECT_NE(r.text.find("\n19.5,2020-01-21,20,Ulm\n"), std::string::npos) << r.text;
  // With its quotes.
  std::string quoted = "date,x,note\n", whole = quoted;
  for (int t = 0; t < 20; ++t) {
    const std::string row = fmt::format("2020-01-{:02},{},\"a, \"\"b\"\"\nc\"\n", t + 1, t);
    whole += row;
    if (t != 7) quoted += row;
  }
  EXPECT_EQ(mended(quoted, {}, {.drop = {"note"}}).text, whole);
}

// Any mixture of faults: what was there stays, what comes is between its neighbours, all is complete and even.
TEST(Repair, RandomTexts) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const int rows = 30 + below(60);
    std::vector<std::string> lines;
    std::vector<bool> kept(static_cast<std::size_t>(rows), true), known(static_cast<std::size_t>(rows), true);
    for (int t = 0; t < rows; ++t) {
      const bool inside = t > 3 && t + 4 < rows;
      if (inside && below(15) == 0) {
        kept[static_cast<std::size_t>(t)] = false;
        continue;
      }
      known[static_cast<std::size_t>(t)] = below(10) != 0;
      const std::string line =
          fmt::format("2020-{:02}-{:02} {:02}:30,{},{}\n", 1 + t / 28 / 24, 1 + t / 24 % 28, t % 24,
                      known[static_cast<std::size_t>(t)] ? fmt::format("{:.2f}", t / 4.0) : "", t);
      lines.push_back(line);
      if (below(20) == 0) lines.push_back(line);
    }
    if (below(3) == 0) std::reverse(lines.begin(), lines.end());
    std::string text = "date,x,y\n";
    for (const std::string& line : lines) text += line;
    const Repaired r = mended(text, {.longest = 60}, {.columns = {"x", "y"}, .freq = "1h"});
    const Series series = parse_csv(r.text, "a.csv", {.columns = {"x", "y"}});
    ASSERT_EQ(series.rows, rows);
    EXPECT_TRUE(series.findings.empty()) << series.findings[0].message;
    for (int t = 0; t < rows; ++t) {
      const auto at = static_cast<std::size_t>(t);
      EXPECT_EQ(series.channel(1)[at], t);
      // A line, but for the ends.
      const bool between = t > 12 && t + 12 < rows;
      EXPECT_NEAR(series.channel(0)[at], t / 4.0, kept[at] && known[at] ? 0 : between ? 0.0051 : 5);
    }
  }
}

}  // namespace
}  // namespace samformer::model
