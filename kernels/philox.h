// Philox4x32-10, a counter-based random generator: block(counter, key) is a pure function, so every number has an
// address and is the same on every device, in any order and after a resume. One source for the CPU and for nvcc.
// Addresses: key = seed; counter = {index low, index high, sub, stream}; core/random.h lists the streams.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (known answers from Random123).
#pragma once

#include <array>
#include <cstdint>

namespace samformer::kernels {

using PhiloxBlock = std::array<std::uint32_t, 4>;

constexpr PhiloxBlock philox(PhiloxBlock counter, std::array<std::uint32_t, 2> key) {
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 10  // so that a loop over counters can become vectors
#endif
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
               static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

constexpr PhiloxBlock random_block(std::uint64_t seed, std::uint32_t stream, std::uint32_t sub, std::uint64_t index) {
  return philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), sub, stream},
                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

// ---- dropout's numbers ---------------------------------------------------------------------------------------------

constexpr std::uint32_t dropout_stream = 2;

// Element i of a mask has word i % 4 of block dropout_index(pass, site) + i / 4, sub = the step; it is dropped where
// that is below dropout_threshold(rate).
constexpr std::uint64_t dropout_index(int pass, int site) {
  return static_cast<std::uint64_t>(pass * 1024 + site) << 40;
}
constexpr std::uint32_t dropout_threshold(double rate) { return static_cast<std::uint32_t>(rate * 4294967296.0); }

}  // namespace samformer::kernels
