// What the fuzz targets share. A target takes any bytes to the end of a reader, and that end is a result or an Error
// that a person can act on. Anything else is a finding: another exception, Exit::internal, a sanitizer's report, a
// property that does not hold. It ends the process, which is what libFuzzer and ctest (seeds_test.cpp) look for.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "tests/scratch_folder.h"

namespace samformer::fuzz {

[[noreturn]] inline void finding(const std::string& what) {
  std::fprintf(stderr, "finding: %s\n", what.c_str());
  std::abort();
}

inline void require(bool holds, const char* what) {
  if (!holds) finding(what);
}

template <class Work>
void result_or_refusal(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code == Exit::internal) finding(error.what());
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The text up to the separator, which is taken off with it.
inline std::string take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  std::string part(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

inline std::string take_line(std::string_view& text) { return take(text, '\n'); }

// For readers that take a path: one folder a process, below TMPDIR, which had better be in memory. Files are rewritten
// in place.
inline const std::filesystem::path& folder() {
  static const ScratchFolder scratch;
  static const std::filesystem::path path = scratch.path();
  return path;
}
inline void put(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace samformer::fuzz
