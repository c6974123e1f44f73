#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/worker_report.h"
#include "base/result.h"
#include "kv/lines.h"
#include "kv/shared_memory.h"

namespace pleiad::engine {

// A rank's cache that processes of the same machine may read.
struct SharedCache {
  kv::SharedName name;
  kv::HeadRange heads;
  std::int64_t pages = 0;
};

// What a prefill worker says of itself to a decode worker, before anything is asked of it.
struct PrefillOffer {
  api::WorkerReport::Identity identity;
  std::string instance;  // of this start
  kv::LineShape lines;
  std::vector<SharedCache> caches;  // [ranks]; empty: nothing is shared
};

std::string to_text(const PrefillOffer& offer);
// Fails with Corrupt, naming the member that is missing or none.
Result<PrefillOffer> prefill_offer_of(std::string_view text);

// Fails with Unsupported, naming what the two workers differ in and both values.
Result<void> check_pair(const PrefillOffer& here, const PrefillOffer& there);

}  // namespace pleiad::engine
