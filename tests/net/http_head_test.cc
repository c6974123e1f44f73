#include "net/http_head.h"

#include <string>
#include <string_view>
#include <variant>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using Status = HttpHeadScanner::Status;

std::variant<HttpRequestHead, HttpRefusal> parse(std::string_view head) {
  return parse_request_head(head);
}

// The status a head with these extra header lines is refused with; 0 when it is accepted.
int refusal_of(std::string_view lines, std::string_view first = "POST / HTTP/1.1\r\nHost: a\r\n") {
  const auto parsed = parse(std::string(first).append(lines).append("\r\n"));
  const auto* refusal = std::get_if<HttpRefusal>(&parsed);
  return refusal == nullptr ? 0 : refusal->status;
}

TEST(HttpHead, ReadsAPlainRequest) {
  const auto parsed = parse(
      "POST /v1/chat?x=1 HTTP/1.1\r\nHost: localhost:8000\r\ncontent-length: 12\r\nX-A:\t b c "
      "\t\r\n\r\n"
  );

  const auto& head = std::get<HttpRequestHead>(parsed);
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/v1/chat?x=1");
  EXPECT_EQ(head.minor_version, 1);
  EXPECT_EQ(head.framing, BodyFraming::Length);
  EXPECT_EQ(head.content_length, 12U);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(head.headers.find("x-a"), "b c");
}

TEST(HttpHead, NeverDecodesHeaderValues) {
  const auto parsed = parse("GET / HTTP/1.1\r\nHost: a\r\nX: %0d%0aEvil: 1\r\n\r\n");

  EXPECT_EQ(std::get<HttpRequestHead>(parsed).headers.find("x"), "%0d%0aEvil: 1");
}

TEST(HttpHead, KeepsAliveByVersionAndConnectionHeader) {
  const auto keeps = [](std::string_view head) {
    return std::get<HttpRequestHead>(parse(head)).keep_alive;
  };

  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

TEST(HttpHead, RefusesAmbiguousLengths) {
  for (const std::string_view lines :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 5 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"}) {
    EXPECT_EQ(refusal_of(lines), 400) << lines;
  }
}

TEST(HttpHead, RefusesTransferCodingsItDoesNotSpeak) {
  EXPECT_EQ(refusal_of("Transfer-Encoding: gzip, chunked\r\n"), 501);
  EXPECT_EQ(refusal_of("Transfer-Encoding: xchunked\r\n"), 501);
  EXPECT_EQ(refusal_of("Transfer-Encoding: Chunked\r\n"), 0);
  EXPECT_EQ(refusal_of("Transfer-Encoding: chunked\r\n", "POST / HTTP/1.0\r\nHost: a\r\n"), 400);
}

TEST(HttpHead, RefusesMalformedHeaderLines) {
  for (const std::string_view lines :
       {"X : 1\r\n",
        " X: 1\r\n",
        "X: 1\r\n folded\r\n",
        "X: 1\r\n\tfolded\r\n",
        ": 1\r\n",
        "X\r\n",
        "X: a\rb\r\n",
        "X\x01: 1\r\n",
        "X y: 1\r\n",
        "X: a\x7f\r\n"}) {
    EXPECT_EQ(refusal_of(lines), 400) << lines;
  }
  EXPECT_EQ(refusal_of(std::string_view("X: a\0b\r\n", 8)), 400);
}

TEST(HttpHead, WantsExactlyOneHost) {
  constexpr std::string_view kNoHost = "GET / HTTP/1.1\r\n";
  EXPECT_EQ(refusal_of("", kNoHost), 400);
  for (const std::string_view host :
       {"",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a b",
        "a:b",
        "a:1:2",
        "[::1",
        "a:123456",
        ":80",
        "a,b",
        "a%2f"}) {
    EXPECT_EQ(refusal_of("Host: " + std::string(host) + "\r\n", kNoHost), 400) << host;
  }
  EXPECT_EQ(refusal_of("Host: a\r\nHost: a\r\n", kNoHost), 400);
  for (const std::string_view host :
       {"a", "a.b-c_d:80", "127.0.0.1:1", "[::1]", "[::1]:80", "a:"}) {
    EXPECT_EQ(refusal_of("Host: " + std::string(host) + "\r\n", kNoHost), 0) << host;
  }
}

TEST(HttpHead, RefusesRequestLinesOfAnyOtherShape) {
  const auto status = [](std::string_view line) {
    return refusal_of("Host: a\r\n", std::string(line).append("\r\n"));
  };

  EXPECT_EQ(status("GET / HTTP/2.0"), 505);
  EXPECT_EQ(status("GET / HTTP/1.2"), 505);
  for (const std::string_view line :
       {"GET /",
        "GET / HTTP/1",
        "GET / http/1.1",
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET a HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\xC3\xA4 HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 "}) {
    EXPECT_EQ(status(line), 400) << line;
  }
  EXPECT_EQ(status("OPTIONS * HTTP/1.1"), 0);
  EXPECT_EQ(status("GET /" + std::string(9000, 'a') + " HTTP/1.1"), 414);
}

TEST(HttpHead, KnowsOneExpectation) {
  EXPECT_EQ(refusal_of("Expect: tea\r\n"), 417);
  EXPECT_EQ(refusal_of("Expect: 100-Continue\r\nContent-Length: 1\r\n"), 0);
}

TEST(HttpHeadScanner, FindsTheEndByteByByte) {
  const std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
  HttpHeadScanner scanner({});

  std::size_t size = 1;
  while (scanner.scan(std::string_view(bytes).substr(0, size)) == Status::NeedMore) {
    ++size;
  }

  EXPECT_EQ(size, bytes.size() - 4);
  EXPECT_EQ(scanner.head_bytes(), size);
}

TEST(HttpHeadScanner, RefusesAsSoonAsItSees) {
  const auto status = [](std::string_view bytes) {
    HttpHeadScanner scanner(
        {.target_bytes_max = 100, .header_bytes_max = 200, .header_count_max = 3}
    );
    return scanner.scan(bytes) == Status::Refused ? scanner.refusal().status : 0;
  };

  EXPECT_EQ(status("GET / HTTP/1.1\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\rX"), 400);
  EXPECT_EQ(status("\x16\x03\x01"), 400);
  EXPECT_EQ(status("\r\n"), 400);
  EXPECT_EQ(status(std::string(200, 'a')), 414);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nX: " + std::string(200, 'a')), 431);
  EXPECT_EQ(status("GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\n"), 431);
  EXPECT_EQ(status("GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\n"), 0);
}

TEST(HttpHead, ReadsAnAnswer) {
  const auto framing = [](std::string_view head, std::string_view method = "GET") {
    return std::get<HttpResponseHead>(parse_response_head(head, method)).framing;
  };

  EXPECT_EQ(framing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), BodyFraming::Length);
  EXPECT_EQ(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), BodyFraming::Chunked);
  EXPECT_EQ(framing("HTTP/1.1 200\r\n\r\n"), BodyFraming::UntilClose);
  EXPECT_EQ(framing("HTTP/1.1 204 No Content\r\n\r\n"), BodyFraming::None);
  EXPECT_EQ(framing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD"), BodyFraming::None);
  const auto bad = parse_response_head("HTTP/1.1 20 OK\r\n\r\n", "GET");
  EXPECT_TRUE(std::holds_alternative<HttpRefusal>(bad));
}

}  // namespace
}  // namespace pleiad::net
