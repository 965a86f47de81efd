// What fault_injection.cpp, in the program and its children, shares with the test.
#pragma once

#include <cstdint>

namespace samformer {

struct FaultState {
  std::uint64_t calls;   // of the class, by all processes
  std::uint64_t failed;  // of them; `path` and `process` are the first's
  char path[512];
  std::int32_t process;
};

}  // namespace samformer
