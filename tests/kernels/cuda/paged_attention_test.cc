#include "kernels/cuda/paged_attention.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/kernels/cuda/attention_scene.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
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

}  // namespace
}  // namespace pleiad::kernels::cuda
