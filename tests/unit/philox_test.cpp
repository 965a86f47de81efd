#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace samformer {
namespace {

// Known answers of the Random123 library; constexpr, so a wrong generator does not even compile.
static_assert(philox({0, 0, 0, 0}, {0, 0}) == PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
static_assert(philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}) == PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
static_assert(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
              PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});

TEST(Philox, KnownAnswersAtRunTime) {
  PhiloxBlock counter{};
  EXPECT_EQ(philox(counter, {0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

TEST(Philox, AddressIsKeyAndCounter) {
  EXPECT_EQ(random_block(0x299f31d0a4093822, 0x03707344, 0x13198a2e, 0x85a308d3243f6a88),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  EXPECT_NE(random_block(1, 0, 0, 0), random_block(2, 0, 0, 0));
  EXPECT_NE(random_block(1, 0, 0, 0), random_block(1, 1, 0, 0));
}

TEST(Philox, UniformStaysBelowOne) {
  EXPECT_EQ(uniform01(0U), 0.0F);
  EXPECT_EQ(uniform01(~0U), 1.0F - 0x1p-24F);
  EXPECT_EQ(uniform01(~0U, ~0U), 1.0 - 0x1p-53);
  EXPECT_EQ(uniform01(0x80000000U), 0.5F);
  EXPECT_EQ(uniform01(0x80000000U, 0U), 0.5);
}

TEST(Philox, NormalsHaveTheirMoments) {
  constexpr int kPairs = 100000;
  double sum = 0, squares = 0, fourth = 0, cross = 0;
  for (int i = 0; i < kPairs; ++i) {
    const auto [a, b] = normal_pair(random_block(7, 3, 0, static_cast<std::uint64_t>(i)));
    sum += a + b;
    squares += a * a + b * b;
    fourth += a * a * a * a + b * b * b * b;
    cross += a * b;
  }
  const double n = 2.0 * kPairs;
  EXPECT_TRUE(std::abs(sum / n) <= 0.01);
  EXPECT_TRUE(std::abs(squares / n - 1) <= 0.015);
  EXPECT_TRUE(std::abs(fourth / n - 3) <= 0.1);
  EXPECT_TRUE(std::abs(cross / kPairs) <= 0.015);
  const auto extreme = normal_pair({~0U, ~0U, 0, 0});  // the largest uniform: log of the smallest 1 - u
  EXPECT_TRUE(std::isfinite(extreme[0]) && std::isfinite(extreme[1]));
}

}  // namespace
}  // namespace samformer
