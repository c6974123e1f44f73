#include "engine/capacity.h"

#include <string>

#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

CapacityInput input() {
  return {
      .memory_bytes = 1'000'000,
      .memory_fraction = 0.8,
      .resident_bytes = 300'000,
      .page_bytes = 1'000,
      .positions_max = 4096,
      .sequences_max = 100,
  };
}

TEST(Capacity, GivesThePagesThatTheFractionLeaves) {
  const auto capacity = plan_capacity(input());

  ASSERT_TRUE(capacity.ok());
  EXPECT_EQ(capacity->pages, 500);
  EXPECT_EQ(capacity->model_tokens, 4096);
}

TEST(Capacity, NeverTakesMoreThanTheSequencesCanUse) {
  CapacityInput few = input();
  few.sequences_max = 2;

  EXPECT_EQ(plan_capacity(few)->pages, 128);
}

TEST(Capacity, AnExplicitSizeWins) {
  CapacityInput exact = input();
  exact.kv_bytes = 70'000;

  EXPECT_EQ(plan_capacity(exact)->pages, 70);
}

TEST(Capacity, ShortensTheContextOnlyWhenNobodyAskedForOne) {
  CapacityInput tight = input();
  tight.kv_bytes = 10'000;

  EXPECT_EQ(plan_capacity(tight)->model_tokens, 640);
  tight.model_tokens = 641;
  const auto refused = plan_capacity(tight);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::Exhausted);
  EXPECT_NE(refused.error().message.find("--max-model-len to 640"), std::string::npos);
}

TEST(Capacity, RefusesAContextBeyondTheCheckpoint) {
  CapacityInput wide = input();
  wide.model_tokens = 5000;

  EXPECT_NE(plan_capacity(wide).error().message.find("at most 4096"), std::string::npos);
}

TEST(Capacity, RefusesWhenWeightsLeaveNothing) {
  CapacityInput full = input();
  full.resident_bytes = 900'000;

  EXPECT_EQ(plan_capacity(full).error().kind, ErrorKind::Exhausted);
}

}  // namespace
}  // namespace pleiad::engine
