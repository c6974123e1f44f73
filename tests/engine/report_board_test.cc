#include "engine/report_board.h"

#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

TEST(ReportBoard, KeepsTheLastReportOfEachNode) {
  ReportBoard board(3);
  const MetricFamily family{.name = "a", .help = "A", .samples = "a{engine=\"4\"} 1\n"};
  board.post(2, {.counts = {.ranks = {}, .expert_tokens = {1}}, .metrics = {}});
  board.post(2, {.counts = {.ranks = {}, .expert_tokens = {2}}, .metrics = {family}});

  const auto counts = board.counts();
  const auto metrics = board.metrics();

  ASSERT_EQ(counts.size(), 3U);
  EXPECT_FALSE(counts[0] || counts[1]);
  EXPECT_EQ(counts[2]->expert_tokens, std::vector<std::uint64_t>{2});
  ASSERT_EQ(metrics.size(), 3U);
  EXPECT_TRUE(metrics[1].empty());
  EXPECT_EQ(metrics[2], Exposition{family});
}

}  // namespace
}  // namespace pleiad::engine
