#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/sse.h"

namespace pleiad::service {

// What came of one completion, the same whether it came whole or in pieces.
struct Answer {
  int status = 0;             // 0: none came
  JsonArray tokens;           // ids
  JsonArray scores;           // of each token
  JsonArray alternatives;     // to each token, with their scores
  std::string finish_reason;  // empty: it did not end well
  std::string error;          // why it did not
  std::int64_t prompt_tokens = -1;
  std::int64_t output_tokens = -1;
  bool cancelled = false;  // by its client
};

// What differs between what came and what is right, in words; empty: nothing.
std::string difference(const Answer& answer, const Answer& right);
// Likewise of an answer that did not come to its end: it must be how the right one begins.
std::string difference_so_far(const Answer& answer, const Answer& right);

// Asks a server for completions, all at once, and again what it does not take at the time. Watches
// its health meanwhile. Any thread.
class Client {
 public:
  explicit Client(std::string url);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  // Number of the question, from 0. `body` is that of a completion; `stream` asks for pieces.
  std::size_t ask(Json body, bool stream);
  // Hangs up, unless it is over.
  void cancel(std::size_t question);
  // GET `path` again and again; every answer must have status 200.
  void watch(const std::string& path);

  // Blocks until it is over, or not within `patience`.
  [[nodiscard]] bool wait(std::size_t question, Nanoseconds patience);
  [[nodiscard]] bool over(std::size_t question) const;
  // REQUIRES: it is over.
  [[nodiscard]] Answer answer(std::size_t question) const;
  // What else than 200 the watched path answered; empty: nothing.
  [[nodiscard]] std::string sick() const;

 private:
  struct Question {
    Json body;
    bool stream = false;
    net::HttpCall call;
    net::Timer again;
    std::string text;  // of an answer that is no stream
    net::SseParser parser;
    Answer answer;
    bool over = false;
  };

  void send(std::size_t index);
  void take_bytes(Question& question, std::string_view bytes);
  void take_event(Question& question, const std::string& data);
  void take_end(std::size_t index, const Result<void>& ended);
  void end(Question& question);
  void look(const std::string& path);

  const std::string url_;
  net::EventLoop loop_;
  net::HttpClient client_;
  net::HttpCall watching_;  // the loop's, as is the timer
  net::Timer look_again_;
  mutable std::mutex
      mutex_;  // guards what follows; members of a Question but `over` are the loop's
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Question>> questions_;
  std::string sick_;
  std::thread thread_;
};

}  // namespace pleiad::service
