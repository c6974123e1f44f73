#include "kernels/cuda/tree_combine.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/tree_combine.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

TEST(CudaTreeCombine, HasTheCpusBits) {
  auto stream = testing::test_stream();
  Random random(3);
  device::ThreadPool pool(2);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    for (const std::int64_t topk : {1, 2, 5, 8, 64}) {
      constexpr std::int64_t kRows = 9;
      constexpr std::int64_t kHidden = 204;
      const auto lines = static_cast<std::size_t>(kRows * topk);
      std::vector<std::int32_t> ids;
      for (std::int64_t r = 0; r < kRows; ++r) {
        std::vector<std::int32_t> all(256);
        std::iota(all.begin(), all.end(), 0);
        for (std::size_t k = 0; k < static_cast<std::size_t>(topk); ++k) {
          std::swap(all[k], all[k + random.below(256 - k)]);
        }
        std::sort(all.begin(), all.begin() + topk);
        ids.insert(ids.end(), all.begin(), all.begin() + topk);
      }
      std::vector<std::int32_t> line_of(lines);
      std::iota(line_of.rbegin(), line_of.rend(), 0);
      const auto outputs = testing::random_floats(random, lines * kHidden, Compute::Float32);
      const auto weights = testing::random_floats(random, lines, Compute::Float32);
      const auto shared = testing::random_floats(random, kRows * kHidden, Compute::Float32);
      const auto residual = testing::random_floats(random, kRows * kHidden, Compute::Float32);
      auto expected = residual;
      kernels::tree_combine(
          {&pool, device::detect_cpu_isa(), compute},
          {.term_rows = outputs.data(),
           .row_of = line_of.data(),
           .ids = ids.data(),
           .weights = weights.data(),
           .rows = kRows,
           .topk = topk,
           .hidden = kHidden,
           .shared = shared.data(),
           .residual = expected.data()}
      );
      // The last row is left out.
      std::copy(residual.end() - kHidden, residual.end(), expected.end() - kHidden);
      std::vector<std::int32_t> positions(kRows, 3);
      positions.back() = -1;
      const DeviceActivations in(outputs, kHidden, DType::F32);
      const DeviceActivations of_shared(shared, kHidden, DType::F32);
      const DeviceArray<std::int32_t> places(positions);
      const DeviceArray<std::int32_t> device_ids(ids);
      const DeviceArray<std::int32_t> device_lines(line_of);
      const DeviceArray<float> device_weights(weights);
      const DeviceArray<float> out(residual);

      tree_combine(
          stream,
          {.lines = in.rows(),
           .line_of = device_lines.data(),
           .ids = device_ids.data(),
           .weights = device_weights.data(),
           .positions = places.data(),
           .rows = kRows,
           .topk = topk,
           .hidden = kHidden,
           .shared = of_shared.rows(),
           .activation = testing::activation_of(compute),
           .residual = out.data()}
      );

      EXPECT_TRUE(testing::same_bits(out.values(stream), expected)) << topk;
    }
  }
}

TEST(CudaTreeCombine, NormalisesTheSumForTheNextLayer) {
  auto stream = testing::test_stream();
  Random random(4);
  for (const DType dtype : {DType::F32, DType::BF16}) {
    for (const std::int64_t hidden : {64, 198, 2048, 7168}) {
      constexpr std::int64_t kRows = 3;
      const auto count = static_cast<std::size_t>(kRows * hidden);
      const DeviceActivations lines(
          testing::random_floats(random, count, Compute::Float32), hidden, DType::F32
      );
      const DeviceArray<std::int32_t> places(std::vector<std::int32_t>{0, 5, 6});
      const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>{2, 1, 9});
      const DeviceArray<std::int32_t> line_of(std::vector<std::int32_t>{1, 0, 2});
      const DeviceArray<float> weights(std::vector<float>{0.25F, 1.5F, 1.0F});
      const DeviceActivations residual(
          testing::random_floats(random, count, Compute::Float32), hidden, DType::F32
      );
      const DeviceArray<float> norm(
          testing::random_floats(random, static_cast<std::size_t>(hidden), Compute::Float32)
      );
      const DeviceActivations together(testing::poison(count), hidden, dtype);
      const DeviceActivations apart(testing::poison(count), hidden, dtype);

      tree_combine(
          stream,
          {.lines = lines.rows(),
           .line_of = line_of.data(),
           .ids = ids.data(),
           .weights = weights.data(),
           .positions = places.data(),
           .rows = kRows,
           .topk = 1,
           .hidden = hidden,
           .activation = dtype,
           .residual = static_cast<float*>(residual.rows().data),
           .norm = norm.data(),
           .y = together.rows()}
      );
      rms_norm(
          stream,
          {.x = residual.rows(),
           .rows = kRows,
           .width = hidden,
           .weight = norm.data(),
           .y = apart.rows()}
      );

      EXPECT_TRUE(testing::same_bits(together.values(stream), apart.values(stream))) << hidden;
    }
  }
}

// Lines that are weighted and rounded already, what attention still owes the residual, and shared
// experts among the lines, against the same said the long way.
TEST(CudaTreeCombine, TakesWeightedLinesAndSharedExpertsAndWhatIsToBeAdded) {
  auto stream = testing::test_stream();
  Random random(6);
  for (const std::int64_t shared : {0, 1, 2}) {
    constexpr std::int64_t kRows = 5;
    constexpr std::int64_t kTopk = 4;
    constexpr std::int64_t kHidden = 300;
    const std::int64_t stride = kTopk + shared;
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> tree_ids;
    std::vector<std::int32_t> line_of;
    std::vector<std::int32_t> tree_lines;
    std::vector<float> weights;
    std::vector<float> tree_weights;
    const auto count = static_cast<std::size_t>(kRows * stride);
    const auto outputs = testing::random_floats(random, count * kHidden, Compute::Float32);
    std::vector<float> leaves(outputs.size());
    std::vector<float> shared_sum(static_cast<std::size_t>(kRows * kHidden), 0.0F);
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t k = 0; k < stride; ++k) {
        const bool in_tree = k < kTopk;
        const auto line = static_cast<std::int32_t>((r * stride + k) * 7 % (kRows * stride));
        const float weight = in_tree ? 0.25F + static_cast<float>(random.below(100)) / 99 : 1.0F;
        ids.push_back(static_cast<std::int32_t>(in_tree ? 7 * k + r : 64 + k - kTopk));
        line_of.push_back(line);
        weights.push_back(weight);
        if (in_tree) tree_ids.push_back(ids.back());
        if (in_tree) tree_lines.push_back(line);
        if (in_tree) tree_weights.push_back(weight);
        for (std::int64_t i = 0; i < kHidden; ++i) {
          const auto at = static_cast<std::size_t>(line * kHidden + i);
          const auto sum_at = static_cast<std::size_t>(r * kHidden + i);
          leaves[at] = device::bf16_to_float(device::float_to_bf16(outputs[at] * weight));
          if (!in_tree) shared_sum[sum_at] = shared_sum[sum_at] + leaves[at];
        }
      }
    }
    const auto residual =
        testing::random_floats(random, static_cast<std::size_t>(kRows * kHidden), Compute::Float32);
    const auto delta = testing::random_floats(
        random, static_cast<std::size_t>(kRows * kHidden), Compute::BFloat16
    );
    const DeviceArray<std::int32_t> places(std::vector<std::int32_t>(kRows, 3));
    const DeviceActivations plain(outputs, kHidden, DType::F32);
    const DeviceActivations weighted(leaves, kHidden, DType::BF16);
    const DeviceActivations of_shared(shared_sum, kHidden, DType::F32);
    const DeviceActivations add(delta, kHidden, DType::BF16);
    const DeviceArray<std::int32_t> all_ids(ids);
    const DeviceArray<std::int32_t> all_lines(line_of);
    const DeviceArray<float> all_weights(weights);
    const DeviceArray<std::int32_t> some_ids(tree_ids);
    const DeviceArray<std::int32_t> some_lines(tree_lines);
    const DeviceArray<float> some_weights(tree_weights);

    for (const bool settled : {false, true}) {
      const DeviceActivations out(residual, kHidden, DType::F32);
      tree_combine(
          stream,
          {.lines = weighted.rows(),
           .line_of = all_lines.data(),
           .ids = all_ids.data(),
           .weights = all_weights.data(),
           .positions = places.data(),
           .rows = kRows,
           .topk = kTopk,
           .shared_experts = shared,
           .hidden = kHidden,
           .activation = DType::BF16,
           .add = add.rows(),
           .residual = static_cast<float*>(out.rows().data),
           .settled = settled}
      );
      const DeviceActivations expected(residual, kHidden, DType::F32);
      add_rows(
          stream,
          {.x = add.rows(),
           .rows = kRows,
           .width = kHidden,
           .sum = static_cast<float*>(expected.rows().data)}
      );
      tree_combine(
          stream,
          {.lines = plain.rows(),
           .line_of = some_lines.data(),
           .ids = some_ids.data(),
           .weights = some_weights.data(),
           .positions = places.data(),
           .rows = kRows,
           .topk = kTopk,
           .hidden = kHidden,
           .shared = shared > 0 ? of_shared.rows() : DeviceRows{},
           .activation = DType::BF16,
           .residual = static_cast<float*>(expected.rows().data)}
      );
      EXPECT_TRUE(testing::same_bits(out.values(stream), expected.values(stream))) << shared;
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
