// The fuzz targets over their seeds, which hold what fuzzing has found.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/io/file.h"

// LLVMFuzzerTestOneInput of each target, renamed by CMake.
extern "C" {
int fuzz_checkpoint(const std::uint8_t* data, std::size_t size);
int fuzz_csv(const std::uint8_t* data, std::size_t size);
int fuzz_dates(const std::uint8_t* data, std::size_t size);
int fuzz_run_folder(const std::uint8_t* data, std::size_t size);
int fuzz_settings(const std::uint8_t* data, std::size_t size);
}

namespace samformer {
namespace {

using Target = std::pair<const char*, int (*)(const std::uint8_t*, std::size_t)>;

class Seeds : public testing::TestWithParam<Target> {};

// A finding ends the process; the last line on stderr is its input.
TEST_P(Seeds, EndInAResultOrARefusal) {
  const auto [name, target] = GetParam();
  int count = 0;
  for (const auto& seed : std::filesystem::directory_iterator(std::filesystem::path(SAMFORMER_FUZZ_SEEDS) / name)) {
    const std::string text = read_file(seed.path());
    fprintf(stderr, "%s\n", seed.path().c_str());
    target(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    ++count;
  }
  EXPECT_GT(count, 0);
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Seeds,
                         testing::Values(Target("checkpoint", fuzz_checkpoint), Target("csv", fuzz_csv),
                                         Target("dates", fuzz_dates), Target("run_folder", fuzz_run_folder),
                                         Target("settings", fuzz_settings)),
                         [](const auto& target) { return target.param.first; });

}  // namespace
}  // namespace samformer
