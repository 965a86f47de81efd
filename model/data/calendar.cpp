#include "model/data/calendar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "core/error.h"
#include "model/data/civil.h"

namespace samformer::model {
namespace {

std::int64_t month_of(Civil date) { return date.year * 12 + date.month - 1; }
bool on_anchor(Civil date, int anchor) { return date.day == std::min(anchor, days_in_month(date.year, date.month)); }

// Counts Mondays to Fridays; a weekend counts as its Friday, so that the step after it is Monday.
std::int64_t business_index(std::int64_t day) { return floor_div(day + 3, 7) * 5 + std::min(weekday(day), 4); }
std::int64_t day_from_business_index(std::int64_t index) {
  const std::int64_t week = floor_div(index, 5);
  return week * 7 - 3 + (index - week * 5);
}

bool same_time_of_day(const Stamp& a, const Stamp& b) {
  return second_of_day(a) == second_of_day(b) && a.nanoseconds == b.nanoseconds;
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

bool agrees(std::span<const Stamp> dates, const Step& step) {
  std::size_t agree = 0;
  for (std::size_t i = 0; i + 1 < dates.size(); ++i) agree += steps_between(dates[i], dates[i + 1], step) == 1 ? 1 : 0;
  return agree * 10 >= (dates.size() - 1) * 9;
}

}  // namespace

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
