// The public benchmark series that samformer knows by name, where a name is looked up on disk, and the download.
//
// `--data SPEC`: with a '/' or naming an existing file it is a path; anything else is a name, looked up as NAME and
// NAME with each extension of model::readers() in $SAMFORMER_DATA_DIR, ./data and the cache folder ($XDG_CACHE_HOME or
// ~/.cache)/samformer. A series has a URL and a hash only where these very bytes were verified; the others are listed
// by name, size and publisher. `fetch` keeps a file only when its SHA-256 is the expected one; where none is known, only
// what reads as a series, and over an existing file only with `overwrite`.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace samformer::tools {

struct Dataset {
  std::string_view name;
  int columns;  // channels, without the date
  std::int64_t rows;
  std::string_view step;
  std::string_view licence;
  std::string_view publisher;
  std::uint64_t bytes = 0;       // 0: unknown
  std::string_view sha256 = {};  // empty: unknown
  std::string_view url = {};     // empty: no address with verified bytes
};

std::span<const Dataset> known_datasets();

// NAME.csv: the format that the known series are published in.
std::string file_of(const Dataset& dataset);

// By name in any case, with or without an extension of model::readers(); nullptr where unknown.
const Dataset* known_dataset(std::string_view name);

// Empty where the environment names neither a cache folder nor a home.
std::filesystem::path cache_folder();

// Where names are looked up, in order.
std::vector<std::filesystem::path> dataset_folders();

// The file of a name in one folder, in dataset_folders().
std::optional<std::filesystem::path> locate_dataset(std::string_view name, const std::filesystem::path& folder);
std::optional<std::filesystem::path> locate_dataset(std::string_view name);

// The path that `--data SPEC` means. A path is returned as it is; a name that is nowhere: Error(Exit::data) saying
// where it looked and what to type. `seasonal`, the built-in series, is the caller's.
std::filesystem::path find_dataset(std::string_view spec);

struct FetchOptions {
  std::string url = {};                           // instead of the table's
  std::filesystem::path folder = cache_folder();  // created where missing
  std::chrono::seconds stall{30};                 // give up after so long with less than 1000 bytes a second
  std::chrono::seconds total{3600};               // and after so long in all
  std::uint64_t size_limit = std::uint64_t{1} << 30;
  bool overwrite = false;  // also a file whose successor cannot be verified
  std::function<void(std::uint64_t done, std::uint64_t total)> progress = {};  // bytes; total 0: unknown
  std::function<bool()> interrupted = {};
};

struct Fetched {
  std::filesystem::path path;
  std::string url;
  std::uint64_t bytes;
  std::string sha256;
  bool verified;  // the hash was known, and is this one
};

// Downloads the series to `folder/NAME.csv`. The bytes stay in memory until they are complete and checked, so an
// interruption of any kind leaves nothing behind. https is never redirected to http. Errors: no URL, neither http nor
// https, an existing file that could not be verified: Exit::usage; network, HTTP status, too slow: Exit::io; too large,
// another hash, no series: Exit::check; `interrupted` says so: Exit::interrupted.
Fetched fetch_dataset(const Dataset& dataset, const FetchOptions& options);
std::string libcurl_version();

}  // namespace samformer::tools
