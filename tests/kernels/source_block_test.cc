#include "kernels/detail/source_block.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::kernels::detail {
namespace {

using ::testing::HasSubstr;

TEST(SourceBlock, CountsToTheEndInSteps) {
  const MatrixSource source = {.row_begin = 1, .row_step = 3, .column_begin = 2};

  const auto block = source_block(source, 0, 9, 5).value();

  EXPECT_EQ(block.rows.count, 3);  // 1, 4, 7
  EXPECT_EQ(block.rows.at(2), 7);
  EXPECT_EQ(block.columns.count, 3);
  EXPECT_EQ(block.inputs().begin, 2);
  EXPECT_EQ(block.outputs().begin, 1);
}

TEST(SourceBlock, LetsInputsBeRowsWhenTransposed) {
  const auto block = source_block({.row_begin = 1, .transposed = true}, 0, 9, 5).value();

  EXPECT_EQ(block.inputs().count, 8);
  EXPECT_EQ(block.outputs().count, 5);
}

TEST(SourceBlock, RefusesPlacesOutside) {
  const auto refused = [](const MatrixSource& source) {
    const auto block = source_block(source, 3, 9, 5);
    return block.ok() ? "accepted" : block.error().message;
  };

  EXPECT_EQ(refused({.row_begin = 9, .row_count = 0}), "accepted");
  EXPECT_THAT(refused({.row_begin = 10}), HasSubstr("source 3: rows [10"));
  EXPECT_THAT(refused({.row_begin = -1, .row_count = 1}), HasSubstr("outside its 9 rows"));
  EXPECT_THAT(refused({.column_count = 3, .column_step = 3}), HasSubstr("in steps of 3"));
  EXPECT_THAT(refused({.column_step = 0}), HasSubstr("a step of 0 columns"));
}

TEST(TensorOf, TakesOneOfTheStack) {
  std::array<std::byte, 24> bytes{};
  const device::TensorView stack = {
      .bytes = bytes,
      .dtype = device::DType::F16,
      .shape = {.extents = {2, 3, 2}, .rank = 3},
  };

  const auto one = tensor_of(stack, 1, 2, "it").value();

  EXPECT_EQ(one.bytes.data(), bytes.data() + 12);
  EXPECT_EQ(one.bytes.size(), 12U);
  EXPECT_EQ(one.shape, (device::Shape{.extents = {3, 2}, .rank = 2}));
  EXPECT_THAT(tensor_of(stack, 2, 2, "it").error().message, HasSubstr("it: index 2 of 2"));
  EXPECT_THAT(tensor_of(stack, -1, 2, "it").error().message, HasSubstr("a matrix has 2"));
}

}  // namespace
}  // namespace pleiad::kernels::detail
