#include "tests/engine/engine_harness.h"

#include <chrono>
#include <utility>

#include "base/check.h"
#include "comm/local_group.h"

namespace pleiad::engine {
namespace {

constexpr std::chrono::seconds kPatience{60};

}  // namespace

void RecordingSink::on_prompt_token(const api::TokenEvent& event) {
  const std::scoped_lock lock(mutex_);
  prompt_tokens_.push_back(event);
}

void RecordingSink::on_token(const api::TokenEvent& event) {
  const std::scoped_lock lock(mutex_);
  tokens_.push_back(event);
  changed_.notify_all();
}

void RecordingSink::on_finish(const api::FinishEvent& event) {
  const std::scoped_lock lock(mutex_);
  PLEIAD_CHECK(!finish_.has_value(), "on_finish comes once");
  finish_ = event;
  changed_.notify_all();
}

const api::FinishEvent& RecordingSink::wait() {
  std::unique_lock lock(mutex_);
  PLEIAD_CHECK(changed_.wait_for(lock, kPatience, [this] { return finish_.has_value(); }));
  return *finish_;
}

void RecordingSink::wait_for_tokens(std::size_t count) {
  std::unique_lock lock(mutex_);
  const auto enough = [&] { return tokens_.size() >= count || finish_.has_value(); };
  PLEIAD_CHECK(changed_.wait_for(lock, kPatience, enough));
}

std::vector<TokenId> RecordingSink::ids() const {
  std::vector<TokenId> out;
  for (const api::TokenEvent& event : tokens_)
    out.push_back(event.chosen.token);
  return out;
}

std::vector<float> RecordingSink::logprobs() const {
  std::vector<float> out;
  for (const api::TokenEvent& event : tokens_) {
    out.push_back(event.chosen.logprob);
    for (std::int32_t i = 0; i < event.top_count; ++i) {
      out.push_back(event.top[static_cast<std::size_t>(i)].logprob);
    }
  }
  return out;
}

EngineHarness::EngineHarness(const LoadSettings& settings, HandOverSettings hand_over) {
  auto loaded = load_model(settings, clock);
  PLEIAD_CHECK(loaded.ok(), loaded.ok() ? "" : loaded.error().message);
  if (hand_over.identity.digest.empty()) {
    hand_over.identity = {
        .version = "1",
        .model = settings.model_name,
        .digest = loaded->digest,
        .compute = arithmetic_of(*loaded),
        .page_tokens = sched::kPageTokens};
  }
  ranks = std::make_unique<RankSet>(std::move(*loaded), clock, metrics, std::move(hand_over));
  std::vector<std::unique_ptr<comm::Group>> groups;
  if (settings.layout.ranks() > 1) groups = comm::make_local_group(settings.layout.ranks(), {});
  ranks->start(std::move(groups), {});
  engine = ranks->engines().front().get();
  std::vector<api::Generator*> all;
  for (const auto& rank : ranks->engines())
    all.push_back(rank.get());
  balancer = std::make_unique<RankBalancer>(std::move(all), settings.layout.tp_size);
}

LoadSettings fable_settings() {
  return {
      .model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable",
      .dtype = ComputeChoice::Float32,
      .threads = 2,
      .max_num_seqs = 32,
      .max_num_batched_tokens = 128,
      .kv_cache_bytes = std::size_t{64} << 20U,
      .model_name = "fable",
  };
}

}  // namespace pleiad::engine
