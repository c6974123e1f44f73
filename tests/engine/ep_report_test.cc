#include "engine/ep_report.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/engine_harness.h"

namespace pleiad::engine {
namespace {

std::int64_t number(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  return value == nullptr ? -1 : value->as_int().value_or(-1);
}

TEST(EpReport, ShowsEveryExpertsPlaceAndWhatRanksDid) {
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.layout = {.dp_size = 3, .ep_size = 3};
  EngineHarness harness(settings);
  RecordingSink sink;
  ASSERT_TRUE(
      harness.balancer
          ->submit({.prompt = {0, 3, 500, 600, 4}, .max_tokens = 4, .ignore_eos = true}, sink)
          .ok()
  );
  sink.wait();
  std::vector<api::Generator*> ranks;
  for (const auto& engine : harness.ranks->engines())
    ranks.push_back(engine.get());

  const std::vector<std::optional<NodeCounts>> nodes = {counts_of(harness.ranks->engines())};
  const Json report = ep_report(harness.ranks->model(), settings.layout, ranks, nodes, 7);

  EXPECT_EQ(number(report, "epoch"), 7);
  EXPECT_EQ(number(report, "ep_size"), 3);
  EXPECT_EQ(number(report, "tp_size"), 1);
  const JsonArray& told = *report.find("ranks")->as_array();
  ASSERT_EQ(told.size(), 3U);
  // Eight rows, four choices each, five layers: every one was computed somewhere.
  std::int64_t assignments = 0;
  for (const Json& rank : told)
    assignments += number(rank, "assignments");
  EXPECT_EQ(assignments, 8 * 4 * 5);
  EXPECT_GT(number(told[0], "dispatch_bytes"), 0);
  EXPECT_EQ(number(told[0], "pages_held"), 0);

  const JsonArray& layers = *report.find("layers")->as_array();
  ASSERT_EQ(layers.size(), 5U);
  for (const Json& layer : layers) {
    std::vector<bool> seen(32);
    for (const Json& rank : *layer.find("slots")->as_array()) {
      for (const Json& expert : *rank.as_array())
        seen[static_cast<std::size_t>(*expert.as_int())] = true;
    }
    EXPECT_EQ(std::ranges::count(seen, true), 32);
    std::int64_t tokens = 0;
    for (const Json& count : *layer.find("tokens")->as_array())
      tokens += *count.as_int();
    EXPECT_EQ(tokens, 8 * 4);
  }
}

// Three ranks here, told of as if they were on three nodes.
TEST(EpReport, SumsOverNodesThatHaveTold) {
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.layout = {.dp_size = 3, .ep_size = 3};
  const EngineHarness harness(settings);
  const std::vector<api::Generator*> ranks(3, harness.engine);
  const plan::ParallelLayout layout{.dp_size = 3, .ep_size = 3, .nnodes = 3};
  std::vector<std::uint64_t> tokens(std::size_t{5} * 32);
  tokens[32] = 3;  // layer 1, expert 0
  std::vector<std::optional<NodeCounts>> nodes(3);
  nodes[0] =
      NodeCounts{.ranks = {{.status = {}, .ep = {.assignments = 1}}}, .expert_tokens = tokens};
  tokens[32] = 0;
  tokens[33] = 1;
  nodes[2] = NodeCounts{
      .ranks = {{.status = {}, .ep = {.combine_wait_ns = 5'000'000'000, .assignments = 2}}},
      .expert_tokens = tokens};

  const Json report = ep_report(harness.ranks->model(), layout, ranks, nodes, 1);

  const JsonArray& told = *report.find("ranks")->as_array();
  ASSERT_EQ(told.size(), 3U);
  EXPECT_EQ(number(told[0], "assignments"), 1);
  EXPECT_EQ(told[1].find("assignments"), nullptr);
  EXPECT_EQ(number(told[1], "node"), 1);
  EXPECT_EQ(number(told[1], "running"), 0);
  EXPECT_EQ(number(told[2], "assignments"), 2);
  EXPECT_EQ(told[2].find("combine_wait_seconds")->as_double().value(), 5.0);
  const Json& layer = (*report.find("layers")->as_array())[1];
  EXPECT_EQ((*layer.find("tokens")->as_array())[0], Json(3));
  EXPECT_EQ((*layer.find("tokens")->as_array())[1], Json(1));
  // Four tokens over 32 experts, three on the busiest.
  EXPECT_DOUBLE_EQ(layer.find("balancedness")->as_double().value(), 4.0 / 32 / 3);
}

}  // namespace
}  // namespace pleiad::engine
