#include "comm/detail/socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::comm {
namespace {

using testing::HasSubstr;

bool never() {
  return false;
}

TEST(HostPort, TakesNamesAndBothKindsOfAddresses) {
  EXPECT_EQ(parse_host_port("node-0.cluster:7000")->host, "node-0.cluster");
  EXPECT_EQ(parse_host_port("10.0.0.1:0")->port, "0");
  EXPECT_EQ(parse_host_port("[::1]:65535")->host, "::1");
  EXPECT_EQ(parse_host_port(":7000")->host, "");
}

TEST(HostPort, RefusesWhatIsNone) {
  for (const char* wrong :
       {"", "host", "host:", "host:x", "host:65536", "host:-1", "host:123456"}) {
    EXPECT_THAT(parse_host_port(wrong).error().message, HasSubstr("HOST:PORT")) << wrong;
  }
  EXPECT_THAT(parse_host_port("::1:7000").error().message, HasSubstr("brackets"));
}

TEST(Socket, ConnectsOverBothFamiliesAndByName) {
  for (const char* host : {"127.0.0.1", "::1", "localhost"}) {
    const auto addresses = resolve({.host = host, .port = "0"}, true);
    ASSERT_TRUE(addresses.ok()) << host;
    const auto listener = listen_at(*addresses);
    if (!listener.ok() && std::string_view(host) == "::1") continue;  // no IPv6 here
    ASSERT_TRUE(listener.ok()) << listener.error().message;

    const SocketAddress address = local_address(*listener);
    const auto socket = connect_to(address, std::chrono::seconds{5}, never);
    ASSERT_TRUE(socket.ok()) << socket.error().message;
    SocketAddress peer;
    EXPECT_TRUE(accept_from(*listener, peer).valid());
    EXPECT_EQ(peer.text(), local_address(*socket).text());
    EXPECT_FALSE(accept_from(*listener, peer).valid());
  }
}

TEST(Socket, SaysWhyItCannotConnect) {
  auto listener = listen_at(*resolve({.host = "127.0.0.1", .port = "0"}, true));
  const SocketAddress address = local_address(*listener);
  *listener = FileHandle();
  { const FileHandle closed = std::move(*listener); }

  const auto socket = connect_to(address, std::chrono::seconds{5}, never);

  ASSERT_FALSE(socket.ok());
  EXPECT_EQ(socket.error().kind, ErrorKind::Unavailable);
  EXPECT_THAT(socket.error().message, HasSubstr(address.text()));
}

TEST(Socket, SaysWhyItCannotListen) {
  const auto listener = listen_at(*resolve({.host = "127.0.0.1", .port = "0"}, true));
  const auto second = listen_at({local_address(*listener)});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("127.0.0.1"));
  EXPECT_FALSE(resolve({.host = "no such host", .port = "1"}, false).ok());
}

}  // namespace
}  // namespace pleiad::comm
