#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/socket.h>

#include "base/clock.h"
#include "base/result.h"
#include "comm/detail/file_handle.h"

namespace pleiad::comm {

// "host:port", "[::1]:port".
struct HostPort {
  std::string host;
  std::string port;
};

Result<HostPort> parse_host_port(std::string_view address);

// An address of a socket, as the system has it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] std::string text() const;  // "10.0.0.2:41022", "[::1]:7"
  [[nodiscard]] std::uint16_t port() const;
};

// All addresses of a name. Blocks as long as the system's resolver does. `for_listening`: an empty
// host means every interface.
Result<std::vector<SocketAddress>> resolve(const HostPort& name, bool for_listening);

// A socket that listens at the first of `addresses` that can be had.
Result<FileHandle> listen_at(const std::vector<SocketAddress>& addresses);
// The next waiting connection, ready for use; an invalid handle when there is none.
FileHandle accept_from(const FileHandle& listener, SocketAddress& peer);
// Connects within `limit`; looks at `stopped` some times a second.
Result<FileHandle>
connect_to(const SocketAddress& address, Nanoseconds limit, const std::function<bool()>& stopped);
SocketAddress local_address(const FileHandle& socket);

// Non-blocking, without delay for small messages; what stays unacknowledged for longer than
// `limit` cuts the connection.
void prepare_connection(const FileHandle& socket, Nanoseconds limit);

// The system's words for errno value `number`.
std::string error_text(int number);

}  // namespace pleiad::comm
