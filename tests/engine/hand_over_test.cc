// Two sets of engines: one computes prompts, the other goes on with them.
// Also tests: engine_hand_over.cc, hand_overs.cc, kv_sender.cc, kv_fetch.cc, rank_caches.cc,
// Also tests: mapped_caches.cc, hand_over_metrics.cc
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/engine/direct_source.h"
#include "tests/engine/engine_harness.h"

namespace pleiad::engine {
namespace {

using testing::HasSubstr;

struct Outcome {
  std::vector<TokenId> ids;
  std::vector<float> logprobs;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

struct Shape {
  std::string name;
  std::string model;  // a folder of tests/golden, or fable
  ComputeChoice dtype = ComputeChoice::Float32;
  plan::ParallelLayout prefill;
  plan::ParallelLayout decode;
  bool shared = true;
};

LoadSettings settings_of(const Shape& shape, const plan::ParallelLayout& layout) {
  LoadSettings settings = fable_settings();
  if (shape.model != "fable") {
    settings.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "tests/golden" / shape.model;
    settings.model_name = shape.model;
  }
  settings.dtype = shape.dtype;
  settings.threads = layout.ranks();
  settings.layout = layout;
  settings.kv_cache_bytes = std::size_t{16} << 20U;
  return settings;
}

// A prefill worker and a decode worker, in one process.
struct Pair {
  std::unique_ptr<EngineHarness> prefill;
  std::unique_ptr<DirectSource> source;
  std::unique_ptr<EngineHarness> decode;

  explicit Pair(const Shape& shape, HandOverSettings change = {}) {
    LoadSettings from = settings_of(shape, shape.prefill);
    from.share_caches = shape.shared;
    from.max_num_batched_tokens = 96;
    from.chunked_prefill_size = 80;
    prefill = std::make_unique<EngineHarness>(
        from,
        HandOverSettings{
            .role = api::Role::Prefill, .instance = "p" + shape.name, .lease = change.lease}
    );
    source = std::make_unique<DirectSource>(*prefill->balancer, prefill->ranks->prefill_offer());
    change.role = api::Role::Decode;
    change.instance = "d";
    change.source = source.get();
    decode = std::make_unique<EngineHarness>(settings_of(shape, shape.decode), change);
  }
  ~Pair() {
    decode.reset();
    source.reset();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  // Waits until a side's figures, which it publishes behind its turn, are as wanted; not for ever.
  template <typename Wanted>
  static void settle(const Wanted& wanted) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!wanted() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
  }

  // Nothing is held on either side, and nothing counts as held.
  void expect_nothing_held() {
    source->wait_finished();
    for (EngineHarness* side : {prefill.get(), decode.get()}) {
      settle([&] {
        const api::GeneratorStatus status = side->balancer->status();
        return status.pages_held == 0 && status.running == 0 &&
               status.seconds_since_progress == 0.0 && metric(*side, "pleiad_kv_holds") == 0.0;
      });
      const api::GeneratorStatus status = side->balancer->status();
      EXPECT_EQ(status.pages_held, 0);
      EXPECT_EQ(status.running, 0);
      EXPECT_EQ(status.seconds_since_progress, 0.0);
      EXPECT_EQ(metric(*side, "pleiad_kv_holds"), 0.0);
    }
  }

  static double metric(EngineHarness& side, const std::string& name) {
    double sum = 0.0;
    for (const MetricFamily& family : side.metrics.collect()) {
      if (family.name != name) continue;
      for (std::size_t at = 0; at < family.samples.size();) {
        const std::size_t end = family.samples.find('\n', at);
        const std::string line = family.samples.substr(at, end - at);
        sum += std::stod(line.substr(line.rfind(' ')));
        at = end + 1;
      }
    }
    return sum;
  }
};

std::vector<TokenId> random_prompt(Random& random, std::size_t length) {
  std::vector<TokenId> prompt(length);
  for (TokenId& token : prompt)
    token = static_cast<TokenId>(6 + random.below(500));
  return prompt;
}

api::GenerationRequest probe(std::vector<TokenId> prompt, std::int32_t max_tokens = 12) {
  return {
      .prompt = std::move(prompt),
      .max_tokens = max_tokens,
      .sampling = {.temperature = 0.9F, .top_p = 0.95F, .seed = 77, .presence_penalty = 0.3F},
      .ignore_eos = true,
      .top_logprobs = 5,
  };
}

api::GenerationRequest handed_over(api::GenerationRequest request) {
  request.prefill_from = api::PrefillFrom{.url = "http://prefill"};
  return request;
}

Outcome run(api::Generator& engine, api::GenerationRequest request) {
  RecordingSink sink;
  const auto id = engine.submit(std::move(request), sink);
  EXPECT_TRUE(id.ok()) << id.error().message;
  const api::FinishEvent& finish = sink.wait();
  EXPECT_EQ(finish.reason, api::FinishReason::Length) << finish.message;
  return {sink.ids(), sink.logprobs()};
}

class HandOverOf : public testing::TestWithParam<Shape> {};

// The promise itself: prompts of all lengths, some sharing prefixes, many at once, give the bits of
// one engine alone.
TEST_P(HandOverOf, LogprobBitsAreThoseOfOneEngineAlone) {
  const Shape& shape = GetParam();
  Random random(4711);
  const auto prefix = random_prompt(random, 200);
  std::vector<api::GenerationRequest> requests;
  for (const std::size_t length : {1U, 2U, 63U, 64U, 65U, 66U, 129U, 200U, 257U, 300U}) {
    auto prompt = random_prompt(random, length);
    if (random.below(2) == 0)
      std::copy_n(prefix.begin(), std::min<std::size_t>(length, 150), prompt.begin());
    requests.push_back(probe(std::move(prompt)));
  }
  std::vector<Outcome> expected;
  {
    EngineHarness alone(settings_of(shape, {}));
    for (const auto& request : requests)
      expected.push_back(run(*alone.balancer, request));
  }
  Pair pair(shape);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::unique_ptr<RecordingSink>> sinks;
    for (const auto& request : requests) {
      sinks.push_back(std::make_unique<RecordingSink>());
      ASSERT_TRUE(pair.decode->balancer->submit(handed_over(request), *sinks.back()).ok());
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto& finish = sinks[i]->wait();
      ASSERT_EQ(finish.reason, api::FinishReason::Length) << finish.message;
      EXPECT_EQ(sinks[i]->ids(), expected[i].ids) << "prompt of " << requests[i].prompt.size();
      EXPECT_EQ(sinks[i]->logprobs(), expected[i].logprobs);
    }
  }
  pair.expect_nothing_held();
  EXPECT_GE(pair.source->orders(), 9);
  EXPECT_EQ(pair.source->shared_orders(), shape.shared ? pair.source->orders() : 0);
  EXPECT_EQ(
      Pair::metric(*pair.prefill, "pleiad_kv_transfer_bytes_total"),
      Pair::metric(*pair.decode, "pleiad_kv_transfer_bytes_total")
  );
  EXPECT_EQ(Pair::metric(*pair.decode, "pleiad_kv_transfer_failed_total"), 0.0);
}

constexpr auto kWide = ComputeChoice::Float32;
constexpr auto kNarrow = ComputeChoice::BFloat16;

INSTANTIATE_TEST_SUITE_P(
    Shapes,
    HandOverOf,
    testing::Values(
        Shape{"mla_alone", "fable", kWide, {}, {}, true},
        Shape{"mla_bytes", "fable", kNarrow, {}, {}, false},
        Shape{
            "mla_tp2_dp2",
            "deepseek_v3",
            kNarrow,
            {.tp_size = 2, .ep_size = 2},
            {.dp_size = 2, .ep_size = 2},
            true},
        Shape{
            "mla_dp2_tp2",
            "deepseek_v3",
            kWide,
            {.dp_size = 2, .ep_size = 2},
            {.tp_size = 2, .ep_size = 2},
            false},
        Shape{
            "gqa_tp2_dp4",
            "qwen3_moe",
            kWide,
            {.tp_size = 2, .ep_size = 2},
            {.dp_size = 4, .ep_size = 4},
            true},
        Shape{
            "gqa_tp2_tp4",
            "qwen3_moe",
            kNarrow,
            {.tp_size = 2, .ep_size = 2},
            {.tp_size = 4, .ep_size = 4},
            false},
        Shape{"gqa_tp4_alone", "qwen3_moe", kNarrow, {.tp_size = 4, .ep_size = 4}, {}, true},
        Shape{
            "windows_alone_tp2",
            "gpt_oss",
            kNarrow,
            {},
            {.tp_size = 2, .dp_size = 2, .ep_size = 4},
            true}
    ),
    [](const auto& shape) { return shape.param.name; }
);

const Shape kPlain{"plain", "fable", kNarrow, {}, {}, false};
const Shape kShared{"shared", "fable", kNarrow, {}, {}, true};

// 300 tokens in four chunks over six layers are 24 writes; one more commits.
TEST(HandOver, CancellingInAnyPhaseLeavesNothingOnEitherSide) {
  for (const Shape& shape : {kPlain, kShared}) {
    Pair pair(shape);
    Random random(5);
    for (const int write : {0, 1, 5, 17, 24}) {
      SCOPED_TRACE(write);
      pair.source->hold_at(write);
      RecordingSink sink;
      const auto id =
          pair.decode->engine->submit(handed_over(probe(random_prompt(random, 300))), sink);
      pair.source->wait_held(1);
      Pair::settle([&] {
        const api::GeneratorStatus status = pair.decode->engine->status();
        return status.pages_held > 0 && status.seconds_since_progress == 0.0 &&
               Pair::metric(*pair.decode, "pleiad_kv_holds") == 1.0;
      });
      EXPECT_GT(pair.decode->engine->status().pages_held, 0);
      EXPECT_EQ(Pair::metric(*pair.decode, "pleiad_kv_holds"), 1.0);
      EXPECT_EQ(pair.decode->engine->status().seconds_since_progress, 0.0);
      pair.decode->engine->cancel(*id);
      EXPECT_EQ(sink.wait().reason, api::FinishReason::Cancelled);
      pair.source->release();
      pair.expect_nothing_held();
    }
  }
}

TEST(HandOver, ABrokenConnectionEndsTheAttemptAndSaysWhoseFaultItIs) {
  Pair pair(kPlain);
  Random random(6);
  std::vector<TokenId> prompt;
  for (const int write : {0, 3, 20}) {
    prompt = random_prompt(random, 300);  // a prompt that the other side knows takes fewer writes
    pair.source->set_trouble({.change = {}, .cut_before = write});
    RecordingSink sink;
    ASSERT_TRUE(pair.decode->engine->submit(handed_over(probe(prompt)), sink).ok());
    const api::FinishEvent& finish = sink.wait();
    EXPECT_EQ(finish.reason, api::FinishReason::Lost);
    EXPECT_TRUE(finish.prefill_lost);
    EXPECT_TRUE(finish.prefill_broken);
    EXPECT_THAT(finish.message, HasSubstr("prefill worker http://prefill: the connection broke"));
    EXPECT_TRUE(sink.ids().empty());
    pair.expect_nothing_held();
  }
  // Nothing of those attempts is taken for a prefix.
  EXPECT_EQ(pair.decode->engine->status().pages_cached, 0);
  pair.source->set_trouble({});
  EngineHarness alone(settings_of(kPlain, {}));
  const Outcome expected = run(*alone.balancer, probe(prompt));
  EXPECT_EQ(run(*pair.decode->engine, handed_over(probe(prompt))), expected);
  EXPECT_EQ(run(*pair.decode->engine, probe(prompt)), expected);
}

TEST(HandOver, AnAlteredByteAnywhereIsNeverDecoded) {
  Pair pair(kPlain);
  Random random(7);
  for (int round = 0; round < 12; ++round) {
    const auto at = random.below(1000);
    const int write = static_cast<int>(random.below(20));
    pair.source->set_trouble({.change = [=](int number, std::string& bytes) {
      if (number != write) return;
      char& byte = bytes[at * bytes.size() / 1000];
      byte = static_cast<char>(byte ^ 16);
    }});
    RecordingSink sink;
    ASSERT_TRUE(
        pair.decode->engine->submit(handed_over(probe(random_prompt(random, 300))), sink).ok()
    );
    const api::FinishEvent& finish = sink.wait();
    EXPECT_EQ(finish.reason, api::FinishReason::Lost) << "byte " << at << " of write " << write;
    EXPECT_TRUE(finish.prefill_lost);
    pair.expect_nothing_held();
  }
  EXPECT_EQ(pair.decode->engine->status().pages_cached, 0);
}

TEST(HandOver, RecordsThatComeTwiceOrFromElsewhereAreCountedAndDropped) {
  Pair pair(kPlain);
  Random random(8);
  const auto prompt = random_prompt(random, 200);
  std::string old;
  pair.source->set_trouble({.change = [&old](int, std::string& bytes) {
    if (old.empty()) old = bytes;
  }});
  const Outcome first = run(*pair.decode->engine, handed_over(probe(prompt)));
  // Every write comes twice but for the commit, behind one of the transfer before.
  pair.decode->engine->reset_prefix_cache();
  pair.source->set_trouble({.change = [&old](int, std::string& bytes) {
    bytes = bytes.size() > sizeof(kv::RecordHead) ? old + bytes + bytes : bytes;
  }});
  EXPECT_EQ(run(*pair.decode->engine, handed_over(probe(prompt))), first);
  EXPECT_GE(Pair::metric(*pair.decode, "pleiad_kv_records_dropped_total"), 10.0);
  pair.expect_nothing_held();
}

TEST(HandOver, WorkersThatDifferAreRefusedWithBothValues) {
  HandOverSettings other;
  other.identity = {
      .version = "1", .model = "fable", .digest = "d", .compute = "float32", .page_tokens = 64};
  Pair pair(kPlain, other);
  RecordingSink sink;
  ASSERT_TRUE(pair.decode->engine->submit(handed_over(probe({1, 2, 3})), sink).ok());
  EXPECT_EQ(sink.wait().reason, api::FinishReason::Lost);
  EXPECT_FALSE(sink.wait().prefill_broken);
  EXPECT_THAT(sink.wait().message, HasSubstr("the workers differ: digest d here, "));
  EXPECT_EQ(pair.source->orders(), 0);
}

TEST(HandOver, RolesTakeOnlyWhatTheyAreFor) {
  Pair pair(kPlain);
  EngineHarness both(settings_of(kPlain, {}));
  RecordingSink sink;
  for (Engine* engine : {both.engine, pair.prefill->engine}) {
    EXPECT_THAT(
        engine->submit(handed_over(probe({1, 2})), sink).error().message,
        HasSubstr("takes no prompts over")
    );
  }
  api::GenerationRequest order{.prompt = {1, 2}, .max_tokens = 0, .kv_order = api::KvOrder{}};
  for (Engine* engine : {both.engine, pair.decode->engine}) {
    EXPECT_THAT(engine->submit(order, sink).error().message, HasSubstr("computes no prompts"));
  }
  order.kv_order->first = 2;
  EXPECT_THAT(
      pair.prefill->engine->submit(order, sink).error().message, HasSubstr("the prompt has 2")
  );
  api::GenerationRequest scored = handed_over(probe({1, 2, 3}));
  scored.prompt_top_logprobs = 1;
  EXPECT_THAT(
      pair.decode->engine->submit(scored, sink).error().message, HasSubstr("is to be scored")
  );
  // Whole requests they answer like any worker.
  const Outcome expected = run(*both.engine, probe({5, 6, 7}));
  EXPECT_EQ(run(*pair.prefill->engine, probe({5, 6, 7})), expected);
  EXPECT_EQ(run(*pair.decode->engine, probe({5, 6, 7})), expected);
}

// A peer that reads in place, has everything, and neither hangs up nor dies.
TEST(HandOver, AHoldThatNobodyEndsExpiresAndIsCounted) {
  class Silent final : public api::KvOutlet {
   public:
    bool write(std::string_view /*bytes*/) override { return true; }
    [[nodiscard]] std::size_t unsent() const override { return 0; }
  };
  HandOverSettings hurry;
  hurry.lease = std::chrono::milliseconds{50};
  Pair pair(kShared, hurry);
  Silent outlet;
  RecordingSink sink;
  Random random(9);
  ASSERT_TRUE(pair.prefill->engine
                  ->submit(
                      {.prompt = random_prompt(random, 100),
                       .max_tokens = 0,
                       .kv_order = api::KvOrder{.outlet = &outlet, .shared = true}},
                      sink
                  )
                  .ok());
  EXPECT_EQ(sink.wait().reason, api::FinishReason::Error);
  EXPECT_THAT(sink.wait().message, HasSubstr("took nothing for too long"));
  EXPECT_EQ(Pair::metric(*pair.prefill, "pleiad_kv_hold_expired_total"), 1.0);
  pair.expect_nothing_held();
}

// Few pages on both sides, many requests, cancels at random: everything ends, nothing is left, and
// what ends well has the right bits.
TEST(HandOver, RandomLoadWithCancelsEndsAndLeaksNothing) {
  for (const bool shared : {false, true}) {
    Shape shape = shared ? kShared : kPlain;
    Random random(shared ? 10 : 11);
    Pair pair(shape);
    EngineHarness alone(settings_of(shape, {}));
    const auto prefix = random_prompt(random, 130);
    struct Open {
      api::GenerationRequest request;
      RecordingSink sink;
      api::RequestId id;
    };
    std::vector<std::unique_ptr<Open>> all;
    for (int i = 0; i < 32; ++i) {
      auto open = std::make_unique<Open>();
      auto prompt = random_prompt(random, 1 + random.below(400));
      if (random.below(2) == 0)
        std::copy_n(prefix.begin(), std::min<std::size_t>(prompt.size(), 130), prompt.begin());
      open->request = probe(std::move(prompt), static_cast<std::int32_t>(1 + random.below(10)));
      const auto request = random.below(4) == 0 ? open->request : handed_over(open->request);
      open->id = pair.decode->engine->submit(request, open->sink).value();
      all.push_back(std::move(open));
      if (random.below(3) == 0) pair.decode->engine->cancel(all[random.below(all.size())]->id);
      if (random.below(4) == 0) all[random.below(all.size())]->sink.wait();
    }
    int ended = 0;
    for (const auto& open : all) {
      const auto& finish = open->sink.wait();
      if (finish.reason == api::FinishReason::Cancelled) continue;
      ASSERT_EQ(finish.reason, api::FinishReason::Length) << finish.message;
      if (++ended % 4 != 0) continue;
      EXPECT_EQ(
          (Outcome{open->sink.ids(), open->sink.logprobs()}), run(*alone.engine, open->request)
      );
    }
    pair.expect_nothing_held();
  }
}

}  // namespace
}  // namespace pleiad::engine
