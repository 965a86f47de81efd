// `samformer data list` and `samformer data fetch NAME [--url URL]`: results to `out` (a table, or with `json` one
// document), progress to `log`. They return the exit code or throw Error.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace samformer::tools {

int data_list(bool json, std::ostream& out);

// `url` empty: the table's. `interrupted` is asked between the pieces of the download. With quiet no progress.
int data_fetch(std::string_view name, const std::string& url, bool json, bool quiet, std::ostream& out,
               std::ostream& log, const std::function<bool()>& interrupted = {});

}  // namespace samformer::tools
