#include "apps/worker_registry.h"

#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/live_router.h"

namespace pleiad::apps {
namespace {

using ::testing::HasSubstr;

constexpr const char* kNobody = "http://127.0.0.1:1";

std::string hello(const std::string& url, const std::string& lease = "10") {
  return R"({"url":")" + url + R"(","lease_seconds":)" + lease + "}";
}

TEST(WorkerUrl, HasOneForm) {
  EXPECT_EQ(WorkerRegistry::worker_url("http://a:80/").value(), "http://a:80");
  EXPECT_EQ(WorkerRegistry::worker_url("http://[::1]:9").value(), "http://[::1]:9");
  EXPECT_THAT(WorkerRegistry::worker_url("http://a/x").error().message, HasSubstr("a path"));
  EXPECT_FALSE(WorkerRegistry::worker_url("a:80").ok());
}

TEST(WorkerRegistry, AWorkerThatSaysSoIsHereAndRemovedWhenItGoes) {
  const LiveRouter router;

  EXPECT_EQ(router.peer("register", hello("http://127.0.0.1:1/")).status, 200);
  EXPECT_EQ(router.worker(kNobody).find("registered")->as_bool(), true);
  EXPECT_GT(router.worker(kNobody).find("lease_seconds")->as_double(), 5.0);
  EXPECT_EQ(router.peer("register", hello(kNobody)).status, 200) << "again and again";
  EXPECT_THAT(
      router.ask("GET", "/metrics").body,
      HasSubstr("pleiad_router_registrations_total{event=\"registered\"} 1")
  );

  EXPECT_EQ(router.peer("deregister", R"({"url":"http://127.0.0.1:1"})").status, 204);
  while (!router.worker(kNobody).is_null())
    std::this_thread::yield();
  const std::string metrics = router.ask("GET", "/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("pleiad_router_registrations_total{event=\"removed\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("pleiad_router_registered_workers 0"));
}

TEST(WorkerRegistry, AnOperatorsWorkerStaysThoughItIsDown) {
  RouteSettings settings = router_settings();
  settings.workers = {"http://127.0.0.1:1/"};
  const LiveRouter router(std::move(settings));

  EXPECT_EQ(router.peer("register", hello(kNobody)).status, 200);
  EXPECT_EQ(router.worker(kNobody).find("registered")->as_bool(), false);
  EXPECT_EQ(router.peer("deregister", R"({"url":"http://127.0.0.1:1"})").status, 204);
  while (*router.worker(kNobody).find("state")->as_string() != "down")
    std::this_thread::yield();
  EXPECT_FALSE(router.worker(kNobody).is_null());
}

TEST(WorkerRegistry, WhomAnOperatorRemovedStaysAwayUntilTakenInAgain) {
  const LiveRouter router;
  EXPECT_EQ(router.peer("register", hello(kNobody)).status, 200);

  EXPECT_EQ(router.admin("DELETE", "/workers?url=http://127.0.0.1:1").status, 200);

  const auto back = router.peer("register", hello(kNobody));
  EXPECT_EQ(back.status, 403);
  EXPECT_THAT(back.body, HasSubstr("POST /workers"));
  EXPECT_TRUE(router.worker(kNobody).is_null());
  EXPECT_EQ(router.admin("POST", "/workers", R"({"url":"http://127.0.0.1:1"})").status, 200);
  EXPECT_EQ(router.peer("register", hello(kNobody)).status, 200);
  EXPECT_EQ(router.worker(kNobody).find("registered")->as_bool(), false) << "the operator's";
}

TEST(WorkerRegistry, OnlyPeersMayRegisterAndOnlyWell) {
  const LiveRouter router;
  EXPECT_EQ(router.ask("POST", "/internal/register", hello(kNobody), "wrong").status, 401);
  EXPECT_EQ(router.ask("POST", "/internal/register", hello(kNobody)).status, 401);
  EXPECT_EQ(router.ask("POST", "/internal/register", hello(kNobody), kTestAdminKey).status, 401);
  EXPECT_EQ(router.peer("other", "{}").status, 404);
  EXPECT_EQ(router.peer("register", "{").status, 400);
  EXPECT_THAT(router.peer("register", "{}").body, HasSubstr("url is missing"));
  EXPECT_THAT(router.peer("register", hello("ftp://a")).body, HasSubstr("error"));
  EXPECT_EQ(router.peer("register", hello("http://a/x")).status, 400);
  for (const char* lease : {"0", "-1", "3601", "\"1\"", "null"}) {
    EXPECT_THAT(router.peer("register", hello(kNobody, lease)).body, HasSubstr("from 1 to 3600"));
  }
  EXPECT_EQ(router.peer("register", std::string(5000, ' ')).status, 400);
}

}  // namespace
}  // namespace pleiad::apps
