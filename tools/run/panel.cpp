#include "tools/run/panel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "model/data/marks.h"
#include "tools/cli/text_format.h"

namespace samformer::tools {
namespace {

model::Span moved(model::Span rows, std::int64_t by) { return {rows.first + by, rows.last + by}; }

// Where a part's windows begin at the earliest: its look-back, as far as the series has it.
model::Span reach(const model::Series::Member& member, model::Span part, std::int64_t L) {
  return {std::max(part.first - L, member.rows.first), part.last};
}

std::int64_t windows_of(const model::Series& file, const model::Series::Member& member, model::Span part,
                        std::int64_t L, std::int64_t H) {
  return part.size() <= 0 ? 0 : model::window_count(file, reach(member, part, L), L, H);
}

// The rows of one series as one of its own, for a rule that splits it.
model::Series alone(const model::Series& file, model::Span rows, bool dated) {
  model::Series one;
  one.path = file.path;
  one.rows = rows.size();
  one.date_format = file.date_format;
  one.zone = file.zone;
  if (dated) one.dates.assign(file.dates.begin() + rows.first, file.dates.begin() + rows.last);
  return one;
}

// Mean and deviation of a series' rows; a deviation of 0 where there are none.
std::pair<double, double> scale_of(const model::Series& file, model::Span rows) {
  if (rows.size() <= 0) return {0, 0};
  return model::mean_and_deviation(
      std::span(file.values).subspan(static_cast<std::size_t>(rows.first), static_cast<std::size_t>(rows.size())));
}

// The first row of a series after a date.
std::int64_t row_after(const model::Series& file, const model::Series::Member& member, const model::Stamp& date) {
  std::int64_t row = member.rows.last;
  while (row > member.rows.first && model::compare(file.dates[static_cast<std::size_t>(row - 1)], date) > 0) --row;
  return row;
}

using Known = std::unordered_map<std::string_view, std::size_t>;
Known known_of(const PanelScale* stored) {
  Known known;
  for (std::size_t i = 0; stored != nullptr && i < stored->ids.size(); ++i) known.emplace(stored->ids[i], i);
  return known;
}

// The channel of these pieces, with a hole between any two.
model::Series channel_of(const model::Series& file, std::span<const Panel::Piece> pieces) {
  model::Series laid;
  laid.path = file.path;
  laid.sha256 = file.sha256;
  laid.name = file.name;
  laid.channels = file.channels;
  laid.date_format = file.date_format;
  laid.date_parts = file.date_parts;
  laid.step = file.step;
  laid.zone = file.zone;
  laid.long_form = file.long_form;
  laid.rows = pieces.empty() ? 0 : pieces.back().rows.last;
  if (laid.rows > std::numeric_limits<std::int32_t>::max()) {
    throw Error(Exit::data, fmt::format("{} rows of windows are more than 2^31 - 1", laid.rows)).at(file.path);
  }
  laid.values.reserve(static_cast<std::size_t>(laid.rows));
  laid.dates.reserve(static_cast<std::size_t>(laid.rows));
  for (const Panel::Piece& piece : pieces) {
    const auto first = piece.source, last = piece.source + piece.rows.size();
    laid.values.insert(laid.values.end(), file.values.begin() + first, file.values.begin() + last);
    laid.dates.insert(laid.dates.end(), file.dates.begin() + first, file.dates.begin() + last);
    if (piece.rows.first > 0) laid.holes.push_back({piece.rows.first, 0});
    auto hole = std::ranges::upper_bound(file.holes, first, {}, &model::Hole::row);
    for (; hole != file.holes.end() && hole->row < last; ++hole) {
      laid.holes.push_back({hole->row - first + piece.rows.first, hole->absent});
    }
  }
  return laid;
}

// Lays the pieces out, in the scale of their series.
void fill(Experiment& e, Panel& panel, const PanelScale* stored, std::int64_t season) {
  const Known known = known_of(stored);
  for (std::size_t k = 0; k < panel.file.panel.size(); ++k) {
    const auto found = known.find(panel.file.panel[k].id);
    auto [mean, deviation] = scale_of(panel.file, panel.trained[k]);
    if (found != known.end()) {
      mean = stored->scaler.mean[found->second];
      deviation = stored->scaler.std[found->second];
    }
    panel.scaler.mean.push_back(mean);
    panel.scaler.std.push_back(deviation);
  }
  panel.series = std::ssize(panel.file.panel);
  e.series = channel_of(panel.file, panel.pieces);
  e.targets = {0};
  e.scaler = {{0}, {1}};
  e.season = season;
  model::MarkedValues all = model::marked_values(e.series, e.scaler);
  for (const Panel::Piece& piece : panel.pieces) {
    const auto k = static_cast<std::size_t>(piece.member);
    for (std::int64_t t = piece.rows.first; t < piece.rows.last; ++t) {
      const double value = e.series.values[static_cast<std::size_t>(t)];
      all.values[static_cast<std::size_t>(t)] =
          static_cast<float>((value - panel.scaler.mean[k]) / panel.scaler.std[k]);
    }
  }
  e.values = std::move(all);
  e.panel = std::make_shared<const Panel>(std::move(panel));
}

}  // namespace

const Panel::Piece& Panel::piece_at(std::int64_t row) const {
  const auto after = std::ranges::upper_bound(pieces, row, {}, [](const Piece& p) { return p.rows.first; });
  return *std::prev(after);
}

PanelScale Panel::scale() const {
  PanelScale of;
  for (std::size_t k = 0; k < file.panel.size(); ++k) {
    if (trained[k].size() <= 0) continue;
    of.ids.push_back(file.panel[k].id);
    of.scaler.mean.push_back(scaler.mean[k]);
    of.scaler.std.push_back(scaler.std[k]);
    of.until.push_back(file.date(trained[k].last - 1));
    of.late.push_back(late[k]);
  }
  return of;
}

PanelWindows count_windows(const model::Series& file, std::span<const model::Splits> parts, std::int64_t L,
                           std::int64_t H) {
  PanelWindows all;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    const model::Series::Member& member = file.panel[k];
    const std::int64_t train = model::window_count(file, parts[k].train, L, H);
    const std::int64_t val = windows_of(file, member, parts[k].val, L, H);
    const std::int64_t test = windows_of(file, member, parts[k].test, L, H);
    all.train += train, all.val += val, all.test += test;
    all.trained += train > 0, all.tested += test > 0, all.unused += train + val + test == 0;
  }
  return all;
}

std::vector<model::Splits> panel_splits(const model::Series& file, DataSettings& settings) {
  if (settings.horizon == 0) settings.horizon = model::default_horizon(file.step);
  const std::string rule = settings.split == "auto" ? "ratio" : settings.split;
  const bool by_ratio = rule.starts_with("ratio");
  if (!by_ratio && !rule.starts_with("dates:")) {
    throw Error(Exit::usage, fmt::format("--split {}: the series of a panel have rows of their own", rule))
        .hint("--split ratio[:A,B,C] of each series' rows, or dates:VAL,TEST[,END] for all of them");
  }
  std::vector<model::Splits> parts;
  for (const model::Series::Member& member : file.panel) {
    model::Splits own = model::split_rows(rule, alone(file, member.rows, !by_ratio));
    for (model::Span* part : {&own.train, &own.val, &own.test}) *part = moved(*part, member.rows.first);
    parts.push_back(std::move(own));
  }
  const std::int64_t H = settings.horizon;
  if (settings.lookback == 0) {
    const auto lookbacks = model::default_lookbacks();
    // Whether half of the series have so many training windows, and all together as many as one series needs.
    const auto longest = [&](const auto& of_each) {
      return std::ranges::find_if(lookbacks, [&](std::int64_t L) {
        std::int64_t enough = 0, all = 0;
        for (const model::Splits& own : parts) {
          const std::int64_t windows = model::window_count(file, own.train, L, H);
          enough += windows >= of_each(L);
          all += windows;
        }
        return 2 * enough >= std::ssize(parts) && all >= std::max(model::few_windows, L / 2);
      });
    };
    auto found = longest([](std::int64_t L) { return std::max(model::few_windows, L / 2); });
    if (found == lookbacks.end()) found = longest([](std::int64_t) { return std::int64_t{1}; });
    settings.lookback = found == lookbacks.end() ? lookbacks.back() : *found;
  }
  for (std::size_t k = 0; by_ratio && k < parts.size(); ++k) {
    const model::Series::Member& member = file.panel[k];
    const std::int64_t L = settings.lookback;
    if (windows_of(file, member, parts[k].val, L, H) + windows_of(file, member, parts[k].test, L, H) > 0) continue;
    parts[k].train = member.rows;
    parts[k].val = parts[k].test = {member.rows.last, member.rows.last};
  }
  return parts;
}

std::string panel_text(const model::Series& file, const PanelWindows& w) {
  const std::int64_t all = std::ssize(file.panel);
  if (w.trained == all && w.tested == all) return "";
  return fmt::format("of {} series {} are trained on and {} tested{}", all, w.trained, w.tested,
                     w.unused > 0 ? fmt::format("; {} are too short for any window: only forecast", w.unused) : "");
}

void check_panel(const model::Series& file, std::span<const model::Splits> parts, const PanelWindows& w, std::int64_t L,
                 std::int64_t H) {
  for (const auto& [part, windows] : {std::pair("training", w.train), {"validation", w.val}, {"test", w.test}}) {
    if (windows > 0) continue;
    const auto longest =
        std::ranges::max_element(file.panel, {}, [](const model::Series::Member& m) { return m.rows.size(); });
    const model::Splits& own = parts[static_cast<std::size_t>(longest - file.panel.begin())];
    throw Error(Exit::data,
                fmt::format("no series has a window of {} + {} steps for the {} part (split {}); the longest, "
                            "'{}', has {} rows of training, {} of validation, {} of test",
                            L, H, part, own.rule, longest->id, own.train.size(), own.val.size(), own.test.size()))
        .at(file.path)
        .hint("a shorter --lookback or --horizon, or another --split");
  }
}

Experiment panel_experiment(model::Series file, std::vector<model::Splits> parts, const DataSettings& settings,
                            const PanelScale* stored) {
  const std::int64_t L = settings.lookback, H = settings.horizon;
  Experiment e;
  Panel panel;
  panel.file = std::move(file);
  panel.parts = std::move(parts);
  std::int64_t end = 0;
  const auto add = [&](std::size_t k, model::Span rows) {
    panel.pieces.push_back({static_cast<std::int64_t>(k), {end, end + rows.size()}, rows.first});
    end += rows.size();
  };
  for (std::size_t k = 0; k < panel.parts.size(); ++k) {
    const model::Span train = panel.parts[k].train;
    panel.trained.push_back(train);
    if (model::window_count(panel.file, train, L, H) > 0) add(k, train);
  }
  e.splits = {panel.parts[0].rule, {0, end}, {}, {}};
  const Known known = known_of(stored);
  panel.late.assign(panel.parts.size(), 0);
  for (model::Span* const part : {&e.splits.val, &e.splits.test}) {
    part->first = end + L;
    for (std::size_t k = 0; k < panel.parts.size(); ++k) {
      const model::Series::Member& member = panel.file.panel[k];
      const model::Splits& own = panel.parts[k];
      const model::Span of = part == &e.splits.val ? own.val : own.test;
      if (windows_of(panel.file, member, of, L, H) == 0) continue;
      const auto seen = known.find(member.id);
      if (own.train.size() <= 0 && seen == known.end()) continue;  // without a scale
      // What is chosen by validation error must not see the test rows.
      const bool late = settings.late == "leave-out" &&
                        (seen != known.end() ? stored->late[seen->second] != 0
                                             : model::spread_of(panel.file.values, own.train, of.last).late());
      panel.late[k] = late;
      if (late) continue;
      add(k, reach(member, of, L));
      panel.tested += part == &e.splits.test;
    }
    part->last = std::max(end, part->first);
  }
  fill(e, panel, stored, settings.season > 0 ? settings.season : panel.file.step.season());
  return e;
}

Experiment panel_of_all_rows(const Panel& from, std::int64_t season, const PanelScale* stored) {
  Experiment e;
  Panel panel;
  panel.file = from.file;
  panel.parts = from.parts;
  for (std::size_t k = 0; k < panel.file.panel.size(); ++k) {
    const model::Span rows = panel.file.panel[k].rows;
    panel.trained.push_back(rows);
    panel.pieces.push_back({static_cast<std::int64_t>(k), rows, rows.first});
  }
  panel.late = from.late;
  panel.tested = std::ssize(panel.pieces);
  e.splits = {panel.parts.empty() ? "ratio" : panel.parts[0].rule, {0, panel.file.rows}, {}, {}};
  fill(e, panel, stored, season);
  return e;
}

Experiment panel_after_training(const model::Series& file, std::int64_t L, std::int64_t H, const PanelScale& scale,
                                const model::Stamp* until) {
  Experiment e;
  Panel panel;
  panel.file = file;
  panel.late.assign(file.panel.size(), 0);
  const Known known = known_of(&scale);
  std::int64_t end = 0;
  for (std::size_t k = 0; k < file.panel.size(); ++k) {
    const model::Series::Member& member = file.panel[k];
    model::Span rows = member.rows;
    if (until != nullptr) rows.last = row_after(file, member, *until);
    panel.trained.push_back(rows);
    const auto found = known.find(member.id);
    if (found != known.end()) {
      if (const auto trained = model::read_date(file, scale.until[found->second])) {
        rows.first = std::min(row_after(file, member, *trained), rows.last);
      }
    }
    if (windows_of(file, member, rows, L, H) == 0) continue;
    rows = reach(member, rows, L);
    panel.pieces.push_back({static_cast<std::int64_t>(k), {end, end + rows.size()}, rows.first});
    end += rows.size();
  }
  e.splits = {"ratio", {0, end}, {}, {}};
  fill(e, panel, &scale, 0);
  return e;
}

PanelEnds panel_ends(const model::Series& file, std::int64_t L, std::int64_t H, const PanelScale& scale,
                     const model::Stamp* until) {
  PanelEnds ends;
  const Known known = known_of(&scale);
  model::Series& s = ends.series;
  s.path = file.path;
  s.channels = file.channels;
  s.step = file.step;
  s.date_format = file.date_format;
  s.zone = file.zone;
  for (std::size_t k = 0; k < file.panel.size(); ++k) {
    const model::Series::Member& member = file.panel[k];
    const std::int64_t last = until != nullptr ? row_after(file, member, *until) : member.rows.last;
    if (last == member.rows.first) {
      ends.left_out.push_back(member.id);
      continue;
    }
    const std::int64_t first = std::max(member.rows.first, last - L), have = last - first;
    const auto found = known.find(member.id);
    auto [mean, deviation] = scale_of(file, {member.rows.first, last});
    if (found != known.end()) {
      mean = scale.scaler.mean[found->second];
      deviation = scale.scaler.std[found->second];
    } else {
      ends.unseen.push_back(member.id);
    }
    if (have < L) ends.padded.push_back(member.id);
    const auto values = file.values.begin() + first;
    double level = 0;
    for (std::int64_t t = 0; t < have; ++t) level += values[t] / static_cast<double>(have);
    ends.starts.push_back(static_cast<std::int32_t>(s.values.size()));
    s.values.insert(s.values.end(), static_cast<std::size_t>(L - have), level);
    s.values.insert(s.values.end(), values, values + have);
    s.dates.insert(s.dates.end(), static_cast<std::size_t>(L - have), file.dates[static_cast<std::size_t>(first)]);
    s.dates.insert(s.dates.end(), file.dates.begin() + first, file.dates.begin() + last);
    s.values.insert(s.values.end(), static_cast<std::size_t>(H), std::nan(""));
    std::vector<model::Stamp> ahead(static_cast<std::size_t>(H), s.dates.back());
    if (file.step.known()) ahead = model::continue_dates(s.dates.back(), file.step, H, file.zone.get());
    s.dates.insert(s.dates.end(), ahead.begin(), ahead.end());
    ends.member.push_back(static_cast<std::int64_t>(k));
    ends.origin.push_back(last - 1);
    ends.scaler.mean.push_back(mean);
    ends.scaler.std.push_back(deviation);
  }
  s.rows = std::ssize(s.values);
  ends.values = model::marked_values(s, {{0}, {1}});
  for (std::size_t i = 0; i < s.values.size(); ++i) {
    const std::size_t k = i / static_cast<std::size_t>(L + H);
    ends.values.values[i] = static_cast<float>((s.values[i] - ends.scaler.mean[k]) / ends.scaler.std[k]);
  }
  return ends;
}

}  // namespace samformer::tools
