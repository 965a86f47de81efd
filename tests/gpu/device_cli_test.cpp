// --device from outside. Without a GPU: no CUDA library is in the program, `auto` takes the CPU. With one, or with a
// PTX simulator's library in CUDASIM and a build that it can be preloaded into (preset ptx): training, resuming,
// evaluation and forecasts on `cuda` beside the CPU's.
#include <cstdlib>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class DeviceCli : public ProgramTest {
 protected:
  static bool driver() { return std::filesystem::exists("/dev/nvidiactl") || std::filesystem::exists("/dev/dxg"); }
  static bool simulator() { return std::getenv("CUDASIM") != nullptr; }
  // Where the program has a GPU: on the simulator if one is named.
  static Surroundings on_gpu() {
    if (!simulator()) return {};
    return {.environment = {{"LD_PRELOAD", std::getenv("CUDASIM")}, {"CUDASIM_STRICT", "1"}, {"CUDASIM_QUIET", "1"}}};
  }
  // What the program says of its GPUs there.
  bool gpu() {
    if (!simulator() && !driver()) return false;
    for (const Json& line : run({"doctor", "--json"}, on_gpu()).json().value("lines", Json::array())) {
      if (line.value("name", "") == "cuda:0") return line.value("status", "") == "OK";
    }
    return false;
  }
};

TEST_F(DeviceCli, AStartWithoutAGpuMapsNoCudaLibrary) {
  if (driver()) GTEST_SKIP() << "this machine has an NVIDIA driver";
  const pid_t child = start(small("run", {"--epochs", "100000"}));
  for (int i = 0; i < 60000 && !exists("run/state.safetensors"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::string maps = read_file(fmt::format("/proc/{}/maps", child));
  kill(child, SIGTERM);
  const Outcome o = finish(child);
  EXPECT_EQ(o.code, 130);
  EXPECT_NE(o.err.find("device cpu"), std::string::npos) << o.err;
  ASSERT_NE(maps.find("libdnnl"), std::string::npos) << maps;
  for (const char* library : {"libcuda.so", "libcublas", "libnvidia"}) {
    EXPECT_EQ(maps.find(library), std::string::npos) << maps;
  }
}

TEST_F(DeviceCli, TrainsOnAGpuAsOnTheCpu) {
  if (!gpu()) GTEST_SKIP() << "no GPU here, and no PTX simulator in CUDASIM that the program can be run on";
  for (const std::string value : {"low-rank", "full"}) {
    SCOPED_TRACE(value);
    const Words kind = {"--value", value, "--refit"};
    const Json cpu = document(small("cpu-" + value, kind + Words{"--device", "cpu"}));
    const Json gpu = document(small("gpu-" + value, kind), on_gpu());  // auto
    EXPECT_EQ(gpu["device"], "cuda:0");
    const auto near = [&](const Json& a, const Json& b, double tolerance) {
      const double x = a, y = b;
      EXPECT_TRUE(std::abs(x - y) <= tolerance * std::abs(y)) << x << ' ' << y;
    };
    for (const char* what : {"train_loss", "val_mse", "test_mse", "test_mae"}) near(gpu[what], cpu[what], 1e-4);
    EXPECT_EQ(gpu["best_epoch"], cpu["best_epoch"]);
    // The same weights, evaluated here and there.
    const Json there = document({"eval", path("gpu-" + value), "--device", "cuda:0"}, on_gpu());
    const Json here = document({"eval", path("gpu-" + value), "--device", "cpu"});
    EXPECT_EQ(there["test_mse"], gpu["test_mse"]);
    near(there["test_mse"], here["test_mse"], 1e-5);
    const Json forecast = document({"predict", path("gpu-" + value), "--device", "cuda"}, on_gpu());
    const Json expected = document({"predict", path("gpu-" + value), "--device", "cpu"});
    ASSERT_EQ(forecast["forecast"].size(), 6u);
    for (std::size_t h = 0; h < 6; ++h) {
      EXPECT_EQ(forecast["forecast"][h]["date"], expected["forecast"][h]["date"]);
      for (std::size_t d = 0; d < 3; ++d) {
        near(forecast["forecast"][h]["values"][d], expected["forecast"][h]["values"][d], 1e-5);
      }
    }
    // Interrupted after two epochs, taken up there, the same bits.
    document(small("part-" + value, kind + Words{"--epochs", "2"}), on_gpu());
    const Json resumed = document({"train", "--resume", path("part-" + value), "--epochs", "4"}, on_gpu());
    EXPECT_EQ(resumed["weights_sha256"], gpu["weights_sha256"]);
  }
}

// The relatives; tsmixer with running averages and dropout, which a resumed run has to go on with.
TEST_F(DeviceCli, EveryModelOnAGpu) {
  if (!gpu()) GTEST_SKIP() << "no GPU here, and no PTX simulator in CUDASIM that the program can be run on";
  for (const std::string model : {"linear", "identity", "random-transformer", "sigma-reparam", "temporal", "dlinear",
                                  "itransformer", "patchtst", "logtrans", "informer", "pyraformer", "tsmixer"}) {
    SCOPED_TRACE(model);
    Words kind = {"--model", model, "--rho", "0.1"};
    if (model.ends_with("former") || model == "patchtst" || model == "logtrans")
      kind = kind + Words{"--d-model", "16", "--d-ff", "16", "--heads", "2"};
    if (model == "logtrans" || model == "informer") kind = kind + Words{"--label", "6"};
    if (model == "tsmixer") kind = kind + Words{"--ff", "8", "--dropout", "0.5"};
    const Json cpu = document(small("cpu-" + model, kind + Words{"--device", "cpu"}));
    const Json gpu = document(small("gpu-" + model, kind), on_gpu());  // auto
    EXPECT_EQ(gpu["device"], "cuda:0");
    for (const char* what : {"train_loss", "val_mse", "test_mse", "test_mae"}) {
      const double x = gpu[what], y = cpu[what];
      EXPECT_TRUE(std::abs(x - y) <= 1e-4 * std::abs(y)) << what << ": " << x << ", on the CPU " << y;
    }
    const Json there = document({"eval", path("gpu-" + model), "--device", "cuda:0"}, on_gpu());
    EXPECT_EQ(there["test_mse"], gpu["test_mse"]);
    if (model != "tsmixer") continue;
    document(small("part-" + model, kind + Words{"--epochs", "2"}), on_gpu());
    const Json resumed = document({"train", "--resume", path("part-" + model), "--epochs", "4"}, on_gpu());
    EXPECT_EQ(resumed["weights_sha256"], gpu["weights_sha256"]);
  }
}

TEST_F(DeviceCli, ProfileOnAGpu) {
  if (!gpu()) GTEST_SKIP() << "no GPU here, and no PTX simulator in CUDASIM that the program can be run on";
  for (const std::string value : {"low-rank", "full"}) {
    Words words = small("unused", {"--device", "cuda", "--steps", "2", "--value", value});
    words[0] = "profile";
    const Json d = document(words, on_gpu());
    double calls = 0;
    for (const Json& row : d.at("operations")) {
      calls += row.at("calls").get<double>();
      // The loss is computed with its gradient, and what is added where something is read costs nothing of its own.
      const bool free = row.at("op") == "loss" || std::string(row.at("op")).starts_with("add");
      EXPECT_TRUE(free || row.at("seconds") > 0) << row;
    }
    EXPECT_EQ(calls, 2 * 26);
    EXPECT_GT(d.at("seconds_per_step"), 0);
    EXPECT_LT(d.at("seconds_per_step"), d.at("seconds_per_step_of_operations"));
  }
}

TEST_F(DeviceCli, RefusalsOnAGpu) {
  if (!gpu()) GTEST_SKIP() << "no GPU here, and no PTX simulator in CUDASIM that the program can be run on";
  fails(4, small("x", {"--device", "cuda:99"}), {"cuda:99", "there are only"}, on_gpu());
  fails(4, small("x", {"--precision", "bf16", "--device", "cuda"}), {"bf16"}, on_gpu());
  if (simulator()) {
    Surroundings turing = on_gpu();
    turing.environment["CUDASIM_CC"] = "75";
    fails(4, small("x", {"--precision", "tf32", "--device", "cuda"}), {"TF32", "7.5"}, turing);
    Surroundings little = on_gpu();
    little.environment["CUDASIM_MEMORY_MB"] = "16";  // half of cuBLAS's workspace
    fails(4, small("x", {"--device", "cuda"}), {"cudaMalloc of 33554432 bytes", "bytes free"}, little);
  }
  fails(5, small("y", {"--device", "cuda", "--rho", "1e30", "--overwrite"}), {"step 1, pass 2", "compute_"}, on_gpu());
  const Json tf32 = document(small("z", {"--precision", "tf32"}), on_gpu());
  EXPECT_EQ(tf32["precision"], "tf32");
}

}  // namespace
}  // namespace samformer
