#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_set>

#include <boost/asio/ip/tcp.hpp>

#include "net/detail/deadline.h"
#include "net/detail/exchange.h"
#include "net/detail/native_loop.h"
#include "net/detail/request_reader.h"
#include "net/http_server.h"

namespace pleiad::net {

// What the connections of one server share. Loop thread; the counts from any thread.
struct ConnectionPool {
  ConnectionPool(
      EventLoop& event_loop,
      HttpServerOptions server_options,
      HttpHandler server_handler
  );
  // Forgets `connection`; runs on_drained behind the last one.
  void remove(const std::shared_ptr<HttpConnection>& connection);
  void close_all();

  EventLoop& loop;
  HttpServerOptions options;
  HttpHandler handler;
  // Owners of a connection: this set while it is open, and its pending operations.
  std::unordered_set<std::shared_ptr<HttpConnection>> connections;
  std::array<char, 64U << 10U> read_buffer{};  // one read at a time uses it
  bool draining = false;
  Task on_drained;
  std::atomic<std::size_t> connection_count{0};
  std::atomic<std::size_t> open_requests{0};
};

// One client's connection: reads requests, hands them out one by one, sends the answers. It keeps
// reading while a request is answered, so that it sees the client go. Loop thread. Once closed it
// touches the pool no more.
class HttpConnection final : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(ConnectionPool& pool, asio::ip::tcp::socket socket);

  void start();
  // Answers 503 to whatever comes, and closes.
  void start_refused();
  // Closes when idle; otherwise the request under way is the last one.
  void drain();
  void close(DisconnectReason reason);
  void collect();

 private:
  enum class State {
    Reading,    // waiting for a request, or its rest
    Answering,  // a request is handed out
    Lingering,  // the last answer is written: waiting for the client to hang up
    Closed,
  };
  enum class Stage { Idle, Head, Body };

  void pump();
  bool advance();
  void begin_request();
  void refuse(int status, const std::string& message);
  void send_continue();
  void enter(Stage stage);

  void wait_readable();
  void on_readable();
  void take_bytes(std::string_view bytes);
  void on_end_of_input();

  void enqueue(std::string bytes);
  void flush();
  void wait_writable();
  void end_request();
  void linger();
  void reset_on_close();

  void on_deadline();

  ConnectionPool& pool_;
  asio::ip::tcp::socket socket_;
  Deadline deadline_;
  std::string peer_;
  RequestReader reader_;
  State state_ = State::Reading;
  Stage stage_ = Stage::Idle;
  std::shared_ptr<Exchange> exchange_;  // owners: this connection, and the request's Responder
  Exchange::Output ending_;             // how the answer under way stands
  std::string outgoing_;
  std::size_t outgoing_sent_ = 0;
  std::size_t requests_ = 0;
  std::size_t lingered_bytes_ = 0;
  bool pumping_ = false;
  bool reading_ = false;  // a wait for input is pending
  bool writing_ = false;  // a wait for room is pending
  bool input_ended_ = false;
  bool last_answer_ = false;  // linger behind what is outgoing
};

}  // namespace pleiad::net
