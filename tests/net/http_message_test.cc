#include "net/http_message.h"

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

TEST(HttpHeaders, CompareNamesWithoutCase) {
  HttpHeaders headers{{"Accept", "a"}, {"X-Key", "1"}, {"x-key", "2"}};

  EXPECT_EQ(headers.find("x-KEY"), "1");
  EXPECT_EQ(headers.count("X-KEY"), 2U);
  EXPECT_FALSE(headers.find("none").has_value());
  headers.set("X-key", "3");
  EXPECT_EQ(headers.count("x-key"), 1U);
  EXPECT_EQ(headers.find("x-key"), "3");
  headers.remove("accept");
  EXPECT_EQ(headers.size(), 1U);
}

TEST(HttpMessage, FindsTokensInLists) {
  EXPECT_TRUE(list_contains("close", "Close"));
  EXPECT_TRUE(list_contains(" a ,\tCLOSE ", "close"));
  EXPECT_FALSE(list_contains("closed, not-close", "close"));
  EXPECT_FALSE(list_contains("", "close"));
}

TEST(HttpMessage, WritesTheErrorObject) {
  EXPECT_EQ(
      error_body(400, "a \"b\""),
      R"({"error":{"message":"a \"b\"","type":"invalid_request_error","param":null,"code":null}})"
  );
  EXPECT_NE(error_body(503, "").find("server_error"), std::string::npos);
  EXPECT_NE(error_body(408, "").find("timeout"), std::string::npos);
  EXPECT_EQ(status_text(404), "Not Found");
  EXPECT_EQ(status_text(299), "Unknown");
}

}  // namespace
}  // namespace pleiad::net
