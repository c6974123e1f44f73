#include "engine/model_draw.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/philox.h"
#include "engine/sampler.h"

namespace pleiad::engine {
namespace {

TEST(ModelDraw, CarriesTheRulesAndTheDrawsOwnRandomNumber) {
  api::GenerationRequest request;
  request.sampling.temperature = 0.7F;
  request.sampling.top_p = 0.9F;
  request.sampling.top_k = 40;
  request.sampling.min_p = 0.05F;
  request.sampling.seed = 11;
  request.top_logprobs = 0;
  const auto draw = model_draw(request, 3);
  ASSERT_TRUE(draw);
  EXPECT_TRUE(draw->wanted);
  EXPECT_EQ(draw->temperature, 0.7F);
  EXPECT_EQ(draw->top_p, 0.9F);
  EXPECT_EQ(draw->top_k, 40);
  EXPECT_EQ(draw->min_p, 0.05F);
  EXPECT_EQ(draw->uniform, philox_uniform(11, 3));
}

TEST(ModelDraw, IsNoneForRulesThatNeedTheLogits) {
  const api::GenerationRequest plain;
  EXPECT_TRUE(model_draw(plain, 0));
  api::GenerationRequest request;
  request.sampling.presence_penalty = 0.1F;
  EXPECT_FALSE(model_draw(request, 0));
  request = {};
  request.sampling.frequency_penalty = -0.1F;
  EXPECT_FALSE(model_draw(request, 0));
  request = {};
  request.sampling.repetition_penalty = 1.1F;
  EXPECT_FALSE(model_draw(request, 0));
  request = {};
  request.sampling.logit_bias = {{3, 1.0F}};
  EXPECT_FALSE(model_draw(request, 0));
  request = {};
  request.top_logprobs = 1;
  EXPECT_FALSE(model_draw(request, 0));
}

TEST(ModelDraw, ScoresLikeTheSampler) {
  const std::vector<float> logits = {1.0F, -2.0F, 0.5F};
  api::TokenEvent event;
  score_token(logits, 2, 0, event);
  double mass = 0.0;
  for (const float logit : logits) {
    mass += std::exp(static_cast<double>(logit));
  }
  const auto scored =
      drawn_logprob({.done = true, .token = 2, .logit = 0.5F, .log_mass = std::log(mass)});
  EXPECT_EQ(scored.token, 2U);
  EXPECT_NEAR(scored.logprob, event.chosen.logprob, 1e-6F);
  EXPECT_EQ(
      drawn_logprob({.done = true, .token = 1, .logit = -HUGE_VALF, .log_mass = 0.0}).logprob,
      kLogprobMin
  );
}

}  // namespace
}  // namespace pleiad::engine
