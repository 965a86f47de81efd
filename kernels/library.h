// The library behind float products, for people: kernels/gemm.h says how it is used.
#pragma once

#include <string>

namespace samformer::kernels {

// Its version at run time and the instruction set that it chose: "2.6.3 (AVX-512)".
std::string gemm_library_version();

}  // namespace samformer::kernels
