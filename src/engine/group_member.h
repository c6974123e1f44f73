#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>

#include "engine/group_keeper.h"
#include "engine/rank_service.h"
#include "engine/rank_set.h"

namespace pleiad::engine {

// The side of a node other than 0: joins the group, serves its ranks to node 0, tells it once in a
// while what they have done, and joins again when the group broke.
class GroupMember {
 public:
  // `ranks` is stopped and must outlive the member.
  GroupMember(RankSet& ranks, GroupOptions options) : ranks_(ranks), options_(std::move(options)) {}

  // Runs until stop(). Fails with InvalidInput when node 0 refuses this node, with its reason.
  Result<void> run();
  // Any thread.
  void stop();

 private:
  Result<void> serve_once();
  std::optional<Error> report_until_ended(RankService& service);
  void note_failure(const Error& error);
  [[nodiscard]] bool stopped();

  RankSet& ranks_;
  const GroupOptions options_;
  std::mutex mutex_;  // guards below
  std::condition_variable changed_;
  std::optional<Error> failure_;
  bool stopping_ = false;
};

}  // namespace pleiad::engine
