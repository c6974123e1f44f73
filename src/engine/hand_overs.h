#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "engine/hand_over_metrics.h"
#include "engine/hand_over_settings.h"
#include "engine/kv_fetch.h"
#include "engine/kv_sender.h"
#include "engine/mapped_caches.h"
#include "engine/rank_caches.h"
#include "model/model.h"
#include "sched/page_pool.h"

namespace pleiad::engine {

// What the ranks of a process share for their hand-overs; outlives their engines.
struct HandOverRoom {
  HandOverSettings settings;
  PrefillOffer offer;  // of this process
  std::uint64_t epoch = 0;
  std::atomic<std::uint64_t> next_number{1};
  MappedCaches mapped;
};

// The hand-overs of one dp rank, in the direction that its role asks for. An engine's: members that
// say nothing else are its thread's.
class HandOvers final : public model::LayerObserver {
 public:
  struct Events {
    // On other threads. What was awaited has come, or why not.
    std::function<void(api::RequestId, api::KvEnding)> on_received;
    // A prompt that was computed for another worker is to end.
    std::function<void(api::RequestId, KvSender::Over)> on_over;
  };

  struct Place {
    HandOverRoom* room = nullptr;
    RankCaches caches;
    std::string model_name;
    std::int32_t rank = 0;
    std::int64_t runs_max = 0;  // sequences of a step
  };

  HandOvers(Place place, Events events, const Clock& clock, MetricsRegistry& registry);
  ~HandOvers() override;

  // Whether a rank of this role takes such a request. Any thread.
  [[nodiscard]] static Result<void> check(api::Role role, const api::GenerationRequest& request);

  // A request that will be computed for another worker. Any thread.
  void open(api::RequestId id, const api::GenerationRequest& request);
  // Its sequence was admitted: `computed` tokens are in its pages already.
  void
  begin_sending(api::RequestId id, std::span<const sched::PageId> pages, std::int64_t computed);
  // A sequence that awaits its keys from token `computed` on, all but the newest's.
  void begin_receiving(
      api::RequestId id,
      const api::GenerationRequest& request,
      std::span<const TokenId> tokens,
      std::span<const sched::PageId> pages,
      std::int64_t computed
  );
  // Ends a request's hand-over, if it has one; its pages are nobody else's afterwards. `why` is
  // told to a peer that waits; empty: it does not want to know. Whether a peer has everything.
  bool end(api::RequestId id, std::string_view why);

  // Tokens of a step that is about to run: their lines are sent as the layers get them.
  void add_run(const KvRun& run) { runs_.push_back(run); }
  void clear_runs() { runs_.clear(); }
  [[nodiscard]] bool has_runs() const { return !runs_.empty(); }
  void on_lines(std::int64_t layer) override { sender_->ship(layer, runs_); }

 private:
  HandOverRoom& room_;
  const Place place_;
  const Events events_;
  const Clock& clock_;
  HandOverMetrics metrics_;
  std::vector<KvRun> runs_;
  std::unique_ptr<KvSender> sender_;  // of Role::Prefill
  std::unordered_map<api::RequestId, std::unique_ptr<KvFetch>> fetches_;
};

}  // namespace pleiad::engine
