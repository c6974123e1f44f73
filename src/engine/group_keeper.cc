#include "engine/group_keeper.h"

#include <utility>

#include <fmt/format.h>

#include "api/generation_wire.h"
#include "base/check.h"
#include "base/log.h"
#include "base/wire_bytes.h"
#include "comm/local_group.h"
#include "engine/ep_report.h"
#include "engine/group_forming.h"

namespace pleiad::engine {
namespace {

constexpr std::chrono::milliseconds kRetryPause{500};

}  // namespace

// Destroyed in reverse order: links are closed first by end().
struct GroupKeeper::Life {
  explicit Life(const plan::ParallelLayout& sizes) : layout(sizes), reports(sizes.nnodes) {}

  const plan::ParallelLayout layout;
  std::uint32_t epoch = 1;
  std::vector<std::unique_ptr<comm::Group>> groups;       // of this node's ranks, until started
  std::vector<std::unique_ptr<comm::ControlLink>> links;  // [nodes]; element 0 is null
  std::vector<std::unique_ptr<RemoteRank>> remote;        // ranks of other nodes, in rank order
  std::unique_ptr<RankBalancer> balancer;
  std::size_t expert_tokens = 0;  // counters of a report
  ReportBoard reports;

  // A message of another node about itself, or about one of its ranks.
  Result<void> handle(std::int32_t node, const comm::ControlMessage& message);
  Result<void> take_report(std::int32_t node, std::span<const std::byte> bytes);
  // REQUIRES: `rank` is not of node 0.
  [[nodiscard]] RemoteRank& remote_rank(std::int32_t rank) const {
    return *remote[static_cast<std::size_t>(rank - layout.ranks_per_node())];
  }
  // No event comes any more; what is open ends with `reason`.
  void end(const std::string& message, api::FinishReason reason) {
    for (const auto& link : links) {
      if (link != nullptr) link->close();
    }
    for (const auto& rank : remote) {
      rank->fail(message, reason);
    }
  }
};

Result<void> GroupKeeper::Life::handle(std::int32_t node, const comm::ControlMessage& message) {
  const auto kind = static_cast<RankMessage>(message.kind);
  if (kind == RankMessage::Report) return take_report(node, message.bytes);
  // Every other message begins with a request's id or a rank's number.
  ByteReader in(message.bytes);
  PLEIAD_TRY(id, in.number<std::uint64_t>());
  const auto rank = static_cast<std::int32_t>(id % static_cast<std::uint64_t>(layout.ranks()));
  if (rank < layout.ranks_per_node()) return corrupt("a message for rank {} of node 0", rank);
  RemoteRank& target = remote_rank(rank);
  if (kind != RankMessage::Status) return target.handle(kind, message.bytes);
  PLEIAD_TRY(status, api::decode_status(std::span(message.bytes).subspan(sizeof(id))));
  target.report(status);
  return {};
}

Result<void> GroupKeeper::Life::take_report(std::int32_t node, std::span<const std::byte> bytes) {
  const plan::RankRange ranks = layout.ranks_of_node(node);
  PLEIAD_TRY(report, decode_report(bytes, {.ranks = ranks, .expert_tokens = expert_tokens}));
  for (std::int32_t i = 0; i < ranks.count; ++i) {
    remote_rank(ranks.first + i).report(report.counts.ranks[static_cast<std::size_t>(i)].status);
  }
  reports.post(node, std::move(report));
  return {};
}

Result<std::unique_ptr<GroupKeeper>> GroupKeeper::start(RankSet& ranks, GroupOptions options) {
  auto keeper = std::unique_ptr<GroupKeeper>(new GroupKeeper(ranks, std::move(options)));
  if (keeper->options_.layout.nnodes > 1) {
    PLEIAD_TRY(host, comm::RendezvousHost::listen(keeper->options_.rendezvous));
    keeper->host_ = std::move(host);
  }
  const LoadedModel& model = ranks.model();
  const sched::SchedulerOptions& limits = model.ranks.front().limits;
  keeper->limits_ = limits_of(model.weights->shape(), limits);
  keeper->thread_ = std::thread([raw = keeper.get()] { raw->run(); });
  return keeper;
}

GroupKeeper::~GroupKeeper() {
  stop();
  // Without a thread when the address could not be listened at.
  if (thread_.joinable()) thread_.join();
}

void GroupKeeper::stop() {
  stop_accepting();
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  if (host_ != nullptr) host_->stop();
  changed_.notify_all();
}

Result<void> GroupKeeper::wait_until_formed() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stands_ || stopping_; });
  if (stands_ && !stopping_) return {};
  return error(ErrorKind::Cancelled, "stopped before the group stood");
}

std::uint16_t GroupKeeper::rendezvous_port() const {
  return host_ == nullptr ? std::uint16_t{0} : host_->port();
}

void GroupKeeper::run() {
  for (;;) {
    auto formed = form();
    if (stopped()) return;
    if (formed.ok()) {
      live(**formed);
    } else {
      pause(formed.error());
    }
  }
}

bool GroupKeeper::stopped() {
  const std::scoped_lock lock(mutex_);
  return stopping_;
}

// Before the next attempt.
void GroupKeeper::pause(const Error& why) {
  PLEIAD_LOG(Warning, "the group could not be formed: {}", why.message);
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kRetryPause, [this] { return stopping_; });
}

// From the group's first step to its end.
void GroupKeeper::live(Life& life) {
  {
    const std::scoped_lock lock(mutex_);
    failure_.reset();
  }
  attach(life);
  std::unique_lock lock(mutex_);
  stands_ = true;
  changed_.notify_all();
  lock.unlock();
  if (host_ != nullptr) host_->attend();
  lock.lock();
  changed_.wait(lock, [this] { return stopping_ || failure_.has_value(); });
  stands_ = false;
  const std::optional<Error> failure = stopping_ ? std::nullopt : failure_;
  lock.unlock();
  set_waiting(failure ? failure->message : "the service is stopping");
  if (failure) {
    PLEIAD_LOG(Error, "epoch {} ends: {}", life.epoch, failure->message);
    ranks_.fail(*failure);
    life.end(failure->message, api::FinishReason::Lost);
    return;
  }
  // Both halves end as Cancelled before either side can take the other's end for a failure.
  ranks_.begin_stop();
  life.end("the service is stopping", api::FinishReason::Cancelled);
  ranks_.stop();
}

Result<std::unique_ptr<GroupKeeper::Life>> GroupKeeper::form() {
  const plan::ParallelLayout& layout = options_.layout;
  auto life = std::make_unique<Life>(layout);
  life->epoch = epoch_.load() + 1;
  if (layout.nnodes == 1) {
    if (layout.ranks() > 1) {
      life->groups = comm::make_local_group(layout.ranks(), {.limit = options_.limit});
    }
    return life;
  }
  PLEIAD_TRY(endpoints, open_endpoints(options_));
  const comm::NodeHello hello = make_hello(options_, ranks_.model(), endpoints);
  PLEIAD_TRY(gathered, host_->gather(hello, [this](const std::vector<std::int32_t>& missing) {
    set_waiting(fmt::format("waiting for nodes: {}", fmt::join(missing, ", ")));
  }));
  PLEIAD_TRY(groups, join_groups(options_, std::move(endpoints), gathered.roster, [this] {
               return stopped();
             }));
  life->epoch = gathered.roster.epoch;
  life->groups = std::move(groups);
  life->links = std::move(gathered.links);
  return life;
}

// Starts everything and opens the doors.
void GroupKeeper::attach(Life& life) {
  const plan::ParallelLayout& layout = options_.layout;
  ranks_.start(std::move(life.groups), [this](const Error& error) { note_failure(error); });
  std::vector<api::Generator*> generators;
  for (const auto& engine : ranks_.engines()) {
    generators.push_back(engine.get());
  }
  const auto here = static_cast<std::int32_t>(generators.size());
  const Engine& first = *ranks_.engines().front();
  life.expert_tokens = first.expert_tokens().size();
  for (std::int32_t rank = here; rank < layout.ranks(); ++rank) {
    comm::ControlLink& link = *life.links[static_cast<std::size_t>(layout.place(rank).node)];
    life.remote.push_back(std::make_unique<RemoteRank>(
        link,
        RemoteRankOptions{
            .rank = rank,
            .ranks = layout.ranks(),
            .open_max = first.places(),
            .limits = limits_,
            .validate = [&first](const api::GenerationRequest& request
                        ) { return first.check(request); },
        }
    ));
    generators.push_back(life.remote.back().get());
  }
  std::vector<api::Generator*> all_ranks = generators;
  life.balancer = std::make_unique<RankBalancer>(std::move(generators), layout.tp_size);
  for (std::int32_t node = 1; node < layout.nnodes; ++node) {
    const auto& link = life.links[static_cast<std::size_t>(node)];
    link->start({
        .on_message =
            [this, &life, node, peer = link->peer()](const comm::ControlMessage& message) {
              auto handled = life.handle(node, message);
              if (!handled.ok()) note_failure(with_context(std::move(handled).error(), peer));
            },
        .on_lost = [this](const Error& error) { note_failure(error); },
    });
  }
  epoch_.store(life.epoch);
  const std::unique_lock lock(generator_mutex_);
  all_ranks_ = std::move(all_ranks);
  generator_ = life.balancer.get();
  reports_ = &life.reports;
  waiting_.clear();
}

void GroupKeeper::note_failure(const Error& error) {
  {
    const std::scoped_lock lock(mutex_);
    if (!failure_) failure_ = error;
  }
  changed_.notify_all();
  if (host_ != nullptr) host_->end_attendance();
}

void GroupKeeper::set_waiting(const std::string& what) {
  {
    const std::unique_lock lock(generator_mutex_);
    generator_ = nullptr;
    reports_ = nullptr;
    waiting_ = what;
  }
  if (options_.on_waiting) options_.on_waiting(what);
}

Result<api::RequestId>
GroupKeeper::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  const std::shared_lock lock(generator_mutex_);
  if (!accepting_.load()) return unavailable("the engine is draining");
  if (generator_ == nullptr) return unavailable("not ready: {}", waiting_);
  return generator_->submit(std::move(request), sink);
}

void GroupKeeper::cancel(api::RequestId request) {
  const std::shared_lock lock(generator_mutex_);
  if (generator_ != nullptr) generator_->cancel(request);
}

void GroupKeeper::finish_early(api::RequestId request) {
  const std::shared_lock lock(generator_mutex_);
  if (generator_ != nullptr) generator_->finish_early(request);
}

api::GeneratorStatus GroupKeeper::status() const {
  const std::shared_lock lock(generator_mutex_);
  if (generator_ == nullptr) return {};
  api::GeneratorStatus status = generator_->status();
  status.accepting = status.accepting && accepting_.load();
  return status;
}

api::GeneratorLimits GroupKeeper::limits() const {
  return limits_;
}

Json GroupKeeper::ep_report() const {
  const std::shared_lock lock(generator_mutex_);
  if (generator_ == nullptr) {
    Json out;
    out.set("waiting", waiting_);
    return out;
  }
  auto nodes = reports_->counts();
  nodes.front() = counts_of(ranks_.engines());
  return engine::ep_report(ranks_.model(), options_.layout, all_ranks_, nodes, epoch_.load());
}

std::vector<Exposition> GroupKeeper::node_metrics() const {
  const std::shared_lock lock(generator_mutex_);
  if (reports_ == nullptr) return {};
  return reports_->metrics();
}

void GroupKeeper::reset_prefix_cache() {
  const std::shared_lock lock(generator_mutex_);
  if (generator_ != nullptr) generator_->reset_prefix_cache();
}

}  // namespace pleiad::engine
