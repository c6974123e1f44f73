#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/hand_over.h"
#include "api/sampling.h"
#include "base/id.h"
#include "base/result.h"
#include "base/token.h"

// What crosses between the side that speaks text (server) and the side that speaks tokens (engine).
namespace pleiad::api {

using RequestId = Id<struct RequestTag, std::uint64_t>;

inline constexpr std::int32_t kTopLogprobsMax = 20;
inline constexpr std::size_t kCacheSaltBytesMax = 4096;

// One continuation of one prompt. A client's request with n choices or several prompts is several
// of these.
struct GenerationRequest {
  std::vector<TokenId> prompt;   // at least one token
  std::int32_t max_tokens = 16;  // 0: score the prompt only
  // Of a request that began elsewhere: so many tokens at the prompt's end are output already. What
  // follows is what would have followed there; max_tokens counts new tokens only.
  std::int32_t resumed_tokens = 0;
  Sampling sampling;
  std::vector<TokenId> stop_tokens;  // the client's: end the output, in force even under ignore_eos
  bool ignore_eos = false;           // go on after the model's own end-of-sequence tokens
  std::optional<std::int32_t> top_logprobs;  // 0..20 alternatives per output token; none: no scores
  std::optional<std::int32_t> prompt_top_logprobs;  // likewise for prompt tokens
  std::string cache_salt;     // only requests of the same salt share cached prefixes
  std::int32_t priority = 0;  // lower runs earlier
  std::string session;        // requests of one session are best kept together; empty: none
  std::optional<std::int32_t> dp_rank;  // that must take it; none: the least busy one
  // Another worker computes the prompt, all but its last token; this one takes over.
  std::optional<PrefillFrom> prefill_from;
  // The other side of that, within a process: nothing is sampled, and the keys and values go where
  // this says. REQUIRES: max_tokens 0; the outlet lives until on_finish.
  std::optional<KvOrder> kv_order;
};

// Error: something is wrong with the program or the request, and asking again will not help. Lost:
// a rank that worked at it is gone, and asking again may.
enum class FinishReason { Stop, Length, Cancelled, Error, Lost };

struct TokenLogprob {
  TokenId token = 0;
  float logprob =
      0.0F;  // natural logarithm, of the model's own distribution (before sampling rules)
};

// One token with its score. Fixed size, so that the engine hands it out without allocating.
struct TokenEvent {
  RequestId request;
  TokenLogprob chosen;
  std::int32_t position = 0;   // of the token in prompt + output
  std::int32_t top_count = 0;  // valid entries of top, most likely first
  std::array<TokenLogprob, kTopLogprobsMax> top{};
};

// Where a request is worked at, said by what sends requests to several places.
struct PlacedEvent {
  RequestId request;
  std::string place;  // in printable ASCII
};

struct FinishEvent {
  RequestId request;
  FinishReason reason = FinishReason::Stop;
  std::optional<TokenId> stop_token;  // the token that ended it, when one did
  std::int32_t prompt_tokens = 0;
  std::int32_t cached_tokens = 0;  // prompt tokens taken from the prefix cache
  std::int32_t output_tokens = 0;
  std::string message;  // for Error and Lost: what went wrong
  // Of Error, said by what sends requests to several places: the message is for the client too. The
  // message of any other error is for operators.
  bool for_client = false;
  // Of Lost: the worker that was to compute the prompt failed, not the one that says so. Asking the
  // latter again, with another one or none, may help.
  bool prefill_lost = false;
  bool prefill_broken = false;  // and may have died of the prompt: it had the order
};

// Receives what one request produces. Called on the engine's thread: must return at once, never
// block, never call back into the Generator except cancel() and finish_early(). Lives until
// on_finish, which comes exactly once for every accepted request, whatever happens, and is the last
// call.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // Before its tokens from that place; again when it goes on elsewhere. Never where there is one
  // place only.
  virtual void on_placed(const PlacedEvent& /*event*/) {}
  // Score of prompt token `position` (1 .. prompt - 1) given those before it; only when asked for.
  virtual void on_prompt_token(const TokenEvent& event) = 0;
  // An output token. The token that ends the output by stopping it is not one.
  virtual void on_token(const TokenEvent& event) = 0;
  virtual void on_finish(const FinishEvent& event) = 0;
};

// What a serving process knows about itself; a snapshot.
struct GeneratorStatus {
  bool accepting = false;  // false while starting, draining or failed
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  std::int64_t pages_total = 0;
  std::int64_t pages_held = 0;          // by running requests
  std::int64_t pages_cached = 0;        // evictable prefix cache
  std::uint64_t steps = 0;              // grows while there is work: progress
  std::int64_t tokens_outstanding = 0;  // prompt + max_tokens of open requests
  double seconds_since_progress =
      0.0;  // time since the last finished step while work waits; else 0
};

// Limits a client should know before it asks.
struct GeneratorLimits {
  std::int64_t vocabulary = 0;
  std::int64_t model_tokens_max = 0;  // prompt + output
};

// Turns prompts into tokens: the engine, or a test double. Every member may be called from any
// thread.
class Generator {
 public:
  virtual ~Generator() = default;
  // Queues a request. Fails with InvalidInput (a range, or a prompt that can never fit), Exhausted
  // (queue full: try later) or Unavailable (draining). After success `sink` is used until its
  // on_finish.
  virtual Result<RequestId> submit(GenerationRequest request, GenerationSink& sink) = 0;
  // Stops a request within one step; its on_finish says Cancelled. Unknown or finished ids are
  // fine.
  virtual void cancel(RequestId request) = 0;
  // Likewise for a request whose output is complete although its tokens do not show it: a stop
  // string matched in their text. Its on_finish says Stop, and it counts as one that succeeded.
  virtual void finish_early(RequestId request) = 0;
  [[nodiscard]] virtual GeneratorStatus status() const = 0;
  [[nodiscard]] virtual GeneratorLimits limits() const = 0;
  // Drops every cached prefix that nobody uses.
  virtual void reset_prefix_cache() = 0;
};

}  // namespace pleiad::api
