#include "server/request_intake.h"

#include <string>
#include <variant>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/live_service.h"

namespace pleiad::server {
namespace {

using testing::HasSubstr;

class Intake : public testing::Test {
 protected:
  std::variant<AcceptedCompletion, ApiError> read(Endpoint endpoint, std::string body) const {
    return intake_.completion(endpoint, {.method = "POST", .body = std::move(body)});
  }
  AcceptedCompletion accepted(Endpoint endpoint, std::string body) const {
    auto out = read(endpoint, std::move(body));
    const auto* error = std::get_if<ApiError>(&out);
    EXPECT_EQ(error, nullptr) << error->message;
    return error != nullptr ? AcceptedCompletion{} : std::get<AcceptedCompletion>(std::move(out));
  }
  ApiError refused(Endpoint endpoint, std::string body) const {
    auto out = read(endpoint, std::move(body));
    EXPECT_TRUE(std::holds_alternative<ApiError>(out));
    return std::holds_alternative<ApiError>(out) ? std::get<ApiError>(out) : ApiError{};
  }

  FakeClock clock_;
  ModelText text_ = model_text(true);
  FakeGenerator generator_{LiveService::says("a")};  // a context of 256 tokens
  RequestIntake intake_{
      generator_,
      text_,
      clock_,
      {.model_names = {"fable"}, .output_tokens_max = 1000}};
};

std::string ids(int count) {
  std::string out = "[7";
  for (int i = 1; i < count; ++i) {
    out += ",7";
  }
  return out + "]";
}

TEST_F(Intake, GivesMaxTokensItsDefault) {
  EXPECT_EQ(accepted(Endpoint::Completion, prompt_body(ids(10))).request.max_tokens, 16);
  const AcceptedCompletion chat = accepted(Endpoint::Chat, chat_body());
  EXPECT_EQ(
      chat.request.max_tokens, 256 - static_cast<std::int32_t>(chat.prompts[0].tokens.size())
  );
}

TEST_F(Intake, FillsTheContextToItsLastToken) {
  const std::string fits = R"("max_tokens": 6)";
  const std::string more = R"("max_tokens": 7)";

  EXPECT_EQ(accepted(Endpoint::Completion, prompt_body(ids(250), fits)).request.max_tokens, 6);
  const ApiError error = refused(Endpoint::Completion, prompt_body(ids(250), more));
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.param, "prompt");
  EXPECT_EQ(error.code, "context_length_exceeded");
  EXPECT_THAT(error.message, HasSubstr("256"));
}

TEST_F(Intake, NeverCutsAPromptToFit) {
  EXPECT_EQ(refused(Endpoint::Completion, prompt_body(ids(257))).code, "context_length_exceeded");
  const std::string longest =
      R"({"messages": [{"role": "user", "content": ")" + std::string(2000, 'z') + R"("}]})";
  EXPECT_EQ(refused(Endpoint::Chat, longest).code, "context_length_exceeded");
  EXPECT_EQ(refused(Endpoint::Chat, longest).param, "messages");
  accepted(Endpoint::Completion, prompt_body(ids(256), R"("max_tokens": 0)"));
}

TEST_F(Intake, BoundsWhatOneRequestMakesInAll) {
  EXPECT_EQ(
      refused(Endpoint::Completion, prompt_body("[[1], [2]]", R"("n": 5, "max_tokens": 101)"))
          .param,
      "max_tokens"
  );
  accepted(Endpoint::Completion, prompt_body("[[1], [2]]", R"("n": 5, "max_tokens": 100)"));
  // The default of a chat counts like a wish.
  EXPECT_EQ(refused(Endpoint::Chat, chat_body(R"("n": 5)")).param, "max_tokens");
}

TEST_F(Intake, TellsChatsFromCompletionsByTheirMessages) {
  const auto read = [this](std::string body) {
    return std::get<AcceptedCompletion>(
        intake_.completion_of_either({.method = "POST", .body = std::move(body)})
    );
  };
  EXPECT_EQ(read(chat_body()).request.endpoint, Endpoint::Chat);
  EXPECT_FALSE(read(chat_body()).output_bounded);
  EXPECT_EQ(read(prompt_body(ids(3))).request.endpoint, Endpoint::Completion);
  EXPECT_TRUE(read(prompt_body(ids(3))).output_bounded);
  const auto wrong = intake_.completion_of_either({.method = "POST", .body = "{"});
  EXPECT_TRUE(std::holds_alternative<ApiError>(wrong));
}

TEST_F(Intake, RefusesAnEmptyPrompt) {
  EXPECT_EQ(refused(Endpoint::Completion, prompt_body("\"\"")).param, "prompt");
  EXPECT_EQ(refused(Endpoint::Completion, prompt_body("[[1], []]")).param, "prompt");
}

TEST_F(Intake, RefusesWhatTheTemplateRefuses) {
  text_.chat_template = *text::ChatTemplate::compile("{{ raise_exception('no kings') }}");

  const ApiError error = refused(Endpoint::Chat, chat_body());

  EXPECT_EQ(error.status, 400);
  EXPECT_THAT(error.message, HasSubstr("no kings"));
}

TEST_F(Intake, RefusesTemplateArgumentsOfReservedNames) {
  EXPECT_EQ(
      refused(Endpoint::Chat, chat_body(R"("chat_template_kwargs": {"messages": []})")).status, 400
  );
  accepted(Endpoint::Chat, chat_body(R"("chat_template_kwargs": {"enable_thinking": false})"));
}

TEST_F(Intake, TellsTemplatesTheDate) {
  text_.chat_template = *text::ChatTemplate::compile("{{ strftime_now('%Y-%m-%d') }}");

  EXPECT_EQ(accepted(Endpoint::Chat, chat_body()).prompts[0].text, "2023-11-14");
}

TEST_F(Intake, ReadsNoChatWithoutATemplate) {
  text_.chat_template.reset();

  EXPECT_THAT(refused(Endpoint::Chat, chat_body()).message, HasSubstr("/v1/completions"));
}

TEST_F(Intake, KnowsItsModelsOnly) {
  EXPECT_FALSE(intake_.check_model(""));
  EXPECT_FALSE(intake_.check_model("fable"));
  EXPECT_EQ(intake_.check_model("Fable")->status, 404);
}

}  // namespace
}  // namespace pleiad::server
