// Data outside the repository (public series, golden runs): in the folder that the CMake variable SAMFORMER_TEST_SHARED
// names, empty unless given. Tests of it are skipped where it is absent.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace samformer {

// A file or folder of it; empty: not there.
inline std::filesystem::path shared_data(const std::string& name) {
  const std::filesystem::path folder = SAMFORMER_TEST_SHARED;
  return !folder.empty() && std::filesystem::exists(folder / name) ? folder / name : std::filesystem::path();
}

#define SAMFORMER_REQUIRE_SHARED_DATA(name) \
  if (shared_data(name).empty()) GTEST_SKIP() << "no " << (name) << " in SAMFORMER_TEST_SHARED (a CMake variable)"

}  // namespace samformer
