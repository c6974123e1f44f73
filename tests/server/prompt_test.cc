#include "server/prompt.h"

#include <string>
#include <utility>
#include <variant>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/live_service.h"

namespace pleiad::server {
namespace {

std::vector<PreparedPrompt>
prepared(const CompletionRequest& request, const ModelText& text = model_text(true)) {
  auto out = prepare_prompts(request, text, {});
  const auto* error = std::get_if<ApiError>(&out);
  EXPECT_EQ(error, nullptr) << error->message;
  if (error != nullptr) return {};
  return std::get<std::vector<PreparedPrompt>>(std::move(out));
}

CompletionRequest completion(std::vector<PromptSource> prompts) {
  return {.endpoint = Endpoint::Completion, .prompts = std::move(prompts)};
}

TEST(PreparePrompts, EncodesTextsAndPassesIds) {
  const auto out = prepared(completion({"a b", std::vector<TokenId>{4, 5}}));

  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].tokens, encode("a b"));
  EXPECT_EQ(out[0].text, "a b");
  EXPECT_EQ(out[1].tokens, (std::vector<TokenId>{4, 5}));
}

TEST(PreparePrompts, DecodesIdsForAnEcho) {
  CompletionRequest request = completion({encode("a b")});
  request.echo = true;

  EXPECT_EQ(prepared(request)[0].text, "a b");
}

TEST(PreparePrompts, RefusesTextWithoutATokenizer) {
  const auto out = prepare_prompts(completion({"a"}), model_text(false), {});

  EXPECT_EQ(std::get<ApiError>(out).param, "prompt");
}

TEST(PreparePrompts, RendersAChatWithOrWithoutAPlaceToAnswer) {
  CompletionRequest request{
      .endpoint = Endpoint::Chat, .messages = json(R"([{"role": "user", "content": "hi"}])")};

  EXPECT_EQ(prepared(request)[0].text, "<|bos|><|user|>hi<|end|><|assistant|>");
  request.add_generation_prompt = false;
  EXPECT_EQ(prepared(request)[0].text, "<|bos|><|user|>hi<|end|>");
}

TEST(PreparePrompts, LeavesAMissingTokenUndefined) {
  ModelText text = model_text(true);
  text.bos_token.clear();
  text.chat_template = *text::ChatTemplate::compile("{{ bos_token is defined }}");
  const CompletionRequest request{
      .endpoint = Endpoint::Chat, .messages = json(R"([{"role": "user", "content": "hi"}])")};

  EXPECT_EQ(prepared(request, text)[0].text, "False");
}

TEST(PreparePrompts, ToolsBringTheirOwnTemplateWhereThereIsOne) {
  ModelText text = model_text(true);
  text.tool_template = *text::ChatTemplate::compile("{{ tools | length }} tools");
  CompletionRequest request{
      .endpoint = Endpoint::Chat, .messages = json(R"([{"role": "user", "content": "hi"}])")};

  EXPECT_EQ(prepared(request, text)[0].text, "<|bos|><|user|>hi<|end|><|assistant|>");
  request.tools = json(R"([{"type": "function", "function": {"name": "f"}}])");
  EXPECT_EQ(prepared(request, text)[0].text, "1 tools");
}

}  // namespace
}  // namespace pleiad::server
