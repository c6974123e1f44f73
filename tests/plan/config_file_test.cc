#include "plan/config_file.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<FlagSetting> flags(std::string_view text) {
  const auto file = read_config_file(text);
  EXPECT_TRUE(file.ok()) << (file.ok() ? "" : file.error().message);
  return file.ok() ? file->flags : std::vector<FlagSetting>{};
}

std::string refusal(std::string_view text, const ConfigFileLimits& limits = {}) {
  const auto file = read_config_file(text, limits);
  if (file.ok()) return "";
  EXPECT_EQ(file.error().kind, ErrorKind::InvalidInput);
  return file.error().message;
}

FlagSetting flag(std::string name, std::vector<std::string> values) {
  return {std::move(name), std::move(values)};
}

TEST(ConfigFile, YamlKeysAreFlagsInEitherSpelling) {
  EXPECT_THAT(
      flags("model: m\nep_size: 8\nmem-fraction-static: 0.5\nenable-eplb: true\nport: \"0080\"\n"),
      ElementsAre(
          flag("model", {"m"}),
          flag("ep-size", {"8"}),
          flag("mem-fraction-static", {"0.5"}),
          flag("enable-eplb", {"true"}),
          flag("port", {"0080"})
      )
  );
}

TEST(ConfigFile, JsonGivesTheSameAsYaml) {
  EXPECT_EQ(
      flags(R"({"api_key": ["a", "b"], "ep-size": 8})"), flags("api-key: [a, b]\nep_size: 8\n")
  );
}

TEST(ConfigFile, ListsAreSeveralValuesAndWhatIsDeeperIsJsonText) {
  EXPECT_THAT(
      flags("api-key: [a, 1]\n"
            "alltoall-ep-buffer-scale-factors: [[8192, 5.2], [0, 8.0]]\n"
            "speculative-config: {method: mtp, num_speculative_tokens: 1}\n"),
      ElementsAre(
          flag("api-key", {"a", "1"}),
          flag("alltoall-ep-buffer-scale-factors", {"[[8192,5.2],[0,8.0]]"}),
          flag("speculative-config", {R"({"method":"mtp","num_speculative_tokens":1})"})
      )
  );
}

TEST(ConfigFile, AnEmptyFileSetsNothing) {
  EXPECT_THAT(flags(""), IsEmpty());
  EXPECT_THAT(flags("# only a comment\n"), IsEmpty());
  EXPECT_THAT(flags("{}"), IsEmpty());
}

TEST(ConfigFile, AMindieFileIsRecognisedAndMapped) {
  const auto file =
      read_config_file(R"({"ModelDeployConfig": {"ModelConfig": [{"moe_ep": 4}], "x": 1}})")
          .value();

  EXPECT_THAT(file.flags, ElementsAre(flag("ep-size", {"4"})));
  ASSERT_TRUE(file.mindie.has_value());
  EXPECT_EQ(file.mindie->entries.size(), 2U);
  EXPECT_THAT(
      refusal(R"({"ModelDeployConfig": {"ModelConfig": [{"moe_ep": 0}]}})"),
      HasSubstr("ModelDeployConfig.ModelConfig[0].moe_ep is 0")
  );
}

TEST(ConfigFile, WhatIsNoMappingOfFlagsIsRefused) {
  EXPECT_THAT(refusal("- a\n"), HasSubstr("holds a array"));
  EXPECT_THAT(refusal("just text"), HasSubstr("holds a string"));
  EXPECT_THAT(refusal("ep size: 3"), HasSubstr("\"ep size\" is no flag's name"));
  EXPECT_THAT(refusal("--ep-size: 3"), HasSubstr("without leading dashes"));
  EXPECT_THAT(refusal("EP_SIZE: 3"), HasSubstr("no flag's name"));
  EXPECT_THAT(refusal("ep-size:"), HasSubstr("\"ep-size\" has no value"));
  EXPECT_THAT(refusal("api-key: []"), HasSubstr("empty list"));
  EXPECT_THAT(refusal("api-key: [a, ~]"), HasSubstr("without a value"));
  EXPECT_THAT(refusal("{\"a\": }"), HasSubstr("malformed"));
}

TEST(ConfigFile, DuplicatesAreRefusedInEitherSpelling) {
  EXPECT_THAT(refusal("ep-size: 1\nep-size: 2\n"), HasSubstr("duplicate key"));
  EXPECT_THAT(
      refusal("ep-size: 1\nep_size: 2\n"), HasSubstr("\"ep_size\" gives --ep-size a second")
  );
}

TEST(ConfigFile, LimitsHold) {
  EXPECT_THAT(refusal("a: 1", {.bytes_max = 3}), HasSubstr("at most 3"));
  EXPECT_THAT(refusal("a: [[1]]", {.depth_max = 2}), HasSubstr("deeper than 2"));
  EXPECT_THAT(refusal("{\"a\": [[1]]}", {.depth_max = 2}), HasSubstr("deeper than 2"));
  EXPECT_THAT(refusal("a: 1\nb: 2\n", {.flags_max = 1}), HasSubstr("at most 1"));
}

}  // namespace
}  // namespace pleiad::plan
