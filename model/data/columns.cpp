#include "model/data/columns.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_set>

#include "core/text.h"
#include "model/data/civil.h"

namespace samformer::model {
namespace {

constexpr std::size_t fewest_rows = 16;  // fewer agree with anything

int weekday_of(const Stamp& stamp) { return weekday(day_of(stamp)) + 1; }  // Monday 1
double clock(const Stamp& stamp) { return static_cast<double>(second_of_day(stamp)); }
double utc(const Stamp& stamp) { return static_cast<double>(stamp.utc_seconds()) + 1e-9 * stamp.nanoseconds; }

struct DatePart {
  std::string_view name;
  double (*of)(const Stamp& stamp);
  bool cycles = true;  // small numbers, which a counter has too
};
double month(const Stamp& s) { return date_of(s).month; }
double day(const Stamp& s) { return date_of(s).day; }
double year(const Stamp& s) { return static_cast<double>(date_of(s).year); }
constexpr std::array<DatePart, 25> parts = {{
    {"the date's minute", [](const Stamp& s) { return std::fmod(std::floor(clock(s) / 60), 60); }},
    {"the date's hour", [](const Stamp& s) { return std::floor(clock(s) / 3600); }},
    {"the date's hour", [](const Stamp& s) { return std::floor(clock(s) / 3600) + 1; }},
    {"the date's quarter of an hour", [](const Stamp& s) { return std::floor(clock(s) / 900); }},
    {"the date's minute of the day", [](const Stamp& s) { return std::floor(clock(s) / 60); }},
    {"the date's weekday", [](const Stamp& s) { return weekday_of(s) - 1.0; }},
    {"the date's weekday", [](const Stamp& s) { return weekday_of(s) + 0.0; }},
    {"the date's weekday", [](const Stamp& s) { return weekday_of(s) % 7 + 0.0; }},
    {"the date's weekday", [](const Stamp& s) { return weekday_of(s) % 7 + 1.0; }},
    {"the date's weekend", [](const Stamp& s) { return weekday_of(s) > 5 ? 1.0 : 0.0; }},
    {"the date's working day", [](const Stamp& s) { return weekday_of(s) > 5 ? 0.0 : 1.0; }},
    {"the date's day", day},
    {"the date's month", month},
    {"the date's month", [](const Stamp& s) { return month(s) - 1; }},
    {"the date's quarter", [](const Stamp& s) { return std::floor((month(s) + 2) / 3); }},
    {"the date's week", [](const Stamp& s) { return static_cast<double>(iso_week(day_of(s)).week); }},
    {"the date's day of the year", [](const Stamp& s) { return static_cast<double>(day_of_year(day_of(s))); }},
    {"the date's year", year, false},
    {"the date in digits", [](const Stamp& s) { return year(s) * 10000 + month(s) * 100 + day(s); }, false},
    {"the date in digits", [](const Stamp& s) { return year(s) * 100 + month(s); }, false},
    {"the date in seconds since 1970", utc, false},
    {"the date in milliseconds since 1970", [](const Stamp& s) { return utc(s) * 1e3; }, false},
    {"the date in microseconds since 1970", [](const Stamp& s) { return utc(s) * 1e6; }, false},
    {"the date in nanoseconds since 1970", [](const Stamp& s) { return utc(s) * 1e9; }, false},
    {"the date in days since 1900", [](const Stamp& s) { return static_cast<double>(s.seconds) / 86400 + 25569; },
     false},
}};

bool is_part(const DatePart& part, std::span<const double> values, std::span<const Stamp> dates) {
  bool varies = false, comes_back = false;  // or stays, which what rises evenly does not
  for (std::size_t t = 0; t < values.size(); ++t) {
    if (!(std::abs(values[t] - part.of(dates[t])) <= 1e-9 * std::abs(values[t]) + 1e-9)) return false;
    varies |= t > 0 && values[t] != values[0];
    comes_back |= t > 0 && values[t] <= values[t - 1];
  }
  return varies && (comes_back || !part.cycles);
}

bool ends_with_id(std::string_view name) {
  return name == "id" || name.ends_with("_id") || name.ends_with(" id") || name.ends_with("-id") ||
         name.ends_with(".id");
}
bool names_counter(std::string_view name) {
  static constexpr std::array<std::string_view, 22> known = {
      "index", "idx", "no",     "no.", "nr",  "nr.", "num", "number",   "row", "rownum",  "row number",
      "#",     "x1",  "record", "obs", "seq", "key", "lfd", "sequence", "n",   "level_0", "...1"};
  return name.starts_with("unnamed") || name.starts_with("column_") || ends_with_id(name) ||
         std::ranges::find(known, name) != known.end();
}
bool names_time(std::string_view name) {
  static constexpr std::array<std::string_view, 12> known = {
      "t", "ts", "time", "timestamp", "unix", "epoch", "seconds", "elapsed", "hours", "minutes", "uptime", "ticks"};
  return name.starts_with("t_") || name.starts_with("time_") || name.starts_with("time [") ||
         name.starts_with("time (") || name.starts_with("elapsed") || std::ranges::find(known, name) != known.end();
}

}  // namespace

bool rises_evenly(std::span<const double> values) {
  if (values.size() < 8) return false;
  const double step = (values.back() - values.front()) / static_cast<double>(values.size() - 1);
  if (!(step > 0)) return false;
  for (std::size_t t = 0; t < values.size(); ++t) {
    if (!(std::abs(values[t] - values[0] - static_cast<double>(t) * step) <= 0.01 * step)) return false;
  }
  return true;
}

std::string what_no_series_is(std::string_view name, bool first, std::span<const double> values,
                              std::span<const Stamp> dates) {
  if (values.size() < fewest_rows) return "";
  const std::string small = lower(name);
  for (const DatePart& part : parts) {
    if (dates.size() == values.size() && is_part(part, values, dates)) return "is " + std::string(part.name);
  }
  if ((first || names_counter(small) || names_time(small)) && rises_evenly(values)) {
    return names_time(small) ? "rises evenly, as time does" : "counts the rows";
  }
  if (!ends_with_id(small)) return "";
  if (std::ranges::all_of(values, [&](double v) { return v == values[0]; })) return "is an id, the same in all rows";
  std::unordered_set<double> seen;
  const bool each = std::ranges::all_of(values, [&](double v) { return v == std::floor(v) && seen.insert(v).second; });
  return each ? "is an id, another one in each row" : "";
}

}  // namespace samformer::model
