#include "engine/rank_set.h"

#include <atomic>
#include <utility>

#include "base/check.h"
#include "base/random.h"
#include "engine/rank_caches.h"

namespace pleiad::engine {

RankSet::RankSet(
    LoadedModel model,
    const Clock& clock,
    MetricsRegistry& registry,
    HandOverSettings hand_over
)
    : model_(std::move(model)), clock_(clock), registry_(registry) {
  if (hand_over.role != api::Role::Both) fill_room(std::move(hand_over));
}

void RankSet::fill_room(HandOverSettings settings) {
  room_.settings = std::move(settings);
  room_.epoch = entropy_seed();
  room_.offer.identity = room_.settings.identity;
  room_.offer.instance = room_.settings.instance;
  for (EngineParts& parts : model_.ranks) {
    const kv::PartCache cache = part_cache_of(parts.model->shape(), parts.tensor, parts.cache);
    room_.offer.lines = cache.plan.shape;
    if (!parts.shared_cache || !room_.settings.share_memory) continue;
    room_.offer.caches.push_back(
        {.name = *parts.shared_cache, .heads = cache.plan.heads, .pages = cache.plan.pages}
    );
  }
}

// Of the rank that leads its tensor parts, and of theirs.
RankCaches RankSet::caches_of(std::size_t first) {
  const EngineParts& leader = model_.ranks[first];
  RankCaches out{
      .shape = lines_of(leader.model->shape(), leader.tensor.parts), .first_rank = leader.rank};
  const std::size_t end = first + static_cast<std::size_t>(leader.tensor.parts);
  PLEIAD_CHECK(end <= model_.ranks.size(), "hand-overs want all tensor parts in one process");
  for (std::size_t i = first; i < end; ++i) {
    EngineParts& part = model_.ranks[i];
    out.parts.push_back(part_cache_of(part.model->shape(), part.tensor, part.cache));
  }
  return out;
}

void RankSet::start(
    std::vector<std::unique_ptr<comm::Group>> groups,
    const std::function<void(const Error&)>& on_failure
) {
  PLEIAD_CHECK(engines_.empty());
  PLEIAD_CHECK(groups.empty() || groups.size() == model_.ranks.size());
  // Owned by the engines' callbacks together: whichever breaks first tells.
  const auto told = std::make_shared<std::atomic<bool>>(false);
  std::vector<Engine::Peers> all(model_.ranks.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (room_.settings.role == api::Role::Both || !model_.ranks[i].tensor.leads()) continue;
    all[i].room = &room_;
    all[i].caches = caches_of(i);
  }
  for (std::size_t i = 0; i < model_.ranks.size(); ++i) {
    Engine::Peers& peers = all[i];
    if (!groups.empty()) {
      peers.lockstep = std::make_unique<Lockstep>(std::move(groups[i]), model_.lockstep);
      peers.on_failure = [told, on_failure](const Error& error) {
        if (!told->exchange(true) && on_failure) on_failure(error);
      };
    }
    engines_.push_back(
        std::make_unique<Engine>(std::move(model_.ranks[i]), std::move(peers), clock_, registry_)
    );
  }
}

void RankSet::stop() {
  begin_stop();
  take_back();
}

void RankSet::begin_stop() {
  for (const auto& engine : engines_) {
    engine->begin_stop();
  }
}

void RankSet::fail(const Error& reason) {
  for (const auto& engine : engines_) {
    engine->break_group(reason);
  }
  take_back();
}

// All threads end before anything is destroyed: ranks read each other's buffers.
void RankSet::take_back() {
  for (const auto& engine : engines_) {
    engine->join();
  }
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    model_.ranks[i] = engines_[i]->take_parts();
  }
  engines_.clear();
}

}  // namespace pleiad::engine
