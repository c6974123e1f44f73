// Also tests: workers_json.cc
#include "router/route_explanation.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/workers_json.h"

namespace pleiad::router {
namespace {

using ::testing::HasSubstr;

// Two workers of one and two dp ranks; the first has the first two pages of the prompt.
class RouteExplanation : public ::testing::Test {
 protected:
  RouteExplanation() {
    add("http://a", 1);
    add("http://b", 2);
    table_.prefixes().add(0, std::span(keys_).first(2));
  }
  void add(const std::string& url, std::size_t ranks, api::Role role = api::Role::Both) {
    const WorkerIndex worker = table_.add(url).value();
    table_.reported(
        worker,
        {.instance = "i",
         .identity =
             {.version = "1", .model = "m", .digest = "d", .compute = "c", .page_tokens = 64},
         .role = role,
         .limits = {.vocabulary = 10, .model_tokens_max = 1000},
         .accepting = true,
         .ranks = std::vector<api::GeneratorStatus>(ranks, {.accepting = true, .pages_total = 100})}
    );
  }
  Json explain(std::string_view session = "") {
    return explain_route(
        table_,
        {.policy = &policy_, .prefill_policy = &policy_, .prefill_tokens_min = 100},
        {.prompt_tokens = 200, .keys = keys_, .session = session}
    );
  }

  WorkerTable table_;
  Policy policy_{{}, 1};
  std::vector<std::uint64_t> keys_ = {11, 22, 33};
};

TEST_F(RouteExplanation, NamesTheChoiceAndWhatItRestsOn) {
  const Json out = explain();

  const Json& choice = *out.find("choice");
  EXPECT_EQ(*choice.find("worker")->as_string(), "http://a");
  EXPECT_EQ(*choice.find("reason")->as_string(), "cached");
  EXPECT_EQ(choice.find("cached_tokens")->as_int(), 128);
  EXPECT_EQ(*out.find("policy")->as_string(), "cache_aware");
  ASSERT_EQ(out.find("units")->as_array()->size(), 3U);
  EXPECT_EQ(explain().dump(), out.dump()) << "asking changes nothing";
}

TEST_F(RouteExplanation, SaysWhyAUnitMayNotBeChosen) {
  table_.set_draining(0, true);
  table_.full(1);
  table_.loads().begin(2, {.prefill = 9000, .held = 9100});

  const Json out = explain();

  const JsonArray& units = *out.find("units")->as_array();
  EXPECT_EQ(*units[0].find("why_not")->as_string(), "draining");
  EXPECT_THAT(*units[1].find("why_not")->as_string(), HasSubstr("no room"));
  EXPECT_EQ(units[2].find("eligible")->as_bool(), true);
  EXPECT_EQ(units[2].find("prefill_tokens")->as_int(), 9000);
  EXPECT_EQ(out.find("choice")->find("dp_rank")->as_int(), 1);
  table_.lost(1, "connection reset");
  EXPECT_TRUE(explain().find("choice")->is_null());
  EXPECT_THAT(explain().dump(), HasSubstr("down: connection reset"));
}

TEST_F(RouteExplanation, ASessionStaysUnlessItsUnitIsTooBusy) {
  const auto unit = [](const Json& out) {
    const Json& choice = *out.find("choice");
    return *choice.find("worker")->as_string() + choice.find("dp_rank")->dump();
  };
  const Json before = explain("somebody");
  EXPECT_EQ(*before.find("choice")->find("reason")->as_string(), "session");

  const UnitIndex its = unit(before) == "http://a0" ? 0U : unit(before) == "http://b0" ? 1U : 2U;
  table_.loads().begin(its, {.prefill = 50'000, .held = 50'000});

  const Json after = explain("somebody");
  EXPECT_NE(unit(after), unit(before));
  EXPECT_EQ((*after.find("units")->as_array())[its].find("too_busy")->as_bool(), true);
}

TEST_F(RouteExplanation, ADecodeWorkerIsPairedWhereThatIsWorthTheWay) {
  table_.remove(0);
  table_.remove(1);
  add("http://d", 1, api::Role::Decode);
  EXPECT_THAT(explain().dump(), HasSubstr(R"("why_no_prefill":"no prefill worker is ready")"));
  add("http://p", 1, api::Role::Prefill);

  const Json out = explain();
  EXPECT_EQ(*out.find("choice")->find("worker")->as_string(), "http://d");
  EXPECT_EQ(*out.find("prefill")->find("worker")->as_string(), "http://p");
  const JsonArray& units = *out.find("units")->as_array();
  EXPECT_EQ(*units[1].find("role")->as_string(), "prefill");
  EXPECT_EQ(units[1].find("eligible")->as_bool(), true);

  table_.prefixes().add(3, keys_);
  EXPECT_THAT(explain().dump(), HasSubstr("8 prompt tokens are to be computed, from 100 on"));
}

TEST_F(RouteExplanation, RemovedWorkersAreNotListed) {
  table_.remove(1);
  EXPECT_EQ(explain().find("units")->as_array()->size(), 1U);
  EXPECT_EQ(workers_json(table_).find("workers")->as_array()->size(), 1U);
}

TEST_F(RouteExplanation, WorkersAreListedWithTheirReports) {
  table_.missed(0, "no answer");
  const Json out = workers_json(table_);
  const JsonArray& workers = *out.find("workers")->as_array();
  EXPECT_EQ(*workers[0].find("url")->as_string(), "http://a");
  EXPECT_EQ(*workers[0].find("state")->as_string(), "ready");
  EXPECT_EQ(workers[0].find("missed_reports")->as_int(), 1);
  const Json& rank = workers[1].find("ranks")->as_array()->at(1);
  EXPECT_EQ(rank.find("report")->find("pages_total")->as_int(), 100);
}

}  // namespace
}  // namespace pleiad::router
