#include "net/detail/request_reader.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using Status = RequestReader::Status;

constexpr std::string_view kTwo =
    "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    "\r\nPUT /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
    "chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n";

TEST(RequestReader, ReadsRequestsOneByOneHoweverTheyAreCut) {
  for (std::size_t piece = 1; piece <= kTwo.size(); ++piece) {
    RequestReader reader({}, 100);
    std::string read;
    for (std::size_t at = 0; at < kTwo.size(); at += piece) {
      reader.append(kTwo.substr(at, piece));
      while (reader.advance() == Status::Ready) {
        const HttpRequest request = reader.take();
        read +=
            request.method + " " + request.path + " " + request.query + " " + request.body + ";";
      }
    }

    EXPECT_EQ(read, "POST /a b=c abc;PUT /d  def;") << piece;
    EXPECT_EQ(reader.buffered_bytes(), 0U);
  }
}

TEST(RequestReader, SaysWhatItWaitsFor) {
  RequestReader reader({}, 100);

  EXPECT_EQ(reader.advance(), Status::NeedHead);
  reader.append("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n");
  EXPECT_EQ(reader.advance(), Status::NeedHead);
  reader.append("Content-Length: 1\r\n\r\n");
  EXPECT_EQ(reader.advance(), Status::NeedBody);
  EXPECT_TRUE(reader.head().expects_continue);
  reader.append("x");
  EXPECT_EQ(reader.advance(), Status::Ready);
}

TEST(RequestReader, LetsOneEmptyLinePassHoweverItIsCut) {
  constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const std::string_view lines : {"", "\r\n", "\r\n\r\n", "\r\n\r\n\r\n"}) {
    const std::string bytes = std::string(lines) + std::string(kRequest);
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
      RequestReader reader({}, 100);
      Status status = Status::NeedHead;
      for (std::size_t at = 0; at < bytes.size(); at += piece) {
        reader.append(std::string_view(bytes).substr(at, piece));
        status = reader.advance();
      }

      EXPECT_EQ(status, lines.size() <= 2 ? Status::Ready : Status::Refused)
          << lines.size() << " bytes of empty lines, in pieces of " << piece;
    }
  }
}

TEST(RequestReader, YieldsNothingBehindARefusal) {
  RequestReader reader({}, 100);

  reader.append("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(reader.advance(), Status::Refused);
  EXPECT_EQ(reader.refusal().status, 400);
  reader.append("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(reader.advance(), Status::Refused);
  EXPECT_EQ(reader.buffered_bytes(), 0U);
}

TEST(RequestReader, RefusesALongBodyBeforeItArrives) {
  RequestReader reader({}, 100);

  reader.append("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n");

  EXPECT_EQ(reader.advance(), Status::Refused);
  EXPECT_EQ(reader.refusal().status, 413);
}

}  // namespace
}  // namespace pleiad::net
