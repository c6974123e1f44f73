#include "model/stored_matrix.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/quantized.h"
#include "tests/model/tensor_files.h"

namespace pleiad::model {
namespace {

using device::DType;
using kernels::WeightFormat;
using kernels::testing::Quantized;
using kernels::testing::random_quantized;
using ::testing::HasSubstr;
using testing::NamedTensor;
using weights::testing::Folder;

NamedTensor tensor(std::string name, const device::TensorView& view, std::int64_t stacked = -1) {
  std::vector<std::int64_t> shape;
  if (stacked >= 0) shape.push_back(stacked);
  for (std::size_t axis = 0; axis < view.shape.rank; ++axis) {
    shape.push_back(view.shape[axis]);
  }
  NamedTensor made =
      testing::named_tensor(std::move(name), device::to_string(view.dtype), shape, view.bytes);
  const std::string once = made.bytes;
  for (std::int64_t i = 1; i < stacked; ++i) {
    made.bytes += once;
  }
  return made;
}

struct Names {
  std::string codes;
  std::string scales;
};

Names names_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::Plain:
      break;
    case WeightFormat::Fp8Block:
      return {"w", "w_scale_inv"};
    case WeightFormat::Int8Channel:
      return {"w", "w_scale"};
    case WeightFormat::Int4Group32:
      return {"w_packed", "w_scale"};
    case WeightFormat::MxFp4:
      return {"w_blocks", "w_scales"};
  }
  return {};
}

std::vector<NamedTensor> tensors_of(const Quantized& weights, std::int64_t stacked = -1) {
  const auto names = names_of(weights.format);
  const kernels::MatrixSource source = weights.source();
  return {
      tensor(names.codes, source.tensor, stacked), tensor(names.scales, source.scales, stacked)};
}

std::string refusal(
    std::span<const NamedTensor> tensors,
    const MatrixPart& part,
    const QuantizationConfig& config = {}
) {
  const Folder folder;
  const auto checkpoint = testing::open_tensors(folder, tensors);
  const auto source = stored_matrix(*checkpoint, config, part);
  return source.ok() ? "accepted" : source.error().message;
}

// Rows 1, 3, 5 ... and columns from 64 on of `weights`, found through a checkpoint.
void expect_found(const Quantized& weights, std::int64_t stacked) {
  const Folder folder;
  const auto checkpoint = testing::open_tensors(folder, tensors_of(weights, stacked));
  const MatrixPart part = {
      .name = "w",
      .rows = 160,
      .columns = 192,
      .index = stacked < 0 ? -1 : 1,
      .row_begin = 1,
      .row_step = 2,
      .column_begin = 64,
  };

  const auto source = stored_matrix(*checkpoint, {.format = weights.format}, part);

  ASSERT_TRUE(source.ok()) << source.error().message;
  EXPECT_EQ(source->format, weights.format);
  const auto owned = kernels::testing::pack_sources({&*source, 1}, kernels::Compute::Float32);
  ASSERT_EQ(owned.matrix.outputs(), 80);
  ASSERT_EQ(owned.matrix.inputs(), 128);
  for (std::int64_t o = 0; o < 80; ++o) {
    for (std::int64_t i = 0; i < 128; ++i) {
      const float weight = owned.matrix.code(o, i) * owned.matrix.scale(o, i);
      ASSERT_EQ(weight, weights.weight(1 + 2 * o, 64 + i));
    }
  }
}

TEST(StoredMatrix, FindsTheScalesOfEveryFormat) {
  Random random(1);
  for (const WeightFormat format : kernels::testing::kCodedFormats) {
    const Quantized weights = random_quantized(random, format, {.rows = 160, .columns = 192});
    expect_found(weights, -1);
    expect_found(weights, 3);
  }
}

// The unquantised checkpoint stores [inputs, outputs]; the blocks run along inputs all the same.
TEST(StoredMatrix, TakesMxfp4BlocksAsTheTransposeOfTheTensorTheyReplace) {
  Random random(2);
  const Quantized weights =
      random_quantized(random, WeightFormat::MxFp4, {.rows = 20, .columns = 64});
  const Folder folder;
  const auto checkpoint = testing::open_tensors(folder, tensors_of(weights, 2));
  const MatrixPart part = {
      .name = "w",
      .rows = 64,
      .columns = 20,
      .index = 1,
      .stacked = 2,
      .column_begin = 1,
      .column_step = 2,
      .transposed = true,
  };

  const auto source = stored_matrix(*checkpoint, {}, part).value();
  const auto owned = kernels::testing::pack_sources({&source, 1}, kernels::Compute::Float32);

  ASSERT_EQ(owned.matrix.outputs(), 10);
  ASSERT_EQ(owned.matrix.inputs(), 64);
  EXPECT_EQ(owned.matrix.code(3, 5) * owned.matrix.scale(3, 5), weights.weight(7, 5));
}

TEST(StoredMatrix, ReadsScalesStoredAsOneLineOrAsPowersOfTwo) {
  Random random(3);
  const Quantized int8 =
      random_quantized(random, WeightFormat::Int8Channel, {.rows = 5, .columns = 9});
  std::vector<NamedTensor> line = tensors_of(int8);
  line[1].shape = {5};
  const Quantized fp8 = random_quantized(
      random, WeightFormat::Fp8Block, {.rows = 5, .columns = 9, .scale_type = DType::F8E8M0}
  );

  EXPECT_EQ(refusal(line, {.name = "w", .rows = 5, .columns = 9}), "accepted");
  EXPECT_EQ(refusal(tensors_of(fp8), {.name = "w", .rows = 5, .columns = 9}), "accepted");
}

TEST(StoredMatrix, NamesMissingAndMisshapenTensors) {
  Random random(4);
  for (const WeightFormat format : kernels::testing::kCodedFormats) {
    const Names names = names_of(format);
    const Quantized weights = random_quantized(random, format, {.rows = 40, .columns = 64});
    std::vector<NamedTensor> tensors = tensors_of(weights);
    const MatrixPart part = {.name = "w", .rows = 40, .columns = 64};
    const MatrixPart taller = {.name = "w", .rows = 48, .columns = 64};

    EXPECT_THAT(refusal(std::span(tensors).first(1), part), HasSubstr(names.scales));
    EXPECT_THAT(refusal(tensors, taller), HasSubstr(names.codes));
    EXPECT_THAT(
        refusal(tensors, {.name = "w", .rows = 40, .columns = 64, .index = 0}),
        HasSubstr(names.codes)
    );
    std::vector<NamedTensor> halved = tensors;
    halved[1].shape.push_back(1);
    EXPECT_THAT(refusal(halved, part), HasSubstr(names.scales));
    tensors[1].dtype = tensors[1].dtype == "U8" ? "I8" : "I32";
    EXPECT_THAT(
        refusal(tensors, part),
        HasSubstr("tensor " + names.scales + " is " + std::string(tensors[1].dtype))
    );
  }
  const Quantized other =
      random_quantized(random, WeightFormat::Fp8Block, {.rows = 4, .columns = 8});
  EXPECT_THAT(refusal(tensors_of(other), {.name = "gone"}), HasSubstr("gone"));
}

TEST(StoredMatrix, RefusesAShapeThatContradictsThePart) {
  Random random(5);
  const Quantized weights =
      random_quantized(random, WeightFormat::Int4Group32, {.rows = 4, .columns = 64});
  std::vector<NamedTensor> tensors = tensors_of(weights);
  const MatrixPart part = {.name = "w", .rows = 4, .columns = 64};
  for (const bool fits : {true, false}) {
    const std::array<std::int64_t, 2> wide = {4, fits ? 64 : 60};
    const std::array<std::int32_t, 2> narrow = {4, fits ? 64 : 60};
    std::vector<NamedTensor> with_wide = tensors;
    with_wide.push_back(testing::named_tensor<std::int64_t>("w_shape", "I64", {2}, wide));
    std::vector<NamedTensor> with_narrow = tensors;
    with_narrow.push_back(testing::named_tensor<std::int32_t>("w_shape", "I32", {2}, narrow));

    const auto expected = fits ? "accepted" : "tensor w_shape says 4 x 60, expected 4 x 64";
    EXPECT_EQ(refusal(with_wide, part), expected);
    EXPECT_EQ(refusal(with_narrow, part), expected);
  }
}

TEST(StoredMatrix, RefusesAFormatThatTheConfigDoesNotName) {
  Random random(6);
  const Quantized weights =
      random_quantized(random, WeightFormat::Fp8Block, {.rows = 4, .columns = 64});
  const MatrixPart part = {.name = "w", .rows = 4, .columns = 64};

  EXPECT_EQ(
      refusal(tensors_of(weights), part, {.format = WeightFormat::MxFp4}),
      "tensor w is stored as FP8 blocks, but the quantization_config says MXFP4"
  );
  EXPECT_THAT(
      refusal(tensors_of(weights), part, {.format = WeightFormat::Fp8Block, .scale_columns = 32}),
      HasSubstr("w_scale_inv")
  );
}

}  // namespace
}  // namespace pleiad::model
