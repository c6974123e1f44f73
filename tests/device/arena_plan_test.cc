#include "device/arena_plan.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "device/scratch.h"

namespace pleiad::device {
namespace {

TEST(ArenaPlan, RegionsThatNeverMeetShareBytes) {
  ArenaPlan plan;
  const RegionId early = plan.reserve("early", 1000, 0, 1);
  const RegionId late = plan.reserve("late", 800, 2, 3);
  plan.place();

  EXPECT_EQ(plan.offset(early), plan.offset(late));
  EXPECT_EQ(plan.bytes(), 1024U);
  EXPECT_EQ(plan.naive_bytes(), 1024U + 832U);
}

TEST(ArenaPlan, RegionsThatMeetInOneOpAreApart) {
  ArenaPlan plan;
  const RegionId a = plan.reserve("a", 64, 0, 1);
  const RegionId b = plan.reserve("b", 64, 1, 2);
  plan.place();

  EXPECT_NE(plan.offset(a), plan.offset(b));
}

TEST(ArenaPlan, RandomPlansNeverOverlapAndNeverExceedTheNaiveSum) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ArenaPlan plan;
    struct Life {
      RegionId id;
      int first;
      int last;
    };
    std::vector<Life> lives;
    for (int i = 0; i < 30; ++i) {
      const int first = static_cast<int>(random.below(10));
      const int last = first + static_cast<int>(random.below(4));
      lives.push_back({plan.reserve("r", random.below(5000), first, last), first, last});
    }
    plan.place();
    EXPECT_LE(plan.bytes(), plan.naive_bytes());
    for (const Life& a : lives) {
      EXPECT_EQ(plan.offset(a.id) % ArenaPlan::kAlignment, 0U);
      EXPECT_LE(plan.offset(a.id) + plan.size(a.id), plan.bytes());
      for (const Life& b : lives) {
        const bool meet = a.id != b.id && a.first <= b.last && b.first <= a.last;
        const bool apart = plan.offset(a.id) + plan.size(a.id) <= plan.offset(b.id) ||
                           plan.offset(b.id) + plan.size(b.id) <= plan.offset(a.id);
        EXPECT_TRUE(apart || !meet);
      }
    }
  }
}

TEST(Scratch, HandsOutRegionsAsTypedSpans) {
  ArenaPlan plan;
  const RegionId floats = plan.reserve("floats", 100 * sizeof(float), 0, 1);
  const RegionId ints = plan.reserve("ints", 10 * sizeof(int), 0, 1);
  auto scratch = Scratch::allocate(std::move(plan));
  ASSERT_TRUE(scratch.ok());

  scratch->get<float>(floats)[99] = 1.5F;
  scratch->get<int>(ints)[9] = 7;

  EXPECT_EQ(scratch->get<float>(floats)[99], 1.5F);
  EXPECT_EQ(scratch->planned_bytes(), scratch->naive_bytes());
}

}  // namespace
}  // namespace pleiad::device
