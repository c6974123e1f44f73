#include "server/completion_json.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

const TokenNames kNames{};

std::string body(const AnswerIdentity& identity, const ChoiceView& view, UsageForm usage) {
  std::string out = answer_prefix(identity);
  append_choice(identity, kNames, view, out);
  append_suffix(usage, {.prompt_tokens = 5, .completion_tokens = 2, .cached_tokens = 3}, out);
  return out;
}

AnswerIdentity identity(Endpoint endpoint, bool stream) {
  return {.endpoint = endpoint, .id = "id-1", .model = "a\"b", .created = 17, .stream = stream};
}

TEST(CompletionJson, WritesAWholeChat) {
  const std::string finish = "stop";

  EXPECT_EQ(
      json(body(
          identity(Endpoint::Chat, false),
          {.text = "h\xC3\xA9\n", .finish_reason = &finish, .stop_reason_json = "\"END\""},
          UsageForm::Totals
      )),
      json(R"({"id": "id-1", "object": "chat.completion", "created": 17, "model": "a\"b",
               "choices": [{"index": 0,
                            "message": {"role": "assistant", "content": "h\u00e9\n", "refusal": null},
                            "logprobs": null, "finish_reason": "stop", "stop_reason": "END"}],
               "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
                         "prompt_tokens_details": {"cached_tokens": 3}}})")
  );
}

TEST(CompletionJson, WritesAWholeCompletionWithEverythingAskedFor) {
  const std::string finish = "length";
  const std::vector<TokenId> ids = {4, 5};
  const std::vector<ScoredToken> scores = {{.chosen = {4, -1.0F}}};
  const std::vector<ScoredToken> prompt = {{.chosen = {9, 0.0F}, .scored = false}};

  EXPECT_EQ(
      json(body(
          identity(Endpoint::Completion, false),
          {.index = 2,
           .text = "hi",
           .logprobs = true,
           .scores = scores,
           .token_ids = true,
           .ids = ids,
           .finish_reason = &finish,
           .prompt_scores = prompt},
          UsageForm::Absent
      )),
      json(R"({"id": "id-1", "object": "text_completion", "created": 17, "model": "a\"b",
               "choices": [{"index": 2, "text": "hi",
                            "logprobs": {"tokens": ["token_id:4"], "token_logprobs": [-1],
                                         "top_logprobs": [{"token_id:4": -1}], "text_offset": [0]},
                            "prompt_logprobs": [null], "token_ids": [4, 5],
                            "finish_reason": "length", "stop_reason": null}]})")
  );
}

TEST(CompletionJson, WritesTheDeltasOfAChat) {
  const AnswerIdentity chunk = identity(Endpoint::Chat, true);
  const std::string finish = "stop";
  const auto choice = [&](const ChoiceView& view) {
    return at(json(body(chunk, view, UsageForm::Null)), {"choices", "0"});
  };

  EXPECT_EQ(
      choice({.role = true}),
      json(R"({"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null,
               "finish_reason": null})")
  );
  EXPECT_EQ(at(choice({.text = "a"}), {"delta"}), json(R"({"content": "a"})"));
  EXPECT_EQ(at(choice({.finish_reason = &finish}), {"delta"}), json("{}"));
  EXPECT_EQ(
      at(choice({.text = "z", .finish_reason = &finish}), {"delta"}), json(R"({"content": "z"})")
  );
  EXPECT_EQ(at(choice({.finish_reason = &finish}), {"finish_reason"}), Json("stop"));
  EXPECT_EQ(
      at(choice({.logprobs = true}), {"logprobs"}), json(R"({"content": [], "refusal": null})")
  );
}

TEST(CompletionJson, NamesTheObjectOfEachForm) {
  const auto object = [](Endpoint endpoint, bool stream) {
    return *at(json(body(identity(endpoint, stream), {}, UsageForm::Absent)), {"object"})
                .as_string();
  };
  EXPECT_EQ(object(Endpoint::Chat, false), "chat.completion");
  EXPECT_EQ(object(Endpoint::Chat, true), "chat.completion.chunk");
  EXPECT_EQ(object(Endpoint::Completion, false), "text_completion");
  EXPECT_EQ(object(Endpoint::Completion, true), "text_completion");
}

TEST(CompletionJson, WritesUsageTotalsNullOrNothing) {
  const AnswerIdentity chunk = identity(Endpoint::Chat, true);
  std::string last = answer_prefix(chunk);
  append_suffix(UsageForm::Totals, {.prompt_tokens = 1}, last);

  EXPECT_EQ(at(json(last), {"choices"}), json("[]"));
  EXPECT_EQ(at(json(last), {"usage", "total_tokens"}), Json(1));
  const Json null = json(body(chunk, {}, UsageForm::Null));
  EXPECT_TRUE(has(null, "usage"));
  EXPECT_TRUE(at(null, {"usage"}).is_null());
  EXPECT_FALSE(has(json(body(chunk, {}, UsageForm::Absent)), "usage"));
}

}  // namespace
}  // namespace pleiad::server
