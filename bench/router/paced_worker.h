#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>

#include "api/generation.h"
#include "base/clock.h"
#include "net/event_loop.h"
#include "net/http_server.h"

namespace pleiad::bench {

// A worker's side towards routers without a model: the first token of each request at once, then
// one of each in every step of a given length. A thread of its own.
class PacedWorker {
 public:
  PacedWorker(std::string secret, Nanoseconds step, std::int64_t vocabulary);
  PacedWorker(const PacedWorker&) = delete;
  PacedWorker& operator=(const PacedWorker&) = delete;
  ~PacedWorker();

  [[nodiscard]] std::string url() const;

 private:
  struct Stream {
    std::unique_ptr<net::Responder> responder;
    std::int32_t position = 0;
    std::int32_t left = 0;
  };

  void answer(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder);
  void generate(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder);
  // False: it was the last.
  bool write_token(Stream& stream);
  void run_step();

  std::string secret_;
  Nanoseconds step_;
  std::int64_t vocabulary_;
  net::EventLoop loop_;
  net::Timer timer_;
  std::uint64_t next_ = 0;
  std::unordered_map<std::uint64_t, Stream> streams_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

}  // namespace pleiad::bench
