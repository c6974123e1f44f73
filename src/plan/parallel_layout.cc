#include "plan/parallel_layout.h"

#include <algorithm>
#include <string_view>

#include <fmt/core.h>

namespace pleiad::plan {
namespace {

// Two sizes whose product is the number of ranks. The second is 1 when neither was given.
struct Side {
  std::string_view first_name;
  std::string_view second_name;
  std::optional<std::int32_t> first;
  std::optional<std::int32_t> second;

  [[nodiscard]] bool given() const { return first || second; }
  [[nodiscard]] bool complete() const { return first && second; }
  [[nodiscard]] std::int64_t product() const {
    return std::int64_t{first.value_or(1)} * second.value_or(1);
  }
  // "dp_size 4 x tp_size 2", of what was given.
  [[nodiscard]] std::string text() const {
    if (complete()) return fmt::format("{} {} x {} {}", first_name, *first, second_name, *second);
    return first ? fmt::format("{} {}", first_name, *first)
                 : fmt::format("{} {}", second_name, second.value_or(1));
  }
};

Result<void> check_sizes(const Side& side) {
  const auto check = [](std::string_view name, std::optional<std::int32_t> size) -> Result<void> {
    if (!size || (*size >= 1 && *size <= kRanksMax)) return {};
    return invalid_input(
        "{} is {}; it must be from 1 to {}, nearest valid value {}",
        name,
        *size,
        kRanksMax,
        *size < 1 ? 1 : kRanksMax
    );
  };
  PLEIAD_TRY(check(side.first_name, side.first));
  PLEIAD_TRY(check(side.second_name, side.second));
  if (side.product() > kRanksMax) {
    return invalid_input("{} are {} ranks; at most {}", side.text(), side.product(), kRanksMax);
  }
  return {};
}

// The side's sizes for `ranks` ranks; `other` is the side that asked for so many.
Result<void> complete(Side& side, std::int32_t ranks, const Side& other) {
  if (side.complete()) {
    if (side.product() == ranks) return {};
    return invalid_input(
        "{} are {} ranks, but {} ask for {}; dp_size * tp_size must equal ep_size * moe_tp_size",
        side.text(),
        side.product(),
        other.text(),
        ranks
    );
  }
  if (ranks % side.product() != 0) {
    return invalid_input(
        "{} does not divide the {} ranks that {} ask for; nearest valid: {}",
        side.text(),
        ranks,
        other.text(),
        nearest_divisors(ranks, side.product())
    );
  }
  const auto rest = static_cast<std::int32_t>(ranks / side.product());
  if (side.first) {
    side.second = rest;
  } else {
    if (!side.second) side.second = 1;
    side.first = rest;
  }
  return {};
}

Result<void> check_nodes(const LayoutRequest& request, std::int32_t ranks) {
  if (ranks % request.nnodes != 0) {
    return invalid_input(
        "{} ranks cannot be spread evenly over {} nodes; nearest valid --nnodes: {}",
        ranks,
        request.nnodes,
        nearest_divisors(ranks, request.nnodes)
    );
  }
  if (request.node_rank < 0 || request.node_rank >= request.nnodes) {
    return invalid_input(
        "node_rank is {}; with {} nodes it must be from 0 to {}, nearest valid value {}",
        request.node_rank,
        request.nnodes,
        request.nnodes - 1,
        request.node_rank < 0 ? 0 : request.nnodes - 1
    );
  }
  return {};
}

}  // namespace

std::string nearest_divisors(std::int64_t number, std::int64_t value) {
  PLEIAD_CHECK(number >= 1, "a count of ranks, sums or heads");
  std::int64_t below = std::clamp<std::int64_t>(value, 1, number);
  std::int64_t above = below;
  while (number % below != 0) {
    --below;
  }
  while (number % above != 0) {
    ++above;
  }
  if (below == above) return std::to_string(below);
  return fmt::format("{} and {}", below, above);
}

RankPlace ParallelLayout::place(std::int32_t rank) const {
  PLEIAD_CHECK(rank >= 0 && rank < ranks(), "rank out of range");
  return {
      .node = rank / ranks_per_node(),
      .dp_rank = rank / tp_size,
      .tp_rank = rank % tp_size,
      .ep_rank = rank / moe_tp_size,
      .moe_tp_shard = rank % moe_tp_size,
  };
}

std::int32_t ParallelLayout::rank_of(std::int32_t ep_rank, std::int32_t moe_tp_shard) const {
  PLEIAD_CHECK(ep_rank >= 0 && ep_rank < ep_size, "ep rank out of range");
  PLEIAD_CHECK(moe_tp_shard >= 0 && moe_tp_shard < moe_tp_size, "shard out of range");
  return ep_rank * moe_tp_size + moe_tp_shard;
}

RankRange ParallelLayout::ranks_of_node(std::int32_t node) const {
  PLEIAD_CHECK(node >= 0 && node < nnodes, "node out of range");
  return {.first = node * ranks_per_node(), .count = ranks_per_node()};
}

Result<ParallelLayout> plan_layout(const LayoutRequest& request) {
  Side attention{"dp_size", "tp_size", request.dp_size, request.tp_size};
  Side experts{"ep_size", "moe_tp_size", request.ep_size, request.moe_tp_size};
  PLEIAD_TRY(check_sizes(attention));
  PLEIAD_TRY(check_sizes(experts));
  if (request.nnodes < 1 || request.nnodes > kRanksMax) {
    return invalid_input(
        "nnodes is {}; it must be from 1 to {}, nearest valid value {}",
        request.nnodes,
        kRanksMax,
        request.nnodes < 1 ? 1 : kRanksMax
    );
  }
  if (!attention.given() && !experts.given()) experts.first = request.nnodes;
  // A complete side fixes the number of ranks; otherwise the side that asks for more does.
  const bool experts_decide =
      !attention.complete() && (experts.complete() || experts.product() >= attention.product());
  const Side decides = experts_decide ? experts : attention;
  const auto ranks = static_cast<std::int32_t>(decides.product());
  PLEIAD_TRY(complete(attention, ranks, decides));
  PLEIAD_TRY(complete(experts, ranks, decides));
  PLEIAD_TRY(check_nodes(request, ranks));
  return ParallelLayout{
      .tp_size = *attention.second,
      .dp_size = *attention.first,
      .ep_size = *experts.first,
      .moe_tp_size = *experts.second,
      .nnodes = request.nnodes,
      .node_rank = request.node_rank,
  };
}

Result<void> check_model(const ParallelLayout& layout, const ModelFacts& facts) {
  if (facts.expert_partial_sums % layout.moe_tp_size != 0) {
    return invalid_input(
        "moe_tp_size is {}; it must divide the {} partial sums of {}'s experts, nearest valid: {}",
        layout.moe_tp_size,
        facts.expert_partial_sums,
        facts.name,
        nearest_divisors(facts.expert_partial_sums, layout.moe_tp_size)
    );
  }
  if (facts.attention_heads == 0) return {};
  auto valid = check_heads(layout.tp_size, facts.attention_heads, facts.kv_heads);
  if (!valid.ok()) return with_context(std::move(valid).error(), facts.name);
  return {};
}

Result<void> check_heads(std::int32_t tp_size, std::int64_t heads, std::int64_t kv_heads) {
  if (heads % tp_size != 0) {
    return invalid_input(
        "tp_size is {}; it must divide the {} attention heads, nearest valid: {}",
        tp_size,
        heads,
        nearest_divisors(heads, tp_size)
    );
  }
  if (kv_heads > 0 && kv_heads % tp_size != 0 && tp_size % kv_heads != 0) {
    return invalid_input(
        "tp_size is {}; it must divide the {} heads of keys and values or be a multiple of them, "
        "nearest valid: {}",
        tp_size,
        kv_heads,
        nearest_divisors(kv_heads, tp_size)
    );
  }
  return {};
}

}  // namespace pleiad::plan
