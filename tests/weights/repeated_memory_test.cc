#include "weights/repeated_memory.h"

#include <gtest/gtest.h>

namespace pleiad::weights {
namespace {

TEST(RepeatedMemory, WhatIsWrittenToTheBlockShowsInEveryRepetition) {
  const auto memory = RepeatedMemory::create(2 * RepeatedMemory::kBlockBytes + 1).value();
  memory.block()[5] = std::byte{42};

  ASSERT_EQ(memory.bytes().size(), 3 * RepeatedMemory::kBlockBytes);
  for (std::size_t repetition = 0; repetition < 3; ++repetition) {
    EXPECT_EQ(memory.bytes()[repetition * RepeatedMemory::kBlockBytes + 5], std::byte{42});
  }
}

TEST(RepeatedMemory, MovesWithoutCopies) {
  auto memory = RepeatedMemory::create(1).value();
  const std::byte* before = memory.bytes().data();
  const RepeatedMemory moved = std::move(memory);

  EXPECT_EQ(moved.bytes().data(), before);
}

}  // namespace
}  // namespace pleiad::weights
