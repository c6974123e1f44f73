#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "api/generation.h"
#include "api/generation_wire.h"
#include "api/worker_report.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/result.h"
#include "sched/scheduler.h"
#include "sim/key_transfer.h"
#include "sim/timeline.h"

namespace pleiad::sim {

// One answer of one worker process, as the wire carries it.
using StreamId = Id<struct StreamTag, std::uint64_t>;

// Time that a step of a worker takes: what ranks wait for, then what each computes.
struct StepCost {
  Nanoseconds fixed = std::chrono::milliseconds(2);
  Nanoseconds per_prompt_token = std::chrono::microseconds(20);
  Nanoseconds per_decoding_row = std::chrono::microseconds(200);
};

// Hears what a worker puts out.
class WorkerOutput {
 public:
  virtual ~WorkerOutput() = default;
  virtual void on_prompt_token(StreamId stream, const api::TokenEvent& event) = 0;
  virtual void on_token(StreamId stream, const api::TokenEvent& event) = 0;
  // The last of the stream.
  virtual void on_finish(StreamId stream, const api::FinishEvent& event) = 0;
  // The prompt of the stream's request is poisoned and was computed: the process is to die.
  virtual void on_poisoned(StreamId stream) = 0;
  // Of a decode worker: the stream's request wants keys, or wants nothing more of them.
  virtual void on_keys_wanted(StreamId stream, const KeyOrder& order) = 0;
  virtual void on_keys_unwanted(StreamId stream) = 0;
  // Of a prefill worker, to whoever ordered them over the stream.
  virtual void on_keys(StreamId stream, const KeyRecord& record) = 0;
};

// What is wrong with a worker, for tests that the checks can fail.
struct WorkerDefect {
  KeyAssembly::Defect assembly = KeyAssembly::Defect::None;
  bool never_lets_go = false;  // of prompts that others have or do not want
};

// One start of a worker process: a scheduler per dp rank, the real one, and the stub model in place
// of an engine. Ranks step together; a step takes time. What is asked of it is done between steps.
// Destroying it is its death.
class SimWorker {
 public:
  struct Options {
    std::string instance;
    api::WorkerReport::Identity identity;
    std::size_t dp_ranks = 1;
    sched::SchedulerOptions scheduler;
    StepCost cost;
    api::Role role = api::Role::Both;
    // How long a prompt is kept for a peer that neither takes it nor hangs up.
    Nanoseconds lease = std::chrono::seconds(30);
    WorkerDefect defect = {};
  };

  // Both must outlive the worker.
  SimWorker(Timeline& timeline, WorkerOutput& output, const Options& options);
  SimWorker(const SimWorker&) = delete;
  SimWorker& operator=(const SimWorker&) = delete;
  ~SimWorker() { *alive_ = false; }

  // As PeerApi answers: InvalidInput is a 400, Exhausted a 429, Unavailable a 503.
  Result<void> submit(StreamId stream, const api::GenerationRequest& request);
  // Of a prefill worker: computes a prompt's keys for whoever reads the stream.
  Result<void> prefill(StreamId stream, const KeyOrder& order);
  // What comes of the keys that the stream's request wanted. `broken`: their worker is not heard of
  // any more, or says nonsense.
  void take_keys(StreamId stream, const KeyRecord& record);
  void lose_keys(StreamId stream, bool broken);
  void hang_up(StreamId stream);
  void finish_early(api::RequestId id);
  [[nodiscard]] api::WorkerReport report() const;

  // Takes nothing more.
  void stop_accepting() { accepting_ = false; }
  // Ends what is open, as a worker does that shuts down.
  void give_up();
  // What runs on a rank ends with Lost; the worker goes on.
  void lose_rank(std::size_t rank);
  // Steps take so many times as long.
  void slow_down(int times) { slowness_ = times; }
  // Stops the process where it is; what it should do meanwhile, it does when it goes on.
  void freeze() { frozen_ = true; }
  void go_on();
  [[nodiscard]] bool frozen() const { return frozen_; }

  [[nodiscard]] const std::string& instance() const { return options_.instance; }
  [[nodiscard]] std::size_t dp_ranks() const { return ranks_.size(); }
  // What nobody works at may hold nothing.
  [[nodiscard]] std::size_t open_requests() const { return requests_.size(); }
  [[nodiscard]] std::int64_t pages_held() const;
  [[nodiscard]] std::int64_t queued() const;
  // Prompts that were given up because nobody took them in time.
  [[nodiscard]] int expired() const { return expired_; }
  [[nodiscard]] const sched::Scheduler& scheduler(std::size_t rank) const { return ranks_[rank]; }

 private:
  struct Request {
    api::RequestId id;
    StreamId stream;
    std::size_t rank = 0;
    sched::SlotId slot;
    std::int64_t prompt_tokens = 0;  // the client's
    std::int32_t tokens_left = 0;
    std::int64_t scored_end = 0;  // of the prompt as it was sent
    std::int64_t scored = 1;      // prompt positions below this have been told
    bool ignore_eos = false;
    bool poisoned = false;
    std::optional<api::FinishReason> ends;  // asked for, at the next step
    // Of keys that are computed for another worker:
    std::optional<KeyOrder> order;
    std::int64_t sent = 0;  // keys of tokens below this
    std::uint64_t records = 0;
    bool committed = false;
    // Of keys that another worker computes:
    std::optional<api::PrefillFrom> prefill_from;
    std::optional<KeyAssembly> assembly;  // from its admission on
    bool received = false;                // they are here, as of the next step
    bool goes_on_wrongly = false;         // with keys of something else
    bool keys_lost = false;
    bool keys_broken = false;
  };

  Result<void> add(Request request, sched::Arrival arrival);
  void begin_step();
  [[nodiscard]] bool has_work() const;
  void begin_hand_overs(std::size_t rank);
  void send_keys(Request& request);
  void watch_lease(std::uint64_t id);
  void take_what_was_received();
  void wake();
  void end_step();
  void end_what_was_asked();
  bool run_chunk(std::size_t rank, const sched::PlannedChunk& chunk);
  void score(Request& request, const sched::PlannedChunk& chunk);
  void take_token(Request& request);
  void end(Request& request, const api::FinishEvent& event);
  void ask_end(Request& request, api::FinishReason reason);
  [[nodiscard]] Nanoseconds cost_of(std::span<const sched::PlannedChunk> chunks) const;
  Request* find(StreamId stream);

  Timeline& timeline_;
  WorkerOutput& output_;
  const Options options_;
  std::vector<sched::Scheduler> ranks_;
  std::vector<std::vector<sched::PlannedChunk>> plans_;           // [dp ranks], of the step
  std::unordered_map<std::uint64_t, Request> requests_;           // by id
  std::vector<std::vector<std::optional<std::uint64_t>>> slots_;  // [dp ranks][slots], ids
  std::uint64_t next_id_ = 1;
  std::uint64_t steps_ = 0;
  int expired_ = 0;
  int slowness_ = 1;
  bool accepting_ = true;
  bool stepping_ = false;
  bool frozen_ = false;
  bool step_due_ = false;        // its end fell into the frozen time
  std::shared_ptr<bool> alive_;  // owners: the worker, and the end of a step on the timeline
};

}  // namespace pleiad::sim
