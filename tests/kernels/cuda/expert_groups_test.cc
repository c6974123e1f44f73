#include "kernels/cuda/expert_groups.h"

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::DeviceArray;

TEST(CudaGroupByExpert, PutsLinesInOrderOfExpertsAndLeavesOutRowsWithoutAPosition) {
  auto stream = testing::test_stream();
  Random random(2);
  for (const std::int64_t rows : {1, 3, 40, 204, 205, 700, 3000}) {
    constexpr std::int64_t kTopk = 5;
    constexpr std::int64_t kExperts = 33;
    constexpr std::int32_t kCounted = 31;
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> starts = {0};
    std::vector<std::int32_t> x_rows(static_cast<std::size_t>(rows * kTopk), 0);
    std::vector<std::int32_t> line_of(x_rows.size(), 0);
    std::vector<std::uint64_t> chosen(kCounted, 1);
    const auto weights = testing::random_floats(random, x_rows.size(), Compute::Float32);
    std::vector<float> line_weights(x_rows.size(), -7.0F);
    for (std::int64_t r = 0; r < rows; ++r) {
      positions.push_back(r % 4 == 2 ? -1 : static_cast<std::int32_t>(r));
      const auto first = static_cast<std::int32_t>(random.below(kExperts - kTopk));
      for (std::int32_t k = 0; k < kTopk; ++k) {
        ids.push_back(first + k);
      }
    }
    std::int32_t line = 0;
    for (std::int32_t e = 0; e < kExperts; ++e) {
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] != e || positions[i / kTopk] < 0) continue;
        x_rows[static_cast<std::size_t>(line)] = static_cast<std::int32_t>(i / kTopk);
        line_weights[static_cast<std::size_t>(line)] = weights[i];
        line_of[i] = line++;
        if (e < kCounted) ++chosen[static_cast<std::size_t>(e)];
      }
      starts.push_back(line);
    }
    const DeviceArray<std::int32_t> in(ids);
    const DeviceArray<std::int32_t> places(positions);
    const DeviceArray<std::int32_t> out_starts(std::vector<std::int32_t>(kExperts + 1, -7));
    const DeviceArray<std::int32_t> out_rows(std::vector<std::int32_t>(ids.size(), -7));
    const DeviceArray<std::int32_t> out_lines(std::vector<std::int32_t>(ids.size(), -7));
    const auto room = static_cast<std::size_t>(group_scratch_ints(rows, kTopk, kExperts));
    const DeviceArray<std::int32_t> scratch(std::vector<std::int32_t>(room, -7));
    const DeviceArray<std::uint64_t> counts(std::vector<std::uint64_t>(kCounted, 1));
    const DeviceArray<float> of_choices(weights);
    const DeviceArray<float> of_lines(std::vector<float>(ids.size(), -7.0F));

    group_by_expert(
        stream,
        {.ids = in.data(),
         .positions = places.data(),
         .weights = of_choices.data(),
         .rows = rows,
         .topk = kTopk,
         .experts = kExperts,
         .starts = out_starts.data(),
         .x_rows = out_rows.data(),
         .line_of = out_lines.data(),
         .line_weights = of_lines.data(),
         .counted = kCounted,
         .chosen = counts.data(),
         .scratch = scratch.data()}
    );

    EXPECT_EQ(out_starts.values(stream), starts) << rows;
    EXPECT_EQ(out_rows.values(stream), x_rows) << rows;
    EXPECT_EQ(out_lines.values(stream), line_of) << rows;
    EXPECT_EQ(counts.values(stream), chosen) << rows;
    EXPECT_EQ(of_lines.values(stream), line_weights) << rows;
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
