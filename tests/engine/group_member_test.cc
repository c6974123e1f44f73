#include "engine/group_member.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/node_harness.h"

namespace pleiad::engine {
namespace {

using ::testing::HasSubstr;

class GroupMemberOfTwo : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!nodes_can_meet()) GTEST_SKIP() << "a build for one process";
  }
};

TEST_F(GroupMemberOfTwo, OneWithAnotherAgreementIsToldWhyAndTheGroupWaitsOn) {
  FirstNode first;
  NodeRanks model(1);
  {
    SecondNode other(model, first.keeper->rendezvous_port(), "ep_size 8");

    const auto refused = other.wait();

    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::InvalidInput);
    EXPECT_THAT(refused.error().message, HasSubstr("ep_size 8"));
    EXPECT_THAT(refused.error().message, HasSubstr("the same"));
  }
  SecondNode right(model, first.keeper->rendezvous_port());
  EXPECT_TRUE(first.keeper->wait_until_formed().ok());
}

TEST_F(GroupMemberOfTwo, StopsWhileNobodyListens) {
  std::uint16_t port = 0;
  {
    const FirstNode gone;
    port = gone.keeper->rendezvous_port();
  }
  NodeRanks model(1);
  SecondNode node(model, port);
  ASSERT_TRUE(node.told().wait_for("cannot connect"));

  node.stop();

  EXPECT_TRUE(node.wait().ok());
}

TEST_F(GroupMemberOfTwo, StopsWhileOtherNodesAreMissing) {
  Told ignored;
  GroupOptions options = node_options(0, 0, ignored);
  const auto host = comm::RendezvousHost::listen(options.rendezvous).value();
  NodeRanks model(1);
  // A third node is awaited that never comes.
  auto gathered = std::async(std::launch::async, [&] {
    const comm::NodeHello self{
        .node = 0,
        .nodes = 3,
        .version = options.version,
        .model = model.ranks.model().digest,
        .layout = options.agreement,
        .addresses = {},
    };
    return host->gather(self, {});
  });
  Told told;
  GroupOptions mine = node_options(1, host->port(), told);
  mine.layout.nnodes = 3;
  mine.layout.dp_size = 6;
  mine.layout.ep_size = 6;
  GroupMember member(model.ranks, mine);
  auto ended = std::async(std::launch::async, [&] { return member.run(); });
  ASSERT_TRUE(told.wait_for("waiting for node 2"));

  member.stop();

  EXPECT_TRUE(ended.get().ok());
  host->stop();
  EXPECT_FALSE(gathered.get().ok());
}

TEST_F(GroupMemberOfTwo, StopsWhileItServesAndMayJoinAgain) {
  FirstNode first;
  NodeRanks model(1);
  for (int round = 0; round < 2; ++round) {
    SecondNode node(model, first.keeper->rendezvous_port());
    ASSERT_TRUE(node.told().wait_for("serving in epoch"));

    node.stop();

    EXPECT_TRUE(node.wait().ok());
    EXPECT_TRUE(model.ranks.engines().empty());
  }
}

TEST_F(GroupMemberOfTwo, OneStoppedBeforeItRunsDoesNotRun) {
  NodeRanks model(1);
  Told told;
  GroupMember member(model.ranks, node_options(1, 1, told));
  member.stop();

  EXPECT_TRUE(member.run().ok());
}

}  // namespace
}  // namespace pleiad::engine
