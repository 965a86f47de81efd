#include "model/data/date_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <limits>
#include <utility>

#include "core/error.h"
#include "model/data/civil.h"

namespace samformer::model {
namespace {

constexpr std::array<std::string_view, 12> kMonths = {"January",   "February", "March",    "April",
                                                      "May",       "June",     "July",     "August",
                                                      "September", "October",  "November", "December"};
constexpr std::array<std::string_view, 6> kIntervals = {" - ", "/", " \u2013 ", " to ", "--", " / "};

// The days of dates that have one reading; what follows the day (a clock, a zone) is scan_clock's.
struct Notation {
  std::string_view pattern;
  std::size_t digits = 0;  // so many stand at the beginning; 0: any number
};
constexpr std::array<Notation, 60> kNotations = {{
    {"%YQ%q"},    {"%Y-Q%q"},      {"%Y Q%q"},       {"%Y:Q%q"},      {"Q%q %Y"},        {"Q%q-%Y"},     {"Q%q/%Y"},
    {"%qQ%Y"},    {"%YH%h"},       {"%Y-H%h"},       {"%Y H%h"},      {"%YS%h"},         {"%Y-S%h"},     {"H%h %Y"},
    {"H%h-%Y"},   {"%YM%m"},       {"%Y-M%m"},       {"%Y:M%m"},      {"%G-W%V-%u"},     {"%GW%V%u"},    {"%G-W%V"},
    {"%GW%V"},    {"%G W%V"},      {"W%V %G"},       {"W%V-%G"},      {"%Y-%j"},         {"%d %b %Y"},   {"%d-%b-%Y"},
    {"%d/%b/%Y"}, {"%d. %b %Y"},   {"%d%b%Y"},       {"%b %d, %Y"},   {"%b %d %Y"},      {"%Y-%b-%d"},   {"%Y %b %d"},
    {"%Y%b%d"},   {"%a %d %b %Y"}, {"%a, %d %b %Y"}, {"%a %b %d %Y"}, {"%a, %b %d, %Y"}, {"%b %Y"},      {"%b-%Y"},
    {"%b/%Y"},    {"%b%Y"},        {"%Y %b"},        {"%Y-%b"},       {"%Y%b"},          {"%m/%Y"},      {"%m-%Y"},
    {"%m.%Y", 2}, {"%Y", 4},       {"%Y%m", 6},      {"%Y%j", 7},     {"%Y%m%d", 8},     {"%Y%m%d", 12}, {"%Y%m%d", 14},
    {"%s", 10},   {"%3s", 13},     {"%6s", 16},      {"%9s", 19},
}};

std::string_view notation_of(const DateFormat& format) {
  return kNotations[static_cast<std::size_t>(format.notation)].pattern;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
char to_lower(char c) { return is_upper(c) ? static_cast<char>(c + 32) : c; }

std::string in_letters(std::string_view text, Letters letters) {
  std::string result(text);
  for (char& c : result) {
    if (letters == Letters::lower) c = to_lower(c);
    if (letters == Letters::upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  }
  return result;
}

struct Fields {
  Civil date;
  int week = 0;          // of %V; 0: not given
  int day_of_year = 0;   // of %j; 0: not given
  int day_of_week = -1;  // of %a and %u; -1: not given
  int hour = 0, minute = 0, second = 0, nanoseconds = 0, offset_minutes = 0;
  int afternoon = -1;           // of %p; -1: not given
  bool midnight_is_24 = false;  // set by to_stamp

  bool to_stamp(Stamp& stamp) {
    if (date.month < 1 || date.month > 12 || date.day < 1 || date.day > days_in_month(date.year, date.month))
      return false;
    midnight_is_24 = hour == 24 && minute == 0 && second == 0 && nanoseconds == 0 && afternoon < 0;
    if ((hour > 23 && !midnight_is_24) || minute > 59 || second > 59) return false;
    if (afternoon >= 0 && (hour < 1 || hour > 12)) return false;
    std::int64_t day = days_from_civil(date);
    if (day_of_year > 0) {
      day = days_from_civil({date.year, 1, day_of_year});
      if (civil_from_days(day).year != date.year) return false;
    } else if (week > 0) {
      // The week of 4 January is the first; the one that this year's last Thursday has passed is none.
      const std::int64_t fourth = days_from_civil({date.year, 1, 4});
      const std::int64_t monday = fourth - weekday(fourth) + 7 * (week - 1);
      if (civil_from_days(monday + 3).year != date.year) return false;
      day = monday + std::max(day_of_week, 0);
    } else if (day_of_week >= 0 && day_of_week != weekday(day)) {
      return false;
    }
    const int hour24 = afternoon < 0 ? hour : hour % 12 + 12 * afternoon;
    stamp.seconds = day * kDay + hour24 * 3600 + minute * 60 + second;
    stamp.nanoseconds = nanoseconds;
    stamp.offset_minutes = static_cast<std::int16_t>(offset_minutes);
    return true;
  }
  void set_clock_of(std::int64_t seconds) {
    date = civil_from_days(floor_div(seconds, kDay));
    const int rest = static_cast<int>(floor_mod(seconds, kDay));
    hour = rest / 3600;
    minute = rest / 60 % 60;
    second = rest % 60;
  }
};

// Reads `text` from the left; every function returns false, and may have moved, where the text differs.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool done() const { return rest_.empty(); }
  char peek() const { return rest_.empty() ? '\0' : rest_[0]; }
  bool literal(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool literal(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  // Capitals ignored; `letters` is set to those that were found.
  bool word(std::string_view expected, Letters& letters) {
    if (rest_.size() < expected.size()) return false;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (to_lower(rest_[i]) != to_lower(expected[i])) return false;
    }
    letters = !is_upper(rest_[0]) ? Letters::lower : (is_upper(rest_[1]) ? Letters::upper : Letters::capitalised);
    rest_.remove_prefix(expected.size());
    return true;
  }
  // One of the names or its first three letters.
  template <std::size_t N>
  bool name(const std::array<std::string_view, N>& names, int& index, DateFormat& format) {
    for (std::size_t i = 0; i < N; ++i) {
      const bool whole = word(names[i], format.letters);
      if (!whole && !word(names[i].substr(0, 3), format.letters)) continue;
      format.long_names |= whole && names[i].size() > 3;
      index = static_cast<int>(i);
      return true;
    }
    return false;
  }
  // As many digits as there are, at most `most`; `unpadded` is set where one digit stands for two.
  template <class Integer>
  bool number(int least, int most, Integer& value, bool* unpadded = nullptr) {
    int digits = 0;
    std::uint64_t read = 0;
    for (; digits < most && !rest_.empty() && is_digit(rest_[0]); ++digits) {
      read = read * 10 + static_cast<std::uint64_t>(rest_[0] - '0');
      rest_.remove_prefix(1);
    }
    if (digits < least) return false;
    if (unpadded != nullptr && digits == 1) *unpadded = true;
    value = static_cast<Integer>(read);
    return true;
  }
  bool fraction(Fields& fields, DateFormat& format) {
    const std::size_t before = rest_.size();
    if (!number(1, 9, fields.nanoseconds)) return false;
    const int digits = static_cast<int>(before - rest_.size());
    for (int i = digits; i < 9; ++i) fields.nanoseconds *= 10;
    format.fraction_digits = std::max(format.fraction_digits, static_cast<std::int8_t>(digits));
    return true;
  }
  // Seconds since 1970, or 10^-`digits` of them.
  bool since_1970(int digits, Fields& fields) {
    const bool negative = literal('-');
    std::uint64_t magnitude = 0;
    if (!number(1, std::min(11 + digits, 19), magnitude) || magnitude > std::numeric_limits<std::int64_t>::max()) {
      return false;
    }
    const std::int64_t count = negative ? -static_cast<std::int64_t>(magnitude) : static_cast<std::int64_t>(magnitude);
    std::int64_t scale = 1;
    for (int i = 0; i < digits; ++i) scale *= 10;
    fields.set_clock_of(floor_div(count, scale));
    fields.nanoseconds = static_cast<int>(floor_mod(count, scale) * (kNano / scale));
    return true;
  }
  bool noon(Fields& fields, DateFormat& format) {
    format.noon = true;
    fields.afternoon = word("AM", format.noon_letters) ? 0 : 1;
    return fields.afternoon == 0 || word("PM", format.noon_letters);
  }
  bool zone(Fields& fields, DateFormat& format) {
    format.zone_blank = literal(' ');
    const auto named = [&](Zone zone, std::string_view name) {
      if (!literal(name)) return false;
      format.zone = zone;
      return true;
    };
    if (!named(Zone::z, "Z") && !named(Zone::utc, "UTC") && !named(Zone::gmt, "GMT") && !offset(fields, format)) {
      return false;
    }
    if (!literal('[')) return true;
    const std::size_t end = rest_.find(']');
    if (end == std::string_view::npos) return false;
    format.region = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool interval(std::int8_t& row) {
    for (std::size_t i = 0; i < kIntervals.size(); ++i) {
      if (!literal(kIntervals[i])) continue;
      row = static_cast<std::int8_t>(i);
      return true;
    }
    return false;
  }
  bool at_interval() const {
    std::int8_t row = 0;
    return Scanner(*this).interval(row);
  }
  // " AM", "pm" and what follows.
  bool at_noon() const {
    const std::string_view word = rest_.substr(rest_.starts_with(' ') ? 1 : 0);
    return word.size() > 1 && std::string_view("AaPp").find(word[0]) != std::string_view::npos;
  }

 private:
  bool offset(Fields& fields, DateFormat& format) {
    const int sign = peek() == '-' ? -1 : 1;
    int hours = 0;
    int minutes = 0;
    if (!(literal('+') || literal('-')) || !number(2, 2, hours)) return false;
    format.zone = Zone::hours;
    if (literal(':')) {
      format.zone = Zone::hours_colon_minutes;
      if (!number(2, 2, minutes)) return false;
    } else if (is_digit(peek()) && number(2, 2, minutes)) {
      format.zone = Zone::hours_minutes;
    }
    if (hours > 18 || minutes > 59) return false;
    fields.offset_minutes = sign * (hours * 60 + minutes);
    return true;
  }

  std::string_view rest_;
};

bool scan_years_first(Scanner& scan, DateFormat& format, Fields& fields) {
  bool short_date = false;
  if (!scan.number(4, 4, fields.date.year)) return false;
  const char separator = scan.peek();
  if ((separator != '-' && separator != '/' && separator != '.') || !scan.literal(separator)) return false;
  if (!scan.number(1, 2, fields.date.month, &short_date)) return false;
  const bool has_day = scan.literal(separator);
  if (has_day) {
    if (!scan.number(1, 2, fields.date.day, &short_date)) return false;
  } else if (separator != '-' || short_date || !(scan.done() || scan.at_interval())) {
    return false;
  }
  format.separator = separator;
  format.day |= has_day;
  format.pad_date &= !short_date;
  return true;
}

// [separator]H[:M[:S[.fraction]]][AM][zone]
bool scan_clock(Scanner& scan, DateFormat& format, Fields& fields) {
  const char separator = is_digit(scan.peek()) ? '\0' : scan.peek();
  if (separator != '\0') {
    if (std::string_view(" T:,").find(separator) == std::string_view::npos || !scan.literal(separator)) return false;
    if (separator == ',' && !scan.literal(' ')) return false;
  } else if (!format.pad_date) {
    return false;  // 2020-7-110:00 could be the 1st or the 11th
  }
  bool short_hour = false;
  if (!scan.number(1, 2, fields.hour, &short_hour)) return false;
  format.time = true;
  format.time_separator = separator;
  format.pad_hour &= !short_hour;
  const bool colons = scan.literal(':');
  if (colons || is_digit(scan.peek())) {
    if (!scan.number(2, 2, fields.minute)) return false;
    format.colons = colons;
    format.minutes = true;
    if (colons ? scan.literal(':') : is_digit(scan.peek())) {
      if (!scan.number(2, 2, fields.second)) return false;
      format.seconds = true;
      const char mark = scan.peek();
      if (mark == '.' || mark == ',') {
        format.decimal_mark = mark;
        if (!scan.literal(mark) || !scan.fraction(fields, format)) return false;
      }
    }
  } else if (scan.literal('h')) {
    format.hour_mark = 'h';
  } else if (separator != 'T' && !scan.at_noon()) {
    return false;
  }
  if (scan.at_noon()) {
    format.noon_blank = scan.literal(' ');
    if (!scan.noon(fields, format)) return false;
  }
  return scan.done() || scan.at_interval() || scan.zone(fields, format);
}

// `found`: a pattern of the table.
bool scan_pattern(std::string_view pattern, bool found, Scanner& scan, DateFormat& format, Fields& fields) {
  bool short_date = false;
  bool short_hour = false;
  int part = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      if (scan.literal(pattern[i])) continue;
      // Small as Stata writes them; its weeks are not ISO's.
      if (!found || !is_upper(pattern[i]) || pattern[i] == 'W' || !scan.literal(to_lower(pattern[i]))) return false;
      format.letters = Letters::lower;
      continue;
    }
    bool read = false;
    char directive = pattern[++i];
    const int digits = is_digit(directive) ? directive - '0' : 0;
    if (digits > 0) directive = pattern[++i];
    switch (directive) {
      case 'Y':
      case 'G':
        read = scan.number(4, 4, fields.date.year);
        break;
      case 'y':
        read = scan.number(2, 2, fields.date.year);
        fields.date.year += fields.date.year < 69 ? 2000 : 1900;  // POSIX
        break;
      case 'm':
        read = scan.number(1, 2, fields.date.month, &short_date);
        break;
      case 'b':
      case 'B':
        read = scan.name(kMonths, fields.date.month, format);
        ++fields.date.month;
        break;
      case 'q':
        read = scan.number(1, 1, part);
        fields.date.month = 3 * part - 2;
        break;
      case 'h':
        read = scan.number(1, 1, part);
        fields.date.month = 6 * part - 5;
        break;
      case 'V':
        read = scan.number(1, 2, fields.week, &short_date) && fields.week > 0;
        break;
      case 'u':
        read = scan.number(1, 1, fields.day_of_week) && fields.day_of_week >= 1 && fields.day_of_week <= 7;
        --fields.day_of_week;
        break;
      case 'a':
      case 'A':
        read = scan.name(kWeekdays, fields.day_of_week, format);
        break;
      case 'd':
        read = scan.number(1, 2, fields.date.day, &short_date);
        break;
      case 'j':
        read = scan.number(3, 3, fields.day_of_year) && fields.day_of_year > 0;
        break;
      case 'H':
      case 'I':
        read = scan.number(1, 2, fields.hour, &short_hour);
        break;
      case 'p':
        read = scan.noon(fields, format);
        break;
      case 'M':
        read = scan.number(2, 2, fields.minute);
        break;
      case 'S':
        read = scan.number(2, 2, fields.second);
        break;
      case 'f':
        read = scan.fraction(fields, format);
        break;
      case 'z':
        read = scan.zone(fields, format);
        break;
      case 's':
        read = scan.since_1970(digits, fields);
        if (found && digits == 0 && scan.literal('.')) read &= scan.fraction(fields, format);
        break;
      default:
        read = scan.literal('%');
    }
    if (!read) return false;
  }
  format.pad_date &= !short_date;
  format.pad_hour &= !short_hour;
  return true;
}

// A date and, where it was found, what follows it.
bool scan_moment(Scanner& scan, DateFormat& format, Fields& fields) {
  if (!format.pattern.empty()) return scan_pattern(format.pattern, false, scan, format, fields);
  if (format.notation < 0) {
    if (!scan_years_first(scan, format, fields)) return false;
  } else if (!scan_pattern(notation_of(format), true, scan, format, fields)) {
    return false;
  }
  if (scan.done() || scan.at_interval()) return true;
  const bool has_day = format.notation < 0 || notation_of(format).find_first_of("dju") != std::string_view::npos;
  return has_day && scan_clock(scan, format, fields);
}

// A whole number of months where both ends are firsts of months, or the end is the last day before one.
void learn_length(const Stamp& start, const Stamp& end, DateFormat& format) {
  format.interval_months = 0;
  format.interval_seconds = end.utc_seconds() - start.utc_seconds();
  if (date_of(start).day != 1) return;
  for (const std::int64_t beyond : {std::int64_t{0}, kDay}) {
    const Civil from = date_of(start), to = civil_from_days(floor_div(end.seconds + beyond, kDay));
    const std::int64_t months = (to.year - from.year) * 12 + to.month - from.month;
    if (to.day != 1 || floor_mod(end.seconds - start.seconds, kDay) != 0 || months < 1 || months > 12000) continue;
    format.interval_months = static_cast<std::int32_t>(months);
    format.interval_seconds = -beyond;
    return;
  }
}

Stamp end_of(const Stamp& start, const DateFormat& format) {
  Stamp end = start;
  if (format.interval_months > 0) {
    const Civil from = date_of(start);
    const std::int64_t month = from.year * 12 + from.month - 1 + format.interval_months;
    const Civil to{floor_div(month, 12), static_cast<int>(floor_mod(month, 12)) + 1, 1};
    end.seconds = (days_from_civil(to) + from.day - 1) * kDay + second_of_day(start);
  }
  end.seconds += format.interval_seconds;
  return end;
}

bool scan_text(std::string_view text, DateFormat& format, Stamp& stamp) {
  Scanner scan(text);
  Fields fields;
  format.zone = Zone::none;
  format.noon = false;
  format.interval = -1;
  if (!scan_moment(scan, format, fields) || !fields.to_stamp(stamp)) return false;
  format.midnight_is_24 |= fields.midnight_is_24;
  if (scan.done()) return true;
  Fields last;
  Stamp end;
  DateFormat of_end = format;
  if (!scan.interval(format.interval) || !scan_moment(scan, of_end, last) || !scan.done() || !last.to_stamp(end)) {
    return false;
  }
  if (of_end.day && !format.day) return false;  // 2020-12 - 2020-12-31: its end cannot be written like its start
  format.end_is_24 |= last.midnight_is_24;
  learn_length(stamp, end, format);
  return compare(stamp, end) < 0;
}

// The common case, in a fraction of the time: written exactly as the dates before it, nothing to be learned.
bool scan_alike(std::string_view text, const DateFormat& format, Stamp& stamp) {
  const bool plain = format.learned && format.day && format.pad_date && format.notation < 0 && format.pattern.empty() &&
                     format.zone == Zone::none && format.interval < 0 && !format.noon && format.fraction_digits == 0;
  const bool clock = format.time && format.pad_hour && format.minutes && format.colons;
  if (!plain || format.time != clock || text.size() != (clock ? (format.seconds ? 19U : 16U) : 10U)) return false;
  bool digits = text[4] == format.separator && text[7] == format.separator;
  const auto two = [&](std::size_t at) {
    digits &= is_digit(text[at]) && is_digit(text[at + 1]);
    return 10 * (text[at] - '0') + text[at + 1] - '0';
  };
  Fields fields;
  fields.date = {100 * two(0) + two(2), two(5), two(8)};
  if (clock) {
    digits &= text[10] == format.time_separator && text[13] == ':' && (!format.seconds || text[16] == ':');
    fields.hour = two(11);
    fields.minute = two(14);
    if (format.seconds) fields.second = two(17);
  }
  return digits && fields.hour < 24 && fields.to_stamp(stamp);
}

// The first date of a column decides its notation.
bool find_notation(std::string_view text, DateFormat& format, Stamp& stamp) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view rest = text.substr(digits);
  const bool number = rest.empty() || (rest[0] == '.' && rest.find_first_not_of("0123456789", 1) == rest.npos);
  if (number && format.digits < (digits < 8 ? Digits::years : Digits::moments)) return false;
  // Seconds of 2030 to 2036 or a year, a month, a day and an hour.
  if (digits == 10 && text >= "19" && text < "21") return false;
  const DateFormat before = format;
  for (std::size_t row = 0; row < kNotations.size(); ++row) {
    if (kNotations[row].digits != 0 && kNotations[row].digits != digits) continue;
    format = before;
    format.notation = static_cast<std::int8_t>(row);
    if (!scan_text(text, format, stamp)) continue;
    const std::int64_t year = date_of(stamp).year;
    return kNotations[row].digits == 0 || (year > 1500 && year < 2500);
  }
  return false;
}

std::string two_digits(std::int64_t value, bool pad) {
  return pad ? fmt::format("{:02}", value) : fmt::format("{}", value);
}

std::string format_fraction(const Stamp& stamp, int digits) {
  return fmt::format("{:09}", stamp.nanoseconds).substr(0, static_cast<std::size_t>(digits));
}

std::string format_zone(const Stamp& stamp, const DateFormat& format) {
  const int minutes = std::abs(stamp.offset_minutes);
  const char sign = stamp.offset_minutes < 0 ? '-' : '+';
  std::string text = format.zone_blank ? " " : "";
  switch (format.zone) {
    case Zone::none:
      return "";
    case Zone::z:
      text += "Z";
      break;
    case Zone::utc:
      text += "UTC";
      break;
    case Zone::gmt:
      text += "GMT";
      break;
    case Zone::hours:
      if (minutes % 60 == 0) {
        text += fmt::format("{}{:02}", sign, minutes / 60);
        break;
      }
      [[fallthrough]];
    case Zone::hours_colon_minutes:
      text += fmt::format("{}{:02}:{:02}", sign, minutes / 60, minutes % 60);
      break;
    case Zone::hours_minutes:
      text += fmt::format("{}{:02}{:02}", sign, minutes / 60, minutes % 60);
  }
  return format.region.empty() ? text : fmt::format("{}[{}]", text, format.region);
}

std::string format_since_1970(Stamp stamp, int digits) {
  const bool negative = stamp.seconds < 0;
  if (negative && stamp.nanoseconds > 0) {
    ++stamp.seconds;
    stamp.nanoseconds = static_cast<std::int32_t>(kNano) - stamp.nanoseconds;
  }
  std::string text = fmt::format("{}{}", std::abs(stamp.seconds), format_fraction(stamp, digits));
  text.erase(0, std::min(text.find_first_not_of('0'), text.size() - 1));
  return (negative ? "-" : "") + text;
}

std::string format_noon(int hour, const DateFormat& format) {
  return in_letters(hour < 12 ? "AM" : "PM", format.noon_letters);
}

std::string format_pattern(std::string_view pattern, bool found, const Stamp& stamp, int hour,
                           const DateFormat& format) {
  const Civil date = date_of(stamp);
  const std::int64_t day = day_of(stamp);
  const IsoWeek iso = iso_week(day);
  const int second = static_cast<int>(second_of_day(stamp));
  const auto name = [&](std::string_view whole, bool in_full) {
    return in_letters(in_full || format.long_names ? whole : whole.substr(0, 3), format.letters);
  };
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      text += found && format.letters == Letters::lower ? to_lower(pattern[i]) : pattern[i];
      continue;
    }
    char directive = pattern[++i];
    const int digits = is_digit(directive) ? directive - '0' : 0;
    if (digits > 0) directive = pattern[++i];
    switch (directive) {
      case 'Y':
        text += fmt::format("{:04}", date.year);
        break;
      case 'G':
        text += fmt::format("{:04}", iso.year);
        break;
      case 'y':
        text += fmt::format("{:02}", floor_mod(date.year, 100));
        break;
      case 'm':
        text += two_digits(date.month, format.pad_date);
        break;
      case 'b':
      case 'B':
        text += name(kMonths[static_cast<std::size_t>(date.month - 1)], directive == 'B');
        break;
      case 'q':
        text += fmt::format("{}", (date.month + 2) / 3);
        break;
      case 'h':
        text += fmt::format("{}", (date.month + 5) / 6);
        break;
      case 'V':
        text += two_digits(iso.week, format.pad_date);
        break;
      case 'u':
        text += fmt::format("{}", weekday(day) + 1);
        break;
      case 'a':
      case 'A':
        text += name(kWeekdays[static_cast<std::size_t>(weekday(day))], directive == 'A');
        break;
      case 'd':
        text += two_digits(date.day, format.pad_date);
        break;
      case 'j':
        text += fmt::format("{:03}", day_of_year(day));
        break;
      case 'H':
        text += two_digits(hour, format.pad_hour);
        break;
      case 'I':
        text += two_digits((hour + 11) % 12 + 1, format.pad_hour);
        break;
      case 'p':
        text += format_noon(hour, format);
        break;
      case 'M':
        text += two_digits(second / 60 % 60, true);
        break;
      case 'S':
        text += two_digits(second % 60, true);
        break;
      case 'f':
        text += format_fraction(stamp, format.fraction_digits);
        break;
      case 'z':
        text += format_zone(stamp, format);
        break;
      case 's':
        text += format_since_1970(stamp, digits);
        if (found && digits == 0 && format.fraction_digits > 0) {
          text += '.' + format_fraction(stamp, format.fraction_digits);
        }
        break;
      default:
        text += '%';
    }
  }
  return text;
}

std::string format_clock(const Stamp& stamp, int hour, const DateFormat& format) {
  const int second = static_cast<int>(second_of_day(stamp));
  const char* const colon = format.colons ? ":" : "";
  std::string text = format.time_separator == '\0' ? "" : std::string(1, format.time_separator);
  if (format.time_separator == ',') text += ' ';
  text += two_digits(format.noon ? (hour + 11) % 12 + 1 : hour, format.pad_hour);
  if (format.minutes) text += fmt::format("{}{:02}", colon, second / 60 % 60);
  if (format.seconds) text += fmt::format("{}{:02}", colon, second % 60);
  if (format.fraction_digits > 0) text += format.decimal_mark + format_fraction(stamp, format.fraction_digits);
  if (format.hour_mark != '\0') text += format.hour_mark;
  if (format.noon) text += (format.noon_blank ? " " : "") + format_noon(hour, format);
  return text + format_zone(stamp, format);
}

std::string format_moment(Stamp stamp, const DateFormat& format, bool midnight_is_24) {
  int hour = static_cast<int>(second_of_day(stamp) / 3600);
  if (midnight_is_24 && second_of_day(stamp) == 0 && stamp.nanoseconds == 0) {
    stamp.seconds -= kDay;
    hour = 24;
  }
  if (!format.pattern.empty()) return format_pattern(format.pattern, false, stamp, hour, format);
  std::string text;
  if (format.notation >= 0) {
    text = format_pattern(notation_of(format), true, stamp, hour, format);
  } else {
    const Civil date = date_of(stamp);
    text = fmt::format("{:04}{}{}", date.year, format.separator, two_digits(date.month, format.pad_date));
    if (format.day) text += format.separator + two_digits(date.day, format.pad_date);
  }
  return format.time ? text + format_clock(stamp, hour, format) : text;
}

}  // namespace

int compare(const Stamp& a, const Stamp& b) {
  const std::pair left(a.utc_seconds(), a.nanoseconds);
  const std::pair right(b.utc_seconds(), b.nanoseconds);
  return left < right ? -1 : (left > right ? 1 : 0);
}

bool parse_stamp(std::string_view text, DateFormat& format, Stamp& stamp) {
  Stamp read;
  if (scan_alike(text, format, read)) {
    stamp = read;
    return true;
  }
  DateFormat learned = format;
  if (!scan_text(text, learned, read)) {
    if (format.learned || !format.pattern.empty()) return false;
    learned = format;
    if (!find_notation(text, learned, read)) return false;
  }
  if (format.learned && ((learned.zone == Zone::none) != (format.zone == Zone::none) || learned.noon != format.noon ||
                         learned.interval != format.interval)) {
    return false;
  }
  // A name cannot write the others' offsets.
  if (format.learned && learned.zone <= Zone::gmt) learned.zone = format.zone;
  format = std::move(learned);
  format.learned = true;
  stamp = read;
  return true;
}

std::string format_stamp(const Stamp& stamp, const DateFormat& format) {
  const std::string text = format_moment(stamp, format, format.midnight_is_24);
  if (format.interval < 0) return text;
  return fmt::format("{}{}{}", text, kIntervals[static_cast<std::size_t>(format.interval)],
                     format_moment(end_of(stamp, format), format, format.end_is_24));
}

bool is_local(const DateFormat& format) {
  const std::string_view pattern = format.notation >= 0 ? notation_of(format) : std::string_view(format.pattern);
  for (const std::string_view directive : {"%s", "%3s", "%6s", "%9s"}) {
    if (pattern.find(directive) != pattern.npos) return false;
  }
  return format.zone == Zone::none;
}

void check_date_pattern(const std::string& pattern) {
  const auto refuse = [&](const std::string& what) {
    throw Error(Exit::usage, fmt::format("--date-format '{}': {}", pattern, what))
        .hint(
            "known are %Y %y %m %b %B %d %j %a %H %I %p %M %S %f %z %s %%, %G %V %u (ISO weeks), %q (quarter), %h "
            "(half-year) and %3s %6s %9s (milli-, micro-, nanoseconds since 1970), for example --date-format "
            "'%d.%m.%Y %H:%M'");
  };
  std::string seen;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') continue;
    if (++i == pattern.size()) refuse("ends with a lone %");
    const bool scaled = i + 1 < pattern.size() && pattern[i + 1] == 's' &&
                        std::string_view("369").find(pattern[i]) != std::string_view::npos;
    if (scaled) ++i;
    if (std::string_view("YymbBdjaAHIpMSfzsGVuqh%").find(pattern[i]) == std::string_view::npos) {
      refuse(fmt::format("unknown directive %{}", pattern[i]));
    }
    seen += pattern[i];
  }
  const auto has = [&](const char* any) { return seen.find_first_of(any) != std::string::npos; };
  if (has("s")) return;
  if (!has("YyG")) refuse("the year is missing");
  if (has("d") && !has("mbB")) refuse("a day without its month");
  if (has("G") != has("V")) refuse("%G and %V belong together");
  if (has("I") != has("p")) refuse("%I and %p belong together");
}

std::vector<std::string> possible_patterns(std::span<const std::string> texts) {
  static constexpr std::array<std::string_view, 36> days = {
      "%d/%m/%Y", "%m/%d/%Y",  "%d.%m.%Y", "%m.%d.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %m %Y", "%m %d %Y", "%d/%m/%y",
      "%m/%d/%y", "%y/%m/%d",  "%d.%m.%y", "%y.%m.%d", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%d %b %y", "%d-%b-%y",
      "%d%b%y",   "%b %d, %y", "%b %y",    "%b-%y",    "%y-%b",    "%yQ%q",    "%y-Q%q",   "Q%q %y",   "Q%q-%y",
      "Q%q/%y",   "%Y%m%d",    "%Y%m%d%H", "%d%m%Y",   "%m%d%Y",   "%s",       "%3s",      "%6s",      "%9s"};
  static constexpr std::array<std::string_view, 14> clocks = {
      "",        " %H:%M",     " %H:%M:%S",     " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %I:%M%p",
      ", %H:%M", ", %H:%M:%S", ", %I:%M:%S %p", "T%H:%M:%S",    "T%H:%M",    " %H.%M",       " %H:%M%z"};
  std::vector<std::string> possible;
  for (const std::string_view day : days) {
    if (day.ends_with('s')) {  // since 1973; fewer digits are hardly meant so
      const std::size_t digits = day == "%s" ? 10 : day == "%3s" ? 13 : day == "%6s" ? 16 : 19;
      if (texts.empty() || (texts[0].size() != digits && texts[0].size() + 1 != digits)) continue;
    }
    for (const std::string_view clock : clocks) {
      DateFormat format;
      format.pattern = fmt::format("{}{}", day, clock);
      Stamp stamp;
      if (std::all_of(texts.begin(), texts.end(), [&](const auto& t) { return parse_stamp(t, format, stamp); })) {
        possible.push_back(format.pattern);
      }
    }
  }
  return possible;
}

}  // namespace samformer::model
