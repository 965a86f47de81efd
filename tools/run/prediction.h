// What `predict` gives, for the program and the library: the steps after a row of a series, or after the last row of each
// series of a panel, as they are written: inside --min and --max, rounded, with --intervals.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/cli/settings.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {

// Options that predict alone has.
struct PredictSettings {
  double min = -infinity;
  double max = infinity;
  std::int64_t decimals = -1;  // behind the point; -1: as many as float32 has
  bool integers = false;
  std::string future_data;
};

struct Forecast {
  struct Part {
    std::string id;                  // in long form
    std::string origin;              // the last row that is known
    std::size_t dates = 0;           // which of `dates`
    std::vector<std::string> texts;  // [steps][width()]
  };
  bool long_form = false;                       // a part a series; else one part of all targets
  std::vector<std::string> columns;             // the targets; in long form the name of the values
  std::vector<std::string> levels;              // of the intervals: "80"
  std::vector<std::vector<std::string>> dates;  // [.][steps]; without dates numbers of rows, from 1
  std::vector<Part> parts;
  std::vector<std::string> padded, unseen;  // series of a panel: shorter than the look-back; without training rows

  std::size_t steps() const { return dates.at(0).size(); }
  // Of a step: the columns' values, then by column and level the ends of the interval, the low one first.
  std::size_t width() const { return columns.size() * (1 + 2 * levels.size()); }
  std::size_t end_of(std::size_t column, std::size_t level) const {
    return columns.size() + 2 * (column * levels.size() + level);
  }
  std::vector<std::string> names() const;  // [width()]: HUFL, OT, HUFL_lo_80, ...; in long form y, lo_80, ...
};

// The settings of a forecast by `run`; throws Exit::usage for options that it cannot have.
Settings settings_of_prediction(const Checkpoint& run, const Resolved& asked);
// Of its series: missing values are accepted where no forecast looks.
model::SeriesOptions options_of_prediction(const Checkpoint& run, const Settings& settings, const Resolved& asked);

// How rows of what is known ahead alone are read; of other columns than the run knows ahead check_future() throws
// Exit::data.
Settings settings_of_future(Settings settings);
void check_future(const Checkpoint& run, const model::Series& future, Console& console);

// By the options of `asked`, which are predict's; the settings are those of settings_of_prediction(), `future` is null
// where the series itself goes on. Says what a reader would not expect. Exit::usage and Exit::data for what cannot be
// forecast, Exit::diverged for what overflows.
Forecast predict_after(std::span<const Checkpoint> runs, const Settings& settings, const Resolved& asked,
                       const model::Series& series, const model::Series* future, const ChosenDevice& device,
                       Console& console);

// A forecast of columns as a file in long form has it: a part each, named by it.
Forecast in_long_form(const Forecast& wide, const std::string& values);
// In the form and the names of the series' file.
std::string csv(const Forecast& f, const model::Series& series);

}  // namespace samformer::tools
