#include "net/url.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(Url, NamesHostPortAndTarget) {
  const Url full = parse_url("http://example.org:8000/v1/models?a=b").value();
  EXPECT_EQ(full.host, "example.org");
  EXPECT_EQ(full.port, 8000);
  EXPECT_EQ(full.target, "/v1/models?a=b");
  const Url bare = parse_url("HTTP://localhost").value();
  EXPECT_EQ(bare.port, 80);
  EXPECT_EQ(bare.target, "/");
  const Url ipv6 = parse_url("http://[::1]:9?x").value();
  EXPECT_EQ(ipv6.host, "::1");
  EXPECT_EQ(ipv6.target, "/?x");
  EXPECT_EQ(host_and_port(ipv6), "[::1]:9");
}

TEST(Url, RefusesWhatItCannotReach) {
  for (const std::string_view text :
       {"",
        "http://",
        "https://a/",
        "ftp://a",
        "http://user@a/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:/",
        "http://a:x/",
        "http://a/ b",
        "http://a/#f",
        "http:///x",
        "http://a\\b/",
        "/x"}) {
    EXPECT_FALSE(parse_url(text).ok()) << text;
  }
}

TEST(Url, SplitsATargetAtTheFirstQuestionMark) {
  EXPECT_EQ(split_target("/a?b?c").path, "/a");
  EXPECT_EQ(split_target("/a?b?c").query, "b?c");
  EXPECT_EQ(split_target("/a").query, "");
}

TEST(Url, DecodesSegmentsAfterSplitting) {
  EXPECT_THAT(
      decode_path("/v1/models/a%2Fb%20c+d").value(), ElementsAre("v1", "models", "a/b c+d")
  );
  EXPECT_THAT(decode_path("/").value(), ElementsAre(""));
  EXPECT_THAT(decode_path("/a/").value(), ElementsAre("a", ""));
}

TEST(Url, RefusesMalformedPaths) {
  for (const std::string_view path :
       {"",
        "a",
        "/%",
        "/%4",
        "/%zz",
        "/%00",
        "/%0a",
        "/..",
        "/a/./b",
        "/%2e%2E/x",
        "/%ff",
        "/%c0%af"}) {
    EXPECT_FALSE(decode_path(path).ok()) << path;
  }
}

TEST(Url, DecodesQueries) {
  EXPECT_THAT(
      decode_query("a=1&b&c=%20x+y&=z").value(),
      ElementsAre(Pair("a", "1"), Pair("b", ""), Pair("c", " x y"), Pair("", "z"))
  );
  EXPECT_TRUE(decode_query("").value().empty());
  EXPECT_FALSE(decode_query("a=%1").ok());
}

}  // namespace
}  // namespace pleiad::net
