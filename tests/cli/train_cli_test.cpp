// `samformer train` and `samformer eval` from outside: documents, tables, files, refusals, exit codes, same bits.
#include <limits>
#include <numbers>
#include <set>

#include "kernels/cpu/bf16.h"
#include "tests/cli_fixture.h"
#include "tests/numeric.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

// design/cli.md, "What comes back".
const Words fields = {"schema_version",
                      "version",
                      "command",
                      "run_dir",
                      "dataset",
                      "data_path",
                      "data_sha256",
                      "rows",
                      "step",
                      "channels",
                      "targets",
                      "splits",
                      "model",
                      "value",
                      "preset",
                      "lookback",
                      "horizon",
                      "seed",
                      "rho",
                      "adaptive",
                      "stats_mix",
                      "center",
                      "ema",
                      "optimizer",
                      "lr",
                      "batch",
                      "device",
                      "precision",
                      "threads",
                      "parameters",
                      "train_windows",
                      "val_windows",
                      "test_windows",
                      "epochs_run",
                      "best_epoch",
                      "stopped_by",
                      "train_loss",
                      "val_mse",
                      "test_mse",
                      "test_mae",
                      "per_channel",
                      "per_step",
                      "baselines",
                      "skill",
                      "seconds_training",
                      "seconds_per_epoch",
                      "seconds_evaluating",
                      "peak_memory_bytes",
                      "weights_sha256"};

using Train = ProgramTest;

TEST_F(Train, DocumentOfARun) {
  const Json d = document(small("run"));
  for (const std::string& field : fields) EXPECT_TRUE(d.contains(field)) << field;
  EXPECT_EQ(d["command"], "train");
  EXPECT_EQ(d["run_dir"], path("run"));
  EXPECT_EQ(d["dataset"], "small");
  EXPECT_EQ(d["data_path"], path("small.csv"));
  EXPECT_EQ(d["data_sha256"], sha256_file(path("small.csv")));
  EXPECT_EQ(d["rows"], 400);
  EXPECT_EQ(d["channels"], 3);
  EXPECT_EQ(d["targets"], Json({"c0", "c1", "c2"}));
  // int(0.7 n) = 280, n - int(0.2 n) = 320
  EXPECT_EQ(
      d["splits"]["train"],
      Json({{"first_row", 1}, {"last_row", 280}, {"first_date", "2020-01-01 00:00:00"}, {"last_date", hourly(279)}}));
  EXPECT_EQ(d["splits"]["val"]["first_row"], 281);
  EXPECT_EQ(d["splits"]["val"]["last_row"], 320);
  EXPECT_EQ(d["splits"]["test"]["first_date"], hourly(320));
  EXPECT_EQ(d["splits"]["test"]["last_date"], hourly(399));
  EXPECT_EQ(d["train_windows"], 280 - 24 - 6 + 1);
  EXPECT_EQ(d["val_windows"], 40 - 6 + 1);
  EXPECT_EQ(d["test_windows"], 80 - 6 + 1);
  EXPECT_EQ(d["model"], "samformer");
  EXPECT_EQ(d["value"], "low-rank");
  EXPECT_EQ(d["preset"], "default");
  EXPECT_EQ(d["device"], "cpu");
  EXPECT_EQ(d["precision"], "float32");
  EXPECT_EQ(d["threads"], 1);
  // [V|Q|K] 3 (16 L + 16), W_O 16 L + L, head L H + H, RevIN 2 D
  EXPECT_EQ(d["parameters"], 3 * (16 * 24 + 16) + 17 * 24 + 25 * 6 + 2 * 3);
  EXPECT_EQ(d["epochs_run"], 4);
  EXPECT_GE(d["best_epoch"], 1);
  EXPECT_LE(d["best_epoch"], 4);
  EXPECT_EQ(d["stopped_by"], "epochs");
  ASSERT_EQ(d["per_channel"].size(), 3u);
  ASSERT_EQ(d["per_step"].size(), 6u);
  double mse = 0, mae = 0;
  for (const Json& c : d["per_channel"]) {
    for (const char* key : {"name", "mse", "mae", "mae_original", "rmse_original"}) EXPECT_TRUE(c.contains(key)) << key;
    mse += c["mse"].get<double>() / 3;
    // One unit for both: the training rows' deviation.
    const double unit = c["mae_original"].get<double>() / c["mae"].get<double>();
    const double rmse = c["rmse_original"].get<double>() / std::sqrt(c["mse"].get<double>());
    EXPECT_TRUE(std::abs(unit / rmse - 1) <= 1e-12);
  }
  for (const Json& s : d["per_step"]) mae += s["mae"].get<double>() / 6;
  EXPECT_EQ(d["per_step"][0]["step"], 1);
  EXPECT_TRUE(std::abs(mse / d["test_mse"].get<double>() - 1) <= 1e-12);
  EXPECT_TRUE(std::abs(mae / d["test_mae"].get<double>() - 1) <= 1e-12);
  EXPECT_EQ(d["baselines"]["naive"]["season"], 1);
  EXPECT_EQ(d["baselines"]["seasonal_naive"]["season"], 24);
  double best = std::numeric_limits<double>::infinity();
  for (const Json& baseline : d["baselines"]) best = std::min(best, baseline["test_mse"].get<double>());
  EXPECT_TRUE(std::abs(1 - d["test_mse"].get<double>() / best - d["skill"].get<double>()) <= 1e-12);
  for (const char* key : {"seconds_training", "seconds_per_epoch", "seconds_evaluating", "train_loss", "val_mse"}) {
    EXPECT_TRUE(d[key].get<double>() > 0) << key;
  }
  EXPECT_GT(d["peak_memory_bytes"], 1 << 20);
  EXPECT_EQ(d["weights_sha256"], hash_of("run/best.safetensors"));
  EXPECT_EQ(d, Json::parse(read("run/result.json")));
}

TEST_F(Train, FilesOfARun) {
  const Json d = document(small("run"));
  EXPECT_EQ(files("run"), (std::set<std::string>{"config.toml", "metrics.jsonl", "best.safetensors",
                                                 "state.safetensors", "result.json", "log.txt", "report.html"}));
  EXPECT_NE(read("run/config.toml").find("data = \"" + path("small.csv") + "\""), std::string::npos);
  EXPECT_NE(read("run/config.toml").find(d["data_sha256"].get<std::string>()), std::string::npos);
  const std::vector<Json> epochs = lines(read("run/metrics.jsonl"));
  ASSERT_EQ(epochs.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(epochs[i]["epoch"], i + 1);
  const Json& best = epochs[d["best_epoch"].get<std::size_t>() - 1];
  EXPECT_EQ(best["val_mse"], d["val_mse"]);
  EXPECT_EQ(best["train_loss"], d["train_loss"]);
  EXPECT_EQ(best["selected"], true);
  for (const Json& epoch : epochs) EXPECT_GE(epoch["val_mse"].get<double>(), d["val_mse"].get<double>());
  EXPECT_NE(read("run/log.txt").find("251 windows"), std::string::npos);
  // Nothing beside it: the test's own files apart.
  EXPECT_EQ(files("."), (std::set<std::string>{"run", "small.csv"}));
}

TEST_F(Train, TableAndNextCommand) {
  const Outcome o = run(small("run"));
  EXPECT_EQ(o.code, 0) << o.err;
  for (const std::string part : {"small, 400 rows, 3 channels", "2020-01-01 00:00:00", "SAM rho 0.7 over adam", "cpu",
                                 "naive (last value)", "seasonal naive (24 steps)", "samformer predict"}) {
    EXPECT_NE(o.out.find(part), std::string::npos) << part << "\n" << o.out;
  }
  // One table (one rule under a heading), then the next command.
  int rules = 0;
  std::string line, last;
  for (std::istringstream text(o.out); std::getline(text, line); last = line) {
    rules += !line.empty() && line.find_first_not_of("- ") == std::string::npos;
  }
  EXPECT_EQ(rules, 1) << o.out;
  EXPECT_EQ(last, fmt::format("next: samformer predict {} --out forecast.csv", path("run")));
  EXPECT_NE(o.err.find("epoch 1/4"), std::string::npos);
  EXPECT_NE(o.err.find("epoch 4/4"), std::string::npos);
  const Outcome quiet = run(small("quiet", {"--quiet", "--select", "last"}));
  EXPECT_EQ(quiet.err, "");
  EXPECT_NE(quiet.out.find("naive (last value)"), std::string::npos);
  const Outcome eval = run({"eval", path("run")});
  EXPECT_EQ(eval.code, 0) << eval.err;
  EXPECT_NE(eval.out.find("seasonal naive (24 steps)"), std::string::npos);
}

TEST_F(Train, TheNextCommandCanBePasted) {
  const Outcome o = run(small("my run"));
  EXPECT_NE(o.out.find(fmt::format("samformer predict '{}' --out", path("my run"))), std::string::npos) << o.out;
}

TEST_F(Train, WarningsOfTheDataReachTheLog) {
  std::string text = "date,a,b\n";
  for (int t = 0; t < 400; ++t) text += fmt::format("{},{},7\n", hourly(t), t % 24);
  const std::string file = write("constant.csv", text);
  const Words words{"train", "--data", file, "--lookback", "24", "--horizon", "6", "--epochs", "1", "--quiet"};
  const Outcome one = run(words + Words{"--out", path("run")});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_NE(one.err.find("warning: "), std::string::npos);
  EXPECT_NE(read("run/log.txt").find("warning: "), std::string::npos) << read("run/log.txt");
  EXPECT_EQ(run(words + Words{"--out", path("two"), "--seeds", "1,2"}).code, 0);
  for (const std::string log : {"two/log.txt", "two/seed-1/log.txt", "two/seed-2/log.txt"}) {
    EXPECT_NE(read(log).find("warning: "), std::string::npos) << log;
  }
}

TEST_F(Train, PeakMemoryIsTheProcessesOwn) {
  const std::vector<char> large(std::size_t{1} << 29, 1);  // resident here, where the program is started from
  EXPECT_LT(document(small("run"))["peak_memory_bytes"], std::int64_t{1} << 28) << large.back();
}

TEST_F(Train, NegativeSkillIsSaidInWords) {
  const Outcome o = run(small("run", {"--epochs", "1", "--lr", "1e-9"}));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("the best baseline beats the model"), std::string::npos) << o.out;
}

TEST_F(Train, EvalGivesTheTestedBits) {
  for (const std::string select : {"best", "last"}) {
    const Json d = document(small("run-" + select, {"--select", select}));
    const Json e = document({"eval", path("run-" + select)});
    for (const std::string& field : fields) EXPECT_TRUE(e.contains(field)) << field;
    EXPECT_EQ(e["command"], "eval");
    for (const char* same : {"test_mse", "test_mae", "per_channel", "per_step", "baselines", "skill", "weights_sha256",
                             "splits", "epochs_run", "best_epoch", "stopped_by", "val_mse", "train_loss", "data_sha256",
                             "parameters", "data_path", "dataset"}) {
      EXPECT_EQ(e[same], d[same]) << same;
    }
    EXPECT_EQ(document({"eval", path("run-" + select + "/best.safetensors")})["test_mse"], d["test_mse"]);
    if (select == "last") {
      EXPECT_EQ(d["best_epoch"], 4);
    }
  }
  // A file on its own knows nothing of the course of its training.
  fs::copy_file(scratch_ / "run-best/best.safetensors", scratch_ / "alone.safetensors");
  const Json alone = document({"eval", "alone.safetensors"});
  for (const char* unknown : {"epochs_run", "best_epoch", "stopped_by", "train_loss", "val_mse", "seconds_training"}) {
    EXPECT_TRUE(alone[unknown].is_null()) << unknown;
  }
}

TEST_F(Train, NullWhereUnknown) {
  const Json short_lookback = document(small("run", {"--lookback", "12"}));
  EXPECT_TRUE(short_lookback["baselines"]["seasonal_naive"].is_null());
  EXPECT_FALSE(short_lookback["baselines"]["naive"].is_null());
  const Json builtin = document({"train", "--lookback", "24", "--horizon", "6", "--dry-run"});
  EXPECT_TRUE(builtin["data_path"].is_null());
  EXPECT_TRUE(builtin["run_dir"].is_null());
  EXPECT_EQ(builtin["dataset"], "seasonal");
  EXPECT_EQ(builtin["rows"], 6000);
  EXPECT_EQ(builtin["channels"], 7);
}

TEST_F(Train, SeasonIsTheUsers) {
  EXPECT_EQ(document(small("run", {"--season", "7"}))["baselines"]["seasonal_naive"]["season"], 7);
}

TEST_F(Train, Seeds) {
  const Json d = document(small("run", {"--seeds", "1..2,5"}));
  ASSERT_EQ(d["runs"].size(), 3u);
  EXPECT_EQ(files("run"), (std::set<std::string>{"config.toml", "log.txt", "report.html", "result.json", "seed-1",
                                                 "seed-2", "seed-5"}));
  std::set<std::string> hashes;
  double sum = 0;
  for (const Json& r : d["runs"]) {
    for (const std::string& field : fields) EXPECT_TRUE(r.contains(field)) << field;
    const std::string folder = fmt::format("run/seed-{}", r["seed"].get<int>());
    EXPECT_EQ(r, Json::parse(read(folder + "/result.json")));
    hashes.insert(r["weights_sha256"].get<std::string>());
    sum += r["test_mse"].get<double>();
  }
  EXPECT_EQ(hashes.size(), 3u);
  double squares = 0;
  for (const Json& r : d["runs"]) squares += std::pow(r["test_mse"].get<double>() - sum / 3, 2);
  EXPECT_TRUE(std::abs(d["mean"]["test_mse"].get<double>() - sum / 3) <= 1e-15);
  EXPECT_TRUE(std::abs(d["std"]["test_mse"].get<double>() - std::sqrt(squares / 2)) <= 1e-15);
  for (const char* name : {"val_mse", "test_mae", "train_loss", "skill"}) {
    EXPECT_TRUE(d["mean"][name].is_number() && d["std"][name].is_number()) << name;
  }
  EXPECT_NE(read("run/log.txt").find("seed 5"), std::string::npos);
  // A seed of several is the seed alone.
  EXPECT_EQ(document(small("two", {"--seed", "2"}))["weights_sha256"], d["runs"][1]["weights_sha256"]);

  const Json one = document(small("one", {"--seeds", "3"}));
  EXPECT_EQ(one["runs"].size(), 1u);
  EXPECT_TRUE(one["mean"]["test_mse"].is_number());
  EXPECT_TRUE(one["std"]["test_mse"].is_null());
  // eval takes the seeds together as train does.
  const Json e = document({"eval", path("run")});
  EXPECT_EQ(e["mean"]["test_mse"], d["mean"]["test_mse"]);
}

TEST_F(Train, DryRunWritesNothing) {
  const Json d = document(small("run", {"--dry-run"}));
  EXPECT_FALSE(exists("run"));
  for (const std::string& field : fields) {
    if (field == "epochs_run") break;  // known before the first step: all up to here
    EXPECT_TRUE(d.contains(field)) << field;
  }
  EXPECT_FALSE(d.contains("test_mse"));
  const Outcome table = run(small("run", {"--dry-run"}));
  EXPECT_NE(table.out.find("400 rows"), std::string::npos);
  EXPECT_NE(table.out.find("next: "), std::string::npos);
}

TEST_F(Train, AFolderThatHoldsARunIsRefused) {
  document(small("run"));
  const std::string before = read("run/result.json");
  fails(2, small("run"), {"already holds a run", "--resume", "--overwrite"});
  EXPECT_EQ(read("run/result.json"), before);
}

TEST_F(Train, OverwriteTouchesOnlyARunsOwnFiles) {
  document(small("run", {"--seeds", "1,2"}));
  write("run/notes.txt", "mine");
  write("run/seed-2/notes.txt", "mine too");
  fs::create_directory(scratch_ / "run/seed-9");
  write("run/seed-9/paper.pdf", "not a run");
  // Not before data and flags were accepted.
  fails(3, small("run", {"--overwrite", "--data", path("no.csv")}), {"no.csv"});
  fails(2, small("run", {"--overwrite", "--split", "thirds"}), {"--split"});
  fails(2, small("run", {"--overwrite", "--lr", "-1"}), {"--lr"});
  fails(3, small("run", {"--overwrite", "--horizon", "90"}), {"too few rows"});
  fails(4, small("run", {"--overwrite", "--device", "cuda:4095"}), {"cuda"});
  EXPECT_TRUE(exists("run/seed-1/best.safetensors") && exists("run/result.json"));

  const Json d = document(small("run", {"--overwrite"}));
  EXPECT_EQ(d["weights_sha256"], hash_of("run/best.safetensors"));
  EXPECT_EQ(read("run/notes.txt"), "mine");
  EXPECT_EQ(read("run/seed-2/notes.txt"), "mine too");
  EXPECT_EQ(read("run/seed-9/paper.pdf"), "not a run");
  EXPECT_FALSE(exists("run/seed-1"));
  EXPECT_FALSE(exists("run/seed-2/best.safetensors"));
}

TEST_F(Train, ASecondProcessIsRefused) {
  document(small("run"));
  fs::remove(scratch_ / "run/result.json");
  const FolderLock lock(scratch_ / "run");
  fails(2, {"train", "--resume", path("run")}, {"in use", std::to_string(getpid())});
  fails(2, small("run", {"--overwrite"}), {"in use"});
  EXPECT_TRUE(exists("run/best.safetensors"));
}

TEST_F(Train, Features) {
  const Json s = document(small("s", {"--features", "S"}));
  EXPECT_EQ(s["targets"], Json({"c2"}));
  EXPECT_EQ(s["channels"], 1);
  const Json two = document(small("s2", {"--features", "S", "--target", "c2,c0"}));
  EXPECT_EQ(two["targets"], Json({"c2", "c0"}));
  EXPECT_EQ(two["channels"], 2);
  const Json ms = document(small("ms", {"--features", "MS", "--target", "c1"}));
  EXPECT_EQ(ms["targets"], Json({"c1"}));
  EXPECT_EQ(ms["channels"], 3);
  ASSERT_EQ(ms["per_channel"].size(), 1u);
  EXPECT_EQ(ms["per_channel"][0]["name"], "c1");
  EXPECT_EQ(ms["per_channel"][0]["mse"], ms["test_mse"]);
  // The baselines are of the target too: those of training on that column alone.
  const Json alone = document(small("alone", {"--columns", "c1"}));
  EXPECT_EQ(alone["baselines"], ms["baselines"]);
  EXPECT_EQ(document({"eval", path("ms")})["test_mse"], ms["test_mse"]);
  fails(2, small("x", {"--features", "S", "--target", "c9"}), {"c9"});
  EXPECT_EQ(document(small("dropped", {"--drop", "c0"}))["targets"], Json({"c1", "c2"}));
}

TEST_F(Train, Splits) {
  const Json rows = document(small("rows", {"--split", "rows:200,60,40", "--dry-run"}));
  EXPECT_EQ(rows["splits"]["test"]["last_row"], 300);
  const Json dates = document(small("dates", {"--split", "dates:2020-01-11,2020-01-14", "--dry-run"}));
  EXPECT_EQ(dates["splits"]["val"]["first_row"], 241);
  EXPECT_EQ(dates["splits"]["test"]["first_date"], "2020-01-14 00:00:00");
  const Json ratio = document(small("ratio", {"--split", "ratio:0.5,0.25,0.25", "--dry-run"}));
  EXPECT_EQ(ratio["splits"]["train"]["last_row"], 200);
}

TEST_F(Train, RefitWritesFinalWeights) {
  const Json plain = document(small("plain"));
  const Json d = document(small("run", {"--refit"}));
  // The test is that of the weights before the refit.
  EXPECT_EQ(d["weights_sha256"], plain["weights_sha256"]);
  EXPECT_EQ(d["test_mse"], plain["test_mse"]);
  EXPECT_EQ(hash_of("run/best.safetensors"), d["weights_sha256"]);
  EXPECT_NE(hash_of("run/final.safetensors"), d["weights_sha256"]);
  const std::vector<Json> epochs = lines(read("run/metrics.jsonl"));
  ASSERT_EQ(epochs.size(), 4u + d["best_epoch"].get<std::size_t>());
  EXPECT_EQ(epochs.back()["phase"], "refit");
  EXPECT_TRUE(epochs.back()["val_mse"].is_null());
  // Its scaler is that of all rows.
  const auto scaler = [&](const std::string& file) {
    return model::Safetensors::open(scratch_ / file).metadata("scaler");
  };
  EXPECT_NE(scaler("run/final.safetensors"), scaler("run/best.safetensors"));
  EXPECT_EQ(scaler("plain/best.safetensors"), scaler("run/best.safetensors"));
}

// rho 0 takes one pass: what a perturbation too small for a float's last bit gives in two.
TEST_F(Train, WithoutSam) {
  const std::string none = document(small("none", {"--rho", "0"}))["weights_sha256"];
  EXPECT_EQ(document(small("tiny", {"--rho", "1e-30"}))["weights_sha256"], none);
  EXPECT_NE(document(small("sam"))["weights_sha256"], none);
  EXPECT_NE(document(small("asam", {"--adaptive"}))["weights_sha256"], none);
  EXPECT_EQ(document(small("transformer", {"--model", "transformer", "--stats-mix", "0.5"}))["weights_sha256"], none);
}

// The share rises with the step of the forecast, but for shares of nothing and of all.
TEST_F(Train, StatisticsMixing) {
  const auto trained = [&](const std::string& mix, const std::string& step) {
    return document(small("run-" + mix + "-" + step, {"--stats-mix", mix, "--stats-mix-step", step}));
  };
  for (const std::string mix : {"0", "1"}) {
    EXPECT_EQ(trained(mix, "3")["weights_sha256"], trained(mix, "0")["weights_sha256"]) << mix;
  }
  const Json plain = document(small("plain")), rising = trained("0.5", "250"), constant = trained("0.5", "0");
  EXPECT_EQ(plain["stats_mix_step"], 250);
  EXPECT_EQ(plain["weights_sha256"], rising["weights_sha256"]);
  EXPECT_NE(plain["weights_sha256"], constant["weights_sha256"]);
  EXPECT_NE(trained("0.5", "3")["weights_sha256"], plain["weights_sha256"]);
  EXPECT_NE(run(small("table")).out.find("stats-mix 0.5 at step 250"), std::string::npos);
  fails(2, small("x", {"--stats-mix-step", "-1"}), {"--stats-mix-step"});
}

TEST_F(Train, EveryOptimizerTrains) {
  const double untrained = document(small("none", {"--epochs", "1", "--lr", "1e-12", "--ema", "0"}))["test_mse"];
  for (const std::string optimizer : {"adam", "adamw", "sgd"}) {
    const Json d = document(small(optimizer, {"--optimizer", optimizer, "--weight-decay", "1e-4", "--lr", "1e-2"}));
    EXPECT_TRUE(d["test_mse"].get<double>() < untrained) << optimizer;
    EXPECT_EQ(d["optimizer"], optimizer);
  }
}

TEST_F(Train, Presets) {
  const auto preset = [&](const std::string& name) { return document(small("x", {"--preset", name, "--dry-run"})); };
  const Json paper = preset("paper");
  EXPECT_EQ(paper["stats_mix"], 0);
  EXPECT_EQ(paper["ema"], 0);
  EXPECT_EQ(paper["rho"], 0.7);
  EXPECT_EQ(paper["value"], "low-rank");
  const Json tensorflow = preset("authors-tensorflow");
  EXPECT_EQ(tensorflow["stats_mix"], 1);
  EXPECT_EQ(tensorflow["preset"], "authors-tensorflow");
  const Json torch = preset("authors-pytorch");
  EXPECT_EQ(torch["value"], "full");
  EXPECT_EQ(torch["batch"], 256);
  EXPECT_EQ(torch["rho"], 0.5);
  // 4 epochs come from the flag, not the preset; patience 0 and the last epoch from the preset.
  const Json trained = document(small("torch", {"--preset", "authors-pytorch"}));
  EXPECT_EQ(trained["best_epoch"], 4);
  EXPECT_EQ(trained["stopped_by"], "epochs");
  const Json mixed = document(small("tf", {"--preset", "authors-tensorflow"}));
  EXPECT_TRUE(mixed["val_mse_mixed"].is_number());
  EXPECT_NE(mixed["val_mse_mixed"], mixed["val_mse"]);
  fs::copy_file(scratch_ / "small.csv", scratch_ / "Weather.csv");
  const Outcome weather = run({"train", "--data", path("Weather.csv"), "--lookback", "24", "--horizon", "6", "--preset",
                               "paper", "--dry-run", "--json"});
  EXPECT_EQ(weather.json()["lr"], 1e-4);
  EXPECT_NE(weather.err.find("learning rate 1e-4"), std::string::npos) << weather.err;
}

TEST_F(Train, EarlyStopping) {
  const Json d = document(small("run", {"--lr", "0.03", "--rho", "0", "--schedule", "constant", "--ema", "0",
                                        "--patience", "2", "--epochs", "60"}));
  EXPECT_EQ(d["stopped_by"], "patience");
  EXPECT_EQ(d["epochs_run"].get<int>(), d["best_epoch"].get<int>() + 2);
  EXPECT_LT(d["epochs_run"], 60);
}

TEST_F(Train, DivergenceNamesStepPassAndParameter) {
  fails(5, small("run", {"--lr", "1e30", "--schedule", "constant", "--ema", "0", "--overwrite"}),
        {"step 2", "pass 1", "parameter", "--lr"});
  fails(5, small("sam", {"--rho", "1e30", "--overwrite"}), {"step 1", "pass 2", "parameter"});
  // Its last step: no further pass would find out.
  const Words once = {"--lr",    "1e300", "--schedule", "constant", "--ema",      "0",
                      "--batch", "1000",  "--epochs",   "1",        "--overwrite"};
  fails(5, small("once", once), {"step 1", "parameter"});
  EXPECT_FALSE(exists("once/result.json"));
}

TEST_F(Train, ChangedDataIsRefused) {
  document(small("run"));
  fs::remove(scratch_ / "run/result.json");
  fs::copy_file(scratch_ / "small.csv", scratch_ / "moved.csv");
  series("small.csv", 401, 3);
  fails(3, {"train", "--resume", path("run")}, {"SHA-256", "--data"});
  fails(3, {"eval", path("run")}, {"SHA-256"});
  EXPECT_EQ(run({"train", "--resume", path("run"), "--data", path("moved.csv")}).code, 0);
  fails(3, small("x", {"--data-sha256", std::string(64, 'a')}), {"SHA-256"});
}

TEST_F(Train, AReadOnlyRunIsEnough) {
  const Json d = document(small("run"));
  fs::permissions(scratch_ / "run", fs::perms::owner_read | fs::perms::owner_exec);
  const auto before = files("run");
  EXPECT_EQ(document({"eval", path("run")})["test_mse"], d["test_mse"]);
  EXPECT_EQ(run({"predict", path("run")}).code, 0);
  EXPECT_EQ(document({"train", "--resume", path("run")}), d);
  auto after = files("run");
  after.erase("eval");  // root may write everywhere: its report
  EXPECT_EQ(after, before);
  fs::permissions(scratch_ / "run", fs::perms::owner_all);
}

struct Refusal {
  int code;
  Words flags, parts;  // `parts` of the message
  Surroundings surroundings = {};
};
class TrainRefuses : public ProgramTest, public testing::WithParamInterface<Refusal> {};

TEST_P(TrainRefuses, SayingWhyAndLeavingNoFolder) {
  const auto& [code, flags, parts, surroundings] = GetParam();
  write("empty.csv", "");
  write("nan.csv", "date,a\n2020-01-01,1\n2020-01-02,NaN\n2020-01-03,2\n");
  fails(code, small("x", flags), parts, surroundings);
  EXPECT_FALSE(exists("x"));
}
INSTANTIATE_TEST_SUITE_P(
    All, TrainRefuses,
    testing::Values(
        Refusal{2, {"--model", "samformr"}, {"samformr", "samformer"}}, Refusal{2, {"--rho", "-1"}, {"--rho"}},
        Refusal{2, {"--stats-mix", "1.5"}, {"--stats-mix"}}, Refusal{2, {"--batch", "0"}, {"--batch"}},
        Refusal{4, {"--device", "cuda:4095"}, {"cuda"}}, Refusal{4, {"--precision", "tf32"}, {"tf32"}},
        Refusal{4,
                {"--precision", "bf16"},
                {"bf16", "AVX512-BF16", "baseline"},
                {.environment = {{"SAMFORMER_MAX_ISA", "baseline"}}}},
        Refusal{3, {"--data", "./none.csv"}, {"none.csv"}}, Refusal{3, {"--data", "./empty.csv"}, {"empty.csv"}},
        Refusal{3, {"--data", "./nan.csv"}, {"nan.csv:3:2"}},
        Refusal{3,
                {"--lookback", "300"},
                {"too few rows", "no horizon fits look-back 300", "largest look-back at horizon 6 is 243"}}));

TEST_F(Train, RefusesAFolderThatIsNotThereOrCannotBe) {
  fails(3, {"train", "--resume", path("nothing")}, {"nothing"});
  fails(3, {"eval", path("nothing")}, {"nothing"});
  if (geteuid() != 0) fails(7, small("../../../proc/x"), {});
}

// The built-in series, nothing given but what keeps it short: the folder is runs/UTC time-name.
TEST_F(Train, DefaultFolder) {
  const Json d = document({"train", "--lookback", "24", "--horizon", "6", "--epochs", "1", "--batch", "512"});
  EXPECT_TRUE(d["run_dir"].get<std::string>().starts_with("runs/2")) << d["run_dir"];
  EXPECT_TRUE(exists(d["run_dir"].get<std::string>() + "/best.safetensors"));
  EXPECT_EQ(document({"eval", d["run_dir"].get<std::string>()})["test_mse"], d["test_mse"]);
}

TEST_F(Train, SameBitsWithAnyNumberOfThreads) {
  series("wide.csv", 420, 9);
  const auto words = [&](const std::string& out, const std::string& threads) {
    return small(out, {"--data", path("wide.csv"), "--lookback", "96", "--horizon", "24", "--epochs", "2", "--threads",
                       threads});
  };
  for (const std::string isa : {"", "AVX2", "v3"}) {
    Surroundings s;
    if (isa == "AVX2") s.environment["ONEDNN_MAX_CPU_ISA"] = isa;
    if (isa == "v3") s.environment["SAMFORMER_MAX_ISA"] = isa;
    const Json one = document(words("t1" + isa, "1"), s);
    for (const std::string threads : {"2", "3", "8"}) {
      const Json d = document(words("t" + threads + isa, threads), s);
      EXPECT_EQ(d["weights_sha256"], one["weights_sha256"]) << threads << " threads, " << isa;
      EXPECT_EQ(d["test_mse"], one["test_mse"]) << threads << " threads, " << isa;
      EXPECT_EQ(d["threads"], std::stoi(threads));
    }
  }
}

// Seeds that train side by side, more than there are threads: each as it is alone.
TEST_F(Train, SeedsSideBySideHaveTheBitsOfSingleRuns) {
  const Outcome all = run(small("all", {"--seeds", "1..5", "--no-test", "--threads", "3"}));
  ASSERT_EQ(all.code, 0) << all.err;
  EXPECT_EQ(all.out.find("error"), std::string::npos) << all.out;  // nothing was tested
  for (const std::string seed : {"1", "2", "3", "4", "5"}) {
    EXPECT_NE(all.err.find("seed " + seed + ": "), std::string::npos) << all.err;
    const Json alone = document(small("alone-" + seed, {"--seed", seed, "--no-test", "--threads", "1"}));
    const Json beside = Json::parse(read("all/seed-" + seed + "/result.json"));
    EXPECT_EQ(beside["weights_sha256"], alone["weights_sha256"]) << seed;
    EXPECT_EQ(beside["val_mse"], alone["val_mse"]) << seed;
  }
}

TEST_F(Train, AFailedSeedIsTheFailureOfAll) {
  const Outcome all = run(small("all", {"--seeds", "1..3", "--threads", "2", "--optimizer", "sgd", "--lr", "1e30"}));
  EXPECT_EQ(all.code, 5) << all.err;
  EXPECT_EQ(all.err.find("seed 3: "), std::string::npos) << "none begins after it: " << all.err;
  EXPECT_FALSE(exists("all/result.json"));
}

TEST_F(Train, Bf16IsAnotherRoundingOfTheSameTraining) {
  if (!kernels::bf16_available()) GTEST_SKIP() << "this CPU has no AVX512-BF16";
  const Json exact = document(small("float32"));
  for (const std::string value : {"low-rank", "full"}) {
    const Words kind = {"--precision", "bf16", "--value", value};
    const Json one = document(small("one-" + value, kind));
    const Json three = document(small("three-" + value, kind + Words{"--threads", "3"}));
    EXPECT_EQ(one["precision"], "bf16");
    EXPECT_EQ(one["weights_sha256"], three["weights_sha256"]);
    EXPECT_EQ(document(small("part-" + value, kind + Words{"--epochs", "2"}))["epochs_run"], 2);
    const Json resumed = document({"train", "--resume", path("part-" + value), "--epochs", "4"});
    EXPECT_EQ(resumed["weights_sha256"], one["weights_sha256"]);
    EXPECT_EQ(resumed["precision"], "bf16");
    if (value == "full") continue;
    EXPECT_NE(one["weights_sha256"], exact["weights_sha256"]);
    const double before = exact["test_mse"], after = one["test_mse"];
    EXPECT_TRUE(std::abs(after - before) <= 0.01 * before) << before << ' ' << after;
    // Tested as every run is, in float32.
    EXPECT_EQ(document({"eval", path("one-" + value), "--threads", "1"})["test_mse"], one["test_mse"]);
  }
}

TEST_F(Train, PrintedConfigGivesTheSameBits) {
  const Words flags = {"--rho", "0.31", "--lr", "0.0123456789", "--center", "last", "--value", "full", "--seed", "7"};
  const Outcome printed = run(small("unused", flags + Words{"--print-config"}));
  EXPECT_EQ(printed.code, 0) << printed.err;
  EXPECT_NE(printed.out.find("# flag --rho"), std::string::npos) << printed.out;
  EXPECT_FALSE(exists("unused"));
  write("printed.toml", printed.out);
  const Json direct = document(small("direct", flags));
  const Json fed = document({"train", "--config", path("printed.toml"), "--out", path("fed")});
  EXPECT_EQ(fed["weights_sha256"], direct["weights_sha256"]);
  EXPECT_EQ(fed["test_mse"], direct["test_mse"]);
  // A run's own config.toml does so too.
  const Json again = document({"train", "--config", path("direct/config.toml"), "--out", path("again")});
  EXPECT_EQ(again["weights_sha256"], direct["weights_sha256"]);
}

class Tune : public Train {
 protected:
  // 400 hourly rows of two channels: a random walk, whose last value is the best level, or its steps, whose mean
  // is. Rows of the test split alone are multiplied.
  std::string level(const std::string& name, bool walk, double test_scale = 1) {
    const std::vector<double> noise = numeric::normals(800, 2024);
    std::string text = "date,a,b\n";
    double sum[2] = {0, 0};
    for (int t = 0; t < 400; ++t) {
      text += hourly(t);
      for (int d = 0; d < 2; ++d) {
        const double one = noise[static_cast<std::size_t>(2 * t + d)];
        const double v = walk ? sum[d] += one : one;
        text += fmt::format(",{:.6f}", t >= 320 ? v * test_scale : v);
      }
      text += '\n';
    }
    return write(name, text);
  }
  Json train(const std::string& out, const std::string& data, const Words& more) {
    return document(Words{"train", "--data", data, "--out", path(out), "--lookback", "24", "--horizon", "6", "--epochs",
                          "3", "--patience", "0", "--threads", "1"} +
                    more);
  }
  static Words flags_of(const Json& candidate) {
    return {"--center", candidate["center"], "--stats-mix", candidate["stats_mix"].dump()};
  }
  static void expect_equal(const Json& a, const Json& b, const Words& fields) {
    for (const std::string& field : fields) EXPECT_EQ(a.at(field), b.at(field)) << field;
  }
};

// The lowest validation error wins; winner and losers are the trainings that their flags alone give.
TEST_F(Tune, TakesTheBestOfFourCandidates) {
  const std::string data = level("walk.csv", true);
  // With the default step of the mixture those at horizon 6 would be no candidates of their own.
  const Words mixed = {"--stats-mix-step", "0"};
  const Json tuned = train("tuned", data, Words{"--tune"} + mixed);
  std::vector<Json> candidates = tuned["tune"]["candidates"];
  const auto center_and_mix = [](const Json& c) {
    return c["center"].get<std::string>() + " " + c["stats_mix"].dump();
  };
  std::set<std::string> tried;
  for (const Json& c : candidates) tried.insert(center_and_mix(c));
  EXPECT_EQ(tried, (std::set<std::string>{"mean 0.0", "mean 0.5", "last 0.0", "last 0.25"}));
  std::ranges::sort(candidates, {}, [](const Json& c) { return c["val_mse"].get<double>(); });
  EXPECT_EQ(center_and_mix(tuned), center_and_mix(candidates[0]));

  const Json winner = train("winner", data, flags_of(candidates[0]) + mixed);
  expect_equal(tuned, winner,
               {"center", "stats_mix", "val_mse", "test_mse", "weights_sha256", "best_epoch", "per_step"});
  EXPECT_EQ(read("tuned/metrics.jsonl"), read("winner/metrics.jsonl"));
  EXPECT_EQ(document({"predict", path("tuned")})["forecast"], document({"predict", path("winner")})["forecast"]);
  EXPECT_NE(read("tuned/report.html")
                .find(fmt::format("center {}, stats-mix {} (chosen)", tuned["center"].get<std::string>(),
                                  tuned["stats_mix"].dump())),
            std::string::npos);

  const Json loser = train("loser", data, flags_of(candidates[3]) + mixed);
  EXPECT_EQ(loser["val_mse"], candidates[3]["val_mse"]);
  const std::string part =
      fmt::format("tuned/tune-{}-{}", loser["center"].get<std::string>(), loser["stats_mix"].get<double>());
  EXPECT_EQ(hash_of(part + "/best.safetensors"), loser["weights_sha256"]);
}

TEST_F(Tune, ChoosesByTheValidationErrorAlone) {
  const Json walk = train("walk", level("walk.csv", true), {"--tune"});
  const Json steps = train("steps", level("steps.csv", false), {"--tune"});
  EXPECT_EQ(walk["center"], "last");
  EXPECT_EQ(steps["center"], "mean");
  for (const auto& part : std::filesystem::directory_iterator(path("walk"))) {
    if (!part.is_directory()) continue;
    EXPECT_FALSE(Json::parse(read_file(part.path() / "result.json")).contains("test_mse")) << part.path();
  }
  // Another test split: the same errors, the same choice.
  const Json other = train("other", level("other.csv", true, 3), {"--tune"});
  EXPECT_NE(other["test_mse"], walk["test_mse"]);
  EXPECT_EQ(other["tune"], walk["tune"]);
  EXPECT_EQ(document({"eval", path("walk")})["test_mse"], walk["test_mse"]);
}

TEST_F(Tune, ResumesAndChoosesAnewForMoreEpochs) {
  const std::string data = level("walk.csv", true);
  const Json tuned = train("tuned", data, {"--tune"});
  EXPECT_EQ(document({"train", "--resume", path("tuned")}), tuned);
  const std::string said = run({"train", "--resume", path("tuned")}).out;
  for (const Json& c : tuned["tune"]["candidates"]) {
    EXPECT_NE(said.find(fmt::format("{:.5f}", c["val_mse"].get<double>())), std::string::npos) << said;
  }
  const Json longer = document({"train", "--resume", path("tuned"), "--epochs", "5"});
  const Json whole = train("whole", data, {"--tune", "--epochs", "5"});
  expect_equal(longer, whole, {"center", "stats_mix", "test_mse", "weights_sha256", "epochs_run", "tune"});
}

TEST_F(Tune, OverwriteTakesTheCandidatesAlong) {
  const std::string data = level("walk.csv", true);
  train("run", data, {"--tune"});
  ASSERT_TRUE(exists("run/tune-mean-0"));
  train("run", data, {"--overwrite"});
  EXPECT_FALSE(exists("run/tune-mean-0"));
}

TEST_F(Tune, RefusesWhatItChoosesItself) {
  fails(2, small("s", {"--tune", "--center", "last"}), {"--center"});
  fails(2, small("s", {"--tune", "--model", "random-transformer"}), {"RevIN"});
}

TEST_F(Tune, ResumesAfterAnInterruption) {
  const Words words = small("r", {"--tune"}) + Words{"--seeds", "1,2"};
  const Json whole = document(words);
  // As a kill between two candidates of the second seed leaves it, and one before the first's test.
  std::filesystem::remove_all(path("r/seed-2/tune-last-0.25"));
  for (const char* name : {"r/result.json", "r/seed-1/result.json", "r/seed-2/result.json", "r/seed-2/best.safetensors",
                           "r/seed-2/state.safetensors"}) {
    std::filesystem::remove(path(name));
  }
  const Json resumed = document({"train", "--resume", path("r")});
  EXPECT_EQ(resumed["mean"]["test_mse"], whole["mean"]["test_mse"]);
  for (const std::size_t i : {0u, 1u}) EXPECT_EQ(resumed["runs"][i]["tune"], whole["runs"][i]["tune"]);
  // Each seed chooses for itself, and says so.
  const std::string said = run({"train", "--resume", path("r")}).out;
  for (const std::size_t i : {0u, 1u}) {
    EXPECT_NE(said.find(fmt::format("tuned, seed {}", i + 1)), std::string::npos) << said;
    for (const Json& c : whole["runs"][i]["tune"]["candidates"]) {
      EXPECT_NE(said.find(fmt::format("{:.5f}", c["val_mse"].get<double>())), std::string::npos) << said;
    }
  }
}

}  // namespace
}  // namespace samformer
