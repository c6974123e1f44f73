#include "engine/memory_taken.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

using testing::HasSubstr;

constexpr std::size_t kGib = std::size_t{1} << 30U;

TEST(MemoryTaken, AnErrorOfMemoryTellsWhatTookItAndWhichFlagLowersIt) {
  const Error told =
      tell_taken(exhausted("the KV pages need 9 GiB"), {.weights = 3 * kGib, .scratch = kGib / 2});

  EXPECT_EQ(told.kind, ErrorKind::Exhausted);
  EXPECT_THAT(told.message, HasSubstr("the KV pages need 9 GiB; taken before: weights 3.00 GiB"));
  EXPECT_THAT(told.message, HasSubstr("scratch 0.50 GiB (--max-num-batched-tokens"));
  EXPECT_EQ(told.message.find("KV pages 0"), std::string::npos);
}

TEST(MemoryTaken, OtherErrorsAndThoseBeforeAnythingWasTakenStayAsTheyAre) {
  EXPECT_EQ(tell_taken(not_found("no GPU"), {.weights = kGib}).message, "no GPU");
  EXPECT_EQ(tell_taken(exhausted("weights"), {}).message, "weights");
}

}  // namespace
}  // namespace pleiad::engine
