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

  const Json report = ep_report(*harness.ranks, settings.layout, ranks, 7);

  EXPECT_EQ(number(report, "epoch"), 7);
  EXPECT_EQ(number(report, "ep_size"), 3);
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

}  // namespace
}  // namespace pleiad::engine
