#include "kernels/parallel.h"

#include <cstdlib>
#include <string_view>

namespace samformer::kernels {
namespace {

Isa detect() {
#if defined(__x86_64__)
  const char* limit = std::getenv("SAMFORMER_MAX_ISA");
  const std::string_view most = limit ? limit : "v4";
  if (most == "baseline") return Isa::baseline;
  if (most != "v3" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")) {
    return Isa::v4;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return Isa::v3;
#endif
  return Isa::baseline;
}

}  // namespace

Isa isa() {
  static const Isa level = detect();
  return level;
}

const char* isa_name() {
  switch (isa()) {
    case Isa::v4:
      return "x86-64-v4 (AVX-512)";
    case Isa::v3:
      return "x86-64-v3 (AVX2, FMA)";
    case Isa::baseline:
      break;
  }
  return "baseline";
}

}  // namespace samformer::kernels
