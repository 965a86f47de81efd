// What operations cost, in the order in which they ran: name, begin and duration in seconds, operations, bytes (each
// operand read once, each result written once). The tape (CPU) and a device's model fill one in while it is set.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace samformer {

struct Cost {
  double flops = 0;
  double bytes = 0;
};
// Of floats that are read or written once.
inline Cost float_cost(std::int64_t flops, std::int64_t floats) {
  return {static_cast<double>(flops), 4 * static_cast<double>(floats)};
}
// 2 M N K operations.
inline Cost product_cost(std::int64_t M, std::int64_t N, std::int64_t K) {
  return float_cost(2 * M * N * K, M * K + K * N + M * N);
}

struct Profile {
  struct Entry {
    std::string name;
    double begin;  // since some fixed point
    double seconds;
    Cost cost;
  };
  std::vector<Entry> entries;
};

// Adds the time from its construction to its destruction; nothing without a profile.
class Stopwatch {
 public:
  Stopwatch(Profile* profile, const char* name, Cost cost, const char* suffix = "")
      : profile_(profile), name_(name), suffix_(suffix), cost_(cost), begin_(profile ? now() : 0) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    if (profile_) profile_->entries.push_back({std::string(name_) + suffix_, begin_, now() - begin_, cost_});
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  Profile* profile_;
  const char *name_, *suffix_;
  Cost cost_;
  double begin_;
};

}  // namespace samformer
