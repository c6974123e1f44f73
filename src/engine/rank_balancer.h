#pragma once

#include <vector>

#include "api/generation.h"

namespace pleiad::engine {

// Spreads requests over the ranks of a group: each goes to the rank with the fewest tokens
// outstanding (prompt + max_tokens of what it has accepted), then the fewest KV pages held, then
// the lowest number. A rank that refuses for want of room passes the request on to the next best.
// Any thread.
class RankBalancer final : public api::Generator {
 public:
  // ranks[i] gives ids with id % ranks == i; all must outlive the balancer. Of each `tensor_parts`
  // neighbours the first takes requests. REQUIRES: at least one.
  explicit RankBalancer(std::vector<api::Generator*> ranks, std::int32_t tensor_parts = 1)
      : ranks_(std::move(ranks)), parts_(static_cast<std::size_t>(tensor_parts)) {}

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId request) override { rank_of(request).cancel(request); }
  void finish_early(api::RequestId request) override { rank_of(request).finish_early(request); }
  // Sums over ranks that take requests; accepting when all are.
  [[nodiscard]] api::GeneratorStatus status() const override;
  [[nodiscard]] api::GeneratorLimits limits() const override { return ranks_.front()->limits(); }
  void reset_prefix_cache() override;

 private:
  api::Generator& rank_of(api::RequestId request) {
    return *ranks_[request.value() % ranks_.size()];
  }

  std::vector<api::Generator*> ranks_;
  std::size_t parts_;
};

}  // namespace pleiad::engine
