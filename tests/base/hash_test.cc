#include "base/hash.h"

#include <gtest/gtest.h>

namespace pleiad {
namespace {

TEST(Hash64, IsXxh3) {
  EXPECT_EQ(hash64(""), 0x2D06800538D394C2U);  // the published value of no bytes
  EXPECT_NE(hash64("a"), hash64("b"));
  EXPECT_NE(hash64("a"), hash64("a", 1));
  EXPECT_EQ(hash64("abc"), hash64(std::as_bytes(std::span("abc", 3))));
}

}  // namespace
}  // namespace pleiad
