#include "tests/service/gated_parts.h"

#include <cmath>
#include <string_view>
#include <utility>

namespace pleiad::service {
namespace {

// What happens to a request passes the gate, unless that is moved before it. False: it is dead.
bool tell_and_pass(
    const GateWatch& watch,
    Gate& gate,
    Phase phase,
    std::optional<std::size_t> request
) {
  if (!gate.pass()) return false;
  if (!request) return true;
  switch (watch.on_phase(phase, *request)) {
    case GateMove::Pass:
      break;
    case GateMove::Shut:
      gate.shut();
      break;
    case GateMove::Die:
      gate.die();
      break;
  }
  return gate.pass();
}

}  // namespace

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::Queued:
      return "queued";
    case Phase::Prefill:
      return "prefill";
    case Phase::Send:
      return "send";
    case Phase::Receive:
      return "receive";
    case Phase::Decode:
      return "decode";
  }
  return "";
}

// One request's way out.
class GatedGenerator::Passage final : public api::GenerationSink, public api::KvOutlet {
 public:
  Passage(
      GatedGenerator& owner,
      std::optional<std::size_t> number,
      api::GenerationSink& sink,
      api::KvOutlet* outlet
  )
      : owner_(owner), number_(number), sink_(sink), outlet_(outlet) {}

  bool pass(Phase phase) { return tell_and_pass(owner_.watch_, owner_.gate_, phase, number_); }

  void on_prompt_token(const api::TokenEvent& event) override {
    if (owner_.gate_.pass()) sink_.on_prompt_token(event);
  }
  void on_token(const api::TokenEvent& event) override {
    if (!pass(Phase::Decode)) return;
    api::TokenEvent told = event;
    if (owner_.broken_ == Broken::RoundsScores)
      told.chosen.logprob = std::round(told.chosen.logprob * 1e4F) / 1e4F;
    sink_.on_token(told);
    if (owner_.broken_ == Broken::TellsTwice && event.position % 16 == 0) sink_.on_token(told);
  }
  void on_finish(const api::FinishEvent& event) override {
    const bool forgotten = owner_.broken_ == Broken::ForgetsEnds && event.output_tokens % 8 == 3;
    if (owner_.gate_.pass() && !forgotten) sink_.on_finish(event);
  }

  bool write(std::string_view bytes) override { return pass(Phase::Send) && outlet_->write(bytes); }
  [[nodiscard]] std::size_t unsent() const override { return outlet_->unsent(); }

  std::optional<api::RequestId> prefill_id;  // of a prompt computed for another worker

 private:
  GatedGenerator& owner_;
  const std::optional<std::size_t> number_;
  api::GenerationSink& sink_;
  api::KvOutlet* outlet_;
};

GatedGenerator::GatedGenerator(
    api::Generator& real,
    Gate& gate,
    const GateWatch& watch,
    Broken broken
)
    : real_(real), gate_(gate), watch_(watch), broken_(broken) {}

GatedGenerator::~GatedGenerator() = default;

Result<api::RequestId>
GatedGenerator::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  const bool prefill = request.kv_order.has_value();
  auto owned = std::make_unique<Passage>(
      *this, watch_.number_of(request.prompt), sink, prefill ? request.kv_order->outlet : nullptr
  );
  Passage& passage = *owned;
  {
    const std::scoped_lock lock(mutex_);
    passages_.push_back(std::move(owned));
  }
  // The dead refuse nothing.
  if (!passage.pass(prefill ? Phase::Prefill : Phase::Queued)) return api::RequestId(0);
  if (prefill) request.kv_order->outlet = &passage;
  if (broken_ == Broken::ResumesWrongly && request.resumed_tokens > 0) request.prompt.back() ^= 1;
  auto taken = real_.submit(std::move(request), passage);
  if (taken.ok() && prefill) {
    const std::scoped_lock lock(mutex_);
    passage.prefill_id = *taken;
  }
  return taken;
}

void GatedGenerator::cancel(api::RequestId request) {
  if (broken_ == Broken::ForgetsCancels) {
    const std::scoped_lock lock(mutex_);
    for (const auto& passage : passages_) {
      if (passage->prefill_id == request) return;
    }
  }
  real_.cancel(request);
}

// One transfer's way in.
class GatedSource::Passage final : public api::KvInlet, public api::KvCall {
 public:
  Passage(GatedSource& owner, api::KvInlet& inlet) : owner_(owner), inlet_(inlet) {}

  Result<api::PrefillOrder> on_offer(std::string_view offer) override {
    if (!owner_.gate_.pass()) return unavailable("it is dead");
    auto order = inlet_.on_offer(offer);
    if (order.ok()) number_ = owner_.watch_.number_of(order->prompt);
    return order;
  }
  Result<void> on_bytes(std::string_view bytes) override {
    const bool alive = tell_and_pass(owner_.watch_, owner_.gate_, Phase::Receive, number_);
    if (!alive) return unavailable("it is dead");
    return inlet_.on_bytes(bytes);
  }
  void on_end(api::KvEnding ending) override {
    if (owner_.gate_.pass()) inlet_.on_end(std::move(ending));
  }

  std::unique_ptr<api::KvCall> call;  // destroyed first: no call of this comes later

 private:
  GatedSource& owner_;
  api::KvInlet& inlet_;
  std::optional<std::size_t> number_;
};

std::unique_ptr<api::KvCall> GatedSource::ask(const std::string& url, api::KvInlet& inlet) {
  auto passage = std::make_unique<Passage>(*this, inlet);
  passage->call = real_.ask(url, *passage);
  return passage;
}

}  // namespace pleiad::service
