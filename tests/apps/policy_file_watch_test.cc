#include "apps/policy_file_watch.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::apps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PolicyFileWatchTest : public ::testing::Test {
 protected:
  PolicyFileWatch watch() {
    return PolicyFileWatch(
        loop_,
        metrics_,
        {.path = (folder_.path() / "policy.yaml").string(),
         .defaults = {},
         .interval = std::chrono::milliseconds(1)},
        [this](const router::RouterPolicy& policy) -> Result<void> {
          if (refuse_) return invalid_input("not now");
          applied_.push_back(policy.routing.balance_tokens);
          if (applied_.size() == stop_after_) loop_.stop();
          return {};
        }
    );
  }
  void write(const std::string& text) { folder_.write("policy.yaml", text); }

  weights::testing::Folder folder_;
  net::EventLoop loop_;
  MetricsRegistry metrics_;
  std::vector<std::int64_t> applied_;
  std::size_t stop_after_ = 2;
  bool refuse_ = false;
};

TEST_F(PolicyFileWatchTest, AChangedFileIsPutInForceByItself) {
  write("balance_abs_threshold: 1");
  PolicyFileWatch policy = watch();
  ASSERT_TRUE(policy.start().ok());
  write("balance_abs_threshold: 22");

  loop_.run();

  EXPECT_THAT(applied_, ElementsAre(1, 22));
  EXPECT_THAT(
      metrics_.render(), HasSubstr("pleiad_router_policy_reloads_total{result=\"applied\"} 1")
  );
}

TEST_F(PolicyFileWatchTest, ABadFileLeavesTheRulesBeforeIt) {
  write("balance_abs_threshold: 1");
  PolicyFileWatch policy = watch();
  ASSERT_TRUE(policy.start().ok());
  write("balance_abs_treshold: 2");
  const net::Timer later =
      loop_.after(std::chrono::milliseconds(20), [this] { write("balance_abs_threshold: 333"); });

  loop_.run();

  EXPECT_THAT(applied_, ElementsAre(1, 333));
  EXPECT_THAT(
      metrics_.render(), HasSubstr("pleiad_router_policy_reloads_total{result=\"refused\"} 1")
  );
}

TEST_F(PolicyFileWatchTest, IsReadAnewWhenToldTo) {
  write("balance_abs_threshold: 1");
  PolicyFileWatch policy = watch();
  ASSERT_TRUE(policy.start().ok());
  policy.reload();
  EXPECT_THAT(applied_, ElementsAre(1, 1));
  refuse_ = true;
  policy.reload();
  std::filesystem::remove(folder_.path() / "policy.yaml");
  policy.reload();
  EXPECT_THAT(
      metrics_.render(), HasSubstr("pleiad_router_policy_reloads_total{result=\"refused\"} 2")
  );
}

TEST_F(PolicyFileWatchTest, AStartNeedsAGoodFile) {
  PolicyFileWatch policy = watch();
  EXPECT_THAT(policy.start().error().message, HasSubstr("policy.yaml"));
  write("polcy: x");
  EXPECT_THAT(policy.start().error().message, HasSubstr("nearest: policy"));
  write("policy: random");
  refuse_ = true;
  EXPECT_THAT(policy.start().error().message, HasSubstr("not now"));
}

}  // namespace
}  // namespace pleiad::apps
