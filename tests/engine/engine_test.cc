// Also tests: engine_metrics.cc, engine_reports.cc
#include "engine/engine.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/engine/engine_harness.h"

namespace pleiad::engine {
namespace {

using testing::HasSubstr;

std::vector<TokenId> random_prompt(Random& random, std::size_t length) {
  std::vector<TokenId> prompt(length);
  for (TokenId& token : prompt)
    token = static_cast<TokenId>(6 + random.below(4000));
  return prompt;
}

// A request whose output depends on everything that may leak: sampling, penalties, scores.
api::GenerationRequest probe(std::vector<TokenId> prompt) {
  return {
      .prompt = std::move(prompt),
      .max_tokens = 40,
      .sampling = {.temperature = 0.9F, .top_p = 0.95F, .seed = 77, .presence_penalty = 0.3F},
      .ignore_eos = true,
      .top_logprobs = 5,
  };
}

struct Outcome {
  std::vector<TokenId> ids;
  std::vector<float> logprobs;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(Engine& engine, api::GenerationRequest request) {
  RecordingSink sink;
  EXPECT_TRUE(engine.submit(std::move(request), sink).ok());
  sink.wait();
  return {sink.ids(), sink.logprobs()};
}

TEST(Engine, GreedyDecodingIsTheModelsOwn) {
  EngineHarness harness(fable_settings());
  const auto alone =
      run(*harness.engine,
          {.prompt = {0, 3, 500, 600, 4},
           .max_tokens = 12,
           .sampling = {.temperature = 0.0F},
           .ignore_eos = true});
  const auto again =
      run(*harness.engine,
          {.prompt = {0, 3, 500, 600, 4},
           .max_tokens = 12,
           .sampling = {.temperature = 0.0F, .seed = 5},
           .ignore_eos = true});

  EXPECT_EQ(alone.ids.size(), 12U);
  EXPECT_EQ(alone, again);
}

// The heart of the promise: one request alone, and the same among 31 others that come at random
// times, for chunk sizes 16, 64 and 512, with the prefix in the cache or not, in both compute
// types: the same tokens and the same bits of every logprob.
TEST(Engine, BatchMatesChunksAndPrefixHitsLeaveNoTrace) {
  for (const auto dtype : {ComputeChoice::Float32, ComputeChoice::BFloat16}) {
    Random random(2024);
    const auto prompt = random_prompt(random, 300);
    std::optional<Outcome> expected;
    for (const std::int64_t chunk : {512, 64, 16}) {
      LoadSettings settings = fable_settings();
      settings.dtype = dtype;
      settings.max_num_batched_tokens = 512;
      settings.chunked_prefill_size = chunk;
      EngineHarness harness(settings);
      if (!expected) expected = run(*harness.engine, probe(prompt));

      std::vector<std::unique_ptr<RecordingSink>> others;
      std::vector<std::unique_ptr<RecordingSink>> probes;
      for (int i = 0; i < 31; ++i) {
        api::GenerationRequest other = probe(random_prompt(random, 1 + random.below(400)));
        other.max_tokens = static_cast<std::int32_t>(1 + random.below(60));
        other.sampling.seed = random.next();
        // Some share the probe's prefix, so that pages are shared while they are read.
        if (random.below(3) == 0)
          std::copy_n(
              prompt.begin(), std::min<std::size_t>(other.prompt.size(), 130), other.prompt.begin()
          );
        others.push_back(std::make_unique<RecordingSink>());
        ASSERT_TRUE(harness.engine->submit(std::move(other), *others.back()).ok());
        // Arrivals are spread over steps by waiting for tokens of earlier ones.
        if (random.below(2) == 0)
          others[random.below(others.size())]->wait_for_tokens(1 + random.below(3));
        if (i % 10 == 5) {
          probes.push_back(std::make_unique<RecordingSink>());
          ASSERT_TRUE(harness.engine->submit(probe(prompt), *probes.back()).ok());
        }
      }
      for (auto& sink : probes) {
        sink->wait();
        EXPECT_EQ(sink->ids(), expected->ids) << "chunk " << chunk;
        EXPECT_EQ(sink->logprobs(), expected->logprobs) << "chunk " << chunk;
      }
      for (auto& sink : others)
        sink->wait();
    }
  }
}

TEST(Engine, PreemptionAndRecomputationLeaveNoTrace) {
  Random random(7);
  const auto prompt = random_prompt(random, 100);
  LoadSettings roomy = fable_settings();
  EngineHarness calm(roomy);
  api::GenerationRequest request = probe(prompt);
  request.max_tokens = 150;
  const auto expected = run(*calm.engine, request);

  // Eight pages for six sequences of four pages each.
  LoadSettings tight = fable_settings();
  tight.max_model_len = 512;
  tight.kv_cache_bytes = 8 * 6 * 64 * 80 * 4;
  EngineHarness crowded(tight);
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    api::GenerationRequest same = request;
    same.cache_salt = std::to_string(i);
    ASSERT_TRUE(crowded.engine->submit(std::move(same), *sinks.back()).ok());
  }
  for (auto& sink : sinks) {
    sink->wait();
    EXPECT_EQ(sink->ids(), expected.ids);
    EXPECT_EQ(sink->logprobs(), expected.logprobs);
  }
  EXPECT_NE(crowded.metrics.render().find("vllm:num_preemptions_total"), std::string::npos);
  EXPECT_EQ(
      crowded.metrics.render().find(
          "vllm:num_preemptions_total{model_name=\"fable\",engine=\"0\"} 0\n"
      ),
      std::string::npos
  );
  EXPECT_EQ(crowded.engine->status().pages_held, 0);
}

// What a request has got elsewhere is part of its prompt now, and of its output still: the draws'
// numbers and the penalties say so.
TEST(Engine, AResumedRequestGoesOnWithTheExactNextToken) {
  Random random(12);
  api::GenerationRequest request = probe(random_prompt(random, 90));
  request.max_tokens = 40;
  request.sampling.presence_penalty = 0.7F;
  request.sampling.frequency_penalty = 0.3F;
  request.sampling.repetition_penalty = 1.1F;
  EngineHarness harness(fable_settings());
  RecordingSink whole_sink;
  ASSERT_TRUE(harness.engine->submit(request, whole_sink).ok());
  whole_sink.wait();
  const auto& whole = whole_sink.tokens();
  ASSERT_EQ(whole.size(), 40U);
  for (const std::size_t done : {1U, 17U, 39U}) {
    EngineHarness elsewhere(fable_settings());
    api::GenerationRequest rest = request;
    for (std::size_t i = 0; i < done; ++i)
      rest.prompt.push_back(whole[i].chosen.token);
    rest.resumed_tokens = static_cast<std::int32_t>(done);
    rest.max_tokens -= static_cast<std::int32_t>(done);
    RecordingSink sink;
    ASSERT_TRUE(elsewhere.engine->submit(rest, sink).ok());

    EXPECT_EQ(sink.wait().prompt_tokens, 90);
    EXPECT_EQ(sink.wait().output_tokens, rest.max_tokens);
    ASSERT_EQ(sink.tokens().size(), whole.size() - done);
    for (std::size_t i = done; i < whole.size(); ++i) {
      const api::TokenEvent& event = sink.tokens()[i - done];
      EXPECT_EQ(event.chosen.token, whole[i].chosen.token) << i << " after " << done;
      EXPECT_EQ(event.chosen.logprob, whole[i].chosen.logprob) << i << " after " << done;
      EXPECT_EQ(event.position, whole[i].position);
    }
  }
}

TEST(Engine, StopsAtEndOfSequenceAndAtClientTokensButNotWhenToldToIgnoreIt) {
  EngineHarness harness(fable_settings());
  api::GenerationRequest forced{
      .prompt = {0, 3, 500, 4},
      .max_tokens = 5,
      .sampling = {.temperature = 0.0F, .logit_bias = {{5, 100.0F}}}};
  RecordingSink at_eos;
  ASSERT_TRUE(harness.engine->submit(forced, at_eos).ok());
  EXPECT_EQ(at_eos.wait().reason, api::FinishReason::Stop);
  EXPECT_EQ(at_eos.wait().stop_token, 5U);
  EXPECT_TRUE(at_eos.tokens().empty());

  forced.ignore_eos = true;
  RecordingSink ignoring;
  ASSERT_TRUE(harness.engine->submit(forced, ignoring).ok());
  EXPECT_EQ(ignoring.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(ignoring.ids(), std::vector<TokenId>(5, 5U));

  forced.stop_tokens = {5};
  RecordingSink client;
  ASSERT_TRUE(harness.engine->submit(forced, client).ok());
  EXPECT_EQ(client.wait().reason, api::FinishReason::Stop);
}

TEST(Engine, ScoresAPromptWithoutGenerating) {
  EngineHarness harness(fable_settings());
  Random random(3);
  const auto prompt = random_prompt(random, 100);
  api::GenerationRequest request{.prompt = prompt, .max_tokens = 0, .prompt_top_logprobs = 2};
  std::vector<float> first;
  for (int round = 0; round < 2; ++round) {
    RecordingSink sink;
    ASSERT_TRUE(harness.engine->submit(request, sink).ok());
    EXPECT_EQ(sink.wait().reason, api::FinishReason::Length);
    EXPECT_TRUE(sink.tokens().empty());
    ASSERT_EQ(sink.prompt_tokens().size(), 99U);
    std::vector<float> scores;
    for (std::size_t i = 0; i < 99; ++i) {
      const api::TokenEvent& event = sink.prompt_tokens()[i];
      EXPECT_EQ(event.position, static_cast<std::int32_t>(i + 1));
      EXPECT_EQ(event.chosen.token, prompt[i + 1]);
      EXPECT_EQ(event.top_count, 2);
      scores.push_back(event.chosen.logprob);
    }
    if (round == 0) first = scores;
    EXPECT_EQ(scores, first);
  }
}

TEST(Engine, CancellingInAnyPhaseFinishesOnceAndFreesEverything) {
  LoadSettings settings = fable_settings();
  settings.max_num_seqs = 2;
  EngineHarness harness(settings);
  Random random(5);
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  std::vector<api::RequestId> ids;
  for (int i = 0; i < 12; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    api::GenerationRequest request = probe(random_prompt(random, 500));
    request.max_tokens = 2000;
    ids.push_back(*harness.engine->submit(std::move(request), *sinks.back()));
    if (i == 0) sinks[0]->wait_for_tokens(2);
  }
  for (const auto id : ids)
    harness.engine->cancel(id);
  for (const auto id : ids)
    harness.engine->cancel(id);
  for (auto& sink : sinks)
    EXPECT_EQ(sink->wait().reason, api::FinishReason::Cancelled);

  harness.engine->cancel(api::RequestId(999'999));
  EXPECT_EQ(run(*harness.engine, probe({0, 1, 2})).ids.size(), 40U);
  EXPECT_EQ(harness.engine->open_requests(), 0);
}

TEST(Engine, FinishingEarlyCountsAsStoppedAndCancellingAsAborted) {
  EngineHarness harness(fable_settings());
  RecordingSink complete;
  RecordingSink abandoned;
  api::GenerationRequest request = probe({0, 1, 2});
  request.max_tokens = 2000;
  const auto first = *harness.engine->submit(request, complete);
  const auto second = *harness.engine->submit(request, abandoned);
  complete.wait_for_tokens(2);

  harness.engine->finish_early(first);
  harness.engine->cancel(first);
  harness.engine->cancel(second);
  harness.engine->finish_early(api::RequestId(999'999));

  EXPECT_EQ(complete.wait().reason, api::FinishReason::Stop);
  EXPECT_FALSE(complete.wait().stop_token.has_value());
  EXPECT_EQ(abandoned.wait().reason, api::FinishReason::Cancelled);
  EXPECT_EQ(harness.engine->status().pages_held, 0);
  const std::string metrics = harness.metrics.render();
  EXPECT_THAT(metrics, HasSubstr(R"(finished_reason="stop"} 1)"));
  EXPECT_THAT(metrics, HasSubstr(R"(finished_reason="abort"} 1)"));
}

TEST(Engine, RefusesWhatIsOutOfRangeAndWhatIsTooMuch) {
  LoadSettings settings = fable_settings();
  settings.max_num_seqs = 1;
  settings.max_waiting = 2;
  EngineHarness harness(settings);
  Engine& engine = *harness.engine;
  RecordingSink unused;
  const auto kind = [&](api::GenerationRequest request) {
    return engine.submit(std::move(request), unused).error().kind;
  };

  EXPECT_EQ(kind({.prompt = {}}), ErrorKind::InvalidInput);
  EXPECT_EQ(kind({.prompt = {4096}}), ErrorKind::InvalidInput);
  EXPECT_EQ(kind({.prompt = {1}, .max_tokens = -1}), ErrorKind::InvalidInput);
  EXPECT_EQ(kind({.prompt = {1}, .max_tokens = 4096}), ErrorKind::InvalidInput);
  EXPECT_EQ(kind({.prompt = {1}, .stop_tokens = {UINT32_MAX}}), ErrorKind::InvalidInput);
  EXPECT_EQ(kind({.prompt = {1}, .top_logprobs = 21}), ErrorKind::InvalidInput);
  EXPECT_EQ(kind({.prompt = {1}, .sampling = {.temperature = 3.0F}}), ErrorKind::InvalidInput);

  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 3; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    api::GenerationRequest request = probe({0, 3, 4});
    request.max_tokens = 1000;
    ASSERT_TRUE(engine.submit(std::move(request), *sinks.back()).ok());
  }
  EXPECT_EQ(kind({.prompt = {1}}), ErrorKind::Exhausted);
  engine.stop_accepting();
  EXPECT_EQ(kind({.prompt = {1}}), ErrorKind::Unavailable);
  harness.ranks->stop();
  for (auto& sink : sinks)
    EXPECT_EQ(sink->wait().reason, api::FinishReason::Cancelled);
}

TEST(Engine, StatusTellsOfProgressAndPages) {
  EngineHarness harness(fable_settings());
  RecordingSink sink;
  api::GenerationRequest request = probe({0, 3, 4});
  request.max_tokens = 300;
  ASSERT_TRUE(harness.engine->submit(request, sink).ok());
  sink.wait_for_tokens(3);
  const auto busy = harness.engine->status();
  sink.wait();

  EXPECT_TRUE(busy.accepting);
  EXPECT_GE(busy.steps, 2U);
  EXPECT_EQ(harness.engine->status().pages_held, 0);
  EXPECT_EQ(harness.engine->status().seconds_since_progress, 0.0);
  EXPECT_EQ(harness.engine->limits().vocabulary, 4096);
}

TEST(Engine, ResettingThePrefixCacheForgetsPrefixes) {
  EngineHarness harness(fable_settings());
  Random random(4);
  const auto prompt = random_prompt(random, 200);
  const auto cached = [&] {
    RecordingSink sink;
    EXPECT_TRUE(harness.engine->submit(probe(prompt), sink).ok());
    return sink.wait().cached_tokens;
  };

  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(cached(), 192);
  harness.engine->reset_prefix_cache();
  EXPECT_EQ(cached(), 0);
}

}  // namespace
}  // namespace pleiad::engine
