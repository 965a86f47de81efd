#include "model/data/layout.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "core/text.h"
#include "model/data/inflate.h"
#include "model/data/numbers.h"

namespace samformer::model {
namespace {

constexpr std::size_t sampled_rows = 32;
constexpr std::size_t sampled_cells = 300'000;

struct Record {
  Cells::Mark at;
  Row cells;
  std::size_t filled = 0;  // cells without the empty ones at the end
};

// The first lines that are not blank; nothing where the delimiter leaves a quote open.
std::optional<std::vector<Record>> sample(std::string_view text, char delimiter, const std::string& path,
                                          Cells::Mark from) {
  Cells cells(text, delimiter, path);
  cells.go_to(from);
  std::vector<Record> records;
  std::size_t count = 0;
  try {
    while (!cells.done() && records.size() < sampled_rows && count < sampled_cells) {
      if (cells.blank_line()) continue;
      Record record{cells.mark(), {}};
      std::string_view cell;
      for (bool more = true; more;) {
        more = cells.cell(cell);
        record.cells.emplace_back(cell);
        if (!cell.empty()) record.filled = record.cells.size();
      }
      count += record.cells.size();
      records.push_back(std::move(record));
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return records;
}

bool is_number(std::string_view text) {
  double value = 0;
  const CellKind kind = read_cell(text, Decimal::found, value);
  return kind == CellKind::number || kind == CellKind::account || kind == CellKind::infinite;
}

bool has_date(const Record& record) { return std::ranges::any_of(record.cells, looks_like_date); }

bool holds_data(const Record& record) {
  if (has_date(record)) return true;
  bool any = false;
  for (const std::string& cell : record.cells) {
    if (cell.empty()) continue;
    if (!is_number(cell)) return false;
    any = true;
  }
  return any;
}

bool names_date(const Record& record) {
  static constexpr std::array<std::string_view, 8> known = {"date",  "ds",    "timestamp", "datetime",
                                                            "datum", "fecha", "time",      "year"};
  return std::ranges::any_of(
      record.cells, [&](const std::string& cell) { return std::ranges::find(known, lower(cell)) != known.end(); });
}

template <class WidthOf>
std::pair<std::size_t, std::size_t> most_frequent(const std::vector<Record>& records, const WidthOf& width_of) {
  std::map<std::size_t, std::size_t> counts;
  for (const Record& record : records) ++counts[width_of(record)];
  std::pair<std::size_t, std::size_t> most{0, 0};  // count, width
  for (const auto& [width, count] : counts) {
    if (width > 1) most = std::max(most, {count, width});
  }
  return most;
}

char delimiter_of_first_line(std::string_view text) {
  std::array<std::pair<char, int>, 3> counts = {{{',', 0}, {';', 0}, {'\t', 0}}};
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (c == '\n' && !quoted) break;
    for (auto& [delimiter, count] : counts) count += !quoted && c == delimiter ? 1 : 0;
  }
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

// Excel's first line; 0 where it is another one.
char said_delimiter(std::string_view text) {
  const std::string_view line = text.substr(0, std::min(text.find_first_of("\r\n"), text.size()));
  std::string_view said = line;
  if (said.size() > 2 && said.front() == '"' && said.back() == '"') said = said.substr(1, said.size() - 2);
  const bool is = said.size() == 5 && lower(said.substr(0, 4)) == "sep=" && line.size() < text.size();
  return is ? said[4] : '\0';
}

// Lines that end in CR alone get LF. `\r\r\n` is one end of a line.
std::string_view with_line_ends(std::string_view bytes, std::string& mended) {
  const auto alone = [&](std::size_t at) {
    const std::size_t after = bytes.find_first_not_of('\r', at);
    return after == bytes.npos || bytes[after] != '\n';
  };
  std::size_t first = bytes.find('\r');
  while (first != bytes.npos && !alone(first)) first = bytes.find('\r', bytes.find('\n', first));
  if (first == bytes.npos) return bytes;
  mended = bytes;
  bool quoted = false;
  for (std::size_t i = 0; i < mended.size(); ++i) {
    if (mended[i] == '"') quoted = !quoted;
    if (mended[i] != '\r' || quoted) continue;
    if (alone(i)) {
      mended[i] = '\n';
    } else {
      i = bytes.find('\n', i);
    }
  }
  return mended;
}

std::size_t find_header(const std::vector<Record>& records, bool dated) {
  const std::size_t width = most_frequent(records, [](const Record& r) { return r.cells.size(); }).second;
  const std::size_t filled = most_frequent(records, [](const Record& r) { return r.filled; }).second;
  const auto fits = [&](const Record& r) {
    if (width == 0) return !r.cells[0].starts_with('#');  // one column
    return r.cells.size() == width || r.cells.size() == filled ||
           (r.filled > 1 && (r.filled == width || r.filled == filled));
  };
  std::optional<std::size_t> first, plain;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    if (fits(record)) {
      if (holds_data(record)) break;
      if (dated && names_date(record)) return i;
      if (!first) first = i;
    } else if (width == 0 ? !record.cells[0].starts_with('#') : has_date(record) && record.cells.size() > 2) {
      break;
    } else if (!plain && !record.cells[0].starts_with('#') && record.cells.size() > 1) {
      plain = i;
    }
  }
  return first ? *first : plain.value_or(0);
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// Rows of `single` cells and two for each of the header's other columns, the second of digits alone.
bool has_decimal_commas(const std::vector<Record>& records, std::size_t first, std::size_t columns,
                        std::size_t& single) {
  if (first >= records.size()) return false;
  const std::size_t width = records[first].filled;
  if (width <= columns || 2 * columns < width || 2 * columns - width > 2) return false;
  single = 2 * columns - width;
  for (std::size_t i = first; i < records.size(); ++i) {
    const Record& r = records[i];
    if (r.cells.size() < width || r.filled > width) return false;
    if (std::any_of(r.cells.begin(), r.cells.begin() + static_cast<std::ptrdiff_t>(single), is_number)) return false;
    for (std::size_t k = single; k < width; k += 2) {
      if (!is_number(r.cells[k]) || r.cells[k].find('.') != std::string::npos || !all_digits(r.cells[k + 1]))
        return false;
    }
  }
  return true;
}

}  // namespace

bool looks_like_date(std::string_view text) {
  DateFormat format;
  Stamp stamp;
  if (parse_stamp(text, format, stamp)) return true;
  std::size_t i = 0;
  char separator = 0;
  for (int part = 0; part < 3; ++part) {
    const std::size_t start = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    if (i == start || i - start > 4) return false;
    if (part == 2) break;
    if (i == text.size() || (text[i] != '/' && text[i] != '-' && text[i] != '.') || (part == 1 && text[i] != separator))
      return false;
    separator = text[i++];
  }
  return i == text.size() || text[i] == ' ' || text[i] == 'T';
}

std::string_view table_text(std::string_view bytes, const std::string& path, std::string& mended) {
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
  constexpr std::string_view xz =
      "\xFD"
      "7zXZ";
  const bool packed =
      bytes.starts_with("PK\x03\x04") || bytes.starts_with("BZh") || bytes.starts_with(xz) || is_compressed(bytes);
  if (packed || bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF") ||
      bytes.substr(0, 4096).find('\0') != std::string_view::npos) {
    throw Error(Exit::data, packed ? "a workbook or a file compressed in another way than gzip and zstd, not CSV"
                                   : "not UTF-8 text")
        .at(path)
        .hint("export the data as CSV in UTF-8");
  }
  const std::string_view text = with_line_ends(bytes, mended);
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw Error(Exit::data, "the file is empty").at(path).hint("expected a header line and one line a time step");
  }
  return text;
}

Layout find_layout(std::string_view text, const std::string& path, const SeriesOptions& options) {
  Layout layout;
  Cells start(text, ',', path);
  const char said = said_delimiter(text);
  if (said != 0) {
    layout.above.push_back(1);
    layout.first_above = shown(text.substr(0, text.find_first_of("\r\n")), 40);
    const std::size_t end = text.find('\n');
    start.go_to({text.data() + (end == text.npos ? text.size() : end + 1), 2});
  }
  while (start.blank_line()) {
  }
  const auto rest = text.substr(static_cast<std::size_t>(start.mark().at - text.data()));
  const char given = options.delimiter != 0 ? options.delimiter : said;
  layout.delimiter = given != 0 ? given : delimiter_of_first_line(rest);
  auto records = sample(text, layout.delimiter, path, start.mark());
  const bool agrees = records && records->size() > 1 && (*records)[0].cells.size() > 1 &&
                      (*records)[0].cells.size() == (*records)[1].cells.size();
  if (given == 0 && !agrees) {
    auto best = most_frequent(records.value_or(std::vector<Record>()), [](const Record& r) { return r.cells.size(); });
    for (const char other : {',', ';', '\t'}) {
      auto of_other = sample(text, other, path, start.mark());
      if (other == layout.delimiter || !of_other) continue;
      const auto score = most_frequent(*of_other, [](const Record& r) { return r.cells.size(); });
      if (score.first <= best.first) continue;
      best = score;
      layout.delimiter = other;
      records = std::move(of_other);
    }
  }
  layout.header = start.mark();
  if (!records || records->empty()) return layout;  // read_header says what is wrong

  const std::size_t header = find_header(*records, !options.no_date);
  for (std::size_t i = 0; i < header; ++i) {
    if (layout.above.empty()) layout.first_above = shown((*records)[i].cells[0], 40);
    layout.above.push_back((*records)[i].at.line);
  }
  layout.header = (*records)[header].at;
  layout.columns = (*records)[header].cells.size();
  for (std::size_t i = header + 1; i < records->size(); ++i) {
    const Record& record = (*records)[i];
    if (has_date(record) || std::ranges::any_of(record.cells, is_number)) layout.rows.push_back(record.cells);
  }
  const auto holds = [](const Row& row, std::size_t column) { return column < row.size() && !row[column].empty(); };
  while (layout.columns > 1 && (*records)[header].cells[layout.columns - 1].empty() && !layout.rows.empty() &&
         std::ranges::none_of(layout.rows, [&](const Row& row) { return holds(row, layout.columns - 1); })) {
    --layout.columns;
  }
  layout.decimal_commas =
      layout.delimiter == ',' && has_decimal_commas(*records, header + 1, layout.columns, layout.single);
  return layout;
}

}  // namespace samformer::model
