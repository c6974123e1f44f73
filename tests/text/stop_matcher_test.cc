#include "text/stop_matcher.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::text {
namespace {

StopMatcher matcher_of(std::vector<std::string> strings, const StopOptions& options = {}) {
  return StopMatcher::create(std::move(strings), options).value();
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher = matcher_of({"END"});

  EXPECT_EQ(matcher.push("the E"), "the ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("T"), "ENT");
  EXPECT_EQ(matcher.push("E"), "");
  EXPECT_EQ(matcher.finish(), "E");
  EXPECT_EQ(matcher.matched(), std::nullopt);
}

TEST(StopMatcher, ShowsNothingOfTheStopNorBehindIt) {
  StopMatcher matcher = matcher_of({"x", "END"});

  EXPECT_EQ(matcher.push("a EN"), "a ");
  EXPECT_EQ(matcher.push("D tail"), "");
  EXPECT_EQ(matcher.matched(), 1U);
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, CanShowTheStopItself) {
  StopMatcher matcher = matcher_of({"END"}, {.include_stop = true});

  EXPECT_EQ(matcher.push("a EN"), "a ");
  EXPECT_EQ(matcher.push("D tail"), "END");
}

TEST(StopMatcher, FirstCompleteWinsAndTheLongestOfATie) {
  StopMatcher first = matcher_of({"abcd", "bc"});
  EXPECT_EQ(first.push("abcd"), "a");
  EXPECT_EQ(first.matched(), 1U);

  StopMatcher tie = matcher_of({"bc", "abc"});
  EXPECT_EQ(tie.push("xabc"), "x");
  EXPECT_EQ(tie.matched(), 1U);
}

TEST(StopMatcher, WithoutStringsLetsEverythingThrough) {
  StopMatcher matcher = matcher_of({});

  EXPECT_EQ(matcher.push("text"), "text");
}

TEST(StopMatcher, AgreesWithASearchOfTheWholeTextHoweverItIsCut) {
  constexpr std::uint64_t kSeed = 5;
  Random random(kSeed);
  const auto letters = [&random](std::uint64_t count) {
    std::string text;
    for (; count > 0; --count) {
      text += "ab"[random.below(2)];
    }
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::vector<std::string> stops{
        letters(1 + random.below(6)), letters(2 + random.below(6))};
    const std::string text = letters(random.below(40));
    std::size_t end = std::string::npos;  // of the stop that is complete first
    std::size_t begin = text.size();
    for (const std::string& stop : stops) {
      const std::size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      const std::size_t this_end = at + stop.size();
      if (end == std::string::npos || this_end < end || (this_end == end && at < begin)) {
        end = this_end;
        begin = at;
      }
    }
    StopMatcher matcher = matcher_of(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = 1 + random.below(5);
      shown += matcher.push(text.substr(at, length));
      at += length;
    }
    shown += matcher.finish();

    EXPECT_EQ(shown, text.substr(0, begin)) << "seed " << kSeed << ": " << text;
    EXPECT_EQ(matcher.matched().has_value(), end != std::string::npos);
  }
}

TEST(StopMatcher, RefusesStringsThatCannotStop) {
  EXPECT_FALSE(StopMatcher::create({""}).ok());
  EXPECT_FALSE(StopMatcher::create({"\xFF"}).ok());
  EXPECT_FALSE(StopMatcher::create(std::vector<std::string>(17, "a")).ok());
  EXPECT_FALSE(StopMatcher::create({std::string(5000, 'a')}).ok());
  EXPECT_FALSE(StopMatcher::create({"a", "b"}, {.strings_max = 1}).ok());
}

}  // namespace
}  // namespace pleiad::text
