#include "net/detail/http_connection.h"

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "tests/net/live_server.h"

namespace pleiad::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr std::string_view kSmuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

std::string get_closing(std::string_view target) {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
}

// Whether `answer` is one error answer with `status`, a four-field error object and a closing head.
testing::AssertionResult is_refusal(const std::string& answer, int status) {
  const std::string first = "HTTP/1.1 " + std::to_string(status) + " ";
  const std::size_t body_at = answer.find("\r\n\r\n");
  if (!answer.starts_with(first) || body_at == std::string::npos) {
    return testing::AssertionFailure() << "wanted " << status << ", got: " << answer;
  }
  if (answer.find("Connection: close") == std::string::npos) {
    return testing::AssertionFailure() << "does not close: " << answer;
  }
  const auto body = parse_json(std::string_view(answer).substr(body_at + 4));
  const Json* object = body.ok() ? body->find("error") : nullptr;
  const bool four_fields = object != nullptr && object->find("message") && object->find("type") &&
                           object->find("param") && object->find("code");
  if (!four_fields) return testing::AssertionFailure() << "no error object: " << answer;
  return testing::AssertionSuccess();
}

struct BadRequest {
  std::string bytes;
  int status;
};

class StrictConnection : public testing::Test {
 protected:
  // The server's whole answer to `bytes` with another request behind them.
  std::string answer_to(std::string_view bytes) {
    RawClient client = server_.connect();
    client.send(bytes);
    client.send(kSmuggled);
    return client.read_all();
  }

  std::atomic<int> seen_ = 0;
  LiveServer server_{
      echo_handler(seen_),
      {.head = {.target_bytes_max = 1000, .header_bytes_max = 10'000, .header_count_max = 20},
       .body_bytes_max = 100'000}};
};

TEST_F(StrictConnection, RefusesBadHeadsAndReadsNothingBehindThem) {
  const std::string host = "Host: x\r\n";
  const std::string post = "POST /a HTTP/1.1\r\n" + host;
  std::string many_headers = post;
  for (int i = 0; i < 10'000; ++i) {
    many_headers += "X: 1\r\n";
  }
  const std::vector<BadRequest> cases = {
      {post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
      {post + "Content-Length: +5\r\n\r\nhello", 400},
      {post + "Content-Length: -1\r\n\r\n", 400},
      {post + "Content-Length: 5,5\r\n\r\nhello", 400},
      {post + "Content-Length: 18446744073709551616\r\n\r\n", 400},
      {post + "X: a\rb\r\n\r\n", 400},
      {post + "X: a\nY: b\r\n\r\n", 400},
      {post + std::string("X: a\0b\r\n\r\n", 10), 400},
      {post + "X: a\r\n folded\r\n\r\n", 400},
      {post + "X : a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\n" + host + "\r\n", 505},
      {"GET / HTTP/0.9\r\n" + host + "\r\n", 505},
      {"GET /\r\n", 400},
      {post + "Transfer-Encoding: gzip\r\n\r\n", 501},
      {post + "Expect: tea\r\n\r\n", 417},
      {"GET /" + std::string(65'536, 'a') + " HTTP/1.1\r\n" + host + "\r\n", 414},
      {post + "X: " + std::string(1'000'000, 'a') + "\r\n\r\n", 431},
      {many_headers + "\r\n", 431},
  };

  for (const BadRequest& bad : cases) {
    EXPECT_TRUE(is_refusal(answer_to(bad.bytes), bad.status)) << bad.bytes.substr(0, 100);
  }
  EXPECT_EQ(seen_, 0);
}

TEST_F(StrictConnection, RefusesBadChunksAndReadsNothingBehindThem) {
  const std::string head = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::vector<BadRequest> cases = {
      {"-2\r\n", 400},
      {"0x5\r\nhello\r\n", 400},
      {"00000000000000005\r\nhello\r\n", 400},
      {"5;" + std::string(100'000, 'x') + "\r\nhello\r\n", 400},
      {"5\r\nhelloX\r\n", 400},
      {"FFFFFFFFFFFFFFFF\r\n", 413},
      {"30D41\r\n", 413},
  };

  for (const BadRequest& bad : cases) {
    EXPECT_TRUE(is_refusal(answer_to(head + bad.bytes), bad.status)) << bad.bytes.substr(0, 100);
  }
  EXPECT_EQ(seen_, 0);
}

TEST_F(StrictConnection, RefusesABodyAboveTheLimitInAnyFraming) {
  const std::string post = "POST /a HTTP/1.1\r\nHost: x\r\n";
  std::string endless = post + "Transfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 100'001; ++i) {
    endless += "1\r\nx\r\n";
  }

  EXPECT_TRUE(is_refusal(answer_to(post + "Content-Length: 100001\r\n\r\n"), 413));
  EXPECT_TRUE(
      is_refusal(answer_to(post + "Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n"), 413)
  );
  EXPECT_TRUE(is_refusal(answer_to(endless), 413));
  EXPECT_EQ(seen_, 0);
}

TEST_F(StrictConnection, LetsACleanRequestThrough) {
  RawClient client = server_.connect();

  client.send("POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");

  const std::string answer = client.read_until("POST /a?b hello");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: "));
  EXPECT_THAT(answer, HasSubstr(" GMT\r\nContent-Length: 15\r\n\r\nPOST /a?b hello"));
}

TEST(HttpConnection, TakesMillionsOfOneByteChunks) {
  std::promise<std::size_t> body_bytes;
  LiveServer server([&](HttpRequest request, std::unique_ptr<Responder> responder) {
    body_bytes.set_value(request.body.size());
    responder->respond({.status = 204});
  });
  RawClient client = server.connect();
  std::string chunks;
  for (int i = 0; i < 3'000'000; ++i) {
    chunks += "1\r\nx\r\n";
  }

  client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.send(chunks);
  client.send("0\r\n\r\n");

  EXPECT_EQ(body_bytes.get_future().get(), 3'000'000U);
  EXPECT_THAT(client.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 204 No Content\r\n"));
}

TEST(HttpConnection, AnswersPipelinedRequestsInOrderAndReusesTheConnection) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));
  RawClient client = server.connect();

  client.send(
      "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
      "POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      "\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\nGET /4"
  );

  EXPECT_THAT(client.read_until("GET /1 "), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(client.read_until("POST /2 abc"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(client.read_until("GET /3 "), StartsWith("HTTP/1.1 200"));
  client.send(" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.read_all(), HasSubstr("Connection: close\r\n\r\nGET /4 "));
  EXPECT_EQ(seen, 4);
}

TEST(HttpConnection, HoldsPipelinedRequestsBackUntilTheAnswerBeforeThem) {
  std::promise<std::unique_ptr<Responder>> first;
  std::atomic<int> seen = 0;
  LiveServer server([&](HttpRequest request, std::unique_ptr<Responder> responder) {
    if (++seen == 1) {
      first.set_value(std::move(responder));
    } else {
      responder->respond({.body = request.path});
    }
  });
  RawClient client = server.connect();

  client.send(std::string(kGet) + get_closing("/b"));
  const auto responder = first.get_future().get();
  EXPECT_EQ(seen, 1);
  responder->respond({.body = "first"});

  const std::string answers = client.read_all();
  EXPECT_LT(answers.find("first"), answers.find("/b"));
}

TEST(HttpConnection, AnswersExpectContinue) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));
  RawClient client = server.connect();

  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hi");

  EXPECT_THAT(client.read_until("POST / hi"), StartsWith("HTTP/1.1 200"));
}

TEST(HttpConnection, SendsNoBodyToHeadRequests) {
  LiveServer server([](HttpRequest request, std::unique_ptr<Responder> responder) {
    if (request.path == "/stream") {
      responder->start_stream(200, {});
      responder->write("body");
      responder->finish();
    } else {
      responder->respond({.body = "body"});
    }
  });
  RawClient client = server.connect();

  client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("Content-Length: 4\r\n"));
  client.send("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("Transfer-Encoding: chunked\r\n"));
  client.send("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.read_all(), testing::EndsWith("\r\n\r\n"));
}

TEST(HttpConnection, SpeaksHttp10) {
  LiveServer server([](HttpRequest request, std::unique_ptr<Responder> responder) {
    if (request.path == "/plain") {
      responder->respond({.body = "plain"});
      return;
    }
    responder->start_stream(200, {});
    responder->write("some");
    if (request.path == "/stream") responder->finish();
  });
  RawClient client = server.connect();
  RawClient aborted = server.connect();

  client.send("GET /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_THAT(client.read_until("plain"), HasSubstr("Connection: keep-alive\r\n"));
  client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const std::string stream = client.read_all();
  EXPECT_THAT(stream, HasSubstr("Connection: close\r\n\r\nsome"));
  EXPECT_THAT(stream, Not(HasSubstr("chunked")));
  EXPECT_FALSE(client.was_reset());
  aborted.send("GET /abort HTTP/1.0\r\n\r\n");
  (void)aborted.read_all();
  EXPECT_TRUE(aborted.was_reset());
}

TEST(HttpConnection, EndsAConnectionAfterItsLastAllowedRequest) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen), {.requests_per_connection_max = 2});
  RawClient client = server.connect();

  client.send(std::string(kGet) + std::string(kGet) + std::string(kGet));

  EXPECT_THAT(client.read_all(), HasSubstr("Connection: close"));
  EXPECT_EQ(seen, 2);
}

TEST(HttpConnection, EndsSlowRequestsAtTheirDeadline) {
  std::atomic<int> seen = 0;
  LiveServer server(
      echo_handler(seen), {.head_timeout = milliseconds{30}, .body_timeout = milliseconds{30}}
  );
  RawClient silent = server.connect();
  RawClient head = server.connect();
  RawClient body = server.connect();
  RawClient chunks = server.connect();

  head.send("GET / HT");
  body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
  chunks.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe");

  EXPECT_TRUE(is_refusal(head.read_all(), 408));
  EXPECT_TRUE(is_refusal(body.read_all(), 408));
  EXPECT_TRUE(is_refusal(chunks.read_all(), 408));
  EXPECT_EQ(silent.read_all(), "");
  EXPECT_FALSE(silent.timed_out());
  EXPECT_EQ(seen, 0);
}

TEST(HttpConnection, ADripOfBytesDoesNotMoveTheDeadline) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen), {.head_timeout = milliseconds{100}});
  RawClient drip = server.connect();
  const auto start = std::chrono::steady_clock::now();

  drip.send("GET / HTTP/1.1\r\n");
  std::thread dripper([&] {
    while (server.server().connections() > 0 && drip.send("X: 1\r\n")) {
      std::this_thread::yield();
      if (std::chrono::steady_clock::now() - start > seconds{10}) return;
    }
  });
  const std::string answer = drip.read_all();
  dripper.join();

  EXPECT_THAT(answer, testing::AnyOf(StartsWith("HTTP/1.1 408"), StartsWith("HTTP/1.1 431")));
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds{5});
}

TEST(HttpConnection, ClosesIdleConnectionsAfterTheKeepAliveTimeout) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen), {.keep_alive_timeout = milliseconds{20}});
  RawClient client = server.connect();

  client.send(kGet);

  EXPECT_THAT(client.read_all(), testing::EndsWith("GET /a "));
  EXPECT_FALSE(client.timed_out());
}

}  // namespace
}  // namespace pleiad::net
