// A property of `forecast` on random small files as people have them: it writes finite values on the right dates, or
// ends with a message whose remedy, pasted behind the same command, works; and its errors on rows that were held back
// are in the mean those of the better naive forecast or less.
//
// A file is a clean table (a calendar, up to four channels) and what its way into CSV did to it. FORECAST_FILES=N: how
// many (1000); FORECAST_SEED=N: that file alone, with its text and every message.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <numbers>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/io/file.h"
#include "core/text.h"
#include "tests/scratch_folder.h"

namespace samformer {
namespace {

using Texts = std::vector<std::string>;
using Time = std::chrono::sys_seconds;
using Calendar = std::chrono::year_month_day;
using std::chrono::days;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  double unit() { return static_cast<double>(engine_() >> 11) / static_cast<double>(1ull << 53); }
  int whole(int first, int last) { return first + static_cast<int>(unit() * (last - first + 1)); }
  bool chance(double p) { return unit() < p; }
  double normal() { return std::sqrt(-2 * std::log(1 - unit())) * std::cos(2 * std::numbers::pi * unit()); }
  template <class T>
  const T& of(const std::vector<T>& all) {
    return all[static_cast<std::size_t>(whole(0, static_cast<int>(all.size()) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

// ---- When: the times of the rows.

enum class Fine { clock, day, month, quarter, year };

struct Times {
  std::string what;
  Fine fine = Fine::day;
  int season = 1;
  bool forecast = true;  // false: no step can tell which times follow
  bool slots = false;    // of a week: two weeks show them
  bool local = false;    // written as the clocks of Berlin show them
  std::vector<Time> all;
};

Calendar date_of(Time t) { return Calendar(std::chrono::floor<days>(t)); }
int weekday_of(Time t) { return static_cast<int>(std::chrono::weekday(std::chrono::floor<days>(t)).iso_encoding()); }
int hour_of(Time t) { return static_cast<int>((t - std::chrono::floor<days>(t)) / std::chrono::hours(1)); }

// Hours that the clocks of Berlin are before UTC.
int berlin(Time t) {
  using std::chrono::last;
  using std::chrono::Sunday;
  const auto year = date_of(t).year();
  const Time spring = std::chrono::sys_days(year / std::chrono::March / Sunday[last]) + std::chrono::hours(1);
  const Time autumn = std::chrono::sys_days(year / std::chrono::October / Sunday[last]) + std::chrono::hours(1);
  return t >= spring && t < autumn ? 2 : 1;
}

Times times_of(Random& random, int count) {
  using namespace std::chrono_literals;
  using std::chrono::seconds;
  const Time first =
      std::chrono::sys_days(std::chrono::year(random.whole(1974, 2024)) / random.whole(1, 12) / random.whole(1, 28));
  const auto size = static_cast<std::size_t>(count);
  const auto every = [&](std::string what, seconds step, int season, Fine fine) {
    Times times{std::move(what), fine, season, true, false, false, {}};
    for (Time t = first + (fine == Fine::clock ? step * random.whole(0, 7) : 0s); times.all.size() < size; t += step)
      times.all.push_back(t);
    return times;
  };
  const auto where = [&](std::string what, seconds step, int season, Fine fine, const std::function<bool(Time)>& is) {
    Times times{std::move(what), fine, season, true, true, false, {}};
    for (Time t = first; times.all.size() < size; t += step) {
      if (is(t)) times.all.push_back(t);
    }
    return times;
  };
  const auto months = [&](std::string what, int step, int season, Fine fine,
                          const std::function<std::chrono::sys_days(std::chrono::year_month)>& day) {
    Times times{std::move(what), fine, season, true, false, false, {}};
    const Calendar from = date_of(first);
    const std::chrono::month month(step == 1 ? static_cast<unsigned>(from.month())
                                             : static_cast<unsigned>(step * random.whole(0, 12 / step - 1) + 1));
    for (auto m = from.year() / month; times.all.size() < size; m += std::chrono::months(step)) {
      times.all.push_back(day(m));
    }
    return times;
  };
  const auto start = [](std::chrono::year_month m) { return std::chrono::sys_days(m / 1); };
  const auto end = [](std::chrono::year_month m) { return std::chrono::sys_days(m / std::chrono::last); };
  const auto weekdays = [&](const std::string& digits) {
    return [digits](Time t) { return digits.find(static_cast<char>('0' + weekday_of(t))) != digits.npos; };
  };
  switch (random.whole(0, 34)) {
    case 0:
      return every("15 min", 15min, 96, Fine::clock);
    case 1:
    case 2:
      return every("hour", 1h, 24, Fine::clock);
    case 3:
    case 4:
    case 5:
      return every("day", 24h, 7, Fine::day);
    case 6:
    case 7:
      return where("business day", 24h, 5, Fine::day, weekdays("12345"));
    case 8:
    case 9:
      return every("week", 7 * 24h, 52, Fine::day);
    case 10:
    case 11:
      return months("month start", 1, 12, Fine::month, start);
    case 12:
      return months("month end", 1, 12, Fine::month, end);
    case 13:
      return months("15th of the month", 1, 12, Fine::month,
                    [](std::chrono::year_month m) { return std::chrono::sys_days(m / 15); });
    case 14:
      return months("quarter start", 3, 4, Fine::quarter, start);
    case 15:
      return months("quarter end", 3, 4, Fine::day, [](std::chrono::year_month m) {
        return std::chrono::sys_days((m + std::chrono::months(2)) / std::chrono::last);
      });
    case 16:
      return months("year", 12, 1, Fine::year, start);
    case 17:
      return where("Mon to Sat", 24h, 6, Fine::day, weekdays("123456"));
    case 18:
      return where("office hours", 1h, 8, Fine::clock,
                   [](Time t) { return weekday_of(t) <= 5 && hour_of(t) >= 9 && hour_of(t) <= 16; });
    case 19: {
      Times times = where("1st and 15th", 24h, 24, Fine::day, [](Time t) {
        return date_of(t).day() == std::chrono::day(1) || date_of(t).day() == std::chrono::day(15);
      });
      times.forecast = false;
      return times;
    }
    case 20: {
      Times times{"irregular", Fine::day, 1, false, false, false, {}};
      for (Time t = first; times.all.size() < size; t += days(random.whole(1, 9))) times.all.push_back(t);
      return times;
    }
    case 21:
      return every("10 min", 10min, 1, Fine::clock);
    case 22:
      return every("5 min", 5min, 1, Fine::clock);
    case 23:
      return every("6 hours", 6h, 1, Fine::clock);
    case 24:
      return every("2 days", 48h, 1, Fine::day);
    case 25:
      return months("3rd Friday", 1, 12, Fine::day,
                    [](std::chrono::year_month m) { return std::chrono::sys_days(m / std::chrono::Friday[3]); });
    case 26: {
      Times times = every("about an hour", 1h, 24, Fine::clock);
      for (Time& t : times.all) t += seconds(random.whole(-60, 60));
      times.forecast = false;  // to the second
      return times;
    }
    case 27:
      return months("last business day", 1, 12, Fine::day, [](std::chrono::year_month m) {
        auto day = std::chrono::sys_days(m / std::chrono::last);
        while (weekday_of(day) > 5) day -= days(1);
        return day;
      });
    case 28:
      return where("Tue, Thu and Sat", 24h, 3, Fine::day, weekdays("246"));
    case 29:
      return where("weekends", 24h, 2, Fine::day, weekdays("67"));
    case 30:
      return every("second", 1s, 1, Fine::clock);
    case 31:
      return where("shop hours", 1h, 1, Fine::clock, [](Time t) {
        return hour_of(t) >= 10 && hour_of(t) <= (weekday_of(t) == 6 ? 13 : 18) && weekday_of(t) <= 6;
      });
    case 32:
      return where("three a day", 1h, 3, Fine::clock,
                   [](Time t) { return hour_of(t) == 8 || hour_of(t) == 12 || hour_of(t) == 18; });
    case 33: {
      Times times{"hours of Berlin", Fine::clock, 24, true, false, true, {}};
      const auto month = std::chrono::month(random.chance(0.5) ? 3 : 10);  // when the clocks change
      Time t = std::chrono::sys_days(std::chrono::year(random.whole(1996, 2024)) / month / 15) +
               1h * random.whole(0, 24 * 14);
      for (; times.all.size() < size; t += 1h) times.all.push_back(t);
      return times;
    }
    default:
      return every("4 weeks", 28 * 24h, 13, Fine::day);
  }
}

// ---- How dates are written.

std::string written(Time t, const char* pattern) {
  const std::time_t seconds = t.time_since_epoch().count();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[80];
  return {text, std::strftime(text, sizeof text, pattern, &parts)};
}

struct DateStyle {
  std::string what;
  Texts names;
  std::function<Texts(Time)> cells;
  std::string said = {};  // the flag that reads it, where only its owner knows
};

DateStyle style_of(Random& random, const Times& times) {
  const Fine fine = times.fine;
  const std::string name =
      random.of<std::string>({"date", "date", "Date", "timestamp", "ds", "Datum", "time", "Period"});
  const auto one = [&](const char* pattern, std::string said = "") {
    return DateStyle{pattern, {name}, [=](Time t) { return Texts{written(t, pattern)}; }, std::move(said)};
  };
  const auto quoted = [](const char* pattern) { return fmt::format("--date-format '{}'", pattern); };
  const auto only_owner = [&](const char* pattern, const char* plain) { return one(pattern, quoted(plain)); };
  std::vector<DateStyle> styles;
  if (times.local) {
    return {"local time", {name}, [](Time t) {
              return Texts{written(t + std::chrono::hours(berlin(t)), "%Y-%m-%d %H:%M:%S")};
            }};
  }
  if (fine == Fine::clock) {
    styles = {one("%Y-%m-%dT%H:%M:%S.000Z"),
              one("%d-%b-%Y %H:%M:%S"),
              only_owner("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p"),
              one("%Y-%m-%d %H:%M:%S"),
              one("%Y-%m-%d %H:%M:%S"),
              one("%Y-%m-%dT%H:%M:%S"),
              one("%Y-%m-%dT%H:%M:%SZ"),
              one("%Y/%m/%d %H:%M:%S"),
              one("%Y-%m-%d %H:%M:%S+00:00"),
              one("%d %b %Y %H:%M:%S"),
              one("%Y-%m-%d %I:%M:%S %p"),
              one("%Y%m%dT%H%M%S"),
              one("%s"),
              only_owner("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"),
              only_owner("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
              only_owner("%d.%m.%y %H:%M:%S", "%d.%m.%y %H:%M:%S"),
              {"Date,Time",
               {"Date", "Time"},
               [](Time t) {
                 return Texts{written(t, "%Y-%m-%d"), written(t, "%T")};
               }},
              {"d/m/Y,Time",
               {"Date", "Time"},
               [](Time t) {
                 return Texts{written(t, "%d/%m/%Y"), written(t, "%T")};
               },
               quoted("%d/%m/%Y %H:%M:%S")},
              {"ms", {"timestamp"}, [](Time t) { return Texts{written(t, "%s") + "000"}; }}};
  } else {
    styles = {one("%Y-%m-%d"),
              one("%Y-%m-%d"),
              one("%Y-%m-%d"),
              one("%Y/%m/%d"),
              one("%Y-%m-%d 00:00:00"),
              one("%d %b %Y"),
              one("%d-%b-%Y"),
              one("%Y.%m.%d"),
              one("%B %d, %Y"),
              one("%b %d, %Y"),
              one("%d%b%Y"),
              one("%Y-%j"),
              one("%a, %d %b %Y"),
              one("%Y/%-m/%-d"),
              only_owner("%d/%m/%Y", "%d/%m/%Y"),
              only_owner("%m/%d/%Y", "%m/%d/%Y"),
              only_owner("%-m/%-d/%Y", "%m/%d/%Y"),
              only_owner("%d.%m.%y", "%d.%m.%y"),
              only_owner("%d-%b-%y", "%d-%b-%y"),
              only_owner("%y-%m-%d", "%y-%m-%d"),
              {"compact", {"date"}, [](Time t) { return Texts{written(t, "%Y%m%d")}; }},
              {"Year,Month,Day", {"Year", "Month", "Day"}, [](Time t) {
                 return Texts{written(t, "%Y"), written(t, "%-m"), written(t, "%-d")};
               }}};
  }
  const std::vector<DateStyle> days_only = styles;
  if (fine == Fine::month) {
    styles = {one("%Y-%m"),
              one("%b %Y"),
              one("%B %Y"),
              one("%YM%m"),
              one("%m/%Y"),
              one("%Y%m", ""),
              only_owner("%b-%y", "%b-%y"),
              {"Year,Month",
               {"Year", "Month"},
               [](Time t) {
                 return Texts{written(t, "%Y"), written(t, "%-m")};
               }},
              {"Year,Mon", {"Year", "Month"}, [](Time t) {
                 return Texts{written(t, "%Y"), written(t, "%b")};
               }}};
    // A period has no day: the 15th would be none of its own.
  } else if (fine == Fine::quarter) {
    const auto quarter = [&](const char* pattern) {
      return DateStyle{
          pattern, {name}, [=](Time t) {
            const unsigned q = (static_cast<unsigned>(date_of(t).month()) + 2) / 3;
            return Texts{fmt::format(fmt::runtime(pattern), fmt::arg("y", written(t, "%Y")), fmt::arg("q", q))};
          }};
    };
    styles = {quarter("{y}Q{q}"), quarter("{y}-Q{q}"), quarter("Q{q} {y}")};
  } else if (fine == Fine::year) {
    styles = {{"year", {"Year"}, [](Time t) { return Texts{written(t, "%Y")}; }},
              {"%Y", {"date"}, [](Time t) { return Texts{written(t, "%Y")}; }}};
  } else if (times.what == "week") {
    if (weekday_of(times.all[0]) == 1) styles = {one("%G-W%V"), one("%G-W%V-1")};
  } else {
    return random.of(days_only);
  }
  styles.insert(styles.end(), days_only.begin(), days_only.end());
  return random.of(styles);
}

// ---- What: the channels.

struct Channel {
  std::string what;
  std::vector<double> values;
};

Channel channel_of(Random& random, int season, int count) {
  static const Texts kinds = {
      "walk",  "seasonal",           "trend",          "counts",       "constant", "constant at first", "noise",
      "steps", "seasonal and trend", "autoregressive", "seasonal walk"};
  Channel channel{kinds[static_cast<std::size_t>(random.whole(0, 10))], {}};
  // Some seasons are too long to be seen; some are none of the calendar's.
  const double period = random.chance(0.15) ? random.whole(3, 30) : season > 1 ? season : 10;
  const double scale = std::pow(10.0, random.whole(-2, 4)), offset = scale * random.whole(-2, 20);
  const double noise = 0.05 + 0.5 * random.unit(), slope = 0.1 * random.normal();
  double level = 0;
  std::vector<double> pattern;
  for (int k = 0; k < period; ++k) pattern.push_back(random.normal());
  for (int t = 0; t < count; ++t) {
    const double phase = 2 * std::numbers::pi * t / period;
    const double wave = std::sin(phase) + 0.3 * std::cos(2 * phase), shock = random.normal();
    double x = 0;
    if (channel.what == "walk") x = level += shock;
    if (channel.what == "seasonal") x = 2 * wave + noise * shock;
    if (channel.what == "trend") x = slope * t + noise * shock;
    if (channel.what == "counts") x = std::floor(std::max(0.0, 2 + 2 * wave + shock));
    if (channel.what == "constant at first") x = t < count / 2 ? 0 : shock;
    if (channel.what == "noise") x = shock;
    if (channel.what == "steps") x = (level += random.chance(0.03) ? 5 * random.normal() : 0) + noise * shock;
    if (channel.what == "seasonal and trend") x = 2 * wave + slope * t + noise * shock;
    if (channel.what == "autoregressive") x = level = 0.8 * level + shock;
    if (channel.what == "seasonal walk")
      x = (level += 0.3 * shock) + 2 * pattern[static_cast<std::size_t>(t) % pattern.size()];
    channel.values.push_back(channel.what == "counts" ? x : offset + scale * x);
  }
  return channel;
}

// ---- The file.

struct File {
  std::uint64_t seed = 0;
  std::string what, text;
  Texts flags;  // of the command
  Texts said;   // what only the file's owner knows, as flags
  int horizon = 0, rows = 0, season = 1;
  bool forecast = true;  // the dates that follow are known
  bool slots = false;
  bool harmed = false;  // values are not what was measured
  Texts dates;          // of all rows and those held back, joined by a blank
  std::size_t date_columns = 1;
  Texts names;
  std::vector<Channel> channels;  // with the rows held back
};

struct Row {
  Texts date, values;
};

// A number as `decimals` digits, in the file's notation.
struct Notation {
  char decimal = '.';
  std::string thousands;

  std::string operator()(double value, int decimals) const {
    std::string text = fmt::format("{:.{}f}", value, decimals);
    const std::size_t point = std::min(text.find('.'), text.size());
    if (point < text.size()) text[point] = decimal;
    if (!thousands.empty()) {
      for (std::size_t at = point; at > 3 && text[at - 4] != '-'; at -= 3) text.insert(at - 3, thousands);
    }
    return text;
  }
};

File file_of(std::uint64_t seed) {
  Random random(seed);
  File file;
  file.seed = seed;
  file.rows = random.chance(0.25) ? random.whole(5, 40) : random.whole(40, 400);
  file.horizon = random.whole(1, 12);
  Times times = times_of(random, file.rows + file.horizon);
  const auto too_late = std::chrono::sys_days(std::chrono::year(2068) / 1 / 1);  // for two-digit years
  while (times.all.back() >= too_late) times.all.pop_back();
  const int count = static_cast<int>(times.all.size());
  file.rows = count - file.horizon;
  const DateStyle style = style_of(random, times);
  file.season = times.season;
  file.slots = times.slots;
  const auto hours = [&](int t) { return times.local ? berlin(times.all[static_cast<std::size_t>(t)]) : 0; };
  file.forecast = times.forecast && hours(file.rows - 1) == hours(count - 1);
  file.date_columns = style.names.size();
  if (!style.said.empty()) file.said.push_back(style.said);
  file.what = fmt::format("{} rows, horizon {}, {} as {}", file.rows, file.horizon, times.what, style.what);

  static const Texts possible_names = {"value",
                                       "a",
                                       "load",
                                       "Temp, C",
                                       "two words",
                                       "it's",
                                       "gr\xC3\xB6\xC3\x9F"
                                       "e",
                                       "$cost",
                                       "100%",
                                       "\"q\"",
                                       "x;y",
                                       "OT",
                                       "n/a rate",
                                       "--flag",
                                       "=sum"};
  const int width = random.whole(1, 4);
  while (static_cast<int>(file.names.size()) < width) {
    const std::string name = random.of(possible_names);
    if (std::ranges::find(file.names, name) != file.names.end()) continue;
    file.names.push_back(name);
    file.channels.push_back(channel_of(random, times.season, count));
    file.what += ", " + file.channels.back().what;
  }

  Notation notation;
  char delimiter = ',';
  Texts damages;
  static const Texts possible = {"short hole",
                                 "short hole",
                                 "long hole",
                                 "many holes",
                                 "repeats",
                                 "missing cells",
                                 "sentinel",
                                 "out of order",
                                 "newest first",
                                 "no date",
                                 "counter beside",
                                 "counter for date",
                                 "text column",
                                 "constant text",
                                 "decimal comma",
                                 "thousands",
                                 "titles",
                                 "footer",
                                 "CRLF",
                                 "CR",
                                 "BOM",
                                 "quotes",
                                 "units",
                                 "trailing delimiter",
                                 "header again",
                                 "tabs",
                                 "blank lines",
                                 "infinite",
                                 "text in a cell",
                                 "empty column",
                                 "date last",
                                 "short row",
                                 "comments",
                                 "weekday column",
                                 "percent",
                                 "last rows alike",
                                 "shift",
                                 "integers",
                                 "id column",
                                 "exponents",
                                 "account",
                                 "currency",
                                 "plus"};
  for (int k = random.whole(0, 2); k > 0; --k) damages.push_back(random.of(possible));
  const auto has = [&](std::string_view damage) { return std::ranges::find(damages, damage) != damages.end(); };
  for (const std::string& damage : damages) file.what += ", " + damage;

  if (has("decimal comma")) {
    notation.decimal = ',';
    delimiter = ';';
    if (random.chance(0.3)) notation.thousands = ".";
    file.said.emplace_back("--decimal comma");
  } else if (has("thousands")) {
    notation.thousands = random.of<std::string>({",", " ", "'"});
    file.said.emplace_back("--decimal point");
  }
  if (has("tabs")) delimiter = '\t';
  const int decimals = has("integers") ? 0 : random.whole(1, 6);
  for (std::size_t d = 0; d < file.channels.size(); ++d) {
    for (double& x : file.channels[d].values) {
      if (has("last rows alike") && d == 0 && &x >= file.channels[d].values.data() + file.rows / 2)
        x = file.channels[d].values[static_cast<std::size_t>(file.rows / 2)];
    }
  }

  std::vector<Row> rows;
  for (int t = 0; t < count; ++t) {
    Row row;
    row.date = style.cells(times.all[static_cast<std::size_t>(t)]);
    std::string joined;
    for (const std::string& cell : row.date) joined += (joined.empty() ? "" : " ") + cell;
    file.dates.push_back(joined);
    for (Channel& channel : file.channels) {
      double& x = channel.values[static_cast<std::size_t>(t)];
      const int digits = channel.what == "counts" ? 0 : decimals;
      row.values.push_back(notation(x, digits));
      std::string& cell = row.values.back();
      if (has("exponents") && digits > 0) cell = fmt::format("{:.{}e}", x, digits + 3);
      if (has("account") && cell.starts_with('-')) cell = '(' + cell.substr(1) + ')';
      if (has("currency")) cell = "$" + cell;
      if (has("plus") && !cell.starts_with('-')) cell.insert(0, 1, '+');
      if (has("percent") && &channel == file.channels.data()) row.values.back() += '%';
      x = std::strtod(
          (has("exponents") && digits > 0 ? fmt::format("{:.{}e}", x, digits + 3) : fmt::format("{:.{}f}", x, digits))
              .c_str(),
          nullptr);
    }
    if (t < file.rows) rows.push_back(std::move(row));
  }

  // Rows are lost, repeated, moved; cells are lost.
  const auto cut = [&](int first, int length) {
    first = std::clamp(first, 1, static_cast<int>(rows.size()) - 1);
    length = std::clamp(length, 0, static_cast<int>(rows.size()) - 1 - first);
    rows.erase(rows.begin() + first, rows.begin() + first + length);
  };
  const auto any = [&] { return random.whole(0, static_cast<int>(rows.size()) - 1); };
  if (has("short hole")) cut(any(), random.whole(1, 3));
  if (has("long hole")) cut(any(), std::max(1, file.rows / 5));
  if (has("many holes")) {
    for (int k = file.rows / random.whole(8, 20); k > 0; --k) cut(any(), 1);
  }
  if (has("repeats")) {
    for (int k = random.whole(1, 4); k > 0; --k) {
      const int at = any();
      rows.insert(rows.begin() + at, rows[static_cast<std::size_t>(at)]);
    }
  }
  const auto spoil = [&](const std::string& with, int times_at_most) {
    for (int k = random.whole(1, times_at_most); k > 0; --k) random.of(rows);
    const int column = random.whole(0, width - 1);
    for (int k = random.whole(1, times_at_most); k > 0; --k)
      rows[static_cast<std::size_t>(any())].values[static_cast<std::size_t>(column)] = with;
  };
  if (has("missing cells")) spoil(random.of<std::string>({"", "NA", "NaN", "null", "-", "?", "n/a", "#N/A", "."}), 5);
  if (has("sentinel")) spoil(random.of<std::string>({"-9999", "-999", "9999"}), 4), file.harmed = true;
  if (has("infinite")) spoil("inf", 2);
  if (has("text in a cell")) spoil("error", 2);
  if (has("out of order")) {
    for (int k = random.whole(1, 3); k > 0; --k) {
      const int a = any(), b = any();
      std::swap(rows[static_cast<std::size_t>(a)], rows[static_cast<std::size_t>(b)]);
    }
  }
  if (has("shift") && rows.size() > 8) {  // a row's cells that slipped by one
    Row& row = rows[static_cast<std::size_t>(any())];
    std::rotate(row.values.begin(), row.values.begin() + 1, row.values.end());
    file.harmed = width > 1;
  }
  if (has("newest first")) std::ranges::reverse(rows);
  // Two weeks show the slots of a week, if no row of them is absent.
  const auto seen = times.all[static_cast<std::size_t>(file.rows - 1)] - times.all[0];
  if (times.slots) file.forecast = seen >= days(std::ssize(rows) < file.rows ? 56 : 14);

  // Into text.
  const bool dated = !has("no date") && !has("counter for date");
  const std::string end = has("CRLF") ? "\r\n" : has("CR") ? "\r" : "\n";
  const bool quote_all = has("quotes");
  if (!dated) file.dates.clear(), file.date_columns = 1, file.forecast = false;
  if (!dated) std::erase_if(file.said, [](const std::string& flag) { return flag.starts_with("--date-format"); });
  const auto line = [&](const Texts& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string& cell = cells[i];
      if (i > 0) text += delimiter;
      const bool quote = quote_all || cell.find_first_of("\"\n") != cell.npos || cell.find(delimiter) != cell.npos;
      std::string doubled;
      for (const char c : cell) doubled += c == '"' ? std::string("\"\"") : std::string(1, c);
      text += quote ? '"' + doubled + '"' : cell;
    }
    if (has("trailing delimiter")) text += delimiter;
    file.text += text + end;
  };
  Texts header, units;
  const auto assemble = [&](const Texts& date, const Texts& values, int t) {
    Texts cells;
    const bool names = t < 0;
    const auto n = std::to_string(t + 1);
    if (has("counter beside")) cells.push_back(names ? "index" : n);
    if (has("counter for date")) cells.push_back(names ? "t" : n);
    if (dated && !has("date last")) cells.insert(cells.end(), date.begin(), date.end());
    if (has("weekday column")) {
      const bool known = t >= 0 && t < count;
      cells.push_back(names   ? "weekday"
                      : known ? std::to_string(weekday_of(times.all[static_cast<std::size_t>(t)]))
                              : "1");
    }
    cells.insert(cells.end(), values.begin(), values.end());
    if (has("text column")) cells.push_back(names ? "state" : t % 3 == 0 ? "good" : "bad");
    if (has("constant text")) cells.push_back(names ? "site" : "north");
    if (has("empty column")) cells.push_back(names ? "comment" : "");
    if (has("id column")) cells.push_back(names ? "meter_id" : t > count ? "" : "4711");
    if (dated && has("date last")) cells.insert(cells.end(), date.begin(), date.end());
    return cells;
  };
  if (has("BOM")) file.text = "\xEF\xBB\xBF";
  if (has("titles")) file.text += "Report of the plant" + end + "Exported 2024-05-01" + end + end;
  if (has("comments")) file.text += "# made by hand" + end;
  line(assemble(style.names, file.names, -1));
  if (has("units")) {
    Texts kwh(file.names.size(), "[kWh]");
    line(assemble(Texts(style.names.size(), ""), kwh, count + 1));
  }
  for (std::size_t t = 0; t < rows.size(); ++t) {
    if (has("header again") && t == rows.size() / 2) line(assemble(style.names, file.names, -1));
    if (has("blank lines") && t % 7 == 3) file.text += end;
    Texts cells = assemble(rows[t].date, rows[t].values, static_cast<int>(t));
    if (has("short row") && t == rows.size() / 3 && cells.size() > 2) cells.pop_back();
    line(cells);
  }
  if (has("footer")) file.text += random.of<std::string>({"Total", "Source: the plant", "* preliminary"}) + end;

  file.flags = {"--horizon", std::to_string(file.horizon), "--threads", "1"};
  // Trained members on a part of the files: they cost ten times as much as the others.
  if (seed % 5 < 3) file.flags.insert(file.flags.end(), {"--members", "naive,seasonal-naive,weekly-naive,ridge"});
  return file;
}

// ---- The command, as typed into a shell.

struct Said {
  int code = 0;
  std::string err;
};

Said typed(const std::filesystem::path& folder, const std::string& command) {
  const std::string program = std::filesystem::path(SAMFORMER_BINARY).parent_path().string();
  std::ofstream(folder / "command") << fmt::format("export PATH={}:$PATH OMP_WAIT_POLICY=passive\ncd {}\n",
                                                   shell_quoted(program), shell_quoted(folder.string()))
                                    << command << '\n';
  const std::string script = shell_quoted((folder / "command").string());
  const int status = std::system(fmt::format("timeout -s KILL 60 bash {0} >{0}.out 2>{0}.err", script).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), read_file(folder / "command.err")};
}

// The word of a shell at `at`, with its quotes; a semicolon of the sentence ends it.
std::string word_at(const std::string& text, std::size_t at) {
  std::size_t end = at;
  for (char quote = 0; end < text.size() && (quote != 0 || (text[end] != ' ' && text[end] != ';')); ++end) {
    if (quote == 0 && (text[end] == '\'' || text[end] == '"')) {
      quote = text[end];
    } else if (text[end] == quote) {
      quote = 0;
    } else if (text[end] == '\\' && quote != '\'') {
      ++end;
    }
  }
  return text.substr(at, end - at);
}

constexpr std::string_view repair = "samformer data repair ";

// What a hint has to paste: flags with their values, those that stand together as one, and commands that repair.
Texts remedies_in(const std::string& hint) {
  Texts remedies;
  std::string together;
  const auto close = [&] {
    if (!together.empty()) remedies.push_back(std::exchange(together, ""));
  };
  for (std::size_t at = 0; at < hint.size();) {
    if (hint.compare(at, repair.size(), repair) == 0) {
      close();
      std::string command;
      for (bool more = true; more && at < hint.size();) {
        const std::string word = word_at(hint, at);
        at += word.size();
        more = at < hint.size() && hint[at] == ' ' && !word.ends_with(',');
        command += (command.empty() ? "" : " ") + word.substr(0, word.size() - (word.ends_with(',') ? 1 : 0));
        ++at;
      }
      remedies.push_back(command);
      continue;
    }
    const std::string word = word_at(hint, at);
    const std::size_t after = at + word.size();
    if (!word.starts_with("--")) {
      close();
      at = after + 1;
      continue;
    }
    const bool alone = word.starts_with("--no-date") || word.starts_with("--overwrite");
    std::string value =
        alone || word.ends_with(',') || after >= hint.size() || hint[after] != ' ' ? "" : word_at(hint, after + 1);
    at = after + 1 + (value.empty() ? 0 : value.size() + 1);
    while (value.ends_with(',') || value.ends_with('.')) value.pop_back();
    static const Texts prose = {"or", "and", "can", "(like", "is", "takes", ""};
    if (!alone && std::ranges::find(prose, value) != prose.end()) {
      close();
    } else {
      std::string flag = word;
      while (flag.ends_with(',')) flag.pop_back();
      together += (together.empty() ? "" : " ") + flag + (alone ? "" : " " + value);
    }
  }
  close();
  return remedies;
}

// What nobody can paste a remedy for: the file itself is to be changed, or its owner has to know.
struct Sentence {
  const char* hint;
  const char* why;
};
constexpr Sentence unpasteable[] = {
    {"correct the value", "what was meant is not in the file"},
    {"write numbers", "what was meant is not in the file"},
    {"write values", "the only channel that is left has none"},
    {"write the number alone, without '", "what the unit is to the number, 5 % or $5, is the owner's to say"},
    {"give every row one cell a column", "which cell is absent is not in the file"},
};

struct Forecast {
  Texts dates;
  std::map<std::string, std::vector<double>> values;
};

Texts cells_of(const std::string& line) {
  Texts cells(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      if (!quoted && !cells.back().empty()) cells.back() += c;
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  return cells;
}

class Property {
 public:
  void check(const File& file) {
    ScratchFolder scratch;
    std::ofstream(scratch / "data.csv", std::ios::binary) << file.text;
    std::string story, data = "data.csv", repairing;  // the command that does, while it has not done it
    Texts given = file.flags;
    int pasted = 0;
    std::set<std::string> left_out;
    for (int round = 0; round <= 6; ++round) {
      std::string command = fmt::format("samformer forecast {} --out run", data);
      for (const std::string& flag : given) {
        if (!left_out.contains(flag.substr(0, flag.find(' ')))) command += ' ' + flag;
      }
      const Said said = typed(scratch.path(), repairing.empty() ? command : repairing);
      story += fmt::format("$ {}\nexit code {}\n{}", repairing.empty() ? command : repairing, said.code, said.err);
      if (said.code == 0 && !repairing.empty()) {
        data = word_at(repairing, repairing.rfind("--out ") + 6);
        repairing.clear();
        continue;
      }
      if (said.code == 0) {
        const std::string written = (scratch / "run/forecast.csv").string();
        if (!std::filesystem::exists(written)) return fail(file, "no forecast.csv", story);
        const std::string wrong = look(file, read_file(written), command);
        if (!wrong.empty()) return fail(file, wrong, story);
        if (std::getenv("FORECAST_SEED") != nullptr) std::cout << story;
        const std::lock_guard lock(mutex_);
        ++after_[pasted];
        return;
      }
      if (said.code != 2 && said.code != 3) return fail(file, fmt::format("exit code {}", said.code), story);
      const std::size_t at = said.err.find("\n  hint: ");
      std::string hint = at == said.err.npos ? "" : said.err.substr(at + 9);
      hint = hint.substr(0, hint.find('\n'));
      if (hint.starts_with("leave --") && left_out.insert(hint.substr(6, hint.find(' ', 6) - 6)).second) continue;
      const std::string remedy = choose(file, hint, repairing.empty() ? given : Texts{repairing}, data != "data.csv");
      if (remedy.empty()) {
        for (const Sentence& sentence : unpasteable) {
          if (!hint.starts_with(sentence.hint)) continue;
          if (std::getenv("FORECAST_SEED") != nullptr) std::cout << story;
          const std::lock_guard lock(mutex_);
          ++ended_[sentence.hint];
          return;
        }
        return fail(file, "no remedy to paste: " + hint, story);
      }
      ++pasted;
      if (remedy.starts_with(repair)) {
        repairing = remedy;
      } else if (!repairing.empty()) {
        repairing += ' ' + remedy;
      } else {
        given.push_back(remedy);
      }
    }
    fail(file, "six remedies did not help", story);
  }

  // Mean error of the forecasts by that of the better naive forecast of each file.
  double ratio() const { return files_.model / files_.best; }
  double measured() const { return files_.count; }

  void summary() {
    std::cout << fmt::format("error of the forecasts by the better naive ones': {:.3f}\nfiles", ratio());
    for (const auto& [rounds, count] : after_) std::cout << fmt::format("  after {} remedies: {}", rounds, count);
    std::cout << '\n';
    for (const auto& [sentence, count] : ended_) std::cout << fmt::format("  {}: {}\n", sentence, count);
    kinds_["files"] = files_;
    for (const auto& [kind, sums] : kinds_) {
      std::cout << fmt::format("  {:<20} {:5}: forecast {:.3f}, naive {:.3f}, seasonal {:.3f}, better {:.3f}\n", kind,
                               sums.count, sums.model / sums.count, sums.naive / sums.count, sums.seasonal / sums.count,
                               sums.best / sums.count);
    }
    std::map<std::string, int> reasons;
    for (const auto& reason : failed_) ++reasons[reason];
    for (const auto& [reason, count] : reasons) std::cout << fmt::format("  FAILED {:4} {}\n", count, reason);
  }

 private:
  // One that is not in `there`. A file that was repaired is not repaired again where something else is offered.
  static std::string choose(const File& file, const std::string& hint, const Texts& there, bool repaired) {
    Texts fresh = remedies_in(hint);
    std::erase_if(fresh, [&](const std::string& remedy) {
      return std::ranges::any_of(there, [&](const std::string& text) { return text.ends_with(remedy); });
    });
    const auto said = std::ranges::find_first_of(fresh, file.said);
    if (said != fresh.end()) return *said;
    // A flag that only the owner knows must be offered as he knows it.
    std::erase_if(fresh, [&](const std::string& remedy) {
      const std::string flag = remedy.substr(0, remedy.find(' ')) + ' ';
      return std::ranges::any_of(file.said, [&](const std::string& known) { return known.starts_with(flag); });
    });
    if (repaired && std::ranges::any_of(fresh, [](const auto& r) { return !r.starts_with(repair); }))
      std::erase_if(fresh, [](const std::string& remedy) { return remedy.starts_with(repair); });
    return fresh.empty() ? "" : fresh[file.seed % fresh.size()];
  }

  std::string look(const File& file, const std::string& text, const std::string& command) {
    std::istringstream lines(text);
    std::string line;
    std::getline(lines, line);
    const Texts names = cells_of(line);
    std::size_t date_columns = 0;
    const bool undated = command.find("--no-date") != command.npos || file.dates.empty();
    date_columns = undated ? 1 : file.date_columns;
    Texts dates;
    std::vector<std::vector<double>> values(names.size());
    while (std::getline(lines, line)) {
      const Texts cells = cells_of(line);
      if (cells.size() != names.size()) return "a row of the forecast has other columns than its header";
      dates.emplace_back();
      for (std::size_t i = 0; i < date_columns; ++i) dates.back() += (i > 0 ? " " : "") + cells[i];
      for (std::size_t i = date_columns; i < cells.size(); ++i) {
        char* end = nullptr;
        values[i].push_back(std::strtod(cells[i].c_str(), &end));
        if (*end != 0 || cells[i].empty() || !std::isfinite(values[i].back())) return "no finite value: " + cells[i];
      }
    }
    if (std::ssize(dates) != file.horizon) return fmt::format("{} rows, expected {}", dates.size(), file.horizon);
    const std::size_t origin = command.rfind("--origin ");
    std::size_t next = static_cast<std::size_t>(file.rows);
    if (origin != command.npos && !undated) {
      std::string word = command.substr(origin + 9);
      std::erase(word, '\'');
      for (std::size_t t = 0; t < file.dates.size(); ++t) {
        if (word.starts_with(file.dates[t])) next = t + 1;
      }
    }
    if (origin != command.npos && file.what.find("Berlin") != file.what.npos) return "";  // the clock may change then
    const bool other_step = file.slots && command.find("--freq") != command.npos;
    if (file.forecast && !undated && !other_step) {
      for (std::size_t h = 0; h < dates.size() && next + h < file.dates.size(); ++h) {
        if (dates[h] != file.dates[next + h])
          return fmt::format("dates: '{}', expected '{}'", dates[h], file.dates[next + h]);
      }
    }
    if (origin != command.npos || file.harmed) return "";
    measure(file, names, values);
    return "";
  }

  // The error of a file is its channels' mean absolute error in units of their deviations. Where a level leaps in the
  // rows held back, so that the better naive forecast is farther off than one deviation, that forecast's error is the
  // unit: no file counts more than one. Which naive forecast is the better one is seen in the rows held back.
  void measure(const File& file, const Texts& names, const std::vector<std::vector<double>>& values) {
    Sums all;
    std::map<std::string, Sums> kinds;
    for (std::size_t d = 0; d < file.names.size(); ++d) {
      const auto at = std::ranges::find(names, file.names[d]) - names.begin();
      if (at == std::ssize(names)) continue;  // left out
      const std::vector<double>& truth = file.channels[d].values;
      const auto rows = static_cast<std::size_t>(file.rows), season = static_cast<std::size_t>(file.season);
      double mean = 0, squares = 0;
      for (std::size_t t = 0; t < rows; ++t) mean += truth[t] / static_cast<double>(rows);
      for (std::size_t t = 0; t < rows; ++t) squares += (truth[t] - mean) * (truth[t] - mean);
      const double scale = std::sqrt(squares / static_cast<double>(rows));
      if (!(scale > 1e-12 * std::abs(mean))) continue;
      Sums one{1};
      for (std::size_t h = 0; h < static_cast<std::size_t>(file.horizon); ++h) {
        const std::size_t back = season <= rows ? season - h % season : 1;
        const double share = 1 / (scale * file.horizon);
        one.model += share * std::abs(values[static_cast<std::size_t>(at)][h] - truth[rows + h]);
        one.naive += share * std::abs(truth[rows - 1] - truth[rows + h]);
        one.seasonal += share * std::abs(truth[rows - back] - truth[rows + h]);
      }
      all += one;
      kinds[file.channels[d].what] += one.bounded();
    }
    if (all.count == 0) return;
    const double n = all.count;
    all = Sums{1, all.model / n, all.naive / n, all.seasonal / n}.bounded();
    const std::lock_guard lock(mutex_);
    files_ += all;
    kinds_[file.rows < 10 * file.horizon ? "files of few rows" : "files of more rows"] += all;
    for (const auto& [kind, sums] : kinds) kinds_[kind] += sums;
  }

  void fail(const File& file, const std::string& reason, const std::string& story) {
    const std::lock_guard lock(mutex_);
    failed_.push_back(reason.substr(0, 100));
    if (std::getenv("FORECAST_SEED") != nullptr) std::cout << story;
    ADD_FAILURE() << "FORECAST_SEED=" << file.seed << " (" << file.what << "): " << reason << '\n'
                  << story << file.text.substr(0, 400);
  }

  struct Sums {
    double count = 0, model = 0, naive = 0, seasonal = 0, best = 0;

    Sums bounded() const {
      const double better = std::min(naive, seasonal), unit = std::max(better, 1.0);
      return {count, model / unit, naive / unit, seasonal / unit, better / unit};
    }

    void operator+=(const Sums& o) {
      count += o.count, model += o.model, naive += o.naive, seasonal += o.seasonal, best += o.best;
    }
  };
  Sums files_;
  std::mutex mutex_;
  std::map<int, int> after_;
  std::map<std::string, int> ended_;
  std::map<std::string, Sums> kinds_;
  Texts failed_;
};

TEST(ForecastProperty, WritesFiniteValuesOnTheRightDatesOrARemedyThatWorks) {
  Property property;
  if (const char* seed = std::getenv("FORECAST_SEED")) {
    const File file = file_of(std::strtoull(seed, nullptr, 10));
    std::cout << file.what << '\n' << file.text;
    property.check(file);
    return property.summary();
  }
  const char* asked = std::getenv("FORECAST_FILES");
  const std::uint64_t files = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 1000;
  std::atomic<std::uint64_t> next = 0;
  std::vector<std::jthread> workers;
  for (unsigned k = 0; k < std::max(1u, std::thread::hardware_concurrency()); ++k) {
    workers.emplace_back([&] {
      for (std::uint64_t seed = next++; seed < files; seed = next++) property.check(file_of(seed));
    });
  }
  workers.clear();
  property.summary();
  EXPECT_GT(property.measured(), 0.7 * static_cast<double>(files));
  EXPECT_LE(property.ratio(), 1.05);
}

}  // namespace
}  // namespace samformer
