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

constexpr std::int64_t kWeek = 7 * kDay;
constexpr std::size_t most_slots = 10'080;  // minutes

// Anchors of months beyond their days: the first and the last of Monday to Friday; 40 + 7 n + w the n-th weekday w (n 4:
// the last one).
constexpr int first_business_day = 38, last_business_day = 39, nth_weekday = 40;

std::int64_t month_of(Civil date) { return date.year * 12 + date.month - 1; }

int anchored_day(std::int64_t year, int month, int anchor) {
  const int length = days_in_month(year, month);
  if (anchor < first_business_day) return std::min(anchor, length);
  const int first = weekday(days_from_civil({year, month, 1}));
  if (anchor == first_business_day) return first < 5 ? 1 : 8 - first;
  if (anchor == last_business_day) return length - std::max((first + length - 1) % 7 - 4, 0);
  const int day = 1 + (anchor - nth_weekday + 7 - first) % 7 + (anchor - nth_weekday) / 7 * 7;
  return day > length ? day - 7 : day;
}
bool on_anchor(Civil date, int anchor) { return date.day == anchored_day(date.year, date.month, anchor); }

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

// 31 where (nearly) every date is the last of its month, else the day that most dates share; a weekday of the month
// where that is only some of them.
int anchor_of(std::span<const Stamp> dates) {
  const auto nearly_all = [&](int anchor) {
    const auto on =
        std::count_if(dates.begin(), dates.end(), [&](const Stamp& s) { return on_anchor(date_of(s), anchor); });
    return static_cast<std::size_t>(on) * 10 >= dates.size() * 9;
  };
  if (nearly_all(31)) return 31;
  const auto [day, agree] = majority(dates.size(), [&](std::size_t i) { return date_of(dates[i]).day; });
  if (agree * 10 < dates.size() * 9 && dates.size() > 2) {
    const int w = nth_weekday + weekday(day_of(dates[0]));
    for (const int anchor : {first_business_day, last_business_day, w, w + 7, w + 14, w + 21, w + 28}) {
      if (nearly_all(anchor)) return anchor;
    }
  }
  if (agree * 2 > dates.size()) return static_cast<int>(day);
  int latest = 1;
  for (const Stamp& stamp : dates) latest = std::max(latest, date_of(stamp).day);
  return latest;
}

std::size_t count_steps(std::span<const Stamp> dates, const Step& step) {
  std::size_t agree = 0;
  for (std::size_t i = 0; i + 1 < dates.size(); ++i) agree += steps_between(dates[i], dates[i + 1], step) == 1 ? 1 : 0;
  return agree;
}

std::int32_t second_of_week(const Stamp& stamp) {
  return static_cast<std::int32_t>(floor_mod(stamp.seconds + 3 * kDay, kWeek));
}

// How many slots lie before this one; nothing where it is none.
std::optional<std::int64_t> slot_index(const Stamp& stamp, const Step& step) {
  const auto slot = std::lower_bound(step.slots.begin(), step.slots.end(), second_of_week(stamp));
  if (slot == step.slots.end() || *slot != second_of_week(stamp) || stamp.nanoseconds != 0) return std::nullopt;
  return floor_div(stamp.seconds + 3 * kDay, kWeek) * std::ssize(step.slots) + (slot - step.slots.begin());
}

// Times that occur in at least every second week, and twice.
Step slots_of(std::span<const Stamp> dates) {
  const std::int64_t weeks = (dates.back().seconds - dates.front().seconds) / kWeek;
  if (weeks < 2) return {};
  std::vector<std::int32_t> times;
  for (const Stamp& stamp : dates) times.push_back(second_of_week(stamp));
  std::sort(times.begin(), times.end());
  Step step{StepUnit::slot, 1};
  for (auto from = times.begin(); from != times.end();) {
    const auto to = std::upper_bound(from, times.end(), *from);
    if (to - from >= 2 && (to - from) * 2 >= weeks) step.slots.push_back(*from);
    from = to;
  }
  return step.slots.empty() || step.slots.size() > most_slots ? Step{} : step;
}

// Days with the same times of day; times in seconds.
struct SlotGroup {
  std::vector<int> days;
  std::vector<std::int32_t> times;

  // The step of evenly spaced times; 0: they are not.
  std::int32_t even() const {
    if (times.size() < 2) return 0;
    const std::int32_t step = times[1] - times[0];
    for (std::size_t i = 1; i < times.size(); ++i) {
      if (times[i] - times[i - 1] != step) return 0;
    }
    return step;
  }
};

std::vector<SlotGroup> groups_of(std::span<const std::int32_t> slots) {
  std::vector<SlotGroup> groups;
  for (int day = 0; day < 7; ++day) {
    std::vector<std::int32_t> times;
    for (const std::int32_t slot : slots) {
      if (slot / kDay == day) times.push_back(static_cast<std::int32_t>(slot % kDay));
    }
    if (times.empty()) continue;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const SlotGroup& g) { return g.times == times; });
    if (same != groups.end()) {
      same->days.push_back(day);
    } else {
      groups.push_back({{day}, times});
    }
  }
  return groups;
}

std::string clock_text(std::int32_t second) {
  const std::string minutes = fmt::format("{:02}:{:02}", second / 3600, second / 60 % 60);
  return second % 60 == 0 ? minutes : fmt::format("{}:{:02}", minutes, second % 60);
}

// "mon-fri,sun" and "Monday to Friday, Sunday"; runs of three days and more.
std::string days_text(std::span<const int> days, bool in_full) {
  std::string text;
  const auto name = [&](int day) {
    const std::string_view whole = kWeekdays[static_cast<std::size_t>(day)];
    return in_full ? std::string(whole) : std::string{static_cast<char>(std::tolower(whole[0])), whole[1], whole[2]};
  };
  for (std::size_t i = 0; i < days.size(); ++i) {
    std::size_t last = i;
    while (last + 1 < days.size() && days[last + 1] == days[last] + 1) ++last;
    if (last < i + 2) last = i;
    if (i > 0) text += in_full ? ", " : ",";
    text += name(days[i]);
    if (last > i) text += (in_full ? " to " : "-") + name(days[last]);
    i = last;
  }
  return text;
}

std::string slots_freq(const Step& step) {
  std::string text;
  for (const SlotGroup& group : groups_of(step.slots)) {
    text += (text.empty() ? "" : "+") + days_text(group.days, false) + "@";
    if (group.times.size() > 2 && group.even() > 0) {
      text += fmt::format("{}-{}/{}", clock_text(group.times.front()), clock_text(group.times.back()),
                          Step{StepUnit::second, group.even()}.freq());
      continue;
    }
    for (const std::int32_t time : group.times) text += (time == group.times[0] ? "" : ",") + clock_text(time);
  }
  return text;
}

std::string slots_name(const Step& step) {
  const std::vector<SlotGroup> groups = groups_of(step.slots);
  const auto all = [&](const auto& holds) { return std::all_of(groups.begin(), groups.end(), holds); };
  std::string text = fmt::format("{} rows a week", step.slots.size());
  if (all([](const SlotGroup& g) { return g.times.size() == 1; })) {
    text = "1 day";
  } else if (all([&](const SlotGroup& g) {
               return g.times.size() > 2 && g.even() > 0 && g.even() == groups[0].even();
             })) {
    text = Step{StepUnit::second, groups[0].even()}.name();
  }
  for (const SlotGroup& group : groups) {
    text += (&group == groups.data() ? ", " : "; ") + days_text(group.days, true);
    if (group.times == std::vector{0}) continue;
    text += ' ' + clock_text(group.times[0]);
    if (group.times.size() > 1) text += (group.times.size() > 2 ? " to " : " and ") + clock_text(group.times.back());
  }
  return text;
}

// DAYS[@TIMES][+..]: DAYS `mon-fri,sun`, TIMES `09:00,12:30` or `09:00-16:00/1h`. Nothing where the text is none.
std::optional<Step> parse_slots(std::string_view text, std::span<const Stamp> dates) {
  const auto take = [](std::string_view& rest, char end) {
    const std::string_view part = rest.substr(0, rest.find(end));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    return part;
  };
  const auto day_named = [](std::string_view name) {
    return static_cast<int>(std::find_if(kWeekdays.begin(), kWeekdays.end(),
                                         [&](std::string_view day) {
                                           return name.size() >= 3 && name.size() <= day.size() &&
                                                  std::equal(name.begin(), name.end(), day.begin(), [](char a, char b) {
                                                    return a == std::tolower(static_cast<unsigned char>(b));
                                                  });
                                         }) -
                            kWeekdays.begin());
  };
  const auto clock = [](std::string_view clock_time) {
    DateFormat format;
    Stamp stamp;
    return parse_stamp(fmt::format("1970-01-01 {}", clock_time), format, stamp) && stamp.seconds < kDay &&
                   stamp.nanoseconds == 0 && format.zone == Zone::none
               ? static_cast<std::int32_t>(stamp.seconds)
               : -1;
  };
  Step step{StepUnit::slot, 1};
  while (!text.empty()) {
    std::string_view times_text = take(text, '+'), days_list = take(times_text, '@');
    std::vector<std::int32_t> times;
    if (times_text.empty()) times.push_back(dates.empty() ? 0 : static_cast<std::int32_t>(second_of_day(dates[0])));
    while (!times_text.empty()) {
      std::string_view item = take(times_text, ',');
      const std::int32_t from = clock(take(item, '-'));
      const std::int32_t to = item.empty() ? from : clock(take(item, '/'));
      std::int32_t by = kDay;
      if (!item.empty()) {
        const Step run = parse_freq(item, {});
        if (run.unit != StepUnit::second || run.count > kDay) return std::nullopt;
        by = static_cast<std::int32_t>(run.count);
      } else if (to != from) {
        return std::nullopt;
      }
      if (from < 0 || to < from || (to - from) / by >= static_cast<std::int32_t>(most_slots)) return std::nullopt;
      for (std::int32_t time = from; time <= to; time += by) times.push_back(time);
      if (times.size() > most_slots) return std::nullopt;
    }
    while (!days_list.empty()) {
      std::string_view item = take(days_list, ',');
      const int from = day_named(take(item, '-'));
      const int to = item.empty() ? from : day_named(item);
      if (from == 7 || to == 7 || step.slots.size() > 7 * most_slots) return std::nullopt;
      for (int day = from; day <= (to < from ? to + 7 : to); ++day) {
        for (const std::int32_t time : times) step.slots.push_back(static_cast<std::int32_t>(day % 7 * kDay) + time);
      }
    }
  }
  std::sort(step.slots.begin(), step.slots.end());
  step.slots.erase(std::unique(step.slots.begin(), step.slots.end()), step.slots.end());
  return step.slots.empty() || step.slots.size() > most_slots ? std::nullopt : std::optional(step);
}

// Nanoseconds; of days their wall clock.
std::optional<std::int64_t> elapsed(const Stamp& a, const Stamp& b, bool wall = false) {
  const std::int64_t seconds = wall ? b.seconds - a.seconds : b.utc_seconds() - a.utc_seconds();
  if (std::abs(seconds) > 9'000'000'000) return std::nullopt;
  return seconds * kNano + b.nanoseconds - a.nanoseconds;
}

// Of a step whose rows may jitter; 0: they may not.
std::int64_t nanoseconds_of(const Step& step) {
  switch (step.unit) {
    case StepUnit::nanosecond:
      return step.count;
    case StepUnit::second:
      return step.count > 9'000'000'000 ? 0 : step.count * kNano;
    case StepUnit::day:
      return step.count > 100'000 ? 0 : step.count * kDay * kNano;
    default:
      return 0;
  }
}

Step step_of(std::int64_t nanoseconds) {
  if (nanoseconds % (kDay * kNano) == 0) return {StepUnit::day, nanoseconds / (kDay * kNano)};
  const bool whole = nanoseconds % kNano == 0;
  return {whole ? StepUnit::second : StepUnit::nanosecond, whole ? nanoseconds / kNano : nanoseconds};
}

// The round step nearest to the middle one of the differences.
Step round_step(std::span<const Stamp> dates) {
  std::vector<std::int64_t> differences;
  for (std::size_t i = 0; i + 1 < dates.size(); ++i) {
    differences.push_back(elapsed(dates[i], dates[i + 1]).value_or(0));
  }
  const auto middle = differences.begin() + std::ssize(differences) / 2;
  std::nth_element(differences.begin(), middle, differences.end());
  static constexpr std::array<std::int64_t, 32> milliseconds = {
      1,        2,        5,          10,         20,         50,         100,        200,
      250,      500,      1000,       2000,       5000,       10'000,     15'000,     20'000,
      30'000,   60'000,   120'000,    300'000,    600'000,    900'000,    1200'000,   1800'000,
      3600'000, 7200'000, 10'800'000, 14'400'000, 21'600'000, 28'800'000, 43'200'000, 86'400'000};
  std::int64_t nearest = 0;
  for (const std::int64_t round : milliseconds) {
    const std::int64_t length = round * (kNano / 1000);
    if (std::abs(length - *middle) < std::abs(nearest - *middle)) nearest = length;
  }
  return nearest > 0 ? step_of(nearest) : Step{};
}

// The first of the plain steps that `accepts`, where `most(difference)` is the value that most differences share.
template <class Accepts>
Step plain_step(std::span<const Stamp> dates, const Accepts& accepts) {
  const std::size_t pairs = dates.size() - 1;
  const auto most = [&](const auto& difference) {
    return majority(pairs, [&](std::size_t i) { return difference(dates[i], dates[i + 1]); }).first;
  };
  const std::int64_t months =
      most([](const Stamp& a, const Stamp& b) { return month_of(date_of(b)) - month_of(date_of(a)); });
  const Step monthly{StepUnit::month, months, months > 0 ? anchor_of(dates) : 1};
  // Four weeks are shown to be a month's weekday only by a fifth one.
  if (months > 0 && monthly.anchor_day < first_business_day && accepts(monthly)) return monthly;
  const std::int64_t seconds = most([](const Stamp& a, const Stamp& b) { return b.seconds - a.seconds; });
  if (seconds == kDay) {
    const Step business{StepUnit::business_day, 1};
    bool over_weekend = false;
    bool on_weekend = false;
    for (std::size_t i = 0; i < dates.size(); ++i) {
      on_weekend |= weekday(day_of(dates[i])) > 4;
      over_weekend |= i > 0 && day_of(dates[i]) - day_of(dates[i - 1]) == 3 && weekday(day_of(dates[i])) == 0;
    }
    if (over_weekend && !on_weekend && accepts(business)) return business;
  }
  if (seconds > 0 && seconds % kDay == 0) {
    const Step step{StepUnit::day, seconds / kDay};
    if (accepts(step)) return step;
  }
  const std::int64_t nanoseconds = most([](const Stamp& a, const Stamp& b) {
    if (std::abs(b.utc_seconds() - a.utc_seconds()) >= 1'000'000'000) return std::int64_t{-1};  // parse_freq's bound
    return elapsed(a, b).value_or(-1);
  });
  if (nanoseconds > 0) {
    const bool whole = nanoseconds % kNano == 0;
    const Step step{whole ? StepUnit::second : StepUnit::nanosecond, whole ? nanoseconds / kNano : nanoseconds};
    if (accepts(step)) return step;
  }
  return months > 0 && monthly.anchor_day >= first_business_day && accepts(monthly) ? monthly : Step{};
}

}  // namespace

std::string Step::name() const {
  const auto plural = [](std::int64_t n, const char* unit) {
    return fmt::format("{} {}{}", n, unit, n == 1 ? "" : "s");
  };
  const auto anchor_name = [this]() -> std::string {
    if (anchor_day == 1) return "start";
    if (anchor_day < 31) return fmt::format("day {}", anchor_day);
    if (anchor_day < first_business_day) return "end";
    if (anchor_day < nth_weekday) return anchor_day == first_business_day ? "first business day" : "last business day";
    static constexpr std::array<const char*, 5> ordinals = {"1st", "2nd", "3rd", "4th", "last"};
    const auto n = static_cast<std::size_t>(anchor_day - nth_weekday);
    return fmt::format("{} {}", ordinals[n / 7], kWeekdays[n % 7]);
  };
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
    case StepUnit::slot:
      return slots_name(*this);
    case StepUnit::month:
      break;
  }
  const std::string anchor = fmt::format(" ({})", anchor_name());
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
    case StepUnit::slot:
      return slots_freq(*this);
    case StepUnit::month:
      break;
  }
  if (count % 12 == 0) return fmt::format("{}y", count / 12);
  return count % 3 == 0 ? fmt::format("{}q", count / 3) : fmt::format("{}m", count);
}

int Step::season() const {
  const auto is = [this](StepUnit u, std::int64_t n) { return unit == u && count == n; };
  if (unit == StepUnit::slot) {
    const std::vector<SlotGroup> groups = groups_of(slots);
    const std::size_t a_day = groups[0].times.size();
    const bool alike =
        std::all_of(groups.begin(), groups.end(), [&](const auto& g) { return g.times.size() == a_day; });
    return static_cast<int>(alike && a_day > 1 ? a_day : slots.size());
  }
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
  if (!digit) {
    if (const auto slots = parse_slots(name, dates)) return *slots;
  }
  const auto* unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.name == name; });
  // 10^9 units, of nanoseconds as many as 10^9 seconds (31 years), keep every sum of a forecast inside 64 bits.
  const auto most = [](const Unit& u) {
    return (u.unit == StepUnit::nanosecond ? kNano : 1) * 1'000'000'000 / u.count;
  };
  if (unit == kUnits.end() || (digit && (status != std::errc() || count < 1)) || count > most(*unit)) {
    throw Error(Exit::usage, fmt::format("--freq '{}': expected a unit, or a number and a unit", text))
        .hint(
            "units are s, min, h, d, b (business day), w, m (month), q, y; for example 15min. Slots of a week: "
            "mon-sat, "
            "mon-fri@09:00-16:00/1h");
  }
  Step step{unit->unit, count * unit->count};
  if (step.unit == StepUnit::nanosecond && step.count % kNano == 0) step = {StepUnit::second, step.count / kNano};
  if (step.unit == StepUnit::second && step.count % kDay == 0) step = {StepUnit::day, step.count / kDay};
  if (step.unit == StepUnit::month && !dates.empty()) step.anchor_day = anchor_of(dates);
  return step;
}

bool agrees(std::span<const Stamp> dates, const Step& step) {
  return dates.size() > 1 && count_steps(dates, step) * 10 >= (dates.size() - 1) * 9;
}

bool jitters(std::span<const Stamp> dates, const Step& step) {
  const std::int64_t length = nanoseconds_of(step);
  if (length == 0 || dates.size() < 3 || agrees(dates, step)) return false;
  std::size_t near = 0;
  for (std::size_t i = 0; i + 1 < dates.size(); ++i) {
    const auto difference = elapsed(dates[i], dates[i + 1], step.unit == StepUnit::day);
    near += difference && std::abs(*difference - length) <= length / 20 ? 1 : 0;
  }
  return near * 10 >= (dates.size() - 1) * 9;
}

Step infer_step(std::span<const Stamp> dates) {
  if (dates.size() < 2) return {};
  std::size_t agree = 0;
  const Step plain = plain_step(dates, [&](const Step& step) {
    agree = count_steps(dates, step);
    return agree * 10 >= (dates.size() - 1) * 9;
  });
  if (plain.known() && agree + 1 == dates.size()) return plain;
  const Step slots = slots_of(dates);
  if (slots.known() && agrees(dates, slots) && (!plain.known() || count_steps(dates, slots) > agree)) return slots;
  if (plain.known()) return plain;
  const Step round = round_step(dates);
  return jitters(dates, round) ? round : Step{};
}

Step grid_of(std::span<const Stamp> dates) {
  if (dates.size() < 2) return {};
  const std::size_t pairs = dates.size() - 1;
  return plain_step(dates, [&](const Step& step) {
    std::size_t on_grid = 0;
    for (std::size_t i = 0; i < pairs; ++i) on_grid += steps_between(dates[i], dates[i + 1], step) >= 1 ? 1 : 0;
    return on_grid * 10 >= pairs * 9 && count_steps(dates, step) * 2 >= pairs;
  });
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
      const auto nanoseconds = elapsed(a, b);
      return nanoseconds ? whole(*nanoseconds) : std::nullopt;
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
    case StepUnit::slot: {
      const auto from = slot_index(a, step), to = slot_index(b, step);
      if (!from || !to) return std::nullopt;
      return *to - *from;
    }
    case StepUnit::month:
      break;
  }
  if (!same_time_of_day(a, b) || !on_anchor(date_of(a), step.anchor_day) || !on_anchor(date_of(b), step.anchor_day)) {
    return std::nullopt;
  }
  return whole(month_of(date_of(b)) - month_of(date_of(a)));
}

std::optional<std::int64_t> nearest_steps(const Stamp& a, const Stamp& b, const Step& step) {
  const std::int64_t length = nanoseconds_of(step);
  const auto difference = elapsed(a, b, step.unit == StepUnit::day);
  if (length == 0 || !difference) return std::nullopt;
  return floor_div(*difference + length / 2, length);
}

std::optional<std::int64_t> RowSteps::to(std::size_t t) {
  const auto steps = steps_between(dates_[t - 1], dates_[t], step_);
  if (steps == 1) return steps;
  if (!jitter_) jitter_ = jitters(dates_, step_);
  return *jitter_ ? nearest_steps(dates_[t - 1], dates_[t], step_) : steps;
}

std::vector<Stamp> continue_dates(const Stamp& last, const Step& step, std::int64_t count, const TimeZone* zone) {
  if (!step.known()) {
    throw Error(Exit::data, "the dates have no regular step (fewer than 90 % of their differences agree)")
        .hint("say the step with --freq, for example --freq 15min, h, d, b, w or m");
  }
  std::vector<Stamp> dates;
  dates.reserve(static_cast<std::size_t>(count));
  Stamp stamp = last;
  for (std::int64_t i = 1; i <= count; ++i) {
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
      case StepUnit::slot: {
        const std::int64_t second = second_of_week(stamp);
        const auto next = std::upper_bound(step.slots.begin(), step.slots.end(), second);
        stamp.seconds += next != step.slots.end() ? *next - second : step.slots[0] + kWeek - second;
        stamp.nanoseconds = 0;
        break;
      }
      case StepUnit::month: {
        const std::int64_t month = month_of(date_of(stamp)) + step.count;
        Civil date{floor_div(month, 12), static_cast<int>(month - floor_div(month, 12) * 12) + 1, 1};
        date.day = anchored_day(date.year, date.month, step.anchor_day);
        stamp.seconds = days_from_civil(date) * kDay + second_of_day(stamp);
        break;
      }
    }
    dates.push_back(stamp);
    if (zone == nullptr) continue;
    if (step.unit == StepUnit::nanosecond || step.unit == StepUnit::second) {
      zone->convert(stamp);
      dates.back() = stamp;
    } else if (zone->locate(dates.back()) == TimeZone::Hour::absent) {
      zone->locate_after(dates.back());
    }
  }
  return dates;
}

}  // namespace samformer::model
