#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "base/metrics.h"
#include "comm/control_link.h"
#include "engine/engine.h"
#include "engine/remote_rank.h"

namespace pleiad::engine {

// The ranks of a node other than 0, at the service of node 0: requests come in over the control
// link, events go back. It is closed before the engines are stopped, and they are before it goes;
// the link outlives it.
class RankService final : private api::GenerationSink {
 public:
  RankService(comm::ControlLink& link, std::span<const std::unique_ptr<Engine>> engines)
      : link_(link), engines_(engines) {}

  // A message of node 0. The link's thread. Fails with Corrupt when it makes no sense.
  Result<void> handle(const comm::ControlMessage& message);
  // Tells node 0 what the ranks have done, and their metrics. REQUIRES: the engines stand.
  void report(const MetricsRegistry& registry);
  // Messages are dropped from now on; returns once none is being handled. Events still go out, and
  // what the engines' end cancels ends with Lost, since no client asked for it. Any thread.
  void close();

 private:
  // Of all requests; events carry the ids that node 0 gave.
  void on_prompt_token(const api::TokenEvent& event) override;
  void on_token(const api::TokenEvent& event) override;
  void on_finish(const api::FinishEvent& event) override;

  Result<void> dispatch(const comm::ControlMessage& message);
  Result<void> submit(std::span<const std::byte> bytes);
  // The engine whose ids or whose number this is. Fails with Corrupt when it is not here.
  Result<Engine*> engine_of(std::uint64_t id_or_rank) const;
  void send(RankMessage kind, std::vector<std::byte> bytes) {
    link_.send({static_cast<std::uint32_t>(kind), std::move(bytes)});
  }

  comm::ControlLink& link_;
  std::span<const std::unique_ptr<Engine>> engines_;
  std::mutex mutex_;  // held while a message is handled
  std::atomic<bool> closed_{false};
};

}  // namespace pleiad::engine
