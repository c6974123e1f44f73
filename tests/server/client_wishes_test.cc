#include "server/client_wishes.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::server {
namespace {

using ::testing::HasSubstr;

ClientWishes wishes(const net::HttpHeaders& headers) {
  return std::get<ClientWishes>(read_client_wishes(headers));
}

std::string refusal(const std::string& name, const std::string& value) {
  const auto read = read_client_wishes({{name, value}});
  const auto* error = std::get_if<ApiError>(&read);
  EXPECT_NE(error, nullptr) << name << ": " << value;
  return error == nullptr ? "" : error->message;
}

TEST(ClientWishes, AreOfTheHeaders) {
  EXPECT_FALSE(wishes({}).priority.has_value());
  EXPECT_TRUE(wishes({}).session.empty());

  const ClientWishes all =
      wishes({{"X-Priority", "batch"}, {"x-queue-timeout-ms", "250"}, {"x-session-id", "s 1"}});
  EXPECT_EQ(all.priority_class, "batch");
  EXPECT_EQ(all.patience, std::chrono::milliseconds(250));
  EXPECT_EQ(all.session, "s 1");
  EXPECT_EQ(wishes({{"x-priority", "-3"}}).priority, -3);
  EXPECT_TRUE(wishes({{"x-priority", "-3"}}).priority_class.empty());
}

TEST(ClientWishes, WhatTheyCannotBeIsNamed) {
  EXPECT_THAT(refusal("x-priority", ""), HasSubstr("x-priority"));
  EXPECT_THAT(refusal("x-priority", "99999999999"), HasSubstr("2147483647"));
  EXPECT_THAT(refusal("x-priority", "1-2"), HasSubstr("whole number"));
  EXPECT_THAT(refusal("x-priority", std::string(65, 'x')), HasSubstr("64"));
  for (const char* value : {"", "-1", "1s", "1.5", "3600001", "999999999999999999999"}) {
    EXPECT_THAT(refusal("x-queue-timeout-ms", value), HasSubstr("from 0 to 3600000")) << value;
  }
  EXPECT_THAT(refusal("x-session-id", ""), HasSubstr("1 to 512"));
  EXPECT_THAT(refusal("x-session-id", std::string(513, 'x')), HasSubstr("1 to 512"));
}

}  // namespace
}  // namespace pleiad::server
