#include "device/buffer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include <gtest/gtest.h>

namespace pleiad::device {
namespace {

TEST(Buffer, IsZeroedAndPageAligned) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4097}, std::size_t{3} << 20U}) {
    Buffer buffer = Buffer::allocate(bytes).value();

    EXPECT_EQ(buffer.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0U);
    const auto content = buffer.as<std::byte>();
    EXPECT_TRUE(std::all_of(content.begin(), content.end(), [](std::byte b) {
      return b == std::byte{0};
    }));
  }
}

TEST(Buffer, HasNoMemoryWhenEmpty) {
  const Buffer buffer = Buffer::allocate(0).value();

  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_TRUE(buffer.as<float>().empty());
}

TEST(Buffer, LeavesOutATailShorterThanAnElement) {
  const Buffer buffer = Buffer::allocate(11).value();

  EXPECT_EQ(buffer.as<float>().size(), 2U);
}

TEST(Buffer, MovesItsMemory) {
  Buffer first = Buffer::allocate(100).value();
  first.as<int>()[0] = 7;
  Buffer second = std::move(first);
  Buffer third = Buffer::allocate(5).value();
  third = std::move(second);

  EXPECT_EQ(third.as<int>()[0], 7);
  EXPECT_EQ(third.size(), 100U);
}

TEST(Buffer, SaysSoWhenTheSystemRefuses) {
  const auto buffer = Buffer::allocate(std::numeric_limits<std::size_t>::max() / 2);

  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().kind, ErrorKind::Exhausted);
}

TEST(Memory, AvailableIsWithinTheLimit) {
  EXPECT_GT(memory_limit_bytes(), 0U);
  EXPECT_LE(memory_available_bytes(), memory_limit_bytes());
}

}  // namespace
}  // namespace pleiad::device
