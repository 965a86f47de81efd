#include "kernels/library.h"

#include <dnnl.h>

namespace samformer::kernels {
namespace {

const char* instruction_set() {
  const int chosen = dnnl_get_effective_cpu_isa();  // a set of bits; each level holds those below it
  const auto has = [&](int level) { return (chosen & level) == level; };
  if (has(dnnl_cpu_isa_avx512_core)) return "AVX-512";
  if (has(dnnl_cpu_isa_avx2)) return "AVX2";
  return has(dnnl_cpu_isa_avx) ? "AVX" : "SSE";
}

}  // namespace

std::string gemm_library_version() {
  const dnnl_version_t* const version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch) +
         " (" + instruction_set() + ")";
}

}  // namespace samformer::kernels
