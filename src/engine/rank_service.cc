#include "engine/rank_service.h"

#include <utility>

#include "api/generation_wire.h"
#include "base/wire_bytes.h"
#include "engine/node_report.h"

namespace pleiad::engine {

Result<Engine*> RankService::engine_of(std::uint64_t id_or_rank) const {
  const auto ranks = static_cast<std::uint64_t>(engines_.front()->ranks());
  for (const auto& engine : engines_) {
    const bool wanted = id_or_rank % ranks == static_cast<std::uint64_t>(engine->rank());
    if (wanted && engine->leads()) return engine.get();
  }
  return corrupt("node 0 asks for rank {}, which takes no requests here", id_or_rank % ranks);
}

Result<void> RankService::handle(const comm::ControlMessage& message) {
  const std::scoped_lock lock(mutex_);
  if (closed_.load()) return {};
  return dispatch(message);
}

void RankService::close() {
  const std::scoped_lock lock(mutex_);
  closed_.store(true);
}

Result<void> RankService::dispatch(const comm::ControlMessage& message) {
  const auto kind = static_cast<RankMessage>(message.kind);
  if (kind == RankMessage::Submit) return submit(message.bytes);
  ByteReader in(message.bytes);
  PLEIAD_TRY(id, in.number<std::uint64_t>());
  PLEIAD_TRY(in.end());
  PLEIAD_TRY(engine, engine_of(id));
  if (kind == RankMessage::Cancel) {
    engine->cancel(api::RequestId(id));
  } else if (kind == RankMessage::FinishEarly) {
    engine->finish_early(api::RequestId(id));
  } else if (kind == RankMessage::ResetPrefixCache) {
    engine->reset_prefix_cache();
  } else {
    return corrupt("a message of kind {} is none for a rank", message.kind);
  }
  return {};
}

Result<void> RankService::submit(std::span<const std::byte> bytes) {
  PLEIAD_TRY(message, api::decode_submit(bytes));
  PLEIAD_TRY(engine, engine_of(message.id.value()));
  const auto prompt_tokens = static_cast<std::int32_t>(message.request.prompt.size());
  const auto taken = engine->submit_as(message.id, std::move(message.request), *this);
  // Node 0 judged by the same rules; what is refused all the same ends like any other request.
  if (!taken.ok()) {
    const bool hopeless = taken.error().kind == ErrorKind::InvalidInput;
    on_finish(
        {.request = message.id,
         .reason = hopeless ? api::FinishReason::Error : api::FinishReason::Lost,
         .prompt_tokens = prompt_tokens,
         .message = taken.error().message}
    );
  }
  return {};
}

// What belongs to no rank, such as anything on HTTP, is the node's own affair.
void RankService::report(const MetricsRegistry& registry) {
  const NodeReport report{
      .counts = counts_of(engines_),
      .metrics = registry.collect_labelled("engine"),
  };
  send(RankMessage::Report, encode(report));
}

void RankService::on_prompt_token(const api::TokenEvent& event) {
  send(RankMessage::PromptToken, api::encode(event));
}

void RankService::on_token(const api::TokenEvent& event) {
  send(RankMessage::Token, api::encode(event));
}

void RankService::on_finish(const api::FinishEvent& event) {
  if (closed_.load() && event.reason == api::FinishReason::Cancelled) {
    api::FinishEvent cut = event;
    cut.reason = api::FinishReason::Lost;
    cut.message = "its node left the group";
    send(RankMessage::Finish, api::encode(cut));
    return;
  }
  send(RankMessage::Finish, api::encode(event));
  const auto engine = engine_of(event.request.value());
  if (!engine.ok()) return;
  ByteWriter out;
  out.number(static_cast<std::uint64_t>((*engine)->rank()));
  out.raw(api::encode((*engine)->status()));
  send(RankMessage::Status, out.take());
}

}  // namespace pleiad::engine
