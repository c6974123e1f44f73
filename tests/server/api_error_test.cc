#include "server/api_error.h"

#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

TEST(ApiError, HasAllFourMembersWhateverIsKnown) {
  EXPECT_EQ(
      json(error_json({.message = "no \"quotes\"\n"})),
      json(R"({"error": {"message": "no \"quotes\"\n", "type": "invalid_request_error",
                         "param": null, "code": null}})")
  );
  EXPECT_EQ(
      json(error_json(bad_parameter("n", "too many"))),
      json(R"({"error": {"message": "too many", "type": "invalid_request_error",
                         "param": "n", "code": "invalid_value"}})")
  );
}

TEST(ApiError, GivesEachKindOfErrorItsStatusAndType) {
  struct Case {
    ErrorKind kind;
    int status;
    std::string_view type;
  };
  const Case cases[] = {
      {ErrorKind::InvalidInput, 400, "invalid_request_error"},
      {ErrorKind::Unsupported, 400, "invalid_request_error"},
      {ErrorKind::Corrupt, 400, "invalid_request_error"},
      {ErrorKind::NotFound, 404, "invalid_request_error"},
      {ErrorKind::Exhausted, 429, "rate_limit_error"},
      {ErrorKind::Unavailable, 503, "server_error"},
      {ErrorKind::Timeout, 504, "timeout"},
      {ErrorKind::Cancelled, 500, "server_error"},
      {ErrorKind::Internal, 500, "server_error"},
  };
  for (const Case& c : cases) {
    const ApiError error = from_error({c.kind, "words"});
    EXPECT_EQ(error.status, c.status) << to_string(c.kind);
    EXPECT_EQ(error.type, c.type) << to_string(c.kind);
  }
}

TEST(ApiError, KeepsTheWordsOfInternalErrorsInTheLog) {
  EXPECT_EQ(from_error(internal_error("/secret/path")).message, "internal error");
  EXPECT_EQ(from_error(invalid_input("n is 0")).message, "n is 0");
}

TEST(ErrorResponse, TellsWhenToTryAgain) {
  for (const int status : {429, 503}) {
    const auto response = error_response({.status = status}, 4'294'967'295U);
    EXPECT_EQ(response.headers.find("Retry-After"), "1");
    EXPECT_EQ(response.headers.find("retry-after-ms"), "1295");
  }
  EXPECT_EQ(error_response({.status = 503}).headers.find("retry-after-ms"), "1000");
}

TEST(ErrorResponse, TellsWhereTryingAgainCannotHelp) {
  EXPECT_EQ(error_response({.status = 500}).headers.find("x-should-retry"), "false");
  EXPECT_EQ(error_response({.status = 503}).headers.find("x-should-retry"), std::nullopt);
  EXPECT_EQ(error_response({.status = 400}).headers.find("Retry-After"), std::nullopt);
}

TEST(ErrorResponse, NamesTheSchemeOfKeys) {
  EXPECT_EQ(error_response({.status = 401}).headers.find("WWW-Authenticate"), "Bearer");
}

}  // namespace
}  // namespace pleiad::server
