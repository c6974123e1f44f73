#include "net/responder.h"

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

#include "tests/net/live_server.h"

namespace pleiad::net {
namespace {

using std::chrono::milliseconds;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

// A server that hands each request's Responder to the test.
class HandsOver {
 public:
  explicit HandsOver(HttpServerOptions options = {}, bool watched = true)
      : server_(
            [this, watched](HttpRequest, std::unique_ptr<Responder> responder) {
              if (watched) {
                responder->on_disconnect([this](DisconnectReason why) { gone_.set_value(why); });
              }
              responder_.set_value(std::move(responder));
            },
            std::move(options)
        ) {}

  LiveServer& live() { return server_; }
  std::future<DisconnectReason> gone() { return gone_.get_future(); }
  std::unique_ptr<Responder> first() { return responder_.get_future().get(); }

 private:
  std::promise<std::unique_ptr<Responder>> responder_;
  std::promise<DisconnectReason> gone_;
  LiveServer server_;
};

TEST(Responder, StreamsFromAnyThread) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);
  const auto responder = server.first();

  responder->start_stream(200, {{"Content-Type", "text/event-stream"}});
  EXPECT_TRUE(responder->write("data: 1\n\n"));
  const std::string head = client.read_until("data: 1\n\n\r\n");
  std::thread([&] {
    EXPECT_TRUE(responder->write("data: 2\n\n"));
    responder->finish();
  }).join();

  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(head, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n9\r\ndata: 1\n\n\r\n"));
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "9\r\ndata: 2\n\n\r\n0\r\n\r\n");
}

TEST(Responder, AbortSendsWhatWasWrittenAndNoEnd) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);
  const auto responder = server.first();

  responder->start_stream(200, {});
  responder->write("error");
  responder->abort();

  EXPECT_THAT(client.read_all(), EndsWith("\r\n\r\n5\r\nerror\r\n"));
}

TEST(Responder, AbortBeforeAnAnswerResets) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);

  server.first()->abort();

  EXPECT_EQ(client.read_all(), "");
  EXPECT_TRUE(client.was_reset());
}

TEST(Responder, DroppedWithoutAnAnswerSendsAnErrorObject) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);

  server.first().reset();

  EXPECT_THAT(client.read_until("}}"), StartsWith("HTTP/1.1 500 "));
}

TEST(Responder, DroppedInsideAStreamAborts) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);
  auto responder = server.first();

  responder->start_stream(200, {});
  responder.reset();

  EXPECT_THAT(client.read_all(), Not(HasSubstr("0\r\n\r\n")));
}

TEST(Responder, SeesTheClientGoWhileARequestIsAnswered) {
  for (const bool with_reset : {false, true}) {
    for (const bool streaming : {false, true}) {
      HandsOver server;
      RawClient client = server.live().connect();
      client.send(kGet);
      client.send("GET /pipelined");
      const auto responder = server.first();
      if (streaming) responder->start_stream(200, {});

      if (with_reset) {
        client.reset();
      } else {
        client.close();
      }

      EXPECT_EQ(server.gone().get(), DisconnectReason::ClientGone);
      EXPECT_TRUE(responder->disconnected());
      if (streaming) {
        EXPECT_FALSE(responder->write("late"));
        responder->finish();
      } else {
        responder->respond({.body = "late"});
      }
    }
  }
}

TEST(Responder, TellsAtOnceWhenTheClientWasGoneBefore) {
  HandsOver server({}, false);
  RawClient client = server.live().connect();
  client.send(kGet);
  const auto responder = server.first();
  client.reset();
  server.live().wait_until_empty();
  bool told = false;

  responder->on_disconnect([&](DisconnectReason) { told = true; });

  EXPECT_TRUE(told);
}

TEST(Responder, ReachesAHalfClosedClientThatNobodyWatches) {
  HandsOver server({}, false);
  RawClient client = server.live().connect();
  client.send(kGet);
  const auto responder = server.first();
  client.shutdown_sending();

  responder->respond({.body = "answer"});

  EXPECT_THAT(client.read_all(), EndsWith("answer"));
}

TEST(Responder, CountsAHalfClosedClientAsGoneOnceWatched) {
  HandsOver server({}, false);
  RawClient client = server.live().connect();
  client.send(kGet);
  const auto responder = server.first();
  client.shutdown_sending();
  std::promise<void> told;

  responder->on_disconnect([&](DisconnectReason) { told.set_value(); });

  told.get_future().wait();
  EXPECT_EQ(client.read_all(), "");
}

TEST(Responder, CutsASlowReaderAndNobodyElse) {
  HandsOver server({.unsent_bytes_max = 1U << 20U});
  RawClient client = server.live().connect(4096);
  client.send(kGet);
  const auto responder = server.first();
  responder->start_stream(200, {});
  const std::string piece(1U << 16U, 'x');

  std::size_t written = 0;
  while (responder->write(piece)) {
    written += piece.size();
    ASSERT_LT(written, 1U << 30U);
  }

  EXPECT_EQ(server.gone().get(), DisconnectReason::SlowReader);
  EXPECT_LE(responder->unsent_bytes(), (1U << 20U) + 2 * piece.size());
  (void)client.read_all();
  EXPECT_TRUE(client.was_reset());
}

TEST(Responder, CutsAReaderThatStalls) {
  HandsOver server({.write_timeout = milliseconds{30}});
  RawClient client = server.live().connect(4096);
  client.send(kGet);

  server.first()->respond({.body = std::string(64U << 20U, 'x')});

  server.live().wait_until_empty();
  (void)client.read_all();
  EXPECT_TRUE(client.was_reset());
}

TEST(Responder, SendsALargeAnswerWhole) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);

  server.first()->respond({.body = std::string(20'000'000, 'x')});

  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_bytes(20'000'000).size(), 20'000'000U);
}

TEST(Responder, KeepsHopByHopAndMalformedHeadersOutOfTheHead) {
  HandsOver server;
  RawClient client = server.live().connect();
  client.send(kGet);

  server.first()->respond(
      {.headers =
           {{"Content-Length", "99"},
            {"transfer-encoding", "chunked"},
            {"Connection", "x"},
            {"X-Split", "a\r\nEvil: 1"},
            {"Bad Name", "1"},
            {"X-Good", "1"}},
       .body = "body"}
  );

  const std::string answer = client.read_until("body");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 4\r\n"));
  EXPECT_THAT(answer, HasSubstr("X-Good: 1\r\n"));
  for (const char* banned : {"99", "chunked", "Connection", "Evil", "Bad Name"}) {
    EXPECT_THAT(answer, Not(HasSubstr(banned)));
  }
}

TEST(Responder, OutlivesTheServer) {
  std::unique_ptr<Responder> responder;
  {
    HandsOver server({}, false);
    RawClient client = server.live().connect();
    client.send(kGet);
    responder = server.first();
  }

  responder->start_stream(200, {});
  EXPECT_FALSE(responder->write("nobody"));
}

TEST(Responder, ManyClientsLeavingAtOnceAreAllNoticed) {
  constexpr int kClients = 300;
  std::atomic<int> begun = 0;
  std::atomic<int> gone = 0;
  std::vector<std::unique_ptr<Responder>> responders;
  LiveServer server([&](HttpRequest, std::unique_ptr<Responder> responder) {
    responder->on_disconnect([&](DisconnectReason) { ++gone; });
    responders.push_back(std::move(responder));
    ++begun;
  });
  {
    std::vector<RawClient> clients;
    for (int i = 0; i < kClients; ++i) {
      clients.push_back(server.connect());
      clients.back().send(kGet);
    }
    while (begun < kClients) {
      std::this_thread::yield();
    }
  }

  server.wait_until_empty();

  EXPECT_EQ(gone, kClients);
  EXPECT_EQ(server.server().open_requests(), 0U);
}

}  // namespace
}  // namespace pleiad::net
