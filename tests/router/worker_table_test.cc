#include "router/worker_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

api::WorkerReport report_of(std::string instance, std::size_t ranks) {
  return {
      .instance = std::move(instance),
      .identity =
          {.version = "1", .model = "m", .digest = "d", .compute = "float32", .page_tokens = 64},
      .limits = {.vocabulary = 100, .model_tokens_max = 1000},
      .accepting = true,
      .ranks = std::vector<api::GeneratorStatus>(ranks, {.accepting = true, .pages_total = 8}),
  };
}

TEST(WorkerTable, AWorkerIsReadyOnceItReports) {
  WorkerTable table;
  const WorkerIndex worker = table.add("http://a:1").value();
  EXPECT_FALSE(table.any_eligible());
  EXPECT_EQ(table.limits().model_tokens_max, INT32_MAX);

  table.reported(worker, report_of("x", 2));
  EXPECT_EQ(table.workers()[worker].state, WorkerState::Ready);
  EXPECT_THAT(table.eligible(), ElementsAre(1, 1));
  EXPECT_EQ(table.place(1).dp_rank, 1);
  EXPECT_EQ(table.limits().model_tokens_max, 1000);
}

TEST(WorkerTable, OneThatAcceptsNothingIsBusyAndOneThatDrainsIsLeftAlone) {
  WorkerTable table;
  const WorkerIndex worker = table.add("http://a:1").value();
  auto report = report_of("x", 1);
  report.accepting = false;
  table.reported(worker, report);
  EXPECT_EQ(table.workers()[worker].state, WorkerState::Busy);
  report.accepting = true;
  table.reported(worker, report);
  table.set_draining(worker, true);
  EXPECT_EQ(table.workers()[worker].state, WorkerState::Draining);
  table.reported(worker, report);
  EXPECT_EQ(table.workers()[worker].state, WorkerState::Draining);
  EXPECT_FALSE(table.any_eligible());
  table.set_draining(worker, false);
  EXPECT_TRUE(table.any_eligible());
}

TEST(WorkerTable, SilenceCountsBeforeAWorkerIsDownAndABrokenConnectionAtOnce) {
  WorkerTable table({.misses_max = 3});
  const WorkerIndex worker = table.add("http://a:1").value();
  table.reported(worker, report_of("x", 1));
  table.missed(worker, "no answer");
  table.missed(worker, "no answer");
  EXPECT_TRUE(table.any_eligible());
  table.missed(worker, "no answer");
  EXPECT_EQ(table.workers()[worker].state, WorkerState::Down);
  EXPECT_EQ(table.workers()[worker].reason, "no answer");
  table.reported(worker, report_of("x", 1));
  EXPECT_TRUE(table.any_eligible());
  table.lost(worker, "reset");
  EXPECT_FALSE(table.any_eligible());
}

TEST(WorkerTable, WhatDoesNotFitThePoolIsRefusedWithBothValues) {
  struct Case {
    std::string api::WorkerReport::Identity::*field;
    std::string_view name;
  };
  for (const Case& c :
       {Case{&api::WorkerReport::Identity::version, "version 1 here, other there"},
        Case{&api::WorkerReport::Identity::model, "model m here, other there"},
        Case{&api::WorkerReport::Identity::digest, "digest d here, other there"},
        Case{&api::WorkerReport::Identity::compute, "compute float32 here, other there"}}) {
    WorkerTable table;
    table.reported(table.add("http://a:1").value(), report_of("x", 1));
    const WorkerIndex odd = table.add("http://b:1").value();
    auto report = report_of("y", 1);
    report.identity.*c.field = "other";
    table.reported(odd, report);
    EXPECT_EQ(table.workers()[odd].state, WorkerState::Refused);
    EXPECT_EQ(table.workers()[odd].reason, c.name);
  }
  WorkerTable table;
  table.reported(table.add("http://a:1").value(), report_of("x", 1));
  const WorkerIndex odd = table.add("http://b:1").value();
  auto report = report_of("y", 1);
  report.identity.page_tokens = 16;
  table.reported(odd, report);
  EXPECT_EQ(table.workers()[odd].reason, "page_tokens 64 here, 16 there");
}

TEST(WorkerTable, AWorkerOfAnotherRoleIsRefusedForItAndSaysNothingOfThePool) {
  WorkerTable table;
  const WorkerIndex stray = table.add("http://a:1", api::Role::Prefill).value();
  const WorkerIndex decode = table.add("http://b:1", api::Role::Decode).value();
  auto report = report_of("x", 1);
  report.identity.compute = "bfloat16";
  table.reported(stray, report);
  report = report_of("y", 1);
  report.role = api::Role::Decode;
  table.reported(decode, report);
  EXPECT_EQ(table.workers()[stray].state, WorkerState::Refused);
  EXPECT_THAT(table.workers()[stray].reason, HasSubstr("prefill is wanted, the worker's is both"));
  EXPECT_EQ(table.workers()[decode].state, WorkerState::Ready);
}

TEST(WorkerTable, ARestartedWorkerHasAnEmptyCacheAndKeepsItsNumbers) {
  WorkerTable table;
  const WorkerIndex worker = table.add("http://a:1").value();
  table.reported(worker, report_of("x", 1));
  table.loads().begin(0, {.prefill = 5, .held = 10});
  table.prefixes().add(0, std::vector<std::uint64_t>{1, 2, 3});
  EXPECT_EQ(table.prefixes().pages_of(0), 3U);

  table.reported(worker, report_of("x", 1));
  EXPECT_EQ(table.prefixes().pages_of(0), 3U);
  table.reported(worker, report_of("another start", 2));
  EXPECT_EQ(table.prefixes().pages_of(0), 0U);
  EXPECT_EQ(table.loads().load(0).requests, 1);  // ends when its connection does
  EXPECT_THAT(table.eligible(), ElementsAre(1, 1));
  table.reported(worker, report_of("a third", 1));
  EXPECT_THAT(table.eligible(), ElementsAre(1, 0));
  table.prefixes().add(0, std::vector<std::uint64_t>{1, 2});
  table.reported(worker, report_of("a third", 1));  // with fewer ranks than numbers
  EXPECT_EQ(table.prefixes().pages_of(0), 2U);
}

TEST(WorkerTable, UrlsAreNamesUntilAWorkerIsRemoved) {
  WorkerTable table({.workers_max = 2});
  const WorkerIndex worker = table.add("http://a:1").value();
  EXPECT_THAT(table.add("http://a:1").error().message, HasSubstr("http://a:1 already"));
  EXPECT_EQ(table.find("http://a:1"), worker);
  table.remove(worker);
  EXPECT_EQ(table.find("http://a:1"), std::nullopt);
  EXPECT_TRUE(table.add("http://a:1").ok());
  EXPECT_TRUE(table.add("http://b:1").ok());
  EXPECT_THAT(table.add("http://c:1").error().message, HasSubstr("2 workers"));
}

}  // namespace
}  // namespace pleiad::router
