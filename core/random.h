// Random numbers with an address (kernels/philox.h) and what is drawn from them.
// Streams: 0 initialisation, 1 shuffle, 2 dropout, 3 seasonal, 4 Lanczos, 5 landscape, 6 the toy data, 7 load, 8 sales,
// 9 monthly, 10 sampled keys.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/philox.h"

namespace samformer {

using kernels::philox;
using kernels::PhiloxBlock;
using kernels::random_block;

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
