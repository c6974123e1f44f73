#include "plan/expert_placement.h"

#include <algorithm>
#include <utility>

namespace pleiad::plan {

Result<ExpertPlacement>
ExpertPlacement::make(std::int32_t experts, std::vector<std::vector<std::int32_t>> slots) {
  if (experts < 1) return invalid_input("a placement of {} experts; at least 1", experts);
  if (slots.empty()) return invalid_input("a placement over 0 ranks; at least 1");
  ExpertPlacement out;
  out.experts_ = experts;
  out.holders_.resize(static_cast<std::size_t>(experts));
  for (std::size_t rank = 0; rank < slots.size(); ++rank) {
    const auto id = static_cast<std::int32_t>(rank);
    for (const std::int32_t expert : slots[rank]) {
      if (expert < 0 || expert >= experts) {
        return invalid_input(
            "rank {} holds expert {}; experts are 0 to {}", rank, expert, experts - 1
        );
      }
      auto& holders = out.holders_[static_cast<std::size_t>(expert)];
      // Ranks come in ascending order, so a second slot on this rank finds it at the end.
      if (!holders.empty() && holders.back() == id) {
        return invalid_input("rank {} holds expert {} twice; once is enough", rank, expert);
      }
      holders.push_back(id);
    }
  }
  for (std::size_t expert = 0; expert < out.holders_.size(); ++expert) {
    if (out.holders_[expert].empty()) {
      return invalid_input("no rank holds expert {}; every expert needs a slot", expert);
    }
  }
  out.slots_ = std::move(slots);
  return out;
}

ExpertPlacement ExpertPlacement::contiguous(std::int32_t experts, std::int32_t ranks) {
  PLEIAD_CHECK(experts >= 1 && ranks >= 1, "a placement has experts and ranks");
  std::vector<std::vector<std::int32_t>> slots(static_cast<std::size_t>(ranks));
  std::int32_t next = 0;
  for (std::int32_t rank = 0; rank < ranks; ++rank) {
    const std::int32_t count = experts / ranks + (rank < experts % ranks ? 1 : 0);
    for (std::int32_t slot = 0; slot < count; ++slot) {
      slots[static_cast<std::size_t>(rank)].push_back(next++);
    }
  }
  return make(experts, std::move(slots)).value();
}

std::span<const std::int32_t> ExpertPlacement::slots(std::int32_t rank) const {
  PLEIAD_CHECK(rank >= 0 && rank < ranks(), "rank out of range");
  return slots_[static_cast<std::size_t>(rank)];
}

std::span<const std::int32_t> ExpertPlacement::holders(std::int32_t expert) const {
  PLEIAD_CHECK(expert >= 0 && expert < experts_, "expert out of range");
  return holders_[static_cast<std::size_t>(expert)];
}

bool ExpertPlacement::holds(std::int32_t rank, std::int32_t expert) const {
  PLEIAD_CHECK(rank >= 0 && rank < ranks(), "rank out of range");
  const auto ranks_of_expert = holders(expert);
  return std::binary_search(ranks_of_expert.begin(), ranks_of_expert.end(), rank);
}

}  // namespace pleiad::plan
