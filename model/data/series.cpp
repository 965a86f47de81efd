#include "model/data/series.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "model/data/repair.h"

namespace samformer::model {
namespace {

constexpr std::array<double, 3> kRatio = {0.7, 0.1, 0.2};
constexpr std::int64_t kEttMonth = 30 * 24;  // rows; 12 months train, 4 validation, 4 test

// A date that a person typed: without an offset it is a wall clock, with one it is a moment.
struct Moment {
  Stamp stamp;
  bool zoned = false;

  bool after(const Stamp& row) const {
    if (zoned) return compare(row, stamp) < 0;
    return std::pair(row.seconds, row.nanoseconds) < std::pair(stamp.seconds, stamp.nanoseconds);
  }
};

std::optional<Moment> parse_moment(const Series& series, std::string_view text) {
  DateFormat own = series.date_format, any;
  own.learned = false;  // a zone may be left out
  any.digits = Digits::moments;
  for (DateFormat* const format : {&own, &any}) {
    Moment moment;
    if (parse_stamp(text, *format, moment.stamp)) {
      moment.zoned = format->zone != Zone::none;
      return moment;
    }
  }
  return std::nullopt;
}

std::int64_t first_row_from(const Series& series, const Moment& moment) {
  const auto row =
      std::find_if(series.dates.begin(), series.dates.end(), [&](const Stamp& s) { return !moment.after(s); });
  return row - series.dates.begin();
}

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

[[noreturn]] void refuse_rule(const std::string& rule, std::string_view what) {
  throw Error(Exit::usage, fmt::format("--split '{}': {}", rule, what))
      .hint("auto, ett-hour, ett-minute, ratio[:A,B,C], rows:A,B,C[@FIRST] or dates:VAL,TEST[,END]");
}

template <class Number>
std::array<Number, 3> three_numbers(const std::string& rule, std::string_view text) {
  const std::vector<std::string_view> parts = split_commas(text);
  std::array<Number, 3> numbers{};
  if (parts.size() != 3) refuse_rule(rule, "expected three numbers: train, validation, test");
  for (std::size_t i = 0; i < 3; ++i) {
    const char* const end = parts[i].data() + parts[i].size();
    const auto [stop, status] = std::from_chars(parts[i].data(), end, numbers[i]);
    if (status != std::errc() || stop != end || !(numbers[i] > Number{0})) {
      refuse_rule(rule, fmt::format("'{}' is not a number above 0", parts[i]));
    }
  }
  return numbers;
}

Splits consecutive(std::string rule, std::int64_t train, std::int64_t val, std::int64_t test) {
  return {std::move(rule), {0, train}, {train, train + val}, {train + val, train + val + test}};
}

Splits fixed_rows(std::string rule, const Series& series, std::array<std::int64_t, 3> parts, std::int64_t first = 0) {
  std::int64_t left = std::max<std::int64_t>(series.rows - first, 0);
  for (const std::int64_t part : parts) {
    if (part > left) {
      throw Error(Exit::data, fmt::format("the split {} needs {} + {} + {} rows, the series has {}", rule, parts[0],
                                          parts[1], parts[2], series.rows))
          .at(series.path)
          .hint("choose another --split, for example --split ratio");
    }
    left -= part;
  }
  Splits splits = consecutive(std::move(rule), parts[0], parts[1], parts[2]);
  for (Span* part : {&splits.train, &splits.val, &splits.test}) *part = {part->first + first, part->last + first};
  return splits;
}

Splits by_ratio(const std::array<double, 3>& share, std::int64_t rows) {
  const auto n = static_cast<double>(rows);
  const auto train = static_cast<std::int64_t>(share[0] * n);
  const auto test = static_cast<std::int64_t>(share[2] * n);
  return consecutive(fmt::format("ratio:{},{},{}", share[0], share[1], share[2]), train,
                     std::max<std::int64_t>(rows - test - train, 0), test);
}

std::array<double, 3> parse_ratio(const std::string& rule) {
  if (rule == "ratio") return kRatio;
  const auto share = three_numbers<double>(rule, std::string_view(rule).substr(6));
  if (!(std::abs(share[0] + share[1] + share[2] - 1) <= 1e-9)) refuse_rule(rule, "the three shares must add up to 1");
  if (*std::min_element(share.begin(), share.end()) < 0.001) refuse_rule(rule, "a share is below 0.001");
  return share;
}

Splits by_dates(const std::string& rule, const Series& series) {
  if (series.dates.empty()) refuse_rule(rule, "the series was read without dates");
  const std::vector<std::string_view> parts = split_commas(std::string_view(rule).substr(6));
  if (parts.size() != 2 && parts.size() != 3) refuse_rule(rule, "expected two or three dates");
  std::vector<Moment> moments;
  for (const std::string_view part : parts) {
    const auto moment = parse_moment(series, part);
    if (!moment) refuse_rule(rule, fmt::format("'{}' is not a date (expected one like {})", part, series.date(0)));
    moments.push_back(*moment);
  }
  const std::int64_t val = first_row_from(series, moments[0]);
  const std::int64_t test = first_row_from(series, moments[1]);
  const std::int64_t end = moments.size() == 3 ? first_row_from(series, moments[2]) : series.rows;
  if (test < val || end < test) refuse_rule(rule, "the dates must rise");
  return consecutive(rule, val, test - val, end - test);
}

constexpr std::array<std::int64_t, 13> kLookbacks = {512, 384, 256, 192, 128, 96, 64, 48, 36, 24, 16, 12, 8};

bool fits(const Splits& splits, std::int64_t lookback, std::int64_t horizon) {
  return splits.train.size() - lookback >= horizon && splits.val.size() >= horizon && splits.test.size() >= horizon;
}

// The fewest rows of which the splits' rule makes parts that are long enough.
std::int64_t rows_needed(const Splits& splits, std::int64_t lookback, std::int64_t horizon) {
  if (!splits.rule.starts_with("ratio")) return lookback + 3 * horizon;
  const auto share = parse_ratio(splits.rule);
  const auto at_least = [](std::int64_t rows, double part) { return static_cast<double>(rows) / part; };
  const double start = std::max({at_least(lookback + horizon, share[0]), at_least(horizon, share[1]) - 2 / share[1],
                                 at_least(horizon, share[2]), 1.0});
  auto rows = static_cast<std::int64_t>(std::min(start, 1e15));
  while (rows < 1'000'000'000'000'000 && !fits(by_ratio(share, rows), lookback, horizon)) ++rows;
  return rows;
}

// The most rows absent in a row that are days without business, after which the next session follows: two weeks of
// whole days. 0: there are none such.
std::int64_t most_holidays(const Step& step) {
  if (step.unit == StepUnit::business_day) return 10;
  return step.unit == StepUnit::slot ? 2 * std::ssize(step.slots) : 0;
}

// A hole in the middle of a day puts the daily cycle out of step.
bool is_hole(const Step& step, std::int64_t absent) {
  const std::int64_t a_day = step.unit == StepUnit::slot && std::ssize(step.slots) > 7 ? step.season() : 1;
  return absent > most_holidays(step) || absent % a_day != 0;
}

}  // namespace

Error error_of(const Finding& f) { return Error(Exit::data, f.message).at(f.file, f.line, f.column).hint(f.hint); }

std::string Series::date(std::int64_t row) const {
  if (dates.empty()) return fmt::format("row {}", row + 1);
  return format_stamp(dates.at(static_cast<std::size_t>(row)), date_format);
}

std::vector<Hole> find_holes(std::span<const Stamp> dates, const Step& step) {
  std::vector<Hole> holes;
  RowSteps rows(dates, step);
  for (std::size_t t = 1; step.known() && t < dates.size(); ++t) {
    const auto steps = rows.to(t);
    if (steps && *steps > 1 && is_hole(step, *steps - 1)) holes.push_back({static_cast<std::int64_t>(t), *steps - 1});
  }
  return holes;
}

std::vector<Hole> find_holes(const Series& series) {
  if (series.panel.empty()) return find_holes(series.dates, series.step);
  std::vector<Hole> all;
  for (const Series::Member& member : series.panel) {
    const Span rows = member.rows;
    if (rows.first > 0) all.push_back({rows.first, 0});
    const auto dates =
        std::span(series.dates).subspan(static_cast<std::size_t>(rows.first), static_cast<std::size_t>(rows.size()));
    for (const Hole& hole : find_holes(dates, series.step)) all.push_back({hole.row + rows.first, hole.absent});
  }
  return all;
}

bool take_step(Series& series, const Step& step) {
  const auto member_agrees = [&](const Series::Member& m) {
    return m.rows.size() < 2 ||
           agrees(std::span(series.dates)
                      .subspan(static_cast<std::size_t>(m.rows.first), static_cast<std::size_t>(m.rows.size())),
                  step);
  };
  if (series.panel.empty() ? !agrees(series.dates, step) : !std::ranges::all_of(series.panel, member_agrees)) {
    return false;
  }
  series.step = step;
  series.holes = find_holes(series);
  std::erase_if(series.findings,
                [](const Finding& f) { return f.kind == "gap" || f.kind == "irregular" || f.kind == "step"; });
  return true;
}

std::vector<std::string> Series::date_cells(const std::string& date) const {
  std::vector<std::string> words = {""};
  for (const char c : date) {
    if (c == ' ') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  std::vector<std::string> cells;
  for (const DatePart& part : date_parts) {
    std::string cell;
    for (std::size_t w = part.first_word; w < std::min(part.first_word + part.words, words.size()); ++w) {
      cell += (w > part.first_word ? " " : "") + words[w];
    }
    if (part.hour) cell = cell.substr(0, cell.find(':'));
    if (!part.padded && cell.size() == 2 && cell[0] == '0') cell.erase(0, 1);
    cells.push_back(std::move(cell));
  }
  return cells;
}

std::int64_t last_complete_row(const Series& series, std::int64_t length, std::int64_t end) {
  std::int64_t complete = 0, last = -1;
  auto hole = series.holes.begin();
  for (std::int64_t t = 0; t < end; ++t) {
    bool whole = true;
    if (hole != series.holes.end() && hole->row == t) {
      complete = 0;
      ++hole;
    }
    for (std::int64_t d = 0; d < series.width() && whole; ++d)
      whole = !std::isnan(series.channel(d)[static_cast<std::size_t>(t)]);
    complete = whole ? complete + 1 : 0;
    if (complete >= length) last = t;
  }
  return last;
}

bool is_known_ahead(std::span<const std::string> patterns, std::string_view name) {
  return std::ranges::any_of(patterns, [&](std::string_view pattern) {
    const std::size_t star = pattern.find('*');
    if (star == std::string_view::npos) return name == pattern;
    return name.size() + 1 >= pattern.size() && name.starts_with(pattern.substr(0, star)) &&
           name.ends_with(pattern.substr(star + 1));
  });
}

std::string origin_word(const Series& series, std::int64_t row) {
  return shell_quoted(series.dates.empty() ? std::to_string(row + 1) : series.date(row));
}

std::string drop_flag(const SeriesOptions& options, const std::vector<std::string>& more) {
  std::vector<std::string> names = options.drop;
  names.insert(names.end(), more.begin(), more.end());
  return "--drop " + names_word(names);
}

void require_step(const Series& series, const Step& step) {
  if (step.known()) return;
  const auto found = std::ranges::find(series.findings, "step", &Finding::kind);
  if (found != series.findings.end()) throw error_of(*found);
  throw Error(Exit::data, "one row does not show the step of the dates")
      .at(series.path)
      .hint("say it with --freq, for example --freq 15min, h, d, b, w or m");
}

void require_lookback(const Series& series, const SeriesOptions& options, std::int64_t length, std::int64_t origin) {
  if (origin + 1 < length) {
    throw Error(Exit::data,
                fmt::format("{} rows up to the origin, at least {} (the look-back) needed", origin + 1, length))
        .at(series.path)
        .hint("give more history, or a later --origin");
  }
  for (const Hole& hole : series.holes) {
    if (hole.row <= origin + 1 - length || hole.row > origin) continue;
    const std::int64_t before = last_complete_row(series, length, hole.row);
    throw Error(Exit::data, fmt::format("{} rows are absent between {} and {}, inside the {} rows that the forecast "
                                        "looks back on",
                                        hole.absent, series.date(hole.row - 1), series.date(hole.row), length))
        .at(series.path, series.lines.empty() ? 0 : series.lines[static_cast<std::size_t>(hole.row)])
        .hint(fmt::format(
            "fill them in: {}{}; or take rows as evenly spaced: --holes close", repair_command(series.path, options),
            before >= 0 ? fmt::format("; or forecast from before them: --origin {}", origin_word(series, before))
                        : ""));
  }
}

void require_clean(const Series& series) {
  for (const Finding& finding : series.findings) {
    if (finding.severity == Severity::refuse) throw error_of(finding);
  }
}

std::optional<Stamp> read_date(const Series& series, std::string_view text) {
  DateFormat format = series.date_format;
  Stamp stamp;
  if (!parse_stamp(text, format, stamp)) return std::nullopt;
  if (series.zone && format.zone == Zone::none) series.zone->locate(stamp);
  return stamp;
}

std::int64_t find_row(const Series& series, const std::string& text) {
  if (series.dates.empty()) {
    std::int64_t row = 0;
    const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), row);
    if (status == std::errc() && stop == text.data() + text.size() && row >= 1 && row <= series.rows) return row - 1;
    throw Error(Exit::usage,
                fmt::format("'{}' is not a row: a series without dates has rows 1 to {}", text, series.rows));
  }
  const auto moment = parse_moment(series, text);
  const std::int64_t row = moment ? first_row_from(series, *moment) : series.rows;
  if (row == series.rows || Moment{series.dates[static_cast<std::size_t>(row)], moment->zoned}.after(moment->stamp)) {
    throw Error(Exit::usage, fmt::format("no row has the date '{}'", text))
        .hint(fmt::format("the dates go from {} to {}", series.date(0), series.date(series.rows - 1)));
  }
  return row;
}

std::vector<int> select_targets(Series& series, Features features, const std::vector<std::string>& targets) {
  std::vector<int> indices;
  if (features == Features::m) {
    if (!targets.empty()) {
      throw Error(Exit::usage, "--target needs --features S or MS")
          .hint("S: the targets alone; MS: all channels are inputs, the targets are forecast");
    }
    indices.resize(series.channels.size());
    std::iota(indices.begin(), indices.end(), 0);
    return indices;
  }
  const std::vector<std::string> asked = join_known(targets, series.channels);
  for (const std::string& target : asked.empty() ? std::vector{series.channels.back()} : asked) {
    const auto found = std::find(series.channels.begin(), series.channels.end(), target);
    if (found == series.channels.end()) {
      throw Error(Exit::usage, fmt::format("--target '{}' is not a channel of {}", target, series.path))
          .hint(guess(target, series.channels));
    }
    const int index = static_cast<int>(found - series.channels.begin());
    if (std::find(indices.begin(), indices.end(), index) != indices.end()) {
      throw Error(Exit::usage, fmt::format("--target names '{}' twice", target));
    }
    indices.push_back(index);
  }
  if (features == Features::ms) return indices;

  std::vector<std::string> channels;
  std::vector<std::size_t> columns;
  std::vector<double> values;
  values.reserve(indices.size() * static_cast<std::size_t>(series.rows));
  for (int& index : indices) {
    const auto channel = series.channel(index);
    values.insert(values.end(), channel.begin(), channel.end());
    channels.push_back(series.channels[static_cast<std::size_t>(index)]);
    if (!series.value_columns.empty()) columns.push_back(series.value_columns[static_cast<std::size_t>(index)]);
    index = static_cast<int>(channels.size()) - 1;
  }
  series.channels = std::move(channels);
  series.value_columns = std::move(columns);
  series.values = std::move(values);
  return indices;
}

std::string split_rule(const std::string& rule, std::string name) {
  if (rule != "auto") return rule;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name == "etth1" || name == "etth2" ? "ett-hour"
                                            : (name == "ettm1" || name == "ettm2" ? "ett-minute" : "ratio");
}

Splits split_rows(const std::string& rule, const Series& series) {
  const std::string resolved = split_rule(rule, series.name);
  if (resolved == "ett-hour") return fixed_rows(resolved, series, {12 * kEttMonth, 4 * kEttMonth, 4 * kEttMonth});
  if (resolved == "ett-minute") return fixed_rows(resolved, series, {48 * kEttMonth, 16 * kEttMonth, 16 * kEttMonth});
  if (resolved == "ratio" || resolved.starts_with("ratio:")) return by_ratio(parse_ratio(resolved), series.rows);
  if (resolved.starts_with("rows:")) {
    const std::size_t at = std::min(resolved.find('@'), resolved.size());
    const auto parts = three_numbers<std::int64_t>(resolved, std::string_view(resolved).substr(5, at - 5));
    std::int64_t first = 0;
    const char* const end = resolved.data() + resolved.size();
    if (at < resolved.size()) {
      const auto [last, error] = std::from_chars(resolved.data() + at + 1, end, first);
      if (error != std::errc() || last != end || first < 0)
        refuse_rule(rule, "behind @ is the first row, a whole number");
    }
    return fixed_rows(resolved, series, parts, first);
  }
  if (resolved.starts_with("dates:")) return by_dates(resolved, series);
  const std::vector<std::string> known = {"auto", "ett-hour", "ett-minute", "ratio", "rows", "dates"};
  refuse_rule(rule, "unknown rule; " + guess(rule.substr(0, rule.find(':')), known));
}

std::int64_t default_horizon(const Step& step) {
  switch (step.unit) {
    case StepUnit::none:
    case StepUnit::nanosecond:
    case StepUnit::second:
      return 96;
    case StepUnit::day:
      return step.count < 7 ? 28 : 13;
    case StepUnit::business_day:
      return 20;
    case StepUnit::slot:  // four weeks of days with one or few rows, four days of many
      return step.slots.size() <= 20 ? 4 * std::ssize(step.slots) : 4 * step.season();
    case StepUnit::month:
      break;
  }
  return step.count < 3 ? 12 : step.count < 12 ? 8 : 3;
}

std::span<const std::int64_t> default_lookbacks() { return kLookbacks; }

std::int64_t default_lookback(const Series& series, const Splits& splits, std::int64_t horizon) {
  const auto enough = [&](std::int64_t lookback) {
    return window_count(series, splits.train, lookback, horizon) >= std::max(few_windows, lookback / 2);
  };
  const auto* const found = std::find_if(kLookbacks.begin(), kLookbacks.end(), enough);
  return found == kLookbacks.end() ? kLookbacks.back() : *found;
}

bool has_windows(const Series& series, const Splits& splits, std::int64_t lookback, std::int64_t horizon) {
  return fits(splits, lookback, horizon) && window_count(series, splits.train, lookback, horizon) > 0 &&
         window_count(series, with_lookback(splits.val, lookback), lookback, horizon) > 0 &&
         window_count(series, with_lookback(splits.test, lookback), lookback, horizon) > 0;
}

void check_length(const Series& series, const Splits& splits, std::int64_t lookback, std::int64_t horizon) {
  if (fits(splits, lookback, horizon)) {
    if (series.rows > std::numeric_limits<std::int32_t>::max()) {
      throw Error(Exit::data, fmt::format("{} rows are more than 2^31 - 1", series.rows)).at(series.path);
    }
    return;
  }
  const std::int64_t shorter = std::min(splits.val.size(), splits.test.size());
  const std::int64_t train = splits.train.size() - few_windows + 1;
  const std::int64_t horizon_max = std::min(train - lookback, shorter);
  const std::int64_t lookback_max = shorter >= horizon ? train - horizon : 0;
  std::int64_t pair_horizon = std::min(default_horizon(series.step), shorter);
  const std::int64_t pair_lookback = default_lookback(series, splits, pair_horizon);
  if (pair_horizon < 1 || !fits(splits, pair_lookback, pair_horizon)) pair_horizon = 0;
  const std::string pair = horizon_max > 0 || lookback_max > 0 ? ""
                           : pair_horizon > 0
                               ? fmt::format("; --lookback {} --horizon {} fit", pair_lookback, pair_horizon)
                               : "; no pair fits: give more rows, or another --split";
  const auto largest = [](std::string_view what, std::string_view given, std::int64_t value, std::int64_t n) {
    return n > 0 ? fmt::format("the largest {} at {} {} is {}", what, given, value, n)
                 : fmt::format("no {} fits {} {}", what, given, value);
  };
  throw Error(
      Exit::data,
      fmt::format("too few rows: {}, and look-back {} with horizon {} needs {} (split {}: train has {} rows and "
                  "needs {}, validation {} and {}, test {} and {})",
                  series.rows, lookback, horizon, rows_needed(splits, lookback, horizon), splits.rule,
                  splits.train.size(), lookback + horizon, splits.val.size(), horizon, splits.test.size(), horizon))
      .at(series.path)
      .hint(fmt::format("with {} training windows and more, ", few_windows) +
            largest("horizon", "look-back", lookback, horizon_max) + ", " +
            largest("look-back", "horizon", horizon, lookback_max) + pair);
}

std::int64_t window_count(Span rows, std::int64_t lookback, std::int64_t horizon) {
  return std::max<std::int64_t>(rows.size() - lookback - horizon + 1, 0);
}

std::int64_t window_count(const Series& series, Span rows, std::int64_t lookback, std::int64_t horizon) {
  std::int64_t count = 0;
  for (const Span run : unbroken(series, rows)) count += window_count(run, lookback, horizon);
  return count;
}

std::vector<Span> unbroken(const Series& series, Span rows) {
  std::vector<Span> runs;
  for (const Hole& hole : series.holes) {
    if (hole.row <= rows.first || hole.row >= rows.last) continue;
    runs.push_back({rows.first, hole.row});
    rows.first = hole.row;
  }
  runs.push_back(rows);
  return runs;
}

std::vector<std::int32_t> window_starts(const Series& series, Span rows, std::int64_t lookback, std::int64_t horizon) {
  std::vector<std::int32_t> starts;
  for (const Span run : unbroken(series, rows)) {
    const std::vector<std::int32_t> more = window_starts(run, lookback, horizon);
    starts.insert(starts.end(), more.begin(), more.end());
  }
  return starts;
}

std::vector<std::int32_t> window_starts(Span rows, std::int64_t lookback, std::int64_t horizon) {
  SAMFORMER_CHECK(rows.first >= 0 && rows.last <= std::numeric_limits<std::int32_t>::max(), "window rows {}..{}",
                  rows.first, rows.last);
  std::vector<std::int32_t> starts(static_cast<std::size_t>(window_count(rows, lookback, horizon)));
  std::iota(starts.begin(), starts.end(), static_cast<std::int32_t>(rows.first));
  return starts;
}

std::pair<double, double> mean_and_deviation(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double deviation = std::sqrt(squares / n);
  // Rounding of the mean gives constant values a tiny deviation, which would blow them up.
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  if (*least == *most) return {*least, 1};
  return {mean, deviation == 0 ? 1 : deviation};
}

Scaler fit_scaler(const Series& series, Span rows) {
  SAMFORMER_CHECK(rows.first >= 0 && rows.size() > 0 && rows.last <= series.rows, "scaler rows {}..{} of {}",
                  rows.first, rows.last, series.rows);
  Scaler scaler;
  for (std::int64_t d = 0; d < series.width(); ++d) {
    const auto [mean, deviation] = mean_and_deviation(
        series.channel(d).subspan(static_cast<std::size_t>(rows.first), static_cast<std::size_t>(rows.size())));
    scaler.mean.push_back(mean);
    scaler.std.push_back(deviation);
  }
  return scaler;
}

Spread spread_of(std::span<const double> values, Span train, std::int64_t end) {
  const auto part = [&](Span rows) {
    return values.subspan(static_cast<std::size_t>(rows.first), static_cast<std::size_t>(rows.size()));
  };
  const double mean = mean_and_deviation(part(train)).first;
  const auto deviation = [&](Span rows) {
    if (rows.size() <= 0) return 0.0;
    double squares = 0;
    for (const double value : part(rows)) squares += (value - mean) * (value - mean);
    return std::sqrt(squares / static_cast<double>(rows.size()));
  };
  return {deviation(train), deviation({train.last, end})};
}

std::vector<LateChannel> late_channels(const Series& series, Span train, std::int64_t end) {
  std::vector<LateChannel> late;
  for (std::int64_t d = 0; d < series.width(); ++d) {
    const Spread spread = spread_of(series.channel(d), train, end);
    if (spread.late()) late.push_back({d, spread.before, spread.after});
  }
  return late;
}

std::vector<float> standardise(const Series& series, const Scaler& scaler) {
  return standardise(series, scaler, {0, series.rows}, 0);
}

std::vector<float> standardise(const Series& series, const Scaler& scaler, Span known, std::int64_t ahead) {
  SAMFORMER_CHECK(scaler.mean.size() == series.channels.size() && scaler.std.size() == series.channels.size(),
                  "the scaler has {} channels, the series {}", scaler.mean.size(), series.channels.size());
  std::vector<float> standardised;
  standardised.reserve(scaler.mean.size() * static_cast<std::size_t>(known.size() + ahead));
  for (std::size_t d = 0; d < scaler.mean.size(); ++d) {
    const auto channel = series.channel(static_cast<std::int64_t>(d));
    for (std::int64_t t = known.first; t < known.last; ++t) {
      const double value = channel[static_cast<std::size_t>(t)];
      standardised.push_back(static_cast<float>((value - scaler.mean[d]) / scaler.std[d]));
    }
    standardised.insert(standardised.end(), static_cast<std::size_t>(ahead), std::numeric_limits<float>::quiet_NaN());
  }
  return standardised;
}

}  // namespace samformer::model
