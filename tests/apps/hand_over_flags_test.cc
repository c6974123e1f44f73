#include "apps/hand_over_flags.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::apps {
namespace {

using ::testing::HasSubstr;

Result<HandOverChoice> choose(std::vector<std::string> words) {
  CLI::App app;
  HandOverFlags flags;
  add_hand_over_flags(app, flags);
  std::ranges::reverse(words);
  app.parse(words);
  return complete(flags);
}

TEST(HandOverFlags, ADefaultWorkerDoesBothHalves) {
  const HandOverChoice choice = choose({}).value();
  EXPECT_EQ(choice.role, api::Role::Both);
  EXPECT_TRUE(choice.share_memory);
  EXPECT_EQ(choice.lease, std::chrono::seconds{30});
}

TEST(HandOverFlags, RolesHaveTheNamesOfOtherEnginesToo) {
  EXPECT_EQ(choose({"--disaggregation-mode", "prefill"})->role, api::Role::Prefill);
  EXPECT_EQ(choose({"--role", "DECODE"})->role, api::Role::Decode);
  for (const char* word : {"both", "null", "PDFUSION"}) {
    EXPECT_EQ(choose({"--role", word})->role, api::Role::Both);
  }
  ::setenv("ROLE_TYPE", "DECODE", 1);
  EXPECT_EQ(choose({})->role, api::Role::Decode);
  EXPECT_EQ(choose({"--role", "prefill"})->role, api::Role::Prefill);
  ::unsetenv("ROLE_TYPE");
}

TEST(HandOverFlags, OtherValuesAreRefusedWithTheValidOnes) {
  EXPECT_THAT(
      choose({"--role", "encode"}).error().message,
      HasSubstr("--disaggregation-mode encode: not one of both, prefill, decode")
  );
  EXPECT_THAT(
      choose({"--disaggregation-transfer-backend", "mooncake"}).error().message,
      HasSubstr("not one of auto, tcp")
  );
  EXPECT_THAT(choose({"--disaggregation-hold-timeout", "0"}).error().message, HasSubstr("above 0"));
  EXPECT_THAT(
      choose({"--disaggregation-hold-timeout", "nan"}).error().message, HasSubstr("above 0")
  );
  EXPECT_FALSE(choose({"--disaggregation-transfer-backend", "tcp"})->share_memory);
  EXPECT_EQ(
      choose({"--disaggregation-hold-timeout", "0.5"})->lease, std::chrono::milliseconds{500}
  );
}

TEST(HandOverFlags, ARoleNamesWhatStandsInItsWay) {
  const auto refusal = [](const HandOverNeeds& needs) {
    return check_role(api::Role::Decode, needs).error().message;
  };
  EXPECT_THAT(refusal({}), HasSubstr("--cluster-secret-file"));
  EXPECT_THAT(refusal({.secret = true, .nodes = 2}), HasSubstr("--nnodes 2"));
  EXPECT_THAT(refusal({.secret = true, .gpu = true}), HasSubstr("--device cuda"));
  EXPECT_TRUE(check_role(api::Role::Decode, {.secret = true}).ok());
  EXPECT_TRUE(check_role(api::Role::Both, {.nodes = 2, .gpu = true}).ok());
}

}  // namespace
}  // namespace pleiad::apps
