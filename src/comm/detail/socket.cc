#include "comm/detail/socket.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

namespace pleiad::comm {
namespace {

constexpr int kBacklog = 512;
constexpr auto kLook = std::chrono::milliseconds{20};  // between looks at `stopped`

void set_option(const FileHandle& socket, int level, int name, int value) {
  // Options are wishes; a socket without them works.
  ::setsockopt(socket.get(), level, name, &value, sizeof value);
}

}  // namespace

std::string error_text(int number) {
  return std::generic_category().message(number);
}

Result<HostPort> parse_host_port(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  const auto wrong = [&] { return invalid_input("'{}' is not HOST:PORT", address); };
  if (colon == std::string_view::npos) return wrong();
  std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool number =
      !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), digit);
  if (!number || std::stoi(std::string(port)) > 65535) return wrong();
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return invalid_input("'{}': an IPv6 address stands in brackets, as in [::1]:7000", address);
  }
  return HostPort{.host = std::string(host), .port = std::string(port)};
}

std::string SocketAddress::text() const {
  std::array<char, 64> host{};
  if (storage.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &in6.sin6_addr, host.data(), host.size());
    return fmt::format("[{}]:{}", host.data(), port());
  }
  const auto& in4 = reinterpret_cast<const sockaddr_in&>(storage);
  ::inet_ntop(AF_INET, &in4.sin_addr, host.data(), host.size());
  return fmt::format("{}:{}", host.data(), port());
}

std::uint16_t SocketAddress::port() const {
  // The port lies in the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

Result<std::vector<SocketAddress>> resolve(const HostPort& name, bool for_listening) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (for_listening ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const char* host = name.host.empty() ? nullptr : name.host.c_str();
  const int status = ::getaddrinfo(host, name.port.c_str(), &hints, &found);
  if (status != 0) {
    return unavailable("cannot find host '{}': {}", name.host, ::gai_strerror(status));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* next = found; next != nullptr; next = next->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    std::copy_n(
        reinterpret_cast<const char*>(next->ai_addr),
        next->ai_addrlen,
        reinterpret_cast<char*>(&address.storage)
    );
    address.length = next->ai_addrlen;
  }
  return addresses;
}

Result<FileHandle> listen_at(const std::vector<SocketAddress>& addresses) {
  Error why = unavailable("no address to listen at");
  for (const SocketAddress& address : addresses) {
    FileHandle socket(
        ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    );
    if (socket.valid()) {
      set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
      const auto* name = reinterpret_cast<const sockaddr*>(&address.storage);
      const bool bound = ::bind(socket.get(), name, address.length) == 0;
      if (bound && ::listen(socket.get(), kBacklog) == 0) return socket;
    }
    why = unavailable("cannot listen at {}: {}", address.text(), error_text(errno));
  }
  return why;
}

FileHandle accept_from(const FileHandle& listener, SocketAddress& peer) {
  peer.length = sizeof peer.storage;
  auto* name = reinterpret_cast<sockaddr*>(&peer.storage);
  return FileHandle(::accept4(listener.get(), name, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

Result<FileHandle>
connect_to(const SocketAddress& address, Nanoseconds limit, const std::function<bool()>& stopped) {
  FileHandle socket(
      ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  );
  const auto refuse = [&](int number) {
    return unavailable("cannot connect to {}: {}", address.text(), error_text(number));
  };
  if (!socket.valid()) return refuse(errno);
  const auto* name = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::connect(socket.get(), name, address.length) == 0) return socket;
  if (errno != EINPROGRESS) return refuse(errno);
  const SystemClock clock;
  const Nanoseconds end = clock.now() + limit;
  pollfd event{.fd = socket.get(), .events = POLLOUT, .revents = 0};
  while (::poll(&event, 1, static_cast<int>(kLook.count())) <= 0) {
    if (stopped()) return error(ErrorKind::Cancelled, "stopped while connecting");
    if (clock.now() > end) return refuse(ETIMEDOUT);
  }
  int failure = 0;
  socklen_t length = sizeof failure;
  ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &failure, &length);
  if (failure != 0) return refuse(failure);
  return socket;
}

SocketAddress local_address(const FileHandle& socket) {
  SocketAddress address;
  address.length = sizeof address.storage;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  return address;
}

void prepare_connection(const FileHandle& socket, Nanoseconds limit) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(milliseconds));
}

}  // namespace pleiad::comm
