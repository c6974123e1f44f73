#include "model/weight_loader.h"

#include <array>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/tensor_files.h"

namespace pleiad::model {
namespace {

using kernels::Compute;
using ::testing::HasSubstr;
using testing::NamedTensor;
using weights::testing::Folder;

// 0, 1, 2 ... as an F32 tensor.
NamedTensor counting(std::string name, std::vector<std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    count *= extent;
  }
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0.0F);
  return testing::named_tensor<float>(std::move(name), "F32", std::move(shape), values);
}

constexpr std::size_t kPlenty = std::size_t{1} << 30U;

// The error of a loader that wants one matrix of these parts.
std::string refusal(const weights::Checkpoint& checkpoint, const std::vector<MatrixPart>& parts) {
  WeightLoader loader(checkpoint, Compute::Float32);
  kernels::PackedMatrix matrix;
  loader.matrix(parts, matrix);
  const auto result = loader.result();
  return result.ok() ? "accepted" : result.error().message;
}

TEST(WeightLoader, TakesAlternatingRowsOfAStackedMatrix) {
  const Folder folder;
  const std::array tensors = {counting("experts", {3, 4, 5})};
  const auto checkpoint = testing::open_tensors(folder, tensors);
  WeightLoader loader(*checkpoint, Compute::Float32);
  const MatrixPart gate = {.name = "experts", .rows = 4, .columns = 5, .index = 1, .row_step = 2};
  MatrixPart up = gate;
  up.row_begin = 1;
  kernels::PackedMatrix matrix;

  loader.matrix({gate, up}, matrix);
  device::ThreadPool pool(2);
  const auto buffer = loader.load(pool, kPlenty, {});

  ASSERT_TRUE(buffer.ok()) << buffer.error().message;
  ASSERT_EQ(matrix.outputs(), 4);
  ASSERT_EQ(matrix.inputs(), 5);
  const auto* panel = reinterpret_cast<const float*>(matrix.panel(0));
  const std::array<float, 4> rows = {20, 30, 25, 35};  // rows 0, 2, 1, 3 of matrix 1
  for (std::size_t o = 0; o < 4; ++o) {
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(panel[i * 16 + o], rows[o] + static_cast<float>(i));
    }
  }
}

TEST(WeightLoader, TakesAlternatingColumnsOfATransposedMatrix) {
  const Folder folder;
  const std::array tensors = {counting("experts", {2, 3, 4})};
  const auto checkpoint = testing::open_tensors(folder, tensors);
  WeightLoader loader(*checkpoint, Compute::Float32);
  kernels::PackedMatrix matrix;

  loader.matrix(
      {{.name = "experts",
        .rows = 3,
        .columns = 4,
        .index = 1,
        .stacked = 2,
        .column_begin = 1,
        .column_step = 2,
        .transposed = true}},
      matrix
  );
  device::ThreadPool pool(1);
  const auto buffer = loader.load(pool, kPlenty, {});

  ASSERT_TRUE(buffer.ok()) << buffer.error().message;
  ASSERT_EQ(matrix.outputs(), 2);
  ASSERT_EQ(matrix.inputs(), 3);
  const auto* panel = reinterpret_cast<const float*>(matrix.panel(0));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(panel[i * 16], static_cast<float>(12 + i * 4 + 1));
    EXPECT_EQ(panel[i * 16 + 1], static_cast<float>(12 + i * 4 + 3));
  }
}

TEST(WeightLoader, NamesTheTensorWhoseShapeOrDtypeIsNotTheOneWanted) {
  const Folder folder;
  const std::array<std::int32_t, 6> integers{};
  const std::array tensors = {
      counting("flat", {4, 5}),
      counting("stack", {2, 4, 5}),
      testing::named_tensor<std::int32_t>("integers", "I32", {2, 3}, integers),
  };
  const auto checkpoint = testing::open_tensors(folder, tensors);

  EXPECT_THAT(refusal(*checkpoint, {{.name = "none", .rows = 4, .columns = 5}}), HasSubstr("none"));
  EXPECT_THAT(refusal(*checkpoint, {{.name = "flat", .rows = 5, .columns = 5}}), HasSubstr("flat"));
  EXPECT_THAT(
      refusal(*checkpoint, {{.name = "flat", .rows = 4, .columns = 5, .index = 0}}),
      HasSubstr("flat")
  );
  EXPECT_THAT(
      refusal(*checkpoint, {{.name = "stack", .rows = 4, .columns = 5, .index = 2}}),
      HasSubstr("stack")
  );
  EXPECT_THAT(
      refusal(*checkpoint, {{.name = "stack", .rows = 4, .columns = 5, .index = 1, .stacked = 3}}),
      HasSubstr("stack")
  );
  EXPECT_THAT(
      refusal(*checkpoint, {{.name = "integers", .rows = 2, .columns = 3}}),
      HasSubstr("tensor integers is I32")
  );
}

// A matrix of ones in FP8, with one block's scale.
std::vector<NamedTensor> fp8_ones(const std::string& name, std::int64_t rows, float scale) {
  const std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows) * 8, 0x38);
  return {
      testing::named_tensor<std::uint8_t>(name, "F8_E4M3", {rows, 8}, codes),
      testing::named_tensor<float>(name + "_scale_inv", "F32", {1, 1}, std::array{scale}),
  };
}

TEST(WeightLoader, KeepsQuantisedWeightsAsTheyAreStoredWhateverTheCompute) {
  const Folder folder;
  const auto checkpoint = testing::open_tensors(folder, fp8_ones("w", 20, 0.75F));
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    WeightLoader loader(*checkpoint, compute);
    kernels::PackedMatrix matrix;
    loader.matrix({{.name = "w", .rows = 20, .columns = 8}}, matrix);
    device::ThreadPool pool(1);
    const auto buffer = loader.load(pool, kPlenty, {});

    ASSERT_TRUE(buffer.ok()) << buffer.error().message;
    EXPECT_EQ(matrix.format(), kernels::WeightFormat::Fp8Block);
    EXPECT_EQ(matrix.compute(), compute);
    EXPECT_EQ(matrix.code(19, 7) * matrix.scale(19, 7), 0.75F);
    EXPECT_EQ(loader.bytes(), 2U * (64 + 2 * 64));
  }
}

TEST(WeightLoader, RefusesAQuantisedGate) {
  const Folder folder;
  const auto checkpoint = testing::open_tensors(folder, fp8_ones("gate", 20, 1.0F));
  WeightLoader loader(*checkpoint, Compute::BFloat16);
  kernels::PackedMatrix matrix;

  loader.matrix({{.name = "gate", .rows = 20, .columns = 8}}, Compute::Float32, matrix);

  EXPECT_EQ(
      loader.result().error().message,
      "tensor gate is stored as FP8 blocks; this matrix must be F32, BF16 or F16"
  );
}

TEST(WeightLoader, NamesBothTensorsThatAreStoredDifferently) {
  const Folder folder;
  std::vector<NamedTensor> tensors = fp8_ones("a", 20, 1.0F);
  tensors.push_back(counting("b", {4, 8}));
  const auto checkpoint = testing::open_tensors(folder, tensors);

  EXPECT_THAT(
      refusal(
          *checkpoint,
          {{.name = "a", .rows = 20, .columns = 8}, {.name = "b", .rows = 4, .columns = 8}}
      ),
      HasSubstr("a + b: matrix source 1: is stored as plain, the sources before it as FP8 blocks")
  );
}

TEST(WeightLoader, RefusesScalesThatAreNoNumberBeforeItLoads) {
  const Folder folder;
  const auto checkpoint = testing::open_tensors(folder, fp8_ones("w", 20, std::nanf("")));

  EXPECT_THAT(
      refusal(*checkpoint, {{.name = "w", .rows = 20, .columns = 8}}),
      HasSubstr("w: scales of matrix source 0: [0, 0] is nan")
  );
}

TEST(WeightLoader, NamesTheTensorWithAWeightThatIsNoNumber) {
  const Folder folder;
  std::vector<NamedTensor> tensors = fp8_ones("w", 20, 1.0F);
  tensors[0].bytes[3 * 8 + 2] = '\x7F';
  const auto checkpoint = testing::open_tensors(folder, tensors);
  WeightLoader loader(*checkpoint, Compute::Float32);
  kernels::PackedMatrix matrix;
  loader.matrix({{.name = "w", .rows = 20, .columns = 8}}, matrix);
  device::ThreadPool pool(1);

  const auto buffer = loader.load(pool, kPlenty, {});

  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().message, "w: matrix source 0: the E4M3 code at [3, 2] is no number");
}

TEST(WeightLoader, RefusesToTakeMoreMemoryThanItMay) {
  const Folder folder;
  const std::array tensors = {counting("flat", {4, 5})};
  const auto checkpoint = testing::open_tensors(folder, tensors);
  WeightLoader loader(*checkpoint, Compute::Float32);
  kernels::PackedMatrix matrix;
  loader.matrix({{.name = "flat", .rows = 4, .columns = 5}}, matrix);
  device::ThreadPool pool(1);

  const auto buffer = loader.load(pool, loader.bytes() - 1, {});

  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().kind, ErrorKind::Exhausted);
}

}  // namespace
}  // namespace pleiad::model
