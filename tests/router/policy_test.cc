#include "router/policy.h"

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using ::testing::HasSubstr;

// Units with loads and cached pages that tests set.
struct Pool {
  LoadLedger loads;
  std::vector<std::uint8_t> eligible;
  std::vector<std::uint32_t> overlap;

  explicit Pool(std::size_t units) : eligible(units, 1), overlap(units, 0) {
    for (std::size_t i = 0; i < units; ++i)
      loads.add_unit();
  }
  void set_load(UnitIndex unit, std::int64_t prefill, std::int64_t held = 0) {
    loads.begin(unit, {.prefill = prefill, .held = held});
  }
  [[nodiscard]] PolicyInput input(std::int64_t prompt_tokens, std::string_view session = {}) const {
    return {
        .loads = &loads,
        .eligible = eligible,
        .overlap = overlap,
        .prompt_tokens = prompt_tokens,
        .session = session};
  }
};

constexpr std::array kAll = {
    PolicyKind::CacheAware,
    PolicyKind::PowerOfTwo,
    PolicyKind::LeastTokens,
    PolicyKind::RoundRobin,
    PolicyKind::Random,
};

TEST(PolicyKind, NamesAreReadAndUnknownOnesNamed) {
  for (const PolicyKind kind : kAll)
    EXPECT_EQ(parse_policy(to_string(kind)).value(), kind);
  EXPECT_THAT(
      parse_policy("fastest").error().message,
      HasSubstr("policy fastest is none; nearest: random (known: cache_aware")
  );
}

TEST(Policy, NobodyEligibleIsNoChoice) {
  Pool pool(3);
  pool.eligible = {0, 0, 0};
  for (const PolicyKind kind : kAll)
    EXPECT_FALSE(Policy({.kind = kind}, 1).choose(pool.input(10)).has_value());
}

TEST(Policy, OnlyEligibleUnitsAreChosen) {
  Pool pool(5);
  pool.eligible = {0, 0, 1, 0, 1};
  pool.overlap = {100, 0, 0, 0, 0};
  for (const PolicyKind kind : kAll) {
    Policy policy({.kind = kind}, 2);
    for (int i = 0; i < 50; ++i) {
      const UnitIndex unit = policy.choose(pool.input(1000, i % 2 == 0 ? "s" : ""))->unit;
      EXPECT_TRUE(unit == 2 || unit == 4) << to_string(kind);
    }
  }
}

TEST(Policy, ABurstIsSpreadEvenly) {
  for (const PolicyKind kind :
       {PolicyKind::CacheAware, PolicyKind::LeastTokens, PolicyKind::RoundRobin}) {
    Pool pool(8);
    Policy policy({.kind = kind}, 3);
    for (int i = 0; i < 80; ++i)
      pool.set_load(policy.choose(pool.input(500))->unit, 500, 600);
    for (UnitIndex unit = 0; unit < 8; ++unit)
      EXPECT_EQ(pool.loads.load(unit).requests, 10) << to_string(kind);
  }
}

TEST(Policy, CacheAwareGoesWhereThePromptIs) {
  Pool pool(4);
  pool.overlap = {0, 2, 10, 0};
  pool.set_load(2, 100, 500);
  const auto choice = Policy({}, 1).choose(pool.input(700));

  EXPECT_EQ(choice->unit, 2U);
  EXPECT_EQ(choice->reason, ChoiceReason::Cached);
  EXPECT_EQ(choice->cached_tokens, 640);
}

TEST(Policy, ACachedPrefixNeverOutweighsOverload) {
  Pool pool(4);
  pool.overlap = {100, 0, 0, 0};
  pool.set_load(0, 0, 5000);
  const auto choice = Policy({}, 1).choose(pool.input(6400));

  EXPECT_NE(choice->unit, 0U);
  EXPECT_EQ(choice->reason, ChoiceReason::LeastBusy);
}

// Everybody asks for one hot prefix: it must not pile up where the prefix is.
TEST(Policy, AHotPrefixSpreadsAsItsUnitFills) {
  Pool pool(4);
  Policy policy({}, 1);
  pool.overlap = {32, 0, 0, 0};
  for (int i = 0; i < 200; ++i) {
    const UnitIndex unit = policy.choose(pool.input(2100))->unit;
    pool.set_load(unit, 2100 - pool.overlap[unit] * 64, 2300);
    pool.overlap[unit] = 32;  // it has the prefix from now on
  }
  std::int64_t least = 1 << 30;
  std::int64_t most = 0;
  for (UnitIndex unit = 0; unit < 4; ++unit) {
    least = std::min(least, pool.loads.load(unit).tokens());
    most = std::max(most, pool.loads.load(unit).tokens());
  }
  EXPECT_LE(static_cast<double>(most), 1.5 * static_cast<double>(least) + 4096 + 2400);
}

TEST(Policy, ASessionStaysWhileItsUnitIsNotTooBusy) {
  Pool pool(8);
  for (const PolicyKind kind : kAll) {
    Policy policy({.kind = kind}, 5);
    const auto first = policy.choose(pool.input(100, "alice"));
    EXPECT_EQ(first->reason, ChoiceReason::Session);
    for (int i = 0; i < 10; ++i)
      EXPECT_EQ(policy.choose(pool.input(100, "alice"))->unit, first->unit);
    Pool busy(8);
    busy.set_load(first->unit, 10'000);
    EXPECT_NE(policy.choose(busy.input(100, "alice"))->reason, ChoiceReason::Session);
  }
}

TEST(Policy, SessionsMoveOnlyFromAUnitThatGoes) {
  Pool pool(8);
  Policy policy({}, 5);
  std::map<std::string, UnitIndex> before;
  for (int i = 0; i < 200; ++i) {
    const std::string session = "s" + std::to_string(i);
    before[session] = policy.choose(pool.input(10, session))->unit;
  }
  pool.eligible[3] = 0;
  for (const auto& [session, unit] : before) {
    const UnitIndex now = policy.choose(pool.input(10, session))->unit;
    EXPECT_TRUE(unit == 3 ? now != 3 : now == unit) << session;
  }
}

TEST(Policy, PowerOfTwoPrefersTheLessBusyOfItsDraws) {
  Pool pool(2);
  pool.set_load(0, 1000);
  Policy policy({.kind = PolicyKind::PowerOfTwo}, 7);
  int busy = 0;
  for (int i = 0; i < 400; ++i)
    busy += policy.choose(pool.input(1))->unit == 0 ? 1 : 0;
  // Only when both draws fall on it: a quarter.
  EXPECT_NEAR(busy, 100, 45);
}

}  // namespace
}  // namespace pleiad::router
