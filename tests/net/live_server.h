#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "net/event_loop.h"
#include "net/http_server.h"
#include "tests/net/raw_client.h"

namespace pleiad::net {

// A server on a free port, its loop running on a thread of its own.
class LiveServer {
 public:
  explicit LiveServer(HttpHandler handler, HttpServerOptions options = {}) {
    auto listening = HttpServer::listen(loop_, std::move(options), std::move(handler));
    server_ = *std::move(listening);
    thread_ = std::thread([this] { loop_.run(); });
  }
  LiveServer(const LiveServer&) = delete;
  LiveServer& operator=(const LiveServer&) = delete;
  ~LiveServer() {
    loop_.stop();
    thread_.join();
    server_.reset();
  }

  [[nodiscard]] RawClient connect(int receive_buffer_bytes = 0) const {
    return RawClient(server_->port(), receive_buffer_bytes);
  }
  [[nodiscard]] std::uint16_t port() const { return server_->port(); }
  HttpServer& server() { return *server_; }

  // Runs `task` on the loop thread and waits for it.
  void on_loop(Task task) {
    std::promise<void> done;
    loop_.post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }

  // Waits until no connection is left.
  void wait_until_empty() {
    while (server_->connections() > 0) {
      std::this_thread::yield();
    }
  }

 private:
  EventLoop loop_;
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

// Answers every request at once with its method, target and body; counts the requests in `seen`.
inline HttpHandler echo_handler(std::atomic<int>& seen) {
  return [&seen](HttpRequest request, std::unique_ptr<Responder> responder) {
    ++seen;
    responder->respond(
        {.headers = {{"Content-Type", "text/plain"}},
         .body = request.method + " " + request.target + " " + request.body}
    );
  };
}

}  // namespace pleiad::net
