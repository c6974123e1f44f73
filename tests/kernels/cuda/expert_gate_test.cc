#include "kernels/cuda/expert_gate.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include <gtest/gtest.h>

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

TEST(CudaSelectExperts, TiesGoToTheLowerIdAndNanIsNeverChosen) {
  std::vector<float> logits(64, 1.0F);
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  expect_the_cpus_choice({.experts = 64, .topk = 6}, logits, {});
  expect_the_cpus_choice({.experts = 64, .topk = 6, .groups = 8, .topk_groups = 3}, logits, {});
}

TEST(CudaRouteExperts, ChoosesAndGroupsAsTheTwoOpsDo) {
  auto stream = testing::test_stream();
  Random random(5);
  for (const std::int64_t experts : {16, 128, 384, 1024}) {
    for (const std::int64_t rows : {1, 2, 16, 17, 128, 129}) {
      constexpr std::int64_t kTopk = 8;
      const GateOptions options{.experts = experts, .topk = kTopk, .groups = 4, .topk_groups = 2};
      const auto count = static_cast<std::size_t>(rows * kTopk);
      const DeviceArray<float> logits(
          testing::random_floats(random, static_cast<std::size_t>(rows * experts), Compute::Float32)
      );
      std::vector<std::int32_t> positions(static_cast<std::size_t>(rows), 4);
      if (rows > 1) positions.back() = -1;
      const DeviceArray<std::int32_t> places(positions);
      const DeviceArray<std::int32_t> scratch(std::vector<std::int32_t>(
          static_cast<std::size_t>(group_scratch_ints(rows, kTopk, experts)), -7
      ));
      const auto outcome = [&](bool together) {
        const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>(count, -7));
        const DeviceArray<float> weights(testing::poison(count));
        const DeviceArray<std::int32_t> starts(
            std::vector<std::int32_t>(static_cast<std::size_t>(experts + 1), -7)
        );
        const DeviceArray<std::int32_t> x_rows(std::vector<std::int32_t>(count, -7));
        const DeviceArray<std::int32_t> line_of(std::vector<std::int32_t>(count, -7));
        const DeviceArray<std::uint64_t> chosen(
            std::vector<std::uint64_t>(static_cast<std::size_t>(experts), 3)
        );
        const SelectExpertsTask select{
            .options = options,
            .logits = logits.data(),
            .rows = rows,
            .ids = ids.data(),
            .weights = weights.data(),
        };
        const GroupByExpertTask group{
            .ids = ids.data(),
            .positions = places.data(),
            .rows = rows,
            .topk = kTopk,
            .experts = experts,
            .starts = starts.data(),
            .x_rows = x_rows.data(),
            .line_of = line_of.data(),
            .chosen = chosen.data(),
            .scratch = scratch.data(),
        };
        if (together) {
          route_experts(stream, select, group);
        } else {
          select_experts(stream, select);
          group_by_expert(stream, group);
        }
        return std::tuple(
            ids.values(stream),
            weights.values(stream),
            starts.values(stream),
            x_rows.values(stream),
            line_of.values(stream),
            chosen.values(stream)
        );
      };
      EXPECT_EQ(outcome(true), outcome(false)) << experts << " experts, " << rows << " rows";
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
