#include "engine/request_check.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kVocabulary = 100;

sched::SchedulerOptions limits() {
  return {.pages = 2, .sequence_tokens_max = 200};
}

Result<void> check(const api::GenerationRequest& request) {
  return check_request(request, limits(), kVocabulary);
}

std::string refusal(const api::GenerationRequest& request) {
  const auto checked = check(request);
  if (checked.ok()) return "accepted";
  EXPECT_EQ(checked.error().kind, ErrorKind::InvalidInput);
  return checked.error().message;
}

TEST(RequestCheck, TakesWhatIsWithinEveryLimit) {
  EXPECT_TRUE(check({.prompt = {0, 99}, .max_tokens = 126}).ok());
  EXPECT_TRUE(check({.prompt = {1}, .max_tokens = 0, .prompt_top_logprobs = 20}).ok());
  EXPECT_TRUE(check({.prompt = {1}, .top_logprobs = 0}).ok());
  EXPECT_TRUE(check({.prompt = {1}, .cache_salt = std::string(api::kCacheSaltBytesMax, 's')}).ok());
}

TEST(RequestCheck, AResumedRequestHasAPromptBeforeItsOutput) {
  EXPECT_TRUE(check({.prompt = {1, 2, 3}, .resumed_tokens = 2}).ok());
  EXPECT_THAT(refusal({.prompt = {1, 2, 3}, .resumed_tokens = 3}), HasSubstr("between 0 and 2"));
  EXPECT_THAT(refusal({.prompt = {1}, .resumed_tokens = -1}), HasSubstr("got -1"));
  EXPECT_THAT(
      refusal({.prompt = {1, 2}, .resumed_tokens = 1, .prompt_top_logprobs = 0}),
      HasSubstr("scored its prompt already")
  );
}

TEST(RequestCheck, NamesTheFieldItsValueAndWhatIsAllowed) {
  EXPECT_THAT(refusal({.prompt = {}}), HasSubstr("no tokens"));
  EXPECT_THAT(refusal({.prompt = {1}, .max_tokens = -1}), HasSubstr("0 or more, got -1"));
  // The pages hold 128 tokens, less than a sequence may have.
  EXPECT_THAT(
      refusal({.prompt = {1, 2}, .max_tokens = 127}),
      HasSubstr("prompt of 2 tokens plus max_tokens 127 exceeds the context of 128 tokens")
  );
  EXPECT_THAT(refusal({.prompt = {1, 100}}), HasSubstr("prompt token id 100 is not below"));
  EXPECT_THAT(refusal({.prompt = {1}, .stop_tokens = {100}}), HasSubstr("stop token id 100"));
  EXPECT_THAT(refusal({.prompt = {1}, .top_logprobs = 21}), HasSubstr("between 0 and 20, got 21"));
  EXPECT_THAT(refusal({.prompt = {1}, .prompt_top_logprobs = -1}), HasSubstr("prompt_logprobs"));
  EXPECT_THAT(
      refusal({.prompt = {1}, .cache_salt = std::string(api::kCacheSaltBytesMax + 1, 's')}),
      HasSubstr("cache_salt of 4097 bytes is longer than 4096")
  );
  EXPECT_THAT(refusal({.prompt = {1}, .sampling = {.top_p = 2.0F}}), HasSubstr("top_p"));
}

}  // namespace
}  // namespace pleiad::engine
