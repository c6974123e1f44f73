// Also tests: mapping_reader.cc
#include "router/policy_file.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kDigest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

const std::string kWhole = R"(
policy: power_of_two
balance_rel_threshold: 2
balance_abs_threshold: 100
prefill_threshold: 2048
max_concurrent_requests: 64
max_concurrent_tokens: 100000
assumed_output_tokens: 256
classes:
  - name: interactive
    priority: 0
    weight: 8
    queue_requests_max: 32
    wait_seconds_max: 2.5
  - {name: batch, priority: 100}
keys:
  - name: team-a
    sha256: )" + kDigest + R"(
    classes: [interactive, batch]
    requests_per_minute: 60
    tokens_per_minute: 100000
    concurrent_requests: 4
  - name: nightly
    classes: batch
other_keys:
  classes: [batch]
  requests_per_minute: 10
)";

std::string refusal(const std::string& text) {
  const auto read = read_policy_file(text, {});
  EXPECT_FALSE(read.ok()) << text;
  return read.ok() ? "" : read.error().message;
}

TEST(PolicyFile, HoldsAllThatAnOperatorDecides) {
  const RouterPolicy policy = read_policy_file(kWhole, {}).value();

  EXPECT_EQ(policy.routing.kind, PolicyKind::PowerOfTwo);
  EXPECT_EQ(policy.routing.balance_relative, 2.0);
  EXPECT_EQ(policy.routing.balance_tokens, 100);
  EXPECT_EQ(policy.prefill_tokens_min, 2048);
  const AdmissionRules& rules = policy.admission;
  EXPECT_EQ(rules.concurrent_max, 64U);
  EXPECT_EQ(rules.tokens_max, 100'000);
  EXPECT_EQ(rules.assumed_output_tokens, 256);
  ASSERT_EQ(rules.classes.size(), 2U);
  EXPECT_EQ(rules.classes[0].weight, 8);
  EXPECT_EQ(rules.classes[0].queue_max, 32U);
  EXPECT_EQ(rules.classes[0].wait_max, milliseconds(2500));
  EXPECT_EQ(rules.classes[1].priority, 100);
  EXPECT_EQ(rules.classes[1].wait_max, seconds(30));
  ASSERT_EQ(rules.keys.size(), 2U);
  EXPECT_THAT(rules.keys[0].classes, ElementsAre("interactive", "batch"));
  EXPECT_EQ(rules.keys[0].requests_per_minute, 60);
  EXPECT_EQ(rules.keys[0].concurrent_max, 4U);
  EXPECT_FALSE(rules.keys[1].tokens_per_minute.has_value());
  EXPECT_EQ(rules.other_keys.requests_per_minute, 10);
  ASSERT_EQ(policy.keys.size(), 1U);
  EXPECT_EQ(policy.keys[0].name, "team-a");
  EXPECT_EQ(policy.keys[0].digest, sha256("abc"));
}

TEST(PolicyFile, WhatItLeavesOutIsAsBefore) {
  RouterPolicy defaults;
  defaults.routing.kind = PolicyKind::RoundRobin;
  defaults.admission.concurrent_max = 7;

  EXPECT_EQ(read_policy_file("", defaults)->routing.kind, PolicyKind::RoundRobin);
  const auto read = read_policy_file("balance_abs_threshold: 5", defaults).value();
  EXPECT_EQ(read.routing.kind, PolicyKind::RoundRobin);
  EXPECT_EQ(read.routing.balance_tokens, 5);
  EXPECT_EQ(read.admission.concurrent_max, 7U);
  EXPECT_EQ(read_policy_file(R"({"policy": "random"})", {})->routing.kind, PolicyKind::Random);
}

TEST(PolicyFile, WhatIsNotKnownIsRefusedWithTheNearestThatIs) {
  EXPECT_THAT(refusal("polcy: random"), AllOf(HasSubstr("polcy"), HasSubstr("nearest: policy")));
  EXPECT_THAT(
      refusal("classes: [{name: a, wait_second_max: 1}]"),
      AllOf(HasSubstr("classes[0].wait_second_max"), HasSubstr("nearest: wait_seconds_max"))
  );
  EXPECT_THAT(
      refusal("keys: [{name: a, rpm: 1}]"), AllOf(HasSubstr("keys[0].rpm"), HasSubstr("known: "))
  );
  EXPECT_THAT(refusal("policy: cache"), AllOf(HasSubstr("policy"), HasSubstr("cache_aware")));
  EXPECT_THAT(
      refusal("classes: [{name: fast}]\nkeys: [{name: a, classes: [fats]}]"),
      AllOf(HasSubstr("keys[0].classes names class fats"), HasSubstr("nearest: fast"))
  );
  EXPECT_THAT(
      refusal("other_keys: {name: x}"), HasSubstr("other_keys.name is no key of a policy file")
  );
}

TEST(PolicyFile, ValuesOutOfRangeAreRefusedWithTheNearestThatIsNot) {
  EXPECT_THAT(
      refusal("keys: [{name: a}, {name: b, tokens_per_minute: 0}]"),
      AllOf(HasSubstr("keys[1].tokens_per_minute"), HasSubstr("nearest valid value 1"))
  );
  EXPECT_THAT(refusal("balance_rel_threshold: 0.5"), HasSubstr("nearest valid value 1"));
  EXPECT_THAT(refusal("max_concurrent_requests: many"), HasSubstr("got \"many\""));
  EXPECT_THAT(refusal("balance_rel_threshold: [1]"), HasSubstr("got an array"));
  EXPECT_THAT(refusal("max_concurrent_tokens: 1.5"), HasSubstr("whole number"));
  EXPECT_THAT(refusal("policy:"), HasSubstr("policy has no value"));
  EXPECT_THAT(refusal("policy: 3"), HasSubstr("must be a text"));
  EXPECT_THAT(refusal("keys: {}"), HasSubstr("keys must be a list"));
  EXPECT_THAT(refusal("classes: []"), HasSubstr("classes is empty"));
  EXPECT_THAT(refusal("- policy"), HasSubstr("the file must be a mapping"));
  EXPECT_THAT(refusal("keys: [{name: a, classes: []}]"), HasSubstr("keys[0].classes is empty"));
  EXPECT_THAT(refusal("keys: [{name: a, classes: [1]}]"), HasSubstr("keys[0].classes[0]"));
}

TEST(PolicyFile, NamesAreUniqueAndPlain) {
  EXPECT_THAT(refusal("classes: [{name: a}, {name: a}]"), HasSubstr("a class a already"));
  EXPECT_THAT(
      refusal("classes: [{name: a, priority: 1}, {name: b, priority: 1}]"),
      HasSubstr("class a has 1 already")
  );
  EXPECT_THAT(refusal("keys: [{name: a}, {name: a}]"), HasSubstr("a key a already"));
  EXPECT_THAT(refusal("classes: [{weight: 1}]"), HasSubstr("classes[0].name is missing"));
  EXPECT_THAT(refusal("classes: [{name: 'a b'}]"), HasSubstr("letters, digits"));
  EXPECT_THAT(refusal("classes: [{name: '12'}]"), HasSubstr("not only digits"));
  EXPECT_THAT(refusal("keys: [{name: ''}]"), HasSubstr("keys[0].name"));
}

TEST(PolicyFile, WhatMayBeAKeyIsNeverRepeated) {
  EXPECT_THAT(
      refusal("keys: [{name: a, sha256: sk-of-somebody}]"),
      AllOf(HasSubstr("sha256sum"), HasSubstr("14 bytes"), Not(HasSubstr("sk-of-somebody")))
  );
  EXPECT_THAT(
      refusal("keys: [{name: a, sha256: " + kDigest + "}, {name: b, sha256: [" + kDigest + "]}]"),
      AllOf(HasSubstr("a has that key already"), Not(HasSubstr(kDigest)))
  );
}

TEST(PolicyFile, BrokenAndLargeTextIsRefused) {
  EXPECT_THAT(refusal("policy: [random"), HasSubstr("line"));
  EXPECT_THAT(refusal(std::string(kPolicyFileBytesMax + 1, ' ')), HasSubstr("bytes"));
  std::string many = "classes:\n";
  for (int i = 0; i < 17; ++i) {
    many += "  - name: c" + std::to_string(i) + "\n";
  }
  EXPECT_THAT(refusal(many), HasSubstr("at most 16"));
}

}  // namespace
}  // namespace pleiad::router
