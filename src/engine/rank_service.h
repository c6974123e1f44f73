#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "comm/control_link.h"
#include "engine/engine.h"
#include "engine/remote_rank.h"

namespace pleiad::engine {

// The ranks of a node other than 0, at the service of node 0: requests come in over the control
// link, events go back. Engines are stopped before it goes; the link outlives it.
class RankService final : private api::GenerationSink {
 public:
  RankService(comm::ControlLink& link, std::span<const std::unique_ptr<Engine>> engines)
      : link_(link), engines_(engines) {}

  // A message of node 0. The link's thread. Fails with Corrupt when it makes no sense.
  Result<void> handle(const comm::ControlMessage& message);

 private:
  // Of all requests; events carry the ids that node 0 gave.
  void on_prompt_token(const api::TokenEvent& event) override;
  void on_token(const api::TokenEvent& event) override;
  void on_finish(const api::FinishEvent& event) override;

  Result<void> submit(std::span<const std::byte> bytes);
  // The engine whose ids or whose number this is. Fails with Corrupt when it is not here.
  Result<Engine*> engine_of(std::uint64_t id_or_rank) const;
  void send(RankMessage kind, std::vector<std::byte> bytes) {
    link_.send({static_cast<std::uint32_t>(kind), std::move(bytes)});
  }

  comm::ControlLink& link_;
  std::span<const std::unique_ptr<Engine>> engines_;
};

}  // namespace pleiad::engine
