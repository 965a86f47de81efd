// What operations cost, in the order in which they ran: name, begin and duration in seconds, operations, bytes (each
// operand read once, each result written once).
#pragma once

#include <vector>

namespace samformer {

struct Cost {
  double flops = 0;
  double bytes = 0;
};

struct Profile {
  struct Entry {
    const char* name;  // of a static string
    double begin;      // since some fixed point
    double seconds;
    Cost cost;
  };
  std::vector<Entry> entries;
};

}  // namespace samformer
