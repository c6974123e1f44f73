#include "api/generation_wire.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "base/wire_bytes.h"

namespace pleiad::api {
namespace {

using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 31337;

std::vector<TokenId> random_tokens(Random& random, std::size_t most) {
  std::vector<TokenId> out(random.below(most + 1));
  for (TokenId& token : out) {
    token = static_cast<TokenId>(random.next());
  }
  return out;
}

std::optional<std::int32_t> maybe(Random& random) {
  if (random.below(2) == 0) return std::nullopt;
  return static_cast<std::int32_t>(random.next());
}

float random_float(Random& random) {
  return static_cast<float>(random.normal());
}

std::string random_text(Random& random, std::size_t most) {
  std::string out(random.below(most + 1), ' ');
  for (char& c : out) {
    c = static_cast<char>(random.below(256));
  }
  return out;
}

SubmitMessage random_submit(Random& random) {
  SubmitMessage out{.id = RequestId(random.next()), .request = {}};
  GenerationRequest& request = out.request;
  request.prompt = random_tokens(random, 40);
  request.max_tokens = static_cast<std::int32_t>(random.next());
  Sampling& sampling = request.sampling;
  sampling.temperature = random_float(random);
  sampling.top_p = random_float(random);
  sampling.top_k = static_cast<std::int32_t>(random.next());
  sampling.min_p = random_float(random);
  sampling.seed = random.next();
  sampling.presence_penalty = random_float(random);
  sampling.frequency_penalty = random_float(random);
  sampling.repetition_penalty = random_float(random);
  for (const TokenId token : random_tokens(random, 5)) {
    sampling.logit_bias.emplace_back(token, random_float(random));
  }
  request.stop_tokens = random_tokens(random, 4);
  request.ignore_eos = random.below(2) == 0;
  request.top_logprobs = maybe(random);
  request.prompt_top_logprobs = maybe(random);
  request.cache_salt = random_text(random, 20);
  request.priority = static_cast<std::int32_t>(random.next());
  request.resumed_tokens = static_cast<std::int32_t>(random.next());
  if (random.below(2) == 0) request.dp_rank = static_cast<std::int32_t>(random.next());
  if (random.below(2) == 0) {
    request.prefill_from = PrefillFrom{
        .url = random_text(random, 20),
        .dp_rank = maybe(random),
        .attempt = static_cast<std::uint32_t>(random.next())};
  }
  return out;
}

PrefillOrder random_order(Random& random) {
  return {
      .id =
          {.epoch = random.next(),
           .number = random.next(),
           .attempt = static_cast<std::uint32_t>(random.next())},
      .instance = random_text(random, 20),
      .prompt = random_tokens(random, 40),
      .first = static_cast<std::int64_t>(random.next()),
      .shared = random.below(2) == 0,
      .cache_salt = random_text(random, 20),
      .priority = static_cast<std::int32_t>(random.next()),
      .dp_rank = maybe(random),
  };
}

TokenEvent random_token_event(Random& random) {
  TokenEvent out;
  out.request = RequestId(random.next());
  out.chosen = {static_cast<TokenId>(random.next()), random_float(random)};
  out.position = static_cast<std::int32_t>(random.next());
  out.top_count = static_cast<std::int32_t>(random.below(kTopLogprobsMax + 1));
  for (std::int32_t i = 0; i < out.top_count; ++i) {
    out.top[static_cast<std::size_t>(i)] = {
        static_cast<TokenId>(random.next()), random_float(random)};
  }
  return out;
}

FinishEvent random_finish(Random& random) {
  FinishEvent out;
  out.request = RequestId(random.next());
  out.reason = static_cast<FinishReason>(random.below(5));
  if (random.below(2) == 0) out.stop_token = static_cast<TokenId>(random.next());
  out.prompt_tokens = static_cast<std::int32_t>(random.next());
  out.cached_tokens = static_cast<std::int32_t>(random.next());
  out.output_tokens = static_cast<std::int32_t>(random.next());
  out.message = random_text(random, 30);
  out.prefill_lost = random.below(2) == 0;
  out.prefill_broken = random.below(2) == 0;
  return out;
}

GeneratorStatus random_status(Random& random) {
  const auto number = [&] { return static_cast<std::int64_t>(random.next()); };
  return {
      .accepting = random.below(2) == 0,
      .running = number(),
      .waiting = number(),
      .pages_total = number(),
      .pages_held = number(),
      .pages_cached = number(),
      .steps = random.next(),
      .tokens_outstanding = number(),
      .seconds_since_progress = random.normal(),
  };
}

void expect_same(const SubmitMessage& a, const SubmitMessage& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.request.prompt, b.request.prompt);
  EXPECT_EQ(a.request.max_tokens, b.request.max_tokens);
  const Sampling& s = a.request.sampling;
  const Sampling& t = b.request.sampling;
  EXPECT_EQ(s.temperature, t.temperature);
  EXPECT_EQ(s.top_p, t.top_p);
  EXPECT_EQ(s.top_k, t.top_k);
  EXPECT_EQ(s.min_p, t.min_p);
  EXPECT_EQ(s.seed, t.seed);
  EXPECT_EQ(s.presence_penalty, t.presence_penalty);
  EXPECT_EQ(s.frequency_penalty, t.frequency_penalty);
  EXPECT_EQ(s.repetition_penalty, t.repetition_penalty);
  EXPECT_EQ(s.logit_bias, t.logit_bias);
  EXPECT_EQ(a.request.stop_tokens, b.request.stop_tokens);
  ASSERT_EQ(a.request.prefill_from.has_value(), b.request.prefill_from.has_value());
  if (a.request.prefill_from) {
    EXPECT_EQ(a.request.prefill_from->url, b.request.prefill_from->url);
    EXPECT_EQ(a.request.prefill_from->dp_rank, b.request.prefill_from->dp_rank);
    EXPECT_EQ(a.request.prefill_from->attempt, b.request.prefill_from->attempt);
  }
  EXPECT_EQ(a.request.ignore_eos, b.request.ignore_eos);
  EXPECT_EQ(a.request.top_logprobs, b.request.top_logprobs);
  EXPECT_EQ(a.request.prompt_top_logprobs, b.request.prompt_top_logprobs);
  EXPECT_EQ(a.request.cache_salt, b.request.cache_salt);
  EXPECT_EQ(a.request.priority, b.request.priority);
  EXPECT_EQ(a.request.resumed_tokens, b.request.resumed_tokens);
  EXPECT_EQ(a.request.dp_rank, b.request.dp_rank);
}

TEST(GenerationWire, SubmitsComeBackAsTheyWere) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    const SubmitMessage message = random_submit(random);

    const auto decoded = decode_submit(encode(message));

    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    expect_same(*decoded, message);
  }
}

TEST(GenerationWire, TokensComeBackAsTheyWere) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    const TokenEvent event = random_token_event(random);

    const TokenEvent decoded = decode_token(encode(event)).value();

    EXPECT_EQ(decoded.request, event.request);
    EXPECT_EQ(decoded.position, event.position);
    EXPECT_EQ(decoded.chosen.token, event.chosen.token);
    EXPECT_EQ(decoded.chosen.logprob, event.chosen.logprob);
    ASSERT_EQ(decoded.top_count, event.top_count);
    for (std::size_t i = 0; i < static_cast<std::size_t>(event.top_count); ++i) {
      EXPECT_EQ(decoded.top[i].token, event.top[i].token);
      EXPECT_EQ(decoded.top[i].logprob, event.top[i].logprob);
    }
  }
}

TEST(GenerationWire, AnInfiniteLogprobComesBack) {
  TokenEvent event;
  event.chosen.logprob = -std::numeric_limits<float>::infinity();

  EXPECT_EQ(decode_token(encode(event)).value().chosen.logprob, event.chosen.logprob);
}

TEST(GenerationWire, PrefillOrdersComeBackAsTheyWere) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    const PrefillOrder order = random_order(random);
    const PrefillOrder back = decode_prefill_order(encode(order)).value();
    EXPECT_EQ(back.id, order.id);
    EXPECT_EQ(back.instance, order.instance);
    EXPECT_EQ(back.prompt, order.prompt);
    EXPECT_EQ(back.first, order.first);
    EXPECT_EQ(back.shared, order.shared);
    EXPECT_EQ(back.cache_salt, order.cache_salt);
    EXPECT_EQ(back.priority, order.priority);
    EXPECT_EQ(back.dp_rank, order.dp_rank);
  }
}

TEST(GenerationWire, FinishesAndStatusesComeBackAsTheyWere) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    const FinishEvent finish = random_finish(random);
    const FinishEvent event = decode_finish(encode(finish)).value();
    EXPECT_EQ(event.request, finish.request);
    EXPECT_EQ(event.reason, finish.reason);
    EXPECT_EQ(event.stop_token, finish.stop_token);
    EXPECT_EQ(event.prompt_tokens, finish.prompt_tokens);
    EXPECT_EQ(event.cached_tokens, finish.cached_tokens);
    EXPECT_EQ(event.output_tokens, finish.output_tokens);
    EXPECT_EQ(event.message, finish.message);
    EXPECT_EQ(event.prefill_lost, finish.prefill_lost);
    EXPECT_EQ(event.prefill_broken, finish.prefill_broken);

    const GeneratorStatus status = random_status(random);
    const GeneratorStatus decoded = decode_status(encode(status)).value();
    EXPECT_EQ(decoded.accepting, status.accepting);
    EXPECT_EQ(decoded.running, status.running);
    EXPECT_EQ(decoded.waiting, status.waiting);
    EXPECT_EQ(decoded.pages_total, status.pages_total);
    EXPECT_EQ(decoded.pages_held, status.pages_held);
    EXPECT_EQ(decoded.pages_cached, status.pages_cached);
    EXPECT_EQ(decoded.steps, status.steps);
    EXPECT_EQ(decoded.tokens_outstanding, status.tokens_outstanding);
    EXPECT_EQ(decoded.seconds_since_progress, status.seconds_since_progress);
  }
}

// Every shorter form and every longer one is refused as Corrupt.
template <typename Decode>
void expect_exact(const Bytes& bytes, Decode decode) {
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto cut = decode(std::span(bytes).first(size));
    ASSERT_FALSE(cut.ok()) << size << " of " << bytes.size();
    ASSERT_EQ(cut.error().kind, ErrorKind::Corrupt);
  }
  for (const std::size_t more : {1U, 4U, 100U}) {
    Bytes longer = bytes;
    longer.resize(bytes.size() + more);
    const auto read = decode(longer);
    ASSERT_FALSE(read.ok());
    ASSERT_THAT(read.error().message, HasSubstr("after the end"));
  }
}

TEST(GenerationWire, TruncationsAndTrailingBytesAreRefused) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 10; ++round) {
    expect_exact(encode(random_submit(random)), decode_submit);
    expect_exact(encode(random_order(random)), decode_prefill_order);
    expect_exact(encode(random_token_event(random)), decode_token);
    expect_exact(encode(random_finish(random)), decode_finish);
    expect_exact(encode(random_status(random)), decode_status);
  }
}

template <typename T>
Bytes with(Bytes bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(T));
  return bytes;
}

TEST(GenerationWire, AbsurdLengthsAreRefusedBeforeAnythingIsHeld) {
  const SubmitMessage message{.id = RequestId(7), .request = {.prompt = {1, 2, 3}}};
  const Bytes bytes = encode(message);
  constexpr std::size_t kPromptLength = sizeof(std::uint64_t);
  // The prompt, max_tokens, resumed_tokens and eight sampling fields come before the number of
  // biases.
  constexpr std::size_t kBiases = kPromptLength + 4 + 3 * 4 + 2 * 4 + 7 * 4 + 8;
  ASSERT_EQ(std::to_integer<int>(bytes[kPromptLength]), 12);
  ASSERT_TRUE(decode_submit(bytes).ok());

  for (const std::uint32_t count : {(1U << 24U) + 4U, 0xFFFFFFFFU}) {
    const auto read = decode_submit(with(bytes, kPromptLength, count));
    ASSERT_FALSE(read.ok());
    EXPECT_THAT(read.error().message, HasSubstr("at most"));
  }
  // Within the limit, and yet more than there is.
  EXPECT_THAT(
      decode_submit(with(bytes, kPromptLength, std::uint32_t{1} << 24U)).error().message,
      HasSubstr("ends too early")
  );
  EXPECT_THAT(
      decode_submit(with(bytes, kBiases, std::uint32_t{1} << 22U)).error().message,
      HasSubstr("ends too early")
  );
  EXPECT_THAT(
      decode_submit(with(bytes, kBiases, std::uint32_t{0x80000000U})).error().message,
      HasSubstr("at most")
  );
  // A list of ids that is no whole number of ids.
  EXPECT_THAT(
      decode_submit(with(bytes, kPromptLength, std::uint32_t{11})).error().message,
      HasSubstr("half a token id")
  );
}

TEST(GenerationWire, MoreAlternativesThanThereAreAreRefused) {
  TokenEvent event;
  event.top_count = kTopLogprobsMax;
  Bytes bytes = encode(event);
  const std::size_t at = bytes.size() - kTopLogprobsMax * 8 - 4;
  ASSERT_TRUE(decode_token(bytes).ok());
  for (const std::uint32_t count : {21U, 0xFFFFFFFFU}) {
    const auto read = decode_token(with(bytes, at, count));
    ASSERT_FALSE(read.ok());
    EXPECT_THAT(read.error().message, HasSubstr("at most 20"));
  }
}

TEST(GenerationWire, FlagsAndReasonsThatDoNotExistAreRefused) {
  const Bytes finish = encode(FinishEvent{.request = RequestId(1)});
  constexpr std::size_t kReason = sizeof(std::uint64_t);

  EXPECT_THAT(
      decode_finish(with(finish, kReason, std::uint8_t{5})).error().message,
      HasSubstr("a finish reason of 5")
  );
  EXPECT_THAT(
      decode_finish(with(finish, kReason + 1, std::uint8_t{2})).error().message,
      HasSubstr("a flag of 2")
  );
  EXPECT_THAT(
      decode_status(with(encode(GeneratorStatus{}), 0, std::uint8_t{255})).error().message,
      HasSubstr("a flag of 255")
  );
}

TEST(GenerationWire, ALongMessageIsCutSoThatItCanBeRead) {
  const FinishEvent event{.request = RequestId(1), .message = std::string(kWireTextMax + 5, 'x')};

  EXPECT_EQ(decode_finish(encode(event)).value().message.size(), kWireTextMax);
}

}  // namespace
}  // namespace pleiad::api
