#include "model/data/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "model/data/cells.h"
#include "model/data/civil.h"
#include "model/data/columns.h"
#include "model/data/layout.h"
#include "model/data/numbers.h"
#include "model/data/repair.h"

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
  Tally missing, infinite, unparsable, account;
  std::int64_t with_comma = 0, with_point = 0;  // unparsable cells that are numbers with --decimal comma, point
  std::string unit;                             // beside the first unparsable cell's number
};

// Lines that are no part of the table.
struct Skipped {
  std::vector<std::int64_t> lines;  // the first ones
  std::int64_t count = 0;
  std::string first;

  void add(std::int64_t line, std::string_view text) {
    constexpr std::size_t most = 5;
    if (count++ == 0) first = shown(text, 40);
    if (lines.size() < most) lines.push_back(line);
  }
  // "lines 1, 2 and 9 are", "line 7 is"
  std::string which() const {
    std::string text = count == 1 ? "line " : "lines ";
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const bool last = i + 1 == static_cast<std::size_t>(count);
      text += fmt::format("{}{}", i == 0 ? "" : last ? " and " : ", ", lines[i]);
    }
    if (count > std::ssize(lines)) text += fmt::format(" and {} more", count - std::ssize(lines));
    return text + (count == 1 ? " is" : " are");
  }
};

// A cell that is no number or no date, until it is known that its row is part of the table.
struct Odd {
  static constexpr std::size_t whole_row = static_cast<std::size_t>(-1);

  std::size_t column = whole_row;
  CellKind kind = CellKind::unparsable;
  std::int64_t line = 0, place = 0;
  std::string text;
};

// A column that holds a part of the date.
struct Part {
  enum class Role { whole, time, hour, year, month, day, minute };

  std::size_t column = 0;
  Role role = Role::whole;
  std::string text;  // of the row being read
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
    bytes_ = table_text(bytes_, series_.path, mended_);
    layout_ = find_layout(bytes_, series_.path, options_);
    if (!layout_.above.empty()) {
      for (const std::int64_t line : layout_.above) above_.add(line, layout_.first_above);
    }
    split_decimals_ = layout_.decimal_commas && options_.decimal == Decimal::comma;
    Cells cells(bytes_, layout_.delimiter, series_.path, options_.decimal == Decimal::comma ? ',' : '.');
    if (layout_.header.at != nullptr) cells.go_to(layout_.header);
    read_header(cells);
    const Cells::Mark body = cells.mark();
    choose_columns(cells);
    read_rows(cells);
    if (series_.rows == 0) {  // what was skipped is all there is: say what is wrong with it
      skipping_ = false;
      skipped_ = {};
      cells.go_to(body);
      read_rows(cells);
    }
    if (series_.rows == 0) fail(Exit::data, "no rows below the header", "expected one line a time step", header_line_);
    describe_parts();
    refuse_long_form(cells, body);
    report_skipped();
    report_cells();
    report_dates();
    report_thousands(cells, body);
    leave_out_no_series();
    report_values();
    note_places();
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

  void read_header(Cells& cells) {
    header_line_ = cells.line();
    std::string_view text;
    bool more = true;
    bool numbers = true;
    bool decimals = false;
    std::size_t dates = 0;
    std::unordered_set<std::string> seen;
    while (more) {
      more = cells.cell(text);
      if (layout_.columns > 0 && columns_.size() == layout_.columns) continue;  // unnamed and empty
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
      dates += looks_like_date(text) ? 1 : 0;
      numbers &= date || read_cell(text, Decimal::found, value) == CellKind::number;
      decimals |= date || text.find('.') != std::string_view::npos;
      columns_.emplace_back().name = text.empty() ? fmt::format("column_{}", column) : to_utf8(text);
      if (!seen.insert(columns_.back().name).second) {
        fail(Exit::data, fmt::format("two columns are named '{}'", columns_.back().name), "rename one of them",
             header_line_, column);
      }
    }
    if (dates > 2 && 2 * dates > columns_.size() && !options_.no_date) refuse_transposed("dates");
    // Whole numbers are what programs name unnamed columns; anything else is a first row of data.
    if (numbers && decimals) {
      fail(Exit::data, "the first line holds data, expected the columns' names", "put a line of names above the data",
           header_line_, 1);
    }
  }

  [[noreturn]] void refuse_transposed(const char* what) const {
    fail(Exit::data, fmt::format("a transposed table: {} run along the header, expected one row a time step", what),
         "write one row a date and one column a series", header_line_);
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
         guess(name, names(), "its columns are: " + listed(names())), header_line_);
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

  // A model's columns cannot be left out, nor the only one.
  std::string or_drop(const std::string& remedy, const Column& column) const {
    if (options_.columns_of_model || series_.channels.size() == 1) return remedy;
    std::vector<std::string> rest = series_.channels;
    std::erase(rest, column.name);
    return fmt::format("{}, or leave the column out: {}", remedy,
                       options_.columns.empty() ? drop_flag(options_, {column.name}) : "--columns " + names_word(rest));
  }

  // Sets every column's slot.
  void choose_columns(const Cells& body) {
    constexpr int channel_slot = 0;
    for (Column& column : columns_) column.slot = channel_slot;
    for (const std::string& name : join_known(options_.drop, names())) {
      // Another file may lack what the model never read.
      const bool absent =
          options_.columns_of_model && std::ranges::find(columns_, name, &Column::name) == columns_.end();
      if (!absent) named(name, "--drop").slot = skip_slot;
    }
    if (!options_.no_date) find_date_column(body);

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

  // A cell of the first rows; empty beyond them.
  std::string_view first_cell(std::size_t column, std::size_t row = 0) const {
    if (row >= layout_.rows.size() || column >= layout_.rows[row].size()) return "";
    return layout_.rows[row][column];
  }

  void find_date_column(const Cells& body) {
    series_.date_format.pattern = options_.date_format;
    if (!options_.date_column.empty()) {
      const std::vector<std::string> all = names();
      for (const std::string& name : join_known(split_names(options_.date_column), all)) {
        Column& column = named(name, "--date-column");
        if (column.slot == skip_slot)
          fail(Exit::usage, fmt::format("'{}' is in --date-column and in --drop", column.name), "");
        add_part(static_cast<std::size_t>(&column - columns_.data()), Part::Role::whole);
      }
      series_.date_format.digits = Digits::years;
      if (parts_.size() > 1) choose_roles();
      return;
    }
    const std::optional<std::size_t> date = date_by_name();
    if (date && may_be_date(*date)) {
      series_.date_format.digits = digits_of(columns_[*date].name);
      add_part(*date, Part::Role::whole);
      find_time_column();
      return;
    }
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      DateFormat format = series_.date_format;
      Stamp stamp;
      if (columns_[i].slot == skip_slot || !parse_stamp(first_cell(i), format, stamp)) continue;
      add_part(i, Part::Role::whole);
      find_time_column();
      return;
    }
    if (find_fields()) return;
    if (options_.date_format.empty() && find_digits(body)) return;
    if (date) {
      series_.date_format.digits = digits_of(columns_[*date].name);
      add_part(*date, Part::Role::whole);
      return;
    }
    std::size_t years = 0;
    for (std::size_t i = 1; i < columns_.size(); ++i) {
      const auto year = [&](std::size_t k) {
        const std::string& name = columns_[k].name;
        return name.size() == 4 && name > "1000" && name < "3000" && name.find_first_not_of("0123456789") == name.npos
                   ? std::stoi(name)
                   : 0;
      };
      years += year(i) != 0 && (year(i - 1) == 0 || year(i) == year(i - 1) + 1) ? 1 : 0;
    }
    if (years > 2 && 2 * years > columns_.size()) refuse_transposed("years");
    std::vector<double> first;
    for (std::size_t t = 0; t < layout_.rows.size(); ++t)
      read_cell(first_cell(0, t), options_.decimal, first.emplace_back());
    if (columns_.size() > 1 && columns_[0].slot != skip_slot && rises_evenly(first)) {
      fail(Exit::data, fmt::format("no column holds dates; '{}' rises evenly, as time does", columns_[0].name),
           fmt::format("read the rows without dates: --no-date {}", drop_flag(options_, {columns_[0].name})),
           header_line_);
    }
    if (options_.date_format.empty()) name_formats(body);
    fail(Exit::data, "no column holds dates (expected a column `date`, like 2016-07-01 00:00 or 2016/7/1 0:00)",
         "name it with --date-column, say how it is written with --date-format, or read the rows without dates: "
         "--no-date",
         header_line_);
  }

  // Refuses with the formats that read a whole column, if there are some.
  void name_formats(const Cells& body) const {
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string_view text = first_cell(i);
      const std::size_t sign = text.find_first_not_of("+-") == 1 ? 1 : 0;
      const bool number = text.find_first_not_of("0123456789", sign) == text.npos;
      if (columns_[i].slot == skip_slot || number || possible_patterns(std::vector{std::string(text)}).empty())
        continue;
      const std::string found = shown(text, 40);
      const std::vector<std::string> patterns = possible_patterns(texts_of(body, i));
      if (patterns.empty()) continue;
      fail(Exit::data,
           fmt::format("column '{}': '{}' is not a date that can be read without --date-format", columns_[i].name,
                       found),
           formats_hint(patterns), header_line_, static_cast<std::int64_t>(i) + 1);
    }
  }

  // Digits alone are dates where all of them rise by a step: seconds since 1970 (or smaller parts) under any name,
  // years, months and days under a usual one.
  bool find_digits(const Cells& body) {
    static constexpr std::array<std::string_view, 9> names = {"year",  "jahr",   "annee",       "anno", "ano",
                                                              "month", "period", "time_period", "day"};
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].slot == skip_slot || chosen_as_channel(i)) continue;
      const bool named = std::ranges::find(names, lower(columns_[i].name)) != names.end();
      const std::string_view first = first_cell(i);
      const std::size_t digits = first.substr(0, first.find('.')).size();
      DateFormat format;
      format.digits = named ? Digits::years : Digits::moments;
      Stamp stamp;
      if (!parse_stamp(first, format, stamp)) continue;
      const std::vector<Stamp> dates = rising_dates(body, i, format);
      if (dates.size() < 3 || !infer_step(dates).known()) continue;
      if (!named && (digits < 10 || digits == 12 || digits == 14)) {
        fail(Exit::data, fmt::format("column '{}': '{}' may be a date or a number", columns_[i].name, first),
             "if it is a date, say so: --date-column " + names_word(std::span(&columns_[i].name, 1)), header_line_,
             static_cast<std::int64_t>(i) + 1);
      }
      series_.date_format.digits = format.digits;
      add_part(i, Part::Role::whole);
      return true;
    }
    return false;
  }

  // The cells of a column from `cells` on.
  static std::vector<std::string> texts_of(Cells cells, std::size_t column) {
    std::vector<std::string> texts;
    std::string_view text;
    while (!cells.done()) {
      if (cells.blank_line()) continue;
      std::size_t i = 0;
      for (bool more = true; more; ++i) {
        more = cells.cell(text);
        if (i == column) texts.emplace_back(text);
      }
    }
    return texts;
  }

  // The dates of a column from the first one on, up to the first cell that is none (a later reading finds it); none
  // where one is not later than the one before.
  static std::vector<Stamp> rising_dates(Cells cells, std::size_t column, DateFormat format) {
    std::vector<Stamp> dates;
    std::string_view text;
    while (!cells.done()) {
      if (cells.blank_line()) continue;
      std::size_t i = 0;
      Stamp stamp;
      bool date = false;
      for (bool more = true; more; ++i) {
        more = cells.cell(text);
        date |= i == column && parse_stamp(text, format, stamp);
      }
      if (date && (dates.empty() || compare(dates.back(), stamp) < 0)) {
        dates.push_back(stamp);
      } else if (date) {
        return {};
      } else if (!dates.empty()) {
        break;
      }
    }
    return dates;
  }

  void add_part(std::size_t column, Part::Role role) {
    columns_[column].slot = date_slot;
    parts_.push_back({column, role, ""});
  }

  std::optional<std::size_t> named_one_of(std::initializer_list<std::string_view> names) const {
    for (const std::string_view name : names) {
      for (std::size_t i = 0; i < columns_.size(); ++i) {
        if (columns_[i].slot != skip_slot && lower(columns_[i].name) == name) return i;
      }
    }
    return std::nullopt;
  }
  std::optional<std::size_t> date_by_name() const {
    return named_one_of({"date", "ds", "timestamp", "datetime", "datum", "fecha", "time"});
  }
  // A `time` of 0900 is no year.
  static Digits digits_of(const std::string& name) {
    const std::string small = lower(name);
    return small == "timestamp" || small == "datetime" || small == "time" ? Digits::moments : Digits::years;
  }
  // A time of day alone is none.
  bool may_be_date(std::size_t column) const { return !is_clock(first_cell(column)); }

  static bool is_clock(std::string_view text) {
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
    return digits >= 1 && digits <= 2 && text.substr(digits).starts_with(':');
  }
  static bool is_small_number(std::string_view text) {
    return !text.empty() && text.size() <= 2 && text.find_first_not_of("0123456789") == text.npos;
  }

  bool chosen_as_channel(std::size_t column) const {
    return std::ranges::find(options_.columns, columns_[column].name) != options_.columns.end();
  }

  // A time of day beside a date without one. An hour only where it tells apart rows of the same date.
  void find_time_column() {
    const std::string_view date = first_cell(parts_[0].column);
    DateFormat format = series_.date_format;
    Stamp stamp;
    const bool has_time = parse_stamp(date, format, stamp) && (format.time || !is_local(format));
    if (date.empty() || date.find(':') != date.npos || has_time) return;
    const auto time = named_one_of({"time", "zeit", "uhrzeit", "heure", "hora", "time of day", "hour", "hr", "stunde"});
    if (!time || *time == parts_[0].column || chosen_as_channel(*time)) return;
    const std::string_view first = first_cell(*time);
    if (is_clock(first)) {
      add_part(*time, Part::Role::time);
    } else if (is_small_number(first) && first != first_cell(*time, 1) && date == first_cell(parts_[0].column, 1)) {
      add_part(*time, Part::Role::hour);
    } else {
      return;
    }
    choose_pattern();
  }

  static Part::Role field_of(const std::string& name) {
    static const std::vector<std::pair<Part::Role, std::vector<std::string_view>>> known = {
        {Part::Role::year,
         {"year", "yr", "yyyy", "jahr", "annee",
          "ann\xC3\xA9"
          "e",
          "a\xC3\xB1o", "ano"}},
        {Part::Role::month, {"month", "mon", "mo", "monat", "mois", "mes", "mm"}},
        {Part::Role::day,
         {"day", "dd", "dom", "tag", "jour", "dia",
          "d\xC3\xAD"
          "a"}},
        {Part::Role::hour, {"hour", "hr", "hh", "stunde", "heure", "hora"}},
        {Part::Role::minute, {"minute", "min", "minuto"}}};
    for (const auto& [role, names] : known) {
      if (std::ranges::find(names, lower(name)) != names.end()) return role;
    }
    return Part::Role::whole;
  }

  // Year, month, and what there is of day, hour and minute or time.
  bool find_fields() {
    std::vector<Part> found;
    for (const auto role :
         {Part::Role::year, Part::Role::month, Part::Role::day, Part::Role::hour, Part::Role::minute}) {
      std::size_t i = 0;
      while (i < columns_.size() && (columns_[i].slot == skip_slot || field_of(columns_[i].name) != role)) ++i;
      if (i < columns_.size() && !chosen_as_channel(i)) {
        found.push_back({i, role, ""});
      } else if (role != Part::Role::hour || !is_clock_column()) {
        if (role == Part::Role::year || role == Part::Role::month) return false;
        break;
      } else {
        found.push_back({*named_one_of({"time", "zeit", "uhrzeit", "heure", "hora"}), Part::Role::time, ""});
        break;
      }
    }
    if (first_cell(found[0].column).size() != 4) return false;
    for (const Part& part : found) add_part(part.column, part.role);
    choose_roles();
    return true;
  }
  bool is_clock_column() const {
    const auto time = named_one_of({"time", "zeit", "uhrzeit", "heure", "hora"});
    return time && is_clock(first_cell(*time));
  }

  // Of columns that --date-column names together, or that find_fields found.
  void choose_roles() {
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      Part& part = parts_[k];
      const std::string_view cell = first_cell(part.column);
      if (k > 0 && is_clock(cell)) {
        part.role = Part::Role::time;
      } else if (k == 0 ? cell.size() == 4
                        : is_small_number(cell) || field_of(columns_[part.column].name) == Part::Role::month) {
        part.role = field_of(columns_[part.column].name);
      }
    }
    choose_pattern();
  }

  // What the parts with a blank between them are written as. Dates without a pattern are read as ever.
  void choose_pattern() {
    std::string& pattern = series_.date_format.pattern;
    const bool fields = parts_[0].role == Part::Role::year;
    const bool has_time = pattern.find("%H") != pattern.npos || pattern.find("%I") != pattern.npos;
    if (pattern.empty() ? !fields : has_time) return;
    const bool given = !pattern.empty();
    for (const Part& part : parts_) {
      const std::string_view cell = first_cell(part.column);
      const auto add = [&](std::string_view what) { pattern += (pattern.empty() ? "" : " ") + std::string(what); };
      switch (part.role) {
        case Part::Role::year:
          if (!given) add("%Y");
          break;
        case Part::Role::month:
          if (!given) add(is_small_number(cell) ? "%m" : cell.size() == 3 ? "%b" : "%B");
          break;
        case Part::Role::day:
          if (!given) add("%d");
          break;
        case Part::Role::hour:
          add(parts_.back().role == Part::Role::minute ? "%H" : "%H:00");
          break;
        case Part::Role::minute:
          add("%M");
          break;
        case Part::Role::time: {
          const bool noon = lower(cell).ends_with("m");
          add(noon ? "%I:%M" : "%H:%M");
          if (std::ranges::count(cell, ':') > 1) pattern += cell.find('.') == cell.npos ? ":%S" : ":%S.%f";
          if (noon) pattern += cell.find(' ') == cell.npos ? "%p" : " %p";
          break;
        }
        case Part::Role::whole:
          break;
      }
    }
  }

  // The date of a row whose cells were kept in parts_.
  std::string joined_date() {
    std::string date;
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      Part& part = parts_[k];
      if (part.role == Part::Role::minute && part.text.size() == 1) part.text.insert(0, 1, '0');
      if (part.role == Part::Role::hour && parts_.back().role != Part::Role::minute) part.text += ":00";
      date += (k > 0 ? " " : "") + part.text;
    }
    return date;
  }

  // How a forecast's dates are put into the file's columns.
  void describe_parts() {
    if (parts_.size() < 2) return;
    std::size_t word = 0;
    std::vector<std::pair<std::size_t, Series::DatePart>> described;
    for (const Part& part : parts_) {
      const std::string_view cell = first_cell(part.column);
      const auto words = static_cast<std::size_t>(std::ranges::count(cell, ' ')) + 1;
      described.push_back({part.column,
                           {.name = columns_[part.column].name,
                            .first_word = word,
                            .words = words,
                            .padded = part.role != Part::Role::minute || cell.size() != 1,
                            .hour = part.role == Part::Role::hour}});
      word += words;
    }
    std::ranges::sort(described, {}, [](const auto& d) { return d.first; });
    for (auto& [column, part] : described) series_.date_parts.push_back(std::move(part));
  }

  void note_places() {
    series_.value_columns.resize(series_.channels.size());
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].slot == date_slot) series_.date_columns.push_back(i);
      if (columns_[i].slot >= 0) series_.value_columns[static_cast<std::size_t>(columns_[i].slot)] = i;
    }
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

    std::vector<std::int64_t> blank;
    std::vector<std::pair<std::int64_t, std::string>> footer;  // of rows that are footers if no row of data follows
    std::size_t in_block = 0;
    while (!cells.done() && series_.lines.size() < capacity) {
      const std::int64_t line = cells.line();
      if (cells.blank_line()) {
        blank.push_back(line);
        continue;
      }
      for (const std::int64_t at : std::exchange(blank, {})) {
        if (columns_.size() == 1) {
          ragged_.add(at, 1, "0");  // a step without its value
        } else {
          skipped_.add(at, "");
        }
      }
      double* const values = block.data() + in_block * width;
      const RowKind kind = read_row(cells, line, values);
      if (kind == RowKind::skipped) {
        skipped_.add(line, row_cells_[0]);
        continue;
      }
      if (kind == RowKind::footer) {
        footer.emplace_back(line, row_cells_[0]);
      } else if (!odd_.empty()) {
        commit_odd();
        footer.clear();
      } else {
        footer.clear();
      }
      series_.lines.push_back(line);
      if (++in_block == block_rows) flush(std::exchange(in_block, 0));
    }
    flush(in_block);

    if (cells.done()) {
      for (const auto& [line, text] : footer) skipped_.add(line, text);
      series_.lines.resize(series_.lines.size() - footer.size());
      if (!series_.dates.empty()) series_.dates.resize(series_.lines.size());
      odd_.clear();
    }
    commit_odd();
    const std::size_t rows = series_.lines.size();
    for (std::size_t d = 1; d < width && rows < capacity; ++d) {
      const auto from = series_.values.begin() + static_cast<std::ptrdiff_t>(d * capacity);
      std::copy(from, from + static_cast<std::ptrdiff_t>(rows),
                series_.values.begin() + static_cast<std::ptrdiff_t>(d * rows));
    }
    series_.values.resize(width * rows);
    series_.rows = static_cast<std::int64_t>(rows);
  }

  enum class RowKind { data, skipped, footer };

  // What is odd with its cells waits in odd_.
  RowKind read_row(Cells& cells, std::int64_t line, double* row) {
    const Cells::Mark start = cells.mark();
    const std::size_t odd_before = odd_.size();
    std::string_view text;
    std::size_t i = 0, place = 0, values = 0;
    bool more = true, dated = true;
    for (; more && i < columns_.size(); ++i) {
      Column& column = columns_[i];
      ++place;
      if (split_decimals_ && i >= layout_.single) {
        more = cells.cell(text);
        std::string joined(text);
        if (more) {
          more = cells.cell(text);
          ++place;
          joined += ',' + std::string(text);
        }
        if (column.slot >= 0) {
          ++values;
          take_value(joined, i, line, place - 1, row[column.slot]);
        }
        continue;
      }
      if (column.slot >= 0) {
        ++values;
        double& value = row[column.slot];
        if (cells.plain_decimal(value, more)) continue;
        more = cells.cell(text);
        take_value(text, i, line, place, value);
        continue;
      }
      more = cells.cell(text);
      if (column.slot != date_slot) continue;
      if (parts_.size() > 1) {
        std::ranges::find(parts_, i, &Part::column)->text = text;
        continue;
      }
      dated = take_date(text, line, place);
    }
    const bool complete = i == columns_.size();
    if (parts_.size() > 1 && complete) {
      dated = take_date(joined_date(), line, parts_[0].column + 1);
    } else if (!parts_.empty() && series_.dates.size() == series_.lines.size()) {
      series_.dates.emplace_back();
      dated = false;
    }
    std::size_t found = place;
    bool extra = false;  // empty cells at the end are a delimiter too many
    while (more) {
      more = cells.cell(text);
      ++found;
      extra |= !text.empty();
    }
    const bool ragged = !complete || extra;
    if (ragged) {
      const auto expected = columns_.size();
      odd_.push_back({Odd::whole_row, CellKind::unparsable, line,
                      static_cast<std::int64_t>(std::min(found, expected + 1)), fmt::format("{}", found)});
    }
    const bool no_value = parts_.empty() && odd_.size() - odd_before >= values;
    if (!skipping_ || !(ragged || !dated || no_value)) return RowKind::data;
    const RowKind kind = kind_of_row(cells, start, dated && !parts_.empty());
    if (kind == RowKind::skipped) {
      for (std::size_t k = 0; k < i; ++k) {
        if (columns_[k].slot >= 0) row[columns_[k].slot] = missing_value;
      }
      odd_.resize(odd_before);
      if (!parts_.empty()) series_.dates.pop_back();
    }
    return kind;
  }

  void take_value(std::string_view text, std::size_t column, std::int64_t line, std::size_t place, double& value) {
    const CellKind kind = read_cell(text, options_.decimal, value);
    if (kind != CellKind::number) {
      odd_.push_back({column, kind, line, static_cast<std::int64_t>(place), std::string(text)});
    }
  }

  bool take_date(std::string_view text, std::int64_t line, std::size_t place) {
    Stamp stamp;
    const bool read = parse_stamp(text, series_.date_format, stamp);
    if (!read) {
      odd_.push_back(
          {parts_[0].column, CellKind::unparsable, line, static_cast<std::int64_t>(place), std::string(text)});
    }
    series_.dates.push_back(stamp);
    return read;
  }

  // Whether a row that something is wrong with is a time step at all: it is if it has a date, or may have one.
  RowKind kind_of_row(Cells& cells, Cells::Mark start, bool dated) {
    const Cells::Mark after = cells.mark();
    cells.go_to(start);
    row_cells_.clear();
    std::string_view text;
    std::size_t filled = 0, numbers = 0, words = 0;
    for (bool more = true; more;) {
      more = cells.cell(text);
      row_cells_.emplace_back(text);
      if (text.empty()) continue;
      ++filled;
      double value = 0;
      DateFormat format = series_.date_format;
      Stamp stamp;
      if (!parts_.empty() && parse_stamp(text, format, stamp)) dated = true;
      const CellKind kind = read_cell(text, options_.decimal, value);
      numbers += kind != CellKind::missing && kind != CellKind::unparsable ? 1 : 0;
      words += kind == CellKind::unparsable ? 1 : 0;
    }
    cells.go_to(after);
    const auto starts_with = [](std::string_view cell, int (*kind)(int)) {
      return !cell.empty() && kind(static_cast<unsigned char>(cell[0])) != 0;
    };
    if (dated) return RowKind::data;
    if (is_header(row_cells_)) return RowKind::skipped;
    const bool note =
        row_cells_.size() < columns_.size() && words > 0 && numbers == 0 && !starts_with(row_cells_[0], std::isdigit);
    if (parts_.empty()) {
      if (numbers == 0 && words > 0 && series_.lines.empty()) return RowKind::skipped;  // units
      return note || filled == 0 || (numbers == 0 && words > 0) ? RowKind::footer : RowKind::data;
    }
    if (filled == 0 || note || row_cells_[0].starts_with('#')) return RowKind::skipped;
    // A cell may be meant as a date if it has digits, unless a word begins it and no date here begins so.
    const std::size_t column = parts_[0].column;
    const std::string_view date = column < row_cells_.size() ? std::string_view(row_cells_[column]) : "";
    const bool word = starts_with(date, std::isalpha) && starts_with(first_cell(column), std::isdigit);
    if (!word && date.find_first_of("0123456789") != date.npos) return RowKind::data;
    if (numbers == 0) return RowKind::skipped;
    return date.empty() ? RowKind::data : RowKind::footer;  // a total
  }

  // The header again, as where files were joined.
  bool is_header(const Row& row) const {
    if (row.size() < columns_.size() || std::ranges::all_of(row, &std::string::empty)) return false;
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i < columns_.size() ? to_utf8(row[i]) != columns_[i].name && !row[i].empty() : !row[i].empty()) return false;
    }
    return true;
  }

  void commit_odd() {
    for (const Odd& odd : odd_) {
      if (odd.column == Odd::whole_row) {
        ragged_.add(odd.line, odd.place, odd.text);
        bad_dates_ |= !parts_.empty();
        continue;
      }
      Column& column = columns_[odd.column];
      Tally& tally = odd.kind == CellKind::missing    ? column.missing
                     : odd.kind == CellKind::infinite ? column.infinite
                     : odd.kind == CellKind::account  ? column.account
                                                      : column.unparsable;
      tally.add(odd.line, odd.place, odd.text);
      if (column.slot == date_slot) date_texts_.push_back(odd.text);
      if (odd.kind != CellKind::unparsable || column.slot == date_slot) continue;
      const OtherReading other = read_otherwise(odd.text);
      column.with_comma += other.comma ? 1 : 0;
      column.with_point += other.point ? 1 : 0;
      comma_only_ += other.comma && !other.point ? 1 : 0;
      point_only_ += other.point && !other.comma ? 1 : 0;
      ambiguous_ += other.point && other.comma && !other.same ? 1 : 0;
      if (tally.count == 1) column.unit = other.unit;
    }
    odd_.clear();
  }

  // Reads the rows a second time.
  template <class Visit>
  void for_each_row(Cells& cells, Cells::Mark body, const Visit& visit) const {
    cells.go_to(body);
    std::string_view text;
    Row row;
    for (std::size_t t = 0; t < series_.lines.size();) {
      if (cells.blank_line()) continue;
      const bool is_row = cells.line() == series_.lines[t];
      row.clear();
      for (bool more = true; more;) {
        more = cells.cell(text);
        if (is_row) row.emplace_back(text);
      }
      if (is_row) visit(t++, row);
    }
  }

  // Several series below each other: the same dates again and again, and a column that tells them apart.
  void refuse_long_form(Cells& cells, Cells::Mark body) const {
    const std::vector<Stamp>& dates = series_.dates;
    if (bad_dates_ || dates.size() < 4) return;
    const auto stays = [](const Stamp& a, const Stamp& b) { return compare(a, b) >= 0; };
    if (std::ranges::adjacent_find(dates, stays) == dates.end()) return;
    std::vector<std::pair<std::int64_t, std::int32_t>> distinct;
    for (const Stamp& stamp : dates) distinct.emplace_back(stamp.utc_seconds(), stamp.nanoseconds);
    std::ranges::sort(distinct);
    const auto repeated = static_cast<std::size_t>(distinct.end() - std::unique(distinct.begin(), distinct.end()));
    if (4 * repeated < dates.size()) return;

    struct Key {
      std::string name;
      bool text = false;
      bool rises = true;  // each id's dates do
      std::unordered_map<std::string, Stamp> last;
      void add(const std::string& id, const Stamp& date) {
        const auto [at, fresh] = last.try_emplace(id, date);
        rises &= fresh || compare(at->second, date) < 0;
        at->second = date;
      }
    };
    constexpr std::size_t most_keys = 64;
    std::vector<Key> keys(std::min(columns_.size(), most_keys));
    Key together;
    for (std::size_t k = 0; k < keys.size(); ++k) {
      keys[k].name = columns_[k].name;
      keys[k].rises =
          columns_[k].slot != date_slot && !is_clock(first_cell(k)) && field_of(columns_[k].name) == Part::Role::whole;
      keys[k].text = columns_[k].slot == skip_slot || columns_[k].unparsable.count > 0;
      if (keys[k].rises && keys[k].text) together.name += (together.name.empty() ? "" : ", ") + keys[k].name;
    }
    for_each_row(cells, body, [&](std::size_t t, const Row& row) {
      std::string all;
      for (std::size_t k = 0; k < std::min(row.size(), keys.size()); ++k) {
        if (keys[k].rises) keys[k].add(row[k], dates[t]);
        if (keys[k].text) all += row[k] + '\n';
      }
      if (together.rises) together.add(all, dates[t]);
    });
    const auto is_id = [&](const Key& key) {
      return key.rises && key.last.size() > 1 && 2 * key.last.size() <= dates.size();
    };
    const auto refuse = [&](const Key& key) {
      fail(Exit::data,
           fmt::format("long form: {} series by {} with the same dates; one column a series is needed", key.last.size(),
                       key.name),
           fmt::format("write one row a date and one column for each value of {}", key.name), header_line_);
    };
    for (const bool of_text : {true, false}) {
      for (const Key& key : keys) {
        if (key.text == of_text && is_id(key)) refuse(key);
      }
      if (of_text && !together.name.empty() && is_id(together)) refuse(together);
    }
  }

  void report_skipped() {
    for (const Skipped* skipped : {&above_, &skipped_}) {
      if (skipped->count == 0) continue;
      series_.findings.push_back({Severity::warn, "skipped", series_.path, skipped->lines[0], 0, skipped->count,
                                  fmt::format("{} no part of the table and skipped{}", skipped->which(),
                                              skipped->first.empty() ? "" : fmt::format(" ('{}')", skipped->first)),
                                  "correct what should be a time step, delete what is none"});
    }
  }

  void report_cells() {
    if (ragged_.count > 0) {
      report(Severity::refuse, "ragged", ragged_,
             fmt::format("ragged row: {} cells, expected {}", ragged_.found, columns_.size()), ragged_remedy());
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
      if (column.account.count > 0) {
        report(Severity::warn, "notation", column.account,
               fmt::format("column '{}': '{}' is read as a negative number", column.name, column.account.found),
               "write a minus before it");
      }
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
    return formats_hint(patterns);
  }

  static std::string formats_hint(const std::vector<std::string>& patterns) {
    std::string hint =
        patterns.size() == 1 ? "every row is read with " : "several readings are possible; choose one of ";
    for (const std::string& pattern : patterns) {
      hint += fmt::format("{}--date-format '{}'", &pattern == &patterns.front() ? "" : " or ", pattern);
    }
    return hint;
  }

  std::string ragged_remedy() const {
    if (layout_.decimal_commas && options_.decimal != Decimal::comma)
      return "these are decimal commas: --decimal comma";
    const auto number = [](const std::string& cell) {
      double value = 0;
      return read_cell(cell, Decimal::found, value) == CellKind::number;
    };
    const bool digits =
        layout_.delimiter == ',' && !layout_.rows.empty() && std::ranges::all_of(layout_.rows, [&](const Row& row) {
          return row.size() > columns_.size() && std::ranges::count_if(row, number) >= std::ssize(row) - 1;
        });
    if (digits) return "if these are decimal commas, export with semicolons between the cells";
    return "give every row one cell a column (quote cells that hold the delimiter)";
  }

  void report_unparsable(const Column& column) {
    const Tally& tally = column.unparsable;
    const bool all = tally.count + column.missing.count + column.infinite.count >= series_.rows;
    const bool number = column.with_comma == tally.count || column.with_point == tally.count;
    if (number) {
      report(Severity::refuse, all ? "text-column" : "unparsable", tally,
             fmt::format("column '{}': '{}' is not a number with a decimal {}", column.name, tally.found,
                         options_.decimal == Decimal::comma ? "comma" : "point"),
             notation_remedy(tally.found));
      return;
    }
    const std::string remedy = column.unit.empty()
                                   ? or_drop(all ? "write numbers" : "correct the value", column)
                                   : or_drop(fmt::format("write the number alone, without '{}'", column.unit), column);
    if (all && column.unit.empty()) {
      report(Severity::refuse, "text-column", tally,
             fmt::format("column '{}' holds text ('{}'), expected numbers", column.name, tally.found), remedy);
    } else {
      report(Severity::refuse, "unparsable", tally,
             fmt::format("column '{}': '{}' is not a number", column.name, tally.found), remedy);
    }
  }

  std::string notation_remedy(const std::string& found) const {
    if (options_.decimal != Decimal::found) return "write all numbers alike";
    if (comma_only_ > 0 && point_only_ > 0) return "numbers have commas here and points there: write all alike";
    if (comma_only_ > 0) return "decimal commas: --decimal comma";
    if (point_only_ > 0 || ambiguous_ == 0) return "separated thousands: --decimal point";
    return fmt::format("if '{}' has a decimal comma: --decimal comma; if it has separated thousands: --decimal point",
                       found);
  }

  void report_missing(const Column& column) {
    Tally tally = column.missing;
    const std::int64_t end = rows_without_ahead();
    if (end < series_.rows || options_.missing_allowed_before_last >= 0) {
      const std::int64_t allowed = options_.missing_allowed_before_last;
      const std::int64_t first = allowed >= 0 ? std::max<std::int64_t>(end - allowed, 0) : 0;
      const auto values =
          series_.channel(column.slot).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(end - first));
      const auto found = std::find_if(values.begin(), values.end(), [](double v) { return std::isnan(v); });
      if (found == values.end()) {
        const auto all = series_.channel(column.slot).first(static_cast<std::size_t>(end));
        if (std::ranges::none_of(all, [](double v) { return std::isnan(v); })) return;
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

  // Rows up to the last one with a value in a column that is not known ahead.
  std::int64_t rows_without_ahead() {
    if (options_.known_ahead.empty() || rows_without_ahead_ >= 0) {
      return options_.known_ahead.empty() ? series_.rows : rows_without_ahead_;
    }
    std::int64_t rows = 0;
    for (std::int64_t d = 0; d < series_.width(); ++d) {
      if (is_known_ahead(options_.known_ahead, series_.channels[static_cast<std::size_t>(d)])) continue;
      const auto values = series_.channel(d);
      for (std::int64_t t = series_.rows; t > rows; --t) {
        if (!std::isnan(values[static_cast<std::size_t>(t - 1)])) rows = t;
      }
    }
    return rows_without_ahead_ = rows;
  }

  std::string repair_words() const { return repair_command(series_.path, options_); }

  std::string missing_remedy(const Column& column) const {
    const bool none = column.missing.count >= series_.rows;  // nothing to fill it in from
    const std::string fill = none ? "write values" : "fill it in: " + repair_words();
    if (options_.missing_allowed_before_last < 0) return or_drop(fill, column);
    const std::int64_t row = last_complete_row(series_, options_.missing_allowed_before_last, series_.rows);
    if (row < 0 || bad_dates_) return fill;
    return fmt::format("{}, or forecast from a row before it: --origin {}", fill, origin_word(series_, row));
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
    const bool contradicts = asked && found.known() && found != series_.step && !agrees(dates, series_.step) &&
                             !jitters(dates, series_.step);
    RowSteps rows(dates, series_.step);
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
      const auto steps = rows.to(t);
      if (!steps || *steps < 1) irregular.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
      if (steps && *steps > 1) {
        gap.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
        absent += *steps - 1;
        see_change(gap_change, t);
      }
    }
    if (backwards.count > 0) {
      report(Severity::refuse, "date-order", backwards, fmt::format("dates out of order: {}", backwards.found),
             backwards_change.hint(backwards.count, "sort the rows by date: " + repair_words()));
    }
    if (repeated.count > 0) {
      report(Severity::warn, "repeated", repeated, fmt::format("repeated time step: {}", repeated.found),
             repeated_change.hint(repeated.count, "keep one row a time step: " + repair_words()));
    }
    if (gap.count > 0) {
      report(Severity::warn, "gap", gap,
             fmt::format("gap: {} at a step of {}, {} rows are absent in all", gap.found, series_.step.name(), absent),
             gap_change.hint(gap.count, series_.holes.empty()
                                            ? "rows are taken as if they were evenly spaced"
                                            : fmt::format("windows across it are left out; fill it in: {}; or take "
                                                          "rows as evenly spaced: --holes close",
                                                          repair_words())));
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
    std::vector<std::string> dates;
    for (const Column& column : columns_) {
      if (column.slot == date_slot) dates.push_back(column.name);
    }
    return fmt::format("no --freq can express these dates; read the rows without them: --no-date{}",
                       options_.columns_of_model ? "" : " " + drop_flag(options_, dates));
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

  // Points that may separate thousands: beside integers below 1000 nothing but numbers with three decimals.
  void report_thousands(Cells& cells, Cells::Mark body) {
    if (options_.decimal != Decimal::found) return;
    struct Suspect {
      std::size_t column;
      std::int64_t whole = 0;
      Tally points;
      bool refuted = false;
    };
    std::vector<Suspect> suspects;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].slot < 0) continue;
      bool fraction = false;
      const auto suspect = [&](double v) {
        const bool whole = v == std::round(v);
        fraction |= !whole;
        return std::abs(v) < 1000 && (whole || (std::abs(v) > 1 && std::abs(v * 1000 - std::round(v * 1000)) < 1e-6));
      };
      if (std::ranges::all_of(series_.channel(columns_[i].slot), suspect) && fraction)
        suspects.push_back({i, 0, {}, false});
    }
    if (suspects.empty()) return;
    for_each_row(cells, body, [&](std::size_t t, const Row& row) {
      for (Suspect& suspect : suspects) {
        const std::string_view text = suspect.column < row.size() ? std::string_view(row[suspect.column]) : "";
        const std::size_t point = text.find('.');
        suspect.whole += point == text.npos ? 1 : 0;
        if (point == text.npos) continue;
        suspect.refuted |= text.size() - point != 4;
        suspect.points.add(series_.lines[t], static_cast<std::int64_t>(suspect.column) + 1, text);
      }
    });
    for (Suspect& suspect : suspects) {
      if (suspect.refuted || suspect.whole == 0 || suspect.points.count < 2) continue;
      std::string thousands = suspect.points.found;
      thousands.erase(thousands.find('.'), 1);
      suspect.points.count = 1;
      report(
          Severity::warn, "notation", suspect.points,
          fmt::format("column '{}': '{}' may be {}: beside it are integers below 1000 and numbers with three decimals",
                      columns_[suspect.column].name, suspect.points.found, thousands),
          "if it is: --decimal comma; if not: --decimal point");
    }
  }

  // Counters, ids and parts of the date are no channels, unless nothing else is one or they are asked for.
  void leave_out_no_series() {
    if (!options_.columns.empty()) return;
    std::vector<std::string> what(series_.channels.size());
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const int slot = columns_[i].slot;
      if (slot < 0) continue;
      what[static_cast<std::size_t>(slot)] =
          what_no_series_is(columns_[i].name, i == 0, series_.channel(slot),
                            bad_dates_ ? std::span<const Stamp>() : std::span(series_.dates));
    }
    if (std::ranges::all_of(what, &std::string::empty)) return;
    const bool all = std::ranges::none_of(what, &std::string::empty);
    constexpr std::size_t listed = 12;
    const std::string keep = what.size() > listed
                                 ? "name it in --columns to keep it"
                                 : fmt::format("to keep it: --columns {}", names_word(series_.channels));
    std::vector<std::string> channels;
    std::vector<double> values;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      Column& column = columns_[i];
      if (column.slot < 0) continue;
      const std::string& is = what[static_cast<std::size_t>(column.slot)];
      if (!is.empty()) {
        series_.findings.push_back({Severity::warn, "counter", series_.path, header_line_,
                                    static_cast<std::int64_t>(i) + 1, 1,
                                    fmt::format("column '{}' {}{}", column.name, is,
                                                all ? "; the file has no other channel" : " and is left out"),
                                    all ? "look whether the file holds what you mean to forecast" : keep});
      }
      if (is.empty() || all) {
        const auto kept = series_.channel(column.slot);
        values.insert(values.end(), kept.begin(), kept.end());
        column.slot = static_cast<int>(channels.size());
        channels.push_back(column.name);
      } else {
        column.slot = skip_slot;
      }
    }
    series_.channels = std::move(channels);
    series_.values = std::move(values);
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
               fmt::format("if it is one: {} --sentinel {}", repair_words(), extreme));
        series_.findings.back().found = fmt::format("{}", extreme);
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
  std::string mended_;  // bytes_ where its lines ended in CR
  const SeriesOptions& options_;
  Layout layout_;
  Series series_;
  std::int64_t header_line_ = 1;
  std::vector<Column> columns_;
  std::vector<std::string> date_texts_;  // that are no dates
  std::vector<Part> parts_;
  std::vector<Odd> odd_;
  Row row_cells_;  // of the row that kind_of_row looked at
  Skipped above_, skipped_;
  bool skipping_ = true;
  bool split_decimals_ = false;
  std::int64_t comma_only_ = 0, point_only_ = 0, ambiguous_ = 0;
  Tally ragged_;
  bool bad_dates_ = false;
  std::int64_t rows_without_ahead_ = -1;  // when they are counted
};

}  // namespace

Series parse_csv(std::string_view bytes, const std::string& path, const SeriesOptions& options) {
  return CsvReader(bytes, path, options).read();
}

}  // namespace samformer::model
