#include "model/data/calendar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace samformer::model {
namespace {

constexpr std::int64_t kDay = 86400;
constexpr std::int64_t kNano = 1'000'000'000;
constexpr std::array<std::string_view, 12> kMonths = {"January",   "February", "March",    "April",
                                                      "May",       "June",     "July",     "August",
                                                      "September", "October",  "November", "December"};

struct Civil {
  std::int64_t year = 1970;
  int month = 1;
  int day = 1;
};

constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// Howard Hinnant, "chrono-compatible low-level date algorithms": days since 1970-01-01 and back, any year.
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

std::int64_t day_of(const Stamp& stamp) { return floor_div(stamp.seconds, kDay); }
std::int64_t second_of_day(const Stamp& stamp) { return stamp.seconds - day_of(stamp) * kDay; }
Civil date_of(const Stamp& stamp) { return civil_from_days(day_of(stamp)); }
std::int64_t month_of(Civil date) { return date.year * 12 + date.month - 1; }
bool on_anchor(Civil date, int anchor) { return date.day == std::min(anchor, days_in_month(date.year, date.month)); }

// Monday 0 .. Sunday 6 (1970-01-01 was a Thursday).
int weekday(std::int64_t day) { return static_cast<int>(day + 3 - floor_div(day + 3, 7) * 7); }
// Counts Mondays to Fridays; a weekend counts as its Friday, so that the step after it is Monday.
std::int64_t business_index(std::int64_t day) { return floor_div(day + 3, 7) * 5 + std::min(weekday(day), 4); }
std::int64_t day_from_business_index(std::int64_t index) {
  const std::int64_t week = floor_div(index, 5);
  return week * 7 - 3 + (index - week * 5);
}

bool same_time_of_day(const Stamp& a, const Stamp& b) {
  return second_of_day(a) == second_of_day(b) && a.nanoseconds == b.nanoseconds;
}

struct Fields {
  Civil date;
  int hour = 0, minute = 0, second = 0, nanoseconds = 0, offset_minutes = 0;
  int afternoon = -1;  // of %p; -1: not given

  bool to_stamp(Stamp& stamp) const {
    if (date.month < 1 || date.month > 12 || date.day < 1 || date.day > days_in_month(date.year, date.month))
      return false;
    if (hour > 23 || minute > 59 || second > 59) return false;
    if (afternoon >= 0 && (hour < 1 || hour > 12)) return false;
    const int hour24 = afternoon < 0 ? hour : hour % 12 + 12 * afternoon;
    stamp.seconds = days_from_civil(date) * kDay + hour24 * 3600 + minute * 60 + second;
    stamp.nanoseconds = nanoseconds;
    stamp.offset_minutes = static_cast<std::int16_t>(offset_minutes);
    return true;
  }
};

// Reads `text` from the left; every function returns false, and may have moved, where the text differs.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool done() const { return rest_.empty(); }
  char peek() const { return rest_.empty() ? '\0' : rest_[0]; }
  bool literal(char c) {
    if (peek() != c || rest_.empty()) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool word(std::string_view expected) {
    if (rest_.size() < expected.size()) return false;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (std::tolower(static_cast<unsigned char>(rest_[i])) != std::tolower(static_cast<unsigned char>(expected[i]))) {
        return false;
      }
    }
    rest_.remove_prefix(expected.size());
    return true;
  }
  // As many digits as there are, at most `most`; `unpadded` is set where one digit stands for two.
  template <class Integer>
  bool number(int least, int most, Integer& value, bool* unpadded = nullptr) {
    int digits = 0;
    std::int64_t read = 0;
    for (; digits < most && !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; ++digits) {
      read = read * 10 + (rest_[0] - '0');
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
  bool zone(Fields& fields, DateFormat& format) {
    if (literal('Z')) {
      format.zone = Zone::z;
      return true;
    }
    const int sign = peek() == '-' ? -1 : 1;
    int hours = 0;
    int minutes = 0;
    if (!(literal('+') || literal('-')) || !number(2, 2, hours)) return false;
    format.zone = Zone::hours;
    if (literal(':')) {
      format.zone = Zone::hours_colon_minutes;
      if (!number(2, 2, minutes)) return false;
    } else if (!done() && number(2, 2, minutes)) {
      format.zone = Zone::hours_minutes;
    }
    if (hours > 18 || minutes > 59) return false;
    fields.offset_minutes = sign * (hours * 60 + minutes);
    return true;
  }

 private:
  std::string_view rest_;
};

bool scan_found(std::string_view text, DateFormat& format, Fields& fields) {
  Scanner scan(text);
  bool short_date = false;
  if (!scan.number(4, 4, fields.date.year)) return false;
  const char separator = scan.peek();
  if ((separator != '-' && separator != '/') || !scan.literal(separator)) return false;
  if (!scan.number(1, 2, fields.date.month, &short_date)) return false;
  const bool has_day = scan.literal(separator);
  if (has_day) {
    if (!scan.number(1, 2, fields.date.day, &short_date)) return false;
  } else if (separator == '/' || short_date || !scan.done()) {
    return false;
  }
  format.separator = separator;
  format.day |= has_day;
  format.pad_date &= !short_date;
  format.zone = Zone::none;
  if (scan.done()) return true;

  const char time_separator = scan.peek();
  bool short_hour = false;
  if (!(scan.literal(' ') || scan.literal('T')) || !scan.number(1, 2, fields.hour, &short_hour)) return false;
  if (!scan.literal(':') || !scan.number(2, 2, fields.minute)) return false;
  format.time = true;
  format.time_separator = time_separator;
  format.pad_hour &= !short_hour;
  if (scan.literal(':')) {
    if (!scan.number(2, 2, fields.second)) return false;
    format.seconds = true;
    if (scan.literal('.') && !scan.fraction(fields, format)) return false;
  }
  return scan.done() || (scan.zone(fields, format) && scan.done());
}

bool scan_pattern(std::string_view text, DateFormat& format, Fields& fields) {
  Scanner scan(text);
  bool short_date = false;
  bool short_hour = false;
  format.zone = Zone::none;
  for (std::size_t i = 0; i < format.pattern.size(); ++i) {
    if (format.pattern[i] != '%') {
      if (!scan.literal(format.pattern[i])) return false;
      continue;
    }
    bool read = false;
    switch (format.pattern[++i]) {
      case 'Y':
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
        for (std::size_t month = 0; month < kMonths.size() && !read; ++month) {
          read = scan.word(format.pattern[i] == 'B' ? kMonths[month] : kMonths[month].substr(0, 3));
          fields.date.month = static_cast<int>(month) + 1;
        }
        break;
      case 'd':
        read = scan.number(1, 2, fields.date.day, &short_date);
        break;
      case 'H':
      case 'I':
        read = scan.number(1, 2, fields.hour, &short_hour);
        break;
      case 'p':
        fields.afternoon = scan.word("AM") ? 0 : 1;
        read = fields.afternoon == 0 || scan.word("PM");
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
      case 's': {
        const bool negative = scan.literal('-');
        std::int64_t seconds = 0;
        read = scan.number(1, 11, seconds);
        if (negative) seconds = -seconds;
        fields.date = civil_from_days(floor_div(seconds, kDay));
        const int rest = static_cast<int>(seconds - floor_div(seconds, kDay) * kDay);
        fields.hour = rest / 3600;
        fields.minute = rest / 60 % 60;
        fields.second = rest % 60;
        break;
      }
      default:
        read = scan.literal('%');
    }
    if (!read) return false;
  }
  format.pad_date &= !short_date;
  format.pad_hour &= !short_hour;
  return scan.done();
}

std::string two_digits(std::int64_t value, bool pad) {
  return pad ? fmt::format("{:02}", value) : fmt::format("{}", value);
}

std::string format_fraction(const Stamp& stamp, int digits) {
  return fmt::format("{:09}", stamp.nanoseconds).substr(0, static_cast<std::size_t>(digits));
}

std::string format_zone(const Stamp& stamp, Zone zone) {
  if (zone == Zone::none) return "";
  if (zone == Zone::z) return "Z";
  const int minutes = std::abs(stamp.offset_minutes);
  const char sign = stamp.offset_minutes < 0 ? '-' : '+';
  if (zone == Zone::hours && minutes % 60 == 0) return fmt::format("{}{:02}", sign, minutes / 60);
  return fmt::format("{}{:02}{}{:02}", sign, minutes / 60, zone == Zone::hours_minutes ? "" : ":", minutes % 60);
}

std::string format_pattern(const Stamp& stamp, const DateFormat& format, Civil date, int hour, int minute, int second) {
  std::string text;
  for (std::size_t i = 0; i < format.pattern.size(); ++i) {
    if (format.pattern[i] != '%') {
      text += format.pattern[i];
      continue;
    }
    const std::string_view month = kMonths[static_cast<std::size_t>(date.month - 1)];
    switch (format.pattern[++i]) {
      case 'Y':
        text += fmt::format("{:04}", date.year);
        break;
      case 'y':
        text += fmt::format("{:02}", date.year % 100);
        break;
      case 'm':
        text += two_digits(date.month, format.pad_date);
        break;
      case 'b':
        text += month.substr(0, 3);
        break;
      case 'B':
        text += month;
        break;
      case 'd':
        text += two_digits(date.day, format.pad_date);
        break;
      case 'H':
        text += two_digits(hour, format.pad_hour);
        break;
      case 'I':
        text += two_digits((hour + 11) % 12 + 1, format.pad_hour);
        break;
      case 'p':
        text += hour < 12 ? "AM" : "PM";
        break;
      case 'M':
        text += two_digits(minute, true);
        break;
      case 'S':
        text += two_digits(second, true);
        break;
      case 'f':
        text += format_fraction(stamp, format.fraction_digits);
        break;
      case 'z':
        text += format_zone(stamp, format.zone);
        break;
      case 's':
        text += fmt::format("{}", stamp.seconds);
        break;
      default:
        text += '%';
    }
  }
  return text;
}

// The value that more than half of `count` values share, if there is one, and how many do (Boyer and Moore).
template <class ValueAt>
std::pair<std::int64_t, std::size_t> majority(std::size_t count, const ValueAt& value_at) {
  std::int64_t candidate = 0;
  std::size_t votes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t value = value_at(i);
    if (votes == 0) candidate = value;
    votes = value == candidate ? votes + 1 : votes - 1;
  }
  std::size_t agree = 0;
  for (std::size_t i = 0; i < count; ++i) agree += value_at(i) == candidate ? 1 : 0;
  return {candidate, agree};
}

// 31 where (nearly) every date is the last of its month, else the day that most dates share.
int anchor_of(std::span<const Stamp> dates) {
  const auto ends = std::count_if(dates.begin(), dates.end(), [](const Stamp& s) { return on_anchor(date_of(s), 31); });
  if (static_cast<std::size_t>(ends) * 10 >= dates.size() * 9) return 31;
  const auto [day, agree] = majority(dates.size(), [&](std::size_t i) { return date_of(dates[i]).day; });
  if (agree * 2 > dates.size()) return static_cast<int>(day);
  int latest = 1;
  for (const Stamp& stamp : dates) latest = std::max(latest, date_of(stamp).day);
  return latest;
}

}  // namespace

bool agrees(std::span<const Stamp> dates, const Step& step) {
  std::size_t agree = 0;
  for (std::size_t i = 0; i + 1 < dates.size(); ++i) agree += steps_between(dates[i], dates[i + 1], step) == 1 ? 1 : 0;
  return agree * 10 >= (dates.size() - 1) * 9;
}

int compare(const Stamp& a, const Stamp& b) {
  const std::pair left(a.utc_seconds(), a.nanoseconds);
  const std::pair right(b.utc_seconds(), b.nanoseconds);
  return left < right ? -1 : (left > right ? 1 : 0);
}

bool parse_stamp(std::string_view text, DateFormat& format, Stamp& stamp) {
  Fields fields;
  Stamp read;
  DateFormat learned = format;
  const bool scanned = format.pattern.empty() ? scan_found(text, learned, fields) : scan_pattern(text, learned, fields);
  if (!scanned || !fields.to_stamp(read)) return false;
  if (format.learned && (learned.zone == Zone::none) != (format.zone == Zone::none)) return false;
  if (format.learned && learned.zone == Zone::z) learned.zone = format.zone;  // Z cannot write the others' offsets
  format = std::move(learned);
  format.learned = true;
  stamp = read;
  return true;
}

std::string format_stamp(const Stamp& stamp, const DateFormat& format) {
  const Civil date = date_of(stamp);
  const int second = static_cast<int>(second_of_day(stamp));
  const int hour = second / 3600;
  const int minute = second / 60 % 60;
  if (!format.pattern.empty()) return format_pattern(stamp, format, date, hour, minute, second % 60);
  std::string text = fmt::format("{:04}{}{}", date.year, format.separator, two_digits(date.month, format.pad_date));
  if (format.day) text += format.separator + two_digits(date.day, format.pad_date);
  if (!format.time) return text;
  text += fmt::format("{}{}:{:02}", format.time_separator, two_digits(hour, format.pad_hour), minute);
  if (format.seconds) text += fmt::format(":{:02}", second % 60);
  if (format.fraction_digits > 0) text += '.' + format_fraction(stamp, format.fraction_digits);
  return text + format_zone(stamp, format.zone);
}

void check_date_pattern(const std::string& pattern) {
  const auto refuse = [&](const std::string& what) {
    throw Error(Exit::usage, fmt::format("--date-format '{}': {}", pattern, what))
        .hint("known are %Y %y %m %b %B %d %H %I %p %M %S %f %z %s %%, for example --date-format '%d.%m.%Y %H:%M'");
  };
  std::string seen;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') continue;
    if (++i == pattern.size()) refuse("ends with a lone %");
    if (std::string_view("YymbBdHIpMSfzs%").find(pattern[i]) == std::string_view::npos) {
      refuse(fmt::format("unknown directive %{}", pattern[i]));
    }
    seen += pattern[i];
  }
  const auto has = [&](const char* any) { return seen.find_first_of(any) != std::string::npos; };
  if (has("s")) return;
  if (!has("Yy")) refuse("the year is missing");
  if (has("d") && !has("mbB")) refuse("a day without its month");
  if (has("I") != has("p")) refuse("%I and %p belong together");
}

std::string Step::name() const {
  const auto plural = [](std::int64_t n, const char* unit) {
    return fmt::format("{} {}{}", n, unit, n == 1 ? "" : "s");
  };
  const std::string anchor =
      anchor_day == 1 ? " (start)" : (anchor_day >= 31 ? " (end)" : fmt::format(" (day {})", anchor_day));
  switch (unit) {
    case StepUnit::none:
      return "unknown";
    case StepUnit::nanosecond:
      if (count % 1'000'000 == 0) return plural(count / 1'000'000, "millisecond");
      return plural(count, "nanosecond");
    case StepUnit::second:
      if (count % 3600 == 0) return plural(count / 3600, "hour");
      return count % 60 == 0 ? plural(count / 60, "minute") : plural(count, "second");
    case StepUnit::day:
      return count % 7 == 0 ? plural(count / 7, "week") : plural(count, "day");
    case StepUnit::business_day:
      return plural(count, "business day");
    case StepUnit::month:
      break;
  }
  if (count % 12 == 0) return plural(count / 12, "year") + anchor;
  return (count % 3 == 0 ? plural(count / 3, "quarter") : plural(count, "month")) + anchor;
}

std::string Step::freq() const {
  switch (unit) {
    case StepUnit::none:
      return "";
    case StepUnit::nanosecond:
      return fmt::format("{}ns", count);
    case StepUnit::second:
      if (count % 3600 == 0) return fmt::format("{}h", count / 3600);
      return count % 60 == 0 ? fmt::format("{}min", count / 60) : fmt::format("{}s", count);
    case StepUnit::day:
      return count % 7 == 0 ? fmt::format("{}w", count / 7) : fmt::format("{}d", count);
    case StepUnit::business_day:
      return fmt::format("{}b", count);
    case StepUnit::month:
      break;
  }
  if (count % 12 == 0) return fmt::format("{}y", count / 12);
  return count % 3 == 0 ? fmt::format("{}q", count / 3) : fmt::format("{}m", count);
}

int Step::season() const {
  const auto is = [this](StepUnit u, std::int64_t n) { return unit == u && count == n; };
  if (is(StepUnit::second, 900)) return 96;
  if (is(StepUnit::second, 3600)) return 24;
  if (is(StepUnit::day, 1)) return 7;
  if (is(StepUnit::business_day, 1)) return 5;
  if (is(StepUnit::day, 7)) return 52;
  if (is(StepUnit::month, 1)) return 12;
  if (is(StepUnit::month, 3)) return 4;
  return 0;
}

Step parse_freq(std::string_view text, std::span<const Stamp> dates) {
  struct Unit {
    std::string_view name;
    StepUnit unit;
    std::int64_t count;
  };
  static constexpr std::array<Unit, 11> kUnits = {{{"ns", StepUnit::nanosecond, 1},
                                                   {"s", StepUnit::second, 1},
                                                   {"min", StepUnit::second, 60},
                                                   {"t", StepUnit::second, 60},
                                                   {"h", StepUnit::second, 3600},
                                                   {"d", StepUnit::day, 1},
                                                   {"b", StepUnit::business_day, 1},
                                                   {"w", StepUnit::day, 7},
                                                   {"m", StepUnit::month, 1},
                                                   {"q", StepUnit::month, 3},
                                                   {"y", StepUnit::month, 12}}};
  std::int64_t count = 1;
  const bool digit = !text.empty() && text[0] >= '0' && text[0] <= '9';
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), count);
  std::string name(digit ? std::string_view(end, text.data() + text.size()) : text);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto* unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.name == name; });
  // 10^9 units, of nanoseconds as many as 10^9 seconds (31 years), keep every sum of a forecast inside 64 bits.
  const auto most = [](const Unit& u) {
    return (u.unit == StepUnit::nanosecond ? kNano : 1) * 1'000'000'000 / u.count;
  };
  if (unit == kUnits.end() || (digit && (status != std::errc() || count < 1)) || count > most(*unit)) {
    throw Error(Exit::usage, fmt::format("--freq '{}': expected a unit, or a number and a unit", text))
        .hint("units are s, min, h, d, b (business day), w, m (month), q, y; for example 15min");
  }
  Step step{unit->unit, count * unit->count};
  if (step.unit == StepUnit::nanosecond && step.count % kNano == 0) step = {StepUnit::second, step.count / kNano};
  if (step.unit == StepUnit::second && step.count % kDay == 0) step = {StepUnit::day, step.count / kDay};
  if (step.unit == StepUnit::month && !dates.empty()) step.anchor_day = anchor_of(dates);
  return step;
}

Step infer_step(std::span<const Stamp> dates) {
  if (dates.size() < 2) return {};
  const std::size_t pairs = dates.size() - 1;
  const auto most = [&](const auto& difference) {
    return majority(pairs, [&](std::size_t i) { return difference(dates[i], dates[i + 1]); }).first;
  };

  const std::int64_t months =
      most([](const Stamp& a, const Stamp& b) { return month_of(date_of(b)) - month_of(date_of(a)); });
  if (months > 0) {
    const Step step{StepUnit::month, months, anchor_of(dates)};
    if (agrees(dates, step)) return step;
  }
  const std::int64_t seconds = most([](const Stamp& a, const Stamp& b) { return b.seconds - a.seconds; });
  if (seconds == kDay) {
    const Step business{StepUnit::business_day, 1};
    bool over_weekend = false;
    bool on_weekend = false;
    for (std::size_t i = 0; i < dates.size(); ++i) {
      on_weekend |= weekday(day_of(dates[i])) > 4;
      over_weekend |= i > 0 && day_of(dates[i]) - day_of(dates[i - 1]) == 3 && weekday(day_of(dates[i])) == 0;
    }
    if (over_weekend && !on_weekend && agrees(dates, business)) return business;
  }
  if (seconds > 0 && seconds % kDay == 0) {
    const Step step{StepUnit::day, seconds / kDay};
    if (agrees(dates, step)) return step;
  }
  const std::int64_t nanoseconds = most([](const Stamp& a, const Stamp& b) {
    const std::int64_t elapsed = b.utc_seconds() - a.utc_seconds();
    if (std::abs(elapsed) >= 1'000'000'000) return std::int64_t{-1};  // parse_freq's bound
    return elapsed * kNano + b.nanoseconds - a.nanoseconds;
  });
  if (nanoseconds > 0) {
    const bool whole = nanoseconds % kNano == 0;
    const Step step{whole ? StepUnit::second : StepUnit::nanosecond, whole ? nanoseconds / kNano : nanoseconds};
    if (agrees(dates, step)) return step;
  }
  return {};
}

std::optional<std::int64_t> steps_between(const Stamp& a, const Stamp& b, const Step& step) {
  const auto whole = [&](std::int64_t difference) -> std::optional<std::int64_t> {
    if (difference % step.count != 0) return std::nullopt;
    return difference / step.count;
  };
  switch (step.unit) {
    case StepUnit::none:
      return std::nullopt;
    case StepUnit::nanosecond: {
      const std::int64_t seconds = b.utc_seconds() - a.utc_seconds();
      if (std::abs(seconds) > 9'000'000'000) return std::nullopt;
      return whole(seconds * kNano + b.nanoseconds - a.nanoseconds);
    }
    case StepUnit::second:
      if (a.nanoseconds != b.nanoseconds) return std::nullopt;
      return whole(b.utc_seconds() - a.utc_seconds());
    case StepUnit::day:
      if (!same_time_of_day(a, b)) return std::nullopt;
      return whole(day_of(b) - day_of(a));
    case StepUnit::business_day:
      if (!same_time_of_day(a, b) || weekday(day_of(b)) > 4) return std::nullopt;
      return whole(business_index(day_of(b)) - business_index(day_of(a)));
    case StepUnit::month:
      break;
  }
  if (!same_time_of_day(a, b) || !on_anchor(date_of(a), step.anchor_day) || !on_anchor(date_of(b), step.anchor_day)) {
    return std::nullopt;
  }
  return whole(month_of(date_of(b)) - month_of(date_of(a)));
}

std::vector<Stamp> continue_dates(const Stamp& last, const Step& step, std::int64_t count) {
  if (!step.known()) {
    throw Error(Exit::data, "the dates have no regular step (fewer than 90 % of their differences agree)")
        .hint("say the step with --freq, for example --freq 15min, h, d, b, w or m");
  }
  std::vector<Stamp> dates;
  dates.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 1; i <= count; ++i) {
    Stamp stamp = dates.empty() ? last : dates.back();
    switch (step.unit) {
      case StepUnit::none:
        break;
      case StepUnit::nanosecond: {
        const std::int64_t sum = stamp.nanoseconds + step.count % kNano;
        stamp.seconds += step.count / kNano + sum / kNano;
        stamp.nanoseconds = static_cast<std::int32_t>(sum % kNano);
        break;
      }
      case StepUnit::second:
        stamp.seconds += step.count;
        break;
      case StepUnit::day:
        stamp.seconds += step.count * kDay;
        break;
      case StepUnit::business_day:
        stamp.seconds =
            day_from_business_index(business_index(day_of(stamp)) + step.count) * kDay + second_of_day(stamp);
        break;
      case StepUnit::month: {
        const std::int64_t month = month_of(date_of(stamp)) + step.count;
        Civil date{floor_div(month, 12), static_cast<int>(month - floor_div(month, 12) * 12) + 1, 1};
        date.day = std::min(step.anchor_day, days_in_month(date.year, date.month));
        stamp.seconds = days_from_civil(date) * kDay + second_of_day(stamp);
        break;
      }
    }
    dates.push_back(stamp);
  }
  return dates;
}

}  // namespace samformer::model
