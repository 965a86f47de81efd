// A time series in memory, what is wrong with it, its splits, scaler and windows.
// Values are channel-major, values[d * rows + t], so that a window of one channel is a contiguous slice: a batch is a
// list of start rows and no window is ever copied. Splits are row ranges; ETT rules leave the rows after their last
// test row unused. Scaling: per channel, mean and biased standard deviation of the training rows (1 where constant).
// Errors: Exit::data for what the file has, Exit::usage for what the flags ask; both name the flag or the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "model/data/calendar.h"

namespace samformer::model {

enum class Severity : std::uint8_t { warn, refuse };

// One finding stands for all cells of one kind in one column; the place is the first one's (from 1; 0: none).
// Kinds: missing, infinite, unparsable, text-column, ragged, date, date-order, repeated, gap, irregular, step,
// constant, sentinel, skipped, notation, counter, freq, formula; in long form also id, unread.
struct Finding {
  Severity severity = Severity::refuse;
  std::string kind;
  std::string file;
  std::int64_t line = 0;
  std::int64_t column = 0;
  std::int64_t count = 1;
  std::string message;
  std::string hint;
  std::string found = {};  // of a sentinel: the number
};

Error error_of(const Finding& finding);  // Exit::data

enum class Decimal : std::uint8_t { found, point, comma };
// What the series of a file in long form become: a channel each, or windows of one channel.
enum class PanelForm : std::uint8_t { found, channels, global };

// How a file is to be read, whatever its format.
struct SeriesOptions {
  std::vector<std::string> columns = {};  // these channels in this order; empty: all in the file's order, ids in theirs
  std::vector<std::string> drop = {};
  std::string date_column = {};  // empty: found; names with commas between them: of a date in several columns
  std::string date_format = {};  // empty: found
  std::string freq = {};         // empty: inferred
  std::string timezone = {};     // of local times without offsets; empty: none
  bool no_date = false;
  char delimiter = 0;  // of text; 0: found
  Decimal decimal = Decimal::found;
  std::string id = {}, value_column = {};  // of a file in long form; empty: found
  PanelForm panel = PanelForm::found;      // channels where all series have the same dates, else global
  // `predict`: `columns` are a trained model's, so an absent one is the file's fault (exit 3) and not the flags'.
  bool columns_of_model = false;
  std::vector<std::string> known_ahead = {};  // these columns go on after the last row of the others; a * in a name
  // `predict`: missing values are accepted (and stay NaN) before the last so many rows; -1: accepted nowhere.
  std::int64_t missing_allowed_before_last = -1;
};

// Whether one of the patterns, with one * at most, is the column's name.
bool is_known_ahead(std::span<const std::string> patterns, std::string_view name);

struct Span {
  std::int64_t first = 0;
  std::int64_t last = 0;  // exclusive

  std::int64_t size() const { return last - first; }
  bool operator==(const Span&) const = default;
};

// Rows that the calendar has between `row` - 1 and `row`, and the file has not; none (0) where another series of a panel
// begins.
struct Hole {
  std::int64_t row = 0;
  std::int64_t absent = 0;
};

struct Series {
  std::string path;    // as given; "-" is stdin
  std::string sha256;  // of the file's bytes; the caller fills it
  std::string name;    // the file's name without folder and extension
  std::vector<std::string> channels;
  std::int64_t rows = 0;
  std::vector<double> values;  // [D][T]
  std::vector<Stamp> dates;    // [T]; empty with --no-date
  DateFormat date_format;
  // Where the file writes a date in several columns: these, in the file's order. Empty: in one column.
  struct DatePart {
    std::string name;
    std::size_t first_word = 0, words = 1;  // of the date's text
    bool padded = true;                     // a minute below 10 has a zero before it
    bool hour = false;                      // an hour alone: without the date's minutes
  };
  std::vector<DatePart> date_parts;
  // Where a file of text has them, from 0: the parts of its dates, the channels.
  std::vector<std::size_t> date_columns, value_columns;
  Step step;
  std::vector<Hole> holes;          // no window crosses one; days without business are none
  std::vector<std::int64_t> lines;  // [T] of the file, from 1
  // The columns of a file in long form, a row a series and date; empty: one column a series.
  struct LongForm {
    std::string id, date, value;
  };
  LongForm long_form;
  // PanelForm::global: the series by id, one behind another in one channel; no window crosses from one to the next.
  struct Member {
    std::string id;
    Span rows;
  };
  std::vector<Member> panel;
  std::shared_ptr<const TimeZone> zone;  // that says the dates' offsets; null: the file does, or nothing
  std::vector<Finding> findings;         // by line; refusals and warnings
  // Columns that are no channels, because they are known ahead (model/data/covariates.h): the series' rows, and those
  // behind its last one.
  struct Known {
    std::vector<std::string> names;
    std::vector<Stamp> dates;
    std::vector<std::int64_t> lines;
    std::int64_t rows = 0;
    std::vector<double> values;  // [names][rows]
  } known;

  std::int64_t width() const { return static_cast<std::int64_t>(channels.size()); }
  std::span<const double> channel(std::int64_t d) const {
    return std::span(values).subspan(static_cast<std::size_t>(d * rows), static_cast<std::size_t>(rows));
  }
  // The date of a row in the file's own format; "row N" (from 1) with --no-date.
  std::string date(std::int64_t row) const;
  // The cells of a date in the columns `date_parts`.
  std::vector<std::string> date_cells(const std::string& date) const;
};

// Of the rows that come more than one step after the one before. Up to two weeks without business days are none: the
// next session follows the last one.
std::vector<Hole> find_holes(std::span<const Stamp> dates, const Step& step);
// The same of a series; those of a panel between its series too.
std::vector<Hole> find_holes(const Series& series);
// Reads the dates as of another step, if (nearly) all agree with it; else false.
bool take_step(Series& series, const Step& step);
// The last row before `end` that ends `length` rows without a missing value or a hole; -1 where there is none.
std::int64_t last_complete_row(const Series& series, std::int64_t length, std::int64_t end);
// Throws Exit::data, with what the reader found, where the dates of a forecast have no step.
void require_step(const Series& series, const Step& step);
// Throws Exit::data where fewer than `length` rows end at a forecast's origin, or a hole is in them: it
// puts every cycle out of step.
void require_lookback(const Series& series, const SeriesOptions& options, std::int64_t length, std::int64_t origin);
// "--drop a,b" of columns beside those that are left out: pasted behind a --drop it takes that one's place.
std::string drop_flag(const SeriesOptions& options, const std::vector<std::string>& more);
// A row as --origin names it, quoted for a shell.
std::string origin_word(const Series& series, std::int64_t row);

// Throws the first refusal as Error(Exit::data); warnings are left to the caller.
void require_clean(const Series& series);
// The date that `text` names, in the series' notation and zone.
std::optional<Stamp> read_date(const Series& series, std::string_view text);
// Row of the date that `text` names (the series' format, or ISO); throws Exit::usage where no row has it.
std::int64_t find_row(const Series& series, const std::string& text);

enum class Features : std::uint8_t { m, s, ms };

// The targets' channel indices, in the order asked (default: the last column). M: all channels, `targets` must be
// empty. S: the series is cut down to its targets. An unknown name throws Exit::usage and names the nearest.
std::vector<int> select_targets(Series& series, Features features, const std::vector<std::string>& targets);

struct Splits {
  std::string rule;  // resolved: what `auto` became; reading it again gives the same splits
  Span train, val, test;
};

// What `auto` is for a series of this name; other rules are what they are.
std::string split_rule(const std::string& rule, std::string name);
// auto | ett-hour | ett-minute | ratio[:A,B,C] | rows:A,B,C[@FIRST] | dates:VAL,TEST[,END]. Ratio borders as Python
// computes them: int(A n) and n - int(C n). The rows before FIRST (from 0) are in no part. VAL and TEST are the first
// dates of their parts, END the first date after the test.
Splits split_rows(const std::string& rule, const Series& series);
// The horizon where none is asked for: hours and less 96, days 28, business days 20, weeks 13, months 12, quarters 8,
// years 3; 96 without a step.
std::int64_t default_horizon(const Step& step);
std::span<const std::int64_t> default_lookbacks();  // 512, 384, 256, ..., 12, 8
// The largest of them that leaves max(32, half of it) training windows; 8 where none does.
std::int64_t default_lookback(const Series& series, const Splits& splits, std::int64_t horizon);
// Fewer training windows than this are too few to trust.
inline constexpr std::int64_t few_windows = 32;
// Whether every part has a window that crosses no hole.
bool has_windows(const Series& series, const Splits& splits, std::int64_t lookback, std::int64_t horizon);
// Throws Exit::data unless every part has a window: says the rows it has and needs, the largest horizon at this
// look-back and the largest look-back at this horizon that leave few_windows, else a pair that fits.
void check_length(const Series& series, const Splits& splits, std::int64_t lookback, std::int64_t horizon);

// Rows whose windows have their targets in `part`: validation and test start `lookback` rows earlier. Not for train.
inline Span with_lookback(Span part, std::int64_t lookback) { return {part.first - lookback, part.last}; }
// The runs of `rows` between the series' holes.
std::vector<Span> unbroken(const Series& series, Span rows);
// Windows of lookback + horizon rows, stride 1, wholly inside `rows`; those of a series cross none of its holes.
std::int64_t window_count(Span rows, std::int64_t lookback, std::int64_t horizon);
std::int64_t window_count(const Series& series, Span rows, std::int64_t lookback, std::int64_t horizon);
std::vector<std::int32_t> window_starts(Span rows, std::int64_t lookback, std::int64_t horizon);
std::vector<std::int32_t> window_starts(const Series& series, Span rows, std::int64_t lookback, std::int64_t horizon);

struct Scaler {
  std::vector<double> mean;  // [D]
  std::vector<double> std;   // [D], > 0

  double restore(double standardised, std::size_t d) const { return standardised * std[d] + mean[d]; }
};

// Of one channel's values, at least one.
std::pair<double, double> mean_and_deviation(std::span<const double> values);
Scaler fit_scaler(const Series& series, Span rows);

// Deviations of a channel's training rows and of those from there to `end`, around the training rows' mean. Late: the
// former say next to nothing of the latter.
struct Spread {
  double before = 0;
  double after = 0;
  bool late() const { return before == 0 || after >= 30 * before; }
};
Spread spread_of(std::span<const double> values, Span train, std::int64_t end);
struct LateChannel {
  std::int64_t channel = 0;
  double before = 0;
  double after = 0;
};
// Those that vary at least 30 times as much in the rows from the training part to `end`, and those that are constant in
// it.
std::vector<LateChannel> late_channels(const Series& series, Span train, std::int64_t end);
std::vector<float> standardise(const Series& series, const Scaler& scaler);  // [D][T]
// Its rows `known`, and `ahead` of NaN behind them.
std::vector<float> standardise(const Series& series, const Scaler& scaler, Span known, std::int64_t ahead);

}  // namespace samformer::model
