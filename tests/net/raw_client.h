#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace pleiad::net {

// A blocking TCP client that sends exactly the bytes it is given. Reads give up after ten seconds.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port, int receive_buffer_bytes = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer_bytes > 0) set_option(SO_RCVBUF, receive_buffer_bytes);
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    set_option(SO_RCVTIMEO, patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  RawClient(RawClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { close(); }

  [[nodiscard]] bool connected() const { return connected_; }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  // Reads until `mark` has been seen, the end, or an error; what was read is taken.
  std::string read_until(std::string_view mark) {
    while (received_.find(mark) == std::string::npos && receive()) {
    }
    const std::size_t at = received_.find(mark);
    const std::size_t size = at == std::string::npos ? received_.size() : at + mark.size();
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }

  std::string read_bytes(std::size_t size) {
    while (received_.size() < size && receive()) {
    }
    std::string taken = received_.substr(0, size);
    received_.erase(0, taken.size());
    return taken;
  }

  // Everything up to the end of the connection; see reset() and timed_out().
  std::string read_all() {
    while (receive()) {
    }
    return std::exchange(received_, {});
  }

  [[nodiscard]] bool was_reset() const { return error_ == ECONNRESET; }
  [[nodiscard]] bool timed_out() const { return error_ == EAGAIN; }

  void shutdown_sending() { ::shutdown(fd_, SHUT_WR); }

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  // Closes with a reset.
  void reset() {
    set_option(SO_LINGER, linger{.l_onoff = 1, .l_linger = 0});
    close();
  }

 private:
  template <typename Value>
  void set_option(int name, const Value& value) {
    ::setsockopt(fd_, SOL_SOCKET, name, &value, sizeof(value));
  }

  bool receive() {
    char buffer[16384];
    const ssize_t size = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (size < 0) error_ = errno;
    if (size <= 0) return false;
    received_.append(buffer, static_cast<std::size_t>(size));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false;
  int error_ = 0;
  std::string received_;
};

}  // namespace pleiad::net
