#include "router/token_bucket.h"

#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(TokenBucket, GivesAMinutesWorthAtOnceAndThenAsTimeGoesBy) {
  TokenBucket bucket(60, seconds(10));

  EXPECT_EQ(bucket.available(seconds(10)), 60);
  bucket.take(60, seconds(10));

  EXPECT_EQ(bucket.available(seconds(10)), 0);
  EXPECT_EQ(bucket.until(1, seconds(10)), seconds(1));
  EXPECT_EQ(bucket.available(milliseconds(12'500)), 2);
  EXPECT_EQ(bucket.until(2, milliseconds(12'500)), seconds(0));
  EXPECT_EQ(bucket.until_full(seconds(10)), seconds(60));
}

TEST(TokenBucket, WhatItSaysOfTheWaitIsTrue) {
  TokenBucket bucket(7, seconds(0));
  bucket.take(7, seconds(0));
  for (std::int64_t amount = 1; amount <= 7; ++amount) {
    const Nanoseconds wait = bucket.until(amount, seconds(0));
    EXPECT_GE(bucket.available(wait), amount);
    EXPECT_LT(bucket.available(wait - milliseconds(1)), amount);
  }
}

TEST(TokenBucket, NeverHoldsMoreThanItsLimit) {
  TokenBucket bucket(60, seconds(0));
  bucket.take(10, seconds(0));
  bucket.give_back(100, seconds(0));
  EXPECT_EQ(bucket.available(seconds(0)), 60);
  EXPECT_EQ(bucket.available(seconds(1000)), 60);
}

TEST(TokenBucket, DebtIsPaidFirst) {
  TokenBucket bucket(60, seconds(0));
  bucket.take(90, seconds(0));
  EXPECT_EQ(bucket.available(seconds(0)), 0);
  EXPECT_EQ(bucket.until(1, seconds(0)), seconds(31));
}

TEST(TokenBucket, AnotherLimitForgivesNothing) {
  TokenBucket bucket(60, seconds(0));
  bucket.take(50, seconds(0));
  bucket.set_limit(100, seconds(0));
  EXPECT_EQ(bucket.available(seconds(0)), 50);
  bucket.set_limit(20, seconds(0));
  EXPECT_EQ(bucket.available(seconds(0)), 0);
  EXPECT_EQ(bucket.available(seconds(600)), 20);
}

}  // namespace
}  // namespace pleiad::router
