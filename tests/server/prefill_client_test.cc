#include "server/prefill_client.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/generation_wire.h"
#include "net/http_server.h"

namespace pleiad::server {
namespace {

using ::testing::HasSubstr;

// A prefill worker whose answers a test writes.
class Worker {
 public:
  using Answer = std::function<void(const api::PrefillOrder&, net::Responder&)>;

  explicit Worker(Answer answer) : answer_(std::move(answer)) {
    server_ = net::HttpServer::listen(
                  loop_,
                  {},
                  [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
                    handle(request, std::move(responder));
                  }
    ).value();
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Worker() {
    loop_.stop();
    thread_.join();
    open_.clear();
    server_.reset();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] std::string url() const {
    return "http://127.0.0.1:" + std::to_string(server_->port());
  }
  void restart() {
    const std::scoped_lock lock(mutex_);
    ++start_;
  }
  [[nodiscard]] int offers() {
    const std::scoped_lock lock(mutex_);
    return offers_;
  }
  void wait_gone(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return gone_ >= count; });
  }

 private:
  void handle(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder) {
    const std::scoped_lock lock(mutex_);
    const std::string instance = "start " + std::to_string(start_);
    if (request.headers.find("authorization") != "Bearer s3cret") {
      responder->respond({.status = 401, .body = "{}"});
    } else if (request.method == "GET") {
      ++offers_;
      responder->respond({.status = 200, .body = instance});
    } else {
      const auto order = api::decode_prefill_order(std::as_bytes(std::span(request.body))).value();
      if (order.instance != instance) {
        responder->respond({.status = 409, .body = "{}"});
        return;
      }
      responder->on_disconnect([this](net::DisconnectReason) {
        const std::scoped_lock gone_lock(mutex_);
        ++gone_;
        changed_.notify_all();
      });
      answer_(order, *responder);
      open_.push_back(std::move(responder));
    }
  }

  Answer answer_;
  net::EventLoop loop_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  int start_ = 1;
  int offers_ = 0;
  int gone_ = 0;
  std::vector<std::unique_ptr<net::Responder>> open_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

// Orders prompt {1, 2} of whatever is offered, and keeps what comes.
class Inlet final : public api::KvInlet {
 public:
  Result<api::PrefillOrder> on_offer(std::string_view offer) override {
    if (offer == refused) return unsupported("not this one");
    return api::PrefillOrder{.instance = std::string(offer), .prompt = {1, 2}};
  }
  Result<void> on_bytes(std::string_view bytes) override {
    const std::scoped_lock lock(mutex_);
    bytes_.append(bytes);
    changed_.notify_all();
    if (bytes_.find("bad") != std::string::npos) return corrupt("these bytes are bad");
    return {};
  }
  void on_end(api::KvEnding ending) override {
    const std::scoped_lock lock(mutex_);
    ASSERT_FALSE(ended_.has_value()) << "it ends once";
    broken_ = ending.broken;
    ended_ = std::move(ending.how);
    changed_.notify_all();
  }

  std::string wait_bytes(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return bytes_.size() >= count || ended_; });
    return bytes_;
  }
  Result<void> wait_end() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_.has_value(); });
    return *ended_;
  }

  // REQUIRES: wait_end() returned.
  [[nodiscard]] bool broken() const { return broken_; }

  std::string refused;

 private:
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::string bytes_;
  std::optional<Result<void>> ended_;
  bool broken_ = false;
};

void answer_well(const api::PrefillOrder& /*order*/, net::Responder& responder) {
  responder.start_stream(200, {});
  responder.write("keys ");
  responder.write("and values");
  responder.finish();
}

TEST(PrefillClient, BringsTheAnswerToAnOrderAndKeepsTheOffer) {
  Worker worker(answer_well);
  PrefillClient client({.secret = "s3cret"});
  for (int i = 0; i < 3; ++i) {
    Inlet inlet;
    const auto call = client.ask(worker.url(), inlet);
    EXPECT_TRUE(inlet.wait_end().ok());
    EXPECT_EQ(inlet.wait_bytes(15), "keys and values");
  }
  EXPECT_EQ(worker.offers(), 1);
  worker.restart();
  Inlet inlet;
  const auto call = client.ask(worker.url(), inlet);
  EXPECT_TRUE(inlet.wait_end().ok());
  EXPECT_EQ(worker.offers(), 2);
}

TEST(PrefillClient, HangingUpCutsTheConnectionAndSilencesIt) {
  Worker worker([](const api::PrefillOrder&, net::Responder& responder) {
    responder.start_stream(200, {});
    responder.write("first");
  });
  PrefillClient client({.secret = "s3cret"});
  Inlet inlet;
  auto call = client.ask(worker.url(), inlet);
  EXPECT_EQ(inlet.wait_bytes(5), "first");
  call.reset();
  worker.wait_gone(1);
}

TEST(PrefillClient, AnInletThatHasEnoughOfItEndsTheConnection) {
  Worker worker([](const api::PrefillOrder&, net::Responder& responder) {
    responder.start_stream(200, {});
    responder.write("bad");
  });
  PrefillClient client({.secret = "s3cret"});
  Inlet inlet;
  const auto call = client.ask(worker.url(), inlet);
  EXPECT_THAT(inlet.wait_end().error().message, HasSubstr("these bytes are bad"));
  worker.wait_gone(1);
}

TEST(PrefillClient, SaysWhyThereIsNoAnswer) {
  bool broken = false;
  const auto why = [&broken](Worker::Answer answer, const std::string& secret = "s3cret") {
    Worker worker(std::move(answer));
    PrefillClient client({.secret = secret, .silence_max = std::chrono::milliseconds{300}});
    Inlet inlet;
    const auto call = client.ask(worker.url(), inlet);
    Error error = inlet.wait_end().error();
    broken = inlet.broken();
    return error;
  };
  EXPECT_THAT(why(answer_well, "another").message, HasSubstr("another cluster secret"));
  EXPECT_THAT(
      why([](const api::PrefillOrder&, net::Responder& responder) {
        responder.respond({.status = 503, .body = R"({"error":{"message":"it is draining"}})"});
      }).message,
      HasSubstr("it is draining")
  );
  EXPECT_FALSE(broken);
  EXPECT_EQ(
      why([](const api::PrefillOrder&, net::Responder& responder) {
        responder.start_stream(200, {});
        responder.write("half");
        responder.abort();
      }).kind,
      ErrorKind::Unavailable
  );
  EXPECT_TRUE(broken);
  const Error silent = why([](const api::PrefillOrder&, net::Responder& responder) {
    responder.start_stream(200, {});
    responder.write("half");
  });
  EXPECT_EQ(silent.kind, ErrorKind::Timeout);
  EXPECT_TRUE(broken);
}

TEST(PrefillClient, WhatIsNoWorkerIsToldToo) {
  PrefillClient client({.secret = "s3cret"});
  Inlet inlet;
  const auto call = client.ask("ftp://nowhere", inlet);
  EXPECT_FALSE(inlet.wait_end().ok());
  Inlet other;
  const auto second = client.ask("http://127.0.0.1:1", other);
  EXPECT_EQ(other.wait_end().error().kind, ErrorKind::Unavailable);
  EXPECT_FALSE(other.broken());
}

TEST(PrefillClient, AnOfferThatIsRefusedIsNotOrdered) {
  Worker worker([](const api::PrefillOrder&, net::Responder&) { FAIL() << "nothing was ordered"; });
  PrefillClient client({.secret = "s3cret"});
  Inlet inlet;
  inlet.refused = "start 1";
  const auto call = client.ask(worker.url(), inlet);
  EXPECT_THAT(inlet.wait_end().error().message, HasSubstr("not this one"));
}

}  // namespace
}  // namespace pleiad::server
