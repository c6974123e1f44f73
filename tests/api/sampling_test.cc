#include "api/sampling.h"

#include <cmath>

#include <gtest/gtest.h>

namespace pleiad::api {
namespace {

TEST(Sampling, DefaultsAreValid) {
  EXPECT_TRUE(validate({}, 100).ok());
}

TEST(Sampling, EachParameterIsHeldToItsRangeByName) {
  const auto message = [](const Sampling& sampling) {
    return validate(sampling, 100).error().message;
  };

  EXPECT_NE(message({.temperature = 2.0001F}).find("temperature"), std::string::npos);
  EXPECT_NE(message({.temperature = NAN}).find("temperature"), std::string::npos);
  EXPECT_NE(message({.top_p = 0.0F}).find("top_p"), std::string::npos);
  EXPECT_NE(message({.top_k = -1}).find("top_k"), std::string::npos);
  EXPECT_NE(message({.min_p = 1.5F}).find("min_p"), std::string::npos);
  EXPECT_NE(message({.presence_penalty = -3.0F}).find("presence_penalty"), std::string::npos);
  EXPECT_NE(message({.frequency_penalty = 3.0F}).find("frequency_penalty"), std::string::npos);
  EXPECT_NE(message({.repetition_penalty = 0.0F}).find("repetition_penalty"), std::string::npos);
}

TEST(Sampling, BiasNeedsATokenOfTheVocabulary) {
  EXPECT_TRUE(validate({.logit_bias = {{99, -100.0F}}}, 100).ok());
  EXPECT_FALSE(validate({.logit_bias = {{100, 1.0F}}}, 100).ok());
  EXPECT_FALSE(validate({.logit_bias = {{1, 101.0F}}}, 100).ok());
}

}  // namespace
}  // namespace pleiad::api
