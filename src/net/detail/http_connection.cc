#include "net/detail/http_connection.h"

#include <algorithm>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

#include "net/detail/response_head.h"

namespace pleiad::net {

namespace {

using boost::system::error_code;

constexpr std::size_t kOutgoingKeepBytes = 64U << 10U;

std::string peer_name(const asio::ip::tcp::socket& socket) {
  error_code failure;
  const auto endpoint = socket.remote_endpoint(failure);
  if (failure) return {};
  const std::string address = endpoint.address().to_string(failure);
  const std::string host = endpoint.address().is_v6() ? "[" + address + "]" : address;
  return fmt::format("{}:{}", host, endpoint.port());
}

}  // namespace

ConnectionPool::ConnectionPool(
    EventLoop& event_loop,
    HttpServerOptions server_options,
    HttpHandler server_handler
)
    : loop(event_loop), options(std::move(server_options)), handler(std::move(server_handler)) {}

void ConnectionPool::remove(const std::shared_ptr<HttpConnection>& connection) {
  connections.erase(connection);
  connection_count = connections.size();
  if (connections.empty() && on_drained) loop.post(std::exchange(on_drained, nullptr));
}

void ConnectionPool::close_all() {
  while (!connections.empty()) {
    (*connections.begin())->close(DisconnectReason::ServerClosed);
  }
}

void collect_exchange(const std::weak_ptr<HttpConnection>& connection) {
  if (const auto alive = connection.lock()) alive->collect();
}

HttpConnection::HttpConnection(ConnectionPool& pool, asio::ip::tcp::socket socket)
    : pool_(pool),
      socket_(std::move(socket)),
      deadline_(pool.loop, [this] { on_deadline(); }),
      peer_(peer_name(socket_)),
      reader_(pool.options.head, pool.options.body_bytes_max) {
  error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
}

void HttpConnection::start() {
  deadline_.belong_to(weak_from_this());
  deadline_.set(pool_.options.head_timeout);
  wait_readable();
}

void HttpConnection::start_refused() {
  deadline_.belong_to(weak_from_this());
  refuse(503, "too many connections; try again soon");
  wait_readable();
}

void HttpConnection::drain() {
  if (state_ == State::Answering && exchange_) exchange_->forbid_keep_alive();
  const bool idle = state_ == State::Reading && stage_ == Stage::Idle && outgoing_.empty();
  if (idle) close(DisconnectReason::ServerClosed);
}

void HttpConnection::close(DisconnectReason reason) {
  if (state_ == State::Closed) return;
  const auto self = shared_from_this();
  state_ = State::Closed;
  error_code ignored;
  socket_.close(ignored);
  deadline_.clear();
  if (const auto exchange = std::exchange(exchange_, nullptr)) {
    --pool_.open_requests;
    exchange->detach(reason);
  }
  pool_.remove(self);
}

// ---- requests in

// Hands out requests as long as whole ones are there and the answers before them are sent. A loop,
// not a recursion: a handler that answers at once must not deepen the stack.
void HttpConnection::pump() {
  if (pumping_) return;
  pumping_ = true;
  bool more = true;
  while (more && state_ == State::Reading && outgoing_.empty()) {
    more = advance();
  }
  pumping_ = false;
  wait_readable();
}

// False when nothing can be handed out before more bytes arrive.
bool HttpConnection::advance() {
  switch (reader_.advance()) {
    case RequestReader::Status::Refused:
      refuse(reader_.refusal().status, reader_.refusal().message);
      return false;
    case RequestReader::Status::Ready:
      begin_request();
      return true;
    case RequestReader::Status::NeedHead:
      if (reader_.buffered_bytes() > 0) enter(Stage::Head);
      break;
    case RequestReader::Status::NeedBody:
      enter(Stage::Body);
      break;
  }
  const bool hopeless = input_ended_ || (pool_.draining && stage_ == Stage::Idle);
  if (hopeless) close(DisconnectReason::ClientGone);
  return false;
}

// Each stage of reading has one deadline, counted from its first byte.
void HttpConnection::enter(Stage stage) {
  if (stage == stage_) return;
  stage_ = stage;
  deadline_.set(stage == Stage::Body ? pool_.options.body_timeout : pool_.options.head_timeout);
  if (stage == Stage::Body) send_continue();
}

void HttpConnection::send_continue() {
  const bool waits = reader_.head().expects_continue && reader_.buffered_bytes() == 0;
  if (!waits) return;
  enqueue("HTTP/1.1 100 Continue\r\n\r\n");
  flush();
}

void HttpConnection::begin_request() {
  state_ = State::Answering;
  deadline_.clear();
  ++requests_;
  ++pool_.open_requests;
  const RequestReader& reader = reader_;
  const bool may_go_on = !pool_.draining && requests_ < pool_.options.requests_per_connection_max;
  // Owners: this connection, and the Responder.
  exchange_ = std::make_shared<Exchange>(
      pool_.loop,
      weak_from_this(),
      ExchangeOptions{
          .minor_version = reader.head().minor_version,
          .head_request = reader.head().method == "HEAD",
          .keep_alive = reader.head().keep_alive && may_go_on,
          .unsent_bytes_max = pool_.options.unsent_bytes_max,
      }
  );
  HttpRequest request = reader_.take();
  request.peer = peer_;
  pool_.handler(std::move(request), std::make_unique<Responder>(exchange_));
  collect();
}

// Answers for the handler, which never sees the request; then the connection ends.
void HttpConnection::refuse(int status, const std::string& message) {
  state_ = State::Lingering;
  last_answer_ = true;
  const std::string body = pool_.options.format_error(status, message);
  HttpHeaders headers{{"Content-Type", pool_.options.error_content_type}};
  if (status == 503) headers.add("Retry-After", std::to_string(pool_.options.retry_after_seconds));
  std::string answer;
  const ResponseFraming framing{
      .keep_alive = false,
      .content_length = body.size(),
      .unix_seconds = SystemClock().unix_seconds(),
  };
  append_response_head(status, headers, framing, answer);
  answer.append(body);
  enqueue(std::move(answer));
  flush();
}

// ---- bytes in

void HttpConnection::wait_readable() {
  if (state_ == State::Closed || reading_ || input_ended_) return;
  const bool read_far_ahead =
      state_ == State::Answering && reader_.buffered_bytes() >= pool_.options.pipeline_bytes_max;
  if (read_far_ahead) return;
  reading_ = true;
  socket_.async_wait(
      asio::ip::tcp::socket::wait_read,
      [self = shared_from_this()](const error_code&) {
        self->reading_ = false;
        self->on_readable();
      }
  );
}

void HttpConnection::on_readable() {
  if (state_ == State::Closed) return;
  error_code failure;
  const std::size_t size = socket_.receive(asio::buffer(pool_.read_buffer), 0, failure);
  if (failure == asio::error::would_block) {
    wait_readable();
  } else if (failure == asio::error::eof) {
    on_end_of_input();
  } else if (failure) {
    close(DisconnectReason::ClientGone);
  } else {
    take_bytes({pool_.read_buffer.data(), size});
  }
}

void HttpConnection::take_bytes(std::string_view bytes) {
  if (state_ == State::Lingering) {
    lingered_bytes_ += bytes.size();
    const bool enough = lingered_bytes_ > pool_.options.linger_bytes_max;
    if (enough && outgoing_.empty()) {
      close(DisconnectReason::ClientGone);
      return;
    }
    wait_readable();
    return;
  }
  reader_.append(bytes);
  if (state_ == State::Reading) {
    pump();
  } else {
    wait_readable();
  }
}

void HttpConnection::on_end_of_input() {
  input_ended_ = true;
  switch (state_) {
    case State::Reading:
      pump();
      break;
    case State::Answering:
      collect();
      break;
    case State::Lingering:
      if (outgoing_.empty()) close(DisconnectReason::ClientGone);
      break;
    case State::Closed:
      break;
  }
}

// ---- bytes out

void HttpConnection::collect() {
  if (state_ != State::Answering || !exchange_) return;
  Exchange::Output output = exchange_->collect();
  if (output.phase == Exchange::Phase::Dropped) {
    exchange_->respond(
        {.status = 500,
         .headers = {{"Content-Type", pool_.options.error_content_type}},
         .body = pool_.options.format_error(500, "the request was dropped inside the server")}
    );
    output = exchange_->collect();
  }
  const bool client_gone = input_ended_ && output.watched;
  if (client_gone || output.overflowed) {
    if (output.overflowed) reset_on_close();
    close(output.overflowed ? DisconnectReason::SlowReader : DisconnectReason::ClientGone);
    return;
  }
  enqueue(std::exchange(output.bytes, {}));
  ending_ = std::move(output);
  flush();
}

void HttpConnection::enqueue(std::string bytes) {
  if (outgoing_.empty()) {
    outgoing_ = std::move(bytes);
  } else {
    outgoing_.append(bytes);
  }
}

void HttpConnection::flush() {
  if (writing_) return;
  while (outgoing_sent_ < outgoing_.size()) {
    error_code failure;
    const std::size_t size = socket_.send(
        asio::buffer(outgoing_.data() + outgoing_sent_, outgoing_.size() - outgoing_sent_),
        0,
        failure
    );
    if (failure == asio::error::would_block) {
      wait_writable();
      return;
    }
    if (failure) {
      close(DisconnectReason::ClientGone);
      return;
    }
    outgoing_sent_ += size;
    if (exchange_) exchange_->sent(size);
  }
  outgoing_.clear();
  outgoing_sent_ = 0;
  if (outgoing_.capacity() > kOutgoingKeepBytes) outgoing_ = {};
  if (last_answer_) {
    linger();
  } else if (state_ == State::Answering) {
    end_request();
  }
}

void HttpConnection::wait_writable() {
  writing_ = true;
  deadline_.set(pool_.options.write_timeout);
  socket_.async_wait(
      asio::ip::tcp::socket::wait_write,
      [self = shared_from_this()](const error_code&) {
        self->writing_ = false;
        if (self->state_ == State::Closed) return;
        self->flush();
        if (self->state_ == State::Reading) self->pump();
      }
  );
}

// Everything written so far is sent: goes on to the next request if the answer is complete.
void HttpConnection::end_request() {
  deadline_.clear();
  const bool aborted = ending_.phase == Exchange::Phase::Aborted;
  if (!aborted && ending_.phase != Exchange::Phase::Finished) return;
  --pool_.open_requests;
  std::exchange(exchange_, nullptr)->detach(DisconnectReason::ClientGone);
  if (aborted && !ending_.chunked) {
    // Without chunks a plain end would look like the end of the body.
    reset_on_close();
    close(DisconnectReason::ServerClosed);
    return;
  }
  if (aborted || !ending_.keep_alive) {
    linger();
    return;
  }
  state_ = State::Reading;
  stage_ = Stage::Idle;
  deadline_.set(pool_.options.keep_alive_timeout);
  pump();
}

// Closing with unread input would reset the connection and could cost the client the answer, so the
// rest of its input is read and dropped for a while.
void HttpConnection::linger() {
  state_ = State::Lingering;
  if (input_ended_) {
    close(DisconnectReason::ClientGone);
    return;
  }
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  deadline_.set(pool_.options.linger_timeout);
  wait_readable();
}

void HttpConnection::reset_on_close() {
  error_code ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
}

void HttpConnection::on_deadline() {
  if (writing_) {
    reset_on_close();
    close(DisconnectReason::SlowReader);
    return;
  }
  const bool half_a_request = state_ == State::Reading && stage_ != Stage::Idle;
  if (half_a_request) {
    refuse(408, "the request took too long to arrive");
  } else {
    close(DisconnectReason::ClientGone);
  }
}

}  // namespace pleiad::net
