#include <gtest/gtest.h>

#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/few_rows_gemm.h"
#include "kernels/cuda/paged_attention.h"

namespace pleiad::kernels::cuda {
namespace {

TEST(CudaDenseGemm, TakesShapesOfWholeSixteenByteLines) {
  const DenseShape fine{.outputs = 64, .inputs = 128, .x_stride = 128, .y_stride = 64};
  EXPECT_TRUE(dense_gemm_supports(fine));
  DenseShape odd = fine;
  odd.inputs = 100;
  EXPECT_FALSE(dense_gemm_supports(odd));
  odd = fine;
  odd.y_stride = 67;
  EXPECT_FALSE(dense_gemm_supports(odd));
}

TEST(CudaDenseGemm, ABucketIsTheFirstThatHoldsTheRows) {
  EXPECT_EQ(dense_row_bucket(1), 8);
  EXPECT_EQ(dense_row_bucket(9), 16);
  EXPECT_EQ(dense_row_bucket(513), 768);
  EXPECT_EQ(dense_row_bucket(8192), 8192);
}

TEST(CudaFewRowsGemm, SpreadsOutputsOverTheMultiprocessors) {
  EXPECT_EQ(few_rows_height(2048, 1, 132), 16);
  EXPECT_EQ(few_rows_height(5120, 1, 132), 40);
  EXPECT_EQ(few_rows_height(8, 1, 132), 8);
  EXPECT_EQ(few_rows_height(512, 16, 132), 64);
  EXPECT_EQ(few_rows_height(1 << 20, 1, 132), 64);
}

TEST(CudaFewRowsGemm, TakesWholeStepsOfInputsAndFewRows) {
  const FewRowsTask fine{
      .x = {.stride = 128, .dtype = device::DType::BF16},
      .rows = 64,
      .weight = {.outputs = 24, .inputs = 128, .row_bytes = 256},
  };
  EXPECT_TRUE(few_rows_supports(fine));
  FewRowsTask odd = fine;
  odd.rows = 65;
  EXPECT_FALSE(few_rows_supports(odd));
  odd = fine;
  odd.weight.inputs = 96;
  odd.weight.row_bytes = 192;
  EXPECT_FALSE(few_rows_supports(odd));
  odd = fine;
  odd.weight_step = 100;
  EXPECT_FALSE(few_rows_supports(odd));
}

TEST(CudaPagedAttention, StretchesGrowWithThePositionAndAreNeverTooMany) {
  std::int64_t last = 0;
  for (std::int64_t position = 0; position < 200000; position += 37) {
    const std::int64_t length = pages_per_split(position, kSplitsMax);
    const std::int64_t pages = position / kPageTokens + 1;
    EXPECT_LE((pages + length - 1) / length, kSplitsMax);
    EXPECT_GE(length, last);
    last = length;
  }
  EXPECT_EQ(pages_per_split(0, kSplitsMax), 2);
  EXPECT_EQ(pages_per_split(64 * 64 - 1, kSplitsMax), 2);
  EXPECT_EQ(pages_per_split(64 * 64, kSplitsMax), 4);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
