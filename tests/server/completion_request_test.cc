#include "server/completion_request.h"

#include <limits>
#include <string>
#include <variant>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

constexpr RequestRules kRules{.vocabulary = 4096};

// A chat body with `members` added; a completion body likewise.
std::string chat_body(std::string_view members) {
  return R"({"messages": [{"role": "user", "content": "hi"}])" +
         (members.empty() ? "" : ", " + std::string(members)) + "}";
}

std::string completion_body(std::string_view members) {
  return R"({"prompt": "hi")" + (members.empty() ? "" : ", " + std::string(members)) + "}";
}

CompletionRequest
accepted(Endpoint endpoint, std::string_view body, const RequestRules& rules = kRules) {
  auto out = parse_completion_request(endpoint, json(body), rules);
  const auto* error = std::get_if<ApiError>(&out);
  EXPECT_EQ(error, nullptr) << body << ": " << error->message;
  return error != nullptr ? CompletionRequest{} : std::get<CompletionRequest>(std::move(out));
}

CompletionRequest chat(std::string_view members, const RequestRules& rules = kRules) {
  return accepted(Endpoint::Chat, chat_body(members), rules);
}

CompletionRequest completion(std::string_view members, const RequestRules& rules = kRules) {
  return accepted(Endpoint::Completion, completion_body(members), rules);
}

ApiError refused(Endpoint endpoint, std::string_view body, const RequestRules& rules = kRules) {
  const auto out = parse_completion_request(endpoint, json(body), rules);
  const auto* error = std::get_if<ApiError>(&out);
  EXPECT_NE(error, nullptr) << body;
  if (error == nullptr) return {};
  EXPECT_EQ(error->status, 400) << body;
  EXPECT_EQ(error->type, "invalid_request_error") << body;
  EXPECT_THAT(error->message, testing::Not(IsEmpty()));
  return *error;
}

// Expects each member list to be refused on both endpoints, naming its first member.
void expect_refused_by_both(std::initializer_list<std::string_view> cases) {
  for (const std::string_view members : cases) {
    const std::size_t quote = members.find('"', 1);
    const std::string key(members.substr(1, quote - 1));
    EXPECT_EQ(refused(Endpoint::Chat, chat_body(members)).param, key) << members;
    EXPECT_EQ(refused(Endpoint::Completion, completion_body(members)).param, key) << members;
  }
}

void expect_refused(
    Endpoint endpoint,
    std::string_view param,
    std::initializer_list<std::string_view> cases
) {
  for (const std::string_view members : cases) {
    const std::string body =
        endpoint == Endpoint::Chat ? chat_body(members) : completion_body(members);
    EXPECT_EQ(refused(endpoint, body).param, param) << members;
  }
}

TEST(ParseCompletionRequest, GivesAChatItsDefaults) {
  const CompletionRequest out = chat("");

  EXPECT_EQ(out.model, "");
  EXPECT_EQ(at(out.messages, {"0", "content"}), Json("hi"));
  EXPECT_TRUE(out.tools.is_null());
  EXPECT_TRUE(out.add_generation_prompt);
  EXPECT_EQ(out.n, 1);
  EXPECT_EQ(out.max_tokens, std::nullopt);
  EXPECT_FALSE(out.seeded);
  EXPECT_EQ(out.top_logprobs, std::nullopt);
  EXPECT_EQ(out.prompt_logprobs, std::nullopt);
  EXPECT_FALSE(out.stream);
  EXPECT_TRUE(out.skip_special_tokens);
  EXPECT_EQ(out.sampling.temperature, 1.0F);
}

TEST(ParseCompletionRequest, TakesSamplingDefaultsFromTheModel) {
  const RequestRules rules{
      .vocabulary = 10, .default_sampling = {.temperature = 0.8F, .top_p = 0.95F, .top_k = 40}};

  const CompletionRequest defaults = chat("", rules);
  const CompletionRequest given = chat(R"("temperature": 0, "top_p": 1, "top_k": -1)", rules);

  EXPECT_EQ(defaults.sampling.temperature, 0.8F);
  EXPECT_EQ(defaults.sampling.top_k, 40);
  EXPECT_EQ(given.sampling.temperature, 0.0F);
  EXPECT_EQ(given.sampling.top_p, 1.0F);
  EXPECT_EQ(given.sampling.top_k, 0);
}

TEST(ParseCompletionRequest, ReadsEveryParameter) {
  const CompletionRequest out = chat(R"(
      "model": "fable", "n": 3, "max_tokens": 7, "temperature": 0.5, "top_p": 0.25, "top_k": 9,
      "min_p": 0.125, "presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.5,
      "seed": -1, "stop": ["a", "b"], "stop_token_ids": [1, 4095], "ignore_eos": true,
      "include_stop_str_in_output": true, "logprobs": true, "top_logprobs": 20,
      "prompt_logprobs": 0, "return_tokens_as_token_ids": true, "return_token_ids": true,
      "skip_special_tokens": false, "cache_salt": "tenant", "priority": -5,
      "chat_template_kwargs": {"thinking": true}, "add_generation_prompt": false,
      "logit_bias": {"0": -100, "4095": 100.0})");

  EXPECT_EQ(out.model, "fable");
  EXPECT_EQ(out.n, 3);
  EXPECT_EQ(out.max_tokens, 7);
  EXPECT_EQ(out.sampling.temperature, 0.5F);
  EXPECT_EQ(out.sampling.top_p, 0.25F);
  EXPECT_EQ(out.sampling.top_k, 9);
  EXPECT_EQ(out.sampling.min_p, 0.125F);
  EXPECT_EQ(out.sampling.presence_penalty, -2.0F);
  EXPECT_EQ(out.sampling.frequency_penalty, 2.0F);
  EXPECT_EQ(out.sampling.repetition_penalty, 1.5F);
  EXPECT_TRUE(out.seeded);
  EXPECT_EQ(out.sampling.seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_THAT(out.stop, ElementsAre("a", "b"));
  EXPECT_THAT(out.stop_tokens, ElementsAre(1U, 4095U));
  EXPECT_TRUE(out.ignore_eos);
  EXPECT_TRUE(out.include_stop);
  EXPECT_EQ(out.top_logprobs, 20);
  EXPECT_EQ(out.prompt_logprobs, 0);
  EXPECT_TRUE(out.tokens_as_ids);
  EXPECT_TRUE(out.return_token_ids);
  EXPECT_FALSE(out.skip_special_tokens);
  EXPECT_EQ(out.cache_salt, "tenant");
  EXPECT_EQ(out.priority, -5);
  EXPECT_EQ(at(out.template_arguments, {"thinking"}), Json(true));
  EXPECT_FALSE(out.add_generation_prompt);
  EXPECT_THAT(out.sampling.logit_bias, ElementsAre(Pair(0U, -100.0F), Pair(4095U, 100.0F)));
}

TEST(ParseCompletionRequest, PrefersMaxCompletionTokens) {
  EXPECT_EQ(chat(R"("max_tokens": 5, "max_completion_tokens": 9)").max_tokens, 9);
  EXPECT_EQ(chat(R"("max_completion_tokens": null, "max_tokens": 5)").max_tokens, 5);
}

TEST(ParseCompletionRequest, IgnoresWhatItDoesNotKnow) {
  chat(R"("user": "me", "store": true, "metadata": {"a": [1]}, "service_tier": "auto", "x": null)");
  chat(R"("suffix": null, "best_of": 1, "min_tokens": 0, "bad_words": [], "functions": [])");
  completion(R"("suffix": "", "best_of": 2, "n": 2, "use_beam_search": false)");
}

TEST(ParseCompletionRequest, RefusesABodyThatIsNoObject) {
  for (const char* body : {"[]", "\"a\"", "1", "null"}) {
    EXPECT_EQ(refused(Endpoint::Chat, body).param, std::nullopt);
    refused(Endpoint::Completion, body);
  }
}

TEST(ParseCompletionRequest, RefusesValuesOutsideTheirRange) {
  expect_refused_by_both({
      R"("n": 0)",
      R"("n": -1)",
      R"("n": 129)",
      R"("n": 2147483648)",
      R"("n": 1.5)",
      R"("n": "1")",
      R"("max_tokens": -1)",
      R"("max_tokens": 2147483648)",
      R"("max_tokens": 9223372036854775808)",
      R"("max_tokens": "5")",
      R"("max_completion_tokens": -1)",
      R"("temperature": -0.001)",
      R"("temperature": 2.0001)",
      R"("temperature": "1")",
      R"("top_p": -0.1)",
      R"("top_p": 0)",
      R"("top_p": 1e-320)",
      R"("top_p": 1.01)",
      R"("top_k": -2)",
      R"("top_k": 2147483648)",
      R"("top_k": 0.5)",
      R"("min_p": -0.1)",
      R"("min_p": 1.1)",
      R"("presence_penalty": 2.1)",
      R"("presence_penalty": -2.1)",
      R"("frequency_penalty": 2.1)",
      R"("frequency_penalty": -2.1)",
      R"("repetition_penalty": 0)",
      R"("repetition_penalty": 101)",
      R"("seed": 1.5)",
      R"("seed": 9223372036854775808)",
      R"("seed": "1")",
      R"("priority": 2147483648)",
      R"("priority": -2147483649)",
      R"("cache_salt": 1)",
      R"("model": 1)",
      R"("ignore_eos": 1)",
      R"("include_stop_str_in_output": "yes")",
      R"("skip_special_tokens": 0)",
      R"("return_token_ids": 1)",
      R"("return_tokens_as_token_ids": 1)",
      R"("prompt_logprobs": -1)",
      R"("prompt_logprobs": 21)",
      R"("stream": "true")",
  });
}

TEST(ParseCompletionRequest, TakesTheEndsOfEveryRange) {
  for (const char* members :
       {R"("n": 128)",
        R"("temperature": 2)",
        R"("temperature": 1e-320)",
        R"("top_p": 1)",
        R"("top_p": 1e-30)",
        R"("presence_penalty": -2)",
        R"("frequency_penalty": 2)",
        R"("repetition_penalty": 0.01)",
        R"("max_tokens": 2147483647)",
        R"("n": 2.0)",
        R"("seed": 9223372036854775807)",
        R"("seed": -9223372036854775808)"}) {
    chat(members);
    completion(members);
  }
  EXPECT_EQ(completion(R"("max_tokens": 0)").max_tokens, 0);
  expect_refused(Endpoint::Chat, "max_tokens", {R"("max_tokens": 0)"});
}

TEST(ParseCompletionRequest, BoundsTheChoicesOfAllPromptsTogether) {
  const std::string two = R"({"prompt": ["a", "b"], "n": 128})";
  const std::string three = R"({"prompt": ["a", "b", "c"], "n": 128})";

  EXPECT_EQ(accepted(Endpoint::Completion, two).prompts.size(), 2U);
  EXPECT_EQ(refused(Endpoint::Completion, three).param, "n");
}

TEST(ParseCompletionRequest, RefusesIdsOutsideTheVocabularyWhereverTheyStand) {
  for (const char* id :
       {"-1",
        "4096",
        "2147483648",
        "4294967295",
        "9223372036854775808",
        "1.0",
        "\"1\"",
        "null",
        "1e3"}) {
    const std::string text(id);
    EXPECT_EQ(refused(Endpoint::Completion, R"({"prompt": [1, )" + text + "]}").param, "prompt");
    EXPECT_EQ(
        refused(Endpoint::Completion, R"({"prompt": [[1], [)" + text + "]]}").param, "prompt"
    );
    EXPECT_EQ(
        refused(Endpoint::Chat, chat_body(R"("stop_token_ids": [)" + text + "]")).param,
        "stop_token_ids"
    );
  }
  for (const char* id :
       {"-1",
        "-0",
        "4096",
        "4294967295",
        "18446744073709551616",
        "",
        "1.0",
        "01",
        "+1",
        " 1",
        "1 ",
        "one"}) {
    EXPECT_EQ(
        refused(Endpoint::Chat, chat_body(R"("logit_bias": {")" + std::string(id) + R"(": 1})"))
            .param,
        "logit_bias"
    ) << id;
  }
}

TEST(ParseCompletionRequest, BoundsLogitBias) {
  std::string many = R"("logit_bias": {)";
  for (int i = 0; i <= 1024; ++i) {
    many += (i == 0 ? "\"" : ", \"") + std::to_string(i) + "\": 0";
  }
  expect_refused(
      Endpoint::Chat,
      "logit_bias",
      {R"("logit_bias": [])",
       R"("logit_bias": {"1": 100.5})",
       R"("logit_bias": {"1": -100.5})",
       R"("logit_bias": {"1": "1"})",
       R"("logit_bias": {"1": null})",
       many + "}"}
  );
}

TEST(ParseCompletionRequest, TakesStopInAllItsForms) {
  EXPECT_THAT(chat(R"("stop": null)").stop, IsEmpty());
  EXPECT_THAT(chat(R"("stop": "END")").stop, ElementsAre("END"));
  EXPECT_THAT(chat(R"("stop": [])").stop, IsEmpty());
  EXPECT_EQ(chat(R"("stop": ["a", "b", "c", "d"])").stop.size(), 4U);
  const std::string longest(4096, 'x');
  EXPECT_THAT(chat(R"("stop": ")" + longest + "\"").stop, ElementsAre(longest));
}

TEST(ParseCompletionRequest, RefusesStopsThatCannotMatchOrCostTooMuch) {
  std::string ids = "0";
  for (int i = 0; i < 256; ++i) {
    ids += ",0";
  }
  expect_refused(
      Endpoint::Completion,
      "stop",
      {R"("stop": "")",
       R"("stop": ["a", ""])",
       R"("stop": ["a", "b", "c", "d", "e"])",
       R"("stop": 1)",
       R"("stop": [1])",
       R"("stop": {})",
       R"("stop": ")" + std::string(1U << 20U, 'x') + "\""}
  );
  expect_refused(
      Endpoint::Completion,
      "stop_token_ids",
      {R"("stop_token_ids": 1)",
       R"("stop_token_ids": {"0": 1})",
       R"("stop_token_ids": [)" + ids + "]"}
  );
}

TEST(ParseCompletionRequest, ReadsLogprobsAsEachEndpointWritesThem) {
  EXPECT_EQ(chat(R"("logprobs": true)").top_logprobs, 0);
  EXPECT_EQ(chat(R"("logprobs": true, "top_logprobs": 5)").top_logprobs, 5);
  EXPECT_EQ(chat(R"("logprobs": false, "top_logprobs": 0)").top_logprobs, std::nullopt);
  EXPECT_EQ(completion(R"("logprobs": 0)").top_logprobs, 0);
  EXPECT_EQ(completion(R"("logprobs": 20)").top_logprobs, 20);
  expect_refused(
      Endpoint::Chat,
      "top_logprobs",
      {R"("top_logprobs": 1)",
       R"("logprobs": true, "top_logprobs": 21)",
       R"("logprobs": true, "top_logprobs": -1)"}
  );
  expect_refused(Endpoint::Chat, "logprobs", {R"("logprobs": 3)"});
  expect_refused(
      Endpoint::Completion,
      "logprobs",
      {R"("logprobs": true)", R"("logprobs": 21)", R"("logprobs": -1)"}
  );
  expect_refused(
      Endpoint::Completion, "prompt_logprobs", {R"("stream": true, "prompt_logprobs": 1)"}
  );
}

TEST(ParseCompletionRequest, ReadsStreamOptionsOfStreamsOnly) {
  EXPECT_TRUE(chat(R"("stream": true)").stream);
  EXPECT_FALSE(chat(R"("stream": true, "stream_options": {})").include_usage);
  EXPECT_TRUE(chat(R"("stream": true, "stream_options": {"include_usage": true})").include_usage);
  expect_refused(
      Endpoint::Chat,
      "stream_options",
      {R"("stream_options": {"include_usage": true})", R"("stream": true, "stream_options": true)"}
  );
  expect_refused(
      Endpoint::Chat, "include_usage", {R"("stream": true, "stream_options": {"include_usage": 1})"}
  );
}

TEST(ParseCompletionRequest, ReadsPromptsInAllFourForms) {
  using Ids = std::vector<TokenId>;
  const auto prompts = [](std::string_view prompt) {
    return accepted(Endpoint::Completion, R"({"prompt": )" + std::string(prompt) + "}").prompts;
  };
  EXPECT_THAT(prompts(R"("a")"), ElementsAre(PromptSource("a")));
  EXPECT_THAT(prompts(R"(["a", ""])"), ElementsAre(PromptSource("a"), PromptSource("")));
  EXPECT_THAT(prompts("[0, 4095]"), ElementsAre(PromptSource(Ids{0, 4095})));
  EXPECT_THAT(prompts("[[1], [2, 3]]"), ElementsAre(PromptSource(Ids{1}), PromptSource(Ids{2, 3})));
  for (const char* prompt : {"{}", "[]", "null", "1", "true", "[true]", "[{}]", R"([1, "a"])"}) {
    refused(Endpoint::Completion, R"({"prompt": )" + std::string(prompt) + "}");
  }
  EXPECT_EQ(refused(Endpoint::Completion, "{}").param, "prompt");
}

TEST(ParseCompletionRequest, RefusesMessagesAndToolsThatAreWrong) {
  EXPECT_EQ(refused(Endpoint::Chat, "{}").param, "messages");
  EXPECT_EQ(
      refused(
          Endpoint::Chat,
          R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]})"
      )
          .param,
      "messages[0].content"
  );
  expect_refused(Endpoint::Chat, "tools", {R"("tools": {})", R"("tools": [{"type": "x"}])"});
  expect_refused(
      Endpoint::Chat,
      "tool_choice",
      {R"("tool_choice": "required")",
       R"("tool_choice": {"type": "function"})",
       R"("tool_choice": 1)"}
  );
  expect_refused(Endpoint::Chat, "chat_template_kwargs", {R"("chat_template_kwargs": [])"});
}

TEST(ParseCompletionRequest, HidesToolsThatMayNotBeCalled) {
  const char* tools =
      R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": )";

  EXPECT_TRUE(chat(tools + std::string("\"auto\"")).tools.is_array());
  EXPECT_TRUE(chat(tools + std::string("\"none\"")).tools.is_null());
}

TEST(ParseCompletionRequest, RefusesWhatWouldChangeTheAnswer) {
  for (const char* members :
       {R"("response_format": {"type": "json_object"})",
        R"("response_format": {"type": "json_schema", "json_schema": {}})",
        R"("response_format": "text")",
        R"("response_format": {})",
        R"("guided_json": {})",
        R"("guided_regex": "(a+)+b")",
        R"("structured_outputs": {"regex": "a"})",
        R"("suffix": "end")",
        R"("best_of": 3)",
        R"("use_beam_search": true)",
        R"("min_tokens": 3)",
        R"("bad_words": ["x"])",
        R"("allowed_token_ids": [1])",
        R"("truncate_prompt_tokens": 5)",
        R"("prompt_embeds": "AAAA")",
        R"("continue_final_message": true)",
        R"("chat_template": "{{ messages }}")",
        R"("functions": [{"name": "f"}])",
        R"("modalities": ["audio"])"}) {
    const ApiError error = refused(Endpoint::Chat, chat_body(members));
    EXPECT_EQ(error.code, "unsupported_parameter") << members;
    EXPECT_EQ(
        refused(Endpoint::Completion, completion_body(members)).code, "unsupported_parameter"
    );
  }
  chat(R"("response_format": {"type": "text"}, "modalities": ["text"])");
}

TEST(ParseCompletionRequest, LeavesControlTokensInMessagesToTheTemplate) {
  const CompletionRequest out =
      accepted(Endpoint::Chat, R"({"messages": [{"role": "user", "content": "<|end|>"}]})");

  EXPECT_EQ(at(out.messages, {"0", "content"}), Json("<|end|>"));
}

}  // namespace
}  // namespace pleiad::server
