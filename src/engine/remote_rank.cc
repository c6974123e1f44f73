#include "engine/remote_rank.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "api/generation_wire.h"
#include "base/wire_bytes.h"

namespace pleiad::engine {
namespace {

Result<void> check_tokens(const api::TokenEvent& event, std::int64_t vocabulary) {
  const auto known = [&](const api::TokenLogprob& scored) {
    return static_cast<std::int64_t>(scored.token) < vocabulary;
  };
  const auto top = std::span(event.top).first(static_cast<std::size_t>(event.top_count));
  if (known(event.chosen) && std::ranges::all_of(top, known)) return {};
  return corrupt("a token that is not of the vocabulary of {}", vocabulary);
}

}  // namespace

Result<api::RequestId>
RemoteRank::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  PLEIAD_TRY(options_.validate(request));
  const std::int64_t tokens = static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens;
  api::SubmitMessage message{.request = std::move(request)};
  {
    const std::scoped_lock lock(mutex_);
    if (!failure_.empty()) return unavailable("rank {}: {}", options_.rank, failure_);
    if (static_cast<std::int64_t>(open_.size()) >= options_.open_max) {
      return exhausted("{} requests are in flight already", options_.open_max);
    }
    message.id = api::RequestId(next_);
    next_ += static_cast<std::uint64_t>(options_.ranks);
    open_.emplace(message.id, Open{&sink, tokens});
    tokens_outstanding_ += tokens;
  }
  link_.send({static_cast<std::uint32_t>(RankMessage::Submit), api::encode(message)});
  return message.id;
}

void RemoteRank::send_id(RankMessage kind, api::RequestId request) {
  ByteWriter out;
  out.number(request.value());
  link_.send({static_cast<std::uint32_t>(kind), out.take()});
}

void RemoteRank::cancel(api::RequestId request) {
  send_id(RankMessage::Cancel, request);
}

void RemoteRank::finish_early(api::RequestId request) {
  send_id(RankMessage::FinishEarly, request);
}

void RemoteRank::reset_prefix_cache() {
  ByteWriter out;
  out.number(static_cast<std::uint64_t>(options_.rank));
  link_.send({static_cast<std::uint32_t>(RankMessage::ResetPrefixCache), out.take()});
}

api::GeneratorStatus RemoteRank::status() const {
  const std::scoped_lock lock(mutex_);
  api::GeneratorStatus out = reported_;
  out.accepting = failure_.empty();
  out.tokens_outstanding = tokens_outstanding_;
  return out;
}

api::GenerationSink* RemoteRank::sink_of(api::RequestId request) {
  const std::scoped_lock lock(mutex_);
  const auto found = open_.find(request);
  return found == open_.end() ? nullptr : found->second.sink;
}

// Events of requests that are not open (they were failed here first) are dropped.
Result<void> RemoteRank::handle(RankMessage kind, std::span<const std::byte> bytes) {
  if (kind == RankMessage::Token || kind == RankMessage::PromptToken) {
    PLEIAD_TRY(event, api::decode_token(bytes));
    PLEIAD_TRY(check_tokens(event, options_.limits.vocabulary));
    api::GenerationSink* sink = sink_of(event.request);
    if (sink == nullptr) return {};
    if (kind == RankMessage::Token) {
      sink->on_token(event);
    } else {
      sink->on_prompt_token(event);
    }
    return {};
  }
  if (kind == RankMessage::Finish) {
    PLEIAD_TRY(event, api::decode_finish(bytes));
    Open ended;
    {
      const std::scoped_lock lock(mutex_);
      const auto found = open_.find(event.request);
      if (found == open_.end()) return {};
      ended = found->second;
      tokens_outstanding_ -= ended.tokens;
      open_.erase(found);
    }
    ended.sink->on_finish(event);
    return {};
  }
  return corrupt("a message of kind {} is none for node 0", static_cast<std::uint32_t>(kind));
}

void RemoteRank::report(const api::GeneratorStatus& status) {
  const std::scoped_lock lock(mutex_);
  reported_ = status;
}

void RemoteRank::fail(const std::string& message, api::FinishReason reason) {
  std::unordered_map<api::RequestId, Open> open;
  {
    const std::scoped_lock lock(mutex_);
    if (failure_.empty()) failure_ = message;
    std::swap(open, open_);
    tokens_outstanding_ = 0;
  }
  for (const auto& [id, ended] : open) {
    ended.sink->on_finish({.request = id, .reason = reason, .message = message});
  }
}

}  // namespace pleiad::engine
