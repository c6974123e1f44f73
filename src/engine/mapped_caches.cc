#include "engine/mapped_caches.h"

#include <utility>

namespace pleiad::engine {

Result<std::vector<MappedCaches::Mapped>> MappedCaches::open(const PrefillOffer& offer) {
  if (offer.caches.empty()) return unavailable("{} shares no memory", offer.instance);
  const std::scoped_lock lock(mutex_);
  auto found = memories_.find(offer.instance);
  if (found == memories_.end()) {
    std::vector<std::shared_ptr<const kv::MappedMemory>> mapped;
    for (const SharedCache& cache : offer.caches) {
      PLEIAD_TRY(memory, kv::MappedMemory::open(cache.name));
      mapped.push_back(std::move(memory));
    }
    if (instances_.size() == kWorkersMax) {
      memories_.erase(instances_.front());
      instances_.erase(instances_.begin());
    }
    instances_.push_back(offer.instance);
    found = memories_.emplace(offer.instance, std::move(mapped)).first;
  }
  if (found->second.size() != offer.caches.size()) {
    return unavailable("{} shares another number of caches than before", offer.instance);
  }
  std::vector<Mapped> out;
  for (std::size_t i = 0; i < offer.caches.size(); ++i) {
    const SharedCache& cache = offer.caches[i];
    const auto& memory = found->second[i];
    if (memory->bytes().size() != cache.name.bytes) {
      return unavailable("{} shares other memory than before", offer.instance);
    }
    out.push_back(
        {.source =
             {.plan = {.shape = offer.lines, .heads = cache.heads, .pages = cache.pages},
              .base = memory->bytes().data()},
         .memory = memory}
    );
  }
  return out;
}

}  // namespace pleiad::engine
