#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "plan/model_facts.h"

namespace pleiad::plan {

// Ranks of one group at most.
inline constexpr std::int32_t kRanksMax = 4096;

// The sizes a user gave; those left out follow from the others.
struct LayoutRequest {
  std::optional<std::int32_t> tp_size;
  std::optional<std::int32_t> dp_size;
  std::optional<std::int32_t> ep_size;
  std::optional<std::int32_t> moe_tp_size;
  std::int32_t nnodes = 1;
  std::int32_t node_rank = 0;
};

// What one rank is: its place among the attention's ranks and among the experts'.
struct RankPlace {
  std::int32_t node = 0;
  std::int32_t dp_rank = 0;
  std::int32_t tp_rank = 0;  // neighbours share a dp rank
  std::int32_t ep_rank = 0;
  std::int32_t moe_tp_shard = 0;  // neighbours share an ep rank
};

// Ranks [first, first + count).
struct RankRange {
  std::int32_t first = 0;
  std::int32_t count = 0;
};

// How the ranks of a group divide attention and experts among them. Every size is at least 1,
// dp_size * tp_size == ep_size * moe_tp_size == ranks(), and nnodes divides ranks(). Made by
// plan_layout.
struct ParallelLayout {
  std::int32_t tp_size = 1;      // ranks that share one sequence's attention
  std::int32_t dp_size = 1;      // groups with requests of their own
  std::int32_t ep_size = 1;      // parts that the experts are divided into
  std::int32_t moe_tp_size = 1;  // ranks that share one part, each computing partial sums
  std::int32_t nnodes = 1;
  std::int32_t node_rank = 0;  // of this process

  [[nodiscard]] std::int32_t ranks() const { return dp_size * tp_size; }
  [[nodiscard]] std::int32_t ranks_per_node() const { return ranks() / nnodes; }
  // REQUIRES: rank < ranks().
  [[nodiscard]] RankPlace place(std::int32_t rank) const;
  // REQUIRES: ep_rank < ep_size and moe_tp_shard < moe_tp_size. The rank at that place.
  [[nodiscard]] std::int32_t rank_of(std::int32_t ep_rank, std::int32_t moe_tp_shard) const;
  // REQUIRES: node < nnodes.
  [[nodiscard]] RankRange ranks_of_node(std::int32_t node) const;
};

// Fills in what was left out: the group has as many ranks as the given sizes ask for and no more; a
// side of which nothing was given is all dp (tp_size 1) or all ep (moe_tp_size 1). Nothing given at
// all is one rank on every node. Fails with InvalidInput when the sizes contradict each other, the
// nodes or a limit.
Result<ParallelLayout> plan_layout(const LayoutRequest& request);

// The rules between a layout and a model: moe_tp_size divides the model's partial sums, and
// check_heads(). More ep ranks than experts is allowed: ranks beyond them hold none.
Result<void> check_model(const ParallelLayout& layout, const ModelFacts& facts);

// The rules between tp_size and attention: tp_size divides the heads, and it divides the heads of
// keys and values (0: one latent for all) or is a multiple of them, so that those it has too few of
// are copied. Fails with InvalidInput, naming the nearest size.
Result<void> check_heads(std::int32_t tp_size, std::int64_t heads, std::int64_t kv_heads);

// "4 and 8": the divisors of `number` next to `value`, which is none itself; one when there is only
// one side. REQUIRES: number >= 1.
std::string nearest_divisors(std::int64_t number, std::int64_t value);

}  // namespace pleiad::plan
