#include "api/generation_wire.h"

#include <algorithm>
#include <utility>

#include "base/wire_bytes.h"

namespace pleiad::api {
namespace {

void write(ByteWriter& out, std::span<const TokenId> tokens) {
  out.bytes(std::as_bytes(tokens));
}

Result<std::vector<TokenId>> read_tokens(ByteReader& in) {
  PLEIAD_TRY(bytes, in.bytes(kWireTokensMax * sizeof(TokenId)));
  if (bytes.size() % sizeof(TokenId) != 0) return corrupt("half a token id in a message");
  std::vector<TokenId> tokens(bytes.size() / sizeof(TokenId));
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(tokens)).begin());
  return tokens;
}

void write(ByteWriter& out, const std::string& text) {
  out.text(std::string_view(text).substr(0, kWireTextMax));
}

Result<std::string> read_text(ByteReader& in) {
  PLEIAD_TRY(bytes, in.bytes(kWireTextMax));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Absent, or a number.
void write(ByteWriter& out, const std::optional<std::int32_t>& value) {
  out.number(static_cast<std::uint8_t>(value ? 1 : 0));
  out.number(value.value_or(0));
}

Result<bool> read_flag(ByteReader& in) {
  PLEIAD_TRY(value, in.number<std::uint8_t>());
  if (value > 1) return corrupt("a flag of {} in a message", value);
  return value == 1;
}

Result<std::optional<std::int32_t>> read_optional(ByteReader& in) {
  PLEIAD_TRY(present, read_flag(in));
  PLEIAD_TRY(value, in.number<std::int32_t>());
  return present ? std::optional(value) : std::nullopt;
}

// Reads into fields one after the other, as long as nothing failed.
template <typename Number>
Result<void> read_into(ByteReader& in, Number& field) {
  PLEIAD_TRY(value, in.number<Number>());
  field = value;
  return {};
}

void write(ByteWriter& out, const Sampling& s) {
  out.number(s.temperature);
  out.number(s.top_p);
  out.number(s.top_k);
  out.number(s.min_p);
  out.number(s.seed);
  out.number(s.presence_penalty);
  out.number(s.frequency_penalty);
  out.number(s.repetition_penalty);
  out.number(static_cast<std::uint32_t>(s.logit_bias.size()));
  for (const auto& [token, bias] : s.logit_bias) {
    out.number(token);
    out.number(bias);
  }
}

Result<Sampling> read_sampling(ByteReader& in) {
  Sampling s;
  PLEIAD_TRY(read_into(in, s.temperature));
  PLEIAD_TRY(read_into(in, s.top_p));
  PLEIAD_TRY(read_into(in, s.top_k));
  PLEIAD_TRY(read_into(in, s.min_p));
  PLEIAD_TRY(read_into(in, s.seed));
  PLEIAD_TRY(read_into(in, s.presence_penalty));
  PLEIAD_TRY(read_into(in, s.frequency_penalty));
  PLEIAD_TRY(read_into(in, s.repetition_penalty));
  PLEIAD_TRY(biases, in.count(kWireTokensMax));
  for (std::size_t i = 0; i < biases; ++i) {
    PLEIAD_TRY(token, in.number<TokenId>());
    PLEIAD_TRY(bias, in.number<float>());
    s.logit_bias.emplace_back(token, bias);
  }
  return s;
}

void write(ByteWriter& out, const TransferId& id) {
  out.number(id.epoch);
  out.number(id.number);
  out.number(id.attempt);
}

void write(ByteWriter& out, const PrefillFrom& from) {
  write(out, from.url);
  write(out, from.dp_rank);
  out.number(from.attempt);
}

Result<PrefillFrom> read_prefill_from(ByteReader& in) {
  PrefillFrom from;
  PLEIAD_TRY(url, read_text(in));
  from.url = std::move(url);
  PLEIAD_TRY(dp_rank, read_optional(in));
  from.dp_rank = dp_rank;
  PLEIAD_TRY(read_into(in, from.attempt));
  return from;
}

}  // namespace

std::vector<std::byte> encode(const SubmitMessage& message) {
  const GenerationRequest& request = message.request;
  ByteWriter out;
  out.number(message.id.value());
  write(out, request.prompt);
  out.number(request.max_tokens);
  out.number(request.resumed_tokens);
  write(out, request.sampling);
  write(out, request.stop_tokens);
  out.number(static_cast<std::uint8_t>(request.ignore_eos ? 1 : 0));
  write(out, request.top_logprobs);
  write(out, request.prompt_top_logprobs);
  write(out, request.cache_salt);
  out.number(request.priority);
  write(out, request.dp_rank);
  out.number(static_cast<std::uint8_t>(request.prefill_from ? 1 : 0));
  if (request.prefill_from) write(out, *request.prefill_from);
  return out.take();
}

Result<SubmitMessage> decode_submit(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  SubmitMessage out;
  GenerationRequest& request = out.request;
  PLEIAD_TRY(id, in.number<std::uint64_t>());
  out.id = RequestId(id);
  PLEIAD_TRY(prompt, read_tokens(in));
  request.prompt = std::move(prompt);
  PLEIAD_TRY(read_into(in, request.max_tokens));
  PLEIAD_TRY(read_into(in, request.resumed_tokens));
  PLEIAD_TRY(sampling, read_sampling(in));
  request.sampling = std::move(sampling);
  PLEIAD_TRY(stops, read_tokens(in));
  request.stop_tokens = std::move(stops);
  PLEIAD_TRY(ignore_eos, read_flag(in));
  request.ignore_eos = ignore_eos;
  PLEIAD_TRY(top, read_optional(in));
  request.top_logprobs = top;
  PLEIAD_TRY(prompt_top, read_optional(in));
  request.prompt_top_logprobs = prompt_top;
  PLEIAD_TRY(salt, read_text(in));
  request.cache_salt = std::move(salt);
  PLEIAD_TRY(read_into(in, request.priority));
  PLEIAD_TRY(dp_rank, read_optional(in));
  request.dp_rank = dp_rank;
  PLEIAD_TRY(handed_over, read_flag(in));
  if (handed_over) {
    PLEIAD_TRY(from, read_prefill_from(in));
    request.prefill_from = std::move(from);
  }
  PLEIAD_TRY(in.end());
  return out;
}

std::vector<std::byte> encode(const PrefillOrder& order) {
  ByteWriter out;
  write(out, order.id);
  write(out, order.instance);
  write(out, order.prompt);
  out.number(order.first);
  out.number(static_cast<std::uint8_t>(order.shared ? 1 : 0));
  write(out, order.cache_salt);
  out.number(order.priority);
  write(out, order.dp_rank);
  return out.take();
}

Result<PrefillOrder> decode_prefill_order(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  PrefillOrder out;
  PLEIAD_TRY(read_into(in, out.id.epoch));
  PLEIAD_TRY(read_into(in, out.id.number));
  PLEIAD_TRY(read_into(in, out.id.attempt));
  PLEIAD_TRY(instance, read_text(in));
  out.instance = std::move(instance);
  PLEIAD_TRY(prompt, read_tokens(in));
  out.prompt = std::move(prompt);
  PLEIAD_TRY(read_into(in, out.first));
  PLEIAD_TRY(shared, read_flag(in));
  out.shared = shared;
  PLEIAD_TRY(salt, read_text(in));
  out.cache_salt = std::move(salt);
  PLEIAD_TRY(read_into(in, out.priority));
  PLEIAD_TRY(dp_rank, read_optional(in));
  out.dp_rank = dp_rank;
  PLEIAD_TRY(in.end());
  return out;
}

std::vector<std::byte> encode(const TokenEvent& event) {
  ByteWriter out;
  out.number(event.request.value());
  out.number(event.chosen.token);
  out.number(event.chosen.logprob);
  out.number(event.position);
  out.number(event.top_count);
  for (const TokenLogprob& top :
       std::span(event.top).first(static_cast<std::size_t>(event.top_count))) {
    out.number(top.token);
    out.number(top.logprob);
  }
  return out.take();
}

Result<TokenEvent> decode_token(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  TokenEvent out;
  PLEIAD_TRY(id, in.number<std::uint64_t>());
  out.request = RequestId(id);
  PLEIAD_TRY(read_into(in, out.chosen.token));
  PLEIAD_TRY(read_into(in, out.chosen.logprob));
  PLEIAD_TRY(read_into(in, out.position));
  PLEIAD_TRY(count, in.count(kTopLogprobsMax));
  out.top_count = static_cast<std::int32_t>(count);
  for (TokenLogprob& top : std::span(out.top).first(count)) {
    PLEIAD_TRY(read_into(in, top.token));
    PLEIAD_TRY(read_into(in, top.logprob));
  }
  PLEIAD_TRY(in.end());
  return out;
}

std::vector<std::byte> encode(const FinishEvent& event) {
  ByteWriter out;
  out.number(event.request.value());
  out.number(static_cast<std::uint8_t>(event.reason));
  const bool stopped = event.stop_token.has_value();
  out.number(static_cast<std::uint8_t>(stopped ? 1 : 0));
  out.number(event.stop_token.value_or(0));
  out.number(event.prompt_tokens);
  out.number(event.cached_tokens);
  out.number(event.output_tokens);
  write(out, event.message);
  out.number(static_cast<std::uint8_t>(event.prefill_lost ? 1 : 0));
  out.number(static_cast<std::uint8_t>(event.prefill_broken ? 1 : 0));
  return out.take();
}

Result<FinishEvent> decode_finish(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  FinishEvent out;
  PLEIAD_TRY(id, in.number<std::uint64_t>());
  out.request = RequestId(id);
  PLEIAD_TRY(reason, in.number<std::uint8_t>());
  if (reason > static_cast<std::uint8_t>(FinishReason::Lost)) {
    return corrupt("a finish reason of {} in a message", reason);
  }
  out.reason = static_cast<FinishReason>(reason);
  PLEIAD_TRY(stopped, read_flag(in));
  PLEIAD_TRY(token, in.number<TokenId>());
  if (stopped) out.stop_token = token;
  PLEIAD_TRY(read_into(in, out.prompt_tokens));
  PLEIAD_TRY(read_into(in, out.cached_tokens));
  PLEIAD_TRY(read_into(in, out.output_tokens));
  PLEIAD_TRY(message, read_text(in));
  out.message = std::move(message);
  PLEIAD_TRY(prefill_lost, read_flag(in));
  out.prefill_lost = prefill_lost;
  PLEIAD_TRY(prefill_broken, read_flag(in));
  out.prefill_broken = prefill_broken;
  PLEIAD_TRY(in.end());
  return out;
}

std::vector<std::byte> encode(const GeneratorStatus& status) {
  ByteWriter out;
  out.number(static_cast<std::uint8_t>(status.accepting ? 1 : 0));
  out.number(status.running);
  out.number(status.waiting);
  out.number(status.pages_total);
  out.number(status.pages_held);
  out.number(status.pages_cached);
  out.number(status.steps);
  out.number(status.tokens_outstanding);
  out.number(status.seconds_since_progress);
  return out.take();
}

Result<GeneratorStatus> decode_status(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  GeneratorStatus out;
  PLEIAD_TRY(accepting, read_flag(in));
  out.accepting = accepting;
  PLEIAD_TRY(read_into(in, out.running));
  PLEIAD_TRY(read_into(in, out.waiting));
  PLEIAD_TRY(read_into(in, out.pages_total));
  PLEIAD_TRY(read_into(in, out.pages_held));
  PLEIAD_TRY(read_into(in, out.pages_cached));
  PLEIAD_TRY(read_into(in, out.steps));
  PLEIAD_TRY(read_into(in, out.tokens_outstanding));
  PLEIAD_TRY(read_into(in, out.seconds_since_progress));
  PLEIAD_TRY(in.end());
  return out;
}

}  // namespace pleiad::api
