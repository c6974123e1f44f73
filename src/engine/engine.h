#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "device/thread_pool.h"
#include "engine/engine_metrics.h"
#include "engine/hand_overs.h"
#include "engine/lockstep.h"
#include "engine/sampler.h"
#include "engine/shared_batch.h"
#include "engine/step_batch.h"
#include "kv/paged_cache.h"
#include "model/model.h"
#include "sched/scheduler.h"

namespace pleiad::engine {

// What an Engine is built from: one rank of a model. The pool is the one it computes with; the
// weights behind the model are somebody else's and outlive it.
struct EngineParts {
  std::unique_ptr<device::ThreadPool> pool;
  std::unique_ptr<model::Model> model;
  kv::PagedCache cache;
  sched::SchedulerOptions limits;
  std::vector<TokenId> eos_tokens;
  std::string model_name;  // label of the metrics
  std::int32_t rank = 0;   // of the ranks that serve together
  std::int32_t ranks = 1;
  model::TensorPlace tensor;
  std::unique_ptr<ep::EpStats> stats;
  std::optional<kv::SharedName> shared_cache;  // of `cache`, where others may read it
};

// What clients should know of a model served within these limits.
api::GeneratorLimits
limits_of(const model::ModelShape& shape, const sched::SchedulerOptions& limits);

// Runs requests on one model: a thread of its own takes batches from the scheduler, runs the model,
// samples and hands tokens out, until destroyed. Steady steps allocate nothing.
//
// Of tensor parts the first one leads: it takes requests, and the others run its steps with it.
//
// A rank with peers takes every step together with them (Lockstep), those without work of its own
// too. When the group breaks, every open request ends with Lost, nothing more is accepted, and the
// engine's thread ends; take_parts() then gives back what a new engine needs.
//
// Sinks are called on the engine's thread. Destroying the engine finishes every open request with
// Cancelled first.
class Engine final : public api::Generator {
 public:
  // What ties a rank to its peers.
  struct Peers {
    std::unique_ptr<Lockstep> lockstep;  // null: alone
    // Called on the engine's thread, as its last act, when the group has broken.
    std::function<void(const Error&)> on_failure;
    // Of a rank that leads its tensor parts, when the process hands keys and values over.
    HandOverRoom* room = nullptr;
    RankCaches caches;
  };

  // `clock` and `registry` must outlive the engine. Request ids are those with id % ranks == rank.
  Engine(EngineParts parts, Peers peers, const Clock& clock, MetricsRegistry& registry);
  // One rank alone.
  Engine(EngineParts parts, const Clock& clock, MetricsRegistry& registry)
      : Engine(std::move(parts), Peers{}, clock, registry) {}
  ~Engine() override;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId request) override;
  void finish_early(api::RequestId request) override;
  // The same for a request that has its id from elsewhere. REQUIRES: id % ranks == rank, and not
  // given before; submit() is not used then.
  Result<void>
  submit_as(api::RequestId id, api::GenerationRequest request, api::GenerationSink& sink);
  // What submit() would say of the request itself, whatever the load.
  [[nodiscard]] Result<void> check(const api::GenerationRequest& request) const;
  [[nodiscard]] api::GeneratorStatus status() const override;
  [[nodiscard]] api::GeneratorLimits limits() const override;
  void reset_prefix_cache() override;

  // Ends the engine's thread, in two halves: peers are all told before any is waited for (or they
  // would take the first one's end for a failure), and all waited for before any is destroyed (they
  // read each other's memory).
  void begin_stop();
  void join();
  // REQUIRES: join() returned.
  EngineParts take_parts() { return std::move(parts_); }

  // Refuses new requests from now on; those accepted go on.
  void stop_accepting() { accepting_.store(false); }
  [[nodiscard]] std::int32_t rank() const { return parts_.rank; }
  [[nodiscard]] std::int32_t ranks() const { return parts_.ranks; }
  // Whether it takes requests. REQUIRES of submit(): it does.
  [[nodiscard]] bool leads() const { return parts_.tensor.leads(); }
  [[nodiscard]] const ep::EpStats& ep_stats() const { return *parts_.stats; }
  // The rows of this rank that chose each expert, [moe_layers, experts], as of the last step.
  [[nodiscard]] std::vector<std::uint64_t> expert_tokens() const;
  // Requests in flight at most.
  [[nodiscard]] std::int64_t places() const { return static_cast<std::int64_t>(live_.size()); }
  // Breaks the group with `reason`, as if a peer had died. Any thread.
  void break_group(const Error& reason) const;
  // Requests accepted and not yet finished.
  [[nodiscard]] std::int64_t open_requests() const { return open_requests_.load(); }

 private:
  struct Submission {
    api::RequestId id;
    api::GenerationRequest request;
    api::GenerationSink* sink = nullptr;
    Nanoseconds submitted{};
  };

  // A request that is to end now, and how it counts.
  struct Ending {
    api::RequestId id;
    api::FinishReason reason = api::FinishReason::Cancelled;
    std::string message;
  };

  // What a request awaited has come, or not.
  struct Receipt {
    api::RequestId id;
    api::KvEnding ending;
  };

  // What other threads ask of the engine's thread.
  struct Mail {
    std::vector<Submission> submissions;
    std::vector<Ending> endings;
    std::vector<Receipt> receipts;
    bool reset_prefix_cache = false;

    [[nodiscard]] bool empty() const {
      return submissions.empty() && endings.empty() && receipts.empty() && !reset_prefix_cache;
    }
  };

  // A request in the scheduler's slot of the same index.
  struct Live {
    api::RequestId id;
    api::GenerationRequest request;       // its prompt has moved to the scheduler
    api::GenerationSink* sink = nullptr;  // null: the slot is free
    std::int32_t prompt_tokens = 0;
    std::int64_t tokens = 0;  // prompt + max_tokens
    std::int32_t output_tokens = 0;
    std::int32_t scored = 1;  // prompt positions below this have been reported
    Nanoseconds submitted{};
    Nanoseconds first_step{};
    Nanoseconds first_token{};
    Nanoseconds last_token{};
  };

  Result<void> post(Submission submission);
  void run();
  Result<void> run_until_stopped();
  Result<bool> take_mail(Mail& mail);
  bool fetch_mail(Mail& mail);
  void handle(Mail& mail);
  void ask_to_end(Ending ending);
  void make_hand_overs(MetricsRegistry& registry);
  void take_receipt(Receipt receipt);
  void begin_hand_overs();
  model::LayerObserver* observer_of(std::span<const sched::PlannedChunk> plan);
  // Whether a step would run anything.
  [[nodiscard]] bool has_work() const { return !scheduler_.idle() && !blocked_; }
  [[nodiscard]] api::Role role() const;
  void wake();
  void admit(Submission submission);
  Result<void> step();
  Result<bool> agree(model::Batch& batch);
  void note_first_step(std::span<const sched::PlannedChunk> plan, Nanoseconds begin);
  [[nodiscard]] std::size_t sampled_row(std::size_t index, const sched::PlannedChunk& chunk) const;
  void ask_for_draws(std::span<const sched::PlannedChunk> plan);
  void sample_all(std::span<const sched::PlannedChunk> plan);
  void sample_chunk(std::size_t index, const sched::PlannedChunk& chunk, Sampler& sampler);
  void deliver(std::size_t index, const sched::PlannedChunk& chunk);
  void deliver_prompt_scores(std::size_t index, const sched::PlannedChunk& chunk, Live& request);
  struct Ended {
    api::FinishReason reason = api::FinishReason::Stop;
    std::optional<TokenId> stop_token;
    std::string message;
    bool prefill_lost = false;
    bool prefill_broken = false;
  };
  void finish(sched::SlotId slot, Ended ended);
  void end_hand_over(const Live& request, Ended& ended);
  void finish_all(api::FinishReason reason, const std::string& message);
  [[nodiscard]] bool stops(const Live& request, TokenId token) const;
  void observe_token(Live& request);
  void publish_state();
  void publish_ep();
  Live& live(sched::SlotId slot) { return live_[slot.index()]; }

  EngineParts parts_;
  Peers peers_;
  const Clock& clock_;
  EngineMetrics metrics_;
  const model::ModelShape shape_;

  // The engine's thread only.
  sched::Scheduler scheduler_;
  StepBatch batch_;
  SharedBatch shared_batch_;
  std::vector<Sampler> samplers_;         // [pool workers]
  std::vector<Live> live_;                // [slots of the scheduler]
  std::vector<api::TokenEvent> sampled_;  // [running_max], one per chunk of the step
  std::unordered_map<api::RequestId, sched::SlotId> slots_;
  sched::SchedulerStats published_stats_;  // as last added to the metrics
  std::uint64_t published_evictions_ = 0;
  bool called_ = false;                    // a peer has begun a step
  bool blocked_ = false;                   // all that waits, waits for a hand-over
  std::unique_ptr<HandOvers> hand_overs_;  // null: none

  // Shared.
  mutable std::mutex expert_tokens_mutex_;    // guards expert_tokens_
  std::vector<std::uint64_t> expert_tokens_;  // [moe_layers, experts], copied after each step
  mutable std::mutex mutex_;                  // guards mail_ and stopping_
  std::condition_variable wake_;
  Mail mail_;
  bool stopping_ = false;
  std::atomic<bool> accepting_{true};
  std::atomic<bool> resting_{true};  // nothing to compute, whatever is open
  std::string failure_;              // why the group broke; guarded by mutex_
  std::atomic<std::uint64_t> next_id_;
  std::atomic<std::int64_t> open_requests_{0};
  std::atomic<std::int64_t> tokens_outstanding_{0};  // prompt + max_tokens of open requests
  std::atomic<std::uint64_t> steps_{0};
  std::atomic<std::int64_t> running_{0};
  std::atomic<std::int64_t> waiting_{0};
  std::atomic<std::int64_t> pages_held_{0};
  std::atomic<std::int64_t> pages_cached_{0};
  std::atomic<std::int64_t> progress_ns_{
      0};               // when the last step ended, or work arrived at an idle engine
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pleiad::engine
