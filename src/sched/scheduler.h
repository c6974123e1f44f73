#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "api/generation.h"
#include "base/id.h"
#include "base/result.h"
#include "base/token.h"
#include "sched/page_pool.h"

namespace pleiad::sched {

// A place in the scheduler's table, held by one sequence from add() to remove().
using SlotId = Id<struct SlotTag, std::uint32_t>;

struct SchedulerOptions {
  std::int64_t pages = 0;               // KV pages of 64 tokens
  std::int64_t running_max = 64;        // sequences in one step (--max-num-seqs)
  std::int64_t waiting_max = 1024;      // sequences beyond those that may be in flight
  std::int64_t step_tokens_max = 512;   // rows of one step (--max-num-batched-tokens)
  std::int64_t chunk_tokens_max = 512;  // rows of one sequence in one step (--chunked-prefill-size)
  std::int64_t logit_rows_max = 64;     // rows of one step whose logits are wanted; >= running_max
  std::int64_t sequence_tokens_max = 4096;  // prompt + output (--max-model-len)
  bool prefix_cache = true;
};

struct Arrival {
  std::vector<TokenId> prompt;  // at least one token
  std::int64_t max_tokens = 0;  // of output
  std::string_view cache_salt;
  std::int32_t priority = 0;  // lower first
  bool score_prompt =
      false;  // logits of every prompt position: takes nothing from the prefix cache
  // Ends when its keys and values are in the cache: no token follows, no logits are wanted.
  bool keys_only = false;
  // Keys and values of all tokens but the newest come from elsewhere, see receive().
  bool awaits_keys = false;
};

// Consecutive tokens of one sequence that run in a step.
struct PlannedChunk {
  SlotId slot;
  std::int64_t first = 0;  // position of the first token
  std::int64_t count = 0;
  bool last = false;        // ends at the newest token: its last row's logits give the next one
  bool all_logits = false;  // every row's logits are wanted (prompt scoring)
};

struct SchedulerStats {
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_queried_tokens = 0;  // prompt tokens of admitted sequences
  std::uint64_t prefix_hit_tokens = 0;      // of these, found in the prefix cache
};

// Decides what runs in each step: decoding sequences first, one row each; then chunks of prompts,
// oldest first; then arrivals, while rows, places and pages last. When pages run out, the youngest
// running sequence of the least urgent priority gives its pages back and is computed again later
// (preemption by recompute). Pure bookkeeping: touches no cache bytes, no clock, no threads. Steady
// steps allocate nothing. Not thread-safe.
//
// A step: plan_step() -> run the chunks -> for each chunk complete() -> for chunks with `last`,
// append() the sampled token or remove() the sequence.
//
// Hand-overs: a sequence that awaits keys gets all pages of its prompt when it is admitted, and a
// place among the running, but no rows until receive(). One of keys only gets its pages likewise
// and keeps them, without a place, when it is computed, until remove(). Neither is preempted
// meanwhile.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Queues a sequence. Fails with InvalidInput when it can never fit (names the limit) and
  // Exhausted when the queue is full.
  Result<SlotId> add(Arrival arrival);

  // The chunks of the next step; valid until the next call. Empty: nothing can run, or everything
  // waits for a receive() or a remove().
  std::span<const PlannedChunk> plan_step();
  // Sequences of keys only, and those that await keys, that the last plan_step() admitted. What
  // tokens(), pages() and computed() say of them is settled.
  [[nodiscard]] std::span<const SlotId> admitted() const { return admitted_; }

  // The chunk's keys and values are in the cache.
  void complete(const PlannedChunk& chunk);

  // What an admitted sequence awaited is in its pages: keys and values of all tokens but the
  // newest.
  void receive(SlotId slot);
  [[nodiscard]] bool receiving(SlotId slot) const { return at(slot).state == State::Receiving; }
  // Tokens whose keys and values are in the cache.
  [[nodiscard]] std::int64_t computed(SlotId slot) const { return at(slot).computed; }
  // A sequence of keys only that has all of them.
  [[nodiscard]] bool kept(SlotId slot) const { return at(slot).state == State::Kept; }

  // The sequence goes on with `token`. REQUIRES: all its tokens are computed.
  void append(SlotId slot, TokenId token);

  // The sequence is over, in whatever state; its pages go back.
  void remove(SlotId slot);

  // Whether nothing runs or waits to run.
  [[nodiscard]] bool idle() const { return running_.empty() && waiting_.empty(); }
  // Sequences that hold pages and wait for somebody else.
  [[nodiscard]] std::int64_t holds() const { return receiving_ + kept_; }
  [[nodiscard]] std::span<const TokenId> tokens(SlotId slot) const;
  [[nodiscard]] std::span<const PageId> pages(SlotId slot) const;
  // Prompt tokens taken from the prefix cache when the sequence was first admitted.
  [[nodiscard]] std::int64_t cached_tokens(SlotId slot) const;
  [[nodiscard]] SchedulerStats stats() const;
  [[nodiscard]] const PagePool& page_pool() const { return pool_; }
  void drop_cached_pages() { pool_.drop_cached(); }
  [[nodiscard]] const SchedulerOptions& options() const { return options_; }

 private:
  enum class State {
    Waiting,
    Running,
    Receiving,  // its pages are being written by somebody else
    Kept,       // of keys only, and computed
  };

  struct Sequence {
    std::vector<TokenId> tokens;
    std::vector<PageId> pages;
    std::uint64_t root = 0;      // of the prefix tree of its salt
    std::uint64_t arrival = 0;   // order of add()
    std::int64_t prompt = 0;     // tokens of the prompt
    std::int64_t computed = 0;   // tokens whose keys and values are in the cache
    std::int64_t published = 0;  // pages offered to the prefix tree
    std::int64_t cached = -1;    // prompt tokens found in the prefix cache; -1: not admitted yet
    std::int32_t priority = 0;
    State state = State::Waiting;
    bool score_prompt = false;
    bool keys_only = false;
    bool awaits_keys = false;
    bool in_use = false;
  };

  // What is left of a step while it is planned.
  struct Budget {
    std::int64_t tokens = 0;
    std::int64_t logit_rows = 0;
  };

  Sequence& at(SlotId slot);
  [[nodiscard]] const Sequence& at(SlotId slot) const;
  // True when `a` runs before `b`.
  [[nodiscard]] bool before(SlotId a, SlotId b) const;
  void insert_ordered(std::vector<SlotId>& list, SlotId slot);
  void plan_running(bool decoding, Budget& budget);
  void plan_arrivals(Budget& budget);
  bool admit(SlotId slot);
  void start(SlotId slot);
  void keep(SlotId slot);
  void publish_full_pages(Sequence& sequence);
  void plan_chunk(SlotId slot, Budget& budget);
  // Takes pages up to `tokens` tokens, preempting others if need be. False: the sequence itself was
  // preempted.
  bool secure_pages(SlotId slot, std::int64_t tokens);
  void preempt(SlotId slot);

  SchedulerOptions options_;
  PagePool pool_;
  std::vector<Sequence> sequences_;  // [waiting_max + running_max]
  std::vector<SlotId> free_slots_;
  std::vector<SlotId> running_;  // in running order
  std::vector<SlotId> waiting_;  // in running order
  std::vector<PlannedChunk> plan_;
  std::vector<SlotId> admitted_;
  std::int64_t receiving_ = 0;
  std::int64_t kept_ = 0;
  std::uint64_t arrivals_ = 0;
  bool preempted_in_step_ = false;
  SchedulerStats stats_;
};

}  // namespace pleiad::sched
