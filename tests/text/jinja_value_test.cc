#include "text/detail/jinja_value.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

TEST(JinjaValue, TheHeapHasALimit) {
  Heap heap({.bytes_max = 1000, .depth_max = 3});

  EXPECT_TRUE(heap.text("small").ok());
  EXPECT_FALSE(heap.text(std::string(2000, 'x')).ok());
}

TEST(JinjaValue, ContainersNestOnlySoDeep) {
  Heap heap({.depth_max = 3});
  Value value = *heap.list({});
  value = *heap.list({value});
  value = *heap.list({value});

  EXPECT_FALSE(heap.list({value}).ok());
  EXPECT_FALSE(heap.dict({{Value(true), value}}).ok());
}

TEST(JinjaValue, WhatComesFromTheRequestIsUntrusted) {
  Heap heap({});

  for (const char* json : {"1", "1.5", "true", "\"a\"", "[1]", "{\"a\":null}"}) {
    EXPECT_TRUE(is_untrusted(*heap.from_json(*parse_json(json)))) << json;
  }
  EXPECT_FALSE(is_untrusted(*heap.from_json(Json())));
  EXPECT_FALSE(is_untrusted(*heap.text("ours")));
}

TEST(JinjaValue, InnerScopesSeeOuterOnes) {
  Frame outer;
  Frame inner{&outer, {}};
  outer.set(1, Value(std::int64_t{1}));
  outer.set(1, Value(std::int64_t{2}));
  inner.set(2, Value(true));

  EXPECT_EQ(*inner.find(1)->get<std::int64_t>(), 2);
  EXPECT_EQ(outer.find(2), nullptr);
}

}  // namespace
}  // namespace pleiad::text::detail
