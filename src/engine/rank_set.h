#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "comm/group.h"
#include "engine/engine.h"
#include "engine/load.h"

namespace pleiad::engine {

// The ranks of this process: one loaded model, one engine per rank. Engines come and go with the
// groups they run in; weights, pools and caches stay. One thread at a time.
class RankSet {
 public:
  // `clock`, `registry` and what `hand_over` points at must outlive the set.
  RankSet(
      LoadedModel model,
      const Clock& clock,
      MetricsRegistry& registry,
      HandOverSettings hand_over = {}
  );
  ~RankSet() { stop(); }
  RankSet(const RankSet&) = delete;
  RankSet& operator=(const RankSet&) = delete;

  // Starts the engines. groups[i] is the end of this process's rank i; no groups: one rank alone.
  // `on_failure` is called once, on an engine's thread, when the group breaks; the caller then
  // stops the set from another thread and may start it in a new group. REQUIRES: stopped.
  void start(
      std::vector<std::unique_ptr<comm::Group>> groups,
      const std::function<void(const Error&)>& on_failure
  );
  // Ends all engines: open requests finish with Cancelled.
  void stop();
  // Its first half: returns at once, and from then on nothing that befalls the group makes a
  // request finish with Lost. stop() must follow.
  void begin_stop();
  // Breaks the group, if it is not broken yet, and ends all engines: open requests finish with
  // Lost. REQUIRES: started with groups.
  void fail(const Error& reason);

  // Empty while stopped.
  [[nodiscard]] std::span<const std::unique_ptr<Engine>> engines() const { return engines_; }
  [[nodiscard]] const LoadedModel& model() const { return model_; }
  // What decode workers are told of this process, when its role is Prefill.
  [[nodiscard]] std::string prefill_offer() const { return to_text(room_.offer); }
  // Where the engines' metrics are.
  [[nodiscard]] const MetricsRegistry& registry() const { return registry_; }

 private:
  void take_back();
  void fill_room(HandOverSettings settings);
  [[nodiscard]] RankCaches caches_of(std::size_t first);

  LoadedModel model_;
  HandOverRoom room_;
  const Clock& clock_;
  MetricsRegistry& registry_;
  std::vector<std::unique_ptr<Engine>> engines_;
};

}  // namespace pleiad::engine
