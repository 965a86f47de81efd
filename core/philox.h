// Philox4x32-10, a counter-based random generator: block(counter, key) is a pure function, so every number has an
// address and is the same on every device, in any order and after a resume.
// Addresses: key = seed; counter = {index low, index high, sub, stream}. Streams: 0 initialisation, 1 shuffle,
// 2 dropout, 3 the built-in series, 4 Lanczos, 5 landscape, 6 the toy data.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (known answers from Random123).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace samformer {

using PhiloxBlock = std::array<std::uint32_t, 4>;

constexpr PhiloxBlock philox(PhiloxBlock counter, std::array<std::uint32_t, 2> key) {
#pragma GCC unroll 10  // so that a loop over counters can become vectors
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

// Uniform in [0, 1): the top 24 bits of a word, or the top 53 of two.
constexpr float uniform01(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24F; }
constexpr double uniform01(std::uint32_t high, std::uint32_t low) {
  return static_cast<double>((std::uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

// Two independent standard normals from one block (Box-Muller).
inline std::array<double, 2> normal_pair(const PhiloxBlock& block) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform01(block[0], block[1])));
  const double angle = 2.0 * std::numbers::pi * uniform01(block[2], block[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace samformer
