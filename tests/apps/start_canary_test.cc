#include "apps/start_canary.h"

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::apps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Answer {
  std::vector<api::TokenLogprob> tokens;
  api::FinishReason reason = api::FinishReason::Length;
  std::string message;
};

// Answers request i inside submit() with what the script says.
class ScriptedGenerator final : public api::Generator {
 public:
  std::function<Answer(std::size_t)> script = [](std::size_t) { return good(); };
  std::optional<Error> refusal;
  api::GeneratorLimits bounds{.vocabulary = 100, .model_tokens_max = 64};
  std::vector<api::GenerationRequest> requests;

  static Answer good() { return {.tokens = {{7, -0.5F}, {8, -0.25F}, {99, -1.0F}, {0, 0.0F}}}; }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink)
      override {
    if (refusal) return *refusal;
    const Answer answer = script(requests.size());
    requests.push_back(std::move(request));
    const api::RequestId id{requests.size()};
    for (const api::TokenLogprob& token : answer.tokens) {
      sink.on_token({.request = id, .chosen = token});
    }
    sink.on_finish({.request = id, .reason = answer.reason, .message = answer.message});
    return id;
  }
  void cancel(api::RequestId /*request*/) override {}
  void finish_early(api::RequestId /*request*/) override {}
  [[nodiscard]] api::GeneratorStatus status() const override { return {.accepting = true}; }
  [[nodiscard]] api::GeneratorLimits limits() const override { return bounds; }
  void reset_prefix_cache() override {}
};

// What the canary says about a generator; empty when it sings.
std::string complaint(ScriptedGenerator& generator) {
  const auto result = StartCanary(generator).run();
  return result.ok() ? "" : result.error().message;
}

TEST(StartCanary, AsksTheSameGreedyQuestionTwice) {
  ScriptedGenerator generator;

  EXPECT_EQ(complaint(generator), "");

  ASSERT_EQ(generator.requests.size(), 2U);
  for (const api::GenerationRequest& request : generator.requests) {
    EXPECT_THAT(request.prompt, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
    EXPECT_EQ(request.max_tokens, 4);
    EXPECT_EQ(request.sampling.temperature, 0.0F);
    EXPECT_TRUE(request.ignore_eos);
    EXPECT_TRUE(request.top_logprobs.has_value());
  }
}

TEST(StartCanary, FitsItsQuestionIntoATinyModel) {
  ScriptedGenerator generator;
  generator.bounds = {.vocabulary = 3, .model_tokens_max = 6};
  generator.script = [](std::size_t) { return Answer{.tokens = {{2, -0.5F}}}; };

  EXPECT_EQ(complaint(generator), "");

  EXPECT_THAT(generator.requests.at(0).prompt, ElementsAre(1, 2, 2, 2, 2));
  EXPECT_EQ(generator.requests.at(0).max_tokens, 1);
}

TEST(StartCanary, TellsAnotherTokenInTheSecondAnswer) {
  ScriptedGenerator generator;
  generator.script = [](std::size_t number) {
    Answer answer = ScriptedGenerator::good();
    answer.tokens[2].token -= static_cast<TokenId>(number);
    return answer;
  };

  EXPECT_THAT(
      complaint(generator), HasSubstr("output 2 was token 99 with score -1 and then token 98")
  );
}

TEST(StartCanary, TellsOneBitOfAScoreInTheSecondAnswer) {
  ScriptedGenerator generator;
  generator.script = [](std::size_t number) {
    Answer answer = ScriptedGenerator::good();
    if (number == 1) answer.tokens[3].logprob = -0.0F;
    return answer;
  };

  EXPECT_THAT(
      complaint(generator), HasSubstr("output 3 was token 0 with score 0 and then token 0")
  );
}

TEST(StartCanary, TellsScoresThatAreNoNumbers) {
  for (const float broken :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    ScriptedGenerator generator;
    generator.script = [broken](std::size_t) {
      Answer answer = ScriptedGenerator::good();
      answer.tokens[1].logprob = broken;
      return answer;
    };

    EXPECT_THAT(complaint(generator), HasSubstr("the model's logits are no numbers"));
    EXPECT_EQ(generator.requests.size(), 1U);
  }
}

TEST(StartCanary, TellsATokenBeyondTheVocabulary) {
  ScriptedGenerator generator;
  generator.bounds.vocabulary = 99;

  EXPECT_THAT(complaint(generator), HasSubstr("token 99 of a vocabulary of 99"));
}

TEST(StartCanary, TellsAnAnswerThatBreaksOff) {
  for (const auto reason : {api::FinishReason::Cancelled, api::FinishReason::Stop}) {
    ScriptedGenerator generator;
    generator.script = [reason](std::size_t) {
      return Answer{.tokens = {{1, -0.5F}}, .reason = reason};
    };

    EXPECT_THAT(complaint(generator), HasSubstr("ended after 1 of 4 tokens"));
  }
}

TEST(StartCanary, CallsALostRankUnavailableSoThatItMayBeAskedAgain) {
  ScriptedGenerator generator;
  generator.script = [](std::size_t) {
    return Answer{.reason = api::FinishReason::Lost, .message = "node 1 is gone"};
  };

  const auto tried = StartCanary(generator).run();

  ASSERT_FALSE(tried.ok());
  EXPECT_EQ(tried.error().kind, ErrorKind::Unavailable);
  EXPECT_EQ(tried.error().message, "node 1 is gone");
}

TEST(StartCanary, PassesOnWhatTheGeneratorSays) {
  ScriptedGenerator failing;
  failing.script = [](std::size_t) {
    return Answer{.reason = api::FinishReason::Error, .message = "the device is gone"};
  };
  ScriptedGenerator refusing;
  refusing.refusal = exhausted("no page is free");

  EXPECT_THAT(complaint(failing), HasSubstr("the device is gone"));
  EXPECT_EQ(complaint(refusing), "no page is free");
}

}  // namespace
}  // namespace pleiad::apps
