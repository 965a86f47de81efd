#include "model/data/csv.h"
#include "model/data/readers.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "model/data/inflate.h"
#include "model/data/numbers.h"
#include "tests/compressed.h"
#include "tests/shared_data.h"

namespace samformer::model {
namespace {

Series parse(std::string_view text, const SeriesOptions& options = {}) {
  return parse_csv(text, "folder/a.csv", options);
}

// The error of reading and then insisting on a clean series; code internal and no text where there is none.
Error error_of(std::string_view text, const SeriesOptions& options = {}) {
  try {
    require_clean(parse(text, options));
  } catch (const Error& error) {
    EXPECT_EQ(error.file, "folder/a.csv");
    return error;
  }
  return {Exit::internal, ""};
}

std::vector<double> values(std::initializer_list<double> list) { return list; }

// "kind severity line:column xcount" of every finding.
std::string findings(const Series& series) {
  std::string all;
  for (const Finding& f : series.findings) {
    all += fmt::format("{} {} {}:{} x{}\n", f.kind, f.severity == Severity::warn ? "warn" : "refuse", f.line, f.column,
                       f.count);
  }
  return all;
}

bool says(const Error& error, const std::string& part) {
  return (std::string(error.what()) + "|" + error.advice).find(part) != std::string::npos;
}

constexpr std::string_view kHours =
    "date,a,b\n2020-01-01 00:00,1,-2.5\n2020-01-01 01:00,2,3e2\n2020-01-01 02:00,4,0.001\n";

TEST(Csv, ReadsChannelMajor) {
  const Series series = parse(kHours);
  EXPECT_EQ(series.name, "a");
  EXPECT_EQ(series.rows, 3);
  EXPECT_EQ(series.channels, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(series.values, values({1, 2, 4, -2.5, 300, 0.001}));
  EXPECT_EQ(series.step.name(), "1 hour");
  EXPECT_EQ(series.date(2), "2020-01-01 02:00");
  EXPECT_EQ(findings(series), "");
}

TEST(Csv, SameSeriesHoweverItIsWritten) {
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
    return text;
  };
  const std::string plain(kHours);
  for (const std::string& text :
       {replaced(plain, "\n", "\r\n"), "\xEF\xBB\xBF" + plain, plain + "\n", plain + "\r\n\n", "\n" + plain,
        plain.substr(0, plain.size() - 1), replaced(plain, ",", ";"), replaced(plain, ",", "\t"),
        replaced(plain, ",", " , "), replaced(replaced(plain, "-2.5", "\"-2.5\""), "date", "\"date\""),
        replaced(plain, ",4,", ",+4.0,"), replaced(plain, "date", "Date"), replaced(plain, "date", "timestamp"),
        replaced(plain, "date", ""), replaced(plain, "date", "when"), replaced(plain, "0.001", ".001"),
        replaced(plain, "0.001", "1E-3")}) {
    const Series series = parse(text);
    EXPECT_EQ(series.values, parse(kHours).values) << text;
    EXPECT_EQ(series.dates, parse(kHours).dates) << text;
    EXPECT_EQ(series.channels, parse(kHours).channels) << text;
    EXPECT_EQ(findings(series), "") << text;
  }
}

TEST(Csv, ByteOrderMarkIsNoPartOfTheFirstName) {
  EXPECT_EQ(parse("\xEF\xBB\xBF"
                  "a\n1\n2\n",
                  {.no_date = true})
                .channels[0],
            "a");
}

TEST(Csv, NumbersAreRoundedOnceLikeFromChars) {
  const std::uint64_t seed = 11;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const PhiloxBlock random = random_block(seed, 0, 0, i);
    std::string text = random[0] % 2 == 0 ? "-" : "";
    const std::uint32_t whole = random[0] / 2 % 12;
    for (std::uint32_t k = 0; k < whole; ++k) text += static_cast<char>('0' + (random[1] >> (2 * k)) % 10);
    const std::uint32_t fraction = random[2] % 20 + (whole == 0 ? 1 : 0);
    if (fraction > 0) text += '.';
    for (std::uint32_t k = 0; k < fraction; ++k) text += static_cast<char>('0' + (random[3] >> k) % 10);
    double expected = 0;
    std::from_chars(text.data(), text.data() + text.size(), expected);
    const Series series = parse("v\n" + text + "\n1\n", {.no_date = true});
    ASSERT_EQ(series.values[0], expected) << "seed " << seed << " i " << i << " text " << text;
    ASSERT_EQ(std::signbit(series.values[0]), std::signbit(expected)) << text;
  }
  EXPECT_EQ(parse("v\n1e-999\n-1e-999\n9007199254740993\n", {.no_date = true}).values,
            values({0, 0, 9007199254740992}));
}

TEST(Csv, QuotedCells) {
  const Series series = parse("date,\"a, \"\"x\"\"\",\"two\nlines\"\n2020-01-01,1,2\n\"2020-01-02\",\"3\",x\n");
  EXPECT_EQ(series.channels, (std::vector<std::string>{"a, \"x\"", "two\nlines"}));
  EXPECT_EQ(series.values[1], 3);
  EXPECT_EQ(findings(series), "unparsable refuse 4:3 x1\n");
  const Error open = error_of("date,a\n2020-01-01,1\n2020-01-02,\"2\n");
  EXPECT_EQ(open.line, 3);
  EXPECT_TRUE(says(open, "quote"));
}

TEST(Csv, NamesThatAreNotUtf8AreWindows1252) {
  const Series series = parse(
      "date,T (\xB0"
      "C),\x80,caf\xC3\xA9\n2020-01-01,1,2,3\n2020-01-02,2,3,4\n");
  EXPECT_EQ(series.channels, (std::vector<std::string>{"T (\xC2\xB0"
                                                       "C)",
                                                       "\xE2\x82\xAC", "caf\xC3\xA9"}));
  EXPECT_EQ(parse("date,\xED\xA0\x80\n2020-01-01,1\n").channels[0], "\xC3\xAD\xC2\xA0\xE2\x82\xAC");  // a surrogate
}

TEST(Csv, NamesHaveAtMost1024Bytes) {
  const auto file = [](std::size_t bytes) {
    return fmt::format("date,\"{}\"\n2020-01-01,1\n", std::string(bytes, 'a'));
  };
  EXPECT_EQ(parse(file(1024)).channels[0].size(), 1024u);
  const Error error = error_of(file(1025));
  EXPECT_EQ(error.code, Exit::data);
  EXPECT_EQ(error.line, 1);
  EXPECT_EQ(error.column, 2);
  EXPECT_TRUE(says(error, "1025 bytes") && says(error, "--delimiter"));
}

TEST(Csv, NamesThatSpreadsheetsTakeForFormulas) {
  const Series series = parse("-date,date,=a,+b,-c,@d,\"\re\",f=\n1,2020-01-01,1,1,1,1,1,1\n2,2020-01-02,2,2,2,2,2,2\n",
                              {.drop = {"-date"}});
  EXPECT_EQ(
      findings(series),
      "formula warn 1:3 x1\nformula warn 1:4 x1\nformula warn 1:5 x1\nformula warn 1:6 x1\nformula warn 1:7 x1\n");
  EXPECT_NO_THROW(require_clean(series));
}

TEST(Csv, DuplicateNamesAreRefused) {
  const Error error = error_of("date,a,b,a\n2020-01-01,1,2,3\n");
  EXPECT_EQ(error.code, Exit::data);
  EXPECT_EQ(error.line, 1);
  EXPECT_EQ(error.column, 4);
  EXPECT_TRUE(says(error, "'a'"));
}

TEST(Csv, MissingValues) {
  const std::string text =
      "date,a,b\n2020-01-01,,1\n2020-01-02,NaN,2\n2020-01-03,N/"
      "A,3\n2020-01-04,null,4\n2020-01-05,NA,5\n2020-01-06,6,nan\n";
  const Series series = parse(text);
  EXPECT_EQ(findings(series), "missing refuse 2:2 x5\nmissing refuse 7:3 x1\n");
  EXPECT_TRUE(std::isnan(series.values[4]));
  const Error error = error_of(text);
  EXPECT_EQ(error.code, Exit::data);
  EXPECT_EQ(error.line, 2);
  EXPECT_EQ(error.column, 2);
  EXPECT_TRUE(says(error, "'a'") && says(error, "--drop a") && says(error, "4 more"));

  SeriesOptions predict;
  predict.missing_allowed_before_last = 1;
  predict.columns = {"b", "a"};
  predict.columns_of_model = true;
  EXPECT_EQ(findings(parse(text, predict)), "missing warn 2:2 x5\nmissing refuse 7:3 x1\n");
  predict.columns = {"a"};
  EXPECT_NO_THROW(require_clean(parse(text, predict)));
  predict.missing_allowed_before_last = 2;
  EXPECT_EQ(findings(parse(text, predict)), "missing refuse 6:2 x1\n");
  predict.missing_allowed_before_last = 100;
  EXPECT_EQ(findings(parse(text, predict)), "missing refuse 2:2 x5\n");
}

TEST(Csv, CellsThatAreNotFiniteNumbers) {
  EXPECT_EQ(findings(parse("date,a,b,c\n2020-01-01,1,inf,0x10\n2020-01-02,1.5x,-Infinity,2\n2020-01-03,2,1e999,3\n2020-"
                           "01-04,3,2e100,4\n2020-01-05,1 2,1,--5\n2020-01-06,1,2,+-5\n")),
            "infinite refuse 2:3 x4\nunparsable refuse 2:4 x3\nunparsable refuse 3:2 x2\n");
  const Error text = error_of("date,a,place\n2020-01-01,1,Oslo\n2020-01-02,2,\n");
  EXPECT_TRUE(says(text, "--drop place") && says(text, "Oslo"));
  EXPECT_EQ(findings(parse("date,a,place\n2020-01-01,1,Oslo\n2020-01-02,2,\n")),
            "text-column refuse 2:3 x1\nmissing refuse 3:3 x1\n");
  EXPECT_TRUE(says(error_of("date;a\n2020-01-01;1,5\n2020-01-02;2,5\n"), "--decimal comma"));
  EXPECT_EQ(findings(parse("date,a,place\n2020-01-01,1,Oslo\n2020-01-02,2,\n", {.drop = {"place"}})), "");
}

TEST(Csv, RaggedRows) {
  const std::string text = "date,a,b\n2020-01-01,1,2\n2020-01-02,1\n2020-01-03,2,3,3\n\n2020-01-04,1,2\n";
  EXPECT_EQ(findings(parse(text)), "ragged refuse 3:2 x2\nskipped warn 5:0 x1\n");
  const Error error = error_of(text);
  EXPECT_EQ(error.line, 3);
  EXPECT_TRUE(says(error, "2 cells, expected 3"));
  EXPECT_TRUE(says(error_of("a,b,date\n1,2,2020-01-01\n1\n"), "1 cells, expected 3"));
  const std::string fields = "Year,Month,Day,a\n2020,1,1,1\n2020,1,2,2\n2020,1,3\n";
  EXPECT_EQ(findings(parse(fields)), "ragged refuse 4:3 x1\n");
}

TEST(Csv, DateColumnIsFoundOrNamed) {
  const std::string text = "time,x,ds,when\n2020-01-01,1,2021-01-01,2022-01-01\n2020-01-02,2,2021-01-02,2022-01-02\n";
  EXPECT_EQ(parse(text, {.columns = {"x"}}).date(0), "2021-01-01");
  EXPECT_EQ(parse(text, {.columns = {"x"}, .date_column = "when"}).date(0), "2022-01-01");
  EXPECT_EQ(parse(text, {.columns = {"x"}, .drop = {"ds"}}).date(0), "2020-01-01");
  EXPECT_EQ(parse("x,when,y\n1,2022-01-01,2\n", {}).date(0), "2022-01-01");
  EXPECT_EQ(error_of(text, {.date_column = "wen"}).code, Exit::usage);
  EXPECT_TRUE(says(error_of(text, {.date_column = "wen"}), "'when'"));

  const Error none = error_of("a,b\n1,2\n");
  EXPECT_EQ(none.code, Exit::data);
  EXPECT_TRUE(says(none, "--date-column") && says(none, "--no-date") && says(none, "--date-format"));
  const Series plain = parse("a,b\n1,2\n3,4\n", {.freq = "h", .no_date = true});
  EXPECT_EQ(plain.values, values({1, 3, 2, 4}));
  EXPECT_TRUE(plain.dates.empty());
  EXPECT_EQ(plain.step.season(), 24);
  EXPECT_EQ(plain.date(1), "row 2");
}

TEST(Csv, DayAndMonthOrderIsNeverGuessed) {
  const std::string text = "date,a\n1/2/2020,1\n2/2/2020,2\n";
  const Error error = error_of(text);
  EXPECT_EQ(error.line, 2);
  EXPECT_TRUE(says(error, "--date-format") && says(error, "1/2/2020"));
  const Series series = parse(text, {.date_format = "%d/%m/%Y"});
  EXPECT_EQ(series.step.name(), "1 day");
  EXPECT_EQ(series.date(1), "2/2/2020");
  EXPECT_THROW(parse(text, {.date_format = "%Q"}), Error);
}

TEST(Csv, AHintNamesTheFormatsThatReadEveryRow) {
  for (const auto& [text, hint] : std::initializer_list<std::pair<std::string, std::string>>{
           {"date,a\n1/2/2020 0:00,1\n13/2/2020 0:00,2\n", "every row is read with --date-format '%d/%m/%Y %H:%M'"},
           {"date,a\n13.02.98,1\n14.02.98,2\n", "every row is read with --date-format '%d.%m.%y'"},
           {"date,a\n1/2/2020,1\n2/2/2020,2\n",
            "several readings are possible; choose one of --date-format '%d/%m/%Y' or --date-format '%m/%d/%Y'"},
           {"when,a\n31.12.2019 07:00,1\n01.01.2020 07:00,2\n",
            "every row is read with --date-format '%d.%m.%Y %H:%M'"},
           {"a,when\n1,1/2/2020\n2,1/3/2020\n",
            "several readings are possible; choose one of --date-format '%d/%m/%Y' or --date-format '%m/%d/%Y'"},
           {"from,a\n98-12-30,1\n99-01-02,2\n", "every row is read with --date-format '%y-%m-%d'"},
           {"date,a\n883612800,1\n883616400,2\n", "every row is read with --date-format '%s'"},  // 1998
           {"date,a\n883612800000,1\n883616400000,2\n", "every row is read with --date-format '%3s'"},
           {"date,a\n45292,1\n45293,2\n",
            "if it is a spreadsheet's day number, format the column as yyyy-mm-dd and export again"},
           {"date,a\n1/2/2020,1\n2020-02-02,2\n",
            "say how dates are written with --date-format (like %d/%m/%Y %H:%M), or choose --date-column"}}) {
    EXPECT_EQ(error_of(text).advice, hint);
    for (std::size_t at = hint.find("--date-format '"); at != hint.npos; at = hint.find("--date-format '", at + 1)) {
      const std::size_t from = at + 15;
      const std::string format = hint.substr(from, hint.find('\'', from) - from);
      EXPECT_EQ(error_of(text, {.date_format = format}).code, Exit::internal) << format;
    }
  }
  EXPECT_TRUE(says(error_of("date,a\n1583020800000,1\n1583024400000,2\n", {.date_format = "%s"}), "leave it out"));
}

TEST(Csv, DigitsAloneAreDatesInADateColumn) {
  const auto first_dates = [](const std::string& header, std::initializer_list<const char*> cells) {
    std::string text = header + ",v\n";
    for (const char* cell : cells) text += fmt::format("{},5\n", cell);
    const Error error = error_of(text);
    return error.code == Exit::internal ? parse(text).step.name() : std::string("refused");
  };
  EXPECT_EQ(first_dates("timestamp", {"1583020800", "1583024400", "1583028000"}), "1 hour");
  EXPECT_EQ(first_dates("t", {"1583020800000", "1583020800100", "1583020800200"}), "100 milliseconds");
  EXPECT_EQ(first_dates("date", {"20200228", "20200229", "20200301"}), "1 day");
  EXPECT_EQ(first_dates("Year", {"1998", "1999", "2000"}), "1 year (start)");
  EXPECT_EQ(first_dates("month", {"199811", "199812", "199901"}), "1 month (start)");
  EXPECT_EQ(first_dates("ds", {"1998", "1999", "2000"}), "1 year (start)");
  // Counters, measurements, clocks, years that do not rise.
  EXPECT_EQ(first_dates("n", {"1998", "1999", "2000"}), "refused");
  EXPECT_EQ(first_dates("n", {"20200228", "20200229", "20200301"}), "refused");
  const std::string days = "v,n o\n1,20200228\n2,20200229\n3,20200301\n";
  EXPECT_EQ(error_of(days).advice, "if it is a date, say so: --date-column 'n o'");
  EXPECT_EQ(findings(parse(days, {.date_column = "n o"})), "");
  EXPECT_EQ(first_dates("bytes", {"1583020800", "1583024400", "1583038000", "1583038001"}), "refused");
  EXPECT_TRUE(
      says(error_of("v,bytes\n1,1583020800\n2,1583020801\n3,1583020802\n4,1583020800\n"), "no column holds dates"));
  EXPECT_EQ(first_dates("time", {"0900", "1000", "1100"}), "refused");
  EXPECT_EQ(first_dates("year", {"1998", "1998", "1998"}), "refused");
  EXPECT_EQ(first_dates("day", {"1", "2", "3"}), "refused");
}

TEST(Csv, DatesOutOfOrderRepeatedIrregular) {
  const auto hours = [](std::initializer_list<int> minutes) {
    std::string text = "date,a\n";
    int row = 0;
    for (const int m : minutes)
      text += fmt::format("2020-01-{:02} {:02}:{:02},{}\n", 1 + m / 1440, m / 60 % 24, m % 60, row++);
    return text;
  };
  const std::string order = hours(
      {0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660, 720, 780, 840, 900, 960, 1020, 1080, 1200, 1140, 1200});
  EXPECT_TRUE(says(error_of(hours({0, 120, 60})), "2020-01-01 01:00 after 2020-01-01 02:00"));
  EXPECT_EQ(error_of(hours({0, 120, 60})).line, 4);
  EXPECT_EQ(error_of(order).code, Exit::data);

  // 20 regular steps, then one of each.
  std::string text = "date,a\n";
  const auto add = [&](int m) {
    text += fmt::format("2020-01-{:02} {:02}:{:02},{}\n", 1 + m / 1440, m / 60 % 24, m % 60, m % 7);
  };
  for (int h = 0; h <= 40; ++h) add(60 * h);
  add(60 * 40);       // line 43: repeated
  add(60 * 43);       // line 44: two rows absent
  add(60 * 43 + 30);  // line 45: off the grid
  const Series series = parse(text);
  EXPECT_EQ(findings(series), "repeated warn 43:1 x1\ngap warn 44:1 x1\nirregular warn 45:1 x1\n");
  EXPECT_NO_THROW(require_clean(series));
  EXPECT_NE(series.findings[1].message.find("2 rows are absent"), std::string::npos);

  const Series unknown = parse(hours({0, 60, 70, 200, 210}));
  EXPECT_EQ(findings(unknown), "step warn 3:1 x1\n");
  EXPECT_FALSE(unknown.step.known());
  EXPECT_EQ(findings(parse(hours({0, 60, 70, 200, 210}), {.freq = "10min"})), "gap warn 3:1 x2\n");
}

TEST(Csv, StepsThatAreAskedFor) {
  const auto daily = [](std::initializer_list<const char*> days) {
    std::string text = "date,a\n";
    int value = 0;
    for (const char* day : days) text += fmt::format("2024-{},{}\n", day, value++);
    return text;
  };
  const auto warning = [](const std::string& text, const SeriesOptions& options = {}) {
    const Series series = parse(text, options);
    return series.findings.empty() ? std::string() : series.findings[0].message + "; " + series.findings[0].hint;
  };
  std::string weekdays = "date,a\n";  // Tuesday to Sunday
  for (int day = 0; day < 28; ++day) {
    if (day % 7 != 0) weekdays += fmt::format("2024-01-{:02} 06:00,{}\n", 1 + day, day);
  }
  EXPECT_EQ(findings(parse(weekdays)), "");
  EXPECT_EQ(
      warning(weekdays, {.freq = "d"}),
      "--freq d: the rows' step is 1 day, Tuesday to Sunday 06:00; leave --freq out, or say --freq tue-sun@06:00");
  EXPECT_EQ(warning(weekdays, {.freq = "tue-sun@06:00"}), "");
  EXPECT_EQ(warning(weekdays, {.freq = "tue-sun"}), "");
  // A hole counts in slots.
  std::string hole = weekdays;
  hole.erase(hole.find("2024-01-14"), 20);
  EXPECT_EQ(findings(parse(hole)), "gap warn 13:1 x1\n");
  EXPECT_NE(warning(hole).find("1 rows are absent"), std::string::npos) << warning(hole);

  // Written so, rows that are closer could not be told apart.
  const Error coarse = error_of(daily({"01-01", "01-02", "01-03"}), {.freq = "6h"});
  EXPECT_EQ(coarse.code, Exit::data);
  EXPECT_TRUE(says(coarse, "2024-01-03") && says(coarse, "6 hours") && says(coarse, "say --freq 1d"));
  EXPECT_EQ(error_of(daily({"01-01", "01-02", "01-03"}), {.freq = "1d"}).code, Exit::internal);
  EXPECT_EQ(error_of("date,a\n2024Q1,1\n2024Q2,2\n", {.freq = "m"}).code, Exit::data);
  EXPECT_EQ(error_of("date,a\n2024Q1,1\n2024Q2,2\n", {.freq = "2q"}).code, Exit::internal);

  // Where rows are absent a --freq helps, and its warning goes; where none can, none is named.
  const std::string holes = daily({"01-01", "01-02", "01-03", "01-05", "01-06", "01-09", "01-10"});
  EXPECT_TRUE(warning(holes).ends_with("where rows are absent, say --freq 1d; without it no forecast can be dated"));
  EXPECT_EQ(findings(parse(holes, {.freq = "1d"})), "gap warn 5:1 x2\n");
  const std::string twice_a_month = daily({"01-01", "01-15", "02-01", "02-15", "03-01", "03-15"});
  EXPECT_TRUE(warning(twice_a_month)
                  .ends_with("no --freq can express these dates; read the rows without them: --no-date --drop date"));
  EXPECT_EQ(findings(parse(twice_a_month, {.drop = {"date"}, .no_date = true})), "");
}

TEST(Csv, JitterIsNoIrregularStep) {
  std::string text = "date,a\n";
  for (int t = 0; t < 40; ++t) {
    text += fmt::format("2024-01-01 00:{:02}:{:02}.{:03},{}\n", t / 6, t % 6 * 10, t * 37 % 90, t);
  }
  EXPECT_EQ(findings(parse(text)), "");
  EXPECT_EQ(parse(text).step.name(), "10 seconds");
  EXPECT_EQ(findings(parse(text, {.freq = "10s"})), "");
  std::string hole = text;
  hole.erase(hole.find("2024-01-01 00:01:10"), 2 * (text.find('\n', 10) - 6));
  EXPECT_EQ(findings(parse(hole)).substr(0, 8), "gap warn");
}

// Rows so many minutes apart by the wall clock of Vienna, from a day before a change of clocks to a day after it.
std::string vienna(const std::string& day_before, int change_day, int minutes, bool spring) {
  std::string text = "date,a\n";
  int value = 0;
  for (int m = 0; m < 3 * 1440; m += minutes) {
    const int day = m / 1440, hour = m / 60 % 24;
    if (spring && day == 1 && hour == 2) continue;
    text += fmt::format("{}-{:02} {:02}:{:02},{}\n", day_before, change_day - 1 + day, hour, m % 60, value++ % 11);
    if (spring || day != 1 || hour != 2 || m % 60 + minutes != 60) continue;
    for (int again = 0; again < 60; again += minutes) {
      text += fmt::format("{}-{:02} 02:{:02},{}\n", day_before, change_day, again, value++ % 11);
    }
  }
  return text;
}

TEST(Csv, LocalTimesOfAZone) {
  const std::string spring = vienna("2023-03", 26, 60, true), autumn = vienna("2023-10", 29, 60, false);
  const std::string quarters = vienna("2023-10", 29, 15, false);
  for (const std::string& text : {spring, autumn, quarters}) {
    const Series series = parse(text, {.timezone = "Europe/Vienna"});
    EXPECT_EQ(findings(series), "");
    EXPECT_EQ(steps_between(series.dates.front(), series.dates.back(), series.step), series.rows - 1);
    EXPECT_NE(series.dates.front().offset_minutes, series.dates.back().offset_minutes);
  }
  // Without it, the change is named and with it the flag that reads it.
  for (const auto& [text, kind] :
       {std::pair(spring, "gap"), std::pair(autumn, "repeated"), std::pair(quarters, "date-order")}) {
    const Series series = parse(text);
    ASSERT_EQ(series.findings.size(), 1U);
    EXPECT_EQ(series.findings[0].kind, kind);
    EXPECT_EQ(series.findings[0].hint, "if the clock of a place was changed here, name it: --timezone Europe/Berlin");
  }
  // Dates that say where they are have no such change.
  EXPECT_EQ(parse("date,a\n2023-03-26T00:00Z,1\n2023-03-26T01:00Z,2\n2023-03-26T03:00Z,3\n")
                .findings[0]
                .hint.find("--timezone"),
            std::string::npos);

  const Error absent =
      error_of("date,a\n2023-03-26 01:30,1\n2023-03-26 02:30,2\n2023-03-26 03:30,3\n", {.timezone = "Europe/Vienna"});
  EXPECT_EQ(absent.line, 3);
  EXPECT_TRUE(says(absent, "2023-03-26 02:30 does not exist in Europe/Vienna"));
  EXPECT_EQ(error_of("date,a\n2023-03-26T01:00+05:00,1\n", {.timezone = "Europe/Vienna"}).line, 2);
  EXPECT_EQ(findings(parse("date,a\n2023-03-26,1\n2023-03-27,2\n", {.timezone = "Europe/Vienna"})), "");
  EXPECT_THROW(parse(kHours, {.timezone = "Europe/Viena"}), Error);

  // A zone in brackets is one, where it has the dates' offsets.
  const std::string zoned =
      "date,a\n2023-03-26T00:00+01:00[Europe/Vienna],1\n2023-03-26T01:00+01:00[Europe/Vienna],2\n";
  ASSERT_TRUE(parse(zoned).zone);
  EXPECT_EQ(continue_dates(parse(zoned).dates[1], parse(zoned).step, 1, parse(zoned).zone.get())[0].offset_minutes,
            120);
  EXPECT_FALSE(parse("date,a\n2023-03-26T00:00+07:00[Europe/Vienna],1\n").zone);
}

TEST(Csv, ConstantChannelsAndSentinels) {
  std::string text = "date,flat,wind,signal\n";
  for (int t = 0; t < 24; ++t) {
    text += fmt::format("2020-01-01 {:02}:00,5,{},{}\n", t, t == 7 || t == 9 ? -9999 : t, t == 3 ? 99 : 10 * t);
  }
  const Series series = parse(text);
  EXPECT_EQ(findings(series), "constant warn 2:2 x1\nsentinel warn 9:3 x2\n");
  EXPECT_NO_THROW(require_clean(series));
}

TEST(Csv, ColumnsAndDrop) {
  const std::string text = "date,a,b,c\n2020-01-01,1,2,x\n2020-01-02,4,5,y\n";
  const Series series = parse(text, {.columns = {"b", "a"}});
  EXPECT_EQ(series.channels, (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(series.values, values({2, 5, 1, 4}));
  EXPECT_EQ(findings(series), "");
  EXPECT_EQ(parse(text, {.drop = {"c", "a"}}).values, values({2, 5}));
  const Error unknown = error_of(text, {.columns = {"a", "B2"}});
  EXPECT_EQ(unknown.code, Exit::usage);
  EXPECT_TRUE(says(unknown, "'b'"));
  EXPECT_TRUE(says(error_of(text, {.columns = {"sales"}}), "its columns are: date, "));
  EXPECT_EQ(error_of(text, {.columns = {"a", "z"}, .columns_of_model = true}).code, Exit::data);
  EXPECT_EQ(error_of(text, {.drop = {"z"}}).code, Exit::usage);
  EXPECT_EQ(error_of(text, {.columns = {"a", "a"}}).code, Exit::usage);
  EXPECT_EQ(error_of(text, {.columns = {"a"}, .drop = {"a"}}).code, Exit::usage);
  EXPECT_EQ(error_of(text, {.columns = {"date"}}).code, Exit::usage);
  EXPECT_EQ(error_of(text, {.drop = {"a", "b", "c"}}).code, Exit::data);
}

// The remedy is pasted behind the flags that were there: the last of a kind counts.
TEST(Csv, AColumnIsLeftOutBesideThoseThatAre) {
  const std::string text = "date,a,b,c\n2020-01-01,1,?,x\n2020-01-02,4,oh,y\n";
  EXPECT_TRUE(error_of(text).advice.ends_with("leave the column out: --drop b"));
  EXPECT_TRUE(error_of(text, {.drop = {"b"}}).advice.ends_with("leave the column out: --drop b,c"));
  EXPECT_TRUE(error_of(text, {.columns = {"c", "a"}}).advice.ends_with("leave the column out: --columns a"));
  EXPECT_EQ(error_of(text, {.drop = {"b", "c"}}).code, Exit::internal);
  for (const auto& only : {SeriesOptions{.drop = {"a", "c"}}, SeriesOptions{.columns = {"c"}}}) {
    EXPECT_FALSE(error_of(text, only).advice.empty());
    EXPECT_FALSE(says(error_of(text, only), "leave the column out"));
  }
  // What has no value cannot be filled in.
  EXPECT_EQ(error_of("date,a,b\n2020-01-01,1,\n2020-01-02,4,\n").advice,
            "write values, or leave the column out: --drop b");
  std::string twice_a_month = "date,time,a,b\n";
  for (int t = 0; t < 8; ++t)
    twice_a_month += fmt::format("2020-{:02}-{:02},06:00,{},x\n", 1 + t / 2, t % 2 ? 15 : 1, t * 7 % 5);
  const Series series = parse(twice_a_month, {.drop = {"b"}});
  ASSERT_FALSE(series.findings.empty());
  EXPECT_TRUE(series.findings[0].hint.ends_with("--no-date --drop b,date,time")) << series.findings[0].hint;
  EXPECT_EQ(findings(parse(twice_a_month, {.drop = {"b", "date", "time"}, .no_date = true})), "");
}

constexpr std::string_view kTwo = "date,a,b\n2020-01-01,1,2\n2020-01-02,3,4\n2020-01-03,5,6\n";

// Reads the same series as kTwo; the lines that are named as skipped.
void same_as_two(std::string_view text, const std::string& skipped, const SeriesOptions& options = {}) {
  SCOPED_TRACE(text);
  try {
    const Series series = parse(text, options);
    EXPECT_EQ(series.values, parse(kTwo).values);
    EXPECT_EQ(series.dates, parse(kTwo).dates);
    EXPECT_EQ(series.channels, parse(kTwo).channels);
    EXPECT_EQ(findings(series), skipped);
  } catch (const Error& error) {
    ADD_FAILURE() << error.what();
  }
}

TEST(Csv, LinesAboveTheHeader) {
  const std::string plain(kTwo);
  const std::string one = "skipped warn 1:0 x1\n";
  same_as_two("Report of the plant\n\n" + plain, one);
  same_as_two("# a; b, c\n#\n" + plain, "skipped warn 1:0 x2\n");
  same_as_two("Station,Oslo\nHeight,12.5\nMade,2024-05-01\n" + plain, "skipped warn 1:0 x3\n");
  same_as_two("sep=,\r\n" + plain, one);
  same_as_two("Load, daily\ndate;a;b\n2020-01-01;1;2\n2020-01-02;3;4\n2020-01-03;5;6\n", one);
  same_as_two("sep=|\ndate|a|b\n2020-01-01|1|2\n2020-01-02|3|4\n2020-01-03|5|6\n", one);
  same_as_two("A title, of as, many cells\n" + plain, one);
  same_as_two("a\tb\tc\tor d\nnote\ndate\ta\tb\n2020-01-01\t1\t2\n2020-01-02\t3\t4\n2020-01-03\t5\t6\n",
              "skipped warn 1:0 x2\n");
  const Series two = parse("# x\n# y\n" + plain);
  EXPECT_TRUE(two.findings[0].message.starts_with("lines 1 and 2 are no part of the table")) << two.findings[0].message;
  // A header is one though it begins with #, and a line of data is none though it is the first.
  EXPECT_EQ(parse("#,date,a\n7,2020-01-01,1\n5,2020-01-02,3\n").channels, (std::vector<std::string>{"#", "a"}));
  EXPECT_TRUE(says(error_of("2020-01-01,1\n2020-01-02,2\n"), "names"));
  EXPECT_EQ(parse("# v\nv\n1\n2\n", {.no_date = true}).values, values({1, 2}));
}

TEST(Csv, RowsThatAreNoTimeSteps) {
  const std::string plain(kTwo);
  const auto with = [&](std::size_t line, const std::string& text) {  // 1: below the header
    std::size_t at = 0;
    for (std::size_t i = 0; i < line; ++i) at = plain.find('\n', at) + 1;
    return plain.substr(0, at) + text + plain.substr(at);
  };
  const auto at = [](int line, int count = 1) { return fmt::format("skipped warn {}:0 x{}\n", line, count); };
  same_as_two(with(1, ",[kW],m3/h\n"), at(2));
  same_as_two(with(1, "yyyy-mm-dd,MW,-\n"), at(2));
  same_as_two(with(2, "date,a,b\n"), at(3));
  same_as_two(with(2,
                   "\xEF\xBB\xBF"
                   "date,a,b\n"),
              at(3));
  same_as_two(with(3, ",,\n"), at(4));
  same_as_two(with(2, "\n\n"), at(3, 2));
  same_as_two(with(2, "# sensor replaced, 3 days\n"), at(3));
  same_as_two(with(2, "#2020-01-01,9,9\n"), at(3));
  same_as_two(with(4, ",,\n,,\n"), at(5, 2));
  same_as_two(with(4, "Total,9,12\n"), at(5));
  same_as_two(with(4, "\nSum,9,12\nSource: the plant\nread on 3 sites, by hand\n"), at(5, 4));
  same_as_two(with(4, "Total 2020,9,12\n"), at(5));
  same_as_two(with(2, "\xEF\xBB\xBF"), "");
  // In the midst a total is no footer, and what has a date is a row whatever else it has.
  EXPECT_EQ(findings(parse(with(2, "Total,9,12\n"))), "date refuse 3:1 x1\n");
  EXPECT_EQ(findings(parse(with(4, "2020-01-04,x,y\n"))), "unparsable refuse 5:2 x1\nunparsable refuse 5:3 x1\n");
  EXPECT_EQ(findings(parse(with(4, "2020-01-04,,\n"))), "missing refuse 5:2 x1\nmissing refuse 5:3 x1\n");
  EXPECT_EQ(findings(parse(with(4, "2020-01-0\n"))), "ragged refuse 5:1 x1\ndate refuse 5:1 x1\n");
  EXPECT_EQ(findings(parse(with(4, ",9,12\n"))), "date refuse 5:1 x1\n");
  // Nothing but such rows: what is wrong is said, and nothing is skipped.
  EXPECT_EQ(findings(parse("date,a\nx,y\nz,w\n")), "date refuse 2:1 x2\ntext-column refuse 2:2 x2\n");
  // Without dates a row of missing values is a step; lines below the last number are none.
  const SeriesOptions undated{.no_date = true};
  EXPECT_EQ(findings(parse("a,b\n1,2\nNA,NA\n3,4\n", undated)), "missing refuse 3:1 x1\nmissing refuse 3:2 x1\n");
  EXPECT_EQ(findings(parse("a,b\nkW,kW\n1,2\n,\n3,4\nend\n", undated)),
            "skipped warn 2:0 x2\nmissing refuse 4:1 x1\nmissing refuse 4:2 x1\n");
  EXPECT_EQ(findings(parse("v\n1\nx\n2\n", undated)), "unparsable refuse 3:1 x1\n");
  EXPECT_EQ(findings(parse("v\n1\n\n2\n", undated)), "ragged refuse 3:1 x1\n");
}

TEST(Csv, EndsOfLinesAndDelimitersAtTheEnd) {
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
    return text;
  };
  const std::string plain(kTwo);
  same_as_two(replaced(plain, "\n", "\r"), "");
  same_as_two(replaced(plain, "\n", "\r\r\n"), "");
  same_as_two("date,a,b\r2020-01-01,1,2\r\n2020-01-02,3,4\n2020-01-03,5,6\r", "");
  same_as_two(replaced(plain, "\n", ",\n"), "");
  same_as_two(replaced(plain, "\n", ",,,\n"), "");
  same_as_two(replaced(plain, "b\n", "b,,\n"), "");
  same_as_two("date,a,b\n" + replaced(plain.substr(9), "\n", ",\n"), "");
  same_as_two(replaced(plain, ",", "\xC2\xA0, "), "");
  EXPECT_EQ(parse("date,\"two\rlines\"\n2020-01-01,1\n").channels[0], "two\rlines");
  // One more that holds something is ragged, and an unnamed column that holds something is one.
  EXPECT_EQ(findings(parse("date,a\n2020-01-01,1,\n2020-01-02,2,7\n")), "ragged refuse 3:3 x1\n");
  EXPECT_EQ(parse("date,a,\n2020-01-01,1,7\n2020-01-02,2,8\n").channels, (std::vector<std::string>{"a", "column_3"}));
}

TEST(Csv, DatesInSeveralColumns) {
  struct Case {
    std::string text, first, cells;
    SeriesOptions options = {};
  };
  for (const Case& c :
       std::vector<Case>{{"Date,Time,v\n2020-01-01,00:00,1\n2020-01-01,00:30,2\n2020-01-01,01:00,4\n",
                          "2020-01-01 00:00", "Date=2020-01-01 Time=01:00 "},
                         {"v;Uhrzeit;Datum\n1;0:00:00;2020/1/1\n2;0:30:00;2020/1/1\n4;1:00:00;2020/1/1\n",
                          "2020/1/1 0:00:00", "Uhrzeit=1:00:00 Datum=2020/1/1 "},
                         {"Datum,Zeit,v\n01.02.2020,00:00,1\n01.02.2020,00:30,2\n01.02.2020,01:00,4\n",
                          "01.02.2020 00:00",
                          "Datum=01.02.2020 Zeit=01:00 ",
                          {.date_format = "%d.%m.%Y"}},
                         {"date,time,v\n1 Feb 2020,9:30 PM,1\n1 Feb 2020,10:00 PM,2\n1 Feb 2020,10:30 PM,4\n",
                          "1 Feb 2020 9:30 PM",
                          "date=1 Feb 2020 time=10:30 PM ",
                          {.date_format = "%d %b %Y"}},
                         {"date,hour,v\n2020-01-01,0,1\n2020-01-01,1,2\n2020-01-01,2,4\n", "2020-01-01 0:00",
                          "date=2020-01-01 hour=2 "},
                         {"No,year,month,day,hour,v\n1,2020,1,1,0,1\n2,2020,1,1,1,2\n3,2020,1,1,2,4\n",
                          "2020 1 1 0:00",
                          "year=2020 month=1 day=1 hour=2 ",
                          {.drop = {"No"}}},
                         {"YEAR,Month,Day,Hour,Minute,v\n2020,01,01,00,0,1\n2020,01,01,00,5,2\n2020,01,01,00,10,4\n",
                          "2020 01 01 00 00", "YEAR=2020 Month=01 Day=01 Hour=00 Minute=10 "},
                         {"Jahr,Monat,v\n2020,Jan,1\n2020,Feb,2\n2020,Mar,4\n", "2020 Jan", "Jahr=2020 Monat=Mar "},
                         {"d,t,v\n2020-01-01,00:00,1\n2020-01-01,00:30,2\n2020-01-01,01:00,4\n",
                          "2020-01-01 00:00",
                          "d=2020-01-01 t=01:00 ",
                          {.date_column = "d,t"}},
                         {"v,day,when\n1,05,2020-01\n2,06,2020-01\n4,07,2020-01\n",
                          "2020-01 05",
                          "day=07 when=2020-01 ",
                          {.date_column = "when,day", .date_format = "%Y-%m %d"}}}) {
    SCOPED_TRACE(c.text);
    const Series series = parse(c.text, c.options);
    EXPECT_EQ(series.channels, (std::vector<std::string>{"v"}));
    EXPECT_EQ(series.values, values({1, 2, 4}));
    EXPECT_EQ(series.date(0), c.first);
    EXPECT_TRUE(series.step.known());
    EXPECT_EQ(findings(series), "");
    std::string cells;
    for (std::size_t k = 0; k < series.date_parts.size(); ++k) {
      cells += series.date_parts[k].name + '=' + series.date_cells(series.date(2))[k] + ' ';
    }
    EXPECT_EQ(cells, c.cells);
  }
  // A whole date beside which such columns are channels, and columns that are asked for.
  const std::string whole = "date,hour,v\n2020-01-01 00:00,0,1\n2020-01-01 01:00,1,2\n";
  EXPECT_EQ(parse(whole).channels, (std::vector<std::string>{"hour", "v"}));
  EXPECT_EQ(parse("date,hour,v\n2020-01-01,7,1\n2020-01-02,6,2\n").channels, (std::vector<std::string>{"hour", "v"}));
  EXPECT_EQ(parse("date,hour,v\n2020-01-01,7,1\n2020-01-01,6,2\n", {.columns = {"hour"}}).channels,
            (std::vector<std::string>{"hour"}));
  EXPECT_EQ(findings(parse("Year,Month,v\n2020,1,1\n2020,13,2\n")), "date refuse 3:1 x1\n");
  EXPECT_TRUE(says(error_of(whole, {.date_column = "date,our"}), "'hour'"));
}

TEST(Csv, LongAndTransposedTables) {
  const auto table = [](const std::string& header, bool by_date, const std::vector<std::string>& ids) {
    std::string text = header + '\n';
    for (std::size_t i = 0; i < 12 * ids.size(); ++i) {
      const std::size_t id = by_date ? i % ids.size() : i / 12, t = by_date ? i / ids.size() : i % 12;
      text += fmt::format("{},2020-01-{:02},{}\n", ids[id], t + 1, (7 * t + id) % 13);
    }
    return text;
  };
  for (const std::string& text :
       {table("store,date,sales", false, {"Oslo", "Rom"}), table("store,date,sales", true, {"Oslo", "Rom", "Bonn"}),
        table("shop_no,timestamp,target", true, {"17", "4"})}) {
    for (const SeriesOptions& options : {SeriesOptions{}, SeriesOptions{.drop = {text.substr(0, text.find(','))}}}) {
      SCOPED_TRACE(text);
      const Error error = error_of(text, options);
      EXPECT_EQ(error.code, Exit::data);
      EXPECT_TRUE(says(error, "long form")) << error.what();
      EXPECT_TRUE(says(error, "series by " + text.substr(0, text.find(',')))) << error.what();
      EXPECT_FALSE(says(error, "--drop")) << error.advice;
    }
  }
  EXPECT_TRUE(
      says(error_of(table("shop,item,date,sales", true, {"A,x", "A,y", "B,x", "B,y"})), "4 series by shop, item"));
  // Repeats are no long form: one repeated hour, and dates that nothing tells apart.
  std::string repeated = "date,dst,v\n";
  for (int h = 0; h < 24; ++h) repeated += fmt::format("2020-01-01 {:02}:00,{},{}\n", h > 2 ? h - 1 : h, h > 2, h % 5);
  EXPECT_EQ(parse(repeated).rows, 24);
  EXPECT_EQ(parse("date,v\n2020-01-01,1\n2020-01-01,1\n2020-01-02,1\n2020-01-02,1\n").rows, 4);

  for (const std::string_view text :
       {"name,2020-01-01,2020-01-02,2020-01-03\nA,1,2,3\nB,4,5,6\n", "date,2020/1/1,2020/1/2,2020/1/3\nA,1,2,3\n",
        "Country,Lat,1/22/20,1/23/20,1/24/20\nNorway,60.5,1,2,3\n", "Land;1990;1991;1992;1993\nItalien;1;2;3;4\n"}) {
    EXPECT_TRUE(says(error_of(text), "transposed")) << text;
    EXPECT_EQ(error_of(text).code, Exit::data) << text;
  }
  EXPECT_EQ(parse("date,1990,1991,1992,1993\n2020-01-01,1,2,3,4\n2020-01-02,1,2,3,5\n").width(), 4);
}

// The rows of a long file, series by series: id, first date and how many there are.
struct LongSeries {
  std::string id;
  int first, rows;
};
std::vector<std::string> long_rows(const std::vector<LongSeries>& all) {
  std::vector<std::string> rows;
  for (std::size_t k = 0; k < all.size(); ++k) {
    for (int t = 0; t < all[k].rows; ++t) {
      rows.push_back(
          fmt::format("{},2020-01-{:02},{}\n", all[k].id, all[k].first + t, (7 * t + 3 * static_cast<int>(k)) % 13));
    }
  }
  return rows;
}
std::string joined(const std::string& header, const std::vector<std::string>& rows) {
  std::string text = header + '\n';
  for (const std::string& row : rows) text += row;
  return text;
}

TEST(Csv, LongFormWithTheSameDatesIsTheWideTable) {
  const std::vector<LongSeries> all = {{"b", 1, 12}, {"a", 1, 12}, {"c", 1, 12}};
  std::string wide = "date,a,b,c\n";
  for (int t = 0; t < 12; ++t) {
    wide += fmt::format("2020-01-{:02},{},{},{}\n", t + 1, (7 * t + 3) % 13, 7 * t % 13, (7 * t + 6) % 13);
  }
  const Series expected = parse(wide);
  std::vector<std::string> rows = long_rows(all);
  for (const char* order : {"by series", "backwards", "by date", "mixed up"}) {
    for (const char* header : {"unique_id,ds,y", "item_id,timestamp,target", "id,date,value", "Series,DATE,Sales"}) {
      SCOPED_TRACE(fmt::format("{} {}", header, order));
      const Series series = parse(joined(header, rows));
      EXPECT_EQ(series.channels, expected.channels);
      EXPECT_EQ(series.values, expected.values);
      EXPECT_EQ(series.dates, expected.dates);
      EXPECT_EQ(series.step, expected.step);
      EXPECT_TRUE(series.holes.empty());
      EXPECT_TRUE(series.panel.empty());
      EXPECT_EQ(findings(series), findings(expected));
      EXPECT_EQ(fmt::format("{},{},{}", series.long_form.id, series.long_form.date, series.long_form.value), header);
    }
    if (std::string_view(order) == "by series") std::ranges::reverse(rows);
    if (std::string_view(order) == "backwards") std::ranges::sort(rows, {}, [](const auto& r) { return r.substr(2); });
    if (std::string_view(order) == "by date") {
      for (std::size_t i = 0; i < rows.size(); ++i) std::swap(rows[i], rows[(5 * i + 7) % rows.size()]);
    }
  }
  // Some of them, in the order asked; a column that its flags name.
  EXPECT_EQ(parse(joined("unique_id,ds,y", rows), {.columns = {"c", "b"}}).channels,
            (std::vector<std::string>{"c", "b"}));
  EXPECT_EQ(parse(joined("store,day,n", rows), {.id = "store"}).values, expected.values);
  // Ids that are whole numbers rise as such.
  const std::vector<LongSeries> numbers = {{"10", 1, 12}, {"9", 1, 12}};
  EXPECT_EQ(parse(joined("id,ds,y", long_rows(numbers))).channels, (std::vector<std::string>{"9", "10"}));
  // One series of text is one too; its name alone makes none.
  EXPECT_EQ(parse(joined("unique_id,ds,y", long_rows({{"a", 1, 9}}))).channels, (std::vector<std::string>{"a"}));
  EXPECT_EQ(parse("date,series\n2020-01-01,3\n2020-01-02,4\n2020-01-03,1\n").channels,
            (std::vector<std::string>{"series"}));
}

TEST(Csv, LongFormOfOtherDatesIsAPanel) {
  std::vector<std::string> rows = long_rows({{"b", 1, 12}, {"a", 5, 8}, {"c", 11, 2}});
  std::ranges::reverse(rows);
  rows.erase(rows.begin() + 4);  // of a: 2020-01-10
  const Series series = parse(joined("unique_id,ds,y", rows));
  ASSERT_EQ(series.panel.size(), 3U);
  std::string members, holes;
  for (const auto& [id, span] : series.panel) {
    members += fmt::format("{} {} {} {}\n", id, span.size(), series.date(span.first), series.date(span.last - 1));
  }
  for (const Hole& hole : series.holes) holes += fmt::format("{}:{} ", hole.row, hole.absent);
  EXPECT_EQ(members, "a 7 2020-01-05 2020-01-12\nb 12 2020-01-01 2020-01-12\nc 2 2020-01-11 2020-01-12\n");
  EXPECT_EQ(holes, "5:1 7:0 19:0 ");
  EXPECT_EQ(series.channels, (std::vector<std::string>{"y"}));
  EXPECT_EQ(series.rows, 21);
  EXPECT_EQ(series.values[0], 3);  // a's first, (7 * 0 + 3 * 1) % 13
  EXPECT_EQ(series.step.freq(), "1d");
  EXPECT_EQ(findings(series), "gap warn 5:2 x1\n");
  // No window crosses from one to the next, or a hole.
  EXPECT_EQ(window_count(series, {0, series.rows}, 3, 1), 2 + 9);
  EXPECT_EQ(error_of(joined("unique_id,ds,y", rows), {.panel = PanelForm::channels}).code, Exit::data);
  EXPECT_TRUE(says(error_of(joined("unique_id,ds,y", rows), {.panel = PanelForm::channels}), "--panel global"));
  // Asked for, the same dates give one too.
  const Series same =
      parse(joined("unique_id,ds,y", long_rows({{"b", 1, 9}, {"a", 1, 9}})), {.panel = PanelForm::global});
  EXPECT_EQ(same.panel.size(), 2U);
}

TEST(Csv, LongFormIsRefusedByLine) {
  const std::vector<std::string> rows = long_rows({{"a", 1, 9}, {"b", 2, 9}});
  const auto with = [&](std::size_t at, const std::string& row) {
    std::vector<std::string> changed = rows;
    changed[at] = row;
    return joined("unique_id,ds,y", changed);
  };
  EXPECT_EQ(findings(parse(joined("unique_id,ds,y", rows))), "");
  EXPECT_EQ(findings(parse(with(4, "a,2020-01-04,7\n"))), "step warn 3:2 x1\nrepeated refuse 6:2 x1\n");
  EXPECT_EQ(findings(parse(with(2, ",2020-01-03,7\n"))), "id refuse 4:1 x1\ngap warn 5:2 x1\n");
  EXPECT_EQ(findings(parse(with(11, "b,2020-01-04,\n"))), "missing refuse 13:3 x1\n");
  // In rows that no forecast looks back on it is accepted.
  EXPECT_EQ(findings(parse(with(11, "b,2020-01-04,\n"), {.missing_allowed_before_last = 6})), "missing warn 13:3 x1\n");
  EXPECT_EQ(findings(parse(with(12, "b,2020-01-05,\n"), {.missing_allowed_before_last = 6})),
            "missing refuse 14:3 x1\n");
  std::vector<std::string> hourly = rows;
  for (int h = 0; h < 8; ++h) hourly.push_back(fmt::format("c,2020-01-05 {:02}:00,{}\n", h, h * h % 7));
  std::string text = joined("unique_id,ds,y", hourly);
  for (std::size_t at = text.find("2020"); at != text.npos; at = text.find("2020", at + 1)) {
    if (text[at + 10] == ',') text.insert(at + 10, " 00:00");
  }
  EXPECT_EQ(findings(parse(text)), "step refuse 21:2 x1\n");
  // Values of one column, which is named where there are several.
  const std::string two = "unique_id,ds,stock,price\na,2020-01-01,1,2\na,2020-01-02,3,2\n";
  EXPECT_TRUE(says(error_of(two), "'stock', 'price'")) << error_of(two).what();
  EXPECT_TRUE(says(error_of(two), "--value-column stock")) << error_of(two).advice;
  EXPECT_EQ(parse(two, {.value_column = "price"}).values, values({2, 2}));
  EXPECT_EQ(findings(parse(two, {.value_column = "stock"})), "unread warn 1:0 x1\n");
  EXPECT_EQ(error_of(two, {.id = "item"}).code, Exit::usage);
  EXPECT_EQ(error_of(two, {.value_column = "sales"}).code, Exit::usage);
  EXPECT_EQ(error_of(joined("unique_id,ds,y", rows), {.columns = {"a", "d"}}).code, Exit::usage);
}

TEST(Csv, NotationsOfNumbers) {
  const auto one = [](const std::string& cell, Decimal decimal, char delimiter = ';') {
    const Series series =
        parse(fmt::format("date{}v\n2020-01-01{}{}\n", delimiter, delimiter, cell), {.decimal = decimal});
    return series.findings.empty() || series.findings[0].severity == Severity::warn ? series.values[0] : missing_value;
  };
  const auto is = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  struct Case {
    const char* cell;
    double found, point, comma;
  };
  const double no = missing_value;
  for (const Case& c : std::vector<Case>{{"19,47", no, no, 19.47},
                                         {"1.234", 1.234, 1.234, 1234},
                                         {"1,234", no, 1234, 1.234},
                                         {"1.240,8", no, no, 1240.8},
                                         {"1,240.8", no, 1240.8, no},
                                         {"1 234", no, 1234, 1234},
                                         {"1'234.5", no, 1234.5, no},
                                         {"12.345.678", no, no, 12345678},
                                         {"12,345,678.25", no, 12345678.25, no},
                                         {"1\xC2\xA0"
                                          "234,5",
                                          no, no, 1234.5},
                                         {"1\xE2\x80\xAF"
                                          "234",
                                          no, 1234, 1234},
                                         {"12,34", no, no, 12.34},
                                         {"1.23.456", no, no, no},
                                         {"1234.567", 1234.567, 1234.567, no},
                                         {"12.5", 12.5, 12.5, no},
                                         {",5", no, no, 0.5},
                                         {"5,", no, no, 5},
                                         {"-3,5e2", no, no, -350},
                                         {"\xE2\x88\x92"
                                          "7",
                                          -7, -7, -7},
                                         {"(12)", -12, -12, -12},
                                         {"12-", -12, -12, -12},
                                         {"(1,5)", no, no, -1.5},
                                         {"TRUE", 1, 1, 1},
                                         {"False", 0, 0, 0},
                                         {"--5", no, no, no},
                                         {"1e5", 1e5, 1e5, 1e5},
                                         {"0,001", no, no, 0.001},
                                         {"1,,234", no, no, no},
                                         {"1 2", no, no, no}}) {
    EXPECT_TRUE(is(one(c.cell, Decimal::found), c.found)) << c.cell << ' ' << one(c.cell, Decimal::found);
    EXPECT_TRUE(is(one(c.cell, Decimal::point), c.point)) << c.cell << ' ' << one(c.cell, Decimal::point);
    EXPECT_TRUE(is(one(c.cell, Decimal::comma), c.comma)) << c.cell << ' ' << one(c.cell, Decimal::comma);
  }
  EXPECT_EQ(one("\"1,234.5\"", Decimal::point, ','), 1234.5);
  EXPECT_EQ(one("\"1.234,5\"", Decimal::comma, ','), 1234.5);
  EXPECT_EQ(findings(parse("date,v\n2020-01-01,(5)\n2020-01-02,5-\n2020-01-03,4\n")), "notation warn 2:2 x2\n");
  std::string text = "date,v\n";
  int day = 1;
  for (const char* word : {"#N/A", "#DIV/0!", "-", "--", ".", "?", "None", "missing", "\\N", "<NA>"}) {
    text += fmt::format("2020-01-{:02},{}\n", day++, word);
  }
  EXPECT_EQ(findings(parse(text + "2020-01-11,1\n")), "missing refuse 2:2 x10\n");
}

TEST(Csv, RemediesOfNotations) {
  const auto table = [](char delimiter, std::initializer_list<const char*> cells) {
    std::string text = fmt::format("date{}v\n", delimiter);
    int day = 1;
    for (const char* cell : cells) text += fmt::format("2020-01-{:02}{}{}\n", day++, delimiter, cell);
    return text;
  };
  const auto remedy = [](const std::string& text) { return error_of(text).advice; };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  for (const std::string& text :
       {table(';', {"1,5", "2,25"}), table('\t', {"1,234", "0,5"}), table(';', {"1.240,8", "987,1"}),
        table(',', {"\"3,14\"", "\"2,7\""}), table(';', {"1 240,8", "1.000.000"})}) {
    EXPECT_TRUE(has(remedy(text), "--decimal comma") && !has(remedy(text), "--decimal point")) << text << remedy(text);
    EXPECT_EQ(findings(parse(text, {.decimal = Decimal::comma})), "") << text;
  }
  for (const std::string& text : {table(';', {"1,240.8", "987"}), table(',', {"\"1,240,800\"", "5"}),
                                  table(',', {"1 240", "5"}), table(',', {"1'240.5", "5"})}) {
    EXPECT_TRUE(has(remedy(text), "--decimal point") && !has(remedy(text), "--decimal comma")) << text << remedy(text);
    EXPECT_EQ(findings(parse(text, {.decimal = Decimal::point})), "") << text;
  }
  const std::string either = remedy(table(';', {"1,234", "5,678"}));
  EXPECT_TRUE(has(either, "--decimal comma") && has(either, "--decimal point")) << either;
  EXPECT_FALSE(has(remedy(table(';', {"1,5", "1,234.5"})), "--decimal"));
  for (const char* cell : {"12.3 %", "5%", "\xE2\x82\xAC 12", "$1,200.50", "5 kW", "CHF 3.5",
                           "20 \xC2\xB0"
                           "C"}) {
    const Error error = error_of(table(';', {cell, cell}));
    EXPECT_TRUE(says(error, "write the number alone, without '")) << cell << error.what() << error.advice;
  }
  EXPECT_FALSE(says(error_of(table(',', {"12:30", "12:45"})), "alone"));

  // A comma between the cells and in each number.
  const std::string commas = "date,v,w\n2020-01-01,19,47,-1,5\n2020-01-02,20,00,2,25\n";
  EXPECT_TRUE(says(error_of(commas), "--decimal comma"));
  const Series series = parse(commas, {.decimal = Decimal::comma});
  EXPECT_EQ(series.values, values({19.47, 20, -1.5, 2.25}));
  EXPECT_EQ(findings(series), "");
  EXPECT_EQ(parse(commas, {.columns = {"w"}, .decimal = Decimal::comma}).values, values({-1.5, 2.25}));
  EXPECT_EQ(parse("v\n1,5\n2,7\n", {.no_date = true, .decimal = Decimal::comma}).values, values({1.5, 2.7}));
  EXPECT_EQ(parse("date,a,b\n2020-01-01,987,5\n2020-01-02,1.234,6\n", {.decimal = Decimal::comma}).values,
            values({987, 1234, 5, 6}));
  const Error mixed = error_of("date,v,w\n2020-01-01,19,47,5\n2020-01-02,20,2,25\n");
  EXPECT_TRUE(says(mixed, "semicolons")) << mixed.advice;
}

TEST(Csv, PointsThatMaySeparateThousands) {
  const auto table = [](std::initializer_list<const char*> cells) {
    std::string text = "date;v;w\n";
    int day = 1;
    for (const char* cell : cells) {
      text += fmt::format("2020-01-{:02};{};{}\n", day, cell, day % 5 * 0.1);
      ++day;
    }
    return text;
  };
  const std::string suspect = table({"950", "-980", "1.020", "1.234", "2.000"});
  EXPECT_EQ(findings(parse(suspect)), "notation warn 4:2 x1\n");
  EXPECT_EQ(parse(suspect).findings[0].message.find("'1.020' may be 1020") == std::string::npos, false);
  EXPECT_EQ(findings(parse(table({"950", "1.020", "1.234"}), {.columns = {"v"}, .decimal = Decimal::comma})), "");
  EXPECT_EQ(parse(table({"950", "1.020", "1.234"}), {.columns = {"v"}, .decimal = Decimal::comma}).values[1], 1020);
  EXPECT_EQ(findings(parse(suspect, {.decimal = Decimal::point})), "");
  for (const std::string& text :
       {table({"1.020", "1.234", "2.000"}), table({"950", "1.02", "1.234"}), table({"950", "0.020", "1.234"}),
        table({"950", "1.0205", "1.234"}), table({"1950", "1.020", "1.234"}), table({"950", "1020", "960"}),
        table({"950", "960", "1.234"})}) {
    EXPECT_EQ(findings(parse(text)), "") << text;
  }
}

// Rows of hours with a column `x` made by `value`, before the date or behind it.
std::string beside_hours(const std::string& name, const std::function<std::string(int)>& value, bool first = false,
                         int rows = 60) {
  std::string text = first ? name + ",date,v\n" : "date,v," + name + "\n";
  for (int t = 0; t < rows; ++t) {
    const std::string date = fmt::format("2020-01-{:02} {:02}:00", 30 + t / 24 > 31 ? 1 : 30 + t / 24, t % 24);
    const std::string stamp = 30 + t / 24 > 31 ? fmt::format("2020-02-01 {:02}:00", t % 24) : date;
    const double v = std::sin(0.7 * t) + 0.01 * (t * 7 % 11);
    text += first ? fmt::format("{},{},{}\n", value(t), stamp, v) : fmt::format("{},{},{}\n", stamp, v, value(t));
  }
  return text;
}

TEST(Csv, ColumnsThatAreNoSeries) {
  const auto number = [](auto of) { return [of](int t) { return fmt::format("{}", of(t)); }; };
  struct Case {
    std::string name, what;
    std::function<std::string(int)> value;
    bool first = false;
  };
  for (const Case& c : std::vector<Case>{
           {"", "counts the rows", number([](int t) { return t; }), true},
           {"anything", "counts the rows", number([](int t) { return 1000 + 10 * t; }), true},
           {"Index", "counts the rows", number([](int t) { return t + 1; })},
           {"time_s", "rises evenly", number([](int t) { return 0.1 * t; })},
           {"HH", "the date's hour", number([](int t) { return t % 24; })},
           {"h", "the date's hour", number([](int t) { return t % 24 + 1; })},
           {"dow", "the date's weekday", number([](int t) { return (4 + t / 24) % 7; })},  // a Thursday: 4
           {"d", "the date's day", number([](int t) { return t < 48 ? 30 + t / 24 : 1; })},
           {"unix", "seconds since 1970", number([](int t) { return 1580342400 + 3600 * t; })},
           {"ms", "milliseconds since 1970", number([](int t) { return (1580342400 + 3600 * t) * 1000LL; })},
           {"excel", "days since 1900", number([](int t) { return 43860 + t / 24.0; })},
           {"ymd", "in digits", [](int t) { return t < 48 ? fmt::format("202001{}", 30 + t / 24) : "20200201"; }},
           {"station_id", "same in all rows", number([](int) { return 17; })},
           {"id", "another one in each row", number([](int t) { return (t * 37 + 5) % 101; })}}) {
    SCOPED_TRACE(c.name);
    const std::string text = beside_hours(c.name, c.value, c.first);
    const Series series = parse(text);
    EXPECT_EQ(series.channels, (std::vector<std::string>{"v"}));
    EXPECT_EQ(findings(series), fmt::format("counter warn 1:{} x1\n", c.first ? 1 : 3));
    EXPECT_NE(series.findings.at(0).message.find(c.what), std::string::npos) << series.findings[0].message;
    EXPECT_EQ(series.values, parse(text, {.columns = {"v"}}).values);
    // Asked for, it is a channel; what a model has is not judged.
    const std::string name = c.name.empty() ? "column_1" : c.name;
    EXPECT_NE(series.findings[0].hint.find(name), std::string::npos);
    EXPECT_EQ(parse(text, {.columns = {name, "v"}}).channels, (std::vector<std::string>{name, "v"}));
  }
  // As the only channel it stays.
  const Series alone = parse(beside_hours("x", number([](int t) { return t; }), true), {.drop = {"v"}});
  EXPECT_EQ(alone.channels, (std::vector<std::string>{"x"}));
  EXPECT_EQ(findings(alone), "counter warn 1:1 x1\n");
  std::string years = "date,v\n";
  for (int t = 0; t < 40; ++t) years += fmt::format("{}-01-01,{}\n", 1950 + t, 3 * t);
  EXPECT_EQ(findings(parse(years)), "");
  // What is nearly so is a series.
  for (const Case& c : std::vector<Case>{{"trend", "", number([](int t) { return t; })},
                                         {"x", "", number([](int t) { return t == 30 ? 30.5 : t; }), true},
                                         {"hour", "", number([](int t) { return t == 59 ? 3 : t % 24; })},
                                         {"user_id", "", number([](int t) { return t % 7; })},
                                         {"id", "", number([](int t) { return 1.5 + (t * 37) % 101; })},
                                         {"down", "", number([](int t) { return 60 - t; }), true}}) {
    const Series series = parse(beside_hours(c.name, c.value, c.first));
    EXPECT_EQ(series.width(), 2) << c.name;
    EXPECT_EQ(findings(series), "") << c.name;
  }
  EXPECT_EQ(parse(beside_hours("x", number([](int t) { return t; }), true, 15)).width(), 2);  // too few rows to tell

  std::string elapsed = "t ms,v\n";
  for (int t = 0; t < 20; ++t) elapsed += fmt::format("{},{}\n", 250 * t, t * 7 % 11);
  EXPECT_TRUE(says(error_of(elapsed), "--no-date --drop 't ms'"));
  EXPECT_EQ(parse(elapsed, {.no_date = true}).channels, (std::vector<std::string>{"v"}));
  EXPECT_EQ(findings(parse(elapsed, {.drop = {"t ms"}, .no_date = true})), "");
}

TEST(Csv, NamesOfAList) {
  const auto split = [](std::string_view text) { return split_names(text); };
  using Names = std::vector<std::string>;
  EXPECT_EQ(split(""), Names());
  EXPECT_EQ(split("a"), Names({"a"}));
  EXPECT_EQ(split("a,,b c,"), Names({"a", "", "b c", ""}));
  EXPECT_EQ(split("\"a,b\",c"), Names({"a,b", "c"}));
  EXPECT_EQ(split("c,\"a \"\"b\"\",\""), Names({"c", "a \"b\","}));
  EXPECT_EQ(split("5\",a\"b"), Names({"5\"", "a\"b"}));             // a quote inside a name
  EXPECT_EQ(split("\"a,b\"c,\"d"), Names({"\"a", "b\"c", "\"d"}));  // quotes that do not end with the name
  EXPECT_EQ(split("\"\"\""), Names({"\"\"\""}));
  for (const Names& names :
       {Names{"a", "b, c"}, Names{"\"a\"", "x\"y"}, Names{"it's, so"}, Names{",", "\",\""}, Names{"--no-date", "-x"}}) {
    const std::string word = names_word(names);
    EXPECT_FALSE(word.starts_with("-") || word.starts_with("'-")) << word;  // it would be a flag
    std::string text;                                                       // without the shell's quotes
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (word.compare(i, 4, "'\\''") == 0)
        text += '\'', i += 3;
      else if (word[i] != '\'')
        text += word[i];
    }
    EXPECT_EQ(split(text), names) << word;
  }
  const Names known = {"a", "b", "a,b", "a,b,c"};
  EXPECT_EQ(join_known(Names{"a", "b"}, known), Names({"a,b"}));
  EXPECT_EQ(join_known(Names{"b", "a"}, known), Names({"b", "a"}));
  EXPECT_EQ(join_known(Names{"a", "b", "d"}, known), Names({"a,b", "d"}));
  EXPECT_EQ(join_known(Names{"b", "a", "b", "c"}, known), Names({"b", "a,b,c"}));
}

TEST(Csv, NothingToRead) {
  for (const std::string_view text : {"", "\n\n", "  \n", "date,a\n", "date,a", "\xEF\xBB\xBF", "date\n2020-01-01\n"}) {
    EXPECT_EQ(error_of(text).code, Exit::data) << text;
  }
  EXPECT_TRUE(says(error_of("2020-01-01,1\n2020-01-02,2\n"), "names"));
  EXPECT_TRUE(says(error_of("1.5,2.5\n3,4\n", {.no_date = true}), "names"));
  EXPECT_EQ(parse("0,1\n3,4\n", {.no_date = true}).rows, 1);
  EXPECT_TRUE(says(error_of("PK\x03\x04 workbook"), "workbook"));
  EXPECT_TRUE(says(error_of(std::string_view("\xFF\xFE"
                                             "d\0a\0",
                                             6)),
                   "UTF-8"));
  EXPECT_TRUE(says(error_of(std::string(200000, ',')), "columns"));
}

TEST(Csv, HostileShapesDoNotTakeMemory) {
  std::string text = "date";
  for (int i = 0; i < 50000; ++i) text += fmt::format(",{}", i);
  text += "\n2020-01-01,1\n";
  for (int i = 0; i < 300000; ++i) text += "x\n";
  EXPECT_TRUE(says(error_of(text), "ragged"));
}

TEST(Csv, Files) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("samformer-csv-{}", getpid());
  std::filesystem::create_directory(folder);
  const auto code_of = [](const std::string& path) {
    try {
      read_bytes(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.file, path);
      return error.code;
    }
    return Exit::internal;
  };
  EXPECT_EQ(code_of(folder / "absent.csv"), Exit::data);
  EXPECT_EQ(code_of(folder), Exit::data);
  EXPECT_EQ(code_of("/dev/zero"), Exit::data);
  const std::string path = folder / "b.c.csv";
  std::ofstream(path) << kHours;
  EXPECT_EQ(read_bytes(path), kHours);
  EXPECT_EQ(read_series(path, {}).name, "b.c");
  if (geteuid() != 0) {
    chmod(path.c_str(), 0);
    EXPECT_EQ(code_of(path), Exit::io);
  }
  std::filesystem::remove_all(folder);
  EXPECT_EQ(parse_csv(kHours, "-", {}).name, "stdin");
}

TEST(Csv, CompressedFiles) {
  const std::string head(kHours.substr(0, 30)), rest(kHours.substr(30));
  for (const auto& pack : {gzip_of, zstd_of}) {
    const std::string packed = pack(kHours);
    for (const std::string& bytes : {packed, pack(head) + pack(rest), pack("") + packed}) {
      for (const char* path : {"f/ETTh1.csv.gz", "f/ETTh1.csv.zst", "f/ETTh1.CSV.GZ", "f/ETTh1.csv", "ETTh1.gz"}) {
        const Series series = parse_series(bytes, path, {});
        EXPECT_EQ(series.values, parse(kHours).values) << path;
        EXPECT_EQ(series.name, "ETTh1") << path;
        EXPECT_EQ(series.path, path);
      }
      EXPECT_EQ(parse_series(bytes, "-", {}).name, "stdin");
    }
    const auto error = [](const std::string& bytes) {
      try {
        parse_series(bytes, "a.csv.gz", {});
      } catch (const Error& e) {
        EXPECT_EQ(e.file, "a.csv.gz");
        EXPECT_EQ(e.code, Exit::data) << e.what();
        return std::string(e.what());
      }
      return std::string();
    };
    for (std::size_t size = 4; size < packed.size(); ++size) EXPECT_NE(error(packed.substr(0, size)), "") << size;
    EXPECT_NE(error(packed.substr(0, packed.size() - 3)).find("cut"), std::string::npos);
    int refused = 0;
    for (std::size_t i = 4; i < packed.size(); ++i) {
      std::string damaged = packed;
      damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
      refused += error(damaged).empty() ? 0 : 1;
    }
    EXPECT_GT(refused, static_cast<int>(packed.size()) / 2);
    // A megabyte of zeros in a thousand bytes.
    try {
      inflate(pack(std::string(1'000'000, '0')), "bomb.csv.gz", 999'999);
      ADD_FAILURE() << "a bomb is read";
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::data);
      EXPECT_TRUE(says(e, "more than 999999 bytes")) << e.what();
    }
    EXPECT_EQ(inflate(pack(std::string(1'000'000, '0')), "", 1'000'000).size(), 1'000'000u);
  }
  EXPECT_EQ(parse_series(kHours, "f/ETTh1.csv.gz", {}).rows, 3);  // plain text under that name
  EXPECT_TRUE(says(error_of("BZh91AY&SY"), "compressed"));
}

TEST(Csv, MutatedFilesGiveAnErrorOrASeries) {
  const std::uint64_t seed = 5;
  std::string original = "date,a,\"b c\",d\r\n";
  for (int t = 0; t < 12; ++t)
    original += fmt::format("2020-01-{:02} 00:00:00+01:00,{},{:.3f},\"{}\"\r\n", t + 1, t, t * 0.37, -t);
  std::string long_form = "unique_id,ds,y,x\n";
  for (int t = 0; t < 24; ++t) {
    long_form += fmt::format("{},2020-01-{:02},{},{:.2f}\n", "ab3"[t % 3], t / (t % 2 + 2) + 1, t * t % 11, t * 0.37);
  }
  static constexpr std::string_view kPieces = ",;\t\n\r\"-+.:/T Z0123456789eEnaNif%\xB0\xFF\x00";
  int errors = 0;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    std::string text = i % 3 == 0 ? long_form : original;
    const std::uint32_t edits = random_block(seed, 0, 1, i)[0] % 6 + 1;
    for (std::uint32_t e = 0; e < edits; ++e) {
      const PhiloxBlock random = random_block(seed, 0, 2 + e, i);
      const std::size_t at = random[0] % (text.size() + 1);
      const char piece = kPieces[random[1] % kPieces.size()];
      switch (random[2] % 5) {
        case 0:
          text.insert(at, 1, piece);
          break;
        case 1:
          text.erase(at, random[3] % 8);
          break;
        case 2:
          text.insert(at, text.substr(random[3] % (text.size() + 1), 20));
          break;
        case 3:
          text.resize(at);
          break;
        default:
          if (at < text.size()) text[at] = piece;
      }
    }
    SeriesOptions options;
    options.no_date = i % 7 == 3;
    if (i % 3 == 0) {
      options.no_date = false;
      options.panel = i % 2 == 0 ? PanelForm::found : PanelForm::global;
      options.id = i % 4 == 0 ? "unique_id" : "";
    } else if (i % 5 == 1)
      options.date_format = "%Y-%m-%d %H:%M:%S%z";
    if (i % 11 == 2) options.missing_allowed_before_last = static_cast<std::int64_t>(i % 13);
    try {
      const Series series = parse(text, options);
      ASSERT_EQ(series.values.size(), static_cast<std::size_t>(series.rows * series.width()))
          << "seed " << seed << " i " << i;
      ASSERT_TRUE(options.no_date || series.dates.size() == static_cast<std::size_t>(series.rows));
      for (const Finding& finding : series.findings)
        ASSERT_TRUE(finding.line > 0 && finding.count > 0 && !finding.message.empty());
      require_clean(series);
      for (const double value : series.values)
        ASSERT_TRUE(std::isfinite(value) || options.missing_allowed_before_last >= 0);
    } catch (const Error& error) {
      ++errors;
      ASSERT_TRUE(error.code == Exit::data || (error.code == Exit::usage && !options.id.empty())) << error.what();
    }
  }
  EXPECT_GT(errors, 5000);
  EXPECT_LT(errors, 19900);
}

TEST(Csv, RealFiles) {
  SAMFORMER_REQUIRE_SHARED_DATA("data");
  const std::filesystem::path folder = shared_data("data");
  struct Known {
    const char *file, *step, *first, *last;
    std::int64_t rows, width;
  };
  for (const Known& known :
       {Known{"ETTh1.csv", "1 hour", "2016-07-01 00:00:00", "2018-06-26 19:00:00", 17420, 7},
        Known{"ETTm1.csv", "15 minutes", "2016-07-01 00:00:00", "2018-06-26 19:45:00", 69680, 7},
        Known{"exchange_rate.csv", "1 day", "1990-01-01 00:00:00", "2010-10-10 00:00:00", 7588, 8}}) {
    const Series series = read_series(folder / known.file, {});
    EXPECT_EQ(series.rows, known.rows);
    EXPECT_EQ(series.width(), known.width);
    EXPECT_EQ(series.step.name(), known.step);
    EXPECT_EQ(series.date(0), known.first);
    EXPECT_EQ(series.date(series.rows - 1), known.last);
    EXPECT_EQ(series.channels.back(), "OT");
    EXPECT_EQ(findings(series), "") << known.file;
  }
  EXPECT_EQ(read_series(folder / "ETTh1.csv", {}).values[1], 5.692999839782715);
}

}  // namespace
}  // namespace samformer::model
