#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "api/hand_over.h"
#include "base/clock.h"
#include "engine/hand_over_metrics.h"
#include "engine/mapped_caches.h"
#include "engine/prefill_offer.h"
#include "kv/assembly.h"
#include "kv/record.h"

namespace pleiad::engine {

// One prompt's keys and values on their way from a prefill worker into a rank's pages. Destroying
// it ends the transfer, for the worker too; from then on nobody writes to the pages.
class KvFetch final : public api::KvInlet {
 public:
  struct Options {
    api::PrefillFrom from;
    api::PrefillOrder order;  // all but `instance` and `shared`
    kv::TransferPlan plan;    // all but `sources`
    bool share_memory = true;
    // On a thread of the source, once: everything is in the pages, or why it is not.
    std::function<void(api::KvEnding)> on_end;
  };

  // What all fetches of a process share; outlives them.
  struct Shared {
    const PrefillOffer& own;  // what this worker would offer
    api::KvSource& source;
    MappedCaches& mapped;
    const Clock& clock;
    HandOverMetrics& metrics;
  };

  // Asks at once.
  KvFetch(Options options, const Shared& shared);
  KvFetch(const KvFetch&) = delete;
  KvFetch& operator=(const KvFetch&) = delete;
  ~KvFetch() override;

  Result<api::PrefillOrder> on_offer(std::string_view text) override;
  Result<void> on_bytes(std::string_view bytes) override;
  void on_end(api::KvEnding ending) override;

 private:
  void end(api::KvEnding ending);

  Options options_;
  Shared shared_;
  const Nanoseconds begin_;
  std::vector<MappedCaches::Mapped> sources_;  // what assembly_ reads from
  std::optional<kv::Assembly> assembly_;
  kv::RecordReader reader_;
  bool ended_ = false;
  std::unique_ptr<api::KvCall> call_;  // last: ends the calls to all above
};

}  // namespace pleiad::engine
