#pragma once

#include <memory>
#include <thread>

#include "apps/serve_instance.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "engine/group_member.h"

namespace pleiad::apps {

// A node of a group other than node 0: loads its share of the model and lends its ranks to node 0.
// Speaks no HTTP. One thread starts and destroys it.
class ServeNode {
 public:
  // Blocks while the model loads. Fails with what is wrong: flag or file, value, way out.
  static Result<std::unique_ptr<ServeNode>> start(const ServeSettings& settings);
  ServeNode(const ServeNode&) = delete;
  ServeNode& operator=(const ServeNode&) = delete;
  ~ServeNode() { stop(); }

  [[nodiscard]] const StartReport& report() const { return report_; }
  // Joins node 0 and serves until stop(); fails when node 0 refuses this node, with its reason.
  Result<void> run() { return member_->run(); }
  // Any thread.
  void stop() {
    if (member_ != nullptr) member_->stop();
  }

 private:
  ServeNode() = default;

  SystemClock clock_;
  MetricsRegistry metrics_;
  StartReport report_;
  std::unique_ptr<engine::RankSet> ranks_;
  std::unique_ptr<engine::GroupMember> member_;
};

}  // namespace pleiad::apps
