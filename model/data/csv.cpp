#include "model/data/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace samformer::model {
namespace {

constexpr double missing_value = std::numeric_limits<double>::quiet_NaN();
constexpr double largest = 1e100;  // squares of values, and their sums, stay finite
constexpr std::size_t most_columns = 100'000;
constexpr std::size_t longest_name = 1024;  // bytes
constexpr int skip_slot = -1;
constexpr int date_slot = -2;

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return out;
}

std::string to_utf8(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  // Windows-1252 differs from Latin-1 in 0x80..0x9F alone; its five unused bytes stay C1 controls, as on the web.
  static constexpr std::array<std::uint16_t, 32> high = {
      0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
      0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
      0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const std::uint32_t point = byte >= 0x80 && byte < 0xA0 ? high[byte - 0x80U] : byte;
    if (point < 0x80) {
      out += c;
    } else if (point < 0x800) {
      out += {static_cast<char>(0xC0U | point >> 6), static_cast<char>(0x80U | (point & 0x3FU))};
    } else {
      out += {static_cast<char>(0xE0U | point >> 12), static_cast<char>(0x80U | (point >> 6 & 0x3FU)),
              static_cast<char>(0x80U | (point & 0x3FU))};
    }
  }
  return out;
}

// Walks the cells of the text. Positions are kept by the caller, so that the first rows can be read ahead.
class Cells {
 public:
  Cells(std::string_view text, char delimiter, const std::string& path)
      : at_(text.data()), end_(text.data() + text.size()), delimiter_(delimiter), path_(path) {}

  bool done() const { return at_ == end_; }
  std::int64_t line() const { return line_; }

  // Skips one empty line.
  bool blank_line() {
    const char* next = at_;
    if (next != end_ && *next == '\r') ++next;
    if (next == end_ || *next != '\n') return false;
    at_ = next + 1;
    ++line_;
    return true;
  }

  // Reads one cell, without its quotes and the blanks around it; the view lives until the next call. False after the
  // row's last cell.
  bool cell(std::string_view& text) {
    if (at_ != end_ && *at_ == '"') {
      unquote();
      text = unquoted_;
    } else {
      const char* start = at_;
      while (at_ != end_ && *at_ != delimiter_ && *at_ != '\n') ++at_;
      text = {start, static_cast<std::size_t>(at_ - start)};
    }
    while (!text.empty() && (text.back() == '\r' || text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    return separator();
  }

  // The fast path for plain decimals whose digits fit 2^53: one exact integer divided by one exact power of ten is
  // rounded once, as the standard wants (Clinger 1990). `more` is cell's result. Moves only where it succeeds.
  bool plain_decimal(double& value, bool& more) {
    static constexpr std::array<double, 23> powers = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char* p = at_;
    const bool negative = p != end_ && *p == '-';
    if (negative) ++p;
    std::uint64_t digits = 0;
    const char* const start = p;
    while (p != end_ && is_digit(*p)) digits = digits * 10 + static_cast<std::uint64_t>(*p++ - '0');
    std::ptrdiff_t count = p - start;
    std::ptrdiff_t fraction = 0;
    if (p != end_ && *p == '.') {
      const char* const point = ++p;
      while (p != end_ && is_digit(*p)) digits = digits * 10 + static_cast<std::uint64_t>(*p++ - '0');
      fraction = p - point;
      count += fraction;
    }
    // 19 digits cannot have overflowed 64 bits.
    if (count == 0 || count > 19 || digits > (std::uint64_t{1} << 53)) return false;
    if (p != end_ && *p == '\r') ++p;
    if (p != end_ && *p != delimiter_ && *p != '\n') return false;
    value = static_cast<double>(digits) / powers[static_cast<std::size_t>(fraction)];
    if (negative) value = -value;
    at_ = p;
    more = separator();
    return true;
  }

 private:
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  bool separator() {
    if (at_ == end_) return false;
    if (*at_++ == delimiter_) return true;
    ++line_;
    return false;
  }

  void unquote() {
    unquoted_.clear();
    const char* from = at_ + 1;
    while (true) {
      const char* const quote = std::find(from, end_, '"');
      if (quote == end_) {
        throw Error(Exit::data, "a quote is opened and never closed")
            .at(path_, line_)
            .hint("close or remove the quote");
      }
      unquoted_.append(from, quote);
      from = quote + 1;
      if (from == end_ || *from != '"') break;
      unquoted_ += *from++;
    }
    line_ += std::count(at_, from, '\n');
    for (at_ = from; at_ != end_ && *at_ != delimiter_ && *at_ != '\n'; ++at_) unquoted_ += *at_;
  }

  const char* at_;
  const char* end_;
  char delimiter_;
  std::int64_t line_ = 1;
  std::string unquoted_;
  const std::string& path_;
};

enum class CellKind { number, missing, infinite, unparsable };

CellKind read_cell(std::string_view text, double& value) {
  value = missing_value;
  if (text.empty()) return CellKind::missing;
  if (text.size() <= 4) {
    const std::string word = lower(text);
    if (word == "nan" || word == "na" || word == "n/a" || word == "null") return CellKind::missing;
  }
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  double read = 0;
  const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), read);
  if (status == std::errc::invalid_argument || stop != text.data() + text.size()) return CellKind::unparsable;
  if (status == std::errc::result_out_of_range) {
    // from_chars does not say which way; a number that is too small is 0.
    if (text[0] != '0' && !text.starts_with("-0") && text.find("e-") == text.npos && text.find("E-") == text.npos) {
      return CellKind::infinite;
    }
    read = 0;
  }
  if (std::isnan(read)) return CellKind::missing;
  if (std::abs(read) > largest) return CellKind::infinite;
  value = read;
  return CellKind::number;
}

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

  Column& named(const std::string& name, const char* flag, Exit code = Exit::usage) {
    const auto found = std::find_if(columns_.begin(), columns_.end(), [&](const Column& c) { return c.name == name; });
    if (found != columns_.end()) return *found;
    const std::string nearest = fmt::format("the nearest of its names is '{}'", nearest_name(name, names()));
    fail(code, fmt::format("{}no column is named '{}'", code == Exit::usage ? fmt::format("{}: ", flag) : "", name),
         nearest, header_line_);
  }

  // Sets every column's slot. Reads ahead in `cells`, a copy, for the first row.
  void choose_columns(Cells cells) {
    constexpr int channel_slot = 0;
    for (Column& column : columns_) column.slot = channel_slot;
    for (const std::string& name : options_.drop) named(name, "--drop").slot = skip_slot;
    if (!options_.no_date) find_date_column(cells);

    if (options_.columns.empty()) {
      for (Column& column : columns_) {
        if (column.slot != channel_slot) continue;
        column.slot = static_cast<int>(series_.channels.size());
        series_.channels.push_back(column.name);
      }
    } else {
      std::vector<Column*> chosen;
      for (const std::string& name : options_.columns) {
        Column& column = named(name, "--columns", options_.columns_of_model ? Exit::data : Exit::usage);
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
      return;
    }
    for (const char* known : {"date", "ds", "timestamp", "datetime", "time"}) {
      for (Column& column : columns_) {
        if (column.slot != skip_slot && lower(column.name) == known) {
          column.slot = date_slot;
          return;
        }
      }
    }
    while (cells.blank_line()) {
    }
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
    fail(Exit::data, "no column holds dates (expected a column `date`, like 2016-07-01 00:00 or 2016/7/1 0:00)",
         "name it with --date-column, say how it is written with --date-format, or read the rows without dates: "
         "--no-date",
         header_line_);
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
               "say how dates are written with --date-format (like %d/%m/%Y %H:%M), or choose --date-column");
        continue;
      }
      if (column.slot == skip_slot) continue;
      if (column.unparsable.count > 0) report_unparsable(column);
      if (column.infinite.count > 0) {
        report(Severity::refuse, "infinite", column.infinite,
               fmt::format("column '{}': '{}' is infinite or beyond 1e100", column.name, column.infinite.found),
               fmt::format("correct the value, or leave the column out: --drop {}", column.name));
      }
      if (column.missing.count > 0) report_missing(column);
    }
  }

  void report_unparsable(const Column& column) {
    const Tally& tally = column.unparsable;
    if (tally.count + column.missing.count + column.infinite.count >= series_.rows) {
      report(Severity::refuse, "text-column", tally,
             fmt::format("column '{}' holds text ('{}'), expected numbers", column.name, tally.found),
             tally.found.find(',') != std::string::npos ? "write decimal points, not commas"
                                                        : fmt::format("leave it out: --drop {}", column.name));
      return;
    }
    report(Severity::refuse, "unparsable", tally,
           fmt::format("column '{}': '{}' is not a number", column.name, tally.found),
           tally.found.find(',') != std::string::npos
               ? "write decimal points, not commas"
               : fmt::format("correct the value, or leave the column out: --drop {}", column.name));
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
           fmt::format("fill the value in, or leave the column out: --drop {}", column.name));
  }

  void report_dates() {
    const std::vector<Stamp>& dates = series_.dates;
    if (bad_dates_ || dates.empty()) {
      if (!options_.freq.empty()) series_.step = parse_freq(options_.freq, {});
      return;
    }
    series_.step = options_.freq.empty() ? infer_step(dates) : parse_freq(options_.freq, dates);
    const auto place =
        std::find_if(columns_.begin(), columns_.end(), [](const Column& c) { return c.slot == date_slot; });
    const std::int64_t column = place - columns_.begin() + 1;
    const auto at = [&](std::size_t row) { return series_.date(static_cast<std::int64_t>(row)); };
    series_.holes = find_holes(dates, series_.step);
    Tally backwards, repeated, gap, irregular;
    std::int64_t absent = 0;
    for (std::size_t t = 1; t < dates.size(); ++t) {
      const int order = compare(dates[t - 1], dates[t]);
      if (order > 0) backwards.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
      if (order == 0) repeated.add(series_.lines[t], column, at(t));
      if (order >= 0 || !series_.step.known()) continue;
      const auto steps = steps_between(dates[t - 1], dates[t], series_.step);
      if (!steps || *steps < 1) irregular.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
      if (steps && *steps > 1) {
        gap.add(series_.lines[t], column, fmt::format("{} after {}", at(t), at(t - 1)));
        absent += *steps - 1;
      }
    }
    if (backwards.count > 0) {
      report(Severity::refuse, "date-order", backwards, fmt::format("dates out of order: {}", backwards.found),
             "sort the rows by date");
    }
    if (repeated.count > 0) {
      report(Severity::warn, "repeated", repeated, fmt::format("repeated time step: {}", repeated.found),
             "keep one row a time step");
    }
    if (gap.count > 0) {
      report(Severity::warn, "gap", gap,
             fmt::format("gap: {} at a step of {}, {} rows are absent in all", gap.found, series_.step.name(), absent),
             series_.holes.empty() ? "rows are taken as if they were evenly spaced"
                                   : "windows across it are left out; fill it in, or take rows as evenly spaced: "
                                     "--holes close");
    }
    if (irregular.count > 0) {
      report(Severity::warn, "irregular", irregular,
             fmt::format("irregular time step: {} at a step of {}", irregular.found, series_.step.name()),
             "rows are taken as if they were evenly spaced; say another step with --freq");
    }
    if (!series_.step.known() && dates.size() > 1 && backwards.count == 0) {
      Tally step;
      step.add(series_.lines[1], column, "");
      report(
          Severity::warn, "step", step, "no regular step: fewer than 90 % of the dates' differences agree",
          "say the step with --freq, for example --freq 15min, h, d, b, w or m; without it no forecast can be dated");
    }
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
               fmt::format("its scaler divides by 1; leave it out: --drop {}", column.name));
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
  Tally ragged_;
  bool bad_dates_ = false;
};

}  // namespace

Series parse_csv(std::string_view bytes, const std::string& path, const SeriesOptions& options) {
  return CsvReader(bytes, path, options).read();
}

}  // namespace samformer::model
