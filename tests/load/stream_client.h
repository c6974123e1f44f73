#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/json.h"
#include "net/http_client.h"
#include "net/sse.h"

namespace pleiad::load_test {

// One chat request. Equal tales are equal requests, so their answers must be equal too.
struct Tale {
  std::uint64_t number = 0;
  std::string body;
  std::int64_t max_tokens = 0;
};

// Tale `number`: its prompt, seed and length follow from the number alone.
Tale tale(std::uint64_t number);

// What became of one stream.
struct StreamOutcome {
  std::uint64_t tale = 0;
  bool aborted = false;       // by us
  std::string failure;        // empty: it ended as it should, or was aborted
  std::string text;           // of a whole answer
  std::int64_t tokens = 0;    // seen
  Nanoseconds first_token{};  // from the request to the first text; zero: there was none
};

// Reads one streamed chat at a time and judges its grammar. Loop thread only.
class StreamClient {
 public:
  using OnEnd = net::UniqueFunction<void(const StreamOutcome& outcome)>;

  // All must outlive the client.
  StreamClient(net::HttpClient& http, const net::Url& server, const Clock& clock, OnEnd on_end)
      : http_(http), server_(server), clock_(clock), on_end_(std::move(on_end)) {}

  // Sends `tale`; hangs up after `abort_after` pieces of text when given. REQUIRES: no stream runs.
  void start(const Tale& tale, std::optional<std::int64_t> abort_after);

 private:
  void on_body(std::string_view bytes);
  void on_event(const net::SseEvent& event);
  void on_choice(const Json& choice);
  void end(const Result<void>& result);
  void fail(std::string_view what);

  net::HttpClient& http_;
  net::Url server_;
  const Clock& clock_;
  OnEnd on_end_;
  net::HttpCall call_;
  net::SseParser parser_;
  StreamOutcome outcome_;
  std::optional<std::int64_t> abort_after_;
  Nanoseconds begin_{};
  int status_ = 0;
  std::string refusal_;  // the body of an answer that is no stream
  std::int64_t max_tokens_ = 0;
  std::int64_t pieces_ = 0;
  bool finished_ = false;  // finish_reason came
  bool done_ = false;      // [DONE] came
};

}  // namespace pleiad::load_test
