#include "kernels/expert_gate.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using ::testing::ElementsAre;
using testing::same_bits;

struct Choice {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Choice select(
    const GateOptions& options,
    std::span<const float> logits,
    const float* bias = nullptr,
    device::CpuIsa isa = device::detect_cpu_isa()
) {
  device::ThreadPool pool(2);
  const auto rows = static_cast<std::int64_t>(logits.size()) / options.experts;
  Choice choice;
  choice.ids.assign(static_cast<std::size_t>(rows * options.topk), -1);
  choice.weights = testing::poison(choice.ids.size());
  select_experts(
      {&pool, isa, Compute::BFloat16},
      options,
      {logits.data(), bias, rows, choice.ids.data(), choice.weights.data()}
  );
  return choice;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

TEST(SelectExperts, TakesTheBestBySigmoidAndNormalises) {
  const std::vector<float> logits = {0.0F, 2.0F, -1.0F, 3.0F};

  const Choice choice = select({.experts = 4, .topk = 2, .scale = 2.5F}, logits);

  EXPECT_THAT(choice.ids, ElementsAre(1, 3));
  const double sum = sigmoid(2) + sigmoid(3);
  EXPECT_NEAR(choice.weights[0], 2.5 * sigmoid(2) / sum, 1e-6);
  EXPECT_NEAR(choice.weights[1], 2.5 * sigmoid(3) / sum, 1e-6);
}

TEST(SelectExperts, GivesPlainSoftmaxWeightsWhenNotNormalising) {
  const std::vector<float> logits = {1.0F, 2.0F, 3.0F};

  const Choice choice =
      select({.experts = 3, .topk = 1, .score = GateScore::Softmax, .normalize = false}, logits);

  EXPECT_THAT(choice.ids, ElementsAre(2));
  EXPECT_NEAR(
      choice.weights[0], std::exp(3.0) / (std::exp(1.0) + std::exp(2.0) + std::exp(3.0)), 1e-6
  );
}

TEST(SelectExperts, SpreadsASoftmaxOverTheChosenOnly) {
  const std::vector<float> logits = {-300.0F, 1.0F, -200.0F, 3.0F, -301.0F};

  const Choice choice =
      select({.experts = 5, .topk = 3, .score = GateScore::SoftmaxOfChosen}, logits);

  // Also the third, whose share of a softmax over all would be no number to compare.
  EXPECT_THAT(choice.ids, ElementsAre(1, 2, 3));
  EXPECT_NEAR(choice.weights[0], 1 / (1 + std::exp(2.0)), 1e-6);
  EXPECT_EQ(choice.weights[1], 0.0F);
  EXPECT_NEAR(choice.weights[2], 1 / (1 + std::exp(-2.0)), 1e-6);
}

TEST(SelectExperts, BreaksTiesTowardsTheLowerId) {
  const std::vector<float> logits(8, 0.25F);

  const auto groups = GateOptions{.experts = 8, .topk = 3, .groups = 4, .topk_groups = 2};

  EXPECT_THAT(select({.experts = 8, .topk = 3}, logits).ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(select(groups, logits).ids, ElementsAre(0, 1, 2));
}

TEST(SelectExperts, UsesTheBiasForTheChoiceOnly) {
  const std::vector<float> logits = {0.0F, 1.0F, 2.0F};
  const std::vector<float> bias = {5.0F, 0.0F, 0.0F};

  const Choice choice = select({.experts = 3, .topk = 1, .normalize = false}, logits, bias.data());

  EXPECT_THAT(choice.ids, ElementsAre(0));
  EXPECT_NEAR(choice.weights[0], 0.5, 1e-6);
}

TEST(SelectExperts, NeverTakesAnExpertOfAGroupNotChosen) {
  // All biased scores are negative: a masked zero would win.
  const std::vector<float> logits = {1.0F, 1.0F, 3.0F, -9.0F, 2.0F, 1.0F};
  const std::vector<float> bias(6, -10.0F);
  GateOptions options = {.experts = 6, .topk = 2, .groups = 3, .topk_groups = 1};

  EXPECT_THAT(select(options, logits, bias.data()).ids, ElementsAre(4, 5));

  options.group_score = GroupScore::Max;
  EXPECT_THAT(select(options, logits, bias.data()).ids, ElementsAre(2, 3));
}

TEST(SelectExperts, TreatsNotANumberAsTheWorst) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  for (const GateScore score : {GateScore::Sigmoid, GateScore::Softmax}) {
    const std::vector<float> some = {nan, -50.0F, nan, 1.0F};
    EXPECT_THAT(select({.experts = 4, .topk = 2, .score = score}, some).ids, ElementsAre(1, 3));
    for (const float value : {nan, infinity, -infinity}) {
      const std::vector<float> all(4, value);
      const Choice choice = select({.experts = 4, .topk = 2, .score = score}, all);
      EXPECT_THAT(choice.ids, ElementsAre(0, 1));
    }
  }
}

// Sorting by the definition.
std::vector<std::int32_t> expected_ids(
    const GateOptions& options,
    std::span<const float> logits,
    std::span<const float> bias
) {
  const auto score = [&](std::int32_t id) {
    return sigmoid(logits[static_cast<std::size_t>(id)]) + bias[static_cast<std::size_t>(id)];
  };
  const auto better = [&](std::int32_t a, std::int32_t b) { return score(a) > score(b); };
  const auto size = static_cast<std::int32_t>(options.experts / options.groups);
  std::vector<std::pair<double, std::int32_t>> groups;
  for (std::int32_t group = 0; group < options.groups; ++group) {
    std::vector<std::int32_t> members(static_cast<std::size_t>(size));
    std::iota(members.begin(), members.end(), group * size);
    std::stable_sort(members.begin(), members.end(), better);
    groups.emplace_back(-(score(members[0]) + score(members[1])), group);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<std::int32_t> ids;
  for (std::int64_t g = 0; g < options.topk_groups; ++g) {
    for (std::int32_t i = 0; i < size; ++i) {
      ids.push_back(groups[static_cast<std::size_t>(g)].second * size + i);
    }
  }
  std::stable_sort(ids.begin(), ids.end(), better);
  ids.resize(static_cast<std::size_t>(options.topk));
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(SelectExperts, MatchesASortOnRandomRowsAndIsTheSameOnEveryIsa) {
  Random random(5);
  const GateOptions options = {
      .experts = 64, .topk = 6, .groups = 8, .topk_groups = 3, .scale = 2.5F};
  const auto logits = testing::random_floats(random, 100 * 64, Compute::Float32);
  const auto bias = testing::random_floats(random, 64, Compute::Float32);
  const Choice portable = select(options, logits, bias.data(), device::CpuIsa::Portable);

  for (std::size_t row = 0; row < 100; ++row) {
    const auto got = std::span(portable.ids).subspan(row * 6, 6);
    const auto expected = expected_ids(options, std::span(logits).subspan(row * 64, 64), bias);
    EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin())) << row;
  }
  for (const device::CpuIsa isa : testing::runnable_isas()) {
    const Choice choice = select(options, logits, bias.data(), isa);
    EXPECT_EQ(choice.ids, portable.ids);
    EXPECT_TRUE(same_bits(choice.weights, portable.weights));
  }
}

TEST(SelectExpertsDeathTest, EndsOnOptionsNoModelMayHave) {
  const std::vector<float> logits(4);

  EXPECT_DEATH(select({.experts = 4, .topk = 5}, logits), "topk");
  EXPECT_DEATH(select({.experts = 4, .topk = 1, .groups = 3}, logits), "groups");
  EXPECT_DEATH(select({.experts = 4, .topk = 3, .groups = 4, .topk_groups = 2}, logits), "topk");
}

}  // namespace
}  // namespace pleiad::kernels
