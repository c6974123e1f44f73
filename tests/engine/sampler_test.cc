#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TokenId sample(
    std::vector<float> logits,
    const api::Sampling& sampling,
    std::vector<TokenId> output = {},
    std::vector<TokenId> prompt = {0}
) {
  Sampler sampler(static_cast<std::int64_t>(logits.size()));
  return sampler.sample(
      {.logits = logits, .prompt = prompt, .output = output, .sampling = &sampling}
  );
}

// How often each token is drawn over `draws` output positions.
std::map<TokenId, int>
draw_many(const std::vector<float>& logits, api::Sampling sampling, int draws) {
  Sampler sampler(static_cast<std::int64_t>(logits.size()));
  std::map<TokenId, int> counts;
  for (int i = 0; i < draws; ++i) {
    sampling.seed = static_cast<std::uint64_t>(i);
    ++counts[sampler.sample({.logits = logits, .prompt = {}, .output = {}, .sampling = &sampling})];
  }
  return counts;
}

TEST(Sampler, GreedyTakesTheMostLikelyAndTheLowerOfEquals) {
  EXPECT_EQ(sample({1, 3, 3, 2}, {.temperature = 0.0F}), 1U);
  EXPECT_EQ(sample({1, 3, 3, 2}, {.temperature = 1e-30F}), 1U);
}

TEST(Sampler, NanNeverWinsAndNothingCrashesOnInfinities) {
  EXPECT_EQ(sample({NAN, 1, NAN}, {.temperature = 0.0F}), 1U);
  EXPECT_EQ(sample({NAN, 1, NAN}, {.temperature = 1.0F}), 1U);
  EXPECT_EQ(sample({-kInf, -kInf}, {.temperature = 1.0F}), 0U);
  EXPECT_EQ(sample({0, kInf, 1}, {.temperature = 1.0F}), 1U);
}

TEST(Sampler, TheSameSeedAndPositionDrawTheSameToken) {
  std::vector<float> logits(100);
  Random random(1);
  for (float& logit : logits)
    logit = static_cast<float>(random.normal());

  EXPECT_EQ(sample(logits, {.seed = 5}, {1, 2, 3}), sample(logits, {.seed = 5}, {7, 8, 9}));
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits = {0.0F, std::log(2.0F), std::log(5.0F)};

  const auto counts = draw_many(logits, {}, 8000);

  EXPECT_NEAR(counts.at(0), 1000, 120);
  EXPECT_NEAR(counts.at(1), 2000, 160);
  EXPECT_NEAR(counts.at(2), 5000, 200);
}

TEST(Sampler, FilteredDrawsFollowTheSoftmaxOfWhatIsKept) {
  const std::vector<float> logits = {0.0F, std::log(2.0F), std::log(5.0F)};

  const auto counts = draw_many(logits, {.top_k = 2}, 7000);

  EXPECT_FALSE(counts.contains(0));
  EXPECT_NEAR(counts.at(1), 2000, 160);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities 0.5, 0.3, 0.2.
  const std::vector<float> logits = {std::log(0.2F), std::log(0.5F), std::log(0.3F)};

  EXPECT_EQ(draw_many(logits, {.top_p = 0.4F}, 500).size(), 1U);
  EXPECT_EQ(draw_many(logits, {.top_p = 0.75F}, 500).size(), 2U);
  EXPECT_EQ(draw_many(logits, {.top_p = 0.9F}, 500).size(), 3U);
  EXPECT_EQ(sample(logits, {.top_p = 1e-30F}), 1U);
}

TEST(Sampler, MinPDropsTokensFarBelowTheBest) {
  const std::vector<float> logits = {std::log(0.2F), std::log(0.5F), std::log(0.3F)};

  const auto counts = draw_many(logits, {.min_p = 0.5F}, 500);

  EXPECT_FALSE(counts.contains(0));
  EXPECT_EQ(counts.size(), 2U);
}

// top_p sorts only as far as it must: the result equals a full sort whatever the vocabulary.
TEST(Sampler, TopPOverALargeVocabularyEqualsAFullSort) {
  Random random(9);
  for (int round = 0; round < 30; ++round) {
    std::vector<float> logits(3000);
    for (float& logit : logits)
      logit = static_cast<float>(random.below(40)) * 0.25F;
    const auto share = static_cast<float>(0.05 + 0.9 * random.uniform());
    std::vector<std::pair<float, TokenId>> sorted;
    double mass = 0.0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      sorted.emplace_back(-logits[i], static_cast<TokenId>(i));
      mass += std::exp(static_cast<double>(logits[i]));
    }
    std::ranges::sort(sorted);
    std::map<TokenId, bool> kept;
    double reached = 0.0;
    for (const auto& [negative, token] : sorted) {
      if (reached >= (static_cast<double>(share) + 1e-4) * mass) break;
      kept[token] = true;
      reached += std::exp(static_cast<double>(-negative));
    }
    for (const auto& [token, count] : draw_many(logits, {.top_p = share}, 200)) {
      ASSERT_TRUE(kept.contains(token)) << round;
    }
  }
}

TEST(Sampler, BiasCanBanAndForce) {
  EXPECT_EQ(sample({5, 4, 3}, {.temperature = 0.0F, .logit_bias = {{0, -100.0F}}}), 1U);
  EXPECT_EQ(sample({5, 4, 3}, {.temperature = 0.0F, .logit_bias = {{2, 100.0F}}}), 2U);
}

TEST(Sampler, PenaltiesCountTheOutputAndRepetitionAlsoThePrompt) {
  EXPECT_EQ(sample({2.0F, 1.9F}, {.temperature = 0.0F, .presence_penalty = 0.5F}, {0}), 1U);
  EXPECT_EQ(sample({2.0F, 1.9F}, {.temperature = 0.0F, .presence_penalty = 0.5F}, {}), 0U);
  EXPECT_EQ(sample({2.0F, 1.9F}, {.temperature = 0.0F, .frequency_penalty = 0.06F}, {0, 0}), 1U);
  EXPECT_EQ(sample({2.0F, 1.9F}, {.temperature = 0.0F, .frequency_penalty = 0.06F}, {0}), 0U);
  EXPECT_EQ(
      sample({2.0F, 1.9F}, {.temperature = 0.0F, .repetition_penalty = 1.5F}, {}, {0, 0}), 1U
  );
  EXPECT_EQ(sample({-1.0F, -1.1F}, {.temperature = 0.0F, .repetition_penalty = 1.5F}, {0}, {}), 1U);
}

TEST(Sampler, CallsLeaveNothingBehind) {
  Sampler sampler(3);
  const std::vector<float> logits = {2.0F, 1.9F, 0.0F};
  const std::vector<TokenId> output = {0};
  const api::Sampling penalty{.temperature = 0.0F, .repetition_penalty = 2.0F};

  EXPECT_EQ(
      sampler.sample({.logits = logits, .prompt = output, .output = output, .sampling = &penalty}),
      1U
  );
  EXPECT_EQ(
      sampler.sample({.logits = logits, .prompt = {}, .output = {}, .sampling = &penalty}), 0U
  );
}

TEST(ScoreToken, GivesLogSoftmaxAndTheLikeliestInOrder) {
  const std::vector<float> logits = {
      std::log(1.0F), std::log(4.0F), std::log(2.0F), std::log(4.0F), NAN};
  api::TokenEvent event;

  score_token(logits, 2, 3, event);

  EXPECT_EQ(event.chosen.token, 2U);
  EXPECT_NEAR(event.chosen.logprob, std::log(2.0 / 11.0), 1e-6);
  ASSERT_EQ(event.top_count, 3);
  EXPECT_EQ(event.top[0].token, 1U);
  EXPECT_EQ(event.top[1].token, 3U);
  EXPECT_EQ(event.top[2].token, 2U);
  EXPECT_NEAR(event.top[0].logprob, std::log(4.0 / 11.0), 1e-6);
}

TEST(ScoreToken, ImpossibleTokensScoreAFiniteNumber) {
  const std::vector<float> logits = {0.0F, -kInf};
  api::TokenEvent event;

  score_token(logits, 1, 20, event);

  EXPECT_EQ(event.chosen.logprob, -9999.0F);
  EXPECT_EQ(event.top_count, 2);
}

}  // namespace
}  // namespace pleiad::engine
