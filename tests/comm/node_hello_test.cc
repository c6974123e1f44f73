#include "comm/detail/node_hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::comm {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

NodeHello hello_of(std::int32_t node) {
  return {
      .node = node,
      .nodes = 3,
      .version = "1.2",
      .model = "abc",
      .layout = "ep 4, Größe",
      .addresses = {{std::byte{1}, std::byte{2}}, {}}};
}

TEST(NodeHello, ComesBackAsItWas) {
  const auto hello = decode_hello(encode_hello(hello_of(2)));

  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(hello->node, 2);
  EXPECT_EQ(hello->nodes, 3);
  EXPECT_EQ(hello->version, "1.2");
  EXPECT_EQ(hello->model, "abc");
  EXPECT_EQ(hello->layout, "ep 4, Größe");
  EXPECT_EQ(hello->addresses, hello_of(2).addresses);
}

TEST(NodeHello, RefusesWhatIsCutOrHasMore) {
  const auto bytes = encode_hello(hello_of(1));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(decode_hello(std::span(bytes).first(length)).ok()) << length;
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_hello(longer).ok());
}

TEST(NodeHello, RefusesNumbersOutOfRange) {
  for (const auto& [node, nodes] :
       std::vector<std::pair<int, int>>{{-1, 2}, {2, 2}, {0, 0}, {0, 1 << 20}}) {
    NodeHello hello = hello_of(0);
    hello.node = node;
    hello.nodes = nodes;
    const auto decoded = decode_hello(encode_hello(hello));
    ASSERT_FALSE(decoded.ok());
    EXPECT_THAT(decoded.error().message, HasSubstr(std::to_string(node)));
  }
}

TEST(NodeHello, RefusesTextsThatAreNotForPeople) {
  for (const std::string& text :
       {std::string("\xff"), std::string("a\nb"), std::string(5'000, 'a')}) {
    NodeHello hello = hello_of(0);
    hello.model = text;
    EXPECT_FALSE(decode_hello(encode_hello(hello)).ok());
  }
}

TEST(Roster, ComesBackAsItWas) {
  const Roster roster{.epoch = 77, .nodes = {hello_of(0), hello_of(1), hello_of(2)}};

  const auto back = decode_roster(encode_roster(roster));

  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->epoch, 77U);
  ASSERT_EQ(back->nodes.size(), 3U);
  EXPECT_EQ(back->nodes[2].node, 2);
}

TEST(Roster, RefusesNodesOutOfOrder) {
  const Roster roster{.epoch = 77, .nodes = {hello_of(0), hello_of(2), hello_of(1)}};
  EXPECT_FALSE(decode_roster(encode_roster(roster)).ok());
  EXPECT_FALSE(decode_roster(encode_roster({.epoch = 1, .nodes = {hello_of(0)}})).ok());
}

TEST(NodeHello, IsRefusedByTheFirstThingThatDiffers) {
  const NodeHello host = hello_of(0);
  NodeHello hello = hello_of(1);
  EXPECT_THAT(refusal_of(hello, host), IsEmpty());

  hello.layout = "ep 8";
  EXPECT_THAT(refusal_of(hello, host), HasSubstr("node 1 has layout ep 8, node 0 has ep 4"));
  hello.model = "xyz";
  EXPECT_THAT(refusal_of(hello, host), HasSubstr("model xyz"));
  hello.nodes = 5;
  EXPECT_THAT(refusal_of(hello, host), HasSubstr("--nnodes 5, node 0 has 3"));
  hello.version = "1.1";
  EXPECT_THAT(refusal_of(hello, host), HasSubstr("version 1.1"));
  EXPECT_THAT(refusal_of(host, host), HasSubstr("taken by node 0"));
}

}  // namespace
}  // namespace pleiad::comm
