// Also tests: group_forming.cc
#include "engine/group_keeper.h"

#include <array>
#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "engine/group_forming.h"
#include "tests/engine/node_harness.h"

namespace pleiad::engine {
namespace {

using ::testing::HasSubstr;

api::GenerationRequest story(std::uint64_t seed, std::int32_t max_tokens) {
  return {
      .prompt = {0, 3, 500, 600, 4, static_cast<TokenId>(100 + seed)},
      .max_tokens = max_tokens,
      .sampling = {.temperature = 0.9F, .seed = seed},
      .ignore_eos = true,
      .top_logprobs = 2,
  };
}

struct Answer {
  std::vector<TokenId> ids;
  std::vector<float> logprobs;

  friend bool operator==(const Answer&, const Answer&) = default;
};

// Answers of `count` stories that run together; adds the ranks that gave them to `ranks`.
std::vector<Answer>
tell(api::Generator& generator, std::size_t count, std::set<std::uint64_t>& ranks) {
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (std::size_t i = 0; i < count; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    const auto id = generator.submit(story(i, 8), *sinks.back());
    EXPECT_TRUE(id.ok()) << id.error().message;
    ranks.insert(id.value().value() % 4);
  }
  std::vector<Answer> out;
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->wait().reason, api::FinishReason::Length) << sink->wait().message;
    out.push_back({sink->ids(), sink->logprobs()});
  }
  return out;
}

Error refusal(api::Generator& generator) {
  RecordingSink sink;
  const auto taken = generator.submit(story(0, 1), sink);
  if (!taken.ok()) return taken.error();
  sink.wait();
  return {.message = "accepted"};
}

class GroupKeeperOfTwo : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!nodes_can_meet()) GTEST_SKIP() << "a build for one process";
  }
};

TEST_F(GroupKeeperOfTwo, RanksOfTwoNodesAnswerLikeOneRank) {
  FirstNode first;
  NodeRanks model(1);
  SecondNode second(model, first.keeper->rendezvous_port());
  ASSERT_TRUE(first.keeper->wait_until_formed().ok());
  std::set<std::uint64_t> ranks;

  const auto answers = tell(*first.keeper, 12, ranks);

  EXPECT_EQ(ranks, (std::set<std::uint64_t>{0, 1, 2, 3}));
  LoadSettings alone = node_settings(0);
  alone.layout = {};
  EngineHarness one(alone);
  EXPECT_EQ(answers, tell(*one.engine, 12, ranks));
  EXPECT_TRUE(first.keeper->status().accepting);
  EXPECT_EQ(first.keeper->status().tokens_outstanding, 0);
  EXPECT_EQ(first.keeper->limits().vocabulary, one.engine->limits().vocabulary);
}

// Inside each node, and across both.
TEST_F(GroupKeeperOfTwo, TensorPartsOfTwoNodesAnswerLikeOneRank) {
  LoadSettings alone = node_settings(0);
  alone.layout = {};
  EngineHarness one(alone);
  std::set<std::uint64_t> ranks;
  const auto expected = tell(*one.engine, 8, ranks);
  for (const std::int32_t tp : {2, 4}) {
    FirstNode first(tp);
    NodeRanks model(1, tp);
    SecondNode second(model, first.keeper->rendezvous_port());
    ASSERT_TRUE(first.keeper->wait_until_formed().ok());
    ranks.clear();

    EXPECT_EQ(tell(*first.keeper, 8, ranks), expected);
    EXPECT_EQ(ranks, (tp == 2 ? std::set<std::uint64_t>{0, 2} : std::set<std::uint64_t>{0}));
    EXPECT_EQ(first.keeper->status().tokens_outstanding, 0);
  }
}

TEST_F(GroupKeeperOfTwo, RequestsOfBothNodesEndByCancellation) {
  FirstNode first;
  NodeRanks model(1);
  SecondNode second(model, first.keeper->rendezvous_port());
  ASSERT_TRUE(first.keeper->wait_until_formed().ok());
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (std::uint64_t i = 0; i < 4; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    const auto id = first.keeper->submit(story(i, 400), *sinks.back());
    ASSERT_TRUE(id.ok());
    sinks.back()->wait_for_tokens(1);
    if (i % 2 == 0) {
      first.keeper->cancel(*id);
    } else {
      first.keeper->finish_early(*id);
    }
  }
  first.keeper->reset_prefix_cache();
  for (std::size_t i = 0; i < 4; ++i) {
    const auto expected = i % 2 == 0 ? api::FinishReason::Cancelled : api::FinishReason::Stop;
    EXPECT_EQ(sinks[i]->wait().reason, expected);
  }
}

// The whole life: serving, a node that goes, what clients are told meanwhile, its return.
TEST_F(GroupKeeperOfTwo, ANodeThatGoesLosesItsRequestsAndItsReturnBringsServiceBack) {
  FirstNode first;
  NodeRanks model(1);
  EXPECT_TRUE(first.told.wait_for("waiting for nodes: 1"));
  EXPECT_EQ(refusal(*first.keeper).kind, ErrorKind::Unavailable);
  EXPECT_THAT(refusal(*first.keeper).message, HasSubstr("waiting for nodes: 1"));
  EXPECT_FALSE(first.keeper->status().accepting);

  auto second = std::make_unique<SecondNode>(model, first.keeper->rendezvous_port());
  ASSERT_TRUE(first.keeper->wait_until_formed().ok());
  const std::uint32_t epoch = first.keeper->epoch();
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (std::uint64_t i = 0; i < 4; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    ASSERT_TRUE(first.keeper->submit(story(i, 500), *sinks.back()).ok());
  }
  sinks[0]->wait_for_tokens(1);
  second->stop();
  EXPECT_TRUE(second->wait().ok());

  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->wait().reason, api::FinishReason::Lost);
    EXPECT_NE(sink->wait().message, "");
  }
  ASSERT_TRUE(first.told.wait_for("waiting for nodes: 1", 2));
  EXPECT_EQ(refusal(*first.keeper).kind, ErrorKind::Unavailable);
  EXPECT_THAT(refusal(*first.keeper).message, HasSubstr("waiting for nodes: 1"));

  second = std::make_unique<SecondNode>(model, first.keeper->rendezvous_port());
  ASSERT_TRUE(second->told().wait_for("serving in epoch"));
  Error refused = refusal(*first.keeper);
  while (refused.message != "accepted") {
    ASSERT_EQ(refused.kind, ErrorKind::Unavailable);
    std::this_thread::yield();
    refused = refusal(*first.keeper);
  }
  std::set<std::uint64_t> ranks;
  tell(*first.keeper, 8, ranks);
  EXPECT_EQ(ranks.size(), 4U);
  EXPECT_GT(first.keeper->epoch(), epoch);
}

// The sum of `key` over ranks or layers of a report; 0 where one has none.
std::int64_t sum_of(const Json& report, std::string_view list, std::string_view key) {
  std::int64_t sum = 0;
  const Json* all = report.find(list);
  if (all == nullptr) return 0;
  for (const Json& one : *all->as_array()) {
    const Json* value = one.find(key);
    if (value == nullptr) return 0;
    if (!value->is_array()) {
      sum += value->as_int().value();
      continue;
    }
    for (const Json& number : *value->as_array())
      sum += number.as_int().value();
  }
  return sum;
}

std::string text_of(const std::vector<Exposition>& nodes) {
  return to_text(merged({}, nodes));
}

TEST_F(GroupKeeperOfTwo, NodeZeroShowsWhatTheRanksOfBothHaveDone) {
  FirstNode first;
  NodeRanks model(1);
  auto second = std::make_unique<SecondNode>(model, first.keeper->rendezvous_port());
  ASSERT_TRUE(first.keeper->wait_until_formed().ok());
  std::set<std::uint64_t> ranks;
  tell(*first.keeper, 12, ranks);

  // Twelve stories, six tokens of a prompt and seven of the output each; four choices in each of
  // five layers.
  constexpr std::int64_t kChoices = 12 * (6 + 7) * 4 * 5;
  EXPECT_TRUE(eventually([&] {
    const Json report = first.keeper->ep_report();
    return sum_of(report, "ranks", "assignments") == kChoices &&
           sum_of(report, "layers", "tokens") == kChoices;
  })) << first.keeper->ep_report().dump();
  const std::string there = to_text(model.metrics.collect_labelled("engine"));
  EXPECT_TRUE(eventually([&] { return text_of(first.keeper->node_metrics()) == there; }));
  EXPECT_THAT(there, HasSubstr("vllm:generation_tokens_total{model_name=\"fable\",engine=\"3\"}"));
  EXPECT_EQ(first.keeper->node_metrics().size(), 2U);
  EXPECT_TRUE(first.keeper->node_metrics()[0].empty());

  second->stop();
  ASSERT_TRUE(first.told.wait_for("waiting for nodes: 1", 2));
  EXPECT_TRUE(first.keeper->node_metrics().empty());
  EXPECT_TRUE(second->wait().ok());

  // Its ranks go on counting where they were.
  second = std::make_unique<SecondNode>(model, first.keeper->rendezvous_port());
  EXPECT_TRUE(eventually([&] {
    return sum_of(first.keeper->ep_report(), "layers", "tokens") == kChoices;
  })) << first.keeper->ep_report().dump();
  EXPECT_THAT(text_of(first.keeper->node_metrics()), HasSubstr("engine=\"3\""));
}

TEST_F(GroupKeeperOfTwo, StopsWhileItWaitsForNodes) {
  FirstNode first;
  auto formed = std::async(std::launch::async, [&] { return first.keeper->wait_until_formed(); });
  ASSERT_TRUE(first.told.wait_for("waiting for nodes: 1"));

  first.keeper->stop();

  const auto result = formed.get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::Cancelled);
  EXPECT_EQ(refusal(*first.keeper).kind, ErrorKind::Unavailable);
  first.keeper.reset();
}

TEST_F(GroupKeeperOfTwo, StoppingCancelsOpenRequestsOfAllNodes) {
  FirstNode first;
  NodeRanks model(1);
  SecondNode second(model, first.keeper->rendezvous_port());
  ASSERT_TRUE(first.keeper->wait_until_formed().ok());
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  for (std::uint64_t i = 0; i < 4; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    ASSERT_TRUE(first.keeper->submit(story(i, 500), *sinks.back()).ok());
  }
  sinks[3]->wait_for_tokens(1);

  first.keeper.reset();

  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->wait().reason, api::FinishReason::Cancelled) << sink->wait().message;
  }
  // The other node looks for node 0 again, and can be stopped.
  EXPECT_TRUE(second.told().wait_for("cannot connect"));
  second.stop();
  EXPECT_TRUE(second.wait().ok());
}

// Node 1 says hello to the host at `port`, and never comes to the group of the roster that it gets.
Result<comm::Joined> say_hello_only(const RankSet& ranks, std::uint16_t port) {
  Told ignored;
  const GroupOptions options = node_options(1, port, ignored);
  PLEIAD_TRY(endpoints, open_endpoints(options));
  const comm::NodeHello hello = make_hello(options, ranks.model(), endpoints);
  return comm::join(options.rendezvous, hello, [] { return false; }, {});
}

TEST_F(GroupKeeperOfTwo, TriesAgainWhenANodeDoesNotComeToTheGroup) {
  NodeRanks model(0);
  NodeRanks other(1);
  Told told;
  GroupOptions options = node_options(0, 0, told);
  options.ucx.limit = std::chrono::milliseconds{300};
  const auto keeper = GroupKeeper::start(model.ranks, options).value();
  {
    const auto joined = say_hello_only(other.ranks, keeper->rendezvous_port());
    ASSERT_TRUE(joined.ok());
    EXPECT_EQ(joined->roster.nodes.size(), 2U);
    EXPECT_EQ(joined->roster.nodes[0].addresses.size(), 2U);
    ASSERT_TRUE(told.wait_for("waiting for nodes: 1", 2));
  }
  SecondNode second(other, keeper->rendezvous_port());

  EXPECT_TRUE(keeper->wait_until_formed().ok());
}

TEST_F(GroupKeeperOfTwo, JoiningStopsWhileRanksOfANodeDoNotCome) {
  Told told;
  const NodeRanks model(0);
  const std::array options = {node_options(0, 0, told), node_options(1, 0, told)};
  comm::Roster roster{.epoch = 1, .nodes = {}};
  std::vector<std::vector<std::unique_ptr<comm::UcxEndpoint>>> endpoints;
  for (const GroupOptions& node : options) {
    endpoints.push_back(open_endpoints(node).value());
    roster.nodes.push_back(make_hello(node, model.ranks.model(), endpoints.back()));
  }
  std::atomic<int> asked{0};
  const auto stopped = [&] { return ++asked > 6; };

  const auto joined = join_groups(options[0], std::move(endpoints[0]), roster, stopped);

  ASSERT_FALSE(joined.ok());
  EXPECT_EQ(joined.error().kind, ErrorKind::Cancelled);
}

class GroupKeeperAlone : public ::testing::TestWithParam<std::int32_t> {};  // ranks

TEST_P(GroupKeeperAlone, OneNodeFormsAtOnceServesDrainsAndStops) {
  LoadSettings settings = node_settings(0);
  settings.layout = {.dp_size = GetParam(), .ep_size = GetParam()};
  SystemClock clock;
  MetricsRegistry metrics;
  RankSet ranks(load_model(settings, clock).value(), clock, metrics);
  auto keeper = GroupKeeper::start(ranks, {.layout = settings.layout}).value();
  ASSERT_TRUE(keeper->wait_until_formed().ok());
  EXPECT_EQ(keeper->rendezvous_port(), 0);
  std::set<std::uint64_t> used;
  tell(*keeper, 6, used);
  RecordingSink open;
  ASSERT_TRUE(keeper->submit(story(1, 400), open).ok());
  open.wait_for_tokens(2);

  keeper->stop_accepting();

  EXPECT_THAT(refusal(*keeper).message, HasSubstr("draining"));
  EXPECT_FALSE(keeper->status().accepting);
  EXPECT_EQ(keeper->status().running, 1);
  keeper.reset();
  EXPECT_EQ(open.wait().reason, api::FinishReason::Cancelled);
}

INSTANTIATE_TEST_SUITE_P(Ranks, GroupKeeperAlone, ::testing::Values(1, 2));

TEST(GroupKeeper, AnAddressThatCannotBeListenedAtIsRefused) {
  NodeRanks model(0);
  Told told;
  GroupOptions options = node_options(0, 0, told);
  options.rendezvous.address = "nowhere";

  const auto keeper = GroupKeeper::start(model.ranks, options);

  ASSERT_FALSE(keeper.ok());
  EXPECT_THAT(keeper.error().message, HasSubstr("nowhere"));
}

TEST_F(GroupKeeperOfTwo, ARosterOfAnotherSizeIsCorrupt) {
  Told told;
  const GroupOptions options = node_options(0, 0, told);
  auto endpoints = open_endpoints(options).value();
  EXPECT_EQ(endpoints.size(), 2U);

  const auto joined = join_groups(options, std::move(endpoints), {.epoch = 1, .nodes = {}}, {});

  ASSERT_FALSE(joined.ok());
  EXPECT_THAT(joined.error().message, HasSubstr("the roster has 0 ranks, the layout 4"));
}

}  // namespace
}  // namespace pleiad::engine
