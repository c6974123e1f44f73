#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace pleiad::plan {

// Where the experts of one layer stand: each expert-parallel rank has a table of physical slots,
// and each slot holds one logical expert. Ranks may have different numbers of slots; an expert may
// stand in slots of several ranks (replicas), never twice on one rank. Immutable.
class ExpertPlacement {
 public:
  // slots[rank] lists the experts of that rank's slots. Fails with InvalidInput naming the expert
  // that no slot holds, that is out of range, or that a rank holds twice.
  static Result<ExpertPlacement>
  make(std::int32_t experts, std::vector<std::vector<std::int32_t>> slots);

  // Experts in id order over the ranks, the first `experts % ranks` ranks holding one more. Ranks
  // beyond the number of experts hold none.
  static ExpertPlacement contiguous(std::int32_t experts, std::int32_t ranks);

  [[nodiscard]] std::int32_t ranks() const { return static_cast<std::int32_t>(slots_.size()); }
  [[nodiscard]] std::int32_t experts() const { return experts_; }
  // The expert of each slot of `rank`.
  [[nodiscard]] std::span<const std::int32_t> slots(std::int32_t rank) const;
  // The ranks that hold `expert`, ascending; at least one.
  [[nodiscard]] std::span<const std::int32_t> holders(std::int32_t expert) const;
  [[nodiscard]] bool holds(std::int32_t rank, std::int32_t expert) const;

 private:
  ExpertPlacement() = default;

  std::int32_t experts_ = 0;
  std::vector<std::vector<std::int32_t>> slots_;    // [ranks][slots]
  std::vector<std::vector<std::int32_t>> holders_;  // [experts][replicas]
};

}  // namespace pleiad::plan
