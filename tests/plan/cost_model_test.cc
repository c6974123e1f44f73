#include "plan/cost_model.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::plan {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Rows = std::vector<std::int64_t>;

ModelFacts small_model() {
  return {
      .name = "small",
      .layers = 12,
      .moe_layers = 10,
      .hidden = 1000,
      .experts = 64,
      .topk = 4,
      .expert_partial_sums = 2,
      .expert_bytes = 1'000'000,
      .dense_bytes = 100'000'000,
      .dense_step_bytes = 80'000'000,
      .bytes_per_parameter = 2.0,
      .kv_bytes_per_token = 1000,
      .activation_bytes = 2};
}

MachineConstants machine() {
  return {
      .memory_bytes_per_second = 1e11,
      .flops_per_second = 1e12,
      .cores_per_rank = 2,
      .message_seconds = 1e-5,
      .link_bytes_per_second = 1e10};
}

CostModel model_of(const LayoutRequest& request, const EpSettings& settings = {}) {
  return CostModel::make(small_model(), plan_layout(request).value(), settings, machine()).value();
}

std::string refusal(const ModelFacts& facts, const MachineConstants& constants) {
  const auto model = CostModel::make(facts, plan_layout({.ep_size = 8}).value(), {}, constants);
  return model.ok() ? "" : model.error().message;
}

TEST(CostModel, OneRowOnOneRankCostsTheReadingOfItsWeights) {
  const StepCost cost = model_of({}).even_step(EpLevel::AllGather, 1);

  EXPECT_DOUBLE_EQ(cost.dense_seconds, 80e6 / 1e11);
  EXPECT_NEAR(cost.expert_seconds, 10 * 4 * 1e6 / 1e11, 1e-12);
  EXPECT_DOUBLE_EQ(cost.exchange_seconds(), 0.0);
  EXPECT_DOUBLE_EQ(cost.wire_bytes, 0.0);
}

TEST(CostModel, ManyRowsCostTheirArithmetic) {
  const StepCost cost = model_of({}).even_step(EpLevel::AllGather, 100'000);

  EXPECT_NEAR(cost.dense_seconds, 1e5 * 80e6 / 2e12, 1e-9);  // 2 flops, 2 bytes a parameter
  EXPECT_NEAR(cost.expert_seconds, 10 * 1e5 * 4 * 1e6 / 2e12, 1e-9);
}

TEST(CostModel, StepsAndRowsCostWhatTheyWereMeasuredToCost) {
  MachineConstants slow = machine();
  slow.step_seconds = 1e-3;
  slow.row_seconds = 2e-3;
  const auto layout = plan_layout({.dp_size = 2, .ep_size = 2}).value();
  const auto model = CostModel::make(small_model(), layout, {}, slow).value();

  EXPECT_NEAR(model.step(EpLevel::AllGather, Rows{3, 1}).fixed_seconds, 7e-3, 1e-12);
}

TEST(CostModel, ARankWaitsOnceForMessagesOfAllPeers) {
  MachineConstants far = machine();
  far.message_seconds = 0;
  far.link_latency_seconds = 1e-3;
  for (const std::int32_t ranks : {2, 8}) {
    const auto layout = plan_layout({.ep_size = ranks}).value();
    const auto model = CostModel::make(small_model(), layout, {}, far).value();
    for (const EpLevel level : {EpLevel::AllGather, EpLevel::AllToAll}) {
      const StepCost cost = model.even_step(level, 0);
      EXPECT_NEAR(cost.exchange_seconds(), 10 * 2 * 1e-3, 1e-9);
      EXPECT_NEAR(cost.agree_seconds, 1e-3, 1e-9);
    }
  }
}

TEST(CostModel, TokensThatChooseFewGroupsTravelLess) {
  ModelFacts grouped = small_model();
  grouped.expert_groups = 8;
  grouped.groups_per_token = 2;
  const auto layout = plan_layout({.ep_size = 8}).value();
  const auto free = CostModel::make(small_model(), layout, {}, machine()).value();
  const auto bound = CostModel::make(grouped, layout, {}, machine()).value();

  EXPECT_LT(
      bound.even_step(EpLevel::AllToAll, 100).wire_bytes,
      free.even_step(EpLevel::AllToAll, 100).wire_bytes
  );
}

TEST(CostModel, Level1SendsEveryRecordToEveryPeer) {
  const StepCost cost = model_of({.ep_size = 8}).even_step(EpLevel::AllGather, 100);

  const double record = 4 * 8 + 2000;
  EXPECT_NEAR(cost.dispatch_seconds, 10 * (7 * 1e-5 + 100 * 7 * record / 1e10), 1e-12);
}

TEST(CostModel, Level2SendsFewerBytesInMoreMessages) {
  const CostModel model = model_of({.ep_size = 8});
  const StepCost gather = model.even_step(EpLevel::AllGather, 100);
  const StepCost all_to_all = model.even_step(EpLevel::AllToAll, 100);

  EXPECT_LT(all_to_all.wire_bytes, gather.wire_bytes);
  EXPECT_LT(
      model.even_step(EpLevel::AllGather, 1).dispatch_seconds,
      model.even_step(EpLevel::AllToAll, 1).dispatch_seconds
  );
  EXPECT_DOUBLE_EQ(all_to_all.expert_seconds, gather.expert_seconds);
}

TEST(CostModel, TheBusiestRankSetsThePace) {
  const CostModel model = model_of({.ep_size = 4});
  const StepCost even = model.step(EpLevel::AllGather, Rows{10'000, 10'000, 10'000, 10'000});
  const StepCost uneven = model.step(EpLevel::AllGather, Rows{40'000, 0, 0, 0});

  EXPECT_NEAR(uneven.dense_seconds, 4 * even.dense_seconds, 1e-9);
  EXPECT_NEAR(uneven.dispatch_seconds, 4 * even.dispatch_seconds, 1e-3);
  EXPECT_NEAR(uneven.wire_bytes, even.wire_bytes, 1.0);
  EXPECT_GT(uneven.rank_wire_bytes_max, even.rank_wire_bytes_max);
}

TEST(CostModel, TensorPartsReadLessAndTalkMore) {
  ModelFacts facts = small_model();
  facts.shared_out_bytes = 60'000'000;
  const auto cost = [&](const LayoutRequest& request) {
    return CostModel::make(facts, plan_layout(request).value(), {}, machine())
        .value()
        .step(EpLevel::AllGather, Rows{1});
  };
  const StepCost parts = cost({.tp_size = 4, .dp_size = 1});

  EXPECT_NEAR(parts.dense_seconds, (80e6 - 45e6) / 1e11, 1e-12);
  // 12 layers of three messages to three peers, and 3/4 of a row of 1000.
  EXPECT_NEAR(parts.tensor_seconds, 12 * (9 * 1e-5 + 0.75 * 8000 / 1e10), 1e-12);
  EXPECT_DOUBLE_EQ(cost({}).tensor_seconds, 0.0);
}

TEST(CostModel, AnEmptyStepCostsItsMessages) {
  const StepCost cost = model_of({.ep_size = 4}).even_step(EpLevel::AllToAll, 0);

  EXPECT_NEAR(cost.exchange_seconds(), 10 * 3 * 3 * 1e-5, 1e-12);
  EXPECT_DOUBLE_EQ(cost.expert_seconds, 0.0);
}

TEST(CostModel, TheCutoffCostsRounds) {
  const EpSettings cut{
      .level = EpLevel::AllGather, .enable_init_routing_cutoff = true, .topk_scaling_factor = 0.25};
  const StepCost whole = model_of({.ep_size = 4}).even_step(EpLevel::AllGather, 100);
  const StepCost parts = model_of({.ep_size = 4}, cut).even_step(EpLevel::AllGather, 100);

  EXPECT_NEAR(parts.dispatch_seconds - whole.dispatch_seconds, 10 * 3 * 3 * 1e-5, 1e-9);
}

TEST(CostModel, SmallBuffersCostRounds) {
  EpSettings tight{.level = EpLevel::AllToAll};
  tight.alltoall_ep_buffer_scale_factors = {{0, 0.25}};
  const StepCost wide = model_of({.ep_size = 8}).even_step(EpLevel::AllToAll, 1000);
  const StepCost narrow = model_of({.ep_size = 8}, tight).even_step(EpLevel::AllToAll, 1000);

  EXPECT_GT(narrow.exchange_seconds(), wide.exchange_seconds());
  EXPECT_DOUBLE_EQ(narrow.wire_bytes, wide.wire_bytes);
}

TEST(CostModel, CostsGrowWithRowsAndExpertsShrinkWithRanks) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int round = 0; round < 200; ++round) {
    const auto ranks = static_cast<std::int32_t>(random.between(1, 64));
    const std::int64_t rows = random.between(1, 4096);
    const EpLevel level = random.below(2) == 0 ? EpLevel::AllGather : EpLevel::AllToAll;
    const CostModel model = model_of({.ep_size = ranks});
    // Fewer rows may fall under a smaller buffer factor, never under a larger cost by more than
    // the rounds that this makes.
    const StepCost less = model.even_step(level, rows);
    const StepCost more = model.even_step(level, rows + 100);
    ASSERT_GE(more.wire_bytes, less.wire_bytes);
    ASSERT_GE(more.expert_seconds, less.expert_seconds);
    ASSERT_GE(more.dense_seconds, less.dense_seconds);
    const std::int64_t all = rows * 64;
    ASSERT_LE(
        model_of({.ep_size = 64}).even_step(level, all / 64).expert_seconds,
        model_of({.ep_size = 1}).even_step(level, all).expert_seconds
    );
  }
}

TEST(CostModel, WhatCannotBeReckonedWithIsRefused) {
  MachineConstants constants = machine();
  constants.link_bytes_per_second = 0;
  EXPECT_THAT(
      refusal(small_model(), constants),
      AllOf(HasSubstr("link_bytes_per_second is 0"), HasSubstr("above 0"))
  );
  constants = machine();
  constants.flops_per_second = std::nan("");
  EXPECT_THAT(refusal(small_model(), constants), HasSubstr("flops_per_second"));
  constants = machine();
  constants.link_latency_seconds = 0;
  EXPECT_EQ(refusal(small_model(), constants), "");
  constants.link_latency_seconds = std::numeric_limits<double>::infinity();
  EXPECT_THAT(refusal(small_model(), constants), HasSubstr("link_latency_seconds"));
  ModelFacts facts = small_model();
  facts.topk = 65;
  EXPECT_THAT(refusal(facts, machine()), HasSubstr("topk 65 of 64"));
  facts = small_model();
  facts.expert_groups = 5;
  EXPECT_THAT(refusal(facts, machine()), HasSubstr("1 of 5 groups of 64 experts"));
  facts = small_model();
  facts.expert_groups = 32;
  EXPECT_THAT(refusal(facts, machine()), HasSubstr("are no choice of 4"));
  facts = small_model();
  facts.hidden = 0;
  EXPECT_THAT(refusal(facts, machine()), HasSubstr("small"));
  EXPECT_FALSE(
      CostModel::make(small_model(), plan_layout({.moe_tp_size = 4}).value(), {}, machine()).ok()
  );
}

TEST(ChooseLevel, FollowsTheSettingsWhenTheySayOne) {
  EXPECT_EQ(
      model_of({.ep_size = 2}, {.level = EpLevel::AllToAll}).choose_level(Rows{1, 1}).level,
      EpLevel::AllToAll
  );
  const LevelChoice choice =
      model_of({.ep_size = 2}, {.level = EpLevel::AllGather}).choose_level(Rows{9999, 9999});
  EXPECT_EQ(choice.level, EpLevel::AllGather);
  EXPECT_EQ(choice.reason, "ep_level 1 is set");
}

TEST(ChooseLevel, AutoGathersFewTokensAndExchangesMany) {
  const CostModel model = model_of({.ep_size = 16});
  const LevelChoice few = model.choose_level(Rows(16, 1));
  const LevelChoice many = model.choose_level(Rows(16, 4096));

  EXPECT_EQ(few.level, EpLevel::AllGather);
  EXPECT_EQ(many.level, EpLevel::AllToAll);
  EXPECT_THAT(few.reason, HasSubstr("auto takes ep_level 1 for 16 tokens"));
  EXPECT_THAT(many.reason, HasSubstr("ep_level 2 for 65536 tokens"));
  EXPECT_EQ(many.reason.find('\n'), std::string::npos);
}

TEST(ChooseLevel, OneRankHasNoChoice) {
  EXPECT_EQ(model_of({}).choose_level(Rows{100}).level, EpLevel::AllGather);
  EXPECT_EQ(model_of({}).all_to_all_rows_min(1 << 20), std::nullopt);
}

TEST(ChooseLevel, TheThresholdIsWhereAutoTurns) {
  const CostModel model = model_of({.ep_size = 16});
  const auto rows = model.all_to_all_rows_min(1 << 20);

  ASSERT_TRUE(rows.has_value());
  EXPECT_EQ(model.choose_level(Rows(16, *rows)).level, EpLevel::AllToAll);
  EXPECT_EQ(model.choose_level(Rows(16, *rows - 1)).level, EpLevel::AllGather);
  EXPECT_EQ(model.all_to_all_rows_min(*rows / 2), std::nullopt);
}

}  // namespace
}  // namespace pleiad::plan
