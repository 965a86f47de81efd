#include "kernels/cpu/onednn.h"

#include <dnnl.h>
#include <sys/mman.h>

#include <new>
#include <stdexcept>

namespace samformer::kernels {
namespace {

const char* instruction_set() {
  const int chosen = dnnl_get_effective_cpu_isa();  // a set of bits; each level holds those below it
  const auto has = [&](int level) { return (chosen & level) == level; };
  if (has(dnnl_cpu_isa_avx512_core)) return "AVX-512";
  if (has(dnnl_cpu_isa_avx2)) return "AVX2";
  return has(dnnl_cpu_isa_avx) ? "AVX" : "SSE";
}

// The library generates its kernels at the first product, and writes to a null pointer where memory ends meanwhile.
bool has_room() {
  constexpr std::size_t room = std::size_t{32} << 20;
  void* const memory = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  munmap(memory, room);
  return true;
}

}  // namespace

std::string gemm_library_version() {
  const dnnl_version_t* const version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch) +
         " (" + instruction_set() + ")";
}

void library_product(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                     std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate) {
  [[maybe_unused]] static const bool checked = has_room();
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, 1.0f, A, lda, B,
                                          ldb, accumulate ? 1.0f : 0.0f, C, ldc);
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  if (status != dnnl_success) {
    throw std::logic_error("dnnl_sgemm: status " + std::to_string(status) + " for C[" + std::to_string(M) + "][" +
                           std::to_string(N) + "], K " + std::to_string(K));
  }
}

}  // namespace samformer::kernels
