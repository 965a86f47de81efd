// The commands with --device cuda on the SIMT emulator, which samformer_on_emulator has for its GPU, beside --device
// cpu: errors to 1e-4, maps to 1e-5, of runs that are as small as the emulator is slow.
#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class EmulatedCli : public ProgramTest {
 protected:
  // 109 training windows of 3 channels: four steps.
  Words tiny(const std::string& out, const Words& more = {}) {
    if (!exists("tiny.csv")) series("tiny.csv", 205, 3);
    return Words{"train",     "--data", path("tiny.csv"), "--lookback", "32",    "--horizon", "4", "--epochs", "1",
                 "--threads", "1",      "--d-model",      "4",          "--out", path(out)} +
           more;
  }
  // Numbers, lists and lists of lists: the same shape, each number within `tolerance`, relative to 1 where `absolute`.
  static void expect_near(const Json& got, const Json& want, double tolerance, bool absolute = false) {
    ASSERT_EQ(got.is_array(), want.is_array());
    if (want.is_array()) {
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i], tolerance, absolute);
      return;
    }
    const double a = got, b = want;
    EXPECT_TRUE(std::abs(a - b) <= tolerance * (absolute ? 1 : std::abs(b))) << a << ", on the CPU " << b;
  }
  // The documents of a command on both devices.
  std::pair<Json, Json> both(const Words& words) {
    std::pair<Json, Json> d{document(words + Words{"--device", "cuda"}), document(words + Words{"--device", "cpu"})};
    EXPECT_EQ(d.first["device"], "cuda:0");
    EXPECT_EQ(d.second["device"], "cpu");
    return d;
  }
};

TEST_F(EmulatedCli, TrainAndEval) {
  const Json gpu = document(tiny("gpu"));  // auto
  const Json cpu = document(tiny("cpu", {"--device", "cpu"}));
  EXPECT_EQ(gpu["device"], "cuda:0");
  for (const char* what : {"train_loss", "val_mse", "test_mse", "test_mae"}) {
    SCOPED_TRACE(what);
    expect_near(gpu[what], cpu[what], 1e-4);
  }
  const auto [there, here] = both({"eval", path("gpu")});
  EXPECT_EQ(there["test_mse"], gpu["test_mse"]);
  expect_near(there["test_mse"], here["test_mse"], 1e-4);
}

TEST_F(EmulatedCli, Predict) {
  document(tiny("run", {"--device", "cpu", "--value", "full"}));
  const auto [gpu, cpu] = both({"predict", path("run")});
  ASSERT_EQ(gpu["forecast"].size(), 4u);
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_EQ(gpu["forecast"][h]["date"], cpu["forecast"][h]["date"]);
    expect_near(gpu["forecast"][h]["values"], cpu["forecast"][h]["values"], 1e-4);
  }
}

TEST_F(EmulatedCli, AttentionAndLandscape) {
  document(tiny("run", {"--device", "cpu"}));
  const auto [map, map_on_cpu] = both({"attention", path("run")});
  for (const char* what : {"map", "entropy", "nuclear_norm", "identity_distance"}) {
    SCOPED_TRACE(what);
    expect_near(map[what], map_on_cpu[what], 1e-5, true);
  }
  const Words by_heads{"--heads", "2", "--d-model", "8", "--d-ff", "8"};
  for (const Words& flags :
       {Words{"itransformer"} + by_heads, Words{"temporal"},
        Words{"patchtst", "--patch", "4", "--stride", "2"} + by_heads, Words{"logtrans", "--label", "4"} + by_heads,
        Words{"pyraformer", "--pyramid", "3", "--key-width", "4", "--bottleneck", "4"} + by_heads}) {
    const std::string& model = flags[0];
    document(tiny(model, Words{"--device", "cpu", "--model"} + flags));
    const auto [tokens, tokens_on_cpu] = both({"attention", path(model)});
    for (const char* what : {"map", "entropy", "nuclear_norm", "identity_distance"}) {
      SCOPED_TRACE(model + " " + what);
      expect_near(tokens[what], tokens_on_cpu[what], 1e-5, true);
    }
  }
  const auto [slices, slices_on_cpu] = both({"landscape", path("run"), "--windows", "2"});
  expect_near(slices["slices"][0]["line"], slices_on_cpu["slices"][0]["line"], 1e-4);
  expect_near(slices["slices"][0]["square"], slices_on_cpu["slices"][0]["square"], 1e-4);
}

// Hessian products have no GPU: the document says where they were computed, and the console why.
TEST_F(EmulatedCli, SharpnessStaysOnTheCpu) {
  document(tiny("run", {"--device", "cpu"}));
  const Words words{"sharpness", path("run"), "--windows", "8", "--json"};
  const Outcome gpu = run(words + Words{"--device", "cuda"}), automatic = run(words);
  for (const Outcome* o : {&gpu, &automatic}) {
    EXPECT_EQ(o->code, 0) << o->err;
    EXPECT_EQ(o->json()["device"], "cpu");
  }
  EXPECT_NE(gpu.err.find("cuda:0: sharpness computes on the CPU, in double"), std::string::npos) << gpu.err;
  EXPECT_EQ(automatic.err.find("in double"), std::string::npos) << automatic.err;
  EXPECT_EQ(gpu.json()["lambda_max"], automatic.json()["lambda_max"]);
}

TEST_F(EmulatedCli, Toy) {
  const Words words{"toy", "--samples", "40", "--lookback", "8", "--horizon", "4",        "--d-model", "4", "--epochs",
                    "1",   "--batch",   "20", "--threads",  "1", "--out",     path("toy")};
  const auto [gpu, cpu] = both(words);
  ASSERT_EQ(gpu["models"].size(), cpu["models"].size());
  for (std::size_t i = 0; i < cpu["models"].size(); ++i) {
    const Json &got = gpu["models"][i], &want = cpu["models"][i];
    SCOPED_TRACE(want["model"]);
    for (const char* what : {"train_mse", "val_mse", "test_mse"}) expect_near(got[what], want[what], 1e-4);
    if (!want.contains("curve")) continue;
    expect_near(got["curve"][0]["train_mse"], want["curve"][0]["train_mse"], 1e-4);
    ASSERT_EQ(got["attention"].size(), want["attention"].size());
    for (std::size_t k = 0; k < want["attention"].size(); ++k) {
      expect_near(got["attention"][k]["map"], want["attention"][k]["map"], 1e-5, true);
    }
  }
}

TEST_F(EmulatedCli, Profile) {
  Words words = tiny("unused", {"--steps", "1"});
  words[0] = "profile";
  const auto [gpu, cpu] = both(words);
  const auto calls = [](const Json& d) {
    std::map<std::string, double> calls;
    for (const Json& row : d.at("operations")) calls[row.at("op")] = row.at("calls");
    return calls;
  };
  const auto there = calls(gpu), here = calls(cpu);
  for (const char* op : {"revin", "projection", "attention", "attention_backward", "loss", "perturb", "update"}) {
    ASSERT_TRUE(there.contains(op) && here.contains(op)) << op;
    EXPECT_EQ(there.at(op), here.at(op)) << op;
  }
}

TEST_F(EmulatedCli, Refusals) {
  fails(4, tiny("x", {"--device", "cuda:99"}), {"cuda:99", "there are only 1 devices"});
  fails(4, tiny("x", {"--device", "cuda", "--precision", "bf16"}), {"bf16"});
}

}  // namespace
}  // namespace samformer
