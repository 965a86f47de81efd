// Date stamps and time steps. A Stamp is the wall clock that was read and its offset from UTC; a DateFormat is how the
// file writes it, so that forecasts are written the same way. Read without being told: ISO 8601 (Y-M, Y-M-D, space or
// T, H:M[:S[.fraction]], Z or an offset) and Y/M/D H:MM; day and month order is never guessed, it takes a pattern
// (strptime's %Y %y %m %b %B %d %H %I %p %M %S %f %z %s %%).
// Steps shorter than a day are elapsed time (an offset change is no gap); days and longer go by the wall clock.
// Errors: Exit::usage for a bad --freq or --date-format, Exit::data where a forecast needs a step and none was found.
#pragma once

#include <cstdint>
#include <optional>
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

enum class Zone : std::uint8_t { none, z, hours, hours_minutes, hours_colon_minutes };

struct DateFormat {
  std::string pattern;   // of --date-format; says what a date holds, in place of `separator` to `seconds`
  bool learned = false;  // a date was read; from then on all or none of the dates must have a zone
  char separator = '-';
  char time_separator = ' ';
  bool day = false;  // false: Y-M
  bool time = false;
  bool seconds = false;
  bool pad_date = true;  // 01 rather than 1
  bool pad_hour = true;
  std::int8_t fraction_digits = 0;
  Zone zone = Zone::none;
};

// Reads one date. `format` learns from every date of a file: what only some of them show (seconds, digits, a missing
// zero) is merged into it. Text that is no date leaves both outputs alone and returns false.
bool parse_stamp(std::string_view text, DateFormat& format, Stamp& stamp);
std::string format_stamp(const Stamp& stamp, const DateFormat& format);
// Throws Exit::usage, naming the directive that is not known or the part of a date that is missing.
void check_date_pattern(const std::string& pattern);

enum class StepUnit : std::uint8_t { none, nanosecond, second, day, business_day, month };

struct Step {
  StepUnit unit = StepUnit::none;
  std::int64_t count = 0;
  int anchor_day = 1;  // months only: the day of the month; later than the month's last day means that last day

  bool known() const { return unit != StepUnit::none; }
  std::string name() const;  // "1 hour", "15 minutes", "1 month (end)", "1 business day"; "unknown"
  std::string freq() const;  // as --freq reads it: "1h", "15min", "1m"; empty where unknown
  int season() const;        // 15 min 96, hour 24, day 7, business day 5, week 52, month 12, quarter 4; else 0
  bool operator==(const Step&) const = default;
};

// [N]unit, capitals ignored: s, min or t, h, d, b, w, m, q, y. The anchor day of months comes from the dates.
Step parse_freq(std::string_view text, std::span<const Stamp> dates);
// Month, quarter, year (start, end, clamped day) or business day, else the most frequent difference; 90 % of the
// differences must agree. Without that, or with fewer than two dates, the step is unknown.
Step infer_step(std::span<const Stamp> dates);

// Whether 90 % of the differences are this step.
bool agrees(std::span<const Stamp> dates, const Step& step);
// Steps from a to b: 0 at the same time, negative backwards, nothing where b is not on a's grid.
std::optional<std::int64_t> steps_between(const Stamp& a, const Stamp& b, const Step& step);
// The `count` stamps after `last`; offsets are kept. An unknown step throws Exit::data naming --freq.
std::vector<Stamp> continue_dates(const Stamp& last, const Step& step, std::int64_t count);

}  // namespace samformer::model
