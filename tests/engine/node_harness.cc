#include "tests/engine/node_harness.h"

#include <thread>
#include <utility>

#include "base/check.h"

namespace pleiad::engine {
namespace {

constexpr std::chrono::seconds kPatience{60};

}  // namespace

bool nodes_can_meet() {
  const auto endpoint = comm::UcxEndpoint::open({});
  return endpoint.ok() || endpoint.error().kind != ErrorKind::Unsupported;
}

bool eventually(const std::function<bool()>& condition) {
  const SystemClock clock;
  const Nanoseconds end = clock.now() + kPatience;
  while (!condition()) {
    if (clock.now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

void Told::operator()(const std::string& words) {
  const std::scoped_lock lock(mutex_);
  said_ += words + "\n";
  changed_.notify_all();
}

bool Told::wait_for(std::string_view words, int times) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] {
    int seen = 0;
    for (auto at = said_.find(words); at != std::string::npos; at = said_.find(words, at + 1)) {
      ++seen;
    }
    return seen >= times;
  });
}

LoadSettings node_settings(std::int32_t node, std::int32_t tp) {
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.max_num_seqs = 8;
  settings.max_num_batched_tokens = 64;
  settings.kv_cache_bytes = std::size_t{32} << 20U;
  settings.layout = {
      .tp_size = tp, .dp_size = 4 / tp, .ep_size = 4, .nnodes = 2, .node_rank = node};
  return settings;
}

GroupOptions node_options(std::int32_t node, std::uint16_t port, Told& told, std::int32_t tp) {
  return {
      .layout = node_settings(node, tp).layout,
      .version = "1.0",
      .agreement = "the same",
      .rendezvous =
          {
              .address = "127.0.0.1:" + std::to_string(port),
              .secret = "open sesame",
              .control = {.heartbeat_interval = std::chrono::milliseconds{20}},
          },
      .report_interval = std::chrono::milliseconds{5},
      .on_waiting = [&told](const std::string& words) { told(words); },
  };
}

NodeRanks::NodeRanks(std::int32_t node, std::int32_t parts)
    : ranks(
          [&] {
            auto loaded = load_model(node_settings(node, parts), clock);
            PLEIAD_CHECK(loaded.ok(), loaded.ok() ? "" : loaded.error().message);
            return std::move(*loaded);
          }(),
          clock,
          metrics
      ),
      tp(parts) {}

FirstNode::FirstNode(std::int32_t tp) : model(0, tp) {
  auto started = GroupKeeper::start(model.ranks, node_options(0, 0, told, tp));
  PLEIAD_CHECK(started.ok(), started.ok() ? "" : started.error().message);
  keeper = std::move(*started);
}

SecondNode::SecondNode(NodeRanks& model, std::uint16_t port, std::string agreement) {
  GroupOptions options = node_options(1, port, told_, model.tp);
  options.agreement = std::move(agreement);
  member_ = std::make_unique<GroupMember>(model.ranks, std::move(options));
  ended_ = std::async(std::launch::async, [this] { return member_->run(); });
}

SecondNode::~SecondNode() {
  stop();
  if (ended_.valid()) ended_.wait();
}

Result<void> SecondNode::wait() {
  if (ended_.wait_for(kPatience) != std::future_status::ready) {
    return error(ErrorKind::Timeout, "node 1 does not end");
  }
  return ended_.get();
}

}  // namespace pleiad::engine
