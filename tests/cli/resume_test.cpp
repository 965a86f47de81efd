// Interrupted trainings: killed, signalled, extended, damaged; what --resume then gives is what an undisturbed training
// gives, bit for bit.
#include <random>
#include <set>

#include "tests/cli_fixture.h"
#include "tools/run/run_folder.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

class Resume : public ProgramTest {
 protected:
  // Long enough to be hit in the middle: 16 epochs of 8 steps, each with its state.
  Words longer(const std::string& out, const Words& more = {}) {
    return small(out, Words{"--epochs", "16", "--json"} + more);
  }

  double seconds_of(const std::function<void()>& body) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  void wait_for(const std::string& name) {
    for (int i = 0; i < 60000 && !exists(name); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(exists(name)) << name;
  }

  // The same weights, results and epochs; times differ.
  void same_run(const std::string& folder, const std::string& reference) {
    SCOPED_TRACE(folder);
    EXPECT_EQ(read(folder + "/metrics.jsonl"), read(reference + "/metrics.jsonl"));
    for (const std::string file : {"/best.safetensors", "/final.safetensors"}) {
      ASSERT_EQ(exists(folder + file), exists(reference + file)) << file;
      if (exists(reference + file)) {
        EXPECT_EQ(hash_of(folder + file), hash_of(reference + file)) << file;
      }
    }
    const Json a = Json::parse(read(folder + "/result.json")), b = Json::parse(read(reference + "/result.json"));
    for (const char* field : {"weights_sha256", "test_mse", "val_mse", "epochs_run", "best_epoch", "stopped_by",
                              "per_channel", "train_loss"}) {
      EXPECT_EQ(a[field], b[field]) << field;
    }
  }

  void resume(const std::string& folder, const Words& more = {}) {
    const Outcome o = run(Words{"train", "--resume", path(folder), "--json"} + more);
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_EQ(o.json(), Json::parse(read(folder + "/result.json")));
  }

  int logged(const std::string& folder, const std::string& text) {
    int count = 0;
    std::istringstream log(read(folder + "/log.txt"));
    for (std::string line; std::getline(log, line);) count += line.find(text) != std::string::npos;
    return count;
  }
};

TEST_F(Resume, KilledAtRandomMoments) {
  constexpr unsigned seed = 20240613;
  std::mt19937 random(seed);
  const std::vector<Words> kinds = {
      {}, {"--refit"}, {"--seeds", "1,2", "--refit", "--epochs", "6"}, {"--tune", "--refit", "--epochs", "6"}};
  std::vector<double> seconds;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    seconds.push_back(seconds_of([&] {
      const Outcome o = run(longer("whole-" + std::to_string(kind), kinds[kind]));
      EXPECT_EQ(o.code, 0) << o.err;
    }));
  }
  int unstarted = 0, stateless = 0, finished = 0;
  for (int moment = 0; moment < 20; ++moment) {
    const std::size_t kind = static_cast<std::size_t>(moment) % kinds.size();
    const std::string folder = "killed-" + std::to_string(moment), whole = "whole-" + std::to_string(kind);
    const double delay = seconds[kind] * 1.2 * static_cast<double>(random()) / static_cast<double>(random.max());
    SCOPED_TRACE(fmt::format("seed {}, moment {}, {:.4f} s of {:.4f} s", seed, moment, delay, seconds[kind]));
    const pid_t child = start(longer(folder, kinds[kind]));
    std::this_thread::sleep_for(std::chrono::duration<double>(delay));
    kill(child, SIGKILL);
    finish(child);
    const std::string first = kind == 2 ? folder + "/seed-1" : folder;
    finished += exists(folder + "/result.json");
    if (!exists(folder + "/config.toml")) {  // nothing to take up yet: the same command starts it
      ++unstarted;
      EXPECT_EQ(run({"train", "--resume", path(folder)}).code, 3);
      const Outcome o = run(longer(folder, kinds[kind]));
      EXPECT_EQ(o.code, 0) << o.err;
    } else {
      stateless += !exists(first + "/state.safetensors");
      resume(folder);
    }
    if (kind == 2) {
      same_run(folder + "/seed-1", whole + "/seed-1");
      same_run(folder + "/seed-2", whole + "/seed-2");
    } else {
      same_run(folder, whole);
    }
  }
  std::printf("seed %u: 20 moments, %d before config.toml, %d before the first state, %d after the end\n", seed,
              unstarted, stateless, finished);
}

TEST_F(Resume, KilledBeforeTheFirstStateAndAfterTheEnd) {
  const Words slow = {"--lookback", "96", "--value", "full", "--batch", "1", "--epochs", "2"};
  run(longer("whole", slow));
  std::string early = "early";
  for (int i = 0; i < 20; ++i) {  // on a busy machine the first epoch may end before this process runs again
    early = "early-" + std::to_string(i);
    const pid_t child = start(longer(early, slow));
    wait_for(early + "/config.toml");
    kill(child, SIGKILL);
    finish(child);
    if (!exists(early + "/state.safetensors")) break;
  }
  ASSERT_FALSE(exists(early + "/state.safetensors"));
  resume(early);
  same_run(early, "whole");

  const pid_t late = start(longer("late", slow));
  wait_for("late/result.json");
  kill(late, SIGKILL);
  finish(late);
  resume("late");
  same_run("late", "whole");
}

// Several interruptions of one training, in the middle of epochs and of the refit.
TEST_F(Resume, SignalsSaveTheState) {
  const Words kind = {"--refit", "--value", "full", "--lookback", "48", "--epochs", "150"};
  const double whole = seconds_of([&] { EXPECT_EQ(run(longer("whole", kind)).code, 0); });
  EXPECT_EQ(run(longer("run", kind + Words{"--dry-run"})).code, 0);
  int stopped = 0;
  bool finished = false;
  Words words = longer("run", kind);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGINT, SIGTERM}) {
    const pid_t child = start(words);
    wait_for("run/config.toml");
    // Before it says so, the resumed program may not catch signals yet. (The first may have no log yet.)
    for (int i = 0; i < 60000 && stopped > 0 && logged("run", "resumed after") < stopped; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(whole / 7));
    kill(child, signal);
    const Outcome o = finish(child);
    words = {"train", "--resume", path("run"), "--json"};
    finished = o.code == 0;
    if (finished) break;
    ++stopped;
    SCOPED_TRACE(o.err);
    EXPECT_EQ(o.code, 130);
    EXPECT_EQ(o.json()["error"]["exit_code"], 130);
    EXPECT_EQ(o.json()["error"]["kind"], "interrupted");
    EXPECT_NE(o.err.find("interrupted in epoch"), std::string::npos);
    EXPECT_TRUE(exists("run/state.safetensors"));
    // A step was saved that no epoch's end has saved.
    const Json counters = Json::parse(model::Safetensors::open(path("run/state.safetensors")).metadata("counters"));
    const Json& phase = counters.contains("refit") ? counters["refit"] : counters["train"];
    EXPECT_GE(phase["step"], 1);
  }
  EXPECT_GE(stopped, 2);
  if (!finished) resume("run");
  same_run("run", "whole");
  EXPECT_EQ(logged("run", "resumed after"), stopped);
}

// A clock that moves `pace` seconds at each look: what is stored inside an epoch, and that it resumes to the same run.
TEST_F(Resume, AStateEverySixtySecondsInsideAnEpoch) {
  document(small("whole"));
  tools::Settings settings = tools::read_run_settings(path("whole"));
  tools::Console console(stderr, false, true, false);
  const tools::Experiment experiment = tools::load_experiment(settings, console);
  const model::Model net = settings.make_model(experiment.D(), experiment.values.marks);
  const auto starts = [&](model::Span rows) { return model::window_starts(rows, settings.lookback, settings.horizon); };
  const auto train_starts = starts(experiment.splits.train);
  const auto val_starts = starts(model::with_lookback(experiment.splits.val, settings.lookback));
  for (const double pace : {0.0, 25.0}) {
    const std::string folder = fmt::format("pace-{}", pace);
    fs::create_directory(path(folder));
    fs::copy_file(path("whole/config.toml"), path(folder + "/config.toml"));
    double now = 0;
    std::set<std::pair<int, int>> inside;  // epoch and step of the states seen
    const tools::Clock clock = [&] {
      if (exists(folder + "/state.safetensors")) {
        const auto state = model::Safetensors::open(path(folder + "/state.safetensors"));
        const Json at = Json::parse(state.metadata("counters"))["train"];
        if (at["step"] > 0) inside.emplace(at["epoch"], at["step"]);
        if (at["step"] > 0 && !exists("cut")) fs::copy(path(folder), path("cut"), fs::copy_options::recursive);
      }
      return now += pace;
    };
    const optim::Problem problem = experiment.problem();
    optim::Trainer trainer(net, problem, train_starts, val_starts, tools::trainer_settings(settings));
    tools::initialise(trainer.training(), net, settings);
    tools::RunFolder writer(path(folder), settings, experiment, net, console, false, clock);
    writer.train(trainer);
    EXPECT_EQ(hash_of(folder + "/best.safetensors"), hash_of("whole/best.safetensors"));
    EXPECT_LE(60.0 * static_cast<double>(inside.size()), now);
    EXPECT_EQ(inside.empty(), pace == 0);
  }
  resume("cut");
  same_run("cut", "whole");
}

TEST_F(Resume, ASecondSignalEndsAtOnce) {
  const pid_t child = start(longer("run", {"--epochs", "100000"}));
  wait_for("run/state.safetensors");
  kill(child, SIGSTOP);
  int status = 0;
  waitpid(child, &status, WUNTRACED);
  const std::string before = read("run/state.safetensors");
  kill(child, SIGTERM);
  kill(child, SIGINT);
  kill(child, SIGCONT);
  const Outcome o = finish(child);
  EXPECT_EQ(o.code, 130);
  EXPECT_EQ(o.err.find("interrupted in epoch"), std::string::npos);
  EXPECT_EQ(read("run/state.safetensors"), before);
}

TEST_F(Resume, AppendedFilesAreCutBack) {
  run(longer("whole"));
  const pid_t child = start(longer("run"));
  wait_for("run/state.safetensors");
  kill(child, SIGKILL);
  finish(child);
  // What an epoch leaves that was not yet saved when the power went.
  std::ofstream(scratch_ / "run/metrics.jsonl", std::ios::app) << "{\"epoch\": 99}\n{\"epo";
  std::ofstream(scratch_ / "run/log.txt", std::ios::app) << "torn line";
  resume("run");
  same_run("run", "whole");
  EXPECT_EQ(logged("run", "torn"), 0);
  const std::vector<Json> epochs = lines(read("run/metrics.jsonl"));
  ASSERT_EQ(epochs.size(), 16u);
  for (std::size_t i = 0; i < epochs.size(); ++i) EXPECT_EQ(epochs[i]["epoch"], i + 1);
}

TEST_F(Resume, MoreEpochsAreThoseOfALongerRun) {
  const std::vector<Words> kinds = {{}, {"--refit"}, {"--patience", "3", "--lr", "0.03", "--rho", "0", "--ema", "0"}};
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    const std::string whole = "whole-" + std::to_string(kind), folder = "run-" + std::to_string(kind);
    EXPECT_EQ(run(small(whole, kinds[kind] + Words{"--epochs", "9"})).code, 0);
    EXPECT_EQ(run(small(folder, kinds[kind] + Words{"--epochs", "3"})).code, 0);
    resume(folder, {"--epochs", "9"});
    same_run(folder, whole);
    EXPECT_NE(read(folder + "/config.toml").find("epochs = 9"), std::string::npos);
  }
  EXPECT_EQ(run(small("whole-seeds", {"--seeds", "1,2", "--epochs", "6"})).code, 0);
  EXPECT_EQ(run(small("run-seeds", {"--seeds", "1,2", "--epochs", "3"})).code, 0);
  resume("run-seeds", {"--epochs", "6"});
  same_run("run-seeds/seed-1", "whole-seeds/seed-1");
  same_run("run-seeds/seed-2", "whole-seeds/seed-2");
}

TEST_F(Resume, MorePatience) {
  const Words kind = {"--lr", "0.03", "--rho", "0", "--schedule", "constant", "--ema", "0", "--epochs", "60"};
  EXPECT_EQ(run(small("whole", kind + Words{"--patience", "6"})).code, 0);
  EXPECT_EQ(run(small("run", kind + Words{"--patience", "2"})).code, 0);
  EXPECT_EQ(Json::parse(read("run/result.json"))["stopped_by"], "patience");
  resume("run", {"--patience", "6"});
  same_run("run", "whole");
}

TEST_F(Resume, OnlySomeFlagsMayBeGiven) {
  EXPECT_EQ(run(small("run")).code, 0);
  const auto refused = [&](const Words& more, const Words& parts) {
    fails(2, Words{"train", "--resume", path("run")} + more, parts);
  };
  refused({"--lr", "0.1"}, {"--lr", "--resume", "--epochs"});
  refused({"--rho", "0"}, {"--rho"});
  refused({"--out", path("else")}, {"--out"});
  refused({"--seeds", "1,2"}, {"--seeds"});
  refused({"--overwrite"}, {"--overwrite"});
  refused({"--config", path("run/config.toml")}, {"--config"});
  refused({"--epochs", "3"}, {"--epochs", "4"});
  const Words allowed = {"--epochs", "5",        "--patience", "7",      "--threads",
                         "2",        "--device", "cpu",        "--data", path("small.csv")};
  resume("run", allowed);
}

TEST_F(Resume, AFinishedRunPrintsItsResult) {
  for (const Words& kind : {Words{}, Words{"--seeds", "1,2"}}) {
    const std::string folder = kind.empty() ? "run" : "seeds";
    const Json d = document(small(folder, kind));
    const auto written = fs::last_write_time(scratch_ / folder / "result.json");
    fs::rename(scratch_ / "small.csv", scratch_ / "gone.csv");
    EXPECT_EQ(document({"train", "--resume", path(folder)}), d);
    EXPECT_NE(run({"train", "--resume", path(folder)}).out.find("naive (last value)"), std::string::npos);
    EXPECT_EQ(fs::last_write_time(scratch_ / folder / "result.json"), written);
    fs::rename(scratch_ / "gone.csv", scratch_ / "small.csv");
  }
}

// `--split auto` goes by the file's name: a copy under another name keeps the rule of the first.
TEST_F(Resume, MovedData) {
  series("ETTh1.csv", 14400, 1);
  const Words ett = {"--data", path("ETTh1.csv"), "--batch", "512", "--epochs", "2"};
  const Json d = document(small("whole", ett));
  EXPECT_EQ(d["splits"]["train"]["last_row"], 8640);
  EXPECT_EQ(run(small("run", ett + Words{"--epochs", "1"})).code, 0);
  fs::rename(scratch_ / "ETTh1.csv", scratch_ / "copy.csv");
  fails(3, {"train", "--resume", path("run"), "--epochs", "2"}, {"ETTh1.csv"});
  const Json moved = document({"train", "--resume", path("run"), "--epochs", "2", "--data", path("copy.csv")});
  EXPECT_EQ(moved["weights_sha256"], d["weights_sha256"]);
  EXPECT_EQ(moved["test_mse"], d["test_mse"]);
  EXPECT_EQ(document({"train", "--resume", path("run")}), moved);
}

// Of a folder that others have made: nothing is written through a link that lies in it.
TEST_F(Resume, NoLinkOfItsFolderIsFollowed) {
  EXPECT_EQ(run(small("run")).code, 0);
  const Words resume{"train", "--resume", path("run"), "--epochs", "6"};
  for (const char* name : {".lock", "log.txt", "metrics.jsonl"}) {
    const std::string letter = write("letter", "a letter, longer than nothing");
    if (exists(std::string("run/") + name)) std::filesystem::rename(scratch_ / "run" / name, scratch_ / "kept");
    std::filesystem::create_symlink(letter, scratch_ / "run" / name);
    const Outcome o = run(resume);
    EXPECT_EQ(o.code, 7) << o.err;
    EXPECT_NE(o.err.find(std::string("run/") + name), std::string::npos) << o.err;
    EXPECT_EQ(read("letter"), "a letter, longer than nothing");
    std::filesystem::remove(scratch_ / "run" / name);
    if (exists("kept")) std::filesystem::rename(scratch_ / "kept", scratch_ / "run" / name);
  }
  // Nor by --overwrite, which removes a run's files.
  EXPECT_EQ(run(small("other")).code, 0);
  std::filesystem::create_directory_symlink(path("other"), path("run/seed-1"));
  EXPECT_EQ(run(small("run", {"--overwrite", "--epochs", "1"})).code, 0);
  EXPECT_TRUE(exists("other/best.safetensors"));
}

TEST_F(Resume, FilesThatAreRemovedMeanwhileAreWrittenAgain) {
  const pid_t child = start(small("run", {"--epochs", "60"}));
  while (!exists("run/state.safetensors")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  for (const char* name : {"config.toml", "metrics.jsonl"}) std::filesystem::remove(scratch_ / "run" / name);
  const Outcome o = finish(child);
  EXPECT_EQ(o.code, 0);
  EXPECT_NE(o.err.find("config.toml was removed"), std::string::npos) << o.err;
  EXPECT_EQ(lines(read("run/metrics.jsonl")).size(), 60u);
  EXPECT_EQ(document({"train", "--resume", path("run"), "--epochs", "62"})["epochs_run"], 62);
}

// What a killed process left in the folder of a seed, or of a candidate, goes when the part is taken up again.
TEST_F(Resume, TemporariesOfPartsAreCleared) {
  EXPECT_EQ(run(small("seeds", {"--seeds", "1,2"})).code, 0);
  EXPECT_EQ(run(small("tuned", {"--tune"})).code, 0);
  for (const char* name : {"seeds/seed-2/.samformer.9.tmp", "tuned/tune-mean-0/.samformer.9.tmp"}) write(name, "half");
  for (const char* name : {"seeds", "tuned"}) {
    EXPECT_EQ(run({"train", "--resume", path(name), "--epochs", "5"}).code, 0);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch_ / name)) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".samformer")) << entry.path();
    }
  }
}

// Foreign or damaged JSON in the folder is a data error of its place, with what to do, wherever it is read.
TEST_F(Resume, DamagedResultsAreRefused) {
  EXPECT_EQ(run(small("run")).code, 0);
  EXPECT_EQ(run(small("seeds", {"--seeds", "1,2"})).code, 0);
  const std::string deep(100000, '[');
  for (const std::string& text : {std::string("{}"), std::string("[]"), std::string("1"), std::string("\"x\""),
                                  std::string("{\"runs\":[]}"), std::string("{\n\"dataset\":"), deep}) {
    SCOPED_TRACE(text.substr(0, 20));
    for (const char* folder : {"run", "seeds"}) {
      write(folder + std::string("/result.json"), text);
      fails(3, {"train", "--resume", path(folder)}, {"result.json:", "damaged", "remove the file"});
    }
    if (text != "{}" && text != "{\"runs\":[]}") {
      fails(3, {"eval", path("run")}, {"result.json:", "damaged", "remove the file"});
    }
  }
  fs::remove(scratch_ / "run/result.json");
  for (const char* line :
       {"{\"epoch\":1,\"phase\":5}", "{\"epoch\":1}", "[]", "{\"epoch\":\"x\",\"phase\":\"train\"}"}) {
    write("run/metrics.jsonl", std::string(line) + "\n");
    fails(3, {"train", "--resume", path("run"), "--epochs", "5"}, {"metrics.jsonl:1", "damaged", "remove the file"});
  }
  fs::remove(scratch_ / "run/metrics.jsonl");
  EXPECT_EQ(run({"train", "--resume", path("run"), "--epochs", "5"}).code, 0);
}

TEST_F(Resume, ADamagedStateIsRefused) {
  EXPECT_EQ(run(small("run")).code, 0);
  fs::remove(scratch_ / "run/result.json");
  const std::string good = read("run/state.safetensors");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    const std::size_t at = bad.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return bad.replace(at, from.size(), to);
  };
  std::string flipped = good;
  flipped[3] = '\x7f';  // the header's length
  const std::vector<std::string> bad = {"",
                                        good.substr(0, 7),
                                        good.substr(0, good.size() / 2),
                                        good + "x",
                                        flipped,
                                        std::string(1000, '\0'),
                                        replaced("\\\"epoch\\\":4", "\\\"epoch\\\":-"),
                                        replaced("\\\"step\\\":0", "\\\"step\\\":9"),
                                        replaced("train.weights", "brain.weights"),
                                        replaced("\\\"metrics_bytes\\\":", "\\\"metrics_bites\\\":")};
  for (std::size_t i = 0; i < bad.size(); ++i) {
    SCOPED_TRACE(i);
    write("run/state.safetensors", bad[i]);
    fails(3, {"train", "--resume", path("run")}, {"state.safetensors"});
  }
  // Counters that no training leaves.
  const auto counters = [&](const std::string& key, const Json& value) {
    SCOPED_TRACE(key);
    write("run/state.safetensors", good);
    rewrite("run/state.safetensors", [&](model::Metadata& metadata, auto&) {
      Json all = Json::parse(metadata["counters"]);
      all[Json::json_pointer("/train" + key)] = value;
      metadata["counters"] = all.dump();
    });
    const std::string name = key.substr(key.rfind('/') + 1);
    fails(3, {"train", "--resume", path("run"), "--epochs", "6"},
          {"state.safetensors", "damaged", name, "--overwrite"});
  };
  for (const Json& value : {Json(INT64_MAX), Json(INT64_MIN), Json(31), Json("x"), Json(32.0), Json()}) {
    counters("/steps", value);
  }
  for (const char* key : {"/epoch", "/step", "/best_epoch", "/stale_epochs", "/tested/epoch"}) {
    for (const Json& value : {Json(INT64_MAX), Json(-1), Json(9)}) counters(key, value);
  }
  write("run/state.safetensors", good);
  resume("run");
  const std::string config = read("run/config.toml");
  write("run/config.toml", config.substr(0, config.size() / 2) + "\n= =");
  fails(3, {"train", "--resume", path("run")}, {"config.toml"});
}

}  // namespace
}  // namespace samformer
