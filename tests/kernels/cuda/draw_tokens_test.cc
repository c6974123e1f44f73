#include "kernels/cuda/draw_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::DeviceArray;

constexpr float kNever = -std::numeric_limits<float>::infinity();

float or_never(float logit) {
  return std::isnan(logit) ? kNever : logit;
}

// Tokens that a rule keeps, from the most likely on, and their weights.
struct Kept {
  std::vector<std::int32_t> ids;
  std::vector<double> weights;
  double mass = 0.0;
};

Kept keep(const std::vector<float>& logits, const DrawRule& rule) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t id) {
    return or_never(logits[static_cast<std::size_t>(id)]);
  };
  std::ranges::stable_sort(order, [&](auto a, auto b) { return logit(a) > logit(b); });
  const float top = logit(order.front());
  const float floor = rule.min_p > 0.0F ? top + rule.temperature * std::log(rule.min_p) : kNever;
  std::size_t count = 0;
  const std::size_t most = rule.top_k > 0 ? static_cast<std::size_t>(rule.top_k) : order.size();
  std::vector<double> weights;
  double mass = 0.0;
  while (count < std::min(most, order.size()) && logit(order[count]) >= floor) {
    const float apart = logit(order[count++]) - top;
    weights.push_back(std::exp(static_cast<double>(apart) / static_cast<double>(rule.temperature)));
    mass += weights.back();
  }
  Kept kept;
  for (std::size_t i = 0; i < count; ++i) {
    kept.ids.push_back(order[i]);
    kept.weights.push_back(weights[i]);
    kept.mass += weights[i];
    if (kept.mass >= static_cast<double>(rule.top_p) * mass) break;
  }
  return kept;
}

std::vector<DrawnToken>
draw(const std::vector<std::vector<float>>& logits, const std::vector<DrawRule>& rules) {
  auto stream = testing::test_stream();
  std::vector<float> all;
  for (const auto& row : logits) {
    all.insert(all.end(), row.begin(), row.end());
  }
  const auto rows = static_cast<std::int64_t>(logits.size());
  const auto vocabulary = static_cast<std::int64_t>(logits.front().size());
  const DeviceArray<float> in(all);
  const DeviceArray<DrawRule> given(rules);
  const DeviceArray<DrawnToken> out(std::vector<DrawnToken>(logits.size(), {.token = -7}));
  const DeviceArray<std::byte> scratch(
      std::vector<std::byte>(draw_scratch_bytes(rows, vocabulary), std::byte{0xFF})
  );
  draw_tokens(
      stream,
      {.logits = in.data(),
       .rows = rows,
       .vocabulary = vocabulary,
       .rules = given.data(),
       .drawn = out.data(),
       .scratch = scratch.data()}
  );
  return out.values(stream);
}

std::vector<float> noise(Random& random, std::size_t count, float spread) {
  auto values = testing::random_floats(random, count, Compute::Float32);
  for (float& value : values) {
    value *= spread;
  }
  return values;
}

TEST(CudaDrawTokens, GreedyTakesTheMostLikelyTiesToTheLowerId) {
  std::vector<float> logits(9000, 0.5F);
  logits[0] = std::numeric_limits<float>::quiet_NaN();
  logits[4097] = 2.0F;
  logits[8000] = 2.0F;
  const auto drawn = draw({logits}, {{.temperature = 0.0F, .wanted = 1}}).front();
  EXPECT_EQ(drawn.token, 4097);
  EXPECT_EQ(drawn.logit, 2.0F);
  EXPECT_NEAR(drawn.log_mass, std::log(8997.0 * std::exp(0.5) + 2.0 * std::exp(2.0)), 1e-5);
  const std::vector<float> never(100, kNever);
  EXPECT_EQ(draw({never}, {{.temperature = 1.0F, .wanted = 1}}).front().token, 0);
}

TEST(CudaDrawTokens, RowsThatAreNotWantedAreLeftOut) {
  const std::vector<float> logits(64, 1.0F);
  const auto drawn = draw({logits, logits}, {{.wanted = 0}, {.uniform = 0.0, .wanted = 1}});
  EXPECT_EQ(drawn[0].token, -1);
  EXPECT_EQ(drawn[1].token, 0);
}

// A token is right when the random number falls into its share, but for rounding at the edges.
TEST(CudaDrawTokens, DrawsOverAllTokensInIdOrder) {
  Random random(1);
  for (const std::size_t vocabulary : {40U, 5000U, 151936U}) {
    const auto logits = noise(random, vocabulary, 3.0F);
    for (const float temperature : {0.3F, 1.0F, 1.7F}) {
      std::vector<double> reached;
      double mass = 0.0;
      for (const float logit : logits) {
        mass += std::exp(static_cast<double>(logit) / static_cast<double>(temperature));
        reached.push_back(mass);
      }
      std::vector<DrawRule> rules;
      for (int i = 0; i < 20; ++i) {
        rules.push_back({.temperature = temperature, .uniform = random.uniform(), .wanted = 1});
      }
      const auto drawn = draw(std::vector(rules.size(), logits), rules);
      for (std::size_t i = 0; i < rules.size(); ++i) {
        ASSERT_GE(drawn[i].token, 0);
        const auto token = static_cast<std::size_t>(drawn[i].token);
        const double target = rules[i].uniform * mass;
        EXPECT_LE(token == 0 ? 0.0 : reached[token - 1], target + 1e-5 * mass);
        EXPECT_GE(reached[token], target - 1e-5 * mass);
        EXPECT_EQ(drawn[i].logit, logits[token]);
      }
    }
  }
}

TEST(CudaDrawTokens, DrawsAmongKeptTokensFromTheMostLikelyOn) {
  Random random(2);
  const std::vector<DrawRule> kinds = {
      {.temperature = 0.8F, .top_p = 0.9F},
      {.temperature = 1.0F, .top_k = 1},
      {.temperature = 1.0F, .top_k = 50},
      {.temperature = 1.3F, .top_p = 0.5F, .top_k = 20},
      {.temperature = 0.7F, .min_p = 0.1F},
      {.temperature = 0.6F, .top_p = 0.95F, .min_p = 0.02F, .top_k = 7},
      {.temperature = 1.0F, .top_p = 1e-6F},
  };
  for (const std::size_t vocabulary : {33U, 4096U, 102400U}) {
    const auto logits = noise(random, vocabulary, 5.0F);
    for (DrawRule rule : kinds) {
      const Kept kept = keep(logits, rule);
      ASSERT_LE(kept.ids.size(), static_cast<std::size_t>(kDrawCandidatesMax));
      std::vector<DrawRule> rules;
      for (int i = 0; i < 20; ++i) {
        rule.uniform = random.uniform();
        rule.wanted = 1;
        rules.push_back(rule);
      }
      const auto drawn = draw(std::vector(rules.size(), logits), rules);
      for (std::size_t i = 0; i < rules.size(); ++i) {
        const auto found = std::ranges::find(kept.ids, drawn[i].token);
        ASSERT_NE(found, kept.ids.end()) << "token " << drawn[i].token << " was not kept";
        const auto at = static_cast<std::size_t>(found - kept.ids.begin());
        double before = 0.0;
        for (std::size_t k = 0; k < at; ++k) {
          before += kept.weights[k];
        }
        const double target = rules[i].uniform * kept.mass;
        EXPECT_LE(before, target + 1e-5 * kept.mass);
        EXPECT_GE(before + kept.weights[at], target - 1e-5 * kept.mass);
      }
    }
  }
}

TEST(CudaDrawTokens, SaysSoWhenARuleKeepsMoreThanItCanOrder) {
  const std::vector<float> flat(20000, 0.0F);
  const auto drawn = draw(
      {flat, flat},
      {{.temperature = 1.0F, .top_p = 0.9F, .wanted = 1},
       {.temperature = 1.0F, .top_p = 0.05F, .uniform = 0.5, .wanted = 1}}
  );
  EXPECT_EQ(drawn[0].token, -1);
  // All logits are equal: they cannot be told apart without ordering all of them.
  EXPECT_EQ(drawn[1].token, -1);
  EXPECT_NEAR(drawn[0].log_mass, std::log(20000.0), 1e-5);
}

TEST(CudaDrawTokens, ARowHasTheSameBitsAloneAndAmongOthers) {
  Random random(3);
  std::vector<std::vector<float>> logits;
  std::vector<DrawRule> rules;
  for (int i = 0; i < 33; ++i) {
    logits.push_back(noise(random, 30000, 4.0F));
    rules.push_back(
        {.temperature = 0.9F,
         .top_p = i % 3 == 0 ? 1.0F : 0.8F,
         .top_k = i % 3 == 1 ? 30 : 0,
         .uniform = random.uniform(),
         .wanted = 1}
    );
  }
  const auto together = draw(logits, rules);
  for (std::size_t i = 0; i < rules.size(); i += 4) {
    const auto alone = draw({logits[i]}, {rules[i]}).front();
    EXPECT_EQ(alone.token, together[i].token);
    EXPECT_EQ(alone.logit, together[i].logit);
    EXPECT_EQ(alone.log_mass, together[i].log_mass);
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
