// The library behind float products, for people: kernels/gemm.h says how it is used.
#pragma once

#include <cstdint>
#include <string>

namespace samformer::kernels {

// Its version at run time and the instruction set that it chose: "2.6.3 (AVX-512)".
std::string gemm_library_version();

// A product by dnnl_sgemm on all threads, cut as the library likes: what `bench` compares with. Arguments as gemm's.
void library_product(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const float* A,
                     std::int64_t lda, const float* B, std::int64_t ldb, float* C, std::int64_t ldc, bool accumulate);

}  // namespace samformer::kernels
