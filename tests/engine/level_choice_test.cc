#include "engine/level_choice.h"

#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

model::ModelShape shape_of(std::int64_t hidden, std::int64_t experts, std::int64_t topk) {
  model::ModelShape shape;
  shape.vocabulary = 1000;
  shape.positions_max = 4096;
  shape.moe_layers = 4;
  shape.cache.layers = 5;
  shape.moe = {.hidden = hidden, .intermediate = 64, .gate = {.experts = experts, .topk = topk}};
  return shape;
}

std::int64_t rows_min(const model::ModelShape& shape, std::int32_t ranks, std::int32_t nodes) {
  const plan::ParallelLayout layout{.dp_size = ranks, .ep_size = ranks, .nnodes = nodes};
  return all_to_all_rows_min(shape, layout, {}, model::Compute::BFloat16, 512).value();
}

TEST(LevelChoice, WideRowsOverManyRanksGoToWhereTheyAreWantedFromFewOnwards) {
  const auto few_ranks = rows_min(shape_of(7168, 256, 8), 4, 1);
  const auto many_ranks = rows_min(shape_of(7168, 256, 8), 64, 1);

  // Eight choices reach almost all of four ranks, and few of sixty-four.
  EXPECT_LT(many_ranks, INT64_MAX);
  EXPECT_GE(few_ranks, many_ranks / 64);
}

TEST(LevelChoice, IsTheSameForEqualInputsAndCountsWholeRanks) {
  const auto shape = shape_of(2048, 64, 2);
  const auto first = rows_min(shape, 8, 2);

  EXPECT_EQ(first, rows_min(shape, 8, 2));
  EXPECT_TRUE(first == INT64_MAX || first % 8 == 0) << first;
}

TEST(LevelChoice, RefusesALayoutThatContradictsTheModel) {
  const plan::ParallelLayout layout{.dp_size = 3, .ep_size = 1, .moe_tp_size = 3};
  EXPECT_FALSE(all_to_all_rows_min(shape_of(64, 8, 2), layout, {}, model::Compute::Float32, 64).ok()
  );
}

}  // namespace
}  // namespace pleiad::engine
