#include "engine/ep_report.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/balancedness.h"
#include "plan/ep_settings_text.h"

namespace pleiad::engine {
namespace {

Json seconds(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) * 1e-9;
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

void add_totals(const EpTotals& totals, Json& out) {
  out.set("dispatch_bytes", totals.dispatch_bytes);
  out.set("combine_bytes", totals.combine_bytes);
  out.set("dispatch_wait_seconds", seconds(totals.dispatch_wait_ns));
  out.set("combine_wait_seconds", seconds(totals.combine_wait_ns));
  out.set("rows_sent", totals.rows_sent);
  out.set("assignments", totals.assignments);
  out.set("extra_rounds", totals.extra_rounds);
  out.set("extra_passes", totals.extra_passes);
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

JsonArray layers_json(const LoadedModel& model, std::span<const std::optional<NodeCounts>> nodes) {
  const auto experts = static_cast<std::size_t>(model.weights->shape().moe.gate.experts);
  std::vector<std::uint64_t> tokens(experts * model.placements.size());
  for (const std::optional<NodeCounts>& node : nodes) {
    if (!node) continue;
    PLEIAD_CHECK(node->expert_tokens.size() == tokens.size());
    std::ranges::transform(tokens, node->expert_tokens, tokens.begin(), std::plus<std::uint64_t>());
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
    const LoadedModel& model,
    const plan::ParallelLayout& layout,
    std::span<api::Generator* const> ranks,
    std::span<const std::optional<NodeCounts>> nodes,
    std::uint32_t epoch
) {
  Json out;
  out.set("epoch", std::int64_t{epoch});
  out.set("nnodes", std::int64_t{layout.nnodes});
  out.set("dp_size", std::int64_t{layout.dp_size});
  out.set("tp_size", std::int64_t{layout.tp_size});
  out.set("ep_size", std::int64_t{layout.ep_size});
  out.set("moe_tp_size", std::int64_t{layout.moe_tp_size});
  out.set("settings", settings_json(model.lockstep.settings, model.lockstep.all_to_all_rows_min));
  JsonArray list;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const auto rank = static_cast<std::int32_t>(i);
    const std::int32_t node = layout.place(rank).node;
    Json one = rank_json(rank, node, ranks[i]->status());
    const auto& counts = nodes[static_cast<std::size_t>(node)];
    const std::int32_t place = rank - layout.ranks_of_node(node).first;
    if (counts) add_totals(counts->ranks[static_cast<std::size_t>(place)].ep, one);
    list.push_back(std::move(one));
  }
  out.set("ranks", std::move(list));
  out.set("layers", layers_json(model, nodes));
  return out;
}

}  // namespace pleiad::engine
