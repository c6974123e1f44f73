#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>

#include "api/generation.h"
#include "comm/control_link.h"

namespace pleiad::engine {

// Kinds of control messages between node 0 and the ranks of other nodes. Where nothing else is said
// they carry a request's id, from which both sides know the rank.
enum class RankMessage : std::uint32_t {
  Submit = comm::kControlKindFirst,  // node 0 -> node
  Cancel,
  FinishEarly,
  ResetPrefixCache,  // carries a rank
  Token,             // node -> node 0
  PromptToken,
  Finish,
  Status,  // carries a rank
  Report,  // of all ranks of the node (node_report.h)
};

struct RemoteRankOptions {
  std::int32_t rank = 0;
  std::int32_t ranks = 1;
  std::int64_t open_max = 0;  // requests in flight at most
  api::GeneratorLimits limits;
  // Judges a request as the rank itself would, so that bad ones are refused at once.
  std::function<Result<void>(const api::GenerationRequest&)> validate;
};

// A rank of another node, as a Generator on node 0: requests go out over the node's control link,
// events come back over it. Sinks are called on the link's thread.
class RemoteRank final : public api::Generator {
 public:
  // `link` must outlive the rank.
  RemoteRank(comm::ControlLink& link, RemoteRankOptions options)
      : link_(link),
        options_(std::move(options)),
        next_(static_cast<std::uint64_t>(options_.ranks + options_.rank)) {}
  ~RemoteRank() override { fail("the service is stopping", api::FinishReason::Cancelled); }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId request) override;
  void finish_early(api::RequestId request) override;
  [[nodiscard]] api::GeneratorStatus status() const override;
  [[nodiscard]] api::GeneratorLimits limits() const override { return options_.limits; }
  void reset_prefix_cache() override;

  // An event of one of the rank's requests came in. The link's thread. Fails with Corrupt when it
  // cannot be read.
  Result<void> handle(RankMessage kind, std::span<const std::byte> bytes);
  // What the rank said of itself last.
  void report(const api::GeneratorStatus& status);
  // Ends every open request with `reason`, and refuses new ones. Any thread.
  void fail(const std::string& message, api::FinishReason reason);

 private:
  struct Open {
    api::GenerationSink* sink = nullptr;
    std::int64_t tokens = 0;  // prompt + max_tokens
  };

  api::GenerationSink* sink_of(api::RequestId request);
  void send_id(RankMessage kind, api::RequestId request);

  comm::ControlLink& link_;
  const RemoteRankOptions options_;
  mutable std::mutex mutex_;  // guards all below
  std::unordered_map<api::RequestId, Open> open_;
  std::uint64_t next_;
  std::int64_t tokens_outstanding_ = 0;
  api::GeneratorStatus reported_;  // the last Status
  std::string failure_;
};

}  // namespace pleiad::engine
