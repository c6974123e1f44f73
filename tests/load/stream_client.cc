#include "tests/load/stream_client.h"

#include <array>
#include <utility>

#include <fmt/core.h>

#include "base/random.h"

namespace pleiad::load_test {

Tale tale(std::uint64_t number) {
  constexpr std::array<std::string_view, 6> kHeroes = {
      "a fox", "a king", "a youngest son", "two sisters", "a wise frog", "an old soldier"};
  constexpr std::array<std::string_view, 5> kPlaces = {
      "in a dark wood",
      "by the sea",
      "in a castle of glass",
      "at the end of the world",
      "where nobody had ever been before, for the road was long and the nights were cold"};
  Random random(number);
  const std::string_view hero = kHeroes[random.below(kHeroes.size())];
  const std::string_view place = kPlaces[random.below(kPlaces.size())];
  const std::int64_t max_tokens = random.between(4, 48);
  return {
      .number = number,
      .body = fmt::format(
          R"({{"model": "", "stream": true, "stream_options": {{"include_usage": true}},)"
          R"( "seed": {}, "max_tokens": {}, "messages":)"
          R"( [{{"role": "user", "content": "Tell me a story about {} {}."}}]}})",
          number,
          max_tokens,
          hero,
          place
      ),
      .max_tokens = max_tokens,
  };
}

void StreamClient::start(const Tale& tale, std::optional<std::int64_t> abort_after) {
  parser_ = net::SseParser();
  outcome_ = {.tale = tale.number};
  abort_after_ = abort_after;
  begin_ = clock_.now();
  status_ = 0;
  refusal_.clear();
  max_tokens_ = tale.max_tokens;
  pieces_ = 0;
  finished_ = false;
  done_ = false;
  net::HttpClientRequest request{
      .method = "POST",
      .url = server_,
      .headers = {{"Content-Type", "application/json"}},
      .body = tale.body,
      .replayable = true,
  };
  request.url.target = "/v1/chat/completions";
  call_ = http_.send(
      std::move(request),
      {
          .on_head = [this](const net::HttpResponseHead& head) { status_ = head.status; },
          .on_body = [this](std::string_view bytes) { on_body(bytes); },
          .on_end = [this](const Result<void>& result) { end(result); },
      }
  );
}

void StreamClient::on_body(std::string_view bytes) {
  if (status_ != 200) {
    refusal_ += bytes;
    return;
  }
  net::UniqueFunction<void(const net::SseEvent&)> take = [this](const net::SseEvent& event) {
    on_event(event);
  };
  if (!parser_.feed(bytes, take).ok()) fail("an event is too long");
  if (abort_after_ && pieces_ >= *abort_after_ && !done_) {
    outcome_.aborted = true;
    call_.cancel();
    on_end_(std::exchange(outcome_, {}));
  }
}

void StreamClient::on_event(const net::SseEvent& event) {
  if (done_) return fail("an event follows [DONE]");
  if (event.data == "[DONE]") {
    done_ = true;
    return;
  }
  const auto chunk = parse_json(event.data);
  if (!chunk.ok()) return fail("a chunk is no JSON: " + event.data);
  if (chunk->find("error") != nullptr) return fail("an error event: " + event.data);
  const Json* choices = chunk->find("choices");
  if (choices == nullptr || !choices->is_array()) return fail("a chunk without choices");
  if (!choices->as_array()->empty()) {
    on_choice(choices->as_array()->front());
    return;
  }
  const Json* usage = chunk->find("usage");
  const Json* tokens = usage == nullptr ? nullptr : usage->find("completion_tokens");
  outcome_.tokens = tokens == nullptr ? -1 : tokens->as_int().value_or(-1);
  if (outcome_.tokens < 0 || outcome_.tokens > max_tokens_) fail("wrong usage: " + event.data);
}

void StreamClient::on_choice(const Json& choice) {
  if (finished_) fail("a chunk follows finish_reason");
  const Json* delta = choice.find("delta");
  const Json* content = delta == nullptr ? nullptr : delta->find("content");
  if (content != nullptr && content->is_string() && !content->as_string()->empty()) {
    if (pieces_ == 0) outcome_.first_token = clock_.now() - begin_;
    ++pieces_;
    ++outcome_.tokens;
    outcome_.text += *content->as_string();
  }
  const Json* reason = choice.find("finish_reason");
  finished_ = reason != nullptr && (*reason == Json("stop") || *reason == Json("length"));
}

void StreamClient::end(const Result<void>& result) {
  if (!result.ok()) {
    fail(result.error().message);
  } else if (status_ != 200) {
    fail(fmt::format("status {}: {}", status_, refusal_));
  } else if (!finished_ || !done_) {
    fail("the stream ended cleanly without finish_reason and [DONE]");
  }
  on_end_(std::exchange(outcome_, {}));
}

void StreamClient::fail(std::string_view what) {
  if (outcome_.failure.empty()) outcome_.failure = fmt::format("tale {}: {}", outcome_.tale, what);
}

}  // namespace pleiad::load_test
