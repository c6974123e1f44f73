#include "net/http_server.h"

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
#include <sys/resource.h>

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

TEST(HttpServer, Answers503AboveTheConnectionLimit) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen), {.connections_max = 1, .retry_after_seconds = 7});
  RawClient first = server.connect();
  first.send(kGet);
  first.read_until("GET /a ");

  RawClient second = server.connect();
  second.send(kGet);

  const std::string answer = second.read_all();
  EXPECT_TRUE(is_refusal(answer, 503));
  EXPECT_THAT(answer, HasSubstr("Retry-After: 7\r\n"));
  first.send(kGet);
  EXPECT_THAT(first.read_until("GET /a "), StartsWith("HTTP/1.1 200"));
}

// Holds every file descriptor the process may open.
class DescriptorFamine {
 public:
  DescriptorFamine() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit low = before_;
    low.rlim_cur = 200;
    setrlimit(RLIMIT_NOFILE, &low);
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) {
      held_.push_back(fd);
    }
  }
  DescriptorFamine(const DescriptorFamine&) = delete;
  DescriptorFamine& operator=(const DescriptorFamine&) = delete;
  ~DescriptorFamine() {
    setrlimit(RLIMIT_NOFILE, &before_);
    for (const int fd : held_) {
      ::close(fd);
    }
  }

  void free_one() {
    ::close(held_.back());
    held_.pop_back();
  }

 private:
  rlimit before_{};
  std::vector<int> held_;
};

TEST(HttpServer, AcceptsAgainAfterFileDescriptorsRanOut) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the undefined-behaviour sanitizer needs file descriptors to look at objects";
#endif
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen), {.accept_retry = milliseconds{1}});
  std::string answer;

  {
    DescriptorFamine famine;
    famine.free_one();
    RawClient client = server.connect();  // takes the last one: the server cannot accept
    ASSERT_TRUE(client.connected());
    client.send(get_closing("/a"));
    server.on_loop([] {});
    famine.free_one();
    answer = client.read_all();
  }

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
}

TEST(HttpServer, DrainsByAnsweringWhatHasBegun) {
  std::promise<std::unique_ptr<Responder>> begun;
  std::atomic<int> seen = 0;
  LiveServer server([&](HttpRequest request, std::unique_ptr<Responder> responder) {
    ++seen;
    if (request.path == "/slow") {
      begun.set_value(std::move(responder));
    } else {
      responder->respond({.body = "quick"});
    }
  });
  RawClient idle = server.connect();
  RawClient slow = server.connect();
  idle.send(kGet);
  idle.read_until("quick");
  slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = begun.get_future().get();
  std::promise<void> drained;

  server.on_loop([&] { server.server().close_listener([&] { drained.set_value(); }); });

  EXPECT_EQ(idle.read_all(), "");
  EXPECT_FALSE(server.connect().connected());
  EXPECT_EQ(server.server().open_requests(), 1U);
  responder->respond({.body = "done"});
  EXPECT_THAT(slow.read_all(), HasSubstr("Connection: close\r\n\r\ndone"));
  slow.close();
  drained.get_future().wait();
  EXPECT_EQ(server.server().connections(), 0U);
  EXPECT_EQ(server.server().open_requests(), 0U);
}

TEST(HttpServer, CloseAllCutsRequestsUnderWay) {
  std::promise<DisconnectReason> reason;
  std::promise<std::unique_ptr<Responder>> begun;
  LiveServer server([&](HttpRequest, std::unique_ptr<Responder> responder) {
    responder->on_disconnect([&](DisconnectReason why) { reason.set_value(why); });
    begun.set_value(std::move(responder));
  });
  RawClient client = server.connect();
  client.send(kGet);
  const auto responder = begun.get_future().get();

  server.on_loop([&] { server.server().close_all(); });

  EXPECT_EQ(reason.get_future().get(), DisconnectReason::ServerClosed);
  EXPECT_EQ(client.read_all(), "");
  EXPECT_TRUE(responder->disconnected());
}

TEST(HttpServer, NamesAddressPortAndTheWayOutWhenThePortIsTaken) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));
  EventLoop loop;

  const auto second = HttpServer::listen(loop, {.port = server.port()}, echo_handler(seen));

  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::Unavailable);
  EXPECT_THAT(second.error().message, HasSubstr("127.0.0.1 port " + std::to_string(server.port())));
  EXPECT_THAT(second.error().message, HasSubstr("choose another port"));
  const auto nowhere = HttpServer::listen(loop, {.address = "example"}, echo_handler(seen));
  ASSERT_FALSE(nowhere.ok());
  EXPECT_EQ(nowhere.error().kind, ErrorKind::InvalidInput);
}

TEST(HttpServer, SurvivesChurnResetsAndHalfRequests) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));

  for (int i = 0; i < 200; ++i) {
    RawClient client = server.connect();
    client.send(std::string(kGet).substr(0, static_cast<std::size_t>(i) % kGet.size()));
    if (i % 2 == 0) client.reset();
  }
  server.wait_until_empty();

  RawClient client = server.connect();
  client.send(get_closing("/a"));
  EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 200"));
}

}  // namespace
}  // namespace pleiad::net
