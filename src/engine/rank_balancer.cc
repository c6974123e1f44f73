#include "engine/rank_balancer.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace pleiad::engine {

Result<api::RequestId>
RankBalancer::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  using Load = std::tuple<std::int64_t, std::int64_t, std::size_t>;
  std::vector<Load> loads;
  for (std::size_t i = 0; i < ranks_.size(); i += parts_) {
    const api::GeneratorStatus status = ranks_[i]->status();
    loads.emplace_back(status.tokens_outstanding, status.pages_held, i);
  }
  std::ranges::sort(loads);
  for (std::size_t i = 0; i + 1 < loads.size(); ++i) {
    auto taken = ranks_[std::get<2>(loads[i])]->submit(request, sink);
    if (taken.ok() || taken.error().kind != ErrorKind::Exhausted) return taken;
  }
  return ranks_[std::get<2>(loads.back())]->submit(std::move(request), sink);
}

api::GeneratorStatus RankBalancer::status() const {
  api::GeneratorStatus sum{.accepting = true};
  for (std::size_t i = 0; i < ranks_.size(); i += parts_) {
    const api::GeneratorStatus one = ranks_[i]->status();
    sum.accepting = sum.accepting && one.accepting;
    sum.running += one.running;
    sum.waiting += one.waiting;
    sum.pages_total += one.pages_total;
    sum.pages_held += one.pages_held;
    sum.pages_cached += one.pages_cached;
    sum.steps += one.steps;
    sum.tokens_outstanding += one.tokens_outstanding;
    sum.seconds_since_progress = std::max(sum.seconds_since_progress, one.seconds_since_progress);
  }
  return sum;
}

void RankBalancer::reset_prefix_cache() {
  for (std::size_t i = 0; i < ranks_.size(); i += parts_) {
    ranks_[i]->reset_prefix_cache();
  }
}

}  // namespace pleiad::engine
