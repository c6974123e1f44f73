#include "sched/scheduler.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::sched {
namespace {

SchedulerOptions small() {
  return {
      .pages = 16,
      .running_max = 4,
      .waiting_max = 8,
      .step_tokens_max = 128,
      .chunk_tokens_max = 128,
      .logit_rows_max = 4,
      .sequence_tokens_max = 1024,
  };
}

Arrival arrival(std::size_t prompt, std::int64_t max_tokens, TokenId first = 0) {
  Arrival out{.max_tokens = max_tokens};
  out.prompt.resize(prompt);
  std::iota(out.prompt.begin(), out.prompt.end(), first);
  return out;
}

// Runs one step; every sequence whose newest token was computed goes on with `token`.
std::vector<PlannedChunk> run_step(Scheduler& scheduler, TokenId token = 9) {
  const auto plan = scheduler.plan_step();
  std::vector<PlannedChunk> chunks(plan.begin(), plan.end());
  for (const PlannedChunk& chunk : chunks)
    scheduler.complete(chunk);
  for (const PlannedChunk& chunk : chunks) {
    if (chunk.last) scheduler.append(chunk.slot, token);
  }
  return chunks;
}

TEST(Scheduler, APromptRunsInChunksAndThenTokenByToken) {
  Scheduler scheduler(small());
  const SlotId slot = *scheduler.add(arrival(300, 10));

  const auto first = run_step(scheduler);
  const auto second = run_step(scheduler);
  const auto third = run_step(scheduler);
  const auto fourth = run_step(scheduler);

  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].count, 128);
  EXPECT_FALSE(first[0].last);
  EXPECT_EQ(second[0].first, 128);
  EXPECT_EQ(third[0].count, 44);
  EXPECT_TRUE(third[0].last);
  EXPECT_EQ(fourth[0].first, 300);
  EXPECT_EQ(fourth[0].count, 1);
  EXPECT_EQ(scheduler.tokens(slot).size(), 302U);
}

TEST(Scheduler, DecodingGoesBeforePrompts) {
  Scheduler scheduler(small());
  const SlotId early = *scheduler.add(arrival(10, 10));
  run_step(scheduler);
  const SlotId late = *scheduler.add(arrival(500, 10, 100));

  const auto plan = run_step(scheduler);

  ASSERT_EQ(plan.size(), 2U);
  EXPECT_EQ(plan[0].slot, early);
  EXPECT_EQ(plan[0].count, 1);
  EXPECT_EQ(plan[1].slot, late);
  EXPECT_EQ(plan[1].count, 127);
}

TEST(Scheduler, ASharedPrefixIsComputedOnce) {
  Scheduler scheduler(small());
  const SlotId first = *scheduler.add(arrival(130, 4));
  run_step(scheduler);
  run_step(scheduler);
  scheduler.remove(first);

  const SlotId second = *scheduler.add(arrival(130, 4));
  const auto plan = run_step(scheduler);

  EXPECT_EQ(scheduler.cached_tokens(second), 128);
  EXPECT_EQ(plan[0].first, 128);
  EXPECT_EQ(plan[0].count, 2);
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, 128U);
}

TEST(Scheduler, TheLastPromptTokenIsAlwaysComputed) {
  Scheduler scheduler(small());
  scheduler.remove([&] {
    const SlotId slot = *scheduler.add(arrival(128, 4));
    run_step(scheduler);
    return slot;
  }());

  const SlotId again = *scheduler.add(arrival(128, 4));
  const auto plan = run_step(scheduler);

  EXPECT_EQ(scheduler.cached_tokens(again), 64);
  EXPECT_EQ(plan[0].first, 64);
  EXPECT_TRUE(plan[0].last);
}

TEST(Scheduler, ScoringAPromptTakesNothingFromTheCacheAndKeepsToTheLogitRows) {
  Scheduler scheduler(small());
  const SlotId first = *scheduler.add(arrival(128, 4));
  run_step(scheduler);
  scheduler.remove(first);
  Arrival scoring = arrival(128, 0);
  scoring.score_prompt = true;
  const SlotId slot = *scheduler.add(std::move(scoring));

  const auto plan = run_step(scheduler);

  EXPECT_EQ(scheduler.cached_tokens(slot), 0);
  EXPECT_EQ(plan[0].count, 4);
  EXPECT_TRUE(plan[0].all_logits);
}

TEST(Scheduler, TheYoungestGivesItsPagesBackWhenTheyRunOut) {
  SchedulerOptions options = small();
  options.pages = 4;
  options.prefix_cache = false;
  Scheduler scheduler(options);
  const SlotId old_slot = *scheduler.add(arrival(120, 100));
  const SlotId young_slot = *scheduler.add(arrival(60, 60, 500));
  for (int i = 0; i < 12; ++i)
    run_step(scheduler);

  // 120 + 12 and 60 + 12 tokens need 3 + 2 pages.
  EXPECT_EQ(scheduler.stats().preemptions, 1U);
  EXPECT_EQ(scheduler.stats().running, 1);
  EXPECT_EQ(scheduler.pages(young_slot).size(), 0U);
  EXPECT_GE(scheduler.tokens(old_slot).size(), 130U);

  scheduler.remove(old_slot);
  const auto plan = run_step(scheduler);
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].slot, young_slot);
  EXPECT_EQ(plan[0].first, 0);
  EXPECT_TRUE(plan[0].last);
}

TEST(Scheduler, UrgentArrivalsRunFirst) {
  SchedulerOptions options = small();
  options.running_max = 1;
  options.logit_rows_max = 1;
  Scheduler scheduler(options);
  const SlotId normal = *scheduler.add(arrival(10, 5));
  Arrival urgent_arrival = arrival(10, 5, 50);
  urgent_arrival.priority = -1;
  const SlotId urgent = *scheduler.add(std::move(urgent_arrival));

  EXPECT_EQ(run_step(scheduler)[0].slot, urgent);
  scheduler.remove(urgent);
  EXPECT_EQ(run_step(scheduler)[0].slot, normal);
}

TEST(Scheduler, RefusesWhatCanNeverFit) {
  Scheduler scheduler(small());

  EXPECT_EQ(scheduler.add(arrival(0, 5)).error().kind, ErrorKind::InvalidInput);
  EXPECT_EQ(scheduler.add(arrival(1000, 25)).error().kind, ErrorKind::InvalidInput);
  SchedulerOptions few_pages = small();
  few_pages.pages = 2;
  Scheduler tight(few_pages);
  EXPECT_NE(tight.add(arrival(120, 20)).error().message.find("3 KV pages"), std::string::npos);
}

TEST(Scheduler, RefusesMoreThanItsSlots) {
  Scheduler scheduler(small());
  for (int i = 0; i < 12; ++i)
    ASSERT_TRUE(scheduler.add(arrival(10, 5)).ok());

  EXPECT_EQ(scheduler.add(arrival(10, 5)).error().kind, ErrorKind::Exhausted);
}

TEST(Scheduler, RemovingMidPromptGivesEveryPageBack) {
  Scheduler scheduler(small());
  const SlotId slot = *scheduler.add(arrival(300, 10));
  run_step(scheduler);

  scheduler.remove(slot);

  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(scheduler.page_pool().held(), 0);
}

Arrival awaiting(std::size_t prompt, std::int64_t max_tokens, TokenId first = 0) {
  Arrival out = arrival(prompt, max_tokens, first);
  out.awaits_keys = true;
  return out;
}

Arrival keys_only(std::size_t prompt, TokenId first = 0) {
  Arrival out = arrival(prompt, 0, first);
  out.keys_only = true;
  return out;
}

TEST(Scheduler, ASequenceThatAwaitsKeysHasAllItsPagesAndNoRows) {
  Scheduler scheduler(small());
  const SlotId slot = *scheduler.add(awaiting(300, 10));

  EXPECT_TRUE(run_step(scheduler).empty());

  ASSERT_EQ(scheduler.admitted().size(), 1U);
  EXPECT_EQ(scheduler.admitted()[0], slot);
  EXPECT_TRUE(scheduler.receiving(slot));
  EXPECT_EQ(scheduler.pages(slot).size(), 5U);
  EXPECT_EQ(scheduler.computed(slot), 0);
  EXPECT_EQ(scheduler.holds(), 1);
  EXPECT_TRUE(run_step(scheduler).empty());
  EXPECT_TRUE(scheduler.admitted().empty());

  scheduler.receive(slot);
  const auto first = run_step(scheduler);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].first, 299);
  EXPECT_EQ(first[0].count, 1);
  EXPECT_TRUE(first[0].last);
}

TEST(Scheduler, ReceivedPagesAreFoundByTheNextAndOnlyTheRestIsAwaited) {
  Scheduler scheduler(small());
  const SlotId first = *scheduler.add(awaiting(300, 10));
  run_step(scheduler);
  scheduler.receive(first);

  const SlotId second = *scheduler.add(awaiting(310, 10));
  run_step(scheduler);
  EXPECT_TRUE(scheduler.receiving(second));
  EXPECT_EQ(scheduler.computed(second), 256);

  // All but the newest token is here already.
  const SlotId third = *scheduler.add(awaiting(257, 10));
  const auto chunks = run_step(scheduler);
  EXPECT_FALSE(scheduler.receiving(third));
  EXPECT_EQ(chunks.back().slot, third);
  EXPECT_EQ(chunks.back().first, 256);
}

TEST(Scheduler, WhatIsAwaitedCanBeGivenUpAndLeavesNothing) {
  Scheduler scheduler(small());
  const SlotId slot = *scheduler.add(awaiting(300, 10));
  run_step(scheduler);

  scheduler.remove(slot);

  EXPECT_EQ(scheduler.holds(), 0);
  EXPECT_EQ(scheduler.page_pool().held(), 0);
  EXPECT_EQ(scheduler.page_pool().cached(), 0);
}

TEST(Scheduler, PlacesOfThoseThatAwaitKeysAreTaken) {
  Scheduler scheduler(small());
  for (int i = 0; i < 4; ++i)
    ASSERT_TRUE(scheduler.add(awaiting(10, 5, static_cast<TokenId>(i))).ok());
  const SlotId fifth = *scheduler.add(arrival(10, 5));
  EXPECT_TRUE(run_step(scheduler).empty());
  EXPECT_FALSE(scheduler.idle());
  scheduler.remove(SlotId(0));
  EXPECT_EQ(run_step(scheduler).at(0).slot, fifth);
}

TEST(Scheduler, KeysAloneAreComputedWithoutLogitsAndKept) {
  Scheduler scheduler(small());
  const SlotId slot = *scheduler.add(keys_only(200));

  const auto first = run_step(scheduler);
  const auto second = run_step(scheduler);

  EXPECT_EQ(first.at(0).count, 128);
  EXPECT_EQ(second.at(0).count, 72);
  EXPECT_FALSE(second.at(0).last);
  EXPECT_TRUE(scheduler.kept(slot));
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(scheduler.page_pool().held(), 4);
  EXPECT_TRUE(run_step(scheduler).empty());

  // A whole prompt that is in the cache is kept at once.
  const SlotId again = *scheduler.add(keys_only(192));
  EXPECT_TRUE(run_step(scheduler).empty());
  EXPECT_TRUE(scheduler.kept(again));
  EXPECT_EQ(scheduler.computed(again), 192);
  scheduler.remove(again);
  scheduler.remove(slot);
  EXPECT_EQ(scheduler.page_pool().held(), 0);
  EXPECT_EQ(scheduler.page_pool().cached(), 3);
}

TEST(Scheduler, KeysOfOthersAreNotTakenWhenPagesRunOut) {
  SchedulerOptions options = small();
  options.pages = 5;
  Scheduler scheduler(options);
  const SlotId old = *scheduler.add(arrival(126, 100));
  run_step(scheduler);
  const SlotId keys = *scheduler.add(keys_only(190, 500));
  run_step(scheduler);
  run_step(scheduler);
  ASSERT_TRUE(scheduler.kept(keys));
  // `old` needs a third page, and nobody may give one but itself.
  for (int i = 0; i < 3; ++i)
    run_step(scheduler);
  EXPECT_EQ(scheduler.stats().preemptions, 1U);
  EXPECT_TRUE(run_step(scheduler).empty());
  scheduler.remove(keys);
  EXPECT_EQ(run_step(scheduler).at(0).slot, old);
}

// Random arrivals, cancels and ends with few pages: every step runs something, chunks are
// contiguous, pages cover what is computed, and in the end all sequences finish and no page is
// held.
TEST(Scheduler, RandomLoadAlwaysProgressesAndLeaksNothing) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    SchedulerOptions options = small();
    options.pages = 10;
    options.step_tokens_max = 16 + static_cast<std::int64_t>(random.below(100));
    options.chunk_tokens_max = 1 + static_cast<std::int64_t>(random.below(80));
    Scheduler scheduler(options);
    std::map<SlotId, std::size_t> goal;  // tokens at which a sequence ends
    int arrivals_left = 60;
    for (int step = 0;
         step < 20000 && (arrivals_left > 0 || !scheduler.idle() || scheduler.holds() > 0);
         ++step) {
      if (arrivals_left > 0 && random.below(3) == 0) {
        --arrivals_left;
        const std::size_t prompt = 1 + random.below(300);
        const std::size_t output = 1 + random.below(100);
        Arrival next = arrival(
            prompt, static_cast<std::int64_t>(output), static_cast<TokenId>(random.below(2))
        );
        next.priority = static_cast<std::int32_t>(random.below(2));
        next.awaits_keys = random.below(4) == 0;
        if (random.below(4) == 0) {
          next.awaits_keys = false;
          next.keys_only = true;
          next.max_tokens = 0;
        }
        if (const auto slot = scheduler.add(std::move(next)); slot.ok())
          goal[*slot] = prompt + output;
      }
      if (!goal.empty() && random.below(40) == 0) {
        const auto victim =
            std::next(goal.begin(), static_cast<std::ptrdiff_t>(random.below(goal.size())));
        scheduler.remove(victim->first);
        goal.erase(victim);
      }
      // Keys arrive and are fetched, sooner or later.
      for (auto one = goal.begin(); one != goal.end();) {
        const auto [slot, tokens] = *one++;
        if (random.below(8) != 0) continue;
        if (scheduler.receiving(slot)) {
          scheduler.receive(slot);
        } else if (scheduler.kept(slot)) {
          scheduler.remove(slot);
          goal.erase(slot);
        }
      }
      const auto plan = scheduler.plan_step();
      const std::vector<PlannedChunk> chunks(plan.begin(), plan.end());
      ASSERT_TRUE(scheduler.holds() > 0 || chunks.empty() == scheduler.idle());
      std::int64_t rows = 0;
      for (const PlannedChunk& chunk : chunks) {
        rows += chunk.count;
        const auto covered =
            static_cast<std::int64_t>(scheduler.pages(chunk.slot).size()) * kPageTokens;
        ASSERT_GE(covered, chunk.first + chunk.count);
        scheduler.complete(chunk);
      }
      ASSERT_LE(rows, options.step_tokens_max);
      for (const PlannedChunk& chunk : chunks) {
        if (!chunk.last) continue;
        scheduler.append(chunk.slot, static_cast<TokenId>(random.below(3)));
        if (scheduler.tokens(chunk.slot).size() < goal[chunk.slot]) continue;
        scheduler.remove(chunk.slot);
        goal.erase(chunk.slot);
      }
    }
    EXPECT_TRUE(scheduler.idle());
    EXPECT_EQ(scheduler.page_pool().held(), 0);
  }
}

}  // namespace
}  // namespace pleiad::sched
