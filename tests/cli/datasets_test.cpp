// Known series, names on disk, and downloads from a server on the loopback interface that behaves well and badly.
#include "tools/run/datasets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "tests/scratch_folder.h"
#include "tests/shared_data.h"
#include "tools/commands/data_fetch_command.h"

namespace samformer::tools {
namespace {
namespace fs = std::filesystem;

Console quiet_console() { return {stderr, false, true, false}; }

// Answers each request with respond(path), `piece` bytes every 50 ms where there is one; with `hold` it then leaves the
// connection open until the end.
class Server {
 public:
  explicit Server(std::function<std::string(std::string)> respond, bool hold = false, std::size_t piece = 0)
      : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), any, size) != 0 || ::listen(listener_.get(), 8) != 0 ||
        ::getsockname(listener_.get(), any, &size) != 0)
      throw std::runtime_error("no loopback socket");
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this, respond = std::move(respond), hold, piece] {
      std::vector<Descriptor> held;
      for (;;) {
        Descriptor connection(::accept(listener_.get(), nullptr, nullptr));
        if (connection.get() < 0) return;
        std::string request;
        std::array<char, 4096> buffer;
        while (request.find("\r\n\r\n") == request.npos) {
          const ssize_t count = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
          if (count <= 0) break;
          request.append(buffer.data(), static_cast<std::size_t>(count));
        }
        const std::size_t begin = request.find(' ') + 1;
        const std::string answer = respond(request.substr(begin, request.find(' ', begin) - begin));
        for (std::size_t sent = 0; sent < answer.size();) {
          const std::size_t left = answer.size() - sent;
          const ssize_t count =
              ::send(connection.get(), answer.data() + sent, piece ? std::min(piece, left) : left, MSG_NOSIGNAL);
          if (count <= 0) break;
          sent += static_cast<std::size_t>(count);
          if (piece) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
        if (hold) held.push_back(std::move(connection));
      }
    });
  }
  ~Server() { ::shutdown(listener_.get(), SHUT_RDWR); }
  std::string url(std::string_view path) const { return fmt::format("http://127.0.0.1:{}{}", port_, path); }

 private:
  Descriptor listener_;
  int port_ = 0;
  std::jthread thread_;
};

std::string ok(std::string_view body) {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
}

// A variable of the environment, for one scope; nullptr unsets it.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Environment() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

class WorkingFolder {
 public:
  explicit WorkingFolder(const fs::path& path) : old_(fs::current_path()) { fs::current_path(path); }
  ~WorkingFolder() { fs::current_path(old_); }

 private:
  fs::path old_;
};

class Datasets : public testing::Test {
 protected:
  template <typename Body>
  static Error error_of(Body body) {
    try {
      body();
    } catch (const Error& error) {
      return error;
    }
    return Error(Exit::internal, "nothing was thrown");
  }
  // Fetches a series of these bytes from the URL; keeps what was thrown.
  Error fetch_error(const std::string& url, std::uint64_t bytes = 0) {
    FetchOptions options{.url = url, .folder = cache_.path(), .stall = std::chrono::seconds(1)};
    Dataset dataset = series_;
    dataset.bytes = bytes;
    return error_of([&] { fetch_dataset(dataset, options); });
  }

  // A folder of the cache, an empty working folder, and no proxy between the test and its server.
  ScratchFolder cache_, work_;
  WorkingFolder in_work_{work_.path()};
  Environment no_proxy_{"no_proxy", "*"};
  Environment no_data_{"SAMFORMER_DATA_DIR", nullptr};
  Environment no_xdg_{"XDG_CACHE_HOME", cache_.path().c_str()};
  const std::string body_ = "date,a\n2020-01-01,1\n" + std::string(100'000, '7') + "\n";
  const std::string hash_ = sha256(bytes_of(body_));
  const Dataset series_{"tiny", 1, 1, "1 day", "test", "test", 0, hash_};
};

TEST_F(Datasets, TableIsConsistent) {
  std::set<std::string_view> names;
  for (const Dataset& dataset : known_datasets()) {
    EXPECT_TRUE(names.insert(dataset.name).second);
    EXPECT_EQ(known_dataset(dataset.name), &dataset);
    EXPECT_TRUE(dataset.sha256.empty() || dataset.sha256.size() == 64) << dataset.name;
    EXPECT_TRUE(dataset.url.empty() || !dataset.sha256.empty()) << dataset.name << ": a URL needs a hash";
    EXPECT_EQ(dataset.sha256.empty(), dataset.bytes == 0) << dataset.name;
    EXPECT_GT(dataset.rows * dataset.columns, 0);
    EXPECT_FALSE(dataset.licence.empty() || dataset.publisher.empty() || dataset.step.empty()) << dataset.name;
  }
  EXPECT_EQ(names.size(), 9u);
  EXPECT_EQ(known_dataset("eTTH1.CSV"), known_dataset("ETTh1"));
  EXPECT_EQ(known_dataset("ETTh"), nullptr);
  EXPECT_EQ(known_dataset(""), nullptr);
}

TEST_F(Datasets, TableAgreesWithTheVerifiedFiles) {
  SAMFORMER_REQUIRE_SHARED_DATA("data");
  for (const std::string name : {"ETTh1", "ETTm1", "exchange_rate"}) {
    const Dataset& dataset = *known_dataset(name);
    const MappedFile file(shared_data("data") / (name + ".csv"));
    EXPECT_EQ(file.bytes().size(), dataset.bytes);
    EXPECT_EQ(sha256(file.bytes()), dataset.sha256);
    EXPECT_EQ(std::count(file.text().begin(), file.text().end(), '\n'), dataset.rows + 1) << name;
    const std::string_view header = file.text().substr(0, file.text().find('\n'));
    EXPECT_EQ(std::count(header.begin(), header.end(), ','), dataset.columns) << name;
  }
}

TEST_F(Datasets, SpecIsAPathOrAName) {
  std::ofstream("here.csv") << "x";
  EXPECT_EQ(find_dataset("here.csv"), "here.csv");
  EXPECT_EQ(find_dataset("./missing.csv"), "./missing.csv");
  EXPECT_EQ(find_dataset("/a/b"), "/a/b");
  EXPECT_EQ(error_of([] { find_dataset(""); }).code, Exit::usage);

  fs::create_directories(cache_ / "samformer");
  std::ofstream(cache_ / "samformer/ETTh1.csv") << "x";
  EXPECT_EQ(find_dataset("ETTh1"), cache_ / "samformer/ETTh1.csv");
  EXPECT_EQ(find_dataset("etth1"), cache_ / "samformer/ETTh1.csv");
  EXPECT_EQ(find_dataset("ETTh1.csv"), cache_ / "samformer/ETTh1.csv");
  fs::create_directory("data");
  std::ofstream("data/ETTh1.csv") << "x";
  EXPECT_EQ(find_dataset("ETTh1"), "data/ETTh1.csv");
  fs::create_directory("own");
  const Environment own("SAMFORMER_DATA_DIR", "own");
  EXPECT_EQ(find_dataset("ETTh1"), "data/ETTh1.csv");
  std::ofstream("own/ETTh1") << "x";
  EXPECT_EQ(find_dataset("ETTh1"), "own/ETTh1");
  EXPECT_EQ(error_of([] { find_dataset("own"); }).code, Exit::data) << "a folder is no data set";
}

TEST_F(Datasets, MissingNameSaysWhereItLookedAndWhatToType) {
  const Environment own("SAMFORMER_DATA_DIR", "/nowhere");
  const Error fetchable = error_of([] { find_dataset("etth1"); });
  EXPECT_EQ(fetchable.code, Exit::data);
  for (const std::string& place : {std::string("/nowhere/"), std::string("data/"), (cache_ / "samformer/").string()})
    EXPECT_NE(std::string(fetchable.what()).find(place), std::string::npos) << fetchable.what();
  EXPECT_EQ(fetchable.advice, "type: samformer data fetch ETTh1");
  EXPECT_NE(error_of([] { find_dataset("weather"); }).advice.find("Max Planck"), std::string::npos);
  EXPECT_NE(error_of([] { find_dataset("wheather"); }).advice.find("weather"), std::string::npos);
}

TEST_F(Datasets, CacheFolderFollowsTheEnvironment) {
  const Environment home("HOME", "/home/u");
  EXPECT_EQ(cache_folder(), cache_ / "samformer");
  const Environment relative("XDG_CACHE_HOME", "relative");
  EXPECT_EQ(cache_folder(), "/home/u/.cache/samformer");
  const Environment none("HOME", nullptr);
  EXPECT_EQ(cache_folder(), "");
  EXPECT_EQ(error_of([&] { fetch_dataset(series_, {.url = "http://127.0.0.1:1/"}); }).code, Exit::usage);
}

TEST_F(Datasets, FetchKeepsTheRightBytes) {
  const Server server([&](const std::string& path) {
    return path == "/moved" ? "HTTP/1.1 302 Found\r\nLocation: /series.csv\r\nContent-Length: 0\r\n\r\n" : ok(body_);
  });
  const fs::path folder = cache_ / "new/folder";
  std::uint64_t last = 0, total = 0;
  FetchOptions options{.url = server.url("/moved"), .folder = folder};
  options.progress = [&](std::uint64_t done, std::uint64_t all) { last = done, total = all; };
  Dataset dataset = series_;
  dataset.bytes = body_.size();
  const Fetched fetched = fetch_dataset(dataset, options);
  EXPECT_EQ(fetched.path, folder / "tiny.csv");
  EXPECT_EQ(read_file(fetched.path), body_);
  EXPECT_EQ(fetched.sha256, hash_);
  EXPECT_EQ(fetched.bytes, body_.size());
  EXPECT_TRUE(fetched.verified);
  EXPECT_EQ(last, body_.size());
  EXPECT_EQ(total, body_.size());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);

  dataset.sha256 = {};
  options.url = server.url("/series.csv");
  options.overwrite = true;
  EXPECT_FALSE(fetch_dataset(dataset, options).verified);
}

TEST_F(Datasets, WrongBytesAreNotKept) {
  std::string other = body_;
  other.back() = '8';
  const Server server([&](const std::string& path) { return ok(path == "/long" ? other + "x" : other); });
  write_atomic(cache_ / "tiny.csv", "old");
  const Error wrong = fetch_error(server.url("/same"), body_.size());
  EXPECT_EQ(wrong.code, Exit::check);
  EXPECT_NE(std::string(wrong.what()).find(hash_), std::string::npos) << wrong.what();
  const Error large = fetch_error(server.url("/long"), body_.size());
  EXPECT_EQ(large.code, Exit::check);
  EXPECT_NE(std::string(large.what()).find("more than"), std::string::npos) << large.what();
  EXPECT_EQ(read_file(cache_ / "tiny.csv"), "old");
  EXPECT_EQ(cache_.entries(), 1);
}

TEST_F(Datasets, WhatCannotBeVerifiedMustBeASeriesAndReplacesNothing) {
  const Server server([&](const std::string& path) { return ok(path == "/login" ? "<html>login</html>" : body_); });
  Dataset dataset = series_;
  dataset.sha256 = {};
  FetchOptions options{.url = server.url("/login"), .folder = cache_.path()};
  const auto error = [&] { return error_of([&] { fetch_dataset(dataset, options); }); };
  EXPECT_EQ(error().code, Exit::check);
  EXPECT_EQ(cache_.entries(), 0);
  write_atomic(cache_ / "tiny.csv", "old");
  EXPECT_EQ(error().code, Exit::usage);
  EXPECT_NE(error().advice.find("--overwrite"), std::string::npos);
  options.overwrite = true;
  EXPECT_EQ(error().code, Exit::check);
  EXPECT_EQ(read_file(cache_ / "tiny.csv"), "old");
  options.url = server.url("/series");
  EXPECT_FALSE(fetch_dataset(dataset, options).verified);
  EXPECT_EQ(read_file(cache_ / "tiny.csv"), body_);
}

TEST_F(Datasets, ASlowServerIsLeft) {
  // 400 bytes a second for four seconds, and 20 kB a second for five: the right bytes, were there the patience.
  const std::string part = body_.substr(0, 1600);
  Dataset dataset = series_;
  const std::string hash = sha256(bytes_of(part));
  dataset.sha256 = hash;
  const Server slow([&](const std::string&) { return ok(part); }, false, 20),
      steady([&](const std::string&) { return ok(body_); }, false, 1000);
  FetchOptions options{.url = slow.url("/"), .folder = cache_.path(), .stall = std::chrono::seconds(1)};
  const Error dribble = error_of([&] { fetch_dataset(dataset, options); });
  options.url = steady.url("/");
  options.total = std::chrono::seconds(1);
  const Error late = error_of([&] { fetch_dataset(series_, options); });
  for (const Error& error : {dribble, late}) {
    EXPECT_EQ(error.code, Exit::io) << error.what();
    EXPECT_NE(std::string(error.what()).find("http://127.0.0.1"), std::string::npos) << error.what();
    EXPECT_FALSE(error.advice.empty());
  }
  EXPECT_EQ(cache_.entries(), 0);
}

TEST_F(Datasets, NetworkFailuresNameTheAddressAndKeepNothing) {
  const Server server([&](const std::string& path) -> std::string {
    if (path == "/404") return "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";
    if (path == "/cut") return ok(body_).substr(0, 50'000);
    if (path == "/empty") return "";
    if (path == "/loop") return "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n";
    return "this is not HTTP";
  });
  for (const std::string path : {"/404", "/cut", "/empty", "/loop", "/garbage"}) {
    const Error error = fetch_error(server.url(path));
    EXPECT_EQ(error.code, Exit::io) << path;
    EXPECT_NE(std::string(error.what()).find(server.url(path)), std::string::npos) << error.what();
    EXPECT_FALSE(error.advice.empty());
  }
  EXPECT_NE(std::string(fetch_error(server.url("/404")).what()).find("404"), std::string::npos);
  EXPECT_EQ(cache_.entries(), 0);
}

TEST_F(Datasets, RefusedConnection) {
  std::string url;
  {
    const Server server([](const std::string&) { return ""; });
    url = server.url("/");
  }
  EXPECT_EQ(fetch_error(url).code, Exit::io);
}

TEST_F(Datasets, AConnectionThatStaysOpen) {
  const Server server(
      [&](const std::string& path) -> std::string {
        if (path == "/complete") return ok(body_);
        if (path == "/endless") return "HTTP/1.1 200 OK\r\n\r\n" + body_;
        return "";
      },
      true);
  EXPECT_EQ(fetch_dataset(series_, {.url = server.url("/complete"), .folder = cache_ / "a"}).sha256, hash_);
  EXPECT_EQ(fetch_error(server.url("/endless")).code, Exit::io) << "nobody said that the body was complete";
  EXPECT_EQ(fetch_error(server.url("/silent")).code, Exit::io);
  EXPECT_EQ(cache_.entries(), 1);
}

TEST_F(Datasets, OnlyHttp) {
  const fs::path file = work_ / "secret";
  write_atomic(file, "x");
  const Server server([&](const std::string&) {
    return fmt::format("HTTP/1.1 302 Found\r\nLocation: file://{}\r\nContent-Length: 0\r\n\r\n", file.string());
  });
  for (const std::string& url : {"file://" + file.string(), std::string("ftp://127.0.0.1/x"), std::string("http://"),
                                 std::string("no address"), server.url("/")}) {
    const Error error = fetch_error(url);
    EXPECT_TRUE(error.code == Exit::usage || error.code == Exit::io) << url << ": " << error.what();
  }
  EXPECT_EQ(fetch_error("file://" + file.string()).code, Exit::usage);
  EXPECT_EQ(cache_.entries(), 0);
}

TEST_F(Datasets, AnInterruptionLeavesNothing) {
  const Server server([&](const std::string&) { return ok(body_); }, true);
  FetchOptions options{.url = server.url("/"), .folder = cache_.path()};
  options.interrupted = [] { return true; };
  EXPECT_EQ(error_of([&] { fetch_dataset(series_, options); }).code, Exit::interrupted);
  EXPECT_EQ(cache_.entries(), 0);
}

TEST_F(Datasets, ExceptionsOfCallbacksComeThrough) {
  const Server server([&](const std::string&) { return ok(body_); });
  FetchOptions options{.url = server.url("/"), .folder = cache_.path()};
  options.progress = [](std::uint64_t, std::uint64_t) { throw Error(Exit::io, "closed"); };
  EXPECT_STREQ(error_of([&] { fetch_dataset(series_, options); }).what(), "closed");
}

TEST_F(Datasets, AFolderThatCannotBeMade) {
  std::ofstream("file") << "x";
  EXPECT_EQ(error_of([&] { fetch_dataset(series_, {.url = "http://127.0.0.1:1/", .folder = "file/sub"}); }).code,
            Exit::io);
}

TEST_F(Datasets, ListCommand) {
  fs::create_directories(cache_ / "samformer");
  std::ofstream(cache_ / "samformer/ETTh1.csv") << "other bytes";
  std::ostringstream text, json;
  EXPECT_EQ(data_list(false, text), 0);
  EXPECT_EQ(data_list(true, json), 0);
  for (const Dataset& dataset : known_datasets())
    EXPECT_NE(text.str().find(fmt::format("{}: {} channels, {} rows", dataset.name, dataset.columns, dataset.rows)),
              std::string::npos);
  EXPECT_NE(text.str().find("other bytes, SHA-256"), std::string::npos);

  const nlohmann::json document = nlohmann::json::parse(json.str());
  ASSERT_EQ(document["datasets"].size(), 9u);
  const nlohmann::json& first = document["datasets"][0];
  EXPECT_EQ(first["name"], "ETTh1");
  EXPECT_EQ(first["path"], (cache_ / "samformer/ETTh1.csv").string());
  EXPECT_EQ(first["present_sha256"], sha256(bytes_of("other bytes")));
  EXPECT_TRUE(document["datasets"][1]["path"].is_null());
  EXPECT_TRUE(document["datasets"][1]["sha256"].is_null());
}

TEST_F(Datasets, FetchCommand) {
  const Server server([&](const std::string&) { return ok(body_); });
  std::string said;
  Console console = quiet_console();
  console.set_log([&](std::string_view line) { said += fmt::format("{}\n", line); });
  std::ostringstream out;
  FetchOptions options{.url = server.url("/"), .folder = cache_.path()};
  EXPECT_EQ(error_of([&] { data_fetch("nothing", options, false, out, console); }).code, Exit::usage);
  EXPECT_EQ(error_of([&] { data_fetch("ETTh1", options, false, out, console); }).code, Exit::check);
  EXPECT_EQ(error_of([&] { data_fetch("weather", {.folder = cache_.path()}, false, out, console); }).code, Exit::usage);
  EXPECT_EQ(out.str(), "");
  EXPECT_EQ(data_fetch("weather", options, true, out, console), 0);
  const nlohmann::json document = nlohmann::json::parse(out.str());
  EXPECT_EQ(document["path"], (cache_ / "weather.csv").string());
  EXPECT_EQ(document["sha256"], hash_);
  EXPECT_EQ(document["verified"], false);
  EXPECT_EQ(document["downloaded"], true);
  EXPECT_NE(said.find("warning: no SHA-256 is known"), std::string::npos) << said;
  EXPECT_EQ(cache_.entries(), 1);
}

TEST_F(Datasets, WhatIsThereIsNotDownloadedAgain) {
  SAMFORMER_REQUIRE_SHARED_DATA("data/ETTh1.csv");
  fs::copy_file(shared_data("data/ETTh1.csv"), cache_ / "ETTh1.csv");
  std::ostringstream out;
  FetchOptions options{.url = "http://127.0.0.1:1/", .folder = cache_.path()};
  Console console = quiet_console();
  EXPECT_EQ(data_fetch("etth1", options, false, out, console), 0);
  EXPECT_NE(out.str().find("samformer train --data ETTh1"), std::string::npos) << out.str();
}

TEST(ProgressText, Megabytes) {
  EXPECT_EQ(progress_text(1'200'000, 0), "1.2 MB");
  EXPECT_EQ(progress_text(1'200'000, 2'400'000), "1.2 of 2.4 MB (50 %)");
}

}  // namespace
}  // namespace samformer::tools
