#include "engine/rank_set.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "comm/local_group.h"
#include "model/checkpoint_quantizer.h"
#include "tests/engine/engine_harness.h"
#include "tests/model/mxfp4_checkpoint.h"
#include "tests/weights/files.h"

namespace pleiad::engine {
namespace {

using testing::HasSubstr;

struct Outcome {
  std::vector<TokenId> ids;
  std::vector<float> logprobs;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// Requests whose outputs depend on everything that may leak.
std::vector<api::GenerationRequest> random_requests(std::uint64_t seed, std::size_t count) {
  Random random(seed);
  std::vector<api::GenerationRequest> out;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<TokenId> prompt(1 + random.below(150));
    for (TokenId& token : prompt)
      token = static_cast<TokenId>(6 + random.below(400));
    out.push_back({
        .prompt = std::move(prompt),
        .max_tokens = static_cast<std::int32_t>(1 + random.below(12)),
        .sampling = {.temperature = 0.9F, .top_p = 0.95F, .seed = random.next()},
        .ignore_eos = true,
        .top_logprobs = 3,
    });
  }
  return out;
}

std::vector<Outcome>
run_all(api::Generator& generator, const std::vector<api::GenerationRequest>& requests) {
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (const auto& request : requests) {
    sinks.push_back(std::make_unique<RecordingSink>());
    EXPECT_TRUE(generator.submit(request, *sinks.back()).ok());
  }
  std::vector<Outcome> out;
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->wait().reason, api::FinishReason::Length) << sink->wait().message;
    out.push_back({sink->ids(), sink->logprobs()});
    for (const api::TokenEvent& event : sink->prompt_tokens())
      out.back().logprobs.push_back(event.chosen.logprob);
  }
  return out;
}

// Every expert on a random rank; with replicas, some on others too.
plan::ExpertPlacement
random_placement(Random& random, std::int32_t experts, std::int32_t ranks, bool replicas) {
  std::vector<std::vector<std::int32_t>> slots(static_cast<std::size_t>(ranks));
  std::vector<std::int32_t> order(static_cast<std::size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(i)]);
  for (const std::int32_t expert : order) {
    const std::size_t home = random.below(slots.size());
    slots[home].push_back(expert);
    const std::size_t other = random.below(slots.size());
    if (replicas && other != home) slots[other].push_back(expert);
  }
  return plan::ExpertPlacement::make(experts, std::move(slots)).value();
}

struct Shape {
  std::int32_t ep;
  std::int32_t moe_tp;
  plan::EpLevel level;
  bool overlap;
  std::int32_t tp = 1;
};

// A model folder: fable, a golden family, or one that the test writes in fewer bits:
// "family__scheme" or "gpt_oss__mxfp4".
class RankSetOf : public ::testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path model() {
    const std::filesystem::path root(PLEIAD_SOURCE_DIR);
    const std::string& name = GetParam();
    if (name == "fable") return root / "models/fable";
    const std::size_t mark = name.find("__");
    if (mark == std::string::npos) return root / "tests/golden" / name;
    const auto out = written_.path() / "out";
    if (std::filesystem::exists(out)) return out;
    std::string scheme = name.substr(mark + 2);
    std::ranges::replace(scheme, '_', '-');
    if (scheme == "mxfp4") {
      const weights::testing::Folder plain("plain");
      model::testing::write_mxfp4_gpt_oss(written_, plain);
      return written_.path();
    }
    device::ThreadPool pool(1);
    const auto made = model::quantize_checkpoint(
        root / "tests/golden" / name.substr(0, mark),
        out,
        {.scheme = *weights::parse_quant_scheme(scheme), .pool = &pool}
    );
    EXPECT_TRUE(made.ok()) << made.error().message;
    return out;
  }

  LoadSettings settings() {
    LoadSettings out = fable_settings();
    out.model = model();
    out.threads = 1;
    out.max_num_seqs = 16;
    out.max_num_batched_tokens = 64;
    out.max_model_len = 256;
    return out;
  }

 private:
  weights::testing::Folder written_;
};

// The heart of the promise for groups: token ids and the bits of every logprob are those of one
// rank that holds everything, whatever the number of ranks, the level, where experts stand, how
// they are split, how small the buffers are, whether batches overlap, and how many ranks share the
// attention.
TEST_P(RankSetOf, AnyNumberOfRanksAnswersLikeOne) {
  constexpr std::uint64_t kSeed = 4711;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (const auto dtype : {ComputeChoice::BFloat16, ComputeChoice::Float32}) {
    LoadSettings alone = settings();
    alone.dtype = dtype;
    EngineHarness one(alone);
    const auto requests = random_requests(kSeed, 12);
    const auto expected = run_all(*one.engine, requests);
    const auto& shape = one.ranks->model().weights->shape();

    const std::vector<Shape> shapes = {
        {2, 1, plan::EpLevel::AllGather, false},
        {2, 1, plan::EpLevel::AllToAll, true},
        {3, 1, plan::EpLevel::AllToAll, false},
        {4, 1, plan::EpLevel::Auto, true},
        {8, 1, plan::EpLevel::AllToAll, false},
        {8, 1, plan::EpLevel::AllGather, true},
        {1, 2, plan::EpLevel::AllToAll, false},
        {2, 4, plan::EpLevel::AllGather, false},
        {3, 2, plan::EpLevel::Auto, true},
        {2, 1, plan::EpLevel::AllGather, false, 2},
        {4, 1, plan::EpLevel::AllToAll, false, 2},
        {1, 2, plan::EpLevel::AllToAll, false, 2},
        {4, 1, plan::EpLevel::Auto, false, 4},
        {2, 4, plan::EpLevel::AllGather, false, 4},
    };
    for (const Shape& s : shapes) {
      if (!plan::check_heads(s.tp, shape.heads, shape.kv_heads).ok()) continue;
      LoadSettings many = alone;
      many.layout = {
          .tp_size = s.tp,
          .dp_size = s.ep * s.moe_tp / s.tp,
          .ep_size = s.ep,
          .moe_tp_size = s.moe_tp};
      many.ep.level = s.level;
      many.ep.two_batch_overlap = s.overlap;
      many.ep.two_batch_tokens_min = 2;
      if (random.below(2) == 0) many.ep.alltoall_ep_buffer_scale_factors = {{0, 0.2}};
      if (random.below(3) != 0) {
        const bool replicas = random.below(2) == 0;
        for (std::int64_t layer = 0; layer < shape.moe_layers; ++layer) {
          many.placements.push_back(random_placement(
              random, static_cast<std::int32_t>(shape.moe.gate.experts), s.ep, replicas
          ));
        }
      }
      EngineHarness group(many);
      const auto outcomes = run_all(*group.balancer, requests);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(outcomes[i], expected[i])
            << "request " << i << ", ep " << s.ep << ", moe_tp " << s.moe_tp << ", tp " << s.tp
            << ", overlap " << s.overlap;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    RankSetOf,
    ::testing::Values(
        "fable",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v3_fp8",
        "glm4_moe",
        "gpt_oss",
        "kimi_k2",
        "mixtral",
        "qwen3_moe",
        "deepseek_v2__fp8_block",
        "glm4_moe__w8a8",
        "gpt_oss__mxfp4",
        "kimi_k2__w8a8",
        "qwen3_moe__int4_g32"
    ),
    [](const auto& model) { return model.param; }
);

TEST(RankSet, HashRoutingPlansBeforeTheLayerAndAnswersAlike) {
  LoadSettings alone = fable_settings();
  alone.threads = 1;
  alone.ep.routing = plan::Routing::Hash;
  EXPECT_FALSE(load_model(alone, SystemClock()).ok());  // fable was trained with a gate
  alone.force_routing = true;
  EngineHarness one(alone);
  const auto requests = random_requests(5, 6);
  const auto expected = run_all(*one.engine, requests);
  for (const bool overlap : {false, true}) {
    LoadSettings many = alone;
    many.layout = {.dp_size = 3, .ep_size = 3};
    many.ep.two_batch_overlap = overlap;
    many.ep.two_batch_tokens_min = 2;
    EngineHarness group(many);
    EXPECT_EQ(run_all(*group.balancer, requests), expected);
  }
}

// No interleaving of arrivals, finishes and cancellations may stop the group, and a rank without
// requests lends its experts and nothing else.
class RankSetTensor : public ::testing::TestWithParam<std::int32_t> {};

TEST_P(RankSetTensor, ArrivalsAndCancellationsInAnyOrderLeaveNothingBehind) {
  constexpr std::uint64_t kSeed = 99;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.layout = {
      .tp_size = GetParam(), .dp_size = 3, .ep_size = 3 * GetParam(), .moe_tp_size = 1};
  EngineHarness harness(settings);
  for (int round = 0; round < 20; ++round) {
    const auto requests = random_requests(random.next(), 1 + random.below(6));
    std::vector<std::unique_ptr<RecordingSink>> sinks;
    for (const auto& request : requests) {
      sinks.push_back(std::make_unique<RecordingSink>());
      const auto id = harness.balancer->submit(request, *sinks.back());
      ASSERT_TRUE(id.ok());
      if (random.below(3) == 0) {
        if (random.below(2) == 0) sinks.back()->wait_for_tokens(1);
        harness.balancer->cancel(*id);
      }
    }
    for (const auto& sink : sinks)
      EXPECT_LE(sink->wait().reason, api::FinishReason::Cancelled);
  }
  const auto status = harness.balancer->status();
  EXPECT_EQ(status.running, 0);
  EXPECT_EQ(status.pages_held, 0);
  EXPECT_EQ(status.tokens_outstanding, 0);
}

INSTANTIATE_TEST_SUITE_P(Parts, RankSetTensor, ::testing::Values(1, 2), [](const auto& parts) {
  return "tp" + std::to_string(parts.param);
});

// Prompts that are scored, preempted and found in the prefix cache, on ranks that share attention.
TEST(RankSet, TensorPartsFollowWhateverTheirLeaderSchedules) {
  LoadSettings alone = fable_settings();
  alone.threads = 1;
  alone.max_num_batched_tokens = 48;
  alone.max_model_len = 256;
  alone.kv_cache_bytes = 0;
  auto requests = random_requests(31, 10);
  for (std::size_t i = 0; i < requests.size(); i += 2) {
    requests[i].prompt_top_logprobs = 2;
    requests[i + 1].prompt = requests[i].prompt;
  }
  EngineHarness one(alone);
  const auto page = one.ranks->model().weights->shape().cache.page_bytes_all_layers();
  const auto expected = run_all(*one.engine, requests);
  LoadSettings shared = alone;
  shared.layout = {.tp_size = 4, .dp_size = 1, .ep_size = 4, .moe_tp_size = 1};
  shared.kv_cache_bytes = 4 * 5 * page;  // five pages a rank: less than the requests want
  EngineHarness group(shared);

  EXPECT_EQ(run_all(*group.balancer, requests), expected);
  EXPECT_EQ(run_all(*group.balancer, requests), expected);  // from the prefix cache
  EXPECT_THAT(
      group.metrics.render(),
      ::testing::Not(HasSubstr("vllm:num_preemptions_total{model_name=\"fable\",engine=\"0\"} 0\n"))
  );
  EXPECT_EQ(group.balancer->status().pages_held, 0);
}

TEST(RankSet, ABrokenGroupEndsItsRequestsWithAnErrorAndStartsAgainInANewOne) {
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.layout = {.dp_size = 2, .ep_size = 2};
  SystemClock clock;
  MetricsRegistry metrics;
  RankSet ranks(load_model(settings, clock).value(), clock, metrics);
  // A third member that breaks the group while a request runs stands for a peer that dies.
  std::mutex mutex;
  std::condition_variable changed;
  std::string failure;
  auto groups = comm::make_local_group(2, {});
  comm::Group* end = groups[1].get();
  ranks.start(std::move(groups), [&](const Error& error) {
    const std::scoped_lock lock(mutex);
    failure = error.message;
    changed.notify_all();
  });
  RecordingSink sink;
  const api::GenerationRequest request{
      .prompt = {0, 3, 500, 600, 4}, .max_tokens = 500, .ignore_eos = true};
  ASSERT_TRUE(ranks.engines()[0]->submit(request, sink).ok());
  sink.wait_for_tokens(2);
  end->abort(unavailable("node 1 is gone"));

  EXPECT_EQ(sink.wait().reason, api::FinishReason::Lost);
  EXPECT_THAT(sink.wait().message, HasSubstr("node 1 is gone"));
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !failure.empty(); });
  }
  RecordingSink late;
  const auto refused = ranks.engines()[0]->submit(request, late);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::Unavailable);
  EXPECT_EQ(ranks.engines()[0]->status().pages_held, 0);

  ranks.stop();
  ranks.start(comm::make_local_group(2, {}), {});
  RecordingSink again;
  api::GenerationRequest short_request = request;
  short_request.max_tokens = 5;
  ASSERT_TRUE(ranks.engines()[1]->submit(short_request, again).ok());
  EXPECT_EQ(again.wait().reason, api::FinishReason::Length);
}

}  // namespace
}  // namespace pleiad::engine
