#include "model/data/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "model/data/cells.h"
#include "model/data/civil.h"
#include "model/data/numbers.h"

namespace samformer::model {
namespace {

constexpr std::size_t most_columns = 100'000;
constexpr std::size_t longest_name = 1024;  // bytes
constexpr int skip_slot = -1;
constexpr int date_slot = -2;

// How often something was found, and where first.
struct Tally {
  std::int64_t count = 0;
  std::int64_t line = 0;
  std::int64_t column = 0;
  std::string found;

  void add(std::int64_t at_line, std::int64_t at_column, std::string_view text) {
    if (count++ > 0) return;
    line = at_line;
    column = at_column;
    found = shown(text, 40);
  }
};

struct Column {
  std::string name;
  int slot = skip_slot;  // channel index, skip_slot or date_slot
  Tally missing, infinite, unparsable;
};

class CsvReader {
 public:
  CsvReader(std::string_view bytes, const std::string& path, const SeriesOptions& options)
      : bytes_(bytes), options_(options) {
    series_.path = path;
    const std::size_t slash = path.rfind('/');
    series_.name = path == "-" ? "stdin" : path.substr(slash == std::string::npos ? 0 : slash + 1);
    const std::size_t dot = series_.name.rfind('.');
    if (dot != std::string::npos && dot > 0) series_.name.resize(dot);
  }

  Series read() {
    if (!options_.date_format.empty()) check_date_pattern(options_.date_format);
    if (!options_.timezone.empty()) series_.zone = std::make_shared<TimeZone>(options_.timezone);
    check_text();
    const char delimiter = options_.delimiter != 0 ? options_.delimiter : find_delimiter();
    Cells cells(bytes_, delimiter, series_.path);
    read_header(cells);
    choose_columns(cells);
    read_rows(cells);
    report_cells();
    report_dates();
    report_values();
    std::stable_sort(series_.findings.begin(), series_.findings.end(), [](const Finding& a, const Finding& b) {
      return std::tie(a.line, a.column) < std::tie(b.line, b.column);
    });
    return std::move(series_);
  }

 private:
  [[noreturn]] void fail(Exit code, const std::string& message, const std::string& hint, std::int64_t line = 0,
                         std::int64_t column = 0) const {
    throw Error(code, message).at(series_.path, line, column).hint(hint);
  }

  void report(Severity severity, std::string kind, const Tally& tally, std::string message, std::string hint) {
    if (tally.count > 1) message += fmt::format(" (and {} more)", tally.count - 1);
    series_.findings.push_back({severity, std::move(kind), series_.path, tally.line, tally.column, tally.count,
                                std::move(message), std::move(hint)});
  }

  void check_text() {
    if (bytes_.starts_with("\xEF\xBB\xBF")) bytes_.remove_prefix(3);
    const bool packed = bytes_.starts_with("PK\x03\x04") || bytes_.starts_with("\x1F\x8B");
    if (packed || bytes_.starts_with("\xFF\xFE") || bytes_.starts_with("\xFE\xFF") ||
        bytes_.substr(0, 4096).find('\0') != std::string_view::npos) {
      fail(Exit::data, packed ? "a compressed file or a workbook, not CSV" : "not UTF-8 text",
           "export the data as CSV in UTF-8");
    }
    if (bytes_.find_first_not_of(" \t\r\n") == std::string_view::npos) {
      fail(Exit::data, "the file is empty", "expected a header line and one line a time step");
    }
  }

  char find_delimiter() const {
    std::array<std::pair<char, int>, 3> counts = {{{',', 0}, {';', 0}, {'\t', 0}}};
    bool quoted = false;
    for (const char c : bytes_) {
      if (c == '"') quoted = !quoted;
      if (c == '\n' && !quoted) break;
      for (auto& [delimiter, count] : counts) count += !quoted && c == delimiter ? 1 : 0;
    }
    return std::max_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  void read_header(Cells& cells) {
    while (cells.blank_line()) {
    }
    header_line_ = cells.line();
    std::string_view text;
    bool more = true;
    bool numbers = true;
    bool decimals = false;
    std::unordered_set<std::string> seen;
    while (more) {
      more = cells.cell(text);
      const auto column = static_cast<std::int64_t>(columns_.size()) + 1;
      if (columns_.size() == most_columns) {
        fail(Exit::data, fmt::format("more than {} columns", most_columns), "check the delimiter: --delimiter",
             header_line_, column);
      }
      if (text.size() > longest_name) {
        fail(Exit::data, fmt::format("a column's name has {} bytes, expected at most {}", text.size(), longest_name),
             "shorten it; if it is no name, check the quotes and the delimiter: --delimiter", header_line_, column);
      }
      double value = 0;
      DateFormat format;
      format.pattern = options_.date_format;
      Stamp stamp;
      const bool date = parse_stamp(text, format, stamp);
      numbers &= date || read_cell(text, value) == CellKind::number;
      decimals |= date || text.find('.') != std::string_view::npos;
      columns_.push_back({text.empty() ? fmt::format("column_{}", column) : to_utf8(text), skip_slot, {}, {}, {}});
      if (!seen.insert(columns_.back().name).second) {
        fail(Exit::data, fmt::format("two columns are named '{}'", columns_.back().name), "rename one of them",
             header_line_, column);
      }
    }
    // Whole numbers are what programs name unnamed columns; anything else is a first row of data.
    if (numbers && decimals) {
      fail(Exit::data, "the first line holds data, expected the columns' names", "put a line of names above the data",
           header_line_, 1);
    }
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Column& column : columns_) all.push_back(column.name);
    return all;
  }

  Column& named(const std::string& name, const char* flag) {
    const auto found = std::find_if(columns_.begin(), columns_.end(), [&](const Column& c) { return c.name == name; });
    if (found != columns_.end()) return *found;
    fail(Exit::usage, fmt::format("{}: no column is named '{}'", flag, name),
         fmt::format("the nearest of its names is '{}'", nearest_name(name, names())), header_line_);
  }

  // All that the run needs and the file lacks, and what the file has in its place.
  void require_columns_of_model() {
    const std::vector<std::string> known = names();
    const auto without = [](const std::vector<std::string>& from, const std::vector<std::string>& taken) {
      const std::unordered_set<std::string_view> names(taken.begin(), taken.end());
      std::vector<std::string> rest;
      for (const std::string& name : from) {
        if (!names.contains(name)) rest.push_back(name);
      }
      return rest;
    };
    const std::vector<std::string> absent = without(options_.columns, known);
    if (absent.empty()) return;
    std::vector<std::string> others;
    for (const std::string& name : without(known, options_.columns)) {
      if (named(name, "").slot != date_slot) others.push_back(name);
    }
    fail(Exit::data,
         fmt::format("{} of the run's {} columns {} absent: {}", absent.size(), options_.columns.size(),
                     absent.size() == 1 ? "is" : "are", quoted_list(absent)),
         others.empty() ? "the file has no other columns; add what is absent"
                        : fmt::format("the run does not know the file's {}; rename what is the same under another name",
                                      quoted_list(others)),
         header_line_);
  }

  static std::string quoted_list(const std::vector<std::string>& names) {
    constexpr std::size_t most = 20;
    std::string list;
    for (std::size_t i = 0; i < std::min(names.size(), most); ++i)
      list += fmt::format("{}'{}'", i ? ", " : "", names[i]);
    return names.size() > most ? fmt::format("{} and {} more", list, names.size() - most) : list;
  }

  // A model's columns cannot be left out.
  std::string or_drop(const std::string& remedy, const Column& column) const {
    if (options_.columns_of_model) return remedy;
    return fmt::format("{}, or leave the column out: --drop {}", remedy, names_word(std::span(&column.name, 1)));
  }

  // Sets every column's slot. Reads ahead in `cells`, a copy, for the first row.
  void choose_columns(Cells cells) {
    constexpr int channel_slot = 0;
    for (Column& column : columns_) column.slot = channel_slot;
    for (const std::string& name : join_known(options_.drop, names())) named(name, "--drop").slot = skip_slot;
    if (!options_.no_date) find_date_column(cells);

    if (options_.columns.empty()) {
      for (Column& column : columns_) {
        if (column.slot != channel_slot) continue;
        column.slot = static_cast<int>(series_.channels.size());
        series_.channels.push_back(column.name);
      }
    } else {
      if (options_.columns_of_model) require_columns_of_model();
      std::vector<Column*> chosen;
      for (const std::string& name : join_known(options_.columns, names())) {
        Column& column = named(name, "--columns");
        if (column.slot == date_slot)
          fail(Exit::usage, fmt::format("--columns: '{}' is the date column", name), "leave it out");
        if (column.slot == skip_slot)
          fail(Exit::usage, fmt::format("'{}' is in --columns and in --drop", name), "choose one");
        chosen.push_back(&column);
        series_.channels.push_back(name);
      }
      for (Column& column : columns_) column.slot = column.slot == date_slot ? date_slot : skip_slot;
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        if (chosen[i]->slot != skip_slot)
          fail(Exit::usage, fmt::format("--columns names '{}' twice", chosen[i]->name), "");
        chosen[i]->slot = static_cast<int>(i);
      }
    }
    if (series_.channels.empty()) {
      fail(Exit::data, "no column holds values", "expected one column a channel beside the date column", header_line_);
    }
  }

  void find_date_column(Cells& cells) {
    series_.date_format.pattern = options_.date_format;
    if (!options_.date_column.empty()) {
      Column& column = named(options_.date_column, "--date-column");
      if (column.slot == skip_slot)
        fail(Exit::usage, fmt::format("'{}' is in --date-column and in --drop", column.name), "");
      column.slot = date_slot;
      series_.date_format.digits = Digits::years;
      return;
    }
    for (const std::string_view known : {"date", "ds", "timestamp", "datetime", "time"}) {
      for (Column& column : columns_) {
        if (column.slot != skip_slot && lower(column.name) == known) {
          column.slot = date_slot;
          // A `time` of 0900 is no year.
          series_.date_format.digits = known == "date" || known == "ds" ? Digits::years : Digits::moments;
          return;
        }
      }
    }
    while (cells.blank_line()) {
    }
    const Cells first_row = cells;
    std::string_view text;
    bool more = !cells.done();
    for (std::size_t i = 0; more && i < columns_.size(); ++i) {
      more = cells.cell(text);
      DateFormat format = series_.date_format;
      Stamp stamp;
      if (columns_[i].slot != skip_slot && parse_stamp(text, format, stamp)) {
        columns_[i].slot = date_slot;
        return;
      }
    }
    if (options_.date_format.empty() && find_digits(first_row)) return;
    fail(Exit::data, "no column holds dates (expected a column `date`, like 2016-07-01 00:00 or 2016/7/1 0:00)",
         "name it with --date-column, say how it is written with --date-format, or read the rows without dates: "
         "--no-date",
         header_line_);
  }

  // Digits alone are dates where all of them rise by a step: seconds since 1970 (or smaller parts) under any name,
  // years, months and days under a usual one.
  bool find_digits(const Cells& first_row) {
    static constexpr std::array<std::string_view, 10> names = {"year",  "jahr",   "annee",       "anno",  "ano",
                                                               "month", "period", "time_period", "datum", "day"};
    std::string_view text;
    Cells cells = first_row;
    bool more = !cells.done();
    for (std::size_t i = 0; more && i < columns_.size(); ++i) {
      more = cells.cell(text);
      if (columns_[i].slot == skip_slot) continue;
      const bool named = std::find(names.begin(), names.end(), lower(columns_[i].name)) != names.end();
      const std::size_t digits = text.substr(0, text.find('.')).size();
      DateFormat format;
      format.digits = named ? Digits::years : Digits::moments;
      Stamp stamp;
      if (!(named || (digits >= 10 && digits != 12 && digits != 14)) || !parse_stamp(text, format, stamp)) continue;
      std::vector<Stamp> dates;
      for (const std::string& date : texts_of(first_row, i)) {
        if (!parse_stamp(date, format, stamp) || (!dates.empty() && compare(dates.back(), stamp) >= 0)) break;
        dates.push_back(stamp);
      }
      // All of them, or a later reading finds the first that differs.
      if (dates.size() < 3 || !infer_step(dates).known()) continue;
      series_.date_format.digits = named ? Digits::years : Digits::moments;
      columns_[i].slot = date_slot;
      return true;
    }
    return false;
  }

  // The cells of a column from `cells` on.
  static std::vector<std::string> texts_of(Cells cells, std::size_t column) {
    std::vector<std::string> texts;
    while (!cells.done()) {
      if (cells.blank_line()) continue;
      std::string_view text;
      bool more = true;
      for (std::size_t i = 0; more; ++i) {
        more = cells.cell(text);
        if (i == column) texts.emplace_back(text);
      }
    }
    return texts;
  }

  void read_rows(Cells& cells) {
    const std::size_t width = series_.channels.size();
    // Every row has at least one byte a column, or is ragged: the bound keeps hostile headers from asking for memory.
    const auto lines = static_cast<std::size_t>(std::count(bytes_.begin(), bytes_.end(), '\n')) + 1;
    const std::size_t capacity = std::min(lines, bytes_.size() / columns_.size() + 1);
    series_.values.resize(width * capacity);
    series_.lines.reserve(capacity);
    // Rows are gathered in blocks and then transposed, so that many channels do not cost a page miss a value.
    constexpr std::size_t block_rows = 32;
    std::vector<double> block(block_rows * width, missing_value);
    const auto flush = [&](std::size_t rows) {
      const std::size_t first = series_.lines.size() - rows;
      for (std::size_t d = 0; d < width; ++d) {
        double* const to = series_.values.data() + d * capacity + first;
        for (std::size_t r = 0; r < rows; ++r) to[r] = block[r * width + d];
      }
      std::fill(block.begin(), block.end(), missing_value);
    };

    std::int64_t blank_line = 0;
    std::size_t in_block = 0;
    while (!cells.done() && series_.lines.size() < capacity) {
      const std::int64_t line = cells.line();
      if (cells.blank_line()) {
        if (blank_line == 0) blank_line = line;
        continue;
      }
      if (blank_line != 0) {
        ragged_.add(blank_line, 1, "0");
        blank_line = 0;
      }
      read_row(cells, line, block.data() + in_block * width);
      series_.lines.push_back(line);
      if (++in_block == block_rows) flush(std::exchange(in_block, 0));
    }
    flush(in_block);

    const std::size_t rows = series_.lines.size();
    if (rows == 0) fail(Exit::data, "no rows below the header", "expected one line a time step", header_line_);
    for (std::size_t d = 1; d < width && rows < capacity; ++d) {
      const auto from = series_.values.begin() + static_cast<std::ptrdiff_t>(d * capacity);
      std::copy(from, from + static_cast<std::ptrdiff_t>(rows),
                series_.values.begin() + static_cast<std::ptrdiff_t>(d * rows));
    }
    series_.values.resize(width * rows);
    series_.rows = static_cast<std::int64_t>(rows);
  }

  void read_row(Cells& cells, std::int64_t line, double* row) {
    std::string_view text;
    std::size_t i = 0;
    bool more = true;
    for (; more && i < columns_.size(); ++i) {
      Column& column = columns_[i];
      if (column.slot >= 0) {
        double& value = row[column.slot];
        if (cells.plain_decimal(value, more)) continue;
        more = cells.cell(text);
        const CellKind kind = read_cell(text, value);
        const auto place = static_cast<std::int64_t>(i) + 1;
        if (kind == CellKind::missing) column.missing.add(line, place, text);
        if (kind == CellKind::infinite) column.infinite.add(line, place, text);
        if (kind == CellKind::unparsable) column.unparsable.add(line, place, text);
        continue;
      }
      more = cells.cell(text);
      if (column.slot != date_slot) continue;
      Stamp stamp;
      if (!parse_stamp(text, series_.date_format, stamp))
        column.unparsable.add(line, static_cast<std::int64_t>(i) + 1, text);
      if (column.unparsable.count == std::ssize(series_.dates) + 1) date_texts_.emplace_back(text);
      series_.dates.push_back(stamp);
    }
    if (i == columns_.size() && !more) return;
    std::size_t found = i;
    for (; more; ++found) more = cells.cell(text);
    ragged_.add(line, static_cast<std::int64_t>(std::min(found, columns_.size() + 1)), fmt::format("{}", found));
    const bool has_date =
        std::any_of(columns_.begin(), columns_.end(), [](const Column& c) { return c.slot == date_slot; });
    if (has_date && series_.dates.size() == series_.lines.size()) {
      series_.dates.emplace_back();
      bad_dates_ = true;
    }
  }

  void report_cells() {
    if (ragged_.count > 0) {
      report(Severity::refuse, "ragged", ragged_,
             fmt::format("ragged row: {} cells, expected {}", ragged_.found, columns_.size()),
             "give every row one cell a column (quote cells that hold the delimiter)");
    }
    for (Column& column : columns_) {
      if (column.slot == date_slot) {
        if (column.unparsable.count == 0) continue;
        bad_dates_ = true;
        report(Severity::refuse, "date", column.unparsable,
               fmt::format("column '{}': '{}' is not a date (expected one like {}{})", column.name,
                           column.unparsable.found,
                           options_.date_format.empty() ? "2016-07-01 00:00:00 or 2016/7/1 0:00" : options_.date_format,
                           series_.date_format.zone == Zone::none ? "" : ", with an offset as in the rows before"),
               date_hint());
        continue;
      }
      if (column.slot == skip_slot) continue;
      if (column.unparsable.count > 0) report_unparsable(column);
      if (column.infinite.count > 0) {
        report(Severity::refuse, "infinite", column.infinite,
               fmt::format("column '{}': '{}' is infinite or beyond 1e100", column.name, column.infinite.found),
               or_drop("correct the value", column));
      }
      if (column.missing.count > 0) report_missing(column);
    }
  }

  // What reads the whole column; day and month order is never chosen for the user.
  std::string date_hint() const {
    const std::string any =
        "say how dates are written with --date-format (like %d/%m/%Y %H:%M), or choose --date-column";
    if (date_texts_.empty() || date_texts_.size() < series_.dates.size()) return any;
    DateFormat found;
    found.digits = series_.date_format.digits;
    Stamp stamp;
    if (std::all_of(date_texts_.begin(), date_texts_.end(),
                    [&](const auto& t) { return parse_stamp(t, found, stamp); })) {
      return "the dates are read without --date-format: leave it out";
    }
    const std::vector<std::string> patterns = possible_patterns(date_texts_);
    if (patterns.empty()) {
      const std::string_view text = date_texts_.front();
      const bool serial =
          text.substr(0, text.find('.')).size() == 5 && text.find_first_not_of("0123456789.") == text.npos;
      return serial ? "if it is a spreadsheet's day number, format the column as yyyy-mm-dd and export again" : any;
    }
    std::string hint =
        patterns.size() == 1 ? "every row is read with " : "several readings are possible; choose one of ";
    for (const std::string& pattern : patterns) {
      hint += fmt::format("{}--date-format '{}'", &pattern == &patterns.front() ? "" : " or ", pattern);
    }
    return hint;
  }

  void report_unparsable(const Column& column) {
    const Tally& tally = column.unparsable;
    if (tally.count + column.missing.count + column.infinite.count >= series_.rows) {
      report(Severity::refuse, "text-column", tally,
             fmt::format("column '{}' holds text ('{}'), expected numbers", column.name, tally.found),
             tally.found.find(',') != std::string::npos ? "write decimal points, not commas"
                                                        : or_drop("write numbers", column));
      return;
    }
    report(Severity::refuse, "unparsable", tally,
           fmt::format("column '{}': '{}' is not a number", column.name, tally.found),
           tally.found.find(',') != std::string::npos ? "write decimal points, not commas"
                                                      : or_drop("correct the value", column));
  }

  void report_missing(const Column& column) {
    Tally tally = column.missing;
    if (options_.missing_allowed_before_last >= 0) {
      const std::int64_t first = std::max<std::int64_t>(series_.rows - options_.missing_allowed_before_last, 0);
      const auto values = series_.channel(column.slot).subspan(static_cast<std::size_t>(first));
      const auto found = std::find_if(values.begin(), values.end(), [](double v) { return std::isnan(v); });
      if (found == values.end()) {
        report(Severity::warn, "missing", tally,
               fmt::format("column '{}': missing value, in rows that are not used", column.name), "");
        return;
      }
      tally.line = series_.lines[static_cast<std::size_t>(first + (found - values.begin()))];
      tally.count = std::count_if(values.begin(), values.end(), [](double v) { return std::isnan(v); });
    }
    report(Severity::refuse, "missing", tally,
           fmt::format("column '{}': missing value{}", column.name,
                       tally.found.empty() ? " (an empty cell)" : fmt::format(" ('{}')", tally.found)),
           missing_remedy(column));
  }

  std::string missing_remedy(const Column& column) const {
    if (options_.missing_allowed_before_last < 0) return or_drop("fill the value in", column);
    const std::int64_t row = last_complete_row(series_, options_.missing_allowed_before_last);
    if (row < 0 || bad_dates_) return "fill the value in";
    return fmt::format("fill the value in, or forecast from a row before it: --origin {}", origin_word(series_, row));
  }

  void report_dates() {
    const std::vector<Stamp>& dates = series_.dates;
    if (bad_dates_ || dates.empty()) {
      if (!options_.freq.empty()) series_.step = parse_freq(options_.freq, {});
      return;
    }
    const auto place =
        std::find_if(columns_.begin(), columns_.end(), [](const Column& c) { return c.slot == date_slot; });
    const std::int64_t column = place - columns_.begin() + 1;
    locate_dates(column);
    const bool asked = !options_.freq.empty();
    const Step found = infer_step(dates);
    series_.step = asked ? parse_freq(options_.freq, dates) : found;
    const bool jitter = jitters(dates, series_.step);
    const bool contradicts = asked && found.known() && found != series_.step && !agrees(dates, series_.step) && !jitter;
    const auto at = [&](std::size_t row) { return series_.date(static_cast<std::int64_t>(row)); };
    if (!contradicts) series_.holes = find_holes(dates, series_.step);
    Tally backwards, repeated, gap, irregular;
    ClockChange backwards_change, repeated_change, gap_change;
    const auto see_change = [&](ClockChange& change, std::size_t t) {
      const std::string zone =
          series_.zone || !is_local(series_.date_format) ? "" : zone_of_change(dates[t - 1], dates[t]);
      if (!zone.empty() && change.count++ == 0) change.zone = zone;
    };
    std::int64_t absent = 0;
    for (std::size_t t = 1; t < dates.size(); ++t) {
      const int order = compare(dates[t - 1], dates[t]);
      if (order > 0) backwards.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
      if (order == 0) repeated.add(series_.lines[t], column, at(t));
      if (order >= 0) see_change(order > 0 ? backwards_change : repeated_change, t);
      if (order >= 0 || !series_.step.known() || contradicts) continue;
      const auto steps = jitter ? nearest_steps(dates[t - 1], dates[t], series_.step)
                                : steps_between(dates[t - 1], dates[t], series_.step);
      if (!steps || *steps < 1) irregular.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
      if (steps && *steps > 1) {
        gap.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
        absent += *steps - 1;
        see_change(gap_change, t);
      }
    }
    if (backwards.count > 0) {
      report(Severity::refuse, "date-order", backwards, fmt::format("dates out of order: {}", backwards.found),
             backwards_change.hint(backwards.count, "sort the rows by date"));
    }
    if (repeated.count > 0) {
      report(Severity::warn, "repeated", repeated, fmt::format("repeated time step: {}", repeated.found),
             repeated_change.hint(repeated.count, "keep one row a time step"));
    }
    if (gap.count > 0) {
      report(Severity::warn, "gap", gap,
             fmt::format("gap: {} at a step of {}, {} rows are absent in all", gap.found, series_.step.name(), absent),
             gap_change.hint(gap.count,
                             series_.holes.empty() ? "rows are taken as if they were evenly spaced"
                                                   : "windows across it are left out; fill it in, or take rows as "
                                                     "evenly spaced: --holes close"));
    }
    if (irregular.count > 0) {
      report(Severity::warn, "irregular", irregular,
             fmt::format("irregular time step: {} at a step of {}", irregular.found, series_.step.name()),
             "rows are taken as if they were evenly spaced");
    }
    if (asked && backwards.count == 0) report_freq(found, contradicts, column);
    if (!series_.step.known() && dates.size() > 1 && backwards.count == 0) {
      Tally step;
      step.add(series_.lines[1], column, "");
      const Step grid = grid_of(dates);
      report(Severity::warn, "step", step, "no regular step: fewer than 90 % of the dates' differences agree",
             grid.known()
                 ? fmt::format("where rows are absent, say --freq {}; without it no forecast can be dated", grid.freq())
                 : no_freq_hint());
    }
  }

  // Gives local times their offsets. Of a repeated hour the rows that do not rise are the second one.
  void locate_dates(std::int64_t column) {
    const DateFormat& format = series_.date_format;
    if (!is_local(format)) return check_zone(column);
    if (!series_.zone) return;
    Tally absent;
    const Stamp* before = nullptr;
    for (std::size_t t = 0; t < series_.dates.size(); ++t) {
      Stamp& stamp = series_.dates[t];
      const TimeZone::Hour hour = series_.zone->locate(stamp);
      if (hour == TimeZone::Hour::repeated && before != nullptr && compare(*before, stamp) >= 0) {
        series_.zone->locate_after(stamp);
      }
      // Days may begin at one.
      if (hour == TimeZone::Hour::absent && second_of_day(stamp) > 0) {
        absent.add(series_.lines[t], column, series_.date(static_cast<std::int64_t>(t)));
      }
      before = &stamp;
    }
    if (absent.count == 0) return;
    report(Severity::refuse, "date", absent,
           fmt::format("{} does not exist in {}: the clocks go forward over it", absent.found, options_.timezone),
           "correct the date, or leave --timezone out");
  }

  // Dates that say their offsets need a zone for those of a forecast only: --timezone, or the one in brackets.
  void check_zone(std::int64_t column) {
    if (series_.date_format.zone <= Zone::gmt) {
      series_.zone.reset();
      return;
    }
    if (!series_.zone && TimeZone::exists(series_.date_format.region)) {
      series_.zone = std::make_shared<TimeZone>(series_.date_format.region);
    }
    Tally other;
    for (std::size_t t = 0; series_.zone && t < series_.dates.size(); ++t) {
      Stamp stamp = series_.dates[t];
      series_.zone->convert(stamp);
      if (stamp != series_.dates[t]) other.add(series_.lines[t], column, series_.date(static_cast<std::int64_t>(t)));
    }
    if (other.count == 0) return;
    if (options_.timezone.empty()) return series_.zone.reset();
    report(Severity::refuse, "date", other, fmt::format("{} has not the offset of {}", other.found, options_.timezone),
           "the dates say their offsets: leave --timezone out");
  }

  // Rows where a local time's clock is changed.
  struct ClockChange {
    std::int64_t count = 0;
    std::string zone;

    std::string hint(std::int64_t of, const std::string& other) const {
      if (count == 0) return other;
      const std::string flag = fmt::format("if the clock of a place was changed here, name it: --timezone {}", zone);
      return count == of ? flag : other + "; " + flag;
    }
  };

  std::string no_freq_hint() const {
    const std::string& name =
        std::find_if(columns_.begin(), columns_.end(), [](const Column& c) { return c.slot == date_slot; })->name;
    return fmt::format("no --freq can express these dates; read the rows without them: --no-date{}",
                       options_.columns_of_model ? "" : " --drop " + names_word(std::span(&name, 1)));
  }

  // A --freq that is not the rows' step, or that the notation of their dates cannot write.
  void report_freq(const Step& found, bool contradicts, std::int64_t column) {
    Tally tally;
    tally.add(series_.lines.back(), column, "");
    const std::string remedy =
        found.known() ? fmt::format("leave --freq out, or say --freq {}", found.freq()) : "leave --freq out";
    for (const Stamp& next : continue_dates(series_.dates.back(), series_.step, 2, series_.zone.get())) {
      DateFormat format = series_.date_format;
      Stamp read;
      if (parse_stamp(format_stamp(next, format), format, read) && read.seconds == next.seconds &&
          read.nanoseconds == next.nanoseconds) {
        continue;
      }
      report(Severity::refuse, "freq", tally,
             fmt::format("--freq {}: dates written like {} cannot tell rows {} apart", options_.freq,
                         series_.date(series_.rows - 1), series_.step.name()),
             remedy);
      return;
    }
    if (!contradicts) return;
    report(Severity::warn, "freq", tally, fmt::format("--freq {}: the rows' step is {}", options_.freq, found.name()),
           remedy);
  }

  void report_values() {
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const Column& column = columns_[i];
      if (column.slot < 0) continue;
      if (std::string_view("=+-@\r").find(column.name[0]) != std::string_view::npos) {
        Tally tally;
        tally.add(header_line_, static_cast<std::int64_t>(i) + 1, "");
        report(Severity::warn, "formula", tally,
               fmt::format("column '{}': spreadsheets take this name for a formula", column.name),
               "rename it before you open a forecast of it in one");
      }
      const auto values = series_.channel(column.slot);
      double least = std::numeric_limits<double>::infinity();
      double most = -least;
      for (const double value : values) {
        least = value < least ? value : least;
        most = value > most ? value : most;
      }
      const auto tally_of = [&](double wanted) {
        Tally tally;
        for (std::size_t t = 0; t < values.size(); ++t) {
          if (values[t] == wanted) tally.add(series_.lines[t], static_cast<std::int64_t>(i) + 1, "");
        }
        return tally;
      };
      if (least == most) {
        Tally tally = tally_of(least);
        if (tally.count < 2) continue;
        tally.count = 1;
        report(Severity::warn, "constant", tally, fmt::format("column '{}' is constant ({})", column.name, least),
               or_drop("its scaler divides by 1; look why it does not vary", column));
        continue;
      }
      for (const double extreme : {least, most}) {
        if (!is_sentinel(extreme, values)) continue;
        report(Severity::warn, "sentinel", tally_of(extreme),
               fmt::format("column '{}': {} stands far from all other values, a code for a missing value?", column.name,
                           extreme),
               "if it is one, replace it by a measured or interpolated value");
      }
    }
  }

  // One of the usual codes, farther from the other values than these are from each other.
  static bool is_sentinel(double extreme, std::span<const double> values) {
    static constexpr std::array<double, 8> usual_codes = {99, 999, 9999, 99999, 999999, 99.9, 999.9, 9999.9};
    if (std::find(usual_codes.begin(), usual_codes.end(), std::abs(extreme)) == usual_codes.end()) return false;
    double least = std::numeric_limits<double>::infinity();
    double most = -least;
    for (const double value : values) {
      if (value == extreme) continue;
      least = value < least ? value : least;
      most = value > most ? value : most;
    }
    return least <= most && (extreme < least ? least - extreme : extreme - most) > most - least;
  }

  std::string_view bytes_;
  const SeriesOptions& options_;
  Series series_;
  std::int64_t header_line_ = 1;
  std::vector<Column> columns_;
  std::vector<std::string> date_texts_;  // of the rows from the first on that hold no date
  Tally ragged_;
  bool bad_dates_ = false;
};

}  // namespace

Series parse_csv(std::string_view bytes, const std::string& path, const SeriesOptions& options) {
  return CsvReader(bytes, path, options).read();
}

}  // namespace samformer::model
