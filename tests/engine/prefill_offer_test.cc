#include "engine/prefill_offer.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace pleiad::engine {
namespace {

using testing::HasSubstr;

PrefillOffer offer() {
  return {
      .identity =
          {.version = "1", .model = "m", .digest = "d", .compute = "float32", .page_tokens = 64},
      .instance = "one start",
      .lines =
          {.layers = 3,
           .heads = 4,
           .key_width = 16,
           .value_width = 16,
           .dtype = device::DType::BF16},
      .caches =
          {{.name = {.machine = "here", .process = 7, .file = 9, .bytes = 1U << 20U, .token = "t"},
            .heads = {2, 2},
            .pages = 10}},
  };
}

std::string refusal(const std::string& member, Json value) {
  Json json = parse_json(to_text(offer())).value();
  json.set(member, std::move(value));
  return prefill_offer_of(json.dump()).error().message;
}

std::string cache_refusal(const std::string& member, Json value) {
  Json json = parse_json(to_text(offer())).value();
  Json cache = json.find("caches")->as_array()->front();
  cache.set(member, std::move(value));
  json.set("caches", JsonArray{cache});
  return prefill_offer_of(json.dump()).error().message;
}

TEST(PrefillOffer, SurvivesItsText) {
  const auto back = prefill_offer_of(to_text(offer()));

  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->identity, offer().identity);
  EXPECT_EQ(back->instance, "one start");
  EXPECT_EQ(back->lines, offer().lines);
  ASSERT_EQ(back->caches.size(), 1U);
  EXPECT_EQ(back->caches[0].name, offer().caches[0].name);
  EXPECT_EQ(back->caches[0].heads, offer().caches[0].heads);
  EXPECT_EQ(back->caches[0].pages, 10);
  EXPECT_TRUE(check_pair(offer(), *back).ok());
}

TEST(PrefillOffer, WhatIsMissingOrNoneIsNamed) {
  for (const char* name : {"version", "digest", "instance", "dtype"}) {
    EXPECT_THAT(refusal(name, 5), HasSubstr(name));
  }
  for (const char* name : {"page_tokens", "layers", "heads", "value_width"}) {
    EXPECT_THAT(refusal(name, -1), HasSubstr(name));
    EXPECT_THAT(refusal(name, std::int64_t{1} << 40), HasSubstr(name));
  }
  EXPECT_THAT(refusal("dtype", "FLOAT"), HasSubstr("dtype FLOAT"));
  EXPECT_THAT(refusal("caches", "none"), HasSubstr("caches"));
  EXPECT_FALSE(prefill_offer_of("[").ok());
  EXPECT_FALSE(prefill_offer_of("{}").ok());
}

TEST(PrefillOffer, ACacheThatCannotHoldItsPagesIsRefused) {
  EXPECT_THAT(cache_refusal("bytes", 1000), HasSubstr("not what its lines need"));
  EXPECT_THAT(cache_refusal("pages", 0), HasSubstr("not what its lines need"));
  EXPECT_THAT(
      cache_refusal("pages", std::int64_t{UINT32_MAX}), HasSubstr("not what its lines need")
  );
  EXPECT_THAT(cache_refusal("heads", 3), HasSubstr("not what its lines need"));
  EXPECT_THAT(cache_refusal("heads", 0), HasSubstr("not what its lines need"));
  EXPECT_THAT(cache_refusal("process", -1), HasSubstr("process"));
  EXPECT_THAT(cache_refusal("token", 1), HasSubstr("token"));
}

TEST(PrefillOffer, PairsThatDifferAreRefusedWithBothValues) {
  PrefillOffer there = offer();
  there.identity.version = "2";
  EXPECT_THAT(check_pair(offer(), there).error().message, HasSubstr("version 1 here, 2 there"));
  there = offer();
  there.identity.page_tokens = 128;
  EXPECT_THAT(
      check_pair(offer(), there).error().message, HasSubstr("page_tokens 64 here, 128 there")
  );
  there = offer();
  there.lines.heads = 8;
  EXPECT_THAT(
      check_pair(offer(), there).error().message,
      HasSubstr("3 layers of 4 heads of 16 + 16 BF16 here, 3 layers of 8 heads")
  );
}

}  // namespace
}  // namespace pleiad::engine
