#include <gtest/gtest.h>

#include "model/cuda/weight_upload.h"

namespace pleiad::model::cuda {
namespace {

using device::DType;
using kernels::Compute;
using kernels::MatrixSource;
using kernels::PackedMatrix;
using kernels::WeightFormat;

MatrixSource plain(std::int64_t rows, std::int64_t columns, DType dtype = DType::BF16) {
  MatrixSource source;
  const auto bytes = static_cast<std::size_t>(rows * columns) * device::size_of(dtype);
  source.tensor = {
      .bytes = {static_cast<const std::byte*>(nullptr), bytes},
      .dtype = dtype,
      .shape = {.extents = {rows, columns}, .rank = 2}};
  return source;
}

TEST(CutSources, TakesOutputsAcrossSources) {
  const std::vector<MatrixSource> sources = {plain(48, 64), plain(32, 64)};

  const auto cut = cut_sources(sources, 32, 32);

  ASSERT_EQ(cut.size(), 2U);
  EXPECT_EQ(cut[0].row_begin, 32);
  EXPECT_EQ(cut[0].row_count, 16);
  EXPECT_EQ(cut[1].row_begin, 0);
  EXPECT_EQ(cut[1].row_count, 16);
}

TEST(CutSources, OutputsOfATransposedSourceAreItsColumns) {
  MatrixSource source = plain(64, 96);
  source.transposed = true;
  source.column_begin = 1;
  source.column_step = 2;

  const auto cut = cut_sources(std::vector{source}, 16, 16);

  ASSERT_EQ(cut.size(), 1U);
  EXPECT_EQ(cut[0].column_begin, 33);
  EXPECT_EQ(cut[0].column_count, 16);
}

TEST(RowsAreStored, OnlyWhereBytesNeedNoChange) {
  const kernels::PanelLayout layout{.compute = Compute::BFloat16, .inputs = 64};
  EXPECT_TRUE(rows_are_stored(plain(48, 64), layout));
  EXPECT_FALSE(rows_are_stored(plain(48, 64, DType::F16), layout));
  MatrixSource turned = plain(64, 48);
  turned.transposed = true;
  EXPECT_FALSE(rows_are_stored(turned, layout));
  MatrixSource part = plain(48, 64);
  part.row_step = 2;
  EXPECT_FALSE(rows_are_stored(part, layout));
}

TEST(RowsAreStored, Fp8NeedsScalesOfTheLayoutsType) {
  MatrixSource source = plain(256, 256, DType::F8E4M3);
  source.format = WeightFormat::Fp8Block;
  source.scales = {.dtype = DType::F32, .shape = {.extents = {2, 2}, .rank = 2}};
  kernels::PanelLayout layout{.format = WeightFormat::Fp8Block, .inputs = 256, .scale_inputs = 128};
  EXPECT_TRUE(rows_are_stored(source, layout));
  layout.scale_type = DType::BF16;
  EXPECT_FALSE(rows_are_stored(source, layout));
}

TEST(CutUploads, PartsAreWholePanelsAndCoverAll) {
  const std::vector<MatrixSource> sources = {plain(100, 64)};
  const PackedMatrix matrix = PackedMatrix::plan(sources, Compute::BFloat16).value();
  const std::vector<std::byte> bytes(10);
  WeightUpload rows{.source = &matrix, .outputs = 100};
  WeightUpload packed = rows;
  std::byte somewhere{};
  packed.packed = &somewhere;

  const auto parts = cut_uploads({rows, packed, {.bytes = bytes}}, 2 * matrix.panel_bytes() + 1);

  ASSERT_EQ(parts.size(), 4U + 1U + 1U);
  EXPECT_EQ(parts[0].outputs, 32);
  EXPECT_EQ(parts[3].first_output, 96);
  EXPECT_EQ(parts[3].outputs, 4);
  EXPECT_EQ(parts[4].outputs, 100);
  EXPECT_EQ(parts[5].bytes.size(), 10U);
}

}  // namespace
}  // namespace pleiad::model::cuda
