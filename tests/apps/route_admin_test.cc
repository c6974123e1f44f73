#include "apps/route_admin.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/live_router.h"

namespace pleiad::apps {
namespace {

using ::testing::HasSubstr;

constexpr const char* kUrl = "http://127.0.0.1:1";
const std::string kBody = R"({"url":"http://127.0.0.1:1"})";

TEST(RouteAdmin, WithoutAnAdminKeyThereAreNoSuchRoutes) {
  RouteSettings settings = router_settings();
  settings.admin_keys.clear();
  const LiveRouter router(std::move(settings));

  const auto refused = router.ask("GET", "/workers");

  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.body, HasSubstr("--admin-key-file"));
}

TEST(RouteAdmin, ClientsKeysOpenNothing) {
  RouteSettings settings = router_settings();
  settings.api_keys = {"sk-client"};
  const LiveRouter router(std::move(settings));

  for (const char* path : {"/workers", "/workers/drain", "/workers/undrain", "/route/explain"}) {
    EXPECT_EQ(router.ask("POST", path, kBody).status, 401) << path;
    EXPECT_EQ(router.ask("POST", path, kBody, "sk-client").status, 401) << path;
  }
  EXPECT_EQ(router.ask("GET", "/v1/models", "", kTestAdminKey).status, 401);
  EXPECT_EQ(router.ask("GET", "/v1/models", "", "sk-client").status, 200);
}

TEST(RouteAdmin, WorkersComeDrainAndGo) {
  const LiveRouter router;

  EXPECT_EQ(router.admin("POST", "/workers", kBody).status, 200);
  EXPECT_THAT(router.admin("POST", "/workers", kBody).body, HasSubstr("already"));
  EXPECT_EQ(router.admin("POST", "/workers/drain", kBody).status, 200);
  EXPECT_EQ(router.worker(kUrl).find("draining")->as_bool(), true);
  EXPECT_EQ(router.admin("POST", "/workers/undrain", kBody).status, 200);
  EXPECT_EQ(router.worker(kUrl).find("draining")->as_bool(), false);
  EXPECT_EQ(router.admin("DELETE", "/workers", kBody).status, 200);
  EXPECT_TRUE(router.worker(kUrl).is_null());
  EXPECT_EQ(router.admin("DELETE", "/workers", kBody).status, 404);
  EXPECT_EQ(router.admin("POST", "/workers/drain", kBody).status, 404);
}

TEST(RouteAdmin, BadRequestsAreNamed) {
  const LiveRouter router;

  EXPECT_THAT(router.admin("POST", "/workers", "{}").body, HasSubstr("http://host:port"));
  EXPECT_THAT(
      router.admin("POST", "/workers", R"({"url":"http://a","rol":"decode"})").body,
      HasSubstr("rol is not known; nearest: role")
  );
  EXPECT_THAT(
      router.admin("POST", "/workers", R"({"url":"http://a","role":"encode"})").body,
      HasSubstr("decode")
  );
  EXPECT_EQ(router.admin("POST", "/workers", R"({"url":"a"})").status, 400);
  EXPECT_EQ(router.admin("POST", "/workers", "{").status, 400);
  EXPECT_EQ(router.admin("POST", "/workers", "[]").status, 400);
  EXPECT_EQ(router.admin("DELETE", "/workers?urls=x").status, 400);
  const auto wrong = router.admin("PUT", "/workers");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.find("Allow"), "GET, POST, DELETE");
  EXPECT_EQ(router.admin("GET", "/workers/drain").status, 405);
}

TEST(RouteAdmin, ExplainsWithoutSending) {
  const LiveRouter router;
  EXPECT_EQ(router.admin("POST", "/workers", kBody).status, 200);

  const auto prompt =
      router.admin("POST", "/route/explain", R"({"prompt":"Once upon a time","user":"u"})");
  EXPECT_EQ(prompt.status, 200) << prompt.body;
  EXPECT_THAT(prompt.body, HasSubstr(R"("choice":null)"));
  EXPECT_THAT(prompt.body, HasSubstr(R"("session":true)"));
  const auto chat =
      router.admin("POST", "/route/explain", R"({"messages":[{"role":"user","content":"hi"}]})");
  EXPECT_THAT(chat.body, HasSubstr(R"("policy":"cache_aware")"));
  EXPECT_EQ(router.admin("POST", "/route/explain", "{}").status, 400);
  EXPECT_EQ(router.admin("POST", "/route/explain", R"({"prompt":5})").status, 400);
}

}  // namespace
}  // namespace pleiad::apps
