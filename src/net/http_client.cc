#include "net/http_client.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

#include "net/detail/deadline.h"
#include "net/detail/native_loop.h"
#include "net/detail/response_reader.h"

namespace pleiad::net {

using asio::ip::tcp;
using boost::system::error_code;

// A connection between two requests. It keeps a read pending, so that it notices when the server
// closes.
struct IdleConnection {
  explicit IdleConnection(tcp::socket kept) : socket(std::move(kept)) {}
  tcp::socket socket;
  bool taken = false;
};

// What the calls of one client share. Loop thread.
struct ClientPool : std::enable_shared_from_this<ClientPool> {
  ClientPool(EventLoop& event_loop, const HttpClientOptions& client_options)
      : loop(event_loop), options(client_options) {}

  std::optional<tcp::socket> take(const std::string& server);
  void keep(const std::string& server, tcp::socket socket);
  void forget(const std::string& server, const std::shared_ptr<IdleConnection>& connection);

  EventLoop& loop;
  HttpClientOptions options;
  bool closed = false;
  // By host:port. Owners of a connection: this map, and its pending read.
  std::map<std::string, std::vector<std::shared_ptr<IdleConnection>>> idle;
  std::array<char, 64U << 10U> read_buffer{};  // one read at a time uses it
};

std::optional<tcp::socket> ClientPool::take(const std::string& server) {
  const auto found = idle.find(server);
  if (found == idle.end() || found->second.empty()) return std::nullopt;
  const auto connection = std::move(found->second.back());
  found->second.pop_back();
  connection->taken = true;
  error_code ignored;
  connection->socket.cancel(ignored);
  return std::move(connection->socket);
}

void ClientPool::keep(const std::string& server, tcp::socket socket) {
  auto& connections = idle[server];
  if (closed || connections.size() >= options.idle_connections_max) return;
  connections.push_back(std::make_shared<IdleConnection>(std::move(socket)));
  connections.back()->socket.async_wait(
      tcp::socket::wait_read,
      [pool = weak_from_this(), connection = connections.back(), server](const error_code&) {
        const auto alive = pool.lock();
        if (alive && !connection->taken) alive->forget(server, connection);
      }
  );
}

void ClientPool::forget(
    const std::string& server,
    const std::shared_ptr<IdleConnection>& connection
) {
  std::erase(idle[server], connection);
  error_code ignored;
  connection->socket.close(ignored);
}

// One request: look up, connect (or take a kept connection), write and read at the same time. Loop
// thread.
class ClientCall final : public std::enable_shared_from_this<ClientCall> {
 public:
  ClientCall(std::shared_ptr<ClientPool> pool, HttpClientRequest request, HttpClientEvents events);
  void start();
  void cancel();

 private:
  void resolve();
  void connect(const std::vector<tcp::endpoint>& endpoints);
  void exchange(tcp::socket socket, bool kept);
  void write();
  void wait_readable();
  void on_readable();
  void deliver();
  void complete();
  void fail(Error failure);
  void finish(Result<void> result);
  void on_deadline();

  std::shared_ptr<ClientPool> pool_;  // owners: the client, and its calls
  HttpClientRequest request_;
  HttpClientEvents events_;
  std::string server_;  // host:port
  tcp::resolver resolver_;
  tcp::socket socket_;
  ResponseReader reader_;
  std::string outgoing_;
  bool kept_ = false;  // the connection carried another request before
  bool written_ = false;
  bool done_ = false;
  Deadline deadline_;
  std::string_view waits_for_ = "a connection";
};

namespace {

std::string request_text(const HttpClientRequest& request) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: ", request.method, request.url.target);
  text.append(host_and_port(request.url)).append("\r\n");
  for (const HttpHeader& header : request.headers) {
    constexpr std::array<std::string_view, 4> kOwn = {
        "host", "content-length", "transfer-encoding", "connection"};
    const bool own = std::any_of(kOwn.begin(), kOwn.end(), [&header](std::string_view name) {
      return equals_ignoring_case(header.name, name);
    });
    if (!own) text.append(header.name).append(": ").append(header.value).append("\r\n");
  }
  const bool has_length =
      !request.body.empty() || request.method == "POST" || request.method == "PUT";
  if (has_length) {
    fmt::format_to(std::back_inserter(text), "Content-Length: {}\r\n", request.body.size());
  }
  return text.append("\r\n").append(request.body);
}

// What would break the request's head, if anything.
std::optional<Error> check_request(const HttpClientRequest& request) {
  const bool head_ok = is_token(request.method) && !request.url.host.empty() &&
                       request.url.target.find_first_of(" \r\n") == std::string::npos;
  if (!head_ok) return invalid_input("the method, host or target of the request is malformed");
  for (const HttpHeader& header : request.headers) {
    const bool fits = is_token(header.name) && is_header_value(header.value);
    if (!fits) return invalid_input("a header of the request is malformed");
  }
  return std::nullopt;
}

}  // namespace

ClientCall::ClientCall(
    std::shared_ptr<ClientPool> pool,
    HttpClientRequest request,
    HttpClientEvents events
)
    : pool_(std::move(pool)),
      request_(std::move(request)),
      events_(std::move(events)),
      server_(host_and_port(request_.url)),
      resolver_(pool_->loop.native().context),
      socket_(pool_->loop.native().context),
      reader_(request_.method, pool_->options.head, pool_->options.body_bytes_max),
      deadline_(pool_->loop, [this] { on_deadline(); }) {}

void ClientCall::start() {
  if (done_) return;
  deadline_.belong_to(weak_from_this());
  if (auto malformed = check_request(request_)) {
    fail(std::move(*malformed));
    return;
  }
  outgoing_ = request_text(request_);
  if (auto kept = pool_->take(server_)) {
    exchange(std::move(*kept), true);
  } else {
    resolve();
  }
}

void ClientCall::cancel() {
  if (std::exchange(done_, true)) return;
  error_code ignored;
  socket_.close(ignored);
  resolver_.cancel();
  deadline_.clear();
  // Not destroyed here: the caller may be one of them.
  pool_->loop.post([self = shared_from_this()] { self->events_ = {}; });
}

void ClientCall::resolve() {
  waits_for_ = "a connection";
  deadline_.set(pool_->options.connect_timeout);
  error_code not_an_address;
  const auto address = asio::ip::make_address(request_.url.host, not_an_address);
  if (!not_an_address) {
    connect({tcp::endpoint(address, request_.url.port)});
    return;
  }
  resolver_.async_resolve(
      request_.url.host,
      std::to_string(request_.url.port),
      [self = shared_from_this(
       )](const error_code& failure, const tcp::resolver::results_type& found) {
        if (self->done_) return;
        if (failure) {
          self->fail(
              unavailable("cannot look up {}: {}", self->request_.url.host, failure.message())
          );
          return;
        }
        std::vector<tcp::endpoint> endpoints;
        for (const auto& entry : found) {
          endpoints.push_back(entry.endpoint());
        }
        self->connect(endpoints);
      }
  );
}

void ClientCall::connect(const std::vector<tcp::endpoint>& endpoints) {
  asio::async_connect(
      socket_,
      endpoints,
      [self = shared_from_this()](const error_code& failure, const tcp::endpoint&) {
        if (self->done_) return;
        if (failure) {
          self->fail(unavailable("cannot connect to {}: {}", self->server_, failure.message()));
          return;
        }
        self->exchange(std::move(self->socket_), false);
      }
  );
}

void ClientCall::exchange(tcp::socket socket, bool kept) {
  socket_ = std::move(socket);
  kept_ = kept;
  error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(tcp::no_delay(true), ignored);
  waits_for_ = "the head of the answer";
  deadline_.set(pool_->options.head_timeout);
  write();
  wait_readable();
  if (events_.on_connected) events_.on_connected();
}

// A failure to write is no failure yet: the server may have answered early, as with 413.
void ClientCall::write() {
  asio::async_write(
      socket_,
      asio::buffer(outgoing_),
      [self = shared_from_this()](const error_code& failure, std::size_t) {
        self->written_ = !failure;
      }
  );
}

void ClientCall::wait_readable() {
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const error_code&) {
    if (!self->done_) self->on_readable();
  });
}

void ClientCall::on_readable() {
  error_code failure;
  const std::size_t size = socket_.receive(asio::buffer(pool_->read_buffer), 0, failure);
  if (failure == asio::error::would_block) {
    wait_readable();
    return;
  }
  const bool may_retry =
      kept_ && !reader_.started() &&
      (request_.replayable || request_.method == "GET" || request_.method == "HEAD");
  if (failure && may_retry) {
    socket_.close(failure);
    kept_ = false;
    resolve();
    return;
  }
  if (failure == asio::error::eof) {
    reader_.append_end();
  } else if (failure) {
    fail(unavailable("the connection to {} failed: {}", server_, failure.message()));
    return;
  } else {
    reader_.append({pool_->read_buffer.data(), size});
  }
  deliver();
}

// Hands out what arrived. Every event may cancel the call.
void ClientCall::deliver() {
  while (!done_) {
    const ResponseReader::Step step = reader_.next();
    switch (step.status) {
      case ResponseReader::Status::NeedMore:
        wait_readable();
        return;
      case ResponseReader::Status::Head:
        waits_for_ = "more of the answer";
        deadline_.set(pool_->options.idle_timeout);
        if (events_.on_head) events_.on_head(reader_.head());
        break;
      case ResponseReader::Status::Payload:
        deadline_.set(pool_->options.idle_timeout);
        if (events_.on_body) events_.on_body(step.payload);
        break;
      case ResponseReader::Status::End:
        complete();
        return;
      case ResponseReader::Status::Refused: {
        const bool cut = reader_.refusal_is_cut();
        fail(error(
            cut ? ErrorKind::Unavailable : ErrorKind::Corrupt,
            "the answer of {}: {}",
            server_,
            reader_.refusal().message
        ));
        return;
      }
    }
  }
}

void ClientCall::complete() {
  const bool keep = reader_.head().keep_alive && written_ && !reader_.has_leftover();
  if (keep) pool_->keep(server_, std::move(socket_));
  finish({});
}

void ClientCall::fail(Error failure) {
  finish(std::move(failure));
}

void ClientCall::finish(Result<void> result) {
  done_ = true;
  deadline_.clear();
  error_code ignored;
  socket_.close(ignored);
  const auto self = shared_from_this();
  if (events_.on_end) events_.on_end(std::move(result));
  events_ = {};  // they may own the handle that owns this call
}

void ClientCall::on_deadline() {
  resolver_.cancel();
  fail(error(ErrorKind::Timeout, "{} did not give {} in time", server_, waits_for_));
}

HttpCall::HttpCall(std::shared_ptr<ClientCall> call) : call_(std::move(call)) {}

HttpCall& HttpCall::operator=(HttpCall&& other) noexcept {
  if (this != &other) {
    cancel();
    call_ = std::move(other.call_);
  }
  return *this;
}

HttpCall::~HttpCall() {
  cancel();
}

void HttpCall::cancel() {
  if (const auto call = std::exchange(call_, nullptr)) call->cancel();
}

HttpClient::HttpClient(EventLoop& loop, const HttpClientOptions& options)
    : pool_(std::make_shared<ClientPool>(loop, options)) {}

HttpClient::~HttpClient() {
  pool_->closed = true;
  for (auto& [server, connections] : std::exchange(pool_->idle, {})) {
    for (const auto& connection : connections) {
      connection->taken = true;
      error_code ignored;
      connection->socket.close(ignored);
    }
  }
}

HttpCall HttpClient::send(HttpClientRequest request, HttpClientEvents events) {
  auto call = std::make_shared<ClientCall>(pool_, std::move(request), std::move(events));
  pool_->loop.post([call] { call->start(); });
  return HttpCall(std::move(call));
}

std::size_t HttpClient::idle_connections() const {
  std::size_t count = 0;
  for (const auto& entry : pool_->idle) {
    count += entry.second.size();
  }
  return count;
}

Result<HttpResponse> http_fetch(HttpClientRequest request, const HttpClientOptions& options) {
  EventLoop loop;
  HttpClient client(loop, options);
  HttpResponse response;
  Result<void> outcome;
  const HttpCall call = client.send(
      std::move(request),
      {
          .on_head =
              [&response](const HttpResponseHead& head) {
                response.status = head.status;
                response.headers = head.headers;
              },
          .on_body = [&response](std::string_view bytes) { response.body.append(bytes); },
          .on_end =
              [&outcome, &loop](Result<void> result) {
                outcome = std::move(result);
                loop.stop();
              },
      }
  );
  loop.run();
  PLEIAD_TRY(std::move(outcome));
  return response;
}

}  // namespace pleiad::net
