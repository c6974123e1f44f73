#pragma once

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "engine/rank_balancer.h"
#include "engine/rank_set.h"

namespace pleiad::engine {

// Keeps everything one request produced.
class RecordingSink final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& event) override;
  void on_token(const api::TokenEvent& event) override;
  void on_finish(const api::FinishEvent& event) override;

  // Blocks until on_finish, a minute at most (then the test program ends).
  const api::FinishEvent& wait();
  // Blocks until `count` tokens came or the request finished.
  void wait_for_tokens(std::size_t count);

  // REQUIRES: wait() returned.
  [[nodiscard]] const std::vector<api::TokenEvent>& tokens() const { return tokens_; }
  [[nodiscard]] const std::vector<api::TokenEvent>& prompt_tokens() const { return prompt_tokens_; }
  [[nodiscard]] std::vector<TokenId> ids() const;
  [[nodiscard]] std::vector<float> logprobs() const;

 private:
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<api::TokenEvent> tokens_;
  std::vector<api::TokenEvent> prompt_tokens_;
  std::optional<api::FinishEvent> finish_;
};

// The engines of a model folder's ranks, as threads of one group, with what they borrow.
struct EngineHarness {
  SystemClock clock;
  MetricsRegistry metrics;
  std::unique_ptr<RankSet> ranks;
  Engine* engine = nullptr;                // rank 0
  std::unique_ptr<RankBalancer> balancer;  // over all ranks

  // Ends the test program when the folder cannot be loaded.
  // An identity that is empty becomes that of what is loaded.
  explicit EngineHarness(const LoadSettings& settings, HandOverSettings hand_over = {});
};

// The bundled model in float32 with small limits; change members at will.
LoadSettings fable_settings();

}  // namespace pleiad::engine
