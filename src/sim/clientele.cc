#include "sim/clientele.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace pleiad::sim {
namespace {

bool is_whole(const SimClient& client) {
  const auto& finish = client.finish();
  return finish &&
         (finish->reason == api::FinishReason::Stop || finish->reason == api::FinishReason::Length);
}

}  // namespace

Clientele::Clientele(
    const Clock& clock,
    router::RouterCore& core,
    Verdict& verdict,
    Options options
)
    : clock_(clock), core_(core), verdict_(verdict), options_(std::move(options)) {}

std::optional<api::RequestId> Clientele::submit(api::GenerationRequest request) {
  const bool takes = core_.summary().not_ready.empty();
  if (!takes || core_.open_requests() >= options_.open_max) return std::nullopt;
  const api::RequestId id(visits_.size() + 1);
  Visit& added = visits_.emplace_back();
  added.client = std::make_unique<SimClient>(id, request, verdict_);
  added.accepted_at = clock_.now();
  api::GenerationSink* sink = added.client.get();
  if (options_.sink_double) {
    added.sink_double = options_.sink_double(*sink);
    sink = added.sink_double.get();
  }
  open_.insert(id.value());
  core_.submit(id, std::move(request), *sink);
  return id;
}

bool Clientele::has_ended(api::RequestId id) const {
  return visits_[id.value() - 1].client->finish().has_value();
}

void Clientele::cancel(api::RequestId id) {
  if (has_ended(id)) return;
  visit(id).client->cancelled = true;
  core_.cancel(id);
}

void Clientele::finish_early(api::RequestId id) {
  if (has_ended(id)) return;
  visit(id).client->early = true;
  core_.finish_early(id);
}

void Clientele::on_sent(api::RequestId id, std::size_t under_way) {
  ++visit(id).attempts;
  if (under_way > 1) {
    verdict_.violated(fmt::format("request {} is at two workers", id.value()));
  }
}

void Clientele::on_killed(api::RequestId id) {
  if (++visit(id).killed > options_.deaths_max) {
    verdict_.violated(fmt::format("request {} kills one worker after another", id.value()));
  }
}

void Clientele::on_untold(api::RequestId id) {
  --visit(id).killed;
}

std::vector<const SimClient*> Clientele::take_ended() {
  std::vector<const SimClient*> ended;
  std::erase_if(open_, [&](std::uint64_t id) {
    const Visit& visit = visits_[id - 1];
    if (!visit.client->finish()) return false;
    visit.client->judge_end({
        .attempts = visit.attempts,
        .waited = clock_.now() - visit.accepted_at,
        .wait_allowed = options_.wait_max,
    });
    ended.push_back(visit.client.get());
    return true;
  });
  return ended;
}

void Clientele::check_all_ended() {
  for (const std::uint64_t id : open_) {
    verdict_.violated(fmt::format("request {} never ended", id));
  }
}

void Clientele::check_whole(std::size_t first) {
  for (std::size_t i = first; i < visits_.size(); ++i) {
    const SimClient& client = *visits_[i].client;
    if (is_whole(client)) continue;
    const auto& finish = client.finish();
    verdict_.violated(fmt::format("probe {} failed: {}", i + 1, finish ? finish->message : "no end")
    );
  }
}

std::uint64_t Clientele::whole() const {
  return static_cast<std::uint64_t>(std::ranges::count_if(visits_, [](const Visit& visit) {
    return is_whole(*visit.client);
  }));
}

}  // namespace pleiad::sim
