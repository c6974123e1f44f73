#include "kernels/detail/coded_source.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/quantized.h"

namespace pleiad::kernels {
namespace {

using device::DType;
using ::testing::HasSubstr;
using testing::kCodedFormats;
using testing::pack_sources;
using testing::Quantized;
using testing::random_quantized;

// Whether the outputs from `first` on are the block that `source` means of `weights`.
::testing::AssertionResult holds(
    const PackedMatrix& matrix,
    std::int64_t first,
    const Quantized& weights,
    const MatrixSource& source
) {
  const bool turned = source.transposed;
  const std::int64_t rows = source.row_count;
  const std::int64_t columns = source.column_count;
  for (std::int64_t o = 0; o < (turned ? columns : rows); ++o) {
    for (std::int64_t i = 0; i < (turned ? rows : columns); ++i) {
      const std::int64_t row = source.row_begin + (turned ? i : o) * source.row_step;
      const std::int64_t column = source.column_begin + (turned ? o : i) * source.column_step;
      const auto at = static_cast<std::size_t>(row * weights.shape.columns + column);
      const bool same = matrix.code(first + o, i) == weights.code[at] &&
                        matrix.scale(first + o, i) == weights.scale[at];
      if (same) continue;
      return ::testing::AssertionFailure()
             << to_string(weights.format) << " [" << o << ", " << i << "] is "
             << matrix.code(first + o, i) << " * " << matrix.scale(first + o, i) << ", not "
             << weights.code[at] << " * " << weights.scale[at];
    }
  }
  return ::testing::AssertionSuccess();
}

TEST(CodedSource, KeepsEveryCodeAndScaleOfWholeMatrices) {
  Random random(1);
  for (const WeightFormat format : kCodedFormats) {
    for (const auto& [rows, columns] : {std::pair{1, 32}, {16, 64}, {130, 288}, {37, 160}}) {
      const Quantized weights =
          random_quantized(random, format, {.rows = rows, .columns = columns});
      MatrixSource source = weights.source();
      source.row_count = rows;
      source.column_count = columns;

      const auto owned = pack_sources({&source, 1}, Compute::BFloat16);

      EXPECT_EQ(owned.matrix.format(), format);
      EXPECT_EQ(owned.matrix.compute(), Compute::BFloat16);
      EXPECT_EQ(owned.matrix.outputs(), rows);
      EXPECT_EQ(owned.matrix.inputs(), columns);
      EXPECT_TRUE(holds(owned.matrix, 0, weights, source));
    }
  }
}

TEST(CodedSource, StacksBlocksThatFitNoPanelAndNoScale) {
  Random random(2);
  for (const WeightFormat format : kCodedFormats) {
    for (int round = 0; round < 20; ++round) {
      const Quantized a = random_quantized(random, format, {.rows = 203, .columns = 416});
      const Quantized b = random_quantized(random, format, {.rows = 150, .columns = 320});
      const std::int64_t inputs = random.between(1, 200);
      std::array<MatrixSource, 2> sources = {a.source(), b.source()};
      for (MatrixSource& source : sources) {
        source.row_begin = random.between(0, 40);
        source.row_step = random.between(1, 3);
        source.row_count = random.between(1, 36);
        source.column_begin = 8 * random.between(0, 10);
        source.column_count = inputs;
      }

      const auto owned = pack_sources(sources, Compute::Float32);

      EXPECT_TRUE(holds(owned.matrix, 0, a, sources[0]));
      EXPECT_TRUE(holds(owned.matrix, sources[0].row_count, b, sources[1]));
    }
  }
}

TEST(CodedSource, TransposesFp8AndItsScales) {
  Random random(3);
  const Quantized weights = random_quantized(
      random,
      WeightFormat::Fp8Block,
      {.rows = 300, .columns = 270, .scale_rows = 128, .scale_columns = 64}
  );
  for (const std::int64_t begin : {0, 128, 64, 40}) {
    MatrixSource source = weights.source();
    source.row_begin = begin;
    source.row_count = 100;
    source.column_begin = 3;
    source.column_step = 2;
    source.column_count = 133;
    source.transposed = true;

    const auto owned = pack_sources({&source, 1}, Compute::Float32);

    EXPECT_EQ(owned.matrix.outputs(), 133);
    EXPECT_TRUE(holds(owned.matrix, 0, weights, source));
  }
}

TEST(CodedSource, ReadsScalesOfEveryTypeWithoutLosingABit) {
  Random random(4);
  const auto keeps = [&](WeightFormat format, DType type) {
    const Quantized weights =
        random_quantized(random, format, {.rows = 40, .columns = 96, .scale_type = type});
    MatrixSource source = weights.source();
    source.row_count = 40;
    source.column_count = 96;
    const auto owned = pack_sources({&source, 1}, Compute::Float32);
    EXPECT_TRUE(holds(owned.matrix, 0, weights, source)) << device::to_string(type);
    return owned.matrix.layout().scale_type;
  };
  for (const DType type : {DType::F32, DType::BF16, DType::F16, DType::F8E8M0}) {
    EXPECT_EQ(keeps(WeightFormat::Fp8Block, type), DType::F32);
  }
  EXPECT_EQ(keeps(WeightFormat::Int4Group32, DType::F32), DType::F32);
  EXPECT_EQ(keeps(WeightFormat::Int4Group32, DType::F16), DType::F32);
  EXPECT_EQ(keeps(WeightFormat::Int4Group32, DType::BF16), DType::BF16);
  EXPECT_EQ(keeps(WeightFormat::Int8Channel, DType::BF16), DType::F32);
  EXPECT_EQ(keeps(WeightFormat::MxFp4, DType::U8), DType::F8E8M0);
}

TEST(CodedSource, TakesOneOfStackedMatrices) {
  Random random(5);
  for (const WeightFormat format : kCodedFormats) {
    const Quantized a = random_quantized(random, format, {.rows = 128, .columns = 128});
    const Quantized b = random_quantized(random, format, {.rows = 128, .columns = 128});
    std::vector<std::uint8_t> codes = a.codes;
    codes.insert(codes.end(), b.codes.begin(), b.codes.end());
    std::vector<std::byte> scales = a.scales;
    scales.insert(scales.end(), b.scales.begin(), b.scales.end());
    MatrixSource source = b.source();
    source.index = 1;
    source.row_begin = 1;
    source.row_step = 2;
    source.row_count = 64;
    source.column_count = 128;
    const auto stacked = [](device::TensorView& view, std::span<const std::byte> bytes) {
      const device::Shape one = view.shape;
      view.bytes = bytes;
      view.shape = {.extents = {2, one[0], one[1], one[2]}, .rank = one.rank + 1};
    };
    stacked(source.tensor, std::as_bytes(std::span(codes)));
    stacked(source.scales, scales);

    const auto owned = pack_sources({&source, 1}, Compute::Float32);

    EXPECT_TRUE(holds(owned.matrix, 0, b, source));
  }
}

std::string refusal(std::span<const MatrixSource> sources) {
  const auto bytes = PackedMatrix::bytes(sources, Compute::Float32);
  return bytes.ok() ? "accepted" : bytes.error().message;
}

TEST(CodedSource, RefusesBlocksItsScalesCannotFollow) {
  Random random(6);
  for (const WeightFormat format : kCodedFormats) {
    const Quantized weights = random_quantized(random, format, {.rows = 40, .columns = 96});
    MatrixSource cut = weights.source();
    cut.column_begin = 4;
    MatrixSource apart = weights.source();
    apart.column_step = 2;
    MatrixSource outside = weights.source();
    outside.row_count = 41;
    MatrixSource turned = weights.source();
    turned.transposed = true;

    EXPECT_THAT(refusal({&cut, 1}), HasSubstr("from 4 on, a block must start at a multiple of 8"));
    EXPECT_THAT(refusal({&apart, 1}), HasSubstr("in steps of 2, they must be consecutive"));
    EXPECT_THAT(refusal({&outside, 1}), HasSubstr("lie outside its 40 rows"));
    if (format == WeightFormat::Fp8Block) {
      EXPECT_EQ(refusal({&turned, 1}), "accepted");
    } else {
      EXPECT_THAT(refusal({&turned, 1}), HasSubstr("cannot be transposed"));
    }
  }
}

TEST(CodedSource, RefusesToMixFormats) {
  Random random(7);
  const Quantized fp8 = random_quantized(random, WeightFormat::Fp8Block, {.rows = 4, .columns = 6});
  const std::vector<float> values(24);
  const std::array<MatrixSource, 2> mixed = {
      {fp8.source(), {.tensor = testing::view_of(values, 4, 6)}}};

  EXPECT_THAT(
      refusal(mixed), HasSubstr("source 1: is stored as plain, the sources before it as FP8 blocks")
  );
}

TEST(CodedSource, RefusesShapesAndTypesThatAreNotTheFormats) {
  Random random(8);
  for (const WeightFormat format : kCodedFormats) {
    const Quantized weights = random_quantized(random, format, {.rows = 40, .columns = 96});
    MatrixSource floats = weights.source();
    floats.tensor.dtype = DType::F32;
    MatrixSource few = weights.source();
    few.scales.shape.extents[0] += 1;
    few.scales.bytes = {};
    MatrixSource none = weights.source();
    none.scales = {};
    MatrixSource odd = weights.source();
    odd.scales.dtype = DType::I64;

    EXPECT_THAT(refusal({&floats, 1}), HasSubstr("dtype F32"));
    EXPECT_THAT(refusal({&few, 1}), HasSubstr("scales of matrix source 0: its bytes are not"));
    EXPECT_THAT(refusal({&none, 1}), HasSubstr("scales of matrix source 0"));
    EXPECT_THAT(refusal({&odd, 1}), HasSubstr("scales of matrix source 0: dtype I64"));
  }
  const Quantized fp8 =
      random_quantized(random, WeightFormat::Fp8Block, {.rows = 200, .columns = 96});
  MatrixSource coarse = fp8.source();
  coarse.scale_rows = 256;
  MatrixSource crooked = fp8.source();
  crooked.scale_columns = 12;
  EXPECT_THAT(refusal({&coarse, 1}), HasSubstr("shape [2, 1], a matrix of 200 x 96"));
  EXPECT_THAT(refusal({&crooked, 1}), HasSubstr("both must be multiples of 8"));
}

TEST(CodedSource, RefusesScalesThatMakeNoFiniteWeights) {
  Random random(9);
  const auto with_scale = [&](WeightFormat format, auto value) {
    Quantized weights = random_quantized(random, format, {.rows = 40, .columns = 256});
    std::memcpy(weights.scales.data() + sizeof(value), &value, sizeof(value));
    const MatrixSource source = weights.source();
    return refusal({&source, 1});
  };

  EXPECT_THAT(with_scale(WeightFormat::Fp8Block, std::nanf("")), HasSubstr("[0, 1] is nan"));
  EXPECT_THAT(with_scale(WeightFormat::Fp8Block, 256.0F), HasSubstr("too large"));
  EXPECT_EQ(with_scale(WeightFormat::Fp8Block, 255.0F), "accepted");
  EXPECT_EQ(with_scale(WeightFormat::Fp8Block, 0.0F), "accepted");
  EXPECT_THAT(with_scale(WeightFormat::Int8Channel, INFINITY), HasSubstr("[1, 0] is inf"));
  EXPECT_THAT(with_scale(WeightFormat::Int4Group32, 1e38F), HasSubstr("not finite"));
  EXPECT_THAT(with_scale(WeightFormat::MxFp4, std::uint8_t{255}), HasSubstr("[0, 1] is nan"));
  EXPECT_THAT(with_scale(WeightFormat::MxFp4, std::uint8_t{253}), HasSubstr("not finite"));
  EXPECT_EQ(with_scale(WeightFormat::MxFp4, std::uint8_t{252}), "accepted");
  EXPECT_EQ(with_scale(WeightFormat::MxFp4, std::uint8_t{0}), "accepted");
}

TEST(CodedSource, NamesThePlaceOfACodeThatIsNoNumber) {
  Random random(10);
  for (const auto nan : {std::uint8_t{0x7F}, std::uint8_t{0xFF}}) {
    Quantized weights =
        random_quantized(random, WeightFormat::Fp8Block, {.rows = 40, .columns = 300});
    weights.codes[17 * 300 + 290] = nan;
    for (const bool transposed : {false, true}) {
      MatrixSource source = weights.source();
      source.transposed = transposed;
      auto memory = device::Buffer::allocate(1 << 20).value();

      const auto packed =
          PackedMatrix::pack({&source, 1}, Compute::Float32, memory.as<std::byte>());

      ASSERT_FALSE(packed.ok());
      EXPECT_EQ(packed.error().kind, ErrorKind::InvalidInput);
      EXPECT_THAT(packed.error().message, HasSubstr("source 0: the E4M3 code at [17, 290]"));
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels
