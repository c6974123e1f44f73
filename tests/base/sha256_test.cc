#include "base/sha256.h"

#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

TEST(Sha256, AgreesWithTheStandardsExample) {
  const auto known =
      parse_sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  ASSERT_TRUE(known.has_value());
  EXPECT_TRUE(same_digest(sha256("abc"), *known));
  EXPECT_FALSE(same_digest(sha256("abd"), *known));
}

TEST(Sha256, ReadsBothCasesAndNothingElse) {
  const std::string digits(64, 'a');
  EXPECT_EQ(parse_sha256(digits), parse_sha256(std::string(64, 'A')));
  EXPECT_FALSE(parse_sha256(digits.substr(1)).has_value());
  EXPECT_FALSE(parse_sha256(digits + "a").has_value());
  EXPECT_FALSE(parse_sha256("g" + digits.substr(1)).has_value());
  EXPECT_FALSE(parse_sha256("").has_value());
}

}  // namespace
}  // namespace pleiad
