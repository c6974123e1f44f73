#pragma once

#include <cstdint>
#include <span>

#include "plan/expert_placement.h"

namespace pleiad::ep {

// One choice of one row: an expert, and which of the expert-parallel ranks that hold it computes
// it.
struct Route {
  std::uint16_t expert = 0;
  std::uint16_t holder = 0;
};

// Turns a row's chosen `experts` (ascending) into routes. An expert that stands on several ranks is
// computed by `self` if it is one of them, else by the replica that `spread` picks: any choice
// gives the same bits, so this is free to follow the load.
void pick_holders(
    std::span<const std::int32_t> experts,
    const plan::ExpertPlacement& placement,
    std::int32_t self,
    std::uint32_t spread,
    std::span<Route> routes
);

// A run of a row's routes that one rank can add up alone: a node of DESIGN R3's tree (all of the
// row's choices under it stand on `holder`), as high as such nodes go.
struct Node {
  std::uint16_t holder = 0;
  std::uint8_t first = 0;  // routes first .. first + count - 1
  std::uint8_t count = 0;
};

// The nodes of a row's routes (ascending experts, at most kernels::kTopkMax), left to right,
// written to `nodes` (as large as routes); returns how many. With `leaves_only` every route is a
// node of its own.
std::size_t
split_into_nodes(std::span<const Route> routes, bool leaves_only, std::span<Node> nodes);

// The most nodes that one rank can be asked for by one row of `topk` choices under `placement`.
std::int64_t nodes_per_row_max(const plan::ExpertPlacement& placement, std::int64_t topk);

}  // namespace pleiad::ep
