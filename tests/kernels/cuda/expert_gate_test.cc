#include "kernels/cuda/expert_gate.h"

#include <algorithm>
#include <limits>

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

TEST(CudaSelectExperts, SharedExpertsStandBehindTheChosenOnes) {
  auto stream = testing::test_stream();
  Random random(3);
  constexpr std::int64_t kRows = 3;
  const GateOptions options{.experts = 40, .topk = 4};
  const DeviceArray<float> logits(testing::random_floats(random, kRows * 40, Compute::Float32));
  const auto run = [&](std::int64_t shared) {
    const auto count = static_cast<std::size_t>(kRows * (4 + shared));
    const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>(count, -1));
    const DeviceArray<float> weights(testing::poison(count));
    select_experts(
        stream,
        {.options = options,
         .logits = logits.data(),
         .rows = kRows,
         .shared = shared,
         .ids = ids.data(),
         .weights = weights.data()}
    );
    return Choice{ids.values(stream), weights.values(stream)};
  };
  const Choice alone = run(0);
  const Choice with_shared = run(2);
  Choice expected;
  for (std::int64_t r = 0; r < kRows; ++r) {
    const auto first = alone.ids.begin() + 4 * r;
    expected.ids.insert(expected.ids.end(), first, first + 4);
    expected.ids.insert(expected.ids.end(), {40, 41});
    const auto weight = alone.weights.begin() + 4 * r;
    expected.weights.insert(expected.weights.end(), weight, weight + 4);
    expected.weights.insert(expected.weights.end(), {1.0F, 1.0F});
  }
  EXPECT_EQ(with_shared.ids, expected.ids);
  EXPECT_EQ(with_shared.weights, expected.weights);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
