#include "model/data/long_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <unordered_map>

#include "core/text.h"

namespace samformer::model {
namespace {

std::span<const Stamp> dates_of(const Series& series, Span rows) {
  return std::span(series.dates).subspan(static_cast<std::size_t>(rows.first), static_cast<std::size_t>(rows.size()));
}

std::optional<std::int64_t> whole_number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The numbers of the ids in order.
std::vector<std::int32_t> order_of(const std::vector<std::string>& ids) {
  std::vector<std::int32_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::int64_t> numbers;
  for (const std::string& id : ids) {
    const auto number = whole_number(id);
    if (!number) break;
    numbers.push_back(*number);
  }
  const bool whole = numbers.size() == ids.size();
  std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    return whole && numbers[i] != numbers[j] ? numbers[i] < numbers[j] : ids[i] < ids[j];
  });
  return order;
}

// The ids that `options` keep, in their order.
std::vector<std::int32_t> kept(const Series& series, const LongRows& rows, const SeriesOptions& options) {
  std::vector<std::int32_t> order = order_of(rows.ids);
  if (options.columns.empty()) return order;
  std::unordered_map<std::string_view, std::int32_t> known;
  for (std::size_t i = 0; i < rows.ids.size(); ++i) known.emplace(rows.ids[i], static_cast<std::int32_t>(i));
  std::vector<std::int32_t> chosen;
  std::vector<std::string> absent;
  for (const std::string& name : join_known(options.columns, rows.ids)) {
    const auto found = known.find(name);
    if (found == known.end()) {
      absent.push_back(name);
    } else if (std::ranges::find(chosen, found->second) != chosen.end()) {
      throw Error(Exit::usage, fmt::format("--columns names '{}' twice", name));
    } else {
      chosen.push_back(found->second);
    }
  }
  if (!absent.empty() && options.columns_of_model) {
    throw Error(Exit::data, fmt::format("{} of the run's {} series {} absent, the first is '{}'", absent.size(),
                                        options.columns.size(), absent.size() == 1 ? "is" : "are", absent[0]))
        .at(series.path)
        .hint(fmt::format("give rows of every series that the model was trained on, by {}; to forecast any number of "
                          "series, train with --panel global",
                          series.long_form.id));
  }
  if (!absent.empty()) {
    throw Error(Exit::usage, fmt::format("--columns: no series is named '{}'", absent[0]))
        .at(series.path)
        .hint(guess(absent[0], rows.ids));
  }
  if (options.panel != PanelForm::global) return chosen;
  std::erase_if(order, [&](std::int32_t id) { return std::ranges::find(chosen, id) == chosen.end(); });
  return order;
}

template <class T>
std::vector<T> picked(const std::vector<T>& values, std::span<const std::int64_t> rows) {
  std::vector<T> some;
  some.reserve(rows.size());
  for (const std::int64_t row : rows) some.push_back(values[static_cast<std::size_t>(row)]);
  return some;
}

void add(Series& series, Severity severity, const char* kind, std::int64_t line, std::int64_t column,
         std::int64_t count, std::string message, std::string hint) {
  if (count == 0) return;
  if (count > 1) message += fmt::format(" (and {} more)", count - 1);
  series.findings.push_back({severity, kind, series.path, line, column, count, std::move(message), std::move(hint)});
}

// What is counted, and the first of it.
struct First {
  std::int64_t count = 0, row = 0;
  std::string text;

  template <class Text>
  void add(std::int64_t at, const Text& of) {
    if (count++ > 0) return;
    row = at;
    text = of();
  }
};

// Why the series have not all the same dates: the first of them that has not, and where.
std::optional<First> difference(const Series& series) {
  const Series::Member& first = series.panel[0];
  for (const Series::Member& member : series.panel) {
    for (std::int64_t t = 0; t < std::max(member.rows.size(), first.rows.size()); ++t) {
      const std::int64_t a = first.rows.first + t, b = member.rows.first + t;
      if (t < first.rows.size() && t < member.rows.size()) {
        const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
        if (compare(series.dates[i], series.dates[j]) == 0) continue;
      }
      const bool lacks =
          t >= member.rows.size() || (t < first.rows.size() && compare(series.dates[static_cast<std::size_t>(a)],
                                                                       series.dates[static_cast<std::size_t>(b)]) < 0);
      First found;
      found.add(lacks ? member.rows.last - 1 : b, [&] {
        return fmt::format("'{}' has {} row of {}, '{}' has {}", member.id, lacks ? "no" : "a",
                           series.date(lacks ? a : b), first.id, lacks ? "one" : "none");
      });
      return found;
    }
  }
  return std::nullopt;
}

// The step of the longest series, or what --freq says.
Step step_of(const Series& series, const SeriesOptions& options) {
  const auto longest =
      std::ranges::max_element(series.panel, {}, [](const Series::Member& m) { return m.rows.size(); });
  const auto dates = dates_of(series, longest->rows);
  return options.freq.empty() ? infer_step(dates) : parse_freq(options.freq, dates);
}

// Steps of the series of a global panel.
void report_steps(Series& series, const LongRows& rows) {
  First mixed, gap, irregular;
  std::int64_t absent = 0;
  for (const Series::Member& member : series.panel) {
    const auto dates = dates_of(series, member.rows);
    if (dates.size() < 2 || !series.step.known()) continue;
    if (dates.size() > 2 && !agrees(dates, series.step) && !jitters(dates, series.step)) {
      if (const Step own = infer_step(dates); own.known() && own != series.step) {
        mixed.add(member.rows.first + 1, [&] {
          return fmt::format("'{}' has steps of {}, the longest series has {}", member.id, own.name(),
                             series.step.name());
        });
        continue;
      }
    }
    RowSteps steps(dates, series.step);
    for (std::size_t t = 1; t < dates.size(); ++t) {
      const auto count = steps.to(t);
      if (count && *count == 1) continue;
      const std::int64_t row = member.rows.first + static_cast<std::int64_t>(t);
      const auto text = [&] {
        return fmt::format("'{}': {} after {}", member.id, series.date(row), series.date(row - 1));
      };
      if (!count || *count < 1) {
        irregular.add(row, text);
      } else {
        gap.add(row, text);
        absent += *count - 1;
      }
    }
  }
  const auto line = [&](const First& of) { return series.lines[static_cast<std::size_t>(of.row)]; };
  const std::int64_t column = rows.date_column;
  if (mixed.count > 0) {
    add(series, Severity::refuse, "step", line(mixed), column, mixed.count, "mixed steps: " + mixed.text,
        "give a file for each step");
  }
  if (gap.count > 0) {
    add(series, Severity::warn, "gap", line(gap), column, gap.count,
        fmt::format("gap: {} at a step of {}, {} rows are absent in all", gap.text, series.step.name(), absent),
        "windows across it are left out; write the rows into the file, or take rows as evenly spaced: --holes close");
  }
  if (irregular.count > 0) {
    add(series, Severity::warn, "irregular", line(irregular), column, irregular.count,
        fmt::format("irregular time step: {} at a step of {}", irregular.text, series.step.name()),
        "rows are taken as if they were evenly spaced");
  }
  if (!series.step.known() && series.rows > std::ssize(series.panel)) {
    add(series, Severity::warn, "step", series.lines[1], column, 1,
        "no regular step: fewer than 90 % of the differences of the longest series' dates agree",
        "say --freq; without a step no forecast can be dated");
  }
}

}  // namespace

void group_by_id(Series& series, const LongRows& rows, const SeriesOptions& options) {
  const std::vector<std::int32_t> order = kept(series, rows, options);
  std::vector<std::int64_t> next(rows.ids.size(), -1), counts(rows.ids.size());
  for (const std::int32_t id : rows.of_row) ++counts[static_cast<std::size_t>(id)];
  std::int64_t end = 0;
  for (const std::int32_t id : order) {
    const auto i = static_cast<std::size_t>(id);
    next[i] = end;
    series.panel.push_back({rows.ids[i], {end, end + counts[i]}});
    end += counts[i];
  }
  std::vector<std::int64_t> from(static_cast<std::size_t>(end));
  for (std::size_t t = 0; t < rows.of_row.size(); ++t) {
    std::int64_t& to = next[static_cast<std::size_t>(rows.of_row[t])];
    if (to >= 0) from[static_cast<std::size_t>(to++)] = static_cast<std::int64_t>(t);
  }
  series.values = picked(series.values, from);
  series.lines = picked(series.lines, from);
  series.dates = picked(series.dates, from);
  series.rows = end;
}

void sort_by_date(Series& series, const LongRows& rows) {
  const auto date = [&](std::int64_t row) -> const Stamp& { return series.dates[static_cast<std::size_t>(row)]; };
  std::vector<std::int64_t> from;
  First repeated;
  for (const Series::Member& member : series.panel) {
    const auto dates = dates_of(series, member.rows);
    const auto stays = [](const Stamp& a, const Stamp& b) { return compare(a, b) >= 0; };
    if (std::ranges::adjacent_find(dates, stays) == dates.end()) continue;
    from.resize(static_cast<std::size_t>(member.rows.size()));
    std::iota(from.begin(), from.end(), member.rows.first);
    std::ranges::stable_sort(from, [&](std::int64_t a, std::int64_t b) { return compare(date(a), date(b)) < 0; });
    std::ranges::copy(picked(series.values, from), series.values.begin() + member.rows.first);
    std::ranges::copy(picked(series.lines, from), series.lines.begin() + member.rows.first);
    std::ranges::copy(picked(series.dates, from), series.dates.begin() + member.rows.first);
    for (std::int64_t t = member.rows.first + 1; t < member.rows.last; ++t) {
      if (compare(date(t - 1), date(t)) != 0) continue;
      repeated.add(t, [&] { return fmt::format("'{}' has {} twice", member.id, series.date(t)); });
    }
  }
  if (repeated.count == 0) return;
  add(series, Severity::refuse, "repeated", series.lines[static_cast<std::size_t>(repeated.row)], rows.date_column,
      repeated.count, "repeated time step: " + repeated.text, "keep one row a series and date");
}

void settle_form(Series& series, const LongRows& rows, const SeriesOptions& options) {
  const std::optional<First> differ = difference(series);
  if (options.panel != PanelForm::global && !differ) {
    series.rows = series.panel[0].rows.size();
    series.channels.clear();
    for (Series::Member& member : series.panel) series.channels.push_back(std::move(member.id));
    series.value_columns.assign(series.channels.size(), series.value_columns.at(0));
    series.panel.clear();
    series.dates.resize(static_cast<std::size_t>(series.rows));
    series.lines.resize(static_cast<std::size_t>(series.rows));
    return;
  }
  // A model of channels needs a row of each at its dates.
  if (options.panel == PanelForm::channels || options.columns_of_model) {
    if (options.panel != PanelForm::global) {
      throw Error(Exit::data, "the series have not all the same dates: " + differ->text)
          .at(series.path, series.lines[static_cast<std::size_t>(differ->row)], rows.date_column)
          .hint(options.columns_of_model ? "the model forecasts the series together: give them the same dates"
                                         : "give them the same dates, or say --panel global");
    }
  }
  series.step = step_of(series, options);
  series.holes = find_holes(series);
  report_steps(series, rows);
}

}  // namespace samformer::model
