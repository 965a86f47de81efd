// How dates are written. A Stamp is the wall clock that was read and its offset from UTC; a DateFormat is how the file
// writes it, so that forecasts are written the same way. Read without being told, where only one reading exists:
//   2016-07-01, 2016/7/1, 2016.07.01, 2016-07 (ISO 8601), 20160701, 2016-183 (day of the year)
//   2024-W05, 2024W05, 2024-W05-1, W05-2024 (ISO weeks)      1990Q1, 1990-Q1, Q1 1990, 1Q1990; 1990H1, 1990-S1
//   1990M01, Jan 1990, January-1990, 1990 Jan, 01/1990       5 Jan 2024, 05JAN2024, Jan 5, 2024, Fri, 05 Jan 2024
//   1467331200 (10 digits: seconds since 1970; 13: milliseconds, 16: micro, 19: nano), 1990, 199001
// then [T or a blank or what SAS and ECMAScript put there] a clock (9:05, 09:05:07.25, 0905, T09, 09h, 9:05 AM, 24:00)
// and a zone (Z, UTC, GMT, +02, +0200, +02:00, +02:00[Europe/Berlin]). Of two dates (`A - B`, `A/B`) the first counts.
// Digits alone are dates only where DateFormat::digits says so. Two-digit years and the order of day and month are
// never guessed: they take a pattern, strptime's %Y %y %m %b %B %d %j %a %H %I %p %M %S %f %z %G %V %u %s %%, and %q
// (quarter), %h (half-year), %3s %6s %9s (milli-, micro-, nanoseconds since 1970).
// Errors: Exit::usage for a bad --date-format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace samformer::model {

struct Stamp {
  std::int64_t seconds = 0;         // wall clock, since 1970-01-01 00:00 of the same wall clock
  std::int32_t nanoseconds = 0;     // 0 .. 999,999,999
  std::int16_t offset_minutes = 0;  // wall clock minus UTC; 0 where the file gives none

  std::int64_t utc_seconds() const { return seconds - 60 * offset_minutes; }
  bool operator==(const Stamp&) const = default;
};

// Negative, 0 or positive as a is before, at or after b (elapsed time, offsets taken out).
int compare(const Stamp& a, const Stamp& b);

enum class Zone : std::uint8_t { none, z, utc, gmt, hours, hours_minutes, hours_colon_minutes };
enum class Letters : std::uint8_t { unknown, capitalised, upper, lower };
// Which dates may be digits alone: none; those of 8 and more digits; also 1990 and 199001.
enum class Digits : std::uint8_t { none, moments, years };

// What a date holds besides `pattern` is learned from the dates.
struct DateFormat {
  std::string pattern;  // of --date-format; empty: found
  Digits digits = Digits::none;
  bool learned = false;       // a date was read; from then on all or none of the dates have a zone, AM/PM, an end
  std::int8_t notation = -1;  // row of the table of notations; -1: years first, with separators
  char separator = '-';
  char time_separator = ' ';  // 0: none; ',' has a blank behind it
  bool day = false;           // false: Y-M
  bool time = false;
  bool minutes = false;
  bool seconds = false;
  bool colons = true;  // of the clock
  char hour_mark = 0;  // 'h' of "09h"
  char decimal_mark = '.';
  bool pad_date = true;  // 01 rather than 1
  bool pad_hour = true;
  bool midnight_is_24 = false;  // 24:00 of the day before rather than 00:00
  bool noon = false;            // AM or PM
  bool noon_blank = false;
  Letters noon_letters = Letters::unknown;
  bool long_names = false;  // January rather than Jan
  Letters letters = Letters::unknown;
  std::int8_t fraction_digits = 0;
  Zone zone = Zone::none;
  bool zone_blank = false;
  std::string region;  // in brackets after the zone
  // The end of an interval: so many months and seconds after its start.
  std::int8_t interval = -1;  // row of the table of separators; -1: none
  bool end_is_24 = false;
  std::int32_t interval_months = 0;
  std::int64_t interval_seconds = 0;
};

// Reads one date. `format` learns from every date of a file: what only some of them show (seconds, digits, a missing
// zero) is merged into it. Text that is no date leaves both outputs alone and returns false.
bool parse_stamp(std::string_view text, DateFormat& format, Stamp& stamp);
std::string format_stamp(const Stamp& stamp, const DateFormat& format);
// Whether the dates are wall clocks of a place that they do not say: no offset, no seconds since 1970.
bool is_local(const DateFormat& format);
// Throws Exit::usage, naming the directive that is not known or the part of a date that is missing.
void check_date_pattern(const std::string& pattern);
// The patterns that read every one of these texts, for dates with more than one reading: day and month first, two-digit
// years, digits alone.
std::vector<std::string> possible_patterns(std::span<const std::string> texts);

}  // namespace samformer::model
