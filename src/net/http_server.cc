#include "net/http_server.h"

#include <cerrno>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/log.h"
#include "net/detail/http_connection.h"
#include "net/detail/native_loop.h"

namespace pleiad::net {

namespace {

using asio::ip::tcp;
using boost::system::error_code;

// Connections above the limit that may wait for their 503; more are closed without a word.
constexpr std::size_t kRefusedConnectionsMax = 64;

Error cannot_listen(const HttpServerOptions& options, const error_code& failure) {
  const bool taken = failure == asio::error::address_in_use;
  const std::string_view way_out =
      taken ? "stop the program that uses it, or choose another port (0 picks a free one)"
            : "choose an address of this machine and a port this user may open";
  return unavailable(
      "cannot listen on {} port {}: {}; {}",
      options.address,
      options.port,
      failure.message(),
      way_out
  );
}

std::uint16_t port_of(const tcp::acceptor& acceptor) {
  error_code ignored;
  return acceptor.local_endpoint(ignored).port();
}

Result<tcp::acceptor> open_acceptor(EventLoop& loop, const HttpServerOptions& options) {
  const std::string& name = options.address;
  error_code failure;
  const auto address = asio::ip::make_address(name == "localhost" ? "127.0.0.1" : name, failure);
  if (failure) {
    return invalid_input(
        "the listen address \"{}\" is no IP address; the nearest valid one is 127.0.0.1, or "
        "0.0.0.0 "
        "for every interface",
        name
    );
  }
  const tcp::endpoint endpoint(address, options.port);
  tcp::acceptor acceptor(loop.native().context);
  if (acceptor.open(endpoint.protocol(), failure)) return cannot_listen(options, failure);
  if (acceptor.set_option(tcp::acceptor::reuse_address(true), failure)) {
    return cannot_listen(options, failure);
  }
  if (acceptor.bind(endpoint, failure)) return cannot_listen(options, failure);
  if (acceptor.listen(tcp::acceptor::max_listen_connections, failure)) {
    return cannot_listen(options, failure);
  }
  return acceptor;
}

}  // namespace

struct HttpServer::State {
  State(EventLoop& loop, HttpServerOptions options, HttpHandler handler, tcp::acceptor listener)
      : pool(loop, std::move(options), std::move(handler)),
        acceptor(std::move(listener)),
        port(port_of(acceptor)) {}

  void accept();
  void on_accept(const error_code& failure, tcp::socket socket);
  void close_listener();

  ConnectionPool pool;
  tcp::acceptor acceptor;
  std::uint16_t port;
  Timer accept_retry;
  // Owners: this state, and the pending accept, which looks whether the state is still there.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

void HttpServer::State::accept() {
  acceptor.async_accept([this, alive = alive](const error_code& failure, tcp::socket socket) {
    if (*alive && acceptor.is_open()) on_accept(failure, std::move(socket));
  });
}

void HttpServer::State::on_accept(const error_code& failure, tcp::socket socket) {
  if (failure) {
    // Mostly EMFILE: the connection stays in the backlog until a file descriptor is free.
    PLEIAD_LOG(Warning, "cannot accept a connection: {}", failure.message());
    accept_retry = pool.loop.after(pool.options.accept_retry, [this] { accept(); });
    return;
  }
  const std::size_t open = pool.connections.size();
  if (open < pool.options.connections_max + kRefusedConnectionsMax) {
    // Owners: the pool, and the connection's pending operations.
    auto connection = std::make_shared<HttpConnection>(pool, std::move(socket));
    pool.connections.insert(connection);
    pool.connection_count = open + 1;
    if (open < pool.options.connections_max) {
      connection->start();
    } else {
      connection->start_refused();
    }
  }
  accept();
}

void HttpServer::State::close_listener() {
  error_code ignored;
  acceptor.close(ignored);
  accept_retry.cancel();
  pool.draining = true;
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  close_all();
  *state_->alive = false;
}

Result<std::unique_ptr<HttpServer>>
HttpServer::listen(EventLoop& loop, HttpServerOptions options, HttpHandler handler) {
  PLEIAD_TRY(acceptor, open_acceptor(loop, options));
  auto state =
      std::make_unique<State>(loop, std::move(options), std::move(handler), std::move(acceptor));
  state->accept();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

std::uint16_t HttpServer::port() const {
  return state_->port;
}

void HttpServer::close_listener(Task on_drained) {
  state_->close_listener();
  state_->pool.on_drained = std::move(on_drained);
  const auto connections = state_->pool.connections;
  for (const auto& connection : connections) {
    connection->drain();
  }
  if (state_->pool.connections.empty() && state_->pool.on_drained) {
    state_->pool.loop.post(std::exchange(state_->pool.on_drained, nullptr));
  }
}

void HttpServer::close_all() {
  state_->close_listener();
  state_->pool.close_all();
}

std::size_t HttpServer::connections() const {
  return state_->pool.connection_count;
}

std::size_t HttpServer::open_requests() const {
  return state_->pool.open_requests;
}

}  // namespace pleiad::net
