#include "router/admission.h"

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::router {
namespace {

using api::AdmissionGrant;
using api::AdmissionRefusal;
using api::RefusalReason;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An Admission with a clock, and what it decided by ticket.
class Door {
 public:
  explicit Door(AdmissionRules rules) : admission_(std::move(rules), now) {}

  std::uint64_t enter_with(const api::Arrival& arrival) {
    const auto ticket = admission_.enter(arrival, now);
    gather();
    return ticket.value();
  }
  // A request of 10 + 90 tokens.
  std::uint64_t enter(const std::string& key, const std::string& priority_class = "") {
    return enter_with(
        {.key = key, .priority_class = priority_class, .prompt_tokens = 10, .output_tokens_max = 90}
    );
  }
  void leave(std::uint64_t ticket, std::int64_t tokens = 100) {
    admission_.leave(Admission::Ticket(ticket), tokens, now);
    gather();
  }
  void expire() {
    admission_.expire(now);
    gather();
  }
  void set_rules(AdmissionRules rules) {
    admission_.set_rules(std::move(rules), now);
    gather();
  }
  bool decided(std::uint64_t ticket) const { return decisions_.contains(ticket); }
  bool started(std::uint64_t ticket) const {
    return decided(ticket) && std::holds_alternative<AdmissionGrant>(decisions_.at(ticket).verdict);
  }
  const AdmissionGrant& grant(std::uint64_t ticket) const {
    return std::get<AdmissionGrant>(decisions_.at(ticket).verdict);
  }
  const AdmissionRefusal& refusal(std::uint64_t ticket) const {
    return std::get<AdmissionRefusal>(decisions_.at(ticket).verdict);
  }
  // Tickets in the order they started in.
  const std::vector<std::uint64_t>& order() const { return order_; }
  Admission& admission() { return admission_; }

  Nanoseconds now = seconds(1000);

 private:
  void gather() {
    for (Admission::Decision& decision : admission_.take_decisions()) {
      const std::uint64_t ticket = decision.ticket.value();
      EXPECT_FALSE(decided(ticket)) << "decided twice";
      if (std::holds_alternative<AdmissionGrant>(decision.verdict)) order_.push_back(ticket);
      decisions_.emplace(ticket, std::move(decision));
    }
  }

  Admission admission_;
  std::map<std::uint64_t, Admission::Decision> decisions_;
  std::vector<std::uint64_t> order_;
};

AdmissionRules one_at_a_time(std::size_t queue_max = 100) {
  return {.classes = {{.name = "default", .queue_max = queue_max}}, .concurrent_max = 1};
}

TEST(Admission, StartsWhatFitsAndKeepsTheRestInOrder) {
  Door door(one_at_a_time());

  const auto first = door.enter("a");
  const auto second = door.enter("a");
  const auto third = door.enter("a");

  EXPECT_THAT(door.order(), ElementsAre(first));
  door.leave(first);
  EXPECT_THAT(door.order(), ElementsAre(first, second));
  door.leave(third);  // does not want to wait any more
  door.leave(second);
  EXPECT_THAT(door.order(), ElementsAre(first, second));
  EXPECT_EQ(door.admission().running(), 0U);
}

TEST(Admission, LimitsRequestsPerMinuteAndSaysWhenToComeBack) {
  Door door({.other_keys = {.requests_per_minute = 2}});

  door.leave(door.enter("a"));
  door.leave(door.enter("a"));
  const auto third = door.enter("a");

  EXPECT_EQ(door.refusal(third).reason, RefusalReason::RequestsPerMinute);
  EXPECT_EQ(door.refusal(third).retry_after, seconds(30));
  EXPECT_THAT(door.refusal(third).message, HasSubstr("2 requests per minute"));
  EXPECT_EQ(door.refusal(third).rates.requests->remaining, 0);
  EXPECT_TRUE(door.started(door.enter("b"))) << "another key has limits of its own";
  door.now += seconds(30);
  EXPECT_TRUE(door.started(door.enter("a")));
}

TEST(Admission, ChargesTokensThatMayComeAndGivesBackThoseThatDidNot) {
  Door door({.other_keys = {.tokens_per_minute = 150}});

  const auto first = door.enter("a");
  const auto second = door.enter("a");
  EXPECT_EQ(door.grant(first).rates.tokens->remaining, 50);
  EXPECT_EQ(door.refusal(second).reason, RefusalReason::TokensPerMinute);
  EXPECT_EQ(door.refusal(second).retry_after, seconds(20)) << "50 of 150 a minute are missing";

  door.leave(first, 30);
  EXPECT_TRUE(door.started(door.enter("a"))) << "70 came back";
}

TEST(Admission, ARequestBeyondAMinutesTokensIsToldThatWaitingDoesNotHelp) {
  Door door({.other_keys = {.tokens_per_minute = 99}});

  const auto large = door.enter("a");

  EXPECT_EQ(door.refusal(large).reason, RefusalReason::TooLarge);
  EXPECT_FALSE(door.refusal(large).retry_after.has_value());
  EXPECT_THAT(door.refusal(large).message, HasSubstr("100 tokens"));
}

TEST(Admission, OutputWithoutABoundIsAssumedAndPaidAfterwards) {
  Door door({.other_keys = {.tokens_per_minute = 1000}, .assumed_output_tokens = 100});

  const auto open = door.enter_with(
      {.key = "a", .prompt_tokens = 10, .output_tokens_max = 100'000, .output_bounded = false}
  );
  EXPECT_EQ(door.grant(open).rates.tokens->remaining, 890);
  door.leave(open, 2010);

  const auto next = door.enter("a");
  EXPECT_EQ(door.refusal(next).reason, RefusalReason::TokensPerMinute);
  EXPECT_EQ(door.refusal(next).retry_after, milliseconds(66'600)) << "a debt of 1010, and 100";
}

TEST(Admission, RunsNoMoreOfAKeyThanItMayAndLetsOthersPast) {
  AdmissionRules rules{.classes = {{.name = "default", .queue_max = 9}}};
  rules.keys = {{.name = "a", .concurrent_max = 1}};
  Door door(rules);

  const auto first = door.enter("a");
  const auto second = door.enter("a");
  const auto other = door.enter("b");

  EXPECT_THAT(door.order(), ElementsAre(first, other));
  door.leave(first);
  EXPECT_TRUE(door.started(second));
}

TEST(Admission, KeysOfAClassShareByTokensHoweverManyRequestsTheySend) {
  Door door(one_at_a_time());
  auto running = door.enter("warm");
  std::vector<std::uint64_t> of_a;
  std::vector<std::uint64_t> of_b;
  for (int i = 0; i < 20; ++i) {
    of_a.push_back(door.enter("a"));
  }
  for (int i = 0; i < 4; ++i) {
    of_b.push_back(door.enter("b"));
  }

  for (int i = 0; i < 8; ++i) {
    door.leave(running);
    running = door.order().back();
  }

  EXPECT_TRUE(door.started(of_b.back())) << "four each";
  EXPECT_TRUE(door.started(of_a[3]));
  EXPECT_FALSE(door.started(of_a[4]));
}

TEST(Admission, ClassesShareByWeight) {
  AdmissionRules rules = one_at_a_time();
  rules.classes = {
      {.name = "fast", .weight = 3, .queue_max = 99}, {.name = "slow", .queue_max = 99}};
  Door door(rules);
  auto running = door.enter("a", "fast");
  std::map<std::uint64_t, std::string> of;
  for (int i = 0; i < 40; ++i) {
    of[door.enter("a", "slow")] = "slow";
    of[door.enter("a", "fast")] = "fast";
  }

  std::map<std::string, int> started;
  for (int i = 0; i < 40; ++i) {
    door.leave(running);
    running = door.order().back();
    ++started[of.at(running)];
  }

  EXPECT_NEAR(started["fast"], 30, 1);
  EXPECT_NEAR(started["slow"], 10, 1);
}

TEST(Admission, AFullLineLosesTheNewestOfTheKeyThatHasMost) {
  Door door(one_at_a_time(3));
  door.enter("warm");
  door.enter("a");
  door.enter("a");
  const auto newest_of_a = door.enter("a");
  EXPECT_FALSE(door.decided(newest_of_a));

  const auto of_b = door.enter("b");

  EXPECT_FALSE(door.decided(of_b)) << "it waits";
  EXPECT_EQ(door.refusal(newest_of_a).reason, RefusalReason::QueueFull);
  const auto more_of_a = door.enter("a");
  EXPECT_EQ(door.refusal(more_of_a).reason, RefusalReason::QueueFull);
  EXPECT_GE(*door.refusal(more_of_a).retry_after, seconds(1));
}

TEST(Admission, RefusalsCostNothing) {
  AdmissionRules rules = one_at_a_time(0);
  rules.other_keys = {.requests_per_minute = 10, .tokens_per_minute = 1000};
  Door door(rules);
  door.enter("warm");

  const auto refused = door.enter("a");

  EXPECT_EQ(door.refusal(refused).reason, RefusalReason::QueueFull);
  EXPECT_EQ(door.refusal(refused).rates.requests->remaining, 10);
  EXPECT_EQ(door.refusal(refused).rates.tokens->remaining, 1000);
}

TEST(Admission, NothingWaitsBeyondItsDeadline) {
  Door door(one_at_a_time());
  door.enter("a");
  const auto hasty = door.enter_with(
      {.key = "a", .prompt_tokens = 1, .output_tokens_max = 1, .patience = milliseconds(500)}
  );
  const auto patient = door.enter_with(
      {.key = "a", .prompt_tokens = 1, .output_tokens_max = 1, .patience = seconds(900)}
  );
  EXPECT_EQ(door.admission().next_deadline(), door.now + milliseconds(500));

  door.now += milliseconds(499);
  door.expire();
  EXPECT_FALSE(door.decided(hasty));
  door.now += milliseconds(1);
  door.expire();
  EXPECT_EQ(door.refusal(hasty).reason, RefusalReason::Deadline);
  EXPECT_TRUE(door.refusal(hasty).retry_after.has_value());
  door.now += milliseconds(29'500);
  door.expire();
  EXPECT_TRUE(door.decided(patient)) << "the class bounds the wait";
}

TEST(Admission, NoPatienceMeansNowOrNever) {
  Door door(one_at_a_time());
  const api::Arrival hasty{
      .key = "a", .prompt_tokens = 1, .output_tokens_max = 1, .patience = seconds(0)};

  EXPECT_TRUE(door.started(door.enter_with(hasty)));
  EXPECT_EQ(door.refusal(door.enter_with(hasty)).reason, RefusalReason::Deadline);
}

TEST(Admission, ALineThatMovesTooSlowlyTakesNobodyWhoCannotWaitSoLong) {
  Door door(one_at_a_time());
  auto running = door.enter("a");
  std::vector<std::uint64_t> waiting;
  for (int i = 0; i < 6; ++i) {
    waiting.push_back(door.enter("a"));
  }
  for (int i = 0; i < 3; ++i) {  // one a second
    door.now += seconds(1);
    door.leave(running);
    running = door.order().back();
  }

  const auto hasty = door.enter_with(
      {.key = "a", .prompt_tokens = 1, .output_tokens_max = 1, .patience = seconds(2)}
  );
  EXPECT_EQ(door.refusal(hasty).reason, RefusalReason::Deadline);
  EXPECT_THAT(door.refusal(hasty).message, HasSubstr("3 requests of class default wait already"));
  EXPECT_FALSE(door.decided(door.enter("a")));
}

TEST(Admission, AKeyAtItsOwnLimitDoesNotMakeTheLineLookSlow) {
  AdmissionRules rules{.classes = {{.name = "default", .queue_max = 9}}};
  rules.keys = {{.name = "slow", .concurrent_max = 1}};
  Door door(rules);
  auto running = door.enter("slow");
  for (int i = 0; i < 6; ++i) {
    door.enter("slow");
  }
  for (int i = 0; i < 3; ++i) {
    door.now += seconds(9);
    door.leave(running);
    running = door.order().back();
  }

  const auto other = door.enter_with(
      {.key = "b", .prompt_tokens = 1, .output_tokens_max = 1, .patience = seconds(0)}
  );
  EXPECT_TRUE(door.started(other));
}

TEST(Admission, ALargeRequestIsWaitedForAndNeverStarves) {
  AdmissionRules rules{.classes = {{.name = "default", .queue_max = 99}}, .tokens_max = 1000};
  Door door(rules);
  const auto small = door.enter("a");
  const auto large = door.enter_with({.key = "b", .prompt_tokens = 950, .output_tokens_max = 50});
  const auto behind = door.enter("b");

  EXPECT_THAT(door.order(), ElementsAre(small));
  door.leave(small);
  EXPECT_THAT(door.order(), ElementsAre(small, large));
  door.leave(large);
  EXPECT_THAT(door.order(), ElementsAre(small, large, behind));
  door.leave(behind);
  EXPECT_TRUE(
      door.started(door.enter_with({.key = "b", .prompt_tokens = 5000, .output_tokens_max = 1}))
  ) << "alone it may take more than there is";
}

TEST(Admission, WhoWaitedBehindALargeOneThatGaveUpStartsAtOnce) {
  AdmissionRules rules{.classes = {{.name = "default", .queue_max = 2}}, .tokens_max = 300};
  Door door(rules);
  door.enter("a");
  const auto late = door.enter_with(
      {.key = "b", .prompt_tokens = 10, .output_tokens_max = 240, .patience = seconds(1)}
  );
  const auto behind = door.enter("c");
  EXPECT_FALSE(door.decided(behind)) << "the large one is first";
  door.now += seconds(1);
  door.expire();
  EXPECT_EQ(door.refusal(late).reason, RefusalReason::Deadline);
  EXPECT_TRUE(door.started(behind));
}

AdmissionRules three_classes() {
  AdmissionRules rules;
  rules.classes = {
      {.name = "urgent", .priority = -10},
      {.name = "normal", .priority = 0},
      {.name = "batch", .priority = 100}};
  rules.keys = {
      {.name = "plain", .classes = {"normal", "batch"}},
      {.name = "all"},
      {.name = "night", .classes = {"batch"}}};
  return rules;
}

TEST(Admission, ClassesAreChosenByNameOrByNumber) {
  Door door(three_classes());
  const auto by_number = [&](const std::string& key, std::int32_t priority) {
    return door.grant(door.enter_with({.key = key, .priority = priority})).priority_class;
  };

  EXPECT_EQ(door.grant(door.enter("plain")).priority_class, "normal") << "its usual one";
  EXPECT_EQ(door.grant(door.enter("plain", "batch")).priority, 100);
  EXPECT_EQ(by_number("all", 0), "normal");
  EXPECT_EQ(by_number("all", 99), "normal") << "at least as urgent as asked for";
  EXPECT_EQ(by_number("all", 1000), "batch");
  EXPECT_EQ(by_number("all", -1000), "urgent");
  EXPECT_EQ(by_number("plain", -1000), "normal") << "as far as the key may";
  EXPECT_EQ(by_number("night", 0), "batch");
}

TEST(Admission, ClassesThatAreNoneOrDeniedAreNamedWithThoseThatAreNot) {
  Door door(three_classes());

  const auto unknown = door.refusal(door.enter("all", "bathc"));
  EXPECT_EQ(unknown.reason, RefusalReason::NoClass);
  EXPECT_THAT(unknown.message, HasSubstr("known: urgent, normal, batch"));
  const auto denied = door.refusal(door.enter("plain", "urgent"));
  EXPECT_EQ(denied.reason, RefusalReason::ClassDenied);
  EXPECT_THAT(denied.message, HasSubstr("it may use normal, batch"));
}

TEST(Admission, OtherRulesKeepWhatWaitsAndWhatIsUsed) {
  AdmissionRules rules = one_at_a_time();
  rules.other_keys = {.requests_per_minute = 10};
  Door door(rules);
  const auto first = door.enter("a");
  const auto second = door.enter("a");

  rules.classes = {{.name = "other", .queue_max = 9}, {.name = "default", .queue_max = 9}};
  rules.other_keys = {.requests_per_minute = 3};
  door.set_rules(rules);
  EXPECT_FALSE(door.decided(second));
  door.leave(first);

  EXPECT_EQ(door.grant(second).priority_class, "default");
  EXPECT_EQ(door.grant(second).rates.requests->remaining, 1) << "two of three are used";
  rules.concurrent_max = 5;
  door.set_rules(rules);
  EXPECT_TRUE(door.started(door.enter("a")));
}

TEST(Admission, ANewLimitGetsNothingBackThatWasNotTakenFromIt) {
  AdmissionRules rules{.classes = {{.name = "default", .queue_max = 9}}, .concurrent_max = 1};
  Door door(rules);
  const std::uint64_t runs = door.enter("a");
  const std::uint64_t waits = door.enter_with(
      {.key = "a", .prompt_tokens = 10, .output_tokens_max = 90, .patience = seconds(1)}
  );
  rules.other_keys = {.requests_per_minute = 2, .tokens_per_minute = 240};
  door.set_rules(rules);
  const std::uint64_t later = door.enter("a");

  door.now += seconds(1);
  door.expire();
  EXPECT_EQ(door.refusal(waits).rates.requests->remaining, 1);
  EXPECT_EQ(door.refusal(waits).rates.tokens->remaining, 144) << "and 4 came with time";
  door.leave(runs, 10);
  EXPECT_EQ(door.grant(later).rates.tokens->remaining, 144);
}

TEST(Admission, WhateverHappensEveryRequestIsDecidedOnceAndNothingStaysTaken) {
  const std::uint64_t seed = 20'260'101;
  SCOPED_TRACE(seed);
  Random random(seed);
  AdmissionRules rules = three_classes();
  for (ClassRules& line : rules.classes) {
    line.queue_max = 5;
    line.wait_max = milliseconds(300);
  }
  rules.concurrent_max = 4;
  rules.tokens_max = 500;
  rules.other_keys = {.tokens_per_minute = 4000, .concurrent_max = 2};
  Door door(rules);
  std::vector<std::uint64_t> open;
  for (int step = 0; step < 5000; ++step) {
    door.now += milliseconds(random.below(20));
    if (random.below(2) == 0) {
      open.push_back(door.enter_with(
          {.key = std::string(1, static_cast<char>('a' + random.below(5))),
           .priority = static_cast<std::int32_t>(random.between(-20, 120)),
           .prompt_tokens = random.between(1, 200),
           .output_tokens_max = random.between(1, 200)}
      ));
    } else if (!open.empty()) {
      const std::size_t at = random.below(open.size());
      door.leave(open[at], random.between(0, 400));
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
    }
    door.expire();
    ASSERT_LE(door.admission().running(), 4U);
  }
  for (const std::uint64_t ticket : open) {
    door.leave(ticket);
  }
  EXPECT_EQ(door.admission().running(), 0U);
  for (const Admission::Line& line : door.admission().lines()) {
    EXPECT_EQ(line.waiting, 0U);
  }
  EXPECT_FALSE(door.admission().next_deadline().has_value());
}

}  // namespace
}  // namespace pleiad::router
