// A series from CSV text, and what is made of it before a training or a forecast. The input is a line of options, then
// the file; DATE COLUMN `-`: none; with FIRST, values may be missing before the last so many rows:
//
//   DELIMITER|DATE COLUMN|DATE FORMAT|FREQ|COLUMNS|DROP|FIRST
#include <algorithm>
#include <cctype>
#include <cmath>

#include "model/data/readers.h"
#include "tests/fuzz/fuzz.h"

namespace samformer::model {
namespace {

std::vector<std::string> names(std::string_view list) {
  std::vector<std::string> result;
  while (!list.empty()) result.push_back(fuzz::take(list, ','));
  return result;
}

SeriesOptions options_from(std::string_view line) {
  SeriesOptions options;
  const std::string delimiter = fuzz::take(line, '|');
  if (delimiter == "," || delimiter == ";" || delimiter == "\t") options.delimiter = delimiter[0];
  const std::string date_column = fuzz::take(line, '|');
  options.no_date = date_column == "-";
  if (!options.no_date) options.date_column = date_column;
  options.date_format = fuzz::take(line, '|');
  options.freq = fuzz::take(line, '|');
  options.columns = names(fuzz::take(line, '|'));
  options.drop = names(fuzz::take(line, '|'));
  if (!line.empty() && std::isdigit(static_cast<unsigned char>(line[0]))) {
    options.columns_of_model = true;
    options.missing_allowed_before_last = line[0] - '0';
  }
  return options;
}

void read(std::string_view text) {
  const SeriesOptions options = options_from(fuzz::take_line(text));
  Series series = parse_series(text, "fuzz.csv", options);
  fuzz::require(series.values.size() == series.channels.size() * static_cast<std::size_t>(series.rows),
                "a value for each row and channel");
  fuzz::require(series.dates.empty() || std::ssize(series.dates) == series.rows, "a date for each row, or none");
  require_clean(series);
  fuzz::require(options.missing_allowed_before_last >= 0 ||
                    std::ranges::all_of(series.values, [](double value) { return std::isfinite(value); }),
                "a clean series is finite");
  if (!series.dates.empty() && options.date_format.empty()) {  // patterns may leave out what tells two dates apart
    const Stamp& found = series.dates.at(static_cast<std::size_t>(find_row(series, series.date(0))));
    fuzz::require(compare(found, series.dates[0]) == 0, "a row is found by its date");
  }
  if (!series.dates.empty() && series.step.known()) {
    const Stamp next = continue_dates(series.dates.back(), series.step, 1, series.zone.get())[0];
    fuzz::require(compare(series.dates.back(), next) < 0, "the next date is later");
  }
  select_targets(series, Features::s, {});
  const Splits splits = split_rows("ratio", series);
  check_length(series, splits, 2, 1);
  standardise(series, fit_scaler(series, splits.train));
}

}  // namespace
}  // namespace samformer::model

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  samformer::fuzz::result_or_refusal([&] { samformer::model::read(samformer::fuzz::text_of(data, size)); });
  return 0;
}
