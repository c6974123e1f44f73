#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api/generation.h"
#include "api/worker_report.h"
#include "net/event_loop.h"
#include "net/http_server.h"

namespace pleiad::router {

// What a fake worker does with a request: so many tokens, then an end.
struct FakeAnswer {
  enum class End {
    Finish,   // as asked for
    Lost,     // one of its ranks is gone
    Leaving,  // it is shutting down
    Break,    // the connection goes
    Full,     // 503 in place of an answer
    Silence,  // nothing more comes
    Wrong,    // 400 in place of an answer
  };
  End end = End::Finish;
  std::int32_t tokens = INT32_MAX;
};

// A worker's HTTP side (server/peer_api.h) without a model: each token is a hash of all tokens
// before it, so that only the exact rest of an answer continues it.
class FakeWorker {
 public:
  using Script = std::function<FakeAnswer(const api::GenerationRequest& request)>;

  explicit FakeWorker(Script script, std::size_t dp_ranks = 1);
  FakeWorker(const FakeWorker&) = delete;
  FakeWorker& operator=(const FakeWorker&) = delete;
  ~FakeWorker();

  [[nodiscard]] std::string url() const;
  // Told from the next report on.
  void set_report(const std::function<void(api::WorkerReport&)>& change);
  [[nodiscard]] std::vector<api::GenerationRequest> requests() const;
  [[nodiscard]] int hung_up() const { return hung_up_.load(); }
  [[nodiscard]] std::size_t connections() const { return server_->connections(); }
  [[nodiscard]] int finished_early() const { return finished_early_.load(); }

  static std::vector<TokenId> answer(std::vector<TokenId> prompt, std::int32_t max_tokens);
  static constexpr std::string_view kSecret = "a secret of tests";

 private:
  void handle(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder);
  [[nodiscard]] bool meant_for_this_start(const net::HttpRequest& request) const;
  void generate(const api::GenerationRequest& request, std::unique_ptr<net::Responder> responder);

  Script script_;
  mutable std::mutex mutex_;  // guards the next two
  api::WorkerReport report_;
  std::vector<api::GenerationRequest> requests_;
  std::atomic<int> hung_up_{0};
  std::atomic<int> finished_early_{0};
  std::vector<std::unique_ptr<net::Responder>> silent_;  // loop thread
  net::EventLoop loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

}  // namespace pleiad::router
