#include "apps/serve_node.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::apps {
namespace {

using ::testing::HasSubstr;

ServeSettings second_of_two() {
  ServeSettings settings{.dist_init_addr = "127.0.0.1:1", .cluster_secret = "open sesame"};
  settings.load.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";
  settings.load.kv_cache_bytes = std::size_t{16} << 20U;
  settings.load.threads = 1;
  settings.load.layout = {.dp_size = 2, .ep_size = 2, .nnodes = 2, .node_rank = 1};
  return settings;
}

std::string refusal(const ServeSettings& settings) {
  const auto started = ServeNode::start(settings);
  return started.ok() ? "accepted" : started.error().message;
}

TEST(ServeNode, NeedsAnAddressAndTheClustersSecret) {
  ServeSettings settings = second_of_two();
  settings.dist_init_addr.clear();
  EXPECT_THAT(refusal(settings), HasSubstr("--nnodes 2 needs --dist-init-addr HOST:PORT"));
  settings = second_of_two();
  settings.cluster_secret.clear();
  EXPECT_THAT(refusal(settings), HasSubstr("--cluster-secret-file"));
}

TEST(ServeNode, NamesTheFolderThatIsMissing) {
  ServeSettings settings = second_of_two();
  settings.load.model = "/no/such/model";

  EXPECT_THAT(refusal(settings), HasSubstr("/no/such/model"));
}

TEST(ServeNode, LoadsItsShareTellsWhatItLoadedAndStops) {
  const auto node = ServeNode::start(second_of_two()).value();

  EXPECT_EQ(node->report().ranks_here, 1);
  EXPECT_EQ(node->report().layout.nnodes, 2);
  EXPECT_GT(node->report().weight_bytes, 0U);
  EXPECT_GT(node->report().ready_seconds, 0.0);
  node->stop();
  EXPECT_TRUE(node->run().ok());
}

TEST(ServeNode, EndsWithTheReasonWhenTheAddressIsNone) {
  ServeSettings settings = second_of_two();
  settings.dist_init_addr = "nowhere";
  const auto node = ServeNode::start(settings).value();

  const auto ended = node->run();

  ASSERT_FALSE(ended.ok());
  EXPECT_THAT(ended.error().message, HasSubstr("nowhere"));
}

}  // namespace
}  // namespace pleiad::apps
