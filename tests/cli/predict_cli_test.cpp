// `samformer predict` and `samformer eval --data` from outside: dates, columns, gaps, origins, seeds, damaged files.
#include <charconv>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

class Predict : public ProgramTest {
 protected:
  void train(const std::string& out = "run", const Words& more = {}) {
    const Outcome o = run(small(out, more));
    ASSERT_EQ(o.code, 0) << o.err;
  }

  // A run whose dates have no step forecasts files of any step.
  void train_without_step() {
    const auto ever_rarer = [](int t) { return iso(day(2024, t * t)); };
    train("run", {"--data", series("ever_rarer.csv", 400, 3, ever_rarer)});
  }

  using Cells = std::vector<Words>;
  static Cells cells(const std::string& csv) {
    Cells result;
    std::istringstream text(csv);
    for (std::string line; std::getline(text, line);) {
      result.emplace_back();
      std::istringstream row(line);
      for (std::string cell; std::getline(row, cell, ',');) result.back().push_back(cell);
    }
    return result;
  }
  Cells forecast(const Words& words, const Surroundings& s = {}) {
    const Outcome o = run(Words{"predict"} + words, s);
    EXPECT_EQ(o.code, 0) << o.err;
    return cells(o.out);
  }
  Words dates(const Words& words) {
    Words result;
    for (const Words& row : forecast(words)) result.push_back(row.at(0));
    EXPECT_EQ(result.at(0), "date");
    result.erase(result.begin());
    return result;
  }
  static Cells values_of(Cells rows) {
    for (Words& row : rows) row.erase(row.begin());
    return rows;
  }

  static std::chrono::year_month_day day(int year, int t) {
    return std::chrono::sys_days{std::chrono::year{year} / 1 / 1} + std::chrono::days{t};
  }
  static std::string iso(std::chrono::year_month_day d) {
    return fmt::format("{:04}-{:02}-{:02}", int(d.year()), unsigned(d.month()), unsigned(d.day()));
  }
  static std::string month_end(int t) {
    return iso(std::chrono::year_month_day(std::chrono::year{1990 + t / 12} /
                                           std::chrono::month{static_cast<unsigned>(t % 12 + 1)} / std::chrono::last));
  }
  // Columns of small.csv by name, and other columns, in the order asked.
  std::string reordered(const std::string& name, const std::vector<std::size_t>& order) {
    std::string text;
    for (const Words& row : cells(read("small.csv"))) {
      for (const std::size_t i : order) text += (i == order[0] ? "" : ",") + (i < row.size() ? row[i] : "x" + row[1]);
      text += '\n';
    }
    return write(name, text);
  }
  // The first rows of small.csv.
  std::string head(const std::string& name, int rows) {
    std::istringstream text(read("small.csv"));
    std::string line, result;
    for (int i = 0; i <= rows && std::getline(text, line); ++i) result += line + '\n';
    return write(name, result);
  }
};

TEST_F(Predict, ColumnsAndDecimals) {
  train();
  const Cells rows = forecast({path("run")});
  ASSERT_EQ(rows.size(), 7u);
  EXPECT_EQ(rows[0], (Words{"date", "c0", "c1", "c2"}));
  const Json exact = document({"predict", path("run")})["forecast"];
  for (int h = 1; h <= 6; ++h) {
    EXPECT_EQ(rows[h].at(0), hourly(399 + h));
    for (int c = 1; c <= 3; ++c) {
      const std::string& cell = rows[h].at(c);
      double value = 0;
      std::from_chars(cell.data(), cell.data() + cell.size(), value);
      char shortest[32];
      EXPECT_EQ(value, exact[h - 1]["values"][c - 1].get<double>());
      // The digits of a float32, no more.
      EXPECT_EQ(cell, std::string(shortest, std::to_chars(shortest, shortest + 32, static_cast<float>(value)).ptr));
      // Original units: channel c swings by 5 around 10 c.
      EXPECT_TRUE(std::abs(value - 10 * c) <= 7) << cell;
    }
  }
}

TEST_F(Predict, BoundsAndDecimals) {
  train();
  const Words predict = {"predict", path("run")};
  const Cells plain = forecast({path("run")});
  const auto each = [&](const Words& flags, const std::function<void(double, const std::string&)>& check) {
    const Cells rows = forecast(Words{path("run")} + flags);
    const Json values = document(predict + flags)["forecast"];
    for (std::size_t h = 1; h < rows.size(); ++h) {
      for (std::size_t c = 1; c < rows[h].size(); ++c) {
        check(std::stod(plain[h][c]), rows[h][c]);
        EXPECT_EQ(values[h - 1]["values"][c - 1].get<double>(), std::stod(rows[h][c]));
      }
    }
  };
  each({"--min", "11.5", "--max", "25"}, [](double exact, const std::string& cell) {
    EXPECT_TRUE(std::abs(std::stod(cell) - std::clamp(exact, 11.5, 25.0)) <= 1e-5) << cell;
  });
  each({"--decimals", "2"},
       [](double exact, const std::string& cell) { EXPECT_EQ(cell, fmt::format("{:.2f}", exact)); });
  each({"--integers"}, [](double exact, const std::string& cell) { EXPECT_EQ(cell, fmt::format("{:.0f}", exact)); });
  // Rounding leaves no bound.
  each({"--integers", "--min", "10.6", "--max", "12.5"}, [](double exact, const std::string& cell) {
    EXPECT_EQ(cell, fmt::format("{:.0f}", std::clamp(std::round(exact), 11.0, 12.0)));
  });
  fails(2, predict + Words{"--min", "2", "--max", "1"}, {"--min 2", "--max 1"});
  fails(2, predict + Words{"--max", "-0.3", "--integers", "--min", "-0.4"}, {"no number of 0 decimals", "--min -0.4"});
  fails(2, predict + Words{"--min", "nan"}, {"--min", "finite"});
  fails(2, predict + Words{"--decimals", "-1"}, {"--decimals"});
  fails(2, predict + Words{"--integers", "--decimals", "2"}, {"--integers", "--decimals 2"});
}

// Hours of sunlight: nothing at night.
TEST_F(Predict, ValuesBelowZeroWhereTheFileHasNone) {
  std::string text = "date,pv,other\n";
  for (int t = 0; t < 400; ++t) {
    text += fmt::format("{},{:.2f},{}\n", hourly(t),
                        std::max(0.0, (20 + t / 24 * 37 % 50) * std::sin(0.2618 * (t - 6))), t % 5 - 2);
  }
  train("run", {"--data", write("pv.csv", text), "--horizon", "24", "--epochs", "40"});
  const Outcome plain = run({"predict", path("run")});
  int below = 0;
  for (const Words& row : cells(plain.out)) below += row[1].starts_with('-');
  ASSERT_GT(below, 0) << plain.out;
  const std::string line = fmt::format("pv: {} of 24 values are below 0, the file has none: --min 0", below);
  EXPECT_NE(plain.err.find(line), std::string::npos) << plain.err;
  const Outcome bounded = run({"predict", path("run"), "--min", "0"});
  EXPECT_EQ(bounded.out.find(",-"), std::string::npos) << bounded.out;
  EXPECT_EQ(bounded.err.find("below 0"), std::string::npos) << bounded.err;
  // A value that is rounded to 0 has no sign.
  const Outcome near = run({"predict", path("run"), "--min", "-0.4", "--integers"});
  EXPECT_EQ(near.out.find("-0"), near.out.find("-01")) << near.out;
}

// A level that float32 cannot tell from its neighbours: the forecast has the digits that it needs.
TEST_F(Predict, DigitsOfALargeLevel) {
  const auto level = [](double by) {
    std::string text = "date,a\n";
    for (int t = 0; t < 400; ++t) text += fmt::format("{},{}\n", hourly(t), by + t % 24);
    return text;
  };
  train("plain", {"--data", write("plain.csv", level(0))});
  train("high", {"--data", write("high.csv", level(1e9))});
  const Cells plain = forecast({path("plain")}), high = forecast({path("high")});
  for (std::size_t h = 1; h < plain.size(); ++h) {
    EXPECT_TRUE(std::abs(std::stod(high[h][1]) - 1e9 - std::stod(plain[h][1])) <= 1e-3) << high[h][1];
    EXPECT_LE(high[h][1].size(), 16u) << high[h][1];
  }
}

TEST_F(Predict, DatesGoOnInTheFilesOwnFormat) {
  train_without_step();
  const auto continued = [&](const std::function<std::string(int)>& date, const Words& more = {}) {
    return dates(Words{path("run"), "--data", series("other.csv", 60, 3, date), "--horizon", "4"} + more);
  };
  EXPECT_EQ(continued([](int t) {
              t += 36;
              return fmt::format("2024/2/{} {}:{:02}", 28 + t / 96, t / 4 % 24, t % 4 * 15);
            }),
            (Words{"2024/2/29 0:00", "2024/2/29 0:15", "2024/2/29 0:30", "2024/2/29 0:45"}));
  EXPECT_EQ(continued([](int t) { return month_end(t + 50); }),
            (Words{"1999-03-31", "1999-04-30", "1999-05-31", "1999-06-30"}));
  // Weekdays from Monday 2024-01-01: row 60 would be a Monday, 12 weeks on.
  EXPECT_EQ(continued([](int t) { return iso(day(2024, t / 5 * 7 + t % 5)); }),
            (Words{"2024-03-25", "2024-03-26", "2024-03-27", "2024-03-28"}));
  EXPECT_EQ(continued([](int t) { return iso(day(2024, t)); }),
            (Words{"2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"}));
  EXPECT_EQ(continued([](int t) { return fmt::format("{}T{:02}:00:00+05:30", iso(day(2024, t / 24)), t % 24); }),
            (Words{"2024-01-03T12:00:00+05:30", "2024-01-03T13:00:00+05:30", "2024-01-03T14:00:00+05:30",
                   "2024-01-03T15:00:00+05:30"}));
  EXPECT_EQ(continued([](int t) { return fmt::format("{:02}.01.{:02} 07:00", t % 28 + 1, 24 + t / 28); },
                      {"--date-format", "%d.%m.%y %H:%M", "--freq", "d", "--holes", "close"}),
            (Words{"05.01.26 07:00", "06.01.26 07:00", "07.01.26 07:00", "08.01.26 07:00"}));
  // No step that 90 % of the rows agree on.
  const auto irregular = [](int t) { return iso(day(2024, t * t)); };
  fails(3, {"predict", path("run"), "--data", series("odd.csv", 60, 3, irregular)}, {"--freq"});
  fails(3, {"predict", path("run"), "--data", path("odd.csv"), "--freq", "d"}, {"absent", "--holes close"});
  EXPECT_EQ(continued(irregular, {"--freq", "d", "--holes", "close"}).at(0), iso(day(2024, 59 * 59 + 1)));
}

TEST_F(Predict, NotationsGoOnAndAHintIsPasted) {
  train_without_step();
  const auto continued = [&](const std::function<std::string(int)>& date) {
    return dates(Words{path("run"), "--data", series("other.csv", 60, 3, date), "--horizon", "2"});
  };
  EXPECT_EQ(continued([](int t) { return fmt::format("{}Q{}", 1990 + t / 4, t % 4 + 1); }),
            (Words{"2005Q1", "2005Q2"}));
  EXPECT_EQ(continued([](int t) { return std::to_string(1700000000123 + 1000LL * t); }),
            (Words{"1700000060123", "1700000061123"}));
  EXPECT_EQ(continued([](int t) { return fmt::format("{} {:02}:00", iso(day(2024, t / 24)), t % 24 + 1); }),
            (Words{"2024-01-03 13:00", "2024-01-03 14:00"}));

  const auto day_first = [](int t) { return fmt::format("{:02}/01/{} {:02}:00", t / 24 + 12, 2024, t % 24); };
  const Words words{"predict", path("run"), "--data", series("days.csv", 60, 3, day_first)};
  EXPECT_EQ(run(words + pasted(fails(3, words, {"every row"}), "--date-format")).code, 0);
}

TEST_F(Predict, RegularCalendarsGoOn) {
  train_without_step();
  const auto data = [&](const std::function<std::string(int)>& date) {
    return Words{path("run"), "--data", series("other.csv", 60, 3, date), "--horizon", "3"};
  };
  // Four days a week from Wednesday 2024-01-03 on, at 06:00 and 18:00.
  const auto shifts = [](int t) {
    return fmt::format("{} {:02}:00", iso(day(2024, t / 8 * 7 + t / 2 % 4 + 2)), t % 2 * 12 + 6);
  };
  EXPECT_EQ(dates(data(shifts)), (Words{"2024-02-23 06:00", "2024-02-23 18:00", "2024-02-24 06:00"}));
  const Outcome other = run(Words{"predict"} + data(shifts) + Words{"--freq", "12h"});
  EXPECT_EQ(cells(other.out).at(3).at(0), "2024-02-24 06:00");
  EXPECT_NE(other.err.find("--freq 12h: the rows' step is 8 rows a week"), std::string::npos) << other.err;
  const auto jitter = [](int t) { return fmt::format("2024-01-01 {:02}:{:02}:{:02}", t / 30, t % 30 * 2, t * 7 % 5); };
  EXPECT_EQ(dates(data(jitter)), (Words{"2024-01-01 02:00:03", "2024-01-01 02:02:03", "2024-01-01 02:04:03"}));
  EXPECT_EQ(run(Words{"predict"} + data(jitter)).err.find("irregular"), std::string::npos);
  const auto twice_a_month = [](int t) {
    return fmt::format("{}-{:02}-{:02}", 2020 + t / 24, t / 2 % 12 + 1, t % 2 * 14 + 1);
  };
  const Words words = Words{"predict"} + data(twice_a_month);
  EXPECT_EQ(run(words + pasted(fails(3, words, {"no --freq can express"}), "--no-date")).code, 0);
  const Words coarse = Words{"predict"} + data([](int t) { return iso(day(2024, t)); });
  const std::string refused = fails(3, coarse + Words{"--freq", "h"}, {"cannot tell rows 1 hour apart"});
  EXPECT_EQ(run(coarse + pasted(refused, "--freq 1d")).code, 0);
}

TEST_F(Predict, LocalTimesOfAZone) {
  train();
  // Hours of Madrid up to 2024-10-27 01:00; the next hour comes twice.
  const auto hours = [](int t) {
    return fmt::format("{} {:02}:00", iso(day(2024, 297 + (t + 14) / 24)), (t + 14) % 24);
  };
  const Words words{path("run"), "--data", series("local.csv", 60, 3, hours), "--horizon", "4"};
  EXPECT_EQ(dates(words + Words{"--timezone", "Europe/Madrid"}),
            (Words{"2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00", "2024-10-27 04:00"}));
  EXPECT_EQ(dates(words).at(1), "2024-10-27 03:00");
  fails(2, Words{"predict"} + words + Words{"--timezone", "Madrid"}, {"no zone is named 'Madrid'", "'Europe/Madrid'"});

  // A run keeps its zone.
  train("local", {"--timezone", "Europe/Madrid"});
  EXPECT_EQ(dates(Words{path("local")} + Words(words.begin() + 1, words.end())).at(1), "2024-10-27 02:00");
  // Its page has the dates that predict gives: six hours on it is 06:00.
  const auto autumn = [](int t) {
    return fmt::format("{} {:02}:00", iso(day(2024, 283 + (t + 10) / 24)), (t + 10) % 24);
  };
  ASSERT_EQ(run(small("paged", {"--data", series("autumn.csv", 400, 3, autumn), "--timezone", "Europe/Madrid"})).code,
            0);
  EXPECT_EQ(dates({path("paged")}).back(), "2024-10-27 06:00");
  EXPECT_NE(read("paged/report.html").find(">2024-10-27 06:00<"), std::string::npos);
  const std::string other = write("spring.csv", "date,a\n2024-03-31 01:30,1\n2024-03-31 02:30,1\n");
  EXPECT_EQ(run({"data", "check", other, "--timezone", "Europe/Madrid", "--horizon", "1", "--lookback", "1"}).code, 3);
}

TEST_F(Predict, StandardInputAndAnyOrderOfColumns) {
  train();
  const Cells expected = forecast({path("run"), "--data", path("small.csv")});
  Surroundings s;
  s.input = read("small.csv");
  EXPECT_EQ(forecast({path("run"), "--data", "-"}, s), expected);
  EXPECT_EQ(forecast({path("run"), "--data", reordered("order.csv", {3, 4, 0, 2, 1})}), expected);
  fails(3, {"predict", path("run"), "--data", reordered("less.csv", {0, 1, 2})}, {"c2"});
  // A channel with a date's name and quotes survives.
  std::string named = read("small.csv");
  named.replace(named.find("c0"), 2, "\"a \"\"b\"\", c\"");
  write("named.csv", named);
  EXPECT_EQ(run(small("named", {"--data", path("named.csv")})).code, 0);
  const Outcome o = run({"predict", path("named")});
  EXPECT_TRUE(o.out.starts_with("date,\"a \"\"b\"\", c\",c1,c2\n")) << o.out;
  std::string latin = read("small.csv");
  latin.replace(latin.find("c0"), 2,
                "\xb0"
                "C");
  write("latin.csv", latin);
  EXPECT_EQ(run(small("latin", {"--data", path("latin.csv")})).code, 0);
  EXPECT_TRUE(run({"predict", path("latin")})
                  .out.starts_with("date,\xc2\xb0"
                                   "C,c1,c2\n"));
}

TEST_F(Predict, MissingValuesOnlyBeforeTheLastLookback) {
  train();
  const auto with_gap = [&](int row) {
    Cells rows = cells(read("small.csv"));
    rows[static_cast<std::size_t>(row)][2] = "NaN";
    std::string text;
    for (const Words& r : rows) text += r[0] + "," + r[1] + "," + r[2] + "," + r[3] + "\n";
    return write("gap.csv", text);
  };
  EXPECT_EQ(forecast({path("run"), "--data", with_gap(376)}), forecast({path("run")}));
  fails(3, {"predict", path("run"), "--data", with_gap(377)}, {"gap.csv:378:3"});
  // Training refuses it anywhere.
  fails(3, small("x", {"--data", with_gap(10)}), {"gap.csv:11:3"});
  // An origin whose own look-back has the gap.
  fails(3, {"predict", path("run"), "--data", with_gap(100), "--origin", hourly(110)}, {"c1", hourly(99)});
}

TEST_F(Predict, TheRemedyForAMissingValueIsAnOriginBeforeIt) {
  train();
  const auto without = [&](const std::vector<std::size_t>& rows) {
    Cells all = cells(read("small.csv"));
    for (const std::size_t row : rows) all[row][1 + row % 3] = "";
    std::string text;
    for (const Words& r : all) text += r[0] + "," + r[1] + "," + r[2] + "," + r[3] + "\n";
    return write("holes.csv", text);
  };
  // Row 390 of 400 is the newest hole; rows 351 to 380 are whole, longer than the look-back of 24.
  const Words asked = {"predict", path("run"), "--data", without({350, 381, 390})};
  const std::string err = fails(3, asked, {"holes.csv:382:2", "--origin '" + hourly(379) + "'"});
  EXPECT_EQ(err.find("--drop"), std::string::npos) << err;
  const Outcome early = run(asked + pasted(err, "--origin"));
  EXPECT_EQ(early.code, 0) << early.err;
  EXPECT_EQ(early.out, run({"predict", path("run"), "--origin", hourly(379)}).out);
  // Another origin that does not help is told of one that does.
  const std::string other = fails(3, asked + Words{"--origin", hourly(385)}, {hourly(379)});
  EXPECT_EQ(run(asked + pasted(other, "--origin")).out, early.out);
  std::vector<std::size_t> everywhere;
  for (std::size_t row = 10; row < 400; row += 20) everywhere.push_back(row);
  EXPECT_EQ(fails(3, {"predict", path("run"), "--data", without(everywhere)}, {"fill it in: samformer data repair "})
                .find("--origin"),
            std::string::npos);
  EXPECT_EQ(fails(3, {"eval", path("run"), "--data", path("holes.csv")}, {"fill it in: samformer data repair "})
                .find("--drop"),
            std::string::npos);
  train("undated", {"--no-date", "--columns", "c0,c1,c2"});
  const Words rows = {"predict", path("undated"), "--data", without({395})};
  EXPECT_EQ(pasted(fails(3, rows, {}), "--origin"), (Words{"--origin", "394"}));
  EXPECT_EQ(run(rows + Words{"--origin", "394"}).code, 0);
}

// What was dropped stays so: a time of day beside the date would be part of it.
TEST_F(Predict, DroppedColumnsStayDropped) {
  std::string text = "date,time,x,note\n", without_note = "date,time,x\n";
  for (int t = 0; t < 400; ++t) {
    const std::string row = fmt::format("{},12:00,{}", iso(day(2020, 1 + t)), t % 7);
    text += row + ",a\n";
    without_note += row + '\n';
  }
  const std::string data = write("noon.csv", text);
  ASSERT_EQ(run(small("noon", {"--data", data, "--drop", "time,note"})).code, 0);
  const Outcome outcome = run({"predict", "noon"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("date,x\n2021-02-05,")) << outcome.out;
  EXPECT_EQ(run({"predict", "noon", "--data", write("less.csv", without_note)}).out, outcome.out);
}

TEST_F(Predict, AbsentColumnsAreNamedBesideTheFilesOwn) {
  train();
  std::string renamed = read("small.csv");
  renamed.replace(0, renamed.find('\n'), "date,c1,C0,load");
  const std::string err = fails(3, {"predict", path("run"), "--data", write("renamed.csv", renamed)},
                                {"2 of the run's 3 columns are absent: 'c0', 'c2'", "'C0', 'load'"});
  EXPECT_EQ(err.find("nearest"), std::string::npos) << err;
  fails(3, {"eval", path("run"), "--data", reordered("less.csv", {0, 1, 3})}, {"'c1'", "no other columns"});
}

// A forecast has the file's own columns of dates: appended to the file, it is read as the rows that follow.
TEST_F(Predict, AForecastIsAppendedToAFileWithDatesInSeveralColumns) {
  series("small.csv", 400, 3);
  const Cells rows = cells(read("small.csv"));
  const auto table = [&](const std::string& header, const std::function<std::string(const std::string&)>& date) {
    std::string text = header + ",c0,c1,c2\n";
    for (std::size_t t = 1; t < rows.size(); ++t) {
      text += date(rows[t][0]) + ',' + rows[t][1] + ',' + rows[t][2] + ',' + rows[t][3] + '\n';
    }
    return text;
  };
  const auto number = [](const std::string& text) { return std::to_string(std::stoi(text)); };
  for (const std::string& text :
       {table("Date,Time", [](const std::string& d) { return d.substr(0, 10) + ',' + d.substr(11, 5); }),
        table("Year,Month,Day,Hour", [&](const std::string& d) {
          return d.substr(0, 4) + ',' + number(d.substr(5, 2)) + ',' + number(d.substr(8, 2)) + ',' +
                 number(d.substr(11, 2));
        })}) {
    SCOPED_TRACE(text.substr(0, 60));
    write("parts.csv", text);
    ASSERT_EQ(run(small("run", {"--data", path("parts.csv"), "--overwrite"})).code, 0);
    const Outcome first = run({"predict", path("run")});
    EXPECT_EQ(first.code, 0) << first.err;
    const std::size_t header = text.find('\n') + 1;
    EXPECT_EQ(first.out.substr(0, header), text.substr(0, header));
    write("parts.csv", text + first.out.substr(header));
    EXPECT_EQ(run({"data", "check", path("parts.csv"), "--lookback", "24", "--horizon", "6", "--json"}).json()["rows"],
              406);
    EXPECT_EQ(
        run({"data", "check", path("parts.csv"), "--lookback", "24", "--horizon", "6", "--json"}).json()["findings"],
        Json::array());
  }
}

TEST_F(Predict, NumbersAreReadAsInTraining) {
  std::string german = "Datum;c0;c1;c2\n";
  series("small.csv", 400, 3);
  const Cells rows = cells(read("small.csv"));
  for (std::size_t t = 1; t < rows.size(); ++t) {
    german += rows[t][0];
    for (std::size_t c = 1; c < 4; ++c) {
      std::string cell = rows[t][c];
      if (const std::size_t point = cell.find('.'); point != std::string::npos) cell[point] = ',';
      german += ';' + cell;
    }
    german += '\n';
  }
  write("german.csv", german);
  const std::string err = fails(3, small("german", {"--data", path("german.csv")}), {"--decimal comma"});
  const Outcome trained = run(small("german", Words{"--data", path("german.csv")} + pasted(err, "--decimal")));
  ASSERT_EQ(trained.code, 0) << trained.err;
  train();
  EXPECT_EQ(hash_of("german/best.safetensors"), hash_of("run/best.safetensors"));
  EXPECT_EQ(run({"predict", path("german")}).out, run({"predict", path("run")}).out);
  const std::string other = fails(3, {"predict", path("run"), "--data", path("german.csv")}, {"--decimal comma"});
  EXPECT_EQ(run(Words{"predict", path("run"), "--data", path("german.csv")} + pasted(other, "--decimal")).out,
            run({"predict", path("run")}).out);
}

// A counter is no channel of the model, and the file that it was trained on is forecast as it is.
TEST_F(Predict, CountersAndPartsOfDatesAreNoChannels) {
  series("small.csv", 400, 3);
  const Cells rows = cells(read("small.csv"));
  std::string text = ",date,hour,c0,c1,c2\n";
  for (std::size_t t = 1; t < rows.size(); ++t) {
    text += fmt::format("{},{},{},{},{},{}\n", t - 1, rows[t][0], (t - 1) % 24, rows[t][1], rows[t][2], rows[t][3]);
  }
  write("counted.csv", text);
  const Outcome trained = run(small("counted", {"--data", path("counted.csv")}));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_NE(trained.err.find("counts the rows"), std::string::npos) << trained.err;
  EXPECT_NE(trained.err.find("is the date's hour"), std::string::npos) << trained.err;
  train();
  EXPECT_EQ(run({"predict", path("counted")}).out, run({"predict", path("run")}).out);
  // The hint brings them back.
  const Words keep = pasted(run({"data", "check", path("counted.csv")}).out, "--columns");
  const Json kept = document(small("kept", Words{"--data", path("counted.csv")} + keep));
  EXPECT_EQ(kept["channels"], 5);
  EXPECT_TRUE(run({"predict", path("kept")}).out.starts_with("date,column_1,hour,c0,c1,c2\n"));
  // Time without dates: the hint leaves it out.
  std::string elapsed = "t_s,c0\n";
  for (std::size_t t = 1; t < rows.size(); ++t)
    elapsed += fmt::format("{:.2f},{}\n", 0.05 * static_cast<double>(t), rows[t][1]);
  write("elapsed.csv", elapsed);
  const std::string err = fails(3, small("elapsed", {"--data", path("elapsed.csv")}), {"rises evenly"});
  const Json undated = document(small("elapsed", Words{"--data", path("elapsed.csv")} + pasted(err, "--no-date")));
  EXPECT_EQ(undated["channels"], 1);
}

TEST_F(Predict, HorizonAndOrigin) {
  train();
  const Cells whole = forecast({path("run")});
  const Cells two = forecast({path("run"), "--horizon", "2"});
  EXPECT_EQ(two, Cells(whole.begin(), whole.begin() + 3));
  fails(2, {"predict", path("run"), "--horizon", "7"}, {"--horizon 7", "6 steps"});
  const Cells early = forecast({path("run"), "--origin", hourly(200)});
  EXPECT_EQ(early[1][0], hourly(201));
  EXPECT_EQ(early, forecast({path("run"), "--data", head("head.csv", 201)}));
  // Trained up to row 279: the model's age is that at the origin, not at the end of the file.
  for (const auto& [origin, steps] : {std::pair(300, "21 steps"), std::pair(399, "120 steps")}) {
    const std::string err = run({"predict", path("run"), "--origin", hourly(origin)}).err;
    EXPECT_NE(err.find(hourly(279) + ", " + steps + " before this forecast"), std::string::npos) << err;
  }
  fails(2, {"predict", path("run"), "--origin", "2031-01-01"}, {"2031-01-01"});
  fails(3, {"predict", path("run"), "--origin", hourly(22)}, {"23 rows", "24"});
  EXPECT_EQ(forecast({path("run"), "--data", head("least.csv", 24)})[1][0], hourly(24));
  fails(3, {"predict", path("run"), "--data", head("short.csv", 23)}, {"23 rows", "24"});
}

TEST_F(Predict, MeanOverSeeds) {
  train("several", {"--seeds", "1,2"});
  const Cells mean = forecast({path("several")});
  const Cells a = forecast({path("several/seed-1")}), b = forecast({path("several/seed-2")});
  EXPECT_NE(a, b);
  for (std::size_t h = 1; h < mean.size(); ++h) {
    for (std::size_t c = 1; c < mean[h].size(); ++c) {
      const double expected = (std::stod(a[h][c]) + std::stod(b[h][c])) / 2;
      EXPECT_TRUE(std::abs(std::stod(mean[h][c]) - expected) <= 2e-7 * std::abs(expected));
    }
  }
  EXPECT_EQ(document({"predict", path("several")})["models"], 2);
}

TEST_F(Predict, EveryLocale) {
  train();
  Surroundings german;
  german.environment = {{"LC_ALL", "de_DE.UTF-8"}, {"LC_NUMERIC", "de_DE.UTF-8"}};
  EXPECT_EQ(forecast({path("run")}, german), forecast({path("run")}));
}

TEST_F(Predict, WithoutDates) {
  train("run", {"--no-date", "--columns", "c0,c1"});
  const Cells rows = forecast({path("run")});
  EXPECT_EQ(rows[0], (Words{"date", "c0", "c1"}));
  EXPECT_EQ(rows[1][0], "401");
  EXPECT_EQ(rows[6][0], "406");
  EXPECT_EQ(forecast({path("run"), "--origin", "100"})[1][0], "101");
}

TEST_F(Predict, WhichWeights) {
  train("run", {"--refit"});
  const Outcome final = run({"predict", path("run")});
  EXPECT_EQ(final.err.find("trained on"), std::string::npos) << final.err;
  const Outcome best = run({"predict", path("run"), "--weights", "best"});
  EXPECT_NE(best.err.find("trained on rows up to " + hourly(279) + ", 120 steps before this forecast"),
            std::string::npos)
      << best.err;
  EXPECT_NE(best.out, final.out);
  EXPECT_EQ(run({"predict", path("run"), "--weights", "final"}).out, final.out);
  EXPECT_EQ(run({"predict", path("run/final.safetensors")}).out, final.out);
  EXPECT_EQ(run({"predict", path("run/best.safetensors")}).out, best.out);
  EXPECT_EQ(document({"eval", path("run"), "--weights", "final"})["weights_sha256"], hash_of("run/final.safetensors"));
  EXPECT_EQ(document({"eval", path("run")})["weights_sha256"], hash_of("run/best.safetensors"));

  train("plain");
  EXPECT_EQ(run({"predict", path("plain")}).out, best.out);
  fails(3, {"predict", path("plain"), "--weights", "final"}, {"--refit"});
  // The checkpoint is enough.
  fs::copy_file(scratch_ / "plain/best.safetensors", scratch_ / "alone.safetensors");
  fs::remove_all(scratch_ / "plain");
  EXPECT_EQ(run({"predict", "alone.safetensors", "--data", path("small.csv")}).out, best.out);
}

TEST_F(Predict, OutIsReplacedAsAWhole) {
  train();
  const std::string expected = run({"predict", path("run")}).out;
  write("forecast.csv", "old");
  const Outcome o = run({"predict", path("run"), "--out", path("forecast.csv")});
  EXPECT_EQ(o.code, 0);
  EXPECT_EQ(o.out, "");
  EXPECT_EQ(read("forecast.csv"), expected);
  fails(7, {"predict", path("run"), "--out", path("no/such/folder.csv")}, {"no/such"});
  const Json d = document({"predict", path("run"), "--out", path("again.csv")});
  EXPECT_EQ(read("again.csv"), expected);
  EXPECT_EQ(d["horizon"], 6);
  EXPECT_EQ(d["origin"], hourly(399));
  EXPECT_EQ(d["columns"], Json({"c0", "c1", "c2"}));
  ASSERT_EQ(d["forecast"].size(), 6u);
  EXPECT_EQ(d["forecast"][0]["date"], hourly(400));
}

TEST_F(Predict, NewRowsAfterTraining) {
  train();
  const Cells before = forecast({path("run")});
  series("small.csv", 410, 3);
  EXPECT_EQ(forecast({path("run")})[1][0], hourly(410));
  EXPECT_EQ(forecast({path("run"), "--origin", hourly(399)}), before);
}

// What a folder of seeds forecasts is what its `ensemble` errors are of: one test window, its truth read here.
TEST_F(Predict, TheEnsembleOfSeedsIsItsMeanForecast) {
  const Words split = {"--split", "rows:300,94,6"};
  const Json trained = document(small("run", split + Words{"--seeds", "1..3"}));
  const Json& ensemble = trained["ensemble"];
  EXPECT_EQ(ensemble["models"], 3);
  EXPECT_EQ(trained["runs"][0]["test_windows"], 1);
  const Cells predicted = forecast({path("run"), "--weights", "best", "--origin", hourly(393)});
  const Cells truth = cells(read("small.csv"));
  ASSERT_EQ(predicted.size(), 7u);
  double squared = 0, absolute = 0;
  for (std::size_t d = 0; d < 3; ++d) {
    const Json& channel = trained["runs"][0]["per_channel"][d];
    const double unit = channel["mae_original"].get<double>() / channel["mae"].get<double>();
    for (std::size_t h = 0; h < 6; ++h) {
      EXPECT_EQ(predicted[1 + h][0], truth[395 + h][0]);
      const double e = (std::stod(predicted[1 + h][1 + d]) - std::stod(truth[395 + h][1 + d])) / unit;
      squared += e * e / 18, absolute += std::abs(e) / 18;
    }
  }
  const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); };
  EXPECT_TRUE(near(ensemble["test_mse"], squared)) << ensemble << ' ' << squared;
  EXPECT_TRUE(near(ensemble["test_mae"], absolute)) << ensemble << ' ' << absolute;
  EXPECT_LT(ensemble["test_mse"].get<double>(), trained["mean"]["test_mse"].get<double>());  // Jensen
  // The same of all windows at once, by eval; one model is its own mean.
  EXPECT_EQ(document({"eval", path("run")})["ensemble"], ensemble);
  EXPECT_NE(run({"eval", path("run")}).out.find("test error, mean forecast"), std::string::npos);
  const Json val = document({"eval", path("run"), "--part", "val"});
  EXPECT_LT(val["ensemble"]["test_mse"].get<double>(), val["mean"]["test_mse"].get<double>());
  const Json one = document(small("one", {"--seeds", "3"}));
  EXPECT_TRUE(near(one["ensemble"]["test_mse"], one["mean"]["test_mse"]));
  EXPECT_FALSE(document({"eval", path("run/seed-1")}).contains("ensemble"));
  EXPECT_FALSE(document(small("untested", split + Words{"--seeds", "1,2", "--no-test"})).contains("ensemble"));
}

TEST_F(Predict, OnlyTheTargets) {
  train("run", {"--features", "MS", "--target", "c1"});
  const Cells rows = forecast({path("run")});
  EXPECT_EQ(rows[0], (Words{"date", "c1"}));
  // The other channels are inputs.
  fails(3, {"predict", path("run"), "--data", reordered("less.csv", {0, 2})}, {"c0"});
  train("alone", {"--features", "S", "--target", "c1"});
  EXPECT_EQ(forecast({path("alone"), "--data", path("less.csv")})[0], (Words{"date", "c1"}));
}

TEST_F(Predict, EvalOnOtherData) {
  train();
  const Json own = document({"eval", path("run")});
  EXPECT_EQ(own["windows_overlapping_training"], 0);
  fs::copy_file(scratch_ / "small.csv", scratch_ / "other.csv");
  const Json copy = document({"eval", path("run"), "--data", path("other.csv")});
  EXPECT_EQ(copy["test_mse"], own["test_mse"]);
  EXPECT_EQ(copy["dataset"], "other");
  // The validation error of the training is that of --part val.
  const Json val = document({"eval", path("run"), "--part", "val"});
  EXPECT_EQ(val["test_mse"], Json::parse(read("run/result.json"))["val_mse"]);
  EXPECT_EQ(val["windows"], 35);
  EXPECT_EQ(val["windows_overlapping_training"], 24);
  EXPECT_NE(run({"eval", path("run"), "--part", "val"}).err.find("24 of 35 windows overlap"), std::string::npos);
  const Json all = document({"eval", path("run"), "--part", "all"});
  EXPECT_EQ(all["windows"], 400 - 30 + 1);
  EXPECT_EQ(all["windows_overlapping_training"], 280);
  EXPECT_EQ(document({"eval", path("run"), "--part", "train"})["windows"], 251);
  // The run's scaler, not one fitted on the file: a level far away leaves RevIN's errors as they are.
  std::string shifted;
  const Cells rows = cells(read("small.csv"));
  for (const Words& row : rows) {
    shifted += row[0];
    for (std::size_t c = 1; c < row.size(); ++c) {
      shifted += &row == &rows[0] ? "," + row[c] : fmt::format(",{}", 3 * std::stod(row[c]));
    }
    shifted += '\n';
  }
  const Json scaled = document({"eval", path("run"), "--data", write("scaled.csv", shifted)});
  const double ratio =
      scaled["baselines"]["naive"]["test_mse"].get<double>() / own["baselines"]["naive"]["test_mse"].get<double>();
  EXPECT_TRUE(std::abs(ratio - 9) <= 1e-4) << ratio;
  // The run's rule on that file.
  const Json longer = document({"eval", path("run"), "--data", series("longer.csv", 800, 3)});
  EXPECT_EQ(longer["splits"]["train"]["last_row"], 560);
  EXPECT_EQ(longer["test_windows"], 160 - 6 + 1);
  // Too short for its validation part's look-back, long enough as a whole.
  const std::string brief = series("brief.csv", 32, 3);
  fails(3, {"eval", path("run"), "--data", brief, "--part", "val"}, {"brief.csv", "--part"});
  EXPECT_EQ(document({"eval", path("run"), "--data", brief, "--part", "all"})["windows"], 3);
  fails(3, {"eval", path("run"), "--data", series("briefer.csv", 29, 3), "--part", "all"}, {"briefer.csv"});
  fails(2, {"eval", path("run"), "--part", "tset"}, {"test"});
  // A rule of fixed rows that the other file is too short for: only the whole of it can be asked for.
  document(small("fixed", {"--split", "rows:280,40,80"}));
  fails(3, {"eval", path("fixed"), "--data", brief}, {"brief.csv"});
  const Json whole = document({"eval", path("fixed"), "--data", brief, "--part", "all"});
  EXPECT_EQ(whole["windows"], 3);
  EXPECT_TRUE(whole["splits"].is_null());
  EXPECT_TRUE(whole["test_windows"].is_null());
  EXPECT_EQ(run({"eval", path("fixed"), "--data", brief, "--part", "all"}).code, 0);
}

TEST_F(Predict, DamagedCheckpoints) {
  train("run", {"--refit"});
  const std::string good = read("run/final.safetensors");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    const std::size_t at = bad.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return bad.replace(at, from.size(), to);
  };
  const std::vector<std::string> bad = {"",
                                        good.substr(0, 100),
                                        good.substr(0, good.size() - 1),
                                        good + "x",
                                        std::string(5000, '\xff'),
                                        replaced("lookback = 24", "lookback = 25"),
                                        replaced("horizon = 6", "horizon = 9"),
                                        replaced("[\\\"c0\\\",", "[ 11111, "),
                                        replaced("\\\"mean\\\"", "\\\"meen\\\""),
                                        replaced("[0,1,2]", "[0,1,3]"),
                                        replaced("compute_keys.bias", "compute_keis.bias")};
  for (std::size_t i = 0; i < bad.size(); ++i) {
    SCOPED_TRACE(i);
    write("run/final.safetensors", bad[i]);
    // Never the other weights in silence.
    fails(3, {"predict", path("run")}, {"final.safetensors"});
    fails(3, {"eval", path("run"), "--weights", "final"}, {"final.safetensors"});
  }
  EXPECT_EQ(run({"predict", path("run"), "--weights", "best"}).code, 0);
  fails(3, {"predict", path("none")}, {"none"});
  fs::create_directory(scratch_ / "empty");
  fails(3, {"predict", path("empty")}, {"empty"});
  fails(3, {"predict", path("small.csv")}, {"small.csv"});
}

// Values that no training leaves are refused; a forecast that overflows is none.
TEST_F(Predict, ForgedCheckpoints) {
  train();
  const std::string name = "run/best.safetensors", good = read(name);
  using Tensors = std::map<std::string, std::vector<float>>;
  const auto refused = [&](int code, const Words& parts,
                           const std::function<void(model::Metadata&, Tensors&)>& change) {
    SCOPED_TRACE(parts[0]);
    write(name, good);
    rewrite(name, change);
    fs::remove_all(scratch_ / "eval");
    fails(code, {"predict", path("run"), "--out", path("forecast.csv")}, parts);
    fails(code, {"eval", path("run"), "--out", path("eval")}, code == 3 ? parts : Words{"overflow"});
    EXPECT_FALSE(exists("forecast.csv"));
    EXPECT_FALSE(exists("eval/report.html"));
  };
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    refused(3, {"damaged: weights are not finite", "best.safetensors"},
            [&](auto&, Tensors& tensors) { tensors["linear_forecaster.weight"][5] = bad; });
  }
  const auto with = [](const std::string& key, const std::string& from, const std::string& to) {
    return [=](model::Metadata& metadata, Tensors&) {
      std::string& text = metadata[key];
      const std::size_t at = text.find(from), end = text.find_first_of(",]}", at + from.size());
      ASSERT_NE(at, std::string::npos) << text;
      text.replace(at + from.size(), end - at - from.size(), to);
    };
  };
  for (const char* bad : {"0", "-1.5", "0.0"}) refused(3, {"deviations above 0"}, with("scaler", "\"std\":[", bad));
  refused(3, {"'std[0]'", "null", "a number"}, with("scaler", "\"std\":[", "null"));
  refused(3, {"not valid JSON"}, with("scaler", "\"mean\":[", "1e999"));
  refused(3, {"targets", "another one"}, with("targets", "[0,1,", "0"));
  refused(3, {"targets", "0 to 2"}, with("targets", "[0,1,", "4294967296"));
  refused(3, {"'parts.train.first_row'"}, with("splits", "\"first_row\":", "-9223372036854775808"));
  refused(3, {"'parts.train.last_row'"}, with("splits", "\"last_row\":", "9223372036854775807"));
  refused(3, {"dots", "best.safetensors"}, [](model::Metadata& metadata, Tensors&) {
    std::string& text = metadata["config"];
    text += "\na";
    for (int i = 0; i < 50000; ++i) text += ".a";
    text += " = 1";
  });
  refused(5, {"overflow", "'c0'", "step 1", "data check"}, [](auto&, Tensors& tensors) {
    for (float& w : tensors["linear_forecaster.weight"]) w = 3e38f;
  });
  refused(5, {"overflow"}, with("scaler", "\"mean\":[", "1.7e308"));
}

// What an argument names ends up in TOML and JSON, which are UTF-8.
TEST_F(Predict, ARunsFolderIsNamedInUtf8) {
  train();
  fs::rename(path("run"), path("run-\xff"));
  fails(2, {"predict", path("run-\xff")}, {"RUN: expected UTF-8 text", "hint: "});
  fs::create_directory_symlink("run-\xff", path("link"));
  EXPECT_EQ(document({"predict", path("link")})["run_dir"], path("link"));
}

TEST_F(Predict, NamesOnATerminal) {
  const Descriptor terminal(posix_openpt(O_RDWR | O_NOCTTY));
  if (terminal.get() < 0 || grantpt(terminal.get()) != 0 || unlockpt(terminal.get()) != 0) {
    GTEST_SKIP() << "this machine has no pseudo-terminals";
  }
  series("small.csv", 400, 3);
  std::string text = read("small.csv");
  const std::string name = "\x1b[2J\xc2\x9b";
  write("small.csv", text.replace(text.find("c0"), 2, name));
  train();
  ASSERT_EQ(run({"predict", path("run")}, {.out = ptsname(terminal.get())}).code, 0);
  char buffer[4096];
  const ssize_t got = ::read(terminal.get(), buffer, sizeof buffer);
  ASSERT_GT(got, 0);
  const std::string on_terminal(buffer, static_cast<std::size_t>(got));
  EXPECT_TRUE(on_terminal.starts_with("date,\"?[2J?\",c1,c2\r\n")) << on_terminal;
  EXPECT_TRUE(run({"predict", path("run")}).out.starts_with(fmt::format("date,\"{}\",c1,c2\n", name)));
}

// The errors of eval's document, computed again from the rows of --forecasts.
TEST_F(Predict, EvalWritesItsForecasts) {
  train("run", {"--seeds", "1,2"});
  const std::string file = path("f.csv");
  struct Sums {
    double squared = 0, absolute = 0, difference = 0, size = 0, rows = 0;
  };
  // By forecast's column, then by series.
  const auto sums_of = [&] {
    const Cells rows = cells(read("f.csv"));
    std::map<std::string, std::map<std::string, Sums>> all;
    for (std::size_t r = 1; r < rows.size(); ++r) {
      for (std::size_t c = 5; c < rows[0].size(); ++c) {
        Sums& s = all[rows[0][c]][rows[r].at(3)];
        const double y = std::stod(rows[r].at(4)), e = std::stod(rows[r].at(c)) - y;
        s.squared += e * e, s.absolute += std::abs(e), s.difference += e, s.size += std::abs(y), ++s.rows;
      }
    }
    return all;
  };
  const auto near = [](const Json& a, double b) { return std::abs(a.get<double>() - b) <= 1e-6 * std::abs(b); };
  const Json one = document({"eval", path("run/seed-1"), "--forecasts", file});
  EXPECT_EQ(one["forecasts"], file);
  const Cells rows = cells(read("f.csv"));
  ASSERT_EQ(rows.size(), 1u + 75 * 3 * 6);
  EXPECT_EQ(rows[0], (Words{"origin", "date", "step", "series", "actual", "forecast", "naive", "seasonal_naive",
                            "least_squares"}));
  const Cells truth = cells(read("small.csv"));
  // The first and the last row: windows of the test part.
  EXPECT_EQ(Words(rows[1].begin(), rows[1].begin() + 5), (Words{hourly(319), hourly(320), "1", "c0", truth[321][1]}));
  EXPECT_EQ(Words(rows.back().begin(), rows.back().begin() + 5),
            (Words{hourly(393), hourly(399), "6", "c2", truth[400][3]}));
  EXPECT_EQ(rows[1][6], truth[320][1]);
  EXPECT_EQ(rows[1][7], truth[297][1]);
  const auto all = sums_of();
  const auto mse = [&](const std::string& forecast) {  // standardised
    double total = 0;
    for (std::size_t c = 0; c < 3; ++c) {
      const Json& channel = one["per_channel"][c];
      const double unit = channel["mae_original"].get<double>() / channel["mae"].get<double>();
      const Sums& s = all.at(forecast).at(channel["name"]);
      total += s.squared / s.rows / unit / unit / 3;
    }
    return total;
  };
  EXPECT_TRUE(near(one["test_mse"], mse("forecast"))) << one["test_mse"] << ' ' << mse("forecast");
  for (const char* name : {"naive", "seasonal_naive", "least_squares"}) {
    EXPECT_TRUE(near(one["baselines"][name]["test_mse"], mse(name))) << name << ' ' << mse(name);
  }
  double errors = 0, sizes = 0;
  for (const Json& channel : one["per_channel"]) {
    const Sums& s = all.at("forecast").at(channel["name"]);
    EXPECT_TRUE(near(channel["mae_original"], s.absolute / s.rows)) << channel;
    EXPECT_TRUE(near(channel["rmse_original"], std::sqrt(s.squared / s.rows))) << channel;
    EXPECT_TRUE(near(channel["wape"], s.absolute / s.size)) << channel;
    EXPECT_TRUE(std::abs(channel["bias"].get<double>() - s.difference / s.rows) <= 1e-6 * s.absolute / s.rows);
    EXPECT_TRUE(channel["mase"].is_number() && channel["rmsse"].is_number());
    errors += s.absolute, sizes += s.size;
  }
  EXPECT_TRUE(near(one["wape"], errors / sizes)) << one["wape"];
  EXPECT_EQ(one["scaled_channels"], 3);
  EXPECT_NE(run({"eval", path("run/seed-1")}).out.find(fmt::format("wape {:.2f} %", 100 * one["wape"].get<double>())),
            std::string::npos);

  // Of a folder of seeds: their mean forecast.
  const Json both = document({"eval", path("run"), "--forecasts", file});
  double total = 0;
  const auto ensemble = sums_of();
  for (const Json& channel : both["runs"][0]["per_channel"]) {
    const double unit = channel["mae_original"].get<double>() / channel["mae"].get<double>();
    const Sums& s = ensemble.at("forecast").at(channel["name"]);
    total += s.squared / s.rows / unit / unit / 3;
  }
  EXPECT_TRUE(near(both["ensemble"]["test_mse"], total)) << total;

  // No input of the command is replaced, nothing is left behind.
  const std::string before = read("small.csv");
  fails(2, {"eval", path("run"), "--forecasts", path("small.csv")}, {"small.csv"});
  EXPECT_EQ(read("small.csv"), before);
  fails(2, {"eval", path("run"), "--forecasts", path("run/seed-1/best.safetensors")}, {"best.safetensors"});
  fails(7, {"eval", path("run"), "--forecasts", path("no/f.csv")}, {"no/f.csv"});
  for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
    EXPECT_FALSE(entry.path().filename().string().ends_with(".tmp")) << entry.path();
  }
}

// What is said of another file's format counts for `eval` as for `predict`.
TEST_F(Predict, EvalReadsAFileAsItIsTold) {
  train();
  std::string plain;
  for (Words& row : cells(read("small.csv"))) {
    for (std::size_t i = 1; i < row.size(); ++i) plain += (i == 1 ? "" : ",") + row[i];
    plain += '\n';
  }
  const Json own = document({"eval", path("run")});
  const Json other = document({"eval", path("run"), "--data", write("plain.csv", plain), "--no-date"});
  EXPECT_EQ(other["test_mse"], own["test_mse"]);
  EXPECT_TRUE(other["splits"]["test"]["first_date"].is_null());
}

}  // namespace
}  // namespace samformer
