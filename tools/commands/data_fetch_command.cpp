#include "tools/commands/data_fetch_command.h"

#include <fmt/ostream.h>

#include "core/error.h"
#include "core/io/sha256.h"
#include "tools/cli/command.h"
#include "tools/cli/document.h"
#include "tools/cli/signals.h"

namespace samformer::tools {
namespace {

Json text_or_null(std::string_view text) { return text.empty() ? Json() : Json(text); }

// data fetch's own.
struct FetchSettings {
  std::string url;
};

}  // namespace

int data_list(bool json, std::ostream& out) {
  Json list = Json::array();
  for (const Dataset& dataset : known_datasets()) {
    const std::optional<std::filesystem::path> path = locate_dataset(dataset.name);
    std::string found, problem;
    try {
      if (path) found = sha256_file(*path);
    } catch (const Error& error) {  // an unreadable file must not hide the rest of the list
      problem = error.what();
    }
    const bool agrees = found == dataset.sha256;
    if (json) {
      list.push_back({{"name", dataset.name},
                      {"columns", dataset.columns},
                      {"rows", dataset.rows},
                      {"step", dataset.step},
                      {"bytes", dataset.bytes ? Json(dataset.bytes) : Json()},
                      {"sha256", text_or_null(dataset.sha256)},
                      {"licence", dataset.licence},
                      {"publisher", dataset.publisher},
                      {"url", text_or_null(dataset.url)},
                      {"path", path ? Json(path->string()) : Json()},
                      {"present_sha256", text_or_null(found)}});
      continue;
    }
    fmt::print(out, "{}: {} channels, {} rows, step {}\n", dataset.name, dataset.columns, dataset.rows, dataset.step);
    fmt::print(out, "  present  {}\n",
               !path                    ? std::string("no")
               : !problem.empty()       ? fmt::format("{} ({})", path->string(), problem)
               : dataset.sha256.empty() ? fmt::format("{} (SHA-256 {})", path->string(), found)
               : agrees                 ? fmt::format("{} (verified)", path->string())
                                        : fmt::format("{} (other bytes, SHA-256 {})", path->string(), found));
    if (!dataset.sha256.empty()) fmt::print(out, "  SHA-256  {} ({} bytes)\n", dataset.sha256, dataset.bytes);
    fmt::print(out, "  licence  {}\n  from     {}\n", dataset.licence, dataset.publisher);
    if (!dataset.url.empty()) fmt::print(out, "  fetch    samformer data fetch {}\n", dataset.name);
  }
  if (json) {
    Json result = document("data list");
    result["datasets"] = std::move(list);
    print(result, out);
  }
  return 0;
}

std::string progress_text(std::uint64_t done, std::uint64_t total) {
  const double megabytes = static_cast<double>(done) / 1e6;
  if (total == 0) return fmt::format("{:.1f} MB", megabytes);
  return fmt::format("{:.1f} of {:.1f} MB ({:.0f} %)", megabytes, static_cast<double>(total) / 1e6,
                     100.0 * static_cast<double>(done) / static_cast<double>(total));
}

int data_fetch(std::string_view name, const FetchOptions& options, bool json, std::ostream& out, Console& console) {
  const Dataset* const dataset = known_dataset(name);
  if (!dataset) {
    std::string names;
    for (const Dataset& known : known_datasets()) names += fmt::format(", {}", known.name);
    throw Error(Exit::usage, fmt::format("'{}' is no known data set", name)).hint("known: " + names.substr(2));
  }
  Fetched fetched{options.folder / file_of(*dataset), "", dataset->bytes, std::string(dataset->sha256), true};
  std::error_code ignored;
  const bool present = !dataset->sha256.empty() && std::filesystem::is_regular_file(fetched.path, ignored) &&
                       sha256_file(fetched.path) == dataset->sha256;
  if (present) {
    console.info(fmt::format("{} is already there, with the right SHA-256", dataset->name));
  } else {
    console.info(fmt::format("downloading {} from {} (licence: {})", dataset->name,
                             options.url.empty() ? dataset->url : options.url, dataset->licence));
    fetched = fetch_dataset(*dataset, options);
    if (!fetched.verified) console.warning(fmt::format("no SHA-256 is known for {}; check this one", dataset->name));
  }
  if (json) {
    Json result = document("data fetch");
    result.update(Json{{"name", dataset->name},
                       {"path", fetched.path.string()},
                       {"bytes", fetched.bytes},
                       {"sha256", fetched.sha256},
                       {"verified", fetched.verified},
                       {"downloaded", !present},
                       {"url", text_or_null(fetched.url)}});
    print(result, out);
  } else {
    fmt::print(out, "{}\n{} bytes, SHA-256 {} ({})\n\nsamformer train --data {}\n", fetched.path.string(),
               fetched.bytes, fetched.sha256, fetched.verified ? "verified" : "not verified", dataset->name);
  }
  return 0;
}

Command data_list_command() {
  return {.name = "data list",
          .handler = [](const Invocation& invocation) { return data_list(invocation.settings.json, invocation.out); },
          .summary = "lists known public series: size, licence, where from, present or not"};
}

Command data_fetch_command() {
  return {.name = "data fetch",
          .handler =
              [](const Invocation& invocation) {
                const CatchSignals catching;
                Console& console = invocation.console;
                const auto progress = [&](std::uint64_t done, std::uint64_t total) {
                  console.status(progress_text(done, total));
                };
                const FetchOptions options{.url = invocation.settings.of<FetchSettings>().url,
                                           .overwrite = invocation.settings.overwrite,
                                           .progress = progress,
                                           .interrupted = interrupted};
                const int code =
                    data_fetch(invocation.arguments.at(0), options, invocation.settings.json, invocation.out, console);
                console.status("");
                return code;
              },
          .takes = {"overwrite"},
          .options = {{.name = "url",
                       .member = at(&FetchSettings::url),
                       .value_name = "URL",
                       .help = "download from here; the hash must still match",
                       .default_text = "the publisher's"}},
          .arguments = {"NAME"},
          .summary = "downloads a known series into the user's cache folder and checks its hash",
          .example = "samformer data fetch ETTh1",
          .texts = {{"overwrite", "replace the file that is there"}}};
}

}  // namespace samformer::tools
