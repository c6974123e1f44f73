#include "net/http_client.h"

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/net/live_server.h"

namespace pleiad::net {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

Url url_of(const LiveServer& server, std::string target = "/") {
  return {.host = "127.0.0.1", .port = server.port(), .target = std::move(target)};
}

TEST(HttpFetch, SendsARequestAndGivesTheAnswer) {
  LiveServer server([](HttpRequest request, std::unique_ptr<Responder> responder) {
    const std::string host(request.headers.find("host").value_or(""));
    responder->respond(
        {.status = 201, .headers = {{"X-Host", host}}, .body = request.query + request.body}
    );
  });

  const auto answer = http_fetch(
      {.method = "POST",
       .url = url_of(server, "/a?q="),
       .headers = {{"Host", "evil"}},
       .body = "body"}
  );

  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, "q=body");
  EXPECT_EQ(answer->headers.find("x-host"), "127.0.0.1:" + std::to_string(server.port()));
}

TEST(HttpFetch, LooksNamesUp) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));
  Url url = url_of(server);
  url.host = "localhost";

  EXPECT_EQ(http_fetch({.url = url})->status, 200);
}

TEST(HttpFetch, NamesTheServerItCannotReach) {
  std::uint16_t port = 0;
  {
    std::atomic<int> seen = 0;
    LiveServer server(echo_handler(seen));
    port = server.port();
  }

  const auto answer = http_fetch({.url = {.host = "127.0.0.1", .port = port}});

  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind, ErrorKind::Unavailable);
  EXPECT_THAT(answer.error().message, HasSubstr("127.0.0.1:" + std::to_string(port)));
}

TEST(HttpFetch, RefusesToSendAMalformedHead) {
  const auto answer =
      http_fetch({.url = {.host = "127.0.0.1"}, .headers = {{"X", "a\r\nEvil: 1"}}});

  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind, ErrorKind::InvalidInput);
}

TEST(HttpFetch, GivesUpOnASilentServer) {
  std::unique_ptr<Responder> kept;
  LiveServer server([&](HttpRequest request, std::unique_ptr<Responder> responder) {
    if (request.path == "/body") {
      responder->start_stream(200, {});
      responder->write("some");
    }
    kept = std::move(responder);
  });

  const auto head = http_fetch({.url = url_of(server)}, {.head_timeout = milliseconds{20}});
  const auto body =
      http_fetch({.url = url_of(server, "/body")}, {.idle_timeout = milliseconds{20}});

  ASSERT_FALSE(head.ok());
  EXPECT_EQ(head.error().kind, ErrorKind::Timeout);
  ASSERT_FALSE(body.ok());
  EXPECT_EQ(body.error().kind, ErrorKind::Timeout);
}

TEST(HttpFetch, TellsAnAbortedStreamFromAWholeOne) {
  LiveServer server([](HttpRequest request, std::unique_ptr<Responder> responder) {
    responder->start_stream(200, {});
    responder->write("some");
    if (request.path == "/whole") {
      responder->finish();
    } else {
      responder->abort();
    }
  });

  EXPECT_EQ(http_fetch({.url = url_of(server, "/whole")})->body, "some");
  const auto cut = http_fetch({.url = url_of(server, "/cut")});
  ASSERT_FALSE(cut.ok());
  EXPECT_EQ(cut.error().kind, ErrorKind::Unavailable);
}

TEST(HttpFetch, RefusesAnAnswerAboveTheLimit) {
  LiveServer server([](HttpRequest, std::unique_ptr<Responder> responder) {
    responder->respond({.body = "12345"});
  });

  const auto answer = http_fetch({.url = url_of(server)}, {.body_bytes_max = 4});

  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind, ErrorKind::Corrupt);
}

TEST(HttpFetch, ReadsTheAnswerToABodyTheServerRefuses) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen), {.body_bytes_max = 1000, .linger_bytes_max = 64U << 20U});

  const auto answer =
      http_fetch({.method = "POST", .url = url_of(server), .body = std::string(10'000'000, 'x')});

  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->status, 413);
}

// A loop on a thread of its own with a client on it.
class ClientOnLoop : public testing::Test {
 protected:
  void SetUp() override {
    thread_ = std::thread([this] { loop_.run(); });
  }
  void TearDown() override {
    loop_.stop();
    thread_.join();
  }
  void on_loop(Task task) {
    std::promise<void> done;
    loop_.post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  // Sends `request`; the future is the outcome.
  std::future<Result<void>> send(HttpClientRequest request) {
    auto outcome = std::make_shared<std::promise<Result<void>>>();  // owners: this call and on_end
    on_loop([&] {
      call_ = client_.send(std::move(request), {.on_end = [outcome](Result<void> r) {
                             outcome->set_value(std::move(r));
                           }});
    });
    return outcome->get_future();
  }

  EventLoop loop_;
  HttpClient client_{loop_};
  HttpCall call_;
  std::thread thread_;
};

TEST_F(ClientOnLoop, ReusesConnections) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));

  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(send({.url = url_of(server)}).get().ok());
    EXPECT_EQ(server.server().connections(), 1U);
  }

  std::size_t idle = 0;
  on_loop([&] { idle = client_.idle_connections(); });
  EXPECT_EQ(idle, 1U);
}

TEST_F(ClientOnLoop, ForgetsAKeptConnectionThatTheServerCloses) {
  std::atomic<int> seen = 0;
  LiveServer server(echo_handler(seen));
  EXPECT_TRUE(send({.url = url_of(server)}).get().ok());

  server.on_loop([&] { server.server().close_listener(); });

  std::size_t idle = 1;
  while (idle > 0) {
    on_loop([&] { idle = client_.idle_connections(); });
  }
}

TEST_F(ClientOnLoop, CancellingCutsTheConnectionAndSilencesTheEvents) {
  std::promise<void> gone;
  std::unique_ptr<Responder> kept;
  LiveServer server([&](HttpRequest, std::unique_ptr<Responder> responder) {
    responder->on_disconnect([&](DisconnectReason) { gone.set_value(); });
    responder->start_stream(200, {});
    responder->write("first");
    kept = std::move(responder);
  });
  std::atomic<int> ends = 0;

  on_loop([&] {
    call_ = client_.send(
        {.url = url_of(server)},
        {.on_body = [&](std::string_view) { call_.cancel(); },
         .on_end = [&](Result<void>) { ++ends; }}
    );
  });

  gone.get_future().wait();
  on_loop([] {});
  EXPECT_EQ(ends, 0);
}

TEST_F(ClientOnLoop, ProxiesAStream) {
  LiveServer upstream([](HttpRequest, std::unique_ptr<Responder> responder) {
    responder->start_stream(200, {{"Content-Type", "text/event-stream"}});
    responder->write("data: 1\n\n");
    responder->write("data: 2\n\n");
    responder->finish();
  });
  EventLoop& loop = loop_;
  std::unique_ptr<Responder> downstream;
  LiveServer router([&](HttpRequest, std::unique_ptr<Responder> responder) {
    loop.post([&, responder = std::move(responder)]() mutable {
      downstream = std::move(responder);
      call_ = client_.send(
          {.url = url_of(upstream)},
          {.on_head = [&](const HttpResponseHead& head
                      ) { downstream->start_stream(head.status, head.headers); },
           .on_body = [&](std::string_view bytes) { downstream->write(bytes); },
           .on_end =
               [&](Result<void> result) {
                 if (result.ok()) {
                   downstream->finish();
                 } else {
                   downstream->abort();
                 }
               }}
      );
    });
  });

  const auto answer = http_fetch({.url = url_of(router)});

  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->body, "data: 1\n\ndata: 2\n\n");
  EXPECT_EQ(answer->headers.find("content-type"), "text/event-stream");
}

}  // namespace
}  // namespace pleiad::net
