#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_head.h"
#include "net/http_message.h"
#include "net/responder.h"

namespace pleiad::net {

struct HttpServerOptions {
  std::string address = "127.0.0.1";  // an IP address, or "localhost"
  std::uint16_t port = 0;             // 0: any free one, see HttpServer::port()

  HttpHeadLimits head{};                      // 414 and 431 above
  std::uint64_t body_bytes_max = 32U << 20U;  // in any framing; 413 above
  std::size_t connections_max = 10'000;       // 503 above
  std::size_t requests_per_connection_max = 100'000;
  // Read ahead while a request is answered. A client that sends more is only noticed to go when the
  // answer cannot be written.
  std::size_t pipeline_bytes_max = 64U << 10U;
  std::size_t unsent_bytes_max = 4U << 20U;  // per stream; above, its reader is too slow
  std::size_t linger_bytes_max = 1U << 20U;  // read and dropped behind a refused request

  Nanoseconds head_timeout = std::chrono::seconds{10};        // first byte to last; 408
  Nanoseconds body_timeout = std::chrono::seconds{60};        // first byte to last; 408
  Nanoseconds keep_alive_timeout = std::chrono::seconds{75};  // between requests
  Nanoseconds write_timeout = std::chrono::seconds{30};       // without a byte taken by the client
  Nanoseconds linger_timeout = std::chrono::seconds{2};       // for the client to hang up
  Nanoseconds accept_retry = std::chrono::milliseconds{50};   // after file descriptors ran out

  int retry_after_seconds = 1;  // told with 503
  // The body of the answers the server makes itself, with their type in `error_content_type`.
  std::function<std::string(int status, std::string_view message)> format_error = error_body;
  std::string error_content_type = "application/json";
};

// Called on the loop thread for each whole request. The Responder may be kept and answered later,
// from any thread.
using HttpHandler = UniqueFunction<void(HttpRequest request, std::unique_ptr<Responder> responder)>;

// An HTTP/1.1 server (HTTP/1.0 clients too) on one event loop. Requests of one connection are
// handed out one at a time, in order. What is malformed, ambiguous, too large or too slow is
// answered by the server itself with a status of http_head.h, http_chunk.h or 408, and the
// connection closes: no byte behind it is ever read as a request. All members on the loop thread,
// or while no thread runs the loop, except where noted; a handler may close the server but
// not destroy it.
class HttpServer {
 public:
  // Fails with InvalidInput when the address is none, and with Unavailable, naming address, port
  // and the way out, when it cannot be listened on.
  static Result<std::unique_ptr<HttpServer>>
  listen(EventLoop& loop, HttpServerOptions options, HttpHandler handler);

  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  // Like close_all().
  ~HttpServer();

  // The port that is listened on. Any thread.
  [[nodiscard]] std::uint16_t port() const;

  // Drain: takes no new connection and closes the idle ones; requests that have begun to arrive are
  // still answered, each as the last of its connection. `on_drained` runs on the loop thread once
  // no connection is left.
  void close_listener(Task on_drained = {});
  // Also cuts every connection; requests under way see DisconnectReason::ServerClosed.
  void close_all();

  // Connections open, and requests handed out whose answer is not sent. Any thread.
  [[nodiscard]] std::size_t connections() const;
  [[nodiscard]] std::size_t open_requests() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace pleiad::net
