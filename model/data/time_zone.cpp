#include "model/data/time_zone.h"

#include <date/tz.h>

#include <algorithm>
#include <array>
#include <exception>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "model/data/civil.h"

namespace samformer::model {
namespace {

std::int16_t minutes_of(const date::sys_info& info) {
  return static_cast<std::int16_t>(std::chrono::duration_cast<std::chrono::minutes>(info.offset).count());
}

// Whether the day is the n-th Sunday of the month, 0: the last one.
bool is_sunday(std::int64_t day, int month, int n) {
  const Civil date = civil_from_days(day);
  if (weekday(day) != 6 || date.month != month) return false;
  return n == 0 ? date.day + 7 > days_in_month(date.year, month) : (date.day + 6) / 7 == n;
}

}  // namespace

struct TimeZone::Rules {
  const date::time_zone* zone = nullptr;
  // Of the last answer: most rows have their neighbour's.
  std::int64_t from = 0, to = 0;
  std::int16_t offset_minutes = 0;
};

bool TimeZone::exists(const std::string& name) try {
  return !name.empty() && date::locate_zone(name) != nullptr;
} catch (const std::exception&) {
  return false;
}

TimeZone::TimeZone(const std::string& name) : rules_(std::make_unique<Rules>()) {
  const date::tzdb* database = nullptr;
  try {
    database = &date::get_tzdb();
  } catch (const std::exception& error) {
    throw Error(Exit::usage, fmt::format("--timezone: the system's time zones cannot be read: {}", error.what()))
        .hint("install the package tzdata");
  }
  std::vector<std::string> names;
  for (const date::time_zone& zone : database->zones) {
    if (zone.name() == name) rules_->zone = &zone;
    names.push_back(zone.name());
  }
  if (rules_->zone != nullptr) return;
  const std::string city = "/" + lower(name);
  const auto by_city =
      std::find_if(names.begin(), names.end(), [&](const auto& n) { return lower(n).ends_with(city); });
  throw Error(Exit::usage, fmt::format("--timezone: no zone is named '{}'", name))
      .hint(guess(by_city != names.end() ? *by_city : name, names,
                  "the names are those of the IANA time zone database: UTC, Europe/Berlin, America/New_York"));
}

TimeZone::~TimeZone() = default;

TimeZone::Hour TimeZone::locate(Stamp& wall) const {
  if (wall.seconds < rules_->from || wall.seconds >= rules_->to) {
    const auto info = rules_->zone->get_info(date::local_seconds{std::chrono::seconds{wall.seconds}});
    wall.offset_minutes = minutes_of(info.first);
    if (info.result == date::local_info::ambiguous) return Hour::repeated;
    if (info.result == date::local_info::nonexistent) return Hour::absent;
    // A day away from either change no hour is absent or repeated.
    rules_->offset_minutes = wall.offset_minutes;
    rules_->from = info.first.begin.time_since_epoch().count() + 2 * kDay;
    rules_->to = info.first.end.time_since_epoch().count() - 2 * kDay;
    return Hour::unique;
  }
  wall.offset_minutes = rules_->offset_minutes;
  return Hour::unique;
}

void TimeZone::locate_after(Stamp& wall) const {
  const auto info = rules_->zone->get_info(date::local_seconds{std::chrono::seconds{wall.seconds}});
  wall.offset_minutes = minutes_of(info.result == date::local_info::unique ? info.first : info.second);
  if (info.result == date::local_info::nonexistent) wall.seconds += (info.second.offset - info.first.offset).count();
}

void TimeZone::convert(Stamp& stamp) const {
  const std::int64_t utc = stamp.utc_seconds();
  stamp.offset_minutes = minutes_of(rules_->zone->get_info(date::sys_seconds{std::chrono::seconds{utc}}));
  stamp.seconds = utc + 60 * stamp.offset_minutes;
}

std::string zone_of_change(const Stamp& before, const Stamp& after) {
  struct Change {
    const char* zone;
    int month, sunday, hour;  // that is absent or repeated
    bool absent;
  };
  static constexpr std::array<Change, 8> changes = {{{"Europe/Berlin", 3, 0, 2, true},
                                                     {"Europe/London", 3, 0, 1, true},
                                                     {"Europe/Athens", 3, 0, 3, true},
                                                     {"America/New_York", 3, 2, 2, true},
                                                     {"Europe/Berlin", 10, 0, 2, false},
                                                     {"Europe/London", 10, 0, 1, false},
                                                     {"Europe/Athens", 10, 0, 3, false},
                                                     {"America/New_York", 11, 1, 1, false}}};
  const std::int64_t day = day_of(after), from = second_of_day(before) / 3600, to = second_of_day(after) / 3600;
  if (day_of(before) != day) return "";
  for (const Change& change : changes) {
    const bool hours = change.absent ? from == change.hour - 1 && to == change.hour + 1
                                     : from == change.hour && to == change.hour && compare(before, after) >= 0;
    if (hours && is_sunday(day, change.month, change.sunday)) return change.zone;
  }
  return "";
}

}  // namespace samformer::model
