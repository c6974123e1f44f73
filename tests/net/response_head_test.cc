#include "net/detail/response_head.h"

#include <string>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

TEST(ResponseHead, WritesDates) {
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(http_date(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
}

TEST(ResponseHead, WritesFramingOfItsOwn) {
  std::string fixed;
  std::string chunked;
  std::string empty;

  append_response_head(200, {{"A", "b"}, {"content-length", "9"}}, {.content_length = 3}, fixed);
  append_response_head(429, {}, {.keep_alive = false, .chunked = true}, chunked);
  append_response_head(204, {}, {.minor_version = 0, .content_length = 0}, empty);

  const std::string date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
  EXPECT_EQ(fixed, "HTTP/1.1 200 OK\r\nA: b\r\n" + date + "Content-Length: 3\r\n\r\n");
  EXPECT_EQ(
      chunked,
      "HTTP/1.1 429 Too Many Requests\r\n" + date +
          "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
  );
  EXPECT_EQ(empty, "HTTP/1.1 204 No Content\r\n" + date + "Connection: keep-alive\r\n\r\n");
}

TEST(ResponseHead, DropsHeadersThatWouldBreakIt) {
  std::string out;

  append_response_head(200, {{"X", "a\r\nEvil: 1"}, {"", "b"}, {"a b", "c"}}, {}, out);

  EXPECT_EQ(out, "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n");
}

TEST(ResponseHead, WritesChunks) {
  std::string out;

  append_chunk(std::string(26, 'x'), out);

  EXPECT_EQ(out, "1a\r\n" + std::string(26, 'x') + "\r\n");
}

}  // namespace
}  // namespace pleiad::net
