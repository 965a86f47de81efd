// The commands that write runs, each in its smallest form, and what they have to leave behind, whatever happened.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <random>

#include "tests/cli_fixture.h"

namespace samformer {

namespace fs = std::filesystem;

// FAULTS=all: every fault and many kills, in hours; otherwise a sample.
inline bool all_faults() {
  const char* const asked = std::getenv("FAULTS");
  return asked && std::string(asked) == "all";
}
constexpr unsigned faults_seed = 20261130;

class FaultsTest : public ProgramTest {
 protected:
  struct Command {
    Words words;         // into the folder "run"
    Words continuation;  // the same after a failure, where there is a config.toml
    std::string before;  // a folder that "run" is a copy of at the beginning; empty: there is none
  };

  Command command(const std::string& name) {
    const Words resume{"train", "--resume", path("run"), "--json"};
    const auto training = [&](const Words& more) {
      return Command{small("run", Words{"--epochs", "2", "--json"} + more), resume, ""};
    };
    if (name == "train") return training({});
    if (name == "refit") return training({"--refit"});
    if (name == "seeds") return training({"--seeds", "1,2"});
    if (name == "tune") return training({"--tune"});
    if (name == "resume") {
      EXPECT_EQ(run(small("before", {"--epochs", "1"})).code, 0);
      const Words further = resume + Words{"--epochs", "2"};
      return {further, further, "before"};
    }
    if (name == "sweep") {
      Words words = small("run", {"--epochs", "2", "--json", "--grid", "rho=0,0.5"});
      words[0] = "sweep";
      return {words, words, ""};
    }
    if (!exists("exchange_rate.csv")) series("exchange_rate.csv", 1000, 2);
    const Words words{"reproduce", "mix", "--models",   "mix/0",     "--data",     path("exchange_rate.csv"),
                      "--seeds",   "1,2", "--horizons", "96",        "--lookback", "24",
                      "--epochs",  "1",   "--out",      path("run"), "--json"};
    return {words, words, ""};
  }

  void begin(const Command& c) {
    fs::remove_all(path("run"));
    if (!c.before.empty()) fs::copy(path(c.before), path("run"), fs::copy_options::recursive);
  }

  Outcome go_on(const Command& c) { return run(exists("run/config.toml") ? c.continuation : c.words); }

  // What a command leaves behind, without times: bits of weights, results, ledgers, and the names of all files.
  using Leftovers = std::map<std::string, std::string>;
  Leftovers leftovers() const {
    Leftovers result;
    for (const auto& entry : fs::recursive_directory_iterator(path("run"))) {
      const std::string name = fs::relative(entry.path(), path("run"));
      // The page of a sweep's winner is written where that can be, and no result.
      if (entry.path().parent_path().filename() == "eval" || entry.path().filename() == "eval") continue;
      const std::string extension = entry.path().extension(), stem = entry.path().stem();
      std::string& text = result[name];
      if (entry.is_directory()) continue;
      if (extension == ".safetensors" && stem != "state") text = hash_of("run/" + name);
      if (extension == ".toml" || extension == ".md" || extension == ".csv") text = read("run/" + name);
      if (extension == ".json") text = without_times(Json::parse(read("run/" + name), nullptr, false)).dump();
      if (extension == ".jsonl") {  // runs that were tried again come later
        std::vector<std::string> rows;
        for (const Json& row : lines(read("run/" + name))) rows.push_back(without_times(row).dump());
        std::ranges::sort(rows);
        for (const std::string& row : rows) text += row + '\n';
      }
    }
    return result;
  }

  static Json without_times(Json j) {
    for (auto part = j.begin(); part != j.end();) {
      if (j.is_object() && (part.key().starts_with("seconds") || part.key() == "peak_memory_bytes")) {
        part = j.erase(part);
        continue;
      }
      if (part->is_structured()) *part = without_times(*part);
      ++part;
    }
    return j;
  }

  static void same(const Leftovers& found, const Leftovers& expected) {
    for (const auto& [name, text] : expected) {
      if (!found.contains(name)) ADD_FAILURE() << name << " is missing";
    }
    for (const auto& [name, text] : found) {
      if (!expected.contains(name)) {
        ADD_FAILURE() << name << " was left behind";
      } else {
        const std::string& other = expected.at(name);
        if (text == other) continue;
        const auto differ = static_cast<std::size_t>(std::ranges::mismatch(text, other).in1 - text.begin());
        const std::size_t from = differ - std::min<std::size_t>(differ, 60);
        ADD_FAILURE() << name << ": \"" << text.substr(from, 160) << "\" in place of \"" << other.substr(from, 160)
                      << '"';
      }
    }
  }

  // Every file that is replaced as a whole is whole, and every line of a log.
  void nothing_is_torn() const {
    if (!exists("run")) return;
    for (const auto& entry : fs::recursive_directory_iterator(path("run"))) {
      SCOPED_TRACE(entry.path());
      const std::string extension = entry.path().extension(), name = entry.path().filename();
      if (extension == ".safetensors") {
        EXPECT_NO_THROW(model::Safetensors::open(entry.path()));
      }
      if (name == "result.json" || name == "sweep.json" || name == "reproduce.json") {
        EXPECT_TRUE(Json::parse(read_file(entry.path()), nullptr, false).is_object());
      }
      if (extension == ".jsonl") {
        EXPECT_NO_THROW(lines(read_file(entry.path())));
      }
      if (extension == ".html") {
        EXPECT_TRUE(read_file(entry.path()).ends_with("</html>\n"));
      }
    }
  }
};

}  // namespace samformer
