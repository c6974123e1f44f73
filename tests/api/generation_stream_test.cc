#include "api/generation_stream.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::api {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Names what it gets.
class Log final : public GenerationSink {
 public:
  void on_prompt_token(const TokenEvent& event) override { note("prompt", event.chosen.token); }
  void on_token(const TokenEvent& event) override { note("token", event.chosen.token); }
  void on_finish(const FinishEvent& event) override { seen.push_back("finish " + event.message); }

  std::vector<std::string> seen;

 private:
  void note(const std::string& what, TokenId token) {
    seen.push_back(what + " " + std::to_string(token));
  }
};

std::string stream() {
  std::string bytes;
  append_prompt_token(bytes, {.chosen = {1, 0.5F}});
  append_token(bytes, {.chosen = {2, 0.5F}, .top_count = 1});
  append_alive(bytes);
  append_token(bytes, {.chosen = {3, 0.5F}});
  append_finish(bytes, {.message = "done"});
  return bytes;
}

TEST(GenerationStream, ComesApartInWhateverPiecesItArrives) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const std::string bytes = stream();
  for (int round = 0; round < 100; ++round) {
    Log log;
    GenerationStreamReader reader(log);
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = std::min<std::size_t>(random.below(20), bytes.size() - at);
      EXPECT_FALSE(reader.finished());
      ASSERT_TRUE(reader.feed(std::string_view(bytes).substr(at, size)).ok());
      at += size;
    }
    EXPECT_TRUE(reader.finished());
    EXPECT_THAT(log.seen, ElementsAre("prompt 1", "token 2", "token 3", "finish done"));
  }
}

std::string refusal(std::string_view bytes) {
  Log log;
  GenerationStreamReader reader(log);
  const auto fed = reader.feed(bytes);
  return fed.ok() ? "" : fed.error().message;
}

TEST(GenerationStream, BytesThatAreNoSuchStreamAreRefused) {
  EXPECT_THAT(refusal(stream() + "x"), HasSubstr("after the end"));
  EXPECT_THAT(refusal(std::string("\0\0\0\0\1", 5)), HasSubstr("a frame of 0 bytes"));
  EXPECT_THAT(refusal("\xff\xff\xff\x7f\x01"), HasSubstr("a frame of 2147483647 bytes"));
  EXPECT_THAT(refusal(std::string("\2\0\0\0\x09x", 6)), HasSubstr("kind 9"));
  EXPECT_NE(refusal(std::string("\2\0\0\0\1x", 6)), "");  // no token
  EXPECT_EQ(refusal(stream().substr(0, 10)), "");         // more may come
}

}  // namespace
}  // namespace pleiad::api
