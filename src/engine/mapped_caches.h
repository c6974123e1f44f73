#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/prefill_offer.h"
#include "kv/shared_memory.h"

namespace pleiad::engine {

// The shared caches of prefill workers of this machine, mapped once for all transfers. Those of a
// worker that was started again go with the last transfer that reads them. Any thread.
class MappedCaches {
 public:
  // One of a worker's caches, with where it is. Owners of the memory: the table, and transfers that
  // read from it.
  struct Mapped {
    kv::PartSource source;
    std::shared_ptr<const kv::MappedMemory> memory;
  };

  // [ranks of the offer]. Fails with Unavailable when one cannot be read from here.
  Result<std::vector<Mapped>> open(const PrefillOffer& offer);

 private:
  static constexpr std::size_t kWorkersMax = 64;

  std::mutex mutex_;  // guards what follows
  // By instance: of workers that are there, or were not long ago.
  std::map<std::string, std::vector<std::shared_ptr<const kv::MappedMemory>>> memories_;
  std::vector<std::string> instances_;  // oldest first
};

}  // namespace pleiad::engine
