#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "net/event_loop.h"
#include "net/responder.h"

namespace pleiad::net {

class HttpConnection;

// Lets `connection`, if it still lives, collect what its exchange holds. Loop thread.
void collect_exchange(const std::weak_ptr<HttpConnection>& connection);

struct ExchangeOptions {
  int minor_version = 1;
  bool head_request = false;
  bool keep_alive = true;
  std::size_t unsent_bytes_max = 0;
};

// The meeting place of one request's Responder (any thread) and its connection (loop thread): bytes
// on their way out, and the word that somebody is gone. Bytes are framed on the writer's thread;
// the connection is woken once for all that was written since it last collected.
class Exchange {
 public:
  enum class Phase {
    Waiting,    // nothing answered
    Streaming,  // head written, body under way
    Finished,   // the answer is complete
    Aborted,    // the answer ends in an error
    Dropped,    // the Responder was destroyed without an answer
  };

  // What the connection has to send and to know.
  struct Output {
    std::string bytes;
    Phase phase = Phase::Waiting;
    bool keep_alive = false;
    bool chunked = false;     // a chunked body was begun
    bool overflowed = false;  // the client reads too slowly
    bool watched = false;     // somebody wants to know when the client goes
  };

  Exchange(
      EventLoop& loop,
      std::weak_ptr<HttpConnection> connection,
      const ExchangeOptions& options
  );

  // The Responder's side. Any thread; see responder.h.
  void respond(const HttpResponse& response);
  void start_stream(int status, const HttpHeaders& headers);
  bool write(std::string_view bytes);
  void finish();
  void abort();
  void drop();
  void on_disconnect(UniqueFunction<void(DisconnectReason)> callback);
  [[nodiscard]] bool disconnected() const;
  [[nodiscard]] std::size_t unsent_bytes() const;

  // The connection's side. Loop thread. An exchange starts as if its connection had been woken: the
  // connection collects once the handler returned.
  Output collect();
  void sent(std::size_t bytes);
  // The answer will be the connection's last, unless its head is already written.
  void forbid_keep_alive();
  // The connection lets go: nothing wakes it again, and who waits for an unfinished answer's fate
  // is told.
  void detach(DisconnectReason reason);

 private:
  void append_head(int status, const HttpHeaders& headers, const std::string* body);
  void end(Phase phase, UniqueFunction<void(DisconnectReason)>& dropped_callback);
  void wake();

  mutable std::mutex mutex_;  // guards everything below; never held while a callback runs
  EventLoop* loop_;           // null once detached
  std::weak_ptr<HttpConnection> connection_;
  ExchangeOptions options_;
  Phase phase_ = Phase::Waiting;
  bool chunked_ = false;
  bool overflowed_ = false;
  bool wake_pending_ = true;
  DisconnectReason gone_because_ = DisconnectReason::ClientGone;  // written once, by detach()
  std::string unsent_;
  std::size_t in_flight_bytes_ = 0;  // collected, not yet sent
  UniqueFunction<void(DisconnectReason)> on_disconnect_;
};

}  // namespace pleiad::net
