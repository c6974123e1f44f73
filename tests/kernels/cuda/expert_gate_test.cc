// Also tests: tree_combine.cu
#include "kernels/cuda/expert_gate.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/cuda/tree_combine.h"
#include "kernels/tree_combine.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

struct Choice {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Choice cpu_choice(const GateOptions& options, const std::vector<float>& logits, const float* bias) {
  device::ThreadPool pool(2);
  const auto rows = static_cast<std::int64_t>(logits.size()) / options.experts;
  Choice choice;
  choice.ids.assign(static_cast<std::size_t>(rows * options.topk), -1);
  choice.weights = testing::poison(choice.ids.size());
  kernels::select_experts(
      {&pool, device::detect_cpu_isa(), Compute::Float32},
      options,
      {logits.data(), bias, rows, choice.ids.data(), choice.weights.data()}
  );
  return choice;
}

void expect_the_cpus_choice(
    const GateOptions& options,
    const std::vector<float>& logits,
    const std::vector<float>& bias
) {
  auto stream = testing::test_stream();
  const Choice expected = cpu_choice(options, logits, bias.empty() ? nullptr : bias.data());
  const DeviceArray<float> in(logits);
  const DeviceArray<float> biases(bias.empty() ? std::vector<float>(1) : bias);
  const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>(expected.ids.size(), -1));
  const DeviceArray<float> weights(testing::poison(expected.ids.size()));

  select_experts(
      stream,
      {.options = options,
       .logits = in.data(),
       .bias = bias.empty() ? nullptr : biases.data(),
       .rows = static_cast<std::int64_t>(logits.size()) / options.experts,
       .ids = ids.data(),
       .weights = weights.data()}
  );

  EXPECT_EQ(ids.values(stream), expected.ids);
  EXPECT_LE(testing::largest_difference(weights.values(stream), expected.weights), 1e-5F);
}

TEST(CudaSelectExperts, ChoosesAsTheCpuOverAllKindsOfGates) {
  Random random(1);
  for (const GateScore score :
       {GateScore::Sigmoid, GateScore::Softmax, GateScore::SoftmaxOfChosen}) {
    for (const std::int64_t experts : {4, 32, 60, 128, 256, 1024}) {
      for (const bool biased : {false, true}) {
        const std::int64_t groups = experts % 8 == 0 && score != GateScore::SoftmaxOfChosen ? 4 : 1;
        const GateOptions options{
            .experts = experts,
            .topk = std::min<std::int64_t>(experts / groups, 8),
            .groups = groups,
            .topk_groups = groups == 1 ? 1 : 2,
            .score = score,
            .group_score = biased ? GroupScore::SumOfTopTwo : GroupScore::Max,
            .normalize = biased,
            .scale = 2.5F,
        };
        const auto logits = testing::random_floats(
            random, static_cast<std::size_t>(experts * 13), Compute::Float32
        );
        std::vector<float> bias;
        if (biased) {
          bias =
              testing::random_floats(random, static_cast<std::size_t>(experts), Compute::Float32);
        }
        SCOPED_TRACE(::testing::Message() << experts << " experts, " << groups << " groups");
        expect_the_cpus_choice(options, logits, bias);
      }
    }
  }
}

TEST(CudaGateLogits, AreNearTheReferenceAndTheSameBitsInEveryBatch) {
  auto stream = testing::test_stream();
  Random random(4);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    for (const std::int64_t experts : {3, 60, 128}) {
      constexpr std::int64_t kRows = 11;
      constexpr std::int64_t kInputs = 300;
      const auto x = testing::random_floats(random, kRows * kInputs, compute);
      const auto plain = testing::random_floats(
          random, static_cast<std::size_t>(experts * kInputs), Compute::Float32
      );
      const auto bias =
          testing::random_floats(random, static_cast<std::size_t>(experts), Compute::Float32);
      const auto packed = kernels::testing::pack(plain, experts, kInputs, Compute::Float32);
      const testing::UploadedMatrix weight(packed.matrix);
      const DeviceActivations rows(x, kInputs, testing::activation_of(compute));
      const DeviceArray<float> biases(bias);
      const auto run = [&](std::int64_t first, std::int64_t count) {
        const DeviceArray<float> out(testing::poison(static_cast<std::size_t>(count * experts)));
        gate_logits(
            stream,
            {.x = rows.rows().from(first * kInputs),
             .rows = count,
             .weight = weight.matrix(),
             .bias = biases.data(),
             .logits = out.data()}
        );
        return out.values(stream);
      };
      const auto all = run(0, kRows);
      for (std::int64_t r = 0; r < kRows; ++r) {
        const auto at = static_cast<std::size_t>(r * experts);
        const auto width = static_cast<std::size_t>(experts);
        EXPECT_TRUE(testing::same_bits(run(r, 1), std::span(all).subspan(at, width))) << r;
        for (std::size_t e = 0; e < width; ++e) {
          double sum = static_cast<double>(bias[e]);
          for (std::size_t i = 0; i < kInputs; ++i) {
            sum += static_cast<double>(x[static_cast<std::size_t>(r) * kInputs + i]) *
                   static_cast<double>(plain[e * kInputs + i]);
          }
          EXPECT_NEAR(static_cast<double>(all[at + e]), sum, 1e-4);
        }
      }
    }
  }
}

TEST(CudaSelectExperts, TiesGoToTheLowerIdAndNanIsNeverChosen) {
  std::vector<float> logits(64, 1.0F);
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  expect_the_cpus_choice({.experts = 64, .topk = 6}, logits, {});
  expect_the_cpus_choice({.experts = 64, .topk = 6, .groups = 8, .topk_groups = 3}, logits, {});
}

TEST(CudaGroupByExpert, PutsLinesInOrderOfExpertsAndLeavesOutRowsWithoutAPosition) {
  auto stream = testing::test_stream();
  Random random(2);
  for (const std::int64_t rows : {1, 3, 40, 700}) {
    constexpr std::int64_t kTopk = 5;
    constexpr std::int64_t kExperts = 33;
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> starts = {0};
    std::vector<std::int32_t> x_rows(static_cast<std::size_t>(rows * kTopk), 0);
    std::vector<std::int32_t> line_of(x_rows.size(), 0);
    std::vector<std::uint64_t> chosen(kExperts, 1);
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
        line_of[i] = line++;
        ++chosen[static_cast<std::size_t>(e)];
      }
      starts.push_back(line);
    }
    const DeviceArray<std::int32_t> in(ids);
    const DeviceArray<std::int32_t> places(positions);
    const DeviceArray<std::int32_t> out_starts(std::vector<std::int32_t>(kExperts + 1, -7));
    const DeviceArray<std::int32_t> out_rows(std::vector<std::int32_t>(ids.size(), -7));
    const DeviceArray<std::int32_t> out_lines(std::vector<std::int32_t>(ids.size(), -7));
    const DeviceArray<std::uint64_t> counts(std::vector<std::uint64_t>(kExperts, 1));

    group_by_expert(
        stream,
        {.ids = in.data(),
         .positions = places.data(),
         .rows = rows,
         .topk = kTopk,
         .experts = kExperts,
         .starts = out_starts.data(),
         .x_rows = out_rows.data(),
         .line_of = out_lines.data(),
         .chosen = counts.data()}
    );

    EXPECT_EQ(out_starts.values(stream), starts) << rows;
    EXPECT_EQ(out_rows.values(stream), x_rows) << rows;
    EXPECT_EQ(out_lines.values(stream), line_of) << rows;
    EXPECT_EQ(counts.values(stream), chosen) << rows;
  }
}

TEST(CudaTreeCombine, HasTheCpusBits) {
  auto stream = testing::test_stream();
  Random random(3);
  device::ThreadPool pool(2);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    for (const std::int64_t topk : {1, 2, 5, 8, 64}) {
      constexpr std::int64_t kRows = 9;
      constexpr std::int64_t kHidden = 200;
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

}  // namespace
}  // namespace pleiad::kernels::cuda
