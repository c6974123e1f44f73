#include "engine/node_report.h"

#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/metrics.h"
#include "base/random.h"
#include "tests/engine/engine_harness.h"

namespace pleiad::engine {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kSeed = 61;
constexpr ReportShape kShape{.ranks = {.first = 2, .count = 3}, .expert_tokens = 10};

NodeReport random_report(Random& random) {
  NodeReport out;
  for (std::int32_t i = 0; i < kShape.ranks.count; ++i) {
    out.counts.ranks.push_back({
        .status =
            {.accepting = random.below(2) == 1,
             .running = static_cast<std::int64_t>(random.below(9)),
             .pages_held = static_cast<std::int64_t>(random.below(1U << 20U)),
             .seconds_since_progress = 0.25},
        .ep =
            {.dispatch_bytes = random.next(),
             .combine_bytes = random.next(),
             .dispatch_wait_ns = random.next(),
             .combine_wait_ns = random.next(),
             .rows_sent = random.next(),
             .assignments = random.next(),
             .extra_rounds = random.next(),
             .extra_passes = random.next()},
    });
  }
  for (std::size_t i = 0; i < kShape.expert_tokens; ++i) {
    out.counts.expert_tokens.push_back(random.next());
  }
  MetricsRegistry registry;
  for (const char* rank : {"2", "3", "4"}) {
    registry.counter("x_total", "X", {{"engine", rank}}).add(static_cast<double>(random.below(99)));
  }
  out.metrics = registry.collect();
  return out;
}

TEST(NodeReport, ComesBackAsItWas) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 50; ++round) {
    const NodeReport report = random_report(random);
    const auto bytes = encode(report);

    const auto decoded = decode_report(bytes, kShape);

    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    EXPECT_EQ(decoded->counts.expert_tokens, report.counts.expert_tokens);
    EXPECT_EQ(decoded->metrics, report.metrics);
    ASSERT_EQ(decoded->counts.ranks.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(decoded->counts.ranks[i].ep, report.counts.ranks[i].ep);
      EXPECT_EQ(decoded->counts.ranks[i].status.running, report.counts.ranks[i].status.running);
    }
    EXPECT_EQ(encode(*decoded), bytes);
  }
}

std::string refusal(std::span<const std::byte> bytes, const ReportShape& shape = kShape) {
  const auto decoded = decode_report(bytes, shape);
  if (decoded.ok()) return "accepted";
  EXPECT_EQ(decoded.error().kind, ErrorKind::Corrupt);
  return decoded.error().message;
}

TEST(NodeReport, TruncationsAndTrailingBytesAreRefused) {
  Random random(kSeed);
  auto bytes = encode(random_report(random));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_NE(refusal(std::span(bytes).first(size)), "accepted") << size;
  }
  bytes.push_back(std::byte{0});
  EXPECT_THAT(refusal(bytes), HasSubstr("1 bytes after the end"));
}

TEST(NodeReport, ReportsOfAnotherShapeAreRefused) {
  Random random(kSeed);
  const auto bytes = encode(random_report(random));

  EXPECT_THAT(
      refusal(bytes, {.ranks = {2, 2}, .expert_tokens = 10}),
      HasSubstr("a report on 3 ranks of a node with 2")
  );
  EXPECT_THAT(
      refusal(bytes, {.ranks = {2, 3}, .expert_tokens = 11}),
      HasSubstr("a report on 10 experts, here are 11")
  );
  EXPECT_THAT(
      refusal(bytes, {.ranks = {3, 3}, .expert_tokens = 10}),
      HasSubstr("metrics of another engine among x_total")
  );
}

TEST(NodeReport, AbsurdLengthsAreRefusedBeforeAnythingIsHeld) {
  const NodeReport empty{.counts = {.ranks = {}, .expert_tokens = {}}, .metrics = {}};
  const auto bytes = encode(empty);
  const ReportShape shape{.ranks = {0, 0}, .expert_tokens = 0};
  ASSERT_EQ(refusal(bytes, shape), "accepted");
  ASSERT_EQ(bytes.size(), 3 * sizeof(std::uint32_t));

  for (std::size_t place = 0; place < 3; ++place) {
    auto absurd = bytes;
    const std::uint32_t length = 0xFFFFFFFF;
    std::memcpy(absurd.data() + place * sizeof(length), &length, sizeof(length));
    EXPECT_NE(refusal(absurd, shape), "accepted");
  }
}

TEST(NodeReport, MetricsBeyondTheLimitAreLeftOut) {
  NodeReport report{.counts = {.ranks = {}, .expert_tokens = {7}}, .metrics = {}};
  report.metrics.push_back({
      .name = "a",
      .help = std::string(kReportTextMax, 'a'),
      .samples = {},
  });

  const auto decoded = decode_report(encode(report), {.ranks = {0, 0}, .expert_tokens = 1});

  ASSERT_TRUE(decoded.ok());
  EXPECT_TRUE(decoded->metrics.empty());
  EXPECT_EQ(decoded->counts.expert_tokens, std::vector<std::uint64_t>{7});
}

TEST(NodeReport, CountsOfRanksHereAreInRankOrderAndSummed) {
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.layout = {.dp_size = 2, .ep_size = 2};
  const EngineHarness harness(settings);
  RecordingSink sink;
  const api::GenerationRequest request{.prompt = {0, 3, 500}, .max_tokens = 4, .ignore_eos = true};
  ASSERT_TRUE(harness.ranks->engines()[1]->submit(request, sink).ok());
  sink.wait();

  const NodeCounts counts = counts_of(harness.ranks->engines());

  ASSERT_EQ(counts.ranks.size(), 2U);
  EXPECT_EQ(counts.ranks[0].ep.dispatch_bytes, harness.engine->ep_stats().dispatch_bytes.load());
  std::uint64_t chosen = 0;
  for (const std::uint64_t tokens : counts.expert_tokens)
    chosen += tokens;
  EXPECT_EQ(chosen, (3U + 3U) * 4U * 5U);
}

}  // namespace
}  // namespace pleiad::engine
