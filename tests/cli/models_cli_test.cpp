// Every --model through the program: trained, tested, taken up again, evaluated and asked for a forecast; `toy`.
#include "model/safetensors.h"
#include "tests/cli_fixture.h"
#include "tests/shared_data.h"

namespace samformer {
namespace {

using Models = ProgramTest;

struct Row {
  std::string model;
  std::int64_t parameters;
  Words flags = {};
  friend void PrintTo(const Row& row, std::ostream* out) { *out << row.model; }
};
class EveryModel : public ProgramTest, public testing::WithParamInterface<Row> {};

TEST_P(EveryModel, TrainEvaluatePredict) {
  const auto& [model, parameters, flags] = GetParam();
  const Json trained = document(small("run", Words{"--model", model} + flags));
  EXPECT_EQ(trained["model"], model);
  EXPECT_EQ(trained["parameters"], parameters);
  EXPECT_EQ(trained["weights_sha256"], hash_of("run/best.safetensors"));
  EXPECT_LT(trained["test_mse"], 1.5);
  const Json evaluated = document({"eval", path("run")});
  for (const char* field : {"test_mse", "test_mae", "parameters", "weights_sha256", "per_channel", "model"}) {
    EXPECT_EQ(evaluated[field], trained[field]) << field;
  }
  EXPECT_EQ(document({"predict", path("run"), "--intervals", "50"})["forecast"].size(), 6u);
  // predict from an origin of the test part is what eval has there.
  ASSERT_EQ(run({"eval", "run", "--forecasts", "forecasts.csv"}).code, 0);
  std::map<std::string, std::vector<double>> evaluated_from;
  std::istringstream rows(read("forecasts.csv"));
  std::string line, last;
  for (std::getline(rows, line); std::getline(rows, line);) {
    Words cells;
    std::istringstream row(line);
    for (std::string cell; std::getline(row, cell, ',');) cells.push_back(cell);
    evaluated_from[cells[0]].push_back(std::stod(cells[5]));
    last = cells[0];
  }
  const Json predicted = document({"predict", "run", "--origin", last});
  const std::vector<double>& expected = evaluated_from[last];
  ASSERT_EQ(expected.size(), 18u);
  for (std::size_t h = 0; h < 6; ++h) {
    for (std::size_t t = 0; t < 3; ++t) {
      EXPECT_NEAR(predicted["forecast"][h]["values"][t].get<double>(), expected[6 * t + h], 1e-4) << h << " " << t;
    }
  }
  EXPECT_GT(document({"sharpness", path("run"), "--windows", "8", "--tolerance", "1e-2"})["lambda_max"], 0);
}

// Parameters at D = 3, L = 24, H = 6, d_m = 16, ff = 64.
constexpr std::int64_t head = 25 * 6, revin = 6, qkv = 3 * (24 * 16 + 16), back = 16 * 24 + 24;
constexpr std::int64_t mixer = 24 * 24 + 24 + 2 * 64 * 3 + 64 + 3, norm = 2 * 3 * 24;
// Of two encoder layers and one of the decoder, d = f = 8, and what is small in them but for the embeddings.
constexpr std::int64_t layers = 2 * (4 * 64 + 2 * 64 + 8 + 72) + (8 * 64 + 2 * 64 + 8 + 15 * 8) + 4 * 8;
const Words steps{"--d-model", "8", "--d-ff", "8", "--heads", "2", "--label", "12", "--rho", "0.05", "--lr", "1e-3"};
// Of d = 8, f = 16, D = 3 and the four marks of hours.
const Words small_steps{"--d-model", "8", "--d-ff", "16", "--label", "12", "--lr", "1e-3"};
constexpr std::int64_t autoformer =
    2 * (9 * 8 + 4 * 8) + 2 * (4 * 64 + 4 * 8 + 2 * 128) + (8 * 64 + 8 * 8 + 2 * 128 + 9 * 8) + 4 * 8 + 8 * 3 + 3;
INSTANTIATE_TEST_SUITE_P(
    All, EveryModel,
    testing::Values(
        Row{"samformer", qkv + back + head + revin}, Row{"transformer", qkv + back + head + revin},
        Row{"random-transformer", head}, Row{"identity", qkv / 3 + back + head + revin},
        Row{"temporal", 4 * 16 * 3 + 3 * 16 + 3 + head + revin}, Row{"linear", head + revin},
        Row{"sigma-reparam", qkv + back + head + revin + 4}, Row{"tsmixer", 2 * (mixer + 2 * norm) + head + revin},
        Row{"itransformer",
            25 * 16 + 2 * (4 * 256 + 2 * 128 + 8 + 144) + 32 + 17 * 6,
            {"--d-model", "16", "--d-ff", "8", "--heads", "2", "--rho", "0.05", "--lr", "1e-3"}},
        Row{"patchtst",
            17 * 8 + 3 * 8 + 2 * (4 * 64 + 2 * 64 + 8 + 72) + 3 * 8 * 6 + 6,
            {"--d-model", "8", "--d-ff", "8", "--heads", "2", "--layers", "2", "--rho", "0.05", "--lr", "1e-3"}},
        Row{"logtrans", 2 * (3 * 3 * 8 + 4 * 8) + layers + 6 * 2 * 64 + 8 * 3 + 3, steps},
        Row{"informer", 2 * (3 * 3 * 8 + 4 * 8) + layers + 3 * 64 + 3 * 8 + 8 * 3 + 3, steps},
        Row{"informer", 2 * (3 * 3 * 8 + 6 * 8) + layers + 3 * 64 + 3 * 8 + 8 * 3 + 3 + revin,
            steps + Words{"--informer", "official", "--revin"}},
        Row{"pyraformer",
            (3 * 3 + 6) * 8 + 2 * 32 + 4 + 8 + 16 * 5 + 3 * 8 + 16 + 2 * (4 * 8 * 6 + 2 * 64 + 8 + 48) + 3 * 8 * 18,
            {"--d-model", "8", "--d-ff", "8", "--heads", "2", "--layers", "2", "--key-width", "3", "--bottleneck", "4",
             "--pyramid", "3,2", "--rho", "0.05", "--lr", "1e-3"}},
        Row{"autoformer", autoformer, small_steps + Words{"--factor", "1", "--rho", "0.05"}},
        Row{"fedformer", autoformer + 2 * 2 * 16 * (4 + 4 + 4) + 8 * 2 * 2,
            small_steps + Words{"--averages", "4,12", "--modes", "4", "--heads", "2"}},
        Row{"dlinear", 2 * head},
        Row{"dlinear", 2 * head + revin, {"--revin", "--moving-average", "4", "--rho", "0.1"}},
        Row{"tsmixer", mixer + norm + head + revin, {"--shared", "--dropout", "0.5", "--rho", "0.3"}},
        Row{"tsmixer", mixer + norm + head + revin, {"--shared", "--norm", "layer", "--activation", "gelu"}}));

// Dropout, running averages, marks and the averaged weights continue to the same bits, on one thread and on two.
TEST_F(Models, Resume) {
  for (const std::string model :
       {"tsmixer", "itransformer", "patchtst", "logtrans", "informer", "pyraformer", "autoformer", "fedformer"}) {
    SCOPED_TRACE(model);
    const std::string whole = "whole-" + model, part = "part-" + model;
    Words flags{"--model", model, "--rho", "0.3", "--dropout", "0.5"};
    if (model != "tsmixer") flags = flags + Words{"--d-model", "8", "--d-ff", "8", "--heads", "2", "--layers", "2"};
    const bool labelled = model == "logtrans" || model == "informer" || model == "autoformer" || model == "fedformer";
    if (labelled) flags = flags + Words{"--label", "12"};
    if (model == "pyraformer") flags = flags + Words{"--pyramid", "3,2"};
    document(small(whole, flags + Words{"--epochs", "6"}));
    document(small(part, flags + Words{"--epochs", "3"}));
    document({"train", "--resume", path(part), "--epochs", "6", "--threads", "2"});
    EXPECT_EQ(read(part + "/metrics.jsonl"), read(whole + "/metrics.jsonl"));
    EXPECT_EQ(hash_of(part + "/best.safetensors"), hash_of(whole + "/best.safetensors"));
  }
}

// What the official program would have saved: its own tensors beside ours, numbers in double.
TEST_F(Models, WeightsFromAFile) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  series("small.csv", 400, 3);
  for (const std::string model :
       {"itransformer", "patchtst", "logtrans", "informer", "pyraformer", "autoformer", "fedformer"}) {
    SCOPED_TRACE(model);
    const bool frequencies = model == "fedformer";
    const auto golden = model::Safetensors::open(shared_data("golden/baseline_" + model + ".safetensors"));
    std::vector<std::vector<double>> values;
    std::vector<model::TensorSource> tensors;
    values.reserve(golden.names().size());
    for (const std::string& name : golden.names()) {
      const std::size_t prefix = name.starts_with("weight.") || name.starts_with("buffer.") ? 7 : 0;
      if (prefix == 0) continue;
      values.push_back(golden.read<double>(name));
      tensors.push_back(model::tensor_source(name.substr(prefix), golden.tensor(name).shape, values.back().data()));
    }
    model::write_safetensors(path("official.safetensors"), tensors);
    const auto train = [&](const std::string& name, const std::string& layers, const std::string& d_ff) {
      Words words{"train",
                  "--data",
                  path("small.csv"),
                  "--lookback",
                  "24",
                  "--horizon",
                  "8",
                  "--model",
                  model,
                  "--d-model",
                  frequencies ? "16" : "8",
                  "--heads",
                  frequencies ? "8" : "2",
                  "--ema",
                  "0",
                  "--lr",
                  "1e-30",
                  "--epochs",
                  "1",
                  "--out",
                  path(name + model),
                  "--weights-from",
                  path("official.safetensors"),
                  "--layers",
                  layers,
                  "--d-ff",
                  d_ff};
      if (model == "patchtst") return words + Words{"--patch", "8", "--stride", "4"};
      if (model == "logtrans") return words + Words{"--label", "12"};
      if (model == "informer") return words + Words{"--label", "12", "--informer", "official"};
      if (model == "pyraformer") return words + Words{"--pyramid", "2,2,2", "--key-width", "4", "--bottleneck", "4"};
      if (model == "autoformer") return words + Words{"--label", "12", "--moving-average", "5"};
      return frequencies ? words + Words{"--label", "12", "--averages", "4", "--modes", "4"} : words;
    };
    document(train("run-", "2", "16"));
    const auto trained = model::Safetensors::open(path("run-" + model + "/best.safetensors"));
    for (const std::string& name : trained.names()) {
      if (name.find("running") != name.npos) continue;  // these move
      if (name.find("index") != name.npos) continue;    // our own draw: the official module keeps none
      const std::vector<double> stored = golden.read<double>("weight." + name);
      EXPECT_EQ(trained.read<float>(name), std::vector<float>(stored.begin(), stored.end())) << name;
    }
    // Nothing is begun with a file of another model: the folder is free for the right one.
    fails(3, train("other-", "3", "16"), {"official.safetensors", "layers.2"});
    fails(3, train("other-", "2", "8"), {"official.safetensors", "--model and its options"});
  }
}

TEST_F(Models, RefusesWhatAModelLacks) {
  series("small.csv", 400, 3);
  fails(2, small("run", {"--model", "random-transformer", "--stats-mix", "0.5"}),
        {"random-transformer", "--stats-mix"});
  fails(2, small("run", {"--model", "identity", "--blocks", "3"}), {"--blocks"});
  fails(2, small("run", {"--model", "tsmixer", "--dropout", "1"}), {"--dropout"});
  fails(2, small("heads", Words{"--model", "itransformer", "--d-model", "16", "--heads", "7"}), {"take --heads 4"});
  document(small("heads", Words{"--model", "itransformer", "--d-model", "16", "--heads", "4"}));
  for (const std::string model : {"logtrans", "informer"}) {
    fails(2, small("label", Words{"--model", model, "--label", "25"}), {model, "--label 25", "24"});
  }
  fails(2, small("pyramid", {"--model", "pyraformer", "--pyramid", "4,x"}), {"--pyramid '4,x': numbers of at least 2"});
  fails(2, small("pyramid", {"--model", "pyraformer", "--pyramid", "5,6"}), {"level 2"});
  fails(2, small("patch", {"--model", "patchtst", "--patch", "25"}), {"take --patch 24"});
  fails(2, small("label", {"--model", "autoformer", "--d-model", "8"}), {"--label 48", "take --label 12"});
  for (const char* averages : {"0", "4,x", "", "1,2,3,4,5,6,7,8,9"}) {
    fails(2, small("averages", {"--model", "fedformer", "--label", "12", "--averages", averages}), {"--averages"});
  }
  document(small("patch", {"--model", "patchtst", "--patch", "24"}));
  document(small("identity", {"--model", "identity"}));
  fails(2, {"attention", path("identity")}, {"no attention map"});
}

TEST_F(Models, ToyComparesTheModels) {
  const Words words{"toy", "--samples", "100", "--lookback", "12",        "--horizon", "4", "--epochs",
                    "2",   "--noise",   "0.5", "--out",      path("toy"), "--threads", "1"};
  const Json d = document(words);
  EXPECT_EQ(d["noise"], 0.5);
  EXPECT_EQ(d["rho"], 0.7);
  EXPECT_EQ(d["init"], "keras");
  std::vector<std::string> names;
  for (const Json& m : d["models"]) {
    names.push_back(m["model"]);
    for (const char* field : {"train_mse", "val_mse", "test_mse"}) EXPECT_GT(m[field], 0) << m["model"] << field;
    if (m["model"] == "oracle") continue;
    ASSERT_EQ(m["attention_entropy"].size(), 3u);  // epochs 0, 1 and the last
    EXPECT_EQ(m["attention_entropy"][2]["epoch"], 2);
    for (const Json& e : m["attention_entropy"]) EXPECT_LE(e["entropy"].get<double>(), std::log(7.0) + 1e-6);
    EXPECT_EQ(m["curve"].size(), 2u);
    EXPECT_EQ(m["curve"][1]["val_mse"], m["val_mse"]);
    EXPECT_TRUE(m["lambda_max"].is_number());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"oracle", "random-transformer", "transformer", "transformer-sam",
                                             "sigma-reparam"}));
  // 700 equations of 12 unknowns on noise of variance 0.25.
  EXPECT_NEAR(d["models"][0]["train_mse"].get<double>(), 0.25, 0.05);
  // The frozen attention of the Random Transformer is what it was.
  EXPECT_EQ(d["models"][1]["parameters"], 13 * 4);
  EXPECT_EQ(d["models"][1]["attention_entropy"][0]["entropy"], d["models"][1]["attention_entropy"][2]["entropy"]);
  EXPECT_NE(d["models"][2]["attention_entropy"][0]["entropy"], d["models"][2]["attention_entropy"][2]["entropy"]);
  EXPECT_EQ(Json::parse(read("toy/toy.json")), d);
  EXPECT_TRUE(exists("toy/report.html"));

  EXPECT_EQ(document(words + Words{"--init", "glorot"})["init"], "glorot");
  const Json again = document(words), ablation = document(words + Words{"--ablation", "optimizers"});
  EXPECT_EQ(again["models"][3]["val_mse"], d["models"][3]["val_mse"]);
  EXPECT_EQ(ablation["models"].size(), 6u);
  EXPECT_EQ(ablation["models"][1]["val_mse"], d["models"][2]["val_mse"]);  // the same transformer under Adam

  const Json more = document(words + Words{"--models", "dlinear,itransformer"});
  names.clear();
  for (const Json& m : more["models"]) names.push_back(m["model"]);
  EXPECT_EQ((std::vector(names.begin() + 5, names.end())),
            (std::vector<std::string>{"dlinear", "dlinear-sam", "itransformer", "itransformer-sam"}));
  EXPECT_EQ(more["models"][2]["val_mse"], d["models"][2]["val_mse"]);
  EXPECT_EQ(more["models"][5]["parameters"], 2 * 13 * 4);
  EXPECT_EQ(more["models"][6]["rho"], 0.7);
  EXPECT_NE(more["models"][6]["val_mse"], more["models"][5]["val_mse"]);
  EXPECT_EQ(more["models"][5]["attention_entropy"].size(), 0u);
  EXPECT_EQ(more["models"][7]["attention_entropy"].size(), 3u);
  fails(2, words + Words{"--models", "dlinaer"}, {"did you mean 'dlinear'"});
}

// A map between tokens: the channels and, behind them, what the dates say; the mean over heads.
TEST_F(Models, AttentionOfITransformer) {
  series("small.csv", 400, 3);
  document(small("run", Words{"--model", "itransformer", "--d-model", "16", "--heads", "4"}));
  const Json d = document({"attention", path("run")});
  EXPECT_EQ(d["channels"], (Json{"c0", "c1", "c2", "hour", "weekday", "day of month", "day of year"}));
  ASSERT_EQ(d["map"].size(), 7u);
  for (const Json& row : d["map"]) {
    double total = 0;
    for (const Json& cell : row) total += cell.get<double>();
    EXPECT_NEAR(total, 1, 1e-5);
  }
  EXPECT_LT(d["entropy"].get<double>(), std::log(7.0));
  EXPECT_NEAR(d["entropy_share"].get<double>(), d["entropy"].get<double>() / std::log(7.0), 1e-12);
  EXPECT_TRUE(read("run/attention/attention.csv").starts_with("channel,c0,c1,c2,hour,weekday,"));
}

// Between the steps of a window, of 24 here: a row is probabilities, which it is only where the queries, the keys, their
// earlier scores and the log-sum-exp belong together; a cell that the mask forbids is 0.
TEST_F(Models, AttentionOfSteps) {
  series("small.csv", 400, 3);
  struct Case {
    Words flags;
    std::vector<std::string> some;  // names of the first tokens
    std::size_t tokens;
    std::function<bool(std::size_t, std::size_t)> forbidden = [](std::size_t, std::size_t) { return false; };
  };
  const std::vector<Case> cases = {
      {{"--model", "temporal"}, {"-23", "-22"}, 24},
      {{"--model", "patchtst", "--d-model", "8", "--d-ff", "8", "--patch", "8", "--stride", "4"},
       {"-23..-16", "-19..-12", "-15..-8", "-11..-4", "-7..0", "-3..0"},
       6},
      {{"--model", "logtrans", "--d-model", "8", "--d-ff", "8", "--heads", "2", "--label", "12"},
       {"-23"},
       24,
       [](std::size_t i, std::size_t j) { return j > i; }},
      {{"--model", "pyraformer", "--d-model", "8", "--d-ff", "8", "--heads", "2", "--key-width", "4", "--bottleneck",
        "4", "--pyramid", "5,4"},
       {"-23"},
       31,
       [](std::size_t i, std::size_t j) { return i < 25 && j < 25 && (i > j ? i - j : j - i) > 1; }}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.flags[1]);
    document(small(c.flags[1], c.flags));
    const Json d = document({"attention", path(c.flags[1])});
    ASSERT_EQ(d["map"].size(), c.tokens);
    ASSERT_EQ(d["steps"].size(), c.tokens);
    for (std::size_t i = 0; i < c.some.size(); ++i) EXPECT_EQ(d["steps"][i], c.some[i]);
    for (std::size_t i = 0; i < c.tokens; ++i) {
      double total = 0;
      for (std::size_t j = 0; j < c.tokens; ++j) {
        const double cell = d["map"][i][j];
        if (c.forbidden(i, j)) {
          EXPECT_EQ(cell, 0) << i << ' ' << j;
        }
        total += cell;
      }
      EXPECT_NEAR(total, 1, 1e-5) << "row " << i;
    }
    EXPECT_GT(d["entropy"].get<double>(), 0);
    EXPECT_TRUE(read(c.flags[1] + "/attention/attention.csv").starts_with("step," + c.some[0]));
  }
  const Json pyramid = document({"attention", path("pyraformer")})["steps"];
  EXPECT_EQ(pyramid[24], "1");  // the first step of the horizon
  EXPECT_EQ(pyramid[25], "-23..-19");
  EXPECT_EQ(pyramid[29], "-3..1");
  EXPECT_EQ(pyramid[30], "-23..-4");
}

// tests/onnx_test.py compares its forecasts.
TEST_F(Models, ExportAsOnnx) {
  series("small.csv", 400, 3);
  document(small("run", {"--features", "MS", "--target", "c2,c0"}));
  const Json d = document({"export", path("run")});
  EXPECT_EQ(d["onnx"], path("run/model.onnx"));
  EXPECT_EQ(d["bytes"], std::filesystem::file_size(path("run/model.onnx")));
  EXPECT_EQ(d["input"], (Json{{"name", "values"}, {"shape", {nullptr, 24, 3}}, {"channels", {"c0", "c1", "c2"}}}));
  EXPECT_EQ(d["output"]["shape"], (Json{nullptr, 6, 2}));
  EXPECT_EQ(d["output"]["channels"].size(), 2u);
  EXPECT_EQ(d["weights_sha256"], hash_of("run/best.safetensors"));
  ASSERT_EQ(run({"export", path("run"), "--out", path("again.onnx")}).code, 0);
  EXPECT_EQ(read("again.onnx"), read("run/model.onnx"));

  document(small("mixer", {"--model", "tsmixer"}));
  fails(2, {"export", path("mixer")}, {"no ONNX form", "samformer, transformer and linear"});
  EXPECT_FALSE(exists("mixer/model.onnx"));
  document(small("hours", {"--calendar", "hour"}));
  fails(2, {"export", path("hours")}, {"known ahead"});
  document(small("seeds", {"--seeds", "1,2"}));
  fails(2, {"export", path("seeds")}, {"has 2 models", "seed"});
  fails(3, {"export", path("nothing")}, {"no run"});
  fails(7, {"export", path("run"), "--out", path("no/folder/model.onnx")}, {"no/folder"});
}

}  // namespace
}  // namespace samformer
