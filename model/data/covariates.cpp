#include "model/data/covariates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <sstream>

#include "core/text.h"
#include "model/data/civil.h"
#include "model/data/readers.h"

namespace samformer::model {
namespace {

constexpr std::int64_t harmonics = 4;

// The two sides of "item_*=promo_*".
struct Pair {
  std::string target, column;
};
Pair pair_of(const std::string& text) {
  const std::size_t at = text.find('=');
  const auto stars = [](std::string_view side) { return std::ranges::count(side, '*'); };
  if (at == std::string::npos || stars(text.substr(0, at)) != 1 || stars(text.substr(at + 1)) != 1) {
    throw Error(Exit::usage, fmt::format("--future-for: '{}' is no pair of names with a * each", text))
        .hint("like --future-for 'item_*=promo_*'");
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

// What the star of `pattern` stands for in `name`.
std::optional<std::string> star_of(std::string_view pattern, std::string_view name) {
  const std::size_t star = pattern.find('*');
  const std::string_view head = pattern.substr(0, star), tail = pattern.substr(star + 1);
  if (name.size() < head.size() + tail.size() || !name.starts_with(head) || !name.ends_with(tail)) return std::nullopt;
  return std::string(name.substr(head.size(), name.size() - head.size() - tail.size()));
}

std::string with_star(std::string pattern, const std::string& text) {
  return pattern.replace(pattern.find('*'), 1, text);
}

// The own column of each channel that has one, in the channels' order.
struct Own {
  std::string channel, column;
};
std::vector<Own> own_columns(const CovariateOptions& options, std::span<const std::string> channels) {
  std::vector<Own> all;
  for (const std::string& text : options.future_for) {
    const Pair pair = pair_of(text);
    const std::size_t before = all.size();
    for (const std::string& channel : channels) {
      const auto star = star_of(pair.target, channel);
      if (!star || is_known_ahead(options.columns(), channel)) continue;
      if (std::ranges::find(all, channel, &Own::channel) != all.end()) {
        throw Error(Exit::usage, fmt::format("--future-for gives '{}' two columns", channel));
      }
      all.push_back({channel, with_star(pair.column, *star)});
    }
    if (all.size() == before) {
      throw Error(Exit::usage, fmt::format("--future-for '{}': no channel is named so", text));
    }
  }
  return all;
}

bool by_day(const Step& step) {
  return step.unit != StepUnit::month && !(step.unit == StepUnit::day && step.count >= 7);
}

// The first day of the step `steps` after that of `day`.
std::int64_t step_from(std::int64_t day, const Step& step, std::int64_t steps) {
  if (by_day(step)) return day + steps;
  if (step.unit == StepUnit::day) return day + steps * step.count;
  Civil civil = civil_from_days(day);
  const std::int64_t months = civil.year * 12 + civil.month - 1 + steps * step.count;
  return days_from_civil({floor_div(months, 12), static_cast<int>(floor_mod(months, 12)) + 1, 1});
}

std::int64_t terms_of(std::string_view term) {
  return term == "hour" ? 24 : term == "dow" ? 7 : term == "month" ? 12 : term == "doy" ? 2 * harmonics : 3;
}

// Feature `f` of a term of the calendar.
double calendar_feature(const Basis& basis, std::string_view term, std::int64_t f, const Stamp& date,
                        const Step& step) {
  const std::int64_t day = day_of(date);
  if (term == "hour") return second_of_day(date) / 3600 == f ? 1 : 0;
  if (term == "dow") return weekday(day) == f ? 1 : 0;
  if (term == "month") return date_of(date).month == f + 1 ? 1 : 0;
  if (term == "doy") {
    const double turn = 2 * std::numbers::pi * static_cast<double>((f / 2 + 1) * (day_of_year(day) - 1)) / 365.25;
    return f % 2 == 0 ? std::sin(turn) : std::cos(turn);
  }
  // f 0: the one after this step is one, 1: this, 2: the one before.
  const std::int64_t first = step_from(day, step, 1 - f), last = step_from(day, step, 2 - f);
  const auto found = std::ranges::lower_bound(basis.holidays, first);
  return found != basis.holidays.end() && *found < last ? 1 : 0;
}

std::vector<std::int64_t> read_holidays(const std::string& path) {
  std::vector<std::int64_t> days;
  std::istringstream text(read_bytes(path));
  std::string line;
  for (std::int64_t number = 1; std::getline(text, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::string cell = line.substr(0, line.find(','));
    std::erase(cell, '"');
    DateFormat format;
    Stamp date;
    if (parse_stamp(cell, format, date)) {
      days.push_back(day_of(date));
    } else if (number > 1 && !line.empty()) {
      throw Error(Exit::data, fmt::format("'{}' is no date", cell))
          .at(path, number)
          .hint("a list of holidays has a line for each, like 2024-12-25,Christmas Day");
    }
  }
  if (days.empty()) {
    throw Error(Exit::data, "the list of holidays has none").at(path).hint("a line for each, like 2024-12-25");
  }
  std::ranges::sort(days);
  return days;
}

Basis::Column fit_column(const std::string& name, std::vector<double> values, std::int64_t knots) {
  Basis::Column column{name, {}};
  std::ranges::sort(values);
  const auto n = static_cast<double>(values.size());
  for (const double x : values) column.mean += x / n;
  double squares = 0;
  for (const double x : values) squares += (x - column.mean) * (x - column.mean) / n;
  if (values.front() < values.back()) column.deviation = std::sqrt(squares);
  for (std::int64_t k = 0; knots > 0 && k <= knots + 1; ++k) {
    const auto last = static_cast<std::int64_t>(values.size()) - 1;
    const double node = values[static_cast<std::size_t>(last * k / (knots + 1))];
    if (column.nodes.empty() || node > column.nodes.back()) column.nodes.push_back(node);
  }
  return column;
}

}  // namespace

std::vector<std::string> CovariateOptions::columns() const {
  std::vector<std::string> all = future;
  for (const std::string& text : future_for) all.push_back(pair_of(text).column);
  return all;
}

void take_known(Series& series, const CovariateOptions& options) {
  const std::vector<std::string> patterns = options.columns();
  if (patterns.empty()) return;
  std::vector<std::string> names = options.future;
  for (const Own& own : own_columns(options, series.channels)) {
    if (std::ranges::find(names, own.column) == names.end()) names.push_back(own.column);
  }
  Series::Known known{names, series.dates, series.lines, series.rows, {}};
  for (const std::string& name : names) {
    const auto found = std::ranges::find(series.channels, name);
    if (found == series.channels.end()) {
      throw Error(Exit::usage, fmt::format("there is no column '{}', which is to be known ahead", name))
          .at(series.path)
          .hint(guess(name, series.channels));
    }
    const auto values = series.channel(found - series.channels.begin());
    known.values.insert(known.values.end(), values.begin(), values.end());
  }
  std::vector<std::string> channels;
  std::vector<std::size_t> columns;
  std::vector<double> values;
  for (std::size_t d = 0; d < series.channels.size(); ++d) {
    if (is_known_ahead(patterns, series.channels[d])) continue;
    channels.push_back(series.channels[d]);
    if (!series.value_columns.empty()) columns.push_back(series.value_columns[d]);
    const auto of = series.channel(static_cast<std::int64_t>(d));
    values.insert(values.end(), of.begin(), of.end());
  }
  if (channels.empty()) {
    throw Error(Exit::usage, "all columns are known ahead: there is nothing to forecast").at(series.path);
  }
  series.channels = std::move(channels), series.value_columns = std::move(columns), series.values = std::move(values);
  series.known = std::move(known);
  // The rows ahead.
  std::int64_t rows = series.rows;
  const auto absent = [&](std::int64_t t) {
    for (std::int64_t d = 0; d < series.width(); ++d) {
      if (!std::isnan(series.channel(d)[static_cast<std::size_t>(t)])) return false;
    }
    return true;
  };
  while (rows > 0 && absent(rows - 1)) --rows;
  if (rows == series.rows) return;
  values.clear();
  for (std::int64_t d = 0; d < series.width(); ++d) {
    const auto of = series.channel(d).first(static_cast<std::size_t>(rows));
    values.insert(values.end(), of.begin(), of.end());
  }
  series.values = std::move(values), series.rows = rows;
  if (!series.dates.empty()) series.dates.resize(static_cast<std::size_t>(rows));
  if (!series.lines.empty()) series.lines.resize(static_cast<std::size_t>(rows));
  std::erase_if(series.holes, [&](const Hole& hole) { return hole.row >= rows; });
}

double Basis::Column::feature(std::int64_t f, double x) const {
  if (nodes.size() < 2) return (x - mean) / deviation;
  // Hat f + 1, of the segment that x is in or beyond.
  const auto inner = std::ranges::upper_bound(nodes.begin() + 1, nodes.end() - 1, x);
  const auto right = static_cast<std::size_t>(inner - nodes.begin()), node = static_cast<std::size_t>(f) + 1;
  const double share = (x - nodes[right - 1]) / (nodes[right] - nodes[right - 1]);
  return node == right ? share : node + 1 == right ? 1 - share : 0;
}

std::int64_t Basis::shared_features() const {
  std::int64_t count = 0;
  for (const Column& column : shared) count += column.features();
  for (const std::string& term : calendar) count += terms_of(term);
  return count;
}

std::vector<std::string> Basis::names() const {
  std::vector<std::string> all;
  for (const Column& column : shared) all.push_back(column.name);
  for (const Column& column : own) all.push_back(column.name);
  return all;
}

void Basis::append(std::vector<float>& to, std::span<const double> values, std::span<const Stamp> dates,
                   std::int64_t rows, const Step& step) const {
  const auto row = [&](const Column& column, std::size_t place, std::int64_t f) {
    for (std::int64_t t = 0; t < rows; ++t) {
      to.push_back(static_cast<float>(
          column.feature(f, values[place * static_cast<std::size_t>(rows) + static_cast<std::size_t>(t)])));
    }
  };
  to.reserve(to.size() + static_cast<std::size_t>((shared_features() + own_features * std::ssize(own_of)) * rows));
  for (std::size_t c = 0; c < shared.size(); ++c) {
    for (std::int64_t f = 0; f < shared[c].features(); ++f) row(shared[c], c, f);
  }
  for (const std::string& term : calendar) {
    for (std::int64_t f = 0; f < terms_of(term); ++f) {
      for (const Stamp& date : dates) to.push_back(static_cast<float>(calendar_feature(*this, term, f, date, step)));
    }
  }
  for (const std::int64_t place : own_of) {
    for (std::int64_t f = 0; f < own_features; ++f) {
      if (place >= 0 && f < own[static_cast<std::size_t>(place)].features()) {
        row(own[static_cast<std::size_t>(place)], shared.size() + static_cast<std::size_t>(place), f);
      } else {
        to.insert(to.end(), static_cast<std::size_t>(rows), 0.0F);
      }
    }
  }
}

void read_calendar(Basis& basis, const std::vector<std::string>& terms, const Series& series) {
  constexpr std::string_view file = "holidays:";
  if (!terms.empty() && series.dates.empty()) {
    throw Error(Exit::usage, "--calendar: the rows have no dates").at(series.path);
  }
  for (const std::string& term : terms) {
    const std::string name = term.starts_with(file) ? "holidays" : term;
    if (std::ranges::find(basis.calendar, name) != basis.calendar.end()) {
      throw Error(Exit::usage, fmt::format("--calendar names '{}' twice", name));
    }
    const Step& step = series.step;
    const bool too_long =
        (name == "hour" &&
         (step.unit == StepUnit::day || step.unit == StepUnit::business_day || step.unit == StepUnit::month)) ||
        (name == "dow" && !by_day(step)) || (step.unit == StepUnit::month && step.count >= 12 && name != "holidays");
    if (too_long) {
      throw Error(Exit::usage, fmt::format("--calendar {}: in steps of {} it says nothing", name, step.name()));
    }
    if (name == "holidays") {
      basis.holidays = read_holidays(term.substr(file.size()));
    } else if (name != "hour" && name != "dow" && name != "month" && name != "doy") {
      throw Error(Exit::usage, fmt::format("--calendar: '{}' is none of hour, dow, month, doy, holidays:FILE", term));
    }
    basis.calendar.push_back(name);
  }
}

Basis fit_basis(const CovariateOptions& options, const Series& series, Span train) {
  Basis basis;
  read_calendar(basis, options.calendar, series);
  const auto fit = [&](const std::string& name) {
    const auto place = std::ranges::find(series.known.names, name) - series.known.names.begin();
    const double* from = series.known.values.data() + place * series.known.rows;
    return fit_column(name, {from + train.first, from + train.last}, options.knots);
  };
  for (const std::string& name : options.future) basis.shared.push_back(fit(name));
  const std::vector<Own> all = own_columns(options, series.channels);
  if (all.empty()) return basis;
  for (const std::string& channel : series.channels) {
    const auto found = std::ranges::find(all, channel, &Own::channel);
    basis.own_of.push_back(found == all.end() ? -1 : std::ssize(basis.own));
    if (found == all.end()) continue;
    basis.own.push_back(fit(found->column));
    basis.own_features = std::max(basis.own_features, basis.own.back().features());
  }
  return basis;
}

}  // namespace samformer::model
