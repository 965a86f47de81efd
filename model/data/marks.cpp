#include "model/data/marks.h"

#include <algorithm>

#include "model/data/civil.h"

namespace samformer::model {
namespace {

// A day's place in its calendar, its time in seconds.
struct Moment {
  std::int64_t day, time;
  Civil civil;
};
struct Mark {
  const char* name;
  double (*of)(const Moment&);
};

double second(const Moment& m) { return static_cast<double>(m.time % 60) / 59; }
double minute(const Moment& m) { return static_cast<double>(m.time / 60 % 60) / 59; }
double hour(const Moment& m) { return static_cast<double>(m.time / 3600) / 23; }
double day_of_week(const Moment& m) { return static_cast<double>(weekday(m.day)) / 6; }
double day_of_month(const Moment& m) { return static_cast<double>(m.civil.day - 1) / 30; }
double day_in_year(const Moment& m) { return static_cast<double>(day_of_year(m.day) - 1) / 365; }
// The week that has the year's first Thursday is its first: that of a day is the one of its own Thursday.
double iso_week(const Moment& m) { return static_cast<double>((day_of_year(m.day - weekday(m.day) + 3) - 1) / 7) / 52; }
double month(const Moment& m) { return static_cast<double>(m.civil.month - 1) / 11; }

constexpr Mark of_time[] = {{"second", second},
                            {"minute", minute},
                            {"hour", hour},
                            {"weekday", day_of_week},
                            {"day of month", day_of_month},
                            {"day of year", day_in_year}};
constexpr Mark of_week[] = {{"day of month", day_of_month}, {"week", iso_week}};
constexpr Mark of_month[] = {{"month", month}};

std::span<const Mark> marks_of(const Step& step) {
  const std::span<const Mark> time = of_time;
  switch (step.unit) {
    case StepUnit::none:
      break;
    case StepUnit::nanosecond:
      return time;
    case StepUnit::second:
      return time.subspan(step.count < 60 ? 0 : step.count < 3600 ? 1 : 2);
    case StepUnit::slot:
      return time.subspan(std::ranges::all_of(step.slots, [](int s) { return s % 3600 == 0; }) ? 2 : 1);
    case StepUnit::day:
      return step.count % 7 == 0 ? std::span<const Mark>(of_week) : time.subspan(3);
    case StepUnit::business_day:
      return time.subspan(3);
    case StepUnit::month:
      if (step.count < 12) return of_month;
  }
  return {};
}

}  // namespace

std::int64_t mark_count(const Step& step) { return std::ssize(marks_of(step)); }

std::vector<std::string> mark_names(const Step& step) {
  std::vector<std::string> names;
  for (const Mark& mark : marks_of(step)) names.emplace_back(mark.name);
  return names;
}

std::vector<double> time_marks(std::span<const Stamp> dates, const Step& step) {
  std::vector<double> all;
  for (const Mark& mark : marks_of(step)) {
    for (const Stamp& date : dates) {
      const std::int64_t day = floor_div(date.seconds, kDay);
      all.push_back(mark.of({day, date.seconds - day * kDay, civil_from_days(day)}) - 0.5);
    }
  }
  return all;
}

void MarkedValues::add(const Basis& basis, std::span<const double> of_columns, std::span<const Stamp> dates,
                       const Step& step) {
  known = {D + marks, basis.shared_features(), basis.own_features};
  basis.append(values, of_columns, dates, rows, step);
}

MarkedValues marked_values(const Series& series, const Scaler& scaler) {
  return marked_values(series, scaler, {0, series.rows}, {});
}

MarkedValues marked_values(const Series& series, const Scaler& scaler, Span known, std::span<const Stamp> ahead) {
  MarkedValues all;
  all.rows = known.size() + std::ssize(ahead), all.D = series.width();
  all.values = standardise(series, scaler, known, std::ssize(ahead));
  if (series.dates.empty()) return all;
  all.marks = mark_count(series.step);
  std::vector<Stamp> dates(series.dates.begin() + known.first, series.dates.begin() + known.last);
  dates.insert(dates.end(), ahead.begin(), ahead.end());
  const std::vector<double> marks = time_marks(dates, series.step);
  all.values.insert(all.values.end(), marks.begin(), marks.end());
  return all;
}

}  // namespace samformer::model
