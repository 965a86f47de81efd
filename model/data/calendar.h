// Time steps: what lies between the rows of a series, found in their dates, and the dates that follow.
// Steps shorter than a day are elapsed time (an offset change is no gap); days and longer go by the wall clock.
// Errors: Exit::usage for a bad --freq, Exit::data where a forecast needs a step and none was found.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/data/date_format.h"

namespace samformer::model {

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

// Steps from a to b: 0 at the same time, negative backwards, nothing where b is not on a's grid.
std::optional<std::int64_t> steps_between(const Stamp& a, const Stamp& b, const Step& step);
// The `count` stamps after `last`; offsets are kept. An unknown step throws Exit::data naming --freq.
std::vector<Stamp> continue_dates(const Stamp& last, const Step& step, std::int64_t count);

}  // namespace samformer::model
