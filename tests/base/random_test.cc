#include "base/random.h"

#include <array>
#include <cmath>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

TEST(Random, TheSameSeedGivesTheSameStream) {
  Random a(7);
  Random b(7);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(a.next(), b.next());
}

TEST(Random, BoundsAreKeptAndAllValuesAppear) {
  Random random(1);
  std::array<int, 5> seen{};
  for (int i = 0; i < 1000; ++i)
    ++seen[random.below(5)];
  for (const int count : seen)
    EXPECT_GT(count, 120);
  for (int i = 0; i < 1000; ++i) {
    const auto value = random.between(-3, 3);
    EXPECT_GE(value, -3);
    EXPECT_LE(value, 3);
  }
  EXPECT_EQ(random.between(4, 4), 4);
  static_cast<void>(random.between(INT64_MIN, INT64_MAX));
}

TEST(Random, NormalNumbersHaveUnitDeviation) {
  Random random(3);
  double sum = 0.0;
  double squares = 0.0;
  for (int i = 0; i < 20000; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 20000, 0.0, 0.03);
  EXPECT_NEAR(std::sqrt(squares / 20000), 1.0, 0.03);
}

TEST(Random, EntropyDiffersBetweenDraws) {
  EXPECT_NE(entropy_seed(), entropy_seed());
}

}  // namespace
}  // namespace pleiad
