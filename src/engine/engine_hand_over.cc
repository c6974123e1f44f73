#include "base/check.h"
#include "base/log.h"
#include "engine/engine.h"

namespace pleiad::engine {

void Engine::make_hand_overs(MetricsRegistry& registry) {
  hand_overs_ = std::make_unique<HandOvers>(
      HandOvers::Place{
          .room = peers_.room,
          .caches = peers_.caches,
          .model_name = parts_.model_name,
          .rank = parts_.rank,
          .runs_max = parts_.limits.running_max},
      HandOvers::Events{
          .on_received =
              [this](api::RequestId id, api::KvEnding ending) {
                {
                  const std::scoped_lock lock(mutex_);
                  mail_.receipts.push_back({id, std::move(ending)});
                }
                wake();
              },
          .on_over =
              [this](api::RequestId id, KvSender::Over how) {
                Ending ending{.id = id, .reason = api::FinishReason::Stop};
                if (how == KvSender::Over::PeerGone) ending.reason = api::FinishReason::Cancelled;
                if (how == KvSender::Over::LeaseExpired) {
                  ending.reason = api::FinishReason::Error;
                  ending.message = "the decode worker took nothing for too long";
                }
                ask_to_end(std::move(ending));
              }},
      clock_,
      registry
  );
}

api::Role Engine::role() const {
  return peers_.room == nullptr ? api::Role::Both : peers_.room->settings.role;
}

// Of the sequences that the last plan admitted.
void Engine::begin_hand_overs() {
  for (const sched::SlotId slot : scheduler_.admitted()) {
    const Live& request = live(slot);
    const auto pages = scheduler_.pages(slot);
    const std::int64_t computed = scheduler_.computed(slot);
    if (request.request.kv_order) {
      hand_overs_->begin_sending(request.id, pages, computed);
      if (scheduler_.kept(slot)) metrics_.prompt_tokens.add(request.prompt_tokens);
    } else {
      const auto tokens = scheduler_.tokens(slot);
      hand_overs_->begin_receiving(request.id, request.request, tokens, pages, computed);
    }
  }
}

// Hears of the step's layers, when it computes for other workers.
model::LayerObserver* Engine::observer_of(std::span<const sched::PlannedChunk> plan) {
  if (hand_overs_ == nullptr) return nullptr;
  hand_overs_->clear_runs();
  for (const sched::PlannedChunk& chunk : plan) {
    const Live& request = live(chunk.slot);
    if (!request.request.kv_order) continue;
    hand_overs_->add_run(
        {.request = request.id, .first = chunk.first, .end = chunk.first + chunk.count}
    );
  }
  return hand_overs_->has_runs() ? hand_overs_.get() : nullptr;
}

void Engine::take_receipt(Receipt receipt) {
  const auto found = slots_.find(receipt.id);
  if (found == slots_.end()) return;
  const sched::SlotId slot = found->second;
  const Result<void>& how = receipt.ending.how;
  if (how.ok()) {
    // The worker that sent may let go now.
    hand_overs_->end(receipt.id, {});
    scheduler_.receive(slot);
    return;
  }
  PLEIAD_LOG(Warning, "request {}: {}", receipt.id.value(), how.error().message);
  finish(
      slot,
      {.reason = api::FinishReason::Lost,
       .message = how.error().message,
       .prefill_lost = true,
       .prefill_broken = receipt.ending.broken}
  );
}

// Whoever hangs up after everything was sent has what it wanted.
void Engine::end_hand_over(const Live& request, Ended& ended) {
  const bool cancelled = ended.reason == api::FinishReason::Cancelled;
  std::string why = ended.message;
  if (why.empty() && !cancelled) why = "the prompt is not computed any more";
  const bool complete = hand_overs_->end(request.id, why);
  if (complete && cancelled) ended.reason = api::FinishReason::Stop;
}

}  // namespace pleiad::engine
