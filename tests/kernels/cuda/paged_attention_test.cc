#include "kernels/cuda/paged_attention.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/kernels/cuda/attention_scene.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;
using testing::Model;
using testing::Row;
using testing::Scene;

const std::array kModels = {
    Model{.heads = 4, .kv_heads = 2, .first = 10, .second = 6, .value = 20},
    Model{.heads = 32, .kv_heads = 4, .first = 128, .value = 128, .dtype = DType::BF16},
    Model{.heads = 24, .kv_heads = 2, .first = 64, .value = 64, .window = 100, .sinks = true},
    Model{.heads = 8, .kv_heads = 8, .first = 64, .value = 64, .sinks = true, .dtype = DType::BF16},
    Model{.heads = 4, .first = 40, .second = 8},
    Model{.heads = 16, .first = 512, .second = 64, .dtype = DType::BF16},
    Model{.heads = 3, .first = 600, .second = 16},
};

TEST(CudaPagedAttention, MatchesTheReferenceOnEveryKindOfModel) {
  for (std::size_t m = 0; m < kModels.size(); ++m) {
    Random random(m);
    Scene scene(random, kModels.at(m), {1, 64, 200, 700});
    const std::vector<Row> rows = {{0, 0}, {1, 63}, {2, 0}, {2, 70}, {2, 199}, {3, 500}, {3, 699}};
    const auto expected = scene.reference(rows);
    const float tolerance = kModels.at(m).dtype == DType::F32 ? 2e-5F : 0.02F;
    for (const bool spread : {false, true}) {
      EXPECT_LE(testing::largest_difference(scene.run(rows, spread, {}), expected), tolerance)
          << "model " << m << ", spread " << spread;
    }
  }
}

// DESIGN R2: whether a row's stretches are spread over blocks, and which rows are beside it, leaves
// no trace.
TEST(CudaPagedAttention, ARowHasTheSameBitsAloneAmongOthersSpreadOrNot) {
  for (std::size_t m = 0; m < kModels.size(); ++m) {
    Random random(m);
    Scene scene(random, kModels.at(m), {300, 5000});
    const std::vector<Row> rows = {{0, 299}, {1, 130}, {1, 131}, {1, 4200}, {1, 4999}};
    const auto together = scene.run(rows, false, {});
    EXPECT_TRUE(testing::same_bits(scene.run(rows, true, {}), together)) << "model " << m;
    const std::size_t line = together.size() / rows.size();
    for (std::size_t r = 0; r < rows.size(); ++r) {
      for (const bool spread : {false, true}) {
        EXPECT_TRUE(testing::same_bits(
            scene.run({rows[r]}, spread, {}), std::span(together).subspan(r * line, line)
        )) << "model "
           << m << ", row " << r;
      }
    }
  }
}

TEST(CudaPagedAttention, RowsWithoutAPositionAreZero) {
  Random random(9);
  Scene scene(random, kModels.front(), {64});
  for (const bool spread : {false, true}) {
    const auto out = scene.run({{0, -1}}, spread, {});
    EXPECT_TRUE(std::ranges::all_of(out, [](float value) { return value == 0.0F; }));
  }
}

TEST(CudaStoreLines, PartsGoToTheRowsLinesAndNowhereElse) {
  Random random(10);
  auto stream = testing::test_stream();
  constexpr std::int64_t kFirst = 10;
  constexpr std::int64_t kSecond = 6;
  constexpr std::int64_t kLine = kFirst + kSecond;
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const auto x = testing::random_floats(random, 3 * kLine, Compute::BFloat16);
    const DeviceActivations rows(x, kLine, dtype);
    const std::size_t page = 64 * kLine * device::size_of(dtype);
    const DeviceActivations cache(std::vector<float>(3 * 64 * kLine, 0.5F), kLine, dtype);
    const DeviceArray<std::int32_t> positions(std::vector<std::int32_t>{65, -1, 3});
    const DeviceArray<std::int32_t> table_of(std::vector<std::int32_t>{0, 0, 2});
    const DeviceArray<std::uint32_t> tables(std::vector<std::uint32_t>{1, 2, 0});
    AttentionPages pages = latent_pages(kFirst, kSecond);
    pages.base = static_cast<std::byte*>(cache.rows().data);
    pages.page_stride = page;
    pages.dtype = dtype;

    store_lines(
        stream,
        {.parts = {rows.rows(), rows.rows().from(kFirst)},
         .widths = {kFirst, kSecond},
         .rows = 3,
         .places =
             {.positions = positions.data(), .table_of = table_of.data(), .tables = tables.data()},
         .pages = pages}
    );

    std::vector<float> expected(3 * 64 * kLine, 0.5F);
    std::copy_n(x.begin(), kLine, expected.begin() + (2 * 64 + 1) * kLine);
    std::copy_n(x.begin() + 2 * kLine, kLine, expected.begin() + 3 * kLine);
    EXPECT_TRUE(testing::same_bits(cache.values(stream), expected));
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
