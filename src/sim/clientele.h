#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "router/router_core.h"
#include "sim/client.h"

namespace pleiad::sim {

// Every client that the service took, and what came of its request: how often it was sent, how many
// workers its prompt killed, how it ended. Ids count from 1.
class Clientele {
 public:
  struct Options {
    std::size_t open_max = 0;  // requests at once
    Nanoseconds wait_max{0};   // as RouterCoreOptions'
    int deaths_max = 0;        // likewise
    std::function<std::unique_ptr<api::GenerationSink>(api::GenerationSink& real)> sink_double = {};
  };

  // All must outlive it; `core` may be constructed later. The core must not outlive it.
  Clientele(const Clock& clock, router::RouterCore& core, Verdict& verdict, Options options);
  Clientele(const Clientele&) = delete;
  Clientele& operator=(const Clientele&) = delete;

  // As RoutedGenerator::submit. None: the service takes nothing.
  std::optional<api::RequestId> submit(api::GenerationRequest request);
  // Unless they have ended.
  void cancel(api::RequestId id);
  void finish_early(api::RequestId id);

  // A request goes to a worker, with so many attempts under way, this one too.
  void on_sent(api::RequestId id, std::size_t under_way);
  // A prompt killed a worker; and the router cannot count one, since nobody lived to tell.
  void on_killed(api::RequestId id);
  void on_untold(api::RequestId id);

  // Judges the requests that have ended, once each, and returns them in order.
  std::vector<const SimClient*> take_ended();
  // Everybody has been told an end.
  void check_all_ended();
  // Clients from the `first` on, probes, were answered in full.
  void check_whole(std::size_t first);

  [[nodiscard]] bool has_ended(api::RequestId id) const;
  [[nodiscard]] std::size_t size() const { return visits_.size(); }
  [[nodiscard]] std::size_t open() const { return open_.size(); }
  // Answered in full.
  [[nodiscard]] std::uint64_t whole() const;

 private:
  struct Visit {
    std::unique_ptr<SimClient> client;
    std::unique_ptr<api::GenerationSink> sink_double;
    Nanoseconds accepted_at{0};
    int attempts = 0;
    int killed = 0;  // workers, by its prompt
  };

  Visit& visit(api::RequestId id) { return visits_[id.value() - 1]; }

  const Clock& clock_;
  router::RouterCore& core_;
  Verdict& verdict_;
  const Options options_;
  std::vector<Visit> visits_;     // index + 1 is the id
  std::set<std::uint64_t> open_;  // ids of those that have not ended
};

}  // namespace pleiad::sim
