#include <array>
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/gemm.h"
#include "tests/kernels/quantized.h"

// Products with quantised weights, on every instruction set, against plain loops.
namespace pleiad::kernels {
namespace {

using device::CpuIsa;
using testing::kCodedFormats;
using testing::pack_sources;
using testing::Quantized;
using testing::random_quantized;
using testing::same_bits;

constexpr std::int64_t kPad = 3;

struct CodedProduct {
  Quantized weights;
  testing::OwnedMatrix packed;
  std::vector<float> x;
  GemmTask task;  // but for weight and y

  CodedProduct(
      Random& random,
      WeightFormat format,
      testing::QuantizedShape shape,
      std::int64_t rows
  )
      : weights(random_quantized(random, format, shape)) {
    const MatrixSource source = weights.source();
    packed = pack_sources({&source, 1}, Compute::Float32);
    const std::int64_t stride = shape.columns + kPad;
    x = testing::random_floats(random, static_cast<std::size_t>(rows * stride), Compute::Float32);
    task = {.x = x.data(), .x_stride = stride, .rows = rows, .y_stride = shape.rows + kPad};
  }

  std::vector<float> run(const Context& context) const { return run(context, task); }
  std::vector<float> run(const Context& context, GemmTask some) const {
    auto y = testing::poison(static_cast<std::size_t>(some.rows * some.y_stride));
    if (some.weight == nullptr) some.weight = &packed.matrix;
    some.y = y.data();
    gemm(context, some);
    return y;
  }
  std::vector<float> reference() const {
    auto y = testing::poison(static_cast<std::size_t>(task.rows * task.y_stride));
    GemmTask slow = task;
    slow.weight = &packed.matrix;
    slow.y = y.data();
    gemm_reference(slow);
    return y;
  }
};

class CodedGemm : public ::testing::TestWithParam<std::tuple<CpuIsa, WeightFormat>> {
 protected:
  CpuIsa isa() const { return std::get<0>(GetParam()); }
  WeightFormat format() const { return std::get<1>(GetParam()); }
  Context context(device::ThreadPool& pool) const { return {.pool = &pool, .isa = isa()}; }
  // Columns that the format allows, near `columns`.
  std::int64_t columns(std::int64_t columns) const {
    const bool groups = format() == WeightFormat::Int4Group32 || format() == WeightFormat::MxFp4;
    return groups ? (columns + 31) / 32 * 32 : columns;
  }
};

TEST_P(CodedGemm, MatchesTheReferenceForEveryTile) {
  device::ThreadPool pool(2);
  Random random(1);
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 48, 100}) {
    const testing::QuantizedShape shape = {
        .rows = random.between(1, 170),
        .columns = columns(random.between(1, 400)),
        .scale_type = rows % 2 == 0 ? device::DType::BF16 : device::DType::F32,
    };
    CodedProduct product(random, format(), shape, rows);
    product.task.round_output = rows % 3 == 0;
    const auto bias =
        testing::random_floats(random, static_cast<std::size_t>(shape.rows), Compute::Float32);
    if (rows % 4 != 0) product.task.bias = bias.data();

    EXPECT_TRUE(same_bits(product.run(context(pool)), product.reference()))
        << rows << " x " << shape.rows << " x " << shape.columns;
  }
}

TEST_P(CodedGemm, MatchesTheReferenceOverManyInputs) {
  device::ThreadPool pool(2);
  Random random(2);
  for (const auto& [rows, outputs, inputs] :
       {std::array{1, 70, 3001}, {2, 33, 2500}, {5, 40, 6001}, {50, 20, 2300}}) {
    const testing::QuantizedShape shape = {.rows = outputs, .columns = columns(inputs)};
    const CodedProduct product(random, format(), shape, rows);

    EXPECT_TRUE(same_bits(product.run(context(pool)), product.reference())) << rows;
  }
}

// The weights against their dequantised form, from the stored bytes by other code than packed them.
TEST_P(CodedGemm, MultipliesByTheDequantisedWeights) {
  device::ThreadPool pool(1);
  Random random(3);
  const testing::QuantizedShape shape = {.rows = 50, .columns = columns(300)};
  for (const std::int64_t rows : {1, 5, 48}) {
    const CodedProduct product(random, format(), shape, rows);
    const auto y = product.run(context(pool));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t o = 0; o < shape.rows; ++o) {
        double sum = 0.0;
        float chain = 0.0F;
        double size = 0.0;
        for (std::int64_t i = 0; i < shape.columns; ++i) {
          const float x = product.x[static_cast<std::size_t>(r * product.task.x_stride + i)];
          const float w = product.weights.weight(o, i);
          chain = std::fma(x, w, chain);
          sum += static_cast<double>(x) * static_cast<double>(w);
          size += std::fabs(static_cast<double>(x) * static_cast<double>(w));
        }
        const float got = y[static_cast<std::size_t>(r * product.task.y_stride + o)];
        if (format() == WeightFormat::Int8Channel) {
          ASSERT_NEAR(got, sum, 0.01 * size);
        } else {
          ASSERT_EQ(got, chain);
        }
      }
    }
  }
}

TEST_P(CodedGemm, GivesARowTheSameBitsInAnyCompany) {
  device::ThreadPool pool(3);
  Random random(4);
  const testing::QuantizedShape shape = {.rows = 90, .columns = columns(1500)};
  const CodedProduct product(random, format(), shape, 60);
  const auto whole = product.run(context(pool));
  const auto width = static_cast<std::size_t>(product.task.y_stride);
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 9, 14, 49}) {
    const std::int64_t first = random.between(0, 60 - rows);
    GemmTask task = product.task;
    task.x += first * task.x_stride;
    task.rows = rows;
    const auto y = product.run(context(pool), task);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto got = std::span(y).subspan(static_cast<std::size_t>(r) * width, 90);
      const auto expected =
          std::span(whole).subspan(static_cast<std::size_t>(first + r) * width, 90);
      ASSERT_TRUE(same_bits(got, expected)) << rows << " rows, row " << r;
    }
  }
}

// Parts of 1104 / 4 = 276 inputs would break words; of 288 they break the groups of 128 and 32.
TEST_P(CodedGemm, AddsPartialSumsPairwiseAsIfComputedApart) {
  device::ThreadPool pool(2);
  Random random(5);
  for (const std::int64_t parts : {2, 4}) {
    for (const std::int64_t rows : {1, 3, 60}) {
      const std::int64_t part = 264;
      const testing::QuantizedShape shape = {.rows = 150, .columns = columns(parts * part)};
      if (shape.columns % (8 * parts) != 0) continue;
      CodedProduct product(random, format(), shape, rows);
      product.task.partial_sums = parts;
      const auto y = product.run(context(pool));
      EXPECT_TRUE(same_bits(y, product.reference())) << parts << " parts";

      std::vector<std::vector<float>> sums;
      for (std::int64_t p = 0; p < parts; ++p) {
        MatrixSource source = product.weights.source();
        source.column_begin = p * (shape.columns / parts);
        source.column_count = shape.columns / parts;
        const auto shard = pack_sources({&source, 1}, Compute::Float32);
        GemmTask task = product.task;
        task.partial_sums = 1;
        task.weight = &shard.matrix;
        task.x += source.column_begin;
        sums.push_back(product.run(context(pool), task));
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t o = 0; o < shape.rows; ++o) {
          const auto at = static_cast<std::size_t>(r * product.task.y_stride + o);
          const float low = sums[0][at] + sums[1][at];
          ASSERT_EQ(y[at], parts == 2 ? low : low + (sums[2][at] + sums[3][at]));
        }
      }
    }
  }
}

TEST_P(CodedGemm, ReadsStackedBlocksOfDifferentAlignment) {
  device::ThreadPool pool(2);
  Random random(6);
  const Quantized a = random_quantized(random, format(), {.rows = 140, .columns = 256});
  const Quantized b = random_quantized(random, format(), {.rows = 70, .columns = 160});
  std::array<MatrixSource, 2> sources = {a.source(), b.source()};
  sources[0].row_begin = 5;
  sources[0].row_count = 45;
  sources[0].row_step = 3;
  sources[0].column_begin = 40;
  sources[0].column_count = 120;
  sources[1].row_begin = 1;
  sources[1].column_begin = 16;
  sources[1].column_count = 120;
  const auto packed = pack_sources(sources, Compute::Float32);
  for (const std::int64_t rows : {1, 20}) {
    const auto x =
        testing::random_floats(random, static_cast<std::size_t>(rows * 120), Compute::Float32);
    GemmTask task = {
        .x = x.data(), .x_stride = 120, .rows = rows, .weight = &packed.matrix, .y_stride = 114};
    auto y = testing::poison(static_cast<std::size_t>(rows * 114));
    auto expected = y;
    task.y = y.data();
    gemm(context(pool), task);
    task.y = expected.data();
    gemm_reference(task);

    EXPECT_TRUE(same_bits(y, expected));
    if (format() == WeightFormat::Int8Channel) continue;
    float chain = 0.0F;
    for (std::int64_t i = 0; i < 120; ++i) {
      chain = std::fma(x[static_cast<std::size_t>(i)], b.weight(3, 16 + i), chain);
    }
    EXPECT_EQ(y[47], chain);  // output 2 of the second block
  }
}

TEST_P(CodedGemm, KeepsNotANumberInItsRow) {
  device::ThreadPool pool(1);
  Random random(7);
  const testing::QuantizedShape shape = {.rows = 33, .columns = columns(64)};
  CodedProduct product(random, format(), shape, 20);
  const auto clean = product.run(context(pool));
  for (const float bad : {std::nanf(""), INFINITY}) {
    product.x[static_cast<std::size_t>(7 * product.task.x_stride + 3)] = bad;

    const auto y = product.run(context(pool));

    for (std::size_t r = 0; r < 20; ++r) {
      const auto got = std::span(y).subspan(r * (33 + kPad), 33);
      if (r == 7) {
        EXPECT_FALSE(std::isfinite(got[0]) && std::isfinite(got[32]));
      } else {
        EXPECT_TRUE(same_bits(got, std::span(clean).subspan(r * (33 + kPad), 33))) << r;
      }
    }
  }
}

TEST_P(CodedGemm, TakesRowsOfZerosAndOfTinyAndHugeNumbers) {
  device::ThreadPool pool(1);
  Random random(8);
  const testing::QuantizedShape shape = {.rows = 40, .columns = columns(96)};
  CodedProduct product(random, format(), shape, 6);
  const std::array<float, 6> factors = {0.0F, -0.0F, 0x1p-140F, 0x1p-99F, 0x1p-60F, 0x1p100F};
  for (std::size_t r = 0; r < factors.size(); ++r) {
    for (std::size_t i = 0; i < 96; ++i) {
      product.x[r * (96 + kPad) + i] *= factors.at(r);
    }
  }

  EXPECT_TRUE(same_bits(product.run(context(pool)), product.reference()));
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<CpuIsa, WeightFormat>>& one) {
  constexpr std::array kNames = {"plain", "fp8", "int8", "int4", "mxfp4"};
  const auto format = static_cast<std::size_t>(std::get<1>(one.param));
  return std::string(device::to_string(std::get<0>(one.param))) + "_" + kNames.at(format);
}

INSTANTIATE_TEST_SUITE_P(
    Isas,
    CodedGemm,
    ::testing::Combine(
        ::testing::ValuesIn(testing::runnable_isas()),
        ::testing::ValuesIn(kCodedFormats)
    ),
    name_of
);

// Every code alone: the chain of one weight is the weight itself.
TEST(CodedGemmOfE4m3, GivesEveryCodeItsValueAlsoSubnormalOnes) {
  device::ThreadPool pool(1);
  Random random(9);
  Quantized weights = random_quantized(
      random, WeightFormat::Fp8Block, {.rows = 256, .columns = 1, .scale_rows = 8}
  );
  for (std::size_t code = 0; code < 256; ++code) {
    const bool nan = (code & 0x7FU) == 0x7FU;
    weights.codes[code] = static_cast<std::uint8_t>(nan ? 0x80U : code);
    weights.code[code] = device::f8e4m3_to_float(weights.codes[code]);
  }
  const MatrixSource source = weights.source();
  const auto packed = pack_sources({&source, 1}, Compute::Float32);
  const std::vector<float> x(5, 1.0F);
  for (const CpuIsa isa : testing::runnable_isas()) {
    for (const std::int64_t rows : {1, 5}) {
      auto y = testing::poison(static_cast<std::size_t>(rows) * 256);
      gemm(
          {.pool = &pool, .isa = isa},
          {.x = x.data(),
           .x_stride = 1,
           .rows = rows,
           .weight = &packed.matrix,
           .y = y.data(),
           .y_stride = 256}
      );
      for (std::int64_t code = 0; code < 256; ++code) {
        EXPECT_EQ(y[static_cast<std::size_t>(code)], weights.weight(code, 0)) << code;
      }
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels
