#include "tools/run/datasets.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <system_error>

#include "core/error.h"
#include "core/io/file.h"
#include "core/io/sha256.h"
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

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

std::string_view environment(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) && !fs::is_directory(path, ignored);
}

// What a download writes to and reads from; exceptions wait here until curl's C code has returned.
struct Transfer {
  const FetchOptions& options;
  std::uint64_t limit;
  std::string body = {};
  bool too_large = false;
  bool interrupted = false;
  std::exception_ptr exception = {};
};

std::size_t receive(char* data, std::size_t, std::size_t count, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  transfer.too_large = count > transfer.limit - transfer.body.size();
  if (transfer.too_large) return 0;
  try {
    transfer.body.append(data, count);
  } catch (...) {
    transfer.exception = std::current_exception();
    return 0;
  }
  return count;
}

int tick(void* user, curl_off_t total, curl_off_t done, curl_off_t, curl_off_t) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  try {
    if (transfer.options.progress)
      transfer.options.progress(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total));
    transfer.interrupted = transfer.options.interrupted && transfer.options.interrupted();
  } catch (...) {
    transfer.exception = std::current_exception();
  }
  return transfer.interrupted || transfer.exception ? 1 : 0;
}

struct CurlCleanup {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};

std::string download(const std::string& url, const Dataset& dataset, const FetchOptions& options) {
  const std::unique_ptr<CURL, CurlCleanup> handle(curl_easy_init());
  SAMFORMER_CHECK(handle, "libcurl does not start");
  CURL* const curl = handle.get();
  Transfer transfer{options, dataset.bytes ? dataset.bytes : options.size_limit};
  std::array<char, CURL_ERROR_SIZE> words{};
  const long stall = static_cast<long>(options.stall.count());
  // What was asked for over TLS does not come without it.
  const char* const redirects = lower_case(url).starts_with("https") ? "https" : "http,https";
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, redirects);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 5L);
  curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, stall);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1000L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, stall);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, static_cast<long>(options.total.count()));
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "samformer/" SAMFORMER_VERSION);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, tick);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  const CURLcode result = curl_easy_perform(curl);

  if (transfer.exception) std::rethrow_exception(transfer.exception);
  if (transfer.interrupted) throw Error(Exit::interrupted, fmt::format("the download of {} was interrupted", url));
  if (transfer.too_large)
    throw Error(Exit::check,
                fmt::format("{} sends more than {} bytes for {}; nothing was kept", url, transfer.limit, dataset.name))
        .hint("the address serves something else: check it in a browser");
  if (result != CURLE_OK) {
    std::string reason = words[0] ? words.data() : curl_easy_strerror(result);
    if (result == CURLE_UNSUPPORTED_PROTOCOL)
      reason = fmt::format("it redirects to another protocol than {}", redirects);
    throw Error(Exit::io, fmt::format("cannot download {}: {}", url, reason))
        .hint(fmt::format("check the network and try again, or put {} into ./data by hand", file_of(dataset)));
  }
  return std::move(transfer.body);
}

}  // namespace

std::span<const Dataset> known_datasets() { return datasets; }

std::string file_of(const Dataset& dataset) {
  return fmt::format("{}{}", dataset.name, model::readers().front().extension);
}

const Dataset* known_dataset(std::string_view name) {
  const std::string wanted = lower_case(name);
  for (const Dataset& dataset : datasets) {
    const std::string known = lower_case(dataset.name);
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

Fetched fetch_dataset(const Dataset& dataset, const FetchOptions& options) {
  const std::string url = options.url.empty() ? std::string(dataset.url) : options.url;
  if (url.empty())
    throw Error(Exit::usage, fmt::format("no address with verified bytes is known for {}", dataset.name))
        .hint(fmt::format(
            "put {} into ./data by hand, or type: samformer data fetch {} --url ADDRESS; it is published by {}",
            file_of(dataset), dataset.name, dataset.publisher));
  if (const std::string scheme = lower_case(url.substr(0, 8)); !scheme.starts_with("http://") && scheme != "https://")
    throw Error(Exit::usage, fmt::format("'{}' is no http or https address", url)).hint("correct --url");
  if (options.folder.empty())
    throw Error(Exit::usage, "there is no cache folder: neither XDG_CACHE_HOME nor HOME is an absolute path")
        .hint("set one of them");
  // Before the download: nobody wants to wait for bytes that have no place.
  std::error_code error;
  fs::create_directories(options.folder, error);
  if (error)
    throw Error(Exit::io, fmt::format("cannot create the folder: {}", error.message()))
        .at(options.folder.string())
        .hint("set XDG_CACHE_HOME to a folder that can be written to");

  const fs::path path = options.folder / file_of(dataset);
  const bool known = !dataset.sha256.empty();
  if (!known && !options.overwrite && fs::exists(fs::symlink_status(path, error)))
    throw Error(Exit::usage, "the file is there, and no SHA-256 is known that another one could be checked with")
        .at(path.string())
        .hint("--overwrite replaces it");

  const std::string body = download(url, dataset, options);
  Fetched fetched{path, url, body.size(), sha256(bytes_of(body)), known};
  if (known && fetched.sha256 != dataset.sha256)
    throw Error(Exit::check,
                fmt::format("{} sent other bytes than {}: SHA-256 {} was expected, {} was found in {} bytes; "
                            "nothing was kept",
                            url, dataset.name, dataset.sha256, fetched.sha256, fetched.bytes))
        .hint("the file was changed at its source or on its way: check the address");
  if (!known) {
    try {
      model::parse_series(body, path.string(), {});
    } catch (const Error& unreadable) {
      throw Error(Exit::check, fmt::format("{} sent {} bytes that are no series: {}; nothing was kept", url,
                                           fetched.bytes, unreadable.what()))
          .hint("the address serves something else: check it in a browser");
    }
  }
  write_atomic(fetched.path, body);
  return fetched;
}

}  // namespace samformer::tools
