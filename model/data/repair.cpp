#include "model/data/repair.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <tuple>

#include "core/error.h"
#include "core/text.h"
#include "model/data/cells.h"
#include "model/data/csv.h"
#include "model/data/layout.h"
#include "model/data/numbers.h"

namespace samformer::model {
namespace {

// A row of the repaired series.
struct Item {
  std::int64_t source = -1;  // row of the text; -1: inserted
  Stamp date;
};

// A cell that gets its value of Repairer::filled_.
struct Edit {
  std::int64_t row = 0;
  std::int64_t channel = 0;
  const char* rule = nullptr;
};

class Repairer {
 public:
  Repairer(std::string_view bytes, const std::string& path, const SeriesOptions& options, const Repair& rules)
      : path_(path), options_(options), rules_(rules), series_(parse_csv(bytes, path, options)) {
    if (!series_.long_form.id.empty()) {
      fail("the file is in long form: only tables of one column a series are repaired",
           "write one row a date and one column for each value of " + series_.long_form.id);
    }
    const std::string_view text = table_text(bytes, path, mended_);
    original_ = bytes.substr(bytes.size() - text.size());
    prefix_ = bytes.substr(0, bytes.size() - text.size());
    layout_ = find_layout(text, path, options);
    base_ = text.data();
    find_rows(text);
  }

  Repaired run() {
    for (const Finding& f : series_.findings) {
      if (f.severity == Severity::refuse && !mended_later(f)) throw error_of(f);
    }
    if (layout_.decimal_commas && options_.decimal == Decimal::comma) {
      fail("decimal commas between commas: no value can be put into its cell",
           "export the data with semicolons between the cells");
    }
    read_cells();
    sort_rows();
    join_repeats();
    insert_rows();
    fill_values();
    write();
    std::ranges::stable_sort(result_.changes, {}, &Change::line);
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, const std::string& hint, std::int64_t line = 0,
                         std::int64_t column = 0) const {
    throw Error(Exit::data, message).at(path_, line, column).hint(hint);
  }

  static bool mended_later(const Finding& f) {
    return f.kind == "missing" || f.kind == "unparsable" || f.kind == "text-column" || f.kind == "infinite" ||
           f.kind == "date-order";
  }

  std::int64_t line(std::int64_t row) const { return series_.lines[static_cast<std::size_t>(row)]; }
  double& value(std::int64_t channel, std::int64_t row) {
    return series_.values[static_cast<std::size_t>(channel * series_.rows + row)];
  }

  Cells cells_at(std::int64_t row) const {
    Cells cells({base_, original_.size()}, layout_.delimiter, path_);
    cells.go_to(rows_[static_cast<std::size_t>(row)]);
    return cells;
  }

  void find_rows(std::string_view text) {
    Cells cells(text, layout_.delimiter, path_);
    if (layout_.header.at != nullptr) cells.go_to(layout_.header);
    std::string_view cell;
    while (cells.cell(cell)) {
    }
    while (rows_.size() < series_.lines.size()) {
      SAMFORMER_CHECK(!cells.done(), "line {} is not in the text", series_.lines[rows_.size()]);
      const Cells::Mark mark = cells.mark();
      if (cells.blank_line()) continue;
      if (mark.line == series_.lines[rows_.size()]) rows_.push_back(mark);
      while (cells.cell(cell)) {
      }
    }
  }

  // Visits a row's cells: index, text, and where it stands with its quotes and blanks. Gives where the row ends, with its
  // line end.
  template <class Visit>
  std::size_t visit(std::int64_t row, const Visit& each) const {
    Cells cells = cells_at(row);
    std::string_view text;
    bool more = true;
    for (std::size_t i = 0; more; ++i) {
      const char* const first = cells.mark().at;
      more = cells.cell(text);
      const char* last = cells.mark().at;
      if (last > first && (more || last[-1] == '\n')) --last;
      if (!more && last > first && last[-1] == '\r') --last;
      each(i, text, offset(first), offset(last));
    }
    return offset(cells.mark().at);
  }
  std::size_t offset(const char* at) const { return static_cast<std::size_t>(at - base_); }
  std::string_view raw(std::size_t first, std::size_t last) const { return original_.substr(first, last - first); }
  std::string_view row_text(std::int64_t row) const {
    std::size_t last = 0;
    visit(row, [&](std::size_t, std::string_view, std::size_t, std::size_t end) { last = end; });
    const std::size_t first = offset(rows_[static_cast<std::size_t>(row)].at);
    return raw(first, last);
  }

  // Takes sentinels away, and refuses what is no number; learns how many decimals a channel has.
  void read_cells() {
    std::vector<std::int64_t> channel_of;
    for (std::size_t d = 0; d < series_.value_columns.size(); ++d) {
      channel_of.resize(std::max(channel_of.size(), series_.value_columns[d] + 1), -1);
      channel_of[series_.value_columns[d]] = static_cast<std::int64_t>(d);
    }
    decimals_.assign(series_.channels.size(), 0);
    std::vector<double> codes;
    for (const std::string& s : rules_.sentinels) read_cell(s, options_.decimal, codes.emplace_back());
    const char mark = options_.decimal == Decimal::comma ? ',' : '.';
    for (std::int64_t t = 0; t < series_.rows; ++t) {
      visit(t, [&](std::size_t i, std::string_view text, std::size_t, std::size_t) {
        const std::int64_t d = i < channel_of.size() ? channel_of[i] : -1;
        if (d < 0) return;
        double number = 0;
        const CellKind kind = read_cell(text, options_.decimal, number);
        const bool code = std::ranges::find(rules_.sentinels, text) != rules_.sentinels.end() ||
                          (!std::isnan(number) && std::ranges::find(codes, number) != codes.end());
        if (code && kind != CellKind::missing) {
          value(d, t) = missing_value;
          ++result_.sentinels;
        } else if (kind == CellKind::unparsable || kind == CellKind::infinite) {
          refuse_cell(text, d, line(t), static_cast<std::int64_t>(i) + 1);
        } else if (kind != CellKind::missing) {
          const std::size_t point = text.find(mark);
          const std::size_t end = std::min(text.find_first_not_of("0123456789", point + 1), text.size());
          const std::size_t digits = point == text.npos ? 0 : end - point - 1;
          int& most = decimals_[static_cast<std::size_t>(d)];
          most = std::max(most, text.find_first_of("eE") != text.npos ? any_decimals : static_cast<int>(digits));
        }
      });
    }
  }

  [[noreturn]] void refuse_cell(std::string_view text, std::int64_t channel, std::int64_t line,
                                std::int64_t column) const {
    const std::string code =
        fmt::format("if it stands for a missing value: --sentinel {}", names_word(std::array{std::string(text)}));
    for (const Finding& f : series_.findings) {
      if (f.line != line || f.column != column || f.severity != Severity::refuse) continue;
      throw error_of(f).hint(fmt::format("{}; {}", f.hint, code));
    }
    fail(fmt::format("column '{}': '{}' is not a number", series_.channels[static_cast<std::size_t>(channel)],
                     shown(text, 40)),
         "correct the value; " + code, line, column);
  }

  void sort_rows() {
    order_.resize(static_cast<std::size_t>(series_.rows));
    std::iota(order_.begin(), order_.end(), 0);
    const std::vector<Stamp>& dates = series_.dates;
    if (dates.empty()) return;
    const auto later = [&](std::int64_t a, std::int64_t b) {
      return compare(dates[static_cast<std::size_t>(a)], dates[static_cast<std::size_t>(b)]) < 0;
    };
    if (std::ranges::is_sorted(order_, later)) return;
    std::ranges::stable_sort(order_, later);
    std::vector<std::int64_t> place(order_.size());
    for (std::size_t i = 0; i < order_.size(); ++i)
      place[static_cast<std::size_t>(order_[i])] = static_cast<std::int64_t>(i);
    std::size_t latest = 0;  // rows behind a later one are those out of order
    for (std::size_t t = 1; t < dates.size(); ++t) {
      if (compare(dates[t], dates[latest]) >= 0) {
        latest = t;
        continue;
      }
      result_.changes.push_back(
          {series_.lines[t], "", fmt::format("row {}", t + 1), fmt::format("row {}", place[t] + 1), "order"});
      ++result_.moved;
    }
  }

  void join_repeats() {
    removed_.resize(order_.size());
    const auto date = [&](std::int64_t row) -> const Stamp& { return series_.dates[static_cast<std::size_t>(row)]; };
    std::vector<std::int64_t> kept;
    for (std::size_t i = 0; i < order_.size();) {
      std::size_t end = i + 1;
      while (!series_.dates.empty() && end < order_.size() && compare(date(order_[i]), date(order_[end])) == 0) ++end;
      kept.push_back(end - i == 1 ? order_[i] : join({order_.data() + i, end - i}));
      i = end;
    }
    order_ = std::move(kept);
  }

  // Of rows with one date the row that stays.
  std::int64_t join(std::span<const std::int64_t> rows) {
    const auto same = [&](std::int64_t d, std::int64_t row) {
      const double a = value(d, rows[0]), b = value(d, row);
      return a == b || (std::isnan(a) && std::isnan(b));
    };
    const std::int64_t D = series_.width(), stays = rules_.repeats == Repeats::last ? rows.back() : rows.front();
    for (const std::int64_t row : rows.subspan(1)) {
      std::int64_t d = 0;
      while (d < D && same(d, row)) ++d;
      if (d < D) ++result_.differing;
      if (d == D || rules_.repeats != Repeats::refuse) continue;
      const std::string zone = series_.zone ? "" : zone_of_repeat(rows[0]);
      fail(fmt::format("{} is there twice, with different values of '{}'", series_.date(row),
                       series_.channels[static_cast<std::size_t>(d)]),
           fmt::format(
               "choose a row, or their mean: --duplicates first, last or mean{}",
               zone.empty() ? "" : fmt::format("; if the clock of a place was changed here: --timezone {}", zone)),
           line(row));
    }
    for (std::int64_t d = 0; d < D && rules_.repeats == Repeats::mean; ++d) {
      double sum = 0;
      std::int64_t count = 0;
      for (const std::int64_t row : rows) {
        if (std::isnan(value(d, row))) continue;
        sum += value(d, row);
        ++count;
      }
      if (count == 0) continue;
      const double mean = round_as(sum / static_cast<double>(count), static_cast<std::size_t>(d));
      if (mean == value(d, stays)) continue;
      value(d, stays) = mean;
      edits_.push_back({stays, d, "mean"});
    }
    for (const std::int64_t row : rows) {
      if (row == stays) continue;
      removed_[static_cast<std::size_t>(row)] = true;
      result_.changes.push_back({line(row), "", std::string(row_text(row)), "", "repeat"});
      ++result_.removed;
    }
    return stays;
  }

  // Of a row and those around it.
  std::string zone_of_repeat(std::int64_t row) const {
    const auto first = static_cast<std::size_t>(std::max<std::int64_t>(row - 3, 1));
    for (std::size_t t = first; t < std::min(series_.dates.size(), first + 8); ++t) {
      const std::string zone = zone_of_change(series_.dates[t - 1], series_.dates[t]);
      if (!zone.empty() && is_local(series_.date_format)) return zone;
    }
    return "";
  }

  void insert_rows() {
    std::vector<Stamp> dates;
    for (const std::int64_t row : order_) {
      if (!series_.dates.empty()) dates.push_back(series_.dates[static_cast<std::size_t>(row)]);
    }
    step_ = options_.freq.empty() ? infer_step(dates) : parse_freq(options_.freq, dates);
    result_.has_step = step_.known();
    std::vector<Hole> holes;
    if (rules_.insert && !dates.empty()) holes = find_holes(dates, step_);
    longest_ = rules_.longest > 0 ? rules_.longest : std::max<std::int64_t>(step_.season(), 1);
    refuse_long_holes(holes, dates);
    std::size_t hole = 0;
    for (std::size_t i = 0; i < order_.size(); ++i) {
      if (hole < holes.size() && holes[hole].row == static_cast<std::int64_t>(i)) {
        const std::vector<Stamp> absent = continue_dates(dates[i - 1], step_, holes[hole].absent, series_.zone.get());
        for (const Stamp& date : absent) items_.push_back({-1, date});
        result_.inserted += holes[hole++].absent;
      }
      items_.push_back({order_[i], dates.empty() ? Stamp() : dates[i]});
      const bool changed = i > 0 && !dates.empty() && dates[i].offset_minutes != dates[i - 1].offset_minutes;
      result_.clock_changes += changed ? 1 : 0;
    }
    result_.rows = std::ssize(items_);
  }

  std::string date_text(std::size_t item) const {
    return series_.dates.empty() ? fmt::format("row {}", items_[item].source + 1)
                                 : format_stamp(items_[item].date, series_.date_format);
  }

  void fill_values() {
    const std::size_t T = items_.size();
    const std::int64_t season = step_.season();
    filled_.resize(series_.channels.size());
    for (std::size_t d = 0; d < filled_.size(); ++d) {
      const auto channel = static_cast<std::int64_t>(d);
      std::vector<double>& x = filled_[d];
      for (const Item& item : items_) x.push_back(item.source < 0 ? missing_value : value(channel, item.source));
      const std::vector<double> known = x;
      for (std::size_t first = 0; first < T; ++first) {
        if (!std::isnan(x[first])) continue;
        std::size_t last = first;
        while (last < T && std::isnan(known[last])) ++last;
        if (last - first == T) {
          fail(fmt::format("column '{}' has no value at all", series_.channels[d]),
               filled_.size() == 1 ? "write its values"
                                   : "leave the column out: " + drop_flag(options_, {series_.channels[d]}));
        }
        if (static_cast<std::int64_t>(last - first) > longest_) refuse_run(channel, first, last);
        result_.longest = std::max(result_.longest, static_cast<std::int64_t>(last - first));
        for (std::size_t t = first; t < last; ++t) {
          const char* rule = nullptr;
          x[t] = round_as(fill_one(known, first, last, t, season, rule), d);
          if (items_[t].source >= 0) edits_.push_back({items_[t].source, channel, rule});
        }
        first = last;
      }
    }
  }

  double fill_one(const std::vector<double>& known, std::size_t first, std::size_t last, std::size_t t,
                  std::int64_t season, const char*& rule) const {
    rule = "nearest";
    if (first == 0) return known[last];
    if (last == known.size()) return known[first - 1];
    rule = "forward";
    if (rules_.fill == Fill::forward) return known[first - 1];
    if (rules_.fill == Fill::seasonal && season > 0) {
      double sum = 0;
      int count = 0;
      for (const std::int64_t step : {-season, season}) {
        auto at = static_cast<std::int64_t>(t) + step;
        while (at >= 0 && at < std::ssize(known) && std::isnan(known[static_cast<std::size_t>(at)])) at += step;
        if (at < 0 || at >= std::ssize(known)) continue;
        sum += known[static_cast<std::size_t>(at)];
        ++count;
      }
      rule = "seasonal";
      if (count > 0) return sum / count;
    }
    rule = "linear";
    const double share = static_cast<double>(t - first + 1) / static_cast<double>(last - first + 1);
    return known[first - 1] + share * (known[last] - known[first - 1]);
  }

  void refuse_long_holes(const std::vector<Hole>& holes, const std::vector<Stamp>& dates) const {
    const auto longest = std::ranges::max_element(holes, {}, &Hole::absent);
    if (longest == holes.end() || longest->absent <= longest_) return;
    const Stamp& before = dates[static_cast<std::size_t>(longest->row - 1)];
    const auto [from, to] = ends_of_hole(before, step_, longest->absent, series_);
    fail(fmt::format("{} rows are absent from {} to {}, more than the {} that are filled in", longest->absent, from, to,
                     longest_),
         fmt::format("if they may be interpolated: --max-gap {}; to leave the holes: --gaps keep", longest->absent),
         line(order_[static_cast<std::size_t>(longest->row)]));
  }

  [[noreturn]] void refuse_run(std::int64_t channel, std::size_t first, std::size_t last) const {
    std::size_t with_row = first;
    while (with_row + 1 < last && items_[with_row].source < 0) ++with_row;
    const std::string& name = series_.channels[static_cast<std::size_t>(channel)];
    fail(fmt::format("column '{}': {} values are missing from {} to {}, more than the {} that are filled in", name,
                     last - first, date_text(first), date_text(last - 1), longest_),
         fmt::format("if they may be interpolated: --max-gap {}{}", last - first,
                     filled_.size() == 1 ? "" : "; else leave the column out: " + drop_flag(options_, {name})),
         items_[with_row].source < 0 ? 0 : line(items_[with_row].source),
         static_cast<std::int64_t>(series_.value_columns[static_cast<std::size_t>(channel)]) + 1);
  }

  double round_as(double x, std::size_t channel) const {
    const int decimals = decimals_[channel];
    if (decimals >= any_decimals) return x;
    return std::stod(fmt::format("{:.{}f}", x, decimals));
  }

  std::string number_text(double x, int decimals) const {
    std::string text = decimals >= any_decimals ? fmt::format("{:.10g}", x) : fmt::format("{:.{}f}", x, decimals);
    if (text.starts_with('-') && text.find_first_of("123456789") == text.npos) text.erase(0, 1);
    if (options_.decimal == Decimal::comma) std::ranges::replace(text, '.', ',');
    return cell_text(text);
  }

  std::string cell_text(const std::string& text) const {
    if (text.find(layout_.delimiter) == text.npos) return text;
    return '"' + text + '"';
  }

  void write() {
    std::ranges::stable_sort(edits_, {}, &Edit::row);
    result_.text = prefix_;
    std::size_t last = 0;
    const std::size_t end = visit(0, [&](std::size_t, std::string_view, std::size_t, std::size_t at) { last = at; });
    const std::string_view line_end = end > last ? raw(last, end) : "\n";
    result_.text += raw(0, offset(rows_[0].at));
    write_behind(0);
    std::size_t before = 0, after = 0;  // items of the text around those that are inserted
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const std::int64_t row = items_[i].source;
      if (row < 0) {
        if (after < i) after = i;
        while (items_[after].source < 0) ++after;
        write_inserted(i, before, after, line_end);
        continue;
      }
      write_row(row, i);
      if (!result_.text.ends_with('\n') && !result_.text.ends_with('\r') && i + 1 < items_.size()) {
        result_.text += line_end;
      }
      before = i;
    }
    result_.text += raw(end_of(series_.rows - 1), original_.size());
  }

  std::size_t end_of(std::int64_t row) const {
    return visit(row, [](std::size_t, std::string_view, std::size_t, std::size_t) {});
  }

  // What stands behind rows that are removed, up to the next one that is not.
  void write_behind(std::size_t row) {
    for (; row < rows_.size() && removed_[row]; ++row) {
      const std::size_t next = row + 1 < rows_.size() ? offset(rows_[row + 1].at) : end_of(series_.rows - 1);
      result_.text += raw(end_of(static_cast<std::int64_t>(row)), next);
    }
  }

  // With what stands between it and the next row of the text.
  void write_row(std::int64_t row, std::size_t item) {
    write_own(row, item);
    write_behind(static_cast<std::size_t>(row) + 1);
  }

  void write_own(std::int64_t row, std::size_t item) {
    const auto t = static_cast<std::size_t>(row);
    const std::size_t first = offset(rows_[t].at);
    const std::size_t next = t + 1 < rows_.size() ? offset(rows_[t + 1].at) : end_of(row);
    const auto from = std::ranges::lower_bound(edits_, row, {}, &Edit::row);
    const std::span edits(from, std::ranges::upper_bound(edits_, row, {}, &Edit::row));
    if (edits.empty()) {
      result_.text += raw(first, next);
      return;
    }
    std::size_t written = first;
    visit(row, [&](std::size_t i, std::string_view text, std::size_t begin, std::size_t end) {
      // A mean may have been filled, too: the last rule counts.
      const Edit* edit = nullptr;
      for (const Edit& e : edits) {
        if (series_.value_columns[static_cast<std::size_t>(e.channel)] == i) edit = &e;
      }
      if (edit == nullptr) return;
      const auto d = static_cast<std::size_t>(edit->channel);
      const std::string now = number_text(filled_[d][item], decimals_[d]);
      result_.text += raw(written, begin);
      result_.text += now;
      written = end;
      double number = 0;
      const bool sentinel = read_cell(text, options_.decimal, number) != CellKind::missing;
      const bool mean = edit->rule == std::string_view("mean");
      (mean ? result_.averaged : result_.filled) += mean || !sentinel ? 1 : 0;
      result_.changes.push_back({line(row), series_.channels[d], std::string(text), now, edit->rule});
    });
    result_.text += raw(written, next);
  }

  // Of the shape of the row before it.
  void write_inserted(std::size_t item, std::size_t before, std::size_t after, std::string_view line_end) {
    const double share = static_cast<double>(item - before) / static_cast<double>(after - before);
    const std::string date = format_stamp(items_[item].date, series_.date_format);
    const std::vector<std::string> dates = series_.date_parts.empty() ? std::vector{date} : series_.date_cells(date);
    std::vector<std::string> later;
    visit(items_[after].source,
          [&](std::size_t, std::string_view text, std::size_t, std::size_t) { later.emplace_back(text); });
    std::string made;
    visit(items_[before].source, [&](std::size_t i, std::string_view text, std::size_t begin, std::size_t end) {
      if (i > 0) made += layout_.delimiter;
      const auto part = std::ranges::find(series_.date_columns, i);
      if (part != series_.date_columns.end()) {
        const std::string& cell = dates[static_cast<std::size_t>(part - series_.date_columns.begin())];
        made += original_[begin] == '"' ? '"' + cell + '"' : cell_text(cell);
        return;
      }
      const auto column = std::ranges::find(series_.value_columns, i);
      if (column != series_.value_columns.end()) {
        const auto d = static_cast<std::size_t>(column - series_.value_columns.begin());
        made += number_text(filled_[d][item], decimals_[d]);
        return;
      }
      const std::string_view next = i < later.size() ? std::string_view(later[i]) : "";
      double a = 0, b = 0;
      if (text == next) {
        made += raw(begin, end);
      } else if (read_cell(text, options_.decimal, a) == CellKind::number &&
                 read_cell(next, options_.decimal, b) == CellKind::number) {
        made += number_text(a + share * (b - a), any_decimals);
      }
    });
    result_.text += made;
    result_.text += line_end;
    result_.changes.push_back({line(items_[after].source), "", "", made, "insert"});
  }

  static constexpr int any_decimals = 16;

  const std::string& path_;
  const SeriesOptions& options_;
  const Repair& rules_;
  Series series_;
  std::string mended_;
  std::string_view original_, prefix_;
  const char* base_ = nullptr;  // of the text that cells are read from; original_ differs in line ends alone
  Layout layout_;
  std::vector<Cells::Mark> rows_;  // of the series, in the text
  std::vector<int> decimals_;      // of a channel; any_decimals and more: as many as it takes
  std::vector<std::int64_t> order_;
  std::vector<bool> removed_;
  Step step_;
  std::vector<Item> items_;
  std::vector<std::vector<double>> filled_;  // [D][items]
  std::vector<Edit> edits_;
  std::int64_t longest_ = 0;
  Repaired result_;
};

}  // namespace

Repaired repair(std::string_view bytes, const std::string& path, const SeriesOptions& options, const Repair& rules) {
  Repaired repaired = Repairer(bytes, path, options, rules).run();
  const Series read = parse_csv(repaired.text, path, options);
  SAMFORMER_CHECK(read.rows == repaired.rows, "the repaired text has {} rows, expected {}", read.rows, repaired.rows);
  for (const Finding& f : read.findings) {
    SAMFORMER_CHECK(f.severity != Severity::refuse, "the repaired text is refused: line {}: {}", f.line, f.message);
  }
  return repaired;
}

std::pair<std::string, std::string> ends_of_hole(const Stamp& before, const Step& step, std::int64_t absent,
                                                 const Series& series) {
  const auto text = [&](std::int64_t steps) {
    Step all = step;
    const bool at_once = step.unit != StepUnit::slot && !__builtin_mul_overflow(step.count, steps, &all.count);
    const std::vector<Stamp> dates =
        continue_dates(before, at_once ? all : step, at_once ? 1 : steps, series.zone.get());
    return format_stamp(dates.back(), series.date_format);
  };
  return {text(1), text(absent)};
}

std::vector<Gap> gaps_of(const Series& series) {
  std::vector<Gap> gaps;
  for (const Hole& hole : series.holes) {
    if (hole.absent > 0) gaps.push_back({-1, hole.row, hole.absent});
  }
  for (std::int64_t d = 0; d < series.width(); ++d) {
    const auto values = series.channel(d);
    for (std::int64_t t = 0; t < series.rows; ++t) {
      const std::int64_t first = t;
      while (t < series.rows && std::isnan(values[static_cast<std::size_t>(t)])) ++t;
      if (t > first) gaps.push_back({d, first, t - first});
    }
  }
  return gaps;
}

std::string repair_command(const std::string& path, const SeriesOptions& options) {
  std::string command = fmt::format("samformer data repair {}", shell_quoted(path));
  const auto add = [&](std::string_view flag, const std::string& value) {
    if (!value.empty()) command += fmt::format(" --{} {}", flag, shell_quoted(value));
  };
  if (!options.columns_of_model) {
    if (!options.columns.empty()) command += " --columns " + names_word(options.columns);
    if (!options.drop.empty()) command += " --drop " + names_word(options.drop);
  }
  add("date-column", options.date_column);
  add("date-format", options.date_format);
  add("freq", options.freq);
  add("timezone", options.timezone);
  if (options.no_date) command += " --no-date";
  add("delimiter", options.delimiter == ';'    ? "semicolon"
                   : options.delimiter == '\t' ? "tab"
                   : options.delimiter == ','  ? "comma"
                                               : "");
  add("decimal", options.decimal == Decimal::comma ? "comma" : options.decimal == Decimal::point ? "point" : "");
  std::string name = path == "-" ? "series" : path.substr(path.rfind('/') + 1);
  for (const std::string_view end : {".gz", ".zst", ".csv", ".txt"}) {
    if (name.size() > end.size() && lower(name).ends_with(end)) name.resize(name.size() - end.size());
  }
  return command + " --out " + shell_quoted((name.starts_with('-') ? "./" : "") + name + "-repaired.csv");
}

}  // namespace samformer::model
