#include "apps/start_canary.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/log.h"

namespace pleiad::apps {
namespace {

constexpr std::int64_t kPromptTokens = 8;
constexpr std::int64_t kOutputTokens = 4;
constexpr auto kPatience = std::chrono::seconds(30);  // between two lines of the log

// Keeps one answer until it is complete.
class AnswerSink final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& event) override {
    const std::scoped_lock lock(mutex_);
    tokens_.push_back(event.chosen);
  }
  void on_finish(const api::FinishEvent& event) override {
    // Told under the lock: the waiter destroys the sink as soon as it may.
    const std::scoped_lock lock(mutex_);
    finish_ = event;
    finished_.notify_all();
  }

  const api::FinishEvent& wait() {
    std::unique_lock lock(mutex_);
    while (!finished_.wait_for(lock, kPatience, [this] { return finish_.has_value(); })) {
      PLEIAD_LOG(Warning, "the start canary is still waiting for its {} tokens", kOutputTokens);
    }
    return *finish_;
  }

  // REQUIRES: wait() returned.
  [[nodiscard]] const std::vector<api::TokenLogprob>& tokens() const { return tokens_; }

 private:
  std::mutex mutex_;  // guards all below until on_finish
  std::condition_variable finished_;
  std::vector<api::TokenLogprob> tokens_;
  std::optional<api::FinishEvent> finish_;
};

// Ids 1 to 8, or what a tiny model leaves of them.
api::GenerationRequest question_for(const api::GeneratorLimits& limits) {
  const std::int64_t length =
      std::clamp<std::int64_t>(limits.model_tokens_max - 1, 1, kPromptTokens);
  const std::int64_t output = std::min(limits.model_tokens_max - length, kOutputTokens);
  api::GenerationRequest request{
      .prompt = {},
      .max_tokens = static_cast<std::int32_t>(output),
      .ignore_eos = true,
      .top_logprobs = 0,
  };
  request.sampling.temperature = 0.0F;
  for (std::int64_t id = 1; id <= length; ++id) {
    request.prompt.push_back(static_cast<TokenId>(std::min(id, limits.vocabulary - 1)));
  }
  return request;
}

bool same_bits(const api::TokenLogprob& a, const api::TokenLogprob& b) {
  return a.token == b.token &&
         std::bit_cast<std::uint32_t>(a.logprob) == std::bit_cast<std::uint32_t>(b.logprob);
}

}  // namespace

StartCanary::StartCanary(api::Generator& generator)
    : generator_(generator), limits_(generator.limits()), question_(question_for(limits_)) {}

Result<void> StartCanary::run() {
  PLEIAD_TRY(first, answer());
  PLEIAD_TRY(second, answer());
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (same_bits(first[i], second[i])) continue;
    return internal_error(
        "the start canary got two answers to one prompt: output {} was token {} with score {} and "
        "then token {} with score {}; this machine does not compute reliably",
        i,
        first[i].token,
        first[i].logprob,
        second[i].token,
        second[i].logprob
    );
  }
  return {};
}

Result<std::vector<api::TokenLogprob>> StartCanary::answer() {
  AnswerSink sink;
  PLEIAD_TRY(request, generator_.submit(question_, sink));
  const api::FinishEvent& finish = sink.wait();
  if (finish.reason == api::FinishReason::Lost) return unavailable("{}", finish.message);
  if (finish.reason == api::FinishReason::Error) {
    return internal_error("the start canary failed: {}", finish.message);
  }
  const auto wanted = static_cast<std::size_t>(question_.max_tokens);
  if (finish.reason != api::FinishReason::Length || sink.tokens().size() != wanted) {
    return internal_error(
        "the start canary's request {} ended after {} of {} tokens",
        request.value(),
        sink.tokens().size(),
        wanted
    );
  }
  for (const api::TokenLogprob& token : sink.tokens()) {
    if (static_cast<std::int64_t>(token.token) >= limits_.vocabulary) {
      return internal_error(
          "the start canary got token {} of a vocabulary of {}", token.token, limits_.vocabulary
      );
    }
    if (!std::isfinite(token.logprob)) {
      return internal_error(
          "the start canary got token {} with score {}: the model's logits are no numbers; its "
          "weights are damaged or not of this architecture",
          token.token,
          token.logprob
      );
    }
  }
  return sink.tokens();
}

}  // namespace pleiad::apps
