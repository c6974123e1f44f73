#include "plan/ep_settings.h"

#include <cmath>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::plan {
namespace {

using testing::HasSubstr;

std::string refusal(const EpSettings& settings) {
  const auto valid = validate(settings);
  return valid.ok() ? "" : valid.error().message;
}

EpSettings with_scales(std::vector<BufferScale> scales) {
  EpSettings settings{.level = EpLevel::AllToAll};
  settings.alltoall_ep_buffer_scale_factors = std::move(scales);
  return settings;
}

EpSettings with_cutoff(double factor) {
  return {
      .level = EpLevel::AllGather,
      .enable_init_routing_cutoff = true,
      .topk_scaling_factor = factor};
}

TEST(EpSettings, DefaultsAndTheExamplesOfTheManualAreValid) {
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({.level = EpLevel::AllToAll}), "");
  EXPECT_EQ(refusal(with_cutoff(0.25)), "");
  EXPECT_EQ(refusal(with_cutoff(1.0)), "");
}

TEST(EpSettings, TheScalingFactorIsAShare) {
  for (const double factor :
       {0.0, -0.5, 1.0001, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(refusal(with_cutoff(factor)), HasSubstr("(0, 1]")) << factor;
  }
}

TEST(EpSettings, TheCutoffNeedsLevel1OrAuto) {
  EpSettings settings = with_cutoff(0.25);
  settings.level = EpLevel::Auto;
  EXPECT_EQ(refusal(settings), "");
  settings.level = EpLevel::AllToAll;
  EXPECT_THAT(refusal(settings), HasSubstr("needs ep_level 1"));
}

TEST(EpSettings, AFactorWithoutTheCutoffIsRefused) {
  EXPECT_THAT(
      refusal({.topk_scaling_factor = 0.5}), HasSubstr("without enable_init_routing_cutoff")
  );
}

TEST(EpSettings, BufferScalesFallToZeroAndArePositive) {
  EXPECT_EQ(refusal(with_scales({{0, 0.5}})), "");
  EXPECT_THAT(refusal(with_scales({})), HasSubstr("0 entries"));
  EXPECT_THAT(refusal(with_scales({{8, 1}, {4, 2}})), HasSubstr("last threshold is 4"));
  EXPECT_THAT(refusal(with_scales({{8, 1}, {8, 2}, {0, 3}})), HasSubstr("8 follows 8, at most 7"));
  EXPECT_THAT(refusal(with_scales({{4, 1}, {8, 2}, {0, 3}})), HasSubstr("8 follows 4"));
  EXPECT_THAT(refusal(with_scales({{-1, 1}})), HasSubstr("negative"));
  EXPECT_THAT(refusal(with_scales({{0, 0.0}})), HasSubstr("above 0"));
  EXPECT_THAT(refusal(with_scales({{0, std::nan("")}})), HasSubstr("above 0"));
  std::vector<BufferScale> many;
  for (std::int64_t i = 100; i >= 0; --i)
    many.push_back({i, 1.0});
  EXPECT_THAT(refusal(with_scales(many)), HasSubstr("101 entries"));
}

TEST(EpSettings, TwoBatchesNeedTwoTokens) {
  EXPECT_THAT(refusal({.two_batch_tokens_min = 1}), HasSubstr("at least 2"));
}

TEST(Level1Rows, AreAllRowsWithoutTheCutoff) {
  EXPECT_EQ(level1_rows_at_once({}, 100, 8), 100);
  EXPECT_EQ(level1_rows_at_once({}, 0, 8), 1);
}

TEST(Level1Rows, BoundTheRoutedRowsWhateverTheRouting) {
  EXPECT_EQ(level1_rows_at_once(with_cutoff(0.25), 100, 8), 25);
  EXPECT_EQ(level1_rows_at_once(with_cutoff(0.1), 30, 1), 3);
  EXPECT_EQ(level1_rows_at_once(with_cutoff(0.01), 10, 4), 1);
  EXPECT_EQ(level1_rows_at_once(with_cutoff(1.0), 100, 8), 100);
  EXPECT_EQ(level1_rows_at_once(with_cutoff(0.5), 0, 8), 1);
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int round = 0; round < 1000; ++round) {
    const std::int64_t tokens = random.between(1, 100'000);
    const std::int64_t topk = random.between(1, 16);
    const double factor = 1.0 - random.uniform();
    const std::int64_t rows = level1_rows_at_once(with_cutoff(factor), tokens, topk);
    const double bound = std::ceil(factor * static_cast<double>(tokens * topk));
    ASSERT_TRUE(rows == 1 || static_cast<double>(rows * topk) <= bound);
    ASSERT_LE(rows, tokens);
  }
}

TEST(Level2Rows, FollowTheLargestThresholdAtOrBelowTheTokens) {
  const EpSettings settings = with_scales({{1000, 1.5}, {100, 2.0}, {0, 8.0}});

  EXPECT_EQ(level2_receive_rows(settings, 1000, 8, 64), 188);  // 1.5 * 1000 * 8 / 64 = 187.5
  EXPECT_EQ(level2_receive_rows(settings, 999, 8, 64), 250);   // 2 * 999 / 8 = 249.75
  EXPECT_EQ(level2_receive_rows(settings, 100, 8, 64), 64);    // 25, but one for each rank
  EXPECT_EQ(level2_receive_rows(settings, 99, 8, 8), 99);      // 792, but no more than there are
  EXPECT_EQ(level2_receive_rows(settings, 0, 8, 4), 4);
}

TEST(Level2Rows, TheManualsExampleForAMillionTokens) {
  EXPECT_EQ(level2_receive_rows({}, 1048576, 8, 32), 346'031);  // 1.32 * 1048576 * 8 / 32
}

TEST(Level2Rows, StayWithinTheirBoundsForHugeCounts) {
  EXPECT_EQ(level2_receive_rows({}, std::int64_t{1} << 50, 64, 1), std::int64_t{1} << 50);
}

}  // namespace
}  // namespace pleiad::plan
