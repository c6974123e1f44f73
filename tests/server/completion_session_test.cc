#include "server/completion_session.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/live_service.h"

namespace pleiad::server {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A stream as its client sees it: every chunk but [DONE], and whether that came.
struct Stream {
  net::HttpResponse response;
  std::vector<Json> chunks;
  bool done = false;
};

Stream stream_of(const LiveService& live, const char* path, std::string body) {
  Stream out{.response = live.post(path, std::move(body)), .chunks = {}};
  for (const std::string& data : events_of(out.response.body)) {
    EXPECT_FALSE(out.done) << "something follows [DONE]";
    if (data == "[DONE]") {
      out.done = true;
    } else {
      out.chunks.push_back(json(data));
    }
  }
  return out;
}

Json choice_of(const Json& chunk) {
  return at(chunk, {"choices", "0"});
}

// The text of choice `index`, whole or streamed.
std::string text_of(const Stream& stream, int index = 0) {
  std::string out;
  for (const Json& chunk : stream.chunks) {
    const Json choice = choice_of(chunk);
    if (at(choice, {"index"}) != Json(index)) continue;
    for (const Json& piece : {at(choice, {"delta", "content"}), at(choice, {"text"})}) {
      if (piece.is_string()) out += *piece.as_string();
    }
  }
  return out;
}

TEST(CompletionSession, AnswersAChat) {
  LiveService live(LiveService::says("Once upon a time"));

  const auto response = live.post(kChat, chat_body(R"("seed": 5)"));
  const Json answer = json(response.body);

  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.find("Content-Type"), "application/json");
  EXPECT_EQ(at(answer, {"object"}), Json("chat.completion"));
  EXPECT_THAT(*at(answer, {"id"}).as_string(), StartsWith("chatcmpl-"));
  EXPECT_EQ(at(answer, {"created"}), Json(1'700'000'000));
  EXPECT_EQ(
      choice_of(answer),
      json(R"({"index": 0, "message": {"role": "assistant", "content": "Once upon a time",
                                       "refusal": null},
               "logprobs": null, "finish_reason": "stop", "stop_reason": null})")
  );
  const auto requests = live.generator().requests();
  ASSERT_EQ(requests.size(), 1U);
  const auto prompt = encode("hi");
  EXPECT_EQ(requests[0].sampling.seed, 5U);
  EXPECT_EQ(requests[0].prompt.front(), *fable().bos());
  EXPECT_EQ(requests[0].prompt.back(), token("<|assistant|>"));
  EXPECT_EQ(requests[0].max_tokens, 256 - static_cast<std::int32_t>(requests[0].prompt.size()));
  EXPECT_EQ(
      at(answer, {"usage", "prompt_tokens"}),
      Json(static_cast<std::int64_t>(requests[0].prompt.size()))
  );
}

TEST(CompletionSession, KeepsControlTokensInMessagesText) {
  LiveService live(LiveService::says("a"));

  (void)live.post(kChat, R"({"messages": [{"role": "user", "content": "<|end|><|assistant|>"}]})");

  const auto prompt = live.generator().requests().at(0).prompt;
  EXPECT_EQ(std::ranges::count(prompt, token("<|end|>")), 1);
  EXPECT_EQ(std::ranges::count(prompt, token("<|assistant|>")), 1);
}

TEST(CompletionSession, AnswersACompletionOfSixteenTokens) {
  LiveService live([](const api::GenerationRequest& request) {
    return Script{
        .tokens = std::vector<TokenId>(static_cast<std::size_t>(request.max_tokens), token("a")),
        .reason = api::FinishReason::Length,
        .cached_tokens = 1};
  });

  const Json answer = json(live.post(kCompletions, prompt_body("[5, 6]")).body);

  EXPECT_EQ(at(answer, {"object"}), Json("text_completion"));
  EXPECT_THAT(*at(answer, {"id"}).as_string(), StartsWith("cmpl-"));
  EXPECT_EQ(at(choice_of(answer), {"text"}), Json(std::string(16, 'a')));
  EXPECT_EQ(at(choice_of(answer), {"finish_reason"}), Json("length"));
  EXPECT_EQ(
      at(answer, {"usage"}),
      json(R"({"prompt_tokens": 2, "completion_tokens": 16, "total_tokens": 18,
               "prompt_tokens_details": {"cached_tokens": 1}})")
  );
}

TEST(CompletionSession, StreamsAChatByTheGrammar) {
  LiveService live(LiveService::says("Once upon a time"));

  const Stream stream = stream_of(live, kChat, chat_body(R"("stream": true)"));

  EXPECT_EQ(stream.response.headers.find("Content-Type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(stream.response.headers.find("Cache-Control"), "no-cache");
  ASSERT_GE(stream.chunks.size(), 3U);
  EXPECT_TRUE(stream.done);
  EXPECT_EQ(
      at(choice_of(stream.chunks[0]), {"delta"}), json(R"({"role": "assistant", "content": ""})")
  );
  for (std::size_t i = 0; i < stream.chunks.size(); ++i) {
    const Json& chunk = stream.chunks[i];
    EXPECT_EQ(at(chunk, {"object"}), Json("chat.completion.chunk"));
    EXPECT_EQ(at(chunk, {"id"}), at(stream.chunks[0], {"id"}));
    EXPECT_EQ(at(chunk, {"created"}), at(stream.chunks[0], {"created"}));
    EXPECT_EQ(at(chunk, {"model"}), Json("fable"));
    EXPECT_FALSE(has(chunk, "usage"));
    const bool last = i + 1 == stream.chunks.size();
    ASSERT_TRUE(has(choice_of(chunk), "finish_reason"));
    EXPECT_EQ(at(choice_of(chunk), {"finish_reason"}), last ? Json("stop") : Json());
    EXPECT_EQ(has(at(choice_of(chunk), {"delta"}), "role"), i == 0);
  }
  EXPECT_EQ(text_of(stream), "Once upon a time");
}

TEST(CompletionSession, StreamsUsageWhenAsked) {
  LiveService live(LiveService::says("a b c"));
  for (const char* path : {kChat, kCompletions}) {
    const std::string members = R"("stream": true, "stream_options": {"include_usage": true})";

    const Stream stream =
        stream_of(live, path, path == kChat ? chat_body(members) : prompt_body("[7]", members));

    ASSERT_GE(stream.chunks.size(), 2U);
    for (std::size_t i = 0; i + 1 < stream.chunks.size(); ++i) {
      ASSERT_TRUE(has(stream.chunks[i], "usage"));
      EXPECT_TRUE(at(stream.chunks[i], {"usage"}).is_null());
    }
    EXPECT_EQ(at(stream.chunks.back(), {"choices"}), json("[]"));
    EXPECT_EQ(
        at(stream.chunks.back(), {"usage", "completion_tokens"}),
        Json(static_cast<std::int64_t>(encode("a b c").size()))
    );
    EXPECT_TRUE(stream.done);
  }
}

TEST(CompletionSession, StreamsAnAnswerThatStopsAtOnce) {
  LiveService live([](const api::GenerationRequest&) { return Script{}; });

  const Stream chat = stream_of(live, kChat, chat_body(R"("stream": true)"));
  const Stream completion = stream_of(live, kCompletions, prompt_body("[7]", R"("stream": true)"));

  ASSERT_EQ(chat.chunks.size(), 2U);
  EXPECT_EQ(at(choice_of(chat.chunks[1]), {"finish_reason"}), Json("stop"));
  ASSERT_EQ(completion.chunks.size(), 1U);
  EXPECT_TRUE(chat.done && completion.done);
}

// Answers with the seed it was given, written in letters.
Script tells_seed(const api::GenerationRequest& request) {
  return {.tokens = encode("seed " + std::to_string(request.sampling.seed))};
}

TEST(CompletionSession, GivesEachChoiceASeedOfItsOwnAndRepeatsThem) {
  LiveService live(tells_seed);
  const std::string body = chat_body(R"("n": 3, "seed": 7)");

  const Json first = json(live.post(kChat, body).body);
  const Json second = json(live.post(kChat, body).body);

  std::set<std::string> texts;
  for (const char* i : {"0", "1", "2"}) {
    texts.insert(*at(first, {"choices", i, "message", "content"}).as_string());
  }
  EXPECT_EQ(texts.size(), 3U);
  EXPECT_TRUE(texts.contains("seed 7"));
  EXPECT_EQ(at(first, {"choices"}), at(second, {"choices"}));
  EXPECT_NE(at(first, {"id"}), at(second, {"id"}));
}

TEST(CompletionSession, DrawsASeedWhenNoneIsGiven) {
  LiveService live(tells_seed);

  EXPECT_NE(
      choice_of(json(live.post(kChat, chat_body()).body)),
      choice_of(json(live.post(kChat, chat_body()).body))
  );
}

TEST(CompletionSession, StreamsSeveralChoicesSideBySide) {
  LiveService live(tells_seed);

  const Stream stream = stream_of(live, kChat, chat_body(R"("stream": true, "n": 2, "seed": 7)"));

  EXPECT_EQ(text_of(stream, 0), "seed 7");
  EXPECT_THAT(text_of(stream, 1), AllOf(StartsWith("seed "), Not("seed 7")));
  std::map<std::int64_t, int> roles;
  std::map<std::int64_t, int> ends;
  for (const Json& chunk : stream.chunks) {
    const Json choice = choice_of(chunk);
    const std::int64_t index = *at(choice, {"index"}).as_int();
    EXPECT_EQ(ends[index], 0) << "a chunk follows the choice's last";
    if (has(at(choice, {"delta"}), "role")) ++roles[index];
    if (!at(choice, {"finish_reason"}).is_null()) ++ends[index];
  }
  EXPECT_THAT(roles, ElementsAre(testing::Pair(0, 1), testing::Pair(1, 1)));
  EXPECT_THAT(ends, ElementsAre(testing::Pair(0, 1), testing::Pair(1, 1)));
}

TEST(CompletionSession, AnswersSeveralPromptsInOrder) {
  LiveService live([](const api::GenerationRequest& request) {
    return Script{.tokens = {request.prompt[0]}, .cached_tokens = 1};
  });
  const std::string prompts = fmt::format("[[{}, 9, 9], [{}]]", token("a"), token("b"));

  const Json answer = json(live.post(kCompletions, prompt_body(prompts, R"("n": 2)")).body);

  std::string texts;
  for (const char* i : {"0", "1", "2", "3"}) {
    EXPECT_EQ(at(answer, {"choices", i, "index"}), Json(std::atoi(i)));
    texts += *at(answer, {"choices", i, "text"}).as_string();
  }
  EXPECT_EQ(texts, "aabb");
  // Each prompt counts once, however many choices continue it.
  EXPECT_EQ(at(answer, {"usage", "prompt_tokens"}), Json(4));
  EXPECT_EQ(at(answer, {"usage", "completion_tokens"}), Json(4));
  EXPECT_EQ(at(answer, {"usage", "prompt_tokens_details", "cached_tokens"}), Json(2));
}

TEST(CompletionSession, EndsAtAStopStringWithoutShowingIt) {
  LiveService live(LiveService::goes_on_after("one two three"));
  const auto swallowed = encode("one two");

  const Json answer = json(live.post(kChat, chat_body(R"("stop": ["nothing", " two"])")).body);

  EXPECT_EQ(at(choice_of(answer), {"message", "content"}), Json("one"));
  EXPECT_EQ(at(choice_of(answer), {"finish_reason"}), Json("stop"));
  EXPECT_EQ(at(choice_of(answer), {"stop_reason"}), Json(" two"));
  EXPECT_EQ(
      at(answer, {"usage", "completion_tokens"}), Json(static_cast<std::int64_t>(swallowed.size()))
  );
  // The engine learns that it succeeded, not that it was given up.
  live.generator().wait_until_completed(1);
  EXPECT_EQ(live.generator().cut(), 0U);
}

TEST(CompletionSession, NeverLeaksAStopStringIntoAStream) {
  LiveService live(LiveService::goes_on_after("one two three"));

  const Stream stream = stream_of(
      live,
      kChat,
      chat_body(R"("stream": true, "stop": "wo thr", "logprobs": true, "return_token_ids": true)")
  );

  EXPECT_EQ(text_of(stream), "one t");
  std::string tokens;
  for (const Json& chunk : stream.chunks) {
    const Json token = at(choice_of(chunk), {"logprobs", "content", "0", "token"});
    if (token.is_string()) tokens += *token.as_string();
  }
  EXPECT_EQ(tokens, "one two");  // " two" is shown in part, " three" not at all
  EXPECT_EQ(at(choice_of(stream.chunks.back()), {"finish_reason"}), Json("stop"));
  EXPECT_TRUE(stream.done);
}

TEST(CompletionSession, TellsAClientsStopToken) {
  LiveService live([](const api::GenerationRequest&) {
    return Script{.tokens = {token("a")}, .stop_token = 9};
  });

  EXPECT_EQ(
      at(choice_of(json(live.post(kChat, chat_body(R"("stop_token_ids": [9])")).body)),
         {"stop_reason"}),
      Json(9)
  );
  EXPECT_TRUE(at(choice_of(json(live.post(kChat, chat_body()).body)), {"stop_reason"}).is_null());
}

TEST(CompletionSession, GivesLogprobsOfEveryToken) {
  LiveService live(LiveService::says("one two"));
  const auto tokens = encode("one two");

  const Json chat =
      json(live.post(kChat, chat_body(R"("logprobs": true, "top_logprobs": 2, "n": 2)")).body);
  const Json completion =
      json(live.post(kCompletions, prompt_body("[7]", R"("logprobs": 0)")).body);

  for (const char* i : {"0", "1"}) {
    const Json content = at(chat, {"choices", i, "logprobs", "content"});
    ASSERT_TRUE(content.is_array());
    EXPECT_EQ(content.as_array()->size(), tokens.size());
    EXPECT_EQ(at(content, {"0", "top_logprobs"}).as_array()->size(), 2U);
  }
  const Json logprobs = at(choice_of(completion), {"logprobs"});
  EXPECT_EQ(at(logprobs, {"tokens"}).as_array()->size(), tokens.size());
  EXPECT_EQ(at(logprobs, {"text_offset", "0"}), Json(0));
  EXPECT_EQ(at(logprobs, {"top_logprobs", "0"}).as_object()->size(), 1U);
}

TEST(CompletionSession, StreamsLogprobsWithTheirText) {
  LiveService live(LiveService::says("one two three"));
  const auto tokens = encode("one two three");

  const Stream stream =
      stream_of(live, kChat, chat_body(R"("stream": true, "logprobs": true, "top_logprobs": 1)"));

  std::size_t count = 0;
  for (const Json& chunk : stream.chunks) {
    const Json content = at(choice_of(chunk), {"logprobs", "content"});
    if (content.is_array()) count += content.as_array()->size();
  }
  EXPECT_EQ(count, tokens.size());
}

TEST(CompletionSession, EchoesAndScoresThePrompt) {
  LiveService live([](const api::GenerationRequest&) {
    return Script{.reason = api::FinishReason::Length};
  });
  const auto tokens = encode("Once upon a time");
  const std::string body =
      prompt_body("\"Once upon a time\"", R"("echo": true, "logprobs": 1, "max_tokens": 0)");

  const Json choice = choice_of(json(live.post(kCompletions, body).body));

  EXPECT_EQ(at(choice, {"text"}), Json("Once upon a time"));
  EXPECT_EQ(at(choice, {"finish_reason"}), Json("length"));
  EXPECT_FALSE(has(choice, "prompt_logprobs"));
  const Json logprobs = at(choice, {"logprobs"});
  for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
    EXPECT_EQ(at(logprobs, {list}).as_array()->size(), tokens.size()) << list;
  }
  EXPECT_TRUE(at(logprobs, {"token_logprobs", "0"}).is_null());
  EXPECT_EQ(at(logprobs, {"token_logprobs", "1"}), Json(-0.5));
  EXPECT_EQ(live.generator().requests().at(0).max_tokens, 0);
}

TEST(CompletionSession, PutsTheEchoBeforeTheOutputInAStreamToo) {
  LiveService live(LiveService::says(" b"));
  const std::string members = R"("echo": true, "logprobs": 0, "stream": true)";

  const Stream stream = stream_of(live, kCompletions, prompt_body("\"a\"", members));
  const Json whole =
      json(live.post(kCompletions, prompt_body("\"a\"", R"("echo": true, "logprobs": 0)")).body);

  EXPECT_EQ(text_of(stream), "a b");
  EXPECT_EQ(at(choice_of(whole), {"text"}), Json("a b"));
  EXPECT_EQ(at(choice_of(stream.chunks[0]), {"logprobs"}), at(choice_of(whole), {"logprobs"}));
  EXPECT_EQ(at(choice_of(whole), {"logprobs", "text_offset"}), json("[0, 1]"));
}

TEST(CompletionSession, ScoresThePromptApartWhenAsked) {
  LiveService live(LiveService::says("x"));
  const std::string members = R"("prompt_logprobs": 2, "echo": true, "logprobs": 1)";

  const Json choice = choice_of(json(live.post(kCompletions, prompt_body("[5, 6]", members)).body));
  const Json one =
      choice_of(json(live.post(kCompletions, prompt_body("[5]", R"("prompt_logprobs": 0)")).body));

  EXPECT_EQ(at(choice, {"prompt_logprobs"}).as_array()->size(), 2U);
  EXPECT_EQ(at(choice, {"prompt_logprobs", "1"}).as_object()->size(), 2U);
  EXPECT_EQ(at(choice, {"logprobs", "top_logprobs", "1"}).as_object()->size(), 1U);
  EXPECT_EQ(at(one, {"prompt_logprobs"}), json("[null]"));
}

TEST(CompletionSession, GivesTokenIdsWhenAsked) {
  LiveService live(LiveService::says("one two"));
  const auto tokens = encode("one two");
  const std::string ids = fmt::format("[{}]", fmt::join(tokens, ", "));

  const Json choice =
      choice_of(json(live.post(kChat, chat_body(R"("return_token_ids": true)")).body));
  const Json named = choice_of(
      json(live.post(
                   kCompletions,
                   prompt_body("[7]", R"("logprobs": 0, "return_tokens_as_token_ids": true)")
      )
               .body)
  );

  EXPECT_EQ(at(choice, {"token_ids"}), json(ids));
  EXPECT_EQ(at(named, {"logprobs", "tokens", "0"}), Json("token_id:" + std::to_string(tokens[0])));
}

TEST(CompletionSession, WithoutATokenizerTakesAndGivesIds) {
  LiveService live(
      [](const api::GenerationRequest&) {
        return Script{.tokens = {7, 8}};
      },
      default_service_options(),
      false
  );

  const Json choice =
      choice_of(json(live.post(kCompletions, prompt_body("[5]", R"("logprobs": 0)")).body));

  EXPECT_EQ(at(choice, {"text"}), Json(""));
  EXPECT_EQ(at(choice, {"token_ids"}), json("[7, 8]"));
  EXPECT_EQ(at(choice, {"logprobs", "tokens", "0"}), Json("token_id:7"));
  EXPECT_EQ(live.post(kCompletions, prompt_body("\"text\"")).status, 400);
  EXPECT_EQ(live.post(kCompletions, prompt_body("[5]", R"("stop": "x")")).status, 400);
  EXPECT_EQ(live.post(kChat, chat_body()).status, 400);
  EXPECT_EQ(live.post("/detokenize", R"({"tokens": [1]})").status, 400);
  const Stream stream = stream_of(live, kCompletions, prompt_body("[5]", R"("stream": true)"));
  EXPECT_TRUE(stream.done);
  EXPECT_EQ(at(choice_of(stream.chunks[0]), {"token_ids"}), json("[7]"));
}

ServiceOptions with_keep_alive(Nanoseconds interval) {
  ServiceOptions options = default_service_options();
  options.keep_alive = interval;
  return options;
}

TEST(CompletionSession, KeepsAStreamAliveThatWaitsForItsFirstToken) {
  LiveService live(LiveService::goes_on_after(""), with_keep_alive(std::chrono::milliseconds(1)));
  net::RawClient client = live.connect();
  client.send(LiveService::wire(kChat, chat_body(R"("stream": true)")));

  const std::string head = client.read_until(": keep-alive");
  client.read_until(": keep-alive");
  live.generator().break_open_requests();
  const std::string rest = client.read_all();

  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(head, HasSubstr("text/event-stream"));
  EXPECT_THAT(rest, HasSubstr(R"(data: {"error":)"));
  EXPECT_THAT(rest, Not(HasSubstr("[DONE]")));
}

TEST(CompletionSession, KeepsAStreamAliveThatWaitsForItsNextToken) {
  LiveService live(
      LiveService::goes_on_after("one"), with_keep_alive(std::chrono::milliseconds(1))
  );
  net::RawClient client = live.connect();
  client.send(LiveService::wire(kChat, chat_body(R"("stream": true)")));

  client.read_until("one");
  client.read_until(": keep-alive");
  EXPECT_THAT(client.read_until(": keep-alive"), EndsWith(": keep-alive"));
}

TEST(CompletionSession, SendsNoCommentsIntoBusyStreamsNorWholeAnswers) {
  LiveService live(LiveService::says("one two three"), with_keep_alive(std::chrono::hours(1)));
  EXPECT_THAT(live.post(kChat, chat_body(R"("stream": true)")).body, Not(HasSubstr("keep-alive")));

  LiveService waiting(
      LiveService::goes_on_after(""), with_keep_alive(std::chrono::milliseconds(1))
  );
  net::RawClient whole = waiting.connect();
  net::RawClient stream = waiting.connect();
  whole.send(LiveService::wire(kChat, chat_body()));
  waiting.generator().wait_until_open(1);
  stream.send(LiveService::wire(kChat, chat_body(R"("stream": true)")));
  // By the time that a stream got two, a whole answer would have got one.
  stream.read_until(": keep-alive");
  stream.read_until(": keep-alive");
  waiting.generator().break_open_requests();

  const std::string answer = whole.read_until("\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 500 "));
}

TEST(CompletionSession, CancelsWhenTheClientOfAStreamGoesAway) {
  LiveService live(LiveService::goes_on_after("one"));
  {
    net::RawClient client = live.connect();
    client.send(LiveService::wire(kChat, chat_body(R"("stream": true, "n": 3)")));
    client.read_until("one");
    live.generator().wait_until_open(3);
  }
  live.generator().wait_until_cut(3);
  live.wait_until_idle();

  EXPECT_THAT(
      live.metrics(),
      HasSubstr(R"(pleiad_http_requests_total{route="/v1/chat/completions",code="499"} 1)")
  );
}

TEST(CompletionSession, CancelsWhenTheClientOfAWholeAnswerGoesAway) {
  LiveService live(LiveService::goes_on_after("one"));
  {
    net::RawClient client = live.connect();
    client.send(LiveService::wire(kCompletions, prompt_body("[[5], [6]]")));
    live.generator().wait_until_open(2);
  }

  live.generator().wait_until_cut(2);
  live.wait_until_idle();
}

TEST(CompletionSession, AnswersTheGeneratorsRefusals) {
  LiveService live(LiveService::says("a"));
  struct Case {
    Error refusal;
    int status;
    bool retry;
  };
  for (const Case& c :
       {Case{exhausted("queue full"), 429, true},
        Case{unavailable("draining"), 503, true},
        Case{invalid_input("too long"), 400, false},
        Case{internal_error("secret"), 500, false}}) {
    for (const char* members : {"", R"("stream": true)"}) {
      live.generator().refuse(c.refusal);
      const auto response = live.post(kChat, chat_body(members));
      EXPECT_EQ(response.status, c.status);
      EXPECT_EQ(response.headers.find("Retry-After").has_value(), c.retry);
      EXPECT_TRUE(has(json(response.body), "error"));
      EXPECT_THAT(response.body, Not(HasSubstr("secret")));
    }
  }
}

TEST(CompletionSession, CancelsTheChoicesBeforeARefusedOne) {
  LiveService live(LiveService::goes_on_after("one"));
  live.generator().refuse(exhausted("queue full"), 2);

  const auto response = live.post(kChat, chat_body(R"("n": 3)"));

  EXPECT_EQ(response.status, 429);
  live.generator().wait_until_cut(2);
  live.wait_until_idle();
}

TEST(CompletionSession, AnswersAFailureBeforeTheFirstTokenWithItsStatus) {
  LiveService live([](const api::GenerationRequest&) {
    return Script{.reason = api::FinishReason::Error};
  });
  for (const char* members : {"", R"("stream": true)"}) {
    const auto response = live.post(kChat, chat_body(members));
    EXPECT_EQ(response.status, 500);
    EXPECT_EQ(response.headers.find("x-should-retry"), "false");
    EXPECT_EQ(at(json(response.body), {"error", "type"}), Json("server_error"));
    EXPECT_THAT(response.body, Not(HasSubstr("device")));
  }
}

TEST(CompletionSession, TellsTheClientWhatAFailureSaysToIt) {
  const Script script{.reason = api::FinishReason::Error, .for_client = true};
  LiveService live([&](const api::GenerationRequest&) { return script; });
  const auto body = json(live.post(kChat, chat_body()).body);
  EXPECT_EQ(at(body, {"error", "message"}), Json("the device is gone"));
}

TEST(CompletionSession, NeverEndsAFailedStreamCleanly) {
  LiveService live(LiveService::goes_on_after("one"));
  net::RawClient client = live.connect();
  client.send(LiveService::wire(kChat, chat_body(R"("stream": true, "n": 2)")));
  client.read_until("one");
  live.generator().wait_until_open(2);

  live.generator().break_open_requests();
  const std::string rest = client.read_all();

  EXPECT_THAT(
      rest, HasSubstr(R"(data: {"error":{"message":"internal error","type":"server_error")")
  );
  EXPECT_THAT(rest, AllOf(Not(HasSubstr("[DONE]")), Not(HasSubstr("0\r\n\r\n"))));
  EXPECT_FALSE(client.timed_out());
  live.wait_until_idle();
}

TEST(CompletionSession, AnswersAShutdownAndALostRankWith503) {
  for (const auto reason : {api::FinishReason::Cancelled, api::FinishReason::Lost}) {
    LiveService live([reason](const api::GenerationRequest&) { return Script{.reason = reason}; });

    EXPECT_EQ(live.post(kChat, chat_body()).status, 503);
  }
}

}  // namespace
}  // namespace pleiad::server
