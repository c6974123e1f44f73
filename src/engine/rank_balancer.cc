#include "engine/rank_balancer.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace pleiad::engine {

Result<api::RequestId>
RankBalancer::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  if (request.dp_rank) return submit_to(*request.dp_rank, std::move(request), sink);
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

Result<api::RequestId> RankBalancer::submit_to(
    std::int32_t dp_rank,
    api::GenerationRequest request,
    api::GenerationSink& sink
) {
  const std::size_t count = ranks_.size() / parts_;
  if (dp_rank < 0 || static_cast<std::size_t>(dp_rank) >= count) {
    return invalid_input("dp_rank {} is none of 0 to {}", dp_rank, count - 1);
  }
  return ranks_[static_cast<std::size_t>(dp_rank) * parts_]->submit(std::move(request), sink);
}

std::vector<api::GeneratorStatus> RankBalancer::status_of_ranks() const {
  std::vector<api::GeneratorStatus> out;
  for (std::size_t i = 0; i < ranks_.size(); i += parts_) {
    out.push_back(ranks_[i]->status());
  }
  return out;
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
