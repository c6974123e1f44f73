#include "base/result.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return invalid_input("{} is odd", value);
  return value / 2;
}

Result<int> quarter(int value) {
  PLEIAD_TRY(once, half(value));
  PLEIAD_TRY(twice, half(once));
  return twice;
}

Result<void> must_be_even(int value) {
  PLEIAD_TRY(half(value));
  return {};
}

TEST(Result, HoldsAValueOrAnError) {
  EXPECT_EQ(half(8).value(), 4);
  EXPECT_FALSE(half(3).ok());
  EXPECT_EQ(half(3).error().kind, ErrorKind::InvalidInput);
  EXPECT_EQ(half(3).error().message, "3 is odd");
}

TEST(Result, TryReturnsTheFirstErrorUpwards) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
  EXPECT_TRUE(must_be_even(2).ok());
  EXPECT_EQ(must_be_even(5).error().message, "5 is odd");
}

TEST(Result, MovesValuesThatCannotBeCopied) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(7);

  const std::unique_ptr<int> taken = *std::move(made);

  EXPECT_EQ(*taken, 7);
}

TEST(Result, ContextStandsBeforeTheMessage) {
  const Error error = with_context(not_found("no such file"), "config.json");

  EXPECT_EQ(error.message, "config.json: no such file");
  EXPECT_EQ(error.kind, ErrorKind::NotFound);
}

TEST(ResultDeathTest, ReadingTheWrongHalfEndsTheProcess) {
  EXPECT_DEATH(static_cast<void>(half(3).value()), "3 is odd");
  EXPECT_DEATH(static_cast<void>(half(2).error()), "holds a value");
}

TEST(ErrorKindNames, AreThoseOfTheEnum) {
  EXPECT_EQ(to_string(ErrorKind::Exhausted), "Exhausted");
  EXPECT_EQ(to_string(ErrorKind::Internal), "Internal");
}

}  // namespace
}  // namespace pleiad
