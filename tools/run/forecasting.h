// A forecast after a row of a series by the models of a run: what `predict` and the library share.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/run/run_folder.h"

namespace samformer::tools {

// load_series for bytes that are at hand; `path` is for messages.
model::Series series_from(const std::string& bytes, const std::string& path, const DataSettings& settings,
                          const model::SeriesOptions& options);
// series_of for such a series.
model::Series at_step_of(const Checkpoint& run, const DataSettings& settings, model::Series series, Console& console);

// Of the steps after row `origin`; of no meaning where the series has no dates.
std::vector<model::Stamp> dates_ahead(const Checkpoint& run, const Settings& settings, const model::Series& series,
                                      std::int64_t origin, std::int64_t steps);

// The mean of the models' forecasts, [horizon][targets] in original units. Rows 0 .. origin of the series are known;
// `ahead`: the dates of all steps that the models forecast; `future`: what is known of them, null: the series' own rows.
// Exit::data for a missing value in the look-back and for models that differ in columns, targets or horizon;
// Exit::diverged for a forecast that overflows.
std::vector<double> mean_forecast(std::span<const Checkpoint> runs, const Settings& settings,
                                  const model::Series& series, std::int64_t origin, std::span<const model::Stamp> ahead,
                                  const model::Series* future, std::int64_t horizon, const ChosenDevice& device);

}  // namespace samformer::tools
