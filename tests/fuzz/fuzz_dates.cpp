// Dates, patterns of dates and steps. The input: a pattern of --date-format (empty: found), a --freq, then dates, one a
// line.
#include "model/data/calendar.h"
#include "tests/fuzz/fuzz.h"

namespace samformer::model {
namespace {

// `step` from date to date, forwards from `last`.
void go_on(const Stamp& last, const Step& step) {
  Stamp before = last;
  std::int64_t steps = 0;
  const bool on_grid = steps_between(last, last, step) == 0;
  for (const Stamp& next : continue_dates(last, step, 3)) {
    fuzz::require(compare(before, next) < 0, "forecast dates rise");
    fuzz::require(!on_grid || steps_between(last, next, step) == ++steps, "forecast dates are a step apart");
    before = next;
  }
}

void read(std::string_view text) {
  DateFormat format;
  format.pattern = fuzz::take_line(text);
  format.digits = Digits::years;
  const std::string freq = fuzz::take_line(text);
  if (!format.pattern.empty()) check_date_pattern(format.pattern);
  std::vector<Stamp> dates;
  while (!text.empty()) {
    const std::string line = fuzz::take_line(text);
    Stamp stamp, again;
    DateFormat own;
    own.digits = Digits::years;
    if (format.pattern.empty() && parse_stamp(line, own, stamp)) {
      fuzz::require(parse_stamp(format_stamp(stamp, own), own, again) && again == stamp, "a date is read as written");
    }
    if (!parse_stamp(line, format, stamp)) continue;
    format_stamp(stamp, format);
    dates.push_back(stamp);
  }
  const Step found = infer_step(dates);
  if (found.known()) {
    go_on(dates.back(), found);
    found.name();
    found.season();
    // Elapsed days are not days of the wall clock: 24h is read as a day.
    const bool elapsed_days = found.unit == StepUnit::second && found.count % 86400 == 0;
    fuzz::require(elapsed_days || parse_freq(found.freq(), dates) == found, "a step is read as written");
  }
  const Step asked = parse_freq(freq, dates);
  if (!dates.empty()) go_on(dates.back(), asked);
}

}  // namespace
}  // namespace samformer::model

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  samformer::fuzz::result_or_refusal([&] { samformer::model::read(samformer::fuzz::text_of(data, size)); });
  return 0;
}
