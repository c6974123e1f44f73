#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "net/http_message.h"
#include "net/unique_function.h"

namespace pleiad::net {

class Exchange;

// Why nobody reads the answer any more.
enum class DisconnectReason {
  ClientGone,    // the client closed the connection, or its end of it
  SlowReader,    // the client read too slowly for the stream's buffer or the stall limit
  ServerClosed,  // HttpServer::close_all, or the server is being destroyed
};

// The answer to one request: either respond() once, or start_stream(), write() as often as wanted,
// and then finish() or abort(). Any thread may call, one at a time; the bytes go out on the loop
// thread, those of many writes together. When the client is gone every call does nothing.
//
// Destroying it without an answer sends a 500 error object; destroying it inside a stream aborts.
// It may outlive the server and the loop.
//
// The connection adds Date, the framing (Content-Length or Transfer-Encoding) and Connection;
// headers of these three kinds that the handler sets are dropped, so that a proxy may pass on what
// it got. So is a header whose name or value would break the head.
class Responder {
 public:
  explicit Responder(std::shared_ptr<Exchange> exchange);
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;
  ~Responder();

  // REQUIRES: nothing was answered yet; status 200 to 999.
  void respond(const HttpResponse& response);

  // REQUIRES: nothing was answered yet; status 200 to 999.
  void start_stream(int status, const HttpHeaders& headers);
  // Sends `bytes` soon. False when nobody reads them: stop producing. A client that reads so slowly
  // that more than HttpServerOptions::unsent_bytes_max wait at a write counts as gone: memory is
  // bounded by that and one write. REQUIRES: inside a stream.
  bool write(std::string_view bytes);
  // Ends the stream so that the client sees a whole answer. REQUIRES: inside a stream.
  void finish();
  // Ends so that the client sees an error: what was written goes out, then the connection closes
  // without the end of the body. REQUIRES: neither responded, finished nor aborted.
  void abort();

  // `callback` runs once, on the loop thread, when the client goes away before the answer is
  // complete; when it is gone already, inside this call. It runs for plain and for streamed
  // answers. It never starts after respond(), finish() or abort() returned, but may still be
  // running then. A client that only shut down its sending half counts as gone exactly when a
  // callback is set.
  void on_disconnect(UniqueFunction<void(DisconnectReason)> callback);
  [[nodiscard]] bool disconnected() const;
  // Bytes written that the operating system has not taken yet.
  [[nodiscard]] std::size_t unsent_bytes() const;

 private:
  std::shared_ptr<Exchange> exchange_;  // owners: this handle, and the connection until it is done
};

}  // namespace pleiad::net
