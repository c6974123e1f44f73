// Also tests: layout_report_text.cc
#include "plan/layout_report.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::plan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kGib = std::int64_t{1} << 30U;

// A model of the size of DeepSeek-V3 in bfloat16.
ModelFacts large_model() {
  return {
      .name = "large",
      .layers = 61,
      .moe_layers = 58,
      .hidden = 7168,
      .experts = 256,
      .topk = 8,
      .vocabulary = 129280,
      .expert_partial_sums = 2,
      .expert_bytes = std::int64_t{3} * 7168 * 2048 * 2,
      .dense_bytes = 40 * kGib,
      .dense_step_bytes = 38 * kGib,
      .kv_bytes_per_token = 61 * 576 * 2,
      .activation_bytes = 2,
      .scratch_bytes = kGib};
}

LayoutReportInput input_of(const LayoutRequest& request, std::int64_t memory = 141 * kGib) {
  return {
      .facts = large_model(),
      .layout = plan_layout(request).value(),
      .device_memory_bytes = memory,
      .memory_fraction = 0.9};
}

LayoutReport report_of(const LayoutRequest& request, std::int64_t memory = 141 * kGib) {
  return report_layout(input_of(request, memory)).value();
}

TEST(LayoutReport, CountsTheBytesOfTheLargestRank) {
  const LayoutReport report = report_of({.ep_size = 32});

  EXPECT_TRUE(report.fits());
  EXPECT_EQ(report.rank.experts, 8 * 58 * large_model().expert_bytes);
  EXPECT_EQ(report.rank.dense, 40 * kGib);
  EXPECT_GT(report.rank.dispatch_buffers, 0);
  EXPECT_LE(report.rank.without_kv() + report.rank.kv, report.budget_bytes);
  EXPECT_EQ(report.kv_tokens % 64, 0);
  EXPECT_EQ(report.kv_tokens * large_model().kv_bytes_per_token, report.rank.kv);
  EXPECT_EQ(report.kv_tokens_all, 32 * report.kv_tokens);
  EXPECT_THAT(report.notes, IsEmpty());
}

TEST(LayoutReport, UnevenExpertsCountAtTheirMost) {
  const LayoutReport report = report_of({.ep_size = 24});

  EXPECT_EQ(report.experts_per_rank_max, 11);
  EXPECT_EQ(report.experts_per_rank_min, 10);
  EXPECT_EQ(report.rank.experts, 11 * 58 * large_model().expert_bytes);
  EXPECT_THAT(
      report.notes,
      ElementsAre(HasSubstr("11 on some ranks, 10 on others"), HasSubstr("no whole subtree"))
  );
}

TEST(LayoutReport, Level1SendsEveryRowToEveryRank) {
  const LayoutReport report = report_of({.ep_size = 32});

  EXPECT_DOUBLE_EQ(report.level1.rows_dispatched, 32);
  EXPECT_DOUBLE_EQ(report.level1.bytes_dispatched, 31.0 * (8 * 8 + 7168 * 2));
}

TEST(LayoutReport, Level2SendsARowToEachRankThatHoldsAChosenExpert) {
  const LayoutReport report = report_of({.ep_size = 8});

  EXPECT_NEAR(report.level2.rows_dispatched, 5.29465, 1e-4);
  EXPECT_NEAR(report.level2.rows_returned, 5.29465, 1e-4);
  EXPECT_NEAR(report.level2.bytes_dispatched, 5.29465 * 7 / 8 * (64 + 14336), 2.0);
  EXPECT_NEAR(report.level2.bytes_returned, 5.29465 * 7 / 8 * 14336, 2.0);
  EXPECT_DOUBLE_EQ(report.level1.bytes_returned, report.level2.bytes_returned);
}

TEST(LayoutReport, ShardsOfAnExpertEachTakeTheRow) {
  const LayoutReport whole = report_of({.ep_size = 8});
  const LayoutReport shared = report_of({.ep_size = 8, .moe_tp_size = 2});

  EXPECT_NEAR(shared.level2.rows_dispatched, 2 * whole.level2.rows_dispatched, 1e-9);
  EXPECT_EQ(shared.rank.experts, whole.rank.experts / 2);
}

TEST(LayoutReport, TensorPartsDivideDenseWeightsAndHeadsOfKeysAndValues) {
  LayoutReportInput input = input_of({.ep_size = 32});
  input.facts.shared_out_bytes = 8 * kGib;
  const LayoutReport whole = *report_layout(input);
  input.layout = plan_layout({.tp_size = 4, .ep_size = 32}).value();
  const LayoutReport latent = *report_layout(input);
  input.facts.kv_heads = 2;
  const LayoutReport heads = *report_layout(input);

  EXPECT_EQ(latent.rank.dense, whole.rank.dense - 6 * kGib);
  EXPECT_THAT(latent.notes, testing::Contains(HasSubstr("one latent serves all heads")));
  EXPECT_NEAR(
      static_cast<double>(heads.kv_tokens), 2.0 * static_cast<double>(latent.kv_tokens), 128.0
  );
  EXPECT_THAT(heads.notes, testing::Contains(HasSubstr("some are held more than once")));
}

TEST(LayoutReport, OneRankAloneSendsNothing) {
  const LayoutReport report = report_of({}, 2000 * kGib);

  EXPECT_EQ(report.rank.dispatch_buffers + report.rank.combine_buffers, 0);
  EXPECT_DOUBLE_EQ(report.level1.bytes(), 0.0);
  EXPECT_DOUBLE_EQ(report.level2.bytes(), 0.0);
}

TEST(LayoutReport, WhatDoesNotFitNamesTheNearestSizeThatDoes) {
  const LayoutReport report = report_of({.ep_size = 8});

  EXPECT_FALSE(report.fits());
  EXPECT_EQ(report.kv_tokens, 0);
  ASSERT_EQ(report.refusals.size(), 1U);
  EXPECT_THAT(report.refusals[0], HasSubstr("141.00 GiB x 0.9 leaves 126.90 GiB"));
  const std::string& text = report.refusals[0];
  const std::int32_t nearest = std::stoi(text.substr(text.rfind(' ') + 1));
  EXPECT_TRUE(report_of({.ep_size = nearest}).fits());
  EXPECT_FALSE(report_of({.ep_size = nearest - 1}).fits());
}

TEST(LayoutReport, WhenNoSizeFitsTheMemoryThatWouldIsNamed) {
  const LayoutReport report = report_of({.ep_size = 8}, 40 * kGib);

  ASSERT_EQ(report.refusals.size(), 1U);
  EXPECT_THAT(
      report.refusals[0], AllOf(HasSubstr("no larger --ep-size fits"), HasSubstr("--device-memory"))
  );
}

TEST(LayoutReport, BrokenRulesAreRefusalsBesideTheNumbers) {
  LayoutReportInput input = input_of({.ep_size = 32, .moe_tp_size = 4});
  EXPECT_THAT(
      report_layout(input)->refusals, ElementsAre(HasSubstr("must divide the 2 partial sums"))
  );
  input = input_of({.ep_size = 32});
  input.settings.topk_scaling_factor = 2;
  EXPECT_THAT(report_layout(input)->refusals, ElementsAre(HasSubstr("topk_scaling_factor is 2")));
}

TEST(LayoutReport, TheCutoffShrinksBuffersOfLevel1) {
  LayoutReportInput input = input_of({.ep_size = 32});
  input.settings = {.level = EpLevel::AllGather};
  const RankBytes all = report_layout(input)->rank;
  input.settings.enable_init_routing_cutoff = true;
  input.settings.topk_scaling_factor = 0.25;
  const RankBytes cut = report_layout(input)->rank;

  EXPECT_LT(cut.dispatch_buffers, all.dispatch_buffers / 3);
  EXPECT_LT(cut.combine_buffers, all.combine_buffers / 2);
}

TEST(LayoutReport, NumbersThatAreNoneAreRefused) {
  LayoutReportInput input = input_of({.ep_size = 8});
  input.facts.topk = 257;
  EXPECT_THAT(report_layout(input).error().message, HasSubstr("topk 257 of 256 experts"));
  input = input_of({.ep_size = 8});
  input.facts.kv_bytes_per_token = 0;
  EXPECT_THAT(report_layout(input).error().message, HasSubstr("kv_bytes_per_token is 0"));
  input = input_of({.ep_size = 8});
  input.memory_fraction = 1.5;
  EXPECT_THAT(report_layout(input).error().message, HasSubstr("(0, 1]"));
  input = input_of({.ep_size = 8}, 0);
  EXPECT_THAT(report_layout(input).error().message, HasSubstr("device_memory_bytes is 0"));
}

TEST(LayoutReport, MoreRanksNeverHoldMoreWeights) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int round = 0; round < 50; ++round) {
    const auto size = static_cast<std::int32_t>(random.between(1, 300));
    const LayoutReport fewer = report_of({.ep_size = size});
    const LayoutReport more = report_of({.ep_size = size + 1});
    ASSERT_LE(more.rank.experts, fewer.rank.experts);
    ASSERT_GE(more.level2.rows_dispatched, fewer.level2.rows_dispatched - 1e-9);
    ASSERT_LE(more.level2.rows_dispatched, 8.0 + 1e-9);
    ASSERT_LE(more.level2.rows_returned, 8.0 + 1e-9);
    ASSERT_LE(
        more.rank.without_kv() + more.rank.kv, std::max(more.budget_bytes, more.rank.without_kv())
    );
  }
}

TEST(LayoutReport, TextAlignsAndEndsWithTheVerdict) {
  const std::string text = to_text(report_of({.ep_size = 32, .nnodes = 4}));

  EXPECT_THAT(
      text, HasSubstr("32 ranks on 4 nodes: dp 32 x tp 1 = ep 32 x moe_tp 1, ep_level auto")
  );
  EXPECT_THAT(text, HasSubstr("  dense weights              40.00 GiB\n"));
  EXPECT_THAT(text, HasSubstr("  scratch                     1.00 GiB\n"));
  EXPECT_TRUE(text.ends_with("\nfits\n"));
  EXPECT_THAT(to_text(report_of({.ep_size = 8})), HasSubstr("refused: a rank needs"));
}

TEST(LayoutReport, JsonHoldsTheNumbers) {
  const LayoutReport report = report_of({.ep_size = 32});
  const Json json = parse_json(to_json(report).dump()).value();

  EXPECT_EQ(json.find("fits")->as_bool(), true);
  EXPECT_EQ(json.find("layout")->find("ep_size")->as_int(), 32);
  EXPECT_EQ(json.find("rank")->find("expert_bytes")->as_int(), report.rank.experts);
  EXPECT_EQ(json.find("rank")->find("kv_tokens")->as_int(), report.kv_tokens);
  EXPECT_EQ(
      json.find("per_token_and_layer")->find("level1")->find("rows_dispatched")->as_double(), 32.0
  );
  EXPECT_TRUE(json.find("refusals")->as_array()->empty());
}

TEST(BytesText, HasTwoDecimalsAndBinaryUnits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.50 KiB");
  EXPECT_EQ(bytes_text(0x1p60), "1024.00 PiB");
}

}  // namespace
}  // namespace pleiad::plan
