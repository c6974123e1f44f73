#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_head.h"
#include "net/http_message.h"
#include "net/url.h"

namespace pleiad::net {

// What to send. Host, Content-Length and Connection are added; Transfer-Encoding is not used.
struct HttpClientRequest {
  std::string method = "GET";
  Url url{};
  HttpHeaders headers{};
  std::string body{};
  // May be sent a second time when a kept connection turns out to be closed before a byte of the
  // answer came. GET and HEAD always may.
  bool replayable = false;
};

struct HttpClientOptions {
  Nanoseconds connect_timeout = std::chrono::seconds{5};  // name lookup and connection
  Nanoseconds head_timeout = std::chrono::minutes{10};  // from the connection to the answer's head
  Nanoseconds idle_timeout = std::chrono::minutes{2};   // between two pieces of the answer's body
  HttpHeadLimits head{};
  std::uint64_t body_bytes_max = 256U << 20U;  // of one answer
  std::size_t idle_connections_max = 64;       // kept per host and port; 0 keeps none
};

// What happens to a request, all on the loop thread: on_connected when a connection stands and the
// request is on its way (again when it is sent a second time), on_head once, on_body for each piece
// of the body as it arrives, on_end once, last. A failure (Unavailable: no connection, or it ended
// early; Timeout; Corrupt: no HTTP, or an answer above the limits) is only seen by on_end, maybe
// after on_head and on_body.
struct HttpClientEvents {
  UniqueFunction<void()> on_connected{};
  UniqueFunction<void(const HttpResponseHead&)> on_head{};
  UniqueFunction<void(std::string_view bytes)> on_body{};
  UniqueFunction<void(Result<void>)> on_end{};
};

class ClientCall;

// A request under way. Cancelling or destroying it cuts the connection and silences its events.
// Loop thread, or while no thread runs the loop; also from inside the events.
class HttpCall {
 public:
  HttpCall() = default;
  explicit HttpCall(std::shared_ptr<ClientCall> call);
  HttpCall(HttpCall&&) noexcept = default;
  HttpCall& operator=(HttpCall&& other) noexcept;
  ~HttpCall();

  void cancel();

 private:
  std::shared_ptr<ClientCall> call_;  // owners: this handle, and the call's pending operations
};

struct ClientPool;

// Sends HTTP/1.1 requests from one event loop and keeps connections for the next ones. Loop thread,
// or while no thread runs the loop.
class HttpClient {
 public:
  explicit HttpClient(EventLoop& loop, const HttpClientOptions& options = {});
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  // Calls under way go on.
  ~HttpClient();

  // No event happens inside this call.
  [[nodiscard]] HttpCall send(HttpClientRequest request, HttpClientEvents events);
  // Connections kept open for later requests.
  [[nodiscard]] std::size_t idle_connections() const;

 private:
  std::shared_ptr<ClientPool> pool_;  // owners: this client, and its calls
};

// Sends one request on a loop of its own and blocks until the answer is whole. For tools and tests;
// never from a loop thread. Fails like HttpClientEvents::on_end; any status is a success.
Result<HttpResponse> http_fetch(HttpClientRequest request, const HttpClientOptions& options = {});

}  // namespace pleiad::net
