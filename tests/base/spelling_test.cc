#include "base/spelling.h"

#include <array>
#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

constexpr std::array<std::string_view, 3> kWords = {"classes", "keys", "policy"};

TEST(Spelling, FindsTheWordThatWasMeant) {
  EXPECT_EQ(nearest_word("class", kWords), "classes");
  EXPECT_EQ(nearest_word("KEY", kWords), "keys");
  EXPECT_EQ(nearest_word("polciy", kWords), "policy");
}

TEST(Spelling, TiesGoToTheFirstAndLongWordsCostLittle) {
  EXPECT_EQ(nearest_word("", std::array<std::string_view, 2>{"ab", "cd"}), "ab");
  EXPECT_EQ(nearest_word(std::string(1U << 20U, 'x'), kWords), "classes");
}

TEST(Spelling, ListsWords) {
  EXPECT_EQ(listed(kWords), "classes, keys, policy");
  EXPECT_EQ(listed({}), "");
}

}  // namespace
}  // namespace pleiad
