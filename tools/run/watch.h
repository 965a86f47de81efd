// Whoever follows the trainings of a thread, beside the console: a caller of the library.
#pragma once

#include <functional>
#include <string>

namespace samformer::tools {

// After each step with null, after each epoch with its line of metrics.jsonl; false: stop at the next step.
using Watch = std::function<bool(const char* epoch)>;
inline thread_local Watch watch;
inline thread_local bool stop_asked = false;

inline void tell_watch(const char* epoch) { stop_asked = stop_asked || (watch && !watch(epoch)); }

}  // namespace samformer::tools
