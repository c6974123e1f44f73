#include "api/worker_report.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::api {
namespace {

using ::testing::HasSubstr;

WorkerReport report() {
  return {
      .instance = "i",
      .identity =
          {.version = "1", .model = "m", .digest = "d", .compute = "float32", .page_tokens = 64},
      .role = Role::Decode,
      .limits = {.vocabulary = 10, .model_tokens_max = 20},
      .accepting = true,
      .ranks = {{.accepting = true, .running = 1, .pages_total = 5, .tokens_outstanding = 9}, {}},
  };
}

TEST(WorkerReport, SurvivesItsJson) {
  const auto back = worker_report_of(parse_json(to_json(report()).dump()).value());

  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->instance, "i");
  EXPECT_EQ(back->identity, report().identity);
  EXPECT_EQ(back->role, Role::Decode);
  EXPECT_EQ(back->limits.model_tokens_max, 20);
  EXPECT_TRUE(back->accepting);
  ASSERT_EQ(back->ranks.size(), 2U);
  EXPECT_EQ(back->ranks[0].running, 1);
  EXPECT_EQ(back->ranks[0].pages_total, 5);
  EXPECT_EQ(back->ranks[0].tokens_outstanding, 9);
  EXPECT_FALSE(back->ranks[1].accepting);
}

TEST(WorkerReport, WhatIsMissingOrNoneIsNamed) {
  for (const char* name :
       {"instance", "digest", "page_tokens", "vocabulary", "accepting", "ranks"}) {
    Json json = to_json(report());
    json.set(name, Json());
    EXPECT_THAT(worker_report_of(json).error().message, HasSubstr(name[0] == 'r' ? "ranks" : name));
  }
  Json json = to_json(report());
  json.set("vocabulary", -1);
  EXPECT_FALSE(worker_report_of(json).ok());
  json = to_json(report());
  json.set("role", "both ways");
  EXPECT_THAT(worker_report_of(json).error().message, HasSubstr("role both ways"));
  json = to_json(report());
  json.set("ranks", JsonArray{Json("x")});
  EXPECT_FALSE(worker_report_of(json).ok());
  EXPECT_FALSE(worker_report_of(Json(1)).ok());
}

TEST(WorkerReport, EqualIdentitiesDifferInNothing) {
  EXPECT_EQ(difference(report().identity, report().identity), "");
}

}  // namespace
}  // namespace pleiad::api
