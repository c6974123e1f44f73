#include "engine/balancedness.h"

#include <vector>

#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

TEST(Balancedness, IsMeanOverMaximum) {
  EXPECT_EQ(balancedness(std::vector<std::uint64_t>{4, 4, 4, 4}), 1.0);
  EXPECT_EQ(balancedness(std::vector<std::uint64_t>{8, 0, 0, 0}), 0.25);
  EXPECT_EQ(balancedness(std::vector<std::uint64_t>{6, 2}), 4.0 / 6.0);
}

TEST(Balancedness, NothingCountedIsEven) {
  EXPECT_EQ(balancedness(std::vector<std::uint64_t>{0, 0}), 1.0);
  EXPECT_EQ(balancedness({}), 1.0);
}

}  // namespace
}  // namespace pleiad::engine
