#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "router/worker_link.h"

namespace pleiad::router {

class RouterCore;

// Attempts as HTTP requests to workers, each on a connection of its own (server/peer_api.h). Loop
// thread only.
class HttpWorkerLink final : public WorkerLink {
 public:
  struct Options {
    std::string secret;
    Nanoseconds connect_timeout = std::chrono::seconds(2);
    // Of a stream; workers at work say every second that they are alive.
    Nanoseconds silence_max = std::chrono::seconds(5);
  };

  // `core` is told what happens, and `told` called after that. Both must outlive the link; `core`
  // may be constructed later.
  HttpWorkerLink(
      net::EventLoop& loop,
      RouterCore& core,
      const Options& options,
      std::function<void()> told
  );
  HttpWorkerLink(const HttpWorkerLink&) = delete;
  HttpWorkerLink& operator=(const HttpWorkerLink&) = delete;
  ~HttpWorkerLink() override;

  void send(AttemptId attempt, const Worker& worker, const api::SubmitMessage& message) override;
  void hang_up(AttemptId attempt) override;
  void finish(AttemptId attempt, const Worker& worker, api::RequestId remote) override;

 private:
  class Stream;

  net::HttpClientRequest request_to(const Worker& worker, std::string_view path) const;
  void on_body(AttemptId attempt, std::string_view bytes);
  void on_end(AttemptId attempt, const Result<void>& ended);

  RouterCore& core_;
  Options options_;
  std::function<void()> told_;
  net::HttpClient client_;
  std::unordered_map<AttemptId, std::unique_ptr<Stream>> streams_;
  std::size_t over_ = 0;              // of those, kept for their connections only
  const Stream* fed_ = nullptr;       // that takes bytes in just then
  std::unique_ptr<Stream> fed_over_;  // the same, when it was hung up meanwhile
};

}  // namespace pleiad::router
