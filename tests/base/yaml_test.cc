#include "base/yaml.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad {
namespace {

using testing::HasSubstr;

std::string json_of(std::string_view text) {
  const auto value = parse_yaml(text);
  return value.ok() ? value->dump() : "refused: " + value.error().message;
}

std::string refusal(std::string_view text, const YamlLimits& limits = {}) {
  const auto value = parse_yaml(text, limits);
  if (value.ok()) return "";
  EXPECT_EQ(value.error().kind, ErrorKind::InvalidInput);
  return value.error().message;
}

TEST(Yaml, ReadsMappingsListsAndScalarsInOrder) {
  EXPECT_EQ(
      json_of("# a service\nep-size: 8\nname: fable\nkeys:\n  - one\n  - 2.5\nmap: {b: 1, a: []}\n"
      ),
      R"({"ep-size":8,"name":"fable","keys":["one",2.5],"map":{"b":1,"a":[]}})"
  );
}

TEST(Yaml, OnlyWhatJsonCallsANumberOrTruthValueIsOne) {
  EXPECT_EQ(
      json_of("[yes, No, on, 0x10, 007, 1_000, +1, .5, true, -3, 1e3, ~, null]"),
      R"(["yes","No","on","0x10","007","1_000","+1",".5",true,-3,1000.0,null,null])"
  );
  EXPECT_EQ(json_of("['1', \"true\", \"\"]"), R"(["1","true",""])");
  EXPECT_EQ(json_of("1e999"), R"("1e999")");
}

TEST(Yaml, AnEmptyTextIsNull) {
  EXPECT_EQ(json_of(""), "null");
  EXPECT_EQ(json_of("# nothing\n"), "null");
  EXPECT_EQ(json_of("key:"), R"({"key":null})");
}

TEST(Yaml, JsonIsYaml) {
  EXPECT_EQ(json_of(R"({"a": [1, {"b": "x\ty"}]})"), R"({"a":[1,{"b":"x\ty"}]})");
}

TEST(Yaml, MalformedTextIsToldWithItsPlace) {
  EXPECT_THAT(refusal("a: 1\nb: [1,\n"), HasSubstr("YAML line"));
  EXPECT_THAT(refusal("a: 1\n  b: 2\n"), HasSubstr("line 2"));
  EXPECT_THAT(refusal("\"open"), HasSubstr("YAML line"));
  EXPECT_THAT(refusal("a: \xFF"), HasSubstr("UTF-8"));
}

TEST(Yaml, WhatCanHideOrExplodeIsRefused) {
  EXPECT_THAT(refusal("a: 1\na: 2\n"), HasSubstr("line 2 column 1: duplicate key \"a\""));
  EXPECT_THAT(refusal("a: &x 1\nb: *x\n"), HasSubstr("anchors"));
  EXPECT_THAT(refusal("a: !!python/object 1"), HasSubstr("tag"));
  EXPECT_THAT(refusal("a: !!str 1"), HasSubstr("tag"));
  EXPECT_THAT(refusal("[a]: 1"), HasSubstr("key"));
  EXPECT_THAT(refusal("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
}

TEST(Yaml, LimitsHold) {
  EXPECT_EQ(refusal("[[1]]", {.depth_max = 2}), "");
  EXPECT_THAT(refusal("[[[1]]]", {.depth_max = 2}), HasSubstr("deeper than 2"));
  EXPECT_THAT(refusal("abcd", {.bytes_max = 3}), HasSubstr("at most 3"));
  EXPECT_THAT(refusal("{a: 1, b: 2}", {.members_max = 1}), HasSubstr("more than 1 keys"));
  EXPECT_NE(refusal(std::string(100'000, '[')), "");
}

}  // namespace
}  // namespace pleiad
