// `samformer data list` and `samformer data fetch NAME [--url URL] [--overwrite]`: results to `out` (text, or with
// `json` one document); they return the exit code or throw Error. The JSON fields are those of Dataset and Fetched.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

#include "tools/cli/console.h"
#include "tools/run/datasets.h"

namespace samformer::tools {

int data_list(bool json, std::ostream& out);
// "1.2 of 2.6 MB (46 %)", for FetchOptions::progress.
std::string progress_text(std::uint64_t done, std::uint64_t total);
// A file that is already there with the right hash is not downloaded again.
int data_fetch(std::string_view name, const FetchOptions& options, bool json, std::ostream& out, Console& console);

}  // namespace samformer::tools
