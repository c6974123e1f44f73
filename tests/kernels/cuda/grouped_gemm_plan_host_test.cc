#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/grouped_gemm_plan.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::HasSubstr;

GroupedShape sound() {
  return {.experts = 8, .outputs = 512, .inputs = 256, .rows_max = 16};
}

TEST(GroupedPlan, TakesTheShapesOfServedModels) {
  for (const auto format : {GroupedFormat::BFloat16, GroupedFormat::Fp8Blocks}) {
    EXPECT_TRUE(grouped_supports({128, 1536, 2048, 8, format, GroupedOutput::SwiGlu}).ok());
    EXPECT_TRUE(grouped_supports({128, 2048, 768, 8, format, GroupedOutput::BFloat16}).ok());
    EXPECT_TRUE(grouped_supports({64, 2816, 2048, 6, format, GroupedOutput::SwiGlu}).ok());
    EXPECT_TRUE(grouped_supports({64, 2048, 1408, 6, format, GroupedOutput::Float32}).ok());
    EXPECT_TRUE(grouped_supports({256, 4096, 7168, 8192, format, GroupedOutput::SwiGlu}).ok());
  }
}

TEST(GroupedPlan, RefusesSizesThatTilesDoNotDivideNamingTheNearestThatDo) {
  GroupedShape shape = sound();
  shape.outputs = 500;
  EXPECT_THAT(
      grouped_supports(shape).error().message, HasSubstr("multiple of 128, got 500 (nearest: 512)")
  );
  EXPECT_EQ(grouped_supports(shape).error().kind, ErrorKind::Unsupported);
  shape.outputs = 384;
  EXPECT_TRUE(grouped_supports(shape).ok());
  shape.output = GroupedOutput::SwiGlu;
  EXPECT_THAT(
      grouped_supports(shape).error().message, HasSubstr("multiple of 256, got 384 (nearest: 512)")
  );
  shape = sound();
  shape.inputs = 192;
  EXPECT_TRUE(grouped_supports(shape).ok());
  shape.format = GroupedFormat::Fp8Blocks;
  EXPECT_THAT(
      grouped_supports(shape).error().message, HasSubstr("inputs must be a multiple of 128")
  );
}

TEST(GroupedPlan, RefusesCountsOutOfRange) {
  for (const std::int32_t experts : {-1, 0, 513}) {
    GroupedShape shape = sound();
    shape.experts = experts;
    EXPECT_EQ(grouped_supports(shape).error().kind, ErrorKind::InvalidInput) << experts;
  }
  for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1} << 25}) {
    GroupedShape shape = sound();
    shape.rows_max = rows;
    EXPECT_EQ(grouped_supports(shape).error().kind, ErrorKind::InvalidInput) << rows;
  }
  GroupedShape shape = sound();
  shape.inputs = 0;
  EXPECT_EQ(grouped_supports(shape).error().kind, ErrorKind::InvalidInput);
  shape.inputs = 1 << 21;
  EXPECT_EQ(grouped_supports(shape).error().kind, ErrorKind::InvalidInput);
}

TEST(GroupedPlan, PackingIsAPermutationThatPutsBesideEachOtherWhatAThreadHolds) {
  for (const auto layout : {GroupedLayout::Plain, GroupedLayout::Gated}) {
    std::set<std::int64_t> seen;
    for (std::int64_t place = 0; place < 512; ++place) {
      seen.insert(grouped_stored_row(layout, 512, place));
    }
    EXPECT_EQ(seen.size(), 512U);
    EXPECT_EQ(*seen.rbegin(), 511);
  }
  EXPECT_EQ(grouped_stored_row(GroupedLayout::Plain, 512, 16 + 3), 16 + 6);
  EXPECT_EQ(grouped_stored_row(GroupedLayout::Plain, 512, 16 + 8 + 3), 16 + 7);
  EXPECT_EQ(grouped_stored_row(GroupedLayout::Gated, 512, 16 + 3), 8 + 3);
  EXPECT_EQ(grouped_stored_row(GroupedLayout::Gated, 512, 16 + 8 + 3), 256 + 8 + 3);
}

TEST(GroupedPlan, TheTileGrowsWithTheRowsOfAnExpert) {
  GroupedShape shape{.experts = 32, .outputs = 4096, .inputs = 7168};
  std::int32_t before = 0;
  for (const std::int64_t rows : {1, 8, 64, 256, 1024}) {
    shape.rows_max = rows * 32;
    const GroupedTile tile = grouped_tile(shape, 132);
    EXPECT_TRUE(grouped_tile_fits(shape, tile));
    EXPECT_GE(tile.rows, before);
    before = tile.rows;
  }
  EXPECT_EQ(before, 256);
}

TEST(GroupedPlan, BlocksShareRowsOnlyInPairsOfWeightTilesThatNoIndexListGathers) {
  GroupedShape shape{.experts = 4, .outputs = 384, .inputs = 256, .rows_max = 4096};
  EXPECT_EQ(grouped_tile(shape, 132).cluster, 1);
  EXPECT_FALSE(grouped_tile_fits(shape, {256, 2}));
  shape.outputs = 512;
  EXPECT_TRUE(grouped_tile_fits(shape, {256, 2}));
  shape.gathered = true;
  EXPECT_FALSE(grouped_tile_fits(shape, {256, 2}));
  EXPECT_EQ(grouped_tile(shape, 132).cluster, 1);
  EXPECT_FALSE(grouped_tile_fits(shape, {128, 1}));
  EXPECT_FALSE(grouped_tile_fits(shape, {64, 4}));
}

TEST(GroupedPlan, ManyRowsOfFp8TakeTheWeightsAsTheRightOperandUnlessGathered) {
  GroupedShape shape{
      .experts = 4,
      .outputs = 384,
      .inputs = 256,
      .rows_max = 4096,
      .format = GroupedFormat::Fp8Blocks};
  EXPECT_EQ(grouped_tile(shape, 132), (GroupedTile{128, 1, 256}));
  EXPECT_EQ(grouped_blocks(shape, grouped_tile(shape, 132), 1000), (4 + 4092 / 128) * 2);
  EXPECT_FALSE(grouped_tile_fits(shape, {256, 1}));
  shape.gathered = true;
  EXPECT_EQ(grouped_tile(shape, 132), (GroupedTile{256, 1, 128}));
  EXPECT_FALSE(grouped_tile_fits(shape, {128, 1, 256}));
  shape.format = GroupedFormat::BFloat16;
  shape.gathered = false;
  EXPECT_FALSE(grouped_tile_fits(shape, {128, 1, 256}));
}

TEST(GroupedPlan, ALaunchHasNoMoreBlocksThanTilesOrMultiprocessors) {
  const GroupedShape one_token{.experts = 128, .outputs = 1536, .inputs = 2048, .rows_max = 8};
  EXPECT_EQ(grouped_blocks(one_token, {64, 1}, 132), 8 * 12);
  EXPECT_EQ(grouped_blocks(one_token, {64, 1}, 50), 50);
  const GroupedShape many{.experts = 2, .outputs = 256, .inputs = 2048, .rows_max = 512};
  // Two experts: 255 and 257 rows are three tiles of 256.
  EXPECT_EQ(grouped_blocks(many, {256, 2}, 132), 3 * 2);
  EXPECT_EQ(grouped_blocks(many, {256, 2}, 5), 4);
}

TEST(GroupedPlan, FewTilesAreCutLowerSoThatAllMultiprocessorsFetch) {
  GroupedShape shape{.experts = 128, .outputs = 1536, .inputs = 2048, .rows_max = 8};
  EXPECT_EQ(grouped_tile(shape, 132), (GroupedTile{64, 1, 96}));
  EXPECT_EQ(grouped_blocks(shape, grouped_tile(shape, 132), 132), 8 * 16);
  shape.outputs = 2048;
  EXPECT_EQ(grouped_tile(shape, 132), (GroupedTile{64, 1, 128}));
  shape = {.experts = 64, .outputs = 2048, .inputs = 1408, .rows_max = 6};
  EXPECT_EQ(grouped_tile(shape, 132), (GroupedTile{64, 1, 96}));
  shape = {.experts = 32, .outputs = 7168, .inputs = 2048, .rows_max = 32};
  EXPECT_EQ(grouped_tile(shape, 132), (GroupedTile{64, 1, 128}));
  EXPECT_FALSE(grouped_tile_fits(shape, {64, 1, 144}));
  EXPECT_FALSE(grouped_tile_fits(shape, {64, 1, 100}));
  EXPECT_FALSE(grouped_tile_fits(shape, {64, 1, 0}));
  EXPECT_FALSE(grouped_tile_fits(shape, {64, 2}));
  EXPECT_FALSE(grouped_tile_fits(shape, {256, 2, 96}));
}

TEST(GroupedPlan, PackedWeightsTakeNoMoreBytesThanStoredOnes) {
  EXPECT_EQ(grouped_packed_bytes(GroupedFormat::BFloat16, 32, 4096, 7168), 32LL * 4096 * 7168 * 2);
  EXPECT_EQ(grouped_packed_bytes(GroupedFormat::Fp8Blocks, 32, 4096, 7168), 32LL * 4096 * 7168);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
