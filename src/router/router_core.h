#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/result.h"
#include "router/policy.h"
#include "router/route_explanation.h"
#include "router/routed_request.h"
#include "router/worker_link.h"
#include "router/worker_table.h"

namespace pleiad::router {

struct RouterCoreOptions {
  PolicyOptions policy;
  WorkerTable::Options table;
  std::uint64_t seed = 0;  // of draws
  // Workers of any role that may be lost under one request; it ends with an error at the last: it
  // may be what kills them.
  int deaths_max = 2;
  // Prompts with fewer tokens to compute stay with the decode worker.
  std::int64_t prefill_tokens_min = 256;
  // Prefill workers that may fail one request, and be well; then its decode worker computes the
  // prompt.
  std::size_t prefill_losses_max = 2;
  // Time without a worker that begins with it, once accepted.
  Nanoseconds wait_max = std::chrono::seconds(30);
};

// What happened since the start.
struct RouterCounts {
  std::uint64_t requests = 0;
  std::uint64_t replays = 0;  // times that a request went on at another worker
  std::uint64_t failed = 0;   // requests that ended with an error
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;   // of these, expected in the chosen unit's cache
  std::uint64_t hand_overs = 0;      // prompts sent to a prefill worker
  std::uint64_t prefill_losses = 0;  // of these, those that it did not bring
  std::array<std::uint64_t, kChoiceReasons.size()> choices{};  // by reason
};

// How the workers stand, in sum.
struct RouterSummary {
  api::GeneratorStatus status;
  api::GeneratorLimits limits;
  std::int64_t ready_workers = 0;
  std::string not_ready;  // why nothing is taken; empty: it is
};

// Every decision of the router: which unit a request goes to, what becomes of it when its worker is
// lost, has no room or goes away, and which requests wait. Each accepted request's sink gets its
// on_finish exactly once. Knows neither network nor threads nor the machine's clock: time comes
// from `clock`, effects go through `link`, and what happens comes in as calls. So the real one runs
// in the simulator (src/sim).
//
// What is told of an attempt that is over changes nothing. Not thread-safe. Sinks and link must not
// call back.
class RouterCore {
 public:
  // Both must outlive it.
  RouterCore(const Clock& clock, WorkerLink& link, const RouterCoreOptions& options);
  RouterCore(const RouterCore&) = delete;
  RouterCore& operator=(const RouterCore&) = delete;
  // Open requests end with Cancelled; the link is not told.
  ~RouterCore();

  // Fails with InvalidInput when there is one of that URL, or there are too many. A worker of
  // another role than `wanted` is refused when it reports.
  Result<WorkerIndex>
  add_worker(const std::string& url, std::optional<api::Role> wanted = std::nullopt);
  // Fails with NotFound, as does the next.
  Result<void> drain_worker(std::string_view url, bool draining);
  // What runs there goes on elsewhere.
  Result<WorkerIndex> remove_worker(std::string_view url);

  // A request that check() has passed. `id` is new.
  void submit(api::RequestId id, api::GenerationRequest request, api::GenerationSink& sink);
  // As Generator's.
  void cancel(api::RequestId id);
  void finish_early(api::RequestId id);

  // The attempt is with its worker, which may have begun.
  void on_connected(AttemptId attempt);
  void on_prompt_token(AttemptId attempt, const api::TokenEvent& event);
  void on_token(AttemptId attempt, const api::TokenEvent& event);
  // How the worker says that it ended.
  void on_finish(AttemptId attempt, const api::FinishEvent& event);
  // The worker took nothing: Exhausted and Unavailable are asked elsewhere, others end the request.
  void on_refused(AttemptId attempt, const Error& why);
  // The connection broke, or carried what is no answer.
  void on_broken(AttemptId attempt, std::string_view why);
  // A report of the worker, or why there is none.
  void on_report(WorkerIndex worker, Result<api::WorkerReport> report);
  // Time has passed. To be called a few times a second.
  void on_tick();

  // Other rules for the choices from now on, and another RouterCoreOptions::prefill_tokens_min.
  void set_policy(const PolicyOptions& policy, std::int64_t prefill_tokens_min);

  [[nodiscard]] const WorkerTable& table() const { return table_; }
  // What choices rest on, for explanations.
  [[nodiscard]] RoutePolicies policies() const {
    return {&policy_, &prefill_policy_, prefill_tokens_min_};
  }
  [[nodiscard]] const RouterCounts& counts() const { return counts_; }
  [[nodiscard]] RouterSummary summary() const;
  [[nodiscard]] std::size_t open_requests() const { return requests_.size(); }
  [[nodiscard]] std::size_t waiting_requests() const { return waiting_.size(); }

 private:
  void dispatch(RoutedRequest& request);
  std::optional<Choice> choose(const RoutedRequest& request);
  void enqueue(RoutedRequest& request);
  void begin(RoutedRequest& request, const Choice& choice);
  std::optional<RoutedRequest::Prefill>
  choose_prefill(const RoutedRequest& request, const Choice& choice);
  [[nodiscard]] std::string name_of(const RoutedRequest::Attempt& attempt) const;
  void prefill_lost(RoutedRequest& request, std::string_view why);
  bool end_when_complete_or_deadly(RoutedRequest& request);
  void end_prefill(RoutedRequest::Attempt& attempt);
  void worker_lost(RoutedRequest& request, std::string_view why);
  void try_again(RoutedRequest& request);
  void end_attempt(RoutedRequest& request);
  void finish(RoutedRequest& request, api::FinishReason reason, std::string message = {});
  void finish(RoutedRequest& request, const api::FinishEvent& event);
  void move_to_next_start(WorkerIndex worker);
  // But for prompts that were ordered when the worker had reported so often.
  void move_away_from(
      WorkerIndex worker,
      std::string_view why,
      std::optional<std::uint64_t> reports = std::nullopt
  );
  void serve_waiting();
  [[nodiscard]] bool waited_too_long(const RoutedRequest& request) const;
  RoutedRequest* find(api::RequestId id);
  RoutedRequest* find(AttemptId attempt);

  const Clock& clock_;
  WorkerLink& link_;
  const RouterCoreOptions options_;
  WorkerTable table_;
  Policy policy_;
  Policy prefill_policy_;
  std::int64_t prefill_tokens_min_;
  RouterCounts counts_;
  std::unordered_map<api::RequestId, std::unique_ptr<RoutedRequest>> requests_;
  std::unordered_map<AttemptId, RoutedRequest*> attempts_;  // under way
  std::uint64_t next_attempt_ = 1;
  std::deque<api::RequestId> waiting_;  // without a unit
  std::vector<std::uint32_t> overlap_;  // [units], of the prompt being placed
  std::vector<std::uint8_t> eligible_;  // [units], for it
};

}  // namespace pleiad::router
