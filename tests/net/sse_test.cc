#include "net/sse.h"

#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using testing::ElementsAre;

// The events of `bytes`, fed in pieces of `piece` bytes, as "type|id|data".
std::vector<std::string> events_of(std::string_view bytes, std::size_t piece = 1U << 20U) {
  std::vector<std::string> events;
  UniqueFunction<void(const SseEvent&)> collect = [&events](const SseEvent& event) {
    events.push_back(event.type + "|" + event.id + "|" + event.data);
  };
  SseParser parser;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    EXPECT_TRUE(parser.feed(bytes.substr(at, piece), collect).ok());
  }
  return events;
}

TEST(Sse, ReadsEveryLineEndCutAnywhere) {
  const std::string bytes =
      "\xEF\xBB\xBF: hi\r\ndata: a\r\rdata:b\ndata:  c\n\nevent: e\r\nid: 7\r\ndata\r\n\r\n"
      "data: gr\xC3\xBC\xC3\x9F\n\n\ndata: [DONE]\n\ndata: cut";

  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    EXPECT_THAT(
        events_of(bytes, piece),
        ElementsAre("||a", "||b\n c", "e|7|", "||gr\xC3\xBC\xC3\x9F", "||[DONE]")
    ) << piece;
  }
}

TEST(Sse, SkipsEventsWithoutDataAndUnknownFields) {
  EXPECT_THAT(events_of("event: ping\n\nretry: 5\nfoo\n\ndata: x\n\n"), ElementsAre("||x"));
}

TEST(Sse, ReplacesIllFormedUtf8) {
  EXPECT_THAT(events_of("data: a\xFFz\n\n"), ElementsAre("||a\xEF\xBF\xBDz"));
}

TEST(Sse, RefusesAnEventThatIsTooLong) {
  int events = 0;
  UniqueFunction<void(const SseEvent&)> count = [&events](const SseEvent&) { ++events; };
  SseParser lines(100);
  SseParser data(100);

  EXPECT_FALSE(lines.feed("data: " + std::string(100, 'x'), count).ok());
  EXPECT_FALSE(lines.feed("\n\n", count).ok());
  const std::string half = "data: " + std::string(60, 'x') + "\n";
  EXPECT_TRUE(data.feed(half, count).ok());
  EXPECT_FALSE(data.feed(half, count).ok());
  EXPECT_EQ(events, 0);
}

TEST(Sse, WritesWhatItReads) {
  std::string out;
  append_sse_data("{\"a\":1}", out);
  append_sse_comment("still here", out);
  append_sse_event({.type = "error", .data = "x\r\ny\rz\n", .id = "3"}, out);

  EXPECT_EQ(
      out,
      "data: {\"a\":1}\n\n: still here\n\nevent: error\nid: 3\ndata: x\ndata: y\ndata: z\ndata: "
      "\n\n"
  );
  EXPECT_THAT(events_of(out), ElementsAre("||{\"a\":1}", "error|3|x\ny\nz\n"));
}

}  // namespace
}  // namespace pleiad::net
