#include "server/router_registration.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/http_server.h"

namespace pleiad::server {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Takes down who says what, and answers with `status`.
class FakeRouter {
 public:
  explicit FakeRouter(net::EventLoop& loop) {
    server_ = net::HttpServer::listen(
                  loop,
                  {},
                  [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
                    heard.push_back(request.path + " " + request.body);
                    secrets.emplace_back(request.headers.find("Authorization").value_or(""));
                    responder->respond({.status = status, .body = "{}"});
                    if (on_heard) on_heard();
                  }
    ).value();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()); }

  int status = 200;
  std::vector<std::string> heard;
  std::vector<std::string> secrets;
  std::function<void()> on_heard;

 private:
  std::unique_ptr<net::HttpServer> server_;
};

class RouterRegistrationTest : public ::testing::Test {
 protected:
  std::unique_ptr<RouterRegistration> registration(std::vector<std::string> routers) {
    return RouterRegistration::create(
               loop_,
               {.routers = std::move(routers),
                .url = "http://worker:1",
                .secret = "of tests",
                .lease = std::chrono::seconds(15),
                .interval = milliseconds(1),
                .retry = milliseconds(1)}
    )
        .value();
  }

  net::EventLoop loop_;
};

TEST_F(RouterRegistrationTest, SaysItAgainAndAgainAndGoodByeOnce) {
  FakeRouter router(loop_);
  const auto worker = registration({router.url()});
  router.on_heard = [&] {
    if (router.heard.size() == 3) worker->leave([this] { loop_.stop(); });
  };
  worker->start();

  loop_.run();

  const std::string hello = R"(/internal/register {"url":"http://worker:1","lease_seconds":15})";
  EXPECT_THAT(
      router.heard,
      ElementsAre(hello, hello, hello, R"(/internal/deregister {"url":"http://worker:1"})")
  );
  EXPECT_EQ(router.secrets.front(), "Bearer of tests");
}

TEST_F(RouterRegistrationTest, ARouterThatIsDownKeepsNothingFromOthers) {
  FakeRouter router(loop_);
  const auto worker = registration({"http://127.0.0.1:1", router.url()});
  router.on_heard = [&] {
    if (router.heard.size() == 2) worker->leave([this] { loop_.stop(); });
  };
  worker->start();

  loop_.run();

  EXPECT_EQ(router.heard.size(), 3U);
}

TEST_F(RouterRegistrationTest, ARefusalIsTriedAgain) {
  FakeRouter router(loop_);
  router.status = 401;
  const auto worker = registration({router.url()});
  router.on_heard = [&] {
    if (router.heard.size() == 2) router.status = 200;
    if (router.heard.size() == 4) loop_.stop();
  };
  worker->start();

  loop_.run();

  EXPECT_EQ(router.heard.size(), 4U);
}

TEST_F(RouterRegistrationTest, WithoutRoutersGoodByeIsSaidAtOnce) {
  const auto worker = registration({});
  worker->start();
  worker->leave([this] { loop_.stop(); });
  loop_.run();
}

TEST_F(RouterRegistrationTest, WhatIsNoRouterIsNamed) {
  for (const char* url : {"localhost:1", "http://a/path", "https://a"}) {
    const auto made = RouterRegistration::create(loop_, {.routers = {url}});
    ASSERT_FALSE(made.ok()) << url;
    EXPECT_EQ(made.error().kind, ErrorKind::InvalidInput);
  }
  EXPECT_THAT(
      RouterRegistration::create(loop_, {.routers = {"http://a/path"}}).error().message,
      HasSubstr("http://host:port")
  );
}

}  // namespace
}  // namespace pleiad::server
