#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "comm/group.h"
#include "ep/group_step.h"
#include "plan/ep_settings.h"

namespace pleiad::engine {

struct LockstepOptions {
  plan::EpSettings settings;
  // Under EpLevel::Auto, steps of at least this many rows over all ranks use AllToAll.
  std::int64_t all_to_all_rows_min = 0;
  std::int32_t tensor_parts = 1;  // neighbouring ranks that take each step with the same rows
};

// Keeps the steps of a group's ranks together. Before each step the ranks tell each other how many
// rows they bring; from that alone every rank derives the same decisions. Nobody leads. Ranks
// without work sleep until a peer's message wakes them, and a group without work exchanges nothing.
class Lockstep {
 public:
  Lockstep(std::unique_ptr<comm::Group> group, const LockstepOptions& options);

  // Sleeps until a peer has begun a step or interrupt() was called. The engine's thread.
  Result<comm::Group::Wake> wait() { return group_->wait_for_message(); }
  // Ends wait(). Any thread.
  void interrupt() { group_->interrupt(); }
  // Breaks the group for all ranks. Any thread.
  void abort(Error reason) { group_->abort(std::move(reason)); }

  // Agrees on the next step, to which this rank brings `rows` rows (of tensor parts only the first
  // brings any, and all have them). Returns once all ranks have said theirs; the step stays valid
  // until the next call. Fails when a peer does. The engine's thread.
  Result<const ep::GroupStep*> agree(std::int64_t rows);
  // Rows of all ranks in the step agreed on last.
  [[nodiscard]] std::int64_t rows_of_all() const { return rows_of_all_; }
  // Rows of this rank's tensor parts in that step.
  [[nodiscard]] std::int64_t rows_of_parts() const { return announced_[leader_of(rank())].rows; }

  [[nodiscard]] comm::Rank rank() const { return group_->rank(); }
  [[nodiscard]] comm::Rank size() const { return group_->size(); }
  [[nodiscard]] const comm::Group& group() const { return *group_; }

 private:
  // What a rank says before a step.
  struct Announcement {
    std::uint64_t step = 0;
    std::int64_t rows = 0;
  };

  // The first of `rank`'s tensor parts.
  [[nodiscard]] std::size_t leader_of(comm::Rank rank) const {
    return static_cast<std::size_t>(rank / options_.tensor_parts * options_.tensor_parts);
  }

  std::unique_ptr<comm::Group> group_;
  LockstepOptions options_;
  std::vector<Announcement> announced_;  // [ranks]
  std::vector<std::int32_t> rows_;       // [ranks], that each brings to the experts
  std::uint64_t step_ = 0;
  std::int64_t rows_of_all_ = 0;
  ep::GroupStep agreed_;
};

}  // namespace pleiad::engine
