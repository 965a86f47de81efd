// What operations cost, in the order in which they ran: name, begin and duration in seconds, operations, bytes (each
// operand read once, each result written once). A tape fills one in while it is set; on a device the times are those of
// events, there after collect(). On a device every operation is a named range for profilers (NVTX) too.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/device_memory.h"

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

// Where the times of a tape's operations go.
template <class On>
struct Timer {
  On on;
  Profile* profile = nullptr;  // null: nowhere
};
template <>
struct Timer<kernels::Cuda> {
  kernels::Cuda on;
  Profile* profile = nullptr;
  struct Event {
    std::string name;
    Cost cost;
    DeviceEvent begin, end;
  };
  std::vector<Event> events = {};

  // The device must have been waited for.
  void collect() {
    for (std::size_t i = 0; profile && i < events.size(); ++i) {
      const Event& e = events[i];
      profile->entries.push_back({e.name, kernels::event_seconds(events.front().begin.get(), e.begin.get()),
                                  kernels::event_seconds(e.begin.get(), e.end.get()), e.cost});
    }
    events.clear();
  }
};

// Adds the time from its construction to its destruction.
template <class On>
class Stopwatch {
 public:
  Stopwatch(Timer<On>& timer, const char* name, Cost cost, const char* suffix = "")
      : timer_(timer), name_(name), suffix_(suffix), cost_(cost), begin_(timer.profile ? now() : 0) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    if (timer_.profile) {
      timer_.profile->entries.push_back({std::string(name_) + suffix_, begin_, now() - begin_, cost_});
    }
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  Timer<On>& timer_;
  const char *name_, *suffix_;
  Cost cost_;
  double begin_;
};
template <>
class Stopwatch<kernels::Cuda> {
 public:
  Stopwatch(Timer<kernels::Cuda>& timer, const char* name, Cost cost, const char* suffix = "") : timer_(timer) {
    if (timer.profile) {
      timer.events.push_back({std::string(name) + suffix, cost, DeviceEvent(kernels::event_create()),
                              DeviceEvent(kernels::event_create())});
      kernels::event_record(timer.events.back().begin.get(), timer.on.stream);
    }
    at_ = timer.events.size();
    kernels::range_begin(name);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    kernels::range_end();
    if (!timer_.profile) return;
    try {
      kernels::event_record(timer_.events[at_ - 1].end.get(), timer_.on.stream);
    } catch (const kernels::GpuError&) {  // the call that waits for the device reports what is wrong with it
    }
  }

 private:
  Timer<kernels::Cuda>& timer_;
  std::size_t at_;
};

}  // namespace samformer
