#include "tools/run/datasets.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <system_error>

#include "core/error.h"
#include "core/io/file.h"
#include "core/text.h"
#include "model/data/readers.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view ett_licence = "CC BY-ND 4.0";
constexpr std::string_view ett_publisher = "github zhouhaoyi/ETDataset (Zhou et al., Informer, AAAI 2021)";
constexpr std::string_view unverified_licence = "not verified: see the publisher";

constexpr std::array<Dataset, 9> datasets{{
    {"ETTh1", 7, 17420, "1 hour", ett_licence, ett_publisher, 2589657,
     "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
     "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"},
    {"ETTh2", 7, 17420, "1 hour", ett_licence, ett_publisher},
    {"ETTm1", 7, 69680, "15 minutes", ett_licence, ett_publisher, 10360719,
     "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e",
     "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTm1.csv"},
    {"ETTm2", 7, 69680, "15 minutes", ett_licence, ett_publisher},
    {"exchange_rate", 8, 7588, "1 day", "none stated",
     "github laiguokun/multivariate-time-series-data (Lai et al., SIGIR 2018); hash: the Autoformer release's layout "
     "with ISO dates",
     668553, "7a0b080d8673a57b781638ab5ea32358d0a42c2c668f8660531c127f7620b4b6"},
    {"weather", 21, 52696, "10 minutes", unverified_licence,
     "Max Planck Institute for Biogeochemistry, Jena; in the Autoformer release's layout"},
    {"electricity", 321, 26304, "1 hour", unverified_licence,
     "UCI Machine Learning Repository, ElectricityLoadDiagrams20112014; in the Autoformer release's layout"},
    {"traffic", 862, 17544, "1 hour", unverified_licence,
     "California Department of Transportation, PeMS; in the Autoformer release's layout"},
    {"national_illness", 7, 966, "1 week", unverified_licence,
     "US Centers for Disease Control and Prevention, FluView; in the Autoformer release's layout"},
}};

std::string_view environment(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) && !fs::is_directory(path, ignored);
}

}  // namespace

std::span<const Dataset> known_datasets() { return datasets; }

std::string file_of(const Dataset& dataset) {
  return fmt::format("{}{}", dataset.name, model::readers().front().extension);
}

const Dataset* known_dataset(std::string_view name) {
  const std::string wanted = lower(name);
  for (const Dataset& dataset : datasets) {
    const std::string known = lower(dataset.name);
    const auto with = [&](const model::Reader& reader) { return wanted == known + std::string(reader.extension); };
    if (wanted == known || std::ranges::any_of(model::readers(), with)) return &dataset;
  }
  return nullptr;
}

fs::path cache_folder() {
  // The XDG specification has relative values ignored.
  if (const fs::path cache = environment("XDG_CACHE_HOME"); cache.is_absolute()) return cache / "samformer";
  if (const fs::path home = environment("HOME"); home.is_absolute()) return home / ".cache" / "samformer";
  return {};
}

std::vector<fs::path> dataset_folders() {
  std::vector<fs::path> folders;
  if (const std::string_view own = environment("SAMFORMER_DATA_DIR"); !own.empty()) folders.emplace_back(own);
  folders.emplace_back("data");
  if (fs::path cache = cache_folder(); !cache.empty()) folders.push_back(std::move(cache));
  return folders;
}

std::optional<fs::path> locate_dataset(std::string_view name, const fs::path& folder) {
  std::vector<std::string> files{std::string(name)};
  for (const model::Reader& reader : model::readers()) files.push_back(fmt::format("{}{}", name, reader.extension));
  if (const Dataset* known = known_dataset(name)) files.push_back(file_of(*known));
  for (const std::string& file : files)
    if (is_file(folder / file)) return folder / file;
  return std::nullopt;
}

std::optional<fs::path> locate_dataset(std::string_view name) {
  for (const fs::path& folder : dataset_folders())
    if (std::optional<fs::path> found = locate_dataset(name, folder)) return found;
  return std::nullopt;
}

fs::path find_dataset(std::string_view spec) {
  if (spec.empty())
    throw Error(Exit::usage, "--data is empty").hint("give a CSV file or a name of `samformer data list`");
  if (spec.find('/') != spec.npos || is_file(spec)) return spec;
  if (const std::optional<fs::path> found = locate_dataset(spec)) return *found;

  std::string places;
  for (const fs::path& folder : dataset_folders()) places += fmt::format(", {}", (folder / "").string());
  const Dataset* known = known_dataset(spec);
  std::string advice;
  if (known && !known->url.empty()) {
    advice = fmt::format("type: samformer data fetch {}", known->name);
  } else if (known) {
    advice = fmt::format("put {} into ./data; it is published by {}", file_of(*known), known->publisher);
  } else {
    for (const Dataset& dataset : datasets) advice += fmt::format(", {}", dataset.name);
    advice = "a path needs a '/' unless the file is here; known names: seasonal" + advice;
  }
  const std::string_view extension = model::readers().front().extension;
  throw Error(Exit::data, fmt::format("there is no data set '{}': no file of this name here, no {}{} in {}", spec, spec,
                                      spec.ends_with(extension) ? "" : extension, places.substr(2)))
      .hint(advice);
}

}  // namespace samformer::tools
