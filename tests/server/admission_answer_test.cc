#include "server/admission_answer.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::server {
namespace {

using api::RefusalReason;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

net::HttpResponse answer(RefusalReason reason, std::optional<Nanoseconds> retry_after) {
  return error_response(
      refusal_error({.reason = reason, .message = "why", .retry_after = retry_after, .rates = {}})
  );
}

TEST(AdmissionAnswer, LimitsAreAnswered429WithTheBucketsTime) {
  for (const auto reason :
       {RefusalReason::RequestsPerMinute,
        RefusalReason::TokensPerMinute,
        RefusalReason::QueueFull}) {
    const auto response = answer(reason, milliseconds(2300));
    EXPECT_EQ(response.status, 429);
    EXPECT_EQ(response.headers.find("Retry-After"), "3");
    EXPECT_EQ(response.headers.find("retry-after-ms"), "2300");
    EXPECT_THAT(response.body, HasSubstr("\"type\":\"rate_limit_error\""));
    EXPECT_THAT(response.body, HasSubstr("\"message\":\"why\""));
  }
}

TEST(AdmissionAnswer, WhatWaitingDoesNotHelpIsToldNotToTryAgain) {
  const auto response = answer(RefusalReason::TooLarge, std::nullopt);
  EXPECT_EQ(response.status, 429);
  EXPECT_FALSE(response.headers.find("Retry-After").has_value());
  EXPECT_EQ(response.headers.find("x-should-retry"), "false");
}

TEST(AdmissionAnswer, TheRestHasTheStatusThatClientsKnow) {
  EXPECT_EQ(answer(RefusalReason::Deadline, seconds(1)).status, 503);
  EXPECT_EQ(answer(RefusalReason::NoClass, std::nullopt).status, 400);
  const auto denied = answer(RefusalReason::ClassDenied, std::nullopt);
  EXPECT_EQ(denied.status, 403);
  EXPECT_THAT(denied.body, HasSubstr("\"type\":\"permission_error\""));
  EXPECT_FALSE(denied.headers.find("Retry-After").has_value());
}

TEST(AdmissionAnswer, RatesAreToldLikeOpenAis) {
  net::HttpHeaders headers;
  add_rate_headers(
      {.requests = api::RateState{.limit = 60, .remaining = 59, .whole_in = seconds(1)},
       .tokens = std::nullopt},
      headers
  );
  EXPECT_EQ(headers.find("x-ratelimit-limit-requests"), "60");
  EXPECT_EQ(headers.find("x-ratelimit-remaining-requests"), "59");
  EXPECT_EQ(headers.find("x-ratelimit-reset-requests"), "1s");
  EXPECT_FALSE(headers.find("x-ratelimit-limit-tokens").has_value());
}

TEST(AdmissionAnswer, TimesAreWrittenShortly) {
  EXPECT_EQ(duration_text(seconds(0)), "0s");
  EXPECT_EQ(duration_text(Nanoseconds(1)), "1ms");
  EXPECT_EQ(duration_text(milliseconds(999)), "999ms");
  EXPECT_EQ(duration_text(milliseconds(1500)), "1.5s");
  EXPECT_EQ(duration_text(seconds(360)), "6m0s");
  EXPECT_EQ(duration_text(milliseconds(90'050)), "1m30.05s");
  EXPECT_EQ(duration_text(seconds(3661)), "1h1m1s");
}

}  // namespace
}  // namespace pleiad::server
