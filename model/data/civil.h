// Days of the Gregorian calendar as numbers, and back: Howard Hinnant, "chrono-compatible low-level date algorithms".
// Any year; nothing is checked.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "model/data/date_format.h"

namespace samformer::model {

constexpr std::int64_t kDay = 86400;
constexpr std::int64_t kNano = 1'000'000'000;

constexpr std::array<std::string_view, 7> kWeekdays = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                                       "Friday", "Saturday", "Sunday"};

struct Civil {
  std::int64_t year = 1970;
  int month = 1;
  int day = 1;
};

constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
constexpr std::int64_t floor_mod(std::int64_t a, std::int64_t b) { return a - floor_div(a, b) * b; }

// Days since 1970-01-01.
constexpr std::int64_t days_from_civil(Civil date) {
  const std::int64_t year = date.year - (date.month <= 2 ? 1 : 0);
  const std::int64_t era = floor_div(year, 400);
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t day_of_year = (153 * (date.month + (date.month > 2 ? -3 : 9)) + 2) / 5 + date.day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

constexpr Civil civil_from_days(std::int64_t days) {
  days += 719468;
  const std::int64_t era = floor_div(days, 146097);
  const std::int64_t day_of_era = days - era * 146097;
  const std::int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const std::int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t shifted_month = (5 * day_of_year + 2) / 153;
  const int month = static_cast<int>(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
  return {year_of_era + era * 400 + (month <= 2 ? 1 : 0), month,
          static_cast<int>(day_of_year - (153 * shifted_month + 2) / 5 + 1)};
}

constexpr int days_in_month(std::int64_t year, int month) {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

// Monday 0 .. Sunday 6 (1970-01-01 was a Thursday).
constexpr int weekday(std::int64_t day) { return static_cast<int>(floor_mod(day + 3, 7)); }

// From 1.
constexpr std::int64_t day_of_year(std::int64_t day) {
  return day - days_from_civil({civil_from_days(day).year, 1, 1}) + 1;
}
// ISO 8601: the week of the year that has its Thursday.
struct IsoWeek {
  std::int64_t year, week;
};
constexpr IsoWeek iso_week(std::int64_t day) {
  const std::int64_t thursday = day - weekday(day) + 3;
  return {civil_from_days(thursday).year, (day_of_year(thursday) - 1) / 7 + 1};
}

inline std::int64_t day_of(const Stamp& stamp) { return floor_div(stamp.seconds, kDay); }
inline std::int64_t second_of_day(const Stamp& stamp) { return floor_mod(stamp.seconds, kDay); }
inline Civil date_of(const Stamp& stamp) { return civil_from_days(day_of(stamp)); }

}  // namespace samformer::model
