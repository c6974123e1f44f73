#include "router/loop_admission.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using api::AdmissionGrant;
using api::AdmissionVerdict;
using ::testing::HasSubstr;

class LoopAdmissionTest : public ::testing::Test {
 protected:
  static bool let_in(const AdmissionVerdict& verdict) {
    return std::holds_alternative<AdmissionGrant>(verdict);
  }
  // Appends to `told` what becomes of a request: 1 for a start, 0 for a refusal.
  api::AdmissionTicket enter(std::vector<int>& told) {
    return gate_.enter(arrival(), [&told](const AdmissionVerdict& verdict) {
      told.push_back(let_in(verdict) ? 1 : 0);
    });
  }
  static api::Arrival arrival() { return {.key = "a", .prompt_tokens = 1, .output_tokens_max = 1}; }

  net::EventLoop loop_;
  MetricsRegistry metrics_;
  SystemClock clock_;
  LoopAdmission gate_{
      loop_,
      metrics_,
      clock_,
      {.classes = {{.name = "only", .queue_max = 2, .wait_max = std::chrono::milliseconds(5)}},
       .concurrent_max = 1}};
};

TEST_F(LoopAdmissionTest, TellsEveryRequestOnce) {
  std::vector<int> told;

  const auto first = enter(told);
  const auto second = enter(told);
  EXPECT_EQ(told, std::vector{1});
  gate_.leave(first, 2);
  EXPECT_EQ(told, (std::vector{1, 1}));
  gate_.leave(second, 2);
  EXPECT_EQ(told.size(), 2U);
}

TEST_F(LoopAdmissionTest, WhoeverIsToldMayLeaveAndEnterAtOnce) {
  std::vector<int> told;
  const auto first = enter(told);
  api::AdmissionTicket second;
  std::vector<int> third;
  second = gate_.enter(arrival(), [&](const AdmissionVerdict&) {
    gate_.leave(second, 0);
    enter(third);
  });

  gate_.leave(first, 0);

  EXPECT_EQ(third, std::vector{1});
}

TEST_F(LoopAdmissionTest, WhoeverLeftIsNotTold) {
  std::vector<int> told;
  const auto first = enter(told);
  std::vector<int> silent;
  const auto second = enter(silent);
  gate_.leave(second, 0);
  gate_.leave(first, 0);
  EXPECT_TRUE(silent.empty());
}

TEST_F(LoopAdmissionTest, DeadlinesPassByThemselves) {
  std::vector<int> told;
  enter(told);
  gate_.enter(arrival(), [this](const AdmissionVerdict& verdict) {
    EXPECT_FALSE(let_in(verdict));
    loop_.stop();
  });

  loop_.run();

  const std::string metrics = metrics_.render();
  EXPECT_THAT(
      metrics,
      HasSubstr("pleiad_router_refused_requests_total{class=\"only\",reason=\"deadline\"} 1")
  );
  EXPECT_THAT(metrics, HasSubstr("pleiad_router_queue_requests{class=\"only\"} 0"));
  EXPECT_THAT(metrics, HasSubstr("pleiad_router_admitted_requests 1"));
  EXPECT_THAT(metrics, HasSubstr("pleiad_router_queue_time_seconds_count{class=\"only\"} 1"));
}

TEST_F(LoopAdmissionTest, OtherRulesLetInWhatWaits) {
  std::vector<int> told;
  enter(told);
  enter(told);

  gate_.set_rules({.classes = {{.name = "new", .queue_max = 2}}, .concurrent_max = 2});

  EXPECT_EQ(told, (std::vector{1, 1}));
}

}  // namespace
}  // namespace pleiad::router
