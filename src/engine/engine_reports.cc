#include <algorithm>

#include "engine/balancedness.h"
#include "engine/engine.h"

namespace pleiad::engine {

void Engine::publish_state() {
  const sched::SchedulerStats stats = scheduler_.stats();
  const sched::PagePool& pool = scheduler_.page_pool();
  resting_.store(!has_work());
  running_.store(stats.running);
  waiting_.store(stats.waiting);
  pages_held_.store(pool.held());
  pages_cached_.store(pool.cached());
  metrics_.requests_running.set(static_cast<double>(stats.running));
  metrics_.requests_waiting.set(static_cast<double>(stats.waiting));
  metrics_.pages_held.set(static_cast<double>(pool.held()));
  metrics_.pages_cached.set(static_cast<double>(pool.cached()));
  metrics_.kv_cache_usage.set(static_cast<double>(pool.held()) / static_cast<double>(pool.total()));
  const auto add = [](Counter& counter, std::uint64_t now, std::uint64_t before) {
    if (now != before) counter.add(static_cast<double>(now - before));
  };
  add(metrics_.preemptions, stats.preemptions, published_stats_.preemptions);
  add(metrics_.prefix_queried_tokens,
      stats.prefix_queried_tokens,
      published_stats_.prefix_queried_tokens);
  add(metrics_.prefix_hit_tokens, stats.prefix_hit_tokens, published_stats_.prefix_hit_tokens);
  add(metrics_.page_evictions, pool.evictions(), published_evictions_);
  published_stats_ = stats;
  published_evictions_ = pool.evictions();

  publish_ep();
}

void Engine::publish_ep() {
  const ep::EpStats& stats = *parts_.stats;
  const auto follow = [](Counter& counter, const std::atomic<std::uint64_t>& total, double unit) {
    const double now = static_cast<double>(total.load(std::memory_order_relaxed)) * unit;
    counter.add(now - counter.value());
  };
  follow(metrics_.ep_dispatch_bytes, stats.dispatch_bytes, 1.0);
  follow(metrics_.ep_combine_bytes, stats.combine_bytes, 1.0);
  follow(metrics_.ep_dispatch_wait_seconds, stats.dispatch_wait_ns, 1e-9);
  follow(metrics_.ep_combine_wait_seconds, stats.combine_wait_ns, 1e-9);
  follow(metrics_.ep_rows_sent, stats.rows_sent, 1.0);
  follow(metrics_.ep_assignments, stats.assignments, 1.0);
  follow(metrics_.ep_extra_rounds, stats.extra_rounds, 1.0);
  follow(metrics_.ep_extra_passes, stats.extra_passes, 1.0);

  const auto tokens = parts_.model->expert_tokens();
  const auto experts = static_cast<std::size_t>(shape_.moe.gate.experts);
  if (experts == 0 || tokens.empty()) return;
  double sum = 0.0;
  double least = 1.0;
  for (std::size_t first = 0; first < tokens.size(); first += experts) {
    const double layer = balancedness(tokens.subspan(first, experts));
    sum += layer;
    least = std::min(least, layer);
  }
  metrics_.expert_balance.set(
      sum * static_cast<double>(experts) / static_cast<double>(tokens.size())
  );
  metrics_.expert_balance_least.set(least);
  const std::scoped_lock lock(expert_tokens_mutex_);
  std::ranges::copy(tokens, expert_tokens_.begin());
}

std::vector<std::uint64_t> Engine::expert_tokens() const {
  const std::scoped_lock lock(expert_tokens_mutex_);
  return expert_tokens_;
}

}  // namespace pleiad::engine
