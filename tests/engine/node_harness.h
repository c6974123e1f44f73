#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "engine/group_keeper.h"
#include "engine/group_member.h"
#include "tests/engine/engine_harness.h"

namespace pleiad::engine {

// Two nodes of a group in one process: real rendezvous and UCX over loopback, the bundled model
// with small limits. Two ranks on each, of which `tp` share an attention.

// False in a build for one process only, which cannot do that.
bool nodes_can_meet();

// Whether `condition` came true within a minute.
bool eventually(const std::function<bool()>& condition);

// What somebody was told while it waited.
class Told {
 public:
  void operator()(const std::string& words);
  // Blocks until `words` were said at least `times` times, a minute at most; false then.
  bool wait_for(std::string_view words, int times = 1);

 private:
  std::mutex mutex_;  // guards said_
  std::condition_variable changed_;
  std::string said_;
};

// The settings and options of node `node`; `port` is node 0's.
LoadSettings node_settings(std::int32_t node, std::int32_t tp = 1);
GroupOptions node_options(std::int32_t node, std::uint16_t port, Told& told, std::int32_t tp = 1);

// The ranks of one node, loaded.
struct NodeRanks {
  SystemClock clock;
  MetricsRegistry metrics;
  RankSet ranks;

  const std::int32_t tp;

  explicit NodeRanks(std::int32_t node, std::int32_t tp = 1);
};

// Node 0.
struct FirstNode {
  NodeRanks model;
  Told told;
  std::unique_ptr<GroupKeeper> keeper;

  explicit FirstNode(std::int32_t tp = 1);
};

// Node 1 on a thread of its own, from construction to stop().
class SecondNode {
 public:
  SecondNode(NodeRanks& model, std::uint16_t port, std::string agreement = "the same");
  ~SecondNode();
  SecondNode(const SecondNode&) = delete;
  SecondNode& operator=(const SecondNode&) = delete;

  void stop() { member_->stop(); }
  // What run() came to, or Timeout when it has not ended within a minute.
  Result<void> wait();
  Told& told() { return told_; }

 private:
  Told told_;
  std::unique_ptr<GroupMember> member_;
  std::future<Result<void>> ended_;
};

}  // namespace pleiad::engine
