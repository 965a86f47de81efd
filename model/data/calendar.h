// Time steps: what lies between the rows of a series, found in their dates, and the dates that follow.
// Steps shorter than a day are elapsed time (an offset change is no gap); days and longer, and the slots of a week (office
// hours, Monday to Saturday), go by the wall clock.
// Errors: Exit::usage for a bad --freq, Exit::data where a forecast needs a step and none was found.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/data/date_format.h"
#include "model/data/time_zone.h"

namespace samformer::model {

enum class StepUnit : std::uint8_t { none, nanosecond, second, day, business_day, slot, month };

struct Step {
  StepUnit unit = StepUnit::none;
  std::int64_t count = 0;
  // Months only: the day of the month; later than the month's last day means that last day. Beyond 31 a weekday: see
  // calendar.cpp.
  int anchor_day = 1;
  // Slots only: the times of the week that have a row, in seconds from Monday 00:00 on, rising.
  std::vector<std::int32_t> slots = {};

  bool known() const { return unit != StepUnit::none; }
  // "1 hour", "1 month (end)", "1 month (3rd Friday)", "1 hour, Monday to Friday 09:00 to 16:00"; "unknown"
  std::string name() const;
  // As --freq reads it: "1h", "15min", "1m", "mon-fri@09:00-16:00/1h+sat@09:00,12:00"; empty where unknown.
  std::string freq() const;
  // 15 min 96, hour 24, day 7, business day 5, week 52, month 12, quarter 4; slots: those of a day, or of the week where
  // days have one or differ; else 0.
  int season() const;
  bool operator==(const Step&) const = default;
};

// [N]unit, capitals ignored: s, min or t, h, d, b, w, m, q, y; or the slots of a week, DAYS[@TIMES][+DAYS@TIMES..]. The
// anchor of months and the time of day of DAYS alone come from the dates.
Step parse_freq(std::string_view text, std::span<const Stamp> dates);
// Month, quarter, year (start, end, clamped day, weekday) or business day, else the most frequent difference, else the
// slots of a week that two weeks show, else the round step that all differences lie within 5 % of; 90 % of the
// differences must agree. Without that, or with fewer than two dates, the step is unknown.
Step infer_step(std::span<const Stamp> dates);
// Of dates without a step: one that half of the differences agree with and nearly all others are multiples of.
Step grid_of(std::span<const Stamp> dates);
// Whether 90 % of the differences are one step.
bool agrees(std::span<const Stamp> dates, const Step& step);
// Whether the differences only lie within 5 % of the step, as of a sensor without a good clock.
bool jitters(std::span<const Stamp> dates, const Step& step);

// Steps from a to b: 0 at the same time, negative backwards, nothing where b is not on a's grid.
std::optional<std::int64_t> steps_between(const Stamp& a, const Stamp& b, const Step& step);
// The same to the nearest step, of dates that jitter.
std::optional<std::int64_t> nearest_steps(const Stamp& a, const Stamp& b, const Step& step);
// Steps between neighbouring rows: steps_between(), or nearest_steps() where the dates jitter. Both arguments outlive it.
class RowSteps {
 public:
  RowSteps(std::span<const Stamp> dates, const Step& step) : dates_(dates), step_(step) {}
  // From row t - 1 to row t; nothing off the grid.
  std::optional<std::int64_t> to(std::size_t t);

 private:
  std::span<const Stamp> dates_;
  const Step& step_;
  std::optional<bool> jitter_;  // asked for where a row is off the grid
};

// The `count` stamps after `last`. Offsets are kept, or those of the zone; a wall clock that the zone does not have moves
// on. An unknown step throws Exit::data naming --freq.
std::vector<Stamp> continue_dates(const Stamp& last, const Step& step, std::int64_t count,
                                  const TimeZone* zone = nullptr);

}  // namespace samformer::model
