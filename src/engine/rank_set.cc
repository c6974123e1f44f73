#include "engine/rank_set.h"

#include <atomic>
#include <utility>

#include "base/check.h"

namespace pleiad::engine {

void RankSet::start(
    std::vector<std::unique_ptr<comm::Group>> groups,
    const std::function<void(const Error&)>& on_failure
) {
  PLEIAD_CHECK(engines_.empty());
  PLEIAD_CHECK(groups.empty() || groups.size() == model_.ranks.size());
  // Owned by the engines' callbacks together: whichever breaks first tells.
  const auto told = std::make_shared<std::atomic<bool>>(false);
  for (std::size_t i = 0; i < model_.ranks.size(); ++i) {
    Engine::Peers peers;
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
