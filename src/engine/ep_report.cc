#include "engine/ep_report.h"

#include <algorithm>
#include <vector>

#include "engine/balancedness.h"
#include "plan/ep_settings_text.h"

namespace pleiad::engine {
namespace {

Json number(const std::atomic<std::uint64_t>& counter) {
  return counter.load(std::memory_order_relaxed);
}

Json seconds(const std::atomic<std::uint64_t>& nanoseconds) {
  return static_cast<double>(nanoseconds.load(std::memory_order_relaxed)) * 1e-9;
}

Json settings_json(const plan::EpSettings& settings, std::int64_t all_to_all_rows_min) {
  Json out;
  out.set("ep_level", std::string(plan::to_string(settings.level)));
  if (settings.level == plan::EpLevel::Auto) out.set("all_to_all_from_rows", all_to_all_rows_min);
  out.set("routing", std::string(plan::to_string(settings.routing)));
  out.set("two_batch_overlap", settings.two_batch_overlap);
  out.set("enable_init_routing_cutoff", settings.enable_init_routing_cutoff);
  out.set("topk_scaling_factor", settings.topk_scaling_factor);
  return out;
}

Json rank_json(std::int32_t rank, std::int32_t node, const api::GeneratorStatus& status) {
  Json out;
  out.set("rank", std::int64_t{rank});
  out.set("node", std::int64_t{node});
  out.set("running", status.running);
  out.set("waiting", status.waiting);
  out.set("tokens_outstanding", status.tokens_outstanding);
  out.set("pages_held", status.pages_held);
  return out;
}

void add_stats(const ep::EpStats& stats, Json& out) {
  out.set("dispatch_bytes", number(stats.dispatch_bytes));
  out.set("combine_bytes", number(stats.combine_bytes));
  out.set("dispatch_wait_seconds", seconds(stats.dispatch_wait_ns));
  out.set("combine_wait_seconds", seconds(stats.combine_wait_ns));
  out.set("rows_sent", number(stats.rows_sent));
  out.set("assignments", number(stats.assignments));
  out.set("extra_rounds", number(stats.extra_rounds));
  out.set("extra_passes", number(stats.extra_passes));
}

JsonArray slots_json(const plan::ExpertPlacement& placement) {
  JsonArray ranks;
  for (std::int32_t rank = 0; rank < placement.ranks(); ++rank) {
    JsonArray slots;
    for (const std::int32_t expert : placement.slots(rank)) {
      slots.emplace_back(std::int64_t{expert});
    }
    ranks.emplace_back(std::move(slots));
  }
  return ranks;
}

JsonArray layers_json(const RankSet& set) {
  const LoadedModel& model = set.model();
  const auto experts = static_cast<std::size_t>(model.weights->shape().moe.gate.experts);
  std::vector<std::uint64_t> tokens(experts * model.placements.size());
  for (const auto& engine : set.engines()) {
    engine->add_expert_tokens(tokens);
  }
  JsonArray layers;
  for (std::size_t layer = 0; layer < model.placements.size(); ++layer) {
    const auto counts = std::span(tokens).subspan(layer * experts, experts);
    Json one;
    one.set("layer", static_cast<std::int64_t>(layer));
    one.set("slots", slots_json(model.placements[layer]));
    one.set("tokens", JsonArray(counts.begin(), counts.end()));
    one.set("balancedness", balancedness(counts));
    layers.push_back(std::move(one));
  }
  return layers;
}

}  // namespace

Json ep_report(
    const RankSet& set,
    const plan::ParallelLayout& layout,
    std::span<api::Generator* const> ranks,
    std::uint32_t epoch
) {
  const LockstepOptions& lockstep = set.model().lockstep;
  Json out;
  out.set("epoch", std::int64_t{epoch});
  out.set("nnodes", std::int64_t{layout.nnodes});
  out.set("dp_size", std::int64_t{layout.dp_size});
  out.set("ep_size", std::int64_t{layout.ep_size});
  out.set("moe_tp_size", std::int64_t{layout.moe_tp_size});
  out.set("settings", settings_json(lockstep.settings, lockstep.all_to_all_rows_min));
  JsonArray list;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const auto rank = static_cast<std::int32_t>(i);
    Json one = rank_json(rank, layout.place(rank).node, ranks[i]->status());
    if (i < set.engines().size()) add_stats(set.engines()[i]->ep_stats(), one);
    list.push_back(std::move(one));
  }
  out.set("ranks", std::move(list));
  out.set("layers", layers_json(set));
  return out;
}

}  // namespace pleiad::engine
