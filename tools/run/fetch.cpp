// The download of tools/run/datasets.h: a file of its own, so that the library, which downloads nothing, goes without
// libcurl (tools/c/samformer.cpp).
#include <curl/curl.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <system_error>

#include "core/error.h"
#include "core/io/file.h"
#include "core/io/sha256.h"
#include "core/text.h"
#include "model/data/readers.h"
#include "tools/run/datasets.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

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
  const char* const redirects = lower(url).starts_with("https") ? "https" : "http,https";
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

Fetched fetch_dataset(const Dataset& dataset, const FetchOptions& options) {
  const std::string url = options.url.empty() ? std::string(dataset.url) : options.url;
  if (url.empty())
    throw Error(Exit::usage, fmt::format("no address with verified bytes is known for {}", dataset.name))
        .hint(fmt::format(
            "put {} into ./data by hand, or type: samformer data fetch {} --url ADDRESS; it is published by {}",
            file_of(dataset), dataset.name, dataset.publisher));
  if (const std::string scheme = lower(url.substr(0, 8)); !scheme.starts_with("http://") && scheme != "https://")
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

std::string libcurl_version() { return curl_version_info(CURLVERSION_NOW)->version; }

}  // namespace samformer::tools
