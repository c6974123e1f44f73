#include "base/philox.h"

#include <array>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
TEST(Philox, GivesThePublishedWords) {
  const std::array<std::uint32_t, 4> zero = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  const std::array<std::uint32_t, 4> ones = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};

  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), zero);
  EXPECT_EQ(philox4x32({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}), ones);
}

TEST(Philox, UniformNumbersAreInRangeAndSpread) {
  double sum = 0.0;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const double u = philox_uniform(42, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.01);
}

TEST(Philox, DrawsDependOnSeedIndexAndLaneAlone) {
  EXPECT_EQ(philox_uniform(1, 2, 3), philox_uniform(1, 2, 3));
  EXPECT_NE(philox_uniform(1, 2, 3), philox_uniform(1, 2, 4));
  EXPECT_NE(philox_uniform(1, 2), philox_uniform(1, 3));
  EXPECT_NE(philox_uniform(1, 2), philox_uniform(2, 2));
}

}  // namespace
}  // namespace pleiad
