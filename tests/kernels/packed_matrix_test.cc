#include "kernels/packed_matrix.h"

#include <array>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using device::BF16;
using device::DType;
using ::testing::HasSubstr;
using testing::view_of;

// W[o, i] as it lies in the panels.
float weight_at(const PackedMatrix& matrix, std::int64_t o, std::int64_t i) {
  const std::byte* panel = matrix.panel(o / PackedMatrix::kPanel);
  const std::int64_t lane = o % PackedMatrix::kPanel;
  if (matrix.compute() == Compute::Float32) {
    return reinterpret_cast<const float*>(panel)[i * PackedMatrix::kPanel + lane];
  }
  const auto* pairs = reinterpret_cast<const BF16*>(panel);
  return device::bf16_to_float(pairs[(i / 2 * PackedMatrix::kPanel + lane) * 2 + i % 2]);
}

class PackedMatrixFor : public ::testing::TestWithParam<Compute> {
 protected:
  // `bytes` of memory filled with a pattern that is no zero.
  device::Buffer dirty_memory(std::size_t bytes) {
    device::Buffer buffer = device::Buffer::allocate(bytes).value();
    std::memset(buffer.data(), 0x7E, buffer.size());
    return buffer;
  }
};

TEST_P(PackedMatrixFor, PutsEveryWeightInItsPanel) {
  Random random(1);
  for (const auto& [outputs, inputs] : {std::pair{1, 1}, {16, 2}, {17, 5}, {40, 33}, {100, 64}}) {
    const auto count = static_cast<std::size_t>(outputs) * static_cast<std::size_t>(inputs);
    const auto weights = testing::random_floats(random, count, Compute::Float32);
    const auto owned = testing::pack(weights, outputs, inputs, GetParam());
    for (std::int64_t o = 0; o < outputs; ++o) {
      for (std::int64_t i = 0; i < inputs; ++i) {
        const float expected =
            round_activation(weights[static_cast<std::size_t>(o * inputs + i)], GetParam());
        ASSERT_EQ(weight_at(owned.matrix, o, i), expected) << o << ' ' << i;
      }
    }
  }
}

TEST_P(PackedMatrixFor, PadsTheLastPanelAndAnOddInputWithZeros) {
  const std::vector<float> weights(3 * 5, 1.0F);
  auto memory = dirty_memory(PackedMatrix::bytes(3, 5, GetParam()));
  const MatrixSource source = {.tensor = view_of(weights, 3, 5)};

  const auto matrix = PackedMatrix::pack({&source, 1}, GetParam(), memory.as<std::byte>()).value();

  const std::int64_t inputs = GetParam() == Compute::BFloat16 ? 6 : 5;
  for (std::int64_t o = 0; o < PackedMatrix::kPanel; ++o) {
    for (std::int64_t i = 0; i < inputs; ++i) {
      EXPECT_EQ(weight_at(matrix, o, i), o < 3 && i < 5 ? 1.0F : 0.0F) << o << ' ' << i;
    }
  }
}

TEST_P(PackedMatrixFor, StacksBlocksAndTransposes) {
  Random random(2);
  const auto a = testing::random_floats(random, 30 * 7, Compute::BFloat16);
  const auto b = testing::random_floats(random, 7 * 9, Compute::BFloat16);
  const std::array<MatrixSource, 2> sources = {{
      {.tensor = view_of(a, 30, 7), .row_begin = 4, .row_count = 21},
      {.tensor = view_of(b, 7, 9), .transposed = true},
  }};
  auto memory = dirty_memory(PackedMatrix::bytes(30, 7, GetParam()));

  const auto matrix = PackedMatrix::pack(sources, GetParam(), memory.as<std::byte>()).value();

  ASSERT_EQ(matrix.outputs(), 30);
  ASSERT_EQ(matrix.inputs(), 7);
  for (std::int64_t o = 0; o < 30; ++o) {
    for (std::int64_t i = 0; i < 7; ++i) {
      const float expected = o < 21 ? a[static_cast<std::size_t>((o + 4) * 7 + i)]
                                    : b[static_cast<std::size_t>(i * 9 + o - 21)];
      ASSERT_EQ(weight_at(matrix, o, i), expected) << o << ' ' << i;
    }
  }
}

TEST_P(PackedMatrixFor, TakesAnyBlockOfRowsAndColumnsAlsoTransposed) {
  Random random(3);
  constexpr std::int64_t kRows = 37;
  constexpr std::int64_t kColumns = 83;
  const auto values = testing::random_floats(random, kRows * kColumns, Compute::BFloat16);
  const auto part = [&](std::int64_t extent) {
    const auto begin = static_cast<std::int64_t>(random.below(static_cast<std::size_t>(extent)));
    const auto most = static_cast<std::size_t>(extent - begin);
    return std::pair{begin, static_cast<std::int64_t>(1 + random.below(most))};
  };
  for (int round = 0; round < 60; ++round) {
    const auto [row_begin, row_count] = part(kRows);
    const auto [column_begin, column_count] = part(kColumns);
    const bool transposed = round % 2 == 1;
    const bool open_ended = round % 5 == 0;
    const MatrixSource source = {
        .tensor = view_of(values, kRows, kColumns),
        .row_begin = row_begin,
        .row_count = row_count,
        .column_begin = column_begin,
        .column_count = open_ended ? -1 : column_count,
        .transposed = transposed,
    };
    const std::int64_t width = open_ended ? kColumns - column_begin : column_count;
    const std::int64_t outputs = transposed ? width : row_count;
    const std::int64_t inputs = transposed ? row_count : width;
    auto memory = dirty_memory(PackedMatrix::bytes(outputs, inputs, GetParam()));

    const auto matrix =
        PackedMatrix::pack({&source, 1}, GetParam(), memory.as<std::byte>()).value();

    ASSERT_EQ(matrix.outputs(), outputs);
    ASSERT_EQ(matrix.inputs(), inputs);
    for (std::int64_t o = 0; o < outputs; ++o) {
      for (std::int64_t i = 0; i < inputs; ++i) {
        const std::int64_t row = row_begin + (transposed ? i : o);
        const std::int64_t column = column_begin + (transposed ? o : i);
        const float expected = values[static_cast<std::size_t>(row * kColumns + column)];
        ASSERT_EQ(weight_at(matrix, o, i), expected) << round << ": " << o << ' ' << i;
      }
    }
  }
}

TEST_P(PackedMatrixFor, ReadsHalfPrecisionAndMisalignedSources) {
  // 1.0, -2.0, 0.5, 65504 as BF16 and F16, one byte off.
  const std::array<std::uint16_t, 4> bf16 = {0x3F80, 0xC000, 0x3F00, 0x4780};
  const std::array<std::uint16_t, 4> f16 = {0x3C00, 0xC000, 0x3800, 0x7800};
  for (const auto& [dtype, bits] : {std::pair{DType::BF16, bf16}, {DType::F16, f16}}) {
    std::array<std::byte, 9> bytes{};
    std::memcpy(bytes.data() + 1, bits.data(), 8);
    const MatrixSource source = {
        .tensor = {
            .bytes = std::span<const std::byte>(bytes).subspan(1),
            .dtype = dtype,
            .shape = {.extents = {1, 4}, .rank = 2},
        }};
    auto memory = dirty_memory(PackedMatrix::bytes(1, 4, GetParam()));
    const auto matrix =
        PackedMatrix::pack({&source, 1}, GetParam(), memory.as<std::byte>()).value();
    const std::array<float, 4> expected = {
        1.0F, -2.0F, 0.5F, dtype == DType::F16 ? 32768.0F : 65536.0F};
    for (std::int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(weight_at(matrix, 0, i), expected[static_cast<std::size_t>(i)]);
    }
  }
}

// Experts stacked in one tensor, gate and up rows alternating.
TEST_P(PackedMatrixFor, TakesEverySecondRowOfOneOfManyStackedMatrices) {
  Random random(4);
  const auto values = testing::random_floats(random, 3 * 11 * 6, Compute::BFloat16);
  device::TensorView stack = view_of(values, 3 * 11, 6);
  stack.shape = {.extents = {3, 11, 6}, .rank = 3};
  for (std::int64_t index = 0; index < 3; ++index) {
    const MatrixSource even = {.tensor = stack, .index = index, .row_step = 2};
    MatrixSource odd = even;
    odd.row_begin = 1;
    auto memory = dirty_memory(PackedMatrix::bytes(11, 6, GetParam()));

    const auto matrix =
        PackedMatrix::pack(std::array{even, odd}, GetParam(), memory.as<std::byte>()).value();

    ASSERT_EQ(matrix.outputs(), 11);
    for (std::int64_t o = 0; o < 11; ++o) {
      const std::int64_t row = o < 6 ? 2 * o : 2 * (o - 6) + 1;
      for (std::int64_t i = 0; i < 6; ++i) {
        const std::int64_t at = (index * 11 + row) * 6 + i;
        ASSERT_EQ(weight_at(matrix, o, i), values[static_cast<std::size_t>(at)]) << o << ' ' << i;
      }
    }
  }
}

// The same experts, each stored transposed: gate and up columns alternate.
TEST_P(PackedMatrixFor, TakesEverySecondColumnOfOneOfManyTransposedMatrices) {
  Random random(5);
  const auto values = testing::random_floats(random, 2 * 5 * 7, Compute::BFloat16);
  device::TensorView stack = view_of(values, 2 * 5, 7);
  stack.shape = {.extents = {2, 5, 7}, .rank = 3};
  const MatrixSource odd = {
      .tensor = stack, .index = 1, .column_begin = 1, .column_step = 2, .transposed = true};
  auto memory = dirty_memory(PackedMatrix::bytes(3, 5, GetParam()));

  const auto matrix = PackedMatrix::pack({&odd, 1}, GetParam(), memory.as<std::byte>()).value();

  ASSERT_EQ(matrix.outputs(), 3);
  ASSERT_EQ(matrix.inputs(), 5);
  for (std::int64_t o = 0; o < 3; ++o) {
    for (std::int64_t i = 0; i < 5; ++i) {
      const std::int64_t at = (5 + i) * 7 + 2 * o + 1;
      ASSERT_EQ(weight_at(matrix, o, i), values[static_cast<std::size_t>(at)]) << o << ' ' << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Computes,
    PackedMatrixFor,
    ::testing::Values(Compute::Float32, Compute::BFloat16)
);

std::string refusal(std::span<const MatrixSource> sources) {
  alignas(64) std::array<std::byte, 8192> memory{};
  const auto packed = PackedMatrix::pack(sources, Compute::Float32, memory);
  return packed.ok() ? "accepted" : packed.error().message;
}

TEST(PackedMatrix, RefusesSourcesThatDoNotFitTogether) {
  const std::vector<float> values(24);
  const std::array<MatrixSource, 2> different = {
      {{.tensor = view_of(values, 4, 6)}, {.tensor = view_of(values, 6, 4)}}};

  EXPECT_THAT(refusal(different), HasSubstr("source 1: 4 inputs, the sources before it have 6"));
  EXPECT_THAT(refusal({}), HasSubstr("at least one source"));
}

TEST(PackedMatrix, RefusesABlockOutsideItsTensor) {
  const std::vector<float> values(24);
  for (const auto& [begin, count] : {std::pair{-1, 1}, {5, -1}, {3, 2}, {0, 5}}) {
    const MatrixSource source = {
        .tensor = view_of(values, 4, 6), .row_begin = begin, .row_count = count};
    EXPECT_THAT(refusal({&source, 1}), HasSubstr("lie outside its 4 rows"));
  }
}

TEST(PackedMatrix, RefusesColumnsOutsideTheirTensorAndBlocksOfDifferentWidths) {
  const std::vector<float> values(24);
  for (const bool transposed : {false, true}) {
    for (const auto& [begin, count] : {std::pair{-1, 1}, {7, -1}, {5, 2}, {0, 7}}) {
      const MatrixSource source = {
          .tensor = view_of(values, 4, 6),
          .column_begin = begin,
          .column_count = count,
          .transposed = transposed,
      };
      EXPECT_THAT(refusal({&source, 1}), HasSubstr("lie outside its 6 columns"));
    }
  }
  const MatrixSource empty = {.tensor = view_of(values, 4, 6), .column_begin = 6};
  EXPECT_THAT(refusal({&empty, 1}), HasSubstr("matrix of 4 x 0"));
  const std::array<MatrixSource, 2> uneven = {{
      {.tensor = view_of(values, 4, 6), .column_count = 3},
      {.tensor = view_of(values, 4, 6), .column_begin = 2},
  }};
  EXPECT_THAT(refusal(uneven), HasSubstr("source 1: 4 inputs, the sources before it have 3"));
}

TEST(PackedMatrix, RefusesStepsAndIndicesThatLeaveTheTensor) {
  const std::vector<float> values(24);
  MatrixSource stack = {.tensor = view_of(values, 4, 6), .index = 2};
  stack.tensor.shape = {.extents = {2, 2, 6}, .rank = 3};
  const MatrixSource flat = {.tensor = view_of(values, 4, 6), .index = 0};
  const MatrixSource still = {.tensor = view_of(values, 4, 6), .row_step = 0};
  const MatrixSource beyond = {
      .tensor = view_of(values, 4, 6), .row_begin = 1, .row_count = 3, .row_step = 2};

  EXPECT_THAT(refusal({&stack, 1}), HasSubstr("index 2 of 2 stacked matrices"));
  EXPECT_THAT(refusal({&flat, 1}), HasSubstr("rank 2, a stack of matrices has 3"));
  EXPECT_THAT(refusal({&still, 1}), HasSubstr("a step of 0 rows"));
  EXPECT_THAT(
      refusal({&beyond, 1}), HasSubstr("rows [1, 1 + 3) lie outside its 4 rows, in steps of 2")
  );
}

TEST(PackedMatrix, RefusesTensorsThatAreNoFloatingMatrix) {
  const std::vector<float> values(24);
  MatrixSource integers = {.tensor = view_of(values, 4, 6)};
  integers.tensor.dtype = DType::I32;
  MatrixSource cube = {.tensor = view_of(values, 4, 6)};
  cube.tensor.shape.rank = 3;
  MatrixSource cut = {.tensor = view_of(values, 4, 6)};
  cut.tensor.bytes = cut.tensor.bytes.first(20);
  const MatrixSource empty = {.tensor = view_of(values, 4, 6), .row_begin = 4};

  EXPECT_THAT(refusal({&integers, 1}), HasSubstr("dtype I32 cannot be packed"));
  EXPECT_THAT(refusal({&cube, 1}), HasSubstr("rank 3"));
  EXPECT_THAT(refusal({&cut, 1}), HasSubstr("bytes are not 4 x 6"));
  EXPECT_THAT(refusal({&empty, 1}), HasSubstr("matrix of 0 x 6"));
}

}  // namespace
}  // namespace pleiad::kernels
