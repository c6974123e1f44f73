#include "net/detail/response_reader.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using Status = ResponseReader::Status;

// What a reader makes of `bytes` in pieces, followed by the end of the connection if `ends`: the
// status, the body, and "." for the end or "!" for a refusal.
std::string read(std::string_view bytes, std::size_t piece, bool ends, std::string method = "GET") {
  ResponseReader reader(std::move(method), {}, 20);
  std::string seen;
  std::size_t at = 0;
  while (true) {
    const ResponseReader::Step step = reader.next();
    switch (step.status) {
      case Status::Head:
        seen += std::to_string(reader.head().status) + " ";
        continue;
      case Status::Payload:
        seen += step.payload;
        continue;
      case Status::End:
        return seen + ".";
      case Status::Refused:
        return seen + "!";
      case Status::NeedMore:
        break;
    }
    if (at >= bytes.size()) {
      if (!ends) return seen;
      reader.append_end();
      ends = false;
      continue;
    }
    reader.append(bytes.substr(at, piece));
    at += piece;
  }
}

TEST(ResponseReader, ReadsEveryFramingHoweverItIsCut) {
  const std::string head = "HTTP/1.1 200 OK\r\n";
  for (std::size_t piece = 1; piece < 80; ++piece) {
    EXPECT_EQ(read(head + "Content-Length: 5\r\n\r\nhello", piece, false), "200 hello.");
    EXPECT_EQ(read(head + "Content-Length: 0\r\n\r\n", piece, false), "200 .");
    EXPECT_EQ(
        read(
            head + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            piece,
            false
        ),
        "200 hello."
    );
    EXPECT_EQ(read(head + "\r\nhello", piece, true), "200 hello.");
    EXPECT_EQ(read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\n\r\n", piece, false), "204 .");
    EXPECT_EQ(read(head + "Content-Length: 5\r\n\r\n", piece, false, "HEAD"), "200 .");
  }
}

TEST(ResponseReader, RefusesWhatIsCutShort) {
  EXPECT_EQ(read("", 1, true), "!");
  EXPECT_EQ(read("HTTP/1.1 200 OK\r\n", 100, true), "!");
  EXPECT_EQ(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 100, true), "200 hel!");
  EXPECT_EQ(
      read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", 100, true),
      "200 hel!"
  );
}

TEST(ResponseReader, RefusesWhatIsTooLargeOrNoHttp) {
  EXPECT_EQ(read("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", 100, false), "!");
  EXPECT_EQ(read("HTTP/1.1 200 OK\r\n\r\n" + std::string(21, 'x'), 100, false), "200 !");
  EXPECT_EQ(
      read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n", 100, false), "200 !"
  );
  EXPECT_EQ(read("SSH-2.0-x\r\n\r\n", 100, false), "!");
  EXPECT_EQ(read("HTTP/1.1 101 x\r\n\r\n", 100, false), "!");
}

}  // namespace
}  // namespace pleiad::net
