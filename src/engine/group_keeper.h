#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "api/generation.h"
#include "base/exposition.h"
#include "base/json.h"
#include "comm/rendezvous.h"
#include "comm/ucx_group.h"
#include "engine/rank_balancer.h"
#include "engine/rank_set.h"
#include "engine/remote_rank.h"
#include "engine/report_board.h"

namespace pleiad::engine {

// How a group over one or many nodes is formed.
struct GroupOptions {
  plan::ParallelLayout layout;
  std::string version;    // of the program
  std::string agreement;  // what nodes must have in common beside version and checkpoint
  comm::RendezvousOptions rendezvous;  // for more than one node
  comm::UcxGroupOptions ucx;
  std::chrono::milliseconds limit{60'000};  // of one wait for a peer
  // How often a node tells node 0 what its ranks have done (node_report.h). Above 0.
  std::chrono::milliseconds report_interval{1'000};
  // Told in words whenever what the group waits for changes; may be empty.
  std::function<void(const std::string&)> on_waiting;
};

// Node 0's side of a group: forms it, offers it as one Generator, and forms it again, under a new
// epoch, when it broke. While there is no group, requests are refused as Unavailable with what is
// missing; requests under way when it breaks end with Lost and the reason.
class GroupKeeper final : public api::Generator {
 public:
  // Returns at once with a thread that forms the group; `ranks` is stopped, and only the keeper's
  // until it is destroyed. Fails when the rendezvous address cannot be listened at.
  static Result<std::unique_ptr<GroupKeeper>> start(RankSet& ranks, GroupOptions options);
  ~GroupKeeper() override;

  // Blocks until the group stands. Fails with Cancelled when stopped before.
  Result<void> wait_until_formed();
  // Ends wait_until_formed and the group. Any thread.
  void stop();
  // Refuses new requests from now on; those accepted go on. Any thread.
  void stop_accepting() { accepting_.store(false); }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId request) override;
  void finish_early(api::RequestId request) override;
  [[nodiscard]] api::GeneratorStatus status() const override;
  [[nodiscard]] api::GeneratorLimits limits() const override;
  void reset_prefix_cache() override;
  // [dp ranks]; nothing while there is no group. Any thread.
  [[nodiscard]] std::vector<api::GeneratorStatus> status_of_ranks() const;

  // Slot tables and loads (ep_report.h); what the group waits for while there is none. Any thread.
  [[nodiscard]] Json ep_report() const;
  // What other nodes' ranks count, as they last told, one element a node; nothing while there is no
  // group. Any thread.
  [[nodiscard]] std::vector<Exposition> node_metrics() const;
  [[nodiscard]] std::uint32_t epoch() const { return epoch_.load(); }
  [[nodiscard]] std::uint16_t rendezvous_port() const;

 private:
  // One life of the group.
  struct Life;

  GroupKeeper(RankSet& ranks, GroupOptions options) : ranks_(ranks), options_(std::move(options)) {}
  void run();
  void live(Life& life);
  void pause(const Error& why);
  bool stopped();
  Result<std::unique_ptr<Life>> form();
  void attach(Life& life);
  void note_failure(const Error& error);
  void set_waiting(const std::string& what);

  RankSet& ranks_;
  const GroupOptions options_;
  std::unique_ptr<comm::RendezvousHost> host_;

  mutable std::shared_mutex generator_mutex_;  // guards the four below
  RankBalancer* generator_ = nullptr;          // null: no group
  const ReportBoard* reports_ = nullptr;       // of the group, while there is one
  std::vector<api::Generator*> all_ranks_;     // in rank order
  std::string waiting_ = "the group is forming";

  std::mutex mutex_;  // guards below
  std::condition_variable changed_;
  std::optional<Error> failure_;
  bool stands_ = false;
  bool stopping_ = false;

  std::atomic<bool> accepting_{true};
  std::atomic<std::uint32_t> epoch_{0};
  api::GeneratorLimits limits_;
  std::thread thread_;
};

}  // namespace pleiad::engine
