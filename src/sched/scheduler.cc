#include "sched/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pleiad::sched {
namespace {

std::int64_t pages_for(std::int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

std::int64_t count_of(const auto& container) {
  return static_cast<std::int64_t>(container.size());
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), pool_({.pages = options.pages, .prefix_cache = options.prefix_cache}) {
  PLEIAD_CHECK(options.running_max > 0 && options.waiting_max > 0);
  PLEIAD_CHECK(
      options.step_tokens_max >= options.running_max, "every sequence may decode in a step"
  );
  PLEIAD_CHECK(
      options.logit_rows_max >= options.running_max, "every sequence may sample in a step"
  );
  PLEIAD_CHECK(options.chunk_tokens_max > 0);
  const auto slots = static_cast<std::size_t>(options.running_max + options.waiting_max);
  sequences_.resize(slots);
  free_slots_.reserve(slots);
  for (std::size_t i = slots; i-- > 0;) {
    free_slots_.emplace_back(static_cast<std::uint32_t>(i));
  }
  running_.reserve(static_cast<std::size_t>(options.running_max));
  waiting_.reserve(slots);
  plan_.reserve(static_cast<std::size_t>(options.running_max));
  admitted_.reserve(slots);
}

Result<SlotId> Scheduler::add(Arrival arrival) {
  const std::int64_t prompt = count_of(arrival.prompt);
  const std::int64_t most = prompt + arrival.max_tokens;
  if (prompt == 0) return invalid_input("the prompt has no tokens");
  if (most > options_.sequence_tokens_max) {
    return invalid_input(
        "prompt of {} tokens plus max_tokens {} exceeds the context of {} tokens",
        prompt,
        arrival.max_tokens,
        options_.sequence_tokens_max
    );
  }
  if (pages_for(most) > pool_.total()) {
    return invalid_input(
        "{} tokens need {} KV pages; the cache has {} (raise --mem-fraction-static or "
        "--kv-cache-bytes)",
        most,
        pages_for(most),
        pool_.total()
    );
  }
  if (free_slots_.empty()) return exhausted("{} requests are in flight already", sequences_.size());

  const SlotId slot = free_slots_.back();
  free_slots_.pop_back();
  Sequence& sequence = sequences_[slot.index()];
  sequence = Sequence{};
  sequence.in_use = true;
  sequence.tokens = std::move(arrival.prompt);
  sequence.tokens.reserve(static_cast<std::size_t>(most));
  sequence.pages.reserve(static_cast<std::size_t>(pages_for(most)));
  sequence.prompt = prompt;
  sequence.root = PagePool::root(arrival.cache_salt);
  sequence.arrival = arrivals_++;
  sequence.priority = arrival.priority;
  sequence.score_prompt = arrival.score_prompt;
  sequence.keys_only = arrival.keys_only;
  sequence.awaits_keys = arrival.awaits_keys;
  insert_ordered(waiting_, slot);
  return slot;
}

std::span<const PlannedChunk> Scheduler::plan_step() {
  plan_.clear();
  admitted_.clear();
  preempted_in_step_ = false;
  Budget budget{.tokens = options_.step_tokens_max, .logit_rows = options_.logit_rows_max};
  plan_running(/*decoding=*/true, budget);
  plan_running(/*decoding=*/false, budget);
  // After a preemption the pages belong to those who run; newcomers would only take them away
  // again.
  if (!preempted_in_step_) plan_arrivals(budget);
  return plan_;
}

void Scheduler::plan_running(bool decoding, Budget& budget) {
  // By index: a preemption removes sequences behind the current one, or the current one itself.
  for (std::size_t i = 0; i < running_.size() && budget.tokens > 0;) {
    const SlotId slot = running_[i];
    const Sequence& sequence = at(slot);
    const bool one_left = count_of(sequence.tokens) - sequence.computed == 1;
    const bool planned = std::ranges::any_of(plan_, [slot](const PlannedChunk& chunk) {
      return chunk.slot == slot;
    });
    if (one_left == decoding && !planned) plan_chunk(slot, budget);
    const bool still_running = i < running_.size() && running_[i] == slot;
    if (still_running) ++i;
  }
}

void Scheduler::plan_arrivals(Budget& budget) {
  while (!waiting_.empty() && budget.tokens > 0 && budget.logit_rows > 0 &&
         count_of(running_) + receiving_ < options_.running_max) {
    const SlotId slot = waiting_.front();
    if (!admit(slot)) return;
    start(slot);
    if (at(slot).state == State::Running) plan_chunk(slot, budget);
  }
}

bool Scheduler::admit(SlotId slot) {
  Sequence& sequence = at(slot);
  // The newest token is always computed, for its logits, where they are wanted.
  const std::int64_t newest = sequence.keys_only ? 0 : 1;
  const auto reusable =
      static_cast<std::size_t>((count_of(sequence.tokens) - newest) / kPageTokens);
  const std::size_t pages_max = sequence.score_prompt ? 0 : reusable;
  pool_.find(sequence.root, sequence.tokens, pages_max, sequence.pages);
  const std::int64_t missing = pages_for(count_of(sequence.tokens)) - count_of(sequence.pages);
  if (missing > pool_.available()) {
    pool_.release(sequence.pages);
    sequence.pages.clear();
    return false;
  }
  sequence.computed = count_of(sequence.pages) * kPageTokens;
  sequence.published = count_of(sequence.pages);
  if (sequence.cached < 0) {
    sequence.cached = std::min(sequence.computed, sequence.prompt);
    stats_.prefix_queried_tokens += static_cast<std::uint64_t>(sequence.prompt);
    stats_.prefix_hit_tokens += static_cast<std::uint64_t>(sequence.cached);
  }
  waiting_.erase(waiting_.begin());
  return true;
}

// What an admitted sequence does next.
void Scheduler::start(SlotId slot) {
  Sequence& sequence = at(slot);
  const std::int64_t pending = count_of(sequence.tokens) - sequence.computed;
  const bool receives = sequence.awaits_keys && pending > 1;
  if (receives || sequence.keys_only) {
    // admit() has seen that there are enough.
    while (count_of(sequence.pages) < pages_for(count_of(sequence.tokens))) {
      sequence.pages.push_back(pool_.take());
    }
    admitted_.push_back(slot);
  }
  if (receives) {
    sequence.state = State::Receiving;
    ++receiving_;
    return;
  }
  sequence.state = State::Running;
  insert_ordered(running_, slot);
  if (pending == 0) keep(slot);
}

void Scheduler::receive(SlotId slot) {
  Sequence& sequence = at(slot);
  PLEIAD_CHECK(sequence.state == State::Receiving, "receive() of a sequence that awaits nothing");
  --receiving_;
  sequence.state = State::Running;
  sequence.awaits_keys = false;
  sequence.computed = count_of(sequence.tokens) - 1;
  publish_full_pages(sequence);
  insert_ordered(running_, slot);
}

// A computed sequence of keys only gives its place away, and nothing else.
void Scheduler::keep(SlotId slot) {
  at(slot).state = State::Kept;
  ++kept_;
  std::erase(running_, slot);
}

void Scheduler::plan_chunk(SlotId slot, Budget& budget) {
  const Sequence& sequence = at(slot);
  const std::int64_t pending = count_of(sequence.tokens) - sequence.computed;
  std::int64_t count = std::min({pending, budget.tokens, options_.chunk_tokens_max});
  const bool scores = sequence.score_prompt && sequence.computed < sequence.prompt;
  if (scores) count = std::min(count, budget.logit_rows);
  const bool last = count == pending && !sequence.keys_only;
  if (count == 0 || (last && budget.logit_rows == 0)) return;
  const std::int64_t first = sequence.computed;
  if (!secure_pages(slot, first + count)) return;
  plan_.push_back({.slot = slot, .first = first, .count = count, .last = last, .all_logits = scores}
  );
  budget.tokens -= count;
  budget.logit_rows -= scores ? count : (last ? 1 : 0);
}

bool Scheduler::secure_pages(SlotId slot, std::int64_t tokens) {
  Sequence& sequence = at(slot);
  while (count_of(sequence.pages) < pages_for(tokens)) {
    if (pool_.available() > 0) {
      sequence.pages.push_back(pool_.take());
      continue;
    }
    // Sequences of keys only have all their pages, so `slot` is none of them.
    const auto victim = std::find_if(running_.rbegin(), running_.rend(), [this](SlotId one) {
      return !at(one).keys_only;
    });
    const SlotId chosen = *victim;
    preempt(chosen);
    if (chosen == slot) return false;
  }
  return true;
}

void Scheduler::preempt(SlotId slot) {
  Sequence& sequence = at(slot);
  // A victim may already stand in this step's plan.
  std::erase_if(plan_, [slot](const PlannedChunk& chunk) { return chunk.slot == slot; });
  pool_.release(sequence.pages);
  sequence.pages.clear();
  sequence.computed = 0;
  sequence.published = 0;
  sequence.state = State::Waiting;
  std::erase(running_, slot);
  insert_ordered(waiting_, slot);
  preempted_in_step_ = true;
  ++stats_.preemptions;
}

void Scheduler::complete(const PlannedChunk& chunk) {
  Sequence& sequence = at(chunk.slot);
  PLEIAD_CHECK(sequence.computed == chunk.first, "chunks of a sequence complete in order");
  sequence.computed += chunk.count;
  publish_full_pages(sequence);
  if (sequence.keys_only && sequence.computed == count_of(sequence.tokens)) keep(chunk.slot);
}

void Scheduler::publish_full_pages(Sequence& sequence) {
  const std::span<const PageId> pages = sequence.pages;
  while ((sequence.published + 1) * kPageTokens <= sequence.computed) {
    const auto page = static_cast<std::size_t>(sequence.published);
    const auto tokens = std::span<const TokenId>(sequence.tokens)
                            .subspan(page * static_cast<std::size_t>(kPageTokens), kPageTokens);
    pool_.publish(sequence.root, pages.first(page), pages[page], tokens);
    ++sequence.published;
  }
}

void Scheduler::append(SlotId slot, TokenId token) {
  Sequence& sequence = at(slot);
  PLEIAD_CHECK(
      sequence.computed == count_of(sequence.tokens), "append() to an uncomputed sequence"
  );
  sequence.tokens.push_back(token);
}

void Scheduler::remove(SlotId slot) {
  Sequence& sequence = at(slot);
  pool_.release(sequence.pages);
  receiving_ -= sequence.state == State::Receiving ? 1 : 0;
  kept_ -= sequence.state == State::Kept ? 1 : 0;
  std::erase(running_, slot);
  std::erase(waiting_, slot);
  sequence = Sequence{};
  free_slots_.push_back(slot);
}

std::span<const TokenId> Scheduler::tokens(SlotId slot) const {
  return at(slot).tokens;
}

std::span<const PageId> Scheduler::pages(SlotId slot) const {
  return at(slot).pages;
}

std::int64_t Scheduler::cached_tokens(SlotId slot) const {
  return std::max(at(slot).cached, std::int64_t{0});
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running = count_of(running_) + holds();
  stats.waiting = count_of(waiting_);
  return stats;
}

Scheduler::Sequence& Scheduler::at(SlotId slot) {
  PLEIAD_CHECK(slot.index() < sequences_.size() && sequences_[slot.index()].in_use);
  return sequences_[slot.index()];
}

const Scheduler::Sequence& Scheduler::at(SlotId slot) const {
  PLEIAD_CHECK(slot.index() < sequences_.size() && sequences_[slot.index()].in_use);
  return sequences_[slot.index()];
}

bool Scheduler::before(SlotId a, SlotId b) const {
  const Sequence& left = at(a);
  const Sequence& right = at(b);
  if (left.priority != right.priority) return left.priority < right.priority;
  return left.arrival < right.arrival;
}

void Scheduler::insert_ordered(std::vector<SlotId>& list, SlotId slot) {
  const auto place =
      std::ranges::upper_bound(list, slot, [this](SlotId a, SlotId b) { return before(a, b); });
  list.insert(place, slot);
}

}  // namespace pleiad::sched
