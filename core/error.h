// The one exception type of the engine. It carries what a person needs to act (place, expectation, hint) and the
// exit code that tools/ returns; the library itself never exits and never prints.
//
//   throw Error(Exit::data, "ragged row: 3 cells, 8 expected").at("a.csv", 17).hint("...");
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace samformer {

// The program's exit codes; the names are the `kind` of the JSON error document.
enum class Exit : int {
  internal = 1,
  usage = 2,
  data = 3,
  device = 4,
  diverged = 5,
  check = 6,
  io = 7,
  interrupted = 130,
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& message) : std::runtime_error(message), code(code) {}
  // Where: file, line and column count from 1; 0 means unknown.
  Error&& at(std::string file_name, std::int64_t line_number = 0, std::int64_t column_number = 0) && {
    file = std::move(file_name);
    line = line_number;
    column = column_number;
    return std::move(*this);
  }
  Error&& hint(std::string what_to_do) && {
    advice = std::move(what_to_do);
    return std::move(*this);
  }

  Exit code;
  std::string file;
  std::int64_t line = 0;
  std::int64_t column = 0;
  std::string advice;
};

// For conditions that a caller of the library can get wrong (shapes, ranges): throws Error(Exit::internal).
#define SAMFORMER_CHECK(condition, ...)                                                                  \
  do {                                                                                                   \
    if (!(condition)) throw ::samformer::Error(::samformer::Exit::internal, ::fmt::format(__VA_ARGS__)); \
  } while (false)

}  // namespace samformer
